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
//! **To add a feature**: a file or folder on its floor, with `mod.rs` (types, rules as functions of `now`, operations, one error enum)
//! and `store.rs` (its SQL, `query!` checked against `.sqlx`). A floor imports from the floors listed above it, never from one below.

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

/// Gives each of these enums its words: what stands in a column, a URL or a document is what strum calls the variant.
macro_rules! named {
    ($($name:ty),*) => {$(
        impl $name {
            pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

            #[must_use]
            pub fn as_str(self) -> &'static str {
                self.into()
            }

            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )*};
}

pub mod administration;
pub mod api_keys;
pub mod audit;
pub mod crypto;
pub mod delivery;
pub mod event;
pub mod factors;
pub mod flag;
pub mod identity;
pub mod limits;
pub mod one_time;
pub mod operations;
pub mod outbox;
pub mod policy;
pub mod primitives;
pub mod reporting;
pub mod rollout;
pub mod self_service;
pub mod sessions;
pub mod sign_in;
pub mod users;

use std::sync::{Arc, Mutex};

use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::sync::Notify;

use crate::{crypto::Keys, limits::request_bursts::Tally, policy::Policy, primitives::clock::Clock};

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
    /// How fast mail goes out, as its worker has measured.
    pace: outbox::pace::Pace,
    tally: Tally,
    flags: flag::Known,
    answers: reporting::event_counts::Answers,
    /// The newest batch of the audit that this process has seen.
    seal_seen: Mutex<Option<audit::Head>>,
    verified_seen: Mutex<Option<audit::LastVerified>>,
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
            pace: outbox::pace::Pace::default(),
            tally: Tally::default(),
            flags: flag::Known::default(),
            answers: reporting::event_counts::Answers::default(),
            seal_seen: Mutex::default(),
            verified_seen: Mutex::default(),
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

/// The floors that have operations: each is a borrowed view of [`Auth`], so that a call names its room.
macro_rules! floors {
    ($($(#[$doc:meta])* $name:ident: $Floor:ident),* $(,)?) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy)]
            pub struct $Floor<'a>(&'a Auth);
        )*

        impl Auth {
            $(
                $(#[$doc])*
                #[must_use]
                pub fn $name(&self) -> $Floor<'_> {
                    $Floor(self)
                }
            )*
        }
    };
}

floors! {
    /// Accounts.
    users: Users,
    /// Sessions: made, loaded, listed, ended.
    sessions: Sessions,
    /// What a second factor is: apps, backup codes, trusted devices.
    factors: Factors,
    /// What holds back those who ask too often.
    limits: RequestLimits,
    /// The log of what happened: read, sealed, verified, exported.
    audit: Audit,
    /// Counts for pages and metrics.
    reporting: Reporting,
    /// Who has a feature.
    flag: Flags,
    /// Secrets that were mailed: invitations, codes for somebody signed in.
    one_time: OneTime,
    /// The keys of other applications.
    api_keys: ApiKeys,
    /// What operators run: reconcile, rotate, tidy up.
    operations: Operations,
    /// The sign-in machine: both factors, step-up, applications, forward-auth.
    sign_in: SignIn,
    /// The guarded rollout, and a flag set by hand.
    rollout: Rollouts,
    /// What people do to their own account.
    self_service: SelfService,
    /// The worker that sends mail.
    delivery: Delivery,
    /// What administrators do to other people's accounts.
    administration: Administration,
}
