//! A browser to whom a server that doesn't answer is a failed test.

use std::{
    net::SocketAddr,
    ops::{Deref, DerefMut},
};

use http::{
    HeaderMap, Method, StatusCode,
    header::{HeaderValue, LOCATION, USER_AGENT},
};
use http_client::{Client, Connections};

const FORM: &str = "application/x-www-form-urlencoded";

#[derive(Clone)]
pub struct Browser(http_client::Browser);

/// An answer, read whole.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Reply {
    /// Where it leads; empty where nowhere.
    #[must_use]
    pub fn location(&self) -> &str {
        self.headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Browser {
    /// `origin` is the server's `BASE_URL`.
    #[must_use]
    pub fn new(server: SocketAddr, origin: impl Into<String>) -> Self {
        let client = Client::plain(Connections::Kept, usize::MAX);
        let mut browser = http_client::Browser::new(client, format!("http://{server}"), origin);
        let name = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0";
        browser.headers.insert(USER_AGENT, HeaderValue::from_static(name));
        Self(browser)
    }

    /// The same cookies, at another server of the same site.
    #[must_use]
    pub fn at(&self, server: SocketAddr) -> Self {
        Self(self.0.at(format!("http://{server}")))
    }

    pub async fn get(&mut self, path: &str) -> Reply {
        self.send(Method::GET, path, String::new()).await
    }

    /// # Panics
    /// Where the server does not answer.
    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Reply {
        let body = fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect::<Vec<_>>().join("&");
        self.send(Method::POST, path, body).await
    }

    /// # Panics
    /// Where the server does not answer.
    pub async fn send(&mut self, method: Method, path: &str, body: String) -> Reply {
        self.try_send(method, path, body).await.expect("the server answers")
    }

    /// `body`: a form, already encoded.
    ///
    /// # Errors
    /// Where the server does not answer.
    pub async fn try_send(&mut self, method: Method, path: &str, body: String) -> anyhow::Result<Reply> {
        let form = (method != Method::GET && method != Method::HEAD).then_some((FORM, body));
        let (head, body) = self.0.send(method, path, form).await?.into_parts();
        Ok(Reply { status: head.status, headers: head.headers, body })
    }
}

impl Deref for Browser {
    type Target = http_client::Browser;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Browser {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

fn encode(value: &str) -> String {
    value
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
