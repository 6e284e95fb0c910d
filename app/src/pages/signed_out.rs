//! What signing out answers with.

use leptos::prelude::*;

use crate::{components::Flow, routes};

#[component]
pub fn SignedOutPage() -> impl IntoView {
    view! {
        <Flow title="You're signed out">
            <p class="lede">"You're signed out on this device. Your other sessions are still open."</p>
            <div class="actions"><a class="button primary wide" href=routes::LOGIN>"Sign in"</a></div>
        </Flow>
    }
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
