//! One line a check: for people as it happens, for scripts at the end.

use serde::Serialize;
use serde_json::json;

/// What was to be, and what was there instead. Neither holds a token, a code or a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    pub expected: String,
    pub seen: String,
    /// `X-Request-ID`: where to look in the instance's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Failure {
    /// Where there was no answer.
    pub fn new(expected: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { expected: expected.into(), seen: seen.into(), request_id: None }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Line {
    name: &'static str,
    outcome: Outcome,
    #[serde(flatten)]
    failure: Option<Failure>,
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
        self.add(Line { name, outcome, failure });
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
                self.add(Line { name, outcome: Outcome::Skipped, failure: None });
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
    match &line.failure {
        None if line.outcome == Outcome::Ok => format!("ok       {}", line.name),
        None => format!("skipped  {}", line.name),
        Some(Failure { expected, seen, request_id }) => {
            let id = request_id.as_ref().map(|id| format!(" (X-Request-ID {id})")).unwrap_or_default();
            format!("FAILED   {}: expected {expected}; saw {seen}{id}", line.name)
        }
    }
}
