//! `/account/two-factor/setup`: from an app that knows nothing of us to the first code of it.

use auth::{crypto::Code, identity::Authority, self_service::two_factor::ChangeError};

use crate::{
    pages::{
        account::{
            backup_codes::revealed,
            reauth::step_up_session,
            two_factor::{SETUP_STEPS, changed, is_required},
        },
        prelude::*,
        sign_in::login_two_factor::TotpError,
    },
    ui::qr::Qr,
};

/// How far it has come.
#[derive(Clone, Debug)]
pub enum SetupStage {
    /// Nothing is begun, or was begun too long ago.
    Start,
    Scan(Scan),
}

/// An app's secret in three forms, and what was entered so far.
#[derive(Clone, Debug)]
pub struct Scan {
    /// `otpauth://…`
    pub uri: String,
    /// The same, drawn.
    pub qr: Qr,
    /// The secret in base32.
    pub key: String,
    /// When the page was made, by our clock.
    pub server_time: OffsetDateTime,
    /// What the app is to be called.
    pub name: String,
    pub error: Option<TotpError>,
}

impl TotpError {
    /// The first code of an app has no earlier ones that were right, so the clock is the likeliest fault.
    fn setup_text(self) -> String {
        match self {
            Self::Wrong { .. } => {
                "That code isn't right. Check that your phone's clock sets itself, then try the next code.".to_owned()
            }
            _ => self.text(),
        }
    }
}

/// `another`: two-factor is on, and this app joins one. `required`: nothing else can be done before this.
#[component]
pub fn TwoFactorSetupPage(email: String, another: bool, required: bool, stage: SetupStage) -> impl IntoView {
    let title = if another { "Add another app" } else { "Set up two-factor" };
    let help = match (&stage, another) {
        (SetupStage::Scan(Scan { error: Some(_), .. }), _) => help::CODES_ALWAYS_WRONG_SETUP,
        (SetupStage::Scan(_), true) => help::NEW_PHONE,
        (SetupStage::Scan(_), false) => help::TURN_ON_TWO_FACTOR,
        (SetupStage::Start, _) if required => help::TWO_FACTOR,
        (SetupStage::Start, _) => help::CHOOSE_AN_APP,
    };
    let error = match &stage {
        SetupStage::Scan(scan) => scan.error.map(TotpError::setup_text),
        SetupStage::Start => None,
    };
    let content = match stage {
        SetupStage::Start => view! {
            <Ask action=routes::TWO_FACTOR_SETUP_START button=title>
                <p>
                    "Have an authenticator app at hand. Any app that makes 6-digit codes will work, including the one in your phone's password settings."
                </p>
            </Ask>
        }
        .into_any(),
        SetupStage::Scan(scan) => {
            let button = if another { "Add this app" } else { "Turn on two-factor" };
            view! { <ScanPanel scan error=error.clone() button can_cancel=!required/> }.into_any()
        }
    };
    view! {
        <Settings title email crumb=(!required).then_some(title) error=error.is_some() help=Some(help)>
            {error.clone().map(|text| view! { <ErrorSummary errors=vec![("code", text)]/> })}
            {(!another).then(|| view! { <Steps names=SETUP_STEPS current=0/> })}
            {required.then(|| view! {
                <Notice tone=Tone::Info title="Two-factor comes first.">
                    "This service requires it on your account before anything else."
                </Notice>
            })}
            {content}
        </Settings>
    }
}

#[component]
fn ScanPanel(scan: Scan, error: Option<String>, button: &'static str, can_cancel: bool) -> impl IntoView {
    let Scan { uri, qr, key, server_time, name, .. } = scan;
    view! {
        <div class="panel">
            <section class="body">
                <h2>"Add Latchkey to your authenticator app"</h2>
                <p class="hint">
                    "Any app that makes 6-digit codes will work, including the one in your phone's password settings."
                </p>
                <div class="on-phone">
                    <a class="button wide" href=uri.clone()><Icon glyph=Glyph::Open/>"Open in an app on this phone"</a>
                    <p class="hint">"Or scan this from another device."</p>
                </div>
                <div class="scan">
                    <div class="qr" inner_html=qr.into_svg()></div>
                    <div>
                        <h3>"Can't scan it?"</h3>
                        <p class="hint">"Type this key into your app instead."</p>
                        <CopyBlock heading="Setup key" value=in_fours(&key) hint="Time-based, 6 digits. Keep it secret."/>
                        <p class="on-computer"><a href=uri>"Open in an app on this computer"</a></p>
                    </div>
                </div>
            </section>
            <form class="body" method="post" action=routes::TWO_FACTOR_SETUP novalidate>
                <TextField
                    id="name" label="Name of this app" hint="It tells two apps apart, if you add another." value=name maxlength=40
                />
                <CodeField label="Code from your app" hint="The 6 digits it shows for Latchkey now." error summarised=true/>
                <p class="hint">
                    "Codes depend on the time. Our clock said "
                    <time datetime=format::machine_time(server_time)>{format::clock(server_time)}</time>
                    " when this page opened."
                </p>
                <div class="row-actions">
                    <button class="button primary">{button}</button>
                    {can_cancel.then(|| view! { <a class="button ghost" href=routes::TWO_FACTOR>"Cancel"</a> })}
                </div>
            </form>
        </div>
    }
}

