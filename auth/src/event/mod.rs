//! What happened. One typed [`Event`] a thing; the same value becomes the audit row (inside the caller's transaction), and
//! after the commit the log line and the counter. So the three cannot drift apart, and an action whose audit row fails, fails.
//!
//! To add one: a variant, its name (`noun.verb`), its details (never a token, code, secret or address), its counter if it has one.

use std::collections::BTreeMap;

use metrics::SharedString;
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use crate::{
    api_keys::Prefix, crypto::new_id, flag::Flag, policy::NamedDomains, primitives::requester::Requester, rollout::Happened,
};

/// How a first factor was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    Link,
    Code,
}

impl Method {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Code => "code",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Link, Self::Code].into_iter().find(|method| method.as_str() == text)
    }
}

/// Why a link or code did not sign anybody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Expired,
    /// Used before, by this person or by another.
    Used,
    /// A newer request of the same browser took its place.
    Replaced,
    /// "This wasn't me", or more requests for one address than can be its owner's.
    Cancelled,
    OtherBrowser,
    WrongCode,
    /// No account, and none may be made.
    NotAdmitted,
    AccountOff,
    /// An application asked, and the account must set two-factor up before it may sign in.
    EnrolmentRequired,
}

impl Refusal {
    fn reason(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Used => "used",
            Self::Replaced => "replaced",
            Self::Cancelled => "cancelled",
            Self::OtherBrowser => "other_browser",
            Self::WrongCode => "wrong_code",
            Self::NotAdmitted => "not_admitted",
            Self::AccountOff => "account_off",
            Self::EnrolmentRequired => "enrolment_required",
        }
    }

    /// The `result` label of `auth_magiclink_verifications_total`.
    fn result(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Used => "replay",
            Self::OtherBrowser => "other_browser",
            Self::Replaced | Self::Cancelled | Self::WrongCode | Self::NotAdmitted | Self::AccountOff | Self::EnrolmentRequired => {
                "invalid"
            }
        }
    }
}

/// How a second factor was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecondFactor {
    Totp,
    BackupCode,
    /// Not given: this browser is trusted with it.
    TrustedDevice,
}

impl SecondFactor {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Totp => "totp",
            Self::BackupCode => "backup_code",
            Self::TrustedDevice => "trusted_device",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Totp, Self::BackupCode, Self::TrustedDevice].into_iter().find(|factor| factor.as_str() == text)
    }
}

/// Why a code of an authenticator app, or a backup code, was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeRefusal {
    Wrong,
    /// Right once, and used.
    Used,
    /// Of another time than now: the app's clock is off.
    Clock,
    /// Nothing is looked at until the app is set up anew.
    Off,
}

impl CodeRefusal {
    fn reason(self) -> &'static str {
        match self {
            Self::Wrong => "wrong",
            Self::Used => "used",
            Self::Clock => "clock",
            Self::Off => "off",
        }
    }

    /// The `result` label of `auth_totp_verify_total` and `auth_backup_code_verify_total`.
    fn result(self) -> &'static str {
        match self {
            Self::Wrong | Self::Clock => "invalid",
            Self::Used => "replay",
            Self::Off => "locked",
        }
    }
}

/// What a right second factor was given for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    SignIn,
    /// Before a change to the account.
    StepUp,
    TurnOff,
    /// Before a change of address is taken back.
    Undo,
}

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::SignIn => "sign_in",
            Self::StepUp => "step_up",
            Self::TurnOff => "turn_off",
            Self::Undo => "undo",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevokeReason {
    SignedOut,
    /// The same browser signed in again, or gave another factor.
    Replaced,
    /// Two-factor was turned on, off, or reset.
    TwoFactorChanged,
    /// By its owner, in another session.
    SignedOutElsewhere,
    /// The account's address was changed, or changed back.
    EmailChanged,
    /// By the link in the mail that told of it.
    Undone,
    /// By an administrator or an operator.
    EndedByAdmin,
    AccountOff,
    /// Its owner asked for the account to be deleted.
    Leaving,
}

impl RevokeReason {
    pub(crate) const ALL: [Self; 9] = [
        Self::SignedOut,
        Self::Replaced,
        Self::TwoFactorChanged,
        Self::SignedOutElsewhere,
        Self::EmailChanged,
        Self::Undone,
        Self::EndedByAdmin,
        Self::AccountOff,
        Self::Leaving,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::SignedOut => "signed_out",
            Self::Replaced => "replaced",
            Self::TwoFactorChanged => "two_factor_changed",
            Self::SignedOutElsewhere => "signed_out_elsewhere",
            Self::EmailChanged => "email_changed",
            Self::Undone => "undone",
            Self::EndedByAdmin => "ended_by_admin",
            Self::AccountOff => "account_off",
            Self::Leaving => "leaving",
        }
    }
}

