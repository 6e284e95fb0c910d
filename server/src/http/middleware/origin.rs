//! Cross-site request forgery: a request that may change something must come from one of our own pages (A9).

use axum::{
    extract::Request,
    response::{IntoResponse as _, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{ALLOW, COOKIE, ORIGIN},
};

use super::is_api;
use crate::http::line::{Line, line};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The methods that some route may answer.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE");

pub struct SameOrigin {
    origin: HeaderValue,
}

impl SameOrigin {
    /// `origin` as browsers write it: `https://login.example.org`.
    pub fn new(origin: &str) -> Self {
        Self { origin: HeaderValue::from_str(origin).expect("an origin is ASCII without control characters") }
    }

    /// The answer to a request that no handler may see.
    pub fn refuse(&self, request: &Request) -> Option<Response> {
        match *request.method() {
            Method::GET | Method::HEAD | Method::OPTIONS => None,
            Method::POST | Method::PUT | Method::PATCH | Method::DELETE => {
                // The API looks at no cookie, and no page of a stranger's can send a key it doesn't have: there is nothing to forge.
                if is_api(request.uri().path()) || self.allows(request.headers()) {
                    return None;
                }
                // `none` and `cross-site` tell an operator more than the refusal does; neither is secret.
                tracing::warn!(
                    origin = ?request.headers().get(ORIGIN),
                    site = ?request.headers().get(SEC_FETCH_SITE),
                    "refused a cross-site request"
                );
                Some(StatusCode::FORBIDDEN.into_response())
            }
            // TRACE would send cookies back, CONNECT asks for a tunnel, and an unknown method may not be safe.
            _ => Some((StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, METHODS)]).into_response()),
        }
    }

    /// A browser says itself where a request comes from, and no script can change that. Other clients hold no cookie that a stranger's
    /// page could use; without a cookie there is nothing to forge.
    fn allows(&self, headers: &HeaderMap) -> bool {
        match line(headers, SEC_FETCH_SITE) {
            // `none`: typed, bookmarked or reloaded by the person. `same-site` is another host: not us.
            Line::One(site) => return site == "same-origin" || site == "none",
            Line::Several => return false,
            Line::None => {}
        }
        match line(headers, ORIGIN) {
            Line::One(origin) => origin == self.origin,
            Line::Several => false,
            Line::None => !headers.contains_key(COOKIE),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use axum::{Router, body::Body, routing::any};

    use super::*;
    use crate::http::middleware::test::{guarded, send};

    const OURS: &str = "https://login.example.org";

    /// The status for a request, and whether the handler ran.
    async fn answer(method: &str, lines: &[(&str, &str)]) -> (u16, bool) {
        let ran = Arc::new(AtomicUsize::new(0));
        let counter = ran.clone();
        let handler = move || async move {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        let ours = Arc::new(SameOrigin::new(OURS));
        let app = guarded(Router::new().route("/", any(handler)), move |request| ours.refuse(request));
        let request =
            lines.iter().fold(Request::builder().method(method).uri("/"), |request, (name, value)| request.header(*name, *value));
        let response = send(&app, request.body(Body::empty()).expect("valid")).await;
        let status = response.status();
        if status == StatusCode::METHOD_NOT_ALLOWED {
            assert_eq!(response.headers()[ALLOW], METHODS);
        }
        (status.as_u16(), ran.load(Ordering::Relaxed) == 1)
    }

    /// The whole table: what `Sec-Fetch-Site` says, else what `Origin` says, else whether there is a cookie to ride on.
    #[tokio::test]
    async fn unsafe_methods_are_for_our_own_pages() {
        let sites = [Some("same-origin"), Some("none"), Some("same-site"), Some("cross-site"), Some("Same-Origin"), Some(""), None];
        let origins = [
            Some(OURS),
            Some("null"),
            Some("http://login.example.org"),
            Some("https://login.example.org:8443"),
            Some("https://login.example.org.evil.example"),
            Some("https://evil.example"),
            Some("https://LOGIN.example.org"),
            Some(""),
            None,
        ];
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            for site in sites {
                for origin in origins {
                    for cookie in [Some("__Host-latchkey=x"), None] {
                        let allowed = match (site, origin) {
                            (Some(site), _) => ["same-origin", "none"].contains(&site),
                            (None, Some(origin)) => origin == OURS,
                            (None, None) => cookie.is_none(),
                        };
                        let lines: Vec<_> = [("sec-fetch-site", site), ("origin", origin), ("cookie", cookie)]
                            .into_iter()
                            .filter_map(|(name, value)| Some((name, value?)))
                            .collect();
                        let expected = if allowed { (200, true) } else { (403, false) };
                        assert_eq!(answer(method, &lines).await, expected, "{method} {lines:?}");
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn programs_come_from_anywhere_to_the_api_and_to_nothing_else() {
        let ours = SameOrigin::new(OURS);
        for (path, method, refused) in [
            ("/api/v1/users", "POST", None),
            ("/api/v1/users", "TRACE", Some(405)),
            ("/apiary", "POST", Some(403)),
            ("/login?next=/api/", "POST", Some(403)),
        ] {
            let request = Request::builder().method(method).uri(path).header("sec-fetch-site", "cross-site").header(COOKIE, "a=b");
            let response = ours.refuse(&request.body(Body::empty()).expect("valid"));
            assert_eq!(response.map(|response| response.status().as_u16()), refused, "{method} {path}");
        }
    }

    #[tokio::test]
    async fn two_lines_are_no_proof() {
        assert_eq!(answer("POST", &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")]).await, (403, false));
        assert_eq!(answer("POST", &[("origin", OURS), ("origin", "https://evil.example")]).await, (403, false));
        assert_eq!(answer("POST", &[("origin", OURS), ("origin", OURS)]).await, (403, false));
    }

    #[tokio::test]
    async fn safe_methods_pass_from_anywhere() {
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert_eq!(
                answer(method, &[("sec-fetch-site", "cross-site"), ("origin", "https://evil.example"), ("cookie", "a=b")]).await,
                (200, true)
            );
        }
    }

    #[tokio::test]
    async fn other_methods_reach_no_handler() {
        for method in ["TRACE", "CONNECT", "FOO", "get", "PROPFIND"] {
            assert_eq!(answer(method, &[("sec-fetch-site", "same-origin")]).await, (405, false), "{method}");
        }
    }
}
