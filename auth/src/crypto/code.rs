//! Six digits that somebody types.

use std::fmt;

use aws_lc_rs::constant_time;

use crate::primitives::typed::seen;

/// Bytes. A line with a code in it, and no page of text.
const LONGEST_PASTED: usize = 200;

/// Six digits: of a mail, or of an authenticator app (NIST 800-63B-4 §3.1.3.2 and §3.1.4.1 ask for at least six).
#[derive(Clone, PartialEq, Eq)]
pub struct Code(pub(super) [u8; 6]);

/// Why typed text is not a code. Nothing was tried, so nothing was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodeFormat {
    #[error("no code was typed")]
    Missing,
    #[error("a code has 6 digits, not {0}")]
    WrongLength(usize),
}

impl Code {
    /// Takes what people type and paste: words before the first digit don't matter ("Code: "), nor does anything between and after the
    /// digits but another letter. Digits may be of any script.
    ///
    /// # Errors
    /// [`CodeFormat`], which counts the digits found.
    pub fn parse(text: &str) -> Result<Self, CodeFormat> {
        let typed: String = seen(text).collect();
        let code = typed.trim_start_matches(|c: char| !c.is_ascii_digit());
        if typed.trim().is_empty() {
            return Err(CodeFormat::Missing);
        }
        let digits: Vec<u8> = code.bytes().filter(u8::is_ascii_digit).collect();
        let length = digits.len();
        if code.contains(char::is_alphabetic) || text.len() > LONGEST_PASTED {
            return Err(CodeFormat::WrongLength(length));
        }
        digits.try_into().map(Self).map_err(|_| CodeFormat::WrongLength(length))
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

    /// As it stands in the mail: "482931".
    #[must_use]
    pub fn reveal(&self) -> String {
        self.0.iter().copied().map(char::from).collect()
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(***)")
    }
}

/// 2^64 is so far above 10^6 that no code is likelier than another by more than 1 in 10^13.
pub(super) fn six_digits(mac: [u8; 32]) -> Code {
    let number = u64::from_be_bytes(mac[..8].try_into().expect("8 of 32 bytes"));
    Code::of_digits(&format!("{:06}", number % 1_000_000)).expect("six digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_keeps_leading_zeros_and_forgives_what_stands_around_its_digits() {
        let code = Code(*b"004931");
        assert_eq!(code.reveal(), "004931");
        for typed in [
            "004931",
            "004 931",
            " 004-931\n",
            "0 0 4 9 3 1",
            "004\u{a0}931",
            "004\u{202f}931\u{200b}",
            "004\u{2013}931",
            "004_931",
            "\"004931\"",
            "“004 931”.",
            "００４９３１",
            "٠٠٤٩٣١",
            "Code: 004 931",
            "+004931",
        ] {
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
            ("12345a", CodeFormat::WrongLength(5)),
            ("123456a", CodeFormat::WrongLength(6)),
            ("mara123456@example.org", CodeFormat::WrongLength(6)),
            ("Code: ", CodeFormat::WrongLength(0)),
            ("856600, within 10 minutes", CodeFormat::WrongLength(8)),
        ] {
            assert_eq!(Code::parse(typed), Err(expected), "{typed:?}");
        }
    }
}
