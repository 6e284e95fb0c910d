//! `/help`: one section for each thing that can go wrong, linked from where it goes wrong.

use axum::response::Response;
use http::StatusCode;
use leptos::prelude::*;

use crate::{
    components::{Article, Notice, Tone},
    page::page,
    routes,
};

#[component]
pub fn HelpPage() -> impl IntoView {
    view! {
        <Article section="Help" title="Help with signing in">
            <p class="lede">
                "Latchkey has no passwords. You type your email address, and we send you a link and a 6-digit code. Either one signs you in."
            </p>
            <nav aria-label="Page">
                <ul>
                    <li><a href="#no-email">"No email came"</a></li>
                    <li><a href="#link">"The link has expired or was already used"</a></li>
                    <li><a href="#other-browser">"The link opened in another browser"</a></li>
                    <li><a href="#code">"The code doesn't work"</a></li>
                    <li><a href="#limits">"Too many emails, requests or tries"</a></li>
                    <li><a href="#didnt-ask">"An email you didn't ask for"</a></li>
                </ul>
            </nav>
            <section id="no-email">
                <h2>"No email came"</h2>
                <p>"It can take a minute or two. If nothing has come by then, try these in order."</p>
                <ol>
                    <li>
                        <strong>"Check the address."</strong>
                        " The page that says \u{201c}Check your email\u{201d} shows where we sent it. If there's a mistake, choose \u{201c}Change email\u{201d}."
                    </li>
                    <li>
                        <strong>"Look in spam or junk."</strong>
                        " The same page shows who the email comes from. If it's there, mark it as \u{201c}not spam\u{201d}."
                    </li>
                    <li>
                        <strong>"Send another."</strong>
                        " Only the newest email works, so use the last one to arrive."
                    </li>
                    <li>
                        <strong>"Work or school address?"</strong>
                        " Your organisation may be holding our email back. Ask them to allow the sender."
                    </li>
                </ol>
            </section>
            <section id="link">
                <h2>"The link has expired or was already used"</h2>
                <p>
                    "A link works once, and only for a few minutes. The email says how long. If you ask for another email in the same browser, the earlier link stops working."
                </p>
                <p><a href=routes::LOGIN>"Sign in again"</a>" to get a new email."</p>
                <p>
                    "If the page says the link was used and it wasn't you, someone else may be able to read your email. "
                    <a href="#didnt-ask">"See what you can do"</a>"."
                </p>
            </section>
            <section id="other-browser">
                <h2>"The link opened in another browser"</h2>
                <p>
                    "A link signs in only the browser that asked for it. That way nobody can send you a link that signs you in as someone else, and a forwarded link is no use to anyone."
                </p>
                <ul>
                    <li>"Go back to the browser where you asked, and open the link there."</li>
                    <li>"Or type the code from the same email there."</li>
                    <li>"Or choose \u{201c}Send an email for this browser\u{201d} on the page that opened."</li>
                </ul>
                <p>
                    "Some email apps open links in a browser of their own. If yours does, use the code."
                </p>
            </section>
            <section id="code">
                <h2>"The code doesn't work"</h2>
                <ul>
                    <li>"Use the code from the newest email. Earlier ones stop working."</li>
                    <li>"Type it in the browser where you asked for it."</li>
                    <li>"It works once, for as long as the email says."</li>
                    <li>"You have 5 tries. After that, send another email to get a new code."</li>
                </ul>
                <Notice tone=Tone::Info title="We never ask for your code">
                    "Nobody from Latchkey will phone, text or email you to ask for it. Only type it on the page where you're signing in."
                </Notice>
            </section>
            <section id="limits">
                <h2>"Too many emails, requests or tries"</h2>
                <p>
                    "We limit how many emails go to one address, how many requests come from one network, and how many wrong codes we accept. This keeps others from filling your inbox or guessing a code."
                </p>
                <p>
                    "The page says when you can try again. Nobody can lock your account this way: where you're signed in, you stay signed in, and a browser you've signed in with before has limits of its own."
                </p>
            </section>
            <section id="didnt-ask">
                <h2>"An email you didn't ask for"</h2>
                <p>
                    "Someone typed your address, most likely by mistake. Nobody can sign in without the email, so you can ignore it."
                </p>
                <ul>
                    <li>"Don't give the code or the link to anyone."</li>
                    <li>"To make it useless at once, open the link and choose \u{201c}This wasn't me\u{201d}."</li>
                    <li>"If you think someone can read your email, secure your inbox first: change its password, and sign out devices you don't know."</li>
                </ul>
            </section>
        </Article>
    }
}

pub async fn get() -> Response {
    page(StatusCode::OK, || view! { <HelpPage/> })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::render;

    #[test]
    fn every_link_into_the_page_finds_its_section() {
        let html = render(|| view! { <HelpPage/> });
        let own = html.split("href=\"#").skip(1).filter_map(|rest| rest.split('"').next());
        let linked = [routes::HELP_LIMITS, routes::HELP_DIDNT_ASK];
        let linked = linked.iter().filter_map(|path| path.split('#').nth(1));
        let anchors: Vec<_> = own.chain(linked).collect();
        assert!(anchors.len() > 8);
        for anchor in anchors {
            assert_eq!(html.matches(&format!("id=\"{anchor}\"")).count(), 1, "#{anchor}");
        }
    }
}
