//! Secrets that were mailed and work once.
//!
//! Not here: what redeeming one leads to (`sign_in`, `self_service`).
//! To add one: its row with a [`Life`] and its statements in a folder here, and who redeems it above.

#[macro_use]
mod store;

pub mod invitation;
pub mod magic_link;
pub mod mailed_code;
pub mod revert_link;

use time::OffsetDateTime;

use crate::event::Refusal;

/// Why a link or a code that was mailed doesn't work any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dead {
    Expired,
    Used,
    /// A newer one took its place.
    Replaced,
    /// Somebody took it back, or what it is for has been overtaken.
    Cancelled,
}

impl From<Dead> for Refusal {
    fn from(dead: Dead) -> Self {
        match dead {
            Dead::Expired => Self::Expired,
            Dead::Used => Self::Used,
            Dead::Replaced => Self::Replaced,
            Dead::Cancelled => Self::Cancelled,
        }
    }
}

/// What a row says of its secret's life.
pub(crate) struct Life {
    pub expires_at: OffsetDateTime,
    pub used: bool,
    /// Why it was closed before it was used.
    pub closed: Option<Dead>,
}

impl Life {
    /// One that was just made.
    pub fn until(expires_at: OffsetDateTime) -> Self {
        Self { expires_at, used: false, closed: None }
    }

    /// Why it can't be redeemed by anybody. What was used or closed says so also after its time: "expired" would hide that somebody
    /// used it.
    pub fn dead(&self, now: OffsetDateTime) -> Option<Dead> {
        if self.used {
            return Some(Dead::Used);
        }
        self.closed.or((self.expires_at <= now).then_some(Dead::Expired))
    }
}

#[cfg(test)]
mod tests {
    use time::{Duration, macros::datetime};

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-24 14:29 UTC);

    #[test]
    fn a_secret_lives_until_the_very_moment_it_expires() {
        let life = Life::until(NOW + Duration::minutes(10));
        assert_eq!(life.dead(NOW + Duration::minutes(10) - Duration::microseconds(1)), None);
        assert_eq!(life.dead(NOW + Duration::minutes(10)), Some(Dead::Expired));
    }

    #[test]
    fn what_was_used_or_closed_says_so_first() {
        for (used, closed, expected) in [
            (true, None, Dead::Used),
            (true, Some(Dead::Cancelled), Dead::Used),
            (false, Some(Dead::Replaced), Dead::Replaced),
            (false, Some(Dead::Cancelled), Dead::Cancelled),
        ] {
            let life = Life { used, closed, expires_at: NOW + Duration::minutes(10) };
            for now in [NOW, NOW + Duration::hours(3)] {
                assert_eq!(life.dead(now), Some(expected));
            }
        }
    }
}
