//! Who somebody is to the domain, and what they have proven.
//!
//! Not here: how it was proven (`factors`, `sign_in`).
//! To add one: a type here, if floors above need it in their events or rows.

mod actor;
mod api_key;
mod authority;

pub use actor::{ActionError, Actor, Origin};
pub(crate) use api_key::MARK;
pub use api_key::{ApiKey, Prefix, Scope};
pub use authority::{Authority, Level, Method, SecondFactor};
