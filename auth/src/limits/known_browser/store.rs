use std::net::IpAddr;

use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{KnownBrowser, MOST, Place};
use crate::{
    crypto::{KnownBrowserCookie, KnownBrowserToken},
    policy::MAX_WRONG_CODES,
    primitives::{requester::Requester, statement::Statement as _},
};

/// The token of this cookie by which an account knows the browser, if it does: not from another network on another device.
macro_rules! find {
    ($pool:expr, $cookie:expr, $from:expr, $now:expr, $which:tt, $($value:expr),+) => {{
        let (cookie, place): (&KnownBrowserCookie, Place) = ($cookie, $from.into());
        let found = sqlx::query_scalar!(
            r#"
            select k.token_hash from known_browsers k join users u on u.id = k.user_id
            where k.token_hash = any($1) and k.expires_at > $2
                and (k.ip is null or k.ip <<= $3 or k.device = $4) and "# + $which + r#"
            order by k.last_used_at desc limit 1
            "#,
            &cookie.hashes(),
            $now,
            place.block as ipnet::IpNet,
            place.device,
            $($value),+
        );
        found.fetch_optional($pool).await.map(|hash| cookie.find(&hash?))
    }};
}

/// The token by which this address's account knows the browser.
pub(crate) async fn knows<'a>(
    pool: &PgPool,
    cookie: &'a KnownBrowserCookie,
    email_key: &str,
    from: &Requester,
    now: OffsetDateTime,
) -> sqlx::Result<Option<&'a KnownBrowserToken>> {
    find!(pool, cookie, from, now, "u.email_key = $5", email_key)
}

/// How many wrong authenticator codes in a row a browser may send and still count as known.
const MAX_FAILURES: i32 = 100;

/// The token by which the account knows the browser, for codes of its second factor.
pub(crate) async fn knows_account<'a>(
    pool: &PgPool,
    cookie: &'a KnownBrowserCookie,
    user: Uuid,
    from: &Requester,
    now: OffsetDateTime,
) -> sqlx::Result<Option<&'a KnownBrowserToken>> {
    find!(pool, cookie, from, now, "u.id = $5 and k.failures < $6", user, MAX_FAILURES)
}

/// What became of the cookie of a browser that has signed in.
pub(crate) struct Remembered {
    pub cookie: KnownBrowserCookie,
    /// The account did not know it.
    pub new: bool,
}

/// Knows the browser from now on, and no more than [`MOST`]. Its token stays, unless it is one that the account might share with another:
/// that of a row which the version before made.
pub(crate) async fn remember(
    connection: &mut PgConnection,
    cookie: Option<&KnownBrowserCookie>,
    user: Uuid,
    from: &Requester,
    now: OffsetDateTime,
    expires_at: OffsetDateTime,
) -> sqlx::Result<Remembered> {
    let (place, fresh) = (Place::from(from), KnownBrowserToken::new());
    let row = sqlx::query!(
        r#"
        with found as (
            select token_hash, device from known_browsers
            where token_hash = any($1) and user_id = $2 and expires_at > $3 and (ip is null or ip <<= $4 or device = $5)
            order by last_used_at desc limit 1
            for update
        ), kept as (
            update known_browsers k
            set token_hash = case when found.device is null then $6 else k.token_hash end, last_used_at = $3, expires_at = $7, ip = $8,
                device = $5
            from found where k.token_hash = found.token_hash and k.user_id = $2
            returning found.token_hash as old, found.device is null as renewed
        ), made as (
            insert into known_browsers (token_hash, user_id, created_at, last_used_at, expires_at, ip, device)
            select $6, $2, $3, $3, $7, $8, $5 where not exists (select from found)
        ), forgotten as (
            delete from known_browsers where user_id = $2 and token_hash in (
                select token_hash from known_browsers
                where user_id = $2 and token_hash not in (select token_hash from found)
                order by last_used_at desc offset $9
            )
        )
        select old as "old?", renewed as "renewed?" from (select) one left join kept on true
        "#,
        &cookie.map(KnownBrowserCookie::hashes).unwrap_or_default(),
        user,
        now,
        place.block as ipnet::IpNet,
        place.device,
        &fresh.hash(),
        expires_at,
        from.ip as IpAddr,
        i64::from(MOST) - 1,
    )
    .fetch_one(connection)
    .await?;
    let (new, renewed) = (row.old.is_none(), row.renewed == Some(true));
    let cookie = match cookie {
        Some(cookie) if !new && !renewed => cookie.clone(),
        Some(cookie) => cookie.with(fresh, row.old.as_deref().filter(|_| renewed)),
        None => fresh.into(),
    };
    Ok(Remembered { cookie, new })
}

