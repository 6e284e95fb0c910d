//! The router in process: what every answer carries, and which requests may sign anybody in.

mod admin;
mod api;
mod audit;
mod forward_auth;
mod ids;
mod matrix;
mod metrics;
mod rollout;
mod same_answer;
mod spoofed;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use app::{AppState, routes};
use auth::{
    Auth,
    crypto::Keys,
    delivery::Content,
    factors::totp::{self, Secret},
    policy::{Policy, SignUp},
    primitives::requester::Requester,
    sign_in::step_up::StepUpSession,
};
use axum::{
    Extension, Router,
    body::Body,
    extract::ConnectInfo,
    routing::{any, get},
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use server::{
    config::{Config, Environment, load},
    http::{
        dev_inbox::{self, DevInbox, DevMail},
        health::Health,
        surround::surround,
    },
    router::{Parts, router},
    telemetry::metrics::{Metrics, PATH as METRICS},
};
use testkit::{Kit, Visitor, address, why};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Semaphore,
    task::JoinSet,
};
use tower::ServiceExt as _;

const ORIGIN: &str = "http://localhost:3000";

fn config(extra: &[(&str, &str)]) -> Config {
    let variables = [("APP_ENV", "development"), ("BASE_URL", ORIGIN)];
    load(&variables.iter().chain(extra).copied().collect::<Environment>()).expect("a right configuration")
}

/// With a mail in the dev inbox.
fn service(config: &Config, auth: Arc<Auth>) -> Router {
    let state = AppState::new(auth.clone(), config.site.clone());
    let inbox = Arc::<DevInbox>::default();
    inbox.keep(DevMail {
        to: "mara@example.org".to_owned(),
        subject: "Sign in".to_owned(),
        text: "a text".to_owned(),
        html: "<p>a page</p>".to_owned(),
        at: auth.now(),
    });
    let (_, metrics) = Metrics::recorder();
    let inbox = dev_inbox::routes(inbox, auth.clone());
    router(config, Parts { state, health: Health::new(auth.clone()), auth, metrics, inbox: Some(inbox) })
}

/// A request as a browser on this machine sends it.
fn request(method: &Method, path: &str, cookies: &str, body: &str) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, "localhost:3000");
    if !cookies.is_empty() {
        request = request.header(header::COOKIE, cookies);
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        request = request.header(header::ORIGIN, ORIGIN).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    }
    let mut request = request.body(Body::from(body.to_owned())).expect("a well-formed request");
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 4_711))));
    request
}

async fn send(app: &Router, request: Request<Body>) -> Response<Body> {
    app.clone().oneshot(request).await.expect("the router answers")
}

async fn get_path(app: &Router, path: &str) -> Response<Body> {
    send(app, request(&Method::GET, path, "", "")).await
}

const CSP: &str = "default-src 'none'; connect-src 'self'; style-src 'self'; img-src 'self' data:; form-action 'self'; \
                   frame-ancestors 'none'; base-uri 'none'";
/// A mail as it was sent, styles in its tags; in a sandbox.
const MAIL: &str = "/dev/inbox/1/html";
const MAIL_CSP: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'; sandbox";

#[track_caller]
fn assert_headers(what: &str, headers: &HeaderMap, https: bool) {
    assert_headers_and_csp(what, headers, https, CSP);
}

#[track_caller]
fn assert_headers_and_csp(what: &str, headers: &HeaderMap, https: bool, csp: &str) {
    let value = |name: &str| headers.get(name).unwrap_or_else(|| panic!("{what}: no {name}")).to_str().expect("ASCII");
    assert_eq!(value("content-security-policy"), csp, "{what}");
    for (name, expected) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(value(name), expected, "{what}: {name}");
    }
    assert!(value("permissions-policy").contains("camera=()"), "{what}");
    assert!(!value("x-request-id").is_empty(), "{what}");
    assert!(!value("cache-control").is_empty(), "{what}");
    let hsts = headers.get("strict-transport-security").map(|value| value.to_str().expect("ASCII"));
    assert_eq!(hsts, https.then_some("max-age=31536000"), "{what}");
    for absent in ["server", "access-control-allow-origin", "x-powered-by"] {
        assert!(!headers.contains_key(absent), "{what}: {absent}");
    }
    for cookie in headers.get_all(header::SET_COOKIE) {
        let cookie = cookie.to_str().expect("ASCII");
        // Other hosts get to see the one that is for them.
        let elsewhere = cookie.starts_with("__Secure-latchkey-gate=");
        assert!((elsewhere || cookie.starts_with("__Host-latchkey")) && cookie.len() < 4_096, "{what}: {cookie}");
        for attribute in ["; HttpOnly", "; SameSite=Lax", "; Secure", "; Path=/"] {
            assert!(cookie.contains(attribute), "{what}: {cookie} lacks {attribute}");
        }
        assert_eq!(cookie.contains("Domain"), elsewhere, "{what}: {cookie}");
    }
}

