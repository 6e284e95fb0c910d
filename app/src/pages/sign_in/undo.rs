//! `/undo`: takes back what a mail has told of. Only a button does it, it signs nobody in, and it asks for no session: whoever reads
//! the mail may be signed in nowhere, or as somebody else.

use std::time::Duration;

use auth::{
    crypto::{Code, RevertToken},
    factors::backup_code::BackupCode,
    one_time::{
        Dead,
        revert_link::{EMAIL_CHANGE_UNDO, Revert, SESSION_UNDO},
    },
    policy::{DELETION_WAIT, MAX_RESET_WAIT},
    self_service::revert::{RevertError, RevertState, RevertView, Reverted},
    sign_in::second_factor::{Factor, SecondFactorError},
};
use axum::response::AppendHeaders;
use http::header::SET_COOKIE;

use crate::{
    http::session,
    pages::{
        prelude::*,
        sign_in::{
            confirm_link::{Facts, status_of},
            login_backup_code::{BackupCodeError, backup_code_field},
            login_two_factor::{HavePhone, NoPhone, TotpError, fault_of_field, totp_field},
        },
    },
};

/// What would be taken back. Nobody's whole address: a mail is forwarded, and a link in it opened, by others than its owner.
#[derive(Clone, Debug)]
pub enum Question {
    /// `factor`: what has to be entered for it.
    EmailChange { old: MaskedAddress, now: MaskedAddress, factor: Option<AskedFactor> },
    /// `within`: "in 6 days".
    Deletion { address: MaskedAddress, within: String },
    /// `within`: none where another administrator has to agree.
    TwoFactorReset { address: MaskedAddress, within: Option<String> },
    /// `ago`: "2 minutes ago".
    SignIn { address: MaskedAddress, device: String, ip: String, ago: String },
}

/// A second factor, and what was wrong with the last try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedFactor {
    App(Option<TotpError>),
    BackupCode(Option<BackupCodeError>),
}

impl AskedFactor {
    fn is_wrong(self) -> bool {
        matches!(self, Self::App(Some(_)) | Self::BackupCode(Some(_)))
    }
}

#[component]
pub fn UndoPage(question: Question) -> impl IntoView {
    match question {
        Question::EmailChange { old, now, factor } => view! {
            <Flow
                title="Take back the change of address?"
                error=factor.is_some_and(AskedFactor::is_wrong)
                help=factor.is_none().then_some(help::TAKE_BACK_A_CHANGE)
            >
                <p class="lede">
                    "The account now signs in with "<span class="whole"><Masked address=now/>"."</span>" It will go back to "
                    <span class="whole"><Masked address=old/>"."</span>
                </p>
                <form method="post" action=routes::UNDO novalidate>
                    {factor.map(|factor| view! { <FactorField factor/> })}
                    <button class="button primary wide">"Take it back"</button>
                </form>
                <p class="hint">"Every session of the account ends, also yours. If you made the change yourself, close this page: nothing happens."</p>
                {factor.map(|factor| match factor {
                    AskedFactor::App(error) => view! { <NoPhone path=routes::UNDO_BACKUP_CODE help=TotpError::help(error)/> }.into_any(),
                    AskedFactor::BackupCode(_) => view! { <HavePhone path=routes::UNDO help=help::BACKUP_CODES/> }.into_any(),
                })}
            </Flow>
        }
        .into_any(),
        Question::Deletion { address, within } => view! {
            <Flow title="Keep your account?" help=Some(help::TAKE_BACK_A_CHANGE)>
                <p class="lede">
                    "The account of "<span class="whole"><Masked address/></span>" will be deleted "{within}". Keep it, and everything stays as it is."
                </p>
                <PostButton action=routes::UNDO class="button primary wide" text="Keep my account"/>
            </Flow>
        }
        .into_any(),
        Question::TwoFactorReset { address, within } => view! {
            <Flow title="Stop the reset?" help=Some(help::TWO_FACTOR)>
                <p class="lede">
                    "Two-factor of the account of "<span class="whole"><Masked address/></span>" will be turned off "
                    {within.unwrap_or_else(|| "when a second administrator agrees".to_owned())}
                    ". Stop that, and your codes go on working."
                </p>
                <PostButton action=routes::UNDO class="button primary wide" text="Stop the reset"/>
                <p class="hint">"If you asked for it because you've lost them, close this page: the reset goes on."</p>
            </Flow>
        }
        .into_any(),
        Question::SignIn { address, device, ip, ago } => view! {
            <Flow title="Sign that device out?" help=Some(help::ACTIVITY_I_DONT_RECOGNISE)>
                <p class="lede">"It signed in to the account of "<span class="whole"><Masked address/>"."</span></p>
                <dl>
                    <Facts when="Signed in" ago device ip/>
                </dl>
                <div class="actions">
                    <PostButton action=routes::UNDO class="button primary wide" text="Sign that device out"/>
                </div>
                <p class="hint">"If it was you, close this page: nothing happens."</p>
            </Flow>
        }
        .into_any(),
    }
}

