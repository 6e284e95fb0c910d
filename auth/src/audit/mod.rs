//! The audit log, for those who may read all of it: searched, sealed (`seal.rs`), verified (`verify.rs`), exported, reported.
//!
//! Not here: what happens and its row (`event`).
//! To add one: a filter or column in `store.rs`, an unusual pattern in `report.rs`; a column of the table also in `Row::hash` of `chain.rs`.

mod chain;
mod export;
mod report;
mod report_store;
mod seal;
mod seal_store;
mod store;
mod verify;

use std::{collections::HashMap, net::IpAddr};

use serde_json::Value;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::{
    Audit, Error,
    primitives::cursor::{Cursor, Page},
};

pub use chain::{Head, KnownHead, LastVerified, Late};
pub use export::{AuditExport, Format};
pub use report::{Kind, Unusual};
pub use seal::{SealState, Sealed};
pub use verify::{Finding, Problem, Verified};

/// The months that are to have a partition, each by a moment in it: that of `now`, and the next.
pub fn months_ahead(now: OffsetDateTime) -> [OffsetDateTime; 2] {
    let first = chain::month_of(now).midnight().assume_utc();
    // No month is longer. 28 days after the 1st of October, it is still October; 31 after the 31st of January, February is over.
    [first, first + Duration::days(31)]
}

/// What rows are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// What happened to this account.
    User(Uuid),
    /// The same, and what its owner did to others.
    Person(Uuid),
    Ip(IpAddr),
    /// All that one request caused.
    Request(String),
}

/// Which rows are asked for. Empty: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Any of these events, by name.
    pub events: Vec<String>,
    pub about: Option<About>,
    pub since: Option<OffsetDateTime>,
    /// This moment is not among them, so that two spans that meet share no row.
    pub until: Option<OffsetDateTime>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct AuditRow {
    pub id: Uuid,
    pub at: OffsetDateTime,
    pub event: String,
    pub user: Option<Uuid>,
    /// Somebody else who did it: an administrator, or an API key.
    pub actor: Option<Uuid>,
    pub ip: Option<IpAddr>,
    pub user_agent: Option<String>,
    pub request_id: Option<String>,
    pub details: Value,
    /// Where it stands in the order of sealing.
    pub position: i64,
}

/// Whom an id in a row means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// By its address.
    Account(String),
    ApiKey(String),
}

impl Audit<'_> {
    /// A page of up to `most` rows; without a cursor, the newest.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn page(self, filter: &AuditFilter, cursor: Option<Cursor>, most: usize) -> Result<Page<AuditRow>, Error> {
        let rows = store::page(&self.0.pool, filter, cursor, most + 1).await?;
        Ok(Page::new(rows, most, cursor, |row| (row.at, row.id)))
    }

    /// Whom the ids in these rows mean, where they are still there.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn names(self, rows: &[AuditRow]) -> Result<HashMap<Uuid, Name>, Error> {
        let ids: Vec<Uuid> = rows.iter().flat_map(|row| [row.user, row.actor]).flatten().collect();
        Ok(store::names(&self.0.pool, &ids).await?.into_iter().collect())
    }

    /// Whether an id is an account's, or was.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn is_or_was_account(self, id: Uuid) -> Result<bool, Error> {
        Ok(store::is_account(&self.0.pool, id).await?)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn on_each_day_the_months_are_this_one_and_the_next() {
        let days = (0..4 * 366).map(|day| datetime!(2026-12-01 00:00:01 UTC) + Duration::days(day));
        for now in days {
            let [this, next] = months_ahead(now).map(OffsetDateTime::date);
            assert_eq!((this.year(), this.month()), (now.year(), now.month()), "{now}");
            let year = if now.month() == time::Month::December { now.year() + 1 } else { now.year() };
            assert_eq!((next.year(), next.month()), (year, now.month().next()), "{now}");
        }
    }
}
