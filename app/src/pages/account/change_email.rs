//! `/account/email`: another address. Asks for it, then for the code that was sent there.

use auth::{
    crypto::Code,
    identity::Authority,
    limits::throttle,
    one_time::revert_link::EMAIL_CHANGE_UNDO,
    policy::{ADDRESS_CODE_TTL, SignUp, limits::Limit},
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
            Self::Same => "That's the address you sign in with now. Enter another one.".to_owned(),
        }
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

/// Which addresses an account may move to, in words; none where it may move to any.
fn taken(sign_up: &SignUp) -> Option<String> {
    match sign_up {
        SignUp::Open => None,
        SignUp::Domains(domains) => Some(format!(
            "Accounts here have an address at {}. An administrator can allow another one: ask them to invite it first.",
            domains.join(" or ")
        )),
        SignUp::Invite | SignUp::Closed => {
            Some("An administrator has to allow the new address: ask them to invite it first.".to_owned())
        }
    }
}

/// What to expect where sign-up doesn't take the new address by itself. Whether it was invited is not told here.
fn conditional(sign_up: &SignUp, address: &str) -> Option<String> {
    let by_itself = EmailAddress::lookup(address).is_ok_and(|address| sign_up.admits_move(&address, false));
    taken(sign_up).filter(|_| !by_itself).map(|rule| format!("{rule} If nobody has allowed this one, no code comes."))
}

/// `sign_up`: who may have an account, and so with which addresses.
#[component]
pub fn ChangeEmailPage(email: String, sign_up: SignUp, stage: EmailStage) -> impl IntoView {
    let (wrong, help, content) = match stage {
        EmailStage::Ask { typed, error } => {
            let (wrong, rule) = (error.is_some(), taken(&sign_up));
            let content = view! { <AskAddress now=email.clone() rule typed error/> }.into_any();
            (wrong, help::CHANGE_YOUR_EMAIL_ADDRESS, content)
        }
        EmailStage::Sent { address, error } => {
            let rule = conditional(&sign_up, &address);
            let help = match (&error, &rule) {
                (Some(_), _) => help::CODE_NOT_ACCEPTED,
                (None, Some(_)) => help::CHANGE_YOUR_EMAIL_ADDRESS_NO_CODE,
                (None, None) => help::NO_EMAIL,
            };
            (error.is_some(), help, view! { <Sent address rule error/> }.into_any())
        }
    };
    view! { <Settings title="Change your email address" email crumb=Some("Email") error=wrong help=Some(help)>{content}</Settings> }
}

#[component]
fn AskAddress(now: String, rule: Option<String>, typed: String, error: Option<NewAddressError>) -> impl IntoView {
    view! {
        <Ask action=routes::EMAIL button="Send code" novalidate=true back=("Cancel", routes::ACCOUNT.to_owned())>
            <p>
                "You sign in with "<span class="whole"><strong>{now}</strong>"."</span>
                " We'll send a code to the new address. Once you've entered it, your account moves there."
            </p>
            {rule.map(|rule| view! { <p>{rule}</p> })}
            <EmailField label="New email address" value=typed error=error.map(NewAddressError::text)/>
            <p class="hint">
                "Your other sessions end then, and trusted browsers ask for a code again. The address you have now gets an email that can take the change back for "
                {format::count(EMAIL_CHANGE_UNDO.as_secs() / 3_600, "hour")}"."
            </p>
        </Ask>
    }
}

#[component]
fn Sent(address: String, rule: Option<String>, error: Option<CodeError>) -> impl IntoView {
    view! {
        <Ask action=routes::EMAIL_CODE button="Change address" novalidate=true back=("Cancel", routes::ACCOUNT.to_owned())>
            <p>
                {if rule.is_some() { "If it's allowed, we've sent a code to " } else { "We've sent a code to " }}
                <span class="whole"><strong>{address}</strong>"."</span>
            </p>
            {rule.map(|rule| view! { <p>{rule}</p> })}
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
    let sent = state.auth.self_service().address_change(&authority).await?.filter(|change| change.live);
    let address = sent.map(|change| change.email.as_str().to_owned());
    let shown = match (address, another) {
        (Some(address), None) => EmailStage::Sent { address, error: None },
        // What was typed, to be corrected.
        (address, _) => EmailStage::Ask { typed: address.unwrap_or_default(), error: None },
    };
    Ok(answer(&state, StatusCode::OK, authority, shown))
}

fn answer(state: &AppState, status: StatusCode, authority: Authority, shown: EmailStage) -> Response {
    let sign_up = state.auth.policy().sign_up.clone();
    page(status, || view! { <ChangeEmailPage email=authority.email sign_up stage=shown/> })
}

/// Sends a code to a new address.
#[server(prefix = "", endpoint = "account/email", protocol = FormPost)]
pub async fn request_address_change(#[server(default)] email: String) -> Answer {
    let (form, SignedIn(_, authority)) = Form::authorize(routes::EMAIL).await?;
    match email.parse() {
        Ok(address) => ask(&form, authority, &address).await,
        Err(error) => {
            let stage = EmailStage::Ask { typed: email, error: Some(NewAddressError::Format(error)) };
            Err(answer(&form.state, StatusCode::UNPROCESSABLE_ENTITY, authority, stage).into())
        }
    }
}

async fn ask(form: &Form, authority: Authority, address: &EmailAddress) -> Answer {
    match form.state.auth.self_service().request_address_change(&authority, address, &form.from).await {
        Ok(()) => see_other(routes::EMAIL),
        Err(RequestChangeError::NotFresh) => see_other(&return_to::step_up(routes::EMAIL)),
        Err(RequestChangeError::Same) => {
            let stage = EmailStage::Ask { typed: address.as_str().to_owned(), error: Some(NewAddressError::Same) };
            Err(answer(&form.state, StatusCode::UNPROCESSABLE_ENTITY, authority, stage).into())
        }
        // The account's limit or the address's: one page, which tells nothing of the address.
        Err(RequestChangeError::Limited(limited)) => {
            let limited = throttle::Limited { limit: Limit::AddressChange, ..limited };
            Err(limited::answer(limited, ADDRESS_CODE_TTL).into())
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
        Refusal::from(answer(&form.state, error.status(), authority.clone(), stage))
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
