//! The user the server runs as.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::Command,
};

use crate::Error;

pub(crate) struct Account {
    /// This process's user.
    pub(crate) own_uid: u32,
    /// The server's: the same, except for root.
    pub(crate) uid: u32,
    pub(crate) gid: Option<u32>,
    search_path: Option<OsString>,
}

impl Account {
    pub(crate) fn current(search_path: Option<OsString>) -> Result<Self, Error> {
        let own_uid = own_uid()?;
        if own_uid != 0 {
            return Ok(Self { own_uid, uid: own_uid, gid: None, search_path });
        }
        let passwd = Path::new("/etc/passwd");
        let text = fs::read_to_string(passwd).map_err(|source| Error::File { path: passwd.into(), source })?;
        let (uid, gid) = ["postgres", "_postgres", "nobody"].iter().find_map(|name| ids(&text, name)).ok_or(Error::NoAccount)?;
        Ok(Self { own_uid, uid, gid: Some(gid), search_path })
    }

    /// A command run as the server's user, knowing nothing of this process's environment, terminal or folder.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        // The time zone is given because `initdb` would otherwise search the zone files for this machine's.
        command.env_clear().env("LC_ALL", LOCALE).env("TZ", "UTC").current_dir("/");
        if let Some(path) = &self.search_path {
            command.env("PATH", path);
        }
        if let Some(gid) = self.gid {
            command.uid(self.uid).gid(gid);
        }
        command
    }

    /// Whether the server's user gets through every folder above `dir`, asked of the one who decides: the kernel.
    pub(crate) fn can_enter(&self, dir: &Path) -> bool {
        self.own_uid == self.uid || self.command("/bin/sh").args(["-c", ":"]).current_dir(dir).status().is_ok()
    }
}

/// macOS has no `C.UTF-8`; its `C` takes UTF-8 as well as any other bytes.
pub(crate) const LOCALE: &str = if cfg!(target_os = "macos") { "C" } else { "C.UTF-8" };

/// The standard library does not tell.
fn own_uid() -> Result<u32, Error> {
    let run = |source| Error::Run { program: "id".into(), source };
    let output = Command::new("id").arg("-u").output().map_err(run)?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().map_err(|_| run(io::Error::other(format!("`id -u` said {text:?}"))))
}

fn ids(passwd: &str, name: &str) -> Option<(u32, u32)> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let _password = fields.next()?;
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::ids;

    #[test]
    fn ids_are_read_by_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\npostgresql:x:7:8::/:\npostgres:x:101:104:admin,,,:/:/bin/sh\n";
        assert_eq!(ids(passwd, "postgres"), Some((101, 104)));
        assert_eq!(ids(passwd, "nobody"), None);
    }
}
