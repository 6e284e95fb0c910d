//! A private Postgres cluster from the machine's own binaries.
//!
//! Development and the tests need a database and no set-up: [`start`] finds the installed Postgres, makes a
//! cluster in a folder of its own, and runs it over a Unix socket. There is no TCP and no password; whoever may
//! enter the folder (mode 0700) may connect, and nobody else.
//!
//! ```text
//! data_dir/
//!   data/           the cluster itself
//!   run/            the socket (elsewhere when the path is too long for one, see `Cluster::socket_dir`)
//!   postgres.log    and postgres.log.1, the one before it
//!   start.lock      held while a process starts or stops the cluster, so that two never do so at once
//!   owner.lock      held by the process a `Lifetime::DiesWithParent` cluster belongs to
//! ```
//!
//! Postgres refuses to run as root. Root therefore runs it as `postgres` or `nobody`, and where that user cannot
//! enter `data_dir` (a checkout under root's home, say) everything lies in `/var/lib/latchkey-HASH` instead.
//!
//! Stop a detached server before you delete its folder: it notices only a minute later, and as it ends it removes the
//! socket at its path, even if that is a successor's by then. (The next [`start`] mends that.)

mod account;
mod binaries;
mod place;
mod server;
mod session;

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs::{self, File},
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::Child,
};

use crate::{account::Account, place::Place, server::Found, session::Session};

/// The superuser, owner of [`DATABASE`]: what `DATABASE_MIGRATOR_URL` stands for.
pub const OWNER: &str = "latchkey";
/// A login role that owns nothing: what `DATABASE_URL` stands for.
pub const APPLICATION: &str = "latchkey_app";
pub const DATABASE: &str = "latchkey";

