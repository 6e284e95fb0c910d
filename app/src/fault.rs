//! The database did not answer: said once, in the log, and answered with a status. The edge puts the page around it, with the
//! request's id on it.

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header::RETRY_AFTER};

#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Domain(#[from] auth::Error),
    #[error(transparent)]
    Session(#[from] tower_sessions::session::Error),
}

impl IntoResponse for Fault {
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
