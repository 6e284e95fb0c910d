//! `/account/sessions`: every browser that is signed in to the account.

use auth::{
    identity::{Method, SecondFactor},
    sessions::{MOST_SHOWN, SessionView},
};

use crate::pages::prelude::*;

/// "3 hours ago". Only as a guess where two instances' clocks differ.
pub(crate) fn seen_ago(session: &SessionView, now: OffsetDateTime) -> String {
    format::ago((now - session.last_seen_at).try_into().unwrap_or_default())
}

pub(crate) fn badge(session: &SessionView) -> Option<AnyView> {
    if session.here {
        return Some(view! { <Badge text="This device"/> }.into_any());
    }
    session.new_device.then(|| view! { <Badge kind=BadgeKind::Warn text="New device"/> }.into_any())
}

/// How a session was signed in.
fn how(method: Method, second: Option<SecondFactor>) -> String {
    let first = match method {
        Method::Link => "an email link",
        Method::Code => "an email code",
    };
    let then = match second {
        None => return first.to_owned(),
        Some(SecondFactor::Totp) => ", then an authenticator app",
        Some(SecondFactor::BackupCode) => ", then a backup code",
        Some(SecondFactor::TrustedDevice) => ", in a trusted browser",
    };
    format!("{first}{then}")
}

/// `sessions`: this one first.
#[component]
pub fn SessionsPage(email: String, sessions: Vec<SessionView>, now: OffsetDateTime) -> impl IntoView {
    let others = sessions.iter().filter(|session| !session.here).count();
    let is_whole = sessions.len() < usize::from(MOST_SHOWN);
    let rows = sessions.into_iter().map(|session| view! { <SessionRow session now/> }).collect_view();
    let everywhere_else = match others {
        0 => None,
        _ if !is_whole => Some("Ends all other sessions. You stay signed in here.".to_owned()),
        1 => Some("Ends the other session. You stay signed in here.".to_owned()),
        n => Some(format!("Ends the {} other sessions. You stay signed in here.", format::grouped(n as u64))),
    };
    view! {
        <Settings title="Sessions" email help=Some(help::SIGN_OUT_OTHER_DEVICES) lede="Every browser signed in to your account. Sign out any you don't recognise.">
            <h2 class="vh">"Browsers"</h2>
            <div class="panel">
                {rows}
                {(others == 0).then(|| view! {
                    <Empty
                        plain=true heading="No other sessions"
                        text="You're only signed in here. Other browsers you sign in with will show up in this list."
                    />
                })}
            </div>
            {(!is_whole).then(|| view! { <p class="hint">{format!("The {MOST_SHOWN} used last are shown.")}</p> })}
            {everywhere_else.map(|ends| view! {
                <section class="below">
                    <h2>"Sign out everywhere else"</h2>
                    <p class="small">{ends}" We'll email you about the next sign-in in each browser."</p>
                    <PostButton action=routes::SESSIONS_END_OTHERS class="button" text="Sign out other sessions" alone=true/>
                </section>
            })}
            <section class="below">
                <h2>"Browsers you've signed in with"</h2>
                <p class="small">"We don't email you when you sign in there again. That can end, too."</p>
                <div class="row-actions"><a class="button" href=routes::DEVICES>"Review your browsers"</a></div>
            </section>
        </Settings>
    }
}

/// The session that asks is ended where it always is, at the top of the page. `ends`: the others have a button; somebody else's
/// sessions are ended all at once.
#[component]
pub(crate) fn SessionRow(session: SessionView, now: OffsetDateTime, #[prop(default = true)] ends: bool) -> impl IntoView {
    let active = if session.here { "Active now".to_owned() } else { format!("Active {}", seen_ago(&session, now)) };
    let badge = view! {
        {badge(&session)}
        {session.two_factor.then(|| view! { <Badge kind=BadgeKind::Ok text="Two-factor"/> })}
    }
    .into_any();
    let SessionView { id, device, ip, method, second, signed_in_at, here, .. } = session;
    let ip = ip.map(|ip| ip.to_string()).unwrap_or_default();
    let row = device.clone();
    let action = (ends && !here).then(|| {
        view! { <PostButton action=routes::SESSIONS_END hidden=vec![("id", id.to_string())] text="Sign out" of=row/> }.into_any()
    });
    view! {
        <Row glyph=Glyph::for_device(&device) heading=device badge=Some(badge) action>
            <p class="whole">{format::line([ip, active])}</p>
            <p class="hint">"Signed in "<DateTime at=signed_in_at/>" with "{how(method, second)}</p>
        </Row>
    }
}

