//! Wrong codes by mail for an address, in browsers that its account doesn't know: after too many only a link works, until it is used. There
//! is a count for every address alike, with an account or without.
//!
//! Not here: the statement that counts and decides (`one_time/magic_link/store.rs`), and the counts of known browsers (`known_browser`).
//! To add one: a statement here.

use sqlx::{PgConnection, PgPool};

use crate::{policy::MAX_WRONG_CODES, primitives::statement::Statement as _};

/// Whether there were too many.
pub(crate) async fn codes_off(pool: &PgPool, email_key: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from wrong_codes where email_key = $1 and failures >= $2) as "off!""#,
        email_key,
        MAX_WRONG_CODES,
    )
    .fetch_one(pool)
    .await
}

/// A right code was counted as a wrong one.
pub(crate) async fn uncount(pool: &PgPool, email_key: &str) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        with one_less as (
            update wrong_codes set failures = failures - 1 where email_key = $1 and failures > 1
        )
        delete from wrong_codes where email_key = $1 and failures <= 1
        "#,
        email_key,
    )
    .run(pool)
    .await
}

/// A link was used: codes are taken again.
pub(crate) async fn link_used(connection: &mut PgConnection, email_key: &str) -> sqlx::Result<()> {
    sqlx::query!("delete from wrong_codes where email_key = $1", email_key).run(connection).await
}
