//! `make bench`: the sign-in page beside a raw axum handler that returns the same bytes, and complete sign-ins by link beside the
//! same SQL run by pgbench. Each pair in one run, on one machine, taking turns; the medians of three rounds. And apart from these:
//! the pages of accounts and of administration on many rows.
//!
//! Load and servers share the cores, so rates are low and depend on the machine. CPU per request is the figure to compare.

mod cpu;
mod page;
mod pages;
mod seed;
mod servers;
mod sign_in;

use std::process::ExitCode;

const HELP: &str = "\
bench                                  the benchmark that `make bench` runs
bench seed [--users N] [--events N]    fill a PostgreSQL of its own, beside this program: 100,000 users and 10,000,000 audit rows,
                                       which take 7 GB of disk and ten minutes
bench pages [PART]                     on what `seed` made: how long users, activity and sessions take, and the plans; with PART
                                       the lines only that hold it
bench unseed                           delete it";

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1).collect::<Vec<_>>();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => bench(&runtime),
        ["raw", file] => runtime.block_on(page::serve_raw(file)),
        ["seed", options @ ..] => seed(&runtime, options),
        ["pages"] => pages(&runtime, ""),
        ["pages", part] => pages(&runtime, part),
        ["unseed"] => seed::remove(),
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

/// The middle one of three, so that one disturbed round does not count.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
