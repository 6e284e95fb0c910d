//! Links and codes on a real database, with the clock moved.

use auth::{
    administration::InviteError,
    crypto::{Code, LinkToken},
    delivery::{Content, SendError},
    identity::{Actor, Level, Method},
    one_time::{Dead, invitation::InviteState, magic_link::LinkState},
    outbox::Delivery,
    policy::{Policy, SignUp},
    primitives::email_address::EmailAddress,
    sign_in::first_factor::{ConfirmLinkError, EnterCodeError, Outcome, RequestLinkError},
    users::account::CreateUserError,
};
use testkit::{Kit, Visitor, address, handover, why};
use time::Duration;

fn mara() -> EmailAddress {
    address("mara@example.org")
}

async fn ask(kit: &Kit, visitor: &Visitor) -> (LinkToken, Code) {
    kit.auth.sign_in().request_link(&mara(), &visitor.nonce, visitor.proof(), &visitor.from).await.expect("the request is taken");
    kit.sign_in_mail().await
}

/// Six digits that are not this code.
fn wrong(code: &Code) -> Code {
    let digits = code.reveal().replace(' ', "");
    let first = if digits.starts_with('9') { '0' } else { '9' };
    Code::parse(&format!("{first}{}", &digits[1..])).expect("six digits")
}

#[tokio::test]
async fn a_link_signs_in_once_and_then_says_it_was_used() {
    let kit = Kit::new().await;
    let visitor = Visitor::at([203, 0, 113, 24]);
    let (token, _) = ask(&kit, &visitor).await;

    let session = handover();
    let outcome = kit.auth.sign_in().confirm_link(&token, visitor.proof(), &session, &visitor.from).await.expect("a live link");
    assert!(matches!(outcome, Outcome::Complete { .. }));
    let stored = kit.auth.sessions().load(session.fresh).await.expect("the database answers").expect("a live session");
    let authority = stored.authority.expect("it is signed in");
    assert_eq!((authority.email.as_str(), authority.level, authority.method), ("mara@example.org", Level::Email, Method::Link));

    let again = kit.auth.sign_in().confirm_link(&token, visitor.proof(), &handover(), &visitor.from).await;
    assert!(matches!(again, Err(ConfirmLinkError::NotLive(LinkState::Dead(Dead::Used, _)))), "{again:?}");
    assert_eq!(kit.count("select count(*) from sessions where user_id is not null").await, 1);
    assert_eq!(kit.count("select count(*) from magic_links where used = 1 and used_by = 'link' and used_at is not null").await, 1);
}

#[tokio::test]
async fn a_code_signs_in_once_and_kills_its_link() {
    let kit = Kit::new().await;
    let visitor = Visitor::at([203, 0, 113, 24]);
    let (token, code) = ask(&kit, &visitor).await;

    let outcome = kit.auth.sign_in().enter_code(&code, visitor.proof(), &handover(), &visitor.from).await.expect("the right code");
    assert!(matches!(outcome, Outcome::Complete { .. }));
    let again = kit.auth.sign_in().enter_code(&code, visitor.proof(), &handover(), &visitor.from).await;
    assert!(matches!(again, Err(EnterCodeError::Dead(LinkState::Dead(Dead::Used, _)))), "{again:?}");
    let link = kit.auth.sign_in().confirm_link(&token, visitor.proof(), &handover(), &visitor.from).await;
    assert!(matches!(link, Err(ConfirmLinkError::NotLive(LinkState::Dead(Dead::Used, _)))), "{link:?}");
}

#[tokio::test]
async fn link_and_code_work_until_the_last_moment_and_not_after() {
    let kit = Kit::new().await;
    let visitor = Visitor::at([203, 0, 113, 24]);
    let (token, code) = ask(&kit, &visitor).await;
    kit.clock.advance(Duration::minutes(10) - Duration::microseconds(1));
    let state = kit.auth.sign_in().peek_link(&token, visitor.proof()).await.expect("the database answers");
    assert!(matches!(state, LinkState::Live(_)));

    kit.clock.advance(Duration::microseconds(1));
    let state = kit.auth.sign_in().peek_link(&token, visitor.proof()).await.expect("the database answers");
    assert!(matches!(state, LinkState::Dead(Dead::Expired, _)));
    let link = kit.auth.sign_in().confirm_link(&token, visitor.proof(), &handover(), &visitor.from).await;
    assert!(matches!(link, Err(ConfirmLinkError::NotLive(LinkState::Dead(Dead::Expired, _)))), "{link:?}");
    let code = kit.auth.sign_in().enter_code(&code, visitor.proof(), &handover(), &visitor.from).await;
    assert!(matches!(code, Err(EnterCodeError::Dead(LinkState::Dead(Dead::Expired, _)))), "{code:?}");

    // The positive twin: one microsecond before, it signs in.
    let (token, _) = ask(&kit, &visitor).await;
    kit.clock.advance(Duration::minutes(10) - Duration::microseconds(1));
    kit.auth.sign_in().confirm_link(&token, visitor.proof(), &handover(), &visitor.from).await.expect("still live");
}

