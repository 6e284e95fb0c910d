//! Where the values come from: the process's variables, or files they name.

use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use super::Source;

/// No secret of ours comes near this; a `NAME_FILE` that points at a device or a log must not
/// fill the memory.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// The variables a process was started with. Tests build one from pairs, so that they neither
/// read nor change the real environment, which all threads share.
#[derive(Clone, Default)]
pub struct Environment(HashMap<OsString, OsString>);

impl Environment {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// A variable that is set to nothing counts as unset: `NAME=` in an env file and Compose's
    /// `${NAME}` mean "I have none".
    pub(super) fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().filter_map(|name| name.to_str())
    }

    /// The value of `name`; for a secret, else the content of the file that `NAME_FILE` names.
    pub(super) fn lookup(&self, name: &str, secret: bool, production: bool) -> Result<Option<(String, Source)>, String> {
        let direct = self.get(name);
        let file = secret.then(|| self.get(&format!("{name}_FILE"))).flatten();
        match (direct, file) {
            (Some(_), Some(_)) => Err(format!("is set, and {name}_FILE too; keep one of them")),
            (Some(value), None) => match value.to_str() {
                Some(value) => Ok(Some((value.to_owned(), Source::Environment))),
                None => Err("is not UTF-8; write plain text".to_owned()),
            },
            (None, Some(path)) => secret_from_file(Path::new(path), production)
                .map(|value| Some((value, Source::File)))
                .map_err(|wrong| format!("{name}_FILE names {}, {wrong}", path.display())),
            (None, None) => Ok(None),
        }
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

fn secret_from_file(path: &Path, production: bool) -> Result<String, String> {
    let unreadable = |error| format!("which can't be read: {error}");
    let file = fs::File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    if production && mode & 0o006 != 0 {
        return Err(format!(
            "which every user of this machine can read or write (mode {:03o}); chmod it to 400, or 440 with a group of its own",
            mode & 0o777
        ));
    }
    let mut text = String::new();
    let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text);
    if read.map_err(unreadable)? as u64 > MAX_FILE_BYTES {
        return Err(format!("which is longer than {MAX_FILE_BYTES} bytes; it holds no secret of ours"));
    }
    // One newline, as editors and `echo` leave it. Not more: a secret may end in white space.
    let text = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if text.is_empty() {
        return Err("which is empty".to_owned());
    }
    Ok(text.to_owned())
}
