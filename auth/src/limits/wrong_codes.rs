//! Wrong codes by mail for an address, in browsers that its account doesn't know: after too many only a link works, until it is used. There
//! is a count for every address alike, with an account or without.
//!
//! Not here: the statement that counts and decides (`one_time/magic_link/store.rs`), and the counts of known browsers (`known_browser`).
//! To add one: a statement here.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;

use crate::{
    policy::{MAX_WRONG_CODES, MAX_WRONG_FIRST_CODES},
    primitives::statement::Statement as _,
};

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

/// A right code was counted as a wrong one. Returns whether it may sign the address in: where it has no account yet, and within a day
/// [`MAX_WRONG_FIRST_CODES`] were wrong for other addresses without one, only a link makes its account. Anybody can name addresses without
/// end, each with tries of its own.
pub(crate) async fn uncount(pool: &PgPool, email_key: &str, now: OffsetDateTime) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        with one_less as (
            update wrong_codes set failures = failures - 1 where email_key = $1 and failures > 1
        ), none_left as (
            delete from wrong_codes where email_key = $1 and failures <= 1
        )
        select case when exists (select from users where email_key = $1) then true else (
            select coalesce(sum(failures), 0) < $3 from (
                select failures from wrong_codes w
                -- Along the index, for each of those few; as an anti-join it reads all accounts.
                where last_at > $2 and email_key <> $1 and (select u.id from users u where u.email_key = w.email_key) is null
                limit $3
            ) others
        ) end as "signs_in!"
        "#,
        email_key,
        now - Duration::from_hours(24),
        i64::from(MAX_WRONG_FIRST_CODES),
    )
    .fetch_one(pool)
    .await
}

/// A link was used: codes are taken again.
pub(crate) async fn link_used(connection: &mut PgConnection, email_key: &str) -> sqlx::Result<()> {
    sqlx::query!("delete from wrong_codes where email_key = $1", email_key).run(connection).await
}
