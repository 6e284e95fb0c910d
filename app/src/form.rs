//! Forms: Leptos server functions, mounted at the page's own path.
//!
//! A function answers through [`Form`]: [`Form::see_other`] where it did what was asked, [`Form::refuse`] with the page to show where
//! it didn't. Its `Result` only says which of the two. What server functions would do by themselves, a redirect to the `Referer`
//! with the error in the URL, is never reached: the header is dropped, and a function that did neither is a bug and fails loudly.
//!
//! Who may post it is decided by what it asks for: `form.admit::<SignedIn>(..)` ([`crate::gate`]).
//!
//! To add a form: a `#[server(prefix = "", endpoint = "its/path")]` function in its page's file, and its line in [`crate::router()`].

use std::sync::{Arc, Mutex};

use auth::primitives::requester::Requester;
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use cookie::Cookie;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, StatusCode,
    header::{self, CACHE_CONTROL, LOCATION, SET_COOKIE},
};
use leptos::{
    prelude::{FromServerFnError, IntoView, ServerFnErrorErr, provide_context, use_context},
    server_fn::codec::JsonEncoding,
};
use serde::{Deserialize, Serialize};
use tower_sessions::Session;

use crate::{fault::Fault, gate::Admit, page::page, pages::errors, session::Visitor, state::AppState};

/// Why a server function did not do what was asked. No text: the page it refused with has the words, and this value could reach
/// a client that is no browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FormError {
    /// The function has answered with a page that says why.
    Refused,
    /// The body is not this form's.
    Malformed,
    /// The database did not answer.
    Unavailable,
}

impl FromServerFnError for FormError {
    type Encoder = JsonEncoding;

    fn from_server_fn_error(_: ServerFnErrorErr) -> Self {
        Self::Malformed
    }
}

/// The request behind a server function, and where it puts its answer.
#[derive(Clone)]
pub struct Form {
    pub state: AppState,
    pub from: Requester,
    session: Session,
    cookies: HeaderMap,
    answer: Arc<Mutex<Answer>>,
}

#[derive(Default)]
struct Answer {
    response: Option<Response>,
    headers: HeaderMap,
}

impl Form {
    /// The form of the server function that is running.
    pub fn current() -> Result<Self, FormError> {
        use_context().ok_or(FormError::Malformed)
    }

    /// Whoever posted this, for forms that are anybody's: signing out, and taking back what a mail has told of.
    pub async fn anybody(&self) -> Result<Visitor, FormError> {
        Visitor::load(self.session.clone(), &self.cookies).await.map_err(|error| self.fail(error.into()))
    }

    /// Whoever posted this, where they may pass: [`crate::gate`]. `here` is the form's page, to come back to.
    pub async fn admit<A: Admit>(&self, here: &str) -> Result<A, FormError> {
        let visitor = self.anybody().await?;
        A::admit(visitor, &self.state, here).map_err(|barred| {
            self.answer().response = Some(barred.into_response());
            FormError::Refused
        })
    }

    fn answer(&self) -> std::sync::MutexGuard<'_, Answer> {
        self.answer.lock().expect("nothing panics while it holds the lock")
    }

    /// It was done: go on there. `path` is one of ours, or was checked by [`crate::next::local`].
    pub fn see_other(&self, path: &str) -> Result<(), FormError> {
        let location = HeaderValue::from_str(path).map_err(|_| FormError::Malformed)?;
        self.answer().response = Some((StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response());
        Ok(())
    }

    /// It was done, and this is the one time its result is shown: in the answer, never stored.
    pub fn reveal<V: IntoView + 'static>(&self, view: impl FnOnce() -> V) -> Result<(), FormError> {
        self.answer().response = Some(page(StatusCode::OK, view));
        Ok(())
    }

    /// It was done, and the answer is no page: a file.
    pub fn hand_over(&self, file: Response) -> Result<(), FormError> {
        self.answer().response = Some(file);
        Ok(())
    }

    /// It was not done: this page says why.
    pub fn refuse(&self, page: Response) -> Result<(), FormError> {
        self.answer().response = Some(page);
        Err(FormError::Refused)
    }

    /// It could not be done. For `map_err`.
    pub fn fail(&self, fault: Fault) -> FormError {
        self.answer().response = Some(fault.into_response());
        FormError::Unavailable
    }

    pub fn set_cookie(&self, cookie: &Cookie<'_>) {
        if let Ok(value) = HeaderValue::from_str(&cookie.to_string()) {
            self.answer().headers.append(SET_COOKIE, value);
        }
    }

    pub fn set_header(&self, name: HeaderName, value: &'static str) {
        self.answer().headers.insert(name, HeaderValue::from_static(value));
    }
}

/// Runs the server function of this path.
pub async fn form_post(state: AppState, session: Session, from: Requester, mut request: Request<Body>) -> Response {
    request.headers_mut().remove(header::REFERER);
    let form = Form { state, session, cookies: request.headers().clone(), answer: Arc::default(), from };
    let context = form.clone();
    let outcome =
        leptos_axum::handle_server_fns_with_context(move || provide_context(context.clone()), request).await.into_response();
    let failed = outcome.headers().contains_key("serverfnerror");
    let Answer { response, headers } = std::mem::take(&mut *form.answer());
    let mut response = match response {
        Some(response) => response,
        None if failed => errors::bad_request(&form.from.request_id),
        None => {
            tracing::error!(status = outcome.status().as_u16(), "a server function answered nothing");
            errors::server(&form.from.request_id)
        }
    };
    response.headers_mut().extend(headers);
    response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
