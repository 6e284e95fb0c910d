//! How long the domain takes for the pages of accounts and of administration, on what [`mod@crate::seed`] made, and PostgreSQL's plans.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use auth::{
    Auth,
    administration::{Status, UserFilter},
    audit::{About, AuditFilter},
    crypto::Keys,
    identity::{Actor, Authority, Level, Method},
    policy::Policy,
    primitives::{clock::Clock as _, cursor::Cursor, requester::Requester},
    reporting::overview::Span,
    self_service::activity::Filter,
};
use ipnet::IpNet;
use private_postgres::{APPLICATION, Cluster, DATABASE, OWNER};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use testkit::{ManualClock, TEST_KEY};
use uuid::Uuid;

use crate::{cpu, servers};

const RUNS: u32 = 50;
/// A page asks several things at once, as it can of the server's sixteen.
const CONNECTIONS: u32 = 3;
/// More than the five after which PostgreSQL may settle for a plan that knows no parameter.
const WARM_UP: usize = 10;
const AIM: Duration = Duration::from_millis(50);
/// What the server chooses, and each of the two it has to choose from: which one it settles for depends on what was asked before.
const PLANS: [&str; 3] = ["auto", "force_custom_plan", "force_generic_plan"];

enum Ask {
    Users(UserFilter, Option<String>),
    User(Uuid),
    Activity(Uuid, Filter, Option<Cursor>),
    Sessions(Uuid),
    Overview(Span),
    Audit(AuditFilter, Option<Cursor>),
    AuditReport,
    AuditSeal,
}

/// Of the cases whose name holds `part`.
pub async fn bench(cluster: &Cluster, part: &str) -> anyhow::Result<()> {
    let owner = PgPool::connect(&cluster.url(OWNER, DATABASE)).await?;
    let mut cases = cases(&owner).await.context("there is nothing to measure; `seed` makes it")?;
    cases.retain(|(name, _)| name.contains(part));
    owner.close().await;

    let postmaster = servers::postmaster(cluster)?;
    println!(
        "ms, {RUNS} runs, warm                          rows      p50      p95      max      CPU   p95, custom plan   p95, generic plan"
    );
    let mut slow = 0;
    for (name, ask) in &cases {
        let (mut figures, mut micros, mut rows) = (Vec::new(), Vec::new(), 0);
        for plan in PLANS {
            // A connection of its own: the plans of one case must not depend on the cases before it.
            let auth = domain(cluster.url(APPLICATION, DATABASE).parse::<PgConnectOptions>()?.options([("plan_cache_mode", plan)]))
                .await?;
            for _ in 0..WARM_UP {
                rows = answer(&auth, ask).await?;
            }
            let before = cpu::micros_of_family(postmaster)? + cpu::micros(std::process::id())?;
            let mut times = Vec::new();
            for _ in 0..RUNS {
                let begun = Instant::now();
                answer(&auth, ask).await?;
                times.push(begun.elapsed());
            }
            micros.push(cpu::micros_of_family(postmaster)? + cpu::micros(std::process::id())? - before);
            auth.pool().close().await;
            times.sort();
            figures.push(times);
        }
        let [p50, p95, max] = [50, 95, 100].map(|percent| millis(quantile(&figures[0], percent)));
        let [custom, generic] = [1, 2].map(|plan| quantile(&figures[plan], 95));
        slow += usize::from(quantile(&figures[0], 95) > AIM);
        let cpu = millis(Duration::from_micros(micros[0])) / f64::from(RUNS);
        println!(
            "  {name:<38} {rows:>5} {p50:>8.1} {p95:>8.1} {max:>8.1} {cpu:>8.1} {:>18.1} {:>19.1}",
            millis(custom),
            millis(generic)
        );
    }
    println!("  over {} ms at p95: {slow} of {}\n", AIM.as_millis(), cases.len());
    Box::pin(explain(cluster, &cases)).await
}

