use sqlx::PgPool;
use time::OffsetDateTime;

use super::Accounts;
use crate::primitives::statement::Statement as _;
use crate::reporting::event_counts::{REQUESTED, SHOWN};

pub(super) struct Counted {
    /// When it begins; none of what lies before all of them.
    pub bucket: Option<OffsetDateTime>,
    pub name: String,
    pub seconds: u32,
    pub value: u64,
}

/// What happened from `begin` to `until`: before `from` together, since then in buckets of `hours`.
pub(super) async fn counted(
    pool: &PgPool,
    begin: OffsetDateTime,
    from: OffsetDateTime,
    until: OffsetDateTime,
    hours: u8,
) -> sqlx::Result<Vec<Counted>> {
    let names: Vec<String> = SHOWN.into_iter().map(ToOwned::to_owned).collect();
    let rows = sqlx::query!(
        r#"
        select case when begins_at >= $2 then begins_at end as bucket, name, seconds, least(greatest(sum(value), 0), 1e15)::bigint as "value!"
        from period_counts where hours = $4 and name = any($5) and begins_at >= $1 and begins_at <= $3
        group by 1, 2, 3
        "#,
        begin,
        from,
        until,
        i16::from(hours),
        &names,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Counted {
            bucket: row.bucket,
            name: row.name,
            seconds: row.seconds.unsigned_abs(),
            value: row.value.unsigned_abs(),
        })
        .collect())
}

/// The hour of the first request.
pub(super) async fn since(pool: &PgPool) -> sqlx::Result<Option<OffsetDateTime>> {
    sqlx::query_scalar!("select min(begins_at) from period_counts where hours = 1 and name = $1", REQUESTED).fetch_one(pool).await
}

/// How many accounts there were at the end of each bucket in which somebody looked, the oldest first.
pub(super) async fn accounts(
    pool: &PgPool,
    begin: OffsetDateTime,
    until: OffsetDateTime,
    hours: u8,
) -> sqlx::Result<Vec<(OffsetDateTime, Accounts)>> {
    let rows = sqlx::query!(
        r#"
        select a.begins_at, a.value as "all!", t.value as "with_two_factor!"
        from period_counts a
        join period_counts t on t.hours = a.hours and t.name = 'accounts.two_factor' and t.begins_at = a.begins_at
        where a.hours = $3 and a.name = 'accounts' and a.begins_at >= $1 and a.begins_at <= $2 order by a.begins_at
        "#,
        begin,
        until,
        i16::from(hours),
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.begins_at, Accounts { all: row.all.unsigned_abs(), with_two_factor: row.with_two_factor.unsigned_abs() }))
        .collect())
}

/// How many accounts there were when somebody last looked, and how many of them were administrators'.
pub(crate) async fn newest_accounts(pool: &PgPool) -> sqlx::Result<Option<(u64, u64)>> {
    let row = sqlx::query!(
        r#"
        select a.value as "all!", m.value as "admins!"
        from period_counts a
        join period_counts m on m.hours = a.hours and m.name = 'accounts.admins' and m.begins_at = a.begins_at
        where a.hours = 1 and a.name = 'accounts' order by a.begins_at desc limit 1
        "#
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| (row.all.unsigned_abs(), row.admins.unsigned_abs())))
}

/// The newest look of a period is the one that stays.
pub(super) async fn count_accounts(pool: &PgPool, now: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into period_counts (hours, begins_at, name, value)
        select hours, date_bin(make_interval(hours => hours), $1::timestamptz, 'epoch'), name, value
        from (values (1), (6), (24)) as period (hours)
        cross join (values
            ('accounts', (select count(*) from users)),
            ('accounts.admins', (select count(*) from users where is_admin)),
            ('accounts.two_factor', (select count(distinct user_id) from totp_credentials where confirmed_at is not null))
        ) as counted (name, value)
        on conflict (hours, name, begins_at, seconds) do update set value = excluded.value
        "#,
        now,
    )
    .run(pool)
    .await
}
