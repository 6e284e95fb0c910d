//! `/login/confirm`: a link was opened, and only a button signs in.

use std::time::Duration;

use auth::{
    crypto::LinkToken,
    one_time::magic_link::{LinkState, LinkView},
    sign_in::first_factor::ConfirmLinkError,
};
use axum::{
    extract::{Query, State},
    response::{AppendHeaders, IntoResponse, Redirect, Response},
};
use http::{StatusCode, header::SET_COOKIE};
use leptos::prelude::*;

use crate::{
    components::{Flow, Masked},
    fault::Fault,
    form::{Form, FormError},
    gate::Passerby,
    help,
    page::page,
    pages::{
        limited,
        login::{self, Asked},
        login_sent, unavailable,
    },
    routes,
    session::{self, Visitor},
    state::AppState,
    words::{self, MaskedAddress},
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
                <Fact term="Asked for" value=asked_ago/>
                <Fact term="On" value=device/>
                <Fact term="From" value=ip/>
            </dl>
            <div class="actions">
                <form method="post" action=routes::LOGIN_CONFIRM>
                    <button class="button primary wide">"Sign in"</button>
                </form>
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
        <Flow title="Open this on the device you started on" help=Some(help::ANOTHER_DEVICE)>
            <p class="lede">
                "You asked for this link in another browser. Go back there and open it, or type the code from the same email."
            </p>
            <dl>
                <div><dt>"Email"</dt><dd><Masked address/></dd></div>
                <Fact term="Asked for" value=asked_ago/>
                <Fact term="On" value=device/>
                <Fact term="From" value=ip/>
            </dl>
            <div class="actions">
                <form method="post" action=routes::LOGIN_CONFIRM_RESEND>
                    <button class="button primary wide">"Send an email for this browser"</button>
                </form>
                <NotMe/>
            </div>
        </Flow>
    }
}

/// Why a link doesn't work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLink {
    /// It worked for this long.
    Expired {
        lifetime: Duration,
    },
    /// `signed_in`: this browser is.
    Used {
        signed_in: bool,
    },
    Replaced,
    Cancelled,
    Broken,
}

/// A link that doesn't work, and the way on.
///
/// `can_resend`: the address is known from the request, so one press sends a new mail. Otherwise it has to be typed again.
#[component]
pub fn DeadLinkPage(why: DeadLink, can_resend: bool) -> impl IntoView {
    match why {
        DeadLink::Expired { lifetime } => view! {
            <Flow title="This link has expired" help=Some(help::LINK_EXPIRED_OR_USED_EXPIRED)>
                <p class="lede">
                    "Links work for "{words::lasting(lifetime)}". This one is older than that."
                </p>
                <div class="actions"><SendNew can_resend primary=true/></div>
            </Flow>
        }
        .into_any(),
        DeadLink::Used { signed_in } => view! {
            <Flow title="This link has already been used" help=Some(help::LINK_EXPIRED_OR_USED_USED)>
                <p class="lede">"Each sign-in link works once. If you used it, you may already be signed in."</p>
                <div class="actions">
                    <SendNew can_resend primary=true/>
                    {signed_in.then(|| view! {
                        <a class="button wide" href=routes::ACCOUNT>"Go to your account"</a>
                    })}
                </div>
                <hr/>
                <h2 class="h3">"You didn't use it?"</h2>
                <p class="small">
                    "Someone with access to your inbox may have. A new email from this browser replaces the earlier one. Then check your recent activity."
                </p>
            </Flow>
        }
        .into_any(),
        DeadLink::Replaced => view! {
            <Flow title="This link was replaced" help=Some(help::LINK_EXPIRED_OR_USED_REPLACED)>
                <p class="lede">"You asked for a newer email in the same browser. Only the newest one works."</p>
                <div class="actions">
                    <a class="button primary wide" href=routes::LOGIN_SENT>"Enter the code"</a>
                    <SendNew can_resend primary=false/>
                </div>
            </Flow>
        }
        .into_any(),
        DeadLink::Cancelled => view! {
            <Flow title="Link cancelled">
                <p class="lede">
                    "Nobody can use that link now. If you keep getting emails you didn't ask for, "
                    <a href=help::EMAIL_I_DIDNT_ASK_FOR>"see what you can do"</a>"."
                </p>
            </Flow>
        }
        .into_any(),
        DeadLink::Broken => view! {
            <Flow title="This link doesn't work" help=Some(help::LINK_EXPIRED_OR_USED_BROKEN)>
                <p class="lede">
                    "It may have been cut short when it was copied. Open it from the email, or get a new one."
                </p>
                <div class="actions"><SendNew can_resend primary=true/></div>
            </Flow>
        }
        .into_any(),
    }
}

#[component]
fn SendNew(can_resend: bool, primary: bool) -> impl IntoView {
    let class = if primary { "button primary wide" } else { "button wide" };
    if can_resend {
        view! {
            <form method="post" action=routes::LOGIN_CONFIRM_RESEND>
                <button class=class>"Send a new email"</button>
            </form>
        }
        .into_any()
    } else {
        view! { <a class=class href=routes::LOGIN>"Send a new email"</a> }.into_any()
    }
}

