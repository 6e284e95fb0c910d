//! `/account/backup-codes`: a new set, shown once.

use auth::{
    factors::backup_code::BackupCode,
    self_service::two_factor::{self, ChangeError},
};
use data_encoding::BASE64;

use crate::pages::{
    account::two_factor::{SETUP_STEPS, changed},
    prelude::*,
    sign_in::login_continue,
};

/// Asks first: the codes of now will stop working.
#[component]
pub fn BackupCodesPage(email: String, left: u64) -> impl IntoView {
    let text = match left {
        0 => "You have none left. The new ones let you in when you don't have your phone.".to_owned(),
        1 => "Your 1 remaining code stops working when you've saved the new ones.".to_owned(),
        n => format!("Your {n} remaining codes stop working when you've saved the new ones."),
    };
    let keep = if left == 0 { "Cancel" } else { "Keep my codes" };
    view! {
        <Settings title="Get new backup codes?" email crumb=Some("Backup codes") help=Some(help::BACKUP_CODES_NEW_SET)>
            <Ask action=routes::BACKUP_CODES button="Get new codes" back=(keep, routes::TWO_FACTOR.to_owned())>
                <p>{text}</p>
            </Ask>
        </Settings>
    }
}

/// The only time these codes are shown. `set` names them when they are said to be saved; `first`: they come with two-factor.
#[component]
pub fn RevealedCodesPage(email: String, codes: Vec<String>, set: String, first: bool, made: OffsetDateTime) -> impl IntoView {
    let download = download(&email, &codes, made);
    let codes = codes.into_iter().map(|code| view! { <li>{code}</li> }).collect_view();
    view! {
        <Settings title="Save your backup codes" email=email.clone() crumb=Some("Backup codes") help=Some(help::BACKUP_CODES_SAVE)>
            {first.then(|| view! {
                <Steps names=SETUP_STEPS current=1/>
                <Notice tone=Tone::Ok title="Two-factor is on.">"We'll ask for a code from your app each time you sign in."</Notice>
            })}
            <div class="panel">
                <div class="body">
                    <p class="paper">{email}<br/>"Made "<DateTime at=made/></p>
                    <p>
                        "If you lose your phone, a backup code lets you in. Each one works once. "
                        <strong>"We won't show these again."</strong>
                    </p>
                    {(!first).then(|| view! { <p class="screen">"Your old codes work until you press Finish."</p> })}
                    <ol class="codes mono">{codes}</ol>
                    <div class="row-actions">
                        <a class="button" href=download download="latchkey-backup-codes.txt"><Icon glyph=Glyph::Download/>"Download (.txt)"</a>
                    </div>
                    <p class="hint screen">"Print this page to keep a paper copy."</p>
                </div>
            </div>
            <form class="below screen" method="post" action=routes::BACKUP_CODES_SAVED>
                <input type="hidden" name="set" value=set/>
                <Saved/>
                <div class="row-actions"><button class="button primary">"Finish"</button></div>
            </form>
        </Settings>
    }
}

/// Shows them. The page is drawn at once and kept nowhere.
pub(crate) fn revealed(email: String, new: &two_factor::NewBackupCodes, first: bool) -> Response {
    let codes = new.codes.iter().map(BackupCode::reveal).collect();
    let (set, made) = (new.set.to_string(), new.made_at);
    page(StatusCode::OK, || view! { <RevealedCodesPage email codes set first made/> })
}

/// "Finish" without the tick. The codes are gone from the page: they are shown once.
#[component]
pub fn UntickedPage(email: String, set: String) -> impl IntoView {
    view! {
        <Settings title="Save your backup codes" email crumb=Some("Backup codes") error=true help=Some(help::BACKUP_CODES_SAVE)>
            <form method="post" action=routes::BACKUP_CODES_SAVED>
                <input type="hidden" name="set" value=set/>
                <Saved error="Tick the box once you've saved your codes. We can't show them again."/>
                <div class="row-actions">
                    <button class="button primary">"Finish"</button>
                    <a class="button" href=routes::BACKUP_CODES>"Get new codes"</a>
                </div>
            </form>
        </Settings>
    }
}

#[component]
fn Saved(#[prop(optional)] error: Option<&'static str>) -> impl IntoView {
    view! {
        <Checkbox name="saved" required=true error>"I've saved these codes somewhere I can reach without my phone"</Checkbox>
    }
}

