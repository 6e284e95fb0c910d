//! Headers that say whose a request is: a stranger's change nothing, whatever they say.

use std::net::{IpAddr, SocketAddr};

use axum::{Router, extract::ConnectInfo};
use http::{HeaderName, Method, header};
use testkit::Kit;

use super::{config, request, send, service};

/// As many mails as one network gets (`link_network`).
const NETWORK: usize = 30;

/// What proxies, CDNs and clients say about where a request came from. `{n}` is another address every time.
const LIES: [(&str, &str); 12] = [
    ("x-forwarded-for", "198.51.100.{n}"),
    ("x-forwarded-for", "198.51.100.{n}, 203.0.113.9"),
    ("x-forwarded-for", "not an address"),
    ("x-forwarded-for", ",,,198.51.100.{n},"),
    ("x-forwarded-for", "198.51.100.{n}:4711"),
    ("x-forwarded-for", "2001:db8:{n}::1"),
    ("forwarded", "for=198.51.100.{n}"),
    ("x-real-ip", "198.51.100.{n}"),
    ("true-client-ip", "198.51.100.{n}"),
    ("cf-connecting-ip", "198.51.100.{n}"),
    ("x-client-ip", "198.51.100.{n}"),
    ("x-cluster-client-ip", "198.51.100.{n}"),
];

/// Asks for a mail to an address of its own, in a browser of its own.
async fn ask(app: &Router, n: usize, peer: &str, headers: &[(&str, String)]) -> u16 {
    let mut request = request(&Method::POST, "/login", "", &format!("email=a{n}@example.org"));
    let peer: IpAddr = peer.parse().expect("an address");
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from((peer, 4_711))));
    for (name, value) in headers {
        request.headers_mut().append(HeaderName::try_from(*name).expect("a name"), value.parse().expect("ASCII"));
    }
    let response = send(app, request).await;
    if response.status() == 429 {
        let wait = response.headers()[header::RETRY_AFTER].to_str().expect("ASCII").parse::<u64>().expect("seconds");
        assert!((1..=30).contains(&wait), "{wait}");
    }
    response.status().as_u16()
}

fn said(lie: usize, n: usize) -> Vec<(&'static str, String)> {
    let (name, value) = LIES[lie % LIES.len()];
    vec![(name, value.replace("{n}", &(n % 250).to_string()))]
}

/// However many addresses a client makes up, it is the one that called.
#[tokio::test]
async fn a_strangers_headers_move_no_limit() {
    for trusted in [None, Some("10.0.0.1")] {
        let kit = Kit::new().await;
        let variables: Vec<(&str, &str)> = trusted.map(|proxies| ("TRUSTED_PROXIES", proxies)).into_iter().collect();
        let app = service(&config(&variables), kit.auth.clone());
        for n in 0..NETWORK {
            assert_eq!(ask(&app, n, "192.0.2.7", &said(n, n)).await, 303, "{n}");
        }
        for n in NETWORK..NETWORK + 3 * LIES.len() {
            assert_eq!(ask(&app, n, "192.0.2.7", &said(n, n)).await, 429, "{n}: {:?}", said(n, n));
        }
        assert_eq!(ask(&app, 999, "192.0.2.8", &[]).await, 303, "another client");
    }
}

/// Of what comes through our proxy only what the proxy itself has seen counts: the last.
#[tokio::test]
async fn behind_a_trusted_proxy_the_client_is_the_one_it_saw() {
    let kit = Kit::new().await;
    let app = service(&config(&[("TRUSTED_PROXIES", "10.0.0.0/8")]), kit.auth.clone());
    let through = |made_up: usize, client: &str| {
        let mut headers = vec![("x-forwarded-for", format!("198.51.100.{}, {client}", made_up % 250))];
        headers.push(("x-real-ip", format!("198.51.100.{}", made_up % 250)));
        headers
    };
    for n in 0..NETWORK {
        assert_eq!(ask(&app, n, "10.0.0.1", &through(n, "192.0.2.7")).await, 303, "{n}");
    }
    for n in NETWORK..2 * NETWORK {
        assert_eq!(ask(&app, n, "10.0.0.1", &through(n, "192.0.2.7")).await, 429, "{n}");
    }
    // Another proxy of ours in between, IPv4 in IPv6 clothes, and a port: the same client.
    for client in ["192.0.2.7, 10.0.0.2", "::ffff:192.0.2.7", "192.0.2.7:4711"] {
        assert_eq!(ask(&app, 500, "10.0.0.1", &through(1, client)).await, 429, "{client}");
    }
    assert_eq!(ask(&app, 501, "10.0.0.1", &through(1, "192.0.2.8")).await, 303, "another client");
    // One IPv6 subscriber is one network, whatever they make of its last 64 bits.
    for n in 0..NETWORK {
        assert_eq!(ask(&app, 600 + n, "10.0.0.1", &through(n, &format!("2001:db8::{n:x}"))).await, 303, "{n}");
    }
    assert_eq!(ask(&app, 700, "10.0.0.1", &through(1, "2001:db8::ffff:1")).await, 429);
    assert_eq!(ask(&app, 701, "10.0.0.1", &through(1, "2001:db8:0:1::1")).await, 303);
}
