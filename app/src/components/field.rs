use leptos::prelude::*;

use super::{Glyph, Icon};

/// An address. The browser's own check stays off: its bubbles say less than our errors, and not to everyone.
#[component]
pub fn EmailField(value: String, error: Option<String>) -> impl IntoView {
    let wrong = error.is_some();
    view! {
        <Field id="email" label="Email address" error>
            <input
                id="email"
                name="email"
                type="email"
                value=value
                autocomplete="email"
                autocapitalize="none"
                spellcheck="false"
                maxlength="254"
                aria-describedby=described_by("email", false, wrong)
                aria-invalid=wrong.then_some("true")
                autofocus=wrong
            />
        </Field>
    }
}

/// A six-digit code: one input, so that pasting, autofill and screen readers work. Spaces and hyphens are welcome, as mails and
/// people write them. What was typed is never sent back.
#[component]
pub fn CodeField(hint: &'static str, error: Option<String>) -> impl IntoView {
    let wrong = error.is_some();
    view! {
        <Field id="code" label="6-digit code" hint error>
            <input
                class="code"
                id="code"
                name="code"
                type="text"
                inputmode="numeric"
                autocomplete="one-time-code"
                pattern="[0-9 \\-]*"
                maxlength="9"
                aria-describedby=described_by("code", true, wrong)
                aria-invalid=wrong.then_some("true")
                autofocus=wrong
            />
        </Field>
    }
}

/// Label, hint, error and input, in the order they are read.
#[component]
fn Field(
    id: &'static str,
    label: &'static str,
    #[prop(optional)] hint: Option<&'static str>,
    error: Option<String>,
    children: Children,
) -> impl IntoView {
    let error = error.map(|text| {
        view! {
            <p class="error" id=format!("{id}-error")>
                <Icon glyph=Glyph::Error/>
                <span><span class="vh">"Error: "</span>{text}</span>
            </p>
        }
    });
    view! {
        <div class="field">
            <label for=id>{label}</label>
            {hint.map(|text| view! { <p class="hint" id=format!("{id}-hint")>{text}</p> })}
            {error}
            {children()}
        </div>
    }
}

/// Hint first, then error, as they stand on the page.
fn described_by(id: &str, hint: bool, error: bool) -> Option<String> {
    match (hint, error) {
        (false, false) => None,
        (true, false) => Some(format!("{id}-hint")),
        (false, true) => Some(format!("{id}-error")),
        (true, true) => Some(format!("{id}-hint {id}-error")),
    }
}
