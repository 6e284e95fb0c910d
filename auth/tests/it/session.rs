//! Sessions on a real database, with the clock moved.

use auth::crypto::{SessionKey, random, sha256};
use serde_json::json;
use testkit::{Kit, Visitor, address, handover};
use time::Duration;

async fn signed_in(kit: &Kit, visitor: &Visitor) -> SessionKey {
    kit.auth
        .sign_in()
        .request_link(&address("mara@example.org"), &visitor.nonce, visitor.proof(), &visitor.from)
        .await
        .expect("taken");
    let (token, _) = kit.sign_in_mail().await;
    let session = handover();
    kit.auth.sign_in().confirm_link(&token, visitor.proof(), &session, &visitor.from).await.expect("live");
    session.fresh
}

async fn is_live(kit: &Kit, key: SessionKey) -> bool {
    kit.auth.sessions().load(key).await.expect("the database answers").is_some()
}

#[tokio::test]
async fn an_unused_session_dies_after_a_day_and_a_used_one_after_thirty() {
    let kit = Kit::new().await;
    let visitor = Visitor::at([203, 0, 113, 24]);
    let unused = signed_in(&kit, &visitor).await;
    kit.clock.advance(Duration::days(1) - Duration::seconds(1));
    assert!(is_live(&kit, unused).await, "this look is a use");
    kit.clock.advance(Duration::days(1));
    assert!(!is_live(&kit, unused).await);
    kit.clock.advance(Duration::hours(1));
    assert!(!is_live(&kit, unused).await, "and stays dead");

    let used = signed_in(&kit, &visitor).await;
    for hour in 1..30 * 24 {
        kit.clock.advance(Duration::hours(1));
        assert!(is_live(&kit, used).await, "hour {hour}");
    }
    kit.clock.advance(Duration::hours(1));
    assert!(!is_live(&kit, used).await, "however much it is used");
}

#[tokio::test]
async fn last_seen_moves_at_most_once_a_minute() {
    let kit = Kit::new().await;
    let key = signed_in(&kit, &Visitor::at([203, 0, 113, 24])).await;
    let seen = "select extract(epoch from last_seen_at)::bigint from sessions where user_id is not null";
    let start = kit.count(seen).await;
    kit.clock.advance(Duration::seconds(59));
    is_live(&kit, key).await;
    assert_eq!(kit.count(seen).await, start);
    kit.clock.advance(Duration::seconds(1));
    is_live(&kit, key).await;
    assert_eq!(kit.count(seen).await, start + 60);
}

#[tokio::test]
async fn a_revoked_session_is_dead_at_once_everywhere_and_saving_does_not_wake_it() {
    let kit = Kit::new().await;
    let second = kit.second().await;
    let visitor = Visitor::at([203, 0, 113, 24]);
    let key = signed_in(&kit, &visitor).await;
    assert!(second.sessions().load(key).await.expect("answers").is_some());
    kit.auth.sessions().sign_out(key, &visitor.from).await.expect("signed out");
    assert!(second.sessions().load(key).await.expect("answers").is_none());
    // A request that was under way when it happened saves what it had.
    second.sessions().save(key, &json!({ "visit": {} })).await.expect("no error");
    assert!(second.sessions().load(key).await.expect("answers").is_none());
    kit.auth.sessions().sign_out(key, &visitor.from).await.expect("twice does no harm");
    assert_eq!(kit.count("select count(*) from auth_audit where event_type = 'session.revoked'").await, 1);
}

#[tokio::test]
async fn disabling_an_account_ends_its_sessions_at_the_next_request() {
    let kit = Kit::new().await;
    let key = signed_in(&kit, &Visitor::at([203, 0, 113, 24])).await;
    sqlx::query("update users set disabled_at = now()").execute(&kit.pool).await.expect("disabled");
    assert!(!is_live(&kit, key).await);
}

#[tokio::test]
async fn signing_in_again_takes_the_old_sessions_place() {
    let kit = Kit::new().await;
    let visitor = Visitor::at([203, 0, 113, 24]);
    let old = signed_in(&kit, &visitor).await;
    kit.clock.advance(Duration::minutes(1));
    kit.auth
        .sign_in()
        .request_link(&address("mara@example.org"), &visitor.nonce, visitor.proof(), &visitor.from)
        .await
        .expect("taken");
    let (token, _) = kit.sign_in_mail().await;
    let session = auth::sign_in::first_factor::SessionChange { old: Some(old), ..handover() };
    kit.auth.sign_in().confirm_link(&token, visitor.proof(), &session, &visitor.from).await.expect("live");
    assert!(!is_live(&kit, old).await);
    assert!(is_live(&kit, session.fresh).await);
}

