//! The binary `latchkey`.

use std::{process::ExitCode, time::Duration};

use clap::Parser as _;
use server::{
    cli::{self, Cli, Command},
    config::{self, Config, Environment},
    database::Database,
    serve,
    telemetry::{self, traces::Traces},
};
use tokio::runtime::Runtime;
use tracing::level_filters::LevelFilter;

fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("nothing chose a TLS provider before main");
    let succeeded = run(Cli::parse(), &Environment::of_process());
    match succeeded {
        Ok(true) => ExitCode::SUCCESS,
        // The command has printed what is wrong.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(Cli { command, verbose }: Cli, environment: &Environment) -> anyhow::Result<bool> {
    match command.unwrap_or(Command::Serve) {
        Command::Config(check) => Ok(cli::config_check(environment, check.output)),
        Command::Doctor { output } => cli::doctor(environment, output),
        // It looks at an instance from outside, perhaps from another machine: the configuration here doesn't matter.
        Command::Smoke(options) => runtime()?.block_on(smoke::run(options, |line| cli::say(line))),
        // Neither does the database: a server without it is alive.
        Command::Healthcheck { output } => {
            let config = config::load(environment)?;
            runtime()?.block_on(cli::healthcheck(&config, output)).map(|()| true)
        }
        command => with_database(&config::load(environment)?, command, verbose).map(|()| true),
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn with_database(config: &Config, command: Command, verbose: bool) -> anyhow::Result<()> {
    // A command's answer is what it says; its log would only repeat it.
    let most = if verbose || matches!(command, Command::Serve) { LevelFilter::TRACE } else { LevelFilter::WARN };
    let _telemetry = telemetry::init(config.log_format, &config.log_filter, most)?;
    // On this thread, which lives as long as the process: the private cluster dies with the thread that started it.
    let database = Database::open(config)?;
    let runtime = runtime()?;
    let outcome = if let Command::Serve = command {
        let traces = config.otlp_endpoint.as_ref().map(|endpoint| Traces::start(endpoint, runtime.handle())).transpose()?;
        let served = runtime.block_on(serve::serve(config, &database));
        drop(traces);
        served
    } else {
        runtime.block_on(cli::run(config, &database, command))
    };
    // Not for longer: a thread may be waiting for a name server.
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome.and(database.close())
}
