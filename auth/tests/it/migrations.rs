//! The schema is one, however it was applied: by `latchkey migrate`, by plain `psql -f`, in either order, twice.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use sqlx::PgPool;
use testkit::Database;

/// The migrations as files, in their order, up to the one with this number.
fn files(last: i64) -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .filter(|path| {
            path.file_name().and_then(|name| name.to_str()?.get(..3)?.parse().ok()).is_some_and(|number: i64| number <= last)
        })
        .collect();
    files.sort();
    files
}

fn psql(database: &Database, last: i64) {
    for file in files(last) {
        psql_file(database, &file);
    }
}

fn psql_file(database: &Database, file: &Path) {
    let output = Command::new("psql")
        .args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--file"])
        .args([file, Path::new(&database.owner_url)])
        .output()
        .expect("psql runs: it comes with PostgreSQL's client");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Up to a migration in the middle there are no grants: those are made when all have run, and name tables of the later ones.
async fn migrate(database: &Database, last: i64) {
    let owner = database.owner().await;
    if last == newest() {
        auth::operations::migrate::migrate(&owner, Some(private_postgres::APPLICATION)).await.expect("the migrations apply");
    } else {
        auth::operations::migrate::MIGRATOR.run_to(last, &owner).await.expect("the migrations apply");
    }
}

fn newest() -> i64 {
    auth::operations::migrate::MIGRATOR.iter().map(|migration| migration.version).max().expect("there are some")
}

/// Without the migrator's own table, and without grants: those name the application's role, which psql knows nothing of.
fn schema(database: &Database) -> String {
    let output = Command::new("pg_dump")
        .args(["--schema-only", "--no-privileges", "--exclude-table", "_sqlx_migrations", &database.owner_url])
        .output()
        .expect("pg_dump runs: it comes with PostgreSQL's client");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let dump = String::from_utf8(output.stdout).expect("UTF-8");
    // Newer clients write a random key for psql's restricted mode.
    dump.lines().filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict")).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn psql_and_migrate_give_one_schema_in_any_order_twice() {
    // The first migration alone, as the rollout's checklist applies it; and all of them.
    for last in [16, newest()] {
        let [by_migrate, by_psql, psql_first, migrate_first] =
            [Database::empty().await, Database::empty().await, Database::empty().await, Database::empty().await];
        for _ in 0..2 {
            migrate(&by_migrate, last).await;
            psql(&by_psql, last);
            psql(&psql_first, last);
            migrate(&psql_first, last).await;
            migrate(&migrate_first, last).await;
            psql(&migrate_first, last);
        }
        let expected = schema(&by_migrate);
        for table in ["users", "magic_links", "sessions", "auth_audit", "mail_outbox", "rate_limits"] {
            assert!(expected.contains(&format!("CREATE TABLE public.{table} (")), "{table} is missing");
        }
        for database in [&by_psql, &psql_first, &migrate_first] {
            assert_eq!(schema(database), expected);
        }
    }
}

#[tokio::test]
async fn a_fresh_database_has_no_account_and_no_flag() {
    let database = Database::new().await;
    let pool = database.pool().await;
    for sql in ["select count(*) from users", "select count(*) from feature_flags", "select count(*) from api_keys"] {
        let rows: i64 = sqlx::query_scalar(sql).fetch_one(&pool).await.expect("the count can be read");
        assert_eq!(rows, 0, "{sql}");
    }
}

#[tokio::test]
async fn the_application_never_changes_the_audit_by_whatever_name_also_after_another_migration() {
    let database = Database::new().await;
    let (owner, pool) = (database.owner().await, database.pool().await);
    sqlx::query("select auth_audit_make_partition('2026-11-24Z')").execute(&pool).await.expect("made");
    auth::operations::migrate::migrate(&owner, Some(private_postgres::APPLICATION)).await.expect("nothing is left to apply");
    let changes =
        "select count(*) from pg_partition_tree('auth_audit') cross join unnest(array['update', 'delete', 'truncate']) what
                   where has_table_privilege(relid, what)";
    let changes: i64 = sqlx::query_scalar(changes).fetch_one(&pool).await.expect("the count can be read");
    assert_eq!(changes, 0);
    let tree: i64 =
        sqlx::query_scalar("select count(*) from pg_partition_tree('auth_audit')").fetch_one(&owner).await.expect("read");
    assert!(tree >= 3, "the log, its default and a month");
}

/// A number past all others would end sealing for good.
#[tokio::test]
async fn the_application_numbers_no_row_of_the_audit_by_whatever_name_also_after_another_migration() {
    let database = Database::new().await;
    let (owner, pool) = (database.owner().await, database.pool().await);
    for month in ["2026-11-24Z", "2026-12-24Z"] {
        sqlx::query("select auth_audit_make_partition($1::timestamptz)").bind(month).execute(&pool).await.expect("made");
        let may = "select coalesce(string_agg(relid::text, ', '), '') from pg_partition_tree('auth_audit')
                   where has_column_privilege(relid, 'position', 'insert')
                      or (relid <> 'auth_audit'::regclass and has_any_column_privilege(relid, 'insert'))";
        let may: String = sqlx::query_scalar(may).fetch_one(&pool).await.expect("can be read");
        assert_eq!(may, "");
        let insert = "insert into auth_audit (id, created_at, event_type, position)
                      values (gen_random_uuid(), $1::timestamptz, 'x.y', 9223372036854775807)";
        let refused = sqlx::query(insert).bind(month).execute(&pool).await.expect_err("servers leave it to the sequence");
        assert_eq!(refused.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref(), Some("42501"), "{refused}");
        // As every version inserts.
        let insert = "insert into auth_audit (id, created_at, event_type, user_id, actor_id, ip, user_agent, request_id, details)
                      values (gen_random_uuid(), $1::timestamptz, 'x.y', null, null, null, null, null, '{}')";
        sqlx::query(insert).bind(month).execute(&pool).await.expect("added");
        auth::operations::migrate::migrate(&owner, Some(private_postgres::APPLICATION)).await.expect("nothing is left to apply");
    }
}

/// One that no server's clock shows would end whoever reads it.
#[tokio::test]
async fn the_audit_takes_no_time_out_of_this_age() {
    let database = Database::new().await;
    let pool = database.pool().await;
    let seal = "insert into auth_audit_seals (number, kind, month, to_position, rows, rows_hash, fingerprints, sealed_at, hash, key_id, mac)
                values (1, 'rows', '2026-11-01', 1, 0, sha256(''), '', $1::timestamptz, sha256(''), '', sha256(''))";
    takes_no_time_out_of_this_age(
        &pool,
        &[
            "insert into auth_audit (id, created_at, event_type) values (gen_random_uuid(), $1::timestamptz, 'x.y')",
            seal,
            &seal
                .replace("fingerprints, sealed_at", "fingerprints, first_at, sealed_at")
                .replace("$1::timestamptz", "$1::timestamptz, '2026-11-24Z'"),
            &seal
                .replace("fingerprints, sealed_at", "fingerprints, last_at, sealed_at")
                .replace("$1::timestamptz", "$1::timestamptz, '2026-11-24Z'"),
            &seal
                .replace("fingerprints, sealed_at", "fingerprints, to_at, to_id, sealed_at")
                .replace("$1::timestamptz", "$1::timestamptz, gen_random_uuid(), '2026-11-24Z'"),
            &seal.replace("'2026-11-01'", "$1::timestamptz::date").replace("'', $1::timestamptz", "'', '2026-11-24Z'"),
            "insert into audit_verification (at, head, rows, findings) values ($1::timestamptz, 0, 0, '{}')",
            "select auth_audit_make_partition($1::timestamptz)",
        ],
    )
    .await;
    // Nobody has taken its name.
    sqlx::query("select auth_audit_make_partition('2027-03-15Z')").execute(&pool).await.expect("made");
    let insert = "insert into auth_audit (id, created_at, event_type) values (gen_random_uuid(), '2027-03-15Z', 'x.y')";
    sqlx::query(insert).execute(&pool).await.expect("added");
    let rows: i64 =
        sqlx::query_scalar("select count(*) from auth_audit_202703").fetch_one(&database.owner().await).await.expect("read");
    assert_eq!(rows, 1);
}

/// The guard of a rollout reads these.
#[tokio::test]
async fn a_rollout_takes_no_time_out_of_this_age() {
    let pool = Database::new().await.pool().await;
    // In `step_since`; below in others beside it.
    let rollout = "insert into rollouts (id, flag, state, plan, step, step_since, started_at, started_by)
                   values (gen_random_uuid(), 'x', 'running', '[]', 0, $1::timestamptz, '2026-11-24Z', '')";
    takes_no_time_out_of_this_age(
        &pool,
        &[
            rollout,
            &rollout
                .replace("started_at", "stopped_since, started_at")
                .replace("'running'", "'held'")
                .replace("$1::timestamptz", "'2026-11-24Z', $1::timestamptz"),
            &rollout.replace("started_at", "clear_since, started_at").replace("$1::timestamptz", "'2026-11-24Z', $1::timestamptz"),
            &rollout.replace("$1::timestamptz, '2026-11-24Z'", "'2026-11-24Z', $1::timestamptz"),
            &rollout
                .replace("started_at", "ended_at, started_at")
                .replace("'running'", "'finished'")
                .replace("$1::timestamptz", "'2026-11-24Z', $1::timestamptz"),
            "insert into rollout_checks (name, checked_at) values ('x', $1::timestamptz)",
            "insert into rollout_checks (name, checked_at, over_since) values ('x', '2026-11-24Z', $1::timestamptz)",
            "insert into period_counts (hours, begins_at, name, value) values (1, $1::timestamptz, 'x', 1)",
        ],
    )
    .await;
}

async fn takes_no_time_out_of_this_age(pool: &PgPool, statements: &[&str]) {
    for &sql in statements {
        for at in ["infinity", "-infinity", "20000-01-01Z", "2200-01-01Z", "2019-12-31Z", "2027-03-15Z BC"] {
            let refused = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(at).execute(pool).await.expect_err(&format!("{at}: {sql}"));
            let code = refused.as_database_error().and_then(sqlx::error::DatabaseError::code).unwrap_or_default();
            assert!(matches!(&*code, "23514" | "22023"), "{at}: {sql}: {refused}");
        }
        for at in ["2020-01-01Z", "2199-12-31Z"] {
            let mut transaction = pool.begin().await.expect("begun");
            sqlx::query(sqlx::AssertSqlSafe(sql)).bind(at).execute(&mut *transaction).await.expect(sql);
        }
    }
}

/// A few bytes compressed can be more than a server's memory: a row like that would end the seal, the verification and an export.
#[tokio::test]
async fn the_audit_takes_no_row_that_nobody_can_read() {
    let database = Database::new().await;
    let pool = database.pool().await;
    for columns in [
        "details) select gen_random_uuid(), now(), 'x.y', jsonb_build_object('x', jsonb_agg(1e131000::numeric)) from generate_series(1, 8400)",
        "details) select gen_random_uuid(), now(), 'x.y', jsonb_build_object('x', repeat('x', 65536))",
        "user_agent) select gen_random_uuid(), now(), 'x.y', repeat('x', 65536)",
        "request_id) select gen_random_uuid(), now(), 'x.y', repeat('x', 65536)",
    ] {
        let sql = format!("insert into auth_audit (id, created_at, event_type, {columns}");
        let refused = sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&pool).await.expect_err(columns);
        assert!(refused.as_database_error().is_some(), "{columns}: {refused}");
    }
    let rows: i64 = sqlx::query_scalar("select count(*) from auth_audit").fetch_one(&pool).await.expect("read");
    assert_eq!(rows, 0);
}

