//! `/admin/users/{id}`: one account, and what can be done about it.

use auth::{
    primitives::{cursor::Cursor, requester::Requester},
    self_service::activity::Filter,
    sessions::SessionView,
};
use axum::{Extension, extract::Path};

use crate::{
    pages::{
        account::{
            activity::{By, Entry},
            sessions::SessionRow,
            two_factor::TwoFactorSummary,
        },
        admin::{
            change::Change,
            person::{self, Reset, StatusBadge, User},
        },
        prelude::*,
    },
    ui::event_text::Told,
};

/// `who`: the administrator's own address. `entries`: what happened to the account, the newest first. `done`: what was changed a moment
/// ago.
#[component]
pub fn UserPage(
    who: String,
    user: User,
    entries: Vec<Entry>,
    beside: Beside,
    done: Option<Change>,
    now: OffsetDateTime,
) -> impl IntoView {
    let (id, email, status, admin) = (user.id.clone(), user.email.clone(), user.status, user.admin);
    // Anyone can make a link that says something was done. The page says it only where it is so.
    let done = done.filter(|change| !change.applies_to(&user));
    let badges = view! {
        <StatusBadge status/>
        {admin.then(|| view! { <Badge text="Admin"/> })}
    }
    .into_any();
    let (sessions, waits) = (user.sessions.clone(), user.reset.clone());
    // Erased: as one type, a page this large is too deep for the compiler.
    let about = view! {
        <Facts user=user.clone()/>
        <TwoFactor two_factor=user.two_factor.clone() reset=user.reset.clone()/>
        <Changes user/>
    }
    .into_any();
    let lists = view! {
        <Sessions sessions now/>
        <RecentActivity id entries beside now/>
    }
    .into_any();
    view! {
        <Admin
            title=email
            email=who
            above=vec![("Users", routes::ADMIN_USERS.to_owned())]
            crumb="Account"
            badges=Some(badges)
            help=Some(help::ADMIN_ACCOUNTS)
        >
            {done.map(|change| {
                let (title, text) = change.done(waits.as_ref());
                view! { <Notice tone=Tone::Ok title>{text}</Notice> }
            })}
            <div class="sides">
                <div>{about}</div>
                <div>{lists}</div>
            </div>
        </Admin>
    }
}

#[component]
fn Facts(user: User) -> impl IntoView {
    let User { id, name, created, last_sign_in, deletes, .. } = user;
    let last_sign_in = last_sign_in.map_or_else(|| "Never".into_any(), |at| view! { <DateTime at/> }.into_any());
    view! {
        <section class="panel">
            <h2>"Account"</h2>
            <dl>
                {name.map(|name| view! { <div><dt>"Name"</dt><dd>{name}</dd></div> })}
                <div><dt>"User ID"</dt><dd class="mono">{id}</dd></div>
                <div><dt>"Since"</dt><dd><Date at=created/></dd></div>
                <div><dt>"Last sign-in"</dt><dd>{last_sign_in}</dd></div>
                {deletes.map(|at| view! { <div><dt>"Will be deleted"</dt><dd><Date at/></dd></div> })}
            </dl>
        </section>
    }
}

#[component]
fn TwoFactor(two_factor: TwoFactorSummary, reset: Option<Reset>) -> impl IntoView {
    let on = two_factor.is_on();
    let (kind, text) = if on { (BadgeKind::Ok, "On") } else { (BadgeKind::Off, "Off") };
    let TwoFactorSummary { apps, codes, trusted } = two_factor;
    let apps = apps.into_iter().map(|app| {
        view! {
            <p>{app.name}", added "<Date at=app.added_at/>{app.stopped.then_some(". Off after too many wrong codes")}</p>
        }
    });
    let codes = match codes {
        None => "None".to_owned(),
        Some(codes) if !codes.saved => "Not saved".to_owned(),
        Some(codes) => format!("{} of {} left", codes.left, codes.total),
    };
    view! {
        <section class="panel">
            <h2>"Two-factor"<Badge kind text/></h2>
            {on.then(|| view! {
                <dl>
                    <div><dt>"Authenticator apps"</dt><dd>{apps.collect_view()}</dd></div>
                    <div><dt>"Backup codes"</dt><dd>{codes}</dd></div>
                    {trusted.map(|count| view! { <div><dt>"Trusted browsers"</dt><dd>{count}</dd></div> })}
                    {reset.map(|reset| view! { <div><dt>"Reset"</dt><dd><Waiting reset/></dd></div> })}
                </dl>
            })}
        </section>
    }
}

