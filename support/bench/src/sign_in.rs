//! Complete sign-ins by link, with real mail, beside the same SQL run by pgbench.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use private_postgres::{Cluster, DATABASE, OWNER};
use testkit::{Browser, SmtpSink};

use crate::{
    cpu, median,
    servers::{self, ORIGIN},
};

const CLIENTS: usize = 16;
const ROUND: Duration = Duration::from_secs(8);
const SCRIPT: &str = include_str!("sign_in.sql");

struct Figures {
    per_second: f64,
    server_micros: f64,
    postgres_micros: f64,
}

pub async fn bench(cluster: &Cluster) -> anyhow::Result<()> {
    let sink = Arc::new(SmtpSink::start().await);
    let latchkey = servers::latchkey(cluster, &sink.url()).await?;
    let postmaster = servers::postmaster(cluster)?;
    let script = std::env::temp_dir().join(format!("latchkey-bench-{}.sql", std::process::id()));
    std::fs::write(&script, SCRIPT)?;

    let (mut whole, mut bare) = (Vec::new(), Vec::new());
    for n in 0..3 {
        bare.push(pgbench(cluster, &script, postmaster)?);
        whole.push(round(&latchkey, &sink, postmaster, n).await?);
    }
    std::fs::remove_file(&script)?;
    let middle = |figures: &[Figures], of: fn(&Figures) -> f64| median(figures.iter().map(of).collect());
    println!("complete sign-in by link, {CLIENTS} clients      sign-ins/s   server CPU µs   PostgreSQL CPU µs");
    for (name, figures) in [("pgbench, the same SQL", &bare), ("latchkey, HTML and SMTP", &whole)] {
        println!(
            "  {name:<44} {:>10.0} {:>15.0} {:>19.0}",
            middle(figures, |f| f.per_second),
            middle(figures, |f| f.server_micros),
            middle(figures, |f| f.postgres_micros)
        );
    }
    Ok(())
}

async fn round(server: &servers::Server, sink: &Arc<SmtpSink>, postmaster: u32, round: usize) -> anyhow::Result<Figures> {
    let signed_in = Arc::new(AtomicU64::new(0));
    let (begun, cpu, postgres) = (Instant::now(), cpu::micros(server.pid())?, cpu::micros_of_family(postmaster)?);
    let clients = (0..CLIENTS).map(|client| {
        let (sink, signed_in, address) = (sink.clone(), signed_in.clone(), server.address);
        tokio::spawn(async move {
            let email = format!("round{round}-client{client}@example.org");
            // One that the account knows after the first time, as most are.
            let mut browser = Browser::new(address, ORIGIN);
            for n in 1.. {
                if begun.elapsed() >= ROUND {
                    break;
                }
                browser.cookies.remove("__Host-latchkey");
                assert_eq!(browser.post("/login", &[("email", &email)]).await.location(), "/login/sent");
                let link = sink.nth_about(&email, "Sign in to Latchkey", n).await.link();
                assert_eq!(browser.get(&link).await.location(), "/login/confirm");
                assert_eq!(browser.get("/login/confirm").await.status, 200);
                assert_eq!(browser.post("/login/confirm", &[]).await.location(), "/account");
                assert_eq!(browser.get("/account").await.status, 200);
                signed_in.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    futures::future::try_join_all(clients.collect::<Vec<_>>()).await?;
    figures(
        signed_in.load(Ordering::Relaxed),
        begun,
        cpu::micros(server.pid())? - cpu,
        cpu::micros_of_family(postmaster)? - postgres,
    )
}

fn pgbench(cluster: &Cluster, script: &std::path::Path, postmaster: u32) -> anyhow::Result<Figures> {
    let (begun, before) = (Instant::now(), cpu::micros_of_family(postmaster)?);
    let output = Command::new("pgbench")
        .args(["--no-vacuum", "--protocol=prepared", "--client=16", "--jobs=2"])
        .arg(format!("--time={}", ROUND.as_secs()))
        .arg("--file")
        .arg(script)
        .arg("--host")
        .arg(cluster.socket_dir())
        .args(["--username", OWNER, DATABASE])
        .output()
        .context("pgbench can't be run; it comes with PostgreSQL")?;
    let text = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(output.status.success(), "pgbench: {text}{}", String::from_utf8_lossy(&output.stderr));
    let done = text
        .lines()
        .find_map(|line| line.strip_prefix("number of transactions actually processed: "))
        .and_then(|n| n.split('/').next()?.trim().parse().ok())
        .context("pgbench's count")?;
    figures(done, begun, 0, cpu::micros_of_family(postmaster)? - before)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn figures(n: u64, begun: Instant, server: u64, postgres: u64) -> anyhow::Result<Figures> {
    anyhow::ensure!(n > 0, "nobody signed in");
    let n = n as f64;
    Ok(Figures {
        per_second: n / begun.elapsed().as_secs_f64(),
        server_micros: server as f64 / n,
        postgres_micros: postgres as f64 / n,
    })
}
