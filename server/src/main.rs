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

fn main() -> ExitCode {
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("nothing chose a TLS provider before main");
    let succeeded = run(Cli::parse().command.unwrap_or(Command::Serve), &Environment::of_process());
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

fn run(command: Command, environment: &Environment) -> anyhow::Result<bool> {
    match command {
        Command::Config(check) => Ok(cli::config_check(environment, check.output)),
        Command::Doctor { output } => cli::doctor(environment, output),
        // It looks at an instance from outside, perhaps from another machine: the configuration here doesn't matter.
        Command::Smoke(options) => runtime()?.block_on(smoke::run(options, |line| cli::say(line))),
        command => with_database(&config::load(environment)?, command).map(|()| true),
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn with_database(config: &Config, command: Command) -> anyhow::Result<()> {
    let _telemetry = telemetry::init(config.log_format, &config.log_filter)?;
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
