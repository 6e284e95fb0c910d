use std::net::IpAddr;

use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{ApiSession, MOST_SHOWN, SessionView, Stored};
use crate::{
    crypto::SessionKey,
    event::{Event, RevokeReason},
    identity::{Authority, Level, Method, SecondFactor},
    primitives::requester::{Application, Client, Requester, device},
    primitives::statement::Statement as _,
};

pub(super) async fn create(
    pool: &PgPool,
    id: Uuid,
    key: SessionKey,
    data: &Value,
    now: OffsetDateTime,
    expires_at: OffsetDateTime,
) -> sqlx::Result<bool> {
    sqlx::query!(
        r#"
        insert into sessions (id, token_hash, audience, data, created_at, last_seen_at, expires_at)
        values ($1, $2, 'browser', $3, $4, $4, $5)
        on conflict (token_hash) do nothing
        "#,
        id,
        &key.0,
        data,
        now,
        expires_at,
    )
    .changes(pool)
    .await
}

/// UPDATE only: an upsert would bring back a session revoked while its request was under way.
pub(super) async fn save(
    pool: &PgPool,
    key: SessionKey,
    data: &Value,
    now: OffsetDateTime,
    visitor_expires_at: OffsetDateTime,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update sessions set data = $2, expires_at = case when user_id is null then $4 else expires_at end
        where token_hash = $1 and audience = 'browser' and revoked_at is null and expires_at > $3
        "#,
        &key.0,
        data,
        now,
        visitor_expires_at,
    )
    .run(pool)
    .await
}

pub(super) struct Found {
    pub stored: Stored,
    pub last_seen_at: OffsetDateTime,
}

pub(super) async fn load(
    pool: &PgPool,
    key: SessionKey,
    now: OffsetDateTime,
    idle_since: OffsetDateTime,
) -> sqlx::Result<Option<Found>> {
    let row = sqlx::query!(
        r#"
        select s.id, s.data, s.user_id, s.level as "level: Level", s.method as "method: Method",
               s.second_method as "second: SecondFactor", s.authenticated_at, s.verified_at, s.ip as "ip: IpAddr", s.user_agent,
                s.last_seen_at, s.expires_at, u.email as "email?", u.is_admin as "is_admin?",
               exists (select 1 from totp_credentials t where t.user_id = s.user_id and t.confirmed_at is not null) as "two_factor!"
        from sessions s left join users u on u.id = s.user_id
        where s.token_hash = $1 and s.audience = 'browser' and s.revoked_at is null and s.expires_at > $2
            and (s.user_id is null
                 or (s.last_seen_at > $3 and u.disabled_at is null and (u.deletes_at is null or u.deletes_at > $2)))
        "#,
        &key.0,
        now,
        idle_since,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| {
        // Where a column is missing there is no authority: a session that can't be read signs nobody in.
        let authority = (|| {
            Some(Authority {
                session: row.id,
                user: row.user_id?,
                email: row.email?,
                admin: row.is_admin?,
                two_factor: row.two_factor,
                level: row.level?.stands(row.two_factor),
                method: row.method?,
                second: row.second,
                authenticated_at: row.authenticated_at?,
                verified_at: row.verified_at,
                ip: row.ip?,
                device: device(row.user_agent.as_deref()?),
            })
        })();
        Found { stored: Stored { data: row.data, authority, expires_at: row.expires_at }, last_seen_at: row.last_seen_at }
    }))
}

pub(crate) async fn touch(pool: &PgPool, key: SessionKey, now: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query!(
        "update sessions set last_seen_at = $2 where token_hash = $1 and revoked_at is null and last_seen_at < $2",
        &key.0,
        now,
    )
    .run(pool)
    .await
}

/// A live session of an application's, with who it speaks for, in one statement. Another application's is none, and neither is one
/// that has given one factor of two, also where the account came to have two while it signed in.
pub(crate) async fn load_of_application(
    pool: &PgPool,
    key: SessionKey,
    application: &Application,
    now: OffsetDateTime,
    idle_since: OffsetDateTime,
) -> sqlx::Result<Option<ApiSession>> {
    let found = sqlx::query_as!(
        ApiSession,
        r#"
        select s.id as session, s.user_id as "user!", s.level as "level!: Level", s.method as "method!: Method",
               s.second_method as "second: SecondFactor", s.authenticated_at as "authenticated_at!", s.last_seen_at, s.expires_at, u.email, u.display_name as name, u.is_admin as admin,
               exists (select 1 from totp_credentials t where t.user_id = s.user_id and t.confirmed_at is not null) as "two_factor!"
        from sessions s join users u on u.id = s.user_id
        where s.token_hash = $1 and s.audience = 'api' and s.application = $2 and s.level <> 'first_factor' and s.revoked_at is null
            and s.expires_at > $3 and s.last_seen_at > $4 and u.disabled_at is null and (u.deletes_at is null or u.deletes_at > $3)
        "#,
        &key.0,
        application.name,
        now,
        idle_since,
    )
    .fetch_optional(pool)
    .await?;
    Ok(found.filter(ApiSession::has_proven_enough))
}

