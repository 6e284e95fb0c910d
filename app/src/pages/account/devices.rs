//! `/account/devices`: the browsers that do without the second step.

use auth::factors::trusted_device::{MOST_SHOWN, TrustedDevice};

use crate::pages::{prelude::*, sign_in::login_two_factor::trust_days};

/// `days`: how long a browser is trusted.
#[component]
pub fn DevicesPage(email: String, days: u64, devices: Vec<TrustedDevice>) -> impl IntoView {
    let count = devices.len();
    let rows = devices.into_iter().map(|device| view! { <DeviceRow device/> }).collect_view();
    let content = if count == 0 {
        view! {
            <div class="panel">
                <Empty
                    heading="No trusted browsers"
                    text="Every browser asks for a code. Those where you choose not to be asked will show up in this list."
                />
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
                    <PostButton action=routes::DEVICES_REVOKE_ALL class="button" text="Stop trusting all" alone=true/>
                </section>
            })}
        }
        .into_any()
    };
    view! {
        <Settings title="Trusted browsers" email crumb=Some("Trusted browsers") help=Some(help::TRUSTED_BROWSERS)>
            <p class="lede">
                "These don't ask for a code for "{format::count(days, "day")}" after you tick the box. Stop trusting any you don't recognise."
            </p>
            {content}
        </Settings>
    }
}

#[component]
fn DeviceRow(device: TrustedDevice) -> impl IntoView {
    let TrustedDevice { id, device: name, ip, added_at, last_used_at, expires_at, here } = device;
    let ip = ip.map(|ip| ip.to_string()).unwrap_or_default();
    let last_used = (last_used_at > added_at).then_some(last_used_at);
    let badge = here.then(|| view! { <Badge text="This browser"/> }.into_any());
    let row = name.clone();
    let hidden = vec![("id", id.to_string())];
    let action = view! { <PostButton action=routes::DEVICES_REVOKE hidden text="Stop trusting" of=row/> }.into_any();
    view! {
        <Row glyph=Glyph::for_device(&name) heading=name badge action=Some(action)>
            <p class="whole">{ip}</p>
            <p class="hint">
                "Trusted from "<Date at=added_at/>" until "<Date at=expires_at/>"."
                {last_used.map(|at| view! { " Last used "<DateTime at/>"." })}
            </p>
        </Row>
    }
}

pub async fn get(State(state): State<AppState>, SignedIn(browser, authority): SignedIn) -> Answer {
    let Some(days) = trust_days(&state) else { return see_other(routes::TWO_FACTOR) };
    let devices = state.auth.factors().trusted_devices(&authority, browser.trusted()).await?;
    Ok(page(StatusCode::OK, || view! { <DevicesPage email=authority.email days devices/> }))
}

/// Takes trust back from one browser. One that is not the account's is none.
#[server(prefix = "", endpoint = "account/devices/revoke", protocol = FormPost)]
pub async fn revoke_device(#[server(default)] id: String) -> Answer {
    let (form, SignedIn(_, authority)) = Form::authorize(routes::DEVICES).await?;
    if let Ok(id) = id.parse() {
        form.state.auth.factors().revoke_trusted_device(&authority, id, &form.from).await?;
    }
    see_other(routes::DEVICES)
}

/// Takes trust back from all.
#[server(prefix = "", endpoint = "account/devices/revoke-all", protocol = FormPost)]
pub async fn revoke_all_devices() -> Answer {
    let (form, SignedIn(_, authority)) = Form::authorize(routes::DEVICES).await?;
    form.state.auth.factors().revoke_trusted_devices(&authority, &form.from).await?;
    see_other(routes::DEVICES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::render::render;
    use time::macros::datetime;

    fn device(name: &str, here: bool) -> TrustedDevice {
        TrustedDevice {
            id: uuid::Uuid::nil(),
            device: name.to_owned(),
            ip: Some([203, 0, 113, 24].into()),
            added_at: datetime!(2026-11-03 10:00 UTC),
            last_used_at: datetime!(2026-11-24 14:29 UTC),
            expires_at: datetime!(2026-12-03 10:00 UTC),
            here,
        }
    }

    fn html(devices: Vec<TrustedDevice>) -> String {
        render(move || view! { <DevicesPage email="mara@example.org".to_owned() days=30 devices/> })
    }

    #[test]
    fn one_needs_no_button_for_all_and_none_says_so() {
        assert!(!html(vec![device("Firefox on Windows", true)]).contains("revoke-all"));
        let none = html(vec![]);
        assert!(none.contains("No trusted browsers") && !none.contains("<form method=\"post\" action=\"/account/devices"));
    }

    #[test]
    fn a_list_that_may_not_be_whole_says_so() {
        let list = |n: u16| html((0..n).map(|_| device("Firefox on Windows", false)).collect());
        assert!(list(MOST_SHOWN).contains("The 50 newest are shown.") && !list(MOST_SHOWN - 1).contains("are shown."));
    }
}
