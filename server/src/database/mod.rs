//! Connecting to PostgreSQL: the operator's, or in development a private cluster of our own.
//!
//! Not here: any query of the product (`auth` holds the SQL), and how a private cluster is made (`private_postgres`).
//! To change what every connection is set to: `after_connect` in this file.

pub mod pooler;

use std::{net::IpAddr, str::FromStr as _, time::Duration};

use anyhow::Context as _;
use auth::operations::diagnostics;
#[cfg(feature = "development")]
use private_postgres::{APPLICATION, Cluster, DATABASE, Lifetime, OWNER, Settings};
use sqlx::{
    Connection as _, Executor as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
};

use crate::config::{self, Config};

/// One connection serves many requests a second; more than this and PostgreSQL slows down before we do.
const CONNECTIONS: u32 = 16;
#[cfg(feature = "development")]
const PRIVATE_CONNECTIONS: u32 = 60;

/// A connection that came back this recently was alive then: sqlx asks when it is given back, and asking again before each use
/// would be one more round trip for every statement.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

pub const READ_ONLY: &str = "nothing can be written: default_transaction_read_only is on for this database, its role or the server";

/// How the two roles connect, and the private cluster behind them, if there is one.
pub struct Database {
    application: PgConnectOptions,
    migrator: PgConnectOptions,
    #[cfg(feature = "development")]
    cluster: Option<Cluster>,
}

impl Database {
    /// In development this starts PostgreSQL, or finds it running. Call it on the main thread: the cluster dies with the thread
    /// that started it.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        match &config.database {
            config::Database::Url { application, migrator } => Ok(Self {
                application: options(application.expose()).context("DATABASE_URL")?,
                migrator: options(migrator.expose()).context("DATABASE_MIGRATOR_URL")?,
                #[cfg(feature = "development")]
                cluster: None,
            }),
            #[cfg(feature = "development")]
            config::Database::Private { data_dir, bin_dir, search_path } => {
                let cluster = private_postgres::start(&Settings {
                    data_dir: data_dir.clone(),
                    bin_dir: bin_dir.clone(),
                    search_path: search_path.clone(),
                    durable: true,
                    lifetime: Lifetime::DiesWithParent,
                    max_connections: PRIVATE_CONNECTIONS,
                })?;
                Ok(Self {
                    application: options(&cluster.url(APPLICATION, DATABASE))?,
                    migrator: options(&cluster.url(OWNER, DATABASE))?,
                    cluster: Some(cluster),
                })
            }
        }
    }

    /// The pool pages and workers use. It connects when it is first needed, so that a process can start, and say that it isn't
    /// ready, while the database is away.
    pub fn pool(&self) -> PgPool {
        pool_options(CONNECTIONS).connect_lazy_with(self.application.clone())
    }

    pub async fn migrator(&self) -> anyhow::Result<PgPool> {
        // No limits on statements here: a migration may take its time, and says itself how long it waits for locks.
        PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(10))
            .connect_with(self.migrator.clone())
            .await
            .context("the database does not answer as its owner (DATABASE_MIGRATOR_URL, or DATABASE_URL)")
    }

    /// Applies what is pending and lets the application's role use it.
    pub async fn migrate(&self) -> anyhow::Result<()> {
        let owner = self.migrator().await?;
        let separate = self.application.get_username() != self.migrator.get_username();
        let application = separate.then(|| self.application.get_username());
        auth::operations::migrate::migrate(&owner, application).await.context("the migrations did not apply")?;
        owner.close().await;
        Ok(())
    }

    /// Stops the cluster, if this process started it.
    pub fn close(self) -> anyhow::Result<()> {
        #[cfg(feature = "development")]
        if let Some(cluster) = self.cluster {
            cluster.stop().context("the private PostgreSQL did not stop")?;
        }
        Ok(())
    }
}

fn options(url: &str) -> anyhow::Result<PgConnectOptions> {
    // The error may quote the URL, and the URL holds a password.
    let options = PgConnectOptions::from_str(url).map_err(|_| anyhow::anyhow!("is not a PostgreSQL URL"))?;
    let chosen = url.contains("sslmode=") || url.contains("ssl-mode=");
    let options = if chosen || is_local(&options) { options } else { options.ssl_mode(PgSslMode::VerifyFull) };
    Ok(options.application_name("latchkey"))
}

fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn pool_options(connections: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(3))
        .max_lifetime(Duration::from_mins(30))
        .test_before_acquire(false)
        .before_acquire(|connection, usage| {
            Box::pin(async move {
                if usage.idle_for > TRUSTED_FOR {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .after_connect(|connection, _| {
            Box::pin(async move {
                // A read replica refuses to begin this: its sessions are stale, and a load balancer connects to one for seconds after a
                // failover. A connection to a primary stays one, as PostgreSQL closes all before it becomes a replica.
                //
                // The tables are in `public` (`migrate` refuses to make them elsewhere), whatever the role's search_path puts before it.
                //
                // One that is read-only by default is rejected too: it would stay so for half an hour after the operator has turned
                // `default_transaction_read_only` off again.
                //
                // A statement that hangs must not hold a connection and a person for longer than a page may take. Compiling a
                // plan (JIT) pays for queries that run for seconds; here it costs more than the query.
                connection
                    .execute(
                        "begin read write; commit; set statement_timeout = '5s'; set lock_timeout = '3s'; \
                         set idle_in_transaction_session_timeout = '10s'; set jit = off; set search_path = public",
                    )
                    .await?;
                if diagnostics::is_read_only(connection).await? {
                    return Err(sqlx::Error::Configuration(READ_ONLY.into()));
                }
                Ok(())
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_this_machine_the_server_is_verified_unless_said_otherwise() {
        for (url, verified) in [
            ("postgres://u:p@db.example.org/x", true),
            ("postgres://u:p@10.0.0.7/x", true),
            ("postgres://u:p@db.example.org/x?sslmode=require", false),
            ("postgres://u:p@localhost/x", false),
            ("postgres://u:p@127.0.0.1:5433/x", false),
            ("postgres://u:p@[::1]/x", false),
            ("postgres://u@%2Frun%2Fpostgresql/x", false),
        ] {
            let mode = options(url).expect(url).get_ssl_mode();
            assert_eq!(matches!(mode, PgSslMode::VerifyFull), verified, "{url}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_read_is_not_repeated() {
        let error = format!("{:#}", options("postgres://u:hunter2@[nonsense/x").expect_err("no URL"));
        assert!(!error.contains("hunter2"), "{error}");
    }
}