#[derive(Debug, Clone)]
pub enum Event {
    LinkRequested {
        link: Uuid,
        known_browser: bool,
        /// For the counter alone; see [`crate::policy::NamedDomains`].
        domain: SharedString,
    },
    LinkRedeemed {
        user: Uuid,
        link: Uuid,
        method: Method,
    },
    LinkRefused {
        link: Uuid,
        method: Method,
        refusal: Refusal,
    },
    LinkCancelled {
        link: Uuid,
    },
    UserCreated {
        user: Uuid,
        by: Origin,
        admin: bool,
    },
    SessionCreated {
        user: Uuid,
        session: Uuid,
        level: &'static str,
        method: Method,
        second: Option<SecondFactor>,
        /// By a browser that the account did not know.
        new_device: bool,
        /// Since its link was asked for.
        after: Option<Duration>,
    },
    SessionRevoked {
        user: Uuid,
        session: Uuid,
        reason: RevokeReason,
    },
    InviteCreated {
        invite: Uuid,
        by: Origin,
    },
    InviteUsed {
        user: Uuid,
        invite: Uuid,
    },
    TotpSetUpStarted {
        user: Uuid,
        credential: Uuid,
    },
    TotpEnrolled {
        user: Uuid,
        credential: Uuid,
    },
    TotpRemoved {
        user: Uuid,
        credential: Uuid,
    },
    TotpAccepted {
        user: Uuid,
        credential: Uuid,
        purpose: Purpose,
    },
    TotpRefused {
        user: Uuid,
        refusal: CodeRefusal,
        purpose: Purpose,
    },
    /// So many wrong codes in a row that no more are looked at.
    TotpLocked {
        user: Uuid,
    },
    /// The secret can't be read: its key is missing, or it was tampered with.
    TotpUnreadable {
        user: Uuid,
        credential: Uuid,
        reason: &'static str,
    },
    BackupCodesProposed {
        user: Uuid,
        set: Uuid,
    },
    BackupCodesSaved {
        user: Uuid,
        set: Uuid,
    },
    BackupCodeUsed {
        user: Uuid,
        left: i64,
        purpose: Purpose,
    },
    BackupCodeRefused {
        user: Uuid,
        refusal: CodeRefusal,
        purpose: Purpose,
    },
    TwoFactorTurnedOff {
        user: Uuid,
    },
    TwoFactorReset {
        user: Uuid,
        by: Origin,
        reason: String,
    },
    DeviceTrusted {
        user: Uuid,
        device: Uuid,
    },
    DeviceRevoked {
        user: Uuid,
        device: Uuid,
    },
    StepUpMailed {
        user: Uuid,
        code: Uuid,
    },
    StepUpRefused {
        user: Uuid,
        code: Uuid,
    },
    SteppedUp {
        user: Uuid,
        session: Uuid,
        factor: &'static str,
    },
    NameChanged {
        user: Uuid,
    },
    /// A code was sent to another address, for the account to go there.
    EmailChangeRequested {
        user: Uuid,
        change: Uuid,
    },
    EmailChangeRefused {
        user: Uuid,
        change: Uuid,
    },
    EmailChanged {
        user: Uuid,
        change: Uuid,
    },
    EmailChangeUndone {
        user: Uuid,
        undo: Uuid,
    },
    AccountExported {
        user: Uuid,
    },
    DeletionRequested {
        user: Uuid,
    },
    DeletionCancelled {
        user: Uuid,
    },
    /// The row is gone. The account's id stays in the audit, and means nobody any more.
    UserDeleted {
        user: Uuid,
    },
    UserDisabled {
        user: Uuid,
        by: Origin,
        reason: String,
    },
    UserEnabled {
        user: Uuid,
        by: Origin,
        reason: String,
    },
    AdminGranted {
        user: Uuid,
        by: Origin,
        reason: String,
    },
    AdminRevoked {
        user: Uuid,
        by: Origin,
        reason: String,
    },
    /// All its sessions, besides one `session.revoked` each: with who and why.
    UserSessionsEnded {
        user: Uuid,
        by: Origin,
        reason: String,
        sessions: u64,
    },
    /// Everybody's, or those signed in since a time, at the shell; besides one `session.revoked` each.
    SessionsEnded {
        since: Option<OffsetDateTime>,
        reason: String,
        sessions: u64,
        /// Links and codes that were under way.
        links: u64,
    },
    /// An administrator opened the account's page, where its address stands whole.
    UserViewed {
        user: Uuid,
    },
    KeysRotated {
        key: String,
        secrets: u64,
    },
    /// `maker`: the administrator whose key it is; none for one made at the shell.
    ApiKeyCreated {
        maker: Option<Uuid>,
        key: Uuid,
        prefix: Prefix,
        name: String,
        scopes: Vec<&'static str>,
        expires_at: Option<OffsetDateTime>,
    },
    /// `by`: none where its maker did it.
    ApiKeyRevoked {
        maker: Option<Uuid>,
        key: Uuid,
        prefix: Prefix,
        by: Option<Origin>,
        reason: String,
    },
    MailSent {
        mail: Uuid,
        kind: &'static str,
        /// Since it was queued.
        after: Duration,
    },
    MailFailed {
        mail: Uuid,
        state: &'static str,
    },
    /// An administrator had a mail sent again that waited or was given up.
    MailRetried {
        mail: Uuid,
    },
    /// An administrator let somebody go whom a limit held.
    LimitReleased {
        limit: &'static str,
        /// An account's id, where the limit counts an account.
        user: Option<Uuid>,
        /// Masked.
        address: Option<String>,
        network: Option<String>,
    },
    /// More sign-in mails asked for in an hour than a household asks for, refused ones included.
    NetworkTooManyRequests {
        network: String,
        requests: i64,
    },
    FlagChanged {
        flag: String,
        before: Flag,
        after: Flag,
        /// Masked.
        allowed: Option<String>,
        disallowed: Option<String>,
        by: Origin,
        reason: String,
    },
    Rollout {
        happened: Happened,
        rollout: Uuid,
        step: usize,
        by: Origin,
        /// A check's name, or somebody's words.
        reason: String,
    },
    /// Somebody took a copy of the audit, or of a part of it. Recorded before the first row leaves.
    AuditExported {
        by: Origin,
        format: &'static str,
        since: Option<OffsetDateTime>,
        until: Option<OffsetDateTime>,
        /// What else narrowed it.
        filter: BTreeMap<&'static str, String>,
    },
    /// The daily look found the audit other than it was sealed.
    AuditTampered {
        /// How many of each kind.
        findings: BTreeMap<&'static str, u64>,
    },
    /// The hourly look for rows that contradict each other found some.
    ReconcileFinished {
        /// How many of each kind.
        findings: BTreeMap<&'static str, usize>,
    },
}

