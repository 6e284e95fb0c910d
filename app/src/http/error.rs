//! What a page or a form answers, and what it answers when something fails.

use std::sync::{Mutex, PoisonError};

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header::RETRY_AFTER};

/// What a page or a form answers.
pub type Answer = Result<Response, Refusal>;

/// The response that says why something was not done. Errors of server functions are shared between threads, and a body can't be: hence
/// the lock.
#[derive(Debug)]
pub struct Refusal(Box<Mutex<Response>>);

impl From<Response> for Refusal {
    fn from(response: Response) -> Self {
        Self(Box::new(Mutex::new(response)))
    }
}

impl<E: Into<ServiceError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        error.into().into_response().into()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The database did not answer: logged once, and answered with a status. The edge puts a page with the request's id around it.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error(transparent)]
    Domain(#[from] auth::Error),
    #[error(transparent)]
    Session(#[from] tower_sessions::session::Error),
}

impl IntoResponse for ServiceError {
    fn into_response(self) -> Response {
        let mut chain = self.to_string();
        let mut source = std::error::Error::source(&self);
        while let Some(error) = source {
            chain.push_str(": ");
            chain.push_str(&error.to_string());
            source = error.source();
        }
        tracing::error!(error = chain, "request.failed");
        (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "5")]).into_response()
    }
}
