//! `/account/delete`: asks first, waits a week, and can be called off meanwhile.

use auth::{identity::Authority, policy::DELETION_WAIT, self_service::deletion::DeletionError};
use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use http::StatusCode;
use leptos::prelude::*;
use time::OffsetDateTime;

use crate::{
    components::{DateTime, Settings},
    fault::Fault,
    form::{Form, FormError},
    gate::SignedIn,
    help, next,
    page::page,
    routes,
    state::AppState,
    words,
};

/// Before anything is done.
#[component]
pub fn DeleteAccountPage(email: String) -> impl IntoView {
    let days = words::count(DELETION_WAIT.as_secs() / 86_400, "day");
    view! {
        <Settings title="Delete your account?" email crumb=Some("Delete account") help=Some(help::DELETE_ACCOUNT)>
            <div class="panel">
                <form class="body" method="post" action=routes::DELETE>
                    <p>
                        "Your account will be deleted in "{days}". Until then you can sign in, and keep it. You'll be signed out everywhere else now."
                    </p>
                    <p>"After that it's gone, and nobody can bring it back: your sign-in, your authenticator apps and your backup codes."</p>
                    <div class="row-actions">
                        <button class="button danger">"Delete my account"</button>
                        <a class="button" href=routes::ACCOUNT>"Keep it"</a>
                    </div>
                </form>
            </div>
        </Settings>
    }
}

/// While it waits.
#[component]
pub fn LeavingPage(email: String, deletes_at: OffsetDateTime) -> impl IntoView {
    view! {
        <Settings title="Your account will be deleted" email crumb=Some("Delete account") help=Some(help::DELETE_ACCOUNT_KEEP)>
            <div class="panel">
                <form class="body" method="post" action=routes::DELETE_CANCEL>
                    <p>"It'll be deleted on "<DateTime at=deletes_at/>". Until then you can sign in, and keep it."</p>
                    <div class="row-actions">
                        <button class="button primary">"Keep my account"</button>
                        <a class="button" href=routes::ACCOUNT>"Back to Security"</a>
                    </div>
                </form>
            </div>
        </Settings>
    }
}

/// Without one, nobody could look after the others' accounts.
#[component]
pub fn LastAdminPage(email: String) -> impl IntoView {
    view! {
        <Settings title="You're the last administrator" email crumb=Some("Delete account") help=Some(help::DELETE_ACCOUNT_LAST_ADMIN)>
            <div class="panel">
                <div class="body">
                    <p>"Make somebody else one first. Nothing was changed."</p>
                    <div class="row-actions"><a class="button primary" href=routes::ACCOUNT>"Back to Security"</a></div>
                </div>
            </div>
        </Settings>
    }
}

/// Whoever has not given the strongest factor lately does so first. To keep the account nobody has to.
pub async fn get(State(state): State<AppState>, SignedIn(_, authority): SignedIn) -> Result<Response, Fault> {
    if let Some(deletes_at) = state.auth.users().profile(&authority).await?.deletes_at {
        return Ok(page(StatusCode::OK, || view! { <LeavingPage email=authority.email deletes_at/> }));
    }
    if !state.auth.sign_in().is_fresh(&authority) {
        return Ok(Redirect::to(&step_up()).into_response());
    }
    Ok(page(StatusCode::OK, || view! { <DeleteAccountPage email=authority.email/> }))
}

fn step_up() -> String {
    next::carried(routes::REAUTH, routes::DELETE)
}

fn last_admin(authority: Authority) -> Response {
    page(StatusCode::CONFLICT, || view! { <LastAdminPage email=authority.email/> })
}

/// Asks for the account to be deleted.
#[server(prefix = "", endpoint = "account/delete")]
pub async fn delete_account() -> Result<(), FormError> {
    let form = Form::current()?;
    let SignedIn(_, authority) = form.admit(routes::DELETE).await?;
    match form.state.auth.self_service().request_deletion(&authority, &form.from).await {
        Ok(()) => form.see_other(routes::DELETE),
        Err(DeletionError::NotFresh) => form.see_other(&step_up()),
        Err(DeletionError::LastAdmin) => form.refuse(last_admin(authority)),
        Err(DeletionError::SessionOver) => form.see_other(routes::LOGIN),
        Err(DeletionError::Unavailable(error)) => Err(form.fail(error.into())),
    }
}

/// Calls it off.
#[server(prefix = "", endpoint = "account/delete/cancel")]
pub async fn keep_account() -> Result<(), FormError> {
    let form = Form::current()?;
    let SignedIn(_, authority) = form.admit(routes::DELETE).await?;
    form.state.auth.self_service().cancel_deletion(&authority, &form.from).await.map_err(|error| form.fail(error.into()))?;
    form.see_other(routes::ACCOUNT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::render;
    use time::macros::datetime;

    fn email() -> String {
        "mara@example.org".to_owned()
    }

    #[test]
    fn it_asks_says_what_will_happen_and_has_a_way_back() {
        let html = render(|| view! { <DeleteAccountPage email=email()/> });
        assert!(html.contains("<title>Delete your account? – Latchkey</title>"));
        assert!(html.contains("Your account will be deleted in 7 days. Until then you can sign in, and keep it."));
        assert!(html.contains(r#"<button class="button danger">Delete my account</button>"#));
        assert!(html.contains(r#"<a href="/account" class="button">Keep it</a>"#));
        assert!(!html.contains("<input"), "nothing has to be typed");
    }

    #[test]
    fn while_it_waits_it_can_be_kept() {
        let html = render(|| view! { <LeavingPage email=email() deletes_at=datetime!(2026-12-01 14:29 UTC)/> });
        assert!(html.contains("<h1>Your account will be deleted</h1>"));
        assert!(html.contains(r#"<time datetime="2026-12-01T14:29Z">1 December 2026, 14:29 UTC</time>"#));
        assert!(html.contains(r#"action="/account/delete/cancel""#));
        assert!(html.contains(r#"<button class="button primary">Keep my account</button>"#));
    }

    #[test]
    fn the_last_administrator_is_told_what_to_do() {
        let html = render(|| view! { <LastAdminPage email=email()/> });
        assert!(html.contains("<h1>You're the last administrator</h1>"));
        assert!(html.contains("Make somebody else one first.") && !html.contains("/account/delete"));
    }
}
