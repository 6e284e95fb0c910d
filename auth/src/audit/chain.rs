//! Rows as they are hashed, and the batches that hold them: what is sealed (`seal.rs`) and what is compared later (`verify.rs`).

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::digest::{Context, SHA256};
use data_encoding::HEXLOWER;
use serde::Serialize;
use strum::{EnumString, IntoStaticStr};
use time::{Date, Duration, OffsetDateTime};
use uuid::Uuid;

use crate::crypto::sha256;

/// Bytes of a row's hash that stay in the batch.
pub(super) const FINGERPRINT: usize = 8;

/// Rows are sealed within a minute or two. A row that was sealed later than this may have been changed first: by somebody who stopped the
/// sealing, or who deleted its batch so that a server sealed it anew.
pub(super) const LATE: Duration = Duration::minutes(10);

/// The newest batch. Kept elsewhere (a log line has it), it shows later that no end was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub number: i64,
    pub hash: [u8; 32],
}

impl Head {
    /// Enough of the hash to tell two chains apart, short enough to copy by hand.
    #[must_use]
    pub fn prefix(&self) -> String {
        HEXLOWER.encode(&self.hash[..8])
    }
}

/// With the whole hash: even somebody who has the key can't make another chain that ends in it.
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.number, HEXLOWER.encode(&self.hash))
    }
}

/// A head as somebody wrote it down: `4812:9f86d081884c7d65`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownHead {
    pub number: i64,
    pub prefix: String,
}

impl KnownHead {
    /// At least 8 hexadecimal digits of the hash.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (number, prefix) = text.split_once(':')?;
        let number = number.parse().ok().filter(|number| *number > 0)?;
        let prefix = prefix.to_ascii_lowercase();
        let is_hash = (8..=64).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash.then_some(Self { number, prefix })
    }

    pub(super) fn is(&self, hash: &[u8; 32]) -> bool {
        HEXLOWER.encode(hash).starts_with(&self.prefix)
    }
}

/// A place in the order in which rows are sealed: by number; among those older than numbers, by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub position: i64,
    /// Above all rows of a number where there is nothing here.
    pub row: (bool, Option<(OffsetDateTime, Uuid)>),
}

impl Mark {
    /// Before every row.
    pub const START: Self = Self { position: i64::MIN, row: (true, None) };
    /// After the rows that are older than numbers.
    pub const NUMBERED: Self = Self::after(0);

    pub const fn after(position: i64) -> Self {
        Self { position, row: (true, None) }
    }

    pub const fn at(position: i64, at: OffsetDateTime, id: Uuid) -> Self {
        Self { position, row: (false, Some((at, id))) }
    }

    /// The last row before numbers that is covered, where there are more.
    pub fn among_old(&self) -> bool {
        self.position == 0 && self.row.1.is_some()
    }
}

/// A row with every column it has, as it is hashed. Text as PostgreSQL writes it: what is read back is the same in every version of
/// ours.
pub(super) struct Row {
    pub id: Uuid,
    pub position: i64,
    pub created_at: OffsetDateTime,
    pub event_type: String,
    pub user_id: Option<Uuid>,
    pub actor_id: Option<Uuid>,
    pub ip: Option<String>,
    pub user_agent: Option<String>,
    pub request_id: Option<String>,
    pub details: String,
}

impl Row {
    /// Every column in a fixed order, each with its length: no two rows have the same bytes.
    pub fn hash(&self) -> [u8; 32] {
        let mut bytes = Vec::with_capacity(512);
        let mut field = |value: Option<&[u8]>| match value {
            None => bytes.push(0),
            Some(value) => {
                bytes.push(1);
                bytes.extend_from_slice(&(value.len() as u64).to_be_bytes());
                bytes.extend_from_slice(value);
            }
        };
        field(Some(b"latchkey audit row 1"));
        field(Some(self.id.as_bytes()));
        field(Some(&self.position.to_be_bytes()));
        field(Some(&micros(self.created_at).to_be_bytes()));
        field(Some(self.event_type.as_bytes()));
        field(self.user_id.as_ref().map(|id| id.as_bytes().as_slice()));
        field(self.actor_id.as_ref().map(|id| id.as_bytes().as_slice()));
        field(self.ip.as_deref().map(str::as_bytes));
        field(self.user_agent.as_deref().map(str::as_bytes));
        field(self.request_id.as_deref().map(str::as_bytes));
        field(Some(self.details.as_bytes()));
        sha256(&bytes)
    }

    /// Bytes of its text, which is all of it that can be long.
    pub fn size(&self) -> usize {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.event_type.len() + self.details.len() + optional(&self.user_agent) + optional(&self.request_id)
    }

    pub fn month(&self) -> Date {
        month_of(self.created_at)
    }

