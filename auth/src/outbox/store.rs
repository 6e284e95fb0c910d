use std::{cmp::Reverse, time::Duration};

use serde_json::Value;
use sqlx::{PgConnection, PgPool, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    By, Class, Delivery, Details, Kind, LANES, LATE, LONGEST_WAIT, MailFilter, MailRow, NOTICE_DEADLINE, Notice, Place, QueueState,
    pace::{LOOK_BACK, Measured},
};
use crate::{
    crypto::new_id,
    policy::MAX_LINK_TTL,
    primitives::{
        cursor::{Cursor, Towards},
        email_address::EmailAddress,
        requester::Requester,
        statement::Statement as _,
    },
};

/// More mails of one network that wait are not counted. Default limits let fewer through.
const MOST_TURNS: i64 = 1_000;

/// Queues the mail of a secret: `subject` is the secret's row, for which each kind has a column of its own.
pub(crate) async fn enqueue(
    connection: &mut PgConnection,
    kind: Kind,
    subject: Uuid,
    Place { class, network }: Place,
    now: OffsetDateTime,
    deadline: OffsetDateTime,
) -> sqlx::Result<()> {
    let column_of = |column| (kind == column).then_some(subject);
    sqlx::query!(
        r#"
        insert into mail_outbox (id, kind, magic_link_id, invite_id, step_up_code_id, email_change_id, created_at, run_at, deadline,
                                 class, network, turn)
        values ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9, $10, (
            select count(*) from (select from mail_outbox where network = $10 and class = $9 and state = 'queued' limit $11) waiting
        ))
        "#,
        new_id(now),
        <&str>::from(kind),
        column_of(Kind::SignIn),
        column_of(Kind::Invite),
        column_of(Kind::StepUp),
        column_of(Kind::EmailChange),
        now,
        deadline,
        class as i16,
        &network,
        MOST_TURNS,
    )
    .run(connection)
    .await
}

/// Tells the owner of an account. `from`: the browser it was done in.
pub(crate) async fn enqueue_notice(
    connection: &mut PgConnection,
    user: Uuid,
    notice: Notice,
    from: Option<&Requester>,
    now: OffsetDateTime,
) -> sqlx::Result<()> {
    enqueue_undoable(connection, user, notice, None, from, now).await
}

/// The same, with a link that takes back what the notice tells of. It goes where the link's row says.
pub(crate) async fn enqueue_undoable(
    connection: &mut PgConnection,
    user: Uuid,
    notice: Notice,
    undo: Option<Uuid>,
    from: Option<&Requester>,
    now: OffsetDateTime,
) -> sqlx::Result<()> {
    let by = from.map(Requester::place).map(|(device, ip)| By { device, ip });
    let details = Details { notice, by, to: None };
    // Without a link to its address as it is now: whoever moves the account while a mail server is slow is not the one to be told.
    sqlx::query!(
        r#"
        insert into mail_outbox (id, kind, user_id, undo_link_id, details, created_at, run_at, deadline, class, network, turn)
        select $1, $2, id, $4, $5::jsonb || case when $4::uuid is null then jsonb_build_object('to', email) else '{}' end, $6, $6, $7, $8,
               uuid_send(id), (
                   select count(*) from (
                       select from mail_outbox where network = uuid_send($3) and class = $8 and state = 'queued' limit $9
                   ) waiting
               )
        from users where id = $3
        "#,
        new_id(now),
        notice.kind(),
        user,
        undo,
        Json(details) as _,
        now,
        now + NOTICE_DEADLINE,
        Class::Notice as i16,
        MOST_TURNS,
    )
    .run(connection)
    .await
}

/// A mail this process has claimed. `attempt` fences its settling: whoever's lease ran out cannot settle another's run.
#[derive(Clone)]
pub(crate) struct Claimed {
    pub id: Uuid,
    pub kind: Kind,
    /// The row that it is about; none where a version wrote it that knows more kinds.
    pub subject: Option<Uuid>,
    pub details: Option<Value>,
    pub created_at: OffsetDateTime,
    pub deadline: OffsetDateTime,
    pub attempt: i32,
    pub class: i16,
    pub turn: i32,
}

/// From the queue's column: a notice has the name of its own kind there.
impl From<String> for Kind {
    fn from(text: String) -> Self {
        text.parse().unwrap_or(Self::Notice)
    }
}

