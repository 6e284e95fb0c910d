//! What happened to an account in the last 90 days, for its owner, the newest first.
//!
//! Not here: the audit for those who may read all of it (`audit`).
//! To add one: an event's name in one of the lists below, its words in `app/src/ui/event_text.rs`.
//!
//! It is the audit's rows about the account, and the sign-in mails asked for with its address.

mod store;

use std::net::IpAddr;

use serde_json::Value;
use strum::{EnumString, IntoStaticStr, VariantArray};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::{
    Error, SelfService,
    primitives::cursor::{Cursor, Page},
};

/// As long as requests and sessions are kept after their end.
const SHOWN_FOR: Duration = Duration::days(90);
/// Entries on one page.
pub const PAGE: usize = 20;

/// Signing in and out.
const SIGN_INS: [&str; 2] = ["session.created", "session.revoked"];
/// What an account is, and how it is reached.
const CHANGES: [&str; 27] = [
    "user.created",
    "user.disabled",
    "user.enabled",
    "user.sessions_ended",
    "limit.released",
    "admin.granted",
    "admin.revoked",
    "totp.enrolled",
    "totp.removed",
    "backup_codes.saved",
    "backup_code.used",
    "two_factor.turned_off",
    "two_factor.reset",
    "two_factor.reset_requested",
    "two_factor.reset_stopped",
    "device.trusted",
    "device.revoked",
    "browser.forgotten",
    "email.change_requested",
    "email.changed",
    "email.change_undone",
    "name.changed",
    "account.exported",
    "account.deletion_requested",
    "account.deletion_cancelled",
    "api_key.created",
    "api_key.revoked",
];
/// What did not work, and may have been somebody else.
const PROBLEMS: [&str; 6] =
    ["totp.refused", "totp.locked", "totp.unreadable", "backup_code.refused", "step_up.refused", "email.change_refused"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Filter {
    #[default]
    All,
    SignIns,
    Changes,
    Problems,
}

named!(Filter);

impl Filter {
    fn events(self) -> Vec<String> {
        let lists: &[&[&str]] = match self {
            Self::All => &[&SIGN_INS, &CHANGES, &PROBLEMS],
            Self::SignIns => &[&SIGN_INS],
            Self::Changes => &[&CHANGES],
            Self::Problems => &[&PROBLEMS],
        };
        lists.concat().into_iter().map(ToOwned::to_owned).collect()
    }

    /// Whether the mails asked for are among it.
    fn mails(self) -> bool {
        matches!(self, Self::All | Self::SignIns)
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub id: Uuid,
    pub at: OffsetDateTime,
    /// The event's name.
    pub happened: String,
    pub details: Value,
    /// None where somebody else did it: an administrator's device and network are nobody's business but the audit's.
    pub device: Option<String>,
    pub ip: Option<IpAddr>,
    /// An administrator or an operator did it.
    pub by_other: bool,
}

impl SelfService<'_> {
    /// A page of what happened to an account; without a cursor, the newest.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn activity(self, user: Uuid, filter: Filter, cursor: Option<Cursor>) -> Result<Page<Entry>, Error> {
        let since = self.0.now() - SHOWN_FOR;
        let entries = store::page(&self.0.pool, user, filter, since, cursor).await?;
        Ok(Page::new(entries, PAGE, cursor, |entry| (entry.at, entry.id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_have_names() {
        for filter in Filter::ALL {
            assert_eq!(Filter::parse(filter.as_str()), Some(*filter));
        }
        assert_eq!(Filter::parse("everything"), None);
    }
}
