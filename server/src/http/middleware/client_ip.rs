//! Whose request it is: the address that limits count and the audit keeps.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies whose word about a request counts.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self(networks.into_iter().collect())
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Every proxy appends the address it was called from, so the list can be trusted from the right, as far as the hops are
    /// trusted proxies; a client may have invented the rest. The client is the first hop that is no trusted proxy.
    ///
    /// IPv4 never in IPv6 clothes: `::ffff:192.0.2.1` would be a second bucket for the same client.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        for line in headers.get_all(X_FORWARDED_FOR).iter().rev() {
            // Bytes that are no text make no address either; the lossy form keeps the entries beside them.
            for entry in String::from_utf8_lossy(line.as_bytes()).rsplit(',') {
                if !self.contains(client) {
                    return client;
                }
                match address(entry.trim()) {
                    Some(hop) => client = hop,
                    None => return client,
                }
            }
        }
        client
    }
}

/// Some proxies write the port too.
fn address(entry: &str) -> Option<IpAddr> {
    let address = entry.parse().ok().or_else(|| entry.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proxies(networks: &[&str]) -> TrustedProxies {
        TrustedProxies::new(networks.iter().map(|network| network.parse::<IpNet>().expect("a network")))
    }

    fn headers(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (X_FORWARDED_FOR, line.parse().expect("a header"))).collect()
    }

    #[test]
    fn walks_from_the_right_over_our_own_hops() {
        let ours = proxies(&["127.0.0.1/32", "10.0.0.0/8", "2001:db8:1::/48"]);
        for (peer, lines, client) in [
            // Nobody forwarded.
            ("192.0.2.7", &[] as &[&str], "192.0.2.7"),
            ("10.0.0.1", &[], "10.0.0.1"),
            // One proxy, two proxies, a liar before them.
            ("10.0.0.1", &["192.0.2.7"], "192.0.2.7"),
            ("10.0.0.1", &["192.0.2.7, 10.0.0.2"], "192.0.2.7"),
            ("10.0.0.1", &["203.0.113.9, 192.0.2.7, 10.0.0.2"], "192.0.2.7"),
            ("10.0.0.1", &["10.9.9.9, 192.0.2.7"], "192.0.2.7"),
            // Lines are one list.
            ("10.0.0.1", &["203.0.113.9", "192.0.2.7", "10.0.0.3 ,10.0.0.2"], "192.0.2.7"),
            // All ours: a request from inside.
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // What is no address stops the walk at the last hop we know.
            ("10.0.0.1", &["192.0.2.7, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.7, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["192.0.2.7,"], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.7", ""], "10.0.0.1"),
            ("10.0.0.1", &["192.0.2.7, caf\u{e9}"], "10.0.0.1"),
            // IPv6, ports, and IPv4 in IPv6 clothes on either side.
            ("2001:db8:1::1", &["2001:db8:2::7"], "2001:db8:2::7"),
            ("10.0.0.1", &["[2001:db8:2::7]:443"], "2001:db8:2::7"),
            ("10.0.0.1", &["192.0.2.7:50000"], "192.0.2.7"),
            ("::ffff:10.0.0.1", &["::ffff:192.0.2.7"], "192.0.2.7"),
            ("::ffff:192.0.2.7", &["203.0.113.9"], "192.0.2.7"),
        ] {
            let found = ours.client(peer.parse().expect("an address"), &headers(lines));
            assert_eq!(found.to_string(), client, "{peer} {lines:?}");
        }
    }

    fn any_header() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let address = prop_oneof![
            any::<[u8; 4]>().prop_map(|a| IpAddr::from(a).to_string()),
            any::<[u8; 16]>().prop_map(|a| IpAddr::from(a).to_string())
        ];
        let entry = prop_oneof![4 => address, 1 => "[ -~]{0,12}", 1 => Just("127.0.0.1".to_owned())];
        let line = prop_oneof![
            3 => prop::collection::vec(entry, 0..5).prop_map(|entries| entries.join(",").into_bytes()),
            1 => prop::collection::vec(0x80..=0xffu8, 0..8),
        ];
        prop::collection::vec(line, 0..4)
    }

    fn as_headers(lines: &[Vec<u8>]) -> HeaderMap {
        lines.iter().filter_map(|line| Some((X_FORWARDED_FOR, http::HeaderValue::from_bytes(line).ok()?))).collect()
    }

    proptest! {
        /// R20: a header moves nobody's bucket but a proxy's client's.
        #[test]
        fn no_header_moves_the_address_of_a_stranger(peer in any::<[u8; 4]>(), lines in any_header()) {
            let ours = proxies(&["127.0.0.0/8", "10.0.0.0/8"]);
            let peer = IpAddr::from(peer);
            prop_assume!(!ours.contains(peer));
            prop_assert_eq!(ours.client(peer, &as_headers(&lines)), peer);
        }

        /// Whatever a client sends before it, the entry our own proxy appended decides.
        #[test]
        fn no_header_moves_the_address_of_a_proxied_client(client in any::<[u8; 4]>(), lines in any_header()) {
            let ours = proxies(&["127.0.0.0/8", "10.0.0.0/8"]);
            let client = IpAddr::from(client);
            prop_assume!(!ours.contains(client));
            let mut headers = as_headers(&lines);
            headers.append(X_FORWARDED_FOR, client.to_string().parse().expect("a header"));
            prop_assert_eq!(ours.client(IpAddr::from([10, 0, 0, 1]), &headers), client);
        }
    }
}
