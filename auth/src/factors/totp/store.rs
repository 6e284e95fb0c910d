use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{FREE_FAILURES, History, MAX_AUTHENTICATORS, MAX_FAILURES};
use crate::crypto::{Sealed, SessionKey};
use crate::primitives::statement::Statement as _;

/// One authenticator that is in use.
pub(crate) struct Credential {
    pub id: Uuid,
    pub name: String,
    pub sealed: Sealed,
    pub history: History,
    pub failures: i32,
    pub confirmed_at: OffsetDateTime,
    pub last_used_at: Option<OffsetDateTime>,
}

/// The account's authenticators, the older one first. One that was never confirmed is none.
pub(crate) async fn confirmed(pool: &PgPool, user: Uuid) -> sqlx::Result<Vec<Credential>> {
    let rows = sqlx::query!(
        r#"
        select id, name, secret, key_id, drift, last_step, early_step, failures, confirmed_at as "confirmed_at!", last_used_at
        from totp_credentials where user_id = $1 and confirmed_at is not null order by confirmed_at, id
        "#,
        user,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Credential {
            id: row.id,
            name: row.name,
            sealed: Sealed { key_id: row.key_id, bytes: row.secret },
            history: History { drift: row.drift, last_step: row.last_step, early_step: row.early_step },
            failures: row.failures,
            confirmed_at: row.confirmed_at,
            last_used_at: row.last_used_at,
        })
        .collect())
}

/// What became of the charge for one look at a code, in a browser the account doesn't know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charged {
    /// So many in a row now, this one included.
    Yes(i32),
    /// Too many wrong ones lately: nothing is looked at before this time.
    Wait(OffsetDateTime),
    /// Too many wrong ones in a row: nothing is looked at until the app is set up anew.
    Off,
}

/// Counts a wrong code before any is compared, so that no number of parallel guesses gets more looks than its turn;
/// [`accept`] takes it back. All of the account's authenticators count together, since a wrong code belongs to none of them, and
/// are locked in one order, so that two of these never wait for each other.
pub(crate) async fn charge(pool: &PgPool, user: Uuid, now: OffsetDateTime) -> sqlx::Result<Charged> {
    let charged = sqlx::query_scalar!(
        r#"
        with mine as materialized (
            select id, failures, blocked_until from totp_credentials
            where user_id = $1 and confirmed_at is not null
            order by id
            for update
        )
        update totp_credentials c
        set failures = c.failures + 1,
            blocked_until = case when c.failures + 1 >= $4
                then $2 + least(interval '1 hour', interval '30 seconds' * power(2, least(c.failures + 1 - $4, 10)))
                else null end,
            disabled_at = case when c.failures + 1 >= $3 then $2 else null end
        from mine
        where c.id = mine.id and not exists (select 1 from mine where failures >= $3 or blocked_until > $2)
        returning c.failures
        "#,
        user,
        now,
        MAX_FAILURES,
        FREE_FAILURES,
    )
    .fetch_all(pool)
    .await?;
    if let Some(failures) = charged.into_iter().max() {
        return Ok(Charged::Yes(failures));
    }
    let row = sqlx::query!(
        r#"
        select max(failures) as "failures", max(blocked_until) as "blocked_until"
        from totp_credentials where user_id = $1 and confirmed_at is not null
        "#,
        user,
    )
    .fetch_one(pool)
    .await?;
    Ok(match (row.failures, row.blocked_until) {
        (Some(failures), _) if failures >= MAX_FAILURES => Charged::Off,
        (Some(_), Some(until)) => Charged::Wait(until),
        // Between the two statements somebody's right code freed it, or two-factor was turned off: asking again finds out.
        _ => Charged::Wait(now),
    })
}

/// Uses a step up, for the whole account: one statement decides, so of any number of parallel tries with one code one gets `true`.
/// `charged` says that this try was counted by [`charge`], which it takes back with all wrong ones before it.
pub(crate) async fn accept(
    connection: &mut PgConnection,
    user: Uuid,
    credential: Uuid,
    step: i64,
    drift: i16,
    charged: bool,
    now: OffsetDateTime,
) -> sqlx::Result<bool> {
    sqlx::query!(
        r#"
        with mine as materialized (
            select id, last_step from totp_credentials
            where user_id = $1 and confirmed_at is not null
            order by id
            for update
        )
        update totp_credentials c
        set last_step = $3,
            drift = case when c.id = $2 then $4 else c.drift end,
            last_used_at = case when c.id = $2 then $6 else c.last_used_at end,
            failures = case when $5 then 0 else c.failures end,
            blocked_until = case when $5 then null else c.blocked_until end,
            disabled_at = case when $5 then null else c.disabled_at end
        from mine
        where c.id = mine.id
            and not exists (select 1 from mine where last_step >= $3)
            and exists (select 1 from mine own where own.id = $2)
        "#,
        user,
        credential,
        step,
        drift,
        charged,
        now,
    )
    .changes(connection)
    .await
}

