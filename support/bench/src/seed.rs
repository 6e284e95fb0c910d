//! Years of a service with many accounts, made by a few statements: what the pages of accounts and of administration are measured
//! on. Made anew each time; all but the ids is the same each time.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use anyhow::Context as _;
use auth::{Auth, crypto::Keys, policy::Policy, primitives::clock::Clock as _};
use private_postgres::{APPLICATION, Cluster, DATABASE, OWNER};
use sqlx::{Connection as _, PgConnection, PgPool, Row as _, postgres::PgRow};
use testkit::{ManualClock, TEST_KEY};
use time::OffsetDateTime;

use crate::servers;

const FOLDER: &str = "bench-seeded";
/// Each statement stands under a line `-- # name`.
const STATEMENTS: &str = include_str!("seed.sql");
/// Audit rows of one sign-in, with what people do afterwards.
const ROWS_PER_SIGN_IN: f64 = 4.71;
/// Sign-ins of the one account that signs in all day long: 10^5 rows of its own in the audit.
const BY_PROBE: f64 = 33_334.0;
/// Months made at once. PostgreSQL does the work, one process each.
const WORKERS: usize = 4;

pub struct Size {
    pub users: i32,
    pub events: u32,
}

/// The cluster that [`fill`] filled.
pub fn start(durable: bool) -> anyhow::Result<Cluster> {
    servers::start_private(FOLDER, durable)
}

/// Deletes the cluster.
pub fn remove() -> anyhow::Result<()> {
    let cluster = start(false)?;
    let folder = cluster.data_dir().to_owned();
    cluster.stop()?;
    std::fs::remove_dir_all(&folder)?;
    println!("{} is gone", folder.display());
    Ok(())
}

/// Fills a database made anew. Not durable meanwhile: a run that was interrupted begins again.
pub async fn fill(cluster: &Cluster, size: &Size) -> anyhow::Result<()> {
    let begun = Instant::now();
    servers::make_database_anew(cluster)?;
    let url = cluster.url(OWNER, DATABASE);
    let owner = PgPool::connect(&url).await?;
    auth::operations::migrate::migrate(&owner, Some(APPLICATION)).await?;
    owner.close().await;

    let now = ManualClock::default().now();
    let mut connection = connect(&url).await?;
    for name in ["schema", "v7", "hash", "people to draw from"] {
        run(&mut connection, name).await?;
    }
    for name in
        ["people", "users", "invites", "authenticators", "backup codes", "trusted devices", "known browsers", "many sessions"]
    {
        let made = sqlx::query(statement(name)?).bind(now).bind(size.users).execute(&mut connection).await?;
        println!("{name:<24} {:>10} rows {:>8.1} s", made.rows_affected(), begun.elapsed().as_secs_f64());
    }
    let months = sqlx::query(statement("months")?).bind(now).fetch_all(&mut connection).await?;
    let months: Vec<Month> = months.iter().map(Month::read).collect();
    // All of them first: who signs in at the end of one signs out in the next.
    for month in &months {
        sqlx::query(statement("partition")?).bind(month.from).execute(&mut connection).await?;
    }
    let next = Mutex::new(months.iter());
    let workers = (0..WORKERS).map(|_| async {
        let mut connection = connect(&url).await?;
        run(&mut connection, "sign-ins to draw from").await?;
        loop {
            let Some(month) = next.lock().expect("no worker panics while it holds the lock").next() else {
                return anyhow::Ok(());
            };
            let events = month.fill(&mut connection, size, now).await?;
            println!("{:<24} {events:>10} events {:>6.1} s", month.from.date(), begun.elapsed().as_secs_f64());
        }
    });
    futures::future::try_join_all(workers).await?;
    Box::pin(count(&url)).await?;
    println!("{:<24} {:>32.1} s", "counted", begun.elapsed().as_secs_f64());
    run(&mut connection, "forget people").await?;
    run(&mut connection, "vacuum").await?;
    for table in sqlx::query(statement("sizes")?).fetch_all(&mut connection).await? {
        let (name, of): (String, String) = (table.get("name"), table.get("of"));
        let (rows, megabytes): (i64, i64) = (table.get("rows"), table.get("megabytes"));
        println!("{name:<32} {of:<12} {rows:>10} rows {megabytes:>6} MB");
    }
    println!("seeded in {:.0} s, in {}", begun.elapsed().as_secs_f64(), cluster.data_dir().display());
    Ok(())
}

/// As a server does when it first looks.
async fn count(url: &str) -> anyhow::Result<()> {
    let pool = PgPool::connect(url).await?;
    let auth = Auth::new(pool, Arc::new(ManualClock::default()), Keys::new(&TEST_KEY, &[]), Policy::default());
    auth.rollout().watch().await?;
    auth.pool().close().await;
    Ok(())
}

struct Month {
    from: OffsetDateTime,
    to: OffsetDateTime,
    /// Of all the time that is seeded.
    share: f64,
    /// Of the last 90 days.
    recent: f64,
}

impl Month {
    fn read(row: &PgRow) -> Self {
        Self { from: row.get("from"), to: row.get("to"), share: row.get("share"), recent: row.get("recent") }
    }

    /// Returns how many events there were.
    async fn fill(&self, connection: &mut PgConnection, size: &Size, now: OffsetDateTime) -> anyhow::Result<u64> {
        run(connection, "forget sign-ins").await?;
        sqlx::query(statement("chance")?).bind(self.from).execute(&mut *connection).await?;
        sqlx::query(statement("sign-ins")?)
            .bind(self.from)
            .bind(self.to)
            .bind(f64::from(size.events) / ROWS_PER_SIGN_IN * self.share)
            .bind(size.users)
            .execute(&mut *connection)
            .await?;
        sqlx::query(statement("sign-ins of the probe")?)
            .bind(now)
            .bind(self.from)
            .bind(self.to)
            .bind(BY_PROBE * self.recent)
            .execute(&mut *connection)
            .await?;
        for name in ["magic links", "sessions"] {
            sqlx::query(statement(name)?).bind(now).execute(&mut *connection).await?;
        }
        let events = sqlx::query(statement("events")?).bind(now).execute(connection).await?;
        Ok(events.rows_affected())
    }
}

async fn connect(url: &str) -> anyhow::Result<PgConnection> {
    let mut connection = PgConnection::connect(url).await?;
    for name in ["time zone", "memory", "no triggers"] {
        run(&mut connection, name).await?;
    }
    Ok(connection)
}

async fn run(connection: &mut PgConnection, name: &str) -> anyhow::Result<()> {
    sqlx::query(statement(name)?).execute(connection).await?;
    Ok(())
}

fn statement(name: &str) -> anyhow::Result<&'static str> {
    let part = STATEMENTS.split("-- # ").find_map(|part| part.strip_prefix(name)?.strip_prefix('\n'));
    part.with_context(|| format!("seed.sql has no {name:?}"))
}