/// Who made an account, or changed somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The person, by signing in for the first time.
    SignUp,
    /// An operator, from the shell.
    Operator,
    /// An administrator, on the pages; the audit row's `actor_id` says which.
    Admin,
    /// The guarded rollout.
    Rollout,
    /// A program; the audit row's `actor_id` is its API key's.
    ApiKey,
}

impl Origin {
    fn as_str(self) -> &'static str {
        match self {
            Self::SignUp => "sign_up",
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Rollout => "rollout",
            Self::ApiKey => "api_key",
        }
    }
}

impl Event {
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::LinkRequested { .. } => "link.requested",
            Self::LinkRedeemed { .. } => "link.redeemed",
            Self::LinkRefused { .. } => "link.refused",
            Self::LinkCancelled { .. } => "link.cancelled",
            Self::UserCreated { .. } => "user.created",
            Self::SessionCreated { .. } => "session.created",
            Self::SessionRevoked { .. } => "session.revoked",
            Self::InviteCreated { .. } => "invite.created",
            Self::InviteUsed { .. } => "invite.used",
            Self::TotpSetUpStarted { .. } => "totp.setup_started",
            Self::TotpEnrolled { .. } => "totp.enrolled",
            Self::TotpRemoved { .. } => "totp.removed",
            Self::TotpAccepted { .. } => "totp.accepted",
            Self::TotpRefused { .. } => "totp.refused",
            Self::TotpLocked { .. } => "totp.locked",
            Self::TotpUnreadable { .. } => "totp.unreadable",
            Self::BackupCodesProposed { .. } => "backup_codes.created",
            Self::BackupCodesSaved { .. } => "backup_codes.saved",
            Self::BackupCodeUsed { .. } => "backup_code.used",
            Self::BackupCodeRefused { .. } => "backup_code.refused",
            Self::TwoFactorTurnedOff { .. } => "two_factor.turned_off",
            Self::TwoFactorReset { .. } => "two_factor.reset",
            Self::DeviceTrusted { .. } => "device.trusted",
            Self::DeviceRevoked { .. } => "device.revoked",
            Self::StepUpMailed { .. } => "step_up.mailed",
            Self::StepUpRefused { .. } => "step_up.refused",
            Self::SteppedUp { .. } => "step_up.passed",
            Self::NameChanged { .. } => "name.changed",
            Self::EmailChangeRequested { .. } => "email.change_requested",
            Self::EmailChangeRefused { .. } => "email.change_refused",
            Self::EmailChanged { .. } => "email.changed",
            Self::EmailChangeUndone { .. } => "email.change_undone",
            Self::AccountExported { .. } => "account.exported",
            Self::DeletionRequested { .. } => "account.deletion_requested",
            Self::DeletionCancelled { .. } => "account.deletion_cancelled",
            Self::UserDeleted { .. } => "user.deleted",
            Self::UserDisabled { .. } => "user.disabled",
            Self::UserEnabled { .. } => "user.enabled",
            Self::AdminGranted { .. } => "admin.granted",
            Self::AdminRevoked { .. } => "admin.revoked",
            Self::UserSessionsEnded { .. } => "user.sessions_ended",
            Self::SessionsEnded { .. } => "sessions.ended",
            Self::UserViewed { .. } => "user.viewed",
            Self::KeysRotated { .. } => "keys.rotated",
            Self::ApiKeyCreated { .. } => "api_key.created",
            Self::ApiKeyRevoked { .. } => "api_key.revoked",
            Self::MailSent { .. } => "mail.sent",
            Self::MailFailed { .. } => "mail.failed",
            Self::MailRetried { .. } => "mail.retried",
            Self::LimitReleased { .. } => "limit.released",
            Self::NetworkTooManyRequests { .. } => "network.too_many_requests",
            Self::FlagChanged { .. } => "flag.changed",
            Self::Rollout { happened, .. } => match happened {
                Happened::Started => "rollout.started",
                Happened::Moved => "rollout.moved",
                Happened::Held => "rollout.held",
                Happened::Released => "rollout.released",
                Happened::Paused => "rollout.paused",
                Happened::Resumed => "rollout.resumed",
                Happened::Aborted => "rollout.aborted",
                Happened::RolledBack => "rollout.rolled_back",
                Happened::Finished => "rollout.finished",
            },
            Self::AuditExported { .. } => "audit.exported",
            Self::AuditTampered { .. } => "audit.tampered",
            Self::ReconcileFinished { .. } => "reconcile.finished",
        }
    }

    fn user(&self) -> Option<Uuid> {
        match self {
            Self::LinkRedeemed { user, .. }
            | Self::UserCreated { user, .. }
            | Self::SessionCreated { user, .. }
            | Self::SessionRevoked { user, .. }
            | Self::InviteUsed { user, .. }
            | Self::TotpSetUpStarted { user, .. }
            | Self::TotpEnrolled { user, .. }
            | Self::TotpRemoved { user, .. }
            | Self::TotpAccepted { user, .. }
            | Self::TotpRefused { user, .. }
            | Self::TotpLocked { user }
            | Self::TotpUnreadable { user, .. }
            | Self::BackupCodesProposed { user, .. }
            | Self::BackupCodesSaved { user, .. }
            | Self::BackupCodeUsed { user, .. }
            | Self::BackupCodeRefused { user, .. }
            | Self::TwoFactorTurnedOff { user }
            | Self::TwoFactorReset { user, .. }
            | Self::DeviceTrusted { user, .. }
            | Self::DeviceRevoked { user, .. }
            | Self::StepUpMailed { user, .. }
            | Self::StepUpRefused { user, .. }
            | Self::SteppedUp { user, .. }
            | Self::NameChanged { user }
            | Self::EmailChangeRequested { user, .. }
            | Self::EmailChangeRefused { user, .. }
            | Self::EmailChanged { user, .. }
            | Self::EmailChangeUndone { user, .. }
            | Self::AccountExported { user }
            | Self::DeletionRequested { user }
            | Self::DeletionCancelled { user }
            | Self::UserDeleted { user }
            | Self::UserDisabled { user, .. }
            | Self::UserEnabled { user, .. }
            | Self::AdminGranted { user, .. }
            | Self::AdminRevoked { user, .. }
            | Self::UserSessionsEnded { user, .. }
            | Self::UserViewed { user } => Some(*user),
            Self::LimitReleased { user, .. } => *user,
            Self::ApiKeyCreated { maker, .. } | Self::ApiKeyRevoked { maker, .. } => *maker,
            Self::LinkRequested { .. }
            | Self::LinkRefused { .. }
            | Self::LinkCancelled { .. }
            | Self::MailRetried { .. }
            | Self::NetworkTooManyRequests { .. }
            | Self::FlagChanged { .. }
            | Self::Rollout { .. }
            | Self::AuditExported { .. }
            | Self::AuditTampered { .. }
            | Self::ReconcileFinished { .. }
            | Self::InviteCreated { .. }
            | Self::SessionsEnded { .. }
            | Self::KeysRotated { .. }
            | Self::MailSent { .. }
            | Self::MailFailed { .. } => None,
        }
    }

    fn details(&self) -> Value {
        match self {
            Self::LinkRequested { link, known_browser, .. } => json!({ "link": link, "known_browser": known_browser }),
            Self::LinkRedeemed { link, method, .. } => json!({ "link": link, "method": method }),
            Self::LinkRefused { link, method, refusal } => json!({ "link": link, "method": method, "reason": refusal.reason() }),
            Self::LinkCancelled { link } => json!({ "link": link }),
            Self::UserCreated { by, admin, .. } => json!({ "by": by.as_str(), "admin": admin }),
            Self::SessionCreated { session, level, method, second, new_device, after, .. } => {
                json!({
                    "session": session, "level": level, "method": method, "second_method": second, "new_device": new_device,
                    "after_ms": after.map(millis),
                })
            }
            Self::TotpSetUpStarted { credential, .. }
            | Self::TotpEnrolled { credential, .. }
            | Self::TotpRemoved { credential, .. } => {
                json!({ "authenticator": credential })
            }
            Self::TotpAccepted { credential, purpose, .. } => json!({ "authenticator": credential, "for": purpose.as_str() }),
            Self::TotpRefused { refusal, purpose, .. } | Self::BackupCodeRefused { refusal, purpose, .. } => {
                json!({ "reason": refusal.reason(), "for": purpose.as_str() })
            }
            Self::TotpUnreadable { credential, reason, .. } => json!({ "authenticator": credential, "reason": reason }),
            Self::BackupCodesProposed { set, .. } | Self::BackupCodesSaved { set, .. } => json!({ "set": set }),
            Self::BackupCodeUsed { left, purpose, .. } => json!({ "left": left, "for": purpose.as_str() }),
            Self::TwoFactorReset { by, reason, .. }
            | Self::UserDisabled { by, reason, .. }
            | Self::UserEnabled { by, reason, .. }
            | Self::AdminGranted { by, reason, .. }
            | Self::AdminRevoked { by, reason, .. } => json!({ "by": by.as_str(), "reason": reason }),
            Self::UserSessionsEnded { by, reason, sessions, .. } => {
                json!({ "by": by.as_str(), "reason": reason, "sessions": sessions })
            }
            Self::DeviceTrusted { device, .. } | Self::DeviceRevoked { device, .. } => json!({ "device": device }),
            Self::StepUpMailed { code, .. } | Self::StepUpRefused { code, .. } => json!({ "code": code }),
            Self::SteppedUp { session, factor, .. } => json!({ "session": session, "factor": factor }),
            Self::KeysRotated { key, secrets } => json!({ "key": key, "secrets": secrets }),
            Self::SessionsEnded { since, reason, sessions, links } => {
                let since = since.and_then(|since| since.format(&Rfc3339).ok());
                json!({ "by": Origin::Operator.as_str(), "reason": reason, "since": since, "sessions": sessions, "links": links })
            }
            Self::EmailChangeRequested { change, .. }
            | Self::EmailChangeRefused { change, .. }
            | Self::EmailChanged { change, .. } => json!({ "change": change }),
            Self::EmailChangeUndone { undo, .. } => json!({ "undo": undo }),
            Self::TotpLocked { .. }
            | Self::TwoFactorTurnedOff { .. }
            | Self::NameChanged { .. }
            | Self::AccountExported { .. }
            | Self::DeletionRequested { .. }
            | Self::DeletionCancelled { .. }
            | Self::UserDeleted { .. }
            | Self::UserViewed { .. } => json!({}),
            Self::SessionRevoked { session, reason, .. } => json!({ "session": session, "reason": reason.as_str() }),
            Self::InviteCreated { invite, by } => json!({ "invite": invite, "by": by.as_str() }),
            Self::InviteUsed { invite, .. } => json!({ "invite": invite }),
            Self::ApiKeyCreated { key, prefix, name, scopes, expires_at, .. } => {
                let expires_at = expires_at.and_then(|at| at.format(&Rfc3339).ok());
                json!({ "key": key, "prefix": prefix, "name": name, "scopes": scopes, "expires_at": expires_at })
            }
            Self::ApiKeyRevoked { key, prefix, by, reason, .. } => {
                json!({ "key": key, "prefix": prefix, "by": by.map(Origin::as_str), "reason": reason })
            }
            Self::MailSent { mail, kind, after } => json!({ "mail": mail, "kind": kind, "after_ms": millis(*after) }),
            Self::MailFailed { mail, state } => json!({ "mail": mail, "state": state }),
            Self::MailRetried { mail } => json!({ "mail": mail }),
            Self::LimitReleased { limit, address, network, .. } => {
                json!({ "limit": limit, "address": address, "network": network })
            }
            Self::NetworkTooManyRequests { network, requests } => json!({ "network": network, "requests": requests }),
            Self::Rollout { rollout, step, by, reason, .. } => {
                json!({ "rollout": rollout, "step": step, "by": by.as_str(), "reason": reason })
            }
            Self::FlagChanged { flag, before, after, allowed, disallowed, by, reason } => {
                let of = |flag: &Flag| {
                    let (admins, everyone) = (flag.percent_admins, flag.percent_everyone);
                    json!({ "addresses": flag.allowed.len(), "percent_admins": admins, "percent_everyone": everyone })
                };
                json!({
                    "flag": flag, "before": of(before), "after": of(after), "allowed": allowed, "disallowed": disallowed,
                    "by": by.as_str(), "reason": reason,
                })
            }
            Self::AuditExported { by, format, since, until, filter } => {
                let text = |at: &Option<OffsetDateTime>| at.and_then(|at| at.format(&Rfc3339).ok());
                json!({ "by": by.as_str(), "format": format, "since": text(since), "until": text(until), "filter": filter })
            }
            Self::AuditTampered { findings } => json!({ "findings": findings }),
            Self::ReconcileFinished { findings } => json!({ "findings": findings }),
        }
    }

    /// The log line and the counter. Only after the commit: what was rolled back did not happen.
    fn emit(&self, request_id: &str) {
        tracing::info!(event = self.name(), request_id, user.id = self.user().map(tracing::field::display), details = %self.details(), "event");
        match self {
            Self::LinkRequested { domain, .. } => count_request("accepted", domain.clone()),
            Self::LinkRedeemed { method, .. } => count_verification("success", *method),
            Self::LinkRefused { method, refusal, .. } => count_verification(refusal.result(), *method),
            Self::SessionCreated { level, .. } => {
                metrics::counter!("auth_sessions_created_total", "level" => *level).increment(1);
            }
            Self::SessionRevoked { reason, .. } => {
                metrics::counter!("auth_sessions_revoked_total", "reason" => reason.as_str()).increment(1);
            }
            Self::TotpAccepted { .. } => count_totp("success"),
            Self::TotpRefused { refusal, .. } => count_totp(refusal.result()),
            Self::TotpUnreadable { credential, reason, .. } => {
                tracing::error!(%credential, reason, "a two-factor secret can't be read; its owner can only use backup codes");
            }
            Self::BackupCodeUsed { .. } => count_backup_code("success"),
            Self::BackupCodeRefused { refusal, .. } => count_backup_code(refusal.result()),
            Self::MailSent { .. } => metrics::counter!("mail_deliveries_total", "result" => "sent").increment(1),
            Self::MailFailed { state, .. } => metrics::counter!("mail_deliveries_total", "result" => *state).increment(1),
            Self::LinkCancelled { .. }
            | Self::ApiKeyCreated { .. }
            | Self::ApiKeyRevoked { .. }
            | Self::MailRetried { .. }
            | Self::LimitReleased { .. }
            | Self::NetworkTooManyRequests { .. }
            | Self::FlagChanged { .. }
            | Self::Rollout { .. }
            | Self::AuditExported { .. }
            | Self::AuditTampered { .. }
            | Self::ReconcileFinished { .. }
            | Self::UserCreated { .. }
            | Self::InviteCreated { .. }
            | Self::InviteUsed { .. }
            | Self::TotpSetUpStarted { .. }
            | Self::TotpEnrolled { .. }
            | Self::TotpRemoved { .. }
            | Self::TotpLocked { .. }
            | Self::BackupCodesProposed { .. }
            | Self::BackupCodesSaved { .. }
            | Self::TwoFactorTurnedOff { .. }
            | Self::TwoFactorReset { .. }
            | Self::DeviceTrusted { .. }
            | Self::DeviceRevoked { .. }
            | Self::StepUpMailed { .. }
            | Self::StepUpRefused { .. }
            | Self::SteppedUp { .. }
            | Self::NameChanged { .. }
            | Self::EmailChangeRequested { .. }
            | Self::EmailChangeRefused { .. }
            | Self::EmailChanged { .. }
            | Self::EmailChangeUndone { .. }
            | Self::AccountExported { .. }
            | Self::DeletionRequested { .. }
            | Self::DeletionCancelled { .. }
            | Self::UserDeleted { .. }
            | Self::UserDisabled { .. }
            | Self::UserEnabled { .. }
            | Self::AdminGranted { .. }
            | Self::AdminRevoked { .. }
            | Self::UserSessionsEnded { .. }
            | Self::SessionsEnded { .. }
            | Self::UserViewed { .. }
            | Self::KeysRotated { .. } => {}
        }
    }
}

