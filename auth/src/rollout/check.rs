//! What stops a rollout. Each check is one number over data that all instances share, and a limit.
//!
//! To add one: a variant, whose fault it can be, its limit, how it is measured (`store.rs`), its words (`app`), its row in
//! `docs/rollout.md`.

use time::{Duration, OffsetDateTime};

use crate::policy::checks::Check;

/// A condition of ours that is this long over its limit turns the flag off.
pub(super) const SUSTAINED: Duration = Duration::minutes(10);
/// A reading that nobody has made anew for this long says nothing any more.
const STALE: Duration = Duration::minutes(5);
/// From here on a check is close to its limit.
const CLOSE: f64 = 0.8;

/// What a check said last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    pub check: Check,
    /// `None`: too little happened to say.
    pub value: Option<f64>,
    pub over_since: Option<OffsetDateTime>,
    pub checked_at: OffsetDateTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    NoData,
    Ok,
    Close,
    Over,
}

impl Reading {
    /// What it still says at that time.
    #[must_use]
    pub fn at(self, now: OffsetDateTime) -> Self {
        if self.checked_at + STALE < now { Self { value: None, over_since: None, ..self } } else { self }
    }

    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let limit = self.check.limit();
        match self.value {
            None => Verdict::NoData,
            Some(value) if value > limit => Verdict::Over,
            Some(value) if limit > 0.0 && value > limit * CLOSE => Verdict::Close,
            Some(_) => Verdict::Ok,
        }
    }

    /// Whether it is bad enough to turn the flag off.
    pub(super) fn rolls_back(&self, now: OffsetDateTime) -> bool {
        self.check.is_ours()
            && self.verdict() == Verdict::Over
            && (self.value.is_some_and(|value| self.check.is_severe(value))
                || self.over_since.is_some_and(|since| since <= now - SUSTAINED))
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-24 14:29 UTC);

    fn reading(check: Check, value: f64, over: Duration) -> Reading {
        Reading { check, value: Some(value), over_since: Some(NOW - over), checked_at: NOW }
    }

    #[test]
    fn no_data_is_never_ok() {
        for &check in Check::ALL {
            let reading = Reading { check, value: None, over_since: None, checked_at: NOW };
            assert_eq!(reading.verdict(), Verdict::NoData);
        }
    }

    #[test]
    fn what_nobody_makes_anew_says_nothing() {
        let over = reading(Check::MailDelay, 74.0, Duration::minutes(12));
        assert_eq!(over.at(NOW + STALE), over);
        let stale = over.at(NOW + STALE + Duration::microseconds(1));
        assert_eq!((stale.verdict(), stale.over_since, stale.checked_at), (Verdict::NoData, None, NOW));
    }

    #[test]
    fn at_its_limit_it_is_close_and_past_it_over() {
        for (value, verdict) in [(4.0, Verdict::Ok), (4.01, Verdict::Close), (5.0, Verdict::Close), (5.01, Verdict::Over)] {
            assert_eq!(reading(Check::FailedVerifications, value, Duration::ZERO).verdict(), verdict, "{value}");
        }
        assert_eq!(reading(Check::Keys, 0.0, Duration::ZERO).verdict(), Verdict::Ok, "a limit of nothing is not close to nothing");
    }

    #[test]
    fn strangers_never_roll_back_however_bad_and_long_it_is() {
        for &check in Check::ALL {
            let worst = reading(check, 1_000_000.0, Duration::days(30));
            assert_eq!(worst.rolls_back(NOW), check.is_ours(), "{check:?}");
        }
    }

    #[test]
    fn ours_roll_back_when_sustained_or_severe() {
        for (check, value, over, back) in [
            (Check::ServerErrors, 2.0, SUSTAINED - Duration::microseconds(1), false),
            (Check::ServerErrors, 2.0, SUSTAINED, true),
            (Check::ServerErrors, 10.1, Duration::ZERO, true),
            (Check::ServerErrors, 1.0, Duration::days(1), false),
            (Check::Audit, 1.0, Duration::minutes(9), false),
            (Check::Audit, 1.0, SUSTAINED, true),
            (Check::MailStuck, 3.0, Duration::minutes(9), false),
            (Check::MailStuck, 50.0, Duration::ZERO, true),
            (Check::Keys, 1.0, SUSTAINED, true),
        ] {
            assert_eq!(reading(check, value, over).rolls_back(NOW), back, "{check:?} {value}");
        }
    }

    #[test]
    fn each_check_is_documented_with_its_limit() {
        let document = include_str!("../../../docs/rollout.md");
        for &check in Check::ALL {
            let row = document.lines().find(|line| line.starts_with(&format!("| `{}` |", check.as_str())));
            let row = row.unwrap_or_else(|| panic!("no row for {}", check.as_str()));
            assert!(row.contains(&format!("| {} |", check.limit())), "{row}");
            assert!(row.contains(if check.is_ours() { "turns it off" } else { "holds" }), "{row}");
        }
    }
}
