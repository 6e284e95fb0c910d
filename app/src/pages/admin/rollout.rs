//! `/admin/rollout`: who has which feature, what would stop the rollout, and the lever. A change is reviewed before it is made.

use auth::{
    flag::{self, Flag, FlagRow, PASSWORDLESS_AUTH, Reach, Target},
    identity::{ActionError, Actor},
    primitives::reason::{Reason, ReasonError},
    rollout::{DEFAULT_PLAN, Overview, Reading, Rollout, StartError, State as RolloutState, Status, Step, Told, Verdict},
};
use uuid::Uuid;

use crate::{
    pages::{
        admin::{change::reason_error, line, not_done},
        prelude::*,
    },
    ui::check_text,
};

/// Says in the page's URL that something was changed a moment ago.
const DONE: &str = "changed";

/// What an administrator can do here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Off,
    /// By hand, to whom a step of that kind lets in.
    Move(Target),
    Start,
    Pause,
    Resume,
    Abort,
}

impl Act {
    /// What the form sends, the words of its button, and what will happen.
    const fn row(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Off => (
                "off",
                "Turn off now",
                "Nobody can sign in this way from now on, on every server within five seconds. Links and codes already sent stop working. People signed in now stay signed in. A rollout under way ends.",
            ),
            Self::Move(_) => (
                "named",
                "Make the change",
                "Every server follows within five seconds. People signed in now stay signed in. A rollout under way pauses.",
            ),
            Self::Start => (
                "start",
                "Start the rollout",
                "Who can sign in this way grows step by step. A check over its limit holds it, and some turn it off.",
            ),
            Self::Pause => {
                ("pause", "Pause the rollout", "It stays where it is until you resume it. Checks that turn it off still do.")
            }
            Self::Resume => (
                "resume",
                "Resume the rollout",
                "It goes on from where it is. A check that is still over its limit holds it again.",
            ),
            Self::Abort => {
                ("abort", "End the rollout", "Who can sign in this way stays as it is. Nothing watches over it any more.")
            }
        }
    }

    fn name(self) -> String {
        match self {
            Self::Move(Target::Admins(percent)) => format!("admins-{percent}"),
            Self::Move(Target::Everyone(percent)) => format!("everyone-{percent}"),
            act => act.row().0.to_owned(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let percent = |text: &str| text.parse().ok().filter(|percent| (1..=100).contains(percent));
        let all = [Self::Off, Self::Move(Target::Named), Self::Start, Self::Pause, Self::Resume, Self::Abort];
        match text.split_once('-') {
            Some(("admins", n)) => Some(Self::Move(Target::Admins(percent(n)?))),
            Some(("everyone", n)) => Some(Self::Move(Target::Everyone(percent(n)?))),
            Some(_) => None,
            None => all.into_iter().find(|act| act.row().0 == text),
        }
    }

    fn question(self) -> String {
        match self {
            Self::Off => "Turn off passwordless sign-in?".to_owned(),
            Self::Move(target) => format!("Move to {}?", lower(&title(target))),
            act => format!("{}?", act.row().1),
        }
    }
}

fn title(target: Target) -> String {
    match target {
        Target::Named => "Named addresses".to_owned(),
        Target::Admins(percent) => format!("{percent}% of administrators"),
        Target::Everyone(100) => "Everyone".to_owned(),
        Target::Everyone(percent) => format!("{percent}%"),
    }
}

/// Names no proper noun begins.
pub(super) fn lower(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

/// "1 address", "12 addresses"
fn addresses(n: usize, noun: &str) -> String {
    format::count(n as u64, noun).replace("addresss", "addresses")
}

/// Whom a flag lets in, in words.
pub(super) fn who_has(flag: &Flag) -> String {
    match flag.reach() {
        Reach::Nobody => "Nobody".to_owned(),
        Reach::Everyone => "Everyone".to_owned(),
        Reach::Some => {
            let everyone = (flag.percent_everyone > 0).then(|| format!("{}% of everyone", flag.percent_everyone));
            let admins = (flag.percent_admins > 0).then(|| format!("{}% of administrators", flag.percent_admins));
            let named = (!flag.allowed.is_empty()).then(|| addresses(flag.allowed.len(), "named address"));
            format::line([everyone, admins, named].into_iter().flatten())
        }
    }
}

/// What the page shows.
#[derive(Clone, Debug)]
pub struct Shown {
    pub all: Overview,
    /// Whether the administrator may change something now, or has to confirm it's them first.
    pub fresh: bool,
}

impl Shown {
    fn under_way(&self) -> Option<&Rollout> {
        self.all.status.rollout.as_ref().filter(|rollout| !rollout.state.is_over())
    }

    fn plan(&self) -> &[Step] {
        self.all.status.rollout.as_ref().map_or(&DEFAULT_PLAN, |rollout| &rollout.plan)
    }

    fn over(&self) -> bool {
        self.all.status.readings.iter().any(|reading| reading.verdict() == Verdict::Over)
    }

    fn name(&self, by: &str) -> String {
        match by.parse::<Uuid>() {
            Ok(id) => self.all.names.get(&id).cloned().unwrap_or_else(|| "an administrator".to_owned()),
            Err(_) => match by {
                "operator" => "an operator".to_owned(),
                "rollout" => "the rollout".to_owned(),
                "api_key" => "a program".to_owned(),
                other => other.to_owned(),
            },
        }
    }
}

/// How far the feature's flag has come, and what its rollout is up to.
pub(super) fn badge(rollout: Option<&Rollout>, flag: &Flag) -> (BadgeKind, String) {
    let reached = reached(flag);
    match rollout.map(|rollout| rollout.state) {
        Some(RolloutState::Held) => (BadgeKind::Warn, format!("Held at {}", lower(&reached))),
        Some(RolloutState::Paused) => (BadgeKind::Warn, format!("Paused at {}", lower(&reached))),
        Some(RolloutState::RolledBack) if flag.reach() == Reach::Nobody => (BadgeKind::Danger, "Turned off by a check".to_owned()),
        _ => match flag.reach() {
            Reach::Nobody => (BadgeKind::Off, "Off".to_owned()),
            Reach::Some => (BadgeKind::Here, reached),
            Reach::Everyone => (BadgeKind::Ok, "On".to_owned()),
        },
    }
}

/// The most that it is: a table has it whole.
pub(super) fn reached(flag: &Flag) -> String {
    if let Act::Move(target) = here(flag) { title(target) } else { "off".to_owned() }
}

/// Where the flag is now, among the choices.
fn here(flag: &Flag) -> Act {
    match (flag.percent_everyone, flag.percent_admins, flag.allowed.is_empty()) {
        (0, 0, true) => Act::Off,
        (0, 0, false) => Act::Move(Target::Named),
        (0, percent, _) => Act::Move(Target::Admins(percent)),
        (percent, ..) => Act::Move(Target::Everyone(percent)),
    }
}

/// What was typed, and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Typed {
    pub act: Option<Act>,
    pub reason: String,
    pub error: Option<ReasonError>,
    /// What could not be done, and why.
    pub refused: Option<&'static str>,
}

const COLUMNS: &[Column] = &[Column::text("Feature"), Column::text("State"), Column::text("Who"), Column::text("Last change")];

/// `done`: something was changed, a moment ago.
#[component]
pub fn RolloutPage(who: String, shown: Shown, typed: Typed, done: bool) -> impl IntoView {
    let (kind, badge) = badge(shown.all.status.rollout.as_ref(), &shown.all.flag);
    let changed = shown.all.flags.iter().find(|row| row.key == PASSWORDLESS_AUTH).map(|row| {
        let by = shown.name(&row.updated_by);
        view! { <span class="hint">"Changed "<Date at=row.updated_at/>" by "<span class="whole">{by}</span></span> }
    });
    let refused = typed.refused;
    let help = match shown.all.status.rollout.as_ref().map(|rollout| rollout.state) {
        Some(RolloutState::Held) => help::ADMIN_ROLLOUT_HELD,
        Some(RolloutState::RolledBack) => help::ADMIN_ROLLOUT_ROLLED_BACK,
        _ => help::ADMIN_ROLLOUT,
    };
    let wrong = typed.error.is_some();
    // In one type each: nested, they are more than the compiler follows.
    let ladder = shown.all.status.rollout.as_ref().map(|rollout| view! { <Ladder rollout=rollout.clone()/> }.into_any());
    let lever = view! { <Lever shown=shown.clone() typed/> }.into_any();
    let conditions = view! { <Conditions status=shown.all.status.clone()/> }.into_any();
    let features = shown.all.flags.iter().map(|row| feature(row, &shown)).collect();
    let (notice, history) = (stopped(&shown), view! { <History shown/> }.into_any());
    view! {
        <Admin title="Rollout" email=who error=wrong help=Some(help) lede="Who can use each feature, and what would stop it. Times are in UTC.">
            {done.then(|| view! {
                <Notice tone=Tone::Ok title="Changed">"Every server follows within five seconds. It's in the audit log."</Notice>
            })}
            {refused.map(|why| view! { <Notice tone=Tone::Danger title="Nothing was changed">{why}</Notice> }.into_any())}
            {notice}
            <div class="panel">
                <h2>"Passwordless sign-in" <Badge kind text=badge/> {changed}</h2>
                {ladder}
                <div class="halves">
                    {lever}
                    {conditions}
                </div>
            </div>
            <div class="panel">
                <h2>"All features"</h2>
                <Table label="All features" columns=COLUMNS rows=features>
                    <Empty heading="Nothing was changed yet" text="A feature shows up here once somebody has changed who has it."/>
                </Table>
            </div>
            {history}
        </Admin>
    }
}

/// Why the rollout stands still, or is over.
fn stopped(shown: &Shown) -> Option<AnyView> {
    let rollout = shown.all.status.rollout.as_ref()?;
    let why = rollout.why.clone().unwrap_or_default();
    let why = check_text::reason(&why).unwrap_or(why);
    Some(match rollout.state {
        RolloutState::Held => view! {
            <Notice tone=Tone::Warn title="The rollout is held">
                {why}". Nobody new gets in until every check has been under its limit for 30 minutes."
            </Notice>
        }
        .into_any(),
        RolloutState::Paused => view! { <Notice tone=Tone::Info title="The rollout is paused">{why}"."</Notice> }.into_any(),
        RolloutState::RolledBack if shown.all.flag.reach() == Reach::Nobody => view! {
            <Notice tone=Tone::Danger title="A check turned passwordless sign-in off">{why}". People signed in then stay signed in."</Notice>
        }
        .into_any(),
        _ => return None,
    })
}

#[component]
pub(super) fn Ladder(rollout: Rollout) -> impl IntoView {
    let over = rollout.state.is_over();
    let steps = rollout.plan.iter().enumerate().map(|(n, step)| {
        let here = n == rollout.step && !over;
        let done = n < rollout.step || (rollout.state == RolloutState::Finished);
        let state = match (here, done) {
            (true, _) => view! { "Since "<Date at=rollout.step_since/> }.into_any(),
            (_, true) => "Done".into_any(),
            _ if n == rollout.step => "Ended here".into_any(),
            _ => "Not started".into_any(),
        };
        let later = !here && !done;
        view! {
            <li aria-current=here.then_some("step") class=later.then_some("later")>
                <strong>{title(step.to)}</strong>
                <span>{state}</span>
            </li>
        }
    });
    view! { <ol class="ladder">{steps.collect_view()}</ol> }
}

#[component]
fn Lever(shown: Shown, typed: Typed) -> impl IntoView {
    if !shown.fresh {
        return view! {
            <div>
                <h3>"Move to"</h3>
                <p class="hint">"You signed in a while ago, so we check before you change this."</p>
                <div class="row-actions">
                    <a class="button" href=return_to::step_up(routes::ADMIN_ROLLOUT)>"Confirm it's you"</a>
                </div>
            </div>
        }
        .into_any();
    }
    let Overview { flag, population, .. } = &shown.all;
    let here = here(flag);
    let chosen = typed.act.filter(|act| matches!(act, Act::Off | Act::Move(_))).unwrap_or(here);
    let over = shown.over();
    let reached = flag.percent_everyone;
    let mut choices = vec![Act::Off, Act::Move(Target::Named)];
    choices.extend(shown.plan().iter().map(|step| Act::Move(step.to)).filter(|act| *act != Act::Move(Target::Named)));
    if !choices.contains(&here) {
        choices.push(here);
    }
    let choices = choices.into_iter().map(|act| {
        let up = match act {
            Act::Move(Target::Everyone(percent)) => percent > reached,
            Act::Move(Target::Admins(percent)) => reached == 0 && percent > flag.percent_admins,
            _ => false,
        };
        let barred = up && over;
        let now = if here == act { "Now. " } else { "" };
        let hint = match act {
            _ if barred => "Not available while a check is over its limit.".to_owned(),
            Act::Off => format!("{now}Everyone uses the old sign-in. People signed in now stay signed in."),
            Act::Move(Target::Named) => format!("{now}{}.", addresses(flag.allowed.len(), "address")),
            Act::Move(target) => {
                let accounts = population.and_then(|population| population.let_in(target)).map(|n| so_many(target, n));
                format!("{now}{}", accounts.unwrap_or_default()).trim_end().to_owned()
            }
            _ => String::new(),
        };
        let text = match act {
            Act::Off => "Off".to_owned(),
            Act::Move(target) => title(target),
            _ => String::new(),
        };
        let name = act.name();
        let id = format!("to-{name}");
        let described = (!hint.is_empty()).then(|| format!("{id}-hint"));
        view! {
            <div class="check">
                <input
                    type="radio"
                    name="to"
                    id=id.clone()
                    value=name
                    checked=chosen == act && !barred
                    disabled=barred
                    aria-describedby=described.clone()
                />
                <label for=id>{text}</label>
                {described.map(|id| view! { <p class="hint" id=id>{hint}</p> })}
            </div>
        }
    });
    let plan = match shown.under_way().map(|rollout| rollout.state) {
        None => vec![(Act::Start, "Start the guarded rollout")],
        Some(RolloutState::Running) => vec![(Act::Pause, "Pause"), (Act::Abort, "End the rollout")],
        Some(_) => vec![(Act::Resume, "Resume"), (Act::Abort, "End the rollout")],
    };
    let plan = plan.into_iter().map(|(act, text)| view! { <button class="button" name="act" value=act.name()>{text}</button> });
    let off = flag.reach() == Reach::Nobody;
    let error = typed.error.map(reason_error);
    view! {
        <form method="post" action=routes::ADMIN_ROLLOUT novalidate>
            <fieldset>
                <legend>"Move to"</legend>
                {choices.collect_view()}
            </fieldset>
            <ReasonField value=typed.reason maxlength=Reason::MOST error/>
            <div class="row-actions">
                <button class="button primary">"Review change"</button>
                {(!off).then(|| view! { <button class="button ghost red" name="act" value="off">"Turn off now"</button> })}
            </div>
            <div class="row-actions">{plan.collect_view()}</div>
        </form>
    }
    .into_any()
}

/// "About 4,210 accounts."
fn so_many(target: Target, n: u64) -> String {
    let all = matches!(target, Target::Admins(100) | Target::Everyone(100));
    if n == 0 {
        return if all { "No account yet." } else { "Likely no account yet." }.to_owned();
    }
    let about = if all { "" } else { "About " };
    format!("{about}{}.", format::count(n, "account"))
}

#[component]
fn Conditions(status: Status) -> impl IntoView {
    let now = status.now;
    let line = |(class, glyph, word): (&'static str, Glyph, &'static str), title: String, text: String| {
        view! {
            <li class=class>
                <Icon glyph/>
                <span><span class="vh">{word}</span>{title}</span>
                <p class="hint">{text}</p>
            </li>
        }
    };
    let readings = status.readings.iter().map(|reading| {
        let Reading { check, value, over_since, .. } = *reading;
        let mark = match reading.verdict() {
            Verdict::NoData => ("none", Glyph::Info, "No data: "),
            Verdict::Ok => ("ok", Glyph::Done, "OK: "),
            Verdict::Close => ("close", Glyph::Warn, "Close: "),
            Verdict::Over => ("over", Glyph::Error, "Over limit: "),
        };
        let measured = value.map_or_else(|| "No data.".to_owned(), |value| check_text::value(check, value));
        let over = over_since.map(|since| format!(" Over for {}.", format::roughly((now - since).try_into().unwrap_or_default())));
        line(mark, check_text::title(check).to_owned(), measured + &over.unwrap_or_default())
    });
    let gates = status.rollout.as_ref().filter(|rollout| !rollout.state.is_over()).map(|rollout| {
        let soaked = rollout.soaked_at() <= now && rollout.state == RolloutState::Running;
        let tried = status.sign_ins > 0;
        let mark = |done: bool| if done { ("ok", Glyph::Done, "Done: ") } else { ("none", Glyph::Info, "Waiting: ") };
        let hours = format::count(u64::from(rollout.current().soak_hours), "hour");
        let until = if rollout.state == RolloutState::Running {
            format!("Until {}.", format::date_time(rollout.soaked_at()))
        } else {
            "The time stands still.".to_owned()
        };
        let sign_ins = format!("{}.", format::count(status.sign_ins.unsigned_abs(), "sign-in"));
        [
            line(mark(soaked), format!("{hours} at this step"), until),
            line(mark(tried), "Somebody signed in at this step".to_owned(), sign_ins),
        ]
    });
    view! {
        <div>
            <h3>"Moves up only if"</h3>
            <ul class="conditions">{readings.collect_view()}{gates}</ul>
        </div>
    }
}

fn feature(row: &FlagRow, shown: &Shown) -> Vec<AnyView> {
    let guarded = row.key == PASSWORDLESS_AUTH;
    let (kind, state) = match shown.under_way().filter(|_| guarded).map(|rollout| rollout.state) {
        Some(RolloutState::Held) => (BadgeKind::Warn, "Held"),
        Some(RolloutState::Paused) => (BadgeKind::Warn, "Paused"),
        _ => match row.flag.reach() {
            Reach::Nobody => (BadgeKind::Off, "Off"),
            Reach::Some => (BadgeKind::Here, "In part"),
            Reach::Everyone => (BadgeKind::Ok, "On"),
        },
    };
    let by = shown.name(&row.updated_by);
    let name = if guarded { "Passwordless sign-in".to_owned() } else { format::capitalised(&row.key.replace('_', " ")) };
    vec![
        view! { <p>{name}</p><p class="hint"><code>{row.key.clone()}</code></p> }.into_any(),
        view! { <Badge kind text=state/> }.into_any(),
        view! { <p>{who_has(&row.flag)}</p> }.into_any(),
        view! { <p><Date at=row.updated_at/>", "<span class="whole">{by}</span></p> }.into_any(),
    ]
}

const HISTORY: &[Column] = &[Column::text("What"), Column::text("When"), Column::text("By"), Column::text("Why")];

#[component]
fn History(shown: Shown) -> impl IntoView {
    let rows = shown.all.history.iter().map(|told| {
        let by = told.actor.map_or_else(|| told.by.clone(), |actor| actor.to_string());
        // A reason is written as somebody typed it; the rollout's own begins like a sentence.
        let typed = || if by == "rollout" { format::capitalised(&told.reason) } else { told.reason.clone() };
        let why = check_text::reason(&told.reason).unwrap_or_else(typed);
        vec![
            what(told).into_any(),
            view! { <DateTime at=told.at/> }.into_any(),
            view! { <p class="whole">{begun(&shown.name(&by))}</p> }.into_any(),
            view! { <p class="whole">{if why.is_empty() { "–".to_owned() } else { why }}</p> }.into_any(),
        ]
    });
    view! {
        <div class="panel">
            <h2>"History"</h2>
            <Table label="History" columns=HISTORY rows=rows.collect()>
                <Empty heading="Nothing here yet" text="Changes, and what the rollout does by itself, will show up in this list."/>
            </Table>
        </div>
    }
}

/// As a cell begins. An address stays as it is.
fn begun(name: &str) -> String {
    if name.contains('@') { name.to_owned() } else { format::capitalised(name) }
}

fn what(told: &Told) -> String {
    let text = match told.event.as_str() {
        "flag.changed" => {
            let flag = if told.flag == PASSWORDLESS_AUTH { "Passwordless sign-in".to_owned() } else { told.flag.clone() };
            let flag_now = Flag {
                allowed: vec![String::new(); told.addresses],
                percent_admins: told.percent_admins,
                percent_everyone: told.percent_everyone,
            };
            return format!("{flag}: {}", lower(&who_has(&flag_now)));
        }
        "rollout.started" => "Rollout started",
        "rollout.moved" => "Moved to the next step",
        "rollout.held" => "Held",
        "rollout.released" => "Went on by itself",
        "rollout.paused" => "Paused",
        "rollout.resumed" => "Resumed",
        "rollout.aborted" => "Rollout ended",
        "rollout.rolled_back" => "Turned off by a check",
        "rollout.finished" => "Rollout finished",
        _ => "Something else",
    };
    text.to_owned()
}

/// Asks once more.
#[component]
pub fn ReviewPage(who: String, act: Act, reason: String) -> impl IntoView {
    let above = vec![("Rollout", routes::ADMIN_ROLLOUT.to_owned())];
    let class = if matches!(act, Act::Off | Act::Abort) { "button danger" } else { "button primary" };
    view! {
        <Admin title=act.question() email=who above crumb="Review change" help=Some(help::ADMIN_ROLLOUT)>
            <Ask action=routes::ADMIN_ROLLOUT button=act.row().1 class=class narrow=true back=("Cancel", routes::ADMIN_ROLLOUT.to_owned())>
                <input type="hidden" name="act" value=act.name()/>
                <input type="hidden" name="reason" value=reason.clone()/>
                <input type="hidden" name="reviewed" value="1"/>
                <p>{act.row().2}</p>
                <p><strong>"Reason: "</strong><span class="whole">{reason}</span></p>
            </Ask>
        </Admin>
    }
}

#[derive(serde::Deserialize)]
pub struct RolloutQuery {
    #[serde(default)]
    done: String,
}

pub async fn get(
    State(state): State<AppState>,
    Administrator(_, authority): Administrator,
    Query(query): Query<RolloutQuery>,
) -> Answer {
    let shown = Shown { all: state.auth.rollout().overview().await?, fresh: state.auth.sign_in().is_fresh(&authority) };
    let done = query.done == DONE;
    Ok(page(StatusCode::OK, || view! { <RolloutPage who=authority.email shown typed=Typed::default() done/> }))
}

/// Reviews a change, or makes it once it was reviewed.
#[server(prefix = "", endpoint = "admin/rollout", protocol = FormPost)]
pub async fn change_rollout(
    #[server(default)] to: String,
    #[server(default)] act: String,
    #[server(default)] reason: String,
    #[server(default)] reviewed: String,
) -> Answer {
    let (form, Administrator(_, authority)) = Form::authorize(routes::ADMIN_ROLLOUT).await?;
    let auth = &form.state.auth;
    require_fresh(&form.state, &authority, routes::ADMIN_ROLLOUT)?;
    let Some(act) = Act::parse(if act.is_empty() { &to } else { &act }) else {
        return see_other(routes::ADMIN_ROLLOUT);
    };
    let (who, typed) = (authority.email.clone(), line(&reason));
    let refuse = async |status, error, refused| -> Answer {
        let shown = Shown { all: auth.rollout().overview().await?, fresh: true };
        let (who, typed) = (who.clone(), Typed { act: Some(act), reason: typed.clone(), error, refused });
        Err(page(status, || view! { <RolloutPage who shown typed done=false/> }).into())
    };
    let reason: Reason = match typed.parse() {
        Ok(reason) => reason,
        Err(error) => return refuse(StatusCode::UNPROCESSABLE_ENTITY, Some(error), None).await,
    };
    if reviewed.is_empty() {
        let (who, reason) = (who.clone(), typed.clone());
        return Ok(page(StatusCode::OK, move || view! { <ReviewPage who act reason/> }));
    }
    let by = Actor::Admin { authority: &authority, from: &form.from };
    let change = async |change| auth.rollout().set_flag(by, PASSWORDLESS_AUTH, &change, &reason).await.map(drop);
    let done = match act {
        Act::Off => change(flag::Change::Off).await,
        Act::Move(target) => change(flag::Change::To(target)).await,
        Act::Start => match auth.rollout().start(by, &DEFAULT_PLAN, &reason).await {
            Ok(_) => Ok(()),
            Err(StartError::UnderWay) => Err(ActionError::Nothing),
            Err(StartError::PendingMigrations) => {
                return refuse(StatusCode::CONFLICT, None, Some("Migrations are pending. Run them first.")).await;
            }
            Err(StartError::NotUp) => {
                let why = "It is as far as the plan goes already. Move down first, or write a plan of your own at the shell.";
                return refuse(StatusCode::CONFLICT, None, Some(why)).await;
            }
            Err(StartError::Act(error)) => Err(error),
            Err(StartError::Unavailable(error)) => Err(error.into()),
        },
        Act::Pause => auth.rollout().pause(by, &reason).await.map(drop),
        Act::Resume => auth.rollout().resume(by, &reason).await.map(drop),
        Act::Abort => auth.rollout().abort(by, &reason).await.map(drop),
    };
    match done {
        Ok(()) => see_other(&format!("{}?done={DONE}", routes::ADMIN_ROLLOUT)),
        Err(ActionError::Nothing) => {
            let why = "It is so already, or somebody else was faster. This page shows how it is now.";
            refuse(StatusCode::CONFLICT, None, Some(why)).await
        }
        Err(error) => not_done(error, routes::ADMIN_ROLLOUT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auth::{policy::checks::Check, rollout::Population};
    use time::{Duration, OffsetDateTime, macros::datetime};

    use crate::http::render::render;

    const NOW: OffsetDateTime = datetime!(2026-11-24 14:29 UTC);

    fn shown(state: RolloutState, readings: &[(Check, Option<f64>)], flag: Flag) -> Shown {
        let rollout = Rollout {
            id: Uuid::nil(),
            state,
            plan: DEFAULT_PLAN.to_vec(),
            step: 2,
            step_since: NOW - Duration::hours(8),
            stopped_since: None,
            why: Some("mail_delay".to_owned()),
            clear_since: None,
            started_at: NOW - Duration::days(8),
            ended_at: None,
        };
        let readings = readings.iter().map(|(check, value)| Reading {
            check: *check,
            value: *value,
            over_since: value.filter(|value| *value > check.limit()).map(|_| NOW - Duration::minutes(12)),
            checked_at: NOW,
        });
        let all = Overview {
            status: Status { rollout: Some(rollout), readings: readings.collect(), sign_ins: 3, now: NOW },
            flag,
            flags: Vec::new(),
            history: Vec::new(),
            names: std::collections::HashMap::new(),
            population: Some(Population { accounts: 16_840, administrators: 42 }),
        };
        Shown { all, fresh: true }
    }

    fn html(shown: Shown, typed: Typed) -> String {
        render(|| view! { <RolloutPage who="priya@example.org".to_owned() shown typed done=false/> })
    }

    fn quarter() -> Flag {
        Flag { percent_admins: 5, percent_everyone: 25, ..Flag::OFF }
    }

    #[test]
    fn no_data_is_said_and_never_looks_like_ok() {
        let html = html(
            shown(RolloutState::Running, &[(Check::ServerErrors, None), (Check::Keys, Some(0.0))], quarter()),
            Typed::default(),
        );
        assert!(html.contains(r#"<li class="none">"#) && html.contains(r"No data: </span>Server errors at most 1%"), "{html}");
        assert!(html.contains(r"OK: </span>Encryption keys all there"));
    }

    #[test]
    fn nothing_moves_up_while_a_check_is_over_its_limit() {
        let over = &[(Check::MailDelay, Some(74.0))];
        let held = html(shown(RolloutState::Held, over, quarter()), Typed::default());
        assert!(held.contains("Held at 25%") && held.contains("74 s. Over for 12 minutes."), "{held}");
        assert!(held.contains("Not available while a check is over its limit."));
        let radio = |html: &str, value: &str| {
            let at = html.find(&format!(r#"value="{value}""#)).expect(value);
            let start = html[..at].rfind('<').expect("its tag");
            html[start..].split_once('>').expect("its end").0.to_owned()
        };
        assert!(radio(&held, "everyone-100").contains("disabled"));
        for value in ["off", "named", "everyone-25"] {
            assert!(!radio(&held, value).contains("disabled"), "{value}: down is always open");
        }
        let well = html(shown(RolloutState::Running, &[(Check::MailDelay, Some(7.0))], quarter()), Typed::default());
        assert!(!radio(&well, "everyone-100").contains("disabled"));
        assert!(radio(&well, "everyone-25").contains("checked"), "where it is");
    }

    #[test]
    fn each_step_says_how_many_accounts_it_lets_in() {
        let html = html(shown(RolloutState::Running, &[], quarter()), Typed::default());
        for hint in ["About 2 accounts.", "Now. About 4,210 accounts.", ">16,840 accounts."] {
            assert!(html.contains(hint), "{hint}: {html}");
        }
        assert_eq!(so_many(Target::Admins(5), 0), "Likely no account yet.");
        assert_eq!(so_many(Target::Everyone(100), 0), "No account yet.");
        assert_eq!(so_many(Target::Everyone(25), 1), "About 1 account.");
    }

    #[test]
    fn every_act_has_a_name_that_leads_back_to_it() {
        for act in [
            Act::Off,
            Act::Move(Target::Named),
            Act::Move(Target::Admins(5)),
            Act::Move(Target::Everyone(100)),
            Act::Start,
            Act::Pause,
            Act::Resume,
            Act::Abort,
        ] {
            assert_eq!(Act::parse(&act.name()), Some(act));
        }
        for text in ["", "everyone-0", "everyone-101", "admins-", "on", "off-1"] {
            assert_eq!(Act::parse(text), None, "{text}");
        }
    }
}
