//! `latchkey user` and `latchkey session`.

use std::fmt::Write as _;

use auth::{
    Auth,
    administration::{InviteError, UserFilter, UserRow},
    identity::{ActionError, Actor},
    one_time::revert_link::EMAIL_CHANGE_UNDO,
    policy::SignUp,
    primitives::email_address::{EmailAddress, EmailAddressError},
    sessions::SessionView,
    users::account::CreateUserError,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    OfAccount, SessionCommand, User, Why,
    answer::{Answer, lines, refusal, refused, rfc3339},
};

const EXISTS: &str = "There is already an account with this address.";

pub async fn user(auth: &Auth, command: User) -> anyhow::Result<Answer> {
    let administration = auth.administration();
    let (id, email, text) = match command {
        User::Create { email, admin, reason } => {
            let id = auth.users().create(&email, admin, reason.as_ref()).await.map_err(|error| match error {
                CreateUserError::Exists if admin => {
                    anyhow::anyhow!("{EXISTS} To make it an administrator's: latchkey user promote {}", email.as_str())
                }
                CreateUserError::Exists => anyhow::anyhow!(EXISTS),
                CreateUserError::HeldBack => held_back(),
                CreateUserError::NotAdmitted => not_admitted(),
                CreateUserError::Route => EmailAddressError::Route.into(),
                other @ CreateUserError::Unavailable(_) => other.into(),
            })?;
            let role = if admin { "administrator" } else { "user" };
            let text = format!("Made the account of {} ({role}).", email.as_str());
            return Ok(Answer::new(text, json!({ "id": id, "email": email.as_str(), "admin": admin })));
        }
        User::List { search } => return list(auth, search).await,
        User::Invite { email, reason } => {
            let id = administration.invite(Actor::Operator, &email, reason.as_ref()).await.map_err(|error| match error {
                InviteError::AccountExists => anyhow::anyhow!(EXISTS),
                InviteError::HeldBack => held_back(),
                InviteError::Closed => anyhow::anyhow!(
                    "SIGNUP is closed: an invitation would let nobody in. To let an account move to this address, say why (--reason)."
                ),
                InviteError::NotAdmitted => not_admitted(),
                InviteError::Route => EmailAddressError::Route.into(),
                InviteError::Act(error) => refusal(error),
                InviteError::Unavailable(error) => error.into(),
            })?;
            if auth.policy().sign_up == SignUp::Closed {
                (
                    id,
                    email,
                    "An account can move to {} within 7 days. Nobody is mailed, and nobody signs up with it: SIGNUP is closed.",
                )
            } else {
                (id, email, "Invited {}. The mail goes out as soon as a server runs; the invitation works for 7 days.")
            }
        }
        User::Disable(OfAccount { email, why }) => {
            let id = account(auth, &email).await?;
            let done = administration.disable_user(Actor::Operator, id, &why.reason).await;
            done.map_err(refused("This account is off already."))?;
            (id, email, "The account of {} is off. Its sessions are over, and its owner is told by mail.")
        }
        User::Enable(OfAccount { email, why }) => {
            let id = account(auth, &email).await?;
            let done = administration.enable_user(Actor::Operator, id, &why.reason).await;
            done.map_err(refused("This account is on already."))?;
            (id, email, "The account of {} is on again.")
        }
        User::Promote(OfAccount { email, why }) => {
            let id = account(auth, &email).await?;
            let done = administration.set_admin(Actor::Operator, id, true, &why.reason).await;
            done.map_err(refused("This account is an administrator's already."))?;
            (id, email, "{} is an administrator from the next request on, and is told by mail.")
        }
        User::Demote(OfAccount { email, why }) => {
            let id = account(auth, &email).await?;
            let done = administration.set_admin(Actor::Operator, id, false, &why.reason).await;
            done.map_err(refused("This account is no administrator's."))?;
            (id, email, "{} is no administrator from the next request on, and is told by mail.")
        }
        User::ResetTwoFactor { email, reason } => {
            let id = account(auth, &email).await?;
            let done = administration.reset_user_two_factor(Actor::Operator, id, &reason).await;
            done.map_err(refused("This account has no two-factor."))?;
            (id, email, "Two-factor of {} is off. Its sessions are over, and its owner is told by mail.")
        }
    };
    Ok(Answer::new(text.replace("{}", email.as_str()), json!({ "id": id, "email": email.as_str() })))
}

/// The account with this address.
async fn account(auth: &Auth, email: &EmailAddress) -> anyhow::Result<Uuid> {
    auth.administration().user_id(email).await?.ok_or_else(|| refusal(ActionError::NoSuchUser))
}

fn not_admitted() -> anyhow::Error {
    anyhow::anyhow!("SIGNUP does not take this address. Where it should be allowed all the same, say why (--reason).")
}

fn held_back() -> anyhow::Error {
    let hours = EMAIL_CHANGE_UNDO.as_secs() / 3_600;
    anyhow::anyhow!("An account moved away from this address less than {hours} hours ago, and may have it back. Try again later.")
}

/// More than anybody reads: a longer list is searched, or asked for by the API.
const LISTED: usize = 1_000;

async fn list(auth: &Auth, search: Option<String>) -> anyhow::Result<Answer> {
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
    let mut text = lines(&rows, line, "");
    let rest = matching - i64::try_from(rows.len())?;
    if rest > 0 {
        let least = if more { "at least " } else { "" };
        write!(text, "\n… and {least}{rest} more: narrow it with --search").expect("a string takes all");
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
    Ok(Answer::new(text, json!({ "matching": matching, "more": more, "users": users })))
}

pub async fn session(auth: &Auth, command: SessionCommand) -> anyhow::Result<Answer> {
    match command {
        SessionCommand::List { email } => {
            let id = account(auth, &email).await?;
            let sessions = auth.administration().user(Actor::Operator, id).await?.map(|user| user.sessions).unwrap_or_default();
            let ip = |session: &SessionView| session.ip.map(|ip| ip.to_string()).unwrap_or_default();
            let line = |session: &SessionView| {
                let (signed_in, seen) = (rfc3339(session.signed_in_at), rfc3339(session.last_seen_at));
                format!("{}  signed in {signed_in}  last active {seen}  {}  {}", session.id, ip(session), session.device)
            };
            let text = lines(&sessions, line, "No sessions.");
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
            Ok(Answer::new(text, json!({ "sessions": sessions })))
        }
        SessionCommand::Revoke { whose, why: Why { reason } } => {
            let mut ended = 0;
            if whose.user.is_empty() {
                ended = auth.administration().end_everybodys_sessions(whose.since, &reason).await?;
            }
            // All of them, before anything ends: a mistyped address would leave the operator with half of the work done.
            let mut users = Vec::new();
            for email in &whose.user {
                users.push(account(auth, email).await?);
            }
            for id in users {
                ended += match auth.administration().end_user_sessions(Actor::Operator, id, &reason).await {
                    Err(ActionError::Nothing) => 0,
                    other => other.map_err(refusal)?,
                };
            }
            Ok(Answer::new(format!("Ended {ended} sessions."), json!({ "ended": ended })))
        }
    }
}
