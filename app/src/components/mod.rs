//! The shared pieces of the pages.
//!
//! To add one: a file here with one `#[component]`, its style in the file of `style/` that its concern belongs to, and a use of
//! it in `examples/gallery.rs`, where it can be looked at. A piece that only one page needs stays in that page's file.

mod field;
mod icon;
mod layout;
mod logo;
mod masked;
mod notice;
mod panel;

pub use field::{CodeField, EmailField};
pub use icon::{Glyph, Icon};
pub use layout::{Article, Flow, Settings};
pub use logo::Logo;
pub use masked::Masked;
pub use notice::{Notice, Tone};
pub use panel::{Badge, Row};
