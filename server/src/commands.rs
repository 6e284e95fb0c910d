//! What the commands other than `serve` do.

use std::sync::Arc;

use anyhow::Context as _;
use auth::{Auth, account::CreateUserError, clock::SystemClock, email_address::EmailAddress, invite::CreateInviteError};
use serde_json::json;
use sqlx::PgPool;

use crate::{
    assemble,
    cli::{Output, User},
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

pub async fn user(config: &Config, pool: PgPool, command: User) -> anyhow::Result<()> {
    let clock = Arc::new(SystemClock::new());
    clock.sync(&pool).await.context("the database does not answer, or `latchkey migrate` has not run")?;
    let auth = Auth::new(pool, clock, assemble::keys(config)?, assemble::policy(config));
    match command {
        User::Create { email, admin, output } => {
            let email = parse(&email)?;
            let user = auth.create_user(&email, admin).await.map_err(|error| match error {
                CreateUserError::Exists => anyhow::anyhow!("There is already an account with this address."),
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
    }
    Ok(())
}

fn parse(email: &str) -> anyhow::Result<EmailAddress> {
    EmailAddress::parse(email).map_err(|_| anyhow::anyhow!("That is not an email address. Write it like name@example.org."))
}
