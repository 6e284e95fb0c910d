//! Lines that stay lines: hostile text, escaped.
//!
//! A log is read to find out what an attacker did, on the attacker's own words. None of them may begin a line of its own,
//! move the terminal's cursor, or turn the text around (bidirectional overrides).

use std::fmt::{self, Write};

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{
        FmtContext,
        format::{DefaultFields, FormatEvent, FormatFields, Writer},
    },
    registry::LookupSpan,
};

/// The human form's fields. Only they can hold foreign text; around them stand our own colours, which must not be escaped.
pub struct OneLine;

impl<'w> FormatFields<'w> for OneLine {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let escape = |writer: &mut Writer<'w>, c: char| write!(writer, "{}", c.escape_default());
        DefaultFields::new().format_fields(Writer::new(&mut Escaping { writer: &mut writer, escape }), fields)
    }
}

/// The machine's form. JSON leaves DEL, the C1 controls and the overrides as they are, and people read it on terminals too;
/// outside of strings, where `\u` has its meaning, none of them occurs.
pub struct PrintableJson<F>(pub F);

impl<S, N, F> FormatEvent<S, N> for PrintableJson<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let escape = |writer: &mut Writer<'_>, c: char| match c {
            // The end of the line; within, JSON has escaped it.
            '\n' => writer.write_char(c),
            // All of them lie in the plane that four digits reach.
            _ => write!(writer, "\\u{:04x}", u32::from(c)),
        };
        self.0.format_event(context, Writer::new(&mut Escaping { writer: &mut writer, escape }), event)
    }
}

struct Escaping<'a, W, F> {
    writer: &'a mut W,
    escape: F,
}

impl<W: Write, F: Fn(&mut W, char) -> fmt::Result> Write for Escaping<'_, W, F> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|&(_, c)| is_unsafe(c)) {
            self.writer.write_str(&rest[..at])?;
            (self.escape)(self.writer, c)?;
            rest = &rest[at + c.len_utf8()..];
        }
        self.writer.write_str(rest)
    }
}

fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
