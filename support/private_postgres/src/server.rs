//! The server process: whether it runs, how it starts, how it ends.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Error, Lifetime, OWNER, Settings,
    account::{Account, LOCALE},
    binaries::Binaries,
    place::{self, Place, absent_is_fine, file},
    session::Session,
};

/// How long a server may take to come up (after a crash it replays its log first) or to go down.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(5);

/// What `postmaster.pid` says.
struct PidFile {
    pid: u32,
    ready: bool,
}

impl PidFile {
    fn read(data: &Path) -> Result<Option<Self>, Error> {
        let path = data.join("postmaster.pid");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(Self::parse(&text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(file(&path)(error)),
        }
    }

    /// A power cut can leave the file empty; no process has the id 0, so it counts as stale.
    fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        // `postgres --single` notes its id as a negative number.
        let pid = lines.next().and_then(|line| line.trim().parse().ok()).map_or(0, i32::unsigned_abs);
        Self { pid, ready: lines.nth(6).is_some_and(|status| status.trim() == "ready") }
    }
}

pub(crate) enum Found {
    Nothing,
    Live {
        pid: u32,
        session: Session,
    },
    /// It runs, but its socket has been removed, so nobody can ever connect to it again.
    Unreachable {
        pid: u32,
    },
}

/// Looks for a running server; waits for one that is just starting or stopping.
pub(crate) fn find(place: &Place) -> Result<Found, Error> {
    let deadline = Instant::now() + PATIENCE;
    while let Some(PidFile { pid, ready }) = PidFile::read(&place.data())? {
        if !is_postgres(pid) {
            tracing::info!(pid, "the private PostgreSQL was not shut down cleanly; it will recover");
            remove_stale(place)?;
            break;
        }
        if ready {
            match Session::open(&place.socket(), OWNER, "postgres") {
                Ok(session) => return Ok(Found::Live { pid, session }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Unreachable { pid }),
                Err(_) => {}
            }
        }
        if Instant::now() > deadline {
            return Err(stuck(place, pid, "does not accept connections"));
        }
        thread::sleep(POLL);
    }
    Ok(Found::Nothing)
}

/// Postgres refuses to start while the process id in these files is in use, and after a restart of the machine that
/// may be any program's. Removing them takes no risk: sessions of a dead server are still known by its shared memory.
fn remove_stale(place: &Place) -> Result<(), Error> {
    for path in [place.data().join("postmaster.pid"), place.socket().with_added_extension("lock")] {
        absent_is_fine(fs::remove_file(&path)).map_err(file(&path))?;
    }
    Ok(())
}

/// By the name of the program. A dead process that nobody has waited for yet has none, and so counts as ended.
fn is_postgres(pid: u32) -> bool {
    let program = if cfg!(target_os = "linux") {
        let command_line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        command_line.split(|&byte| byte == 0).next().unwrap_or_default().to_vec()
    } else {
        Command::new("ps").args(["-o", "comm=", "-p", &pid.to_string()]).output().map_or(Vec::new(), |ps| ps.stdout)
    };
    program.rsplit(|&byte| byte == b'/').next().is_some_and(|name| name.starts_with(b"postgres"))
}

/// Makes the cluster aside and moves it into place whole, so that one interrupted half-way is simply made again.
pub(crate) fn initialise(place: &Place, account: &Account, binaries: &Binaries, durable: bool, lock: &File) -> Result<(), Error> {
    let unfinished = place.unfinished_data(account)?;
    let mut command = account.command(binaries.dir.join("initdb"));
    command
        .arg("-D")
        .arg(&unfinished)
        .args(["--username", OWNER, "--encoding", "UTF8", "--locale", LOCALE])
        // Without a password over the socket, whose folder is the guard; over TCP, should anyone turn it on, never.
        .args(["--auth-local", "trust", "--auth-host", "reject"]);
    if !durable {
        command.arg("--no-sync");
    }
    // `initdb` outlives a killed parent; as it inherits the lock, the next start waits for its end.
    command.stdin(lock.try_clone().map_err(file(&place.dir))?);
    let Output { status, stdout, stderr } = command.output().map_err(|source| Error::Run { program: "initdb".into(), source })?;
    if !status.success() {
        let output = [stdout, stderr].concat();
        return Err(Error::Failed { program: "initdb", output: String::from_utf8_lossy(&output).trim().into() });
    }
    let data = place.data();
    fs::rename(&unfinished, &data).map_err(file(&data))
}

