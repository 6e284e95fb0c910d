//! `/reauth`: asks once more who it is, before a change.

use auth::{
    crypto::Code,
    factors::backup_code::BackupCode,
    identity::Authority,
    policy::STEP_UP_CODE_TTL,
    sign_in::{
        second_factor::Factor,
        step_up::{SendCodeError, StepUpError, StepUpSession},
    },
};
use cookie::Cookie;

use crate::pages::{
    limited,
    prelude::*,
    sign_in::{
        login_backup_code::{BackupCodeError, backup_code_field},
        login_sent::CodeError,
        login_two_factor::{HavePhone, NoPhone, TotpError, fault_of_field, totp_field},
    },
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
    let form = |action, field: AnyView| {
        view! {
            <form method="post" action=action novalidate>
                <input type="hidden" name="next" value=next.clone()/>
                {field}
                <Continue/>
            </form>
        }
    };
    let content = match how {
        ReauthHow::App => view! {
            <p class="lede">{why}</p>
            {form(routes::REAUTH, view! { <CodeField hint="From your authenticator app." error/> }.into_any())}
            <NoPhone path=return_to::carried(routes::REAUTH_BACKUP_CODE, &next) help/>
        }
        .into_any(),
        ReauthHow::BackupCode => view! {
            <p class="lede">{why}</p>
            {form(routes::REAUTH_BACKUP_CODE, view! { <BackupCodeField error/> }.into_any())}
            <HavePhone path=return_to::step_up(&next) help/>
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
            {form(routes::REAUTH, view! { <CodeField error/> }.into_any())}
            <hr/>
            <h2 class="h3">"Nothing in your inbox?"</h2>
            <p class="small">"It can take a minute or two. Only the newest code works."</p>
            <PostButton action=routes::REAUTH_SEND hidden=vec![("next", next)] class="button" text="Send another code" alone=true/>
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

/// The change that was asked for; the account's page where that is nowhere of ours.
fn to(state: &AppState, next: &str) -> String {
    return_to::local(next, &state.site.base_url).unwrap_or_else(|| routes::ACCOUNT.to_owned())
}

/// Asks for the strongest factor the account has. Someone who gave it a moment ago goes on.
pub async fn get(
    State(state): State<AppState>,
    Query(NextQuery { next }): Query<NextQuery>,
    Enrolling(_, authority): Enrolling,
) -> Answer {
    let next = to(&state, &next);
    if state.auth.sign_in().is_fresh(&authority) {
        return see_other(&next);
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
    Query(NextQuery { next }): Query<NextQuery>,
    Enrolling(_, authority): Enrolling,
) -> Answer {
    let next = to(&state, &next);
    if !authority.two_factor {
        return see_other(&return_to::step_up(&next));
    }
    Ok(answer(StatusCode::OK, ReauthHow::BackupCode, next, None))
}

/// The session that steps up, and the cookie it gets if it does. A session that is over has to begin anew.
pub(crate) fn step_up_session<'a>(
    form: &Form,
    browser: &BrowserSession,
    authority: &'a Authority,
) -> Result<(StepUpSession<'a>, Cookie<'static>), Refusal> {
    let (change, cookie) = browser.session_change(&form.state.sessions);
    let old = browser.key().ok_or_else(|| Redirect::to(routes::LOGIN).into_response())?;
    Ok((StepUpSession { authority, old, fresh: change.fresh }, cookie))
}

fn passed(form: &Form, cookie: &Cookie<'_>, next: &str) -> Answer {
    form.set_cookie(cookie);
    see_other(next)
}

/// Steps up with the app's code, or with the mailed one where there is no two-factor.
#[server(prefix = "", endpoint = "reauth", protocol = FormPost)]
pub async fn step_up(#[server(default)] code: String, #[server(default)] next: String) -> Answer {
    let (form, Enrolling(browser, authority)) = Form::authorize(routes::REAUTH).await?;
    let next = to(&form.state, &next);
    let (step_up_session, cookie) = step_up_session(&form, &browser, &authority)?;
    let how = how(&form.state, &authority).await?;
    if matches!(how, ReauthHow::Mail { .. }) {
        return step_up_by_mail(&form, &browser, step_up_session, &cookie, how, &code, next).await;
    }
    let refused =
        |error| Refusal::from(answer(StatusCode::UNPROCESSABLE_ENTITY, how.clone(), next.clone(), Some(ReauthError::App(error))));
    let code = Code::parse(&code).map_err(|format| refused(TotpError::Format(format)))?;
    match form.state.auth.sign_in().step_up(step_up_session, Factor::App(&code), browser.proof(), &form.from).await {
        Ok(()) => passed(&form, &cookie, &next),
        Err(error) => {
            let backup_code = return_to::carried(routes::REAUTH_BACKUP_CODE, &next);
            Err(refused(fault_of_field(&form, error, &backup_code, totp_field)?))
        }
    }
}

async fn step_up_by_mail(
    form: &Form,
    browser: &BrowserSession,
    step_up_session: StepUpSession<'_>,
    cookie: &Cookie<'_>,
    how: ReauthHow,
    code: &str,
    next: String,
) -> Answer {
    let refused = |how: &ReauthHow, error: CodeError| {
        Refusal::from(answer(error.status(), how.clone(), next.clone(), Some(ReauthError::Mail(error))))
    };
    // The field stays: what is dead is this code, and the page has the button for another.
    let sent = ReauthHow::Mail { address: step_up_session.authority.email.as_str().into(), sent: true };
    let code = Code::parse(code).map_err(|format| refused(&how, CodeError::Format(format)))?;
    match form.state.auth.sign_in().step_up_with_mailed_code(step_up_session, &code, browser.proof(), &form.from).await {
        Ok(()) => passed(form, cookie, &next),
        Err(StepUpError::Code(error)) => match CodeError::of_mailed(&error, STEP_UP_CODE_TTL)? {
            Some(error @ CodeError::Wrong { .. }) => Err(refused(&how, error)),
            Some(error) => Err(refused(&sent, error)),
            None => see_other(&return_to::step_up(&next)),
        },
        Err(StepUpError::TwoFactor) => see_other(&return_to::step_up(&next)),
        Err(StepUpError::SessionOver) => see_other(routes::LOGIN),
        Err(StepUpError::Unavailable(error)) => Err(error.into()),
    }
}

/// Steps up with a backup code.
#[server(prefix = "", endpoint = "reauth/backup-code", protocol = FormPost)]
pub async fn step_up_with_backup_code(#[server(default)] code: String, #[server(default)] next: String) -> Answer {
    let (form, Enrolling(browser, authority)) = Form::authorize(routes::REAUTH).await?;
    let next = to(&form.state, &next);
    let (step_up_session, cookie) = step_up_session(&form, &browser, &authority)?;
    let refused = |error| {
        let (how, error) = (ReauthHow::BackupCode, ReauthError::BackupCode(error));
        Refusal::from(answer(StatusCode::UNPROCESSABLE_ENTITY, how, next.clone(), Some(error)))
    };
    let code = BackupCode::parse(&code).map_err(|format| refused(BackupCodeError::Format(format)))?;
    match form.state.auth.sign_in().step_up(step_up_session, Factor::BackupCode(&code), browser.proof(), &form.from).await {
        Ok(()) => passed(&form, &cookie, &next),
        Err(error) => Err(refused(fault_of_field(&form, error, routes::REAUTH_BACKUP_CODE, backup_code_field)?)),
    }
}

/// Mails a code to the account's own address.
#[server(prefix = "", endpoint = "reauth/send", protocol = FormPost)]
pub async fn send_step_up_code(#[server(default)] next: String) -> Answer {
    let (form, Enrolling(_, authority)) = Form::authorize(routes::REAUTH).await?;
    let next = to(&form.state, &next);
    match form.state.auth.sign_in().mail_step_up_code(&authority, &form.from).await {
        Ok(()) | Err(SendCodeError::TwoFactor) => see_other(&return_to::step_up(&next)),
        Err(SendCodeError::Limited(limited)) => Err(limited::answer(limited, STEP_UP_CODE_TTL).into()),
        Err(SendCodeError::Unavailable(error)) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::render::render;

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
    fn a_dead_code_is_followed_by_another_code() {
        for error in [CodeError::LastTry, CodeError::Expired] {
            assert!(mailed_code_text(error).ends_with("Send another code to get a new one."), "{error:?}");
        }
    }

    #[test]
    fn app_and_backup_code_lead_to_one_another() {
        let next = "next=/account/two-factor/setup%3Fa%3D1%26b%3D2";
        assert!(html(ReauthHow::App, None).contains(&format!(r#"href="/reauth/backup-code?{next}""#)));
        assert!(html(ReauthHow::BackupCode, None).contains(&format!(r#"href="/reauth?{next}""#)));
    }
}
