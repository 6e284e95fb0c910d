//! A sign-in mail's link and code: one row, one lifetime, one counter of wrong codes, one use.
//!
//! Only rules and rows live here; what may follow from a redeemed link is [`crate::sign_in::first_factor`]'s business.

pub(crate) mod store;

use std::net::IpAddr;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    crypto::Seed,
    event::Refusal,
    policy::CODE_TRIES,
    primitives::requester::{Application, device},
};

/// What a link's page tells about the request behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkView {
    /// The whole address. Pages show it masked, except to the browser that typed it.
    pub email: String,
    pub ip: IpAddr,
    pub device: String,
    pub asked_at: OffsetDateTime,
}

/// Where a link stands, for the browser that opened it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    Live(LinkView),
    /// Asked for elsewhere: it never signs this browser in.
    OtherBrowser(LinkView),
    Expired(LinkView),
    Used(LinkView),
    Replaced(LinkView),
    Cancelled(LinkView),
    /// An application asked, and the account has to set two-factor up first, in a browser. Nothing was used up.
    EnrolmentRequired(LinkView),
    /// No such link: cut short, mistyped or long gone.
    Unknown,
}

impl LinkState {
    /// The request behind it; `None` where there is none.
    #[must_use]
    pub fn view(&self) -> Option<&LinkView> {
        match self {
            Self::Live(view)
            | Self::OtherBrowser(view)
            | Self::Expired(view)
            | Self::Used(view)
            | Self::Replaced(view)
            | Self::Cancelled(view)
            | Self::EnrolmentRequired(view) => Some(view),
            Self::Unknown => None,
        }
    }
}

/// A row as it stands.
pub(crate) struct MagicLink {
    pub id: Uuid,
    pub email: String,
    pub email_key: String,
    pub seed: Seed,
    pub code_hash: Vec<u8>,
    pub browser_hash: Vec<u8>,
    pub ip: IpAddr,
    pub user_agent: String,
    /// The application that asked.
    pub application: Option<Application>,
    pub redirect_url: Option<String>,
    /// Address and user agent are the person's, not an application's own.
    pub client_named: bool,
    pub created_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
    pub attempts: u32,
    pub used: bool,
    pub closed_reason: Option<String>,
}

impl MagicLink {
    /// Why it can't be redeemed by anybody. A dead link is dead first, wherever it is opened.
    pub fn dead(&self, now: OffsetDateTime) -> Option<Refusal> {
        if self.used {
            return Some(Refusal::Used);
        }
        match self.closed_reason.as_deref() {
            Some("replaced") => return Some(Refusal::Replaced),
            // Another link of the account signed it in: to its owner, this one is used up.
            Some("signed_in") => return Some(Refusal::Used),
            Some(_) => return Some(Refusal::Cancelled),
            None => {}
        }
        (self.expires_at <= now).then_some(Refusal::Expired)
    }

    pub fn tries_left(&self) -> u32 {
        CODE_TRIES.saturating_sub(self.attempts)
    }

    pub fn view(&self) -> LinkView {
        LinkView { email: self.email.clone(), ip: self.ip, device: device(&self.user_agent), asked_at: self.created_at }
    }

    pub fn state(&self, browser_hash: Option<&[u8; 32]>, now: OffsetDateTime) -> LinkState {
        let view = self.view();
        match self.dead(now) {
            Some(Refusal::Used) => LinkState::Used(view),
            Some(Refusal::Replaced) => LinkState::Replaced(view),
            Some(Refusal::Expired) => LinkState::Expired(view),
            Some(_) => LinkState::Cancelled(view),
            None if browser_hash.is_some_and(|hash| hash[..] == self.browser_hash[..]) => LinkState::Live(view),
            None => LinkState::OtherBrowser(view),
        }
    }
}

#[cfg(test)]
mod tests {
    use time::{Duration, macros::datetime};

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-24 14:29 UTC);

    fn link() -> MagicLink {
        MagicLink {
            id: Uuid::nil(),
            email: "mara@example.org".to_owned(),
            email_key: "mara@example.org".to_owned(),
            seed: Seed { nonce: [0; 32], key_id: String::new() },
            code_hash: vec![0; 32],
            browser_hash: vec![7; 32],
            ip: IpAddr::from([203, 0, 113, 24]),
            user_agent: String::new(),
            application: None,
            redirect_url: None,
            client_named: true,
            created_at: NOW,
            expires_at: NOW + Duration::minutes(10),
            attempts: 0,
            used: false,
            closed_reason: None,
        }
    }

    #[test]
    fn a_link_lives_until_the_very_moment_it_expires() {
        let link = link();
        assert_eq!(link.dead(NOW + Duration::minutes(10) - Duration::microseconds(1)), None);
        assert_eq!(link.dead(NOW + Duration::minutes(10)), Some(Refusal::Expired));
    }

    #[test]
    fn a_dead_link_is_dead_first_wherever_it_is_opened() {
        for (reason, used, expected) in [
            (None, true, Refusal::Used),
            (Some("replaced"), false, Refusal::Replaced),
            (Some("cancelled"), false, Refusal::Cancelled),
            (Some("crowded_out"), false, Refusal::Cancelled),
            (Some("signed_in"), false, Refusal::Used),
        ] {
            let link = MagicLink { used, closed_reason: reason.map(str::to_owned), ..link() };
            // Also long after its time: "expired" would hide that somebody used it.
            for now in [NOW, NOW + Duration::hours(3)] {
                assert_eq!(link.dead(now), Some(expected));
                assert!(!matches!(link.state(None, now), LinkState::OtherBrowser(_)));
            }
        }
    }

    #[test]
    fn it_is_live_only_in_the_browser_that_asked() {
        let link = link();
        assert!(matches!(link.state(Some(&[7; 32]), NOW), LinkState::Live(_)));
        assert!(matches!(link.state(Some(&[8; 32]), NOW), LinkState::OtherBrowser(_)));
        assert!(matches!(link.state(None, NOW), LinkState::OtherBrowser(_)));
    }
}
