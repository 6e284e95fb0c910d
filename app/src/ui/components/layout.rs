use leptos::prelude::*;

use super::{HelpLink, Logo};
use crate::{
    help, routes,
    ui::assets::{CSS, ICON_SVG},
};

const SECURITY: &str = "Security";
/// The pages of an account that the navigation leads to, by their headings.
const ACCOUNT: [(&str, &str); 4] =
    [(SECURITY, routes::ACCOUNT), ("Sessions", routes::SESSIONS), ("Activity", routes::ACTIVITY), ("Email", routes::EMAIL)];

/// The administrators' pages that stand in the header, by their headings.
const ADMIN: [(&str, &str); 7] = [
    ("Overview", routes::ADMIN),
    ("Rollout", routes::ADMIN_ROLLOUT),
    ("Users", routes::ADMIN_USERS),
    ("Audit log", routes::ADMIN_AUDIT),
    ("API keys", routes::ADMIN_API_KEYS),
    ("Mail", routes::ADMIN_MAIL),
    ("Limits", routes::ADMIN_LIMITS),
];

/// The sign-in journey: one narrow card with one question.
///
/// `error` says that a field was filled in wrongly, which the title says first: it is what a screen reader reads first. `refresh` is
/// where the browser goes by itself, `help` the article about what the page says, `description` as in [`Document`], `lede` the first
/// paragraph, where it is plain text.
#[component]
pub fn Flow(
    #[prop(into)] title: String,
    #[prop(optional)] error: bool,
    #[prop(optional_no_strip)] help: Option<&'static str>,
    #[prop(optional, into)] refresh: Option<String>,
    #[prop(optional)] description: Option<&'static str>,
    #[prop(optional, into)] lede: Option<String>,
    children: Children,
) -> impl IntoView {
    view! {
        <Document title=title.clone() error refresh description>
            <div class="flow">
                <header><Logo/></header>
                <main id="main">
                    <h1>{title}</h1>
                    <Main lede help>{children()}</Main>
                </main>
                <footer><FooterLinks/></footer>
            </div>
        </Document>
    }
}

/// The pages of someone's own account.
///
/// `crumb` is what a page below "Security" is called in the way back to it. `badge` stands beside the heading and is no part of
/// it, so that heading and title stay the same words. `error` and `help` as in [`Flow`].
#[component]
pub fn Settings(
    title: &'static str,
    #[prop(into)] email: String,
    #[prop(optional_no_strip)] crumb: Option<&'static str>,
    #[prop(optional_no_strip)] badge: Option<AnyView>,
    #[prop(optional)] error: bool,
    #[prop(optional_no_strip)] help: Option<&'static str>,
    #[prop(optional, into)] lede: Option<String>,
    children: Children,
) -> impl IntoView {
    // A page with a crumb is below the one of that name, or else below "Security".
    let below = crumb.map(|crumb| ACCOUNT.into_iter().find(|(name, _)| *name == crumb).map_or(SECURITY, |(name, _)| name));
    let links = ACCOUNT.map(|(name, path)| {
        let current = if name == title { Some("page") } else { (below == Some(name)).then_some("true") };
        view! { <li><a href=path aria-current=current>{name}</a></li> }
    });
    let crumbs = crumb.and_then(|crumb| crumbs(vec![(SECURITY, routes::ACCOUNT.to_owned())], crumb.to_owned()));
    view! {
        <Document title=title.to_owned() error>
            <Bar>
                <span class="who">{email}</span>
                <SignOut/>
            </Bar>
            <div class="wrap settings">
                <nav class="nav" aria-label="Account"><ul>{links}</ul></nav>
                <main id="main">
                    {crumbs}
                    <div class="title"><h1>{title}</h1>{badge}</div>
                    <Main lede help>{children()}</Main>
                </main>
            </div>
        </Document>
    }
}

/// The pages of administrators.
///
/// `above` leads back from a page that is below one of those in the header, and `crumb` is what it is called there. `badges` as in
/// [`Settings`], `action` stands across from the heading, `error` and `help` as in [`Flow`].
#[component]
pub fn Admin(
    #[prop(into)] title: String,
    #[prop(into)] email: String,
    #[prop(optional)] above: Vec<(&'static str, String)>,
    #[prop(optional)] crumb: &'static str,
    #[prop(optional_no_strip)] badges: Option<AnyView>,
    #[prop(optional_no_strip)] action: Option<AnyView>,
    #[prop(optional)] error: bool,
    #[prop(optional_no_strip)] help: Option<&'static str>,
    #[prop(optional, into)] lede: Option<String>,
    children: Children,
) -> impl IntoView {
    let tabs = ADMIN.map(|(name, path)| {
        let current = match above.first() {
            Some((top, _)) => (*top == name).then_some("true"),
            None => (title == name).then_some("page"),
        };
        view! { <li><a href=path aria-current=current>{name}</a></li> }
    });
    let crumbs = crumbs(above, crumb.to_owned());
    view! {
        <Document title=title.clone() error site="Latchkey admin">
            <Bar class="bar admin" section="Admin" nav=Some(view! { <nav class="nav" aria-label="Admin"><ul>{tabs}</ul></nav> }.into_any())>
                <span class="who">{email}</span>
                <a class="button ghost" href=routes::ACCOUNT>"Account"</a>
                <SignOut/>
            </Bar>
            <main id="main" class="wrap admin">
                {crumbs}
                <div class="title">
                    <h1>{before_domain(&title)}</h1>
                    {badges}
                    {action.map(|action| view! { <div class="action">{action}</div> })}
                </div>
                <Main lede help>{children()}</Main>
            </main>
        </Document>
    }
}

