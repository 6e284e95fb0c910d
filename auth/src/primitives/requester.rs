//! Who asks: an address on the network, a browser's own words, and the request they came with.

use std::net::IpAddr;

use ipnet::IpNet;
use uuid::Uuid;

/// Where a request came from. All of it is the client's word but `ip`, so it is shown and recorded, never trusted.
#[derive(Debug, Clone)]
pub struct Requester {
    pub ip: IpAddr,
    user_agent: String,
    pub request_id: String,
    behalf: Option<OnBehalfOf>,
}

/// An application that signs people in through the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// The id of its API key.
    pub key: Uuid,
    /// The key's name. Keys of one name are one application's.
    pub name: String,
}

/// Whom an application asks for, by its own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    pub ip: IpAddr,
    pub user_agent: String,
}

/// An application asks, for somebody.
#[derive(Debug, Clone)]
struct OnBehalfOf {
    application: Application,
    /// It said for whom: address and user agent are that client's.
    client_named: bool,
}

/// Longer user agents are cut: they are shown to people and kept for months.
const MAX_USER_AGENT: usize = 256;

/// Nearly all are as they should be, and every request brings one: those are copied at once.
fn shown(user_agent: &str) -> String {
    if user_agent.len() <= MAX_USER_AGENT && !user_agent.contains(char::is_control) {
        return user_agent.to_owned();
    }
    user_agent.chars().filter(|c| !c.is_control()).take(MAX_USER_AGENT).collect()
}

impl Requester {
    #[must_use]
    pub fn new(ip: IpAddr, user_agent: &str, request_id: impl Into<String>) -> Self {
        Self { ip: ip.to_canonical(), user_agent: shown(user_agent), request_id: request_id.into(), behalf: None }
    }

    /// An application that signs somebody in. `self` is the application's own request; where it says for whom, limits, mails and the
    /// audit speak of that client.
    #[must_use]
    pub fn on_behalf(&self, application: &Application, client: Option<&Client>) -> Self {
        let asker = match client {
            Some(client) => Self::new(client.ip, &client.user_agent, self.request_id.clone()),
            None => self.clone(),
        };
        Self { behalf: Some(OnBehalfOf { application: application.clone(), client_named: client.is_some() }), ..asker }
    }

    /// The application that asks; `None` where a browser does.
    #[must_use]
    pub fn application(&self) -> Option<&Application> {
        self.behalf.as_ref().map(|behalf| &behalf.application)
    }

    /// Whether address and user agent are those of the person who asks, rather than of an application that keeps them to itself.
    pub(crate) fn is_person(&self) -> bool {
        self.behalf.as_ref().is_none_or(|behalf| behalf.client_named)
    }

    #[must_use]
    pub fn user_agent(&self) -> &str {
        &self.user_agent
    }

    /// "Firefox on Windows".
    #[must_use]
    pub fn device(&self) -> String {
        device(&self.user_agent)
    }

    /// Where it happened, for a mail that tells of it: a browser or an application, and the person's address on the network, if known.
    pub(crate) fn place(&self) -> (String, Option<String>) {
        let device = match &self.behalf {
            None => self.device(),
            Some(OnBehalfOf { application, client_named: true }) => format!("{}, {}", application.name, self.device()),
            Some(OnBehalfOf { application, client_named: false }) => application.name.clone(),
        };
        (device, self.is_person().then(|| self.ip.to_string()))
    }

    /// Whom a network limit counts: an IPv4 address, or the /64 that one IPv6 subscriber has whole (RFC 6177). An application that
    /// doesn't say for whom it asks is one network, by its key: its servers' addresses stand for all its people.
    pub(crate) fn network(&self) -> String {
        match self.ip {
            IpAddr::V4(ip) if self.is_person() => ip.to_string(),
            _ => self.prefix(32, 64),
        }
    }

    /// The smallest part of the internet that is announced on its own, and so has one holder: an IPv4 /24 or an IPv6 /48. Its holder has
    /// 256 or 65,536 networks.
    pub(crate) fn block(&self) -> String {
        self.prefix(24, 48)
    }

    /// The same, for the database to compare addresses with.
    pub(crate) fn block_net(&self) -> IpNet {
        self.net(24, 48)
    }

    /// The IPv6 /56 that many a provider gives a subscriber; none for IPv4, and where an application is the network.
    pub(crate) fn site(&self) -> Option<String> {
        (self.ip.is_ipv6() && self.is_person()).then(|| self.prefix(32, 56))
    }

    /// What a provider has: an IPv4 /16 or an IPv6 /32, in which there are 256 or 65,536 blocks.
    pub(crate) fn range(&self) -> String {
        self.prefix(16, 32)
    }

    fn prefix(&self, v4: u8, v6: u8) -> String {
        if let Some(OnBehalfOf { application, client_named: false }) = &self.behalf {
            return format!("API key {}", application.key);
        }
        self.net(v4, v6).to_string()
    }

