use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::BackupCode;
use crate::primitives::statement::Statement as _;

/// How long a set waits for the session that was shown it to save it, once another session has made one.
const UNSAVED_FOR: Duration = Duration::hours(1);

/// Puts a new set beside the one in use. It works only once the session that it is shown to saves it ([`save`]); an earlier one of
/// that session that never was goes.
#[expect(clippy::too_many_arguments, reason = "a row's columns")]
pub(crate) async fn propose(
    connection: &mut PgConnection,
    user: Uuid,
    session: Uuid,
    set: Uuid,
    ids: &[Uuid],
    codes: &[BackupCode],
    hashes: &[String],
    now: OffsetDateTime,
) -> sqlx::Result<()> {
    let selectors: Vec<String> = codes.iter().map(|code| code.selector().to_owned()).collect();
    sqlx::query!(
        r#"
        with gone as (
            delete from backup_codes
            where user_id = $1 and saved_at is null and (session_id is null or session_id = $7 or created_at <= $8)
        )
        insert into backup_codes (id, user_id, set_id, selector, hash, created_at, session_id)
        select id, $1, $2, selector, hash, $6, $7 from unnest($3::uuid[], $4::text[], $5::text[]) as new (id, selector, hash)
        "#,
        user,
        set,
        ids,
        &selectors,
        hashes,
        now,
        session,
        now - UNSAVED_FOR,
    )
    .run(connection)
    .await
}

/// Takes a set that this session was shown into use and the old one out of it, in one statement: never both. `false` where there is no
/// such set.
pub(crate) async fn save(
    connection: &mut PgConnection,
    user: Uuid,
    session: Uuid,
    set: Uuid,
    now: OffsetDateTime,
) -> sqlx::Result<bool> {
    let saved = sqlx::query_scalar!(
        r#"
        with saved as (
            update backup_codes set saved_at = $3 
            where user_id = $1 and set_id = $2 and saved_at is null and (session_id is null or session_id = $4)
            returning id
        ), gone as (
            delete from backup_codes where user_id = $1 and set_id <> $2 and exists (select 1 from saved)
        )
        select count(*) as "count!" from saved
        "#,
        user,
        set,
        now,
        session,
    )
    .fetch_one(connection)
    .await?;
    Ok(saved > 0)
}

/// A code of the set in use, found by how it begins.
pub(crate) struct Found {
    pub id: Uuid,
    pub hash: String,
    pub used: bool,
}

pub(crate) async fn by_selector(pool: &PgPool, user: Uuid, selector: &str) -> sqlx::Result<Option<Found>> {
    sqlx::query_as!(
        Found,
        r#"
        select id, hash, used_at is not null as "used!" from backup_codes
        where user_id = $1 and selector = $2 and saved_at is not null
        "#,
        user,
        selector,
    )
    .fetch_optional(pool)
    .await
}

/// Uses a code up. One statement decides: of any number of parallel tries one gets `true`.
pub(crate) async fn consume(connection: &mut PgConnection, id: Uuid, now: OffsetDateTime) -> sqlx::Result<bool> {
    sqlx::query!("update backup_codes set used_at = $2 where id = $1 and saved_at is not null and used_at is null", id, now)
        .changes(connection)
        .await
}

/// What there is, also as it stands in its owner's copy of their data: codes left of the set in use, and whether a new one waits to be
/// saved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    pub left: i64,
    #[serde(with = "time::serde::rfc3339::option")]
    pub made_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_used_at: Option<OffsetDateTime>,
    /// When a set was shown that nobody has confirmed as saved. Its codes don't work.
    #[serde(skip)]
    pub proposed_at: Option<OffsetDateTime>,
}

pub(crate) async fn standing<'e>(executor: impl sqlx::PgExecutor<'e>, user: Uuid) -> sqlx::Result<Standing> {
    sqlx::query_as!(
        Standing,
        r#"
        select count(*) filter (where saved_at is not null and used_at is null) as "left!",
               max(created_at) filter (where saved_at is not null) as made_at,
               max(used_at) as last_used_at,
               max(created_at) filter (where saved_at is null) as proposed_at
        from backup_codes where user_id = $1
        "#,
        user,
    )
    .fetch_one(executor)
    .await
}

pub(crate) async fn remove_all(connection: &mut PgConnection, user: Uuid) -> sqlx::Result<()> {
    sqlx::query!("delete from backup_codes where user_id = $1", user).run(connection).await
}

pub(crate) async fn is_saved(connection: &mut PgConnection, user: Uuid, set: Uuid) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from backup_codes where user_id = $1 and set_id = $2 and saved_at is not null) as "is!""#,
        user,
        set,
    )
    .fetch_one(connection)
    .await
}
