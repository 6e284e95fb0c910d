//! The shared pieces of the pages: how each looks, and what a screen reader says of it.
//! Nothing that one page alone needs, which stays in that page's file, and nothing of a request.
//! To add one: a file with one `#[component]`, its style in the file of `style/` that its concern belongs to, its use in `examples/gallery.rs`.

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
mod post_button;
mod steps;
mod table;
mod tabs;

pub use ask::Ask;
pub use chart::{BarChart, Bars, Chart, Limit, LineChart, Point, Share, Sparkline};
pub use copy_block::CopyBlock;
pub use date::{Date, DateTime, Lately, LatelyIfEver};
pub use empty::Empty;
pub use error_summary::ErrorSummary;
pub use field::{BackupCodeField, Checkbox, CodeField, EmailField, ErrorText, ReasonField, SearchField, SelectField, TextField};
pub use help_link::HelpLink;
pub use icon::{Glyph, Icon};
pub use layout::{Admin, Article, Flow, Settings};
pub use logo::Logo;
pub use masked::Masked;
pub use notice::{Notice, Tone};
pub use pager::{Beside, NewerOlder, Pager};
pub use panel::{Badge, BadgeKind, Row};
pub use post_button::PostButton;
pub use steps::Steps;
pub use table::{Column, Table};
pub use tabs::Tabs;