/// Notes what a refused code taught: a step that came early, or that the clock is not ahead any more.
pub(crate) async fn note(pool: &PgPool, credential: Uuid, early_step: Option<i64>, drift: i16) -> sqlx::Result<()> {
    sqlx::query!(
        "update totp_credentials set early_step = coalesce($2, early_step), drift = $3 where id = $1",
        credential,
        early_step,
        drift,
    )
    .run(pool)
    .await
}

/// Replaces the secret by the same under another key, unless somebody was faster.
pub(crate) async fn reseal(pool: &PgPool, credential: Uuid, old: &Sealed, new: &Sealed) -> sqlx::Result<bool> {
    sqlx::query!(
        "update totp_credentials set secret = $3, key_id = $4 where id = $1 and secret = $2",
        credential,
        old.bytes,
        new.bytes,
        new.key_id,
    )
    .changes(pool)
    .await
}

/// A set-up that waits for its first code. It belongs to the session id that began it: a session that steps up begins anew, so no
/// secret that a copy of the old id has seen comes into use.
pub(crate) struct Pending {
    pub id: Uuid,
    pub sealed: Sealed,
    pub early_step: Option<i64>,
}

/// Begins a set-up of this session. One that it began before and never confirmed goes; what is in use, and what other sessions have
/// begun, is not touched. `false`: there are as many authenticators as there may be.
pub(crate) async fn begin(
    connection: &mut PgConnection,
    id: Uuid,
    user: Uuid,
    sealed: &Sealed,
    session: Uuid,
    now: OffsetDateTime,
) -> sqlx::Result<bool> {
    sqlx::query!(
        r#"
        with mine as materialized (
            select token_hash from sessions where id = $7 and user_id = $2 and revoked_at is null
        ), gone as (
            delete from totp_credentials c using mine
            where c.user_id = $2 and c.confirmed_at is null and c.session_hash = mine.token_hash
        )
        insert into totp_credentials (id, user_id, name, secret, key_id, created_at, session_hash)
        select $1, $2, '', $3, $4, $5, mine.token_hash from mine
        where (select count(*) from totp_credentials where user_id = $2 and confirmed_at is not null) < $6
        "#,
        id,
        user,
        sealed.bytes,
        sealed.key_id,
        now,
        i64::try_from(MAX_AUTHENTICATORS).expect("two"),
        session,
    )
    .changes(connection)
    .await
}

pub(crate) async fn pending(
    pool: &PgPool,
    user: Uuid,
    session: Uuid,
    begun_since: OffsetDateTime,
) -> sqlx::Result<Option<Pending>> {
    let row = sqlx::query!(
        r#"
        select id, secret, key_id, early_step from totp_credentials
        where user_id = $1 and confirmed_at is null and created_at > $2
            and session_hash = (select token_hash from sessions where id = $3 and user_id = $1 and revoked_at is null)
        order by created_at desc limit 1
        "#,
        user,
        begun_since,
        session,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| Pending { id: row.id, sealed: Sealed { key_id: row.key_id, bytes: row.secret }, early_step: row.early_step }))
}

/// Puts an authenticator into use, its first code used up with it, and takes the waits of the others away: the app was set up
/// anew. `false` where that set-up is over, or another session's. All of the account's rows are locked, pending ones too: of two set-ups confirmed at
/// once, the second sees the first.
#[expect(clippy::too_many_arguments, reason = "a row's columns")]
pub(crate) async fn confirm(
    connection: &mut PgConnection,
    user: Uuid,
    credential: Uuid,
    session: SessionKey,
    name: &str,
    step: i64,
    drift: i16,
    now: OffsetDateTime,
) -> sqlx::Result<bool> {
    sqlx::query!(
        r#"
        with mine as materialized (
            select id, last_step, confirmed_at, session_hash from totp_credentials where user_id = $1 order by id for update
        )
        update totp_credentials c
        set last_step = greatest(c.last_step, $4),
            confirmed_at = coalesce(c.confirmed_at, $6),
            name = case when c.id = $2 then $3 else c.name end,
            drift = case when c.id = $2 then $5 else c.drift end,
            last_used_at = case when c.id = $2 then $6 else c.last_used_at end,
            session_hash = null, failures = 0, blocked_until = null, disabled_at = null
        from mine
        where c.id = mine.id and (mine.confirmed_at is not null or mine.id = $2)
            and exists (select 1 from mine own where own.id = $2 and own.confirmed_at is null and own.session_hash = $8)
            and (select count(*) from mine used where used.confirmed_at is not null) < $7
        "#,
        user,
        credential,
        name,
        step,
        drift,
        now,
        i64::try_from(MAX_AUTHENTICATORS).expect("two"),
        &session.0,
    )
    .changes(connection)
    .await
}

