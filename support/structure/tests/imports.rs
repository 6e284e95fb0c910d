//! Imports go down only, and no files lead to each other in a circle. What lies right below a crate's `src`, a folder or a file, is a
//! floor; which lies on which stands here.

use std::{collections::BTreeSet, path::Path};

use structure::{Module, Sources, circles};

/// From the bottom up.
const AUTH: &[&str] = &[
    "primitives",
    "crypto",
    "policy",
    "identity",
    "event",
    "outbox",
    "users",
    "sessions",
    "factors",
    "limits",
    "audit",
    "reporting",
    "flag",
    "one_time",
    "api_keys",
    "operations",
    "sign_in",
    "rollout",
    "self_service",
    "delivery",
    "administration",
];

const APP: &[&str] = &["routes", "help", "ui", "http", "mails", "pages", "router"];

const SERVER: &[&str] = &["config", "telemetry", "database", "http", "mail", "jobs", "api", "router", "cli", "serve"];

#[test]
fn server() {
    check("server", SERVER);
}

#[test]
fn app() {
    check("app", APP);
}

#[test]
fn auth() {
    check("auth", AUTH);
}

fn check(name: &str, floors: &[&str]) {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name).join("src");
    let sources = Sources::read(&src).expect("the sources can be read");
    let (placed, there) = (floors.iter().copied().collect(), sources.floors());
    assert_eq!(there, placed, "{name}: what lies below src, and what has a place in this test");
    assert_eq!(wrong(&sources, floors), BTreeSet::new(), "{name}");
}

/// Arrows up and circles.
fn wrong(sources: &Sources, floors: &[&str]) -> BTreeSet<String> {
    let imports = sources.imports();
    let height = |module: &Module| module.first().and_then(|floor| floors.iter().position(|known| known == floor));
    let up = imports.iter().filter(|import| !import.from.is_empty() && height(&import.from) < height(&import.to));
    let up = up.map(|import| format!("{} imports {} above it", import.from.join("::"), import.to.join("::")));
    let circles = circles(&imports).into_iter();
    let circles = circles.map(|circle| {
        let files: Vec<String> = circle.iter().map(|module| module.join("::")).collect();
        format!("{} lead to each other", files.join(", "))
    });
    up.chain(circles).collect()
}

fn of(files: &[(&str, &str)]) -> BTreeSet<String> {
    let mut sources = Sources::default();
    for (module, source) in files {
        sources.add(module.split("::").filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect(), source);
    }
    wrong(&sources, &["cellar", "ground", "roof"])
}

#[test]
fn one_arrow_up_is_found_however_it_is_written() {
    let house = |cellar| {
        let root = "mod cellar; macro_rules! floors { ($($a:ident: $b:ident),*) => {} } floors! {\n/// Of it\nroof: Roof,\n}";
        of(&[("", root), ("cellar", ""), ("cellar::pump", cellar), ("roof", "//! Of it"), ("roof::tile", "")])
    };
    for up in [
        "use crate::roof::Roof;",
        "use crate::{roof, x};",
        "pub use super::super::roof::{a, b as c};",
        "fn f() -> crate::roof::Roof { .. }",
        "fn f(auth: &Auth) { auth.roof().slide() }",
        "fn f() { view! { <a>{super::super::roof::f(\"\\\"\", '\"', '\\'')}</a> } }",
        "#[cfg(test)] mod tests { use crate::ground; } use crate::roof;",
        "#[cfg(test)] use crate::{ground}; const C: &str = r#\"\"#; use crate::roof;",
    ] {
        assert_eq!(house(up), BTreeSet::from(["cellar::pump imports roof above it".to_owned()]), "{up}");
    }
    assert_eq!(house("use crate as house; fn f() { house::roof::tile::f() }").len(), 1);
    for right in [
        "// use crate::roof;",
        "/* /* */ use crate::roof; */",
        "const A: &str = \"crate::roof::Roof\"; const B: &str = r#\"\"crate::roof::Roof\"#;",
        "#[cfg(test)]\nmod tests { use crate::roof::Roof; }",
        "use super::Cellar; fn roof() { self.roof.x(); f(roof()) }",
        "use std::roof;",
    ] {
        assert_eq!(house(right), BTreeSet::new(), "{right}");
    }
    assert_eq!(of(&[("cellar", ""), ("roof", "use crate::cellar;")]), BTreeSet::new(), "down");
}

#[test]
fn circles_are_found_however_long() {
    let circle = |last| {
        of(&[
            ("ground", "mod a;"),
            ("ground::a", "use super::b;"),
            ("ground::b", "use super::{c::C, Ground};"),
            ("ground::c", last),
        ])
    };
    assert_eq!(circle("use super::a::f;"), BTreeSet::from(["ground::a, ground::b, ground::c lead to each other".to_owned()]));
    assert_eq!(circle("use super::Ground;"), BTreeSet::new(), "a folder's mod.rs is for its files");
}
