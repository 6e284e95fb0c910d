//! What `latchkey doctor` asks the database about itself.

use std::time::Duration;

use sqlx::{ConnectOptions as _, Connection as _, PgConnection, PgPool, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Error,
    operations::migrate,
    primitives::email_address::{has_route, masked},
};

/// The server's.
///
/// # Errors
/// When it does not answer.
pub async fn version(connection: &mut PgConnection) -> sqlx::Result<String> {
    sqlx::raw_sql("show server_version").fetch_one(connection).await?.try_get(0)
}

/// The address of the administrator who has been one for longest.
///
/// # Errors
/// When the database does not answer, or lacks the table.
pub async fn an_administrator(pool: &PgPool) -> Result<Option<String>, Error> {
    let oldest = sqlx::query_scalar!("select email from users where is_admin and disabled_at is null order by created_at limit 1");
    Ok(oldest.fetch_optional(pool).await?)
}

/// Whether it is a replica, which lags behind its primary and changes nothing.
///
/// # Errors
/// When it does not answer.
pub async fn is_replica(connection: &mut PgConnection) -> sqlx::Result<bool> {
    sqlx::raw_sql("select pg_is_in_recovery()").fetch_one(connection).await?.try_get(0)
}

/// Whether a connection made now could change nothing, because `default_transaction_read_only` is on for the server, the database or the
/// role; or whether this one can't. The catalogue is asked too: a connection keeps the default of the moment at which it was made.
///
/// # Errors
/// When it does not answer.
pub async fn is_read_only(connection: &mut PgConnection) -> sqlx::Result<bool> {
    // The rows in PostgreSQL's own order: the role in this database, the role, the database, all.
    let sql = "select current_setting('transaction_read_only')::boolean or coalesce((
            select split_part(setting, '=', 2)::boolean
            from pg_db_role_setting s cross join unnest(s.setconfig) setting
            where setting like 'default_transaction_read_only=%'
                and s.setdatabase in (0, (select oid from pg_database where datname = current_database()))
                and s.setrole in (0, (select oid from pg_roles where rolname = session_user))
            order by s.setrole <> 0 and s.setdatabase <> 0 desc, s.setrole <> 0 desc, s.setdatabase <> 0 desc
            limit 1
        ), current_setting('default_transaction_read_only')::boolean)";
    sqlx::raw_sql(sql).fetch_one(connection).await?.try_get(0)
}

/// Whether a process can do its work with the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    Ready,
    MigrationsPending,
    /// Every transaction of a new connection is read-only.
    ReadOnly,
    /// The role may not write into the tables that a sign-in writes into.
    NoRights,
}

/// Ready means that a sign-in can be written, not only that the database answers.
///
/// # Errors
/// When it does not answer.
pub async fn readiness(pool: &PgPool) -> sqlx::Result<Readiness> {
    if is_read_only(&mut *pool.acquire().await?).await? {
        return Ok(Readiness::ReadOnly);
    }
    if !migrate::is_ready(pool).await? {
        return Ok(Readiness::MigrationsPending);
    }
    let writes: bool = sqlx::query_scalar(
        "select bool_and(has_any_column_privilege(name, 'insert'))
         from unnest(array['public.magic_links', 'public.sessions', 'public.mail_outbox', 'public.auth_audit']) name",
    )
    .fetch_one(pool)
    .await?;
    Ok(if writes { Readiness::Ready } else { Readiness::NoRights })
}

/// Whether the database refuses to be written to: asked on a connection of its own, because a pool rejects such connections and says only
/// that it waited.
///
/// # Errors
/// When it does not answer.
pub async fn refuses_writes(pool: &PgPool) -> sqlx::Result<bool> {
    let mut connection = pool.connect_options().connect().await?;
    let refuses = is_replica(&mut connection).await? || is_read_only(&mut connection).await?;
    connection.close().await?;
    Ok(refuses)
}

/// What the role of a pool may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    pub name: String,
    /// It owns the audit, is a member of its owner, or may do everything.
    pub owns: bool,
    /// It may change or delete audit rows, were it not for the trigger, or number them; or change or delete their seals.
    pub changes_audit: bool,
    /// It may write to the audit and read accounts.
    pub works: bool,
}

/// `None` before the first migration.
///
/// # Errors
/// When the database does not answer.
pub async fn role(pool: &PgPool) -> Result<Option<Role>, Error> {
    Ok(sqlx::query_as!(
        Role,
        r#"
        with parts as (
            select c.oid, c.relowner, c.relname <> 'auth_audit_seals' as numbered from pg_class c
            where c.oid in (select relid from pg_partition_tree(to_regclass('public.auth_audit')))
                or c.oid = to_regclass('public.auth_audit_seals')
        )
        select current_user::text as "name!",
               -- Also where it has to say `set role` first.
               bool_or(pg_has_role(relowner, 'member')) as "owns!",
               bool_or(
                   has_any_column_privilege(oid, 'update') or has_table_privilege(oid, 'delete, truncate')
                   or numbered and has_column_privilege(oid, 'position', 'insert')
               ) as "changes_audit!",
               has_any_column_privilege(to_regclass('public.auth_audit'), 'insert')
                   and has_table_privilege(to_regclass('public.auth_audit'), 'select')
                   and has_table_privilege(to_regclass('public.users'), 'select') as "works!"
        from parts having count(*) > 0
        "#
    )
    .fetch_optional(pool)
    .await?)
}

