//! The one mail server: a conversation with a client that sends mail, of RFC 5321 as much as clients use.
//!
//! Here: the conversation, and what a mail says. Not here: sockets, TLS, and what goes wrong on purpose (`testkit`), which are the
//! [`Server`]'s.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};

/// RFC 5321 §4.5.3.1 asks for a quarter of it.
const LONGEST_LINE: u64 = 4_096;
const LARGEST_MAIL: usize = 1 << 20;

/// A mail as it came over the wire.
#[derive(Debug, Clone, Default)]
pub struct Message {
    pub from: String,
    pub to: Vec<String>,
    pub data: String,
}

/// What a message says, with quoted-printable undone, good enough to find a link and a code in. In the HTML part, which comes after
/// the text, links are written otherwise; so the first link found is the text's.
#[must_use]
pub fn text(data: &str) -> String {
    let unfolded = data.replace("=\r\n", "");
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

/// The address of a sign-in link, where there is one.
#[must_use]
pub fn link(text: &str) -> Option<&str> {
    let mut words = text.split(|c: char| c.is_whitespace() || c == '"');
    words.find(|word| word.starts_with("http") && word.contains("/login/verify?token="))
}

/// Six digits, where a line is a code.
#[must_use]
pub fn code(text: &str) -> Option<String> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| line.len() == 6 && line.bytes().all(|byte| byte.is_ascii_digit())).map(str::to_owned)
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

/// How an answer went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Right,
    Wrong,
    Over,
}

/// What a client talks to.
pub trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}
impl<C: AsyncRead + AsyncWrite + Unpin + Send> Connection for C {}

/// Whose conversation it is.
pub trait Server: Sync {
    /// Says what is right, or does something else. `mail` is what is there of it so far, and whole when it is [`Stage::Taken`]; `said` is
    /// the line that is answered.
    fn answer(
        &self,
        client: &mut impl Connection,
        stage: Stage,
        mail: &Message,
        said: &str,
        right: &str,
    ) -> impl Future<Output = io::Result<Turn>> + Send;

    /// Each line, as it came.
    fn hear(&self, _line: &[u8]) {}

    /// The first word of each command.
    fn command(&self, _verb: &str) {}
}

/// How a conversation begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// The server speaks first.
    Greeted,
    /// And offers STARTTLS.
    OffersTls,
    /// It goes on after STARTTLS.
    Secured,
}

/// What is right, said.
pub async fn say(client: &mut impl Connection, right: &str) -> io::Result<Turn> {
    client.write_all(right.as_bytes()).await?;
    client.flush().await?;
    Ok(Turn::Right)
}

/// To its end, or to STARTTLS: then the client is given back.
pub async fn converse<C: Connection>(client: C, opening: Opening, server: &impl Server) -> io::Result<Option<C>> {
    let mut client = BufReader::new(client);
    let mut mail = Message::default();
    if opening != Opening::Secured
        && server.answer(&mut client, Stage::Greeting, &mail, "", "220 sink ESMTP\r\n").await? == Turn::Over
    {
        return Ok(None);
    }
    let offers_tls = opening == Opening::OffersTls;
    // A way to sign in is offered also in clear: a client must know better than to say a password there.
    let tls = if offers_tls { "250-STARTTLS\r\n" } else { "" };
    let extensions = format!("250-sink\r\n250-8BITMIME\r\n250-AUTH PLAIN LOGIN\r\n{tls}250 SMTPUTF8\r\n");
    while let Some(line) = read_line(&mut client, server).await? {
        let verb = line.split([' ', '\r', '\n', ':']).next().unwrap_or_default().to_ascii_uppercase();
        server.command(&verb);
        let (stage, right) = match verb.as_str() {
            "EHLO" => (Stage::Ehlo, extensions.as_str()),
            "STARTTLS" if offers_tls => (Stage::StartTls, "220 go on\r\n"),
            "AUTH" => (Stage::Auth, "235 welcome\r\n"),
            // RFC 5321 §4.1.4: what was begun is to be ended first.
            "MAIL" if !mail.from.is_empty() => (Stage::Noop, "503 nested MAIL\r\n"),
            "MAIL" => (Stage::Mail, "250 ok\r\n"),
            "RCPT" => {
                mail.to.push(path(&line));
                (Stage::Rcpt, "250 ok\r\n")
            }
            "DATA" => (Stage::Data, "354 go on\r\n"),
            "QUIT" => (Stage::Quit, "221 bye\r\n"),
            _ => (Stage::Noop, "250 ok\r\n"),
        };
        let turn = server.answer(&mut client, stage, &mail, &line, right).await?;
        match (stage, turn) {
            (_, Turn::Over) | (Stage::Quit, _) => return Ok(None),
            (Stage::Rcpt, Turn::Wrong) => drop(mail.to.pop()),
            (Stage::StartTls, Turn::Right) => return Ok(Some(client.into_inner())),
            (Stage::Mail, Turn::Right) => mail.from = path(&line),
            (Stage::Data, Turn::Right) => {
                if !read_data(&mut client, &mut mail, server).await?
                    || server.answer(&mut client, Stage::Taken, &mail, "", "250 kept\r\n").await? == Turn::Over
                {
                    return Ok(None);
                }
                mail = Message::default();
            }
            _ if verb == "RSET" => mail = Message::default(),
            _ => {}
        }
    }
    Ok(None)
}

/// Up to the dot. Whether it came.
async fn read_data<C: AsyncBufRead + Connection>(client: &mut C, mail: &mut Message, server: &impl Server) -> io::Result<bool> {
    while let Some(line) = read_line(client, server).await? {
        if line == ".\r\n" {
            return Ok(true);
        }
        if mail.data.is_empty() && server.answer(client, Stage::Midway, mail, "", "").await? == Turn::Over {
            return Ok(false);
        }
        mail.data.push_str(line.strip_prefix('.').unwrap_or(&line));
        if mail.data.len() > LARGEST_MAIL {
            return Ok(false);
        }
    }
    Ok(false)
}

/// Also of a client that speaks TLS to a server that does not. `None` at the end.
async fn read_line(client: &mut (impl AsyncBufRead + Unpin + Send), server: &impl Server) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    let read = client.take(LONGEST_LINE).read_until(b'\n', &mut line).await?;
    server.hear(&line);
    Ok((read > 0).then(|| String::from_utf8_lossy(&line).into_owned()))
}

fn path(line: &str) -> String {
    line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or_else(String::new, |(path, _)| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &str = "Subject: Sign in\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nOpen this link:\r\n\
                        https://x.example/login/verify?token=3Dabc=\r\ndef\r\n\r\nOr type this code:\r\n482931\r\n";

    #[test]
    fn link_and_code_are_found_in_a_folded_mail() {
        let text = text(MAIL);
        assert_eq!(link(&text), Some("https://x.example/login/verify?token=abcdef"));
        assert_eq!(code(&text).as_deref(), Some("482931"));
        assert_eq!((link("482931"), code("https://x.example/login/verify?token=a")), (None, None));
    }
}
