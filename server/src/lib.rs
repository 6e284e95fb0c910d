//! The process edge of Latchkey: commands, configuration, router, middleware, workers, SMTP. The binary is a thin `main`.
//!
//! `std::env` is read in [`config`] and nowhere else. To add a command: a variant in [`cli`], what it does in [`commands`].

pub mod api;
pub mod audit_commands;
pub mod cli;
pub mod commands;
pub mod config;
pub mod database;
pub mod dev_inbox;
pub mod doctor;
pub mod forward_auth;
pub mod health;
pub mod listener;
pub mod mailer;
pub mod metrics;
pub mod middleware;
pub mod pooler;
pub mod reconcile;
pub mod rollout_commands;
pub mod router;
pub mod serve;
pub mod smtp;
pub mod telemetry;
