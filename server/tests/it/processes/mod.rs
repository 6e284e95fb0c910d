//! The real binary, on a real database, over real sockets and real mail.

mod account;
mod api_keys;
mod audit;
mod docs;
mod docs_commands;
mod doctor;
mod logs;
mod mail_raw;
mod mail_tls;
mod metrics;
mod outages;
mod restore;
mod rollout;
mod secrets;
mod smoke;
mod thorough;
mod traces;
mod two_factor;

use std::{
    net::SocketAddr,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use testkit::{Browser, Database, SmtpSink};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};

/// A server that hasn't ended by then never will: it takes 44 seconds at most, on a machine that does nothing else.
const ENDS_WITHIN: Duration = Duration::from_mins(2);

const ORIGIN: &str = "http://localhost:4000";

struct Server {
    address: SocketAddr,
    process: Child,
}

impl Server {
    async fn start(database: &Database, sink: &SmtpSink, limits: &str) -> Self {
        Self::start_with(database, &[("EMAIL_SMTP", &sink.url()), ("LIMITS", limits)]).await
    }

    async fn start_with(database: &Database, variables: &[(&str, &str)]) -> Self {
        Self::start_logging_to(database, variables, Stdio::null()).await
    }

    async fn start_logging_to(database: &Database, variables: &[(&str, &str)], log: Stdio) -> Self {
        // The port is free a moment before the server takes it, which is as good as a test gets without passing sockets.
        let address = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound");
        let process = Command::new(env!("CARGO_BIN_EXE_latchkey"))
            .arg("serve")
            .env_clear()
            .envs([
                ("APP_ENV", "development"),
                ("DATABASE_URL", database.url.as_str()),
                ("DATABASE_MIGRATOR_URL", database.owner_url.as_str()),
                ("LISTEN_ADDR", &address.to_string()),
                ("BASE_URL", ORIGIN),
                ("WALLET_ENCRYPTION_KEY", "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="),
            ])
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        let mut server = Self { address, process };
        server.wait_ready().await;
        server
    }

    async fn wait_ready(&mut self) {
        let ready = async {
            loop {
                let answer = self.try_get("/readyz").await;
                if answer.as_ref().is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                    return;
                }
                if let Some(status) = self.process.try_wait().expect("it is a child") {
                    panic!("the server ended: {status}");
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), ready).await.expect("the server gets ready");
    }

    /// `None` where nobody answers.
    async fn try_get(&self, path: &str) -> Option<String> {
        try_get_at(self.address, path).await
    }

    fn id(&self) -> u32 {
        self.process.id().expect("nobody has waited for it")
    }

    fn terminate(&self) {
        let sent = std::process::Command::new("kill").args(["-TERM", &self.id().to_string()]).status().expect("kill runs");
        assert!(sent.success());
    }

    async fn wait(mut self) -> ExitStatus {
        tokio::time::timeout(ENDS_WITHIN, self.process.wait()).await.expect("it ends").expect("it is a child")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.start_kill();
        while matches!(self.process.try_wait(), Ok(None)) {
            std::thread::yield_now();
        }
    }
}

