//! API keys: made, listed, ended, and found by what a program presents.
//!
//! Not here: who a program is to the domain (`identity`), and what its requests do (`sign_in`, `administration`).
//! To add one: a scope is a variant of `Scope` in `identity/api_key.rs`; the route that asks for it lies in `server/src/api`.
//!
//! A key is `lk_`, eight characters that name it, `_`, and 256 secret bits. Only a hash of the secret is kept, so a key is shown once,
//! when it is made.
//!
//! A key never exceeds its maker's rights: what only administrators may do, it does while its maker is one. That is looked up at every
//! use, in the query that finds the key, so that nothing has to be told to other instances.

pub(crate) mod store;

use std::{fmt, time::Duration};

use strum::{EnumString, IntoStaticStr, VariantArray};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    ApiKeys, Error,
    crypto::{ApiSecret, new_id},
    event::{Event, UnitOfWork},
    identity::{ActionError, Actor, ApiKey, MARK, Prefix, Scope},
    limits::throttle::{Limited, Standing, Subject},
    outbox::{self, Notice},
    policy::limits::Limit,
    primitives::reason::Reason,
};

/// A key as its bearer has it.
pub(crate) struct Presented {
    pub prefix: Prefix,
    pub secret: ApiSecret,
}

impl Presented {
    pub fn parse(text: &str) -> Option<Self> {
        let (prefix, secret) = text.strip_prefix(MARK)?.split_once('_')?;
        Some(Self { prefix: Prefix::parse(prefix)?, secret: ApiSecret::parse(secret)? })
    }

    fn reveal(&self) -> String {
        format!("{}_{}", self.prefix, self.secret.reveal())
    }
}

/// Who made a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Maker {
    /// At the shell.
    Operator,
    Admin {
        id: Uuid,
        email: String,
    },
    /// An administrator whose account was deleted.
    Gone,
}

/// How a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum KeyState {
    Live,
    Expired,
    Revoked,
}

named!(KeyState);

/// A key in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyRow {
    pub id: Uuid,
    pub name: String,
    pub prefix: Prefix,
    pub scopes: Vec<Scope>,
    pub maker: Maker,
    /// Its maker is no administrator any more: what needs one is closed to it.
    pub curbed: bool,
    pub state: KeyState,
    pub created_at: OffsetDateTime,
    pub expires_at: Option<OffsetDateTime>,
    /// To the minute.
    pub last_used_at: Option<OffsetDateTime>,
}

/// A key that was made a moment ago.
pub struct NewApiKey {
    pub id: Uuid,
    pub prefix: Prefix,
    pub expires_at: Option<OffsetDateTime>,
    /// The whole key. It is shown now and never again.
    pub key: String,
}

impl fmt::Debug for NewApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewApiKey").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// A name is at most so many characters long.
pub const MAX_NAME: usize = 80;

/// A list holds at most so many: more keys than anybody looks after by hand.
pub const MOST_SHOWN: u16 = 500;

/// Why no key was made.
#[derive(Debug, thiserror::Error)]
pub enum CreateKeyError {
    #[error("the key needs a name: one line of at most {MAX_NAME} characters")]
    Name,
    #[error("the key may do nothing")]
    NoScope,
    #[error(transparent)]
    Act(ActionError),
    #[error(transparent)]
    Unavailable(#[from] Error),
}

from_sqlx!(CreateKeyError);

/// `last_used_at` moves at most this often: a request must not cost a write.
const TOUCH_EVERY: Duration = Duration::from_mins(1);
/// How long before its end a key's maker is told.
const REMIND_BEFORE: Duration = Duration::from_hours(7 * 24);
/// Keys reminded of in one transaction.
const REMINDED_AT_ONCE: i64 = 20;

impl ApiKeys<'_> {
    /// The key that was presented, if it works: known, not revoked, not expired.
    ///
    /// # Errors
    /// When the database does not answer, as in all of these.
    pub async fn find(self, presented: &str) -> Result<Option<ApiKey>, Error> {
        let Some(Presented { prefix, secret }) = Presented::parse(presented) else { return Ok(None) };
        let now = self.0.now();
        match store::find(&self.0.pool, &secret.hash(), now).await? {
            Some(found) => Ok(self.admit(found, prefix, now).await?),
            None => Ok(None),
        }
    }

