use ipnet::IpNet;
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Authority, Level, Stored};
use crate::{
    event::{Method, RevokeReason},
    requester::{Requester, device},
    secret::SessionKey,
};

pub(super) async fn create(
    pool: &PgPool,
    id: Uuid,
    key: SessionKey,
    data: &Value,
    now: OffsetDateTime,
    expires_at: OffsetDateTime,
) -> Result<bool, sqlx::Error> {
    let created = sqlx::query!(
        r#"
        insert into sessions (id, token_hash, audience, data, created_at, last_seen_at, expires_at)
        values ($1, $2, 'browser', $3, $4, $4, $5)
        on conflict (token_hash) do nothing
        "#,
        id,
        &key.0,
        data,
        now,
        expires_at,
    )
    .execute(pool)
    .await?;
    Ok(created.rows_affected() == 1)
}

/// UPDATE only: an upsert would bring back a session revoked while its request was under way.
pub(super) async fn save(
    pool: &PgPool,
    key: SessionKey,
    data: &Value,
    now: OffsetDateTime,
    visitor_expires_at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        update sessions set data = $2, expires_at = case when user_id is null then $4 else expires_at end
        where token_hash = $1 and audience = 'browser' and revoked_at is null and expires_at > $3
        "#,
        &key.0,
        data,
        now,
        visitor_expires_at,
    )
    .execute(pool)
    .await?;
    Ok(())
}

pub(super) struct Found {
    pub stored: Stored,
    pub last_seen_at: OffsetDateTime,
}

pub(super) async fn load(
    pool: &PgPool,
    key: SessionKey,
    now: OffsetDateTime,
    idle_since: OffsetDateTime,
) -> Result<Option<Found>, sqlx::Error> {
    let row = sqlx::query!(
        r#"
        select s.id, s.data, s.user_id, s.level, s.method, s.authenticated_at, s.ip as "ip: IpNet", s.user_agent, s.last_seen_at, s.expires_at,
               u.email as "email?", u.is_admin as "is_admin?"
        from sessions s left join users u on u.id = s.user_id
        where s.token_hash = $1 and s.audience = 'browser' and s.revoked_at is null and s.expires_at > $2
            and (s.user_id is null or (s.last_seen_at > $3 and u.disabled_at is null))
        "#,
        &key.0,
        now,
        idle_since,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| {
        // Where a column is missing or strange there is no authority: a session that can't be read signs nobody in.
        let authority = (|| {
            Some(Authority {
                session: row.id,
                user: row.user_id?,
                email: row.email?,
                admin: row.is_admin?,
                level: Level::parse(row.level.as_deref()?)?,
                method: match row.method.as_deref()? {
                    "link" => Method::Link,
                    "code" => Method::Code,
                    _ => return None,
                },
                authenticated_at: row.authenticated_at?,
                ip: row.ip?.addr(),
                device: device(row.user_agent.as_deref()?),
            })
        })();
        Found { stored: Stored { data: row.data, authority, expires_at: row.expires_at }, last_seen_at: row.last_seen_at }
    }))
}

pub(super) async fn touch(pool: &PgPool, key: SessionKey, now: OffsetDateTime) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update sessions set last_seen_at = $2 where token_hash = $1 and revoked_at is null and last_seen_at < $2",
        &key.0,
        now,
    )
    .execute(pool)
    .await?;
    Ok(())
}

pub(super) async fn forget(pool: &PgPool, key: SessionKey) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from sessions where token_hash = $1 and user_id is null", &key.0).execute(pool).await?;
    Ok(())
}

/// A visitor's row whose place a signed-in session has taken lives a minute longer. A second press of the button, under way at that
/// moment, must find the request it belongs to and be told that it was used. Without the row it would be a stranger's, and the
/// answer to a stranger takes the dead cookie away: by then that is the new session's.
pub(crate) async fn retire(connection: &mut PgConnection, key: SessionKey, until: OffsetDateTime) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update sessions set expires_at = least(expires_at, $2) where token_hash = $1 and user_id is null",
        &key.0,
        until,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// `None` where there was nothing live to revoke.
pub(crate) async fn revoke(
    connection: &mut PgConnection,
    key: SessionKey,
    reason: RevokeReason,
    now: OffsetDateTime,
) -> Result<Option<(Uuid, Uuid)>, sqlx::Error> {
    let row = sqlx::query!(
        r#"
        update sessions set revoked_at = $2, revoke_reason = $3
        where token_hash = $1 and user_id is not null and revoked_at is null
        returning id, user_id as "user_id!"
        "#,
        &key.0,
        now,
        reason.as_str(),
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| (row.id, row.user_id)))
}

pub(crate) struct Grant<'a> {
    pub id: Uuid,
    pub key: SessionKey,
    pub data: &'a Value,
    pub user: Uuid,
    pub level: Level,
    pub method: Method,
    pub link: Uuid,
    pub from: &'a Requester,
    pub now: OffsetDateTime,
    pub expires_at: OffsetDateTime,
}

/// The only statement that makes a session with authority. It makes a new row, never raises an old one: an id that anybody could
/// have planted in a browser before its owner signed in can't come to speak for them.
pub(crate) async fn grant(connection: &mut PgConnection, grant: &Grant<'_>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        insert into sessions (id, token_hash, audience, data, user_id, level, method, magic_link_id, ip, user_agent,
                              authenticated_at, created_at, last_seen_at, expires_at)
        values ($1, $2, 'browser', $3, $4, $5, $6, $7, $8, $9, $10, $10, $10, $11)
        "#,
        grant.id,
        &grant.key.0,
        grant.data,
        grant.user,
        grant.level.as_str(),
        grant.method.as_str(),
        grant.link,
        IpNet::from(grant.from.ip) as IpNet,
        grant.from.user_agent(),
        grant.now,
        grant.expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}
