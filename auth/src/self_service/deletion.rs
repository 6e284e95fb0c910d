//! Deleting an account: its owner asks, a week goes by, housekeeping deletes. Until then they can sign in and keep it; after that it
//! signs nobody in, whenever its rows go.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Error, SelfService,
    event::{Event, RevokeReason, UnitOfWork},
    identity::Authority,
    limits::throttle::Limited,
    one_time::{
        magic_link,
        revert_link::{self, Revert},
    },
    outbox::{self, Notice},
    policy::DELETION_WAIT,
    primitives::requester::Requester,
    sessions,
    users::account::{self, store::is_last_admin},
};

/// Why an account is not to be deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeletionError {
    /// The account's strongest factor has to be given first.
    #[error("the session has to step up first")]
    NotFresh,
    /// Nobody could look after the others.
    #[error("it is the last administrator's account")]
    LastAdmin,
    #[error("the session is over")]
    SessionOver,
    #[error("a limit refused")]
    Limited(Limited),
    #[error(transparent)]
    Unavailable(#[from] Error),
}

from_sqlx!(DeletionError);

impl SelfService<'_> {
    /// Asks for the account to be deleted. Its other sessions and its open links end. Asking twice does no harm, and moves nothing.
    ///
    /// # Errors
    /// [`DeletionError`].
    pub async fn request_deletion(self, authority: &Authority, from: &Requester) -> Result<(), DeletionError> {
        if !self.0.sign_in().is_fresh(authority) {
            return Err(DeletionError::NotFresh);
        }
        let (now, user) = (self.0.now(), authority.user);
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        let account = account::store::by_id(work.connection(), user, now).await?.ok_or(DeletionError::SessionOver)?;
        // Links before sessions before accounts, as signing in takes them: the other way round the two could wait for each other.
        magic_link::store::close_all(work.connection(), &account.email_key, now).await?;
        sessions::end_all(&mut work, user, Some(authority.session), RevokeReason::Leaving, now).await?;
        if is_last_admin(work.connection(), user).await? {
            return Err(DeletionError::LastAdmin);
        }
        let deletes_at = now + DELETION_WAIT;
        if !account::store::schedule_deletion(work.connection(), user, deletes_at).await? {
            // It was asked for already.
            return Ok(());
        }
        let throttle = self.0.limits().throttle();
        throttle.take_change(work.connection(), user, now).await?.map_err(DeletionError::Limited)?;
        work.record(Event::DeletionRequested { user });
        let undo = revert_link::create(&self.0.keys, &mut work, &account, Revert::Deletion, now).await?;
        let notice = Notice::DeletionRequested { deletes_at };
        outbox::store::enqueue_undoable(work.connection(), user, notice, Some(undo), Some(from), now).await?;
        Ok(work.commit_and_mail(self.0).await?)
    }

    /// Calls the deletion off. Whoever is signed in may: it changes nothing but that. Doing it twice does no harm.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn cancel_deletion(self, authority: &Authority, from: &Requester) -> Result<(), Error> {
        let now = self.0.now();
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        cancel(&mut work, authority.user, Some(from), now).await?;
        Ok(work.commit_and_mail(self.0).await?)
    }
}

/// The account stays, as part of what called its deletion off. `false` where it was not to be deleted.
pub(crate) async fn cancel(
    work: &mut UnitOfWork<'_>,
    user: Uuid,
    from: Option<&Requester>,
    now: OffsetDateTime,
) -> sqlx::Result<bool> {
    // Links that take back before the account, as using one takes them: the other way round the two could wait for each other.
    revert_link::store::close_all(work.connection(), user, Revert::Deletion, now).await?;
    if !account::store::cancel_deletion(work.connection(), user, now).await? {
        return Ok(false);
    }
    work.record(Event::DeletionCancelled { user });
    outbox::store::enqueue_notice(work.connection(), user, Notice::DeletionCancelled, from, now).await?;
    Ok(true)
}
