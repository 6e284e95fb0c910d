use ipnet::IpNet;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{crypto::Seed, policy::CODE_TRIES, primitives::requester::Requester};

pub(crate) struct NewCode<'a> {
    pub id: Uuid,
    pub session: Uuid,
    pub user: Uuid,
    pub seed: &'a Seed,
    pub code_hash: [u8; 32],
    pub from: &'a Requester,
    pub created_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
}

pub(super) async fn insert(connection: &mut PgConnection, code: &NewCode<'_>) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        insert into step_up_codes (id, session_id, user_id, nonce, key_id, code_hash, ip, user_agent, created_at, expires_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        "#,
        code.id,
        code.session,
        code.user,
        &code.seed.nonce,
        code.seed.key_id,
        &code.code_hash,
        IpNet::from(code.from.ip) as IpNet,
        code.from.user_agent(),
        code.created_at,
        code.expires_at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) struct MailedCode {
    pub id: Uuid,
    pub user: Uuid,
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

impl From<Row> for MailedCode {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            user: row.user_id,
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

/// The newest code of a session. Older ones are never looked at: only the newest works.
pub(super) async fn newest(pool: &PgPool, session: Uuid) -> Result<Option<MailedCode>, sqlx::Error> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select id, user_id, nonce, key_id, code_hash, ip as "ip: IpNet", user_agent, created_at, expires_at, attempts, used_at
        from step_up_codes where session_id = $1 order by created_at desc limit 1
        "#,
        session,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(Into::into))
}

pub(crate) async fn by_id(pool: &PgPool, id: Uuid) -> Result<Option<MailedCode>, sqlx::Error> {
    let row = sqlx::query_as!(
        Row,
        r#"
        select id, user_id, nonce, key_id, code_hash, ip as "ip: IpNet", user_agent, created_at, expires_at, attempts, used_at
        from step_up_codes where id = $1
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
        update step_up_codes set attempts = attempts + 1
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

pub(super) async fn consume(connection: &mut PgConnection, id: Uuid, now: OffsetDateTime) -> Result<bool, sqlx::Error> {
    let consumed =
        sqlx::query!("update step_up_codes set used_at = $2 where id = $1 and used_at is null and expires_at > $2", id, now)
            .execute(connection)
            .await?;
    Ok(consumed.rows_affected() == 1)
}
