//! The commands. Each prints plain text for people, JSON for scripts with `--json`, and exits with 0, 1 (failed) or 2 (usage).

use std::time::Duration;

use auth::api_key::{Prefix, Scope};
use clap::{Args, Parser, Subcommand};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::config::values;

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
    /// Sessions
    #[command(subcommand)]
    Session(SessionCommand),
    /// The keys that secrets are encrypted under
    #[command(subcommand)]
    Key(KeyCommand),
    /// API keys: which programs may use the API
    #[command(subcommand, name = "apikey")]
    ApiKey(ApiKeyCommand),
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
    /// List accounts and open invitations by address, at most 1000
    List {
        /// Part of an address, or a whole id
        #[arg(long)]
        search: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Turn an account off: its sessions and links end, nobody can sign in to it, and its owner is told
    Disable {
        email: String,
        /// Why, for the audit log
        #[arg(long, value_parser = reason, default_value = NO_REASON)]
        reason: String,
        #[command(flatten)]
        output: Output,
    },
    /// Turn an account on again
    Enable {
        email: String,
        /// Why, for the audit log
        #[arg(long, value_parser = reason, default_value = NO_REASON)]
        reason: String,
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

/// What the audit log says where an operator gives no reason.
const NO_REASON: &str = "no reason given";

#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// List an account's live sessions
    List {
        email: String,
        #[command(flatten)]
        output: Output,
    },
    /// End sessions, at once and on every server: an account's, everybody's, or those signed in since a time
    Revoke {
        #[command(flatten)]
        whose: Whose,
        /// Why, for the audit log
        #[arg(long, value_parser = reason, default_value = NO_REASON)]
        reason: String,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Whose {
    /// The account's; repeat it for several
    #[arg(long, value_name = "EMAIL")]
    pub user: Vec<String>,
    /// Everybody's
    #[arg(long)]
    pub all: bool,
    /// Everybody's that were signed in since then, like 2026-11-24T14:30:00Z
    #[arg(long, value_name = "RFC3339", value_parser = time)]
    pub since: Option<OffsetDateTime>,
}

fn time(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|_| "write it like 2026-11-24T14:30:00Z".to_owned())
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

#[derive(Debug, Subcommand)]
pub enum ApiKeyCommand {
    /// Make a key; it is printed once, and kept nowhere
    Create {
        /// What it is for
        name: String,
        /// What it may do: signin, sessions, users, audit:read, flags or metrics:read; repeat it for several
        #[arg(long = "scope", required = true, value_parser = scope)]
        scopes: Vec<Scope>,
        /// How long it works, like 90d; for ever if not given
        #[arg(long, value_name = "TIME", value_parser = values::duration)]
        expires: Option<Duration>,
        #[command(flatten)]
        output: Output,
    },
    /// List the keys: those that work first
    List {
        #[command(flatten)]
        output: Output,
    },
    /// End a key, at once and on every server
    Revoke {
        /// How it begins, like `lk_k7qdm2xw`
        #[arg(value_parser = prefix)]
        prefix: Prefix,
        /// Why, for the audit log
        #[arg(long, value_parser = reason, default_value = NO_REASON)]
        reason: String,
        #[command(flatten)]
        output: Output,
    },
}

fn scope(text: &str) -> Result<Scope, String> {
    Scope::parse(text).ok_or_else(|| format!("is none of {}", Scope::ALL.map(Scope::as_str).join(", ")))
}

fn prefix(text: &str) -> Result<Prefix, String> {
    Prefix::parse(text).ok_or_else(|| "write how the key begins, like lk_k7qdm2xw".to_owned())
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
