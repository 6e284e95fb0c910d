use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use auth::primitives::clock::Clock;
use time::{Duration, OffsetDateTime, macros::datetime};

/// A clock that stands still until it is moved. Clones are one clock.
#[derive(Clone)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    pub fn advance(&self, by: Duration) {
        let micros = i64::try_from(by.whole_microseconds()).expect("tests move the clock by days, not by millennia");
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self(Arc::new(AtomicI64::new(datetime!(2026-11-24 14:29:00 UTC).unix_timestamp() * 1_000_000)))
    }
}

impl Clock for ManualClock {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::microseconds(self.0.load(Ordering::SeqCst))
    }
}
