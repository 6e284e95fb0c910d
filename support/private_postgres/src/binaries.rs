//! Where this machine keeps Postgres.

use std::{
    cmp::Reverse,
    fs,
    path::{Path, PathBuf},
};

use crate::{Error, Settings, account::Account, place::Place};

pub(crate) struct Binaries {
    pub(crate) dir: PathBuf,
    pub(crate) major: u32,
}

/// Folders that hold one folder a version (parent, start of its name): Debian, the Postgres project's packages for
/// Red Hat, Homebrew on both kinds of Mac, Postgres.app.
const INSTALLED: [(&str, &str); 5] = [
    ("/usr/lib/postgresql", ""),
    ("/usr", "pgsql-"),
    ("/opt/homebrew/opt", "postgresql"),
    ("/usr/local/opt", "postgresql"),
    ("/Applications/Postgres.app/Contents/Versions", ""),
];

/// The first that the server's user can run and that fits the data; for a new cluster the first, so `PATH` decides.
pub(crate) fn find(settings: &Settings, account: &Account, place: &Place) -> Result<Binaries, Error> {
    let wanted = place.version()?;
    let mut others = Vec::new();
    for dir in candidates(settings) {
        match examine(&dir, account) {
            Some(found) if wanted.is_none_or(|wanted| wanted == found.major) => return Ok(found),
            Some(found) if !others.contains(&found.major) => others.push(found.major),
            _ => {}
        }
    }
    match (wanted, &settings.bin_dir) {
        (Some(data), _) if !others.is_empty() => Err(Error::WrongVersion {
            dir: place.data(),
            data,
            found: others.iter().map(u32::to_string).collect::<Vec<_>>().join(", "),
        }),
        (_, Some(dir)) => Err(Error::NotInBinDir(dir.clone())),
        (_, None) => Err(Error::NotFound),
    }
}

fn candidates(settings: &Settings) -> Vec<PathBuf> {
    if let Some(dir) = &settings.bin_dir {
        return vec![dir.clone()];
    }
    let on_path = settings.search_path.iter().flat_map(std::env::split_paths);
    on_path.chain(INSTALLED.iter().flat_map(|(parent, prefix)| versions(Path::new(parent), prefix))).collect()
}

/// The `bin` folders of the versions under `parent`, newest first.
fn versions(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.strip_prefix(prefix)?;
            Some((major(version.trim_start_matches('@')).unwrap_or(0), entry.path().join("bin")))
        })
        .collect();
    found.sort_by_key(|(version, _)| Reverse(*version));
    found.into_iter().map(|(_, dir)| dir).collect()
}

fn examine(dir: &Path, account: &Account) -> Option<Binaries> {
    // Links such as /usr/bin/postgres stand alone; `initdb` lies beside what they point to, and looks for it there.
    let postgres = dir.join("postgres").canonicalize().ok()?;
    let dir = postgres.parent()?.to_path_buf();
    if !dir.join("initdb").is_file() {
        return None;
    }
    let output = account.command(&postgres).arg("--version").output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    Some(Binaries { dir, major: major(version.strip_prefix("postgres (PostgreSQL) ")?)? })
}

/// 17 of `17.2 (Debian 17.2-1)`, `17`, `17beta1`.
fn major(version: &str) -> Option<u32> {
    let digits = version.find(|character: char| !character.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::major;

    #[test]
    fn major_is_the_number_in_front() {
        assert_eq!(major("17.2 (Debian 17.2-1)"), Some(17));
        assert_eq!(major("18beta1\n"), Some(18));
        assert_eq!(major("15\n"), Some(15));
        assert_eq!(major("latest"), None);
    }
}
