//! Invitations: they let an address sign up. The link in the mail only starts a sign-in; the mail that follows proves the address.

pub(crate) mod store;

use uuid::Uuid;

use crate::{
    Auth, Error,
    email_address::EmailAddress,
    event::{Event, Origin, Work},
    mail,
    policy::INVITE_TTL,
    secret::{InviteToken, new_id},
};

#[derive(Debug, thiserror::Error)]
pub enum CreateInviteError {
    #[error("there is already an account with this address")]
    AccountExists,
    #[error(transparent)]
    Unavailable(#[from] Error),
}

from_sqlx!(CreateInviteError);

/// Where an invitation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InviteState {
    Live { email: EmailAddress },
    Expired,
    Used,
    Unknown,
}

impl Auth {
    /// Invites an address, and queues the mail that tells it. An older invitation of the same address stops working.
    ///
    /// # Errors
    /// [`CreateInviteError::AccountExists`], or the database did not answer.
    pub async fn invite(&self, email: &EmailAddress) -> Result<Uuid, CreateInviteError> {
        let now = self.now();
        let seed = self.keys.seed();
        let token = self.keys.invite_token(&seed).expect("the current key is there");
        let mut work = Work::begin(&self.pool, None, now).await?;
        if crate::account::store::by_email(work.connection(), email.key(), now).await?.is_some() {
            return Err(CreateInviteError::AccountExists);
        }
        let id = new_id(now);
        store::insert(work.connection(), id, email, &seed, &token.hash(), now, now + INVITE_TTL).await?;
        mail::store::enqueue_invite(work.connection(), new_id(now), id, now, now + mail::INVITE_DEADLINE).await?;
        work.record(Event::InviteCreated { invite: id, by: Origin::Operator });
        work.commit().await?;
        self.outbox.notify_one();
        Ok(id)
    }

    /// Changes nothing.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn peek_invite(&self, token: &InviteToken) -> Result<InviteState, Error> {
        let now = self.now();
        Ok(match store::by_token(&self.pool, &token.hash()).await? {
            None => InviteState::Unknown,
            Some(invite) if invite.used_at.is_some() => InviteState::Used,
            Some(invite) if invite.revoked_at.is_some() || invite.expires_at <= now => InviteState::Expired,
            Some(invite) => EmailAddress::stored(&invite.email).map_or(InviteState::Unknown, |email| InviteState::Live { email }),
        })
    }
}
