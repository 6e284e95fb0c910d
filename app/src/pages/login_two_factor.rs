//! `/login/two-factor`: asks for the code of an authenticator app.

use auth::{
    crypto::{Code, CodeFormat},
    sign_in::{
        first_factor::SessionChange,
        second_factor::{Factor, PendingSignIn, SecondFactorError, SignedIn},
    },
};
use axum::{extract::State, response::Response};
use cookie::Cookie;
use http::StatusCode;
use leptos::prelude::*;

use crate::{
    components::{Checkbox, CodeField, Flow},
    form::{Form, FormError},
    gate::HalfSignedIn,
    help,
    page::page,
    pages::{limited, login_continue, unavailable},
    routes,
    session::{self, Visitor},
    state::AppState,
    words,
};

/// What is wrong with the code of an app, wherever one is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TotpError {
    Missing,
    /// It has this many digits.
    WrongLength(usize),
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
    /// Where somebody with such a code finds help.
    pub(crate) fn help(error: Option<Self>) -> &'static str {
        match error {
            Some(Self::Wrong { .. } | Self::AlreadyUsed | Self::Clock { .. }) => help::CODES_ALWAYS_WRONG,
            Some(Self::Missing | Self::WrongLength(_)) | None => help::LOST_PHONE,
        }
    }

    pub(crate) fn text(self) -> String {
        match self {
            Self::Missing => "Enter the 6-digit code".to_owned(),
            Self::WrongLength(n) => format!("The code has 6 digits. You entered {n}."),
            Self::Wrong { left } => {
                format!("That code isn't right. Wait for the next code in your app and try that. {}", words::tries_left(left))
            }
            Self::AlreadyUsed => "You've used that code. Wait for the next one.".to_owned(),
            Self::Clock { ahead, minutes } => {
                let (minutes, way) = (words::count(minutes, "minute"), if ahead { "ahead" } else { "behind" });
                format!("Your phone's clock seems to be about {minutes} {way}. Let it set itself, then try the next code.")
            }
        }
    }
}

