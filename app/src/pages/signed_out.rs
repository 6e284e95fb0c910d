//! What signing out answers with.

use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderName, StatusCode};
use leptos::prelude::*;

use crate::{
    components::Flow,
    form::{Form, FormError},
    gate::Passerby,
    page::page,
    routes, session,
};

#[component]
pub fn SignedOutPage() -> impl IntoView {
    view! {
        <Flow title="You're signed out">
            <p class="lede">"You're signed out on this device. Your other sessions are still open."</p>
            <div class="actions"><a class="button primary wide" href=routes::LOGIN>"Sign in"</a></div>
        </Flow>
    }
}

/// Where signing out ends. Someone who is signed in hasn't signed out.
pub async fn get(Passerby(visitor): Passerby) -> Response {
    if visitor.authority.is_some() {
        return Redirect::to(routes::ACCOUNT).into_response();
    }
    page(StatusCode::OK, || view! { <SignedOutPage/> })
}

/// Signs out: the session is dead on every instance before the answer leaves.
#[server(prefix = "", endpoint = "logout")]
pub async fn sign_out() -> Result<(), FormError> {
    let form = Form::current()?;
    let visitor = form.anybody().await?;
    if let Some(key) = visitor.key() {
        form.state.auth.sessions().sign_out(key, &form.from).await.map_err(|error| form.fail(error.into()))?;
        visitor.forget().await.map_err(|error| form.fail(error.into()))?;
        form.set_cookie(&session::removal(session::SESSION));
    }
    // Its token is dead with the session.
    if let Some(hosts) = &form.state.site.forward_auth {
        form.set_cookie(&session::forward_auth_removal(&hosts.domain));
    }
    // Pages of ours are never stored; this is for what a browser kept all the same. Not "cookies": they hold device trust.
    form.set_header(HeaderName::from_static("clear-site-data"), "\"cache\"");
    form.see_other(routes::LOGOUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::render;

    #[test]
    fn it_says_what_is_still_open() {
        let html = render(|| view! { <SignedOutPage/> });
        assert!(html.contains("<h1>You're signed out</h1>") && html.contains("Your other sessions are still open."));
    }
}
