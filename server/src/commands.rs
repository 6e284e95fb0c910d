//! What the commands other than `serve` do.

use std::sync::Arc;

use anyhow::Context as _;
use auth::{
    Auth,
    administration::{InviteError, UserFilter, UserRow},
    api_keys::{ApiKeyRow, CreateKeyError, MAX_NAME, MOST_SHOWN, Maker},
    factors::key_use::KeyUse,
    identity::{ActionError, Actor},
    one_time::revert_link::EMAIL_CHANGE_UNDO,
    operations::key_rotation::Rotated,
    primitives::{clock::SystemClock, email_address::EmailAddress},
    sessions::SessionView,
    users::account::CreateUserError,
};
use serde_json::{Value, json};
use sqlx::PgPool;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use crate::{
    cli::{ApiKeyCommand, KeyCommand, Output, SessionCommand, User, say},
    config::{self, Config, Environment},
    database::Database,
};

/// Prints a result, as text or as JSON.
pub(crate) fn print(output: Output, text: &str, json: &Value) {
    if output.json {
        say(json);
    } else {
        say(text);
    }
}

pub async fn migrate(database: &Database, status: bool, output: Output) -> anyhow::Result<()> {
    if !status {
        database.migrate().await?;
    }
    let owner = database.migrator().await?;
    let migrations = auth::operations::migrate::status(&owner).await.context("the migrations can't be listed")?;
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

/// Prints what `serve` would see, mistakes and warnings where it would print them. Whether it would start.
pub fn check_configuration(environment: &Environment, output: Output) -> bool {
    let examined = config::examine(environment);
    print(output, examined.table().trim_end(), &examined.json());
    if !output.json {
        eprint!("{}", examined.complaints());
    }
    examined.config.is_ok()
}

/// On the heap: each command's future would hold it several times over.
pub(crate) async fn auth(config: &Config, pool: PgPool) -> anyhow::Result<Box<Auth>> {
    let clock = Arc::new(SystemClock::new());
    clock.sync(&pool).await.context("the database does not answer, or `latchkey migrate` has not run")?;
    let auth = Box::new(Auth::new(pool, clock, config.keys()?, config.policy.clone()));
    auth.flag().read().await?;
    Ok(auth)
}

pub async fn user(config: &Config, pool: PgPool, command: User) -> anyhow::Result<()> {
    let auth = auth(config, pool).await?;
    match command {
        User::Create { email, admin, output } => {
            let email = parse(&email)?;
            let user = auth.users().create(&email, admin).await.map_err(|error| match error {
                CreateUserError::Exists => anyhow::anyhow!("There is already an account with this address."),
                CreateUserError::HeldBack => held_back(),
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
            let invite = auth.administration().invite(Actor::Operator, &email).await.map_err(|error| match error {
                InviteError::AccountExists => anyhow::anyhow!("There is already an account with this address."),
                InviteError::HeldBack => held_back(),
                InviteError::Closed => anyhow::anyhow!("SIGNUP is closed: an invitation would let nobody in."),
                InviteError::Act(error) => refusal(error),
                InviteError::Unavailable(error) => error.into(),
            })?;
            let text =
                format!("Invited {}. The mail goes out as soon as a server runs; the invitation works for 7 days.", email.as_str());
            print(output, &text, &json!({ "id": invite, "email": email.as_str() }));
        }
        User::List { search, output } => list_users(&auth, search, output).await?,
        User::Disable { email, reason, output } => {
            let (id, email) = account(&auth, &email).await?;
            auth.administration().disable_user(Actor::Operator, id, &reason).await.map_err(|error| match error {
                ActionError::Nothing => anyhow::anyhow!("This account is off already."),
                other => refusal(other),
            })?;
            let text = format!("The account of {} is off. Its sessions are over, and its owner is told by mail.", email.as_str());
            print(output, &text, &json!({ "id": id, "email": email.as_str() }));
        }
        User::Enable { email, reason, output } => {
            let (id, email) = account(&auth, &email).await?;
            auth.administration().enable_user(Actor::Operator, id, &reason).await.map_err(|error| match error {
                ActionError::Nothing => anyhow::anyhow!("This account is on already."),
                other => refusal(other),
            })?;
            print(
                output,
                &format!("The account of {} is on again.", email.as_str()),
                &json!({ "id": id, "email": email.as_str() }),
            );
        }
        User::ResetTwoFactor { email, reason, output } => {
            let (id, email) = account(&auth, &email).await?;
            auth.administration().reset_user_two_factor(Actor::Operator, id, &reason).await.map_err(|error| match error {
                ActionError::Nothing => anyhow::anyhow!("This account has no two-factor."),
                other => refusal(other),
            })?;
            print(
                output,
                &format!("Two-factor of {} is off. Its sessions are over, and its owner is told by mail.", email.as_str()),
                &json!({ "id": id, "email": email.as_str() }),
            );
        }
    }
    Ok(())
}

/// The account with this address.
async fn account(auth: &Auth, email: &str) -> anyhow::Result<(Uuid, EmailAddress)> {
    let email = parse(email)?;
    let id = auth.administration().user_id(&email).await?.ok_or_else(|| refusal(ActionError::NoSuchUser))?;
    Ok((id, email))
}

fn held_back() -> anyhow::Error {
    let hours = EMAIL_CHANGE_UNDO.as_secs() / 3_600;
    anyhow::anyhow!("An account moved away from this address less than {hours} hours ago, and may have it back. Try again later.")
}

pub fn refusal(error: ActionError) -> anyhow::Error {
    match error {
        ActionError::NoSuchUser => anyhow::anyhow!("There is no account with this address."),
        ActionError::LastAdmin => anyhow::anyhow!("This is the last administrator. Make somebody else one first."),
        other => other.into(),
    }
}

/// More than anybody reads: a longer list is searched, or asked for by the API.
const LISTED: usize = 1_000;

pub(crate) fn rfc3339(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}

async fn list_users(auth: &Auth, search: Option<String>, output: Output) -> anyhow::Result<()> {
    let filter = UserFilter { search, ..UserFilter::default() };
    let mut page = auth.administration().users(&filter, None).await?;
    let (matching, more) = (page.matching, page.more);
    let mut rows = std::mem::take(&mut page.rows);
    while let Some(next) = page.next.take()
        && rows.len() < LISTED
    {
        page = auth.administration().users(&filter, Some(&next)).await?;
        rows.append(&mut page.rows);
    }
    let line = |row: &UserRow| {
        let last = row.last_sign_in_at.map_or_else(|| "never".to_owned(), rfc3339);
        let role = if row.admin { "admin" } else { "user" };
        let two_factor = if row.two_factor { "two-factor" } else { "email" };
        format!("{}  {:<8}  {role:<5}  {two_factor:<10}  last sign-in {last:<20}  {}", row.id, row.status.as_str(), row.email)
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    if i64::try_from(rows.len()).is_ok_and(|shown| shown < matching) {
        let rest = matching - i64::try_from(rows.len())?;
        let least = if more { "at least " } else { "" };
        lines.push(format!("… and {least}{rest} more: narrow it with --search"));
    }
    let users: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "id": row.id, "email": row.email, "status": row.status.as_str(), "admin": row.admin, "two_factor": row.two_factor,
                "backup_codes_left": row.codes_left, "last_sign_in_at": row.last_sign_in_at.map(rfc3339), "sessions": row.sessions,
            })
        })
        .collect();
    print(output, &lines.join("\n"), &json!({ "matching": matching, "more": more, "users": users }));
    Ok(())
}

