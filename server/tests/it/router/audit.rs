//! The audit log on the pages, over HTTP: narrowed down, and taken along.

use app::routes;
use http::{Method, StatusCode, header};
use time::Duration;

use super::{admin::Admin, request, send};

#[tokio::test]
async fn an_address_is_looked_up_and_never_in_the_url() {
    let admin = Admin::new().await;
    let searched = admin.post(routes::ADMIN_AUDIT, "q=MARA%40example.org&period=7d").await;
    assert_eq!(searched.leads, format!("{}?q={}&period=7d", routes::ADMIN_AUDIT, admin.mara));
    let list = admin.get(&searched.leads).await;
    assert!(list.page.contains("Account created") && list.page.contains("m•••••@example.org") && !list.page.contains("mara@"));
    let nobody = admin.post(routes::ADMIN_AUDIT, "q=nobody%40example.org").await;
    assert_eq!(nobody.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(nobody.page.contains("No account has this address") && nobody.page.contains(r#"value="nobody@example.org""#));
}

#[tokio::test]
async fn every_filter_narrows_and_what_is_none_filters_nothing() {
    let admin = Admin::new().await;
    for (query, found) in [
        ("", true),
        ("?event=sign-in", true),
        ("?event=mail", false),
        ("?event=sign-in&outcome=failed", false),
        ("?q=session.created", true),
        ("?q=totp.refused", false),
        ("?q=203.0.113.99", false),
        ("?q=a-request-of-a-proxy", false),
        ("?period=all", true),
        ("?event=%00&outcome=x&period=y&at=%00", true),
        // An id of the calendar's last minute, and places in the list that nobody gave out.
        ("?q=e677d21e-f1a0-7000-8000-000000000007&period=all", false),
        ("?at=n253402300799999999-ffffffffffffffffffffffffffffffff", false),
        ("?at=n0-00000000000000000000000000000000", true),
        ("?at=o253402300799999999-ffffffffffffffffffffffffffffffff", true),
        ("?at=o0-00000000000000000000000000000000", false),
        ("?at=o9223372036854775807-ffffffffffffffffffffffffffffffff", true),
        ("?at=o-9223372036854775808-ffffffffffffffffffffffffffffffff", true),
    ] {
        let list = admin.get(&format!("{}{query}", routes::ADMIN_AUDIT)).await;
        assert_eq!(list.status, StatusCode::OK, "{query}");
        assert_eq!(list.page.contains("First step of signing in"), found, "{query}");
    }
    let odd = admin.get(&format!("{}?q=%3Cscript%3E", routes::ADMIN_AUDIT)).await;
    assert_eq!(odd.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(!odd.page.contains("<script"));
    let unusual = admin.get(&format!("{}?show=unusual", routes::ADMIN_AUDIT)).await;
    assert!(unusual.status == StatusCode::OK && unusual.page.contains("Unusual"));
}

#[tokio::test]
async fn a_download_is_recorded_never_stored_and_only_by_post() {
    let admin = Admin::new().await;
    let looked = admin.get(routes::ADMIN_AUDIT_EXPORT).await;
    assert_eq!(looked.leads, routes::ADMIN_AUDIT);
    assert!(admin.recorded("audit.exported").await.is_none(), "to look is not to take");

    let response = send(&admin.app, request(&Method::POST, routes::ADMIN_AUDIT_EXPORT, &admin.cookies, "event=sign-in")).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/csv; charset=utf-8");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    assert_eq!(response.headers()[header::CONTENT_DISPOSITION], "attachment; filename=\"latchkey-audit-2026-11-24.csv\"");
    let file = axum::body::to_bytes(response.into_body(), usize::MAX).await.expect("a file");
    let file = String::from_utf8(file.into()).expect("UTF-8");
    assert!(file.starts_with("id,created_at,event_type,") && file.contains(",session.created,"), "{file}");
    assert!(!file.contains("totp.enrolled") && !file.contains("@example.org"));
    let (actor, details) = admin.recorded("audit.exported").await.expect("recorded");
    assert_eq!((actor, details["format"].as_str(), details["by"].as_str()), (admin.root, Some("csv"), Some("admin")));

    admin.kit.clock.advance(Duration::minutes(11));
    let stale = admin.post(routes::ADMIN_AUDIT_EXPORT, "").await;
    assert!(stale.leads.starts_with(routes::REAUTH), "{}", stale.leads);
}
