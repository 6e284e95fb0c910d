//! The help center: what its articles say, and searching them. `build.rs` makes the table from `help/*.md`, and a constant for
//! each article and heading, by which pages link to the one that answers them.
//! No pages: those that show articles are in [`crate::pages::help`].
//! To write one: a file in `help/`, named as its address. Above the text stand its `title`, its `summary`, its `group` and place in
//! it (`order`), other words people look for it with (`keywords`), the pages of `examples/gallery.rs` that link to it (`answers`: "page",
//! or "page#heading"), and `related` articles. Words of a button or page stand in “quotation marks”, to the letter; a test compares them
//! with the pages.

mod search;
mod terms;

pub use search::{Found, MAX_QUERY, search};

#[derive(Debug)]
pub struct Group {
    /// Of its heading on the index.
    pub id: &'static str,
    pub title: &'static str,
}

#[derive(Debug)]
pub struct Article {
    pub slug: &'static str,
    pub path: &'static str,
    pub title: &'static str,
    pub summary: &'static str,
    pub group: &'static Group,
    /// Pages that link here, by their names in the gallery, and to which heading: "page", or "page#heading".
    pub answers: &'static [&'static str],
    /// Slugs.
    pub related: &'static [&'static str],
    /// Ids and texts.
    pub headings: &'static [(&'static str, &'static str)],
    pub parts: &'static [Part],
    /// Of the title, the keywords and headings, the summary and the text; each once, in order.
    words: [&'static [&'static str]; 4],
}

#[derive(Debug)]
pub enum Part {
    Html(&'static str),
    Notice { title: &'static str, html: &'static str },
}

include!(concat!(env!("OUT_DIR"), "/help.rs"));

pub fn find(slug: &str) -> Option<&'static Article> {
    ARTICLES.iter().find(|article| article.slug == slug)
}

/// What a link says that leads to an article, to its top or to one of its headings.
pub fn title(path: &str) -> &'static str {
    let path = path.split('#').next().unwrap_or_default();
    ARTICLES.iter().find(|article| article.path == path).map_or("Help", |article| article.title)
}