/// Every route of the table, whatever it answers, and what no route answers.
#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    for (https, base_url) in [(false, ORIGIN), (true, "https://id.example.org")] {
        let kit = Kit::new().await;
        let config = config(&[("BASE_URL", base_url), ("EMAIL_SMTP", "smtp://127.0.0.1:2525")]);
        let app = service(&config, kit.auth.clone());
        let mut seen = Vec::new();
        for path in paths().into_iter().chain([
            "/nowhere".to_owned(),
            "/login/verify?token=short".to_owned(),
            "/assets/nothing.css".to_owned(),
        ]) {
            for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE] {
                let mut request = request(&method, &path, "", "email=nonsense");
                if https && method == Method::POST {
                    request.headers_mut().insert(header::ORIGIN, base_url.parse().expect("ASCII"));
                }
                let response = send(&app, request).await;
                let what = format!("{method} {path}: {}", response.status());
                let csp = if path == MAIL && response.status() == StatusCode::OK { MAIL_CSP } else { CSP };
                assert_headers_and_csp(&what, response.headers(), https, csp);
                assert!(method != Method::GET || !path.starts_with(routes::DEV_INBOX) || response.status() == 200, "{what}");
                seen.push(response.status().as_u16());
            }
        }
        for status in [200, 303, 404, 405, 422] {
            assert!(seen.contains(&status), "the table never saw {status}: it proves less than it says");
        }
    }
}

/// From a visitor's first to those of a session.
#[tokio::test]
async fn every_cookie_of_a_sign_in_is_for_this_host_and_no_script() {
    use app::http::session::{KNOWN, LINK, SESSION};
    let kit = Kit::new().await;
    let app = service(&config(&[]), kit.auth.clone());
    let asked = send(&app, request(&Method::POST, routes::LOGIN, "", "email=mara%40example.org")).await;
    let visitor = keep("", &asked);
    let (token, _) = kit.sign_in_mail().await;
    let link = format!("{}?token={}", routes::LOGIN_VERIFY, token.reveal());
    let opened = send(&app, request(&Method::GET, &link, &visitor, "")).await;
    let holding = keep(&visitor, &opened);
    let confirmed = send(&app, request(&Method::POST, routes::LOGIN_CONFIRM, &holding, "")).await;
    for (response, names) in [(asked, &[SESSION][..]), (opened, &[LINK]), (confirmed, &[SESSION, LINK, KNOWN])] {
        let set = response.headers().get_all(header::SET_COOKIE).iter();
        let set: Vec<&str> = set.filter_map(|cookie| cookie.to_str().ok()?.split('=').next()).collect();
        assert!(names.iter().all(|name| set.contains(name)), "{set:?} {names:?}");
        assert_headers(names[0], response.headers(), false);
    }
}

/// One name for a request, whoever tells it, and one client, whoever asks.
#[tokio::test]
async fn pages_learn_who_asks_and_show_the_requests_id() {
    let config = config(&[("TRUSTED_PROXIES", "127.0.0.1/32")]);
    let who = async |Extension(from): Extension<Requester>| format!("{} {} {}", from.ip, from.user_agent(), from.request_id);
    let app = surround(Router::new().route("/who", get(who)), &config);
    for (peer, client, id) in [([127, 0, 0, 1], "192.0.2.7", Some("edge-1")), ([127, 0, 0, 2], "127.0.0.2", None)] {
        for path in ["/who", "/nowhere"] {
            let mut request = request(&Method::GET, path, "", "");
            request.extensions_mut().insert(ConnectInfo(SocketAddr::from((peer, 4_711))));
            for (name, value) in [("x-forwarded-for", "192.0.2.7"), ("x-request-id", "edge-1"), ("user-agent", "a browser")] {
                request.headers_mut().insert(name, value.parse().expect("ASCII"));
            }
            let response = send(&app, request).await;
            let named = response.headers()["x-request-id"].to_str().expect("ASCII").to_owned();
            assert_eq!(id.unwrap_or(&named), named, "a stranger's id is not kept");
            let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("whole");
            let body = String::from_utf8_lossy(&body);
            match path {
                "/who" => assert_eq!(body, format!("{client} a browser {named}")),
                _ => assert!(body.contains(&named), "{body}"),
            }
        }
    }
}

/// Forty requests of one network that all wait in a page, and what others get meanwhile.
#[tokio::test]
async fn a_network_that_asks_for_many_pages_at_once_holds_up_nobody_else() {
    let from = |method: Method, path: &str, client: [u8; 4]| {
        let mut request = request(&method, path, "", "");
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from((client, 4_711))));
        request
    };
    for (limits, at_once) in [("on", 32), ("off", 40)] {
        let (in_page, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let slow = {
            let (in_page, done) = (in_page.clone(), done.clone());
            async move || {
                in_page.fetch_add(1, Ordering::Relaxed);
                done.acquire().await.expect("open").forget();
            }
        };
        let routes = Router::new().route("/slow", get(slow)).route("/fast", any(async || "served"));
        let app = surround(routes, &config(&[("LIMITS", limits)]));
        let mut asked = JoinSet::new();
        for _ in 0..40 {
            let (app, request) = (app.clone(), from(Method::GET, "/slow", [192, 0, 2, 7]));
            asked.spawn(async move { send(&app, request).await.status() });
        }
        while in_page.load(Ordering::Relaxed) < at_once {
            tokio::task::yield_now().await;
        }
        assert_eq!(send(&app, from(Method::GET, "/fast", [192, 0, 2, 8])).await.status(), StatusCode::OK);
        assert_eq!(send(&app, from(Method::POST, "/fast", [192, 0, 2, 7])).await.status(), StatusCode::OK, "posts have the shield");
        assert_eq!(in_page.load(Ordering::Relaxed), at_once, "LIMITS={limits}");
        done.add_permits(40);
        while let Some(status) = asked.join_next().await {
            assert_eq!(status.expect("no panic"), StatusCode::OK);
        }
    }
}

