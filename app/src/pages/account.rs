//! `/account`: how someone signs in, where they are signed in, and what happened lately.

use auth::{
    identity::Authority,
    policy::DELETION_WAIT,
    self_service::activity::Filter,
    users::account::{MAX_NAME, SetNameError},
};
use axum::{extract::State, response::Response};
use http::StatusCode;
use leptos::prelude::*;
use time::OffsetDateTime;

use crate::{
    components::{Badge, BadgeKind, Date, Glyph, Notice, Row, Settings, TextField, Tone},
    fault::Fault,
    form::{Form, FormError},
    gate::SignedIn,
    help,
    page::page,
    pages::{
        activity::{By, Entry},
        sessions::{self, Session},
        two_factor::{self, AuthenticatorApp, BackupCodes, BackupCodesRow, FEW_CODES, TrustedBrowsersRow, TwoFactorSummary},
    },
    routes,
    state::AppState,
    words,
};

/// How many of each the page shows before it links to the rest.
const NEWEST_SESSIONS: usize = 3;
const NEWEST_ENTRIES: usize = 5;

/// What is wrong with a name that was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    TooLong,
    NotOneLine,
}

impl NameError {
    fn text(self) -> String {
        match self {
            Self::TooLong => format!("Your name can have up to {MAX_NAME} characters"),
            Self::NotOneLine => "Enter your name in one line, in plain letters".to_owned(),
        }
    }
}

/// Whose page it is.
#[derive(Clone, Debug)]
pub struct Owner {
    pub email: String,
    pub name: String,
    pub admin: bool,
    /// When the account will be deleted, if that was asked for.
    pub deletes: Option<OffsetDateTime>,
}

/// `sessions` and `recent` are the newest of them, this session first. `error` is about the name, which is then the one typed.
#[component]
pub fn AccountPage(
    owner: Owner,
    two_factor: TwoFactorSummary,
    sessions: Vec<Session>,
    recent: Vec<Entry>,
    now: OffsetDateTime,
    #[prop(optional_no_strip)] error: Option<NameError>,
) -> impl IntoView {
    let Owner { email, name, admin, deletes } = owner;
    let badge = admin.then(|| view! { <Badge text="Admin"/> }.into_any());
    let change = view! { <a class="button sm" href=routes::EMAIL>"Change"<span class="vh">" email"</span></a> }.into_any();
    let sessions = sessions.into_iter().map(move |session| view! { <SessionLine session now/> });
    view! {
        <Settings title="Security" email=email.clone() badge error=error.is_some()>
            {deletes.map(|on| view! { <Deletion on/> })}
            <Warnings apps=two_factor.apps.clone() codes=two_factor.codes.clone()/>
            <section class="panel">
                <h2>"How you sign in"</h2>
                <Row glyph=Glyph::Mail heading="Email" action=Some(change)>
                    <p class="whole">{email}</p>
                    <p class="hint">"A link and a code by email"</p>
                </Row>
                <TwoFactorRows two_factor/>
            </section>
            <section class="panel">
                <div class="head"><h2>"Where you're signed in"</h2><a href=routes::SESSIONS>"All sessions"</a></div>
                {sessions.collect_view()}
            </section>
            <RecentActivity recent now/>
            <You name admin error deletes/>
        </Settings>
    }
}

#[component]
fn Deletion(on: OffsetDateTime) -> impl IntoView {
    let actions = view! {
        <form method="post" action=routes::DELETE_CANCEL><button class="button sm">"Keep my account"</button></form>
        <a class="button sm ghost" href=help::DELETE_ACCOUNT>"Get help"<span class="vh">" with deleting your account"</span></a>
    }
    .into_any();
    let title = view! { "Your account will be deleted on "<Date at=on/>"." };
    view! {
        <Notice tone=Tone::Danger title actions=Some(actions)>"Until then, you can change your mind."</Notice>
    }
}

#[component]
fn SessionLine(session: Session, now: OffsetDateTime) -> impl IntoView {
    let badge = session.badge();
    let (badge, end) = if session.here { (None, badge) } else { (badge, Some(session.seen_ago(now).into_any())) };
    let Session { device, ip, .. } = session;
    view! {
        <Row glyph=Glyph::for_device(&device) heading=device badge end>
            <p class="hint whole">{ip}</p>
        </Row>
    }
}

