//! What went wrong, for programs: problem details (RFC 9457).
//!
//! A [`Problem`] travels in its response's extensions, and [`written`] puts the body around it outside of everything: there the request's
//! id is known, and what the framework or a middleware refuses by itself gets the same form.

use std::{borrow::Cow, time::Duration};

use auth::identity::ActionError;
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, SET_COOKIE},
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::middleware::{request_id::RequestId, seconds_up};

pub const MEDIA_TYPE: &str = "application/problem+json";
/// The prefix of every problem's type. A URN: there is nothing to fetch, and the type is the same on every instance.
const TYPES: &str = "urn:latchkey:problem:";

/// A problem, to be answered.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    /// Stable: programs tell problems apart by it.
    name: &'static str,
    title: &'static str,
    detail: Option<Cow<'static, str>>,
    more: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// How a problem is written.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDetails {
    /// `urn:latchkey:problem:` and the problem's name, which stays.
    #[serde(rename = "type")]
    #[schema(example = "urn:latchkey:problem:rate_limited")]
    kind: String,
    /// The same for every problem of this type.
    title: &'static str,
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What it was this time, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Cow<'static, str>>,
    /// Names the request in our logs.
    request_id: String,
    #[serde(flatten)]
    #[schema(ignore)]
    more: Map<String, Value>,
}

impl Problem {
    pub fn new(status: StatusCode, name: &'static str, title: &'static str) -> Self {
        Self { status, name, title, detail: None, more: Map::new(), headers: Vec::new() }
    }

    /// What a status says that came without words of its own.
    pub fn of(status: StatusCode) -> Self {
        let (name, title) = match status {
            StatusCode::UNAUTHORIZED => ("unauthorized", "This needs an API key that works"),
            StatusCode::FORBIDDEN => ("forbidden", "This key may not do that"),
            StatusCode::NOT_FOUND => ("not_found", "There is no such thing"),
            StatusCode::METHOD_NOT_ALLOWED => ("method_not_allowed", "This can't be done with that method"),
            StatusCode::REQUEST_TIMEOUT => ("too_slow", "The body took too long to come"),
            StatusCode::CONFLICT => ("conflict", "As things are, this can't be done"),
            StatusCode::GONE => ("gone", "It was there, and is no more"),
            StatusCode::PAYLOAD_TOO_LARGE => ("too_large", "The body is too long"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => ("unsupported_media_type", "The body must be application/json"),
            StatusCode::UNPROCESSABLE_ENTITY => ("invalid", "Something in the request is not as described"),
            StatusCode::TOO_MANY_REQUESTS => ("rate_limited", "Too many requests"),
            StatusCode::SERVICE_UNAVAILABLE => ("unavailable", "This can't be done now; nothing was changed"),
            status if status.is_client_error() => ("malformed", "The request can't be read"),
            _ => ("internal", "Something went wrong on our side"),
        };
        Self::new(status, name, title)
    }

    /// Something that was asked for is not as described.
    pub fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::of(StatusCode::UNPROCESSABLE_ENTITY).detail(detail)
    }

    pub fn not_found() -> Self {
        Self::of(StatusCode::NOT_FOUND)
    }

    /// Cut where it is long: it may repeat what a stranger sent.
    #[must_use]
    pub fn detail(self, detail: impl Into<Cow<'static, str>>) -> Self {
        const LONGEST: usize = 200;
        let mut detail = detail.into();
        if detail.chars().count() > LONGEST {
            detail = detail.chars().take(LONGEST).chain(['…']).collect::<String>().into();
        }
        Self { detail: Some(detail), ..self }
    }

    /// A member of its own, beside the standard ones.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.more.insert(member.to_owned(), value.into());
        self
    }

    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Try again after that.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        self.header(RETRY_AFTER, HeaderValue::from(seconds_up(wait)))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.headers_mut().extend(self.headers.clone());
        response.extensions_mut().insert(self);
        response
    }
}

/// The database did not answer: said once, in the log, and without its reason to the caller.
impl From<auth::Error> for Problem {
    fn from(error: auth::Error) -> Self {
        tracing::error!(error = format!("{:#}", anyhow::Error::new(error)), "request.failed");
        Self::of(StatusCode::SERVICE_UNAVAILABLE).after(Duration::from_secs(5))
    }
}

/// An act of an API key that was refused. One that would change nothing is the caller's to tell.
impl From<ActionError> for Problem {
    fn from(error: ActionError) -> Self {
        match error {
            ActionError::NoSuchUser => Self::not_found(),
            ActionError::Nothing
            | ActionError::NotFresh
            | ActionError::NotAdmin
            | ActionError::LastAdmin
            | ActionError::NewAdmin => Self::of(StatusCode::FORBIDDEN),
            ActionError::Unavailable(error) => error.into(),
        }
    }
}

/// Gives an answer that is an error the body of one, whatever body it had: a page that a middleware drew is nothing a program reads.
pub fn written(response: Response, id: &RequestId) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut head, _) = response.into_parts();
    let Problem { name, title, detail, more, .. } = head.extensions.remove().unwrap_or_else(|| Problem::of(status));
    let details =
        ProblemDetails { kind: format!("{TYPES}{name}"), title, status: status.as_u16(), detail, request_id: id.to_string(), more };
    let body = serde_json::to_vec(&details).expect("strings and numbers");
    for page_only in [CONTENT_LENGTH, SET_COOKIE] {
        head.headers.remove(page_only);
    }
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    Response::from_parts(head, Body::from(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::middleware::test::{id, text};

    async fn body(response: Response) -> Value {
        assert_eq!(response.headers()[CONTENT_TYPE], MEDIA_TYPE);
        serde_json::from_str(&text(response).await).expect("JSON")
    }

    #[tokio::test]
    async fn a_problem_says_what_and_which_request() {
        let problem = Problem::new(StatusCode::FORBIDDEN, "enrolment_required", "Two-factor must be set up first")
            .detail("Since 1 November")
            .with("enrol_url", "https://id.example.org/account")
            .after(Duration::from_millis(1_200));
        let id = id();
        let response = written(problem.into_response(), &id);
        assert_eq!((response.status(), &response.headers()[RETRY_AFTER]), (StatusCode::FORBIDDEN, &HeaderValue::from(2)));
        assert_eq!(
            body(response).await,
            serde_json::json!({
                "type": "urn:latchkey:problem:enrolment_required", "title": "Two-factor must be set up first", "status": 403,
                "detail": "Since 1 November", "request_id": id.to_string(), "enrol_url": "https://id.example.org/account",
            })
        );
    }

    #[tokio::test]
    async fn what_is_no_problem_of_ours_becomes_one() {
        let page = (StatusCode::PAYLOAD_TOO_LARGE, [(SET_COOKIE, "a=b"), (CONTENT_TYPE, "text/html")], "<p>a page</p>");
        let response = written(page.into_response(), &id());
        assert!(!response.headers().contains_key(SET_COOKIE));
        assert_eq!(body(response).await["type"], "urn:latchkey:problem:too_large");
        let kept = written("fine".into_response(), &id());
        assert_eq!(text(kept).await, "fine");
    }

    #[test]
    fn every_status_has_a_name_and_long_details_are_cut() {
        for status in 400..=599 {
            let status = StatusCode::from_u16(status).expect("a status");
            assert!(!Problem::of(status).name.is_empty());
        }
        let long = Problem::invalid("x".repeat(70_000)).detail.expect("a detail");
        assert_eq!(long.chars().count(), 201);
    }
}
