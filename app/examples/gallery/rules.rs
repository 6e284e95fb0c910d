//! What holds of every page in every state. What each says is in `end2end/aria_snapshots`.

use super::all;

fn states() -> Vec<(&'static str, String)> {
    let states = all().expect("every page can be drawn");
    states.into_iter().filter(|(name, _)| !name.starts_with("mail-")).collect()
}

/// What stands between the two, each time.
fn between<'a>(html: &'a str, from: &'a str, to: &'a str) -> impl Iterator<Item = &'a str> {
    html.split(from).skip(1).filter_map(move |rest| rest.split(to).next())
}

fn tags<'a>(html: &'a str, with: &'a str) -> impl Iterator<Item = &'a str> {
    html.split('<').filter_map(|rest| rest.split('>').next()).filter(move |tag| tag.contains(with))
}

fn attribute<'a>(tag: &'a str, name: &str) -> &'a str {
    tag.split_once(&format!(" {name}=\"")).and_then(|(_, rest)| rest.split('"').next()).unwrap_or_default()
}

/// A screen reader reads the title first: there an error is said first too.
#[test]
fn the_title_is_the_heading_and_says_first_that_something_is_wrong() {
    for (name, html) in states() {
        let title = between(&html, "<title>", "</title>").next().expect(name);
        let heading = between(&html, "<h1>", "</h1>").next().expect(name).replace("<wbr>", "");
        let wrong =
            html.contains("aria-invalid=\"true\"") || html.contains("class=\"summary\"") || html.contains("<p class=\"error\"");
        let error = if wrong { "Error: " } else { "" };
        assert!(title.starts_with(&format!("{error}{heading} – Latchkey")), "{name}: {title}, {heading}");
    }
}

#[test]
fn what_is_wrong_has_the_focus_and_nothing_else_has() {
    for (name, html) in states() {
        let focused: Vec<&str> = tags(&html, " autofocus").collect();
        let invalid: Vec<&str> = tags(&html, " aria-invalid=\"true\"").collect();
        let summary = tags(&html, "class=\"summary\"").next();
        match (summary, invalid.as_slice()) {
            (Some(summary), _) => assert_eq!(focused, [summary], "{name}"),
            (None, [field]) => assert_eq!(focused, [*field], "{name}"),
            (None, fields) => assert!(fields.is_empty() && focused.is_empty(), "{name}: {focused:?}"),
        }
        for field in invalid {
            let described = attribute(field, "aria-describedby").split(' ').find(|id| id.ends_with("-error"));
            let error = described.unwrap_or_else(|| panic!("{name}: {field}"));
            assert!(html.contains(&format!("id=\"{error}\"")), "{name}: {error}");
        }
    }
}

#[test]
fn every_form_leads_to_a_route() {
    let routes = include_str!("../../src/routes.rs");
    for (name, html) in states() {
        for form in tags(&html, "form ").filter(|tag| tag.starts_with("form ")) {
            assert!(routes.contains(&format!("= \"{}\";", attribute(form, "action"))), "{name}: {form}");
            assert!(matches!(attribute(form, "method"), "post" | "get"), "{name}: {form}");
        }
    }
}

/// The content security policy lets none through.
#[test]
fn there_is_no_script_and_no_style_of_its_own() {
    for (name, html) in states() {
        assert!(!html.contains("<script") && tags(&html, " style=").next().is_none(), "{name}");
        assert!(!html.contains("NaN") && !html.contains("inf%"), "{name}");
    }
}
