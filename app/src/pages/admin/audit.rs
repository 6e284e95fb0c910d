//! `/admin/audit`: what happened, narrowed down; what of it is unusual; how its seal stands; and a copy to take along.

use std::{collections::HashMap, net::IpAddr};

use auth::{
    audit::{About, AuditFilter, AuditRow, Format, Kind, Name, SealState, Unusual},
    identity::Actor,
    primitives::{cursor::Cursor, email_address::EmailAddress, requester::device},
};
use axum::body::Body;
use http::header;
use serde_json::Value;
use time::{Duration, Time};
use uuid::Uuid;

use crate::{
    pages::{
        admin::{line, not_done, person},
        prelude::*,
    },
    ui::{check_text, event_text, unusual},
};

/// Events on one page.
const PAGE: usize = 25;
/// As long as an address can be.
const MAX_SEARCH: usize = 254;
/// Rows of a download: as many as a spreadsheet opens, and as are written while somebody waits.
const MOST_EXPORTED: usize = 100_000;
/// How far back the unusual is looked for.
const REPORTED: Duration = Duration::days(7);
/// Rows are sealed within a minute or two.
const LATE: Duration = Duration::minutes(10);

/// Events that belong together: what the URL says, its words, and the events. `failures` say that something did not work, or is wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    name: &'static str,
    text: &'static str,
    events: &'static str,
    failures: &'static str,
}

impl Group {
    fn events(&self) -> impl Iterator<Item = &'static str> {
        self.events.split_whitespace().chain(self.failures.split_whitespace())
    }
}

/// Every event is in one of these.
pub const GROUPS: [Group; 8] = [
    Group {
        name: "sign-in",
        text: "Signing in",
        events: "link.requested link.redeemed link.cancelled session.created session.revoked",
        failures: "link.refused",
    },
    Group {
        name: "two-factor",
        text: "Two-factor",
        events: "totp.setup_started totp.enrolled totp.removed totp.accepted backup_codes.created backup_codes.saved \
            backup_code.used two_factor.turned_off two_factor.reset two_factor.reset_requested \
            two_factor.reset_stopped device.trusted device.revoked browser.forgotten step_up.mailed step_up.passed",
        failures: "totp.refused totp.locked totp.unreadable backup_code.refused step_up.refused",
    },
    Group {
        name: "accounts",
        text: "Accounts",
        events: "user.created user.deleted invite.created invite.used name.changed email.change_requested email.changed \
            email.change_undone account.exported account.deletion_requested account.deletion_cancelled",
        failures: "email.change_refused",
    },
    Group {
        name: "administration",
        text: "Administration",
        events: "user.viewed user.disabled user.enabled user.sessions_ended admin.granted admin.revoked sessions.ended limit.released",
        failures: "",
    },
    Group {
        name: "rollout",
        text: "Rollout",
        events: "flag.changed rollout.started rollout.moved rollout.released rollout.paused rollout.resumed rollout.aborted \
            rollout.finished",
        failures: "rollout.held rollout.rolled_back",
    },
    Group { name: "mail", text: "Mail", events: "mail.sent mail.retried", failures: "mail.failed" },
    Group { name: "keys", text: "Keys", events: "api_key.created api_key.revoked keys.rotated", failures: "" },
    Group {
        name: "system",
        text: "System",
        events: "audit.exported audit.accepted",
        failures: "network.too_many_requests reconcile.finished audit.tampered",
    },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Worked,
    Failed,
}

impl Outcome {
    const ALL: [Self; 2] = [Self::Worked, Self::Failed];

    /// What the URL says, and its words.
    const fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::Worked => ("worked", "Worked"),
            Self::Failed => ("failed", "Failed or refused"),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Period {
    #[default]
    Today,
    Week,
    Month,
    Quarter,
    All,
}

impl Period {
    const ALL: [Self; 5] = [Self::Today, Self::Week, Self::Month, Self::Quarter, Self::All];

