//! How much a request may carry, and how long it may take to bring it.
//!
//! tower-http's layer refuses what announces too much; a body that grows past the limit, or trickles in, it leaves to each handler.

use std::time::Duration;

use axum::{
    body::{Body, HttpBody as _},
    extract::Request,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

/// Our largest form is a few hundred bytes.
const BYTES: usize = 64 * 1024;
/// Shorter than a request's own limit: a slow sender is the client's failure (408), and must not look like ours (503).
const READ_WITHIN: Duration = Duration::from_secs(8);

/// Reads the whole body before the handler runs. So one that grows past the limit as it streams is refused like one that announced
/// its size, whatever the handler makes of read errors; and a body that trickles in holds a task, never a database connection.
pub async fn read(request: Request) -> Result<Request, Response> {
    if request.body().is_end_stream() {
        return Ok(request);
    }
    // Refused unread, so a client that asked with `Expect: 100-continue` is spared the sending.
    if announced_length(request.headers()).is_some_and(|length| length > BYTES) {
        return Err(refused(StatusCode::PAYLOAD_TOO_LARGE));
    }
    let (head, body) = request.into_parts();
    match tokio::time::timeout(READ_WITHIN, Limited::new(body, BYTES).collect()).await {
        Ok(Ok(body)) => Ok(Request::from_parts(head, Body::from(body.to_bytes()))),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(refused(StatusCode::PAYLOAD_TOO_LARGE)),
        Ok(Err(error)) => {
            // Broken framing, or a client that went away.
            tracing::debug!(error, "could not read a body");
            Err(refused(StatusCode::BAD_REQUEST))
        }
        Err(_) => Err(refused(StatusCode::REQUEST_TIMEOUT)),
    }
}

/// The rest of the body is still on its way, so the connection can't carry another request.
fn refused(status: StatusCode) -> Response {
    (status, [(header::CONNECTION, "close")]).into_response()
}

fn announced_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, io};

    use axum::{
        Router,
        body::Bytes,
        middleware::{Next, from_fn},
        routing::post,
    };
    use futures::stream::{self, StreamExt as _};

    use super::*;
    use crate::http::middleware::test::{send, text};

    fn app() -> Router {
        Router::new().route("/", post(async |body: Bytes| body.len().to_string())).layer(from_fn(
            async |request: Request, next: Next| match read(request).await {
                Ok(request) => next.run(request).await,
                Err(refused) => refused,
            },
        ))
    }

    fn streamed(chunks: usize) -> Body {
        Body::from_stream(stream::iter(0..chunks).map(|_| Ok::<_, Infallible>(vec![b'x'; 1024])))
    }

    async fn answer(body: Body) -> (u16, String) {
        let response = send(&app(), Request::post("/").body(body).expect("valid")).await;
        (response.status().as_u16(), text(response).await)
    }

    #[tokio::test]
    async fn up_to_the_limit_the_handler_gets_it_all() {
        assert_eq!(answer(Body::empty()).await, (200, "0".to_owned()));
        assert_eq!(answer(Body::from(vec![0; 65536])).await, (200, "65536".to_owned()));
        assert_eq!(answer(streamed(64)).await, (200, "65536".to_owned()));
    }

    #[tokio::test]
    async fn beyond_it_announced_or_not_is_413() {
        for body in [Body::from(vec![0; 65537]), streamed(65), streamed(1_000_000)] {
            assert_eq!(answer(body).await.0, 413);
        }
    }

    #[tokio::test]
    async fn what_announces_too_much_is_not_read() {
        let read = Body::from_stream(stream::once(async { panic!("read") as Result<Vec<u8>, Infallible> }));
        let request = Request::post("/").header(header::CONTENT_LENGTH, "104857600").body(read).expect("valid");
        let response = send(&app(), request).await;
        assert_eq!(response.status(), 413);
        assert_eq!(response.headers()[header::CONNECTION], "close");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_in_is_408() {
        let body = Body::from_stream(stream::pending::<Result<Vec<u8>, Infallible>>());
        let begun = tokio::time::Instant::now();
        assert_eq!(answer(body).await.0, 408);
        assert_eq!(begun.elapsed().as_secs(), 8);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_400() {
        let body = Body::from_stream(stream::once(async { Err::<Vec<u8>, _>(io::Error::from(io::ErrorKind::UnexpectedEof)) }));
        assert_eq!(answer(body).await.0, 400);
    }
}
