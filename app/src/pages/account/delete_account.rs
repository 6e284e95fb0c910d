//! `/account/delete`: asks first, waits a week, and can be called off meanwhile.

use auth::{policy::DELETION_WAIT, self_service::deletion::DeletionError};

use crate::pages::{limited, prelude::*};

/// Before anything is done.
#[component]
pub fn DeleteAccountPage(email: String) -> impl IntoView {
    let days = format::count(DELETION_WAIT.as_secs() / 86_400, "day");
    view! {
        <Settings title="Delete your account?" email crumb=Some("Delete account") help=Some(help::DELETE_ACCOUNT)>
            <Ask action=routes::DELETE button="Delete my account" class="button danger" back=("Keep it", routes::ACCOUNT.to_owned())>
                <p>
                    "Your account will be deleted in "{days}". Until then you can sign in, and keep it. You'll be signed out everywhere else now."
                </p>
                <p>"After that it's gone, and nobody can bring it back: your sign-in, your authenticator apps and your backup codes."</p>
            </Ask>
        </Settings>
    }
}

/// While it waits.
#[component]
pub fn LeavingPage(email: String, deletes_at: OffsetDateTime) -> impl IntoView {
    view! {
        <Settings title="Your account will be deleted" email crumb=Some("Delete account") help=Some(help::DELETE_ACCOUNT_KEEP)>
            <Ask action=routes::DELETE_CANCEL button="Keep my account" back=("Back to Security", routes::ACCOUNT.to_owned())>
                <p>"It'll be deleted on "<DateTime at=deletes_at/>". Until then you can sign in, and keep it."</p>
            </Ask>
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

/// Asks for the account's strongest factor first, unless it was given lately. Keeping the account needs none.
pub async fn get(State(state): State<AppState>, SignedIn(_, authority): SignedIn) -> Answer {
    if let Some(deletes_at) = state.auth.users().profile(&authority).await?.deletes_at {
        return Ok(page(StatusCode::OK, || view! { <LeavingPage email=authority.email deletes_at/> }));
    }
    require_fresh(&state, &authority, routes::DELETE)?;
    Ok(page(StatusCode::OK, || view! { <DeleteAccountPage email=authority.email/> }))
}

/// Asks for the account to be deleted.
#[server(prefix = "", endpoint = "account/delete", protocol = FormPost)]
pub async fn delete_account() -> Answer {
    let (form, SignedIn(_, authority)) = Form::authorize(routes::DELETE).await?;
    match form.state.auth.self_service().request_deletion(&authority, &form.from).await {
        Ok(()) => see_other(routes::DELETE),
        Err(DeletionError::NotFresh) => see_other(&return_to::step_up(routes::DELETE)),
        Err(DeletionError::LastAdmin) => {
            Err(page(StatusCode::CONFLICT, || view! { <LastAdminPage email=authority.email/> }).into())
        }
        Err(DeletionError::SessionOver) => see_other(routes::LOGIN),
        Err(DeletionError::Limited(limited)) => Err(limited::answer(limited, DELETION_WAIT).into()),
        Err(DeletionError::Unavailable(error)) => Err(error.into()),
    }
}

/// Calls it off.
#[server(prefix = "", endpoint = "account/delete/cancel", protocol = FormPost)]
pub async fn keep_account() -> Answer {
    let (form, SignedIn(_, authority)) = Form::authorize(routes::DELETE).await?;
    form.state.auth.self_service().cancel_deletion(&authority, &form.from).await?;
    see_other(routes::ACCOUNT)
}
