//! Two time limits where hyper knows one.
//!
//! hyper starts its clock for a request's headers when it begins to wait for them, which for every request but the first
//! is when the connection falls idle. One limit would be too long for a client that sends its headers byte by byte, or
//! too short for a proxy that keeps its connection for the next visitor. So the clock runs for the idle time, and starts
//! anew, for the headers' time, at the first byte.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::rt::{Sleep, Timer};

/// A connection's timer, to be given to hyper for nothing but the header time-out.
#[derive(Clone)]
pub struct HeadClock {
    limit: Duration,
    idle: Duration,
    /// How many reads of the socket brought something.
    arrivals: Arc<AtomicU64>,
}

impl HeadClock {
    pub fn new(limit: Duration, idle: Duration) -> Self {
        Self { limit, idle, arrivals: Arc::default() }
    }

    pub fn note_arrival(&self) {
        self.arrivals.fetch_add(1, Relaxed);
    }
}

impl Timer for HeadClock {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        // A new connection brings a request; only after it there is something like being idle.
        let idle_since = Some(self.arrivals.load(Relaxed)).filter(|arrived| *arrived > 0);
        let deadline = if idle_since.is_some() { self.now() + self.idle } else { deadline };
        Box::pin(Head { clock: self.clone(), idle_since, sleep: Box::pin(tokio::time::sleep_until(deadline.into())) })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

struct Head {
    clock: HeadClock,
    /// The arrivals when the connection fell idle; `None` once headers are being sent.
    idle_since: Option<u64>,
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl Sleep for Head {}

impl Future for Head {
    type Output = ();

    /// hyper polls after every read that did not complete the headers.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.idle_since.is_some_and(|idle_since| idle_since != self.clock.arrivals.load(Relaxed)) {
            self.idle_since = None;
            let deadline = tokio::time::Instant::now() + self.clock.limit;
            self.sleep.as_mut().reset(deadline);
        }
        self.sleep.as_mut().poll(context)
    }
}
