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

use ipnet::IpNet;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::primitives::requester::Requester;

/// An account knows this many browsers, those used last. Each has limits of its own, and each sign-in can add one: without a cap, whoever reads
/// the account's mail would have limits without end.
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

/// Where a request comes from, as far as it decides whether a browser is known.
struct Place {
    block: IpNet,
    device: String,
}

impl From<&Requester> for Place {
    fn from(from: &Requester) -> Self {
        Self { block: from.block_net(), device: from.device() }
    }
}
