//! `latchkey config check`: what `serve` would see.

use std::{fmt::Write as _, process::ExitCode};

use serde_json::json;

use super::{Environment, Examined, Setting, examine};
use crate::cli::say;

/// Every value and its source, secrets as `***`. Also what is mistaken stands here, so that it can be seen.
pub fn describe(environment: &Environment) -> Vec<Setting> {
    examine(environment).settings
}

/// Prints the configuration; mistakes and warnings go where `serve` would print them. Fails where `serve` would.
pub fn check_command(environment: &Environment, json: bool) -> ExitCode {
    let examined = examine(environment);
    if json {
        say(as_json(&examined));
    } else {
        say(as_table(&examined.settings).trim_end());
        eprint!("{}", complaints(&examined));
    }
    if examined.config.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

pub(super) fn as_table(settings: &[Setting]) -> String {
    let mut table = String::new();
    for Setting { name, value, source } in settings {
        let source = match source {
            super::Source::Default => "default",
            super::Source::Environment => "environment",
            super::Source::File => "file",
        };
        let value = value.as_deref().unwrap_or("-");
        writeln!(table, "{name:<30}  {source:<11}  {value}").expect("a String takes everything");
    }
    table
}

pub(super) fn complaints(examined: &Examined) -> String {
    let warnings = examined.warnings.iter().map(|warning| format!("warning: {warning}\n"));
    let mistakes =
        examined.config.as_ref().err().into_iter().flat_map(|mistakes| mistakes.iter().map(|mistake| format!("{mistake}\n")));
    warnings.chain(mistakes).collect()
}

pub(super) fn as_json(examined: &Examined) -> serde_json::Value {
    json!({
        "ok": examined.config.is_ok(),
        "settings": examined.settings,
        "warnings": examined.warnings,
        "mistakes": examined.config.as_ref().err().into_iter().flat_map(super::reader::Mistakes::iter).collect::<Vec<_>>(),
    })
}
