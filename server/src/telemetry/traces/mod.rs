//! Traces, if `OTEL_EXPORTER_OTLP_ENDPOINT` is set: a span for each request, each of its queries, and each mail.
//! Not here: the conversation with a collector ([`collector`]), and where a request or mail begins and ends.
//! To add a span: a function like [`mail`], called around what it measures.
//!
//! Spans wait in a queue of two thousand for a thread that sends them every five seconds; what finds it full is lost. So a collector that
//! is away or slow delays no request. A span holds no text of a client's: a route's template, the beginning of a statement, an id.

mod collector;

use std::{
    sync::OnceLock,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use auth::delivery::SendError;
use http::{HeaderMap, StatusCode};
use opentelemetry::{
    Context, KeyValue,
    propagation::TextMapPropagator as _,
    trace::{Span as _, SpanBuilder, SpanKind, Status, TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_http::HeaderExtractor;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider},
};
use tokio::runtime::Handle;
use url::Url;
use uuid::Uuid;

use self::collector::Collector;

/// How long an ending process waits for a collector to take its last spans.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Set once, by the process that serves.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Dropping it sends what is queued. The runtime must be there still: it is what sends.
#[must_use = "dropped at once, it ends the traces"]
pub struct Traces(SdkTracerProvider);

impl Traces {
    pub fn start(endpoint: &Url, runtime: &Handle) -> anyhow::Result<Self> {
        let collector = Collector::new(endpoint, runtime.clone())?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            // As OTLP says of an endpoint that serves all signals.
            .with_endpoint(format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/')))
            .with_timeout(collector::ANSWER_WITHIN)
            .with_http_client(collector)
            .build()
            .context("OTEL_EXPORTER_OTLP_ENDPOINT can't be used")?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_service_name("latchkey").with_attribute(version).build();
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        TRACER.set(provider.tracer("latchkey")).ok().context("traces are sent already")?;
        Ok(Self(provider))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST_SPANS) {
            tracing::warn!(%error, "traces.last_spans_lost");
        }
    }
}

/// A request's span, under which its queries stand.
#[derive(Debug)]
pub struct RequestSpan(Context);

impl RequestSpan {
    /// `headers`: of a request whose word about the trace it belongs to counts.
    pub fn begin(method: &'static str, route: &str, request_id: &str, headers: Option<&HeaderMap>) -> Option<Self> {
        let tracer = TRACER.get()?;
        let parent = headers.map(parent).unwrap_or_default();
        let span = SpanBuilder::from_name(format!("{method} {route}"))
            .with_kind(SpanKind::Server)
            .with_attributes([
                KeyValue::new("http.request.method", method),
                KeyValue::new("http.route", route.to_owned()),
                KeyValue::new("request.id", request_id.to_owned()),
            ])
            .start_with_context(tracer, &parent);
        Some(Self(parent.with_span(span)))
    }

    /// A query that was just answered. `summary`: its first words.
    pub fn query(&self, summary: &str, took: Duration) {
        let Some(tracer) = TRACER.get().filter(|_| self.0.span().is_recording()) else { return };
        let ended = now();
        let mut span = SpanBuilder::from_name(summary.to_owned())
            .with_kind(SpanKind::Client)
            .with_start_time(ended - took)
            .with_attributes([KeyValue::new("db.system.name", "postgresql")])
            .start_with_context(tracer, &self.0);
        span.end_with_timestamp(ended);
    }

    /// `None`: the client did not wait for the answer.
    pub fn end(&self, status: Option<StatusCode>) {
        let span = self.0.span();
        if let Some(status) = status {
            span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
            if status.is_server_error() {
                span.set_status(Status::error(status.as_str().to_owned()));
            }
        }
        span.end();
    }
}

/// Of two lines, a proxy and we could mean different ones.
fn parent(headers: &HeaderMap) -> Context {
    match headers.get_all("traceparent").iter().count() {
        1 => TraceContextPropagator::new().extract_with_context(&Context::new(), &HeaderExtractor(headers)),
        _ => Context::new(),
    }
}

/// The span of one try to hand a mail over.
pub async fn mail(id: Uuid, sending: impl Future<Output = Result<(), SendError>>) -> Result<(), SendError> {
    let Some(tracer) = TRACER.get() else { return sending.await };
    let attributes = [KeyValue::new("mail.id", id.to_string())];
    let span = SpanBuilder::from_name("mail").with_kind(SpanKind::Client).with_attributes(attributes);
    let mut span = span.start_with_context(tracer, &Context::new());
    let sent = sending.await;
    if let Err(error) = &sent {
        // Not its text, which a mail server chose.
        span.set_status(Status::error(match error {
            SendError::Temporary(_) => "temporary",
            SendError::Server(_) => "server",
            SendError::Permanent(_) => "permanent",
        }));
    }
    span.end();
    sent
}

#[expect(clippy::disallowed_methods, reason = "a span's time is shown, and decides nothing")]
fn now() -> SystemTime {
    SystemTime::now()
}
