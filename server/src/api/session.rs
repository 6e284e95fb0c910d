//! `/api/v1/session`: whom a session speaks for that an application holds, at this very moment; and its end.

use auth::{
    identity::{Level, Method, Scope, SecondFactor},
    sessions::ApiSession,
    sign_in::for_applications::SessionError,
};
use axum::Json;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use utoipa_axum::routes;
use uuid::Uuid;

use super::{
    Api,
    bearer::{Caller, session_token},
};
use crate::http::problem::Problem;

pub(super) fn routes(api: Api) -> Api {
    api.with(Scope::Sessions, routes!(show_session, end_session))
}

/// Whom a session speaks for.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionUser {
    id: Uuid,
    email: String,
    name: Option<String>,
    /// `users`, and `admins` for administrators
    groups: Vec<&'static str>,
    two_factor: bool,
}

impl From<ApiSession> for SessionUser {
    fn from(session: ApiSession) -> Self {
        let groups = if session.admin { vec!["users", "admins"] } else { vec!["users"] };
        Self { id: session.user, email: session.email, name: session.name, groups, two_factor: session.two_factor }
    }
}

#[derive(Serialize, ToSchema)]
struct LiveSession {
    id: Uuid,
    /// `email` or `two_factor`
    #[schema(value_type = String)]
    level: Level,
    #[schema(value_type = String)]
    method: Method,
    #[schema(value_type = Option<String>)]
    second_method: Option<SecondFactor>,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    signed_in_at: OffsetDateTime,
    /// To the minute.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    last_seen_at: OffsetDateTime,
    /// At the latest; unused it ends sooner.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    expires_at: OffsetDateTime,
    user: SessionUser,
}

/// Tells whom a session speaks for, at this moment; asking is using it
#[utoipa::path(
    get, path = "/api/v1/session", tag = "session",
    params(("Latchkey-Session" = String, Header, description = "The session's token.")),
    responses(
        (status = 200, description = "It is live.", body = LiveSession),
        (status = 422, description = "There is no Latchkey-Session, or more than one."),
        (status = 403, description = "The key lacks the scope, or the account must set two-factor up first, at `enrol_url` (`enrolment_required`): nobody is signed in."),
        (status = 404, description = "It is over, was never there, or is another application's."),
    ),
)]
async fn show_session(caller: Caller, headers: HeaderMap) -> Result<Json<LiveSession>, Problem> {
    let session =
        caller.auth().sign_in().use_api_session(caller.session(), &session_token(&headers)?).await.map_err(
            |error| match error {
                SessionError::Over => Problem::not_found(),
                SessionError::EnrolmentRequired => caller.state.enrolment_required(),
                SessionError::Unavailable(error) => error.into(),
            },
        )?;
    Ok(Json(LiveSession {
        id: session.session,
        level: session.level,
        method: session.method,
        second_method: session.second,
        signed_in_at: session.authenticated_at,
        last_seen_at: session.last_seen_at,
        expires_at: session.expires_at,
        user: session.into(),
    }))
}

/// Ends a session, at once
#[utoipa::path(
    delete, path = "/api/v1/session", tag = "session",
    params(("Latchkey-Session" = String, Header, description = "The session's token.")),
    responses(
        (status = 204, description = "It is over."),
        (status = 422, description = "There is no Latchkey-Session, or more than one."),
        (status = 404, description = "It was over, was never there, or is another application's."),
    ),
)]
async fn end_session(caller: Caller, headers: HeaderMap) -> Result<StatusCode, Problem> {
    let ended = caller.auth().sign_in().end_api_session(&caller.application(), &session_token(&headers)?, caller.from()).await?;
    if ended { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::not_found()) }
}