    /// What the URL says, and its words.
    const fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::Today => ("today", "Today"),
            Self::Week => ("7d", "Last 7 days"),
            Self::Month => ("30d", "Last 30 days"),
            Self::Quarter => ("90d", "Last 90 days"),
            Self::All => ("all", "All"),
        }
    }

    fn since(self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let days = match self {
            Self::Today => return Some(now.to_utc().replace_time(Time::MIDNIGHT).into()),
            Self::Week => 7,
            Self::Month => 30,
            Self::Quarter => 90,
            Self::All => return None,
        };
        Some(now - Duration::days(days))
    }
}

/// What narrows the list down, as the URL says it. It holds ids and never an address of a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Narrowed {
    pub q: String,
    pub group: Option<&'static Group>,
    pub outcome: Option<Outcome>,
    pub period: Period,
}

impl Narrowed {
    /// What is no filter filters nothing.
    fn read(AuditQuery { q, event, outcome, period, .. }: &AuditQuery) -> Self {
        Self {
            q: line(q).chars().take(MAX_SEARCH).collect(),
            group: GROUPS.iter().find(|one| one.name == event),
            outcome: Outcome::ALL.into_iter().find(|one| one.name().0 == outcome),
            period: Period::ALL.into_iter().find(|one| one.name().0 == period).unwrap_or_default(),
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let (group, outcome) = (self.group.map_or("", |group| group.name), self.outcome.map_or("", |one| one.name().0));
        let period = if self.period == Period::default() { "" } else { self.period.name().0 };
        let pairs = [("q", self.q.as_str()), ("event", group), ("outcome", outcome), ("period", period)];
        pairs.into_iter().filter(|(_, value)| !value.is_empty())
    }

    fn path(&self, at: &str) -> String {
        routes::with_query(routes::ADMIN_AUDIT, self.pairs().chain([("at", at)]))
    }

    /// The events' names; empty where all are asked for.
    fn events(&self) -> Vec<String> {
        if self.group.is_none() && self.outcome.is_none() {
            return Vec::new();
        }
        let groups = GROUPS.iter().filter(|one| self.group.is_none_or(|group| group == *one));
        let of = |group: &Group| match self.outcome {
            None => group.events().collect(),
            Some(Outcome::Worked) => group.events.split_whitespace().collect(),
            Some(Outcome::Failed) => group.failures.split_whitespace().collect::<Vec<_>>(),
        };
        groups.flat_map(of).map(str::to_owned).collect()
    }
}

/// Why what was typed can't be looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchError {
    NoAccount,
    Nothing,
}

impl SearchError {
    const fn text(self) -> &'static str {
        match self {
            Self::NoAccount => "No account has this address",
            Self::Nothing => "Enter an email address, an ID, an IP address or an event's name, like link.refused",
        }
    }
}

/// Whose doing it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    Account(MaskedAddress),
    ApiKey(String),
    /// Somebody who is gone, the shell, or nobody.
    Words(&'static str),
}

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Event {
    pub at: OffsetDateTime,
    pub what: &'static str,
    pub more: Option<String>,
    pub by: By,
    /// Whom it happened to, where that is somebody else.
    pub whom: Option<MaskedAddress>,
    pub reason: Option<String>,
    pub ip: Option<String>,
    pub request: Option<String>,
    /// The account's page.
    pub account: Option<String>,
    /// All there is about it.
    pub facts: Vec<(String, String)>,
}

#[derive(Clone, Debug, Default)]
pub struct Events {
    pub rows: Vec<Event>,
    pub beside: Beside,
}

/// Something unusual.
#[derive(Clone, Debug)]
pub struct Oddity {
    pub what: &'static str,
    pub advice: &'static str,
    pub at: OffsetDateTime,
    /// "12 times", "Reason: Ticket 4821".
    pub more: Vec<String>,
    /// The events behind it.
    pub path: String,
}

/// What the page shows.
#[derive(Clone, Debug)]
pub enum Shown {
    Events(Narrowed, Events, Option<SearchError>),
    Unusual(Vec<Oddity>),
}

const COLUMNS: &[Column] =
    &[Column::text("Time"), Column::text("Event"), Column::text("By"), Column::text("Detail"), Column::text("Request")];

