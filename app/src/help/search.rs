//! Looking through the articles. There are few, and none changes while the program runs: each search looks at all of them.

use super::{ARTICLES, Article, terms::terms};

/// As long as a question may be; what is longer is cut.
pub const MAX_QUERY: usize = 100;

/// Words that are in every question and tell none from another.
const NOISE: [&str; 44] = [
    "a", "about", "an", "and", "are", "at", "be", "but", "can", "cant", "do", "does", "doesnt", "dont", "for", "from", "get",
    "have", "help", "how", "i", "im", "in", "is", "isnt", "it", "its", "ive", "me", "my", "no", "not", "of", "on", "or", "please",
    "the", "to", "was", "what", "when", "why", "with", "you",
];

/// What a word is worth by where it stands: title, keywords and headings, summary, text.
const WEIGHTS: [u32; 4] = [8, 5, 3, 1];

#[derive(Debug)]
pub struct Found {
    /// The best first.
    pub articles: Vec<&'static Article>,
    /// No article has all the words; these have some.
    pub some_only: bool,
}

/// Articles with all words of the question, or where there are none, those with some.
pub fn search(query: &str) -> Found {
    let asked = terms(query);
    let mut wanted: Vec<&str> = asked.iter().map(String::as_str).filter(|term| !NOISE.contains(term)).collect();
    if wanted.is_empty() {
        wanted = asked.iter().map(String::as_str).collect();
    }
    wanted.sort_unstable();
    wanted.dedup();
    let mut scored: Vec<(usize, u32, &'static Article)> = ARTICLES
        .iter()
        .map(|article| {
            let scores: Vec<u32> = wanted.iter().map(|term| score(article, term)).filter(|score| *score > 0).collect();
            (scores.len(), scores.iter().sum(), article)
        })
        .filter(|(hits, ..)| *hits > 0)
        .collect();
    // Stable: what weighs the same stays in the order of the index.
    scored.sort_by_key(|(hits, score, _)| (std::cmp::Reverse(*hits), std::cmp::Reverse(*score)));
    let best = scored.first().map_or(0, |(hits, ..)| *hits);
    Found {
        articles: scored.into_iter().filter(|(hits, ..)| *hits == best).map(|(.., article)| article).collect(),
        some_only: best > 0 && best < wanted.len(),
    }
}

/// A word in the title and in the text counts for both.
fn score(article: &Article, term: &str) -> u32 {
    article.words.iter().zip(WEIGHTS).filter(|(words, _)| words.iter().any(|word| fits(word, term))).map(|(_, weight)| weight).sum()
}

/// The same word, its beginning, or its plural: "back" finds "backup", "codes" finds "code".
fn fits(word: &str, term: &str) -> bool {
    let begins =
        |long: &str, short: &str, more: usize| short.len() > 2 && long.starts_with(short) && long.len() - short.len() <= more;
    word == term || begins(word, term, usize::MAX) || begins(term, word, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slugs(query: &str) -> Vec<&'static str> {
        search(query).articles.iter().map(|article| article.slug).collect()
    }

    #[test]
    fn what_people_ask_finds_its_article_first() {
        for (query, slug) in [
            ("no email came", "no-email"),
            ("spam", "no-email"),
            ("Where is my e-mail?", "no-email"),
            ("expired link", "link-expired-or-used"),
            ("wrong code clock", "codes-always-wrong"),
            ("I lost my phone!", "lost-phone"),
            ("stolen", "lost-phone"),
            ("new phone", "new-phone"),
            ("backup codes", "backup-codes"),
            ("turn off two-factor", "turn-off-two-factor"),
            ("delete my account", "delete-account"),
            ("privacy", "what-we-store"),
            ("google authenticator", "choose-an-app"),
            ("sign out everywhere", "sign-out-other-devices"),
            ("outlook safe links", "work-mail-opens-links"),
            ("reset 2fa", "admin-reset-two-factor"),
        ] {
            assert_eq!(slugs(query).first(), Some(&slug), "{query}: {:?}", slugs(query));
        }
    }

    #[test]
    fn all_words_count_and_where_they_are_in_no_article_some_do() {
        assert!(!search("phone").some_only);
        let some = search("phone giraffe");
        assert!(some.some_only && !some.articles.is_empty());
        assert_eq!(some.articles.len(), search("phone").articles.len());
    }

    #[test]
    fn what_nobody_wrote_of_is_not_found() {
        for query in ["giraffe", "", "   ", "???", "<giraffe>"] {
            assert!(slugs(query).is_empty(), "{query}: {:?}", slugs(query));
        }
    }

    #[test]
    fn noise_alone_is_still_looked_for() {
        assert!(!slugs("how").is_empty());
    }
}
