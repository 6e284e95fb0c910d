//! The log of a running server: each line one object, with the fields that are documented and no others; and every line with a name of its
//! own, as the sources write it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;
use testkit::{Browser, Database, SmtpSink};

use super::{
    ORIGIN, Server,
    docs::{in_backticks, read, repository},
};

/// What `docs/logs.md` says: the fields by the line's `message`. Those before the first heading of a line are every line's.
fn documented() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let mut fields: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut of = "";
    for line in include_str!("../../../../docs/logs.md").lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            of = heading.trim_matches('`');
        } else if let Some((field, _)) = line.strip_prefix("| `").and_then(|rest| rest.split_once('`')) {
            fields.entry(of).or_default().insert(field);
        }
    }
    fields
}

/// The fields of an object, those of its span as `span.…`.
fn written(line: &Value) -> BTreeSet<String> {
    let object = line.as_object().expect("an object");
    let own = object.keys().filter(|key| *key != "span").cloned();
    let span = object.get("span").and_then(Value::as_object).into_iter().flat_map(|span| span.keys());
    own.chain(span.map(|key| format!("span.{key}"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_is_an_object_with_the_documented_fields() {
    let (database, sink) = (Database::new().await, SmtpSink::start().await);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.log", database.name));
    let log = fs::File::create(&path).expect("a file");
    let variables = [("EMAIL_SMTP", sink.url()), ("LOG_FORMAT", "json".to_owned()), ("LIMIT_LINK_ADRESS", "1/1m".to_owned())];
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let server = Server::start_logging_to(&database, &variables, Stdio::from(log)).await;
    let mut browser = Browser::new(server.address, ORIGIN);
    browser.post("/login", &[("email", "mara@example.org")]).await;
    let code = sink.nth_to("mara@example.org", 1).await.code();
    browser.post("/login/sent", &[("code", &code)]).await;
    browser.get("/nowhere").await;
    server.terminate();
    assert!(server.wait().await.success());
    let text = fs::read_to_string(&path).expect("written");
    fs::remove_file(&path).expect("removed");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();

    let documented = documented();
    let every = &documented["Every line"];
    let mut seen: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for line in &lines {
        seen.entry(line["message"].as_str().unwrap_or_default()).or_default().extend(written(line));
    }
    for message in ["answered", "event"] {
        let own: BTreeSet<String> = seen[message].iter().filter(|field| !every.contains(field.as_str())).cloned().collect();
        assert_eq!(own.iter().map(String::as_str).collect::<BTreeSet<_>>(), documented[message], "{message}");
    }
    let mistyped = lines.iter().find(|line| line["message"] == "config.warning").and_then(|line| line["warning"].as_str());
    assert!(mistyped.is_some_and(|warning| warning.contains("did you mean LIMIT_LINK_ADDRESS?")), "{text}");
    let always = ["timestamp", "level", "target"];
    assert!(lines.iter().all(|line| always.iter().all(|field| line[*field].is_string())), "{text}");
    let in_spans = seen.values().flatten().filter(|field| field.starts_with("span."));
    assert!(in_spans.clone().count() > 3 && in_spans.into_iter().all(|field| every.contains(field.as_str())), "{text}");

    for line in &lines {
        let id = line["span"]["request_id"].as_str().or(line["request_id"].as_str());
        let caused = line["message"] == "answered" || (line["message"] == "event" && line["event"] != "mail.sent");
        assert!(!caused || id.is_some_and(|id| id.len() == 36), "without its request's id: {line}");
        assert!(
            line["message"] != "event" || line["event"] == "mail.sent" || line["span"]["request_id"] == line["request_id"],
            "{line}"
        );
    }

    let answered = |route: &str, method: &str| {
        let found = lines
            .iter()
            .find(|line| line["message"] == "answered" && line["span"]["route"] == route && line["span"]["method"] == method);
        found.unwrap_or_else(|| panic!("{method} {route}: {text}"))
    };
    let asks = answered("/login", "POST");
    assert!(asks["queries"].as_u64().is_some_and(|count| count >= 3), "{asks}");
    let (queries, whole) = (asks["query_ms"].as_f64().expect("a number"), asks["duration_ms"].as_f64().expect("a number"));
    assert!(queries > 0.0 && queries <= whole, "{asks}");
    assert_eq!(answered("unmatched", "GET")["queries"], 0);
    for private in ["mara", "example.org", code.as_str()] {
        assert!(!text.contains(private), "{private}: {text}");
    }
    // A statement that took over a second, on a machine with much to do, is named in a warning.
    let quick = lines.iter().filter(|line| line["target"] != "sqlx::query").map(ToString::to_string);
    for line in quick {
        assert!(!line.contains("insert into") && !line.contains("select "), "{line}");
    }
}

/// The Rust files of a folder and of those in it.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("readable").path());
    let files = entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|kind| kind == "rs")).collect()
}

/// What a call passes: the pieces between its commas, up to the parenthesis that closes it.
fn arguments(call: &str) -> Vec<&str> {
    let (mut found, mut begin, mut depth, mut quoted, mut before) = (Vec::new(), 0, 0, false, ' ');
    for (at, c) in call.char_indices() {
        if c == '"' && before != '\\' {
            quoted = !quoted;
        }
        before = c;
        match c {
            _ if quoted => {}
            ',' | ')' if depth == 0 => {
                found.push(call[begin..at].trim());
                begin = at + 1;
                if c == ')' {
                    break;
                }
            }
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
    }
    found
}

/// A line that the program writes: its dotted name, or its message where it has none; the level, the fields.
type Written = (String, String, BTreeSet<String>);

fn is_name(text: &str) -> bool {
    text.contains('.') && text.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'.' | b'_'))
}

