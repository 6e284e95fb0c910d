//! What holds back those who ask too often.
//!
//! Not here: which act charges which limit: the act says so.
//! To add one: docs/limits.md, "Add one".

pub mod known_browser;
pub mod request_bursts;
pub mod throttle;
pub(crate) mod wrong_codes;
