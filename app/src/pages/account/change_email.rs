//! `/account/email`: another address. Asks for it, then for the code that was sent there.

use auth::{
    crypto::Code,
    identity::Authority,
    limits::throttle,
    one_time::revert_link::EMAIL_CHANGE_UNDO,
    policy::{ADDRESS_CODE_TTL, limits::Limit},
    primitives::email_address::{EmailAddress, EmailAddressError},
    self_service::address_change::{ConfirmChangeError, RequestChangeError},
};

use crate::pages::{
    account::reauth::{mailed_code_text, step_up_session},
    limited,
    prelude::*,
    sign_in::{login::address_text, login_sent::CodeError},
};

/// What is wrong with the new address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewAddressError {
    Format(EmailAddressError),
    Same,
}

impl NewAddressError {
    fn text(self) -> String {
        match self {
            Self::Format(error) => address_text(error, "Enter your new email address"),
            Self::Same => "That's the address you sign in with now. Enter another one.",
        }
        .to_owned()
    }
}

/// How far it has come.
#[derive(Clone, Debug)]
pub enum EmailStage {
    /// `typed` before.
    Ask { typed: String, error: Option<NewAddressError> },
    /// A code went to `address`. Nobody has proven yet that they read mail there.
    Sent { address: String, error: Option<CodeError> },
}

#[component]
pub fn ChangeEmailPage(email: String, stage: EmailStage) -> impl IntoView {
    let wrong = match &stage {
        EmailStage::Ask { error, .. } => error.is_some(),
        EmailStage::Sent { error, .. } => error.is_some(),
    };
    let help = match &stage {
        EmailStage::Ask { .. } => help::CHANGE_YOUR_EMAIL_ADDRESS,
        EmailStage::Sent { error: Some(_), .. } => help::CODE_NOT_ACCEPTED,
        EmailStage::Sent { error: None, .. } => help::NO_EMAIL,
    };
    let content = match stage {
        EmailStage::Ask { typed, error } => view! { <AskAddress now=email.clone() typed error/> }.into_any(),
        EmailStage::Sent { address, error } => view! { <Sent address error/> }.into_any(),
    };
    view! { <Settings title="Change your email address" email crumb=Some("Email") error=wrong help=Some(help)>{content}</Settings> }
}

#[component]
fn AskAddress(now: String, typed: String, error: Option<NewAddressError>) -> impl IntoView {
    view! {
        <Ask action=routes::EMAIL button="Send code" novalidate=true back=("Cancel", routes::ACCOUNT.to_owned())>
            <p>
                "You sign in with "<span class="whole"><strong>{now}</strong>"."</span>
                " We'll send a code to the new address. Once you've entered it, your account moves there."
            </p>
            <EmailField label="New email address" value=typed error=error.map(NewAddressError::text)/>
            <p class="hint">
                "Your other sessions end then, and trusted browsers ask for a code again. The address you have now gets an email that can take the change back for "
                {format::count(EMAIL_CHANGE_UNDO.as_secs() / 3_600, "hour")}"."
            </p>
        </Ask>
    }
}

#[component]
fn Sent(address: String, error: Option<CodeError>) -> impl IntoView {
    view! {
        <Ask action=routes::EMAIL_CODE button="Change address" novalidate=true back=("Cancel", routes::ACCOUNT.to_owned())>
            <p>"We've sent a code to "<span class="whole"><strong>{address}</strong>"."</span></p>
            <CodeField error=error.map(mailed_code_text)/>
        </Ask>
        <section class="below">
            <h2>"Nothing in that inbox?"</h2>
            <p class="small">"It can take a minute or two. Only the newest code works."</p>
            <div class="row-actions">
                <PostButton action=routes::EMAIL_RESEND class="button" text="Send another code"/>
                <a class="button ghost" href=routes::EMAIL_ANOTHER>"Use another address"</a>
            </div>
        </section>
    }
}

#[derive(serde::Deserialize)]
pub struct EmailQuery {
    /// Asks for an address, also where a code is on its way to one.
    another: Option<String>,
}

