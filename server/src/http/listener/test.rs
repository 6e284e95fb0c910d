use std::{future::pending, sync::Arc};

use axum::{
    body::Bytes,
    routing::{any, get},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::*;

/// A server on a socket of its own.
struct Served {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    ended: JoinHandle<io::Result<()>>,
}

impl Served {
    async fn start(bounds: Bounds, app: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(serve_within(bounds, listener, app, async {
            let _ = stopped.await;
        }));
        Self { address, stop: Some(stop), ended }
    }

    fn stop(&mut self) {
        let _ = self.stop.take().expect("stopped once").send(());
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("accepted")
    }

    async fn send(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.expect("taken");
        stream
    }
}

/// Everything until the server closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("closed, not reset");
    String::from_utf8(bytes).expect("UTF-8")
}

/// Up to and with the end of one answer, whose body is `body`.
async fn one_answer(stream: &mut TcpStream, body: &str) -> String {
    let mut answer = String::new();
    while !answer.ends_with(body) || !answer.contains("\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).await.expect("an answer");
        answer.push(byte[0].into());
    }
    answer
}

fn hello() -> Router {
    Router::new().route("/", any(|body: Bytes| async move { format!("hello {}", body.len()) }))
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn the_handler_knows_the_peer() {
    let app = Router::new().route("/", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }));
    let served = Served::start(BOUNDS, app).await;
    let mut stream = served.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let own = stream.local_addr().expect("connected").to_string();
    assert!(rest(&mut stream).await.ends_with(&own));
}

#[tokio::test]
async fn a_connection_carries_one_request_after_the_other() {
    let served = Served::start(BOUNDS, hello()).await;
    let mut stream = served.connect().await;
    for _ in 0..3 {
        stream.write_all(GET).await.expect("kept alive");
        let answer = one_answer(&mut stream, "hello 0").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && !answer.contains("connection: close"), "{answer}");
        assert!(!answer.to_lowercase().contains("\r\nserver:"), "{answer}");
    }
}

#[tokio::test]
async fn a_connections_last_answer_closes_it() {
    let served = Served::start(Bounds { requests: 2, ..BOUNDS }, hello()).await;
    // Pipelined: what follows the last is not answered.
    let answers = rest(&mut served.send(&GET.repeat(3)).await).await;
    assert_eq!((answers.matches("HTTP/1.1 200").count(), answers.matches("connection: close").count()), (2, 1), "{answers}");
    assert_eq!(BOUNDS.requests, 1000);
}

/// What is not HTTP, or could be read as two requests by a proxy and one by us, gets one answer, and the connection ends.
#[tokio::test]
async fn bad_requests_get_400_and_the_connection_closes() {
    let served = Served::start(BOUNDS, hello()).await;
    for bad in [
        "nonsense\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let answer = rest(&mut served.send(bad.as_bytes()).await).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{bad:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{bad:?}: {answer}");
    }
}

/// RFC 9112 §6.1: both lengths, and the chunks win; but whatever follows is never taken for a request.
#[tokio::test]
async fn with_two_lengths_nothing_follows() {
    let served = Served::start(BOUNDS, hello()).await;
    for (first, second) in
        [("Content-Length: 3", "Transfer-Encoding: chunked"), ("Transfer-Encoding: chunked", "Content-Length: 3")]
    {
        let smuggled =
            format!("POST / HTTP/1.1\r\nHost: x\r\n{first}\r\n{second}\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n");
        let answer = rest(&mut served.send(smuggled.as_bytes()).await).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(answer.ends_with("hello 0"), "{answer}");
    }
}

#[tokio::test]
async fn headers_have_a_size() {
    let served = Served::start(BOUNDS, hello()).await;
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nA: {}\r\n\r\n", "a".repeat(32 * 1024));
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(101));
    let endless = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}", "a".repeat(1024 * 1024));
    for head in [long, many, endless] {
        let answer = rest(&mut served.send(head.as_bytes()).await).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    let fits = format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nA: {}\r\n\r\n", "a".repeat(8 * 1024));
    assert!(rest(&mut served.send(fits.as_bytes()).await).await.starts_with("HTTP/1.1 200 "));
}

/// The client of a refused upload gets to read why, though most of the upload was never read.
#[tokio::test]
async fn a_refusal_in_mid_upload_arrives() {
    let app = Router::new().route("/", any(|| async { StatusCode::PAYLOAD_TOO_LARGE }));
    let served = Served::start(BOUNDS, app).await;
    let mut stream = served.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n").await;
    stream.write_all(&vec![b'x'; 8_000_000]).await.expect("taken");
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 413 "));
}

/// The paused clock leaps to the next time-out whenever everyone waits, so it tells when the server closed.
async fn closes_after(begin: &[u8], answers: usize, then: &[u8]) -> (u64, String) {
    let served = Served::start(BOUNDS, hello()).await;
    let mut stream = served.send(begin).await;
    for _ in 0..answers {
        one_answer(&mut stream, "hello 0").await;
    }
    let waiting = Instant::now();
    if !then.is_empty() {
        stream.write_all(then).await.expect("taken");
    }
    let rest = rest(&mut stream).await;
    (waiting.elapsed().as_secs(), rest)
}

