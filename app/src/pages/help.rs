//! `/help` and what is below it: the index, looking through it, and the articles. Other pages link to the article that answers them.

use std::{collections::HashMap, sync::LazyLock};

use axum::{body::Bytes, extract::Path};

use crate::{
    help::{ARTICLES, Found, GROUPS, MAX_QUERY, Part},
    http::render::{drawn, render},
    pages::prelude::*,
};

const SECTION: &str = "Help";
const DESCRIPTION: &str = "Help with signing in by email, two-factor, backup codes, sessions and your account.";
/// With so many headings an article says first what is in it.
const LONG: usize = 5;

#[component]
pub fn HelpPage() -> impl IntoView {
    view! {
        <Article section=SECTION title="How can we help?" description=DESCRIPTION>
            <Search query=String::new()/>
            <Groups/>
        </Article>
    }
}

#[component]
fn Search(query: String) -> impl IntoView {
    view! {
        <form class="inline search" method="get" action=routes::HELP role="search">
            <SearchField id="q" label="Search help" value=query maxlength=MAX_QUERY/>
            <button class="button">"Search"</button>
        </form>
    }
}

/// Every article, by what it is about.
#[component]
fn Groups() -> impl IntoView {
    let groups = GROUPS.iter().map(|group| {
        let articles = ARTICLES.iter().filter(|article| article.group.id == group.id);
        let links = articles.map(|article| view! { <li><a href=article.path>{article.title}</a></li> });
        view! { <section><h2 id=group.id>{group.title}</h2><ul>{links.collect_view()}</ul></section> }
    });
    view! { <div class="groups">{groups.collect_view()}</div> }
}

/// What was found for `query`.
#[component]
pub fn HelpSearchPage(query: String, found: Found) -> impl IntoView {
    let Found { articles, some_only } = found;
    let title = match articles.len() {
        0 => format!("Nothing found for “{query}”"),
        1 => format!("1 article for “{query}”"),
        n => format!("{n} articles for “{query}”"),
    };
    let nothing = articles.is_empty();
    let results = articles.into_iter().map(|article| {
        view! { <li><h2><a href=article.path>{article.title}</a></h2><p>{article.summary}</p><p class="hint">{article.group.title}</p></li> }
    });
    view! {
        <Article section=SECTION title above=vec![(SECTION, routes::HELP.to_owned())] crumb="Search">
            <Search query/>
            {some_only.then(|| view! { <p class="small below">"No article has all of these words. These have some."</p> })}
            {if nothing {
                view! {
                    <p class="lede">"Check the spelling, or use one word, like email or phone. Or look through everything there is:"</p>
                    <Groups/>
                }
                .into_any()
            } else {
                view! { <ul class="results">{results.collect_view()}</ul> }.into_any()
            }}
        </Article>
    }
}

/// There is no article of that name.
#[component]
pub fn NoArticlePage() -> impl IntoView {
    view! {
        <Article section=SECTION title="We can't find that article" above=vec![(SECTION, routes::HELP.to_owned())] crumb="Not found">
            <p class="lede">"It may have another name now. Search for it, or look through everything there is."</p>
            <Search query=String::new()/>
            <Groups/>
        </Article>
    }
}

#[component]
pub fn HelpArticlePage(article: &'static help::Article) -> impl IntoView {
    let contents = (article.headings.len() >= LONG).then(|| {
        let links = article.headings.iter().map(|(id, text)| view! { <li><a href=format!("#{id}")>{*text}</a></li> });
        view! { <nav class="contents" aria-label="On this page"><ul>{links.collect_view()}</ul></nav> }
    });
    let parts = article.parts.iter().map(|part| match part {
        Part::Html(html) => view! { <div class="prose" inner_html=*html></div> }.into_any(),
        Part::Notice { title, html } => {
            view! { <Notice tone=Tone::Info title=*title><span inner_html=*html></span></Notice> }.into_any()
        }
    });
    let related = article.related.iter().filter_map(|slug| help::find(slug));
    let related = related.map(|article| view! { <li><a href=article.path>{article.title}</a></li> });
    let group = article.group;
    let above = vec![(SECTION, routes::HELP.to_owned()), (group.title, format!("{}#{}", routes::HELP, group.id))];
    view! {
        <Article section=SECTION title=article.title above crumb=article.title description=article.summary>
            <p class="lede">{article.summary}</p>
            {contents}
            {parts.collect_view()}
            <nav class="related" aria-labelledby="related">
                <h2 id="related">"Related"</h2>
                <ul>{related.collect_view()}</ul>
            </nav>
        </Article>
    }
}

