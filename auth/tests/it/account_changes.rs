//! The account's own changes on a real database, with the clock moved, and raced over two servers: its name, its address and back,
//! a copy of its data, its end.

use std::{sync::Arc, time::Duration};

use auth::{
    Auth,
    administration::InviteError,
    crypto::{Code, Keys, RevertToken, SessionKey},
    delivery::{Content, OutgoingMail},
    factors::{
        backup_code::BackupCode,
        totp::{Secret, step},
    },
    identity::{Actor, Authority, Level},
    one_time::{
        Dead,
        mailed_code::MailedCodeError,
        revert_link::{EMAIL_CHANGE_UNDO, Revert},
    },
    outbox::Notice,
    policy::{
        DELETION_WAIT, Policy, RequireTwoFactor, SignUp,
        limits::{Limit, Limits},
    },
    primitives::email_address::EmailAddress,
    self_service::{
        address_change::{ConfirmChangeError, RequestChangeError},
        deletion::DeletionError,
        export::ExportError,
        profile::SetNameError,
        revert::{RevertError, RevertState, RevertView, Reverted},
        two_factor::ChangeError,
    },
    sign_in::{
        first_factor::{ConfirmLinkError, EnterCodeError, Outcome},
        second_factor::{Factor, PendingSignIn, SecondFactorError},
        step_up::StepUpSession,
    },
    users::account::CreateUserError,
};
use futures::future::join_all;
use testkit::{Kit, TEST_KEY, Visitor, address, handover, why};
use time::Duration as Span;

fn mara() -> EmailAddress {
    address("mara@example.org")
}

fn new() -> EmailAddress {
    address("mara@example.net")
}

/// As it ships, but a session stays fresh for a day: what is tested here is not step-up, except where it is.
async fn kit() -> Kit {
    Kit::with(policy()).await
}

fn policy() -> Policy {
    Policy {
        passwordless_auth: true,
        sign_up: SignUp::Open,
        step_up_ttl: Duration::from_hours(24),
        session_idle: Duration::from_hours(30 * 24),
        require_two_factor: RequireTwoFactor::None,
        ..Policy::default()
    }
}

async fn unlimited() -> Kit {
    Kit::with(Policy { limits: Limits::off(), ..policy() }).await
}

async fn signed_in_from(kit: &Kit, email: &EmailAddress, ip: [u8; 4]) -> Visitor {
    let mut visitor = Visitor::at(ip);
    let outcome = visitor.give_first_factor(kit, email).await;
    assert!(matches!(outcome, Outcome::Complete { .. }), "{outcome:?}");
    visitor
}

async fn signed_in(kit: &Kit, email: &EmailAddress) -> Visitor {
    signed_in_from(kit, email, [203, 0, 113, 24]).await
}

async fn authority(kit: &Kit, visitor: &Visitor) -> Authority {
    visitor.authority(&kit.auth).await.expect("signed in")
}

fn fresh() -> SessionKey {
    handover().fresh
}

/// Does something with a session that gives it another id.
macro_rules! stepping {
    ($kit:expr, $visitor:expr, |$stepping:ident| $work:expr) => {{
        let authority = authority($kit, $visitor).await;
        let new = fresh();
        let $stepping = StepUpSession { authority: &authority, old: $visitor.session.expect("a session"), fresh: new };
        let result = $work.await;
        if result.is_ok() {
            $visitor.session = Some(new);
        }
        result
    }};
}

async fn enrol(kit: &Kit, visitor: &mut Visitor) -> (Secret, Vec<BackupCode>) {
    let now = authority(kit, visitor).await;
    kit.auth.self_service().start_two_factor_setup(&now, &visitor.from).await.expect("may be set up");
    let secret = kit.auth.self_service().two_factor_setup(&now).await.expect("answers").expect("begun");
    let first = totp(kit, &secret);
    let codes = stepping!(kit, visitor, |stepping| kit.auth.self_service().confirm_two_factor_setup(
        stepping,
        &first,
        "Phone",
        &visitor.from
    ));
    let codes = codes.expect("right").expect("the first app comes with codes");
    kit.auth.self_service().save_backup_codes(&authority(kit, visitor).await, codes.set, &visitor.from).await.expect("saved");
    kit.letters().await;
    kit.clock.advance(Span::seconds(30));
    (secret, codes.codes)
}

/// An app that has been in use for so long that taking a change of address back asks for it.
async fn enrol_long_ago(kit: &Kit, visitor: &mut Visitor) -> (Secret, Vec<BackupCode>) {
    let (secret, codes) = enrol(kit, visitor).await;
    kit.clock.advance(Span::try_from(EMAIL_CHANGE_UNDO).expect("some days"));
    let code = totp(kit, &secret);
    stepping!(kit, visitor, |stepping| kit.auth.sign_in().step_up(stepping, Factor::App(&code), visitor.proof(), &visitor.from))
        .expect("the code is right");
    kit.clock.advance(Span::seconds(30));
    (secret, codes)
}

fn totp(kit: &Kit, secret: &Secret) -> Code {
    secret.code(step(kit.auth.now()))
}

/// Any code but this one.
fn not(code: &Code) -> Code {
    let other = if code.reveal() == "000 000" { "000001" } else { "000000" };
    Code::parse(other).expect("six digits")
}

/// Asks for a code to another address, and reads it there.
async fn code_for(kit: &Kit, visitor: &Visitor, email: &EmailAddress) -> Code {
    kit.auth.self_service().request_address_change(&authority(kit, visitor).await, email, &visitor.from).await.expect("taken");
    let letters = kit.letters().await;
    let [OutgoingMail { to, content: Content::EmailChange { code, .. }, .. }] = letters.as_slice() else {
        panic!("expected one mail with a code, found {letters:?}")
    };
    assert_eq!(to, email);
    code.clone()
}

async fn confirm(kit: &Kit, visitor: &mut Visitor, code: &Code) -> Result<(), ConfirmChangeError> {
    stepping!(kit, visitor, |stepping| kit.auth.self_service().confirm_address_change(
        stepping,
        code,
        visitor.proof(),
        &visitor.from
    ))
}

/// Moves the account, and returns the link that takes it back, from the mail to the old address.
async fn change(kit: &Kit, visitor: &mut Visitor, email: &EmailAddress) -> RevertToken {
    // Neither in the moment of a sign-in nor of another change.
    kit.clock.advance(Span::minutes(1));
    let old = authority(kit, visitor).await.email;
    let code = code_for(kit, visitor, email).await;
    confirm(kit, visitor, &code).await.expect("the code is right");
    let (to, token) = undo_token(kit, Notice::EmailChanged).await;
    assert_eq!(to.as_str(), old);
    token
}

/// The link of the one mail that was sent.
async fn undo_token(kit: &Kit, expected: Notice) -> (EmailAddress, RevertToken) {
    let letters = kit.letters().await;
    let [OutgoingMail { to, content: Content::Notice { notice, undo: Some(token), .. }, .. }] = letters.as_slice() else {
        panic!("expected one mail with a link, found {letters:?}")
    };
    assert_eq!(*notice, expected);
    (to.clone(), token.clone())
}

async fn undo(kit: &Kit, token: &RevertToken) -> Result<Reverted, RevertError> {
    let stranger = Visitor::at([192, 0, 2, 9]);
    kit.auth.self_service().revert(token, None, stranger.proof(), &stranger.from).await
}

async fn undo_with(kit: &Kit, token: &RevertToken, factor: Factor<'_>) -> Result<Reverted, RevertError> {
    let stranger = Visitor::at([192, 0, 2, 9]);
    kit.auth.self_service().revert(token, Some(factor), stranger.proof(), &stranger.from).await
}

async fn notices(kit: &Kit) -> Vec<(String, Notice)> {
    let letters = kit.letters().await;
    let notice = |letter: OutgoingMail| match letter.content {
        Content::Notice { notice, .. } => Some((letter.to.as_str().to_owned(), notice)),
        _ => None,
    };
    letters.into_iter().filter_map(notice).collect()
}

async fn events(kit: &Kit, name: &str) -> i64 {
    sqlx::query_scalar("select count(*) from auth_audit where event_type = $1")
        .bind(name)
        .fetch_one(&kit.pool)
        .await
        .expect("a count")
}

async fn address_of(kit: &Kit, user: uuid::Uuid) -> String {
    sqlx::query_scalar("select email from users where id = $1").bind(user).fetch_one(&kit.pool).await.expect("the account")
}

async fn run(kit: &Kit, sql: &'static str) {
    sqlx::query(sql).execute(&kit.pool).await.expect("the statement runs");
}

// The name

#[tokio::test]
async fn a_name_is_set_taken_away_and_recorded_where_it_changed() {
    let kit = kit().await;
    let visitor = signed_in(&kit, &mara()).await;
    let now = authority(&kit, &visitor).await;
    let set = async |typed: &str| kit.auth.self_service().set_name(&now, typed, &visitor.from).await;
    let name = async || kit.auth.users().profile(&now).await.expect("answers").display_name;
    assert_eq!(name().await, None);
    for (typed, stored, changes) in [
        ("  Mara Lindqvist ", Some("Mara Lindqvist"), 1),
        ("Mara Lindqvist", Some("Mara Lindqvist"), 1),
        (" ", None, 2),
        ("", None, 2),
    ] {
        set(typed).await.expect("taken");
        assert_eq!((name().await.as_deref(), events(&kit, "name.changed").await), (stored, changes), "{typed:?}");
    }
    assert!(matches!(set(&"a".repeat(81)).await, Err(SetNameError::TooLong)));
    assert!(matches!(set("a\nb").await, Err(SetNameError::NotOneLine)));
    assert_eq!(events(&kit, "name.changed").await, 2);
}

