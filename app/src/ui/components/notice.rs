use leptos::prelude::*;

use super::{Glyph, Icon};

#[derive(Clone, Copy, Debug)]
pub enum Tone {
    Info,
    Ok,
    Warn,
    Danger,
}

/// News about the whole page, at its top. What is wrong with a field stands at the field instead.
///
/// `actions`: at most two links or buttons, under the sentence.
#[component]
pub fn Notice(
    tone: Tone,
    title: impl IntoView,
    #[prop(optional_no_strip)] actions: Option<AnyView>,
    children: Children,
) -> impl IntoView {
    let (class, glyph) = match tone {
        Tone::Info => ("notice", Glyph::Info),
        Tone::Ok => ("notice ok", Glyph::Done),
        Tone::Warn => ("notice warn", Glyph::Warn),
        Tone::Danger => ("notice danger", Glyph::Error),
    };
    view! {
        <div class=class>
            <Icon glyph/>
            <div>
                <strong>{title}</strong>
                <p>{children()}</p>
                {actions.map(|actions| view! { <div class="row-actions">{actions}</div> })}
            </div>
        </div>
    }
}