/// Everybody's are the same: each is drawn once, when help is first asked for.
static INDEX: LazyLock<Bytes> = LazyLock::new(|| render(|| view! { <HelpPage/> }).into());
static PAGES: LazyLock<HashMap<&str, Bytes>> = LazyLock::new(|| {
    let drawn = |article| (article, render(move || view! { <HelpArticlePage article/> }).into());
    ARTICLES.iter().map(drawn).map(|(article, html)| (article.slug, html)).collect()
});

#[derive(serde::Deserialize)]
pub struct HelpQuery {
    #[serde(default)]
    q: String,
}

pub async fn get(Query(HelpQuery { q }): Query<HelpQuery>) -> Response {
    look(&q)
}

/// The index; or what was found, where something was asked for.
fn look(asked: &str) -> Response {
    let query = cut(asked);
    if query.is_empty() {
        return drawn(StatusCode::OK, INDEX.clone());
    }
    let found = help::search(&query);
    page(StatusCode::OK, || view! { <HelpSearchPage query found/> })
}

fn cut(asked: &str) -> String {
    asked.trim().chars().filter(|c| !c.is_control()).take(MAX_QUERY).collect()
}

pub async fn get_article(Path(slug): Path<String>) -> Response {
    read(&slug)
}

fn read(slug: &str) -> Response {
    match PAGES.get(slug) {
        Some(html) => drawn(StatusCode::OK, html.clone()),
        None => page(StatusCode::NOT_FOUND, || view! { <NoArticlePage/> }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::format;

    fn article(slug: &str) -> String {
        let article = help::find(slug).expect("an article");
        render(move || view! { <HelpArticlePage article/> })
    }

    fn searched(query: &str) -> String {
        let (query, found) = (query.to_owned(), help::search(query));
        render(|| view! { <HelpSearchPage query found/> })
    }

    #[test]
    fn the_index_has_every_article_once_and_a_search() {
        let html = render(|| view! { <HelpPage/> });
        assert!(html.contains("<title>How can we help? – Latchkey</title>"));
        assert!(html.contains(r#"<form method="get" action="/help" role="search" class="inline search">"#), "{html}");
        for article in &ARTICLES {
            let link = format!("<a href=\"{}\">{}</a>", article.path, article.title);
            assert_eq!(html.matches(&link).count(), 1, "{}", article.slug);
        }
        assert!(ARTICLES.iter().filter(|article| article.group.id != "administrators").count() >= 18);
    }

    #[test]
    fn an_article_says_where_it_is_what_is_in_it_and_what_is_beside_it() {
        let html = article("no-email");
        assert!(html.contains("<title>I didn't get the email – Latchkey</title>"));
        assert!(html.contains(r#"<a href="/help">Help</a>"#) && html.contains(r#"<a href="/help#signing-in">Signing in</a>"#));
        assert!(html.contains(r#"<li aria-current="page">I didn't get the email</li>"#));
        assert!(html.contains(r#"<h2 id="late">If the page says emails are running late</h2>"#));
        assert!(html.contains("<strong>We never ask for your code</strong>"), "a quotation is a notice");
        assert!(html.contains(r#"<a href="/help/cant-read-my-email">see what you can do</a>"#));
        assert!(html.contains("<li><strong>Check the address.</strong>"));
        assert!(html.contains(r#"<h2 id="related">Related</h2>"#) && html.contains(r#"<a href="/help/emails-we-send">"#));
        let contents = r#"aria-label="On this page""#;
        assert!(!html.contains(contents), "a short one needs none");
        let long = article("what-we-store");
        assert!(long.contains(contents) && long.contains(r##"<a href="#log">The log of what happened</a>"##));
    }

    #[test]
    fn a_search_says_how_many_and_what_to_do_where_there_are_none() {
        let some = searched("phone");
        assert!(some.contains(" articles for “phone”</h1>") && some.contains(r#"<a href="/help/lost-phone">"#));
        assert!(some.contains(r#"value="phone""#));
        let none = searched("<b>giraffe");
        assert!(none.contains("Nothing found for “&lt;b&gt;giraffe”") && none.contains("Check the spelling"));
        assert!(none.contains(r#"<a href="/help/no-email">"#) && !none.contains("<b>"));
        assert!(searched("phone giraffe").contains("No article has all of these words."));
        assert!(searched("safe links defender").contains("<h1>1 article for"));
    }

    #[test]
    fn every_picture_is_small_and_shown_in_light_and_in_dark() {
        let all = ARTICLES.iter().fold(String::new(), |all, it| all + &article(it.slug));
        let pictures =
            crate::ui::assets::ALL.iter().filter(|asset| asset.path.starts_with("/assets/") && asset.mime == "image/png");
        let mut count = 0;
        for picture in pictures {
            let (path, size) = (picture.path, picture.raw.len());
            let place = if path.contains("-dark.") { format!("<source srcset=\"{path}\"") } else { format!("<img src=\"{path}\"") };
            assert_eq!(all.matches(&place).count(), 1, "{path}");
            assert!(size < 64 * 1024, "{path} has {size} bytes: `make pictures` makes it smaller");
            assert!(picture.immutable && picture.br.is_none(), "{path}");
            count += 1;
        }
        assert!(count >= 28, "{count}");
        let one = article("no-email");
        assert!(
            one.contains(r#" media="screen and (prefers-color-scheme: dark)"><img src="#) && one.contains(r#" loading="lazy">"#)
        );
        assert!(one.contains(r#" width="360" height=""#) && one.contains(" alt=\"The page “Check your email”"));
    }

    #[test]
    fn an_unknown_article_is_not_found_and_help_goes_on() {
        assert_eq!(read("lost-phone").status(), StatusCode::OK);
        assert_eq!(read("no-such-thing").status(), StatusCode::NOT_FOUND);
        let html = render(|| view! { <NoArticlePage/> });
        assert!(html.contains("<h1>We can't find that article</h1>") && html.contains(r#"role="search""#));
        assert!(html.contains(r#"<a href="/help/no-email">"#));
    }

    #[test]
    fn a_question_is_one_short_line() {
        assert_eq!(cut(" \n "), "");
        assert_eq!(cut(" lost\r\nphone "), "lostphone");
        assert_eq!(cut(&"é".repeat(10_000)), "é".repeat(MAX_QUERY));
        assert_eq!(look("").status(), StatusCode::OK);
        assert_eq!(look("phone").status(), StatusCode::OK);
    }

    /// The constants that articles state in words.
    #[test]
    fn articles_say_what_the_policy_says() {
        use auth::{
            factors::{backup_code, totp},
            limits::request_bursts,
            policy::{self, Policy},
        };
        let text = |slug: &str| {
            let article = help::find(slug).expect("an article");
            article.parts.iter().fold(article.summary.to_owned(), |text, part| match part {
                Part::Html(html) | Part::Notice { html, .. } => text + html,
            })
        };
        let days = |lifetime: std::time::Duration| format::count(lifetime.as_secs() / 86_400, "day");
        let hours = format::count(auth::one_time::revert_link::EMAIL_CHANGE_UNDO.as_secs() / 3_600, "hour");
        let usual = Policy::default();
        for (slug, said) in [
            ("link-expired-or-used", format::lasting(policy::MAX_LINK_TTL)),
            ("how-it-works", format::lasting(policy::MAX_LINK_TTL)),
            ("confirm-its-you", format!("more than {}", format::lasting(usual.step_up_ttl))),
            ("confirm-its-you", format!("works for {}", format::lasting(policy::STEP_UP_CODE_TTL))),
            ("change-your-email-address", format!("It works for {}", format::lasting(policy::ADDRESS_CODE_TTL))),
            ("change-your-email-address", hours.clone()),
            ("take-back-a-change", hours),
            ("take-back-a-change", format!("“Sign that device out” works for {}", days(auth::one_time::revert_link::SESSION_UNDO))),
            ("take-back-a-change", format!("“Keep my account” works for {}", days(policy::DELETION_WAIT))),
            ("delete-account", format!("It takes {}", days(policy::DELETION_WAIT))),
            ("invitation-doesnt-work", format!("An invitation works for {}", days(policy::INVITE_TTL))),
            ("admin-invite", format!("It works for {}", days(policy::INVITE_TTL))),
            ("code-not-accepted", format!("After {} wrong codes", policy::CODE_TRIES)),
            ("turn-on-two-factor", format!("within {}", format::lasting(policy::SETUP_TTL))),
            ("sign-out-other-devices", format!("{} after you signed in", days(usual.session_max))),
            ("trusted-browsers", format!("on this browser for {}.", days(usual.trusted_device_ttl))),
            ("two-factor", format!("{} backup codes", backup_code::SET)),
            ("backup-codes", format!("You get {}", backup_code::SET)),
            ("backup-codes", format!("when {} are left", backup_code::LOW)),
            ("codes-always-wrong", format!("There were {} wrong codes", totp::MAX_FAILURES)),
            ("too-many", format!("After {} wrong codes", totp::MAX_FAILURES)),
            ("admin-reset-two-factor", format!("After {} wrong codes", totp::MAX_FAILURES)),
            ("admin-limits", format!("more than {} sign-in emails", request_bursts::TOO_MANY)),
        ] {
            assert!(text(slug).contains(&said), "{slug}: {said}");
        }
        assert_eq!((totp::MAX_AUTHENTICATORS, totp::STEP_SECONDS), (2, 30), "\"You can have two\"; \"every 30 seconds\"");
        assert_eq!(usual.session_idle, std::time::Duration::from_hours(24), "\"after a day without use\"");
    }
}
