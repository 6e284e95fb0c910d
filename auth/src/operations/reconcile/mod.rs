//! Rows that contradict each other, or that wait for what can't come any more.
//!
//! Not here: mending them: `docs/operations.md` says how.
//! To add one: a query in `store.rs`, its kind in `docs/operations.md`.
//!
//! Nothing here is ever found while the code is right and nobody writes into the tables by hand; that is why it is looked for. Each
//! query reads rows of a window only, by an index: those of `created_at`, or the primary key, whose ids begin with the time.

mod store;

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::{
    Error, Operations,
    event::{Event, UnitOfWork},
    operations::housekeeping,
    primitives::schedule,
};

/// How far back it is looked, where nobody says.
pub const WINDOW: Duration = Duration::hours(24);
const EVERY: Duration = Duration::hours(1);
/// The hourly run looks back twice as far, so that one that was missed is made up for.
const LOOK_BACK: Duration = Duration::hours(2);

/// One contradiction. Ids only: whoever may see them can look the rest up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub at: OffsetDateTime,
    pub kind: String,
    /// What it is about, by name: a link, a session, a mail.
    pub ids: Vec<(String, Uuid)>,
}

impl Operations<'_> {
    /// What is wrong since then, the oldest first. At most [`store::MOST`] of one kind.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn reconcile(self, since: OffsetDateTime) -> Result<Vec<Finding>, Error> {
        let now = self.0.now();
        // Links are deleted before the sessions they made: without this, old sessions would seem to have none.
        let since = since.max(now - housekeeping::KEEP);
        let pool = &self.0.pool;
        let mut rows = store::redemptions(pool, since).await?;
        rows.extend(store::sessions_without_link(pool, since).await?);
        rows.extend(store::links_with_several_sessions(pool, since).await?);
        rows.extend(store::tokens_without_mail(pool, since, now).await?);
        rows.extend(store::orphans(pool, since, now).await?);
        rows.extend(store::stuck_mail(pool, now).await?);
        let mut findings: Vec<Finding> = rows.into_iter().map(Into::into).collect();
        findings.sort_unstable();
        Ok(findings)
    }

    /// The same once an hour, by the one process that gets there first. What is found is logged and in the audit; each hour with
    /// nothing found would be a row that says nothing.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn reconcile_hourly(self) -> Result<(), Error> {
        let now = self.0.now();
        if !schedule::wins(&self.0.pool, "reconcile", EVERY, now).await? {
            return Ok(());
        }
        let found = self.reconcile(now - LOOK_BACK).await?;
        if found.is_empty() {
            return Ok(());
        }
        let mut findings = BTreeMap::new();
        for Finding { at, kind, ids } in &found {
            tracing::warn!(kind, at = %at, ids = ?ids, "reconcile.found");
            *findings.entry(kind.clone()).or_default() += 1;
        }
        let mut work = UnitOfWork::begin(&self.0.pool, None, self.0.now()).await?;
        work.record(Event::ReconcileFinished { findings });
        Ok(work.commit().await?)
    }
}
