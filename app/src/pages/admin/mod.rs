//! The administrators' pages: how signing in goes, other people's accounts, the rollout, audit, mail, limits and API keys.
//! People who are not administrators find no page here: [`crate::http::access::Administrator`]. Nothing here that an owner sees.
//! To add one: as in [`crate::pages`]; its layout is `Admin`, its heading stands in `ui/components/layout.rs`.

pub mod api_keys;
pub mod audit;
pub mod change;
pub mod invite;
pub mod limits;
pub mod mail;
pub mod overview;
pub mod person;
pub mod rollout;
pub mod user;
pub mod users;

use auth::identity::ActionError;

use super::prelude::{AccessDenied, Answer, return_to, see_other};

/// What a change that was not made comes to, where no field is at fault. `here` is the page that asks for it.
fn not_done(error: ActionError, here: &str) -> Answer {
    match error {
        // It was done already, or somebody was faster. The page shows how things are now.
        ActionError::Nothing => see_other(here),
        ActionError::NotFresh => see_other(&return_to::step_up(here)),
        ActionError::NotAdmin | ActionError::NoSuchUser | ActionError::LastAdmin | ActionError::NewAdmin => {
            Err(AccessDenied::NoSuchPage.into())
        }
        ActionError::Unavailable(error) => Err(error.into()),
    }
}

/// One line of text as it was typed, without what no line holds.
fn line(typed: &str) -> String {
    typed.trim().chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_nothing_that_would_break_it() {
        assert_eq!(line(" Ticket\r\n 4821\0, \u{202e}é \t"), "Ticket 4821, \u{202e}é");
        assert_eq!(line(" \n\t "), "");
    }
}
