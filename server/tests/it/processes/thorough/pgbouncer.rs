//! A real PgBouncer with the configuration of `ops/pgbouncer`. In session mode people sign in through it; in transaction mode, where
//! statements of other clients run on our connections, nothing runs.

use std::{
    fs,
    net::SocketAddr,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Output, Stdio},
    str::FromStr as _,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use auth::operations::diagnostics::{self, Pooling};
use sqlx::{
    Connection as _, Executor as _, PgConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use testkit::{Browser, Database, SmtpSink};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

use crate::processes::{
    ORIGIN, Server, count,
    thorough::proxies::{Running, of_ops, program},
};

pub(super) const PATIENCE: Duration = Duration::from_mins(1);

pub(super) async fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound")
}

pub(super) fn url(database: &Database, at: SocketAddr) -> String {
    format!("postgres://latchkey_app@{at}/{}", database.name)
}

async fn pgbouncer(database: &Database, at: SocketAddr, mode: &str) -> Running {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = NEXT.fetch_add(1, Ordering::SeqCst);
    let folder = std::env::temp_dir().join(format!("latchkey-pgbouncer-{}-{n}", std::process::id()));
    fs::create_dir(&folder).expect("a new name");
    let cluster = PgConnectOptions::from_str(&database.url).expect("a URL");
    let sockets = cluster.get_socket().map_or_else(|| cluster.get_host().to_owned(), |path| path.display().to_string());
    let config = of_ops(
        "pgbouncer/pgbouncer.ini",
        &[
            (
                "latchkey = host=10.0.0.21 port=5432 dbname=latchkey",
                &format!("{} = host={sockets} port={}", database.name, cluster.get_port()),
            ),
            ("listen_port = 6432", &format!("listen_port = {}\nunix_socket_dir =", at.port())),
            ("auth_type = scram-sha-256", "auth_type = trust"),
            ("/etc/pgbouncer/userlist.txt", &folder.join("users").display().to_string()),
            ("pool_mode = session", mode),
        ],
    );
    fs::write(folder.join("pgbouncer.ini"), config).expect("writable");
    fs::write(folder.join("users"), "\"latchkey_app\" \"\"\n").expect("writable");
    let log = fs::File::create(folder.join("log")).expect("writable");
    // As whoever may enter the cluster's folder, which is never root; nor would PgBouncer run as root.
    let owner = fs::metadata(Path::new(&sockets)).expect("the cluster runs").uid();
    let mut command = Command::new(program("pgbouncer"));
    command.uid(owner).arg(folder.join("pgbouncer.ini")).env_clear();
    let process =
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log).spawn().expect("it starts");
    let running = Running { process, folder };
    let up = timeout(PATIENCE, async { while TcpStream::connect(at).await.is_err() {} }).await.is_ok();
    assert!(up, "it does not start: {}", fs::read_to_string(running.folder.join("log")).unwrap_or_default());
    running
}

pub(super) fn latchkey(database: &str, args: &[&str]) -> Output {
    // A server that finds nothing to refuse would go on.
    Command::new("timeout")
        .args(["-k", "10", "60", env!("CARGO_BIN_EXE_latchkey")])
        .args(args)
        .env_clear()
        .envs([("APP_ENV", "development"), ("DATABASE_URL", database), ("BASE_URL", ORIGIN), ("LISTEN_ADDR", "127.0.0.1:0")])
        .env("WALLET_ENCRYPTION_KEY", "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=")
        .output()
        .expect("the binary runs")
}

