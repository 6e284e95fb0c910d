use ipnet::IpNet;
use serde_json::Value;
use sqlx::PgPool;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{
    About, AuditFilter, AuditRow, Name,
    report::{ACCOUNTS_OF_NETWORK, Act, FAILURES_OF_ACCOUNT, LINKS_OF_NETWORK, MOST, REPLAYS, Tally},
};
use crate::primitives::cursor::{Cursor, Towards};

struct Row {
    id: Uuid,
    created_at: OffsetDateTime,
    event_type: String,
    user_id: Option<Uuid>,
    actor_id: Option<Uuid>,
    ip: Option<IpNet>,
    user_agent: Option<String>,
    request_id: Option<String>,
    details: Value,
    position: i64,
}

impl From<Row> for AuditRow {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            at: row.created_at,
            event: row.event_type,
            user: row.user_id,
            actor: row.actor_id,
            ip: row.ip.map(|ip| ip.addr()),
            user_agent: row.user_agent,
            request_id: row.request_id,
            details: row.details,
            position: row.position,
        }
    }
}

/// Rows of a query that is written once for both directions: `$before` and `$order` stand where they differ.
macro_rules! rows {
    ($query:ident, $towards:expr, $pool:expr, $($argument:expr),+ $(,)?) => {
        if $towards == Towards::Newer {
            $query!(">", "asc", $($argument),+).fetch_all($pool).await?
        } else {
            $query!("<", "desc", $($argument),+).fetch_all($pool).await?
        }
    };
}

/// Along the primary key.
macro_rules! all {
    ($before:tt, $order:tt, $($argument:expr),+) => {
        sqlx::query_as!(
            Row,
            r#"
            select id, created_at, event_type, user_id, actor_id, ip as "ip: IpNet", user_agent, request_id, details, position
            from auth_audit
            where created_at >= $1 and created_at < $2 and (created_at, id) "# + $before + r#" ($3, $4)
            order by created_at "# + $order + ", id " + $order + " limit $5",
            $($argument),+
        )
    };
}

/// Each kind of event by itself, up to a page of it, along the index that has them in order: what is rare is found without looking at
/// the rest. Places first and rows afterwards: only what the index holds by itself makes it cheaper, to the planner, than walking all
/// rows by time and leaving out the others, which takes seconds where there are few.
macro_rules! of_kinds {
    ($before:tt, $order:tt, $($argument:expr),+) => {
        sqlx::query_as!(
            Row,
            r#"
            select a.id, a.created_at, a.event_type, a.user_id, a.actor_id, a.ip as "ip: IpNet", a.user_agent, a.request_id,
                   a.details, a.position
            from (
                select kinds_places.created_at, kinds_places.id
                from unnest($6::text[]) as kind (name) cross join lateral (
                    select created_at, id from auth_audit
                    where event_type = kind.name and created_at >= $1 and created_at < $2
                        and (created_at, id) "# + $before + r#" ($3, $4)
                    order by created_at "# + $order + ", id " + $order + r#" limit $5
                ) kinds_places
                order by created_at "# + $order + ", id " + $order + r#" limit $5
            ) place
            join auth_audit a on a.created_at = place.created_at and a.id = place.id
            order by a.created_at "# + $order + ", a.id " + $order,
            $($argument),+
        )
    };
}

