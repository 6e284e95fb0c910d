//! How Latchkey looks, and what its forms do.
//!
//! Pages are drawn on the server, work without script, and never hydrate: a view is a pure function of its props, rendered to a
//! string by [`page`](mod@page). [`pages`] holds one file a page and says how to add one, [`components`] the pieces they
//! share, [`mails`] the mails, [`assets`] the style sheet and the static files. What pages say about time and addresses is in
//! [`words`], every path in [`routes`].
//!
//! `cargo run -p app --example gallery` writes every page in every state to a folder, to be looked at.

pub mod assets;
pub mod checks;
pub mod components;
pub mod fault;
pub mod form;
pub mod forward_auth;
pub mod gate;
pub mod happened;
pub mod help;
pub mod mails;
pub mod next;
pub mod page;
pub mod pages;
pub mod qr;
mod router;
pub mod routes;
pub mod session;
pub mod state;
pub mod words;

pub use router::router;
pub use state::AppState;
