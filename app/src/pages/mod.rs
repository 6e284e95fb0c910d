//! One page, one file: a component that draws a whole document from its props, its GET handler, and its forms' server functions.
//! No rules: those are in `auth`. What several pages share is in [`crate::ui`] and [`crate::http`]; files here are pages for everybody.
//! To add one: its path in [`crate::routes`], a file in the folder of its audience, its routes in `router.rs`, its states in `examples/gallery.rs`.

pub mod account;
pub mod admin;
#[cfg(feature = "development")]
pub mod dev_inbox;
pub mod errors;
pub mod help;
pub mod limited;
pub mod prelude;
pub mod sign_in;
