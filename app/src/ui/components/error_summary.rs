use leptos::prelude::*;

/// What is wrong with a page of two or more fields: under its heading, and focused first. `errors` holds the id of a field and
/// its error; a page with one field goes without, and focuses the field.
#[component]
pub fn ErrorSummary(errors: Vec<(&'static str, String)>) -> impl IntoView {
    let errors = errors.into_iter().map(|(id, text)| view! { <li><a href=format!("#{id}")>{text}</a></li> });
    view! {
        <div class="summary" role="group" aria-labelledby="problem" tabindex="-1" autofocus>
            <h2 id="problem">"There's a problem"</h2>
            <ul>{errors.collect_view()}</ul>
        </div>
    }
}
