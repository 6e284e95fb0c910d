//! Invitations: they let an address sign up. The link in the mail only starts a sign-in; the mail that follows proves the address.

pub(crate) mod store;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Error, OneTime,
    crypto::{InviteToken, Seed, new_id},
    event::{Event, UnitOfWork},
    identity::Origin,
    one_time::{Dead, Life},
    outbox,
    policy::INVITE_TTL,
    primitives::{email_address::EmailAddress, reason::Reason},
    users::account,
};

/// Where an invitation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InviteState {
    Live { email: EmailAddress, inviter: Option<String> },
    Dead(Dead),
    Unknown,
}

/// A row as it stands.
pub(crate) struct Invite {
    pub email: EmailAddress,
    pub seed: Seed,
    /// The administrator who invited, by name or address; an operator at the shell has none.
    pub inviter: Option<String>,
    pub life: Life,
}

impl OneTime<'_> {
    /// Invites an address, and queues the mail that tells it. An older invitation of the same address stops working. `by`: the
    /// administrator; none where an operator does it. `None` where it has an account.
    pub(crate) async fn invite(
        self,
        work: &mut UnitOfWork<'_>,
        email: &EmailAddress,
        by: Option<Uuid>,
        origin: Origin,
        reason: Option<&Reason>,
        now: OffsetDateTime,
    ) -> sqlx::Result<Option<Uuid>> {
        if account::store::by_email(work.connection(), email.key(), now).await?.is_some() {
            return Ok(None);
        }
        let seed = self.0.keys.seed();
        let token = self.0.keys.invite_token(&seed).expect("the current key is there");
        let (id, invite) = (new_id(now), Invite { email: email.clone(), seed, inviter: None, life: Life::until(now + INVITE_TTL) });
        store::insert(work.connection(), id, &invite, &token.hash(), by, now).await?;
        let place = outbox::Place::of_an_invitation(&self.0.keys);
        outbox::store::enqueue(work.connection(), outbox::Kind::Invite, id, place, now, now + outbox::INVITE_DEADLINE).await?;
        work.record(Event::InviteCreated { invite: id, by: origin, reason: reason.cloned() });
        Ok(Some(id))
    }

    /// Changes nothing.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn peek_invite(self, token: &InviteToken) -> Result<InviteState, Error> {
        let invite = store::by_token(&self.0.pool, &token.hash()).await?;
        Ok(invite.map_or(InviteState::Unknown, |invite| match invite.life.dead(self.0.now()) {
            Some(dead) => InviteState::Dead(dead),
            None => InviteState::Live { email: invite.email, inviter: invite.inviter },
        }))
    }
}