/// Takes at most `free` mails that are due and that nobody holds, in the order of [`Place`]. Of one turn the newest goes first: whoever
/// asked last still waits at their screen, while of those who asked an hour ago, before the mail server came back, many have given up
/// or asked again.
pub(crate) async fn claim(
    pool: &PgPool,
    worker: Uuid,
    free: usize,
    lease: Duration,
    now: OffsetDateTime,
) -> sqlx::Result<Vec<Claimed>> {
    let mut claimed = sqlx::query_as!(
        Claimed,
        r#"
        with due as materialized (
            select id from mail_outbox
            where state = 'queued' and run_at <= $1 and (lease_until is null or lease_until < $1)
            order by class, turn, created_at desc
            limit $2
            for update skip locked
        )
        update mail_outbox m set attempts = m.attempts + 1, lease_until = $3, leased_by = $4
        from due where m.id = due.id
        returning m.id, case when m.undo_link_id is null then m.kind else 'undoable' end as "kind!",
                  coalesce(m.undo_link_id, m.user_id, m.magic_link_id, m.invite_id, m.step_up_code_id, m.email_change_id) as subject,
                  m.details, m.created_at, m.deadline, m.attempts as attempt, m.class, m.turn
        "#,
        now,
        i64::try_from(free).unwrap_or(i64::MAX),
        now + lease,
        worker,
    )
    .fetch_all(pool)
    .await?;
    // An update returns its rows in whatever order it found them.
    claimed.sort_unstable_by_key(|mail| (mail.class, mail.turn, Reverse(mail.created_at)));
    Ok(claimed)
}

pub(crate) async fn extend(pool: &PgPool, mail: &Claimed, lease_until: OffsetDateTime) -> sqlx::Result<()> {
    sqlx::query!(
        "update mail_outbox set lease_until = $3 where id = $1 and attempts = $2 and state = 'queued'",
        mail.id,
        mail.attempt,
        lease_until,
    )
    .run(pool)
    .await
}

/// `false` where the lease ran out and somebody else has the mail now.
pub(crate) async fn settle(
    connection: &mut PgConnection,
    mail: &Claimed,
    state: &str,
    error: Option<&str>,
    now: OffsetDateTime,
) -> sqlx::Result<bool> {
    sqlx::query!(
        r#"
        update mail_outbox set state = $3, settled_at = $4, last_error = $5, lease_until = null, leased_by = null, network = null
        where id = $1 and attempts = $2 and state = 'queued'
        "#,
        mail.id,
        mail.attempt,
        state,
        now,
        error,
    )
    .changes(connection)
    .await
}

pub(crate) async fn retry(
    pool: &PgPool,
    mail: &Claimed,
    run_at: OffsetDateTime,
    error: &str,
    server_failed: bool,
) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update mail_outbox set run_at = $3, last_error = $4, server_failed = $5, lease_until = null, leased_by = null
        where id = $1 and attempts = $2 and state = 'queued'
        "#,
        mail.id,
        mail.attempt,
        run_at,
        error,
        server_failed,
    )
    .run(pool)
    .await
}

/// What became of the newest mail a browser asked for. Nothing here depends on whether there is an account: where the address has a route in
/// it, only an account's mail goes out, and nothing is told of it.
///
/// It is late once it has waited or was refused for now; and at once where as many others wait as are sent at a time, and go before it
/// or in the same turn, since then it is the mail server that does not keep up, and not one recipient's that wants to be asked twice.
/// Then it may take until the next try, or as long as the `backlog` does; what outlives its link is not sent.
pub(crate) async fn delivery(
    pool: &PgPool,
    browser_hash: &[u8; 32],
    backlog: Duration,
    now: OffsetDateTime,
) -> sqlx::Result<Delivery> {
    let row = sqlx::query!(
        r#"
        select l.email as "email: EmailAddress", m.state, m.state = 'queued' and (m.created_at < $2 or m.last_error is not null or $3 <= (
                   select count(*) from (
                       select from mail_outbox o
                       where o.state = 'queued' and (o.class, o.turn) <= (m.class, m.turn) and o.created_at < $2 limit $3
                   ) waiting
               )) as "late!"
        from magic_links l join mail_outbox m on m.magic_link_id = l.id
        where l.browser_hash = $1 order by l.created_at desc limit 1
        "#,
        browser_hash,
        now - LATE,
        i64::try_from(LANES).unwrap_or(i64::MAX),
    )
    .fetch_optional(pool)
    .await?;
    Ok(match row {
        Some(row) if row.email.is_route() => Delivery::OnTime,
        Some(row) if row.state == "failed" => Delivery::Refused,
        Some(row) if row.late => Delivery::Late { within: backlog.max(LONGEST_WAIT).min(MAX_LINK_TTL) },
        _ => Delivery::OnTime,
    })
}

