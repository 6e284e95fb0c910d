//! Values without a story: time, addresses of mail and network, cursors, reasons.
//!
//! Not here: anything that knows a table, a secret or a feature.
//! To add one: a file here, if two floors need it and it needs none.

pub mod clock;
pub mod cursor;
pub mod email_address;
pub mod reason;
pub mod requester;
pub(crate) mod schedule;
pub(crate) mod statement;
pub(crate) mod stored_json;
pub(crate) mod typed;
