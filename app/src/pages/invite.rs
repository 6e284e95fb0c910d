//! `/invite`: someone was asked in.

use auth::{crypto::InviteToken, primitives::email_address::EmailAddress, users::invitation::InviteState};
use axum::{
    extract::{Query, State},
    response::Response,
};
use http::StatusCode;
use leptos::prelude::*;

use crate::{
    components::{Flow, Masked},
    fault::Fault,
    form::{Form, FormError},
    gate::Passerby,
    help,
    page::page,
    pages::login::{self, Asked},
    routes,
    state::AppState,
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
    const fn help(self) -> &'static str {
        match self {
            Self::Expired => help::INVITATION_DOESNT_WORK_EXPIRED,
            Self::AlreadyUsed => help::INVITATION_DOESNT_WORK_USED,
            Self::Broken => help::INVITATION_DOESNT_WORK_BROKEN,
        }
    }

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
        <Flow title help=Some(why.help())>
            <p class="lede">{text}</p>
            {(why == DeadInvite::AlreadyUsed).then(|| view! {
                <div class="actions"><a class="button primary wide" href=routes::LOGIN>"Sign in"</a></div>
            })}
        </Flow>
    }
}

#[derive(serde::Deserialize)]
pub struct InviteQuery {
    #[serde(default)]
    token: String,
}

/// Shows who is invited. The link signs nobody in: the mail that the button sends does, and it goes to the invited address.
pub async fn get(
    State(state): State<AppState>,
    Query(InviteQuery { token }): Query<InviteQuery>,
    _: Passerby,
) -> Result<Response, Fault> {
    Ok(match find(&state, &token).await? {
        Ok((email, inviter)) => {
            let (name, address) = (state.site.host().to_owned(), email.as_str().into());
            page(StatusCode::OK, || view! { <InvitePage name inviter address token/> })
        }
        Err(why) => dead(why),
    })
}

/// Sends the invited address its sign-in mail.
#[server(prefix = "", endpoint = "invite")]
pub async fn accept_invite(#[server(default)] token: String) -> Result<(), FormError> {
    let form = Form::current()?;
    let Passerby(visitor) = form.admit(routes::INVITE).await?;
    let email = match find(&form.state, &token).await.map_err(|error| form.fail(error))? {
        Ok((email, _)) => email,
        Err(why) => return form.refuse(dead(why)),
    };
    match login::ask_for(&form, &visitor, &email, false, None).await? {
        Asked::Taken | Asked::TooSoon(_) => form.see_other(routes::LOGIN_SENT),
        Asked::Refused(page) => form.refuse(page),
    }
}

async fn find(state: &AppState, token: &str) -> Result<Result<(EmailAddress, Option<String>), DeadInvite>, Fault> {
    let Some(token) = InviteToken::parse(token) else {
        return Ok(Err(DeadInvite::Broken));
    };
    Ok(match state.auth.users().peek_invite(&token).await? {
        InviteState::Live { email, inviter } => Ok((email, inviter)),
        InviteState::Expired => Err(DeadInvite::Expired),
        InviteState::Used => Err(DeadInvite::AlreadyUsed),
        InviteState::Unknown => Err(DeadInvite::Broken),
    })
}

fn dead(why: DeadInvite) -> Response {
    let status = if why == DeadInvite::Broken { StatusCode::NOT_FOUND } else { StatusCode::GONE };
    page(status, || view! { <DeadInvitePage why/> })
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
