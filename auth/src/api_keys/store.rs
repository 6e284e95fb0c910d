use std::time::Duration;

use sqlx::{PgConnection, PgPool, postgres::types::PgInterval};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::identity::Prefix;
use crate::primitives::statement::Statement as _;

use super::{ApiKeyRow, KeyState, MOST_SHOWN, Maker, scopes};

pub(super) struct New<'a> {
    pub id: Uuid,
    pub name: &'a str,
    pub prefix: &'a str,
    pub hash: &'a [u8; 32],
    pub maker: Option<Uuid>,
    pub expires_at: Option<OffsetDateTime>,
    pub now: OffsetDateTime,
}

pub(super) async fn insert(connection: &mut PgConnection, new: &New<'_>, scopes: &[String]) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into api_keys (id, name, prefix, key_hash, scopes, created_by, by_admin, created_at, expires_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        "#,
        new.id,
        new.name,
        new.prefix,
        new.hash,
        scopes,
        new.maker,
        new.maker.is_some(),
        new.now,
        new.expires_at,
    )
    .run(connection)
    .await
}

pub(crate) struct Found {
    pub id: Uuid,
    pub name: String,
    pub prefix: String,
    pub scopes: Vec<String>,
    pub last_used_at: Option<OffsetDateTime>,
    /// An administrator made it who is none any more.
    pub curbed: bool,
}

/// The key and its maker's rights in one look: neither can change between two.
pub(super) async fn find(pool: &PgPool, hash: &[u8; 32], now: OffsetDateTime) -> sqlx::Result<Option<Found>> {
    sqlx::query_as!(
        Found,
        r#"
        select k.id, k.name, k.prefix, k.scopes, k.last_used_at,
               k.by_admin and not exists (
                   select 1 from users u
                   where u.id = k.created_by and u.is_admin and u.disabled_at is null and (u.deletes_at is null or u.deletes_at > $2)
               ) as "curbed!"
        from api_keys k
        where k.key_hash = $1 and k.revoked_at is null and (k.expires_at is null or k.expires_at > $2)
        "#,
        hash,
        now,
    )
    .fetch_optional(pool)
    .await
}

pub(super) async fn touch(pool: &PgPool, id: Uuid, now: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query!("update api_keys set last_used_at = $2 where id = $1 and (last_used_at is null or last_used_at < $2)", id, now)
        .run(pool)
        .await
}

pub(super) async fn list(pool: &PgPool, now: OffsetDateTime) -> sqlx::Result<Vec<ApiKeyRow>> {
    let rows = sqlx::query!(
        r#"
        select k.id, k.name, k.prefix, k.scopes, k.by_admin, k.created_by, k.created_at, k.expires_at, k.last_used_at,
               u.email as "email?",
               k.by_admin and (u.is_admin and u.disabled_at is null and (u.deletes_at is null or u.deletes_at > $1)) is not true
                   as "curbed!",
               case when k.revoked_at is not null then 'revoked' when k.expires_at <= $1 then 'expired' else 'live' end as "state!"
        from api_keys k left join users u on u.id = k.created_by
        order by (k.revoked_at is null and (k.expires_at is null or k.expires_at > $1)) desc, k.created_at desc, k.id desc
        limit $2
        "#,
        now,
        i64::from(MOST_SHOWN),
    )
    .fetch_all(pool)
    .await?;
    let listed = rows.into_iter().filter_map(|row| {
        let prefix = Prefix::parse(&row.prefix)?;
        let maker = match (row.by_admin, row.created_by, row.email) {
            (false, ..) => Maker::Operator,
            (true, Some(id), Some(email)) => Maker::Admin { id, email },
            (true, ..) => Maker::Gone,
        };
        Some(ApiKeyRow {
            id: row.id,
            name: row.name,
            prefix,
            scopes: scopes(&row.scopes),
            maker,
            curbed: row.curbed,
            state: KeyState::parse(&row.state)?,
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
        })
    });
    Ok(listed.collect())
}

pub(super) struct Revoked {
    pub id: Uuid,
    pub maker: Option<Uuid>,
}

pub(super) async fn revoke(connection: &mut PgConnection, prefix: &str, now: OffsetDateTime) -> sqlx::Result<Option<Revoked>> {
    sqlx::query_as!(
        Revoked,
        "update api_keys set revoked_at = $2 where prefix = $1 and revoked_at is null returning id, created_by as maker",
        prefix,
        now,
    )
    .fetch_optional(connection)
    .await
}

pub(super) struct Ending {
    pub prefix: String,
    pub maker: Option<Uuid>,
    pub expires_at: OffsetDateTime,
}

/// Keys that end before `before`, marked as reminded of. Whoever made one for a shorter time than that knows.
pub(super) async fn due_for_reminder(
    connection: &mut PgConnection,
    before: OffsetDateTime,
    shortest: Duration,
    most: i64,
    now: OffsetDateTime,
) -> sqlx::Result<Vec<Ending>> {
    let shortest = PgInterval { months: 0, days: 0, microseconds: i64::try_from(shortest.as_micros()).unwrap_or(i64::MAX) };
    sqlx::query_as!(
        Ending,
        r#"
        update api_keys k set reminded_at = $1
        from (
            select id from api_keys
            where reminded_at is null and revoked_at is null and expires_at > $1 and expires_at <= $2 and expires_at > created_at + $3
            order by expires_at limit $4
            for update skip locked
        ) due
        where k.id = due.id
        returning k.prefix, k.created_by as maker, k.expires_at as "expires_at!"
        "#,
        now,
        before,
        shortest,
        most,
    )
    .fetch_all(connection)
    .await
}

/// The maker while that is an administrator, else every administrator.
pub(super) async fn whom_to_remind(
    connection: &mut PgConnection,
    maker: Option<Uuid>,
    now: OffsetDateTime,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        with admins as (
            select id from users where is_admin and disabled_at is null and (deletes_at is null or deletes_at > $2)
        )
        select id as "id!" from admins where id = $1 or not exists (select 1 from admins where id = $1)
        "#,
        maker,
        now,
    )
    .fetch_all(connection)
    .await
}
