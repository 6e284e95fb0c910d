//! `/undo`: takes back what a mail has told of. Only a button does it, it signs nobody in, and it asks for no session: whoever reads
//! the mail may be signed in nowhere, or as somebody else.

use std::time::Duration;

use auth::{
    crypto::{Code, RevertToken},
    factors::backup_code::BackupCode,
    one_time::revert_link::{EMAIL_CHANGE_UNDO, Revert, SESSION_UNDO},
    policy::DELETION_WAIT,
    self_service::revert::{RevertError, RevertState, RevertView, Reverted},
    sign_in::second_factor::{Factor, SecondFactorError},
};
use axum::{
    extract::{Query, State},
    response::{AppendHeaders, IntoResponse, Redirect, Response},
};
use http::{StatusCode, header::SET_COOKIE};
use leptos::prelude::*;
use time::OffsetDateTime;

use crate::{
    components::{BackupCodeField, CodeField, Flow, Masked},
    fault::Fault,
    form::{Form, FormError},
    gate::Anybody,
    help,
    page::page,
    pages::{
        confirm_link::Fact,
        login_backup_code::{BackupCodeError, backup_code_field},
        login_two_factor::{Refused, TotpError, refused, totp_field},
    },
    routes, session,
    state::AppState,
    words::{self, MaskedAddress},
};

/// What would be taken back. Nobody's whole address: a mail is forwarded, and a link in it opened, by others than its owner.
#[derive(Clone, Debug)]
pub enum Question {
    /// `factor`: what has to be entered for it.
    EmailChange { old: MaskedAddress, now: MaskedAddress, factor: Option<AskedFactor> },
    /// `within`: "in 6 days".
    Deletion { address: MaskedAddress, within: String },
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
                {factor.map(|factor| view! { <OtherFactor factor/> })}
            </Flow>
        }
        .into_any(),
        Question::Deletion { address, within } => view! {
            <Flow title="Keep your account?" help=Some(help::TAKE_BACK_A_CHANGE)>
                <p class="lede">
                    "The account of "<span class="whole"><Masked address/></span>" will be deleted "{within}". Keep it, and everything stays as it is."
                </p>
                <form method="post" action=routes::UNDO>
                    <button class="button primary wide">"Keep my account"</button>
                </form>
            </Flow>
        }
        .into_any(),
        Question::SignIn { address, device, ip, ago } => view! {
            <Flow title="Sign that device out?" help=Some(help::ACTIVITY_I_DONT_RECOGNISE)>
                <p class="lede">"It signed in to the account of "<span class="whole"><Masked address/>"."</span></p>
                <dl>
                    <Fact term="Signed in" value=ago/>
                    <Fact term="On" value=device/>
                    <Fact term="From" value=ip/>
                </dl>
                <div class="actions">
                    <form method="post" action=routes::UNDO>
                        <button class="button primary wide">"Sign that device out"</button>
                    </form>
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

#[component]
fn OtherFactor(factor: AskedFactor) -> impl IntoView {
    let help = match factor {
        AskedFactor::App(error) => TotpError::help(error),
        AskedFactor::BackupCode(_) => help::BACKUP_CODES,
    };
    let (title, text, path, label) = match factor {
        AskedFactor::App(_) => (
            "Don't have your phone?",
            "Use one of the backup codes you saved when you turned on two-factor.",
            routes::UNDO_BACKUP_CODE,
            "Use a backup code",
        ),
        AskedFactor::BackupCode(_) => {
            ("Have your phone?", "Each backup code works once, so save them for when you don't.", routes::UNDO, "Use your app")
        }
    };
    view! {
        <hr/>
        <h2 class="h3">{title}</h2>
        <p class="small">{text}</p>
        <div class="row-actions">
            <a class="button" href=path>{label}</a>
            <a class="button ghost" href=help>"Get help"</a>
        </div>
    }
}

/// It was taken back.
#[component]
pub fn UndonePage(undone: Reverted) -> impl IntoView {
    match undone {
        Reverted::EmailChange { email } => {
            let address = MaskedAddress::from(email.as_str());
            view! {
                <Flow title="Your address is back">
                    <p class="lede">"You sign in with "<span class="whole"><Masked address/></span>" again. Every session has ended."</p>
                    <div class="actions">
                        <a class="button primary wide" href=routes::LOGIN_FOR_ACCOUNT>"Sign in"</a>
                    </div>
                    <SomeoneElse/>
                </Flow>
            }
            .into_any()
        }
        Reverted::Deletion => view! {
            <Flow title="Your account stays">
                <p class="lede">"It won't be deleted. You can sign in as before."</p>
                <div class="actions">
                    <a class="button primary wide" href=routes::LOGIN_FOR_ACCOUNT>"Sign in"</a>
                </div>
                <SomeoneElse/>
            </Flow>
        }
        .into_any(),
        Reverted::Session { ended_now } => {
            let text = if ended_now {
                "It can't use your account any more, and it's not a trusted browser."
            } else {
                "It was signed out before. If it signed in again, that's another session: sign in and look for it."
            };
            view! {
                <Flow title="That device is signed out">
                    <p class="lede">{text}</p>
                    <div class="actions">
                        <a class="button primary wide" href=routes::LOGIN_FOR_ACCOUNT>"Review your sessions"</a>
                    </div>
                    <SomeoneElse/>
                </Flow>
            }
            .into_any()
        }
    }
}

/// Whoever did it could, and still can.
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

/// Why a link takes nothing back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadUndo {
    Used(Revert),
    /// There is nothing left to take back.
    Overtaken(Revert),
    Expired(Revert),
    Broken,
}

