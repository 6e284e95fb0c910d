//! What must not leak: tokens, codes, the keys they come from. Nothing here prints itself, and only hashes reach SQL.
//!
//! Not here: which secret belongs to which row: that lies with the row.
//! To add one: a kind of token is an empty enum and its type here.

use std::{fmt, marker::PhantomData};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    constant_time, digest,
    hkdf::{HKDF_SHA256, KeyType, Salt},
    hmac, rand,
};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use time::OffsetDateTime;
use uuid::{NoContext, Timestamp, Uuid};
use zeroize::Zeroizing;

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

/// 256 secret bits that a person or browser carries; `K` tells the kinds apart.
#[derive(Clone, PartialEq, Eq)]
pub struct Token<K>([u8; 32], PhantomData<fn() -> K>);

/// The token in a sign-in link.
#[derive(Clone, PartialEq, Eq)]
pub enum Link {}
/// The token in an invitation.
#[derive(Clone, PartialEq, Eq)]
pub enum Invitation {}
/// What ties a request to the browser that made it. It lives in that browser's session, not in a cookie of its own.
#[derive(Clone, PartialEq, Eq)]
pub enum Browser {}
/// The cookie of a browser that has signed an account in before.
#[derive(Clone, PartialEq, Eq)]
pub enum KnownBrowser {}
/// The cookie of a browser that an account's owner trusts with the second factor.
#[derive(Clone, PartialEq, Eq)]
pub enum TrustedDevice {}

/// The cookie that a browser shows to a proxy in front of another application.
#[derive(Clone, PartialEq, Eq)]
pub enum ForwardAuth {}
/// The secret part of an API key.
#[derive(Clone, PartialEq, Eq)]
pub enum ApiKeySecret {}
/// The token in a mail's link that takes something back.
#[derive(Clone, PartialEq, Eq)]
pub enum RevertLink {}
/// What ties a request to the application that made it, as a browser's nonce ties one to its browser.
#[derive(Clone, PartialEq, Eq)]
pub enum ApiRequest {}
/// The session that an application holds for somebody.
#[derive(Clone, PartialEq, Eq)]
pub enum ApiSession {}
/// The same of somebody who has given one factor of two.
#[derive(Clone, PartialEq, Eq)]
pub enum ApiChallenge {}

pub type LinkToken = Token<Link>;
pub type InviteToken = Token<Invitation>;
pub type BrowserNonce = Token<Browser>;
pub type KnownBrowserToken = Token<KnownBrowser>;
pub type TrustedDeviceToken = Token<TrustedDevice>;
pub type ForwardAuthToken = Token<ForwardAuth>;
pub type RevertToken = Token<RevertLink>;
pub(crate) type ApiSecret = Token<ApiKeySecret>;
pub type RequestSecret = Token<ApiRequest>;
pub type SessionToken = Token<ApiSession>;
pub type Challenge = Token<ApiChallenge>;

impl<K> Token<K> {
    #[must_use]
    pub fn new() -> Self {
        Self::from_bytes(random())
    }

    fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes, PhantomData)
    }

    /// `None` where the text is not a whole token: 43 characters of base64url.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        Some(Self::from_bytes(bytes.try_into().ok()?))
    }

    /// The text that goes into the one cookie, form or mail it is meant for, and nowhere else.
    #[must_use]
    pub fn reveal(&self) -> String {
        BASE64URL_NOPAD.encode(&self.0)
    }

    /// What may be stored.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        sha256(&self.0)
    }
}

impl RequestSecret {
    /// What stands in the row where a browser's nonce has its hash. The API key is part of it: the secret is worth nothing with
    /// another, and nothing that a browser holds has this hash.
    pub(crate) fn binding(&self, api_key: Uuid) -> [u8; 32] {
        let mut bound = [0; 48];
        bound[..16].copy_from_slice(api_key.as_bytes());
        bound[16..].copy_from_slice(&self.0);
        sha256(&bound)
    }
}

impl SessionToken {
    pub(crate) fn key(&self) -> SessionKey {
        SessionKey(self.hash())
    }

    /// The same token, where its session turned out to have given one factor of two.
    pub(crate) fn into_challenge(self) -> Challenge {
        Token::from_bytes(self.0)
    }
}

impl Challenge {
    pub(crate) fn key(&self) -> SessionKey {
        SessionKey(self.hash())
    }
}

impl<K> Default for Token<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> fmt::Debug for Token<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// The hash of a session's id (a browser's) or token (an application's): the row's key, and the handle by which the domain speaks
/// of a session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SessionKey(pub(crate) [u8; 32]);

impl SessionKey {
    /// `id` holds 128 random bits, made by the session layer.
    #[must_use]
    pub fn of(id: [u8; 16]) -> Self {
        Self(sha256(&id))
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(***)")
    }
}

/// Six digits: of a mail, or of an authenticator app (NIST 800-63B-4 §3.1.3.2 and §3.1.4.1 ask for at least six).
#[derive(Clone, PartialEq, Eq)]
pub struct Code([u8; 6]);

/// Why typed text is not a code. Nothing was tried, so nothing was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodeFormat {
    #[error("no code was typed")]
    Missing,
    #[error("a code has 6 digits, not {0}")]
    WrongLength(usize),
}

