//! What can be typed. Each command prints plain text for people, JSON for scripts with `--json`, and exits with 0, 1 (failed) or 2 (usage).

use std::time::Duration;

use auth::{
    audit::KnownHead,
    flag::{PASSWORDLESS_AUTH, Target},
    identity::{Prefix, Scope},
    primitives::{email_address::EmailAddress, reason::Reason},
    rollout::Step,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use crate::config::values;

#[derive(Debug, Parser)]
#[command(name = "latchkey", version, about = "Passwordless sign-in: an email link and a code.", long_about = None)]
pub struct Cli {
    /// Without a command: `serve`.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Also log what `RUST_LOG` names below warnings; `serve` always does
    #[arg(short, long, global = true)]
    pub verbose: bool,
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
    User(Group<User>),
    /// Sessions
    Session(Group<SessionCommand>),
    /// Feature flags, set by hand
    Flag(Group<FlagCommand>),
    /// The guarded rollout of sign-in by mail
    Rollout(Group<RolloutCommand>),
    /// The keys that encrypt secrets
    Key(Group<KeyCommand>),
    /// API keys: which programs may use the API
    #[command(name = "apikey")]
    ApiKey(Group<ApiKeyCommand>),
    /// The audit log: export it, verify it, report what is unusual
    Audit(Group<AuditCommand>),
    /// The configuration
    Config(Group<ConfigCommand>),
    /// Find rows that contradict each other, orphaned tokens and stuck mail; exit 1 if there are any
    Reconcile {
        /// Look at what happened since this time, like 2026-11-24T14:30:00Z [default: the last 24 hours]. Stuck mail is always found
        #[arg(long, value_name = "RFC3339", value_parser = time)]
        since: Option<OffsetDateTime>,
        #[command(flatten)]
        output: Output,
    },
    /// Check configuration, database, migrations, clock, mail server and keys, and say how to fix what is wrong; exit 1 if a check
    /// fails
    Doctor {
        #[command(flatten)]
        output: Output,
    },
    /// Ask the server that runs here, with this configuration, whether it is alive (/healthz); exit 1 if it isn't. For containers
    Healthcheck {
        #[command(flatten)]
        output: Output,
    },
    /// Test a running instance as a person would: sign in by mail, two-factor, backup codes, sign out; one line per check, exit 1 if
    /// one fails
    Smoke(smoke::Options),
}

// A subject's commands, each of which answers in JSON where that is asked for.
#[derive(Debug, Args)]
pub struct Group<C: Subcommand> {
    #[command(subcommand)]
    pub command: C,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
pub enum User {
    /// Create an account; its owner signs in by mail
    Create {
        email: EmailAddress,
        /// Make it an administrator
        #[arg(long)]
        admin: bool,
        /// Why, for the audit log; required where SIGNUP does not take the address
        #[arg(long)]
        reason: Option<Reason>,
    },
    /// Invite an address to sign up, or an account to move to it; the mail goes out from a running server
    Invite {
        email: EmailAddress,
        /// Why, for the audit log; required where SIGNUP does not take the address. Where it is `closed`, nobody is mailed, and only an
        /// account that there is can move to the address
        #[arg(long)]
        reason: Option<Reason>,
    },
    /// List accounts and open invitations by address, at most 1000
    List {
        /// Part of an address, or a whole id
        #[arg(long)]
        search: Option<String>,
    },
    /// Turn an account off: end its sessions and links, refuse its sign-ins, and mail its owner
    Disable(OfAccount),
    /// Turn an account on again
    Enable(OfAccount),
    /// Make an account an administrator's, and mail its owner
    Promote(OfAccount),
    /// Make an administrator's account an ordinary one again, and mail its owner; the last administrator stays
    Demote(OfAccount),
    /// Turn two-factor off for an owner who has lost phone and backup codes; end the account's sessions, and mail its owner
    #[command(name = "reset-2fa")]
    ResetTwoFactor {
        #[arg(value_parser = EmailAddress::lookup)]
        email: EmailAddress,
        /// Why, for the audit log
        #[arg(long)]
        reason: Reason,
    },
}

// Without comments for rustdoc: clap would take them for the commands' own.
#[derive(Debug, Args)]
pub struct OfAccount {
    #[arg(value_parser = EmailAddress::lookup)]
    pub email: EmailAddress,
    #[command(flatten)]
    pub why: Why,
}

#[derive(Debug, Args)]
pub struct Why {
    /// Why, for the audit log
    #[arg(long, default_value = "no reason given")]
    pub reason: Reason,
}

#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// List an account's live sessions
    List {
        #[arg(value_parser = EmailAddress::lookup)]
        email: EmailAddress,
    },
    /// End sessions, at once and on every server: of an account, of all accounts, or those signed in since a time
    Revoke {
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        why: Why,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Whose {
    /// Of this account; repeat it for several
    #[arg(long, value_name = "EMAIL", value_parser = EmailAddress::lookup)]
    pub user: Vec<EmailAddress>,
    /// Of all accounts
    #[arg(long)]
    pub all: bool,
    /// Of all accounts, if signed in since this time, like 2026-11-24T14:30:00Z
    #[arg(long, value_name = "RFC3339", value_parser = time)]
    pub since: Option<OffsetDateTime>,
}

/// In UTC from here on, so a time outside of UTC's calendar is refused.
fn time(text: &str) -> Result<OffsetDateTime, String> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok().and_then(|moment| moment.checked_to_offset(UtcOffset::UTC));
    moment.ok_or_else(|| "write it like 2026-11-24T14:30:00Z".to_owned())
}

#[derive(Debug, Subcommand)]
pub enum FlagCommand {
    /// List the flags: who has each, who changed it last, and why
    Show,
    /// Set for how many a flag is on; every running server follows within five seconds
    Set {
        /// `passwordless_auth`, or a name of your own
        #[arg(value_parser = flag_key)]
        flag: String,
        #[command(flatten)]
        to: FlagTo,
        /// With --percent: percent of whom
        #[arg(long, value_enum, default_value = "everyone", requires = "percent")]
        of: Of,
        /// Why, for the audit log
        #[arg(long)]
        reason: Reason,
    },
    /// Turn a flag on for one address, whatever the percentages say
    Allow(OfFlag),
    /// Undo `allow`
    Disallow(OfFlag),
}

#[derive(Debug, Args)]
pub struct OfFlag {
    #[arg(value_parser = EmailAddress::lookup)]
    pub email: EmailAddress,
    #[arg(long, value_parser = flag_key, default_value = PASSWORDLESS_AUTH)]
    pub flag: String,
    #[command(flatten)]
    pub why: Why,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct FlagTo {
    /// Everyone
    #[arg(long)]
    pub on: bool,
    /// Nobody: clear percentages and addresses
    #[arg(long)]
    pub off: bool,
    /// This percentage
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
    /// Start: named addresses, 5 % of administrators, 25 % of everyone, everyone, each for its soak time
    Start {
        /// Your own steps: `named:24h,admins=5:72h,everyone=25:48h,everyone=100:72h`
        #[arg(long, value_name = "STEPS", value_parser = plan)]
        plan: Option<Plan>,
        #[command(flatten)]
        why: Why,
    },
    /// Show the current step and the checks
    Status,
    /// Stop at the current step
    Pause(Why),
    /// Continue after a pause, or release a held rollout
    Resume(Why),
    /// End the plan and keep the percentage
    Abort(Why),
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
    /// List the keys and how many secrets each encrypts; exit 1 if a needed key is missing
    Status,
    /// Re-encrypt every secret with the current key, while servers run; safe to stop and to run again
    Rotate,
}

#[derive(Debug, Subcommand)]
pub enum ApiKeyCommand {
    /// Create a key; it is printed once and stored nowhere
    Create {
        /// What it is for
        name: String,
        /// What it may do: signin, sessions, users, audit:read, flags or metrics:read; repeat it for several
        #[arg(long = "scope", required = true, value_parser = scope)]
        scopes: Vec<Scope>,
        /// How long it works, like 90d [default: for ever]
        #[arg(long, value_name = "TIME", value_parser = values::duration)]
        expires: Option<Duration>,
    },
    /// List the keys, working ones first
    List,
    /// Revoke a key, at once and on every server
    Revoke {
        /// The beginning of the key, like `lk_k7qdm2xw`
        #[arg(value_parser = prefix)]
        prefix: Prefix,
        #[command(flatten)]
        why: Why,
    },
}

fn scope(text: &str) -> Result<Scope, String> {
    let all = || Scope::ALL.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ");
    Scope::parse(text).ok_or_else(|| format!("must be one of {}", all()))
}

fn prefix(text: &str) -> Result<Prefix, String> {
    Prefix::parse(text).ok_or_else(|| "write how the key begins, like lk_k7qdm2xw".to_owned())
}

#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Print the audit log, oldest first, for another program; the log records the export
    Export {
        /// Since this time, like 2026-11-24T14:30:00Z
        #[arg(long, value_name = "RFC3339", value_parser = time)]
        since: Option<OffsetDateTime>,
        /// Until this time
        #[arg(long, value_name = "RFC3339", value_parser = time)]
        until: Option<OffsetDateTime>,
        #[arg(long, value_enum, default_value = "jsonl")]
        format: ExportFormat,
    },
    /// Verify that the audit log is as it was sealed; exit 1 if a row or a batch was changed, removed or added
    Verify {
        /// A batch that must be in the chain, like 4812:9f86d081884c7d65, from `latchkey audit head` or the log line `audit.sealed`.
        /// Without it, the newest batches could be cut off together with their rows, and `verify` would not notice
        #[arg(long, value_name = "NUMBER:HASH", value_parser = head)]
        head: Option<KnownHead>,
    },
    /// Print the newest batch with its whole hash, to keep where the database can't reach; exit 1 if nothing is sealed
    Head,
    /// Seal now, begin the chain on a log that has none, and accept what was sealed late, once you know why
    Seal {
        /// Why, for the audit log
        #[arg(long)]
        reason: Reason,
    },
    /// Report what is unusual: guessing, replays, two-factor resets, exports, commands at the shell
    Report {
        /// Since this time, like 2026-11-24T14:30:00Z [default: the last 7 days]
        #[arg(long, value_name = "RFC3339", value_parser = time)]
        since: Option<OffsetDateTime>,
    },
}

impl AuditCommand {
    /// It changes nothing.
    pub fn looks(&self) -> bool {
        matches!(self, Self::Verify { .. } | Self::Head | Self::Report { .. })
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ExportFormat {
    /// A JSON object per line
    Jsonl,
    /// For spreadsheets; no cell is a formula
    Csv,
}

fn head(text: &str) -> Result<KnownHead, String> {
    KnownHead::parse(text).ok_or_else(|| "write it like 4812:9f86d081884c7d65".to_owned())
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read the configuration as `serve` would; print every value and its source, and one line per mistake
    Check,
}

#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
}
