//! One name for a request, in the answer, in every log line and in the audit. tower-http's layer keeps an id of any length that
//! anybody sends.

use std::{fmt, net::IpAddr, sync::Arc};

use axum::extract::Request;
use http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

use super::client_ip::TrustedProxies;
use crate::http::line::{Line, line};

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// 1 to 64 of `A-Z a-z 0-9 . _ -`: fits a log line, a page and a header as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// An id that sorts by time, so that a log's ids lie as its lines do.
    #[expect(clippy::disallowed_methods, reason = "a name for logs: no decision reads its time")]
    fn fresh() -> Self {
        let mut text = Uuid::encode_buffer();
        Self((&*Uuid::now_v7().hyphenated().encode_lower(&mut text)).into())
    }

    fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        ((1..=64).contains(&text.len()) && text.bytes().all(allowed)).then(|| Self(text.into()))
    }

    /// One line: of several, the proxy may have written either.
    fn forwarded(headers: &HeaderMap) -> Option<Self> {
        match line(headers, X_REQUEST_ID) {
            Line::One(line) => Self::parse(line.to_str().ok()?),
            Line::None | Line::Several => None,
        }
    }

    /// An id that comes with the request is kept only if a trusted proxy sent it: a stranger could reuse another request's id and
    /// confuse the audit.
    pub fn of(request: &Request, peer: IpAddr, proxies: &TrustedProxies) -> Self {
        let forwarded = if proxies.contains(peer) { Self::forwarded(request.headers()) } else { None };
        forwarded.unwrap_or_else(Self::fresh)
    }

    pub fn write(&self, headers: &mut HeaderMap) {
        headers.insert(X_REQUEST_ID, HeaderValue::from_str(&self.0).expect("an id holds only what a header may"));
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::{
        Extension, Router,
        body::Body,
        extract::ConnectInfo,
        middleware::{Next, from_fn},
        routing::get,
    };

    use super::*;
    use crate::http::middleware::test::{from, send, text};

    fn app() -> Router {
        let proxies = TrustedProxies::new(["127.0.0.1/32".parse::<ipnet::IpNet>().expect("a network")]);
        Router::new().route("/", get(|Extension(id): Extension<RequestId>| async move { id.to_string() })).layer(from_fn(
            move |ConnectInfo(peer): ConnectInfo<SocketAddr>, mut request: Request, next: Next| {
                let id = RequestId::of(&request, peer.ip(), &proxies);
                request.extensions_mut().insert(id.clone());
                async move {
                    let mut response = next.run(request).await;
                    id.write(response.headers_mut());
                    response
                }
            },
        ))
    }

    /// The id in the answer, which must be the one the handler saw.
    async fn answered(peer: &str, lines: &[&str]) -> String {
        let request = lines.iter().fold(Request::get("/"), |request, line| request.header(X_REQUEST_ID, *line));
        let response = send(&app(), from(peer, request.body(Body::empty()).expect("valid"))).await;
        let header = response.headers()[X_REQUEST_ID].to_str().expect("ASCII").to_owned();
        assert_eq!(text(response).await, header);
        header
    }

    #[tokio::test]
    async fn a_proxys_id_is_kept() {
        for id in ["a", "0af7651916cd43dd8448eb211c80319c", "Edge_1.2-3", &"x".repeat(64)] {
            assert_eq!(answered("127.0.0.1", &[id]).await, id);
            assert_eq!(answered("::ffff:127.0.0.1", &[id]).await, id);
        }
    }

    #[tokio::test]
    async fn anything_else_gets_an_id_of_ours() {
        let new = |id: &str| Uuid::parse_str(id).is_ok_and(|id| id.get_version_num() == 7);
        assert!(new(&answered("192.0.2.7", &["mine"]).await), "a stranger's");
        assert!(new(&answered("127.0.0.1", &[]).await));
        for id in ["", " ", "a b", "a\"b", "<b>", "a/b", "caf\u{e9}", &"x".repeat(65)] {
            assert!(new(&answered("127.0.0.1", &[id]).await), "{id}");
        }
        assert!(new(&answered("127.0.0.1", &["one", "two"]).await), "which of them?");
    }

    #[tokio::test]
    async fn also_on_an_answer_that_no_route_gave() {
        let response = send(&app(), from("192.0.2.7", Request::get("/nowhere").body(Body::empty()).expect("valid"))).await;
        assert_eq!(response.status(), 404);
        assert!(response.headers().contains_key(X_REQUEST_ID));
    }
}
