//! An SMTP server on a real socket that keeps what it is sent, and can be told to behave worse than that.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
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
}

/// How a server treats its clients.
#[derive(Clone)]
pub enum Manner {
    /// No TLS, and none offered; but a way to sign in is, to clients that would say a password in clear.
    Plain,
    /// Offers STARTTLS.
    StartTls(Arc<ServerConfig>),
    /// TLS from the first byte.
    Tls(Arc<ServerConfig>),
    /// [`Manner::Plain`], but so many conversations, the first ones, fall silent there until the client hangs up.
    Silent(usize, Stage),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Greeting,
    /// The mail was taken, and the client is never told.
    Taken,
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
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
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
        tokio::time::timeout(std::time::Duration::from_mins(1), wait)
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
        let waited = tokio::time::timeout(std::time::Duration::from_secs(30), wait).await;
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
async fn receive(mut stream: TcpStream, n: usize, manner: Manner, ledger: &Ledger) -> io::Result<()> {
    const GREETING: &[u8] = b"220 sink ESMTP\r\n";
    stream.set_nodelay(true)?;
    let silent = match manner {
        Manner::Silent(first, stage) if n < first => Some(stage),
        _ => None,
    };
    match manner {
        _ if silent == Some(Stage::Greeting) => ledger.fall_silent(&mut stream).await,
        Manner::Tls(config) => {
            let mut stream = TlsAcceptor::from(config).accept(stream).await?;
            stream.write_all(GREETING).await?;
            Conversation { ledger, silent, offers_tls: false, encrypted: true }.hold(stream).await.map(drop)
        }
        Manner::StartTls(config) => {
            stream.write_all(GREETING).await?;
            let conversation = Conversation { ledger, silent, offers_tls: true, encrypted: false };
            let Some(stream) = conversation.hold(stream).await? else { return Ok(()) };
            let stream = TlsAcceptor::from(config).accept(stream).await?;
            Conversation { offers_tls: false, encrypted: true, ..conversation }.hold(stream).await.map(drop)
        }
        Manner::Plain | Manner::Silent(..) => {
            stream.write_all(GREETING).await?;
            Conversation { ledger, silent, offers_tls: false, encrypted: false }.hold(stream).await.map(drop)
        }
    }
}

struct Conversation<'a> {
    ledger: &'a Ledger,
    silent: Option<Stage>,
    offers_tls: bool,
    encrypted: bool,
}

impl Conversation<'_> {
    /// To its end, or to STARTTLS: then the stream is given back.
    async fn hold<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<Option<S>> {
        let mut stream = BufReader::new(stream);
        let (mut from, mut to) = (String::new(), Vec::new());
        let mut line = String::new();
        loop {
            if read_line(&mut stream, &mut line).await? == 0 {
                return Ok(None);
            }
            let verb = line.split_ascii_whitespace().next().unwrap_or_default().to_ascii_uppercase();
            locked(&self.ledger.heard).push((self.encrypted, verb.clone()));
            match verb.as_str() {
                "EHLO" => {
                    let tls = if self.offers_tls { "250-STARTTLS\r\n" } else { "" };
                    let extensions = format!("250-sink\r\n250-8BITMIME\r\n250-AUTH PLAIN LOGIN\r\n{tls}250 SMTPUTF8\r\n");
                    stream.write_all(extensions.as_bytes()).await?;
                }
                "STARTTLS" if self.offers_tls => {
                    stream.write_all(b"220 go on\r\n").await?;
                    return Ok(Some(stream.into_inner()));
                }
                "AUTH" => stream.write_all(b"235 welcome\r\n").await?,
                "MAIL" => {
                    from = path(&line);
                    stream.write_all(b"250 ok\r\n").await?;
                }
                "RCPT" => {
                    to.push(path(&line));
                    stream.write_all(b"250 ok\r\n").await?;
                }
                "DATA" => {
                    stream.write_all(b"354 go on\r\n").await?;
                    let mut data = String::new();
                    loop {
                        if read_line(&mut stream, &mut line).await? == 0 {
                            return Ok(None);
                        }
                        if line == ".\r\n" {
                            break;
                        }
                        data.push_str(line.strip_prefix('.').unwrap_or(&line));
                    }
                    self.ledger.keep(&Received { from: std::mem::take(&mut from), to: std::mem::take(&mut to), data });
                    if self.silent == Some(Stage::Taken) {
                        return self.ledger.fall_silent(&mut stream).await.map(|()| None);
                    }
                    stream.write_all(b"250 kept\r\n").await?;
                }
                "QUIT" => {
                    stream.write_all(b"221 bye\r\n").await?;
                    return Ok(None);
                }
                _ => stream.write_all(b"250 ok\r\n").await?,
            }
        }
    }
}

/// Also of a client that speaks TLS to a server that does not.
async fn read_line(stream: &mut (impl AsyncBufRead + Unpin), line: &mut String) -> io::Result<usize> {
    let mut bytes = Vec::new();
    let read = stream.read_until(b'\n', &mut bytes).await?;
    *line = String::from_utf8_lossy(&bytes).into_owned();
    Ok(read)
}

fn path(line: &str) -> String {
    line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or_else(String::new, |(path, _)| path.to_owned())
}