/// Whether this application has signed the account in before, in the same browser by what it says.
pub(crate) async fn has_used(connection: &mut PgConnection, user: Uuid, from: &Requester) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (
            select 1 from sessions
            where user_id = $1 and application = $2 and level <> 'first_factor' and user_agent is not distinct from $3
        ) as "used!"
        "#,
        user,
        from.application().map(|application| application.name.as_str()),
        from.is_person().then(|| from.user_agent()),
    )
    .fetch_one(connection)
    .await
}

/// A session that was ended, and whose it was.
pub(crate) struct Ended {
    pub session: Uuid,
    pub user: Uuid,
}

impl Ended {
    pub fn event(&self, reason: RevokeReason) -> Event {
        Event::SessionRevoked { user: self.user, session: self.session, reason }
    }
}

/// Ends the sessions with authority that `$which` says, of those not ended yet. `$1` is the time, `$2` the reason.
macro_rules! end {
    ($which:tt, $now:expr, $reason:expr, $($argument:expr),+) => {
        sqlx::query_as!(
            Ended,
            r#"
            update sessions set revoked_at = $1, revoke_reason = $2
            where user_id is not null and revoked_at is null and "# + $which + r#"
            returning id as session, user_id as "user!"
            "#,
            $now,
            <&str>::from($reason),
            $($argument),+
        )
    };
}

/// `None` where there was nothing live to revoke.
pub(crate) async fn revoke(
    connection: &mut PgConnection,
    key: SessionKey,
    reason: RevokeReason,
    now: OffsetDateTime,
) -> sqlx::Result<Option<Ended>> {
    end!("token_hash = $3", now, reason, &key.0).fetch_optional(connection).await
}

/// `None` where the application holds no live session by this token.
pub(crate) async fn revoke_of_application(
    connection: &mut PgConnection,
    key: SessionKey,
    application: &Application,
    reason: RevokeReason,
    now: OffsetDateTime,
) -> sqlx::Result<Option<Ended>> {
    end!("token_hash = $3 and audience = 'api' and application = $4 and expires_at > $1", now, reason, &key.0, application.name)
        .fetch_optional(connection)
        .await
}

/// Ends one of the account's sessions.
pub(super) async fn revoke_one(
    connection: &mut PgConnection,
    user: Uuid,
    id: Uuid,
    reason: RevokeReason,
    now: OffsetDateTime,
) -> sqlx::Result<Option<Ended>> {
    end!("user_id = $3 and id = $4 and expires_at > $1", now, reason, user, id).fetch_optional(connection).await
}

/// Ends all sessions of an account but one.
pub(super) async fn revoke_others(
    connection: &mut PgConnection,
    user: Uuid,
    keep: Option<Uuid>,
    reason: RevokeReason,
    now: OffsetDateTime,
) -> sqlx::Result<Vec<Ended>> {
    end!("user_id = $3 and ($4::uuid is null or id <> $4) and expires_at > $1", now, reason, user, keep).fetch_all(connection).await
}

/// Ends the session of a sign-in that is taken back, and those since: whoever signed in then may have done so again, in a browser
/// that was known by that time.
pub(crate) async fn undo(
    connection: &mut PgConnection,
    user: Uuid,
    session: Uuid,
    since: OffsetDateTime,
    now: OffsetDateTime,
) -> sqlx::Result<Vec<Ended>> {
    let which = end!(
        "user_id = $3 and (id = $4 or authenticated_at >= $5) and expires_at > $1",
        now,
        RevokeReason::Undone,
        user,
        session,
        since
    );
    which.fetch_all(connection).await
}

pub(super) async fn forget(pool: &PgPool, key: SessionKey) -> sqlx::Result<()> {
    sqlx::query!("delete from sessions where token_hash = $1 and user_id is null", &key.0).run(pool).await
}

/// A visitor's row whose place a signed-in session has taken lives a minute longer. A second press of the button, under way at that
/// moment, must find the request it belongs to and be told that it was used. Without the row it would be a stranger's, and the
/// answer to a stranger takes the dead cookie away: by then that is the new session's.
pub(crate) async fn retire(connection: &mut PgConnection, key: SessionKey, until: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query!("update sessions set expires_at = least(expires_at, $2) where token_hash = $1 and user_id is null", &key.0, until,)
        .run(connection)
        .await
}

