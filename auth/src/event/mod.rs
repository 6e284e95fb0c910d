//! What happened: one typed [`Event`] a thing. It becomes the audit row, in the caller's transaction, then the log line and the counter.
//!
//! Not here: where something happens: the operation records it.
//! To add one: a variant, its name (`noun.verb`), its details (never a token, code, secret or address), its counter if it has one.
//!
//! The three cannot drift apart, and an action whose audit row fails, fails. A variant's fields are named as the details are.

use std::{collections::BTreeMap, net::IpAddr};

use metrics::SharedString;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use strum::{EnumDiscriminants, EnumString, IntoStaticStr, VariantArray};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::{
    Auth,
    crypto::new_id,
    identity::{ActionError, Actor, Level, Method, Origin, Prefix, SecondFactor},
    policy::NamedDomains,
    primitives::statement::Statement as _,
    primitives::{reason::Reason, requester::Requester},
};

/// Why a link or code did not sign anybody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
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
    /// The `result` label of `auth_magiclink_verifications_total`.
    pub(crate) fn result(self) -> &'static str {
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

/// Why a code of an authenticator app, or a backup code, was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Purpose {
    SignIn,
    /// Before a change to the account.
    StepUp,
    TurnOff,
    /// Before a change of address is taken back.
    Undo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
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

