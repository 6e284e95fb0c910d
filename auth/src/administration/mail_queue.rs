//! What the mail queue is up to, for administrators: what waits, what was given up and why, and sending again.

use uuid::Uuid;

use super::PAGE;
use crate::{
    Administration, Error,
    event::Event,
    event::UnitOfWork,
    identity::Authority,
    identity::{ActionError, Actor},
    limits::throttle::{Limited, Subject},
    outbox::{self, MailFilter, MailRow, Notice, QueueState},
    policy::limits::Limit,
    primitives::{
        cursor::{Cursor, Page},
        requester::Requester,
    },
};

/// Why no test mail was sent.
#[derive(Debug, thiserror::Error)]
pub enum TestMailError {
    #[error("a limit refused")]
    Limited(Limited),
    #[error(transparent)]
    Unavailable(#[from] Error),
}

from_sqlx!(TestMailError);

impl Administration<'_> {
    /// How the queue stands.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn mail_queue(self) -> Result<QueueState, Error> {
        Ok(outbox::store::queue_state(&self.0.pool, self.0.now()).await?)
    }

    /// Its mails, the newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn mails(self, filter: MailFilter, cursor: Option<Cursor>) -> Result<Page<MailRow>, Error> {
        let rows = outbox::store::page(&self.0.pool, filter, cursor, PAGE + 1, self.0.now()).await?;
        Ok(Page::new(rows, PAGE, cursor, |row| (row.created_at, row.id)))
    }

    /// Sends a mail that waits for its next try, or was given up, at once; as long as it is of use.
    ///
    /// # Errors
    /// [`ActionError`]; [`ActionError::Nothing`] where it was sent, is being sent, or is too old.
    pub async fn retry_mail(self, who: Actor<'_>, id: Uuid) -> Result<(), ActionError> {
        let now = self.0.now();
        let mut work = UnitOfWork::begin_action(self.0, who, now).await?;
        if !outbox::store::send_now(work.connection(), id, now).await? {
            return Err(ActionError::Nothing);
        }
        work.record(Event::MailRetried { mail: id });
        Ok(work.commit_and_mail(self.0).await?)
    }

    /// Sends a mail to the administrator's own address, the way all mail goes.
    ///
    /// # Errors
    /// [`TestMailError`].
    pub async fn send_test_mail(self, authority: &Authority, from: &Requester) -> Result<(), TestMailError> {
        let now = self.0.now();
        let charge = self.0.limits().throttle().charge(Limit::MailTest, Subject::Account(authority.user));
        self.0.limits().throttle().take(&self.0.pool, &[charge], now).await?.map_err(TestMailError::Limited)?;
        let mut connection = self.0.pool.acquire().await?;
        outbox::store::enqueue_notice(&mut connection, authority.user, Notice::Test, Some(from), now).await?;
        self.0.outbox.notify_one();
        Ok(())
    }
}
