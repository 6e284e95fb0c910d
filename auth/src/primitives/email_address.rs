//! Addresses: parsed once, into a type that holds both what was typed and what makes two spellings one.

use std::fmt;

use super::typed::seen;
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
    /// Before the `@`. Mail servers that take it (SMTPUTF8, RFC 6531) are too few to lean on.
    #[error("the part before the @ has a letter that email can't carry everywhere")]
    Letter(char),
    /// See [`has_route`].
    #[error("the part before the @ tells mail servers to pass the mail on elsewhere (%, !, =?); give the plain address")]
    Route,
}

/// RFC 5321 §4.5.3.1.1 and §4.5.3.1.3.
const MAX_LOCAL: usize = 64;
const MAX_ADDRESS: usize = 254;

impl EmailAddress {
    /// Takes `local@domain`: the local part as an unquoted ASCII atom list (RFC 5322 §3.2.3), the domain in Unicode or ASCII,
    /// with at least one dot. Surrounding space is ignored, as is what can't be seen, and wide signs are as ASCII's; case, a trailing dot and the domain's spelling make no difference
    /// to who is meant.
    ///
    /// For an address that is to belong to an account. One with a route in it is refused ([`has_route`]): the domain that was looked at
    /// would not be where its mail ends up.
    ///
    /// # Errors
    /// [`EmailAddressError`]; it never repeats the text.
    pub fn parse(text: &str) -> Result<Self, EmailAddressError> {
        let address = Self::lookup(text)?;
        if address.is_route() { Err(EmailAddressError::Route) } else { Ok(address) }
    }

    /// The same for finding an account that there is: one may have an address with a route in it, from before those were refused. Where
    /// there is none, no mail goes to such an address (`delivery`), and no account comes to have it ([`crate::policy::SignUp`]).
    ///
    /// # Errors
    /// [`EmailAddressError`]; it never repeats the text.
    pub fn lookup(text: &str) -> Result<Self, EmailAddressError> {
        let seen: String = seen(text).collect();
        let text = seen.trim_matches(|c: char| c.is_ascii_whitespace());
        if text.is_empty() {
            return Err(EmailAddressError::Missing);
        }
        let local = text.split_once('@').map_or(text, |(local, _)| local);
        Self::well_formed(text).ok_or(match local.chars().find(|c| c.is_alphabetic() && !c.is_ascii()) {
            Some(letter) => EmailAddressError::Letter(letter),
            None => EmailAddressError::Malformed,
        })
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

    /// See [`has_route`].
    #[must_use]
    pub fn is_route(&self) -> bool {
        self.key.split_once('@').is_some_and(|(local, _)| has_route(local))
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

/// Whether mail servers read another destination in a local part than its domain: the percent hack (`a%b.example@…`), bang paths
/// (`b.example!a@…`), encoded words (RFC 2047) that some decode before they route, a sender that a forwarder rewrote (`SRS0=…`), what
/// Exchange and X.400 gateways encapsulate (`IMCEA…`, `/O=…`). RFC 5321 §2.3.11 leaves a local part to the host of its domain alone; the
/// servers in between don't.
#[must_use]
pub fn has_route(local: &str) -> bool {
    let starts = |prefix: &str| local.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    let rewritten = ["srs0", "srs1"]
        .into_iter()
        .any(|prefix| starts(prefix) && matches!(local.as_bytes().get(prefix.len()), Some(b'=' | b'+' | b'-')));
    local.contains(['%', '!']) || local.contains("=?") || rewritten || starts("imcea") || starts("/")
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
        for typed in ["\u{202a}Mara@Example.org\u{202c}", "\u{a0}mara@example.org\u{200b}", "mara＠example.org"] {
            assert_eq!(
                EmailAddress::parse(typed).map(|address| address.key().to_owned()),
                Ok("mara@example.org".to_owned()),
                "{typed:?}"
            );
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
            "a@exam_ple.org",
            "a%0a@example.org\t,x",
            "a%b@c@example.org",
            &long,
            &longer,
        ] {
            assert_eq!(EmailAddress::parse(text), Err(EmailAddressError::Malformed), "{text:?}");
        }
        for (text, letter) in [("jürgen@example.org", 'ü'), ("аdmin@example.org", 'а')] {
            assert_eq!(EmailAddress::parse(text), Err(EmailAddressError::Letter(letter)), "{text}");
        }
        assert_eq!(EmailAddress::parse(" \n"), Err(EmailAddressError::Missing));
    }

    #[test]
    fn an_address_with_a_route_in_it_finds_an_account_and_becomes_nobodys() {
        for text in [
            "outsider%evil.example@company.example",
            "evil.example!outsider@company.example",
            "evil.example!outsider%x@company.example",
            "=?utf-8?q?outsider=40evil.example?=@company.example",
            "a=?b@company.example",
            "SRS0=abcd=2k=evil.example=outsider@company.example",
            "srs1+abcd=evil.example==2k=x@company.example",
            "IMCEASMTP-outsider+40evil+2Eexample@company.example",
            "/G=a/S=b/O=evil@company.example",
            " Outsider%EVIL.example@Company.example. ",
        ] {
            assert_eq!(EmailAddress::parse(text), Err(EmailAddressError::Route), "{text}");
            let found = EmailAddress::lookup(text).expect(text);
            assert_eq!(found.domain(), "company.example");
            assert!(found.is_route());
            assert!(EmailAddress::stored(found.as_str()).is_some(), "a row that has it can be read");
        }
        for text in [
            "mara+shop@example.org",
            "o'hara@example.org",
            "a=b@example.org",
            "a/b@example.org",
            "srs0@example.org",
            "a?=b@example.org",
        ] {
            assert!(EmailAddress::parse(text).is_ok(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_input_brings_a_control_character_or_a_second_recipient(text in "\\PC*|[a-z@.,;<> \\r\\n\"]{0,40}|[a-c=?%!]{1,9}@example\\.org") {
            if let Ok(address) = EmailAddress::parse(&text) {
                prop_assert!(address.as_str().bytes().all(|byte| byte.is_ascii_graphic() && !b"\",;<>()[]\\:".contains(&byte)));
                prop_assert_eq!(address.as_str().matches('@').count(), 1);
                prop_assert!(!address.as_str().contains(['%', '!']) && !address.as_str().contains("=?"));
                let again = EmailAddress::parse(address.as_str()).expect("what was accepted is accepted again");
                prop_assert_eq!(again.key(), address.key());
            }
        }
    }
}
