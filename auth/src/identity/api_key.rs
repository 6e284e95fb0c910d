//! Another application, and what its key may do.

use std::fmt;

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};
use uuid::Uuid;

use crate::crypto::random;

/// What a key may do. Each route of the API asks for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Scope {
    SignIn,
    Sessions,
    Users,
    #[strum(serialize = "audit:read")]
    AuditRead,
    Flags,
    #[strum(serialize = "metrics:read")]
    MetricsRead,
}

named!(Scope);

impl Scope {
    /// Opens what else only administrators see or do. The other two open nothing without a person's own code or session, so an
    /// application goes on signing people in when the one who set it up has left.
    #[must_use]
    pub fn is_admins(self) -> bool {
        !matches!(self, Self::SignIn | Self::Sessions)
    }
}

/// The part of a key that names it, in lists, mails and the audit. It is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix([u8; 8]);

impl Prefix {
    /// Letters and digits that nobody takes for one another.
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

    pub(crate) fn new() -> Self {
        // 256 is a multiple of 32: no character is likelier than another.
        Self(random::<8>().map(|byte| Self::ALPHABET[usize::from(byte) % Self::ALPHABET.len()]))
    }

    /// With `lk_` before it, as pages show it, or without.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 8] = text.strip_prefix(MARK).unwrap_or(text).as_bytes().try_into().ok()?;
        bytes.iter().all(|byte| Self::ALPHABET.contains(byte)).then_some(Self(bytes))
    }

    pub(crate) fn bare(self) -> String {
        self.0.iter().copied().map(char::from).collect()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{MARK}{}", self.bare())
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

impl TryFrom<String> for Prefix {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not the beginning of an API key")
    }
}

/// What every key begins with, so that a scanner of source code knows one.
pub(crate) const MARK: &str = "lk_";

/// A key that works, as a request finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub id: Uuid,
    pub name: String,
    pub prefix: Prefix,
    /// What it may do at this moment: without its maker's rights, where its maker has lost them.
    pub scopes: Vec<Scope>,
}

impl ApiKey {
    #[must_use]
    pub fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}
