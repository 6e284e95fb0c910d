//! A mail server that says no, nonsense or nothing: what is sent, when, how often, and what people and operators see of it.

use std::{net::SocketAddr, time::Duration};

use sqlx::{PgPool, postgres::PgListener};
use testkit::{Act, Browser, Database, Fault, Manner, Received, Reply, SmtpSink, Stage};
use tokio::{
    net::TcpListener,
    time::{Instant, timeout},
};

use crate::processes::{ORIGIN, Server, peak_memory};

/// Between tries, in seconds.
const WAITS: [f64; 4] = [2.0, 5.0, 15.0, 45.0];
/// More than a page may take, whatever the mail server does.
const AT_ONCE: Duration = Duration::from_secs(2);
const NO_SMTP: &str = "the mail server broke off, or what it says is no SMTP";

/// What became of one try to send a mail, as its row said just then.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Try {
    pub state: String,
    pub error: Option<String>,
    /// To the next one, in seconds.
    wait: f64,
    in_time: bool,
}

/// Every try to send a mail, written down by the database itself: a row is retried sooner than a test on a busy machine may look.
pub(super) struct Tries {
    owner: PgPool,
}

impl Tries {
    pub async fn of(database: &Database) -> Self {
        let owner = database.owner().await;
        let watch = "
            create table tries (n bigserial, mail uuid, state text, error text, wait float8, in_time boolean);
            create function write_down() returns trigger language plpgsql security definer as $$
            begin
                insert into tries (mail, state, error, wait, in_time) values (new.id, new.state, new.last_error,
                    extract(epoch from new.run_at - clock_timestamp()), new.run_at < new.deadline);
                notify tries;
                return null;
            end $$;
            create trigger write_down after update on mail_outbox for each row
                when (old.lease_until is not null and new.lease_until is null) execute function write_down();";
        sqlx::raw_sql(watch).execute(&owner).await.expect("the owner may");
        Self { owner }
    }

    /// Waits until the mail to `email` was tried so often, and returns the last one.
    pub async fn nth(&self, email: &str, n: usize) -> Try {
        let mut news = PgListener::connect_with(&self.owner).await.expect("connected");
        news.listen("tries").await.expect("listening");
        let look = async {
            loop {
                let mut tries: Vec<Try> = sqlx::query_as(
                    "select t.state, error, wait, in_time from tries t join mail_outbox m on m.id = t.mail \
                     join magic_links l on l.id = m.magic_link_id where l.email = $1 order by n",
                )
                .bind(email)
                .fetch_all(&self.owner)
                .await
                .expect("the tries");
                if tries.len() >= n {
                    return tries.swap_remove(n - 1);
                }
                news.recv().await.expect("a try");
            }
        };
        let tried = timeout(Duration::from_secs(40), look).await.unwrap_or_else(|_| panic!("{email} was not tried {n} times"));
        // An error names the fault, never the recipient. Mail servers quote them, and so does the sink.
        assert!(tried.error.as_ref().is_none_or(|error| !error.contains('@')), "{tried:?}");
        tried
    }
}

impl Try {
    /// It will be tried again after `wait` seconds, give or take a fifth. Two clocks say so, the server's and the database's.
    fn assert_waits(&self, wait: f64, error: &str) {
        assert_eq!((self.state.as_str(), self.error.as_deref()), ("queued", Some(error)));
        assert!((wait * 0.8 - 0.5..=wait * 1.2 + 0.5).contains(&self.wait) && self.in_time, "{wait} s: {self:?}");
    }

    fn assert_settled(&self, state: &str, error: Option<&str>) {
        assert_eq!((self.state.as_str(), self.error.as_deref()), (state, error));
    }
}

struct Site {
    tries: Tries,
    pool: PgPool,
    sink: SmtpSink,
    server: Server,
}

impl Site {
    async fn new() -> Self {
        let sink = SmtpSink::start().await;
        let url = sink.url();
        Self::with(sink, &url).await
    }

    async fn with(sink: SmtpSink, url: &str) -> Self {
        let database = Database::new().await;
        let server = Server::start_with(&database, &[("EMAIL_SMTP", url), ("LIMITS", "off")]).await;
        Self { tries: Tries::of(&database).await, pool: database.pool_of(1).await, sink, server }
    }

