//! The commands. Each prints plain text for people, JSON for scripts with `--json`, and exits with 0, 1 (failed) or 2 (usage).

use clap::{Args, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "latchkey", version, about = "Passwordless sign-in: an email link and a code.", long_about = None)]
pub struct Cli {
    /// Nothing given: `serve`.
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Migrate (unless `MIGRATE_ON_START=false`), then start the web server and the workers
    Serve,
    /// Apply pending migrations
    Migrate {
        /// List the migrations and apply nothing
        #[arg(long)]
        status: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Accounts
    #[command(subcommand)]
    User(User),
    /// The configuration
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
pub enum User {
    /// Make an account; its owner signs in by mail
    Create {
        email: String,
        /// An administrator
        #[arg(long)]
        admin: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Invite an address to sign up; the mail goes out from a running server
    Invite {
        email: String,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read the configuration as `serve` would; print every value and its source, and one line a mistake
    Check {
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
