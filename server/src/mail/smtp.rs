//! The client of the mail server.
//!
//! lettre's own pool takes a connection back however its last conversation ended, also one that was abandoned in the middle. The next
//! mail would hang there too, or take the late answer to the last mail for its own; so connections are kept here.

use std::{
    error::Error as _,
    fmt::{self, Display, Formatter},
    io, iter,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use anyhow::Context as _;
use lettre::{
    Address, Message,
    transport::smtp::{
        Error,
        authentication::{Credentials, DEFAULT_MECHANISMS, Mechanism},
        client::{AsyncSmtpConnection, TlsParameters},
        commands::{Data, Mail, Noop, Quit, Rcpt, Rset},
        extension::{ClientId, Extension, MailBodyParameter, MailParameter},
        response::{Code, Response, Severity},
    },
};
use rustls::CertificateError;
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout, timeout_at},
};

use auth::delivery::SendError;
use url::Host;

use super::read_limit::{LimitedStream, ReadLimit};
use crate::config::{Smtp, SmtpTls};

/// For each address of the mail server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Until a recipient is named, whatever comes between two bytes. Most of what a whole mail may take: a slow server is no broken one.
const BEFORE_RECIPIENT: Duration = Duration::from_secs(20);
/// For one mail, from the connection to the answer to its last line. Nothing in between has a limit of its own: a server given up just
/// before its yes is sent a second copy.
const ONE_MAIL: Duration = Duration::from_secs(30);
/// How long a connection is kept without a mail. Servers keep theirs for minutes.
const IDLE: Duration = Duration::from_secs(30);
/// For a kept connection to show that it lives. Making a new one takes less than waiting longer.
const SIGN_OF_LIFE: Duration = Duration::from_secs(3);

/// RFC 4954 §6: the client has to authenticate first, or with a stronger mechanism.
const AUTHENTICATION_REQUIRED: u16 = 530;
const NO_SMTP: &str = "the mail server broke off, or what it says is no SMTP";
const NO_CONNECTION: &str = "no connection to the mail server";
const NO_STARTTLS: &str =
    "the mail server offers no STARTTLS; for a server with TLS from the first byte EMAIL_SMTP begins with smtps:";
const NO_PASSWORD: &str = "the mail server takes no user and password (AUTH PLAIN or LOGIN)";
const ONLY_OAUTH: &str =
    "the mail server takes no user and password, only XOAUTH2, which Latchkey doesn't have (docs/operations.md, Microsoft 365)";
const TOO_LONG: &str = "the mail server took too long";

/// How many conversations there are at once is the caller's affair.
pub struct SmtpServer {
    smtp: Smtp,
    hello: ClientId,
    tls: TlsParameters,
    idle: Arc<Mutex<Idle>>,
}

type Idle = Vec<(Instant, Connection)>;

struct Connection {
    smtp: AsyncSmtpConnection,
    read_limit: ReadLimit,
}

/// What was said when the answer was no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Hello,
    StartTls,
    SignIn,
    Sender,
    Recipient,
    Content,
}

/// Why a mail did not go.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Failure {
    Refused(Step, No),
    /// No answer, or none that is SMTP. In words for operators.
    Lost(String),
    /// The same, to a recipient. A relay may ask that recipient's server first, and strangers choose recipients.
    LostAtRecipient(String),
}

/// A mail server's no: its code, and what RFC 3463 has it add about whom or what is at fault (the subject and the detail; its class is
/// the code's).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct No {
    code: Code,
    about: Option<(u16, u16)>,
}

impl No {
    fn of(code: Code, error: &Error) -> Self {
        let text = error.source().map(ToString::to_string).unwrap_or_default();
        let mut numbers = text.split_whitespace().next().unwrap_or_default().split('.').map(str::parse);
        let about = match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
            (Some(Ok(4 | 5)), Some(Ok(subject)), Some(Ok(detail)), None) => Some((subject, detail)),
            _ => None,
        };
        Self { code, about }
    }

    /// The address, or its mailbox. 5.1.7 and 5.1.8 are the sender's; 5.1.10 is a domain that takes no mail at all (RFC 7505).
    fn is_about_recipient(self) -> bool {
        matches!(self.about, Some((1, 0..=6 | 10) | (2, _)))
    }

    fn is_for_now(self) -> bool {
        self.code.severity == Severity::TransientNegativeCompletion
    }
}

