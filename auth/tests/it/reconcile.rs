//! Each contradiction, made by hand in the tables, is found; and what the product does by itself never makes one.

use auth::{
    delivery::Content,
    factors::totp,
    identity::Actor,
    operations::reconcile::Finding,
    policy::{Policy, RequireTwoFactor, SignUp, limits::Limits},
    sign_in::{
        first_factor::{Outcome, SessionChange},
        second_factor::{Factor, PendingSignIn},
        step_up::StepUpSession,
    },
};
use testkit::{Kit, Visitor, address, handover};
use time::Duration;
use uuid::Uuid;

async fn kit() -> Kit {
    let limits = Limits::off();
    let policy = Policy { passwordless_auth: true, sign_up: SignUp::Open, limits, ..Policy::default() };
    Kit::with(Policy { require_two_factor: RequireTwoFactor::None, ..policy }).await
}

async fn findings(kit: &Kit) -> Vec<Finding> {
    kit.auth.operations().reconcile(kit.auth.now() - auth::operations::reconcile::WINDOW).await.expect("the database answers")
}

async fn kinds(kit: &Kit) -> Vec<String> {
    findings(kit).await.into_iter().map(|finding| finding.kind).collect()
}

async fn signed_in(kit: &Kit, email: &str) -> Visitor {
    let mut visitor = Visitor::at([203, 0, 113, 24]);
    visitor.give_first_factor(kit, &address(email)).await;
    visitor
}

async fn asked(kit: &Kit) -> Visitor {
    let visitor = Visitor::at([203, 0, 113, 24]);
    kit.auth
        .sign_in()
        .request_link(&address("mara@example.org"), &visitor.nonce, visitor.proof(), &visitor.from)
        .await
        .expect("taken");
    visitor
}

async fn run(kit: &Kit, sql: &'static str) {
    let changed = sqlx::query(sql).execute(&kit.pool).await.expect("the statement runs").rows_affected();
    assert_eq!(changed, 1, "{sql}");
}

async fn the(kit: &Kit, sql: &'static str) -> Uuid {
    sqlx::query_scalar(sql).fetch_one(&kit.pool).await.expect("one id")
}

/// Everything that makes links, codes, sessions and mails, the ways in and the ways they end.
#[tokio::test]
async fn what_people_do_contradicts_nothing() {
    let kit = kit().await;

    // A link that signs in, one that is replaced, one that is cancelled, one that nobody opens, one that is refused elsewhere.
    let mut mara = signed_in(&kit, "mara@example.org").await;
    let visitor = asked(&kit).await;
    kit.auth
        .sign_in()
        .request_link(&address("mara@example.org"), &visitor.nonce, visitor.proof(), &visitor.from)
        .await
        .expect("taken");
    let (token, _) = kit.sign_in_mail().await;
    let stranger = Visitor::at([198, 51, 100, 7]);
    kit.auth.sign_in().confirm_link(&token, stranger.proof(), &handover(), &stranger.from).await.expect_err("another browser");
    kit.auth.sign_in().cancel_link(&token, &stranger.from).await.expect("cancelled");
    asked(&kit).await;

    // Invited, by an operator.
    kit.auth.administration().invite(Actor::Operator, &address("ilse@example.org"), None).await.expect("invited");

    // Stepped up by mail, and half-way to another address.
    let authority = mara.authority(&kit.auth).await.expect("signed in");
    kit.auth.sign_in().mail_step_up_code(&authority, &mara.from).await.expect("queued");
    kit.auth.self_service().request_address_change(&authority, &address("mara@example.net"), &mara.from).await.expect("queued");
    assert!(kit.letters().await.iter().any(|letter| matches!(letter.content, Content::EmailChange { .. })));
    assert_eq!(findings(&kit).await, [], "while links and codes wait to be used");

    // Two-factor: set up, half signed in, signed in.
    kit.auth.self_service().start_two_factor_setup(&authority, &mara.from).await.expect("begun");
    let secret = kit.auth.self_service().two_factor_setup(&authority).await.expect("answers").expect("begun");
    let (old, fresh) = (mara.session.expect("a session"), handover().fresh);
    let stepping = StepUpSession { authority: &authority, old, fresh };
    let code = secret.code(totp::step(kit.auth.now()));
    kit.auth.self_service().confirm_two_factor_setup(stepping, &code, "Phone", &mara.from).await.expect("right").expect("codes");
    mara.session = Some(fresh);
    let mut elsewhere = Visitor::at([198, 51, 100, 7]);
    let outcome = elsewhere.give_first_factor(&kit, &address("mara@example.org")).await;
    assert!(matches!(outcome, Outcome::SecondFactorNeeded));
    assert_eq!(findings(&kit).await, [], "half signed in");
    let whole = SessionChange { old: elsewhere.session, ..handover() };
    let half = PendingSignIn { half: elsewhere.session.expect("a session"), user: authority.user, handover: &whole };
    let code = secret.code(totp::step(kit.auth.now()));
    kit.auth
        .sign_in()
        .enter_second_factor(half, Factor::App(&code), true, elsewhere.proof(), &elsewhere.from)
        .await
        .expect("right");
    kit.letters().await;
    assert_eq!(findings(&kit).await, []);

    // Signed out, gone, and an hour later.
    kit.auth.sessions().sign_out(whole.fresh, &elsewhere.from).await.expect("signed out");
    kit.clock.advance(Duration::hours(1));
    kit.letters().await;
    kit.auth.operations().housekeep().await.expect("tidied");
    assert_eq!(findings(&kit).await, []);
    kit.auth.operations().reconcile_hourly().await.expect("looked");
    assert_eq!(kit.count("select count(*) from auth_audit where event_type = 'reconcile.finished'").await, 0);
}

