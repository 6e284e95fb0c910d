//! The process edge of Latchkey: commands, configuration, HTTP, API, mail, logs and metrics. The binary is a thin `main`.
//!
//! From the top down, and imports go down only: [`cli`], [`serve`] and [`jobs`] over [`router`]; [`api`] and [`mail`] over [`http`];
//! then [`database`], [`telemetry`] and [`config`], the one reader of the environment.

pub mod api;
pub mod cli;
pub mod config;
pub mod database;
pub mod http;
pub mod jobs;
pub mod mail;
pub mod router;
pub mod serve;
pub mod telemetry;
