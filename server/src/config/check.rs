//! What `latchkey config check` tells: what `serve` would see.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Examined, Mistake, Mistakes, Setting};

impl Examined {
    /// Every value and its source, secrets as `***`. Also what is mistaken stands here, so that it can be seen.
    pub fn table(&self) -> String {
        self.settings.iter().fold(String::new(), |mut table, Setting { name, value, source }| {
            let (source, value) = (<&str>::from(source), value.as_deref().unwrap_or("-"));
            writeln!(table, "{name:<30}  {source:<11}  {value}").expect("a String takes everything");
            table
        })
    }

    /// Warnings and mistakes, one a line.
    pub fn complaints(&self) -> String {
        let warnings = self.warnings.iter().map(|warning| format!("warning: {warning}\n"));
        warnings.chain(self.mistakes().map(|mistake| format!("{mistake}\n"))).collect()
    }

    pub fn json(&self) -> Value {
        json!({
            "ok": self.config.is_ok(),
            "settings": self.settings,
            "warnings": self.warnings,
            "mistakes": self.mistakes().collect::<Vec<_>>(),
        })
    }

    fn mistakes(&self) -> impl Iterator<Item = &Mistake> {
        self.config.as_ref().err().into_iter().flat_map(Mistakes::iter)
    }
}