#[tokio::test]
async fn a_link_redeemed_twice_is_found_by_the_audit() {
    let kit = kit().await;
    signed_in(&kit, "mara@example.org").await;
    run(
        &kit,
        "insert into auth_audit (id, created_at, event_type, user_id, details)
         select gen_random_uuid(), created_at + interval '1 second', event_type, user_id, details
         from auth_audit where event_type = 'link.redeemed'",
    )
    .await;
    let link = the(&kit, "select id from magic_links").await;
    let found = findings(&kit).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].kind.as_str(), &found[0].ids), ("link_redeemed_twice", &vec![("link".to_owned(), link)]));
    assert_eq!(found[0].at, kit.auth.now() + Duration::seconds(1));
}

#[tokio::test]
async fn a_link_and_the_audit_that_disagree_are_found() {
    let kit = kit().await;
    asked(&kit).await;
    kit.letters().await;
    run(&kit, "update magic_links set used = 1, used_at = created_at, used_by = 'link'").await;
    assert_eq!(kinds(&kit).await, ["link_used_without_audit"]);

    let kit = self::kit().await;
    signed_in(&kit, "mara@example.org").await;
    run(&kit, "update magic_links set used_at = used_at - interval '1 millisecond'").await;
    assert_eq!(kinds(&kit).await, ["link_used_at_differs"]);

    let kit = self::kit().await;
    signed_in(&kit, "mara@example.org").await;
    run(&kit, "update magic_links set used = 0, used_at = null, used_by = null").await;
    let mut found = kinds(&kit).await;
    found.sort_unstable();
    assert_eq!(found, ["link_redeemed_and_unused", "session_without_redeemed_link"], "it could be used again");
}

#[tokio::test]
async fn sessions_that_no_link_made_are_found() {
    for (sql, named) in [
        ("update sessions set magic_link_id = null where user_id is not null", ["session", "user"].as_slice()),
        ("update sessions set magic_link_id = gen_random_uuid() where user_id is not null", &["session", "user", "link"]),
    ] {
        let kit = kit().await;
        signed_in(&kit, "mara@example.org").await;
        run(&kit, sql).await;
        let found = findings(&kit).await;
        let names: Vec<&str> = found.iter().flat_map(|finding| finding.ids.iter().map(|(name, _)| name.as_str())).collect();
        assert_eq!((found[0].kind.as_str(), names.as_slice()), ("session_without_redeemed_link", named), "{sql}");
    }
}

#[tokio::test]
async fn two_sessions_of_one_link_are_found() {
    let kit = kit().await;
    signed_in(&kit, "mara@example.org").await;
    signed_in(&kit, "mara@example.org").await;
    run(
        &kit,
        "update sessions set magic_link_id = (select magic_link_id from sessions where user_id is not null order by id limit 1)
         where id = (select id from sessions where user_id is not null order by id desc limit 1)",
    )
    .await;
    let found = findings(&kit).await;
    assert_eq!((found.len(), found[0].kind.as_str(), found[0].ids.len()), (1, "link_with_several_sessions", 3), "{found:?}");
    run(
        &kit,
        "update sessions set revoked_at = created_at, revoke_reason = 'replaced'
         where id = (select id from sessions where user_id is not null order by id limit 1)",
    )
    .await;
    assert_eq!(findings(&kit).await, [], "one that took another's place");
}

