//! Accounts, and addresses held back for one.
//!
//! Not here: how somebody signs in; invitations (`one_time`); what they do to their account (`self_service`).
//! To add one: an operation in `account`, its SQL in its `store.rs`.

pub mod account;
pub(crate) mod held_address;