/// Deleting a row asks every table that refers to it.
#[tokio::test]
async fn what_refers_to_sessions_and_links_finds_them_along_an_index() {
    let database = Database::new().await;
    let unindexed = "select coalesce(string_agg(conname, ', '), '') from pg_constraint c
                     where contype = 'f' and confrelid in ('sessions'::regclass, 'magic_links'::regclass)
                       and not exists (select 1 from pg_index i where i.indrelid = c.conrelid and i.indkey[0] = c.conkey[1])";
    let unindexed: String = sqlx::query_scalar(unindexed).fetch_one(&database.pool().await).await.expect("can be read");
    assert_eq!(unindexed, "");
}

/// The application's role is granted what is in the schema: another program's tables would be among it.
#[tokio::test]
async fn the_database_of_another_program_is_left_alone() {
    let database = Database::empty().await;
    let owner = database.owner().await;
    let theirs = "create table _sqlx_migrations (version bigint primary key, description text not null, installed_on timestamptz not null default now(),
                      success boolean not null, checksum bytea not null, execution_time bigint not null);
                  insert into _sqlx_migrations values (1, 'theirs', now(), true, '', 0)";
    sqlx::raw_sql(theirs).execute(&owner).await.expect("made");
    auth::operations::migrate::migrate(&owner, None).await.expect_err("somebody else lives here");
    let ours: bool =
        sqlx::query_scalar("select to_regclass('public.users') is not null").fetch_one(&owner).await.expect("answered");
    assert!(!ours);
}