/// How a pool of connections in between treats ours. What it would break is other clients' statements on our connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// A connection of ours keeps its server process: none in between, or one in session mode.
    Session,
    /// Another process answered while the one before was taken.
    Transaction,
}

/// Longer than a connection is waited for. Behind a pooler the answer to a question may go to somebody else.
const LOOK: Duration = Duration::from_secs(20);

/// A database that works tells at once which process it is.
const ANSWER: Duration = Duration::from_secs(3);
/// So often the one has to answer while the other doesn't, each time for a second: a machine that stands still for a while, or a packet
/// that is lost, makes one of them late once.
const TIMES: u32 = 4;

/// Where others ask at the same time, a pooler may give each connection the same process again: under load about one round in a
/// hundred is such a coincidence.
const ROUNDS: u32 = 8;

/// Takes two connections, for at most 20 seconds.
///
/// # Errors
/// When the database does not answer, as where a pooler lets nobody in a second time.
pub async fn pooling(pool: &PgPool) -> Result<Pooling, Error> {
    Ok(tokio::time::timeout(LOOK, look(pool)).await.map_err(|_| sqlx::Error::PoolTimedOut)??)
}

async fn look(pool: &PgPool) -> sqlx::Result<Pooling> {
    let mut first = pool.acquire().await?;
    let mut second = pool.acquire().await?;
    let ours = process(&mut first).await?;
    for _ in 0..ROUNDS {
        if process(&mut first).await? != ours || another_answers(&mut first, &mut second, ours).await? {
            return Ok(Pooling::Transaction);
        }
    }
    Ok(Pooling::Session)
}

/// The first one's process is kept busy by the second where a process is free between transactions; a pooler then has to give the
/// first another, or none. One that takes turns gives the first another at once.
async fn another_answers(first: &mut PgConnection, second: &mut PgConnection, ours: i32) -> sqlx::Result<bool> {
    // However this ends, it is rolled back: a worker that got the connection next would hold its locks for ever.
    let mut second = match second.begin().await {
        // A pooler that hands processes on from statement to statement knows no transactions. By its words: the code, a protocol
        // violation, is all of PgBouncer's errors.
        Err(sqlx::Error::Database(error)) if error.message().contains("statement pooling") => return Ok(true),
        begun => begun?,
    };
    let busy = process(&mut second).await?;
    let Some(after) = answer_beside(first, &mut second).await? else {
        return Ok(true);
    };
    second.rollback().await?;
    Ok(busy == ours || after != ours)
}

/// `None`: a pooler with no other process lets the first one wait until the second's transaction ends.
async fn answer_beside(first: &mut PgConnection, second: &mut PgConnection) -> sqlx::Result<Option<i32>> {
    let mut after = std::pin::pin!(process(first));
    for _ in 0..TIMES {
        if let Ok(after) = tokio::time::timeout(Duration::from_secs(1), &mut after).await {
            return after.map(Some);
        }
        // A database that is slow lets both wait: then nothing is known.
        tokio::time::timeout(ANSWER, process(second)).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
    }
    Ok(None)
}

/// In plain text, without prepared statements: those are what goes wrong.
async fn process(connection: &mut PgConnection) -> sqlx::Result<i32> {
    sqlx::raw_sql("select pg_backend_pid()").fetch_one(connection).await?.try_get(0)
}

/// Whether the audit has a place of its own for the month that holds `at`, or rows of it lie in the default partition, as those of
/// an installation's first month do.
///
/// # Errors
/// When the database does not answer.
pub async fn has_audit_month(pool: &PgPool, at: OffsetDateTime) -> Result<bool, Error> {
    Ok(sqlx::query_scalar!(
        r#"
        select to_regclass('public.auth_audit_' || to_char($1::timestamptz at time zone 'UTC', 'YYYYMM')) is not null
            or exists (
                select from auth_audit_default
                where created_at >= date_trunc('month', $1::timestamptz, 'UTC')
                    and created_at < date_trunc('month', $1::timestamptz, 'UTC') + interval '1 month'
            ) as "has!"
        "#,
        at,
    )
    .fetch_one(pool)
    .await?)
}

/// An account that has an address with a route in it ([`has_route`]), from before those were refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    pub id: Uuid,
    /// Masked.
    pub address: String,
}

/// All of them, by their ids. It reads every account.
///
/// # Errors
/// When the database does not answer.
pub async fn routed_addresses(pool: &PgPool) -> Result<Vec<Routed>, Error> {
    // What could be one; which are is decided in one place.
    let rows = sqlx::query!(r#"select id, email from users where email_key ~ '[%!/]|=[?]|^srs[01]|^imcea' order by id"#)
        .fetch_all(pool)
        .await?;
    let routed = |email: &str| email.rsplit_once('@').is_some_and(|(local, _)| has_route(local));
    Ok(rows.into_iter().filter(|row| routed(&row.email)).map(|row| Routed { id: row.id, address: masked(&row.email) }).collect())
}

/// A flag's row; `None`: the environment decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagRow {
    pub allowed: i64,
    pub percent_admins: i16,
    pub percent_everyone: i16,
}

/// # Errors
/// When the database does not answer.
pub async fn flag(pool: &PgPool, key: &str) -> Result<Option<FlagRow>, Error> {
    Ok(sqlx::query_as!(
        FlagRow,
        r#"select cardinality(allowed)::bigint as "allowed!", percent_admins, percent_everyone from feature_flags where key = $1"#,
        key,
    )
    .fetch_optional(pool)
    .await?)
}