/// The plans as the server runs them for the product's own statements, from the module that logs them.
async fn explain(cluster: &Cluster, cases: &[(String, Ask)]) -> anyhow::Result<()> {
    let log = cluster.data_dir().join("postgres.log");
    let file = std::env::current_exe()?.with_file_name("bench-plans.txt");
    let mut plans = String::new();
    for plan in &PLANS[1..] {
        for (name, ask) in cases {
            let options = [
                ("plan_cache_mode", *plan),
                ("session_preload_libraries", "auto_explain"),
                ("auto_explain.log_min_duration", "0"),
                ("auto_explain.log_analyze", "on"),
                ("auto_explain.log_buffers", "on"),
            ];
            // Only the owner, a superuser, may load the module.
            let auth = domain(cluster.url(OWNER, DATABASE).parse::<PgConnectOptions>()?.options(options)).await?;
            answer(&auth, ask).await?;
            let logged = fs::metadata(&log)?.len();
            answer(&auth, ask).await?;
            auth.pool().close().await;
            let text = fs::read(&log)?;
            let text = String::from_utf8_lossy(&text[usize::try_from(logged)?..]).into_owned();
            writeln!(plans, "=== {name}, {plan}\n{text}")?;
        }
    }
    fs::write(&file, plans)?;
    println!("plans: {}", file.display());
    Ok(())
}

async fn domain(options: PgConnectOptions) -> anyhow::Result<Auth> {
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect_with(options).await?;
    Ok(Auth::new(pool, Arc::new(ManualClock::default()), Keys::new(&TEST_KEY, &[]), Policy::default()))
}

async fn answer(auth: &Auth, ask: &Ask) -> anyhow::Result<usize> {
    Ok(match ask {
        Ask::Users(filter, cursor) => auth.administration().users(filter, cursor.as_deref()).await?.rows.len(),
        // As an administrator: that they looked is recorded, which is part of the page's time.
        Ask::User(id) => {
            let from = Requester::new(IpAddr::V4(Ipv4Addr::LOCALHOST), "bench", "bench");
            let who = Actor::Admin { authority: &authority(auth, *id), from: &from };
            auth.administration().user(who, *id).await?.context("no such user")?.sessions.len()
        }
        Ask::Activity(user, filter, cursor) => auth.self_service().activity(*user, *filter, *cursor).await?.rows.len(),
        Ask::Sessions(user) => auth.sessions().list(&authority(auth, *user)).await?.len(),
        // All that its page asks for.
        Ask::Overview(span) => {
            auth.rollout().standing().await?;
            auth.reporting().overview(*span).await?.buckets.len()
        }
        Ask::Audit(filter, cursor) => auth.audit().page(filter, *cursor, 25).await?.rows.len(),
        Ask::AuditReport => auth.audit().report(auth.now() - time::Duration::days(7)).await?.len(),
        Ask::AuditSeal => usize::from(auth.audit().head().await?.head.is_some()),
    })
}

fn authority(auth: &Auth, user: Uuid) -> Authority {
    Authority {
        session: Uuid::nil(),
        user,
        email: String::new(),
        admin: true,
        two_factor: false,
        level: Level::Email,
        method: Method::Link,
        second: None,
        authenticated_at: auth.now(),
        verified_at: Some(auth.now()),
        ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        device: String::new(),
    }
}