/// The lines that a source writes, without those of its tests.
fn written_by(source: &str) -> Vec<Written> {
    let source = source.split("\n#[cfg(test)]\nmod ").next().unwrap_or(source);
    let source = source.split("\n#[cfg(test)]\npub mod ").next().unwrap_or(source);
    let mut found = Vec::new();
    for (at, path) in source.match_indices("tracing::") {
        let Some((level, call)) = source[at + path.len()..].split_once("!(") else { continue };
        if !["error", "warn", "info", "debug", "trace"].contains(&level) {
            continue;
        }
        let (messages, fields): (Vec<&str>, Vec<&str>) =
            arguments(call).into_iter().filter(|argument| !argument.is_empty()).partition(|argument| argument.starts_with('"'));
        let Some(message) = messages.first().map(|message| message.trim_matches('"')) else { continue };
        let name = message.split(':').next().filter(|name| is_name(name)).unwrap_or(message);
        let fields = fields.iter().filter_map(|field| field.split('=').next());
        let fields: BTreeSet<String> = fields.map(|field| field.trim().trim_start_matches(['%', '?']).to_owned()).collect();
        found.push((name.to_owned(), level.to_uppercase(), fields));
    }
    // The table of periodic jobs, whose failures are logged by one line: `Job(name, period, failure, …)`.
    for (at, path) in source.match_indices(" Job(\"") {
        let failed = arguments(&source[at + path.len() - 1..])[2].trim_matches('"');
        if is_name(failed) {
            found.push((failed.to_owned(), "WARN".to_owned(), BTreeSet::from(["error".to_owned()])));
        }
    }
    found
}

/// Those in a table of `docs/logs.md`.
fn in_the_table(heading: &str) -> BTreeSet<Written> {
    let (_, section) = include_str!("../../../../docs/logs.md").split_once(&format!("## {heading}\n")).expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").collect();
        let [name, level, _, fields] = cells[..] else { panic!("{row}") };
        let fields: BTreeSet<String> = in_backticks(fields).map(str::to_owned).collect();
        (name.trim_matches('`').to_owned(), level.trim_matches('`').to_owned(), fields)
    })
    .collect()
}

#[test]
fn every_line_is_documented() {
    let files = ["auth/src", "app/src", "server/src"].into_iter().flat_map(|folder| sources(&repository().join(folder)));
    // Two have a section of their own, which a running server is compared with.
    let own = ["answered", "event"];
    let lines = files.flat_map(|file| written_by(&read(&file))).filter(|(name, ..)| !own.contains(&name.as_str()));
    let (named, others): (BTreeSet<Written>, BTreeSet<Written>) = lines.partition(|(name, ..)| is_name(name));
    assert!(named.len() > 30 && others.len() > 15, "{named:?} {others:?}");
    for (written, heading) in [(named, "Lines with a name"), (others, "Lines without a name")] {
        let documented = in_the_table(heading);
        let missing: Vec<&Written> = written.difference(&documented).collect();
        let gone: Vec<&Written> = documented.difference(&written).collect();
        assert!(missing.is_empty() && gone.is_empty(), "docs/logs.md lacks {missing:?}, and has what is not there: {gone:?}");
    }
}
