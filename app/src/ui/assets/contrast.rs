//! The contrast table of the design, computed from the built style sheet: a changed colour that makes a pair hard to read fails
//! here, in light and dark alike.

use std::collections::HashMap;

use super::CSS;

type Tokens = HashMap<&'static str, &'static str>;

/// The text between the braces that `head` opens.
fn block<'a>(css: &'a str, head: &str) -> &'a str {
    let (_, rest) = css.split_once(head).unwrap_or_else(|| panic!("no {head} in the style sheet"));
    let mut depth = 1;
    let end = rest.find(|c| {
        depth += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        depth == 0
    });
    &rest[..end.unwrap_or(rest.len())]
}

/// The colours of the first `:root` in `css`, over those of `base`.
fn tokens(css: &'static str, base: &Tokens) -> Tokens {
    let mut tokens = base.clone();
    tokens.extend(block(css, ":root {").split(';').filter_map(|declaration| {
        let (name, value) = declaration.trim().strip_prefix("--")?.split_once(": ")?;
        (value.starts_with('#') || value.starts_with("oklch(")).then_some((name, value))
    }));
    tokens
}

/// Light and dark, in the two notations.
struct Palettes {
    hex: [Tokens; 2],
    oklch: [Tokens; 2],
}

fn palettes() -> Palettes {
    const DARK: &str = "@media (prefers-color-scheme: dark) {";
    let css = std::str::from_utf8(CSS.raw).unwrap_or_else(|error| panic!("the style sheet is not UTF-8: {error}"));
    let wide = block(css, "@supports (color: oklch(0 0 0)) {");
    let both = |css: &'static str| {
        let light = tokens(css, &Tokens::new());
        let dark = tokens(block(css, DARK), &light);
        [light, dark]
    };
    Palettes { hex: both(css), oklch: both(wide) }
}

fn channels(hex: &str) -> [f64; 3] {
    let n = u32::from_str_radix(hex.trim_start_matches('#'), 16).unwrap_or_else(|_| panic!("{hex} is not #rrggbb"));
    [16, 8, 0].map(|shift| f64::from(n >> shift & 255))
}

/// WCAG 2.2, "relative luminance" and "contrast ratio".
fn luminance(hex: &str) -> f64 {
    let [r, g, b] = channels(hex).map(|c| {
        let c = c / 255.0;
        if c <= 0.040_45 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    });
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

fn contrast(a: &str, b: &str) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// Foreground, background, and the ratios the design was measured with, light and dark.
const TEXT: &[(&str, &str, f64, f64)] = &[
    ("ink", "bg", 15.55, 15.02),
    ("ink", "surface", 15.55, 15.02),
    ("ink-2", "sunken", 7.13, 9.10),
    ("ink-3", "sunken", 5.07, 6.71),
    ("ink-2", "accent-soft", 7.01, 7.17),
    ("accent", "surface", 8.08, 10.12),
    ("accent", "accent-soft", 7.05, 8.41),
    ("on-action", "action", 8.08, 5.48),
    ("on-action", "action-hover", 10.60, 4.52),
    ("on-danger", "danger-fill", 6.58, 5.51),
    ("on-danger", "danger-fill-hover", 8.42, 4.74),
    ("danger", "surface", 6.58, 7.82),
    ("danger", "danger-soft", 5.92, 7.00),
    ("warn", "surface", 6.43, 9.63),
    ("warn", "warn-soft", 5.90, 8.26),
    ("ok", "surface", 6.63, 9.53),
    ("ok", "ok-soft", 6.00, 8.23),
    ("ink-2", "danger-soft", 7.23, 7.40),
    ("ink-2", "warn-soft", 7.23, 7.40),
    ("ink-2", "ok-soft", 7.23, 7.40),
];

const INTERFACE: &[(&str, &str, f64, f64)] = &[
    ("line-strong", "surface", 3.72, 3.56),
    ("line-strong", "sunken", 3.30, 3.75),
    ("brass", "surface", 3.56, 9.33),
    ("brass", "sunken", 3.16, 9.85),
    ("action", "surface", 8.08, 3.21),
    ("chart-1", "surface", 8.08, 8.39),
    ("chart-2", "surface", 3.27, 3.58),
    ("chart-3", "surface", 3.56, 9.33),
];

#[test]
fn every_pair_has_the_contrast_it_was_designed_with() {
    let palettes = palettes();
    // What WCAG 2.2 AA asks of text (1.4.3) and of controls, icons and focus rings (1.4.11).
    for (pairs, least) in [(TEXT, 4.5), (INTERFACE, 3.0)] {
        for &(front, back, light, dark) in pairs {
            for (palette, designed) in palettes.hex.iter().zip([light, dark]) {
                let ratio = contrast(palette[front], palette[back]);
                assert!(ratio >= least, "{front} on {back}: {ratio:.2} is below {least}");
                // The table's figures are rounded to two digits.
                assert!(ratio >= designed - 0.005, "{front} on {back}: {ratio:.3}, designed with {designed}");
            }
        }
    }
}

/// Björn Ottosson's colour space, and the sRGB transfer function.
fn srgb(oklch: &str) -> [f64; 3] {
    let inner = oklch.trim_start_matches("oklch(").trim_end_matches(')');
    let numbers: Vec<f64> = inner.split(' ').filter_map(|number| number.parse().ok()).collect();
    let [lightness, chroma, hue] = numbers[..] else { panic!("{oklch} is not three numbers") };
    let (a, b) = (chroma * hue.to_radians().cos(), chroma * hue.to_radians().sin());
    let cones = [
        lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b,
        lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b,
        lightness - 0.089_484_177_5 * a - 1.291_485_548_0 * b,
    ]
    .map(|cone| cone.powi(3));
    [
        [4.076_741_662_1, -3.307_711_591_3, 0.230_969_929_2],
        [-1.268_438_004_6, 2.609_757_401_1, -0.341_319_396_5],
        [-0.004_196_086_3, -0.703_418_614_7, 1.707_614_701_0],
    ]
    .map(|row| {
        let linear: f64 = row.iter().zip(cones).map(|(weight, cone)| weight * cone).sum();
        255.0 * if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 }
    })
}

#[test]
fn both_notations_name_the_same_colour() {
    let palettes = palettes();
    for (hex, oklch) in palettes.hex.iter().zip(&palettes.oklch) {
        assert_eq!(hex.len(), oklch.len(), "a colour is missing in one notation");
        for (name, oklch) in oklch {
            for (wide, narrow) in srgb(oklch).into_iter().zip(channels(hex[name])) {
                // The OKLCH values are rounded to three digits, which moves a channel by up to one step.
                assert!((wide - narrow).abs() < 1.5, "--{name}: {oklch} is not {}", hex[name]);
            }
        }
    }
}
