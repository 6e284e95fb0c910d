//! What happened in each minute, on all instances together, and in periods of 1, 6 and 24 hours: cheap to add up.
//!
//! Not here: what is shown of it (`overview`).
//! To add one: its name here, how it is counted in `store.rs`.
//!
//! Events come from the audit: the last minutes are counted anew each time, so a row that was committed late is in the next count, and
//! counting twice does no harm. What nobody counted at the time is made up for. Answers are counted in memory and added now and then; a
//! process that dies forgets the last half minute.

pub(crate) mod store;

use std::sync::atomic::{AtomicU64, Ordering};

use time::{Duration, OffsetDateTime};

use crate::Reporting;

/// Requests answered.
pub(crate) const ANSWERS: &str = "http.answers";
/// Of them, with a 500: a fault of ours.
pub(crate) const FAILED: &str = "http.failed";
/// Of them, with a 503: too much at once, or the database is away.
pub(crate) const BUSY: &str = "http.busy";
pub(crate) const SIGN_INS: &str = "session.created";

// By the period:

pub(crate) const REQUESTED: &str = "link.requested";
/// Sign-in mails that a mail server took, whatever they said.
pub(crate) const MAILED: &str = "sign_in.mailed";
pub(crate) const REDEEMED: &str = "link.redeemed";
/// For whatever reason.
pub(crate) const REFUSED: &str = "link.refused";
/// Sessions with all the factors their accounts ask for, by the first of them.
pub(crate) const FINISHED_BY_LINK: &str = "sign_in.finished:link";
pub(crate) const FINISHED_BY_CODE: &str = "sign_in.finished:code";
/// How long after they were asked for: sign-ins to be finished, and mails to be taken.
pub(crate) const SIGN_IN_SECONDS: &str = "sign_in.seconds";
pub(crate) const MAIL_SECONDS: &str = "mail.seconds";

pub(crate) const SHOWN: [&str; 8] =
    [REQUESTED, MAILED, REDEEMED, REFUSED, FINISHED_BY_LINK, FINISHED_BY_CODE, SIGN_IN_SECONDS, MAIL_SECONDS];

/// A transaction that began this long ago may still commit its audit rows.
const LATE: Duration = Duration::minutes(10);
/// What nobody counted is made up for as far back as the overview looks, and as far as what it compares with.
const MOST: Duration = Duration::days(62);
/// So much of it in one transaction: a process that stops half-way goes on there.
const AT_ONCE: Duration = Duration::hours(6);
const MINUTE: Duration = Duration::minutes(1);
/// PostgreSQL's code for a statement that took too long.
const TOO_LONG: &str = "57014";

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

impl Reporting<'_> {
    /// Counts an answer that was given, by its HTTP status.
    pub fn count_answer(self, status: u16) {
        self.0.answers.all.fetch_add(1, Ordering::Relaxed);
        match status {
            503 => self.0.answers.busy.fetch_add(1, Ordering::Relaxed),
            500.. => self.0.answers.failed.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    /// Adds what this process has counted.
    pub(crate) async fn add_counts(self, now: OffsetDateTime) -> sqlx::Result<()> {
        let counted: Vec<(&str, i64)> = self
            .0
            .answers
            .each()
            .into_iter()
            .map(|(name, counter)| (name, i64::try_from(counter.swap(0, Ordering::Relaxed)).unwrap_or(i64::MAX)))
            .filter(|(_, value)| *value > 0)
            .collect();
        if let Err(error) = store::add(&self.0.pool, &counted, now).await {
            for (name, counter) in self.0.answers.each() {
                let value = counted.iter().find(|(counted, _)| *counted == name).map_or(0, |(_, value)| *value);
                counter.fetch_add(u64::try_from(value).unwrap_or(0), Ordering::Relaxed);
            }
            return Err(error);
        }
        Ok(())
    }

    /// Counts the audit's events since the last time, and the last ten minutes anew; and the accounts now and then. Of what can't be
    /// counted in time, it counts less at once. A minute that can't be counted in time by itself is left out: somebody who fills one with
    /// rows doesn't end counting.
    ///
    /// # Errors
    /// Also where a minute was left out, once the others are counted.
    pub(crate) async fn roll_up(self, now: OffsetDateTime) -> sqlx::Result<()> {
        let from = match store::counted_until(&self.0.pool, now).await? {
            Some(last) => (last - LATE).max(now - MOST),
            None => store::first_event(&self.0.pool, now - MOST).await?.unwrap_or(now).min(now),
        };
        let (mut from, mut at_once, mut left_out) = (store::minute(from), AT_ONCE, None);
        loop {
            let until = (from + at_once).min(now);
            match store::count_events(&self.0.pool, from, until).await {
                Ok(()) => {}
                Err(error) if !too_long(&error) => return Err(error),
                Err(_) if until - from > MINUTE => {
                    at_once = Duration::minutes(((until - from).whole_minutes() / 2).max(1));
                    continue;
                }
                Err(error) => {
                    tracing::error!(%error, minute = %from, "event_counts.left_out");
                    store::save_counted(&self.0.pool, until).await?;
                    left_out = Some(error);
                }
            }
            if until >= now {
                self.count_accounts(now).await?;
                return left_out.map_or(Ok(()), Err);
            }
            from = until;
        }
    }
}

fn too_long(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.code().is_some_and(|code| code == TOO_LONG))
}
