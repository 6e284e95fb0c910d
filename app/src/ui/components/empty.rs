use leptos::prelude::*;

/// A list with nothing in it: what isn't there, and what would be or what to do about it. `plain`: below a heading of the list's own.
#[component]
pub fn Empty(
    heading: &'static str,
    text: &'static str,
    #[prop(optional_no_strip)] action: Option<AnyView>,
    #[prop(optional)] plain: bool,
) -> impl IntoView {
    let heading = if plain { view! { <h3>{heading}</h3> }.into_any() } else { view! { <h2 class="h3">{heading}</h2> }.into_any() };
    view! {
        <div class="empty">
            {heading}
            <p>{text}</p>
            {action.map(|action| view! { <div class="row-actions">{action}</div> })}
        </div>
    }
}
