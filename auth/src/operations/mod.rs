//! What operators run, and what servers run for them: migrate, diagnose, reconcile, tidy up, rotate keys.
//!
//! Not here: anything a person on a page does.
//! To add one: a file here, a command in `server/src/cli` or a row in its `jobs.rs`.

pub mod diagnostics;
pub(crate) mod housekeeping;
pub mod key_rotation;
pub mod migrate;
pub mod reconcile;
