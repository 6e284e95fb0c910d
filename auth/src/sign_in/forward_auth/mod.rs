//! Forward-auth: a proxy asks for each request to another host of ours whose it is.
//!
//! Not here: headers and cookies (`server/src/http/forward_auth.rs`).
//! To add one: what a host may ask for is a case of [`Access`].
//!
//! A browser shows the proxy its session, where the host is ours, or a [`ForwardAuthToken`], on every other. The token is its
//! session's: it speaks for whom the session speaks for, dies with it, and opens nothing else. Where a browser shows several, as it does
//! once another host of the domain has put one of its own there, they must all speak for one account.

mod store;

use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::{
    Error, SignIn,
    crypto::{ForwardAuthToken, SessionKey},
    identity::Level,
    policy::RequireTwoFactor,
    primitives::email_address::EmailAddress,
};

/// `last_seen_at` moves at most this often, as for pages.
const TOUCH_EVERY: Duration = Duration::minutes(1);

/// Whose a request is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub user: Uuid,
    pub email: EmailAddress,
    pub admin: bool,
    /// What was proven: [`Level::Email`] or [`Level::TwoFactor`].
    pub level: Level,
}

/// What a proxy is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    Granted(Identity),
    /// Signed in, but the host wants two-factor, or the account has yet to set it up.
    TwoFactorNeeded,
    /// Nobody who is signed in.
    Nobody,
}

/// A live session, and the token that it was found by, if it was found by one.
struct Found {
    session: Uuid,
    user: Uuid,
    email: String,
    admin: bool,
    /// The account has two-factor, at this very moment.
    two_factor: bool,
    level: Level,
    /// The level the token was made at.
    token_level: Option<Level>,
    last_seen_at: OffsetDateTime,
}

impl Found {
    fn access(self, needs: Level, required: RequireTwoFactor) -> Access {
        let owes = !self.two_factor && required.covers(self.admin);
        let level = match (self.level.stands(self.two_factor), self.token_level) {
            (Level::FirstFactor, _) => return Access::Nobody,
            (Level::TwoFactor, None | Some(Level::TwoFactor)) => Level::TwoFactor,
            _ => Level::Email,
        };
        // An address that is none can't be told on; whoever has it is nobody.
        let Some(email) = EmailAddress::stored(&self.email) else { return Access::Nobody };
        if owes || (needs == Level::TwoFactor && level != Level::TwoFactor) {
            return Access::TwoFactorNeeded;
        }
        Access::Granted(Identity { user: self.user, email, admin: self.admin, level })
    }
}

impl SignIn<'_> {
    /// Who asks for a page of a host that needs `needs`. One query, and once a minute one more, which notes that the session lives.
    ///
    /// # Errors
    /// When the database does not answer, as in all of these.
    pub async fn forward_auth(
        self,
        tokens: &[ForwardAuthToken],
        session: Option<SessionKey>,
        needs: Level,
    ) -> Result<Access, Error> {
        let now = self.0.now();
        // Without a cookie of ours there is nothing to look for.
        if tokens.is_empty() && session.is_none() {
            return Ok(Access::Nobody);
        }
        let hashes: Vec<Vec<u8>> = tokens.iter().map(|token| token.hash().to_vec()).collect();
        let mut all = store::find(&self.0.pool, &hashes, session, now, now - self.0.policy.session_idle).await?.into_iter();
        let Some(found) = all.next() else { return Ok(Access::Nobody) };
        if all.any(|other| other.user != found.user) {
            // One of them was put there by somebody who wants this browser in an account of theirs.
            return Ok(Access::Nobody);
        }
        if found.last_seen_at <= now - TOUCH_EVERY {
            store::touch(&self.0.pool, found.session, now, now - TOUCH_EVERY).await?;
        }
        Ok(found.access(needs, self.0.policy.require_two_factor))
    }

    /// A token for the hosts of other applications, for who may enter one that needs `needs`. The session's earlier one is dead
    /// then. `Err(Access)`: why there is none.
    ///
    /// # Errors
    /// As above.
    pub async fn make_forward_auth_token(
        self,
        session: SessionKey,
        needs: Level,
    ) -> Result<Result<ForwardAuthToken, Access>, Error> {
        let now = self.0.now();
        let identity = match self.forward_auth(&[], Some(session), needs).await? {
            Access::Granted(identity) => identity,
            refused => return Ok(Err(refused)),
        };
        let token = ForwardAuthToken::new();
        let made = store::make(&self.0.pool, session, &token.hash(), identity.level, now).await?;
        // Else the session has ended since, or proves less than it did.
        Ok(if made { Ok(token) } else { Err(Access::Nobody) })
    }
}
