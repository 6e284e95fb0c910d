//! `/admin/mail`: what the mail queue is up to, what was given up and why, sending again, and a test.

use std::time::Duration;

use auth::{
    administration::TestMailError,
    identity::Actor,
    outbox::{self, MailFilter, MailState, QueueState},
    primitives::cursor::Cursor,
};
use uuid::Uuid;

use crate::pages::{admin::not_done, limited, prelude::*};

/// A mail that waits longer is late: the wait between two tries is then over a minute.
const LATE: Duration = Duration::from_mins(2);

/// One mail of the list.
#[derive(Clone, Debug)]
pub struct MailRow {
    pub id: String,
    pub kind: String,
    pub to: Option<MaskedAddress>,
    pub state: MailState,
    pub created: OffsetDateTime,
    /// When it is tried next, where it waits.
    pub next: OffsetDateTime,
    pub settled: Option<OffsetDateTime>,
    pub attempts: u64,
    pub error: Option<String>,
    pub retriable: bool,
}

/// What happened a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    Retried,
    Tested,
}

impl Done {
    /// What the URL says, and what the page says.
    const fn row(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Retried => ("retried", "We're trying again", "Reload this page in a moment to see what came of it."),
            Self::Tested => {
                let text = "It's in this list. Reload the page in a moment to see what came of it.";
                ("tested", "A test email is on its way to you", text)
            }
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Retried, Self::Tested].into_iter().find(|done| done.row().0 == text)
    }
}

/// What a mail is, by its name in the audit.
fn what(kind: &str) -> &str {
    match kind {
        "sign_in" => "Sign-in email",
        "invite" => "Invitation",
        "step_up" => "Code before a change",
        "email_change" => "Code to a new address",
        "two_factor_on" => "Two-factor is on",
        "two_factor_off" => "Two-factor is off",
        "two_factor_reset" => "Two-factor was reset",
        "two_factor_reset_requested" => "Reset of two-factor asked for",
        "two_factor_reset_stopped" => "Reset of two-factor stopped",
        "authenticator_added" => "Authenticator app added",
        "authenticator_removed" => "Authenticator app removed",
        "backup_codes_new" => "New backup codes",
        "backup_codes_low" => "Few backup codes left",
        "backup_code_used" => "Backup code used",
        "new_sign_in" => "New sign-in",
        "second_step_failed" => "Second step failed",
        "email_changed" => "Address changed",
        "email_change_undone" => "Change of address undone",
        "deletion_requested" => "Deletion asked for",
        "deletion_cancelled" => "Account kept",
        "account_disabled" => "Account turned off",
        "account_enabled" => "Account turned on",
        "sessions_ended" => "Signed out everywhere",
        "admin_granted" => "Made administrator",
        "admin_revoked" => "No longer administrator",
        "api_key_created" => "API key made",
        "api_key_revoked" => "API key revoked",
        "api_key_ending" => "API key stops working soon",
        "test" => "Test email",
        other => other,
    }
}

fn path(filter: MailFilter, at: &str) -> String {
    let show = if filter == MailFilter::All { "" } else { filter.as_str() };
    routes::with_query(routes::ADMIN_MAIL, [("show", show), ("at", at)])
}

const COLUMNS: &[Column] = &[
    Column::text("Email"),
    Column::text("State"),
    Column::text("Asked for (UTC)"),
    Column::number("Tries"),
    Column::text("Why not yet"),
];

/// `rows` the newest first.
#[component]
pub fn MailPage(
    who: String,
    queue: QueueState,
    filter: MailFilter,
    rows: Vec<MailRow>,
    beside: Beside,
    done: Option<Done>,
    now: OffsetDateTime,
) -> impl IntoView {
    let action = view! { <PostButton action=routes::ADMIN_MAIL_TEST text="Send a test email"/> }.into_any();
    let (heading, text) = match filter {
        MailFilter::All => ("Nothing here yet", "Every email of the last 14 days will show up in this list."),
        MailFilter::Waiting => ("Nothing is waiting", "Every email is out, or was given up."),
        MailFilter::GivenUp => ("Nothing was given up", "Every email of the last 14 days is out, or waits."),
    };
    let rows = rows.into_iter().map(|row| cells(row, now)).collect();
    view! {
        <Admin title="Mail" email=who action=Some(action) help=Some(help::ADMIN_MAIL)>
            <p class="lede">{summary(&queue, now)}</p>
            {done.map(|done| {
                let (_, title, text) = done.row();
                view! { <Notice tone=Tone::Ok title>{text}</Notice> }
            })}
            {waits_long(&queue, now).map(|wait| view! {
                <Notice tone=Tone::Danger title="Emails are running late">
                    "The oldest has waited "{wait}". The list says what the mail server answers."
                </Notice>
            })}
            <Filters filter/>
            <div class="panel">
                <Table label="Emails" columns=COLUMNS rows><Empty heading text/></Table>
                <NewerOlder beside path=move |at| path(filter, at)/>
            </div>
        </Admin>
    }
}

