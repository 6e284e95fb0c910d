//! One line a check: for people as it happens, for scripts at the end.

use serde::Serialize;
use serde_json::json;

/// What was to be, and what was there instead. Neither holds a token, a code or a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub expected: String,
    pub seen: String,
    /// `X-Request-ID`: where to look in the instance's log.
    pub request_id: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Line {
    name: &'static str,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Ok,
    Failed,
    /// What it needs did not come about.
    Skipped,
}

pub struct Report {
    json: bool,
    say: fn(&str),
    /// Those that are to come, in their order.
    checks: Vec<&'static str>,
    lines: Vec<Line>,
}

impl Report {
    pub fn new(checks: Vec<&'static str>, json: bool, say: fn(&str)) -> Self {
        Self { json, say, checks, lines: Vec::new() }
    }

    /// Tells of a check; `None` where it failed.
    pub fn note<T>(&mut self, name: &'static str, result: Result<T, Failure>) -> Option<T> {
        let (outcome, failure, value) = match result {
            Ok(value) => (Outcome::Ok, None, Some(value)),
            Err(failure) => (Outcome::Failed, Some(failure), None),
        };
        let (expected, seen) = failure.as_ref().map(|failure| (failure.expected.clone(), failure.seen.clone())).unzip();
        self.add(Line { name, outcome, expected, seen, request_id: failure.and_then(|failure| failure.request_id) });
        value
    }

    fn add(&mut self, line: Line) {
        if !self.json {
            (self.say)(&in_words(&line));
        }
        self.lines.push(line);
    }

    /// Whether every check was made, and none failed.
    pub fn finish(mut self, base_url: &str) -> bool {
        for name in std::mem::take(&mut self.checks) {
            if !self.lines.iter().any(|line| line.name == name) {
                self.add(Line { name, outcome: Outcome::Skipped, expected: None, seen: None, request_id: None });
            }
        }
        let count = |outcome| self.lines.iter().filter(|line| line.outcome == outcome).count();
        let (failed, skipped) = (count(Outcome::Failed), count(Outcome::Skipped));
        let ok = failed + skipped == 0;
        let last = if self.json {
            json!({ "base_url": base_url, "ok": ok, "checks": self.lines }).to_string()
        } else {
            format!("{} checks, {failed} failed, {skipped} skipped.", self.lines.len())
        };
        (self.say)(&last);
        ok
    }
}

fn in_words(line: &Line) -> String {
    match line.outcome {
        Outcome::Ok => format!("ok       {}", line.name),
        Outcome::Skipped => format!("skipped  {}", line.name),
        Outcome::Failed => {
            let (expected, seen) = (line.expected.as_deref().unwrap_or_default(), line.seen.as_deref().unwrap_or_default());
            let id = line.request_id.as_ref().map(|id| format!(" (X-Request-ID {id})")).unwrap_or_default();
            format!("FAILED   {}: expected {expected}; saw {seen}{id}", line.name)
        }
    }
}
