//! Everything there is about an account, for its owner to take along: what is shown to them anyway, in one file. No token, hash or
//! key, and nothing about others: not from where an administrator did something, nor what they wrote down as its reason.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::Value;
use sqlx::PgPool;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::{
    Error, SelfService,
    event::{Event, UnitOfWork},
    factors::trusted_device::TrustedDevice,
    identity::Authority,
    limits::throttle::Limited,
    primitives::{
        requester::{Requester, device},
        stored_json::StoredJson,
    },
    self_service::two_factor::{Authenticator, BackupCodes},
    sessions,
    users::account::Profile,
};

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The account's strongest factor has to be given first.
    #[error("the session has to step up first")]
    NotFresh,
    #[error("a limit refused")]
    Limited(Limited),
    #[error(transparent)]
    Unavailable(#[from] Error),
}

from_sqlx!(ExportError);

/// How far back activity goes, as on its page.
const ACTIVITY: Duration = Duration::days(90);
/// Entries of activity at most: an account under attack has more than anybody reads.
const MAX_ACTIVITY: usize = 10_000;
/// Bytes of their details, from which on no more entries follow. A server's rows are far from it; somebody with the application's role can
/// add rows of 64 KiB.
const MAX_BYTES: usize = 16 << 20;
/// Entries read in one statement.
const PAGE: usize = 100;

/// A copy of an account's data.
#[derive(Debug, Serialize)]
pub struct Export {
    #[serde(with = "time::serde::rfc3339")]
    pub exported_at: OffsetDateTime,
    pub profile: Profile,
    pub authenticator_apps: Vec<Authenticator>,
    pub backup_codes: BackupCodes,
    pub trusted_browsers: Vec<TrustedDevice>,
    pub sessions: Vec<Session>,
    /// Browsers that have signed in.
    pub known_browsers: Vec<KnownBrowser>,
    pub activity: Activity,
}

#[derive(Debug, Serialize)]
pub struct Session {
    pub device: String,
    pub ip: Option<IpAddr>,
    pub method: Option<String>,
    pub second_method: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    pub signed_in_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub last_seen_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub ended_at: Option<OffsetDateTime>,
    pub ended_because: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct KnownBrowser {
    pub device: Option<String>,
    pub ip: Option<IpAddr>,
    #[serde(with = "time::serde::rfc3339")]
    pub first_signed_in_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub last_signed_in_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
}

#[derive(Debug, Serialize)]
pub struct Activity {
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// There is more: these are the newest only.
    pub cut: bool,
    /// The newest first.
    pub entries: Vec<Entry>,
}

#[derive(Debug, Serialize)]
pub struct Entry {
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    pub what: String,
    pub details: Value,
    /// An administrator or operator did it.
    pub by_other: bool,
    pub device: Option<String>,
    pub ip: Option<IpAddr>,
}

impl SelfService<'_> {
    /// # Errors
    /// [`ExportError`].
    pub async fn export_account(self, authority: &Authority, from: &Requester) -> Result<Export, ExportError> {
        if !self.0.sign_in().is_fresh(authority) {
            return Err(ExportError::NotFresh);
        }
        let (now, user) = (self.0.now(), authority.user);
        let throttle = self.0.limits().throttle();
        throttle.take_change(&mut *self.0.pool.acquire().await?, user, now).await?.map_err(ExportError::Limited)?;
        let two_factor = self.two_factor(authority).await?;
        let export = Export {
            exported_at: now,
            profile: self.0.users().profile(authority).await?,
            authenticator_apps: two_factor.authenticators,
            backup_codes: two_factor.backup_codes,
            trusted_browsers: self.0.factors().trusted_devices(authority, None).await?,
            sessions: sessions(&self.0.pool, user).await?,
            known_browsers: known_browsers(&self.0.pool, user).await?,
            activity: activity(&self.0.pool, user, now - ACTIVITY).await?,
        };
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        work.record(Event::AccountExported { user });
        work.commit().await?;
        Ok(export)
    }
}

/// All sessions of an account, as far back as they are kept, for its owner's copy of their data.
async fn sessions(pool: &PgPool, user: Uuid) -> sqlx::Result<Vec<Session>> {
    let rows = sqlx::query!(
        r#"
        select ip as "ip: IpAddr", user_agent, application, method, second_method, authenticated_at as "authenticated_at!", last_seen_at, expires_at,
               revoked_at, revoke_reason
        from sessions where user_id = $1 order by authenticated_at desc
        "#,
        user,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Session {
            device: sessions::store::place(row.application, row.user_agent.as_deref()),
            ip: row.ip,
            method: row.method,
            second_method: row.second_method,
            signed_in_at: row.authenticated_at,
            last_seen_at: row.last_seen_at,
            expires_at: row.expires_at,
            ended_at: row.revoked_at,
            ended_because: row.revoke_reason,
        })
        .collect())
}

async fn known_browsers(pool: &PgPool, user: Uuid) -> sqlx::Result<Vec<KnownBrowser>> {
    sqlx::query_as!(
        KnownBrowser,
        r#"
        select device, ip as "ip: IpAddr", created_at as first_signed_in_at, last_used_at as last_signed_in_at, expires_at
        from known_browsers where user_id = $1 order by created_at desc
        "#,
        user,
    )
    .fetch_all(pool)
    .await
}

async fn activity(pool: &PgPool, user: Uuid, since: OffsetDateTime) -> sqlx::Result<Activity> {
    let places = sqlx::query!(
        "select created_at, id from auth_audit where user_id = $1 and created_at > $2 order by created_at desc, id desc limit $3",
        user,
        since,
        i64::try_from(MAX_ACTIVITY + 1).expect("some thousands"),
    )
    .fetch_all(pool)
    .await?;
    let (mut entries, mut bytes) = (Vec::new(), 0);
    for page in places[..places.len().min(MAX_ACTIVITY)].chunks(PAGE) {
        if bytes >= MAX_BYTES {
            break;
        }
        let (times, ids): (Vec<OffsetDateTime>, Vec<Uuid>) = page.iter().map(|place| (place.created_at, place.id)).unzip();
        let rows = sqlx::query!(
            r#"
            select created_at, event_type, details::text as "details!", host(ip)::inet as "ip: IpAddr", user_agent,
                   (actor_id is not null or details ->> 'by' in ('operator', 'admin')) is true as "by_other!"
            from unnest($1::timestamptz[], $2::uuid[]) as place (row_at, row_id)
            join auth_audit on created_at = row_at and id = row_id
            order by created_at desc, id desc
            "#,
            &times,
            &ids,
        )
        .fetch_all(pool)
        .await?;
        for row in rows {
            bytes += row.details.len() + row.event_type.len();
            let mut details = Value::from(StoredJson::read(&row.details));
            if row.by_other
                && let Value::Object(details) = &mut details
            {
                details.remove("reason");
            }
            let theirs = !row.by_other;
            entries.push(Entry {
                at: row.created_at,
                what: row.event_type,
                details,
                by_other: row.by_other,
                device: row.user_agent.filter(|_| theirs).map(|agent| device(&agent)),
                ip: row.ip.filter(|_| theirs),
            });
        }
    }
    let cut = places.len() > entries.len();
    Ok(Activity { since, cut, entries })
}
