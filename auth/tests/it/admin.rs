//! Looking after accounts, on a real database with the clock moved, and raced.

use std::sync::Arc;

use auth::{
    Auth,
    administration::{COUNTED, InviteError, PAGE, Status, UserFilter},
    delivery::Content,
    identity::{ActionError, Actor, Authority},
    one_time::invitation::InviteState,
    outbox::Notice,
    policy::{Policy, RequireTwoFactor, SignUp},
    sign_in::first_factor::Outcome,
    users::account::CreateUserError,
};
use testkit::{Kit, Visitor, address, why};
use time::Duration;
use uuid::Uuid;

const MARA: &str = "mara@example.org";
const WHY: &str = "ticket 7";
const UNDER_WAY: &str = "select count(*) from magic_links where used = 0 and closed_at is null";

/// Where administrators need no two-factor: what that asks of them is tested elsewhere.
async fn kit() -> Kit {
    let require_two_factor = RequireTwoFactor::None;
    Kit::with(Policy { passwordless_auth: true, sign_up: SignUp::Open, require_two_factor, ..Policy::default() }).await
}

async fn signed_in(kit: &Kit, visitor: &mut Visitor, email: &str) -> Authority {
    assert!(matches!(visitor.give_first_factor(kit, &address(email)).await, Outcome::Complete { .. }));
    visitor.authority(&kit.auth).await.expect("signed in")
}

/// An administrator who has just signed in.
async fn admin(kit: &Kit, email: &str) -> (Visitor, Authority) {
    kit.auth.users().create(&address(email), true, None).await.expect("made");
    let mut visitor = Visitor::at([203, 0, 113, 24]);
    let authority = signed_in(kit, &mut visitor, email).await;
    (visitor, authority)
}

fn by((visitor, authority): &(Visitor, Authority)) -> Actor<'_> {
    Actor::Admin { authority, from: &visitor.from }
}

async fn told(kit: &Kit, email: &str) -> Vec<Notice> {
    let letters = kit.letters().await;
    letters
        .into_iter()
        .filter(|letter| letter.to == address(email))
        .filter_map(|letter| match letter.content {
            Content::Notice { notice, by, .. } => {
                assert_eq!(by, None, "an administrator's browser is nobody's business");
                Some(notice)
            }
            _ => None,
        })
        .collect()
}

async fn audited(kit: &Kit, event: &str, user: Uuid, actor: Option<Uuid>) -> bool {
    sqlx::query_scalar(
        "select count(*) = 1 from auth_audit
         where event_type = $1 and user_id = $2 and actor_id is not distinct from $3 and details->>'reason' = $4",
    )
    .bind(event)
    .bind(user)
    .bind(actor)
    .bind(WHY)
    .fetch_one(&kit.pool)
    .await
    .expect("a row")
}

/// Whoever copied a browser's cookie has it also where nobody is signed in.
#[tokio::test]
async fn ending_sessions_forgets_browsers_also_where_none_is_left() {
    let kit = Kit::new().await;
    let known = async || kit.count("select count(*) from known_browsers").await;
    let operator = kit.auth.administration();
    for everybody in [false, true] {
        let mut visitor = Visitor::at([203, 0, 113, 24]);
        visitor.give_first_factor(&kit, &address("mara@example.org")).await;
        let user = visitor.authority(&kit.auth).await.expect("signed in").user;
        kit.auth.sessions().sign_out(visitor.session.expect("a session"), &visitor.from).await.expect("signed out");
        assert_eq!(known().await, 1);
        if everybody {
            let since = Some(kit.auth.now() + Duration::seconds(1));
            operator.end_everybodys_sessions(since, &why("restored")).await.expect("done");
            assert_eq!(known().await, 1, "used last before");
            operator.end_everybodys_sessions(None, &why("restored")).await.expect("done");
        } else {
            assert_eq!(operator.end_user_sessions(Actor::Operator, user, &why("stolen phone")).await.expect("done"), 0);
            let again = operator.end_user_sessions(Actor::Operator, user, &why("stolen phone")).await;
            assert!(matches!(again, Err(ActionError::Nothing)), "{again:?}");
        }
        assert_eq!(known().await, 0);
    }
}

