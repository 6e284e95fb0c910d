use leptos::prelude::*;

use super::{Glyph, Icon};

/// One line of a panel: an icon, a heading with an optional badge, what there is to say, and what can be done about it.
///
/// `end` is a word or two at the line's end where nothing can be done, like a time; there it stays on phones, too.
#[component]
pub fn Row(
    #[prop(optional)] glyph: Option<Glyph>,
    #[prop(into)] heading: String,
    #[prop(optional_no_strip)] badge: Option<AnyView>,
    #[prop(optional_no_strip)] action: Option<AnyView>,
    #[prop(optional_no_strip)] end: Option<AnyView>,
    children: Children,
) -> impl IntoView {
    let class = if action.is_some() { "row acts" } else { "row" };
    view! {
        <div class=class>
            {glyph.map(|glyph| view! { <Icon glyph/> })}
            <div>
                <h3><span class="whole">{heading}</span>{badge}</h3>
                {children()}
            </div>
            {end.map(|end| view! { <div class="end">{end}</div> })}
            {action.map(|action| view! { <div class="action">{action}</div> })}
        </div>
    }
}

/// What a badge says besides its words. Each has a shape of its own: colour alone would tell some people nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BadgeKind {
    /// Where you are.
    #[default]
    Here,
    Ok,
    Off,
    Warn,
    Danger,
}

/// A word or two with a shape before them.
#[component]
pub fn Badge(#[prop(optional)] kind: BadgeKind, #[prop(into)] text: String) -> impl IntoView {
    let class = match kind {
        BadgeKind::Here => "badge",
        BadgeKind::Ok => "badge ok",
        BadgeKind::Off => "badge off",
        BadgeKind::Warn => "badge warn",
        BadgeKind::Danger => "badge danger",
    };
    view! { <span class=class>{text}</span> }
}