#[tokio::test(start_paused = true)]
async fn headers_have_a_time() {
    for begin in [&b""[..], b"G", b"GET / HTTP/1.1\r\nHost: x\r\n"] {
        assert_eq!(closes_after(begin, 0, b"").await, (10, String::new()), "{begin:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_kept_longer_than_proxies_keep_theirs() {
    assert_eq!(closes_after(GET, 1, b"").await, (75, String::new()));
}

/// A byte now and then buys no time: neither in the first request's headers nor in a later one's.
#[tokio::test(start_paused = true)]
async fn headers_that_trickle_in_are_cut() {
    for first in [&b""[..], GET] {
        let served = Served::start(BOUNDS, hello()).await;
        let mut stream = served.send(first).await;
        if !first.is_empty() {
            one_answer(&mut stream, "hello 0").await;
        }
        let begun = Instant::now();
        let mut closed = false;
        for byte in b"GET / HTTP/1.1\r\nHost: a-host-with-a-very-long-name" {
            if stream.write_all(&[*byte]).await.is_err() {
                closed = true;
                break;
            }
            let mut answer = [0; 1];
            // A second between two bytes, unless the server closes first.
            if let Ok(read) = timeout(Duration::from_secs(1), stream.read(&mut answer)).await {
                assert_eq!(read.unwrap_or(0), 0);
                closed = true;
                break;
            }
        }
        assert!(closed && begun.elapsed() <= Duration::from_secs(11), "{:?}", begun.elapsed());
    }
}

/// A client that asks and does not read.
#[tokio::test(start_paused = true)]
async fn an_answer_nobody_reads_is_given_up() {
    let (gone, is_gone) = oneshot::channel::<()>();
    let gone = Arc::new(Mutex::new(Some(gone)));
    let app = Router::new().route(
        "/",
        get(move || async move {
            let gone = gone.lock().unwrap_or_else(PoisonError::into_inner).take();
            let endless = futures::stream::repeat_with(move || {
                let _alive = &gone;
                Ok::<_, Infallible>(vec![b'x'; 64 * 1024])
            });
            axum::body::Body::from_stream(endless)
        }),
    );
    let served = Served::start(BOUNDS, app).await;
    let begun = Instant::now();
    let _unread = served.send(GET).await;
    is_gone.await.expect_err("the answer was dropped");
    assert_eq!(begun.elapsed().as_secs(), 30);
}

#[tokio::test]
async fn a_crowd_that_only_holds_on_keeps_nobody_out() {
    let bounds = Bounds { connections: 8, ..BOUNDS };
    let served = Served::start(bounds, hello()).await;
    let mut crowd = Vec::new();
    for _ in 0..100 {
        let mut stream = served.send(GET).await;
        timeout(Duration::from_secs(10), one_answer(&mut stream, "hello 0")).await.expect("let in");
        crowd.push(stream);
    }
    // The oldest were asked to go, and went; the newest is still welcome.
    for stream in &mut crowd[..92] {
        assert_eq!(rest(stream).await, "");
    }
    let newest = &mut crowd[99];
    newest.write_all(GET).await.expect("kept alive");
    one_answer(newest, "hello 0").await;
}

/// A handler that says when it has begun and waits to be let go.
fn slow() -> (Router, mpsc::Receiver<()>, Arc<Notify>) {
    let (begun, has_begun) = mpsc::channel(8);
    let let_go = Arc::new(Notify::new());
    let wait = let_go.clone();
    let handler = move || async move {
        begun.send(()).await.expect("the test listens");
        wait.notified().await;
        "done"
    };
    (Router::new().route("/slow", get(handler)).merge(hello()), has_begun, let_go)
}

const GET_SLOW: &[u8] = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn a_stop_waits_for_what_is_in_flight() {
    let (app, mut has_begun, let_go) = slow();
    let mut served = Served::start(Bounds { farewell: Duration::from_millis(1), ..BOUNDS }, app).await;
    let mut in_flight = served.send(GET_SLOW).await;
    has_begun.recv().await.expect("in the handler");
    let mut idle = served.send(GET).await;
    one_answer(&mut idle, "hello 0").await;

    served.stop();
    assert_eq!(rest(&mut idle).await, "", "an idle connection is closed");
    while TcpStream::connect(served.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!served.ended.is_finished());

    let_go.notify_one();
    let answer = rest(&mut in_flight).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("done"), "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    served.ended.await.expect("no panic").expect("no error");
}

/// Who comes while we say farewell is served once; nobody finds a connection reset under a request on its way.
#[tokio::test]
async fn nobody_is_reset_during_the_farewell() {
    let (app, mut has_begun, let_go) = slow();
    let mut served = Served::start(Bounds { farewell: Duration::from_mins(1), ..BOUNDS }, app).await;
    let mut in_flight = served.send(GET_SLOW).await;
    has_begun.recv().await.expect("in the handler");
    let mut kept = served.send(GET).await;
    one_answer(&mut kept, "hello 0").await;

    served.stop();
    let_go.notify_one();
    // Closed by this answer, so the stop has been noticed.
    let answer = rest(&mut in_flight).await;
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    kept.write_all(GET).await.expect("still open");
    let mut new = served.send(GET).await;
    for stream in [&mut kept, &mut new] {
        let answer = rest(stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("connection: close\r\n"), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_ever() {
    let (begun, mut has_begun) = mpsc::channel(1);
    let app = Router::new().route(
        "/",
        get(move || async move {
            begun.send(()).await.expect("the test listens");
            pending::<()>().await;
        }),
    );
    let mut served = Served::start(BOUNDS, app).await;
    let mut stream = served.send(GET).await;
    has_begun.recv().await.expect("in the handler");
    let stopped = Instant::now();
    served.stop();
    served.ended.await.expect("no panic").expect("no error");
    assert_eq!(stopped.elapsed().as_millis(), 10_500);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stop_with_nobody_there_takes_no_time() {
    let mut served = Served::start(BOUNDS, hello()).await;
    let stopped = Instant::now();
    served.stop();
    served.ended.await.expect("no panic").expect("no error");
    assert_eq!(stopped.elapsed(), Duration::ZERO);
}
