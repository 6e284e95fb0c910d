//! The keys at rest: which secrets lie under which, and re-encryption under the newest. It runs while the service serves: readers
//! know the old keys and the new one, and each row is replaced by one statement that a row changed meanwhile escapes.

use serde::Serialize;
use uuid::Uuid;

use crate::{
    Error, Operations,
    event::{Event, UnitOfWork},
    factors::totp::{Secret, store as authenticators},
};

/// What a rotation did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Rotated {
    pub resealed: u64,
    /// Secrets whose key is missing, or that were tampered with. They stay as they are.
    pub unreadable: u64,
}

const BATCH: i64 = 100;

impl Operations<'_> {
    /// Puts every secret under the current key. Stopped half-way it is run again, and goes on where it stopped.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn rotate_keys(self) -> Result<Rotated, Error> {
        let mut rotated = Rotated::default();
        let mut after = Uuid::nil();
        loop {
            let batch = authenticators::not_under(&self.0.pool, self.0.keys.current_id(), after, BATCH).await?;
            let Some(last) = batch.last() else { break };
            after = last.id;
            for stored in batch {
                match Secret::open(&self.0.keys, &stored.sealed, stored.id, stored.user) {
                    Ok(secret) => {
                        let sealed = secret.seal(&self.0.keys, stored.id, stored.user);
                        rotated.resealed +=
                            u64::from(authenticators::reseal(&self.0.pool, stored.id, &stored.sealed, &sealed).await?);
                    }
                    Err(unreadable) => {
                        tracing::error!(credential = %stored.id, reason = unreadable.reason(), "a two-factor secret can't be read");
                        rotated.unreadable += 1;
                    }
                }
            }
        }
        let mut work = UnitOfWork::begin(&self.0.pool, None, self.0.now()).await?;
        work.record(Event::KeysRotated { key: self.0.keys.current_id().to_owned(), secrets: rotated.resealed });
        work.commit().await?;
        Ok(rotated)
    }
}
