//! Forward-auth: a proxy asks, for each request to another host, whether it may pass and whose it is.
//!
//! | route | for | a page that nobody is signed in for |
//! |---|---|---|
//! | `/auth/verify` | nginx `auth_request`, which knows 2xx, 401 and 403 | 401, and where to sign in as `Location` |
//! | `/auth/redirect` | Caddy and Traefik, which pass the answer on | 302 there |
//!
//! Only a trusted proxy says which host is asked for: a stranger could name a host that needs less. Every answer has all identity headers,
//! empty in a refusal, so that a proxy never passes on a client's own.

use std::{borrow::Cow, net::SocketAddr, sync::Arc};

use app::{
    http::{
        forward_auth::{ForwardAuth, GuardedHost},
        return_to,
        session::shown,
    },
    routes,
};
use auth::{
    Auth,
    identity::Level,
    sign_in::forward_auth::{Access, Identity},
};
use axum::{
    Router,
    extract::{ConnectInfo, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use url::Url;

use super::{
    line::{Line, line},
    middleware::client_ip::TrustedProxies,
};
use crate::config::Config;

const IDENTITY: [HeaderName; 4] = [
    HeaderName::from_static("remote-user"),
    HeaderName::from_static("remote-email"),
    HeaderName::from_static("remote-groups"),
    HeaderName::from_static("remote-auth-level"),
];

struct Guard {
    auth: Arc<Auth>,
    proxies: TrustedProxies,
    hosts: Option<ForwardAuth>,
    sign_in: String,
}

pub fn routes(config: &Config, auth: Arc<Auth>) -> Router {
    let site = config.site.clone();
    let guard = Guard {
        auth,
        proxies: TrustedProxies::new(config.trusted_proxies.iter().copied()),
        sign_in: site.link(routes::LOGIN),
        hosts: site.forward_auth,
    };
    Router::new().route(routes::AUTH_VERIFY, get(verify)).route(routes::AUTH_REDIRECT, get(redirect)).with_state(Arc::new(guard))
}

async fn verify(State(guard): State<Arc<Guard>>, ConnectInfo(peer): ConnectInfo<SocketAddr>, headers: HeaderMap) -> Response {
    guard.answer(peer, &headers, None).await
}

async fn redirect(State(guard): State<Arc<Guard>>, ConnectInfo(peer): ConnectInfo<SocketAddr>, headers: HeaderMap) -> Response {
    guard.answer(peer, &headers, Some(StatusCode::FOUND)).await
}

impl Guard {
    /// `leads` is the status that sends a browser to sign in; `None` if the proxy turns 401 into that itself.
    async fn answer(&self, peer: SocketAddr, headers: &HeaderMap, leads: Option<StatusCode>) -> Response {
        let hosts = self.hosts.as_ref().filter(|_| self.proxies.contains(peer.ip()));
        let Some((hosts, asked)) = hosts.and_then(|hosts| Some((hosts, Asked::of(hosts, headers)?))) else {
            return refuse(StatusCode::FORBIDDEN, "This host is not one that Latchkey guards.\n");
        };
        let (tokens, session) = shown(headers);
        let access = match self.auth.sign_in().forward_auth(&tokens, session, asked.host.needs).await {
            Ok(access) => access,
            Err(error) => {
                tracing::warn!(error = ?error, "forward_auth.failed");
                return refuse(StatusCode::SERVICE_UNAVAILABLE, "Try again in a minute.\n");
            }
        };
        let (status, text) = match access {
            Access::Granted(identity) => return grant(&identity),
            Access::TwoFactorNeeded => (StatusCode::FORBIDDEN, "This needs two-factor.\n"),
            Access::Nobody => (StatusCode::UNAUTHORIZED, "Sign in first.\n"),
        };
        // A script could do nothing with a page, and what was posted would be lost on the way.
        if !is_navigation(headers) {
            return refuse(status, text);
        }
        // That page also says so to a person who has to set two-factor up.
        let mut response = refuse(leads.unwrap_or(status), text);
        let way_back = asked.way_back(hosts);
        let sign_in = way_back.map(|url| HeaderValue::try_from(return_to::carried(&self.sign_in, url.as_str())));
        if let Some(Ok(url)) = sign_in {
            response.headers_mut().insert(header::LOCATION, url);
        }
        response
    }
}

fn identified(mut response: Response, values: [HeaderValue; 4]) -> Response {
    response.headers_mut().extend(IDENTITY.into_iter().zip(values));
    response
}

fn grant(identity: &Identity) -> Response {
    let groups = HeaderValue::from_static(if identity.admin { "users,admins" } else { "users" });
    let level = HeaderValue::from_static(if identity.level == Level::TwoFactor { "two_factor" } else { "email" });
    // Every address is visible ASCII without space, comma or quote.
    let values = (HeaderValue::try_from(identity.user.to_string()), HeaderValue::try_from(identity.email.as_str()));
    match values {
        (Ok(user), Ok(email)) => identified(StatusCode::OK.into_response(), [user, email, groups, level]),
        _ => refuse(StatusCode::FORBIDDEN, "This account can't be told on.\n"),
    }
}

fn refuse(status: StatusCode, text: &'static str) -> Response {
    identified((status, text).into_response(), [const { HeaderValue::from_static("") }; 4])
}

/// The request that a proxy asks about.
struct Asked<'a> {
    host: &'a GuardedHost,
    /// What is asked for: the host's origin, ours to write, and a path, the client's.
    told: String,
    /// How long the origin is.
    origin: usize,
}

const FORWARDED_HOST: &str = "x-forwarded-host";
const FORWARDED_PROTO: &str = "x-forwarded-proto";
const FORWARDED_URI: &str = "x-forwarded-uri";
const FORWARDED_METHOD: &str = "x-forwarded-method";
const ORIGINAL_URL: &str = "x-original-url";
const ORIGINAL_METHOD: &str = "x-original-method";

impl<'a> Asked<'a> {
    /// `None` if the host isn't guarded, or is missing, or is given in two ways: proxies pass on what clients send in headers that they
    /// don't write themselves, so one of two could be the client's.
    fn of(hosts: &'a ForwardAuth, headers: &HeaderMap) -> Option<Self> {
        let (scheme, host) = (one(headers, FORWARDED_PROTO)?, one(headers, FORWARDED_HOST)?);
        let (uri, url) = (one(headers, FORWARDED_URI)?, one(headers, ORIGINAL_URL)?);
        let forwarded = host.as_deref().map(|host| (scheme.as_deref().unwrap_or("https"), host, uri.as_deref().unwrap_or("/")));
        let original = match url.as_deref() {
            Some(url) => Some(split(url)?),
            None => None,
        };
        let host = |(scheme, host, _): (&str, &str, &str)| find(hosts, scheme, host);
        let (found, (scheme, _, uri)) = match (forwarded, original) {
            (Some(told), None) | (None, Some(told)) => (host(told)?, told),
            (Some(told), Some(other)) => (host(told).filter(|found| host(other).is_some_and(|other| *found == other))?, told),
            (None, None) => return None,
        };
        let scheme = if hosts.https_only { "https" } else { scheme };
        let port = found.port.map(|port| format!(":{port}")).unwrap_or_default();
        let mut told = format!("{scheme}://{}{port}", found.name);
        let origin = told.len();
        if uri.starts_with('/') {
            told.push_str(uri);
        }
        Some(Self { host: found, told, origin })
    }

    /// Where to return to after signing in: the page, or the host's front page if the path can't be carried. Computed for refusals only.
    fn way_back(&self, hosts: &ForwardAuth) -> Option<Url> {
        hosts.destination(&self.told).or_else(|| hosts.destination(&self.told[..self.origin])).map(|destination| destination.url)
    }
}

/// The header's one line, if there is any; `None` where there are several, of which one may be the client's. A path may hold bytes that
/// are no text, and its request is as good as any; a host may not.
#[expect(clippy::option_option, reason = "`?` in the caller drops a request with several lines, and keeps one with none")]
fn one<'h>(headers: &'h HeaderMap, name: &str) -> Option<Option<Cow<'h, str>>> {
    match line(headers, name) {
        Line::None => Some(None),
        Line::One(line) => Some(Some(String::from_utf8_lossy(line.as_bytes()))),
        Line::Several => None,
    }
}

