//! A browser of its own on a connection of its own, which tells of a failed request instead of ending the run.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
    header::{CONTENT_TYPE, COOKIE, HOST, ORIGIN, SET_COOKIE, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use testkit::Reply;
use tokio::net::TcpStream;

use crate::servers;

pub struct Client {
    server: SocketAddr,
    /// What the proxy in front says, which the server is told to believe.
    pub from: Ipv4Addr,
    pub cookies: BTreeMap<String, String>,
    /// Header lines with every request.
    pub also: Vec<(&'static str, &'static str)>,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Client {
    pub fn new(server: SocketAddr, from: Ipv4Addr) -> Self {
        Self { server, from, cookies: BTreeMap::new(), also: Vec::new(), connection: None }
    }

    pub async fn get(&mut self, path: &str) -> anyhow::Result<Reply> {
        self.send(Method::GET, path, String::new()).await
    }

    /// `form`: already encoded.
    pub async fn post(&mut self, path: &str, form: String) -> anyhow::Result<Reply> {
        self.send(Method::POST, path, form).await
    }

    /// Until the answer is read whole.
    async fn send(&mut self, method: Method, path: &str, form: String) -> anyhow::Result<Reply> {
        let mut request = Request::builder()
            .method(&method)
            .uri(path)
            .header(HOST, "localhost:3000")
            .header("x-forwarded-for", self.from.to_string())
            .header(USER_AGENT, "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0");
        if !self.cookies.is_empty() {
            let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            request = request.header(COOKIE, cookies.join("; "));
        }
        for (name, value) in &self.also {
            request = request.header(*name, *value);
        }
        if method == Method::POST {
            request = request.header(ORIGIN, servers::ORIGIN).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let request = request.body(Full::new(Bytes::from(form)))?;
        let response = self.connection().await?.send_request(request).await.context("no answer")?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.context("half an answer")?.to_bytes();
        for cookie in parts.headers.get_all(SET_COOKIE) {
            self.keep(cookie.to_str()?);
        }
        Ok(Reply { status: parts.status, headers: parts.headers, body: String::from_utf8_lossy(&body).into_owned() })
    }

    /// The one that is open, or another: servers close those that are idle.
    async fn connection(&mut self) -> anyhow::Result<&mut SendRequest<Full<Bytes>>> {
        let open = match &mut self.connection {
            Some(connection) => connection.ready().await.is_ok(),
            None => false,
        };
        if !open {
            let stream = TcpStream::connect(self.server).await.context("no connection")?;
            stream.set_nodelay(true)?;
            let (connection, driver) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(driver);
            self.connection = Some(connection);
        }
        self.connection.as_mut().context("just made")
    }

    fn keep(&mut self, cookie: &str) {
        let (pair, attributes) = cookie.split_once(';').unwrap_or((cookie, ""));
        let Some((name, value)) = pair.split_once('=') else { return };
        if attributes.to_ascii_lowercase().contains("max-age=0") {
            self.cookies.remove(name);
        } else {
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }
}

/// The form that asks for a link.
pub fn asking_for(email: &str) -> String {
    format!("email={}", email.replace('@', "%40"))
}
