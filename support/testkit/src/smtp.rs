//! A mail server on a real socket that keeps what it is sent, and can be told to behave worse than that.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

pub use smtp_sink::Stage;
use smtp_sink::{Connection, Message, Opening, Server, Turn, code, converse, link, say};
use tokio::{
    io::{AsyncRead, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

/// A mail as it came over the wire.
#[derive(Debug, Clone)]
pub struct Received {
    pub from: String,
    pub to: Vec<String>,
    pub data: String,
}

impl Received {
    /// What it says.
    #[must_use]
    pub fn text(&self) -> String {
        smtp_sink::text(&self.data)
    }

    /// The path and query of the sign-in link.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn link(&self) -> String {
        let text = self.text();
        let link = link(&text).expect("the mail holds a sign-in link");
        link[link.find("/login/").unwrap_or(0)..].to_owned()
    }

    /// The six digits.
    ///
    /// # Panics
    /// Where there are none.
    #[must_use]
    pub fn code(&self) -> String {
        code(&self.text()).expect("the mail holds a code")
    }

    /// What is the same in every copy of a mail: its Message-ID, its link and its code.
    ///
    /// # Panics
    /// Where it lacks one of them.
    #[must_use]
    pub fn identity(&self) -> (String, String, String) {
        let id = self.data.lines().find_map(|line| line.strip_prefix("Message-ID: ")).expect("every mail has one");
        (id.to_owned(), self.link(), self.code())
    }
}

/// How a server speaks while nothing is the matter.
#[derive(Clone)]
pub enum Manner {
    /// No TLS, and none offered; but a way to sign in is, to clients that would say a password in clear.
    Plain,
    /// Offers STARTTLS.
    StartTls(Arc<ServerConfig>),
    /// TLS from the first byte.
    Tls(Arc<ServerConfig>),
}

/// What is done instead of giving the right answer.
#[derive(Debug, Clone)]
pub enum Act {
    /// This code, in words that repeat what the client said, as servers do.
    Answer(u16),
    /// 421, and hangs up.
    Goodbye,
    /// Says nothing more, until the client hangs up.
    Silence,
    HangUp,
    /// Refuses with this code and its enhanced code, as [`Act::Answer`].
    Refuse(&'static str),
    /// These bytes.
    Say(Vec<u8>),
    /// One line, for as long as the client reads.
    Endless,
    /// The right answer, after a while.
    Late(Duration),
    /// The right answer, so long between two bytes.
    Slow(Duration),
}

/// Something that goes wrong: always, until it is narrowed down.
#[derive(Debug, Clone)]
pub struct Fault {
    stage: Stage,
    act: Act,
    conversations: Range<usize>,
    recipient: Option<String>,
    left: usize,
}

impl Fault {
    #[must_use]
    pub fn new(stage: Stage, act: Act) -> Self {
        Self { stage, act, conversations: 0..usize::MAX, recipient: None, left: usize::MAX }
    }

    /// In these conversations only, counted from 0.
    #[must_use]
    pub fn during(self, conversations: Range<usize>) -> Self {
        Self { conversations, ..self }
    }

    /// Of a mail to this address only, so not before [`Stage::Rcpt`].
    #[must_use]
    pub fn to(self, recipient: impl Into<String>) -> Self {
        Self { recipient: Some(recipient.into()), ..self }
    }

    /// So often only.
    #[must_use]
    pub fn times(self, left: usize) -> Self {
        Self { left, ..self }
    }

    /// Whether this is its turn, which is then one fewer.
    fn strikes(&mut self, n: usize, stage: Stage, to: &[String]) -> bool {
        let strikes = self.left > 0
            && self.stage == stage
            && self.conversations.contains(&n)
            && self.recipient.as_ref().is_none_or(|recipient| to.contains(recipient));
        self.left -= usize::from(strikes);
        strikes
    }
}

/// Stops when dropped.
pub struct SmtpSink {
    pub address: SocketAddr,
    ledger: Arc<Ledger>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Ledger {
    /// By recipient, so that finding one's own mail stays cheap when a benchmark sends thousands.
    received: Mutex<HashMap<String, Vec<Received>>>,
    /// Of each command its verb, and whether it came through TLS.
    heard: Mutex<Vec<(bool, String)>>,
    /// The first one whose turn it is strikes.
    faults: Mutex<Vec<Fault>>,
    /// Of each conversation every byte; only where that was asked for, or a benchmark would keep each mail twice.
    tap: Mutex<Option<Vec<Vec<u8>>>>,
    count: watch::Sender<usize>,
    silent: watch::Sender<usize>,
}

impl SmtpSink {
    /// # Panics
    /// Where no loopback port is free.
    pub async fn start() -> Self {
        Self::start_as(Manner::Plain).await
    }

    /// # Panics
    /// Where no loopback port is free.
    pub async fn start_as(manner: Manner) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), manner).await
    }

    /// # Panics
    /// Where the address is taken.
    pub async fn start_at(address: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind(address).await.expect("the address is free");
        let address = listener.local_addr().expect("it is bound");
        let ledger = Arc::<Ledger>::default();
        let task = tokio::spawn({
            let ledger = ledger.clone();
            async move {
                for n in 0.. {
                    let Ok((stream, _)) = listener.accept().await else { return };
                    let (ledger, manner) = (ledger.clone(), manner.clone());
                    // A client that hangs up in the middle has not sent a mail.
                    tokio::spawn(async move { receive(stream, n, manner, &ledger).await });
                }
            }
        });
        Self { address, ledger, task }
    }

    /// From now on, until it is [healed](Self::heal).
    pub fn play(&self, fault: Fault) {
        locked(&self.ledger.faults).push(fault);
    }

    /// Nothing goes wrong any more. Who is silent stays so.
    pub fn heal(&self) {
        locked(&self.ledger.faults).clear();
    }

    /// Keeps every byte from now on.
    pub fn tap(&self) {
        *locked(&self.ledger.tap) = Some(Vec::new());
    }

    /// What the client has said in each conversation since [`SmtpSink::tap`], to the byte; through TLS, what it said inside.
    #[must_use]
    pub fn tapped(&self) -> Vec<Vec<u8>> {
        locked(&self.ledger.tap).iter().flatten().filter(|said| !said.is_empty()).cloned().collect()
    }

    /// The mails to `address` so far.
    #[must_use]
    pub fn all_to(&self, address: &str) -> Vec<Received> {
        locked(&self.ledger.received).get(address).cloned().unwrap_or_default()
    }

    /// For `EMAIL_SMTP`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// Waits until the `n`th mail to `address` is here, and returns it.
    ///
    /// # Panics
    /// Where it does not come within a minute: a mail server that hangs costs half of that.
    pub async fn nth_to(&self, address: &str, n: usize) -> Received {
        self.nth_about(address, "", n).await
    }

    /// Waits until the `n`th mail to `address` is here whose subject begins so, and returns it.
    ///
    /// # Panics
    /// As [`SmtpSink::nth_to`].
    pub async fn nth_about(&self, address: &str, subject: &str, n: usize) -> Received {
        let header = format!("\nSubject: {subject}");
        let mut count = self.ledger.count.subscribe();
        let wait = async {
            loop {
                count.borrow_and_update();
                let found = locked(&self.ledger.received)
                    .get(address)
                    .and_then(|mails| mails.iter().filter(|mail| mail.data.contains(&header)).nth(n - 1).cloned());
                if let Some(mail) = found {
                    return mail;
                }
                count.changed().await.expect("the sink runs");
            }
        };
        tokio::time::timeout(Duration::from_mins(1), wait)
            .await
            .unwrap_or_else(|_| panic!("mail {n} to {address} did not come; {} came in all", *self.ledger.count.borrow()))
    }

    /// The verbs of all commands so far that came in clear, or those that came through TLS.
    #[must_use]
    pub fn heard(&self, encrypted: bool) -> Vec<String> {
        locked(&self.ledger.heard).iter().filter(|(tls, _)| *tls == encrypted).map(|(_, verb)| verb.clone()).collect()
    }

    /// Waits until this verb is among all [heard](Self::heard) in clear.
    ///
    /// # Panics
    /// Where it is not within ten seconds.
    pub async fn hears(&self, verb: &str) {
        let heard = async {
            while !self.heard(false).iter().any(|heard| heard == verb) {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), heard).await;
        waited.unwrap_or_else(|_| panic!("no {verb} came"));
    }

    /// The conversations that are silent now.
    #[must_use]
    pub fn silent(&self) -> usize {
        *self.ledger.silent.borrow()
    }

    /// Waits until so many conversations have fallen silent.
    ///
    /// # Panics
    /// Where they don't within 30 seconds.
    pub async fn fallen_silent(&self, n: usize) {
        let mut silent = self.ledger.silent.subscribe();
        let wait = silent.wait_for(|silent| *silent == n);
        let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
        waited.expect("they fall silent in time").expect("the sink runs");
    }
}

