//! Accounts: who may sign in. The first admin is made here by an operator; none exists by default.

pub(crate) mod store;

use uuid::Uuid;

use crate::{
    Auth, Error,
    email_address::EmailAddress,
    event::{Event, Origin, Work},
    secret::new_id,
};

#[derive(Debug, thiserror::Error)]
pub enum CreateUserError {
    #[error("there is already an account with this address")]
    Exists,
    #[error(transparent)]
    Unavailable(#[from] Error),
}

from_sqlx!(CreateUserError);

impl Auth {
    /// Makes an account. It holds no factor: its owner signs in by mail.
    ///
    /// # Errors
    /// [`CreateUserError::Exists`], or the database did not answer.
    pub async fn create_user(&self, email: &EmailAddress, admin: bool) -> Result<Uuid, CreateUserError> {
        let now = self.now();
        let mut work = Work::begin(&self.pool, None, now).await?;
        let user = store::create(work.connection(), new_id(now), email, admin, now).await?.ok_or(CreateUserError::Exists)?;
        work.record(Event::UserCreated { user, by: Origin::Operator, admin });
        work.commit().await?;
        Ok(user)
    }
}
