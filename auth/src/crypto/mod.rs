//! What must not leak: tokens, codes, the keys they come from. Nothing here prints itself, and only hashes reach SQL.
//!
//! Not here: which secret belongs to which row: that lies with the row.
//! To add one: a kind of token is a row of `kinds!` in `token.rs`; a key, a field of `Derived` in `keys.rs` with a purpose of its own.

mod code;
mod keys;
mod token;

use aws_lc_rs::{constant_time, digest, rand};
use time::OffsetDateTime;
use uuid::{NoContext, Timestamp, Uuid};

pub use code::{Code, CodeFormat};
pub use keys::Keys;
pub(crate) use keys::{Sealed, Seed, Unreadable};
pub(crate) use token::ApiSecret;
pub use token::{
    BrowserNonce, Challenge, ForwardAuthToken, InviteToken, KnownBrowserCookie, KnownBrowserToken, LinkToken, RequestSecret,
    RevertToken, SessionKey, SessionToken, Token, TrustedDeviceToken,
};

/// Bytes from the operating system's generator: every secret of this crate comes from here. (Session ids are the session layer's
/// own, 128 bits of its cryptographic generator.)
///
/// # Panics
/// When the generator fails. There is no safe way on without it.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).expect("the operating system's random generator works");
    bytes
}

/// An identifier that sorts by time. An identifier is never a secret.
#[must_use]
pub fn new_id(now: OffsetDateTime) -> Uuid {
    let seconds = u64::try_from(now.unix_timestamp()).unwrap_or(0);
    Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, now.nanosecond()))
}

/// No id made since `at` is less: what a query compares the primary key with to read the rows of a window.
pub(crate) fn first_id(at: OffsetDateTime) -> Uuid {
    let millis = u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid()
}

/// SHA-256, for secrets of 128 random bits and more (NIST 800-63B-4 §3.1.2.2 asks for more only below 112).
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().expect("SHA-256 is 32 bytes long")
}

/// Compares without telling by its time how much was right.
pub(crate) fn same(a: &[u8; 32], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}
