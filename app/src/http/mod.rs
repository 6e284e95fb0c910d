//! Requests and answers: who may pass, the session and its cookies, forms, where to go after signing in, from a view to a response.
//! No page and no words for people: those are in [`crate::pages`] and [`crate::ui`].
//! To add something: a file here, if several pages need it of a request or a response. What one page needs stays in that page's file.

pub mod access;
pub mod error;
pub mod form;
pub mod forward_auth;
pub mod render;
pub mod return_to;
pub mod session;
pub mod state;