/// Rows of the audit and mails to the owner: whoever copied a session could write either without end.
#[tokio::test]
async fn twenty_changes_an_hour_of_what_is_written_and_mailed_and_no_more() {
    let kit = kit().await;
    let visitor = signed_in(&kit, &mara()).await;
    let now = authority(&kit, &visitor).await;
    let own = kit.auth.self_service();
    for n in 0..17 {
        own.set_name(&now, &n.to_string(), &visitor.from).await.expect("set");
    }
    own.request_deletion(&now, &visitor.from).await.expect("fresh");
    own.cancel_deletion(&now, &visitor.from).await.expect("kept");
    own.export_account(&now, &visitor.from).await.expect("fresh");
    own.start_two_factor_setup(&now, &visitor.from).await.expect("fresh");
    kit.letters().await;
    let before = kit.count("select count(*) from auth_audit").await;
    let named = own.set_name(&now, "Mara", &visitor.from).await;
    assert!(matches!(named, Err(SetNameError::Limited(_))), "{named:?}");
    let asked = own.request_deletion(&now, &visitor.from).await;
    assert!(matches!(asked, Err(DeletionError::Limited(_))), "{asked:?}");
    let copied = own.export_account(&now, &visitor.from).await;
    assert!(matches!(copied, Err(ExportError::Limited(_))), "{copied:?}");
    let begun = own.start_two_factor_setup(&now, &visitor.from).await;
    assert!(matches!(begun, Err(ChangeError::Limited(_))), "{begun:?}");
    own.set_name(&now, "16", &visitor.from).await.expect("it changes nothing");
    assert_eq!(kit.count("select count(*) from auth_audit").await, before);
    assert!(kit.letters().await.is_empty());
    kit.clock.advance(Span::minutes(3));
    own.set_name(&now, "Mara", &visitor.from).await.expect("one more after a while");
}

// Another address

#[tokio::test]
async fn the_code_moves_the_account_and_ends_what_the_old_address_had_opened() {
    let kit = kit().await;
    let elsewhere = signed_in_from(&kit, &mara(), [198, 51, 100, 7]).await;
    let mut visitor = signed_in(&kit, &mara()).await;
    let (secret, _) = enrol(&kit, &mut visitor).await;
    let user = authority(&kit, &visitor).await.user;

    // Another browser signs in, is trusted, and opens a link.
    let mut other = Visitor::at([198, 51, 100, 8]);
    other.give_first_factor(&kit, &mara()).await;
    let (half, new_handover) = (other.session.expect("a session"), handover());
    let finishing = PendingSignIn { half, user, handover: &new_handover };
    let right = totp(&kit, &secret);
    kit.auth.sign_in().enter_second_factor(finishing, Factor::App(&right), true, other.proof(), &other.from).await.expect("right");
    other.session = Some(new_handover.fresh);
    kit.clock.advance(Span::minutes(6));
    let asked = Visitor::at([198, 51, 100, 9]);
    let mut open = Vec::new();
    for email in [mara(), new()] {
        kit.auth.sign_in().request_link(&email, &asked.nonce, asked.proof(), &asked.from).await.expect("taken");
        open.push(kit.sign_in_mail().await.0);
        kit.clock.advance(Span::minutes(1));
    }
    kit.letters().await;

    let before = visitor.session.expect("a session");
    let verified = authority(&kit, &visitor).await.verified_at;
    let code = code_for(&kit, &visitor, &new()).await;
    kit.clock.advance(Span::minutes(1));
    confirm(&kit, &mut visitor, &code).await.expect("right");

    let now = authority(&kit, &visitor).await;
    assert_eq!((now.user, now.email.as_str(), now.level), (user, "mara@example.net", Level::TwoFactor));
    assert_eq!(now.verified_at, verified, "a code to a new address is no stronger factor");
    assert!(kit.auth.sessions().load(before).await.expect("answers").is_none(), "the session's old id is dead");
    for other in [&elsewhere, &other] {
        assert!(other.authority(&kit.auth).await.is_none(), "the other sessions are over");
    }
    assert_eq!(kit.count("select count(*) from trusted_devices where revoked_at is null").await, 0);
    assert_eq!(kit.count("select count(*) from known_browsers").await, 0, "no browser is known any more");
    for link in open {
        let refused = kit.auth.sign_in().confirm_link(&link, asked.proof(), &handover(), &asked.from).await;
        assert!(matches!(refused, Err(ConfirmLinkError::NotLive(_))), "{refused:?}");
    }
    assert_eq!(notices(&kit).await, [("mara@example.org".to_owned(), Notice::EmailChanged)], "to the old address");
    assert_eq!((events(&kit, "email.changed").await, events(&kit, "email.change_requested").await), (1, 1));

    let mut at_new = Visitor::at([203, 0, 113, 99]);
    assert!(matches!(at_new.give_first_factor(&kit, &new()).await, Outcome::SecondFactorNeeded));
    assert_eq!(authority(&kit, &at_new).await.user, user, "the new address signs in to it");
}

#[tokio::test]
async fn the_strongest_factor_comes_first_and_again_before_the_code() {
    let kit = Kit::new().await;
    let mut visitor = signed_in(&kit, &mara()).await;
    let code = code_for(&kit, &visitor, &new()).await;
    kit.clock.advance(Span::minutes(10));
    let asked = kit.auth.self_service().request_address_change(&authority(&kit, &visitor).await, &new(), &visitor.from).await;
    assert!(matches!(asked, Err(RequestChangeError::NotFresh)), "{asked:?}");
    let refused = confirm(&kit, &mut visitor, &code).await;
    assert!(matches!(refused, Err(ConfirmChangeError::NotFresh)), "{refused:?}");
    assert_eq!(kit.count("select attempts::bigint from email_changes").await, 0, "and no try is counted");
}

#[tokio::test]
async fn a_code_works_for_its_ten_minutes_once_and_only_the_newest_does() {
    let kit = kit().await;
    let mut visitor = signed_in(&kit, &mara()).await;
    let late = code_for(&kit, &visitor, &new()).await;
    assert!(kit.auth.self_service().address_change(&authority(&kit, &visitor).await).await.expect("answers").expect("asked").live);
    kit.clock.advance(Span::minutes(10));
    assert!(matches!(confirm(&kit, &mut visitor, &late).await, Err(ConfirmChangeError::Code(MailedCodeError::Expired))));
    assert!(!kit.auth.self_service().address_change(&authority(&kit, &visitor).await).await.expect("answers").expect("asked").live);

    let older = code_for(&kit, &visitor, &address("other@example.net")).await;
    kit.clock.advance(Span::seconds(1));
    let newest = code_for(&kit, &visitor, &new()).await;
    assert!(matches!(confirm(&kit, &mut visitor, &older).await, Err(ConfirmChangeError::Code(MailedCodeError::Wrong { left: 4 }))));
    kit.clock.advance(Span::minutes(10) - Span::microseconds(1));
    confirm(&kit, &mut visitor, &newest).await.expect("to the last moment");
    assert_eq!(authority(&kit, &visitor).await.email, "mara@example.net", "its own address, and no other");
    assert!(matches!(confirm(&kit, &mut visitor, &newest).await, Err(ConfirmChangeError::Code(MailedCodeError::Expired))));
    assert_eq!(kit.auth.self_service().address_change(&authority(&kit, &visitor).await).await.expect("answers"), None);
}

#[tokio::test]
async fn five_wrong_codes_and_the_right_one_is_dead_also_without_limits() {
    let kit = unlimited().await;
    let mut visitor = signed_in(&kit, &mara()).await;
    let code = code_for(&kit, &visitor, &new()).await;
    for left in [4, 3, 2, 1] {
        let refused = confirm(&kit, &mut visitor, &not(&code)).await;
        assert!(matches!(refused, Err(ConfirmChangeError::Code(MailedCodeError::Wrong { left: n })) if n == left), "{refused:?}");
    }
    assert!(matches!(confirm(&kit, &mut visitor, &not(&code)).await, Err(ConfirmChangeError::Code(MailedCodeError::LastTry))));
    assert!(matches!(confirm(&kit, &mut visitor, &code).await, Err(ConfirmChangeError::Code(MailedCodeError::LastTry))));
    assert_eq!(
        (authority(&kit, &visitor).await.email.as_str(), events(&kit, "email.change_refused").await),
        ("mara@example.org", 5)
    );
}

#[tokio::test]
async fn a_code_belongs_to_the_session_that_asked_and_to_its_account() {
    let kit = kit().await;
    let mut other_session = signed_in_from(&kit, &mara(), [198, 51, 100, 7]).await;
    let mut visitor = signed_in(&kit, &mara()).await;
    let mut stranger = signed_in_from(&kit, &address("mallory@example.org"), [192, 0, 2, 66]).await;
    kit.letters().await;
    let code = code_for(&kit, &visitor, &new()).await;
    for thief in [&mut other_session, &mut stranger] {
        let refused = confirm(&kit, thief, &code).await;
        assert!(matches!(refused, Err(ConfirmChangeError::Code(MailedCodeError::NothingSent))), "{refused:?}");
    }
    // Having asked for one to the same address helps neither.
    let theirs = code_for(&kit, &stranger, &new()).await;
    assert!(matches!(confirm(&kit, &mut stranger, &code).await, Err(ConfirmChangeError::Code(MailedCodeError::Wrong { .. }))));
    assert!(matches!(confirm(&kit, &mut visitor, &theirs).await, Err(ConfirmChangeError::Code(MailedCodeError::Wrong { .. }))));
    confirm(&kit, &mut visitor, &code).await.expect("its own works");
}

