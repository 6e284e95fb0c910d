use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::policy::IDEMPOTENCY_TTL;

/// A request that was made under an `Idempotency-Key`.
pub(super) struct Made {
    pub body_hash: Vec<u8>,
    pub link: Uuid,
}

pub(super) async fn made(pool: &PgPool, key_hash: &[u8; 32], now: OffsetDateTime) -> Result<Option<Made>, sqlx::Error> {
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
) -> Result<bool, sqlx::Error> {
    let claimed = sqlx::query!(
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
    .execute(connection)
    .await?;
    Ok(claimed.rows_affected() == 1)
}
