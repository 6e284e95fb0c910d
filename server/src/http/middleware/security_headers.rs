//! The security headers of every answer, whichever layer gave it.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, SERVER, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
        X_FRAME_OPTIONS,
    },
};

use crate::config::Hsts;

/// Our style and pictures, forms to ourselves, and nothing else: no script at all (A14). So nothing of a page connects to us either; what
/// examines one reads `/robots.txt` from within it, and told that it may not, takes it for missing.
const CSP: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; connect-src 'self'; style-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; \
     base-uri 'none'",
);

const ALWAYS: [(HeaderName, HeaderValue); 6] = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    // Not `no-referrer`: with it browsers post `Origin: null`, and the origin check would refuse our own forms (A9).
    (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    // For browsers that don't know `frame-ancestors`.
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static(
            "accelerometer=(), autoplay=(), camera=(), display-capture=(), encrypted-media=(), fullscreen=(), geolocation=(), \
             gyroscope=(), magnetometer=(), microphone=(), midi=(), payment=(), picture-in-picture=(), screen-wake-lock=(), usb=(), \
             xr-spatial-tracking=()",
        ),
    ),
];

/// A year, as ASVS 3.4.1 wants it. Other hosts of the domain may be somebody else's, and not ready for TLS.
const THIS_HOST: HeaderValue = HeaderValue::from_static("max-age=31536000");
/// Two years, as the preload list wants it or longer.
const SUBDOMAINS: HeaderValue = HeaderValue::from_static("max-age=63072000; includeSubDomains");

#[derive(Clone)]
pub struct SecurityHeaders {
    hsts: Option<HeaderValue>,
}

impl SecurityHeaders {
    pub fn new(hsts: Hsts, https: bool) -> Self {
        let hsts = match hsts {
            // On plain http the header is ignored, and on `localhost` it would lock out a developer's other services.
            _ if !https => None,
            Hsts::Host => Some(THIS_HOST),
            Hsts::Subdomains => Some(SUBDOMAINS),
            Hsts::Off => None,
        };
        Self { hsts }
    }

    pub fn write(&self, headers: &mut HeaderMap) {
        // Once, instead of growing from 4 to 8 to 16 and putting all in their places anew each time.
        headers.reserve(ALWAYS.len() + 3);
        for (name, value) in ALWAYS {
            headers.insert(name, value);
        }
        // The development inbox shows a mail's HTML under a policy of its own.
        headers.entry(CONTENT_SECURITY_POLICY).or_insert(CSP);
        // A cacheable answer says so itself; a page that says nothing must not be kept in a shared cache.
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        if let Some(hsts) = &self.hsts {
            headers.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        // ASVS 13.4.6: no product or version is shown.
        headers.remove(SERVER);
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        body::Body,
        extract::Request,
        http::StatusCode,
        middleware::{Next, from_fn},
        response::Response,
        routing::get,
    };

    use super::*;
    use crate::http::middleware::test::send;

    async fn answer(path: &str, https: bool) -> Response {
        let app = Router::new()
            .route("/", get(|| async { [(SERVER, "axum"), (X_FRAME_OPTIONS, "SAMEORIGIN")] }))
            .route("/style.css", get(|| async { [(CACHE_CONTROL, "public, max-age=31536000, immutable")] }))
            .route("/mail", get(|| async { [(CONTENT_SECURITY_POLICY, "sandbox")] }))
            .route("/broken", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
            .layer(from_fn(move |request: Request, next: Next| async move {
                let mut response = next.run(request).await;
                SecurityHeaders::new(Hsts::Host, https).write(response.headers_mut());
                response
            }));
        send(&app, Request::get(path).body(Body::empty()).expect("valid")).await
    }

    #[test]
    fn other_hosts_are_bound_to_tls_only_where_somebody_says_so() {
        for (hsts, value) in [
            (Hsts::Host, Some("max-age=31536000")),
            (Hsts::Subdomains, Some("max-age=63072000; includeSubDomains")),
            (Hsts::Off, None),
        ] {
            let mut headers = HeaderMap::new();
            SecurityHeaders::new(hsts, true).write(&mut headers);
            assert_eq!(headers.get(STRICT_TRANSPORT_SECURITY).map(|value| value.to_str().expect("ASCII")), value);
        }
    }

    #[tokio::test]
    async fn every_answer_has_every_header_once() {
        for (path, status) in [("/", 200), ("/broken", 500), ("/nowhere", 404)] {
            let response = answer(path, true).await;
            assert_eq!(response.status(), status);
            for (name, value) in ALWAYS.into_iter().chain([
                (CONTENT_SECURITY_POLICY, CSP),
                (STRICT_TRANSPORT_SECURITY, THIS_HOST),
                (CACHE_CONTROL, HeaderValue::from_static("no-store")),
            ]) {
                let lines: Vec<_> = response.headers().get_all(&name).iter().collect();
                assert_eq!(lines, [&value], "{path} {name}");
            }
            assert!(!response.headers().contains_key(SERVER), "{path}");
        }
    }

    #[tokio::test]
    async fn plain_http_promises_no_tls() {
        assert!(!answer("/", false).await.headers().contains_key(STRICT_TRANSPORT_SECURITY));
    }

    #[tokio::test]
    async fn an_answers_own_policy_and_lifetime_stay() {
        assert_eq!(answer("/mail", true).await.headers()[CONTENT_SECURITY_POLICY], "sandbox");
        assert_eq!(answer("/style.css", true).await.headers()[CACHE_CONTROL], "public, max-age=31536000, immutable");
    }
}