#[tokio::test]
async fn a_link_opened_elsewhere_signs_nobody_in_and_stays_good_at_home() {
    let kit = Kit::new().await;
    let (home, elsewhere) = (Visitor::at([203, 0, 113, 24]), Visitor::at([198, 51, 100, 7]));
    let (token, code) = ask(&kit, &home).await;

    let state = kit.auth.sign_in().peek_link(&token, elsewhere.proof()).await.expect("the database answers");
    assert!(
        matches!(state, LinkState::OtherBrowser(view) if view.device == "Firefox on Linux" && view.ip.to_string() == "203.0.113.24")
    );
    let refused = kit.auth.sign_in().confirm_link(&token, elsewhere.proof(), &handover(), &elsewhere.from).await;
    assert!(matches!(refused, Err(ConfirmLinkError::NotLive(LinkState::OtherBrowser(_)))), "{refused:?}");
    // The code is bound as well: a stranger who reads it out has nowhere to type it.
    let typed = kit.auth.sign_in().enter_code(&code, elsewhere.proof(), &handover(), &elsewhere.from).await;
    assert!(matches!(typed, Err(EnterCodeError::NothingAsked)), "{typed:?}");
    assert_eq!(kit.count("select count(*) from sessions where user_id is not null").await, 0);

    kit.auth
        .sign_in()
        .confirm_link(&token, home.proof(), &handover(), &home.from)
        .await
        .expect("it still works where it was asked for");
}

#[tokio::test]
async fn looking_changes_nothing() {
    let kit = Kit::new().await;
    let visitor = Visitor::at([203, 0, 113, 24]);
    let (token, _) = ask(&kit, &visitor).await;
    let before: String =
        sqlx::query_scalar("select md5(string_agg(m::text, '')) from magic_links m").fetch_one(&kit.pool).await.expect("a hash");
    for _ in 0..20 {
        kit.auth.sign_in().peek_link(&token, visitor.proof()).await.expect("the database answers");
    }
    let after: String =
        sqlx::query_scalar("select md5(string_agg(m::text, '')) from magic_links m").fetch_one(&kit.pool).await.expect("a hash");
    assert_eq!(before, after);
    kit.auth.sign_in().confirm_link(&token, visitor.proof(), &handover(), &visitor.from).await.expect("still live");
}

#[tokio::test]
async fn a_newer_request_replaces_the_same_browsers_older_one_and_no_other() {
    let kit = Kit::new().await;
    let (home, phone) = (Visitor::at([203, 0, 113, 24]), Visitor::at([203, 0, 113, 25]));
    let (older, older_code) = ask(&kit, &home).await;
    let (on_phone, _) = ask(&kit, &phone).await;
    kit.clock.advance(Duration::seconds(31));
    let (newer, _) = ask(&kit, &home).await;

    let replaced = kit.auth.sign_in().confirm_link(&older, home.proof(), &handover(), &home.from).await;
    assert!(matches!(replaced, Err(ConfirmLinkError::NotLive(LinkState::Dead(Dead::Replaced, _)))), "{replaced:?}");
    let old_code = kit.auth.sign_in().enter_code(&older_code, home.proof(), &handover(), &home.from).await;
    assert!(matches!(old_code, Err(EnterCodeError::Wrong { .. })), "{old_code:?}");
    let state = kit.auth.sign_in().peek_link(&on_phone, phone.proof()).await.expect("the database answers");
    assert!(matches!(state, LinkState::Live(_)));
    kit.auth.sign_in().confirm_link(&newer, home.proof(), &handover(), &home.from).await.expect("the newest works");
}

