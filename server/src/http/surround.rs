//! What surrounds every route, from the outside in:
//!
//! security headers → request id → client ip → access log → error pages → caught panics → time limit → shield → origin → body limit →
//! requester → fair share → routes.

use std::{
    any::Any,
    net::{IpAddr, SocketAddr},
    panic::AssertUnwindSafe,
    sync::Arc,
};

use app::{pages::errors::Failure, routes};
use auth::primitives::requester::Requester;
use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use futures::FutureExt as _;
use http::{
    StatusCode,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, SET_COOKIE, USER_AGENT},
};

use super::{
    middleware::{
        access_log::Line, body_limit, client_ip::TrustedProxies, fair_share::FairShare, is_api, origin::SameOrigin, reads,
        request_id::RequestId, security_headers::SecurityHeaders, shield::Shield, time_limit,
    },
    problem,
};
use crate::{config::Config, telemetry::metrics};

/// What surrounds every route, also in tests that bring routes of their own.
pub fn surround(routes: Router, config: &Config) -> Router {
    let surroundings = Surroundings {
        headers: SecurityHeaders::new(config.hsts, config.base_url.is_https()),
        proxies: TrustedProxies::new(config.trusted_proxies.iter().copied()),
        shield: if config.policy.limits.enabled { Shield::on() } else { Shield::off() },
        fair_share: config.policy.limits.enabled.then(FairShare::default),
        origin: SameOrigin::new(&config.base_url.origin()),
    };
    routes.layer(from_fn_with_state(Arc::new(surroundings), answer))
}

struct Surroundings {
    headers: SecurityHeaders,
    proxies: TrustedProxies,
    shield: Shield,
    /// None with `LIMITS=off`.
    fair_share: Option<FairShare>,
    origin: SameOrigin,
}

async fn answer(
    State(around): State<Arc<Surroundings>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let id = RequestId::of(&request, peer.ip(), &around.proxies);
    let client = around.proxies.client(peer.ip(), request.headers());
    let line = Line::begin(&request, &id, around.proxies.contains(peer.ip()));
    let logged = async {
        let machine = matches!(request.uri().path(), "/healthz" | "/readyz" | routes::AUTH_VERIFY | routes::AUTH_REDIRECT);
        let program = is_api(request.uri().path()) || request.uri().path() == metrics::PATH;
        let within = time_limit::within(around.admit(client, &id, request, next));
        let response = AssertUnwindSafe(within).catch_unwind().await.unwrap_or_else(panicked);
        match (machine, program) {
            (true, _) => response,
            (_, true) => problem::written(response, &id),
            _ => with_page(response, &id),
        }
    };
    let mut response = line.tell_of(logged).await;
    id.write(response.headers_mut());
    around.headers.write(response.headers_mut());
    response
}

impl Surroundings {
    /// Refuses the request or runs its handler, and hands the handler the domain's `Requester`.
    async fn admit(&self, client: IpAddr, id: &RequestId, request: Request, next: Next) -> Response {
        if let Some(refused) = self.shield.refuse(client, &request).or_else(|| self.origin.refuse(&request)) {
            return refused;
        }
        let mut request = match body_limit::read(request).await {
            Ok(request) => request,
            Err(refused) => return refused,
        };
        let user_agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let requester = Requester::new(client, user_agent, id.as_str());
        request.extensions_mut().insert(requester);
        match self.fair_share.as_ref().filter(|_| reads(&request)) {
            Some(share) => share.within(client, next.run(request)).await,
            None => next.run(request).await,
        }
    }
}

/// Puts a page around a bare status: what [`middleware`](super::middleware) refuses, what the framework answers by itself (404, 405, a
/// query it can't read), and what failed. Only the origin check answers with a bare 403.
fn with_page(response: Response, id: &RequestId) -> Response {
    let status = response.status();
    let has_page = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if has_page || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let failure = match status {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Failure::NotFound,
        StatusCode::FORBIDDEN => Failure::CrossSite,
        StatusCode::PAYLOAD_TOO_LARGE => Failure::TooLarge,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Failure::Busy,
        _ if status.is_client_error() => Failure::BadRequest,
        _ => Failure::Server,
    };
    let mut page = failure.respond(id.as_str());
    *page.status_mut() = status;
    for name in [ALLOW, CONNECTION, RETRY_AFTER, SET_COOKIE] {
        for value in response.headers().get_all(&name) {
            page.headers_mut().append(name.clone(), value.clone());
        }
    }
    page
}

/// The hook of `telemetry` has logged it, with the request's id; [`with_page`] puts the page around the status.
pub fn panicked(_: Box<dyn Any + Send>) -> Response {
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::middleware::test::{id, text};

    #[tokio::test]
    async fn a_bare_refusal_becomes_the_page_of_its_status_and_keeps_its_headers() {
        let id = id();
        for (status, page) in [
            (400, Failure::BadRequest),
            (403, Failure::CrossSite),
            (404, Failure::NotFound),
            (405, Failure::NotFound),
            (408, Failure::Busy),
            (413, Failure::TooLarge),
            (422, Failure::BadRequest),
            (429, Failure::Busy),
            (500, Failure::Server),
            (503, Failure::Busy),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let shown = with_page((status, [(RETRY_AFTER, "5"), (CONNECTION, "close")]).into_response(), &id);
            assert_eq!(shown.status(), status);
            assert!(shown.headers()[RETRY_AFTER] == "5" && shown.headers()[CONNECTION] == "close", "{status}");
            let shown = text(shown).await;
            assert!(shown.contains(id.as_str()) && shown == text(page.respond(id.as_str())).await, "{status}: {shown}");
        }
        let page = (StatusCode::FORBIDDEN, axum::response::Html("<p>of its own</p>")).into_response();
        assert_eq!(text(with_page(page, &id)).await, "<p>of its own</p>");
        assert_eq!(text(with_page("fine".into_response(), &id)).await, "fine");
    }
}
