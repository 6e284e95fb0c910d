//! Browsers that have signed an account in before. They have limits of their own, so that a stranger who uses up an address's
//! limits does not keep its owner out. Knowing a browser proves nothing else: it is no factor and no trust.

pub(crate) mod store;
