//! `make bench`: the sign-in page beside a raw axum handler that returns the same bytes, and complete sign-ins by link beside the
//! same SQL run by pgbench. Each pair in one run, on one machine, taking turns; the medians of three rounds.
//!
//! Load and servers share the cores, so rates are low and depend on the machine. CPU per request is the figure to compare.

mod cpu;
mod page;
mod servers;
mod sign_in;

use std::process::ExitCode;

fn main() -> ExitCode {
    let raw_page = std::env::args().skip(1).collect::<Vec<_>>();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let outcome = match raw_page.as_slice() {
        [command, file] if command == "raw" => runtime.block_on(page::serve_raw(file)),
        _ => bench(&runtime),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
    // On this thread: the private cluster dies with the thread that started it.
    let cluster = servers::start_cluster()?;
    runtime.block_on(async {
        page::bench(&cluster).await?;
        sign_in::bench(&cluster).await
    })?;
    Ok(cluster.stop()?)
}

/// The middle one of three, so that one disturbed round does not count.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