#[component]
pub fn AuditPage(who: String, shown: Shown, seal: SealState, now: OffsetDateTime) -> impl IntoView {
    let standing = standing(&seal, now);
    let tampered = seal.verified.as_ref().is_some_and(|last| !last.findings.is_empty());
    let help = if tampered { help::ADMIN_AUDIT_TAMPERED } else { help::ADMIN_AUDIT };
    let (error, action, main) = match shown {
        Shown::Events(narrowed, events, error) => {
            let fields = narrowed.pairs().map(|(name, value)| view! { <input type="hidden" name=name value=value.to_owned()/> });
            let action = view! {
                <form method="post" action=routes::ADMIN_AUDIT_EXPORT>
                    {fields.collect_view()}
                    <button class="button sm"><Icon glyph=Glyph::Download/>"Download (.csv)"</button>
                </form>
            };
            (error.is_some(), Some(action.into_any()), view! { <List narrowed events error now/> }.into_any())
        }
        Shown::Unusual(found) => (false, None, view! { <Unusuals found now/> }.into_any()),
    };
    let unusual = action.is_none();
    let tabs = [
        (routes::ADMIN_AUDIT.to_owned(), "All events", !unusual),
        (format!("{}?show=unusual", routes::ADMIN_AUDIT), "Unusual", unusual),
    ];
    view! {
        <Admin title="Audit log" email=who action error help=Some(help)>
            <p class="lede">"Every admin action and security event. Kept for 400 days. Times are in UTC. "{standing}</p>
            <Seal seal now/>
            <Tabs label="What to show" tabs/>
            {main}
        </Admin>
    }
}

fn since(at: OffsetDateTime, now: OffsetDateTime) -> String {
    format::ago((now - at).try_into().unwrap_or_default())
}

/// How the seal stands, in two sentences.
fn standing(seal: &SealState, now: OffsetDateTime) -> String {
    let sealed = match (seal.head, seal.sealed_at) {
        (Some(head), Some(at)) => {
            format!("Sealed up to batch {}, {}.", format::grouped(head.number.unsigned_abs()), since(at, now))
        }
        _ => "Nothing is sealed yet.".to_owned(),
    };
    let Some(last) = &seal.verified else { return format!("{sealed} Not verified yet.") };
    let rows = format::grouped(last.rows.unsigned_abs());
    let found: u64 = last.findings.values().sum();
    let found = if found == 0 { "nothing was changed".to_owned() } else { format!("{} found", format::grouped(found)) };
    format!("{sealed} Verified {}, {rows} events: {found}.", since(last.at, now))
}

/// What is wrong with it.
#[component]
fn Seal(seal: SealState, now: OffsetDateTime) -> impl IntoView {
    let tampered = seal.verified.is_some_and(|last| !last.findings.is_empty());
    let late = seal.unsealed_since.filter(|since| now - *since > LATE);
    view! {
        {tampered.then(|| view! {
            <Notice tone=Tone::Danger title="The audit log isn't as it was sealed">
                "Somebody changed, removed or added events in the database, or servers sealed events late. Run latchkey audit verify to see which."
            </Notice>
        })}
        {late.map(|at| view! {
            <Notice tone=Tone::Warn title="The newest events aren't sealed">
                "The oldest of them happened "{since(at, now)}". Servers seal events every minute; see what they log."
            </Notice>
        })}
    }
}

#[component]
fn List(narrowed: Narrowed, events: Events, error: Option<SearchError>, now: OffsetDateTime) -> impl IntoView {
    let Events { rows, beside } = events;
    let today = narrowed.period == Period::Today;
    let everything = view! { <a class="button" href=format!("{}?period=all", routes::ADMIN_AUDIT)>"Show everything"</a> };
    // What was looked for is nowhere, whatever the period.
    let (heading, text) = match error {
        Some(_) => ("Nothing to show", "Look for something else, or clear the filters."),
        None => ("Nothing here yet", "Choose a longer period, or clear the filters."),
    };
    let beside = if rows.is_empty() { Beside::default() } else { beside };
    let rows = rows.into_iter().map(|row| cells(row, today, now)).collect();
    let path = narrowed.clone();
    view! {
        {error.map(|error| view! { <ErrorSummary errors=vec![("q", error.text().to_owned())]/> })}
        <div class="panel">
            <Filters narrowed/>
            <Table label="Events" columns=COLUMNS header=1 rows>
                <Empty heading text action=Some(everything.into_any())/>
            </Table>
            <NewerOlder beside path=move |at| path.path(at)/>
        </div>
    }
}