/// Scheme, host with its port, and the rest.
fn split(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let at = rest.find('/').unwrap_or(rest.len());
    Some((scheme, &rest[..at], &rest[at..]))
}

/// A host is a name and perhaps a port: credentials or a list match no guarded host.
fn find<'a>(hosts: &'a ForwardAuth, scheme: &str, host: &str) -> Option<&'a GuardedHost> {
    let own = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    let (name, port) = match host.split_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, Some(port.parse().ok()?)),
        Some(_) => return None,
        None => (host, None),
    };
    hosts.host(&name.to_ascii_lowercase(), port.filter(|port| *port != own))
}

/// Whether a person waits for a page, by what the client sent. It decides how a refusal looks, and nothing else.
fn is_navigation(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let reads = matches!(text(FORWARDED_METHOD).or_else(|| text(ORIGINAL_METHOD)), None | Some("GET" | "HEAD"));
    reads
        && match text("sec-fetch-mode") {
            Some(mode) => mode == "navigate",
            None => text("accept").is_some_and(|kinds| kinds.contains("text/html")) && text("x-requested-with").is_none(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(https_only: bool) -> ForwardAuth {
        let host = |name: &str, port, needs| GuardedHost { name: name.to_owned(), port, needs };
        let hosts = vec![host("app.example.org", None, Level::Email), host("admin.example.org", Some(8443), Level::TwoFactor)];
        ForwardAuth { domain: "example.org".to_owned(), hosts, https_only }
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let parsed = |value: &str| HeaderValue::from_bytes(value.as_bytes()).expect("a header's value");
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), parsed(value))).collect()
    }

    fn asked(lines: &[(&'static str, &str)]) -> Option<String> {
        let hosts = hosts(true);
        Asked::of(&hosts, &headers(lines)).map(|asked| {
            let url = asked.way_back(&hosts).expect("the front page at least");
            assert_eq!(url.host_str(), Some(asked.host.name.as_str()));
            url.into()
        })
    }

    #[test]
    fn the_host_is_as_the_proxy_tells_it() {
        let host = |host| asked(&[(FORWARDED_HOST, host), (FORWARDED_PROTO, "https"), (FORWARDED_URI, "/a?b=c&d=%2f")]);
        assert_eq!(host("app.example.org").as_deref(), Some("https://app.example.org/a?b=c&d=%2f"));
        assert_eq!(host("App.Example.ORG:443").as_deref(), Some("https://app.example.org/a?b=c&d=%2f"));
        assert_eq!(host("admin.example.org:8443").as_deref(), Some("https://admin.example.org:8443/a?b=c&d=%2f"));
        for other in [
            "",
            "example.org",
            "admin.example.org",
            "app.example.org:8443",
            "app.example.org:80",
            "app.example.org.",
            "app.example.org, admin.example.org:8443",
            "app.example.org/x",
            "user@app.example.org",
            "app.example.org:",
            "app.example.org:+443",
            "app.example.org:443:443",
            "app.example.org ",
            "\u{ff41}pp.example.org",
            "[::1]:443",
        ] {
            assert_eq!(host(other), None, "{other:?}");
        }
        let original = |url| asked(&[(ORIGINAL_URL, url)]);
        assert_eq!(original("https://app.example.org/a?b=c").as_deref(), Some("https://app.example.org/a?b=c"));
        assert_eq!(original("https://app.example.org:443").as_deref(), Some("https://app.example.org/"));
        for other in ["", "/a", "app.example.org/a", "ftp://app.example.org/", "https:///app.example.org/", "https://evil.example/"]
        {
            assert_eq!(original(other), None, "{other:?}");
        }
    }

    #[test]
    fn nobody_adds_a_word_of_their_own() {
        let (app, admin) = ("app.example.org", "admin.example.org:8443");
        assert_eq!(asked(&[(FORWARDED_HOST, app), (FORWARDED_HOST, admin)]), None);
        assert_eq!(asked(&[(FORWARDED_HOST, app), (FORWARDED_HOST, app)]), None);
        assert_eq!(asked(&[(FORWARDED_HOST, app), (ORIGINAL_URL, "https://admin.example.org:8443/")]), None);
        assert_eq!(asked(&[(FORWARDED_HOST, admin), (ORIGINAL_URL, "https://app.example.org/")]), None);
        assert_eq!(asked(&[(FORWARDED_HOST, app), (ORIGINAL_URL, "nonsense")]), None);
        assert!(asked(&[(FORWARDED_HOST, app), (ORIGINAL_URL, "https://app.example.org/")]).is_some());
        assert_eq!(asked(&[(FORWARDED_HOST, app), (FORWARDED_PROTO, "https"), (FORWARDED_PROTO, "http")]), None);
        assert_eq!(asked(&[]), None);
    }

    #[test]
    fn the_way_back_is_a_url_of_that_host() {
        let long = format!("/{}", "a".repeat(4_096));
        for (uri, back) in [
            ("/", "/"),
            ("//evil.example/", "//evil.example/"),
            ("/@evil.example", "/@evil.example"),
            // Not as they came, and so to the front page.
            ("@evil.example/", "/"),
            (".evil.example/", "/"),
            ("https://evil.example/", "/"),
            ("/\\evil.example", "/"),
            (long.as_str(), "/"),
        ] {
            let found = asked(&[(FORWARDED_HOST, "app.example.org"), (FORWARDED_URI, uri)]);
            assert_eq!(found, Some(format!("https://app.example.org{back}")), "{uri}");
        }
        let bytes = HeaderValue::from_bytes(b"/caf\xc3\xa9\xff").expect("bytes");
        let mut unreadable = headers(&[(FORWARDED_HOST, "app.example.org")]);
        unreadable.insert(FORWARDED_URI, bytes);
        let back = |https_only, headers| {
            let hosts = hosts(https_only);
            Asked::of(&hosts, headers)?.way_back(&hosts).map(String::from)
        };
        assert_eq!(back(true, &unreadable).as_deref(), Some("https://app.example.org/caf%C3%A9%EF%BF%BD"));
        // Outside of development, a request without TLS returns to a URL with TLS.
        let http = headers(&[(FORWARDED_HOST, "app.example.org:80"), (FORWARDED_PROTO, "http"), (FORWARDED_URI, "/x")]);
        assert_eq!(back(true, &http).as_deref(), Some("https://app.example.org/x"));
        assert_eq!(back(false, &http).as_deref(), Some("http://app.example.org/x"));
    }

    #[test]
    fn only_a_person_who_waits_for_a_page_is_led_on() {
        let html = ("accept", "text/html,application/xhtml+xml");
        for (lines, navigation) in [
            (&[html][..], true),
            (&[html, (FORWARDED_METHOD, "GET")], true),
            (&[html, (FORWARDED_METHOD, "HEAD")], true),
            (&[html, (ORIGINAL_METHOD, "POST")], false),
            (&[html, (FORWARDED_METHOD, "POST")], false),
            (&[html, (FORWARDED_METHOD, "POST"), (ORIGINAL_METHOD, "GET")], false),
            (&[html, (FORWARDED_METHOD, "get")], false),
            (&[html, ("sec-fetch-mode", "navigate")], true),
            (&[html, ("sec-fetch-mode", "cors")], false),
            (&[("accept", "*/*"), ("sec-fetch-mode", "navigate")], true),
            (&[("accept", "*/*")], false),
            (&[("accept", "application/json")], false),
            (&[html, ("x-requested-with", "XMLHttpRequest")], false),
            (&[], false),
        ] {
            assert_eq!(is_navigation(&headers(lines)), navigation, "{lines:?}");
        }
    }
}
