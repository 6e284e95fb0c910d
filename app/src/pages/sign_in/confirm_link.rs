//! `/login/confirm`: a link was opened, and only a button signs in.

use std::time::Duration;

use auth::{
    crypto::LinkToken,
    one_time::{
        Dead,
        magic_link::{LinkState, LinkView},
    },
    sign_in::first_factor::ConfirmLinkError,
};
use axum::response::AppendHeaders;
use http::header::SET_COOKIE;

use crate::pages::{
    limited,
    prelude::*,
    sign_in::{
        login::{self, Asked},
        login_continue, unavailable,
    },
};

/// The request that a link came from, as the page tells it.
#[derive(Clone, Debug)]
pub struct Request {
    pub address: MaskedAddress,
    /// "2 minutes ago"
    pub asked_ago: String,
    pub device: String,
    pub ip: String,
}

/// A link that works, in the browser that asked for it.
#[component]
pub fn ConfirmLinkPage(request: Request) -> impl IntoView {
    let Request { address, asked_ago, device, ip } = request;
    view! {
        <Flow title="Sign in to Latchkey?" help=Some(help::WORK_MAIL_OPENS_LINKS)>
            <p class="lede">"You opened a sign-in link for "<span class="whole"><Masked address/>"."</span></p>
            <dl>
                <Facts when="Asked for" ago=asked_ago device ip/>
            </dl>
            <div class="actions">
                <PostButton action=routes::LOGIN_CONFIRM class="button primary wide" text="Sign in"/>
                <NotMe/>
            </div>
            <p class="hint">
                "We ask because some email apps open links to scan them. Nobody is signed in until you press the button."
            </p>
        </Flow>
    }
}

/// A link that works, in another browser than the one that asked for it: it never signs this one in.
#[component]
pub fn OtherBrowserPage(request: Request) -> impl IntoView {
    let Request { address, asked_ago, device, ip } = request;
    view! {
        <Flow title="Open this on the device you started on" help=Some(help::ANOTHER_DEVICE) lede="You asked for this link in another browser. Go back there and open it, or type the code from the same email.">
            <dl>
                <div><dt>"Email"</dt><dd><Masked address/></dd></div>
                <Facts when="Asked for" ago=asked_ago device ip/>
            </dl>
            <div class="actions">
                <PostButton action=routes::LOGIN_CONFIRM_RESEND class="button primary wide" text="Send an email for this browser"/>
                <NotMe/>
            </div>
        </Flow>
    }
}

/// A link that doesn't work, and the way on.
///
/// `why`: none where there is no such link. `lifetime`: links work for so long. `signed_in`: this browser is.
/// `can_resend`: the address is known from the request, so one press sends a new mail. Otherwise it has to be typed again.
#[component]
pub fn DeadLinkPage(why: Option<Dead>, lifetime: Duration, signed_in: bool, can_resend: bool) -> impl IntoView {
    let (title, help, text) = match why {
        Some(Dead::Expired) => (
            "This link has expired",
            help::LINK_EXPIRED_OR_USED_EXPIRED,
            format!("Links work for {}. This one is older than that.", format::lasting(lifetime)),
        ),
        Some(Dead::Used) => (
            "This link has already been used",
            help::LINK_EXPIRED_OR_USED_USED,
            "Each sign-in link works once. If you used it, you may already be signed in.".to_owned(),
        ),
        Some(Dead::Replaced) => (
            "This link was replaced",
            help::LINK_EXPIRED_OR_USED_REPLACED,
            "You asked for a newer email in the same browser. Only the newest one works.".to_owned(),
        ),
        None => (
            "This link doesn't work",
            help::LINK_EXPIRED_OR_USED_BROKEN,
            "It may have been cut short when it was copied. Open it from the email, or get a new one.".to_owned(),
        ),
        Some(Dead::Cancelled) => {
            return view! {
                <Flow title="Link cancelled">
                    <p class="lede">
                        "Nobody can use that link now. If you keep getting emails you didn't ask for, "
                        <a href=help::EMAIL_I_DIDNT_ASK_FOR>"see what you can do"</a>"."
                    </p>
                </Flow>
            }
            .into_any();
        }
    };
    let (used, replaced) = (why == Some(Dead::Used), why == Some(Dead::Replaced));
    view! {
        <Flow title help=Some(help) lede=text>
            <div class="actions">
                {replaced.then(|| view! { <a class="button primary wide" href=routes::LOGIN_SENT>"Enter the code"</a> })}
                <SendNew can_resend primary=!replaced/>
                {(used && signed_in).then(|| view! { <a class="button wide" href=routes::ACCOUNT>"Go to your account"</a> })}
            </div>
            {used.then(|| view! {
                <hr/>
                <h2 class="h3">"You didn't use it?"</h2>
                <p class="small">
                    "Someone with access to your inbox may have. A new email from this browser replaces the earlier one. Then check your recent activity."
                </p>
            })}
        </Flow>
    }
    .into_any()
}

