//! Rust in words and signs, as much of it as imports need: no comments, no texts, no lifetimes.

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// A word, `::`, or one sign.
    pub text: String,
    pub line: usize,
}

impl Token {
    pub fn is(&self, text: &str) -> bool {
        self.text == text
    }

    fn is_word(&self) -> bool {
        self.text.starts_with(is_word)
    }
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

pub fn of(source: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(first) = rest.chars().next() {
        let (length, kept) = match first {
            _ if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), false),
            _ if rest.starts_with("/*") => (comment(rest), false),
            '"' => (text(rest), false),
            '\'' => (character_or_lifetime(rest), false),
            _ if rest.starts_with("::") => (2, true),
            _ if is_word(first) => {
                let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                match (&rest[..word], rest[word..].trim_start_matches('#').starts_with('"')) {
                    ("r" | "br" | "cr", true) => (word + raw_text(&rest[word..]), false),
                    ("b" | "c", true) => (word + text(&rest[word..]), false),
                    _ => (word, true),
                }
            }
            _ => (first.len_utf8(), !first.is_whitespace()),
        };
        if kept {
            tokens.push(Token { text: rest[..length].to_owned(), line });
        }
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

/// How long the comment is, with those inside it.
fn comment(source: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < source.len() {
        match &source.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

fn text(source: &str) -> usize {
    let mut escaped = true;
    let end = source.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.map_or(source.len(), |end| end + 1)
}

fn raw_text(source: &str) -> usize {
    let hashes = source.find('"').unwrap_or(0);
    let end = format!("\"{}", &source[..hashes]);
    source[hashes + 1..].find(&end).map_or(source.len(), |at| hashes + 1 + at + end.len())
}

fn character_or_lifetime(source: &str) -> usize {
    let mut chars = source.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((escaped, _))) => source[escaped + 1..].find('\'').map_or(source.len(), |at| escaped + 1 + at + 1),
        (_, Some((end, '\''))) => end + 1,
        _ => 1 + source[1..].find(|c| !is_word(c)).unwrap_or(source.len() - 1),
    }
}

/// Without the items behind `#[cfg(test)]`.
pub fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].iter().map(|token| &*token.text).take(7).eq(["#", "[", "cfg", "(", "test", ")", "]"]) {
            at = end_of_item(&tokens, at + 7);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Behind its semicolon or its last brace.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match &*token.text {
            "(" | "[" | "{" => depth += 1,
            "}" if depth == 1 => return at + usize::from(tokens.get(at).is_some_and(|next| next.is(";"))),
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            ";" if depth == 0 => return at,
            _ => {}
        }
    }
    at
}

/// The words of `a::b::c`, where one begins; one word of `a`.
pub fn path(tokens: &[Token]) -> Vec<String> {
    let mut words = Vec::new();
    for pair in tokens.chunks(2) {
        if pair[0].is_word() {
            words.push(pair[0].text.clone());
        }
        if !(pair[0].is_word() && pair.get(1).is_some_and(|next| next.is("::"))) {
            break;
        }
    }
    words
}

/// The paths of a `use` from `at` on, each with the name it has from now on; and where the tree ends.
pub fn use_tree(tokens: &[Token], mut at: usize, before: &[String], found: &mut Vec<(Vec<String>, String)>) -> usize {
    let mut path = before.to_vec();
    while let Some(token) = tokens.get(at) {
        at += 1;
        match &*token.text {
            "::" => {}
            "{" => {
                while tokens.get(at).is_some_and(|next| !next.is("}")) {
                    at = if tokens[at].is(",") { at + 1 } else { use_tree(tokens, at, &path, found) };
                }
                return at + 1;
            }
            "self" if !path.is_empty() => {}
            _ => path.push(token.text.clone()),
        }
        if tokens.get(at).is_none_or(|next| !next.is("::")) && !token.is("::") {
            break;
        }
    }
    let mut name = path.last().cloned().unwrap_or_default();
    if let [of, other, ..] = &tokens[at..]
        && of.is("as")
    {
        name.clone_from(&other.text);
        at += 2;
    }
    found.push((path, name));
    at
}
