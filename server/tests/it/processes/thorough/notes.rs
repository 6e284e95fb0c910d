//! `examples/notes`, an application in another language, signs people in through the API alone.

use std::{
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    time::Duration,
};

use testkit::{Browser, Database, SmtpSink};
use tokio::net::TcpListener;

use crate::processes::{
    Server, count,
    two_factor::{SIGN_IN, between, enrol, half_a_minute_passes, now, shown},
};

const MARA: &str = "mara@example.org";

struct Notes {
    process: Child,
    address: SocketAddr,
    origin: String,
}

impl Notes {
    /// With the server it asks, which mails to `sink`.
    async fn start(database: &Database, sink: &SmtpSink) -> (Self, Server) {
        let port = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound").port();
        let origin = format!("http://localhost:{port}");
        let variables = [("EMAIL_SMTP", sink.url()), ("LIMITS", "off".to_owned()), ("REDIRECT_URLS", format!("{origin}/link"))];
        let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
        let server = Server::start_with(database, &variables).await;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/notes/notes.py");
        let process = Command::new("python3")
            .arg(script)
            .env_clear()
            .envs([
                ("LATCHKEY_URL", format!("http://{}", server.address).as_str()),
                ("LATCHKEY_API_KEY", &make_key(database)),
                ("NOTES_URL", &origin),
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 runs");
        let notes = Self { process, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), origin };
        let listens = async {
            while tokio::net::TcpStream::connect(notes.address).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), listens).await.expect("it listens");
        (notes, server)
    }

    fn browser(&self) -> Browser {
        Browser::new(self.address, self.origin.clone())
    }

    /// All it has printed; it is over then.
    fn log(mut self) -> String {
        self.process.kill().expect("it runs until now");
        let printed = self.process.stdout.take().expect("piped");
        BufReader::new(printed).lines().map_while(Result::ok).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Made at the shell, as its README says.
fn make_key(database: &Database) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_latchkey"))
        .args(["apikey", "create", "Notes", "--scope", "signin", "--scope", "sessions", "--json"])
        .env_clear()
        .envs([
            ("APP_ENV", "development"),
            ("DATABASE_URL", database.url.as_str()),
            ("DATABASE_MIGRATOR_URL", database.owner_url.as_str()),
            ("WALLET_ENCRYPTION_KEY", "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="),
        ])
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    between(&String::from_utf8(output.stdout).expect("UTF-8"), "\"key\":\"", "\"").to_owned()
}

/// The mail's link, as a path of the application's.
fn link_of(text: &str, origin: &str) -> String {
    let (_, rest) = text.split_once(origin).unwrap_or_else(|| panic!("no link to {origin} in {text}"));
    rest.split(|c: char| c.is_whitespace() || c == '"').next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_in_another_language_signs_people_in_by_code_and_by_link() {
    let (database, sink) = (Database::new().await, SmtpSink::start().await);
    let pool = database.pool_of(1).await;
    let (notes, _server) = Notes::start(&database, &sink).await;
    let mut browser = notes.browser();
    assert!(browser.get("/").await.body.contains("Email me a code"));
    assert!(browser.post("/sign-in", &[("email", MARA)]).await.body.contains("We sent a link and a code"));
    let (code, before) = (sink.nth_about(MARA, SIGN_IN, 1).await.code(), browser.cookies.clone());
    let wrong = format!("{}{}", if code.starts_with('9') { '0' } else { '9' }, &code[1..]);
    assert_eq!(browser.post("/code", &[("code", &wrong)]).await.status, 422);
    let signed_in = browser.post("/code", &[("code", &code)]).await;
    assert_eq!((signed_in.status.as_u16(), signed_in.location()), (303, "/"));
    let cookie = signed_in.headers["set-cookie"].to_str().expect("ASCII");
    assert!(cookie.starts_with("__Host-notes=") && cookie.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax"), "{cookie}");
    assert_ne!(browser.cookies, before, "what stood for a stranger stands for nobody");
    assert!(browser.get("/").await.body.contains("Signed in as mara@example.org (users)."));

    browser.post("/notes", &[("note", "<b>milk</b>")]).await;
    assert!(browser.get("/").await.body.contains("&lt;b&gt;milk&lt;/b&gt;"));
    let mut forged = Browser::new(notes.address, "https://evil.example");
    forged.cookies.clone_from(&browser.cookies);
    assert_eq!(forged.post("/sign-out", &[]).await.status, 403);
    assert_eq!(browser.post("/sign-out", &[]).await.status, 303);
    assert!(browser.get("/").await.body.contains("Email me a code"));
    assert_eq!(count(&pool, "select count(*) from sessions where audience = 'api' and revoke_reason = 'signed_out'").await, 1);

    // By link: nothing happens until the button is pressed, and nothing at all in another browser.
    browser.post("/sign-in", &[("email", MARA)]).await;
    let link = link_of(&sink.nth_about(MARA, SIGN_IN, 2).await.text(), &notes.origin);
    assert_eq!(notes.browser().get(&link).await.status, 403);
    assert_eq!(browser.get(&link).await.location(), "/link");
    assert!(browser.get("/link").await.body.contains("Press the button to sign in as mara@example.org."));
    assert_eq!(count(&pool, "select count(*) from magic_links where used = 1").await, 1);
    assert_eq!(browser.post("/link", &[]).await.location(), "/");
    assert!(browser.get("/").await.body.contains("Your notes"));
    assert!(!notes.log().contains("token"), "no link's token in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_asks_for_the_second_factor_and_is_told_at_once_when_the_owner_ends_its_session() {
    let (database, sink) = (Database::new().await, SmtpSink::start().await);
    let pool = database.pool_of(1).await;
    let (notes, server) = Notes::start(&database, &sink).await;
    let mut owner = enrol(&server, &sink, &pool).await;
    let mut browser = notes.browser();
    browser.post("/sign-in", &[("email", MARA)]).await;
    let code = sink.nth_about(MARA, SIGN_IN, 2).await.code();
    assert!(browser.post("/code", &[("code", &code)]).await.body.contains("One more step"));
    assert!(browser.get("/").await.body.contains("Email me a code"), "one factor of two opens nothing");
    half_a_minute_passes(&pool).await;
    assert_eq!(browser.post("/second-factor", &[("code", &shown(&owner.key, now(&pool).await))]).await.location(), "/");
    assert!(browser.get("/").await.body.contains("Your notes"));

    assert!(owner.browser.get("/account/sessions").await.body.contains("Notes, Firefox on Windows"));
    owner.browser.post("/account/sessions/end-others", &[]).await;
    assert!(browser.get("/").await.body.contains("Email me a code"));
}
