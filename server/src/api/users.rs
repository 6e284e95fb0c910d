//! `/api/v1/users`: accounts, and ending their sessions.
#![expect(unused_qualifications, reason = "utoipa's attributes write the paths out")]

use auth::{
    administration::{self, UserCursor, UserFilter},
    identity::{ActionError, Scope},
    sessions::SessionView,
};
use axum::Json;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;
use uuid::Uuid;

use super::{
    Api,
    bearer::Caller,
    extract::{Id, JsonBody, Params, cursor, reason, rows},
};
use crate::http::problem::Problem;

pub(super) fn routes(api: Api) -> Api {
    api.with(Scope::Users, routes!(list_users)).with(Scope::Users, routes!(show_user)).with(Scope::Users, routes!(revoke_sessions))
}

/// How an account stands.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(remote = "administration::Status", rename_all = "snake_case")]
enum Status {
    Active,
    /// Turned off by an administrator.
    Disabled,
    /// Its owner asked for it to be deleted.
    Leaving,
    /// No account yet: an invitation that was not taken up.
    Invited,
}

/// One that is asked for.
#[derive(Deserialize)]
struct Wanted(#[serde(with = "Status")] administration::Status);

/// An account in a list.
#[derive(Serialize, ToSchema)]
struct User {
    /// An invitation's, where the status is `invited`.
    id: Uuid,
    email: String,
    #[serde(with = "Status")]
    #[schema(value_type = Status)]
    status: administration::Status,
    admin: bool,
    two_factor: bool,
    /// Backup codes that still work.
    backup_codes_left: i64,
    #[serde(with = "time::serde::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    last_sign_in_at: Option<OffsetDateTime>,
    /// How many it has open.
    sessions: i64,
}

impl From<administration::UserRow> for User {
    fn from(row: administration::UserRow) -> Self {
        Self {
            id: row.id,
            email: row.email,
            status: row.status,
            admin: row.admin,
            two_factor: row.two_factor,
            backup_codes_left: row.codes_left,
            last_sign_in_at: row.last_sign_in_at,
            sessions: row.sessions,
        }
    }
}

#[derive(Serialize, ToSchema)]
struct UserList {
    users: Vec<User>,
    /// For the next request; null at the list's end.
    next_cursor: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct UserQuery {
    /// Part of an address in any case, or a whole id.
    #[param(max_length = 254)]
    search: Option<String>,
    #[param(inline, value_type = Option<Status>)]
    status: Option<Wanted>,
    two_factor: Option<bool>,
    /// As the answer before gave it. The filters must be the same.
    #[param(pattern = "^[0-9a-f]{32}$")]
    cursor: Option<String>,
    #[param(minimum = 1, maximum = 100, default = 25)]
    limit: Option<u32>,
}

/// Lists accounts and open invitations, by address
#[utoipa::path(get, path = "/api/v1/users", tag = "users", params(UserQuery), responses((status = 200, description = "Up to `limit` of those that match.", body = UserList)))]
async fn list_users(caller: Caller, Params(query): Params<UserQuery>) -> Result<Json<UserList>, Problem> {
    const MAX_SEARCH: usize = 254;
    if query.search.as_ref().is_some_and(|search| search.chars().count() > MAX_SEARCH) {
        return Err(Problem::invalid(format!("search must be at most {MAX_SEARCH} characters long.")));
    }
    let filter =
        UserFilter { search: query.search, status: query.status.map(|Wanted(status)| status), two_factor: query.two_factor };
    let cursor = cursor(query.cursor.as_deref(), |text| Uuid::try_parse(text).ok().map(UserCursor))?;
    let (users, next) = caller.auth().administration().users_after(&filter, cursor, rows(query.limit)?).await?;
    let next_cursor = next.map(|UserCursor(id)| id.simple().to_string());
    Ok(Json(UserList { users: users.into_iter().map(Into::into).collect(), next_cursor }))
}

/// One of an account's sessions.
#[derive(Serialize, ToSchema)]
struct Session {
    id: Uuid,
    /// Like `Firefox on Windows`.
    device: String,
    ip: Option<String>,
    #[schema(value_type = String)]
    method: auth::identity::Method,
    #[schema(value_type = Option<String>)]
    second_method: Option<auth::identity::SecondFactor>,
    two_factor: bool,
    new_device: bool,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    signed_in_at: OffsetDateTime,
    /// To the minute.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    last_seen_at: OffsetDateTime,
}

impl From<SessionView> for Session {
    fn from(view: SessionView) -> Self {
        Self {
            id: view.id,
            device: view.device,
            ip: view.ip.map(|ip| ip.to_string()),
            method: view.method,
            second_method: view.second,
            two_factor: view.two_factor,
            new_device: view.new_device,
            signed_in_at: view.signed_in_at,
            last_seen_at: view.last_seen_at,
        }
    }
}

/// An account whole.
#[derive(Serialize, ToSchema)]
struct UserDetail {
    id: Uuid,
    email: String,
    display_name: Option<String>,
    #[serde(with = "Status")]
    #[schema(value_type = Status)]
    status: administration::Status,
    admin: bool,
    two_factor: bool,
    backup_codes_left: i64,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    last_sign_in_at: Option<OffsetDateTime>,
    /// When it will be deleted, if its owner has asked for that.
    #[serde(with = "time::serde::rfc3339::option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    deletes_at: Option<OffsetDateTime>,
    /// Those that are open.
    sessions: Vec<Session>,
}

/// One account. That it was looked at stands in the audit log
#[utoipa::path(get, path = "/api/v1/users/{id}", tag = "users", params(("id" = Uuid, Path)), responses((status = 200, description = "The account.", body = UserDetail)))]
async fn show_user(caller: Caller, Id(id): Id) -> Result<Json<UserDetail>, Problem> {
    let user = caller.auth().administration().user(caller.who(), id).await?.ok_or_else(Problem::not_found)?;
    Ok(Json(UserDetail {
        id,
        email: user.row.email,
        display_name: user.display_name,
        status: user.row.status,
        admin: user.row.admin,
        two_factor: user.row.two_factor,
        backup_codes_left: user.row.codes_left,
        created_at: user.created_at,
        last_sign_in_at: user.row.last_sign_in_at,
        deletes_at: user.deletes_at,
        sessions: user.sessions.into_iter().map(Into::into).collect(),
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RevokeSessions {
    /// One line, for the audit log.
    #[schema(
        min_length = 1,
        max_length = 500,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$"
    )]
    reason: String,
}

#[derive(Serialize, ToSchema)]
struct SessionsRevoked {
    /// How many ended; 0 if none were open.
    ended: u64,
}

/// Ends every session of an account, at once, and mails its owner
#[utoipa::path(
    post, path = "/api/v1/users/{id}/revoke-sessions", tag = "users", params(("id" = Uuid, Path)), request_body = RevokeSessions,
    responses((status = 200, description = "They are over.", body = SessionsRevoked)),
)]
async fn revoke_sessions(
    caller: Caller,
    Id(id): Id,
    JsonBody(body): JsonBody<RevokeSessions>,
) -> Result<Json<SessionsRevoked>, Problem> {
    match caller.auth().administration().end_user_sessions(caller.who(), id, &reason(&body.reason)?).await {
        Ok(ended) => Ok(Json(SessionsRevoked { ended })),
        Err(ActionError::Nothing) => Ok(Json(SessionsRevoked { ended: 0 })),
        Err(error) => Err(error.into()),
    }
}
