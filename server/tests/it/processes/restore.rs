//! A database that is restored from a backup brings back what has ended since: the runbook `docs/backup.md`, its commands as they stand
//! there.

use std::{path::Path, process::Command, str::FromStr as _};

use sqlx::postgres::PgConnectOptions;
use testkit::{Browser, Database, SmtpSink};

use super::{
    ORIGIN, Server, count,
    docs::{fenced, in_backticks, read, repository},
};

const MARA: &str = "mara@example.org";
const PAT: &str = "pat@example.org";

/// The page's one command that begins so.
fn of_the_page(begin: &str) -> String {
    let page = read(&repository().join("docs/backup.md"));
    let (blocks, prose) = fenced(&page, "sh");
    let all = blocks.iter().flat_map(|block| block.lines()).chain(in_backticks(&prose)).map(str::trim);
    let found: Vec<&str> = all.filter(|line| line.starts_with(begin)).collect();
    assert_eq!(found.len(), 1, "{begin}: {found:?}");
    found[0].to_owned()
}

/// In the folder of the dump. `latchkey` is the binary under test.
fn run(command: &str, at: &Path, database: &Database) {
    let cluster = PgConnectOptions::from_str(&database.owner_url).expect("a URL");
    let sockets = cluster.get_socket().map_or_else(|| cluster.get_host().to_owned(), |path| path.display().to_string());
    #[expect(clippy::disallowed_methods, reason = "a shell finds its programs as this one does")]
    let path = std::env::var("PATH").unwrap_or_default();
    let binaries = Path::new(env!("CARGO_BIN_EXE_latchkey")).parent().expect("a folder").display();
    let output = Command::new("bash")
        .args(["-euc", command])
        .current_dir(at)
        .env_clear()
        .envs([
            ("PATH", format!("{binaries}:{path}").as_str()),
            ("PGHOST", &sockets),
            ("PGPORT", &cluster.get_port().to_string()),
            ("PGUSER", cluster.get_username()),
            ("APP_ENV", "development"),
            ("DATABASE_URL", &database.url),
            ("DATABASE_MIGRATOR_URL", &database.owner_url),
            ("BASE_URL", ORIGIN),
            ("WALLET_ENCRYPTION_KEY", "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="),
        ])
        .output()
        .expect("bash runs");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Back up and restore, steps 1 and 2.
fn restored(from: &Database) -> Database {
    let folder = std::env::temp_dir().join(format!("latchkey-restore-{}", from.name));
    std::fs::create_dir(&folder).expect("a new name");
    run(&of_the_page("pg_dump"), &folder, from);
    let name = format!("{}_restored", from.name);
    let elsewhere = |url: &str| url.replace(&from.name, &name);
    let to = Database { url: elsewhere(&from.url), owner_url: elsewhere(&from.owner_url), name: name.clone() };
    // The owner's role has another name here.
    run(&of_the_page("createdb").replace("latchkey_owner", "latchkey").replace("latchkey_restored", &name), &folder, from);
    run(&of_the_page("pg_restore"), &folder, &to);
    std::fs::remove_dir_all(&folder).expect("it is there");
    to
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restore_brings_back_is_ended_by_one_command() {
    let (database, sink) = (Database::new().await, SmtpSink::start().await);
    let server = Server::start(&database, &sink, "on").await;
    let (mut mara, mut pat) = (Browser::new(server.address, ORIGIN), Browser::new(server.address, ORIGIN));
    mara.post("/login", &[("email", MARA)]).await;
    let code = sink.nth_to(MARA, 1).await.code();
    mara.post("/login/sent", &[("code", &code)]).await;
    pat.post("/login", &[("email", PAT)]).await;
    let mail = sink.nth_to(PAT, 1).await;
    let (code, link) = (mail.code(), mail.link());
    let (stolen, asked) = (mara.clone(), pat.clone());

    let backup = restored(&database);
    // After the backup one session ends, and one code is used.
    mara.post("/logout", &[]).await;
    assert_eq!(pat.post("/login/sent", &[("code", &code)]).await.location(), "/account");
    server.terminate();
    server.wait().await;
    let again = restored(&backup);

    let server = Server::start(&backup, &sink, "on").await;
    assert_eq!(stolen.at(server.address).get("/account").await.status, 200, "the session is back, and so is its danger");
    assert_eq!(asked.at(server.address).post("/login/sent", &[("code", &code)]).await.location(), "/account", "the code too");
    server.terminate();
    server.wait().await;

    // Steps 3 and 4.
    let folder = std::env::temp_dir();
    run("latchkey migrate", &folder, &again);
    run(&of_the_page("latchkey session revoke --all --reason"), &folder, &again);
    let server = Server::start(&again, &sink, "on").await;
    assert_eq!(stolen.at(server.address).get("/account").await.location(), "/login?next=/account");
    let entered = asked.at(server.address).post("/login/sent", &[("code", &code)]).await;
    assert_eq!(entered.status, 410, "{}", entered.body);
    let mut opened = asked.at(server.address);
    opened.get(&link).await;
    assert_eq!(opened.get("/login/confirm").await.status, 410, "the link of the same mail");
    let pool = again.pool_of(1).await;
    assert_eq!(count(&pool, "select count(*) from users").await, 1, "accounts are as they were in the backup");
    assert_eq!(count(&pool, "select count(*) from auth_audit where event_type = 'sessions.ended'").await, 1);
}

/// `docs/rollback.md`: the version before is started on a schema that has a migration it doesn't know.
#[tokio::test(flavor = "multi_thread")]
async fn the_version_before_runs_on_the_newer_schema() {
    let (database, sink) = (Database::new().await, SmtpSink::start().await);
    let owner = database.owner().await;
    for statement in [
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time) values (999, 'newer', true, '', 0)",
        "alter table users add column newer text",
    ] {
        sqlx::query(statement).execute(&owner).await.expect("the owner may");
    }
    run("latchkey migrate", &std::env::temp_dir(), &database);
    let server = Server::start_with(&database, &[("EMAIL_SMTP", &sink.url()), ("MIGRATE_ON_START", "true")]).await;
    let mut mara = Browser::new(server.address, ORIGIN);
    mara.post("/login", &[("email", MARA)]).await;
    let code = sink.nth_to(MARA, 1).await.code();
    assert_eq!(mara.post("/login/sent", &[("code", &code)]).await.location(), "/account");
}
