//! `/login/sent`: asks for the code.

use std::time::Duration;

use auth::{
    crypto::{Code, CodeFormat},
    one_time::{Dead, magic_link::LinkState, mailed_code::MailedCodeError},
    outbox::Delivery,
    primitives::{email_address::EmailAddress, requester::Requester},
    sign_in::first_factor::EnterCodeError,
};

use axum::Extension;

use crate::pages::{
    limited,
    prelude::*,
    sign_in::{
        confirm_link,
        login::{self, Asked},
        login_continue, unavailable,
    },
};

/// Where the mail went: in full only in the browser that typed it.
#[derive(Clone, Debug)]
pub enum Address {
    Typed(String),
    Masked(MaskedAddress),
}

/// What came of asking for another mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentNotice {
    SentAnother,
    Wait { seconds: u64 },
}

/// What is wrong with the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeError {
    Format(CodeFormat),
    Wrong { left: u32 },
    LastTry,
    Expired,
}

/// Why what was typed is no code of six digits.
pub(crate) fn format_text(format: CodeFormat) -> String {
    match format {
        CodeFormat::Missing => "Enter the 6-digit code".to_owned(),
        CodeFormat::WrongLength(n) => format!("The code has 6 digits. You entered {n}."),
    }
}

impl CodeError {
    pub(crate) fn text(self) -> String {
        match self {
            Self::Format(format) => format_text(format),
            Self::Wrong { left } => format!("That code isn't right. {}", format::tries_left(left)),
            Self::LastTry => "That code isn't right, and that was the last try. Send another email to get a new one.".to_owned(),
            Self::Expired => "That code has expired. Send another email to get a new one.".to_owned(),
        }
    }

    /// What the field says of a mailed code that was not taken; `None` where none was sent. A limit has a page of its own.
    pub(crate) fn of_mailed(error: &MailedCodeError, ttl: Duration) -> Result<Option<Self>, Refusal> {
        match *error {
            MailedCodeError::NothingSent => Ok(None),
            MailedCodeError::Wrong { left } => Ok(Some(Self::Wrong { left })),
            MailedCodeError::LastTry => Ok(Some(Self::LastTry)),
            MailedCodeError::Expired => Ok(Some(Self::Expired)),
            MailedCodeError::Limited(limited) => Err(limited::answer(limited, ttl).into()),
        }
    }

