//! Mail: queued in the caller's transaction, decided and sent by a worker. What waits is ids; what is secret in a mail is derived
//!
//! Not here: sending (`delivery`).
//! when it is sent, so a retry sends the very same mail under the very same Message-ID.
//!
//! To add one: a variant of [`Notice`], or of [`Kind`] with its column in `store.rs`; what it says in `delivery`, its words in `app`.

pub(crate) mod pace;
pub(crate) mod store;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantNames};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    crypto::Keys,
    identity::{Method, Prefix, SecondFactor},
    policy::checks::Check,
    primitives::requester::Requester,
};

/// A notice may wait as long.
pub(crate) const NOTICE_DEADLINE: Duration = Duration::from_hours(24);
/// An invitation is not urgent: its mail may wait for a mail server to come back.
pub(crate) const INVITE_DEADLINE: Duration = Duration::from_hours(24);

/// What a mail that somebody asked for on the sign-in page turns out to be.
pub(crate) const SIGN_IN_KINDS: [&str; 4] = ["sign_in", "no_account", "account_off", "not_yet"];

/// A browser, in a notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    pub device: String,
    /// None where an application did not name the person's.
    pub ip: Option<String>,
}

/// What an owner is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, IntoStaticStr, VariantNames)]
#[serde(tag = "notice", rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Notice {
    TwoFactorOn,
    TwoFactorOff,
    TwoFactorReset,
    /// By an administrator, and it waits; `None`: for another one.
    TwoFactorResetRequested {
        #[serde(with = "time::serde::rfc3339::option")]
        due_at: Option<OffsetDateTime>,
    },
    TwoFactorResetStopped,
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
        self.into()
    }
}

/// What a mail that waits is about, and so which row its subject is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum Kind {
    SignIn,
    Invite,
    StepUp,
    EmailChange,
    /// To an account; its own kind is that of the [`Notice`].
    Notice,
    /// A notice with a link that takes back what it tells of. The link's row says where it goes.
    Undoable,
}

/// Which mail goes first, before it counts whose network has how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Somebody waits for it whom an account knows: by the browser, or by the session.
    Known = 0,
    Notice = 1,
    /// Strangers can ask for it, or it isn't urgent.
    Stranger = 2,
}

/// Where a mail stands in the queue: first by class; then by how many mails of its network wait already (of notices: of its account), so that
/// one that asks for thousands delays nobody who asks for one; then the newest first, because its asker still waits at the screen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    class: Class,
    /// A keyed hash.
    network: [u8; 32],
}

impl Place {
    pub fn of(class: Class, from: &Requester, keys: &Keys) -> Self {
        Self { class, network: keys.pseudonym(format!("mail\0{}", from.block()).as_bytes()) }
    }

    /// All invitations take turns as one network's: a thousand at once hold no sign-in up.
    pub fn of_an_invitation(keys: &Keys) -> Self {
        Self { class: Class::Stranger, network: keys.pseudonym(b"mail\0invitations") }
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

/// Where a mail stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum MailState {
    #[strum(serialize = "queued")]
    Waiting,
    /// A mail server has it at this moment, or a process died with it.
    Sending,
    Sent,
    /// Its time was over, or its link was dead, before it could be sent.
    Expired,
    /// A mail server will not take it.
    Failed,
}

/// From the queue's column, where `sending` is a queued one with a lease.
impl From<String> for MailState {
    fn from(text: String) -> Self {
        text.parse().unwrap_or(Self::Expired)
    }
}

/// Which mails are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
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
        self.into()
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
    /// It waits, and may for so long.
    Late { within: Duration },
    /// A mail server will not take it.
    Refused,
}

/// Mails should be out sooner than this after they were asked for.
pub(crate) const LATE: Duration = Duration::from_secs(20);

/// Mails under way at once in one process: more would open more connections than mail servers like.
pub(crate) const LANES: usize = 8;
/// Waits between tries, but never more than half of the time a mail still has: a sign-in mail lives for ten minutes, and a server that
/// comes back in the last of them must still get it.
pub(crate) const WAITS: [Duration; 6] = [
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(45),
    Duration::from_mins(2),
    Duration::from_mins(5),
];

/// The longest wait between two tries.
pub const LONGEST_WAIT: Duration = WAITS[WAITS.len() - 1];
