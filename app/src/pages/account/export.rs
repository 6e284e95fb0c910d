//! `/account/export`: a copy of everything about the account, as a file.

use auth::self_service::export::ExportError;
use axum::Json;
use http::header;

use crate::pages::{limited, prelude::*};

#[component]
pub fn ExportPage(email: String) -> impl IntoView {
    view! {
        <Settings title="Download your data" email crumb=Some("Your data") help=Some(help::WHAT_WE_STORE)>
            <Ask action=routes::EXPORT button="Download (.json)" back=("Back to Security", routes::ACCOUNT.to_owned())>
                <p>
                    "One file with your profile, how you sign in, your sessions and trusted browsers, and what happened in the last 90 days."
                </p>
                <p>"There's nothing in it that anyone could sign in with. It does say where you've signed in from, so keep it to yourself."</p>
            </Ask>
        </Settings>
    }
}

/// Asks for the account's strongest factor first, unless it was given lately.
pub async fn get(State(state): State<AppState>, SignedIn(_, authority): SignedIn) -> Answer {
    require_fresh(&state, &authority, routes::EXPORT)?;
    Ok(page(StatusCode::OK, || view! { <ExportPage email=authority.email/> }))
}

/// Hands the copy over.
#[server(prefix = "", endpoint = "account/export", protocol = FormPost)]
pub async fn export_account() -> Answer {
    let (form, SignedIn(_, authority)) = Form::authorize(routes::EXPORT).await?;
    match form.state.auth.self_service().export_account(&authority, &form.from).await {
        Ok(export) => {
            let headers = [
                (header::CONTENT_DISPOSITION, "attachment; filename=\"latchkey-account.json\""),
                (header::CACHE_CONTROL, "no-store"),
            ];
            Ok((headers, Json(export)).into_response())
        }
        Err(ExportError::NotFresh) => see_other(&return_to::step_up(routes::EXPORT)),
        Err(ExportError::Limited(limited)) => Err(limited::answer(limited, form.state.auth.policy().link_ttl).into()),
        Err(ExportError::Unavailable(error)) => Err(error.into()),
    }
}
