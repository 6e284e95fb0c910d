//! The commands. Each prints plain text for people, JSON for scripts with `--json`, and exits with 0, 1 (failed) or 2 (usage).

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write as _},
    time::Duration,
};

use auth::{
    audit::KnownHead,
    flag::{PASSWORDLESS_AUTH, Target},
    identity::{Prefix, Scope},
    rollout::Step,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use crate::config::values;

/// A line of an answer. Whoever reads may have seen enough (`latchkey doctor | head`): the command goes on, and ends as it would.
///
/// # Panics
/// Where the line can't be written for another reason. An answer that isn't whole must not look like one.
pub fn say(line: impl Display) {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        other => other.expect("standard output can be written to"),
    }
}

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
    /// Who has a feature, by hand
    #[command(subcommand)]
    Flag(FlagCommand),
    /// The guarded rollout of signing in by mail
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// The keys that secrets are encrypted under
    #[command(subcommand)]
    Key(KeyCommand),
    /// API keys: which programs may use the API
    #[command(subcommand, name = "apikey")]
    ApiKey(ApiKeyCommand),
    /// The audit log: out, untampered, unusual
    #[command(subcommand)]
    Audit(AuditCommand),
    /// The configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look for rows that contradict each other, tokens and mail that wait for nothing; exit 1 where there are any
    Reconcile {
        /// What happened since then, like 2026-11-24T14:30:00Z; else in the last 24 hours. Mail that is stuck is always looked for
        #[arg(long, value_name = "RFC3339", value_parser = time)]
        since: Option<OffsetDateTime>,
        #[command(flatten)]
        output: Output,
    },
    /// Look at configuration, database, migrations, clock, mail server and keys: what is wrong, and how to mend it; exit 1 where
    /// something is
    Doctor {
        #[command(flatten)]
        output: Output,
    },
    /// Try a running instance as a person would: sign in by mail, two-factor, backup codes, sign out; one line a check, exit 1 where
    /// one fails
    Smoke(smoke::Options),
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

/// In UTC from here on: what lies outside of the calendar there can't be asked for.
fn time(text: &str) -> Result<OffsetDateTime, String> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok().and_then(|moment| moment.checked_to_offset(UtcOffset::UTC));
    moment.ok_or_else(|| "write it like 2026-11-24T14:30:00Z".to_owned())
}

