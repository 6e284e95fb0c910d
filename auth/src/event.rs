//! What happened. One typed [`Event`] a thing; the same value becomes the audit row (inside the caller's transaction), and
//! after the commit the log line and the counter. So the three cannot drift apart, and an action whose audit row fails, fails.
//!
//! To add one: a variant, its name (`noun.verb`), its details (never a token, code, secret or address), its counter if it has one.

use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{requester::Requester, secret::new_id};

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
        }
    }

    /// The `result` label of `auth_magiclink_verifications_total`.
    fn result(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Used => "replay",
            Self::OtherBrowser => "other_browser",
            Self::Replaced | Self::Cancelled | Self::WrongCode | Self::NotAdmitted | Self::AccountOff => "invalid",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevokeReason {
    SignedOut,
    /// The same browser signed in again.
    Replaced,
}

impl RevokeReason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::SignedOut => "signed_out",
            Self::Replaced => "replaced",
        }
    }
}

#[derive(Debug, Clone)]
pub enum Event {
    LinkRequested { link: Uuid, known_browser: bool },
    LinkRedeemed { user: Uuid, link: Uuid, method: Method },
    LinkRefused { link: Uuid, method: Method, refusal: Refusal },
    LinkCancelled { link: Uuid },
    UserCreated { user: Uuid, by: Origin, admin: bool },
    SessionCreated { user: Uuid, session: Uuid, level: &'static str, method: Method },
    SessionRevoked { user: Uuid, session: Uuid, reason: RevokeReason },
    InviteCreated { invite: Uuid },
    InviteUsed { user: Uuid, invite: Uuid },
    MailSent { mail: Uuid, kind: &'static str },
    MailFailed { mail: Uuid, state: &'static str },
}

/// Who made an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The person, by signing in for the first time.
    SignUp,
    /// An operator, from the shell.
    Operator,
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
            Self::MailSent { .. } => "mail.sent",
            Self::MailFailed { .. } => "mail.failed",
        }
    }

    fn user(&self) -> Option<Uuid> {
        match self {
            Self::LinkRedeemed { user, .. }
            | Self::UserCreated { user, .. }
            | Self::SessionCreated { user, .. }
            | Self::SessionRevoked { user, .. }
            | Self::InviteUsed { user, .. } => Some(*user),
            Self::LinkRequested { .. }
            | Self::LinkRefused { .. }
            | Self::LinkCancelled { .. }
            | Self::InviteCreated { .. }
            | Self::MailSent { .. }
            | Self::MailFailed { .. } => None,
        }
    }

    fn details(&self) -> Value {
        match self {
            Self::LinkRequested { link, known_browser } => json!({ "link": link, "known_browser": known_browser }),
            Self::LinkRedeemed { link, method, .. } => json!({ "link": link, "method": method }),
            Self::LinkRefused { link, method, refusal } => json!({ "link": link, "method": method, "reason": refusal.reason() }),
            Self::LinkCancelled { link } => json!({ "link": link }),
            Self::UserCreated { by, admin, .. } => {
                let by = match by {
                    Origin::SignUp => "sign_up",
                    Origin::Operator => "operator",
                };
                json!({ "by": by, "admin": admin })
            }
            Self::SessionCreated { session, level, method, .. } => json!({ "session": session, "level": level, "method": method }),
            Self::SessionRevoked { session, reason, .. } => json!({ "session": session, "reason": reason.as_str() }),
            Self::InviteCreated { invite } | Self::InviteUsed { invite, .. } => json!({ "invite": invite }),
            Self::MailSent { mail, kind } => json!({ "mail": mail, "kind": kind }),
            Self::MailFailed { mail, state } => json!({ "mail": mail, "state": state }),
        }
    }

    /// The log line and the counter. Only after the commit: what was rolled back did not happen.
    fn emit(&self, request_id: &str) {
        tracing::info!(event = self.name(), request_id, user.id = self.user().map(tracing::field::display), details = %self.details(), "event");
        match self {
            Self::LinkRequested { .. } => count_request("accepted"),
            Self::LinkRedeemed { method, .. } => count_verification("success", *method),
            Self::LinkRefused { method, refusal, .. } => count_verification(refusal.result(), *method),
            Self::SessionCreated { level, .. } => {
                metrics::counter!("auth_sessions_created_total", "level" => *level).increment(1);
            }
            Self::SessionRevoked { reason, .. } => {
                metrics::counter!("auth_sessions_revoked_total", "reason" => reason.as_str()).increment(1);
            }
            Self::MailSent { .. } => metrics::counter!("mail_deliveries_total", "result" => "sent").increment(1),
            Self::MailFailed { state, .. } => metrics::counter!("mail_deliveries_total", "result" => *state).increment(1),
            Self::LinkCancelled { .. } | Self::UserCreated { .. } | Self::InviteCreated { .. } | Self::InviteUsed { .. } => {}
        }
    }
}

pub(crate) fn count_request(status: &'static str) {
    metrics::counter!("auth_magiclink_requests_total", "email_domain" => "other", "status" => status).increment(1);
}

pub(crate) fn count_verification(result: &'static str, method: Method) {
    metrics::counter!("auth_magiclink_verifications_total", "result" => result, "method" => method.as_str()).increment(1);
}

/// A transaction and the events in it.
pub(crate) struct Work<'a> {
    transaction: Transaction<'static, Postgres>,
    events: Vec<Event>,
    /// `None` for what no request caused.
    from: Option<&'a Requester>,
    now: OffsetDateTime,
}

impl<'a> Work<'a> {
    pub async fn begin(pool: &PgPool, from: Option<&'a Requester>, now: OffsetDateTime) -> Result<Self, sqlx::Error> {
        Ok(Self { transaction: pool.begin().await?, events: Vec::new(), from, now })
    }

    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    pub fn record(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Writes the audit rows, commits, and only then tells.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        insert_audit(&mut self.transaction, &self.events, self.from, self.now).await?;
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
    insert_audit(&mut connection, std::slice::from_ref(&event), Some(from), now).await?;
    event.emit(&from.request_id);
    Ok(())
}

async fn insert_audit(
    connection: &mut PgConnection,
    events: &[Event],
    from: Option<&Requester>,
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    if events.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = events.iter().map(|_| new_id(now)).collect();
    let names: Vec<String> = events.iter().map(|event| event.name().to_owned()).collect();
    let users: Vec<Option<Uuid>> = events.iter().map(Event::user).collect();
    let details: Vec<Value> = events.iter().map(Event::details).collect();
    sqlx::query!(
        r#"
        insert into auth_audit (id, created_at, event_type, user_id, ip, user_agent, request_id, details)
        select id, $5, event_type, user_id, $6, $7, $8, details
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
    )
    .execute(connection)
    .await?;
    Ok(())
}
