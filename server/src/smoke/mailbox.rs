//! Where the test account's mail is read: the instance's dev inbox, a mail server of our own that the instance sends to, or a person
//! who pastes what they got.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};

use super::{
    browser::{Answer, Browser},
    report::Failure,
};

const DEV_INBOX: &str = "/dev/inbox";
/// How often the dev inbox is looked into.
const LOOK: Duration = Duration::from_millis(250);
const LARGEST_MAIL: u64 = 1 << 20;

/// What a sign-in mail is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    Both,
    Link,
    Code,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mail {
    pub link: String,
    /// Six digits.
    pub code: String,
}

/// The mails of one address, from now on.
pub enum Mailbox {
    DevInbox { browser: Browser, newest: u64 },
    Sink(mpsc::UnboundedReceiver<(String, String)>),
    Paste,
}

impl Mailbox {
    pub fn dev_inbox(browser: Browser) -> Self {
        Self::DevInbox { browser, newest: 0 }
    }

    /// Takes mail at this address, which the instance's mail must be sent to, until the process ends.
    pub async fn listen(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A conversation that breaks off is the instance's to begin anew.
                tokio::spawn(receive(stream, sender.clone()));
            }
        });
        Ok(Self::Sink(receiver))
    }

    /// Forgets what has come so far.
    pub async fn empty(&mut self) -> Result<(), Failure> {
        match self {
            Self::DevInbox { browser, newest } => *newest = listed(browser).await?.1.into_iter().max().unwrap_or(0),
            Self::Sink(mails) => while mails.try_recv().is_ok() {},
            Self::Paste => {}
        }
        Ok(())
    }

    /// The next sign-in mail to that address.
    pub async fn next(&mut self, to: &str, want: Want, within: Duration) -> Result<Mail, Failure> {
        let until = Instant::now() + within;
        let what = match want {
            Want::Both => "a link and a code",
            Want::Link => "a link",
            Want::Code => "a code",
        };
        let expected = || format!("a mail to {to} with {what} within {} s", within.as_secs());
        match self {
            Self::DevInbox { browser, newest } => loop {
                let (answer, ids) = listed(browser).await?;
                for id in ids.into_iter().filter(|id| id > newest) {
                    let message = browser.get(&format!("{DEV_INBOX}/{id}")).await?.page;
                    if message.text.to_lowercase().contains(&to.to_lowercase())
                        && let Some(mail) = sign_in(&message.text)
                    {
                        *newest = id;
                        return Ok(mail);
                    }
                }
                if Instant::now() > until {
                    return Err(answer.differs(expected()));
                }
                sleep(LOOK).await;
            },
            Self::Sink(mails) => loop {
                match timeout_at(until, mails.recv()).await {
                    Ok(Some((recipients, mail))) if recipients.contains(&to.to_lowercase()) => {
                        if let Some(mail) = sign_in(&mail) {
                            return Ok(mail);
                        }
                    }
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => {
                        return Err(Failure { expected: expected(), seen: "none".to_owned(), request_id: None });
                    }
                }
            },
            Self::Paste => {
                let mail = paste(to, want).await;
                mail.map_err(|error| Failure { expected: expected(), seen: format!("{error}"), request_id: None })
            }
        }
    }
}

/// The ids of the dev inbox's mails.
async fn listed(browser: &mut Browser) -> Result<(Answer, Vec<u64>), Failure> {
    let answer = browser.get(DEV_INBOX).await?;
    if answer.status != 200 {
        return Err(answer.differs("200: the dev inbox is there without EMAIL_SMTP, and on this machine only"));
    }
    let ids = answer.page.links.iter().filter_map(|link| link.strip_prefix(DEV_INBOX)?.strip_prefix('/')?.parse().ok());
    let mut ids: Vec<u64> = ids.collect();
    ids.sort_unstable();
    Ok((answer, ids))
}

