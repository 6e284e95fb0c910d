//! The API key of a request, from its `Authorization` header. Cookies are removed from the request, so that no session opens anything here.

use std::sync::Arc;

use auth::{
    Auth,
    crypto::SessionToken,
    identity::{Actor, ApiKey, Scope},
    limits::throttle::Standing,
    policy::limits::Rate,
    primitives::requester::{Application, Requester},
    sessions::ApiSession,
};
use axum::{
    extract::{FromRequestParts, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{AUTHORIZATION, COOKIE, WWW_AUTHENTICATE},
    request::Parts,
};

use super::ApiState;
use crate::http::{
    line::{Line, line},
    middleware::seconds_up,
    problem::Problem,
};

/// draft-ietf-httpapi-ratelimit-headers-10.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The session that a request asks about.
const SESSION: HeaderName = HeaderName::from_static("latchkey-session");

/// The program behind a request that was let in, and what its handler works on.
pub struct Caller {
    pub state: ApiState,
    admitted: Arc<Admitted>,
}

struct Admitted {
    key: ApiKey,
    session: Option<ApiSession>,
    from: Requester,
}

impl FromRequestParts<ApiState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let admitted = parts.extensions.get::<Arc<Admitted>>().cloned();
        let admitted = admitted.ok_or_else(|| Problem::of(StatusCode::INTERNAL_SERVER_ERROR))?;
        Ok(Self { state: state.clone(), admitted })
    }
}

impl Caller {
    pub fn auth(&self) -> &Auth {
        &self.state.auth
    }

    /// As one that signs people in.
    pub fn application(&self) -> Application {
        Application { key: self.admitted.key.id, name: self.admitted.key.name.clone() }
    }

    /// The session it asks about, if that is live and this application's: found together with the key, by one query.
    pub fn session(&self) -> Option<ApiSession> {
        self.admitted.session.clone()
    }

    /// Where its request came from.
    pub fn from(&self) -> &Requester {
        &self.admitted.from
    }

    /// As the domain knows it.
    pub fn who(&self) -> Actor<'_> {
        Actor::Key { key: &self.admitted.key, from: &self.admitted.from }
    }
}

/// What stands before a route.
#[derive(Clone)]
pub struct Guard {
    pub auth: Arc<Auth>,
    pub scope: Scope,
}

/// Checks that the key works, has requests left, and has the route's scope; in this order, so that requests without the scope are limited
/// too.
pub async fn admit(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let (key, session, standing) = match guard.find(request.headers()).await {
        Ok(found) => found,
        Err(problem) => return problem.into_response(),
    };
    let mut response = if key.allows(guard.scope) {
        request.headers_mut().remove(COOKIE);
        match request.extensions_mut().remove::<Requester>() {
            Some(from) => {
                request.extensions_mut().insert(Arc::new(Admitted { key, session, from }));
                next.run(request).await
            }
            None => Problem::of(StatusCode::INTERNAL_SERVER_ERROR).into_response(),
        }
    } else {
        lacking(guard.scope).into_response()
    };
    if let (Some(rate), Some(standing)) = (guard.auth.api_keys().rate(), standing) {
        response.headers_mut().extend(told(rate, standing));
    }
    response
}

impl Guard {
    async fn find(&self, headers: &HeaderMap) -> Result<(ApiKey, Option<ApiSession>, Option<Standing>), Problem> {
        let presented = presented(headers)?;
        let asked_about = (self.scope == Scope::Sessions).then(|| session_token(headers).ok()).flatten();
        let found = match asked_about {
            Some(token) => self.auth.sign_in().api_key_and_session(presented, &token).await?,
            None => self.auth.api_keys().find(presented).await?.map(|key| (key, None)),
        };
        let (key, session) = found.ok_or_else(unknown)?;
        match self.auth.api_keys().count_request(&key).await? {
            Ok(standing) => Ok((key, session, standing)),
            Err(limited) => {
                let problem = Problem::of(StatusCode::TOO_MANY_REQUESTS).after(limited.wait);
                let standing = self.auth.api_keys().rate().map(|rate| told(rate, Standing { left: 0, reset: limited.wait }));
                Err(standing.into_iter().flatten().fold(problem, |problem, (name, value)| problem.header(name, value)))
            }
        }
    }
}

/// `Authorization: Bearer …`, once.
fn presented(headers: &HeaderMap) -> Result<&str, Problem> {
    let line = match line(headers, AUTHORIZATION) {
        Line::None => return Err(unauthorized(HeaderValue::from_static("Bearer realm=\"latchkey\""))),
        Line::One(line) => line,
        Line::Several => return Err(unknown()),
    };
    let (scheme, key) = line.to_str().ok().and_then(|line| line.split_once(' ')).ok_or_else(unknown)?;
    if scheme.eq_ignore_ascii_case("Bearer") { Ok(key.trim_matches(' ')) } else { Err(unknown()) }
}

/// The session's token, once.
pub(super) fn session_token(headers: &HeaderMap) -> Result<SessionToken, Problem> {
    match line(headers, SESSION) {
        Line::One(line) => line.to_str().ok().and_then(SessionToken::parse).ok_or_else(Problem::not_found),
        Line::None | Line::Several => Err(Problem::invalid("Latchkey-Session must be there, once.")),
    }
}

fn unauthorized(challenge: HeaderValue) -> Problem {
    Problem::of(StatusCode::UNAUTHORIZED).header(WWW_AUTHENTICATE, challenge)
}

/// The same answer for a key that never existed, was revoked, or has expired.
fn unknown() -> Problem {
    unauthorized(HeaderValue::from_static("Bearer realm=\"latchkey\", error=\"invalid_token\""))
}

fn lacking(scope: Scope) -> Problem {
    let challenge = format!("Bearer realm=\"latchkey\", error=\"insufficient_scope\", scope=\"{}\"", scope.as_str());
    let challenge = HeaderValue::from_str(&challenge).expect("a scope's name is ASCII");
    Problem::of(StatusCode::FORBIDDEN).with("scope", scope.as_str()).header(WWW_AUTHENTICATE, challenge)
}

/// The budget, and how it stands.
fn told(rate: Rate, standing: Standing) -> [(HeaderName, HeaderValue); 2] {
    let policy = format!("\"api_key\";q={};w={}", rate.burst, seconds_up(rate.period));
    let now = format!("\"api_key\";r={};t={}", standing.left, seconds_up(standing.reset));
    [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, now)].map(|(name, text)| (name, HeaderValue::from_str(&text).expect("numbers")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(AUTHORIZATION, line.parse().expect("a header's value"));
        }
        presented(&headers).ok().map(ToOwned::to_owned)
    }

    #[test]
    fn a_key_is_a_bearers_and_stands_there_once() {
        for line in ["Bearer lk_a", "bearer lk_a", "BEARER  lk_a "] {
            assert_eq!(key(&[line]).as_deref(), Some("lk_a"), "{line}");
        }
        for lines in [&[][..], &["lk_a"], &["Basic lk_a"], &["Bearer"], &["Bearerlk_a"], &["Bearer lk_a", "Bearer lk_a"]] {
            assert_eq!(key(lines), None, "{lines:?}");
        }
    }
}
