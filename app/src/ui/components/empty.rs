use leptos::prelude::*;

/// A list with nothing in it: what isn't there, and what would be or what to do about it.
#[component]
pub fn Empty(heading: &'static str, text: &'static str, #[prop(optional_no_strip)] action: Option<AnyView>) -> impl IntoView {
    view! {
        <div class="empty">
            <h2 class="h3">{heading}</h2>
            <p>{text}</p>
            {action.map(|action| view! { <div class="row-actions">{action}</div> })}
        </div>
    }
}
