//! Real clusters, each in a folder of its own, made from this machine's binaries.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "the tests find the binaries as the user would, on `PATH`")]

// Not public: other crates have a database driver.
#[path = "../src/session.rs"]
mod session;

use std::{
    env,
    ffi::OsString,
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{BufRead as _, BufReader},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, symlink},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use private_postgres::{APPLICATION, Cluster, DATABASE, Error, Lifetime, OWNER, Settings, delete_unless_running, start};
use session::Session;

/// A folder every user may pass through, one for each target directory. The target directory itself may lie in root's home, where
/// PostgreSQL's user can't go: then everything would run in the fallback, which one test is about and the others are not.
fn base() -> PathBuf {
    let mut hasher = DefaultHasher::new();
    env!("CARGO_TARGET_TMPDIR").hash(&mut hasher);
    Path::new("/var/tmp").join(format!("latchkey-cluster-tests-{:016x}", hasher.finish()))
}

/// An empty folder for one test, and a cluster's settings in it.
fn settings(test: &str) -> Settings {
    let dir = base().join(test);
    let _ = fs::remove_dir_all(&dir);
    settings_in(dir.join("postgres"))
}

fn settings_in(data_dir: PathBuf) -> Settings {
    Settings {
        data_dir,
        bin_dir: None,
        search_path: env::var_os("PATH"),
        durable: false,
        lifetime: Lifetime::Detached,
        max_connections: 20,
    }
}

fn session(cluster: &Cluster, role: &str) -> Session {
    Session::open(&cluster.socket_dir().join(".s.PGSQL.5432"), role, DATABASE).unwrap()
}

fn pid_file(cluster: &Cluster) -> PathBuf {
    cluster.data_dir().join("data/postmaster.pid")
}

fn pid(cluster: &Cluster) -> String {
    fs::read_to_string(pid_file(cluster)).unwrap().lines().next().unwrap().to_owned()
}

fn log(data_dir: &Path) -> String {
    fs::read_to_string(data_dir.join("postgres.log")).unwrap()
}

fn signal(name: &str, pid: &str) {
    assert!(Command::new("sh").args(["-c", "kill -$0 $1", name, pid]).status().unwrap().success());
}

fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !happened() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

#[test]
fn first_start_makes_roles_and_database_and_the_next_finds_them_running() {
    let settings = settings("first_start");
    let first = start(&settings).unwrap();
    assert!(first.started_here());
    let socket_dir = first.socket_dir().to_str().unwrap().replace('/', "%2F");
    assert_eq!(first.url(APPLICATION, "a b"), format!("postgres://latchkey_app@{socket_dir}:5432/a%20b"));

    let mut owner = session(&first, OWNER);
    let count = |owner: &mut Session, from: &str| owner.query(&format!("SELECT FROM {from}")).unwrap();
    assert_eq!(count(&mut owner, "pg_roles WHERE rolname = 'latchkey' AND rolsuper"), 1);
    assert_eq!(
        count(
            &mut owner,
            "pg_roles WHERE rolname = 'latchkey_app' AND rolcanlogin AND NOT (rolsuper OR rolcreatedb OR rolcreaterole)"
        ),
        1
    );
    assert_eq!(
        count(
            &mut owner,
            "pg_database WHERE datname = 'latchkey' AND datdba = 'latchkey'::regrole \
             AND pg_encoding_to_char(encoding) = 'UTF8'"
        ),
        1
    );
    assert_eq!(count(&mut owner, "pg_settings WHERE name = 'listen_addresses' AND setting = ''"), 1);
    assert_eq!(count(&mut owner, "pg_settings WHERE name = 'fsync' AND setting = 'off'"), 1);
    assert!(session(&first, APPLICATION).query("CREATE DATABASE other").is_err());

    let pid = pid(&first);
    let second = start(&settings).unwrap();
    assert!(!second.started_here());
    second.stop().unwrap();
    assert_eq!(owner.query("SELECT").unwrap(), 1, "a reused cluster must be left running");
    assert_eq!(pid, self::pid(&first));
    let gone = pid_file(&first);
    first.stop().unwrap();
    assert!(!gone.exists());
}

