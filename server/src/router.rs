//! Every route and what surrounds it, from the outside in:
//!
//! security headers → request id → client ip → access log → error pages → caught panics → time limit → shield → origin → body limit →
//! requester → routes.

use std::{any::Any, sync::Arc};

use app::{AppState, pages::errors};
use auth::{Auth, requester::Requester};
use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use http::{
    StatusCode,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, SET_COOKIE, USER_AGENT},
};
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    config::Config,
    dev_inbox::{self, DevInbox},
    health::Health,
    middleware::{
        access_log::access_log,
        body_limit::{BodyLimit, body_limit},
        client_ip::{ClientIp, TrustedProxies, client_ip},
        origin::{SameOrigin, origin},
        request_id::{RequestId, request_id},
        security_headers::{SecurityHeaders, security_headers},
        shield::{Shield, shield},
        time_limit::{TimeLimit, time_limit},
    },
};

pub struct Parts {
    pub state: AppState,
    pub auth: Arc<Auth>,
    pub health: Health,
    pub dev_inbox: Option<Arc<DevInbox>>,
}

/// The whole service: pages, health, static files.
pub fn router(config: &Config, parts: Parts) -> Router {
    let mut routes = app::router(parts.state).merge(parts.health.routes()).merge(app::assets::router());
    if let Some(inbox) = parts.dev_inbox {
        routes = routes.merge(dev_inbox::routes(inbox, parts.auth));
    }
    surround(routes, config)
}

/// Health alone, for the operators' listener.
pub fn ops_router(config: &Config, health: Health) -> Router {
    surround(health.routes(), config)
}

/// What surrounds every route, also in tests that bring routes of their own.
pub fn surround(routes: Router, config: &Config) -> Router {
    let proxies = TrustedProxies::new(config.trusted_proxies.iter().copied());
    let shielded = if config.limits.enforced { Shield::new(|id| errors::busy(id.as_str())) } else { Shield::off() };
    routes
        .layer(from_fn(requester))
        .layer(from_fn_with_state(
            BodyLimit {
                bytes: BodyLimit::BYTES,
                read_within: BodyLimit::READ_WITHIN,
                too_large: |id| errors::too_large(id.as_str()),
                too_slow: |id| errors::busy(id.as_str()),
            },
            body_limit,
        ))
        .layer(from_fn_with_state(SameOrigin::new(&config.base_url.origin(), |id| errors::cross_site(id.as_str())), origin))
        .layer(from_fn_with_state(shielded, shield))
        .layer(from_fn_with_state(TimeLimit { limit: TimeLimit::DEFAULT, busy: |id| errors::busy(id.as_str()) }, time_limit))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(error_pages))
        .layer(from_fn(access_log))
        .layer(from_fn_with_state(proxies.clone(), client_ip))
        .layer(from_fn_with_state(proxies, request_id))
        .layer(from_fn_with_state(SecurityHeaders { https: config.base_url.is_https() }, security_headers))
}

/// Tells the pages who asks, in the domain's terms.
async fn requester(mut request: Request, next: Next) -> Response {
    let id = RequestId::of(&request);
    let user_agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if let Some(ClientIp(ip)) = request.extensions().get() {
        let requester = Requester::new(*ip, user_agent, id.as_str());
        request.extensions_mut().insert(requester);
    }
    next.run(request).await
}

/// Puts a page around a bare status: what the framework answers by itself (404, 405, a query it can't read), and what failed.
async fn error_pages(request: Request, next: Next) -> Response {
    let id = RequestId::of(&request);
    let machine = request.uri().path() == "/healthz" || request.uri().path() == "/readyz";
    let response = next.run(request).await;
    let status = response.status();
    let has_page = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if machine || has_page || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let mut page = match status {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => errors::not_found(id.as_str()),
        StatusCode::SERVICE_UNAVAILABLE => errors::busy(id.as_str()),
        _ if status.is_client_error() => errors::bad_request(id.as_str()),
        _ => errors::server(id.as_str()),
    };
    *page.status_mut() = status;
    for name in [ALLOW, CONNECTION, RETRY_AFTER, SET_COOKIE] {
        for value in response.headers().get_all(&name) {
            page.headers_mut().append(name.clone(), value.clone());
        }
    }
    page
}

/// The panic's text stays in the log, with the request's id; `error_pages` puts the page around the status.
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let what = panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
    tracing::error!(panic = what.as_deref().unwrap_or("no text"), "request.panicked");
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}