#[tokio::test]
async fn links_whose_mail_never_comes_are_found() {
    let kit = kit().await;
    asked(&kit).await;
    assert_eq!(findings(&kit).await, [], "it is queued");
    run(&kit, "update mail_outbox set state = 'failed', settled_at = created_at").await;
    assert_eq!(kinds(&kit).await, ["token_of_failed_mail"]);
    run(&kit, "delete from mail_outbox").await;
    let found = findings(&kit).await;
    assert_eq!((found[0].kind.as_str(), found[0].ids[0].0.as_str()), ("token_without_mail", "link"));
    kit.clock.advance(Duration::minutes(10));
    assert_eq!(findings(&kit).await, [], "a dead link is nobody's");

    // The other kinds.
    let kit = self::kit().await;
    kit.auth.administration().invite(Actor::Operator, &address("ilse@example.org"), None).await.expect("invited");
    let mara = signed_in(&kit, "mara@example.org").await;
    let authority = mara.authority(&kit.auth).await.expect("signed in");
    kit.auth.sign_in().mail_step_up_code(&authority, &mara.from).await.expect("queued");
    kit.auth.self_service().request_address_change(&authority, &address("mara@example.net"), &mara.from).await.expect("queued");
    assert_eq!(findings(&kit).await, []);
    sqlx::query("delete from mail_outbox").execute(&kit.pool).await.expect("deleted");
    let mut names: Vec<String> = findings(&kit).await.iter().map(|finding| finding.ids[0].0.clone()).collect();
    names.sort_unstable();
    assert_eq!(names, ["email_change", "invite", "step_up_code"]);
}

/// As a restore does that leaves the constraints out.
#[tokio::test]
async fn codes_of_an_account_that_is_gone_are_found() {
    let kit = kit().await;
    let mara = signed_in(&kit, "mara@example.org").await;
    let authority = mara.authority(&kit.auth).await.expect("signed in");
    kit.auth.sign_in().mail_step_up_code(&authority, &mara.from).await.expect("queued");
    kit.auth.self_service().request_address_change(&authority, &address("mara@example.net"), &mara.from).await.expect("queued");
    kit.letters().await;
    let owner = kit.database.owner().await;
    sqlx::raw_sql(
        "alter table step_up_codes drop constraint step_up_codes_user_id_fkey, drop constraint step_up_codes_session_id_fkey;
         alter table email_changes drop constraint email_changes_user_id_fkey, drop constraint email_changes_session_id_fkey;
         delete from users",
    )
    .execute(&owner)
    .await
    .expect("the owner may");
    let found = findings(&kit).await;
    let mut names: Vec<(&str, &str)> = found.iter().map(|finding| (finding.kind.as_str(), finding.ids[0].0.as_str())).collect();
    names.sort_unstable();
    assert_eq!(names, [("token_without_owner", "email_change"), ("token_without_owner", "step_up_code")]);
}

#[tokio::test]
async fn mail_that_nobody_sends_is_found() {
    let kit = kit().await;
    kit.auth.administration().invite(Actor::Operator, &address("ilse@example.org"), None).await.expect("invited");
    kit.clock.advance(Duration::minutes(9));
    assert_eq!(findings(&kit).await, [], "a full queue takes a while");
    // Claimed by a process that goes on saying that it sends it.
    run(&kit, "update mail_outbox set lease_until = created_at + interval '1 day', leased_by = gen_random_uuid()").await;
    kit.clock.advance(Duration::minutes(2));
    assert_eq!(kinds(&kit).await, ["mail_overdue"]);
    run(&kit, "update mail_outbox set deadline = created_at").await;
    assert_eq!(kinds(&kit).await, ["mail_past_deadline"]);
    kit.clock.advance(Duration::days(3));
    assert_eq!(kinds(&kit).await, ["mail_past_deadline"], "however long ago");
}

#[tokio::test]
async fn one_looks_no_further_back_than_asked_and_never_further_than_links_are_kept() {
    let kit = kit().await;
    signed_in(&kit, "mara@example.org").await;
    run(&kit, "update sessions set magic_link_id = null where user_id is not null").await;
    let at = kit.auth.now();
    kit.clock.advance(Duration::hours(25));
    let since = async |since| kit.auth.operations().reconcile(since).await.expect("the database answers").len();
    assert_eq!((since(kit.auth.now() - Duration::hours(24)).await, since(at - Duration::seconds(1)).await), (0, 1));
    kit.clock.advance(Duration::days(90));
    assert_eq!(since(at - Duration::days(1)).await, 0);
}

/// Two servers, one hour: one row, with counts and no ids.
#[tokio::test]
async fn the_hourly_run_is_one_servers_and_leaves_a_row_where_it_found_something() {
    let kit = kit().await;
    let second = kit.second().await;
    signed_in(&kit, "mara@example.org").await;
    run(&kit, "update sessions set magic_link_id = null where user_id is not null").await;
    for server in [&kit.auth, &second, &kit.auth] {
        server.operations().reconcile_hourly().await.expect("looked");
    }
    let rows: Vec<serde_json::Value> = sqlx::query_scalar("select details from auth_audit where event_type = 'reconcile.finished'")
        .fetch_all(&kit.pool)
        .await
        .expect("readable");
    assert_eq!(rows, [serde_json::json!({ "findings": { "session_without_redeemed_link": 1 } })]);
    kit.clock.advance(Duration::hours(1));
    second.operations().reconcile_hourly().await.expect("looked");
    let again = "select count(*) from auth_audit where event_type = 'reconcile.finished'";
    assert_eq!(kit.count(again).await, 2, "it lasts");
}
