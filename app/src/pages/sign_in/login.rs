//! `/login`: asks for the address.

use std::time::Duration;

use auth::{
    policy::limits::Limit,
    primitives::email_address::{EmailAddress, EmailAddressError},
    sign_in::first_factor::RequestLinkError,
};

use crate::{
    http::render::{drawn, render},
    pages::{limited, prelude::*, sign_in::unavailable},
};

const DESCRIPTION: &str = "Sign in to Latchkey with a link or a code from your email. There's no password to remember.";

/// What is wrong with the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmailError {
    Format(EmailAddressError),
    /// This browser asked for a mail a moment ago.
    TooSoon {
        seconds: u64,
    },
}

/// Why what was typed is no address. `missing`: where nothing was.
pub(crate) fn address_text(error: EmailAddressError, missing: &'static str) -> String {
    match error {
        EmailAddressError::Missing => missing.to_owned(),
        EmailAddressError::Malformed => "Enter an email address, like name@example.org".to_owned(),
        EmailAddressError::Letter(letter) => {
            format!("We can't send to an address with “{letter}” before the @. Enter another address")
        }
        EmailAddressError::Route => "Enter the plain address, without %, ! or =? before the @".to_owned(),
    }
}

impl EmailError {
    fn text(self) -> String {
        match self {
            Self::Format(error) => address_text(error, "Enter your email address"),
            Self::TooSoon { seconds } => format!("You can send another email {}", format::within(Duration::from_secs(seconds))),
        }
    }

    const fn help(self) -> &'static str {
        match self {
            Self::Format(_) => help::HOW_IT_WORKS,
            Self::TooSoon { .. } => help::TOO_MANY_EMAILS,
        }
    }
}

/// `email` is what was typed before, `next` where to go once signed in, `lifetime` how long link and code work.
#[component]
pub fn LoginPage(email: String, next: Option<String>, error: Option<EmailError>, lifetime: Duration) -> impl IntoView {
    view! {
        <Flow title="Sign in" error=error.is_some() help=error.map(EmailError::help) description=DESCRIPTION lede="Enter your email address. We'll send you a link and a code. There's no password.">
            <form method="post" action=routes::LOGIN novalidate>
                {next.map(|path| view! { <input type="hidden" name="next" value=path/> })}
                <EmailField value=email error=error.map(EmailError::text)/>
                <button class="button primary wide">"Send sign-in email"</button>
            </form>
            <p class="hint">"Both work once, and stop after "{format::lasting(lifetime)}"."</p>
        </Flow>
    }
}

#[derive(serde::Deserialize)]
pub struct LoginQuery {
    next: Option<String>,
}

/// Someone who is signed in already has nothing to do here.
pub async fn get(
    State(state): State<AppState>,
    Query(LoginQuery { next }): Query<LoginQuery>,
    Visitor(browser): Visitor,
) -> Answer {
    let next = next.and_then(|next| return_to::checked(&next, &state.site));
    if browser.authority.is_some() {
        return Ok(match next {
            // The person is asked before another host learns who they are: a link that somebody else made must not decide it.
            Some(url) if !url.starts_with('/') => Redirect::to(&return_to::carried(routes::LOGIN_CONTINUE, &url)),
            Some(path) => Redirect::to(&path),
            None => Redirect::to(routes::ACCOUNT),
        }
        .into_response());
    }
    if state.auth.flag().sign_in_is_off().await? {
        return Ok(unavailable::answer(&state.site, StatusCode::OK));
    }
    Ok(answer(&state, StatusCode::OK, String::new(), next, None))
}

fn answer(state: &AppState, status: StatusCode, email: String, next: Option<String>, error: Option<EmailError>) -> Response {
    let lifetime = state.auth.policy().link_ttl;
    if status == StatusCode::OK && email.is_empty() && next.is_none() && error.is_none() {
        let draw = || render(|| view! { <LoginPage email next error lifetime/> }).into();
        return drawn(status, state.empty_login.get_or_init(draw).clone());
    }
    page(status, || view! { <LoginPage email next error lifetime/> })
}

