//! A migrated database for each test, cloned from a template in milliseconds. The cluster is private, lives under the target
//! directory and serves every test process, so plain `cargo test` needs nothing set.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use private_postgres::{APPLICATION, Cluster, Lifetime, OWNER, Settings};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool, postgres::PgPoolOptions};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::watchdog;

static CLUSTER: OnceCell<(Cluster, String)> = OnceCell::const_new();

/// One test's database, with the application's role and the owner's.
pub struct Database {
    pub name: String,
    /// As the product connects: this role may not change the audit.
    pub url: String,
    /// As the migrator connects.
    pub owner_url: String,
}

impl Database {
    /// A migrated database.
    pub async fn new() -> Self {
        let (cluster, template) = CLUSTER.get_or_init(start).await;
        Self::create(cluster, Some(template)).await
    }

    /// A database with nothing in it.
    pub async fn empty() -> Self {
        let (cluster, _) = CLUSTER.get_or_init(start).await;
        Self::create(cluster, None).await
    }

    /// Another with all that is in this one, which nobody may be connected to meanwhile.
    pub async fn copy(&self) -> Self {
        let (cluster, _) = CLUSTER.get_or_init(start).await;
        Self::create(cluster, Some(&self.name)).await
    }

    async fn create(cluster: &Cluster, template: Option<&str>) -> Self {
        watchdog::watch();
        let name = format!("t_{}", now_id());
        let template = template.unwrap_or("template0");
        let mut connection = connect(&cluster.url(OWNER, "postgres")).await;
        // Written to the log rather than copied as files: about twice as fast for a small template.
        run(&mut connection, format!("create database {name} template {template} strategy wal_log")).await;
        Self { url: cluster.url(APPLICATION, &name), owner_url: cluster.url(OWNER, &name), name }
    }

    pub async fn pool(&self) -> PgPool {
        self.pool_of(16).await
    }

    pub async fn pool_of(&self, connections: u32) -> PgPool {
        PgPoolOptions::new().max_connections(connections).connect(&self.url).await.expect("the test cluster answers")
    }

    pub async fn owner(&self) -> PgPool {
        PgPoolOptions::new().max_connections(2).connect(&self.owner_url).await.expect("the test cluster answers")
    }
}

/// Begins with the millisecond it was made in.
#[expect(clippy::disallowed_methods, reason = "the age of a left-over database is real time")]
fn now_id() -> String {
    Uuid::now_v7().simple().to_string()
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("the test cluster answers")
}

async fn run(connection: &mut PgConnection, sql: String) {
    connection.execute(AssertSqlSafe(sql)).await.expect("the statement runs");
}

#[expect(clippy::disallowed_methods, reason = "tests find their tools where cargo and the shell say they are")]
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from)
}

#[expect(clippy::disallowed_methods, reason = "tests find their tools where cargo and the shell say they are")]
async fn start() -> (Cluster, String) {
    std::fs::create_dir_all(target()).expect("the target directory can be made");
    let target = target().canonicalize().expect("the target directory exists");
    // One process at a time makes cluster and template; the others find them made.
    let lock = File::create(target.join("test-postgres.lock")).expect("the target directory is writable");
    lock.lock().expect("the lock can be taken");
    let settings = Settings {
        data_dir: target.join("test-postgres"),
        bin_dir: None,
        search_path: std::env::var_os("PATH"),
        durable: false,
        lifetime: Lifetime::Detached,
        max_connections: 400,
    };
    let cluster = tokio::task::spawn_blocking(move || {
        // Where the server has stopped since, its databases are of runs that are over, and dropping a thousand takes minutes.
        private_postgres::delete_unless_running(&settings)?;
        private_postgres::start(&settings)
    })
    .await
    .expect("the launcher does not panic")
    .expect("a private PostgreSQL starts");

    let mut connection = connect(&cluster.url(OWNER, "postgres")).await;
    // It visits each of a thousand databases once a minute, for nothing: none lives for long. That is half a processor.
    run(&mut connection, "alter system set autovacuum = off".to_owned()).await;
    run(&mut connection, "select pg_reload_conf()".to_owned()).await;
    let sums: Vec<u8> = auth::operations::migrate::MIGRATOR.iter().flat_map(|migration| migration.checksum.to_vec()).collect();
    let template = format!("template_{}", &hex(&auth::crypto::sha256(&sums))[..16]);
    let made: bool = sqlx::query_scalar("select exists (select 1 from pg_database where datname = $1)")
        .bind(&template)
        .fetch_one(&mut connection)
        .await
        .expect("the catalogue can be read");
    if !made {
        // Under another name until it is whole: a run that was interrupted must not leave half a template.
        run(&mut connection, "drop database if exists template_new".to_owned()).await;
        run(&mut connection, "create database template_new".to_owned()).await;
        let owner = PgPool::connect(&cluster.url(OWNER, "template_new")).await.expect("the test cluster answers");
        auth::operations::migrate::migrate(&owner, Some(APPLICATION)).await.expect("the migrations apply");
        owner.close().await;
        run(&mut connection, format!("alter database template_new rename to {template}")).await;
    }
    drop_old(&mut connection).await;
    drop(lock);
    (cluster, template)
}

/// Databases of runs more than an hour ago. Their names begin with the millisecond they were made in.
async fn drop_old(connection: &mut PgConnection) {
    let now = u64::from_str_radix(&now_id()[..12], 16).expect("hexadecimal");
    let hour_ago = format!("t_{:012x}", now.saturating_sub(3_600_000));
    let old: Vec<String> = sqlx::query_scalar(r"select datname::text from pg_database where datname like 't\_%' and datname < $1")
        .bind(hour_ago)
        .fetch_all(&mut *connection)
        .await
        .expect("the catalogue can be read");
    for name in old {
        run(connection, format!("drop database if exists {name} with (force)")).await;
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
