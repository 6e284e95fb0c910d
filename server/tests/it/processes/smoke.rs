//! `latchkey smoke` passes against a good server, and against a broken one fails in the line that says what is broken. What breaks it is
//! a proxy in front, which changes one thing each.

use std::{
    convert::Infallible,
    io::Write as _,
    net::SocketAddr,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse as _, Redirect, Response},
};
use http::{
    HeaderValue, Method, StatusCode,
    header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, LOCATION, ORIGIN, SET_COOKIE},
};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Bytes, client::conn::http1, server, service::service_fn};
use hyper_util::rt::TokioIo;
use testkit::{Database, SmtpSink};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{
    Server,
    account::latchkey,
    count,
    mail_tls::{Trust, certified},
    two_factor::SIGN_IN,
};

/// What the proxy changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    NotReady,
    NoPolicy,
    /// Anybody reads accounts.
    OpenApi,
    /// Whoever is signed in does.
    SessionOpensApi,
    /// A key does, whatever its scope.
    KeyOpensAll,
    MailLost,
    OpeningSignsIn,
    NoSession,
    CookieForScripts,
    LinkWorksTwice,
    CodesShownAgain,
    SessionOutlivesSignOut,
    NoSecondStep,
    WrongCodeTaken,
    BackupCodeWorksTwice,
}

struct Proxy {
    origin: String,
    state: Arc<Breaker>,
}

struct Breaker {
    origin: String,
    server: Mutex<Option<SocketAddr>>,
    broken: Mutex<Broken>,
    /// The codes that were shown.
    codes: Mutex<String>,
    /// The next look at the account is answered as if somebody were signed in.
    lets_in: Mutex<bool>,
}

fn set<T>(place: &Mutex<T>, value: T) -> T {
    std::mem::replace(&mut place.lock().unwrap_or_else(PoisonError::into_inner), value)
}

impl Proxy {
    /// Its address is the server's `BASE_URL`, so it comes first.
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let origin = format!("http://localhost:{}", listener.local_addr().expect("bound").port());
        let state = Arc::new(Breaker {
            origin: origin.clone(),
            server: Mutex::default(),
            broken: Mutex::new(Broken::Nothing),
            codes: Mutex::default(),
            lets_in: Mutex::default(),
        });
        let app = Router::new().fallback(answer).with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { origin, state }
    }

    fn breaks(&self, broken: Broken) {
        set(&self.state.broken, broken);
    }
}

/// A request that can be sent twice.
struct Asked {
    method: Method,
    path: String,
    head: http::request::Parts,
    body: Bytes,
}

impl Breaker {
    async fn forward(&self, method: Method, path: &str, head: &http::request::Parts, body: Bytes) -> Response {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).expect("the server runs");
        let stream = TcpStream::connect(server).await.expect("the server is there");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        let mut request = http::Request::builder().method(method).uri(path).body(Full::new(body)).expect("well-formed");
        *request.headers_mut() = head.headers.clone();
        let (mut head, body) = sender.send_request(request).await.expect("an answer").into_parts();
        head.headers.remove(CONTENT_LENGTH);
        Response::from_parts(head, Body::from(body.collect().await.expect("whole").to_bytes()))
    }
}

async fn answer(State(proxy): State<Arc<Breaker>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let body = body.collect().await.expect("whole").to_bytes();
    let broken = *proxy.broken.lock().unwrap_or_else(PoisonError::into_inner);
    let asked = Asked { method: head.method.clone(), path, head, body };
    if let Some(answer) = instead(&proxy, broken, &asked) {
        return answer;
    }
    let answer = proxy.forward(asked.method.clone(), &asked.path, &asked.head, asked.body.clone()).await;
    changed(&proxy, broken, &asked, answer).await
}