/// Whether this browser sent too many wrong codes by mail since a link was last used in it.
pub(crate) async fn codes_off(pool: &PgPool, token: &KnownBrowserToken, email_key: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (
            select from known_browsers k join users u on u.id = k.user_id
            where k.token_hash = $1 and u.email_key = $2 and k.wrong_codes >= $3
        ) as "off!"
        "#,
        &token.hash(),
        email_key,
        MAX_WRONG_CODES,
    )
    .fetch_one(pool)
    .await
}

/// A right code was counted as a wrong one.
pub(crate) async fn uncount(pool: &PgPool, token: &KnownBrowserToken, email_key: &str) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update known_browsers set wrong_codes = wrong_codes - 1
        where token_hash = $1 and user_id = (select id from users where email_key = $2) and wrong_codes > 0
        "#,
        &token.hash(),
        email_key,
    )
    .run(pool)
    .await
}

/// A link was used here: codes are taken again.
pub(crate) async fn link_used(connection: &mut PgConnection, cookie: &KnownBrowserCookie, user: Uuid) -> sqlx::Result<()> {
    sqlx::query!(
        "update known_browsers set wrong_codes = 0 where token_hash = any($1) and user_id = $2 and wrong_codes > 0",
        &cookie.hashes(),
        user,
    )
    .run(connection)
    .await
}

/// Counts a wrong authenticator code before any is compared. `false`: this browser doesn't know the account, or not any more.
pub(crate) async fn charge(pool: &PgPool, token: &KnownBrowserToken, user: Uuid, now: OffsetDateTime) -> sqlx::Result<bool> {
    sqlx::query!(
        r#"
        update known_browsers set failures = failures + 1
        where token_hash = $1 and user_id = $2 and expires_at > $3 and failures < $4
        "#,
        &token.hash(),
        user,
        now,
        MAX_FAILURES,
    )
    .changes(pool)
    .await
}

/// A right code: the wrong ones before it are forgotten.
pub(crate) async fn clear(connection: &mut PgConnection, token: &KnownBrowserToken, user: Uuid) -> sqlx::Result<()> {
    sqlx::query!("update known_browsers set failures = 0 where token_hash = $1 and user_id = $2", &token.hash(), user)
        .run(connection)
        .await
}

/// The browsers that came to be known at this moment or later are strangers again: the next sign-in from one is told of.
pub(crate) async fn forget_since(connection: &mut PgConnection, user: Uuid, since: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query!("delete from known_browsers where user_id = $1 and created_at >= $2", user, since).run(connection).await
}

/// Forgets all browsers of these accounts. Returns how many.
pub(crate) async fn forget_all(connection: &mut PgConnection, users: &[Uuid]) -> sqlx::Result<u64> {
    Ok(sqlx::query!("delete from known_browsers where user_id = any($1)", users).execute(connection).await?.rows_affected())
}

/// Forgets a number of the browsers in which somebody signed in since `since`, whoever's. Returns how many.
pub(crate) async fn forget_used_since(
    connection: &mut PgConnection,
    since: Option<OffsetDateTime>,
    limit: i64,
) -> sqlx::Result<u64> {
    let forgotten = sqlx::query!(
        r#"
        with found as materialized (
            select token_hash, user_id from known_browsers where $1::timestamptz is null or last_used_at >= $1
            order by user_id, token_hash limit $2
            for update
        )
        delete from known_browsers k using found where k.token_hash = found.token_hash and k.user_id = found.user_id
        "#,
        since,
        limit,
    );
    Ok(forgotten.execute(connection).await?.rows_affected())
}

/// Forgets all browsers but the one that signed in last at this moment.
pub(crate) async fn forget_others(connection: &mut PgConnection, user: Uuid, signed_in_at: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query!("delete from known_browsers where user_id = $1 and last_used_at <> $2", user, signed_in_at).run(connection).await
}

/// Forgets one of the account's browsers. `false` where the account does not know it.
pub(crate) async fn forget(connection: &mut PgConnection, user: Uuid, id: Uuid) -> sqlx::Result<bool> {
    sqlx::query!(
        "delete from known_browsers where user_id = $1 and encode(substr(sha256(token_hash), 1, 16), 'hex')::uuid = $2",
        user,
        id,
    )
    .changes(connection)
    .await
}

/// The browsers that an account knows, those used last first.
pub(crate) async fn list(
    pool: &PgPool,
    user: Uuid,
    cookie: Option<&KnownBrowserCookie>,
    now: OffsetDateTime,
) -> sqlx::Result<Vec<KnownBrowser>> {
    sqlx::query_as!(
        KnownBrowser,
        r#"
        select encode(substr(sha256(token_hash), 1, 16), 'hex')::uuid as "id!", device, ip as "ip: IpAddr", created_at as first_at,
               last_used_at as last_at, expires_at, token_hash = any($2) as "here!"
        from known_browsers where user_id = $1 and expires_at > $3
        order by last_used_at desc limit $4
        "#,
        user,
        &cookie.map(KnownBrowserCookie::hashes).unwrap_or_default(),
        now,
        i64::from(MOST),
    )
    .fetch_all(pool)
    .await
}