#[component]
fn Filters(narrowed: Narrowed) -> impl IntoView {
    let groups = [("", "Any")].into_iter().chain(GROUPS.iter().map(|group| (group.name, group.text))).collect();
    let outcomes = [("", "Any")].into_iter().chain(Outcome::ALL.map(Outcome::name)).collect();
    let periods = Period::ALL.map(Period::name).into();
    view! {
        <form class="filters" method="post" action=routes::ADMIN_AUDIT role="search">
            <SearchField id="q" label="Person, event, IP or request ID" value=narrowed.q maxlength=MAX_SEARCH/>
            <SelectField id="event" label="Event" options=groups chosen=narrowed.group.map_or("", |group| group.name)/>
            <SelectField id="outcome" label="Outcome" options=outcomes chosen=narrowed.outcome.map_or("", |one| one.name().0)/>
            <SelectField id="period" label="Period" options=periods chosen=narrowed.period.name().0/>
            <button class="button">"Search"</button>
        </form>
    }
}

fn cells(event: Event, today: bool, now: OffsetDateTime) -> Vec<AnyView> {
    let Event { at, what, more, by, whom, reason, ip, request, account, facts } = event;
    let time = if today { format::clock(at).trim_end_matches(" UTC").to_owned() } else { format::lately(at, now) };
    let by = match by {
        By::Account(address) => view! { <p class="whole"><Masked address/></p> }.into_any(),
        By::ApiKey(name) => view! { <p>"API key "{name}</p> }.into_any(),
        By::Words(words) => words.into_any(),
    };
    // The last characters: the first ones are the time's, and those of one minute are alike.
    let short = request.as_ref().map(|id| id.chars().rev().take(8).collect::<Vec<_>>().into_iter().rev().collect::<String>());
    let request = match (request, short) {
        (Some(id), Some(short)) => {
            let path = Narrowed { q: id, period: Period::All, ..Narrowed::default() }.path("");
            view! { <a class="mono" href=path><span class="vh">"All events of request "</span>{short}</a> }.into_any()
        }
        _ => "–".into_any(),
    };
    let facts = facts.into_iter().map(|(name, value)| view! { <div><dt>{name}</dt><dd>{value}</dd></div> }).collect_view();
    vec![
        view! { <time datetime=format::machine_time(at)>{time}</time> }.into_any(),
        what.into_any(),
        by,
        view! {
            {whom.map(|address| view! { <p class="whole"><Masked address/></p> })}
            {more.map(|more| view! { <p>{more}</p> })}
            {reason.map(|reason| view! { <p class="hint">"Reason: "{reason}</p> })}
            {ip.map(|ip| view! { <p class="hint">{ip}</p> })}
            <details>
                <summary>"Details"<span class="vh">" of "{what}</span></summary>
                <dl>{facts}</dl>
                {account.map(|path| view! { <p><a href=path>"Open the account"</a></p> })}
            </details>
        }
        .into_any(),
        request,
    ]
}

const ODDITIES: &[Column] = &[Column::text("What"), Column::text("Last (UTC)"), Column::text("Detail"), Column::text("Events")];

#[component]
fn Unusuals(found: Vec<Oddity>, now: OffsetDateTime) -> impl IntoView {
    let rows = found.into_iter().map(|Oddity { what, advice, at, more, path }| {
        vec![
            view! { {what}<p class="hint">{advice}</p> }.into_any(),
            view! { <Lately at now/> }.into_any(),
            more.into_iter().map(|more| view! { <p>{more}</p> }).collect_view().into_any(),
            view! { <a href=path>"Show"<span class="vh">" the events: "{what}</span></a> }.into_any(),
        ]
    });
    view! {
        <div class="panel">
            <Table label="Unusual in the last 7 days" columns=ODDITIES rows=rows.collect()>
                <Empty heading="Nothing unusual" text="Guessing, replays and rare acts of the last 7 days would be listed here."/>
            </Table>
        </div>
    }
}

