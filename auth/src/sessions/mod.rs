//! Sessions. A row without authority is a visitor waiting for mail; [`crate::sign_in`] makes rows with authority, in the transaction
//! that redeems a link or a factor, and nothing else does.
//!
//! Not here: how somebody came to have authority (`sign_in`).
//! To add one: an operation here, its statement in `store.rs`; one that gives authority isn't added: there is one.

pub(crate) mod store;

use std::net::IpAddr;

use serde_json::Value;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::{
    Error, Sessions,
    crypto::{SessionKey, new_id},
    event::{RevokeReason, UnitOfWork},
    identity::{Authority, Level, Method, SecondFactor},
    policy::{PRE_SIGN_IN_TTL, RequireTwoFactor},
    primitives::requester::Requester,
};

/// Sessions in a list, at most. More can only be a mistake or an attack; those that were not used for the longest time are then not in it,
/// and can be ended all at once.
pub const MOST_SHOWN: u16 = 100;

/// A session that an application holds for somebody, as the application is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiSession {
    pub session: Uuid,
    pub user: Uuid,
    pub email: String,
    pub name: Option<String>,
    pub admin: bool,
    /// The account has two-factor, at this very moment.
    pub two_factor: bool,
    /// [`Level::Email`] or [`Level::TwoFactor`].
    pub level: Level,
    pub method: Method,
    pub second: Option<SecondFactor>,
    pub authenticated_at: OffsetDateTime,
    /// To the minute.
    pub last_seen_at: OffsetDateTime,
    /// At the latest; it dies sooner when unused.
    pub expires_at: OffsetDateTime,
}

impl ApiSession {
    /// Not where the account came to have two-factor while it signed in: one factor was given.
    pub(crate) fn has_proven_enough(&self) -> bool {
        !self.two_factor || self.level != Level::Email
    }

    /// Whether the account must set two-factor up before any session may speak for it.
    #[must_use]
    pub fn owes_two_factor(&self, required: RequireTwoFactor) -> bool {
        !self.two_factor && required.covers(self.admin)
    }
}

/// One of an account's sessions, as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    pub id: Uuid,
    /// Or the application that signed in.
    pub device: String,
    pub ip: Option<IpAddr>,
    pub method: Method,
    pub second: Option<SecondFactor>,
    /// It has proven both factors.
    pub two_factor: bool,
    /// The account did not know the browser when it signed in.
    pub new_device: bool,
    pub signed_in_at: OffsetDateTime,
    /// To the minute.
    pub last_seen_at: OffsetDateTime,
    /// It is the session that asks.
    pub here: bool,
}

/// A live session as it was found.
pub struct Stored {
    pub data: Value,
    pub authority: Option<Authority>,
    pub expires_at: OffsetDateTime,
}

/// `last_seen_at` moves at most this often: a page view must not cost a write.
pub(crate) const TOUCH_EVERY: Duration = Duration::minutes(1);

impl Sessions<'_> {
    /// Makes a row without authority. `false` where the id is taken.
    ///
    /// # Errors
    /// When the database does not answer, as in all of these.
    pub async fn create(self, key: SessionKey, data: &Value) -> Result<bool, Error> {
        let now = self.0.now();
        Ok(store::create(&self.0.pool, new_id(now), key, data, now, now + PRE_SIGN_IN_TTL).await?)
    }

    /// Writes data, and only data, to a live row. A session revoked meanwhile stays dead.
    pub async fn save(self, key: SessionKey, data: &Value) -> Result<(), Error> {
        let now = self.0.now();
        Ok(store::save(&self.0.pool, key, data, now, now + PRE_SIGN_IN_TTL).await?)
    }

    /// The session, if it is live: not revoked, not idle too long, not too old, its account not disabled.
    pub async fn load(self, key: SessionKey) -> Result<Option<Stored>, Error> {
        let now = self.0.now();
        let Some(found) = store::load(&self.0.pool, key, now, now - self.0.policy.session_idle).await? else {
            return Ok(None);
        };
        if found.stored.authority.is_some() && found.last_seen_at <= now - TOUCH_EVERY {
            store::touch(&self.0.pool, key, now).await?;
        }
        Ok(Some(found.stored))
    }

    /// Forgets a visitor's row. One with authority is ended by [`Sessions::sign_out`], which records it.
    pub async fn forget(self, key: SessionKey) -> Result<(), Error> {
        Ok(store::forget(&self.0.pool, key).await?)
    }

    /// The account's live sessions: the one that asks, then by when they were last used.
    ///
    /// # Errors
    /// As above.
    pub async fn list(self, authority: &Authority) -> Result<Vec<SessionView>, Error> {
        self.sessions_of(authority.user, Some(authority.session)).await
    }

    pub(crate) async fn sessions_of(self, user: Uuid, here: Option<Uuid>) -> Result<Vec<SessionView>, Error> {
        let now = self.0.now();
        Ok(store::list(&self.0.pool, user, here, now, now - self.0.policy.session_idle).await?)
    }

    /// Ends one of the account's sessions. `false`: it is over, or another account's: the two look the same.
    ///
    /// # Errors
    /// As above.
    pub async fn end(self, authority: &Authority, id: Uuid, from: &Requester) -> Result<bool, Error> {
        let now = self.0.now();
        let reason = RevokeReason::SignedOutElsewhere;
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        let ended = store::revoke_one(work.connection(), authority.user, id, reason, now).await?;
        if let Some(ended) = &ended {
            work.record(ended.event(reason));
        }
        work.commit().await?;
        Ok(ended.is_some())
    }

    /// Ends a session, at once and on every instance. Doing it twice does no harm.
    pub async fn sign_out(self, key: SessionKey, from: &Requester) -> Result<(), Error> {
        let now = self.0.now();
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        if let Some(ended) = store::revoke(work.connection(), key, RevokeReason::SignedOut, now).await? {
            work.record(ended.event(RevokeReason::SignedOut));
        }
        Ok(work.commit().await?)
    }
}

/// Ends the sessions of an account, as part of a larger change. Returns how many.
///
/// It looks twice: a second step under way holds its half session, makes a whole one, and lets go. The first look waits for it and can't see
/// what it made; from then on no other can be under way.
pub(crate) async fn end_all(
    work: &mut UnitOfWork<'_>,
    user: Uuid,
    keep: Option<Uuid>,
    reason: RevokeReason,
    now: OffsetDateTime,
) -> sqlx::Result<usize> {
    let mut ended = store::revoke_others(work.connection(), user, keep, reason, now).await?;
    ended.extend(store::revoke_others(work.connection(), user, keep, reason, now).await?);
    for ended in &ended {
        work.record(ended.event(reason));
    }
    Ok(ended.len())
}
