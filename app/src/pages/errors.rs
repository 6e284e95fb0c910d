//! What went wrong with a request as a whole. Each page shows the request's id, which stands in the logs too.

use crate::pages::prelude::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    NotFound,
    Server,
    /// A form that can't be read.
    BadRequest,
    /// A form that another site sent, as far as its headers tell.
    CrossSite,
    TooLarge,
    Busy,
}

impl Failure {
    pub fn respond(self, request_id: &str) -> Response {
        page(self.row().0, || view! { <FailurePage failure=self request_id=request_id.to_owned()/> })
    }

    /// Status, title, text, the way on, and help. An error of ours has no way on but time.
    const fn row(self) -> (StatusCode, &'static str, &'static str, Option<&'static str>, &'static str) {
        const AGAIN: Option<&str> = Some("Go back and try again");
        match self {
            Self::NotFound => (
                StatusCode::NOT_FOUND,
                "We can't find that page",
                "If you typed the address, check it for a mistake.",
                Some("Sign in"),
                help::PAGE_WENT_WRONG_NOT_FOUND,
            ),
            Self::Server => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "Something went wrong on our side",
                "Nothing was changed. Try again in a minute.",
                None,
                help::PAGE_WENT_WRONG_OURS,
            ),
            Self::BadRequest => (
                StatusCode::BAD_REQUEST,
                "We couldn't read that form",
                "Nothing was changed. Go back and send it again.",
                AGAIN,
                help::PAGE_WENT_WRONG_FORM,
            ),
            Self::CrossSite => (
                StatusCode::FORBIDDEN,
                "Page expired",
                "This page was open too long, so nothing was changed.",
                AGAIN,
                help::PAGE_WENT_WRONG_EXPIRED,
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "That was too much to send",
                "It's more than this page accepts, so nothing was changed.",
                AGAIN,
                help::PAGE_WENT_WRONG_FORM,
            ),
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "We're very busy right now",
                "Nothing was changed. Try again in a minute.",
                None,
                help::PAGE_WENT_WRONG_BUSY,
            ),
        }
    }
}

#[component]
pub fn FailurePage(failure: Failure, #[prop(into)] request_id: String) -> impl IntoView {
    let (_, title, text, action, help) = failure.row();
    view! {
        <Flow title help=Some(help) lede=text>
            {action.map(|action| view! {
                <div class="actions"><a class="button primary wide" href=routes::LOGIN>{action}</a></div>
            })}
            <p class="hint">"Request "<span class="mono whole">{request_id}</span></p>
        </Flow>
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_its_status() {
        for (failure, status) in [
            (Failure::NotFound, 404),
            (Failure::Server, 500),
            (Failure::BadRequest, 400),
            (Failure::CrossSite, 403),
            (Failure::TooLarge, 413),
            (Failure::Busy, 503),
        ] {
            assert_eq!(failure.respond("r").status(), status);
        }
    }
}
