//! A client that keeps cookies and says where its posts come from, as browsers do. It follows nothing by itself.

use std::collections::BTreeMap;

use cookie::{Cookie, time::Duration};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response,
    header::{CONTENT_TYPE, COOKIE, ORIGIN, SET_COOKIE},
};

use crate::Client;

#[derive(Clone, Debug)]
pub struct Browser {
    client: Client,
    server: String,
    origin: String,
    /// With every request.
    pub headers: HeaderMap,
    pub cookies: BTreeMap<String, String>,
}

impl Browser {
    /// `server`: who is asked, like `http://127.0.0.1:3000`. `origin`: where its posts say they come from.
    pub fn new(client: Client, server: impl Into<String>, origin: impl Into<String>) -> Self {
        let (server, origin) = (server.into(), origin.into());
        Self { client, server, origin, headers: HeaderMap::new(), cookies: BTreeMap::new() }
    }

    /// The same cookies, at another server of the same site.
    #[must_use]
    pub fn at(&self, server: impl Into<String>) -> Self {
        Self { server: server.into(), ..self.clone() }
    }

    /// `body`: its type, and what it says.
    pub async fn send(&mut self, method: Method, path: &str, body: Option<(&str, String)>) -> anyhow::Result<Response<String>> {
        let mut headers = self.headers.clone();
        if !self.cookies.is_empty() {
            let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            headers.insert(COOKIE, HeaderValue::try_from(cookies.join("; "))?);
        }
        if method != Method::GET && method != Method::HEAD {
            headers.insert(ORIGIN, HeaderValue::from_str(&self.origin)?);
        }
        let (kind, body) = body.unzip();
        if let Some(kind) = kind {
            headers.insert(CONTENT_TYPE, HeaderValue::from_str(kind)?);
        }
        let mut request =
            Request::builder().method(method).uri(format!("{}{path}", self.server)).body(body.unwrap_or_default().into())?;
        *request.headers_mut() = headers;
        let answer = self.client.send(request).await?;
        for cookie in answer.headers().get_all(SET_COOKIE) {
            self.keep(cookie);
        }
        Ok(answer.map(|body| String::from_utf8_lossy(&body).into_owned()))
    }

    fn keep(&mut self, cookie: &HeaderValue) {
        let Some(cookie) = cookie.to_str().ok().and_then(|text| Cookie::parse(text).ok()) else { return };
        if cookie.max_age().is_some_and(|age| age <= Duration::ZERO) {
            self.cookies.remove(cookie.name());
        } else {
            self.cookies.insert(cookie.name().to_owned(), cookie.value().to_owned());
        }
    }
}