#[component]
fn Waiting(reset: Reset) -> impl IntoView {
    let Reset { by, reason, asked, due, .. } = reset;
    let when = due.map_or_else(
        || view! { <p>"When another administrator agrees"</p> }.into_any(),
        |at| view! { <p><DateTime at/></p> }.into_any(),
    );
    let by = by.unwrap_or_else(|| "an administrator".to_owned());
    view! {
        {when}
        <p class="hint">"Asked for by "<span class="whole">{by}</span>" at "<DateTime at=asked/>": “"{reason}"”"</p>
    }
    // As above.
    .into_any()
}

/// Each change has a page that asks first.
#[component]
fn Changes(user: User) -> impl IntoView {
    let changes = Change::ALL.into_iter().filter(|change| change.applies_to(&user));
    let changes = changes.map(|change| view! { <a class="button sm" href=change.path(&user.id)>{change.words().verb}</a> });
    view! {
        <section class="panel">
            <h2>"Change this account"</h2>
            <div class="body">
                <p class="small">"Each asks you for a reason first. The account's owner is told by email."</p>
                <div class="row-actions">{changes.collect_view()}</div>
            </div>
        </section>
    }
}

#[component]
fn Sessions(sessions: Vec<SessionView>, now: OffsetDateTime) -> impl IntoView {
    let none = sessions.is_empty();
    let rows = sessions.into_iter().map(|session| view! { <SessionRow session now ends=false/> });
    view! {
        <section class="panel">
            <h2>"Sessions"</h2>
            {rows.collect_view()}
            {none.then(|| view! { <Empty heading="No sessions" text="Nobody is signed in to this account."/> })}
        </section>
    }
}

const COLUMNS: &[Column] = &[Column::text("What"), Column::text("Time (UTC)"), Column::text("From")];

#[component]
fn RecentActivity(id: String, entries: Vec<Entry>, beside: Beside, now: OffsetDateTime) -> impl IntoView {
    let rows = entries.into_iter().map(|entry| cells(entry, now)).collect();
    let path = move |at: &str| routes::with_query(&person::path(&id), [("at", at)]) + "#activity";
    view! {
        <section class="panel" id="activity">
            <h2>"Activity"</h2>
            <Table label="Activity" columns=COLUMNS rows>
                <Empty heading="Nothing here yet" text="Sign-ins and changes in the last 90 days will show up in this list."/>
            </Table>
            <NewerOlder text="Last 90 days" beside path/>
        </section>
    }
}