/// What a mail server took while something waited all the time that was not tried yet. `None` where nothing has waited for long enough.
/// What was withheld never came to the server.
pub(crate) async fn pace(pool: &PgPool, withheld: &str, now: OffsetDateTime) -> sqlx::Result<Option<Measured>> {
    let row = sqlx::query!(
        r#"
        with busy as materialized (
            select greatest(min(created_at), $2) as since from mail_outbox
            where state = 'queued' and attempts = 0 and deadline > $1 having min(created_at) < $3
        )
        select since as "since!",
               (select count(*) from mail_outbox where state = 'queued' and class = $4 and deadline > $1) as "waiting!",
               (select count(*) from mail_outbox
                where state in ('sent', 'failed') and settled_at > since and last_error is distinct from $5) as "settled!"
        from busy
        "#,
        now,
        now - LOOK_BACK,
        now - LATE,
        Class::Stranger as i16,
        withheld,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.and_then(|row| {
        let over = Duration::try_from(now - row.since).ok()?;
        Some(Measured { waiting: row.waiting, settled: row.settled, over, at: now })
    }))
}

pub(crate) async fn queue_state(pool: &PgPool, now: OffsetDateTime) -> sqlx::Result<QueueState> {
    sqlx::query_as!(
        QueueState,
        r#"
        select (select count(*) from mail_outbox where state = 'queued') as "waiting!",
               (select min(created_at) from mail_outbox where state = 'queued') as oldest,
               count(*) filter (where state = 'sent') as "sent!",
               count(*) filter (where state = 'failed') as "failed!",
               count(*) filter (where state = 'expired') as "expired!",
               percentile_cont(0.95) within group (order by extract(epoch from settled_at - created_at)::double precision)
                   filter (where state = 'sent' and settled_at > $2) as p95_seconds
        from mail_outbox where state <> 'queued' and settled_at > $1
        "#,
        now - Duration::from_hours(24),
        now - Duration::from_hours(1),
    )
    .fetch_one(pool)
    .await
}

/// `most` mails, in the order of the cursor's direction.
pub(crate) async fn page(
    pool: &PgPool,
    filter: MailFilter,
    cursor: Option<Cursor>,
    most: usize,
    now: OffsetDateTime,
) -> sqlx::Result<Vec<MailRow>> {
    let Cursor { towards, at, id } = cursor.unwrap_or(Cursor::NEWEST);
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    // Planned with the values: each filter has an index of its own.
    let (all, waiting) = (filter == MailFilter::All, filter == MailFilter::Waiting);
    macro_rules! page {
        ($beyond:literal, $order:literal) => {
            sqlx::query_as!(
                MailRow,
                r#"
                select m.id, m.kind, m.created_at, m.run_at, m.settled_at, m.attempts, m.last_error as error,
                       case when m.state = 'queued' and m.lease_until > $6 then 'sending' else m.state end as "state!",
                       m.state in ('queued', 'failed') and m.deadline > $6 and m.lease_until > $6 is not true as "retriable!",
                       coalesce(l.email, i.email, c.email, x.email, m.details->>'to', u.email) as "to"
                from (
                    select * from mail_outbox
                    where ($1 or ($2 and state = 'queued') or (not $2 and state in ('failed', 'expired'))) and (created_at, id) "#
                    + $beyond + " ($3, $4) order by created_at " + $order + ", id " + $order + r#" limit $5
                ) m
                left join magic_links l on l.id = m.magic_link_id
                left join invites i on i.id = m.invite_id
                left join email_changes c on c.id = m.email_change_id
                left join undo_links x on x.id = m.undo_link_id
                left join step_up_codes s on s.id = m.step_up_code_id
                left join users u on u.id = coalesce(m.user_id, s.user_id)
                order by m.created_at "# + $order + ", m.id " + $order,
                all,
                waiting,
                at,
                id,
                most,
                now,
            )
            .fetch_all(pool)
            .await
        };
    }
    if towards == Towards::Newer { page!(">", "asc") } else { page!("<", "desc") }
}

/// Makes a mail due at once that waits for its next try, or was refused. `false` where it was sent, is being sent, or is too old.
pub(crate) async fn send_now(connection: &mut PgConnection, id: Uuid, now: OffsetDateTime) -> sqlx::Result<bool> {
    sqlx::query!(
        r#"
        update mail_outbox set state = 'queued', run_at = $2, settled_at = null, lease_until = null, leased_by = null
        where id = $1 and state in ('queued', 'failed') and deadline > $2 and lease_until > $2 is not true
        "#,
        id,
        now,
    )
    .changes(connection)
    .await
}
