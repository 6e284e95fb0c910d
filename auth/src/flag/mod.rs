//! Feature flags: who has a feature already.
//!
//! Not here: changing a flag by hand or by a plan (`rollout`).
//! To add one: a row (`latchkey flag set NAME …`); what asks for it names its key.
//!
//! A flag is a row: addresses that are in by name, a percentage of the administrators, a percentage of everyone; who fits any of them
//! is in. Each process keeps what it read last and looks again every two seconds, or at once where it is told that a flag has changed.
//! A flag that can't be read stays as it was; one that was never read is unknown, and what asks for it fails.

pub(crate) mod store;

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sqlx::postgres::PgListener;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Error, Flags,
    crypto::sha256,
    event::{Event, FlagState, UnitOfWork},
    identity::{Actor, Origin},
    primitives::email_address::{self, EmailAddress},
    reporting::gauges,
};

/// Signing in by mail, and with it the second factor of such a sign-in.
pub const PASSWORDLESS_AUTH: &str = "passwordless_auth";
/// Told of on this channel, so that other processes need not wait for their next look.
const CHANNEL: &str = "latchkey_flags";
/// Looking is the truth; being told only makes it faster. A change is everywhere within five seconds.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Addresses that a flag should let in by name, at most: every process keeps them, and looks through them at every sign-in.
pub const MOST_ALLOWED: usize = 1_000;

/// Who a flag lets in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flag {
    /// Addresses, as they are compared: sorted, each once.
    pub allowed: Vec<String>,
    pub percent_admins: u8,
    pub percent_everyone: u8,
}

/// How far a flag goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Nobody,
    Some,
    Everyone,
}

impl Flag {
    fn state(&self) -> FlagState {
        let Self { allowed, percent_admins, percent_everyone } = self;
        FlagState { addresses: allowed.len(), percent_admins: *percent_admins, percent_everyone: *percent_everyone }
    }

    pub const ON: Self = Self { allowed: Vec::new(), percent_admins: 0, percent_everyone: 100 };
    pub const OFF: Self = Self { allowed: Vec::new(), percent_admins: 0, percent_everyone: 0 };

    #[must_use]
    pub fn reach(&self) -> Reach {
        if self.percent_everyone >= 100 {
            Reach::Everyone
        } else if self.percent_everyone == 0 && self.percent_admins == 0 && self.allowed.is_empty() {
            Reach::Nobody
        } else {
            Reach::Some
        }
    }

    /// Whether the account or would-be account with this address is in. `email_key`: the address as it is compared.
    #[must_use]
    pub fn admits(&self, key: &str, email_key: &str, admin: bool) -> bool {
        let bucket = bucket(key, email_key);
        bucket < self.percent_everyone
            || (admin && bucket < self.percent_admins)
            || self.allowed.binary_search_by(|allowed| allowed.as_str().cmp(email_key)).is_ok()
    }

    pub(crate) fn changed_by(&self, change: &Change) -> Self {
        let mut flag = self.clone();
        match change {
            Change::On => flag.percent_everyone = 100,
            Change::Off => flag = Self::OFF,
            Change::Percent(percent, Of::Admins) => flag.percent_admins = *percent,
            Change::Percent(percent, Of::Everyone) | Change::To(Target::Everyone(percent)) => flag.percent_everyone = *percent,
            Change::To(Target::Named) => (flag.percent_admins, flag.percent_everyone) = (0, 0),
            Change::To(Target::Admins(percent)) => (flag.percent_admins, flag.percent_everyone) = (*percent, 0),
            Change::Set(wanted) => {
                flag.clone_from(wanted);
                flag.allowed.sort_unstable();
                flag.allowed.dedup();
            }
            Change::Allow(email) => {
                if let Err(place) = flag.allowed.binary_search_by(|allowed| allowed.as_str().cmp(email.key())) {
                    flag.allowed.insert(place, email.key().to_owned());
                }
            }
            Change::Disallow(email) => flag.allowed.retain(|allowed| allowed != email.key()),
        }
        flag
    }
}

