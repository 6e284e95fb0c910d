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
use testkit::{Act, Browser, Database, Fault, Manner, SmtpSink, Stage};

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

/// A server that sends by `smtp`, and was asked for a link.
async fn asked(database: &Database, smtp: &str, trust: &Trust) -> Server {
    let trust = trust.file.to_str().expect("UTF-8");
    let server = Server::start_with(database, &[("EMAIL_SMTP", smtp), ("SSL_CERT_FILE", trust)]).await;
    let mut browser = Browser::new(server.address, ORIGIN);
    assert_eq!(browser.post("/login", &[("email", "mara@example.org")]).await.location(), "/login/sent");
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_goes_through_tls_to_a_server_that_proves_its_name() {
    let trust = Trust::new("good");
    let config = certified(&GOOD_NAMES, Some(&trust.authority), false);
    for (manner, url, in_clear) in [
        (Manner::Tls(config.clone()), implicit as fn(SocketAddr) -> String, &[][..]),
        (Manner::StartTls(config), start_tls, &["EHLO", "STARTTLS"]),
    ] {
        let (database, sink) = (Database::new().await, SmtpSink::start_as(manner).await);
        let _server = asked(&database, &url(sink.address), &trust).await;
        let mail = sink.nth_to("mara@example.org", 1).await;
        assert_eq!(mail.code().len(), 6);
        assert_eq!(sink.heard(false), in_clear);
        assert_eq!(sink.heard(true)[..5], ["EHLO", "AUTH", "MAIL", "RCPT", "DATA"]);
    }
}

/// What operators see of the one mail, once it was tried.
async fn tried(database: &Database) -> (String, String) {
    let pool = database.pool_of(1).await;
    let tried = async {
        loop {
            let row: (String, Option<String>) =
                sqlx::query_as("select state, last_error from mail_outbox").fetch_one(&pool).await.expect("one mail");
            if let (state, Some(error)) = row {
                return (state, error);
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), tried).await.expect("it is tried")
}

fn assert_discreet(sink: &SmtpSink, what: &str) {
    let in_clear = sink.heard(false);
    for verb in ["AUTH", "MAIL", "RCPT", "DATA"] {
        assert!(!in_clear.iter().any(|heard| heard == verb), "{what}: {in_clear:?}");
    }
    assert_eq!(sink.heard(true), [] as [String; 0], "{what}");
}

/// A server that offers STARTTLS and won't have it after all is no reason to go on in clear, nor to give a mail up.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_handshake_mail_waits_and_nothing_is_said() {
    let trust = Trust::new("unshaken");
    let config = certified(&GOOD_NAMES, Some(&trust.authority), false);
    for (act, error) in [
        (Act::Answer(454), "the mail server refused it for now (454)"),
        (Act::Answer(554), "the mail server refused STARTTLS (554)"),
        (Act::Say(b"220 go on\r\n250 ok\r\n".to_vec()), "no safe connection to the mail server"),
        (Act::HangUp, "the mail server broke off, or what it says is no SMTP"),
    ] {
        let (database, sink) = (Database::new().await, SmtpSink::start_as(Manner::StartTls(config.clone())).await);
        sink.play(Fault::new(Stage::StartTls, act));
        let _server = asked(&database, &start_tls(sink.address), &trust).await;
        assert_eq!(tried(&database).await, ("queued".to_owned(), error.to_owned()));
        assert_discreet(&sink, error);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_safe_connection_mail_waits_and_nothing_is_said() {
    let trust = Trust::new("refused");
    let stranger = Trust::new("stranger");
    let authority = Some(&trust.authority);
    let other_name = certified(&["mail.example.org"], authority, false);
    let expired = certified(&GOOD_NAMES, authority, true);
    let self_signed = certified(&GOOD_NAMES, None, false);
    let by_a_stranger = certified(&GOOD_NAMES, Some(&stranger.authority), false);
    let other = "no safe connection to the mail server: its certificate is for another name";
    let over = "no safe connection to the mail server: its certificate has expired";
    let unknown = "no safe connection to the mail server: its certificate is of nobody this machine trusts";
    for (manner, url, error) in [
        (
            Manner::Plain,
            start_tls as fn(SocketAddr) -> String,
            "the mail server lacks what this needs: STARTTLS, a way to sign in, or SMTPUTF8",
        ),
        // Plain where TLS was to begin at once: a greeting is no handshake.
        (Manner::Plain, implicit, "no safe connection to the mail server"),
        (Manner::Tls(other_name.clone()), implicit, other),
        (Manner::Tls(expired.clone()), implicit, over),
        (Manner::Tls(self_signed.clone()), implicit, unknown),
        (Manner::Tls(by_a_stranger), implicit, unknown),
        (Manner::StartTls(other_name), start_tls, other),
        (Manner::StartTls(expired), start_tls, over),
        (Manner::StartTls(self_signed), start_tls, unknown),
    ] {
        let (database, sink) = (Database::new().await, SmtpSink::start_as(manner).await);
        let url = url(sink.address);
        let _server = asked(&database, &url, &trust).await;
        assert_eq!(tried(&database).await, ("queued".to_owned(), error.to_owned()), "{url}");
        assert_discreet(&sink, &url);
    }
}
