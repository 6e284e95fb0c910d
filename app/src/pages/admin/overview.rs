//! `/admin`: how signing in goes, what is over its limit, and how far the rollout has come. `docs/overview.md` says what is counted.

use auth::{
    flag::{Flag, PASSWORDLESS_AUTH},
    policy::checks::Check,
    reporting::overview::{Accounts, Bucket, Counts, Overview, Span},
    rollout::{LEAST_VERIFICATIONS, Reading, Rollout, State as RolloutState, Verdict},
};
use time::Duration;

use crate::{
    pages::{
        admin::rollout::{self, Ladder},
        prelude::*,
    },
    ui::{
        check_text,
        components::{BarChart, Bars, Chart, Limit, LineChart, Point, Share, Sparkline},
    },
};

/// A figure that could not be worked out.
const NONE: &str = "–";
/// Longer ago than this, counting has stopped: it is done twice a minute.
const STALE: Duration = Duration::minutes(5);

/// What the page shows.
#[derive(Clone, Debug)]
pub struct Shown {
    pub overview: Overview,
    /// The newest, under way or over.
    pub rollout: Option<Rollout>,
    /// As they are now.
    pub readings: Vec<Reading>,
    pub flag: Flag,
}

fn path(span: Span) -> String {
    routes::with_query(routes::ADMIN, [("span", if span == Span::default() { "" } else { span.as_str() })])
}

const fn name(span: Span) -> &'static str {
    match span {
        Span::Day => "24 hours",
        Span::Week => "7 days",
        Span::Month => "30 days",
    }
}

/// What it is compared with, after "than" and the like.
const fn before(span: Span) -> &'static str {
    match span {
        Span::Day => "yesterday",
        Span::Week => "the week before",
        Span::Month => "the 30 days before",
    }
}

/// What a chart has a place for.
const fn every(span: Span) -> &'static str {
    match span {
        Span::Day => "by hour",
        Span::Week => "every 6 hours",
        Span::Month => "by day",
    }
}

/// A bucket, below a chart.
fn on_axis(span: Span, at: OffsetDateTime) -> String {
    if span == Span::Day { format::time_of_day(at) } else { format::short_date(at) }
}

/// A bucket, in a table.
fn in_table(span: Span, at: OffsetDateTime) -> String {
    if span == Span::Month { format::short_date(at) } else { format!("{}, {}", format::short_date(at), format::time_of_day(at)) }
}

/// The bucket that isn't over, after its value.
fn so_far(overview: &Overview) -> String {
    match overview.buckets.last() {
        Some(last) if overview.span != Span::Month => format!("since {}", format::time_of_day(last.at)),
        _ => "today".to_owned(),
    }
}

fn percent(value: f64) -> String {
    format!("{value:.1}%")
}

/// On an axis: whole, as its steps are.
fn round_percent(value: f64) -> String {
    format!("{value:.0}%")
}

/// "31 s", "12 min": as much as a glance takes in.
fn took(seconds: u32) -> (u32, &'static str) {
    match seconds {
        0..120 => (seconds, "s"),
        120..7_200 => (seconds.div_ceil(60), "min"),
        _ => (seconds.div_ceil(3_600), "h"),
    }
}

fn took_in_words(seconds: u32) -> String {
    let (n, unit) = took(seconds);
    format!("{n} {unit}")
}

fn seconds_on_axis(value: f64) -> String {
    format!("{value:.0} s")
}

/// "1,500", and in short what would reach into the bars: "20k", "1.5M".
fn count_on_axis(value: f64) -> String {
    match value {
        1_000_000.0.. => format!("{}M", value / 1_000_000.0),
        10_000.0.. => format!("{}k", value / 1_000.0),
        1_000.0.. => format!("{:.0},{:03.0}", (value / 1_000.0).floor(), value % 1_000.0),
        _ => format!("{value:.0}"),
    }
}

/// A tile's sentence. What can't be compared says so.
fn compared<T>(now: Option<T>, past: Option<T>, say: impl FnOnce(T, T) -> String) -> String {
    match now.zip(past) {
        Some((now, past)) => say(now, past),
        None => "Nothing to compare with yet".to_owned(),
    }
}

/// In points, by the digits that are shown: nobody should see the same number twice and read that it rose.
fn points(now: f64, past: f64, up: &str, down: &str, than: &str) -> String {
    let by = (now * 10.0).round() - (past * 10.0).round();
    match by {
        0.0 => format!("The same as {than}"),
        _ if by > 0.0 => format!("{:.1} {up} {than}", by / 10.0),
        _ => format!("{:.1} {down} {than}", -by / 10.0),
    }
}

