use leptos::{attr::custom::custom_attribute, prelude::*};

use super::{Glyph, Icon};

/// An address. The browser's own check stays off: its bubbles say less than our errors, and not to everyone.
///
/// `autocomplete` is off where the address is somebody else's: browsers offer one's own.
#[component]
pub fn EmailField(
    #[prop(default = "Email address")] label: &'static str,
    value: String,
    error: Option<String>,
    #[prop(default = "email")] autocomplete: &'static str,
) -> impl IntoView {
    view! { <Input id="email" kind="email" label value error autocomplete literal=true maxlength=254/> }
}

/// A six-digit code: one input, so that pasting, autofill and screen readers work. Spaces and hyphens are welcome, as mails and
/// people write them. What was typed is never sent back.
///
/// `summarised`: an [`ErrorSummary`](super::ErrorSummary) takes the focus instead.
#[component]
pub fn CodeField(
    #[prop(default = "6-digit code")] label: &'static str,
    #[prop(optional)] hint: Option<&'static str>,
    error: Option<String>,
    #[prop(optional)] summarised: bool,
) -> impl IntoView {
    view! {
        <Input
            id="code" class="code" label hint error digits=true autocomplete="one-time-code" maxlength=9 focused=!summarised
        />
    }
}

/// A backup code. No slots: people copy it with its hyphens or without, and with what stood around it. Nothing may change a
/// letter on the way, and no browser may remember it.
#[component]
pub fn BackupCodeField(error: Option<String>) -> impl IntoView {
    let hint = Some("Like k7qd-m2xw-t9hp. The hyphens don't matter.");
    view! { <Input id="code" class="mono" label="Backup code" hint error literal=true maxlength=64/> }
}

/// A few words of one's own. `summarised` as in [`CodeField`].
#[component]
pub fn TextField(
    id: &'static str,
    label: &'static str,
    #[prop(optional)] hint: Option<&'static str>,
    value: String,
    maxlength: usize,
    #[prop(default = "off")] autocomplete: &'static str,
    #[prop(optional_no_strip)] error: Option<String>,
    #[prop(optional)] summarised: bool,
) -> impl IntoView {
    view! { <Input id label hint value error autocomplete maxlength focused=!summarised/> }
}

/// What to look for in a list: one of the fields above it.
#[component]
pub fn SearchField(id: &'static str, label: &'static str, value: String, maxlength: usize) -> impl IntoView {
    view! { <Input id label value error=None literal=true maxlength/> }
}

/// A field of one line. `literal`: no keyboard may capitalise or correct what is typed. `focused`: an error takes the focus.
#[component]
fn Input(
    id: &'static str,
    label: &'static str,
    #[prop(default = "text")] kind: &'static str,
    #[prop(optional)] class: Option<&'static str>,
    #[prop(optional_no_strip)] hint: Option<&'static str>,
    #[prop(optional, into)] value: Option<String>,
    error: Option<String>,
    #[prop(optional)] digits: bool,
    #[prop(optional)] literal: bool,
    #[prop(default = "off")] autocomplete: &'static str,
    maxlength: usize,
    #[prop(default = true)] focused: bool,
) -> impl IntoView {
    let wrong = error.is_some();
    view! {
        <Field id label hint error>
            <input
                id=id
                name=id
                type=kind
                value=value
                inputmode=digits.then_some("numeric")
                autocomplete=autocomplete
                autocapitalize=literal.then_some("none")
                spellcheck=literal.then_some("false")
                pattern=digits.then_some("[0-9 \\-]*")
                maxlength=maxlength.to_string()
                aria-describedby=described_by(id, hint.is_some(), wrong)
                aria-invalid=wrong.then_some("true")
                autofocus={wrong && focused}
                {..custom_attribute("class", class)}
            />
        </Field>
    }
}

/// A box to tick, off at first unless `checked`, with its words in `children`. It sends "on".
#[component]
pub fn Checkbox(
    name: &'static str,
    #[prop(optional)] hint: Option<&'static str>,
    #[prop(optional)] required: bool,
    #[prop(optional)] checked: bool,
    #[prop(optional_no_strip)] error: Option<&'static str>,
    children: Children,
) -> impl IntoView {
    let wrong = error.is_some();
    view! {
        <div class="field">
            {error.map(|text| view! { <ErrorText id=name text=text.to_owned()/> })}
            <div class="check">
                <input
                    id=name
                    name=name
                    type="checkbox"
                    required=required
                    checked=checked
                    aria-describedby=described_by(name, hint.is_some(), wrong)
                    aria-invalid=wrong.then_some("true")
                    autofocus=wrong
                />
                <label for=name>{children()}</label>
                {hint.map(|text| view! { <p class="hint" id=format!("{name}-hint")>{text}</p> })}
            </div>
        </div>
    }
}

/// Why an administrator changes somebody's account.
#[component]
pub fn ReasonField(value: String, maxlength: usize, error: Option<String>) -> impl IntoView {
    view! { <TextField id="reason" label="Reason" hint="Kept in the audit log." value maxlength error/> }
}

/// One of a few: what each sends, and its words.
#[component]
pub fn SelectField(
    id: &'static str,
    label: &'static str,
    options: Vec<(&'static str, &'static str)>,
    chosen: &'static str,
) -> impl IntoView {
    let options =
        options.into_iter().map(move |(value, text)| view! { <option value=value selected=value == chosen>{text}</option> });
    view! {
        <Field id label error=None>
            <div class="select"><select id=id name=id>{options.collect_view()}</select></div>
        </Field>
    }
}

/// Label, hint, error and input, in the order they are read.
#[component]
fn Field(
    id: &'static str,
    label: &'static str,
    #[prop(optional_no_strip, into)] hint: Option<&'static str>,
    error: Option<String>,
    children: Children,
) -> impl IntoView {
    view! {
        <div class="field">
            <label for=id>{label}</label>
            {hint.map(|text| view! { <p class="hint" id=format!("{id}-hint")>{text}</p> })}
            {error.map(|text| view! { <ErrorText id text/> })}
            {children()}
        </div>
    }
}

/// What is wrong with a field: above it, with the id `{id}-error`.
#[component]
pub fn ErrorText(id: &'static str, text: String) -> impl IntoView {
    view! {
        <p class="error" id=format!("{id}-error")>
            <Icon glyph=Glyph::Error/>
            <span><span class="vh">"Error: "</span>{text}</span>
        </p>
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