#[component]
fn RecentActivity(recent: Vec<Entry>, now: OffsetDateTime) -> impl IntoView {
    let none = recent.is_empty().then(|| {
        view! {
            <div class="empty">
                <h3>"Nothing here yet"</h3>
                <p>"Sign-ins and changes to your account will show up in this list."</p>
            </div>
        }
    });
    let rows = recent.into_iter().map(move |entry| view! { <EntryLine entry now/> });
    view! {
        <section class="panel">
            <div class="head"><h2>"Recent activity"</h2><a href=routes::ACTIVITY>"All activity"</a></div>
            {rows.collect_view()}
            {none}
        </section>
    }
}

/// Shorter than on the page of all activity: without the IP address.
#[component]
fn EntryLine(entry: Entry, now: OffsetDateTime) -> impl IntoView {
    let badge = entry.badge();
    let Entry { at, told, by } = entry;
    let by = match by {
        By::Browser { device, .. } => device,
        By::Administrator => "By an administrator".to_owned(),
    };
    let line = words::line([by, told.more.unwrap_or_default()]);
    let end = view! { <time datetime=words::machine_time(at)>{words::short_time(at, now)}</time> }.into_any();
    view! {
        <Row heading=told.what badge end=Some(end)>
            {(!line.is_empty()).then(|| view! { <p class="hint">{line}</p> })}
        </Row>
    }
}

/// The account itself, apart from how it is kept.
#[component]
fn You(name: String, admin: bool, error: Option<NameError>, deletes: Option<OffsetDateTime>) -> impl IntoView {
    let users = view! { <a class="button sm" href=routes::ADMIN_USERS>"Open users"</a> }.into_any();
    let export = view! { <a class="button sm" href=routes::EXPORT>"Download your data"</a> }.into_any();
    let delete = deletes.is_none().then(|| view! { <a class="button sm" href=routes::DELETE>"Delete account"</a> }.into_any());
    let fate = match deletes {
        None => {
            let days = words::count(DELETION_WAIT.as_secs() / 86_400, "day");
            view! { "If you delete it, you can change your mind for "{days}"." }.into_any()
        }
        Some(on) => view! { "It will be deleted on "<Date at=on/>"." }.into_any(),
    };
    view! {
        <section class="panel">
            <h2>"You"</h2>
            <form class="body inline" method="post" action=routes::NAME>
                <TextField
                    id="name" label="Your name" value=name maxlength=MAX_NAME autocomplete="name" error=error.map(NameError::text)
                />
                <button class="button">"Save"<span class="vh">" your name"</span></button>
            </form>
            <Row heading="Your data" action=Some(export)><p>"A copy of what we keep about you"</p></Row>
            <Row heading="Your account" action=delete><p>{fate}</p></Row>
            {admin.then(|| view! {
                <Row heading="Administration" action=Some(users)><p>"You look after other people's accounts"</p></Row>
            })}
        </section>
    }
    // The page as one type would be too deep for the compiler.
    .into_any()
}

