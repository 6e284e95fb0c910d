//! `/reauth`: asks once more who it is, before a change.

use auth::{
    crypto::Code,
    factors::backup_code::BackupCode,
    identity::Authority,
    policy::STEP_UP_CODE_TTL,
    sign_in::{
        second_factor::Factor,
        step_up::{MailedCodeError, SendCodeError, StepUpSession},
    },
};
use axum::{
    extract::{Query, State},
    response::{IntoResponse, Redirect, Response},
};
use cookie::Cookie;
use http::StatusCode;
use leptos::prelude::*;

use crate::{
    components::{BackupCodeField, CodeField, Flow, Masked},
    fault::Fault,
    form::{Form, FormError},
    gate::Enrolling,
    help, next,
    page::page,
    pages::{
        limited,
        login_backup_code::{BackupCodeError, backup_code_field},
        login_sent::CodeError,
        login_two_factor::{Refused, TotpError, refused, totp_field},
    },
    routes,
    session::Visitor,
    state::AppState,
    words::MaskedAddress,
};

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReauthHow {
    App,
    BackupCode,
    /// `sent`: a code is on its way. None is sent by looking at the page.
    Mail {
        address: MaskedAddress,
        sent: bool,
    },
}

/// What is wrong with what was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReauthError {
    App(TotpError),
    BackupCode(BackupCodeError),
    Mail(CodeError),
}

impl ReauthError {
    fn text(self) -> String {
        match self {
            Self::App(error) => error.text(),
            Self::BackupCode(error) => error.text(),
            Self::Mail(error) => mailed_code_text(error),
        }
    }
}

/// What is wrong with a code that came alone, without a link.
pub(crate) fn mailed_code_text(error: CodeError) -> String {
    match error {
        CodeError::LastTry => "That code isn't right, and that was the last try. Send another code to get a new one.".to_owned(),
        CodeError::Expired => "That code has expired. Send another code to get a new one.".to_owned(),
        error => error.text(),
    }
}

/// `next` is the change that was asked for.
#[component]
pub fn ReauthPage(how: ReauthHow, next: String, error: Option<ReauthError>) -> impl IntoView {
    let wrong = error.is_some();
    let help = match (&how, error) {
        (_, Some(ReauthError::App(error))) => TotpError::help(Some(error)),
        (_, Some(ReauthError::Mail(_))) => help::CODE_NOT_ACCEPTED,
        (ReauthHow::App, _) => help::LOST_PHONE,
        (ReauthHow::BackupCode, _) => help::BACKUP_CODES,
        (ReauthHow::Mail { sent: false, .. }, _) => help::CONFIRM_ITS_YOU,
        (ReauthHow::Mail { sent: true, .. }, _) => help::NO_EMAIL,
    };
    // The others have a button that leads there.
    let below = matches!(how, ReauthHow::Mail { .. }).then_some(help);
    let error = error.map(ReauthError::text);
    let why = "You signed in a while ago, so we check before this change.";
    let content = match how {
        ReauthHow::App => view! {
            <p class="lede">{why}</p>
            <form method="post" action=routes::REAUTH novalidate>
                <input type="hidden" name="next" value=next.clone()/>
                <CodeField hint="From your authenticator app." error/>
                <Continue/>
            </form>
            <hr/>
            <h2 class="h3">"Don't have your phone?"</h2>
            <p class="small">"Use one of the backup codes you saved when you turned on two-factor."</p>
            <div class="row-actions">
                <a class="button" href=next::carried(routes::REAUTH_BACKUP_CODE, &next)>"Use a backup code"</a>
                <a class="button ghost" href=help>"Get help"</a>
            </div>
        }
        .into_any(),
        ReauthHow::BackupCode => view! {
            <p class="lede">{why}</p>
            <form method="post" action=routes::REAUTH_BACKUP_CODE novalidate>
                <input type="hidden" name="next" value=next.clone()/>
                <BackupCodeField error/>
                <Continue/>
            </form>
            <hr/>
            <h2 class="h3">"Have your phone?"</h2>
            <p class="small">"Each backup code works once, so save them for when you don't."</p>
            <div class="row-actions">
                <a class="button" href=next::carried(routes::REAUTH, &next)>"Use your app"</a>
                <a class="button ghost" href=help>"Get help"</a>
            </div>
        }
        .into_any(),
        ReauthHow::Mail { address, sent: false } => view! {
            <p class="lede">{why}" We'll send a code to "<span class="whole"><Masked address/>"."</span></p>
            <form method="post" action=routes::REAUTH_SEND>
                <input type="hidden" name="next" value=next/>
                <div class="actions">
                    <button class="button primary wide">"Send the code"</button>
                    <Cancel/>
                </div>
            </form>
        }
        .into_any(),
        ReauthHow::Mail { address, sent: true } => view! {
            <p class="lede">{why}" We've sent a code to "<span class="whole"><Masked address/>"."</span></p>
            <form method="post" action=routes::REAUTH novalidate>
                <input type="hidden" name="next" value=next.clone()/>
                <CodeField error/>
                <Continue/>
            </form>
            <hr/>
            <h2 class="h3">"Nothing in your inbox?"</h2>
            <p class="small">"It can take a minute or two. Only the newest code works."</p>
            <form class="row-actions" method="post" action=routes::REAUTH_SEND>
                <input type="hidden" name="next" value=next/>
                <button class="button">"Send another code"</button>
            </form>
        }
        .into_any(),
    };
    view! { <Flow title="Confirm it's you" error=wrong help=below>{content}</Flow> }
}

