use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Invite;
use crate::{
    crypto::Seed,
    one_time::{Dead, Life},
    primitives::{email_address::EmailAddress, statement::Statement as _},
};

/// Adds an invitation of an address, and closes the one that it replaces.
pub(super) async fn insert(
    connection: &mut PgConnection,
    id: Uuid,
    invite: &Invite,
    token_hash: &[u8; 32],
    by: Option<Uuid>,
    now: OffsetDateTime,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        with older as (
            update invites set revoked_at = $7 where email_key = $3 and used_at is null and revoked_at is null and expires_at > $7
        )
        insert into invites (id, email, email_key, nonce, key_id, token_hash, created_at, expires_at, invited_by)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        "#,
        id,
        invite.email.as_str(),
        invite.email.key(),
        &invite.seed.nonce,
        invite.seed.key_id,
        token_hash,
        now,
        invite.life.expires_at,
        by,
    )
    .run(connection)
    .await
}

macro_rules! find {
    ($pool:expr, $which:literal, $value:expr) => {
        sqlx::query!(
            r#"
            select i.email as "email: EmailAddress", nonce as "nonce: [u8; 32]", key_id, expires_at, used_at, revoked_at,
                   coalesce(u.display_name, u.email) as inviter
            from invites i left join users u on u.id = i.invited_by where "#
                + $which,
            $value,
        )
        .map(|row| Invite {
            email: row.email,
            seed: Seed { nonce: row.nonce, key_id: row.key_id },
            inviter: row.inviter,
            life: Life { expires_at: row.expires_at, used: row.used_at.is_some(), closed: row.revoked_at.map(|_| Dead::Replaced) },
        })
        .fetch_optional($pool)
        .await
    };
}

pub(crate) async fn by_token(pool: &PgPool, token_hash: &[u8; 32]) -> sqlx::Result<Option<Invite>> {
    find!(pool, "token_hash = $1", token_hash)
}

pub(crate) async fn by_id(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<Invite>> {
    find!(pool, "i.id = $1", id)
}

/// The address as its live invitation spells it; `None` where there is none.
pub(crate) async fn invited(
    connection: &mut PgConnection,
    email_key: &str,
    now: OffsetDateTime,
) -> sqlx::Result<Option<EmailAddress>> {
    sqlx::query_scalar!(
        r#"
        select email as "email: EmailAddress" from invites
        where email_key = $1 and used_at is null and revoked_at is null and expires_at > $2
        order by created_at desc limit 1
        "#,
        email_key,
        now,
    )
    .fetch_optional(connection)
    .await
}

/// An invitation that was used up just now.
pub(crate) struct Used {
    pub id: Uuid,
    /// As the administrator spelled it, which is where its mails went.
    pub email: EmailAddress,
}

/// Uses up the address's live invitation; `None` where there is none (any more).
pub(crate) async fn consume(connection: &mut PgConnection, email_key: &str, now: OffsetDateTime) -> sqlx::Result<Option<Used>> {
    sqlx::query_as!(
        Used,
        r#"
        update invites set used_at = $2
        where email_key = $1 and used_at is null and revoked_at is null and expires_at > $2
        returning id, email as "email: EmailAddress"
        "#,
        email_key,
        now,
    )
    .fetch_optional(connection)
    .await
}
