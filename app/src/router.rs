//! Every page and form, once. A page's form posts to the page's own path; a page's other forms have paths below it, where GET leads
//! back to the page.

use auth::primitives::requester::Requester;
use axum::{
    Extension, Router,
    extract::{Request, State},
    middleware::map_response,
    response::{Redirect, Response},
    routing::{MethodRouter, get, post},
};
use leptos::server_fn::{
    ServerFn,
    axum::{AxumServerFnBackend, register_explicit},
};
use tower_sessions::Session;

use crate::{
    http::{access::Visitor, form::form_post, session, state::AppState},
    pages::{
        account::{
            activity, backup_codes, change_email, delete_account, devices, export, reauth, security, sessions, two_factor,
            two_factor_off, two_factor_setup,
        },
        admin, help,
        sign_in::{confirm_link, invite, login, login_backup_code, login_continue, login_sent, login_two_factor, signed_out, undo},
    },
    routes,
};

/// The pages. They find a [`Requester`] in each request's extensions.
pub fn router(state: AppState) -> Router {
    let sessions = state.sessions.layer();
    Router::new()
        .route("/", get(home))
        .route(routes::LOGIN, get(login::get).merge(form::<login::RequestLink>()))
        .route(routes::LOGIN_SENT, get(login_sent::get).merge(form::<login_sent::EnterCode>()))
        .route(routes::LOGIN_SENT_RESEND, form_of::<login_sent::ResendEmail>(routes::LOGIN_SENT))
        .route(routes::LOGIN_VERIFY, get(confirm_link::verify))
        .route(routes::LOGIN_CONFIRM, get(confirm_link::get).merge(form::<confirm_link::ConfirmLink>()))
        .route(routes::LOGIN_CONFIRM_CANCEL, form_of::<confirm_link::CancelLink>(routes::LOGIN_CONFIRM))
        .route(routes::LOGIN_CONFIRM_RESEND, form_of::<confirm_link::RequestOwnLink>(routes::LOGIN_CONFIRM))
        .route(routes::INVITE, get(invite::get).merge(form::<invite::AcceptInvite>()))
        .route(routes::LOGOUT, get(signed_out::get).merge(form::<signed_out::SignOut>()))
        .route(routes::LOGIN_TWO_FACTOR, get(login_two_factor::get).merge(form::<login_two_factor::EnterTotp>()))
        .route(routes::LOGIN_BACKUP_CODE, get(login_backup_code::get).merge(form::<login_backup_code::EnterBackupCode>()))
        .route(routes::LOGIN_CONTINUE, get(login_continue::get).merge(form::<login_continue::ContinueElsewhere>()))
        .route(routes::REAUTH, get(reauth::get).merge(form::<reauth::StepUp>()))
        .route(routes::REAUTH_BACKUP_CODE, get(reauth::get_backup_code).merge(form::<reauth::StepUpWithBackupCode>()))
        .route(routes::REAUTH_SEND, form_of::<reauth::SendStepUpCode>(routes::REAUTH))
        .route(routes::ACCOUNT, get(security::get))
        .route(routes::SESSIONS, get(sessions::get))
        .route(routes::SESSIONS_END, form_of::<sessions::EndSession>(routes::SESSIONS))
        .route(routes::SESSIONS_END_OTHERS, form_of::<sessions::EndOtherSessions>(routes::SESSIONS))
        .route(routes::ACTIVITY, get(activity::get))
        .route(routes::TWO_FACTOR, get(two_factor::get))
        .route(routes::TWO_FACTOR_REMOVE, form_of::<two_factor::RemoveAuthenticator>(routes::TWO_FACTOR))
        .route(routes::TWO_FACTOR_SETUP, get(two_factor_setup::get).merge(form::<two_factor_setup::ConfirmTwoFactorSetup>()))
        .route(routes::TWO_FACTOR_SETUP_START, form_of::<two_factor_setup::StartTwoFactorSetup>(routes::TWO_FACTOR_SETUP))
        .route(routes::TWO_FACTOR_OFF, get(two_factor_off::get).merge(form::<two_factor_off::TurnTwoFactorOff>()))
        .route(routes::BACKUP_CODES, get(backup_codes::get).merge(form::<backup_codes::NewBackupCodes>()))
        .route(routes::BACKUP_CODES_SAVED, form_of::<backup_codes::SaveBackupCodes>(routes::BACKUP_CODES))
        .route(routes::DEVICES, get(devices::get))
        .route(routes::DEVICES_REVOKE, form_of::<devices::RevokeDevice>(routes::DEVICES))
        .route(routes::DEVICES_REVOKE_ALL, form_of::<devices::RevokeAllDevices>(routes::DEVICES))
        .route(routes::DEVICES_FORGET, form_of::<devices::ForgetBrowser>(routes::DEVICES))
        .route(routes::DEVICES_FORGET_ALL, form_of::<devices::ForgetAllBrowsers>(routes::DEVICES))
        .route(routes::ADMIN, get(admin::overview::get))
        .route(routes::ADMIN_USERS, get(admin::users::get).merge(form::<admin::users::SearchUsers>()))
        .route(routes::ADMIN_USERS_INVITE, get(admin::invite::get).merge(form::<admin::invite::InviteSomeone>()))
        .route(routes::ADMIN_USER, get(admin::user::get))
        .route(routes::ADMIN_USER_CHANGE, get(admin::change::get))
        .route(routes::ADMIN_USERS_DISABLE, form_of::<admin::change::DisableUser>(routes::ADMIN_USERS))
        .route(routes::ADMIN_USERS_ENABLE, form_of::<admin::change::EnableUser>(routes::ADMIN_USERS))
        .route(routes::ADMIN_USERS_END_SESSIONS, form_of::<admin::change::EndUserSessions>(routes::ADMIN_USERS))
        .route(routes::ADMIN_USERS_RESET_TWO_FACTOR, form_of::<admin::change::ResetUserTwoFactor>(routes::ADMIN_USERS))
        .route(routes::ADMIN_USERS_STOP_RESET, form_of::<admin::change::StopTwoFactorReset>(routes::ADMIN_USERS))
        .route(routes::ADMIN_USERS_MAKE_ADMIN, form_of::<admin::change::MakeAdmin>(routes::ADMIN_USERS))
        .route(routes::ADMIN_USERS_REMOVE_ADMIN, form_of::<admin::change::RemoveAdmin>(routes::ADMIN_USERS))
        .route(routes::ADMIN_ROLLOUT, get(admin::rollout::get).merge(form::<admin::rollout::ChangeRollout>()))
        .route(routes::ADMIN_AUDIT, get(admin::audit::get).merge(form::<admin::audit::SearchAudit>()))
        .route(routes::ADMIN_AUDIT_EXPORT, form_of::<admin::audit::ExportAudit>(routes::ADMIN_AUDIT))
        .route(routes::ADMIN_MAIL, get(admin::mail::get).merge(form::<admin::mail::RetryMail>()))
        .route(routes::ADMIN_MAIL_TEST, form_of::<admin::mail::SendTestMail>(routes::ADMIN_MAIL))
        .route(routes::ADMIN_LIMITS, get(admin::limits::get).merge(form::<admin::limits::ReleaseLimit>()))
        .route(routes::ADMIN_API_KEYS, get(admin::api_keys::get))
        .route(routes::ADMIN_API_KEYS_NEW, get(admin::api_keys::get_new).merge(form::<admin::api_keys::CreateApiKey>()))
        .route(routes::ADMIN_API_KEYS_REVOKE, get(admin::api_keys::get_revoke).merge(form::<admin::api_keys::RevokeApiKey>()))
        .route(routes::NAME, form_of::<security::ChangeName>(routes::ACCOUNT))
        .route(routes::EMAIL, get(change_email::get).merge(form::<change_email::RequestAddressChange>()))
        .route(routes::EMAIL_CODE, form_of::<change_email::ConfirmAddressChange>(routes::EMAIL))
        .route(routes::EMAIL_RESEND, form_of::<change_email::ResendAddressCode>(routes::EMAIL))
        .route(routes::EXPORT, get(export::get).merge(form::<export::ExportAccount>()))
        .route(routes::DELETE, get(delete_account::get).merge(form::<delete_account::DeleteAccount>()))
        .route(routes::DELETE_CANCEL, form_of::<delete_account::KeepAccount>(routes::DELETE))
        .route(routes::UNDO, get(undo::get).merge(form::<undo::TakeBack>()))
        .layer(sessions)
        .layer(map_response(session::unsaved_is_busy))
        .layer(map_response(session::keep_cookie))
        .route(routes::HELP, get(help::get))
        .route(routes::HELP_ARTICLE, get(help::get_article))
        .with_state(state)
}

/// The form of the page at this path: its server function.
fn form<F: ServerFn<Server = AxumServerFnBackend> + 'static>() -> MethodRouter<AppState> {
    register_explicit::<F>();
    post(posted)
}

/// One function for every form: as a closure in [`form`], the compiler would make axum's handler anew for each.
async fn posted(
    State(state): State<AppState>,
    session: Session,
    Extension(from): Extension<Requester>,
    request: Request,
) -> Response {
    form_post(state, session, from, request).await
}

/// One of several forms of the page at `page`.
fn form_of<F: ServerFn<Server = AxumServerFnBackend> + 'static>(page: &'static str) -> MethodRouter<AppState> {
    back_to(page).merge(form::<F>())
}

fn back_to(page: &'static str) -> MethodRouter<AppState> {
    get(async move || Redirect::to(page))
}

async fn home(Visitor(browser): Visitor) -> Redirect {
    Redirect::to(if browser.authority.is_some() { routes::ACCOUNT } else { routes::LOGIN })
}
