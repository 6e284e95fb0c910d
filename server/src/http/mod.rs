//! HTTP itself: connections, what surrounds every request, and the routes that proxies and operators ask.
//!
//! Not here: the pages (`app`), the API (`crate::api`), and which routes there are (`crate::router`), which all lie above.
//! To add something around every request: a file in [`middleware`], its call in [`surround`], its name in both lists of the order.

#[cfg(feature = "development")]
pub mod dev_inbox;
pub mod forward_auth;
pub mod health;
pub mod line;
pub mod listener;
pub mod middleware;
pub mod problem;
pub mod surround;