#[test]
fn stop_and_start_keep_the_data_and_bring_a_dropped_database_back() {
    let settings = Settings { durable: true, ..settings("keeps_data") };
    let cluster = start(&settings).unwrap();
    let mut owner = session(&cluster, OWNER);
    assert_eq!(owner.query("SELECT FROM pg_settings WHERE name = 'fsync' AND setting = 'on'").unwrap(), 1);
    owner.query("CREATE TABLE kept AS SELECT 1").unwrap();
    cluster.stop().unwrap();
    assert!(owner.query("SELECT").is_err(), "the server must be gone when stop returns");

    let cluster = start(&settings).unwrap();
    assert!(cluster.started_here());
    assert_eq!(session(&cluster, OWNER).query("SELECT FROM kept").unwrap(), 1);

    let socket = cluster.socket_dir().join(".s.PGSQL.5432");
    Session::open(&socket, OWNER, "postgres").unwrap().query("DROP DATABASE latchkey WITH (FORCE)").unwrap();
    start(&settings).unwrap();
    assert!(session(&cluster, OWNER).query("SELECT FROM kept").is_err());
    cluster.stop().unwrap();
}

#[test]
fn only_a_cluster_that_nobody_uses_is_deleted() {
    let settings = settings("deleted");
    delete_unless_running(&settings).unwrap();
    let cluster = start(&settings).unwrap();
    session(&cluster, OWNER).query("CREATE TABLE kept AS SELECT 1").unwrap();
    delete_unless_running(&settings).unwrap();
    assert_eq!(session(&cluster, OWNER).query("SELECT FROM kept").unwrap(), 1);
    cluster.stop().unwrap();
    delete_unless_running(&settings).unwrap();
    let cluster = start(&settings).unwrap();
    assert!(session(&cluster, OWNER).query("SELECT FROM kept").is_err());
    cluster.stop().unwrap();
}

#[test]
fn a_killed_server_is_recovered() {
    let settings = Settings { durable: true, ..settings("killed") };
    let killed = start(&settings).unwrap();
    let mut owner = session(&killed, OWNER);
    owner.query("CREATE TABLE kept AS SELECT 1").unwrap();
    // One that does not notice at once that its server is gone, and so holds the shared memory on.
    let mut busy = session(&killed, OWNER);
    let busy = thread::spawn(move || busy.query("SELECT count(*) FROM generate_series(1, 10000000)"));
    wait_until("the query runs", || {
        let running = "SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%generate_series%' \
                       AND pid <> pg_backend_pid()";
        owner.query(running).unwrap() == 1
    });
    signal("KILL", &pid(&killed));

    let recovered = start(&settings).unwrap();
    assert!(recovered.started_here());
    assert_eq!(session(&recovered, OWNER).query("SELECT FROM kept").unwrap(), 1);
    assert!(log(recovered.data_dir()).contains("not properly shut down"));
    let _ = busy.join().unwrap();

    killed.stop().unwrap();
    assert_eq!(
        session(&recovered, OWNER).query("SELECT").unwrap(),
        1,
        "the handle of the killed server must leave its successor alone"
    );
    recovered.stop().unwrap();
}

