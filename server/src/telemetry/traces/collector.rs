//! The way to an OTLP collector: one short conversation for each batch of spans.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use async_trait::async_trait;
use http::{Request, Response, header::HOST};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use rustls::{ClientConfig, pki_types::ServerName};
use rustls_platform_verifier::ConfigVerifierExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    runtime::Handle,
};
use tokio_rustls::TlsConnector;
use url::{Position, Url};

/// For one batch.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const LARGEST_ANSWER: usize = 64 * 1024;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

pub struct Collector {
    way: Arc<Way>,
    /// Asked from a thread that has none.
    runtime: Handle,
    /// It is told once that spans are lost, and once that they are not any more.
    lost: AtomicBool,
}

struct Way {
    url: Url,
    tls: Option<TlsConnector>,
}

impl Collector {
    pub fn new(endpoint: &Url, runtime: Handle) -> anyhow::Result<Self> {
        // As OTLP says of an endpoint that serves all signals.
        let url = Url::parse(&format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/')))?;
        let tls = match url.scheme() {
            "https" => Some(TlsConnector::from(Arc::new(ClientConfig::with_platform_verifier().context("TLS")?))),
            _ => None,
        };
        Ok(Self { way: Arc::new(Way { url, tls }), runtime, lost: AtomicBool::new(false) })
    }

    pub fn url(&self) -> String {
        self.way.url.to_string()
    }
}

impl Way {
    async fn connect(&self) -> anyhow::Result<Box<dyn Stream>> {
        let host = self.url.host_str().context("the address has no host")?.trim_matches(['[', ']']);
        let port = self.url.port_or_known_default().context("the address has no port")?;
        let stream = TcpStream::connect((host, port)).await.context("no connection")?;
        Ok(match &self.tls {
            Some(tls) => {
                let name = ServerName::try_from(host.to_owned()).context("the host is no name")?;
                Box::new(tls.connect(name, stream).await.context("no safe connection")?)
            }
            None => Box::new(stream),
        })
    }

    async fn send(&self, request: Request<Bytes>) -> anyhow::Result<Response<Bytes>> {
        let (mut parts, body) = request.into_parts();
        parts.uri = self.url[Position::BeforePath..Position::AfterQuery].parse()?;
        parts.headers.insert(HOST, self.url[Position::BeforeHost..Position::AfterPort].parse()?);
        let (mut sender, connection) = http1::handshake(TokioIo::new(self.connect().await?)).await?;
        let driver = tokio::spawn(connection);
        let (parts, body) =
            sender.send_request(Request::from_parts(parts, Full::new(body))).await.context("no answer")?.into_parts();
        let body = Limited::new(body, LARGEST_ANSWER).collect().await;
        driver.abort();
        let body = body.map_err(|error| anyhow::anyhow!("half an answer: {error}"))?.to_bytes();
        anyhow::ensure!(parts.status.is_success(), "it answers {}", parts.status.as_u16());
        Ok(Response::from_parts(parts, body))
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let way = self.way.clone();
        let sending = async move {
            tokio::time::timeout(ANSWER_WITHIN, way.send(request))
                .await
                .unwrap_or_else(|_| Err(anyhow::anyhow!("it takes too long")))
        };
        let answer = self.runtime.spawn(sending).await.context("stopping").flatten();
        match (&answer, self.lost.swap(answer.is_err(), Ordering::Relaxed)) {
            (Err(error), false) => tracing::warn!(error = format!("{error:#}"), "traces.lost"),
            (Ok(_), true) => tracing::info!("traces.sent_again"),
            _ => {}
        }
        answer.map_err(Into::into)
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").field("url", &self.way.url.as_str()).finish_non_exhaustive()
    }
}
