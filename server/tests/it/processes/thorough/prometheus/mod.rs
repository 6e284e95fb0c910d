//! A real Prometheus, with the configuration and the alerts that ship in `ops`, scrapes two real servers while people sign in, fail and
//! flood, and while things break. What should fire does, nothing else does, and every panel of the dashboard has something to show.
//!
//! Windows and limits are those that ship. What is shortened is how often Prometheus looks, and `for`, how long it waits before it tells:
//! promtool tests those against hours (`ops/prometheus/latchkey.rules.test.yml`). What has to be old is made older in the database.

mod http;
mod keys_and_audit;
mod mail;
mod processes;
mod rollout;
mod sign_in;

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use axum::{Json, Router, routing::post};
use serde_json::Value;
use sqlx::PgPool;
use testkit::{Browser, Database, SmtpSink};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{interval, timeout},
};

use crate::processes::{
    ORIGIN, Server,
    account::latchkey,
    thorough::proxies::{Running, of_ops, program},
    two_factor::{enrol, half_signed_in, now, shown},
};

/// Our own counters are read every 30 seconds at most, and a busy machine takes its time.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long an alert's condition holds before it is told of: longer than Prometheus needs, once it has started, to find the servers.
const FOR: &str = "for: 10s";
const RULES: &str = "prometheus/latchkey.rules.yml";
/// A page that a test makes slow. How fast the others are is this machine's business, and what else it does.
const SLOWED: &str = "/account/devices";

/// What fires here, in this order.
const FIRES: [&str; 6] = ["VerificationErrors", "LinkBurst", "SecondFactorFailures", "InstanceDown", "Restarting", "Down"];
/// What no test here can bring about, and why. promtool's can.
const ONLY_PROMTOOL: [(&str, &str); 1] =
    [("WorkerDead", "a loop has to stand still for 15 minutes by this machine's clock, while its process goes on")];

/// Until it is so. It is looked at ten times a second: whoever is asked has other things to do.
async fn until(mut so: impl AsyncFnMut() -> bool) -> bool {
    let mut look = interval(Duration::from_millis(100));
    let wait = async {
        while !so().await {
            look.tick().await;
        }
    };
    timeout(PATIENCE, wait).await.is_ok()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What an alert is called, where it is one that a test has to do with.
fn name(alert: &Value) -> Option<String> {
    let labels = &alert["labels"];
    let name = labels["alertname"].as_str().and_then(|name| name.strip_prefix("Latchkey")).expect("each has one");
    (name != "Slow" || labels["route"] == SLOWED).then(|| name.to_owned())
}

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
                if let Some(name) = name(&alert) {
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
        let wanted = set(alerts);
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
    running: Running,
    scraped: Vec<SocketAddr>,
    tell: SocketAddr,
}

impl Prometheus {
    /// Some of those to scrape show their numbers to whoever asks, the others to whoever has the key.
    async fn start(scraped: Vec<SocketAddr>, key: &str, told: &Told) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("latchkey-prometheus-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).expect("a new name");
        fs::write(folder.join("latchkey.key"), key).expect("writable");
        let rules = of_ops(RULES, &[]);
        let sooner = |line: &str| if line.trim_start().starts_with("for: ") { format!("        {FOR}") } else { line.to_owned() };
        let rules: Vec<String> = rules.lines().map(sooner).collect();
        fs::write(folder.join("latchkey.rules.yml"), rules.join("\n")).expect("writable");
        let address = free_port().await;
        let log = fs::File::create(folder.join("log")).expect("writable");
        let mut command = Command::new(program("prometheus"));
        command
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .env_clear()
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .stdin(Stdio::null());
        configure(&folder, &scraped, told.address);
        let running = Running { process: command.spawn().expect("it starts"), folder };
        let up = until(async || TcpStream::connect(address).await.is_ok()).await;
        assert!(up, "it does not start: {}", fs::read_to_string(running.folder.join("log")).unwrap_or_default());
        Self { api: Browser::new(address, ORIGIN), running, scraped, tell: told.address }
    }

    /// Scrapes one more from now on.
    fn scrape(&mut self, address: SocketAddr) {
        self.scraped.push(address);
        configure(&self.running.folder, &self.scraped, self.tell);
        let process = self.running.process.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &process]).status().expect("kill runs").success());
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

    /// Until a comparison holds.
    async fn sees(&mut self, comparison: &str) {
        let seen = until(async || !self.ask(comparison).await.is_empty()).await;
        assert!(seen, "not {comparison}; {}", self.api.get("/api/v1/targets").await.body);
    }

    /// The alerts whose condition holds, however long; none where one was last looked at before that time.
    async fn holding(&mut self, since: f64) -> Option<BTreeSet<String>> {
        let body = self.api.get("/api/v1/rules?type=alert").await.body;
        let answer: Value = serde_json::from_str(&body).expect(&body);
        let mut holding = BTreeSet::new();
        for group in answer["data"]["groups"].as_array().expect("groups") {
            let looked = OffsetDateTime::parse(group["lastEvaluation"].as_str().expect("a time"), &Rfc3339).expect("a time");
            if (looked - OffsetDateTime::UNIX_EPOCH).as_seconds_f64() < since {
                return None;
            }
            let rules = group["rules"].as_array().expect("rules").iter();
            holding.extend(rules.filter_map(|rule| rule["alerts"].as_array()).flatten().filter_map(name));
        }
        Some(holding)
    }
}

