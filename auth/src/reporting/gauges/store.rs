use sqlx::PgPool;
use time::OffsetDateTime;

pub(super) struct Mail {
    pub queued: i64,
    pub sending: i64,
    pub failed: i64,
    pub expired: i64,
    pub oldest: Option<OffsetDateTime>,
}

/// Those that wait are few, and so are those given up; what was sent is not counted, or each look would read two weeks of mail.
///
/// A mail is due when its time has come, and also while it waits only because no mail server takes any. One that its recipient's
/// server puts off waits by right: strangers choose recipients.
pub(super) async fn mail(pool: &PgPool, now: OffsetDateTime, given_up_since: OffsetDateTime) -> sqlx::Result<Mail> {
    sqlx::query_as!(
        Mail,
        r#"
        select count(*) filter (where lease_until > $1 is not true) as "queued!",
               count(*) filter (where lease_until > $1) as "sending!",
               min(created_at) filter (where run_at <= $1 or server_failed) as oldest,
               (select count(*) from mail_outbox where state = 'failed' and created_at > $2) as "failed!",
               (select count(*) from mail_outbox where state = 'expired' and created_at > $2) as "expired!"
        from mail_outbox where state = 'queued'
        "#,
        now,
        given_up_since,
    )
    .fetch_one(pool)
    .await
}

pub(super) struct Worst {
    /// Addresses for which a wrong code was entered.
    pub addresses: i64,
    pub email: i64,
    pub network: i64,
    pub account: i64,
}

/// How often the worst address, network and account failed since then, and for how many addresses a code was wrong. A network is an IPv4 address or an IPv6 /64, as for limits.
///
/// The audit is read once, along its index by type and time: what it costs goes with the failures of the hour, however long it is.
pub(super) async fn worst_failures(pool: &PgPool, since: OffsetDateTime) -> sqlx::Result<Worst> {
    sqlx::query_as!(
        Worst,
        r#"
        with failed as materialized (
            -- What somebody wrote by hand may name anything.
            select event_type, user_id, ip, details ->> 'reason' as reason,
                   case when mailed ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then mailed::uuid end as link
            from (
                -- Details of this length are no server's, and reading thousands of them takes longer than a statement may.
                select event_type, user_id, ip, case when pg_column_size(details) <= 1024 then details end as details
                from auth_audit
                where event_type in ('link.refused', 'email.change_refused', 'totp.refused', 'backup_code.refused') and created_at > $1
            ) small, lateral (select coalesce(details ->> 'link', details ->> 'change') as mailed) m
        )
        select (
                   select count(distinct email_key) from (
                       select l.email_key from failed f join magic_links l on l.id = f.link
                       where f.event_type = 'link.refused' and f.reason = 'wrong_code'
                       union all
                       -- Also who guesses at addresses as an account's new one: a right guess takes an address that nobody there asked for.
                       select c.email_key from failed f join email_changes c on c.id = f.link
                       where f.event_type = 'email.change_refused'
                   ) wrong
               ) as "addresses!",
               coalesce((
                   select sum(f.failures)::bigint
                   from (select link, count(*) as failures from failed where event_type = 'link.refused' group by 1) f
                   join magic_links l on l.id = f.link
                   group by l.email_key order by 1 desc limit 1
               ), 0) as "email!",
               coalesce((
                   select count(*) from failed where ip is not null
                   group by network(set_masklen(ip, case family(ip) when 4 then 32 else 64 end)) order by 1 desc limit 1
               ), 0) as "network!",
               coalesce((
                   select count(*) from failed where event_type in ('totp.refused', 'backup_code.refused') and user_id is not null
                   group by user_id order by 1 desc limit 1
               ), 0) as "account!"
        "#,
        since,
    )
    .fetch_one(pool)
    .await
}
