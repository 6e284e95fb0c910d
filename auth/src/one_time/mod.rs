//! Secrets that were mailed and work once.
//!
//! Not here: what redeeming one leads to (`sign_in`, `self_service`).
//! To add one: a kind here, and who redeems it above.

pub mod magic_link;
pub mod revert_link;
