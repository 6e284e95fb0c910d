//! How many sign-in mails each network asks for, and which ask for too many: over a hundred in an hour is no household.
//!
//! Not here: what refuses them (`throttle`).
//! To add one: a threshold here, its statement in `store.rs`.
//!
//! Unlike a limit this refuses nothing, and counts what limits refused, too. Requests are counted in memory and added to the shared
//! table now and then, so a request costs no statement; a process that dies forgets the last half minute.

mod store;

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use time::{Duration, OffsetDateTime};

use crate::{
    Error, RequestLimits,
    event::{Event, UnitOfWork},
    limits::throttle::Subject,
    policy::limits::Limit,
};

/// More in an hour from one network is told of.
pub const TOO_MANY: i64 = 100;
const WINDOW: Duration = Duration::hours(1);
/// Networks counted between two times of adding up. More than these at once is an attack by a botnet, in which no single network
/// stands out; what is counted of it is enough.
const MOST_NETWORKS: usize = 10_000;
/// Networks told of at once.
const MOST_TOLD: i64 = 20;

/// A network, and how many mails it asked for within the hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkRequests {
    pub network: String,
    pub requests: i64,
}

/// What was counted and not yet added up.
#[derive(Default)]
pub(crate) struct Tally(Mutex<HashMap<String, i64>>);

impl Tally {
    pub fn count(&self, network: String) {
        let mut tally = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tally.len() < MOST_NETWORKS || tally.contains_key(&network) {
            *tally.entry(network).or_default() += 1;
        }
    }

    fn take(&self) -> HashMap<String, i64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put_back(&self, counted: HashMap<String, i64>) {
        let mut tally = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (network, requests) in counted {
            *tally.entry(network).or_default() += requests;
        }
    }
}

impl RequestLimits<'_> {
    /// Adds up what this process has counted, publishes the busiest network's number, and records each network that asks for too
    /// many: once an hour, by whichever process finds it first.
    ///
    /// # Errors
    /// When the database does not answer. What was counted is added up next time.
    pub async fn watch_request_bursts(self) -> Result<(), Error> {
        let now = self.0.now();
        let counted = self.0.tally.take();
        if let Err(error) = store::add(&self.0.pool, &counted, now).await {
            self.0.tally.put_back(counted);
            return Err(error.into());
        }
        let busiest = self.busiest_networks(MOST_TOLD).await?;
        let most = busiest.first().map_or(0, |network| network.requests);
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        metrics::gauge!("auth_magiclink_requests_max_per_ip").set(most as f64);
        for NetworkRequests { network, requests } in busiest {
            if requests > TOO_MANY {
                self.tell_of(network, requests, now).await?;
            }
        }
        Ok(())
    }

    async fn tell_of(self, network: String, requests: i64, now: OffsetDateTime) -> sqlx::Result<()> {
        let mut work = UnitOfWork::begin(&self.0.pool, None, now).await?;
        let charge = self.0.limits().throttle().charge(Limit::Notice, Subject::Network(&network));
        if self.0.limits().throttle().once(work.connection(), charge, now).await? {
            tracing::warn!(network, requests, limit = TOO_MANY, "network.too_many_requests");
            work.record(Event::NetworkTooManyRequests { network, requests });
        }
        work.commit().await
    }

    /// The networks that asked for the most sign-in mails in the last hour, the busiest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn busiest_networks(self, most: i64) -> Result<Vec<NetworkRequests>, Error> {
        Ok(store::busiest(&self.0.pool, self.0.now() - WINDOW, most).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_botnet_does_not_fill_the_memory() {
        let tally = Tally::default();
        for n in 0..MOST_NETWORKS + 500 {
            tally.count(n.to_string());
        }
        tally.count("0".to_owned());
        let counted = tally.take();
        assert_eq!((counted.len(), counted["0"]), (MOST_NETWORKS, 2), "those already known go on being counted");
        assert!(tally.take().is_empty());
        tally.put_back(counted);
        tally.count("0".to_owned());
        assert_eq!(tally.take()["0"], 3);
    }
}