#[tokio::test]
async fn so_do_the_answers_that_no_page_makes() {
    let kit = Kit::new().await;
    let config = config(&[]);
    let app = service(&config, kit.auth.clone());

    let mut cross_site = request(&Method::POST, "/login", "", "email=a@example.org");
    cross_site.headers_mut().insert(header::ORIGIN, "https://evil.example".parse().expect("ASCII"));
    let large = request(&Method::POST, "/login", "", &"x".repeat(70_000));
    let panicking = surround(Router::new().route("/panic", get(async || -> &str { panic!("a secret") })), &config);
    let lost = kit.second().await;
    lost.pool().close().await;
    let away = service(&config, lost);
    for (status, response) in [
        (StatusCode::FORBIDDEN, send(&app, cross_site).await),
        (StatusCode::PAYLOAD_TOO_LARGE, send(&app, large).await),
        (StatusCode::INTERNAL_SERVER_ERROR, get_path(&panicking, "/panic").await),
        (StatusCode::SERVICE_UNAVAILABLE, send(&away, request(&Method::POST, "/login", "", "email=a@example.org")).await),
        (StatusCode::SERVICE_UNAVAILABLE, get_path(&away, "/readyz").await),
    ] {
        assert_eq!(response.status(), status);
        assert_headers(status.as_str(), response.headers(), false);
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("whole");
        let body = String::from_utf8_lossy(&body);
        assert!(!body.contains("a secret") && !body.contains("sqlx") && !body.contains("example.org"), "{body}");
    }
    assert_eq!(get_path(&away, "/healthz").await.status(), StatusCode::OK, "alive without its database");
}

