//! Forward-auth, as proxies and browsers see it: whose a request is, what opens another host, and what ends that.

use app::routes;
use auth::{
    factors::totp,
    policy::{Policy, RequireTwoFactor, SignUp, limits::Limits},
};
use axum::{Router, body::Body};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use testkit::{Kit, address};
use time::Duration;

use super::{assert_headers, config, enrol, keep, request, send, service};

const BASE: &str = "https://id.example.org";
const APP: &str = "app.example.org";
const ADMIN: &str = "admin.example.org";
const DEEP: &str = "https://app.example.org/reports?year=2026&q=a%26b";
const GATE: &str = "__Secure-latchkey-gate";
const MARA: &str = "mara@example.org";
const IDENTITY: [&str; 4] = ["remote-user", "remote-email", "remote-groups", "remote-auth-level"];

struct World {
    kit: Kit,
    app: Router,
}

impl World {
    async fn new() -> Self {
        Self::requiring(RequireTwoFactor::Admins).await
    }

    async fn requiring(require_two_factor: RequireTwoFactor) -> Self {
        let limits = Limits::off();
        let policy = Policy { passwordless_auth: true, sign_up: SignUp::Open, limits, require_two_factor, ..Policy::default() };
        let kit = Kit::with(policy).await;
        let config = config(&[
            ("BASE_URL", BASE),
            ("EMAIL_SMTP", "smtp://127.0.0.1:2525"),
            ("LIMITS", "off"),
            ("TRUSTED_PROXIES", "127.0.0.1"),
            ("FORWARD_AUTH_DOMAIN", "example.org"),
            ("FORWARD_AUTH_HOSTS", "app.example.org=email,admin.example.org=two_factor"),
        ]);
        let app = service(&config, kit.auth.clone());
        Self { kit, app }
    }

    async fn ask(&self, method: Method, path: &str, cookies: &str, body: &str) -> Response<Body> {
        let mut request = request(&method, path, cookies, body);
        if method != Method::GET {
            request.headers_mut().insert(header::ORIGIN, HeaderValue::from_static(BASE));
        }
        send(&self.app, request).await
    }

    async fn post(&self, path: &str, cookies: &str, body: &str) -> Response<Body> {
        self.ask(Method::POST, path, cookies, body).await
    }

    /// A browser that gives its first factor, on its way to `next`; the last answer, and what it holds then.
    async fn first_factor(&self, email: &str, next: &str) -> (Response<Body>, String) {
        self.kit.clock.advance(Duration::minutes(2));
        let next: String = url::form_urlencoded::byte_serialize(next.as_bytes()).collect();
        let asked = self.post(routes::LOGIN, "", &format!("email={}&next={next}", email.replace('@', "%40"))).await;
        let held = keep("", &asked);
        let (_, code) = self.kit.sign_in_mail().await;
        let answer = self.post(routes::LOGIN_SENT, &held, &format!("code={}", code.reveal().replace(' ', ""))).await;
        let held = keep(&held, &answer);
        (answer, held)
    }

    /// What a proxy is told of a request to `host`.
    async fn verdict(&self, host: &str, cookies: &str) -> Verdict {
        Verdict::of(send(&self.app, asks(routes::AUTH_VERIFY, host, cookies, &[])).await)
    }

    /// Page by page; the last answer shows the backup codes.
    async fn set_up_two_factor(&self, held: &str) -> Response<Body> {
        self.post(routes::TWO_FACTOR_SETUP_START, held, "").await;
        let page = body(self.ask(Method::GET, routes::TWO_FACTOR_SETUP, held, "").await).await;
        let key = page.split_once("class=\"copy mono\">").expect("a key").1.split('<').next().expect("a key").replace(' ', "");
        let secret = data_encoding::BASE32_NOPAD.decode(key.as_bytes()).expect("base32");
        let code = totp_code(&secret, self.kit.auth.now().unix_timestamp());
        self.post(routes::TWO_FACTOR_SETUP, held, &format!("code={code}")).await
    }

    async fn gate(&self, email: &str) -> String {
        let (answer, _) = self.first_factor(email, DEEP).await;
        gate_of(&answer).expect("a token")
    }
}

