//! The browser's cookies, and the session behind one of them.
//!
//! `tower-sessions` loads and saves what a session stores. Who a session speaks for is not stored in it: it comes from the row's own
//! columns at each load, and what a session saves never reaches them.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use auth::{
    Auth,
    crypto::{BrowserNonce, ForwardAuthToken, KnownBrowserCookie, LinkToken, RevertToken, SessionKey, TrustedDeviceToken},
    identity::Authority,
    policy::KNOWN_BROWSER_TTL,
    sign_in::first_factor::{BrowserProof, SessionChange},
};
use axum::response::{IntoResponse, Response};
use cookie::{Cookie, SameSite};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{COOKIE, RETRY_AFTER, SET_COOKIE},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::Duration;
use tower_sessions::{
    Expiry, Session, SessionManagerLayer, SessionStore,
    session::{Id, Record},
    session_store,
};

/// The session, before and after sign-in.
pub const SESSION: &str = "__Host-latchkey";
/// A link being opened: the token waits here between the mail and the button, so that it stands in no address bar or history.
pub const LINK: &str = "__Host-latchkey-link";
/// As [`LINK`], for a link that takes something back.
pub const UNDO: &str = "__Host-latchkey-undo";
/// This browser has signed accounts in before.
pub const KNOWN: &str = "__Host-latchkey-known";
/// Its owner trusts this browser with the second factor.
pub const DEVICE: &str = "__Host-latchkey-device";

/// For a proxy in front of another host of the domain: the one cookie of ours that other hosts get to see.
pub const FORWARD_AUTH: &str = "__Secure-latchkey-gate";

const AUTHORITY: &str = "authority";
const VISIT: &str = "visit";

/// What a session stores: how far a sign-in has come in this browser.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit {
    /// Ties requests to this browser. Made with the first request, and kept when the session's id changes.
    pub nonce: Option<String>,
    pub asked: Option<AskedFor>,
    /// Where to go after signing in; checked when it was stored.
    pub next: Option<String>,
    /// What an administrator searched users for. It may be a whole address, which no URL should hold.
    #[serde(default)]
    pub user_search: Option<String>,
    /// The host that sent somebody to set two-factor up, to go back to.
    #[serde(default)]
    pub after_setup: Option<String>,
}

/// The address of this browser's newest request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedFor {
    pub email: String,
    /// It was typed here, so it may be shown here whole.
    pub typed: bool,
}

impl Visit {
    pub fn nonce(&self) -> Option<BrowserNonce> {
        BrowserNonce::parse(self.nonce.as_deref()?)
    }
}

/// The session of the request at hand.
pub struct BrowserSession {
    session: Session,
    pub visit: Visit,
    pub authority: Option<Authority>,
    pub known: Option<KnownBrowserCookie>,
    pub link: Option<LinkToken>,
    pub undo: Option<RevertToken>,
    trusted: Option<TrustedDeviceToken>,
    nonce: Option<BrowserNonce>,
}

impl BrowserSession {
    /// Without a session cookie this asks the database nothing.
    pub async fn load(session: Session, headers: &HeaderMap) -> Result<Self, tower_sessions::session::Error> {
        let (visit, authority) = if session.id().is_some() {
            (session.get::<Visit>(VISIT).await?.unwrap_or_default(), session.get::<Authority>(AUTHORITY).await?)
        } else {
            (Visit::default(), None)
        };
        let nonce = visit.nonce();
        Ok(Self {
            session,
            visit,
            authority,
            known: read(headers, KNOWN).and_then(KnownBrowserCookie::parse),
            link: read(headers, LINK).and_then(LinkToken::parse),
            undo: read(headers, UNDO).and_then(RevertToken::parse),
            trusted: read(headers, DEVICE).and_then(TrustedDeviceToken::parse),
            nonce,
        })
    }

