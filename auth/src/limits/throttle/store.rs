use std::{collections::HashMap, time::Duration};

use sqlx::{PgConnection, PgPool, postgres::types::PgInterval};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::policy::limits::{Limit, Rate};
use crate::primitives::statement::Statement as _;

use super::{Charge, Full, MaskedSubject};

/// In one order everywhere, so that two requests that share keys wait for each other and never deadlock.
fn sorted<'a>(charges: impl Iterator<Item = &'a Charge>) -> Vec<&'a Charge> {
    let mut sorted: Vec<&Charge> = charges.collect();
    sorted.sort_by_key(|charge| (charge.limit.name(), charge.key));
    sorted
}

fn columns(sorted: &[&Charge]) -> (Vec<String>, Vec<Vec<u8>>, Vec<PgInterval>, Vec<PgInterval>) {
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

/// A key that moved on, and where to.
pub(super) struct Taken {
    pub limit: Limit,
    pub key: [u8; 32],
    pub tat: OffsetDateTime,
}

/// One upsert for all: each key moves on, or stays because it would run more than a period ahead. Returns those that moved. Each charge
/// is a part: it is paid by itself or, where that is full, by what is charged instead. Where one part can't be paid, as the table
/// stands, none is written: a refused request makes no row. Only requests at the very same moment get past that, to the condition at
/// each row, which decides.
pub(super) async fn take(connection: &mut PgConnection, charges: &[Charge], now: OffsetDateTime) -> sqlx::Result<Vec<Taken>> {
    let sorted = sorted(charges.iter().flat_map(Charge::all));
    let (names, keys, emissions, periods) = columns(&sorted);
    let (mut addresses, mut networks, mut users) = (Vec::new(), Vec::new(), Vec::new());
    let (mut parts, mut instead) = (Vec::new(), Vec::new());
    for charge in sorted {
        let MaskedSubject { address, network, user } = charge.subject.clone();
        addresses.push(address);
        networks.push(network);
        users.push(user);
        let part = charges.iter().position(|part| part.all().any(|paid| paid.row() == charge.row())).unwrap_or_default();
        instead.push(charges[part].row() != charge.row());
        parts.push(i32::try_from(part).unwrap_or(i32::MAX));
    }
    let rows = sqlx::query!(
        r#"
        with asked as materialized (
            select * from unnest($1::text[], $2::bytea[], $3::interval[], $4::interval[], $6::text[], $7::text[], $8::uuid[],
                                 $9::integer[], $10::boolean[])
                with ordinality as asked (name, key, emission, period, address, network, user_id, part, instead, place)
        ), used_up as materialized (
            select one.part, one.instead from asked one join rate_limits held on held.name = one.name and held.key = one.key
            where greatest(held.tat, $5) + one.emission > $5 + one.period
        ), paid as (
            select part, min(instead::integer)::boolean as instead from asked
            where (part, instead) not in (select part, instead from used_up)
            group by part
        )
        insert into rate_limits as r (name, key, tat, period, address, network, user_id)
        select name, key, $5::timestamptz + emission, period, address, network, user_id
        from asked join paid using (part, instead)
        where (select count(distinct part) from asked) = (select count(*) from paid)
        order by place
        on conflict (name, key) do update
            set tat = greatest(r.tat, $5) + (excluded.tat - $5), period = excluded.period
            where greatest(r.tat, $5) + (excluded.tat - $5) <= $5 + excluded.period
        returning name, key, tat
        "#,
        &names,
        &keys,
        &emissions,
        &periods,
        now,
        &addresses as &[Option<String>],
        &networks as &[Option<String>],
        &users as &[Option<Uuid>],
        &parts,
        &instead,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| Some(Taken { limit: Limit::by_name(&row.name)?, key: row.key.try_into().ok()?, tat: row.tat }))
        .collect())
}

/// Of these alone, not of what was charged instead.
pub(super) async fn give_back(connection: &mut PgConnection, charges: &[Charge]) -> sqlx::Result<()> {
    let (names, keys, emissions, _) = columns(&sorted(charges.iter()));
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
    .run(connection)
    .await
}