#[component]
fn Continue() -> impl IntoView {
    view! {
        <div class="actions">
            <button class="button primary wide">"Continue"</button>
            <Cancel/>
        </div>
    }
}

/// Nothing is changed, whatever it was.
#[component]
fn Cancel() -> impl IntoView {
    view! { <a class="button wide" href=routes::ACCOUNT>"Cancel"</a> }
}

#[derive(serde::Deserialize)]
pub struct ReauthQuery {
    #[serde(default)]
    next: String,
}

/// The change that was asked for; the account's page where that is nowhere of ours.
fn to(state: &AppState, next: &str) -> String {
    next::local(next, &state.site.base_url).unwrap_or_else(|| routes::ACCOUNT.to_owned())
}

/// Asks for the strongest factor the account has. Someone who gave it a moment ago goes on.
pub async fn get(
    State(state): State<AppState>,
    Query(ReauthQuery { next }): Query<ReauthQuery>,
    Enrolling(_, authority): Enrolling,
) -> Result<Response, Fault> {
    let next = to(&state, &next);
    if state.auth.sign_in().is_fresh(&authority) {
        return Ok(Redirect::to(&next).into_response());
    }
    let how = how(&state, &authority).await?;
    Ok(answer(StatusCode::OK, how, next, None))
}

async fn how(state: &AppState, authority: &Authority) -> Result<ReauthHow, auth::Error> {
    if authority.two_factor {
        return Ok(ReauthHow::App);
    }
    let sent = state.auth.sign_in().has_mailed_code(authority).await?;
    Ok(ReauthHow::Mail { address: authority.email.as_str().into(), sent })
}

fn answer(status: StatusCode, how: ReauthHow, next: String, error: Option<ReauthError>) -> Response {
    page(status, || view! { <ReauthPage how next error/> })
}

/// With a backup code instead of the app's. Also for who has just given the app's code: to turn two-factor off without it.
pub async fn get_backup_code(
    State(state): State<AppState>,
    Query(ReauthQuery { next }): Query<ReauthQuery>,
    Enrolling(_, authority): Enrolling,
) -> Response {
    let next = to(&state, &next);
    if !authority.two_factor {
        return Redirect::to(&next::carried(routes::REAUTH, &next)).into_response();
    }
    answer(StatusCode::OK, ReauthHow::BackupCode, next, None)
}

/// The session that steps up, and the cookie it gets if it does.
pub(crate) fn stepping<'a>(
    form: &Form,
    visitor: &Visitor,
    authority: &'a Authority,
) -> Option<(StepUpSession<'a>, Cookie<'static>)> {
    let (handover, cookie) = visitor.handover(&form.state.sessions);
    Some((StepUpSession { authority, old: visitor.key()?, fresh: handover.fresh }, cookie))
}

fn passed(form: &Form, cookie: &Cookie<'_>, next: &str) -> Result<(), FormError> {
    form.set_cookie(cookie);
    form.see_other(next)
}