/// What is no HTTP never reaches the router: hyper answers by itself, says nothing and hangs up.
#[tokio::test]
async fn what_hyper_answers_is_bare_and_the_last_word() {
    let kit = Kit::new().await;
    let app = service(&config(&[]), kit.auth.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let serving = tokio::spawn(server::http::listener::serve(listener, app, std::future::pending()));
    let long = format!("GET /login HTTP/1.1\r\nHost: localhost:3000\r\nCookie: {}\r\n\r\n", "a".repeat(32 * 1024));
    for (bytes, status) in [("nonsense\r\n\r\n", "400 Bad Request"), (long.as_str(), "431 Request Header Fields Too Large")] {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("accepted");
        stream.write_all(bytes.as_bytes()).await.expect("taken");
        // To the end: that it ends is what shows the connection closed.
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("closed, not reset");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let mut lines = head.lines();
        assert_eq!((lines.next(), body), (Some(format!("HTTP/1.1 {status}").as_str()), ""), "{answer}");
        let mut names: Vec<&str> = lines.filter_map(|line| line.split(':').next()).collect();
        names.sort_unstable();
        assert_eq!(names, ["connection", "content-length", "date"], "{answer}");
        assert!(head.contains("connection: close\r\n") && head.contains("content-length: 0\r\n"), "{answer}");
    }
    serving.abort();
}

/// A database that isn't there.
fn dead_pool() -> sqlx::PgPool {
    sqlx::postgres::PgPoolOptions::new()
        .acquire_timeout(std::time::Duration::from_millis(50))
        .connect_lazy("postgres://nobody@127.0.0.1:1/none")
        .expect("a URL")
}

fn policy() -> Policy {
    Policy { passwordless_auth: true, sign_up: SignUp::Open, ..Policy::default() }
}

/// A process that never read the flags knows of no sign-in that is off.
#[tokio::test]
async fn without_its_database_from_the_start_a_server_says_503_and_not_that_sign_in_is_off() {
    let clock = testkit::ManualClock::default();
    let away = Auth::new(dead_pool(), Arc::new(clock), Keys::new(&testkit::TEST_KEY, &[]), policy());
    let app = service(&config(&[]), Arc::new(away));
    for path in [routes::LOGIN, "/login?next=/account", "/readyz"] {
        let answer = get_path(&app, path).await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert!(!body_of(answer).await.contains("available yet"), "{path}");
    }
}

/// The paths of the routing table, read from its source: a route added there is in these tests at once.
fn paths() -> Vec<String> {
    let source = concat!(
        include_str!("../../../../app/src/router.rs"),
        include_str!("../../../src/router.rs"),
        include_str!("../../../src/http/health.rs"),
        include_str!("../../../src/http/forward_auth.rs"),
        include_str!("../../../src/http/dev_inbox.rs")
    );
    let constants = include_str!("../../../../app/src/routes.rs");
    let mut paths: Vec<String> = source
        .split(".route(")
        .skip(1)
        .map(|rest| {
            let argument = rest.split(',').next().expect("a path").trim();
            match argument.strip_prefix("routes::") {
                None => argument.trim_matches('"').replace("metrics::PATH", METRICS).replace("{id}", "1"),
                Some(name) => constants
                    .lines()
                    .find_map(|line| line.strip_prefix(&format!("pub const {name}: &str = \"")))
                    .unwrap_or_else(|| panic!("no constant {name}"))
                    .trim_end_matches("\";")
                    .to_owned(),
            }
        })
        .collect();
    paths.extend(app::ui::assets::ALL.iter().map(|asset| asset.path.to_owned()));
    // Once each, in their order: what the tests come by on their way depends on it.
    let mut seen = std::collections::HashSet::new();
    paths.retain(|path| seen.insert(path.clone()));
    assert!(paths.len() > 15 && [routes::LOGIN_CONFIRM, MAIL].iter().all(|path| paths.iter().any(|p| p == path)), "{paths:?}");
    paths
}

/// The cookies a response sets, added to those held.
fn keep(held: &str, response: &Response<Body>) -> String {
    let mut cookies: std::collections::BTreeMap<String, String> =
        held.split("; ").filter_map(|pair| pair.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    for cookie in response.headers().get_all(header::SET_COOKIE) {
        let pair = cookie.to_str().expect("ASCII").split(';').next().expect("a pair");
        let (name, value) = pair.split_once('=').expect("a pair");
        cookies.insert(name.to_owned(), value.to_owned());
    }
    cookies.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
}

/// A browser that asked and opened its link, holding everything but the button's press.
async fn about_to_sign_in(kit: &Kit, app: &Router) -> (String, String) {
    about_to_sign_in_as(kit, app, "mara@example.org").await
}

async fn about_to_sign_in_as(kit: &Kit, app: &Router, email: &str) -> (String, String) {
    let asked = send(app, request(&Method::POST, routes::LOGIN, "", &format!("email={}", email.replace('@', "%40")))).await;
    assert_eq!(asked.status(), StatusCode::SEE_OTHER);
    let cookies = keep("", &asked);
    // Beside the one that tells of the sign-in before this, in either order: the clock stands still.
    let sent = kit.letters().await.into_iter().find_map(|letter| match letter.content {
        Content::SignIn { token, code, .. } => Some((token, code)),
        _ => None,
    });
    let (token, code) = sent.expect("a sign-in mail");
    let opened =
        send(app, request(&Method::GET, &format!("{}?token={}", routes::LOGIN_VERIFY, token.reveal()), &cookies, "")).await;
    (keep(&cookies, &opened), code.reveal())
}

/// What a browser holds whose link's button was pressed.
async fn sign_in_by_link(kit: &Kit, app: &Router, email: &str) -> String {
    let (cookies, _) = about_to_sign_in_as(kit, app, email).await;
    let confirmed = send(app, request(&Method::POST, routes::LOGIN_CONFIRM, &cookies, "")).await;
    assert_eq!(confirmed.status(), StatusCode::SEE_OTHER);
    keep(&cookies, &confirmed)
}

const SIGNED_IN: &str = "select count(*) from sessions where user_id is not null";
const ASKED: &str = "select count(*) from magic_links";
const LIVE: &str = "select count(*) from magic_links where used = 0 and closed_at is null";

/// Walks every route with every method in a browser that holds a live link, and with the code in every field there is. Only the
/// two confirmed redemptions sign anybody in.
#[tokio::test]
async fn nothing_but_a_confirmed_redemption_signs_anybody_in() {
    let kit = Kit::new().await;
    // Without the limit per process: a walk posts faster than people.
    let app = service(&config(&[("LIMITS", "off")]), kit.auth.clone());
    let redemptions = [routes::LOGIN_CONFIRM, routes::LOGIN_SENT];
    let (mut cookies, mut code) = about_to_sign_in(&kit, &app).await;
    for path in paths() {
        for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
            if method == Method::POST && redemptions.contains(&path.as_str()) {
                continue;
            }
            let body = format!("email=mara%40example.org&token={0}&next=%2Faccount&user_id=1&level=email", code.replace(' ', ""));
            send(&app, request(&method, &path, &cookies, &body)).await;
            assert_eq!(kit.count(SIGNED_IN).await, 0, "{method} {path}");
            // The next one has a live link too: some forms close it, or ask for another.
            if kit.count(ASKED).await != 1 || kit.count(LIVE).await != 1 {
                kit.clock.advance(time::Duration::hours(2));
                sqlx::query("delete from magic_links").execute(&kit.pool).await.expect("deleted");
                (cookies, code) = about_to_sign_in(&kit, &app).await;
            }
        }
    }
    kit.clock.advance(time::Duration::hours(2));
    // The positive twin: the two that may, do.
    let (cookies, _) = about_to_sign_in(&kit, &app).await;
    send(&app, request(&Method::POST, routes::LOGIN_CONFIRM, &cookies, "")).await;
    assert_eq!(kit.count(SIGNED_IN).await, 1);
    kit.clock.advance(time::Duration::hours(2));
    let (cookies, code) = about_to_sign_in(&kit, &app).await;
    send(&app, request(&Method::POST, routes::LOGIN_SENT, &cookies, &format!("code={}", code.replace(' ', "+")))).await;
    assert_eq!(kit.count(SIGNED_IN).await, 2);
}

/// Whoever the address belongs to, if anybody.
/// Strangers can make the database slow, and a rollout is turned off by what counts as our own fault.
#[tokio::test]
async fn a_session_that_can_not_be_saved_is_busy_and_no_fault() {
    let kit = Kit::new().await;
    let app = service(&config(&[]), kit.auth.clone());
    let owner = kit.database.owner().await;
    sqlx::query("alter table sessions add constraint none check (false) not valid").execute(&owner).await.expect("the owner may");
    let refused = send(&app, request(&Method::POST, "/login", "", "email=mara%40example.org")).await;
    assert_eq!(
        (refused.status(), &refused.headers()[header::RETRY_AFTER]),
        (StatusCode::SERVICE_UNAVAILABLE, &HeaderValue::from(5))
    );
    assert!(body_of(refused).await.contains("<h1>"), "with a page");
}

#[tokio::test]
async fn where_codes_are_off_the_page_leads_to_the_link() {
    let kit = Kit::new().await;
    let app = service(&config(&[("LIMITS", "off")]), kit.auth.clone());
    let (cookies, code) = about_to_sign_in(&kit, &app).await;
    let says = async |method: &Method, body: &str| {
        let answer = send(&app, request(method, routes::LOGIN_SENT, &cookies, body)).await;
        let status = answer.status();
        let text =
            String::from_utf8(axum::body::to_bytes(answer.into_body(), usize::MAX).await.expect("a page").into()).expect("UTF-8");
        (
            status,
            text.contains("Codes are off for this address until you use the link in the email."),
            text.contains("name=\"code\""),
        )
    };
    assert_eq!(says(&Method::GET, "").await, (StatusCode::OK, false, true));
    let far = "insert into wrong_codes select email_key, 100, created_at from magic_links";
    sqlx::query(far).execute(&kit.pool).await.expect("put");
    assert_eq!(says(&Method::GET, "").await, (StatusCode::OK, true, false));
    let body = format!("code={}", code.replace(' ', "+"));
    assert_eq!(says(&Method::POST, &body).await, (StatusCode::FORBIDDEN, true, false));
    assert_eq!(kit.count(SIGNED_IN).await, 0);
    send(&app, request(&Method::POST, routes::LOGIN_CONFIRM, &cookies, "")).await;
    assert_eq!(kit.count(SIGNED_IN).await, 1, "the link works");
}

/// Turns two-factor on for the account that [`about_to_sign_in`] signs in.
async fn two_factor(kit: &Kit, admin: bool) -> Secret {
    enrol(kit, "mara@example.org", admin).await
}

async fn enrol(kit: &Kit, email: &str, admin: bool) -> Secret {
    let mut owner = Visitor::at([203, 0, 113, 24]);
    owner.give_first_factor(kit, &address(email)).await;
    let authority = owner.authority(&kit.auth).await.expect("signed in");
    kit.auth.self_service().start_two_factor_setup(&authority, &owner.from).await.expect("fresh");
    let secret = kit.auth.self_service().two_factor_setup(&authority).await.expect("answers").expect("begun");
    let (old, fresh) = (owner.session.expect("a session"), testkit::handover().fresh);
    let stepping = StepUpSession { authority: &authority, old, fresh };
    let code = secret.code(totp::step(kit.auth.now()));
    kit.auth.self_service().confirm_two_factor_setup(stepping, &code, "", &owner.from).await.expect("right");
    sqlx::query("update users set is_admin = $1 where email = $2")
        .bind(admin)
        .bind(email)
        .execute(&kit.pool)
        .await
        .expect("updated");
    kit.letters().await;
    kit.clock.advance(time::Duration::hours(1));
    secret
}

/// What an account owns, to be compared: who is half signed in changes none of it.
async fn belongings(kit: &Kit) -> Vec<String> {
    sqlx::query_scalar(
        "select (t.id, t.user_id, t.secret, t.confirmed_at, t.last_step)::text from totp_credentials t union all select b::text from backup_codes b
         union all select d::text from trusted_devices d union all select u.id || u.email || coalesce(u.last_sign_in_at::text, '') from users u
         union all select s.id::text from sessions s where level = 'two_factor' order by 1",
    )
    .fetch_all(&kit.pool)
    .await
    .expect("rows")
}

/// Walks every route with every method in a session that has given one factor of two. It opens the second step, signing out, help and
/// what is anybody's; everything else leads back to the second step, and nothing changes.
#[tokio::test]
async fn a_half_signed_in_session_opens_the_second_step_and_nothing_else() {
    for admin in [false, true] {
        let kit = Kit::new().await;
        let app = service(&config(&[("LIMITS", "off")]), kit.auth.clone());
        let secret = two_factor(&kit, admin).await;
        let before = belongings(&kit).await;
        // `verify` knows no session: it moves a link's token into a cookie.
        // Taking back asks for a link, and not for a session.
        let anybodys =
            [routes::LOGOUT, routes::HELP, routes::HELP_ARTICLE, routes::LOGIN_VERIFY, routes::UNDO, "/healthz", "/readyz"];
        // To a proxy they are nobody (`forward_auth`), and so where a key is asked for.
        let proxies = [routes::AUTH_VERIFY, routes::AUTH_REDIRECT, METRICS];
        let open = [[routes::LOGIN_TWO_FACTOR, routes::LOGIN_BACKUP_CODE].as_slice(), &anybodys, &proxies].concat();
        let mut cookies = String::new();
        let mut half_used = true;
        for path in paths() {
            if path.starts_with("/assets/")
                || path.starts_with(routes::DEV_INBOX)
                || app::ui::assets::ALL.iter().any(|asset| asset.path == path)
            {
                continue;
            }
            for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
                if half_used {
                    kit.clock.advance(time::Duration::hours(2));
                    let (link, _) = about_to_sign_in(&kit, &app).await;
                    let confirmed = send(&app, request(&Method::POST, routes::LOGIN_CONFIRM, &link, "")).await;
                    assert_eq!(confirmed.headers()[header::LOCATION], routes::LOGIN_TWO_FACTOR);
                    cookies = keep(&link, &confirmed);
                    half_used = false;
                }
                let body = "email=mara%40example.org&next=%2Faccount&id=1&set=1&saved=on&code=000000&token=x&name=x";
                let response = send(&app, request(&method, &path, &cookies, body)).await;
                let (status, what) = (response.status(), format!("{method} {path}: {}", response.status()));
                if open.contains(&path.as_str()) {
                    half_used |= path == routes::LOGOUT && method == Method::POST;
                } else if status == StatusCode::SEE_OTHER {
                    let leads = response.headers()[header::LOCATION].to_str().expect("ASCII").to_owned();
                    // The bare path of a page's second form leads to the page, which then leads to the second step.
                    let page = path.starts_with(&leads) && leads != path && method != Method::POST;
                    assert!(leads == routes::LOGIN_TWO_FACTOR || page, "{what}: leads to {leads}");
                } else {
                    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{what}");
                }
            }
        }
        assert_eq!(belongings(&kit).await, before);

        // The positive twin: the code opens it.
        kit.clock.advance(time::Duration::hours(2));
        let (link, _) = about_to_sign_in(&kit, &app).await;
        let cookies = keep(&link, &send(&app, request(&Method::POST, routes::LOGIN_CONFIRM, &link, "")).await);
        let code = secret.code(totp::step(kit.auth.now())).reveal().replace(' ', "");
        let entered = send(&app, request(&Method::POST, routes::LOGIN_TWO_FACTOR, &cookies, &format!("code={code}"))).await;
        assert_eq!(
            (entered.status(), &entered.headers()[header::LOCATION]),
            (StatusCode::SEE_OTHER, &routes::ACCOUNT.parse().expect("ASCII"))
        );
        let cookies = keep(&cookies, &entered);
        assert_eq!(send(&app, request(&Method::GET, routes::ACCOUNT, &cookies, "")).await.status(), StatusCode::OK);
    }
}

