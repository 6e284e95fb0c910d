//! One span, one log line and one observation a request.
//!
//! The route's template stands in all three, never the path or the query: a link's token is in one, and a label with
//! user input in it has as many values as an attacker likes.

use std::time::Duration;

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};
use http::{Method, StatusCode};
use tokio::time::Instant;
use tracing::{Instrument as _, Span};

use super::request_id::RequestId;

/// What nginx calls a request whose client didn't wait for the answer.
const CLIENT_WENT_AWAY: &str = "499";

pub async fn access_log(request: Request, next: Next) -> Response {
    let method = known(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", request_id = %RequestId::of(&request), method, route);
    let mut line = Line { span: span.clone(), method, route, begun: Instant::now(), status: None };
    let response = next.run(request).instrument(span).await;
    line.status = Some(response.status());
    response
}

/// A method is whatever a client writes; a label must be one of a few.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// Written when dropped, so a request is told of however it ends: hyper drops the future of one whose client hung up.
struct Line {
    span: Span,
    method: &'static str,
    route: String,
    begun: Instant,
    status: Option<StatusCode>,
}

impl Drop for Line {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        let status = self.status.as_ref().map_or(CLIENT_WENT_AWAY, StatusCode::as_str);
        self.span.in_scope(|| tracing::info!(status, duration_ms = milliseconds(took), "answered"));
        let labels = [("method", self.method.to_owned()), ("route", std::mem::take(&mut self.route)), ("status", status.to_owned())];
        metrics::counter!("http_requests_total", &labels).increment(1);
        metrics::histogram!("http_request_duration_seconds", &labels).record(took);
    }
}

/// Microseconds are noise here, and 16 digits harder to read.
fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 100_000.0).round() / 100.0
}

#[cfg(test)]
mod tests;