impl Code {
    /// Takes what people type and paste: spaces and hyphens between ASCII digits don't matter. Anything else is not a code.
    ///
    /// # Errors
    /// [`CodeFormat`], which counts the digits found.
    pub fn parse(text: &str) -> Result<Self, CodeFormat> {
        let typed: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b' ' | b'-' | b'\t' | b'\r' | b'\n')).collect();
        let digits = typed.iter().filter(|byte| byte.is_ascii_digit()).count();
        if typed.is_empty() {
            return Err(CodeFormat::Missing);
        }
        if digits != typed.len() {
            return Err(CodeFormat::WrongLength(digits));
        }
        let length = typed.len();
        typed.try_into().map(Self).map_err(|_| CodeFormat::WrongLength(length))
    }

    /// `None` where the text is anything but six digits.
    pub(crate) fn of_digits(text: &str) -> Option<Self> {
        let digits: [u8; 6] = text.as_bytes().try_into().ok()?;
        digits.iter().all(u8::is_ascii_digit).then_some(Self(digits))
    }

    /// Compares without telling by its time how much was right.
    pub(crate) fn is(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }

    /// As it stands in the mail: "482 931".
    #[must_use]
    pub fn reveal(&self) -> String {
        let text: String = self.0.iter().copied().map(char::from).collect();
        format!("{} {}", &text[..3], &text[3..])
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(***)")
    }
}

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
    pub(crate) fn link_token(&self, seed: &Seed) -> Option<LinkToken> {
        let key = self.by_id(&seed.key_id)?;
        Some(Token::from_bytes(mac(&key.link_token, &seed.nonce)))
    }

    pub(crate) fn invite_token(&self, seed: &Seed) -> Option<InviteToken> {
        let key = self.by_id(&seed.key_id)?;
        Some(Token::from_bytes(mac(&key.invite_token, &seed.nonce)))
    }

    pub(crate) fn code(&self, seed: &Seed) -> Option<Code> {
        Some(six_digits(&mac(&self.by_id(&seed.key_id)?.link_code, &seed.nonce)))
    }

    /// A code for someone signed in: derived by a key of its own, so that no sign-in code is ever one.
    pub(crate) fn step_up_code(&self, seed: &Seed) -> Option<Code> {
        Some(six_digits(&mac(&self.by_id(&seed.key_id)?.step_up_code, &seed.nonce)))
    }

    /// A code to a new address. It proves that address, and nothing else.
    pub(crate) fn email_change_code(&self, seed: &Seed) -> Option<Code> {
        Some(six_digits(&mac(&self.by_id(&seed.key_id)?.email_change_code, &seed.nonce)))
    }

    pub(crate) fn undo_token(&self, seed: &Seed) -> Option<RevertToken> {
        let key = self.by_id(&seed.key_id)?;
        Some(Token::from_bytes(mac(&key.undo_token, &seed.nonce)))
    }

    /// Derived like the mail's link: asked again, the same request has the same secret, and no row holds it.
    pub(crate) fn request_secret(&self, seed: &Seed) -> Option<RequestSecret> {
        let key = self.by_id(&seed.key_id)?;
        Some(Token::from_bytes(mac(&key.request_secret, &seed.nonce)))
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

/// 2^64 is so far above 10^6 that no code is likelier than another by more than 1 in 10^13.
fn six_digits(mac: &[u8; 32]) -> Code {
    let number = u64::from_be_bytes(mac[..8].try_into().expect("8 of 32 bytes"));
    Code::of_digits(&format!("{:06}", number % 1_000_000)).expect("six digits")
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("current", &self.current.id).finish_non_exhaustive()
    }
}

/// Compares without telling by its time how much was right.
pub(crate) fn same(a: &[u8; 32], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_and_nothing_shorter_does() {
        let token = LinkToken::new();
        let text = token.reveal();
        assert_eq!(text.len(), 43);
        assert_eq!(LinkToken::parse(&text), Some(token));
        for cut in 0..text.len() {
            assert_eq!(LinkToken::parse(&text[..cut]), None);
        }
        assert_eq!(LinkToken::parse(&format!("{text}A")), None);
    }

    #[test]
    fn a_code_keeps_leading_zeros_and_forgives_spaces_and_hyphens() {
        let code = Code(*b"004931");
        assert_eq!(code.reveal(), "004 931");
        for typed in ["004931", "004 931", " 004-931\n", "0 0 4 9 3 1"] {
            assert_eq!(Code::parse(typed), Ok(code.clone()), "{typed:?}");
        }
    }

    #[test]
    fn what_is_not_six_digits_is_not_a_code() {
        for (typed, expected) in [
            ("", CodeFormat::Missing),
            ("  ", CodeFormat::Missing),
            ("12345", CodeFormat::WrongLength(5)),
            ("1234567", CodeFormat::WrongLength(7)),
            ("+123456", CodeFormat::WrongLength(6)),
            ("12345a", CodeFormat::WrongLength(5)),
            ("１２３４５６", CodeFormat::WrongLength(0)),
        ] {
            assert_eq!(Code::parse(typed), Err(expected), "{typed:?}");
        }
    }

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
