//! The root keys, what is derived from them, and secrets at rest.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
    hmac,
};
use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::{
    code::{Code, six_digits},
    random, same,
    token::{InviteToken, LinkToken, RequestSecret, RevertToken, Token},
};

/// The root keys (`WALLET_ENCRYPTION_KEY` and its predecessors) and what is derived from them.
///
/// A link's token and code are an HMAC over a random nonce, so the row that waits for the worker holds no secret,
/// and sending twice sends the same mail.
pub struct Keys {
    /// On the heap: it holds a dozen keys, and whatever holds it by value is moved about.
    current: Box<Derived>,
    previous: Vec<Derived>,
}

struct Derived {
    id: String,
    link_token: hmac::Key,
    link_code: hmac::Key,
    code_hash: hmac::Key,
    invite_token: hmac::Key,
    pseudonym: hmac::Key,
    step_up_code: hmac::Key,
    email_change_code: hmac::Key,
    undo_token: hmac::Key,
    request_secret: hmac::Key,
    audit_seal: hmac::Key,
    at_rest: RandomizedNonceKey,
}

/// A secret as it lies in a row: encrypted, bound to that row, under the key named beside it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub key_id: String,
    /// Nonce, ciphertext, tag.
    pub bytes: Vec<u8>,
}

/// Why a sealed secret can't be had. Neither has a way on but another factor, so whoever gets one fails closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Its key is neither the current nor a previous one.
    KeyMissing,
    /// It was changed, or belongs to another row.
    Tampered,
}

impl Unreadable {
    pub fn reason(self) -> &'static str {
        match self {
            Self::KeyMissing => "key_missing",
            Self::Tampered => "tampered",
        }
    }
}

/// A nonce and the key that turns it into secrets.
pub(crate) struct Seed {
    pub nonce: [u8; 32],
    pub key_id: String,
}

struct Sha256Length;

impl KeyType for Sha256Length {
    fn len(&self) -> usize {
        32
    }
}

impl Derived {
    fn new(root: &[u8; 32]) -> Self {
        let prk = Salt::new(HKDF_SHA256, b"latchkey").extract(root);
        let expand = |purpose: &[u8]| {
            let mut bytes = Zeroizing::new([0; 32]);
            prk.expand(&[purpose], Sha256Length).and_then(|okm| okm.fill(&mut *bytes)).expect("32 bytes are within HKDF's range");
            bytes
        };
        let derive = |purpose: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, &*expand(purpose));
        // The id is derived too: it names the key in rows without telling anything of it.
        let id = hmac::sign(&derive(b"key id"), b"");
        Self {
            id: HEXLOWER.encode(&id.as_ref()[..4]),
            link_token: derive(b"link token"),
            link_code: derive(b"link code"),
            code_hash: derive(b"code hash"),
            invite_token: derive(b"invite token"),
            pseudonym: derive(b"pseudonym"),
            step_up_code: derive(b"step-up code"),
            email_change_code: derive(b"email change code"),
            undo_token: derive(b"undo token"),
            request_secret: derive(b"request secret"),
            audit_seal: derive(b"audit seal"),
            at_rest: RandomizedNonceKey::new(&AES_256_GCM, &*expand(b"at rest")).expect("a key of 32 bytes"),
        }
    }
}

fn mac(key: &hmac::Key, message: &[u8]) -> [u8; 32] {
    hmac::sign(key, message).as_ref().try_into().expect("HMAC-SHA-256 is 32 bytes long")
}

impl Keys {
    #[must_use]
    pub fn new(current: &[u8; 32], previous: &[[u8; 32]]) -> Self {
        Self { current: Box::new(Derived::new(current)), previous: previous.iter().map(Derived::new).collect() }
    }

    fn by_id(&self, id: &str) -> Option<&Derived> {
        std::iter::once(&*self.current).chain(&self.previous).find(|key| key.id == id)
    }

    pub(crate) fn seed(&self) -> Seed {
        Seed { nonce: random(), key_id: self.current.id.clone() }
    }

    /// `None` where the key of that id is gone: the mail can't be sent, and no link works that was not sent.
    fn derived(&self, seed: &Seed, purpose: impl FnOnce(&Derived) -> &hmac::Key) -> Option<[u8; 32]> {
        Some(mac(purpose(self.by_id(&seed.key_id)?), &seed.nonce))
    }

    pub(crate) fn link_token(&self, seed: &Seed) -> Option<LinkToken> {
        self.derived(seed, |key| &key.link_token).map(Token::from_bytes)
    }

