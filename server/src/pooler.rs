//! A pooler that hands server processes on from transaction to transaction, as PgBouncer does with `pool_mode = transaction`: statements
//! of other clients then run on our connections, and no answer about who is signed in can be trusted. So nothing runs behind one.

use std::{convert::Infallible, time::Duration};

use auth::operations::diagnostics::{self, Pooling};
use sqlx::PgPool;

pub const FOUND: &str = "a pooler hands server processes from transaction to transaction, so statements of other clients could run on ours; \
                         set pool_mode = session for this database in PgBouncer";

/// How often it is asked where the database did not answer at the start.
const AGAIN: Duration = Duration::from_secs(2);

/// Whether it is known that there is none: `false` where the database does not answer.
///
/// # Errors
/// Where there is one.
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

/// Ends only where there is one.
///
/// # Errors
/// Then.
pub async fn watch(pool: &PgPool) -> anyhow::Result<Infallible> {
    while !refuse(pool).await? {
        tokio::time::sleep(AGAIN).await;
    }
    std::future::pending().await
}
