//! The one HTTP client: `latchkey smoke`, the traces, the tests and the benchmark ask with it.
//!
//! Here: connections, TLS, a request and its answer, cookies. Not here: what an answer means, and how long one waits for it.

mod browser;

use std::error::Error;

use anyhow::Context as _;
use http::{Request, Response, uri::Scheme};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::ConfigVerifierExt as _;

pub use crate::browser::Browser;

#[derive(Clone, Debug)]
pub struct Client {
    connections: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    largest_answer: usize,
}

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// The next request uses it.
    Kept,
    /// It is closed.
    Closed,
}

impl Client {
    /// For what has this scheme: TLS is made ready for `https` alone.
    pub fn of_scheme(scheme: &str, connections: Connections, largest_answer: usize) -> anyhow::Result<Self> {
        if scheme == "https" { Self::new(connections, largest_answer) } else { Ok(Self::plain(connections, largest_answer)) }
    }

    /// Trusts whom this machine trusts.
    pub fn new(connections: Connections, largest_answer: usize) -> anyhow::Result<Self> {
        Ok(Self::with(ClientConfig::with_platform_verifier().context("TLS")?, connections, largest_answer))
    }

    /// For `http` alone: doesn't read what this machine trusts, which takes a while.
    #[must_use]
    pub fn plain(connections: Connections, largest_answer: usize) -> Self {
        let nobody = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        Self::with(nobody, connections, largest_answer)
    }

    fn with(tls: ClientConfig, connections: Connections, largest_answer: usize) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(http);
        let idle = if connections == Connections::Kept { usize::MAX } else { 0 };
        let connections = legacy::Client::builder(TokioExecutor::new()).pool_max_idle_per_host(idle).build(connector);
        Self { connections, largest_answer }
    }

    /// The answer, read whole.
    pub async fn send(&self, request: Request<Bytes>) -> anyhow::Result<Response<Bytes>> {
        let secure = request.uri().scheme() == Some(&Scheme::HTTPS);
        let answer = self.connections.request(request.map(Full::new)).await.map_err(|error| {
            let what = match (error.is_connect(), secure) {
                (true, true) => "no safe connection",
                (true, false) => "no connection",
                (false, _) => "no answer",
            };
            anyhow::anyhow!("{what}: {}", cause(&error))
        })?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, self.largest_answer).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("half an answer: {}", cause(&*error)))?.to_bytes();
        Ok(Response::from_parts(head, body))
    }
}

/// The error below all others, which says why.
fn cause<'a>(mut error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    while let Some(below) = error.source() {
        error = below;
    }
    error
}
