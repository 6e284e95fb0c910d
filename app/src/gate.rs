//! Who may pass, by type: a page or form gets its visitor from here, and cannot get one that may not be there.
//!
//! | a handler takes | and lets in |
//! |---|---|
//! | [`Anybody`] | everybody: the page asks nothing of a session, only of a link in a mail |
//! | [`Passerby`] | everybody but who is half signed in: that session opens the second step and nothing else |
//! | [`HalfSignedIn`] | who has given one factor of two |
//! | [`Enrolling`] | who is signed in, also where two-factor has to be set up first |
//! | [`SignedIn`] | who is signed in, and owes nothing |
//! | [`Administrator`] | who is signed in, owes nothing, and is an administrator |
//!
//! Everybody else is sent where they have to go first; where being signed in is not enough, there is no such page. A form asks
//! [`crate::form::Form`] for the same.

use auth::identity::{Authority, Level};
use axum::{
    extract::FromRequestParts,
    response::{IntoResponse, Redirect, Response},
};
use http::{StatusCode, request::Parts};
use tower_sessions::Session;

use crate::{fault::Fault, next, routes, session::Visitor, state::AppState};

pub struct Anybody(pub Visitor);
pub struct Passerby(pub Visitor);
pub struct HalfSignedIn(pub Visitor, pub Authority);
pub struct Enrolling(pub Visitor, pub Authority);
pub struct SignedIn(pub Visitor, pub Authority);
pub struct Administrator(pub Visitor, pub Authority);

/// What somebody finds who may not pass.
#[derive(Debug, PartialEq, Eq)]
pub enum Barred {
    /// They have to go there first.
    ClientApplication(String),
    /// What everybody finds at a path that is none: whoever is no administrator learns nothing of their pages.
    NoSuchPage,
}

impl IntoResponse for Barred {
    fn into_response(self) -> Response {
        match self {
            Self::ClientApplication(path) => Redirect::to(&path).into_response(),
            Self::NoSuchPage => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

/// From what a request brings to one who may pass. `here` is the page, to come back to.
pub trait Admit: Sized {
    fn admit(visitor: Visitor, state: &AppState, here: &str) -> Result<Self, Barred>;
}

impl Admit for Anybody {
    fn admit(visitor: Visitor, _: &AppState, _: &str) -> Result<Self, Barred> {
        Ok(Self(visitor))
    }
}

impl Admit for Passerby {
    fn admit(visitor: Visitor, _: &AppState, _: &str) -> Result<Self, Barred> {
        match &visitor.authority {
            Some(authority) if authority.level == Level::FirstFactor => {
                Err(Barred::ClientApplication(routes::LOGIN_TWO_FACTOR.to_owned()))
            }
            _ => Ok(Self(visitor)),
        }
    }
}

impl Admit for HalfSignedIn {
    fn admit(visitor: Visitor, _: &AppState, _: &str) -> Result<Self, Barred> {
        match visitor.authority.clone() {
            Some(authority) if authority.level == Level::FirstFactor => Ok(Self(visitor, authority)),
            Some(_) => Err(Barred::ClientApplication(routes::ACCOUNT.to_owned())),
            None => Err(Barred::ClientApplication(routes::LOGIN.to_owned())),
        }
    }
}

impl Admit for Enrolling {
    fn admit(visitor: Visitor, state: &AppState, here: &str) -> Result<Self, Barred> {
        let Passerby(visitor) = Passerby::admit(visitor, state, here)?;
        let authority = visitor.authority.clone().ok_or_else(|| Barred::ClientApplication(next::carried(routes::LOGIN, here)))?;
        Ok(Self(visitor, authority))
    }
}

impl Admit for SignedIn {
    fn admit(visitor: Visitor, state: &AppState, here: &str) -> Result<Self, Barred> {
        let Enrolling(visitor, authority) = Enrolling::admit(visitor, state, here)?;
        if authority.owes_two_factor(state.auth.policy().require_two_factor) {
            return Err(Barred::ClientApplication(routes::TWO_FACTOR_SETUP.to_owned()));
        }
        Ok(Self(visitor, authority))
    }
}

impl Admit for Administrator {
    fn admit(visitor: Visitor, state: &AppState, here: &str) -> Result<Self, Barred> {
        let SignedIn(visitor, authority) = SignedIn::admit(visitor, state, here)?;
        if authority.admin { Ok(Self(visitor, authority)) } else { Err(Barred::NoSuchPage) }
    }
}

async fn from_request<A: Admit>(parts: &mut Parts, state: &AppState) -> Result<A, Response> {
    let session = Session::from_request_parts(parts, state).await.map_err(IntoResponse::into_response)?;
    let visitor = Visitor::load(session, &parts.headers).await.map_err(|error| Fault::from(error).into_response())?;
    let here = parts.uri.path_and_query().map_or(parts.uri.path(), http::uri::PathAndQuery::as_str);
    A::admit(visitor, state, here).map_err(IntoResponse::into_response)
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
extract!(Anybody, Passerby, HalfSignedIn, Enrolling, SignedIn, Administrator);