/// Something to read: help, and the development inbox. `section` stands beside the logo; `above` leads back to where the page hangs, and
/// `crumb` is what it is called there. `description` as in [`Document`].
#[component]
pub fn Article(
    section: &'static str,
    #[prop(into)] title: String,
    #[prop(optional)] above: Vec<(&'static str, String)>,
    #[prop(optional, into)] crumb: String,
    #[prop(optional)] description: Option<&'static str>,
    children: Children,
) -> impl IntoView {
    let crumbs = crumbs(above, crumb);
    view! {
        <Document title=title.clone() description>
            <Bar section><a class="button ghost" href=routes::LOGIN>"Sign in"</a></Bar>
            <main id="main" class="wrap article">
                {crumbs}
                <h1>{title}</h1>
                {children()}
            </main>
            <footer class="foot"><div class="wrap"><FooterLinks/></div></footer>
        </Document>
    }
}

/// Below the heading: what the page is about, its `children`, and the article that answers it.
#[component]
fn Main(lede: Option<String>, help: Option<&'static str>, children: Children) -> impl IntoView {
    view! {
        {lede.map(|text| view! { <p class="lede">{text}</p> })}
        {children()}
        {help.map(|to| view! { <HelpLink to/> })}
    }
}

/// Above the page: the logo, what stands beside it, and `children` at the end.
#[component]
fn Bar(
    #[prop(default = "bar")] class: &'static str,
    #[prop(optional)] section: Option<&'static str>,
    #[prop(optional_no_strip)] nav: Option<AnyView>,
    children: Children,
) -> impl IntoView {
    view! {
        <header class=class>
            <div class="wrap">
                <Logo/>
                {section.map(|section| view! { <span class="section">{section}</span> })}
                {nav}
                <div class="end">{children()}</div>
            </div>
        </header>
    }
}

/// The way back to what the page is below, if it is below anything.
fn crumbs(above: Vec<(&'static str, String)>, crumb: String) -> Option<impl IntoView> {
    (!above.is_empty()).then(|| {
        let above = above.into_iter().map(|(name, path)| view! { <li><a href=path>{name}</a></li> });
        view! {
            <nav class="crumbs" aria-label="Breadcrumb">
                <ol>{above.collect_view()}<li aria-current="page">{crumb}</li></ol>
            </nav>
        }
    })
}

/// An address that is too long for its line breaks before its domain first.
fn before_domain(title: &str) -> impl IntoView + use<> {
    let domain = title.find('@').map_or(title.len(), |at| at + 1);
    let (name, domain) = (title[..domain].to_owned(), title[domain..].to_owned());
    view! { {name}{(!domain.is_empty()).then(|| view! { <wbr/>{domain} })} }
}

#[component]
fn SignOut() -> impl IntoView {
    view! { <form method="post" action=routes::LOGOUT><button class="button ghost">"Sign out"</button></form> }
}

#[component]
fn FooterLinks() -> impl IntoView {
    view! {
        <ul>
            <li><a href=routes::HELP>"Help"</a></li>
            <li><a href=help::WHAT_WE_STORE>"Privacy"</a></li>
            <li><a href=help::HOW_IT_WORKS_SAFE>"Security"</a></li>
        </ul>
    }
}

/// `description` is what search engines show below the title. A page without one is none for them.
#[component]
fn Document(
    title: String,
    #[prop(optional)] error: bool,
    #[prop(default = "Latchkey")] site: &'static str,
    #[prop(optional_no_strip)] refresh: Option<String>,
    #[prop(optional_no_strip)] description: Option<&'static str>,
    children: Children,
) -> impl IntoView {
    let found = match description {
        Some(text) => view! { <meta name="description" content=text/> },
        None => view! { <meta name="robots" content="noindex"/> },
    };
    view! {
        <!DOCTYPE html>
        <html lang="en">
            <head>
                <meta charset="utf-8"/>
                <title>{error.then_some("Error: ")}{title}" – "{site}</title>
                {refresh.map(|url| view! { <meta http-equiv="refresh" content=format!("0; url={url}")/> })}
                <meta name="viewport" content="width=device-width, initial-scale=1"/>
                <meta name="color-scheme" content="light dark"/>
                {found}
                // Safari on iPhone makes links to the telephone out of IP addresses.
                <meta name="format-detection" content="telephone=no"/>
                <link rel="stylesheet" href=CSS.path/>
                <link rel="icon" href=ICON_SVG.path type=ICON_SVG.mime/>
            </head>
            <body>
                <a class="skip" href="#main">"Skip to content"</a>
                {children()}
            </body>
        </html>
    }
}