/// What happened: one variant each, with its name. Its fields are the audit row's `details`; `user` is whose account it is about.
#[derive(Debug, Clone, Serialize, EnumDiscriminants)]
#[serde(untagged)]
#[strum_discriminants(name(EventKind), derive(Hash, PartialOrd, Ord, EnumString, IntoStaticStr, VariantArray))]
pub enum Event {
    #[strum_discriminants(strum(serialize = "link.requested"))]
    LinkRequested {
        link: Uuid,
        known_browser: bool,
        /// For the counter alone; see [`crate::policy::NamedDomains`].
        #[serde(skip)]
        domain: SharedString,
    },
    #[strum_discriminants(strum(serialize = "link.redeemed"))]
    LinkRedeemed { user: Uuid, link: Uuid, method: Method },
    #[strum_discriminants(strum(serialize = "link.refused"))]
    LinkRefused { link: Uuid, method: Method, reason: Refusal },
    #[strum_discriminants(strum(serialize = "link.cancelled"))]
    LinkCancelled { link: Uuid },
    #[strum_discriminants(strum(serialize = "user.created"))]
    UserCreated {
        user: Uuid,
        by: Origin,
        admin: bool,
        /// Why, where sign-up does not take the address by itself.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<Reason>,
    },
    #[strum_discriminants(strum(serialize = "session.created"))]
    SessionCreated {
        user: Uuid,
        session: Uuid,
        level: Level,
        method: Method,
        second_method: Option<SecondFactor>,
        /// By a browser that the account did not know.
        new_device: bool,
        /// Since its link was asked for.
        #[serde(rename = "after_ms", serialize_with = "millis_or_null")]
        after: Option<Duration>,
    },
    #[strum_discriminants(strum(serialize = "session.revoked"))]
    SessionRevoked { user: Uuid, session: Uuid, reason: RevokeReason },
    #[strum_discriminants(strum(serialize = "invite.created"))]
    InviteCreated {
        invite: Uuid,
        by: Origin,
        /// As for an account that is made.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<Reason>,
    },
    #[strum_discriminants(strum(serialize = "invite.used"))]
    InviteUsed { user: Uuid, invite: Uuid },
    #[strum_discriminants(strum(serialize = "totp.setup_started"))]
    TotpSetUpStarted { user: Uuid, authenticator: Uuid },
    #[strum_discriminants(strum(serialize = "totp.enrolled"))]
    TotpEnrolled { user: Uuid, authenticator: Uuid },
    #[strum_discriminants(strum(serialize = "totp.removed"))]
    TotpRemoved { user: Uuid, authenticator: Uuid },
    #[strum_discriminants(strum(serialize = "totp.accepted"))]
    TotpAccepted {
        user: Uuid,
        authenticator: Uuid,
        #[serde(rename = "for")]
        purpose: Purpose,
    },
    #[strum_discriminants(strum(serialize = "totp.refused"))]
    TotpRefused {
        user: Uuid,
        reason: CodeRefusal,
        #[serde(rename = "for")]
        purpose: Purpose,
    },
    /// So many wrong codes in a row that no more are looked at.
    #[strum_discriminants(strum(serialize = "totp.locked"))]
    TotpLocked { user: Uuid },
    /// The secret can't be read: its key is missing, or it was tampered with.
    #[strum_discriminants(strum(serialize = "totp.unreadable"))]
    TotpUnreadable { user: Uuid, authenticator: Uuid, reason: &'static str },
    #[strum_discriminants(strum(serialize = "backup_codes.created"))]
    BackupCodesProposed { user: Uuid, set: Uuid },
    #[strum_discriminants(strum(serialize = "backup_codes.saved"))]
    BackupCodesSaved { user: Uuid, set: Uuid },
    #[strum_discriminants(strum(serialize = "backup_code.used"))]
    BackupCodeUsed {
        user: Uuid,
        left: i64,
        #[serde(rename = "for")]
        purpose: Purpose,
    },
    #[strum_discriminants(strum(serialize = "backup_code.refused"))]
    BackupCodeRefused {
        user: Uuid,
        reason: CodeRefusal,
        #[serde(rename = "for")]
        purpose: Purpose,
    },
    #[strum_discriminants(strum(serialize = "two_factor.turned_off"))]
    TwoFactorTurnedOff { user: Uuid },
    #[strum_discriminants(strum(serialize = "two_factor.reset"))]
    TwoFactorReset { user: Uuid, by: Origin, reason: Reason },
    /// It waits: until then, or where that is none, for another administrator.
    #[strum_discriminants(strum(serialize = "two_factor.reset_requested"))]
    TwoFactorResetRequested {
        user: Uuid,
        by: Origin,
        reason: Reason,
        #[serde(with = "time::serde::rfc3339::option")]
        due_at: Option<OffsetDateTime>,
    },
    /// `by`: none for the account's owner, or where whoever asked for it is no administrator any more.
    #[strum_discriminants(strum(serialize = "two_factor.reset_stopped"))]
    TwoFactorResetStopped { user: Uuid, by: Option<Origin>, reason: Option<Reason> },
    #[strum_discriminants(strum(serialize = "device.trusted"))]
    DeviceTrusted { user: Uuid, device: Uuid },
    #[strum_discriminants(strum(serialize = "device.revoked"))]
    DeviceRevoked { user: Uuid, device: Uuid },
    /// Its owner had browsers forgotten that had signed in before.
    #[strum_discriminants(strum(serialize = "browser.forgotten"))]
    BrowserForgotten { user: Uuid, browsers: u64 },
    #[strum_discriminants(strum(serialize = "step_up.mailed"))]
    StepUpMailed { user: Uuid, code: Uuid },
    #[strum_discriminants(strum(serialize = "step_up.refused"))]
    StepUpRefused { user: Uuid, code: Uuid },
    #[strum_discriminants(strum(serialize = "step_up.passed"))]
    SteppedUp { user: Uuid, session: Uuid, factor: &'static str },
    #[strum_discriminants(strum(serialize = "name.changed"))]
    NameChanged { user: Uuid },
    /// A code was sent to another address, for the account to go there.
    #[strum_discriminants(strum(serialize = "email.change_requested"))]
    EmailChangeRequested { user: Uuid, change: Uuid },
    #[strum_discriminants(strum(serialize = "email.change_refused"))]
    EmailChangeRefused { user: Uuid, change: Uuid },
    #[strum_discriminants(strum(serialize = "email.changed"))]
    EmailChanged { user: Uuid, change: Uuid },
    #[strum_discriminants(strum(serialize = "email.change_undone"))]
    EmailChangeUndone { user: Uuid, undo: Uuid },
    #[strum_discriminants(strum(serialize = "account.exported"))]
    AccountExported { user: Uuid },
    #[strum_discriminants(strum(serialize = "account.deletion_requested"))]
    DeletionRequested { user: Uuid },
    #[strum_discriminants(strum(serialize = "account.deletion_cancelled"))]
    DeletionCancelled { user: Uuid },
    /// The row is gone. The account's id stays in the audit, and means nobody any more.
    #[strum_discriminants(strum(serialize = "user.deleted"))]
    UserDeleted { user: Uuid },
    #[strum_discriminants(strum(serialize = "user.disabled"))]
    UserDisabled { user: Uuid, by: Origin, reason: Reason },
    #[strum_discriminants(strum(serialize = "user.enabled"))]
    UserEnabled { user: Uuid, by: Origin, reason: Reason },
    #[strum_discriminants(strum(serialize = "admin.granted"))]
    AdminGranted { user: Uuid, by: Origin, reason: Reason },
    #[strum_discriminants(strum(serialize = "admin.revoked"))]
    AdminRevoked { user: Uuid, by: Origin, reason: Reason },
    /// All its sessions, besides one `session.revoked` each: with who and why.
    #[strum_discriminants(strum(serialize = "user.sessions_ended"))]
    UserSessionsEnded { user: Uuid, by: Origin, reason: Reason, sessions: u64 },
    /// Everybody's, or those signed in since a time, at the shell; besides one `session.revoked` each.
    #[strum_discriminants(strum(serialize = "sessions.ended"))]
    SessionsEnded {
        by: Origin,
        #[serde(with = "time::serde::rfc3339::option")]
        since: Option<OffsetDateTime>,
        reason: Reason,
        sessions: u64,
        /// Links and codes that were under way.
        links: u64,
    },
    /// An administrator opened the account's page, where its address stands whole.
    #[strum_discriminants(strum(serialize = "user.viewed"))]
    UserViewed { user: Uuid },
    #[strum_discriminants(strum(serialize = "keys.rotated"))]
    KeysRotated { key: String, secrets: u64 },
    /// `user`: the administrator whose key it is; none for one made at the shell.
    #[strum_discriminants(strum(serialize = "api_key.created"))]
    ApiKeyCreated {
        user: Option<Uuid>,
        key: Uuid,
        prefix: Prefix,
        name: String,
        scopes: Vec<&'static str>,
        #[serde(with = "time::serde::rfc3339::option")]
        expires_at: Option<OffsetDateTime>,
    },
    /// `by`: none where its maker did it.
    #[strum_discriminants(strum(serialize = "api_key.revoked"))]
    ApiKeyRevoked { user: Option<Uuid>, key: Uuid, prefix: Prefix, by: Option<Origin>, reason: Reason },
    #[strum_discriminants(strum(serialize = "mail.sent"))]
    MailSent {
        mail: Uuid,
        kind: &'static str,
        /// Since it was queued.
        #[serde(rename = "after_ms", serialize_with = "millis")]
        after: Duration,
    },
    #[strum_discriminants(strum(serialize = "mail.failed"))]
    MailFailed { mail: Uuid, state: &'static str },
    /// An administrator had a mail sent again that waited or was given up.
    #[strum_discriminants(strum(serialize = "mail.retried"))]
    MailRetried { mail: Uuid },
    /// An administrator let somebody go whom a limit held.
    #[strum_discriminants(strum(serialize = "limit.released"))]
    LimitReleased {
        limit: &'static str,
        /// An account's id, where the limit counts an account.
        user: Option<Uuid>,
        /// Masked.
        address: Option<String>,
        network: Option<String>,
    },
    /// More sign-in mails asked for in an hour than a household asks for, refused ones included.
    #[strum_discriminants(strum(serialize = "network.too_many_requests"))]
    NetworkTooManyRequests { network: String, requests: i64 },
    #[strum_discriminants(strum(serialize = "flag.changed"))]
    FlagChanged {
        flag: String,
        before: FlagState,
        after: FlagState,
        /// Masked.
        allowed: Option<String>,
        disallowed: Option<String>,
        by: Origin,
        reason: String,
    },
    #[strum_discriminants(strum(serialize = "rollout.started"))]
    RolloutStarted(RolloutStep),
    #[strum_discriminants(strum(serialize = "rollout.moved"))]
    RolloutMoved(RolloutStep),
    #[strum_discriminants(strum(serialize = "rollout.held"))]
    RolloutHeld(RolloutStep),
    #[strum_discriminants(strum(serialize = "rollout.released"))]
    RolloutReleased(RolloutStep),
    #[strum_discriminants(strum(serialize = "rollout.paused"))]
    RolloutPaused(RolloutStep),
    #[strum_discriminants(strum(serialize = "rollout.resumed"))]
    RolloutResumed(RolloutStep),
    #[strum_discriminants(strum(serialize = "rollout.aborted"))]
    RolloutAborted(RolloutStep),
    #[strum_discriminants(strum(serialize = "rollout.rolled_back"))]
    RolloutRolledBack(RolloutStep),
    #[strum_discriminants(strum(serialize = "rollout.finished"))]
    RolloutFinished(RolloutStep),
    /// Somebody took a copy of the audit, or of a part of it. Recorded before the first row leaves.
    #[strum_discriminants(strum(serialize = "audit.exported"))]
    AuditExported {
        by: Origin,
        format: &'static str,
        #[serde(with = "time::serde::rfc3339::option")]
        since: Option<OffsetDateTime>,
        #[serde(with = "time::serde::rfc3339::option")]
        until: Option<OffsetDateTime>,
        /// What else narrowed it.
        filter: BTreeMap<&'static str, String>,
    },
    /// Somebody began its chain, or accepted batches that were sealed late, at the shell.
    #[strum_discriminants(strum(serialize = "audit.accepted"))]
    AuditAccepted { by: Origin, batches: i64, rows: i64, reason: Reason },
    /// The daily look found the audit other than it was sealed.
    #[strum_discriminants(strum(serialize = "audit.tampered"))]
    AuditTampered {
        /// How many of each kind.
        findings: BTreeMap<&'static str, u64>,
    },
    /// The hourly look for rows that contradict each other found some.
    #[strum_discriminants(strum(serialize = "reconcile.finished"))]
    ReconcileFinished {
        /// How many of each kind.
        findings: BTreeMap<String, usize>,
    },
}

/// Where a rollout stood when something happened to it.
#[derive(Debug, Clone, Serialize)]
pub struct RolloutStep {
    pub rollout: Uuid,
    pub step: usize,
    pub by: Origin,
    /// A check's name, or somebody's words.
    pub reason: String,
}

/// Who is in, in numbers.
#[derive(Debug, Clone, Serialize)]
pub struct FlagState {
    pub addresses: usize,
    pub percent_admins: u8,
    pub percent_everyone: u8,
}

impl EventKind {
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl Event {
    #[must_use]
    pub fn kind(&self) -> EventKind {
        self.into()
    }

    /// The audit row's `user_id` and `details`.
    fn row(&self) -> (Option<Uuid>, Value) {
        let Ok(Value::Object(mut details)) = serde_json::to_value(self) else { unreachable!("every event has named fields") };
        let user = details.remove("user").and_then(|user| serde_json::from_value(user).ok());
        (user, Value::Object(details))
    }

    /// The log line and the counter. Only after the commit: what was rolled back did not happen.
    fn emit(&self, request_id: &str) {
        let (user, details) = self.row();
        tracing::info!(event = self.kind().name(), request_id, user.id = user.map(tracing::field::display), %details, "event");
        match self {
            Self::LinkRequested { domain, .. } => count_request("accepted", domain.clone()),
            Self::LinkRedeemed { method, .. } => count_verification("success", *method),
            Self::LinkRefused { method, reason, .. } => count_verification(reason.result(), *method),
            Self::SessionCreated { level, .. } => {
                metrics::counter!("auth_sessions_created_total", "level" => <&str>::from(level)).increment(1);
            }
            Self::SessionRevoked { reason, .. } => {
                metrics::counter!("auth_sessions_revoked_total", "reason" => <&str>::from(reason)).increment(1);
            }
            Self::TotpAccepted { .. } => count_totp("success"),
            Self::TotpRefused { reason, .. } => count_totp(reason.result()),
            Self::TotpUnreadable { authenticator, reason, .. } => {
                tracing::error!(credential = %authenticator, reason, "a two-factor secret can't be read; its owner can only use backup codes");
            }
            Self::BackupCodeUsed { .. } => count_backup_code("success"),
            Self::BackupCodeRefused { reason, .. } => count_backup_code(reason.result()),
            Self::MailSent { .. } => metrics::counter!("mail_deliveries_total", "result" => "sent").increment(1),
            Self::MailFailed { state, .. } => metrics::counter!("mail_deliveries_total", "result" => *state).increment(1),
            _ => {}
        }
    }
}

/// As details hold it. Two instances' clocks may differ by a little, and nothing ends before it began.
fn millis<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(i64::try_from(time.whole_milliseconds()).unwrap_or(i64::MAX).max(0))
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn millis_or_null<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => millis(time, serializer),
        None => serializer.serialize_none(),
    }
}

/// The `status` labels of `auth_magiclink_requests_total`. Nobody is `suppressed`: every address that asks is taken, and whether a
/// mail goes out is decided later.
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
pub(crate) struct UnitOfWork<'a> {
    transaction: Transaction<'static, Postgres>,
    events: Vec<Event>,
    /// `None` for what no request caused.
    from: Option<&'a Requester>,
    /// The administrator or API key that does it to somebody else's account.
    actor: Option<Uuid>,
    now: OffsetDateTime,
}

impl<'a> UnitOfWork<'a> {
    pub async fn begin(pool: &PgPool, from: Option<&'a Requester>, now: OffsetDateTime) -> sqlx::Result<Self> {
        Ok(Self { transaction: pool.begin().await?, events: Vec::new(), from, actor: None, now })
    }

