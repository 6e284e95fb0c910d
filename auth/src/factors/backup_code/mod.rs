//! Backup codes: ten, for the day the phone is gone. `xxxx-xxxx-xxxx`, without the letters and digits that look alike.
//!
//! Not here: counting tries (`sign_in/second_factor.rs`), making a set (`self_service/two_factor.rs`).
//! To add one: a rule about codes here, a statement in `store.rs`.
//!
//! The first four characters find the row and stand in clear; the other eight (39 bits) are hashed with Argon2id, so that a try
//! costs one hash whatever the account holds, and a stolen table does not give them away (NIST 800-63B-4 §3.1.2.2).

pub(crate) mod store;

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use argon2::{Argon2, PasswordHasher as _, PasswordVerifier as _, password_hash::phc::PasswordHash};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::{crypto::random, primitives::typed::seen};

/// Codes of a set.
pub const SET: usize = 10;
/// With so many left their owner is told to get new ones.
pub const LOW: i64 = 3;

const SELECTOR: usize = 4;
const LENGTH: usize = 12;
/// 31 characters: no 0, 1, o, i, l.
const ALPHABET: &[u8; 31] = b"abcdefghjkmnpqrstuvwxyz23456789";

/// One hash takes 19 MiB and a core for tens of milliseconds: so many at once, and the others wait their turn. Making a set takes ten,
/// so it waits in a lane of its own: a code that somebody signs in with never waits for a set.
struct Lane(LazyLock<Arc<Semaphore>>);

static CHECKING: Lane = Lane(LazyLock::new(|| Arc::new(Semaphore::new(2))));
static MAKING: Lane = Lane(LazyLock::new(|| Arc::new(Semaphore::new(1))));

/// A code as its owner holds it.
#[derive(Clone, PartialEq, Eq)]
pub struct BackupCode(Zeroizing<[u8; LENGTH]>);

impl fmt::Debug for BackupCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackupCode(***)")
    }
}

/// Why typed text is not a backup code. Nothing was tried, so nothing was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BackupCodeFormat {
    #[error("no code was typed")]
    Missing,
    #[error("that is not a backup code")]
    Malformed,
}

impl BackupCode {
    fn new() -> Self {
        // Bytes beyond the largest multiple of the alphabet's length would make its first letters likelier.
        let limit = u8::try_from(256 / ALPHABET.len() * ALPHABET.len()).expect("248");
        let mut code = Zeroizing::new([0; LENGTH]);
        let mut filled = 0;
        while filled < LENGTH {
            for byte in random::<32>() {
                if byte < limit && filled < LENGTH {
                    code[filled] = ALPHABET[usize::from(byte) % ALPHABET.len()];
                    filled += 1;
                }
            }
        }
        Self(code)
    }

    /// A set, each findable by its first four characters.
    pub(crate) fn set() -> Vec<Self> {
        let mut codes: Vec<Self> = Vec::with_capacity(SET);
        while codes.len() < SET {
            let code = Self::new();
            if codes.iter().all(|other| other.selector() != code.selector()) {
                codes.push(code);
            }
        }
        codes
    }

    /// Takes what people type: any case, with or without hyphens, spaces and what else is neither letter nor digit.
    ///
    /// # Errors
    /// [`BackupCodeFormat`].
    pub fn parse(text: &str) -> Result<Self, BackupCodeFormat> {
        let typed: Zeroizing<Vec<u8>> = Zeroizing::new(
            seen(text)
                .filter(|c| c.is_alphanumeric())
                .map(|c| if c.is_ascii() { c.to_ascii_lowercase() as u8 } else { b'?' })
                .collect(),
        );
        if typed.is_empty() {
            return Err(BackupCodeFormat::Missing);
        }
        let code: [u8; LENGTH] = typed.as_slice().try_into().map_err(|_| BackupCodeFormat::Malformed)?;
        if code.iter().all(|byte| ALPHABET.contains(byte)) {
            Ok(Self(Zeroizing::new(code)))
        } else {
            Err(BackupCodeFormat::Malformed)
        }
    }

    /// As it is shown, once: `k7qd-m2xw-t9hp`.
    #[must_use]
    pub fn reveal(&self) -> String {
        let part = |range| str::from_utf8(&self.0[range]).expect("ASCII");
        format!("{}-{}-{}", part(0..4), part(4..8), part(8..12))
    }

    pub(crate) fn selector(&self) -> &str {
        str::from_utf8(&self.0[..SELECTOR]).expect("ASCII")
    }

    fn secret(&self) -> &[u8] {
        &self.0[SELECTOR..]
    }

    fn hash_now(&self) -> String {
        // Argon2id, 19 MiB, two passes: the defaults are OWASP's.
        Argon2::default()
            .hash_password_with_salt(self.secret(), &random::<16>())
            .expect("the parameters are the default ones")
            .to_string()
    }