fn slower(now: u32, past: u32, than: &str) -> String {
    let by = took_in_words(now.abs_diff(past));
    match now.cmp(&past) {
        std::cmp::Ordering::Equal => format!("The same as {than}"),
        std::cmp::Ordering::Greater => format!("{by} slower than {than}"),
        std::cmp::Ordering::Less => format!("{by} faster than {than}"),
    }
}

#[component]
pub fn OverviewPage(who: String, shown: Shown) -> impl IntoView {
    let overview = &shown.overview;
    let (span, now) = (overview.span, overview.now);
    let tabs = Span::ALL.iter().map(move |&one| (path(one), name(one), one == span));
    // In one type each: nested, they are more than the compiler follows.
    let (alerts, rollout) = (alerts(&shown), rollout_panel(&shown));
    let (tiles, checks, funnel) = (tiles(overview), checks_panel(&shown.readings, now), funnel(overview));
    let (finished, methods) = (finished_chart(overview), method_chart(overview));
    let (delay, failed) = (delay_chart(overview), failed_chart(overview));
    view! {
        <Admin title="Overview" email=who help=Some(help::ADMIN_ROLLOUT)>
            <div class="looking">
                <p class="lede"><DateTime at=now/>". "<a href=path(span)>"Refresh"</a></p>
                <Tabs class="segments" label="How far back" tabs/>
            </div>
            {alerts}
            {tiles}
            {rollout}
            <div class="beside">{finished}{checks}</div>
            <div class="beside">{methods}{funnel}</div>
            <div class="beside even">{delay}{failed}</div>
        </Admin>
    }
}

/// What is wrong, what nearly is, and what the page can't know.
fn alerts(shown: &Shown) -> AnyView {
    let Shown { overview, rollout, readings, flag } = shown;
    let held = rollout.as_ref().is_some_and(|rollout| rollout.state == RolloutState::Held);
    let over = readings.iter().filter(|reading| reading.verdict() == Verdict::Over).map(|reading| {
        let (title, text) = check_text::alert(reading.check, reading.value.unwrap_or_default());
        let held = held.then(|| {
            let reached = rollout::lower(&rollout::reached(flag));
            format!(" Rollout is held at {reached} until this has been under the limit for 30 minutes.")
        });
        let actions = view! {
            <a class="button sm" href=routes::ADMIN_ROLLOUT>"Open rollout"</a>
            <a class="button ghost sm" href=help::ADMIN_ROLLOUT_CHECKS>"See the runbook"</a>
        }
        .into_any();
        view! { <Notice tone=Tone::Danger title actions=Some(actions)>{text}{held}</Notice> }.into_any()
    });
    let close = readings.iter().filter(|reading| reading.verdict() == Verdict::Close).map(|Reading { check, value, .. }| {
        let title = format!("“{}” is close to its limit", check_text::name(*check));
        let text = format!("{}.", check_text::beside_limit(*check, value.unwrap_or_default()));
        view! { <Notice tone=Tone::Warn title>{text}</Notice> }
    });
    view! {
        {over.collect_view()}
        {close.collect_view()}
        {not_known(overview)}
    }
    .into_any()
}

/// Where figures are missing, and why.
fn not_known(overview: &Overview) -> Option<AnyView> {
    let stopped = overview.counted_until.filter(|until| *until + STALE < overview.now);
    let (title, text) = match (stopped, overview.since) {
        (Some(until), _) => (format!("No data since {}", format::date_time(until)), "No server has counted since then."),
        (None, None) => {
            ("Nothing is counted yet".to_owned(), "Figures show up here half a minute after somebody asks for a sign-in email.")
        }
        (None, Some(since)) if since > overview.from() => {
            let title = format!("The first sign-in was asked for after {}", format::date_time(since));
            (title, "Before that there is nothing to show.")
        }
        (None, Some(_)) => return None,
    };
    Some(view! { <Notice tone=Tone::Info title>{text}</Notice> }.into_any())
}