    /// For what somebody does to what isn't theirs, if they may.
    pub async fn begin_action(auth: &Auth, who: Actor<'a>, now: OffsetDateTime) -> Result<Self, ActionError> {
        who.permit(auth)?;
        Ok(Self::begin(&auth.pool, who.from(), now).await?.by(who.actor()))
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

    /// As [`UnitOfWork::commit`], and wakes this process's mail worker.
    pub async fn commit_and_mail(self, auth: &Auth) -> sqlx::Result<()> {
        self.commit().await?;
        auth.outbox.notify_one();
        Ok(())
    }

    /// Writes the audit rows, commits, and only then tells.
    pub async fn commit(mut self) -> sqlx::Result<()> {
        insert_audit(&mut self.transaction, &self.events, self.from, self.actor, self.now).await?;
        self.transaction.commit().await?;
        for event in &self.events {
            event.emit(self.from.map_or("", |from| &from.request_id));
        }
        Ok(())
    }
}

/// Records what changed nothing else: a refusal.
pub(crate) async fn record(pool: &PgPool, event: Event, from: &Requester, now: OffsetDateTime) -> sqlx::Result<()> {
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
) -> sqlx::Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let mut ids: Vec<Uuid> = events.iter().map(|_| new_id(now)).collect();
    // They share a time: sorted, the ids keep the order in which things happened.
    ids.sort_unstable();
    let names: Vec<String> = events.iter().map(|event| event.kind().name().to_owned()).collect();
    let (users, mut details): (Vec<Option<Uuid>>, Vec<Value>) = events.iter().map(Event::row).unzip();
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
        from.map(|from| from.ip) as Option<IpAddr>,
        from.map(Requester::user_agent),
        from.map(|from| from.request_id.as_str()),
        actor,
    )
    .run(connection)
    .await
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use strum::VariantNames;