/// A proxy's question.
fn asks(path: &str, host: &str, cookies: &str, lines: &[(&'static str, &str)]) -> Request<Body> {
    let mut request = request(&Method::GET, path, cookies, "");
    let told = [("x-forwarded-host", host), ("x-forwarded-proto", "https"), ("x-forwarded-uri", "/reports?year=2026&q=a%26b")];
    for (name, value) in told.iter().chain(lines) {
        request.headers_mut().insert(*name, value.parse().expect("ASCII"));
    }
    request
}

#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    status: u16,
    identity: [String; 4],
}

impl Verdict {
    fn of(response: Response<Body>) -> Self {
        assert_headers("a verdict", response.headers(), true);
        assert!(!response.headers().contains_key(header::SET_COOKIE));
        let line = |name: &str| {
            let lines: Vec<_> = response.headers().get_all(name).iter().collect();
            assert_eq!(lines.len(), 1, "{name}");
            lines[0].to_str().expect("ASCII").to_owned()
        };
        let verdict = Self { status: response.status().as_u16(), identity: IDENTITY.map(line) };
        let told = verdict.identity.iter().filter(|value| !value.is_empty()).count();
        assert_eq!(told, if verdict.status == 200 { 4 } else { 0 }, "{verdict:?}: all or none");
        verdict
    }
}

fn gate_of(response: &Response<Body>) -> Option<String> {
    let cookies = response.headers().get_all(header::SET_COOKIE).iter().filter_map(|cookie| cookie.to_str().ok());
    let pair = cookies.filter_map(|cookie| cookie.split(';').next()).find(|pair| pair.starts_with(GATE))?;
    Some(pair.to_owned())
}

fn leads(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::LOCATION).map(|location| location.to_str().expect("ASCII"))
}

async fn body(response: Response<Body>) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("whole");
    String::from_utf8(bytes.into()).expect("UTF-8")
}

/// What one cookie's holder may do with it.
fn only(held: &str, name: &str) -> String {
    held.split("; ").find(|pair| pair.starts_with(&format!("{name}="))).expect("held").to_owned()
}