pub async fn session(config: &Config, pool: PgPool, command: SessionCommand) -> anyhow::Result<()> {
    let auth = auth(config, pool).await?;
    match command {
        SessionCommand::List { email, output } => {
            let (id, _) = account(&auth, &email).await?;
            let sessions = auth.administration().user(Actor::Operator, id).await?.map(|user| user.sessions).unwrap_or_default();
            let ip = |session: &SessionView| session.ip.map(|ip| ip.to_string()).unwrap_or_default();
            let lines: Vec<String> = sessions
                .iter()
                .map(|session| {
                    let (signed_in, seen) = (rfc3339(session.signed_in_at), rfc3339(session.last_seen_at));
                    format!("{}  signed in {signed_in}  last active {seen}  {}  {}", session.id, ip(session), session.device)
                })
                .collect();
            let text = if lines.is_empty() { "No sessions.".to_owned() } else { lines.join("\n") };
            let sessions: Vec<Value> = sessions
                .iter()
                .map(|session| {
                    json!({
                        "id": session.id, "device": session.device, "ip": ip(session), "method": session.method,
                        "second_method": session.second, "new_device": session.new_device,
                        "signed_in_at": rfc3339(session.signed_in_at), "last_seen_at": rfc3339(session.last_seen_at),
                    })
                })
                .collect();
            print(output, &text, &json!({ "sessions": sessions }));
        }
        SessionCommand::Revoke { whose, reason, output } => {
            let mut ended = 0;
            if whose.user.is_empty() {
                ended = auth.administration().end_everybodys_sessions(whose.since, &reason).await?;
            }
            // All of them, before anything ends: a mistyped address would leave whoever typed it with half of the work done.
            let mut users = Vec::new();
            for email in &whose.user {
                users.push(account(&auth, email).await?.0);
            }
            for id in users {
                ended += match auth.administration().end_user_sessions(Actor::Operator, id, &reason).await {
                    Err(ActionError::Nothing) => 0,
                    other => other.map_err(refusal)?,
                };
            }
            print(output, &format!("Ended {ended} sessions."), &json!({ "ended": ended }));
        }
    }
    Ok(())
}