/// Where somebody signed in, in the words people use: a browser, or an application, with the browser it named.
pub(crate) fn place(application: Option<String>, user_agent: Option<&str>) -> String {
    match (application, user_agent) {
        (None, user_agent) => device(user_agent.unwrap_or_default()),
        (Some(application), None) => application,
        (Some(application), Some(user_agent)) => format!("{application}, {}", device(user_agent)),
    }
}

/// The live ones that have given every factor the account had when they signed in.
pub(super) async fn list(
    pool: &PgPool,
    user: Uuid,
    here: Option<Uuid>,
    now: OffsetDateTime,
    idle_since: OffsetDateTime,
) -> sqlx::Result<Vec<SessionView>> {
    let rows = sqlx::query!(
        r#"
        select id, user_agent, ip as "ip: IpAddr", method as "method!: Method", second_method as "second: SecondFactor",
               level = 'two_factor' as "two_factor!", new_device, application, authenticated_at as "authenticated_at!", last_seen_at
        from sessions
        where user_id = $1 and level <> 'first_factor' and revoked_at is null and expires_at > $2 and last_seen_at > $3
        order by id = $4 desc nulls last, last_seen_at desc limit $5
        "#,
        user,
        now,
        idle_since,
        here,
        i64::from(MOST_SHOWN),
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| SessionView {
            id: row.id,
            device: place(row.application, row.user_agent.as_deref()),
            ip: row.ip,
            method: row.method,
            second: row.second,
            two_factor: row.two_factor,
            new_device: row.new_device,
            signed_in_at: row.authenticated_at,
            last_seen_at: row.last_seen_at,
            here: here == Some(row.id),
        })
        .collect())
}

/// Ends a number of the sessions that were signed in since `since`, whoever's.
pub(crate) async fn revoke_since(
    connection: &mut PgConnection,
    since: Option<OffsetDateTime>,
    limit: i64,
    reason: RevokeReason,
    now: OffsetDateTime,
) -> sqlx::Result<Vec<Ended>> {
    sqlx::query_as!(
        Ended,
        r#"
        with live as materialized (
            select id from sessions
            where user_id is not null and revoked_at is null and expires_at > $2 and ($1::timestamptz is null or authenticated_at >= $1)
            order by id limit $3
            for update
        )
        update sessions s set revoked_at = $2, revoke_reason = $4
        from live where s.id = live.id and s.revoked_at is null
        returning s.id as session, s.user_id as "user!"
        "#,
        since,
        now,
        limit,
        <&str>::from(reason),
    )
    .fetch_all(connection)
    .await
}

/// What a session that has given one factor of two leaves behind.
pub(crate) struct Half {
    pub session: Uuid,
    pub user: Uuid,
    pub method: Method,
    pub link: Option<Uuid>,
    pub asked_at: Option<OffsetDateTime>,
}

/// A session that has given one factor of two, as its application holds it.
pub(crate) struct ApiHalf {
    pub user: Uuid,
    /// The client it was made for, where the application named one.
    pub client: Option<Client>,
}

pub(crate) async fn api_half(pool: &PgPool, key: SessionKey, api_key: Uuid, now: OffsetDateTime) -> sqlx::Result<Option<ApiHalf>> {
    let row = sqlx::query!(
        r#"
        select user_id as "user_id!", ip as "ip: IpAddr", user_agent from sessions
        where token_hash = $1 and audience = 'api' and api_key_id = $2 and level = 'first_factor' and revoked_at is null
            and expires_at > $3
        "#,
        &key.0,
        api_key,
        now,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| ApiHalf {
        user: row.user_id,
        client: row.ip.zip(row.user_agent).map(|(ip, user_agent)| Client { ip, user_agent }),
    }))
}

/// Ends a half-signed-in session, for the second factor to take its place, of the same kind: `api_key` is the key that made it, and
/// none a browser's. Of any number of parallel tries one gets it.
pub(crate) async fn finish_half(
    connection: &mut PgConnection,
    key: SessionKey,
    api_key: Option<Uuid>,
    now: OffsetDateTime,
) -> sqlx::Result<Option<Half>> {
    sqlx::query_as!(
        Half,
        r#"
        update sessions set revoked_at = $2, revoke_reason = $3
        where token_hash = $1 and audience = case when $4::uuid is null then 'browser' else 'api' end
            and api_key_id is not distinct from $4 and user_id is not null and level <> 'two_factor' and revoked_at is null
            and expires_at > $2
        returning id as session, user_id as "user!", method as "method!: Method", magic_link_id as link,
            (select created_at from magic_links where id = magic_link_id) as asked_at
        "#,
        &key.0,
        now,
        <&str>::from(RevokeReason::Replaced),
        api_key,
    )
    .fetch_optional(connection)
    .await
}

