//! The API: whom it lets in, what it says when something is wrong, and that its document tells the truth.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use app::routes;
use auth::{
    Auth,
    crypto::Keys,
    delivery::Content,
    factors::totp,
    flag::{Change, Of, PASSWORDLESS_AUTH, bucket},
    identity::{Actor, Scope},
    policy::{
        Policy, RequireTwoFactor, SignUp,
        limits::{Limit, Limits, Rate},
    },
};
use axum::{Router, body::Body, routing::get};
use http::{Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use server::http::surround::surround;
use testkit::{Kit, Visitor, address, why};
use uuid::Uuid;

use super::{SIGNED_IN, assert_headers, body_of, config, dead_pool, enrol, policy, request, send, service, signed_in};

const DOCUMENT: &str = "/api/v1/openapi.json";

/// Every route, and the one scope that opens it. A route that is missing here fails the test.
const TABLE: &[(&str, &str, Scope)] = &[
    ("POST", "/api/v1/magic-links", Scope::SignIn),
    ("POST", "/api/v1/magic-links/verify", Scope::SignIn),
    ("POST", "/api/v1/two-factor/verify", Scope::SignIn),
    ("GET", "/api/v1/session", Scope::Sessions),
    ("DELETE", "/api/v1/session", Scope::Sessions),
    ("GET", "/api/v1/users", Scope::Users),
    ("GET", "/api/v1/users/{id}", Scope::Users),
    ("POST", "/api/v1/users/{id}/revoke-sessions", Scope::Users),
    ("GET", "/api/v1/audit", Scope::AuditRead),
    ("GET", "/api/v1/flags/{key}", Scope::Flags),
    ("PUT", "/api/v1/flags/{key}", Scope::Flags),
];

/// What keys open besides, and the document doesn't tell of: it is no JSON.
const ELSEWHERE: (&str, &str, Scope) = ("GET", server::telemetry::metrics::PATH, Scope::MetricsRead);

struct World {
    kit: Kit,
    app: Router,
    document: Value,
    mara: Uuid,
}

impl World {
    async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        let require_two_factor = RequireTwoFactor::None;
        let policy = Policy { passwordless_auth: true, sign_up: SignUp::Open, require_two_factor, limits, ..Policy::default() };
        let kit = Kit::with(policy).await;
        let app = service(&config(&[("LIMITS", "off")]), kit.auth.clone());
        let document = send(&app, request(&Method::GET, DOCUMENT, "", "")).await;
        assert_eq!(
            (document.status(), &document.headers()[header::CONTENT_TYPE]),
            (StatusCode::OK, &"application/json".parse().expect("ASCII"))
        );
        let document = serde_json::from_str(&body_of(document).await).expect("JSON");
        let mara = kit.auth.users().create(&address("mara@example.org"), false, None).await.expect("made");
        Self { kit, app, document, mara }
    }

    async fn key(&self, scopes: &[Scope]) -> String {
        self.kit.auth.api_keys().create(Actor::Operator, "Test", scopes, None).await.expect("made").key
    }

    fn real(&self, path: &str) -> String {
        path.replace("{id}", &self.mara.to_string()).replace("{key}", "passwordless_auth")
    }

    /// Asks, and checks what holds for every answer of the API: a problem is one, nothing leads elsewhere, and the document knows it.
    async fn ask(&self, method: &str, path: &str, key: Option<&str>, body: Option<&Value>) -> Answer {
        let mut builder = Request::builder();
        if let Some(key) = key {
            builder = builder.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        if body.is_some() {
            builder = builder.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.send(method, path, builder.method(method).uri(path).body(body).expect("a request")).await
    }

    async fn send(&self, method: &str, path: &str, mut request: Request<Body>) -> Answer {
        request.extensions_mut().insert(axum::extract::ConnectInfo(std::net::SocketAddr::from(([192, 0, 2, 1], 4_711))));
        let kind =
            if path == server::telemetry::metrics::PATH { "text/plain; version=0.0.4; charset=utf-8" } else { "application/json" };
        let answer = Answer::of(send(&self.app, request).await, kind).await;
        let what = format!("{method} {path}: {}", answer.status);
        assert!(!answer.status.is_redirection() && !answer.headers.contains_key(header::SET_COOKIE), "{what}");
        if let Some(documented) = self.documented(method, path) {
            assert!(documented.contains(&answer.status.as_u16().to_string()), "{what}: not among {documented:?}");
        }
        answer
    }

    /// The statuses that the document knows of a route.
    fn documented(&self, method: &str, path: &str) -> Option<Vec<String>> {
        let path = path.split('?').next().unwrap_or_default();
        let (template, ..) = TABLE.iter().map(|(_, template, _)| (*template, ())).find(|(template, ())| matches(template, path))?;
        let operation = &self.document["paths"][template][method.to_lowercase()];
        Some(operation["responses"].as_object()?.keys().cloned().collect())
    }
}

fn matches(template: &str, path: &str) -> bool {
    let (template, path): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len() && template.iter().zip(&path).all(|(part, real)| part.starts_with('{') || part == real)
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    body: Value,
}

impl Answer {
    /// `kind`: of a body that tells of no problem.
    async fn of(response: Response<Body>, kind: &str) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        assert_headers(status.as_str(), &headers, false);
        let failed = status.is_client_error() || status.is_server_error();
        let kind = if failed { "application/problem+json" } else { kind };
        if status == StatusCode::NO_CONTENT {
            assert!(!headers.contains_key(header::CONTENT_TYPE));
        } else {
            assert_eq!(headers[header::CONTENT_TYPE], kind, "{status}");
        }
        assert_eq!(headers[header::CACHE_CONTROL], "no-store", "{status}");
        let text = body_of(response).await;
        let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if failed && !text.is_empty() {
            assert_eq!(body["status"], status.as_u16());
            assert_eq!(body["request_id"], headers["x-request-id"].to_str().expect("ASCII"));
            assert!(body["title"].is_string(), "{body}");
        }
        Self { status, headers, body }
    }

    /// The problem's name.
    fn problem(&self) -> (u16, &str) {
        let name = self.body["type"].as_str().and_then(|kind| kind.strip_prefix("urn:latchkey:problem:"));
        (self.status.as_u16(), name.unwrap_or_default())
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }
}

/// What is right for a route, so that only the key decides.
fn body_for(path: &str) -> Option<Value> {
    match path {
        "/api/v1/magic-links" => Some(json!({ "email": "mara@example.org" })),
        "/api/v1/magic-links/verify" => Some(json!({ "request_secret": "unknown", "code": "482 931" })),
        "/api/v1/two-factor/verify" => Some(json!({ "challenge": "unknown", "code": "482931" })),
        "/api/v1/flags/{key}" => Some(json!({ "allowed": [], "percent_admins": 0, "percent_everyone": 100, "reason": "ticket 7" })),
        path => path.ends_with("/revoke-sessions").then(|| json!({ "reason": "ticket 7" })),
    }
}

/// What a route then answers to a key that may: of sign-in, that nobody knows these secrets.
fn opened(path: &str) -> StatusCode {
    match path {
        "/api/v1/magic-links" => StatusCode::ACCEPTED,
        "/api/v1/magic-links/verify" | "/api/v1/two-factor/verify" => StatusCode::NOT_FOUND,
        // It comes in a header of its own.
        "/api/v1/session" => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::OK,
    }
}

#[tokio::test]
async fn every_route_is_opened_by_its_scope_and_by_no_other() {
    let world = World::new().await;
    let mut listed = BTreeMap::new();
    for (path, item) in world.document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let security = operation["security"].as_array().expect("a way in");
            let [way] = &security[..] else { panic!("{method} {path}: one way in") };
            let [scope] = &way["api_key"].as_array().expect("a scope")[..] else { panic!("{method} {path}: one scope") };
            listed.insert((method.to_uppercase(), path.clone()), scope.as_str().expect("a name").to_owned());
        }
    }
    let table: BTreeMap<(String, String), String> =
        TABLE.iter().map(|(method, path, scope)| (((*method).to_owned(), (*path).to_owned()), scope.as_str().to_owned())).collect();
    assert_eq!(listed, table, "the document and this table");

    let mut keys = Vec::new();
    for &scope in Scope::ALL {
        keys.push((scope, world.key(&[scope]).await));
    }
    for (method, path, opens) in TABLE.iter().chain([&ELSEWHERE]) {
        let (real, body) = (world.real(path), body_for(path));
        let nobody = world.ask(method, &real, None, body.as_ref()).await;
        assert_eq!(nobody.problem(), (401, "unauthorized"), "{method} {path}");
        assert_eq!(nobody.header("www-authenticate"), "Bearer realm=\"latchkey\"");
        for (scope, key) in &keys {
            let answer = world.ask(method, &real, Some(key), body.as_ref()).await;
            if scope == opens {
                assert_eq!(answer.status, opened(path), "{method} {path}: {}", answer.body);
            } else {
                assert_eq!(answer.problem(), (403, "forbidden"), "{method} {path} with {scope:?}");
                assert_eq!(answer.body["scope"], opens.as_str());
                assert!(answer.header("www-authenticate").contains("error=\"insufficient_scope\""));
            }
        }
        let head = if *method == "GET" { world.ask("HEAD", &real, None, None).await.status } else { StatusCode::UNAUTHORIZED };
        assert_eq!(head, StatusCode::UNAUTHORIZED, "HEAD {path}");
    }
}

