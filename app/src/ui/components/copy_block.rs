use leptos::prelude::*;

/// Something to be copied by hand or by one tap, which selects all of it: no button is needed, and none would work without
/// script.
#[component]
pub fn CopyBlock(heading: &'static str, value: String, hint: &'static str) -> impl IntoView {
    view! {
        <h3>{heading}</h3>
        <p class="copy mono">{value}</p>
        <p class="hint">{hint}</p>
    }
}
