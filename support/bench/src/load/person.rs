//! One person: asks for a link, waits for the mail, opens the link, presses the button, looks at the account.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use http::{Method, StatusCode, header::RETRY_AFTER};
use testkit::{Browser, Reply, SmtpSink};
use tokio::time::{Instant, timeout};

use crate::client::{asking_for, client};

/// How long people wait for a mail before they give up.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than the server gives itself.
const ANSWER: Duration = Duration::from_secs(12);

/// Who it is that comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// With an address and a network of their own.
    Somebody,
    /// With an address of their own, from the network of many others.
    Colleague,
    /// From a network of their own, for an address that many others ask for too and none of them reads.
    Stranger,
}

impl Actor {
    /// One in ten of each crowd.
    pub fn of(n: u32) -> Self {
        match n % 10 {
            3 => Self::Colleague,
            7 => Self::Stranger,
            _ => Self::Somebody,
        }
    }
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    SignedIn,
    /// The request was taken, and that was all a stranger came for.
    Asked,
    /// By this page, for so many seconds.
    Limited {
        page: String,
        seconds: u64,
    },
    NoMail,
    /// What was answered where, instead of what should have been.
    Failed(String),
}

pub struct Visit {
    pub end: End,
    /// Of each page, how long it took: from when the person came, or had the page before it.
    pub pages: Vec<(&'static str, Duration)>,
    /// From when the link was asked for until the mail server had it.
    pub mail: Option<Duration>,
    /// How long after its time it began. Part of the first page's time, since people don't wait for us to be ready.
    pub late: Duration,
}

pub struct Person {
    who: Actor,
    pub email: String,
    client: Browser,
    since: Instant,
    pages: Vec<(&'static str, Duration)>,
    mail: Option<Duration>,
}

impl Person {
    /// The `n`th.
    pub fn new(n: u32, server: SocketAddr) -> Self {
        let who = Actor::of(n);
        // RFC 2544 set these apart for measurements.
        let own = Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() | (n & 0x1_ffff));
        let (from, email) = match who {
            Actor::Somebody => (own, format!("person{n}@example.org")),
            Actor::Colleague => (Ipv4Addr::new(203, 0, 113, 7), format!("colleague{n}@example.org")),
            Actor::Stranger => (own, "wanted@example.org".to_owned()),
        };
        Self { who, email, client: client(server, from), since: Instant::now(), pages: Vec::new(), mail: None }
    }

    /// Comes at `due`.
    pub async fn visit(mut self, sink: &SmtpSink, due: Instant) -> Visit {
        self.since = due;
        let late = due.elapsed();
        let end = self.sign_in(sink).await.unwrap_or_else(|end| end);
        Visit { end, pages: self.pages, mail: self.mail, late }
    }

    async fn sign_in(&mut self, sink: &SmtpSink) -> Result<End, End> {
        self.get("GET /login", "/login", "").await?;
        let asked = Instant::now();
        self.post("POST /login", "/login", asking_for(&self.email), "/login/sent").await?;
        self.get("GET /login/sent", "/login/sent", "").await?;
        if self.who == Actor::Stranger {
            return Ok(End::Asked);
        }
        let mail = timeout(PATIENCE, sink.nth_about(&self.email, "Sign in to Latchkey", 1)).await.map_err(|_| End::NoMail)?;
        self.mail = Some(asked.elapsed());
        self.since = Instant::now();
        self.get("GET /login/verify", &mail.link(), "/login/confirm").await?;
        self.get("GET /login/confirm", "/login/confirm", "").await?;
        self.post("POST /login/confirm", "/login/confirm", String::new(), "/account").await?;
        self.get("GET /account", "/account", "").await?;
        Ok(End::SignedIn)
    }

    async fn get(&mut self, page: &'static str, path: &str, leads: &str) -> Result<(), End> {
        let reply = timeout(ANSWER, self.client.try_send(Method::GET, path, String::new())).await;
        self.judge(page, reply.ok(), leads)
    }

    async fn post(&mut self, page: &'static str, path: &str, form: String, leads: &str) -> Result<(), End> {
        let reply = timeout(ANSWER, self.client.try_send(Method::POST, path, form)).await;
        self.judge(page, reply.ok(), leads)
    }

    /// `leads`: where the answer has to lead; empty: it has to be the page itself.
    fn judge(&mut self, page: &'static str, reply: Option<anyhow::Result<Reply>>, leads: &str) -> Result<(), End> {
        let now = Instant::now();
        self.pages.push((page, now - self.since));
        self.since = now;
        let failed = |why: &str| Err(End::Failed(format!("{page}: {why}")));
        let reply = match reply {
            None => return failed("no answer in time"),
            Some(Err(error)) => return failed(&format!("{error:#}")),
            Some(Ok(reply)) => reply,
        };
        match reply.status {
            StatusCode::TOO_MANY_REQUESTS => Err(limited(&reply)),
            StatusCode::OK if leads.is_empty() => Ok(()),
            StatusCode::SEE_OTHER if reply.location() == leads => Ok(()),
            status => failed(&format!("{status} {}", reply.location())),
        }
    }
}

fn limited(reply: &Reply) -> End {
    let between = |from: &str, to: &str| reply.body.split_once(from).and_then(|(_, rest)| Some(rest.split_once(to)?.0.to_owned()));
    let page = between("<h1>", "</h1>").unwrap_or_else(|| "a page without a heading".to_owned());
    let seconds = reply.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0);
    End::Limited { page, seconds }
}
