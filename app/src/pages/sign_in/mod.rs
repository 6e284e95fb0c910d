//! The pages of people who are not signed in yet, or were just now: asking for a link, opening it, the second step, links in mails.
//! Nothing that needs a whole session: that is in [`super::account`].
//! To add one: as in [`crate::pages`]; its handlers take [`crate::http::access::Visitor`] or [`crate::http::access::PendingSecondFactor`].

pub mod confirm_link;
pub mod invite;
pub mod login;
pub mod login_backup_code;
pub mod login_continue;
pub mod login_sent;
pub mod login_two_factor;
pub mod signed_out;
pub mod unavailable;
pub mod undo;
