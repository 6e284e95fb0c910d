//! Addresses: parsed once, into a type that holds both what was typed and what makes two spellings one.

use std::fmt;

use sqlx::{
    Decode, Postgres, Type,
    error::BoxDynError,
    postgres::{PgTypeInfo, PgValueRef},
};

/// A well-formed address. Its text never holds a space, quote, comma, line break or control character, so it can name one
/// recipient only, and nothing else can hide in it.
#[derive(Clone, PartialEq, Eq)]
pub struct EmailAddress {
    text: String,
    key: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EmailAddressError {
    #[error("no address was given")]
    Missing,
    #[error("that is not an email address")]
    Malformed,
}

/// RFC 5321 §4.5.3.1.1 and §4.5.3.1.3.
const MAX_LOCAL: usize = 64;
const MAX_ADDRESS: usize = 254;

impl EmailAddress {
    /// Takes `local@domain`: the local part as an unquoted ASCII atom list (RFC 5322 §3.2.3), the domain in Unicode or ASCII,
    /// with at least one dot. Surrounding space is ignored; case, a trailing dot and the domain's spelling make no difference
    /// to who is meant.
    ///
    /// # Errors
    /// [`EmailAddressError`]; it never repeats the text.
    pub fn parse(text: &str) -> Result<Self, EmailAddressError> {
        let text = text.trim_matches(|c: char| c.is_ascii_whitespace());
        if text.is_empty() {
            return Err(EmailAddressError::Missing);
        }
        Self::well_formed(text).ok_or(EmailAddressError::Malformed)
    }

    fn well_formed(text: &str) -> Option<Self> {
        let (local, domain) = text.split_once('@')?;
        let atoms_ok = local.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_atext));
        if local.len() > MAX_LOCAL || !atoms_ok {
            return None;
        }
        let domain = domain.strip_suffix('.').unwrap_or(domain);
        let domain = idna::domain_to_ascii_strict(domain).ok()?;
        let (_, top) = domain.rsplit_once('.')?;
        let labels_ok = domain
            .split('.')
            .all(|label| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
        // A numeric last label would be an IP address, and no mail goes there.
        if !labels_ok || top.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let text = format!("{local}@{domain}");
        (text.len() <= MAX_ADDRESS).then(|| Self { key: text.to_ascii_lowercase(), text })
    }

    /// An address this crate stored itself. A query reads one as `email as "email: EmailAddress"`.
    pub(crate) fn stored(text: &str) -> Option<Self> {
        Self::well_formed(text)
    }

    /// For sending and for showing to its owner.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Who is meant: equal for every spelling of one address.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    #[must_use]
    pub fn domain(&self) -> &str {
        self.key.split_once('@').map_or("", |(_, domain)| domain)
    }
}

impl std::str::FromStr for EmailAddress {
    type Err = EmailAddressError;

    fn from_str(text: &str) -> Result<Self, EmailAddressError> {
        Self::parse(text)
    }
}

impl Type<Postgres> for EmailAddress {
    fn type_info() -> PgTypeInfo {
        <str as Type<Postgres>>::type_info()
    }

    fn compatible(of: &PgTypeInfo) -> bool {
        <str as Type<Postgres>>::compatible(of)
    }
}

/// An address is parsed before it is stored. A row with something else was not written by Latchkey, and can't be read.
impl<'r> Decode<'r, Postgres> for EmailAddress {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(Self::stored(<&str as Decode<Postgres>>::decode(value)?).ok_or(EmailAddressError::Malformed)?)
    }
}

/// The first character and the domain, as people see an address that is not theirs. Always five dots: their number must not give
/// away the length.
pub(crate) fn masked(address: &str) -> String {
    let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    format!("{}•••••@{domain}", local.chars().next().unwrap_or('•'))
}

/// RFC 5322 §3.2.3.
fn is_atext(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

/// Addresses stay out of logs and errors; whoever needs the text asks for it by name.
impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailAddress(***)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_one_address_have_one_key() {
        for text in ["Mara@Example.org", "mara@example.org", "  mara@EXAMPLE.ORG\n", "mara@example.org.", "MARA@example.org"] {
            let address = EmailAddress::parse(text).expect(text);
            assert_eq!(address.key(), "mara@example.org");
        }
        let unicode = EmailAddress::parse("m@bücher.example").expect("an internationalised domain");
        assert_eq!(unicode.key(), EmailAddress::parse("m@XN--BCHER-KVA.example").expect("its ASCII form").key());
        assert_eq!(unicode.as_str(), "m@xn--bcher-kva.example");
    }

    #[test]
    fn an_address_does_not_print_itself() {
        let printed = format!("{:?}", EmailAddress::parse("mara@example.org"));
        assert!(!printed.contains("mara"), "{printed}");
    }

    #[test]
    fn what_could_mean_two_recipients_or_none_is_refused() {
        let long = format!("{}@example.org", "a".repeat(65));
        let longer = format!("a@{}.org", "a.".repeat(130));
        for text in [
            "mara",
            "@example.org",
            "mara@",
            "mara@localhost",
            "a@b@example.org",
            "a b@example.org",
            "a@exa mple.org",
            "a,b@example.org",
            "a;b@example.org",
            "a@example.org,b@example.org",
            "a@example.org b@example.org",
            "\"a\"@example.org",
            "a\n@example.org",
            "a@example.org\r\nBcc: b@example.org",
            "a\0@example.org",
            "<a@example.org>",
            "A <a@example.org>",
            ".a@example.org",
            "a.@example.org",
            "a..b@example.org",
            "a@.example.org",
            "a@example..org",
            "a@-example.org",
            "a@[127.0.0.1]",
            "a@127.0.0.1",
            "a@example.org/x",
            "a@example.org?x",
            "аdmin@example.org",
            "a@exam_ple.org",
            "a%0a@example.org\t,x",
            &long,
            &longer,
        ] {
            assert_eq!(EmailAddress::parse(text), Err(EmailAddressError::Malformed), "{text:?}");
        }
        assert_eq!(EmailAddress::parse(" \n"), Err(EmailAddressError::Missing));
    }

    proptest! {
        #[test]
        fn no_input_brings_a_control_character_or_a_second_recipient(text in "\\PC*|[a-z@.,;<> \\r\\n\"]{0,40}") {
            if let Ok(address) = EmailAddress::parse(&text) {
                prop_assert!(address.as_str().bytes().all(|byte| byte.is_ascii_graphic() && !b"\",;<>()[]\\:".contains(&byte)));
                prop_assert_eq!(address.as_str().matches('@').count(), 1);
                let again = EmailAddress::parse(address.as_str()).expect("what was accepted is accepted again");
                prop_assert_eq!(again.key(), address.key());
            }
        }
    }
}