    use super::*;
    use crate::{delivery::Content, outbox::Notice};

    const TABLE: &str = include_str!("../../../docs/events.md");

    fn all<T: VariantArray + Copy + Into<&'static str> + 'static>() -> BTreeSet<&'static str> {
        T::VARIANTS.iter().map(|variant| (*variant).into()).collect()
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

    #[test]
    fn the_documented_events_are_the_events() {
        let documented: BTreeSet<&str> = rows()
            .flat_map(|cells| cells[0].split(", "))
            .map(|name| name.trim_matches('`'))
            .filter(|name| name.contains('.'))
            .collect();
        let names: BTreeSet<&str> = EventKind::VARIANTS.iter().map(|kind| kind.name()).collect();
        assert!(names.len() > 40 && names.iter().all(|name| name.split('.').count() == 2), "{names:?}");
        assert_eq!(names, documented);
    }

    #[test]
    fn the_documented_words_of_details_are_those_in_use() {
        let contents = Content::VARIANTS.iter().filter(|kind| **kind != "notice");
        let kinds: BTreeSet<_> = contents.chain(Notice::VARIANTS).copied().collect();
        assert!(kinds.len() > 30 && kinds.contains("sign_in") && kinds.contains("rollout_held"), "{kinds:?}");
        for (event, field, words) in [
            ("mail.sent", "kind", kinds),
            ("link.redeemed", "method", all::<Method>()),
            ("link.refused", "reason", all::<Refusal>()),
            ("session.created", "second_method", all::<SecondFactor>()),
            ("session.revoked", "reason", all::<RevokeReason>()),
            ("totp.accepted", "for", all::<Purpose>()),
            ("totp.refused", "reason", all::<CodeRefusal>()),
        ] {
            let row = rows().find(|cells| cells[0].trim_matches('`') == event).expect(event);
            assert_eq!(words_of(row[2], field), words, "{event}");
        }
    }

    /// Each row that names `by` says who that may be, and together they name every [`Origin`] and nobody else.
    #[test]
    fn whoever_did_it_is_documented() {
        let mut documented = BTreeSet::new();
        for cells in rows().filter(|cells| cells.get(2).is_some_and(|details| details.contains("`by`"))) {
            let words = words_of(cells[2], "by");
            assert!(!words.is_empty(), "{}", cells[0]);
            documented.extend(words);
        }
        assert_eq!(documented, all::<Origin>());
    }
}