fn configure(folder: &Path, scraped: &[SocketAddr], tell: SocketAddr) {
    let targets: Vec<String> = scraped.iter().map(|address| format!("\"{address}\"")).collect();
    let changes = [
        ("scrape_interval: 15s", "scrape_interval: 1s"),
        ("evaluation_interval: 15s", "evaluation_interval: 1s"),
        ("/etc/prometheus/latchkey.key", &folder.join("latchkey.key").display().to_string()),
        ("\"10.0.0.11:3000\", \"10.0.0.12:3000\"", &targets.join(", ")),
    ];
    let config = of_ops("prometheus/prometheus.yml", &changes);
    let tell = format!("alerting:\n  alertmanagers:\n    - static_configs:\n        - targets: [\"{tell}\"]\n");
    fs::write(folder.join("prometheus.yml"), config + &tell).expect("writable");
}

/// Two servers on one database, and a Prometheus that scrapes both: the first where it shows its numbers to whoever asks (`ops`), the
/// second where it does to whoever has a key.
struct Scene {
    database: Database,
    /// The superuser's, who may do what nobody should, and makes things older.
    owner: PgPool,
    sink: SmtpSink,
    servers: Vec<Server>,
    ops: SocketAddr,
    prometheus: Prometheus,
    told: Told,
}

impl Scene {
    async fn new() -> Self {
        Self::with([&[], &[]]).await
    }

    /// With these variables, of the first server and of the second.
    async fn with([first, second]: [&[(&str, &str)]; 2]) -> Self {
        let (database, sink, told) = (Database::new().await, SmtpSink::start().await, Told::start().await);
        let ops = free_port().await;
        let listens = [("OPS_LISTEN_ADDR", &*ops.to_string())];
        let first = start(&database, &sink, &[&listens, first].concat(), Stdio::null()).await;
        let servers = vec![first, start(&database, &sink, second, Stdio::null()).await];
        let key = api_key(&database, "prometheus");
        let mut prometheus = Prometheus::start(vec![ops, servers[1].address], &key, &told).await;
        // What was counted before the first look is no increase.
        prometheus.sees("count(auth_magiclink_verifications_total{result=\"success\", method=\"code\"}) == 2").await;
        let owner = database.owner().await;
        Self { database, owner, sink, servers, ops, prometheus, told }
    }

    /// One more server, which shows its numbers at the second address. Nobody scrapes it yet.
    async fn another(&self, log: Stdio) -> (Server, SocketAddr) {
        let ops = free_port().await;
        (start(&self.database, &self.sink, &[("OPS_LISTEN_ADDR", &ops.to_string())], log).await, ops)
    }

    /// Until every alert was looked at with all that has happened by now, and of none does the condition hold but of these.
    async fn quiet_but(&mut self, fired: &[&str]) {
        // It has scraped by then.
        let since = self.prometheus.ask("vector(time() + 2)").await[0];
        let (fired, mut holding) = (set(fired), None);
        let quiet = until(async || {
            assert_eq!(*self.told.fired.borrow(), fired);
            holding = self.prometheus.holding(since).await;
            holding.as_ref().is_some_and(|holding| holding.is_subset(&fired))
        });
        assert!(quiet.await, "of {holding:?} only {fired:?} should hold");
    }

    /// What is done once in a while is done at the next look.
    async fn make_due(&self, task: &str) {
        let due = sqlx::query("update scheduled_tasks set last_slot = last_slot - interval '1 day' where name = $1").bind(task);
        assert_eq!(due.execute(&self.owner).await.expect("updated").rows_affected(), 1, "{task}");
    }

    async fn run(&self, sql: &'static str) {
        sqlx::query(sql).execute(&self.owner).await.expect(sql);
    }
}

async fn start(database: &Database, sink: &SmtpSink, more: &[(&str, &str)], log: Stdio) -> Server {
    let url = sink.url();
    let usual = [("EMAIL_SMTP", url.as_str()), ("LIMITS", "off"), ("REQUIRE_2FA", "none")];
    Server::start_logging_to(database, &[&usual, more].concat(), log).await
}

