//! An SMTP server on a real socket that keeps what it is sent.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};

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

/// Stops when dropped.
pub struct SmtpSink {
    pub address: SocketAddr,
    /// By recipient, so that finding one's own mail stays cheap when a benchmark sends thousands.
    received: Arc<Mutex<HashMap<String, Vec<Received>>>>,
    count: watch::Receiver<usize>,
    task: tokio::task::JoinHandle<()>,
}

impl SmtpSink {
    /// # Panics
    /// Where no loopback port is free.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = listener.local_addr().expect("it is bound");
        let received = Arc::new(Mutex::new(HashMap::<String, Vec<Received>>::new()));
        let (sender, count) = watch::channel(0);
        let store = received.clone();
        let sender = Arc::new(sender);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (store, sender) = (store.clone(), sender.clone());
                tokio::spawn(async move {
                    // A client that hangs up in the middle has not sent a mail.
                    let _ = converse(stream, |mail| {
                        let mut mails = store.lock().expect("nobody panics while holding the lock");
                        for to in &mail.to {
                            mails.entry(to.clone()).or_default().push(mail.clone());
                        }
                        sender.send_modify(|count| *count += 1);
                    })
                    .await;
                });
            }
        });
        Self { address, received, count, task }
    }

    /// For `EMAIL_SMTP`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// Waits until the `n`th mail to `address` is here, and returns it.
    ///
    /// # Panics
    /// Where it does not come within 30 seconds.
    pub async fn nth_to(&self, address: &str, n: usize) -> Received {
        let mut count = self.count.clone();
        let wait = async {
            loop {
                count.borrow_and_update();
                let found = {
                    let mails = self.received.lock().expect("nobody panics while holding the lock");
                    mails.get(address).and_then(|mails| mails.get(n - 1)).cloned()
                };
                if let Some(mail) = found {
                    return mail;
                }
                count.changed().await.expect("the sink runs");
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), wait)
            .await
            .unwrap_or_else(|_| panic!("mail {n} to {address} did not come; {} came in all", *self.count.borrow()))
    }
}

impl Drop for SmtpSink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(stream: TcpStream, mut keep: impl FnMut(Received)) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    writer.write_all(b"220 sink ESMTP\r\n").await?;
    let (mut from, mut to) = (String::new(), Vec::new());
    let mut line = String::new();
    loop {
        line.clear();
        if reader.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" => writer.write_all(b"250-sink\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n").await?,
            "MAIL" => {
                from = path(&line);
                writer.write_all(b"250 ok\r\n").await?;
            }
            "RCPT" => {
                to.push(path(&line));
                writer.write_all(b"250 ok\r\n").await?;
            }
            "DATA" => {
                writer.write_all(b"354 go on\r\n").await?;
                let mut data = String::new();
                loop {
                    line.clear();
                    if reader.read_line(&mut line).await? == 0 {
                        return Ok(());
                    }
                    if line == ".\r\n" {
                        break;
                    }
                    data.push_str(line.strip_prefix('.').unwrap_or(&line));
                }
                keep(Received { from: std::mem::take(&mut from), to: std::mem::take(&mut to), data });
                writer.write_all(b"250 kept\r\n").await?;
            }
            "QUIT" => {
                writer.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => writer.write_all(b"250 ok\r\n").await?,
        }
    }
}

fn path(line: &str) -> String {
    line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or_else(String::new, |(path, _)| path.to_owned())
}