/// What the server is not even asked.
fn instead(proxy: &Breaker, broken: Broken, asked: &Asked) -> Option<Response> {
    let has_cookies = asked.head.headers.contains_key(COOKIE);
    let (method, path) = (&asked.method, asked.path.split('?').next().unwrap_or_default());
    if path == "/api/v1/users" || path.starts_with("/api/v1/") && broken == Broken::KeyOpensAll {
        let keyed = asked.head.headers.contains_key(AUTHORIZATION);
        let open = match broken {
            Broken::OpenApi => !keyed && !has_cookies,
            Broken::SessionOpensApi => !keyed && has_cookies,
            Broken::KeyOpensAll => keyed,
            _ => false,
        };
        if open {
            return Some((StatusCode::OK, [(CONTENT_TYPE, "application/json")], "{}").into_response());
        }
    }
    match (broken, method, path) {
        (Broken::NotReady, _, "/readyz") => Some((StatusCode::SERVICE_UNAVAILABLE, "migrations are pending\n").into_response()),
        (Broken::MailLost, _, "/dev/inbox") => Some("<h1>Dev inbox</h1>".into_response()),
        (Broken::SessionOutlivesSignOut, &Method::POST, "/logout") => {
            let gone = [(SET_COOKIE, "__Host-latchkey=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax")];
            Some((gone, Redirect::to("/logout")).into_response())
        }
        (Broken::NoSecondStep, _, "/account") if set(&proxy.lets_in, false) => Some("<h1>Account</h1>".into_response()),
        _ => None,
    }
}

/// What becomes of the server's answer.
async fn changed(proxy: &Breaker, broken: Broken, asked: &Asked, mut answer: Response) -> Response {
    let (get, post) = (asked.method == Method::GET, asked.method == Method::POST);
    let path = asked.path.split('?').next().unwrap_or_default();
    let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    match (broken, path) {
        (Broken::NoPolicy, _) => {
            answer.headers_mut().remove(CONTENT_SECURITY_POLICY);
        }
        // Whoever looks at the page has pressed the button.
        (Broken::OpeningSignsIn, "/login/confirm") if get && answer.status() == 200 => {
            let mut head = asked.head.clone();
            head.headers.insert(ORIGIN, HeaderValue::from_str(&proxy.origin).expect("ASCII"));
            let pressed = proxy.forward(Method::POST, path, &head, Bytes::new()).await;
            for cookie in pressed.headers().get_all(SET_COOKIE) {
                answer.headers_mut().append(SET_COOKIE, cookie.clone());
            }
        }
        (Broken::NoSession, "/login/confirm") if post => {
            answer.headers_mut().remove(SET_COOKIE);
        }
        (Broken::CookieForScripts, "/login/confirm") if post => {
            let cookies: Vec<HeaderValue> = answer.headers().get_all(SET_COOKIE).iter().cloned().collect();
            answer.headers_mut().remove(SET_COOKIE);
            for cookie in cookies {
                let cookie = cookie.to_str().expect("ASCII").replace("; HttpOnly", "");
                answer.headers_mut().append(SET_COOKIE, cookie.parse().expect("a header"));
            }
        }
        (Broken::LinkWorksTwice, "/login/confirm") if answer.status() == 410 => *answer.status_mut() = StatusCode::OK,
        (Broken::CodesShownAgain, "/account/two-factor/setup") if post => {
            let (head, body) = answer.into_parts();
            let body = body.collect().await.expect("whole").to_bytes();
            set(&proxy.codes, String::from_utf8_lossy(&body).into_owned());
            answer = Response::from_parts(head, Body::from(body));
        }
        (Broken::CodesShownAgain, "/account/backup-codes") if get => {
            let codes = proxy.codes.lock().unwrap_or_else(PoisonError::into_inner).clone();
            answer = ([(CONTENT_TYPE, "text/html")], codes).into_response();
        }
        (Broken::NoSecondStep, "/login/confirm") if post && location == "/login/two-factor" => {
            answer.headers_mut().insert(LOCATION, HeaderValue::from_static("/account"));
            set(&proxy.lets_in, true);
        }
        (Broken::WrongCodeTaken, "/login/two-factor") | (Broken::BackupCodeWorksTwice, "/login/backup-code")
            if answer.status() == 422 =>
        {
            *answer.status_mut() = StatusCode::SEE_OTHER;
            answer.headers_mut().insert(LOCATION, HeaderValue::from_static("/account"));
        }
        _ => {}
    }
    answer
}

fn smoke(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_latchkey"));
    command.env_clear().arg("smoke").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it while the proxy goes on.
async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().expect("the binary runs")).await.expect("no panic")
}

