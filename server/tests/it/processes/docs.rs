//! What the documentation says to do can be done: its links lead somewhere, and the files it names are there.
//! Every alert leads to a page: whoever reads it is woken at night and tries nothing out.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use sqlx::{AssertSqlSafe, Executor as _};
use testkit::Database;

pub(super) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(super) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(super) fn pages_in(folder: &str) -> Vec<(PathBuf, String)> {
    let files = fs::read_dir(repository().join(folder)).expect("the folder").map(|file| file.expect("readable").path());
    let pages: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|kind| kind == "md")).map(|path| (path.clone(), read(&path))).collect();
    assert!(!pages.is_empty());
    pages
}

fn runbooks() -> Vec<(PathBuf, String)> {
    pages_in("docs/runbooks")
}

/// All that people read to run it.
fn pages() -> Vec<(PathBuf, String)> {
    ["docs", "docs/runbooks", "."].into_iter().flat_map(pages_in).collect()
}

/// What stands in fences of a kind, and the page without any fence.
pub(super) fn fenced(page: &str, kind: &str) -> (Vec<String>, String) {
    let (mut inside, mut outside) = (Vec::new(), String::new());
    for (n, part) in page.split("```").enumerate() {
        if n % 2 == 0 {
            outside += part;
        } else if let Some((_, text)) = part.split_once('\n').filter(|(name, _)| *name == kind) {
            inside.push(text.to_owned());
        }
    }
    (inside, outside)
}

pub(super) fn in_backticks(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

const FOLDERS: [&str; 12] =
    ["app", "auth", "docs", "end2end", "examples", "migrations", "ops", "public", "server", "style", "support", ".ci"];

#[test]
fn every_alert_has_its_page_and_every_page_its_alert() {
    let rules = read(&repository().join("ops/prometheus/latchkey.rules.yml"));
    let (mut alerts, mut named) = (Vec::new(), BTreeSet::new());
    for line in rules.lines().map(str::trim) {
        if let Some(alert) = line.strip_prefix("- alert: ") {
            alerts.push(alert);
        }
        if let Some(page) = line.strip_prefix("runbook: docs/runbooks/") {
            let text = read(&repository().join("docs/runbooks").join(page));
            assert!(text.starts_with(&format!("# {}\n", alerts.last().expect("an alert before"))), "{page} is about another");
            assert!(named.insert(page), "{page} stands twice");
        }
    }
    assert_eq!(alerts.len(), named.len(), "an alert without a page");
    for (path, _) in runbooks() {
        let page = path.file_name().and_then(|name| name.to_str()).expect("a name");
        assert!(named.contains(page), "no alert leads to {page}");
    }
}

/// What a page's headings are called in links.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    headings.map(|heading| heading.chars().filter(kept).collect::<String>().replace(' ', "-")).collect()
}

#[test]
fn every_page_and_file_is_there() {
    let routes = read(&repository().join("app/src/routes.rs"));
    let mut faults = Vec::new();
    for (path, page) in pages() {
        let mut fault = |what: String| faults.push(format!("{}: {what}", path.display()));
        let (_, prose) = fenced(&page, "sh");
        for quoted in in_backticks(&prose) {
            // Of a path only what can't be meant otherwise: one that begins with a folder of ours.
            let folder = quoted.split_once('/').map(|(folder, _)| folder);
            let is_path = folder.is_some_and(|folder| FOLDERS.contains(&folder)) && !quoted.contains(['*', '{', ' ']);
            if is_path && !repository().join(quoted).exists() {
                fault(format!("there is no {quoted}"));
            }
            if quoted.starts_with("/admin") && !routes.contains(&format!("\"{quoted}\"")) {
                fault(format!("there is no {quoted}"));
            }
        }
        let here = path.parent().expect("a folder");
        for (_, rest) in prose.match_indices("](").map(|(n, _)| prose.split_at(n + 2)) {
            let link = rest.split(')').next().expect("a part");
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { here.join(file) };
            if link.contains(':') {
                continue;
            }
            if !target.exists() {
                fault(format!("it leads to {link}, which isn't there"));
            } else if !heading.is_empty() && !anchors(&read(&target)).contains(heading) {
                fault(format!("it leads to {link}, and there is no such heading"));
            }
        }
        for rest in ["src=\"", "srcset=\""].iter().flat_map(|name| prose.split(name).skip(1)) {
            let picture = rest.split('"').next().expect("a part");
            if !here.join(picture).is_file() {
                fault(format!("it shows {picture}, which isn't there"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Spaces as they come, and a table's bars as they are read.
fn plain(text: &str) -> String {
    text.replace("\\|", "|").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_line_of_the_checklist_is_answered() {
    let docs = repository().join("docs");
    let (checklist, page) = (read(&docs.join("rollout-checklist.txt")), read(&docs.join("checklist.md")));
    let (answers, mut lines) = (plain(&page), 0);
    for line in checklist.lines().map(|line| line.trim().trim_start_matches(['-', '#', ' '])) {
        let heading = line.starts_with("Metrics to emit") || line.starts_with("Suggested alerts");
        let line = plain(if heading { line.trim_end_matches(':').split('(').next().expect("a part") } else { line });
        assert!(line == "```" || answers.contains(&line), "docs/checklist.md lacks: {line}");
        lines += 1;
    }
    assert!(lines > 80, "{lines}");
    // What stands beside a line of it names something.
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches(['|', ' ']).splitn(2, " | ").collect();
        let names = cells.get(1).is_some_and(|answer| answer.contains('`') || answer.contains("]("));
        let heading = cells[0] == "the checklist" || cells[0].ends_with("(example)") || cells[0].ends_with("(psql example)");
        assert!(names || heading, "{row}");
    }
    // And the smoke test makes the checks that it is said to make.
    let (smoke, _) = page.split_once("## 4)").expect("a section");
    let (_, smoke) = smoke.split_once("## 3)").expect("a section");
    let makes = read(&repository().join("support/smoke/src/lib.rs"));
    let (_, checks) = smoke.split_once("| a check of its |").expect("a table");
    for check in checks.lines().filter_map(|row| row.rsplit_once(" | ")).flat_map(|(_, cell)| in_backticks(cell)) {
        assert!(check.starts_with("--") || makes.contains(&format!("\"{check}\"")), "latchkey smoke does not look whether {check}");
    }
}

#[tokio::test]
async fn every_query_runs_as_the_application() {
    let database = Database::new().await;
    let pool = database.pool_of(1).await;
    for (path, page) in ["docs", "docs/runbooks"].into_iter().flat_map(pages_in) {
        for statement in fenced(&page, "sql").0.iter().flat_map(|text| text.split(';')).filter(|text| !text.trim().is_empty()) {
            // The roles and the database itself: `docs_commands.rs`.
            let before = statement.trim_start().starts_with("create ");
            if !before && let Err(error) = pool.execute(AssertSqlSafe(statement)).await {
                panic!("{}: {statement}: {error}", path.display());
            }
        }
    }
}
