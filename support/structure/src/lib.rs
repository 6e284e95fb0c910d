//! Who imports whom in a crate, read from its sources: `use` lines, paths like `crate::x::y`, and calls of the accessors that hand out a
//! floor (`.rollout()`). Tests are left out, for they may reach anywhere.
//!
//! Here: files, imports, circles. Not here: which floor lies above which (`tests/imports.rs`).

mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use crate::tokens::Token;

/// A file by the names that lead to it: `["audit", "store"]`. The crate's root has none.
pub type Module = Vec<String>;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    pub from: Module,
    pub to: Module,
    pub line: usize,
}

#[derive(Debug, Default)]
pub struct Sources {
    files: BTreeMap<Module, Vec<Token>>,
}

impl Sources {
    /// All of a crate's `src`.
    pub fn read(src: &Path) -> io::Result<Self> {
        let mut sources = Self::default();
        sources.read_folder(src, &Vec::new())?;
        Ok(sources)
    }

    fn read_folder(&mut self, folder: &Path, module: &Module) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let below = || module.iter().cloned().chain([name.clone()]).collect();
            match path.extension() {
                _ if ["main", "test", "tests"].contains(&&*name) => {}
                None if path.is_dir() => self.read_folder(&path, &below())?,
                Some(extension) if extension == "rs" => {
                    let module = if ["mod", "lib"].contains(&&*name) { module.clone() } else { below() };
                    self.add(module, &fs::read_to_string(&path)?);
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub fn add(&mut self, module: Module, source: &str) {
        self.files.insert(module, tokens::without_tests(tokens::of(source)));
    }

    /// The modules of the first level.
    pub fn floors(&self) -> BTreeSet<&str> {
        self.files.keys().filter_map(|module| module.first()).map(String::as_str).collect()
    }

    /// Each once, at the first line that has it. The crate's root is no import: it declares what all share.
    pub fn imports(&self) -> Vec<Import> {
        let accessors = self.accessors();
        let mut found = BTreeMap::new();
        for (from, tokens) in &self.files {
            let calls = tokens.windows(4).filter(|t| t[0].is(".") && t[2].is("(") && t[3].is(")")).filter_map(|call| {
                let to = *accessors.get(&*call[1].text)?;
                // Its own floor's accessor is no import.
                (to.first() != from.first()).then(|| (to.clone(), call[1].line))
            });
            let paths = paths(from, tokens, |module| self.files.contains_key(module));
            let paths = paths.into_iter().filter_map(|(path, line)| Some((self.file_of(&path)?, line)));
            for (to, line) in paths.chain(calls).filter(|(to, _)| to != from) {
                let first = found.entry((from.clone(), to)).or_insert(line);
                *first = line.min(*first);
            }
        }
        found.into_iter().map(|((from, to), line)| Import { from, to, line }).collect()
    }

    /// The file that a path leads into: `audit::store::Row` into `audit::store`.
    fn file_of(&self, path: &[String]) -> Option<Module> {
        (1..=path.len()).rev().map(|n| path[..n].to_vec()).find(|module| self.files.contains_key(module))
    }

    /// The table `floors! { audit: Audit, .. }` of the crate's root: `.audit()` leads into the folder of that name.
    fn accessors(&self) -> BTreeMap<&str, &Module> {
        let Some(root) = self.files.get(&Module::new()) else { return BTreeMap::new() };
        let Some(table) = root.windows(3).position(|t| t[0].is("floors") && t[1].is("!") && t[2].is("{")) else {
            return BTreeMap::new();
        };
        let rows = root[table + 3..].iter().take_while(|token| !token.is("}")).collect::<Vec<_>>();
        let names = rows.windows(2).filter(|pair| pair[1].is(":")).map(|pair| &*pair[0].text);
        names.filter_map(|name| Some((name, self.files.get_key_value(&vec![name.to_owned()])?.0))).collect()
    }
}

/// The paths that a file names, from the crate's root on.
fn paths(from: &Module, tokens: &[Token], exists: impl Fn(&Module) -> bool) -> Vec<(Vec<String>, usize)> {
    let mut found = Vec::new();
    // What `use` brought in under which name.
    let mut names = BTreeMap::<String, Vec<String>>::new();
    let whole = |names: &BTreeMap<String, Vec<String>>, path: &[String]| -> Option<Vec<String>> {
        let first = path.first()?;
        let child = || from.iter().cloned().chain([first.clone()]).collect::<Module>();
        let ups = path.iter().take_while(|name| *name == "super").count();
        let (base, rest) = match first.as_str() {
            "crate" => (Vec::new(), 1),
            "self" => (from.clone(), 1),
            "super" => (from[..from.len().checked_sub(ups)?].to_vec(), ups),
            _ => match names.get(first) {
                Some(known) => (known.clone(), 1),
                None if exists(&child()) => (from.clone(), 0),
                None => return None,
            },
        };
        Some(base.into_iter().chain(path[rest..].iter().cloned()).collect())
    };
    let mut at = 0;
    while at < tokens.len() {
        let line = tokens[at].line;
        if tokens[at].is("use") {
            let mut used = Vec::new();
            at = tokens::use_tree(tokens, at + 1, &[], &mut used);
            for (path, name) in used {
                if let Some(path) = whole(&names, &path) {
                    names.insert(name, path.clone());
                    found.push((path, line));
                }
            }
        } else {
            let path = tokens::path(&tokens[at..]);
            // A single name is no path, and a field is none either.
            if path.len() > 1 && !(at > 0 && tokens[at - 1].is(".")) {
                found.extend(whole(&names, &path).map(|path| (path, line)));
            }
            at += (path.len() * 2).max(2) - 1;
        }
    }
    found
}

/// Files that lead to each other, in the order of their names. A file may use the `mod.rs` of its own folder, which holds what the
/// folder's files share.
pub fn circles(imports: &[Import]) -> Vec<BTreeSet<Module>> {
    let mut reach = BTreeMap::<&Module, BTreeSet<&Module>>::new();
    for import in imports.iter().filter(|import| import.from.split_last().map(|(_, folder)| folder) != Some(&import.to[..])) {
        reach.entry(&import.from).or_default().insert(&import.to);
    }
    loop {
        let mut grown = false;
        for from in reach.keys().copied().collect::<Vec<_>>() {
            let further: BTreeSet<_> = reach[from].iter().filter_map(|to| reach.get(to)).flatten().copied().collect();
            let reached = reach.entry(from).or_default();
            let before = reached.len();
            reached.extend(further);
            grown |= reached.len() > before;
        }
        if !grown {
            break;
        }
    }
    let leads_back = |from: &Module, to: &Module| reach.get(to).is_some_and(|back| back.contains(from));
    let circle = |(from, to): (&&Module, &BTreeSet<&Module>)| -> BTreeSet<Module> {
        to.iter().filter(|to| leads_back(from, to)).map(|file| (*file).clone()).collect()
    };
    let circles: BTreeSet<_> = reach.iter().map(circle).filter(|circle| !circle.is_empty()).collect();
    circles.into_iter().collect()
}
