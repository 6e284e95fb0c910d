//! What the commands other than `serve` do.

use std::sync::Arc;

use anyhow::Context as _;
use auth::{
    Auth,
    account::CreateUserError,
    clock::SystemClock,
    email_address::EmailAddress,
    invite::CreateInviteError,
    key::{KeyUse, Rotated},
    two_factor::ResetError,
    undo::EMAIL_CHANGE_UNDO,
};
use serde_json::json;
use sqlx::PgPool;

use crate::{
    assemble,
    cli::{KeyCommand, Output, User},
    config::Config,
    database::Database,
};

/// Prints a result, as text or as JSON.
fn print(output: Output, text: &str, json: &serde_json::Value) {
    if output.json {
        println!("{json}");
    } else {
        println!("{text}");
    }
}

pub async fn migrate(database: &Database, status: bool, output: Output) -> anyhow::Result<()> {
    if !status {
        database.migrate().await?;
    }
    let owner = database.migrator().await?;
    let migrations = auth::migrate::status(&owner).await.context("the migrations can't be listed")?;
    let text = migrations
        .iter()
        .map(|migration| {
            format!("{:03} {}: {}", migration.version, migration.description, if migration.applied { "applied" } else { "pending" })
        })
        .collect::<Vec<_>>()
        .join("\n");
    print(output, &text, &json!({ "migrations": migrations }));
    Ok(())
}

async fn auth(config: &Config, pool: PgPool) -> anyhow::Result<Auth> {
    let clock = Arc::new(SystemClock::new());
    clock.sync(&pool).await.context("the database does not answer, or `latchkey migrate` has not run")?;
    Ok(Auth::new(pool, clock, assemble::keys(config)?, assemble::policy(config)))
}

pub async fn user(config: &Config, pool: PgPool, command: User) -> anyhow::Result<()> {
    let auth = auth(config, pool).await?;
    match command {
        User::Create { email, admin, output } => {
            let email = parse(&email)?;
            let user = auth.create_user(&email, admin).await.map_err(|error| match error {
                CreateUserError::Exists => anyhow::anyhow!("There is already an account with this address."),
                CreateUserError::HeldBack => anyhow::anyhow!(
                    "An account moved away from this address less than {} hours ago, and may have it back. Try again later.",
                    EMAIL_CHANGE_UNDO.as_secs() / 3_600
                ),
                other @ CreateUserError::Unavailable(_) => other.into(),
            })?;
            let role = if admin { "administrator" } else { "user" };
            print(
                output,
                &format!("Made the account of {} ({role}).", email.as_str()),
                &json!({ "id": user, "email": email.as_str(), "admin": admin }),
            );
        }
        User::Invite { email, output } => {
            let email = parse(&email)?;
            let invite = auth.invite(&email).await.map_err(|error| match error {
                CreateInviteError::AccountExists => anyhow::anyhow!("There is already an account with this address."),
                other @ CreateInviteError::Unavailable(_) => other.into(),
            })?;
            let text =
                format!("Invited {}. The mail goes out as soon as a server runs; the invitation works for 7 days.", email.as_str());
            print(output, &text, &json!({ "id": invite, "email": email.as_str() }));
        }
        User::ResetTwoFactor { email, reason, output } => {
            let email = parse(&email)?;
            let user = auth.reset_two_factor(&email, &reason).await.map_err(|error| match error {
                ResetError::NoAccount => anyhow::anyhow!("There is no account with this address."),
                ResetError::NotOn => anyhow::anyhow!("This account has no two-factor."),
                other @ ResetError::Unavailable(_) => other.into(),
            })?;
            print(
                output,
                &format!("Two-factor of {} is off. Its sessions are over, and its owner is told by mail.", email.as_str()),
                &json!({ "id": user, "email": email.as_str() }),
            );
        }
    }
    Ok(())
}

pub async fn key(config: &Config, pool: PgPool, command: KeyCommand) -> anyhow::Result<()> {
    let auth = auth(config, pool).await?;
    match command {
        KeyCommand::Status { output } => {
            let keys = auth.key_status().await?;
            let line = |key: &KeyUse| {
                let is = match (key.current, key.known) {
                    (true, _) => "current",
                    (false, true) => "previous",
                    (false, false) => "missing",
                };
                format!("{}  {is:<8}  two-factor secrets: {}", key.id, key.totp_secrets)
            };
            print(output, &keys.iter().map(line).collect::<Vec<_>>().join("\n"), &json!({ "keys": keys }));
            let needed: Vec<&str> = keys.iter().filter(|key| !key.known).map(|key| key.id.as_str()).collect();
            anyhow::ensure!(needed.is_empty(), "{}", missing_keys(&needed));
        }
        KeyCommand::Rotate { output } => {
            let Rotated { resealed, unreadable } = auth.rotate_keys().await?;
            print(
                output,
                &format!("Encrypted {resealed} secrets anew under the current key."),
                &json!({ "resealed": resealed, "unreadable": unreadable }),
            );
            anyhow::ensure!(unreadable == 0, "{unreadable} secrets can't be read; `latchkey key status` names the keys they need.");
        }
    }
    Ok(())
}

/// What an operator is told whose configuration lacks keys that secrets lie under.
pub fn missing_keys(ids: &[&str]) -> String {
    format!("Secrets lie under a key that is not configured ({}). Put it into WALLET_ENCRYPTION_KEY_PREVIOUS.", ids.join(", "))
}

fn parse(email: &str) -> anyhow::Result<EmailAddress> {
    EmailAddress::parse(email).map_err(|_| anyhow::anyhow!("That is not an email address. Write it like name@example.org."))
}