#[component]
fn NotMe() -> impl IntoView {
    view! {
        <form method="post" action=routes::LOGIN_CONFIRM_CANCEL>
            <button class="button ghost red wide">"This wasn't me"</button>
        </form>
    }
}

/// One thing to know before a decision.
#[component]
pub(crate) fn Fact(term: &'static str, value: String) -> impl IntoView {
    view! { <div><dt>{term}</dt><dd>{value}</dd></div> }
}

#[derive(serde::Deserialize)]
pub struct VerifyQuery {
    #[serde(default)]
    token: String,
}

/// `/login/verify?token=`: takes the token out of the address bar, and nothing else. It waits in a cookie for the button.
pub async fn verify(State(state): State<AppState>, Query(VerifyQuery { token }): Query<VerifyQuery>) -> Response {
    let Some(token) = LinkToken::parse(&token) else {
        return dead(StatusCode::NOT_FOUND, DeadLink::Broken, false);
    };
    let cookie = session::link(&token, state.auth.policy().link_ttl);
    (AppendHeaders([(SET_COOKIE, cookie.to_string())]), Redirect::to(routes::LOGIN_CONFIRM)).into_response()
}

/// Shows what the link would do. Nothing is used up by looking.
pub async fn get(State(state): State<AppState>, Passerby(visitor): Passerby) -> Result<Response, Fault> {
    let Some(token) = &visitor.link else {
        return Ok(Redirect::to(routes::LOGIN).into_response());
    };
    let link = state.auth.sign_in().peek_link(token, visitor.proof()).await?;
    if matches!(link, LinkState::Live(_)) && state.auth.flag().sign_in_is_off() {
        return Ok(unavailable::answer(&state.site, StatusCode::FORBIDDEN));
    }
    Ok(answer(&state, link, &visitor))
}

/// The page for where a link stands.
pub fn answer(state: &AppState, link: LinkState, visitor: &Visitor) -> Response {
    let can_resend = visitor.link.is_some();
    match link {
        LinkState::Live(view) => {
            let request = request(state, view);
            page(StatusCode::OK, || view! { <ConfirmLinkPage request/> })
        }
        LinkState::OtherBrowser(view) => {
            let request = request(state, view);
            page(StatusCode::FORBIDDEN, || view! { <OtherBrowserPage request/> })
        }
        LinkState::Expired(_) => dead(StatusCode::GONE, DeadLink::Expired { lifetime: state.auth.policy().link_ttl }, can_resend),
        LinkState::Used(_) => dead(StatusCode::GONE, DeadLink::Used { signed_in: visitor.authority.is_some() }, can_resend),
        LinkState::Replaced(_) => dead(StatusCode::GONE, DeadLink::Replaced, can_resend),
        LinkState::Cancelled(_) | LinkState::EnrolmentRequired(_) => dead(StatusCode::GONE, DeadLink::Cancelled, can_resend),
        LinkState::Unknown => dead(StatusCode::NOT_FOUND, DeadLink::Broken, false),
    }
}

fn dead(status: StatusCode, why: DeadLink, can_resend: bool) -> Response {
    page(status, || view! { <DeadLinkPage why can_resend/> })
}

fn request(state: &AppState, view: LinkView) -> Request {
    let elapsed = (state.auth.now() - view.asked_at).try_into().unwrap_or_default();
    Request { address: view.email.as_str().into(), asked_ago: words::ago(elapsed), device: view.device, ip: view.ip.to_string() }
}

/// Signs in.
#[server(prefix = "", endpoint = "login/confirm")]
pub async fn confirm_link() -> Result<(), FormError> {
    let form = Form::current()?;
    let Passerby(visitor) = form.admit(routes::LOGIN_CONFIRM).await?;
    let Some(token) = &visitor.link else {
        return form.see_other(routes::LOGIN);
    };
    let (handover, cookie) = visitor.handover(&form.state.sessions);
    match form.state.auth.sign_in().confirm_link(token, visitor.proof(), &handover, &form.from).await {
        Ok(outcome) => login_sent::signed_in(&form, &visitor, outcome, &handover, &cookie).await,
        Err(ConfirmLinkError::Off) => form.refuse(unavailable::answer(&form.state.site, StatusCode::FORBIDDEN)),
        Err(ConfirmLinkError::NotLive(link)) => form.refuse(answer(&form.state, link, &visitor)),
        Err(ConfirmLinkError::Limited(limited)) => form.refuse(limited::answer(limited, 0, form.state.auth.policy().link_ttl)),
        Err(ConfirmLinkError::Unavailable(error)) => Err(form.fail(error.into())),
    }
}