    pub(crate) fn invite_token(&self, seed: &Seed) -> Option<InviteToken> {
        self.derived(seed, |key| &key.invite_token).map(Token::from_bytes)
    }

    pub(crate) fn undo_token(&self, seed: &Seed) -> Option<RevertToken> {
        self.derived(seed, |key| &key.undo_token).map(Token::from_bytes)
    }

    /// Derived like the mail's link: asked again, the same request has the same secret, and no row holds it.
    pub(crate) fn request_secret(&self, seed: &Seed) -> Option<RequestSecret> {
        self.derived(seed, |key| &key.request_secret).map(Token::from_bytes)
    }

    pub(crate) fn code(&self, seed: &Seed) -> Option<Code> {
        self.derived(seed, |key| &key.link_code).map(six_digits)
    }

    /// A code for someone signed in: derived by a key of its own, so that no sign-in code is ever one.
    pub(crate) fn step_up_code(&self, seed: &Seed) -> Option<Code> {
        self.derived(seed, |key| &key.step_up_code).map(six_digits)
    }

    /// A code to a new address. It proves that address, and nothing else.
    pub(crate) fn email_change_code(&self, seed: &Seed) -> Option<Code> {
        self.derived(seed, |key| &key.email_change_code).map(six_digits)
    }

    /// Keyed, and bound to its request: six digits under a plain hash would be found in a second.
    pub(crate) fn code_hash(&self, seed: &Seed, code: &Code) -> Option<[u8; 32]> {
        let key = self.by_id(&seed.key_id)?;
        let mut message = [0; 38];
        message[..32].copy_from_slice(&seed.nonce);
        message[32..].copy_from_slice(&code.0);
        Some(mac(&key.code_hash, &message))
    }

    pub(crate) fn current_id(&self) -> &str {
        &self.current.id
    }

    /// The ids of all keys that can be read with, the current one first.
    pub(crate) fn ids(&self) -> Vec<String> {
        std::iter::once(&*self.current).chain(&self.previous).map(|key| key.id.clone()).collect()
    }

    /// Encrypts with the current key: AES-256-GCM under a random nonce (NIST SP 800-38D §8.2.2). `place` names the one table,
    /// column and row it may be read from.
    pub(crate) fn seal(&self, place: &[u8], secret: &[u8]) -> Sealed {
        let mut bytes = secret.to_vec();
        let nonce = self.current.at_rest.seal_in_place_append_tag(Aad::from(place), &mut bytes).expect("a few bytes can be sealed");
        bytes.splice(0..0, nonce.as_ref().iter().copied());
        Sealed { key_id: self.current.id.clone(), bytes }
    }

