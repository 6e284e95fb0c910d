//! Browsers that have signed an account in before: they have limits of their own.
//!
//! Not here: which limits those are (`policy/limits.rs`).
//! To add one: a statement in `store.rs`.
//!
//! So a stranger who uses up an address's limits does not keep its owner out. Knowing a browser proves nothing else: it is no factor
//! and no trust. A cookie can be copied, so it counts only where it could be its owner's: in the network of the browser's last sign-in, or on
//! the same kind of device.

pub(crate) mod store;

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::primitives::requester::Requester;

/// An account knows so many browsers, those used last: each has budgets of its own, and whoever reads an account's mail could have one more
/// with each sign-in.
pub const MOST: u16 = 20;

/// A browser that an account knows, as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownBrowser {
    /// Names it among the account's, and is nothing that the browser holds.
    pub id: Uuid,
    /// None where it was signed in last by a version that did not note it.
    pub device: Option<String>,
    pub ip: Option<IpAddr>,
    pub first_at: OffsetDateTime,
    pub last_at: OffsetDateTime,
    pub expires_at: OffsetDateTime,
    /// It is the browser that asks.
    pub here: bool,
}

/// The network that an address belongs to, wide enough for what a provider gives one household in turn.
fn block(ip: IpAddr) -> IpNet {
    match ip {
        IpAddr::V4(ip) => Ipv4Net::new(ip, 24).map_or_else(|_| IpAddr::V4(ip).into(), |net| net.trunc().into()),
        IpAddr::V6(ip) => Ipv6Net::new(ip, 48).map_or_else(|_| IpAddr::V6(ip).into(), |net| net.trunc().into()),
    }
}

/// Where a request comes from, as far as it decides whether a browser is known.
struct Place {
    block: IpNet,
    device: String,
}

impl From<&Requester> for Place {
    fn from(from: &Requester) -> Self {
        Self { block: block(from.ip), device: from.device() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_block_is_what_one_household_gets_in_turn() {
        let block = |ip: &str| block(ip.parse().expect(ip)).to_string();
        assert_eq!(block("203.0.113.24"), "203.0.113.0/24");
        assert_eq!(block("2001:db8:1:2::1"), "2001:db8:1::/48");
    }
}