#[component]
pub fn DeadUndoPage(why: DeadUndo) -> impl IntoView {
    let days = |lifetime: Duration| words::count(lifetime.as_secs() / 86_400, "day");
    let (title, text) = match why {
        DeadUndo::Used(undoes) => (
            "This link has already been used",
            match undoes {
                Revert::EmailChange => "The change of address was taken back. Sign in with the address this email went to.",
                Revert::Deletion => "The account stays. You can sign in as before.",
                Revert::Session(_) => {
                    "That device is signed out. If you don't recognise another one, sign it out on your account's page."
                }
            }
            .to_owned(),
        ),
        DeadUndo::Overtaken(undoes) => (
            "There's nothing to take back",
            match undoes {
                Revert::Deletion => "The account already stays. You can sign in as before.",
                Revert::EmailChange | Revert::Session(_) => {
                    "An earlier change of address was taken back, and this one with it. Sign in with the address from before."
                }
            }
            .to_owned(),
        ),
        DeadUndo::Expired(undoes) => (
            "This link has expired",
            match undoes {
                Revert::EmailChange => format!(
                    "A change of address can be taken back for {}. This one is older than that. If it wasn't you, ask whoever runs this service.",
                    words::count(EMAIL_CHANGE_UNDO.as_secs() / 3_600, "hour")
                ),
                Revert::Deletion => {
                    format!(
                        "An account can be kept for {} after its deletion was asked for. That time is over.",
                        days(DELETION_WAIT)
                    )
                }
                Revert::Session(_) => {
                    format!("It worked for {}. Sign in, and sign out every session you don't recognise.", days(SESSION_UNDO))
                }
            },
        ),
        DeadUndo::Broken => {
            ("This link doesn't work", "It may have been cut short when it was copied. Open it from the email again.".to_owned())
        }
    };
    view! {
        <Flow title>
            <p class="lede">{text}</p>
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
    Anybody(visitor): Anybody,
) -> Result<Response, Fault> {
    if let Some(token) = token {
        let Some(token) = RevertToken::parse(&token) else { return Ok(dead(DeadUndo::Broken)) };
        let cookie = session::undo(&token).to_string();
        return Ok((AppendHeaders([(SET_COOKIE, cookie)]), Redirect::to(routes::UNDO)).into_response());
    }
    let Some(token) = &visitor.undo else { return Ok(dead(DeadUndo::Broken)) };
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
        RevertState::Used(undoes) => dead(DeadUndo::Used(undoes)),
        RevertState::Closed(undoes) => dead(DeadUndo::Overtaken(undoes)),
        RevertState::Expired(undoes) => dead(DeadUndo::Expired(undoes)),
        RevertState::Unknown => dead(DeadUndo::Broken),
    }
}

