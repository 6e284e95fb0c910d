//! A page as a person reads it: its heading, its forms and what stands in them, its links.

use std::collections::BTreeMap;

use html5gum::{StartTag, Token, Tokenizer};

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Page {
    pub heading: String,
    pub forms: Vec<Form>,
    pub links: Vec<String>,
    /// The items of its lists.
    pub items: Vec<String>,
    /// All it says.
    pub text: String,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Form {
    pub action: String,
    /// As they are sent where nobody touches them.
    pub fields: BTreeMap<String, String>,
    /// To tick, by name.
    pub boxes: Vec<String>,
}

impl Form {
    pub fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field) || self.boxes.iter().any(|name| name == field)
    }
}

impl Page {
    pub fn read(html: &str) -> Self {
        let mut page = Self::default();
        let mut form = None;
        let mut heading = None;
        let mut item = None;
        for Ok(token) in Tokenizer::new(html) {
            match token {
                Token::StartTag(tag) => match &**tag.name {
                    b"form" => form = Some(Form { action: attribute(&tag, "action").unwrap_or_default(), ..Form::default() }),
                    b"input" => {
                        if let Some(form) = &mut form {
                            note_input(form, &tag);
                        }
                    }
                    b"a" => page.links.extend(attribute(&tag, "href")),
                    b"h1" => heading = Some(String::new()),
                    b"li" => item = Some(String::new()),
                    _ => {}
                },
                Token::EndTag(tag) => match &**tag.name {
                    b"form" => page.forms.extend(form.take()),
                    b"h1" => page.heading = heading.take().unwrap_or_default(),
                    b"li" => page.items.extend(item.take()),
                    _ => {}
                },
                Token::String(text) => {
                    let text = String::from_utf8_lossy(&text);
                    for kept in [Some(&mut page.text), heading.as_mut(), item.as_mut()].into_iter().flatten() {
                        kept.push_str(&text);
                    }
                }
                Token::Comment(_) | Token::Doctype(_) | Token::Error(_) => {}
            }
        }
        page
    }

    /// The form that posts there.
    pub fn form(&self, action: &str) -> Option<&Form> {
        self.forms.iter().find(|form| form.action == action)
    }
}

fn attribute(tag: &StartTag<()>, name: &str) -> Option<String> {
    tag.attributes.get(name.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned())
}

fn note_input(form: &mut Form, tag: &StartTag<()>) {
    let Some(name) = attribute(tag, "name") else { return };
    if attribute(tag, "type").as_deref() == Some("checkbox") {
        form.boxes.push(name);
    } else {
        form.fields.insert(name, attribute(tag, "value").unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_links_and_lists_are_read_as_a_browser_reads_them() {
        let page = Page::read(
            r#"<!DOCTYPE html><title>x</title><h1>Save <em>them</em></h1>
            <a href="otpauth://totp/L:m?secret=AB&amp;issuer=L">app</a>
            <ol><li>k7qd-m2xw-t9hp</li><li><span>b</span></li></ol>
            <form method=post action="/a"><input type=hidden name="set" value="7&quot;"><input name=code>
            <input type="checkbox" name="saved" required><button>Go</button></form>
            <input name="outside"><form action='/b'></form>"#,
        );
        assert_eq!(page.heading, "Save them");
        assert_eq!(page.links, ["otpauth://totp/L:m?secret=AB&issuer=L"]);
        assert_eq!(page.items, ["k7qd-m2xw-t9hp", "b"]);
        let form = page.form("/a").expect("there");
        assert_eq!(form.fields, BTreeMap::from([("set", "7\""), ("code", "")].map(|(n, v)| (n.to_owned(), v.to_owned()))));
        assert_eq!(form.boxes, ["saved"]);
        assert!(form.has("saved") && form.has("code") && !form.has("outside"));
        assert!(page.form("/b").is_some_and(|form| form.fields.is_empty()) && page.form("/c").is_none());
    }
}
