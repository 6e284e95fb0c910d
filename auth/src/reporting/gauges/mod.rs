//! What the database says of itself in numbers, for whoever watches the service.
//!
//! Not here: counters: each is counted where it happens.
//! To add one: its query in `store.rs`, its words in `server/src/telemetry/metrics.rs`, its row in `docs/metrics.md`.
//!
//! Every instance asks the same and says the same, so it does not matter which of them is looked at, and one that is gone leaves no gap.

mod store;

use time::{Duration, OffsetDateTime};

use crate::{Error, Reporting};

/// How often it is asked.
pub const EVERY: std::time::Duration = std::time::Duration::from_secs(15);
/// Failures older than this count no more, and mails given up before are no news.
const HOUR: Duration = Duration::HOUR;
const DAY: Duration = Duration::DAY;

/// Says that a background loop of this process has come round: one that stands still is seen by its time standing still.
pub fn heartbeat(worker: &'static str, now: OffsetDateTime) {
    metrics::gauge!("worker_heartbeat_timestamp_seconds", "worker" => worker)
        .set((now - OffsetDateTime::UNIX_EPOCH).as_seconds_f64());
}

impl Reporting<'_> {
    /// Asks, and publishes.
    ///
    /// # Errors
    /// When the database does not answer. What was not asked yet keeps its last value, except the connections, which are ours.
    pub async fn publish_gauges(self) -> Result<(), Error> {
        let now = self.0.now();
        let (idle, open) = (self.0.pool.num_idle(), self.0.pool.size() as usize);
        set("database_connections", "state", "idle", idle);
        set("database_connections", "state", "used", open.saturating_sub(idle));

        let mail = store::mail(&self.0.pool, now, now - DAY).await?;
        for (state, count) in
            [("queued", mail.queued), ("sending", mail.sending), ("failed", mail.failed), ("expired", mail.expired)]
        {
            set("mail_outbox_messages", "state", state, count);
        }
        let waits = mail.oldest.map_or(0.0, |oldest| (now - oldest).as_seconds_f64().max(0.0));
        metrics::gauge!("mail_outbox_oldest_seconds").set(waits);

        let (mut current, mut previous, mut missing) = (0, 0, 0);
        for key in self.0.factors().key_status().await? {
            match (key.current, key.known) {
                (true, _) => current += key.totp_secrets,
                (false, true) => previous += key.totp_secrets,
                (false, false) => missing += key.totp_secrets,
            }
        }
        for (state, count) in [("current", current), ("previous", previous), ("missing", missing)] {
            set("encryption_key_secrets", "state", state, count);
        }

        let worst = store::worst_failures(&self.0.pool, now - HOUR).await?;
        for (scope, count) in [("email", worst.email), ("ip", worst.network), ("totp_account", worst.account)] {
            set("auth_failed_attempts", "scope", scope, count);
        }
        let addresses = u32::try_from(worst.addresses).unwrap_or(u32::MAX);
        metrics::gauge!("auth_wrong_code_addresses").set(f64::from(addresses));
        Ok(())
    }
}

fn set(name: &'static str, label: &'static str, value: &'static str, count: impl TryInto<u32>) {
    let count = count.try_into().unwrap_or(u32::MAX);
    metrics::gauge!(name, label => value).set(f64::from(count));
}