#[tokio::test]
async fn signing_in_kills_all_the_accounts_links() {
    let kit = Kit::new().await;
    let (home, phone) = (Visitor::at([203, 0, 113, 24]), Visitor::at([203, 0, 113, 25]));
    let (at_home, _) = ask(&kit, &home).await;
    let (on_phone, phone_code) = ask(&kit, &phone).await;
    kit.auth
        .sign_in()
        .request_link(
            &address("other@example.org"),
            &Visitor::at([9, 9, 9, 9]).nonce,
            Visitor::at([9, 9, 9, 9]).proof(),
            &home.from,
        )
        .await
        .expect("taken");

    kit.auth.sign_in().confirm_link(&at_home, home.proof(), &handover(), &home.from).await.expect("a live link");
    let link = kit.auth.sign_in().confirm_link(&on_phone, phone.proof(), &handover(), &phone.from).await;
    assert!(matches!(link, Err(ConfirmLinkError::NotLive(LinkState::Dead(Dead::Used, _)))), "{link:?}");
    let code = kit.auth.sign_in().enter_code(&phone_code, phone.proof(), &handover(), &phone.from).await;
    assert!(matches!(code, Err(EnterCodeError::Dead(_))), "{code:?}");
    assert_eq!(
        kit.count("select count(*) from magic_links where closed_at is null and used = 0").await,
        1,
        "other accounts' links live on"
    );
}

#[tokio::test]
async fn this_wasnt_me_cancels_from_any_browser() {
    let kit = Kit::new().await;
    let (attacker, owner) = (Visitor::at([203, 0, 113, 24]), Visitor::at([198, 51, 100, 7]));
    let (token, code) = ask(&kit, &attacker).await;
    kit.auth.sign_in().cancel_link(&token, &owner.from).await.expect("cancelled");
    kit.auth.sign_in().cancel_link(&token, &owner.from).await.expect("twice does no harm");

    let link = kit.auth.sign_in().confirm_link(&token, attacker.proof(), &handover(), &attacker.from).await;
    assert!(matches!(link, Err(ConfirmLinkError::NotLive(LinkState::Dead(Dead::Cancelled, _)))), "{link:?}");
    let code = kit.auth.sign_in().enter_code(&code, attacker.proof(), &handover(), &attacker.from).await;
    assert!(matches!(code, Err(EnterCodeError::Dead(LinkState::Dead(Dead::Cancelled, _)))), "{code:?}");
    assert_eq!(kit.count("select count(*) from auth_audit where event_type = 'link.cancelled'").await, 1);
}

#[tokio::test]
async fn five_wrong_codes_end_the_code_whatever_comes_after() {
    let kit = Kit::new().await;
    let visitor = Visitor::at([203, 0, 113, 24]);
    let (_, code) = ask(&kit, &visitor).await;
    for left in [4, 3, 2, 1] {
        let answer = kit.auth.sign_in().enter_code(&wrong(&code), visitor.proof(), &handover(), &visitor.from).await;
        assert!(matches!(answer, Err(EnterCodeError::Wrong { left: n }) if n == left), "{answer:?}");
    }
    let last = kit.auth.sign_in().enter_code(&wrong(&code), visitor.proof(), &handover(), &visitor.from).await;
    assert!(matches!(last, Err(EnterCodeError::LastTry)), "{last:?}");
    let right = kit.auth.sign_in().enter_code(&code, visitor.proof(), &handover(), &visitor.from).await;
    assert!(matches!(right, Err(EnterCodeError::LastTry)), "{right:?}");
    assert_eq!(kit.count("select count(*) from sessions where user_id is not null").await, 0);
}

#[tokio::test]
async fn the_fifth_try_may_be_the_right_one() {
    let kit = Kit::new().await;
    let visitor = Visitor::at([203, 0, 113, 24]);
    let (_, code) = ask(&kit, &visitor).await;
    for _ in 0..4 {
        kit.auth.sign_in().enter_code(&wrong(&code), visitor.proof(), &handover(), &visitor.from).await.expect_err("wrong");
    }
    kit.auth.sign_in().enter_code(&code, visitor.proof(), &handover(), &visitor.from).await.expect("the right code");
}

