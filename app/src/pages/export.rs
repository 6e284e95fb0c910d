//! `/account/export`: a copy of everything about the account, as a file.

use auth::self_service::export::ExportError;
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use http::{StatusCode, header};
use leptos::prelude::*;

use crate::{
    components::Settings,
    form::{Form, FormError},
    gate::SignedIn,
    help, next,
    page::page,
    routes,
    state::AppState,
};

#[component]
pub fn ExportPage(email: String) -> impl IntoView {
    view! {
        <Settings title="Download your data" email crumb=Some("Your data") help=Some(help::WHAT_WE_STORE)>
            <div class="panel">
                <form class="body" method="post" action=routes::EXPORT>
                    <p>
                        "One file with your profile, how you sign in, your sessions and trusted browsers, and what happened in the last 90 days."
                    </p>
                    <p>"There's nothing in it that anyone could sign in with. It does say where you've signed in from, so keep it to yourself."</p>
                    <div class="row-actions">
                        <button class="button primary">"Download (.json)"</button>
                        <a class="button" href=routes::ACCOUNT>"Back to Security"</a>
                    </div>
                </form>
            </div>
        </Settings>
    }
}

/// Whoever has not given the strongest factor lately does so first.
pub async fn get(State(state): State<AppState>, SignedIn(_, authority): SignedIn) -> Response {
    if !state.auth.sign_in().is_fresh(&authority) {
        return Redirect::to(&step_up()).into_response();
    }
    page(StatusCode::OK, || view! { <ExportPage email=authority.email/> })
}

fn step_up() -> String {
    next::carried(routes::REAUTH, routes::EXPORT)
}

/// Hands the copy over.
#[server(prefix = "", endpoint = "account/export")]
pub async fn export_account() -> Result<(), FormError> {
    let form = Form::current()?;
    let SignedIn(_, authority) = form.admit(routes::EXPORT).await?;
    match form.state.auth.self_service().export_account(&authority, &form.from).await {
        Ok(export) => {
            let headers = [
                (header::CONTENT_DISPOSITION, "attachment; filename=\"latchkey-account.json\""),
                (header::CACHE_CONTROL, "no-store"),
            ];
            form.hand_over((headers, Json(export)).into_response())
        }
        Err(ExportError::NotFresh) => form.see_other(&step_up()),
        Err(ExportError::Unavailable(error)) => Err(form.fail(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::render;

    #[test]
    fn it_says_what_is_in_the_file_and_that_nothing_in_it_signs_in() {
        let html = render(|| view! { <ExportPage email="mara@example.org".to_owned()/> });
        assert!(html.contains("<title>Download your data – Latchkey</title>"));
        assert!(
            html.contains("what happened in the last 90 days.") && html.contains("nothing in it that anyone could sign in with")
        );
        assert!(html.contains(r#"action="/account/export""#));
        assert!(html.contains(r#"<button class="button primary">Download (.json)</button>"#));
    }
}
