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
    one_time::{Dead, Life},
    policy::CODE_TRIES,
    primitives::{
        email_address::EmailAddress,
        requester::{Application, device},
    },
};

/// What a link's page tells about the request behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkView {
    /// The whole address. Pages show it masked, except to the browser that typed it.
    pub email: EmailAddress,
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
    Dead(Dead, LinkView),
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
            Self::Live(view) | Self::OtherBrowser(view) | Self::Dead(_, view) | Self::EnrolmentRequired(view) => Some(view),
            Self::Unknown => None,
        }
    }
}

/// A row as it stands.
pub(crate) struct MagicLink {
    pub id: Uuid,
    pub email: EmailAddress,
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
    /// Codes were off when it was asked for: its mail has none.
    pub codes_off: bool,
    pub created_at: OffsetDateTime,
    pub attempts: i16,
    pub life: Life,
}

impl MagicLink {
    pub fn tries_left(&self) -> u32 {
        CODE_TRIES.saturating_sub(self.attempts.unsigned_abs().into())
    }

    pub fn view(&self) -> LinkView {
        LinkView { email: self.email.clone(), ip: self.ip, device: device(&self.user_agent), asked_at: self.created_at }
    }

    /// Why it doesn't sign this browser in. A dead link is dead first, wherever it is opened.
    pub fn refusal(&self, browser_hash: Option<&[u8; 32]>, now: OffsetDateTime) -> Option<Refusal> {
        let elsewhere = browser_hash.is_none_or(|hash| hash[..] != self.browser_hash[..]);
        self.life.dead(now).map(Into::into).or(elsewhere.then_some(Refusal::OtherBrowser))
    }

    pub fn state(&self, browser_hash: Option<&[u8; 32]>, now: OffsetDateTime) -> LinkState {
        self.refusal(browser_hash, now).map_or_else(|| LinkState::Live(self.view()), |refusal| self.refused(refusal))
    }

    /// What a refusal looks like to the person: no page tells an account that is off from a cancelled link.
    pub fn refused(&self, refusal: Refusal) -> LinkState {
        let dead = match refusal {
            Refusal::OtherBrowser => return LinkState::OtherBrowser(self.view()),
            Refusal::EnrolmentRequired => return LinkState::EnrolmentRequired(self.view()),
            Refusal::Expired => Dead::Expired,
            Refusal::Used => Dead::Used,
            Refusal::Replaced => Dead::Replaced,
            Refusal::Cancelled | Refusal::WrongCode | Refusal::NotAdmitted | Refusal::AccountOff => Dead::Cancelled,
        };
        LinkState::Dead(dead, self.view())
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
            email: "mara@example.org".parse().expect("an address"),
            seed: Seed { nonce: [0; 32], key_id: String::new() },
            code_hash: vec![0; 32],
            browser_hash: vec![7; 32],
            ip: IpAddr::from([203, 0, 113, 24]),
            user_agent: String::new(),
            application: None,
            redirect_url: None,
            client_named: true,
            codes_off: false,
            created_at: NOW,
            attempts: 0,
            life: Life::until(NOW + Duration::minutes(10)),
        }
    }

    #[test]
    fn a_dead_link_is_dead_first_wherever_it_is_opened() {
        for (reason, used, expected) in [
            (None, true, Dead::Used),
            (Some("replaced"), false, Dead::Replaced),
            (Some("cancelled"), false, Dead::Cancelled),
            (Some("crowded_out"), false, Dead::Cancelled),
            (Some("signed_in"), false, Dead::Used),
        ] {
            let link = link();
            let life = Life { used, closed: reason.map(store::closed), ..link.life };
            let link = MagicLink { life, ..link };
            for now in [NOW, NOW + Duration::hours(3)] {
                assert_eq!(link.state(None, now), LinkState::Dead(expected, link.view()));
                assert_eq!(link.state(Some(&[7; 32]), now), LinkState::Dead(expected, link.view()));
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
