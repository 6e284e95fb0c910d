//! A database that goes away in the middle of sign-ins. One that falls silent: `thorough/silent_database.rs`; a mail server that does:
//! `thorough/mail_faults.rs`.

use std::{path::PathBuf, process::Command, time::Duration};

use private_postgres::{APPLICATION, Cluster, DATABASE, Lifetime, OWNER, Settings};
use sqlx::{AssertSqlSafe, Executor as _};
use testkit::{Browser, Database, Reply, SmtpSink};

use crate::processes::{ORIGIN, Server};

/// A cluster to stop, since the other tests share theirs.
struct OwnPostgres {
    dir: PathBuf,
    cluster: Option<Cluster>,
}

impl OwnPostgres {
    fn start() -> Self {
        // Started by root, PostgreSQL runs as another user, who must get through every folder above.
        let dir = PathBuf::from(format!("/var/tmp/latchkey-outage-{}", std::process::id()));
        let mut postgres = Self { dir, cluster: None };
        postgres.start_again();
        postgres
    }

    #[expect(clippy::disallowed_methods, reason = "tests find their tools where the shell does")]
    fn start_again(&mut self) {
        let settings = Settings {
            data_dir: self.dir.clone(),
            bin_dir: None,
            search_path: std::env::var_os("PATH"),
            durable: true,
            lifetime: Lifetime::DiesWithParent,
            max_connections: 60,
        };
        self.cluster = Some(private_postgres::start(&settings).expect("a private PostgreSQL starts"));
    }

    fn database(&self) -> Database {
        let cluster = self.cluster.as_ref().expect("it runs");
        Database { name: DATABASE.to_owned(), url: cluster.url(APPLICATION, DATABASE), owner_url: cluster.url(OWNER, DATABASE) }
    }

    /// SIGQUIT, what `pg_ctl stop -m immediate` sends: as sudden as a stop can be without losing the machine.
    fn stop_at_once(&mut self) {
        let cluster = self.cluster.take().expect("it runs");
        let pid_file = std::fs::read_to_string(cluster.data_dir().join("data/postmaster.pid")).expect("it runs");
        let pid = pid_file.lines().next().expect("begins with the process's id");
        assert!(Command::new("kill").args(["-QUIT", pid]).status().expect("kill runs").success());
        cluster.stop().expect("it ends");
    }
}

impl Drop for OwnPostgres {
    fn drop(&mut self) {
        let dir = self.cluster.take().map(|cluster| cluster.data_dir().to_owned());
        let _ = std::fs::remove_dir_all(dir.as_ref().unwrap_or(&self.dir));
    }
}

pub(super) fn assert_away(what: &str, answer: &Reply) {
    assert_eq!(answer.status, 503, "{what}");
    assert!(answer.headers.contains_key("retry-after"), "{what}: {:?}", answer.headers);
    assert_eq!(answer.headers["content-type"], "text/html; charset=utf-8", "{what}");
    assert!(answer.body.contains("Nothing was changed."), "{what}: {}", answer.body);
}

/// At every step: a page that says so, nothing lost, and once the database is back everybody goes on where they were.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_costs_nobody_more_than_the_time_it_was_away() {
    let mut postgres = OwnPostgres::start();
    let sink = SmtpSink::start().await;
    let mut server = Server::start(&postgres.database(), &sink, "on").await;
    let new = || Browser::new(server.address, ORIGIN);
    let (mut newcomer, mut typing, mut opening, mut opened, mut signed_in) = (new(), new(), new(), new(), new());
    for (browser, email) in [
        (&mut typing, "typing@example.org"),
        (&mut opening, "opening@example.org"),
        (&mut opened, "opened@example.org"),
        (&mut signed_in, "signed-in@example.org"),
    ] {
        assert_eq!(browser.post("/login", &[("email", email)]).await.location(), "/login/sent");
    }
    let typed = sink.nth_to("typing@example.org", 1).await.code();
    let link = sink.nth_to("opening@example.org", 1).await.link();
    assert_eq!(opened.get(&sink.nth_to("opened@example.org", 1).await.link()).await.location(), "/login/confirm");
    let code = sink.nth_to("signed-in@example.org", 1).await.code();
    assert_eq!(signed_in.post("/login/sent", &[("code", &code)]).await.location(), "/account");

    postgres.stop_at_once();
    assert_away("asking", &newcomer.post("/login", &[("email", "newcomer@example.org")]).await);
    assert_away("looking for the mail", &typing.get("/login/sent").await);
    assert_away("typing the code", &typing.post("/login/sent", &[("code", &typed)]).await);
    assert_away("another mail", &typing.post("/login/sent/resend", &[]).await);
    // Opening only moves the token from the address into a cookie.
    assert_eq!(opening.get(&link).await.location(), "/login/confirm");
    assert_away("looking at the link", &opening.get("/login/confirm").await);
    assert_away("pressing the button", &opened.post("/login/confirm", &[]).await);
    assert_away("not me", &opened.post("/login/confirm/cancel", &[]).await);
    assert_away("the account", &signed_in.get("/account").await);
    assert_away("signing in again", &signed_in.get("/login").await);
    assert_away("signing out", &signed_in.post("/logout", &[]).await);
    assert_eq!(new().get("/login").await.status, 200, "a page that needs no database");
    assert_eq!(new().get("/healthz").await.status, 200);
    assert_eq!(new().get("/readyz").await.status, 503);

    postgres.start_again();
    server.wait_ready().await;
    assert_eq!(signed_in.get("/account").await.status, 200);
    assert_eq!(typing.post("/login/sent", &[("code", &typed)]).await.location(), "/account");
    for mut browser in [opening, opened] {
        assert_eq!(browser.get("/login/confirm").await.status, 200);
        assert_eq!(browser.post("/login/confirm", &[]).await.location(), "/account");
    }
    assert_eq!(newcomer.post("/login", &[("email", "newcomer@example.org")]).await.location(), "/login/sent");
    let code = sink.nth_to("newcomer@example.org", 1).await.code();
    assert_eq!(newcomer.post("/login/sent", &[("code", &code)]).await.location(), "/account");
    assert_eq!(signed_in.post("/logout", &[]).await.status, 303);
}