fn is_refused(database: &str, args: &[&str]) {
    let output = latchkey(database, args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
    assert!(said.contains("set pool_mode = session"), "{args:?}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_session_mode_people_sign_in_through_it() {
    let (database, sink, at) = (Database::new().await, SmtpSink::start().await, free_port().await);
    let _pgbouncer = pgbouncer(&database, at, "pool_mode = session").await;
    let through = url(&database, at);
    let server = Server::start_with(&database, &[("EMAIL_SMTP", &sink.url()), ("DATABASE_URL", &through)]).await;
    let mut browser = Browser::new(server.address, ORIGIN);
    browser.post("/login", &[("email", "mara@example.org")]).await;
    let code = sink.nth_to("mara@example.org", 1).await.code();
    assert_eq!(browser.post("/login/sent", &[("code", &code)]).await.location(), "/account");
    assert!(latchkey(&through, &["session", "list", "mara@example.org"]).status.success());
    let pool = database.pool_of(1).await;
    // Ours is the one that asks.
    let direct = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
                  and usename = 'latchkey_app'";
    assert!(count(&pool, direct).await > 0, "the server's connections come from PgBouncer");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_transaction_mode_nothing_runs() {
    let database = Database::new().await;
    let direct = database.pool_of(1).await;
    for mode in [
        "pool_mode = transaction",
        // A single process, which the second client has to wait for.
        "pool_mode = transaction\nmax_db_connections = 1",
        // Processes take turns, so the same one doesn't come twice.
        "pool_mode = transaction\nserver_round_robin = 1",
        "pool_mode = statement",
    ] {
        let at = free_port().await;
        let _pgbouncer = pgbouncer(&database, at, mode).await;
        let through = url(&database, at);
        if mode.contains("round_robin") {
            // Several processes wait before anybody asks.
            let mut busy = Vec::new();
            for _ in 0..3 {
                let mut connection = PgConnection::connect(&through).await.expect("it answers");
                connection.execute(sqlx::raw_sql("begin")).await.expect("a process");
                busy.push(connection);
            }
            for mut connection in busy {
                connection.execute(sqlx::raw_sql("rollback")).await.expect("given back");
            }
        }
        is_refused(&through, &["serve"]);
        is_refused(&through, &["session", "revoke", "--all"]);

        // Whoever gets its connections next is not within a transaction that never ends.
        let pool = PgPoolOptions::new().max_connections(2).connect(&through).await.expect("it answers");
        assert_eq!(diagnostics::pooling(&pool).await.expect("it is known"), Pooling::Transaction, "{mode}");
        let open = "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'";
        let all_over = async { while count(&direct, open).await > 0 {} };
        timeout(PATIENCE, all_over).await.expect("what asked is over");
    }
}

/// Its own workers ask while a server looks, and take the processes that the look would have met.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_found_whatever_else_goes_on() {
    let (database, at) = (Database::new().await, free_port().await);
    let _pgbouncer = pgbouncer(&database, at, "pool_mode = transaction").await;
    let through = url(&database, at);
    let mut others = JoinSet::new();
    for _ in 0..8 {
        let mut connection = PgConnection::connect(&through).await.expect("it answers");
        others.spawn(async move { while connection.execute(sqlx::raw_sql("select 1")).await.is_ok() {} });
    }
    let pool = PgPoolOptions::new().max_connections(2).connect(&through).await.expect("it answers");
    for look in 0..200 {
        assert_eq!(diagnostics::pooling(&pool).await.expect("it is known"), Pooling::Transaction, "look {look}");
    }
}

/// The database is away when the server starts, and then comes back through a pooler of the wrong kind.
#[tokio::test(flavor = "multi_thread")]
async fn found_later_it_stops_the_server() {
    let (database, at) = (Database::new().await, free_port().await);
    let listen = free_port().await;
    let server = tokio::process::Command::new(env!("CARGO_BIN_EXE_latchkey"))
        .arg("serve")
        .env_clear()
        .envs([
            ("APP_ENV", "development"),
            ("DATABASE_URL", url(&database, at).as_str()),
            ("MIGRATE_ON_START", "false"),
            ("BASE_URL", ORIGIN),
            ("LISTEN_ADDR", &listen.to_string()),
            ("WALLET_ENCRYPTION_KEY", "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="),
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let server = Server { address: listen, process: server };
    let away = async { while !matches!(server.try_get("/readyz").await, Some(answer) if answer.starts_with("HTTP/1.1 503")) {} };
    timeout(PATIENCE, away).await.expect("it starts without a database, and says so");
    let _pgbouncer = pgbouncer(&database, at, "pool_mode = transaction").await;
    assert_eq!(server.wait().await.code(), Some(1));
}