/// "2 waiting. In the last 24 hours 1,204 sent, 3 given up. 95% were out within 2 seconds."
fn summary(queue: &QueueState, now: OffsetDateTime) -> String {
    let n = |n: i64| format::grouped(n.unsigned_abs());
    let oldest = queue.oldest.map(|oldest| {
        let age: Duration = (now - oldest).try_into().unwrap_or_default();
        format!(", the oldest for {}", format::roughly(age))
    });
    let p95 = queue.p95_seconds.map(|seconds| {
        // Rounded up: "within".
        let seconds = Duration::from_secs(format::seconds_up(Duration::try_from_secs_f64(seconds).unwrap_or_default()).max(1));
        format!(" In the last hour 95% were out within {}.", format::roughly(seconds))
    });
    let (oldest, p95) = (oldest.unwrap_or_default(), p95.unwrap_or_default());
    let (waiting, sent, failed, expired) = (n(queue.waiting), n(queue.sent), n(queue.failed), n(queue.expired));
    format!("{waiting} waiting{oldest}. In the last 24 hours {sent} sent, {failed} refused, {expired} too late to send.{p95}")
}

fn waits_long(queue: &QueueState, now: OffsetDateTime) -> Option<String> {
    let age: Duration = (now - queue.oldest?).try_into().ok()?;
    (age >= LATE).then(|| format::roughly(age))
}

#[component]
fn Filters(filter: MailFilter) -> impl IntoView {
    let tabs = MailFilter::ALL.map(|one| {
        let name = match one {
            MailFilter::All => "All",
            MailFilter::Waiting => "Waiting",
            MailFilter::GivenUp => "Given up",
        };
        (path(one, ""), name, one == filter)
    });
    view! { <Tabs label="Which emails" tabs/> }
}

