//! Accounts, and invitations to have one.
//!
//! Not here: how somebody signs in; what they do to their account (`self_service`).
//! To add one: an operation in `account` or `invitation`, its SQL in their `store.rs`.

pub mod account;
pub(crate) mod held_address;
pub mod invitation;
