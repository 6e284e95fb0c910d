//! A browser behind a proxy that the server is told to believe, on a connection of its own.

use std::net::{Ipv4Addr, SocketAddr};

use http::header::{HOST, HeaderValue};
use testkit::Browser;

use crate::servers;

pub fn client(server: SocketAddr, from: Ipv4Addr) -> Browser {
    let mut browser = Browser::new(server, servers::ORIGIN);
    browser.headers.insert(HOST, HeaderValue::from_static("localhost:3000"));
    come_from(&mut browser, from);
    browser
}

/// What the proxy says from now on.
pub fn come_from(browser: &mut Browser, from: Ipv4Addr) {
    browser.headers.insert("x-forwarded-for", from.to_string().parse().expect("digits and dots"));
}

/// The form that asks for a link.
pub fn asking_for(email: &str) -> String {
    format!("email={}", email.replace('@', "%40"))
}
