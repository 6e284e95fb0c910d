//! Text as search compares it. `build.rs` takes the articles apart with this same file: what is looked for and what is looked
//! through must be cut alike.

/// Lower case, without apostrophes; a hyphen parts two words.
pub fn terms(text: &str) -> Vec<String> {
    let text = text.to_lowercase().replace(['\'', '\u{2019}'], "");
    text.split(|c: char| !c.is_alphanumeric()).filter(|term| !term.is_empty()).map(str::to_owned).collect()
}