/// Where in a hundred parts an address lies, the same on every instance and for good: the first eight bytes of SHA-256 over the flag's
/// key, a zero byte and the address as it is compared, read as a big-endian number and scaled to 0–99. Each flag cuts the addresses
/// anew, so that it isn't always the same people who go first. Test vectors: `docs/flags.md`.
#[must_use]
pub fn bucket(key: &str, email_key: &str) -> u8 {
    let hash = sha256(format!("{key}\0{email_key}").as_bytes());
    let number = u64::from_be_bytes(hash[..8].try_into().expect("a hash has 32 bytes"));
    u8::try_from((u128::from(number) * 100) >> 64).expect("it is less than 100")
}

/// A flag's key: lower-case letters, digits and underscores, a letter first.
#[must_use]
pub fn is_key(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Admins,
    Everyone,
}

/// Whom a step lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// Those the flag names, and nobody else.
    Named,
    Admins(u8),
    Everyone(u8),
}

/// What is done to a flag by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// 100 % of everyone.
    On,
    /// Nobody: no address, no percentage.
    Off,
    /// At most 100.
    Percent(u8, Of),
    /// To whom a step of a rollout lets in, also downwards.
    To(Target),
    /// Exactly so.
    Set(Flag),
    Allow(EmailAddress),
    Disallow(EmailAddress),
}

/// A flag's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagRow {
    pub key: String,
    pub flag: Flag,
    pub updated_at: OffsetDateTime,
    /// An account's id, `operator`, `api_key`, or `rollout`.
    pub updated_by: String,
    pub reason: String,
}

/// What this process knows of the flags: nothing until it has read them once.
#[derive(Default)]
pub(crate) struct Known(RwLock<Option<Arc<BTreeMap<String, Flag>>>>);

impl Known {
    fn get(&self) -> Option<Arc<BTreeMap<String, Flag>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, flags: Arc<BTreeMap<String, Flag>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(flags);
    }
}