#[component]
fn FactorField(factor: AskedFactor) -> impl IntoView {
    match factor {
        AskedFactor::App(error) => view! {
            <CodeField hint="From your authenticator app, to check it's you." error=error.map(TotpError::text)/>
        }
        .into_any(),
        AskedFactor::BackupCode(error) => view! {
            <input type="hidden" name="with" value=BACKUP_CODE/>
            <BackupCodeField error=error.map(BackupCodeError::text)/>
        }
        .into_any(),
    }
}

/// It was taken back.
#[component]
pub fn UndonePage(undone: Reverted) -> impl IntoView {
    let (title, text, next) = match undone {
        Reverted::EmailChange { email } => {
            let address = MaskedAddress::from(email.as_str());
            let text = view! { "You sign in with "<span class="whole"><Masked address/></span>" again. Every session has ended." };
            ("Your address is back", text.into_any(), "Sign in")
        }
        Reverted::Deletion => ("Your account stays", "It won't be deleted. You can sign in as before.".into_any(), "Sign in"),
        Reverted::TwoFactorReset => {
            ("The reset is stopped", "Two-factor stays on, and your codes work as before.".into_any(), "Sign in")
        }
        Reverted::Session { ended_now } => {
            let text = if ended_now {
                "It can't use your account any more, and it's not a trusted browser."
            } else {
                "It was signed out before. If it signed in again, that's another session: sign in and look for it."
            };
            ("That device is signed out", text.into_any(), "Review your sessions")
        }
    };
    view! {
        <Flow title>
            <p class="lede">{text}</p>
            <div class="actions">
                <a class="button primary wide" href=routes::LOGIN_FOR_ACCOUNT>{next}</a>
            </div>
            <SomeoneElse/>
        </Flow>
    }
}

/// The person who made the change may still be able to read the mail.
#[component]
fn SomeoneElse() -> impl IntoView {
    view! {
        <hr/>
        <h2 class="h3">"Was it someone else?"</h2>
        <p class="small">
            "Secure your inbox first, since they could read your email: change its password, and sign out its other devices. Then sign in here, sign out every session you don't recognise, and set up two-factor. "
            <a href=help::ACTIVITY_I_DONT_RECOGNISE_NOT_YOU>"Read more in help"</a>
        </p>
    }
}

