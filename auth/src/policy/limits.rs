//! Each limit, one row: its name, rate, variable, what a person is told, and what it counts.
//! Not here: counting (`throttle`), and the words that a person reads (`app`).
//! To add one: its row below; [docs/limits.md](../../../docs/limits.md#add-one) has the rest.

use std::{array, fmt, time::Duration};

/// `burst` at once, then one every `period / burst`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub burst: u32,
    pub period: Duration,
}

impl Rate {
    #[must_use]
    pub const fn new(burst: u32, period: Duration) -> Self {
        Self { burst, period }
    }

    /// The time one costs.
    pub(crate) fn emission(self) -> Duration {
        self.period / self.burst.max(1)
    }

    /// How many more pass at once where the count has run so far ahead of the clock.
    pub(crate) fn left(self, ahead: Duration) -> u32 {
        let free = self.period.saturating_sub(ahead);
        u32::try_from(free.as_nanos() / self.emission().as_nanos().max(1)).unwrap_or(u32::MAX)
    }
}

/// As variables and documents have it: `4/15m`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.period.as_secs();
        let units = [(86_400, 'd'), (3_600, 'h'), (60, 'm')];
        let (unit, name) = units.into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit)).unwrap_or((1, 's'));
        write!(f, "{}/{}{name}", self.burst, seconds / unit)
    }
}

/// What a person is told whom a limit refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Too many mails to this address.
    Emails,
    /// Too many requests of this network.
    Network,
    /// Too many wrong codes.
    Tries,
    /// Too many codes by mail before a change.
    StepUpCodes,
    /// Too many codes to a new address.
    AddressCodes,
    /// Too many new sets of backup codes.
    BackupCodeSets,
    /// Too many changes to one's own account.
    AccountChanges,
    /// Too many people at once: nobody's fault in particular.
    Everyone,
}