#[tokio::test]
async fn an_id_from_before_the_sign_in_never_gets_authority() {
    let kit = Kit::new().await;
    let visitor = Visitor::at([203, 0, 113, 24]);
    let planted = SessionKey::of(random());
    assert!(kit.auth.sessions().create(planted, &json!({})).await.expect("made"));
    assert!(!kit.auth.sessions().create(planted, &json!({})).await.expect("an id is taken once"));
    kit.auth
        .sign_in()
        .request_link(&address("mara@example.org"), &visitor.nonce, visitor.proof(), &visitor.from)
        .await
        .expect("taken");
    let (token, _) = kit.sign_in_mail().await;
    let session = auth::sign_in::first_factor::SessionChange { fresh: planted, ..handover() };
    kit.auth.sign_in().confirm_link(&token, visitor.proof(), &session, &visitor.from).await.expect_err("a row of that id exists");
    let stored = kit.auth.sessions().load(planted).await.expect("answers").expect("the visitor's row");
    assert!(stored.authority.is_none());
}

#[tokio::test]
async fn a_visitors_session_lasts_an_hour_and_stores_what_it_is_given() {
    let kit = Kit::new().await;
    let key = SessionKey::of(random());
    kit.auth.sessions().create(key, &json!({ "a": 1 })).await.expect("made");
    kit.auth.sessions().save(key, &json!({ "a": 2 })).await.expect("saved");
    let stored = kit.auth.sessions().load(key).await.expect("answers").expect("live");
    assert_eq!(stored.data, json!({ "a": 2 }));
    kit.clock.advance(Duration::hours(1));
    assert!(!is_live(&kit, key).await);
}

#[tokio::test]
async fn a_row_holds_the_hash_of_its_id_and_not_the_id() {
    let kit = Kit::new().await;
    let id: [u8; 16] = random();
    kit.auth.sessions().create(SessionKey::of(id), &json!({})).await.expect("made");
    let row: String = sqlx::query_scalar("select s::text from sessions s").fetch_one(&kit.pool).await.expect("a row");
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    assert!(row.contains(&hex(&sha256(&id))) && !row.contains(&hex(&id)), "{row}");
}

#[tokio::test]
async fn a_token_of_another_audience_is_no_cookie() {
    let kit = Kit::new().await;
    let key = signed_in(&kit, &Visitor::at([203, 0, 113, 24])).await;
    sqlx::query("update sessions set audience = 'api'").execute(&kit.pool).await.expect("changed");
    assert!(!is_live(&kit, key).await);
}

#[tokio::test]
async fn housekeeping_deletes_what_time_made_useless_and_nothing_else() {
    let kit = Kit::new().await;
    let key = signed_in(&kit, &Visitor::at([203, 0, 113, 24])).await;
    let visitor = SessionKey::of(random());
    kit.auth.sessions().create(visitor, &json!({})).await.expect("made");
    kit.clock.advance(Duration::hours(2));
    kit.auth.operations().housekeep().await.expect("done");
    assert!(is_live(&kit, key).await);
    assert_eq!(kit.count("select count(*) from sessions").await, 1);
    assert_eq!(kit.count("select count(*) from magic_links").await, 1);
    assert_eq!(
        kit.count("select count(*) from pg_class where relname in ('auth_audit_202611', 'auth_audit_202612')").await,
        1,
        "this month has rows in the default partition already, the next gets its own"
    );
    kit.clock.advance(Duration::days(200));
    kit.auth.operations().housekeep().await.expect("done");
    assert_eq!(kit.count("select count(*) from sessions").await + kit.count("select count(*) from magic_links").await, 0);
    assert!(kit.count("select count(*) from auth_audit").await > 0, "the audit stays");
}

#[tokio::test]
async fn a_visitors_session_outlives_its_sign_in_by_a_minute_and_without_power() {
    let kit = Kit::new().await;
    let visitor = Visitor::at([203, 0, 113, 24]);
    let before = SessionKey::of(random());
    assert!(kit.auth.sessions().create(before, &json!({})).await.expect("made"));
    kit.auth
        .sign_in()
        .request_link(&address("mara@example.org"), &visitor.nonce, visitor.proof(), &visitor.from)
        .await
        .expect("taken");
    let (token, _) = kit.sign_in_mail().await;
    let session = auth::sign_in::first_factor::SessionChange { old: Some(before), ..handover() };
    kit.auth.sign_in().confirm_link(&token, visitor.proof(), &session, &visitor.from).await.expect("live");
    let stored = kit.auth.sessions().load(before).await.expect("answers").expect("for a second press under way");
    assert!(stored.authority.is_none());
    kit.clock.advance(Duration::minutes(1));
    assert!(!is_live(&kit, before).await);
}
