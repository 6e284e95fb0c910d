//! An SMTP server on a real socket that keeps what it is sent, and can be told to behave worse than that.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
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
    /// The whole message with quoted-printable undone, good enough to find a link and a code in.
    #[must_use]
    pub fn text(&self) -> String {
        let unfolded = self.data.replace("=\r\n", "");
        let mut bytes = Vec::with_capacity(unfolded.len());
        let mut rest = unfolded.as_bytes();
        while let Some((&byte, tail)) = rest.split_first() {
            let hex = (byte == b'=').then(|| tail.get(..2)).flatten().and_then(|hex| std::str::from_utf8(hex).ok());
            if let Some(decoded) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
                bytes.push(decoded);
                rest = &tail[2..];
            } else {
                bytes.push(byte);
                rest = tail;
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The path and query of the sign-in link.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn link(&self) -> String {
        let text = self.text();
        let at = text.find("/login/verify?token=").expect("the mail holds a sign-in link");
        text[at..].split(|c: char| c.is_whitespace() || c == '"').next().unwrap_or_default().to_owned()
    }

    /// The six digits.
    ///
    /// # Panics
    /// Where there are none.
    #[must_use]
    pub fn code(&self) -> String {
        let text = self.text();
        text.lines()
            .map(str::trim)
            .find(|line| line.len() == 7 && line.as_bytes()[3] == b' ' && line.bytes().filter(u8::is_ascii_digit).count() == 6)
            .expect("the mail holds a code")
            .replace(' ', "")
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

/// What the client has just said, and waits for the answer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Nothing: it has only connected.
    Greeting,
    Ehlo,
    StartTls,
    Auth,
    Mail,
    Rcpt,
    Data,
    /// The first line of the mail.
    Midway,
    /// The whole mail, which was taken; unless that is refused.
    Taken,
    /// Or anything else.
    Noop,
    Quit,
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
    fn keep(&self, mail: &Received) {
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
    let conversation = Conversation { ledger, n, greets: true, offers_tls: false, encrypted: false };
    match manner {
        Manner::Plain => conversation.hold(stream).await.map(drop),
        Manner::StartTls(config) => {
            let Some(stream) = (Conversation { offers_tls: true, ..conversation }).hold(stream).await? else { return Ok(()) };
            let stream = TlsAcceptor::from(config).accept(stream).await?;
            Conversation { greets: false, encrypted: true, ..conversation }.hold(stream).await.map(drop)
        }
        Manner::Tls(config) => {
            let stream = TlsAcceptor::from(config).accept(stream).await?;
            Conversation { encrypted: true, ..conversation }.hold(stream).await.map(drop)
        }
    }
}

struct Conversation<'a> {
    ledger: &'a Ledger,
    n: usize,
    greets: bool,
    offers_tls: bool,
    encrypted: bool,
}

/// How an answer went.
#[derive(PartialEq, Eq)]
enum Turn {
    Right,
    Wrong,
    Over,
}

impl Conversation<'_> {
    /// To its end, or to STARTTLS: then the stream is given back.
    async fn hold<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<Option<S>> {
        let mut stream = BufReader::new(stream);
        let (mut from, mut to) = (String::new(), Vec::new());
        let mut line = String::new();
        if self.greets && self.answer(&mut stream, self.act(Stage::Greeting, &to), "", "220 sink ESMTP\r\n").await? == Turn::Over {
            return Ok(None);
        }
        let tls = if self.offers_tls { "250-STARTTLS\r\n" } else { "" };
        let extensions = format!("250-sink\r\n250-8BITMIME\r\n250-AUTH PLAIN LOGIN\r\n{tls}250 SMTPUTF8\r\n");
        while self.read_line(&mut stream, &mut line).await? > 0 {
            let verb = line.split_ascii_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            locked(&self.ledger.heard).push((self.encrypted, verb.clone()));
            let (stage, right) = match verb.as_str() {
                "EHLO" => (Stage::Ehlo, extensions.as_str()),
                "STARTTLS" if self.offers_tls => (Stage::StartTls, "220 go on\r\n"),
                "AUTH" => (Stage::Auth, "235 welcome\r\n"),
                // RFC 5321 §4.1.4: what was begun is to be ended first.
                "MAIL" if !from.is_empty() => (Stage::Noop, "503 nested MAIL\r\n"),
                "MAIL" => (Stage::Mail, "250 ok\r\n"),
                "RCPT" => {
                    to.push(path(&line));
                    (Stage::Rcpt, "250 ok\r\n")
                }
                "DATA" => (Stage::Data, "354 go on\r\n"),
                "QUIT" => (Stage::Quit, "221 bye\r\n"),
                _ => (Stage::Noop, "250 ok\r\n"),
            };
            let turn = self.answer(&mut stream, self.act(stage, &to), &line, right).await?;
            match (stage, turn) {
                (_, Turn::Over) | (Stage::Quit, _) => return Ok(None),
                (Stage::Rcpt, Turn::Wrong) => drop(to.pop()),
                (Stage::StartTls, Turn::Right) => return Ok(Some(stream.into_inner())),
                (Stage::Mail, Turn::Right) => from = path(&line),
                (Stage::Data, Turn::Right) => {
                    let Some(data) = self.data(&mut stream, &to).await? else { return Ok(None) };
                    let act = self.act(Stage::Taken, &to);
                    let mail = Received { from: std::mem::take(&mut from), to: std::mem::take(&mut to), data };
                    if !matches!(act, Some(Act::Answer(_) | Act::Goodbye)) {
                        self.ledger.keep(&mail);
                    }
                    if self.answer(&mut stream, act, &mail.to.join(" "), "250 kept\r\n").await? == Turn::Over {
                        return Ok(None);
                    }
                }
                _ if verb == "RSET" => {
                    from.clear();
                    to.clear();
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Up to the dot. `None` where it ends before.
    async fn data<S: AsyncBufRead + AsyncWrite + Unpin>(&self, stream: &mut S, to: &[String]) -> io::Result<Option<String>> {
        let (mut data, mut line) = (String::new(), String::new());
        while self.read_line(stream, &mut line).await? > 0 {
            if line == ".\r\n" {
                return Ok(Some(data));
            }
            if data.is_empty()
                && let Some(act) = self.act(Stage::Midway, to)
                && self.answer(stream, Some(act), "", "").await? == Turn::Over
            {
                return Ok(None);
            }
            data.push_str(line.strip_prefix('.').unwrap_or(&line));
        }
        Ok(None)
    }

    fn act(&self, stage: Stage, to: &[String]) -> Option<Act> {
        let mut faults = locked(&self.ledger.faults);
        faults.iter_mut().find_map(|fault| fault.strikes(self.n, stage, to).then(|| fault.act.clone()))
    }

    async fn answer<S>(&self, stream: &mut S, act: Option<Act>, said: &str, right: &str) -> io::Result<Turn>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match act {
            None => stream.write_all(right.as_bytes()).await?,
            Some(Act::Late(wait)) => {
                tokio::time::sleep(wait).await;
                stream.write_all(right.as_bytes()).await?;
            }
            Some(Act::Slow(wait)) => {
                for byte in right.as_bytes() {
                    tokio::time::sleep(wait).await;
                    stream.write_all(&[*byte]).await?;
                    stream.flush().await?;
                }
            }
            Some(Act::Answer(code)) => {
                stream.write_all(format!("{code} not so: {}\r\n", said.trim_end()).as_bytes()).await?;
                stream.flush().await?;
                return Ok(Turn::Wrong);
            }
            Some(Act::Say(bytes)) => {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
                return Ok(Turn::Wrong);
            }
            Some(Act::Endless) => loop {
                stream.write_all(&[b'2'; 4096]).await?;
            },
            Some(Act::Goodbye) => {
                stream.write_all(b"421 not today\r\n").await?;
                stream.shutdown().await?;
                return Ok(Turn::Over);
            }
            Some(Act::Silence) => {
                self.ledger.fall_silent(stream).await?;
                return Ok(Turn::Over);
            }
            Some(Act::HangUp) => return Ok(Turn::Over),
        }
        stream.flush().await?;
        Ok(Turn::Right)
    }

    /// Also of a client that speaks TLS to a server that does not.
    async fn read_line(&self, stream: &mut (impl AsyncBufRead + Unpin), line: &mut String) -> io::Result<usize> {
        let mut bytes = Vec::new();
        let read = stream.read_until(b'\n', &mut bytes).await?;
        if let Some(tap) = &mut *locked(&self.ledger.tap) {
            tap.resize_with(tap.len().max(self.n + 1), Vec::new);
            tap[self.n].extend_from_slice(&bytes);
        }
        *line = String::from_utf8_lossy(&bytes).into_owned();
        Ok(read)
    }
}

fn path(line: &str) -> String {
    line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or_else(String::new, |(path, _)| path.to_owned())
}