    /// A key that works, where it was presented whole.
    pub(crate) async fn admit(self, found: store::Found, prefix: Prefix, now: OffsetDateTime) -> sqlx::Result<Option<ApiKey>> {
        if found.prefix != prefix.bare() {
            return Ok(None);
        }
        if found.last_used_at.is_none_or(|at| at + TOUCH_EVERY <= now) {
            store::touch(&self.0.pool, found.id, now).await?;
        }
        let scopes = scopes(&found.scopes).into_iter().filter(|scope| !found.curbed || !scope.is_admins()).collect();
        Ok(Some(ApiKey { id: found.id, name: found.name, prefix, scopes }))
    }

    /// Counts a request of this key. `Ok(None)` where limits are off.
    ///
    /// # Errors
    /// As above.
    pub async fn count_request(self, key: &ApiKey) -> Result<Result<Option<Standing>, Limited>, Error> {
        let throttle = self.0.limits().throttle();
        let charge = throttle.charge(Limit::ApiKey, Subject::ApiKey(key.id));
        Ok(throttle.take_one(&self.0.pool, &charge, self.0.now()).await?)
    }

    /// The budget of each key. `None` where limits are off.
    #[must_use]
    pub fn rate(self) -> Option<crate::policy::limits::Rate> {
        let limits = &self.0.policy.limits;
        limits.enabled.then(|| limits.rate(Limit::ApiKey))
    }

    /// Those that work first, then the newest first; at most [`MOST_SHOWN`].
    ///
    /// # Errors
    /// As above.
    pub async fn list(self) -> Result<Vec<ApiKeyRow>, Error> {
        Ok(store::list(&self.0.pool, self.0.now()).await?)
    }

    /// Makes a key. What it may do is decided here, once: nothing adds to it later.
    ///
    /// # Errors
    /// [`CreateKeyError`].
    pub async fn create(
        self,
        who: Actor<'_>,
        name: &str,
        scopes: &[Scope],
        lifetime: Option<Duration>,
    ) -> Result<NewApiKey, CreateKeyError> {
        let now = self.0.now();
        who.permit(self.0).map_err(CreateKeyError::Act)?;
        let name = name.trim();
        if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(CreateKeyError::Name);
        }
        let scopes: Vec<Scope> = Scope::ALL.iter().copied().filter(|scope| scopes.contains(scope)).collect();
        if scopes.is_empty() {
            return Err(CreateKeyError::NoScope);
        }
        let presented = Presented { prefix: Prefix::new(), secret: ApiSecret::new() };
        let (id, maker, expires_at) = (new_id(now), who.actor(), lifetime.map(|lifetime| now + lifetime));
        // Whoever made it is whose it is: no second name stands beside it in the audit.
        let mut work = UnitOfWork::begin(&self.0.pool, who.from(), now).await?;
        let new = store::New { id, name, prefix: &presented.prefix.bare(), hash: &presented.secret.hash(), maker, expires_at, now };
        store::insert(work.connection(), &new, &scopes.iter().map(|scope| scope.as_str().to_owned()).collect::<Vec<_>>()).await?;
        work.record(Event::ApiKeyCreated {
            user: maker,
            key: id,
            prefix: presented.prefix,
            name: name.to_owned(),
            scopes: scopes.iter().map(|scope| scope.as_str()).collect(),
            expires_at,
        });
        if let Some(maker) = maker {
            let notice = Notice::ApiKeyCreated { prefix: presented.prefix };
            outbox::store::enqueue_notice(work.connection(), maker, notice, who.from(), now).await?;
        }
        work.commit_and_mail(self.0).await?;
        Ok(NewApiKey { id, prefix: presented.prefix, expires_at, key: presented.reveal() })
    }

    /// Ends a key, at once and on every instance: each asks the database at every request.
    ///
    /// # Errors
    /// [`ActionError`]; [`ActionError::Nothing`] where no key that lives has this prefix.
    pub async fn revoke(self, who: Actor<'_>, prefix: Prefix, reason: &Reason) -> Result<(), ActionError> {
        let now = self.0.now();
        who.permit(self.0)?;
        let mut work = UnitOfWork::begin(&self.0.pool, who.from(), now).await?;
        let revoked = store::revoke(work.connection(), &prefix.bare(), now).await?.ok_or(ActionError::Nothing)?;
        let own = revoked.maker.is_some() && revoked.maker == who.actor();
        work = work.by(who.actor().filter(|_| !own));
        let by = (!own).then(|| who.origin());
        work.record(Event::ApiKeyRevoked { user: revoked.maker, key: revoked.id, prefix, by, reason: reason.clone() });
        if let Some(maker) = revoked.maker {
            let from = who.from().filter(|_| own);
            outbox::store::enqueue_notice(work.connection(), maker, Notice::ApiKeyRevoked { prefix }, from, now).await?;
        }
        Ok(work.commit_and_mail(self.0).await?)
    }

    /// Tells of keys that end within a week, once each: their makers, or all administrators where the maker is none any more.
    pub(crate) async fn remind(self, now: OffsetDateTime) -> sqlx::Result<()> {
        loop {
            let mut work = UnitOfWork::begin(&self.0.pool, None, now).await?;
            let ending =
                store::due_for_reminder(work.connection(), now + REMIND_BEFORE, REMIND_BEFORE, REMINDED_AT_ONCE, now).await?;
            if ending.is_empty() {
                return Ok(());
            }
            for key in ending {
                let Some(prefix) = Prefix::parse(&key.prefix) else { continue };
                let notice = Notice::ApiKeyEnding { prefix, expires_at: key.expires_at };
                for user in store::whom_to_remind(work.connection(), key.maker, now).await? {
                    outbox::store::enqueue_notice(work.connection(), user, notice, None, now).await?;
                }
            }
            work.commit_and_mail(self.0).await?;
        }
    }
}

