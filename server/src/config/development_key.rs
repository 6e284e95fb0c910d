//! The key at rest of a development machine, which nobody should have to make by hand.

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use aws_lc_rs::rand;
use data_encoding::{BASE64, HEXLOWER};

use super::{Secret, values};

/// The key in `DATA_DIR/wallet-key`, made on first use.
///
/// The file appears complete or not at all: it is written under another name, synced, and linked
/// into place, which fails where another process was first; then that one's key is used. Written in
/// place, a crash half-way would leave a short key, and two starters would encrypt under two keys.
pub fn development_key(data_dir: &Path) -> io::Result<Secret<[u8; 32]>> {
    let path = data_dir.join("wallet-key");
    if let Some(key) = existing(&path)? {
        return Ok(key);
    }
    fs::create_dir_all(data_dir)?;
    let draft = data_dir.join(format!("wallet-key.{}", HEXLOWER.encode(&random::<8>()?)));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let written = writeln!(file, "{}", BASE64.encode(&random::<32>()?)).and_then(|()| file.sync_all());
    let linked = written.and_then(|()| fs::hard_link(&draft, &path));
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => existing(&path)?.ok_or_else(|| ErrorKind::NotFound.into()),
    }
}

fn existing(path: &Path) -> io::Result<Option<Secret<[u8; 32]>>> {
    match fs::read_to_string(path) {
        Ok(text) => values::key(&text).map(Some).map_err(|wrong| {
            io::Error::other(format!(
                "{} {wrong}; remove it to have a new key made (what was encrypted under the old one is lost)",
                path.display()
            ))
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("the system has no random bytes to give"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::test::Folder;
    use std::{os::unix::fs::PermissionsExt as _, thread};

    #[test]
    fn one_key_however_many_start_at_once() {
        let folder = Folder::new();
        let data_dir = folder.path().join("new");
        let keys: Vec<[u8; 32]> = thread::scope(|scope| {
            let starters: Vec<_> = (0..16).map(|_| scope.spawn(|| *development_key(&data_dir).expect("made").expose())).collect();
            starters.into_iter().map(|starter| starter.join().expect("no panic")).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0] && *key != [0; 32]));
        assert_eq!(*development_key(&data_dir).expect("kept").expose(), keys[0]);

        let files: Vec<_> = fs::read_dir(&data_dir).expect("there").map(|file| file.expect("readable")).collect();
        assert_eq!(files.len(), 1, "no draft is left behind");
        assert_eq!(files[0].metadata().expect("there").permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_is_reported_and_left_alone() {
        let folder = Folder::new();
        let path = folder.path().join("wallet-key");
        fs::write(&path, "short").expect("writable");
        let error = development_key(folder.path()).expect_err("must not be replaced in silence");
        assert!(error.to_string().contains("wallet-key"));
        assert_eq!(fs::read_to_string(&path).expect("there"), "short");
    }
}
