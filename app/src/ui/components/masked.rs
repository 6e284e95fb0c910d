use leptos::prelude::*;

use crate::ui::format::MaskedAddress;

/// A masked address: dots for the eye, words for the ear.
#[component]
pub fn Masked(address: MaskedAddress) -> impl IntoView {
    view! {
        <strong>
            <span aria-hidden="true">{address.to_string()}</span>
            <span class="vh">{address.spoken()}</span>
        </strong>
    }
}