/// Whom `REQUIRE_2FA` covers can set it up, sign out and read help, and do nothing else.
#[tokio::test]
async fn who_owes_two_factor_is_sent_to_set_it_up() {
    let kit = Kit::new().await;
    let app = service(&config(&[]), kit.auth.clone());
    let (link, _) = about_to_sign_in(&kit, &app).await;
    let cookies = keep(&link, &send(&app, request(&Method::POST, routes::LOGIN_CONFIRM, &link, "")).await);
    assert_eq!(send(&app, request(&Method::GET, routes::ACCOUNT, &cookies, "")).await.status(), StatusCode::OK);
    sqlx::query("update users set is_admin = true").execute(&kit.pool).await.expect("updated");
    for path in paths().into_iter().filter(|path| path.starts_with("/account") && !path.starts_with(routes::TWO_FACTOR_SETUP)) {
        for method in [Method::GET, Method::POST] {
            let response = send(&app, request(&method, &path, &cookies, "id=1&set=1&saved=on&code=000000")).await;
            let leads = response.headers().get(header::LOCATION).map(|value| value.to_str().expect("ASCII").to_owned());
            let page = method == Method::GET && leads.as_ref().is_some_and(|leads| path.starts_with(leads.as_str()));
            let allowed = response.status() == StatusCode::METHOD_NOT_ALLOWED;
            assert!(leads.as_deref() == Some(routes::TWO_FACTOR_SETUP) || page || allowed, "{method} {path}: {leads:?}");
        }
    }
    let setup = send(&app, request(&Method::GET, routes::TWO_FACTOR_SETUP, &cookies, "")).await;
    assert_eq!(setup.status(), StatusCode::OK);
}

