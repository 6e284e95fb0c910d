use ipnet::IpNet;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::MagicLink;
use crate::{
    crypto::{KnownBrowserToken, Seed},
    event::Refusal,
    identity::Method,
    one_time::{Dead, Life},
    policy::{CODE_TRIES, LIVE_LINKS, MAX_WRONG_CODES},
    primitives::{email_address::EmailAddress, requester::Application, statement::Statement as _},
};

/// Adds a request, and closes those it replaces: the older ones of this browser, and, where strangers crowd an address, the
/// oldest of theirs. A known browser's request is never crowded out, or strangers could keep its owner from signing in.
pub(crate) async fn insert(
    connection: &mut PgConnection,
    link: &MagicLink,
    token_hash: &[u8; 32],
    from_known_browser: bool,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        with replaced as (
            update magic_links set closed_at = $11, closed_reason = 'replaced'
            where browser_hash = $7 and used = 0 and closed_at is null and expires_at > $11
        ), crowded_out as (
            update magic_links set closed_at = $11, closed_reason = 'crowded_out'
            where id in (
                select id from magic_links
                where email_key = $3 and browser_hash <> $7 and not from_known_browser and not $8
                    and used = 0 and closed_at is null and expires_at > $11
                order by created_at desc
                offset $13
            )
        )
        insert into magic_links (id, email, email_key, nonce, key_id, token_hash, code_hash, browser_hash, from_known_browser,
                                 ip, user_agent, created_at, expires_at, api_key_id, application, redirect_url, client_named, codes_off)
        values ($1, $2, $3, $4, $5, $6, $12, $7, $8, $9, $10, $11, $14, $15, $16, $17, $18, $19)
        "#,
        link.id,
        link.email.as_str(),
        link.email.key(),
        &link.seed.nonce,
        link.seed.key_id,
        token_hash,
        link.browser_hash,
        from_known_browser,
        IpNet::from(link.ip) as IpNet,
        link.user_agent,
        link.created_at,
        link.code_hash,
        LIVE_LINKS - 1,
        link.life.expires_at,
        link.application.as_ref().map(|application| application.key),
        link.application.as_ref().map(|application| application.name.as_str()),
        link.redirect_url,
        link.client_named,
        link.codes_off,
    )
    .run(connection)
    .await
}

/// Why it was closed. Another link of the account signed it in: to its owner, this one is used up.
pub(super) fn closed(reason: &str) -> Dead {
    match reason {
        "replaced" => Dead::Replaced,
        "signed_in" => Dead::Used,
        _ => Dead::Cancelled,
    }
}

macro_rules! find {
    ($pool:expr, $which:literal, $value:expr) => {
        sqlx::query!(
            r#"
            select id, email as "email: EmailAddress", nonce as "nonce: [u8; 32]", key_id, code_hash, browser_hash, ip as "ip: IpNet",
                   user_agent, created_at, expires_at, attempts, used, closed_reason, api_key_id, application, redirect_url, client_named,
                   codes_off
            from magic_links where "# + $which,
            $value,
        )
        .map(|row| MagicLink {
            id: row.id,
            email: row.email,
            seed: Seed { nonce: row.nonce, key_id: row.key_id },
            code_hash: row.code_hash,
            browser_hash: row.browser_hash,
            ip: row.ip.addr(),
            user_agent: row.user_agent,
            application: row.api_key_id.zip(row.application).map(|(key, name)| Application { key, name }),
            redirect_url: row.redirect_url,
            client_named: row.client_named,
            codes_off: row.codes_off,
            created_at: row.created_at,
            attempts: row.attempts,
            life: Life { expires_at: row.expires_at, used: row.used == 1, closed: row.closed_reason.as_deref().map(closed) },
        })
        .fetch_optional($pool)
        .await
    };
}

pub(crate) async fn by_token(pool: &PgPool, token_hash: &[u8; 32]) -> sqlx::Result<Option<MagicLink>> {
    find!(pool, "token_hash = $1", token_hash)
}

pub(crate) async fn by_id(pool: &PgPool, id: Uuid) -> sqlx::Result<Option<MagicLink>> {
    find!(pool, "id = $1", id)
}

pub(crate) async fn newest_of_browser(pool: &PgPool, browser_hash: &[u8; 32]) -> sqlx::Result<Option<MagicLink>> {
    find!(pool, "browser_hash = $1 order by created_at desc limit 1", browser_hash)
}

/// A code is about to be compared: it was counted as wrong.
pub(crate) struct Charged {
    /// Tries of this mail, with this one.
    pub spent: u32,
    /// Wrong codes since a link was used, with this one. None: there were too many before, and nothing may be compared.
    pub wrong: Option<i32>,
}

