//! Alive and ready. A process is alive while it answers; it is ready while it can do its work, which is to write, and no stop was asked for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use auth::{
    Auth,
    operations::diagnostics::{self, Readiness},
};
use axum::{Router, extract::State, routing::get};
use http::StatusCode;

/// Longer than a database that works ever takes.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(2);
/// For the reason of a "no", after that: a load balancer waits for the answer.
const REASON_TIMEOUT: Duration = Duration::from_secs(1);
const READ_ONLY: &str = "the database is read-only\n";

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
    let pool = health.auth.pool();
    let late = match tokio::time::timeout(DATABASE_TIMEOUT, diagnostics::readiness(pool)).await {
        Ok(Ok(Readiness::Ready)) => return Ok("ready\n"),
        Ok(Ok(Readiness::MigrationsPending)) => return not_ready("migrations are pending\n"),
        Ok(Ok(Readiness::NoRights)) => return not_ready("the database role may not write; run `latchkey migrate`\n"),
        Ok(Ok(Readiness::ReadOnly)) => {
            tracing::warn!("readyz.read_only");
            return not_ready(READ_ONLY);
        }
        Ok(Err(error)) => {
            tracing::warn!(error = %error, "readyz.database");
            "the database does not answer\n"
        }
        Err(_) => "the database takes too long\n",
    };
    // The pool rejects connections that can't write, and says only that it waited.
    if let Ok(Ok(true)) = tokio::time::timeout(REASON_TIMEOUT, diagnostics::refuses_writes(pool)).await {
        tracing::warn!("readyz.read_only");
        return not_ready(READ_ONLY);
    }
    not_ready(late)
}
