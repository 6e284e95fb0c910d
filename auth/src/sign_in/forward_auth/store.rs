use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Found;
use crate::primitives::statement::Statement as _;
use crate::{crypto::SessionKey, identity::Level};

/// The live sessions of live accounts that a browser shows: by its own cookie first, then by tokens.
pub(super) async fn find(
    pool: &PgPool,
    token_hashes: &[Vec<u8>],
    session: Option<SessionKey>,
    now: OffsetDateTime,
    idle_since: OffsetDateTime,
) -> sqlx::Result<Vec<Found>> {
    sqlx::query_as!(
        Found,
        r#"
        select s.id as "session!", u.id as "user!", u.email as "email!", u.is_admin as "admin!", s.level as "level!: Level",
               s.last_seen_at as "last_seen_at!", shown.level as "token_level: Level",
               exists (select 1 from totp_credentials t where t.user_id = u.id and t.confirmed_at is not null) as "two_factor!"
        from (
            select id, null as level from sessions where token_hash = $1
            union all
            select session_id, level from forward_auth_tokens where token_hash = any($2)
        ) shown
        join sessions s on s.id = shown.id
        join users u on u.id = s.user_id
        where s.audience = 'browser' and s.revoked_at is null and s.expires_at > $3 and s.last_seen_at > $4
            and u.disabled_at is null and (u.deletes_at is null or u.deletes_at > $3)
        order by shown.level is not null, s.id desc
        "#,
        session.as_ref().map(|key| key.0.as_slice()),
        token_hashes,
        now,
        idle_since,
    )
    .fetch_all(pool)
    .await
}

/// Of many requests at once, one writes.
pub(super) async fn touch(pool: &PgPool, session: Uuid, now: OffsetDateTime, seen_before: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query!(
        "update sessions set last_seen_at = $2 where id = $1 and revoked_at is null and last_seen_at <= $3",
        session,
        now,
        seen_before,
    )
    .run(pool)
    .await
}

/// `false` where the session is over, or is not of that level any more.
pub(super) async fn make(
    pool: &PgPool,
    session: SessionKey,
    token_hash: &[u8; 32],
    level: Level,
    now: OffsetDateTime,
) -> sqlx::Result<bool> {
    sqlx::query!(
        r#"
        insert into forward_auth_tokens as t (session_id, token_hash, level, created_at)
        select s.id, $2, s.level, $4 from sessions s
        where s.token_hash = $1 and s.audience = 'browser' and s.level = $3 and s.revoked_at is null and s.expires_at > $4
        on conflict (session_id) do update set token_hash = excluded.token_hash, level = excluded.level, created_at = excluded.created_at
        "#,
        &session.0,
        token_hash,
        level.as_str(),
        now,
    )
    .changes(pool)
    .await
}
