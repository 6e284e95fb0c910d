//! `latchkey doctor` on the real binary: each fault is named, and keeps no other check from being made.

use std::{
    io,
    process::{Command, Stdio},
};

use serde_json::Value;
use testkit::{Database, SmtpSink};

use super::{
    ORIGIN, Server,
    two_factor::{between, now, shown},
};
use testkit::{Act, Browser, Fault, Stage};

const KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

struct Diagnosis {
    code: Option<i32>,
    checks: Vec<(String, String, String)>,
}

impl Diagnosis {
    fn of(name: &str, checks: &[(String, String, String)]) -> (String, String) {
        let found = checks.iter().find(|(check, ..)| check == name).unwrap_or_else(|| panic!("no {name} in {checks:?}"));
        (found.1.clone(), found.2.clone())
    }

    fn says(&self, name: &str, outcome: &str, part: &str) {
        let (found, message) = Self::of(name, &self.checks);
        assert_eq!(found, outcome, "{name}: {message}");
        assert!(message.contains(part) && !message.contains('\n'), "{name}: {message}");
    }

    fn failed(&self) -> Vec<&str> {
        self.checks.iter().filter(|(_, outcome, _)| outcome == "failed").map(|(name, ..)| name.as_str()).collect()
    }
}

fn doctor(variables: &[(&str, &str)]) -> Diagnosis {
    let output = Command::new(env!("CARGO_BIN_EXE_latchkey"))
        .args(["doctor", "--json"])
        .env_clear()
        .envs([("APP_ENV", "development"), ("BASE_URL", ORIGIN), ("WALLET_ENCRYPTION_KEY", KEY)])
        .envs(variables.iter().copied())
        .output()
        .expect("the binary runs");
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    let text = |check: &Value, field: &str| check[field].as_str().expect("a text").to_owned();
    let checks = report["checks"].as_array().expect("a list").iter();
    let checks = checks.map(|check| (text(check, "name"), text(check, "outcome"), text(check, "message"))).collect();
    Diagnosis { code: output.status.code(), checks }
}