fn cells(entry: Entry, now: OffsetDateTime) -> Vec<AnyView> {
    let Entry { at, told: Told { what, more, .. }, by } = entry;
    let from = match by {
        By::Administrator => view! { <p>"By an administrator"</p> }.into_any(),
        By::Browser { device, ip } => view! {
            <p>{device}</p>
            <p class="hint whole">{ip}</p>
        }
        .into_any(),
    };
    vec![
        view! { <p>{what}</p>{more.map(|more| view! { <p class="hint">{more}</p> })} }.into_any(),
        view! { <Lately at now/> }.into_any(),
        from,
    ]
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub struct UserQuery {
    at: String,
    done: String,
}

pub async fn get(
    State(state): State<AppState>,
    Administrator(_, authority): Administrator,
    Extension(from): Extension<Requester>,
    Path(id): Path<String>,
    Query(UserQuery { at, done }): Query<UserQuery>,
) -> Answer {
    let id = id.parse().map_err(|_| AccessDenied::NoSuchPage)?;
    let user = person::find(&state, &authority, &from, id).await?.ok_or(AccessDenied::NoSuchPage)?;
    let found = state.auth.self_service().activity(id, Filter::All, Cursor::parse(&at)).await?;
    let (beside, done, now) = (Beside::from(&found), Change::parse(&done), state.auth.now());
    let entries = found.rows.into_iter().filter_map(Entry::of).collect();
    Ok(page(StatusCode::OK, || view! { <UserPage who=authority.email user entries beside done now/> }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{http::render::render, pages::admin::person::tests::user};
    use auth::administration::Status;
    use time::macros::datetime;

    const THEN: OffsetDateTime = datetime!(2026-11-03 10:12 UTC);
    const NOW: OffsetDateTime = datetime!(2026-11-24 14:29 UTC);

    fn activity() -> Vec<Entry> {
        let entry = |what, by| Entry { at: THEN, told: Told { what, more: Some("<u>".to_owned()), new_device: false }, by };
        let browser = By::Browser { device: "<s>".to_owned(), ip: "203.0.113.24".to_owned() };
        vec![entry("Signed in", browser), entry("Two-factor reset", By::Administrator)]
    }

    fn html(user: User, entries: Vec<Entry>, done: Option<Change>) -> String {
        let beside = Beside { newer: None, older: (!entries.is_empty()).then(|| "o1&2".to_owned()) };
        render(move || view! { <UserPage who="priya@example.org".to_owned() user entries beside done now=NOW/> })
    }

    fn shown(user: User) -> String {
        html(user, activity(), None)
    }

    #[test]
    fn what_people_and_their_browsers_say_is_text() {
        let html = shown(user("<a>@example.org", Status::Active));
        for tag in ["<script", "<i>", "<b>", "<u>", "<s>", "<a>"] {
            assert!(!html.contains(tag), "{tag}");
        }
        assert!(html.contains("<dd>&lt;script&gt;</dd>") && html.contains("<p>&lt;s&gt;</p>"));
    }

    #[test]
    fn activity_says_who_did_it_and_goes_on() {
        let html = shown(user("mara@example.org", Status::Active));
        assert!(html.contains(r#"<p>Signed in</p><p class="hint">&lt;u&gt;</p></th>"#));
        assert!(html.contains(r#"<td role="cell" data-label="From"><p>By an administrator</p></td>"#));
        assert!(html.contains(r#"href="/admin/users/7?at=o1%262#activity" class="button sm">Older</a>"#));
        let none = self::html(user("mara@example.org", Status::Active), vec![], None);
        assert!(none.contains("Nothing here yet") && !none.contains(r#"aria-label="Pages""#));
    }

    #[test]
    fn only_what_can_be_changed_is_offered() {
        let offers = |user| {
            let html = shown(user);
            Change::ALL.into_iter().filter(|change| html.contains(&change.path("7"))).collect::<Vec<_>>()
        };
        let active = user("mara@example.org", Status::Active);
        assert_eq!(offers(active.clone()), [Change::EndSessions, Change::ResetTwoFactor, Change::MakeAdmin, Change::Disable]);
        let bare = User { sessions: vec![], two_factor: TwoFactorSummary::default(), ..active };
        assert_eq!(offers(User { admin: true, ..bare.clone() }), [Change::RemoveAdmin, Change::Disable]);
        assert_eq!(offers(User { status: Status::Disabled, ..bare }), [Change::MakeAdmin, Change::Enable]);
    }

    #[test]
    fn a_link_can_not_say_that_something_was_done() {
        let done = |user, change| html(user, activity(), Some(change)).contains(r#"class="notice ok""#);
        let active = user("mara@example.org", Status::Active);
        for change in Change::ALL {
            assert_eq!(done(active.clone(), change), !change.applies_to(&active), "{change:?}");
        }
        assert!(!done(active.clone(), Change::Disable) && done(User { status: Status::Disabled, ..active }, Change::Disable));
    }
}
