use auth::primitives::cursor::{Cursor, Page};
use leptos::prelude::*;

/// Which part of a list this is, and the ways to the parts beside it: each with its name, and where it leads if anywhere. Neither stands
/// where the list has no other part.
#[component]
pub fn Pager(
    #[prop(into)] text: String,
    back: (&'static str, Option<String>),
    forth: (&'static str, Option<String>),
) -> impl IntoView {
    if back.1.is_none() && forth.1.is_none() {
        return view! { <div class="paging"><p>{text}</p></div> }.into_any();
    }
    let links = [back, forth].map(|(name, path)| match path {
        Some(path) => view! { <a class="button sm" href=path>{name}</a> }.into_any(),
        // A link that leads nowhere has no `href`; its role tells screen readers that it would be one.
        None => view! { <a class="button sm" role="link" aria-disabled="true">{name}</a> }.into_any(),
    });
    view! { <nav class="paging" aria-label="Pages"><p>{text}</p><div>{links}</div></nav> }.into_any()
}

/// Cursors to the pages beside one of a list by time.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    pub newer: Option<String>,
    pub older: Option<String>,
}

impl<T> From<&Page<T>> for Beside {
    fn from(page: &Page<T>) -> Self {
        let [newer, older] = [page.newer, page.older].map(|cursor| cursor.as_ref().map(Cursor::to_string));
        Self { newer, older }
    }
}

/// The ways to the pages beside one of a list by time: `path` leads to a cursor's. Nothing where the list has one page.
#[component]
pub fn NewerOlder(
    #[prop(default = "Newest first")] text: &'static str,
    beside: Beside,
    path: impl Fn(&str) -> String,
) -> impl IntoView {
    let Beside { newer, older } = beside;
    (newer.is_some() || older.is_some()).then(|| {
        let [newer, older] = [newer, older].map(|cursor| cursor.map(|cursor| path(&cursor)));
        view! { <Pager text back=("Newer", newer) forth=("Older", older)/> }
    })
}
