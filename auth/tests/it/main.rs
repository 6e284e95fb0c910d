//! The domain's operations on a real PostgreSQL, with the clock moved. One binary, so that it is linked once.

mod account;
mod account_changes;
mod admin;
mod api_key;
mod api_sign_in;
mod audit;
mod clock;
mod limits;
mod limits_in_force;
mod mail;
mod migrations;
mod overview;
mod reconcile;
mod rollout;
mod schedule;
mod session;
mod sign_in;
mod two_factor;