#[test]
fn a_pid_file_that_names_another_program_is_stale() {
    let settings = settings("stale_pid");
    let cluster = start(&settings).unwrap();
    let files = [pid_file(&cluster), cluster.socket_dir().join(".s.PGSQL.5432.lock")];
    // Of the same user: of another user's process the server itself knows that it is none of its own.
    let mut other = Command::new("sleep").arg("300").uid(fs::metadata(&files[0]).unwrap().uid()).spawn().unwrap();
    let (old, new) = (pid(&cluster), other.id().to_string());
    let texts = files.each_ref().map(|path| fs::read_to_string(path).unwrap().replace(&old, &new));
    cluster.stop().unwrap();
    for (path, text) in files.iter().zip(texts) {
        fs::write(path, text).unwrap();
    }

    let cluster = start(&settings).unwrap();
    assert_ne!(pid(&cluster), new);
    cluster.stop().unwrap();
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn another_major_version_is_explained_and_left_alone() {
    let settings = settings("other_version");
    let data = settings.data_dir.join("data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("PG_VERSION"), "9\n").unwrap();

    let error = start(&settings).unwrap_err();
    assert!(matches!(&error, Error::WrongVersion { data: 9, .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("made by PostgreSQL 9, and this machine has PostgreSQL 1"), "{text}");
    assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
}

#[test]
fn missing_binaries_are_explained() {
    let settings = settings("no_binaries");
    let empty = settings.data_dir.with_file_name("empty");
    fs::create_dir_all(&empty).unwrap();
    let error = start(&Settings { bin_dir: Some(empty.clone()), ..settings }).unwrap_err();
    assert!(matches!(&error, Error::NotInBinDir(dir) if *dir == empty), "{error:?}");
}

#[test]
fn a_failed_start_shows_the_log() {
    let settings = settings("failed_start");
    let cluster = start(&settings).unwrap();
    let conf = cluster.data_dir().join("data/postgresql.conf");
    cluster.stop().unwrap();
    fs::write(&conf, "no_such_setting = on\n").unwrap();
    let text = start(&settings).unwrap_err().to_string();
    assert!(text.starts_with("postgres failed:\n") && text.contains("no_such_setting"), "{text}");
}

#[test]
fn two_starts_at_once_share_one_server() {
    let settings = settings("at_once");
    let clusters: Vec<Cluster> = thread::scope(|scope| {
        let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| start(&settings).unwrap())).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert_eq!(clusters.iter().filter(|cluster| cluster.started_here()).count(), 1);
    for cluster in &clusters {
        assert_eq!(session(cluster, APPLICATION).query("SELECT").unwrap(), 1);
    }
    for cluster in clusters {
        cluster.stop().unwrap();
    }
}

#[test]
fn a_server_without_its_socket_is_replaced() {
    let settings = settings("no_socket");
    let unreachable = start(&settings).unwrap();
    fs::remove_file(unreachable.socket_dir().join(".s.PGSQL.5432")).unwrap();
    let cluster = start(&settings).unwrap();
    assert!(cluster.started_here());
    assert_eq!(session(&cluster, OWNER).query("SELECT").unwrap(), 1);
    assert!(!log(cluster.data_dir()).contains("not properly shut down"));
    cluster.stop().unwrap();
}

#[test]
fn an_interrupted_first_start_is_made_again() {
    let settings = settings("interrupted");
    let half = settings.data_dir.join("data.new");
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("PG_VERSION"), "15\n").unwrap();
    start(&settings).unwrap().stop().unwrap();
    assert!(!half.exists());
}

#[test]
fn a_deep_folder_gets_a_short_socket_and_finds_it_again() {
    let mut settings = settings("deep");
    settings.data_dir = settings.data_dir.join("d".repeat(60)).join("e, f".repeat(20));
    let cluster = start(&settings).unwrap();
    assert!(cluster.socket_dir().starts_with("/tmp"));
    assert_eq!(fs::metadata(cluster.socket_dir()).unwrap().permissions().mode() & 0o777, 0o700);
    let again = start(&settings).unwrap();
    assert!(!again.started_here());
    assert_eq!(again.socket_dir(), cluster.socket_dir());
    let socket_dir = cluster.socket_dir().to_owned();
    cluster.stop().unwrap();

    // Anybody may put something of this name into /tmp.
    fs::remove_dir(&socket_dir).unwrap();
    symlink(settings.data_dir.join("run"), &socket_dir).unwrap();
    assert!(matches!(start(&settings).unwrap_err(), Error::NotPrivate { .. }));
    fs::remove_file(&socket_dir).unwrap();
}

#[test]
fn a_long_log_is_put_aside() {
    let settings = settings("long_log");
    fs::create_dir_all(&settings.data_dir).unwrap();
    let log = settings.data_dir.join("postgres.log");
    fs::write(&log, vec![b'x'; 5 << 20]).unwrap();
    let cluster = start(&settings).unwrap();
    assert!(fs::metadata(&log).unwrap().len() < 1 << 20);
    assert_eq!(fs::metadata(log.with_extension("log.1")).unwrap().len(), 5 << 20);
    cluster.stop().unwrap();
}

#[test]
fn dropping_stops_a_cluster_that_dies_with_its_parent_only() {
    let detached = settings("dropped");
    drop(start(&detached).unwrap());
    let cluster = start(&detached).unwrap();
    assert!(!cluster.started_here());
    let pid_file = pid_file(&cluster);
    signal("INT", &pid(&cluster));
    wait_until("the detached server is gone", || !pid_file.exists());

    drop(start(&Settings { lifetime: Lifetime::DiesWithParent, ..detached }).unwrap());
    assert!(!pid_file.exists());
}

/// Not a test: the process that the tests below kill.
#[test]
#[ignore = "run by other tests"]
fn hold() {
    let Some(data_dir) = env::var_os("HOLD_DATA_DIR") else {
        return;
    };
    let mut settings = Settings { lifetime: Lifetime::DiesWithParent, ..settings_in(data_dir.into()) };
    if let Some(path) = env::var_os("HOLD_SEARCH_PATH") {
        settings.search_path = Some(path);
    }
    let cluster = start(&settings).unwrap();
    println!("\nholding {}", cluster.data_dir().display());
    loop {
        thread::park();
    }
}

/// Runs [`hold`] in a process of its own and kills it once its cluster runs. Returns where that lies.
fn killed_holder(data_dir: &Path, search_path: Option<&OsString>) -> PathBuf {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "hold", "--ignored", "--nocapture"]).env("HOLD_DATA_DIR", data_dir).stdout(Stdio::piped());
    if let Some(path) = search_path {
        command.env("HOLD_SEARCH_PATH", path);
    }
    let mut holder = command.spawn().unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let dir = lines.map(Result::unwrap).find_map(|line| line.strip_prefix("holding ").map(PathBuf::from)).unwrap();
    assert!(dir.join("data/postmaster.pid").exists());
    holder.kill().unwrap();
    holder.wait().unwrap();
    dir
}

#[test]
fn a_killed_parent_takes_its_cluster_along() {
    if Command::new("setpriv").args(["--pdeathsig", "INT", "true"]).status().is_err() {
        return;
    }
    let settings = settings("killed_parent");
    let dir = killed_holder(&settings.data_dir, None);
    wait_until("the server is gone", || !dir.join("data/postmaster.pid").exists());
    assert!(!dir.join("run/.s.PGSQL.5432").exists());
    assert!(log(&dir).trim_end().ends_with("database system is shut down"), "{}", log(&dir));

    // At once, while the one before may still be on its way down.
    killed_holder(&settings.data_dir, None);
    let cluster = start(&settings).unwrap();
    assert!(cluster.started_here());
    assert_eq!(session(&cluster, OWNER).query("SELECT").unwrap(), 1);
    cluster.stop().unwrap();
    assert!(!log(&dir).contains("not properly shut down"));
}

#[test]
fn a_cluster_that_outlived_its_parent_is_shut_down_before_the_next_starts() {
    let settings = settings("orphan");
    // A machine without `setpriv`, such as a Mac.
    let bin = settings.data_dir.with_file_name("bin");
    fs::create_dir_all(&bin).unwrap();
    let dir = killed_holder(&settings.data_dir, Some(&bin.into_os_string()));
    let orphan = fs::read_to_string(dir.join("data/postmaster.pid")).unwrap();

    let cluster = start(&settings).unwrap();
    assert!(cluster.started_here());
    assert!(!orphan.starts_with(&pid(&cluster)));
    assert!(!log(&dir).contains("not properly shut down"));
    cluster.stop().unwrap();
}

#[test]
fn root_runs_the_server_as_a_lesser_user() {
    if !is_root() {
        return;
    }
    let settings = settings("root");
    let cluster = start(&settings).unwrap();
    let dir = cluster.data_dir();
    assert_ne!(fs::metadata(format!("/proc/{}", pid(&cluster))).unwrap().uid(), 0);
    for own in [dir.join("data"), dir.join("run")] {
        let metadata = fs::metadata(own).unwrap();
        assert_ne!(metadata.uid(), 0);
        assert_eq!(metadata.permissions().mode() & 0o777, 0o700);
    }
    for roots in [dir.to_owned(), dir.join("postgres.log"), dir.join("start.lock")] {
        let metadata = fs::metadata(roots).unwrap();
        assert_eq!((metadata.uid(), metadata.permissions().mode() & 0o022), (0, 0));
    }
    cluster.stop().unwrap();
}

#[test]
fn a_folder_the_lesser_user_cannot_enter_is_left_for_one_it_can() {
    if !is_root() {
        return;
    }
    let settings = settings("closed");
    let closed = settings.data_dir.parent().unwrap();
    fs::create_dir_all(closed).unwrap();
    fs::set_permissions(closed, fs::Permissions::from_mode(0o700)).unwrap();

    let cluster = start(&settings).unwrap();
    assert!(cluster.data_dir().starts_with("/var/lib"), "{}", cluster.data_dir().display());
    let again = start(&settings).unwrap();
    assert!(!again.started_here());
    assert_eq!(again.data_dir(), cluster.data_dir());
    let elsewhere = cluster.data_dir().to_owned();
    cluster.stop().unwrap();
    fs::remove_dir_all(elsewhere).unwrap();
}
