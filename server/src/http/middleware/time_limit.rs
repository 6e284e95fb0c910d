//! The longest a request may take. tower-http's layer would answer without a line in the log and without `Retry-After`.

use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, header::RETRY_AFTER};

/// The longest wait for a page. A stop waits as long for the requests in flight.
const LIMIT: Duration = Duration::from_secs(10);

/// 503 once the time is over. The handler is dropped where it stands: its transaction rolls back with it, so nothing is half done,
/// and the connection to the database is free for the next request.
pub async fn within(answer: impl Future<Output = Response>) -> Response {
    tokio::time::timeout(LIMIT, answer).await.unwrap_or_else(|_| {
        tracing::error!(limit_ms = LIMIT.as_millis(), "gave up on a request that took too long");
        (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "5")]).into_response()
    })
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
    use tokio::{sync::oneshot, time::Instant};

    use super::*;
    use crate::http::middleware::test::send;

    fn limited(routes: Router) -> Router {
        routes.layer(from_fn(async |request: Request, next: Next| within(next.run(request)).await))
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
        assert!(dropped.await.is_err(), "the handler is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_request_within_the_limit_is_not() {
        let app = limited(Router::new().route("/", get(|| tokio::time::sleep(Duration::from_secs(9)))));
        assert_eq!(send(&app, Request::get("/").body(Body::empty()).expect("valid")).await.status(), 200);
    }
}