impl Display for No {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { code, about } = self;
        match about {
            Some((subject, detail)) => write!(f, "{code} {}.{subject}.{detail}", u16::from(*code) / 100),
            None => write!(f, "{code}"),
        }
    }
}

/// What EHLO says: the host of `BASE_URL`, an address as RFC 5321 §4.1.3 writes it.
pub fn hello(host: &Host<&str>) -> ClientId {
    match *host {
        Host::Domain(name) => ClientId::Domain(name.to_owned()),
        Host::Ipv4(address) => ClientId::Ipv4(address),
        Host::Ipv6(address) => ClientId::Ipv6(address),
    }
}

impl SmtpServer {
    /// Needs a runtime, where idle connections are closed.
    pub fn new(smtp: &Smtp, hello: ClientId) -> anyhow::Result<Self> {
        // Without TLS only on loopback, where the certificate of a server that offers STARTTLS is often of its own making. It is no less
        // safe than what goes in clear.
        let unproven = smtp.tls == SmtpTls::Plain;
        let tls = TlsParameters::builder(smtp.host.clone())
            .dangerous_accept_invalid_certs(unproven)
            .dangerous_accept_invalid_hostnames(unproven)
            .build()
            .context("TLS for the mail server")?;
        let idle = Arc::<Mutex<Idle>>::default();
        tokio::spawn(close_idle(Arc::downgrade(&idle)));
        Ok(Self { smtp: smtp.clone(), hello, tls, idle })
    }

    /// Dropped half-way, it drops its connection with it.
    pub async fn send(&self, message: &Message) -> Result<(), SendError> {
        let started = Instant::now();
        let mut connection = before(started + BEFORE_RECIPIENT, self.begin(message)).await?;
        // From here on a relay may ask the recipient's server before it answers, and strangers choose recipients: time that runs out
        // must not count against the mail server, or three of their mails would turn a rollout off.
        let handed_over = timeout_at(started + ONE_MAIL, connection.hand_over(message)).await;
        match handed_over.unwrap_or_else(|_| Err(Failure::LostAtRecipient(TOO_LONG.to_owned()))) {
            Ok(()) => {
                locked(&self.idle).push((Instant::now(), connection));
                Ok(())
            }
            Err(failure) => Err(connection.given_up(failure).into()),
        }
    }