/// Steps up with the app's code, or with the mailed one where there is no two-factor.
#[server(prefix = "", endpoint = "reauth")]
pub async fn step_up(#[server(default)] code: String, #[server(default)] next: String) -> Result<(), FormError> {
    let form = Form::current()?;
    let Enrolling(visitor, authority) = form.admit(routes::REAUTH).await?;
    let next = to(&form.state, &next);
    let Some((stepping, cookie)) = stepping(&form, &visitor, &authority) else { return form.see_other(routes::LOGIN) };
    let how = how(&form.state, &authority).await.map_err(|error| form.fail(error.into()))?;
    let by_mail = matches!(how, ReauthHow::Mail { .. });
    let refuse = |status, error| form.refuse(answer(status, how.clone(), next.clone(), Some(error)));
    let code = match Code::parse(&code) {
        Ok(code) => code,
        Err(format) if by_mail => {
            return refuse(StatusCode::UNPROCESSABLE_ENTITY, ReauthError::Mail(format.into()));
        }
        Err(format) => return refuse(StatusCode::UNPROCESSABLE_ENTITY, ReauthError::App(format.into())),
    };
    let auth = &form.state.auth;
    if by_mail {
        let error = match auth.sign_in().step_up_with_mailed_code(stepping, &code, visitor.proof(), &form.from).await {
            Ok(()) => return passed(&form, &cookie, &next),
            Err(MailedCodeError::Wrong { left }) => {
                return refuse(StatusCode::UNPROCESSABLE_ENTITY, ReauthError::Mail(CodeError::Wrong { left }));
            }
            Err(MailedCodeError::LastTry) => CodeError::LastTry,
            Err(MailedCodeError::Expired) => CodeError::Expired,
            Err(MailedCodeError::NothingSent | MailedCodeError::TwoFactor) => {
                return form.see_other(&next::carried(routes::REAUTH, &next));
            }
            Err(MailedCodeError::SessionOver) => return form.see_other(routes::LOGIN),
            Err(MailedCodeError::Limited(limited)) => {
                return form.refuse(limited::answer(limited, 0, STEP_UP_CODE_TTL));
            }
            Err(MailedCodeError::Unavailable(error)) => return Err(form.fail(error.into())),
        };
        // The field stays: what is dead is this code, and the page has the button for another.
        let how = ReauthHow::Mail { address: authority.email.as_str().into(), sent: true };
        return form.refuse(answer(StatusCode::GONE, how, next.clone(), Some(ReauthError::Mail(error))));
    }
    match auth.sign_in().step_up(stepping, Factor::App(&code), visitor.proof(), &form.from).await {
        Ok(()) => passed(&form, &cookie, &next),
        Err(error) => match refused(&form, error, &next::carried(routes::REAUTH_BACKUP_CODE, &next), totp_field)? {
            Refused::Field(error) => refuse(StatusCode::UNPROCESSABLE_ENTITY, ReauthError::App(error)),
            Refused::Page(page) => form.refuse(page),
            Refused::ClientApplication(path) => form.see_other(path),
        },
    }
}

/// Steps up with a backup code.
#[server(prefix = "", endpoint = "reauth/backup-code")]
pub async fn step_up_with_backup_code(#[server(default)] code: String, #[server(default)] next: String) -> Result<(), FormError> {
    let form = Form::current()?;
    let Enrolling(visitor, authority) = form.admit(routes::REAUTH).await?;
    let next = to(&form.state, &next);
    let Some((stepping, cookie)) = stepping(&form, &visitor, &authority) else { return form.see_other(routes::LOGIN) };
    let refuse = |error| {
        form.refuse(answer(
            StatusCode::UNPROCESSABLE_ENTITY,
            ReauthHow::BackupCode,
            next.clone(),
            Some(ReauthError::BackupCode(error)),
        ))
    };
    let code = match BackupCode::parse(&code) {
        Ok(code) => code,
        Err(format) => return refuse(format.into()),
    };
    match form.state.auth.sign_in().step_up(stepping, Factor::BackupCode(&code), visitor.proof(), &form.from).await {
        Ok(()) => passed(&form, &cookie, &next),
        Err(error) => match refused(&form, error, routes::REAUTH_BACKUP_CODE, backup_code_field)? {
            Refused::Field(error) => refuse(error),
            Refused::Page(page) => form.refuse(page),
            Refused::ClientApplication(path) => form.see_other(path),
        },
    }
}