/// What a limit's rate is.
enum Rated {
    Always(Rate),
    /// Unless this variable says otherwise.
    By(&'static str, Rate),
    /// Another limit's, whatever it is.
    As(Limit),
    /// So many hundredths of another limit's.
    Part(u32, Limit),
}

struct Row {
    name: &'static str,
    rated: Rated,
    told: Told,
    counts: &'static str,
}

const fn by(variable: &'static str, burst: u32, minutes: u64) -> Rated {
    Rated::By(variable, Rate::new(burst, Duration::from_mins(minutes)))
}

const fn always(burst: u32, seconds: u64) -> Rated {
    Rated::Always(Rate::new(burst, Duration::from_secs(seconds)))
}

macro_rules! limits {
    ($($(#[doc = $counts:literal])+ $limit:ident: $name:literal, $told:ident, $rated:expr;)+) => {
        /// What is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Limit {
            $($(#[doc = $counts])+ $limit,)+
        }

        impl Limit {
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$limit),+];
        }

        const ROWS: [Row; Limit::ALL.len()] =
            [$(Row { name: $name, rated: $rated, told: Told::$told, counts: concat!($($counts),+) }),+];
    };
}

limits! {
    /// Sign-in mails requested by one browser, known or not.
    LinkBrowser: "link_browser", Emails, always(1, 30);
    /// Sign-in mails to one address requested from one network.
    LinkAddressNetwork: "link_address_network", Emails, by("LIMIT_LINK_ADDRESS_NETWORK", 4, 15);
    /// Sign-in mails to one address, from any network; also codes to a new address.
    LinkAddress: "link_address", Emails, by("LIMIT_LINK_ADDRESS", 10, 60);
    /// Sign-in mails to one address requested from one block, where `link_address` is used up.
    LinkAddressNewcomer: "link_address_newcomer", Emails, always(1, 3 * 60 * 60);
    /// The same from all blocks.
    LinkAddressNewcomers: "link_address_newcomers", Emails, always(120, 3 * 60 * 60);
    /// Sign-in mails requested by a known browser for its account; instead of the other `link_…` limits except `link_browser`.
    LinkKnownBrowser: "link_known_browser", Emails, by("LIMIT_LINK_KNOWN_BROWSER", 5, 15);
    /// Sign-in mails requested from one network.
    LinkNetwork: "link_network", Network, by("LIMIT_LINK_NETWORK", 30, 15);
    /// Sign-in mails requested from one IPv6 /56.
    LinkNetwork56: "link_network_56", Network, by("LIMIT_LINK_NETWORK_56", 90, 15);
    /// Sign-in mails requested from one IPv6 /48 or IPv4 /24.
    LinkNetwork48: "link_network_48", Network, by("LIMIT_LINK_NETWORK_48", 300, 15);
    /// Sign-in mails in all.
    LinkAll: "link_all", Everyone, by("LIMIT_LINK_ALL", 2_000, 1);
    /// The same, but for a quarter that is kept for blocks that ask for little.
    LinkAllCommon: "link_all_common", Everyone, Rated::Part(75, Limit::LinkAll);
    /// Sign-in mails requested from one block, where `link_all_common` is used up.
    LinkAllBlock: "link_all_block", Everyone, always(3, 15 * 60);
    /// The same from one IPv4 /16 or IPv6 /32.
    LinkAllRange: "link_all_range", Everyone, always(60, 15 * 60);
    /// Wrong codes from one network, in browsers that the account doesn't know.
    CodeNetwork: "code_network", Tries, by("LIMIT_CODE_NETWORK", 30, 15);
    /// Wrong codes for one address, in browsers that the account doesn't know, and for it as a new address; a new mail grants no new tries
    /// (NIST 800-63B-4 §3.1.3.2). Links keep working.
    CodeAddress: "code_address", Tries, always(30, 24 * 60 * 60);
    /// Wrong codes from a known browser for its account; instead of the two above.
    CodeKnownBrowser: "code_known_browser", Tries, Rated::As(Limit::CodeNetwork);
    /// Wrong app codes for one account at the second step, in browsers that it doesn't know.
    TotpAccount: "totp_account", Tries, by("LIMIT_TOTP_ACCOUNT", 5, 15);
    /// The same from one known browser; instead of the one above.
    TotpKnownBrowser: "totp_known_browser", Tries, Rated::As(Limit::TotpAccount);
    /// Wrong backup codes for one account, in browsers that it doesn't know.
    BackupAccount: "backup_account", Tries, by("LIMIT_BACKUP_ACCOUNT", 5, 60);
    /// The same from one known browser; instead of the one above.
    BackupKnownBrowser: "backup_known_browser", Tries, Rated::As(Limit::BackupAccount);
    /// Wrong codes of any kind before a change, for a new address, or to revert a change, in browsers that the account doesn't know.
    StepUpAccount: "step_up_account", Tries, by("LIMIT_STEP_UP_ACCOUNT", 10, 15);
    /// The same from one known browser; instead of the one above.
    StepUpKnownBrowser: "step_up_known_browser", Tries, Rated::As(Limit::StepUpAccount);
    /// Codes by mail before a change, for one account.
    StepUpMail: "step_up_mail", StepUpCodes, by("LIMIT_STEP_UP_MAIL", 5, 60);
    /// New sets of backup codes, for one account, with the first that comes with two-factor.
    BackupCodeSets: "backup_code_sets", BackupCodeSets, always(5, 60 * 60);
    /// Changes of the name, requests to delete the account, copies of its data and set-ups begun, for one account.
    AccountChanges: "account_changes", AccountChanges, always(20, 60 * 60);
    /// Accounts created from one network.
    SignUpNetwork: "signup_network", Network, by("LIMIT_SIGNUP_NETWORK", 20, 60);
    /// Codes sent to a new address, for one account.
    AddressChange: "address_change", AddressCodes, by("LIMIT_ADDRESS_CHANGE", 5, 24 * 60);
    /// Mails to an owner about a new sign-in (by device and IP address) or a wrong second factor; every other notice is always sent.
    Notice: "notice", StepUpCodes, always(1, 60 * 60);
    /// All requests of one API key.
    ApiKey: "api_key", Everyone, by("LIMIT_API_KEY", 600, 1);
    /// Test mails that an administrator sends from `/admin/mail`.
    MailTest: "mail_test", StepUpCodes, always(5, 15 * 60);
}

impl Limit {
    const fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// The name in metrics, logs and the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|limit| limit.name() == name)
    }

    #[must_use]
    pub const fn told(self) -> Told {
        self.row().told
    }

    /// What it counts, for the documents.
    #[must_use]
    pub fn counts(self) -> &'static str {
        self.row().counts.trim()
    }