    async fn ask(&self, email: &str) -> Browser {
        ask(&self.server, email).await.0
    }

    async fn signs_in(&self, browser: &mut Browser, email: &str) {
        let code = self.sink.nth_to(email, 1).await.code();
        assert_eq!(browser.post("/login/sent", &[("code", &code)]).await.location(), "/account", "{email}");
    }

    /// The wait for the next try is over.
    async fn over(&self) {
        let moved = "update mail_outbox set run_at = now() where state = 'queued' and lease_until is null";
        sqlx::query(moved).execute(&self.pool).await.expect("moved");
    }

    async fn attempts(&self, email: &str) -> i32 {
        let attempts = "select m.attempts from mail_outbox m join magic_links l on l.id = m.magic_link_id where l.email = $1";
        sqlx::query_scalar(attempts).bind(email).fetch_one(&self.pool).await.expect("one mail")
    }
}

/// What whoever asks for a mail sees: the answer to the form, and the page it leads to. Neither waits for a mail server.
async fn ask(server: &Server, email: &str) -> (Browser, Reply) {
    let mut browser = Browser::new(server.address, ORIGIN);
    let started = Instant::now();
    let answer = browser.post("/login", &[("email", email)]).await;
    assert_eq!((answer.status.as_u16(), answer.location()), (303, "/login/sent"), "{email}");
    let page = browser.get("/login/sent").await;
    assert_eq!(page.status, 200, "{email}");
    assert!(started.elapsed() < AT_ONCE, "{email}: {:?}", started.elapsed());
    (browser, page)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_recipient_has_an_answer_of_their_own() {
    const GREY: &str = "grey@example.org";
    let site = Site::new().await;
    site.sink.tap();
    site.sink.play(Fault::new(Stage::Rcpt, Act::Refuse("550 5.1.1")).to("gone@example.org"));
    site.sink.play(Fault::new(Stage::Taken, Act::Refuse("552 5.2.2")).to("big@example.org"));
    // Greylisting: who comes again, and with the same mail, is let in.
    site.sink.play(Fault::new(Stage::Rcpt, Act::Answer(450)).to(GREY).times(1));
    site.sink.play(Fault::new(Stage::Taken, Act::Answer(451)).to(GREY).times(1));

    for gone in ["gone@example.org", "big@example.org"] {
        site.ask(gone).await;
    }
    let mut grey = site.ask(GREY).await;
    let mut through = site.ask("through@example.org").await;
    site.signs_in(&mut through, "through@example.org").await;

    site.tries.nth("gone@example.org", 1).await.assert_settled("failed", Some("the mail server refused it (550 5.1.1)"));
    site.tries.nth("big@example.org", 1).await.assert_settled("failed", Some("the mail server refused it (552 5.2.2)"));
    site.tries.nth(GREY, 1).await.assert_waits(WAITS[0], "the mail server refused it for now (450)");
    site.tries.nth(GREY, 2).await.assert_waits(WAITS[1], "the mail server refused it for now (451)");
    site.over().await;
    site.tries.nth(GREY, 3).await.assert_settled("sent", None);
    site.signs_in(&mut grey, GREY).await;

    let taken = site.sink.all_to(GREY);
    assert_eq!(taken.len(), 1);
    let refused = site.sink.tapped().iter().find_map(|said| mail_to(said, GREY)).expect("it came before, and was refused");
    assert_eq!(refused.identity(), taken[0].identity());
    for gone in ["gone@example.org", "big@example.org"] {
        assert_eq!((site.sink.all_to(gone).len(), site.attempts(gone).await), (0, 1), "{gone}");
    }
}

/// The first mail to `recipient` in what a client said.
fn mail_to(said: &[u8], recipient: &str) -> Option<Received> {
    let said = String::from_utf8_lossy(said);
    let (_, rest) = said.split_once(&format!("RCPT TO:<{recipient}>\r\nDATA\r\n"))?;
    let data = rest.split_once("\r\n.\r\n")?.0.to_owned();
    Some(Received { from: String::new(), to: vec![recipient.to_owned()], data })
}

/// No recipient's fault: nothing is lost, however long it takes to mend, and tries grow rarer but end with the link.
#[tokio::test(flavor = "multi_thread")]
async fn what_operators_can_mend_costs_no_mail() {
    let broken = async |stage: Stage, code: u16, error: &str| {
        let sink = SmtpSink::start().await;
        let url = format!("smtp://mailer:secret@{}", sink.address);
        sink.play(Fault::new(stage, if code == 421 { Act::Goodbye } else { Act::Answer(code) }));
        let site = Site::with(sink, &url).await;
        let mut browser = site.ask("mara@example.org").await;
        for (n, wait) in (1..).zip(WAITS) {
            site.tries.nth("mara@example.org", n).await.assert_waits(wait, error);
            if n < WAITS.len() {
                site.over().await;
            }
        }
        site.ask("late@example.org").await;
        site.tries.nth("late@example.org", 1).await.assert_waits(WAITS[0], error);
        let near = "update mail_outbox set deadline = now() + interval '1 second', run_at = now() where attempts = 1";
        sqlx::query(near).execute(&site.pool).await.expect("moved");
        assert_eq!(site.tries.nth("late@example.org", 2).await.state, "expired");

        site.sink.heal();
        site.over().await;
        site.tries.nth("mara@example.org", WAITS.len() + 1).await.assert_settled("sent", None);
        site.signs_in(&mut browser, "mara@example.org").await;
        assert_eq!(site.sink.all_to("late@example.org").len(), 0);
    };
    tokio::join!(
        broken(Stage::Greeting, 421, "the mail server refused it for now (421)"),
        broken(Stage::Greeting, 554, "the mail server takes no mail from this machine (554)"),
        broken(Stage::Auth, 535, "the mail server refused the user and password in EMAIL_SMTP (535)"),
        broken(Stage::Mail, 550, "the mail server refused the sender in EMAIL_FROM (550)"),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_is_not_there_is_waited_for() {
    let address: SocketAddr = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound");
    let database = Database::new().await;
    let url = format!("smtp://{address}");
    let server = Server::start_with(&database, &[("EMAIL_SMTP", &url), ("LIMITS", "off")]).await;
    let tries = Tries::of(&database).await;
    let (mut browser, _) = ask(&server, "mara@example.org").await;
    tries.nth("mara@example.org", 1).await.assert_waits(WAITS[0], "no connection to the mail server");

    let sink = SmtpSink::start_at(address, Manner::Plain).await;
    let code = sink.nth_to("mara@example.org", 1).await.code();
    assert_eq!(browser.post("/login/sent", &[("code", &code)]).await.location(), "/account");
}

/// It was taken, and the answer was lost: it comes once more, the same, and then no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_costs_one_copy() {
    let site = Site::new().await;
    site.sink.play(Fault::new(Stage::Taken, Act::HangUp).times(1));
    let mut browser = site.ask("mara@example.org").await;
    site.tries.nth("mara@example.org", 1).await.assert_waits(WAITS[0], NO_SMTP);
    site.tries.nth("mara@example.org", 2).await.assert_settled("sent", None);
    let copies = site.sink.all_to("mara@example.org");
    assert_eq!(copies.len(), 2);
    assert_eq!(copies[0].identity(), copies[1].identity());
    site.signs_in(&mut browser, "mara@example.org").await;
}

/// Half a minute, which is how long the worker waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_hangs_anywhere_costs_one_lane_for_a_while() {
    const STAGES: [Stage; 7] = [Stage::Greeting, Stage::Ehlo, Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Midway, Stage::Taken];
    let site = Site::new().await;
    let (_, before) = ask(&site.server, "before@example.org").await;
    site.tries.nth("before@example.org", 1).await.assert_settled("sent", None);
    // Every mail has a conversation of its own, from the greeting on.
    site.sink.play(Fault::new(Stage::Noop, Act::HangUp));
    for (stage, n) in STAGES.into_iter().zip(0..) {
        site.sink.play(Fault::new(stage, Act::Silence).times(1));
        site.ask(&format!("stuck{n}@example.org")).await;
        site.sink.fallen_silent(n + 1).await;
    }

    let (mut browser, during) = ask(&site.server, "during@example.org").await;
    site.signs_in(&mut browser, "during@example.org").await;
    assert_eq!(during.body, before.body.replace("before@", "during@"), "who asks is told the same");
    assert_eq!(site.sink.silent(), STAGES.len(), "answered, and sent, while all of them hang");

    for (stage, n) in STAGES.into_iter().zip(0..) {
        let email = format!("stuck{n}@example.org");
        let why = match stage {
            Stage::Greeting | Stage::Ehlo | Stage::Mail => "the mail server took too long",
            _ => "the mail server took too long, at the recipient",
        };
        site.tries.nth(&email, 1).await.assert_waits(WAITS[0], why);
        site.tries.nth(&email, 2).await.assert_settled("sent", None);
        let copies = site.sink.all_to(&email);
        assert_eq!(copies.len(), if stage == Stage::Taken { 2 } else { 1 }, "{stage:?}");
        assert!(copies.iter().all(|copy| copy.identity() == copies[0].identity()), "{stage:?}");
    }
}

/// As many mails as the worker sends at once.
const LANES: usize = 8;

/// Every lane of the worker ends at a mail server that says nothing more: pages don't wait for it, and the mail after those goes
/// out all the same, once the worker has had enough.
async fn mail_server_hangs(stage: Stage) {
    let (database, sink) = (Database::new().await, SmtpSink::start().await);
    sink.play(Fault::new(stage, Act::Silence).during(0..LANES));
    let server = Server::start(&database, &sink, "off").await;
    let ask = async |email: &str| {
        let mut browser = Browser::new(server.address, ORIGIN);
        assert_eq!(browser.post("/login", &[("email", email)]).await.location(), "/login/sent");
        browser
    };
    let stuck: Vec<String> = (0..LANES).map(|n| format!("stuck{n}@example.org")).collect();
    for email in &stuck {
        ask(email).await;
    }
    sink.fallen_silent(LANES).await;

    let mut browser = ask("mara@example.org").await;
    assert_eq!(browser.get("/login/sent").await.status, 200);
    assert_eq!(sink.silent(), LANES, "answered while all of them hang");

    let code = sink.nth_to("mara@example.org", 1).await.code();
    assert_eq!(browser.post("/login/sent", &[("code", &code)]).await.location(), "/account");
    for email in &stuck {
        match stage {
            // What was taken without a word is sent again, as the same mail.
            Stage::Taken => {
                let (first, second) = (sink.nth_to(email, 1).await, sink.nth_to(email, 2).await);
                assert_eq!(first.identity(), second.identity());
            }
            _ => drop(sink.nth_to(email, 1).await),
        }
    }
}

/// Half a minute, which is how long the worker waits; so both at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_mail_server_that_hangs_costs_no_page_and_no_other_mail() {
    tokio::join!(mail_server_hangs(Stage::Greeting), mail_server_hangs(Stage::Taken));
}

