//! How many pages of one network are made at a time. Its other requests wait, in the order they came.
//!
//! Tasks run in the order they become ready: without this, thousands of requests that one network has sent at once, on as many
//! connections, stand before everybody else's. Posts have the [`shield`](super::shield), which refuses.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::response::Response;
use tokio::sync::Semaphore;

use super::network;

/// A page takes a few milliseconds, so that an office behind one address gets thousands a second.
const AT_ONCE: usize = 32;

/// The networks that wait or are served, and no others.
#[derive(Default)]
pub struct FairShare(Mutex<HashMap<IpAddr, Arc<Semaphore>>>);

impl FairShare {
    /// Awaits the answer in the network's turn.
    pub async fn within(&self, client: IpAddr, answer: impl Future<Output = Response>) -> Response {
        let place = self.place(network(client));
        let _turn = place.turns.acquire().await.expect("nobody closes the semaphore");
        // A page that waits for nothing is made within one poll, and hyper makes up to sixteen of a connection in a row: no other request of
        // the network would meet a turn that is taken, and thousands of connections would stand in the worker's own queue. Holding the turn
        // while others run, all but a few of them wait here.
        tokio::task::yield_now().await;
        answer.await
    }

    fn place(&self, network: IpAddr) -> Place<'_> {
        let turns = self.networks().entry(network).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE))).clone();
        Place { all: self, network, turns }
    }

    fn networks(&self) -> MutexGuard<'_, HashMap<IpAddr, Arc<Semaphore>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request's, from its wait to the end of its answer, however that ends.
struct Place<'a> {
    all: &'a FairShare,
    network: IpAddr,
    turns: Arc<Semaphore>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut networks = self.all.networks();
        // The table's own and this one: nobody else of the network is here.
        if Arc::strong_count(&self.turns) == 2 {
            networks.remove(&self.network);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use std::{future::pending, time::Duration};

    use axum::response::IntoResponse as _;
    use tokio::{task::JoinSet, time::timeout};

    use super::*;

    fn client(address: &str) -> IpAddr {
        address.parse().expect("an address")
    }

    async fn is_served(share: &FairShare, address: &str) -> bool {
        let answer = share.within(client(address), async { "".into_response() });
        timeout(Duration::from_millis(1), answer).await.is_ok()
    }

    /// On one thread, which runs what is ready in its order.
    #[tokio::test]
    async fn thousands_of_requests_that_wait_for_nothing_stand_before_nobody_elses() {
        let (share, made) = (Arc::new(FairShare::default()), Arc::new(AtomicUsize::new(0)));
        let crowd = (0..1_000).map(|_| {
            let (share, made) = (share.clone(), made.clone());
            tokio::spawn(async move {
                for _ in 0..200 {
                    let page = async {
                        made.fetch_add(1, Ordering::Relaxed);
                        Response::default()
                    };
                    share.within([192, 0, 2, 1].into(), page).await;
                }
            })
        });
        let crowd: Vec<_> = crowd.collect();
        let other = tokio::spawn({
            let share = share.clone();
            async move { share.within([198, 51, 100, 7].into(), async { Response::default() }).await }
        });
        other.await.expect("answered");
        let before = made.load(Ordering::Relaxed);
        assert!(before <= 4 * AT_ONCE, "{before} of the crowd's before it");
        crowd.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_that_fills_its_share_waits_and_no_other_does() {
        let share = Arc::new(FairShare::default());
        let mut busy = JoinSet::new();
        for host in 0..AT_ONCE {
            let share = share.clone();
            let address = format!("2001:db8:0:1::{host:x}");
            busy.spawn(async move { share.within(client(&address), pending()).await });
        }
        while share.networks().values().all(|turns| turns.available_permits() > 0) {
            tokio::task::yield_now().await;
        }
        assert!(!is_served(&share, "2001:db8:0:1:ffff::9").await, "the same /64");
        assert!(is_served(&share, "2001:db8:0:2::1").await && is_served(&share, "192.0.2.7").await);
        assert_eq!(share.networks().len(), 1, "who was served is forgotten");

        busy.abort_all();
        while busy.join_next().await.is_some() {}
        assert!(is_served(&share, "2001:db8:0:1::1").await);
        assert!(share.networks().is_empty());
    }
}
