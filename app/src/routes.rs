//! Every path of the pages, once. A page with several forms posts the others to paths below its own.

use url::form_urlencoded;

pub const LOGIN: &str = "/login";
pub const LOGIN_SENT: &str = "/login/sent";
pub const LOGIN_SENT_RESEND: &str = "/login/sent/resend";
pub const LOGIN_VERIFY: &str = "/login/verify";
pub const LOGIN_CONFIRM: &str = "/login/confirm";
pub const LOGIN_CONFIRM_CANCEL: &str = "/login/confirm/cancel";
pub const LOGIN_CONFIRM_RESEND: &str = "/login/confirm/resend";
pub const LOGIN_SENT_AGAIN: &str = "/login/sent?again=1";
pub const LOGIN_TWO_FACTOR: &str = "/login/two-factor";
pub const LOGIN_BACKUP_CODE: &str = "/login/backup-code";
pub const LOGIN_CONTINUE: &str = "/login/continue";
pub const LOGIN_FOR_ACCOUNT: &str = "/login?next=/account";
pub const LOGOUT: &str = "/logout";
pub const REAUTH: &str = "/reauth";
pub const REAUTH_SEND: &str = "/reauth/send";
pub const REAUTH_BACKUP_CODE: &str = "/reauth/backup-code";
pub const ACCOUNT: &str = "/account";
pub const NAME: &str = "/account/name";
pub const EMAIL: &str = "/account/email";
pub const EXPORT: &str = "/account/export";
pub const DELETE: &str = "/account/delete";
pub const DELETE_CANCEL: &str = "/account/delete/cancel";
pub const SESSIONS: &str = "/account/sessions";
pub const SESSIONS_END: &str = "/account/sessions/end";
pub const SESSIONS_END_OTHERS: &str = "/account/sessions/end-others";
pub const ACTIVITY: &str = "/account/activity";
pub const TWO_FACTOR: &str = "/account/two-factor";
pub const TWO_FACTOR_SETUP: &str = "/account/two-factor/setup";
pub const TWO_FACTOR_SETUP_START: &str = "/account/two-factor/setup/start";
pub const TWO_FACTOR_REMOVE: &str = "/account/two-factor/remove";
pub const TWO_FACTOR_OFF: &str = "/account/two-factor/turn-off";
pub const BACKUP_CODES: &str = "/account/backup-codes";
pub const BACKUP_CODES_SAVED: &str = "/account/backup-codes/saved";
pub const DEVICES: &str = "/account/devices";
pub const DEVICES_REVOKE: &str = "/account/devices/revoke";
pub const DEVICES_REVOKE_ALL: &str = "/account/devices/revoke-all";
pub const DEVICES_FORGET: &str = "/account/devices/forget";
pub const DEVICES_FORGET_ALL: &str = "/account/devices/forget-all";
pub const ADMIN: &str = "/admin";
pub const ADMIN_USERS: &str = "/admin/users";
pub const ADMIN_USERS_INVITE: &str = "/admin/users/invite";
pub const ADMIN_USER: &str = "/admin/users/{id}";
pub const ADMIN_USER_CHANGE: &str = "/admin/users/{id}/{change}";
pub const ADMIN_USERS_DISABLE: &str = "/admin/users/disable";
pub const ADMIN_USERS_ENABLE: &str = "/admin/users/enable";
pub const ADMIN_USERS_END_SESSIONS: &str = "/admin/users/end-sessions";
pub const ADMIN_USERS_RESET_TWO_FACTOR: &str = "/admin/users/reset-two-factor";
pub const ADMIN_USERS_STOP_RESET: &str = "/admin/users/stop-reset";
pub const ADMIN_USERS_MAKE_ADMIN: &str = "/admin/users/make-admin";
pub const ADMIN_USERS_REMOVE_ADMIN: &str = "/admin/users/remove-admin";
pub const ADMIN_ROLLOUT: &str = "/admin/rollout";
pub const ADMIN_AUDIT: &str = "/admin/audit";
pub const ADMIN_AUDIT_EXPORT: &str = "/admin/audit/export";
pub const ADMIN_MAIL: &str = "/admin/mail";
pub const ADMIN_MAIL_TEST: &str = "/admin/mail/test";
pub const ADMIN_LIMITS: &str = "/admin/limits";
pub const ADMIN_API_KEYS: &str = "/admin/api-keys";
pub const ADMIN_API_KEYS_NEW: &str = "/admin/api-keys/new";
pub const ADMIN_API_KEYS_REVOKE: &str = "/admin/api-keys/revoke";
pub const EMAIL_ANOTHER: &str = "/account/email?another=1";
pub const EMAIL_CODE: &str = "/account/email/code";
pub const EMAIL_RESEND: &str = "/account/email/resend";
pub const INVITE: &str = "/invite";
pub const UNDO: &str = "/undo";
pub const UNDO_BACKUP_CODE: &str = "/undo?with=backup-code";
pub const AUTH_VERIFY: &str = "/auth/verify";
pub const AUTH_REDIRECT: &str = "/auth/redirect";
pub const HELP: &str = "/help";
pub const HELP_ARTICLE: &str = "/help/{slug}";
pub const DEV_INBOX: &str = "/dev/inbox";

/// `path` with these in its query, without those that are empty.
pub fn with_query<'a>(path: &str, pairs: impl IntoIterator<Item = (&'static str, &'a str)>) -> String {
    let set = pairs.into_iter().filter(|(_, value)| !value.is_empty());
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(set).finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}