impl Drop for SmtpSink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ledger {
    fn keep(&self, mail: &Message) {
        let Message { from, to, data } = mail.clone();
        let mail = Received { from, to, data };
        let mut mails = locked(&self.received);
        for to in &mail.to {
            mails.entry(to.clone()).or_default().push(mail.clone());
        }
        drop(mails);
        self.count.send_modify(|count| *count += 1);
    }

    /// Says nothing more, whatever comes.
    async fn fall_silent(&self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
        self.silent.send_modify(|silent| *silent += 1);
        let end = tokio::io::copy(stream, &mut tokio::io::sink()).await;
        self.silent.send_modify(|silent| *silent -= 1);
        end.map(drop)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding the lock")
}

/// The `n`th conversation, from the first byte on.
async fn receive(stream: TcpStream, n: usize, manner: Manner, ledger: &Ledger) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let in_clear = Conversation { ledger, n, encrypted: false };
    let encrypted = Conversation { ledger, n, encrypted: true };
    match manner {
        Manner::Plain => converse(stream, Opening::Greeted, &in_clear).await.map(drop),
        Manner::StartTls(config) => {
            let Some(stream) = converse(stream, Opening::OffersTls, &in_clear).await? else { return Ok(()) };
            let stream = TlsAcceptor::from(config).accept(stream).await?;
            converse(stream, Opening::Secured, &encrypted).await.map(drop)
        }
        Manner::Tls(config) => {
            let stream = TlsAcceptor::from(config).accept(stream).await?;
            converse(stream, Opening::Greeted, &encrypted).await.map(drop)
        }
    }
}

