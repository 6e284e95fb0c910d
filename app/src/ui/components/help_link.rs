use leptos::prelude::*;

use crate::help;

/// Leads to the article, or to its heading, that answers what the page says; by the article's title. `to` is one of the constants of [`help`].
#[component]
pub fn HelpLink(to: &'static str) -> impl IntoView {
    view! { <p class="hint help-link screen">"Help: "<a href=to>{help::title(to)}</a></p> }
}
