//! What the operator decides: lifetimes, limits, who may sign up. Plain values; where they come from is the process's business.
//!
//! Not here: how a limit is counted (`limits`), how a check is measured (`rollout`).
//! To add one: a limit is a row of `limits.rs`, a check a variant in `checks.rs`, a constant cites its source here.

pub mod checks;
pub mod limits;

use std::time::Duration;

use metrics::SharedString;
use strum::{EnumString, VariantNames};

use crate::{policy::limits::Limits, primitives::email_address::EmailAddress};

/// An emailed link or code must be complete within ten minutes (NIST 800-63B-4 §3.1.3.2; ASVS 6.5.5).
pub const MAX_LINK_TTL: Duration = Duration::from_mins(10);
/// Wrong codes one mail forgives. Six digits and five tries: 5 in 1,000,000.
pub const CODE_TRIES: u32 = 5;
/// Live requests of one address from browsers it doesn't know. More than the default limits let through while a link lives, or
/// strangers could have its owner's cancelled by asking once more.
pub const LIVE_LINKS: i64 = 150;
/// How long a visitor's session lasts before sign-in: long enough to wait for slow mail and ask again.
pub const PRE_SIGN_IN_TTL: Duration = Duration::from_hours(1);
/// How long a visitor's session outlives the sign-in that took its place: longer than any request under way.
pub const RETIRED_FOR: Duration = Duration::from_mins(1);
/// How long the second step may take. A session that has given one factor of two lives no longer.
pub const SECOND_STEP_TTL: Duration = Duration::from_mins(10);
/// How long a set-up of an authenticator waits for its first code.
pub const SETUP_TTL: Duration = Duration::from_mins(15);
/// How long a code by mail for a change to the account works (as [`MAX_LINK_TTL`]).
pub const STEP_UP_CODE_TTL: Duration = Duration::from_mins(10);
/// How long a code to a new address works (as [`MAX_LINK_TTL`]).
pub const ADDRESS_CODE_TTL: Duration = Duration::from_mins(10);
/// How long a browser stays known after its last sign-in.
pub const KNOWN_BROWSER_TTL: Duration = Duration::from_hours(365 * 24);
/// Between asking for an account to be deleted and its end.
pub const DELETION_WAIT: Duration = Duration::from_hours(7 * 24);
/// How long an `Idempotency-Key` is remembered.
pub const IDEMPOTENCY_TTL: Duration = Duration::from_hours(24);
/// How long an invitation works.
pub const INVITE_TTL: Duration = Duration::from_hours(7 * 24);
/// Wrong codes by mail for one address, since a link mailed to it was last used, and from one of its account's known browsers, since one was
/// last used there. Then only a link works (NIST 800-63B-4 §3.2.2).
pub const MAX_WRONG_CODES: i32 = 100;

#[derive(Debug, Clone)]
pub struct Policy {
    /// How long link and code work; [`MAX_LINK_TTL`] at most.
    pub link_ttl: Duration,
    /// A session dies when unused for this long, …
    pub session_idle: Duration,
    /// … and this long after sign-in however much it is used.
    pub session_max: Duration,
    /// How long giving the strongest factor counts for changes to the account.
    pub step_up_ttl: Duration,
    /// How long a browser may be trusted with the second factor; zero: not at all.
    pub trusted_device_ttl: Duration,
    pub require_two_factor: RequireTwoFactor,
    pub reset_two_factor: ResetTwoFactor,
    pub sign_up: SignUp,
    /// `FEATURE_PASSWORDLESS_AUTH`: off, nobody can ask for or redeem a link; live sessions go on.
    pub passwordless_auth: bool,
    /// Where an application may have its people come back to from a mail, to the letter.
    pub redirect_urls: Vec<String>,
    /// `METRICS_EMAIL_DOMAINS`.
    pub metrics_email_domains: NamedDomains,
    pub limits: Limits,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            link_ttl: MAX_LINK_TTL,
            session_idle: Duration::from_hours(24),
            session_max: Duration::from_hours(30 * 24),
            step_up_ttl: Duration::from_mins(10),
            trusted_device_ttl: Duration::from_hours(30 * 24),
            require_two_factor: RequireTwoFactor::Admins,
            reset_two_factor: ResetTwoFactor::Now,
            sign_up: SignUp::Invite,
            passwordless_auth: false,
            redirect_urls: Vec::new(),
            metrics_email_domains: NamedDomains::default(),
            limits: Limits::default(),
        }
    }
}

/// Domains that metrics may name. All others are one: anybody can invent a domain, and each would be a series for good.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamedDomains(Vec<SharedString>);

impl NamedDomains {
    pub(crate) const OTHER: SharedString = SharedString::const_str("other");

    /// In lower-case ASCII (punycode), as addresses are compared.
    pub fn new(domains: impl IntoIterator<Item = String>) -> Self {
        Self(domains.into_iter().map(|domain| SharedString::from_shared(domain.into())).collect())
    }

