//! `latchkey key` and `latchkey apikey`.

use std::fmt::Write as _;

use auth::{
    Auth,
    api_keys::{ApiKeyRow, CreateKeyError, MAX_NAME, MOST_SHOWN, Maker},
    factors::key_use::KeyUse,
    identity::Actor,
    operations::key_rotation::Rotated,
};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    ApiKeyCommand, KeyCommand,
    answer::{Answer, lines, refusal, refused, rfc3339},
};

/// Which keys an operator has to put back: secrets lie under them.
pub fn missing_keys(keys: &[KeyUse]) -> Option<String> {
    let missing: Vec<&str> = keys.iter().filter(|key| !key.known).map(|key| key.id.as_str()).collect();
    (!missing.is_empty()).then(|| {
        let ids = missing.join(", ");
        format!("Secrets lie under a key that is not configured ({ids}). Put it into WALLET_ENCRYPTION_KEY_PREVIOUS.")
    })
}

pub async fn key(auth: &Auth, command: KeyCommand) -> anyhow::Result<Answer> {
    match command {
        KeyCommand::Status => {
            let keys = auth.factors().key_status().await?;
            let line = |key: &KeyUse| {
                let is = match (key.current, key.known) {
                    (true, _) => "current",
                    (false, true) => "previous",
                    (false, false) => "missing",
                };
                format!("{}  {is:<8}  two-factor secrets: {}", key.id, key.totp_secrets)
            };
            Ok(Answer::new(lines(&keys, line, ""), json!({ "keys": keys })).or_fail(missing_keys(&keys)))
        }
        KeyCommand::Rotate => {
            let Rotated { resealed, unreadable } = auth.operations().rotate_keys().await?;
            let text = format!("Encrypted {resealed} secrets anew under the current key.");
            let failed = format!("{unreadable} secrets can't be read; `latchkey key status` names the keys they need.");
            let answer = Answer::new(text, json!({ "resealed": resealed, "unreadable": unreadable }));
            Ok(answer.or_fail((unreadable > 0).then_some(failed)))
        }
    }
}

pub async fn api_key(auth: &Auth, command: ApiKeyCommand) -> anyhow::Result<Answer> {
    match command {
        ApiKeyCommand::Create { name, scopes, expires } => {
            let new = auth.api_keys().create(Actor::Operator, &name, &scopes, expires).await.map_err(|error| match error {
                CreateKeyError::Name => anyhow::anyhow!("A key needs a name: one line of at most {MAX_NAME} characters."),
                CreateKeyError::Act(error) => refusal(error),
                other => other.into(),
            })?;
            let expires_at = new.expires_at.map(rfc3339);
            let ends = expires_at.as_ref().map(|at| format!(" It stops working at {at}.")).unwrap_or_default();
            let text = format!("{}\n\nThis is the only time it is shown.{ends}", new.key);
            Ok(Answer::new(text, json!({ "id": new.id, "prefix": new.prefix, "key": new.key, "expires_at": expires_at })))
        }
        ApiKeyCommand::List => {
            let keys = auth.api_keys().list().await?;
            let text = listed(lines(&keys, line, "No API keys."), keys.len());
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
            Ok(Answer::new(text, json!({ "keys": keys })))
        }
        ApiKeyCommand::Revoke { prefix, why } => {
            let nothing = format!("No key that works begins with {prefix}.");
            auth.api_keys().revoke(Actor::Operator, prefix, &why.reason).await.map_err(refused(nothing))?;
            Ok(Answer::new(format!("Revoked {prefix}. It stopped working at once."), json!({ "prefix": prefix })))
        }
    }
}

/// Says of a list of keys that it may not be whole.
fn listed(mut text: String, keys: usize) -> String {
    if keys == usize::from(MOST_SHOWN) {
        write!(text, "\n{MOST_SHOWN} are shown: those that work first, then the newest.").expect("a string takes all");
    }
    text
}

fn line(key: &ApiKeyRow) -> String {
    let time = |at: Option<OffsetDateTime>| at.map_or_else(|| "never".to_owned(), rfc3339);
    let scopes = key.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(",");
    let curbed = if key.curbed { "  (its maker is no administrator any more)" } else { "" };
    let (state, expires, used, by) = (key.state.as_str(), time(key.expires_at), time(key.last_used_at), maker(&key.maker));
    format!("{}  {state:<7}  expires {expires:<20}  last used {used:<20}  by {by}  {scopes}  {}{curbed}", key.prefix, key.name)
}

fn maker(maker: &Maker) -> &str {
    match maker {
        Maker::Operator => "operator",
        Maker::Admin { email, .. } => email,
        Maker::Gone => "a deleted account",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_keys_that_may_not_be_whole_says_so() {
        let most = |keys: u16| listed("a key".to_owned(), keys.into());
        assert!(most(MOST_SHOWN).ends_with("\n500 are shown: those that work first, then the newest."));
        assert_eq!(most(MOST_SHOWN - 1), "a key");
        assert_eq!(lines(&[], line, "No API keys."), "No API keys.");
    }
}