pub struct Settings {
    /// A folder for the cluster alone; it is created, and closed to other users.
    pub data_dir: PathBuf,
    /// Where `postgres` and `initdb` are. `None`: `search_path`, then the places packages install them in.
    pub bin_dir: Option<PathBuf>,
    /// The value of `PATH`. The server gets it and nothing else of this process's environment, which holds secrets.
    pub search_path: Option<OsString>,
    /// Survive a power cut. Without it a cluster is faster, and only as good as the machine stays up.
    pub durable: bool,
    pub lifetime: Lifetime,
    pub max_connections: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// The server shuts down cleanly when this process ends, even by `kill -9`.
    ///
    /// Linux ties the server to the *thread* that called [`start`]: call it from one that lives as long as the
    /// process (`main`), not from a pool of blocking threads. Where `setpriv` is missing (macOS, Alpine) the server
    /// outlives a killed process; the next [`start`] shuts it down before it starts its own.
    DiesWithParent,
    /// The server stays after this process, for the next one to find.
    Detached,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "PostgreSQL was not found. Install it (Debian, Ubuntu: apt install postgresql; macOS: brew install \
         postgresql@17), or set DATABASE_URL."
    )]
    NotFound,
    #[error("{} does not hold PostgreSQL: `postgres` and `initdb` must be there, and run.", .0.display())]
    NotInBinDir(PathBuf),
    #[error(
        "{} was made by PostgreSQL {data}, and this machine has PostgreSQL {found}. Install PostgreSQL {data}, or move \
         that folder away to begin with an empty database.",
        dir.display()
    )]
    WrongVersion { dir: PathBuf, data: u32, found: String },
    #[error(
        "PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody` to run it as. Run as another \
         user, or set DATABASE_URL."
    )]
    NoAccount,
    #[error(
        "{} must be a folder of user id {uid} alone (mode {mode:o}): it belongs to somebody else, or its file system \
         keeps no permissions.",
        path.display()
    )]
    NotPrivate { path: PathBuf, uid: u32, mode: u32 },
    #[error("user id {uid} cannot enter {}, where PostgreSQL would run", dir.display())]
    NoEntry { dir: PathBuf, uid: u32 },
    #[error("{program} failed:\n{output}")]
    Failed { program: &'static str, output: String },
    #[error("process {pid} holds {} and {state}; its log is {}", dir.display(), log.display())]
    Stuck { pid: u32, dir: PathBuf, log: PathBuf, state: &'static str },
    #[error("cannot prepare the private PostgreSQL's roles and database")]
    Session(#[source] io::Error),
    #[error("cannot run {program}")]
    Run { program: String, source: io::Error },
    #[error("cannot use {}", path.display())]
    File { path: PathBuf, source: io::Error },
}

/// A cluster that accepts connections, with [`OWNER`], [`APPLICATION`] and [`DATABASE`] in it.
#[derive(Debug)]
pub struct Cluster {
    place: Place,
    lifetime: Lifetime,
    /// `None` when the server was already running.
    server: Option<Child>,
    /// Locked for as long as the server is ours; see [`Place::owner_lock`].
    _owner: Option<File>,
}

/// Starts the cluster, or finds it running. Blocks until it accepts connections.
///
/// The first time it makes the cluster. What a crash left behind is recovered; a cluster of another major version is
/// left as it is, with an error that says so.
pub fn start(settings: &Settings) -> Result<Cluster, Error> {
    let account = Account::current(settings.search_path.clone())?;
    let mut place = Place::prepare(&settings.data_dir, &account)?;
    let lock = place.lock()?;
    place.prepare_socket_dir(&account)?;

    match server::find(&place)? {
        Found::Live { mut session, .. } if !place.orphaned()? => {
            prepare_database(&mut session).map_err(Error::Session)?;
            return Ok(Cluster { place, lifetime: settings.lifetime, server: None, _owner: None });
        }
        Found::Live { pid, .. } | Found::Unreachable { pid } => server::stop_leftover(&place, pid)?,
        Found::Nothing => {}
    }

    let binaries = binaries::find(settings, &account, &place)?;
    if place.version()?.is_none() {
        server::initialise(&place, &account, &binaries, settings.durable, &lock)?;
        tracing::info!(
            data_dir = %place.dir.display(),
            version = binaries.major,
            "made a private PostgreSQL cluster"
        );
    }
    let owner = place.take_ownership(settings.lifetime)?;
    let (server, mut session) = server::launch(&place, &account, &binaries, settings)?;
    let prepared = prepare_database(&mut session);
    // A cluster that is dropped takes the lock itself.
    drop(lock);
    let cluster = Cluster { place, lifetime: settings.lifetime, server: Some(server), _owner: owner };
    prepared.map_err(Error::Session)?;
    Ok(cluster)
}

/// Deletes what is in the cluster, unless its server runs: then somebody needs it.
pub fn delete_unless_running(settings: &Settings) -> Result<(), Error> {
    let account = Account::current(settings.search_path.clone())?;
    let place = Place::prepare(&settings.data_dir, &account)?;
    let _lock = place.lock()?;
    if matches!(server::find(&place)?, Found::Nothing) {
        let data = place.data();
        place::absent_is_fine(fs::remove_dir_all(&data)).map_err(place::file(&data))?;
    }
    Ok(())
}

/// On every start: somebody may have dropped the database to begin anew.
fn prepare_database(session: &mut Session) -> io::Result<()> {
    let steps = [
        (format!("SELECT FROM pg_roles WHERE rolname = '{APPLICATION}'"), format!("CREATE ROLE {APPLICATION} LOGIN")),
        (format!("SELECT FROM pg_database WHERE datname = '{DATABASE}'"), format!("CREATE DATABASE {DATABASE} OWNER {OWNER}")),
    ];
    for (exists, create) in steps {
        if session.query(&exists)? == 0 {
            session.query(&create)?;
        }
    }
    Ok(())
}

impl Cluster {
    /// `postgres://role@%2Fsocket%2Fdir:5432/database`, as sqlx and libpq read it.
    pub fn url(&self, role: &str, database: &str) -> String {
        format!(
            "postgres://{}@{}:{}/{}",
            percent_encoded(role.as_bytes()),
            percent_encoded(self.place.socket_dir.as_os_str().as_bytes()),
            place::PORT,
            percent_encoded(database.as_bytes())
        )
    }

    pub fn socket_dir(&self) -> &Path {
        &self.place.socket_dir
    }

    /// Where the cluster really lies: [`Settings::data_dir`], save for a root whose lesser user cannot enter it.
    pub fn data_dir(&self) -> &Path {
        &self.place.dir
    }

    /// `false`: it was already running, and [`stop`](Self::stop) leaves it alone.
    pub fn started_here(&self) -> bool {
        self.server.is_some()
    }

    /// Ends all connections, shuts the server down cleanly and waits for its end, if it was started here.
    pub fn stop(mut self) -> Result<(), Error> {
        self.shut_down()
    }

    fn shut_down(&mut self) -> Result<(), Error> {
        let Some(server) = self.server.take() else {
            return Ok(());
        };
        // A process that starts meanwhile must find a server that stays, or none.
        let _lock = self.place.lock()?;
        server::stop(&self.place, server)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::DiesWithParent
            && let Err(error) = self.shut_down()
        {
            tracing::warn!(%error, "the private PostgreSQL did not stop");
        }
    }
}

fn percent_encoded(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, &byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}
