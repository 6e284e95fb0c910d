//! `/account`: how someone signs in, where they are signed in, and what happened lately.

use auth::{
    identity::Authority,
    policy::DELETION_WAIT,
    self_service::{
        activity::Filter,
        profile::{MAX_NAME, SetNameError},
        two_factor::Authenticator,
    },
    sessions::SessionView,
};

use crate::pages::{
    account::{
        activity::{Entry, EntryRow},
        sessions,
        two_factor::{self, BackupCodes, BackupCodesRow, FEW_CODES, TrustedBrowsersRow, TwoFactorSummary},
    },
    limited,
    prelude::*,
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
    sessions: Vec<SessionView>,
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
        <PostButton action=routes::DELETE_CANCEL text="Keep my account"/>
        <a class="button sm ghost" href=help::DELETE_ACCOUNT>"Get help"<span class="vh">" with deleting your account"</span></a>
    }
    .into_any();
    let title = view! { "Your account will be deleted on "<Date at=on/>"." };
    view! {
        <Notice tone=Tone::Danger title actions=Some(actions)>"Until then, you can change your mind."</Notice>
    }
}

#[component]
fn SessionLine(session: SessionView, now: OffsetDateTime) -> impl IntoView {
    let badge = sessions::badge(&session);
    let (badge, end) = if session.here { (None, badge) } else { (badge, Some(sessions::seen_ago(&session, now).into_any())) };
    let SessionView { device, ip, .. } = session;
    let ip = ip.map(|ip| ip.to_string()).unwrap_or_default();
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
            <Empty plain=true heading="Nothing here yet" text="Sign-ins and changes to your account will show up in this list."/>
        }
    });
    let rows = recent.into_iter().map(move |entry| view! { <EntryRow entry brief=now/> });
    view! {
        <section class="panel">
            <div class="head"><h2>"Recent activity"</h2><a href=routes::ACTIVITY>"All activity"</a></div>
            {rows.collect_view()}
            {none}
        </section>
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
            let days = format::count(DELETION_WAIT.as_secs() / 86_400, "day");
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
fn Warnings(apps: Vec<Authenticator>, codes: Option<BackupCodes>) -> impl IntoView {
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
                format!("{} left.", format::count(left, "backup code")),
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
        let action = view! { <PostButton action=routes::TWO_FACTOR_SETUP_START text="Set up" of="two-factor"/> }.into_any();
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
    let apps = apps.into_iter().map(|app| view! { <p>{app.name}", added "<Date at=app.added_at/></p> }).collect_view();
    view! {
        <Row glyph=Glyph::Shield heading="Two-factor" badge=Some(badge) action=Some(action)>{apps}</Row>
        <BackupCodesRow codes/>
        {trusted.map(|count| view! { <TrustedBrowsersRow count/> })}
    }
    .into_any()
}

pub async fn get(State(state): State<AppState>, SignedIn(_, authority): SignedIn) -> Answer {
    show(&state, authority, None).await
}

/// The page. `refused` is the name that was typed, where it can't be one.
async fn show(state: &AppState, authority: Authority, refused: Option<(String, NameError)>) -> Answer {
    let two_factor = two_factor::summary(state, &authority).await?;
    let mut sessions = state.auth.sessions().list(&authority).await?;
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
#[server(prefix = "", endpoint = "account/name", protocol = FormPost)]
pub async fn change_name(#[server(default)] name: String) -> Answer {
    let (form, SignedIn(_, authority)) = Form::authorize(routes::ACCOUNT).await?;
    let error = match form.state.auth.self_service().set_name(&authority, &name, &form.from).await {
        Ok(()) => return see_other(routes::ACCOUNT),
        Err(SetNameError::TooLong) => NameError::TooLong,
        Err(SetNameError::NotOneLine) => NameError::NotOneLine,
        Err(SetNameError::Limited(limited)) => {
            return Err(limited::answer(limited, form.state.auth.policy().link_ttl).into());
        }
        Err(SetNameError::Unavailable(error)) => return Err(error.into()),
    };
    Err(show(&form.state, authority, Some((name, error))).await?.into())
}
