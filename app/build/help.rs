//! The help articles: `help/*.md` to a table of what their pages say, so that no request reads Markdown.
//!
//! An article is a page of ours, and its author no more than its reader may put into it: paragraphs, lists, second headings, bold,
//! code, links to ourselves, a quotation, which becomes a notice, and pictures of our pages, each in a paragraph of its own. Anything
//! else fails the build and names the file, and so does a link to an article or a heading that isn't there. The words an article
//! quotes are compared with the pages' by `examples/gallery`.

#[path = "../src/help/terms.rs"]
mod terms;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use pulldown_cmark::{CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd, html};
use terms::terms;

use crate::{Result, hash, sorted_files};

/// As the index shows them. The last is for who runs the service.
const GROUPS: [(&str, &str); 5] = [
    ("signing-in", "Signing in"),
    ("two-factor", "Two-factor"),
    ("your-account", "Your account"),
    ("about", "About Latchkey"),
    ("administrators", "For administrators"),
];

/// A screen in light and in dark, by the name of its files without `-light.png` and `-dark.png`.
pub type Pictures = BTreeMap<String, Picture>;

pub struct Picture {
    light: File,
    dark: File,
}

pub struct File {
    pub url: String,
    pub bytes: Vec<u8>,
}

impl Picture {
    pub fn files(&self) -> [&File; 2] {
        [&self.light, &self.dark]
    }

    /// What the browser needs to keep a place for it. Two pixels of the picture are one of the page.
    fn html(&self, alt: &str) -> Result<String> {
        let (width, height) = size(&self.light.bytes)?;
        if size(&self.dark.bytes)? != (width, height) {
            return Err(format!("{} and {} are not of one size", self.light.url, self.dark.url).into());
        }
        if alt.is_empty() || alt.contains('"') {
            return Err("a picture says in words what it shows, and in “these” what is to be read there".into());
        }
        let mut escaped = String::new();
        html::push_html(&mut escaped, std::iter::once(Event::Text(alt.into())));
        Ok(format!(
            "<picture><source srcset=\"{}\" media=\"screen and (prefers-color-scheme: dark)\">\
             <img src=\"{}\" width=\"{}\" height=\"{}\" alt=\"{escaped}\" loading=\"lazy\"></picture>",
            self.dark.url,
            self.light.url,
            width / 2,
            height / 2,
        ))
    }
}

/// Of a PNG, from where its header has it.
fn size(png: &[u8]) -> Result<(u32, u32)> {
    let number = |at: usize| Some(u32::from_be_bytes(png.get(at..at + 4)?.try_into().ok()?));
    number(16).zip(number(20)).ok_or_else(|| "a picture without a header".into())
}

pub fn pictures(dir: &Path) -> Result<Pictures> {
    let file = |path: PathBuf, name: &str| -> Result<File> {
        let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let url = format!("/assets/{name}.{}.png", hash(&bytes));
        Ok(File { url, bytes })
    };
    let mut pictures = Pictures::new();
    for path in sorted_files(dir)? {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let name = stem.strip_suffix("-light").or(stem.strip_suffix("-dark"));
        let name = name.ok_or_else(|| format!("{}: a picture is called name-light.png or name-dark.png", path.display()))?;
        let [light, dark] = ["light", "dark"].map(|scheme| format!("{name}-{scheme}"));
        let [light, dark] = [light, dark].map(|name| file(dir.join(format!("{name}.png")), &name));
        pictures.insert(name.to_owned(), Picture { light: light?, dark: dark? });
    }
    Ok(pictures)
}

struct Article {
    slug: String,
    title: String,
    summary: String,
    group: usize,
    order: u32,
    keywords: String,
    answers: Vec<String>,
    related: Vec<String>,
    body: Body,
}

#[derive(Default)]
struct Body {
    /// In the order they are drawn, as Rust.
    parts: Vec<String>,
    headings: Vec<(String, String)>,
    text: String,
    /// To other articles or to headings, to be checked once all are read.
    links: Vec<String>,
}

/// The table, as Rust.
pub fn table(dir: &Path, pictures: &Pictures) -> Result<String> {
    let mut articles = Vec::new();
    for file in sorted_files(dir)? {
        let name = file.file_stem().and_then(|name| name.to_str()).ok_or("a file name in help/ is not UTF-8")?;
        articles
            .push(article(name, &fs::read_to_string(&file)?, pictures).map_err(|error| format!("{}: {error}", file.display()))?);
    }
    articles.sort_by(|a, b| (a.group, a.order, &a.slug).cmp(&(b.group, b.order, &b.slug)));
    check(&articles)?;
    emit(&articles)
}

