//! What the tests and the benchmark share: a database of one's own, a clock to move, an SMTP sink on a real socket, and a client
//! that keeps cookies as a browser does.

mod browser;
mod clock;
mod database;
mod kit;
mod smtp;
mod watchdog;

pub use browser::{Browser, Reply};
pub use clock::ManualClock;
pub use database::Database;
pub use kit::{Kit, Outbox, TEST_KEY, Visitor, address, handover, why};
pub use smtp::{Act, Fault, Manner, Received, SmtpSink, Stage};
