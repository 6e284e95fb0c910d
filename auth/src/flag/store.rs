use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;

use super::{Flag, FlagRow};
use crate::primitives::statement::Statement as _;

/// More rows than that can only be a mistake.
const MOST: i64 = 200;

fn flag(mut allowed: Vec<String>, percent_admins: i16, percent_everyone: i16) -> Flag {
    // Also where somebody wrote the row by hand: it is searched in this order.
    allowed.sort_unstable();
    allowed.dedup();
    let percent = |stored: i16| u8::try_from(stored.clamp(0, 100)).unwrap_or(0);
    Flag { allowed, percent_admins: percent(percent_admins), percent_everyone: percent(percent_everyone) }
}

pub(super) async fn all(pool: &PgPool) -> sqlx::Result<Vec<FlagRow>> {
    let rows = sqlx::query!(
        "select key, allowed, percent_admins, percent_everyone, updated_at, updated_by, reason from feature_flags order by key limit $1",
        MOST,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| FlagRow {
            key: row.key,
            flag: flag(row.allowed, row.percent_admins, row.percent_everyone),
            updated_at: row.updated_at,
            updated_by: row.updated_by,
            reason: row.reason,
        })
        .collect())
}

/// A statement whose first values are a flag's.
macro_rules! with_flag {
    ($sql:tt, $key:expr, $flag:expr $(, $more:expr)+) => {
        sqlx::query!(
            $sql,
            $key,
            &$flag.allowed,
            i16::from($flag.percent_admins),
            i16::from($flag.percent_everyone)
            $(, $more)+
        )
    };
}

/// Makes the row where there is none.
pub(super) async fn make(connection: &mut PgConnection, key: &str, flag: &Flag, now: OffsetDateTime) -> sqlx::Result<()> {
    with_flag!(
        r#"
        insert into feature_flags (key, allowed, percent_admins, percent_everyone, updated_at, updated_by, reason)
        values ($1, $2, $3, $4, $5, 'environment', '')
        on conflict (key) do nothing
        "#,
        key,
        flag,
        now
    )
    .run(connection)
    .await
}

/// The row, which nobody else changes until the transaction is over.
pub(crate) async fn lock(connection: &mut PgConnection, key: &str) -> sqlx::Result<Flag> {
    let row = sqlx::query!("select allowed, percent_admins, percent_everyone from feature_flags where key = $1 for update", key)
        .fetch_one(connection)
        .await?;
    Ok(flag(row.allowed, row.percent_admins, row.percent_everyone))
}

/// The same where there is a row.
pub(crate) async fn hold(connection: &mut PgConnection, key: &str) -> sqlx::Result<()> {
    sqlx::query!("select key from feature_flags where key = $1 for update", key).fetch_optional(connection).await?;
    Ok(())
}

/// Who listens on `channel` is told when the transaction commits.
pub(super) async fn write(
    connection: &mut PgConnection,
    key: &str,
    flag: &Flag,
    by: &str,
    reason: &str,
    now: OffsetDateTime,
    channel: &str,
) -> sqlx::Result<()> {
    with_flag!(
        r#"
        update feature_flags
        set allowed = $2, percent_admins = $3, percent_everyone = $4, updated_at = $5, updated_by = $6, reason = $7
        where key = $1
        "#,
        key,
        flag,
        now,
        by,
        reason
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!("select pg_notify($1, $2)", channel, key).run(connection).await
}
