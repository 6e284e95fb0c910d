//! `/invite`: someone was asked in.

use leptos::prelude::*;

use crate::{
    components::{Flow, Masked},
    routes,
    words::MaskedAddress,
};

/// `name` is what one is invited to, `token` what the invitation's link carried.
#[component]
pub fn InvitePage(name: String, inviter: Option<String>, address: MaskedAddress, token: String) -> impl IntoView {
    let lede = match inviter {
        Some(inviter) => {
            view! { <span class="whole">{inviter}</span>" invited "<span class="whole"><Masked address/>"."</span> }.into_any()
        }
        None => view! { "This invitation is for "<span class="whole"><Masked address/>"."</span> }.into_any(),
    };
    view! {
        <Flow title=format!("You're invited to {name}")>
            <p class="lede">{lede}</p>
            <form method="post" action=routes::INVITE>
                <input type="hidden" name="token" value=token/>
                <button class="button primary wide">"Send sign-in email"</button>
            </form>
        </Flow>
    }
}

/// Why an invitation doesn't work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadInvite {
    Expired,
    AlreadyUsed,
    Broken,
}

impl DeadInvite {
    const fn text(self) -> (&'static str, &'static str) {
        match self {
            Self::Expired => ("This invitation has expired", "Ask for a new one."),
            Self::AlreadyUsed => ("This invitation has already been used", "If you used it, sign in with the same address."),
            Self::Broken => (
                "This invitation doesn't work",
                "It may have been cut short when it was copied. Open it from the email, or ask for a new one.",
            ),
        }
    }
}

#[component]
pub fn DeadInvitePage(why: DeadInvite) -> impl IntoView {
    let (title, text) = why.text();
    view! {
        <Flow title>
            <p class="lede">{text}</p>
            {(why == DeadInvite::AlreadyUsed).then(|| view! {
                <div class="actions"><a class="button primary wide" href=routes::LOGIN>"Sign in"</a></div>
            })}
        </Flow>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::render;

    fn html(name: &str, inviter: Option<&str>, token: &str) -> String {
        let (name, inviter, token) = (name.to_owned(), inviter.map(str::to_owned), token.to_owned());
        render(|| view! { <InvitePage name inviter address="mara@example.org".into() token/> })
    }

    #[test]
    fn an_invitation_says_who_invites_whom() {
        let by_someone = html("latchkey.example", Some("ada@example.org"), "t0k");
        assert!(by_someone.contains("<title>You're invited to latchkey.example – Latchkey</title>"));
        assert!(by_someone.contains("<h1>You're invited to latchkey.example</h1>"));
        assert!(by_someone.contains(r#"<span class="whole">ada@example.org</span> invited <span class="whole"><strong>"#));
        assert!(by_someone.contains(r#"<input type="hidden" name="token" value="t0k">"#));
        assert!(html("latchkey.example", None, "t0k").contains(r#"This invitation is for <span class="whole"><strong>"#));
        assert!(!by_someone.contains("mara"));
    }

    #[test]
    fn names_are_text() {
        let html = html("</title><script>", Some("<script>"), "\"><script>");
        assert!(!html.contains("<script") && html.contains("&lt;/title&gt;"));
    }

    #[test]
    fn a_dead_invitation_says_what_to_do() {
        let html = |why| render(move || view! { <DeadInvitePage why/> });
        assert!(html(DeadInvite::Expired).contains("<h1>This invitation has expired</h1>"));
        assert!(html(DeadInvite::Expired).contains("Ask for a new one."));
        assert!(html(DeadInvite::AlreadyUsed).contains(r#"href="/login" class="button primary wide">Sign in"#));
        assert!(html(DeadInvite::Broken).contains("It may have been cut short"));
    }
}