/// Bytes that are no SMTP, lines without end and single bytes now and then: neither memory nor anybody else's mail.
#[tokio::test(flavor = "multi_thread")]
async fn nonsense_costs_neither_memory_nor_mail() {
    let site = Site::new().await;
    site.ask("warm@example.org").await;
    site.tries.nth("warm@example.org", 1).await.assert_settled("sent", None);
    let before = peak_memory(&site.server);
    let mebibyte = [vec![b'2'; 1024 * 1024], b"\r\n".to_vec()].concat();
    let nonsense = [
        ("garbage@example.org", Act::Say(b"\0\xff\x16\x03\x01\r\n".to_vec()), NO_SMTP),
        ("mebibyte@example.org", Act::Say(mebibyte), NO_SMTP),
        ("endless@example.org", Act::Endless, NO_SMTP),
        // Eight bytes.
        ("dribbling@example.org", Act::Slow(Duration::from_secs(4)), "the mail server took too long"),
    ];
    let mut browsers = Vec::new();
    for (email, act, _) in &nonsense {
        site.sink.play(Fault::new(Stage::Rcpt, act.clone()).to(*email).times(1));
        browsers.push(site.ask(email).await);
    }
    let mut through = site.ask("through@example.org").await;
    site.signs_in(&mut through, "through@example.org").await;
    for ((email, _, error), browser) in nonsense.iter().zip(&mut browsers) {
        site.tries.nth(email, 1).await.assert_waits(WAITS[0], &format!("{error}, at the recipient"));
        site.tries.nth(email, 2).await.assert_settled("sent", None);
        site.signs_in(browser, email).await;
        assert_eq!(site.sink.all_to(email).len(), 1, "{email}");
    }
    let grown = peak_memory(&site.server) - before;
    assert!(grown < 32 * 1024, "{grown} KiB more than with a mail server that behaves");
}
