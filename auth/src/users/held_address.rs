//! Addresses that no other account may take for now.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// Whether an address is held back for an account that has moved from it and can still be moved back; `but` is an account that
/// may have it all the same.
pub(crate) async fn is_held(
    connection: &mut PgConnection,
    email_key: &str,
    but: Option<Uuid>,
    now: OffsetDateTime,
) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (
            select 1 from undo_links
            where email_key = $1 and kind = 'email_change' and ($2::uuid is null or user_id <> $2)
                and used_at is null and closed_at is null and expires_at > $3
        ) as "held!"
        "#,
        email_key,
        but,
        now,
    )
    .fetch_one(connection)
    .await
}
