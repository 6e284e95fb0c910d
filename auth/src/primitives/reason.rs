//! Why somebody does something to what isn't theirs, in their own words: for the audit.

use std::{ops::Deref, str::FromStr};

use serde::Serialize;

/// One line of 1 to [`Reason::MOST`] characters, parsed where it comes in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::Type)]
#[sqlx(transparent)]
pub struct Reason(String);

/// What is wrong with a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one line of 1 to {} characters", Reason::MOST)]
pub enum ReasonError {
    Missing,
    TooLong,
    NotOneLine,
}

impl Reason {
    /// Characters of one.
    pub const MOST: usize = 500;
}

impl FromStr for Reason {
    type Err = ReasonError;

    fn from_str(text: &str) -> Result<Self, ReasonError> {
        let text = text.trim();
        match text.chars().count() {
            0 => Err(ReasonError::Missing),
            1..=Self::MOST if text.contains(char::is_control) => Err(ReasonError::NotOneLine),
            1..=Self::MOST => Ok(Self(text.to_owned())),
            _ => Err(ReasonError::TooLong),
        }
    }
}

impl Deref for Reason {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_of_one_to_five_hundred_characters() {
        assert_eq!(" ticket 7 \n".parse::<Reason>().as_deref(), Ok("ticket 7"));
        assert!("é".repeat(500).parse::<Reason>().is_ok());
        for (text, error) in [
            ("", ReasonError::Missing),
            (" \n ", ReasonError::Missing),
            ("a\nb", ReasonError::NotOneLine),
            ("a\0b", ReasonError::NotOneLine),
            (&"é".repeat(501), ReasonError::TooLong),
        ] {
            assert_eq!(text.parse::<Reason>(), Err(error), "{text:?}");
        }
        assert_eq!(ReasonError::Missing.to_string(), "must be one line of 1 to 500 characters");
    }
}
