//! The longest a request may take.

use std::time::Duration;

use axum::response::Response;
use http::StatusCode;

use super::{Render, refusal, request_id::RequestId, retry_after};

#[derive(Clone, Copy)]
pub struct TimeLimit {
    pub limit: Duration,
    pub busy: Render,
}

impl TimeLimit {
    /// Nobody waits longer for a page, and a stop waits as long for the requests in flight.
    pub const DEFAULT: Duration = Duration::from_secs(10);

    /// 503 once the time is over. The handler is dropped where it stands: its transaction rolls back with it, so nothing is
    /// half done, and the connection to the database is free for those who still wait.
    pub async fn hold(self, id: &RequestId, answer: impl Future<Output = Response>) -> Response {
        if let Ok(response) = tokio::time::timeout(self.limit, answer).await {
            response
        } else {
            tracing::error!(limit_ms = self.limit.as_millis(), "gave up on a request that took too long");
            let mut response = refusal(self.busy, id, StatusCode::SERVICE_UNAVAILABLE);
            retry_after(&mut response, Duration::from_secs(5));
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use axum::{
        Router,
        body::Body,
        extract::Request,
        middleware::{Next, from_fn},
        routing::get,
    };
    use http::header::RETRY_AFTER;
    use tokio::{sync::oneshot, time::Instant};

    use super::*;
    use crate::middleware::test::{id, page, send, text};

    fn limited(routes: Router) -> Router {
        let limit = TimeLimit { limit: TimeLimit::DEFAULT, busy: page };
        routes.layer(from_fn(move |request: Request, next: Next| async move { limit.hold(&id(), next.run(request)).await }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_takes_too_long_is_dropped_and_answered() {
        let (alive, dropped) = oneshot::channel::<()>();
        let alive = std::sync::Mutex::new(Some(alive));
        let alive = std::sync::Arc::new(alive);
        let app = limited(Router::new().route(
            "/",
            get(move || async move {
                let _alive = alive.lock().expect("unpoisoned").take();
                pending::<()>().await;
            }),
        ));
        let begun = Instant::now();
        let response = send(&app, Request::get("/").body(Body::empty()).expect("valid")).await;
        assert_eq!(begun.elapsed().as_secs(), 10);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], "5");
        assert!(text(response).await.starts_with("page of "));
        assert!(dropped.await.is_err(), "the handler is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_request_within_the_limit_is_not() {
        let app = limited(Router::new().route("/", get(|| tokio::time::sleep(Duration::from_secs(9)))));
        assert_eq!(send(&app, Request::get("/").body(Body::empty()).expect("valid")).await.status(), 200);
    }
}
