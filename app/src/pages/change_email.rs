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
use axum::{
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
};
use http::StatusCode;
use leptos::prelude::*;

use crate::{
    components::{CodeField, EmailField, Settings},
    fault::Fault,
    form::{Form, FormError},
    gate::SignedIn,
    help, next,
    page::page,
    pages::{
        limited,
        login_sent::CodeError,
        reauth::{mailed_code_text, stepping},
    },
    routes,
    state::AppState,
    words,
};

/// What is wrong with the new address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewAddressError {
    Missing,
    Malformed,
    Same,
}

impl NewAddressError {
    fn text(self) -> String {
        match self {
            Self::Missing => "Enter your new email address",
            Self::Malformed => "Enter an email address, like name@example.org",
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
    /// A code went to `address`, whoever has it.
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
        EmailStage::Ask { typed, error } => view! { <Ask now=email.clone() typed error/> }.into_any(),
        EmailStage::Sent { address, error } => view! { <Sent address error/> }.into_any(),
    };
    view! { <Settings title="Change your email address" email crumb=Some("Email") error=wrong help=Some(help)>{content}</Settings> }
}

#[component]
fn Ask(now: String, typed: String, error: Option<NewAddressError>) -> impl IntoView {
    view! {
        <div class="panel">
            <form class="body" method="post" action=routes::EMAIL novalidate>
                <p>
                    "You sign in with "<span class="whole"><strong>{now}</strong>"."</span>
                    " We'll send a code to the new address. Once you've entered it, your account moves there."
                </p>
                <EmailField label="New email address" value=typed error=error.map(NewAddressError::text)/>
                <p class="hint">
                    "Your other sessions end then, and trusted browsers ask for a code again. The address you have now gets an email that can take the change back for "
                    {words::count(EMAIL_CHANGE_UNDO.as_secs() / 3_600, "hour")}"."
                </p>
                <div class="row-actions">
                    <button class="button primary">"Send code"</button>
                    <a class="button" href=routes::ACCOUNT>"Cancel"</a>
                </div>
            </form>
        </div>
    }
}

#[component]
fn Sent(address: String, error: Option<CodeError>) -> impl IntoView {
    view! {
        <div class="panel">
            <form class="body" method="post" action=routes::EMAIL_CODE novalidate>
                <p>"We've sent a code to "<span class="whole"><strong>{address}</strong>"."</span></p>
                <CodeField error=error.map(mailed_code_text)/>
                <div class="row-actions">
                    <button class="button primary">"Change address"</button>
                    <a class="button" href=routes::ACCOUNT>"Cancel"</a>
                </div>
            </form>
        </div>
        <section class="below">
            <h2>"Nothing in that inbox?"</h2>
            <p class="small">"It can take a minute or two. Only the newest code works."</p>
            <div class="row-actions">
                <form method="post" action=routes::EMAIL_RESEND>
                    <button class="button">"Send another code"</button>
                </form>
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

/// Whoever has not given the strongest factor lately does so first.
pub async fn get(
    State(state): State<AppState>,
    Query(EmailQuery { another }): Query<EmailQuery>,
    SignedIn(_, authority): SignedIn,
) -> Result<Response, Fault> {
    if !state.auth.sign_in().is_fresh(&authority) {
        return Ok(Redirect::to(&step_up()).into_response());
    }
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

fn step_up() -> String {
    next::carried(routes::REAUTH, routes::EMAIL)
}

fn answer(status: StatusCode, authority: Authority, stage: EmailStage) -> Response {
    page(status, || view! { <ChangeEmailPage email=authority.email stage/> })
}

/// Sends a code to a new address.
#[server(prefix = "", endpoint = "account/email")]
pub async fn request_address_change(#[server(default)] email: String) -> Result<(), FormError> {
    let form = Form::current()?;
    let SignedIn(_, authority) = form.admit(routes::EMAIL).await?;
    match email.parse() {
        Ok(address) => ask(&form, authority, &address).await,
        Err(error) => {
            let error = match error {
                EmailAddressError::Missing => NewAddressError::Missing,
                EmailAddressError::Malformed => NewAddressError::Malformed,
            };
            let stage = EmailStage::Ask { typed: email, error: Some(error) };
            form.refuse(answer(StatusCode::UNPROCESSABLE_ENTITY, authority, stage))
        }
    }
}

async fn ask(form: &Form, authority: Authority, address: &EmailAddress) -> Result<(), FormError> {
    match form.state.auth.self_service().request_address_change(&authority, address, &form.from).await {
        Ok(()) => form.see_other(routes::EMAIL),
        Err(RequestChangeError::NotFresh) => form.see_other(&step_up()),
        Err(RequestChangeError::Same) => {
            let stage = EmailStage::Ask { typed: address.as_str().to_owned(), error: Some(NewAddressError::Same) };
            form.refuse(answer(StatusCode::UNPROCESSABLE_ENTITY, authority, stage))
        }
        // The account's limit or the address's: one page, which tells nothing of the address.
        Err(RequestChangeError::Limited(limited)) => {
            let limited = throttle::Limited { limit: Limit::AddressChange, ..limited };
            form.refuse(limited::answer(limited, 0, ADDRESS_CODE_TTL))
        }
        Err(RequestChangeError::Unavailable(error)) => Err(form.fail(error.into())),
    }
}

/// Moves the account to the address whose code this is.
#[server(prefix = "", endpoint = "account/email/code")]
pub async fn confirm_address_change(#[server(default)] code: String) -> Result<(), FormError> {
    let form = Form::current()?;
    let SignedIn(visitor, authority) = form.admit(routes::EMAIL).await?;
    let Some((stepping, cookie)) = stepping(&form, &visitor, &authority) else { return form.see_other(routes::LOGIN) };
    let auth = &form.state.auth;
    let Some(change) = auth.self_service().address_change(&authority).await.map_err(|error| form.fail(error.into()))? else {
        return form.see_other(routes::EMAIL);
    };
    let refuse = |status, error| {
        let stage = EmailStage::Sent { address: change.email.as_str().to_owned(), error: Some(error) };
        form.refuse(answer(status, authority.clone(), stage))
    };
    let code = match Code::parse(&code) {
        Ok(code) => code,
        Err(format) => return refuse(StatusCode::UNPROCESSABLE_ENTITY, format.into()),
    };
    match auth.self_service().confirm_address_change(stepping, &code, visitor.proof(), &form.from).await {
        Ok(()) => {
            form.set_cookie(&cookie);
            form.see_other(routes::ACCOUNT)
        }
        Err(ConfirmChangeError::NotFresh) => form.see_other(&step_up()),
        Err(ConfirmChangeError::NothingSent) => form.see_other(routes::EMAIL),
        Err(ConfirmChangeError::Wrong { left }) => refuse(StatusCode::UNPROCESSABLE_ENTITY, CodeError::Wrong { left }),
        Err(ConfirmChangeError::LastTry) => refuse(StatusCode::GONE, CodeError::LastTry),
        Err(ConfirmChangeError::Expired) => refuse(StatusCode::GONE, CodeError::Expired),
        Err(ConfirmChangeError::SessionOver) => form.see_other(routes::LOGIN),
        Err(ConfirmChangeError::Limited(limited)) => form.refuse(limited::answer(limited, 0, ADDRESS_CODE_TTL)),
        Err(ConfirmChangeError::Unavailable(error)) => Err(form.fail(error.into())),
    }
}

/// Sends another code to the same address.
#[server(prefix = "", endpoint = "account/email/resend")]
pub async fn resend_address_code() -> Result<(), FormError> {
    let form = Form::current()?;
    let SignedIn(_, authority) = form.admit(routes::EMAIL).await?;
    let change = form.state.auth.self_service().address_change(&authority).await.map_err(|error| form.fail(error.into()))?;
    match change {
        Some(change) => ask(&form, authority, &change.email).await,
        None => form.see_other(routes::EMAIL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::render;

    fn html(stage: EmailStage) -> String {
        render(move || view! { <ChangeEmailPage email="mara@example.org".to_owned() stage/> })
    }

    fn ask(typed: &str, error: Option<NewAddressError>) -> String {
        html(EmailStage::Ask { typed: typed.to_owned(), error })
    }

    fn sent(error: Option<CodeError>) -> String {
        html(EmailStage::Sent { address: "<new>@example.org".to_owned(), error })
    }

    #[test]
    fn it_says_what_will_happen_and_asks_for_the_address() {
        let html = ask("", None);
        assert!(html.contains("<title>Change your email address – Latchkey</title>"));
        assert!(html.contains("You sign in with <span class=\"whole\"><strong>mara@example.org</strong>.</span>"));
        assert!(html.contains(r#"<label for="email">New email address</label>"#));
        assert!(html.contains("can take the change back for 72 hours."));
        assert!(html.contains(r#"<button class="button primary">Send code</button>"#));
        assert!(html.contains(r#"<a href="/account" class="button">Cancel</a>"#) && !html.contains("autofocus"));
    }

    #[test]
    fn every_wrong_address_says_why_and_is_kept() {
        for (typed, error, words) in [
            ("", NewAddressError::Missing, "Enter your new email address"),
            ("mara@x", NewAddressError::Malformed, "Enter an email address, like name@example.org"),
            ("mara@example.org", NewAddressError::Same, "That's the address you sign in with now. Enter another one."),
        ] {
            let html = ask(typed, Some(error));
            assert!(html.contains("<title>Error: Change your email address – Latchkey</title>"));
            assert!(html.contains(words) && html.contains(&format!(r#"value="{typed}""#)), "{words}");
            assert!(html.contains(r#"aria-describedby="email-error" aria-invalid="true" autofocus"#));
        }
    }

    #[test]
    fn the_second_page_says_where_the_code_went_and_has_two_ways_on() {
        let html = sent(None);
        assert!(html.contains("We've sent a code to <span class=\"whole\"><strong>&lt;new&gt;@example.org</strong>.</span>"));
        assert!(html.contains(r#"action="/account/email/code""#) && html.contains(r#"name="code""#));
        assert!(html.contains(r#"<form method="post" action="/account/email/resend"><button class="button">Send another code"#));
        assert!(html.contains(r#"href="/account/email?another=1" class="button ghost">Use another address"#));
        for (error, words) in [
            (CodeError::Wrong { left: 4 }, "That code isn't right. You have 4 tries left."),
            (CodeError::LastTry, "That code isn't right, and that was the last try. Send another code to get a new one."),
            (CodeError::Expired, "That code has expired. Send another code to get a new one."),
        ] {
            let html = sent(Some(error));
            assert!(html.contains(words) && html.contains("<title>Error: Change"), "{words}");
        }
    }
}