/// What the page's URL says, and its forms.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct AuditQuery {
    q: String,
    event: String,
    outcome: String,
    period: String,
    at: String,
    show: String,
}

pub async fn get(
    State(state): State<AppState>,
    Administrator(_, authority): Administrator,
    Query(query): Query<AuditQuery>,
) -> Answer {
    let now = state.auth.now();
    let seal = state.auth.audit().head().await?;
    let (status, shown) = if query.show == "unusual" {
        let found = state.auth.audit().report(now - REPORTED).await?;
        (StatusCode::OK, Shown::Unusual(found.iter().map(oddity).collect()))
    } else {
        let narrowed = Narrowed::read(&query);
        // No address comes this way: the form leads here with ids.
        match filter(&state, &narrowed, now).await? {
            Ok(filter) => {
                let events = events(&state, &filter, Cursor::parse(&query.at), &seal).await?;
                (StatusCode::OK, Shown::Events(narrowed, events, None))
            }
            Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, Shown::Events(narrowed, Events::default(), Some(error))),
        }
    };
    Ok(page(status, || view! { <AuditPage who=authority.email shown seal now/> }))
}

/// What the narrowed list asks for.
async fn filter(
    state: &AppState,
    narrowed: &Narrowed,
    now: OffsetDateTime,
) -> Result<Result<AuditFilter, SearchError>, ServiceError> {
    let mut filter = AuditFilter { events: narrowed.events(), since: narrowed.period.since(now), ..AuditFilter::default() };
    let q = narrowed.q.as_str();
    let is_event = GROUPS.iter().flat_map(Group::events).any(|event| event == q);
    let is_request = (1..=64).contains(&q.len()) && q.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if q.is_empty() {
    } else if is_event {
        filter.events = vec![q.to_owned()];
    } else if let Ok(ip) = q.parse::<IpAddr>() {
        filter.about = Some(About::Ip(ip));
    } else if let Ok(id) = q.parse::<Uuid>()
        && state.auth.audit().is_or_was_account(id).await?
    {
        filter.about = Some(About::Person(id));
    } else if is_request {
        filter.about = Some(About::Request(q.to_owned()));
    } else {
        return Ok(Err(SearchError::Nothing));
    }
    Ok(Ok(filter))
}

async fn events(state: &AppState, filter: &AuditFilter, at: Option<Cursor>, seal: &SealState) -> Result<Events, ServiceError> {
    let found = state.auth.audit().page(filter, at, PAGE).await?;
    let names = state.auth.audit().names(&found.rows).await?;
    let beside = Beside::from(&found);
    Ok(Events { rows: found.rows.into_iter().map(|row| event(row, &names, seal)).collect(), beside })
}

fn event(row: AuditRow, names: &HashMap<Uuid, Name>, seal: &SealState) -> Event {
    let told = event_text::told_to_admin(&row.event, &row.details);
    let whose = |id: Uuid| match names.get(&id) {
        Some(Name::Account(address)) => By::Account(address.as_str().into()),
        Some(Name::ApiKey(name)) => By::ApiKey(name.clone()),
        None => By::Words("Somebody who is gone"),
    };
    let word = |key: &str| row.details.get(key).and_then(Value::as_str);
    let by = match (row.actor, word("by"), row.user) {
        (Some(actor), ..) => whose(actor),
        (None, Some("operator"), _) => By::Words("The server's shell"),
        (None, Some("rollout"), _) => By::Words("System"),
        (None, _, Some(user)) => whose(user),
        (None, _, None) if row.ip.is_some() => By::Words("Not signed in"),
        _ => By::Words("System"),
    };
    let whom = row.user.map(whose).filter(|whom| *whom != by).and_then(|whom| match whom {
        By::Account(address) => Some(address),
        _ => None,
    });
    // Elsewhere `reason` is a word of ours, which the words above have told: of a session it says how it ended.
    let spoken = (row.actor.is_some() || word("by").is_some()) && row.event != "session.revoked";
    let of_check = |reason: &str| check_text::reason(reason).filter(|_| word("by") == Some("rollout"));
    let reason = word("reason").filter(|_| spoken).map(|reason| of_check(reason).unwrap_or_else(|| reason.to_owned()));
    let ip = row.ip.map(|ip| ip.to_string());
    let account = row.user.filter(|user| names.contains_key(user)).map(|user| person::path(&user.to_string()));
    Event {
        at: row.at,
        what: told.what,
        more: told.more,
        by,
        whom,
        reason,
        ip,
        request: row.request_id.clone(),
        account,
        facts: facts(row, seal),
    }
}

