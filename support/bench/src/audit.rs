//! What the seal of the audit costs a sign-in: its SQL with the row's number and the indexes of migration 024, without them, and with
//! them while rows are sealed every second, sixty times as often as a server does it. In turns, on one cluster.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use auth::{Auth, crypto::Keys, policy::Policy};
use private_postgres::{APPLICATION, Cluster, DATABASE, OWNER};
use sqlx::{AssertSqlSafe, Executor as _, PgPool};
use testkit::{ManualClock, TEST_KEY};

use crate::{cpu, median, servers};

const SIGN_IN: &str = include_str!("sign_in.sql");
/// One event by itself, as a refusal is recorded.
const INSERT: &str = "insert into auth_audit (id, created_at, event_type, user_id, ip, user_agent, request_id, details) values \
     (gen_random_uuid(), now(), 'totp.refused', gen_random_uuid(), '127.0.0.1', 'Mozilla/5.0 (Windows NT 10.0; Win64; x64; \
     rv:128.0) Gecko/20100101 Firefox/128.0', gen_random_uuid()::text, '{\"reason\": \"wrong\", \"for\": \"sign_in\"}');";
const PLAIN: &str = "latchkey_plain";
/// Each case has a database of its own: with another's rows in it as well, its statements would cost more for that alone.
const SHIPPED: &str = "latchkey_shipped";
const ROUND: Duration = Duration::from_secs(6);
const ROUNDS: usize = 5;

/// The number alone, and with it the indexes that the pages of the log need.
const WITHOUT_SEAL: &str = "alter table auth_audit alter column position set default 0; drop index auth_audit_position";
const WITHOUT_INDEXES: &str = "drop index auth_audit_ip; drop index auth_audit_actor";

pub async fn bench(cluster: &Cluster) -> anyhow::Result<()> {
    let postmaster = servers::postmaster(cluster)?;
    let maker = PgPool::connect(&cluster.url(OWNER, "postgres")).await?;
    for (name, undo) in [
        (DATABASE.to_owned(), vec![]),
        (SHIPPED.to_owned(), vec![]),
        (format!("{PLAIN}_seal"), vec![WITHOUT_SEAL]),
        (format!("{PLAIN}_all"), vec![WITHOUT_SEAL, WITHOUT_INDEXES]),
    ] {
        if name != DATABASE {
            maker.execute(AssertSqlSafe(format!("drop database if exists {name} with (force)"))).await?;
            maker.execute(AssertSqlSafe(format!("create database {name} owner {OWNER}"))).await?;
        }
        let owner = PgPool::connect(&cluster.url(OWNER, &name)).await?;
        auth::operations::migrate::migrate(&owner, Some(APPLICATION)).await?;
        for undo in undo {
            owner.execute(undo).await?;
        }
        owner.close().await;
    }
    let sealing = Arc::new(AtomicBool::new(false));
    let sealer = tokio::spawn(seal(cluster.url(APPLICATION, DATABASE), sealing.clone()));

    for (what, script) in [("one event", INSERT), ("a sign-in by link, its SQL", SIGN_IN)] {
        let file = std::env::temp_dir().join(format!("latchkey-bench-audit-{}.sql", std::process::id()));
        std::fs::write(&file, script)?;
        let cases = [
            ("without the seal's number and index", format!("{PLAIN}_seal"), false),
            ("as it ships", SHIPPED.to_owned(), false),
            ("as it ships, sealed every second", DATABASE.to_owned(), true),
            ("without the seal, and the pages' indexes", format!("{PLAIN}_all"), false),
        ];
        let mut figures: Vec<(Vec<f64>, Vec<f64>)> = cases.iter().map(|_| Default::default()).collect();
        for round in 0..ROUNDS {
            // Each begins a round once, so that none is always the one after the pause.
            for turn in 0..cases.len() {
                let at = (turn + round) % cases.len();
                let (_, database, on) = &cases[at];
                sealing.store(*on, Ordering::Relaxed);
                let (rate, micros) = pgbench(cluster, database, &file, postmaster)?;
                figures[at].0.push(rate);
                figures[at].1.push(micros);
            }
        }
        sealing.store(false, Ordering::Relaxed);
        std::fs::remove_file(&file)?;
        println!("{what:<44}        /s   PostgreSQL CPU µs   against the first");
        let mut first = None;
        for ((name, ..), (rates, micros)) in cases.iter().zip(figures) {
            let (rate, micros) = (median(rates), median(micros));
            let base = *first.get_or_insert(micros);
            println!("  {name:<42} {rate:>9.0} {micros:>19.1} {:>16.1} %", (micros / base - 1.0) * 100.0);
        }
    }
    sealer.abort();
    for name in [SHIPPED.to_owned(), format!("{PLAIN}_seal"), format!("{PLAIN}_all")] {
        maker.execute(AssertSqlSafe(format!("drop database {name} with (force)"))).await?;
    }
    verify(&cluster.url(APPLICATION, DATABASE)).await
}

async fn auth(url: &str) -> anyhow::Result<Auth> {
    let pool = PgPool::connect(url).await?;
    Ok(Auth::new(pool, Arc::new(ManualClock::default()), Keys::new(&TEST_KEY, &[]), Policy::default()))
}

async fn seal(url: String, on: Arc<AtomicBool>) -> anyhow::Result<()> {
    let auth = auth(&url).await?;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if on.load(Ordering::Relaxed) {
            auth.audit().seal().await?;
        }
    }
}

/// What it all left, sealed whole and looked through.
async fn verify(url: &str) -> anyhow::Result<()> {
    let auth = auth(url).await?;
    let begun = Instant::now();
    let mut sealed = 0;
    loop {
        let run = auth.audit().seal().await?;
        if run.batches == 0 {
            break;
        }
        sealed += run.rows;
    }
    let sealing = begun.elapsed();
    let begun = Instant::now();
    let verified = auth.audit().verify(None).await?;
    anyhow::ensure!(verified.findings.is_empty(), "{:?}", verified.findings);
    println!(
        "sealed {sealed} rows in {:.1} s; verified {} rows in {} batches in {:.1} s",
        sealing.as_secs_f64(),
        verified.rows,
        verified.batches,
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn pgbench(cluster: &Cluster, database: &str, script: &std::path::Path, postmaster: u32) -> anyhow::Result<(f64, f64)> {
    let (begun, before) = (Instant::now(), cpu::micros_of_family(postmaster)?);
    let output = Command::new("pgbench")
        .args(["--no-vacuum", "--protocol=prepared", "--client=8", "--jobs=1"])
        .arg(format!("--time={}", ROUND.as_secs()))
        .arg("--file")
        .arg(script)
        .arg("--host")
        .arg(cluster.socket_dir())
        .args(["--username", APPLICATION, database])
        .output()
        .context("pgbench can't be run; it comes with PostgreSQL")?;
    let text = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(output.status.success(), "pgbench: {text}{}", String::from_utf8_lossy(&output.stderr));
    let done: f64 = text
        .lines()
        .find_map(|line| line.strip_prefix("number of transactions actually processed: "))
        .and_then(|n| n.split('/').next()?.trim().parse().ok())
        .context("pgbench's count")?;
    Ok((done / begun.elapsed().as_secs_f64(), (cpu::micros_of_family(postmaster)? - before) as f64 / done))
}
