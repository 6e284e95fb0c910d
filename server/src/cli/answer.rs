//! What a command answers: in words for people, in JSON for scripts.

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write as _},
};

use auth::identity::ActionError;
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::Output;

pub struct Answer {
    text: String,
    json: Value,
    /// Why the command failed although its answer is whole.
    failed: Option<String>,
}

impl Answer {
    pub fn new(text: impl Into<String>, json: Value) -> Self {
        Self { text: text.into(), json, failed: None }
    }

    pub fn or_fail(self, failed: Option<String>) -> Self {
        Self { failed, ..self }
    }

    /// # Errors
    /// If the command failed, after the answer was printed.
    pub fn print(self, output: Output) -> anyhow::Result<()> {
        if output.json {
            say(self.json);
        } else {
            say(self.text);
        }
        self.failed.map_or(Ok(()), |why| Err(anyhow::Error::msg(why)))
    }
}

/// A line of an answer. A reader may have seen enough (`latchkey doctor | head`): the command goes on, and ends as it would.
///
/// # Panics
/// If the line can't be written for another reason: an incomplete answer must not look complete.
pub fn say(line: impl Display) {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        other => other.expect("standard output can be written to"),
    }
}

/// One line each, or `none` if there are none.
pub fn lines<T>(rows: &[T], line: impl Fn(&T) -> String, none: &str) -> String {
    if rows.is_empty() { none.to_owned() } else { rows.iter().map(line).collect::<Vec<_>>().join("\n") }
}

pub fn rfc3339(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}

/// An action that was refused, in words. `nothing`: it would have changed nothing.
pub fn refused(nothing: impl Display) -> impl FnOnce(ActionError) -> anyhow::Error {
    move |error| match error {
        ActionError::Nothing => anyhow::anyhow!("{nothing}"),
        ActionError::NoSuchUser => anyhow::anyhow!("There is no account with this address."),
        ActionError::LastAdmin => {
            anyhow::anyhow!("This is the last administrator. Make somebody else one first (latchkey user promote).")
        }
        other => other.into(),
    }
}

pub fn refusal(error: ActionError) -> anyhow::Error {
    refused(ActionError::Nothing)(error)
}