    /// What metrics call the address's domain.
    #[must_use]
    pub fn label(&self, email: &EmailAddress) -> SharedString {
        self.0.iter().find(|domain| domain.as_ref() == email.domain()).cloned().unwrap_or(Self::OTHER)
    }

    pub(crate) fn labels(&self) -> impl Iterator<Item = SharedString> {
        self.0.iter().cloned().chain([Self::OTHER])
    }
}

/// When an administrator's reset of somebody's two-factor happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetTwoFactor {
    Now,
    /// After this long, in which the account's owner can stop it; [`MAX_RESET_WAIT`] at most.
    Wait(Duration),
    /// When a second administrator agrees.
    Two,
}

/// As long as the link works that stops one.
pub const MAX_RESET_WAIT: Duration = Duration::from_hours(7 * 24);

/// Who must have two-factor. Until they do, they can set it up and do nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum RequireTwoFactor {
    None,
    Admins,
    Everyone,
}

impl RequireTwoFactor {
    #[must_use]
    pub fn covers(self, admin: bool) -> bool {
        match self {
            Self::None => false,
            Self::Admins => admin,
            Self::Everyone => true,
        }
    }
}

/// Who may make an account by signing in for the first time. The pages never tell which holds: the mail does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignUp {
    Open,
    /// Addresses of these domains (lower-case ASCII), and invited ones.
    Domains(Vec<String>),
    /// Invited addresses only.
    Invite,
    Closed,
}

impl SignUp {
    /// Whether a stranger with this address may sign up; `invited` tells of a live invitation.
    #[must_use]
    pub fn admits(&self, address: &EmailAddress, invited: bool) -> bool {
        !address.is_route()
            && match self {
                Self::Open => true,
                Self::Domains(domains) => invited || domains.iter().any(|domain| domain == address.domain()),
                Self::Invite => invited,
                Self::Closed => false,
            }
    }

    /// Whether an account that there is may move to this address; `invited` as above: with it an administrator has allowed the address,
    /// and that holds where nobody signs up too. Else an account would outlive what the policy leans on, such as a company's mailbox.
    #[must_use]
    pub fn admits_move(&self, address: &EmailAddress, invited: bool) -> bool {
        !address.is_route() && (invited || self.admits(address, false))
    }

    /// Whether an administrator may make an account for this address, or invite it, without saying why.
    #[must_use]
    pub fn admits_by_hand(&self, address: &EmailAddress) -> bool {
        self.admits(address, *self == Self::Invite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sign_up_admits_whom_its_policy_says() {
        let address = |text| EmailAddress::parse(text).expect(text);
        let domains = SignUp::Domains(vec!["example.org".to_owned()]);
        for (policy, text, invited, admitted) in [
            (&SignUp::Open, "a@example.net", false, true),
            (&domains, "a@EXAMPLE.org", false, true),
            (&domains, "a@sub.example.org", false, false),
            (&domains, "a@badexample.org", false, false),
            (&domains, "a@example.net", true, true),
            (&SignUp::Invite, "a@example.org", false, false),
            (&SignUp::Invite, "a@example.org", true, true),
            (&SignUp::Closed, "a@example.org", true, false),
        ] {
            assert_eq!(policy.admits(&address(text), invited), admitted, "{policy:?} {text} {invited}");
        }
    }

    #[test]
    fn an_account_moves_where_its_policy_says_or_an_administrator_has_allowed_it() {
        let address = |text| EmailAddress::parse(text).expect(text);
        let domains = SignUp::Domains(vec!["example.org".to_owned()]);
        for (policy, text, alone, invited, by_hand) in [
            (&SignUp::Open, "a@example.net", true, true, true),
            (&domains, "a@example.org", true, true, true),
            (&domains, "a@example.net", false, true, false),
            (&SignUp::Invite, "a@example.net", false, true, true),
            (&SignUp::Closed, "a@example.net", false, true, false),
        ] {
            let address = address(text);
            let found = (policy.admits_move(&address, false), policy.admits_move(&address, true), policy.admits_by_hand(&address));
            assert_eq!(found, (alone, invited, by_hand), "{policy:?} {text}");
        }
    }

    #[test]
    fn no_policy_admits_an_address_with_a_route_in_it() {
        let route = EmailAddress::lookup("outsider%evil.example@example.org").expect("an address");
        let domains = SignUp::Domains(vec!["example.org".to_owned()]);
        for policy in [&SignUp::Open, &domains, &SignUp::Invite, &SignUp::Closed] {
            for invited in [false, true] {
                assert!(!policy.admits(&route, invited) && !policy.admits_move(&route, invited), "{policy:?} {invited}");
            }
            assert!(!policy.admits_by_hand(&route), "{policy:?}");
        }
    }
}