    pub fn proof(&self) -> BrowserProof<'_> {
        BrowserProof { nonce: self.nonce.as_ref(), known: self.known.as_ref(), trusted: self.trusted.as_ref() }
    }

    /// Saved by the session layer when the answer leaves; a visitor gets a row and a cookie here, and not before.
    pub async fn store(&self, visit: &Visit) -> Result<(), tower_sessions::session::Error> {
        self.session.insert(VISIT, visit).await
    }

    pub fn key(&self) -> Option<SessionKey> {
        self.session.id().map(key)
    }

    pub fn trusted(&self) -> Option<&TrustedDeviceToken> {
        self.trusted.as_ref()
    }

    /// A session id for a sign-in to give authority to, and the cookie to send if it does.
    ///
    /// The id is new, whatever the browser held before. Until the sign-in has succeeded the browser's old session stays as it is,
    /// so of two parallel tries the loser can't take the winner's cookie away.
    pub fn session_change(&self, sessions: &Sessions) -> (SessionChange, Cookie<'static>) {
        let id = Id::default();
        let data = HashMap::from([(VISIT, Visit { asked: None, user_search: None, after_setup: None, ..self.visit.clone() })]);
        let data = serde_json::to_value(data).unwrap_or_default();
        (SessionChange { fresh: key(id), data, old: self.key() }, sessions.cookie(id))
    }

    /// Takes the browser's cookie away. The row is [`auth::Sessions::sign_out`]'s business.
    pub async fn forget(&self) -> Result<(), tower_sessions::session::Error> {
        self.session.flush().await
    }
}

fn key(id: Id) -> SessionKey {
    SessionKey::of(id.0.to_le_bytes())
}

/// What a request shows that comes by a proxy's question and no page's: it loads no session and changes none. Each host of the domain can
/// set the cookie that other hosts see, for itself or for all, so there may be several of its name.
pub fn shown(headers: &HeaderMap) -> (Vec<ForwardAuthToken>, Option<SessionKey>) {
    let session = read(headers, SESSION).and_then(|id| id.parse().ok()).map(key);
    (values(headers, FORWARD_AUTH).filter_map(ForwardAuthToken::parse).collect(), session)
}

fn read<'a>(headers: &'a HeaderMap, name: &'a str) -> Option<&'a str> {
    values(headers, name).next()
}

fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter_map(move |(found, value)| (found == name).then_some(value))
}

/// A cookie that no script, no other host and no plain connection gets. `Lax` and not `Strict`: the click in a mail must bring it.
pub fn cookie(name: &'static str, value: String, max_age: Duration) -> Cookie<'static> {
    Cookie::build((name, value)).path("/").secure(true).http_only(true).same_site(SameSite::Lax).max_age(max_age).build()
}

/// The token of a link that is being opened, for as long as any link works.
pub fn link(token: &LinkToken, lifetime: std::time::Duration) -> Cookie<'static> {
    cookie(LINK, token.reveal(), lifetime.try_into().unwrap_or(Duration::ZERO))
}

/// The token of a link that takes something back: for as long as a page is looked at. Its mail still has it.
pub fn undo(token: &RevertToken) -> Cookie<'static> {
    cookie(UNDO, token.reveal(), Duration::minutes(15))
}

/// That its owner trusts this browser with the second factor, for as long as that holds.
pub fn device(token: &TrustedDeviceToken, lifetime: std::time::Duration) -> Cookie<'static> {
    cookie(DEVICE, token.reveal(), lifetime.try_into().unwrap_or(Duration::ZERO))
}

/// That this browser has signed in, for as long as that is remembered.
pub fn known(browser: &KnownBrowserCookie) -> Cookie<'static> {
    cookie(KNOWN, browser.reveal(), KNOWN_BROWSER_TTL.try_into().unwrap_or(Duration::ZERO))
}

pub fn removal(name: &'static str) -> Cookie<'static> {
    cookie(name, String::new(), Duration::ZERO)
}

pub fn forward_auth_removal(domain: &str) -> Cookie<'static> {
    of_domain(removal(FORWARD_AUTH), domain)
}