/// Asks for a mail.
#[server(prefix = "", endpoint = "login", protocol = FormPost)]
pub async fn request_link(#[server(default)] email: String, #[server(default)] next: String) -> Answer {
    let (form, Visitor(browser)) = Form::authorize(routes::LOGIN).await?;
    let next = return_to::checked(&next, &form.state.site);
    // An account may have an address that nobody else could take today: whether one does is for the mail to say.
    let address = match EmailAddress::lookup(&email) {
        Ok(address) => address,
        Err(error) => {
            auth::event::count_invalid_request();
            let error = Some(EmailError::Format(error));
            return Err(answer(&form.state, StatusCode::UNPROCESSABLE_ENTITY, email, next, error).into());
        }
    };
    match ask_for(&form, &browser, &address, true, next.clone()).await? {
        Asked::Taken => see_other(routes::LOGIN_SENT),
        Asked::TooSoon(wait) => {
            let error = EmailError::TooSoon { seconds: format::seconds_up(wait) };
            let page = answer(&form.state, StatusCode::TOO_MANY_REQUESTS, email, next, Some(error));
            Err(limited::retry_after(page, wait).into())
        }
    }
}

/// What came of asking for a mail, from whichever page.
pub enum Asked {
    Taken,
    /// This browser asked a moment ago; each page says so in its own way.
    TooSoon(Duration),
}

/// Asks for a mail to `address`, and remembers in this browser's session that it did. `typed` says that the address was typed
/// here, so that it may be shown here.
pub async fn ask_for(
    form: &Form,
    browser: &BrowserSession,
    address: &EmailAddress,
    typed: bool,
    next: Option<String>,
) -> Result<Asked, Refusal> {
    let nonce = browser.visit.nonce().unwrap_or_default();
    match form.state.auth.sign_in().request_link(address, &nonce, browser.proof(), &form.from).await {
        Ok(()) => {
            let typed = typed || browser.visit.asked.as_ref().is_some_and(|asked| asked.typed && asked.email == address.as_str());
            let visit = session::Visit {
                nonce: Some(nonce.reveal()),
                asked: Some(session::AskedFor { email: address.as_str().to_owned(), typed }),
                next,
                user_search: None,
                after_setup: None,
            };
            browser.store(&visit).await?;
            Ok(Asked::Taken)
        }
        Err(RequestLinkError::Off) => Err(unavailable::answer(&form.state.site, StatusCode::FORBIDDEN).into()),
        Err(RequestLinkError::Limited(limited)) if limited.limit == Limit::LinkBrowser => Ok(Asked::TooSoon(limited.wait)),
        Err(RequestLinkError::Limited(limited)) => Err(limited::answer(limited, form.state.auth.policy().link_ttl).into()),
        Err(RequestLinkError::Unavailable(error)) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        http::render::render,
        ui::assets::{CSS, ICON_SVG},
    };

    fn html(email: &str, next: Option<&str>, error: Option<EmailError>) -> String {
        let (email, next) = (email.to_owned(), next.map(str::to_owned));
        render(|| view! { <LoginPage email next error lifetime=Duration::from_mins(10)/> })
    }

    #[test]
    fn what_was_typed_is_text() {
        let html = html("\"><script>alert(1)</script>", Some("\"><img>"), Some(EmailError::Format(EmailAddressError::Malformed)));
        assert!(!html.contains("<script") && !html.contains("<img"));
        assert!(html.contains("&quot;&gt;&lt;script&gt;"));
    }

    /// The promise: the sign-in page with all it needs in 16,000 bytes.
    #[test]
    fn the_page_is_light() {
        let html = html("", None, None).len();
        let style = CSS.br.map_or(CSS.raw.len(), <[u8]>::len);
        let icon = ICON_SVG.br.map_or(ICON_SVG.raw.len(), <[u8]>::len);
        println!("html {html}, style sheet {style} (brotli; {} raw), icon {icon}", CSS.raw.len());
        assert!(html <= 6_000, "html {html}");
        assert!(html + style + icon <= 16_000, "{html} + {style} + {icon}");
    }
}
