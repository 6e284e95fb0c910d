//! Every route and what surrounds it, from the outside in:
//!
//! security headers → request id → client ip → access log → error pages → caught panics → time limit → shield → origin → body limit →
//! requester → routes.

use std::{
    any::Any,
    net::{IpAddr, SocketAddr},
    panic::AssertUnwindSafe,
    sync::Arc,
};

use app::{AppState, pages::errors, routes};
use auth::{Auth, primitives::requester::Requester};
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

use crate::{
    api,
    config::Config,
    dev_inbox::{self, DevInbox},
    forward_auth,
    health::Health,
    metrics::{self, Metrics},
    middleware::{
        access_log::Line, body_limit::BodyLimit, client_ip::TrustedProxies, origin::SameOrigin, request_id::RequestId,
        security_headers::SecurityHeaders, shield::Shield, time_limit::TimeLimit,
    },
};

pub struct Parts {
    pub state: AppState,
    pub auth: Arc<Auth>,
    pub health: Health,
    pub metrics: Metrics,
    pub dev_inbox: Option<Arc<DevInbox>>,
}

/// The whole service: pages, API, health, static files.
pub fn router(config: &Config, parts: Parts) -> Router {
    let guard = forward_auth::routes(config, parts.auth.clone());
    let api = api::routes(parts.auth.clone(), &parts.state.site);
    let mut all = app::router(parts.state).merge(api).merge(parts.health.routes()).merge(guard).merge(app::ui::assets::router());
    all = all.merge(parts.metrics.guarded(parts.auth.clone()));
    if let Some(inbox) = parts.dev_inbox {
        all = all.merge(dev_inbox::routes(inbox, parts.auth.clone()));
    }
    surround(all.layer(from_fn_with_state(parts.auth, count)), config)
}

/// What was answered, for the checks that watch a rollout. Inside of what refuses requests by itself, so that a flood of refusals hides
/// no fault of ours; a panic passes it and is counted too.
async fn count(State(auth): State<Arc<Auth>>, request: Request, next: Next) -> Response {
    let response = AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(panicked);
    auth.reporting().count_answer(response.status().as_u16());
    response
}

/// Health and metrics alone, for the operators' listener.
pub fn ops_router(config: &Config, health: Health, metrics: Metrics) -> Router {
    surround(health.routes().merge(metrics.routes()), config)
}

/// What surrounds every route, also in tests that bring routes of their own.
pub fn surround(routes: Router, config: &Config) -> Router {
    let surroundings = Surroundings {
        headers: SecurityHeaders { https: config.base_url.is_https() },
        proxies: TrustedProxies::new(config.trusted_proxies.iter().copied()),
        time_limit: TimeLimit { limit: TimeLimit::DEFAULT, busy: |id| errors::busy(id.as_str()) },
        shield: if config.policy.limits.enabled { Shield::new(|id| errors::busy(id.as_str())) } else { Shield::off() },
        origin: SameOrigin::new(&config.base_url.origin(), |id| errors::cross_site(id.as_str())),
        body_limit: BodyLimit {
            bytes: BodyLimit::BYTES,
            read_within: BodyLimit::READ_WITHIN,
            too_large: |id| errors::too_large(id.as_str()),
            too_slow: |id| errors::busy(id.as_str()),
        },
    };
    routes.layer(from_fn_with_state(Arc::new(surroundings), answer))
}

struct Surroundings {
    headers: SecurityHeaders,
    proxies: TrustedProxies,
    time_limit: TimeLimit,
    shield: Shield,
    origin: SameOrigin,
    body_limit: BodyLimit,
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
        let program = api::is_api(request.uri().path()) || request.uri().path() == metrics::PATH;
        let within = around.time_limit.hold(&id, around.admit(client, &id, request, next));
        let response = AssertUnwindSafe(within).catch_unwind().await.unwrap_or_else(panicked);
        match (machine, program) {
            (true, _) => response,
            (_, true) => api::written(response, &id),
            _ => with_page(response, &id),
        }
    };
    let mut response = line.tell_of(logged).await;
    id.write(response.headers_mut());
    around.headers.write(response.headers_mut());
    response
}

impl Surroundings {
    /// Runs the handler of a request that may get there, and tells the pages who asks, in the domain's terms.
    async fn admit(&self, client: IpAddr, id: &RequestId, request: Request, next: Next) -> Response {
        let refused = self.shield.refuse(client, &request, id).or_else(|| self.origin.refuse(&request, id));
        if let Some(refused) = refused {
            return refused;
        }
        let mut request = match self.body_limit.read(request, id).await {
            Ok(request) => request,
            Err(refused) => return refused,
        };
        let user_agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let requester = Requester::new(client, user_agent, id.as_str());
        request.extensions_mut().insert(requester);
        next.run(request).await
    }
}

/// Puts a page around a bare status: what the framework answers by itself (404, 405, a query it can't read), and what failed.
fn with_page(response: Response, id: &RequestId) -> Response {
    let status = response.status();
    let has_page = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if has_page || !(status.is_client_error() || status.is_server_error()) {
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

/// The hook of `telemetry` has logged it, with the request's id; [`with_page`] puts the page around the status.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}