    /// A dead code is gone; any other can be entered again.
    pub(crate) const fn status(self) -> StatusCode {
        match self {
            Self::LastTry | Self::Expired => StatusCode::GONE,
            Self::Format(_) | Self::Wrong { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }
}

/// `sender` is the address our mails come from. `codes_off`: only the link works in this browser.
#[component]
pub fn LoginSentPage(
    address: Address,
    sender: String,
    delivery: Delivery,
    notice: Option<SentNotice>,
    error: Option<CodeError>,
    codes_off: bool,
) -> impl IntoView {
    let address = match address {
        Address::Typed(address) => view! { <strong>{address}</strong> }.into_any(),
        Address::Masked(address) => view! { <Masked address/> }.into_any(),
    };
    let wait = match notice {
        Some(SentNotice::Wait { seconds }) => Some(format::within(Duration::from_secs(seconds))),
        _ => None,
    };
    let help = match error {
        _ if codes_off => help::CODE_NOT_ACCEPTED_OFF,
        Some(CodeError::Format(_)) | None => match delivery {
            Delivery::OnTime => help::NO_EMAIL,
            Delivery::Late { .. } => help::NO_EMAIL_LATE,
            Delivery::Refused => help::NO_EMAIL_REFUSED,
        },
        Some(CodeError::Wrong { .. } | CodeError::LastTry | CodeError::Expired) => help::CODE_NOT_ACCEPTED,
    };
    let late = matches!(delivery, Delivery::Late { .. });
    let sent = match delivery {
        Delivery::OnTime => "We've sent",
        Delivery::Late { .. } => "We're sending",
        Delivery::Refused => "We tried to send",
    };
    view! {
        <Flow title="Check your email" error=error.is_some() help=Some(help)>
            {match delivery {
                Delivery::OnTime => ().into_any(),
                Delivery::Late { within } => view! {
                    <Notice tone=Tone::Warn title="Emails are running late">
                        "Yours is waiting to be sent. It may take up to "{format::count(format::minutes_up(within), "minute")}
                        " to arrive. The email says how long it works; if it comes too late, send another."
                    </Notice>
                }
                .into_any(),
                Delivery::Refused => view! {
                    <Notice tone=Tone::Danger title="We couldn't deliver the email">
                        "The mail server didn't take it. Check the address for a typing mistake, then send another."
                    </Notice>
                }
                .into_any(),
            }}
            {(notice == Some(SentNotice::SentAnother)).then(|| view! {
                <Notice tone=Tone::Ok title=if late { "We're sending another email." } else { "We've sent another email." }>
                    "Only the newest one works."
                </Notice>
            })}
            <p class="lede">{sent}{if codes_off { " a link to " } else { " a link and a code to " }}<span class="whole">{address}"."</span></p>
            {if codes_off {
                view! {
                    <Notice tone=Tone::Warn title="Codes are off for this address until you use the link in the email.">
                        "Open the link in the email on this device. Once you've used it, codes work again."
                    </Notice>
                }
                .into_any()
            } else {
                view! {
                    <form method="post" action=routes::LOGIN_SENT novalidate>
                        <CodeField hint="Or open the link in the email on this device." error=error.map(CodeError::text)/>
                        <button class="button primary wide">"Sign in"</button>
                    </form>
                }
                .into_any()
            }}
            <hr/>
            <h2 class="h3">"Nothing in your inbox?"</h2>
            <p class="small">{match &wait {
                Some(wait) => view! {
                    "You can send another email "{wait.clone()}". The newest email is the only one that works."
                }.into_any(),
                None => view! {
                    {(!late).then_some("It can take a minute or two. ")}"Check your spam folder for a message from "
                    <span class="whole"><strong>{sender}</strong>"."</span>
                }.into_any(),
            }}</p>
            <div class="row-actions">
                // Still a submit button: the page does not count down, and once the wait is over pressing it must work.
                <form method="post" action=routes::LOGIN_SENT_RESEND>
                    <button class="button" aria-disabled=wait.is_some().then_some("true")>"Send another email"</button>
                </form>
                <a class="button ghost" href=routes::LOGIN>"Change email"</a>
            </div>
        </Flow>
    }
}

#[derive(serde::Deserialize)]
pub struct SentQuery {
    /// Set by our own redirect after another mail was sent. It says nothing that a page may not say to anybody.
    again: Option<String>,
}

/// Nobody who has asked for nothing has anything to do here.
pub async fn get(
    State(state): State<AppState>,
    Query(SentQuery { again }): Query<SentQuery>,
    Extension(from): Extension<Requester>,
    Visitor(browser): Visitor,
) -> Answer {
    let notice = again.is_some().then_some(SentNotice::SentAnother);
    let delivery = delivery(&state, &browser).await?;
    let Some(asked) = browser.visit.asked.clone() else { return see_other(routes::LOGIN) };
    let codes_off = codes_off(&state, &browser, &asked, &from).await?;
    Ok(answer(&state, StatusCode::OK, asked, delivery, notice, None, codes_off))
}

async fn codes_off(
    state: &AppState,
    browser: &BrowserSession,
    asked: &session::AskedFor,
    from: &Requester,
) -> Result<bool, auth::Error> {
    match EmailAddress::lookup(&asked.email) {
        Ok(address) => state.auth.sign_in().codes_are_off(&address, browser.proof(), from).await,
        Err(_) => Ok(false),
    }
}

async fn delivery(state: &AppState, browser: &BrowserSession) -> Result<Delivery, auth::Error> {
    match browser.proof().nonce {
        Some(nonce) => state.auth.sign_in().delivery(nonce).await,
        None => Ok(Delivery::OnTime),
    }
}

fn answer(
    state: &AppState,
    status: StatusCode,
    asked: session::AskedFor,
    delivery: Delivery,
    notice: Option<SentNotice>,
    error: Option<CodeError>,
    codes_off: bool,
) -> Response {
    let address = if asked.typed { Address::Typed(asked.email) } else { Address::Masked(asked.email.as_str().into()) };
    let sender = state.site.sender.clone();
    page(status, || view! { <LoginSentPage address sender delivery notice error codes_off/> })
}

/// Signs in with the code of this browser's newest mail.
#[server(prefix = "", endpoint = "login/sent", protocol = FormPost)]
pub async fn enter_code(#[server(default)] code: String) -> Answer {
    let (form, Visitor(browser)) = Form::authorize(routes::LOGIN_SENT).await?;
    let Some(asked) = browser.visit.asked.clone() else {
        return see_other(routes::LOGIN);
    };
    // A person who has a code has the mail.
    let refused = |error: CodeError| {
        Refusal::from(answer(&form.state, error.status(), asked.clone(), Delivery::OnTime, None, Some(error), false))
    };
    let code = Code::parse(&code).map_err(|format| refused(CodeError::Format(format)))?;
    let (change, cookie) = browser.session_change(&form.state.sessions);
    match form.state.auth.sign_in().enter_code(&code, browser.proof(), &change, &form.from).await {
        Ok(outcome) => login_continue::signed_in(&form, &browser, outcome, &change, &cookie).await,
        Err(EnterCodeError::Off) => Err(unavailable::answer(&form.state.site, StatusCode::FORBIDDEN).into()),
        Err(EnterCodeError::NothingAsked) => see_other(routes::LOGIN),
        Err(EnterCodeError::Wrong { left }) => Err(refused(CodeError::Wrong { left })),
        Err(EnterCodeError::LastTry) => Err(refused(CodeError::LastTry)),
        Err(EnterCodeError::Dead(LinkState::Dead(Dead::Expired, _))) => Err(refused(CodeError::Expired)),
        Err(EnterCodeError::Dead(state)) => Err(confirm_link::answer(&form.state, state, &browser).into()),
        Err(EnterCodeError::CodesOff) => {
            Err(answer(&form.state, StatusCode::FORBIDDEN, asked, Delivery::OnTime, None, None, true).into())
        }
        Err(EnterCodeError::Limited(limited)) => Err(limited::answer(limited, form.state.auth.policy().link_ttl).into()),
        Err(EnterCodeError::Unavailable(error)) => Err(error.into()),
    }
}

/// Sends another mail to the same address.
#[server(prefix = "", endpoint = "login/sent/resend", protocol = FormPost)]
pub async fn resend_email() -> Answer {
    let (form, Visitor(browser)) = Form::authorize(routes::LOGIN_SENT).await?;
    let Some(asked) = browser.visit.asked.clone() else {
        return see_other(routes::LOGIN);
    };
    let Ok(address) = EmailAddress::lookup(&asked.email) else {
        return see_other(routes::LOGIN);
    };
    match login::ask_for(&form, &browser, &address, asked.typed, browser.visit.next.clone()).await? {
        Asked::Taken => see_other(routes::LOGIN_SENT_AGAIN),
        Asked::TooSoon(wait) => {
            let notice = SentNotice::Wait { seconds: format::seconds_up(wait) };
            let delivery = delivery(&form.state, &browser).await?;
            let codes_off = codes_off(&form.state, &browser, &asked, &form.from).await?;
            let page = answer(&form.state, StatusCode::TOO_MANY_REQUESTS, asked, delivery, Some(notice), None, codes_off);
            Err(limited::retry_after(page, wait).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::render::render;

    fn html(address: Address, delivery: Delivery, notice: Option<SentNotice>) -> String {
        let (sender, error) = ("sign-in@latchkey.example".to_owned(), None);
        render(|| view! { <LoginSentPage address sender delivery notice error codes_off=false/> })
    }

    #[test]
    fn an_address_is_text() {
        let html = html(Address::Typed("<i>@example.org".to_owned()), Delivery::OnTime, None);
        assert!(html.contains("&lt;i&gt;@example.org") && !html.contains("<i>"));
    }

    #[test]
    fn what_waits_is_not_said_to_be_sent() {
        let typed = || Address::Typed("mara@example.org".to_owned());
        let late = Delivery::Late { within: Duration::from_secs(431) };
        for notice in [None, Some(SentNotice::SentAnother)] {
            let html = html(typed(), late, notice);
            assert!(html.contains("Yours is waiting to be sent. It may take up to 8 minutes to arrive."), "{html}");
            assert!(html.contains("We're sending a link and a code to") && !html.contains("We've sent"), "{html}");
            assert!(!html.contains("a minute or two"), "{html}");
        }
        assert!(html(typed(), Delivery::OnTime, None).contains("We've sent a link and a code to"));
    }
}
