//! Codes of authenticator apps: RFC 6238 with SHA-1, 6 digits, 30 seconds, the only choice that every app knows.
//!
//! Not here: counting tries (`sign_in/second_factor.rs`), setting one up (`self_service/two_factor.rs`).
//! To add one: a rule about codes in [`judge`], a statement in `store.rs`.
//!
//! Which step a code may be of, and what is made of one that comes too early or too late, is decided here by [`judge`]. Whether it
//! is accepted is decided by one statement ([`store::accept`]), each step once for the account.

pub(crate) mod store;

use std::time::Duration;

use time::OffsetDateTime;
use totp_rs::Totp;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::crypto::{Code, Keys, Sealed, Unreadable, random};

/// Seconds a code is shown for (RFC 6238 §5.2).
pub const STEP_SECONDS: i64 = 30;
/// Authenticators an account may have: a phone, and the one that replaces it.
pub const MAX_AUTHENTICATORS: usize = 2;
/// Longest name of one.
pub const MAX_NAME: usize = 40;
/// Consecutive wrong codes from browsers the account doesn't know, and then no code is looked at there until the app is set up
/// anew (NIST 800-63B-4 §3.2.2 allows at most 100).
pub const MAX_FAILURES: i32 = 100;
/// So many wrong codes in a row cost no wait; from then on it doubles, 30 seconds to an hour (NIST 800-63B-4 §3.2.2).
pub const FREE_FAILURES: i32 = 5;

/// How far off a clock may be and still be told so: ten minutes either way.
const CLOCK_STEPS: i64 = 20;

/// What an app and we share: 160 random bits (RFC 4226 §4 R6 recommends as many).
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<[u8; 20]>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl Secret {
    pub(crate) fn new() -> Self {
        Self(Zeroizing::new(random()))
    }

    fn totp(&self, account: &str) -> Totp {
        // Apps split the label at its first colon, and an address may hold one.
        let account = account.replace(':', " ");
        totp_rs::Builder::new()
            .with_secret(*self.0)
            .with_issuer(Some("Latchkey"))
            .with_account_name(account)
            .build()
            .expect("160 bits, 6 digits, 30 seconds, no colon")
    }

    /// For typing: base32, without padding.
    #[must_use]
    pub fn base32(&self) -> Zeroizing<String> {
        Zeroizing::new(data_encoding::BASE32_NOPAD.encode(&*self.0))
    }

    /// For scanning: `otpauth://totp/Latchkey:ACCOUNT?secret=…&issuer=Latchkey`, percent-encoded, no colon in either part.
    #[must_use]
    pub fn uri(&self, account: &str) -> Zeroizing<String> {
        Zeroizing::new(self.totp(account).to_url().expect("the account has a name without a colon"))
    }

    /// The code of one step.
    #[must_use]
    pub fn code(&self, step: i64) -> Code {
        let seconds = u64::try_from(step).unwrap_or(0).saturating_mul(STEP_SECONDS.unsigned_abs());
        let token = Zeroizing::new(self.totp("").generate(seconds).to_string());
        Code::of_digits(&token).expect("six digits")
    }

    fn place(credential: Uuid, user: Uuid) -> Vec<u8> {
        format!("totp_credentials.secret:{credential}:{user}").into_bytes()
    }

    /// Bound to its row and its account: neither another row nor another account can use it.
    pub(crate) fn seal(&self, keys: &Keys, credential: Uuid, user: Uuid) -> Sealed {
        keys.seal(&Self::place(credential, user), &*self.0)
    }

    pub(crate) fn open(keys: &Keys, sealed: &Sealed, credential: Uuid, user: Uuid) -> Result<Self, Unreadable> {
        let bytes = keys.open(&Self::place(credential, user), sealed)?;
        let bytes: [u8; 20] = bytes.as_slice().try_into().map_err(|_| Unreadable::Tampered)?;
        Ok(Self(Zeroizing::new(bytes)))
    }
}

/// The step that `now` is in. Always by our clock: what a client says of the time counts for nothing.
#[must_use]
pub fn step(now: OffsetDateTime) -> i64 {
    now.unix_timestamp().div_euclid(STEP_SECONDS)
}

/// The wait after so many wrong codes in a row. [`store::charge`] computes the same in SQL, where it decides; this is for telling.
pub(crate) fn wait_after(failures: i32) -> Duration {
    let beyond = u32::try_from(failures - FREE_FAILURES).ok();
    beyond.map_or(Duration::ZERO, |beyond| Duration::from_secs(30 << beyond.min(10)).min(Duration::from_hours(1)))
}