/// A second press brings a cookie that is dead by then; it must not cost the browser the new one.
#[tokio::test]
async fn only_signing_out_takes_the_cookie_away() {
    let kit = Kit::new().await;
    let app = service(&config(&[]), kit.auth.clone());
    let removals = |response: &Response<Body>| {
        let cookies = response.headers().get_all(header::SET_COOKIE).iter();
        cookies.filter(|cookie| cookie.as_bytes().starts_with(b"__Host-latchkey=;")).count()
    };
    let unknown = "__Host-latchkey=AAAAAAAAAAAAAAAAAAAAAA";
    for path in [routes::LOGIN, routes::ACCOUNT, routes::REAUTH] {
        assert_eq!(removals(&send(&app, request(&Method::GET, path, unknown, "")).await), 0, "{path}");
    }
    let (link, _) = about_to_sign_in(&kit, &app).await;
    let cookies = keep(&link, &send(&app, request(&Method::POST, routes::LOGIN_CONFIRM, &link, "")).await);
    assert_eq!(removals(&send(&app, request(&Method::POST, routes::LOGOUT, &cookies, "")).await), 1);
}

/// A session with only its first factor opens nothing yet.
#[tokio::test]
async fn a_half_signed_in_session_does_not_open_the_account() {
    let kit = Kit::new().await;
    let app = service(&config(&[]), kit.auth.clone());
    let (cookies, _) = about_to_sign_in(&kit, &app).await;
    let confirmed = send(&app, request(&Method::POST, routes::LOGIN_CONFIRM, &cookies, "")).await;
    let cookies = keep(&cookies, &confirmed);
    assert_eq!(send(&app, request(&Method::GET, routes::ACCOUNT, &cookies, "")).await.status(), StatusCode::OK);
    sqlx::query("update sessions set level = 'first_factor' where user_id is not null").execute(&kit.pool).await.expect("halved");
    let half = send(&app, request(&Method::GET, routes::ACCOUNT, &cookies, "")).await;
    assert_eq!(half.status(), StatusCode::SEE_OTHER);
}

