//! `/account/two-factor`: what stands between someone's inbox and their account.

use auth::{
    factors::{backup_code, totp::MAX_AUTHENTICATORS},
    identity::Authority,
    policy::SETUP_TTL,
    self_service::two_factor::{Authenticator, ChangeError, TwoFactor},
};

use crate::pages::{limited, prelude::*, sign_in::login_two_factor::trust_days};

/// So many backup codes, and it is time for new ones.
pub(crate) const FEW_CODES: u64 = backup_code::LOW.unsigned_abs();

/// From nothing to two-factor.
pub(crate) const SETUP_STEPS: &[&str] = &["Connect your app", "Save backup codes"];

/// Two-factor as it stands for one account; off by default.
#[derive(Clone, Debug, Default)]
pub struct TwoFactorSummary {
    /// None means that two-factor is off.
    pub apps: Vec<Authenticator>,
    pub codes: Option<BackupCodes>,
    /// How many browsers do without the second step, where any may.
    pub trusted: Option<u64>,
}

impl TwoFactorSummary {
    pub(crate) fn is_on(&self) -> bool {
        !self.apps.is_empty()
    }
}

/// The newest set of an account's backup codes.
#[derive(Clone, Debug)]
pub struct BackupCodes {
    pub left: u64,
    pub total: u64,
    pub made: OffsetDateTime,
    pub last_used: Option<OffsetDateTime>,
    /// Someone said that they have them.
    pub saved: bool,
}

/// `required`: the service's operator asks for two-factor, so it can't be turned off. `room`: another app may be added.
#[component]
pub fn TwoFactorPage(email: String, two_factor: TwoFactorSummary, required: bool, room: bool) -> impl IntoView {
    let help = if two_factor.apps.iter().any(|app| app.stopped) {
        help::CODES_ALWAYS_WRONG_STOPPED
    } else if two_factor.is_on() {
        help::NEW_PHONE
    } else {
        help::TWO_FACTOR
    };
    let content =
        if two_factor.is_on() { view! { <On two_factor required room/> }.into_any() } else { view! { <Off required/> }.into_any() };
    view! { <Settings title="Two-factor" email crumb=Some("Two-factor") help=Some(help)>{content}</Settings> }
}

#[component]
fn Off(required: bool) -> impl IntoView {
    view! {
        <Ask action=routes::TWO_FACTOR_SETUP_START button="Set up two-factor">
            <p>
                "Two-factor asks for a code from an app on your phone after the email. Someone who can read your email then still can't sign in as you."
            </p>
            {required.then(|| view! { <p>"This service requires it on your account."</p> })}
        </Ask>
    }
}

#[component]
fn On(two_factor: TwoFactorSummary, required: bool, room: bool) -> impl IntoView {
    let TwoFactorSummary { apps, codes, trusted } = two_factor;
    let removable = apps.len() > 1;
    let apps = apps.into_iter().map(|app| view! { <AppRow app removable/> }).collect_view();
    view! {
        <section class="panel">
            <h2>"Authenticator apps"</h2>
            {apps}
            {room.then(|| view! {
                <form class="body" method="post" action=routes::TWO_FACTOR_SETUP_START>
                    <p class="small">"With a second app, on another device, you can still sign in when you lose the first."</p>
                    <div class="row-actions"><button class="button">"Add another app"</button></div>
                </form>
            })}
        </section>
        <section class="panel">
            <h2>"Without your app"</h2>
            <BackupCodesRow codes/>
            {trusted.map(|count| view! { <TrustedBrowsersRow count/> })}
        </section>
        <section class="below">
            <h2>"Turn off two-factor"</h2>
            {if required {
                view! { <p class="small">"This service requires two-factor on your account, so it can't be turned off."</p> }.into_any()
            } else {
                view! {
                    <p class="small">"Then anyone who can read your email can sign in as you."</p>
                    <div class="row-actions"><a class="button" href=routes::TWO_FACTOR_OFF>"Turn off two-factor"</a></div>
                }.into_any()
            }}
        </section>
    }
}

/// The last app can't be removed: that would be turning two-factor off.
#[component]
fn AppRow(app: Authenticator, removable: bool) -> impl IntoView {
    let Authenticator { id, name, added_at, last_used_at, stopped } = app;
    let badge = stopped.then(|| view! { <Badge kind=BadgeKind::Off text="Off"/> }.into_any());
    let action = removable.then(|| {
        let hidden = vec![("id", id.to_string())];
        view! { <PostButton action=routes::TWO_FACTOR_REMOVE hidden text="Remove" of=name.clone()/> }.into_any()
    });
    view! {
        <Row glyph=Glyph::Phone heading=name badge action>
            <p>"Added "<Date at=added_at/>"."{last_used_at.map(|at| view! { " Last used "<Date at/>"." })}</p>
            {stopped.then(|| view! {
                <p class="hint">
                    "Off after too many wrong codes. It still works in browsers you've signed in with before. To use it everywhere again, add it once more and remove this one."
                </p>
            })}
        </Row>
    }
}

/// Also on `/account`.
#[component]
pub(crate) fn BackupCodesRow(codes: Option<BackupCodes>) -> impl IntoView {
    let badge = codes.as_ref().map(|BackupCodes { left, total, saved, .. }| {
        let kind = match left {
            0 => BadgeKind::Danger,
            1..=FEW_CODES => BadgeKind::Warn,
            _ => BadgeKind::Ok,
        };
        if *saved {
            view! { <Badge kind text=format!("{left} of {total} left")/> }.into_any()
        } else {
            view! { <Badge kind=BadgeKind::Warn text="Not saved"/> }.into_any()
        }
    });
    let text = match codes {
        Some(BackupCodes { made, last_used, .. }) => {
            view! { "Made "<Date at=made/>"."{last_used.map(|at| view! { " Last used "<Date at/>"." })} }.into_any()
        }
        None => "You have none. They let you in when you don't have your phone.".into_any(),
    };
    let action = view! { <a class="button sm" href=routes::BACKUP_CODES>"Get new codes"</a> }.into_any();
    view! { <Row glyph=Glyph::Key heading="Backup codes" badge action=Some(action)><p>{text}</p></Row> }
}

