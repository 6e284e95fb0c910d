//! `/login`: asks for the address.

use std::time::Duration;

use leptos::prelude::*;

use crate::{
    components::{EmailField, Flow},
    routes, words,
};

/// What is wrong with the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmailError {
    Missing,
    Malformed,
}

impl EmailError {
    const fn text(self) -> &'static str {
        match self {
            Self::Missing => "Enter your email address",
            Self::Malformed => "Enter an email address, like name@example.org",
        }
    }
}

/// `email` is what was typed before, `next` where to go once signed in, `lifetime` how long link and code work.
#[component]
pub fn LoginPage(email: String, next: Option<String>, error: Option<EmailError>, lifetime: Duration) -> impl IntoView {
    view! {
        <Flow title="Sign in" error=error.is_some()>
            <p class="lede">"Enter your email address. We'll send you a link and a code. There's no password."</p>
            <form method="post" action=routes::LOGIN novalidate>
                {next.map(|path| view! { <input type="hidden" name="next" value=path/> })}
                <EmailField value=email error=error.map(EmailError::text)/>
                <button class="button primary wide">"Send sign-in email"</button>
            </form>
            <p class="hint">"Both work once, and stop after "{words::lasting(lifetime)}"."</p>
        </Flow>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        assets::{CSS, ICON_SVG},
        page::render,
    };

    fn html(email: &str, next: Option<&str>, error: Option<EmailError>) -> String {
        let (email, next) = (email.to_owned(), next.map(str::to_owned));
        render(|| view! { <LoginPage email next error lifetime=Duration::from_mins(10)/> })
    }

    #[test]
    fn the_first_page_asks_one_question_and_takes_no_focus() {
        let html = html("", None, None);
        assert!(html.starts_with("<!DOCTYPE html><html lang=\"en\">"));
        assert!(html.contains("<title>Sign in – Latchkey</title>"));
        assert!(html.contains("<h1>Sign in</h1>"));
        assert!(html.contains("Both work once, and stop after 10 minutes."));
        assert!(html.contains(r#"<form method="post" action="/login" novalidate>"#));
        for absent in ["autofocus", "aria-invalid", "describedby", "name=\"next\"", "style=", "<script", "<!>"] {
            assert!(!html.contains(absent), "{absent}");
        }
    }

    #[test]
    fn an_error_is_in_the_title_at_the_field_and_read_with_it() {
        let html = html("mara@", Some("/account"), Some(EmailError::Malformed));
        assert!(html.contains("<title>Error: Sign in – Latchkey</title>"));
        assert!(html.contains("<h1>Sign in</h1>"));
        assert!(html.contains(r#"<span class="vh">Error: </span>Enter an email address, like name@example.org"#));
        assert!(html.contains(r#"aria-describedby="email-error""#) && html.contains(r#"aria-invalid="true""#));
        assert!(html.contains(" autofocus"));
        assert!(html.contains(r#"value="mara@""#), "what was typed stays");
        assert!(html.contains(r#"<input type="hidden" name="next" value="/account">"#));
    }

    #[test]
    fn what_was_typed_is_text() {
        let html = html("\"><script>alert(1)</script>", Some("\"><img>"), Some(EmailError::Malformed));
        assert!(!html.contains("<script") && !html.contains("<img"));
        assert!(html.contains("&quot;&gt;&lt;script&gt;"));
    }

    /// The promise: the sign-in page with all it needs in 16,000 bytes.
    #[test]
    fn the_page_is_light() {
        let html = html("", None, None).len();
        let style = CSS.br.map_or(CSS.raw.len(), <[u8]>::len);
        let icon = ICON_SVG.br.map_or(ICON_SVG.raw.len(), <[u8]>::len);
        println!("html {html}, style sheet {style} (brotli; {} raw), icon {icon}", CSS.raw.len());
        assert!(html <= 6_000, "html {html}");
        assert!(html + style + icon <= 16_000, "{html} + {style} + {icon}");
    }
}
