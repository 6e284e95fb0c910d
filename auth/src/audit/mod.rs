//! The audit log as it stands, for those who may read all of it: what [`crate::event`] wrote, the newest first.

mod store;

use std::net::IpAddr;

use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Auth, Error,
    cursor::{Cursor, Page},
};

/// Which rows are asked for. Empty: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// An event's name.
    pub event: Option<String>,
    /// Whose it is.
    pub user: Option<Uuid>,
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
}

impl Auth {
    /// A page of up to `most` rows; without a cursor, the newest.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn audit(&self, filter: &AuditFilter, cursor: Option<Cursor>, most: usize) -> Result<Page<AuditRow>, Error> {
        let rows = store::page(&self.pool, filter, cursor, most + 1).await?;
        Ok(Page::new(rows, most, cursor, |row| (row.at, row.id)))
    }
}
