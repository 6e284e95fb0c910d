//! Forms: Leptos server functions, mounted at the page's own path.
//!
//! A function returns an [`Answer`]: the response to what was done, or the one that says why it wasn't. [`FormPost`] sends either as it is.
//! By itself a server function redirects to the `Referer` with the error in the URL; here neither header that makes it do so arrives.
//!
//! Who may post a form is decided by what it asks for: `let (form, SignedIn(..)) = Form::authorize(..)` ([`crate::http::access`]).
//!
//! To add a form: a `#[server(prefix = "", endpoint = "its/path", protocol = FormPost)]` function in its page's file, and its route in
//! [`crate::router()`].

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
};

use auth::primitives::requester::Requester;
use axum::{
    body::{Body, Bytes},
    response::{IntoResponse, Response},
};
use cookie::Cookie;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode,
    header::{ACCEPT, CACHE_CONTROL, REFERER, SET_COOKIE},
};
use leptos::{
    prelude::{FromServerFnError, Owner, ServerFnErrorErr, provide_context, use_context},
    reactive::computed::ScopedFuture,
};
use server_fn::{
    ContentType, Decodes, Encodes, Format, FormatType, Protocol,
    axum::get_server_fn_service,
    client::Client,
    codec::{FromReq, PostUrl},
    server::Server,
};
use tower_sessions::Session;

use crate::http::{
    access::Authorize,
    error::{Answer, Refusal},
    session::BrowserSession,
    state::AppState,
};

/// The body is not this form's.
impl FromServerFnError for Refusal {
    type Encoder = FormPost;

    fn from_server_fn_error(_: ServerFnErrorErr) -> Self {
        StatusCode::BAD_REQUEST.into_response().into()
    }
}

/// A form's fields come in, and its answer goes out as it is.
#[derive(Debug)]
pub struct FormPost;

impl<I, C, S> Protocol<I, Response, C, S, Refusal> for FormPost
where
    I: FromReq<PostUrl, S::Request, Refusal> + Send,
    C: Client<Refusal>,
    S: Server<Refusal, Response = Response>,
{
    const METHOD: Method = Method::POST;

    async fn run_server<F, Fut>(request: S::Request, function: F) -> Answer
    where
        F: Fn(I) -> Fut + Send,
        Fut: Future<Output = Answer> + Send,
    {
        let answer = match I::from_req(request).await {
            Ok(input) => function(input).await,
            Err(unreadable) => Err(unreadable),
        };
        Ok(answer.unwrap_or_else(Refusal::into_response))
    }

    /// No client of ours runs anywhere: forms are posted by browsers.
    async fn run_client(_: &str, _: I) -> Answer {
        Err(StatusCode::BAD_REQUEST.into_response().into())
    }
}

/// Wanted for errors that are encoded; none is, since `run_server` fails never.
impl ContentType for FormPost {
    const CONTENT_TYPE: &'static str = "text/plain";
}

impl FormatType for FormPost {
    const FORMAT_TYPE: Format = Format::Text;
}

impl Encodes<Refusal> for FormPost {
    type Error = Infallible;

    fn encode(_: &Refusal) -> Result<Bytes, Infallible> {
        Ok(Bytes::new())
    }
}

impl Decodes<Refusal> for FormPost {
    type Error = Infallible;

    fn decode(_: Bytes) -> Result<Refusal, Infallible> {
        Ok(StatusCode::BAD_REQUEST.into_response().into())
    }
}

/// The request behind a server function, and the headers that go out with its answer, whatever that is.
#[derive(Clone)]
pub struct Form {
    pub state: AppState,
    pub from: Requester,
    session: Session,
    cookies: HeaderMap,
    headers: Arc<Mutex<HeaderMap>>,
}

impl Form {
    /// The form of the server function that is running, and the session that posted it, if that may pass: [`crate::http::access`]. `here`
    /// is the form's page, to come back to.
    pub async fn authorize<A: Authorize>(here: &str) -> Result<(Self, A), Refusal> {
        let form: Self = use_context().ok_or_else(|| StatusCode::BAD_REQUEST.into_response())?;
        let browser = BrowserSession::load(form.session.clone(), &form.cookies).await?;
        let allowed = A::authorize(browser, &form.state, here)?;
        Ok((form, allowed))
    }

    fn headers(&self) -> MutexGuard<'_, HeaderMap> {
        self.headers.lock().expect("nothing panics while it holds the lock")
    }

    pub fn set_cookie(&self, cookie: &Cookie<'_>) {
        if let Ok(value) = HeaderValue::from_str(&cookie.to_string()) {
            self.headers().append(SET_COOKIE, value);
        }
    }

    pub fn set_header(&self, name: HeaderName, value: &'static str) {
        self.headers().insert(name, HeaderValue::from_static(value));
    }
}

/// Runs the server function of this path.
pub async fn form_post(state: AppState, session: Session, from: Requester, mut request: Request<Body>) -> Response {
    let cookies = request.headers().clone();
    for redirects in [ACCEPT, REFERER] {
        request.headers_mut().remove(redirects);
    }
    let form = Form { state, session, cookies, headers: Arc::default(), from };
    let Some(mut function) = get_server_fn_service(request.uri().path(), request.method().clone()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let context = form.clone();
    let owner = Owner::new_root(None);
    let answer = owner.with(|| {
        ScopedFuture::new(async move {
            provide_context(context);
            function.run(request).await
        })
    });
    let mut response = answer.await;
    response.headers_mut().extend(std::mem::take(&mut *form.headers()));
    response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