/// A scope that this version does not know opens nothing.
fn scopes(names: &[String]) -> Vec<Scope> {
    names.iter().filter_map(|name| Scope::parse(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn presented() -> Presented {
        Presented { prefix: Prefix::new(), secret: ApiSecret::new() }
    }

    #[test]
    fn a_key_survives_its_text_and_nothing_else_is_one() {
        let key = presented().reveal();
        assert_eq!(key.len(), 3 + 8 + 1 + 43);
        let parsed = Presented::parse(&key).expect("its own text");
        assert_eq!(parsed.reveal(), key);
        for cut in 0..key.len() {
            assert!(Presented::parse(&key[..cut]).is_none(), "{cut}");
            assert!(Presented::parse(&key[cut + 1..]).is_none(), "{cut}");
        }
        for other in [format!("{key}A"), format!(" {key}"), key.to_uppercase(), format!("lk_{key}"), format!("{key}\n")] {
            assert!(Presented::parse(&other).is_none(), "{other:?}");
        }
    }

    #[test]
    fn a_prefix_is_read_with_its_mark_and_without() {
        let prefix = Prefix::new();
        assert_eq!(Prefix::parse(&prefix.to_string()), Some(prefix));
        assert_eq!(Prefix::parse(&prefix.bare()), Some(prefix));
        for text in ["", "lk_", "lk_abc", "abcdefgl", "ABCDEFGH", "abcdefg1", "lk_lk_ab", "abcdéfg"] {
            assert_eq!(Prefix::parse(text), None, "{text}");
        }
    }

    #[test]
    fn scopes_have_names_and_what_only_administrators_do_is_marked() {
        for scope in Scope::ALL {
            assert_eq!(Scope::parse(scope.as_str()), Some(*scope));
        }
        assert_eq!(Scope::parse("admin"), None);
        let admins: Vec<&str> = Scope::ALL.iter().filter(|scope| scope.is_admins()).map(|scope| scope.as_str()).collect();
        assert_eq!(admins, ["users", "audit:read", "flags", "metrics:read"]);
    }

    #[test]
    fn a_new_key_does_not_print_itself() {
        let key = presented();
        let new = NewApiKey { id: Uuid::nil(), prefix: key.prefix, expires_at: None, key: key.reveal() };
        assert!(!format!("{new:?}").contains(&key.secret.reveal()));
    }
}
