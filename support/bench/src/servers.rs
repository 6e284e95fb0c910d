//! What is measured, as processes of their own.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use private_postgres::{APPLICATION, Cluster, DATABASE, Lifetime, OWNER, Settings};
use testkit::Browser;
use tokio::net::TcpListener;

pub const ORIGIN: &str = "http://localhost:3000";
/// A setting: what a client on this machine says of where it comes from is believed.
pub const BEHIND_A_PROXY: (&str, &str) = ("TRUSTED_PROXIES", "127.0.0.0/8");

pub struct Server {
    pub address: SocketAddr,
    process: Child,
}

impl Server {
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Durable, as in production: what a commit costs is part of what is measured. The cluster stays for the next run, its database
/// does not: rows of earlier runs would make every query of this one a little slower.
pub fn start_cluster() -> anyhow::Result<Cluster> {
    let cluster = start_private("bench-postgres", true)?;
    make_database_anew(&cluster)?;
    Ok(cluster)
}

/// A cluster in a folder of this name beside this program.
pub fn start_private(folder: &str, durable: bool) -> anyhow::Result<Cluster> {
    Ok(private_postgres::start(&Settings {
        data_dir: binaries()?.join(folder),
        bin_dir: None,
        search_path: search_path(),
        durable,
        lifetime: Lifetime::DiesWithParent,
        max_connections: 60,
    })?)
}

pub fn make_database_anew(cluster: &Cluster) -> anyhow::Result<()> {
    let psql = Command::new("psql")
        .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"])
        .arg(format!("--command=drop database {DATABASE} with (force)"))
        .arg(format!("--command=create database {DATABASE} owner {OWNER}"))
        .arg("--host")
        .arg(cluster.socket_dir())
        .args(["--username", OWNER, "postgres"])
        .status()
        .context("psql can't be run; it comes with PostgreSQL")?;
    anyhow::ensure!(psql.success(), "psql could not make a fresh database");
    Ok(())
}

/// The process whose children do PostgreSQL's work.
pub fn postmaster(cluster: &Cluster) -> anyhow::Result<u32> {
    let file = std::fs::read_to_string(cluster.data_dir().join("data/postmaster.pid")).context("the postmaster's pid file")?;
    Ok(file.lines().next().unwrap_or_default().parse()?)
}

#[expect(clippy::disallowed_methods, reason = "a tool for developers finds its tools where the shell does")]
fn search_path() -> Option<std::ffi::OsString> {
    std::env::var_os("PATH")
}

/// Where cargo put this program, and the product beside it.
pub fn binaries() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("this program's own path")?;
    Ok(own.parent().unwrap_or(Path::new(".")).to_owned())
}

async fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?)
}

/// The product, with the limits off and everything else as it ships.
pub async fn latchkey(cluster: &Cluster, smtp: &str) -> anyhow::Result<Server> {
    latchkey_with(cluster, smtp, &[("LIMITS", "off")], Stdio::inherit()).await
}

/// The product with these settings, and everything else as it ships.
pub async fn latchkey_with(cluster: &Cluster, smtp: &str, settings: &[(&str, &str)], log: Stdio) -> anyhow::Result<Server> {
    let address = free_address().await?;
    let mut command = Command::new(binaries()?.join("latchkey"));
    command.arg("serve").env_clear().envs([
        ("APP_ENV", "development"),
        ("DATABASE_URL", &cluster.url(APPLICATION, DATABASE)),
        ("DATABASE_MIGRATOR_URL", &cluster.url(OWNER, DATABASE)),
        ("LISTEN_ADDR", &address.to_string()),
        ("BASE_URL", ORIGIN),
        ("EMAIL_SMTP", smtp),
        ("WALLET_ENCRYPTION_KEY", "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="),
        ("RUST_LOG", "warn"),
    ]);
    command.envs(settings.iter().copied()).stderr(log);
    start(command, address, "/readyz").await
}

/// This program again, as a raw axum server of one file.
pub async fn raw(file: &Path) -> anyhow::Result<Server> {
    let address = free_address().await?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("raw").arg(file).env("LISTEN", address.to_string());
    start(command, address, "/").await
}

/// This program again, as a raw axum server that asks the database what forward-auth asks.
pub async fn raw_gate(database: &str) -> anyhow::Result<Server> {
    let address = free_address().await?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["raw-gate", database]).env("LISTEN", address.to_string());
    start(command, address, "/").await
}

async fn start(mut command: Command, address: SocketAddr, ready: &str) -> anyhow::Result<Server> {
    let process = command.stdout(Stdio::null()).spawn().context("the server can't be started; `make bench` builds it")?;
    let server = Server { address, process };
    let up = async {
        while tokio::net::TcpStream::connect(address).await.is_err() {
            tokio::task::yield_now().await;
        }
        while !Browser::new(address, ORIGIN).get(ready).await.status.is_success() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), up).await.context("the server did not get ready")?;
    Ok(server)
}
