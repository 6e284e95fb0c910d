//! `/login/two-factor`: asks for the code of an authenticator app.

use auth::{
    crypto::{Code, CodeFormat},
    sign_in::second_factor::{Factor, PendingSignIn, SecondFactorError},
};
use uuid::Uuid;

use crate::pages::{
    limited,
    prelude::*,
    sign_in::{login_continue, login_sent::format_text, unavailable},
};

/// What is wrong with the code of an app, wherever one is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TotpError {
    Format(CodeFormat),
    Wrong {
        left: u32,
    },
    AlreadyUsed,
    /// It is of a moment so many minutes before ours, or after.
    Clock {
        ahead: bool,
        minutes: u64,
    },
}

impl TotpError {
    /// `steps` of half a minute each, in whole minutes and never none.
    pub(crate) fn clock(steps: i64) -> Self {
        Self::Clock { ahead: steps > 0, minutes: steps.unsigned_abs().div_ceil(2) }
    }

    /// Where somebody with such a code finds help.
    pub(crate) fn help(error: Option<Self>) -> &'static str {
        match error {
            Some(Self::Wrong { .. } | Self::AlreadyUsed | Self::Clock { .. }) => help::CODES_ALWAYS_WRONG,
            Some(Self::Format(_)) | None => help::LOST_PHONE,
        }
    }

    pub(crate) fn text(self) -> String {
        match self {
            Self::Format(format) => format_text(format),
            Self::Wrong { left } => {
                format!("That code isn't right. Wait for the next code in your app and try that. {}", format::tries_left(left))
            }
            Self::AlreadyUsed => "You've used that code. Wait for the next one.".to_owned(),
            Self::Clock { ahead, minutes } => {
                let (minutes, way) = (format::count(minutes, "minute"), if ahead { "ahead" } else { "behind" });
                format!("Your phone's clock seems to be about {minutes} {way}. Let it set itself, then try the next code.")
            }
        }
    }
}

/// `trust_days`: how long a browser may do without this page, where it may.
#[component]
pub fn LoginTwoFactorPage(trust_days: Option<u64>, error: Option<TotpError>) -> impl IntoView {
    view! {
        <Flow title="Enter your authenticator code" error=error.is_some() lede="Open your authenticator app and find the code for Latchkey.">
            <form method="post" action=routes::LOGIN_TWO_FACTOR novalidate>
                <CodeField hint="The code changes every 30 seconds." error=error.map(TotpError::text)/>
                {trust_days.map(|days| view! {
                    <Checkbox name="trust_device" hint="Only on a device that's yours.">
                        "Don't ask for a code on this browser for "{format::count(days, "day")}"."
                    </Checkbox>
                })}
                <button class="button primary wide">"Continue"</button>
            </form>
            <NoPhone path=routes::LOGIN_BACKUP_CODE help=TotpError::help(error)/>
        </Flow>
    }
}

/// Another way than the field above it.
#[component]
pub(crate) fn OtherWay(
    heading: &'static str,
    text: &'static str,
    #[prop(into)] path: String,
    button: &'static str,
    help: &'static str,
) -> impl IntoView {
    view! {
        <hr/>
        <h2 class="h3">{heading}</h2>
        <p class="small">{text}</p>
        <div class="row-actions">
            <a class="button" href=path>{button}</a>
            <a class="button ghost" href=help>"Get help"</a>
        </div>
    }
}

/// The way on without the app, below its field.
#[component]
pub(crate) fn NoPhone(#[prop(into)] path: String, help: &'static str) -> impl IntoView {
    let text = "Use one of the backup codes you saved when you turned on two-factor.";
    view! { <OtherWay heading="Don't have your phone?" text path button="Use a backup code" help/> }
}

/// The way back to the app, below the field of a backup code.
#[component]
pub(crate) fn HavePhone(#[prop(into)] path: String, help: &'static str) -> impl IntoView {
    let text = "Each backup code works once, so save them for when you don't.";
    view! { <OtherWay heading="Have your phone?" text path button="Use your app" help/> }
}

/// Why no code of an app is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoApp {
    /// Too many wrong ones came from browsers that the account doesn't know.
    Stopped,
    /// What the codes are checked against can't be read.
    Broken,
}

/// `backup_code` is where a backup code is asked for.
#[component]
pub fn NoAppPage(why: NoApp, #[prop(into)] backup_code: String) -> impl IntoView {
    let (help, title, text) = match why {
        NoApp::Stopped => (
            help::CODES_ALWAYS_WRONG_STOPPED,
            "We've stopped accepting codes from your app",
            "There were too many wrong ones. Use a backup code, or a browser you've signed in with before: your app still works there.",
        ),
        NoApp::Broken => (
            help::CODES_ALWAYS_WRONG_BROKEN,
            "We can't check codes just now",
            "Something is wrong on our side, and whoever runs this service has been told. Use a backup code, or try again in a few minutes.",
        ),
    };
    view! {
        <Flow title lede=text>
            <div class="actions">
                <a class="button primary wide" href=backup_code>"Use a backup code"</a>
                <a class="button wide" href=help>"Get help"</a>
            </div>
            {(why == NoApp::Stopped).then(|| view! {
                <hr/>
                <h2 class="h3">"No backup codes?"</h2>
                <p class="small">"Ask whoever runs this service to reset two-factor for your account."</p>
            })}
        </Flow>
    }
}

