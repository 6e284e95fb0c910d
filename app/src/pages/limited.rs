//! What a limit says: how long, and what works meanwhile.

use std::time::Duration;

use auth::{limits::throttle, policy::limits::Told};
use axum::response::Response;
use http::{HeaderValue, StatusCode, header::RETRY_AFTER};
use leptos::prelude::*;

use crate::{components::Flow, help, page::page, routes, words};

/// Which limit was met, and in how many minutes it lets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// So many mails went to this address, and each works for `lifetime`.
    Emails {
        count: u64,
        minutes: u64,
        lifetime: Duration,
    },
    Network {
        minutes: u64,
    },
    Tries {
        minutes: u64,
    },
    /// Codes by mail for a change to the account.
    StepUpCodes {
        minutes: u64,
        lifetime: Duration,
    },
    /// Codes to a new address.
    AddressCodes {
        wait: Duration,
    },
    /// All of them together: nobody's fault in particular.
    Everyone {
        minutes: u64,
    },
}

#[component]
pub fn LimitedPage(by: Limited) -> impl IntoView {
    let in_minutes = |minutes| format!("in {}", words::count(minutes, "minute"));
    let about = match by {
        Limited::Emails { .. } | Limited::StepUpCodes { .. } | Limited::AddressCodes { .. } => help::TOO_MANY_EMAILS,
        Limited::Network { .. } => help::TOO_MANY_NETWORK,
        Limited::Tries { .. } => help::TOO_MANY_TRIES,
        Limited::Everyone { .. } => help::TOO_MANY_EVERYONE,
    };
    let help = view! { <a class="button wide" href=about>"Get help"</a> };
    match by {
        Limited::Emails { count, minutes, lifetime } => view! {
            <Flow title="Too many emails">
                <p class="lede">
                    "We've sent "{words::count(count, "email")}" to this address in the last hour. You can ask for another "
                    {in_minutes(minutes)}". The newest one works for "{words::lasting(lifetime)}"."
                </p>
                <div class="actions">
                    <a class="button primary wide" href=routes::LOGIN_SENT>"Enter the code"</a>
                    {help}
                </div>
            </Flow>
        }
        .into_any(),
        Limited::Network { minutes } => view! {
            <Flow title="Too many requests from your network">
                <p class="lede">"You can try again "{in_minutes(minutes)}"."</p>
                <div class="actions">{help}</div>
            </Flow>
        }
        .into_any(),
        Limited::Everyone { minutes } => view! {
            <Flow title="Too many people are signing in">
                <p class="lede">"You can try again "{in_minutes(minutes)}"."</p>
                <div class="actions">{help}</div>
            </Flow>
        }
        .into_any(),
        Limited::StepUpCodes { minutes, lifetime } => view! {
            <Flow title="Too many emails">
                <p class="lede">
                    "We've sent you several codes in the last hour. You can ask for another "{in_minutes(minutes)}
                    ". The newest one works for "{words::lasting(lifetime)}"."
                </p>
                <div class="actions">
                    <a class="button primary wide" href=routes::REAUTH>"Enter the code"</a>
                    {help}
                </div>
            </Flow>
        }
        .into_any(),
        Limited::AddressCodes { wait } => view! {
            <Flow title="Too many emails">
                <p class="lede">
                    "There were several codes to new addresses lately. You can ask for another "{words::within(wait)}"."
                </p>
                <div class="actions">
                    <a class="button primary wide" href=routes::EMAIL>"Enter the code"</a>
                    {help}
                </div>
            </Flow>
        }
        .into_any(),
        Limited::Tries { minutes } => view! {
            <Flow title="Too many tries">
                <p class="lede">
                    "Too many wrong codes from here. You can try again "{in_minutes(minutes)}
                    ", or use a browser you've signed in with before."
                </p>
                <div class="actions">{help}</div>
            </Flow>
        }
        .into_any(),
    }
}

/// The page and status for a limit of the domain. `sent`: mails to the address in the last hour.
pub fn answer(limited: throttle::Limited, sent: u32, lifetime: Duration) -> Response {
    let minutes = words::minutes_up(limited.wait);
    let by = match limited.limit.told() {
        Told::Emails => Limited::Emails { count: sent.into(), minutes, lifetime },
        Told::Network => Limited::Network { minutes },
        Told::Tries => Limited::Tries { minutes },
        Told::StepUpCodes => Limited::StepUpCodes { minutes, lifetime },
        Told::AddressCodes => Limited::AddressCodes { wait: limited.wait },
        Told::Everyone => Limited::Everyone { minutes },
    };
    retry_after(page(StatusCode::TOO_MANY_REQUESTS, || view! { <LimitedPage by/> }), limited.wait)
}

/// For administrators: no more test mails for now.
pub fn test_mails(limited: throttle::Limited) -> Response {
    let wait = words::within(limited.wait);
    let page = page(StatusCode::TOO_MANY_REQUESTS, || {
        view! {
            <Flow title="Too many emails" help=Some(help::ADMIN_MAIL)>
                <p class="lede">"You've sent several test emails lately. You can send another "{wait}"."</p>
                <div class="actions"><a class="button primary wide" href=routes::ADMIN_MAIL>"Back to the mail page"</a></div>
            </Flow>
        }
    });
    retry_after(page, limited.wait)
}

/// Rounded up: a client that waits as told must not be refused again.
pub fn retry_after(mut response: Response, wait: Duration) -> Response {
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(words::seconds_up(wait).max(1)));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::render;

    #[test]
    fn every_limit_says_how_long() {
        let html = |by| render(move || view! { <LimitedPage by/> });
        let emails = html(Limited::Emails { count: 5, minutes: 23, lifetime: Duration::from_mins(10) });
        assert!(emails.contains("<title>Too many emails – Latchkey</title>"));
        assert!(emails.contains(
            "We've sent 5 emails to this address in the last hour. You can ask for another in 23 minutes. The newest one works for 10 minutes."
        ));
        assert!(emails.contains(r#"href="/login/sent" class="button primary wide">Enter the code"#));
        let network = html(Limited::Network { minutes: 1 });
        assert!(network.contains("You can try again in 1 minute."));
        let codes = html(Limited::StepUpCodes { minutes: 12, lifetime: Duration::from_mins(10) });
        assert!(codes.contains("You can ask for another in 12 minutes. The newest one works for 10 minutes."));
        assert!(codes.contains(r#"href="/reauth" class="button primary wide">Enter the code"#));
        let address = html(Limited::AddressCodes { wait: Duration::from_mins(280) });
        assert!(address.contains("You can ask for another in 5 hours."));
        assert!(address.contains(r#"href="/account/email" class="button primary wide">Enter the code"#));
        let tries = html(Limited::Tries { minutes: 12 });
        assert!(tries.contains(
            "Too many wrong codes from here. You can try again in 12 minutes, or use a browser you've signed in with before."
        ));
        assert!(tries.contains(r#"href="/help/too-many#tries" class="button wide">Get help"#));
    }
}
