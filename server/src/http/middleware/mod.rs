//! What happens to every request before a page sees it, and to every answer after.
//!
//! Not here: which page or problem a refusal shows. A refusal is a bare status, and [`surround`](super::surround) draws it.
//! To add one: a file with what it must know and a method that does it, its call in [`surround`](super::surround), its name there.
//!
//! One concern a file. [`surround`](super::surround::surround) is the
//! one layer, and calls them in order; a layer each would cost every request an allocation and a copy of all routes below, eleven
//! times. The order keeps these rules:
//!
//! * the layer is laid on with `Router::layer` after the fallbacks, not around the router: only inside it is a route's template
//!   known;
//! * [`security_headers`] outermost, so that no answer of what is below goes without them;
//! * [`request_id`] above all that show or log it, [`client_ip`] above [`shield`], [`access_log`] above what catches panics;
//! * [`origin`] and [`shield`] above [`body_limit`], which reads the body: what they refuse is never read.

pub mod access_log;
pub mod body_limit;
pub mod client_ip;
pub mod fair_share;
pub mod origin;
pub mod request_id;
pub mod security_headers;
pub mod shield;
pub mod time_limit;

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use axum::extract::Request;
use http::Method;

/// Whether the path belongs to the API, whose every answer is JSON, also a refusal.
pub fn is_api(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/")
}

/// Whether the request asks for something and changes nothing.
pub(super) fn reads(request: &Request) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS)
}

/// An IPv6 client has all 2⁶⁴ addresses of its network.
fn network(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

/// A whole number of seconds, rounded up: a client that waits this long must not be refused again.
pub(crate) fn seconds_up(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
pub(crate) mod test {
    //! What the tests of the concerns share.

    use std::{
        net::{IpAddr, SocketAddr},
        time::Duration,
    };

    use axum::{
        Router,
        body::Body,
        extract::ConnectInfo,
        middleware::{Next, from_fn},
        response::Response,
    };
    use http::Request;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::{client_ip::TrustedProxies, request_id::RequestId, seconds_up};

    #[test]
    fn a_wait_is_rounded_up_to_a_second_at_least() {
        for (millis, seconds) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (59_999, 60)] {
            assert_eq!(seconds_up(Duration::from_millis(millis)), seconds, "{millis} ms");
        }
    }

    /// An id of ours, as a stranger's request is given.
    pub fn id() -> RequestId {
        let peer = IpAddr::from([192, 0, 2, 7]);
        RequestId::of(&Request::new(Body::empty()), peer, &TrustedProxies::default())
    }

    /// `routes` behind something that refuses some requests.
    pub fn guarded<R>(routes: Router, refuse: R) -> Router
    where
        R: Fn(&Request<Body>) -> Option<Response> + Clone + Send + Sync + 'static,
    {
        routes.layer(from_fn(move |request: Request<Body>, next: Next| {
            let refused = refuse(&request);
            async move {
                match refused {
                    Some(refused) => refused,
                    None => next.run(request).await,
                }
            }
        }))
    }

    pub fn from(peer: &str, mut request: Request<Body>) -> Request<Body> {
        let peer: SocketAddr =
            if let Ok(peer) = peer.parse() { peer } else { SocketAddr::new(peer.parse().expect("an address"), 49152) };
        request.extensions_mut().insert(ConnectInfo(peer));
        request
    }

    pub async fn send(app: &Router, request: Request<Body>) -> Response {
        app.clone().oneshot(request).await.expect("a router never fails")
    }

    pub async fn text(response: Response) -> String {
        let bytes = response.into_body().collect().await.expect("whole").to_bytes();
        String::from_utf8(bytes.to_vec()).expect("UTF-8")
    }
}