fn api_key(database: &Database, name: &str) -> String {
    let made = latchkey(database, &["apikey", "create", name, "--scope", "metrics:read", "--json"]).stdout;
    let made: Value = serde_json::from_slice(&made).expect("JSON");
    made["key"].as_str().expect("a key").to_owned()
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
async fn sign_in(server: &Server, sink: &SmtpSink, email: &str, right: bool) -> Browser {
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
    browser
}

/// So many people sign in, on one server or the other.
async fn people_sign_in(scene: &Scene, count: usize) {
    for n in 0..count {
        sign_in(&scene.servers[n % 2], &scene.sink, &format!("person{n}@example.org"), true).await;
    }
}

#[test]
fn every_alert_fires_here_or_it_is_said_why_not() {
    let rules = of_ops(RULES, &[]);
    let alerts: BTreeSet<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: Latchkey")).collect();
    let fire = [&FIRES[..], &sign_in::FIRES, &mail::FIRES, &http::FIRES, &processes::FIRES, &keys_and_audit::KEYS];
    let fire = [&fire[..], &[&keys_and_audit::AUDIT, &rollout::FIRES]].concat().concat();
    let only_promtool = ONLY_PROMTOOL.map(|(name, _)| name);
    assert_eq!(alerts, fire.iter().copied().chain(only_promtool).collect());
    assert!(only_promtool.iter().all(|name| !fire.contains(name)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_should_fire_does_and_the_dashboard_shows_it() {
    let mut scene = Scene::new().await;
    // A quiet morning: nothing to tell.
    people_sign_in(&scene, 20).await;
    let pool = scene.database.pool_of(1).await;
    let owner = enrol(&scene.servers[0], &scene.sink, &pool).await;
    scene.quiet_but(&[]).await;

    // Somebody guesses mailed codes: 5 of some 27.
    sign_in(&scene.servers[1], &scene.sink, "guessed@example.org", false).await;
    // Somebody reads Mara's mail, and guesses the codes of her app.
    let mut browser = half_signed_in(&owner.browser, &scene.servers[1], &scene.sink, 2).await;
    let unix = now(&pool).await;
    let right: Vec<String> = (-4..=20).map(|step| shown(&owner.key, unix + step * 30)).collect();
    let wrong = (0..1_000_000).map(|n| format!("{n:06}")).find(|code| !right.contains(code)).expect("a code");
    for _ in 0..11 {
        assert_eq!(browser.post("/login/two-factor", &[("code", &wrong)]).await.status, 422);
    }
    // One network asks for over a hundred mails.
    for n in 0..101 {
        Browser::new(scene.servers[0].address, ORIGIN).post("/login", &[("email", &format!("stranger{n}@example.org"))]).await;
    }
    scene.told.of(&FIRES[..3]).await;

    // While both are up: whatever alerts and panels ask for is there.
    let expressions = of_the_dashboard();
    assert!(expressions.len() > 40);
    let asked = metrics_in(&(of_ops(RULES, &[]) + &expressions.concat()));
    assert!(asked.len() > 20 && asked.contains("up"), "{asked:?}");
    let mut missing = Vec::new();
    for metric in asked {
        if scene.prometheus.ask(&format!("{metric}{{job=\"latchkey\"}}")).await.is_empty() {
            missing.push(metric);
        }
    }
    assert_eq!(missing, [""; 0], "no instance publishes these");
    for expression in expressions {
        let values = scene.prometheus.ask(&expression).await;
        assert!(values.iter().any(|value| value.is_finite()), "{expression}: {values:?}");
    }

    // One goes, and comes back three times.
    drop(scene.servers.remove(0));
    scene.told.of(&FIRES[..4]).await;
    for times in 1..=3 {
        let listens = [("OPS_LISTEN_ADDR", &*scene.ops.to_string())];
        let back = start(&scene.database, &scene.sink, &listens, Stdio::null()).await;
        let began = format!("process_start_time_seconds{{instance=\"{}\"}}", scene.ops);
        // It is told in whole seconds, which each process reckons from the machine's start, and may be off by one: another one in the same
        // second would be no change.
        scene.prometheus.sees(&format!("changes({began}[30m]) == {times} and time() - {began} > 3")).await;
        match times {
            2 => scene.quiet_but(&FIRES[..4]).await,
            3 => scene.told.of(&FIRES[..5]).await,
            _ => {}
        }
        drop(back);
    }
    // Then the other.
    scene.servers.clear();
    scene.told.of(&FIRES).await;
}
