//! The pages of someone's own account: how they sign in, where, what happened, and leaving.
//! Other people's accounts are in [`super::admin`].
//! To add one: as in [`crate::pages`]; its handlers take [`crate::http::access::SignedIn`], and its layout is `Settings`.

pub mod activity;
pub mod backup_codes;
pub mod change_email;
pub mod delete_account;
pub mod devices;
pub mod export;
pub mod reauth;
pub mod security;
pub mod sessions;
pub mod two_factor;
pub mod two_factor_off;
pub mod two_factor_setup;
