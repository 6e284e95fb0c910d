//! The sign-in page beside a handler that returns the same bytes.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use axum::{Router, response::Html, routing::get};
use private_postgres::Cluster;
use testkit::{Browser, SmtpSink};

use crate::{
    cpu, median,
    servers::{self, ORIGIN, Server},
};

const CLIENTS: usize = 16;
const ROUND: Duration = Duration::from_secs(5);
/// `docs`' aim: at most this many times the raw handler's CPU.
const AIM: f64 = 2.5;

/// What `bench raw FILE` runs.
#[expect(clippy::disallowed_methods, reason = "set by the process that starts this one")]
pub async fn serve_raw(file: &str) -> anyhow::Result<()> {
    let page: &'static str = Box::leak(std::fs::read_to_string(file)?.into_boxed_str());
    let address: SocketAddr = std::env::var("LISTEN")?.parse()?;
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, Router::new().route("/", get(async move || Html(page)))).await?;
    Ok(())
}

struct Figures {
    per_second: f64,
    cpu_micros: f64,
}

pub async fn bench(cluster: &Cluster) -> anyhow::Result<()> {
    let sink = SmtpSink::start().await;
    let latchkey = servers::latchkey(cluster, &sink.url()).await?;
    let page = Browser::new(latchkey.address, ORIGIN).get("/login").await;
    anyhow::ensure!(page.status == 200, "the page answers {}", page.status);
    let file = std::env::temp_dir().join(format!("latchkey-bench-{}.html", std::process::id()));
    std::fs::write(&file, &page.body).context("the page's bytes, for the raw server")?;
    let raw = servers::raw(&file).await?;
    std::fs::remove_file(&file)?;

    let (mut pages, mut raws) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        raws.push(round(&raw, "/").await?);
        pages.push(round(&latchkey, "/login").await?);
    }
    let middle = |figures: &[Figures], of: fn(&Figures) -> f64| median(figures.iter().map(of).collect());
    println!("sign-in page, {} bytes, {CLIENTS} clients        requests/s   CPU µs/request", page.body.len());
    let mut micros = Vec::new();
    for (name, figures) in [("raw axum handler, same bytes", &raws), ("latchkey /login", &pages)] {
        micros.push(middle(figures, |f| f.cpu_micros));
        println!("  {name:<44} {:>10.0} {:>16.1}", middle(figures, |f| f.per_second), micros[micros.len() - 1]);
    }
    println!("  CPU, times the raw handler's: {:.2} (aim: at most {AIM})\n", micros[1] / micros[0]);
    Ok(())
}

async fn round(server: &Server, path: &'static str) -> anyhow::Result<Figures> {
    let requests = Arc::new(AtomicU64::new(0));
    let (begun, before) = (Instant::now(), cpu::micros(server.pid())?);
    let clients = (0..CLIENTS).map(|_| {
        let (mut browser, requests) = (Browser::new(server.address, ORIGIN), requests.clone());
        tokio::spawn(async move {
            while begun.elapsed() < ROUND {
                assert_eq!(browser.get(path).await.status, 200, "a failed request must not count as a fast one");
                requests.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    futures::future::try_join_all(clients.collect::<Vec<_>>()).await?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let (n, used) = (requests.load(Ordering::Relaxed) as f64, (cpu::micros(server.pid())? - before) as f64);
    Ok(Figures { per_second: n / begun.elapsed().as_secs_f64(), cpu_micros: used / n })
}
