use sqlx::{PgExecutor, PgPool};
use time::{Duration, OffsetDateTime};

/// The minute that holds it.
pub(super) fn minute(at: OffsetDateTime) -> OffsetDateTime {
    at - Duration::nanoseconds(i64::try_from(at.unix_timestamp_nanos().rem_euclid(60_000_000_000)).unwrap_or(0))
}

pub(super) async fn add(pool: &PgPool, counted: &[(&str, i64)], now: OffsetDateTime) -> Result<(), sqlx::Error> {
    if counted.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = counted.iter().map(|(name, _)| (*name).to_owned()).collect();
    let values: Vec<i64> = counted.iter().map(|(_, value)| *value).collect();
    // In one order, so that two processes wait for each other and never deadlock.
    sqlx::query!(
        r#"
        insert into minute_counts as c (minute, name, value)
        select $1, name, value from unnest($2::text[], $3::bigint[]) as counted (name, value) order by name
        on conflict (name, minute) do update set value = c.value + excluded.value
        "#,
        minute(now),
        &names,
        &values,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Up to when events were counted.
pub(super) async fn counted_until(pool: &PgPool) -> Result<Option<OffsetDateTime>, sqlx::Error> {
    sqlx::query_scalar!("select last_slot from scheduled_tasks where name = 'minute_counts'").fetch_optional(pool).await
}

/// Counts the events of `from` (a whole minute) until `until` anew. Reasons are told apart only where they are ours: an
/// administrator's words are none to count by.
pub(super) async fn count_events(pool: &PgPool, from: OffsetDateTime, until: OffsetDateTime) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query!(
        r#"
        insert into minute_counts (minute, name, value)
        select date_trunc('minute', created_at),
               event_type || case when event_type like '%.refused' then ':' || coalesce(details ->> 'reason', '') else '' end,
               count(*)
        from auth_audit where created_at >= $1 and created_at < $2
        group by 1, 2 order by 2, 1
        on conflict (name, minute) do update set value = excluded.value
        "#,
        from,
        until,
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        r#"
        insert into scheduled_tasks (name, last_slot) values ('minute_counts', $1)
        on conflict (name) do update set last_slot = excluded.last_slot
        "#,
        until,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}

pub(crate) async fn sum_since(executor: impl PgExecutor<'_>, name: &str, since: OffsetDateTime) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select coalesce(sum(value), 0)::bigint as "sum!" from minute_counts where name = $1 and minute >= $2"#,
        name,
        since,
    )
    .fetch_one(executor)
    .await
}
