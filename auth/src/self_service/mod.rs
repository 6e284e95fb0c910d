//! What people do to their own account.
//!
//! Not here: what administrators do to it (`administration`).
//! To add one: a file with operations; each begins with who may, and how fresh.

pub mod activity;
pub mod address_change;
pub mod deletion;
pub mod export;
pub mod known_browsers;
pub mod pending_reset;
pub mod profile;
pub mod revert;
pub mod two_factor;