#[component]
fn SendNew(can_resend: bool, primary: bool) -> impl IntoView {
    let class = if primary { "button primary wide" } else { "button wide" };
    if can_resend {
        view! { <PostButton action=routes::LOGIN_CONFIRM_RESEND class text="Send a new email"/> }.into_any()
    } else {
        view! { <a class=class href=routes::LOGIN>"Send a new email"</a> }.into_any()
    }
}

#[component]
fn NotMe() -> impl IntoView {
    view! { <PostButton action=routes::LOGIN_CONFIRM_CANCEL class="button ghost red wide" text="This wasn't me"/> }
}

/// What to know before a decision: when it was, on which device, from which address. `when` says what happened then.
#[component]
pub(crate) fn Facts(when: &'static str, ago: String, device: String, ip: String) -> impl IntoView {
    [(when, ago), ("On", device), ("From", ip)].map(|(term, value)| view! { <div><dt>{term}</dt><dd>{value}</dd></div> })
}

/// The status of a page that says why a mailed link doesn't work: gone, or never there.
pub(crate) const fn status_of(dead: Option<Dead>) -> StatusCode {
    if dead.is_some() { StatusCode::GONE } else { StatusCode::NOT_FOUND }
}

/// The query of a link in a mail.
#[derive(serde::Deserialize)]
pub struct TokenQuery {
    #[serde(default)]
    pub token: String,
}

/// `/login/verify?token=`: takes the token out of the address bar, and nothing else. It waits in a cookie for the button.
pub async fn verify(State(state): State<AppState>, Query(TokenQuery { token }): Query<TokenQuery>) -> Response {
    let Some(token) = LinkToken::parse(&token) else {
        return dead(&state, None, false, false);
    };
    let cookie = session::link(&token, state.auth.policy().link_ttl);
    (AppendHeaders([(SET_COOKIE, cookie.to_string())]), Redirect::to(routes::LOGIN_CONFIRM)).into_response()
}

/// Shows what the link would do. Nothing is used up by looking.
pub async fn get(State(state): State<AppState>, Visitor(browser): Visitor) -> Answer {
    let Some(token) = &browser.link else {
        return see_other(routes::LOGIN);
    };
    let link = state.auth.sign_in().peek_link(token, browser.proof()).await?;
    if matches!(link, LinkState::Live(_)) && state.auth.flag().sign_in_is_off().await? {
        return Ok(unavailable::answer(&state.site, StatusCode::FORBIDDEN));
    }
    Ok(answer(&state, link, &browser))
}

/// The page for where a link stands.
pub fn answer(state: &AppState, link: LinkState, browser: &BrowserSession) -> Response {
    let (signed_in, can_resend) = (browser.authority.is_some(), browser.link.is_some());
    match link {
        LinkState::Live(view) => {
            let request = request(state, view);
            page(StatusCode::OK, || view! { <ConfirmLinkPage request/> })
        }
        LinkState::OtherBrowser(view) => {
            let request = request(state, view);
            page(StatusCode::FORBIDDEN, || view! { <OtherBrowserPage request/> })
        }
        LinkState::Dead(why, _) => dead(state, Some(why), signed_in, can_resend),
        LinkState::EnrolmentRequired(_) => dead(state, Some(Dead::Cancelled), signed_in, can_resend),
        LinkState::Unknown => dead(state, None, signed_in, false),
    }
}

