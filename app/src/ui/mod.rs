//! How things look and read: components, and times, events, checks and codes as text or drawings.
//! No requests, no database: everything here is a pure function of what it is given.
//! To add a component: [`components`] says how. To add a text that several pages need: a function in the file of its subject.

pub mod assets;
pub mod check_text;
pub mod components;
pub mod event_text;
pub mod format;
pub mod qr;
pub mod unusual;
