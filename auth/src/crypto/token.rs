//! What somebody carries to prove who they are: tokens, and the key of a session.

use std::{fmt, marker::PhantomData};

use data_encoding::BASE64URL_NOPAD;
use uuid::Uuid;

use super::{random, sha256};

/// 256 secret bits that a person or browser carries; `K` tells the kinds apart.
#[derive(Clone, PartialEq, Eq)]
pub struct Token<K>([u8; 32], PhantomData<fn() -> K>);

/// Each kind of token: what tells it apart, and what it is called.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $visibility:vis $token:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq)]
        pub enum $kind {}
        $visibility type $token = Token<$kind>;
    )+};
}

kinds! {
    /// The token in a sign-in link.
    Link: pub LinkToken;
    /// The token in an invitation.
    Invitation: pub InviteToken;
    /// What ties a request to the browser that made it. It lives in that browser's session, not in a cookie of its own.
    Browser: pub BrowserNonce;
    /// What a browser shows that has signed an account in before: a token for each account, all in one [`KnownBrowserCookie`].
    KnownBrowser: pub KnownBrowserToken;
    /// The cookie of a browser that an account's owner trusts with the second factor.
    TrustedDevice: pub TrustedDeviceToken;
    /// The cookie that a browser shows to a proxy in front of another application.
    ForwardAuth: pub ForwardAuthToken;
    /// The secret part of an API key.
    ApiKeySecret: pub(crate) ApiSecret;
    /// The token in a mail's link that takes something back.
    RevertLink: pub RevertToken;
    /// What ties a request to the application that made it, as a browser's nonce ties one to its browser.
    ApiRequest: pub RequestSecret;
    /// The session that an application holds for somebody.
    ApiSession: pub SessionToken;
    /// The same of somebody who has given one factor of two.
    ApiChallenge: pub Challenge;
}

impl<K> Token<K> {
    #[must_use]
    pub fn new() -> Self {
        Self::from_bytes(random())
    }

    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
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

/// The cookie of a browser that has signed accounts in before. Each account has a token of its own, made when it first signed in there: a
/// copy that somebody took before is worth nothing for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownBrowserCookie(Vec<KnownBrowserToken>);

impl KnownBrowserCookie {
    /// Accounts that one browser is known by. More than a household has; those whose tokens were made first are strangers again.
    const MOST: usize = 8;
    const SEPARATOR: char = '.';

    /// `None` where there is no whole token. The version before knew one token, which is a list of one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let tokens: Vec<_> = text.split(Self::SEPARATOR).filter_map(KnownBrowserToken::parse).take(Self::MOST).collect();
        (!tokens.is_empty()).then_some(Self(tokens))
    }

    /// The cookie's value.
    #[must_use]
    pub fn reveal(&self) -> String {
        let tokens: Vec<String> = self.0.iter().map(Token::reveal).collect();
        tokens.join(&Self::SEPARATOR.to_string())
    }

    pub(crate) fn hashes(&self) -> Vec<Vec<u8>> {
        self.0.iter().map(|token| token.hash().to_vec()).collect()
    }

    pub(crate) fn find(&self, hash: &[u8]) -> Option<&KnownBrowserToken> {
        self.0.iter().find(|token| token.hash() == hash)
    }

    /// With another token, in the place of the one that has this hash.
    pub(crate) fn with(&self, token: KnownBrowserToken, replaced: Option<&[u8]>) -> Self {
        let others = self.0.iter().filter(|other| replaced.is_none_or(|hash| other.hash() != hash)).cloned();
        Self([token].into_iter().chain(others).take(Self::MOST).collect())
    }
}

impl From<KnownBrowserToken> for KnownBrowserCookie {
    fn from(token: KnownBrowserToken) -> Self {
        Self(vec![token])
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
    fn a_cookie_holds_a_token_for_each_account_and_eight_at_most() {
        let first = KnownBrowserToken::new();
        let mut cookie = KnownBrowserCookie::from(first.clone());
        assert_eq!(cookie.reveal(), first.reveal(), "the version before reads a cookie of one token");
        let second = KnownBrowserToken::new();
        cookie = cookie.with(second.clone(), None);
        assert_eq!(KnownBrowserCookie::parse(&cookie.reveal()).as_ref(), Some(&cookie));
        assert_eq!(cookie.find(&first.hash()), Some(&first));
        cookie = cookie.with(KnownBrowserToken::new(), Some(&first.hash()));
        assert!(cookie.find(&first.hash()).is_none() && cookie.find(&second.hash()).is_some());
        for _ in 0..7 {
            cookie = cookie.with(KnownBrowserToken::new(), None);
        }
        assert!(cookie.hashes().len() == 8 && cookie.find(&second.hash()).is_none(), "the oldest go first");
        let long = format!("{}.{}", cookie.reveal(), first.reveal());
        assert_eq!(KnownBrowserCookie::parse(&long).map(|cookie| cookie.hashes().len()), Some(8));
        for nothing in ["", ".", "a.b"] {
            assert_eq!(KnownBrowserCookie::parse(nothing), None, "{nothing}");
        }
    }
}
