use ipnet::IpNet;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    crypto::Seed,
    policy::CODE_TRIES,
    primitives::{email_address::EmailAddress, requester::Requester},
};

pub(super) struct NewChange<'a> {
    pub id: Uuid,
    pub session: Uuid,
    pub user: Uuid,
    pub email: &'a EmailAddress,
    pub seed: &'a Seed,
    pub code_hash: [u8; 32],
    pub from: &'a Requester,
    pub created_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
}

pub(super) async fn insert(connection: &mut PgConnection, change: &NewChange<'_>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        insert into email_changes (id, session_id, user_id, email, email_key, nonce, key_id, code_hash, ip, user_agent, created_at,
                                   expires_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        "#,
        change.id,
        change.session,
        change.user,
        change.email.as_str(),
        change.email.key(),
        &change.seed.nonce,
        change.seed.key_id,
        &change.code_hash,
        IpNet::from(change.from.ip) as IpNet,
        change.from.user_agent(),
        change.created_at,
        change.expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) struct EmailChange {
    pub id: Uuid,
    pub user: Uuid,
    pub email: String,
    pub email_key: String,
    pub seed: Seed,
    pub code_hash: Vec<u8>,
    pub ip: IpNet,
    pub user_agent: String,
    pub created_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
    pub attempts: u32,
    pub used: bool,
}

struct Row {
    id: Uuid,
    user_id: Uuid,
    email: String,
    email_key: String,
    nonce: Vec<u8>,
    key_id: String,
    code_hash: Vec<u8>,
    ip: IpNet,
    user_agent: String,
    created_at: OffsetDateTime,
    expires_at: OffsetDateTime,
    attempts: i16,
    used_at: Option<OffsetDateTime>,
}

impl From<Row> for EmailChange {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            user: row.user_id,
            email: row.email,
            email_key: row.email_key,
            seed: Seed { nonce: row.nonce.try_into().expect("a check constraint keeps the nonce at 32 bytes"), key_id: row.key_id },
            code_hash: row.code_hash,
            ip: row.ip,
            user_agent: row.user_agent,
            created_at: row.created_at,
            expires_at: row.expires_at,
            attempts: row.attempts.unsigned_abs().into(),
            used: row.used_at.is_some(),
        }
    }
}

/// The newest change of a session. Older ones are never looked at: only the newest code works.
pub(super) async fn newest(pool: &PgPool, session: Uuid) -> Result<Option<EmailChange>, sqlx::Error> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select id, user_id, email, email_key, nonce, key_id, code_hash, ip as "ip: IpNet", user_agent, created_at, expires_at, attempts,
               used_at
        from email_changes where session_id = $1 order by created_at desc limit 1
        "#,
        session,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(Into::into))
}

pub(crate) async fn by_id(pool: &PgPool, id: Uuid) -> Result<Option<EmailChange>, sqlx::Error> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select id, user_id, email, email_key, nonce, key_id, code_hash, ip as "ip: IpNet", user_agent, created_at, expires_at, attempts,
               used_at
        from email_changes where id = $1
        "#,
        id,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(Into::into))
}

/// Charges one try before anything is compared. `None`: no try is left, or the code died meanwhile. Else the tries spent.
pub(super) async fn charge_try(pool: &PgPool, id: Uuid, now: OffsetDateTime) -> Result<Option<u32>, sqlx::Error> {
    let attempts = sqlx::query_scalar!(
        r#"
        update email_changes set attempts = attempts + 1
        where id = $1 and attempts < $2 and used_at is null and expires_at > $3
        returning attempts
        "#,
        id,
        i16::try_from(CODE_TRIES).expect("a handful"),
        now,
    )
    .fetch_optional(pool)
    .await?;
    Ok(attempts.map(|n| n.unsigned_abs().into()))
}

/// Uses a code up. One statement decides: of any number of parallel tries one gets `true`.
pub(super) async fn consume(connection: &mut PgConnection, id: Uuid, now: OffsetDateTime) -> Result<bool, sqlx::Error> {
    let consumed =
        sqlx::query!("update email_changes set used_at = $2 where id = $1 and used_at is null and expires_at > $2", id, now)
            .execute(connection)
            .await?;
    Ok(consumed.rows_affected() == 1)
}