/// All there is about a row.
fn facts(row: AuditRow, seal: &SealState) -> Vec<(String, String)> {
    let mut facts = vec![("Event".to_owned(), row.event), ("Time".to_owned(), format::date_time(row.at))];
    let mut add = |name: &str, value: Option<String>| facts.extend(value.map(|value| (name.to_owned(), value)));
    add("Account", row.user.map(|id| id.to_string()));
    add("Done by", row.actor.map(|id| id.to_string()));
    add("IP address", row.ip.map(|ip| ip.to_string()));
    add("Browser", row.user_agent.as_deref().map(device));
    add("Request", row.request_id);
    if let Value::Object(details) = row.details {
        for (key, value) in details {
            let value = match value {
                Value::Null => continue,
                Value::String(text) => text,
                other => other.to_string(),
            };
            add(&format::capitalised(&key.replace('_', " ")), Some(value));
        }
    }
    add("ID", Some(row.id.to_string()));
    let sealed = seal.head.is_some() && row.position <= seal.to_position;
    add("Sealed", Some(if sealed { "Yes" } else { "Not yet" }.to_owned()));
    facts
}

fn oddity(unusual: &Unusual) -> Oddity {
    let (what, advice) = unusual::words(unusual.kind);
    let mut more = Vec::new();
    if unusual.count > 1 {
        more.push(format::count(unusual.count.unsigned_abs(), "time"));
    }
    if let Some(of) = unusual.of {
        let noun = if unusual.kind == Kind::ManyAccounts { "account" } else { "link" };
        more.push(format::count(of.unsigned_abs(), noun));
    }
    if let Some(event) = &unusual.event {
        let told = event_text::told_to_admin(event, &Value::Null);
        if told.what != what {
            more.push(told.what.to_owned());
        }
    }
    more.extend(unusual.ip.map(|ip| ip.to_string()));
    more.extend(unusual.reason.as_ref().map(|reason| format!("Reason: {reason}")));
    // The narrowest there is.
    let q = match (unusual.user.or(unusual.actor), unusual.ip, &unusual.event) {
        (Some(id), ..) => id.to_string(),
        (_, Some(ip), _) => ip.to_string(),
        (_, _, Some(event)) => event.clone(),
        _ => String::new(),
    };
    let path = Narrowed { q, period: Period::Week, ..Narrowed::default() }.path("");
    Oddity { what, advice, at: unusual.last, more, path }
}

/// Narrows the list down. An address is looked up here, so that the URL has the account's id.
#[server(prefix = "", endpoint = "admin/audit", protocol = FormPost)]
pub async fn search_audit(#[server(flatten)] asked: AuditQuery) -> Answer {
    let (form, Administrator(_, authority)) = Form::authorize(routes::ADMIN_AUDIT).await?;
    let mut narrowed = Narrowed::read(&asked);
    let now = form.state.auth.now();
    let error = if !narrowed.q.contains('@') {
        filter(&form.state, &narrowed, now).await?.err()
    } else if let Ok(address) = EmailAddress::lookup(&narrowed.q) {
        let id = form.state.auth.administration().user_id(&address).await?;
        narrowed.q = id.map_or(narrowed.q, |id| id.to_string());
        id.is_none().then_some(SearchError::NoAccount)
    } else {
        Some(SearchError::Nothing)
    };
    if error.is_none() {
        return see_other(&narrowed.path(""));
    }
    let seal = form.state.auth.audit().head().await?;
    let shown = Shown::Events(narrowed, Events::default(), error);
    Err(page(StatusCode::UNPROCESSABLE_ENTITY, || view! { <AuditPage who=authority.email shown seal now/> }).into())
}

