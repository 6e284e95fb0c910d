use ipnet::IpNet;
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

/// How many of one kind are told: the worst. More would hide the rest.
pub(super) const MOST: i64 = 20;

/// Wrong codes on one account. Whoever mistypes stops long before.
pub(super) const FAILURES_OF_ACCOUNT: i64 = 10;
/// Accounts that one network failed at. A household has a handful; an office has more, and passes more often than it fails.
pub(super) const ACCOUNTS_OF_NETWORK: i64 = 5;
/// Links or codes of sign-in mails refused to one network: nobody's account is known there.
pub(super) const LINKS_OF_NETWORK: i64 = 20;
/// Used links and codes tried again. Once or twice is a second click.
pub(super) const REPLAYS: i64 = 3;

/// Refused codes of one account, or of one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tally {
    pub user: Option<Uuid>,
    pub ip: Option<IpNet>,
    pub failures: i64,
    pub replays: i64,
    pub accounts: i64,
    pub links: i64,
    pub first: OffsetDateTime,
    pub last: OffsetDateTime,
}

/// One event that is told by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Act {
    pub event: String,
    pub user: Option<Uuid>,
    pub actor: Option<Uuid>,
    pub by: Option<String>,
    pub reason: Option<String>,
    pub network: Option<String>,
    pub at: OffsetDateTime,
}

/// Refused codes of each account that has many, the worst first.
pub(super) async fn tallies_of_accounts(pool: &PgPool, since: OffsetDateTime) -> sqlx::Result<Vec<Tally>> {
    sqlx::query_as!(
        Tally,
        r#"
        select user_id as "user", null::inet as "ip: IpNet", count(*) as "failures!",
               count(*) filter (where details->>'reason' = 'used') as "replays!", 1::bigint as "accounts!", 0::bigint as "links!",
               min(created_at) as "first!", max(created_at) as "last!"
        from auth_audit
        where event_type in ('totp.refused', 'backup_code.refused', 'step_up.refused', 'email.change_refused')
            and created_at >= $1 and user_id is not null
        group by user_id
        having count(*) >= $2 or count(*) filter (where details->>'reason' = 'used') >= $3
        order by count(*) desc limit $4
        "#,
        since,
        FAILURES_OF_ACCOUNT,
        REPLAYS,
        MOST,
    )
    .fetch_all(pool)
    .await
}

/// The same of each address, with the links of sign-in mails, which are nobody's until they are redeemed.
pub(super) async fn tallies_of_networks(pool: &PgPool, since: OffsetDateTime) -> sqlx::Result<Vec<Tally>> {
    sqlx::query_as!(
        Tally,
        r#"
        select null::uuid as "user", ip as "ip: IpNet", failures as "failures!", replays as "replays!", accounts as "accounts!", links as "links!",
               first as "first!", last as "last!"
        from (
            select ip, count(*) as failures, count(*) filter (where event_type = 'link.refused' and details->>'reason' = 'used') as replays,
                   count(distinct user_id) as accounts, count(distinct details->>'link') as links,
                   min(created_at) as first, max(created_at) as last
            from auth_audit
            where event_type in ('link.refused', 'totp.refused', 'backup_code.refused', 'step_up.refused', 'email.change_refused')
                and created_at >= $1 and ip is not null
            group by ip
        ) network
        where accounts >= $2 or links >= $3 or replays >= $4
        order by failures desc limit $5
        "#,
        since,
        ACCOUNTS_OF_NETWORK,
        LINKS_OF_NETWORK,
        REPLAYS,
        MOST,
    )
    .fetch_all(pool)
    .await
}

/// What is told by itself, the newest of each kind.
pub(super) async fn acts(pool: &PgPool, since: OffsetDateTime) -> sqlx::Result<Vec<Act>> {
    sqlx::query_as!(
        Act,
        r#"
        select act.event_type as "event!", act.user_id as "user", act.actor_id as actor, act.details->>'by' as by, act.details->>'reason' as reason,
               act.details->>'network' as network, act.created_at as "at!"
        from unnest(array[
            'audit.tampered', 'totp.unreadable', 'two_factor.reset', 'admin.granted', 'audit.exported', 'network.too_many_requests',
            'user.created', 'user.disabled', 'user.enabled', 'user.sessions_ended', 'sessions.ended', 'flag.changed', 'api_key.revoked',
            'audit.accepted'
        ]) as kind (name) cross join lateral (
            select event_type, user_id, actor_id, details, created_at from auth_audit
            where event_type = kind.name and created_at >= $1
                and (kind.name in (
                        'audit.tampered', 'totp.unreadable', 'two_factor.reset', 'admin.granted', 'audit.exported',
                        'network.too_many_requests')
                    or details->>'by' = 'operator')
            order by created_at desc limit $2
        ) act
        "#,
        since,
        MOST,
    )
    .fetch_all(pool)
    .await
}
