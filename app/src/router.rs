//! Every page and form, once. A page's form posts to the page's own path; a page's other forms have paths below it, where GET leads
//! back to the page.

use auth::primitives::requester::Requester;
use axum::{
    Extension, Router,
    extract::{Request, State},
    middleware::map_response,
    response::Redirect,
    routing::{MethodRouter, get, post},
};
use leptos::server_fn::axum::register_explicit;
use tower_sessions::Session;

use crate::{
    form::form_post,
    gate::Passerby,
    pages::{
        account, activity, admin, backup_codes, change_email, confirm_link, delete_account, devices, export, help, invite, login,
        login_backup_code, login_continue, login_sent, login_two_factor, reauth, sessions, signed_out, two_factor, two_factor_off,
        two_factor_setup, undo,
    },
    routes, session,
    state::AppState,
};

/// Every form's function, by its path.
fn register_forms() {
    register_explicit::<login::RequestLink>();
    register_explicit::<login_sent::EnterCode>();
    register_explicit::<login_sent::ResendEmail>();
    register_explicit::<confirm_link::ConfirmLink>();
    register_explicit::<confirm_link::CancelLink>();
    register_explicit::<confirm_link::RequestOwnLink>();
    register_explicit::<invite::AcceptInvite>();
    register_explicit::<signed_out::SignOut>();
    register_explicit::<login_two_factor::EnterTotp>();
    register_explicit::<login_backup_code::EnterBackupCode>();
    register_explicit::<login_continue::ContinueElsewhere>();
    register_explicit::<reauth::StepUp>();
    register_explicit::<reauth::StepUpWithBackupCode>();
    register_explicit::<reauth::SendStepUpCode>();
    register_explicit::<two_factor::RemoveAuthenticator>();
    register_explicit::<two_factor_setup::StartTwoFactorSetup>();
    register_explicit::<two_factor_setup::ConfirmTwoFactorSetup>();
    register_explicit::<two_factor_off::TurnTwoFactorOff>();
    register_explicit::<backup_codes::NewBackupCodes>();
    register_explicit::<backup_codes::SaveBackupCodes>();
    register_explicit::<devices::RevokeDevice>();
    register_explicit::<devices::RevokeAllDevices>();
    register_explicit::<sessions::EndSession>();
    register_explicit::<sessions::EndOtherSessions>();
    register_explicit::<admin::users::SearchUsers>();
    register_explicit::<admin::invite::InviteSomeone>();
    register_explicit::<admin::change::DisableUser>();
    register_explicit::<admin::change::EnableUser>();
    register_explicit::<admin::change::EndUserSessions>();
    register_explicit::<admin::change::ResetUserTwoFactor>();
    register_explicit::<admin::change::MakeAdmin>();
    register_explicit::<admin::change::RemoveAdmin>();
    register_explicit::<admin::rollout::ChangeRollout>();
    register_explicit::<admin::audit::SearchAudit>();
    register_explicit::<admin::audit::ExportAudit>();
    register_explicit::<admin::mail::RetryMail>();
    register_explicit::<admin::mail::SendTestMail>();
    register_explicit::<admin::limits::ReleaseLimit>();
    register_explicit::<admin::api_keys::CreateApiKey>();
    register_explicit::<admin::api_keys::RevokeApiKey>();
    register_explicit::<account::ChangeName>();
    register_explicit::<change_email::RequestAddressChange>();
    register_explicit::<change_email::ConfirmAddressChange>();
    register_explicit::<change_email::ResendAddressCode>();
    register_explicit::<export::ExportAccount>();
    register_explicit::<delete_account::DeleteAccount>();
    register_explicit::<delete_account::KeepAccount>();
    register_explicit::<undo::TakeBack>();
}

