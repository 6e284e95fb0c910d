//! Mail: queued in the caller's transaction, decided and sent by a worker. What waits is ids; what is secret in a mail is derived
//! when it is sent, so a retry sends the very same mail under the very same Message-ID.
//!
//! To add a kind: a variant of [`Content`], how it is queued in `store.rs`, what it says in `deliver`, its words in `app`.

pub(crate) mod store;
mod worker;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    api_key::Prefix,
    email_address::EmailAddress,
    event::{Method, SecondFactor},
    rollout::Check,
    secret::{Code, InviteToken, LinkToken, UndoToken},
};

/// A notice may wait as long.
pub(crate) const NOTICE_DEADLINE: Duration = Duration::from_hours(24);
/// An invitation is not urgent: its mail may wait for a mail server to come back.
pub(crate) const INVITE_DEADLINE: Duration = Duration::from_hours(24);

/// What a mail that somebody asked for on the sign-in page turns out to be.
pub(crate) const SIGN_IN_KINDS: [&str; 4] = ["sign_in", "no_account", "account_off", "not_yet"];

/// One mail, ready to be put into words and sent.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Names the mail for good: sending twice under one id lets mail programs show it once.
    pub id: Uuid,
    pub to: EmailAddress,
    pub queued_at: OffsetDateTime,
    pub content: Content,
}

/// Who asked, on what, from where, when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub device: String,
    pub ip: String,
    pub at: OffsetDateTime,
}

/// Where a sign-in mail leads, if not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// Operators' words.
    pub name: String,
    /// Where the mail's link leads, with its token added. Without one the mail has a code and no link: ours would open in a browser
    /// that can't be signed in with it.
    pub redirect_url: Option<String>,
    /// It said who asks.
    pub client_named: bool,
}

#[derive(Debug, Clone)]
pub enum Content {
    SignIn {
        token: LinkToken,
        code: Code,
        asked: Asked,
        /// The application they sign in to; none where that is here.
        application: Option<Elsewhere>,
    },
    /// No account has this address, and none may be made.
    NoAccount { asked: Asked },
    /// An operator has turned the account off.
    AccountOff { asked: Asked },
    /// Signing in by mail is not for this address yet.
    NotYet { asked: Asked },
    /// `inviter`: a name or an address.
    Invite { token: InviteToken, inviter: Option<String> },
    /// A code for someone signed in who wants to change something.
    StepUp { code: Code, asked: Asked },
    /// A code that proves a new address, for someone signed in who wants to use it.
    EmailChange { code: Code, asked: Asked },
    /// Somebody wanted to use this address for their account, but it has one.
    EmailTaken,
    /// Something about the account has changed, or was used. `by`: in which browser; none where an operator did it.
    Notice {
        notice: Notice,
        at: OffsetDateTime,
        by: Option<By>,
        /// The token of a link that takes it back.
        undo: Option<UndoToken>,
    },
}

/// A browser, in a notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    pub device: String,
    pub ip: String,
}

/// What an owner is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "notice", rename_all = "snake_case")]
pub enum Notice {
    TwoFactorOn,
    TwoFactorOff,
    TwoFactorReset,
    AuthenticatorAdded,
    AuthenticatorRemoved,
    BackupCodesNew,
    BackupCodesLow {
        left: i64,
    },
    BackupCodeUsed {
        left: i64,
    },
    /// From a browser that the account did not know.
    NewSignIn {
        method: Method,
        second: Option<SecondFactor>,
    },
    /// A wrong second factor after a right first one.
    SecondStepFailed,
    /// To the address it was.
    EmailChanged,
    EmailChangeUndone,
    DeletionRequested {
        #[serde(with = "time::serde::rfc3339")]
        deletes_at: OffsetDateTime,
    },
    DeletionCancelled,
    /// By an administrator, as the next ones.
    AccountDisabled,
    AccountEnabled,
    SessionsEnded,
    AdminGranted,
    AdminRevoked,
    /// To the administrator who made the key, as the next ones.
    ApiKeyCreated {
        prefix: Prefix,
    },
    ApiKeyRevoked {
        prefix: Prefix,
    },
    /// It stops working soon. To every administrator, where its maker is none any more.
    ApiKeyEnding {
        prefix: Prefix,
        #[serde(with = "time::serde::rfc3339")]
        expires_at: OffsetDateTime,
    },
    /// An administrator wanted to see whether mail arrives.
    Test,
    /// To every administrator, as the next two: a check is over its limit.
    RolloutHeld {
        check: Check,
    },
    RolloutRolledBack {
        check: Check,
    },
    RolloutFinished,
}

