//! QR codes as drawings inside the page: no picture is fetched, and nothing in it needs a style of its own.

use std::fmt::Write as _;

use qrcode::{Color, EcLevel, QrCode, types::QrError};

/// Modules of white around the code, without which scanners don't find it (ISO/IEC 18004 §6.3.8).
const QUIET: usize = 4;
/// Pixels a module, where there is room.
const SCALE: usize = 4;

/// One `<svg>`. A type of its own: it goes into a page as it is, so nothing but [`Qr::of`] may make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qr(String);

impl Qr {
    /// Draws `text` with the error correction of level M: 15 percent of it may be unreadable. Fails beyond 2,331 bytes.
    pub fn of(text: &str) -> Result<Self, QrError> {
        Ok(Self(draw(&QrCode::with_error_correction_level(text, EcLevel::M)?)))
    }

    pub fn into_svg(self) -> String {
        self.0
    }
}

/// Dark on white whatever the colours of the page: many scanners can't read the inverse. The white is part of the drawing.
fn draw(code: &QrCode) -> String {
    let width = code.width();
    let side = width + 2 * QUIET;
    let mut dark = String::new();
    for (y, row) in code.to_colors().chunks(width).enumerate() {
        let mut x = 0;
        for run in row.chunk_by(|a, b| a == b) {
            let length = run.len();
            if run[0] == Color::Dark {
                write!(dark, "M{} {}h{length}v1h-{length}z", x + QUIET, y + QUIET).expect("a String takes everything");
            }
            x += length;
        }
    }
    format!(
        r##"<svg viewBox="0 0 {side} {side}" width="{pixels}" height="{pixels}" role="img" aria-label="QR code for your authenticator app" shape-rendering="crispEdges"><path fill="#fff" d="M0 0h{side}v{side}H0z"/><path fill="#10181c" d="{dark}"/></svg>"##,
        pixels = side * SCALE,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str =
        "otpauth://totp/Latchkey:mara.lindqvist%40example.org?secret=K5QW4Z3BMRTGQ2LNK5QW4Z3BMRTGQ2LN&issuer=Latchkey";

    /// The modules that the dark path covers, read back from the drawing.
    fn drawn(svg: &str) -> Vec<(usize, usize)> {
        let (_, path) = svg.split_once(r##"fill="#10181c" d=""##).expect("a dark path");
        let (path, _) = path.split_once('"').expect("its end");
        let runs = path.split_terminator('z').map(|run| {
            let mut numbers = run.trim_start_matches('M').split([' ', 'h', 'v']).map(|n| n.parse::<isize>().expect("a number"));
            let mut next = || usize::try_from(numbers.next().expect("x, y, length")).expect("a place");
            (next(), next(), next())
        });
        runs.flat_map(|(x, y, length)| (x..x + length).map(move |x| (x, y))).collect()
    }

    #[test]
    fn every_dark_module_is_drawn_and_no_other() -> Result<(), QrError> {
        let code = QrCode::with_error_correction_level(URI, EcLevel::M)?;
        let width = code.width();
        let places = (0..width).flat_map(|y| (0..width).map(move |x| (x, y)));
        let dark = places.filter(|&place| code[place] == Color::Dark).map(|(x, y)| (x + 4, y + 4)).collect::<Vec<_>>();
        assert_eq!(drawn(&Qr::of(URI)?.into_svg()), dark);
        Ok(())
    }

    #[test]
    fn it_lies_on_white_with_a_quiet_zone_of_four() -> Result<(), QrError> {
        let svg = Qr::of(URI)?.into_svg();
        let side = QrCode::with_error_correction_level(URI, EcLevel::M)?.width() + 8;
        assert!(svg.contains(&format!(r##"<path fill="#fff" d="M0 0h{side}v{side}H0z"/>"##)));
        assert!(svg.contains(&format!(r#"viewBox="0 0 {side} {side}" width="{0}" height="{0}""#, side * 4)));
        assert!(drawn(&svg).iter().all(|&(x, y)| (4..side - 4).contains(&x) && (4..side - 4).contains(&y)));
        Ok(())
    }

    /// The policy for content allows no style but the sheet's, and what is inlined twice may have no id.
    #[test]
    fn it_is_attributes_only() -> Result<(), QrError> {
        let svg = Qr::of(URI)?.into_svg();
        for absent in ["style", " id=", "href", "<script", "xmlns", "otpauth"] {
            assert!(!svg.contains(absent), "{absent}");
        }
        Ok(())
    }

    #[test]
    fn the_longest_address_fits() {
        assert!(Qr::of(&format!("{URI}{}", "%C3%A9".repeat(254))).is_ok());
        assert_eq!(Qr::of(&"a".repeat(2_332)), Err(QrError::DataTooLong));
    }
}
