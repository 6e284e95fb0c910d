//! The browsers that an account knows, for its owner to see and to forget.
//!
//! Forgetting a browser ends no session. Its next sign-in sends a mail, and it shares the limits of strangers from then on.

use uuid::Uuid;

use crate::{
    Error, SelfService,
    event::{Event, RevokeReason, UnitOfWork},
    identity::Authority,
    limits::known_browser::{KnownBrowser, store},
    primitives::requester::Requester,
    sessions,
    sign_in::first_factor::BrowserProof,
};

impl SelfService<'_> {
    /// Those used last first.
    ///
    /// # Errors
    /// When the database does not answer, as in all of these.
    pub async fn known_browsers(self, authority: &Authority, browser: BrowserProof<'_>) -> Result<Vec<KnownBrowser>, Error> {
        Ok(store::list(&self.0.pool, authority.user, browser.known, self.0.now()).await?)
    }

    /// Forgets one. `false`: it is forgotten, or another account's: the two look the same.
    ///
    /// # Errors
    /// As above.
    pub async fn forget_browser(self, authority: &Authority, id: Uuid, from: &Requester) -> Result<bool, Error> {
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), self.0.now()).await?;
        let forgotten = store::forget(work.connection(), authority.user, id).await?;
        if forgotten {
            work.record(Event::BrowserForgotten { user: authority.user, browsers: 1 });
        }
        work.commit().await?;
        Ok(forgotten)
    }

    /// Forgets all of them, this one too: whoever copied its cookie has it still.
    ///
    /// # Errors
    /// As above.
    pub async fn forget_browsers(self, authority: &Authority, from: &Requester) -> Result<(), Error> {
        let user = authority.user;
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), self.0.now()).await?;
        let browsers = store::forget_all(work.connection(), &[user]).await?;
        if browsers > 0 {
            work.record(Event::BrowserForgotten { user, browsers });
        }
        Ok(work.commit().await?)
    }

    /// Ends all sessions of the account but the one that asks, half signed-in ones too, and forgets its browsers. Returns how many
    /// sessions.
    ///
    /// # Errors
    /// As above.
    pub async fn end_other_sessions(self, authority: &Authority, from: &Requester) -> Result<usize, Error> {
        let now = self.0.now();
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        let keep = Some(authority.session);
        let ended = sessions::end_all(&mut work, authority.user, keep, RevokeReason::SignedOutElsewhere, now).await?;
        store::forget_all(work.connection(), &[authority.user]).await?;
        work.commit().await?;
        Ok(ended)
    }
}
