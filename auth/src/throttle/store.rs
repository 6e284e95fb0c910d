use std::time::Duration;

use sqlx::{PgConnection, PgPool, postgres::types::PgInterval};
use time::OffsetDateTime;

use super::{Charge, Limit, Limited};

fn columns(charges: &[Charge]) -> (Vec<String>, Vec<Vec<u8>>, Vec<PgInterval>, Vec<PgInterval>) {
    // In one order everywhere, so that two requests that share keys wait for each other and never deadlock.
    let mut sorted: Vec<&Charge> = charges.iter().collect();
    sorted.sort_by_key(|charge| (charge.limit.name(), charge.key));
    (
        sorted.iter().map(|charge| charge.limit.name().to_owned()).collect(),
        sorted.iter().map(|charge| charge.key.to_vec()).collect(),
        sorted.iter().map(|charge| interval(charge.rate.emission())).collect(),
        sorted.iter().map(|charge| interval(charge.rate.period)).collect(),
    )
}

fn interval(duration: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX) }
}

/// One upsert for all: each key moves on, or stays because it would run more than a period ahead. Returns those that moved.
pub(super) async fn take(
    connection: &mut PgConnection,
    charges: &[Charge],
    now: OffsetDateTime,
) -> Result<Vec<(Limit, [u8; 32])>, sqlx::Error> {
    let (names, keys, emissions, periods) = columns(charges);
    let rows = sqlx::query!(
        r#"
        insert into rate_limits as r (name, key, tat, period)
        select name, key, $5::timestamptz + emission, period
        from unnest($1::text[], $2::bytea[], $3::interval[], $4::interval[]) as asked (name, key, emission, period)
        on conflict (name, key) do update
            set tat = greatest(r.tat, $5) + (excluded.tat - $5), period = excluded.period
            where greatest(r.tat, $5) + (excluded.tat - $5) <= $5 + excluded.period
        returning name, key
        "#,
        &names,
        &keys,
        &emissions,
        &periods,
        now,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().filter_map(|row| Some((Limit::by_name(&row.name)?, row.key.try_into().ok()?))).collect())
}

pub(super) async fn give_back(connection: &mut PgConnection, charges: &[Charge]) -> Result<(), sqlx::Error> {
    let (names, keys, emissions, _) = columns(charges);
    sqlx::query!(
        r#"
        update rate_limits r set tat = r.tat - given.emission
        from unnest($1::text[], $2::bytea[], $3::interval[]) as given (name, key, emission)
        where r.name = given.name and r.key = given.key
        "#,
        &names,
        &keys,
        &emissions,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn waits(
    connection: &mut PgConnection,
    charges: &[Charge],
    now: OffsetDateTime,
) -> Result<Vec<Limited>, sqlx::Error> {
    let (names, keys, emissions, periods) = columns(charges);
    let rows = sqlx::query!(
        r#"
        select r.name, (r.tat + emission - asked.period) as "free_at!"
        from unnest($1::text[], $2::bytea[], $3::interval[], $4::interval[]) as asked (name, key, emission, period)
        join rate_limits r on r.name = asked.name and r.key = asked.key
        "#,
        &names,
        &keys,
        &emissions,
        &periods,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| Some(Limited { limit: Limit::by_name(&row.name)?, wait: Duration::try_from(row.free_at - now).ok()? }))
        .collect())
}

/// How far a key has run ahead of the clock.
pub(super) async fn ahead(pool: &PgPool, charge: &Charge, now: OffsetDateTime) -> Result<Duration, sqlx::Error> {
    let tat = sqlx::query_scalar!("select tat from rate_limits where name = $1 and key = $2", charge.limit.name(), &charge.key)
        .fetch_optional(pool)
        .await?;
    Ok(tat.and_then(|tat| Duration::try_from(tat - now).ok()).unwrap_or_default())
}
