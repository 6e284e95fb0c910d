//! `/account`: how someone signs in, and where they are signed in.

use auth::event::{Method, SecondFactor};
use axum::{extract::State, response::Response};
use http::StatusCode;
use leptos::prelude::*;
use time::OffsetDateTime;

use crate::{
    components::{Badge, BadgeKind, Date, DateTime, Glyph, Notice, Row, Settings, Tone},
    fault::Fault,
    gate::SignedIn,
    page::page,
    pages::two_factor::{self, AuthenticatorApp, BackupCodes, BackupCodesRow, FEW_CODES, TrustedBrowsersRow, TwoFactorSummary},
    routes,
    state::AppState,
    words,
};

/// How a session was signed in.
fn how(method: Method, second: Option<SecondFactor>) -> String {
    let first = match method {
        Method::Link => "an email link",
        Method::Code => "an email code",
    };
    let then = match second {
        None => return first.to_owned(),
        Some(SecondFactor::Totp) => ", then your authenticator app",
        Some(SecondFactor::BackupCode) => ", then a backup code",
        Some(SecondFactor::TrustedDevice) => ", in a browser you trust",
    };
    format!("{first}{then}")
}

/// The session that asks.
#[derive(Clone, Debug)]
pub struct ThisSession {
    pub since: OffsetDateTime,
    pub method: Method,
    pub second: Option<SecondFactor>,
    pub device: String,
    pub ip: String,
}

#[component]
pub fn AccountPage(email: String, admin: bool, session: ThisSession, two_factor: TwoFactorSummary) -> impl IntoView {
    let ThisSession { since, method, second, device, ip } = session;
    let badge = admin.then(|| view! { <Badge text="Admin"/> }.into_any());
    let here = view! { <Badge text="This device"/> }.into_any();
    view! {
        <Settings title="Security" email=email.clone() badge>
            <Warnings apps=two_factor.apps.clone() codes=two_factor.codes.clone()/>
            <section class="panel">
                <h2>"How you sign in"</h2>
                <Row glyph=Glyph::Mail heading="Email">
                    <p class="whole">{email}</p>
                    <p class="hint">"A link and a code by email"</p>
                </Row>
                <TwoFactorRows two_factor/>
            </section>
            <section class="panel">
                <h2>"Where you're signed in"</h2>
                <Row glyph=Glyph::for_device(&device) heading=device badge=Some(here)>
                    <p>{ip}" · Active now"</p>
                    <p class="hint">
                        "Signed in "<DateTime at=since/>" with "{how(method, second)}
                    </p>
                </Row>
            </section>
        </Settings>
    }
}

/// What could lock someone out, before it does.
#[component]
fn Warnings(apps: Vec<AuthenticatorApp>, codes: Option<BackupCodes>) -> impl IntoView {
    let stopped = apps.into_iter().filter(|app| app.stopped).map(|app| {
        let actions = view! { <a class="button sm" href=routes::TWO_FACTOR>"Manage two-factor"</a> }.into_any();
        view! {
            <Notice tone=Tone::Danger title=format!("We've stopped accepting codes from {}.", app.name) actions=Some(actions)>
                "There were too many wrong ones. It still works in browsers you've signed in with before."
            </Notice>
        }
    });
    let codes = codes.and_then(|BackupCodes { left, saved, .. }| {
        let (tone, title, text) = match left {
            _ if !saved => (
                Tone::Warn,
                "You haven't saved your backup codes.".to_owned(),
                "We can't show them again, and you'll need one if you lose your phone.",
            ),
            0 => (Tone::Danger, "No backup codes left.".to_owned(), "If you lose your phone, you can't sign in."),
            1..=FEW_CODES => (
                Tone::Warn,
                format!("{} left.", words::count(left, "backup code")),
                "Get a new set before you run out. The old codes will stop working.",
            ),
            _ => return None,
        };
        let actions = view! { <a class="button sm" href=routes::BACKUP_CODES>"Get new codes"</a> }.into_any();
        Some(view! { <Notice tone title actions=Some(actions)>{text}</Notice> })
    });
    view! {
        {stopped.collect_view()}
        {codes}
    }
}

#[component]
fn TwoFactorRows(two_factor: TwoFactorSummary) -> impl IntoView {
    if !two_factor.is_on() {
        let badge = view! { <Badge kind=BadgeKind::Off text="Off"/> }.into_any();
        let action = view! {
            <form method="post" action=routes::TWO_FACTOR_SETUP_START>
                <button class="button sm">"Set up"<span class="vh">" two-factor"</span></button>
            </form>
        }
        .into_any();
        return view! {
            <Row glyph=Glyph::Shield heading="Two-factor" badge=Some(badge) action=Some(action)>
                <p>"A code from an app on your phone, besides the email"</p>
            </Row>
        }
        .into_any();
    }
    let TwoFactorSummary { apps, codes, trusted } = two_factor;
    let badge = view! { <Badge kind=BadgeKind::Ok text="On"/> }.into_any();
    let action =
        view! { <a class="button sm" href=routes::TWO_FACTOR>"Manage"<span class="vh">" two-factor"</span></a> }.into_any();
    let apps = apps.into_iter().map(|app| view! { <p>{app.name}", added "<Date at=app.added/></p> }).collect_view();
    view! {
        <Row glyph=Glyph::Shield heading="Two-factor" badge=Some(badge) action=Some(action)>{apps}</Row>
        <BackupCodesRow codes/>
        {trusted.map(|count| view! { <TrustedBrowsersRow count/> })}
    }
    .into_any()
}

