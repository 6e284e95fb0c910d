//! What went wrong with a request as a whole. Each page shows the request's id, which stands in the logs too.

use axum::response::Response;
use http::StatusCode;
use leptos::prelude::*;

use crate::{components::Flow, help, page::page, routes};

pub fn not_found(request_id: &str) -> Response {
    Failure::NotFound.respond(request_id)
}

pub fn server(request_id: &str) -> Response {
    Failure::Server.respond(request_id)
}

/// A form that can't be read.
pub fn bad_request(request_id: &str) -> Response {
    Failure::BadRequest.respond(request_id)
}

/// A form that another site sent, as far as its headers tell.
pub fn cross_site(request_id: &str) -> Response {
    Failure::CrossSite.respond(request_id)
}

pub fn too_large(request_id: &str) -> Response {
    Failure::TooLarge.respond(request_id)
}

pub fn busy(request_id: &str) -> Response {
    Failure::Busy.respond(request_id)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    NotFound,
    Server,
    BadRequest,
    CrossSite,
    TooLarge,
    Busy,
}

impl Failure {
    fn respond(self, request_id: &str) -> Response {
        page(self.status(), || view! { <FailurePage failure=self request_id=request_id.to_owned()/> })
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Server => StatusCode::INTERNAL_SERVER_ERROR,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::CrossSite => StatusCode::FORBIDDEN,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    const fn text(self) -> (&'static str, &'static str) {
        match self {
            Self::NotFound => ("We can't find that page", "If you typed the address, check it for a mistake."),
            Self::Server => ("Something went wrong on our side", "Nothing was changed. Try again in a minute."),
            Self::BadRequest => ("We couldn't read that form", "Nothing was changed. Go back and send it again."),
            Self::CrossSite => ("Page expired", "This page was open too long, so nothing was changed."),
            Self::TooLarge => ("That was too much to send", "It's more than this page accepts, so nothing was changed."),
            Self::Busy => ("We're very busy right now", "Nothing was changed. Try again in a minute."),
        }
    }

    /// The way on. An error of ours has none to offer but time.
    const fn action(self) -> Option<&'static str> {
        match self {
            Self::NotFound => Some("Sign in"),
            Self::BadRequest | Self::CrossSite | Self::TooLarge => Some("Go back and try again"),
            Self::Server | Self::Busy => None,
        }
    }
}

impl Failure {
    const fn help(self) -> &'static str {
        match self {
            Self::NotFound => help::PAGE_WENT_WRONG_NOT_FOUND,
            Self::Server => help::PAGE_WENT_WRONG_OURS,
            Self::BadRequest | Self::TooLarge => help::PAGE_WENT_WRONG_FORM,
            Self::CrossSite => help::PAGE_WENT_WRONG_EXPIRED,
            Self::Busy => help::PAGE_WENT_WRONG_BUSY,
        }
    }
}

#[component]
pub fn FailurePage(failure: Failure, #[prop(into)] request_id: String) -> impl IntoView {
    let (title, text) = failure.text();
    view! {
        <Flow title help=Some(failure.help())>
            <p class="lede">{text}</p>
            {failure.action().map(|action| view! {
                <div class="actions"><a class="button primary wide" href=routes::LOGIN>{action}</a></div>
            })}
            <p class="hint">"Request "<span class="mono whole">{request_id}</span></p>
        </Flow>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::render;

    #[test]
    fn every_failure_has_its_status() {
        for (response, status) in [
            (not_found("r"), 404),
            (server("r"), 500),
            (bad_request("r"), 400),
            (cross_site("r"), 403),
            (too_large("r"), 413),
            (busy("r"), 503),
        ] {
            assert_eq!(response.status(), status);
        }
    }

    #[test]
    fn every_failure_says_what_happened_and_shows_the_request() {
        for (failure, words) in [
            (Failure::NotFound, "We can't find that page"),
            (Failure::Server, "Something went wrong on our side"),
            (Failure::Server, "Nothing was changed. Try again in a minute."),
            (Failure::BadRequest, "We couldn't read that form"),
            (Failure::CrossSite, "This page was open too long, so nothing was changed."),
            (Failure::CrossSite, "Go back and try again"),
            (Failure::TooLarge, "That was too much to send"),
            (Failure::Busy, "Try again in a minute."),
        ] {
            let html = render(|| view! { <FailurePage failure request_id="01J<b>"/> });
            assert!(html.contains(words), "{words}");
            assert!(html.contains(r#"Request <span class="mono whole">01J&lt;b&gt;</span>"#));
        }
    }
}