/// As details hold it. Two instances' clocks may differ by a little, and nothing ends before it began.
fn millis(time: Duration) -> i64 {
    i64::try_from(time.whole_milliseconds()).unwrap_or(i64::MAX).max(0)
}

/// The `status` labels of `auth_magiclink_requests_total`. Nobody is `suppressed`: every address that asks is written to, if only to be
/// told that there is no account.
pub(crate) const REQUEST_STATUSES: [&str; 5] = ["accepted", "rate_limited", "flag_off", "suppressed", "invalid"];
pub(crate) const VERIFICATION_RESULTS: [&str; 5] = ["success", "expired", "replay", "invalid", "other_browser"];
pub(crate) const FACTOR_RESULTS: [&str; 4] = ["success", "invalid", "replay", "locked"];
pub(crate) const DELIVERY_RESULTS: [&str; 3] = ["sent", "failed", "expired"];

/// Counts a request for a sign-in mail that names no address mail could go to.
pub fn count_invalid_request() {
    count_request("invalid", NamedDomains::OTHER);
}

pub(crate) fn count_request(status: &'static str, domain: SharedString) {
    metrics::counter!("auth_magiclink_requests_total", "email_domain" => domain, "status" => status).increment(1);
}

pub(crate) fn count_verification(result: &'static str, method: Method) {
    metrics::counter!("auth_magiclink_verifications_total", "result" => result, "method" => method.as_str()).increment(1);
}

