//! Invitations: they let an address sign up. The link in the mail only starts a sign-in; the mail that follows proves the address.

pub(crate) mod store;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Error, Users,
    crypto::{InviteToken, new_id},
    event::{Event, UnitOfWork},
    identity::Origin,
    outbox,
    policy::INVITE_TTL,
    primitives::email_address::EmailAddress,
};

/// Where an invitation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InviteState {
    Live { email: EmailAddress, inviter: Option<String> },
    Expired,
    Used,
    Unknown,
}

impl Users<'_> {
    /// Invites an address, and queues the mail that tells it. An older invitation of the same address stops working. `None` where
    /// it has an account.
    pub(crate) async fn invite(
        self,
        work: &mut UnitOfWork<'_>,
        email: &EmailAddress,
        by: Option<Uuid>,
        origin: Origin,
        now: OffsetDateTime,
    ) -> Result<Option<Uuid>, sqlx::Error> {
        let seed = self.0.keys.seed();
        let token = self.0.keys.invite_token(&seed).expect("the current key is there");
        if crate::users::account::store::by_email(work.connection(), email.key(), now).await?.is_some() {
            return Ok(None);
        }
        let new = store::NewInvite {
            id: new_id(now),
            email,
            seed: &seed,
            token_hash: token.hash(),
            by,
            created_at: now,
            expires_at: now + INVITE_TTL,
        };
        store::insert(work.connection(), &new).await?;
        outbox::store::enqueue_invite(work.connection(), new_id(now), new.id, now, now + outbox::INVITE_DEADLINE).await?;
        work.record(Event::InviteCreated { invite: new.id, by: origin });
        Ok(Some(new.id))
    }

    /// Changes nothing.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn peek_invite(self, token: &InviteToken) -> Result<InviteState, Error> {
        let now = self.0.now();
        Ok(match store::by_token(&self.0.pool, &token.hash()).await? {
            None => InviteState::Unknown,
            Some(invite) if invite.used_at.is_some() => InviteState::Used,
            Some(invite) if invite.revoked_at.is_some() || invite.expires_at <= now => InviteState::Expired,
            Some(invite) => EmailAddress::stored(&invite.email)
                .map_or(InviteState::Unknown, |email| InviteState::Live { email, inviter: invite.inviter }),
        })
    }
}