async fn cases(owner: &PgPool) -> anyhow::Result<Vec<(String, Ask)>> {
    let one = |sql: &'static str| async move { sqlx::query_scalar::<_, Uuid>(sql).fetch_one(owner).await };
    let probe = one("select id from users where email_key = 'probe@monitoring.example'").await?;
    let devices = one("select id from users where email_key = 'many.devices@inbox.example'").await?;
    let ordinary = one("select id from users order by created_at offset (select count(*) / 3 from users) limit 1").await?;
    let middle = one("select id from users order by email_key offset (select count(*) / 2 from users) limit 1").await?;
    let half_way =
        one("select id from auth_audit where user_id = (select id from users where email_key = 'probe@monitoring.example')
        order by created_at desc offset 50000 limit 1")
        .await?;
    let at = ManualClock::default().now() - time::Duration::days(45);

    let all = UserFilter::default;
    let search = |text: &str| UserFilter { search: Some(text.to_owned()), ..all() };
    let status = |status| UserFilter { status: Some(status), ..all() };
    let two_factor = |on| UserFilter { two_factor: Some(on), ..all() };
    let (after, before) = (format!("a{}", middle.simple()), format!("b{}", middle.simple()));
    let mut cases: Vec<(String, Ask)> = [
        ("first page", all(), None),
        ("in the middle", all(), Some(after.clone())),
        ("in the middle, backwards", all(), Some(before.clone())),
        ("a rare part of an address", search("quillfeather"), None),
        ("no such address", search("nobody-has-this"), None),
        ("a common domain", search("@inbox.example"), None),
        ("a common domain, backwards", search("@inbox.example"), Some(before.clone())),
        ("one letter", search("a"), None),
        ("an id", search(&middle.to_string()), None),
        ("active", status(Status::Active), None),
        ("disabled", status(Status::Disabled), None),
        ("disabled, backwards", status(Status::Disabled), Some(before.clone())),
        ("leaving", status(Status::Leaving), None),
        ("invited", status(Status::Invited), None),
        ("with two-factor", two_factor(true), None),
        ("with two-factor, backwards", two_factor(true), Some(before)),
        ("without two-factor", two_factor(false), None),
        (
            "rare, disabled, two-factor",
            UserFilter { status: Some(Status::Disabled), two_factor: Some(true), ..search("ziegler") },
            Some(after),
        ),
    ]
    .into_iter()
    .map(|(name, filter, cursor)| (format!("users: {name}"), Ask::Users(filter, cursor)))
    .collect();
    for (name, id) in [("ordinary", ordinary), ("200 sessions", devices), ("10^5 events", probe)] {
        cases.push((format!("user: {name}"), Ask::User(id)));
    }
    for (name, user) in [("ordinary", ordinary), ("10^5 events", probe)] {
        for &filter in Filter::ALL {
            cases.push((format!("activity: {name}, {}", filter.as_str()), Ask::Activity(user, filter, None)));
        }
    }
    for (name, towards) in [("older", 'o'), ("newer", 'n')] {
        let cursor = format!("{towards}{}-{}", at.unix_timestamp_nanos() / 1_000, half_way.simple());
        let cursor = Cursor::parse(&cursor);
        for filter in [Filter::All, Filter::Problems] {
            cases.push((format!("activity: 10^5, half-way, {name}, {}", filter.as_str()), Ask::Activity(probe, filter, cursor)));
        }
    }
    for (name, user) in [("ordinary", ordinary), ("200", devices), ("10^5 events", probe)] {
        cases.push((format!("sessions: {name}"), Ask::Sessions(user)));
    }
    cases.extend(Span::ALL.iter().map(|&span| (format!("overview: {}", span.as_str()), Ask::Overview(span))));
    cases.extend(audit_cases(owner, probe, ordinary).await?);
    Ok(cases)
}

async fn audit_cases(owner: &PgPool, probe: Uuid, ordinary: Uuid) -> anyhow::Result<Vec<(String, Ask)>> {
    let ip: IpNet =
        sqlx::query_scalar("select ip from auth_audit where ip is not null and user_id = $1 order by created_at desc limit 1")
            .bind(probe)
            .fetch_one(owner)
            .await?;
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let all = AuditFilter::default;
    let at = ManualClock::default().now();
    let about = |about| AuditFilter { about: Some(about), ..all() };
    let of = |events: &[&str]| AuditFilter { events: names(events), ..all() };
    let today = at.replace_time(time::Time::MIDNIGHT);
    let rare = ["two_factor.reset", "user.disabled", "admin.granted", "flag.changed", "moon.risen"];
    let failures = ["link.refused", "totp.refused", "backup_code.refused", "step_up.refused"];
    let half_way =
        Cursor::parse(&format!("n{}-{}", (at - time::Duration::days(45)).unix_timestamp_nanos() / 1_000, Uuid::nil().simple()));
    Ok([
        ("first page", all(), None),
        ("today", AuditFilter { since: Some(today), ..all() }, None),
        ("half-way, newer", all(), half_way),
        ("rare events", of(&rare), None),
        ("failures", of(&failures), None),
        ("failures, half-way, newer", of(&failures), half_way),
        ("an account", about(About::Person(ordinary)), None),
        ("an account of 10^5 events", about(About::Person(probe)), None),
        ("its failures", AuditFilter { events: names(&failures), ..about(About::Person(probe)) }, None),
        ("an address", about(About::Ip(ip.addr())), None),
        ("nobody's address", about(About::Ip(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 99)))), None),
        ("a request", about(About::Request(auth::crypto::new_id(at).to_string())), None),
    ]
    .into_iter()
    .map(|(name, filter, cursor)| (format!("audit: {name}"), Ask::Audit(filter, cursor)))
    .chain([("audit: the seal".to_owned(), Ask::AuditSeal), ("audit: the report".to_owned(), Ask::AuditReport)])
    .collect())
}

/// Of times in order.
fn quantile(times: &[Duration], percent: usize) -> Duration {
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
