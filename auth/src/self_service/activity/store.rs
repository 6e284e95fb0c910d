use ipnet::IpNet;
use serde_json::Value;
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Entry, Filter, PAGE};
use crate::primitives::{
    cursor::{Cursor, Towards},
    requester::device,
    stored_json::StoredJson,
};

struct Row {
    id: Uuid,
    created_at: OffsetDateTime,
    event_type: String,
    details: Value,
    ip: Option<IpNet>,
    user_agent: Option<String>,
    by_other: bool,
}

impl From<Row> for Entry {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            at: row.created_at,
            happened: row.event_type,
            details: row.details,
            device: row.user_agent.filter(|_| !row.by_other).map(|user_agent| device(&user_agent)),
            ip: row.ip.filter(|_| !row.by_other).map(|ip| ip.addr()),
            by_other: row.by_other,
        }
    }
}

/// One more than a page holds, in the order of the cursor's direction. The first of two sessions of a sign-in with two factors,
/// and its end, are steps on the way: only where it led is shown.
///
/// Each kind of event by itself, up to a page of it, along an index that has them in order: what is rare among 10^5 rows is found
/// without looking at these. The cursor is a bound and never null, which would hide it from the index. The links are ordered by time
/// alone, as their index is: two of one address in one microsecond are nobody's.
pub(super) async fn page(
    pool: &PgPool,
    user: Uuid,
    filter: Filter,
    since: OffsetDateTime,
    cursor: Option<Cursor>,
) -> sqlx::Result<Vec<Entry>> {
    let Cursor { towards, at, id } = cursor.unwrap_or(Cursor::NEWEST);
    // `$before` and `$order` stand where the two directions differ.
    macro_rules! rows {
        ($before:tt, $order:tt) => {
            sqlx::query_as!(
                Row,
                r#"
                select id as "id!", created_at as "created_at!", event_type as "event_type!", details::text as "details!: StoredJson", ip as "ip: IpNet",
                       user_agent, by_other as "by_other!"
                from (
                    select audited.*
                    from unnest($3::text[]) as kind (name) cross join lateral (
                        select id, created_at, event_type, details, ip, user_agent,
                               actor_id is not null or details->>'by' in ('operator', 'admin') is true as by_other
                        from auth_audit
                        where user_id = $1 and event_type = kind.name and created_at > $2 and (created_at, id) "# + $before + r#" ($5, $6)
                            and coalesce(details->>'level', '') <> 'first_factor'
                            and not (event_type = 'session.revoked' and details->>'reason' = 'replaced')
                        order by created_at "# + $order + ", id " + $order + r#" limit $4
                    ) audited
                    union all
                    (select id, created_at, 'link.requested', '{}', ip, user_agent, false
                     from magic_links
                     where email_key = (select email_key from users where id = $1) and $7 and created_at > $2 and (created_at, id) "# + $before + r#" ($5, $6)
                     order by created_at "# + $order + r#" limit $4)
                ) happened
                order by created_at "# + $order + ", id " + $order + " limit $4",
                user,
                since,
                &filter.events(),
                i64::try_from(PAGE + 1).unwrap_or(i64::MAX),
                at,
                id,
                filter.mails(),
            )
            .fetch_all(pool)
            .await?
        };
    }
    let rows = if towards == Towards::Newer { rows!(">", "asc") } else { rows!("<", "desc") };
    Ok(rows.into_iter().map(Into::into).collect())
}
