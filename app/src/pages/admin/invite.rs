//! `/admin/users/invite`: asks somebody in.

use std::time::Duration;

use auth::{
    administration::InviteError,
    identity::Actor,
    policy::INVITE_TTL,
    primitives::email_address::{EmailAddress, EmailAddressError},
};

use crate::pages::{admin::not_done, prelude::*, sign_in::login::address_text};

/// Says in the list's URL that somebody was invited a moment ago.
pub(crate) const DONE: &str = "invited";

/// Why nobody was invited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    Format(EmailAddressError),
    HasAccount,
    /// An account moved from it, and may have it back.
    HeldBack,
    /// Nobody signs up here.
    Closed,
}

impl AddressError {
    const fn text(self) -> &'static str {
        match self {
            Self::Format(error) => address_text(error, "Enter an email address"),
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
    let days = format::count(lifetime.as_secs() / 86_400, "day");
    view! {
        <Admin
            title="Invite someone" email=who above=vec![("Users", routes::ADMIN_USERS.to_owned())] crumb="Invite someone" error=wrong
            help=Some(help::ADMIN_INVITE)
        >
            <Ask action=routes::ADMIN_USERS_INVITE button="Send invitation" narrow=true novalidate=true back=("Cancel", routes::ADMIN_USERS.to_owned())>
                <p>"We'll email them a link that lets them sign up. It works for "{days}"."</p>
                <EmailField value=email autocomplete="off" error=error.map(|error| error.text().to_owned())/>
            </Ask>
        </Admin>
    }
}

fn answer(status: StatusCode, who: String, email: String, error: Option<AddressError>) -> Response {
    page(status, || view! { <InviteSomeonePage who email error lifetime=INVITE_TTL/> })
}

/// Asks for the administrator's strongest factor first: an address that was typed would not survive it.
pub async fn get(State(state): State<AppState>, Administrator(_, authority): Administrator) -> Answer {
    require_fresh(&state, &authority, routes::ADMIN_USERS_INVITE)?;
    Ok(answer(StatusCode::OK, authority.email, String::new(), None))
}

/// Invites an address to sign up.
#[server(prefix = "", endpoint = "admin/users/invite", protocol = FormPost)]
pub async fn invite_someone(#[server(default)] email: String) -> Answer {
    let (form, Administrator(_, authority)) = Form::authorize(routes::ADMIN_USERS_INVITE).await?;
    let refused =
        |error| Refusal::from(answer(StatusCode::UNPROCESSABLE_ENTITY, authority.email.clone(), email.clone(), Some(error)));
    let address = EmailAddress::parse(&email).map_err(|error| refused(AddressError::Format(error)))?;
    match form.state.auth.administration().invite(Actor::Admin { authority: &authority, from: &form.from }, &address).await {
        Ok(_) => see_other(&format!("{}?done={DONE}", routes::ADMIN_USERS)),
        Err(InviteError::AccountExists) => Err(refused(AddressError::HasAccount)),
        Err(InviteError::HeldBack) => Err(refused(AddressError::HeldBack)),
        Err(InviteError::Closed) => Err(refused(AddressError::Closed)),
        Err(InviteError::Act(error)) => not_done(error, routes::ADMIN_USERS_INVITE),
        Err(InviteError::Unavailable(error)) => Err(error.into()),
    }
}
