use leptos::prelude::*;

use super::{Glyph, Icon};

#[derive(Clone, Copy, Debug)]
pub enum Tone {
    Info,
    Ok,
}

/// News about the whole page, at its top. What is wrong with a field stands at the field instead.
#[component]
pub fn Notice(tone: Tone, title: &'static str, children: Children) -> impl IntoView {
    let (class, glyph) = match tone {
        Tone::Info => ("notice", Glyph::Info),
        Tone::Ok => ("notice ok", Glyph::Done),
    };
    view! {
        <div class=class>
            <Icon glyph/>
            <div>
                <strong>{title}</strong>
                <p>{children()}</p>
            </div>
        </div>
    }
}
