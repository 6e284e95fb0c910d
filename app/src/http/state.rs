//! What every page and form can reach.

use std::sync::{Arc, OnceLock};

use auth::Auth;
use axum::body::Bytes;
use url::Url;

use crate::http::{forward_auth::ForwardAuth, session::Sessions};

/// One per process, behind one pointer.
#[derive(Clone)]
pub struct AppState(Arc<Shared>);

pub struct Shared {
    pub auth: Arc<Auth>,
    pub sessions: Sessions,
    pub site: Site,
    /// The empty sign-in page. It is by far the most asked for, and the same for everybody.
    pub empty_login: OnceLock<Bytes>,
}

/// What this installation is called and where it stands.
#[derive(Debug, Clone)]
pub struct Site {
    /// Every link is built from this, never from a header.
    pub base_url: Url,
    /// The address sign-in mails come from, for people who look for one among their spam.
    pub sender: String,
    /// Where people go while signing in here is off.
    pub legacy_sign_in_url: Option<Url>,
    /// The other hosts that people are signed in for.
    pub forward_auth: Option<ForwardAuth>,
}

impl Site {
    /// The host people know this installation by.
    pub fn host(&self) -> &str {
        self.base_url.host_str().unwrap_or("localhost")
    }

    /// `path` as a whole URL, for mails.
    pub fn link(&self, path: &str) -> String {
        format!("{}{path}", self.base_url.origin().ascii_serialization())
    }
}

impl AppState {
    pub fn new(auth: Arc<Auth>, site: Site) -> Self {
        let sessions = Sessions::new(auth.clone());
        Self(Arc::new(Shared { auth, sessions, site, empty_login: OnceLock::new() }))
    }
}

impl std::ops::Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}
