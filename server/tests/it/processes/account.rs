//! What is done to an account on one server holds at the next request on the other.

use std::process::{Command, Output};

use testkit::{Browser, Database, SmtpSink};

use super::{
    ORIGIN, Server,
    two_factor::{SIGN_IN, between, now, shown},
};

const MARA: &str = "mara@example.org";
const ROOT: &str = "root@example.org";

/// Runs a command of the binary beside the servers, as an operator does, and well.
pub(super) fn latchkey(database: &Database, args: &[&str]) -> Output {
    let output = ran(database, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// The same, however it ends.
pub(super) fn ran(database: &Database, args: &[&str]) -> Output {
    ran_with(database, args, &[])
}

/// The same, with more in its environment, or other.
pub(super) fn ran_with(database: &Database, args: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_latchkey"))
        .args(args)
        .env_clear()
        .envs([
            ("APP_ENV", "development"),
            ("DATABASE_URL", database.url.as_str()),
            ("BASE_URL", ORIGIN),
            ("WALLET_ENCRYPTION_KEY", "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="),
        ])
        .envs(variables.iter().copied())
        .output()
        .expect("the binary runs")
}

struct Site {
    database: Database,
    sink: SmtpSink,
    servers: [Server; 2],
}

impl Site {
    async fn new() -> Self {
        let (database, sink) = (Database::new().await, SmtpSink::start().await);
        let start = async || {
            let variables = [("EMAIL_SMTP", sink.url()), ("LIMITS", "off".to_owned()), ("REQUIRE_2FA", "none".to_owned())];
            Server::start_with(&database, &variables.each_ref().map(|(name, value)| (*name, value.as_str()))).await
        };
        let servers = [start().await, start().await];
        Self { database, sink, servers }
    }

    /// A browser that signs in on the first server. Its mail is the `nth` of its kind.
    async fn sign_in(&self, email: &str, nth: usize) -> Browser {
        let mut browser = Browser::new(self.servers[0].address, ORIGIN);
        browser.post("/login", &[("email", email)]).await;
        let code = self.sink.nth_about(email, SIGN_IN, nth).await.code();
        assert_eq!(browser.post("/login/sent", &[("code", &code)]).await.location(), "/account");
        browser
    }

    /// What the same browser finds at the other server.
    async fn elsewhere(&self, browser: &Browser, path: &str) -> testkit::Reply {
        browser.at(self.servers[1].address).get(path).await
    }

    async fn is_signed_in(&self, browser: &Browser) -> bool {
        let reply = self.elsewhere(browser, "/account").await;
        assert!(reply.status == 200 || reply.location() == "/login?next=/account", "{}", reply.status);
        reply.status == 200
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_on_one_server_holds_at_the_next_request_on_the_other() {
    let site = Site::new().await;
    let pool = site.database.pool_of(1).await;
    latchkey(&site.database, &["user", "create", ROOT, "--admin"]);
    let mut root = site.sign_in(ROOT, 1).await;

    // Revoked, at the shell.
    let mara = site.sign_in(MARA, 1).await;
    assert!(site.is_signed_in(&mara).await);
    let mistyped = ran(&site.database, &["session", "revoke", "--user", MARA, "--user", "mra@example.org"]);
    assert_eq!(mistyped.status.code(), Some(1));
    assert!(site.is_signed_in(&mara).await, "all or nothing");
    let ended = latchkey(&site.database, &["session", "revoke", "--user", MARA, "--json"]).stdout;
    assert_eq!(String::from_utf8_lossy(&ended).trim(), r#"{"ended":1}"#);
    assert!(!site.is_signed_in(&mara).await);

    // Turned off and on, by an administrator.
    let mara = site.sign_in(MARA, 2).await;
    assert!(site.is_signed_in(&mara).await);
    let id: uuid::Uuid =
        sqlx::query_scalar("select id from users where email = $1").bind(MARA).fetch_one(&pool).await.expect("an account");
    let id = id.to_string();
    let account = format!("/admin/users/{id}");
    let act = [("id", id.as_str()), ("reason", "ticket 7")];
    assert!(root.post("/admin/users/disable", &act).await.location().starts_with(&account));
    assert!(!site.is_signed_in(&mara).await);
    assert!(root.post("/admin/users/enable", &act).await.location().starts_with(&account));

    // Made an administrator, and unmade.
    let mut mara = site.sign_in(MARA, 3).await;
    assert_eq!(site.elsewhere(&mara, "/admin/users").await.status, 404);
    root.post("/admin/users/make-admin", &act).await;
    assert_eq!(site.elsewhere(&mara, "/admin/users").await.status, 200);
    root.post("/admin/users/remove-admin", &act).await;
    assert_eq!(site.elsewhere(&mara, "/admin/users").await.status, 404);

    // Another address: the other session is over, this one goes on by the new name.
    let other = site.sign_in(MARA, 4).await;
    assert!(site.is_signed_in(&other).await);
    assert_eq!(mara.post("/account/email", &[("email", "mara@new.example")]).await.location(), "/account/email");
    let code = site.sink.nth_to("mara@new.example", 1).await.code();
    mara.post("/account/email/code", &[("code", &code)]).await;
    assert!(!site.is_signed_in(&other).await);
    let page = site.elsewhere(&mara, "/account").await;
    assert!(page.status == 200 && page.body.contains("mara@new.example") && !page.body.contains(MARA));

    // Two-factor: the other session is over, and the next sign-in asks for it.
    let other = site.sign_in("mara@new.example", 1).await;
    assert!(site.is_signed_in(&other).await);
    mara.post("/account/two-factor/setup/start", &[]).await;
    let setup = mara.get("/account/two-factor/setup").await.body;
    let key = between(&setup, "class=\"copy mono\">", "<").replace(' ', "");
    assert_eq!(mara.post("/account/two-factor/setup", &[("code", &shown(&key, now(&pool).await))]).await.status, 200);
    assert!(!site.is_signed_in(&other).await);
    assert!(site.is_signed_in(&mara).await);
    latchkey(&site.database, &["user", "reset-2fa", "mara@new.example", "--reason", "ticket 8"]);
    assert!(!site.is_signed_in(&mara).await, "an operator's reset ends every session");
}
