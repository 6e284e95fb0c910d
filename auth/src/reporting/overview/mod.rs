//! How signing in goes, over the last day, week or month: what administrators see first.
//!
//! Not here: counting (`event_counts`); the overview never reads the audit itself.
//! To add one: how a figure is counted (`event_counts/store.rs`), its field of [`Counts`], its row in `docs/overview.md`.
//!
//! It comes in buckets, beside as long a time before. What is counted is what happened in a bucket: a sign-in that was asked for in one
//! hour and finished in the next counts in both.

pub(crate) mod store;

use std::collections::BTreeMap;

use strum::{EnumString, IntoStaticStr, VariantArray};
use time::{Duration, OffsetDateTime};

use crate::{
    Error, Reporting,
    primitives::schedule,
    reporting::event_counts::{
        FINISHED_BY_CODE, FINISHED_BY_LINK, MAIL_SECONDS, MAILED, REDEEMED, REFUSED, REQUESTED, SIGN_IN_SECONDS,
        store::counted_until,
    },
};

/// Between two looks at how many accounts there are: all of them are counted for it.
const ACCOUNTS_EVERY: Duration = Duration::minutes(1);

/// How far back the overview looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
pub enum Span {
    #[default]
    #[strum(serialize = "24h")]
    Day,
    #[strum(serialize = "7d")]
    Week,
    #[strum(serialize = "30d")]
    Month,
}

named!(Span);

impl Span {
    /// Hours of a bucket. They divide a day, so that buckets begin at the same hours each day, by UTC.
    #[must_use]
    pub fn hours(self) -> u8 {
        match self {
            Self::Day => 1,
            Self::Week => 6,
            Self::Month => 24,
        }
    }

    fn buckets(self) -> u8 {
        match self {
            Self::Day => 24,
            Self::Week => 28,
            Self::Month => 30,
        }
    }

    fn width(self) -> Duration {
        Duration::hours(i64::from(self.hours()))
    }

    /// When each bucket begins, the oldest first. The last is the one that is not over.
    fn starts(self, now: OffsetDateTime) -> impl Iterator<Item = OffsetDateTime> {
        let width = self.width();
        let into = now.unix_timestamp().rem_euclid(width.whole_seconds());
        let last = OffsetDateTime::from_unix_timestamp(now.unix_timestamp() - into).unwrap_or(now);
        (0..self.buckets()).rev().map(move |back| last - width * i32::from(back))
    }

    fn from(self, now: OffsetDateTime) -> OffsetDateTime {
        self.starts(now).next().unwrap_or(now)
    }
}

/// How often something took so many seconds, rounded up to two digits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seconds(BTreeMap<u32, u64>);

impl Seconds {
    fn add(&mut self, seconds: u32, times: u64) {
        *self.0.entry(seconds).or_default() += times;
    }

    /// What so many percent took at most, and no fewer.
    #[must_use]
    pub fn quantile(&self, percent: u64) -> Option<u32> {
        let all: u64 = self.0.values().sum();
        let mut so_far = 0;
        self.0.iter().find_map(|(seconds, times)| {
            so_far += times;
            (so_far * 100 >= all * percent).then_some(*seconds)
        })
    }
}

impl FromIterator<(u32, u64)> for Seconds {
    fn from_iter<I: IntoIterator<Item = (u32, u64)>>(counted: I) -> Self {
        let mut all = Self::default();
        for (seconds, times) in counted {
            all.add(seconds, times);
        }
        all
    }
}

/// What happened in a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    pub asked: u64,
    /// Sign-in mails that a mail server took.
    pub mailed: u64,
    /// Links and codes that were right.
    pub used: u64,
    /// Those that were refused, for whatever reason.
    pub refused: u64,
    /// Who was signed in at last, by the first factor.
    pub by_link: u64,
    pub by_code: u64,
    /// From asked for to signed in.
    pub sign_in: Seconds,
    /// From queued to taken, of all mails.
    pub mail: Seconds,
}

/// A share of what never is more than the whole; none of nothing.
#[expect(clippy::cast_precision_loss, reason = "counts of a month, far below 2^52")]
fn percent(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| (part as f64 * 100.0 / whole as f64).min(100.0))
}

impl Counts {
    #[must_use]
    pub fn finished(&self) -> u64 {
        self.by_link + self.by_code
    }

    /// Of a hundred that were asked for. Never over a hundred, though in a short time more may be finished than begun.
    #[must_use]
    pub fn finished_percent(&self) -> Option<f64> {
        percent(self.finished(), self.asked)
    }

    /// Links and codes that signed nobody in, as the rollout's check counts them.
    #[must_use]
    pub fn failed_percent(&self) -> Option<f64> {
        percent(self.refused, self.refused + self.used)
    }

    fn add(&mut self, name: &str, seconds: u32, value: u64) {
        match name {
            REQUESTED => self.asked += value,
            MAILED => self.mailed += value,
            REDEEMED => self.used += value,
            REFUSED => self.refused += value,
            FINISHED_BY_LINK => self.by_link += value,
            FINISHED_BY_CODE => self.by_code += value,
            SIGN_IN_SECONDS => self.sign_in.add(seconds, value),
            MAIL_SECONDS => self.mail.add(seconds, value),
            _ => {}
        }
    }
}

/// How many accounts there were at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accounts {
    pub all: u64,
    pub with_two_factor: u64,
}

