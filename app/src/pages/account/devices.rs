//! `/account/devices`: the browsers that do without the second step, and those that have signed in before. One is the owner's choice, the other
//! is only what we remember: the page keeps them apart.

use auth::{
    factors::trusted_device::{MOST_SHOWN, TrustedDevice},
    limits::known_browser::{self, KnownBrowser},
};

use crate::pages::{prelude::*, sign_in::login_two_factor::trust_days};

/// The browsers that an account trusts, where it can trust any.
#[derive(Clone, Debug)]
pub struct Trusted {
    /// How long a browser is trusted.
    pub days: u64,
    pub devices: Vec<TrustedDevice>,
}

#[component]
pub fn DevicesPage(email: String, trusted: Option<Trusted>, known: Vec<KnownBrowser>) -> impl IntoView {
    let article = if trusted.is_some() { help::TRUSTED_BROWSERS } else { help::TRUSTED_BROWSERS_KNOWN };
    view! {
        <Settings title="Your browsers" email crumb=Some("Your browsers") help=Some(article)>
            {trusted.map(|trusted| view! { <TrustedBrowsers trusted/> })}
            <KnownBrowsers known/>
        </Settings>
    }
}

#[component]
fn TrustedBrowsers(trusted: Trusted) -> impl IntoView {
    let Trusted { days, devices } = trusted;
    let count = devices.len();
    let rows = devices.into_iter().map(|device| view! { <DeviceRow device/> }).collect_view();
    view! {
        <section class="panel">
            <h2>"Trusted browsers"</h2>
            <p class="body">
                "These don't ask for a code for "{format::count(days, "day")}" after you tick the box. Stop trusting any you don't recognise."
            </p>
            {rows}
            {(count == 0).then(|| view! {
                <Empty
                    plain=true heading="No trusted browsers"
                    text="Every browser asks for a code. Those where you choose not to be asked will show up in this list."
                />
            })}
        </section>
        {(count == usize::from(MOST_SHOWN)).then(|| view! { <p class="hint">{format!("The {MOST_SHOWN} newest are shown.")}</p> })}
        {(count > 1).then(|| view! {
            <section class="below">
                <h2>"Stop trusting all"</h2>
                <p class="small">"All of them will ask for a code the next time you sign in."</p>
                <PostButton action=routes::DEVICES_REVOKE_ALL class="button" text="Stop trusting all" alone=true/>
            </section>
        })}
    }
}

#[component]
fn KnownBrowsers(known: Vec<KnownBrowser>) -> impl IntoView {
    let count = known.len();
    let rows = known.into_iter().map(|browser| view! { <KnownRow browser/> }).collect_view();
    view! {
        <section class="panel">
            <h2>"Browsers you've signed in with"</h2>
            <p class="body">
                "They still need the email, but we don't tell you when they sign in. Forget any you don't recognise, or that others use too."
            </p>
            {rows}
            {(count == 0).then(|| view! {
                <Empty plain=true heading="No browsers" text="We'll email you about your next sign-in, in every browser."/>
            })}
        </section>
        {(count == usize::from(known_browser::MOST)).then(|| view! {
            <p class="hint">{format!("We remember the {} used last.", known_browser::MOST)}</p>
        })}
        {(count > 1).then(|| view! {
            <section class="below">
                <h2>"Forget all"</h2>
                <p class="small">"We'll email you about the next sign-in in each of them. Nobody is signed out."</p>
                <PostButton action=routes::DEVICES_FORGET_ALL class="button" text="Forget all" alone=true/>
            </section>
        })}
    }
}

#[component]
fn KnownRow(browser: KnownBrowser) -> impl IntoView {
    let KnownBrowser { id, device, ip, first_at, last_at, here, .. } = browser;
    let name = device.unwrap_or_else(|| "A browser".to_owned());
    let ip = ip.map(|ip| view! { <p class="whole">{ip.to_string()}</p> });
    let last = (last_at > first_at).then_some(last_at);
    let badge = here.then(|| view! { <Badge text="This browser"/> }.into_any());
    let row = name.clone();
    let hidden = vec![("id", id.to_string())];
    let action = view! { <PostButton action=routes::DEVICES_FORGET hidden text="Forget" of=row/> }.into_any();
    view! {
        <Row glyph=Glyph::for_device(&name) heading=name badge action=Some(action)>
            {ip}
            <p class="hint">
                "First signed in on "<Date at=first_at/>"."
                {last.map(|at| view! { " Last on "<Date at/>"." })}
            </p>
        </Row>
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
    let trusted = match trust_days(&state).filter(|_| authority.two_factor) {
        Some(days) => Some(Trusted { days, devices: state.auth.factors().trusted_devices(&authority, browser.trusted()).await? }),
        None => None,
    };
    let known = state.auth.self_service().known_browsers(&authority, browser.proof()).await?;
    Ok(page(StatusCode::OK, || view! { <DevicesPage email=authority.email trusted known/> }))
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

/// Forgets one browser that has signed in before. One that is not the account's is none.
#[server(prefix = "", endpoint = "account/devices/forget", protocol = FormPost)]
pub async fn forget_browser(#[server(default)] id: String) -> Answer {
    let (form, SignedIn(_, authority)) = Form::authorize(routes::DEVICES).await?;
    if let Ok(id) = id.parse() {
        form.state.auth.self_service().forget_browser(&authority, id, &form.from).await?;
    }
    see_other(routes::DEVICES)
}

/// Forgets all of them.
#[server(prefix = "", endpoint = "account/devices/forget-all", protocol = FormPost)]
pub async fn forget_all_browsers() -> Answer {
    let (form, SignedIn(_, authority)) = Form::authorize(routes::DEVICES).await?;
    form.state.auth.self_service().forget_browsers(&authority, &form.from).await?;
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
        let trusted = Some(Trusted { days: 30, devices });
        render(move || view! { <DevicesPage email="mara@example.org".to_owned() trusted known=vec![]/> })
    }

    #[test]
    fn a_browser_that_nobody_named_can_be_forgotten_and_is_no_trusted_one() {
        let known = KnownBrowser {
            id: uuid::Uuid::from_u128(7),
            device: None,
            ip: None,
            first_at: datetime!(2026-11-03 10:00 UTC),
            last_at: datetime!(2026-11-03 10:00 UTC),
            expires_at: datetime!(2027-11-03 10:00 UTC),
            here: false,
        };
        let html = render(move || view! { <DevicesPage email="mara@example.org".to_owned() trusted=None known=vec![known]/> });
        assert!(
            html.contains("A browser") && html.contains(r#"action="/account/devices/forget""#) && !html.contains("Stop trusting"),
            "{html}"
        );
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
