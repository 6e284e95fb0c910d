//! What a route takes, and nothing besides: a misspelt field must not be left out in silence.

use auth::primitives::reason::{Reason, ReasonError};
use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
};
use http::{StatusCode, header::CONTENT_TYPE, request::Parts};
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};
use uuid::Uuid;

use crate::http::problem::Problem;

/// A body of `application/json`: 400 if it isn't JSON, 422 if it doesn't match the description. `T` denies unknown fields.
pub struct JsonBody<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(Problem::of(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        let body = Bytes::from_request(request, state).await.map_err(|_| Problem::of(StatusCode::BAD_REQUEST))?;
        serde_json::from_slice(&body).map(Self).map_err(|error| match error.classify() {
            Category::Data => Problem::invalid(error.to_string()),
            Category::Syntax | Category::Eof | Category::Io => {
                Problem::of(StatusCode::BAD_REQUEST).detail(format!("The body is not JSON: {error}"))
            }
        })
    }
}

/// What stands behind the question mark. `T` denies unknown fields.
pub struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // PostgreSQL refuses a NUL in any text, and the whole question with it.
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(Problem::invalid("A NUL character is in none of what is looked for."));
        }
        let Query(params) = Query::try_from_uri(&parts.uri).map_err(|rejection| Problem::invalid(rejection.body_text()))?;
        Ok(Self(params))
    }
}

/// The `{id}` of a path. What is no id names nothing.
pub struct Id(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(id) = Path::from_request_parts(parts, state).await.map_err(|_| Problem::not_found())?;
        Ok(Self(id))
    }
}

/// Rows of one answer, if none are asked for, and at most.
const ROWS: u32 = 25;
const MOST_ROWS: u32 = 100;

/// How many rows are asked for.
pub fn rows(limit: Option<u32>) -> Result<usize, Problem> {
    let rows = Some(limit.unwrap_or(ROWS)).filter(|rows| (1..=MOST_ROWS).contains(rows));
    let rows = rows.ok_or_else(|| Problem::invalid(format!("limit must be from 1 to {MOST_ROWS}.")))?;
    usize::try_from(rows).map_err(|_| Problem::invalid("limit is too large."))
}

/// Where a list goes on: the cursor of the answer before.
pub fn cursor<C>(text: Option<&str>, parse: impl Fn(&str) -> Option<C>) -> Result<Option<C>, Problem> {
    text.map(|text| parse(text).ok_or_else(|| Problem::invalid("cursor is none that an answer gave."))).transpose()
}

/// RFC 3339, in UTC from here on: what lies outside of the calendar there can't be asked for.
pub fn moment(name: &str, text: Option<&str>) -> Result<Option<OffsetDateTime>, Problem> {
    let parse = |text| OffsetDateTime::parse(text, &Rfc3339).ok()?.checked_to_offset(UtcOffset::UTC);
    text.map(|text| parse(text).ok_or_else(|| Problem::invalid(format!("{name} must be a time, like 2026-11-24T14:29:00Z."))))
        .transpose()
}

/// One line that says why.
pub fn reason(text: &str) -> Result<Reason, Problem> {
    text.parse().map_err(|error: ReasonError| Problem::invalid(format!("reason {error}.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_a_few_at_least_one_and_never_too_many() {
        assert_eq!(rows(None).ok(), Some(25));
        assert_eq!((rows(Some(1)).ok(), rows(Some(100)).ok()), (Some(1), Some(100)));
        assert!(rows(Some(0)).is_err() && rows(Some(101)).is_err());
    }

    #[test]
    fn a_moment_is_one_in_utc_too() {
        assert!(moment("since", None).is_ok_and(|at| at.is_none()));
        assert!(moment("since", Some("2026-11-24T15:29:00+01:00")).is_ok_and(|at| at.is_some()));
        for text in ["", "yesterday", "2026-11-24", "2026-11-24T15:29:00", "9999-12-31T23:59:59-01:00"] {
            assert!(moment("since", Some(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_reason_is_one_line_that_says_something() {
        assert_eq!(reason(" ticket 7 ").ok().as_deref(), Some("ticket 7"));
        for text in ["", "  ", "a\nb", "a\0b", &"x".repeat(501)] {
            assert!(reason(text).is_err(), "{text:?}");
        }
    }
}
