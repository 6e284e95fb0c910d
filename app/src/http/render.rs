//! From a view to a response: one string, rendered at once, with nothing in it for a script to pick up.

use axum::{
    body::Bytes,
    response::{IntoResponse, Redirect, Response},
};
use http::{StatusCode, header};
use leptos::prelude::*;

use super::error::Answer;

/// Answers with a whole document.
///
/// Never stored: nearly every page is about one person's sign-in, and the back button of a shared computer shows what a
/// browser has kept. Nor changed on the way: a proxy that hides addresses from robots would hide somebody's own.
pub fn page<V: IntoView + 'static>(status: StatusCode, view: impl FnOnce() -> V) -> Response {
    drawn(status, render(view).into())
}

/// As [`page`], of a document that was rendered before: one that is the same for everybody need not be drawn for each.
pub fn drawn(status: StatusCode, html: Bytes) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-store, no-transform")];
    (status, headers, html).into_response()
}

/// Goes on there. `path` is one of ours, or was checked by [`super::return_to`].
pub fn see_other(path: &str) -> Answer {
    Ok(Redirect::to(path).into_response())
}

/// Renders in an owner of its own, without the shared context that would append scripts for hydration.
///
/// Leptos marks the seams between text nodes with `<!>` for hydration. No page hydrates, and no one's text can hold the mark:
/// `<` is escaped in text and attributes alike.
pub fn render<V: IntoView + 'static>(view: impl FnOnce() -> V) -> String {
    let owner = Owner::new_root(None);
    let html = owner.with(|| view().into_view().to_html());
    owner.unset_with_forced_cleanup();
    html.replace("<!>", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_html_and_never_stored() {
        let response = page(StatusCode::GONE, || view! { <p>"Gone"</p> });
        assert_eq!(response.status(), StatusCode::GONE);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store, no-transform");
    }

    #[test]
    fn markers_go_and_text_that_looks_like_one_stays() {
        let typed = || "<!>\"<b>".to_owned();
        let html = render(|| view! { <p title=typed()>"You typed "{typed()}{None::<String>}"."</p> });
        assert_eq!(html, r#"<p title="&lt;!&gt;&quot;&lt;b&gt;">You typed &lt;!&gt;"&lt;b&gt;.</p>"#);
    }
}