/// Takes away rows that count nothing, of those: a request that was refused after all leaves none behind. It waits for nobody: a row
/// that another request is counting at this moment stays.
pub(super) async fn clear(connection: &mut PgConnection, charges: &[Charge], now: OffsetDateTime) -> sqlx::Result<()> {
    let (names, keys, _, _) = columns(&sorted(charges.iter()));
    sqlx::query!(
        r#"
        delete from rate_limits where (name, key) in (
            select r.name, r.key
            from unnest($1::text[], $2::bytea[]) as cleared (name, key)
            join rate_limits r on r.name = cleared.name and r.key = cleared.key
            where r.tat <= $3
            for update of r skip locked
        ) and tat <= $3
        "#,
        &names,
        &keys,
        now,
    )
    .run(connection)
    .await
}

/// The rows of these, and of what is charged instead, and how long until each would let the next pass.
pub(super) async fn waits(
    connection: &mut PgConnection,
    charges: &[Charge],
    now: OffsetDateTime,
) -> sqlx::Result<HashMap<(Limit, [u8; 32]), Duration>> {
    let (names, keys, emissions, periods) = columns(&sorted(charges.iter().flat_map(Charge::all)));
    let rows = sqlx::query!(
        r#"
        select r.name, r.key, (r.tat + emission - asked.period) as "free_at!"
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
        .filter_map(|row| {
            let wait = Duration::try_from(row.free_at - now).ok()?;
            Some(((Limit::by_name(&row.name)?, row.key.try_into().ok()?), wait))
        })
        .collect())
}

/// How far a key has run ahead of the clock.
pub(super) async fn ahead(pool: &PgPool, charge: &Charge, now: OffsetDateTime) -> sqlx::Result<Duration> {
    let tat = sqlx::query_scalar!("select tat from rate_limits where name = $1 and key = $2", charge.limit.name(), &charge.key)
        .fetch_optional(pool)
        .await?;
    Ok(tat.and_then(|tat| Duration::try_from(tat - now).ok()).unwrap_or_default())
}

/// The rows that would refuse the next request, by the rates in force now.
pub(super) async fn full(pool: &PgPool, rates: &[(Limit, Rate)], most: i64, now: OffsetDateTime) -> sqlx::Result<(Vec<Full>, i64)> {
    let names: Vec<String> = rates.iter().map(|(limit, _)| limit.name().to_owned()).collect();
    let emissions: Vec<PgInterval> = rates.iter().map(|(_, rate)| interval(rate.emission())).collect();
    let periods: Vec<PgInterval> = rates.iter().map(|(_, rate)| interval(rate.period)).collect();
    let rows = sqlx::query!(
        r#"
        select r.name, r.key, r.address, r.network, r.user_id, (r.tat + emission - rate.period) as "free_at!", count(*) over () as "all!"
        from unnest($1::text[], $2::interval[], $3::interval[]) as rate (name, emission, period)
        join rate_limits r on r.name = rate.name
        where r.tat > $4 and r.tat + emission - rate.period > $4
        order by 6 desc, r.name, r.key
        limit $5
        "#,
        &names,
        &emissions,
        &periods,
        now,
        most,
    )
    .fetch_all(pool)
    .await?;
    let all = rows.first().map_or(0, |row| row.all);
    let full = rows.into_iter().filter_map(|row| {
        let subject = MaskedSubject { address: row.address, network: row.network, user: row.user_id };
        Some(Full { limit: Limit::by_name(&row.name)?, key: row.key, subject, free_at: row.free_at })
    });
    Ok((full.collect(), all))
}

/// Forgives a row whatever it has counted, and says whose it is; `None` where it had counted nothing. The row stays: a request that
/// is being counted at this moment is not lost with it.
pub(crate) async fn release(
    connection: &mut PgConnection,
    limit: Limit,
    key: &[u8],
    now: OffsetDateTime,
) -> sqlx::Result<Option<MaskedSubject>> {
    sqlx::query_as!(
        MaskedSubject,
        r#"
        update rate_limits set tat = $3 where name = $1 and key = $2 and tat > $3
        returning address, network, user_id as "user"
        "#,
        limit.name(),
        key,
        now,
    )
    .fetch_optional(connection)
    .await
}
