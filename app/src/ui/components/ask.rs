use leptos::prelude::*;

/// Asks before something is done: `children` say what will happen, and hold the fields. `button` does it, and `back` leads away from it, where
/// the page has no other way.
/// `novalidate` where the fields' errors are the page's own.
#[component]
pub fn Ask(
    #[prop(into)] action: String,
    button: &'static str,
    #[prop(default = "button primary")] class: &'static str,
    #[prop(optional)] back: Option<(&'static str, String)>,
    #[prop(optional)] narrow: bool,
    #[prop(optional)] novalidate: bool,
    children: Children,
) -> impl IntoView {
    view! {
        <div class=if narrow { "panel narrow" } else { "panel" }>
            <form class="body" method="post" action=action novalidate=novalidate>
                {children()}
                <div class="row-actions">
                    <button class=class>{button}</button>
                    {back.map(|(name, path)| view! { <a class="button" href=path>{name}</a> })}
                </div>
            </form>
        </div>
    }
}