    fn net(&self, v4: u8, v6: u8) -> IpNet {
        let length = if self.ip.is_ipv4() { v4 } else { v6 };
        IpNet::new(self.ip, length).map_or_else(|_| self.ip.into(), |net| net.trunc())
    }
}

/// Names a browser and system in the words people use for them. User agents are frozen and lie about detail, so this stays coarse.
#[must_use]
pub fn device(user_agent: &str) -> String {
    // Order matters: every browser claims to be Safari, and most claim to be Chrome.
    const BROWSERS: [(&str, &str); 11] = [
        ("EdgA/", "Edge"),
        ("EdgiOS/", "Edge"),
        ("Edg/", "Edge"),
        ("OPR/", "Opera"),
        ("SamsungBrowser/", "Samsung Internet"),
        ("FxiOS/", "Firefox"),
        ("Firefox/", "Firefox"),
        ("CriOS/", "Chrome"),
        ("Chrome/", "Chrome"),
        ("Version/", "Safari"),
        ("curl/", "curl"),
    ];
    const SYSTEMS: [(&str, &str); 8] = [
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Android", "Android"),
        ("Windows", "Windows"),
        ("CrOS", "ChromeOS"),
        ("Macintosh", "Mac"),
        ("Linux", "Linux"),
        ("X11", "Linux"),
    ];
    let find = |table: &[(&str, &'static str)]| table.iter().find(|(mark, _)| user_agent.contains(mark)).map(|(_, name)| *name);
    match (find(&BROWSERS), find(&SYSTEMS)) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(browser), None) => browser.to_owned(),
        (None, Some(system)) => format!("A browser on {system}"),
        (None, None) => "An unknown device".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_as_people_name_them() {
        for (user_agent, name) in [
            ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0", "Firefox on Windows"),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
                "Safari on iPhone",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
                "Chrome on Mac",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36 Edg/130.0.0.0",
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (Linux; Android 14; SM-S911B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/25.0 Chrome/121.0.0.0 Mobile Safari/537.36",
                "Samsung Internet on Android",
            ),
            ("curl/8.5.0", "curl"),
            ("", "An unknown device"),
        ] {
            assert_eq!(device(user_agent), name);
        }
    }

    #[test]
    fn one_ipv6_subscriber_is_one_network() {
        let network = |ip: &str| Requester::new(ip.parse().expect(ip), "", "r").network();
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::9"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(network("::ffff:203.0.113.7"), network("203.0.113.7"));
        assert_ne!(network("203.0.113.7"), network("203.0.113.8"));
    }

    #[test]
    fn one_holder_is_one_block() {
        let block = |ip: &str| Requester::new(ip.parse().expect(ip), "", "r").block();
        assert_eq!(block("2001:db8:1:2::1"), "2001:db8:1::/48");
        assert_eq!(block("2001:db8:1:ffff::9"), "2001:db8:1::/48");
        assert_eq!(block("::ffff:203.0.113.7"), "203.0.113.0/24");
        assert_eq!(block("203.0.114.7"), "203.0.114.0/24");
        let wider = |ip: &str| {
            let from = Requester::new(ip.parse().expect(ip), "", "r");
            (from.site(), from.range())
        };
        assert_eq!(wider("2001:db8:1:2ff::1"), (Some("2001:db8:1:200::/56".to_owned()), "2001:db8::/32".to_owned()));
        assert_eq!(wider("203.0.113.7"), (None, "203.0.0.0/16".to_owned()));
    }

    #[test]
    fn an_application_speaks_for_the_client_it_names_and_else_for_itself() {
        let server = Requester::new([10, 0, 0, 5].into(), "python", "r");
        let notes = Application { key: Uuid::from_u128(7), name: "Notes".to_owned() };
        let client = Client { ip: [203, 0, 113, 24].into(), user_agent: "Firefox/128.0 \n(Windows)".to_owned() };
        let named = server.on_behalf(&notes, Some(&client));
        assert_eq!(
            (named.network().as_str(), named.device().as_str(), named.is_person()),
            ("203.0.113.24", "Firefox on Windows", true)
        );
        assert!(!named.user_agent().contains('\n') && named.request_id == "r");
        let unnamed = server.on_behalf(&notes, None);
        assert_eq!((unnamed.network(), unnamed.is_person()), (format!("API key {}", notes.key), false));
        assert_eq!((unnamed.block(), unnamed.range(), unnamed.site()), (unnamed.network(), unnamed.network(), None));
        assert_eq!(unnamed.application(), Some(&notes));
        assert_eq!(server.application(), None);
    }

    #[test]
    fn a_user_agent_is_cut_and_cannot_break_a_line() {
        let requester = Requester::new([127, 0, 0, 1].into(), &format!("a\r\nb\u{1b}{}", "x".repeat(1_000)), "r");
        assert!(requester.user_agent().starts_with("abx"));
        assert_eq!(requester.user_agent().chars().count(), 256);
    }
}