fn question(now: OffsetDateTime, view: RevertView, factor: AskedFactor) -> Question {
    match view {
        RevertView::EmailChange { old, now, factor_needed } => {
            Question::EmailChange { old: old.as_str().into(), now: now.as_str().into(), factor: factor_needed.then_some(factor) }
        }
        RevertView::Deletion { email, deletes_at } => Question::Deletion {
            address: email.as_str().into(),
            within: words::within((deletes_at - now).try_into().unwrap_or_default()),
        },
        RevertView::Session { email, device, ip, at } => Question::SignIn {
            address: email.as_str().into(),
            device,
            ip: ip.map(|ip| ip.to_string()).unwrap_or_default(),
            ago: words::ago((now - at).try_into().unwrap_or_default()),
        },
    }
}

fn dead(why: DeadUndo) -> Response {
    let status = if why == DeadUndo::Broken { StatusCode::NOT_FOUND } else { StatusCode::GONE };
    page(status, || view! { <DeadUndoPage why/> })
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
                Err(format) => Err(AskedFactor::BackupCode(Some(format.into()))),
            };
        }
        match Code::parse(text) {
            Ok(code) => Ok(Self::App(code)),
            Err(format) => Err(AskedFactor::App(Some(format.into()))),
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
#[server(prefix = "", endpoint = "undo")]
pub async fn take_back(#[server(default)] code: String, #[server(default)] with: String) -> Result<(), FormError> {
    let form = Form::current()?;
    let visitor = form.anybody().await?;
    let Some(token) = &visitor.undo else { return form.refuse(dead(DeadUndo::Broken)) };
    let auth = &form.state.auth;
    let link = auth.self_service().peek_revert(token).await.map_err(|error| form.fail(error.into()))?;
    let refuse = |factor| form.refuse(answer(&form.state, StatusCode::UNPROCESSABLE_ENTITY, link.clone(), factor));
    let entered = match &link {
        RevertState::Live(RevertView::EmailChange { factor_needed: true, .. }) => match Entered::read(&code, &with) {
            Ok(entered) => entered,
            Err(factor) => return refuse(factor),
        },
        _ => Entered::Nothing,
    };
    match auth.self_service().revert(token, entered.factor(), visitor.proof(), &form.from).await {
        Ok(undone) => form.reveal(|| view! { <UndonePage undone/> }),
        Err(RevertError::NotLive(link)) => form.refuse(answer(&form.state, StatusCode::GONE, link, AskedFactor::App(None))),
        // Two-factor was turned on or off this very moment: the page shows what is asked for now.
        Err(RevertError::FactorNeeded | RevertError::Factor(SecondFactorError::NotEnrolled)) => form.see_other(routes::UNDO),
        Err(RevertError::Factor(error)) => {
            let field = |error: &SecondFactorError| match entered {
                Entered::BackupCode(_) => backup_code_field(error).map(|error| AskedFactor::BackupCode(Some(error))),
                Entered::App(_) | Entered::Nothing => totp_field(error).map(|error| AskedFactor::App(Some(error))),
            };
            match refused(&form, error, routes::UNDO_BACKUP_CODE, field)? {
                Refused::Field(factor) => refuse(factor),
                Refused::Page(page) => form.refuse(page),
                Refused::ClientApplication(path) => form.see_other(path),
            }
        }
        Err(RevertError::Unavailable(error)) => Err(form.fail(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::render;

    fn html(question: Question) -> String {
        render(move || view! { <UndoPage question/> })
    }

    fn change(factor: Option<AskedFactor>) -> String {
        html(Question::EmailChange { old: "mara@example.org".into(), now: "mallory@example.net".into(), factor })
    }

    #[test]
    fn a_change_of_address_names_both_and_neither_whole() {
        let html = change(None);
        assert!(html.contains("<title>Take back the change of address? – Latchkey</title>"));
        assert!(html.contains("m•••••@example.net") && html.contains("m•••••@example.org"));
        assert!(!html.contains("mara") && !html.contains("mallory"));
        assert!(html.contains(r#"<button class="button primary wide">Take it back</button>"#));
        assert!(html.contains("Every session of the account ends") && !html.contains(r#"name="code""#));
    }

    #[test]
    fn with_two_factor_it_asks_for_the_app_or_a_backup_code() {
        let app = change(Some(AskedFactor::App(None)));
        assert!(app.contains(r#"inputmode="numeric""#) && app.contains(r#"href="/undo?with=backup-code""#));
        assert!(!app.contains(r#"name="with""#));
        let backup = change(Some(AskedFactor::BackupCode(Some(BackupCodeError::AlreadyUsed))));
        assert!(backup.contains(r#"<input type="hidden" name="with" value="backup-code">"#));
        assert!(
            backup.contains("You've already used that backup code.")
                && backup.contains(r#"<a href="/undo" class="button">Use your app"#)
        );
        assert!(backup.contains("<title>Error: Take back"));
        let wrong = change(Some(AskedFactor::App(Some(TotpError::Wrong { left: 3 }))));
        assert!(wrong.contains("You have 3 tries left.") && wrong.contains("<title>Error: Take back"));
    }

    #[test]
    fn a_sign_in_and_a_deletion_say_what_they_were() {
        let device = html(Question::SignIn {
            address: "mara@example.org".into(),
            device: "<b>".to_owned(),
            ip: "192.0.2.188".to_owned(),
            ago: "2 minutes ago".to_owned(),
        });
        assert!(device.contains("<h1>Sign that device out?</h1>") && device.contains("<dd>192.0.2.188</dd>"));
        assert!(device.contains("&lt;b&gt;") && !device.contains("<b>"));
        assert!(device.contains("If it was you, close this page: nothing happens."));
        let stay = html(Question::Deletion { address: "mara@example.org".into(), within: "in 6 days".to_owned() });
        assert!(stay.contains("<h1>Keep your account?</h1>") && stay.contains("will be deleted in 6 days."));
        assert!(stay.contains(r#"<button class="button primary wide">Keep my account</button>"#));
    }

    #[test]
    fn what_was_done_leads_on() {
        for (undone, title) in [
            (Reverted::EmailChange { email: "mara@example.org".to_owned() }, "Your address is back"),
            (Reverted::Deletion, "Your account stays"),
            (Reverted::Session { ended_now: true }, "That device is signed out"),
            (Reverted::Session { ended_now: false }, "That device is signed out"),
        ] {
            let html = render(move || view! { <UndonePage undone/> });
            assert!(html.contains(&format!("<h1>{title}</h1>")) && !html.contains("mara@"));
            assert!(html.contains(r#"href="/login?next=/account" class="button primary wide">"#));
            assert!(html.contains("Secure your inbox first") && html.contains("/help/activity-i-dont-recognise#not-you"));
        }
    }

    #[test]
    fn every_dead_link_says_why_and_has_a_way_on() {
        let session = Revert::Session(uuid::Uuid::nil());
        for (why, title, words) in [
            (
                DeadUndo::Used(Revert::EmailChange),
                "This link has already been used",
                "Sign in with the address this email went to.",
            ),
            (DeadUndo::Used(Revert::Deletion), "This link has already been used", "The account stays."),
            (DeadUndo::Used(session), "This link has already been used", "That device is signed out."),
            (
                DeadUndo::Overtaken(Revert::EmailChange),
                "There's nothing to take back",
                "An earlier change of address was taken back",
            ),
            (DeadUndo::Overtaken(Revert::Deletion), "There's nothing to take back", "The account already stays."),
            (DeadUndo::Expired(Revert::EmailChange), "This link has expired", "can be taken back for 72 hours."),
            (DeadUndo::Expired(Revert::Deletion), "This link has expired", "can be kept for 7 days"),
            (DeadUndo::Expired(session), "This link has expired", "It worked for 7 days."),
            (DeadUndo::Broken, "This link doesn't work", "Open it from the email again."),
        ] {
            let html = render(move || view! { <DeadUndoPage why/> });
            assert!(html.contains(&format!("<h1>{title}</h1>")) && html.contains(words), "{words}");
            assert!(html.contains(r#"href="/login?next=/account" class="button primary wide">Sign in"#) && !html.contains("<form"));
        }
    }
}
