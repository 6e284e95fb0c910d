use std::time::Duration;

use serde_json::Value;
use sqlx::{PgConnection, PgPool, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{By, Details, NOTICE_DEADLINE, Notice};
use crate::{requester::Requester, secret::new_id};

pub(crate) async fn enqueue_link(
    connection: &mut PgConnection,
    id: Uuid,
    link: Uuid,
    now: OffsetDateTime,
    deadline: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into mail_outbox (id, kind, magic_link_id, created_at, run_at, deadline) values ($1, 'sign_in', $2, $3, $3, $4)",
        id,
        link,
        now,
        deadline,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn enqueue_invite(
    connection: &mut PgConnection,
    id: Uuid,
    invite: Uuid,
    now: OffsetDateTime,
    deadline: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into mail_outbox (id, kind, invite_id, created_at, run_at, deadline) values ($1, 'invite', $2, $3, $3, $4)",
        id,
        invite,
        now,
        deadline,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn enqueue_step_up(
    connection: &mut PgConnection,
    id: Uuid,
    code: Uuid,
    now: OffsetDateTime,
    deadline: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into mail_outbox (id, kind, step_up_code_id, created_at, run_at, deadline) values ($1, 'step_up', $2, $3, $3, $4)",
        id,
        code,
        now,
        deadline,
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn enqueue_email_change(
    connection: &mut PgConnection,
    id: Uuid,
    change: Uuid,
    now: OffsetDateTime,
    deadline: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into mail_outbox (id, kind, email_change_id, created_at, run_at, deadline) values ($1, 'email_change', $2, $3, $3, $4)",
        id,
        change,
        now,
        deadline,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// `from`: the browser it was done in.
pub(crate) async fn enqueue_notice(
    connection: &mut PgConnection,
    user: Uuid,
    notice: Notice,
    from: Option<&Requester>,
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let by = from.map(|from| By { device: from.device(), ip: from.ip.to_string() });
    let details = Details { notice, by, to: None };
    // Its address as it is now: whoever moves the account while a mail server is slow is not the one to be told.
    sqlx::query!(
        r#"
        insert into mail_outbox (id, kind, user_id, details, created_at, run_at, deadline)
        select $1, $2, id, $4::jsonb || jsonb_build_object('to', email), $5, $5, $6 from users where id = $3
        "#,
        new_id(now),
        notice.kind(),
        user,
        Json(details) as _,
        now,
        now + NOTICE_DEADLINE,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A notice with a link that takes back what it tells of. It goes where the link's row says.
pub(crate) async fn enqueue_undoable(
    connection: &mut PgConnection,
    user: Uuid,
    notice: Notice,
    undo: Uuid,
    from: Option<&Requester>,
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let by = from.map(|from| By { device: from.device(), ip: from.ip.to_string() });
    let details = Details { notice, by, to: None };
    sqlx::query!(
        r#"
        insert into mail_outbox (id, kind, user_id, undo_link_id, details, created_at, run_at, deadline)
        values ($1, $2, $3, $4, $5, $6, $6, $7)
        "#,
        new_id(now),
        notice.kind(),
        user,
        undo,
        Json(details) as _,
        now,
        now + NOTICE_DEADLINE,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A mail this process has claimed. `attempt` fences its settling: whoever's lease ran out cannot settle another's run.
#[derive(Clone)]
pub(super) struct Claimed {
    pub id: Uuid,
    pub magic_link_id: Option<Uuid>,
    pub invite_id: Option<Uuid>,
    pub step_up_code_id: Option<Uuid>,
    pub email_change_id: Option<Uuid>,
    pub user_id: Option<Uuid>,
    pub undo_link_id: Option<Uuid>,
    pub details: Option<Value>,
    pub created_at: OffsetDateTime,
    pub deadline: OffsetDateTime,
    pub attempt: i32,
}

/// Takes at most `free` mails that are due and that nobody holds.
pub(super) async fn claim(
    pool: &PgPool,
    worker: Uuid,
    free: usize,
    lease: Duration,
    now: OffsetDateTime,
) -> Result<Vec<Claimed>, sqlx::Error> {
    sqlx::query_as!(
        Claimed,
        r#"
        with due as materialized (
            select id from mail_outbox
            where state = 'queued' and run_at <= $1 and (lease_until is null or lease_until < $1)
            order by run_at
            limit $2
            for update skip locked
        )
        update mail_outbox m set attempts = m.attempts + 1, lease_until = $3, leased_by = $4
        from due where m.id = due.id
        returning m.id, m.magic_link_id, m.invite_id, m.step_up_code_id, m.email_change_id,
                  m.user_id, m.undo_link_id, m.details, m.created_at, m.deadline, m.attempts as attempt
        "#,
        now,
        i64::try_from(free).unwrap_or(i64::MAX),
        now + lease,
        worker,
    )
    .fetch_all(pool)
    .await
}

pub(super) async fn extend(pool: &PgPool, mail: &Claimed, lease_until: OffsetDateTime) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update mail_outbox set lease_until = $3 where id = $1 and attempts = $2 and state = 'queued'",
        mail.id,
        mail.attempt,
        lease_until,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// `false` where the lease ran out and somebody else has the mail now.
pub(super) async fn settle(
    connection: &mut PgConnection,
    mail: &Claimed,
    state: &str,
    error: Option<&str>,
    now: OffsetDateTime,
) -> Result<bool, sqlx::Error> {
    let settled = sqlx::query!(
        r#"
        update mail_outbox set state = $3, settled_at = $4, last_error = $5, lease_until = null, leased_by = null
        where id = $1 and attempts = $2 and state = 'queued'
        "#,
        mail.id,
        mail.attempt,
        state,
        now,
        error,
    )
    .execute(connection)
    .await?;
    Ok(settled.rows_affected() == 1)
}

pub(super) async fn retry(pool: &PgPool, mail: &Claimed, run_at: OffsetDateTime, error: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        update mail_outbox set run_at = $3, last_error = $4, lease_until = null, leased_by = null
        where id = $1 and attempts = $2 and state = 'queued'
        "#,
        mail.id,
        mail.attempt,
        run_at,
        error,
    )
    .execute(pool)
    .await?;
    Ok(())
}
