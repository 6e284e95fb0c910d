//! Forward-auth, and an application's question whom a session speaks for, each beside a raw axum handler that finds the same row by the
//! same query.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use auth::{
    Auth,
    crypto::{ForwardAuthToken, Keys, SessionToken, random},
    identity::{Actor, Scope},
    policy::Policy,
    primitives::clock::{Clock as _, SystemClock},
};
use axum::{Json, Router, extract::State, routing::get};
use http::{
    HeaderMap, Method, StatusCode,
    header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue},
};
use private_postgres::{APPLICATION, Cluster, DATABASE};
use serde_json::json;
use sqlx::{PgPool, Row as _, postgres::PgPoolOptions};
use testkit::{Browser, SmtpSink, TEST_KEY};
use uuid::Uuid;

use crate::{client::client, cpu, median, servers};

const CLIENTS: u8 = 16;
const ROUND: Duration = Duration::from_secs(5);
const COOKIE_NAME: &str = "__Secure-latchkey-gate";
const SESSION: &str = "/api/v1/session";
const APPLICATION_NAME: &str = "Bench";
const ORIGIN: &str = "http://id.example.org";
/// What the proxy says.
const ASKED: [(&str, &str); 4] = [
    ("x-forwarded-host", "app.example.org"),
    ("x-forwarded-proto", "http"),
    ("x-forwarded-uri", "/reports?year=2026"),
    ("x-forwarded-method", "GET"),
];
/// As many connections as the server has.
const CONNECTIONS: u32 = 16;
/// `docs`' aim: at least this share of the raw handler's requests.
const AIM: f64 = 0.85;

/// The product's own statement, from its source.
static STATEMENT: LazyLock<&str> =
    LazyLock::new(|| first_statement(include_str!("../../../auth/src/sign_in/forward_auth/store.rs")));

/// The statement of a session's introspection, the same way.
static INTROSPECTION: LazyLock<&str> = LazyLock::new(|| {
    let store = include_str!("../../../auth/src/sign_in/for_applications/store.rs");
    first_statement(store.split("fn key_and_session").nth(1).expect("the function"))
});

fn first_statement(source: &'static str) -> &'static str {
    source.split("r#\"").nth(1).and_then(|rest| rest.split("\"#").next()).expect("a statement")
}

/// What `bench raw-gate DATABASE_URL` runs.
#[expect(clippy::disallowed_methods, reason = "set by the process that starts this one")]
pub async fn serve_raw(database: &str) -> anyhow::Result<()> {
    let address: SocketAddr = std::env::var("LISTEN")?.parse()?;
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).test_before_acquire(false).connect(database).await?;
    let listener = tokio::net::TcpListener::bind(address).await?;
    let routes = Router::new().route("/auth/verify", get(verify)).route(SESSION, get(introspect)).route("/", get(async || "ready"));
    axum::serve(listener, routes.with_state(pool)).await?;
    Ok(())
}

