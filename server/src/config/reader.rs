//! Reads one variable after the other, and notes where each value came from and what is wrong.

use std::fmt;

use serde::Serialize;

use super::{
    AppEnv, Environment,
    values::{Parsed, redacted_url},
    variables::{Variable, Visibility, variable},
};

/// One line of `config check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    pub name: &'static str,
    /// What may be shown of it; `None`: not set.
    pub value: Option<String>,
    pub source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
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

/// Instead of a value: its mistake is on the list, and the reading goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noted;

pub(super) struct Reader<'a> {
    environment: &'a Environment,
    app_env: AppEnv,
    settings: Vec<Setting>,
    mistakes: Mistakes,
}

impl<'a> Reader<'a> {
    pub fn new(environment: &'a Environment, app_env: AppEnv) -> Self {
        Self { environment, app_env, settings: Vec::new(), mistakes: Mistakes::default() }
    }

    /// Decides the defaults of all others, so it is read first. Where it is mistaken the build's own environment
    /// goes on, so that the other mistakes are still those of the right one.
    pub fn app_env(&mut self, parse: impl FnOnce(&str) -> Parsed<AppEnv>) -> AppEnv {
        let default = self.app_env.name().to_owned();
        if let Ok(Some(app_env)) = self.with_default("APP_ENV", Some(default), parse) {
            self.app_env = app_env;
        }
        self.app_env
    }

    /// `Ok(None)`: not set, and no default.
    pub fn optional<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Parsed<T>) -> Result<Option<T>, Noted> {
        self.with_default(name, None, parse)
    }

    pub fn required<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Parsed<T>) -> Result<T, Noted> {
        self.optional(name, parse)?.ok_or_else(|| self.missing(name))
    }

    /// As [`Self::optional`], with a default that depends on other values.
    pub fn with_default<T>(
        &mut self,
        name: &str,
        computed: Option<String>,
        parse: impl FnOnce(&str) -> Parsed<T>,
    ) -> Result<Option<T>, Noted> {
        let variable = listed(name);
        let production = self.app_env == AppEnv::Production;
        let default = if production { variable.production } else { variable.development };
        let default = computed.or_else(|| (!default.is_empty()).then(|| default.to_owned()));
        let found = match self.environment.lookup(name, variable.is_secret(), production) {
            Ok(found) => found.or_else(|| default.map(|text| (text, Source::Default))),
            Err(wrong) => {
                self.settings.push(Setting { name: variable.name, value: None, source: Source::Environment });
                return Err(self.mistake(name, &wrong));
            }
        };
        let (text, source) = found.unzip();
        self.settings.push(Setting {
            name: variable.name,
            value: text.as_deref().map(|text| shown(variable, text)),
            source: source.unwrap_or(Source::Default),
        });
        let Some(text) = text else { return Ok(None) };
        parse(&text).map(Some).map_err(|wrong| self.mistake(name, &format!("{wrong}; write for example {}", variable.example)))
    }

    pub fn missing(&mut self, name: &str) -> Noted {
        self.mistake(name, &format!("is required in production; write for example {}", listed(name).example))
    }

    /// `message` continues a sentence that begins with the variable's name.
    pub fn mistake(&mut self, name: &str, message: &str) -> Noted {
        self.mistakes.0.push(Mistake { variable: listed(name).name, message: printable(message) });
        Noted
    }

    pub fn finish(self) -> (Vec<Setting>, Mistakes) {
        (self.settings, self.mistakes)
    }
}

fn listed(name: &str) -> &'static Variable {
    variable(name).expect("only variables of the list are read")
}

fn shown(variable: &Variable, text: &str) -> String {
    match variable.visibility {
        Visibility::Public => printable(text),
        Visibility::UrlWithPassword => redacted_url(text),
        Visibility::Secret => "***".to_owned(),
    }
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