impl Accounts {
    #[must_use]
    pub fn percent(self) -> Option<f64> {
        percent(self.with_two_factor, self.all)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// When it begins.
    pub at: OffsetDateTime,
    pub counts: Counts,
    /// At its end, where that was looked at.
    pub accounts: Option<Accounts>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    pub span: Span,
    pub now: OffsetDateTime,
    /// The oldest first; the last is not over. At least one.
    pub buckets: Vec<Bucket>,
    /// All of them together.
    pub whole: Counts,
    /// As long before them, where there was somebody signing in all that time.
    pub before: Option<Counts>,
    pub accounts: Option<Accounts>,
    /// When the span began.
    pub accounts_before: Option<Accounts>,
    /// The hour of the first sign-in that was ever asked for, as far back as is counted.
    pub since: Option<OffsetDateTime>,
    /// Up to when events are counted; none where nobody has begun to.
    pub counted_until: Option<OffsetDateTime>,
}

impl Overview {
    #[must_use]
    pub fn from(&self) -> OffsetDateTime {
        self.span.from(self.now)
    }
}

impl Reporting<'_> {
    /// How signing in goes.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn overview(self, span: Span) -> Result<Overview, Error> {
        let now = self.0.now();
        let (from, width) = (span.from(now), span.width());
        let begin = from - width * i32::from(span.buckets());
        let mut buckets: Vec<Bucket> =
            span.starts(now).map(|at| Bucket { at, counts: Counts::default(), accounts: None }).collect();
        let (mut whole, mut before) = (Counts::default(), Counts::default());
        for row in store::counted(&self.0.pool, begin, from, now, span.hours()).await? {
            match row.bucket {
                None => before.add(&row.name, row.seconds, row.value),
                Some(at) => {
                    whole.add(&row.name, row.seconds, row.value);
                    if let Some(bucket) = buckets.iter_mut().find(|bucket| bucket.at == at) {
                        bucket.counts.add(&row.name, row.seconds, row.value);
                    }
                }
            }
        }
        let (mut accounts, mut accounts_before) = (None, None);
        // The newest come last.
        for (at, counted) in store::accounts(&self.0.pool, begin, now, span.hours()).await? {
            if let Some(bucket) = buckets.iter_mut().find(|bucket| bucket.at == at) {
                (bucket.accounts, accounts) = (Some(counted), Some(counted));
            } else {
                accounts_before = Some(counted);
            }
        }
        let since = store::since(&self.0.pool).await?;
        Ok(Overview {
            span,
            now,
            buckets,
            whole,
            before: since.is_some_and(|since| since <= begin).then_some(before),
            accounts: accounts.or(accounts_before),
            accounts_before,
            since,
            counted_until: counted_until(&self.0.pool, now).await?,
        })
    }

    /// Looks how many accounts there are, where that is due and no other process has.
    pub(crate) async fn count_accounts(self, now: OffsetDateTime) -> sqlx::Result<()> {
        if schedule::wins(&self.0.pool, "account_counts", ACCOUNTS_EVERY, now).await? {
            store::count_accounts(&self.0.pool, now).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn buckets_begin_at_the_same_hours_each_day_and_the_last_is_under_way() {
        let now = datetime!(2026-11-24 14:40:12.5 UTC);
        for (span, from, last) in [
            (Span::Day, datetime!(2026-11-23 15:00 UTC), datetime!(2026-11-24 14:00 UTC)),
            (Span::Week, datetime!(2026-11-17 18:00 UTC), datetime!(2026-11-24 12:00 UTC)),
            (Span::Month, datetime!(2026-10-26 00:00 UTC), datetime!(2026-11-24 00:00 UTC)),
        ] {
            let starts: Vec<OffsetDateTime> = span.starts(now).collect();
            assert_eq!((starts[0], starts[starts.len() - 1]), (from, last), "{span:?}");
            assert_eq!(starts.len(), usize::from(span.buckets()));
            assert!(starts.windows(2).all(|two| two[1] - two[0] == span.width()));
            assert_eq!(span.from(last), from, "on the hour the next bucket begins");
            assert_eq!(Span::parse(span.as_str()), Some(span));
        }
        assert_eq!(Span::parse("24H"), None);
    }

    #[test]
    fn a_quantile_is_what_so_many_took_at_most() {
        let all: Seconds = [(1, 90), (2, 4), (74, 6)].into_iter().collect();
        assert_eq!([50, 90, 91, 94, 95, 100].map(|percent| all.quantile(percent)), [1, 1, 2, 2, 74, 74].map(Some));
        let one: Seconds = [(31, 1)].into_iter().collect();
        assert_eq!([0, 50, 100].map(|percent| one.quantile(percent)), [Some(31); 3]);
        let two: Seconds = [(1, 1), (9, 1)].into_iter().collect();
        assert_eq!(two.quantile(50), Some(1), "the lower of two, as PostgreSQL's percentile_disc");
        assert_eq!(Seconds::default().quantile(50), None);
    }

    #[test]
    fn nothing_has_no_share_and_no_share_is_over_a_hundred() {
        let counts = |asked, by_link, by_code| Counts { asked, by_link, by_code, ..Counts::default() };
        assert_eq!(counts(0, 0, 0).finished_percent(), None);
        assert_eq!(counts(0, 2, 0).finished_percent(), None, "finished in this hour, asked for in the one before");
        assert_eq!(counts(4, 1, 2).finished_percent(), Some(75.0));
        assert_eq!(counts(4, 5, 2).finished_percent(), Some(100.0));
        assert_eq!(Counts { used: 19, refused: 1, ..Counts::default() }.failed_percent(), Some(5.0));
        assert_eq!(Counts::default().failed_percent(), None);
    }
}