struct Conversation<'a> {
    ledger: &'a Ledger,
    n: usize,
    encrypted: bool,
}

impl Server for Conversation<'_> {
    async fn answer(
        &self,
        client: &mut impl Connection,
        stage: Stage,
        mail: &Message,
        said: &str,
        right: &str,
    ) -> io::Result<Turn> {
        let act = {
            let mut faults = locked(&self.ledger.faults);
            faults.iter_mut().find_map(|fault| fault.strikes(self.n, stage, &mail.to).then(|| fault.act.clone()))
        };
        let recipients = mail.to.join(" ");
        let said = if stage == Stage::Taken { &recipients } else { said };
        if stage == Stage::Taken && !matches!(act, Some(Act::Answer(_) | Act::Refuse(_) | Act::Goodbye)) {
            self.ledger.keep(mail);
        }
        match act {
            None => return say(client, right).await,
            Some(Act::Late(wait)) => {
                tokio::time::sleep(wait).await;
                return say(client, right).await;
            }
            Some(Act::Slow(wait)) => {
                for byte in right.as_bytes() {
                    tokio::time::sleep(wait).await;
                    client.write_all(&[*byte]).await?;
                    client.flush().await?;
                }
                return Ok(Turn::Right);
            }
            Some(Act::Answer(code)) => {
                say(client, &format!("{code} not so: {}\r\n", said.trim_end())).await?;
                return Ok(Turn::Wrong);
            }
            Some(Act::Refuse(codes)) => {
                say(client, &format!("{codes} not so: {}\r\n", said.trim_end())).await?;
                return Ok(Turn::Wrong);
            }
            Some(Act::Say(bytes)) => {
                client.write_all(&bytes).await?;
                client.flush().await?;
                return Ok(Turn::Wrong);
            }
            Some(Act::Endless) => loop {
                client.write_all(&[b'2'; 4096]).await?;
            },
            Some(Act::Goodbye) => {
                client.write_all(b"421 not today\r\n").await?;
                client.shutdown().await?;
            }
            Some(Act::Silence) => self.ledger.fall_silent(client).await?,
            Some(Act::HangUp) => {}
        }
        Ok(Turn::Over)
    }

    fn hear(&self, line: &[u8]) {
        if let Some(tap) = &mut *locked(&self.ledger.tap) {
            tap.resize_with(tap.len().max(self.n + 1), Vec::new);
            tap[self.n].extend_from_slice(line);
        }
    }

    fn command(&self, verb: &str) {
        locked(&self.ledger.heard).push((self.encrypted, verb.to_owned()));
    }
}