/// Also on `/account`.
#[component]
pub(crate) fn TrustedBrowsersRow(count: u64) -> impl IntoView {
    let text = match count {
        0 => "Every browser asks for a code.".to_owned(),
        1 => "1 browser doesn't ask for a code.".to_owned(),
        n => format!("{} don't ask for a code.", format::count(n, "browser")),
    };
    let action =
        view! { <a class="button sm" href=routes::DEVICES>"Review"<span class="vh">" trusted browsers"</span></a> }.into_any();
    view! { <Row glyph=Glyph::Computer heading="Trusted browsers" action=Some(action)><p>{text}</p></Row> }
}

/// How two-factor stands for an account, for this page and the others that tell.
pub(crate) async fn summary(state: &AppState, authority: &Authority) -> Result<TwoFactorSummary, auth::Error> {
    Ok(summed_up(state, state.auth.self_service().two_factor(authority).await?))
}

pub(crate) fn summed_up(state: &AppState, standing: TwoFactor) -> TwoFactorSummary {
    let codes = standing.backup_codes;
    let made = codes.made_at.or(codes.proposed_at);
    TwoFactorSummary {
        apps: standing.authenticators,
        codes: made.map(|made| BackupCodes {
            left: codes.left.unsigned_abs(),
            total: backup_code::SET as u64,
            made,
            last_used: codes.last_used_at,
            saved: codes.proposed_at.is_none(),
        }),
        trusted: trust_days(state).map(|_| standing.trusted_devices.unsigned_abs()),
    }
}

pub(crate) fn is_required(state: &AppState, authority: &Authority) -> bool {
    state.auth.policy().require_two_factor.covers(authority.admin)
}

pub async fn get(State(state): State<AppState>, SignedIn(_, authority): SignedIn) -> Answer {
    let two_factor = summary(&state, &authority).await?;
    let (required, room) = (is_required(&state, &authority), two_factor.apps.len() < MAX_AUTHENTICATORS);
    Ok(page(StatusCode::OK, || view! { <TwoFactorPage email=authority.email two_factor required room/> }))
}

/// Takes one of two apps out of use.
#[server(prefix = "", endpoint = "account/two-factor/remove", protocol = FormPost)]
pub async fn remove_authenticator(#[server(default)] id: String) -> Answer {
    let (form, SignedIn(_, authority)) = Form::authorize(routes::TWO_FACTOR).await?;
    let Ok(id) = id.parse() else { return see_other(routes::TWO_FACTOR) };
    match form.state.auth.self_service().remove_authenticator(&authority, id, &form.from).await {
        Ok(()) => see_other(routes::TWO_FACTOR),
        Err(error) => changed(error, routes::TWO_FACTOR),
    }
}

/// What a change that was not made comes to, where no field is at fault. `page` is where it is asked for.
pub(crate) fn changed(error: ChangeError, page: &str) -> Answer {
    match error {
        ChangeError::NotFresh => see_other(&return_to::step_up(page)),
        ChangeError::SessionOver => see_other(routes::LOGIN),
        ChangeError::Unavailable(error) => Err(error.into()),
        ChangeError::Limited(limited) => Err(limited::answer(limited, SETUP_TTL).into()),
        // Somebody was faster, in another window. The page shows how things are now.
        ChangeError::Nothing
        | ChangeError::Full
        | ChangeError::Required
        | ChangeError::WrongCode
        | ChangeError::Clock { .. }
        | ChangeError::Factor(_) => see_other(routes::TWO_FACTOR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::render::render;
    use time::macros::datetime;

    fn phone() -> Authenticator {
        Authenticator {
            id: uuid::Uuid::from_u128(7),
            name: "Phone".to_owned(),
            added_at: datetime!(2026-11-03 10:00 UTC),
            last_used_at: Some(datetime!(2026-11-19 10:00 UTC)),
            stopped: false,
        }
    }

    fn codes(left: u64, saved: bool) -> BackupCodes {
        BackupCodes { left, total: 10, made: datetime!(2026-11-03 10:00 UTC), last_used: None, saved }
    }

    fn html(apps: Vec<Authenticator>, codes: Option<BackupCodes>, required: bool, room: bool) -> String {
        let two_factor = TwoFactorSummary { apps, codes, trusted: Some(2) };
        render(move || view! { <TwoFactorPage email="mara@example.org".to_owned() two_factor required room/> })
    }

    #[test]
    fn backup_codes_say_how_many_are_left_and_whether_anyone_has_them() {
        let row = |codes| html(vec![phone()], codes, false, false);
        assert!(row(Some(codes(4, true))).contains(r#"<span class="badge ok">4 of 10 left</span>"#));
        assert!(row(Some(codes(3, true))).contains(r#"<span class="badge warn">3 of 10 left</span>"#));
        assert!(row(Some(codes(0, true))).contains(r#"<span class="badge danger">0 of 10 left</span>"#));
        assert!(row(Some(codes(10, false))).contains(r#"<span class="badge warn">Not saved</span>"#));
        assert!(row(None).contains("You have none."));
    }

    #[test]
    fn where_it_is_required_it_stays_on() {
        let html = html(vec![phone()], None, true, false);
        assert!(html.contains("so it can't be turned off.") && !html.contains(routes::TWO_FACTOR_OFF));
    }
}
