//! A header that may stand in a request once: of two lines one could be forged, or a proxy and we could mean different ones.

use http::{HeaderMap, HeaderValue, header::AsHeaderName};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'h> {
    None,
    One(&'h HeaderValue),
    Several,
}

pub fn line(headers: &HeaderMap, name: impl AsHeaderName) -> Line<'_> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Line::None,
        (Some(line), None) => Line::One(line),
        (Some(_), Some(_)) => Line::Several,
    }
}