/// `trust_days`: how long a browser may do without this page, where it may.
#[component]
pub fn LoginTwoFactorPage(trust_days: Option<u64>, error: Option<TotpError>) -> impl IntoView {
    view! {
        <Flow title="Enter your authenticator code" error=error.is_some()>
            <p class="lede">"Open your authenticator app and find the code for Latchkey."</p>
            <form method="post" action=routes::LOGIN_TWO_FACTOR novalidate>
                <CodeField hint="The code changes every 30 seconds." error=error.map(TotpError::text)/>
                {trust_days.map(|days| view! {
                    <Checkbox name="trust_device" hint="Only on a device that's yours.">
                        "Don't ask for a code on this browser for "{words::count(days, "day")}"."
                    </Checkbox>
                })}
                <button class="button primary wide">"Continue"</button>
            </form>
            <hr/>
            <h2 class="h3">"Don't have your phone?"</h2>
            <p class="small">"Use one of the backup codes you saved when you turned on two-factor."</p>
            <div class="row-actions">
                <a class="button" href=routes::LOGIN_BACKUP_CODE>"Use a backup code"</a>
                <a class="button ghost" href=TotpError::help(error)>"Get help"</a>
            </div>
        </Flow>
    }
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
        <Flow title>
            <p class="lede">{text}</p>
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

impl From<CodeFormat> for TotpError {
    fn from(format: CodeFormat) -> Self {
        match format {
            CodeFormat::Missing => Self::Missing,
            CodeFormat::WrongLength(n) => Self::WrongLength(n),
        }
    }
}

/// What a refused second factor looks like: a field that is wrong, or something that is not about the field.
pub(crate) enum Refused<E> {
    Field(E),
    Page(Response),
    ClientApplication(&'static str),
}

impl TotpError {
    /// `steps` of half a minute each, in whole minutes and never none.
    pub(crate) fn clock(steps: i64) -> Self {
        Self::Clock { ahead: steps > 0, minutes: steps.unsigned_abs().div_ceil(2) }
    }
}

/// Puts what is no field's fault into a page; `field` says what is.
pub(crate) fn refused<E>(
    form: &Form,
    error: SecondFactorError,
    backup_code: &str,
    field: impl FnOnce(&SecondFactorError) -> Option<E>,
) -> Result<Refused<E>, FormError> {
    if let Some(error) = field(&error) {
        return Ok(Refused::Field(error));
    }
    let no_app = |status, why| {
        let backup_code = backup_code.to_owned();
        Refused::Page(page(status, || view! { <NoAppPage why backup_code/> }))
    };
    Ok(match error {
        SecondFactorError::Off => Refused::Page(unavailable::answer(&form.state.site, StatusCode::FORBIDDEN)),
        SecondFactorError::AppOff => no_app(StatusCode::FORBIDDEN, NoApp::Stopped),
        SecondFactorError::Unreadable => no_app(StatusCode::SERVICE_UNAVAILABLE, NoApp::Broken),
        SecondFactorError::Limited(limited) => Refused::Page(limited::answer(limited, 0, form.state.auth.policy().link_ttl)),
        SecondFactorError::Unavailable(error) => return Err(form.fail(error.into())),
        SecondFactorError::SessionOver
        | SecondFactorError::NotEnrolled
        | SecondFactorError::Wrong { .. }
        | SecondFactorError::Used
        | SecondFactorError::Clock { .. } => Refused::ClientApplication(routes::LOGIN),
    })
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
pub async fn get(State(state): State<AppState>, _: HalfSignedIn) -> Response {
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
#[server(prefix = "", endpoint = "login/two-factor")]
pub async fn enter_totp(#[server(default)] code: String, #[server(default)] trust_device: String) -> Result<(), FormError> {
    let form = Form::current()?;
    let HalfSignedIn(visitor, authority) = form.admit(routes::LOGIN_TWO_FACTOR).await?;
    let refuse = |status, error| form.refuse(answer(&form.state, status, Some(error)));
    let code = match Code::parse(&code) {
        Ok(code) => code,
        Err(format) => return refuse(StatusCode::UNPROCESSABLE_ENTITY, format.into()),
    };
    let Some(half) = visitor.key() else { return form.see_other(routes::LOGIN) };
    let (handover, cookie) = visitor.handover(&form.state.sessions);
    let finishing = PendingSignIn { half, user: authority.user, handover: &handover };
    let trust = !trust_device.is_empty();
    match form.state.auth.sign_in().enter_second_factor(finishing, Factor::App(&code), trust, visitor.proof(), &form.from).await {
        Ok(signed_in) => finish(&form, &visitor, &signed_in, &handover, &cookie).await,
        Err(error) => match refused(&form, error, routes::LOGIN_BACKUP_CODE, totp_field)? {
            Refused::Field(error) => refuse(StatusCode::UNPROCESSABLE_ENTITY, error),
            Refused::Page(page) => form.refuse(page),
            Refused::ClientApplication(path) => form.see_other(path),
        },
    }
}

/// Both factors were right: the browser gets its new session, and goes where it wanted to.
pub(crate) async fn finish(
    form: &Form,
    visitor: &Visitor,
    signed_in: &SignedIn,
    handover: &SessionChange,
    cookie: &Cookie<'_>,
) -> Result<(), FormError> {
    form.set_cookie(cookie);
    form.set_cookie(&session::known(&signed_in.known_browser));
    if let Some(token) = &signed_in.trusted_device {
        form.set_cookie(&session::device(token, form.state.auth.policy().trusted_device_ttl));
    }
    login_continue::go_on(form, visitor.visit.next.as_deref(), handover.fresh).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::render;

    fn html(trust_days: Option<u64>, error: Option<TotpError>) -> String {
        render(move || view! { <LoginTwoFactorPage trust_days error/> })
    }

    #[test]
    fn it_asks_for_the_code_and_offers_a_way_without_the_phone() {
        let html = html(None, None);
        assert!(html.contains("<title>Enter your authenticator code – Latchkey</title>"));
        assert!(html.contains(r#"<form method="post" action="/login/two-factor" novalidate>"#));
        assert!(html.contains("Open your authenticator app and find the code for Latchkey."));
        assert!(html.contains("The code changes every 30 seconds.") && html.contains(r#"name="code""#));
        assert!(html.contains(r#"<a href="/login/backup-code" class="button">Use a backup code</a>"#));
        assert!(!html.contains("trust_device") && !html.contains("autofocus"));
    }

    #[test]
    fn trust_is_offered_where_there_is_such_a_thing_and_is_off_at_first() {
        let html = html(Some(30), None);
        assert!(html.contains(r#"name="trust_device" type="checkbox" aria-describedby="trust_device-hint">"#));
        assert!(html.contains(r#"<label for="trust_device">Don't ask for a code on this browser for 30 days.</label>"#));
        assert!(html.contains("Only on a device that's yours.") && !html.contains("checked"));
    }

    #[test]
    fn every_error_says_what_to_do() {
        for (error, words) in [
            (TotpError::Missing, "Enter the 6-digit code"),
            (TotpError::WrongLength(5), "The code has 6 digits. You entered 5."),
            (
                TotpError::Wrong { left: 3 },
                "That code isn't right. Wait for the next code in your app and try that. You have 3 tries left.",
            ),
            (TotpError::AlreadyUsed, "You've used that code. Wait for the next one."),
            (
                TotpError::Clock { ahead: true, minutes: 2 },
                "Your phone's clock seems to be about 2 minutes ahead. Let it set itself, then try the next code.",
            ),
            (TotpError::Clock { ahead: false, minutes: 1 }, "about 1 minute behind."),
        ] {
            let html = html(Some(30), Some(error));
            assert!(html.contains(words), "{words}");
            assert!(html.contains("<title>Error: Enter your authenticator code – Latchkey</title>"));
            assert!(html.contains(r#"aria-describedby="code-hint code-error" aria-invalid="true" autofocus"#));
        }
    }

    #[test]
    fn without_the_app_there_is_still_a_way() {
        let html = |why| render(move || view! { <NoAppPage why backup_code=routes::LOGIN_BACKUP_CODE/> });
        let stopped = html(NoApp::Stopped);
        assert!(stopped.contains("<h1>We've stopped accepting codes from your app</h1>"));
        assert!(stopped.contains("a browser you've signed in with before: your app still works there."));
        assert!(stopped.contains("Ask whoever runs this service to reset two-factor for your account."));
        let broken = html(NoApp::Broken);
        assert!(broken.contains("<h1>We can't check codes just now</h1>") && broken.contains("has been told"));
        for html in [stopped, broken] {
            assert!(html.contains(r#"<a href="/login/backup-code" class="button primary wide">Use a backup code</a>"#));
            assert!(!html.contains("<form"));
        }
    }
}
