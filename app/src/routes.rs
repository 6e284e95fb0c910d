//! Every path of the pages, once. A page with several forms posts the others to paths below its own.

pub const LOGIN: &str = "/login";
pub const LOGIN_SENT: &str = "/login/sent";
pub const LOGIN_SENT_RESEND: &str = "/login/sent/resend";
pub const LOGIN_VERIFY: &str = "/login/verify";
pub const LOGIN_CONFIRM: &str = "/login/confirm";
pub const LOGIN_CONFIRM_CANCEL: &str = "/login/confirm/cancel";
pub const LOGIN_CONFIRM_RESEND: &str = "/login/confirm/resend";
pub const LOGIN_SENT_AGAIN: &str = "/login/sent?again=1";
pub const LOGIN_TWO_FACTOR: &str = "/login/two-factor";
pub const LOGIN_FOR_ACCOUNT: &str = "/login?next=/account";
pub const LOGOUT: &str = "/logout";
pub const ACCOUNT: &str = "/account";
pub const INVITE: &str = "/invite";
pub const HELP: &str = "/help";
pub const HELP_LIMITS: &str = "/help#limits";
pub const HELP_DIDNT_ASK: &str = "/help#didnt-ask";
pub const DEV_INBOX: &str = "/dev/inbox";