#[tokio::test]
async fn of_sixty_four_right_codes_on_two_servers_one_moves_the_account() {
    let kit = unlimited().await;
    let second = kit.second().await;
    let visitor = signed_in(&kit, &mara()).await;
    let code = code_for(&kit, &visitor, &new()).await;
    let now = authority(&kit, &visitor).await;
    let tries = (0..64).map(|n| {
        let auth: &Arc<Auth> = if n % 2 == 0 { &kit.auth } else { &second };
        let (now, code, visitor) = (&now, &code, &visitor);
        async move {
            let stepping = StepUpSession { authority: now, old: visitor.session.expect("a session"), fresh: fresh() };
            auth.self_service().confirm_address_change(stepping, code, visitor.proof(), &visitor.from).await
        }
    });
    let results = join_all(tries).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(!results.iter().any(|result| matches!(result, Err(ConfirmChangeError::Unavailable(_)))), "{results:?}");
    assert_eq!(events(&kit, "email.changed").await, 1);
    assert_eq!(kit.count("select count(*) from undo_links where kind = 'email_change'").await, 1);
}

#[tokio::test]
async fn of_two_accounts_that_want_one_address_one_gets_it() {
    let kit = unlimited().await;
    let mut visitors = [signed_in(&kit, &mara()).await, signed_in_from(&kit, &address("ada@example.org"), [192, 0, 2, 66]).await];
    let codes = [code_for(&kit, &visitors[0], &new()).await, code_for(&kit, &visitors[1], &new()).await];
    let [a, b] = &mut visitors;
    let (a, b) = tokio::join!(confirm(&kit, a, &codes[0]), confirm(&kit, b, &codes[1]));
    assert_eq!([&a, &b].iter().filter(|result| result.is_ok()).count(), 1);
    assert!(
        [a, b].iter().any(|result| matches!(result, Err(ConfirmChangeError::Code(MailedCodeError::Expired)))),
        "and the other's code is dead"
    );
    assert_eq!(events(&kit, "email.changed").await, 1);
}

#[tokio::test]
async fn an_address_with_an_account_gets_the_same_answer_and_a_mail_without_a_code() {
    let kit = kit().await;
    signed_in_from(&kit, &address("taken@example.net"), [192, 0, 2, 66]).await;
    run(&kit, "update users set disabled_at = created_at where email = 'taken@example.net'").await;
    let mut visitor = signed_in(&kit, &mara()).await;
    kit.letters().await;
    kit.auth
        .self_service()
        .request_address_change(&authority(&kit, &visitor).await, &address("TAKEN@example.net"), &visitor.from)
        .await
        .expect("the same answer");
    let change = kit.auth.self_service().address_change(&authority(&kit, &visitor).await).await.expect("answers").expect("asked");
    assert!(change.live, "and the same page");
    let letters = kit.letters().await;
    let [OutgoingMail { to, content: Content::EmailTaken, .. }] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!(to.as_str(), "taken@example.net", "as its account spells it");
    assert_eq!(kit.count("select count(*) from auth_audit where details ->> 'kind' = 'email_taken'").await, 1);
    let guess = Code::parse("000000").expect("six digits");
    assert!(matches!(confirm(&kit, &mut visitor, &guess).await, Err(ConfirmChangeError::Code(MailedCodeError::Wrong { left: 4 }))));
}

/// The server with another sign-up policy, on the same database.
async fn with_sign_up(mut kit: Kit, sign_up: SignUp) -> Kit {
    let policy = Policy { sign_up, ..policy() };
    kit.auth = Arc::new(Auth::new(kit.pool.clone(), Arc::new(kit.clock.clone()), Keys::new(&TEST_KEY, &[]), policy));
    kit.auth.flag().read().await.expect("the database answers");
    kit
}

fn company() -> SignUp {
    SignUp::Domains(vec!["example.org".to_owned()])
}

#[tokio::test]
async fn an_account_gets_no_code_for_an_address_that_sign_up_does_not_take() {
    for sign_up in [company(), SignUp::Invite, SignUp::Closed] {
        let open = kit().await;
        let visitor = signed_in(&open, &mara()).await;
        open.letters().await;
        let kit = with_sign_up(open, sign_up.clone()).await;
        kit.auth
            .self_service()
            .request_address_change(&authority(&kit, &visitor).await, &new(), &visitor.from)
            .await
            .expect("taken");
        let letters = kit.letters().await;
        assert!(letters.is_empty(), "{sign_up:?}: {letters:?}");
        let change = kit.auth.self_service().address_change(&authority(&kit, &visitor).await).await.expect("answers");
        assert!(change.is_some_and(|change| change.live), "the page is the same, invited or not");
    }
}

#[tokio::test]
async fn it_moves_within_the_domains_of_sign_up() {
    let open = kit().await;
    let mut visitor = signed_in(&open, &mara()).await;
    open.letters().await;
    let kit = with_sign_up(open, company()).await;
    change(&kit, &mut visitor, &address("maria@example.org")).await;
}

/// The policy is asked once more when the account moves, whenever the code was mailed.
#[tokio::test]
async fn a_code_for_an_address_that_sign_up_does_not_take_moves_no_account() {
    for sign_up in [company(), SignUp::Invite, SignUp::Closed] {
        let open = kit().await;
        let mut visitor = signed_in(&open, &mara()).await;
        open.letters().await;
        let code = code_for(&open, &visitor, &new()).await;
        let kit = with_sign_up(open, sign_up.clone()).await;
        let moved = confirm(&kit, &mut visitor, &code).await;
        assert!(matches!(moved, Err(ConfirmChangeError::Code(MailedCodeError::Expired))), "{sign_up:?}: {moved:?}");
        assert_eq!(authority(&kit, &visitor).await.email, "mara@example.org");
    }
}

#[tokio::test]
async fn it_moves_to_an_address_that_an_administrator_has_allowed_as_it_was_spelled_and_once() {
    for sign_up in [company(), SignUp::Invite, SignUp::Closed] {
        let open = kit().await;
        let mut visitor = signed_in(&open, &mara()).await;
        open.letters().await;
        let kit = with_sign_up(open, sign_up.clone()).await;
        let spelled = address("Mara@example.net");
        kit.auth.administration().invite(Actor::Operator, &spelled, Some(&why("she married"))).await.expect("allowed");
        let mailed = kit.letters().await.len();
        assert_eq!(mailed, usize::from(sign_up != SignUp::Closed), "an invitation that lets nobody in is not mailed: {sign_up:?}");
        assert_eq!(
            kit.count("select count(*) from auth_audit where event_type = 'invite.created' and details->>'reason' = 'she married'")
                .await,
            1
        );
        kit.clock.advance(Span::minutes(1));
        kit.auth
            .self_service()
            .request_address_change(&authority(&kit, &visitor).await, &address("MARA@example.net"), &visitor.from)
            .await
            .expect("taken");
        let letters = kit.letters().await;
        let [OutgoingMail { to, content: Content::EmailChange { code, .. }, .. }] = letters.as_slice() else {
            panic!("{letters:?}")
        };
        assert_eq!(to, &spelled);
        confirm(&kit, &mut visitor, code).await.expect("the code is right");
        assert_eq!(authority(&kit, &visitor).await.email, "Mara@example.net");
        assert_eq!((events(&kit, "invite.used").await, events(&kit, "email.changed").await), (1, 1));
    }
}

/// Whoever took an account over must not keep it because sign-up has changed since.
#[tokio::test]
async fn a_change_is_taken_back_also_where_sign_up_takes_the_old_address_no_more() {
    let open = kit().await;
    let mut visitor = signed_in(&open, &mara()).await;
    open.letters().await;
    let token = change(&open, &mut visitor, &new()).await;
    let kit = with_sign_up(open, SignUp::Domains(vec!["example.net".to_owned()])).await;
    let undone = undo(&kit, &token).await;
    assert!(matches!(&undone, Ok(Reverted::EmailChange { email }) if email == "mara@example.org"), "{undone:?}");
    assert_eq!(kit.count("select count(*) from users where email = 'mara@example.org'").await, 1);
}

#[tokio::test]
async fn an_address_that_gets_an_account_meanwhile_makes_the_code_dead() {
    let kit = kit().await;
    let mut visitor = signed_in(&kit, &mara()).await;
    let code = code_for(&kit, &visitor, &new()).await;
    kit.auth.users().create(&new(), false, None).await.expect("made");
    let before = visitor.session;
    assert!(matches!(confirm(&kit, &mut visitor, &code).await, Err(ConfirmChangeError::Code(MailedCodeError::Expired))));
    assert_eq!((authority(&kit, &visitor).await.email.as_str(), visitor.session), ("mara@example.org", before), "as it was");
    assert_eq!((events(&kit, "email.changed").await, kit.count("select count(*) from undo_links").await), (0, 0));
}