/// A file inside the page: no second request could show the codes again.
fn download(email: &str, codes: &[String], made: OffsetDateTime) -> String {
    let numbered = codes.iter().zip(1..).map(|(code, n)| format!("{n:>2}. {code}")).collect::<Vec<_>>().join("\n");
    let text = format!(
        "Latchkey backup codes\n\nAccount: {email}\nMade: {}\n\nIf you lose your phone, a backup code lets you in. Each one works once.\n\n{numbered}\n",
        format::date_time(made),
    );
    format!("data:text/plain;charset=utf-8;base64,{}", BASE64.encode(text.as_bytes()))
}

/// Asks first, and for the account's strongest factor before that.
pub async fn get(State(state): State<AppState>, SignedIn(_, authority): SignedIn) -> Answer {
    if !authority.two_factor {
        return see_other(routes::TWO_FACTOR);
    }
    require_fresh(&state, &authority, routes::BACKUP_CODES)?;
    let left = state.auth.self_service().two_factor(&authority).await?.backup_codes.left.unsigned_abs();
    Ok(page(StatusCode::OK, || view! { <BackupCodesPage email=authority.email left/> }))
}

/// Makes a new set. It is shown in this answer and nowhere else, and works once it is said to be saved.
#[server(prefix = "", endpoint = "account/backup-codes", protocol = FormPost)]
pub async fn new_backup_codes() -> Answer {
    let (form, SignedIn(_, authority)) = Form::authorize(routes::BACKUP_CODES).await?;
    match form.state.auth.self_service().new_backup_codes(&authority, &form.from).await {
        Ok(new) => Ok(revealed(authority.email, &new, false)),
        Err(error) => changed(error, routes::BACKUP_CODES),
    }
}

/// "I've saved these codes": from now on they work, and the old ones don't.
#[server(prefix = "", endpoint = "account/backup-codes/saved", protocol = FormPost)]
pub async fn save_backup_codes(#[server(default)] set: String, #[server(default)] saved: String) -> Answer {
    let (form, SignedIn(browser, authority)) = Form::authorize(routes::TWO_FACTOR).await?;
    let Ok(id) = set.parse() else { return see_other(routes::TWO_FACTOR) };
    if saved.is_empty() {
        return Err(page(StatusCode::UNPROCESSABLE_ENTITY, || view! { <UntickedPage email=authority.email set/> }).into());
    }
    match form.state.auth.self_service().save_backup_codes(&authority, id, &form.from).await {
        Err(error @ ChangeError::Unavailable(_)) => changed(error, routes::TWO_FACTOR),
        Ok(()) if browser.visit.after_setup.is_some() => login_continue::back_from_setup(&form, &browser).await,
        // Also for a set that a newer one has replaced: the page says that codes wait to be saved.
        Ok(()) | Err(_) => see_other(routes::TWO_FACTOR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::render::render;
    use time::macros::datetime;

    fn email() -> String {
        "mara@example.org".to_owned()
    }

    fn codes() -> Vec<String> {
        ["k7qd-m2xw-t9hp", "9fhn-t4vc-x3wp"].map(str::to_owned).to_vec()
    }

    fn revealed(first: bool) -> String {
        let (codes, set, made) = (codes(), "7\"><b>".to_owned(), datetime!(2026-11-24 14:29 UTC));
        render(move || view! { <RevealedCodesPage email=email() codes set first made/> })
    }

    #[test]
    fn it_asks_before_it_makes_new_ones() {
        let html = |left| render(move || view! { <BackupCodesPage email=email() left/> });
        assert!(html(2).contains("<title>Get new backup codes? – Latchkey</title>"));
        assert!(html(2).contains("Your 2 remaining codes stop working when you've saved the new ones."));
        assert!(html(2).contains(r#"<form method="post" action="/account/backup-codes" class="body">"#));
        assert!(html(2).contains(">Keep my codes</a>"));
        assert!(html(1).contains("Your 1 remaining code stops working"));
        assert!(html(0).contains("You have none left.") && !html(0).contains("Keep my codes"));
    }

    #[test]
    fn the_download_holds_the_codes_and_says_what_they_are() {
        let html = revealed(true);
        let (_, data) = html.split_once("data:text/plain;charset=utf-8;base64,").expect("a data: link");
        let (data, rest) = data.split_once('"').expect("its end");
        assert!(rest.starts_with(r#" download="latchkey-backup-codes.txt""#), "{rest}");
        let text = String::from_utf8(BASE64.decode(data.as_bytes()).expect("base64")).expect("UTF-8");
        assert_eq!(
            text,
            "Latchkey backup codes\n\nAccount: mara@example.org\nMade: 24 November 2026, 14:29 UTC\n\nIf you lose your phone, a backup code lets you in. Each one works once.\n\n 1. k7qd-m2xw-t9hp\n 2. 9fhn-t4vc-x3wp\n"
        );
    }
}
