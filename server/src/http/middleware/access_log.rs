//! One span, one log line and one observation a request.
//!
//! The route's template stands in all three, never the path or the query: a link's token is in one, and a label with
//! user input in it has as many values as an attacker likes.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{MatchedPath, Request},
    response::Response,
};
use http::{Method, StatusCode};
use metrics::{Label, SharedString};
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use super::request_id::RequestId;
use crate::telemetry::{REQUEST, queries::Queries, traces::RequestSpan};

/// What nginx calls a request whose client didn't wait for the answer.
const CLIENT_WENT_AWAY: &str = "499";

const METHODS: [&str; 7] = ["GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// A client can write any method; a label must be one of a few.
fn known(method: &Method) -> &'static str {
    METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

/// Written when dropped, so that every request gets its line: hyper drops the future of a request whose client hung up.
pub struct Line {
    span: Span,
    method: &'static str,
    route: SharedString,
    begun: Instant,
    queries: Arc<Queries>,
    status: Option<StatusCode>,
}

impl Line {
    /// `from_proxy`: the request comes from a trusted proxy, which may say which trace it belongs to. A stranger could put requests into
    /// other people's traces.
    pub fn begin(request: &Request, id: &RequestId, from_proxy: bool) -> Self {
        let method = known(request.method());
        let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
        let span = tracing::info_span!(REQUEST, request_id = %id, method, route);
        let traced = RequestSpan::begin(method, route, id.as_str(), from_proxy.then(|| request.headers()));
        let (route, queries) = (SharedString::from_shared(route.into()), Arc::new(Queries::of(traced)));
        Self { span, method, route, begun: Instant::now(), queries, status: None }
    }

    pub async fn tell_of(mut self, answer: impl Future<Output = Response>) -> Response {
        let response = self.queries.clone().add_those_of(answer.instrument(self.span.clone())).await;
        self.status = Some(response.status());
        response
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        let status = self.status.as_ref().map_or(CLIENT_WENT_AWAY, StatusCode::as_str);
        let (duration_ms, query_ms) = (milliseconds(took), milliseconds(self.queries.took()));
        self.span.in_scope(|| tracing::info!(status, duration_ms, queries = self.queries.count(), query_ms, "answered"));
        if let Some(span) = self.queries.span() {
            span.end(self.status);
        }
        let labels = vec![
            Label::from_static_parts("method", self.method),
            Label::new("route", self.route.clone()),
            Label::new("status", status.to_owned()),
        ];
        metrics::counter!("http_requests_total", labels.clone()).increment(1);
        metrics::histogram!("http_request_duration_seconds", labels).record(took);
    }
}

/// Microseconds are noise here, and 16 digits harder to read.
fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 100_000.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        future::pending,
        sync::{Arc, Mutex, PoisonError},
    };

    use axum::{
        Router,
        body::Body,
        middleware::{Next, from_fn},
        routing::any,
    };
    use metrics::{Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, Unit};

    use super::*;
    use crate::{
        http::middleware::test::{id, send},
        telemetry::test::captured,
    };

    /// How often each series was counted or observed.
    #[derive(Clone, Default)]
    struct Series(Arc<Mutex<BTreeMap<String, u64>>>);

    struct One(Series, String);

    impl CounterFn for One {
        fn increment(&self, value: u64) {
            *self.0.0.lock().unwrap_or_else(PoisonError::into_inner).entry(self.1.clone()).or_default() += value;
        }

        fn absolute(&self, _: u64) {}
    }

    impl HistogramFn for One {
        fn record(&self, value: f64) {
            assert!((0.0..60.0).contains(&value), "seconds");
            self.increment(1);
        }
    }

    impl Series {
        fn one(&self, key: &Key) -> Arc<One> {
            let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            Arc::new(One(self.clone(), format!("{} {}", key.name(), labels.join(" "))))
        }
    }

    impl Recorder for Series {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(self.one(key))
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }

        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::from_arc(self.one(key))
        }
    }

    /// What was logged and counted while the requests were answered, each given up after a second.
    fn observed(requests: &[(&str, &str)]) -> (Vec<serde_json::Value>, Vec<String>) {
        let series = Series::default();
        let logged = captured("info", || {
            metrics::with_local_recorder(&series, || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
                runtime.block_on(async {
                    let app = Router::new()
                        .route("/users/{id}", any(|| async { tracing::info!("inside") }))
                        .route("/asks", any(|| async { [1.5, 0.25].map(asked).len().to_string() }))
                        .route("/stuck", any(pending::<()>))
                        .layer(from_fn(async |request: Request, next: Next| {
                            Line::begin(&request, &id(), false).tell_of(next.run(request)).await
                        }));
                    for (method, uri) in requests {
                        let request = Request::builder().method(*method).uri(*uri).body(Body::empty()).expect("valid");
                        let _ = tokio::time::timeout(Duration::from_secs(1), send(&app, request)).await;
                    }
                });
            });
        });
        let lines = logged.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
        let series =
            series.0.lock().unwrap_or_else(PoisonError::into_inner).iter().map(|(key, count)| format!("{key} {count}")).collect();
        (lines, series)
    }

    #[test]
    fn tells_the_template_and_never_the_path() {
        let (lines, series) = observed(&[("GET", "/users/s3cret?token=s3cret"), ("GET", "/users/7")]);
        assert_eq!(lines.len(), 4);
        assert_eq!((&lines[0]["message"], &lines[1]["message"]), (&"inside".into(), &"answered".into()));
        assert_eq!(lines[1]["status"], "200");
        assert!(lines[1]["duration_ms"].is_number());
        for line in &lines {
            let span = &line["span"];
            assert_eq!((&span["route"], &span["method"]), (&"/users/{id}".into(), &"GET".into()));
            assert_eq!(span["request_id"].as_str().map(str::len), Some(36));
            assert!(!line.to_string().contains("s3cret"), "{line}");
        }
        assert_eq!(lines[0]["span"]["request_id"], lines[1]["span"]["request_id"]);
        assert_ne!(lines[1]["span"]["request_id"], lines[3]["span"]["request_id"]);
        assert_eq!(
            series,
            [
                "http_request_duration_seconds method=GET route=/users/{id} status=200 2",
                "http_requests_total method=GET route=/users/{id} status=200 2",
            ]
        );
    }

    /// As sqlx tells of a query. The real thing: `tests/it/processes/logs.rs`.
    fn asked(took: f64) {
        tracing::debug!(target: "sqlx::query", summary = "select s3cret", elapsed = ?took, elapsed_secs = took);
    }

    #[test]
    fn adds_up_the_queries_and_shows_none() {
        let (lines, _) = observed(&[("GET", "/asks"), ("GET", "/users/7")]);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!((&lines[0]["queries"], &lines[0]["query_ms"]), (&2.into(), &1750.0.into()));
        assert_eq!((&lines[2]["queries"], &lines[2]["query_ms"]), (&0.into(), &0.0.into()));
        // Outside of a request: nobody asks, nothing happens.
        captured("info", || asked(1.0));
    }

    #[test]
    fn labels_are_few_whatever_is_asked() {
        let (_, series) = observed(&[("GET", "/a"), ("GET", "/b?c"), ("BREW", "/users/1"), ("BREW2", "/users/2")]);
        assert_eq!(
            series[2..],
            [
                "http_requests_total method=GET route=unmatched status=404 2",
                "http_requests_total method=other route=/users/{id} status=200 2",
            ]
        );
    }

    #[test]
    fn a_client_that_went_away_is_told_of() {
        let (lines, series) = observed(&[("POST", "/stuck")]);
        assert_eq!(lines[0]["status"], "499");
        assert_eq!(lines[0]["span"]["route"], "/stuck");
        assert_eq!(lines[0]["duration_ms"], 1000.0);
        assert_eq!(series[1], "http_requests_total method=POST route=/stuck status=499 1");
    }
}
