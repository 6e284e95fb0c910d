//! Another account's ids answer exactly as ids that don't exist.

use app::routes;
use auth::factors::totp;
use axum::{Router, body::to_bytes};
use http::{HeaderMap, Method, StatusCode, header};
use testkit::Kit;
use uuid::Uuid;

use super::{config, enrol, keep, request, send, service, sign_in_by_link};

/// All of an answer but the request's own id.
async fn answer(app: &Router, path: &str, cookies: &str, body: &str) -> (StatusCode, HeaderMap, String) {
    let (mut parts, body) = send(app, request(&Method::POST, path, cookies, body)).await.into_parts();
    let id = parts.headers.remove("x-request-id").expect("an id");
    let page = to_bytes(body, usize::MAX).await.expect("a page");
    let page = String::from_utf8(page.into()).expect("UTF-8").replace(id.to_str().expect("ASCII"), "{id}");
    (parts.status, parts.headers, page)
}

#[tokio::test]
async fn another_accounts_ids_look_like_none() {
    let kit = Kit::new().await;
    let app = service(&config(&[("LIMITS", "off")]), kit.auth.clone());
    let mut cookies = Vec::new();
    for email in ["mara@example.org", "eve@example.org"] {
        let secret = enrol(&kit, email, false).await;
        let half = sign_in_by_link(&kit, &app, email).await;
        let code = secret.code(totp::step(kit.auth.now())).reveal().replace(' ', "");
        let body = format!("code={code}&trust_device=on");
        let entered = send(&app, request(&Method::POST, routes::LOGIN_TWO_FACTOR, &half, &body)).await;
        assert_eq!(entered.headers()[header::LOCATION], routes::ACCOUNT);
        cookies.push(keep(&half, &entered));
    }
    let of = async |table: &'static str, column: &'static str, email: &'static str| -> Uuid {
        let sql = format!(
            "select {column} from {table} t join users u on u.id = t.user_id where u.email = $1 order by t.created_at desc limit 1"
        );
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(email).fetch_one(&kit.pool).await.expect("a row")
    };
    let before: String = sqlx::query_scalar(STATE).fetch_one(&kit.pool).await.expect("rows");
    for (path, field, table, column) in [
        (routes::SESSIONS_END, "id", "sessions", "t.id"),
        (routes::DEVICES_REVOKE, "id", "trusted_devices", "t.id"),
        (routes::DEVICES_FORGET, "id", "known_browsers", "encode(substr(sha256(t.token_hash), 1, 16), 'hex')::uuid"),
        (routes::TWO_FACTOR_REMOVE, "id", "totp_credentials", "t.id"),
        (routes::BACKUP_CODES_SAVED, "saved=on&set", "backup_codes", "t.set_id"),
    ] {
        let theirs = of(table, column, "eve@example.org").await;
        let mut answers = Vec::new();
        for id in [theirs, Uuid::from_u128(7)] {
            answers.push(answer(&app, path, &cookies[0], &format!("{field}={id}")).await);
        }
        assert_eq!(answers[0], answers[1], "{path}");
    }
    let after: String = sqlx::query_scalar(STATE).fetch_one(&kit.pool).await.expect("rows");
    assert_eq!(before, after, "and nothing of theirs has changed");

    // The positive twin: one's own id does something.
    let own = of("trusted_devices", "t.id", "mara@example.org").await;
    answer(&app, routes::DEVICES_REVOKE, &cookies[0], &format!("id={own}")).await;
    let after: String = sqlx::query_scalar(STATE).fetch_one(&kit.pool).await.expect("rows");
    assert_ne!(before, after);
}

/// What could be ended, removed or taken into use.
const STATE: &str = "select string_agg(line, ';' order by line) from (
    select s.id || coalesce(s.revoked_at::text, '') from sessions s union all select d.id || coalesce(d.revoked_at::text, '') from trusted_devices d
    union all select t.id::text from totp_credentials t union all select b.id || coalesce(b.saved_at::text, '') from backup_codes b
    union all select k.user_id || k.token_hash::text from known_browsers k) rows (line)";
