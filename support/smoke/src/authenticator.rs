//! An authenticator app: RFC 6238 and nothing of ours, so that both sides can't be wrong in the same way.

use std::{collections::HashSet, time::Duration};

use auth::primitives::clock::{Clock as _, SystemClock};
use aws_lc_rs::hmac;
use data_encoding::BASE32_NOPAD;
use url::Url;

const STEP: i64 = 30;
/// Later than this in a step, the one before may be over when its code arrives.
const LATE: i64 = 20;

pub struct App {
    key: hmac::Key,
    /// The newest step that a code was made for: an instance takes none twice.
    last: i64,
    clock: SystemClock,
}

impl App {
    /// From the address a set-up page links to: `otpauth://totp/…?secret=…`.
    pub fn of(uri: &str) -> Option<Self> {
        let uri = Url::parse(uri).ok().filter(|uri| uri.scheme() == "otpauth")?;
        let (_, secret) = uri.query_pairs().find(|(name, _)| name == "secret")?;
        let secret = BASE32_NOPAD.decode(secret.as_bytes()).ok()?;
        Some(Self { key: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &secret), last: i64::MIN, clock: SystemClock::new() })
    }

    /// A code that works now and was not given before: of the step before this one while that works still, so that nobody waits
    /// half a minute for the second code.
    pub async fn code(&mut self) -> String {
        let now = self.clock.now().unix_timestamp();
        let oldest = if now.rem_euclid(STEP) < LATE { now.div_euclid(STEP) - 1 } else { now.div_euclid(STEP) };
        let step = oldest.max(self.last.saturating_add(1));
        let wait = u64::try_from(step * STEP - now).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(wait)).await;
        self.last = step;
        self.of_step(step)
    }

    /// Six digits that are no code of any time near.
    pub fn wrong_code(&self) -> String {
        let now = self.clock.now().unix_timestamp().div_euclid(STEP);
        let near: HashSet<String> = (-25..=25).map(|offset| self.of_step(now + offset)).collect();
        (0..100).map(|n| format!("{n:06}")).find(|code| !near.contains(code)).expect("a hundred is more than fifty-one")
    }

    fn of_step(&self, step: i64) -> String {
        let mac = hmac::sign(&self.key, &step.to_be_bytes());
        let mac = mac.as_ref();
        let offset = usize::from(mac[19] & 15);
        let word = u32::from_be_bytes(mac[offset..offset + 4].try_into().expect("four bytes"));
        format!("{:06}", (word & 0x7fff_ffff) % 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238 Appendix B, the last six digits.
    #[test]
    fn codes_are_those_of_the_standard() {
        let app = App::of("otpauth://totp/Latchkey:m?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Latchkey").expect("an app");
        for (time, code) in [(59, "287082"), (1_111_111_109, "081804"), (2_000_000_000, "279037"), (20_000_000_000, "353130")] {
            assert_eq!(app.of_step(time / STEP), code);
        }
        assert_eq!(app.wrong_code().len(), 6);
        assert!(App::of("https://example.org/?secret=GEZDGNBV").is_none() && App::of("otpauth://totp/x").is_none());
    }

    #[tokio::test]
    async fn the_second_code_comes_at_once_and_is_another_steps() {
        let mut app = App::of("otpauth://totp/Latchkey:m?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ").expect("an app");
        app.code().await;
        let first = app.last;
        let now = app.clock.now().unix_timestamp().div_euclid(STEP);
        assert!(first == now || first == now - 1);
        if first < now {
            app.code().await;
            assert_eq!(app.last, first + 1);
        }
    }
}
