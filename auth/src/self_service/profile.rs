//! The name that an account shows.

use crate::{
    Error, SelfService,
    event::{Event, UnitOfWork},
    identity::Authority,
    limits::throttle::Limited,
    primitives::requester::Requester,
    users::account,
};

/// Characters of a display name.
pub const MAX_NAME: usize = 80;

/// Why a name was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SetNameError {
    #[error("a name has at most {MAX_NAME} characters")]
    TooLong,
    /// It has line breaks, or marks that turn the direction of what stands beside it.
    #[error("a name is one line of text")]
    NotOneLine,
    #[error("a limit refused")]
    Limited(Limited),
    #[error(transparent)]
    Unavailable(#[from] Error),
}

from_sqlx!(SetNameError);

/// What was typed as a name: one line, or none at all.
fn name(typed: &str) -> Result<Option<&str>, SetNameError> {
    let name = typed.trim();
    let breaks = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    if name.contains(breaks) {
        return Err(SetNameError::NotOneLine);
    }
    if name.chars().count() > MAX_NAME {
        return Err(SetNameError::TooLong);
    }
    Ok((!name.is_empty()).then_some(name))
}

impl SelfService<'_> {
    /// Sets the display name; nothing but spaces takes it away.
    ///
    /// # Errors
    /// [`SetNameError`].
    pub async fn set_name(self, authority: &Authority, typed: &str, from: &Requester) -> Result<(), SetNameError> {
        let name = name(typed)?;
        let now = self.0.now();
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        if account::store::set_name(work.connection(), authority.user, name).await? {
            self.0.limits().throttle().take_change(work.connection(), authority.user, now).await?.map_err(SetNameError::Limited)?;
            work.record(Event::NameChanged { user: authority.user });
        }
        Ok(work.commit().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_line_of_eighty_characters_or_none() {
        assert_eq!(name("  Mara Lindqvist\n").ok(), Some(Some("Mara Lindqvist")));
        assert_eq!(name(" \r\n\t").ok(), Some(None));
        let longest = "é".repeat(80);
        assert_eq!(name(&longest).ok(), Some(Some(longest.as_str())));
        assert!(matches!(name(&"é".repeat(81)), Err(SetNameError::TooLong)));
        for typed in ["Mara\nLindqvist", "a\u{7}b", "a\u{202e}b", "a\u{2028}b", "a\u{2066}b", "a\u{61c}b", "\u{200b}", "a\0"] {
            assert!(matches!(name(typed), Err(SetNameError::NotOneLine)), "{typed:?}");
        }
    }
}