    /// As far as the recipient.
    async fn begin(&self, message: &Message) -> Result<Connection, Failure> {
        let mut connection = match self.kept().await {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        match connection.name_sender(message).await {
            Ok(()) => Ok(connection),
            Err(failure) => Err(connection.given_up(failure)),
        }
    }

    /// Goes as far as a mail would and sends none: connects, says EHLO, starts TLS, authenticates, names sender and recipients, and takes
    /// it back. What is wrong with a recipient is not the mail server's fault. Whether TLS was on.
    pub async fn try_out(&self, from: &Address, to: &[Address]) -> Result<bool, SendError> {
        let tried = async {
            let mut connection = self.connect().await?;
            let encrypted = connection.smtp.is_encrypted();
            match connection.name(from, to).await {
                Ok(()) => connection.say_goodbye().await,
                Err(failure) => return Err(connection.given_up(failure)),
            }
            Ok(encrypted)
        };
        Ok(before(Instant::now() + BEFORE_RECIPIENT, tried).await?)
    }

    async fn kept(&self) -> Option<Connection> {
        let (_, mut connection) = locked(&self.idle).pop()?;
        let answer = timeout(SIGN_OF_LIFE, connection.smtp.command(Noop)).await.ok()?.ok()?;
        // A server that has said goodbye meanwhile (221) also answers.
        answer.has_code(250).then_some(connection)
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let Smtp { tls, host, port, credentials } = &self.smtp;
        let read_limit = ReadLimit::new();
        let mut stream = LimitedStream::new(reach(host, *port).await?, read_limit.clone());
        if *tls == SmtpTls::Implicit {
            stream.secure(self.tls.clone()).await.map_err(at(Step::Hello))?;
        }
        let mut smtp = AsyncSmtpConnection::connect_with_transport(stream, &self.hello).await.map_err(at(Step::Hello))?;
        // A relay on loopback may take a password only after STARTTLS.
        if *tls == SmtpTls::StartTls || (*tls == SmtpTls::Plain && smtp.can_starttls()) {
            smtp.starttls(self.tls.clone(), &self.hello).await.map_err(at(Step::StartTls))?;
        }
        if let Some(credentials) = credentials {
            let offered = smtp.server_info();
            if offered.supports_auth_mechanism(Mechanism::Xoauth2) && offered.get_auth_mechanism(DEFAULT_MECHANISMS).is_none() {
                return Err(Failure::Lost(ONLY_OAUTH.to_owned()));
            }
            let credentials = Credentials::new(credentials.user.clone(), credentials.password.expose().clone());
            if let Err(failure) = smtp.auth(DEFAULT_MECHANISMS, &credentials).await.map_err(at(Step::SignIn)) {
                return Err(Connection { smtp, read_limit }.given_up(failure));
            }
        }
        Ok(Connection { smtp, read_limit })
    }
}

impl Connection {
    async fn name_sender(&mut self, message: &Message) -> Result<(), Failure> {
        self.read_limit.renew();
        // An address that is not ASCII is in the header as it is.
        let parameters = if message.formatted().is_ascii() {
            Vec::new()
        } else if self.smtp.server_info().supports_feature(Extension::SmtpUtfEight) {
            vec![MailParameter::Body(MailBodyParameter::EightBitMime), MailParameter::SmtpUtfEight]
        } else {
            // Only the recipient's address can be.
            return Err(Failure::LostAtRecipient("the mail server takes ASCII addresses only (SMTPUTF8)".to_owned()));
        };
        let sender = Mail::new(message.envelope().from().cloned(), parameters);
        self.say(Step::Sender, sender, Severity::PositiveCompletion).await
    }

    async fn name(&mut self, from: &Address, to: &[Address]) -> Result<(), Failure> {
        let sender = Mail::new(Some(from.clone()), Vec::new());
        self.say(Step::Sender, sender, Severity::PositiveCompletion).await?;
        for recipient in to {
            match self.say(Step::Recipient, Rcpt::new(recipient.clone(), Vec::new()), Severity::PositiveCompletion).await {
                Err(Failure::Refused(_, no)) if no.is_about_recipient() || no.is_for_now() => {}
                named => named?,
            }
        }
        self.say(Step::Sender, Rset, Severity::PositiveCompletion).await
    }

    async fn hand_over(&mut self, message: &Message) -> Result<(), Failure> {
        for recipient in message.envelope().to() {
            let named = self.say(Step::Recipient, Rcpt::new(recipient.clone(), Vec::new()), Severity::PositiveCompletion).await;
            named.map_err(Failure::at_recipient)?;
        }
        self.say(Step::Content, Data, Severity::PositiveIntermediate).await?;
        let answer = self.smtp.message(&message.formatted()).await.map_err(at(Step::Content))?;
        understood(&answer, Severity::PositiveCompletion)
    }

    async fn say(&mut self, step: Step, command: impl Display, yes: Severity) -> Result<(), Failure> {
        understood(&self.smtp.command(command).await.map_err(at(step))?, yes)
    }

    /// A mail refused half-way is still open at the server, and the next one would be refused with it; so nothing else is said
    /// here but QUIT, in the background: a server that never answers it would turn a refusal into a mail that took too long.
    fn given_up(self, failure: Failure) -> Failure {
        if let Failure::Refused(..) = failure {
            tokio::spawn(self.say_goodbye());
        }
        failure
    }