async fn verify(State(pool): State<PgPool>, headers: HeaderMap) -> Result<[(&'static str, String); 4], StatusCode> {
    let cookie = headers.get(COOKIE).and_then(|value| value.to_str().ok()?.split_once('=')).ok_or(StatusCode::UNAUTHORIZED)?;
    let token = ForwardAuthToken::parse(cookie.1).ok_or(StatusCode::UNAUTHORIZED)?;
    let now = SystemClock::new().now();
    let row = sqlx::query(*STATEMENT)
        .bind(None::<&[u8]>)
        .bind(token.hash().as_slice())
        .bind(now)
        .bind(now - Duration::from_hours(24))
        .fetch_optional(&pool)
        .await
        .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?
        .ok_or(StatusCode::UNAUTHORIZED)?;
    Ok([
        ("remote-user", row.get::<Uuid, _>("user!").to_string()),
        ("remote-email", row.get("email!")),
        ("remote-groups", if row.get("is_admin!") { "users,admins" } else { "users" }.to_owned()),
        ("remote-auth-level", row.get("level!")),
    ])
}

async fn introspect(State(pool): State<PgPool>, headers: HeaderMap) -> Result<Json<serde_json::Value>, StatusCode> {
    let token = headers.get("latchkey-session").and_then(|value| SessionToken::parse(value.to_str().ok()?));
    let key = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer lk_")?.split_once('_'));
    // A key's secret is written, and hashed, as every token is.
    let key = key.and_then(|(_, secret)| SessionToken::parse(secret));
    let (token, key) = token.zip(key).ok_or(StatusCode::UNAUTHORIZED)?;
    let now = SystemClock::new().now();
    let row = sqlx::query(*INTROSPECTION)
        .bind(key.hash().as_slice())
        .bind(token.hash().as_slice())
        .bind(now)
        .bind(now - Duration::from_hours(24))
        .fetch_optional(&pool)
        .await
        .map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?
        .ok_or(StatusCode::NOT_FOUND)?;
    let user = json!({ "id": row.get::<Uuid, _>("user?"), "email": row.get::<String, _>("email?"), "admin": row.get::<bool, _>("admin?") });
    Ok(Json(json!({ "id": row.get::<Uuid, _>("session?"), "user": user, "level": row.get::<String, _>("level?") })))
}

struct Figures {
    per_second: f64,
    cpu_micros: f64,
}

pub async fn bench(cluster: &Cluster) -> anyhow::Result<()> {
    let sink = SmtpSink::start().await;
    let settings = [
        ("LIMITS", "off"),
        ("REQUIRE_2FA", "none"),
        ("BASE_URL", ORIGIN),
        ("FORWARD_AUTH_DOMAIN", "example.org"),
        ("FORWARD_AUTH_HOSTS", "app.example.org=email"),
        servers::BEHIND_A_PROXY,
    ];
    let latchkey = servers::latchkey_with(cluster, &sink.url(), &settings, Stdio::inherit()).await?;
    let raw = servers::raw_gate(&cluster.url(APPLICATION, DATABASE)).await?;
    let mut tokens = Vec::new();
    for n in 0..CLIENTS {
        let (mut browser, email) = (Browser::new(latchkey.address, ORIGIN), format!("client{n}@example.org"));
        browser.post("/login", &[("email", &email), ("next", "http://app.example.org/")]).await;
        let code = sink.nth_to(&email, 1).await.code();
        browser.post("/login/sent", &[("code", &code)]).await;
        tokens.push(browser.cookies.get(COOKIE_NAME).context("a token")?.clone());
    }

    let cookies: Vec<Headers> = tokens
        .into_iter()
        .map(|token| ASKED.into_iter().chain([("cookie", &*format!("{COOKIE_NAME}={token}").leak())]).collect())
        .collect();
    compare("forward-auth", "latchkey /auth/verify", "/auth/verify", &raw, &latchkey, &cookies).await?;

    let sessions = api_sessions(cluster).await?;
    compare("introspection", "latchkey GET /api/v1/session", SESSION, &raw, &latchkey, &sessions).await
}

type Headers = Vec<(&'static str, &'static str)>;

/// An application's key, and a session of it for each client: rows as signing in over the API makes them.
async fn api_sessions(cluster: &Cluster) -> anyhow::Result<Vec<Headers>> {
    let pool = PgPoolOptions::new().connect(&cluster.url(APPLICATION, DATABASE)).await?;
    let auth = Box::new(Auth::new(pool.clone(), Arc::new(SystemClock::new()), Keys::new(&TEST_KEY, &[]), Policy::default()));
    let scopes = [Scope::SignIn, Scope::Sessions];
    let key = auth.api_keys().create(Actor::Operator, APPLICATION_NAME, &scopes, None).await?.key;
    let key: &str = format!("Bearer {key}").leak();
    let mut sessions = Vec::new();
    for _ in 0..CLIENTS {
        let (token, now) = (SessionToken::new(), auth.now());
        sqlx::query(
            "insert into sessions (id, token_hash, audience, data, user_id, level, method, authenticated_at, created_at, last_seen_at,
                                   expires_at, api_key_id, application)
             select $1, $2, 'api', '{}', u.id, 'email', 'code', $3, $3, $3, $4, k.id, k.name
             from (select id from users limit 1) u, (select id, name from api_keys limit 1) k",
        )
        .bind(Uuid::from_bytes(random()))
        .bind(token.hash().as_slice())
        .bind(now)
        .bind(now + Duration::from_hours(24))
        .execute(&pool)
        .await?;
        sessions.push(vec![("authorization", key), ("latchkey-session", &*token.reveal().leak())]);
    }
    Ok(sessions)
}

/// Both servers, taking turns.
async fn compare(
    what: &str,
    name: &str,
    path: &'static str,
    raw: &servers::Server,
    latchkey: &servers::Server,
    clients: &[Headers],
) -> anyhow::Result<()> {
    let (mut ours, mut raws) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        raws.push(round(raw, path, clients).await?);
        ours.push(round(latchkey, path, clients).await?);
    }
    let middle = |figures: &[Figures], of: fn(&Figures) -> f64| median(figures.iter().map(of).collect());
    println!("{:<46} requests/s   CPU µs/request", format!("{what}, {CLIENTS} clients"));
    let mut rates = Vec::new();
    for (name, figures) in [("raw axum handler, same query", &raws), (name, &ours)] {
        rates.push(middle(figures, |f| f.per_second));
        println!("  {name:<44} {:>10.0} {:>16.1}", rates[rates.len() - 1], middle(figures, |f| f.cpu_micros));
    }
    println!("  share of the raw handler's requests: {:.2} (aim: at least {AIM})\n", rates[1] / rates[0]);
    Ok(())
}

async fn round(server: &servers::Server, path: &'static str, clients: &[Headers]) -> anyhow::Result<Figures> {
    let requests = Arc::new(AtomicU64::new(0));
    let (begun, before) = (Instant::now(), cpu::micros(server.pid())?);
    let clients = clients.iter().map(|headers| {
        let (mut client, requests) = (client(server.address, Ipv4Addr::LOCALHOST), requests.clone());
        client.headers.extend(headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))));
        tokio::spawn(async move {
            while begun.elapsed() < ROUND {
                let reply = client.try_send(Method::GET, path, String::new()).await?;
                anyhow::ensure!(reply.status == StatusCode::OK, "{}", reply.status);
                requests.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        })
    });
    for client in futures::future::try_join_all(clients.collect::<Vec<_>>()).await? {
        client?;
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let (n, used) = (requests.load(Ordering::Relaxed) as f64, (cpu::micros(server.pid())? - before) as f64);
    Ok(Figures { per_second: n / begun.elapsed().as_secs_f64(), cpu_micros: used / n })
}