/// A link that takes nothing back. `why`, and what it was for: none where there is no such link.
#[component]
pub fn DeadUndoPage(why: Option<(Dead, Revert)>) -> impl IntoView {
    let days = |lifetime: Duration| format::count(lifetime.as_secs() / 86_400, "day");
    let (title, text) = match why {
        Some((Dead::Used, revert)) => (
            "This link has already been used",
            match revert {
                Revert::EmailChange => "The change of address was taken back. Sign in with the address this email went to.",
                Revert::Deletion => "The account stays. You can sign in as before.",
                Revert::TwoFactorReset => "The reset of two-factor was stopped. Your codes work as before.",
                Revert::Session(_) => {
                    "That device is signed out. If you don't recognise another one, sign it out on your account's page."
                }
            }
            .to_owned(),
        ),
        Some((Dead::Cancelled | Dead::Replaced, revert)) => (
            "There's nothing to take back",
            match revert {
                Revert::Deletion => "The account already stays. You can sign in as before.",
                Revert::TwoFactorReset => "No reset of two-factor is waiting. It was stopped, or it's done: sign in to see.",
                Revert::EmailChange => {
                    "An earlier change of address was taken back, and this one with it. Sign in with the address from before."
                }
                Revert::Session(_) => {
                    "The account has another email address now, and links to this one end nothing any more. If you didn't change it, take that back from the email about it."
                }
            }
            .to_owned(),
        ),
        Some((Dead::Expired, revert)) => (
            "This link has expired",
            match revert {
                Revert::EmailChange => format!(
                    "A change of address can be taken back for {}. This one is older than that. If it wasn't you, ask whoever runs this service.",
                    format::count(EMAIL_CHANGE_UNDO.as_secs() / 3_600, "hour")
                ),
                Revert::Deletion => {
                    format!(
                        "An account can be kept for {} after its deletion was asked for. That time is over.",
                        days(DELETION_WAIT)
                    )
                }
                Revert::TwoFactorReset => {
                    format!("It worked for {}. Sign in to see whether two-factor is on.", days(MAX_RESET_WAIT))
                }
                Revert::Session(_) => {
                    format!("It worked for {}. Sign in, and sign out every session you don't recognise.", days(SESSION_UNDO))
                }
            },
        ),
        None => {
            ("This link doesn't work", "It may have been cut short when it was copied. Open it from the email again.".to_owned())
        }
    };
    view! {
        <Flow title lede=text>
            <div class="actions">
                <a class="button primary wide" href=routes::LOGIN_FOR_ACCOUNT>"Sign in"</a>
                <a class="button wide" href=help::TAKE_BACK_A_CHANGE_DEAD>"Get help"</a>
            </div>
        </Flow>
    }
}

/// In the query, and in the form that follows: a backup code in place of the app's.
const BACKUP_CODE: &str = "backup-code";

#[derive(serde::Deserialize)]
pub struct UndoQuery {
    token: Option<String>,
    with: Option<String>,
}

/// `/undo?token=` takes the token out of the address bar, and nothing else; it waits in a cookie for the button. `/undo` shows what
/// would be taken back. Neither changes anything.
pub async fn get(
    State(state): State<AppState>,
    Query(UndoQuery { token, with }): Query<UndoQuery>,
    Public(browser): Public,
) -> Answer {
    if let Some(token) = token {
        let Some(token) = RevertToken::parse(&token) else { return Ok(dead(None)) };
        let cookie = session::undo(&token).to_string();
        return Ok((AppendHeaders([(SET_COOKIE, cookie)]), Redirect::to(routes::UNDO)).into_response());
    }
    let Some(token) = &browser.undo else { return Ok(dead(None)) };
    let factor = if with.as_deref() == Some(BACKUP_CODE) { AskedFactor::BackupCode(None) } else { AskedFactor::App(None) };
    Ok(answer(&state, StatusCode::OK, state.auth.self_service().peek_revert(token).await?, factor))
}

/// The page for where a link stands. `factor` is asked for where one is needed.
fn answer(state: &AppState, status: StatusCode, link: RevertState, factor: AskedFactor) -> Response {
    match link {
        RevertState::Live(view) => {
            let question = question(state.auth.now(), view, factor);
            page(status, || view! { <UndoPage question/> })
        }
        RevertState::Dead(why, undoes) => dead(Some((why, undoes))),
        RevertState::Unknown => dead(None),
    }
}

fn question(now: OffsetDateTime, view: RevertView, factor: AskedFactor) -> Question {
    match view {
        RevertView::EmailChange { old, now, factor_needed } => {
            Question::EmailChange { old: old.as_str().into(), now: now.as_str().into(), factor: factor_needed.then_some(factor) }
        }
        RevertView::Deletion { email, deletes_at } => Question::Deletion {
            address: email.as_str().into(),
            within: format::within((deletes_at - now).try_into().unwrap_or_default()),
        },
        RevertView::TwoFactorReset { email, due_at } => Question::TwoFactorReset {
            address: email.as_str().into(),
            within: due_at.map(|at| format::within((at - now).try_into().unwrap_or_default())),
        },
        RevertView::Session { email, device, ip, at } => Question::SignIn {
            address: email.as_str().into(),
            device,
            ip: ip.map(|ip| ip.to_string()).unwrap_or_default(),
            ago: format::ago((now - at).try_into().unwrap_or_default()),
        },
    }
}

fn dead(why: Option<(Dead, Revert)>) -> Response {
    page(status_of(why.map(|(why, _)| why)), || view! { <DeadUndoPage why/> })
}

