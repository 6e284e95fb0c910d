use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Revert, RevertLink};
use crate::{
    crypto::Seed,
    one_time::{Dead, Life},
    primitives::{email_address::EmailAddress, statement::Statement as _},
    users::account::store::Account,
};

pub(super) async fn insert(
    connection: &mut PgConnection,
    id: Uuid,
    account: &Account,
    undoes: Revert,
    seed: &Seed,
    token_hash: &[u8; 32],
    now: OffsetDateTime,
) -> sqlx::Result<()> {
    let session = match undoes {
        Revert::Session(session) => Some(session),
        Revert::EmailChange | Revert::Deletion | Revert::TwoFactorReset => None,
    };
    sqlx::query!(
        r#"
        insert into undo_links (id, user_id, kind, email, email_key, session_id, nonce, key_id, token_hash, created_at, expires_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        "#,
        id,
        account.id,
        undoes.as_str(),
        account.email,
        account.email_key,
        session,
        &seed.nonce,
        seed.key_id,
        token_hash,
        now,
        now + undoes.lifetime(),
    )
    .run(connection)
    .await
}

macro_rules! find {
    ($pool:expr, $which:literal, $value:expr) => {{
        let row = sqlx::query!(
            r#"
            select id, user_id, kind, email as "email: EmailAddress", session_id, nonce as "nonce: [u8; 32]", key_id, created_at,
                   expires_at, used_at, closed_at
            from undo_links where "#
                + $which,
            $value,
        );
        let row = row.fetch_optional($pool).await?;
        // A row of a kind that this version doesn't know takes nothing back.
        Ok(row.and_then(|row| {
            Some(RevertLink {
                id: row.id,
                user: row.user_id,
                undoes: Revert::parse(&row.kind, row.session_id)?,
                email: row.email,
                seed: Seed { nonce: row.nonce, key_id: row.key_id },
                created_at: row.created_at,
                life: Life {
                    expires_at: row.expires_at,
                    used: row.used_at.is_some(),
                    closed: row.closed_at.map(|_| Dead::Cancelled),
                },
            })
        }))
    }};
}

pub(crate) async fn by_id(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<RevertLink>> {
    find!(pool, "id = $1", id)
}

pub(crate) async fn by_token(pool: &PgPool, token_hash: &[u8; 32]) -> sqlx::Result<Option<RevertLink>> {
    find!(pool, "token_hash = $1", token_hash)
}

/// Uses a link up. One statement decides: of any number of parallel tries one gets `true`.
///
/// All links of the account are locked in one order first: two of them used at once, of which one closes the other, would else each
/// hold its own and wait for the other's.
pub(crate) async fn consume(connection: &mut PgConnection, link: &RevertLink, now: OffsetDateTime) -> sqlx::Result<bool> {
    sqlx::query!(
        r#"
        with theirs as materialized (
            select id from undo_links where user_id = $2 order by id for update
        )
        update undo_links l set used_at = $3
        from theirs
        where l.id = theirs.id and l.id = $1 and l.used_at is null and l.closed_at is null and l.expires_at > $3
        "#,
        link.id,
        link.user,
        now,
    )
    .changes(connection)
    .await
}

/// Closes the links of an account's changes of address after this moment: they were made from where it goes back from. Those before
/// stay: who changed it twice must not keep its owner from taking back both.
pub(crate) async fn close_later(
    connection: &mut PgConnection,
    user: Uuid,
    after: OffsetDateTime,
    now: OffsetDateTime,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update undo_links set closed_at = $3
        where user_id = $1 and kind = 'email_change' and created_at > $2 and used_at is null and closed_at is null
        "#,
        user,
        after,
        now,
    )
    .run(connection)
    .await
}

/// Closes the links that end sign-ins and were mailed to the address that the account leaves: its reader would go on ending the owner's.
pub(crate) async fn close_sign_ins(connection: &mut PgConnection, user: Uuid, left: &str, now: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        with open as materialized (
            select id from undo_links
            where user_id = $1 and kind = 'session' and email_key = $2 and used_at is null and closed_at is null
            order by id
            for update
        )
        update undo_links l set closed_at = $3 from open where l.id = open.id
        "#,
        user,
        left,
        now,
    )
    .run(connection)
    .await
}

/// Closes the links of one kind: what they would stop is over, and the next must not be stopped by a mail about the last.
pub(crate) async fn close_all(connection: &mut PgConnection, user: Uuid, kind: Revert, now: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        with open as materialized (
            select id from undo_links where user_id = $1 and kind = $2 and used_at is null and closed_at is null
            order by id
            for update
        )
        update undo_links l set closed_at = $3 from open where l.id = open.id
        "#,
        user,
        kind.as_str(),
        now,
    )
    .run(connection)
    .await
}
