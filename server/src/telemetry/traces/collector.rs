//! The way to an OTLP collector: one short conversation for each batch of spans.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use async_trait::async_trait;
use http::{Request, Response};
use http_client::{Client, Connections};
use hyper::body::Bytes;
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;
use url::Url;

/// For one batch.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const LARGEST_ANSWER: usize = 64 * 1024;

#[derive(Debug)]
pub struct Collector {
    client: Client,
    /// Asked from a thread that has none.
    runtime: Handle,
    /// It is told once that spans are lost, and once that they are not any more.
    lost: AtomicBool,
}

impl Collector {
    pub fn new(endpoint: &Url, runtime: Handle) -> anyhow::Result<Self> {
        let client = Client::of_scheme(endpoint.scheme(), Connections::Closed, LARGEST_ANSWER)?;
        Ok(Self { client, runtime, lost: AtomicBool::new(false) })
    }
}

async fn send(client: Client, request: Request<Bytes>) -> anyhow::Result<Response<Bytes>> {
    let answer = client.send(request).await?;
    anyhow::ensure!(answer.status().is_success(), "it answers {}", answer.status().as_u16());
    Ok(answer)
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sending = send(self.client.clone(), request);
        // The timer too has to be made on the runtime: the exporter's thread has none.
        let sending = async {
            tokio::time::timeout(ANSWER_WITHIN, sending).await.unwrap_or_else(|_| Err(anyhow::anyhow!("it takes too long")))
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