/// "This wasn't me."
#[server(prefix = "", endpoint = "login/confirm/cancel")]
pub async fn cancel_link() -> Result<(), FormError> {
    let form = Form::current()?;
    let Passerby(visitor) = form.admit(routes::LOGIN_CONFIRM).await?;
    if let Some(token) = &visitor.link {
        form.state.auth.sign_in().cancel_link(token, &form.from).await.map_err(|error| form.fail(error.into()))?;
    }
    form.see_other(routes::LOGIN_CONFIRM)
}

/// A new request of this browser, to the address of the link it opened. The opened link never signs this browser in.
#[server(prefix = "", endpoint = "login/confirm/resend")]
pub async fn request_own_link() -> Result<(), FormError> {
    let form = Form::current()?;
    let Passerby(visitor) = form.admit(routes::LOGIN_CONFIRM).await?;
    let Some(token) = &visitor.link else {
        return form.see_other(routes::LOGIN);
    };
    let link = form.state.auth.sign_in().peek_link(token, visitor.proof()).await.map_err(|error| form.fail(error.into()))?;
    let Some(Ok(address)) = link.view().map(|view| view.email.parse()) else {
        return form.see_other(routes::LOGIN);
    };
    match login::ask_for(&form, &visitor, &address, false, visitor.visit.next.clone()).await? {
        Asked::Taken => {
            form.set_cookie(&session::removal(session::LINK));
            form.see_other(routes::LOGIN_SENT)
        }
        Asked::Refused(page) => form.refuse(page),
        // The mail of a moment ago is as good as another.
        Asked::TooSoon(_) => form.see_other(routes::LOGIN_SENT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::render;

    fn request() -> Request {
        Request {
            address: "mara@example.org".into(),
            asked_ago: "2 minutes ago".to_owned(),
            device: "Safari on iPhone".to_owned(),
            ip: "203.0.113.24".to_owned(),
        }
    }

    fn dead(why: DeadLink, can_resend: bool) -> String {
        render(|| view! { <DeadLinkPage why can_resend/> })
    }

    #[test]
    fn a_live_link_shows_who_asked_and_two_buttons() {
        let html = render(|| view! { <ConfirmLinkPage request=request()/> });
        assert!(html.contains("<title>Sign in to Latchkey? – Latchkey</title>"));
        assert!(html.contains("<dt>Asked for</dt><dd>2 minutes ago</dd>"));
        assert!(html.contains("<dt>On</dt><dd>Safari on iPhone</dd>"));
        assert!(html.contains("<dt>From</dt><dd>203.0.113.24</dd>"));
        assert!(html.contains(r#"<form method="post" action="/login/confirm"><button class="button primary wide">Sign in<"#));
        assert!(html.contains(r#"<form method="post" action="/login/confirm/cancel">"#));
        assert!(!html.contains("mara"));
    }

    #[test]
    fn another_browser_gets_a_mail_of_its_own_and_never_a_sign_in() {
        let html = render(|| view! { <OtherBrowserPage request=request()/> });
        assert!(html.contains("<h1>Open this on the device you started on</h1>"));
        assert!(
            html.contains(r#"action="/login/confirm/resend"><button class="button primary wide">Send an email for this browser"#)
        );
        assert!(!html.contains(r#"action="/login/confirm""#));
    }

    #[test]
    fn what_a_browser_says_of_itself_is_text() {
        let hostile = Request { device: "<img src=x>".to_owned(), ip: "</dd><a>".to_owned(), ..request() };
        let html = render(|| view! { <ConfirmLinkPage request=hostile/> });
        assert!(html.contains("&lt;img src=x&gt;") && !html.contains("<img") && !html.contains("</dd><a>"));
    }

    #[test]
    fn every_dead_end_has_a_way_on() {
        let lifetime = Duration::from_mins(10);
        let expired = dead(DeadLink::Expired { lifetime }, true);
        assert!(expired.contains("Links work for 10 minutes. This one is older than that."));
        assert!(expired.contains(r#"<form method="post" action="/login/confirm/resend">"#));

        let used = dead(DeadLink::Used { signed_in: true }, true);
        assert!(used.contains("<h1>This link has already been used</h1>"));
        assert!(used.contains(r#"href="/account" class="button wide">Go to your account"#));
        assert!(!dead(DeadLink::Used { signed_in: false }, true).contains("Go to your account"));

        let replaced = dead(DeadLink::Replaced, false);
        assert!(replaced.contains(r#"<a href="/login/sent" class="button primary wide">Enter the code</a>"#));
        assert!(replaced.contains(r#"<a href="/login" class="button wide">Send a new email</a>"#));

        let cancelled = dead(DeadLink::Cancelled, true);
        assert!(cancelled.contains(r#"<a href="/help/email-i-didnt-ask-for">see what you can do</a>."#));
        assert!(!cancelled.contains("<form"));

        let broken = dead(DeadLink::Broken, false);
        assert!(broken.contains("<h1>This link doesn't work</h1>"));
        assert!(broken.contains(r#"<a href="/login" class="button primary wide">Send a new email</a>"#));
    }
}
