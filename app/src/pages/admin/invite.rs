//! `/admin/users/invite`: asks somebody in.

use std::time::Duration;

use leptos::prelude::*;

use crate::{
    components::{Admin, EmailField},
    routes, words,
};

/// Why nobody was invited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InviteError {
    Missing,
    Malformed,
    HasAccount,
}

impl InviteError {
    const fn text(self) -> &'static str {
        match self {
            Self::Missing => "Enter an email address",
            Self::Malformed => "Enter an email address, like name@example.org",
            Self::HasAccount => "There's already an account with this address",
        }
    }
}

/// `who`: the administrator's own address. `email` is what was typed before, `lifetime` how long an invitation works.
#[component]
pub fn InviteSomeonePage(who: String, email: String, error: Option<InviteError>, lifetime: Duration) -> impl IntoView {
    let wrong = error.is_some();
    let days = words::count(lifetime.as_secs() / 86_400, "day");
    view! {
        <Admin
            title="Invite someone" email=who above=vec![("Users", routes::ADMIN_USERS.to_owned())] crumb="Invite someone" error=wrong
        >
            <div class="panel narrow">
                <form class="body" method="post" action=routes::ADMIN_USERS_INVITE novalidate>
                    <p>"We'll email them a link that lets them sign up. It works for "{days}"."</p>
                    <EmailField value=email autocomplete="off" error=error.map(|error| error.text().to_owned())/>
                    <div class="row-actions">
                        <button class="button primary">"Send invitation"</button>
                        <a class="button" href=routes::ADMIN_USERS>"Cancel"</a>
                    </div>
                </form>
            </div>
        </Admin>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::render;

    fn html(email: &str, error: Option<InviteError>) -> String {
        let (email, lifetime) = (email.to_owned(), auth::policy::INVITE_TTL);
        render(move || view! { <InviteSomeonePage who="priya@example.org".to_owned() email error lifetime/> })
    }

    #[test]
    fn it_says_what_will_be_sent() {
        let html = html("", None);
        assert!(html.contains("<title>Invite someone – Latchkey admin</title>") && html.contains("It works for 7 days."));
        assert!(html.contains(r#"<form method="post" action="/admin/users/invite""#) && html.contains(r#"autocomplete="off""#));
        assert!(html.contains(r#"<a href="/admin/users" class="button">Cancel</a>"#));
    }

    #[test]
    fn what_was_typed_stays_with_its_error() {
        for (error, words) in [
            (InviteError::Missing, "Enter an email address"),
            (InviteError::Malformed, "Enter an email address, like name@example.org"),
            (InviteError::HasAccount, "There's already an account with this address"),
        ] {
            let html = html("\"><script>", Some(error));
            assert!(html.contains("<title>Error: Invite someone – Latchkey admin</title>") && html.contains(words), "{words}");
            assert!(html.contains(r#"value="&quot;&gt;&lt;script&gt;""#) && !html.contains("<script"));
        }
    }
}