    fn is_now(&self, hash: &str) -> bool {
        PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(self.secret(), &hash).is_ok())
    }

    /// The hashes of a set.
    pub(crate) async fn hash_all(codes: Vec<Self>) -> Vec<String> {
        MAKING.hash(move || codes.iter().map(Self::hash_now).collect()).await
    }

    /// Whether it is the one with this hash. Without one it takes as long: that no code begins so must not show.
    pub(crate) async fn is(&self, hash: Option<String>) -> bool {
        static NOBODYS: LazyLock<String> = LazyLock::new(|| BackupCode::new().hash_now());
        let code = self.clone();
        CHECKING
            .hash(move || {
                let is = code.is_now(hash.as_ref().unwrap_or(&NOBODYS));
                is && hash.is_some()
            })
            .await
    }
}

impl Lane {
    /// Off the threads that serve requests, and a few at a time.
    async fn hash<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let permit = self.0.clone().acquire_owned().await.expect("the semaphore is never closed");
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        done.await.expect("hashing does not panic")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_code_is_read_in_any_case_with_and_without_hyphens() {
        let code = BackupCode::new();
        let shown = code.reveal();
        assert_eq!(shown.len(), 14);
        for typed in [
            shown.clone(),
            shown.to_uppercase(),
            shown.replace('-', ""),
            shown.replace('-', " "),
            format!(" {shown}\n"),
            shown.replace('-', "\u{2013}"),
            format!("“{shown}”\u{200b}"),
        ] {
            assert_eq!(BackupCode::parse(&typed).as_ref(), Ok(&code), "{typed:?}");
        }
    }

    #[test]
    fn what_is_not_a_code_is_not_counted() {
        assert_eq!(BackupCode::parse(" - "), Err(BackupCodeFormat::Missing));
        for typed in ["123456", "k7qd-m2xw-t9h", "k7qd-m2xw-t9hpp", "k7qd-m2xw-t9h0", "k7qd-m2xw-t9hé"] {
            assert_eq!(BackupCode::parse(typed), Err(BackupCodeFormat::Malformed), "{typed:?}");
        }
    }

    #[test]
    fn a_set_is_ten_that_begin_differently_and_no_two_sets_are_alike() {
        let set = BackupCode::set();
        let selectors: std::collections::BTreeSet<_> = set.iter().map(BackupCode::selector).collect();
        assert_eq!((set.len(), selectors.len()), (SET, SET));
        assert!(BackupCode::set().iter().all(|code| !set.contains(code)));
    }

    #[test]
    fn letters_are_spread_evenly() {
        let mut counts = [0_u32; 31];
        for _ in 0..20_000 {
            for byte in *BackupCode::new().0 {
                counts[ALPHABET.iter().position(|letter| *letter == byte).expect("of the alphabet")] += 1;
            }
        }
        let expected = 20_000.0 * 12.0 / 31.0;
        let chi: f64 = counts.iter().map(|&n| (f64::from(n) - expected).powi(2) / expected).sum();
        // 30 degrees of freedom: above 80 has a chance of about 1 in 500,000.
        assert!(chi < 80.0, "χ² = {chi}, counts {counts:?}");
    }

    #[tokio::test]
    async fn checking_codes_and_making_sets_wait_for_each_other_never() {
        let code = BackupCode::new();
        let hash = code.hash_now();
        let making = MAKING.0.clone().acquire_owned().await.expect("open");
        let checked = tokio::time::timeout(Duration::from_secs(20), code.is(Some(hash))).await;
        assert!(checked.expect("a check waits for no set"));
        drop(making);
        let _checking = CHECKING.0.clone().acquire_many_owned(2).await.expect("open");
        let made = tokio::time::timeout(Duration::from_secs(20), BackupCode::hash_all(vec![code])).await;
        assert_eq!(made.expect("a set waits for no check").len(), 1);
    }

    #[tokio::test]
    async fn a_hash_is_salted_argon2id_of_what_follows_the_selector() {
        let code = BackupCode::new();
        let hashes = BackupCode::hash_all(vec![code.clone(), code.clone()]).await;
        assert!(hashes[0].starts_with("$argon2id$v=19$m=19456,t=2,p=1$") && hashes[0] != hashes[1]);
        for hash in hashes {
            assert!(!hash.contains(&code.reveal()[..4]) || code.is(Some(hash.clone())).await);
            assert!(code.is(Some(hash.clone())).await);
            assert!(!BackupCode::new().is(Some(hash)).await);
        }
        assert!(!code.is(None).await);
        assert!(!code.is(Some("not a hash".to_owned())).await);
    }
}
