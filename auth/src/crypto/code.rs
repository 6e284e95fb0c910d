//! Six digits that somebody types.

use std::fmt;

use aws_lc_rs::constant_time;

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

/// 2^64 is so far above 10^6 that no code is likelier than another by more than 1 in 10^13.
pub(super) fn six_digits(mac: [u8; 32]) -> Code {
    let number = u64::from_be_bytes(mac[..8].try_into().expect("8 of 32 bytes"));
    Code::of_digits(&format!("{:06}", number % 1_000_000)).expect("six digits")
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
