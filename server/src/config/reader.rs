//! Reads one variable after the other, and notes where each value came from and what is wrong.

use std::fmt;

use serde::Serialize;
use strum::IntoStaticStr;

use super::{
    AppEnv, Environment,
    values::redacted_url,
    variables::{APP_ENV, Row, Variable, Visibility},
};

/// One line of `config check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    pub name: &'static str,
    /// What may be shown of it; `None`: not set.
    pub value: Option<String>,
    pub source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, IntoStaticStr)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Source {
    Default,
    Environment,
    File,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    pub variable: &'static str,
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.variable, self.message)
    }
}

/// Everything that is wrong, one line each. Never empty when returned as an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Mistakes(Vec<Mistake>);

impl Mistakes {
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.0.iter()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (line, mistake) in self.0.iter().enumerate() {
            if line > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

pub(super) struct Reader<'a> {
    environment: &'a Environment,
    pub production: bool,
    settings: Vec<Setting>,
    mistakes: Mistakes,
}

impl<'a> Reader<'a> {
    /// `APP_ENV` decides what all others may be, so it is read first. Where it is mistaken the build's own environment goes on, so that
    /// the other mistakes are still those of the right one.
    pub fn new(environment: &'a Environment, build: AppEnv) -> Self {
        let production = build == AppEnv::Production;
        let mut read = Self { environment, production, settings: Vec::new(), mistakes: Mistakes::default() };
        if let Some(app_env) = read.with_default(&APP_ENV, Some(<&str>::from(build).to_owned())) {
            read.production = app_env == AppEnv::Production;
        }
        read
    }

    /// The value. Where there is none the mistake is noted and a stand-in goes on: no [`super::Config`] is handed out then.
    pub fn value<T>(&mut self, variable: &Variable<T>) -> T {
        self.optional(variable).unwrap_or_else(|| variable.stand_in())
    }

    /// `None`: not set and no default, or mistaken.
    pub fn optional<T>(&mut self, variable: &Variable<T>) -> Option<T> {
        self.with_default(variable, None)
    }

    /// As [`Self::optional`], with a default that depends on other values.
    pub fn with_default<T>(&mut self, variable: &Variable<T>, computed: Option<String>) -> Option<T> {
        let row = &variable.row;
        let default = if self.production { row.production } else { row.development };
        let default = computed.or_else(|| (!default.is_empty()).then(|| default.to_owned()));
        let (found, wrong) = match self.environment.lookup(row.name, row.is_secret(), self.production) {
            Ok(found) => (found.or_else(|| default.map(|text| (text, Source::Default))), None),
            Err(wrong) => (None, Some(wrong)),
        };
        let (text, source) = found.unzip();
        let source = source.unwrap_or(if wrong.is_some() { Source::Environment } else { Source::Default });
        self.settings.push(Setting { name: row.name, value: text.as_deref().map(|text| shown(row, text)), source });
        let example = if row.example.is_empty() { String::new() } else { format!("; write for example {}", row.example) };
        match (text, wrong) {
            (Some(text), _) => {
                let parsed = (variable.parse)(&text);
                let parsed = parsed
                    .and_then(|value| if self.production { (variable.in_production)(&value).map(|()| value) } else { Ok(value) });
                return parsed.map_err(|wrong| self.mistake(row, &[], &format!("{wrong}{example}"))).ok();
            }
            (None, Some(wrong)) => self.mistake(row, &[], &wrong),
            (None, None) if row.required && self.production => {
                self.mistake(row, &[], &format!("is required in production{example}"));
            }
            (None, None) if row.required && !cfg!(feature = "development") => {
                self.mistake(row, &[], &format!("is required: this build has nothing to try it out with{example}"));
            }
            (None, None) => {}
        }
        None
    }

    /// `message` continues a sentence that begins with the variable's name. One mistake, one line: what follows from a mistake in this
    /// variable, or in `others`, is none of its own.
    pub fn mistake(&mut self, row: &Row, others: &[&Row], message: &str) {
        if !others.iter().chain([&row]).any(|row| self.is_mistaken(row)) {
            self.mistakes.0.push(Mistake { variable: row.name, message: printable(message) });
        }
    }

    pub fn is_mistaken(&self, row: &Row) -> bool {
        self.mistakes.0.iter().any(|mistake| mistake.variable == row.name)
    }

    pub fn finish(self) -> (Vec<Setting>, Mistakes) {
        (self.settings, self.mistakes)
    }
}

fn shown(row: &Row, text: &str) -> String {
    match row.visibility {
        Visibility::Public => printable(&without_credentials(text)),
        Visibility::UrlWithPassword => redacted_url(text),
        Visibility::Secret => "***".to_owned(),
    }
}

/// A URL may have a user and password in it where none belongs, and is refused for it.
fn without_credentials(text: &str) -> String {
    let mut pieces = text.split("://");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |shown, piece| {
        let url = piece.split(',').next().unwrap_or_default();
        let (hidden, from) = url.rfind('@').map_or(("", 0), |at| ("***", at));
        shown + "://" + hidden + &piece[from..]
    })
}

/// A value may come from anywhere; it must not move the terminal's cursor or begin a line of its own.
fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut line, c| {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
        line
    })
}