/// A session's cookie, its id, a key in the wrong place, one that is over: none opens anything, and all look the same.
#[tokio::test]
async fn nothing_but_a_key_that_works_in_its_header_opens_a_route() {
    let world = World::new().await;
    let key = world.key(Scope::ALL).await;
    let cookies = signed_in(&world.kit, &world.app).await;
    sqlx::query("update users set is_admin = true").execute(&world.kit.pool).await.expect("updated");
    let page = send(&world.app, request(&Method::GET, routes::ADMIN_USERS, &cookies, "")).await;
    assert_eq!(page.status(), StatusCode::OK, "the session is an administrator's");
    let session = cookies.split("; ").find_map(|cookie| cookie.strip_prefix("__Host-latchkey=")).expect("a session").to_owned();

    let expired =
        world.kit.auth.api_keys().create(Actor::Operator, "a", Scope::ALL, Some(Duration::from_hours(1))).await.expect("made");
    let revoked = world.kit.auth.api_keys().create(Actor::Operator, "b", Scope::ALL, None).await.expect("made");
    assert_eq!(world.ask("GET", "/api/v1/users", Some(&expired.key), None).await.status, StatusCode::OK);
    world.kit.clock.advance(time::Duration::hours(1));
    world.kit.auth.api_keys().revoke(Actor::Operator, revoked.prefix, &why("lost")).await.expect("revoked");

    for (method, path, _) in TABLE.iter().chain([&ELSEWHERE]) {
        let (real, body) = (world.real(path), body_for(path));
        let asked = |uri: String, headers: Vec<(header::HeaderName, String)>| {
            let builder = Request::builder().method(*method).uri(uri).header(header::CONTENT_TYPE, "application/json");
            let builder = headers.into_iter().fold(builder, |builder, (name, value)| builder.header(name, value));
            builder.body(body.as_ref().map_or_else(Body::empty, |body| Body::from(body.to_string()))).expect("a request")
        };
        let bearer = |key: &str| (header::AUTHORIZATION, format!("Bearer {key}"));
        for (what, uri, headers) in [
            ("a session's cookie", real.clone(), vec![(header::COOKIE, cookies.clone())]),
            ("a session's id", real.clone(), vec![bearer(&session)]),
            ("a key in a cookie", real.clone(), vec![(header::COOKIE, format!("api_key={key}; __Host-latchkey={key}"))]),
            ("a key in the query", format!("{real}?api_key={key}&access_token={key}&key={key}"), vec![]),
            ("a key as a password", real.clone(), vec![(header::AUTHORIZATION, format!("Basic {key}"))]),
            ("two keys", real.clone(), vec![bearer(&key), bearer(&key)]),
            ("a prefix", real.clone(), vec![bearer(&key[..11])]),
            ("another's secret", real.clone(), vec![bearer(&format!("{}{}", &key[..12], &revoked.key[12..]))]),
            ("an expired key", real.clone(), vec![bearer(&expired.key)]),
            ("a revoked key", real.clone(), vec![bearer(&revoked.key)]),
        ] {
            let answer = world.send(method, &real, asked(uri, headers)).await;
            assert_eq!(answer.problem(), (401, "unauthorized"), "{method} {path}: {what}");
            assert!(!answer.body.to_string().contains(&key[12..]), "{what}");
        }
        // Its positive twin, with what a browser would send along.
        let alongside = [(header::COOKIE, cookies.clone()), (header::ORIGIN, "https://evil.example".to_owned())];
        let request = asked(real.clone(), alongside.into_iter().chain([bearer(&key)]).collect());
        assert_eq!(world.send(method, &real, request).await.status, opened(path), "{method} {path}");
    }
}

