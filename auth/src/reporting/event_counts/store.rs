use sqlx::{PgExecutor, PgPool};
use time::{Duration, OffsetDateTime};

use super::SHOWN;
use crate::outbox;
use crate::primitives::statement::Statement as _;

/// The minute that holds it.
pub(super) fn minute(at: OffsetDateTime) -> OffsetDateTime {
    at - Duration::nanoseconds(i64::try_from(at.unix_timestamp_nanos().rem_euclid(60_000_000_000)).unwrap_or(0))
}

pub(super) async fn add(pool: &PgPool, counted: &[(&str, i64)], now: OffsetDateTime) -> sqlx::Result<()> {
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
        on conflict (name, minute) do update set value = least(greatest(c.value, 0)::numeric + excluded.value, 1e15)
        "#,
        minute(now),
        &names,
        &values,
    )
    .run(pool)
    .await
}

/// Up to when events were counted; at most up to now. The application's role can write any time there, also one that no clock shows and
/// that nothing can be counted from.
pub(crate) async fn counted_until(pool: &PgPool, now: OffsetDateTime) -> sqlx::Result<Option<OffsetDateTime>> {
    sqlx::query_scalar!(
        r#"select greatest(least(last_slot, $1), 'epoch') as "at!" from scheduled_tasks where name = 'event_counts'"#,
        now
    )
    .fetch_optional(pool)
    .await
}

/// Says that events were counted up to then.
pub(super) async fn save_counted(executor: impl PgExecutor<'_>, until: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into scheduled_tasks (name, last_slot) values ('event_counts', $1)
        on conflict (name) do update set last_slot = excluded.last_slot
        "#,
        until,
    )
    .run(executor)
    .await
}

pub(super) async fn first_event(pool: &PgPool, since: OffsetDateTime) -> sqlx::Result<Option<OffsetDateTime>> {
    sqlx::query_scalar!("select min(created_at) from auth_audit where created_at >= $1", since).fetch_one(pool).await
}

/// Counts the events of `from` (a whole minute) until `until` anew, and adds the periods up that these are in. Reasons are told apart
/// only where they are ours: an administrator's words are none to count by. No row, however odd, keeps the others from being counted: the
/// application's role can add one with a name of 64 KiB, which no index takes, or with a word where a number of seconds belongs, and
/// numbers that don't fit once they are added up.
///
/// Details of over 1 KiB as they are stored are no server's, and count as none: five thousand rows whose details are 64 KiB long took half
/// a minute. `offset 0` keeps the planner from reading them once for each name, or by their whole length as a key of its cache.
pub(super) async fn count_events(pool: &PgPool, from: OffsetDateTime, until: OffsetDateTime) -> sqlx::Result<()> {
    let kinds: Vec<String> = outbox::SIGN_IN_KINDS.into_iter().map(ToOwned::to_owned).collect();
    let shown: Vec<String> = SHOWN.into_iter().map(ToOwned::to_owned).collect();
    let mut transaction = pool.begin().await?;
    sqlx::query!(
        r#"
        insert into minute_counts as c (minute, name, value)
        select date_trunc('minute', created_at), left(name, 64), count(*)
        from (
            select created_at, event_type, details ->> 'reason' as reason, details ->> 'method' as method, details ->> 'level' as level,
                   details ->> 'kind' as kind, details ->> 'after_ms' as after_ms
            from (
                select created_at, event_type, case when pg_column_size(details) <= 1024 then details end as details
                from auth_audit where created_at >= $1 and created_at < $2
            ) small
            offset 0
        ) event
        cross join lateral (
            select case when after_ms ~ '^-?[0-9]+([.][0-9]+)?$'
                then least(greatest(ceil(after_ms::numeric / 1000), 1), 1000000000) end
        ) as took (whole)
        cross join lateral (
            select case when whole < 100 then whole when whole < 1000 then ceil(whole / 10) * 10 else ceil(whole / 100) * 100 end::bigint
        ) as rounded (seconds)
        cross join lateral (values
            (event_type || case when event_type like '%.refused' then ':' || coalesce(reason, '') else '' end),
            (case when event_type = 'session.created' and level <> 'first_factor' then 'sign_in.finished:' || method end),
            (case when event_type = 'session.created' and level <> 'first_factor' then 'sign_in.seconds:' || seconds end),
            (case when event_type = 'mail.sent' and kind = any($3) then 'sign_in.mailed' end),
            (case when event_type = 'mail.sent' then 'mail.seconds:' || seconds end)
        ) as counted (name)
        where name is not null
        group by 1, 2 order by 2, 1
        on conflict (name, minute) do update set value = excluded.value where c.value <> excluded.value
        "#,
        from,
        until,
        &kinds,
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        r#"
        insert into period_counts as c (hours, begins_at, name, seconds, value)
        select 1, date_trunc('hour', minute, 'UTC'), kind, seconds, least(greatest(sum(value), 0), 1e15)
        from minute_counts
        cross join lateral (select name ~ '^[a-z_]+\.seconds:[0-9]{1,9}$') as took (time)
        cross join lateral (select
            case when time or name like 'link.refused:%' then split_part(name, ':', 1) else name end,
            case when time then split_part(name, ':', 2)::integer else 0 end
        ) as split (kind, seconds)
        where minute >= date_trunc('hour', $1::timestamptz, 'UTC') and minute < $2
            and (name in ('link.requested', 'link.redeemed') or name like any('{link.refused:%,sign_in.%,mail.seconds:%}'))
            and kind = any($3)
        group by 2, 3, 4 order by 3, 2, 4
        on conflict (hours, name, begins_at, seconds) do update set value = excluded.value where c.value <> excluded.value
        "#,
        from,
        until,
        &shown,
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        r#"
        insert into period_counts as c (hours, begins_at, name, seconds, value)
        select longer.hours, date_bin(make_interval(hours => longer.hours), begins_at, 'epoch'), name, seconds,
            least(greatest(sum(value), 0), 1e15)
        from period_counts cross join (values (6), (24)) as longer (hours)
        where period_counts.hours = 1 and begins_at >= date_trunc('day', $1::timestamptz, 'UTC') and begins_at < $2
            and name = any($3)
        group by 1, 2, 3, 4 order by 1, 3, 2, 4
        on conflict (hours, name, begins_at, seconds) do update set value = excluded.value where c.value <> excluded.value
        "#,
        from,
        until,
        &shown,
    )
    .execute(&mut *transaction)
    .await?;
    save_counted(&mut *transaction, until).await?;
    transaction.commit().await
}

pub(crate) async fn sum_since(executor: impl PgExecutor<'_>, name: &str, since: OffsetDateTime) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select least(greatest(sum(value), 0), 1e15)::bigint as "sum!" from minute_counts where name = $1 and minute >= $2"#,
        name,
        since,
    )
    .fetch_one(executor)
    .await
}