#[tokio::test]
async fn who_signs_in_for_another_host_is_taken_there_and_known_there() {
    let world = World::new().await;
    let (answer, held) = world.first_factor(MARA, DEEP).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_headers("the hop", answer.headers(), true);
    let cookies: Vec<_> = answer.headers().get_all(header::SET_COOKIE).iter().map(|c| c.to_str().expect("ASCII")).collect();
    let cookie = cookies.iter().find(|cookie| cookie.starts_with(GATE)).expect("its cookie");
    for attribute in ["; HttpOnly", "; SameSite=Lax", "; Secure", "; Path=/", "; Domain=example.org", "; Max-Age=2592000"] {
        assert!(cookie.contains(attribute), "{cookie} lacks {attribute}");
    }
    let gate = gate_of(&answer).expect("a token");
    let page = body(answer).await;
    let url = DEEP.replace('&', "&amp;");
    assert!(page.contains(&format!(r#"<meta http-equiv="refresh" content="0; url={url}">"#)), "{page}");
    assert!(page.contains(&format!(r#"href="{url}""#)), "{page}");

    let user: uuid::Uuid = sqlx::query_scalar("select id from users").fetch_one(&world.kit.pool).await.expect("one");
    let known = Verdict { status: 200, identity: [user.to_string(), MARA.to_owned(), "users".to_owned(), "email".to_owned()] };
    assert_eq!(world.verdict(APP, &gate).await, known);
    assert_eq!(world.verdict(APP, &only(&held, "__Host-latchkey")).await, known, "the session itself does too");
    assert_eq!(world.verdict(APP, &held).await, known);
    assert_eq!(world.verdict(ADMIN, &held).await.status, 403);
    assert_eq!(world.verdict("other.example.org", &held).await.status, 403, "no host of ours");

    // Nothing of it lies in the database as it is.
    let token = gate.split_once('=').expect("a pair").1;
    let dump: Vec<String> =
        sqlx::query_scalar("select t::text from forward_auth_tokens t").fetch_all(&world.kit.pool).await.expect("rows");
    assert!(dump.len() == 1 && !dump[0].contains(token));
}

#[tokio::test]
async fn strangers_and_made_up_cookies_are_nobody() {
    let world = World::new().await;
    let (_, held) = world.first_factor(MARA, DEEP).await;
    let (session, gate) = (only(&held, "__Host-latchkey"), only(&held, GATE));
    let nobody = |value: &str| value.split_once('=').expect("a pair").1.to_owned();
    for cookies in [
        String::new(),
        format!("{GATE}="),
        format!("{GATE}={}", "A".repeat(43)),
        format!("{GATE}=../../{}", nobody(&gate)),
        // Neither opens what the other does.
        format!("{GATE}={}", nobody(&session)),
        format!("__Host-latchkey={}", nobody(&gate)),
        "__Host-latchkey=AAAAAAAAAAAAAAAAAAAAAA".to_owned(),
        "__Secure-latchkey-gate-x=1".to_owned(),
    ] {
        assert_eq!(world.verdict(APP, &cookies).await.status, 401, "{cookies}");
    }
    // A dead session beside a live token, and the other way round.
    assert_eq!(world.verdict(APP, &format!("__Host-latchkey=AAAAAAAAAAAAAAAAAAAAAA; {gate}")).await.status, 200);
    assert_eq!(world.verdict(APP, &format!("{session}; {GATE}={}", "A".repeat(43))).await.status, 200);
    // A visitor who has asked for a mail, and no more.
    let asked = world.post(routes::LOGIN, "", "email=eve%40example.org").await;
    assert_eq!(world.verdict(APP, &keep("", &asked)).await.status, 401);
}

/// Each host of the domain can set the cookie, and with a longer path it comes first.
#[tokio::test]
async fn another_hosts_cookie_puts_nobody_into_its_account() {
    let world = World::new().await;
    let eves = world.gate("eve@example.org").await;
    let (_, held) = world.first_factor(MARA, DEEP).await;
    let (session, gate) = (only(&held, "__Host-latchkey"), only(&held, GATE));
    let made_up = format!("{GATE}={}", "A".repeat(43));
    for cookies in
        [format!("{eves}; {gate}"), format!("{gate}; {eves}"), format!("{session}; {eves}"), format!("{eves}; {session}")]
    {
        assert_eq!(world.verdict(APP, &cookies).await.status, 401, "{cookies}");
    }
    // What is none of ours keeps nobody out, and neither does the same twice.
    for cookies in [
        format!("{made_up}; {gate}"),
        format!("{GATE}=x; {gate}"),
        format!("{gate}; {made_up}"),
        format!("{gate}; {gate}"),
        format!("{session}; {gate}"),
    ] {
        assert_eq!(world.verdict(APP, &cookies).await.identity[1], MARA, "{cookies}");
    }
}

/// The cookie goes to every application under the domain. None may do anything with it but let its owner in.
#[tokio::test]
async fn the_cookie_opens_nothing_else() {
    let world = World::new().await;
    let gate = world.gate(MARA).await;
    for path in super::paths() {
        let real = path.replace("{id}", "00000000-0000-0000-0000-000000000000").replace("{change}", "disable");
        for method in [Method::GET, Method::POST] {
            let with = world.ask(method.clone(), &real, &gate, "email=").await;
            let without = world.ask(method.clone(), &real, "", "email=").await;
            assert_eq!((with.status(), leads(with.headers())), (without.status(), leads(without.headers())), "{method} {path}");
        }
    }
    let as_session = gate.replace(GATE, "__Host-latchkey");
    assert_eq!(leads(world.ask(Method::GET, routes::ACCOUNT, &as_session, "").await.headers()), Some("/login?next=/account"));
    assert_eq!(world.verdict(APP, &gate).await.status, 200, "and the walk has not ended it");
}

#[tokio::test]
async fn it_dies_with_its_session() {
    let world = World::new().await;
    let run = async |sql: &'static str| {
        sqlx::query(sql).bind(world.kit.auth.now()).execute(&world.kit.pool).await.expect("updated");
    };
    // Signed out.
    let (_, held) = world.first_factor(MARA, DEEP).await;
    let gate = only(&held, GATE);
    assert_eq!(world.verdict(APP, &gate).await.status, 200);
    let out = world.post(routes::LOGOUT, &held, "").await;
    let gone = out.headers().get_all(header::SET_COOKIE).iter().any(|cookie| {
        let cookie = cookie.to_str().expect("ASCII");
        cookie.starts_with(&format!("{GATE}=;")) && cookie.contains("Max-Age=0") && cookie.contains("Domain=example.org")
    });
    assert!(gone, "{:?}", out.headers());
    assert_eq!(world.verdict(APP, &gate).await.status, 401);

    // The session ended from elsewhere; the account disabled, or at its end.
    for (ends, mends) in [
        ("update sessions set revoked_at = $1, revoke_reason = 'admin' where revoked_at is null", "select $1::timestamptz"),
        ("update users set disabled_at = $1", "update users set disabled_at = null where $1::timestamptz is not null"),
        ("update users set deletes_at = $1", "update users set deletes_at = null where $1::timestamptz is not null"),
    ] {
        let gate = world.gate(MARA).await;
        assert_eq!(world.verdict(APP, &gate).await.status, 200);
        run(ends).await;
        assert_eq!(world.verdict(APP, &gate).await.status, 401, "{ends}");
        run(mends).await;
    }
    // Idle: each look keeps it awake; and too old, however awake.
    let gate = world.gate(MARA).await;
    for _ in 0..2 {
        world.kit.clock.advance(Duration::hours(23));
        assert_eq!(world.verdict(APP, &gate).await.status, 200);
    }
    world.kit.clock.advance(Duration::hours(25));
    assert_eq!(world.verdict(APP, &gate).await.status, 401);
    let gate = world.gate(MARA).await;
    for _ in 0..35 {
        world.kit.clock.advance(Duration::hours(20));
        assert_eq!(world.verdict(APP, &gate).await.status, 200);
    }
    world.kit.clock.advance(Duration::hours(20));
    assert_eq!(world.verdict(APP, &gate).await.status, 401, "thirty days");
    // A new one takes the place of the one before.
    let (_, held) = world.first_factor(MARA, DEEP).await;
    let gate = only(&held, GATE);
    let again = world.post(routes::LOGIN_CONTINUE, &held, &format!("next={DEEP}").replace('&', "%26")).await;
    assert_eq!(world.verdict(APP, &gate).await.status, 401);
    assert_eq!(world.verdict(APP, &gate_of(&again).expect("another")).await.status, 200);
}

#[tokio::test]
async fn a_look_notes_that_the_session_lives_once_a_minute() {
    let world = World::new().await;
    let gate = world.gate(MARA).await;
    let seen = async || -> time::OffsetDateTime {
        let sql = "select last_seen_at from sessions where user_id is not null order by last_seen_at desc limit 1";
        sqlx::query_scalar(sql).fetch_one(&world.kit.pool).await.expect("a time")
    };
    let first = seen().await;
    world.kit.clock.advance(Duration::seconds(59));
    world.verdict(APP, &gate).await;
    assert_eq!(seen().await, first);
    world.kit.clock.advance(Duration::seconds(1));
    world.verdict(APP, &gate).await;
    assert_eq!(seen().await, first + Duration::minutes(1));
}

#[tokio::test]
async fn a_host_that_needs_two_factor_takes_nothing_less() {
    let world = World::new().await;
    let secret = enrol(&world.kit, "root@example.org", true).await;
    let (half, held) = world.first_factor("root@example.org", "https://admin.example.org/x").await;
    assert_eq!((leads(half.headers()), gate_of(&half)), (Some(routes::LOGIN_TWO_FACTOR), None));
    assert_eq!(world.verdict(APP, &held).await.status, 401, "one factor of two is nobody");
    let code = secret.code(totp::step(world.kit.auth.now())).reveal().replace(' ', "");
    let whole = world.post(routes::LOGIN_TWO_FACTOR, &held, &format!("code={code}&trust_device=on")).await;
    let gate = gate_of(&whole).expect("a token");
    let held = keep(&held, &whole);
    assert!(body(whole).await.contains("Taking you to admin.example.org."));
    for host in [APP, ADMIN] {
        let verdict = world.verdict(host, &gate).await;
        assert_eq!(verdict.status, 200, "{host}");
        assert_eq!(verdict.identity[1..], ["root@example.org", "users,admins", "two_factor"]);
    }
    // A browser that is trusted with the second factor counts as one that gave it.
    world.post(routes::LOGOUT, &held, "").await;
    let trusted = only(&held, "__Host-latchkey-device");
    let asked = world.post(routes::LOGIN, &trusted, "email=root%40example.org&next=https://admin.example.org/").await;
    let held = keep(&trusted, &asked);
    let (_, code) = world.kit.sign_in_mail().await;
    let hop = world.post(routes::LOGIN_SENT, &held, &format!("code={}", code.reveal().replace(' ', ""))).await;
    assert_eq!(world.verdict(ADMIN, &gate_of(&hop).expect("a token")).await.identity[3], "two_factor");
    // Who they are is as the account is now, not as it was when they signed in.
    sqlx::query("update users set is_admin = false").execute(&world.kit.pool).await.expect("updated");
    assert_eq!(world.verdict(ADMIN, &gate_of(&hop).expect("a token")).await.identity[2], "users");
}

/// Two-factor that is turned on makes an older session half of one; one that is set up in the session lifts the session, and not
/// the cookie that an application may have kept.
#[tokio::test]
async fn a_token_is_never_lifted() {
    let world = World::new().await;
    let (_, held) = world.first_factor(MARA, DEEP).await;
    let gate = only(&held, GATE);
    let (setup, other) = (world.first_factor(MARA, DEEP).await.1, gate.clone());
    let kept = only(&setup, GATE);
    let done = world.set_up_two_factor(&setup).await;
    assert_eq!(done.status(), StatusCode::OK);
    let setup = keep(&setup, &done);

    assert_eq!(world.verdict(APP, &other).await.status, 401, "another browser's, and it has given one factor of two");
    assert_eq!(world.verdict(ADMIN, &only(&setup, "__Host-latchkey")).await.status, 200, "the session has two");
    assert_eq!(world.verdict(ADMIN, &kept).await.status, 403, "the token was made with one");
    assert_eq!(world.verdict(APP, &kept).await.identity[3], "email");
    let hop = world.post(routes::LOGIN_CONTINUE, &setup, "next=https://admin.example.org/").await;
    assert_eq!(world.verdict(ADMIN, &gate_of(&hop).expect("a token")).await.status, 200, "another is");
}

fn totp_code(secret: &[u8], unix: i64) -> String {
    use aws_lc_rs::hmac;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let mac = hmac::sign(&key, &(unix / 30).to_be_bytes());
    let at = usize::from(mac.as_ref()[19] & 15);
    let word = u32::from_be_bytes(mac.as_ref()[at..at + 4].try_into().expect("four bytes"));
    format!("{:06}", (word & 0x7fff_ffff) % 1_000_000)
}

#[tokio::test]
async fn who_owes_two_factor_is_led_to_set_it_up_and_then_back() {
    for required in [RequireTwoFactor::Everyone, RequireTwoFactor::None] {
        let world = World::requiring(required).await;
        let everyone = required == RequireTwoFactor::Everyone;
        let (host, next) = if everyone { (APP, DEEP) } else { (ADMIN, "https://admin.example.org/users?a=1&b=2") };
        let (answer, held) = world.first_factor(MARA, next).await;
        assert_eq!(gate_of(&answer), None);
        let asks_first = leads(answer.headers()).expect("a page").to_owned();
        assert!(asks_first.starts_with("/login/continue?next=https"), "{asks_first}");
        assert_eq!(world.verdict(host, &held).await.status, 403);
        let page = body(world.ask(Method::GET, &asks_first, &held, "").await).await;
        assert!(page.contains(&format!("<h1>{host} needs two-factor</h1>")), "{page}");
        let sent = world.post(routes::LOGIN_CONTINUE, &held, &format!("next={}", next.replace('&', "%26"))).await;
        assert_eq!((leads(sent.headers()), gate_of(&sent)), (Some(routes::TWO_FACTOR_SETUP), None));

        let revealed = world.set_up_two_factor(&held).await;
        let held = keep(&held, &revealed);
        let page = body(revealed).await;
        let codes = page.split_once("name=\"set\" value=\"").expect("a set").1.split('"').next().expect("a set").to_owned();
        let saved = world.post(routes::BACKUP_CODES_SAVED, &held, &format!("set={codes}&saved=on")).await;
        let back = leads(saved.headers()).expect("a page").to_owned();
        let page = body(world.ask(Method::GET, &back, &held, "").await).await;
        assert!(page.contains(&format!("<h1>Continue to {host}?</h1>")), "{back}: {page}");
        let again = world.post(routes::BACKUP_CODES_SAVED, &held, &format!("set={codes}&saved=on")).await;
        assert_eq!(leads(again.headers()), Some(routes::TWO_FACTOR), "led back once");
    }
}

#[tokio::test]
async fn who_is_signed_in_is_asked_before_another_host_learns_it() {
    let world = World::new().await;
    let (home, held) = world.first_factor(MARA, "/account/sessions").await;
    assert_eq!((leads(home.headers()), gate_of(&home)), (Some("/account/sessions"), None));
    let login = format!("{}?next={}", routes::LOGIN, DEEP.replace('&', "%26").replace('?', "%3F").replace("%26b", "%2526b"));
    let before = world.kit.count("select count(*) from forward_auth_tokens").await;
    let asked = world.ask(Method::GET, &login, &held, "").await;
    let page = leads(asked.headers()).expect("a page").to_owned();
    assert!(page.starts_with("/login/continue?next=https"), "{page}");
    let shown = world.ask(Method::GET, &page, &held, "").await;
    assert_eq!((shown.status(), gate_of(&shown)), (StatusCode::OK, None));
    assert!(body(shown).await.contains("<h1>Continue to app.example.org?</h1>"));
    assert_eq!(world.kit.count("select count(*) from forward_auth_tokens").await, before, "a GET makes none");
    // What leads nowhere else leads home, with and without the button.
    for next in ["", "https://evil.example/", "https://app.example.org@evil.example/", "//evil.example", "https://id.example.org/x"]
    {
        let got = world.ask(Method::GET, &format!("{}?next={next}", routes::LOGIN_CONTINUE), &held, "").await;
        let posted = world.post(routes::LOGIN_CONTINUE, &held, &format!("next={next}")).await;
        for answer in [got, posted] {
            assert_eq!(
                (answer.status(), leads(answer.headers()), gate_of(&answer)),
                (StatusCode::SEE_OTHER, Some(routes::ACCOUNT), None),
                "{next}"
            );
        }
    }
    // Another site can't press it.
    let mut forged = request(&Method::POST, routes::LOGIN_CONTINUE, &held, "next=https://app.example.org/");
    forged.headers_mut().insert(header::ORIGIN, HeaderValue::from_static("https://app.example.org"));
    assert_eq!(send(&world.app, forged).await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn only_a_proxy_says_which_host_is_asked_for() {
    let world = World::new().await;
    let (_, held) = world.first_factor(MARA, DEEP).await;
    for path in [routes::AUTH_VERIFY, routes::AUTH_REDIRECT] {
        let mut from_elsewhere = asks(path, APP, &held, &[("accept", "text/html")]);
        from_elsewhere.extensions_mut().insert(axum::extract::ConnectInfo(std::net::SocketAddr::from(([192, 0, 2, 1], 1))));
        assert_eq!(Verdict::of(send(&world.app, from_elsewhere).await).status, 403);
        let no_host = request(&Method::GET, path, &held, "");
        assert_eq!(Verdict::of(send(&world.app, no_host).await).status, 403);
        let other = asks(path, ADMIN, &held, &[("x-original-url", "https://app.example.org/")]);
        assert_eq!(Verdict::of(send(&world.app, other).await).status, 403, "told in two ways");
        // What the client sends of these changes nothing.
        let spoofed = [("remote-user", "root"), ("remote-groups", "admins"), ("remote-auth-level", "two_factor")];
        let verdict = Verdict::of(send(&world.app, asks(path, APP, &held, &spoofed)).await);
        assert_eq!((verdict.status, verdict.identity[2].as_str()), (200, "users"));
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            assert_eq!(world.ask(method, path, &held, "").await.status(), StatusCode::METHOD_NOT_ALLOWED);
        }
    }
    // Where nothing is configured nobody passes.
    let bare = service(&config(&[("TRUSTED_PROXIES", "127.0.0.1")]), world.kit.auth.clone());
    assert_eq!(send(&bare, asks(routes::AUTH_VERIFY, APP, &held, &[])).await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_page_leads_to_sign_in_and_the_rest_is_told_no() {
    let world = World::new().await;
    let (_, user) = world.first_factor(MARA, DEEP).await;
    let sign_in = "https://id.example.org/login?next=https%3A//app.example.org/reports%3Fyear%3D2026%26q%3Da%2526b";
    let html = ("accept", "text/html");
    for (host, cookies, refused) in [(APP, "", 401), (ADMIN, user.as_str(), 403)] {
        let sign_in = sign_in.replace(APP, host);
        for (path, lines, status, location) in [
            (routes::AUTH_VERIFY, &[html][..], refused, Some(sign_in.as_str())),
            (routes::AUTH_VERIFY, &[html, ("x-original-method", "POST")], refused, None),
            (routes::AUTH_VERIFY, &[], refused, None),
            (routes::AUTH_REDIRECT, &[html], 302, Some(sign_in.as_str())),
            (routes::AUTH_REDIRECT, &[html, ("x-forwarded-method", "HEAD")], 302, Some(sign_in.as_str())),
            (routes::AUTH_REDIRECT, &[html, ("x-forwarded-method", "POST")], refused, None),
            (routes::AUTH_REDIRECT, &[html, ("sec-fetch-mode", "cors")], refused, None),
            (routes::AUTH_REDIRECT, &[("accept", "application/json")], refused, None),
        ] {
            let answer = send(&world.app, asks(path, host, cookies, lines)).await;
            assert_eq!(leads(answer.headers()), location, "{path} {host} {lines:?}");
            assert_eq!(Verdict::of(answer).status, status, "{path} {host} {lines:?}");
        }
    }
    // And the way back is the one that was asked for.
    let (hop, _) = world.first_factor(MARA, DEEP).await;
    assert!(body(hop).await.contains(&DEEP.replace('&', "&amp;")));
}

/// An address may hold anything that RFC 5322 calls an atom; a header takes it as it is. What is no address is nobody's.
#[tokio::test]
async fn an_address_is_told_as_it_is_or_not_at_all() {
    let world = World::new().await;
    let odd = "#$&'*+-/?=^_`{|}~.x@xn--bcher-kva.example";
    let (encoded, next) = (url::form_urlencoded::byte_serialize(odd.as_bytes()).collect::<String>(), DEEP.replace('&', "%26"));
    assert_eq!(address(odd).as_str(), odd);
    let asked = world.post(routes::LOGIN, "", &format!("email={encoded}&next={next}")).await;
    let held = keep("", &asked);
    let (_, code) = world.kit.sign_in_mail().await;
    let hop = world.post(routes::LOGIN_SENT, &held, &format!("code={}", code.reveal().replace(' ', ""))).await;
    let gate = gate_of(&hop).expect("a token");
    assert_eq!(world.verdict(APP, &gate).await.identity[1], odd);
    for stored in ["a b@example.org", "a\r\nRemote-Groups: admins@example.org", "j\u{fc}rgen@example.org", "a,b@example.org", ""] {
        sqlx::query("update users set email = $1").bind(stored).execute(&world.kit.pool).await.expect("updated");
        assert_eq!(world.verdict(APP, &gate).await.status, 401, "{stored:?}");
    }
}

#[tokio::test]
async fn without_a_database_nobody_passes() {
    let world = World::new().await;
    let gate = world.gate(MARA).await;
    world.kit.pool.close().await;
    let verdict = world.verdict(APP, &gate).await;
    assert_eq!(verdict.status, 503);
}