/// Charges one try, of the mail and of who tries, before anything is compared. `None`: no try is left, or the code died meanwhile.
pub(crate) async fn charge_try(
    pool: &PgPool,
    link: &MagicLink,
    known: Option<&KnownBrowserToken>,
    now: OffsetDateTime,
) -> sqlx::Result<Option<Charged>> {
    macro_rules! charge {
        ($counted:literal $(, $value:expr)*) => {
            sqlx::query!(
                r#"
                with tried as (
                    update magic_links set attempts = attempts + 1
                    where id = $1 and attempts < $2 and expires_at > $3 and used = 0 and closed_at is null
                    returning attempts
                ), counted (wrong) as ("#
                    + $counted
                    + r#")
                select tried.attempts, counted.wrong as "wrong?" from tried left join counted on true
                "#,
                link.id,
                i16::try_from(CODE_TRIES).expect("a handful"),
                now,
                link.email.key(),
                MAX_WRONG_CODES
                $(, $value)*
            )
            .map(|row| Charged { spent: row.attempts.unsigned_abs().into(), wrong: row.wrong })
            .fetch_optional(pool)
            .await
        };
    }
    match known {
        Some(known) => charge!(
            r#"
            update known_browsers k set wrong_codes = k.wrong_codes + 1
            from tried
            where k.token_hash = $6 and k.user_id = (select id from users where email_key = $4) and k.wrong_codes < $5
            returning k.wrong_codes
            "#,
            &known.hash()
        ),
        None => charge!(
            r#"
            insert into wrong_codes as w (email_key, failures, last_at)
            select $4, 1, $3 from tried
            on conflict (email_key) do update set failures = w.failures + 1, last_at = excluded.last_at where w.failures < $5
            returning w.failures
            "#
        ),
    }
}

/// Uses the link up, if it is live at this very moment, and closes the account's other links with it. One statement decides:
/// of any number of parallel tries, by link and by code, on any number of instances, one gets `true`.
///
/// All live links of the address are locked in one order first. Two of them redeemed at once would otherwise each hold its own
/// and wait for the other's.
pub(crate) async fn consume(
    connection: &mut PgConnection,
    link: &MagicLink,
    method: Method,
    now: OffsetDateTime,
) -> sqlx::Result<bool> {
    let consumed = sqlx::query_scalar!(
        r#"
        with live as materialized (
            select id from magic_links
            where email_key = $2 and used = 0 and closed_at is null and expires_at > $3
            order by id
            for update
        ), consumed as (
            update magic_links m set used = 1, used_at = $3, used_by = $4
            from live
            where m.id = live.id and m.id = $1 and m.used = 0 and m.closed_at is null and m.expires_at > $3
            returning m.id
        ), closed as (
            update magic_links m set closed_at = $3, closed_reason = 'signed_in'
            from live
            where m.id = live.id and m.id <> $1 and m.used = 0 and m.closed_at is null and exists (select 1 from consumed)
        )
        select count(*) as "count!" from consumed
        "#,
        link.id,
        link.email.key(),
        now,
        method.as_str(),
    )
    .fetch_one(connection)
    .await?;
    Ok(consumed == 1)
}

/// "This wasn't me." `false` where it was dead already.
pub(crate) async fn cancel(connection: &mut PgConnection, id: Uuid, now: OffsetDateTime) -> sqlx::Result<bool> {
    sqlx::query!(
        r#"
        update magic_links set closed_at = $2, closed_reason = 'cancelled'
        where id = $1 and used = 0 and closed_at is null and expires_at > $2
        "#,
        id,
        now,
    )
    .changes(connection)
    .await
}

/// Notes a refusal that was not noted before. One statement decides: of any number of one kind, one gets `true`.
pub(crate) async fn note_refusal(connection: &mut PgConnection, id: Uuid, method: Method, refusal: Refusal) -> sqlx::Result<bool> {
    sqlx::query!(
        "update magic_links set refusals = array_append(refusals, $2) where id = $1 and not $2 = any(refusals)",
        id,
        format!("{}:{}", method.as_str(), <&str>::from(refusal)),
    )
    .changes(connection)
    .await
}

/// Cancels live links, which it locks in one order.
macro_rules! cancel_live {
    ($connection:expr, $which:literal, $($value:expr),*) => {
        sqlx::query!(
            r#"
            with live as materialized (
                select id from magic_links where used = 0 and closed_at is null and expires_at > $1 and "# + $which + r#"
                for update
            )
            update magic_links m set closed_at = $1, closed_reason = 'cancelled'
            from live where m.id = live.id and m.used = 0 and m.closed_at is null
            "#,
            $($value),*
        )
        .execute($connection)
        .await
    };
}

/// Closes every live link of an account whose factors have changed: whoever asked before must ask again.
pub(crate) async fn close_all(connection: &mut PgConnection, email_key: &str, now: OffsetDateTime) -> sqlx::Result<()> {
    cancel_live!(connection, "email_key = $2 order by id", now, email_key)?;
    Ok(())
}

/// Closes up to `limit` live links of everybody that were asked for since then. Returns how many.
pub(crate) async fn close_since(
    connection: &mut PgConnection,
    since: OffsetDateTime,
    limit: i64,
    now: OffsetDateTime,
) -> sqlx::Result<u64> {
    Ok(cancel_live!(connection, "created_at >= $2 order by id limit $3", now, since, limit)?.rows_affected())
}

/// Closes every live link of two addresses, between which an account moves: in one order, or two accounts that swap theirs could
/// wait for each other.
pub(crate) async fn close_both(connection: &mut PgConnection, a: &str, b: &str, now: OffsetDateTime) -> sqlx::Result<()> {
    close_all(connection, a.min(b), now).await?;
    close_all(connection, a.max(b), now).await
}
