pub mod config;
pub mod listener;
pub mod middleware;
pub mod telemetry;
