//! The commands: what can be typed, what each does, and what it prints.
//!
//! Not here: what a command changes (`auth` decides and writes), and `serve` and `smoke`, which have places of their own.
//! To add one: a variant in [`args`], what it does in its subject's file, its line in [`run`]; each has `--json`.

mod answer;
mod args;
mod audit;
mod doctor;
mod healthcheck;
mod key;
mod reconcile;
mod rollout;
mod user;

use std::sync::Arc;

use anyhow::Context as _;
use auth::{Auth, operations::diagnostics, primitives::clock::SystemClock};
use serde_json::json;
use sqlx::PgPool;

use self::answer::Answer;
pub use self::{answer::say, args::*, doctor::doctor, healthcheck::healthcheck, key::missing_keys};
use crate::{
    config::{self, Config, Environment},
    database::{Database, READ_ONLY, pooler},
};

/// A command that needs a database.
pub async fn run(config: &Config, database: &Database, command: Command) -> anyhow::Result<()> {
    let pool = database.pool();
    // A database that doesn't answer is the command's to report.
    pooler::refuse(&pool).await?;
    if let Command::Migrate { status, output } = command {
        return migrate(database, status).await?.print(output);
    }
    let auth = auth(config, pool).await?;
    // What is looked at stays as it is: it may be evidence.
    let looks = matches!(&command, Command::Audit(Group { command, .. }) if command.looks());
    let answered = Box::pin(answer(&auth, command)).await;
    // What a command records is sealed late where the next server starts later.
    if !looks && let Err(error) = auth.audit().seal_at_end().await {
        tracing::warn!(%error, "audit.seal_failed");
    }
    match answered? {
        Some((answer, output)) => answer.print(output),
        None => Ok(()),
    }
}

/// `None`: the answer is printed already.
async fn answer(auth: &Auth, command: Command) -> anyhow::Result<Option<(Answer, Output)>> {
    Ok(Some(match command {
        Command::User(Group { command, output }) => (user::user(auth, command).await?, output),
        Command::Session(Group { command, output }) => (user::session(auth, command).await?, output),
        Command::Flag(Group { command, output }) => (rollout::flag(auth, command).await?, output),
        Command::Rollout(Group { command, output }) => (rollout::rollout(auth, command).await?, output),
        Command::Key(Group { command, output }) => (key::key(auth, command).await?, output),
        Command::ApiKey(Group { command, output }) => (key::api_key(auth, command).await?, output),
        Command::Reconcile { since, output } => (reconcile::reconcile(auth, since).await?, output),
        Command::Audit(Group { command, output }) => match audit::audit(auth, command).await? {
            Some(answer) => (answer, output),
            None => return Ok(None),
        },
        Command::Serve
        | Command::Migrate { .. }
        | Command::Config(_)
        | Command::Doctor { .. }
        | Command::Healthcheck { .. }
        | Command::Smoke(_) => {
            unreachable!("not a command on the data")
        }
    }))
}

/// On the heap: each command's future would hold it several times over.
async fn auth(config: &Config, pool: PgPool) -> anyhow::Result<Box<Auth>> {
    let clock = Arc::new(SystemClock::new());
    if let Err(error) = clock.sync(&pool).await {
        // A pool says only that it waited in vain.
        anyhow::ensure!(!diagnostics::refuses_writes(&pool).await.unwrap_or(false), READ_ONLY);
        return Err(error).context("the database does not answer, or `latchkey migrate` has not run");
    }
    let auth = Box::new(Auth::new(pool, clock, config.keys()?, config.policy.clone()));
    auth.flag().read().await?;
    Ok(auth)
}

async fn migrate(database: &Database, status: bool) -> anyhow::Result<Answer> {
    if !status {
        database.migrate().await?;
    }
    let owner = database.migrator().await?;
    let migrations = auth::operations::migrate::status(&owner).await.context("the migrations can't be listed")?;
    let line = |migration: &auth::operations::migrate::Migration| {
        format!("{:03} {}: {}", migration.version, migration.description, if migration.applied { "applied" } else { "pending" })
    };
    Ok(Answer::new(answer::lines(&migrations, line, ""), json!({ "migrations": migrations })))
}

/// Prints the configuration, and mistakes and warnings where `serve` would print them. Returns whether `serve` would start.
pub fn config_check(environment: &Environment, output: Output) -> bool {
    let examined = config::examine(environment);
    if output.json {
        say(examined.json());
    } else {
        say(examined.table().trim_end());
        eprint!("{}", examined.complaints());
    }
    examined.config.is_ok()
}
