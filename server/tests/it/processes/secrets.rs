//! The secrets that no browser test brings up: those of other applications and of proxies, and the database's password. Nothing that a
//! server says or keeps has one, also at `trace`. The others: `end2end/tests/secrets.spec.ts`.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
};

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use serde_json::{Value, json};
use testkit::{Browser, Database, SmtpSink};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{
    Server,
    traces::Collector,
    try_get_at,
    two_factor::{SIGN_IN, enrol, half_a_minute_passes, now, shown},
};

const MARA: &str = "mara@example.org";
/// Where the second server is, for whoever stands behind the same proxy.
const ID: &str = "http://id.example.org:4000";
const APP: &str = "app.example.org:4000";

/// 32 bytes that stand nowhere else.
fn canary() -> String {
    BASE64.encode(&auth::crypto::random::<32>())
}

/// A kind of secret, and one of it.
type Secret = (&'static str, String);

/// How a secret could stand somewhere, in small letters: its text, and the bytes that the text stands for.
fn spellings(secret: &str) -> Vec<String> {
    let percent = secret.bytes().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat();
    let mut all =
        vec![secret.to_owned(), HEXLOWER.encode(secret.as_bytes()), percent, secret.replace('+', "%2b").replace('/', "%2f")];
    for bytes in [BASE64URL_NOPAD.decode(secret.as_bytes()), BASE64.decode(secret.as_bytes())].into_iter().flatten() {
        let listed: Vec<String> = bytes.iter().map(ToString::to_string).collect();
        all.extend([HEXLOWER.encode(&bytes), BASE64.encode(&bytes), BASE64URL_NOPAD.encode(&bytes), listed.join(", ")]);
    }
    all.into_iter().map(|spelling| spelling.to_ascii_lowercase()).collect()
}

/// Which of the secrets stand in a text.
fn found(text: &str, secrets: &[Secret]) -> Vec<&'static str> {
    let text = text.to_ascii_lowercase();
    let is_there = |secret: &str| spellings(secret).iter().any(|spelling| text.contains(spelling));
    secrets.iter().filter(|(_, secret)| is_there(secret)).map(|(kind, _)| *kind).collect()
}

/// A request of an application's server, and what came back, headers and all.
async fn call(address: SocketAddr, key: &str, session: &str, method: &str, path: &str, body: &Value) -> String {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost:4000\r\nAuthorization: Bearer {key}\r\nLatchkey-Session: {session}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    answer
}

/// What the answer's JSON has under these names.
fn taken(answer: &str, names: &[&str]) -> Vec<String> {
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    let body: Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"));
    names.iter().map(|name| body[name].as_str().unwrap_or_else(|| panic!("no {name}: {body}")).to_owned()).collect()
}

/// Servers on one database that log everything, each to a file, and send what they do to one collector.
struct World {
    variables: Vec<(&'static str, String)>,
    database: Database,
    sink: SmtpSink,
    collector: Collector,
    secrets: Vec<Secret>,
}

impl World {
    async fn new() -> Self {
        let (database, sink, collector) = (Database::new().await, SmtpSink::start().await, Collector::start().await);
        let mut secrets: Vec<Secret> =
            ["encryption key", "previous key", "database password", "migrator's password"].map(|kind| (kind, canary())).into();
        // It stands in a URL, percent-encoded; so that it is one text everywhere, it has nothing to encode.
        for (_, password) in &mut secrets[2..] {
            password.retain(|c| c.is_ascii_alphanumeric());
        }
        let with = |url: &str, password: &str| url.replacen('@', &format!(":{password}@"), 1);
        let variables = vec![
            ("WALLET_ENCRYPTION_KEY", secrets[0].1.clone()),
            ("WALLET_ENCRYPTION_KEY_PREVIOUS", secrets[1].1.clone()),
            ("DATABASE_URL", with(&database.url, &secrets[2].1)),
            ("DATABASE_MIGRATOR_URL", with(&database.owner_url, &secrets[3].1)),
            ("EMAIL_SMTP", sink.url()),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.clone()),
            ("RUST_LOG", "trace".to_owned()),
            ("LOG_FORMAT", "json".to_owned()),
            ("LIMITS", "off".to_owned()),
            ("REQUIRE_2FA", "none".to_owned()),
        ];
        Self { variables, database, sink, collector, secrets }
    }