fn of_domain(mut cookie: Cookie<'static>, domain: &str) -> Cookie<'static> {
    cookie.set_domain(domain.to_owned());
    cookie
}

/// The session layer takes a cookie away whose session it can't find. A second press of a button, sent before the first one's
/// answer came, brings the cookie of a session that has just got another id: taking "the" cookie away would take the new one. So
/// only signing out takes it away, which does so itself.
pub async fn keep_cookie(mut response: Response) -> Response {
    let taken_away =
        |cookie: &HeaderValue| cookie.as_bytes().strip_prefix(SESSION.as_bytes()).is_some_and(|rest| rest.starts_with(b"=;"));
    let mut cookies: Vec<HeaderValue> = response.headers().get_all(SET_COOKIE).iter().cloned().collect();
    // The layer's own comes last.
    if let Some(at) = cookies.iter().rposition(taken_away) {
        cookies.remove(at);
        response.headers_mut().remove(SET_COOKIE);
        for cookie in cookies {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
    }
    response
}

/// Sessions as `tower-sessions` wants them, over the domain's own.
#[derive(Clone)]
pub struct Sessions {
    auth: Arc<Auth>,
    max_age: Duration,
}

impl Sessions {
    pub fn new(auth: Arc<Auth>) -> Self {
        let max_age = auth.policy().session_max.try_into().unwrap_or(Duration::DAY);
        Self { auth, max_age }
    }

    /// The cookie lasts as long as a session ever may. The row decides whether it still opens anything.
    pub fn layer(&self) -> SessionManagerLayer<Self> {
        SessionManagerLayer::new(self.clone())
            .with_name(SESSION)
            .with_secure(true)
            .with_http_only(true)
            .with_same_site(SameSite::Lax)
            .with_path("/")
            .with_expiry(Expiry::OnInactivity(self.max_age))
    }

    /// Lasts and ends as the session's.
    pub fn forward_auth_cookie(&self, token: &ForwardAuthToken, domain: &str) -> Cookie<'static> {
        of_domain(cookie(FORWARD_AUTH, token.reveal(), self.max_age), domain)
    }

    fn cookie(&self, id: Id) -> Cookie<'static> {
        cookie(SESSION, id.to_string(), self.max_age)
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sessions")
    }
}

/// `tower-sessions` answers 500 where the database was too slow to save a session, and no page of ours does. As everywhere else that is
/// 503: strangers can bring it about, and enough of the other turn a rollout off.
pub async fn unsaved_is_busy(response: Response) -> Response {
    if response.status() == StatusCode::INTERNAL_SERVER_ERROR {
        return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "5")]).into_response();
    }
    response
}

/// The error's own text may quote a statement, never its values.
fn backend(error: auth::Error) -> session_store::Error {
    session_store::Error::Backend(error.to_string())
}

fn stored_data(record: &Record) -> Value {
    let data = record.data.iter().filter(|(name, _)| *name != AUTHORITY);
    data.map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[async_trait]
impl SessionStore for Sessions {
    async fn create(&self, record: &mut Record) -> session_store::Result<()> {
        while !self.auth.sessions().create(key(record.id), &stored_data(record)).await.map_err(backend)? {
            record.id = Id::default();
        }
        Ok(())
    }

    async fn save(&self, record: &Record) -> session_store::Result<()> {
        self.auth.sessions().save(key(record.id), &stored_data(record)).await.map_err(backend)
    }

    async fn load(&self, id: &Id) -> session_store::Result<Option<Record>> {
        let Some(stored) = self.auth.sessions().load(key(*id)).await.map_err(backend)? else {
            return Ok(None);
        };
        let mut data: HashMap<String, Value> =
            serde_json::from_value(stored.data).map_err(|error| session_store::Error::Decode(error.to_string()))?;
        // Whatever was stored under this name is not authority.
        data.remove(AUTHORITY);
        if let Some(authority) = stored.authority {
            let authority = serde_json::to_value(authority).map_err(|error| session_store::Error::Encode(error.to_string()))?;
            data.insert(AUTHORITY.to_owned(), authority);
        }
        Ok(Some(Record { id: *id, data, expiry_date: stored.expires_at }))
    }

    async fn delete(&self, id: &Id) -> session_store::Result<()> {
        self.auth.sessions().forget(key(*id)).await.map_err(backend)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_read_by_their_whole_name() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "a=1; __Host-latchkey-link=two".parse().expect("ASCII"));
        headers.append(COOKIE, "__Host-latchkey=one;b=2".parse().expect("ASCII"));
        assert_eq!(read(&headers, SESSION), Some("one"));
        assert_eq!(read(&headers, LINK), Some("two"));
        assert_eq!(read(&headers, KNOWN), None);
    }

    #[test]
    fn authority_is_never_saved() {
        let record = Record {
            id: Id::default(),
            data: HashMap::from([(AUTHORITY.to_owned(), Value::from("forged")), (VISIT.to_owned(), Value::from(1))]),
            expiry_date: time::OffsetDateTime::UNIX_EPOCH,
        };
        assert_eq!(stored_data(&record), serde_json::json!({ VISIT: 1 }));
    }
}