#[tokio::test]
async fn what_sign_up_does_not_take_needs_a_reason_which_the_audit_keeps() {
    let sign_up = SignUp::Domains(vec!["example.org".to_owned()]);
    let kit = Kit::with(Policy { passwordless_auth: true, sign_up, ..Policy::default() }).await;
    let (inside, outside, guest) = (address("a@example.org"), address("a@example.net"), address("b@example.net"));
    kit.auth.users().create(&inside, false, None).await.expect("sign-up takes it");
    let made = kit.auth.users().create(&outside, false, None).await;
    assert!(matches!(made, Err(CreateUserError::NotAdmitted)), "{made:?}");
    let invited = kit.auth.administration().invite(Actor::Operator, &guest, None).await;
    assert!(matches!(invited, Err(InviteError::NotAdmitted)), "{invited:?}");
    assert_eq!(kit.count("select count(*) from auth_audit where details ? 'reason'").await, 0);
    kit.auth.users().create(&outside, false, Some(&why("our accountant"))).await.expect("somebody said why");
    kit.auth.administration().invite(Actor::Operator, &guest, Some(&why("our accountant"))).await.expect("somebody said why");
    let kept = "select count(*) from auth_audit where event_type in ('user.created', 'invite.created') \
                and details->>'reason' = 'our accountant'";
    assert_eq!(kit.count(kept).await, 2);
}

#[tokio::test]
async fn every_action_takes_effect_at_the_next_request_everywhere_is_audited_and_told() {
    let kit = kit().await;
    let second = kit.second().await;
    let root = admin(&kit, "root@example.org").await;
    let mut mara = Visitor::at([198, 51, 100, 7]);
    let user = signed_in(&kit, &mut mara, MARA).await.user;
    let root = (root.0, signed_in(&kit, &mut Visitor::at([203, 0, 113, 24]), "root@example.org").await);
    kit.letters().await;
    let actor = Some(root.1.user);

    kit.auth.administration().set_admin(by(&root), user, true, &why(WHY)).await.expect("made an administrator");
    assert!(mara.authority(&second).await.expect("signed in").admin);
    assert_eq!(told(&kit, MARA).await, [Notice::AdminGranted]);
    assert!(audited(&kit, "admin.granted", user, actor).await);
    kit.auth.administration().set_admin(by(&root), user, false, &why(WHY)).await.expect("made an ordinary account");
    assert!(!mara.authority(&second).await.expect("signed in").admin);
    assert_eq!(told(&kit, MARA).await, [Notice::AdminRevoked]);
    assert!(audited(&kit, "admin.revoked", user, actor).await);

    assert_eq!(kit.auth.administration().end_user_sessions(by(&root), user, &why(WHY)).await.expect("ended"), 1);
    assert!(mara.authority(&second).await.is_none());
    assert_eq!(told(&kit, MARA).await, [Notice::SessionsEnded]);
    assert!(audited(&kit, "user.sessions_ended", user, actor).await);

    signed_in(&kit, &mut mara, MARA).await;
    let root = (root.0, signed_in(&kit, &mut Visitor::at([203, 0, 113, 24]), "root@example.org").await);
    kit.letters().await;
    kit.auth.administration().disable_user(by(&root), user, &why(WHY)).await.expect("turned off");
    assert!(mara.authority(&second).await.is_none());
    assert_eq!(told(&kit, MARA).await, [Notice::AccountDisabled]);
    assert!(audited(&kit, "user.disabled", user, actor).await);
    kit.auth.administration().enable_user(by(&root), user, &why(WHY)).await.expect("turned on");
    assert!(mara.authority(&second).await.is_none(), "what was ended stays so");
    assert_eq!(told(&kit, MARA).await, [Notice::AccountEnabled]);
    assert!(audited(&kit, "user.enabled", user, actor).await);
    signed_in(&kit, &mut mara, MARA).await;

    // The owner sees that somebody did it, and not from where.
    let activity =
        kit.auth.self_service().activity(user, auth::self_service::activity::Filter::Changes, None).await.expect("answers");
    assert!(activity.rows.iter().filter(|entry| entry.by_other).count() == 5);
    assert!(activity.rows.iter().all(|entry| !entry.by_other || (entry.ip.is_none() && entry.device.is_none())));
}

/// What each action says when it may not be done, whichever it is.
async fn refusals(kit: &Kit, who: Actor<'_>, user: Uuid) -> Vec<ActionError> {
    let auth = &kit.auth;
    let invited = match auth.administration().invite(who, &address("new@example.org"), None).await.expect_err("refused") {
        InviteError::Act(error) => error,
        other => panic!("{other:?}"),
    };
    vec![
        auth.administration().disable_user(who, user, &why(WHY)).await.expect_err("refused"),
        auth.administration().enable_user(who, user, &why(WHY)).await.expect_err("refused"),
        auth.administration().end_user_sessions(who, user, &why(WHY)).await.expect_err("refused"),
        auth.administration().reset_user_two_factor(who, user, &why(WHY)).await.expect_err("refused"),
        auth.administration().set_admin(who, user, true, &why(WHY)).await.expect_err("refused"),
        auth.administration().set_admin(who, user, false, &why(WHY)).await.expect_err("refused"),
        invited,
    ]
}