#[tokio::test]
async fn a_key_whose_maker_is_no_administrator_any_more_is_refused_what_needs_one() {
    let world = World::new().await;
    let mut root = Visitor::at([203, 0, 113, 24]);
    world.kit.auth.users().create(&address("root@example.org"), true, None).await.expect("made");
    root.give_first_factor(&world.kit, &address("root@example.org")).await;
    let authority = root.authority(&world.kit.auth).await.expect("signed in");
    let who = Actor::Admin { authority: &authority, from: &root.from };
    let key = world.kit.auth.api_keys().create(who, "Test", Scope::ALL, None).await.expect("made").key;
    assert_eq!(world.ask("GET", "/api/v1/users", Some(&key), None).await.status, StatusCode::OK);
    sqlx::query("update users set is_admin = false").execute(&world.kit.pool).await.expect("updated");
    assert_eq!(world.ask("GET", "/api/v1/users", Some(&key), None).await.problem(), (403, "forbidden"));
}

#[tokio::test]
async fn what_is_wrong_is_told_as_a_problem_whoever_finds_it() {
    let world = World::new().await;
    let key = world.key(Scope::ALL).await;
    let revoke = world.real("/api/v1/users/{id}/revoke-sessions");
    let post = |kind: &str, body: &str| {
        let builder = Request::builder().method(Method::POST).uri(&revoke).header(header::AUTHORIZATION, format!("Bearer {key}"));
        builder.header(header::CONTENT_TYPE, kind).body(Body::from(body.to_owned())).expect("a request")
    };
    let json = "application/json";
    for (kind, body, expected) in [
        (json, r#"{"reason": "why"}"#, (200, "")),
        ("Application/JSON; charset=utf-8", r#"{"reason": "why"}"#, (200, "")),
        ("application/x-www-form-urlencoded", "reason=why", (415, "unsupported_media_type")),
        ("text/plain", r#"{"reason": "why"}"#, (415, "unsupported_media_type")),
        (json, "", (400, "malformed")),
        (json, r#"{"reason": "why""#, (400, "malformed")),
        (json, r#"{"reason": "why"} {}"#, (400, "malformed")),
        (json, r#"{"reason": "why", "user_id": "1"}"#, (422, "invalid")),
        (json, r#"{"reason": "why", "reason": "why"}"#, (422, "invalid")),
        (json, r#"{"reason": 7}"#, (422, "invalid")),
        (json, r#"{"reason": "\u0000"}"#, (422, "invalid")),
        (json, r#"{"reason": " "}"#, (422, "invalid")),
        (json, "{}", (422, "invalid")),
        (json, "[]", (422, "invalid")),
        (json, &format!(r#"{{"reason": "{}"}}"#, "x".repeat(70_000)), (413, "too_large")),
    ] {
        let answer = world.send("POST", &revoke, post(kind, body)).await;
        assert_eq!(answer.problem(), expected, "{kind} {}", body.chars().take(60).collect::<String>());
    }
    for (method, path, expected) in [
        ("GET", "/api", (404, "not_found")),
        ("GET", "/api/v1", (404, "not_found")),
        ("POST", "/api/v1/nowhere", (404, "not_found")),
        ("GET", "/api/v1/users/7", (404, "not_found")),
        ("GET", "/api/v1/users/%FF", (404, "not_found")),
        ("GET", "/api/v1/users/00000000-0000-0000-0000-000000000000", (404, "not_found")),
        ("GET", "/api/v1/users?limt=5", (422, "invalid")),
        ("GET", "/api/v1/users?limit=0", (422, "invalid")),
        ("GET", "/api/v1/users?limit=101", (422, "invalid")),
        ("GET", "/api/v1/users?limit=1&limit=2", (422, "invalid")),
        ("GET", "/api/v1/users?status=gone", (422, "invalid")),
        ("GET", "/api/v1/users?search=%00", (422, "invalid")),
        ("GET", "/api/v1/users?cursor=x", (422, "invalid")),
        ("GET", "/api/v1/audit?since=yesterday", (422, "invalid")),
        ("GET", "/api/v1/audit?until=9999-12-31T23:59:59-10:00", (422, "invalid")),
        ("GET", "/api/v1/audit?user=mara", (422, "invalid")),
        ("GET", "/api/v1/audit?event_type=a%00b", (422, "invalid")),
        ("GET", "/api/v1/audit?cursor=o1", (422, "invalid")),
    ] {
        assert_eq!(world.ask(method, path, Some(&key), None).await.problem(), expected, "{method} {path}");
    }
    for (method, path) in [("DELETE", "/api/v1/users"), ("TRACE", "/api/v1/users"), ("POST", DOCUMENT)] {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
        let answer = world.send("", "", request).await;
        assert_eq!(answer.problem(), (405, "method_not_allowed"), "{method} {path}");
        assert!(!answer.header("allow").is_empty(), "{method} {path}");
    }

    let panics = surround(Router::new().route("/api/v1/panic", get(async || -> &str { panic!("a secret") })), &config(&[]));
    let answer = Answer::of(send(&panics, request(&Method::GET, "/api/v1/panic", "", "")).await, "").await;
    assert_eq!(answer.problem(), (500, "internal"));
    assert!(!answer.body.to_string().contains("a secret"));
    let away = Auth::new(dead_pool(), Arc::new(world.kit.clock.clone()), Keys::new(&testkit::TEST_KEY, &[]), policy());
    let away = service(&config(&[]), Arc::new(away));
    let mut asked = request(&Method::GET, "/api/v1/users", "", "");
    asked.headers_mut().insert(header::AUTHORIZATION, format!("Bearer {key}").parse().expect("ASCII"));
    let answer = Answer::of(send(&away, asked).await, "").await;
    assert_eq!((answer.problem(), answer.header("retry-after")), ((503, "unavailable"), "5"));
}

#[tokio::test]
async fn a_key_has_so_many_requests_and_is_told_how_many_are_left() {
    let api_key = Rate::new(3, Duration::from_mins(1));
    let world = World::with(Limits::default().with(Limit::ApiKey, api_key)).await;
    let (key, other) = (world.key(&[Scope::Users]).await, world.key(&[Scope::Users]).await);
    // Whatever is asked for counts, and is told of: also what the key may not do, and what isn't there.
    for (path, status, left, reset) in
        [("/api/v1/users", 200, 2, 20), ("/api/v1/audit", 403, 1, 40), ("/api/v1/users/7", 404, 0, 60)]
    {
        let answer = world.ask("GET", path, Some(&key), None).await;
        assert_eq!(answer.status.as_u16(), status);
        assert_eq!(answer.header("ratelimit-policy"), "\"api_key\";q=3;w=60");
        assert_eq!(answer.header("ratelimit"), format!("\"api_key\";r={left};t={reset}"));
    }
    let refused = world.ask("GET", "/api/v1/users", Some(&key), None).await;
    assert_eq!((refused.problem(), refused.header("retry-after")), ((429, "rate_limited"), "20"));
    assert_eq!(refused.header("ratelimit"), "\"api_key\";r=0;t=20");
    assert_eq!(refused.header("ratelimit-policy"), "\"api_key\";q=3;w=60");
    assert_eq!(world.ask("GET", "/api/v1/users", Some(&other), None).await.status, StatusCode::OK, "each key has its own");
    let nobody = world.ask("GET", "/api/v1/users", None, None).await;
    assert_eq!((nobody.status, nobody.header("ratelimit")), (StatusCode::UNAUTHORIZED, ""));
    world.kit.clock.advance(time::Duration::seconds(20));
    assert_eq!(world.ask("GET", "/api/v1/users", Some(&key), None).await.status, StatusCode::OK, "whoever waits as told");

    let off = World::with(Limits::off()).await;
    let key = off.key(&[Scope::Users]).await;
    for _ in 0..5 {
        let answer = off.ask("GET", "/api/v1/users", Some(&key), None).await;
        assert_eq!((answer.status, answer.header("ratelimit")), (StatusCode::OK, ""));
    }
}

#[tokio::test]
async fn users_are_listed_filtered_and_shown() {
    let world = World::new().await;
    let key = world.key(&[Scope::Users]).await;
    let get = async |path: &str| {
        let answer = world.ask("GET", path, Some(&key), None).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        answer.body
    };
    for n in 0..6 {
        world.kit.auth.users().create(&address(&format!("u{n}@example.org")), n == 0, None).await.expect("made");
    }
    let (mut emails, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(&format!("/api/v1/users?limit=3{cursor}")).await;
        let users = page["users"].as_array().expect("users");
        assert!(users.len() <= 3);
        emails.extend(users.iter().map(|user| user["email"].as_str().expect("an address").to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let all: BTreeSet<&String> = emails.iter().collect();
    assert_eq!((emails.len(), all.len()), (7, 7), "{emails:?}");

    let found = get("/api/v1/users?search=MARA&status=active&two_factor=false").await;
    assert_eq!(
        found,
        json!({ "next_cursor": null, "users": [{
            "id": world.mara, "email": "mara@example.org", "status": "active", "admin": false, "two_factor": false,
            "backup_codes_left": 0, "last_sign_in_at": null, "sessions": 0,
        }] })
    );
    assert_eq!(get("/api/v1/users?two_factor=true").await["users"], json!([]));
    assert_eq!(get("/api/v1/users?status=disabled").await["users"], json!([]));

    let shown = get(&format!("/api/v1/users/{}", world.mara)).await;
    assert_eq!(
        (&shown["email"], &shown["sessions"], &shown["display_name"]),
        (&json!("mara@example.org"), &json!([]), &Value::Null)
    );
    let viewed = "select count(*) from auth_audit a join api_keys k on k.id = a.actor_id where event_type = 'user.viewed'";
    assert_eq!(world.kit.count(viewed).await, 1);
}

#[tokio::test]
async fn sessions_are_ended_with_a_reason_and_the_key_in_the_audit() {
    let world = World::new().await;
    let key = world.key(&[Scope::Users, Scope::AuditRead]).await;
    let mut mara = Visitor::at([198, 51, 100, 7]);
    mara.give_first_factor(&world.kit, &address("mara@example.org")).await;
    let path = world.real("/api/v1/users/{id}/revoke-sessions");
    let reason = json!({ "reason": " ticket 7 " });
    let detail = world.ask("GET", &world.real("/api/v1/users/{id}"), Some(&key), None).await.body;
    assert_eq!(detail["sessions"][0]["device"], "Firefox on Linux");
    assert_eq!(world.ask("POST", &path, Some(&key), Some(&reason)).await.body, json!({ "ended": 1 }));
    assert_eq!(mara.authority(&world.kit.auth).await, None);
    assert_eq!(world.ask("POST", &path, Some(&key), Some(&reason)).await.body, json!({ "ended": 0 }), "again does no harm");
    let nobody = path.replace(&world.mara.to_string(), &Uuid::nil().to_string());
    assert_eq!(world.ask("POST", &nobody, Some(&key), Some(&reason)).await.problem(), (404, "not_found"));

    let user = world.mara;
    let audit = world.ask("GET", &format!("/api/v1/audit?event_type=user.sessions_ended&user={user}"), Some(&key), None).await.body;
    let [event] = &audit["events"].as_array().expect("events")[..] else { panic!("one: {audit}") };
    assert_eq!((&event["user_id"], &event["ip"]), (&json!(user), &json!("192.0.2.1")));
    assert_eq!(event["details"], json!({ "by": "api_key", "reason": "ticket 7", "sessions": 1 }));
    let actor: Uuid = event["actor_id"].as_str().expect("an actor").parse().expect("an id");
    assert_eq!(world.kit.auth.api_keys().list().await.expect("answers")[0].id, actor);
}

#[tokio::test]
async fn the_audit_is_paged_and_cut_by_time() {
    let world = World::new().await;
    let key = world.key(&[Scope::AuditRead]).await;
    for n in 0..5 {
        world.kit.clock.advance(time::Duration::MINUTE);
        world.kit.auth.users().create(&address(&format!("u{n}@example.org")), false, None).await.expect("made");
    }
    let get = async |query: &str| {
        let answer = world.ask("GET", &format!("/api/v1/audit?event_type=user.created{query}"), Some(&key), None).await;
        assert_eq!(answer.status, StatusCode::OK, "{query}: {}", answer.body);
        answer.body
    };
    let (mut times, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(&format!("&limit=4{cursor}")).await;
        times.extend(
            page["events"].as_array().expect("events").iter().map(|event| event["created_at"].as_str().expect("a time").to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(times.len(), 6);
    assert!(times.is_sorted_by(|newer, older| newer >= older), "{times:?}");
    let between = get(&format!("&since={}&until={}", times[3], times[1])).await;
    let found: Vec<&str> =
        between["events"].as_array().expect("events").iter().filter_map(|event| event["created_at"].as_str()).collect();
    assert_eq!(found, [times[2].as_str(), times[3].as_str()]);
}

/// What a generator of clients needs of the document.
#[tokio::test]
async fn the_document_is_whole() {
    let World { document, .. } = World::new().await;
    assert!(document["openapi"].as_str().expect("a version").starts_with("3.1."), "{}", document["openapi"]);
    assert_eq!(document["components"]["securitySchemes"]["api_key"]["scheme"], "bearer");
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#/").skip(1) {
        let pointer = format!("/{}", reference.split('"').next().expect("its end"));
        assert!(document.pointer(&pointer).is_some(), "{pointer}");
    }
    let mut ids = BTreeSet::new();
    for (method, path, _) in TABLE {
        let operation = &document["paths"][*path][method.to_lowercase()];
        assert!(ids.insert(operation["operationId"].as_str().expect("an id").to_owned()), "{method} {path}");
        let succeeds = ["200", "202", "204"].iter().any(|status| operation["responses"][status].is_object());
        assert!(operation["summary"].is_string() && succeeds, "{method} {path}");
        for status in ["401", "403", "429", "500", "503"] {
            let problem = &operation["responses"][status]["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(problem, "#/components/schemas/Problem", "{method} {path} {status}");
        }
    }
}

/// One request of an application's, with a header of its own.
fn with_header(method: &str, path: &str, key: &str, (name, value): (&str, &str), body: Option<&Value>) -> Request<Body> {
    let builder = Request::builder().method(method).uri(path).header(header::AUTHORIZATION, format!("Bearer {key}"));
    let builder = builder.header(name, value).header(header::CONTENT_TYPE, "application/json");
    builder.body(body.map_or_else(Body::empty, |body| Body::from(body.to_string()))).expect("a request")
}

#[tokio::test]
async fn an_application_signs_somebody_in_asks_whom_it_has_and_signs_them_out() {
    let world = World::new().await;
    let key = world.key(&[Scope::SignIn, Scope::Sessions]).await;
    let (links, verify, session) = ("/api/v1/magic-links", "/api/v1/magic-links/verify", "/api/v1/session");
    let client = json!({ "ip": "203.0.113.24", "user_agent": "Firefox/128.0 (Windows)" });
    let body = json!({ "email": "mara@example.org", "client": client });
    let named = ("idempotency-key", "b3f1");
    let asked = world.send("POST", links, with_header("POST", links, &key, named, Some(&body))).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{}", asked.body);
    let again = world.send("POST", links, with_header("POST", links, &key, named, Some(&body))).await;
    assert_eq!(again.body, asked.body);
    let other = json!({ "email": "other@example.org" });
    let reused = world.send("POST", links, with_header("POST", links, &key, named, Some(&other))).await;
    assert_eq!(reused.problem(), (409, "idempotency_key_reused"));
    let bad = world.send("POST", links, with_header("POST", links, &key, ("idempotency-key", "a b"), Some(&body))).await;
    assert_eq!(bad.problem(), (422, "invalid"));
    let elsewhere = json!({ "email": "mara@example.org", "redirect_url": "https://evil.example/" });
    assert_eq!(world.ask("POST", links, Some(&key), Some(&elsewhere)).await.problem(), (403, "redirect_not_allowed"));

    let (token, code) = world.kit.sign_in_mail().await;
    assert!(world.kit.letters().await.is_empty(), "one mail");
    let secret = asked.body["request_secret"].as_str().expect("a secret");
    let digits = code.reveal().replace(' ', "");
    let guess = format!("{}{}", if digits.starts_with('9') { '0' } else { '9' }, &digits[1..]);
    let wrong = world.ask("POST", verify, Some(&key), Some(&json!({ "request_secret": secret, "code": guess }))).await;
    assert_eq!((wrong.problem(), &wrong.body["tries_left"]), ((403, "wrong_code"), &json!(4)));
    for broken in [
        json!({ "request_secret": secret }),
        json!({ "request_secret": secret, "code": digits, "token": token.reveal() }),
        json!({ "request_secret": secret, "code": "12" }),
        json!({ "request_secret": secret, "code": digits, "user_id": world.mara }),
    ] {
        assert_eq!(world.ask("POST", verify, Some(&key), Some(&broken)).await.problem(), (422, "invalid"), "{broken}");
    }
    let stranger = world.key(&[Scope::SignIn, Scope::Sessions]).await;
    let by_link = json!({ "request_secret": secret, "token": token.reveal() });
    assert_eq!(world.ask("POST", verify, Some(&stranger), Some(&by_link)).await.problem(), (403, "other_request"));
    let complete = world.ask("POST", verify, Some(&key), Some(&by_link)).await;
    assert_eq!((complete.status, &complete.body["status"]), (StatusCode::OK, &json!("complete")), "{}", complete.body);
    assert_eq!(complete.body["user"]["groups"], json!(["users"]));
    assert_eq!(world.ask("POST", verify, Some(&key), Some(&by_link)).await.problem(), (410, "used"));

    let token = complete.body["session_token"].as_str().expect("a token");
    let as_cookie = send(&world.app, request(&Method::GET, routes::ACCOUNT, &format!("__Host-latchkey={token}"), "")).await;
    assert_eq!(as_cookie.headers()[header::LOCATION], "/login?next=/account", "it is no cookie");
    let asks = || with_header("GET", session, &key, ("latchkey-session", token), None);
    let live = world.send("GET", session, asks()).await;
    assert_eq!((live.status, &live.body["user"]), (StatusCode::OK, &complete.body["user"]), "{}", live.body);
    assert_eq!((&live.body["level"], &live.body["method"]), (&json!("email"), &json!("link")));
    let ends = || with_header("DELETE", session, &key, ("latchkey-session", token), None);
    assert_eq!(world.send("DELETE", session, ends()).await.status, StatusCode::NO_CONTENT);
    assert_eq!(world.send("DELETE", session, ends()).await.problem(), (404, "not_found"));
    assert_eq!(world.send("GET", session, asks()).await.problem(), (404, "not_found"));
}

#[tokio::test]
async fn who_must_set_two_factor_up_is_told_where() {
    let world = World::new().await;
    let key = world.key(&[Scope::SignIn]).await;
    let required = Policy { require_two_factor: RequireTwoFactor::Everyone, ..world.kit.auth.policy().clone() };
    let auth = Auth::new(world.kit.pool.clone(), Arc::new(world.kit.clock.clone()), Keys::new(&testkit::TEST_KEY, &[]), required);
    auth.flag().read().await.expect("the database answers");
    let app = service(&config(&[("LIMITS", "off")]), Arc::new(auth));
    let world = World { app, ..world };
    let asked = world.ask("POST", "/api/v1/magic-links", Some(&key), Some(&json!({ "email": "mara@example.org" }))).await;
    let (_, code) = world.kit.sign_in_mail().await;
    let body = json!({ "request_secret": asked.body["request_secret"], "code": code.reveal() });
    let refused = world.ask("POST", "/api/v1/magic-links/verify", Some(&key), Some(&body)).await;
    assert_eq!(refused.problem(), (403, "enrolment_required"));
    assert!(refused.body["enrol_url"].as_str().is_some_and(|url| url.ends_with(routes::TWO_FACTOR)), "{}", refused.body);
}

/// What an application that has asked for somebody's mail can come back with: the code, or the link's token.
async fn asked_for(world: &World, key: &str, email: &str) -> [Value; 2] {
    let asked = world.ask("POST", "/api/v1/magic-links", Some(key), Some(&json!({ "email": email }))).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{}", asked.body);
    let secret = &asked.body["request_secret"];
    let (token, code) = world.kit.sign_in_mail().await;
    [json!({ "request_secret": secret, "code": code.reveal() }), json!({ "request_secret": secret, "token": token.reveal() })]
}

#[tokio::test]
async fn what_is_off_is_off_for_applications_too_and_their_sessions_go_on() {
    let world = World::new().await;
    let key = world.key(&[Scope::SignIn, Scope::Sessions]).await;
    let post = async |path: &str, body: &Value| world.ask("POST", path, Some(&key), Some(body)).await;
    let set = async |change: &Change| {
        world.kit.auth.rollout().set_flag(Actor::Operator, PASSWORDLESS_AUTH, change, &why("ticket 7")).await.expect("changed");
    };
    let (links, verify, second_step) = ("/api/v1/magic-links", "/api/v1/magic-links/verify", "/api/v1/two-factor/verify");
    let secret = enrol(&world.kit, "mara@example.org", false).await;
    let [by_code, _] = asked_for(&world, &key, "before@example.org").await;
    let before = post(verify, &by_code).await;
    let before = before.body["session_token"].as_str().expect("signed in").to_owned();
    let [by_code, _] = asked_for(&world, &key, "mara@example.org").await;
    let half = post(verify, &by_code).await;
    assert_eq!(half.body["status"], "second_factor_required", "{}", half.body);
    let code = secret.code(totp::step(world.kit.auth.now())).reveal();
    let second = json!({ "challenge": half.body["challenge"], "code": code });
    let [by_code, by_link] = asked_for(&world, &key, "pat@example.org").await;

    for email in ["mara@example.org", "pat@example.org", "ed@example.org"] {
        assert!(bucket(PASSWORDLESS_AUTH, email) >= 50, "not among the fifty");
    }
    let sessions = world.kit.count(SIGNED_IN).await;
    // Off for everybody, and then on for others only. Who asks is told of the one; of the other, only the mail tells.
    for (change, asking) in [(Change::Off, (403, "sign_in_off")), (Change::Percent(50, Of::Everyone), (202, ""))] {
        set(&change).await;
        assert_eq!(post(links, &json!({ "email": "ed@example.org" })).await.problem(), asking, "{change:?}");
        for (path, body) in [(verify, &by_code), (verify, &by_link), (second_step, &second)] {
            let refused = post(path, body).await;
            assert_eq!(refused.problem(), (403, "sign_in_off"), "{change:?}: {path} {body}");
            assert_eq!(refused.body["title"], "Signing in by mail is off");
        }
        assert_eq!(world.kit.count(SIGNED_IN).await, sessions, "{change:?}");
        let asks = with_header("GET", "/api/v1/session", &key, ("latchkey-session", &before), None);
        assert_eq!(world.send("GET", "/api/v1/session", asks).await.status, StatusCode::OK, "{change:?}");
    }
    let told = world.kit.letters().await.pop().expect("a mail").content;
    assert!(matches!(told, Content::NotYet { .. }), "{told:?}");

    // The positive twin: what was refused used nothing up.
    for email in ["mara@example.org", "pat@example.org"] {
        set(&Change::Allow(address(email))).await;
    }
    for (path, body) in [(verify, &by_link), (second_step, &second)] {
        let complete = post(path, body).await;
        assert_eq!((complete.status, &complete.body["status"]), (StatusCode::OK, &json!("complete")), "{}", complete.body);
    }
}

#[tokio::test]
async fn flags_are_shown_and_set() {
    let world = World::new().await;
    let key = world.key(&[Scope::Flags]).await;
    let path = "/api/v1/flags/passwordless_auth";
    let ask = |method: &'static str, path: &'static str, body: Option<Value>| {
        let (world, key) = (&world, &key);
        async move { world.ask(method, path, Some(key), body.as_ref()).await }
    };
    let on = json!({ "key": "passwordless_auth", "allowed": [], "percent_admins": 0, "percent_everyone": 100 });
    assert_eq!(ask("GET", path, None).await.body, on, "without a row, what the environment says");
    let wanted = json!({ "allowed": ["Tom@Example.org", "mara@example.org", "tom@example.org"], "percent_admins": 5, "percent_everyone": 0, "reason": "canary" });
    let set = json!({ "key": "passwordless_auth", "allowed": ["mara@example.org", "tom@example.org"], "percent_admins": 5, "percent_everyone": 0 });
    assert_eq!(ask("PUT", path, Some(wanted.clone())).await.body, set);
    assert_eq!(ask("PUT", path, Some(wanted)).await.body, set, "again does no harm");
    assert_eq!(ask("GET", path, None).await.body, set);
    let by = "select count(*) from auth_audit where event_type = 'flag.changed' and details ->> 'by' = 'api_key' and actor_id is not null";
    assert_eq!(world.kit.count(by).await, 1, "one change, one row, by the key");

    assert_eq!(ask("GET", "/api/v1/flags/dark_mode", None).await.problem(), (404, "not_found"));
    let half = json!({ "allowed": [], "percent_admins": 0, "percent_everyone": 50.0, "reason": "half" });
    assert_eq!(ask("PUT", "/api/v1/flags/dark_mode", Some(half)).await.body["percent_everyone"], 50, "a second flag is a row");
    for (body, problem) in [
        (json!({ "allowed": [], "percent_admins": 0, "percent_everyone": 101, "reason": "x" }), (422, "invalid")),
        (json!({ "allowed": [], "percent_admins": -1, "percent_everyone": 1, "reason": "x" }), (422, "invalid")),
        (json!({ "allowed": [], "percent_admins": 0.5, "percent_everyone": 1, "reason": "x" }), (422, "invalid")),
        (
            json!({ "allowed": vec!["a@example.org"; 201], "percent_admins": 0, "percent_everyone": 1, "reason": "x" }),
            (422, "invalid"),
        ),
        (json!({ "allowed": ["nobody"], "percent_admins": 0, "percent_everyone": 1, "reason": "x" }), (422, "invalid")),
        (json!({ "allowed": [], "percent_admins": 0, "percent_everyone": 1, "reason": " " }), (422, "invalid")),
        (json!({ "percent_everyone": 1, "reason": "x" }), (422, "invalid")),
    ] {
        assert_eq!(ask("PUT", path, Some(body)).await.problem(), problem);
    }
    assert_eq!(ask("PUT", "/api/v1/flags/No-Key", Some(json!({}))).await.problem(), (404, "not_found"));
}
