use std::net::IpAddr;

use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{MOST_SHOWN, TrustedDevice};
use crate::primitives::requester::{Requester, device};
use crate::primitives::statement::Statement as _;

pub(crate) async fn trust(
    connection: &mut PgConnection,
    id: Uuid,
    user: Uuid,
    token_hash: &[u8; 32],
    from: &Requester,
    now: OffsetDateTime,
    expires_at: OffsetDateTime,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into trusted_devices (id, user_id, token_hash, ip, user_agent, created_at, last_used_at, expires_at)
        values ($1, $2, $3, $4, $5, $6, $6, $7)
        "#,
        id,
        user,
        token_hash,
        from.ip as IpAddr,
        from.user_agent(),
        now,
        expires_at,
    )
    .run(connection)
    .await
}

/// Whether this account trusts the browser with this cookie now; if so, it was used.
pub(crate) async fn vouch(
    connection: &mut PgConnection,
    user: Uuid,
    token_hash: &[u8; 32],
    now: OffsetDateTime,
) -> sqlx::Result<bool> {
    sqlx::query!(
        r#"
        update trusted_devices set last_used_at = $3
        where user_id = $1 and token_hash = $2 and revoked_at is null and expires_at > $3
        "#,
        user,
        token_hash,
        now,
    )
    .changes(connection)
    .await
}

pub(super) async fn list(
    pool: &PgPool,
    user: Uuid,
    here: Option<&[u8; 32]>,
    now: OffsetDateTime,
) -> sqlx::Result<Vec<TrustedDevice>> {
    let rows = sqlx::query!(
        r#"
        select id, ip as "ip: IpAddr", user_agent, created_at, last_used_at, expires_at, (token_hash = $2) is true as "here!"
        from trusted_devices
        where user_id = $1 and revoked_at is null and expires_at > $3
        order by created_at desc limit $4
        "#,
        user,
        here.map(<[u8; 32]>::as_slice),
        now,
        i64::from(MOST_SHOWN),
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| TrustedDevice {
            id: row.id,
            device: device(row.user_agent.as_deref().unwrap_or_default()),
            ip: row.ip,
            added_at: row.created_at,
            last_used_at: row.last_used_at,
            expires_at: row.expires_at,
            here: row.here,
        })
        .collect())
}

pub(crate) async fn count(pool: &PgPool, user: Uuid, now: OffsetDateTime) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"select count(*) as "n!" from trusted_devices where user_id = $1 and revoked_at is null and expires_at > $2"#,
        user,
        now,
    )
    .fetch_one(pool)
    .await
}

/// Ends one trust, or all of an account. Returns which.
pub(super) async fn revoke(
    connection: &mut PgConnection,
    user: Uuid,
    device: Option<Uuid>,
    now: OffsetDateTime,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!(
        r#"
        update trusted_devices set revoked_at = $3
        where user_id = $1 and ($2::uuid is null or id = $2) and revoked_at is null and expires_at > $3
        returning id
        "#,
        user,
        device,
        now,
    )
    .fetch_all(connection)
    .await
}
