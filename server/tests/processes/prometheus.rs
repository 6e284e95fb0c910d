//! A real Prometheus, with the configuration and the alerts that ship in `ops`, scrapes two real servers while people sign in, fail and
//! flood. What should fire does, nothing else does, and every panel of the dashboard has something to show.
//!
//! Windows and limits are those that ship. What is shortened is how often Prometheus looks, and `for`, how long it waits before it tells:
//! promtool tests those against hours (`ops/prometheus/latchkey.rules.test.yml`).

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    process::{Command, Stdio},
    time::Duration,
};

use axum::{Json, Router, routing::post};
use serde_json::Value;
use testkit::{Browser, Database, SmtpSink};
use tokio::{net::TcpListener, sync::watch, time::timeout};

use super::{
    ORIGIN, Server,
    account::latchkey,
    proxies::{Running, of_ops, program},
    two_factor::{enrol, half_signed_in, now, shown},
};

/// Our own counters are read every 30 seconds at most, and a busy machine takes its time.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long an alert's condition holds before it is told of: longer than Prometheus needs, once it has started, to find the servers.
const FOR: &str = "for: 10s";

/// Whom Prometheus tells of alerts: it keeps the names of all that ever fired.
struct Told {
    address: SocketAddr,
    fired: watch::Receiver<BTreeSet<String>>,
}

impl Told {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (tell, fired) = watch::channel(BTreeSet::new());
        let keep = async move |Json(alerts): Json<Vec<Value>>| {
            for alert in alerts {
                assert!(alert["annotations"]["runbook"].is_string(), "{alert}");
                let name = alert["labels"]["alertname"].as_str().expect("each has one").to_owned();
                // How fast pages are is this machine's business, and what else it does.
                if name != "LatchkeySlow" {
                    tell.send_if_modified(|fired| fired.insert(name));
                }
            }
        };
        let app = Router::new().route("/api/v2/alerts", post(keep));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, fired }
    }

    /// Until all of these have fired, and no other.
    async fn of(&mut self, alerts: &[&str]) {
        let wanted: BTreeSet<String> = alerts.iter().map(|name| format!("Latchkey{name}")).collect();
        let all = timeout(PATIENCE, self.fired.wait_for(|fired| fired.is_superset(&wanted))).await.is_ok();
        let fired = self.fired.borrow().clone();
        assert!(all, "of {wanted:?} only {fired:?} fired");
        assert_eq!(fired, wanted);
    }
}

async fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound")
}

struct Prometheus {
    api: Browser,
    _running: Running,
}

impl Prometheus {
    /// `ops` is where the first instance shows its numbers to whoever asks, `pages` where the second does to whoever has a key.
    async fn start(ops: SocketAddr, pages: SocketAddr, key: &str, told: &Told) -> Self {
        let folder = std::env::temp_dir().join(format!("latchkey-prometheus-{}", std::process::id()));
        fs::create_dir(&folder).expect("a new name");
        let write = |name: &str, text: &str| fs::write(folder.join(name), text).expect("writable");
        let key_file = folder.join("latchkey.key").display().to_string();
        let config = of_ops(
            "prometheus/prometheus.yml",
            &[
                ("scrape_interval: 15s", "scrape_interval: 1s"),
                ("evaluation_interval: 15s", "evaluation_interval: 1s"),
                ("/etc/prometheus/latchkey.key", &key_file),
                ("10.0.0.11:3000", &ops.to_string()),
                ("10.0.0.12:3000", &pages.to_string()),
            ],
        );
        let tell = format!("alerting:\n  alertmanagers:\n    - static_configs:\n        - targets: [\"{}\"]\n", told.address);
        write("prometheus.yml", &(config + &tell));
        write("latchkey.key", key);
        let rules = of_ops("prometheus/latchkey.rules.yml", &[]);
        let sooner = |line: &str| if line.trim_start().starts_with("for: ") { format!("        {FOR}") } else { line.to_owned() };
        let rules: Vec<String> = rules.lines().map(sooner).collect();
        write("latchkey.rules.yml", &rules.join("\n"));

        let address = free_port().await;
        let log = fs::File::create(folder.join("log")).expect("writable");
        let process = Command::new(program("prometheus"))
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .env_clear()
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("it starts");
        let running = Running { process, folder };
        let listens = async { while tokio::net::TcpStream::connect(address).await.is_err() {} };
        let up = timeout(PATIENCE, listens).await.is_ok();
        assert!(up, "it does not start: {}", fs::read_to_string(running.folder.join("log")).unwrap_or_default());
        Self { api: Browser::new(address, ORIGIN), _running: running }
    }

    /// The values an expression has now.
    async fn ask(&mut self, expression: &str) -> Vec<f64> {
        let query: String = url::form_urlencoded::byte_serialize(expression.as_bytes()).collect();
        let body = self.api.get(&format!("/api/v1/query?query={query}")).await.body;
        // Until it has read what it keeps it says that it can't tell yet, and not in JSON.
        let Ok(answer) = serde_json::from_str::<Value>(&body) else { return Vec::new() };
        assert_eq!(answer["status"], "success", "{expression}: {body}");
        let series = answer["data"]["result"].as_array().expect("a vector");
        series.iter().map(|one| one["value"][1].as_str().expect("a number as text").parse().expect("a number")).collect()
    }
}

