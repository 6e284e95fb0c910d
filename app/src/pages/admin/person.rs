//! An account as administrators see it, for the pages that show and change it.

use auth::{
    administration::Status,
    identity::{Actor, Authority},
    primitives::requester::Requester,
    sessions::SessionView,
};
use uuid::Uuid;

use crate::pages::{
    account::two_factor::{self, TwoFactorSummary},
    prelude::*,
};

/// The page of one account.
pub(crate) fn path(id: &str) -> String {
    format!("{}/{id}", routes::ADMIN_USERS)
}

/// An account, whole: opening it is recorded.
#[derive(Clone, Debug)]
pub struct User {
    pub id: String,
    pub email: String,
    pub name: Option<String>,
    pub status: Status,
    pub admin: bool,
    pub created: OffsetDateTime,
    pub last_sign_in: Option<OffsetDateTime>,
    pub deletes: Option<OffsetDateTime>,
    pub two_factor: TwoFactorSummary,
    /// A reset of it that waits.
    pub reset: Option<Reset>,
    pub sessions: Vec<SessionView>,
    /// It is the administrator's own.
    pub own: bool,
}

/// A reset of two-factor that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    /// The address of the administrator who asked for it; none where that account is gone.
    pub by: Option<String>,
    /// The administrator who looks is the one who asked.
    pub own: bool,
    pub reason: String,
    pub asked: OffsetDateTime,
    /// None: when another administrator agrees.
    pub due: Option<OffsetDateTime>,
}

pub(crate) const fn status_badge(status: Status) -> (BadgeKind, &'static str) {
    match status {
        Status::Active => (BadgeKind::Ok, "Active"),
        Status::Disabled => (BadgeKind::Danger, "Disabled"),
        Status::Invited => (BadgeKind::Off, "Invited"),
        Status::Leaving => (BadgeKind::Warn, "Leaving"),
    }
}

#[component]
pub(crate) fn StatusBadge(status: Status) -> impl IntoView {
    let (kind, text) = status_badge(status);
    view! { <Badge kind text/> }
}

/// The account with this id, if there is one. That the administrator saw it is recorded.
pub(crate) async fn find(state: &AppState, authority: &Authority, from: &Requester, id: Uuid) -> Result<Option<User>, auth::Error> {
    let Some(found) = state.auth.administration().user(Actor::Admin { authority, from }, id).await? else { return Ok(None) };
    let session = |session: SessionView| {
        let here = session.id == authority.session;
        SessionView { here, ..session }
    };
    Ok(Some(User {
        own: id == authority.user,
        id: id.to_string(),
        email: found.row.email,
        name: found.display_name,
        status: found.row.status,
        admin: found.row.admin,
        created: found.created_at,
        last_sign_in: found.row.last_sign_in_at,
        deletes: found.deletes_at,
        two_factor: two_factor::summed_up(state, found.two_factor),
        reset: found.reset.map(|reset| Reset {
            own: reset.asked_by == authority.user,
            by: reset.asked_by_email,
            reason: reset.reason,
            asked: reset.asked_at,
            due: reset.due_at,
        }),
        sessions: found.sessions.into_iter().map(session).collect(),
    }))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::pages::account::two_factor::BackupCodes;
    use auth::{
        identity::{Method, SecondFactor},
        self_service::two_factor::Authenticator,
    };
    use time::macros::datetime;

    const THEN: OffsetDateTime = datetime!(2026-11-03 10:12 UTC);

    pub(crate) fn user(email: &str, status: Status) -> User {
        let session = |device: &str, second: Option<SecondFactor>| SessionView {
            id: Uuid::nil(),
            two_factor: second.is_some(),
            new_device: false,
            device: device.to_owned(),
            ip: Some([203, 0, 113, 24].into()),
            method: Method::Code,
            second,
            signed_in_at: THEN,
            last_seen_at: datetime!(2026-11-24 11:20 UTC),
            here: false,
        };
        User {
            id: "7".to_owned(),
            email: email.to_owned(),
            name: Some("<script>".to_owned()),
            status,
            admin: false,
            created: THEN,
            last_sign_in: None,
            deletes: None,
            two_factor: TwoFactorSummary {
                apps: vec![Authenticator {
                    id: Uuid::from_u128(8),
                    name: "<i>".to_owned(),
                    added_at: THEN,
                    last_used_at: None,
                    stopped: true,
                }],
                codes: Some(BackupCodes { left: 2, total: 10, made: THEN, last_used: None, saved: true }),
                trusted: Some(1),
            },
            reset: None,
            sessions: vec![session("<b>", Some(SecondFactor::TrustedDevice)), session("Safari on iPhone", None)],
            own: false,
        }
    }
}
