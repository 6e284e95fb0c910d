//! What a running server says of itself, to Prometheus and to `StatsD`.

use std::{collections::BTreeSet, time::Duration};

use testkit::{Browser, Database, SmtpSink};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
};

use super::{ORIGIN, Server, peak_memory, try_get_at};

const DOCUMENT: &str = include_str!("../../../../docs/metrics.md");
const PATIENCE: Duration = Duration::from_secs(30);

/// Signs somebody in, so that everything there is has happened once.
async fn sign_in(server: &Server, sink: &SmtpSink) {
    let mut browser = Browser::new(server.address, ORIGIN);
    browser.post("/login", &[("email", "mara@example.org")]).await;
    let code = sink.nth_to("mara@example.org", 1).await.code();
    assert_eq!(browser.post("/login/sent", &[("code", &code)]).await.location(), "/account");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_documented_is_what_is_measured_and_sent() {
    let (database, sink) = (Database::new().await, SmtpSink::start().await);
    let ops = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound");
    let agent = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let variables = [
        ("EMAIL_SMTP", sink.url()),
        ("OPS_LISTEN_ADDR", ops.to_string()),
        ("DOGSTATSD_ADDR", agent.local_addr().expect("bound").to_string()),
    ];
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let server = Server::start_with(&database, &variables).await;
    sign_in(&server, &sink).await;

    let documented: BTreeSet<&str> =
        DOCUMENT.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(name, _)| name).collect();
    let workers: BTreeSet<&str> = DOCUMENT
        .lines()
        .filter_map(|line| line.strip_prefix("- `")?.split_once(": "))
        .flat_map(|(names, _)| names.trim_matches('`').split("`, `"))
        .collect();
    let measured = async {
        loop {
            let text = try_get_at(ops, "/metrics").await.expect("the operators' listener answers");
            assert!(text.starts_with("HTTP/1.1 200") && text.contains("content-type: text/plain; version=0.0.4"), "{text}");
            let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
            let names: BTreeSet<String> = types.map(|(name, _)| name.to_owned()).collect();
            let beats =
                text.lines().filter_map(|line| line.strip_prefix("worker_heartbeat_timestamp_seconds{worker=\"")?.split_once('"'));
            let beats: BTreeSet<String> = beats.map(|(worker, _)| worker.to_owned()).collect();
            // What comes from the database comes a moment after the start.
            if names.len() >= documented.len() && beats.len() >= workers.len() {
                return (names, beats, text);
            }
            tokio::task::yield_now().await;
        }
    };
    let (names, beats, text) = tokio::time::timeout(PATIENCE, measured).await.expect("everything documented is measured");
    assert_eq!(names.iter().map(String::as_str).collect::<BTreeSet<_>>(), documented);
    assert_eq!(beats.iter().map(String::as_str).collect::<BTreeSet<_>>(), workers);
    for name in &names {
        assert!(text.contains(&format!("# HELP {name} ")), "{name} says nothing of itself");
    }
    assert!(!text.contains("mara") && !text.contains("example.org"), "{text}");
    assert!(server.try_get("/metrics").await.is_some_and(|answer| answer.starts_with("HTTP/1.1 401")), "a key is asked for");

    let mut wanted = vec![
        ("auth.magiclink.requests_total:1|c|#", "status:accepted"),
        ("auth.sessions.created_total:1|c|#", "level:email"),
        ("http.requests_total:1|c|#", "route:/login/sent"),
        ("mail.delivery_seconds:", "|d"),
        ("mail.outbox.messages:0.0|g|#", "state:failed"),
    ];
    let sent = async {
        let mut buffer = vec![0; 65_536];
        while !wanted.is_empty() {
            let length = agent.recv(&mut buffer).await.expect("a datagram");
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            wanted.retain(|(begin, part)| !text.lines().any(|line| line.starts_with(begin) && line.contains(part)));
        }
    };
    let sent = tokio::time::timeout(PATIENCE, sent).await;
    assert!(sent.is_ok(), "never sent: {wanted:?}");
}

/// Nobody listens, nobody can be found, or somebody listens and never reads.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_or_slow_statsd_stalls_nobody() {
    let closed = UdpSocket::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound").to_string();
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("statsd-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("slow.sock");
    let _slow = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    let slow = format!("unix://{}", path.display());
    for address in [closed.as_str(), "nowhere.invalid:8125", &slow, "unixgram:///nowhere.sock"] {
        let (database, sink) = (Database::new().await, SmtpSink::start().await);
        let variables = [("EMAIL_SMTP", sink.url()), ("DOGSTATSD_ADDR", address.to_owned())];
        let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let server = Server::start_with(&database, &variables).await;
        sign_in(&server, &sink).await;
        server.terminate();
        let ended = server.wait().await;
        assert!(ended.success(), "{address}");
    }
    std::fs::remove_dir_all(&folder).expect("removed");
}

/// Paths, hosts, methods, browsers and addresses that a stranger invents. In a process of its own: a test's shares its memory with others.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_invent_names_take_no_memory() {
    let (database, sink) = (Database::new().await, SmtpSink::start().await);
    let variables = [("EMAIL_SMTP", sink.url()), ("LIMITS", "off".to_owned()), ("TRUSTED_PROXIES", "127.0.0.1/32".to_owned())];
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let server = Server::start_with(&database, &variables).await;
    let ask = async |first: usize, end: usize| {
        for n in first..end {
            let method = if n % 4 == 0 { format!("M{n}") } else { "GET".to_owned() };
            let mut stream = TcpStream::connect(server.address).await.expect("accepted");
            let request = format!(
                "{method} /{n}/login?{n}={n} HTTP/1.1\r\nHost: h{n}.example\r\nUser-Agent: agent/{n}\r\nX-Request-Id: id-{n}\r\n\
                 X-Forwarded-For: 192.0.{}.{}\r\nConnection: close\r\n\r\n",
                n / 256,
                n % 256
            );
            stream.write_all(request.as_bytes()).await.expect("taken");
            stream.read_to_end(&mut Vec::new()).await.expect("answered");
        }
    };
    ask(0, 1_000).await;
    let before = peak_memory(&server);
    ask(1_000, 8_000).await;
    let grown = peak_memory(&server) - before;
    assert!(grown < 16 * 1024, "{grown} KiB more");
}
