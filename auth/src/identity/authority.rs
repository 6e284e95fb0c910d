//! Who a session speaks for, and what it has proven.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::policy::RequireTwoFactor;

/// How a first factor was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumString, IntoStaticStr, VariantArray, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Method {
    Link,
    Code,
}

/// How a second factor was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumString, IntoStaticStr, VariantArray, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum SecondFactor {
    Totp,
    BackupCode,
    /// Not given: this browser is trusted with it.
    TrustedDevice,
}

/// How much a session has proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, EnumString, IntoStaticStr, VariantArray, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum Level {
    /// The first of two factors. It opens nothing but the second step.
    FirstFactor,
    Email,
    TwoFactor,
}

named!(Method, SecondFactor, Level);

impl Level {
    /// What a session has proven of an account that has two-factor, or not. The one rule; whoever gives a session authority asks it.
    pub(crate) fn of(two_factor: bool, second: Option<SecondFactor>) -> Self {
        match (two_factor, second) {
            (false, _) => Self::Email,
            (true, None) => Self::FirstFactor,
            (true, Some(_)) => Self::TwoFactor,
        }
    }

    /// What a session's stored level is worth at this moment.
    pub(crate) fn stands(self, two_factor: bool) -> Self {
        // Signed in while two-factor was being turned on: it has given one factor of two.
        if two_factor && self == Self::Email { Self::FirstFactor } else { self }
    }
}

/// Who a session speaks for. It comes from the row's own columns at each request, never from what the session stores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Authority {
    pub session: Uuid,
    pub user: Uuid,
    pub email: String,
    pub admin: bool,
    /// The account has two-factor, at this very moment.
    pub two_factor: bool,
    pub level: Level,
    pub method: Method,
    pub second: Option<SecondFactor>,
    #[serde(with = "time::serde::rfc3339")]
    pub authenticated_at: OffsetDateTime,
    /// When the account's strongest factor was last given in this session.
    #[serde(with = "time::serde::rfc3339::option")]
    pub verified_at: Option<OffsetDateTime>,
    pub ip: IpAddr,
    pub device: String,
}

impl Authority {
    /// Whether the strongest factor was given lately enough for a change to the account (NIST 800-63B-4 §4.1.2.1).
    #[must_use]
    pub fn is_fresh(&self, now: OffsetDateTime, step_up_ttl: std::time::Duration) -> bool {
        self.level != Level::FirstFactor && self.verified_at.is_some_and(|at| at + step_up_ttl > now)
    }

    /// Whether it must set two-factor up before it may do anything else.
    #[must_use]
    pub fn owes_two_factor(&self, required: RequireTwoFactor) -> bool {
        !self.two_factor && required.covers(self.admin)
    }
}
