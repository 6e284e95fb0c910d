//! Where the test account's mail is read: the instance's dev inbox, a mail server of our own that the instance sends to, or a person
//! who pastes what they got.

use std::{io, net::SocketAddr, time::Duration};

use smtp_sink::{Connection, Message, Opening, Server, Stage, Turn, code, link, text};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    browser::{Answer, Browser},
    report::Failure,
};

const DEV_INBOX: &str = "/dev/inbox";
/// How often the dev inbox is looked into.
const LOOK: Duration = Duration::from_millis(250);

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
    DevInbox { browser: Box<Browser>, newest: u64 },
    Sink(mpsc::UnboundedReceiver<Message>),
    Paste,
}

impl Mailbox {
    pub fn dev_inbox(browser: Browser) -> Self {
        Self::DevInbox { browser: Box::new(browser), newest: 0 }
    }

    /// Takes mail at this address, which the instance's mail must be sent to, until the process ends.
    pub async fn listen(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let taker = Taker(sender.clone());
                // A conversation that breaks off is the instance's to begin anew.
                tokio::spawn(async move { smtp_sink::converse(stream, Opening::Greeted, &taker).await });
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
                    Ok(Some(mail)) if mail.to.iter().any(|recipient| recipient.eq_ignore_ascii_case(to)) => {
                        if let Some(mail) = sign_in(&text(&mail.data)) {
                            return Ok(mail);
                        }
                    }
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return Err(Failure::new(expected(), "none")),
                }
            },
            Self::Paste => paste(to, want).await.map_err(|error| Failure::new(expected(), error.to_string())),
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
    Some(Mail { link: link(text)?.to_owned(), code: code(text)? })
}

/// Takes whatever is sent.
struct Taker(mpsc::UnboundedSender<Message>);

impl Server for Taker {
    async fn answer(
        &self,
        client: &mut impl Connection,
        stage: Stage,
        mail: &Message,
        _said: &str,
        right: &str,
    ) -> io::Result<Turn> {
        if stage == Stage::Taken {
            // Whoever looked for it may have gone.
            let _ = self.0.send(mail.clone());
        }
        smtp_sink::say(client, right).await
    }
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
            mail.code = ask("Its code:")?.replace(' ', "");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::Page;

    #[test]
    fn a_page_of_the_dev_inbox_is_read_as_a_mail_is() {
        let page =
            Page::read("<pre>Open:\n<a href=\"http://h/login/verify?token=a\">http://h/login/verify?token=a</a>\n\n482931\n</pre>");
        assert_eq!(sign_in(&page.text).map(|mail| mail.code), Some("482931".to_owned()));
        assert_eq!(sign_in("https://x.example/login/verify?token=a without a code"), None);
        assert_eq!(sign_in("482931 without a link"), None);
    }
}