    /// The variable that sets it, if it shares no other limit's.
    #[must_use]
    pub const fn variable(self) -> Option<&'static str> {
        match self.row().rated {
            Rated::By(variable, _) => Some(variable),
            Rated::Always(_) | Rated::As(_) | Rated::Part(..) => None,
        }
    }

    /// The limit whose rate it has: mostly itself.
    fn rated_as(self) -> Self {
        if let Rated::As(other) | Rated::Part(_, other) = self.row().rated { other } else { self }
    }
}

/// The rates in force. `enabled: false` (`LIMITS=off`, for load tests) switches these off; the five tries of a code stay.
#[derive(Debug, Clone)]
pub struct Limits {
    pub enabled: bool,
    rates: [Rate; Limit::ALL.len()],
}

impl Default for Limits {
    fn default() -> Self {
        let rates = array::from_fn(|limit| match ROWS[limit].rated {
            Rated::Always(rate) | Rated::By(_, rate) => rate,
            // Never read: `rate` asks for the other's.
            Rated::As(_) | Rated::Part(..) => Rate::new(0, Duration::ZERO),
        });
        Self { enabled: true, rates }
    }
}

impl Limits {
    #[must_use]
    pub fn rate(&self, limit: Limit) -> Rate {
        let rate = self.rates[limit.rated_as() as usize];
        match limit.row().rated {
            Rated::Part(hundredths, _) => Rate { burst: (rate.burst.saturating_mul(hundredths) / 100).max(1), ..rate },
            _ => rate,
        }
    }

    pub fn set(&mut self, limit: Limit, rate: Rate) {
        self.rates[limit.rated_as() as usize] = rate;
    }

    /// The same with another rate.
    #[must_use]
    pub fn with(mut self, limit: Limit, rate: Rate) -> Self {
        self.set(limit, rate);
        self
    }

    #[must_use]
    pub fn off() -> Self {
        Self { enabled: false, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table in `docs/limits.md`: each limit's name, variant, variable, default and what it counts, in the order of the rows. What the
    /// person sees stands there alone.
    #[test]
    fn the_documented_limits_are_the_limits() {
        let documented: Vec<&str> = include_str!("../../../docs/limits.md")
            .lines()
            .filter(|line| line.starts_with("| `") && line.contains("` (`"))
            .map(|line| line.rsplit_once(" | ").expect("cells").0)
            .collect();
        let limits = Limits::default();
        let real: Vec<String> = Limit::ALL
            .into_iter()
            .map(|limit| {
                let variable = limit.rated_as().variable().map_or_else(|| "–".to_owned(), |name| format!("`{name}`"));
                let counts = limit.counts().trim_end_matches('.');
                format!("| `{}` (`{limit:?}`) | {variable} | {} | {counts}", limit.name(), limits.rate(limit))
            })
            .collect();
        assert_eq!(documented, real);
    }

    #[test]
    fn a_rate_reads_as_variables_are_written() {
        let rate = |burst, seconds| Rate::new(burst, Duration::from_secs(seconds)).to_string();
        assert_eq!(
            [rate(1, 30), rate(4, 900), rate(10, 3_600), rate(5, 86_400), rate(7, 5_400)],
            ["1/30s", "4/15m", "10/1h", "5/1d", "7/90m"]
        );
    }

    #[test]
    fn a_limit_without_a_rate_of_its_own_has_the_others() {
        let mut limits = Limits::default();
        assert_eq!(limits.rate(Limit::TotpKnownBrowser), limits.rate(Limit::TotpAccount));
        limits.set(Limit::TotpAccount, Rate::new(7, Duration::from_secs(7)));
        assert_eq!(limits.rate(Limit::TotpKnownBrowser).burst, 7);
        assert_eq!(limits.rate(Limit::BackupAccount).burst, 5);
        assert_eq!(limits.rate(Limit::LinkAllCommon).to_string(), "1500/1m");
        limits.set(Limit::LinkAll, Rate::new(1, Duration::from_hours(1)));
        assert_eq!(limits.rate(Limit::LinkAllCommon).burst, 1, "never nothing");
    }
}
