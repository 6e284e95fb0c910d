//! The cheap first limit: a network that posts faster than any person is turned away before it costs a query.
//!
//! It knows this process only and forgets at a restart; the limits that policy rests on are kept in PostgreSQL (A10).

use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use axum::{
    extract::Request,
    response::{IntoResponse as _, Response},
};
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::keyed::DashMapStateStore,
};
use http::{StatusCode, header::RETRY_AFTER};

use super::{network, reads, seconds_up};

/// Far above what an office behind one address does, far below what wears the database out.
const QUOTA: Quota = Quota::per_second(NonZeroU32::new(50).expect("not zero")).allow_burst(NonZeroU32::new(200).expect("not zero"));

/// A network is forgotten once its burst is whole again (four seconds), but only by a sweep.
const CHECKS_PER_SWEEP: u32 = 1024;

type Limiter<C> = RateLimiter<IpAddr, DashMapStateStore<IpAddr>, C, NoOpMiddleware<<C as Clock>::Instant>>;

#[derive(Clone)]
pub struct Shield<C: Clock = DefaultClock>(Option<Arc<Inner<C>>>);

struct Inner<C: Clock> {
    limiter: Limiter<C>,
    clock: C,
    checks: AtomicU32,
}

impl Shield {
    pub fn on() -> Self {
        Self::with_clock(DefaultClock::default())
    }

    /// For `LIMITS=off`.
    pub fn off() -> Self {
        Self(None)
    }
}

impl<C: Clock + Clone> Shield<C> {
    fn with_clock(clock: C) -> Self {
        let limiter = RateLimiter::dashmap_with_clock(QUOTA, clock.clone());
        Self(Some(Arc::new(Inner { limiter, clock, checks: AtomicU32::new(0) })))
    }

    /// The answer to one request too many.
    pub fn refuse(&self, client: IpAddr, request: &Request) -> Option<Response> {
        self.0.as_ref().filter(|_| !reads(request))?.check(client)
    }
}

impl<C: Clock> Inner<C> {
    fn check(&self, client: IpAddr) -> Option<Response> {
        // Memory holds the networks of the last four seconds and of one sweep's checks, however many send.
        if self.checks.fetch_add(1, Ordering::Relaxed) % CHECKS_PER_SWEEP == CHECKS_PER_SWEEP - 1 {
            self.limiter.retain_recent();
        }
        let until = self.limiter.check_key(&network(client)).err()?;
        metrics::counter!("rate_limited_total", "limit" => "shield").increment(1);
        let wait = seconds_up(until.wait_time_from(self.clock.now()));
        Some((StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, wait.to_string())]).into_response())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::{Router, body::Body, routing::any};
    use governor::clock::FakeRelativeClock;
    use http::Method;

    use super::*;
    use crate::http::middleware::test::{guarded, send};

    fn app(shield: Shield<FakeRelativeClock>) -> Router {
        guarded(Router::new().route("/", any(|| async {})), move |request| {
            let client: &IpAddr = request.extensions().get().expect("a client");
            shield.refuse(*client, request)
        })
    }

    async fn answer(app: &Router, method: Method, client: &str) -> Response {
        let mut request = Request::builder().method(method).uri("/").body(Body::empty()).expect("valid");
        request.extensions_mut().insert(client.parse::<IpAddr>().expect("an address"));
        send(app, request).await
    }

    async fn posts_until_refused(app: &Router, client: &str) -> usize {
        for count in 0..1000 {
            if answer(app, Method::POST, client).await.status() == StatusCode::TOO_MANY_REQUESTS {
                return count;
            }
        }
        1000
    }

    #[tokio::test]
    async fn a_burst_then_fifty_a_second() {
        let clock = FakeRelativeClock::default();
        let app = app(Shield::with_clock(clock.clone()));
        assert_eq!(posts_until_refused(&app, "192.0.2.7").await, 200);
        let response = answer(&app, Method::POST, "192.0.2.7").await;
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        clock.advance(Duration::from_secs(1));
        assert_eq!(posts_until_refused(&app, "192.0.2.7").await, 50);
    }

    #[tokio::test]
    async fn by_network_and_only_what_may_change_something() {
        let app = app(Shield::with_clock(FakeRelativeClock::default()));
        assert_eq!(posts_until_refused(&app, "2001:db8:0:1::7").await, 200);
        assert_eq!(posts_until_refused(&app, "2001:db8:0:1:ffff::9").await, 0, "the same /64");
        assert_eq!(posts_until_refused(&app, "2001:db8:0:2::7").await, 200, "another");
        assert_eq!(answer(&app, Method::GET, "2001:db8:0:1::7").await.status(), 200);
    }

    #[tokio::test]
    async fn off_lets_everything_through() {
        assert_eq!(posts_until_refused(&app(Shield(None)), "192.0.2.7").await, 1000);
    }

    #[tokio::test]
    async fn a_flood_from_everywhere_is_forgotten() {
        let clock = FakeRelativeClock::default();
        let shield = Shield::with_clock(clock.clone());
        let app = app(shield.clone());
        let limiter = &shield.0.as_ref().expect("on").limiter;
        for client in 0..20_000_u32 {
            answer(&app, Method::POST, &std::net::Ipv4Addr::from_bits(0x0a00_0000 + client).to_string()).await;
            clock.advance(Duration::from_millis(2));
            // Four seconds of one every 2 ms, and one sweep's worth.
            assert!(limiter.len() <= 2000 + 1024 + 1, "{} after {client}", limiter.len());
        }
    }
}
