//! How Latchkey looks, and what its forms do.
//!
//! Pages are drawn on the server, work without script, and never hydrate: a view is a pure function of its props, rendered to a
//! string by [`http::render`]. [`pages`] holds one file a page and says how to add one, [`ui`] the pieces they share, [`mails`]
//! the mails, [`help`] the articles. Every path is in [`routes`].
//!
//! Bottom to top: `routes`, `help`, `ui`, `mails`, `http`, `pages`, `router`. Imports go down only.
//!
//! `cargo run -p app --example gallery` writes every page in every state to a folder, to be looked at.

pub mod help;
pub mod http;
pub mod mails;
pub mod pages;
mod router;
pub mod routes;
pub mod ui;

pub use http::state::AppState;
pub use router::router;
