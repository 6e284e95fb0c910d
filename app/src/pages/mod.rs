//! One page, one file.
//!
//! A page is a component that draws a whole document from its props, and knows nothing else: no request, no database, no clock.
//! To add one: its path in [`crate::routes`], a file here with the component and a test of its words, a picture of each of its
//! states in `examples/gallery.rs`. The first heading and the title are the same words; the layouts in
//! [`crate::components`] see to that.

pub mod account;
pub mod activity;
pub mod admin;
pub mod backup_codes;
pub mod change_email;
pub mod confirm_link;
pub mod delete_account;
pub mod dev_inbox;
pub mod devices;
pub mod errors;
pub mod export;
pub mod help;
pub mod invite;
pub mod limited;
pub mod login;
pub mod login_backup_code;
pub mod login_continue;
pub mod login_sent;
pub mod login_two_factor;
pub mod reauth;
pub mod sessions;
pub mod signed_out;
pub mod two_factor;
pub mod two_factor_off;
pub mod two_factor_setup;
pub mod unavailable;
pub mod undo;