/// What is asked for is the same for every address, and so is the answer.
#[tokio::test]
async fn known_unknown_and_disabled_addresses_get_one_answer() {
    let kit = Kit::with(Policy { passwordless_auth: true, sign_up: SignUp::Closed, ..Policy::default() }).await;
    kit.auth.users().create(&address("known@example.org"), false, Some(&why("a friend"))).await.expect("made");
    let off = kit.auth.users().create(&address("off@example.org"), false, Some(&why("a friend"))).await.expect("made");
    sqlx::query("update users set disabled_at = created_at where id = $1").bind(off).execute(&kit.pool).await.expect("disabled");
    let app = service(&config(&[]), kit.auth.clone());
    let mut answers = Vec::new();
    for email in ["known", "unknown", "off"] {
        let response = send(&app, request(&Method::POST, routes::LOGIN, "", &format!("email={email}%40example.org"))).await;
        let names: Vec<String> = response.headers().keys().map(ToString::to_string).collect();
        let cookies = response.headers().get_all(header::SET_COOKIE).iter().count();
        answers.push((response.status(), response.headers().get(header::LOCATION).cloned(), names, cookies));
    }
    assert_eq!(answers[0].0, StatusCode::SEE_OTHER);
    assert!(answers.iter().all(|answer| answer == &answers[0]), "{answers:?}");
    assert_eq!(kit.letters().await.len(), 3, "and each gets a mail");
}

async fn body_of(response: Response<Body>) -> String {
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("whole");
    String::from_utf8(body.to_vec()).expect("UTF-8")
}

fn location(response: &Response<Body>) -> &str {
    response.headers()[header::LOCATION].to_str().expect("ASCII")
}

async fn signed_in(kit: &Kit, app: &Router) -> String {
    let (link, _) = about_to_sign_in(kit, app).await;
    keep(&link, &send(app, request(&Method::POST, routes::LOGIN_CONFIRM, &link, "")).await)
}