    pub fn mark(&self) -> Mark {
        Mark::at(self.position, self.created_at, self.id)
    }
}

/// PostgreSQL keeps microseconds.
fn micros(at: OffsetDateTime) -> i128 {
    at.unix_timestamp_nanos() / 1_000
}

/// The first day of the month, by UTC: the partition's.
pub(super) fn month_of(at: OffsetDateTime) -> Date {
    let date = at.to_utc().date();
    date.replace_day(1).unwrap_or(date)
}

/// Rows of a batch, one after another: all that has to be kept of them.
pub(super) struct Rows {
    pub count: i64,
    pub first_at: Option<OffsetDateTime>,
    pub last_at: Option<OffsetDateTime>,
    pub fingerprints: Vec<u8>,
    hash: Context,
}

impl Rows {
    pub fn new() -> Self {
        Self { count: 0, first_at: None, last_at: None, fingerprints: Vec::new(), hash: Context::new(&SHA256) }
    }

    /// Of rows that other batches hold.
    pub fn elsewhere(count: i64, first_at: Option<OffsetDateTime>, last_at: Option<OffsetDateTime>) -> Self {
        Self { count, first_at, last_at, ..Self::new() }
    }

    pub fn push(&mut self, row: &Row) {
        let hash = row.hash();
        self.hash.update(&hash);
        self.fingerprints.extend_from_slice(&hash[..FINGERPRINT]);
        self.count += 1;
        let at = row.created_at;
        self.first_at = Some(self.first_at.map_or(at, |first| first.min(at)));
        self.last_at = Some(self.last_at.map_or(at, |last| last.max(at)));
    }

    pub fn hash(&self) -> [u8; 32] {
        self.hash.clone().finish().as_ref().try_into().expect("SHA-256 is 32 bytes long")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub(super) enum Kind {
    Rows,
    /// The month's partition was dropped because its time was over.
    Dropped,
    /// An operator knows why batches before this one were sealed late.
    Accepted,
}

/// A batch as it stands in the database.
pub(super) struct Seal {
    pub number: i64,
    pub kind: Kind,
    pub month: Date,
    pub to: Mark,
    pub rows: i64,
    pub first_at: Option<OffsetDateTime>,
    pub last_at: Option<OffsetDateTime>,
    pub rows_hash: [u8; 32],
    pub sealed_at: OffsetDateTime,
    pub hash: [u8; 32],
    pub key_id: String,
    pub mac: Vec<u8>,
}

impl Seal {
    /// What it holds stood there unsealed for long.
    pub fn is_late(&self) -> bool {
        self.kind == Kind::Rows && self.first_at.is_some_and(|first| self.sealed_at - first > LATE)
    }

    /// What stands in `hash`, where nothing was touched. `before`: the hash of the batch before; zeros before the first. `ours`: a key
    /// of ours vouched for that one, and so for all before it. It is a part of the chain, where it outlives the key.
    pub fn hash_after(&self, before: &[u8; 32], ours: bool) -> [u8; 32] {
        let time = |at: Option<OffsetDateTime>| at.map_or(i128::MIN, micros).to_be_bytes();
        let (to_at, to_id) = self.to.row.1.unzip();
        let mut hash = Context::new(&SHA256);
        hash.update(if ours { b"latchkey audit seal 1\0" } else { b"latchkey audit seal 1 alone\0" });
        hash.update(&self.number.to_be_bytes());
        // One length each, and none is the other's beginning.
        hash.update(&[match self.kind {
            Kind::Rows => 0,
            Kind::Dropped => 1,
            Kind::Accepted => 2,
        }]);
        hash.update(&self.month.to_julian_day().to_be_bytes());
        hash.update(&self.to.position.to_be_bytes());
        hash.update(&time(to_at));
        hash.update(to_id.unwrap_or_default().as_bytes());
        hash.update(&self.rows.to_be_bytes());
        hash.update(&time(self.first_at));
        hash.update(&time(self.last_at));
        hash.update(&self.rows_hash);
        hash.update(&time(Some(self.sealed_at)));
        hash.update(before);
        hash.finish().as_ref().try_into().expect("SHA-256 is 32 bytes long")
    }
}

/// Batches that were sealed late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Late {
    pub batches: i64,
    pub rows: i64,
    /// When the rows were made.
    pub first_at: Option<OffsetDateTime>,
    pub last_at: Option<OffsetDateTime>,
}

/// What the last scheduled verification said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastVerified {
    pub at: OffsetDateTime,
    pub head: i64,
    pub rows: i64,
    /// How many of each kind.
    pub findings: BTreeMap<String, u64>,
}