#[tokio::test]
async fn only_an_administrator_who_has_just_proven_it_may_and_nothing_changes_else() {
    let kit = kit().await;
    let root = admin(&kit, "root@example.org").await;
    let mut mara = Visitor::at([198, 51, 100, 7]);
    let authority = signed_in(&kit, &mut mara, MARA).await;
    let user = authority.user;
    let ordinary = (mara, authority);
    let state = "select string_agg(u::text, ';' order by id) from users u";
    let before: String = sqlx::query_scalar(state).fetch_one(&kit.pool).await.expect("rows");

    for error in refusals(&kit, by(&ordinary), root.1.user).await {
        assert!(matches!(error, ActionError::NotAdmin), "{error:?}");
    }
    kit.clock.advance(Duration::minutes(11));
    for error in refusals(&kit, by(&root), user).await {
        assert!(matches!(error, ActionError::NotFresh), "{error:?}");
    }
    let after: String = sqlx::query_scalar(state).fetch_one(&kit.pool).await.expect("rows");
    assert_eq!(before, after);
    assert_eq!(kit.count("select count(*) from invites").await, 0);
}

#[tokio::test]
async fn the_last_administrator_stays() {
    let kit = kit().await;
    let root = admin(&kit, "root@example.org").await;
    for error in [
        kit.auth.administration().disable_user(by(&root), root.1.user, &why(WHY)).await.expect_err("the last"),
        kit.auth.administration().set_admin(by(&root), root.1.user, false, &why(WHY)).await.expect_err("the last"),
        kit.auth
            .administration()
            .disable_user(Actor::Operator, root.1.user, &why(WHY))
            .await
            .expect_err("the last, for an operator too"),
    ] {
        assert!(matches!(error, ActionError::LastAdmin), "{error:?}");
    }
    // One that is off counts as none.
    let other = kit.auth.users().create(&address("other@example.org"), true, None).await.expect("made");
    kit.auth.administration().disable_user(Actor::Operator, other, &why(WHY)).await.expect("not the last");
    let error = kit.auth.administration().set_admin(Actor::Operator, root.1.user, false, &why(WHY)).await.expect_err("the last");
    assert!(matches!(error, ActionError::LastAdmin), "{error:?}");
    // And one that is off can cease to be one.
    kit.auth.administration().set_admin(Actor::Operator, other, false, &why(WHY)).await.expect("it was no administrator left");
    assert!(matches!(
        kit.auth.administration().set_admin(Actor::Operator, other, false, &why(WHY)).await,
        Err(ActionError::Nothing)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_administrators_who_remove_each_other_at_once_leave_one() {
    let kit = kit().await;
    let second = kit.second().await;
    for round in 0..20 {
        let mut admins = Vec::new();
        for n in 0..2 {
            admins.push(kit.auth.users().create(&address(&format!("a{round}-{n}@example.org")), true, None).await.expect("made"));
        }
        let act = |auth: &Arc<Auth>, user: Uuid, off: bool| {
            let auth = auth.clone();
            tokio::spawn(async move {
                if off {
                    auth.administration().disable_user(Actor::Operator, user, &why(WHY)).await
                } else {
                    auth.administration().set_admin(Actor::Operator, user, false, &why(WHY)).await
                }
            })
        };
        let (a, b) = (act(&kit.auth, admins[1], round % 2 == 0), act(&second, admins[0], round % 3 == 0));
        let (a, b) = (a.await.expect("no panic"), b.await.expect("no panic"));
        let won = usize::from(a.is_ok()) + usize::from(b.is_ok());
        assert_eq!(won, 1, "round {round}: {a:?} {b:?}");
        let left = kit.count("select count(*) from users where is_admin and disabled_at is null").await;
        assert_eq!(left, 1, "round {round}");
        sqlx::query("update users set is_admin = false").execute(&kit.pool).await.expect("cleared");
    }
}

#[tokio::test]
async fn users_are_found_filtered_and_paged_by_address() {
    let kit = kit().await;
    let root = admin(&kit, "root@example.org").await;
    for n in 0..60 {
        kit.auth.users().create(&address(&format!("user{n:02}@example.net")), false, None).await.expect("made");
    }
    kit.auth.administration().invite(by(&root), &address("user30b@example.net"), None).await.expect("invited");
    let all = |filter: UserFilter| {
        let kit = &kit;
        async move {
            let (mut page, mut seen, mut number) =
                (kit.auth.administration().users(&filter, None).await.expect("answers"), Vec::new(), 1);
            assert_eq!(page.previous, None);
            loop {
                assert!(page.rows.len() <= PAGE);
                assert_eq!(page.from, Some(if page.rows.is_empty() { 0 } else { number }));
                number += i64::try_from(page.rows.len()).expect("few");
                seen.extend(page.rows.iter().map(|row| row.email.clone()));
                let Some(next) = page.next.clone() else { break };
                let first = page.rows.first().map(|row| row.id);
                page = kit.auth.administration().users(&filter, Some(&next)).await.expect("answers");
                let back = kit.auth.administration().users(&filter, page.previous.as_deref()).await.expect("answers");
                assert_eq!(back.rows.first().map(|row| row.id), first, "back to the page before");
            }
            assert_eq!(page.matching, i64::try_from(seen.len()).expect("few"));
            seen
        }
    };
    let everybody = all(UserFilter::default()).await;
    assert_eq!(everybody.len(), 62);
    assert!(everybody.is_sorted());
    let search = |text: &str| UserFilter { search: Some(text.to_owned()), ..UserFilter::default() };
    assert_eq!(all(search("USER30")).await, ["user30@example.net", "user30b@example.net"]);
    assert_eq!(all(search(&root.1.user.to_string())).await, ["root@example.org"]);
    assert_eq!(all(search("%")).await, [""; 0], "no pattern");
    let status = |status| UserFilter { status: Some(status), ..UserFilter::default() };
    assert_eq!(all(status(Status::Invited)).await, ["user30b@example.net"]);
    assert_eq!(all(status(Status::Active)).await.len(), 61);
    let off = kit.auth.administration().user_id(&address("user07@example.net")).await.expect("answers").expect("there");
    kit.auth.administration().disable_user(by(&root), off, &why(WHY)).await.expect("turned off");
    assert_eq!(all(status(Status::Disabled)).await, ["user07@example.net"]);
    let two_factor = |two_factor| UserFilter { two_factor: Some(two_factor), ..UserFilter::default() };
    assert_eq!(all(two_factor(true)).await, [""; 0]);
    assert_eq!(all(two_factor(false)).await.len(), 62);

    // Forty of them, one with two apps and one whose setup was never finished, are counted forwards and backwards as they are listed.
    sqlx::query(
        "insert into totp_credentials (id, user_id, name, secret, key_id, created_at, confirmed_at)
         select gen_random_uuid(), u.id, 'phone', '', '', u.created_at, case when u.email_key <> 'user40@example.net' then u.created_at end
         from users u left join (values (1), (2)) twice (n) on u.email_key = 'user00@example.net' where u.email_key <= 'user40@example.net' and not u.is_admin",
    )
    .execute(&kit.pool)
    .await
    .expect("set up");
    let with = all(two_factor(true)).await;
    assert_eq!((with.len(), with.first().map(String::as_str)), (40, Some("user00@example.net")));
    assert_eq!(all(two_factor(false)).await.len(), 22);
    assert_eq!(all(UserFilter { two_factor: Some(true), ..search("user1") }).await.len(), 10);
    assert_eq!(all(UserFilter { two_factor: Some(true), ..status(Status::Disabled) }).await, ["user07@example.net"]);
    assert_eq!(all(UserFilter { two_factor: Some(true), ..status(Status::Invited) }).await, [""; 0]);
}

#[tokio::test]
async fn who_looks_at_an_account_is_recorded_and_invitations_are_no_accounts() {
    let kit = kit().await;
    let root = admin(&kit, "root@example.org").await;
    let mut mara = Visitor::at([198, 51, 100, 7]);
    let user = signed_in(&kit, &mut mara, MARA).await.user;
    let seen = kit.auth.administration().user(by(&root), user).await.expect("answers").expect("there");
    assert_eq!((seen.row.email.as_str(), seen.row.status, seen.row.sessions, seen.sessions.len()), (MARA, Status::Active, 1, 1));
    let viewed = "select count(*) from auth_audit where event_type = 'user.viewed' and actor_id is not null";
    assert_eq!(kit.count(viewed).await, 1);
    let invited = kit.auth.administration().invite(by(&root), &address("new@example.org"), None).await.expect("invited");
    for nobody in [invited, Uuid::nil()] {
        assert!(kit.auth.administration().user(by(&root), nobody).await.expect("answers").is_none());
    }
    assert_eq!(kit.count(viewed).await, 1, "nobody was seen");
    let letter = kit.letters().await.pop().expect("the invitation");
    let Content::Invite { token, inviter } = letter.content else { panic!("{letter:?}") };
    assert_eq!(inviter.as_deref(), Some("root@example.org"));
    let state = kit.auth.one_time().peek_invite(&token).await.expect("answers");
    assert_eq!(state, InviteState::Live { email: address("new@example.org"), inviter });
    assert!(matches!(kit.auth.administration().invite(by(&root), &address(MARA), None).await, Err(InviteError::AccountExists)));
}

#[tokio::test]
async fn everybodys_sessions_end_or_those_since_a_time() {
    let kit = kit().await;
    let (mut early, mut late) = (Visitor::at([198, 51, 100, 7]), Visitor::at([198, 51, 100, 8]));
    signed_in(&kit, &mut early, MARA).await;
    kit.clock.advance(Duration::hours(1));
    let since = kit.auth.now();
    signed_in(&kit, &mut late, "eve@example.org").await;
    let asked = Visitor::at([198, 51, 100, 9]);
    kit.auth.sign_in().request_link(&address("pat@example.org"), &asked.nonce, asked.proof(), &asked.from).await.expect("taken");
    assert_eq!(kit.count(UNDER_WAY).await, 1);
    assert_eq!(
        kit.auth
            .administration()
            .end_everybodys_sessions(Some(kit.auth.now() + Duration::SECOND), &why(WHY))
            .await
            .expect("nothing since"),
        0
    );
    assert_eq!(kit.count(UNDER_WAY).await, 1, "it was asked for before");
    assert_eq!(kit.auth.administration().end_everybodys_sessions(Some(since), &why(WHY)).await.expect("ended"), 1);
    assert!(early.authority(&kit.auth).await.is_some() && late.authority(&kit.auth).await.is_none());
    assert_eq!(kit.count(UNDER_WAY).await, 0, "whoever has a link or a code would be in again");
    assert_eq!(kit.auth.administration().end_everybodys_sessions(None, &why(WHY)).await.expect("ended"), 1);
    assert!(early.authority(&kit.auth).await.is_none());
    assert_eq!(kit.auth.administration().end_everybodys_sessions(None, &why(WHY)).await.expect("nothing left"), 0);
    let told = "select count(*) from auth_audit where event_type = 'sessions.ended' and details->>'reason' = 'ticket 7'";
    assert_eq!(kit.count(told).await, 4, "who did it and why, however many there were");
}

#[tokio::test]
async fn nobody_is_invited_who_could_not_sign_up() {
    let kit = Kit::with(Policy { passwordless_auth: true, sign_up: SignUp::Closed, ..Policy::default() }).await;
    let invited = kit.auth.administration().invite(Actor::Operator, &address("new@example.org"), None).await;
    assert!(matches!(invited, Err(InviteError::Closed)), "{invited:?}");
    let made = kit.auth.users().create(&address("new@example.org"), false, None).await;
    assert!(matches!(made, Err(CreateUserError::NotAdmitted)), "{made:?}");
    assert!(kit.letters().await.is_empty());
}

#[tokio::test]
async fn a_long_list_is_counted_as_far_as_anybody_reads() {
    let kit = kit().await;
    let many = "insert into users (id, email, email_key, created_at)
        select gen_random_uuid(), email, email, '2026-01-01'
        from (select 'user' || lpad(n::text, 6, '0') || '@example.net' as email from generate_series(1, 10051) n) many";
    sqlx::query(many).execute(&kit.pool).await.expect("inserted");
    let all = UserFilter::default();
    let first = kit.auth.administration().users(&all, None).await.expect("answers");
    assert_eq!((first.matching, first.more, first.from), (COUNTED, true, Some(1)));
    let few = UserFilter { search: Some("user0000".to_owned()), ..UserFilter::default() };
    let found = kit.auth.administration().users(&few, None).await.expect("answers");
    assert_eq!((found.matching, found.more), (99, false));

    // Beyond the count there are pages all the same, and a way back.
    let late: Uuid = sqlx::query_scalar("select id from users where email_key = 'user010030@example.net'")
        .fetch_one(&kit.pool)
        .await
        .expect("there");
    let page = kit.auth.administration().users(&all, Some(&format!("a{}", late.simple()))).await.expect("answers");
    assert_eq!((page.rows.len(), page.from, page.next.as_deref()), (21, None, None));
    let back = kit.auth.administration().users(&all, page.previous.as_deref()).await.expect("answers");
    assert_eq!(back.rows.last().map(|row| row.email.as_str()), Some("user010030@example.net"));
}