async fn try_get_at(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost:4000\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

/// In KiB.
fn peak_memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

async fn count(pool: &sqlx::PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.expect("the count can be read")
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_parallel_redemptions_over_two_servers_give_one_session() {
    let (database, sink) = (Database::new().await, SmtpSink::start().await);
    // Without limits: of 64 codes at once from one network, 34 would be told to wait, and these are to race.
    let servers = [Server::start(&database, &sink, "off").await, Server::start(&database, &sink, "off").await];
    let pool = database.pool_of(1).await;
    for (kind, n) in [("link", 1), ("code", 2), ("link against code", 3)] {
        let mut browser = Browser::new(servers[0].address, ORIGIN);
        let email = format!("mara{n}@example.org");
        assert_eq!(browser.post("/login", &[("email", &email)]).await.location(), "/login/sent");
        let mail = sink.nth_to(&email, 1).await;
        assert_eq!(browser.get(&mail.link()).await.location(), "/login/confirm");
        let code = mail.code();

        let tries = (0..64).map(|n| {
            let mut browser = browser.at(servers[n % 2].address);
            let by_link = match kind {
                "link" => true,
                "code" => false,
                _ => n % 4 < 2,
            };
            let code = code.clone();
            tokio::spawn(async move {
                if by_link {
                    browser.post("/login/confirm", &[]).await
                } else {
                    browser.post("/login/sent", &[("code", &code)]).await
                }
            })
        });
        let mut won = 0;
        for answer in tries.collect::<Vec<_>>() {
            let answer = answer.await.expect("no panic");
            // The loser's answer may reach the browser last, and must leave it the winner's cookie.
            let cookies = answer.headers.get_all("set-cookie").iter().filter_map(|cookie| cookie.to_str().ok());
            let session_cookies = cookies.filter(|cookie| cookie.starts_with("__Host-latchkey=")).count();
            assert_eq!(session_cookies, usize::from(answer.status == 303), "{kind}");
            match answer.status.as_u16() {
                303 => {
                    assert_eq!(answer.location(), "/account", "{kind}");
                    won += 1;
                }
                410 => {}
                other => panic!("{kind}: {other}"),
            }
        }
        assert_eq!(won, 1, "{kind}");
        assert_eq!(count(&pool, "select count(*) from sessions where user_id is not null").await, n, "{kind}");
        assert_eq!(count(&pool, "select count(*) from auth_audit where event_type = 'session.created'").await, n, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_on_one_server_is_signing_out_on_both() {
    let (database, sink) = (Database::new().await, SmtpSink::start().await);
    let servers = [Server::start(&database, &sink, "on").await, Server::start(&database, &sink, "on").await];
    let mut browser = Browser::new(servers[0].address, ORIGIN);
    browser.post("/login", &[("email", "mara@example.org")]).await;
    let code = sink.nth_to("mara@example.org", 1).await.code();
    browser.post("/login/sent", &[("code", &code)]).await;
    let stolen = browser.clone();
    assert_eq!(stolen.at(servers[1].address).get("/account").await.status, 200);
    browser.post("/logout", &[]).await;
    for server in &servers {
        assert_eq!(stolen.at(server.address).get("/account").await.location(), "/login?next=/account");
    }
}

/// SIGTERM: not ready at once, the request under way is answered, the process ends well.
#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_says_so_and_finishes_what_it_has() {
    let (database, sink) = (Database::new().await, SmtpSink::start().await);
    let server = Server::start(&database, &sink, "on").await;

    // Headers and half of a form: a request in flight for as long as the test wants.
    let body = "email=mara%40example.org";
    let mut in_flight = TcpStream::connect(server.address).await.expect("connected");
    let head = format!(
        "POST /login HTTP/1.1\r\nHost: localhost:4000\r\nOrigin: {ORIGIN}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{}",
        body.len(),
        &body[..5]
    );
    in_flight.write_all(head.as_bytes()).await.expect("sent");
    assert!(
        server.try_get("/healthz").await.expect("an answer").starts_with("HTTP/1.1 200"),
        "the half request was read before this one"
    );

    server.terminate();
    let draining = async {
        loop {
            match server.try_get("/readyz").await {
                Some(answer) if answer.starts_with("HTTP/1.1 503") => return,
                Some(_) => tokio::task::yield_now().await,
                None => panic!("the door was closed before it said 503"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), draining).await.expect("not ready from the signal on");

    in_flight.write_all(&body.as_bytes()[5..]).await.expect("the rest is taken");
    let mut answer = String::new();
    in_flight.read_to_string(&mut answer).await.expect("answered and closed");
    assert!(answer.starts_with("HTTP/1.1 303") && answer.contains("location: /login/sent"), "{answer}");
    let status = server.wait().await;
    assert!(status.success(), "{status}");
}