    async fn say_goodbye(mut self) {
        // It is over, whatever is answered.
        let _ = timeout(SIGN_OF_LIFE, self.smtp.command(Quit)).await;
    }
}

/// Not by the library, which leaves Nagle's algorithm on: the last line of a mail would wait 40 ms, until the server acknowledges the
/// others.
async fn reach(host: &str, port: u16) -> Result<TcpStream, Failure> {
    let mut why = NO_CONNECTION;
    for address in lookup_host((host, port)).await.into_iter().flatten() {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) if stream.set_nodelay(true).is_ok() => return Ok(stream),
            Ok(_) => why = NO_CONNECTION,
            Err(_) => why = TOO_LONG,
        }
    }
    Err(Failure::Lost(why.to_owned()))
}

async fn before<T>(limit: Instant, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout_at(limit, work).await.unwrap_or_else(|_| Err(Failure::Lost(TOO_LONG.to_owned())))
}

fn at(step: Step) -> impl Fn(Error) -> Failure {
    move |error| Failure::new(step, &error)
}

/// The library takes "go on" for "done" and the other way round. A server whose answers are not those to what was said has taken
/// no mail, however friendly they are: they may be the answers to what was said before.
fn understood(answer: &Response, yes: Severity) -> Result<(), Failure> {
    if answer.code().severity == yes { Ok(()) } else { Err(Failure::Lost(NO_SMTP.to_owned())) }
}

async fn close_idle(idle: Weak<Mutex<Idle>>) {
    loop {
        tokio::time::sleep(IDLE / 2).await;
        let Some(idle) = idle.upgrade() else { return };
        let old: Vec<_> = locked(&idle).extract_if(.., |(since, _)| since.elapsed() >= IDLE).collect();
        for (_, connection) in old {
            connection.say_goodbye().await;
        }
    }
}

fn locked(idle: &Mutex<Idle>) -> MutexGuard<'_, Idle> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Failure {
    /// A server's own words may quote the recipient, so of them only the codes are kept.
    fn new(step: Step, error: &Error) -> Self {
        if let Some(code) = error.status() {
            return Self::Refused(step, No::of(code, error));
        }
        Self::Lost(match tls_error(error) {
            _ if error.is_client() && step == Step::StartTls => NO_STARTTLS.to_owned(),
            _ if error.is_client() => NO_PASSWORD.to_owned(),
            Some(rustls::Error::InvalidCertificate(why)) => format!("no safe connection to the mail server: {}", distrust(why)),
            Some(_) => "no safe connection to the mail server".to_owned(),
            None if error.is_timeout() => TOO_LONG.to_owned(),
            None if error.is_response() || is_garbled(error) => NO_SMTP.to_owned(),
            None => NO_CONNECTION.to_owned(),
        })
    }

    fn at_recipient(self) -> Self {
        if let Self::Lost(why) = self { Self::LostAtRecipient(why) } else { self }
    }
}

