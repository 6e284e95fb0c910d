//! The sign-in machine: first factor, second factor, step-up; for browsers, applications, proxies.
//!
//! Not here: how factors are kept (`factors`), sessions stored (`sessions`).
//! To add one: a way in is a file that ends in `Auth::redeem` or `second_factor`.

pub mod first_factor;
pub mod for_applications;
pub mod forward_auth;
pub mod second_factor;
pub mod step_up;