/// A figure, what it is compared with, and how it came to be so.
fn tile(
    label: &'static str,
    value: Option<(String, &'static str)>,
    sentence: String,
    line: Vec<Option<f64>>,
    over: bool,
) -> AnyView {
    let value = match value {
        Some((value, unit)) => view! { {value}<small>{unit}</small> }.into_any(),
        None => view! { <span aria-hidden="true">{NONE}</span><span class="vh">"No data"</span> }.into_any(),
    };
    view! {
        <li class:over=over>
            <p class="label">{label}</p>
            <p class="value">{value}</p>
            <p class="hint">{sentence}</p>
            <Sparkline values=line over/>
        </li>
    }
    .into_any()
}

fn tiles(overview: &Overview) -> AnyView {
    let Overview { span, buckets, whole, before: past, accounts, accounts_before, .. } = overview;
    let than = before(*span);
    let line = |value: &dyn Fn(&Bucket) -> Option<f64>| buckets.iter().map(value).collect::<Vec<Option<f64>>>();
    let share = |value: f64| (format!("{value:.1}"), "%");
    let seconds = |seconds: u32| {
        let (n, unit) = took(seconds);
        (n.to_string(), unit)
    };

    let past = past.as_ref();

    let (now, ago) = (whole.finished_percent(), past.and_then(Counts::finished_percent));
    let sentence = compared(now, ago, |now, past| points(now, past, "above", "below", than));
    let values = line(&|bucket| bucket.counts.finished_percent());
    let finished = tile("Sign-ins finished", now.map(share), sentence, values, false);

    let (now, ago) = (whole.sign_in.quantile(50), past.and_then(|past| past.sign_in.quantile(50)));
    let sentence = compared(now, ago, |now, past| slower(now, past, than));
    let values = line(&|bucket| bucket.counts.sign_in.quantile(50).map(f64::from));
    let median = tile("Time to sign in, median", now.map(seconds), sentence, values, false);

    let limit = Check::MailDelay.limit();
    let (now, ago) = (whole.mail.quantile(95), past.and_then(|past| past.mail.quantile(95)));
    let over = now.is_some_and(|delay| f64::from(delay) > limit);
    let sentence = match now.zip(ago) {
        _ if over => format!("Over the limit of {limit} s"),
        Some((now, ago)) => format!("Limit {limit} s. {}", slower(now, ago, than)),
        None => format!("Limit {limit} s"),
    };
    let values = line(&|bucket| bucket.counts.mail.quantile(95).map(f64::from));
    let delay = tile("Email delay, 95th percentile", now.map(seconds), sentence, values, over);

    // Looked at before there was any.
    let accounts = accounts.filter(|accounts| accounts.all > 0);
    let now = accounts.and_then(Accounts::percent);
    let sentence = match (accounts, accounts_before.and_then(Accounts::percent)) {
        (None, _) => "Not looked at yet".to_owned(),
        (Some(accounts), Some(past)) => points(accounts.percent().unwrap_or_default(), past, "up on", "down on", than),
        (Some(accounts), None) => format!("{} of {}", format::grouped(accounts.with_two_factor), format::grouped(accounts.all)),
    };
    let values = line(&|bucket| bucket.accounts.and_then(Accounts::percent));
    let two_factor = tile("Accounts with two-factor", now.map(share), sentence, values, false);
    view! { <ul class="tiles panel" aria-label="In short">{finished}{median}{delay}{two_factor}</ul> }.into_any()
}

fn rollout_panel(shown: &Shown) -> AnyView {
    let (kind, badge) = rollout::badge(shown.rollout.as_ref(), &shown.flag);
    let ladder = shown.rollout.as_ref().map(|rollout| view! { <Ladder rollout=rollout.clone()/> }.into_any());
    let who = shown.rollout.is_none().then(|| {
        let who = rollout::who_has(&shown.flag);
        view! { <p class="small">{who}" can use it. No rollout is under way."</p> }
    });
    view! {
        <section class="panel">
            <div class="head">
                <h2>"Passwordless sign-in rollout" <Badge kind text=badge/></h2>
                <a href=routes::ADMIN_ROLLOUT>"Change rollout"</a>
            </div>
            {ladder}
            {who}
        </section>
    }
    .into_any()
}

fn checks_panel(readings: &[Reading], now: OffsetDateTime) -> AnyView {
    let rows = readings.iter().map(|reading| {
        let Reading { check, value, over_since, checked_at } = *reading;
        let (kind, badge) = match reading.verdict() {
            Verdict::NoData => (BadgeKind::Off, "No data"),
            Verdict::Ok => (BadgeKind::Ok, "OK"),
            Verdict::Close => (BadgeKind::Warn, "Close"),
            Verdict::Over => (BadgeKind::Danger, "Over limit"),
        };
        let measured = match value {
            Some(value) => check_text::beside_limit(check, value),
            None if checked_at == OffsetDateTime::UNIX_EPOCH => "Not looked at yet".to_owned(),
            None if checked_at + STALE < now => format!("No data since {}", format::lately(checked_at, now)),
            None => "Too little to go by".to_owned(),
        };
        let over = over_since.map(|since| format!(". For {}", format::roughly((now - since).try_into().unwrap_or_default())));
        view! {
            <li>
                <div><h3>{check_text::name(check)}</h3><p class="hint">{measured}{over}</p></div>
                <Badge kind text=badge/>
            </li>
        }
    });
    view! {
        <section class="panel">
            <div class="head"><h2>"Checks"</h2><p class="hint">"Every 30 seconds"</p></div>
            <ul class="checks">{rows.collect_view()}</ul>
        </section>
    }
    .into_any()
}

fn funnel(overview: &Overview) -> AnyView {
    let counts = &overview.whole;
    let of = |n: u64| Counts { asked: counts.asked, by_link: n, ..Counts::default() }.finished_percent();
    let steps = [
        ("Email asked for", counts.asked),
        ("Email sent", counts.mailed),
        ("Link or code used", counts.used),
        ("Signed in", counts.finished()),
    ]
    .map(|(name, n)| {
        let share = of(n);
        view! {
            <li>
                <span>{name}</span>
                <span class="number">{format::grouped(n)}</span>
                <Share of_hundred=share.unwrap_or_default()/>
                <span class="number hint">{share.map_or_else(|| NONE.to_owned(), percent)}</span>
            </li>
        }
    });
    view! {
        <section class="panel">
            <div class="head">
                <h2>"Where sign-ins stop"</h2>
                <p class="hint">{format!("Since {}", in_table(Span::Day, overview.from()))}</p>
            </div>
            <ol class="funnel">{steps}</ol>
        </section>
    }
    .into_any()
}

/// From the first that can have a value on. The newest first, as in any list of what happened.
fn rows(overview: &Overview, cells: impl Fn(&Bucket) -> Vec<String>) -> Vec<Vec<AnyView>> {
    let width = Duration::hours(i64::from(overview.span.hours()));
    let counted = overview.buckets.iter().filter(|bucket| overview.since.is_some_and(|since| bucket.at + width > since));
    counted
        .rev()
        .map(|bucket| {
            let when = in_table(overview.span, bucket.at);
            let when = view! { <time datetime=format::machine_time(bucket.at)>{when}</time> }.into_any();
            std::iter::once(when).chain(cells(bucket).into_iter().map(IntoAny::into_any)).collect()
        })
        .collect()
}

fn line_of(overview: &Overview, value: impl Fn(&Counts) -> Option<f64>) -> Vec<Point> {
    let of = |bucket: &Bucket| Point { label: on_axis(overview.span, bucket.at), value: value(&bucket.counts) };
    overview.buckets.iter().map(of).collect()
}

/// The newest value, where the bucket that isn't over has one.
fn newest(overview: &Overview, value: impl Fn(&Counts) -> Option<String>) -> Option<(String, String)> {
    Some((value(&overview.buckets.last()?.counts)?, so_far(overview)))
}

const FINISHED: &[Column] =
    &[Column::text("From (UTC)"), Column::number("Asked for"), Column::number("Finished"), Column::number("Share")];

fn finished_chart(overview: &Overview) -> AnyView {
    let shown = |counts: &Counts| counts.finished_percent().map(percent);
    let rows = rows(overview, |Bucket { counts, .. }| {
        vec![format::grouped(counts.asked), format::grouped(counts.finished()), shown(counts).unwrap_or_else(|| NONE.to_owned())]
    });
    let chart = Chart {
        id: "finished",
        label: "Sign-ins finished",
        every: every(overview.span),
        hint: "Share of started sign-ins that ended signed in".to_owned(),
        nothing: "Nobody has asked to sign in.",
        columns: FINISHED,
        rows,
    };
    let (now, points) = (newest(overview, shown), line_of(overview, Counts::finished_percent));
    view! { <LineChart chart now points tick=round_percent say=percent/> }.into_any()
}

const METHODS: &[&str] = &["Email link", "Email code"];
const BY_METHOD: &[Column] = &[Column::text("From (UTC)"), Column::number("Email link"), Column::number("Email code")];

fn method_chart(overview: &Overview) -> AnyView {
    let bars = overview
        .buckets
        .iter()
        .map(|Bucket { at, counts, .. }| Bars { label: on_axis(overview.span, *at), values: vec![counts.by_link, counts.by_code] });
    let chart = Chart {
        id: "methods",
        label: "Sign-ins by method",
        every: every(overview.span),
        hint: format!("Last {}", name(overview.span)),
        nothing: "Nobody has signed in.",
        columns: BY_METHOD,
        rows: rows(overview, |Bucket { counts, .. }| vec![format::grouped(counts.by_link), format::grouped(counts.by_code)]),
    };
    view! { <BarChart chart names=METHODS bars=bars.collect() tick=count_on_axis/> }.into_any()
}

const DELAYS: &[Column] = &[Column::text("From (UTC)"), Column::number("Half within"), Column::number("95% within")];

fn delay_chart(overview: &Overview) -> AnyView {
    let limit = Check::MailDelay.limit();
    let rows = rows(overview, |Bucket { counts, .. }| {
        [50, 95].map(|percent| counts.mail.quantile(percent).map_or_else(|| NONE.to_owned(), took_in_words)).into()
    });
    let chart = Chart {
        id: "delay",
        label: "Email delay",
        every: every(overview.span),
        hint: "What the slowest 5% took, at least, until a mail server had them".to_owned(),
        nothing: "No email was sent.",
        columns: DELAYS,
        rows,
    };
    let now = newest(overview, |counts| counts.mail.quantile(95).map(took_in_words));
    let points = line_of(overview, |counts| counts.mail.quantile(95).map(f64::from));
    let limit = Limit { value: limit, text: format!("Limit {limit} s") };
    view! { <LineChart chart now points tick=seconds_on_axis say=seconds_on_axis limit=Some(limit)/> }.into_any()
}

const FAILED: &[Column] =
    &[Column::text("From (UTC)"), Column::number("Right"), Column::number("Refused"), Column::number("Share refused")];

fn failed_chart(overview: &Overview) -> AnyView {
    let limit = Check::FailedVerifications.limit();
    // Of fewer the check says nothing either: one wrong code at night is no half of anything.
    let enough =
        |counts: &Counts| counts.failed_percent().filter(|_| counts.used + counts.refused >= LEAST_VERIFICATIONS.unsigned_abs());
    let rows = rows(overview, |Bucket { counts, .. }| {
        let share = counts.failed_percent().map_or_else(|| NONE.to_owned(), percent);
        vec![format::grouped(counts.used), format::grouped(counts.refused), share]
    });
    let chart = Chart {
        id: "failed",
        label: "Failed links and codes",
        every: every(overview.span),
        hint: format!("Share that signed nobody in, where there were {LEAST_VERIFICATIONS} or more"),
        nothing: "Too few links and codes to go by.",
        columns: FAILED,
        rows,
    };
    let (now, points) = (newest(overview, |counts| enough(counts).map(percent)), line_of(overview, enough));
    let limit = Limit { value: limit, text: format!("Limit {limit}%") };
    view! { <LineChart chart now points tick=round_percent say=percent limit=Some(limit)/> }.into_any()
}

#[derive(serde::Deserialize)]
pub struct OverviewQuery {
    #[serde(default)]
    span: String,
}

pub async fn get(
    State(state): State<AppState>,
    Administrator(_, authority): Administrator,
    Query(query): Query<OverviewQuery>,
) -> Answer {
    let overview = state.auth.reporting().overview(Span::parse(&query.span).unwrap_or_default()).await?;
    let (rollout, readings) = state.auth.rollout().standing().await?;
    let readings = readings.into_iter().map(|reading| reading.at(overview.now)).collect();
    state.auth.flag().read().await?;
    let shown = Shown { overview, rollout, readings, flag: state.auth.flag().get(PASSWORDLESS_AUTH) };
    Ok(page(StatusCode::OK, || view! { <OverviewPage who=authority.email shown/> }))
}

#[cfg(test)]
mod tests {
    use auth::rollout::DEFAULT_PLAN;
    use time::macros::datetime;

    use super::*;
    use crate::http::render::render;

    const NOW: OffsetDateTime = datetime!(2026-11-24 14:40 UTC);

    fn counts(asked: u64, by_link: u64, by_code: u64, delay: u32) -> Counts {
        Counts {
            asked,
            mailed: asked - 1,
            used: by_link + by_code + 1,
            refused: 2,
            by_link,
            by_code,
            sign_in: [(31, 1)].into_iter().collect(),
            mail: [(delay, 1)].into_iter().collect(),
        }
    }

    /// Two hours in which something happened, after one in which nothing did.
    fn overview(delay: u32) -> Overview {
        let bucket =
            |hours, counts| Bucket { at: datetime!(2026-11-24 14:00 UTC) - Duration::hours(hours), counts, accounts: None };
        Overview {
            span: Span::Day,
            now: NOW,
            buckets: vec![
                bucket(2, Counts::default()),
                bucket(1, counts(1_000, 700, 250, delay)),
                bucket(0, counts(500, 400, 78, delay)),
            ],
            whole: counts(1_500, 1_100, 328, delay),
            before: Some(Counts { sign_in: [(22, 1)].into_iter().collect(), ..counts(1_000, 958, 0, 5) }),
            accounts: Some(Accounts { all: 1_000, with_two_factor: 312 }),
            accounts_before: Some(Accounts { all: 1_000, with_two_factor: 304 }),
            since: Some(datetime!(2026-01-01 0:00 UTC)),
            counted_until: Some(NOW),
        }
    }

    fn reading(check: Check, value: Option<f64>) -> Reading {
        let over_since = value.filter(|value| *value > check.limit()).map(|_| NOW - Duration::minutes(12));
        Reading { check, value, over_since, checked_at: NOW }
    }

    fn shown(overview: Overview, readings: Vec<Reading>) -> Shown {
        let rollout = Rollout {
            id: uuid::Uuid::nil(),
            state: RolloutState::Held,
            plan: DEFAULT_PLAN.to_vec(),
            step: 2,
            step_since: NOW - Duration::hours(8),
            stopped_since: Some(NOW),
            why: None,
            clear_since: None,
            started_at: NOW - Duration::days(8),
            ended_at: None,
        };
        let flag = Flag { percent_everyone: 25, ..Flag::OFF };
        Shown { overview, rollout: Some(rollout), readings, flag }
    }

    fn html(shown: Shown) -> String {
        render(move || view! { <OverviewPage who="priya@example.org".to_owned() shown/> })
    }

    /// From the first of these words to the next tag of that name.
    fn part<'a>(html: &'a str, from: &str, to: &str) -> &'a str {
        let at = html.find(from).unwrap_or_else(|| panic!("no {from:?} in {html}"));
        html[at..].split(to).next().unwrap_or_default()
    }

    #[test]
    fn the_checklists_alerts_each_have_words() {
        for (check, value, said) in [
            (Check::FailedVerifications, 7.25, "In the last hour 7.2% of them signed nobody in. The limit is 5%."),
            (Check::Burst, 143.0, "It asked for 143 in the last hour. The limit is 100."),
            (Check::SecondFactorFailures, 11.0, "It got 11 in the last hour. The limit is 10."),
        ] {
            let html = html(shown(overview(7), vec![reading(check, Some(value))]));
            assert!(part(&html, r#"class="notice danger""#, "</p>").contains(said), "{said}");
        }
    }

    #[test]
    fn no_data_is_never_ok() {
        let never = Reading { checked_at: OffsetDateTime::UNIX_EPOCH, ..reading(Check::Keys, None) };
        let stale = Reading { checked_at: datetime!(2026-11-24 13:05 UTC), ..reading(Check::Audit, None) };
        let little = reading(Check::ServerErrors, None);
        let html = html(shown(overview(7), vec![never, stale, little]));
        assert!(!html.contains("badge ok") && html.matches(r#"badge off">No data"#).count() == 3);
        for said in ["Not looked at yet", "No data since Today, 13:05", "Too little to go by"] {
            assert!(html.contains(said), "{said}");
        }
    }

    #[test]
    fn what_is_the_same_to_the_eye_is_called_the_same() {
        assert_eq!(points(95.24, 95.16, "above", "below", "yesterday"), "The same as yesterday");
        assert_eq!(points(95.25, 95.24, "above", "below", "yesterday"), "0.1 above yesterday");
        assert_eq!((took_in_words(119), took_in_words(121), took_in_words(9_000)), ("119 s".into(), "3 min".into(), "3 h".into()));
        assert_eq!(slower(5, 5, "yesterday"), "The same as yesterday");
        assert_eq!(slower(300, 5, "yesterday"), "5 min slower than yesterday");
        let counts = [0.0, 500.0, 1_000.0, 1_050.0, 20_000.0, 500_000.0, 1_500_000.0].map(count_on_axis);
        assert_eq!(counts, ["0", "500", "1,000", "1,050", "20k", "500k", "1.5M"]);
    }
}