/// A session's authority. Its level is no field: it follows from the account and what was given ([`Level::of`]). Neither is where its
/// token works: in the API where an application asks, for that application, and else as a cookie.
pub(crate) struct Grant<'a> {
    pub id: Uuid,
    pub key: SessionKey,
    pub data: &'a Value,
    pub user: Uuid,
    /// As it stands in the transaction that grants.
    pub two_factor: bool,
    pub method: Method,
    pub second: Option<SecondFactor>,
    pub verified_at: Option<OffsetDateTime>,
    pub link: Option<Uuid>,
    /// When that link was asked for.
    pub asked_at: Option<OffsetDateTime>,
    /// The account did not know this browser.
    pub new_device: bool,
    pub from: &'a Requester,
    pub now: OffsetDateTime,
    pub expires_at: OffsetDateTime,
}

impl Grant<'_> {
    pub fn level(&self) -> Level {
        Level::of(self.two_factor, self.second)
    }
}

/// The only statement that makes a session with authority. It makes a new row, never raises an old one: an id that anybody could
/// have planted in a browser before its owner signed in can't come to speak for them.
pub(crate) async fn grant(connection: &mut PgConnection, grant: &Grant<'_>) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into sessions (id, token_hash, audience, data, user_id, level, method, second_method, verified_at, magic_link_id, ip,
                              user_agent, authenticated_at, created_at, last_seen_at, expires_at, new_device, api_key_id, application)
        values ($1, $2, case when $15::uuid is null then 'browser' else 'api' end, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $12,
                $13, $14, $15, $16)
        "#,
        grant.id,
        &grant.key.0,
        grant.data,
        grant.user,
        grant.level().as_str(),
        grant.method.as_str(),
        grant.second.map(SecondFactor::as_str),
        grant.verified_at,
        grant.link,
        grant.from.is_person().then_some(grant.from.ip) as Option<IpAddr>,
        grant.from.is_person().then(|| grant.from.user_agent()),
        grant.now,
        grant.expires_at,
        grant.new_device,
        grant.from.application().map(|application| application.key),
        grant.from.application().map(|application| application.name.as_str()),
    )
    .run(connection)
    .await
}

/// A live session proves its account's strongest factor again, and gets another id: whoever held the old one holds nothing.
pub(crate) struct Renewal {
    pub session: Uuid,
    pub old: SessionKey,
    pub fresh: SessionKey,
    /// As it stands in the transaction that renews.
    pub two_factor: bool,
    pub second: Option<SecondFactor>,
    pub now: OffsetDateTime,
}

/// Gives a live session of a browser another id, and sets `$more`. Not one that has given one factor of two.
macro_rules! change_id {
    ($more:tt, $($argument:expr),+) => {
        sqlx::query!(
            "update sessions set " + $more + r#" token_hash = $3, last_seen_at = $4
            where id = $1 and token_hash = $2 and audience = 'browser' and user_id is not null and level <> 'first_factor'
                and revoked_at is null and expires_at > $4
            "#,
            $($argument),+
        )
    };
}

/// `false` where the session is not live any more, or was renewed by another request. No session comes to speak for anybody by
/// it that did not before, and one that has given one factor of two is not renewed.
pub(crate) async fn renew(connection: &mut PgConnection, renewal: &Renewal) -> sqlx::Result<bool> {
    change_id!(
        "level = $5, second_method = $6, verified_at = $4,",
        renewal.session,
        &renewal.old.0,
        &renewal.fresh.0,
        renewal.now,
        Level::of(renewal.two_factor, renewal.second).as_str(),
        renewal.second.map(SecondFactor::as_str)
    )
    .changes(connection)
    .await
}

/// A live session gets another id, with what it has proven as it is. `false` as in [`renew`].
pub(crate) async fn change_id(
    connection: &mut PgConnection,
    session: Uuid,
    old: SessionKey,
    fresh: SessionKey,
    now: OffsetDateTime,
) -> sqlx::Result<bool> {
    change_id!("", session, &old.0, &fresh.0, now).changes(connection).await
}

/// Where and when somebody signed in, for the link that takes it back.
pub(crate) struct SignIn {
    pub device: String,
    pub ip: Option<IpAddr>,
    pub at: OffsetDateTime,
}

pub(crate) async fn sign_in_of(pool: &PgPool, session: Uuid) -> sqlx::Result<Option<SignIn>> {
    let row = sqlx::query!(
        r#"select ip as "ip: IpAddr", user_agent, application, authenticated_at from sessions where id = $1 and user_id is not null"#,
        session,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.and_then(|row| {
        Some(SignIn { device: place(row.application, row.user_agent.as_deref()), ip: row.ip, at: row.authenticated_at? })
    }))
}