    fn log(&self, server: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{server}.log", self.database.name))
    }

    async fn start(&self, name: &str, more: &[(&str, &str)]) -> Server {
        let log = fs::File::create(self.log(name)).expect("a file");
        let variables: Vec<(&str, &str)> = self.variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Server::start_logging_to(&self.database, &[&variables, more].concat(), Stdio::from(log)).await
    }

    /// What a command prints, well or not.
    fn told_by(&self, args: &[&str], more: &[(&str, &str)]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_latchkey"))
            .args(args)
            .env_clear()
            .env("APP_ENV", "development")
            .envs(self.variables.iter().map(|(name, value)| (*name, value.as_str())))
            .envs(more.iter().copied())
            .output()
            .expect("the binary runs");
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
    }

    fn note(&mut self, kind: &'static str, secret: &str) {
        assert!(secret.len() >= 16, "{kind}: {secret}");
        self.secrets.push((kind, secret.to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_applications_and_proxies_is_said_or_kept() {
    let mut world = World::new().await;
    let pool = world.database.pool_of(1).await;
    let ops = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound");
    let server = world.start("first", &[("OPS_LISTEN_ADDR", &ops.to_string())]).await;
    let hosts = format!("{APP}=email");
    let guarding = [
        ("BASE_URL", ID),
        ("TRUSTED_PROXIES", "127.0.0.1"),
        ("FORWARD_AUTH_DOMAIN", "example.org"),
        ("FORWARD_AUTH_HOSTS", hosts.as_str()),
    ];
    let second = world.start("second", &guarding).await;

    // Mara has two-factor, and goes on to a page behind a proxy.
    let owner = enrol(&server, &world.sink, &pool).await;
    let mut browser = Browser::new(second.address, ID);
    browser.cookies.clone_from(&owner.browser.cookies);
    let next = format!("http://{APP}/deep?link");
    assert_eq!(browser.post("/login/continue", &[("next", &next)]).await.status, 200);
    let gate = browser.cookies["__Secure-latchkey-gate"].clone();
    let verified = |gate: &str| {
        format!(
            "GET /auth/verify HTTP/1.1\r\nHost: id.example.org:4000\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: {APP}\r\n\
             X-Forwarded-Uri: /\r\nCookie: __Secure-latchkey-gate={gate}\r\nConnection: close\r\n\r\n"
        )
    };
    for (gate, status) in [(gate.as_str(), " 200 "), (&gate[1..], " 401 ")] {
        let mut stream = TcpStream::connect(second.address).await.expect("connected");
        stream.write_all(verified(gate).as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        assert!(answer.lines().next().is_some_and(|line| line.contains(status)), "{answer}");
        assert!(!answer.contains(gate), "{answer}");
    }
    world.note("gate token", &gate);
    world.note("TOTP secret", &owner.key);
    for cookie in ["__Host-latchkey", "__Host-latchkey-known"] {
        world.note(cookie.trim_start_matches("__"), &owner.browser.cookies[cookie]);
    }

    // An application signs her in, with both factors; what is wrong about a request is told without it.
    let made = world.told_by(&["apikey", "create", "Notes", "--scope", "signin", "--scope", "sessions", "--json"], &[]);
    let key = made.split("\"key\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a key").to_owned();
    world.note("API key", &key[key.len() - 43..]);
    let ask =
        async |session: &str, method: &str, path: &str, body: Value| call(server.address, &key, session, method, path, &body).await;
    let asked = ask("", "POST", "/api/v1/magic-links", json!({ "email": MARA })).await;
    let request_secret = taken(&asked, &["request_secret"]).remove(0);
    world.note("request_secret", &request_secret);
    let code = world.sink.nth_about(MARA, SIGN_IN, 2).await.code();
    let proof = json!({ "request_secret": request_secret, "code": code });
    let challenged = ask("", "POST", "/api/v1/magic-links/verify", proof.clone()).await;
    let challenge = taken(&challenged, &["challenge"]).remove(0);
    world.note("challenge", &challenge);
    half_a_minute_passes(&pool).await;
    let code = shown(&owner.key, now(&pool).await);
    let signed_in = ask("", "POST", "/api/v1/two-factor/verify", json!({ "challenge": challenge, "code": code })).await;
    let session = taken(&signed_in, &["session_token"]).remove(0);
    world.note("session_token", &session);
    assert!(ask(&session, "GET", "/api/v1/session", Value::Null).await.starts_with("HTTP/1.1 200"));
    for (path, body) in [
        ("/api/v1/magic-links/verify", proof),
        ("/api/v1/magic-links/verify", json!({ "request_secret": 7, "code": challenge, &request_secret: session })),
        ("/api/v1/two-factor/verify", json!({ "challenge": session, "code": request_secret })),
        ("/api/v1/magic-links", json!({ "email": session, "redirect_url": format!("https://{challenge}.example.org") })),
        ("/api/v1/nowhere", Value::Null),
        (&format!("/api/v1/users/{session}?{challenge}"), Value::Null),
    ] {
        let answer = ask(&session, "POST", path, body).await;
        assert!(answer.starts_with("HTTP/1.1 4"), "{path}: {answer}");
        assert_eq!(found(&answer, &world.secrets), [""; 0], "{path}: {answer}");
    }

    for server in [&server, &second] {
        let arguments = fs::read_to_string(format!("/proc/{}/cmdline", server.id())).expect("it runs");
        assert!(arguments.contains("serve") && found(&arguments, &world.secrets).is_empty(), "{arguments}");
    }
    let metrics = try_get_at(ops, "/metrics").await.expect("answered");
    assert!(metrics.contains("auth_sessions_created_total{level=\"two_factor\"} 1"), "{metrics}");
    assert_eq!(found(&metrics, &world.secrets), [""; 0]);
    for server in [server, second] {
        server.terminate();
        assert!(server.wait().await.success());
    }
    for (name, route) in [("first", "/api/v1/two-factor/verify"), ("second", "/auth/verify")] {
        let log = fs::read_to_string(world.log(name)).expect("written");
        for part in [route, "\"level\":\"TRACE\"", "\"target\":\"sqlx::query\""] {
            assert!(log.contains(part), "no {part} in the log of the {name}");
        }
        assert!(!log.contains("log lines were dropped"));
        assert_eq!(found(&log, &world.secrets), [""; 0], "{name}");
        fs::remove_file(world.log(name)).expect("removed");
    }
    let spans = format!("{:?}", world.collector.batches());
    assert!(spans.contains("POST /api/v1/two-factor/verify") && spans.contains("GET /auth/verify"));
    assert_eq!(found(&spans, &world.secrets), [""; 0]);
    let dump = Command::new("pg_dump").arg(&world.database.owner_url).output().expect("pg_dump runs").stdout;
    let dump = String::from_utf8_lossy(&dump);
    assert!(dump.contains("COPY public.api_keys"));
    assert_eq!(found(&dump, &world.secrets), [""; 0]);

    no_command_says_one(&world);
}

/// What commands say, also where nothing works.
fn no_command_says_one(world: &World) {
    let nowhere = format!("postgres://app:{}@127.0.0.1:1/latchkey", world.secrets[2].1);
    let broken = [("DATABASE_URL", nowhere.as_str()), ("DATABASE_MIGRATOR_URL", &nowhere), ("EMAIL_SMTP", "smtp://127.0.0.1:1")];
    for (args, more) in [
        (&["audit", "export"][..], &[][..]),
        (&["audit", "export", "--format", "csv"], &[]),
        (&["config", "check"], &[]),
        (&["doctor"], &[]),
        (&["doctor"], &broken),
        (&["migrate", "--status"], &broken),
    ] {
        // As talkative as the servers: the log of a command goes to standard error.
        let said = world.told_by(args, more);
        assert!(!said.is_empty(), "{args:?}");
        assert_eq!(found(&said, &world.secrets), [""; 0], "{args:?}: {said}");
    }
}

#[test]
fn a_secret_that_is_there_would_be_found() {
    let token = BASE64URL_NOPAD.encode(&[0xab; 32]);
    for spelling in spellings(&token) {
        assert_eq!(found(&format!("before {} after", spelling.to_uppercase()), &[("token", token.clone())]), ["token"]);
    }
    assert_eq!(found("before after", &[("token", token)]), [""; 0]);
}