/// What could lock someone out, before it does.
#[component]
fn Warnings(apps: Vec<AuthenticatorApp>, codes: Option<BackupCodes>) -> impl IntoView {
    let stopped = apps.into_iter().filter(|app| app.stopped).map(|app| {
        let actions = view! {
            <a class="button sm" href=routes::TWO_FACTOR>"Manage two-factor"</a>
            <a class="button sm ghost" href=help::CODES_ALWAYS_WRONG_STOPPED>"Get help"<span class="vh">" with wrong codes"</span></a>
        }
        .into_any();
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
        let actions = view! {
            <a class="button sm" href=routes::BACKUP_CODES>"Get new codes"</a>
            <a class="button sm ghost" href=help::BACKUP_CODES_NEW_SET>"Get help"<span class="vh">" with backup codes"</span></a>
        }
        .into_any();
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
    show(&state, authority, None).await
}

/// The page. `refused` is the name that was typed, where it can't be one.
async fn show(state: &AppState, authority: Authority, refused: Option<(String, NameError)>) -> Result<Response, Fault> {
    let two_factor = two_factor::summary(state, &authority).await?;
    let mut sessions = sessions::all(state, &authority).await?;
    sessions.truncate(NEWEST_SESSIONS);
    let activity = state.auth.self_service().activity(authority.user, Filter::All, None).await?;
    let recent = activity.rows.into_iter().filter_map(Entry::of).take(NEWEST_ENTRIES).collect();
    let now = state.auth.now();
    let profile = state.auth.users().profile(&authority).await?;
    let (status, name, error) = match refused {
        None => (StatusCode::OK, profile.display_name.unwrap_or_default(), None),
        Some((typed, error)) => (StatusCode::UNPROCESSABLE_ENTITY, typed, Some(error)),
    };
    let owner = Owner { email: authority.email, name, admin: authority.admin, deletes: profile.deletes_at };
    Ok(page(status, || view! { <AccountPage owner two_factor sessions recent now error/> }))
}

/// Sets the name, or takes it away.
#[server(prefix = "", endpoint = "account/name")]
pub async fn change_name(#[server(default)] name: String) -> Result<(), FormError> {
    let form = Form::current()?;
    let SignedIn(_, authority) = form.admit(routes::ACCOUNT).await?;
    let error = match form.state.auth.users().set_name(&authority, &name, &form.from).await {
        Ok(()) => return form.see_other(routes::ACCOUNT),
        Err(SetNameError::TooLong) => NameError::TooLong,
        Err(SetNameError::NotOneLine) => NameError::NotOneLine,
        Err(SetNameError::Unavailable(error)) => return Err(form.fail(error.into())),
    };
    form.refuse(show(&form.state, authority, Some((name, error))).await.map_err(|fault| form.fail(fault))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{happened::told, page::render};
    use auth::identity::Method;
    use serde_json::json;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-24 14:32 UTC);

    fn owner(email: &str) -> Owner {
        Owner { email: email.to_owned(), name: String::new(), admin: false, deletes: None }
    }

    fn session(device: &str, here: bool) -> Session {
        Session {
            id: "7".to_owned(),
            device: device.to_owned(),
            ip: "203.0.113.24".to_owned(),
            method: Method::Code,
            second: None,
            two_factor: false,
            new_device: true,
            signed_in: datetime!(2026-11-24 11:00 UTC),
            last_seen: datetime!(2026-11-24 11:29 UTC),
            here,
        }
    }

    fn entry(happened: &str, by: By) -> Entry {
        Entry { at: datetime!(2026-11-19 08:10 UTC), told: told(happened, &json!({ "left": 2 })).expect("is told of"), by }
    }

    fn html(owner: Owner, two_factor: TwoFactorSummary, sessions: Vec<Session>, recent: Vec<Entry>) -> String {
        render(|| view! { <AccountPage owner two_factor sessions recent now=NOW/> }).replace('\u{a0}', " ")
    }

    fn with(two_factor: TwoFactorSummary) -> String {
        html(owner("mara@example.org"), two_factor, vec![], vec![])
    }

    #[test]
    fn it_shows_the_address_and_the_way_to_another() {
        let html = with(TwoFactorSummary::default());
        assert!(html.contains("<title>Security – Latchkey</title>") && html.contains("<h1>Security</h1>"));
        assert!(html.contains(r#"<p class="whole">mara@example.org</p>"#));
        assert!(html.contains(r#"<a href="/account/email" class="button sm">Change<span class="vh"> email</span></a>"#));
        assert!(html.contains(r#"<form method="post" action="/logout">"#));
        assert!(html.contains(r#"<a href="/account" aria-current="page">Security</a>"#));
        for (name, path) in [("Sessions", "/account/sessions"), ("Activity", "/account/activity"), ("Email", "/account/email")] {
            assert!(html.contains(&format!(r#"<a href="{path}">{name}</a>"#)), "{name}");
        }
        assert!(!html.contains("Admin") && !html.contains("/admin/"));
    }

    #[test]
    fn an_admin_sees_that_they_are_one() {
        let admin = Owner { admin: true, ..owner("mara@example.org") };
        let html = html(admin, TwoFactorSummary::default(), vec![], vec![]);
        assert!(html.contains(r#"<span class="badge">Admin</span>"#) && html.contains(r#"href="/admin/users""#));
    }

    #[test]
    fn sessions_say_where_and_when() {
        let sessions = vec![session("Firefox on Windows", true), session("Safari on iPhone", false)];
        let html = html(owner("mara@example.org"), TwoFactorSummary::default(), sessions, vec![]);
        assert!(html.contains(r#"<div class="end"><span class="badge">This device</span></div>"#));
        assert!(html.contains(r#"Safari on iPhone</span><span class="badge warn">New device</span>"#));
        assert!(
            html.contains(r#"<p class="hint whole">203.0.113.24</p>"#) && html.contains(r#"<div class="end">3 hours ago</div>"#)
        );
        assert!(html.contains(r#"<a href="/account/sessions">All sessions</a>"#));
    }

    #[test]
    fn recent_activity_is_told_in_short_or_awaited() {
        let phone = By::Browser { device: "Safari on iPhone".to_owned(), ip: "203.0.113.24".to_owned() };
        let recent = vec![entry("backup_code.used", phone), entry("two_factor.reset", By::Administrator)];
        let some = html(owner("mara@example.org"), TwoFactorSummary::default(), vec![], recent);
        assert!(some.contains(r#"Backup code used</span></h3><p class="hint">Safari on iPhone · 2 codes left</p>"#));
        assert!(some.contains(r#"Two-factor reset</span></h3><p class="hint">By an administrator</p>"#));
        assert!(some.contains(r#"<time datetime="2026-11-19T08:10Z">19 Nov, 08:10 UTC</time>"#));
        assert!(some.contains(r#"<a href="/account/activity">All activity</a>"#) && !some.contains("Nothing here yet"));
        assert!(with(TwoFactorSummary::default()).contains("<h3>Nothing here yet</h3>"));
    }

    #[test]
    fn one_can_be_named_take_a_copy_and_leave() {
        let named = Owner { name: "Mara \"Li\"".to_owned(), ..owner("mara@example.org") };
        let html = html(named, TwoFactorSummary::default(), vec![], vec![]);
        assert!(html.contains(r#"<form method="post" action="/account/name" class="body inline">"#));
        assert!(html.contains(r#"name="name" type="text" value="Mara &quot;Li&quot;" autocomplete="name" maxlength="80">"#));
        assert!(html.contains(r#"<a href="/account/export" class="button sm">Download your data</a>"#));
        assert!(html.contains(r#"<a href="/account/delete" class="button sm">Delete account</a>"#));
        assert!(!html.contains("delete/cancel"));
    }

    #[test]
    fn a_name_that_was_refused_stands_with_the_reason() {
        let typed = Owner { name: "Ma\u{202e}ra".to_owned(), ..owner("mara@example.org") };
        let html = render(|| {
            view! {
                <AccountPage
                    owner=typed two_factor=TwoFactorSummary::default() sessions=vec![] recent=vec![] now=NOW
                    error=Some(NameError::NotOneLine)
                />
            }
        });
        assert!(html.contains("<title>Error: Security – Latchkey</title>"));
        assert!(html.contains("</span>Enter your name in one line, in plain letters</span>"));
        assert!(html.contains(r#"aria-describedby="name-error" aria-invalid="true" autofocus"#));
        assert_eq!(NameError::TooLong.text(), "Your name can have up to 80 characters");
    }

    #[test]
    fn an_account_that_will_be_deleted_can_be_kept() {
        let leaving = Owner { deletes: Some(datetime!(2026-12-08 10:00 UTC)), ..owner("mara@example.org") };
        let html = html(leaving, two_factor(0, true, false), vec![], vec![]);
        let notice =
            html.find(r#"<strong>Your account will be deleted on <time datetime="2026-12-08">8 December 2026</time>.</strong>"#);
        assert!(notice.is_some_and(|at| at < html.find("No backup codes left.").expect("is there")));
        assert!(html.contains(
            r#"<form method="post" action="/account/delete/cancel"><button class="button sm">Keep my account</button></form>"#
        ));
        assert!(!html.contains(r#"href="/account/delete""#));
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
        let off = with(TwoFactorSummary::default());
        assert!(
            off.contains(r#"<span class="badge off">Off</span>"#) && off.contains(r#"action="/account/two-factor/setup/start""#)
        );
        assert!(!off.contains("Backup codes") && !off.contains("Trusted browsers") && !off.contains("class=\"notice"));
        let on = with(two_factor(10, true, false));
        assert!(on.contains(r#"<span class="badge ok">On</span>"#) && on.contains(r#"href="/account/two-factor""#));
        assert!(on.contains(r#"&lt;i&gt;, added <time datetime="2026-11-03">3 November 2026</time>"#) && !on.contains("<i>"));
        assert!(on.contains("10 of 10 left") && on.contains("1 browser doesn't ask for a code."));
        assert!(!on.contains("class=\"notice"));
    }

    #[test]
    fn what_could_lock_someone_out_is_said_first() {
        let page = |left, saved, stopped| with(two_factor(left, saved, stopped));
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
        let html = html(owner("<b>@example.org"), TwoFactorSummary::default(), vec![session("<script>", false)], vec![]);
        assert!(html.contains("&lt;script&gt;") && !html.contains("<b>") && !html.contains("<script"));
    }
}
