//! How many mails the mail server was measured to take, and so how long those that wait will.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use time::OffsetDateTime;

/// How often it is measured.
pub(crate) const EVERY: Duration = Duration::from_secs(5);
/// What is looked back at: long enough for a slow server to take a few, short enough to notice when it becomes faster.
pub(crate) const LOOK_BACK: Duration = Duration::from_mins(2);
/// A measurement is of use for so long. After that the database did not answer, or no worker runs.
const FRESH: time::Duration = time::Duration::minutes(1);
/// So few that wait are no backlog, however slow the server.
const FEW: i64 = 100;

/// What went out while something waited all the time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// Mails that strangers can ask for, and that are of use still.
    pub waiting: i64,
    /// Mails that a mail server took, or refused for good, …
    pub settled: i64,
    /// … within this time.
    pub over: Duration,
    pub at: OffsetDateTime,
}

/// What this process has measured last.
#[derive(Default)]
pub(crate) struct Pace(Mutex<Option<Measured>>);

impl Pace {
    pub fn set(&self, measured: Option<Measured>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = measured;
    }

    /// How long the mails of strangers take to go out that wait now. Nothing where no mail waits for a connection, so that nothing can be
    /// measured; nor where none goes out at all: the mail server is away, nobody knows for how long, and mail is tried again.
    pub fn backlog(&self, now: OffsetDateTime) -> Duration {
        let measured = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match measured.filter(|measured| now - measured.at < FRESH && measured.waiting > FEW) {
            Some(Measured { waiting, settled: settled @ 1.., over, .. }) => {
                let micros = over.as_micros() * u128::from(waiting.unsigned_abs()) / u128::from(settled.unsigned_abs());
                Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
            }
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-24 14:29 UTC);

    #[test]
    fn a_backlog_is_what_waits_at_the_rate_that_was_measured() {
        let (pace, minute) = (Pace::default(), Duration::from_mins(1));
        assert_eq!(pace.backlog(NOW), Duration::ZERO);
        for (waiting, settled, seconds) in [(6_000, 1_200, 300), (6_000, 60, 6_000), (100, 1, 0), (6_000, 0, 0)] {
            pace.set(Some(Measured { waiting, settled, over: minute, at: NOW }));
            assert_eq!(pace.backlog(NOW), Duration::from_secs(seconds), "{waiting} {settled}");
            assert_eq!(pace.backlog(NOW + minute), Duration::ZERO, "long ago");
        }
    }
}
