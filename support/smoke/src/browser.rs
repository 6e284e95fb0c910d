//! A browser: fills in the forms that pages have, and follows nothing by itself.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{ACCEPT, AUTHORIZATION, LOCATION, RETRY_AFTER, SET_COOKIE, USER_AGENT},
};
use http_client::{Client, Connections};
use url::{Position, Url, form_urlencoded};

use crate::{page::Page, report::Failure};

/// For one answer. The instance itself gives up before.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(45);
const LARGEST_ANSWER: usize = 1 << 20;

/// The instance, as people reach it.
pub struct Site {
    base: Url,
    client: Client,
}

impl Site {
    pub fn new(base: Url) -> anyhow::Result<Self> {
        // A connection for each request: what one answer leaves behind on a broken instance must not reach the next.
        Ok(Self { client: Client::of_scheme(base.scheme(), Connections::Closed, LARGEST_ANSWER)?, base })
    }

    pub fn origin(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    pub fn is_https(&self) -> bool {
        self.base.scheme() == "https"
    }

    /// A path and query of this site; `None` where it leads elsewhere.
    pub fn local(&self, address: &str) -> Option<String> {
        let url = self.base.join(address).ok().filter(|url| url.origin() == self.base.origin())?;
        Some(url[Position::BeforePath..Position::AfterQuery].to_owned())
    }
}

#[derive(Clone)]
pub struct Browser {
    site: Arc<Site>,
    pub http: http_client::Browser,
}

/// An answer, read whole.
pub struct Answer {
    /// `GET /login`.
    asked: String,
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub page: Page,
    /// Where it leads: a path of the site without its query, which may hold a token; the whole stands in `headers`.
    pub leads_to: Option<String>,
}

impl Browser {
    pub fn new(site: Arc<Site>) -> Self {
        let mut http = http_client::Browser::new(site.client.clone(), site.origin(), site.origin());
        http.headers.insert(USER_AGENT, HeaderValue::from_static(concat!("latchkey-smoke/", env!("CARGO_PKG_VERSION"))));
        http.headers.insert(ACCEPT, HeaderValue::from_static("text/html, application/json"));
        Self { site, http }
    }

    pub async fn get(&mut self, path: &str) -> Result<Answer, Failure> {
        self.send(Method::GET, path, None, "").await
    }

    /// Fills in the form of that page that posts to `action`, and sends it.
    pub async fn submit(&mut self, page: &Answer, action: &str, entries: &[(&str, &str)]) -> Result<Answer, Failure> {
        let form = page.page.form(action).filter(|form| entries.iter().all(|(name, _)| form.has(name)));
        let form = form.ok_or_else(|| {
            let names: Vec<&str> = entries.iter().map(|(name, _)| *name).collect();
            page.differs(format!("a form to {action} with the fields [{}]", names.join(", ")))
        })?;
        let mut fields = form.fields.clone();
        fields.extend(entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(&fields).finish();
        self.send(Method::POST, action, Some(("application/x-www-form-urlencoded", body)), "").await
    }

    /// Goes where an answer leads.
    pub async fn follow(&mut self, answer: &Answer) -> Result<Answer, Failure> {
        let location = answer.location().and_then(|location| self.site.local(location));
        let path = location.ok_or_else(|| answer.differs("a redirection within the site"))?;
        self.get(&path).await
    }

    /// A request to the API: JSON, perhaps with a key.
    pub async fn ask(&mut self, method: Method, path: &str, key: &str) -> Result<Answer, Failure> {
        let body = (method == Method::POST || method == Method::PUT).then(|| ("application/json", "{}".to_owned()));
        self.send(method, path, body, key).await
    }

    async fn send(&mut self, method: Method, path: &str, body: Option<(&str, String)>, key: &str) -> Result<Answer, Failure> {
        // A link's query is a token.
        let asked = format!("{method} {}", path.split('?').next().unwrap_or_default());
        let failed = |why: String| Failure::new(format!("an answer to {asked}"), why);
        if !key.is_empty() {
            let key = HeaderValue::try_from(format!("Bearer {key}")).map_err(|error| failed(error.to_string()))?;
            self.http.headers.insert(AUTHORIZATION, key);
        }
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.http.send(method, path, body)).await;
        self.http.headers.remove(AUTHORIZATION);
        let (head, body) = match answer {
            Ok(answer) => answer.map_err(|error| failed(format!("{error:#}")))?.into_parts(),
            Err(_) => return Err(failed(format!("none within {} s", ANSWER_TIMEOUT.as_secs()))),
        };
        let leads_to = header(&head.headers, &LOCATION).map(|location| match self.site.local(location) {
            Some(path) => path.split('?').next().unwrap_or_default().to_owned(),
            None => "another site".to_owned(),
        });
        Ok(Answer { asked, status: head.status, page: Page::read(&body), headers: head.headers, leads_to })
    }

    /// That the account's page opens.
    pub async fn is_in(&mut self) -> Result<(), Failure> {
        let (signed_in, account) = self.is_signed_in().await?;
        if signed_in { Ok(()) } else { Err(account.differs("the account's page")) }
    }

    /// That it doesn't. `expected`: that, in words.
    pub async fn is_out(&mut self, expected: &str) -> Result<(), Failure> {
        let (signed_in, account) = self.is_signed_in().await?;
        if signed_in { Err(account.differs(expected)) } else { Ok(()) }
    }

    /// Whether the account's page opens; and what it answered.
    pub async fn is_signed_in(&mut self) -> Result<(bool, Answer), Failure> {
        let answer = self.get("/account").await?;
        // Who must set two-factor up first is led there.
        let signed_in = answer.status == 200 || answer.leads_to.as_deref() == Some("/account/two-factor/setup");
        Ok((signed_in, answer))
    }
}

impl Answer {
    fn location(&self) -> Option<&str> {
        header(&self.headers, &LOCATION)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// How long to wait before asking again.
    pub fn retry_after(&self) -> Option<Duration> {
        header(&self.headers, &RETRY_AFTER)?.parse().ok().map(Duration::from_secs)
    }

    /// One cookie that it sets.
    pub fn cookie(&self, name: &str) -> Option<cookie::Cookie<'_>> {
        let lines = self.headers.get_all(SET_COOKIE).iter().filter_map(|line| line.to_str().ok());
        lines.filter_map(|line| cookie::Cookie::parse(line).ok()).find(|cookie| cookie.name() == name)
    }

    /// That something else was expected.
    pub fn differs(&self, expected: impl Into<String>) -> Failure {
        let leads = self.leads_to.as_ref().map(|path| format!(" to {path}")).unwrap_or_default();
        // What an API says that lies open is nobody's business here.
        let plain = self.header("content-type").is_some_and(|kind| kind.starts_with("text/plain"));
        let said = if plain { &self.page.text } else { &self.page.heading };
        let said: String = said.trim().lines().next().unwrap_or_default().chars().take(80).collect();
        let said = if said.is_empty() { said } else { format!(" “{said}”") };
        Failure {
            expected: expected.into(),
            seen: format!("{} answered {}{leads}{said}", self.asked, self.status.as_u16()),
            request_id: self.header("x-request-id").map(ToOwned::to_owned),
        }
    }

    pub fn is(&self, status: u16) -> Result<(), Failure> {
        if self.status == status { Ok(()) } else { Err(self.differs(status.to_string())) }
    }

    pub fn leads(&self, path: &str) -> Result<(), Failure> {
        let right = self.status == 303 && self.leads_to.as_deref() == Some(path);
        if right { Ok(()) } else { Err(self.differs(format!("303 to {path}"))) }
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &http::HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
