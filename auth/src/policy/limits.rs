//! The policy limits: name and rate of each. How they are counted lies in `limits::throttle`.

use std::time::Duration;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Sign-in mails to one address asked for from one network.
    LinkAddressNetwork,
    /// Sign-in mails to one address, whoever asks.
    LinkAddress,
    /// Sign-in mails a browser asks for an account it has signed in before: instead of the others, so nobody can use them up.
    LinkKnownBrowser,
    /// Sign-in mails asked for from one network.
    LinkNetwork,
    /// Sign-in mails in all.
    LinkAll,
    /// Sign-in mails one browser asks for, known or not.
    LinkBrowser,
    /// Wrong codes from one network.
    CodeNetwork,
    /// Wrong codes for one address from browsers it doesn't know. It outlives the code: a new mail brings no new tries
    /// (NIST 800-63B-4 §3.1.3.2).
    CodeAddress,
    /// Wrong codes from a browser the account knows.
    CodeKnownBrowser,
    /// Wrong authenticator codes for one account, from browsers it doesn't know.
    TotpAccount,
    /// Wrong authenticator codes from a browser the account knows.
    TotpKnownBrowser,
    /// Wrong backup codes for one account, from browsers it doesn't know.
    BackupAccount,
    /// Wrong backup codes from a browser the account knows.
    BackupKnownBrowser,
    /// Wrong codes for one account from someone signed in to it, on browsers it doesn't know.
    StepUpAccount,
    /// The same from a browser the account knows.
    StepUpKnownBrowser,
    /// Codes by mail for changes to one account.
    StepUpMail,
    /// Accounts made from one network.
    SignUpNetwork,
    /// Changes of one account's address that were asked for.
    AddressChange,
    /// Mails of one kind that tell an owner of something others can repeat at will.
    Notice,
    /// Test mails one administrator sends.
    MailTest,
    /// Requests of one API key.
    ApiKey,
}

impl Limit {
    pub const ALL: [Self; 21] = [
        Self::LinkAddressNetwork,
        Self::LinkAddress,
        Self::LinkKnownBrowser,
        Self::LinkNetwork,
        Self::LinkAll,
        Self::LinkBrowser,
        Self::CodeNetwork,
        Self::CodeAddress,
        Self::CodeKnownBrowser,
        Self::TotpAccount,
        Self::TotpKnownBrowser,
        Self::BackupAccount,
        Self::BackupKnownBrowser,
        Self::StepUpAccount,
        Self::StepUpKnownBrowser,
        Self::StepUpMail,
        Self::SignUpNetwork,
        Self::AddressChange,
        Self::Notice,
        Self::MailTest,
        Self::ApiKey,
    ];

    /// The name in metrics, logs and the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LinkAddressNetwork => "link_address_network",
            Self::LinkAddress => "link_address",
            Self::LinkKnownBrowser => "link_known_browser",
            Self::LinkNetwork => "link_network",
            Self::LinkAll => "link_all",
            Self::LinkBrowser => "link_browser",
            Self::CodeNetwork => "code_network",
            Self::CodeAddress => "code_address",
            Self::CodeKnownBrowser => "code_known_browser",
            Self::TotpAccount => "totp_account",
            Self::TotpKnownBrowser => "totp_known_browser",
            Self::BackupAccount => "backup_account",
            Self::BackupKnownBrowser => "backup_known_browser",
            Self::StepUpAccount => "step_up_account",
            Self::StepUpKnownBrowser => "step_up_known_browser",
            Self::StepUpMail => "step_up_mail",
            Self::SignUpNetwork => "signup_network",
            Self::AddressChange => "address_change",
            Self::Notice => "notice",
            Self::MailTest => "mail_test",
            Self::ApiKey => "api_key",
        }
    }

    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|limit| limit.name() == name)
    }
}

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

/// The rates in force. `enabled: false` (`LIMITS=off`, for load tests) switches these off; the five tries of a code stay.
#[derive(Debug, Clone)]
pub struct Limits {
    pub enabled: bool,
    pub link_address_network: Rate,
    pub link_address: Rate,
    pub link_known_browser: Rate,
    pub link_network: Rate,
    pub link_all: Rate,
    pub code_network: Rate,
    pub totp_account: Rate,
    pub backup_account: Rate,
    pub step_up_account: Rate,
    pub step_up_mail: Rate,
    pub sign_up_network: Rate,
    pub address_change: Rate,
    pub api_key: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        const fn per(burst: u32, minutes: u64) -> Rate {
            Rate::new(burst, Duration::from_mins(minutes))
        }
        Self {
            enabled: true,
            link_address_network: per(4, 15),
            link_address: per(10, 60),
            link_known_browser: per(5, 15),
            link_network: per(30, 15),
            link_all: per(2_000, 1),
            code_network: per(30, 15),
            totp_account: per(5, 15),
            backup_account: per(5, 60),
            step_up_account: per(10, 15),
            step_up_mail: per(5, 60),
            sign_up_network: per(20, 60),
            address_change: per(5, 24 * 60),
            api_key: per(600, 1),
        }
    }
}

impl Limits {
    #[must_use]
    pub fn rate(&self, limit: Limit) -> Rate {
        match limit {
            Limit::LinkAddressNetwork => self.link_address_network,
            Limit::LinkAddress => self.link_address,
            Limit::LinkKnownBrowser => self.link_known_browser,
            Limit::LinkNetwork => self.link_network,
            Limit::LinkAll => self.link_all,
            Limit::LinkBrowser => Rate::new(1, Duration::from_secs(30)),
            Limit::CodeNetwork | Limit::CodeKnownBrowser => self.code_network,
            Limit::TotpAccount | Limit::TotpKnownBrowser => self.totp_account,
            Limit::BackupAccount | Limit::BackupKnownBrowser => self.backup_account,
            Limit::StepUpAccount | Limit::StepUpKnownBrowser => self.step_up_account,
            Limit::StepUpMail => self.step_up_mail,
            Limit::CodeAddress => Rate::new(30, Duration::from_hours(24)),
            Limit::SignUpNetwork => self.sign_up_network,
            Limit::AddressChange => self.address_change,
            Limit::ApiKey => self.api_key,
            Limit::Notice => Rate::new(1, Duration::from_hours(1)),
            Limit::MailTest => Rate::new(5, Duration::from_mins(15)),
        }
    }
}
