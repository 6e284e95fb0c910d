//! The binary `latchkey`.

use std::{process::ExitCode, time::Duration};

use clap::Parser as _;
use server::{
    audit_commands,
    cli::{self, Cli, Command, ConfigCommand},
    commands,
    config::{self, Environment},
    database::Database,
    doctor, pooler, reconcile, rollout_commands, serve,
    telemetry::{self, traces::Traces},
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("nothing chose a TLS provider before main");
    let environment = Environment::of_process();
    let command = match cli.command.unwrap_or(Command::Serve) {
        Command::Config(ConfigCommand::Check { output }) => return ended(Ok(commands::check_configuration(&environment, output))),
        Command::Doctor { output } => return ended(doctor::doctor(&environment, output)),
        // It looks at an instance from outside, perhaps from another machine: none of our configuration matters.
        Command::Smoke(options) => {
            return ended(runtime().and_then(|runtime| runtime.block_on(smoke::run(options, |line| cli::say(line)))));
        }
        command => command,
    };
    let config = match config::load(&environment) {
        Ok(config) => config,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return ExitCode::FAILURE;
        }
    };
    ended(run(&config, command).map(|()| true))
}

fn ended(outcome: anyhow::Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        // What is wrong has been told.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn run(config: &config::Config, command: Command) -> anyhow::Result<()> {
    let _telemetry = telemetry::init(config.log_format, &config.log_filter)?;
    // On this thread, which lives as long as the process: the private cluster dies with the thread that started it.
    let database = Database::open(config)?;
    let runtime = runtime()?;
    let endpoint = config.otlp_endpoint.as_ref().filter(|_| matches!(command, Command::Serve));
    let traces = endpoint.map(|endpoint| Traces::start(endpoint, runtime.handle())).transpose()?;
    let outcome = runtime.block_on(async {
        if !matches!(command, Command::Serve) {
            let pool = database.pool();
            // Where the database doesn't answer, the command says so.
            pooler::refuse(&pool).await?;
            pool.close().await;
        }
        match command {
            Command::Serve => serve::serve(config, &database).await,
            Command::Migrate { status, output } => commands::migrate(&database, status, output).await,
            Command::User(command) => {
                let pool = database.pool();
                commands::user(config, pool, command).await
            }
            Command::Session(command) => commands::session(config, database.pool(), command).await,
            Command::Flag(command) => rollout_commands::flag(config, database.pool(), command).await,
            Command::Rollout(command) => rollout_commands::rollout(config, database.pool(), command).await,
            Command::Key(command) => commands::key(config, database.pool(), command).await,
            Command::ApiKey(command) => commands::api_key(config, database.pool(), command).await,
            Command::Audit(command) => audit_commands::audit(config, database.pool(), command).await,
            Command::Reconcile { since, output } => reconcile::reconcile(config, database.pool(), since, output).await,
            Command::Config(_) | Command::Doctor { .. } | Command::Smoke(_) => {
                unreachable!("handled before the configuration was needed")
            }
        }
    });
    drop(traces);
    // Not for longer: a thread may be waiting for a name server.
    runtime.shutdown_timeout(Duration::from_secs(2));
    outcome.and(database.close())
}
