//! `/account/activity`: what happened to the account lately.

use auth::{
    primitives::cursor::Cursor,
    self_service::activity::{self, Filter},
};
use serde::Deserialize;

use crate::{
    pages::prelude::*,
    ui::event_text::{self, Told},
};

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Entry {
    pub at: OffsetDateTime,
    pub told: Told,
    pub by: By,
}

/// Who did it.
#[derive(Clone, Debug)]
pub enum By {
    /// Somebody in a browser. Empty where nothing is known of it.
    Browser { device: String, ip: String },
    /// Not the account's owner, but somebody who runs the service.
    Administrator,
}

impl Entry {
    /// `None` where there is nothing to tell its owner.
    pub(crate) fn of(entry: activity::Entry) -> Option<Self> {
        let by = if entry.by_other {
            By::Administrator
        } else {
            By::Browser { device: entry.device.unwrap_or_default(), ip: entry.ip.map(|ip| ip.to_string()).unwrap_or_default() }
        };
        Some(Self { at: entry.at, told: event_text::told(&entry.happened, &entry.details)?, by })
    }
}

/// The newest first.
#[component]
pub fn ActivityPage(email: String, show: Filter, entries: Vec<Entry>, beside: Beside, now: OffsetDateTime) -> impl IntoView {
    let empty = entries.is_empty();
    let days = entries
        .chunk_by(|one, next| one.at.to_utc().date() == next.at.to_utc().date())
        .map(|entries| view! { <Day entries=entries.to_vec() now/> })
        .collect_view();
    let nothing = match show {
        Filter::All => "Sign-ins and changes to your account will show up in this list.",
        Filter::SignIns => "Sign-ins to your account will show up in this list.",
        Filter::Changes => "Changes to your account will show up in this list.",
        Filter::Problems => "Wrong codes, and whatever else goes wrong, will show up in this list.",
    };
    view! {
        <Settings title="Activity" email help=(!empty).then_some(help::ACTIVITY_I_DONT_RECOGNISE) lede="Sign-ins and changes to your account in the last 90 days. Times are in UTC.">
            <Filters show/>
            {days}
            {empty.then(|| view! { <div class="panel"><Empty heading="Nothing here yet" text=nothing/></div> })}
            <NewerOlder beside path=move |at| path(show, at)/>
            {(!empty).then(|| view! {
                <Notice tone=Tone::Info title="Something here you don't recognise?">
                    <a href=routes::SESSIONS>"Sign out your other sessions"</a>
                    ", then check that nobody else can read your email."
                </Notice>
            })}
        </Settings>
    }
}

#[component]
fn Day(entries: Vec<Entry>, now: OffsetDateTime) -> impl IntoView {
    let day =
        entries.first().map(|entry| view! { <time datetime=format::machine_date(entry.at)>{format::day(entry.at, now)}</time> });
    let rows = entries.into_iter().map(|entry| view! { <EntryRow entry/> });
    view! {
        <section class="day">
            <h2>{day}</h2>
            <div class="panel">{rows.collect_view()}</div>
        </section>
    }
}

/// `brief`: shorter, without the IP address, where no day stands above it; its day is said as of that moment.
#[component]
pub(crate) fn EntryRow(entry: Entry, #[prop(optional)] brief: Option<OffsetDateTime>) -> impl IntoView {
    let Entry { at, told, by } = entry;
    let badge = told.new_device.then(|| view! { <Badge kind=BadgeKind::Warn text="New device"/> }.into_any());
    let (device, ip) = match by {
        By::Browser { device, ip } => (device, ip),
        By::Administrator => ("By an administrator".to_owned(), String::new()),
    };
    let (class, ip, time) = match brief {
        Some(now) => ("hint", String::new(), format::short_time(at, now)),
        None => ("hint whole", ip, format::time_of_day(at)),
    };
    let line = format::line([device, ip, told.more.unwrap_or_default()]);
    let end = view! { <time datetime=format::machine_time(at)>{time}</time> }.into_any();
    view! {
        <Row heading=told.what badge end=Some(end)>
            {(!line.is_empty()).then(|| view! { <p class=class>{line}</p> })}
        </Row>
    }
}

#[component]
fn Filters(show: Filter) -> impl IntoView {
    let tabs = Filter::ALL.iter().map(move |&filter| {
        let name = match filter {
            Filter::All => "All",
            Filter::SignIns => "Sign-ins",
            Filter::Changes => "Changes",
            Filter::Problems => "Problems",
        };
        (path(filter, ""), name, filter == show)
    });
    view! { <Tabs label="Show" tabs/> }
}