fn cells(row: MailRow, now: OffsetDateTime) -> Vec<AnyView> {
    let MailRow { id, kind, to, state, created, next, settled, attempts, error, retriable } = row;
    let (badge, name) = match state {
        MailState::Waiting => (BadgeKind::Warn, "Waiting"),
        MailState::Sending => (BadgeKind::Here, "Sending"),
        MailState::Sent => (BadgeKind::Ok, "Sent"),
        MailState::Expired => (BadgeKind::Off, "Too late"),
        MailState::Failed => (BadgeKind::Danger, "Refused"),
    };
    let took = |until: OffsetDateTime| format::roughly((until - created).try_into().unwrap_or_default());
    let when = match (state, settled) {
        (MailState::Sent, Some(settled)) => format!("After {}", took(settled)),
        (MailState::Waiting, _) => format!("Next try {}", format::within((next - now).try_into().unwrap_or_default())),
        _ => String::new(),
    };
    let row = to.as_ref().map(MaskedAddress::spoken).unwrap_or_default();
    let again = (retriable && state != MailState::Sending && error.is_some()).then(|| {
        view! { <PostButton action=routes::ADMIN_MAIL hidden=vec![("id", id)] text="Try again now" of=row/> }
    });
    // As logs say it; here it begins a sentence.
    let why = error.filter(|_| state != MailState::Sent).map(|why| format::capitalised(&why));
    let nothing = (why.is_none() && again.is_none()).then_some("–");
    vec![
        view! {
            <p>{what(&kind).to_owned()}</p>
            {to.map(|address| view! { <p class="hint whole"><Masked address/></p> })}
        }
        .into_any(),
        view! { <Badge kind=badge text=name/>{(!when.is_empty()).then(|| view! { <p class="hint">{when}</p> })} }.into_any(),
        view! { <Lately at=created now/> }.into_any(),
        format::grouped(attempts).into_any(),
        view! { {why.map(|why| view! { <p>{why}</p> })}{again}{nothing} }.into_any(),
    ]
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub struct MailQuery {
    show: String,
    at: String,
    done: String,
}

pub async fn get(
    State(state): State<AppState>,
    Administrator(_, authority): Administrator,
    Query(query): Query<MailQuery>,
) -> Answer {
    let filter = query.show.parse().unwrap_or_default();
    let queue = state.auth.administration().mail_queue().await?;
    let found = state.auth.administration().mails(filter, Cursor::parse(&query.at)).await?;
    let row = |row: outbox::MailRow| MailRow {
        id: row.id.to_string(),
        kind: row.kind,
        to: row.to.as_deref().map(Into::into),
        state: row.state,
        created: row.created_at,
        next: row.run_at,
        settled: row.settled_at,
        attempts: u64::from(row.attempts.unsigned_abs()),
        error: row.error,
        retriable: row.retriable,
    };
    let (beside, done, now) = (Beside::from(&found), Done::parse(&query.done), state.auth.now());
    let rows = found.rows.into_iter().map(row).collect();
    Ok(page(StatusCode::OK, || view! { <MailPage who=authority.email queue filter rows beside done now/> }))
}

fn done(done: Done) -> String {
    format!("{}?done={}", routes::ADMIN_MAIL, done.row().0)
}

/// Sends a mail at once that waits, or was refused.
#[server(prefix = "", endpoint = "admin/mail", protocol = FormPost)]
pub async fn retry_mail(#[server(default)] id: String) -> Answer {
    let (form, Administrator(_, authority)) = Form::authorize(routes::ADMIN_MAIL).await?;
    let Ok(id) = id.parse::<Uuid>() else {
        return see_other(routes::ADMIN_MAIL);
    };
    match form.state.auth.administration().retry_mail(Actor::Admin { authority: &authority, from: &form.from }, id).await {
        Ok(()) => see_other(&done(Done::Retried)),
        Err(error) => not_done(error, routes::ADMIN_MAIL),
    }
}

/// Sends a test to the administrator.
#[server(prefix = "", endpoint = "admin/mail/test", protocol = FormPost)]
pub async fn send_test_mail() -> Answer {
    let (form, Administrator(_, authority)) = Form::authorize(routes::ADMIN_MAIL).await?;
    match form.state.auth.administration().send_test_mail(&authority, &form.from).await {
        Ok(()) => see_other(&done(Done::Tested)),
        Err(TestMailError::Limited(limited)) => Err(limited::test_mails(limited).into()),
        Err(TestMailError::Unavailable(error)) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::render::render;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-11-24 14:29 UTC);
    const QUIET: QueueState = QueueState { waiting: 0, oldest: None, sent: 1_204, failed: 3, expired: 2, p95_seconds: Some(1.2) };

    fn row(state: MailState) -> MailRow {
        MailRow {
            id: "7".to_owned(),
            kind: "sign_in".to_owned(),
            to: Some("mara@example.org".into()),
            state,
            created: NOW - Duration::from_secs(90),
            next: NOW + Duration::from_secs(40),
            settled: None,
            attempts: 3,
            error: Some("the mail server refused it for now (450)".to_owned()),
            retriable: true,
        }
    }

    fn html(queue: QueueState, filter: MailFilter, rows: Vec<MailRow>) -> String {
        render(move || {
            let beside = Beside { newer: None, older: Some("o1-7".to_owned()) };
            view! { <MailPage who="priya@example.org".to_owned() queue filter rows beside done=None now=NOW/> }
        })
    }

    #[test]
    fn only_what_is_of_use_can_be_tried_again() {
        for (state, retriable, offered) in [
            (MailState::Waiting, true, true),
            (MailState::Failed, true, true),
            (MailState::Failed, false, false),
            (MailState::Expired, false, false),
            (MailState::Sent, false, false),
            (MailState::Sending, false, false),
        ] {
            let html = html(QUIET, MailFilter::All, vec![MailRow { retriable, ..row(state) }]);
            assert_eq!(html.contains("Try again now"), offered, "{state:?}");
        }
        let sent = MailRow { settled: Some(NOW - Duration::from_secs(88)), retriable: false, ..row(MailState::Sent) };
        let html = html(QUIET, MailFilter::All, vec![sent]);
        assert!(html.contains("After 2 seconds") && !html.contains("(450)"), "why it wasn't out before is over");
    }

    #[test]
    fn the_queue_is_summed_up_and_its_lateness_told() {
        let quiet = html(QUIET, MailFilter::All, vec![]);
        assert!(quiet.contains("0 waiting. In the last 24 hours 1,204 sent, 3 refused, 2 too late to send."));
        assert!(quiet.contains("In the last hour 95% were out within 2 seconds.") && !quiet.contains("running late"));
        let oldest = Some(NOW - Duration::from_mins(12));
        let late = html(QueueState { waiting: 2_000, oldest, ..QUIET }, MailFilter::All, vec![]);
        assert!(late.contains("2,000 waiting, the oldest for 12 minutes.") && late.contains("Emails are running late"));
    }

    #[test]
    fn an_empty_list_says_of_what() {
        assert!(html(QUIET, MailFilter::GivenUp, vec![]).contains("Nothing was given up"));
        assert!(html(QUIET, MailFilter::Waiting, vec![]).contains("Nothing is waiting"));
    }
}