/// Mails a code to the account's own address.
#[server(prefix = "", endpoint = "reauth/send")]
pub async fn send_step_up_code(#[server(default)] next: String) -> Result<(), FormError> {
    let form = Form::current()?;
    let Enrolling(_, authority) = form.admit(routes::REAUTH).await?;
    let next = to(&form.state, &next);
    match form.state.auth.sign_in().mail_step_up_code(&authority, &form.from).await {
        Ok(()) | Err(SendCodeError::TwoFactor) => form.see_other(&next::carried(routes::REAUTH, &next)),
        Err(SendCodeError::Limited(limited)) => form.refuse(limited::answer(limited, 0, STEP_UP_CODE_TTL)),
        Err(SendCodeError::Unavailable(error)) => Err(form.fail(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::render;

    const NEXT: &str = "/account/two-factor/setup?a=1&b=2";

    fn html(how: ReauthHow, error: Option<ReauthError>) -> String {
        render(move || view! { <ReauthPage how next=NEXT.to_owned() error/> })
    }

    fn mail(sent: bool) -> ReauthHow {
        ReauthHow::Mail { address: "mara@example.org".into(), sent }
    }

    #[test]
    fn every_way_keeps_where_one_was_going_and_can_be_left() {
        for (how, action) in [
            (ReauthHow::App, "/reauth"),
            (ReauthHow::BackupCode, "/reauth/backup-code"),
            (mail(false), "/reauth/send"),
            (mail(true), "/reauth"),
            (mail(true), "/reauth/send"),
        ] {
            let html = html(how, None);
            assert!(html.contains("<title>Confirm it's you – Latchkey</title>"));
            assert!(html.contains("You signed in a while ago, so we check before this change."));
            let (_, form) = html.split_once(&format!(r#"action="{action}""#)).expect("the form");
            let (form, _) = form.split_once("</form>").expect("its end");
            assert!(form.contains(r#"name="next" value="/account/two-factor/setup?a=1&amp;b=2">"#), "{form}");
            assert!(html.contains(r#"<a href="/account" class="button wide">Cancel</a>"#));
        }
    }

    #[test]
    fn app_and_backup_code_lead_to_one_another() {
        let next = "next=/account/two-factor/setup%3Fa%3D1%26b%3D2";
        assert!(html(ReauthHow::App, None).contains(&format!(r#"href="/reauth/backup-code?{next}""#)));
        assert!(html(ReauthHow::BackupCode, None).contains(&format!(r#"href="/reauth?{next}""#)));
    }

    #[test]
    fn a_mail_is_sent_by_a_button_and_to_a_masked_address() {
        let before = html(mail(false), None);
        assert!(before.contains("We'll send a code to") && before.contains("Send the code") && !before.contains(r#"name="code""#));
        let after = html(mail(true), None);
        assert!(after.contains("We've sent a code to") && after.contains("Send another code") && after.contains(r#"name="code""#));
        assert!(!before.contains("mara") && !after.contains("mara"));
    }

    #[test]
    fn every_error_says_what_to_do() {
        for (how, error, words) in [
            (ReauthHow::App, ReauthError::App(TotpError::AlreadyUsed), "You've used that code. Wait for the next one."),
            (
                ReauthHow::BackupCode,
                ReauthError::BackupCode(BackupCodeError::Wrong { left: 1 }),
                "That backup code isn't right. You have 1 try left.",
            ),
            (mail(true), ReauthError::Mail(CodeError::Wrong { left: 4 }), "That code isn't right. You have 4 tries left."),
            (mail(true), ReauthError::Mail(CodeError::LastTry), "that was the last try. Send another code to get a new one."),
            (mail(true), ReauthError::Mail(CodeError::Expired), "That code has expired. Send another code to get a new one."),
        ] {
            let html = html(how, Some(error));
            assert!(html.contains(words), "{words}");
            assert!(html.contains("<title>Error: Confirm it's you – Latchkey</title>"));
        }
    }
}
