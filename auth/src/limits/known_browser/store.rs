use crate::primitives::statement::Statement as _;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

/// Whether the browser with this cookie has signed this address in.
pub(crate) async fn knows(pool: &PgPool, token_hash: &[u8; 32], email_key: &str, now: OffsetDateTime) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (
            select 1 from known_browsers k join users u on u.id = k.user_id
            where k.token_hash = $1 and u.email_key = $2 and k.expires_at > $3
        ) as "knows!"
        "#,
        token_hash,
        email_key,
        now,
    )
    .fetch_one(pool)
    .await
}

/// `true`: the account did not know it.
pub(crate) async fn remember(
    connection: &mut PgConnection,
    token_hash: &[u8; 32],
    user: Uuid,
    now: OffsetDateTime,
    expires_at: OffsetDateTime,
) -> sqlx::Result<bool> {
    // A row that was just inserted has no `xmax`; one that was updated has.
    sqlx::query_scalar!(
        r#"
        insert into known_browsers (token_hash, user_id, created_at, last_used_at, expires_at) values ($1, $2, $3, $3, $4)
        on conflict (token_hash, user_id) do update set last_used_at = excluded.last_used_at, expires_at = excluded.expires_at
        returning (xmax = 0) as "new!"
        "#,
        token_hash,
        user,
        now,
        expires_at,
    )
    .fetch_one(connection)
    .await
}

/// How many wrong authenticator codes in a row a browser may send and still count as known.
const MAX_FAILURES: i32 = 100;

/// Counts a wrong authenticator code before any is compared. `false`: this browser doesn't know the account, or not any more.
pub(crate) async fn charge(pool: &PgPool, token_hash: &[u8; 32], user: Uuid, now: OffsetDateTime) -> sqlx::Result<bool> {
    sqlx::query!(
        r#"
        update known_browsers set failures = failures + 1
        where token_hash = $1 and user_id = $2 and expires_at > $3 and failures < $4
        "#,
        token_hash,
        user,
        now,
        MAX_FAILURES,
    )
    .changes(pool)
    .await
}

/// Whether the account knows the browser with this cookie.
pub(crate) async fn knows_account(pool: &PgPool, token_hash: &[u8; 32], user: Uuid, now: OffsetDateTime) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (
            select 1 from known_browsers where token_hash = $1 and user_id = $2 and expires_at > $3 and failures < $4
        ) as "knows!"
        "#,
        token_hash,
        user,
        now,
        MAX_FAILURES,
    )
    .fetch_one(pool)
    .await
}

/// A right code: the wrong ones before it are forgotten.
pub(crate) async fn clear(connection: &mut PgConnection, token_hash: &[u8; 32], user: Uuid) -> sqlx::Result<()> {
    sqlx::query!("update known_browsers set failures = 0 where token_hash = $1 and user_id = $2", token_hash, user)
        .run(connection)
        .await
}

/// The browsers that came to be known at this moment or later are strangers again: the next sign-in from one is told of.
pub(crate) async fn forget_since(connection: &mut PgConnection, user: Uuid, since: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query!("delete from known_browsers where user_id = $1 and created_at >= $2", user, since).run(connection).await
}
