//! A mail server with TLS: mail goes only where a certificate says it may, and nothing is said in clear.
//!
//! `smtp://` on a loopback name is plain by design, so the server that must offer STARTTLS is reached by 0.0.0.0: this machine
//! too, yet no loopback address.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use sqlx::PgPool;
use testkit::{Act, Browser, Database, Fault, Manner, SmtpSink, Stage};
use tokio::net::{TcpListener, TcpStream};

use crate::processes::{ORIGIN, Server};

pub(super) type Authority = CertifiedIssuer<'static, KeyPair>;

/// A certificate authority, and the file that makes the server's process trust it and no other.
pub(super) struct Trust {
    pub authority: Authority,
    pub file: PathBuf,
}

impl Trust {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let authority = CertifiedIssuer::self_signed(params, key()).expect("a certificate authority");
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.pem"));
        std::fs::write(&file, authority.pem()).expect("the folder for tests is writable");
        Self { authority, file }
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

/// `None` for one that vouches for itself.
pub(super) fn certified(names: &[&str], authority: Option<&Authority>, expired: bool) -> Arc<ServerConfig> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).expect("names");
    if expired {
        params.not_after = date_time_ymd(2020, 1, 1);
    }
    let key = key();
    let certificate = match authority {
        Some(authority) => params.signed_by(&key, authority),
        None => params.self_signed(&key),
    };
    let certificate = certificate.expect("a certificate").der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("the usual versions");
    Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).expect("key and certificate fit"))
}

const GOOD_NAMES: [&str; 2] = ["localhost", "0.0.0.0"];

fn implicit(address: SocketAddr) -> String {
    format!("smtps://mailer:secret@localhost:{}", address.port())
}

fn start_tls(address: SocketAddr) -> String {
    format!("smtp://mailer:secret@0.0.0.0:{}", address.port())
}

/// A server, and mail servers at the address it sends to, one after the other.
struct Site {
    mail_server: SocketAddr,
    server: Server,
    owner: PgPool,
}

impl Site {
    async fn new(url: fn(SocketAddr) -> String, trust: &Trust) -> Self {
        let mail_server = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound");
        let database = Database::new().await;
        let trust = trust.file.to_str().expect("UTF-8");
        let variables = [("EMAIL_SMTP", &*url(mail_server)), ("SSL_CERT_FILE", trust), ("LIMITS", "off")];
        Self { mail_server, server: Server::start_with(&database, &variables).await, owner: database.owner().await }
    }

    /// Once the one before has let go of the address.
    async fn mail_server(&self, manner: Manner) -> SmtpSink {
        while TcpStream::connect(self.mail_server).await.is_ok() {}
        SmtpSink::start_at(self.mail_server, manner).await
    }

    async fn ask(&self) {
        let mut browser = Browser::new(self.server.address, ORIGIN);
        assert_eq!(browser.post("/login", &[("email", "mara@example.org")]).await.location(), "/login/sent");
    }

    /// What operators see of the one mail, once it was tried.
    async fn tried(&self) -> (String, String) {
        let tried = async {
            loop {
                let row: (String, Option<String>) =
                    sqlx::query_as("select state, last_error from mail_outbox").fetch_one(&self.owner).await.expect("one mail");
                if let (state, Some(error)) = row {
                    return (state, error);
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), tried).await.expect("it is tried")
    }

    async fn sends(&self, manner: Manner, in_clear: &[&str]) {
        let sink = self.mail_server(manner).await;
        self.ask().await;
        assert_eq!(sink.nth_to("mara@example.org", 1).await.code().len(), 6);
        assert_eq!(sink.heard(false), in_clear);
        assert_eq!(sink.heard(true)[..5], ["EHLO", "AUTH", "MAIL", "RCPT", "DATA"]);
    }

    /// The mail waits, and nothing was said in clear.
    async fn refuses(&self, manner: Manner, fault: Option<Fault>, error: &str) {
        let sink = self.mail_server(manner).await;
        if let Some(fault) = fault {
            sink.play(fault);
        }
        self.ask().await;
        assert_eq!(self.tried().await, ("queued".to_owned(), error.to_owned()));
        let in_clear = sink.heard(false);
        for verb in ["AUTH", "MAIL", "RCPT", "DATA"] {
            assert!(!in_clear.iter().any(|heard| heard == verb), "{error}: {in_clear:?}");
        }
        assert_eq!(sink.heard(true), [] as [String; 0], "{error}");
        // The next mail server is asked for another.
        sqlx::query("delete from mail_outbox").execute(&self.owner).await.expect("the superuser may");
    }
}

const NO_NAME: &str = "no safe connection to the mail server: its certificate is for another name";
const OVER: &str = "no safe connection to the mail server: its certificate has expired";
const UNKNOWN: &str = "no safe connection to the mail server: its certificate is of nobody this machine trusts";

#[tokio::test(flavor = "multi_thread")]
async fn with_tls_at_once_mail_goes_only_to_a_server_that_proves_its_name() {
    let (trust, stranger) = (Trust::new("implicit"), Trust::new("stranger"));
    let authority = Some(&trust.authority);
    let site = Site::new(implicit, &trust).await;
    // A greeting is no handshake.
    site.refuses(Manner::Plain, None, "no safe connection to the mail server").await;
    for (config, error) in [
        (certified(&["mail.example.org"], authority, false), NO_NAME),
        (certified(&GOOD_NAMES, authority, true), OVER),
        (certified(&GOOD_NAMES, None, false), UNKNOWN),
        (certified(&GOOD_NAMES, Some(&stranger.authority), false), UNKNOWN),
    ] {
        site.refuses(Manner::Tls(config), None, error).await;
    }
    site.sends(Manner::Tls(certified(&GOOD_NAMES, authority, false)), &[]).await;
}

/// A server that offers STARTTLS and won't have it after all is no reason to go on in clear, nor to give a mail up.
#[tokio::test(flavor = "multi_thread")]
async fn with_starttls_mail_goes_only_to_a_server_that_proves_its_name() {
    let trust = Trust::new("starttls");
    let authority = Some(&trust.authority);
    let good = certified(&GOOD_NAMES, authority, false);
    let site = Site::new(start_tls, &trust).await;
    let lacks = "the mail server offers no STARTTLS; for a server with TLS from the first byte EMAIL_SMTP begins with smtps:";
    site.refuses(Manner::Plain, None, lacks).await;
    for (config, error) in [
        (certified(&["mail.example.org"], authority, false), NO_NAME),
        (certified(&GOOD_NAMES, authority, true), OVER),
        (certified(&GOOD_NAMES, None, false), UNKNOWN),
    ] {
        site.refuses(Manner::StartTls(config), None, error).await;
    }
    for (act, error) in [
        (Act::Answer(454), "the mail server refused it for now (454)"),
        (Act::Answer(554), "the mail server refused STARTTLS (554)"),
        (Act::Say(b"220 go on\r\n250 ok\r\n".to_vec()), "no safe connection to the mail server"),
        (Act::HangUp, "the mail server broke off, or what it says is no SMTP"),
    ] {
        site.refuses(Manner::StartTls(good.clone()), Some(Fault::new(Stage::StartTls, act)), error).await;
    }
    site.sends(Manner::StartTls(good), &["EHLO", "STARTTLS"]).await;
}
