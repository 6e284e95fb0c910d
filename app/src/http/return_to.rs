//! `next`: where a person wanted to go before signing in. It leads home, to a host that people are signed in for, or nowhere.

use url::{Url, form_urlencoded};

use crate::{http::state::Site, routes};

/// Longer ones are dropped: they go into the session's row.
const MAX: usize = 2_048;

/// A query that says where to go on.
#[derive(serde::Deserialize)]
pub struct NextQuery {
    #[serde(default)]
    pub next: String,
}

/// The path and query `next` names on this site, written anew from its parsed form; `None` for anything that leads elsewhere,
/// or that browsers and servers could read in two ways.
pub fn local(next: &str, base: &Url) -> Option<String> {
    // One slash and then no second: "//host" and "/\host" are other hosts to a browser. Browsers also drop tabs and line breaks
    // before they read, so none may stand anywhere.
    let mut bytes = next.bytes();
    let starts_at_home = bytes.next() == Some(b'/') && !matches!(bytes.next(), Some(b'/' | b'\\'));
    if !starts_at_home || next.len() > MAX || next.contains(|c: char| c.is_control() || c == '\\') {
        return None;
    }
    let url = base.join(next).ok()?;
    if url.origin() != base.origin() || url.path().starts_with("//") {
        return None;
    }
    Some(url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path())))
}

/// A path of ours, or a whole URL on one of the hosts that people are signed in for; written anew, so a path begins with a slash
/// and a URL does not.
pub fn checked(next: &str, site: &Site) -> Option<String> {
    let elsewhere = || Some(site.forward_auth.as_ref()?.destination(next)?.url.into());
    local(next, &site.base_url).or_else(elsewhere)
}

/// `path` with `next` in its query.
pub fn carried(path: &str, next: &str) -> String {
    // A slash needs no encoding in a query, and people read these.
    let next = form_urlencoded::byte_serialize(next.as_bytes()).collect::<String>().replace("%2F", "/");
    format!("{path}?next={next}")
}

/// Asks for the strongest factor again, and then comes back to `page`.
pub fn step_up(page: &str) -> String {
    carried(routes::REAUTH, page)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn base() -> Url {
        Url::parse("https://id.example.org").expect("a URL")
    }

    #[test]
    fn paths_of_ours_are_kept() {
        for (next, kept) in [
            ("/", "/"),
            ("/account", "/account"),
            ("/account/sessions?page=2&x=a%20b", "/account/sessions?page=2&x=a%20b"),
            ("/a/../account", "/account"),
            ("/account#top", "/account"),
            ("/caf\u{e9}", "/caf%C3%A9"),
            ("/x?to=https://evil.example", "/x?to=https://evil.example"),
            ("/@evil.example", "/@evil.example"),
        ] {
            assert_eq!(local(next, &base()).as_deref(), Some(kept), "{next:?}");
        }
    }

    #[test]
    fn everything_else_is_dropped() {
        let long = format!("/{}", "a".repeat(8_192));
        for next in [
            "",
            " ",
            "account",
            "//evil.example",
            "///evil.example",
            "////evil.example",
            "/\\evil.example",
            "/\\/evil.example",
            "\\\\evil.example",
            "\\/evil.example",
            "/\t/evil.example",
            "/\n/evil.example",
            "/\r\n/evil.example",
            "\t//evil.example",
            " //evil.example",
            "https://evil.example",
            "https:evil.example",
            "https:/evil.example",
            "http://id.example.org/",
            "HTTPS://EVIL.EXAMPLE",
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "data:text/html,x",
            "vbscript:x",
            "mailto:a@b.example",
            "ftp://evil.example",
            "@evil.example",
            "id.example.org@evil.example",
            "https://id.example.org@evil.example",
            "https://id.example.org.evil.example",
            "/x\r\nSet-Cookie: a=b",
            "/x\nLocation: //evil.example",
            "/x\0",
            "/\u{7f}",
            "/\u{85}",
            "?next=//evil.example",
            "#//evil.example",
            "..//evil.example",
            "./evil",
            "\u{2044}\u{2044}evil.example",
            "\u{ff0f}\u{ff0f}evil.example",
            "/a\\b",
            "/..//evil.example",
            "/.//evil.example",
            "/a/..//evil.example",
            "/%2e%2e//evil.example",
            &long,
        ] {
            assert_eq!(local(next, &base()), None, "{next:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]
        #[test]
        fn whatever_is_kept_resolves_to_our_origin(next in "[/\\\\.@:?#%a-z0-9 \\t\\r\\n]{0,24}|/\\PC{0,40}") {
            if let Some(kept) = local(&next, &base()) {
                prop_assert!(kept.starts_with('/') && !kept.starts_with("//") && kept.is_ascii());
                prop_assert_eq!(base().join(&kept).expect("it was a URL").origin(), base().origin());
                prop_assert_eq!(local(&kept, &base()), Some(kept.clone()));
            }
        }
    }
}
