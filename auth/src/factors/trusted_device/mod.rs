//! Browsers their owner trusts with the second factor, for a while.
//!
//! Not here: giving trust (`sign_in/second_factor.rs`).
//! To add one: an operation here, its statement in `store.rs`.
//!
//! Trust is a token of its own, bound to the account; it is given at a second step only, and all of it dies with any change to
//! two-factor or to the address.

pub(crate) mod store;

use std::net::IpAddr;

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Error, Factors,
    crypto::TrustedDeviceToken,
    event::{Event, UnitOfWork},
    identity::Authority,
    primitives::requester::Requester,
};

/// Browsers in a list, at most. More can only be a mistake or an attack; the oldest are then not in it, and trust in all can be taken back
/// at once.
pub const MOST_SHOWN: u16 = 50;

/// One trusted browser, as its owner sees it, also in their copy of their data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrustedDevice {
    #[serde(skip)]
    pub id: Uuid,
    pub device: String,
    pub ip: Option<IpAddr>,
    #[serde(with = "time::serde::rfc3339")]
    pub added_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub last_used_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
    /// It is the browser that asks.
    #[serde(skip)]
    pub here: bool,
}

impl Factors<'_> {
    /// The account's trusted browsers, the newest first.
    ///
    /// # Errors
    /// When the database does not answer, as in all of these.
    pub async fn trusted_devices(
        self,
        authority: &Authority,
        token: Option<&TrustedDeviceToken>,
    ) -> Result<Vec<TrustedDevice>, Error> {
        let hash = token.map(TrustedDeviceToken::hash);
        Ok(store::list(&self.0.pool, authority.user, hash.as_ref(), self.0.now()).await?)
    }

    /// Takes trust back. Another account's id answers as one that does not exist.
    ///
    /// # Errors
    /// As above.
    pub async fn revoke_trusted_device(self, authority: &Authority, id: Uuid, from: &Requester) -> Result<bool, Error> {
        let now = self.0.now();
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        let revoked = store::revoke(work.connection(), authority.user, Some(id), now).await?;
        for device in &revoked {
            work.record(Event::DeviceRevoked { user: authority.user, device: *device });
        }
        work.commit().await?;
        Ok(!revoked.is_empty())
    }

    /// Takes all trust back.
    ///
    /// # Errors
    /// As above.
    pub async fn revoke_trusted_devices(self, authority: &Authority, from: &Requester) -> Result<(), Error> {
        let now = self.0.now();
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        revoke_all(&mut work, authority.user, now).await?;
        Ok(work.commit().await?)
    }
}

/// All trust of an account dies, as part of a larger change.
pub(crate) async fn revoke_all(work: &mut UnitOfWork<'_>, user: Uuid, now: OffsetDateTime) -> sqlx::Result<()> {
    for device in store::revoke(work.connection(), user, None, now).await? {
        work.record(Event::DeviceRevoked { user, device });
    }
    Ok(())
}