/// This page, showing so much of it.
fn path(show: Filter, at: &str) -> String {
    let show = if show == Filter::All { "" } else { show.as_str() };
    routes::with_query(routes::ACTIVITY, [("show", show), ("at", at)])
}

/// What of the activity, and from where on. What can't be read is left out: the page then shows all, or begins at the newest.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Part {
    show: String,
    at: String,
}

pub async fn get(State(state): State<AppState>, SignedIn(_, authority): SignedIn, Query(Part { show, at }): Query<Part>) -> Answer {
    let show = Filter::parse(&show).unwrap_or_default();
    let found = state.auth.self_service().activity(authority.user, show, Cursor::parse(&at)).await?;
    let (beside, now) = (Beside::from(&found), state.auth.now());
    let entries = found.rows.into_iter().filter_map(Entry::of).collect();
    Ok(page(StatusCode::OK, || view! { <ActivityPage email=authority.email show entries beside now/> }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{http::render::render, ui::event_text::told};
    use serde_json::json;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-24 14:32 UTC);

    fn entry(at: OffsetDateTime, happened: &str, by: By) -> Entry {
        let details = json!({ "left": 2, "method": "code", "second_method": "totp", "new_device": true });
        Entry { at, told: told(happened, &details).expect("is told of"), by }
    }

    fn browser() -> By {
        By::Browser { device: "Firefox on Windows".to_owned(), ip: "203.0.113.24".to_owned() }
    }

    fn html(show: Filter, entries: Vec<Entry>, newer: Option<&str>, older: Option<&str>) -> String {
        let beside = Beside { newer: newer.map(str::to_owned), older: older.map(str::to_owned) };
        render(move || view! { <ActivityPage email="mara@example.org".to_owned() show entries beside now=NOW/> })
            .replace('\u{a0}', " ")
    }

    #[test]
    fn entries_stand_under_their_day() {
        let entries = vec![
            entry(datetime!(2026-11-24 00:00 UTC), "session.created", browser()),
            entry(datetime!(2026-11-23 23:59 UTC), "backup_code.used", browser()),
            entry(datetime!(2026-11-23 08:10 UTC), "two_factor.reset", By::Administrator),
        ];
        let html = html(Filter::All, entries, None, None);
        assert!(html.contains("<title>Activity – Latchkey</title>"));
        assert_eq!(html.matches(r#"<section class="day">"#).count(), 2);
        assert!(html.contains(r#"<h2><time datetime="2026-11-24">Today, 24 November</time></h2>"#));
        assert!(html.contains(r#"<h2><time datetime="2026-11-23">Monday, 23 November</time></h2>"#));
        assert!(html.contains(
            r#"Signed in from a new device</span><span class="badge warn">New device</span></h3><p class="hint whole">Firefox on Windows · 203.0.113.24 · Email code, authenticator app</p>"#
        ));
        assert!(html.contains("203.0.113.24 · 2 codes left"));
        assert!(html.contains(r#"<div class="end"><time datetime="2026-11-23T23:59Z">23:59</time></div>"#));
        assert!(html.contains("<a href=\"/account/sessions\">Sign out your other sessions</a>, then check"));
    }

    #[test]
    fn what_nobody_is_known_for_has_no_empty_line() {
        let nobody = By::Browser { device: String::new(), ip: String::new() };
        assert!(
            html(Filter::All, vec![entry(NOW, "user.created", nobody)], None, None).contains("Account created</span></h3></div>")
        );
    }

    #[test]
    fn filters_and_pages_are_links() {
        let html = html(Filter::SignIns, vec![entry(NOW, "session.created", browser())], None, Some("a/b&c"));
        assert!(html.contains(r#"<a href="/account/activity">All</a>"#));
        assert!(html.contains(r#"<a href="/account/activity?show=sign-ins" aria-current="true">Sign-ins</a>"#));
        assert!(html.contains(r#"<a href="/account/activity?show=problems">Problems</a>"#));
        assert!(html.contains(r#"<a href="/account/activity?show=sign-ins&amp;at=a%2Fb%26c" class="button sm">Older</a>"#));
        assert!(html.contains(r#"<a role="link" aria-disabled="true" class="button sm">Newer</a>"#));
    }

    #[test]
    fn text_stays_text() {
        let by = By::Browser { device: "<b>".to_owned(), ip: "<i>".to_owned() };
        let html = html(Filter::All, vec![entry(NOW, "<u>.<u>", by)], None, None);
        assert!(html.contains("&lt;u&gt;") && !html.contains("<b>") && !html.contains("<i>") && !html.contains("<u>"));
    }
}
