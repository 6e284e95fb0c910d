//! A real Prometheus, with the configuration and the alerts that ship in `ops`, scrapes two real servers while people sign in, fail and
//! flood, and while things break: every series that an alert or a panel asks for is published under that name and with those labels, a
//! quiet morning tells nothing, and what breaks is told to whom it should be.
//!
//! When each alert fires and when not is promtool's (`ops/prometheus/latchkey.rules.test.yml`, which `support/scripts/ops.py` holds
//! complete). What is shortened here is how often Prometheus looks, and `for`, how long it waits before it tells. What has to be old is
//! made older in the database.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use axum::{Json, Router, routing::post};
use serde_json::Value;
use sqlx::PgPool;
use testkit::{Act, Browser, Database, Fault, SmtpSink, Stage};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{interval, timeout},
};

use crate::processes::{
    ORIGIN, Server,
    account::latchkey,
    count,
    thorough::proxies::{Running, of_ops, program},
    two_factor::{enrol, half_signed_in, now, shown},
};

/// Our own counters are read every 30 seconds at most, and a busy machine takes its time.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long an alert's condition holds before it is told of: longer than Prometheus needs, once it has started, to find the servers.
const FOR: &str = "for: 10s";
const RULES: &str = "prometheus/latchkey.rules.yml";
/// A page that fails for a while.
const FAILING: &str = "/account/devices";

/// What fires here, in this order.
const FIRES: [&str; 9] = [
    "VerificationErrors",
    "SecondFactorFailures",
    "LinkBurst",
    "MailFailing",
    "MailStuck",
    "ServerErrors",
    "InstanceDown",
    "Restarting",
    "Down",
];
/// The others, and the tests of `router/metrics.rs` that see their series move: what then becomes of an alert is promtool's.
const ELSEWHERE: [(&str, &str); 18] = [
    ("CodeSpray", "the_database_is_asked_for_the_worst_and_the_oldest"),
    ("NobodyGetsIn", "a_sign_in_is_counted"),
    ("EveryoneLimited", "what_limits_refuse_is_counted"),
    ("RateLimitFlood", "what_limits_refuse_is_counted"),
    ("MailSlow", "mail_that_no_server_takes_is_due"),
    ("Slow", "every_route_is_timed_and_has_an_id"),
    ("WorkerDead", "the_database_is_asked_for_the_worst_and_the_oldest"),
    ("DatabaseConnections", "the_database_is_asked_for_the_worst_and_the_oldest"),
    ("FilesRunOut", "a_sign_in_is_counted"),
    ("LogLinesDropped", "a_sign_in_is_counted"),
    ("VersionsDiffer", "a_sign_in_is_counted"),
    ("KeyMissing", "wrong_second_factors_and_missing_keys_are_told"),
    ("KeyRotationUnfinished", "wrong_second_factors_and_missing_keys_are_told"),
    ("AuditUnsealed", "an_audit_that_waits_is_cut_or_was_changed_is_told"),
    ("AuditHeadWentBack", "an_audit_that_waits_is_cut_or_was_changed_is_told"),
    ("AuditTampered", "an_audit_that_waits_is_cut_or_was_changed_is_told"),
    ("RolloutHeld", "a_burst_and_the_rollout_it_holds_are_told"),
    ("RolloutTurnedOff", "a_burst_and_the_rollout_it_holds_are_told"),
];

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

/// What an alert is called. How fast pages are is this machine's business, and what else it does.
fn name(alert: &Value) -> Option<String> {
    let name = alert["labels"]["alertname"].as_str().and_then(|name| name.strip_prefix("Latchkey")).expect("each has one");
    (name != "Slow").then(|| name.to_owned())
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
    _running: Running,
}

impl Prometheus {
    /// Some of those to scrape show their numbers to whoever asks, the others to whoever has the key.
    async fn start(scraped: &[SocketAddr], key: &str, told: &Told) -> Self {
        let folder = std::env::temp_dir().join(format!("latchkey-prometheus-{}", std::process::id()));
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
        configure(&folder, scraped, told.address);
        let running = Running { process: command.spawn().expect("it starts"), folder };
        let up = until(async || TcpStream::connect(address).await.is_ok()).await;
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
        let (database, sink, told) = (Database::new().await, SmtpSink::start().await, Told::start().await);
        let ops = free_port().await;
        let first = start(&database, &sink, &[("OPS_LISTEN_ADDR", &ops.to_string())]).await;
        let servers = vec![first, start(&database, &sink, &[]).await];
        let made = latchkey(&database, &["apikey", "create", "prometheus", "--scope", "metrics:read", "--json"]).stdout;
        let made: Value = serde_json::from_slice(&made).expect("JSON");
        let key = made["key"].as_str().expect("a key");
        let mut prometheus = Prometheus::start(&[ops, servers[1].address], key, &told).await;
        // What was counted before the first look is no increase.
        prometheus.sees("count(auth_magiclink_verifications_total{result=\"success\", method=\"code\"}) == 2").await;
        let owner = database.owner().await;
        Self { database, owner, sink, servers, ops, prometheus, told }
    }

    async fn ask_for_mails(&self, what: &str, count: usize) {
        for n in 0..count {
            let mut browser = Browser::new(self.servers[0].address, ORIGIN);
            assert_eq!(browser.post("/login", &[("email", &format!("{what}{n}@example.org"))]).await.location(), "/login/sent");
        }
    }

