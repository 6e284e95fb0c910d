//! The schema is one, however it was applied: by `latchkey migrate`, by plain `psql -f`, in either order, twice.

use std::process::Command;

use testkit::Database;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations/016_add_auth_tables.sql");

fn psql(database: &Database) {
    let output = Command::new("psql")
        .args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--file", FILE, &database.owner_url])
        .output()
        .expect("psql runs: it comes with PostgreSQL's client");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn migrate(database: &Database) {
    auth::migrate::migrate(&database.owner().await, Some(private_postgres::APPLICATION)).await.expect("the migrations apply");
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
    let [by_migrate, by_psql, psql_first, migrate_first] =
        [Database::empty().await, Database::empty().await, Database::empty().await, Database::empty().await];
    for _ in 0..2 {
        migrate(&by_migrate).await;
        psql(&by_psql);
        psql(&psql_first);
        migrate(&psql_first).await;
        migrate(&migrate_first).await;
        psql(&migrate_first);
    }
    let expected = schema(&by_migrate);
    for table in ["users", "magic_links", "sessions", "auth_audit", "mail_outbox", "rate_limits"] {
        assert!(expected.contains(&format!("CREATE TABLE public.{table} (")), "{table} is missing");
    }
    for database in [&by_psql, &psql_first, &migrate_first] {
        assert_eq!(schema(database), expected);
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