/// The pages. Whoever mounts them has put a [`Requester`] into each request's extensions.
pub fn router(state: AppState) -> Router {
    register_forms();
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
        .route(routes::LOGIN_TWO_FACTOR, get(login_two_factor::get).merge(form()))
        .route(routes::LOGIN_BACKUP_CODE, get(login_backup_code::get).merge(form()))
        .route(routes::LOGIN_CONTINUE, get(login_continue::get).merge(form()))
        .route(routes::REAUTH, get(reauth::get).merge(form()))
        .route(routes::REAUTH_BACKUP_CODE, get(reauth::get_backup_code).merge(form()))
        .route(routes::REAUTH_SEND, form_of(routes::REAUTH))
        .route(routes::ACCOUNT, get(account::get))
        .route(routes::SESSIONS, get(sessions::get))
        .route(routes::SESSIONS_END, form_of(routes::SESSIONS))
        .route(routes::SESSIONS_END_OTHERS, form_of(routes::SESSIONS))
        .route(routes::ACTIVITY, get(activity::get))
        .route(routes::TWO_FACTOR, get(two_factor::get))
        .route(routes::TWO_FACTOR_REMOVE, form_of(routes::TWO_FACTOR))
        .route(routes::TWO_FACTOR_SETUP, get(two_factor_setup::get).merge(form()))
        .route(routes::TWO_FACTOR_SETUP_START, form_of(routes::TWO_FACTOR_SETUP))
        .route(routes::TWO_FACTOR_OFF, get(two_factor_off::get).merge(form()))
        .route(routes::BACKUP_CODES, get(backup_codes::get).merge(form()))
        .route(routes::BACKUP_CODES_SAVED, form_of(routes::BACKUP_CODES))
        .route(routes::DEVICES, get(devices::get))
        .route(routes::DEVICES_REVOKE, form_of(routes::DEVICES))
        .route(routes::DEVICES_REVOKE_ALL, form_of(routes::DEVICES))
        .route(routes::ADMIN, get(admin::overview::get))
        .route(routes::ADMIN_USERS, get(admin::users::get).merge(form()))
        .route(routes::ADMIN_USERS_INVITE, get(admin::invite::get).merge(form()))
        .route(routes::ADMIN_USER, get(admin::user::get))
        .route(routes::ADMIN_USER_CHANGE, get(admin::change::get))
        .route(routes::ADMIN_USERS_DISABLE, form_of(routes::ADMIN_USERS))
        .route(routes::ADMIN_USERS_ENABLE, form_of(routes::ADMIN_USERS))
        .route(routes::ADMIN_USERS_END_SESSIONS, form_of(routes::ADMIN_USERS))
        .route(routes::ADMIN_USERS_RESET_TWO_FACTOR, form_of(routes::ADMIN_USERS))
        .route(routes::ADMIN_USERS_MAKE_ADMIN, form_of(routes::ADMIN_USERS))
        .route(routes::ADMIN_USERS_REMOVE_ADMIN, form_of(routes::ADMIN_USERS))
        .route(routes::ADMIN_ROLLOUT, get(admin::rollout::get).merge(form()))
        .route(routes::ADMIN_AUDIT, get(admin::audit::get).merge(form()))
        .route(routes::ADMIN_AUDIT_EXPORT, form_of(routes::ADMIN_AUDIT))
        .route(routes::ADMIN_MAIL, get(admin::mail::get).merge(form()))
        .route(routes::ADMIN_MAIL_TEST, form_of(routes::ADMIN_MAIL))
        .route(routes::ADMIN_LIMITS, get(admin::limits::get).merge(form()))
        .route(routes::ADMIN_API_KEYS, get(admin::api_keys::get))
        .route(routes::ADMIN_API_KEYS_NEW, get(admin::api_keys::get_new).merge(form()))
        .route(routes::ADMIN_API_KEYS_REVOKE, get(admin::api_keys::get_revoke).merge(form()))
        .route(routes::NAME, form_of(routes::ACCOUNT))
        .route(routes::EMAIL, get(change_email::get).merge(form()))
        .route(routes::EMAIL_CODE, form_of(routes::EMAIL))
        .route(routes::EMAIL_RESEND, form_of(routes::EMAIL))
        .route(routes::EXPORT, get(export::get).merge(form()))
        .route(routes::DELETE, get(delete_account::get).merge(form()))
        .route(routes::DELETE_CANCEL, form_of(routes::DELETE))
        .route(routes::UNDO, get(undo::get).merge(form()))
        .layer(sessions)
        .layer(map_response(session::keep_cookie))
        .route(routes::HELP, get(help::get))
        .route(routes::HELP_ARTICLE, get(help::get_article))
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

async fn home(Passerby(visitor): Passerby) -> Redirect {
    Redirect::to(if visitor.authority.is_some() { routes::ACCOUNT } else { routes::LOGIN })
}
