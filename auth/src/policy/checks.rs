//! What stops a rollout: each check is one number, and a limit. How it is measured lies in `rollout`.

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, EnumString, IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Check {
    /// Percent of links and codes that signed nobody in, of the last hour's.
    FailedVerifications,
    /// Sign-in mails that one network asked for within an hour.
    Burst,
    /// Wrong second factors of one account within an hour.
    SecondFactorFailures,
    /// Seconds from asked for to sent, of the slowest twentieth of the last quarter of an hour's mails at least.
    MailDelay,
    /// Percent of answers that were a 500, in the last quarter of an hour. A 503 is none: enough strangers can bring those about.
    ServerErrors,
    /// 1 where no audit row can be written.
    Audit,
    /// Mails that wait while no mail server takes any, or nobody sends.
    MailStuck,
    /// Secrets that lie under a key nobody has.
    Keys,
}

named!(Check);

impl Check {
    /// Over it, the rollout is held.
    #[must_use]
    pub fn limit(self) -> f64 {
        match self {
            Self::FailedVerifications => 5.0,
            Self::Burst => 100.0,
            Self::SecondFactorFailures => 10.0,
            Self::MailDelay => 60.0,
            Self::ServerErrors => 1.0,
            Self::Audit | Self::Keys => 0.0,
            Self::MailStuck => 2.0,
        }
    }

    /// Only we can bring it about. What strangers can bring about never turns the flag off: they could roll us back.
    #[must_use]
    pub fn is_ours(self) -> bool {
        match self {
            Self::ServerErrors | Self::Audit | Self::MailStuck | Self::Keys => true,
            Self::FailedVerifications | Self::Burst | Self::SecondFactorFailures | Self::MailDelay => false,
        }
    }

    /// So far over its limit that there is nothing to wait for.
    pub(crate) fn is_severe(self, value: f64) -> bool {
        match self {
            Self::ServerErrors => value > 10.0,
            Self::MailStuck => value >= 50.0,
            // A single failed look at the audit or at the keys may be chance; ten minutes of them are not.
            _ => false,
        }
    }
}
