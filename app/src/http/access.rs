//! Who may pass, by type: a page or form gets its session from here, and can't get one of somebody who may not be there.
//!
//! | a handler takes | and lets in |
//! |---|---|
//! | [`Public`] | everybody: the page asks nothing of a session, only of a link in a mail |
//! | [`Visitor`] | everybody except a session with one factor of two, which opens the second step and nothing else |
//! | [`PendingSecondFactor`] | a session with one factor of two |
//! | [`Enrolling`] | people who are signed in, also where two-factor has to be set up first |
//! | [`SignedIn`] | people who are signed in, and owe no two-factor |
//! | [`Administrator`] | the same, if they are administrators |
//!
//! Everybody else is redirected to the step that is missing; where being signed in is not enough, the page doesn't exist for them. A form
//! asks [`crate::http::form::Form`] for the same.

use auth::identity::{Authority, Level};
use axum::{
    extract::FromRequestParts,
    response::{IntoResponse, Redirect, Response},
};
use http::{StatusCode, request::Parts};
use tower_sessions::Session;

use crate::{
    http::{
        error::{Refusal, ServiceError},
        return_to,
        session::BrowserSession,
        state::AppState,
    },
    routes,
};

pub struct Public(pub BrowserSession);
pub struct Visitor(pub BrowserSession);
pub struct PendingSecondFactor(pub BrowserSession, pub Authority);
pub struct Enrolling(pub BrowserSession, pub Authority);
pub struct SignedIn(pub BrowserSession, pub Authority);
pub struct Administrator(pub BrowserSession, pub Authority);

/// What people get who may not pass.
#[derive(Debug, PartialEq, Eq)]
pub enum AccessDenied {
    /// They have to go there first.
    Redirect(String),
    /// As for a path that doesn't exist: only administrators learn which admin pages there are.
    NoSuchPage,
}

impl IntoResponse for AccessDenied {
    fn into_response(self) -> Response {
        match self {
            Self::Redirect(path) => Redirect::to(&path).into_response(),
            Self::NoSuchPage => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

impl From<AccessDenied> for Refusal {
    fn from(denied: AccessDenied) -> Self {
        denied.into_response().into()
    }
}

/// Lets only those go on who gave their strongest factor lately. Others give it first, and come back to `page`.
pub fn require_fresh(state: &AppState, authority: &Authority, page: &str) -> Result<(), AccessDenied> {
    let fresh = state.auth.sign_in().is_fresh(authority);
    if fresh { Ok(()) } else { Err(AccessDenied::Redirect(return_to::step_up(page))) }
}

/// Lets a session pass, or says what it gets instead. `here` is the page, to come back to.
pub trait Authorize: Sized {
    fn authorize(browser: BrowserSession, state: &AppState, here: &str) -> Result<Self, AccessDenied>;
}

impl Authorize for Public {
    fn authorize(browser: BrowserSession, _: &AppState, _: &str) -> Result<Self, AccessDenied> {
        Ok(Self(browser))
    }
}

impl Authorize for Visitor {
    fn authorize(browser: BrowserSession, _: &AppState, _: &str) -> Result<Self, AccessDenied> {
        match &browser.authority {
            Some(authority) if authority.level == Level::FirstFactor => {
                Err(AccessDenied::Redirect(routes::LOGIN_TWO_FACTOR.to_owned()))
            }
            _ => Ok(Self(browser)),
        }
    }
}

impl Authorize for PendingSecondFactor {
    fn authorize(browser: BrowserSession, _: &AppState, _: &str) -> Result<Self, AccessDenied> {
        match browser.authority.clone() {
            Some(authority) if authority.level == Level::FirstFactor => Ok(Self(browser, authority)),
            Some(_) => Err(AccessDenied::Redirect(routes::ACCOUNT.to_owned())),
            None => Err(AccessDenied::Redirect(routes::LOGIN.to_owned())),
        }
    }
}

impl Authorize for Enrolling {
    fn authorize(browser: BrowserSession, state: &AppState, here: &str) -> Result<Self, AccessDenied> {
        let Visitor(browser) = Visitor::authorize(browser, state, here)?;
        let authority = browser.authority.clone().ok_or_else(|| AccessDenied::Redirect(return_to::carried(routes::LOGIN, here)))?;
        Ok(Self(browser, authority))
    }
}

impl Authorize for SignedIn {
    fn authorize(browser: BrowserSession, state: &AppState, here: &str) -> Result<Self, AccessDenied> {
        let Enrolling(browser, authority) = Enrolling::authorize(browser, state, here)?;
        if authority.owes_two_factor(state.auth.policy().require_two_factor) {
            return Err(AccessDenied::Redirect(routes::TWO_FACTOR_SETUP.to_owned()));
        }
        Ok(Self(browser, authority))
    }
}

impl Authorize for Administrator {
    fn authorize(browser: BrowserSession, state: &AppState, here: &str) -> Result<Self, AccessDenied> {
        let SignedIn(browser, authority) = SignedIn::authorize(browser, state, here)?;
        if authority.admin { Ok(Self(browser, authority)) } else { Err(AccessDenied::NoSuchPage) }
    }
}

async fn from_request<A: Authorize>(parts: &mut Parts, state: &AppState) -> Result<A, Response> {
    let session = Session::from_request_parts(parts, state).await.map_err(IntoResponse::into_response)?;
    let browser = BrowserSession::load(session, &parts.headers).await.map_err(|error| ServiceError::from(error).into_response())?;
    let here = parts.uri.path_and_query().map_or(parts.uri.path(), http::uri::PathAndQuery::as_str);
    A::authorize(browser, state, here).map_err(IntoResponse::into_response)
}

macro_rules! extract {
    ($($gate:ty),*) => {$(
        impl FromRequestParts<AppState> for $gate {
            type Rejection = Response;

            async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Response> {
                from_request(parts, state).await
            }
        }
    )*};
}
extract!(Public, Visitor, PendingSecondFactor, Enrolling, SignedIn, Administrator);