fn dead(state: &AppState, why: Option<Dead>, signed_in: bool, can_resend: bool) -> Response {
    let (status, lifetime) = (status_of(why), state.auth.policy().link_ttl);
    page(status, || view! { <DeadLinkPage why lifetime signed_in can_resend/> })
}

fn request(state: &AppState, view: LinkView) -> Request {
    let elapsed = (state.auth.now() - view.asked_at).try_into().unwrap_or_default();
    Request { address: view.email.as_str().into(), asked_ago: format::ago(elapsed), device: view.device, ip: view.ip.to_string() }
}

/// Signs in.
#[server(prefix = "", endpoint = "login/confirm", protocol = FormPost)]
pub async fn confirm_link() -> Answer {
    let (form, Visitor(browser)) = Form::authorize(routes::LOGIN_CONFIRM).await?;
    let Some(token) = &browser.link else {
        return see_other(routes::LOGIN);
    };
    let (change, cookie) = browser.session_change(&form.state.sessions);
    match form.state.auth.sign_in().confirm_link(token, browser.proof(), &change, &form.from).await {
        Ok(outcome) => login_continue::signed_in(&form, &browser, outcome, &change, &cookie).await,
        Err(ConfirmLinkError::Off) => Err(unavailable::answer(&form.state.site, StatusCode::FORBIDDEN).into()),
        Err(ConfirmLinkError::NotLive(link)) => Err(answer(&form.state, link, &browser).into()),
        Err(ConfirmLinkError::Limited(limited)) => Err(limited::answer(limited, form.state.auth.policy().link_ttl).into()),
        Err(ConfirmLinkError::Unavailable(error)) => Err(error.into()),
    }
}

/// "This wasn't me."
#[server(prefix = "", endpoint = "login/confirm/cancel", protocol = FormPost)]
pub async fn cancel_link() -> Answer {
    let (form, Visitor(browser)) = Form::authorize(routes::LOGIN_CONFIRM).await?;
    if let Some(token) = &browser.link {
        form.state.auth.sign_in().cancel_link(token, &form.from).await?;
    }
    see_other(routes::LOGIN_CONFIRM)
}

/// A new request of this browser, to the address of the link it opened. The opened link never signs this browser in.
#[server(prefix = "", endpoint = "login/confirm/resend", protocol = FormPost)]
pub async fn request_own_link() -> Answer {
    let (form, Visitor(browser)) = Form::authorize(routes::LOGIN_CONFIRM).await?;
    let Some(token) = &browser.link else {
        return see_other(routes::LOGIN);
    };
    let link = form.state.auth.sign_in().peek_link(token, browser.proof()).await?;
    let Some(view) = link.view() else {
        return see_other(routes::LOGIN);
    };
    match login::ask_for(&form, &browser, &view.email, false, browser.visit.next.clone()).await? {
        Asked::Taken => {
            form.set_cookie(&session::removal(session::LINK));
            see_other(routes::LOGIN_SENT)
        }
        // The mail of a moment ago is as good as another.
        Asked::TooSoon(_) => see_other(routes::LOGIN_SENT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::render::render;

    fn request() -> Request {
        Request {
            address: "mara@example.org".into(),
            asked_ago: "2 minutes ago".to_owned(),
            device: "Safari on iPhone".to_owned(),
            ip: "203.0.113.24".to_owned(),
        }
    }

    #[test]
    fn what_a_browser_says_of_itself_is_text() {
        let hostile = Request { device: "<img src=x>".to_owned(), ip: "</dd><a>".to_owned(), ..request() };
        let html = render(|| view! { <ConfirmLinkPage request=hostile/> });
        assert!(html.contains("&lt;img src=x&gt;") && !html.contains("<img") && !html.contains("</dd><a>"));
    }
}
