//! Time is an input. Rules take `now`; operations read the clock once and pass it on, to SQL too (`$now`, never `now()`).

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};

use sqlx::PgPool;
use time::{Duration, OffsetDateTime};

/// Where "now" comes from. Tests bring a clock of their own and move it; a release binary has only [`SystemClock`].
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> OffsetDateTime;
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> OffsetDateTime {
        (**self).now()
    }
}

/// A look is wrong by half of its round trip at most, so the quickest of some is taken.
const LOOKS: u8 = 3;

/// The system's monotonic clock, set by the database's.
///
/// Two instances whose wall clocks disagree must still agree on when a link expires, and a wall clock that jumps must not
/// lengthen a lifetime. So the wall clock is read once, at start; after that only [`SystemClock::sync`] moves the offset.
pub struct SystemClock {
    start: Instant,
    /// Microseconds since the Unix epoch at `start`.
    base: AtomicI64,
}

impl SystemClock {
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clocks")]
    pub fn new() -> Self {
        let wall = OffsetDateTime::now_utc();
        Self { start: Instant::now(), base: AtomicI64::new(unix_micros(wall)) }
    }

    /// Takes over the database's time, and returns how far this clock was off.
    ///
    /// # Errors
    /// When the database does not answer; the clock then goes on as it was.
    pub async fn sync(&self, pool: &PgPool) -> sqlx::Result<Duration> {
        // Before the first look: a connection may be waited for, and half of that wait would be taken for a clock that is off.
        let mut connection = pool.acquire().await?;
        let mut best = (std::time::Duration::MAX, 0);
        for _ in 0..LOOKS {
            let (asked, looked) = (self.start.elapsed(), Instant::now());
            let database = sqlx::query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(&mut *connection).await?;
            let round_trip = looked.elapsed();
            // The database read its clock about half-way through the round trip.
            let read_at = i64::try_from((asked + round_trip / 2).as_micros()).unwrap_or(i64::MAX);
            best = best.min((round_trip, unix_micros(database) - read_at));
        }
        let (_, base) = best;
        let before = self.base.swap(base, Ordering::Relaxed);
        Ok(Duration::microseconds(base - before))
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> OffsetDateTime {
        let elapsed = i64::try_from(self.start.elapsed().as_micros()).unwrap_or(i64::MAX);
        let micros = self.base.load(Ordering::Relaxed).saturating_add(elapsed);
        // Whole microseconds, as PostgreSQL keeps them: a time read back equals the time written.
        OffsetDateTime::UNIX_EPOCH + Duration::microseconds(micros)
    }
}

fn unix_micros(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}