/// The same of one account, and, where asked for, what its owner did to others. Without kinds: those that the account has, found by
/// leaping from one to the next along the index.
macro_rules! of_user {
    ($before:tt, $order:tt, $($argument:expr),+) => {
        sqlx::query_as!(
            Row,
            r#"
            with recursive own (name) as (
                select min(event_type) from auth_audit where user_id = $7
                union all
                select (select min(event_type) from auth_audit where user_id = $7 and event_type > own.name) from own
                where own.name is not null
            ),
            kind (name) as (
                select unnest($6::text[]) union all select name from own where cardinality($6::text[]) = 0 and name is not null
            )
            select id as "id!", created_at as "created_at!", event_type as "event_type!", user_id, actor_id, ip as "ip: IpNet",
                   user_agent, request_id, details as "details!", position as "position!"
            from (
                select kinds_rows.* from kind cross join lateral (
                    select id, created_at, event_type, user_id, actor_id, ip, user_agent, request_id, details, position from auth_audit
                    where user_id = $7 and event_type = kind.name and created_at >= $1 and created_at < $2
                        and (created_at, id) "# + $before + r#" ($3, $4)
                    order by created_at "# + $order + ", id " + $order + r#" limit $5
                ) kinds_rows
                union all
                (select id, created_at, event_type, user_id, actor_id, ip, user_agent, request_id, details, position from auth_audit
                 where $8 and actor_id = $7 and user_id is distinct from $7 and created_at >= $1 and created_at < $2
                    and (created_at, id) "# + $before + r#" ($3, $4)
                    and (cardinality($6::text[]) = 0 or event_type = any($6))
                 order by created_at "# + $order + ", id " + $order + r#" limit $5)
            ) happened
            order by created_at "# + $order + ", id " + $order + " limit $5",
            $($argument),+
        )
    };
}

/// Along its index.
macro_rules! of_ip {
    ($before:tt, $order:tt, $($argument:expr),+) => {
        sqlx::query_as!(
            Row,
            r#"
            select id, created_at, event_type, user_id, actor_id, ip as "ip: IpNet", user_agent, request_id, details, position
            from auth_audit
            where ip = $7 and created_at >= $1 and created_at < $2 and (created_at, id) "# + $before + r#" ($3, $4)
                and (cardinality($6::text[]) = 0 or event_type = any($6))
            order by created_at "# + $order + ", id " + $order + " limit $5",
            $($argument),+
        )
    };
}

/// Among the rows of its time.
macro_rules! of_request {
    ($before:tt, $order:tt, $($argument:expr),+) => {
        sqlx::query_as!(
            Row,
            r#"
            select id, created_at, event_type, user_id, actor_id, ip as "ip: IpNet", user_agent, request_id, details, position
            from auth_audit
            where request_id = $7 and created_at >= $1 and created_at < $2 and (created_at, id) "# + $before + r#" ($3, $4)
                and (cardinality($6::text[]) = 0 or event_type = any($6))
            order by created_at "# + $order + ", id " + $order + " limit $5",
            $($argument),+
        )
    };
}

/// At most `most` rows, in the order of the cursor's direction. Planned with the values: each filter has an index of its own, and the
/// bounds leave out the months they don't touch.
pub(super) async fn page(
    pool: &PgPool,
    filter: &AuditFilter,
    cursor: Option<Cursor>,
    most: usize,
) -> Result<Vec<AuditRow>, sqlx::Error> {
    let Cursor { towards, at, id } = cursor.unwrap_or(Cursor::NEWEST);
    let mut since = filter.since.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut until = filter.until.unwrap_or(Cursor::NEWEST.at);
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let events = &filter.events[..];
    let rows = match &filter.about {
        None if events.is_empty() => rows!(all, towards, pool, since, until, at, id, most),
        None => rows!(of_kinds, towards, pool, since, until, at, id, most, events),
        Some(About::User(user)) => rows!(of_user, towards, pool, since, until, at, id, most, events, user, false),
        Some(About::Person(user)) => rows!(of_user, towards, pool, since, until, at, id, most, events, user, true),
        Some(About::Ip(ip)) => {
            let ip = IpNet::from(*ip);
            rows!(of_ip, towards, pool, since, until, at, id, most, events, ip as IpNet)
        }
        Some(About::Request(request)) => {
            // Ours begin with their time. One that a proxy gave is looked for in the whole span.
            if let Some(made) = time_of(request) {
                (since, until) = (since.max(made.saturating_sub(SLACK)), until.min(made.saturating_add(SLACK)));
            }
            rows!(of_request, towards, pool, since, until, at, id, most, events, request)
        }
    };
    Ok(rows.into_iter().map(Into::into).collect())
}

