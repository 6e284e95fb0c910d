//! Refuses to run behind a pooler that shares server processes between transactions, as PgBouncer does with `pool_mode = transaction`:
//! other clients' statements would run on our connections, and no answer about a session could be trusted.

use std::{convert::Infallible, time::Duration};

use auth::operations::diagnostics::{self, Pooling};
use sqlx::PgPool;

pub const FOUND: &str = "a pooler hands server processes from transaction to transaction, so statements of other clients could run on ours; \
                         set pool_mode = session for this database in PgBouncer";

/// How often to ask again if the database did not answer at the start.
const AGAIN: Duration = Duration::from_secs(2);

/// Returns whether the database answered.
///
/// # Errors
/// If there is such a pooler.
pub async fn refuse(pool: &PgPool) -> anyhow::Result<bool> {
    match diagnostics::pooling(pool).await {
        Ok(Pooling::Session) => Ok(true),
        Ok(Pooling::Transaction) => anyhow::bail!("DATABASE_URL: {FOUND}"),
        Err(error) => {
            tracing::debug!(error = %error, "pooler.unknown");
            Ok(false)
        }
    }
}

/// Returns only if a pooler is found.
///
/// # Errors
/// Always; the error names the pooler.
pub async fn watch(pool: &PgPool) -> anyhow::Result<Infallible> {
    while !refuse(pool).await? {
        tokio::time::sleep(AGAIN).await;
    }
    std::future::pending().await
}