impl LastVerified {
    /// What the key vouches for.
    pub(super) fn hash(&self) -> [u8; 32] {
        let mut hash = Context::new(&SHA256);
        hash.update(b"latchkey audit verification 1\0");
        hash.update(&micros(self.at).to_be_bytes());
        hash.update(&self.head.to_be_bytes());
        hash.update(&self.rows.to_be_bytes());
        for (problem, count) in &self.findings {
            hash.update(&(problem.len() as u64).to_be_bytes());
            hash.update(problem.as_bytes());
            hash.update(&count.to_be_bytes());
        }
        hash.finish().as_ref().try_into().expect("SHA-256 is 32 bytes long")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::{date, datetime};

    fn row() -> Row {
        Row {
            id: Uuid::from_u128(7),
            position: 3,
            created_at: datetime!(2026-11-24 14:29:31.123456 UTC),
            event_type: "session.created".to_owned(),
            user_id: Some(Uuid::from_u128(8)),
            actor_id: None,
            ip: Some("203.0.113.24/32".to_owned()),
            user_agent: None,
            request_id: Some("r".to_owned()),
            details: "{}".to_owned(),
        }
    }

    #[test]
    fn every_column_is_hashed_and_nothing_moves_from_one_to_the_next() {
        let changes: [fn(&mut Row); 13] = [
            |_| {},
            |row| row.id = Uuid::from_u128(9),
            |row| row.position = 4,
            |row| row.created_at += Duration::microseconds(1),
            |row| row.event_type.push('x'),
            |row| row.user_id = None,
            |row| (row.user_id, row.actor_id) = (None, row.user_id),
            |row| row.ip = None,
            |row| row.user_agent = Some(String::new()),
            |row| (row.user_agent, row.request_id) = (row.request_id.take(), None),
            |row| row.request_id = Some("R".to_owned()),
            |row| row.details = "{ }".to_owned(),
            |row| (row.request_id, row.details) = (Some("r{".to_owned()), "}".to_owned()),
        ];
        let hashes: std::collections::BTreeSet<[u8; 32]> = changes
            .iter()
            .map(|change| {
                let mut row = row();
                change(&mut row);
                row.hash()
            })
            .collect();
        assert_eq!(hashes.len(), changes.len());
    }

    #[test]
    fn a_batch_hash_depends_on_everything_in_it_and_before_it() {
        let seal = |change: fn(&mut Seal)| {
            let mut seal = Seal {
                number: 2,
                kind: Kind::Rows,
                month: date!(2026 - 11 - 01),
                to: Mark::after(9),
                rows: 3,
                first_at: None,
                last_at: Some(datetime!(2026-11-24 14:29 UTC)),
                rows_hash: [1; 32],
                sealed_at: datetime!(2026-11-24 14:30 UTC),
                hash: [0; 32],
                key_id: String::new(),
                mac: Vec::new(),
            };
            change(&mut seal);
            seal.hash_after(&[2; 32], true)
        };
        let changes: [fn(&mut Seal); 11] = [
            |_| {},
            |seal| seal.number = 3,
            |seal| seal.kind = Kind::Dropped,
            |seal| seal.kind = Kind::Accepted,
            |seal| seal.month = date!(2026 - 10 - 01),
            |seal| seal.to = Mark::after(10),
            |seal| seal.to = Mark::at(9, datetime!(2026-11-24 14:29 UTC), Uuid::nil()),
            |seal| seal.rows = 4,
            |seal| (seal.first_at, seal.last_at) = (seal.last_at, seal.first_at),
            |seal| seal.rows_hash[31] = 0,
            |seal| seal.sealed_at += Duration::SECOND,
        ];
        let mut hashes: Vec<[u8; 32]> = changes.iter().map(|change| seal(*change)).collect();
        hashes.push([0; 32]);
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), changes.len() + 1);
    }

    #[test]
    fn places_are_ordered_as_rows_are_sealed() {
        let (early, late) = (datetime!(2026-11-24 14:29 UTC), datetime!(2026-11-24 14:30 UTC));
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let marks = [
            Mark::START,
            Mark::at(0, early, a),
            Mark::at(0, early, b),
            Mark::at(0, late, a),
            Mark::NUMBERED,
            Mark::at(1, early, a),
            Mark::after(1),
            Mark::at(2, early, a),
        ];
        assert!(marks.is_sorted(), "{marks:?}");
    }

    #[test]
    fn a_head_is_read_as_it_is_told() {
        let head = Head { number: 4_812, hash: [0xab; 32] };
        let known = KnownHead::parse(&format!("{}:{}", head.number, head.prefix())).expect("as the log has it");
        assert!(known.number == 4_812 && known.is(&head.hash) && !known.is(&[0xac; 32]));
        for text in ["", "7", "7:", "7:abc", "0:abababab", "-1:abababab", "7:ghghghgh", "x:abababab"] {
            assert_eq!(KnownHead::parse(text), None, "{text}");
        }
    }
}
