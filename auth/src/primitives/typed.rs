//! Text that somebody typed or pasted, as the eye reads it.
//!
//! Apps and scripts put characters into it that look like others or like nothing: a code copied from a chat has a no-break space in it, an
//! address from a contact card a mark for the direction of text, and digits come as the keyboard's script writes them. Compared byte by byte
//! they would all be wrong, and nobody could see why.

/// Where the ten digits of a script begin. (General category Nd; those that people type with.)
const ZEROS: [u32; 19] = [
    0x0660, 0x06f0, 0x07c0, 0x0966, 0x09e6, 0x0a66, 0x0ae6, 0x0b66, 0x0be6, 0x0c66, 0x0ce6, 0x0d66, 0x0e50, 0x0ed0, 0x0f20, 0x1040,
    0x17e0, 0x1810, 0xff10,
];

/// Without what can't be seen; wide letters and signs, other scripts' digits, dashes and spaces as ASCII has them.
pub(crate) fn seen(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(|c| !is_invisible(*c)).map(|c| {
        let number = u32::from(c);
        let digit = ZEROS.iter().find_map(|zero| number.checked_sub(*zero).filter(|digit| *digit < 10));
        match c {
            _ if c.is_ascii() => c,
            _ if digit.is_some() => digit.and_then(|digit| char::from_digit(digit, 10)).unwrap_or(c),
            _ if c.is_whitespace() => ' ',
            '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{fe63}' => '-',
            // The wide forms of ASCII lie in its order.
            '\u{ff01}'..='\u{ff5e}' => char::from_u32(number - 0xff01 + 0x21).unwrap_or(c),
            _ => c,
        }
    })
}

/// Marks of direction and joining, and what has no width.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_alike_is_alike() {
        for (typed, looks) in [
            ("٠١٢٣٤٥", "012345"),
            ("８５６６００", "856600"),
            ("mara＠example．org", "mara@example.org"),
            ("\u{202a}mara@example.org\u{202c}", "mara@example.org"),
            ("k7qd\u{2013}m2xw\u{2011}t9hp", "k7qd-m2xw-t9hp"),
            ("856\u{a0}6\u{202f}0\u{200b}0", "856 6 00"),
            ("jürgen", "jürgen"),
        ] {
            assert_eq!(seen(typed).collect::<String>(), looks);
        }
    }
}
