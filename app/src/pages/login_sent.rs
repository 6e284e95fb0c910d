//! `/login/sent`: asks for the code.

use std::time::Duration;

use auth::{
    crypto::{Code, CodeFormat},
    one_time::magic_link::LinkState,
    outbox::{Delivery, LONGEST_WAIT},
    sign_in::first_factor::{EnterCodeError, Outcome, SessionChange},
};
use axum::{
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
};
use cookie::Cookie;
use http::StatusCode;
use leptos::prelude::*;

use crate::{
    components::{CodeField, Flow, Masked, Notice, Tone},
    fault::Fault,
    form::{Form, FormError},
    gate::Passerby,
    help,
    page::page,
    pages::{
        confirm_link, limited,
        login::{self, Asked},
        login_continue, unavailable,
    },
    routes,
    session::{self, AskedFor, Visitor},
    state::AppState,
    words::{self, MaskedAddress},
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
    Missing,
    /// It has this many digits.
    WrongLength(usize),
    Wrong {
        left: u32,
    },
    LastTry,
    Expired,
}

impl CodeError {
    pub(crate) fn text(self) -> String {
        match self {
            Self::Missing => "Enter the 6-digit code".to_owned(),
            Self::WrongLength(n) => format!("The code has 6 digits. You entered {n}."),
            Self::Wrong { left } => format!("That code isn't right. {}", words::tries_left(left)),
            Self::LastTry => "That code isn't right, and that was the last try. Send another email to get a new one.".to_owned(),
            Self::Expired => "That code has expired. Send another email to get a new one.".to_owned(),
        }
    }
}

impl From<CodeFormat> for CodeError {
    fn from(format: CodeFormat) -> Self {
        match format {
            CodeFormat::Missing => Self::Missing,
            CodeFormat::WrongLength(n) => Self::WrongLength(n),
        }
    }
}

