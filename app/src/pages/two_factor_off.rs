//! `/account/two-factor/turn-off`: asks first.

use auth::{crypto::Code, identity::Authority, self_service::two_factor::ChangeError};
use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use http::StatusCode;
use leptos::prelude::*;

use crate::{
    components::{CodeField, Settings},
    fault::Fault,
    form::{Form, FormError},
    gate::SignedIn,
    help, next,
    page::page,
    pages::{
        login_two_factor::{Refused, TotpError, refused, totp_field},
        reauth::stepping,
        two_factor::{changed, is_required},
    },
    routes,
    state::AppState,
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

pub async fn get(State(state): State<AppState>, SignedIn(_, authority): SignedIn) -> Result<Response, Fault> {
    if !authority.two_factor || is_required(&state, &authority) {
        return Ok(Redirect::to(routes::TWO_FACTOR).into_response());
    }
    answer(&state, authority, StatusCode::OK, None).await
}

async fn answer(state: &AppState, authority: Authority, status: StatusCode, error: Option<TotpError>) -> Result<Response, Fault> {
    let left = state.auth.self_service().two_factor(&authority).await?.backup_codes.left.unsigned_abs();
    let code_needed = !state.auth.self_service().may_turn_off_without_code(&authority);
    Ok(page(status, || view! { <TurnOffPage email=authority.email left code_needed error/> }))
}

/// Turns two-factor off, with a right code of the app; or after a backup code.
#[server(prefix = "", endpoint = "account/two-factor/turn-off")]
pub async fn turn_two_factor_off(#[server(default)] code: String) -> Result<(), FormError> {
    let form = Form::current()?;
    let SignedIn(visitor, authority) = form.admit(routes::TWO_FACTOR_OFF).await?;
    let Some((stepping, cookie)) = stepping(&form, &visitor, &authority) else { return form.see_other(routes::LOGIN) };
    let auth = &form.state.auth;
    let refuse = async |error: TotpError| {
        let page = answer(&form.state, authority.clone(), StatusCode::UNPROCESSABLE_ENTITY, Some(error)).await;
        form.refuse(page.map_err(|fault| form.fail(fault))?)
    };
    let code = if auth.self_service().may_turn_off_without_code(&authority) {
        None
    } else {
        match Code::parse(&code) {
            Ok(code) => Some(code),
            Err(format) => return refuse(format.into()).await,
        }
    };
    match auth.self_service().turn_two_factor_off(stepping, code.as_ref(), visitor.proof(), &form.from).await {
        Ok(()) => {
            form.set_cookie(&cookie);
            form.see_other(routes::ACCOUNT)
        }
        Err(ChangeError::Factor(error)) => {
            match refused(&form, error, &next::carried(routes::REAUTH_BACKUP_CODE, routes::TWO_FACTOR_OFF), totp_field)? {
                Refused::Field(error) => refuse(error).await,
                Refused::Page(page) => form.refuse(page),
                Refused::ClientApplication(path) => form.see_other(path),
            }
        }
        Err(error) => changed(&form, error, routes::TWO_FACTOR_OFF),
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
        assert!(page.contains(r#"href="/reauth/backup-code?next=/account/two-factor/turn-off""#));
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
