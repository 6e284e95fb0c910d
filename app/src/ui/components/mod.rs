//! The shared pieces of the pages.
//!
//! To add one: a file here with one `#[component]`, its style in the file of `style/` that its concern belongs to, and a use of
//! it in `examples/gallery.rs`, where it can be looked at. A piece that only one page needs stays in that page's file.

mod ask;
mod chart;
mod copy_block;
mod date;
mod empty;
mod error_summary;
mod field;
mod help_link;
mod icon;
mod layout;
mod logo;
mod masked;
mod notice;
mod pager;
mod panel;
mod steps;
mod table;

pub use ask::Ask;
pub use chart::{BarChart, Bars, ChartTable, Limit, LineChart, Point, Share, Sparkline};
pub use copy_block::CopyBlock;
pub use date::{Date, DateTime};
pub use empty::Empty;
pub use error_summary::ErrorSummary;
pub use field::{BackupCodeField, Checkbox, CodeField, EmailField, ReasonField, SearchField, SelectField, TextField};
pub use help_link::HelpLink;
pub use icon::{Glyph, Icon};
pub use layout::{Admin, Article, Flow, Settings};
pub use logo::Logo;
pub use masked::Masked;
pub use notice::{Notice, Tone};
pub use pager::Pager;
pub use panel::{Badge, BadgeKind, Row};
pub use steps::Steps;
pub use table::{Column, Table};