/// The lines with this outcome, and the whole for who has to read it.
fn lines(output: &Output, outcome: &str) -> Vec<String> {
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let checks = report["checks"].as_array().expect("a list").iter();
    checks.filter(|check| check["outcome"] == outcome).map(|check| check["name"].as_str().expect("a name").to_owned()).collect()
}

async fn start(database: &Database, proxy: &Proxy, mail: &str) -> Server {
    let variables = [("BASE_URL", proxy.origin.as_str()), ("EMAIL_SMTP", mail)];
    let server = Server::start_with(database, &variables).await;
    set(&proxy.state.server, Some(server.address));
    server
}

const TURNED_ON: &str = "select count(*) from totp_credentials where confirmed_at is not null";

/// Twice, within the limits as they ship, and with nothing left behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_good_server_passes_and_passes_again() {
    let (database, proxy) = (Database::new().await, Proxy::start().await);
    let _server = start(&database, &proxy, "").await;
    let pool = database.pool_of(1).await;
    for _ in 0..2 {
        let options = ["--base-url", &proxy.origin, "--email", "mara@example.org", "--mailbox", "dev-inbox", "--json"];
        let output = run(smoke(&options)).await;
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        assert_eq!(
            (lines(&output, "ok").len(), lines(&output, "failed"), lines(&output, "skipped")),
            (20, vec![], vec![]),
            "{text}"
        );
        assert_eq!(count(&pool, TURNED_ON).await, 0, "the account is as it was");
        let live = "select count(*) from sessions where user_id is not null and revoked_at is null";
        assert_eq!(count(&pool, live).await, 0, "and so are its sessions");
    }
    let found = latchkey(&database, &["reconcile"]);
    assert!(String::from_utf8_lossy(&found.stdout).starts_with("Nothing found since "));
}

/// A mail server of its own; and a person who pastes.
#[tokio::test(flavor = "multi_thread")]
async fn mail_is_taken_by_smtp_or_pasted() {
    let port = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound").port();
    let mailbox = format!("smtp://127.0.0.1:{port}");
    let (database, proxy) = (Database::new().await, Proxy::start().await);
    let server = start(&database, &proxy, &format!("smtp://mailer:secret@127.0.0.1:{port}")).await;
    let output = run(smoke(&["--base-url", &proxy.origin, "--email", "mara@example.org", "--mailbox", &mailbox])).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("\n20 checks, 0 failed, 0 skipped.\n"));
    drop(server);

    let sink = SmtpSink::start().await;
    let _server = start(&database, &proxy, &sink.url()).await;
    let email = "ilse@example.org";
    let mut command = smoke(&["--base-url", &proxy.origin, "--email", email, "--paste", "--json"]);
    let mut process = command.stdin(Stdio::piped()).spawn().expect("the binary runs");
    let mut terminal = process.stdin.take().expect("piped");
    for (n, (link, code)) in [(true, true), (true, false), (false, true), (false, true)].into_iter().enumerate() {
        let mail = sink.nth_about(email, SIGN_IN, n + 1).await;
        if link {
            writeln!(terminal, "{}{}", proxy.origin, mail.link()).expect("it listens");
        }
        if code {
            writeln!(terminal, "{} {}", &mail.code()[..3], &mail.code()[3..]).expect("it listens");
        }
    }
    let output = tokio::task::spawn_blocking(move || process.wait_with_output()).await.expect("no panic").expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let asked = String::from_utf8_lossy(&output.stderr);
    assert_eq!((asked.matches("Its link:").count(), asked.matches("Its code:").count()), (2, 3), "{asked}");
}

mod thorough {
    #[tokio::test(flavor = "multi_thread")]
    async fn each_fault_is_named_by_its_line() {
        super::names_each_fault().await;
    }
}

