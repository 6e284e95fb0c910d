//! `/invite`: someone was asked in.

use auth::{crypto::InviteToken, primitives::email_address::EmailAddress, users::invitation::InviteState};

use crate::pages::{
    prelude::*,
    sign_in::login::{self, Asked},
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

#[component]
pub fn DeadInvitePage(why: DeadInvite) -> impl IntoView {
    let (title, text, help) = match why {
        DeadInvite::Expired => ("This invitation has expired", "Ask for a new one.", help::INVITATION_DOESNT_WORK_EXPIRED),
        DeadInvite::AlreadyUsed => (
            "This invitation has already been used",
            "If you used it, sign in with the same address.",
            help::INVITATION_DOESNT_WORK_USED,
        ),
        DeadInvite::Broken => (
            "This invitation doesn't work",
            "It may have been cut short when it was copied. Open it from the email, or ask for a new one.",
            help::INVITATION_DOESNT_WORK_BROKEN,
        ),
    };
    view! {
        <Flow title help=Some(help)>
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
pub async fn get(State(state): State<AppState>, Query(InviteQuery { token }): Query<InviteQuery>, _: Visitor) -> Answer {
    Ok(match find(&state, &token).await? {
        Ok((email, inviter)) => {
            let (name, address) = (state.site.host().to_owned(), email.as_str().into());
            page(StatusCode::OK, || view! { <InvitePage name inviter address token/> })
        }
        Err(why) => dead(why),
    })
}

/// Sends the invited address its sign-in mail.
#[server(prefix = "", endpoint = "invite", protocol = FormPost)]
pub async fn accept_invite(#[server(default)] token: String) -> Answer {
    let (form, Visitor(browser)) = Form::authorize(routes::INVITE).await?;
    let (email, _) = find(&form.state, &token).await?.map_err(dead)?;
    match login::ask_for(&form, &browser, &email, false, None).await? {
        Asked::Taken | Asked::TooSoon(_) => see_other(routes::LOGIN_SENT),
    }
}

async fn find(state: &AppState, token: &str) -> Result<Result<(EmailAddress, Option<String>), DeadInvite>, ServiceError> {
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
    use crate::http::render::render;

    fn html(name: &str, inviter: Option<&str>, token: &str) -> String {
        let (name, inviter, token) = (name.to_owned(), inviter.map(str::to_owned), token.to_owned());
        render(|| view! { <InvitePage name inviter address="mara@example.org".into() token/> })
    }

    #[test]
    fn names_are_text() {
        let html = html("</title><script>", Some("<script>"), "\"><script>");
        assert!(!html.contains("<script") && html.contains("&lt;/title&gt;"));
    }
}
