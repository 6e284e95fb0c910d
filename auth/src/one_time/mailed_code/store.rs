use ipnet::IpNet;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{CodeFor, MailedCode, NewCode};
use crate::{
    crypto::Seed,
    one_time::Life,
    primitives::{email_address::EmailAddress, requester::Requester, statement::Statement as _},
};

pub(super) async fn insert(connection: &mut PgConnection, code: &NewCode<'_>, from: &Requester) -> sqlx::Result<()> {
    macro_rules! insert {
        ($table:literal, $columns:literal, $values:literal $(, $value:expr)*) => {
            sqlx::query!(
                "insert into " + $table + " (id, session_id, user_id, nonce, key_id, code_hash, ip, user_agent, created_at, expires_at"
                    + $columns + ") values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10" + $values + ")",
                code.id,
                code.session,
                code.user,
                &code.seed.nonce,
                code.seed.key_id,
                &code.code_hash,
                IpNet::from(from.ip) as IpNet,
                from.user_agent(),
                code.created_at,
                code.expires_at
                $(, $value)*
            )
            .run(connection)
            .await
        };
    }
    match code.new_address {
        None => insert!("step_up_codes", "", ""),
        Some(email) => insert!("email_changes", ", email, email_key", ", $11, $12", email.as_str(), email.key()),
    }
}

macro_rules! find {
    ($pool:expr, $of:expr, $which:literal, $value:expr) => {
        match $of {
            CodeFor::StepUp => find!("step_up_codes", "u.email", $pool, $of, $which, $value),
            CodeFor::AddressChange => find!("email_changes", "c.email", $pool, $of, $which, $value),
        }
    };
    ($table:literal, $email:literal, $pool:expr, $of:expr, $which:literal, $value:expr) => {
        sqlx::query!(
            "select c.id, c.user_id, "
                + $email
                + r#" as "email: EmailAddress", c.nonce as "nonce: [u8; 32]", c.key_id, c.code_hash,
                c.ip as "ip: IpNet", c.user_agent, c.created_at, c.expires_at, c.attempts, c.used_at
            from "#
                + $table
                + " c join users u on u.id = c.user_id where "
                + $which,
            $value,
        )
        .map(|row| MailedCode {
            of: $of,
            id: row.id,
            user: row.user_id,
            email: row.email,
            seed: Seed { nonce: row.nonce, key_id: row.key_id },
            code_hash: row.code_hash,
            ip: row.ip.addr(),
            user_agent: row.user_agent,
            created_at: row.created_at,
            attempts: row.attempts,
            life: Life { expires_at: row.expires_at, used: row.used_at.is_some(), closed: None },
        })
        .fetch_optional($pool)
        .await
    };
}

/// The newest code of a session. Older ones are never looked at: only the newest works.
pub(super) async fn newest(pool: &PgPool, of: CodeFor, session: Uuid) -> sqlx::Result<Option<MailedCode>> {
    find!(pool, of, "c.session_id = $1 order by c.created_at desc limit 1", session)
}

pub(crate) async fn by_id(pool: &PgPool, of: CodeFor, id: Uuid) -> sqlx::Result<Option<MailedCode>> {
    find!(pool, of, "c.id = $1", id)
}

pub(super) async fn charge_try(pool: &PgPool, code: &MailedCode, now: OffsetDateTime) -> sqlx::Result<Option<u32>> {
    match code.of {
        CodeFor::StepUp => charge_try!("step_up_codes", "used_at is null", pool, code.id, now),
        CodeFor::AddressChange => charge_try!("email_changes", "used_at is null", pool, code.id, now),
    }
}

/// Uses a code up. One statement decides: of any number of parallel tries one gets `true`.
pub(super) async fn consume(connection: &mut PgConnection, code: &MailedCode, now: OffsetDateTime) -> sqlx::Result<bool> {
    macro_rules! consume {
        ($table:literal) => {
            sqlx::query!(
                "update " + $table + " set used_at = $2 where id = $1 and used_at is null and expires_at > $2",
                code.id,
                now,
            )
            .changes(connection)
            .await
        };
    }
    match code.of {
        CodeFor::StepUp => consume!("step_up_codes"),
        CodeFor::AddressChange => consume!("email_changes"),
    }
}
