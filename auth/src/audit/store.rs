use std::net::IpAddr;

use sqlx::PgPool;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{About, AuditFilter, AuditRow, Name};
use crate::primitives::{
    cursor::{Cursor, Towards},
    stored_json::StoredJson,
};

/// The rows of a query that is written once for both directions: `$before` and `$order` stand where they differ.
macro_rules! rows {
    ($query:ident $(($condition:tt))?, $towards:expr, $pool:expr, $($argument:expr),+ $(,)?) => {
        if $towards == Towards::Newer {
            $query!($($condition,)? ">", "asc", $($argument),+).fetch_all($pool).await
        } else {
            $query!($($condition,)? "<", "desc", $($argument),+).fetch_all($pool).await
        }
    };
}

/// What a row is. One that somebody wrote by hand may name a network: its first address is shown, and no page fails.
macro_rules! select {
    ($with:tt, [$($from:tt)+], $($argument:expr),+) => {
        sqlx::query_as!(
            AuditRow,
            $with + r#"
            select id as "id!", created_at as "at!", event_type as "event!", user_id as "user", actor_id as actor,
                   host(ip)::inet as "ip: IpAddr", user_agent, request_id, details::text as "details!: StoredJson", position as "position!"
            "# + $($from)+,
            $($argument),+
        )
    };
}

/// Along one index: the primary key, or that of the condition.
macro_rules! along {
    ($condition:tt, $before:tt, $order:tt, $($argument:expr),+) => {
        select!(
            "",
            [
                r#"
                from auth_audit
                where "# + $condition + r#" and created_at >= $1 and created_at < $2 and (created_at, id) "# + $before + r#" ($3, $4)
                    and (cardinality($6::text[]) = 0 or event_type = any($6))
                order by created_at "# + $order + ", id " + $order + " limit $5"
            ],
            $($argument),+
        )
    };
}

/// Each kind of event by itself, up to a page of it, along the index that has them in order: what is rare is found without looking at
/// the rest. Places first and rows afterwards: only what the index holds by itself makes it cheaper, to the planner, than walking all
/// rows by time and leaving out the others, which takes seconds where there are few.
macro_rules! of_kinds {
    ($before:tt, $order:tt, $($argument:expr),+) => {
        select!(
            "",
            [
                r#"
                from (
                    select kinds_places.created_at, kinds_places.id
                    from unnest($6::text[]) as kind (name) cross join lateral (
                        select created_at, id from auth_audit
                        where event_type = kind.name and created_at >= $1 and created_at < $2
                            and (created_at, id) "# + $before + r#" ($3, $4)
                        order by created_at "# + $order + ", id " + $order + r#" limit $5
                    ) kinds_places
                    order by created_at "# + $order + ", id " + $order + r#" limit $5
                ) place (row_at, row_id)
                join auth_audit on created_at = row_at and id = row_id
                order by created_at "# + $order + ", id " + $order
            ],
            $($argument),+
        )
    };
}

/// The same of one account, and, where asked for, what its owner did to others. Without kinds: those that the account has, found by
/// leaping from one to the next along the index.
macro_rules! of_user {
    ($before:tt, $order:tt, $($argument:expr),+) => {
        select!(
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
            "#,
            [
                r#"
                from (
                    select kinds_rows.* from kind cross join lateral (
                        select * from auth_audit
                        where user_id = $7 and event_type = kind.name and created_at >= $1 and created_at < $2
                            and (created_at, id) "# + $before + r#" ($3, $4)
                        order by created_at "# + $order + ", id " + $order + r#" limit $5
                    ) kinds_rows
                    union all
                    (select * from auth_audit
                     where $8 and actor_id = $7 and user_id is distinct from $7 and created_at >= $1 and created_at < $2
                        and (created_at, id) "# + $before + r#" ($3, $4)
                        and (cardinality($6::text[]) = 0 or event_type = any($6))
                     order by created_at "# + $order + ", id " + $order + r#" limit $5)
                ) happened
                order by created_at "# + $order + ", id " + $order + " limit $5"
            ],
            $($argument),+
        )
    };
}

/// At most `most` rows, in the order of the cursor's direction. Planned with the values: each filter has an index of its own, and the
/// bounds leave out the months they don't touch.
pub(super) async fn page(pool: &PgPool, filter: &AuditFilter, cursor: Option<Cursor>, most: usize) -> sqlx::Result<Vec<AuditRow>> {
    let Cursor { towards, at, id } = cursor.unwrap_or(Cursor::NEWEST);
    let mut since = filter.since.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut until = filter.until.unwrap_or(Cursor::NEWEST.at);
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let events = &filter.events[..];
    match &filter.about {
        None if events.is_empty() => rows!(along("true"), towards, pool, since, until, at, id, most, events),
        None => rows!(of_kinds, towards, pool, since, until, at, id, most, events),
        Some(About::User(user)) => rows!(of_user, towards, pool, since, until, at, id, most, events, user, false),
        Some(About::Person(user)) => rows!(of_user, towards, pool, since, until, at, id, most, events, user, true),
        Some(About::Ip(ip)) => rows!(along("ip = $7"), towards, pool, since, until, at, id, most, events, *ip as IpAddr),
        Some(About::Request(request)) => {
            // Ours begin with their time. One that a proxy gave is looked for in the whole span.
            if let Some(made) = time_of(request) {
                (since, until) = (since.max(made.saturating_sub(SLACK)), until.min(made.saturating_add(SLACK)));
            }
            rows!(along("request_id = $7"), towards, pool, since, until, at, id, most, events, request)
        }
    }
}

/// What a request causes lies no further from its id's time: clocks differ, and a request ends within seconds.
const SLACK: Duration = Duration::minutes(5);

fn time_of(request: &str) -> Option<OffsetDateTime> {
    let (seconds, _) = Uuid::try_parse(request).ok()?.get_timestamp()?.to_unix();
    OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()
}

/// Accounts and API keys by their ids, as far as they are there.
pub(super) async fn names(pool: &PgPool, ids: &[Uuid]) -> sqlx::Result<Vec<(Uuid, Name)>> {
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
pub(super) async fn is_account(pool: &PgPool, id: Uuid) -> sqlx::Result<bool> {
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
