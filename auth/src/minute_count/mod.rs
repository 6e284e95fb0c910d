//! What happened in each minute, on all instances together: a row a name and minute, cheap to add up however long the audit is.
//!
//! Events come from the audit: the last minutes are counted anew each time, so a row that was committed late is in the next count, and
//! counting twice does no harm. Answers are counted in memory and added now and then; a process that dies forgets the last half minute.

pub(crate) mod store;

use std::sync::atomic::{AtomicU64, Ordering};

use time::{Duration, OffsetDateTime};

use crate::{Auth, Error};

/// Requests answered.
pub(crate) const ANSWERS: &str = "http.answers";
/// Of them, with a 500: a fault of ours.
pub(crate) const FAILED: &str = "http.failed";
/// Of them, with a 503: too much at once, or the database is away.
pub(crate) const BUSY: &str = "http.busy";
pub(crate) const SIGN_INS: &str = "session.created";

/// A transaction that began this long ago may still commit its audit rows.
const LATE: Duration = Duration::minutes(10);
/// After a time in which no process counted, no more than this is made up for.
const MOST: Duration = Duration::hours(26);

/// What was answered and not yet added up.
#[derive(Default)]
pub(crate) struct Answers {
    all: AtomicU64,
    failed: AtomicU64,
    busy: AtomicU64,
}

impl Answers {
    fn each(&self) -> [(&'static str, &AtomicU64); 3] {
        [(ANSWERS, &self.all), (FAILED, &self.failed), (BUSY, &self.busy)]
    }
}

impl Auth {
    /// Counts an answer that was given, by its HTTP status.
    pub fn count_answer(&self, status: u16) {
        self.answers.all.fetch_add(1, Ordering::Relaxed);
        match status {
            503 => self.answers.busy.fetch_add(1, Ordering::Relaxed),
            500.. => self.answers.failed.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    /// Adds what this process has counted.
    pub(crate) async fn add_counts(&self, now: OffsetDateTime) -> Result<(), sqlx::Error> {
        let counted: Vec<(&str, i64)> = self
            .answers
            .each()
            .into_iter()
            .map(|(name, counter)| (name, i64::try_from(counter.swap(0, Ordering::Relaxed)).unwrap_or(i64::MAX)))
            .filter(|(_, value)| *value > 0)
            .collect();
        if let Err(error) = store::add(&self.pool, &counted, now).await {
            for (name, counter) in self.answers.each() {
                let value = counted.iter().find(|(counted, _)| *counted == name).map_or(0, |(_, value)| *value);
                counter.fetch_add(u64::try_from(value).unwrap_or(0), Ordering::Relaxed);
            }
            return Err(error);
        }
        Ok(())
    }

    /// Counts the audit's events since the last time, and the last ten minutes anew.
    pub(crate) async fn roll_up(&self, now: OffsetDateTime) -> Result<(), sqlx::Error> {
        let last = store::counted_until(&self.pool).await?.unwrap_or(now - MOST);
        let from = (last.min(now) - LATE).max(now - MOST);
        store::count_events(&self.pool, store::minute(from), now).await
    }

    /// How often something happened since then: an event's name, with `:reason` where it was refused, or `http.…`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn counted_since(&self, name: &str, since: OffsetDateTime) -> Result<i64, Error> {
        Ok(store::sum_since(&self.pool, name, since).await?)
    }
}
