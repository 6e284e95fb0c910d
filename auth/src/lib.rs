//! The sign-in domain of Latchkey.
//!
//! It knows time, randomness and SQL. It knows no HTTP, no cookies, no pages and no environment variables; its manifest and
//! `deny.toml` keep it so.
//!
//! | word | means |
//! |---|---|
//! | request | somebody typed an address: one row, one mail with a link and a code, ten minutes |
//! | browser nonce | what ties a request to the browser that made it |
//! | known browser | one that has signed the account in before, and so has limits of its own |
//! | redeem | use a link or code up, and give a session its authority |
//! | authority | who a session speaks for, and what it has proven |
//! | half signed in | one factor of two was right: the session opens the second step, and nothing else |
//! | step up | give the account's strongest factor again, before a change to it |
//!
//! **To add a feature**: a folder with `mod.rs` (types, rules as functions of `now`, operations, one error enum) and `store.rs`
//! (its SQL, `query!` checked against `.sqlx`). Use your own store and what is shared (`clock`, `secret`, `throttle`, `event`);
//! only [`sign_in`], [`api_sign_in`], [`second_factor`], [`step_up`], [`two_factor`], [`address_change`], [`undo`], [`deletion`] and
//! [`export`] join features; [`reconcile`] looks into all their tables and changes none.

/// Makes each of these errors out of the database's, as its `Unavailable`.
macro_rules! from_sqlx {
    ($($error:ty),*) => {$(
        impl From<sqlx::Error> for $error {
            fn from(error: sqlx::Error) -> Self {
                Self::Unavailable(error.into())
            }
        }
    )*};
}

pub mod account;
pub mod activity;
pub mod address_change;
pub mod admin;
pub mod api_key;
pub mod api_sign_in;
pub mod audit;
pub mod backup_code;
pub mod clock;
pub mod cursor;
pub mod deletion;
pub mod email_address;
pub mod event;
pub mod export;
pub mod flag;
pub mod forward_auth;
pub mod gauges;
mod housekeeping;
pub mod inspection;
pub mod invite;
pub mod key;
mod known_browser;
pub mod magic_link;
pub mod mail;
pub mod migrate;
pub mod minute_count;
pub mod network_requests;
pub mod overview;
pub mod policy;
pub mod reconcile;
pub mod requester;
pub mod rollout;
mod schedule;
pub mod second_factor;
pub mod secret;
pub mod session;
pub mod sign_in;
pub mod step_up;
pub mod throttle;
pub mod totp;
pub mod trusted_device;
pub mod two_factor;
pub mod undo;

use std::sync::{Arc, Mutex};

use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::sync::Notify;

use crate::{clock::Clock, network_requests::Tally, policy::Policy, secret::Keys};

/// The database did not answer, or not as it must. What was asked for did not happen.
#[derive(Debug, thiserror::Error)]
#[error("the database did not do what was asked")]
pub struct Error(#[from] sqlx::Error);

/// The domain: everything that can be done to accounts, requests and sessions.
pub struct Auth {
    pool: PgPool,
    clock: Arc<dyn Clock>,
    keys: Keys,
    policy: Policy,
    /// Wakes this process's mail worker.
    outbox: Notify,
    tally: Tally,
    flags: flag::Known,
    answers: minute_count::Answers,
    /// The newest batch of the audit that this process has seen.
    seal_seen: Mutex<Option<audit::Head>>,
}

impl Auth {
    #[must_use]
    pub fn new(pool: PgPool, clock: Arc<dyn Clock>, keys: Keys, policy: Policy) -> Self {
        Self {
            pool,
            clock,
            keys,
            policy,
            outbox: Notify::new(),
            tally: Tally::default(),
            flags: flag::Known::default(),
            answers: minute_count::Answers::default(),
            seal_seen: Mutex::default(),
        }
    }

    /// Read once a decision, and passed on.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }

    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }
}