/// What operators see, and whether it is worth another try.
impl From<Failure> for SendError {
    fn from(failure: Failure) -> Self {
        let (step, no) = match failure {
            Failure::Refused(step, no) => (step, no),
            Failure::Lost(why) => return Self::Server(why),
            Failure::LostAtRecipient(why) => return Self::Temporary(format!("{why}, at the recipient")),
        };
        // Only a no about the recipient is for good. Any other is about what we are or say, and operators can mend that while the mail
        // waits; with a relay that doesn't know us yet every mail of that time would be lost, and its reader told to look for a typing
        // mistake.
        let recipient = matches!(step, Step::Recipient | Step::Content);
        if no.is_for_now() {
            return Self::Temporary(format!("the mail server refused it for now ({no})"));
        }
        if recipient && no.is_about_recipient() {
            return Self::Permanent(format!("the mail server refused it ({no})"));
        }
        let mend = match (u16::from(no.code), no.about, step) {
            (AUTHENTICATION_REQUIRED, ..) => "wants a user and password in EMAIL_SMTP that it knows",
            (504, ..) => "takes no mail from the host of BASE_URL, which EHLO names",
            (_, Some((7, 60) | (1, 7 | 8)), _) | (_, _, Step::Sender) => "refused the sender in EMAIL_FROM",
            (521, ..) | (_, _, Step::Hello) => "takes no mail from this machine",
            (_, _, Step::StartTls) => "refused STARTTLS",
            (534, _, Step::SignIn) => "wants an application password, or another way to sign in, for the user in EMAIL_SMTP",
            (538, _, Step::SignIn) => "takes a password only after TLS; EMAIL_SMTP says none",
            (_, Some((7, 139)), Step::SignIn) => "takes no password for the user in EMAIL_SMTP (docs/operations.md, Microsoft 365)",
            (_, _, Step::SignIn) => "refused the user and password in EMAIL_SMTP",
            (_, Some((7, _)), _) => {
                "passes no mail on for us; its operator has to allow this machine, the user in EMAIL_SMTP or EMAIL_FROM"
            }
            _ => "refused it and doesn't say whether for the recipient or for us; its operator can see why",
        };
        let text = format!("the mail server {mend} ({no})");
        // What is said to a recipient's name may come from the recipient's server, and strangers choose recipients.
        if recipient && u16::from(no.code) != AUTHENTICATION_REQUIRED { Self::Temporary(text) } else { Self::Server(text) }
    }
}

/// Bytes that are no text, or too many.
fn is_garbled(error: &Error) -> bool {
    let source = error.source().and_then(|error| error.downcast_ref::<io::Error>());
    source.is_some_and(|error| error.kind() == io::ErrorKind::InvalidData)
}

/// The library counts these among the failures to connect, wrapped in an error of input and output.
fn tls_error(error: &Error) -> Option<&rustls::Error> {
    iter::successors(error.source(), |&error| error.source())
        .find_map(|error| error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref())
}