/// The metrics that expressions ask for: all of ours say whose.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let before = text.match_indices("{job=\"latchkey\"").map(|(at, _)| &text[..at]);
    before.map(|text| text.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().expect("a part").to_owned()).collect()
}

/// The dashboard's expressions, as Grafana would ask them.
fn of_the_dashboard() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&of_ops("grafana/latchkey.json", &[])).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions = targets.map(|target| target["expr"].as_str().expect("an expression"));
    let filled = |text: &str| text.replace("$__rate_interval", "5m").replace("$__range", "1h").replace("$instance", ".*");
    expressions.map(filled).collect()
}

/// Someone asks for a mail and brings its code back; or another code, as often as one may.
async fn sign_in(server: &Server, sink: &SmtpSink, email: &str, right: bool) {
    let mut browser = Browser::new(server.address, ORIGIN);
    browser.post("/login", &[("email", email)]).await;
    let code = sink.nth_to(email, 1).await.code();
    if right {
        assert_eq!(browser.post("/login/sent", &[("code", &code)]).await.location(), "/account");
    } else {
        let wrong = if code == "123456" { "654321" } else { "123456" };
        for _ in 0..5 {
            browser.post("/login/sent", &[("code", wrong)]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_should_fire_does_and_the_dashboard_shows_it() {
    let (database, sink, mut told) = (Database::new().await, SmtpSink::start().await, Told::start().await);
    let ops = free_port().await;
    let start = async |more: &[(&str, &str)]| {
        let variables = [("EMAIL_SMTP", sink.url()), ("LIMITS", "off".to_owned()), ("REQUIRE_2FA", "none".to_owned())];
        let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
        Server::start_with(&database, &[&variables[..], more].concat()).await
    };
    let [first, second] = [start(&[("OPS_LISTEN_ADDR", &ops.to_string())]).await, start(&[]).await];
    let made = latchkey(&database, &["apikey", "create", "prometheus", "--scope", "metrics:read", "--json"]).stdout;
    let made: Value = serde_json::from_slice(&made).expect("JSON");
    let mut prometheus = Prometheus::start(ops, second.address, made["key"].as_str().expect("a key"), &told).await;
    // What was counted before the first look is no increase.
    let both = async {
        while prometheus.ask("count(auth_magiclink_verifications_total{result=\"success\", method=\"code\"})").await != [2.0] {}
    };
    let scraped = timeout(PATIENCE, both).await.is_ok();
    assert!(scraped, "not both are scraped: {}", prometheus.api.get("/api/v1/targets").await.body);

    // A quiet morning: nothing to tell.
    for n in 0..20 {
        let server = if n % 2 == 0 { &first } else { &second };
        sign_in(server, &sink, &format!("person{n}@example.org"), true).await;
    }
    let pool = database.pool_of(1).await;
    let owner = enrol(&first, &sink, &pool).await;
    assert_eq!(*told.fired.borrow(), BTreeSet::new());

    // Somebody guesses mailed codes: 5 of some 27.
    sign_in(&second, &sink, "guessed@example.org", false).await;
    // Somebody reads Mara's mail, and guesses the codes of her app.
    let mut browser = half_signed_in(&owner.browser, &second, &sink, 2).await;
    let unix = now(&pool).await;
    let right: Vec<String> = (-4..=20).map(|step| shown(&owner.key, unix + step * 30)).collect();
    let wrong = (0..1_000_000).map(|n| format!("{n:06}")).find(|code| !right.contains(code)).expect("a code");
    for _ in 0..11 {
        assert_eq!(browser.post("/login/two-factor", &[("code", &wrong)]).await.status, 422);
    }
    // One network asks for over a hundred mails.
    for n in 0..101 {
        Browser::new(first.address, ORIGIN).post("/login", &[("email", &format!("stranger{n}@example.org"))]).await;
    }
    let alerts = ["VerificationErrors", "LinkBurst", "SecondFactorFailures"];
    told.of(&alerts).await;

    // While both are up: whatever alerts and panels ask for is there.
    let expressions = of_the_dashboard();
    assert!(expressions.len() > 40);
    let asked = metrics_in(&(of_ops("prometheus/latchkey.rules.yml", &[]) + &expressions.concat()));
    assert!(asked.len() > 20 && asked.contains("up"), "{asked:?}");
    let mut missing = Vec::new();
    for metric in asked {
        if prometheus.ask(&format!("{metric}{{job=\"latchkey\"}}")).await.is_empty() {
            missing.push(metric);
        }
    }
    assert_eq!(missing, [""; 0], "no instance publishes these");
    for expression in expressions {
        let values = prometheus.ask(&expression).await;
        assert!(values.iter().any(|value| value.is_finite()), "{expression}: {values:?}");
    }

    // One goes, then the other.
    drop(second);
    told.of(&[&alerts[..], &["InstanceDown"]].concat()).await;
    drop(first);
    told.of(&[&alerts[..], &["InstanceDown", "Down"]].concat()).await;
}
