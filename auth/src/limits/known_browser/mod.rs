//! Browsers that have signed an account in before: they have limits of their own.
//!
//! Not here: which limits those are (`policy/limits.rs`).
//! To add one: a statement in `store.rs`.
//!
//! So a stranger who uses up an address's limits does not keep its owner out. Knowing a browser proves nothing else: it is no factor
//! and no trust.

pub(crate) mod store;