/// In our own words: the names in a certificate are a stranger's text.
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
    use crate::config::{Secret, SmtpCredentials};

    const TO: &str = "mara@example.org";

    async fn server() -> (SmtpSink, SmtpServer) {
        let sink = SmtpSink::start().await;
        let (host, port) = (sink.address.ip().to_string(), sink.address.port());
        let password = Secret::new("secret".to_owned());
        let credentials = Some(SmtpCredentials { user: "mailer".to_owned(), password });
        let smtp = Smtp { tls: SmtpTls::Plain, host, port, credentials };
        (sink, SmtpServer::new(&smtp, ClientId::Domain("localhost".to_owned())).expect("no TLS to set up"))
    }

    fn message() -> Message {
        let from = "sign-in@example.org".parse().expect("an address");
        Message::builder().from(from).to(TO.parse().expect("an address")).body(String::new()).expect("a message")
    }

    /// Worth another try: a "not now" may be a recipient's, and so may be what its relay does when it is named; everything else is the mail
    /// server's.
    fn again(stage: Stage, why: &str) -> Result<(), SendError> {
        Err(match stage {
            _ if why.contains("for now") => SendError::Temporary(why.to_owned()),
            Stage::Rcpt if !why.ends_with(')') => SendError::Temporary(format!("{why}, at the recipient")),
            Stage::Rcpt | Stage::Data | Stage::Taken if why.ends_with(')') && !why.contains("(530") => {
                SendError::Temporary(why.to_owned())
            }
            _ => SendError::Server(why.to_owned()),
        })
    }

    /// The verbs of one conversation, up to that one.
    fn up_to(verb: &str) -> Vec<String> {
        let verbs = ["EHLO", "AUTH", "MAIL", "RCPT", "DATA"];
        let last = verbs.iter().position(|known| *known == verb);
        verbs[..last.map_or(0, |last| last + 1)].iter().map(ToString::to_string).collect()
    }

    /// All stages of a conversation without TLS in their order, each with what the client has said last.
    const STAGES: [(Stage, &str); 7] = [
        (Stage::Greeting, ""),
        (Stage::Ehlo, "EHLO"),
        (Stage::Auth, "AUTH"),
        (Stage::Mail, "MAIL"),
        (Stage::Rcpt, "RCPT"),
        (Stage::Data, "DATA"),
        (Stage::Taken, "DATA"),
    ];

    /// The next mail goes out, on a connection of its own where the last one's is not to be trusted.
    async fn goes_out_next(sink: &SmtpSink, server: &SmtpServer, so_far: usize, what: &str) {
        server.send(&message()).await.unwrap_or_else(|error| panic!("after {what}: {error}"));
        assert!(sink.all_to(TO).len() > so_far, "after {what}");
    }

    #[tokio::test]
    async fn one_connection_carries_one_mail_after_the_other() {
        let (sink, server) = server().await;
        for _ in 0..2 {
            server.send(&message()).await.expect("taken");
        }
        assert_eq!(sink.heard(false), ["EHLO", "AUTH", "MAIL", "RCPT", "DATA", "NOOP", "MAIL", "RCPT", "DATA"]);
    }

    #[tokio::test]
    async fn only_a_no_about_the_recipient_is_for_good() {
        const ABOUT_US: [&str; 16] = [
            "421",
            "450",
            "451",
            "452",
            "454",
            "521",
            "530",
            "535",
            "550",
            "552",
            "554",
            "554 5.7.1",
            "553 5.7.1",
            "504 5.5.2",
            "550 5.7.60",
            "550 5.1.8",
        ];
        const ABOUT_THE_RECIPIENT: [&str; 4] = ["550 5.1.1", "553 5.1.3", "556 5.1.10", "552 5.2.2"];
        for (stage, verb) in STAGES {
            for codes in ABOUT_US.into_iter().chain(ABOUT_THE_RECIPIENT) {
                let (sink, server) = server().await;
                sink.play(Fault::new(stage, Act::Refuse(codes)).times(1));
                let what = format!("{codes} at {stage:?}");
                let answer = server.send(&message()).await.expect_err(&what);
                let named = matches!(stage, Stage::Rcpt | Stage::Data | Stage::Taken);
                let for_good = named && ABOUT_THE_RECIPIENT.contains(&codes);
                assert_eq!(matches!(answer, SendError::Permanent(_)), for_good, "{what}: {answer}");
                // Strangers choose recipients; but whether we sign in is ours alone.
                let ours = matches!(answer, SendError::Server(_));
                assert_eq!(ours, !codes.starts_with('4') && (!named || codes == "530"), "{what}: {answer}");
                let text = answer.to_string();
                assert!(text.ends_with(&format!("({codes})")) && !text.contains('@'), "{what}: {text}");
                assert_eq!(sink.all_to(TO).len(), 0, "{what}");
                goes_out_next(&sink, &server, 0, &what).await;
                let heard = sink.heard(false);
                assert!(heard.starts_with(&up_to(verb)), "{what}: {heard:?}");
                // RFC 5321 §4.1.1.10; the library leaves a greeting that says no without a word.
                if stage != Stage::Greeting {
                    sink.hears("QUIT").await;
                }
            }
        }
    }

    #[tokio::test]
    async fn operators_are_told_what_to_mend() {
        for (stage, codes, text) in [
            (Stage::Greeting, "554", "takes no mail from this machine"),
            (Stage::Ehlo, "550", "takes no mail from this machine"),
            (Stage::Auth, "535 5.7.8", "refused the user and password in EMAIL_SMTP"),
            (Stage::Auth, "535 5.7.139", "takes no password for the user in EMAIL_SMTP (docs/operations.md, Microsoft 365)"),
            (Stage::Auth, "534 5.7.9", "wants an application password, or another way to sign in, for the user in EMAIL_SMTP"),
            (Stage::Auth, "538", "takes a password only after TLS; EMAIL_SMTP says none"),
            (Stage::Mail, "530 5.7.0", "wants a user and password in EMAIL_SMTP that it knows"),
            (Stage::Mail, "550", "refused the sender in EMAIL_FROM"),
            (Stage::Rcpt, "530 5.7.0", "wants a user and password in EMAIL_SMTP that it knows"),
            (Stage::Rcpt, "450", "refused it for now"),
            (
                Stage::Rcpt,
                "554 5.7.1",
                "passes no mail on for us; its operator has to allow this machine, the user in EMAIL_SMTP or EMAIL_FROM",
            ),
            (Stage::Rcpt, "504 5.5.2", "takes no mail from the host of BASE_URL, which EHLO names"),
            (Stage::Rcpt, "550 5.1.8", "refused the sender in EMAIL_FROM"),
            (Stage::Taken, "550 5.7.60", "refused the sender in EMAIL_FROM"),
            (Stage::Rcpt, "550", "refused it and doesn't say whether for the recipient or for us; its operator can see why"),
        ] {
            let (sink, server) = server().await;
            sink.play(Fault::new(stage, Act::Refuse(codes)));
            let text = if codes == "450" { "refused it for now" } else { text };
            assert_eq!(server.send(&message()).await, again(stage, &format!("the mail server {text} ({codes})")));
        }
    }

    /// `doctor` asks what a mail asks, up to the recipient. What is wrong with that recipient is not the mail server's fault.
    #[tokio::test]
    async fn a_try_goes_as_far_as_the_recipient_and_sends_nothing() {
        for (stage, codes, fine) in [
            (Stage::Quit, "250", true),
            (Stage::Rcpt, "550 5.1.1", true),
            (Stage::Rcpt, "450 4.7.1", true),
            (Stage::Rcpt, "554 5.7.1", false),
            (Stage::Rcpt, "550", false),
            (Stage::Mail, "553 5.7.1", false),
        ] {
            let (sink, server) = server().await;
            sink.play(Fault::new(stage, Act::Refuse(codes)));
            let (from, to) = ("sign-in@example.org".parse().expect("an address"), TO.parse().expect("an address"));
            let tried = server.try_out(&from, &[to]).await;
            assert_eq!(tried.is_ok(), fine, "{codes} at {stage:?}: {tried:?}");
            assert_eq!(sink.all_to(TO).len(), 0);
            if fine {
                assert_eq!(sink.heard(false), ["EHLO", "AUTH", "MAIL", "RCPT", "RSET", "QUIT"], "{codes} at {stage:?}");
            }
        }
    }

    #[test]
    fn the_host_of_the_base_url_is_named_as_smtp_writes_it() {
        for (url, name) in [
            ("https://id.internal", "id.internal"),
            ("https://10.0.0.5", "[10.0.0.5]"),
            ("https://[fd00::5]:8443", "[IPv6:fd00::5]"),
        ] {
            let url = url::Url::parse(url).expect("a URL");
            assert_eq!(hello(&url.host().expect("a host")).to_string(), name);
        }
    }

    #[tokio::test]
    async fn what_is_no_answer_is_tried_again_over_a_new_connection() {
        let mebibyte = [vec![b'x'; 1024 * 1024], b"\r\n".to_vec()].concat();
        for (what, act, text) in [
            ("a goodbye", Act::Goodbye, "the mail server refused it for now (421)"),
            ("a line that is no SMTP", Act::Say(b"HTTP/1.1 400 Bad Request\r\n".to_vec()), NO_SMTP),
            ("bytes that are no text", Act::Say(b"250 \xff\xfe\0\r\n".to_vec()), NO_SMTP),
            ("a line of 1 MiB", Act::Say(mebibyte), NO_SMTP),
            ("a line without end", Act::Endless, NO_SMTP),
            ("a hang-up", Act::HangUp, NO_SMTP),
        ] {
            for (stage, _) in STAGES {
                let what = format!("{what} at {stage:?}");
                let (sink, server) = server().await;
                sink.play(Fault::new(stage, act.clone()).times(1));
                let answer = timeout(Duration::from_secs(10), server.send(&message())).await;
                let answer = answer.unwrap_or_else(|_| panic!("{what}: read on and on"));
                assert_eq!(answer, again(stage, text), "{what}");
                let so_far = sink.all_to(TO).len();
                goes_out_next(&sink, &server, so_far, &what).await;
            }
        }
    }

    #[tokio::test]
    async fn a_friendly_answer_to_something_else_is_none() {
        for (stage, answer) in [
            // From here on each answer is the one to what was said before.
            (Stage::Mail, "250 ok\r\n250 ok\r\n"),
            (Stage::Mail, "354 go on\r\n"),
            (Stage::Rcpt, "354 go on\r\n"),
            (Stage::Data, "250 ok\r\n"),
            (Stage::Taken, "354 go on\r\n"),
        ] {
            let (sink, server) = server().await;
            sink.play(Fault::new(stage, Act::Say(answer.into())).times(1));
            assert_eq!(server.send(&message()).await, again(stage, NO_SMTP), "{answer:?} at {stage:?}");
            let so_far = sink.all_to(TO).len();
            goes_out_next(&sink, &server, so_far, answer).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_or_dribbles_is_given_up_at_every_step() {
        for act in [Act::Silence, Act::Slow(Duration::from_secs(4)), Act::Late(Duration::from_mins(2))] {
            for (stage, _) in STAGES {
                let what = format!("{act:?} at {stage:?}");
                let (sink, server) = server().await;
                sink.play(Fault::new(stage, act.clone()).times(1));
                let started = Instant::now();
                assert_eq!(server.send(&message()).await, too_long(stage), "{what}");
                assert!(started.elapsed() <= ONE_MAIL, "{what}: {:?}", started.elapsed());
                let so_far = sink.all_to(TO).len();
                goes_out_next(&sink, &server, so_far, &what).await;
            }
        }
    }

    /// Time that runs out once a recipient is named may be what the recipient's server took, at whichever step it runs out.
    fn too_long(stage: Stage) -> Result<(), SendError> {
        Err(match stage {
            Stage::Rcpt | Stage::Data | Stage::Taken => SendError::Temporary(format!("{TOO_LONG}, at the recipient")),
            _ => SendError::Server(TOO_LONG.to_owned()),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn time_lost_at_a_recipient_is_not_counted_against_the_mail_server_later() {
        let (sink, server) = server().await;
        sink.play(Fault::new(Stage::Rcpt, Act::Late(Duration::from_secs(19))).times(1));
        sink.play(Fault::new(Stage::Taken, Act::Late(Duration::from_secs(12))).times(1));
        assert_eq!(server.send(&message()).await, too_long(Stage::Taken));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_server_is_waited_for() {
        let (sink, server) = server().await;
        for (stage, _) in STAGES {
            sink.play(Fault::new(stage, Act::Late(Duration::from_secs(3))));
        }
        server.send(&message()).await.expect("taken");
        assert_eq!(sink.all_to(TO).len(), 1);
    }

    /// A refusal stays one where the goodbye after it is never answered.
    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_goodbye() {
        let (sink, server) = server().await;
        sink.play(Fault::new(Stage::Rcpt, Act::Refuse("550 5.1.1")));
        sink.play(Fault::new(Stage::Quit, Act::Silence));
        let message = message();
        let answer = timeout(Duration::from_secs(1), server.send(&message)).await.expect("at once");
        assert_eq!(answer, Err(SendError::Permanent("the mail server refused it (550 5.1.1)".to_owned())));
    }

    /// A kept connection carries as many mails as there are, though no single one may be answered with so much.
    #[tokio::test]
    async fn what_one_mail_may_read_is_for_one_mail() {
        let (sink, server) = server().await;
        let talkative = format!("250 {}\r\n", "x".repeat(900)).into_bytes();
        sink.play(Fault::new(Stage::Noop, Act::Say(talkative)));
        for n in 0..100 {
            server.send(&message()).await.unwrap_or_else(|error| panic!("mail {n}: {error}"));
        }
        assert_eq!(sink.heard(false).iter().filter(|verb| *verb == "EHLO").count(), 1);
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
        let once = ["EHLO", "AUTH", "MAIL", "RCPT", "DATA"];
        assert_eq!(sink.heard(false), [once, once].concat());
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
