//! Help and the pages it is about, side by side: neither may lead to something of the other that isn't there.

use std::collections::{BTreeMap, BTreeSet};

use app::help::{ARTICLES, Article, Part};

use super::all;

/// States with nothing to explain: nothing is hinted at, nothing is decided, and nothing went wrong but what the page explains whole.
const SPEAK_FOR_THEMSELVES: &[&str] = &[
    "account",
    "account-admin",
    "account-name-lines",
    "account-name-long",
    "account-new",
    "account-two-factor",
    "activity-none",
    "hop",
    "hop-long",
    "inbox",
    "inbox-empty",
    "inbox-message",
    "invite",
    "invite-anonymous",
    "login",
    "signed-out",
];

fn states() -> BTreeMap<&'static str, String> {
    let states = all().expect("every page can be drawn");
    states.into_iter().filter(|(name, _)| !name.starts_with("help") && !name.starts_with("mail-")).collect()
}

/// Where the links of a page lead, as far as they lead into help.
fn help_links(html: &str) -> impl Iterator<Item = &str> {
    let hrefs = html.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next());
    hrefs.map(|href| href.trim_start_matches("https://latchkey.example")).filter(|href| href.starts_with("/help"))
}

/// A page without its foot, which leads to the same everywhere and answers nothing.
fn own(html: &str) -> &str {
    html.split("<footer").next().unwrap_or_default()
}

fn html(article: &Article) -> String {
    article.parts.iter().fold(String::new(), |text, part| match part {
        Part::Html(html) => text + html,
        Part::Notice { title, html } => text + title + " " + html,
    })
}

/// What is read of a page, as one line.
fn text(html: &str) -> String {
    let visible = html.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text)).collect::<String>();
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#x27;", "'"), ("\u{a0}", " "), ("&amp;", "&")]
        .iter()
        .fold(visible, |text, (escape, letter)| text.replace(escape, letter))
}

#[test]
fn every_link_into_help_finds_its_article_and_its_heading() {
    let places: BTreeSet<String> = ARTICLES
        .iter()
        .flat_map(|article| {
            let headings = article.headings.iter().map(|(id, _)| format!("{}#{id}", article.path));
            headings.chain([article.path.to_owned(), format!("/help#{}", article.group.id)])
        })
        .chain(["/help".to_owned()])
        .collect();
    let mut links = 0;
    for (name, html) in all().expect("every page can be drawn") {
        for href in help_links(&html) {
            assert!(places.contains(href), "{name} leads to {href}");
            links += 1;
        }
    }
    assert!(links > 300, "{links}");
}

/// And to their very headings: one page of too many emails, "limited-emails#emails", and one of too many tries lead to one article.
#[test]
fn every_state_leads_to_the_articles_that_say_they_answer_it_and_to_no_others() {
    let states = states();
    let mut wrong = Vec::new();
    for article in &ARTICLES {
        let place = |href: &str| {
            href.strip_prefix(article.path).filter(|place| place.is_empty() || place.starts_with('#')).map(str::to_owned)
        };
        let linking: BTreeSet<String> = states
            .iter()
            .flat_map(|(name, html)| help_links(own(html)).filter_map(place).map(move |place| format!("{name}{place}")))
            .collect();
        let answers: BTreeSet<String> = article.answers.iter().map(|&answer| answer.to_owned()).collect();
        if linking != answers {
            let (missing, extra): (Vec<_>, Vec<_>) =
                (answers.difference(&linking).collect(), linking.difference(&answers).collect());
            wrong.push(format!("{}: not linked from {missing:?}; linked from {extra:?} besides", article.slug));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_state_that_needs_help_has_it() {
    let answers = ARTICLES.iter().flat_map(|article| article.answers);
    let answered: BTreeSet<&str> = answers.filter_map(|answer| answer.split('#').next()).collect();
    let without: BTreeSet<&str> = states().into_keys().filter(|name| !answered.contains(name)).collect();
    assert_eq!(without, SPEAK_FOR_THEMSELVES.iter().copied().collect());
}

/// Words in quotation marks are those of a button, a page or a mail, to the letter.
#[test]
fn what_an_article_quotes_stands_in_the_pages() {
    let pages: String = states().values().map(|html| text(html) + "\n").collect();
    let told = concat!(
        include_str!("../../src/mails/mod.rs"),
        include_str!("../../src/mails/notices.rs"),
        include_str!("../../src/ui/event_text.rs")
    );
    let (mut quotes, mut unknown) = (0, Vec::new());
    for article in &ARTICLES {
        let html = html(article);
        let alts = html.split("alt=\"").skip(1).filter_map(|rest| rest.split('"').next());
        let text = text(&alts.fold(html.clone(), |all, alt| all + " " + alt));
        for quote in text.split('“').skip(1).filter_map(|rest| rest.split('”').next()) {
            quotes += 1;
            if !pages.contains(quote) && !told.contains(&format!("\"{quote}\"")) {
                unknown.push(format!("{}: “{quote}”", article.slug));
            }
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
    assert!(quotes > 100, "{quotes}");
}

/// Bold begins an item of a list or a sentence, and is no way to shout.
#[test]
fn what_is_bold_begins_an_item() {
    for article in &ARTICLES {
        let html = html(article);
        for (before, _) in html.match_indices("<strong>").map(|(at, _)| html.split_at(at)) {
            assert!(before.ends_with("<li>"), "{}: {}", article.slug, &before[before.len().saturating_sub(60)..]);
        }
    }
}

#[test]
fn every_page_that_articles_lead_to_is_one() {
    let routes = include_str!("../../src/routes.rs");
    for article in &ARTICLES {
        let html = html(article);
        for href in
            html.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).filter(|href| !href.starts_with("/help/"))
        {
            assert!(routes.contains(&format!("= \"{href}\";")), "{} leads to {href}", article.slug);
        }
    }
}