pub(crate) fn count_totp(result: &'static str) {
    metrics::counter!("auth_totp_verify_total", "result" => result).increment(1);
}

pub(crate) fn count_backup_code(result: &'static str) {
    metrics::counter!("auth_backup_code_verify_total", "result" => result).increment(1);
}

/// A transaction and the events in it.
pub(crate) struct Work<'a> {
    transaction: Transaction<'static, Postgres>,
    events: Vec<Event>,
    /// `None` for what no request caused.
    from: Option<&'a Requester>,
    /// The administrator or API key that does it to somebody else's account.
    actor: Option<Uuid>,
    now: OffsetDateTime,
}

impl<'a> Work<'a> {
    pub async fn begin(pool: &PgPool, from: Option<&'a Requester>, now: OffsetDateTime) -> Result<Self, sqlx::Error> {
        Ok(Self { transaction: pool.begin().await?, events: Vec::new(), from, actor: None, now })
    }

    pub fn by(self, actor: Option<Uuid>) -> Self {
        Self { actor, ..self }
    }

    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    pub fn now(&self) -> OffsetDateTime {
        self.now
    }

    pub fn record(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Writes the audit rows, commits, and only then tells.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        insert_audit(&mut self.transaction, &self.events, self.from, self.actor, self.now).await?;
        self.transaction.commit().await?;
        for event in &self.events {
            event.emit(self.from.map_or("", |from| &from.request_id));
        }
        Ok(())
    }
}

