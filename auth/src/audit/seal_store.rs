use std::collections::BTreeMap;

use sqlx::{PgConnection, PgPool, types::Json};
use time::{Date, Duration, OffsetDateTime, macros::datetime};
use uuid::Uuid;

use super::chain::{Head, Kind, LastVerified, Late, Mark, Row, Seal};
use crate::primitives::cursor::Cursor;
use crate::primitives::statement::Statement as _;

const BEGINNING: OffsetDateTime = datetime!(0001-01-01 0:00 UTC);

/// The newest batch: its end, and what it is known by.
pub(super) struct Newest {
    pub head: Head,
    pub to: Mark,
    pub sealed_at: OffsetDateTime,
}

/// Until the transaction ends, nobody else adds to the chain.
pub(super) async fn lock(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("select pg_advisory_xact_lock(hashtext('auth_audit_seals'))").run(connection).await
}

pub(super) async fn head(connection: &mut PgConnection) -> sqlx::Result<Option<Newest>> {
    let row = sqlx::query!(
        "select number, hash, to_position, to_at, to_id, sealed_at from auth_audit_seals order by number desc limit 1"
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Newest {
        head: Head { number: row.number, hash: bytes(&row.hash) },
        to: mark(row.to_position, row.to_at, row.to_id),
        sealed_at: row.sealed_at,
    }))
}

/// Whether there was a chain, or must have been one: rows that are older than this, or a verification that saw it.
pub(super) async fn had_chain(connection: &mut PgConnection, before: OffsetDateTime) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (select from auth_audit where created_at < $1)
            or exists (select from audit_verification where head > 0) as "had!"
        "#,
        before,
    )
    .fetch_one(connection)
    .await
}

/// The batches that were sealed this late or later, and that no operator has accepted.
pub(super) async fn late(connection: &mut PgConnection, late: Duration) -> sqlx::Result<Late> {
    sqlx::query_as!(
        Late,
        r#"
        select count(*) as "batches!", coalesce(sum(rows), 0)::bigint as "rows!", min(first_at) as first_at, max(last_at) as last_at
        from auth_audit_seals
        where kind = 'rows' and first_at < sealed_at - make_interval(secs => $1)
            and number > coalesce((select max(number) from auth_audit_seals where kind = 'accepted'), 0)
        "#,
        late.as_seconds_f64(),
    )
    .fetch_one(connection)
    .await
}

pub(super) async fn hash_of(pool: &PgPool, number: i64) -> sqlx::Result<Option<[u8; 32]>> {
    let hash = sqlx::query_scalar!("select hash from auth_audit_seals where number = $1", number).fetch_optional(pool).await?;
    Ok(hash.map(|hash| bytes(&hash)))
}

/// The greatest number that anybody can see; `None` where there is no row.
pub(super) async fn newest_position(pool: &PgPool) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!("select max(position) from auth_audit").fetch_one(pool).await
}

/// The transactions that write to the audit or one of its months.
pub(super) async fn writers(pool: &PgPool) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"
        select distinct virtualtransaction as "transaction!" from pg_locks
        where locktype = 'relation' and mode = 'RowExclusiveLock' and granted
            and database = (select oid from pg_database where datname = current_database())
            and relation in (select relid from pg_partition_tree('auth_audit'))
        "#
    )
    .fetch_all(pool)
    .await
}