pub async fn get(State(state): State<AppState>, SignedIn(_, authority): SignedIn) -> Answer {
    let sessions = state.auth.sessions().list(&authority).await?;
    let now = state.auth.now();
    Ok(page(StatusCode::OK, || view! { <SessionsPage email=authority.email sessions now/> }))
}

/// Ends one of the account's sessions. Another's is none, and answered like one that is over.
#[server(prefix = "", endpoint = "account/sessions/end", protocol = FormPost)]
pub async fn end_session(#[server(default)] id: String) -> Answer {
    let (form, SignedIn(_, authority)) = Form::authorize(routes::SESSIONS).await?;
    if let Ok(id) = id.parse() {
        form.state.auth.sessions().end(&authority, id, &form.from).await?;
    }
    see_other(routes::SESSIONS)
}

/// Ends all but the one that asks.
#[server(prefix = "", endpoint = "account/sessions/end-others", protocol = FormPost)]
pub async fn end_other_sessions() -> Answer {
    let (form, SignedIn(_, authority)) = Form::authorize(routes::SESSIONS).await?;
    form.state.auth.self_service().end_other_sessions(&authority, &form.from).await?;
    see_other(routes::SESSIONS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::render::render;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-24 14:32 UTC);

    fn session(id: u128, device: &str, here: bool) -> SessionView {
        SessionView {
            id: uuid::Uuid::from_u128(id),
            device: device.to_owned(),
            ip: Some([203, 0, 113, 24].into()),
            method: Method::Link,
            second: Some(SecondFactor::Totp),
            two_factor: true,
            new_device: false,
            signed_in_at: datetime!(2026-11-19 08:10 UTC),
            last_seen_at: datetime!(2026-11-24 11:29 UTC),
            here,
        }
    }

    fn html(sessions: Vec<SessionView>) -> String {
        render(move || view! { <SessionsPage email="mara@example.org".to_owned() sessions now=NOW/> }).replace('\u{a0}', " ")
    }

    #[test]
    fn all_the_others_can_be_ended_at_once_where_there_are_any() {
        let here = || session(7, "Firefox on Windows", true);
        let other = |id| session(id, "<b>", false);
        let one = html(vec![here(), other(8)]);
        assert!(one.contains(r#"action="/account/sessions/end-others""#) && one.contains(">Sign out other sessions</button>"));
        assert!(one.contains("Ends the other session. You stay signed in here.") && !one.contains("<b>"));
        assert!(html(vec![here(), other(8), other(9)]).contains("Ends the 2 other sessions."));
        let most = |n: u16| html([here()].into_iter().chain((1..n).map(|_| other(8))).collect());
        assert!(most(MOST_SHOWN - 1).contains("Ends the 98 other sessions.") && !most(MOST_SHOWN - 1).contains("are shown."));
        // Nobody knows how many more there are.
        assert!(
            most(MOST_SHOWN).contains("Ends all other sessions. You stay")
                && most(MOST_SHOWN).contains("The 100 used last are shown.")
        );
        let none = html(vec![here()]);
        assert!(
            none.contains("<h3>No other sessions</h3><p>You're only signed in here.") && !none.contains("/account/sessions/end")
        );
    }

    #[test]
    fn how_is_said_in_full() {
        assert_eq!(how(Method::Code, None), "an email code");
        assert_eq!(how(Method::Link, Some(SecondFactor::BackupCode)), "an email link, then a backup code");
        assert_eq!(how(Method::Link, Some(SecondFactor::TrustedDevice)), "an email link, in a trusted browser");
    }

    #[test]
    fn a_clock_ahead_of_ours_makes_no_one_see_the_future() {
        let ahead = SessionView { last_seen_at: datetime!(2026-11-24 14:33 UTC), ..session(8, "Safari on iPhone", false) };
        assert!(html(vec![ahead]).contains("Active less than a minute ago"));
    }
}
