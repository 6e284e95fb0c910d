//! `/invite`: someone was asked in.

use auth::{
    crypto::InviteToken,
    one_time::{Dead, invitation::InviteState},
    primitives::email_address::EmailAddress,
};

use crate::pages::{
    prelude::*,
    sign_in::{
        confirm_link::{TokenQuery, status_of},
        login::{self, Asked},
    },
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
            <PostButton action=routes::INVITE hidden=vec![("token", token)] class="button primary wide" text="Send sign-in email"/>
        </Flow>
    }
}

/// An invitation that doesn't work. `why`: none where there is no such one.
#[component]
pub fn DeadInvitePage(why: Option<Dead>) -> impl IntoView {
    let (title, text, help) = match why {
        Some(Dead::Used) => (
            "This invitation has already been used",
            "If you used it, sign in with the same address.",
            help::INVITATION_DOESNT_WORK_USED,
        ),
        Some(_) => ("This invitation has expired", "Ask for a new one.", help::INVITATION_DOESNT_WORK_EXPIRED),
        None => (
            "This invitation doesn't work",
            "It may have been cut short when it was copied. Open it from the email, or ask for a new one.",
            help::INVITATION_DOESNT_WORK_BROKEN,
        ),
    };
    view! {
        <Flow title help=Some(help) lede=text>
            {(why == Some(Dead::Used)).then(|| view! {
                <div class="actions"><a class="button primary wide" href=routes::LOGIN>"Sign in"</a></div>
            })}
        </Flow>
    }
}

/// Shows who is invited. The link signs nobody in: the mail that the button sends does, and it goes to the invited address.
pub async fn get(State(state): State<AppState>, Query(TokenQuery { token }): Query<TokenQuery>, _: Visitor) -> Answer {
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

async fn find(state: &AppState, token: &str) -> Result<Result<(EmailAddress, Option<String>), Option<Dead>>, ServiceError> {
    let Some(token) = InviteToken::parse(token) else {
        return Ok(Err(None));
    };
    Ok(match state.auth.one_time().peek_invite(&token).await? {
        InviteState::Live { email, inviter } => Ok((email, inviter)),
        InviteState::Dead(why) => Err(Some(why)),
        InviteState::Unknown => Err(None),
    })
}

fn dead(why: Option<Dead>) -> Response {
    page(status_of(why), || view! { <DeadInvitePage why/> })
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
