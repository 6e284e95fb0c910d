//! `/account/devices`: the browsers that do without the second step.

use auth::factors::trusted_device::MOST_SHOWN;
use axum::{
    extract::State,
    response::{IntoResponse, Redirect, Response},
};
use http::StatusCode;
use leptos::prelude::*;
use time::OffsetDateTime;

use crate::{
    components::{Badge, Date, DateTime, Glyph, Row, Settings},
    fault::Fault,
    form::{Form, FormError},
    gate::SignedIn,
    help,
    page::page,
    pages::login_two_factor::trust_days,
    routes,
    state::AppState,
    words,
};

#[derive(Clone, Debug)]
pub struct TrustedDevice {
    pub id: String,
    /// "Firefox on Windows"
    pub name: String,
    pub ip: String,
    pub added: OffsetDateTime,
    pub last_used: Option<OffsetDateTime>,
    pub until: OffsetDateTime,
    /// The browser that asks.
    pub here: bool,
}

/// `days`: how long a browser is trusted.
#[component]
pub fn DevicesPage(email: String, days: u64, devices: Vec<TrustedDevice>) -> impl IntoView {
    let count = devices.len();
    let rows = devices.into_iter().map(|device| view! { <DeviceRow device/> }).collect_view();
    let content = if count == 0 {
        view! {
            <div class="panel">
                <div class="empty">
                    <h2 class="h3">"No trusted browsers"</h2>
                    <p>"Every browser asks for a code. Those where you choose not to be asked will show up in this list."</p>
                </div>
            </div>
        }
        .into_any()
    } else {
        view! {
            <h2 class="vh">"Browsers"</h2>
            <div class="panel">{rows}</div>
            {(count == usize::from(MOST_SHOWN)).then(|| view! { <p class="hint">{format!("The {MOST_SHOWN} newest are shown.")}</p> })}
            {(count > 1).then(|| view! {
                <section class="below">
                    <h2>"Stop trusting all"</h2>
                    <p class="small">"All of them will ask for a code the next time you sign in."</p>
                    <form class="row-actions" method="post" action=routes::DEVICES_REVOKE_ALL>
                        <button class="button">"Stop trusting all"</button>
                    </form>
                </section>
            })}
        }
        .into_any()
    };
    view! {
        <Settings title="Trusted browsers" email crumb=Some("Trusted browsers") help=Some(help::TRUSTED_BROWSERS)>
            <p class="lede">
                "These don't ask for a code for "{words::count(days, "day")}" after you tick the box. Stop trusting any you don't recognise."
            </p>
            {content}
        </Settings>
    }
}

#[component]
fn DeviceRow(device: TrustedDevice) -> impl IntoView {
    let TrustedDevice { id, name, ip, added, last_used, until, here } = device;
    let badge = here.then(|| view! { <Badge text="This browser"/> }.into_any());
    let row = name.clone();
    let action = view! {
        <form method="post" action=routes::DEVICES_REVOKE>
            <input type="hidden" name="id" value=id/>
            <button class="button sm">"Stop trusting"<span class="vh">" "{row}</span></button>
        </form>
    }
    .into_any();
    view! {
        <Row glyph=Glyph::for_device(&name) heading=name badge action=Some(action)>
            <p class="whole">{ip}</p>
            <p class="hint">
                "Trusted from "<Date at=added/>" until "<Date at=until/>"."
                {last_used.map(|at| view! { " Last used "<DateTime at/>"." })}
            </p>
        </Row>
    }
}

pub async fn get(State(state): State<AppState>, SignedIn(visitor, authority): SignedIn) -> Result<Response, Fault> {
    let Some(days) = trust_days(&state) else { return Ok(Redirect::to(routes::TWO_FACTOR).into_response()) };
    let devices = state.auth.factors().trusted_devices(&authority, visitor.trusted()).await?;
    let devices = devices
        .into_iter()
        .map(|device| TrustedDevice {
            id: device.id.to_string(),
            name: device.device,
            ip: device.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            added: device.added_at,
            last_used: (device.last_used_at > device.added_at).then_some(device.last_used_at),
            until: device.expires_at,
            here: device.here,
        })
        .collect();
    Ok(page(StatusCode::OK, || view! { <DevicesPage email=authority.email days devices/> }))
}

/// Takes trust back from one browser. One that is not the account's is none.
#[server(prefix = "", endpoint = "account/devices/revoke")]
pub async fn revoke_device(#[server(default)] id: String) -> Result<(), FormError> {
    let form = Form::current()?;
    let SignedIn(_, authority) = form.admit(routes::DEVICES).await?;
    if let Ok(id) = id.parse() {
        let revoked = form.state.auth.factors().revoke_trusted_device(&authority, id, &form.from).await;
        revoked.map_err(|error| form.fail(error.into()))?;
    }
    form.see_other(routes::DEVICES)
}

/// Takes trust back from all.
#[server(prefix = "", endpoint = "account/devices/revoke-all")]
pub async fn revoke_all_devices() -> Result<(), FormError> {
    let form = Form::current()?;
    let SignedIn(_, authority) = form.admit(routes::DEVICES).await?;
    form.state.auth.factors().revoke_trusted_devices(&authority, &form.from).await.map_err(|error| form.fail(error.into()))?;
    form.see_other(routes::DEVICES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::render;
    use time::macros::datetime;

    fn device(id: &str, name: &str, here: bool) -> TrustedDevice {
        TrustedDevice {
            id: id.to_owned(),
            name: name.to_owned(),
            ip: "203.0.113.24".to_owned(),
            added: datetime!(2026-11-03 10:00 UTC),
            last_used: Some(datetime!(2026-11-24 14:29 UTC)),
            until: datetime!(2026-12-03 10:00 UTC),
            here,
        }
    }

    fn html(devices: Vec<TrustedDevice>) -> String {
        render(move || view! { <DevicesPage email="mara@example.org".to_owned() days=30 devices/> })
    }

    #[test]
    fn every_browser_has_a_button_that_names_it() {
        let html = html(vec![device("7", "Firefox on Windows", true), device("8", "<b>", false)]);
        assert!(html.contains("<title>Trusted browsers – Latchkey</title>"));
        assert!(html.contains(r#"<span class="badge">This browser</span>"#) && html.matches(r#"class="badge"#).count() == 1);
        assert!(html.contains(
            r#"<form method="post" action="/account/devices/revoke"><input type="hidden" name="id" value="7"><button class="button sm">Stop trusting<span class="vh"> Firefox on Windows</span></button>"#
        ));
        assert!(html.contains(r#"Trusted from <time datetime="2026-11-03">3 November 2026</time> until <time"#));
        assert!(html.contains(r#"action="/account/devices/revoke-all""#) && html.contains("All of them will ask"));
        assert!(!html.contains("<b>"));
    }

    #[test]
    fn one_needs_no_button_for_all_and_none_says_so() {
        assert!(!html(vec![device("7", "Firefox on Windows", true)]).contains("revoke-all"));
        let none = html(vec![]);
        assert!(none.contains("No trusted browsers") && !none.contains("<form method=\"post\" action=\"/account/devices"));
    }

    #[test]
    fn a_list_that_may_not_be_whole_says_so() {
        let list = |n: u16| html((0..n).map(|_| device("7", "Firefox on Windows", false)).collect());
        assert!(list(MOST_SHOWN).contains("The 50 newest are shown.") && !list(MOST_SHOWN - 1).contains("are shown."));
    }
}