/// What was wrong with the field, by `field`; what is no field's fault is an answer of its own.
pub(crate) fn fault_of_field<E>(
    form: &Form,
    error: SecondFactorError,
    backup_code: &str,
    field: impl FnOnce(&SecondFactorError) -> Option<E>,
) -> Result<E, Refusal> {
    if let Some(error) = field(&error) {
        return Ok(error);
    }
    let no_app = |status, why| {
        let backup_code = backup_code.to_owned();
        page(status, || view! { <NoAppPage why backup_code/> })
    };
    let answer = match error {
        SecondFactorError::Off => unavailable::answer(&form.state.site, StatusCode::FORBIDDEN),
        SecondFactorError::AppOff => no_app(StatusCode::FORBIDDEN, NoApp::Stopped),
        SecondFactorError::Unreadable => no_app(StatusCode::SERVICE_UNAVAILABLE, NoApp::Broken),
        SecondFactorError::Limited(limited) => limited::answer(limited, form.state.auth.policy().link_ttl),
        SecondFactorError::Unavailable(error) => return Err(error.into()),
        SecondFactorError::SessionOver
        | SecondFactorError::NotEnrolled
        | SecondFactorError::Wrong { .. }
        | SecondFactorError::Used
        | SecondFactorError::Clock { .. } => Redirect::to(routes::LOGIN).into_response(),
    };
    Err(answer.into())
}

/// The faults of an app's code.
pub(crate) fn totp_field(error: &SecondFactorError) -> Option<TotpError> {
    match error {
        SecondFactorError::Wrong { left } => Some(TotpError::Wrong { left: *left }),
        SecondFactorError::Used => Some(TotpError::AlreadyUsed),
        SecondFactorError::Clock { steps } => Some(TotpError::clock(*steps)),
        _ => None,
    }
}

/// For who has given one factor of two.
pub async fn get(State(state): State<AppState>, _: PendingSecondFactor) -> Response {
    answer(&state, StatusCode::OK, None)
}

fn answer(state: &AppState, status: StatusCode, error: Option<TotpError>) -> Response {
    let trust_days = trust_days(state);
    page(status, || view! { <LoginTwoFactorPage trust_days error/> })
}

/// How long a browser may be trusted, in days; where it may.
pub(crate) fn trust_days(state: &AppState) -> Option<u64> {
    let lifetime = state.auth.policy().trusted_device_ttl;
    (!lifetime.is_zero()).then(|| lifetime.as_secs().div_ceil(86_400))
}

/// Finishes signing in with the app's code.
#[server(prefix = "", endpoint = "login/two-factor", protocol = FormPost)]
pub async fn enter_totp(#[server(default)] code: String, #[server(default)] trust_device: String) -> Answer {
    let (form, PendingSecondFactor(browser, authority)) = Form::authorize(routes::LOGIN_TWO_FACTOR).await?;
    let refused = |error| Refusal::from(answer(&form.state, StatusCode::UNPROCESSABLE_ENTITY, Some(error)));
    let code = Code::parse(&code).map_err(|format| refused(TotpError::Format(format)))?;
    finish(&form, &browser, authority.user, Factor::App(&code), !trust_device.is_empty())
        .await?
        .or_else(|error| Err(refused(fault_of_field(&form, error, routes::LOGIN_BACKUP_CODE, totp_field)?)))
}

/// If the second factor is right too, the browser gets its new session, and goes where it wanted to. `trust`: this browser may do without it
/// from now on.
pub(crate) async fn finish(
    form: &Form,
    browser: &BrowserSession,
    user: Uuid,
    factor: Factor<'_>,
    trust: bool,
) -> Result<Result<Response, SecondFactorError>, Refusal> {
    let Some(half) = browser.key() else { return see_other(routes::LOGIN).map(Ok) };
    let (change, cookie) = browser.session_change(&form.state.sessions);
    let finishing = PendingSignIn { half, user, handover: &change };
    let signed_in = match form.state.auth.sign_in().enter_second_factor(finishing, factor, trust, browser.proof(), &form.from).await
    {
        Ok(signed_in) => signed_in,
        Err(error) => return Ok(Err(error)),
    };
    form.set_cookie(&cookie);
    form.set_cookie(&session::known(&signed_in.known_browser));
    if let Some(token) = &signed_in.trusted_device {
        form.set_cookie(&session::device(token, form.state.auth.policy().trusted_device_ttl));
    }
    login_continue::go_on(form, browser.visit.next.as_deref(), change.fresh).await.map(Ok)
}