fn article(slug: &str, source: &str, pictures: &Pictures) -> Result<Article> {
    if !slug.chars().all(|c| c.is_ascii_lowercase() || c == '-') {
        return Err("the name is the address: lower case letters and hyphens".into());
    }
    let (front, body) = source
        .strip_prefix("---\n")
        .and_then(|rest| rest.split_once("\n---\n"))
        .ok_or("it begins with a line of three hyphens, lines of \"name: value\", and three hyphens again")?;
    let mut fields = BTreeMap::new();
    for line in front.lines() {
        let (name, value) = line.split_once(": ").ok_or_else(|| format!("no \"name: value\": {line}"))?;
        if fields.insert(name, value.trim()).is_some() {
            return Err(format!("{name} stands twice").into());
        }
    }
    let mut needed = |name: &str| fields.remove(name).ok_or_else(|| format!("{name} is missing"));
    let (title, summary) = (needed("title")?.to_owned(), needed("summary")?.to_owned());
    let (group, order, keywords) = (needed("group")?, needed("order")?.parse()?, needed("keywords")?.to_owned());
    let group = GROUPS.iter().position(|(_, title)| *title == group).ok_or_else(|| format!("no group is called {group}"))?;
    let mut list = |name: &str| -> Vec<String> {
        let names = fields.remove(name).unwrap_or_default();
        names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    let (answers, related) = (list("answers"), list("related"));
    if let Some(name) = fields.keys().next() {
        return Err(format!("nothing is called {name}").into());
    }
    Ok(Article {
        slug: slug.to_owned(),
        title,
        summary,
        group,
        order,
        keywords,
        answers,
        related,
        body: read(slug, body, pictures)?,
    })
}

fn read(slug: &str, source: &str, pictures: &Pictures) -> Result<Body> {
    let mut body = Body::default();
    let mut events = Vec::new();
    let mut parser = Parser::new_ext(source, Options::ENABLE_HEADING_ATTRIBUTES);
    while let Some(event) = parser.next() {
        match event {
            Event::Start(Tag::BlockQuote(_)) => {
                body.flush(&mut events);
                let inside: Vec<_> =
                    parser.by_ref().take_while(|event| !matches!(event, Event::End(TagEnd::BlockQuote(_)))).collect();
                body.notice(slug, inside)?;
            }
            Event::Start(Tag::Heading { level: HeadingLevel::H2, id, .. }) => {
                let inside: Vec<_> = parser.by_ref().take_while(|event| !matches!(event, Event::End(TagEnd::Heading(_)))).collect();
                let text = plain(&inside)?;
                let id = id.map_or_else(|| terms(&text).join("-"), |id| id.to_string());
                events.push(Event::Start(Tag::Heading {
                    level: HeadingLevel::H2,
                    id: Some(id.clone().into()),
                    classes: Vec::new(),
                    attrs: Vec::new(),
                }));
                events.push(Event::Text(text.clone().into()));
                events.push(Event::End(TagEnd::Heading(HeadingLevel::H2)));
                body.add_text(&text);
                body.headings.push((id, text));
            }
            Event::Start(Tag::Image { dest_url, .. }) => {
                let alt: Vec<_> = parser.by_ref().take_while(|event| !matches!(event, Event::End(TagEnd::Image))).collect();
                let picture = pictures.get(&*dest_url).ok_or_else(|| format!("there is no picture called {dest_url}"))?;
                let alt = plain(&alt)?;
                if !matches!(events.last(), Some(Event::Start(Tag::Paragraph))) {
                    return Err(format!("{dest_url}: a picture is a paragraph of its own").into());
                }
                events.push(Event::InlineHtml(picture.html(&alt)?.into()));
                body.add_text(&alt);
            }
            other => events.push(body.allowed(slug, other)?),
        }
    }
    body.flush(&mut events);
    Ok(body)
}

impl Body {
    fn add_text(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push(' ');
    }

    fn flush(&mut self, events: &mut Vec<Event<'_>>) {
        if !events.is_empty() {
            let mut out = String::new();
            html::push_html(&mut out, events.drain(..));
            self.parts.push(format!("Part::Html({:?})", out.trim_end()));
        }
    }

    /// A paragraph in bold, which is the notice's title, and one of what it says.
    fn notice(&mut self, slug: &str, inside: Vec<Event<'_>>) -> Result<()> {
        const SHAPE: &str = "a notice is a bold paragraph, then one other";
        let mut paragraphs = inside.split(|event| matches!(event, Event::Start(Tag::Paragraph) | Event::End(TagEnd::Paragraph)));
        let (Some([]), Some([Event::Start(Tag::Strong), title @ .., Event::End(TagEnd::Strong)])) =
            (paragraphs.next(), paragraphs.next())
        else {
            return Err(SHAPE.into());
        };
        let (Some([]), Some(text), Some([]), None) = (paragraphs.next(), paragraphs.next(), paragraphs.next(), paragraphs.next())
        else {
            return Err(SHAPE.into());
        };
        let title = plain(title)?;
        self.add_text(&title);
        let text = text.iter().cloned().map(|event| self.allowed(slug, event)).collect::<Result<Vec<_>>>()?;
        let mut out = String::new();
        html::push_html(&mut out, text.into_iter());
        self.parts.push(format!("Part::Notice {{ title: {title:?}, html: {out:?} }}"));
        Ok(())
    }

    fn allowed<'a>(&mut self, slug: &str, event: Event<'a>) -> Result<Event<'a>> {
        match event {
            Event::Text(text) | Event::Code(text) if text.contains("  ") => Err(format!("two spaces: {text}").into()),
            Event::Text(ref text) | Event::Code(ref text) => {
                self.add_text(text);
                Ok(event)
            }
            Event::SoftBreak
            | Event::Start(Tag::Paragraph | Tag::List(_) | Tag::Item | Tag::Strong | Tag::CodeBlock(_))
            | Event::End(TagEnd::Paragraph | TagEnd::List(_) | TagEnd::Item | TagEnd::Strong | TagEnd::CodeBlock | TagEnd::Link) => {
                Ok(event)
            }
            Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
                let dest_url = self.link(slug, dest_url)?;
                Ok(Event::Start(Tag::Link { link_type, dest_url, title, id }))
            }
            Event::Html(_) | Event::InlineHtml(_) | Event::Start(Tag::HtmlBlock) => Err("HTML is not for articles".into()),
            other => Err(format!("nothing draws this yet: {other:?}").into()),
        }
    }

    /// "article", "article#heading" or "#heading"; or a page of ours, by its path.
    fn link<'a>(&mut self, slug: &str, to: CowStr<'a>) -> Result<CowStr<'a>> {
        if to.starts_with('/') {
            return Ok(to);
        }
        if to.contains([':', '/', '.']) {
            return Err(format!("articles link to ourselves only: {to}").into());
        }
        let whole = if to.starts_with('#') { format!("{slug}{to}") } else { to.to_string() };
        self.links.push(whole.clone());
        Ok(format!("/help/{whole}").into())
    }
}

