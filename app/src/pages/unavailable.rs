//! While signing in this way is off for everyone.

use axum::response::Response;
use http::StatusCode;
use leptos::prelude::*;

use crate::{components::Flow, help, page::page, state::Site};

/// `legacy_url` is where people sign in meanwhile.
#[component]
pub fn UnavailablePage(legacy_url: Option<String>) -> impl IntoView {
    view! {
        <Flow title="Signing in this way isn't available yet" help=Some(help::NOT_AVAILABLE_YET)>
            <p class="lede">
                "We're turning it on for a few people at a time. Until then, use your usual way to sign in."
            </p>
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::render;

    #[test]
    fn the_usual_way_is_offered_where_there_is_one() {
        let html = |url: Option<&str>| {
            let legacy_url = url.map(str::to_owned);
            render(|| view! { <UnavailablePage legacy_url/> })
        };
        assert!(
            html(Some("https://old.example/sign-in"))
                .contains(r#"href="https://old.example/sign-in" class="button primary wide">Use your usual sign-in"#)
        );
        assert!(!html(None).contains("Use your usual sign-in"));
    }
}
