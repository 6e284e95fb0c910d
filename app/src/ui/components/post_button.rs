use leptos::{attr::custom::custom_attribute, prelude::*};

/// A form that is one button. `hidden` goes along; `of` says what the button is about, for people who don't see what it stands beside.
/// `alone`: in a row of its own.
#[component]
pub fn PostButton(
    action: &'static str,
    text: &'static str,
    #[prop(default = "button sm")] class: &'static str,
    #[prop(optional)] hidden: Vec<(&'static str, String)>,
    #[prop(optional, into)] of: Option<String>,
    #[prop(optional)] alone: bool,
) -> impl IntoView {
    let hidden = hidden.into_iter().map(|(name, value)| view! { <input type="hidden" name=name value=value/> });
    view! {
        <form method="post" action={action} {..custom_attribute("class", alone.then_some("row-actions"))}>
            {hidden.collect_view()}
            <button class=class>{text}{of.map(|of| view! { <span class="vh">" "{of}</span> })}</button>
        </form>
    }
}
