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
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Audit, Error,
    primitives::cursor::{Cursor, Page},
};

pub use chain::{Head, KnownHead, LastVerified};
pub use export::{AuditExport, Format};
pub use report::{Kind, Unusual};
pub use seal::{SealState, Sealed};
pub use verify::{Finding, Problem, Verified};

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