#[tokio::test]
async fn the_address_it_has_is_refused_and_limits_are_kept_before_anything_is_sent() {
    let kit = kit().await;
    let visitor = signed_in(&kit, &mara()).await;
    let now = authority(&kit, &visitor).await;
    let ask = async |email: &str| kit.auth.self_service().request_address_change(&now, &address(email), &visitor.from).await;
    assert!(matches!(ask("MARA@example.org.").await, Err(RequestChangeError::Same)));
    for n in 0..5 {
        ask(&format!("a{n}@example.net")).await.expect("within the limit");
    }
    let refused = ask("a5@example.net").await;
    assert!(matches!(refused, Err(RequestChangeError::Limited(limited)) if limited.limit == Limit::AddressChange), "{refused:?}");
    assert_eq!(kit.count("select count(*) from email_changes").await, 5);
}

#[tokio::test]
async fn strangers_with_many_accounts_send_one_address_no_more_mail_and_get_no_more_tries() {
    let kit = kit().await;
    let mut refused = None;
    for n in 0..6 {
        let mut visitor = signed_in_from(&kit, &address(&format!("a{n}@example.org")), [192, 0, 2, n]).await;
        for _ in 0..2 {
            let now = authority(&kit, &visitor).await;
            match kit.auth.self_service().request_address_change(&now, &new(), &visitor.from).await {
                Ok(()) => {}
                Err(RequestChangeError::Limited(limited)) => refused = Some(limited.limit),
                Err(error) => panic!("{error:?}"),
            }
        }
        if refused.is_some() {
            break;
        }
        kit.clock.advance(-Span::minutes(6));
        let guess = Code::parse("000000").expect("six digits");
        for _ in 0..5 {
            assert!(confirm(&kit, &mut visitor, &guess).await.is_err());
        }
    }
    assert_eq!(refused, Some(Limit::LinkAddress));
    let counted = kit.count("select count(*) from rate_limits where name = 'code_address' and address like 'm%@example.net'").await;
    assert_eq!(counted, 1, "wrong codes count for the address");
}

// The way back

#[tokio::test]
async fn the_old_address_takes_it_back_and_nobody_stays_signed_in() {
    let kit = kit().await;
    let mut visitor = signed_in(&kit, &mara()).await;
    let user = authority(&kit, &visitor).await.user;
    let token = change(&kit, &mut visitor, &new()).await;
    // Whoever made the change signs in elsewhere, and asks for the end of it all.
    let thief = signed_in_from(&kit, &new(), [192, 0, 2, 66]).await;
    kit.auth.self_service().request_deletion(&authority(&kit, &thief).await, &thief.from).await.expect("asked");
    kit.letters().await;
    let asked = Visitor::at([198, 51, 100, 9]);
    kit.auth.sign_in().request_link(&new(), &asked.nonce, asked.proof(), &asked.from).await.expect("taken");
    let (open, _) = kit.sign_in_mail().await;

    let state = kit.auth.self_service().peek_revert(&token).await.expect("answers");
    let view = RevertView::EmailChange { old: "mara@example.org".into(), now: "mara@example.net".into(), factor_needed: false };
    assert_eq!(state, RevertState::Live(view));
    let before = kit.count("select count(*) from auth_audit").await;
    assert_eq!(kit.auth.self_service().peek_revert(&token).await.expect("answers"), state, "looking changes nothing");
    assert_eq!(kit.count("select count(*) from auth_audit").await, before);

    assert_eq!(undo(&kit, &token).await.expect("live"), Reverted::EmailChange { email: "mara@example.org".into() });
    assert_eq!(address_of(&kit, user).await, "mara@example.org");
    for over in [&visitor, &thief] {
        assert!(over.authority(&kit.auth).await.is_none(), "nobody stays signed in");
    }
    let refused = kit.auth.sign_in().confirm_link(&open, asked.proof(), &handover(), &asked.from).await;
    assert!(matches!(refused, Err(ConfirmLinkError::NotLive(_))), "{refused:?}");
    let told = notices(&kit).await;
    assert_eq!(told.len(), 2, "{told:?}");
    for notice in [Notice::EmailChangeUndone, Notice::DeletionCancelled] {
        assert!(told.contains(&("mara@example.org".to_owned(), notice)), "{told:?}");
    }
    assert_eq!(kit.count("select count(*) from users where deletes_at is not null").await, 0, "its deletion is off");
    assert_eq!(events(&kit, "email.change_undone").await, 1);
    assert_eq!(
        kit.auth.self_service().peek_revert(&token).await.expect("answers"),
        RevertState::Dead(Dead::Used, Revert::EmailChange)
    );
    assert!(matches!(undo(&kit, &token).await, Err(RevertError::NotLive(RevertState::Dead(Dead::Used, _)))));

    // The thief's browser is a stranger again, and so is the owner's: the thief may have had a copy of its cookie.
    kit.clock.advance(Span::hours(1));
    for visitor in [thief, visitor] {
        let mut again = Visitor { session: None, ..visitor };
        again.give_first_factor(&kit, &mara()).await;
        assert!(notices(&kit).await.iter().any(|(_, notice)| matches!(notice, Notice::NewSignIn { .. })));
    }
}

#[tokio::test]
async fn who_changes_it_twice_loses_it_to_the_first_link_all_the_same() {
    let kit = kit().await;
    let mut visitor = signed_in(&kit, &mara()).await;
    let user = authority(&kit, &visitor).await.user;
    let first = change(&kit, &mut visitor, &new()).await;
    let second = change(&kit, &mut visitor, &address("third@example.net")).await;
    undo(&kit, &first).await.expect("live");
    assert_eq!(address_of(&kit, user).await, "mara@example.org");
    assert_eq!(
        kit.auth.self_service().peek_revert(&second).await.expect("answers"),
        RevertState::Dead(Dead::Cancelled, Revert::EmailChange)
    );
    assert!(matches!(undo(&kit, &second).await, Err(RevertError::NotLive(RevertState::Dead(Dead::Cancelled, _)))));
    assert_eq!(address_of(&kit, user).await, "mara@example.org");
}

#[tokio::test]
async fn the_second_link_goes_back_one_step_and_leaves_the_first() {
    let kit = kit().await;
    let mut visitor = signed_in(&kit, &mara()).await;
    let user = authority(&kit, &visitor).await.user;
    let first = change(&kit, &mut visitor, &new()).await;
    let second = change(&kit, &mut visitor, &address("third@example.net")).await;
    undo(&kit, &second).await.expect("live");
    assert_eq!(address_of(&kit, user).await, "mara@example.net");
    undo(&kit, &first).await.expect("live still");
    assert_eq!(address_of(&kit, user).await, "mara@example.org");
}