/// "K5QW 4Z3B": as it is read and typed.
fn in_fours(key: &str) -> String {
    let characters: Vec<char> = key.chars().collect();
    characters.chunks(4).map(String::from_iter).collect::<Vec<_>>().join(" ")
}

/// The set-up under way, if one is. Only after the account's strongest factor: the page holds a secret.
pub async fn get(State(state): State<AppState>, Enrolling(_, authority): Enrolling) -> Answer {
    require_fresh(&state, &authority, routes::TWO_FACTOR_SETUP)?;
    answer(&state, authority, StatusCode::OK, DEFAULT_NAME.to_owned(), None).await
}

/// An app's name where its owner gives none.
const DEFAULT_NAME: &str = "Authenticator app";

fn named(typed: &str) -> &str {
    if typed.chars().all(|c| c.is_whitespace() || c.is_control()) { DEFAULT_NAME } else { typed }
}

async fn answer(state: &AppState, authority: Authority, status: StatusCode, name: String, error: Option<TotpError>) -> Answer {
    let progress = match state.auth.self_service().two_factor_setup(&authority).await? {
        None => SetupStage::Start,
        Some(secret) => {
            let uri = secret.uri(&authority.email).to_string();
            let qr = Qr::of(&uri).expect("an address of at most 254 characters fits");
            SetupStage::Scan(Scan { uri, qr, key: secret.base32().to_string(), server_time: state.auth.now(), name, error })
        }
    };
    let another = authority.two_factor;
    let required = !another && is_required(state, &authority);
    Ok(page(status, || view! { <TwoFactorSetupPage email=authority.email another required stage=progress/> }))
}

/// Makes the secret of a new app.
#[server(prefix = "", endpoint = "account/two-factor/setup/start", protocol = FormPost)]
pub async fn start_two_factor_setup() -> Answer {
    let (form, Enrolling(_, authority)) = Form::authorize(routes::TWO_FACTOR_SETUP).await?;
    match form.state.auth.self_service().start_two_factor_setup(&authority, &form.from).await {
        Ok(()) => see_other(routes::TWO_FACTOR_SETUP),
        Err(error) => changed(error, routes::TWO_FACTOR_SETUP),
    }
}

/// Puts the app in use whose first code this is. With the first app come the backup codes, in this answer and nowhere else.
#[server(prefix = "", endpoint = "account/two-factor/setup", protocol = FormPost)]
pub async fn confirm_two_factor_setup(#[server(default)] code: String, #[server(default)] name: String) -> Answer {
    let (form, Enrolling(browser, authority)) = Form::authorize(routes::TWO_FACTOR_SETUP).await?;
    let (step_up_session, cookie) = step_up_session(&form, &browser, &authority)?;
    let refuse = async |error: TotpError| -> Answer {
        let page = answer(&form.state, authority.clone(), StatusCode::UNPROCESSABLE_ENTITY, name.clone(), Some(error));
        Err(page.await?.into())
    };
    let code = match Code::parse(&code) {
        Ok(code) => code,
        Err(format) => return refuse(TotpError::Format(format)).await,
    };
    match form.state.auth.self_service().confirm_two_factor_setup(step_up_session, &code, named(&name), &form.from).await {
        Ok(codes) => {
            form.set_cookie(&cookie);
            codes.map_or_else(|| see_other(routes::TWO_FACTOR), |new| Ok(revealed(authority.email.clone(), &new, true)))
        }
        Err(ChangeError::WrongCode) => refuse(TotpError::Wrong { left: 0 }).await,
        Err(ChangeError::Clock { steps }) => refuse(TotpError::clock(steps)).await,
        Err(error) => changed(error, routes::TWO_FACTOR_SETUP),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::render::render;
    use time::macros::datetime;

    const URI: &str = "otpauth://totp/Latchkey:mara%40example.org?secret=K5QW4Z3BMRTGQ2LN&issuer=Latchkey";

    fn scan(error: Option<TotpError>) -> SetupStage {
        SetupStage::Scan(Scan {
            uri: URI.to_owned(),
            qr: Qr::of(URI).expect("short enough"),
            key: "K5QW4Z3BMRTGQ2LN".to_owned(),
            server_time: datetime!(2026-11-24 14:29:40 UTC),
            name: "Phone\"><b>".to_owned(),
            error,
        })
    }

    fn html(another: bool, required: bool, stage: SetupStage) -> String {
        render(move || view! { <TwoFactorSetupPage email="mara@example.org".to_owned() another required stage/> })
    }

    #[test]
    fn a_name_is_kept_and_is_text() {
        let html = html(false, false, scan(Some(TotpError::Format(auth::crypto::CodeFormat::Missing))));
        assert!(html.contains(r#"value="Phone&quot;&gt;&lt;b&gt;""#) && !html.contains("<b>"));
    }

    #[test]
    fn keys_are_read_in_fours() {
        assert_eq!(in_fours("ABCDEFGHIJ"), "ABCD EFGH IJ");
        assert_eq!(in_fours(""), "");
    }
}
