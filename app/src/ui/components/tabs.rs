use leptos::prelude::*;

/// Ways to look at a page: where each leads, its name, and whether it is the one that is shown.
#[component]
pub fn Tabs(
    label: &'static str,
    #[prop(default = "tabs")] class: &'static str,
    tabs: impl IntoIterator<Item = (String, &'static str, bool)>,
) -> impl IntoView {
    let links = tabs.into_iter().map(|(path, name, shown)| {
        view! { <li><a href=path aria-current=shown.then_some("true")>{name}</a></li> }
    });
    view! { <nav class=class aria-label=label><ul>{links.collect_view()}</ul></nav> }
}