#[tokio::test]
async fn the_tries_survive_with_the_limits_off() {
    let mut policy = Policy { passwordless_auth: true, sign_up: SignUp::Open, ..Policy::default() };
    policy.limits.enabled = false;
    let kit = Kit::with(policy).await;
    let visitor = Visitor::at([203, 0, 113, 24]);
    let (_, code) = ask(&kit, &visitor).await;
    for _ in 0..5 {
        kit.auth.sign_in().enter_code(&wrong(&code), visitor.proof(), &handover(), &visitor.from).await.expect_err("wrong");
    }
    let right = kit.auth.sign_in().enter_code(&code, visitor.proof(), &handover(), &visitor.from).await;
    assert!(matches!(right, Err(EnterCodeError::LastTry)), "{right:?}");
}

#[tokio::test]
async fn two_hundred_parallel_guesses_get_five_looks() {
    let kit = Kit::new().await;
    let second = kit.second().await;
    let visitor = Visitor::at([203, 0, 113, 24]);
    let (_, code) = ask(&kit, &visitor).await;
    let guess = wrong(&code);
    let guesses = (0..200).map(|n| {
        let auth = if n % 2 == 0 { &kit.auth } else { &second };
        let (guess, visitor) = (&guess, &visitor);
        async move { auth.sign_in().enter_code(guess, visitor.proof(), &handover(), &visitor.from).await.is_err() }
    });
    let refused = futures::future::join_all(guesses).await;
    assert!(refused.into_iter().all(|refused| refused));
    assert_eq!(kit.count("select attempts::bigint from magic_links").await, 5);
    assert_eq!(kit.count("select count(*) from auth_audit where details->>'reason' = 'wrong_code'").await, 5, "five comparisons");
    kit.auth
        .sign_in()
        .enter_code(&code, visitor.proof(), &handover(), &visitor.from)
        .await
        .expect_err("the right one comes too late");
}

#[tokio::test]
async fn sixty_four_parallel_redemptions_give_one_session() {
    for kind in ["link", "code", "link against code"] {
        let kit = Kit::new().await;
        let second = kit.second().await;
        let visitor = Visitor::at([203, 0, 113, 24]);
        let (token, code) = ask(&kit, &visitor).await;
        let tries = (0..64).map(|n| {
            let auth = if n % 2 == 0 { &kit.auth } else { &second };
            let by_link = match kind {
                "link" => true,
                "code" => false,
                _ => n % 4 < 2,
            };
            let (token, code, visitor) = (&token, &code, &visitor);
            async move {
                if by_link {
                    auth.sign_in().confirm_link(token, visitor.proof(), &handover(), &visitor.from).await.is_ok()
                } else {
                    auth.sign_in().enter_code(code, visitor.proof(), &handover(), &visitor.from).await.is_ok()
                }
            }
        });
        let won = futures::future::join_all(tries).await.into_iter().filter(|won| *won).count();
        assert_eq!(won, 1, "{kind}");
        assert_eq!(kit.count("select count(*) from sessions where user_id is not null").await, 1, "{kind}");
        assert_eq!(kit.count("select count(*) from auth_audit where event_type = 'link.redeemed'").await, 1, "{kind}");
        assert_eq!(kit.count("select count(*) from users").await, 1, "{kind}");
    }
}

#[tokio::test]
async fn two_links_of_one_account_redeemed_at_once_do_not_deadlock() {
    let kit = Kit::new().await;
    kit.auth.users().create(&mara(), false, None).await.expect("made");
    for _ in 0..8 {
        let browsers = [Visitor::at([203, 0, 113, 1]), Visitor::at([203, 0, 113, 2]), Visitor::at([203, 0, 113, 3])];
        let mut tokens = Vec::new();
        for browser in &browsers {
            tokens.push(ask(&kit, browser).await.0);
        }
        let tries = browsers.iter().zip(&tokens).map(|(browser, token)| {
            let auth = &kit.auth;
            async move { auth.sign_in().confirm_link(token, browser.proof(), &handover(), &browser.from).await }
        });
        let outcomes = futures::future::join_all(tries).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        assert!(outcomes.iter().all(|outcome| !matches!(outcome, Err(ConfirmLinkError::Unavailable(_)))), "{outcomes:?}");
        kit.clock.advance(Duration::hours(3));
    }
}

