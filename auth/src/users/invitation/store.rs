use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{crypto::Seed, primitives::email_address::EmailAddress};

pub(crate) struct Invite {
    pub email: String,
    pub nonce: Vec<u8>,
    pub key_id: String,
    pub expires_at: OffsetDateTime,
    pub used_at: Option<OffsetDateTime>,
    pub revoked_at: Option<OffsetDateTime>,
    /// The administrator who invited, by name or address; an operator at the shell has none.
    pub inviter: Option<String>,
}

impl Invite {
    pub fn seed(&self) -> Seed {
        Seed {
            nonce: self.nonce.as_slice().try_into().expect("a check constraint keeps the nonce at 32 bytes"),
            key_id: self.key_id.clone(),
        }
    }
}

pub(super) struct NewInvite<'a> {
    pub id: Uuid,
    pub email: &'a EmailAddress,
    pub seed: &'a Seed,
    pub token_hash: [u8; 32],
    /// The administrator; an operator at the shell is nobody.
    pub by: Option<Uuid>,
    pub created_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
}

pub(super) async fn insert(connection: &mut PgConnection, invite: &NewInvite<'_>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        with older as (
            update invites set revoked_at = $7 where email_key = $3 and used_at is null and revoked_at is null and expires_at > $7
        )
        insert into invites (id, email, email_key, nonce, key_id, token_hash, created_at, expires_at, invited_by)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        "#,
        invite.id,
        invite.email.as_str(),
        invite.email.key(),
        &invite.seed.nonce,
        invite.seed.key_id,
        &invite.token_hash,
        invite.created_at,
        invite.expires_at,
        invite.by,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn by_token(pool: &PgPool, token_hash: &[u8; 32]) -> Result<Option<Invite>, sqlx::Error> {
    sqlx::query_as!(
        Invite,
        r#"
        select i.email, nonce, key_id, expires_at, used_at, revoked_at, coalesce(u.display_name, u.email) as inviter
        from invites i left join users u on u.id = i.invited_by where token_hash = $1
        "#,
        token_hash,
    )
    .fetch_optional(pool)
    .await
}

pub(crate) async fn by_id(pool: &PgPool, id: Uuid) -> Result<Option<Invite>, sqlx::Error> {
    sqlx::query_as!(
        Invite,
        r#"
        select i.email, nonce, key_id, expires_at, used_at, revoked_at, coalesce(u.display_name, u.email) as inviter
        from invites i left join users u on u.id = i.invited_by where i.id = $1
        "#,
        id,
    )
    .fetch_optional(pool)
    .await
}

pub(crate) async fn is_invited(connection: &mut PgConnection, email_key: &str, now: OffsetDateTime) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select exists (
            select 1 from invites where email_key = $1 and used_at is null and revoked_at is null and expires_at > $2
        ) as "invited!"
        "#,
        email_key,
        now,
    )
    .fetch_one(connection)
    .await
}

/// Uses up the address's live invitation; `None` where there is none (any more).
pub(crate) async fn consume(
    connection: &mut PgConnection,
    email_key: &str,
    now: OffsetDateTime,
) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        update invites set used_at = $2
        where email_key = $1 and used_at is null and revoked_at is null and expires_at > $2
        returning id
        "#,
        email_key,
        now,
    )
    .fetch_optional(connection)
    .await
}
