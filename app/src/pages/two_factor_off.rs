//! `/account/two-factor/turn-off`: asks first.

use leptos::prelude::*;

use crate::{
    components::{CodeField, Settings},
    next,
    pages::login_two_factor::TotpError,
    routes,
};

/// `left`: backup codes that would stop working. `code_needed`: not where a code was entered a moment ago.
#[component]
pub fn TurnOffPage(email: String, left: u64, code_needed: bool, error: Option<TotpError>) -> impl IntoView {
    let what = match left {
        0 => "Your authenticator app will stop working.".to_owned(),
        1 => "Your authenticator app and your 1 remaining backup code will stop working.".to_owned(),
        n => format!("Your authenticator app and your {n} remaining backup codes will stop working."),
    };
    let wrong = error.is_some();
    view! {
        <Settings title="Turn off two-factor?" email crumb=Some("Turn off two-factor") error=wrong>
            <div class="panel">
                <form class="body" method="post" action=routes::TWO_FACTOR_OFF novalidate>
                    <p>"Anyone who can read your email will be able to sign in as you. "{what}</p>
                    {code_needed.then(|| view! {
                        <CodeField label="Code from your app" hint="To check it's you." error=error.map(TotpError::text)/>
                        <p class="hint">
                            "Don't have your phone? "
                            <a href=next::carried(routes::REAUTH_BACKUP_CODE, routes::TWO_FACTOR_OFF)>"Use a backup code"</a>
                        </p>
                    })}
                    <div class="row-actions">
                        <button class="button danger">"Turn off two-factor"</button>
                        <a class="button" href=routes::TWO_FACTOR>"Keep it on"</a>
                    </div>
                </form>
            </div>
        </Settings>
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::render;

    fn html(left: u64, code_needed: bool, error: Option<TotpError>) -> String {
        render(move || view! { <TurnOffPage email="mara@example.org".to_owned() left code_needed error/> })
    }

    #[test]
    fn it_says_what_will_happen_and_has_a_way_back() {
        let page = html(2, true, None);
        assert!(page.contains("<title>Turn off two-factor? – Latchkey</title>"));
        assert!(page.contains(
            "Anyone who can read your email will be able to sign in as you. Your authenticator app and your 2 remaining backup codes will stop working."
        ));
        assert!(page.contains(r#"<button class="button danger">Turn off two-factor</button>"#));
        assert!(page.contains(r#"<a href="/account/two-factor" class="button">Keep it on</a>"#));
        assert!(page.contains(r#"href="/reauth/backup-code?next=%2Faccount%2Ftwo-factor%2Fturn-off""#));
        assert!(html(1, true, None).contains("your 1 remaining backup code will"));
        assert!(!html(0, true, None).contains("backup codes"));
    }

    #[test]
    fn a_code_is_asked_for_only_where_none_was_a_moment_ago() {
        assert!(html(2, true, None).contains(r#"name="code""#));
        assert!(!html(2, false, None).contains(r#"name="code""#));
    }

    #[test]
    fn an_error_takes_the_focus_to_the_only_field() {
        let html = html(2, true, Some(TotpError::Wrong { left: 3 }));
        assert!(html.contains("<title>Error: Turn off two-factor? – Latchkey</title>"));
        assert!(html.contains("You have 3 tries left.") && html.contains(" autofocus"));
    }
}
