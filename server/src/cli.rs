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
    /// The keys that secrets are encrypted under
    #[command(subcommand)]
    Key(KeyCommand),
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
    /// Take two-factor off an account whose owner has lost phone and backup codes; its sessions end, and its owner is told
    #[command(name = "reset-2fa")]
    ResetTwoFactor {
        email: String,
        /// Why, for the audit log
        #[arg(long, value_parser = reason)]
        reason: String,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List the keys and how many secrets lie under each; exit 1 where one that is needed is missing
    Status {
        #[command(flatten)]
        output: Output,
    },
    /// Encrypt every secret anew under the current key, while servers run; safe to stop and to run again
    Rotate {
        #[command(flatten)]
        output: Output,
    },
}

/// One line that says something.
fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("say why".to_owned());
    }
    if text.chars().any(char::is_control) || text.chars().count() > 500 {
        return Err("must be one line of at most 500 characters".to_owned());
    }
    Ok(text.to_owned())
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
