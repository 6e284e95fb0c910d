//! Alive and ready. A process is alive while it answers; it is ready while it can do its work and has not been told to stop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use auth::Auth;
use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::StatusCode;

/// Longer than a database that works ever takes.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub struct Health {
    auth: Arc<Auth>,
    draining: Arc<AtomicBool>,
}

impl Health {
    pub fn new(auth: Arc<Auth>) -> Self {
        Self { auth, draining: Arc::default() }
    }

    /// From here on `/readyz` says 503, so that a load balancer sends nobody new.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub fn routes(self) -> Router {
        Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(readyz)).with_state(self)
    }
}

async fn readyz(State(health): State<Health>) -> Response {
    if health.draining.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response();
    }
    match tokio::time::timeout(DATABASE_TIMEOUT, auth::operations::migrate::is_ready(health.auth.pool())).await {
        Ok(Ok(true)) => "ready\n".into_response(),
        Ok(Ok(false)) => (StatusCode::SERVICE_UNAVAILABLE, "migrations are pending\n").into_response(),
        Ok(Err(error)) => {
            tracing::warn!(error = %error, "readyz.database");
            (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n").into_response()
        }
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database takes too long\n").into_response(),
    }
}