/// What was entered, where something had to be.
enum Entered {
    Nothing,
    App(Code),
    BackupCode(BackupCode),
}

impl Entered {
    fn read(text: &str, with: &str) -> Result<Self, AskedFactor> {
        if with == BACKUP_CODE {
            return match BackupCode::parse(text) {
                Ok(code) => Ok(Self::BackupCode(code)),
                Err(format) => Err(AskedFactor::BackupCode(Some(BackupCodeError::Format(format)))),
            };
        }
        match Code::parse(text) {
            Ok(code) => Ok(Self::App(code)),
            Err(format) => Err(AskedFactor::App(Some(TotpError::Format(format)))),
        }
    }

    fn factor(&self) -> Option<Factor<'_>> {
        match self {
            Self::Nothing => None,
            Self::App(code) => Some(Factor::App(code)),
            Self::BackupCode(code) => Some(Factor::BackupCode(code)),
        }
    }
}

/// Takes it back. The cookie stays: a second press is told that it was done.
#[server(prefix = "", endpoint = "undo", protocol = FormPost)]
pub async fn take_back(#[server(default)] code: String, #[server(default)] with: String) -> Answer {
    let (form, Public(browser)) = Form::authorize(routes::UNDO).await?;
    let Some(token) = &browser.undo else { return Err(dead(None).into()) };
    let auth = &form.state.auth;
    let link = auth.self_service().peek_revert(token).await?;
    let refused = |factor| Refusal::from(answer(&form.state, StatusCode::UNPROCESSABLE_ENTITY, link.clone(), factor));
    let entered = match &link {
        RevertState::Live(RevertView::EmailChange { factor_needed: true, .. }) => Entered::read(&code, &with).map_err(refused)?,
        _ => Entered::Nothing,
    };
    match auth.self_service().revert(token, entered.factor(), browser.proof(), &form.from).await {
        Ok(undone) => Ok(page(StatusCode::OK, || view! { <UndonePage undone/> })),
        Err(RevertError::NotLive(link)) => Err(answer(&form.state, StatusCode::GONE, link, AskedFactor::App(None)).into()),
        // Two-factor was turned on or off this very moment: the page shows what is asked for now.
        Err(RevertError::FactorNeeded | RevertError::Factor(SecondFactorError::NotEnrolled)) => see_other(routes::UNDO),
        Err(RevertError::Factor(error)) => {
            let field = |error: &SecondFactorError| match entered {
                Entered::BackupCode(_) => backup_code_field(error).map(|error| AskedFactor::BackupCode(Some(error))),
                Entered::App(_) | Entered::Nothing => totp_field(error).map(|error| AskedFactor::App(Some(error))),
            };
            Err(refused(fault_of_field(&form, error, routes::UNDO_BACKUP_CODE, field)?))
        }
        Err(RevertError::Unavailable(error)) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::render::render;

    #[test]
    fn every_dead_link_says_why_and_has_a_way_on() {
        let session = Revert::Session(uuid::Uuid::nil());
        for (why, title, words) in [
            (
                Some((Dead::Used, Revert::EmailChange)),
                "This link has already been used",
                "Sign in with the address this email went to.",
            ),
            (Some((Dead::Used, Revert::Deletion)), "This link has already been used", "The account stays."),
            (Some((Dead::Used, session)), "This link has already been used", "That device is signed out."),
            (
                Some((Dead::Cancelled, Revert::EmailChange)),
                "There's nothing to take back",
                "An earlier change of address was taken back",
            ),
            (Some((Dead::Cancelled, Revert::Deletion)), "There's nothing to take back", "The account already stays."),
            (Some((Dead::Expired, Revert::EmailChange)), "This link has expired", "can be taken back for 72 hours."),
            (Some((Dead::Expired, Revert::Deletion)), "This link has expired", "can be kept for 7 days"),
            (Some((Dead::Expired, session)), "This link has expired", "It worked for 7 days."),
            (None, "This link doesn't work", "Open it from the email again."),
        ] {
            let html = render(move || view! { <DeadUndoPage why/> });
            assert!(html.contains(&format!("<h1>{title}</h1>")) && html.contains(words), "{words}");
            assert!(html.contains(r#"href="/login?next=/account" class="button primary wide">Sign in"#) && !html.contains("<form"));
        }
    }
}