/// Starts the server and waits until it answers.
pub(crate) fn launch(
    place: &Place,
    account: &Account,
    binaries: &Binaries,
    settings: &Settings,
) -> Result<(Child, Session), Error> {
    let log_path = place.log();
    let log = place.open_log()?;
    let mut command = command(place, account, binaries, settings);
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(file(&log_path))?)
        .stderr(log)
        // Ctrl-C in the terminal is for this process, which stops the server when it is done with it.
        .process_group(0);

    let deadline = Instant::now() + PATIENCE;
    let run = |source| Error::Run { program: "postgres".into(), source };
    'attempt: loop {
        let log_start = fs::metadata(&log_path).map_err(file(&log_path))?.len();
        let mut server = command.spawn().map_err(run)?;
        loop {
            let ended = server.try_wait().map_err(run)?.is_some();
            if PidFile::read(&place.data())?.is_some_and(|file| file.ready && file.pid == server.id())
                && let Ok(session) = Session::open(&place.socket(), OWNER, "postgres")
            {
                return Ok((server, session));
            }
            let late = Instant::now() > deadline;
            if ended || late {
                let output = tail(&log_path, log_start);
                // Sessions of a killed server hold its shared memory until they notice.
                if ended && !late && output.contains("still in use") {
                    thread::sleep(20 * POLL);
                    continue 'attempt;
                }
                return Err(Error::Failed { program: "postgres", output });
            }
            thread::sleep(POLL);
        }
    }
}

fn command(place: &Place, account: &Account, binaries: &Binaries, settings: &Settings) -> Command {
    let postgres = binaries.dir.join("postgres");
    let with_parent = ["--pdeathsig", "INT"];
    let mut command = if settings.lifetime == Lifetime::DiesWithParent
        && account.command("setpriv").args(with_parent).arg("true").output().is_ok_and(|output| output.status.success())
    {
        let mut command = account.command("setpriv");
        command.args(with_parent).arg(postgres);
        command
    } else {
        account.command(postgres)
    };
    command.arg("-D").arg(place.data());
    set(&mut command, "unix_socket_directories", &place.socket_dir);
    set(&mut command, "unix_socket_permissions", "0700");
    set(&mut command, "listen_addresses", "");
    set(&mut command, "port", place::PORT.to_string());
    set(&mut command, "max_connections", settings.max_connections.to_string());
    set(&mut command, "cluster_name", OWNER);
    set(&mut command, "logging_collector", "off");
    if !settings.durable {
        for name in ["fsync", "synchronous_commit", "full_page_writes"] {
            set(&mut command, name, "off");
        }
    }
    command
}

fn set(command: &mut Command, name: &str, value: impl AsRef<OsStr>) {
    let mut setting = OsString::from(name);
    setting.push("=");
    setting.push(value);
    command.arg("-c").arg(setting);
}

/// Shuts a server of this process down and waits for its end.
pub(crate) fn stop(place: &Place, mut server: Child) -> Result<(), Error> {
    let pid = server.id();
    let mut ended = || {
        let status = server.try_wait().map_err(|source| Error::Run { program: "postgres".into(), source })?;
        Ok(status.is_some())
    };
    // One that has already ended may have left its id to another process.
    if ended()? {
        return Ok(());
    }
    interrupt_and_wait(place, pid, ended)
}

/// Shuts down a server that is nobody's any more.
pub(crate) fn stop_leftover(place: &Place, pid: u32) -> Result<(), Error> {
    tracing::info!(pid, "shutting down a private PostgreSQL that was left behind");
    interrupt_and_wait(place, pid, || Ok(!is_postgres(pid)))
}

/// SIGINT: a fast shutdown, which ends the connections. Never SIGKILL, which is a crash to recover from.
fn interrupt_and_wait(place: &Place, pid: u32, mut ended: impl FnMut() -> Result<bool, Error>) -> Result<(), Error> {
    // The shell's own `kill`, as small systems lack the program.
    let status = Command::new("/bin/sh").args(["-c", "kill -INT \"$0\" 2>/dev/null", &pid.to_string()]).status();
    status.map_err(|source| Error::Run { program: "sh".into(), source })?;
    let deadline = Instant::now() + PATIENCE;
    while !ended()? {
        if Instant::now() > deadline {
            return Err(stuck(place, pid, "does not shut down"));
        }
        thread::sleep(POLL);
    }
    Ok(())
}

fn stuck(place: &Place, pid: u32, state: &'static str) -> Error {
    Error::Stuck { pid, dir: place.data(), log: place.log(), state }
}

/// The last lines written to the log since `start`.
fn tail(log: &Path, start: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::PidFile;

    #[test]
    fn pid_file_says_who_and_whether_ready() {
        let text = "4711\n/tmp/x/data\n1700000000\n5432\n/tmp/x/run\n\n  1234 5\n";
        let starting = PidFile::parse(&format!("{text}starting\n"));
        assert_eq!((starting.pid, starting.ready), (4711, false));
        assert!(PidFile::parse(&format!("{text}ready   \n")).ready);
        assert_eq!(PidFile::parse("-42\n/tmp/x/data\n").pid, 42);
        assert_eq!(PidFile::parse("").pid, 0);
    }
}