pub async fn get(State(state): State<AppState>, SignedIn(_, authority): SignedIn) -> Result<Response, Fault> {
    let two_factor = two_factor::summary(&state, &authority).await?;
    let session = ThisSession {
        since: authority.authenticated_at,
        method: authority.method,
        second: authority.second,
        device: authority.device,
        ip: authority.ip.to_string(),
    };
    let (email, admin) = (authority.email, authority.admin);
    Ok(page(StatusCode::OK, || view! { <AccountPage email admin session two_factor/> }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::render;
    use time::macros::datetime;

    fn html(email: &str, admin: bool, device: &str) -> String {
        with(email, admin, device, TwoFactorSummary::default())
    }

    fn with(email: &str, admin: bool, device: &str, two_factor: TwoFactorSummary) -> String {
        let session = ThisSession {
            since: datetime!(2026-11-24 14:29 UTC),
            method: Method::Code,
            second: None,
            device: device.to_owned(),
            ip: "203.0.113.24".to_owned(),
        };
        let email = email.to_owned();
        render(|| view! { <AccountPage email admin session two_factor/> })
    }

    #[test]
    fn it_shows_the_address_and_this_session() {
        let html = html("mara@example.org", false, "Firefox on Windows");
        assert!(html.contains("<title>Security – Latchkey</title>") && html.contains("<h1>Security</h1>"));
        assert!(html.contains("mara@example.org"));
        assert!(html.contains(r#"<span class="badge">This device</span>"#));
        assert!(
            html.contains(r#"Signed in <time datetime="2026-11-24T14:29Z">24 November 2026, 14:29 UTC</time> with an email code"#)
        );
        assert!(html.contains(r#"<form method="post" action="/logout">"#));
        assert!(html.contains(r#"<a href="/account" aria-current="page">Security</a>"#));
        assert!(!html.contains("Admin"));
    }

    #[test]
    fn an_admin_sees_that_they_are_one() {
        assert!(html("mara@example.org", true, "").contains(r#"<span class="badge">Admin</span>"#));
    }

    fn two_factor(left: u64, saved: bool, stopped: bool) -> TwoFactorSummary {
        let added = datetime!(2026-11-03 10:00 UTC);
        TwoFactorSummary {
            apps: vec![AuthenticatorApp { id: "7".to_owned(), name: "<i>".to_owned(), added, last_used: None, stopped }],
            codes: Some(BackupCodes { left, total: 10, made: added, last_used: None, saved }),
            trusted: Some(1),
        }
    }

    #[test]
    fn two_factor_can_be_set_up_or_managed() {
        let off = html("mara@example.org", false, "");
        assert!(
            off.contains(r#"<span class="badge off">Off</span>"#) && off.contains(r#"action="/account/two-factor/setup/start""#)
        );
        assert!(!off.contains("Backup codes") && !off.contains("Trusted browsers") && !off.contains("class=\"notice"));
        let on = with("mara@example.org", false, "", two_factor(10, true, false));
        assert!(on.contains(r#"<span class="badge ok">On</span>"#) && on.contains(r#"href="/account/two-factor""#));
        assert!(on.contains(r#"&lt;i&gt;, added <time datetime="2026-11-03">3 November 2026</time>"#) && !on.contains("<i>"));
        assert!(on.contains("10 of 10 left") && on.contains("1 browser doesn't ask for a code."));
        assert!(!on.contains("class=\"notice"));
    }

    #[test]
    fn what_could_lock_someone_out_is_said_first() {
        let page = |left, saved, stopped| with("mara@example.org", false, "", two_factor(left, saved, stopped));
        assert!(!page(4, true, false).contains("class=\"notice"));
        assert!(page(3, true, false).contains("<strong>3 backup codes left.</strong>"));
        assert!(page(1, true, false).contains("<strong>1 backup code left.</strong>"));
        assert!(page(0, true, false).contains("<strong>No backup codes left.</strong>"));
        assert!(page(10, false, false).contains("<strong>You haven't saved your backup codes.</strong>"));
        let stopped = page(10, true, true);
        assert!(stopped.contains("<strong>We've stopped accepting codes from &lt;i&gt;.</strong>"));
        assert!(stopped.contains(r#"class="notice danger""#));
    }

    #[test]
    fn address_and_device_are_text() {
        let html = html("<b>@example.org", false, "<script>");
        assert!(!html.contains("<b>") && !html.contains("<script"));
    }
}
