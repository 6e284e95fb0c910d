//! Which secrets at rest lie under which key.

use serde::Serialize;

use crate::{Error, Factors, factors::totp::store as authenticators};

/// One key and what lies under it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyUse {
    /// Names the key without telling anything of it.
    pub id: String,
    /// New secrets are sealed with it.
    pub current: bool,
    /// It is configured, so what lies under it can be read.
    pub known: bool,
    pub totp_secrets: i64,
}

impl Factors<'_> {
    /// The configured keys, the current one first, and those that rows still need and nobody has.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn key_status(self) -> Result<Vec<KeyUse>, Error> {
        let in_use = authenticators::keys_in_use(&self.0.pool).await?;
        let count = |id: &str| in_use.iter().find(|(key, _)| key == id).map_or(0, |(_, count)| *count);
        let known = self.0.keys.ids();
        let mut keys: Vec<KeyUse> = known
            .iter()
            .map(|id| KeyUse { id: id.clone(), current: id == self.0.keys.current_id(), known: true, totp_secrets: count(id) })
            .collect();
        for (id, totp_secrets) in in_use.iter().filter(|(id, _)| !known.contains(id)) {
            keys.push(KeyUse { id: id.clone(), current: false, known: false, totp_secrets: *totp_secrets });
        }
        Ok(keys)
    }
}
