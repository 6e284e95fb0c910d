use ipnet::IpNet;
use serde_json::Value;
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{AuditFilter, AuditRow};
use crate::cursor::{Cursor, Towards};

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
        }
    }
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
    let since = filter.since.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let until = filter.until.unwrap_or(Cursor::NEWEST.at);
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = if towards == Towards::Newer {
        sqlx::query_as!(
            Row,
            r#"
            select id, created_at, event_type, user_id, actor_id, ip as "ip: IpNet", user_agent, request_id, details
            from auth_audit
            where ($1::text is null or event_type = $1) and ($2::uuid is null or user_id = $2)
                and created_at >= $3 and created_at < $4 and (created_at, id) > ($5, $6)
            order by created_at, id limit $7
            "#,
            filter.event,
            filter.user,
            since,
            until,
            at,
            id,
            most,
        )
        .fetch_all(pool)
        .await?
    } else {
        sqlx::query_as!(
            Row,
            r#"
            select id, created_at, event_type, user_id, actor_id, ip as "ip: IpNet", user_agent, request_id, details
            from auth_audit
            where ($1::text is null or event_type = $1) and ($2::uuid is null or user_id = $2)
                and created_at >= $3 and created_at < $4 and (created_at, id) < ($5, $6)
            order by created_at desc, id desc limit $7
            "#,
            filter.event,
            filter.user,
            since,
            until,
            at,
            id,
            most,
        )
        .fetch_all(pool)
        .await?
    };
    Ok(rows.into_iter().map(Into::into).collect())
}