    /// Until every alert was looked at with all that has happened by now, and of none does the condition hold.
    async fn quiet(&mut self) {
        // It has scraped by then.
        let since = self.prometheus.ask("vector(time() + 2)").await[0];
        let mut holding = None;
        let quiet = until(async || {
            holding = self.prometheus.holding(since).await;
            holding.as_ref().is_some_and(BTreeSet::is_empty)
        });
        assert!(quiet.await, "{holding:?} should not hold");
        assert_eq!(*self.told.fired.borrow(), BTreeSet::new());
    }

    async fn run(&self, sql: &'static str) {
        sqlx::query(sql).execute(&self.owner).await.expect(sql);
    }
}

async fn start(database: &Database, sink: &SmtpSink, more: &[(&str, &str)]) -> Server {
    let url = sink.url();
    let usual = [("EMAIL_SMTP", url.as_str()), ("LIMITS", "off"), ("REQUIRE_2FA", "none")];
    Server::start_with(database, &[&usual, more].concat()).await
}

/// The series that expressions ask for, with all they ask of the labels: all of ours say whose.
fn selectors_in(text: &str) -> BTreeSet<String> {
    let found = text.match_indices("{job=\"latchkey\"").map(|(at, _)| {
        let name = text[..at].rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().expect("a part");
        let labels = text[at..].split('}').next().expect("a part");
        format!("{name}{labels}}}")
    });
    found.collect()
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

#[test]
fn every_alert_fires_here_or_its_series_is_tested() {
    let rules = of_ops(RULES, &[]);
    let alerts: BTreeSet<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: Latchkey")).collect();
    let elsewhere = BTreeMap::from(ELSEWHERE);
    assert_eq!(alerts, FIRES.iter().chain(elsewhere.keys()).copied().collect());
    assert!(FIRES.iter().all(|name| !elsewhere.contains_key(name)));
    let tests = include_str!("../../router/metrics.rs");
    for (alert, test) in elsewhere {
        assert!(tests.contains(&format!("async fn {test}()")), "{alert}: there is no {test}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_should_fire_does_and_the_dashboard_shows_it() {
    let mut scene = Scene::new().await;
    // A quiet morning: nothing to tell.
    for n in 0..20 {
        sign_in(&scene.servers[n % 2], &scene.sink, &format!("person{n}@example.org"), true).await;
    }
    let pool = scene.database.pool_of(1).await;
    let mut owner = enrol(&scene.servers[0], &scene.sink, &pool).await;
    scene.quiet().await;

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
    // One network asks for over a hundred mails, to people who aren't there.
    scene.sink.play(Fault::new(Stage::Rcpt, Act::Refuse("550 5.1.1")));
    scene.ask_for_mails("stranger", 101).await;
    // Their mails alone: notices to others may be refused as well.
    let refused = "select count(*) from mail_outbox m join magic_links l on l.id = m.magic_link_id
        where m.state = 'failed' and l.email like 'stranger%'";
    assert!(until(async || count(&scene.owner, refused).await == 101).await);
    // Then no server takes any, over a connection that was kept open neither.
    scene.sink.heal();
    scene.sink.play(Fault::new(Stage::Mail, Act::HangUp));
    scene.ask_for_mails("stuck", 2).await;
    let stuck = "select count(*) from mail_outbox m join magic_links l on l.id = m.magic_link_id
        where m.server_failed and l.email like 'stuck%'";
    assert!(until(async || count(&scene.owner, stuck).await == 2).await);
    scene.run("update mail_outbox set created_at = created_at - interval '4 minutes' where state = 'queued'").await;
    // And a table is gone.
    assert_eq!(owner.browser.get(FAILING).await.status, 200);
    scene.run("alter table trusted_devices rename to gone").await;
    for failed in 1..=10 {
        assert!(owner.browser.get(FAILING).await.status.is_server_error());
        // A status begins to be counted with its first answer: what came before Prometheus saw that is no increase.
        if failed == 1 {
            scene.prometheus.sees(&format!("sum(http_requests_total{{route=\"{FAILING}\", status=~\"5..\"}}) == 1")).await;
        }
    }
    scene.told.of(&FIRES[..6]).await;

    // While both are up: whatever alerts and panels ask for is there.
    let expressions = of_the_dashboard();
    assert!(expressions.len() > 40);
    let asked = selectors_in(&(of_ops(RULES, &[]) + &expressions.concat()));
    assert!(asked.len() > 30 && asked.contains("up{job=\"latchkey\"}"), "{asked:?}");
    let mut missing = Vec::new();
    for selector in asked {
        if scene.prometheus.ask(&selector).await.is_empty() {
            missing.push(selector);
        }
    }
    assert_eq!(missing, [""; 0], "no instance publishes these");
    for expression in expressions {
        let values = scene.prometheus.ask(&expression).await;
        assert!(values.iter().any(|value| value.is_finite()), "{expression}: {values:?}");
    }

    // One goes, and comes back three times.
    drop(scene.servers.remove(0));
    scene.told.of(&FIRES[..7]).await;
    for times in 1..=3 {
        let back = start(&scene.database, &scene.sink, &[("OPS_LISTEN_ADDR", &scene.ops.to_string())]).await;
        let began = format!("process_start_time_seconds{{instance=\"{}\"}}", scene.ops);
        // It is told in whole seconds, which each process reckons from the machine's start, and may be off by one: another one in the same
        // second would be no change.
        scene.prometheus.sees(&format!("changes({began}[30m]) == {times} and time() - {began} > 3")).await;
        if times == 3 {
            scene.told.of(&FIRES[..8]).await;
        }
        drop(back);
    }
    // Then the other.
    scene.servers.clear();
    scene.told.of(&FIRES).await;
}
