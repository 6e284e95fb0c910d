//! What time makes useless is deleted, and next month's audit partition made, on a schedule that one process at a time wins.
//! Nothing's validity depends on it: expiry is decided where a thing is used.

use time::{Duration, OffsetDateTime};

use crate::{
    Error, Operations,
    audit::months_ahead,
    event::{Event, UnitOfWork},
    policy::{IDEMPOTENCY_TTL, SETUP_TTL},
    primitives::schedule,
    users::account,
};

const EVERY: Duration = Duration::hours(1);
/// Requests and sessions stay this long after their end, for the activity page and for `reconcile`.
pub(crate) const KEEP: Duration = Duration::days(90);
/// Months of the audit that ended longer ago than this are dropped.
const KEEP_AUDIT: Duration = Duration::days(400);
/// Accounts deleted in one transaction: each holds locks on all that is the account's.
const ACCOUNTS_AT_ONCE: i64 = 20;
/// How many mails each network asks for is of interest for an hour.
const KEEP_COUNTS: Duration = Duration::hours(2);
/// Mails stay this long after they were settled.
const KEEP_MAIL: Duration = Duration::days(14);

/// Does one thing, and goes on whatever comes of it; keeps the first error.
macro_rules! step {
    ($first:ident, $work:expr) => {
        if let Err(error) = $work.await {
            tracing::warn!(error = %error, "housekeeping.step_failed");
            $first.get_or_insert(error);
        }
    };
}

impl Operations<'_> {
    /// Runs what is due, if no other process has. Each step by itself: one that fails keeps no other from its work, or accounts
    /// would stay because a table of limits could not be tidied.
    ///
    /// # Errors
    /// The first step's that failed; the next hour's run makes up for it.
    pub async fn housekeep(self) -> Result<(), Error> {
        let now = self.0.now();
        if !schedule::wins(&self.0.pool, "housekeeping", EVERY, now).await? {
            return Ok(());
        }
        let pool = &self.0.pool;
        let mut first = None;
        for month in months_ahead(now) {
            step!(first, sqlx::query!("select auth_audit_make_partition($1)", month).execute(pool));
        }
        step!(first, sqlx::query!("delete from rate_limits where tat < $1", now).execute(pool));
        step!(first, sqlx::query!("delete from network_requests where minute < $1", now - KEEP_COUNTS).execute(pool));
        step!(first, sqlx::query!("delete from minute_counts where minute < $1", now - KEEP).execute(pool));
        step!(first, sqlx::query!("delete from period_counts where begins_at < $1", now - KEEP).execute(pool));
        step!(first, sqlx::query!("delete from idempotent_requests where created_at <= $1", now - IDEMPOTENCY_TTL).execute(pool));
        step!(first, sqlx::query!("delete from known_browsers where expires_at < $1", now).execute(pool));
        step!(
            first,
            sqlx::query!("delete from mail_outbox where state <> 'queued' and settled_at < $1", now - KEEP_MAIL).execute(pool)
        );
        step!(first, sqlx::query!("delete from sessions where user_id is null and expires_at < $1", now).execute(pool));
        step!(first, sqlx::query!("delete from sessions where expires_at < $1", now - KEEP).execute(pool));
        step!(first, sqlx::query!("delete from step_up_codes where expires_at < $1", now).execute(pool));
        step!(first, sqlx::query!("delete from two_factor_resets where due_at is null and expires_at < $1", now).execute(pool));
        // One that moved an account says where it went: after a change was taken back, nothing else does.
        step!(
            first,
            sqlx::query!(
                "delete from email_changes where expires_at < $1 and (used_at is null or expires_at < $2)",
                now,
                now - KEEP
            )
            .execute(pool)
        );
        step!(
            first,
            sqlx::query!("delete from totp_credentials where confirmed_at is null and created_at < $1", now - SETUP_TTL)
                .execute(pool)
        );
        step!(first, sqlx::query!("delete from trusted_devices where expires_at < $1", now - KEEP).execute(pool));
        step!(first, sqlx::query!("delete from magic_links where created_at < $1", now - KEEP).execute(pool));
        // An account's stay until it uses a link.
        step!(
            first,
            sqlx::query!(
                "delete from wrong_codes w where last_at < $1 and not exists (select from users u where u.email_key = w.email_key)",
                now - KEEP
            )
            .execute(pool)
        );
        // By their own time: the steps before may have taken long, and a row dated back is sealed late.
        step!(first, self.delete_accounts(self.0.now()));
        step!(first, self.0.api_keys().remind(self.0.now()));
        step!(first, sqlx::query!("delete from undo_links where expires_at < $1", now - KEEP).execute(pool));
        step!(first, self.0.audit().drop_months(now - KEEP_AUDIT));
        first.map_or(Ok(()), |error: sqlx::Error| Err(error.into()))
    }

    /// Those whose owners asked for it, and whose time to think again is over.
    async fn delete_accounts(self, now: OffsetDateTime) -> sqlx::Result<()> {
        loop {
            let mut work = UnitOfWork::begin(&self.0.pool, None, now).await?;
            let gone = account::store::delete_due(work.connection(), ACCOUNTS_AT_ONCE, now).await?;
            if gone.is_empty() {
                return Ok(());
            }
            for user in gone {
                work.record(Event::UserDeleted { user });
            }
            work.commit().await?;
        }
    }
}
