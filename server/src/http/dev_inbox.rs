//! `/dev/inbox`: in development mail stays here instead of going out. A reader could sign in to every account, so it exists only
//! without `EMAIL_SMTP` on a loopback `BASE_URL`, and answers only a loopback peer that asks a loopback host without a proxy between.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use app::{
    http::render::page,
    pages::dev_inbox::{DevInboxPage, DevInboxPageProps, DevMessagePage, DevMessagePageProps, Summary},
    routes,
    ui::format,
};
use auth::Auth;
use axum::{
    Router,
    extract::{ConnectInfo, Path, Request, State},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_SECURITY_POLICY, HOST},
};
use time::OffsetDateTime;

/// Older mails are forgotten.
const KEPT: usize = 100;

/// Mail as inline styles need it, and nothing else: no script, no form, no link out of the frame, no picture from afar.
const MAIL_CSP: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'; sandbox";

#[derive(Default)]
pub struct DevInbox(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    mails: VecDeque<(u64, DevMail)>,
    next_id: u64,
}

#[derive(Debug, Clone)]
pub struct DevMail {
    pub to: String,
    pub subject: String,
    pub text: String,
    pub html: String,
    pub at: OffsetDateTime,
}

impl DevInbox {
    pub fn keep(&self, mail: DevMail) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.next_id += 1;
        let id = kept.next_id;
        kept.mails.push_front((id, mail));
        kept.mails.truncate(KEPT);
    }

    fn all(&self) -> Vec<(u64, DevMail)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).mails.iter().cloned().collect()
    }

    fn one(&self, id: u64) -> Option<DevMail> {
        self.all().into_iter().find(|(found, _)| *found == id).map(|(_, mail)| mail)
    }
}

#[derive(Clone)]
struct Inbox {
    inbox: Arc<DevInbox>,
    auth: Arc<Auth>,
}

pub fn routes(inbox: Arc<DevInbox>, auth: Arc<Auth>) -> Router {
    Router::new()
        .route(routes::DEV_INBOX, get(list))
        .route("/dev/inbox/{id}", get(message))
        .route("/dev/inbox/{id}/html", get(html))
        .layer(middleware::from_fn(only_this_machine))
        .with_state(Inbox { inbox, auth })
}

async fn only_this_machine(ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request, next: Next) -> Response {
    if is_at_this_machine(peer.ip(), request.headers()) { next.run(request).await } else { StatusCode::NOT_FOUND.into_response() }
}

/// The peer alone does not tell: a proxy on this machine is a loopback peer for the whole world, and a page elsewhere can point a
/// name of its own at 127.0.0.1.
fn is_at_this_machine(peer: IpAddr, headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let host = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(host, |(host, _)| host);
    let loopback_host = host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let forwarded = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"];
    peer.to_canonical().is_loopback() && loopback_host && !forwarded.iter().any(|name| headers.contains_key(*name))
}

impl Inbox {
    fn ago(&self, at: OffsetDateTime) -> String {
        format::ago((self.auth.now() - at).try_into().unwrap_or_default())
    }
}

async fn list(State(inbox): State<Inbox>) -> Response {
    let messages = inbox
        .inbox
        .all()
        .into_iter()
        .map(|(id, mail)| Summary { id: id.to_string(), to: mail.to, subject: mail.subject, when: inbox.ago(mail.at) })
        .collect();
    page(StatusCode::OK, || DevInboxPage(DevInboxPageProps { messages }))
}

async fn message(State(inbox): State<Inbox>, Path(id): Path<u64>) -> Response {
    let Some(mail) = inbox.inbox.one(id) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    page(StatusCode::OK, || {
        DevMessagePage(DevMessagePageProps {
            to: mail.to,
            subject: mail.subject,
            when: inbox.ago(mail.at),
            text: mail.text,
            html_href: format!("{}/{id}/html", routes::DEV_INBOX),
        })
    })
}

async fn html(State(inbox): State<Inbox>, Path(id): Path<u64>) -> Response {
    match inbox.inbox.one(id) {
        Some(mail) => ([(CONTENT_SECURITY_POLICY, MAIL_CSP)], Html(app::mails::with_pictures(&mail.html))).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_reads_it() {
        let ask = |peer: &str, host: &'static str, extra: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().expect("ASCII"));
            if let Some(name) = extra {
                headers.insert(name, "203.0.113.7".parse().expect("ASCII"));
            }
            is_at_this_machine(peer.parse().expect("an address"), &headers)
        };
        for host in ["localhost", "localhost:3000", "127.0.0.1:3000", "[::1]:3000", "[::1]"] {
            assert!(ask("127.0.0.1", host, None), "{host}");
        }
        assert!(ask("::1", "localhost:3000", None) && ask("::ffff:127.0.0.1", "localhost", None));
        for host in ["", "evil.example", "localhost.evil.example", "192.168.1.2:3000", "127.0.0.1.evil.example", "localhost:3000:x"]
        {
            assert!(!ask("127.0.0.1", host, None), "{host}");
        }
        assert!(!ask("192.168.1.9", "localhost:3000", None));
        for header in ["x-forwarded-for", "forwarded", "x-real-ip", "x-forwarded-host", "via", "x-forwarded-proto"] {
            assert!(!ask("127.0.0.1", "localhost:3000", Some(header)), "{header}");
        }
    }

    #[test]
    fn it_keeps_the_newest_hundred() {
        let inbox = DevInbox::default();
        for n in 0..150 {
            inbox.keep(DevMail {
                to: n.to_string(),
                subject: String::new(),
                text: String::new(),
                html: String::new(),
                at: OffsetDateTime::UNIX_EPOCH,
            });
        }
        let kept = inbox.all();
        assert_eq!((kept.len(), kept[0].1.to.as_str(), kept[99].1.to.as_str()), (100, "149", "50"));
        assert!(inbox.one(kept[99].0).is_some() && inbox.one(1).is_none());
    }
}
