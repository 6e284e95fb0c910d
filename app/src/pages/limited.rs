//! What a limit says: how long, and what works meanwhile. No page says what others did: neither how often, nor that they did.

use std::time::Duration;

use auth::{limits::throttle, policy::limits::Told};
use http::{HeaderValue, header::RETRY_AFTER};

use crate::pages::prelude::*;

/// `lifetime`: how long each mail works.
#[component]
pub fn LimitedPage(by: throttle::Limited, lifetime: Duration) -> impl IntoView {
    let minutes = format::minutes_up(by.wait);
    let newest = format!("The newest one you have works for {}.", format::lasting(lifetime));
    let enter = |path| Some((path, "Enter the code"));
    let (title, text, next, help) = match by.limit.told() {
        Told::Emails => {
            // The limit may count others' mails, so there is no number here.
            let text = format!("You can ask for another email to this address {}. {newest}", in_minutes(minutes));
            ("Too many emails", text, enter(routes::LOGIN_SENT), help::TOO_MANY_EMAILS)
        }
        Told::StepUpCodes => {
            let text =
                format!("We've sent you several codes in the last hour. You can ask for another {}. {newest}", in_minutes(minutes));
            ("Too many emails", text, enter(routes::REAUTH), help::TOO_MANY_EMAILS)
        }
        Told::AddressCodes => {
            let wait = format::within(by.wait);
            let text = format!("There were several codes to new addresses lately. You can ask for another {wait}.");
            ("Too many emails", text, enter(routes::EMAIL), help::TOO_MANY_EMAILS)
        }
        Told::BackupCodeSets => {
            let text = format!("You can get new backup codes {}. The codes you've saved work as before.", in_minutes(minutes));
            ("Too many new codes", text, Some((routes::TWO_FACTOR, "Back to two-factor")), help::BACKUP_CODES_NEW_SET)
        }
        Told::AccountChanges => {
            let text = format!("Nothing was changed this time. You can change your account again {}.", in_minutes(minutes));
            ("Too many changes", text, Some((routes::ACCOUNT, "Back to your account")), help::TOO_MANY_CHANGES)
        }
        Told::Tries => {
            let known = ", or use a browser you've signed in with before.";
            // The limit may count others' wrong codes.
            let text = try_again(minutes, known);
            ("Too many tries", text, None, help::TOO_MANY_TRIES)
        }
        Told::Network => ("Too many requests from your network", try_again(minutes, "."), None, help::TOO_MANY_NETWORK),
        // All of them together: nobody's fault in particular.
        Told::Everyone => ("Too many people are signing in", try_again(minutes, "."), None, help::TOO_MANY_EVERYONE),
    };
    view! {
        <Flow title lede=text>
            <div class="actions">
                {next.map(|(path, label)| view! { <a class="button primary wide" href=path>{label}</a> })}
                <a class="button wide" href=help>"Get help"</a>
            </div>
        </Flow>
    }
}

fn in_minutes(minutes: u64) -> String {
    format::within(Duration::from_mins(minutes))
}

fn try_again(minutes: u64, or: &str) -> String {
    format!("You can try again {}{or}", in_minutes(minutes))
}

/// The page and status for a limit of the domain.
pub fn answer(limited: throttle::Limited, lifetime: Duration) -> Response {
    let wait = limited.wait;
    retry_after(page(StatusCode::TOO_MANY_REQUESTS, || view! { <LimitedPage by=limited lifetime/> }), wait)
}

/// For administrators: no more test mails for now.
pub fn test_mails(limited: throttle::Limited) -> Response {
    let wait = format::within(limited.wait);
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
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(format::seconds_up(wait).max(1)));
    response
}

#[cfg(test)]
mod tests {
    use auth::policy::limits::Limit;

    use super::*;
    use crate::http::render::render;

    /// Strangers share all but an account's own limits: of these, a refusal says how long to wait, and nothing of what was done.
    #[test]
    fn no_refusal_says_what_others_did() {
        for limit in Limit::ALL {
            let by = throttle::Limited { limit, wait: Duration::from_mins(23) };
            let html = render(move || view! { <LimitedPage by lifetime=Duration::from_mins(10)/> });
            assert!(html.contains("You can "), "{}", limit.name());
            if matches!(limit.told(), Told::Emails | Told::Tries | Told::Network | Told::Everyone) {
                let told = [" sent", "asked", "wrong", "lately", "last hour"].into_iter().find(|word| html.contains(word));
                assert_eq!(told, None, "{}", limit.name());
            }
        }
    }
}
