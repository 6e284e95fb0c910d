use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    api_keys::store::Found,
    crypto::SessionKey,
    identity::{Level, Method, SecondFactor},
    policy::IDEMPOTENCY_TTL,
    primitives::statement::Statement as _,
    sessions::ApiSession,
};

/// An API key that works and a live session that its application holds, by the conditions of `api_key::store::find` and
/// `session::store::load_of_application`, in one statement: two would cost a third of the questions that can be answered.
pub(super) async fn key_and_session(
    pool: &PgPool,
    key_hash: &[u8; 32],
    session: SessionKey,
    now: OffsetDateTime,
    idle_since: OffsetDateTime,
) -> sqlx::Result<Option<(Found, Option<ApiSession>)>> {
    let row = sqlx::query!(
        r#"
        select k.id, k.name, k.prefix, k.scopes, k.last_used_at,
               k.by_admin and not exists (
                   select 1 from users a
                   where a.id = k.created_by and a.is_admin and a.disabled_at is null and (a.deletes_at is null or a.deletes_at > $3)
               ) as "curbed!",
               s.id as "session?", u.id as "user?", u.email as "email?", u.display_name as "display_name?", u.is_admin as "admin?",
               exists (select 1 from totp_credentials t where t.user_id = u.id and t.confirmed_at is not null) as "two_factor!",
               s.level as "level?: Level", s.method as "method?: Method", s.second_method as "second?: SecondFactor",
               s.authenticated_at as "authenticated_at?",
               s.last_seen_at as "last_seen_at?", s.expires_at as "expires_at?"
        from api_keys k
        left join (sessions s join users u on u.id = s.user_id)
            on s.token_hash = $2 and s.audience = 'api' and s.application = k.name and s.level <> 'first_factor'
            and s.revoked_at is null and s.expires_at > $3 and s.last_seen_at > $4
            and u.disabled_at is null and (u.deletes_at is null or u.deletes_at > $3)
        where k.key_hash = $1 and k.revoked_at is null and (k.expires_at is null or k.expires_at > $3)
        "#,
        key_hash,
        &session.0,
        now,
        idle_since,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| {
        let session = || {
            Some(ApiSession {
                session: row.session?,
                user: row.user?,
                email: row.email?,
                name: row.display_name,
                admin: row.admin?,
                two_factor: row.two_factor,
                level: row.level?,
                method: row.method?,
                second: row.second,
                authenticated_at: row.authenticated_at?,
                last_seen_at: row.last_seen_at?,
                expires_at: row.expires_at?,
            })
        };
        let found = Found {
            id: row.id,
            name: row.name,
            prefix: row.prefix,
            scopes: row.scopes,
            last_used_at: row.last_used_at,
            curbed: row.curbed,
        };
        (found, session().filter(ApiSession::has_proven_enough))
    }))
}

/// A request that was made under an `Idempotency-Key`.
pub(super) struct Made {
    pub body_hash: Vec<u8>,
    pub link: Uuid,
}

pub(super) async fn made(pool: &PgPool, key_hash: &[u8; 32], now: OffsetDateTime) -> sqlx::Result<Option<Made>> {
    sqlx::query_as!(
        Made,
        "select body_hash, magic_link_id as link from idempotent_requests where key_hash = $1 and created_at > $2",
        key_hash,
        now - IDEMPOTENCY_TTL,
    )
    .fetch_optional(pool)
    .await
}

/// Takes the key for a request that is being made. Of any number at once one gets it, and the others wait until that one is done;
/// `false`: it was made.
pub(super) async fn claim(
    connection: &mut PgConnection,
    key_hash: &[u8; 32],
    body_hash: &[u8; 32],
    link: Uuid,
    now: OffsetDateTime,
) -> sqlx::Result<bool> {
    sqlx::query!(
        r#"
        insert into idempotent_requests as r (key_hash, body_hash, magic_link_id, created_at) values ($1, $2, $3, $4)
        on conflict (key_hash) do update
            set body_hash = excluded.body_hash, magic_link_id = excluded.magic_link_id, created_at = excluded.created_at
            where r.created_at <= $5
        "#,
        key_hash,
        body_hash,
        link,
        now,
        now - IDEMPOTENCY_TTL,
    )
    .changes(connection)
    .await
}
