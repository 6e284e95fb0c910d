//! `/login/backup-code`: asks for a backup code, in place of the app's.

use leptos::prelude::*;

use crate::{
    components::{BackupCodeField, Flow},
    routes, words,
};

/// What is wrong with a backup code, wherever one is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupCodeError {
    Missing,
    Malformed,
    Wrong { left: u32 },
    AlreadyUsed,
}

impl BackupCodeError {
    pub(crate) fn text(self) -> String {
        match self {
            Self::Missing => "Enter a backup code".to_owned(),
            Self::Malformed => "Enter a backup code, like k7qd-m2xw-t9hp".to_owned(),
            Self::Wrong { left } => format!("That backup code isn't right. {}", words::tries_left(left)),
            Self::AlreadyUsed => "You've already used that backup code. Try another.".to_owned(),
        }
    }
}

#[component]
pub fn LoginBackupCodePage(error: Option<BackupCodeError>) -> impl IntoView {
    view! {
        <Flow title="Enter a backup code" error=error.is_some()>
            <p class="lede">"Each code works once."</p>
            <form method="post" action=routes::LOGIN_BACKUP_CODE novalidate>
                <BackupCodeField error=error.map(BackupCodeError::text)/>
                <button class="button primary wide">"Continue"</button>
            </form>
            <hr/>
            <h2 class="h3">"No backup codes?"</h2>
            <p class="small">"Ask whoever runs this service to reset two-factor for your account."</p>
            <div class="row-actions">
                <a class="button" href=routes::LOGIN_TWO_FACTOR>"Use your app"</a>
                <a class="button ghost" href=routes::HELP>"Get help"</a>
            </div>
        </Flow>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::render;

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

    #[test]
    fn every_error_says_what_to_do() {
        for (error, words) in [
            (BackupCodeError::Missing, "Enter a backup code"),
            (BackupCodeError::Malformed, "Enter a backup code, like k7qd-m2xw-t9hp"),
            (BackupCodeError::Wrong { left: 2 }, "That backup code isn't right. You have 2 tries left."),
            (BackupCodeError::AlreadyUsed, "You've already used that backup code. Try another."),
        ] {
            let html = html(Some(error));
            assert!(html.contains(&format!(r#"<span class="vh">Error: </span>{words}</span>"#)), "{words}");
            assert!(html.contains("<title>Error: Enter a backup code – Latchkey</title>") && html.contains("autofocus"));
        }
    }
}
