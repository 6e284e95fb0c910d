//! Every page and form, once. A page's form posts to the page's own path; a page's other forms have paths below it, where GET leads
//! back to the page.

use auth::requester::Requester;
use axum::{
    Extension, Router,
    extract::{Request, State},
    response::Redirect,
    routing::{MethodRouter, get, post},
};
use leptos::server_fn::axum::register_explicit;
use tower_sessions::Session;

use crate::{
    form::form_post,
    pages::{account, confirm_link, help, invite, login, login_sent, signed_out},
    routes,
    session::Visitor,
    state::AppState,
};

/// The pages. Whoever mounts them has put a [`Requester`] into each request's extensions.
pub fn router(state: AppState) -> Router {
    register_explicit::<login::RequestLink>();
    register_explicit::<login_sent::EnterCode>();
    register_explicit::<login_sent::ResendEmail>();
    register_explicit::<confirm_link::ConfirmLink>();
    register_explicit::<confirm_link::CancelLink>();
    register_explicit::<confirm_link::RequestOwnLink>();
    register_explicit::<invite::AcceptInvite>();
    register_explicit::<signed_out::SignOut>();

    let sessions = state.sessions.layer();
    Router::new()
        .route("/", get(home))
        .route(routes::LOGIN, get(login::get).merge(form()))
        .route(routes::LOGIN_SENT, get(login_sent::get).merge(form()))
        .route(routes::LOGIN_SENT_RESEND, form_of(routes::LOGIN_SENT))
        .route(routes::LOGIN_VERIFY, get(confirm_link::verify))
        .route(routes::LOGIN_CONFIRM, get(confirm_link::get).merge(form()))
        .route(routes::LOGIN_CONFIRM_CANCEL, form_of(routes::LOGIN_CONFIRM))
        .route(routes::LOGIN_CONFIRM_RESEND, form_of(routes::LOGIN_CONFIRM))
        .route(routes::INVITE, get(invite::get).merge(form()))
        .route(routes::LOGOUT, get(signed_out::get).merge(form()))
        .route(routes::ACCOUNT, get(account::get))
        .layer(sessions)
        .route(routes::HELP, get(help::get))
        .with_state(state)
}

fn form() -> MethodRouter<AppState> {
    post(async |State(state): State<AppState>, session: Session, Extension(from): Extension<Requester>, request: Request| {
        form_post(state, session, from, request).await
    })
}

/// One of several forms of the page at `page`.
fn form_of(page: &'static str) -> MethodRouter<AppState> {
    get(async move || Redirect::to(page)).merge(form())
}

async fn home(visitor: Visitor) -> Redirect {
    Redirect::to(if visitor.authority.is_some() { routes::ACCOUNT } else { routes::LOGIN })
}
