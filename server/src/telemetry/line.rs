//! The human form's fields, without what could break a line.

use std::fmt::{self, Write};

use tracing_subscriber::{
    field::RecordFields,
    fmt::format::{DefaultFields, FormatFields, Writer},
};

/// The default fields, with every character escaped that could begin a line of its own, move the cursor, or turn the
/// text around (bidirectional overrides): a log is read to find out what an attacker did, on the attacker's own words.
pub struct OneLine;

impl<'w> FormatFields<'w> for OneLine {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut escaping = Escaping(&mut writer);
        DefaultFields::new().format_fields(Writer::new(&mut escaping), fields)
    }
}

struct Escaping<'a, W>(&'a mut W);

impl<W: Write> Write for Escaping<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, unsafe_char)) = rest.char_indices().find(|&(_, c)| is_unsafe(c)) {
            self.0.write_str(&rest[..at])?;
            write!(self.0, "{}", unsafe_char.escape_default())?;
            rest = &rest[at + unsafe_char.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