pub async fn key(config: &Config, pool: PgPool, command: KeyCommand) -> anyhow::Result<()> {
    let auth = auth(config, pool).await?;
    match command {
        KeyCommand::Status { output } => {
            let keys = auth.factors().key_status().await?;
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
            let Rotated { resealed, unreadable } = auth.operations().rotate_keys().await?;
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

pub async fn api_key(config: &Config, pool: PgPool, command: ApiKeyCommand) -> anyhow::Result<()> {
    let auth = auth(config, pool).await?;
    match command {
        ApiKeyCommand::Create { name, scopes, expires, output } => {
            let new = auth.api_keys().create(Actor::Operator, &name, &scopes, expires).await.map_err(|error| match error {
                CreateKeyError::Name => anyhow::anyhow!("A key needs a name: one line of at most {MAX_NAME} characters."),
                CreateKeyError::Act(error) => refusal(error),
                other => other.into(),
            })?;
            let expires_at = new.expires_at.map(rfc3339);
            let ends = expires_at.as_ref().map(|at| format!(" It stops working at {at}.")).unwrap_or_default();
            print(
                output,
                &format!("{}\n\nThis is the only time it is shown.{ends}", new.key),
                &json!({ "id": new.id, "prefix": new.prefix, "key": new.key, "expires_at": expires_at }),
            );
        }
        ApiKeyCommand::List { output } => {
            let keys = auth.api_keys().list().await?;
            let text = listed(keys.iter().map(api_key_line).collect());
            let keys: Vec<Value> = keys
                .iter()
                .map(|key| {
                    json!({
                        "id": key.id, "prefix": key.prefix, "name": key.name, "state": key.state.as_str(),
                        "scopes": key.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
                        "made_by": maker(&key.maker), "without_admin_scopes": key.curbed, "created_at": rfc3339(key.created_at),
                        "expires_at": key.expires_at.map(rfc3339), "last_used_at": key.last_used_at.map(rfc3339),
                    })
                })
                .collect();
            print(output, &text, &json!({ "keys": keys }));
        }
        ApiKeyCommand::Revoke { prefix, reason, output } => {
            auth.api_keys().revoke(Actor::Operator, prefix, &reason).await.map_err(|error| match error {
                ActionError::Nothing => anyhow::anyhow!("No key that works begins with {prefix}."),
                other => refusal(other),
            })?;
            print(output, &format!("Revoked {prefix}. It stopped working at once."), &json!({ "prefix": prefix }));
        }
    }
    Ok(())
}

fn listed(mut lines: Vec<String>) -> String {
    match lines.len() {
        0 => lines.push("No API keys.".to_owned()),
        n if n == usize::from(MOST_SHOWN) => {
            lines.push(format!("{MOST_SHOWN} are shown: those that work first, then the newest."));
        }
        _ => {}
    }
    lines.join("\n")
}

fn api_key_line(key: &ApiKeyRow) -> String {
    let time = |at: Option<OffsetDateTime>| at.map_or_else(|| "never".to_owned(), rfc3339);
    let scopes = key.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(",");
    let curbed = if key.curbed { "  (its maker is no administrator any more)" } else { "" };
    let (state, expires, used) = (key.state.as_str(), time(key.expires_at), time(key.last_used_at));
    format!(
        "{}  {state:<7}  expires {expires:<20}  last used {used:<20}  by {}  {scopes}  {}{curbed}",
        key.prefix,
        maker(&key.maker),
        key.name
    )
}

fn maker(maker: &Maker) -> &str {
    match maker {
        Maker::Operator => "operator",
        Maker::Admin { email, .. } => email,
        Maker::Gone => "a deleted account",
    }
}

/// What an operator is told whose configuration lacks keys that secrets lie under.
pub fn missing_keys(ids: &[&str]) -> String {
    format!("Secrets lie under a key that is not configured ({}). Put it into WALLET_ENCRYPTION_KEY_PREVIOUS.", ids.join(", "))
}

pub fn parse(email: &str) -> anyhow::Result<EmailAddress> {
    EmailAddress::parse(email).map_err(|_| anyhow::anyhow!("That is not an email address. Write it like name@example.org."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_keys_that_may_not_be_whole_says_so() {
        let most = |n: u16| listed((0..n).map(|n| n.to_string()).collect());
        assert!(most(MOST_SHOWN).ends_with("\n500 are shown: those that work first, then the newest."));
        assert!(!most(MOST_SHOWN - 1).contains("shown") && most(0) == "No API keys.");
    }
}
