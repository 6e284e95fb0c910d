//! The administrators' pages. Who is none finds nothing here: [`crate::gate::Administrator`].

pub mod change;
pub mod invite;
pub mod user;
pub mod users;