/// Asks for the account's strongest factor first, unless it was given lately.
pub async fn get(
    State(state): State<AppState>,
    Query(EmailQuery { another }): Query<EmailQuery>,
    SignedIn(_, authority): SignedIn,
) -> Answer {
    require_fresh(&state, &authority, routes::EMAIL)?;
    let sent = match another {
        Some(_) => None,
        None => state.auth.self_service().address_change(&authority).await?.filter(|change| change.live),
    };
    let shown = match sent {
        Some(change) => EmailStage::Sent { address: change.email.as_str().to_owned(), error: None },
        None => EmailStage::Ask { typed: String::new(), error: None },
    };
    Ok(answer(StatusCode::OK, authority, shown))
}

fn answer(status: StatusCode, authority: Authority, stage: EmailStage) -> Response {
    page(status, || view! { <ChangeEmailPage email=authority.email stage/> })
}

/// Sends a code to a new address.
#[server(prefix = "", endpoint = "account/email", protocol = FormPost)]
pub async fn request_address_change(#[server(default)] email: String) -> Answer {
    let (form, SignedIn(_, authority)) = Form::authorize(routes::EMAIL).await?;
    match email.parse() {
        Ok(address) => ask(&form, authority, &address).await,
        Err(error) => {
            let stage = EmailStage::Ask { typed: email, error: Some(NewAddressError::Format(error)) };
            Err(answer(StatusCode::UNPROCESSABLE_ENTITY, authority, stage).into())
        }
    }
}

async fn ask(form: &Form, authority: Authority, address: &EmailAddress) -> Answer {
    match form.state.auth.self_service().request_address_change(&authority, address, &form.from).await {
        Ok(()) => see_other(routes::EMAIL),
        Err(RequestChangeError::NotFresh) => see_other(&return_to::step_up(routes::EMAIL)),
        Err(RequestChangeError::Same) => {
            let stage = EmailStage::Ask { typed: address.as_str().to_owned(), error: Some(NewAddressError::Same) };
            Err(answer(StatusCode::UNPROCESSABLE_ENTITY, authority, stage).into())
        }
        // The account's limit or the address's: one page, which tells nothing of the address.
        Err(RequestChangeError::Limited(limited)) => {
            let limited = throttle::Limited { limit: Limit::AddressChange, ..limited };
            Err(limited::answer(limited, 0, ADDRESS_CODE_TTL).into())
        }
        Err(RequestChangeError::Unavailable(error)) => Err(error.into()),
    }
}

/// Moves the account to the address whose code this is.
#[server(prefix = "", endpoint = "account/email/code", protocol = FormPost)]
pub async fn confirm_address_change(#[server(default)] code: String) -> Answer {
    let (form, SignedIn(browser, authority)) = Form::authorize(routes::EMAIL).await?;
    let (step_up_session, cookie) = step_up_session(&form, &browser, &authority)?;
    let auth = &form.state.auth;
    let Some(change) = auth.self_service().address_change(&authority).await? else {
        return see_other(routes::EMAIL);
    };
    let refused = |error: CodeError| {
        let stage = EmailStage::Sent { address: change.email.as_str().to_owned(), error: Some(error) };
        Refusal::from(answer(error.status(), authority.clone(), stage))
    };
    let code = Code::parse(&code).map_err(|format| refused(CodeError::Format(format)))?;
    match auth.self_service().confirm_address_change(step_up_session, &code, browser.proof(), &form.from).await {
        Ok(()) => {
            form.set_cookie(&cookie);
            see_other(routes::ACCOUNT)
        }
        Err(ConfirmChangeError::NotFresh) => see_other(&return_to::step_up(routes::EMAIL)),
        Err(ConfirmChangeError::Code(error)) => match CodeError::of_mailed(&error, ADDRESS_CODE_TTL)? {
            Some(error) => Err(refused(error)),
            None => see_other(routes::EMAIL),
        },
        Err(ConfirmChangeError::SessionOver) => see_other(routes::LOGIN),
        Err(ConfirmChangeError::Unavailable(error)) => Err(error.into()),
    }
}

/// Sends another code to the same address.
#[server(prefix = "", endpoint = "account/email/resend", protocol = FormPost)]
pub async fn resend_address_code() -> Answer {
    let (form, SignedIn(_, authority)) = Form::authorize(routes::EMAIL).await?;
    let change = form.state.auth.self_service().address_change(&authority).await?;
    match change {
        Some(change) => ask(&form, authority, &change.email).await,
        None => see_other(routes::EMAIL),
    }
}
