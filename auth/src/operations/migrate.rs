//! The schema: applied by its owner, used by a role that owns nothing (A18).

use std::sync::LazyLock;

use sqlx::{AssertSqlSafe, PgPool, migrate::Migrator};

/// Every migration, in the binary.
pub static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    static FILES: Migrator = sqlx::migrate!("../migrations");
    let mut all: Vec<_> = FILES.iter().cloned().collect();
    for first in all.iter_mut().filter(|migration| migration.version == FIRST) {
        first.checksum = FIRST_CHECKSUM.as_slice().into();
    }
    Migrator::with_migrations(all)
});

/// Applied alone after all others, as the rollout's checklist has it, 016 undid parts of later migrations, so it was mended after databases
/// had it. What it makes on an empty database is the same, and these databases, and the version before, know it by the checksum that it had.
const FIRST: i64 = 16;
const FIRST_CHECKSUM: [u8; 48] = [
    0x31, 0x81, 0x45, 0x42, 0xa1, 0x8f, 0x90, 0x4d, 0x04, 0xb0, 0x4e, 0xfa, 0x1a, 0xfd, 0x1e, 0x49, 0x66, 0x50, 0x23, 0x5c, 0x62,
    0x0e, 0xba, 0x9b, 0xc0, 0x9b, 0x58, 0x84, 0x0b, 0xd7, 0xd9, 0xbf, 0xbd, 0xe5, 0x54, 0x09, 0xaa, 0x38, 0x9e, 0x6b, 0x41, 0x15,
    0xd6, 0x18, 0x0f, 0xdd, 0x85, 0xbe,
];

const ELSEWHERE: &str = "the search_path of this role puts another schema before public, where Latchkey's tables are; \
                         run `alter role … in database … set search_path = public`, as the schema's owner, and migrate again. \
                         Nothing was changed";

/// One migration and whether the database has it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Migration {
    pub version: i64,
    pub description: String,
    pub applied: bool,
}

/// Applies what is missing, then lets `application` use it. `owner` must own the schema. What a newer version has applied is left alone:
/// migrations only add, and whoever goes back to this version must get it running.
///
/// # Errors
/// When a migration fails, was changed after it was applied, the role does not exist, or new tables would not be in `public`.
pub async fn migrate(owner: &PgPool, application: Option<&str>) -> sqlx::Result<()> {
    // Functions of the schema and checks name `public`; elsewhere half of it would be found, and a server wait for the rest for ever.
    let schema: Option<String> = sqlx::query_scalar("select current_schema()::text").fetch_one(owner).await?;
    if schema.as_deref() != Some("public") {
        return Err(sqlx::Error::Configuration(ELSEWHERE.into()));
    }
    let mut migrator = Migrator::with_migrations(MIGRATOR.iter().cloned().collect());
    // Only where all of ours are there: the database of another program has others.
    migrator.set_ignore_missing(status(owner).await?.iter().all(|migration| migration.applied));
    migrator.run(owner).await?;
    let Some(role) = application else {
        return Ok(());
    };
    // Identifiers can't be bound. `format('%I')` on the server would need a function; doubling quotes is its whole rule.
    let role = format!("\"{}\"", role.replace('"', "\"\""));
    let grants = format!(
        "grant select, insert, update, delete on all tables in schema public to {role};
         revoke insert, update, delete on _sqlx_migrations from {role};
         grant execute on function auth_audit_make_partition(timestamptz), auth_audit_drop_partitions(timestamptz) to {role};"
    );
    let mut transaction = owner.begin().await?;
    sqlx::raw_sql(AssertSqlSafe(grants)).execute(&mut *transaction).await?;
    // "All tables" takes in the audit's months, which can be changed by their own names.
    let mut audit: Vec<String> =
        sqlx::query_scalar("select relid::text from pg_partition_tree('auth_audit')").fetch_all(&mut *transaction).await?;
    let months = audit.join(", ");
    audit.push("auth_audit_seals".to_owned());
    let revoke = format!("revoke update, delete, truncate on {} from {role}", audit.join(", "));
    sqlx::raw_sql(AssertSqlSafe(revoke)).execute(&mut *transaction).await?;
    // Whoever numbers rows can number one past all others: whatever comes after it is never sealed.
    let columns: String = sqlx::query_scalar(
        "select string_agg(quote_ident(attname), ', ') from pg_attribute
         where attrelid = 'auth_audit'::regclass and attnum > 0 and not attisdropped and attname <> 'position'",
    )
    .fetch_one(&mut *transaction)
    .await?;
    let number = format!("revoke insert on {months} from {role}; grant insert ({columns}) on auth_audit to {role}");
    sqlx::raw_sql(AssertSqlSafe(number)).execute(&mut *transaction).await?;
    transaction.commit().await
}

/// What is applied and what is pending.
///
/// # Errors
/// When the database does not answer.
pub async fn status(pool: &PgPool) -> sqlx::Result<Vec<Migration>> {
    let has_table: bool = sqlx::query_scalar("select to_regclass('public._sqlx_migrations') is not null").fetch_one(pool).await?;
    let applied: Vec<i64> = if has_table {
        sqlx::query_scalar("select version from _sqlx_migrations where success").fetch_all(pool).await?
    } else {
        Vec::new()
    };
    Ok(MIGRATOR
        .iter()
        .map(|migration| Migration {
            version: migration.version,
            description: migration.description.to_string(),
            applied: applied.contains(&migration.version),
        })
        .collect())
}

/// Whether this binary can work: the database answers and has every migration it knows.
///
/// # Errors
/// When the database does not answer.
pub async fn is_ready(pool: &PgPool) -> sqlx::Result<bool> {
    Ok(status(pool).await?.iter().all(|migration| migration.applied))
}