/// Records what changed nothing else: a refusal.
pub(crate) async fn record(pool: &PgPool, event: Event, from: &Requester, now: OffsetDateTime) -> Result<(), sqlx::Error> {
    let mut connection = pool.acquire().await?;
    insert_audit(&mut connection, std::slice::from_ref(&event), Some(from), None, now).await?;
    event.emit(&from.request_id);
    Ok(())
}

async fn insert_audit(
    connection: &mut PgConnection,
    events: &[Event],
    from: Option<&Requester>,
    actor: Option<Uuid>,
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    if events.is_empty() {
        return Ok(());
    }
    let mut ids: Vec<Uuid> = events.iter().map(|_| new_id(now)).collect();
    // They share a time: sorted, the ids keep the order in which things happened.
    ids.sort_unstable();
    let names: Vec<String> = events.iter().map(|event| event.name().to_owned()).collect();
    let users: Vec<Option<Uuid>> = events.iter().map(Event::user).collect();
    let mut details: Vec<Value> = events.iter().map(Event::details).collect();
    if let Some(application) = from.and_then(Requester::application) {
        for details in &mut details {
            details["api_key"] = json!(application.key);
        }
    }
    sqlx::query!(
        r#"
        insert into auth_audit (id, created_at, event_type, user_id, actor_id, ip, user_agent, request_id, details)
        select id, $5, event_type, user_id, $9, $6, $7, $8, details
        from unnest($1::uuid[], $2::text[], $3::uuid[], $4::jsonb[]) as happened (id, event_type, user_id, details)
        "#,
        &ids,
        &names,
        &users as &[Option<Uuid>],
        &details,
        now,
        from.map(|from| ipnet::IpNet::from(from.ip)) as Option<ipnet::IpNet>,
        from.map(Requester::user_agent),
        from.map(|from| from.request_id.as_str()),
        actor,
    )
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    const EVENTS: &str = include_str!("mod.rs");
    const MAILS: &str = concat!(include_str!("../outbox/mod.rs"), include_str!("../delivery/mod.rs"));
    const TABLE: &str = include_str!("../../../docs/events.md");

    /// The names in the `match` of the first function after `beginning`, read from its source: a variant added there is here at once.
    fn names_in<'a>(source: &'a str, beginning: &str) -> BTreeSet<&'a str> {
        let (_, rest) = source.split_once(beginning).expect("the function");
        let (body, _) = rest.split_once("\n    }\n").expect("its end");
        body.split('"').skip(1).step_by(2).collect()
    }

    /// The cells of the table's rows: names, when, details, counter.
    fn rows() -> impl Iterator<Item = Vec<&'static str>> {
        TABLE.lines().filter(|line| line.starts_with("| `")).map(|line| line.trim_matches(['|', ' ']).split(" | ").collect())
    }

    /// The words that details say a field may have: what stands in backticks behind its name, up to a semicolon.
    fn words_of<'a>(details: &'a str, field: &str) -> BTreeSet<&'a str> {
        let after = details.split_once(&format!("`{field}`: ")).map_or("", |(_, after)| after);
        after.split(';').next().unwrap_or_default().split('`').skip(1).step_by(2).collect()
    }

    /// As above: a reason that is missing in the list would be missing in the metrics until it first occurs.
    #[test]
    fn every_reason_is_in_the_list() {
        let (_, rest) = EVENTS.split_once("pub enum RevokeReason {").expect("the reasons");
        let (variants, _) = rest.split_once("\n}\n").expect("their end");
        let variants = variants.lines().filter(|line| line.ends_with(',')).count();
        let names: BTreeSet<&str> = super::RevokeReason::ALL.into_iter().map(super::RevokeReason::as_str).collect();
        assert_eq!(names.len(), variants);
    }

    #[test]
    fn the_documented_events_are_the_events() {
        let documented: BTreeSet<&str> = rows()
            .flat_map(|cells| cells[0].split(", "))
            .map(|name| name.trim_matches('`'))
            .filter(|name| name.contains('.'))
            .collect();
        let names = names_in(EVENTS, "pub fn name(&self)");
        assert!(names.len() > 40 && names.iter().all(|name| name.split('.').count() == 2), "{names:?}");
        assert_eq!(names, documented);
    }

    #[test]
    fn the_documented_words_of_details_are_those_in_use() {
        let mut kinds = names_in(MAILS, "pub(crate) fn kind(self)");
        kinds.extend(names_in(MAILS, "pub(crate) fn kind(&self)"));
        assert!(kinds.len() > 30 && kinds.contains("sign_in") && kinds.contains("rollout_held"), "{kinds:?}");
        for (event, field, words) in [
            ("mail.sent", "kind", kinds),
            ("link.redeemed", "method", names_in(EVENTS, "impl Method {")),
            ("link.refused", "reason", names_in(EVENTS, "impl Refusal {")),
            ("session.created", "second_method", names_in(EVENTS, "impl SecondFactor {")),
            ("session.revoked", "reason", names_in(EVENTS, "impl RevokeReason {")),
            ("totp.accepted", "for", names_in(EVENTS, "impl Purpose {")),
            ("totp.refused", "reason", names_in(EVENTS, "impl CodeRefusal {")),
        ] {
            let row = rows().find(|cells| cells[0].trim_matches('`') == event).expect(event);
            assert_eq!(words_of(row[2], field), words, "{event}");
        }
    }

    /// Each row that names `by` says who that may be, and together they name every [`super::Origin`] and nobody else.
    #[test]
    fn whoever_did_it_is_documented() {
        let mut documented = BTreeSet::new();
        for cells in rows().filter(|cells| cells.get(2).is_some_and(|details| details.contains("`by`"))) {
            let words = words_of(cells[2], "by");
            assert!(!words.is_empty(), "{}", cells[0]);
            documented.extend(words);
        }
        assert_eq!(documented, names_in(EVENTS, "impl Origin {"));
    }
}