impl Flags<'_> {
    /// The flag as this process knows it, for callers that have read the flags.
    #[must_use]
    pub fn get(self, key: &str) -> Flag {
        self.0.flags.get().map_or(Flag::OFF, |flags| self.ask(&flags, key, Flag::clone))
    }

    /// Asks the flag something where it lies: every sign-in page asks, and a flag may name a thousand addresses.
    fn ask<T>(self, flags: &BTreeMap<String, Flag>, key: &str, ask: impl FnOnce(&Flag) -> T) -> T {
        match flags.get(key) {
            Some(flag) => ask(flag),
            None => ask(&self.without_row(key)),
        }
    }

    /// What this process knows, read now if it was never read: a server may start while the database is away, and whoever took that for
    /// "off" would tell people that sign-in isn't available to them.
    async fn known(self) -> sqlx::Result<Arc<BTreeMap<String, Flag>>> {
        match self.0.flags.get() {
            Some(flags) => Ok(flags),
            None => self.read_anew().await,
        }
    }

    /// Where the table has no row, the environment speaks.
    fn without_row(self, key: &str) -> Flag {
        if key == PASSWORDLESS_AUTH && self.0.policy.passwordless_auth { Flag::ON } else { Flag::OFF }
    }

    /// Whether signing in by mail is off for everyone.
    ///
    /// # Errors
    /// When the flags were never read, and the database does not answer.
    pub async fn sign_in_is_off(self) -> Result<bool, Error> {
        Ok(self.ask(&*self.known().await?, PASSWORDLESS_AUTH, Flag::reach) == Reach::Nobody)
    }

    pub(crate) async fn signs_in(self, email_key: &str, admin: bool) -> sqlx::Result<bool> {
        Ok(self.ask(&*self.known().await?, PASSWORDLESS_AUTH, |flag| flag.admits(PASSWORDLESS_AUTH, email_key, admin)))
    }

    /// Reads all flags anew.
    ///
    /// # Errors
    /// When the database does not answer. What was known stays known.
    pub async fn read(self) -> Result<(), Error> {
        self.read_anew().await?;
        Ok(())
    }

    async fn read_anew(self) -> sqlx::Result<Arc<BTreeMap<String, Flag>>> {
        let rows = store::all(&self.0.pool).await?;
        let flags: BTreeMap<String, Flag> = rows.into_iter().map(|row| (row.key, row.flag)).collect();
        let ours = flags.get(PASSWORDLESS_AUTH).cloned().unwrap_or_else(|| self.without_row(PASSWORDLESS_AUTH));
        metrics::gauge!("rollout_percent", "flag" => PASSWORDLESS_AUTH).set(f64::from(ours.percent_everyone));
        let flags = Arc::new(flags);
        self.0.flags.set(flags.clone());
        Ok(flags)
    }

    /// Keeps what this process knows of the flags up to date, until told to stop.
    pub async fn watch(self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut listener = None;
        loop {
            if listener.is_none() {
                listener = self.listen().await.inspect_err(|error| tracing::warn!(%error, "flags.listen_failed")).ok();
            }
            // After listening began, or a change between the two would be heard by nobody.
            if let Err(error) = self.read().await {
                tracing::warn!(error = %error, "flags.read_failed");
            }
            let told = async {
                match &mut listener {
                    Some(listener) => listener.recv().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            gauges::heartbeat("flags", self.0.now());
            tokio::select! {
                () = &mut stop => return,
                heard = told => if !heard { listener = None },
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn listen(self) -> sqlx::Result<PgListener> {
        let mut listener = PgListener::connect_with(&self.0.pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(listener)
    }

    /// All flags, as the table has them now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn rows(self) -> Result<Vec<FlagRow>, Error> {
        Ok(store::all(&self.0.pool).await?)
    }

    /// The flag as its row has it, which nobody else changes until the transaction is over.
    pub(crate) async fn lock(self, work: &mut UnitOfWork<'_>, key: &str) -> sqlx::Result<Flag> {
        // Made first where there is none, with what holds without it.
        let now = work.now();
        store::make(work.connection(), key, &self.without_row(key), now).await?;
        store::lock(work.connection(), key).await
    }

    /// Changes a flag as part of a larger change. `None` where it is so already.
    pub(crate) async fn write(
        self,
        work: &mut UnitOfWork<'_>,
        key: &str,
        by: By,
        reason: &str,
        change: impl FnOnce(&Flag) -> Flag,
    ) -> sqlx::Result<Option<Flag>> {
        let before = self.lock(work, key).await?;
        let after = change(&before);
        if after == before {
            return Ok(None);
        }
        let now = work.now();
        store::write(work.connection(), key, &after, &by.text(), reason, now, CHANNEL).await?;
        let named = |list: &Flag, other: &Flag| {
            let only = list.allowed.iter().find(|email| !other.allowed.contains(email));
            only.map(|email| email_address::masked(email))
        };
        work.record(Event::FlagChanged {
            flag: key.to_owned(),
            allowed: named(&after, &before),
            disallowed: named(&before, &after),
            before: before.state(),
            after: after.state(),
            by: by.origin(),
            reason: reason.to_owned(),
        });
        Ok(Some(after))
    }
}

/// Who changes a flag.
#[derive(Debug, Clone, Copy)]
pub(crate) enum By {
    Operator,
    Admin(Uuid),
    /// A program; the audit row's actor is its key.
    Key,
    Rollout,
}

impl By {
    /// For the row.
    pub fn text(self) -> String {
        match self {
            Self::Operator => "operator".to_owned(),
            Self::Admin(id) => id.to_string(),
            Self::Key => "api_key".to_owned(),
            Self::Rollout => "rollout".to_owned(),
        }
    }

    fn origin(self) -> Origin {
        match self {
            Self::Operator => Origin::Operator,
            Self::Admin(_) => Origin::Admin,
            Self::Key => Origin::ApiKey,
            Self::Rollout => Origin::Rollout,
        }
    }
}

impl From<Actor<'_>> for By {
    fn from(who: Actor<'_>) -> Self {
        match who {
            Actor::Operator => Self::Operator,
            Actor::Admin { authority, .. } => Self::Admin(authority.user),
            Actor::Key { .. } => Self::Key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percent(percent_everyone: u8) -> Flag {
        Flag { percent_everyone, ..Flag::OFF }
    }

    #[test]
    fn the_published_vectors_hold() {
        let table = include_str!("../../../docs/flags.md");
        let rows: Vec<Vec<&str>> = table
            .lines()
            .filter(|line| line.starts_with("| `passwordless_auth`") || line.starts_with("| `second_flag`"))
            .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`')).collect())
            .collect();
        assert!(rows.len() >= 6);
        for row in rows {
            assert_eq!(bucket(row[0], row[1]).to_string(), row[2], "{row:?}");
        }
    }

    #[test]
    fn a_hundred_thousand_addresses_land_within_half_a_percent_and_nobody_leaves_as_the_number_grows() {
        let addresses: Vec<String> = (0..100_000).map(|n| format!("person{n}@example{}.org", n % 7)).collect();
        let mut before: Vec<bool> = vec![false; addresses.len()];
        for share in [0, 5, 25, 60, 100] {
            let flag = percent(share);
            let inside: Vec<bool> = addresses.iter().map(|address| flag.admits(PASSWORDLESS_AUTH, address, false)).collect();
            let count = inside.iter().filter(|inside| **inside).count();
            let off = (i64::try_from(count).expect("small") - i64::from(share) * 1_000).abs();
            assert!(off <= 500, "{share} %: {count}");
            assert!(before.iter().zip(&inside).all(|(before, now)| !before || *now), "{share} %: somebody left");
            before = inside;
        }
    }

    #[test]
    fn each_flag_cuts_the_addresses_anew() {
        let same = (0..1_000).filter(|n| {
            let address = format!("person{n}@example.org");
            (bucket("one", &address) < 10) && (bucket("another", &address) < 10)
        });
        assert!((1..40).contains(&same.count()), "about a hundredth");
    }

    #[test]
    fn who_fits_any_of_three_is_in() {
        let somebody =
            (0..10_000).map(|n| format!("p{n}@example.org")).find(|email| bucket("f", email) == 30).expect("one of them");
        let flag = |allowed: &[&str], percent_admins, percent_everyone| Flag {
            allowed: allowed.iter().map(|text| (*text).to_owned()).collect(),
            percent_admins,
            percent_everyone,
        };
        for (flag, admin, inside) in [
            (Flag::OFF, true, false),
            (Flag::ON, false, true),
            (flag(&[], 0, 30), false, false),
            (flag(&[], 0, 31), false, true),
            (flag(&[], 31, 0), false, false),
            (flag(&[], 31, 0), true, true),
            (flag(&[], 30, 0), true, false),
            (flag(&["a@example.org", somebody.as_str(), "z@example.org"], 0, 0), false, true),
        ] {
            assert_eq!(flag.admits("f", &somebody, admin), inside, "{flag:?} {admin}");
        }
    }

    #[test]
    fn how_far_it_goes() {
        assert_eq!(Flag::OFF.reach(), Reach::Nobody);
        assert_eq!(Flag::ON.reach(), Reach::Everyone);
        assert_eq!(percent(1).reach(), Reach::Some);
        assert_eq!(Flag { percent_admins: 100, ..Flag::OFF }.reach(), Reach::Some);
        assert_eq!(Flag { allowed: vec!["a@example.org".to_owned()], ..Flag::OFF }.reach(), Reach::Some);
    }

    #[test]
    fn off_clears_all_three_and_a_later_allow_lets_that_one_in() {
        let email = |text| EmailAddress::parse(text).expect("an address");
        let flag = Flag { allowed: vec!["b@example.org".to_owned()], percent_admins: 5, percent_everyone: 25 };
        assert_eq!(flag.changed_by(&Change::Off), Flag::OFF);
        let allowed =
            Flag::OFF.changed_by(&Change::Allow(email("C@example.org"))).changed_by(&Change::Allow(email("a@example.org")));
        assert_eq!(allowed.allowed, ["a@example.org", "c@example.org"], "sorted, or it would not be found");
        assert_eq!(allowed.changed_by(&Change::Allow(email("a@EXAMPLE.org"))), allowed);
        assert_eq!(allowed.changed_by(&Change::Disallow(email("a@example.org"))).allowed, ["c@example.org"]);
        assert_eq!(flag.changed_by(&Change::On).percent_everyone, 100);
        assert_eq!(flag.changed_by(&Change::Percent(40, Of::Admins)), Flag { percent_admins: 40, ..flag });
    }

    #[test]
    fn keys_are_plain_names() {
        for (text, is) in [("passwordless_auth", true), ("v2", true), ("", false), ("2v", false), ("A", false), ("a-b", false)] {
            assert_eq!(is_key(text), is, "{text}");
        }
        assert!(!is_key(&"a".repeat(65)));
    }
}