    pub(crate) fn open(&self, place: &[u8], sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
        let key = self.by_id(&sealed.key_id).ok_or(Unreadable::KeyMissing)?;
        let (nonce, rest) = sealed.bytes.split_at_checked(NONCE_LEN).ok_or(Unreadable::Tampered)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unreadable::Tampered)?;
        let mut bytes = Zeroizing::new(rest.to_vec());
        let length = key.at_rest.open_in_place(nonce, Aad::from(place), &mut bytes).map_err(|_| Unreadable::Tampered)?.len();
        bytes.truncate(length);
        Ok(bytes)
    }

    /// What vouches for a batch of the audit, and the id of the key it was made with: the current one.
    pub(crate) fn audit_mac(&self, hash: &[u8; 32]) -> (&str, [u8; 32]) {
        (&self.current.id, mac(&self.current.audit_seal, hash))
    }

    /// `None` where the key is gone.
    pub(crate) fn is_audit_mac(&self, key_id: &str, hash: &[u8; 32], claimed: &[u8]) -> Option<bool> {
        Some(same(&mac(&self.by_id(key_id)?.audit_seal, hash), claimed))
    }

    /// A stable stand-in for an identity (an address, a network), so that counters and audit rows hold none.
    pub(crate) fn pseudonym(&self, identity: &[u8]) -> [u8; 32] {
        mac(&self.current.pseudonym, identity)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("current", &self.current.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SessionKey;

    #[test]
    fn token_code_and_key_id_differ_by_purpose_and_by_root() {
        let (a, b) = (Keys::new(&[1; 32], &[]), Keys::new(&[2; 32], &[[1; 32]]));
        let seed = a.seed();
        assert_ne!(a.link_token(&seed).map(|t| t.reveal()), a.invite_token(&seed).map(|t| t.reveal()));
        // After a rotation the old root still opens what it made, and makes nothing new.
        assert_eq!(b.link_token(&seed), a.link_token(&seed));
        assert_ne!(b.seed().key_id, seed.key_id);
        assert_eq!(Keys::new(&[2; 32], &[]).link_token(&seed), None);
    }

    /// A copy of the database has every nonce and no root.
    #[test]
    fn what_is_derived_needs_the_root_and_is_another_for_each_purpose() {
        let derived = |root: u8| {
            let keys = Keys::new(&[root; 32], &[]);
            let seed = Seed { nonce: [9; 32], key_id: keys.current_id().to_owned() };
            let tokens = [
                keys.link_token(&seed).map(|token| token.reveal()),
                keys.invite_token(&seed).map(|token| token.reveal()),
                keys.undo_token(&seed).map(|token| token.reveal()),
                keys.request_secret(&seed).map(|secret| secret.reveal()),
                Some(HEXLOWER.encode(&keys.pseudonym(&seed.nonce))),
            ];
            let codes = [keys.code(&seed), keys.step_up_code(&seed), keys.email_change_code(&seed)];
            tokens.into_iter().chain(codes.map(|code| code.map(|code| code.reveal()))).flatten().collect::<Vec<_>>()
        };
        let mut all = [derived(1), derived(2)].concat();
        assert_eq!(all.len(), 16);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 16, "two are the same");
    }

    #[test]
    fn a_codes_hash_is_keyed_and_bound_to_its_request() {
        let hash = |root: u8, nonce: u8| {
            let keys = Keys::new(&[root; 32], &[]);
            keys.code_hash(&Seed { nonce: [nonce; 32], key_id: keys.current_id().to_owned() }, &Code(*b"004931"))
        };
        assert!(hash(1, 1).is_some() && hash(1, 1) == hash(1, 1));
        assert_ne!(hash(1, 1), hash(2, 1), "another root");
        assert_ne!(hash(1, 1), hash(1, 2), "another request");
    }

    #[test]
    fn codes_are_spread_evenly() {
        let keys = Keys::new(&[7; 32], &[]);
        let mut counts = [0_u32; 10];
        for _ in 0..20_000 {
            for digit in keys.code(&keys.seed()).expect("the key is there").0 {
                counts[usize::from(digit - b'0')] += 1;
            }
        }
        let expected = 12_000.0;
        let chi: f64 = counts.iter().map(|&n| (f64::from(n) - expected).powi(2) / expected).sum();
        // 9 degrees of freedom: above 40 has a chance of about 1 in 100,000.
        assert!(chi < 40.0, "χ² = {chi}, counts {counts:?}");
    }

    #[test]
    fn a_sealed_secret_opens_in_its_own_place_whole_and_with_its_key_or_not_at_all() {
        let (old, new) = (Keys::new(&[1; 32], &[]), Keys::new(&[2; 32], &[[1; 32]]));
        let sealed = old.seal(b"table.column:1", b"secret");
        assert_eq!(old.open(b"table.column:1", &sealed).expect("its own place").as_slice(), b"secret");
        assert_eq!(new.open(b"table.column:1", &sealed).expect("the old key is still known").as_slice(), b"secret");
        assert_eq!(old.open(b"table.column:2", &sealed), Err(Unreadable::Tampered));
        assert_eq!(Keys::new(&[2; 32], &[]).open(b"table.column:1", &sealed), Err(Unreadable::KeyMissing));
        for bit in 0..sealed.bytes.len() * 8 {
            let mut flipped = sealed.clone();
            flipped.bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(old.open(b"table.column:1", &flipped), Err(Unreadable::Tampered), "bit {bit}");
        }
        for length in 0..sealed.bytes.len() {
            let cut = Sealed { bytes: sealed.bytes[..length].to_vec(), ..sealed.clone() };
            assert_eq!(old.open(b"table.column:1", &cut), Err(Unreadable::Tampered), "{length} bytes");
        }
        assert!(old.seal(b"", b"secret").bytes != old.seal(b"", b"secret").bytes, "each time another nonce");
    }

    #[test]
    fn secrets_do_not_print_themselves() {
        let keys = Keys::new(&[7; 32], &[]);
        let seed = keys.seed();
        let (token, code) = (keys.link_token(&seed).expect("key"), keys.code(&seed).expect("key"));
        let printed = format!("{token:?} {code:?} {keys:?} {:?}", SessionKey::of([7; 16]));
        assert!(!printed.contains(&token.reveal()) && !printed.contains(&code.reveal()));
    }
}
