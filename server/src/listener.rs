//! The sockets: how clients get in, what a connection may take and how long, and how the process ends politely.
//!
//! `axum::serve` sets none of these limits, so this is its loop with them (F28), HTTP/1.1 only: what speaks HTTP/2 to
//! browsers is the proxy in front, and the protocol's own attacks stay with it.

mod clock;
mod socket;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::ConnectInfo, response::Response};
use http::{HeaderValue, Request, header::CONNECTION};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};
use tower::Service as _;

use self::{clock::HeadClock, socket::Socket};

#[derive(Clone, Copy)]
struct Bounds {
    connections: usize,
    /// From a request's first byte (or the connection's begin) to the end of its headers.
    head_within: Duration,
    head_bytes: usize,
    /// Between two requests. Longer than a proxy keeps its end (nginx: 60 s), so that it is the proxy that closes, and no
    /// request meets a connection that is just being closed.
    idle: Duration,
    /// Without a single byte of the answer taken.
    stalled: Duration,
    /// From the stop signal on, clients are still let in and sent away with `Connection: close`: nobody is reset whose
    /// request was on its way.
    farewell: Duration,
    /// For requests in flight after that; as long as a request may take.
    finish_within: Duration,
}

const BOUNDS: Bounds = Bounds {
    connections: 4096,
    head_within: Duration::from_secs(10),
    head_bytes: 16 * 1024,
    idle: Duration::from_secs(75),
    stalled: Duration::from_secs(30),
    farewell: Duration::from_millis(500),
    finish_within: Duration::from_secs(10),
};

/// Read and write buffer of a connection at most. hyper's own limit of 400 KiB times all connections is too much memory.
const BUFFER_BYTES: usize = 64 * 1024;

/// How long a connection we closed is still read from, see [`Socket::close`].
const LINGER: Duration = Duration::from_secs(1);

/// Between two tries to make room or to accept: short enough to go unnoticed, long enough not to burn a core.
const PAUSE: Duration = Duration::from_millis(10);

/// Serves `app` until `shutdown` resolves and the requests in flight are answered.
pub async fn serve(listener: TcpListener, app: Router, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    serve_within(BOUNDS, listener, app, shutdown).await
}

async fn serve_within(bounds: Bounds, listener: TcpListener, app: Router, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    // Asked here, so that a listener that is none fails at the start.
    listener.local_addr()?;
    let house = Arc::new(House::new(bounds, app));
    let mut tasks = JoinSet::new();

    tokio::select! {
        () = let_in(&house, &listener, &mut tasks) => {}
        () = shutdown => {}
    }
    house.closing.store(true, Ordering::Relaxed);
    if !tasks.is_empty() {
        let _ = timeout(bounds.farewell, let_in(&house, &listener, &mut tasks)).await;
    }
    drop(listener);

    house.finish_all();
    let deadline = Instant::now() + bounds.finish_within;
    while let Ok(Some(_)) = timeout_at(deadline, tasks.join_next()).await {}
    if !tasks.is_empty() {
        tracing::warn!(connections = tasks.len(), "cut off requests that did not finish in time");
    }
    Ok(())
}

/// Accepts for ever; safe to drop at any point.
async fn let_in(house: &Arc<House>, listener: &TcpListener, tasks: &mut JoinSet<()>) {
    loop {
        let place = house.make_room().await;
        match listener.accept().await {
            Ok((stream, peer)) => {
                while tasks.try_join_next().is_some() {}
                let guest = Guest::arrive(house.clone(), place);
                tasks.spawn(guest.talk(stream, peer));
            }
            // The client went away before we came to it.
            Err(error) if is_of_the_connection(&error) => {}
            // Out of file descriptors or memory: what helps is fewer connections.
            Err(error) => {
                tracing::error!(%error, "cannot accept connections");
                house.finish_oldest();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

/// What all connections share.
struct House {
    bounds: Bounds,
    app: Router,
    places: Arc<Semaphore>,
    /// The open connections in the order they came, and how to ask each to finish.
    guests: Mutex<Guests>,
    closing: AtomicBool,
}

#[derive(Default)]
struct Guests {
    next: u64,
    open: BTreeMap<u64, Arc<Notify>>,
}

impl House {
    fn new(bounds: Bounds, app: Router) -> Self {
        Self {
            bounds,
            app,
            places: Arc::new(Semaphore::new(bounds.connections)),
            guests: Mutex::default(),
            closing: AtomicBool::new(false),
        }
    }

    /// Waits for a free place. With none free the oldest connections are asked to finish, one after the other: idle ones
    /// do at once, busy ones after their answer. So a crowd that only holds connections open keeps nobody out.
    async fn make_room(&self) -> OwnedSemaphorePermit {
        let mut place = pin!(self.places.clone().acquire_owned());
        loop {
            if self.places.available_permits() == 0 {
                self.finish_oldest();
            }
            if let Ok(place) = timeout(PAUSE, &mut place).await {
                return place.expect("nobody closes the semaphore");
            }
        }
    }

    fn finish_oldest(&self) {
        // Taken out of the list, so that the next one asked is another.
        if let Some((_, finish)) = self.guests().open.pop_first() {
            finish.notify_one();
        }
    }

    fn finish_all(&self) {
        for finish in self.guests().open.values() {
            finish.notify_one();
        }
    }

    fn guests(&self) -> std::sync::MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection, on the list as long as it lives.
struct Guest {
    house: Arc<House>,
    number: u64,
    finish: Arc<Notify>,
    _place: OwnedSemaphorePermit,
}

impl Guest {
    fn arrive(house: Arc<House>, place: OwnedSemaphorePermit) -> Self {
        let finish = Arc::new(Notify::new());
        let mut guests = house.guests();
        let number = guests.next;
        guests.next += 1;
        guests.open.insert(number, finish.clone());
        drop(guests);
        Self { house, number, finish, _place: place }
    }

    async fn talk(self, stream: TcpStream, peer: SocketAddr) {
        let bounds = self.house.bounds;
        // An answer is written whole; waiting to fill a packet would only delay it. Failing is no reason not to serve.
        let _ = stream.set_nodelay(true);
        let clock = HeadClock::new(bounds.head_within, bounds.idle);
        let mut socket = Socket::new(stream, bounds.stalled, clock.arrivals());
        let (outcome, asked_to_finish) = {
            let mut http = http1::Builder::new();
            http.timer(clock).header_read_timeout(bounds.head_within).max_header_size(bounds.head_bytes).max_buf_size(BUFFER_BYTES);
            let service = service_fn(|request| self.answer(request, peer));
            let mut connection = pin!(http.serve_connection(TokioIo::new(&mut socket), service));
            tokio::select! {
                outcome = connection.as_mut() => (outcome, false),
                () = self.finish.notified() => {
                    connection.as_mut().graceful_shutdown();
                    (connection.await, true)
                }
            }
        };
        if let Err(error) = outcome {
            // Time-outs, resets and what is not HTTP: the daily weather, and nothing of ours.
            tracing::debug!(%error, "a connection ended early");
        }
        // Others wait for the place of one that was asked to finish.
        if !asked_to_finish {
            tokio::select! {
                () = socket.close(LINGER) => {}
                () = self.finish.notified() => {}
            }
        }
    }

    async fn answer(&self, mut request: Request<Incoming>, peer: SocketAddr) -> Result<Response, Infallible> {
        request.extensions_mut().insert(ConnectInfo(peer));
        let mut response = self.house.app.clone().call(request).await?;
        if self.house.closing.load(Ordering::Relaxed) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.house.guests().open.remove(&self.number);
    }
}

#[cfg(test)]
mod test;