/// Takes one of two authenticators out of use; the last one only goes with two-factor itself.
pub(crate) async fn remove(connection: &mut PgConnection, user: Uuid, credential: Uuid) -> sqlx::Result<bool> {
    sqlx::query!(
        r#"
        with mine as materialized (
            select id from totp_credentials where user_id = $1 and confirmed_at is not null order by id for update
        )
        delete from totp_credentials c using mine
        where c.id = mine.id and c.id = $2 and (select count(*) from mine) > 1
        "#,
        user,
        credential,
    )
    .changes(connection)
    .await
}

/// Turns it off: every authenticator goes, confirmed or not. `false` where none was in use.
pub(crate) async fn remove_all(connection: &mut PgConnection, user: Uuid) -> sqlx::Result<bool> {
    let removed = sqlx::query_scalar!(
        r#"
        with mine as materialized (select id from totp_credentials where user_id = $1 order by id for update),
             gone as (delete from totp_credentials c using mine where c.id = mine.id returning c.confirmed_at)
        select count(confirmed_at) as "count!" from gone
        "#,
        user,
    )
    .fetch_one(connection)
    .await?;
    Ok(removed > 0)
}

/// How many secrets lie under each key.
pub(crate) async fn keys_in_use(pool: &PgPool) -> sqlx::Result<Vec<(String, i64)>> {
    let rows = sqlx::query!(r#"select key_id, count(*) as "count!" from totp_credentials group by key_id order by key_id"#)
        .fetch_all(pool)
        .await?;
    Ok(rows.into_iter().map(|row| (row.key_id, row.count)).collect())
}

/// A secret and its row, for re-encryption.
pub(crate) struct Stored {
    pub id: Uuid,
    pub user: Uuid,
    pub sealed: Sealed,
}

/// The next secrets after `after` that are not under `key`, by id.
pub(crate) async fn not_under(pool: &PgPool, key: &str, after: Uuid, limit: i64) -> sqlx::Result<Vec<Stored>> {
    let rows = sqlx::query!(
        "select id, user_id, secret, key_id from totp_credentials where key_id <> $1 and id > $2 order by id limit $3",
        key,
        after,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Stored { id: row.id, user: row.user_id, sealed: Sealed { key_id: row.key_id, bytes: row.secret } })
        .collect())
}

/// Whether an authenticator in use was set up at this moment or before.
pub(crate) async fn enrolled_before(connection: &mut PgConnection, user: Uuid, at: OffsetDateTime) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"select exists (select from totp_credentials where user_id = $1 and confirmed_at <= $2) as "is!""#,
        user,
        at,
    )
    .fetch_one(connection)
    .await
}

/// The accounts whose next code has to wait, the longest wait first: at most `most`, and how many there are.
pub(crate) async fn waiting(pool: &PgPool, most: i64, now: OffsetDateTime) -> sqlx::Result<(Vec<(Uuid, OffsetDateTime)>, i64)> {
    let rows = sqlx::query!(
        r#"
        select user_id, max(blocked_until) as "until!", count(*) over () as "all!" from totp_credentials
        where confirmed_at is not null and blocked_until > $1 and disabled_at is null
        group by user_id order by 2 desc, user_id limit $2
        "#,
        now,
        most,
    )
    .fetch_all(pool)
    .await?;
    let all = rows.first().map_or(0, |row| row.all);
    Ok((rows.into_iter().map(|row| (row.user_id, row.until)).collect(), all))
}

/// Ends the wait after wrong codes in a row; their number stays. `false` where nothing waits.
pub(crate) async fn stop_waiting(connection: &mut PgConnection, user: Uuid, now: OffsetDateTime) -> sqlx::Result<bool> {
    sqlx::query!(
        r#"
        with mine as materialized (
            select id from totp_credentials where user_id = $1 and confirmed_at is not null order by id for update
        )
        update totp_credentials c set blocked_until = null from mine where c.id = mine.id and c.blocked_until > $2
        "#,
        user,
        now,
    )
    .changes(connection)
    .await
}
