//! What signing out answers with.

use http::HeaderName;

use crate::pages::prelude::*;

#[component]
pub fn SignedOutPage() -> impl IntoView {
    view! {
        <Flow title="You're signed out" lede="You're signed out on this device. Your other sessions are still open.">
            <div class="actions"><a class="button primary wide" href=routes::LOGIN>"Sign in"</a></div>
        </Flow>
    }
}

/// Where signing out ends. Someone who is signed in hasn't signed out.
pub async fn get(Visitor(browser): Visitor) -> Response {
    if browser.authority.is_some() {
        return Redirect::to(routes::ACCOUNT).into_response();
    }
    page(StatusCode::OK, || view! { <SignedOutPage/> })
}

/// Signs out: the session is dead on every instance before the answer leaves.
#[server(prefix = "", endpoint = "logout", protocol = FormPost)]
pub async fn sign_out() -> Answer {
    let (form, Public(browser)) = Form::authorize(routes::LOGOUT).await?;
    if let Some(key) = browser.key() {
        form.state.auth.sessions().sign_out(key, &form.from).await?;
        browser.forget().await?;
        form.set_cookie(&session::removal(session::SESSION));
    }
    // Its token is dead with the session.
    if let Some(hosts) = &form.state.site.forward_auth {
        form.set_cookie(&session::forward_auth_removal(&hosts.domain));
    }
    // Pages of ours are never stored; this is for what a browser kept all the same. Not "cookies": they hold device trust.
    form.set_header(HeaderName::from_static("clear-site-data"), "\"cache\"");
    see_other(routes::LOGOUT)
}
