//! The way to the mail server.
//!
//! The library's own pool takes a connection back however its last conversation ended, also one given up in the middle. The next
//! mail would hang there too, or take the late answer to the last mail for one to itself; so connections are kept here.

use std::{
    error::Error as _,
    io, iter,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use anyhow::Context as _;
use lettre::{
    Message,
    transport::smtp::{
        Error,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, TlsParameters},
        commands::Noop,
        extension::ClientId,
    },
};
use rustls::CertificateError;
use tokio::time::{Instant, timeout};

use auth::mail::SendError;

use crate::config::{Smtp, SmtpTls};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection is kept without a mail. Servers keep theirs for minutes.
const IDLE: Duration = Duration::from_secs(30);
/// For a kept connection to show that it lives. Making a new one takes less than waiting longer.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);

/// How many conversations there are at once is the caller's affair, and how long each may take.
pub struct SmtpServer {
    smtp: Smtp,
    hello: ClientId,
    tls: Option<TlsParameters>,
    idle: Arc<Mutex<Idle>>,
}

type Idle = Vec<(Instant, AsyncSmtpConnection)>;

impl SmtpServer {
    /// `name` is who we say we are. Needs a runtime, where idle connections are closed.
    pub fn new(smtp: &Smtp, name: String) -> anyhow::Result<Self> {
        let tls = match smtp.tls {
            SmtpTls::Plain => None,
            SmtpTls::StartTls | SmtpTls::Implicit => {
                Some(TlsParameters::new(smtp.host.clone()).context("TLS for the mail server")?)
            }
        };
        let idle = Arc::<Mutex<Idle>>::default();
        tokio::spawn(close_idle(Arc::downgrade(&idle)));
        Ok(Self { smtp: smtp.clone(), hello: ClientId::Domain(name), tls, idle })
    }

    /// Dropped half-way, it drops its connection with it.
    pub async fn send(&self, message: &Message) -> Result<(), SendError> {
        self.converse(message).await.map_err(|error| send_error(&error))
    }

    async fn converse(&self, message: &Message) -> Result<(), Error> {
        let mut connection = match self.kept().await {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        connection.send(message.envelope(), &message.formatted()).await?;
        locked(&self.idle).push((Instant::now(), connection));
        Ok(())
    }

    async fn kept(&self) -> Option<AsyncSmtpConnection> {
        let (_, mut connection) = locked(&self.idle).pop()?;
        let answer = timeout(SIGN_OF_LIFE, connection.command(Noop)).await.ok()?.ok()?;
        // A server that has said goodbye meanwhile (221) also answers.
        answer.has_code(250).then_some(connection)
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Error> {
        let Smtp { tls, host, port, credentials } = &self.smtp;
        let at_once = self.tls.clone().filter(|_| *tls == SmtpTls::Implicit);
        let server = (host.as_str(), *port);
        let mut connection = AsyncSmtpConnection::connect_tokio1(server, Some(CONNECT_TIMEOUT), &self.hello, at_once, None).await?;
        if let Some(parameters) = self.tls.clone().filter(|_| *tls == SmtpTls::StartTls) {
            connection.starttls(parameters, &self.hello).await?;
        }
        if let Some(credentials) = credentials {
            let credentials = Credentials::new(credentials.user.clone(), credentials.password.expose().clone());
            connection.auth(DEFAULT_MECHANISMS, &credentials).await?;
        }
        Ok(connection)
    }
}

async fn close_idle(idle: Weak<Mutex<Idle>>) {
    loop {
        tokio::time::sleep(IDLE / 2).await;
        let Some(idle) = idle.upgrade() else { return };
        let old: Vec<_> = locked(&idle).extract_if(.., |(since, _)| since.elapsed() >= IDLE).collect();
        for (_, mut connection) in old {
            // It is over, whatever is answered.
            let _ = timeout(SIGN_OF_LIFE, connection.quit()).await;
        }
    }
}

fn locked(idle: &Mutex<Idle>) -> MutexGuard<'_, Idle> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What operators see of a refusal. A server's own words may quote the recipient, so of them only the code is kept.
fn send_error(error: &Error) -> SendError {
    let code = error.status().map(|code| code.to_string());
    if error.is_permanent() {
        return SendError::Permanent(format!("the mail server refused it ({})", code.unwrap_or_default()));
    }
    SendError::Temporary(match code {
        Some(code) => format!("the mail server refused it for now ({code})"),
        None if error.is_timeout() => "the mail server took too long".to_owned(),
        None if error.is_client() => "the mail server lacks what this needs: STARTTLS, a way to sign in, or SMTPUTF8".to_owned(),
        None => match tls_error(error) {
            Some(rustls::Error::InvalidCertificate(why)) => format!("no safe connection to the mail server: {}", distrust(why)),
            Some(_) => "no safe connection to the mail server".to_owned(),
            None => "no connection to the mail server".to_owned(),
        },
    })
}

/// The library counts these among the failures to connect, wrapped in an error of input and output.
fn tls_error(error: &Error) -> Option<&rustls::Error> {
    iter::successors(error.source(), |&error| error.source())
        .find_map(|error| error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref())
}

/// In words of ours: a certificate's own names are a stranger's text.
fn distrust(why: &CertificateError) -> &'static str {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another name"
        }
        CertificateError::UnknownIssuer => "its certificate is of nobody this machine trusts",
        _ => "its certificate can't be verified",
    }
}

#[cfg(test)]
mod tests {
    use testkit::{Act, Fault, SmtpSink, Stage};

    use super::*;

    async fn server() -> (SmtpSink, SmtpServer) {
        let sink = SmtpSink::start().await;
        let (host, port) = (sink.address.ip().to_string(), sink.address.port());
        let smtp = Smtp { tls: SmtpTls::Plain, host, port, credentials: None };
        (sink, SmtpServer::new(&smtp, "localhost".to_owned()).expect("no TLS to set up"))
    }

    fn message() -> Message {
        let address = || "mara@example.org".parse().expect("an address");
        Message::builder().from(address()).to(address()).body(String::new()).expect("a message")
    }

    #[tokio::test]
    async fn one_connection_carries_one_mail_after_the_other() {
        let (sink, server) = server().await;
        for _ in 0..2 {
            server.send(&message()).await.expect("taken");
        }
        assert_eq!(sink.heard(false), ["EHLO", "MAIL", "RCPT", "DATA", "NOOP", "MAIL", "RCPT", "DATA"]);
    }

    #[tokio::test]
    async fn a_conversation_given_up_is_never_taken_up_again() {
        let (sink, server) = server().await;
        sink.play(Fault::new(Stage::Taken, Act::Silence).times(1));
        let message = message();
        tokio::select! {
            _ = server.send(&message) => panic!("nothing was answered"),
            () = sink.fallen_silent(1) => {}
        }
        server.send(&message).await.expect("taken");
        assert_eq!(sink.heard(false), ["EHLO", "MAIL", "RCPT", "DATA", "EHLO", "MAIL", "RCPT", "DATA"]);
        sink.fallen_silent(0).await;
    }

    #[tokio::test]
    async fn a_connection_without_mail_is_closed() {
        let (sink, server) = server().await;
        server.send(&message()).await.expect("taken");
        tokio::time::pause();
        let closed = async {
            while sink.heard(false).last().is_none_or(|verb| verb != "QUIT") {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        timeout(2 * IDLE, closed).await.expect("it says goodbye in time");
    }
}
