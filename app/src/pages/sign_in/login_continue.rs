//! `/login/continue`: from here to another host that people are signed in for, and the page that leads there.

use auth::{
    crypto::SessionKey,
    identity::{Authority, Level},
    sign_in::{
        first_factor::{Outcome, SessionChange},
        forward_auth::Access,
    },
};
use cookie::Cookie;
use url::Url;

use crate::{
    http::{
        forward_auth::{Destination, ForwardAuth, GuardedHost},
        session::Visit,
    },
    pages::prelude::*,
};

/// Asks before another host learns who this is. `next` is on that host.
#[component]
pub fn ContinuePage(host: String, email: MaskedAddress, next: String) -> impl IntoView {
    view! {
        <Flow title=format!("Continue to {host}?") help=Some(help::OTHER_SITES)>
            <p class="lede">
                "You're signed in as "<Masked address=email/>". "{host}" will see your email address, and whether you're an administrator."
            </p>
            <form method="post" action=routes::LOGIN_CONTINUE class="actions">
                <input type="hidden" name="next" value=next/>
                <button class="button primary wide">"Continue"</button>
                <a class="button wide" href=routes::ACCOUNT>"Stay here"</a>
            </form>
        </Flow>
    }
}

/// The host wants two-factor, and this account has none.
#[component]
pub fn TwoFactorFirstPage(host: String, next: String) -> impl IntoView {
    view! {
        <Flow title=format!("{host} needs two-factor") help=Some(help::TWO_FACTOR) lede="Set it up once, with an authenticator app. Then we'll bring you back.">
            <form method="post" action=routes::LOGIN_CONTINUE class="actions">
                <input type="hidden" name="next" value=next/>
                <button class="button primary wide">"Set up two-factor"</button>
                <a class="button wide" href=routes::ACCOUNT>"Not now"</a>
            </form>
        </Flow>
    }
}

/// Leads on by itself. Forms may lead to ourselves only, also by a redirect, so the answer to one is a page.
#[component]
pub fn HopPage(host: String, url: Url) -> impl IntoView {
    view! {
        <Flow title="You're signed in" refresh=url.to_string()>
            <p class="lede">"Taking you to "{host.clone()}"."</p>
            <div class="actions"><a class="button primary wide" href=url.to_string()>"Go to "{host}</a></div>
        </Flow>
    }
}

fn destination<'a>(state: &'a AppState, next: &str) -> Option<(&'a ForwardAuth, Destination<'a>)> {
    let hosts = state.site.forward_auth.as_ref()?;
    Some((hosts, hosts.destination(next)?))
}

/// A signed-in session has given two-factor where the account has it. So the account can only lack the set-up.
fn lacks_two_factor(state: &AppState, authority: &Authority, host: &GuardedHost) -> bool {
    let wanted = host.needs == Level::TwoFactor && authority.level != Level::TwoFactor;
    wanted || authority.owes_two_factor(state.auth.policy().require_two_factor)
}

/// For who is signed in, whatever they came with; what leads nowhere else leads home.
pub async fn get(
    State(state): State<AppState>,
    Query(NextQuery { next }): Query<NextQuery>,
    Enrolling(_, authority): Enrolling,
) -> Response {
    let Some((_, to)) = destination(&state, &next) else {
        return Redirect::to(return_to::local(&next, &state.site.base_url).as_deref().unwrap_or(routes::ACCOUNT)).into_response();
    };
    let (host, next) = (to.host.name.clone(), to.url.to_string());
    if lacks_two_factor(&state, &authority, to.host) {
        return page(StatusCode::OK, || view! { <TwoFactorFirstPage host next/> });
    }
    let email = authority.email.as_str().into();
    page(StatusCode::OK, || view! { <ContinuePage host email next/> })
}

/// The button of either page.
#[server(prefix = "", endpoint = "login/continue", protocol = FormPost)]
pub async fn continue_elsewhere(#[server(default)] next: String) -> Answer {
    let (form, Enrolling(browser, authority)) = Form::authorize(routes::LOGIN_CONTINUE).await?;
    let Some((_, to)) = destination(&form.state, &next) else { return see_other(routes::ACCOUNT) };
    if lacks_two_factor(&form.state, &authority, to.host) {
        let visit = Visit { after_setup: Some(to.url.into()), ..browser.visit.clone() };
        browser.store(&visit).await?;
        return see_other(routes::TWO_FACTOR_SETUP);
    }
    let Some(key) = browser.key() else { return see_other(routes::LOGIN) };
    go_on(&form, Some(&next), key).await
}

/// The first factor was right: the browser gets its new session, and goes where it wanted to.
pub async fn signed_in(
    form: &Form,
    browser: &BrowserSession,
    outcome: Outcome,
    change: &SessionChange,
    session: &Cookie<'_>,
) -> Answer {
    form.set_cookie(session);
    form.set_cookie(&session::removal(session::LINK));
    match outcome {
        Outcome::Complete { known_browser } => {
            form.set_cookie(&session::known(&known_browser));
            go_on(form, browser.visit.next.as_deref(), change.fresh).await
        }
        Outcome::SecondFactorNeeded => see_other(routes::LOGIN_TWO_FACTOR),
    }
}

/// Where somebody goes who has just signed in with the session of `key`: to where they wanted, or home.
pub(crate) async fn go_on(form: &Form, next: Option<&str>, key: SessionKey) -> Answer {
    let next = next.and_then(|next| return_to::checked(next, &form.state.site));
    let Some((hosts, to)) = next.as_deref().and_then(|next| destination(&form.state, next)) else {
        return see_other(next.as_deref().unwrap_or(routes::ACCOUNT));
    };
    let made = form.state.auth.sign_in().make_forward_auth_token(key, to.host.needs).await;
    match made? {
        Ok(token) => {
            form.set_cookie(&form.state.sessions.forward_auth_cookie(&token, &hosts.domain));
            let (host, url) = (to.host.name.clone(), to.url);
            Ok(page(StatusCode::OK, || view! { <HopPage host url/> }))
        }
        Err(Access::TwoFactorNeeded) => see_other(&return_to::carried(routes::LOGIN_CONTINUE, to.url.as_str())),
        Err(_) => see_other(&return_to::carried(routes::LOGIN, to.url.as_str())),
    }
}

/// Where somebody goes who was sent to set two-factor up, and has.
pub(crate) async fn back_from_setup(form: &Form, browser: &BrowserSession) -> Answer {
    let next = browser.visit.after_setup.as_deref().and_then(|next| destination(&form.state, next));
    let path =
        next.map_or_else(|| routes::TWO_FACTOR.to_owned(), |(_, to)| return_to::carried(routes::LOGIN_CONTINUE, to.url.as_str()));
    // Once: the next time it may be of their own accord.
    let visit = Visit { after_setup: None, ..browser.visit.clone() };
    browser.store(&visit).await?;
    see_other(&path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::render::render;

    #[test]
    fn the_hop_leads_on_with_and_without_a_press() {
        let url = Url::parse("https://app.example.org/?a=b;url=https://evil.example&c='\"<").expect("a URL");
        let html = render(|| view! { <HopPage host="app.example.org".to_owned() url/> });
        let whole = "https://app.example.org/?a=b;url=https://evil.example&amp;c=%27%22%3C";
        assert!(html.contains(&format!(r#"<meta http-equiv="refresh" content="0; url={whole}">"#)), "{html}");
        assert!(html.contains(&format!(r#"href="{whole}""#)), "{html}");
        assert!(html.contains("Taking you to app.example.org.") && html.contains(">Go to app.example.org</a>"));
        assert!(!html.contains("<script") && !html.contains("<form"));
    }
}
