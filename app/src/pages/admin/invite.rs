//! `/admin/users/invite`: asks somebody in.

use std::time::Duration;

use auth::{
    administration::InviteError,
    identity::Actor,
    policy::{INVITE_TTL, SignUp},
    primitives::{
        email_address::{EmailAddress, EmailAddressError},
        reason::Reason,
    },
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
    /// Sign-up doesn't take it, and no reason was given.
    NotAdmitted,
}

impl AddressError {
    fn text(self) -> String {
        let text = match self {
            Self::Format(error) => return address_text(error, "Enter an email address"),
            Self::HasAccount => "There's already an account with this address",
            Self::HeldBack => "An account left this address less than 3 days ago and may have it back. Try again then",
            Self::Closed => "Nobody can sign up here, invited or not. Whoever runs this service can change that (SIGNUP)",
            Self::NotAdmitted => "Sign-up here doesn't take this address. To invite it all the same, give a reason",
        };
        text.to_owned()
    }
}

/// `who`: the administrator's own address. `email` and `reason` are what was typed before, `lifetime` how long an invitation works;
/// without a `reason` none is asked for: sign-up takes every address that is invited.
#[component]
pub fn InviteSomeonePage(
    who: String,
    email: String,
    reason: Option<String>,
    error: Option<AddressError>,
    lifetime: Duration,
) -> impl IntoView {
    let wrong = error.is_some();
    let days = format::count(lifetime.as_secs() / 86_400, "day");
    view! {
        <Admin
            title="Invite someone" email=who above=vec![("Users", routes::ADMIN_USERS.to_owned())] crumb="Invite someone" error=wrong
            help=Some(help::ADMIN_INVITE)
        >
            <Ask action=routes::ADMIN_USERS_INVITE button="Send invitation" narrow=true novalidate=true back=("Cancel", routes::ADMIN_USERS.to_owned())>
                <p>"We'll email them a link that lets them sign up. It works for "{days}"."</p>
                <EmailField value=email autocomplete="off" error=error.map(AddressError::text)/>
                {reason.map(|value| view! {
                    <TextField
                        id="reason" label="Reason, for an address that sign-up doesn't take" hint="Kept in the audit log." value
                        maxlength=Reason::MOST error=None
                    />
                })}
            </Ask>
        </Admin>
    }
}

fn answer(
    state: &AppState,
    status: StatusCode,
    who: String,
    (email, reason): (String, String),
    error: Option<AddressError>,
) -> Response {
    let reason = matches!(state.auth.policy().sign_up, SignUp::Domains(_)).then_some(reason);
    page(status, || view! { <InviteSomeonePage who email reason error lifetime=INVITE_TTL/> })
}

/// Asks for the administrator's strongest factor first: an address that was typed would not survive it.
pub async fn get(State(state): State<AppState>, Administrator(_, authority): Administrator) -> Answer {
    require_fresh(&state, &authority, routes::ADMIN_USERS_INVITE)?;
    Ok(answer(&state, StatusCode::OK, authority.email, (String::new(), String::new()), None))
}

/// Invites an address to sign up.
#[server(prefix = "", endpoint = "admin/users/invite", protocol = FormPost)]
pub async fn invite_someone(#[server(default)] email: String, #[server(default)] reason: String) -> Answer {
    let (form, Administrator(_, authority)) = Form::authorize(routes::ADMIN_USERS_INVITE).await?;
    let refused = |error| {
        let typed = (email.clone(), reason.clone());
        Refusal::from(answer(&form.state, StatusCode::UNPROCESSABLE_ENTITY, authority.email.clone(), typed, Some(error)))
    };
    let address = EmailAddress::parse(&email).map_err(|error| refused(AddressError::Format(error)))?;
    // Where sign-up is closed the page says so: this button is for who is to get a mail.
    let admits_some = form.state.auth.policy().sign_up != SignUp::Closed;
    let why = reason.parse::<Reason>().ok().filter(|_| admits_some);
    let who = Actor::Admin { authority: &authority, from: &form.from };
    match form.state.auth.administration().invite(who, &address, why.as_ref()).await {
        Ok(_) => see_other(&format!("{}?done={DONE}", routes::ADMIN_USERS)),
        Err(InviteError::AccountExists) => Err(refused(AddressError::HasAccount)),
        Err(InviteError::HeldBack) => Err(refused(AddressError::HeldBack)),
        Err(InviteError::NotAdmitted) => Err(refused(AddressError::NotAdmitted)),
        Err(InviteError::Route) => Err(refused(AddressError::Format(EmailAddressError::Route))),
        Err(InviteError::Closed) => Err(refused(AddressError::Closed)),
        Err(InviteError::Act(error)) => not_done(error, routes::ADMIN_USERS_INVITE),
        Err(InviteError::Unavailable(error)) => Err(error.into()),
    }
}
