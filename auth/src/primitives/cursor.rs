//! Pages of a list by time, the newest first.

use std::fmt;

use time::{OffsetDateTime, macros::datetime};
use uuid::Uuid;

/// A place between two rows, and which way to go from there. Its text is for a URL; whoever changes it gets another page of the same
/// list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) towards: Towards,
    pub(crate) at: OffsetDateTime,
    pub(crate) id: Uuid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Towards {
    Newer,
    Older,
}

impl Cursor {
    /// Before all that will ever be: where a list begins.
    pub(crate) const NEWEST: Self = Self { towards: Towards::Older, at: datetime!(9999-12-31 0:00 UTC), id: Uuid::max() };

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

/// Up to a page of rows, the newest first, and the ways to those beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    pub rows: Vec<T>,
    pub newer: Option<Cursor>,
    pub older: Option<Cursor>,
}

impl<T> Page<T> {
    /// `rows` are one more than the page holds, where there are so many, in the order of the cursor's direction. `place` says where a
    /// row stands.
    pub(crate) fn new(mut rows: Vec<T>, size: usize, cursor: Option<Cursor>, place: impl Fn(&T) -> (OffsetDateTime, Uuid)) -> Self {
        let more = rows.len() > size;
        rows.truncate(size);
        let towards = cursor.map_or(Towards::Older, |cursor| cursor.towards);
        if towards == Towards::Newer {
            rows.reverse();
        }
        let beside = |row: Option<&T>, towards| {
            row.map(|row| {
                let (at, id) = place(row);
                Cursor { towards, at, id }
            })
        };
        let (first, last) = (rows.first(), rows.last());
        let (newer, older) = match towards {
            Towards::Older => (cursor.and(beside(first, Towards::Newer)), more.then(|| beside(last, Towards::Older)).flatten()),
            Towards::Newer => (more.then(|| beside(first, Towards::Newer)).flatten(), beside(last, Towards::Older)),
        };
        Self { rows, newer, older }
    }
}

#[cfg(test)]
mod tests {
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
}
