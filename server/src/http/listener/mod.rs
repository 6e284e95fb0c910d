//! The sockets: how clients get in, what a connection may take and how long, and how the process ends without resetting anybody.
//!
//! Not here: what a request may take once its headers are read (`middleware`). HTTP/1.1 only: the proxy in front speaks HTTP/2 to browsers,
//! and that protocol's own attacks stay with it.
//! To add a limit: a field of [`Bounds`], where it is kept, and a test against the paused clock. What each part is for, and why no library
//! does it: `docs/adr/0019-our-own-listener.md`.

mod clock;
mod socket;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::ConnectInfo,
    response::{IntoResponse, Response},
};
use http::{
    HeaderValue, Request, StatusCode, Version,
    header::{CONNECTION, HOST},
};
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
use super::line::{Line, line};

#[derive(Clone, Copy)]
struct Bounds {
    connections: usize,
    /// Of one connection; its last answer closes it. So a load balancer spreads clients anew now and then.
    requests: u32,
    /// From a request's first byte (or the connection's begin) to the end of its headers.
    head_within: Duration,
    head_bytes: usize,
    /// Between two requests. Longer than a proxy keeps its end (nginx: 60 s), so that it is the proxy that closes, and no
    /// request meets a connection that is just being closed.
    idle: Duration,
    /// Without a single byte of the answer taken.
    stalled: Duration,
    /// From the stop signal on, clients are still accepted, and answered with `Connection: close`, so that no request on its way meets
    /// a reset.
    farewell: Duration,
    /// For requests in flight after that; as long as a request may take.
    finish_within: Duration,
}

const BOUNDS: Bounds = Bounds {
    connections: 4096,
    // nginx closes its connections after as many.
    requests: 1000,
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
    // Asked here, so that a socket that doesn't listen fails at the start.
    listener.local_addr()?;
    let connections = Arc::new(Connections::new(bounds, app));
    let mut tasks = JoinSet::new();

    tokio::select! {
        () = let_in(&connections, &listener, &mut tasks) => {}
        () = shutdown => {}
    }
    connections.closing.store(true, Ordering::Relaxed);
    if !tasks.is_empty() {
        let _ = timeout(bounds.farewell, let_in(&connections, &listener, &mut tasks)).await;
    }
    drop(listener);

    connections.finish_all();
    let deadline = Instant::now() + bounds.finish_within;
    while let Ok(Some(_)) = timeout_at(deadline, tasks.join_next()).await {}
    if !tasks.is_empty() {
        tracing::warn!(connections = tasks.len(), "cut off requests that did not finish in time");
    }
    Ok(())
}

/// Accepts for ever; safe to drop at any point.
async fn let_in(connections: &Arc<Connections>, listener: &TcpListener, tasks: &mut JoinSet<()>) {
    loop {
        let place = connections.make_room().await;
        match listener.accept().await {
            Ok((stream, peer)) => {
                while tasks.try_join_next().is_some() {}
                tasks.spawn(Connection::new(connections.clone(), place).talk(stream, peer));
            }
            // The client went away before we came to it.
            Err(error) if is_of_the_connection(&error) => {}
            // Out of file descriptors or memory: what helps is fewer connections.
            Err(error) => {
                tracing::error!(%error, "cannot accept connections");
                connections.finish_oldest();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

/// What all connections share.
struct Connections {
    bounds: Bounds,
    app: Router,
    places: Arc<Semaphore>,
    /// The open connections in the order they came, and how to ask each to finish.
    open: Mutex<Open>,
    closing: AtomicBool,
}

#[derive(Default)]
struct Open {
    next: u64,
    finish: BTreeMap<u64, Arc<Notify>>,
}

impl Connections {
    fn new(bounds: Bounds, app: Router) -> Self {
        Self {
            bounds,
            app,
            places: Arc::new(Semaphore::new(bounds.connections)),
            open: Mutex::default(),
            closing: AtomicBool::new(false),
        }
    }

    /// Waits for a free place. With none free the oldest connections are asked to finish, one after the other: idle ones
    /// do at once, busy ones after their answer. So clients that only hold connections open keep no others out.
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
        if let Some((_, finish)) = self.open().finish.pop_first() {
            finish.notify_one();
        }
    }

    fn finish_all(&self) {
        for finish in self.open().finish.values() {
            finish.notify_one();
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One connection, on the list as long as it lives.
struct Connection {
    all: Arc<Connections>,
    number: u64,
    finish: Arc<Notify>,
    answered: AtomicU32,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(all: Arc<Connections>, place: OwnedSemaphorePermit) -> Self {
        let finish = Arc::new(Notify::new());
        let mut open = all.open();
        let number = open.next;
        open.next += 1;
        open.finish.insert(number, finish.clone());
        drop(open);
        Self { all, number, finish, answered: AtomicU32::new(0), _place: place }
    }

    async fn talk(self, stream: TcpStream, peer: SocketAddr) {
        let bounds = self.all.bounds;
        // An answer is written whole; waiting to fill a packet would only delay it. Failing is no reason not to serve.
        let _ = stream.set_nodelay(true);
        let clock = HeadClock::new(bounds.head_within, bounds.idle);
        let mut socket = Socket::new(stream, bounds.stalled, clock.clone());
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
            // Time-outs, resets and what is not HTTP happen every day, and are no fault of ours.
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
        // RFC 9112 §3.2: without one name, a proxy and Latchkey could mean different hosts.
        let named = request.version() < Version::HTTP_11 || matches!(line(request.headers(), HOST), Line::One(_));
        request.extensions_mut().insert(ConnectInfo(peer));
        let mut response = if named { self.all.app.clone().call(request).await? } else { StatusCode::BAD_REQUEST.into_response() };
        let is_last = !named || self.answered.fetch_add(1, Ordering::Relaxed) + 1 >= self.all.bounds.requests;
        if is_last || self.all.closing.load(Ordering::Relaxed) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.open().finish.remove(&self.number);
    }
}

#[cfg(test)]
mod test;
