//! Alive and ready. A process is alive while it answers; it is ready while it can do its work and no stop was asked for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use auth::Auth;
use axum::{Router, extract::State, routing::get};
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

    /// From here on `/readyz` says 503, so that a load balancer sends no new clients.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub fn routes(self) -> Router {
        Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(readyz)).with_state(self)
    }
}

async fn readyz(State(health): State<Health>) -> Result<&'static str, (StatusCode, &'static str)> {
    let not_ready = |why| Err((StatusCode::SERVICE_UNAVAILABLE, why));
    if health.draining.load(Ordering::Relaxed) {
        return not_ready("stopping\n");
    }
    match tokio::time::timeout(DATABASE_TIMEOUT, auth::operations::migrate::is_ready(health.auth.pool())).await {
        Ok(Ok(true)) => Ok("ready\n"),
        Ok(Ok(false)) => not_ready("migrations are pending\n"),
        Ok(Err(error)) => {
            tracing::warn!(error = %error, "readyz.database");
            not_ready("the database does not answer\n")
        }
        Err(_) => not_ready("the database takes too long\n"),
    }
}