async fn names_each_fault() {
    let (database, proxy) = (Database::new().await, Proxy::start().await);
    let _server = start(&database, &proxy, "").await;
    let pool = database.pool_of(1).await;
    let made = latchkey(&database, &["apikey", "create", "Smoke", "--scope", "users"]);
    let made = String::from_utf8(made.stdout).expect("UTF-8");
    let key = made.lines().next().expect("the key alone on its line");
    for (n, (broken, line)) in [
        (Broken::NotReady, "readiness"),
        (Broken::NoPolicy, "security headers"),
        (Broken::OpenApi, "the API asks for a key"),
        (Broken::SessionOpensApi, "a session opens no API"),
        (Broken::KeyOpensAll, "the API key opens what its scope allows, and nothing else"),
        (Broken::MailLost, "the mail comes with a link and a code"),
        (Broken::OpeningSignsIn, "opening the link signs nobody in"),
        (Broken::NoSession, "confirming the link signs in"),
        (Broken::CookieForScripts, "confirming the link signs in"),
        (Broken::LinkWorksTwice, "the link works once"),
        (Broken::CodesShownAgain, "backup codes are shown once"),
        (Broken::SessionOutlivesSignOut, "signing out ends the session"),
        (Broken::NoSecondStep, "signing in asks for the second factor"),
        (Broken::WrongCodeTaken, "a wrong code is refused"),
        (Broken::BackupCodeWorksTwice, "a backup code works once"),
    ]
    .into_iter()
    .enumerate()
    {
        proxy.breaks(broken);
        let email = format!("mara{n}@example.org");
        let mut command = smoke(&["--base-url", &proxy.origin, "--email", &email, "--mailbox", "dev-inbox", "--json"]);
        command.args(["--mail-timeout", "2", "--api-key", key]);
        let output = run(command).await;
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{broken:?}: {text}");
        assert_eq!(lines(&output, "failed"), [line], "{broken:?}: {text}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let check = report["checks"].as_array().expect("a list").iter().find(|check| check["name"] == line).expect("there");
        assert!(check["expected"].as_str().is_some_and(|text| !text.is_empty()), "{text}");
        // Nothing secret in what it tells: neither the link's token nor a code.
        assert!(!text.contains("token=") && !text.contains("secret="), "{text}");
        assert_eq!(count(&pool, TURNED_ON).await, 0, "{broken:?}: the account is as it was");
    }
}

/// Two checks are enough to tell: one with a certificate that the machine trusts, one with another's.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_must_prove_its_name() {
    let (trust, stranger) = (Trust::new("smoke"), Trust::new("smoke-stranger"));
    let acceptor = TlsAcceptor::from(certified(&["localhost"], Some(&trust.authority), false));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base_url = format!("https://localhost:{}", listener.local_addr().expect("bound").port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Who does not trust us hangs up.
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let answer = service_fn(async |_| Ok::<_, Infallible>(Response::new(Body::from("ok\n"))));
            let _ = server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        }
    });
    for (file, outcome) in [(&trust.file, "ok"), (&stranger.file, "failed")] {
        let mut command = smoke(&["--base-url", &base_url, "--email", "mara@example.org", "--mailbox", "dev-inbox", "--json"]);
        command.env("SSL_CERT_FILE", file);
        let output = run(command).await;
        assert_eq!(output.status.code(), Some(1), "there is no sign-in page");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(lines(&output, outcome)[..2], ["health", "readiness"], "{text}");
        assert_eq!(text.contains("no safe connection: "), outcome == "failed", "{text}");
    }
}

#[test]
fn what_is_missing_is_a_mistake_of_usage() {
    for options in [
        ["--base-url", "http://localhost:1", "--email", "mara@example.org"].as_slice(),
        &["--base-url", "http://localhost:1", "--email", "mara", "--paste"],
        &["--base-url", "localhost:1", "--email", "mara@example.org", "--paste"],
        &["--base-url", "http://localhost:1", "--email", "mara@example.org", "--mailbox", "imap://localhost"],
        &["--base-url", "http://localhost:1", "--email", "mara@example.org", "--mailbox", "dev-inbox", "--paste"],
    ] {
        assert_eq!(smoke(options).output().expect("the binary runs").status.code(), Some(2), "{options:?}");
    }
    let nobody = smoke(&["--base-url", "http://127.0.0.1:1", "--email", "mara@example.org", "--mailbox", "dev-inbox", "--json"]);
    let output = { nobody }.output().expect("the binary runs");
    assert_eq!((output.status.code(), lines(&output, "ok")), (Some(1), vec![]), "nobody there");
}
