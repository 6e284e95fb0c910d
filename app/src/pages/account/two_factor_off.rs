//! `/account/two-factor/turn-off`: asks first.

use auth::{crypto::Code, identity::Authority, self_service::two_factor::ChangeError};

use crate::pages::{
    account::{
        reauth::step_up_session,
        two_factor::{changed, is_required},
    },
    prelude::*,
    sign_in::login_two_factor::{TotpError, fault_of_field, totp_field},
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
    let help = if wrong { TotpError::help(error) } else { help::TURN_OFF_TWO_FACTOR };
    view! {
        <Settings title="Turn off two-factor?" email crumb=Some("Turn off two-factor") error=wrong help=Some(help)>
            <Ask action=routes::TWO_FACTOR_OFF button="Turn off two-factor" class="button danger" novalidate=true back=("Keep it on", routes::TWO_FACTOR.to_owned())>
                <p>"Anyone who can read your email will be able to sign in as you. "{what}</p>
                {code_needed.then(|| view! {
                    <CodeField label="Code from your app" hint="To check it's you." error=error.map(TotpError::text)/>
                    <p class="hint">
                        "Don't have your phone? "
                        <a href=return_to::carried(routes::REAUTH_BACKUP_CODE, routes::TWO_FACTOR_OFF)>"Use a backup code"</a>
                    </p>
                })}
            </Ask>
        </Settings>
    }
}

pub async fn get(State(state): State<AppState>, SignedIn(_, authority): SignedIn) -> Answer {
    if !authority.two_factor || is_required(&state, &authority) {
        return see_other(routes::TWO_FACTOR);
    }
    answer(&state, authority, StatusCode::OK, None).await
}

async fn answer(state: &AppState, authority: Authority, status: StatusCode, error: Option<TotpError>) -> Answer {
    let left = state.auth.self_service().two_factor(&authority).await?.backup_codes.left.unsigned_abs();
    let code_needed = !state.auth.self_service().may_turn_off_without_code(&authority);
    Ok(page(status, || view! { <TurnOffPage email=authority.email left code_needed error/> }))
}

/// Turns two-factor off, with a right code of the app; or after a backup code.
#[server(prefix = "", endpoint = "account/two-factor/turn-off", protocol = FormPost)]
pub async fn turn_two_factor_off(#[server(default)] code: String) -> Answer {
    let (form, SignedIn(browser, authority)) = Form::authorize(routes::TWO_FACTOR_OFF).await?;
    let (step_up_session, cookie) = step_up_session(&form, &browser, &authority)?;
    let auth = &form.state.auth;
    let refuse = async |error: TotpError| -> Answer {
        Err(answer(&form.state, authority.clone(), StatusCode::UNPROCESSABLE_ENTITY, Some(error)).await?.into())
    };
    let code = if auth.self_service().may_turn_off_without_code(&authority) {
        None
    } else {
        match Code::parse(&code) {
            Ok(code) => Some(code),
            Err(format) => return refuse(TotpError::Format(format)).await,
        }
    };
    match auth.self_service().turn_two_factor_off(step_up_session, code.as_ref(), browser.proof(), &form.from).await {
        Ok(()) => {
            form.set_cookie(&cookie);
            see_other(routes::ACCOUNT)
        }
        Err(ChangeError::Factor(error)) => {
            let backup_code = return_to::carried(routes::REAUTH_BACKUP_CODE, routes::TWO_FACTOR_OFF);
            refuse(fault_of_field(&form, error, &backup_code, totp_field)?).await
        }
        Err(error) => changed(error, routes::TWO_FACTOR_OFF),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::render::render;

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
        assert!(page.contains(r#"href="/reauth/backup-code?next=/account/two-factor/turn-off""#));
        assert!(html(1, true, None).contains("your 1 remaining backup code will"));
        assert!(!html(0, true, None).contains("backup codes"));
    }
}
