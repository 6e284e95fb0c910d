//! The other hosts that people are signed in for: a proxy in front of each asks us whose a request is.

use auth::identity::Level;
use url::Url;

#[derive(Debug, Clone)]
pub struct ForwardAuth {
    /// The domain of the cookie that opens them.
    pub domain: String,
    pub hosts: Vec<GuardedHost>,
    /// They are never reached over plain http. Only development does otherwise.
    pub https_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardedHost {
    /// Lower-case ASCII.
    pub name: String,
    /// `None`: the scheme's own.
    pub port: Option<u16>,
    /// [`Level::Email`] or [`Level::TwoFactor`].
    pub needs: Level,
}

/// Longer ones are dropped, as in [`crate::http::return_to`].
const MAX: usize = 2_048;

impl ForwardAuth {
    /// `port` is what was written, if it is not the scheme's own.
    #[must_use]
    pub fn host(&self, name: &str, port: Option<u16>) -> Option<&GuardedHost> {
        self.hosts.iter().find(|host| host.name == name && host.port == port)
    }

    /// A whole URL on one of the hosts, written anew from its parsed form; `None` for anything that leads elsewhere, or that
    /// browsers and servers could read in two ways.
    #[must_use]
    pub fn destination(&self, next: &str) -> Option<Destination<'_>> {
        let plain = next.starts_with("http://") && !self.https_only;
        if !(plain || next.starts_with("https://")) || next.len() > MAX || next.contains(|c: char| c.is_control() || c == '\\') {
            return None;
        }
        let mut url = Url::parse(next).ok()?;
        if !url.username().is_empty() || url.password().is_some() {
            return None;
        }
        let host = self.host(url.host_str()?, url.port())?;
        url.set_fragment(None);
        // Encoding makes it longer.
        (url.as_str().len() <= MAX).then_some(Destination { url, host })
    }
}

/// Where somebody wanted to go, on another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination<'a> {
    pub url: Url,
    pub host: &'a GuardedHost,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hosts(https_only: bool) -> ForwardAuth {
        let host = |name: &str, port, needs| GuardedHost { name: name.to_owned(), port, needs };
        let hosts = vec![
            host("app.example.org", None, Level::Email),
            host("admin.example.org", None, Level::TwoFactor),
            host("other.example.org", Some(8443), Level::Email),
        ];
        ForwardAuth { domain: "example.org".to_owned(), hosts, https_only }
    }

    fn kept(next: &str) -> Option<String> {
        hosts(true).destination(next).map(|to| to.url.into())
    }

    #[test]
    fn a_whole_url_on_a_listed_host_is_kept() {
        for (next, url) in [
            ("https://app.example.org", "https://app.example.org/"),
            ("https://app.example.org/a/b?c=d&e=%20f", "https://app.example.org/a/b?c=d&e=%20f"),
            ("https://APP.example.org:443/#top", "https://app.example.org/"),
            ("https://other.example.org:8443/x", "https://other.example.org:8443/x"),
            ("https://app.example.org/caf\u{e9} \"'<>", "https://app.example.org/caf%C3%A9%20%22'%3C%3E"),
            ("https://app.example.org//two", "https://app.example.org//two"),
            ("https://app.example.org/?to=https://evil.example", "https://app.example.org/?to=https://evil.example"),
        ] {
            assert_eq!(kept(next).as_deref(), Some(url), "{next:?}");
        }
        assert_eq!(hosts(true).destination("https://admin.example.org/").map(|to| to.host.needs), Some(Level::TwoFactor));
    }

    #[test]
    fn everything_else_is_dropped() {
        let long = format!("https://app.example.org/{}", "a".repeat(MAX));
        let grows = format!("https://app.example.org/{}", "\u{e9}".repeat(700));
        for next in [
            "",
            "app.example.org",
            "//app.example.org",
            "/app.example.org",
            "https:app.example.org",
            "https:/app.example.org",
            " https://app.example.org",
            "http://app.example.org",
            "http://app.example.org:443",
            "ftp://app.example.org",
            "javascript://app.example.org/%0aalert(1)",
            "https://example.org",
            "https://id.example.org",
            "https://evil.example",
            "https://app.example.org.evil.example",
            "https://app.example.org@evil.example",
            "https://evil.example#@app.example.org",
            "https://evil.example/app.example.org",
            "https://evil.example?https://app.example.org",
            "https://evil.example\\@app.example.org",
            "https://app.example.org\\@evil.example",
            "https://app.example.org\\.evil.example",
            "https://user@app.example.org",
            "https://:password@app.example.org",
            "https://app.example.org.",
            "https://app.example.org:8443",
            "https://app.example.org:80",
            "https://other.example.org",
            "https://xapp.example.org",
            "https://app.example.org%2eevil.example",
            "https://app.example.org%00.evil.example",
            "https://app.example.org\t/",
            "https://app.exam\nple.org/",
            "https://app.example.org/\r\nSet-Cookie: a=b",
            "https://app.example.org/\0",
            "https://app.example.org/\u{85}",
            "https://[::1]/",
            "https://",
            &long,
            &grows,
        ] {
            assert_eq!(kept(next), None, "{next:?}");
        }
    }

    #[test]
    fn plain_http_is_for_development() {
        let http = "http://app.example.org/x";
        assert_eq!(hosts(true).destination(http), None);
        assert_eq!(hosts(false).destination(http).map(|to| to.url.to_string()).as_deref(), Some(http));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]
        #[test]
        fn whatever_is_kept_is_a_listed_host(
            next in "https?:[/\\\\]{0,3}[a-z@:.%#?\\t\\n]{0,12}(app|admin|other)?\\.?example\\.org[/\\\\@:.?#0-9a-z%]{0,12}\\PC{0,8}",
        ) {
            if let Some(url) = kept(&next) {
                prop_assert!(url.is_ascii() && url.bytes().all(|byte| byte.is_ascii_graphic()));
                let rest = url.strip_prefix("https://").expect("https");
                let authority = rest.split('/').next().expect("an authority");
                prop_assert!(["app.example.org", "admin.example.org", "other.example.org:8443"].contains(&authority), "{url}");
                prop_assert_eq!(kept(&url), Some(url.clone()));
            }
        }
    }
}
