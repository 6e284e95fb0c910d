//! The gallery has every page there is: what is read of its pages is read of all.

use std::{fs, io, path::Path};

/// The pages of `folder` and below, by their components.
fn components(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            names.extend(components(&path)?);
            continue;
        }
        let source = fs::read_to_string(path)?;
        let starts = source.split("#[component]\npub fn ").skip(1).filter_map(|rest| rest.split('(').next());
        names.extend(starts.filter(|name| name.ends_with("Page")).map(str::to_owned));
    }
    Ok(names)
}

#[test]
fn every_page_stands_in_the_gallery() -> io::Result<()> {
    let gallery = include_str!("../gallery.rs");
    let all = components(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/pages"))?;
    assert!(all.len() > 40, "{}", all.len());
    let drawn = |name: &str| gallery.split(&format!("<{name}")).skip(1).any(|rest| rest.starts_with(['/', ' ', '\n']));
    let missing: Vec<_> = all.iter().filter(|name| !drawn(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    Ok(())
}