/// Half of the schema names `public`: made elsewhere, it would never be found whole.
#[tokio::test]
async fn with_another_schema_before_public_nothing_is_made() {
    let database = Database::empty().await;
    let owner = database.owner().await;
    for path in ["own, public", "own", "nowhere"] {
        let sql = format!("create schema if not exists own; alter database {} set search_path = {path}", database.name);
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&owner).await.expect("set");
        let there = database.owner().await;
        let refused = auth::operations::migrate::migrate(&there, None).await.expect_err("refused").to_string();
        assert!(refused.contains("search_path"), "{refused}");
        let made: i64 = sqlx::query_scalar("select count(*) from pg_tables where schemaname in ('own', 'public')")
            .fetch_one(&owner)
            .await
            .expect("the count can be read");
        assert_eq!(made, 0, "{path}");
    }
}

/// The rollout's checklist has the first applied alone: neither it nor another makes anything again that a later one dropped or replaced.
#[tokio::test]
async fn each_migration_alone_after_all_changes_nothing() {
    let database = Database::empty().await;
    migrate(&database, newest()).await;
    let expected = schema(&database);
    let numbers = auth::operations::migrate::MIGRATOR.iter().map(|migration| migration.version);
    for number in numbers {
        psql_file(&database, files(number).last().expect("it is there"));
        let (after, before) = (schema(&database), expected.lines().collect::<Vec<_>>());
        let made: Vec<&str> = after.lines().filter(|line| !before.contains(line)).collect();
        assert_eq!((made, after.len()), (Vec::<&str>::new(), expected.len()), "{number}");
    }
}
