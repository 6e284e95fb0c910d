//! `make bench`: the sign-in page beside a raw axum handler that returns the same bytes, and complete sign-ins by link beside the
//! same SQL run by pgbench. Each pair in one run, on one machine, taking turns; the medians of three rounds. And apart from these:
//! the pages of accounts and of administration on many rows, whether time tells of accounts, and people who sign in (docs/load.md).
//!
//! Load and servers share the cores, so rates are low and depend on the machine. CPU per request is the figure to compare.

mod audit;
mod client;
mod cpu;
mod enumerate;
mod gate;
mod load;
mod page;
mod pages;
mod seed;
mod servers;
mod sign_in;

use std::process::ExitCode;

use anyhow::Context as _;

const HELP: &str = "\
bench                                  the benchmark that `make bench` runs
bench seed [--users N] [--events N]    fill a PostgreSQL of its own, beside this program: 100,000 users and 10,000,000 audit rows,
                                       which take 7 GB of disk and ten minutes
bench pages [PART]                     on what `seed` made: how long users, activity and sessions take, and the plans; with PART
                                       the lines only that hold it
bench unseed                           delete it
bench audit                            what the seal of the audit costs a sign-in, and how long sealing and verifying take
bench gate                             forward-auth and introspection, each beside a raw axum handler that asks the same
bench enumerate [--pairs N]            whether the time an answer takes tells what is behind an address; fails where it does
bench load [OPTION...]                 people who sign in, as `make load` runs it: four runs of 30 s, or one where --burst or --mail is given
    --rate N                           people a second: 20
    --for SECONDS                      for so long: 30
    --burst N                          N times as many for 5 s, after 10 s
    --mail good|slow|refusing|hanging  the mail server
    --limits on|off                    as they ship, or none";

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => bench(&runtime),
        ["raw", file] => runtime.block_on(page::serve_raw(file)),
        ["raw-gate", database] => runtime.block_on(gate::serve_raw(database)),
        ["audit"] => audit(&runtime),
        ["gate"] => gate(&runtime),
        ["seed", options @ ..] => seed(&runtime, options),
        ["pages"] => pages(&runtime, ""),
        ["pages", part] => pages(&runtime, part),
        ["unseed"] => seed::remove(),
        ["enumerate"] => enumerate(2_000),
        ["enumerate", "--pairs", n] => n.parse().map_err(Into::into).and_then(enumerate),
        ["load", options @ ..] => load(&runtime, options),
        _ => Err(anyhow::anyhow!("{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

// The clusters start on this thread: a private cluster dies with the thread that started it.

fn bench(runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
    let cluster = servers::start_cluster()?;
    runtime.block_on(async {
        page::bench(&cluster).await?;
        sign_in::bench(&cluster).await
    })?;
    servers::make_database_anew(&cluster)?;
    runtime.block_on(gate::bench(&cluster))?;
    Ok(cluster.stop()?)
}

fn audit(runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
    let cluster = servers::start_cluster()?;
    runtime.block_on(audit::bench(&cluster))?;
    Ok(cluster.stop()?)
}

fn gate(runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
    let cluster = servers::start_cluster()?;
    runtime.block_on(gate::bench(&cluster))?;
    Ok(cluster.stop()?)
}

fn seed(runtime: &tokio::runtime::Runtime, options: &[&str]) -> anyhow::Result<()> {
    let mut size = seed::Size { users: 100_000, events: 10_000_000 };
    for option in options.chunks(2) {
        match option {
            ["--users", n] => size.users = n.parse()?,
            ["--events", n] => size.events = n.parse()?,
            _ => anyhow::bail!("{HELP}"),
        }
    }
    let cluster = seed::start(false)?;
    runtime.block_on(seed::fill(&cluster, &size))?;
    Ok(cluster.stop()?)
}

fn pages(runtime: &tokio::runtime::Runtime, part: &str) -> anyhow::Result<()> {
    let cluster = seed::start(true)?;
    runtime.block_on(pages::bench(&cluster, part))?;
    Ok(cluster.stop()?)
}

/// On one thread: one that has to wake another adds to every time it measures.
fn enumerate(pairs: usize) -> anyhow::Result<()> {
    let cluster = servers::start_private("bench-postgres", false)?;
    servers::make_database_anew(&cluster)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(enumerate::bench(&cluster, pairs))?;
    Ok(cluster.stop()?)
}

fn load(runtime: &tokio::runtime::Runtime, options: &[&str]) -> anyhow::Result<()> {
    let (options, alone) = load::read(options).with_context(|| HELP)?;
    let cluster = servers::start_cluster()?;
    for run in load::runs(&options, alone) {
        servers::make_database_anew(&cluster)?;
        runtime.block_on(load::run(&cluster, &run))?;
    }
    Ok(cluster.stop()?)
}

/// The middle one of three, so that one disturbed round does not count.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
