//! While signing in this way is off for everyone.

use crate::{http::state::Site, pages::prelude::*};

/// `legacy_url` is where people sign in meanwhile.
#[component]
pub fn UnavailablePage(legacy_url: Option<String>) -> impl IntoView {
    view! {
        <Flow title="Signing in this way isn't available yet" help=Some(help::NOT_AVAILABLE_YET) lede="We're turning it on for a few people at a time. Until then, use your usual way to sign in.">
            {legacy_url.map(|url| view! {
                <div class="actions"><a class="button primary wide" href=url>"Use your usual sign-in"</a></div>
            })}
        </Flow>
    }
}

/// 200 to someone who only looks, 403 to someone who tries.
pub fn answer(site: &Site, status: StatusCode) -> Response {
    let legacy_url = site.legacy_sign_in_url.as_ref().map(ToString::to_string);
    page(status, || view! { <UnavailablePage legacy_url/> })
}