/// `sender` is the address our mails come from.
#[component]
pub fn LoginSentPage(
    address: Address,
    sender: String,
    delivery: Delivery,
    notice: Option<SentNotice>,
    error: Option<CodeError>,
) -> impl IntoView {
    let address = match address {
        Address::Typed(address) => view! { <strong>{address}</strong> }.into_any(),
        Address::Masked(address) => view! { <Masked address/> }.into_any(),
    };
    let wait = match notice {
        Some(SentNotice::Wait { seconds }) => Some(words::within(Duration::from_secs(seconds))),
        _ => None,
    };
    let help = match error {
        Some(CodeError::Missing | CodeError::WrongLength(_)) | None => match delivery {
            Delivery::OnTime => help::NO_EMAIL,
            Delivery::Late => help::NO_EMAIL_LATE,
            Delivery::Refused => help::NO_EMAIL_REFUSED,
        },
        Some(CodeError::Wrong { .. } | CodeError::LastTry | CodeError::Expired) => help::CODE_NOT_ACCEPTED,
    };
    let sent = if delivery == Delivery::Refused { "We tried to send" } else { "We've sent" };
    view! {
        <Flow title="Check your email" error=error.is_some() help=Some(help)>
            {match delivery {
                Delivery::OnTime => ().into_any(),
                Delivery::Late => view! {
                    <Notice tone=Tone::Warn title="Emails are running late">
                        "We've sent yours. It may take up to "{words::lasting(LONGEST_WAIT)}
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
                <Notice tone=Tone::Ok title="We've sent another email.">"Only the newest one works."</Notice>
            })}
            <p class="lede">{sent}" a link and a code to "<span class="whole">{address}"."</span></p>
            <form method="post" action=routes::LOGIN_SENT novalidate>
                <CodeField hint="Or open the link in the email on this device." error=error.map(CodeError::text)/>
                <button class="button primary wide">"Sign in"</button>
            </form>
            <hr/>
            <h2 class="h3">"Nothing in your inbox?"</h2>
            <p class="small">{match &wait {
                Some(wait) => view! {
                    "You can send another email "{wait.clone()}". The newest email is the only one that works."
                }.into_any(),
                None => view! {
                    "It can take a minute or two. Check your spam folder for a message from "
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
    Passerby(visitor): Passerby,
) -> Result<Response, Fault> {
    let notice = again.is_some().then_some(SentNotice::SentAnother);
    let delivery = delivery(&state, &visitor).await?;
    Ok(match visitor.visit.asked {
        Some(asked) => answer(&state, StatusCode::OK, asked, delivery, notice, None),
        None => Redirect::to(routes::LOGIN).into_response(),
    })
}

async fn delivery(state: &AppState, visitor: &Visitor) -> Result<Delivery, auth::Error> {
    match visitor.proof().nonce {
        Some(nonce) => state.auth.sign_in().delivery(nonce).await,
        None => Ok(Delivery::OnTime),
    }
}

fn answer(
    state: &AppState,
    status: StatusCode,
    asked: AskedFor,
    delivery: Delivery,
    notice: Option<SentNotice>,
    error: Option<CodeError>,
) -> Response {
    let address = if asked.typed { Address::Typed(asked.email) } else { Address::Masked(asked.email.as_str().into()) };
    let sender = state.site.sender.clone();
    page(status, || view! { <LoginSentPage address sender delivery notice error/> })
}

/// Signs in with the code of this browser's newest mail.
#[server(prefix = "", endpoint = "login/sent")]
pub async fn enter_code(#[server(default)] code: String) -> Result<(), FormError> {
    let form = Form::current()?;
    let Passerby(visitor) = form.admit(routes::LOGIN_SENT).await?;
    let Some(asked) = visitor.visit.asked.clone() else {
        return form.see_other(routes::LOGIN);
    };
    // Whoever has a code has the mail.
    let refuse = |status, error| form.refuse(answer(&form.state, status, asked.clone(), Delivery::OnTime, None, Some(error)));
    let code = match Code::parse(&code) {
        Ok(code) => code,
        Err(format) => return refuse(StatusCode::UNPROCESSABLE_ENTITY, format.into()),
    };
    let (handover, cookie) = visitor.handover(&form.state.sessions);
    match form.state.auth.sign_in().enter_code(&code, visitor.proof(), &handover, &form.from).await {
        Ok(outcome) => signed_in(&form, &visitor, outcome, &handover, &cookie).await,
        Err(EnterCodeError::Off) => form.refuse(unavailable::answer(&form.state.site, StatusCode::FORBIDDEN)),
        Err(EnterCodeError::NothingAsked) => form.see_other(routes::LOGIN),
        Err(EnterCodeError::Wrong { left }) => refuse(StatusCode::UNPROCESSABLE_ENTITY, CodeError::Wrong { left }),
        Err(EnterCodeError::LastTry) => refuse(StatusCode::GONE, CodeError::LastTry),
        Err(EnterCodeError::Dead(LinkState::Expired(_))) => refuse(StatusCode::GONE, CodeError::Expired),
        Err(EnterCodeError::Dead(state)) => form.refuse(confirm_link::answer(&form.state, state, &visitor)),
        Err(EnterCodeError::Limited(limited)) => form.refuse(limited::answer(limited, 0, form.state.auth.policy().link_ttl)),
        Err(EnterCodeError::Unavailable(error)) => Err(form.fail(error.into())),
    }
}

/// Sends another mail to the same address.
#[server(prefix = "", endpoint = "login/sent/resend")]
pub async fn resend_email() -> Result<(), FormError> {
    let form = Form::current()?;
    let Passerby(visitor) = form.admit(routes::LOGIN_SENT).await?;
    let Some(asked) = visitor.visit.asked.clone() else {
        return form.see_other(routes::LOGIN);
    };
    let Ok(address) = asked.email.parse() else {
        return form.see_other(routes::LOGIN);
    };
    match login::ask_for(&form, &visitor, &address, asked.typed, visitor.visit.next.clone()).await? {
        Asked::Taken => form.see_other(routes::LOGIN_SENT_AGAIN),
        Asked::Refused(page) => form.refuse(page),
        Asked::TooSoon(wait) => {
            let notice = SentNotice::Wait { seconds: words::seconds_up(wait) };
            let delivery = delivery(&form.state, &visitor).await.map_err(|error| form.fail(error.into()))?;
            let page = answer(&form.state, StatusCode::TOO_MANY_REQUESTS, asked, delivery, Some(notice), None);
            form.refuse(limited::retry_after(page, wait))
        }
    }
}

/// The first factor was right: the browser gets its new session, and goes where it wanted to.
pub async fn signed_in(
    form: &Form,
    visitor: &Visitor,
    outcome: Outcome,
    handover: &SessionChange,
    session: &Cookie<'_>,
) -> Result<(), FormError> {
    form.set_cookie(session);
    form.set_cookie(&session::removal(session::LINK));
    match outcome {
        Outcome::Complete { known_browser } => {
            form.set_cookie(&session::known(&known_browser));
            login_continue::go_on(form, visitor.visit.next.as_deref(), handover.fresh).await
        }
        Outcome::SecondFactorNeeded => form.see_other(routes::LOGIN_TWO_FACTOR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::render;

    fn html(address: Address, notice: Option<SentNotice>, error: Option<CodeError>) -> String {
        let (sender, delivery) = ("sign-in@latchkey.example".to_owned(), Delivery::OnTime);
        render(|| view! { <LoginSentPage address sender delivery notice error/> })
    }

    #[test]
    fn it_says_so_when_a_mail_is_late_or_was_refused() {
        let html = |delivery| {
            let sender = "sign-in@latchkey.example".to_owned();
            render(move || view! { <LoginSentPage address=typed() sender delivery notice=None error=None/> })
        };
        let late = html(Delivery::Late);
        assert!(late.contains("Emails are running late") && late.contains("It may take up to 5 minutes to arrive."));
        assert!(late.contains("We've sent a link and a code to") && late.contains("<title>Check your email"));
        let refused = html(Delivery::Refused);
        assert!(refused.contains("We couldn't deliver the email") && refused.contains("We tried to send a link and a code to"));
        assert!(!refused.contains("We've sent"));
    }

    fn typed() -> Address {
        Address::Typed("mara@example.org".to_owned())
    }

    #[test]
    fn it_says_where_the_mail_went_and_asks_for_the_code() {
        let html = html(typed(), None, None);
        assert!(html.contains("<title>Check your email – Latchkey</title>"));
        assert!(html.contains(r#"We've sent a link and a code to <span class="whole"><strong>mara@example.org</strong>.</span>"#));
        assert!(html.contains(r#"aria-describedby="code-hint""#) && html.contains(r#"pattern="[0-9 \-]*""#));
        assert!(html.contains(r#"<span class="whole"><strong>sign-in@latchkey.example</strong>.</span>"#));
        assert!(!html.contains("aria-disabled") && !html.contains("class=\"notice"));
    }

    #[test]
    fn another_browser_sees_a_masked_address() {
        let html = html(Address::Masked("mara@example.org".into()), None, None);
        assert!(html.contains(r#"<span aria-hidden="true">m•••••@example.org</span>"#));
        assert!(html.contains(r#"<span class="vh">address starting with m at example.org</span>"#));
        assert!(!html.contains("mara"));
    }

    #[test]
    fn asking_again_is_confirmed_or_has_to_wait() {
        let sent = html(typed(), Some(SentNotice::SentAnother), None);
        assert!(sent.contains("We've sent another email.") && sent.contains("Only the newest one works."));
        let wait = html(typed(), Some(SentNotice::Wait { seconds: 40 }), None);
        assert!(wait.contains("You can send another email in 40 seconds. The newest email is the only one that works."));
        assert!(wait.contains(r#"aria-disabled="true""#));
        assert!(!wait.contains("It can take a minute or two."));
    }

    #[test]
    fn every_error_says_what_to_do() {
        for (error, words) in [
            (CodeError::Missing, "Enter the 6-digit code"),
            (CodeError::WrongLength(5), "The code has 6 digits. You entered 5."),
            (CodeError::Wrong { left: 4 }, "That code isn't right. You have 4 tries left."),
            (CodeError::Wrong { left: 1 }, "That code isn't right. You have 1 try left."),
            (CodeError::LastTry, "That code isn't right, and that was the last try. Send another email to get a new one."),
            (CodeError::Expired, "That code has expired. Send another email to get a new one."),
        ] {
            let html = html(typed(), None, Some(error));
            assert!(html.contains(words), "{words}");
            assert!(html.contains("<title>Error: Check your email – Latchkey</title>"));
            assert!(html.contains(r#"aria-describedby="code-hint code-error""#));
        }
    }

    #[test]
    fn an_address_is_text() {
        let html = html(Address::Typed("<i>@example.org".to_owned()), None, None);
        assert!(html.contains("&lt;i&gt;@example.org") && !html.contains("<i>"));
    }
}
