//! What happened to an account, for its owner: the audit's rows about it in the last 90 days, and the sign-in mails asked for with
//! its address, newest first.

mod store;

use std::{fmt, net::IpAddr};

use serde_json::Value;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::{Auth, Error};

/// As long as requests and sessions are kept after their end.
const SHOWN_FOR: Duration = Duration::days(90);
/// Entries on one page.
pub const PAGE: usize = 20;

/// Signing in and out.
const SIGN_INS: [&str; 2] = ["session.created", "session.revoked"];
/// What an account is, and how it is reached.
const CHANGES: [&str; 21] = [
    "user.created",
    "user.disabled",
    "user.enabled",
    "user.sessions_ended",
    "admin.granted",
    "admin.revoked",
    "totp.enrolled",
    "totp.removed",
    "backup_codes.saved",
    "backup_code.used",
    "two_factor.turned_off",
    "two_factor.reset",
    "device.trusted",
    "device.revoked",
    "email.change_requested",
    "email.changed",
    "email.change_undone",
    "name.changed",
    "account.exported",
    "account.deletion_requested",
    "account.deletion_cancelled",
];
/// What did not work, and may have been somebody else.
const PROBLEMS: [&str; 6] =
    ["totp.refused", "totp.locked", "totp.unreadable", "backup_code.refused", "step_up.refused", "email.change_refused"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Filter {
    #[default]
    All,
    SignIns,
    Changes,
    Problems,
}

impl Filter {
    pub const ALL: [Self; 4] = [Self::All, Self::SignIns, Self::Changes, Self::Problems];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::SignIns => "sign-ins",
            Self::Changes => "changes",
            Self::Problems => "problems",
        }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|filter| filter.as_str() == text)
    }

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

/// Up to [`PAGE`] entries, the newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Activity {
    pub entries: Vec<Entry>,
    pub newer: Option<Cursor>,
    pub older: Option<Cursor>,
}

/// A place between two entries, and which way to go from there. Its text is for a URL; whoever changes it gets another page of
/// the same account's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    towards: Towards,
    at: OffsetDateTime,
    id: Uuid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Towards {
    Newer,
    Older,
}

impl Cursor {
    fn beside(entry: &Entry, towards: Towards) -> Self {
        Self { towards, at: entry.at, id: entry.id }
    }

    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (towards, rest) = match (text.strip_prefix('n'), text.strip_prefix('o')) {
            (Some(rest), _) => (Towards::Newer, rest),
            (_, Some(rest)) => (Towards::Older, rest),
            _ => return None,
        };
        let (micros, id) = rest.split_once('-')?;
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros.parse::<i64>().ok()?) * 1_000).ok()?;
        Some(Self { towards, at, id: Uuid::try_parse(id).ok()? })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let towards = match self.towards {
            Towards::Newer => 'n',
            Towards::Older => 'o',
        };
        // PostgreSQL keeps microseconds.
        write!(f, "{towards}{}-{}", self.at.unix_timestamp_nanos() / 1_000, self.id.simple())
    }
}

impl Auth {
    /// A page of what happened to an account; without a cursor, the newest.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn activity(&self, user: Uuid, filter: Filter, cursor: Option<Cursor>) -> Result<Activity, Error> {
        let since = self.now() - SHOWN_FOR;
        let towards = cursor.map_or(Towards::Older, |cursor| cursor.towards);
        let mut entries = store::page(&self.pool, user, filter, since, cursor).await?;
        let more = entries.len() > PAGE;
        entries.truncate(PAGE);
        if towards == Towards::Newer {
            entries.reverse();
        }
        let beside = |entry: Option<&Entry>, towards| entry.map(|entry| Cursor::beside(entry, towards));
        let (first, last) = (entries.first(), entries.last());
        let (newer, older) = match towards {
            Towards::Older => (cursor.and(beside(first, Towards::Newer)), more.then(|| beside(last, Towards::Older)).flatten()),
            Towards::Newer => (more.then(|| beside(first, Towards::Newer)).flatten(), beside(last, Towards::Older)),
        };
        Ok(Activity { entries, newer, older })
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_cursor_survives_its_text_and_nothing_else_is_one() {
        for towards in [Towards::Newer, Towards::Older] {
            let cursor = Cursor { towards, at: datetime!(2026-11-24 14:29:31.123456 UTC), id: Uuid::from_u128(7) };
            assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        }
        for text in ["", "o", "o1", "x1-00000000000000000000000000000007", "o99999999999999999999-0", "o1-zz", "oé-1"] {
            assert_eq!(Cursor::parse(text), None, "{text}");
        }
    }

    #[test]
    fn filters_have_names() {
        for filter in Filter::ALL {
            assert_eq!(Filter::parse(filter.as_str()), Some(filter));
        }
        assert_eq!(Filter::parse("everything"), None);
    }
}