fn of<'a>(database: &'a Database, more: &[(&'a str, &'a str)]) -> Diagnosis {
    let urls = [("DATABASE_URL", database.url.as_str()), ("DATABASE_MIGRATOR_URL", database.owner_url.as_str())];
    doctor(&urls.iter().chain(more).copied().collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_wrong_nothing_failed() {
    let (database, sink) = (Database::new().await, SmtpSink::start().await);
    let mail = format!("smtp://mailer:secret@{}", sink.address);
    let found = of(&database, &[("EMAIL_SMTP", &mail)]);
    assert_eq!((found.code, found.failed()), (Some(0), vec![]), "{:?}", found.checks);
    found.says("roles", "ok", "owns nothing");
    found.says("addresses", "ok", "");
    found.says("pooler", "ok", "");
    found.says("mail server", "ok", "knows the user and password");
    found.says("flag", "ok", "passwordless_auth is on, by FEATURE_PASSWORDLESS_AUTH");
    found.says("audit", "warning", "this month and next month");
    assert!(
        sink.heard(false).iter().all(|verb| ["EHLO", "AUTH", "MAIL", "RCPT", "RSET", "QUIT"].contains(&verb.as_str())),
        "nothing is sent"
    );

    // A running server makes the months.
    let _server = Server::start(&database, &sink, "on").await;
    let made = "select count(*) from pg_inherits where inhparent = 'auth_audit'::regclass";
    let pool = database.pool_of(1).await;
    while super::count(&pool, made).await < 3 {
        tokio::task::yield_now().await;
    }
    of(&database, &[]).says("audit", "ok", "");
    let routed = "insert into users (id, email, email_key, is_admin, created_at)
                  select id, local || '@company.example', local || '@company.example', false, now()
                  from (values ('00000000-0000-7000-8000-000000000001'::uuid, 'outsider%evil.example'),
                               ('00000000-0000-7000-8000-000000000002'::uuid, 'evil.example!b'),
                               ('00000000-0000-7000-8000-000000000003'::uuid, 'a/b')) as made (id, local)";
    sqlx::query(routed).execute(&pool).await.expect("inserted");
    let found = of(&database, &[]);
    found.says("addresses", "warning", "before the @): 2; ");
    found.says(
        "addresses",
        "warning",
        "00000000-0000-7000-8000-000000000001 o•••••@company.example, 00000000-0000-7000-8000-000000000002 e",
    );
    assert!(found.checks.iter().all(|(.., message)| !message.contains("evil.example")), "never a whole address");
    let row = "insert into feature_flags (key, percent_admins, updated_at, updated_by, reason)
               values ('passwordless_auth', 5, now(), 'test', 'test')";
    sqlx::query(row).execute(&pool).await.expect("inserted");
    of(&database, &[]).says("flag", "ok", "0 % of everyone, 5 % of administrators and 0 addresses");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_keeps_no_other_check_from_being_made() {
    let sink = SmtpSink::start().await;
    let found = doctor(&[("DATABASE_URL", "postgres://latchkey_app:hunter2@127.0.0.1:1/latchkey"), ("EMAIL_SMTP", &sink.url())]);
    assert_eq!((found.code, found.failed()), (Some(1), vec!["database"]), "{:?}", found.checks);
    found.says("database", "failed", "DATABASE_URL");
    for name in ["owner", "pooler", "migrations", "roles", "clock", "addresses", "keys", "flag", "audit"] {
        found.says(name, "skipped", "the database does not answer");
    }
    found.says("mail server", "ok", "");
    assert!(found.checks.iter().all(|(.., message)| !message.contains("hunter2")));
}

#[tokio::test]
async fn mistakes_of_the_configuration_are_told_all_at_once() {
    let found = doctor(&[("SESSION_MAX", "soon"), ("LIMITS", "maybe")]);
    assert_eq!((found.code, found.checks.len()), (Some(1), 1));
    found.says("configuration", "failed", "SESSION_MAX");
    found.says("configuration", "failed", "LIMITS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_migration_fails_and_the_owner_as_application_is_a_warning() {
    let database = Database::empty().await;
    of(&database, &[]).says("migrations", "failed", "016");
    of(&database, &[]).says("roles", "failed", "run `latchkey migrate`");

    let database = Database::new().await;
    let owner = database.owner().await;
    sqlx::query("delete from _sqlx_migrations where version = 19").execute(&owner).await.expect("the owner may");
    let found = of(&database, &[]);
    assert_eq!((found.code, found.failed()), (Some(1), vec!["migrations"]), "{:?}", found.checks);
    found.says("migrations", "failed", "019 pending; run `latchkey migrate`");

    let database = Database::new().await;
    let found = doctor(&[("DATABASE_URL", &database.owner_url)]);
    assert_eq!((found.code, found.failed()), (Some(0), vec![]), "{:?}", found.checks);
    found.says("roles", "warning", "could alter or drop the audit");
}

/// Also of one month alone, or of one column: each undoes what guards the audit from the application.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_to_change_the_audit_is_found_wherever_it_is() {
    let database = Database::new().await;
    let (owner, app) = (database.owner().await, database.pool_of(1).await);
    let role: String = sqlx::query_scalar("select current_user").fetch_one(&app).await.expect("a role");
    for right in [
        "delete on auth_audit_default",
        "update (details) on auth_audit_default",
        "insert on auth_audit_default",
        "insert (position) on auth_audit",
        "delete on auth_audit_seals",
    ] {
        let grant = format!("grant {right} to \"{role}\"");
        sqlx::query(sqlx::AssertSqlSafe(grant)).execute(&owner).await.expect("the owner may");
        of(&database, &[]).says("roles", "warning", "may change the audit");
        let revoke = format!("revoke {right} from \"{role}\"");
        sqlx::query(sqlx::AssertSqlSafe(revoke)).execute(&owner).await.expect("the owner may");
        of(&database, &[]).says("roles", "ok", "may only add to the audit");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_says_no_is_named_with_its_reason() {
    let (database, sink) = (Database::new().await, SmtpSink::start().await);
    sink.play(Fault::new(Stage::Auth, Act::Answer(535)));
    let mail = format!("smtp://mailer:hunter2@{}", sink.address);
    let found = of(&database, &[("EMAIL_SMTP", &mail)]);
    assert_eq!((found.code, found.failed()), (Some(1), vec!["mail server"]), "{:?}", found.checks);
    found.says("mail server", "failed", "refused the user and password in EMAIL_SMTP (535)");
    assert!(found.checks.iter().all(|(.., message)| !message.contains("hunter2")));

    let nobody = of(&database, &[("EMAIL_SMTP", "smtp://127.0.0.1:1")]);
    nobody.says("mail server", "failed", "no connection to the mail server");
    // Off this machine, so that the sender is somebody's: still nobody there.
    let sample = of(&database, &[("EMAIL_SMTP", "smtp://127.0.0.1:1"), ("BASE_URL", "https://login.example.org")]);
    sample.says("sender", "warning", "use one of yours");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_secrets_lie_under_and_nobody_has_fails() {
    let (database, sink) = (Database::new().await, SmtpSink::start().await);
    let server = Server::start(&database, &sink, "on").await;
    let pool = database.pool_of(1).await;
    let mut browser = Browser::new(server.address, ORIGIN);
    browser.post("/login", &[("email", "mara@example.org")]).await;
    let code = sink.nth_to("mara@example.org", 1).await.code();
    browser.post("/login/sent", &[("code", &code)]).await;
    browser.post("/account/two-factor/setup/start", &[]).await;
    let setup = browser.get("/account/two-factor/setup").await.body;
    let key = between(&setup, "class=\"copy mono\">", "<").replace(' ', "");
    assert_eq!(browser.post("/account/two-factor/setup", &[("code", &shown(&key, now(&pool).await))]).await.status, 200);

    of(&database, &[]).says("keys", "ok", "1 two-factor secrets");
    let other = [("WALLET_ENCRYPTION_KEY", "IAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")];
    let found = of(&database, &other);
    assert_eq!((found.code, found.failed()), (Some(1), vec!["keys"]), "{:?}", found.checks);
    found.says("keys", "failed", "WALLET_ENCRYPTION_KEY_PREVIOUS");
    let both = [other[0], ("WALLET_ENCRYPTION_KEY_PREVIOUS", KEY)];
    of(&database, &both).says("keys", "ok", "");
}

/// Beside the binary's other commands: one that finds something exits with 1, and tells ids only.
#[tokio::test(flavor = "multi_thread")]
async fn reconcile_tells_what_it_found() {
    let (database, sink) = (Database::new().await, SmtpSink::start().await);
    let server = Server::start(&database, &sink, "on").await;
    let pool = database.pool_of(1).await;
    let mut browser = Browser::new(server.address, ORIGIN);
    browser.post("/login", &[("email", "mara@example.org")]).await;
    let code = sink.nth_to("mara@example.org", 1).await.code();
    browser.post("/login/sent", &[("code", &code)]).await;
    let broken = "update sessions set magic_link_id = null where user_id is not null returning id";
    let session: uuid::Uuid = sqlx::query_scalar(broken).fetch_one(&pool).await.expect("a session");
    let run = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_latchkey"))
            .arg("reconcile")
            .args(args)
            .env_clear()
            .envs([
                ("APP_ENV", "development"),
                ("DATABASE_URL", &database.url),
                ("BASE_URL", ORIGIN),
                ("WALLET_ENCRYPTION_KEY", KEY),
            ])
            .output()
            .expect("the binary runs")
    };
    let output = run(&["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let found = &report["findings"][0];
    assert_eq!((&found["kind"], &found["ids"][0]["id"]), (&"session_without_redeemed_link".into(), &session.to_string().into()));
    let words = String::from_utf8(run(&[]).stdout).expect("UTF-8");
    assert!(words.contains(&format!("session {session}")) && !words.contains("example.org"), "{words}");
    assert_eq!(run(&["--since", "yesterday"]).status.code(), Some(2));
}

/// As `latchkey doctor | head -n 1` has it, where `head` was the faster.
#[tokio::test(flavor = "multi_thread")]
async fn who_reads_may_have_seen_enough() {
    let database = Database::new().await;
    for args in [&["doctor"][..], &["doctor", "--json"], &["config", "check"], &["migrate", "--status"]] {
        let (reader, writer) = io::pipe().expect("a pipe");
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_latchkey"))
            .args(args)
            .env_clear()
            .envs([("APP_ENV", "development"), ("BASE_URL", ORIGIN), ("WALLET_ENCRYPTION_KEY", KEY), ("RUST_LOG", "error")])
            .envs([("DATABASE_URL", &database.url), ("DATABASE_MIGRATOR_URL", &database.owner_url)])
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .and_then(std::process::Child::wait_with_output)
            .expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_ne!(output.status.code(), Some(101), "{args:?}: {said}");
        assert!(!said.contains("panicked") && !said.contains("pipe"), "{args:?}: {said}");
    }
}
