//! `/api/v1/audit`: what happened, the newest first.
#![expect(unused_qualifications, reason = "utoipa's attributes write the paths out")]

use auth::{
    audit::{About, AuditFilter, AuditRow},
    identity::Scope,
    primitives::cursor::Cursor,
};
use axum::Json;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;
use uuid::Uuid;

use super::{
    Api,
    bearer::Caller,
    extract::{Params, cursor, moment, rows},
};
use crate::http::problem::Problem;

pub(super) fn routes(api: Api) -> Api {
    api.with(Scope::AuditRead, routes!(list_audit))
}

/// Something that happened.
#[derive(Serialize, ToSchema)]
struct AuditEvent {
    id: Uuid,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    created_at: OffsetDateTime,
    /// Like `session.created`.
    event_type: String,
    /// Whose it is.
    user_id: Option<Uuid>,
    /// The administrator or API key that did it, unless the account did.
    actor_id: Option<Uuid>,
    ip: Option<String>,
    user_agent: Option<String>,
    request_id: Option<String>,
    #[schema(value_type = Object)]
    details: Value,
}

impl From<AuditRow> for AuditEvent {
    fn from(row: AuditRow) -> Self {
        Self {
            id: row.id,
            created_at: row.at,
            event_type: row.event,
            user_id: row.user,
            actor_id: row.actor,
            ip: row.ip.map(|ip| ip.to_string()),
            user_agent: row.user_agent,
            request_id: row.request_id,
            details: row.details,
        }
    }
}

#[derive(Serialize, ToSchema)]
struct AuditList {
    events: Vec<AuditEvent>,
    /// For the next request; null at the list's end.
    next_cursor: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AuditQuery {
    /// Like `session.created`.
    #[param(max_length = 100)]
    event_type: Option<String>,
    /// Whose it is.
    user: Option<Uuid>,
    /// From then on.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Before then.
    #[param(format = DateTime)]
    until: Option<String>,
    /// As the answer before gave it. The filters must be the same.
    #[param(pattern = "^[no][0-9]{1,16}-[0-9a-f]{32}$")]
    cursor: Option<String>,
    #[param(minimum = 1, maximum = 100, default = 25)]
    limit: Option<u32>,
}

/// Lists what happened, the newest first
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(AuditQuery), responses((status = 200, description = "Up to `limit` of the events that match.", body = AuditList)))]
async fn list_audit(caller: Caller, Params(query): Params<AuditQuery>) -> Result<Json<AuditList>, Problem> {
    const MAX_NAME: usize = 100;
    if query.event_type.as_ref().is_some_and(|name| name.chars().count() > MAX_NAME) {
        return Err(Problem::invalid(format!("event_type must be at most {MAX_NAME} characters long.")));
    }
    let filter = AuditFilter {
        events: query.event_type.into_iter().collect(),
        about: query.user.map(About::User),
        since: moment("since", query.since.as_deref())?,
        until: moment("until", query.until.as_deref())?,
    };
    let cursor = cursor(query.cursor.as_deref(), Cursor::parse)?;
    let page = caller.auth().audit().page(&filter, cursor, rows(query.limit)?).await?;
    let next_cursor = page.older.map(|cursor| cursor.to_string());
    Ok(Json(AuditList { events: page.rows.into_iter().map(Into::into).collect(), next_cursor }))
}
