//! What needs a program besides PostgreSQL, or minutes: `make test-all` alone runs it (`make test` says `--skip thorough::`).
//! What is as quick as the others lies with them, in the folder above.
//! A new one is a file here, and its program in `support/scripts/install.sh`.

mod docs_programs;
mod mail_faults;
mod mail_kills;
mod notes;
mod patroni;
mod pgbouncer;
mod prometheus;
mod proxies;
mod silent_database;
