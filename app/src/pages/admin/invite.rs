//! `/admin/users/invite`: asks somebody in.

use std::time::Duration;

use auth::{
    administration::InviteError,
    identity::{ActionError, Actor},
    policy::INVITE_TTL,
    primitives::email_address::{EmailAddress, EmailAddressError},
};
use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use http::StatusCode;
use leptos::prelude::*;

use crate::{
    components::{Admin, EmailField},
    form::{Form, FormError},
    gate::{Administrator, Barred},
    help, next,
    page::page,
    routes,
    state::AppState,
    words,
};

/// Says in the list's URL that somebody was invited a moment ago.
pub(crate) const DONE: &str = "invited";

/// Why nobody was invited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    Missing,
    Malformed,
    HasAccount,
    /// An account moved from it, and may have it back.
    HeldBack,
    /// Nobody signs up here.
    Closed,
}

impl AddressError {
    const fn text(self) -> &'static str {
        match self {
            Self::Missing => "Enter an email address",
            Self::Malformed => "Enter an email address, like name@example.org",
            Self::HasAccount => "There's already an account with this address",
            Self::HeldBack => "An account left this address less than 3 days ago and may have it back. Try again then",
            Self::Closed => "Nobody can sign up here, invited or not. Whoever runs this service can change that (SIGNUP)",
        }
    }
}

/// `who`: the administrator's own address. `email` is what was typed before, `lifetime` how long an invitation works.
#[component]
pub fn InviteSomeonePage(who: String, email: String, error: Option<AddressError>, lifetime: Duration) -> impl IntoView {
    let wrong = error.is_some();
    let days = words::count(lifetime.as_secs() / 86_400, "day");
    view! {
        <Admin
            title="Invite someone" email=who above=vec![("Users", routes::ADMIN_USERS.to_owned())] crumb="Invite someone" error=wrong
            help=Some(help::ADMIN_INVITE)
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

fn answer(status: StatusCode, who: String, email: String, error: Option<AddressError>) -> Response {
    page(status, || view! { <InviteSomeonePage who email error lifetime=INVITE_TTL/> })
}

/// Asks for the administrator's strongest factor first: an address that was typed would not survive it.
pub async fn get(State(state): State<AppState>, Administrator(_, authority): Administrator) -> Response {
    if !state.auth.sign_in().is_fresh(&authority) {
        return Redirect::to(&next::carried(routes::REAUTH, routes::ADMIN_USERS_INVITE)).into_response();
    }
    answer(StatusCode::OK, authority.email, String::new(), None)
}

/// Invites an address to sign up.
#[server(prefix = "", endpoint = "admin/users/invite")]
pub async fn invite_someone(#[server(default)] email: String) -> Result<(), FormError> {
    let form = Form::current()?;
    let Administrator(_, authority) = form.admit(routes::ADMIN_USERS_INVITE).await?;
    let who = authority.email.clone();
    let refuse = |error| form.refuse(answer(StatusCode::UNPROCESSABLE_ENTITY, who, email.clone(), Some(error)));
    let address = match EmailAddress::parse(&email) {
        Ok(address) => address,
        Err(EmailAddressError::Missing) => return refuse(AddressError::Missing),
        Err(EmailAddressError::Malformed) => return refuse(AddressError::Malformed),
    };
    match form.state.auth.administration().invite(Actor::Admin { authority: &authority, from: &form.from }, &address).await {
        Ok(_) => form.see_other(&format!("{}?done={DONE}", routes::ADMIN_USERS)),
        Err(InviteError::AccountExists) => refuse(AddressError::HasAccount),
        Err(InviteError::HeldBack) => refuse(AddressError::HeldBack),
        Err(InviteError::Closed) => refuse(AddressError::Closed),
        Err(InviteError::Act(ActionError::NotFresh)) => form.see_other(&next::carried(routes::REAUTH, routes::ADMIN_USERS_INVITE)),
        Err(InviteError::Act(ActionError::Unavailable(error)) | InviteError::Unavailable(error)) => Err(form.fail(error.into())),
        // Of what can be in the way of a change, only this is in the way of an invitation.
        Err(InviteError::Act(_)) => form.refuse(Barred::NoSuchPage.into_response()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::render;

    fn html(email: &str, error: Option<AddressError>) -> String {
        let (email, lifetime) = (email.to_owned(), INVITE_TTL);
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
            (AddressError::Missing, "Enter an email address"),
            (AddressError::Malformed, "Enter an email address, like name@example.org"),
            (AddressError::HasAccount, "There's already an account with this address"),
            (AddressError::HeldBack, "may have it back"),
            (AddressError::Closed, "Nobody can sign up here, invited or not."),
        ] {
            let html = html("\"><script>", Some(error));
            assert!(html.contains("<title>Error: Invite someone – Latchkey admin</title>") && html.contains(words), "{words}");
            assert!(html.contains(r#"value="&quot;&gt;&lt;script&gt;""#) && !html.contains("<script"));
        }
    }
}
