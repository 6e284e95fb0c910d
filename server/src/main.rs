//! The binary `latchkey`.

use std::process::ExitCode;

use clap::Parser as _;
use server::{
    cli::{Cli, Command, ConfigCommand},
    commands,
    config::{self, Environment},
    database::Database,
    serve, telemetry,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    rustls::crypto::aws_lc_rs::default_provider().install_default().expect("nothing chose a TLS provider before main");
    let environment = Environment::of_process();
    if let Some(Command::Config(ConfigCommand::Check { output })) = cli.command {
        return config::check_command(&environment, output.json);
    }
    let config = match config::load(&environment) {
        Ok(config) => config,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return ExitCode::FAILURE;
        }
    };
    match run(&config, cli.command.unwrap_or(Command::Serve)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: &config::Config, command: Command) -> anyhow::Result<()> {
    let _telemetry = telemetry::init(config.log_format, &config.log_filter)?;
    // On this thread, which lives as long as the process: the private cluster dies with the thread that started it.
    let database = Database::open(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        match command {
            Command::Serve => serve::serve(config, &database).await,
            Command::Migrate { status, output } => commands::migrate(&database, status, output).await,
            Command::User(command) => {
                let pool = database.pool();
                commands::user(config, pool, command).await
            }
            Command::Session(command) => commands::session(config, database.pool(), command).await,
            Command::Key(command) => commands::key(config, database.pool(), command).await,
            Command::ApiKey(command) => commands::api_key(config, database.pool(), command).await,
            Command::Config(_) => unreachable!("handled before the configuration was needed"),
        }
    });
    drop(runtime);
    outcome.and(database.close())
}
