//! The gallery has every page there is, and draws all that a page can be given: what is read of its pages is read of all.

use std::{fs, io, path::Path};

const GALLERY: &str = include_str!("../gallery.rs");

/// What is chosen in a field, and what comes of a request: no page looks another way for it.
const NO_STATES: &[&str] = &["Asked", "Lifetime", "Outcome", "Period"];

/// All of `folder` and below.
fn sources(folder: &Path) -> io::Result<Vec<String>> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources.extend(self::sources(&path)?);
        } else {
            sources.push(fs::read_to_string(path)?);
        }
    }
    Ok(sources)
}

fn pages() -> io::Result<Vec<String>> {
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/pages"))
}

/// What the domain says of a mailed link, which three pages are given as it is.
const DEAD_LINKS: &str = include_str!("../../../auth/src/one_time/mod.rs");

/// The components that are pages.
fn components(source: &str) -> impl Iterator<Item = &str> {
    let names = source.split("#[component]\npub fn ").skip(1).filter_map(|rest| rest.split('(').next());
    names.filter(|name| name.ends_with("Page"))
}

/// As the gallery would write them: `CodeError::Wrong`.
fn variants(source: &str) -> impl Iterator<Item = String> {
    let enums = source.split("\npub enum ").skip(1).filter_map(|rest| rest.split("\n}").next()?.split_once(" {\n"));
    enums.filter(|(name, _)| !NO_STATES.contains(name)).flat_map(|(name, body)| {
        let lines = body.lines().filter_map(|line| line.strip_prefix("    ")).filter(|line| line.starts_with(char::is_uppercase));
        lines.filter_map(|line| line.split([' ', ',', '(']).next()).map(move |variant| format!("{name}::{variant}"))
    })
}

/// Whether it stands there, and not only as a part of a longer name.
fn names(name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    GALLERY.match_indices(name).any(|(at, _)| !GALLERY[..at].ends_with(word) && !GALLERY[at + name.len()..].starts_with(word))
}

#[test]
fn every_page_stands_in_the_gallery() -> io::Result<()> {
    let pages = pages()?;
    let all: Vec<_> = pages.iter().flat_map(|source| components(source)).collect();
    assert!(all.len() > 40, "{}", all.len());
    let missing: Vec<_> = all.iter().filter(|name| !names(&format!("<{name}"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
    Ok(())
}

#[test]
fn all_that_a_page_can_be_given_stands_in_the_gallery() -> io::Result<()> {
    let pages = pages()?;
    let all: Vec<_> = pages.iter().map(String::as_str).chain([DEAD_LINKS]).flat_map(variants).collect();
    assert!(all.len() > 80, "{}", all.len());
    let missing: Vec<_> = all.iter().filter(|name| !names(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    Ok(())
}