fn plain(inside: &[Event<'_>]) -> Result<String> {
    inside.iter().try_fold(String::new(), |text, event| match event {
        Event::Text(more) => Ok(text + more),
        other => Err(format!("a title is plain text: {other:?}").into()),
    })
}

fn check(articles: &[Article]) -> Result<()> {
    let mut places = BTreeSet::new();
    for Article { slug, body, .. } in articles {
        places.insert(slug.clone());
        for (id, _) in &body.headings {
            if !places.insert(format!("{slug}#{id}")) {
                return Err(format!("help/{slug}.md: two headings are #{id}").into());
            }
        }
    }
    let titles: BTreeSet<_> = articles.iter().map(|article| &article.title).collect();
    if titles.len() < articles.len() {
        return Err("two articles of help/ have one title".into());
    }
    for Article { slug, related, body, .. } in articles {
        if let Some(link) = related.iter().chain(&body.links).find(|link| !places.contains(*link)) {
            return Err(format!("help/{slug}.md: there is no {link}").into());
        }
        if let Some(heading) = related.iter().find(|slug| slug.contains('#')) {
            return Err(format!("help/{slug}.md: related are whole articles, and {heading} is none").into());
        }
    }
    Ok(())
}

fn emit(articles: &[Article]) -> Result<String> {
    let mut code = String::new();
    let groups: Vec<_> = GROUPS.iter().map(|(id, title)| format!("Group {{ id: {id:?}, title: {title:?} }}")).collect();
    writeln!(code, "pub static GROUPS: [Group; {}] = [{}];", groups.len(), groups.join(", "))?;
    writeln!(code, "pub static ARTICLES: [Article; {}] = [", articles.len())?;
    for Article { slug, title, summary, group, keywords, answers, related, body, .. } in articles {
        let words = |text: &str| BTreeSet::from_iter(terms(text)).into_iter().collect::<Vec<_>>();
        let headings = body.headings.iter().fold(String::new(), |all, (_, text)| all + " " + text);
        writeln!(
            code,
            "Article {{ slug: {slug:?}, path: {path:?}, title: {title:?}, summary: {summary:?}, group: &GROUPS[{group}], \
             answers: &{answers:?}, related: &{related:?}, headings: &{:?}, parts: &[{}], \
             words: [&{:?}, &{:?}, &{:?}, &{:?}] }},",
            body.headings,
            body.parts.join(", "),
            words(title),
            words(&(keywords.clone() + &headings)),
            words(summary),
            words(&body.text),
            path = format!("/help/{slug}"),
        )?;
    }
    writeln!(code, "];")?;
    // A link to an article that isn't there does not compile.
    for Article { slug, title, body, .. } in articles {
        let name = slug.replace('-', "_").to_uppercase();
        writeln!(code, "/// {title}\npub const {name}: &str = \"/help/{slug}\";")?;
        for (id, text) in &body.headings {
            let heading = id.replace('-', "_").to_uppercase();
            writeln!(code, "/// {title}: {text}\npub const {name}_{heading}: &str = \"/help/{slug}#{id}\";")?;
        }
    }
    Ok(code)
}
