//! Who asks: an API key, in the one header it belongs in. Cookies are taken out of the request, so that no session can open anything here.

use std::sync::Arc;

use auth::{
    Auth,
    identity::{Actor, ApiKey, Scope},
    limits::throttle::Standing,
    policy::limits::Rate,
    primitives::requester::{Application, Requester},
    sessions::ApiSession,
};
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{AUTHORIZATION, COOKIE, WWW_AUTHENTICATE},
};

use super::{problem::Problem, session};
use crate::middleware::seconds_up;

/// draft-ietf-httpapi-ratelimit-headers-10.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The program behind a request that was let in.
#[derive(Clone)]
pub struct Caller(Arc<Inner>);

struct Inner {
    key: ApiKey,
    session: Option<ApiSession>,
    from: Requester,
}

impl Caller {
    /// As one that signs people in.
    pub fn application(&self) -> Application {
        Application { key: self.0.key.id, name: self.0.key.name.clone() }
    }

    /// The session it asks about, where it is this application's and live: found with the key, in one look.
    pub fn session(&self) -> Option<ApiSession> {
        self.0.session.clone()
    }

    /// Where its request came from.
    pub fn from(&self) -> &Requester {
        &self.0.from
    }

    /// As the domain knows it.
    pub fn who(&self) -> Actor<'_> {
        Actor::Key { key: &self.0.key, from: &self.0.from }
    }
}

/// What stands before a route.
#[derive(Clone)]
pub struct Guard {
    pub auth: Arc<Auth>,
    pub scope: Scope,
}

/// Lets in who has a key that works, requests left, and the route's scope; in this order, so that whoever lacks the scope can't ask
/// without end either.
pub async fn admit(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let (key, session, standing) = match guard.find(request.headers()).await {
        Ok(found) => found,
        Err(problem) => return problem.into_response(),
    };
    let mut response = if key.allows(guard.scope) {
        request.headers_mut().remove(COOKIE);
        match request.extensions_mut().remove::<Requester>() {
            Some(from) => {
                request.extensions_mut().insert(Caller(Arc::new(Inner { key, session, from })));
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
        let asked_about = (self.scope == Scope::Sessions).then(|| session::token(headers).ok()).flatten();
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

/// `Authorization: Bearer …`, once: of two lines, a proxy and we could mean different ones.
fn presented(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let line = match (lines.next(), lines.next()) {
        (None, _) => return Err(unauthorized(HeaderValue::from_static("Bearer realm=\"latchkey\""))),
        (Some(line), None) => line,
        (Some(_), Some(_)) => return Err(unknown()),
    };
    let (scheme, key) = line.to_str().ok().and_then(|line| line.split_once(' ')).ok_or_else(unknown)?;
    if scheme.eq_ignore_ascii_case("Bearer") { Ok(key.trim_matches(' ')) } else { Err(unknown()) }
}

fn unauthorized(challenge: HeaderValue) -> Problem {
    Problem::of(StatusCode::UNAUTHORIZED).header(WWW_AUTHENTICATE, challenge)
}

/// One answer for what is no key, was none, or is none any more.
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