#[derive(Debug, Subcommand)]
pub enum FlagCommand {
    /// List the flags, who has each, and who changed it last and why
    Show {
        #[command(flatten)]
        output: Output,
    },
    /// Change how many have it; every running server follows within five seconds
    Set {
        /// `passwordless_auth`, or a name of your own
        #[arg(value_parser = flag_key)]
        flag: String,
        #[command(flatten)]
        to: FlagTo,
        /// With --percent: of whom
        #[arg(long, value_enum, default_value = "everyone", requires = "percent")]
        of: Of,
        /// Why, for the audit log
        #[arg(long, value_parser = reason)]
        reason: String,
        #[command(flatten)]
        output: Output,
    },
    /// Let one address in, whatever the percentages say
    Allow {
        email: String,
        #[arg(long, value_parser = flag_key, default_value = PASSWORDLESS_AUTH)]
        flag: String,
        /// Why, for the audit log
        #[arg(long, value_parser = reason, default_value = NO_REASON)]
        reason: String,
        #[command(flatten)]
        output: Output,
    },
    /// Take back what `allow` did
    Disallow {
        email: String,
        #[arg(long, value_parser = flag_key, default_value = PASSWORDLESS_AUTH)]
        flag: String,
        /// Why, for the audit log
        #[arg(long, value_parser = reason, default_value = NO_REASON)]
        reason: String,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct FlagTo {
    /// Everyone
    #[arg(long)]
    pub on: bool,
    /// Nobody: no percentage, no address
    #[arg(long)]
    pub off: bool,
    /// So many of a hundred
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub percent: Option<u8>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Of {
    Admins,
    Everyone,
}

fn flag_key(text: &str) -> Result<String, String> {
    if auth::flag::is_key(text) { Ok(text.to_owned()) } else { Err("use lower-case letters, digits and _".to_owned()) }
}

#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// Begin: named addresses, 5 % of administrators, 25 % of everyone, everyone, each for as long as its soak
    Start {
        /// Steps of your own: `named:24h,admins=5:72h,everyone=25:48h,everyone=100:72h`
        #[arg(long, value_name = "STEPS", value_parser = plan)]
        plan: Option<Plan>,
        /// Why, for the audit log
        #[arg(long, value_parser = reason, default_value = NO_REASON)]
        reason: String,
        #[command(flatten)]
        output: Output,
    },
    /// Where it stands, and what its checks say
    Status {
        #[command(flatten)]
        output: Output,
    },
    /// Stop it where it is
    Pause {
        #[arg(long, value_parser = reason, default_value = NO_REASON)]
        reason: String,
        #[command(flatten)]
        output: Output,
    },
    /// Go on after a pause, or without waiting for a held one to be released
    Resume {
        #[arg(long, value_parser = reason, default_value = NO_REASON)]
        reason: String,
        #[command(flatten)]
        output: Output,
    },
    /// End the plan and keep the percentage
    Abort {
        #[arg(long, value_parser = reason, default_value = NO_REASON)]
        reason: String,
        #[command(flatten)]
        output: Output,
    },
}

/// In a type of its own, or clap would take it for an option that may be given many times.
#[derive(Debug, Clone)]
pub struct Plan(pub Vec<Step>);

fn plan(text: &str) -> Result<Plan, String> {
    let steps: Option<Vec<Step>> = text
        .split(',')
        .map(|step| {
            let (to, soak) = step.trim().split_once(':')?;
            let soak_hours = soak.strip_suffix('h')?.parse().ok()?;
            let percent = |text: &str| text.parse().ok().filter(|percent| (1..=100).contains(percent));
            let to = match to.split_once('=') {
                None if to == "named" => Target::Named,
                Some(("admins", n)) => Target::Admins(percent(n)?),
                Some(("everyone", n)) => Target::Everyone(percent(n)?),
                _ => return None,
            };
            Some(Step { to, soak_hours })
        })
        .collect();
    steps.map(Plan).ok_or_else(|| "write it like named:24h,admins=5:72h,everyone=25:48h,everyone=100:72h".to_owned())
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

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Print the audit log, the oldest first, for another program; the export is recorded in it
    Export {
        /// From then on, like 2026-11-24T14:30:00Z
        #[arg(long, value_name = "RFC3339", value_parser = time)]
        since: Option<OffsetDateTime>,
        /// Before then
        #[arg(long, value_name = "RFC3339", value_parser = time)]
        until: Option<OffsetDateTime>,
        #[arg(long, value_enum, default_value = "jsonl")]
        format: ExportFormat,
    },
    /// Look whether the audit log is as it was sealed; exit 1 where a row or a batch was changed, removed or put in
    Verify {
        /// A batch that must be in the chain, like 4812:9f86d081884c7d65, from the log line `audit.sealed`: without it, nobody can
        /// tell that the newest batches were cut off together with their rows
        #[arg(long, value_name = "NUMBER:HASH", value_parser = head)]
        head: Option<KnownHead>,
        #[command(flatten)]
        output: Output,
    },
    /// Point out what is unusual: guessing, replays, two-factor resets, exports, what was done at the shell
    Report {
        /// From then on, like 2026-11-24T14:30:00Z; else the last 7 days
        #[arg(long, value_name = "RFC3339", value_parser = time)]
        since: Option<OffsetDateTime>,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ExportFormat {
    /// A JSON object a line
    Jsonl,
    /// For spreadsheets: nothing in it is a formula
    Csv,
}

fn head(text: &str) -> Result<KnownHead, String> {
    KnownHead::parse(text).ok_or_else(|| "write it like 4812:9f86d081884c7d65".to_owned())
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
