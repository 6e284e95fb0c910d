//! `latchkey healthcheck`: whether the server beside this process is alive, for containers, whose images hold no other HTTP client.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::Context as _;
use axum::body::Bytes;
use http::{Request, StatusCode};
use http_client::{Client, Connections};
use serde_json::json;

use super::{Output, answer::Answer};
use crate::config::Config;

/// Container engines wait 30 seconds by default. A server that takes three for `/healthz`, which asks no database, is stuck.
const PATIENCE: Duration = Duration::from_secs(3);
/// The answer is a word; whatever else listens there may say more.
const LARGEST_ANSWER: usize = 64 * 1024;

/// # Errors
/// If nothing answers with 200.
pub async fn healthcheck(config: &Config, output: Output) -> anyhow::Result<()> {
    let address = reachable(config.listen_addr);
    let url = format!("http://{address}/healthz");
    let request = Request::get(&url).body(Bytes::new())?;
    let asked = tokio::time::timeout(PATIENCE, Client::plain(Connections::Closed, LARGEST_ANSWER).send(request)).await;
    let answer =
        asked.with_context(|| format!("{url}: no answer within {} s", PATIENCE.as_secs()))?.with_context(|| url.clone())?;
    anyhow::ensure!(answer.status() == StatusCode::OK, "{url}: answered {}", answer.status());
    Answer::new(format!("{url}: alive"), json!({ "url": url, "alive": true })).print(output)
}

/// One that listens on every address is asked on this machine's own.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_listens_everywhere_is_asked_on_this_machine() {
        for (listen, asked) in [
            ("0.0.0.0:3000", "127.0.0.1:3000"),
            ("[::]:3000", "[::1]:3000"),
            ("10.0.0.7:80", "10.0.0.7:80"),
            ("[fd00::5]:80", "[fd00::5]:80"),
        ] {
            let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
            assert_eq!(reachable(address(listen)), address(asked));
        }
    }
}
