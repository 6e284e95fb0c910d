//! `/dev/inbox`: where mail goes in development, instead of out.

use crate::pages::prelude::*;

const SECTION: &str = "Dev inbox";

/// One line of the list.
#[derive(Clone, Debug)]
pub struct Summary {
    pub id: String,
    pub to: String,
    pub subject: String,
    /// "2 minutes ago"
    pub when: String,
}

/// The newest first, as they are given.
#[component]
pub fn DevInboxPage(messages: Vec<Summary>) -> impl IntoView {
    let empty = messages.is_empty().then(|| {
        view! {
            <div class="empty">
                <h2 class="h3">"Nothing here yet"</h2>
                <p>"Mail that the server sends in development shows up here. Reload after you've asked for some."</p>
            </div>
        }
    });
    let rows = messages.into_iter().map(|Summary { id, to, subject, when }| {
        view! {
            <div class="row">
                <Icon glyph=Glyph::Mail/>
                <div>
                    <h2 class="h3"><a href=format!("{}/{id}", routes::DEV_INBOX)>{subject}<span class="vh">", "{when.clone()}</span></a></h2>
                    <p class="whole">{to}</p>
                    <p class="hint">{when}</p>
                </div>
            </div>
        }
    });
    view! {
        <Article section=SECTION title=SECTION>
            <div class="panel">{empty}{rows.collect_view()}</div>
        </Article>
    }
}

/// One mail: `text` is its text part, `html_href` where its HTML part is shown.
#[component]
pub fn DevMessagePage(to: String, subject: String, when: String, text: String, html_href: String) -> impl IntoView {
    view! {
        <Article section=SECTION title=subject>
            <p class="lede">"To "<strong class="whole">{to}</strong>", "{when}</p>
            <pre class="message">{linked(&text)}</pre>
            <p class="row-actions">
                <a class="button" href=html_href>"Open the HTML part"</a>
                <a class="button ghost" href=routes::DEV_INBOX>"All messages"</a>
            </p>
        </Article>
    }
}

/// The text with its web addresses as links.
fn linked(text: &str) -> Vec<AnyView> {
    text.split_inclusive(char::is_whitespace)
        .map(|word| {
            let url = word.trim_end().trim_end_matches(['.', ',', ')', '>']);
            if url.starts_with("https://") || url.starts_with("http://") {
                let rest = word[url.len()..].to_owned();
                view! { <a href=url.to_owned()>{url.to_owned()}</a>{rest} }.into_any()
            } else {
                word.to_owned().into_any()
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::render::render;

    fn message(text: &str) -> String {
        let text = text.to_owned();
        render(|| {
            view! {
                <DevMessagePage
                    to="mara@example.org".to_owned() subject="Sign in to Latchkey".to_owned() when="1 minute ago".to_owned()
                    text html_href="/dev/inbox/7/html".to_owned()
                />
            }
        })
    }

    #[test]
    fn only_web_addresses_become_links() {
        let html =
            message("Open:\nhttp://localhost:3000/login/verify?token=a&b\n\n482931 (https://x.example). javascript:alert(1) <b>");
        assert!(html.contains(
            "<pre class=\"message\">Open:\n<a href=\"http://localhost:3000/login/verify?token=a&amp;b\">http://localhost:3000/login/verify?token=a&amp;b</a>\n\n482931 (https://x.example). javascript:alert(1) &lt;b&gt;</pre>"
        ), "{html}");
        assert!(message("https://x.example.").contains(r#"<a href="https://x.example">https://x.example</a>.<"#));
    }
}