#[tokio::test]
async fn a_change_can_be_taken_back_for_three_days_to_the_moment() {
    for (late, works) in [(Span::microseconds(1), true), (Span::ZERO, false)] {
        let kit = kit().await;
        let mut visitor = signed_in(&kit, &mara()).await;
        let token = change(&kit, &mut visitor, &new()).await;
        kit.clock.advance(Span::days(3) - late);
        let held = kit.auth.users().create(&mara(), false, None).await;
        assert_eq!(matches!(held, Err(CreateUserError::HeldBack)), works, "{held:?}");
        let undone = undo(&kit, &token).await;
        if works {
            undone.expect("to the last moment");
        } else {
            assert!(
                matches!(undone, Err(RevertError::NotLive(RevertState::Dead(Dead::Expired, Revert::EmailChange)))),
                "{undone:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_account_with_two_factor_gives_a_factor_first_and_a_wrong_one_uses_nothing_up() {
    let kit = kit().await;
    for by_app in [true, false] {
        let email = address(if by_app { "app@example.org" } else { "codes@example.org" });
        let mut visitor = signed_in(&kit, &email).await;
        let user = authority(&kit, &visitor).await.user;
        let (secret, codes) = enrol_long_ago(&kit, &mut visitor).await;
        let moved = address(&format!("new-{}", email.as_str()));
        let token = change(&kit, &mut visitor, &moved).await;
        let state = kit.auth.self_service().peek_revert(&token).await.expect("answers");
        assert!(matches!(state, RevertState::Live(RevertView::EmailChange { factor_needed: true, .. })), "{state:?}");
        let nothing = undo(&kit, &token).await;
        assert!(matches!(nothing, Err(RevertError::FactorNeeded)), "{nothing:?}");
        let right = totp(&kit, &secret);
        let wrong = undo_with(&kit, &token, Factor::App(&not(&right))).await;
        assert!(matches!(wrong, Err(RevertError::Factor(SecondFactorError::Wrong { .. }))), "{wrong:?}");
        assert_eq!(address_of(&kit, user).await, moved.as_str());
        let factor = if by_app { Factor::App(&right) } else { Factor::BackupCode(&codes[0]) };
        undo_with(&kit, &token, factor).await.expect("the link works still");
        assert_eq!(address_of(&kit, user).await, email.as_str());
        kit.clock.advance(Span::minutes(30));
    }
    assert_eq!(
        kit.count("select count(*) from auth_audit where details ->> 'for' = 'undo' and event_type = 'totp.accepted'").await,
        1
    );
    assert_eq!(
        kit.count("select count(*) from auth_audit where details ->> 'for' = 'undo' and event_type = 'backup_code.used'").await,
        1
    );
}

#[tokio::test]
async fn two_factor_set_up_after_the_change_keeps_nobody_from_taking_it_back() {
    let kit = kit().await;
    let mut thief = signed_in(&kit, &mara()).await;
    let user = authority(&kit, &thief).await.user;
    let token = change(&kit, &mut thief, &new()).await;
    kit.clock.advance(Span::seconds(1));
    enrol(&kit, &mut thief).await;
    undo(&kit, &token).await.expect("the app is the thief's");
    assert_eq!(address_of(&kit, user).await, "mara@example.org");
    assert_eq!(kit.count("select count(*) from totp_credentials where confirmed_at is not null").await, 1, "two-factor stays on");
}

#[tokio::test]
async fn nor_does_one_that_was_set_up_to_keep_its_owner_from_taking_it_back() {
    let kit = kit().await;
    let mut thief = signed_in(&kit, &mara()).await;
    let user = authority(&kit, &thief).await.user;
    enrol(&kit, &mut thief).await;
    let token = change(&kit, &mut thief, &new()).await;
    let state = kit.auth.self_service().peek_revert(&token).await.expect("answers");
    assert!(matches!(state, RevertState::Live(RevertView::EmailChange { factor_needed: false, .. })), "{state:?}");
    undo(&kit, &token).await.expect("the app is the thief's");
    assert_eq!(address_of(&kit, user).await, "mara@example.org");
}

#[tokio::test]
async fn wrong_factors_at_the_link_meet_the_limit() {
    let kit = kit().await;
    let mut visitor = signed_in(&kit, &mara()).await;
    let (secret, _) = enrol_long_ago(&kit, &mut visitor).await;
    let token = change(&kit, &mut visitor, &new()).await;
    let wrong = not(&totp(&kit, &secret));
    let mut limited = false;
    for _ in 0..11 {
        limited |=
            matches!(undo_with(&kit, &token, Factor::App(&wrong)).await, Err(RevertError::Factor(SecondFactorError::Limited(_))));
    }
    assert!(limited);
    let right = totp(&kit, &secret);
    assert!(undo_with(&kit, &token, Factor::App(&right)).await.is_err(), "a right one waits too");
}

#[tokio::test]
async fn ten_wrong_backup_codes_at_the_link_and_no_more() {
    let kit = kit().await;
    let mut visitor = signed_in(&kit, &mara()).await;
    let (_, codes) = enrol_long_ago(&kit, &mut visitor).await;
    let token = change(&kit, &mut visitor, &new()).await;
    let wrong = BackupCode::parse("aaaa-aaaa-aaaa").expect("well-formed");
    for _ in 0..10 {
        undo_with(&kit, &token, Factor::BackupCode(&wrong)).await.expect_err("wrong");
    }
    let refused = undo_with(&kit, &token, Factor::BackupCode(&codes[0])).await;
    assert!(
        matches!(refused, Err(RevertError::Factor(SecondFactorError::Limited(limited))) if limited.limit == Limit::StepUpAccount),
        "{refused:?}"
    );
}

#[tokio::test]
async fn of_many_tries_with_one_link_one_takes_it_back() {
    let kit = unlimited().await;
    let second = kit.second().await;
    let mut visitor = signed_in(&kit, &mara()).await;
    let user = authority(&kit, &visitor).await.user;
    let first = change(&kit, &mut visitor, &new()).await;
    let third = change(&kit, &mut visitor, &address("third@example.net")).await;
    let stranger = Visitor::at([192, 0, 2, 9]);
    let tries = (0..32).map(|n| {
        let auth: &Arc<Auth> = if n % 2 == 0 { &kit.auth } else { &second };
        let token = if n % 4 < 2 { &first } else { &third };
        let stranger = &stranger;
        async move { auth.self_service().revert(token, None, stranger.proof(), &stranger.from).await.map(|_| n % 4 < 2) }
    });
    let results = join_all(tries).await;
    assert_eq!(results.iter().filter(|result| matches!(result, Ok(true))).count(), 1);
    assert!(results.iter().filter(|result| matches!(result, Ok(false))).count() <= 1);
    assert!(!results.iter().any(|result| matches!(result, Err(RevertError::Unavailable(_)))), "{results:?}");
    assert_eq!(address_of(&kit, user).await, "mara@example.org", "whichever came first");
}

#[tokio::test]
async fn unknown_links_take_nothing_back() {
    let kit = kit().await;
    assert_eq!(kit.auth.self_service().peek_revert(&RevertToken::new()).await.expect("answers"), RevertState::Unknown);
    assert!(matches!(undo(&kit, &RevertToken::new()).await, Err(RevertError::NotLive(RevertState::Unknown))));
}

// The old address meanwhile

#[tokio::test]
async fn nobody_else_gets_the_old_address_while_it_can_be_taken_back() {
    let kit = kit().await;
    let mut visitor = signed_in(&kit, &mara()).await;
    // A mail that was under way when the account moved.
    let late = Visitor::at([192, 0, 2, 70]);
    change(&kit, &mut visitor, &new()).await;

    // By signing up.
    kit.auth.sign_in().request_link(&mara(), &late.nonce, late.proof(), &late.from).await.expect("the same answer");
    let letters = kit.letters().await;
    assert!(matches!(letters.as_slice(), [OutgoingMail { content: Content::NoAccount { .. }, .. }]), "{letters:?}");
    // With the code it would have had, guessed.
    run(&kit, "update undo_links set expires_at = created_at").await;
    kit.clock.advance(Span::minutes(1));
    kit.auth.sign_in().request_link(&mara(), &late.nonce, late.proof(), &late.from).await.expect("taken");
    let (token, code) = kit.sign_in_mail().await;
    run(&kit, "update undo_links set expires_at = created_at + interval '72 hours'").await;
    let refused = kit.auth.sign_in().enter_code(&code, late.proof(), &handover(), &late.from).await;
    assert!(matches!(refused, Err(EnterCodeError::Dead(_))), "{refused:?}");
    let refused = kit.auth.sign_in().confirm_link(&token, late.proof(), &handover(), &late.from).await;
    assert!(matches!(refused, Err(ConfirmLinkError::NotLive(_))), "{refused:?}");

    // By a change, and by an operator.
    let mut stranger = signed_in_from(&kit, &address("mallory@example.org"), [192, 0, 2, 66]).await;
    kit.letters().await;
    kit.auth
        .self_service()
        .request_address_change(&authority(&kit, &stranger).await, &mara(), &stranger.from)
        .await
        .expect("the same answer");
    let letters = kit.letters().await;
    assert!(matches!(letters.as_slice(), [OutgoingMail { content: Content::EmailTaken, .. }]), "{letters:?}");
    run(&kit, "update undo_links set expires_at = created_at").await;
    kit.clock.advance(Span::seconds(1));
    let code = code_for(&kit, &stranger, &mara()).await;
    run(&kit, "update undo_links set expires_at = created_at + interval '72 hours'").await;
    assert!(matches!(confirm(&kit, &mut stranger, &code).await, Err(ConfirmChangeError::Code(MailedCodeError::Expired))));
    assert!(matches!(kit.auth.users().create(&mara(), false, None).await, Err(CreateUserError::HeldBack)));
    assert!(matches!(kit.auth.administration().invite(Actor::Operator, &mara(), None).await, Err(InviteError::HeldBack)));
    assert_eq!(kit.count("select count(*) from users where email_key = 'mara@example.org'").await, 0);

    // Its own account may go back to it by another change; then it is like any address.
    change(&kit, &mut visitor, &mara()).await;
    assert_eq!(authority(&kit, &visitor).await.email, "mara@example.org");
    kit.clock.advance(Span::hours(80));
    signed_in_from(&kit, &new(), [192, 0, 2, 67]).await;
}

#[tokio::test]
async fn a_link_under_way_while_the_account_moves_does_not_sign_in_to_it() {
    let kit = kit().await;
    signed_in(&kit, &mara()).await;
    kit.clock.advance(Span::minutes(6));
    let asked = Visitor::at([198, 51, 100, 9]);
    kit.auth.sign_in().request_link(&mara(), &asked.nonce, asked.proof(), &asked.from).await.expect("taken");
    let (link, _) = kit.sign_in_mail().await;
    let mut moving = kit.pool.begin().await.expect("begun");
    sqlx::query("update users set email = 'mara@example.net', email_key = 'mara@example.net'")
        .execute(&mut *moving)
        .await
        .expect("moved");
    let new = handover();
    let redeeming = kit.auth.sign_in().confirm_link(&link, asked.proof(), &new, &asked.from);
    let moved = async {
        // It has found the account by the old address, and waits for the row.
        while kit
            .count("select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'")
            .await
            == 0
        {
            tokio::task::yield_now().await;
        }
        moving.commit().await.expect("committed");
    };
    let (refused, ()) = tokio::join!(redeeming, moved);
    assert!(matches!(refused, Err(ConfirmLinkError::NotLive(_))), "{refused:?}");
    assert!(kit.auth.sessions().load(new.fresh).await.expect("answers").is_none());
}

#[tokio::test]
async fn a_second_step_under_way_while_all_others_are_signed_out_leaves_no_session() {
    let kit = kit().await;
    let mut owner = signed_in(&kit, &mara()).await;
    kit.clock.advance(Span::seconds(1));
    let (secret, _) = enrol(&kit, &mut owner).await;
    let now = authority(&kit, &owner).await;
    let mut half = Visitor::at([192, 0, 2, 66]);
    assert!(matches!(half.give_first_factor(&kit, &mara()).await, Outcome::SecondFactorNeeded));

    let blocked = async |count: i64| {
        let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        while kit.count(waiting).await < count {
            tokio::task::yield_now().await;
        }
    };
    let mut held = kit.pool.begin().await.expect("begun");
    sqlx::query("select 1 from users for no key update").execute(&mut *held).await.expect("locked");
    let (whole, code) = (handover(), totp(&kit, &secret));
    let finishing = PendingSignIn { half: half.session.expect("half signed in"), user: now.user, handover: &whole };
    let finish = kit.auth.sign_in().enter_second_factor(finishing, Factor::App(&code), false, half.proof(), &half.from);
    let sign_out = async {
        // The whole session is there, and nobody sees it: its transaction waits for the account.
        blocked(1).await;
        kit.auth.self_service().end_other_sessions(&now, &owner.from).await
    };
    let release = async {
        blocked(2).await;
        held.commit().await.expect("committed");
    };
    let (finished, ended, ()) = tokio::join!(finish, sign_out, release);
    assert!(finished.is_ok(), "it was first: {finished:?}");
    ended.expect("signed out");
    assert!(kit.auth.sessions().load(whole.fresh).await.expect("answers").is_none_or(|stored| stored.authority.is_none()));
    assert!(owner.authority(&kit.auth).await.is_some());
}

#[tokio::test]
async fn a_second_step_under_way_while_a_change_is_taken_back_leaves_no_session() {
    let kit = kit().await;
    let mut thief = signed_in(&kit, &mara()).await;
    let user = authority(&kit, &thief).await.user;
    let token = change(&kit, &mut thief, &new()).await;
    kit.clock.advance(Span::seconds(1));
    let (secret, _) = enrol(&kit, &mut thief).await;
    let mut half = Visitor::at([192, 0, 2, 66]);
    assert!(matches!(half.give_first_factor(&kit, &new()).await, Outcome::SecondFactorNeeded));

    let blocked = async |count: i64| {
        let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        while kit.count(waiting).await < count {
            tokio::task::yield_now().await;
        }
    };
    let mut held = kit.pool.begin().await.expect("begun");
    sqlx::query("select 1 from users for no key update").execute(&mut *held).await.expect("locked");
    let (whole, code) = (handover(), totp(&kit, &secret));
    let finishing = PendingSignIn { half: half.session.expect("half signed in"), user, handover: &whole };
    let finish = kit.auth.sign_in().enter_second_factor(finishing, Factor::App(&code), true, half.proof(), &half.from);
    let take_back = async {
        // The whole session is there, and nobody sees it: its transaction waits for the account.
        blocked(1).await;
        undo(&kit, &token).await
    };
    let release = async {
        blocked(2).await;
        held.commit().await.expect("committed");
    };
    let (finished, undone, ()) = tokio::join!(finish, take_back, release);
    assert!(finished.is_ok(), "it was first: {finished:?}");
    undone.expect("live");
    assert!(kit.auth.sessions().load(whole.fresh).await.expect("answers").is_none());
    assert_eq!(kit.count("select count(*) from trusted_devices where revoked_at is null").await, 0);
}

// A sign-in taken back

#[tokio::test]
async fn a_sign_in_is_taken_back_by_the_mail_that_told_of_it() {
    let kit = kit().await;
    let owner = signed_in(&kit, &mara()).await;
    let other = signed_in_from(&kit, &mara(), [192, 0, 2, 66]).await;
    let (to, token) = undo_token(&kit, new_sign_in()).await;
    assert_eq!(to, mara());
    let state = kit.auth.self_service().peek_revert(&token).await.expect("answers");
    let RevertState::Live(RevertView::Session { email, device, ip, .. }) = state else { panic!("{state:?}") };
    assert_eq!((email.as_str(), device.as_str(), ip), ("mara@example.org", "Firefox on Linux", Some([192, 0, 2, 66].into())));

    assert_eq!(undo(&kit, &token).await.expect("live"), Reverted::Session { ended_now: true });
    assert!(other.authority(&kit.auth).await.is_none() && owner.authority(&kit.auth).await.is_some());
    assert_eq!(
        kit.count("select count(*) from auth_audit where event_type = 'session.revoked' and details ->> 'reason' = 'undone'").await,
        1
    );
    assert!(matches!(undo(&kit, &token).await, Err(RevertError::NotLive(RevertState::Dead(Dead::Used, Revert::Session(_))))));

    // The browser is a stranger again: its next sign-in is told of.
    kit.clock.advance(Span::hours(1));
    let mut again = Visitor { session: None, ..other };
    again.give_first_factor(&kit, &mara()).await;
    let (_, token) = undo_token(&kit, new_sign_in()).await;
    kit.auth.sessions().sign_out(again.session.expect("a session"), &again.from).await.expect("ended");
    assert_eq!(undo(&kit, &token).await.expect("live"), Reverted::Session { ended_now: false });
}

#[tokio::test]
async fn who_signed_in_again_meanwhile_is_out_too() {
    let kit = kit().await;
    let owner = signed_in(&kit, &mara()).await;
    let mut other = signed_in_from(&kit, &mara(), [192, 0, 2, 66]).await;
    let (_, token) = undo_token(&kit, new_sign_in()).await;
    other.give_first_factor(&kit, &mara()).await;
    assert_eq!(undo(&kit, &token).await.expect("live"), Reverted::Session { ended_now: true });
    assert!(other.authority(&kit.auth).await.is_none() && owner.authority(&kit.auth).await.is_some());
}

#[tokio::test]
async fn a_notice_that_waits_goes_where_the_account_was() {
    let kit = kit().await;
    let mut visitor = signed_in(&kit, &mara()).await;
    let now = authority(&kit, &visitor).await;
    kit.auth.self_service().request_deletion(&now, &visitor.from).await.expect("taken");
    kit.auth.self_service().cancel_deletion(&now, &visitor.from).await.expect("taken");
    // As after a refusal for now.
    run(&kit, "update mail_outbox set run_at = run_at + interval '1 hour' where state = 'queued'").await;
    change(&kit, &mut visitor, &new()).await;
    kit.clock.advance(Span::hours(1));
    let letters = kit.letters().await;
    let [OutgoingMail { to, content: Content::Notice { notice: Notice::DeletionCancelled, .. }, .. }] = letters.as_slice() else {
        panic!("{letters:?}")
    };
    assert_eq!(to, &mara());
}

fn new_sign_in() -> Notice {
    Notice::NewSignIn { method: auth::identity::Method::Code, second: None }
}

#[tokio::test]
async fn trust_given_with_a_sign_in_goes_with_it_and_the_link_expires() {
    let kit = kit().await;
    let mut owner = signed_in(&kit, &mara()).await;
    let user = authority(&kit, &owner).await.user;
    let (secret, _) = enrol(&kit, &mut owner).await;
    let mut other = Visitor::at([192, 0, 2, 66]);
    other.give_first_factor(&kit, &mara()).await;
    let new = handover();
    let finishing = PendingSignIn { half: other.session.expect("a session"), user, handover: &new };
    let right = totp(&kit, &secret);
    kit.auth.sign_in().enter_second_factor(finishing, Factor::App(&right), true, other.proof(), &other.from).await.expect("right");
    let second = Some(auth::identity::SecondFactor::Totp);
    let (_, token) = undo_token(&kit, Notice::NewSignIn { method: auth::identity::Method::Code, second }).await;
    let trusted = "select count(*) from trusted_devices where revoked_at is null";
    assert_eq!(kit.count(trusted).await, 1);

    kit.clock.advance(Span::days(7) - Span::microseconds(1));
    assert!(matches!(kit.auth.self_service().peek_revert(&token).await.expect("answers"), RevertState::Live(_)));
    kit.clock.advance(Span::microseconds(1));
    assert!(matches!(undo(&kit, &token).await, Err(RevertError::NotLive(RevertState::Dead(Dead::Expired, _)))));
    kit.clock.advance(-Span::hours(1));
    undo(&kit, &token).await.expect("live");
    assert_eq!(kit.count(trusted).await, 0);
}

// A copy

#[tokio::test]
async fn a_copy_holds_what_there_is_and_nothing_secret() {
    let kit = kit().await;
    let mut visitor = signed_in(&kit, &mara()).await;
    let (_, codes) = enrol(&kit, &mut visitor).await;
    let now = authority(&kit, &visitor).await;
    kit.auth.self_service().set_name(&now, "Mara", &visitor.from).await.expect("set");
    // What an administrator did, from where, and why, is not the owner's.
    sqlx::query(
        "insert into auth_audit (id, created_at, event_type, user_id, actor_id, ip, user_agent, details)
         values (gen_random_uuid(), $2, 'user.sessions_ended', $1, gen_random_uuid(), '198.51.100.200', 'Chrome/1',
                 '{\"by\": \"admin\", \"reason\": \"as Ada said\", \"sessions\": 1}')",
    )
    .bind(now.user)
    .bind(kit.auth.now())
    .execute(&kit.pool)
    .await
    .expect("written");

    let export = kit.auth.self_service().export_account(&now, &visitor.from).await.expect("fresh");
    let json = serde_json::to_value(&export).expect("JSON");
    assert_eq!(json["profile"]["email"], "mara@example.org");
    assert_eq!(json["profile"]["display_name"], "Mara");
    assert_eq!(json["authenticator_apps"][0]["name"], "Phone");
    assert_eq!(json["backup_codes"]["left"], 10);
    assert_eq!(json["sessions"][0]["ip"], "203.0.113.24");
    assert_eq!(json["sessions"][0]["device"], "Firefox on Linux");
    assert_eq!(json["known_browsers"].as_array().map(Vec::len), Some(1));
    assert_eq!(json["known_browsers"][0].as_object().map(serde_json::Map::len), Some(5), "no token and no hash");
    assert_eq!(
        (&json["known_browsers"][0]["device"], &json["known_browsers"][0]["ip"]),
        (&"Firefox on Linux".into(), &"203.0.113.24".into())
    );
    assert_eq!(json["activity"]["cut"], false);
    let entries = json["activity"]["entries"].as_array().expect("entries");
    let ended = entries.iter().find(|entry| entry["what"] == "user.sessions_ended").expect("it is told");
    assert_eq!(
        (&ended["by_other"], &ended["ip"], &ended["details"]["reason"]),
        (&true.into(), &serde_json::Value::Null, &serde_json::Value::Null)
    );

    let text = json.to_string();
    let held: Vec<String> = sqlx::query_scalar(
        "select encode(token_hash, 'hex') from sessions union select encode(token_hash, 'hex') from known_browsers
         union select encode(secret, 'hex') from totp_credentials union select key_id from totp_credentials
         union select hash from backup_codes union select selector from backup_codes",
    )
    .fetch_all(&kit.pool)
    .await
    .expect("rows");
    assert!(held.len() > 10);
    for secret in held.into_iter().chain(codes.iter().map(BackupCode::reveal)) {
        assert!(!text.contains(&secret), "{secret}");
    }
    for word in ["hash", "token", "secret", "nonce", "key_id", "Ada", "198.51.100.200"] {
        assert!(!text.contains(word), "{word}");
    }
    assert_eq!(events(&kit, "account.exported").await, 1);
}

#[tokio::test]
async fn a_copy_needs_the_strongest_factor_and_ends_somewhere() {
    let kit = Kit::new().await;
    let visitor = signed_in(&kit, &mara()).await;
    let now = authority(&kit, &visitor).await;
    sqlx::query(
        "insert into auth_audit (id, created_at, event_type, user_id)
         select gen_random_uuid(), $2 - n * interval '1 second', 'totp.refused', $1 from generate_series(1, 10000) n",
    )
    .bind(now.user)
    .bind(kit.auth.now())
    .execute(&kit.pool)
    .await
    .expect("written");
    let export = kit.auth.self_service().export_account(&now, &visitor.from).await.expect("fresh");
    assert_eq!((export.activity.cut, export.activity.entries.len()), (true, 10_000));
    assert!(export.activity.entries.is_sorted_by(|a, b| a.at >= b.at), "the newest");
    // The application's role may add rows of 64 KiB.
    sqlx::query(
        "insert into auth_audit (id, created_at, event_type, user_id, details)
         select gen_random_uuid(), $2 - n * interval '1 millisecond', 'totp.refused', $1, jsonb_build_object('a', repeat('x', 65000))
         from generate_series(1, 400) n",
    )
    .bind(now.user)
    .bind(kit.auth.now())
    .execute(&kit.pool)
    .await
    .expect("written");
    let export = kit.auth.self_service().export_account(&now, &visitor.from).await.expect("fresh");
    assert_eq!((export.activity.cut, export.activity.entries.len()), (true, 300));
    kit.clock.advance(Span::minutes(10));
    assert!(matches!(kit.auth.self_service().export_account(&now, &visitor.from).await, Err(ExportError::NotFresh)));
}

// The end

async fn admin(kit: &Kit, email: &str, ip: u8) -> Visitor {
    kit.auth.users().create(&address(email), true, None).await.expect("made");
    signed_in_from(kit, &address(email), [192, 0, 2, ip]).await
}

#[tokio::test]
async fn an_account_that_leaves_signs_in_for_a_week_and_not_a_moment_longer() {
    let kit = kit().await;
    let elsewhere = signed_in_from(&kit, &mara(), [198, 51, 100, 7]).await;
    let visitor = signed_in(&kit, &mara()).await;
    let asked = Visitor::at([198, 51, 100, 9]);
    kit.auth.sign_in().request_link(&mara(), &asked.nonce, asked.proof(), &asked.from).await.expect("taken");
    let (open, _) = kit.sign_in_mail().await;
    kit.letters().await;
    let now = authority(&kit, &visitor).await;
    kit.auth.self_service().request_deletion(&now, &visitor.from).await.expect("asked");
    let deletes_at = kit.auth.now() + Span::days(7);
    assert_eq!(kit.auth.users().profile(&now).await.expect("answers").deletes_at, Some(deletes_at));
    assert!(elsewhere.authority(&kit.auth).await.is_none() && visitor.authority(&kit.auth).await.is_some());
    let refused = kit.auth.sign_in().confirm_link(&open, asked.proof(), &handover(), &asked.from).await;
    assert!(matches!(refused, Err(ConfirmLinkError::NotLive(_))), "{refused:?}");
    let (to, token) = undo_token(&kit, Notice::DeletionRequested { deletes_at }).await;
    assert_eq!(to, mara());

    // Asking again moves nothing.
    kit.clock.advance(Span::days(1));
    let again = signed_in_from(&kit, &mara(), [198, 51, 100, 10]).await;
    kit.letters().await;
    kit.auth.self_service().request_deletion(&authority(&kit, &again).await, &again.from).await.expect("asked already");
    assert_eq!(kit.auth.users().profile(&now).await.expect("answers").deletes_at, Some(deletes_at));
    assert_eq!((events(&kit, "account.deletion_requested").await, kit.letters().await.len()), (1, 0));

    kit.clock.advance(deletes_at - kit.auth.now() - Span::microseconds(1));
    assert!(visitor.authority(&kit.auth).await.is_some(), "to the last moment");
    assert!(matches!(kit.auth.self_service().peek_revert(&token).await.expect("answers"), RevertState::Live(_)));
    let late = Visitor::at([198, 51, 100, 11]);
    kit.auth.sign_in().request_link(&mara(), &late.nonce, late.proof(), &late.from).await.expect("taken");
    let (link, _) = kit.sign_in_mail().await;
    kit.clock.advance(Span::microseconds(1));
    assert!(visitor.authority(&kit.auth).await.is_none(), "whether or not the row is gone");
    let refused = kit.auth.sign_in().confirm_link(&link, late.proof(), &handover(), &late.from).await;
    assert!(matches!(refused, Err(ConfirmLinkError::NotLive(_))), "{refused:?}");
    assert!(matches!(undo(&kit, &token).await, Err(RevertError::NotLive(RevertState::Dead(Dead::Expired, Revert::Deletion)))));
    kit.auth.self_service().cancel_deletion(&now, &visitor.from).await.expect("answers");
    assert_eq!(events(&kit, "account.deletion_cancelled").await, 0, "it is too late");
}

#[tokio::test]
async fn it_can_be_called_off_by_its_owner_and_by_the_link() {
    let kit = kit().await;
    let visitor = signed_in(&kit, &mara()).await;
    let now = authority(&kit, &visitor).await;
    for by_link in [false, true] {
        kit.auth.self_service().request_deletion(&now, &visitor.from).await.expect("asked");
        let (_, token) = undo_token(&kit, Notice::DeletionRequested { deletes_at: kit.auth.now() + DELETION_WAIT }).await;
        if by_link {
            let state = kit.auth.self_service().peek_revert(&token).await.expect("answers");
            assert!(matches!(state, RevertState::Live(RevertView::Deletion { .. })), "{state:?}");
            assert_eq!(undo(&kit, &token).await.expect("live"), Reverted::Deletion);
        } else {
            kit.auth.self_service().cancel_deletion(&now, &visitor.from).await.expect("called off");
            kit.auth.self_service().cancel_deletion(&now, &visitor.from).await.expect("twice does no harm");
            let state = kit.auth.self_service().peek_revert(&token).await.expect("answers");
            assert_eq!(state, RevertState::Dead(Dead::Cancelled, Revert::Deletion), "an old link calls no later deletion off");
        }
        assert_eq!(notices(&kit).await, [("mara@example.org".to_owned(), Notice::DeletionCancelled)]);
        assert_eq!(kit.auth.users().profile(&now).await.expect("answers").deletes_at, None);
    }
    assert_eq!(events(&kit, "account.deletion_cancelled").await, 2);
}

#[tokio::test]
async fn it_needs_the_strongest_factor() {
    let kit = Kit::new().await;
    let visitor = signed_in(&kit, &mara()).await;
    kit.clock.advance(Span::minutes(10));
    let refused = kit.auth.self_service().request_deletion(&authority(&kit, &visitor).await, &visitor.from).await;
    assert!(matches!(refused, Err(DeletionError::NotFresh)), "{refused:?}");
}

#[tokio::test]
async fn the_last_administrator_stays_and_one_that_is_off_or_leaves_is_none() {
    let kit = kit().await;
    let ada = admin(&kit, "ada@example.org", 1).await;
    let now = authority(&kit, &ada).await;
    let ask = async || kit.auth.self_service().request_deletion(&now, &ada.from).await;
    assert!(matches!(ask().await, Err(DeletionError::LastAdmin)));
    assert_eq!(kit.count("select count(*) from sessions where revoked_at is not null").await, 0, "and nothing has happened");
    kit.auth.users().create(&address("off@example.org"), true, None).await.expect("made");
    run(&kit, "update users set disabled_at = created_at where email = 'off@example.org'").await;
    assert!(matches!(ask().await, Err(DeletionError::LastAdmin)));
    let grace = admin(&kit, "grace@example.org", 2).await;
    kit.auth.self_service().request_deletion(&authority(&kit, &grace).await, &grace.from).await.expect("ada stays");
    assert!(matches!(ask().await, Err(DeletionError::LastAdmin)));
    kit.auth.self_service().cancel_deletion(&authority(&kit, &grace).await, &grace.from).await.expect("stays");
    ask().await.expect("grace stays");
}

#[tokio::test]
async fn of_the_last_two_administrators_who_leave_at_once_one_is_refused() {
    for _ in 0..8 {
        let kit = unlimited().await;
        let second = kit.second().await;
        let (ada, grace) = (admin(&kit, "ada@example.org", 1).await, admin(&kit, "grace@example.org", 2).await);
        let (a, b) = (authority(&kit, &ada).await, authority(&kit, &grace).await);
        let (first, other) = tokio::join!(
            kit.auth.self_service().request_deletion(&a, &ada.from),
            second.self_service().request_deletion(&b, &grace.from)
        );
        let refused = [&first, &other].iter().filter(|result| matches!(result, Err(DeletionError::LastAdmin))).count();
        assert_eq!(refused, 1, "{first:?} {other:?}");
        assert_eq!(kit.count("select count(*) from users where deletes_at is null").await, 1);
    }
}

#[tokio::test]
async fn housekeeping_deletes_whose_time_is_over_with_all_that_is_theirs_and_never_the_last_administrator() {
    let kit = kit().await;
    let ada = admin(&kit, "ada@example.org", 1).await;
    let mut visitor = signed_in(&kit, &mara()).await;
    let user = authority(&kit, &visitor).await.user;
    enrol(&kit, &mut visitor).await;
    change(&kit, &mut visitor, &new()).await;
    kit.auth.administration().invite(Actor::Operator, &address("guest@example.org"), None).await.expect("invited");
    run(&kit, "insert into invites (id, email, email_key, nonce, key_id, token_hash, created_at, expires_at)
               select gen_random_uuid(), 'mara@example.net', 'mara@example.net', nonce, key_id, sha256(nonce), created_at, expires_at from invites").await;
    kit.auth.self_service().request_deletion(&authority(&kit, &visitor).await, &visitor.from).await.expect("asked");
    kit.letters().await;

    kit.clock.advance(DELETION_WAIT - Span::microseconds(1));
    kit.auth.operations().housekeep().await.expect("done");
    assert_eq!(kit.count("select count(*) from users where email = 'mara@example.net'").await, 1, "not a moment before");
    // However the last administrator came to be due.
    run(&kit, "update users set deletes_at = created_at where is_admin").await;
    kit.clock.advance(Span::hours(1));
    kit.auth.operations().housekeep().await.expect("done");
    assert_eq!(kit.count("select count(*) from users").await, 1);
    assert_eq!(kit.count("select count(*) from users where email = 'ada@example.org'").await, 1);
    for sql in [
        "select count(*) from magic_links where email_key like 'mara@%'",
        "select count(*) from invites where email_key like 'mara@%'",
        "select count(*) from totp_credentials",
        "select count(*) from backup_codes",
        "select count(*) from undo_links",
        "select count(*) from email_changes",
        "select count(*) from known_browsers k where not exists (select 1 from users u where u.id = k.user_id)",
        "select count(*) from mail_outbox where user_id is not null",
        "select count(*) from mail_outbox m where magic_link_id is not null and not exists (select 1 from magic_links l where l.id = m.magic_link_id)",
    ] {
        assert_eq!(kit.count(sql).await, 0, "{sql}");
    }
    assert_eq!(kit.count("select count(*) from invites").await, 1, "others keep theirs");
    let told: i64 = sqlx::query_scalar("select count(*) from auth_audit where event_type = 'user.deleted' and user_id = $1")
        .bind(user)
        .fetch_one(&kit.pool)
        .await
        .expect("a count");
    assert_eq!(told, 1);
    drop(ada);
    // The address is like any other.
    signed_in(&kit, &new()).await;
}

#[tokio::test]
async fn housekeeping_takes_any_number_of_accounts() {
    let kit = kit().await;
    run(&kit, "insert into users (id, email, email_key, created_at, deletes_at)
               select gen_random_uuid(), n || '@example.org', n || '@example.org', '2026-11-01', '2026-11-08' from generate_series(1, 50) n").await;
    kit.auth.operations().housekeep().await.expect("done");
    assert_eq!((kit.count("select count(*) from users").await, events(&kit, "user.deleted").await), (0, 50));
}

#[tokio::test]
async fn housekeeping_drops_old_months_of_the_audit_and_keeps_four_hundred_days() {
    let kit = kit().await;
    for month in ["2020-03-15", "2025-09-15", "2025-11-15"] {
        sqlx::query("select auth_audit_make_partition($1::timestamptz)").bind(month).execute(&kit.pool).await.expect("made");
    }
    kit.auth.operations().housekeep().await.expect("done");
    let left = "select count(*) from pg_class where relname in ('auth_audit_202003', 'auth_audit_202509', 'auth_audit_202511')";
    assert_eq!(kit.count("select count(*) from pg_class where relname = 'auth_audit_202003'").await, 0);
    assert_eq!(kit.count("select count(*) from pg_class where relname = 'auth_audit_202511'").await, 1);
    assert!(kit.count(left).await >= 1);
    // A clock that is years ahead costs nothing young.
    kit.clock.advance(Span::days(3_000));
    kit.auth.operations().housekeep().await.expect("done");
    let database_month = "select count(*) from pg_class where relname = 'auth_audit_' || to_char(clock_timestamp(), 'YYYYMM')";
    sqlx::query("select auth_audit_make_partition(clock_timestamp())").execute(&kit.pool).await.expect("made");
    let before = kit.count(database_month).await;
    kit.clock.advance(Span::hours(1));
    kit.auth.operations().housekeep().await.expect("done");
    assert_eq!(kit.count(database_month).await, before);
}

#[tokio::test]
async fn housekeeping_forgets_codes_and_links_whose_time_is_over() {
    let kit = kit().await;
    let mut visitor = signed_in(&kit, &mara()).await;
    code_for(&kit, &visitor, &address("mistyped@example.net")).await;
    change(&kit, &mut visitor, &new()).await;
    kit.clock.advance(Span::hours(1));
    kit.auth.operations().housekeep().await.expect("done");
    assert_eq!(kit.count("select count(*) from email_changes where used_at is null").await, 0);
    assert_eq!(kit.count("select count(*) from email_changes").await, 1, "the one that moved it says where it went");
    assert_eq!(kit.count("select count(*) from undo_links").await, 1, "its link still says what became of it");
    kit.clock.advance(Span::days(94));
    kit.auth.operations().housekeep().await.expect("done");
    assert_eq!(kit.count("select count(*) from email_changes").await, 0);
    assert_eq!(kit.count("select count(*) from undo_links").await, 0);
}

#[tokio::test]
async fn a_step_of_housekeeping_that_fails_keeps_no_other_from_its_work() {
    let kit = kit().await;
    let visitor = signed_in(&kit, &mara()).await;
    kit.auth.self_service().request_deletion(&authority(&kit, &visitor).await, &visitor.from).await.expect("taken");
    kit.clock.advance(Span::try_from(DELETION_WAIT).expect("some days"));
    let owner = kit.database.owner().await;
    sqlx::query("alter table rate_limits rename to gone").execute(&owner).await.expect("renamed");
    kit.auth.operations().housekeep().await.expect_err("one step failed, and it says so");
    assert_eq!(kit.count("select count(*) from users").await, 0);
}

#[tokio::test]
async fn links_that_end_sign_ins_die_where_the_account_was_taken_back_from() {
    let kit = kit().await;
    let mut thief = signed_in(&kit, &mara()).await;
    let back = change(&kit, &mut thief, &new()).await;
    // The owner, at what the thief calls a new device: its mail goes to the thief.
    signed_in_from(&kit, &new(), [192, 0, 2, 66]).await;
    let (to, ends) = undo_token(&kit, new_sign_in()).await;
    assert_eq!(to, new());
    undo(&kit, &back).await.expect("live");
    assert!(matches!(undo(&kit, &ends).await, Err(RevertError::NotLive(RevertState::Dead(Dead::Cancelled, _)))));
}

#[tokio::test]
async fn links_that_end_sign_ins_die_where_the_account_leaves_the_address_they_went_to() {
    let kit = kit().await;
    let mut visitor = signed_in(&kit, &mara()).await;
    signed_in_from(&kit, &mara(), [192, 0, 2, 66]).await;
    let (to, ends) = undo_token(&kit, new_sign_in()).await;
    assert_eq!(to, mara());
    change(&kit, &mut visitor, &new()).await;
    let dead = undo(&kit, &ends).await;
    assert!(matches!(dead, Err(RevertError::NotLive(RevertState::Dead(Dead::Cancelled, Revert::Session(_))))), "{dead:?}");
    assert!(visitor.authority(&kit.auth).await.is_some(), "whoever reads mail there ends nothing");
}
