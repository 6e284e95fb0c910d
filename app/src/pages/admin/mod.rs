//! The administrators' pages. Who is none finds nothing here: [`crate::gate::Administrator`].

pub mod api_keys;
pub mod audit;
pub mod change;
pub mod invite;
pub mod limits;
pub mod mail;
pub mod overview;
pub mod rollout;
pub mod user;
pub mod users;

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
