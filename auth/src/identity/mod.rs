//! Who somebody is to the domain, and what they have proven.
//!
//! Not here: how it was proven (`factors`, `sign_in`).
//! To add one: a type here, if floors above need it in their events or rows.
