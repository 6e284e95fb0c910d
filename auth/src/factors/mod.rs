//! Second factors as things: how each is kept and judged.
//!
//! Not here: when one is demanded (`sign_in`), turned on or off (`self_service`).
//! To add one: a folder with `mod.rs` (rules) and `store.rs` (SQL).

pub mod backup_code;
pub mod key_use;
pub mod totp;
pub mod trusted_device;
