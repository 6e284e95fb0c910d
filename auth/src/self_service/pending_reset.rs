//! A reset of two-factor that an administrator has asked for and that waits.
//!
//! Not here: asking, agreeing and carrying it out (`administration/two_factor_reset.rs`). The owner, who is told by mail, stops it with the
//! link in that mail, or by any change to their two-factor, which only they can make.

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    event::{Event, UnitOfWork},
    identity::Origin,
    primitives::{reason::Reason, statement::Statement as _},
};

/// A reset that waits, for those who look after accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingReset {
    pub asked_by: Uuid,
    /// That administrator's address; none where the account is gone.
    pub asked_by_email: Option<String>,
    pub reason: String,
    pub asked_at: OffsetDateTime,
    /// None: another administrator has to agree.
    pub due_at: Option<OffsetDateTime>,
}

/// One whose time has come, taken off the list.
pub(crate) struct DueReset {
    pub user: Uuid,
    pub asked_by: Uuid,
    /// Whoever asked is still an administrator.
    pub by_admin: bool,
    pub reason: Reason,
}

/// It is not to happen, as part of what stops it. `by`: none for the account's owner. `false` where none waits.
pub(crate) async fn stop(
    work: &mut UnitOfWork<'_>,
    user: Uuid,
    by: Option<(Origin, &Reason)>,
    now: OffsetDateTime,
) -> sqlx::Result<bool> {
    if !forget(work.connection(), user, now).await? {
        return Ok(false);
    }
    let (by, reason) = by.map(|(by, reason)| (by, reason.clone())).unzip();
    work.record(Event::TwoFactorResetStopped { user, by, reason });
    Ok(true)
}

pub(crate) async fn of(connection: &mut PgConnection, user: Uuid, now: OffsetDateTime) -> sqlx::Result<Option<PendingReset>> {
    sqlx::query_as!(
        PendingReset,
        r#"
        select r.asked_by, u.email as "asked_by_email?", r.reason, r.asked_at, r.due_at
        from two_factor_resets r left join users u on u.id = r.asked_by
        where r.user_id = $1 and (r.due_at is not null or r.expires_at > $2)
        "#,
        user,
        now,
    )
    .fetch_optional(connection)
    .await
}

/// `false` where two-factor is off, or one waits already. One of somebody who is no administrator any more makes room.
pub(crate) async fn ask(connection: &mut PgConnection, user: Uuid, wish: &Wish<'_>, now: OffsetDateTime) -> sqlx::Result<bool> {
    sqlx::query!(
        r#"
        insert into two_factor_resets as r (user_id, asked_by, reason, asked_at, due_at, expires_at)
        select $1, $2, $3, $4, $5, $6
        where exists (select from totp_credentials where user_id = $1 and confirmed_at is not null)
        on conflict (user_id) do update
            set asked_by = $2, reason = $3, asked_at = $4, due_at = $5, expires_at = $6
            where (r.due_at is null and r.expires_at <= $4)
                or not exists (select from users u where u.id = r.asked_by and u.is_admin and u.disabled_at is null)
        "#,
        user,
        wish.by,
        &**wish.reason,
        now,
        wish.due_at,
        wish.expires_at,
    )
    .changes(connection)
    .await
}

pub(crate) struct Wish<'a> {
    pub by: Uuid,
    pub reason: &'a Reason,
    pub due_at: Option<OffsetDateTime>,
    pub expires_at: OffsetDateTime,
}

/// Takes another administrator's wish off the list, to carry it out. One statement decides: nobody agrees with themselves, nor with
/// somebody who is no administrator any more.
pub(crate) async fn agree(connection: &mut PgConnection, user: Uuid, by: Uuid, now: OffsetDateTime) -> sqlx::Result<bool> {
    sqlx::query!(
        r#"
        delete from two_factor_resets r using users u
        where r.user_id = $1 and r.due_at is null and r.expires_at > $3
            and r.asked_by <> $2 and u.id = r.asked_by and u.is_admin and u.disabled_at is null
        "#,
        user,
        by,
        now,
    )
    .changes(connection)
    .await
}

/// Whether another administrator (not an operator) made this account an administrator, or turned it on, since then. Otherwise one
/// administrator could create the second one and agree with themselves.
pub(crate) async fn is_new_admin(connection: &mut PgConnection, admin: Uuid, since: OffsetDateTime) -> sqlx::Result<bool> {
    sqlx::query_scalar!(
        r#"
        select exists (
            select from auth_audit
            where user_id = $1 and event_type in ('admin.granted', 'user.enabled') and created_at > $2 and actor_id is not null
        ) as "is!"
        "#,
        admin,
        since,
    )
    .fetch_one(connection)
    .await
}

pub(crate) async fn take_due(connection: &mut PgConnection, now: OffsetDateTime) -> sqlx::Result<Option<DueReset>> {
    sqlx::query_as!(
        DueReset,
        r#"
        delete from two_factor_resets r
        where r.user_id = (
            select user_id from two_factor_resets where due_at <= $1 order by due_at limit 1 for update skip locked
        )
        returning r.user_id as "user", r.asked_by, r.reason as "reason: Reason",
            exists (select from users u where u.id = r.asked_by and u.is_admin and u.disabled_at is null) as "by_admin!"
        "#,
        now,
    )
    .fetch_optional(connection)
    .await
}

/// `false` where none waits.
pub(crate) async fn forget(connection: &mut PgConnection, user: Uuid, now: OffsetDateTime) -> sqlx::Result<bool> {
    let live = sqlx::query_scalar!(
        r#"delete from two_factor_resets where user_id = $1 returning (due_at is not null or expires_at > $2) as "live!""#,
        user,
        now,
    );
    Ok(live.fetch_optional(connection).await?.unwrap_or(false))
}
