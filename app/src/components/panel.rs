use leptos::prelude::*;

use super::{Glyph, Icon};

/// One line of a panel: an icon, a heading with an optional badge, and what there is to say.
#[component]
pub fn Row(
    glyph: Glyph,
    #[prop(into)] heading: String,
    #[prop(optional)] badge: Option<&'static str>,
    children: Children,
) -> impl IntoView {
    view! {
        <div class="row">
            <Icon glyph/>
            <div>
                <h3>
                    <span class="whole">{heading}</span>
                    {badge.map(|text| view! { <Badge text/> })}
                </h3>
                {children()}
            </div>
        </div>
    }
}

/// A word with a dot before it, for "this is where you are".
#[component]
pub fn Badge(text: &'static str) -> impl IntoView {
    view! { <span class="badge">{text}</span> }
}