/// Whether one of these is not over.
pub(super) async fn any_left(pool: &PgPool, transactions: &[String]) -> sqlx::Result<bool> {
    sqlx::query_scalar!(r#"select exists (select from pg_locks where virtualtransaction = any($1)) as "left!""#, transactions,)
        .fetch_one(pool)
        .await
}

/// Rows as they are hashed.
macro_rules! rows {
    ($which:tt, $($argument:expr),+ $(,)?) => {
        sqlx::query_as!(
            Row,
            r#"
            select id, position, created_at, event_type, user_id, actor_id, ip::text as ip, user_agent, request_id,
                   details::text as "details!"
            from auth_audit
            "# + $which,
            $($argument),+
        )
    };
}

/// Up to `most` rows after `from`, in the order of sealing, of those up to number `to`. A page never holds both: rows older than
/// numbers lie along the primary key, the others along their own index.
pub(super) async fn next_rows(connection: &mut PgConnection, from: Mark, to: i64, most: usize) -> sqlx::Result<Vec<Row>> {
    if from < Mark::NUMBERED {
        let rows = old_rows(&mut *connection, from, Mark::NUMBERED, most).await?;
        if !rows.is_empty() {
            return Ok(rows);
        }
    }
    numbered_rows(connection, from.max(Mark::NUMBERED), to, most).await
}

/// The time of the next row, without the row: one that can't be read must still be seen to wait.
pub(super) async fn next_at(connection: &mut PgConnection, from: Mark) -> sqlx::Result<Option<OffsetDateTime>> {
    if from < Mark::NUMBERED {
        let old = old_rows(&mut *connection, from, Mark::NUMBERED, 1).await?;
        if let Some(row) = old.first() {
            return Ok(Some(row.created_at));
        }
    }
    let from = from.max(Mark::NUMBERED);
    let (at, id) = from.row.1.unwrap_or((Cursor::NEWEST.at, Uuid::max()));
    sqlx::query_scalar!(
        r#"
        select created_at as "at!" from auth_audit
        where position >= $1 and (position, created_at, id) > ($1, $2, $3)
        order by position, created_at, id limit 1
        "#,
        from.position,
        at,
        id,
    )
    .fetch_optional(connection)
    .await
}

/// Of those that are older than numbers.
pub(super) async fn old_rows(connection: &mut PgConnection, from: Mark, to: Mark, most: usize) -> sqlx::Result<Vec<Row>> {
    let (from_at, from_id) = from.row.1.unwrap_or((BEGINNING, Uuid::nil()));
    let (to_at, to_id) = to.row.1.unwrap_or((Cursor::NEWEST.at, Uuid::max()));
    rows!(
        r#"
        where position <= 0 and (created_at, id) > ($1, $2) and (created_at, id) <= ($3, $4)
        order by created_at, id limit $5
        "#,
        from_at,
        from_id,
        to_at,
        to_id,
        i64::try_from(most).unwrap_or(i64::MAX),
    )
    .fetch_all(connection)
    .await
}

/// Of those that have numbers. The bound on the number alone is what the index understands.
pub(super) async fn numbered_rows(connection: &mut PgConnection, from: Mark, to: i64, most: usize) -> sqlx::Result<Vec<Row>> {
    let (at, id) = from.row.1.unwrap_or((Cursor::NEWEST.at, Uuid::max()));
    rows!(
        r#"
        where position >= $1 and position <= $2 and (position, created_at, id) > ($1, $3, $4)
        order by position, created_at, id limit $5
        "#,
        from.position,
        to,
        at,
        id,
        i64::try_from(most).unwrap_or(i64::MAX),
    )
    .fetch_all(connection)
    .await
}

pub(super) async fn add(connection: &mut PgConnection, seal: &Seal, fingerprints: &[u8]) -> sqlx::Result<()> {
    let (to_at, to_id) = seal.to.row.1.unzip();
    sqlx::query!(
        r#"
        insert into auth_audit_seals
            (number, kind, month, to_position, to_at, to_id, rows, first_at, last_at, rows_hash, fingerprints, sealed_at, hash, key_id, mac)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
        "#,
        seal.number,
        <&str>::from(seal.kind),
        seal.month,
        seal.to.position,
        to_at,
        to_id,
        seal.rows,
        seal.first_at,
        seal.last_at,
        &seal.rows_hash[..],
        fingerprints,
        seal.sealed_at,
        &seal.hash[..],
        seal.key_id,
        &seal.mac,
    )
    .run(connection)
    .await
}

/// Batches after this number, up to another, in their order.
pub(super) async fn seals(connection: &mut PgConnection, after: i64, to: i64, most: i64) -> sqlx::Result<Vec<Seal>> {
    let rows = sqlx::query!(
        r#"
        select number, kind, month, to_position, to_at, to_id, rows, first_at, last_at, rows_hash, sealed_at, hash, key_id, mac
        from auth_audit_seals where number > $1 and number <= $2 order by number limit $3
        "#,
        after,
        to,
        most,
    )
    .fetch_all(connection)
    .await?;
    let seals = rows.into_iter().map(|row| Seal {
        number: row.number,
        // It is one of these by the column's check.
        kind: row.kind.parse().unwrap_or(Kind::Rows),
        month: row.month,
        to: mark(row.to_position, row.to_at, row.to_id),
        rows: row.rows,
        first_at: row.first_at,
        last_at: row.last_at,
        rows_hash: bytes(&row.rows_hash),
        sealed_at: row.sealed_at,
        hash: bytes(&row.hash),
        key_id: row.key_id,
        mac: row.mac,
    });
    Ok(seals.collect())
}

pub(super) async fn fingerprints(connection: &mut PgConnection, number: i64) -> sqlx::Result<Vec<u8>> {
    sqlx::query_scalar!("select fingerprints from auth_audit_seals where number = $1", number).fetch_one(connection).await
}

/// The months whose rows are gone by right: by a batch of the chain, which begins with 1.
pub(super) async fn dropped(connection: &mut PgConnection) -> sqlx::Result<Vec<Date>> {
    sqlx::query_scalar!("select month from auth_audit_seals where kind = 'dropped' and number > 0").fetch_all(connection).await
}

/// The months that have a partition.
pub(super) async fn months(connection: &mut PgConnection) -> sqlx::Result<Vec<Date>> {
    sqlx::query_scalar!(
        r#"
        select to_date(right(relid::text, 6), 'YYYYMM') as "month!" from pg_partition_tree('auth_audit')
        where relid::text ~ '^auth_audit_[0-9]{6}$' order by 1
        "#
    )
    .fetch_all(connection)
    .await
}

pub(super) async fn drop_months(connection: &mut PgConnection, before: OffsetDateTime) -> sqlx::Result<i32> {
    let dropped = sqlx::query_scalar!("select auth_audit_drop_partitions($1)", before).fetch_one(connection).await?;
    Ok(dropped.unwrap_or(0))
}

/// What the last verification is said to have said, and who vouches for it: key and MAC.
pub(super) struct Said {
    pub last: LastVerified,
    pub key_id: Option<String>,
    pub mac: Option<Vec<u8>>,
}

pub(super) async fn verified(connection: &mut PgConnection) -> sqlx::Result<Option<Said>> {
    let row = sqlx::query!(
        r#"select at, head, rows, findings as "findings: Json<BTreeMap<String, u64>>", key_id, mac from audit_verification"#
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Said {
        last: LastVerified { at: row.at, head: row.head, rows: row.rows, findings: row.findings.0 },
        key_id: row.key_id,
        mac: row.mac,
    }))
}

pub(super) async fn save_verified(
    connection: &mut PgConnection,
    last: &LastVerified,
    key_id: &str,
    mac: &[u8],
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into audit_verification (at, head, rows, findings, key_id, mac) values ($1, $2, $3, $4, $5, $6)
        on conflict (one) do update set at = excluded.at, head = excluded.head, rows = excluded.rows, findings = excluded.findings,
            key_id = excluded.key_id, mac = excluded.mac
        "#,
        last.at,
        last.head,
        last.rows,
        Json(&last.findings) as _,
        key_id,
        mac,
    )
    .run(connection)
    .await
}

fn mark(position: i64, at: Option<OffsetDateTime>, id: Option<Uuid>) -> Mark {
    match at.zip(id) {
        Some((at, id)) => Mark::at(position, at, id),
        None => Mark::after(position),
    }
}

/// Its length is the column's check.
fn bytes(hash: &[u8]) -> [u8; 32] {
    hash.try_into().unwrap_or_default()
}