impl Notice {
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::TwoFactorOn => "two_factor_on",
            Self::TwoFactorOff => "two_factor_off",
            Self::TwoFactorReset => "two_factor_reset",
            Self::AuthenticatorAdded => "authenticator_added",
            Self::AuthenticatorRemoved => "authenticator_removed",
            Self::BackupCodesNew => "backup_codes_new",
            Self::BackupCodesLow { .. } => "backup_codes_low",
            Self::BackupCodeUsed { .. } => "backup_code_used",
            Self::NewSignIn { .. } => "new_sign_in",
            Self::SecondStepFailed => "second_step_failed",
            Self::EmailChanged => "email_changed",
            Self::EmailChangeUndone => "email_change_undone",
            Self::DeletionRequested { .. } => "deletion_requested",
            Self::DeletionCancelled => "deletion_cancelled",
            Self::AccountDisabled => "account_disabled",
            Self::AccountEnabled => "account_enabled",
            Self::SessionsEnded => "sessions_ended",
            Self::AdminGranted => "admin_granted",
            Self::AdminRevoked => "admin_revoked",
            Self::ApiKeyCreated { .. } => "api_key_created",
            Self::ApiKeyRevoked { .. } => "api_key_revoked",
            Self::ApiKeyEnding { .. } => "api_key_ending",
            Self::Test => "test",
            Self::RolloutHeld { .. } => "rollout_held",
            Self::RolloutRolledBack { .. } => "rollout_rolled_back",
            Self::RolloutFinished => "rollout_finished",
        }
    }
}

/// What a notice's row holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Details {
    #[serde(flatten)]
    pub notice: Notice,
    pub by: Option<By>,
    /// The account's address when it happened; none where a link's row says where its mail goes.
    #[serde(default)]
    pub to: Option<String>,
}

impl Content {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::SignIn { .. } => "sign_in",
            Self::NoAccount { .. } => "no_account",
            Self::AccountOff { .. } => "account_off",
            Self::NotYet { .. } => "not_yet",
            Self::Invite { .. } => "invite",
            Self::StepUp { .. } => "step_up",
            Self::EmailChange { .. } => "email_change",
            Self::EmailTaken => "email_taken",
            Self::Notice { notice, .. } => notice.kind(),
        }
    }
}

/// Where a mail stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailState {
    Waiting,
    /// A mail server has it at this moment, or a process died with it.
    Sending,
    Sent,
    /// Its time was over, or its link was dead, before it could be sent.
    Expired,
    /// A mail server will not take it.
    Failed,
}

/// Which mails are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MailFilter {
    #[default]
    All,
    Waiting,
    /// Failed or expired.
    GivenUp,
}

impl MailFilter {
    pub const ALL: [Self; 3] = [Self::All, Self::Waiting, Self::GivenUp];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Waiting => "waiting",
            Self::GivenUp => "given-up",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|filter| filter.as_str() == text)
    }
}

/// A mail in the queue, as administrators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailRow {
    pub id: Uuid,
    /// What it is, by the names of `mail.sent`; a sign-in mail may turn out to say that there is no account.
    pub kind: String,
    /// Whole; pages mask it. `None` where what it belonged to is gone.
    pub to: Option<String>,
    pub state: MailState,
    pub created_at: OffsetDateTime,
    /// When it is tried next, where it waits.
    pub run_at: OffsetDateTime,
    pub settled_at: Option<OffsetDateTime>,
    pub attempts: i32,
    /// Why it was not sent the last time.
    pub error: Option<String>,
    /// It can be sent now: it waits or failed, and is still of use.
    pub retriable: bool,
}

/// The queue as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueState {
    pub waiting: i64,
    /// When the mail was queued that has waited the longest.
    pub oldest: Option<OffsetDateTime>,
    /// In the last 24 hours, as the next two.
    pub sent: i64,
    pub failed: i64,
    pub expired: i64,
    /// Seconds from queued to taken by the mail server, of the last hour's slowest twentieth at least; `None` where none was sent.
    pub p95_seconds: Option<f64>,
}

/// What becomes of a sign-in mail, for the page that says it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// It is out, or will be in a moment.
    OnTime,
    /// It waits, and others do.
    Late,
    /// A mail server will not take it.
    Refused,
}

/// Mails should be out sooner than this after they were asked for.
pub(crate) const LATE: Duration = Duration::from_secs(20);

/// The longest wait between two tries.
pub const LONGEST_WAIT: Duration = worker::WAITS[worker::WAITS.len() - 1];

/// Why a mail was not sent. The text is for operators: it names no recipient.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Worth another try: a 4xx answer.
    #[error("{0}")]
    Temporary(String),
    /// Worth another try, and no recipient's fault: no mail server answered, or it wants something else of us.
    #[error("{0}")]
    Server(String),
    /// The mail server will not take it, ever.
    #[error("{0}")]
    Permanent(String),
}

/// Puts a letter into words and hands it to a mail server. Every step has a time limit.
pub trait Mailer: Send + Sync + 'static {
    fn send(&self, letter: Letter) -> impl Future<Output = Result<(), SendError>> + Send;
}
