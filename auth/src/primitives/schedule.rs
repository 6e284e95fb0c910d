//! Tasks that one process does for all: whoever moves a task's slot forward runs it.

use sqlx::PgPool;
use time::{Duration, OffsetDateTime};

use super::statement::Statement as _;

/// Whether this process won the run that is due. A run that was won and failed is made up for by the next one. A slot far ahead was
/// written under a clock that jumped, or by hand, and counts for nothing: the task would not run until then.
pub(crate) async fn wins(pool: &PgPool, task: &str, every: Duration, now: OffsetDateTime) -> sqlx::Result<bool> {
    let slot = now.unix_timestamp() - now.unix_timestamp().rem_euclid(every.whole_seconds());
    let slot = OffsetDateTime::from_unix_timestamp(slot).unwrap_or(now);
    sqlx::query!(
        r#"
        insert into scheduled_tasks as s (name, last_slot) values ($1, $2)
        on conflict (name) do update set last_slot = excluded.last_slot
            where s.last_slot < excluded.last_slot or s.last_slot > excluded.last_slot + make_interval(secs => $3)
        "#,
        task,
        slot,
        every.as_seconds_f64(),
    )
    .changes(pool)
    .await
}
