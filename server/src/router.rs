//! Every route of the service: what each listener answers.

use std::{panic::AssertUnwindSafe, sync::Arc};

use app::AppState;
use auth::{Auth, identity::Scope};
use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::Response,
};
use futures::FutureExt as _;

use crate::{
    api,
    config::Config,
    http::{
        forward_auth,
        health::Health,
        surround::{panicked, surround},
    },
    telemetry::metrics::{self, Metrics},
};

pub struct Parts {
    pub state: AppState,
    pub auth: Arc<Auth>,
    pub health: Health,
    pub metrics: Metrics,
    /// The development inbox, where there is one.
    pub inbox: Option<Router>,
}

/// The whole service: pages, API, health, static files.
pub fn router(config: &Config, parts: Parts) -> Router {
    let guard = forward_auth::routes(config, parts.auth.clone());
    let api = api::routes(parts.auth.clone(), &parts.state.site);
    let mut all = app::router(parts.state).merge(api).merge(parts.health.routes()).merge(guard).merge(app::ui::assets::router());
    all = all.route(metrics::PATH, api::behind_key(parts.auth.clone(), Scope::MetricsRead, parts.metrics.methods()));
    if let Some(inbox) = parts.inbox {
        all = all.merge(inbox);
    }
    surround(all.layer(from_fn_with_state(parts.auth, count)), config)
}

/// What was answered, for the checks that watch a rollout. Inside of what refuses requests by itself, so that a flood of refusals
/// hides no server error; a panic is counted too.
async fn count(State(auth): State<Arc<Auth>>, request: Request, next: Next) -> Response {
    let response = AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(panicked);
    auth.reporting().count_answer(response.status().as_u16());
    response
}

/// Health and metrics alone, for the operators' listener.
pub fn ops_router(config: &Config, health: Health, metrics: Metrics) -> Router {
    surround(health.routes().route(metrics::PATH, metrics.methods()), config)
}
