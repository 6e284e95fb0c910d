//! Traces of a running server, read by a collector of the test's own.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind},
};
use prost::Message as _;
use testkit::{Browser, Database, SmtpSink};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

use super::{ORIGIN, Server};

const TRACE: [u8; 16] = [0xab; 16];

/// Takes batches, and keeps what is in them.
pub(super) struct Collector {
    pub url: String,
    batches: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

impl Collector {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let batches = Arc::<Mutex<Vec<_>>>::default();
        let kept = batches.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = kept.clone();
                tokio::spawn(async move {
                    let batch = take(stream).await.expect("a batch");
                    kept.lock().expect("no panic").push(batch);
                });
            }
        });
        Self { url, batches }
    }

    pub fn batches(&self) -> Vec<ExportTraceServiceRequest> {
        self.batches.lock().expect("no panic").clone()
    }

    fn spans(&self) -> Vec<Span> {
        let resources = self.batches().into_iter().flat_map(|batch| batch.resource_spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }
}

/// One request, as HTTP writes it.
async fn take(stream: TcpStream) -> Option<ExportTraceServiceRequest> {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.trim().is_empty() {
            break;
        }
        head += &line;
    }
    assert!(head.starts_with("POST /v1/traces HTTP/1.1") && head.contains("application/x-protobuf"), "{head}");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.ok()?;
    ExportTraceServiceRequest::decode(body.as_slice()).ok()
}

fn text(span: &Span, name: &str) -> Option<String> {
    let value = span.attributes.iter().find(|attribute| attribute.key == name)?.value.as_ref()?.value.as_ref()?;
    Some(match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    })
}

async fn start(database: &Database, sink: &SmtpSink, endpoint: &str, proxies: &str) -> Server {
    let variables = [("EMAIL_SMTP", &*sink.url()), ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("TRUSTED_PROXIES", proxies)];
    Server::start_with(database, &variables).await
}

/// Asks for a page, saying which trace that belongs to.
async fn ask(address: SocketAddr) {
    let traceparent = format!("00-{}-{}-01", "ab".repeat(16), "cd".repeat(8));
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let request = format!("GET /login HTTP/1.1\r\nHost: localhost:4000\r\ntraceparent: {traceparent}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    stream.read_to_end(&mut Vec::new()).await.expect("answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_queries_and_mails_are_spans() {
    let (database, sink, collector) = (Database::new().await, SmtpSink::start().await, Collector::start().await);
    let server = start(&database, &sink, &collector.url, "127.0.0.1").await;
    let mut browser = Browser::new(server.address, ORIGIN);
    browser.post("/login", &[("email", "mara@example.org")]).await;
    let mail = sink.nth_to("mara@example.org", 1).await;
    browser.get(&mail.link()).await;
    browser.post("/login/sent", &[("code", &mail.code())]).await;
    ask(server.address).await;
    // The last spans are sent before it ends.
    server.terminate();
    assert!(server.wait().await.success());

    let spans = collector.spans();
    let named = |name: &str| -> Vec<&Span> { spans.iter().filter(|span| span.name == name).collect() };
    let [request] = named("POST /login")[..] else { panic!("{spans:#?}") };
    assert_eq!((request.kind(), request.parent_span_id.len()), (SpanKind::Server, 0));
    for (name, value) in [("http.route", "/login"), ("http.request.method", "POST"), ("http.response.status_code", "303")] {
        assert_eq!(text(request, name).as_deref(), Some(value));
    }
    assert_eq!(text(request, "request.id").map(|id| id.len()), Some(36));
    let queries: Vec<&Span> = spans.iter().filter(|span| span.parent_span_id == request.span_id).collect();
    assert!(queries.iter().any(|query| query.name == "insert into mail_outbox"), "{queries:#?}");
    for query in queries {
        assert_eq!((query.kind(), &query.trace_id), (SpanKind::Client, &request.trace_id));
        let inside = request.start_time_unix_nano <= query.start_time_unix_nano
            && query.start_time_unix_nano < query.end_time_unix_nano
            && query.end_time_unix_nano <= request.end_time_unix_nano;
        assert!(inside, "{query:#?} {request:#?}");
        assert_eq!(text(query, "db.system.name").as_deref(), Some("postgresql"));
    }
    let mails = named("mail");
    assert!(mails.iter().all(|mail| text(mail, "mail.id").is_some()) && !mails.is_empty(), "{spans:#?}");
    // A proxy's word counts.
    assert!(named("GET /login").iter().any(|span| span.trace_id == TRACE && span.parent_span_id == [0xcd; 8]), "{spans:#?}");

    let told = format!("{:?}", collector.batches());
    assert!(told.contains("latchkey"), "{told}");
    let token = mail.link().rsplit_once('=').map(|(_, token)| token.to_owned()).expect("a token");
    for private in ["mara", "example.org", "127.0.0.1", &token, &mail.code(), &mail.code().replace(' ', "")] {
        assert!(!told.contains(private), "{private}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_joins_no_trace() {
    let (database, sink, collector) = (Database::new().await, SmtpSink::start().await, Collector::start().await);
    let server = start(&database, &sink, &collector.url, "192.0.2.1").await;
    ask(server.address).await;
    server.terminate();
    assert!(server.wait().await.success());
    let spans = collector.spans();
    let asked = spans.iter().find(|span| span.name == "GET /login").unwrap_or_else(|| panic!("{spans:#?}"));
    assert!(asked.trace_id != TRACE && asked.parent_span_id.is_empty(), "{asked:#?}");
}

/// Nobody listens, nobody can be found, or somebody listens and never answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_collector_stalls_nobody() {
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound");
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoints = [
        format!("http://{closed}"),
        "http://nowhere.invalid:4318".to_owned(),
        format!("http://{}", silent.local_addr().expect("bound")),
    ];
    for endpoint in endpoints {
        let (database, sink) = (Database::new().await, SmtpSink::start().await);
        let server = start(&database, &sink, &endpoint, "127.0.0.1").await;
        let mut browser = Browser::new(server.address, ORIGIN);
        browser.post("/login", &[("email", "mara@example.org")]).await;
        let code = sink.nth_to("mara@example.org", 1).await.code();
        assert_eq!(browser.post("/login/sent", &[("code", &code)]).await.location(), "/account");
        let told = Instant::now();
        server.terminate();
        let ended = server.wait().await;
        assert!(ended.success() && told.elapsed() < Duration::from_secs(10), "{endpoint}: {:?}", told.elapsed());
    }
}