/// What a request causes lies no further from its id's time: clocks differ, and a request ends within seconds.
const SLACK: Duration = Duration::minutes(5);

fn time_of(request: &str) -> Option<OffsetDateTime> {
    let (seconds, _) = Uuid::try_parse(request).ok()?.get_timestamp()?.to_unix();
    OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()
}

/// Accounts and API keys by their ids, as far as they are there.
pub(super) async fn names(pool: &PgPool, ids: &[Uuid]) -> Result<Vec<(Uuid, Name)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select id as "id!", email as "name!", true as "account!" from users where id = any($1)
        union all
        select id, name, false from api_keys where id = any($1)
        "#,
        ids,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, if row.account { Name::Account(row.name) } else { Name::ApiKey(row.name) })).collect())
}

/// Whether it is, or was, somebody's: an account that is gone has left rows.
pub(super) async fn is_account(pool: &PgPool, id: Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select exists (select from users where id = $1) or exists (select from auth_audit where user_id = $1)
            or exists (select from auth_audit where actor_id = $1) as "is!"
        "#,
        id,
    )
    .fetch_one(pool)
    .await
}

/// Refused codes of each account that has many, the worst first.
pub(super) async fn tallies_of_accounts(pool: &PgPool, since: OffsetDateTime) -> Result<Vec<Tally>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select user_id as "user!", count(*) as "failures!", count(*) filter (where details->>'reason' = 'used') as "replays!",
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
    .await?;
    let tally = rows.into_iter().map(|row| Tally {
        user: Some(row.user),
        ip: None,
        failures: row.failures,
        replays: row.replays,
        accounts: 1,
        links: 0,
        first: row.first,
        last: row.last,
    });
    Ok(tally.collect())
}

/// The same of each address, with the links of sign-in mails, which are nobody's until they are redeemed.
pub(super) async fn tallies_of_networks(pool: &PgPool, since: OffsetDateTime) -> Result<Vec<Tally>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select ip as "ip!: IpNet", failures as "failures!", replays as "replays!", accounts as "accounts!", links as "links!",
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
    .await?;
    let tally = rows.into_iter().map(|row| Tally {
        user: None,
        ip: Some(row.ip.addr()),
        failures: row.failures,
        replays: row.replays,
        accounts: row.accounts,
        links: row.links,
        first: row.first,
        last: row.last,
    });
    Ok(tally.collect())
}

/// What is told by itself, the newest of each kind.
pub(super) async fn acts(pool: &PgPool, since: OffsetDateTime) -> Result<Vec<Act>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select act.event_type as "event!", act.user_id, act.actor_id, act.details->>'by' as by, act.details->>'reason' as reason,
               act.details->>'network' as network, act.created_at as "at!"
        from unnest(array[
            'audit.tampered', 'totp.unreadable', 'two_factor.reset', 'admin.granted', 'audit.exported', 'network.too_many_requests',
            'user.created', 'user.disabled', 'user.enabled', 'user.sessions_ended', 'sessions.ended', 'flag.changed', 'api_key.revoked'
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
    .await?;
    let act = rows.into_iter().map(|row| Act {
        event: row.event,
        user: row.user_id,
        actor: row.actor_id,
        by: row.by,
        reason: row.reason,
        network: row.network,
        at: row.at,
    });
    Ok(act.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn our_request_ids_tell_their_time_and_others_dont() {
        let at = datetime!(2026-11-24 14:29:31 UTC);
        assert_eq!(time_of(&crate::crypto::new_id(at).to_string()), Some(at));
        assert_eq!(time_of("a-proxys-own"), None);
        assert_eq!(time_of("00000000-0000-4000-8000-000000000000"), None);
    }
}