/// Hands over what the list shows, as a file, while it is read.
#[server(prefix = "", endpoint = "admin/audit/export", protocol = FormPost)]
pub async fn export_audit(#[server(flatten)] asked: AuditQuery) -> Answer {
    let (form, Administrator(_, authority)) = Form::authorize(routes::ADMIN_AUDIT).await?;
    let auth = form.state.auth.clone();
    let narrowed = Narrowed::read(&asked);
    let Ok(filter) = filter(&form.state, &narrowed, auth.now()).await? else {
        return see_other(&narrowed.path(""));
    };
    let who = Actor::Admin { authority: &authority, from: &form.from };
    let export = match auth.audit().export(who, filter, Format::Csv, MOST_EXPORTED).await {
        Ok(export) => export,
        Err(error) => return not_done(error, &narrowed.path("")),
    };
    let name = format!("attachment; filename=\"latchkey-audit-{}.csv\"", format::machine_date(auth.now()));
    let pieces = futures::stream::try_unfold((auth, export), |(auth, mut export)| async move {
        Ok::<_, auth::Error>(auth.audit().next_of_export(&mut export).await?.map(|piece| (piece, (auth, export))))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, name),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((headers, Body::from_stream(pieces)).into_response())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::http::render::render;
    use auth::audit::{Head, LastVerified};
    use serde_json::json;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-24 14:40 UTC);

    fn seal() -> SealState {
        SealState {
            head: Some(Head { number: 4_812, hash: [7; 32] }),
            to_position: 100,
            sealed_at: Some(NOW - Duration::seconds(40)),
            unsealed_since: None,
            verified: Some(LastVerified { at: NOW - Duration::hours(14), head: 4_000, rows: 16_840, findings: BTreeMap::new() }),
        }
    }

    fn row(event: &str, details: Value) -> AuditRow {
        AuditRow {
            id: Uuid::from_u128(9),
            at: NOW - Duration::minutes(7),
            event: event.to_owned(),
            user: Some(Uuid::from_u128(1)),
            actor: None,
            ip: Some([203, 0, 113, 24].into()),
            user_agent: None,
            request_id: Some("019ab2c3-0000-7000-8000-00007f3a91c2".to_owned()),
            details,
            position: 7,
        }
    }

    fn html(shown: Shown, seal: SealState) -> String {
        render(move || view! { <AuditPage who="priya@example.org".to_owned() shown seal now=NOW/> })
    }

    fn listed(rows: Vec<AuditRow>) -> String {
        let names = HashMap::from([
            (Uuid::from_u128(1), Name::Account("mara@example.org".to_owned())),
            (Uuid::from_u128(2), Name::Account("tom@example.net".to_owned())),
        ]);
        let rows = rows.into_iter().map(|row| event(row, &names, &seal())).collect();
        let events = Events { rows, beside: Beside { newer: None, older: Some("o1-7".to_owned()) } };
        html(Shown::Events(Narrowed::default(), events, None), seal())
    }

    #[test]
    fn every_event_is_in_one_group() {
        let documented =
            include_str!("../../../../docs/events.md").lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        let mut names: Vec<&str> = documented.flat_map(|cell| cell.split(", ")).map(|name| name.trim_matches('`')).collect();
        names.retain(|name| name.contains('.'));
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(Group::events).collect();
        names.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(grouped, names);
        let fails = |event: &str| event.ends_with("refused") || event.ends_with("failed") || event.ends_with("rolled_back");
        assert!(!GROUPS.iter().flat_map(|group| group.events.split_whitespace()).any(fails));
    }

    #[test]
    fn a_row_says_who_did_what_to_whom_and_why_and_masks_addresses() {
        let reset = AuditRow {
            actor: Some(Uuid::from_u128(2)),
            ..row("two_factor.reset", json!({ "by": "admin", "reason": "ticket 4821" }))
        };
        let html = listed(vec![reset]);
        assert!(html.contains("<title>Audit log – Latchkey admin</title>") && html.contains("Two-factor reset"));
        assert!(html.contains("t•••••@example.net") && html.contains("m•••••@example.org") && html.contains("Reason: ticket 4821"));
        assert!(!html.contains("mara@") && !html.contains("tom@"));
        assert!(html.contains(">14:33:00</time>") && html.contains("7f3a91c2</a>"));
        assert!(html.contains("q=019ab2c3-0000-7000-8000-00007f3a91c2&amp;period=all"));
        assert!(html.contains("<dt>Sealed</dt><dd>Yes</dd>") && html.contains(r#"href="/admin/users/00000000-"#));
        assert!(html.contains("/admin/audit?at=o1-7"));
    }

    #[test]
    fn our_words_of_refusal_are_nobodys_reason() {
        let html = listed(vec![row("totp.refused", json!({ "reason": "clock", "for": "sign_in" }))]);
        assert!(html.contains("Wrong authenticator code") && !html.contains("Reason: clock"));
        let html = listed(vec![AuditRow {
            user: None,
            ip: None,
            ..row("rollout.held", json!({ "step": 2, "by": "rollout", "reason": "mail_delay" }))
        }]);
        assert!(
            html.contains("System")
                && html.contains("At step 3")
                && html.contains("Reason: The slowest emails took more than 60 seconds")
        );
        let ended = AuditRow { actor: Some(Uuid::from_u128(2)), ..row("session.revoked", json!({ "reason": "ended_by_admin" })) };
        assert!(!listed(vec![ended]).contains("Reason: "));
    }

    #[test]
    fn the_seal_is_told_and_what_is_wrong_with_it() {
        let fine = html(Shown::Unusual(vec![]), seal());
        assert!(fine.contains(
            "Sealed up to batch 4,812, less than a minute ago. Verified 14 hours ago, 16,840 events: nothing was changed."
        ));
        assert!(!fine.contains("notice") && fine.contains("Nothing unusual"));
        let mut bad = seal();
        bad.unsealed_since = Some(NOW - Duration::minutes(12));
        if let Some(last) = &mut bad.verified {
            last.findings.insert("row_changed".to_owned(), 2);
        }
        let told = html(Shown::Unusual(vec![]), bad);
        assert!(told.contains("isn't as it was sealed") && told.contains("2 found.") && told.contains("12 minutes ago"), "{told}");
        let new = html(Shown::Unusual(vec![]), SealState::default());
        assert!(new.contains("Nothing is sealed yet. Not verified yet."));
    }

    #[test]
    fn filters_stay_as_they_were_set_and_go_along() {
        let asked = |q: &str, event: &str, outcome: &str, period: &str| {
            let [q, event, outcome, period] = [q, event, outcome, period].map(str::to_owned);
            Narrowed::read(&AuditQuery { q, event, outcome, period, ..AuditQuery::default() })
        };
        let narrowed = asked("203.0.113.24", "mail", "failed", "30d");
        assert_eq!(narrowed.events(), ["mail.failed"]);
        assert_eq!(narrowed.path("o1-7"), "/admin/audit?q=203.0.113.24&event=mail&outcome=failed&period=30d&at=o1-7");
        let html = html(Shown::Events(narrowed, Events::default(), None), seal());
        assert!(html.contains("Nothing here yet") && html.contains(r#"<option value="30d" selected>"#));
        assert_eq!(html.matches(r#"value="203.0.113.24""#).count(), 2, "in the field, and with the download");
        assert_eq!(asked("", "x", "y", "z"), Narrowed::default());
        assert_eq!(Narrowed::default().events(), Vec::<String>::new());
        let worked = Narrowed { outcome: Some(Outcome::Worked), ..Narrowed::default() }.events();
        assert!(worked.contains(&"session.created".to_owned()) && !worked.contains(&"totp.refused".to_owned()));
    }
}