/// As a full disk has it with some hosts, or an operator during maintenance.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_no_writes_is_not_ready_and_is_well_within_seconds() {
    let (database, sink) = (Database::new().await, SmtpSink::start().await);
    let mut server = Server::start(&database, &sink, "on").await;
    let mut browser = Browser::new(server.address, ORIGIN);
    let read_only = async || {
        let answer = server.try_get("/readyz").await.expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("the database is read-only\n"), "{answer}");
    };
    // Connected before, so that it may write still.
    let mut owner = database.owner().await.acquire().await.expect("connected");
    let set = format!("alter database {} set default_transaction_read_only = on", database.name);
    owner.execute(AssertSqlSafe(set)).await.expect("set");
    read_only().await;
    let others =
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    owner.execute(others).await.expect("ended");
    read_only().await;
    assert_away("asking", &browser.post("/login", &[("email", "mara@example.org")]).await);
    let reset = format!("alter database {} reset default_transaction_read_only", database.name);
    owner.execute(AssertSqlSafe(reset)).await.expect("reset");
    let well = async {
        server.wait_ready().await;
        // Sixteen at once take every connection that the pool may have.
        for n in 0..16 {
            assert_eq!(browser.post("/login", &[("email", &format!("mara{n}@example.org"))]).await.location(), "/login/sent");
            browser = Browser::new(server.address, ORIGIN);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), well).await.expect("within seconds");
}

/// A command says what stands in the way, once.
#[tokio::test(flavor = "multi_thread")]
async fn doctor_and_commands_name_what_keeps_the_database_from_writing() {
    let database = Database::new().await;
    let set = format!("alter database {} set default_transaction_read_only = on", database.name);
    database.owner().await.execute(AssertSqlSafe(set)).await.expect("set");
    for (args, exit) in [(&["doctor"][..], 1), (&["user", "create", "mara@example.org"], 1)] {
        let output = command(&database, args);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(exit), "{said}");
        assert!(said.contains("default_transaction_read_only is on"), "{said}");
    }
}

fn command(database: &Database, args: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_latchkey"))
        .args(args)
        .env_clear()
        .envs([
            ("APP_ENV", "development"),
            ("BASE_URL", ORIGIN),
            ("DATABASE_URL", &database.url),
            ("DATABASE_MIGRATOR_URL", &database.owner_url),
        ])
        .env("WALLET_ENCRYPTION_KEY", "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=")
        .output()
        .expect("the binary runs")
}

/// The answer alone: no line of a log beside it, unless asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_prints_its_answer_alone() {
    let (database, sink) = (Database::new().await, SmtpSink::start().await);
    let email = "mara@example.org";
    for (args, answer) in [
        (&["user", "create", email][..], "Made the account of mara@example.org (user).\n"),
        (
            &["user", "promote", email, "--reason", "r"],
            "mara@example.org is an administrator from the next request on, and is told by mail.\n",
        ),
        (&["flag", "set", "passwordless_auth", "--on", "--reason", "r"], ""),
    ] {
        let output = command(&database, args);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && out.contains(answer), "{args:?}: {out} {err}");
        assert_eq!(err, "", "{args:?}");
    }
    for (args, why) in [
        (&["user", "create", email, "--admin"][..], "latchkey user promote mara@example.org"),
        (&["user", "promote", email], "already"),
        (&["user", "demote", email], "This is the last administrator."),
    ] {
        let output = command(&database, args);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && err.contains(why) && err.lines().count() == 1, "{args:?}: {err}");
    }
    let output = command(&database, &["user", "create", "ada@example.org", "-v"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("user.created"));

    // Of the server that this configuration starts.
    let healthcheck = |listen: &str| {
        Command::new(env!("CARGO_BIN_EXE_latchkey"))
            .arg("healthcheck")
            .env_clear()
            .envs([("APP_ENV", "development"), ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none"), ("LISTEN_ADDR", listen)])
            .output()
            .expect("the binary runs")
    };
    let server = Server::start(&database, &sink, "on").await;
    let alive = healthcheck(&format!("0.0.0.0:{}", server.address.port()));
    assert_eq!(String::from_utf8_lossy(&alive.stdout), format!("http://{}/healthz: alive\n", server.address));
    assert_eq!(alive.status.code(), Some(0));
    let dead = healthcheck("127.0.0.1:1");
    let err = String::from_utf8_lossy(&dead.stderr);
    assert!(dead.status.code() == Some(1) && err.lines().count() == 1 && err.contains("no connection"), "{err}");
}
