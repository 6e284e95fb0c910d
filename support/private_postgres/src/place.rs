//! The folders and files of a cluster, and whose they are.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, lchown},
    },
    path::{Path, PathBuf},
};

use crate::{Error, Lifetime, account::Account};

/// Only part of the socket's name, as there is no TCP.
pub(crate) const PORT: u16 = 5432;

/// What `sockaddr_un` holds, less the closing NUL.
const MAX_SOCKET_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// A log longer than this is put aside at the next start, over the one put aside before.
const MAX_LOG: u64 = 4 << 20;

#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    pub(crate) socket_dir: PathBuf,
}

impl Place {
    /// `data_dir` where the server's user can enter it, else a folder made for it.
    pub(crate) fn prepare(data_dir: &Path, account: &Account) -> Result<Self, Error> {
        let mut dir = resolved(data_dir).map_err(file(data_dir))?;
        if !account.can_enter(dir.parent().unwrap_or(&dir)) {
            // Root's place for data that lasts: cleaners of temporary folders would eat a cluster file by file, and
            // nobody else can put a folder of this name there first.
            let elsewhere = PathBuf::from(format!("/var/lib/latchkey-{}", fingerprint(&dir)));
            tracing::info!(
                data_dir = %dir.display(),
                instead = %elsewhere.display(),
                uid = account.uid,
                "the private PostgreSQL lies elsewhere: its user cannot enter the data folder"
            );
            dir = elsewhere;
        }
        // Files in here are opened by root, so they must not be the lesser user's to replace by links: the folder
        // stays root's, and lets that user through to the two folders that are its own.
        let mode = if account.uid == account.own_uid { 0o700 } else { 0o711 };
        private_dir(&dir, account, account.own_uid, mode)?;
        if !account.can_enter(&dir) {
            return Err(Error::NoEntry { dir, uid: account.uid });
        }
        Ok(Self { socket_dir: dir.join("run"), dir })
    }

    /// Under the lock, as two processes would trip over each other's half-made folder.
    pub(crate) fn prepare_socket_dir(&mut self, account: &Account) -> Result<(), Error> {
        let socket = self.socket();
        // The server takes a comma for the end of a path.
        if socket.as_os_str().len() > MAX_SOCKET_PATH || socket.as_os_str().as_bytes().contains(&b',') {
            self.socket_dir = PathBuf::from(format!("/tmp/latchkey-{}", fingerprint(&self.dir)));
        }
        private_dir(&self.socket_dir, account, account.uid, 0o700)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// A new cluster grows here and becomes `data` when it is whole.
    pub(crate) fn unfinished_data(&self, account: &Account) -> Result<PathBuf, Error> {
        let path = self.dir.join("data.new");
        absent_is_fine(fs::remove_dir_all(&path)).map_err(file(&path))?;
        private_dir(&path, account, account.uid, 0o700)?;
        Ok(path)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.socket_dir.join(format!(".s.PGSQL.{PORT}"))
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("postgres.log")
    }

    pub(crate) fn open_log(&self) -> Result<File, Error> {
        let path = self.log();
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > MAX_LOG) {
            fs::rename(&path, self.dir.join("postgres.log.1")).map_err(file(&path))?;
        }
        OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(file(&path))
    }

    /// The major version that made the data; `None` before there are any.
    pub(crate) fn version(&self) -> Result<Option<u32>, Error> {
        let path = self.data().join("PG_VERSION");
        match fs::read_to_string(&path) {
            Ok(text) => {
                let version = text.trim_end().parse().map(Some);
                version.map_err(|_| file(&path)(io::Error::other(format!("{text:?} is no version"))))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(file(&path)(error)),
        }
    }

    /// Waits for its turn; the turn ends when the file is closed.
    pub(crate) fn lock(&self) -> Result<File, Error> {
        let path = self.dir.join("start.lock");
        let lock = open_lock(&path)?;
        lock.lock().map_err(file(&path))?;
        Ok(lock)
    }

    /// The kernel frees this lock when the owner ends, however it ends: a locked file means an owner that lives.
    fn owner_lock(&self) -> PathBuf {
        self.dir.join("owner.lock")
    }

    /// A new file for each server, so that an owner whose server has died does not pass for the next one's.
    pub(crate) fn take_ownership(&self, lifetime: Lifetime) -> Result<Option<File>, Error> {
        let path = self.owner_lock();
        absent_is_fine(fs::remove_file(&path)).map_err(file(&path))?;
        if lifetime == Lifetime::Detached {
            return Ok(None);
        }
        let lock = open_lock(&path)?;
        lock.lock().map_err(file(&path))?;
        Ok(Some(lock))
    }

    /// Whether the running server's owner has ended: it is about to shut down, or was never told to.
    pub(crate) fn orphaned(&self) -> Result<bool, Error> {
        let path = self.owner_lock();
        match File::open(&path) {
            Ok(lock) => Ok(lock.try_lock().is_ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(file(&path)(error)),
        }
    }
}

/// One name for the folder, which need not exist yet, however its path is written; the folders above it are made.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    if let Ok(path) = path.canonicalize() {
        return Ok(path);
    }
    let path = std::path::absolute(path)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    fs::create_dir_all(parent)?;
    Ok(parent.canonicalize()?.join(name))
}

fn open_lock(path: &Path) -> Result<File, Error> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).map_err(file(path))
}

/// Makes sure of a real folder (no link) of `uid` alone. `/tmp` is everybody's, so what lies there under our name is
/// taken only if it is already as it should be; what is this process's own is put right.
fn private_dir(path: &Path, account: &Account, uid: u32, mode: u32) -> Result<(), Error> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(file(path)(error));
        }
        _ => {}
    }
    let is = |uid| -> Result<bool, Error> {
        let metadata = fs::symlink_metadata(path).map_err(file(path))?;
        Ok(metadata.is_dir() && metadata.uid() == uid)
    };
    if is(account.own_uid)? {
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(file(path))?;
        if uid != account.own_uid {
            lchown(path, Some(uid), account.gid).map_err(file(path))?;
        }
    }
    let kept = fs::symlink_metadata(path).map_err(file(path))?.mode() & 0o777;
    if is(uid)? && kept == mode { Ok(()) } else { Err(Error::NotPrivate { path: path.into(), uid, mode }) }
}

/// FNV-1a: the same for the same path in every process and every build, as the standard library's hash need not be.
fn fingerprint(path: &Path) -> String {
    let hash = path
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("{hash:016x}")
}

pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::File { path: path.into(), source }
}

pub(crate) fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
