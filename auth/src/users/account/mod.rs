//! Accounts: who may sign in. The first admin is made here by an operator; none exists by default.
//!
//! Not here: what administrators do to one (`administration`), how one ends (`self_service/deletion.rs`).
//! To add one: an operation here, its statement in `store.rs`.

pub(crate) mod store;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Error, Users,
    crypto::new_id,
    event::{Event, UnitOfWork},
    identity::{Authority, Origin},
    primitives::{
        email_address::{EmailAddress, EmailAddressError},
        reason::Reason,
    },
    users::held_address,
};

#[derive(Debug, thiserror::Error)]
pub enum CreateUserError {
    #[error("there is already an account with this address")]
    Exists,
    /// An account has moved from it, and can still be moved back.
    #[error("an account had this address, and may have it back")]
    HeldBack,
    /// The sign-up policy does not take it, and nobody said why it should.
    #[error("sign-up does not take this address")]
    NotAdmitted,
    /// Mail to it would go elsewhere.
    #[error("{}", EmailAddressError::Route)]
    Route,
    #[error(transparent)]
    Unavailable(#[from] Error),
}

from_sqlx!(CreateUserError);

/// An account, as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Profile {
    pub email: String,
    pub display_name: Option<String>,
    pub admin: bool,
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_sign_in_at: Option<OffsetDateTime>,
    /// When it will be deleted, where its owner has asked for that.
    #[serde(with = "time::serde::rfc3339::option")]
    pub deletes_at: Option<OffsetDateTime>,
}

impl Users<'_> {
    /// Makes an account. It holds no factor: its owner signs in by mail. `reason`: why, where the sign-up policy does not take the address
    /// by itself.
    ///
    /// # Errors
    /// [`CreateUserError`]. No account was made.
    pub async fn create(self, email: &EmailAddress, admin: bool, reason: Option<&Reason>) -> Result<Uuid, CreateUserError> {
        if email.is_route() {
            return Err(CreateUserError::Route);
        }
        if reason.is_none() && !self.0.policy.sign_up.admits_by_hand(email) {
            return Err(CreateUserError::NotAdmitted);
        }
        let now = self.0.now();
        let mut work = UnitOfWork::begin(&self.0.pool, None, now).await?;
        if held_address::is_held(work.connection(), email.key(), None, now).await? {
            return Err(CreateUserError::HeldBack);
        }
        let user = store::create(work.connection(), new_id(now), email, admin, now).await?.ok_or(CreateUserError::Exists)?;
        work.record(Event::UserCreated { user, by: Origin::Operator, admin, reason: reason.cloned() });
        work.commit().await?;
        Ok(user)
    }

    /// The account of a session, for its owner.
    ///
    /// # Errors
    /// When the database does not answer; [`sqlx::Error::RowNotFound`] where the account is gone.
    pub async fn profile(self, authority: &Authority) -> Result<Profile, Error> {
        Ok(store::profile(&self.0.pool, authority.user).await?.ok_or(sqlx::Error::RowNotFound)?)
    }
}