#[tokio::test]
async fn sign_up_follows_its_policy_and_the_page_answers_alike() {
    let domains = SignUp::Domains(vec!["example.org".to_owned()]);
    for (sign_up, text, admitted) in [
        (SignUp::Open, "a@example.net", true),
        (domains.clone(), "a@example.org", true),
        (domains, "a@example.net", false),
        (SignUp::Invite, "a@example.net", false),
        (SignUp::Closed, "a@example.net", false),
    ] {
        let kit = Kit::with(Policy { passwordless_auth: true, sign_up: sign_up.clone(), ..Policy::default() }).await;
        let visitor = Visitor::at([203, 0, 113, 24]);
        // The request is taken from everybody; the mail tells.
        kit.auth.sign_in().request_link(&address(text), &visitor.nonce, visitor.proof(), &visitor.from).await.expect("taken");
        let letter = kit.letters().await.pop().expect("a mail");
        match letter.content {
            Content::SignIn { token, .. } => {
                assert!(admitted, "{sign_up:?}");
                kit.auth.sign_in().confirm_link(&token, visitor.proof(), &handover(), &visitor.from).await.expect("signs up");
                assert_eq!(kit.count("select count(*) from users").await, 1);
            }
            Content::NoAccount { .. } => assert!(!admitted, "{sign_up:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn redemption_asks_the_policy_again() {
    // The code of a mail that was never sent exists all the same. It must open nothing.
    let open = Kit::new().await;
    let visitor = Visitor::at([203, 0, 113, 24]);
    let (token, code) = ask(&open, &visitor).await;
    let closed = auth::Auth::new(
        open.pool.clone(),
        std::sync::Arc::new(open.clock.clone()),
        auth::crypto::Keys::new(&testkit::TEST_KEY, &[]),
        Policy { passwordless_auth: true, sign_up: SignUp::Closed, ..Policy::default() },
    );
    closed.flag().read().await.expect("the database answers");
    let link = closed.sign_in().confirm_link(&token, visitor.proof(), &handover(), &visitor.from).await;
    assert!(matches!(link, Err(ConfirmLinkError::NotLive(_))), "{link:?}");
    let code = closed.sign_in().enter_code(&code, visitor.proof(), &handover(), &visitor.from).await;
    assert!(matches!(code, Err(EnterCodeError::Dead(_))), "{code:?}");
    assert_eq!(open.count("select count(*) from users").await, 0);
    assert_eq!(open.count("select count(*) from magic_links where used = 1").await, 0, "what failed used nothing up");
}

#[tokio::test]
async fn an_invitation_lets_one_address_in_once() {
    let kit = Kit::with(Policy { passwordless_auth: true, sign_up: SignUp::Invite, ..Policy::default() }).await;
    kit.auth.administration().invite(Actor::Operator, &mara(), None).await.expect("invited");
    let letter = kit.letters().await.pop().expect("the invitation");
    let Content::Invite { token, .. } = letter.content else { panic!("{letter:?}") };
    assert_eq!(kit.auth.one_time().peek_invite(&token).await.expect("answers"), InviteState::Live { email: mara(), inviter: None });

    let visitor = Visitor::at([203, 0, 113, 24]);
    let (link, _) = ask(&kit, &visitor).await;
    kit.auth.sign_in().confirm_link(&link, visitor.proof(), &handover(), &visitor.from).await.expect("signs up");
    assert_eq!(kit.auth.one_time().peek_invite(&token).await.expect("answers"), InviteState::Dead(Dead::Used));
    assert_eq!(kit.count("select count(*) from auth_audit where event_type = 'invite.used'").await, 1);
    kit.auth.administration().invite(Actor::Operator, &mara(), None).await.expect_err("an account exists");

    kit.auth.administration().invite(Actor::Operator, &address("late@example.org"), None).await.expect("invited");
    let letter = kit.letters().await.pop().expect("the invitation");
    let Content::Invite { token, .. } = letter.content else { panic!("{letter:?}") };
    kit.clock.advance(Duration::days(7));
    assert_eq!(kit.auth.one_time().peek_invite(&token).await.expect("answers"), InviteState::Dead(Dead::Expired));
    kit.auth
        .sign_in()
        .request_link(&address("late@example.org"), &visitor.nonce, visitor.proof(), &visitor.from)
        .await
        .expect("taken");
    let letter = kit.letters().await.pop().expect("a mail");
    assert!(matches!(letter.content, Content::NoAccount { .. }));
}

/// As somebody types it on the sign-in page.
fn typed(text: &str) -> EmailAddress {
    EmailAddress::lookup(text).expect("an address")
}

const ROUTE: &str = "outsider%evil.example@company.example";

/// The mail server of `company.example` would hand its mail to `evil.example`.
#[tokio::test]
async fn an_address_with_a_route_in_it_gets_no_mail_and_no_account() {
    let domains = SignUp::Domains(vec!["company.example".to_owned()]);
    for sign_up in [domains, SignUp::Open, SignUp::Invite, SignUp::Closed] {
        let kit = Kit::with(Policy { passwordless_auth: true, sign_up: sign_up.clone(), ..Policy::default() }).await;
        let visitor = Visitor::at([203, 0, 113, 24]);
        let invited = kit.auth.administration().invite(Actor::Operator, &typed(ROUTE), Some(&why("asked for"))).await;
        assert!(matches!(invited, Err(InviteError::Route)), "{sign_up:?}: {invited:?}");
        let made = kit.auth.users().create(&typed(ROUTE), false, Some(&why("asked for"))).await;
        assert!(matches!(made, Err(CreateUserError::Route)), "{sign_up:?}: {made:?}");
        // An invitation from before.
        let now = kit.auth.now();
        sqlx::query(
            "insert into invites (id, email, email_key, nonce, key_id, token_hash, created_at, expires_at)
             values ($1, $2, $2, sha256('a'), 'test', sha256('b'), $3, $3::timestamptz + interval '7 days')",
        )
        .bind(uuid::Uuid::from_u128(7))
        .bind(ROUTE)
        .bind(now)
        .execute(&kit.pool)
        .await
        .expect("inserted");
        for text in [ROUTE, "evil.example!outsider@company.example", "=?utf-8?q?x?=@company.example"] {
            kit.clock.advance(Duration::minutes(6));
            kit.auth
                .sign_in()
                .request_link(&typed(text), &visitor.nonce, visitor.proof(), &visitor.from)
                .await
                .expect("the same answer");
            let letters = kit.letters().await;
            assert!(letters.is_empty(), "{sign_up:?} {text}: {letters:?}");
            let told = kit.auth.sign_in().delivery(&visitor.nonce).await.expect("answers");
            assert_eq!(told, Delivery::OnTime, "the page says what it says to all");
        }
        assert_eq!(kit.count("select count(*) from auth_audit where event_type in ('mail.sent', 'mail.failed')").await, 0);
        assert_eq!(kit.count("select count(*) from users").await, 0);
    }
}

/// Whoever has a link all the same, for it was mailed by the version before, makes no account with it.
#[tokio::test]
async fn a_link_for_an_address_with_a_route_in_it_makes_no_account() {
    let kit = Kit::new().await;
    let visitor = Visitor::at([203, 0, 113, 24]);
    let (token, code) = ask(&kit, &visitor).await;
    sqlx::query("update magic_links set email = $1, email_key = $1").bind(ROUTE).execute(&kit.pool).await.expect("updated");
    let link = kit.auth.sign_in().confirm_link(&token, visitor.proof(), &handover(), &visitor.from).await;
    assert!(matches!(link, Err(ConfirmLinkError::NotLive(_))), "{link:?}");
    let code = kit.auth.sign_in().enter_code(&code, visitor.proof(), &handover(), &visitor.from).await;
    assert!(matches!(code, Err(EnterCodeError::Dead(_))), "{code:?}");
    assert_eq!(kit.count("select count(*) from users").await, 0);
}

#[tokio::test]
async fn an_account_that_has_such_an_address_goes_on_signing_in() {
    let kit = Kit::with(Policy { passwordless_auth: true, sign_up: SignUp::Closed, ..Policy::default() }).await;
    let user = kit.auth.users().create(&mara(), false, Some(&why("the first"))).await.expect("made");
    sqlx::query("update users set email = $1, email_key = $1").bind(ROUTE).execute(&kit.pool).await.expect("updated");
    let mut visitor = Visitor::at([203, 0, 113, 24]);
    assert!(matches!(visitor.give_first_factor(&kit, &typed(ROUTE)).await, Outcome::Complete { .. }));
    assert_eq!(visitor.authority(&kit.auth).await.expect("signed in").user, user);
    // What a mail server says of it, the page does not: there is mail only where there is an account.
    kit.clock.advance(Duration::minutes(6));
    kit.auth.sign_in().request_link(&typed(ROUTE), &visitor.nonce, visitor.proof(), &visitor.from).await.expect("taken");
    kit.outbox.refuse([SendError::Permanent("550 no such user".to_owned())]);
    assert!(kit.letters().await.is_empty(), "refused");
    assert_eq!(kit.auth.sign_in().delivery(&visitor.nonce).await.expect("answers"), Delivery::OnTime);
    let found = auth::operations::diagnostics::routed_addresses(&kit.pool).await.expect("answers");
    let [found] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((found.id, found.address.as_str()), (user, "o•••••@company.example"));
}

/// To a mail server that tells them apart, `MARA@` is somebody else.
#[tokio::test]
async fn mail_goes_to_the_address_as_its_account_spells_it() {
    let kit = Kit::new().await;
    kit.auth.users().create(&address("Mara@example.org"), false, None).await.expect("made");
    let visitor = Visitor::at([203, 0, 113, 24]);
    for off in [false, true] {
        kit.auth
            .sign_in()
            .request_link(&address("MARA@example.org"), &visitor.nonce, visitor.proof(), &visitor.from)
            .await
            .expect("taken");
        let letter = kit.letters().await.pop().expect("a mail");
        assert_eq!(letter.to.as_str(), "Mara@example.org", "off: {off}");
        assert_eq!(matches!(letter.content, Content::AccountOff { .. }), off);
        sqlx::query("update users set disabled_at = created_at").execute(&kit.pool).await.expect("updated");
        kit.clock.advance(Duration::minutes(6));
    }
}

#[tokio::test]
async fn mail_goes_to_the_address_as_its_invitation_spells_it_and_so_does_the_account() {
    let kit = Kit::with(Policy { passwordless_auth: true, sign_up: SignUp::Invite, ..Policy::default() }).await;
    kit.auth.administration().invite(Actor::Operator, &address("Mara@example.org"), None).await.expect("invited");
    kit.letters().await;
    let visitor = Visitor::at([203, 0, 113, 24]);
    kit.auth
        .sign_in()
        .request_link(&address("MARA@example.org"), &visitor.nonce, visitor.proof(), &visitor.from)
        .await
        .expect("taken");
    let letter = kit.letters().await.pop().expect("a mail");
    assert_eq!(letter.to.as_str(), "Mara@example.org");
    let Content::SignIn { token, .. } = letter.content else { panic!("{letter:?}") };
    kit.auth.sign_in().confirm_link(&token, visitor.proof(), &handover(), &visitor.from).await.expect("signs up");
    assert_eq!(kit.count("select count(*) from users where email = 'Mara@example.org'").await, 1);
}

#[tokio::test]
async fn an_invitation_that_was_used_lets_nobody_in_again() {
    let kit = Kit::with(Policy { passwordless_auth: true, sign_up: SignUp::Invite, ..Policy::default() }).await;
    kit.auth.administration().invite(Actor::Operator, &mara(), None).await.expect("invited");
    let visitor = Visitor::at([203, 0, 113, 24]);
    let (link, _) = ask(&kit, &visitor).await;
    kit.auth.sign_in().confirm_link(&link, visitor.proof(), &handover(), &visitor.from).await.expect("signs up");
    sqlx::query("delete from users").execute(&kit.pool).await.expect("deleted");
    kit.clock.advance(Duration::minutes(1));
    kit.auth.sign_in().request_link(&mara(), &visitor.nonce, visitor.proof(), &visitor.from).await.expect("taken");
    let letter = kit.letters().await.pop().expect("a mail");
    assert!(matches!(letter.content, Content::NoAccount { .. }), "{letter:?}");
}

#[tokio::test]
async fn an_account_with_an_authenticator_is_only_half_signed_in() {
    let kit = Kit::new().await;
    let user = kit.auth.users().create(&mara(), false, None).await.expect("made");
    sqlx::query("insert into totp_credentials (id, user_id, name, secret, key_id, created_at, confirmed_at) values ($1, $1, 'phone', '', '', now(), now())")
        .bind(user)
        .execute(&kit.pool)
        .await
        .expect("an authenticator");
    let visitor = Visitor::at([203, 0, 113, 24]);
    for by_link in [true, false] {
        let (token, code) = ask(&kit, &visitor).await;
        let session = handover();
        let outcome = if by_link {
            kit.auth.sign_in().confirm_link(&token, visitor.proof(), &session, &visitor.from).await.expect("live")
        } else {
            kit.auth.sign_in().enter_code(&code, visitor.proof(), &session, &visitor.from).await.expect("right")
        };
        assert!(matches!(outcome, Outcome::SecondFactorNeeded));
        let authority = kit.auth.sessions().load(session.fresh).await.expect("answers").expect("live").authority.expect("half");
        assert_eq!(authority.level, Level::FirstFactor);
        kit.clock.advance(Duration::minutes(5));
    }
    assert_eq!(kit.count("select count(*) from known_browsers").await, 0, "half a sign-in makes no browser known");
}

#[tokio::test]
async fn a_disabled_account_gets_a_mail_that_says_so_and_no_way_in() {
    let kit = Kit::new().await;
    let user = kit.auth.users().create(&mara(), false, None).await.expect("made");
    let visitor = Visitor::at([203, 0, 113, 24]);
    let (token, _) = ask(&kit, &visitor).await;
    sqlx::query("update users set disabled_at = now() where id = $1").bind(user).execute(&kit.pool).await.expect("disabled");
    let link = kit.auth.sign_in().confirm_link(&token, visitor.proof(), &handover(), &visitor.from).await;
    assert!(matches!(link, Err(ConfirmLinkError::NotLive(LinkState::Dead(Dead::Cancelled, _)))), "{link:?}");

    kit.clock.advance(Duration::minutes(1));
    kit.auth.sign_in().request_link(&mara(), &visitor.nonce, visitor.proof(), &visitor.from).await.expect("taken like any other");
    let letter = kit.letters().await.pop().expect("a mail");
    assert!(matches!(letter.content, Content::AccountOff { .. }));
}

#[tokio::test]
async fn off_means_off_at_request_and_at_redemption() {
    let on = Kit::new().await;
    let visitor = Visitor::at([203, 0, 113, 24]);
    let (token, code) = ask(&on, &visitor).await;
    let off = auth::Auth::new(
        on.pool.clone(),
        std::sync::Arc::new(on.clock.clone()),
        auth::crypto::Keys::new(&testkit::TEST_KEY, &[]),
        Policy { passwordless_auth: false, sign_up: SignUp::Open, ..Policy::default() },
    );
    let request = off.sign_in().request_link(&mara(), &visitor.nonce, visitor.proof(), &visitor.from).await;
    assert!(matches!(request, Err(RequestLinkError::Off)), "{request:?}");
    let link = off.sign_in().confirm_link(&token, visitor.proof(), &handover(), &visitor.from).await;
    assert!(matches!(link, Err(ConfirmLinkError::Off)), "{link:?}");
    let code = off.sign_in().enter_code(&code, visitor.proof(), &handover(), &visitor.from).await;
    assert!(matches!(code, Err(EnterCodeError::Off)), "{code:?}");
    on.auth
        .sign_in()
        .confirm_link(&token, visitor.proof(), &handover(), &visitor.from)
        .await
        .expect("nothing was used up meanwhile");
}

#[tokio::test]
async fn an_action_whose_audit_row_fails_fails() {
    let kit = Kit::new().await;
    let visitor = Visitor::at([203, 0, 113, 24]);
    let (token, _) = ask(&kit, &visitor).await;
    let owner = kit.database.owner().await;
    sqlx::query("revoke insert on auth_audit from latchkey_app").execute(&owner).await.expect("revoked");
    let link = kit.auth.sign_in().confirm_link(&token, visitor.proof(), &handover(), &visitor.from).await;
    assert!(matches!(link, Err(ConfirmLinkError::Unavailable(_))), "{link:?}");
    assert_eq!(kit.count("select count(*) from sessions where user_id is not null").await, 0);
    assert_eq!(kit.count("select count(*) from magic_links where used = 1").await, 0);

    sqlx::query("grant insert on auth_audit to latchkey_app").execute(&owner).await.expect("granted");
    kit.auth.sign_in().confirm_link(&token, visitor.proof(), &handover(), &visitor.from).await.expect("and then it works");
}

#[tokio::test]
async fn the_application_cannot_change_the_audit_and_nobody_can_by_mistake() {
    let kit = Kit::new().await;
    let visitor = Visitor::at([203, 0, 113, 24]);
    ask(&kit, &visitor).await;
    let owner = kit.database.owner().await;
    for sql in ["update auth_audit set event_type = 'x'", "delete from auth_audit", "truncate auth_audit"] {
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&kit.pool).await.expect_err(sql);
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&owner).await.expect_err(sql);
    }
    assert!(kit.count("select count(*) from auth_audit").await >= 2);
}
