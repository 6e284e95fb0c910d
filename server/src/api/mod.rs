//! `/api/v1`: JSON for programs that have an API key. `docs/api.md` describes how it behaves; the `OpenAPI` document that it serves
//! lists what it offers.
//!
//! Not here: what a route changes (`auth` decides and writes), and what surrounds every request ([`crate::http`]).
//! A file in `api/` is one subject: what its routes take, do and answer. [`Api::with`] is the only way to add a route, and it asks for the
//! one scope that opens it; so no route is without, and the document tells of each what the code does.
//!
//! To add one: a `#[utoipa::path]` handler and its line in the `routes` of its subject's file; a new file's line in [`routes`]; whose it is
//! in `server/tests/it/router/api.rs`. A handler takes the [`bearer::Caller`], and its input by [`extract`]; it fails with a
//! [`Problem`].

mod audit;
mod bearer;
mod extract;
mod flags;
mod session;
mod sign_in;
mod users;

use std::sync::Arc;

use app::http::state::Site;
use auth::{Auth, identity::Scope};
use axum::{
    Router,
    body::Bytes,
    middleware::from_fn_with_state,
    routing::{MethodRouter, get},
};
use http::{StatusCode, header::CONTENT_TYPE};
use utoipa::{
    OpenApi as _, ToSchema as _,
    openapi::{
        Content, OpenApi, PathItem, Ref, RefOr, ResponseBuilder,
        path::{Operation, ParameterIn},
        security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use self::bearer::Guard;
use crate::http::problem::{self, Problem, ProblemDetails};

const DOCUMENT: &str = "/api/v1/openapi.json";
/// What the document calls the way in.
const API_KEY: &str = "api_key";

/// What every handler can reach.
#[derive(Clone)]
pub struct ApiState {
    pub auth: Arc<Auth>,
    /// The page where a person sets two-factor up.
    pub enrol_url: Arc<str>,
}

impl ApiState {
    /// An account that must have two-factor and hasn't set it up gets no session.
    fn enrolment_required(&self) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "enrolment_required", "The account must set two-factor up first")
            .with("enrol_url", &*self.enrol_url)
    }
}

pub fn routes(auth: Arc<Auth>, site: &Site) -> Router {
    let api = Api::new(ApiState { auth, enrol_url: site.link(app::routes::TWO_FACTOR).into() });
    let api = sign_in::routes(api);
    let api = session::routes(api);
    let api = users::routes(api);
    let api = audit::routes(api);
    let api = flags::routes(api);
    api.finish()
}

/// A route elsewhere that asks for a key as those here do.
pub fn behind_key(auth: Arc<Auth>, scope: Scope, methods: MethodRouter) -> MethodRouter {
    methods.route_layer(from_fn_with_state(Guard { auth, scope }, bearer::admit))
}

/// The routes so far, each behind its scope.
struct Api {
    state: ApiState,
    routes: OpenApiRouter<ApiState>,
}

impl Api {
    fn new(state: ApiState) -> Self {
        Self { state, routes: OpenApiRouter::with_openapi(Described::openapi()) }
    }

    /// Adds the methods of one path (`routes!(…)`), opened by keys with this scope.
    fn with(self, scope: Scope, (schemas, mut paths, methods): UtoipaMethodRouter<ApiState>) -> Self {
        for operation in paths.paths.values_mut().flat_map(operations) {
            describe(operation, scope);
        }
        // Around the handlers only: a method that the path doesn't have is 405 with or without a key.
        let guard = Guard { auth: self.state.auth.clone(), scope };
        let methods = methods.route_layer(from_fn_with_state(guard, bearer::admit));
        Self { routes: self.routes.routes((schemas, paths, methods)), ..self }
    }

    fn finish(self) -> Router {
        let (routes, document) = self.routes.with_state(self.state).split_for_parts();
        // Made once: it is the same for everybody.
        let document = Bytes::from(serde_json::to_vec(&finished(document)).expect("a document of strings and lists"));
        routes.route(DOCUMENT, get(async move || ([(CONTENT_TYPE, "application/json")], document.clone())))
    }
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Latchkey",
        version = "1",
        description = "Every route asks for one scope of an API key (`Authorization: Bearer lk_…`). Errors are problem details (RFC 9457). \
                       `RateLimit` and `RateLimit-Policy` say what is left of the key's requests.",
        license(name = "MIT OR Apache-2.0"),
    ),
    components(schemas(ProblemDetails))
)]
struct Described;

fn finished(mut document: OpenApi) -> OpenApi {
    let mut bearer = Http::new(HttpAuthScheme::Bearer);
    bearer.description = Some("An API key, `lk_…`. Made at /admin/api-keys or by `latchkey apikey create`.".to_owned());
    document.components.get_or_insert_default().add_security_scheme(API_KEY, SecurityScheme::Http(bearer));
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch].into_iter().filter_map(Option::as_mut)
}

/// What all routes of a scope have in common: the scope, and the failures before the handler runs.
fn describe(operation: &mut Operation, scope: Scope) {
    operation.security = Some(vec![SecurityRequirement::new(API_KEY, [scope.as_str()])]);
    let takes = |place: ParameterIn| {
        operation.parameters.iter().flatten().any(|parameter| match parameter {
            RefOr::T(parameter) => parameter.parameter_in == place,
            RefOr::Ref(_) => false,
        })
    };
    let (body, query, path) = (operation.request_body.is_some(), takes(ParameterIn::Query), takes(ParameterIn::Path));
    let fails = [
        (StatusCode::BAD_REQUEST, true, "The request is broken: its body is not what its headers say, or no JSON."),
        (StatusCode::UNAUTHORIZED, true, "No key, or one that doesn't work (any more)."),
        (StatusCode::FORBIDDEN, true, "The key lacks the scope."),
        (StatusCode::NOT_FOUND, path, "There is nothing of that name."),
        (StatusCode::REQUEST_TIMEOUT, true, "The body took too long to come."),
        (StatusCode::PAYLOAD_TOO_LARGE, true, "The body is longer than 64 KiB."),
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, body, "The body is not `application/json`."),
        (StatusCode::UNPROCESSABLE_ENTITY, body || query, "Something in it is unknown, missing, or not as described."),
        (StatusCode::TOO_MANY_REQUESTS, true, "The key has asked too often. `Retry-After` says how long to wait."),
        (StatusCode::INTERNAL_SERVER_ERROR, true, "Something is wrong on our side."),
        (
            StatusCode::SERVICE_UNAVAILABLE,
            true,
            "The database doesn't answer, or it took too long. Nothing was changed; try again.",
        ),
    ];
    let responses = &mut operation.responses.responses;
    for (status, _, description) in fails.into_iter().filter(|(_, applies, _)| *applies) {
        let response = ResponseBuilder::new().description(description).build();
        responses.entry(status.as_u16().to_string()).or_insert_with(|| response.into());
    }
    for response in responses.iter_mut().filter_map(|(status, response)| (status.as_str() >= "400").then_some(response)) {
        if let RefOr::T(response) = response {
            let problem = Content::new(Some(Ref::from_schema_name(ProblemDetails::name())));
            response.content.insert(problem::MEDIA_TYPE.to_owned(), problem.into());
        }
    }
}