/// The link and the code of a sign-in mail, where it is one.
fn sign_in(text: &str) -> Option<Mail> {
    let link = text.split_whitespace().find(|word| word.starts_with("http") && word.contains("/login/verify?token="))?;
    let is_code = |line: &&str| line.len() == 7 && line.as_bytes()[3] == b' ' && digits(line).len() == 6;
    let code = text.lines().map(str::trim).find(is_code)?;
    Some(Mail { link: link.to_owned(), code: digits(code) })
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

/// Asks the person at the terminal.
async fn paste(to: &str, want: Want) -> io::Result<Mail> {
    let to = to.to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        eprintln!("\n  A mail is on its way to {to}.");
        let mut mail = Mail::default();
        if want != Want::Code {
            mail.link = ask("Its link:")?;
        }
        if want != Want::Link {
            mail.code = digits(&ask("Its code:")?);
        }
        Ok(mail)
    });
    asked.await.map_err(io::Error::other)?
}

fn ask(what: &str) -> io::Result<String> {
    eprint!("  {what} ");
    let mut line = String::new();
    if io::stdin().read_line(&mut line)? == 0 {
        return Err(io::Error::other("the end of what was typed"));
    }
    Ok(line.trim().to_owned())
}

/// One conversation with a client that sends mail. As little of RFC 5321 as it takes: whatever is sent is taken.
async fn receive(stream: TcpStream, taken: mpsc::UnboundedSender<(String, String)>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 latchkey smoke\r\n").await?;
    let mut recipients = String::new();
    loop {
        let mut line = String::new();
        if (&mut stream).take(4_096).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let verb = line.split([' ', '\r', '\n', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let answer = match verb.as_str() {
            // So that an instance with a user and a password for its mail server can be used as it is.
            "EHLO" => "250-latchkey smoke\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 AUTH PLAIN\r\n",
            "AUTH" => "235 ok\r\n",
            "RCPT" => {
                recipients.push_str(&line.to_lowercase());
                "250 ok\r\n"
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n").await?;
                let mail = data(&mut stream).await?;
                // Whoever looked for it may have gone.
                let _ = taken.send((std::mem::take(&mut recipients), text_part(&mail)));
                "250 ok\r\n"
            }
            "RSET" => {
                recipients.clear();
                "250 ok\r\n"
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            "HELO" | "MAIL" | "NOOP" => "250 ok\r\n",
            _ => "502 no\r\n",
        };
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// Up to the line with a single dot.
async fn data(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut mail = String::new();
    let mut stream = stream.take(LARGEST_MAIL);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line == ".\r\n" {
            return Ok(mail);
        }
        mail.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}

/// What a mail says, with quoted-printable undone. In its HTML part, which comes after the text, links are written otherwise; so the
/// first link found is the text's.
fn text_part(mail: &str) -> String {
    let unfolded = mail.replace("=\r\n", "");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smoke::page::Page;

    const MAIL: &str = "Subject: Sign in\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nOpen this link:\r\n\
                        https://x.example/login/verify?token=3Dabc=\r\ndef\r\n\r\nOr type this code:\r\n482 931\r\n";

    #[test]
    fn link_and_code_are_found_in_a_folded_mail() {
        let mail = sign_in(&text_part(MAIL)).expect("a sign-in mail");
        assert_eq!((mail.link.as_str(), mail.code.as_str()), ("https://x.example/login/verify?token=abcdef", "482931"));
        assert_eq!(sign_in("https://x.example/login/verify?token=a without a code"), None);
        assert_eq!(sign_in("482 931 without a link"), None);
    }

    #[test]
    fn a_page_of_the_dev_inbox_is_read_the_same_way() {
        let page = Page::read(
            "<pre>Open:\n<a href=\"http://h/login/verify?token=a\">http://h/login/verify?token=a</a>\n\n482 931\n</pre>",
        );
        assert_eq!(sign_in(&page.text).map(|mail| mail.code), Some("482931".to_owned()));
    }
}
