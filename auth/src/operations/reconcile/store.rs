use sqlx::PgPool;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::Finding;
use crate::{
    crypto::first_id,
    policy::{CODE_TRIES, MAX_LINK_TTL, SECOND_STEP_TTL},
};

/// More of one kind than this say nothing that these do not.
pub(crate) const MOST: i64 = 1_000;

/// A worker settles what is past its deadline within seconds. Later than this, none runs.
const PAST_DEADLINE: Duration = Duration::minutes(1);
/// A mail that is due is claimed within seconds, and tried for half a minute; a full queue may take longer, but not this long.
const OVERDUE: Duration = Duration::minutes(10);

/// A contradiction as each query tells of it: `names` say what `ids` are of.
pub(super) struct Row {
    at: OffsetDateTime,
    kind: String,
    names: Vec<String>,
    ids: Vec<Uuid>,
}

impl From<Row> for Finding {
    fn from(Row { at, kind, names, ids }: Row) -> Self {
        Self { at, kind, ids: names.into_iter().zip(ids).collect() }
    }
}

/// Where a link's row and the audit disagree: it is used once and at one moment, in one transaction with its `link.redeemed`.
pub(super) async fn redemptions(pool: &PgPool, since: OffsetDateTime) -> sqlx::Result<Vec<Row>> {
    // A link that was redeemed in the window was made at most its lifetime before.
    sqlx::query_as!(
        Row,
        r#"
        with redeemed as materialized (
            select (details->>'link')::uuid as link, count(*) as times, min(created_at) as first, max(created_at) as last
            from auth_audit where event_type = 'link.redeemed' and created_at >= $2
            group by 1
        ), links as materialized (
            select id, used, used_at from magic_links where created_at >= $2
        )
        select case when times > 1 then 'link_redeemed_twice' when link is null then 'link_used_without_audit'
                    when used = 0 then 'link_redeemed_and_unused' else 'link_used_at_differs' end as "kind!",
               array['link'] as "names!", array[coalesce(link, id)] as "ids!", coalesce(last, used_at) as "at!"
        from redeemed full join links on id = link
        where coalesce(last, used_at) >= $1
            and (times > 1 or (link is null and used = 1) or (link is not null and used = 0) or used_at <> first)
        limit $3
        "#,
        since,
        since - MAX_LINK_TTL,
        MOST,
    )
    .fetch_all(pool)
    .await
}

/// Sessions that speak for somebody, and no link was used up for it. A link is as much older than its session as it may wait, and the
/// second step after it: without that bound all links were read.
pub(super) async fn sessions_without_link(pool: &PgPool, since: OffsetDateTime) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        select 'session_without_redeemed_link' as "kind!", array['session', 'user', 'link'] as "names!",
               array_remove(array[s.id, s.user_id, s.magic_link_id], null) as "ids!", s.created_at as at
        from sessions s left join magic_links l on l.id = s.magic_link_id and l.created_at >= $2
        where s.id >= $1 and s.user_id is not null and l.used is distinct from 1
        order by s.id limit $3
        "#,
        first_id(since),
        since - MAX_LINK_TTL - SECOND_STEP_TTL,
        MOST,
    )
    .fetch_all(pool)
    .await
}

/// Links that more than one session comes from. One that took another's place, as after the second factor, is no second one.
pub(super) async fn links_with_several_sessions(pool: &PgPool, since: OffsetDateTime) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        select 'link_with_several_sessions' as "kind!", array['link'] || array_agg('session'::text) as "names!",
               magic_link_id || array_agg(id order by id) as "ids!", max(created_at) as "at!"
        from sessions
        where id >= $1 and user_id is not null and magic_link_id is not null and revoke_reason is distinct from 'replaced'
        group by magic_link_id having count(*) > 1
        limit $2
        "#,
        first_id(since),
        MOST,
    )
    .fetch_all(pool)
    .await
}

/// Links and codes that work, and that nobody has or will get: their mail was never queued, or was given up.
pub(super) async fn tokens_without_mail(pool: &PgPool, since: OffsetDateTime, now: OffsetDateTime) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        with pending as (
            select 'link' as token, id, created_at from magic_links
            where created_at >= $1 and used = 0 and closed_at is null and expires_at > $2
            union all
            select 'invite', id, created_at from invites where id >= $3 and used_at is null and revoked_at is null and expires_at > $2
            union all
            select 'step_up_code', id, created_at from step_up_codes
            where created_at >= $1 and used_at is null and attempts < $4 and expires_at > $2
            union all
            select 'email_change', id, created_at from email_changes
            where created_at >= $1 and used_at is null and attempts < $4 and expires_at > $2
            union all
            select 'undo_link', id, created_at from undo_links
            where id >= $3 and used_at is null and closed_at is null and expires_at > $2
        ), mails as (
            select coalesce(magic_link_id, invite_id, step_up_code_id, email_change_id, undo_link_id) as token,
                   bool_or(state in ('queued', 'sent')) as comes
            from mail_outbox where created_at >= $1
            group by 1
        )
        select case when m.token is null then 'token_without_mail' else 'token_of_failed_mail' end as "kind!",
               array[p.token] as "names!", array[p.id] as "ids!", p.created_at as "at!"
        from pending p left join mails m on m.token = p.id
        where m.comes is not true
        order by p.created_at limit $5
        "#,
        since,
        now,
        first_id(since),
        i16::try_from(CODE_TRIES).expect("a handful"),
        MOST,
    )
    .fetch_all(pool)
    .await
}

/// Links and codes that work for an account or a session that is gone. Foreign keys forbid it, until a restore leaves them out.
pub(super) async fn orphans(pool: &PgPool, since: OffsetDateTime, now: OffsetDateTime) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        select 'token_without_owner' as "kind!", array[token] as "names!", array[t.id] as "ids!", t.created_at as "at!"
        from (
            select 'step_up_code' as token, id, user_id, session_id, created_at from step_up_codes
            where created_at >= $1 and used_at is null and expires_at > $2
            union all
            select 'email_change', id, user_id, session_id, created_at from email_changes
            where created_at >= $1 and used_at is null and expires_at > $2
            union all
            select 'undo_link', id, user_id, session_id, created_at from undo_links
            where id >= $3 and used_at is null and closed_at is null and expires_at > $2
        ) t
        where not exists (select 1 from users u where u.id = t.user_id)
            or (t.session_id is not null and not exists (select 1 from sessions s where s.id = t.session_id))
        order by t.created_at limit $4
        "#,
        since,
        now,
        first_id(since),
        MOST,
    )
    .fetch_all(pool)
    .await
}

/// Mail that no worker looks after. What waits is little, and has an index of its own, so it is not bounded by a time.
pub(super) async fn stuck_mail(pool: &PgPool, now: OffsetDateTime) -> sqlx::Result<Vec<Row>> {
    sqlx::query_as!(
        Row,
        r#"
        select case when deadline < $1 then 'mail_past_deadline' else 'mail_overdue' end as "kind!",
               array['mail'] as "names!", array[id] as "ids!", created_at as at
        from mail_outbox
        where state = 'queued' and (deadline < $1 or run_at < $2)
        order by created_at desc limit $3
        "#,
        now - PAST_DEADLINE,
        now - OVERDUE,
        MOST,
    )
    .fetch_all(pool)
    .await
}