/// What is known of one authenticator's clock and codes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// 1 where the app's clock was learned to be ahead by up to a step, else 0.
    pub drift: i16,
    /// The newest step used, by any of the account's authenticators.
    pub last_step: Option<i64>,
    /// The newest step refused for coming too early.
    pub early_step: Option<i64>,
}

/// What a code is, at one moment, to one authenticator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may be used for one of these steps, tried in this order.
    Right { steps: Vec<i64>, drift: i16 },
    /// Its step has been used.
    Used,
    /// Its clock is off by so many steps; positive: ahead.
    Clock { steps: i64 },
    /// Neither now nor near.
    Wrong,
}

/// The two steps that are accepted at `now`: this one and the one before, for the time it takes to type (RFC 6238 §5.2); for an
/// app whose clock is ahead, this one and the next. Never three.
fn window(now: i64, drift: i16) -> [i64; 2] {
    [now + i64::from(drift) - 1, now + i64::from(drift)]
}

/// Looks at a code, and decides nothing: [`store::accept`] does.
///
/// A code of a step to come is refused, and remembered so that it stays refused ([`History::early_step`]): else saying "your clock
/// is ahead" would tell a guesser when to come back. Two such codes in a row can't be guessed; they are a clock that is ahead by
/// less than a step, and from then on the window lies one step later (RFC 6238 §6). It lies back as soon as a code shows that.
pub(crate) fn judge(secret: &Secret, code: &Code, now: i64, history: History) -> Verdict {
    let is = |step: i64| secret.code(step).is(code);
    let matching: Vec<i64> = window(now, history.drift).into_iter().filter(|&step| is(step)).collect();
    if !matching.is_empty() {
        let steps: Vec<i64> = matching
            .into_iter()
            .filter(|&step| history.last_step.is_none_or(|last| step > last) && history.early_step != Some(step))
            .collect();
        return if steps.is_empty() { Verdict::Used } else { Verdict::Right { steps, drift: history.drift } };
    }
    if history.drift == 0 && is(now + 1) {
        let learned = history.early_step.is_some_and(|early| early < now + 1 && early >= now - CLOCK_STEPS);
        return if learned { Verdict::Right { steps: vec![now + 1], drift: 1 } } else { Verdict::Clock { steps: 1 } };
    }
    // The nearest first. What is past can't become right any more; what is to come is remembered.
    (1..=CLOCK_STEPS)
        .flat_map(|distance| [-distance, distance])
        .find(|offset| is(now + offset))
        .map_or(Verdict::Wrong, |steps| Verdict::Clock { steps })
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac;
    use totp_rs::{Algorithm, Builder};

    use super::*;

    fn secret() -> Secret {
        Secret(Zeroizing::new(*b"12345678901234567890"))
    }

    /// RFC 4226 Appendix D.
    #[test]
    fn hotp_vectors() {
        let expected = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"];
        for (counter, code) in (0..).zip(expected) {
            assert!(secret().code(counter).is(&Code::of_digits(code).expect("six digits")), "counter {counter}");
        }
    }

    /// RFC 6238 Appendix B; the last one lies beyond 32 bits of seconds.
    #[test]
    fn totp_vectors() {
        let times = [59, 1_111_111_109, 1_111_111_111, 1_234_567_890, 2_000_000_000, 20_000_000_000];
        let key = b"1234567890123456789012345678901234567890123456789012345678901234";
        for (algorithm, length, codes) in [
            (Algorithm::SHA1, 20, ["94287082", "07081804", "14050471", "89005924", "69279037", "65353130"]),
            (Algorithm::SHA256, 32, ["46119246", "68084774", "67062674", "91819424", "90698825", "77737706"]),
            (Algorithm::SHA512, 64, ["90693936", "25091201", "99943326", "93441116", "38618901", "47863826"]),
        ] {
            let totp = Builder::new()
                .with_algorithm(algorithm)
                .with_digits(8)
                .with_secret(key[..length].to_vec())
                .build()
                .expect("the RFC's own parameters");
            for (time, code) in times.into_iter().zip(codes) {
                assert_eq!(totp.generate(time).to_string(), code, "{algorithm} at {time}");
                if algorithm == Algorithm::SHA1 {
                    let step = i64::try_from(time / 30).expect("far below 2^63");
                    assert!(secret().code(step).is(&Code::of_digits(&code[2..]).expect("six digits")), "at {time}");
                }
            }
        }
    }

    /// RFC 4226 §5.3, written again on another library.
    fn independently(key: &[u8], counter: u64) -> u32 {
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key), &counter.to_be_bytes());
        let mac = mac.as_ref();
        let offset = usize::from(mac[19] & 15);
        let word = u32::from_be_bytes(mac[offset..offset + 4].try_into().expect("four bytes"));
        (word & 0x7fff_ffff) % 1_000_000
    }

    #[test]
    fn two_implementations_agree_on_a_million_keys_and_times() {
        let agree = || {
            for _ in 0..250_000 {
                let secret = Secret::new();
                let time = u64::from_be_bytes(random()) % 100_000_000_000;
                let step = i64::try_from(time / 30).expect("far below 2^63");
                let expected = format!("{:06}", independently(&*secret.0, time / 30));
                assert!(secret.code(step).is(&Code::of_digits(&expected).expect("six digits")), "at {time}");
            }
        };
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(agree);
            }
        });
    }

    #[test]
    fn the_uri_is_encoded_and_has_no_colon_inside() {
        let uri = secret().uri("mara:o'neill+x@example.org").to_string();
        assert_eq!(
            uri,
            "otpauth://totp/Latchkey:mara%20o%27neill%2Bx%40example.org?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Latchkey"
        );
        assert_eq!(secret().base32().len(), 32);
    }

    fn offset(verdict: &Verdict, now: i64) -> &'static str {
        match verdict {
            Verdict::Right { steps, .. } if steps.len() == 1 && (-1..=1).contains(&(steps[0] - now)) => "right",
            Verdict::Right { .. } => "right, but of another step",
            Verdict::Used => "used",
            Verdict::Clock { .. } => "clock",
            Verdict::Wrong => "wrong",
        }
    }

    /// The whole policy: what is accepted from three steps back to three steps ahead.
    #[test]
    fn two_steps_are_accepted_and_never_three() {
        let (secret, now) = (secret(), 57_000_000);
        for (drift, expected) in [
            (0, ["clock", "clock", "right", "right", "clock", "clock", "clock"]),
            (1, ["clock", "clock", "clock", "right", "right", "clock", "clock"]),
        ] {
            let history = History { drift, ..History::default() };
            let found: Vec<_> = (-3..=3).map(|o| offset(&judge(&secret, &secret.code(now + o), now, history), now)).collect();
            assert_eq!(found, expected, "drift {drift}");
        }
    }

    #[test]
    fn a_used_step_and_those_before_it_are_used() {
        let (secret, now) = (secret(), 57_000_000);
        let judged = |step, last| judge(&secret, &secret.code(step), now, History { last_step: Some(last), ..History::default() });
        assert_eq!(judged(now, now), Verdict::Used);
        assert_eq!(judged(now - 1, now), Verdict::Used);
        assert_eq!(judged(now, now - 1), Verdict::Right { steps: vec![now], drift: 0 });
    }

    #[test]
    fn a_code_that_came_early_stays_refused_and_the_next_one_teaches() {
        let (secret, now) = (secret(), 57_000_000);
        let history = History::default();
        assert_eq!(judge(&secret, &secret.code(now + 1), now, history), Verdict::Clock { steps: 1 });
        let history = History { early_step: Some(now + 1), ..history };
        assert_eq!(
            judge(&secret, &secret.code(now + 1), now + 1, history),
            Verdict::Used,
            "its time has come, and it stays refused"
        );
        // The same code again teaches nothing; the next one, early again, does.
        assert_eq!(judge(&secret, &secret.code(now + 1), now, history), Verdict::Clock { steps: 1 });
        let learned = Verdict::Right { steps: vec![now + 2], drift: 1 };
        assert_eq!(judge(&secret, &secret.code(now + 2), now + 1, history), learned);
        let long_ago = History { early_step: Some(now - 21), ..history };
        assert_eq!(judge(&secret, &secret.code(now + 1), now, long_ago), Verdict::Clock { steps: 1 });
    }

    #[test]
    fn clocks_far_off_are_told_and_further_off_is_just_wrong() {
        let (secret, now) = (secret(), 57_000_000);
        let judged = |step| judge(&secret, &secret.code(step), now, History::default());
        for steps in [-20, -2, 2, 20] {
            assert_eq!(judged(now + steps), Verdict::Clock { steps });
        }
        assert_eq!(judged(now - 21), Verdict::Wrong);
        assert_eq!(judged(now + 21), Verdict::Wrong);
    }

    #[test]
    fn a_secret_opens_for_its_own_row_and_account_only() {
        let keys = Keys::new(&[7; 32], &[]);
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let sealed = secret().seal(&keys, a, b);
        assert_eq!(Secret::open(&keys, &sealed, a, b), Ok(secret()));
        assert_eq!(Secret::open(&keys, &sealed, b, b), Err(Unreadable::Tampered));
        assert_eq!(Secret::open(&keys, &sealed, a, a), Err(Unreadable::Tampered));
        assert!(!format!("{:?}", secret()).contains("1234"));
    }
}
