//! `/login/backup-code`: asks for a backup code, in place of the app's.

use auth::{
    factors::backup_code::{BackupCode, BackupCodeFormat},
    sign_in::second_factor::{Factor, SecondFactorError},
};

use crate::pages::{
    prelude::*,
    sign_in::login_two_factor::{OtherWay, fault_of_field, finish},
};

/// What is wrong with a backup code, wherever one is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupCodeError {
    Format(BackupCodeFormat),
    Wrong { left: u32 },
    AlreadyUsed,
}

impl BackupCodeError {
    /// Where somebody with such a code finds help.
    pub(crate) fn help(error: Option<Self>) -> &'static str {
        if error.is_some() { help::BACKUP_CODES } else { help::LOST_PHONE_NO_CODES }
    }

    pub(crate) fn text(self) -> String {
        match self {
            Self::Format(BackupCodeFormat::Missing) => "Enter a backup code".to_owned(),
            Self::Format(BackupCodeFormat::Malformed) => "Enter a backup code, like k7qd-m2xw-t9hp".to_owned(),
            Self::Wrong { left } => format!("That backup code isn't right. {}", format::tries_left(left)),
            Self::AlreadyUsed => "You've already used that backup code. Try another.".to_owned(),
        }
    }
}

#[component]
pub fn LoginBackupCodePage(error: Option<BackupCodeError>) -> impl IntoView {
    view! {
        <Flow title="Enter a backup code" error=error.is_some() lede="Each code works once.">
            <form method="post" action=routes::LOGIN_BACKUP_CODE novalidate>
                <BackupCodeField error=error.map(BackupCodeError::text)/>
                <button class="button primary wide">"Continue"</button>
            </form>
            <OtherWay
                heading="No backup codes?" text="Ask whoever runs this service to reset two-factor for your account."
                path=routes::LOGIN_TWO_FACTOR button="Use your app" help=BackupCodeError::help(error)
            />
        </Flow>
    }
}

/// The faults of a backup code.
pub(crate) fn backup_code_field(error: &SecondFactorError) -> Option<BackupCodeError> {
    match error {
        SecondFactorError::Wrong { left } => Some(BackupCodeError::Wrong { left: *left }),
        SecondFactorError::Used => Some(BackupCodeError::AlreadyUsed),
        _ => None,
    }
}

/// For who has given one factor of two.
pub async fn get(_: PendingSecondFactor) -> Response {
    answer(StatusCode::OK, None)
}

fn answer(status: StatusCode, error: Option<BackupCodeError>) -> Response {
    page(status, || view! { <LoginBackupCodePage error/> })
}

/// Finishes signing in with a backup code.
#[server(prefix = "", endpoint = "login/backup-code", protocol = FormPost)]
pub async fn enter_backup_code(#[server(default)] code: String) -> Answer {
    let (form, PendingSecondFactor(browser, authority)) = Form::authorize(routes::LOGIN_BACKUP_CODE).await?;
    let refused = |error| Refusal::from(answer(StatusCode::UNPROCESSABLE_ENTITY, Some(error)));
    let code = BackupCode::parse(&code).map_err(|format| refused(BackupCodeError::Format(format)))?;
    finish(&form, &browser, authority.user, Factor::BackupCode(&code), false)
        .await?
        .or_else(|error| Err(refused(fault_of_field(&form, error, routes::LOGIN_BACKUP_CODE, backup_code_field)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::render::render;

    fn html(error: Option<BackupCodeError>) -> String {
        render(move || view! { <LoginBackupCodePage error/> })
    }

    #[test]
    fn it_asks_for_one_code_that_no_browser_changes_or_keeps() {
        let html = html(None);
        assert!(html.contains("<title>Enter a backup code – Latchkey</title>"));
        assert!(html.contains(r#"<form method="post" action="/login/backup-code" novalidate>"#));
        assert!(html.contains(r#"<label for="code">Backup code</label>"#));
        assert!(html.contains("Like k7qd-m2xw-t9hp. The hyphens don't matter."));
        assert!(html.contains(r#"autocomplete="off" autocapitalize="none" spellcheck="false""#));
        assert!(html.contains(r#"<a href="/login/two-factor" class="button">Use your app</a>"#));
    }
}