/// The whole way by its pages: there, and back by the mail to the old address, from another browser.
#[tokio::test]
async fn an_address_is_changed_and_changed_back() {
    let kit = Kit::new().await;
    let app = service(&config(&[("LIMITS", "off")]), kit.auth.clone());
    let cookies = signed_in(&kit, &app).await;
    kit.clock.advance(time::Duration::minutes(1));
    let asked = send(&app, request(&Method::POST, routes::EMAIL, &cookies, "email=mara%40example.net")).await;
    assert_eq!((asked.status(), location(&asked)), (StatusCode::SEE_OTHER, routes::EMAIL));
    let page = body_of(send(&app, request(&Method::GET, routes::EMAIL, &cookies, "")).await).await;
    assert!(page.contains("We've sent a code to") && page.contains("mara@example.net"), "{page}");
    let another = body_of(send(&app, request(&Method::GET, routes::EMAIL_ANOTHER, &cookies, "")).await).await;
    assert!(another.contains("New email address"), "{another}");
    let Some(Content::EmailChange { code, .. }) = kit.letters().await.pop().map(|letter| letter.content) else { panic!("a code") };
    let short = send(&app, request(&Method::POST, routes::EMAIL_CODE, &cookies, "code=12")).await;
    assert_eq!(short.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let code = format!("code={}", code.reveal().replace(' ', "+"));
    let changed = send(&app, request(&Method::POST, routes::EMAIL_CODE, &cookies, &code)).await;
    assert_eq!((changed.status(), location(&changed)), (StatusCode::SEE_OTHER, routes::ACCOUNT));
    let moved = keep(&cookies, &changed);
    let page = body_of(send(&app, request(&Method::GET, routes::ACCOUNT, &moved, "")).await).await;
    assert!(page.contains("mara@example.net"), "{page}");
    let old_id = send(&app, request(&Method::GET, routes::ACCOUNT, &cookies, "")).await;
    assert_eq!(old_id.status(), StatusCode::SEE_OTHER, "the old cookie opens nothing");

    let Some(Content::Notice { undo: Some(token), .. }) = kit.letters().await.pop().map(|letter| letter.content) else {
        panic!("a link that takes it back")
    };
    let opened = get_path(&app, &format!("{}?token={}", routes::UNDO, token.reveal())).await;
    assert_eq!((opened.status(), location(&opened)), (StatusCode::SEE_OTHER, routes::UNDO), "no token in the address bar");
    let held = keep("", &opened);
    assert!(held.starts_with("__Host-latchkey-undo=") && !held.contains("__Host-latchkey="), "{held}");
    for _ in 0..2 {
        let page = send(&app, request(&Method::GET, routes::UNDO, &held, "")).await;
        assert_eq!(page.status(), StatusCode::OK, "looking uses nothing up");
        let page = body_of(page).await;
        assert!(page.contains("m•••••@example.org") && !page.contains("mara@"), "{page}");
        assert_eq!(kit.count("select count(*) from users where email = 'mara@example.net'").await, 1);
    }
    let undone = send(&app, request(&Method::POST, routes::UNDO, &held, "")).await;
    assert_eq!(undone.status(), StatusCode::OK);
    assert!(!keep("", &undone).contains("__Host-latchkey="), "it signs nobody in");
    assert!(body_of(undone).await.contains("Your address is back"));
    assert_eq!(kit.count("select count(*) from users where email = 'mara@example.org'").await, 1);
    assert_eq!(send(&app, request(&Method::GET, routes::ACCOUNT, &moved, "")).await.status(), StatusCode::SEE_OTHER);
    for method in [Method::GET, Method::POST] {
        let again = send(&app, request(&method, routes::UNDO, &held, "")).await;
        assert_eq!(again.status(), StatusCode::GONE, "{method}");
        assert!(body_of(again).await.contains("This link has already been used"), "{method}");
    }
    for nothing in [routes::UNDO, "/undo?token=short"] {
        assert_eq!(get_path(&app, nothing).await.status(), StatusCode::NOT_FOUND, "{nothing}");
    }
}

/// Whoever gave the strongest factor long ago gives it again, and comes back to what they wanted.
#[tokio::test]
async fn changes_to_the_account_ask_for_the_strongest_factor_first() {
    let kit = Kit::new().await;
    let app = service(&config(&[("LIMITS", "off")]), kit.auth.clone());
    let cookies = signed_in(&kit, &app).await;
    let pages = [routes::EMAIL, routes::EXPORT, routes::DELETE];
    for page in pages {
        assert_eq!(send(&app, request(&Method::GET, page, &cookies, "")).await.status(), StatusCode::OK, "{page}");
    }
    kit.clock.advance(time::Duration::minutes(10));
    for page in pages {
        for method in [Method::GET, Method::POST] {
            let response = send(&app, request(&method, page, &cookies, "email=mara%40example.net")).await;
            assert_eq!(
                (response.status(), location(&response)),
                (StatusCode::SEE_OTHER, format!("{}?next={page}", routes::REAUTH).as_str()),
                "{method} {page}"
            );
        }
    }
    assert_eq!(
        kit.count("select count(*) from auth_audit where event_type like 'account.%' or event_type like 'email.%'").await,
        0
    );
}

#[tokio::test]
async fn a_copy_is_a_file_that_nobody_keeps() {
    let kit = Kit::new().await;
    let app = service(&config(&[]), kit.auth.clone());
    let cookies = signed_in(&kit, &app).await;
    let response = send(&app, request(&Method::POST, routes::EXPORT, &cookies, "")).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    assert_eq!(response.headers()[header::CONTENT_DISPOSITION], "attachment; filename=\"latchkey-account.json\"");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    let copy: serde_json::Value = serde_json::from_str(&body_of(response).await).expect("JSON");
    assert_eq!(copy["profile"]["email"], "mara@example.org");
}

#[tokio::test]
async fn an_account_is_named_and_leaves_and_stays() {
    let kit = Kit::new().await;
    let app = service(&config(&[("LIMITS", "off")]), kit.auth.clone());
    let cookies = signed_in(&kit, &app).await;
    let post = async |path: &str, body: &str| send(&app, request(&Method::POST, path, &cookies, body)).await;
    assert_eq!(location(&post(routes::NAME, "name=Mara").await), routes::ACCOUNT);
    let refused = post(routes::NAME, &format!("name={}", "a".repeat(81))).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(body_of(refused).await.contains(&"a".repeat(81)), "what was typed is there still");
    assert_eq!(kit.count("select count(*) from users where display_name = 'Mara'").await, 1);

    assert_eq!(location(&post(routes::DELETE, "").await), routes::DELETE);
    // Also for who would have to step up to ask for it again.
    kit.clock.advance(time::Duration::hours(1));
    let waiting = send(&app, request(&Method::GET, routes::DELETE, &cookies, "")).await;
    assert!(body_of(waiting).await.contains("Keep my account"));
    assert_eq!(location(&post(routes::DELETE_CANCEL, "").await), routes::ACCOUNT);
    assert_eq!(kit.count("select count(*) from users where deletes_at is not null").await, 0);
    kit.clock.advance(time::Duration::hours(1));

    // The same account, as the only administrator. Somebody who owes two-factor could not get here.
    let cookies = signed_in(&kit, &app).await;
    let admin = service(&config(&[("LIMITS", "off")]), unbound(&kit).await);
    sqlx::query("update users set is_admin = true").execute(&kit.pool).await.expect("updated");
    let last = send(&admin, request(&Method::POST, routes::DELETE, &cookies, "")).await;
    assert_eq!(last.status(), StatusCode::CONFLICT);
    assert!(body_of(last).await.contains("Make somebody else one first."));
}

/// Another server on the same database, where nobody has to have two-factor.
async fn unbound(kit: &Kit) -> Arc<Auth> {
    let policy = Policy { require_two_factor: auth::policy::RequireTwoFactor::None, ..policy() };
    let pool = kit.database.pool().await;
    let auth = Arc::new(Auth::new(pool, Arc::new(kit.clock.clone()), Keys::new(&testkit::TEST_KEY, &[]), policy));
    auth.flag().read().await.expect("the database answers");
    auth
}
