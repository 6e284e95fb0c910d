//! The guarded rollout: a plan raises a flag step by step, each step soaks, and checks over what happens hold it or turn the flag off.
//!
//! Not here: who is in (`flag`).
//! To add one: a check is a variant of `Check` in `policy/checks.rs` and its measure in `store.rs`.
//!
//! Every instance asks now and then whether a look is due; the one that wins the slot looks, measures, and decides in one transaction
//! that locks the plan. One that dies half-way has changed nothing, and the next slot is anybody's.

mod check;
mod store;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::{
    Error, Rollouts,
    crypto::new_id,
    event::{Event, RolloutStep, UnitOfWork},
    flag::Target,
    flag::{self, Change, Flag, FlagRow, PASSWORDLESS_AUTH},
    identity::{ActionError, Actor, Origin, Scope},
    operations::migrate,
    outbox::{self, Notice},
    policy::checks::Check,
    primitives::{reason::Reason, schedule},
    reporting::{event_counts, overview},
    users::account,
};

pub use check::{Reading, Verdict};
pub use store::{LEAST_VERIFICATIONS, Rollout, State};

/// Between two looks.
pub const LOOK_EVERY: Duration = Duration::seconds(30);
/// A held rollout goes on once no check has been over its limit for this long.
pub const CLEAR_FOR: Duration = Duration::minutes(30);
/// Administrators who are told.
const MOST_TOLD: i64 = 50;

/// A step of a plan, and how long it has to go well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub to: Target,
    pub soak_hours: u16,
}

impl Step {
    const fn new(to: Target, soak_hours: u16) -> Self {
        Self { to, soak_hours }
    }

    fn soak(self) -> Duration {
        Duration::hours(i64::from(self.soak_hours))
    }

    /// The flag at this step. It is never lower than before: nobody who is in goes out.
    fn raise(self, flag: &Flag) -> Flag {
        let mut flag = flag.clone();
        match self.to {
            Target::Named => {}
            Target::Admins(percent) => flag.percent_admins = flag.percent_admins.max(percent),
            Target::Everyone(percent) => flag.percent_everyone = flag.percent_everyone.max(percent),
        }
        flag
    }
}

/// The checklist's: named addresses, 5 % of administrators for 72 hours, 25 %, everyone.
pub const DEFAULT_PLAN: [Step; 4] = [
    Step::new(Target::Named, 24),
    Step::new(Target::Admins(5), 72),
    Step::new(Target::Everyone(25), 48),
    Step::new(Target::Everyone(100), 72),
];

/// Why no rollout began.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("a rollout is under way")]
    UnderWay,
    /// The first step of every plan.
    #[error("migrations are pending")]
    PendingMigrations,
    /// Each step has to let in more than the one before.
    #[error("the plan does not go up")]
    NotUp,
    #[error(transparent)]
    Act(#[from] ActionError),
    #[error(transparent)]
    Unavailable(#[from] Error),
}

from_sqlx!(StartError);

/// What happened to a rollout: the variant that says so.
type RolloutEvent = fn(RolloutStep) -> Event;

/// Where things stand.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The newest, under way or over.
    pub rollout: Option<Rollout>,
    pub readings: Vec<Reading>,
    /// Sign-ins since the step began; a step that nobody has tried proves nothing.
    pub sign_ins: i64,
    pub now: OffsetDateTime,
}

/// Something that was done to a flag or a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub at: OffsetDateTime,
    pub event: String,
    /// The administrator who did it.
    pub actor: Option<Uuid>,
    /// `operator`, `admin` or `rollout`.
    pub by: String,
    pub reason: String,
    /// Where a flag was changed: which, and whom it lets in since.
    pub flag: String,
    pub addresses: usize,
    pub percent_admins: u8,
    pub percent_everyone: u8,
}

/// All that administrators see of flags and rollouts.
#[derive(Debug, Clone, PartialEq)]
pub struct Overview {
    pub status: Status,
    /// [`PASSWORDLESS_AUTH`], as the table has it now.
    pub flag: Flag,
    pub flags: Vec<FlagRow>,
    /// The newest first.
    pub history: Vec<Told>,
    /// The addresses of administrators who changed something.
    pub names: HashMap<Uuid, String>,
    /// None where nobody has counted yet.
    pub population: Option<Population>,
}

/// How many accounts there are for a percentage to be of, as counted a minute ago at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Population {
    pub accounts: u64,
    pub administrators: u64,
}

impl Population {
    /// How many of them a step lets in by its percentage: about so many, since each address falls into a bucket by itself.
    #[must_use]
    pub fn let_in(self, target: Target) -> Option<u64> {
        match target {
            Target::Named => None,
            Target::Admins(percent) => Some(self.administrators * u64::from(percent) / 100),
            Target::Everyone(percent) => Some(self.accounts * u64::from(percent) / 100),
        }
    }
}

/// What is to be done with a rollout.
#[derive(Debug, PartialEq)]
enum Decision {
    Nothing,
    /// Held already; since when no check is over.
    Clear(Option<OffsetDateTime>),
    Hold(Check),
    Release,
    RollBack(Check),
    Advance,
    Finish,
}

/// The one rule. `whole`: all that it needs was measured. Otherwise the checks that were can stop the rollout, and nothing lets it go on.
fn decide(rollout: &Rollout, readings: &[Reading], sign_ins: i64, whole: bool, now: OffsetDateTime) -> Decision {
    if let Some(bad) = readings.iter().find(|reading| reading.rolls_back(now)) {
        return Decision::RollBack(bad.check);
    }
    let over = readings.iter().find(|reading| reading.verdict() == Verdict::Over);
    match (rollout.state, over) {
        (State::Running, Some(over)) => Decision::Hold(over.check),
        (State::Running, None) => {
            let soaked = rollout.step_since + rollout.current().soak() <= now;
            match (whole && soaked && sign_ins > 0, rollout.is_last()) {
                (false, _) => Decision::Nothing,
                (true, true) => Decision::Finish,
                (true, false) => Decision::Advance,
            }
        }
        (State::Held, Some(_)) => Decision::Clear(None),
        (State::Held, None) if !whole => Decision::Clear(None),
        (State::Held, None) => match rollout.clear_since {
            Some(since) if since + CLEAR_FOR <= now => Decision::Release,
            since => Decision::Clear(Some(since.unwrap_or(now))),
        },
        (State::Paused | State::Finished | State::Aborted | State::RolledBack, _) => Decision::Nothing,
    }
}

impl Rollouts<'_> {
    /// Begins a rollout of [`PASSWORDLESS_AUTH`]. A step for named addresses is left out where the flag names none.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(self, who: Actor<'_>, plan: &[Step], reason: &Reason) -> Result<Rollout, StartError> {
        if !migrate::is_ready(&self.0.pool).await? {
            return Err(StartError::PendingMigrations);
        }
        let now = self.0.now();
        let mut work = UnitOfWork::begin_action(self.0, who, now).await?;
        // Its lock decides who starts first.
        let flag = self.0.flag().lock(&mut work, PASSWORDLESS_AUTH).await?;
        if store::active(work.connection(), PASSWORDLESS_AUTH).await?.is_some() {
            return Err(StartError::UnderWay);
        }
        let plan: Vec<Step> = plan.iter().copied().filter(|step| step.to != Target::Named || !flag.allowed.is_empty()).collect();
        let mut reached = flag;
        for step in &plan {
            let raised = step.raise(&reached);
            if raised == reached && step.to != Target::Named {
                return Err(StartError::NotUp);
            }
            reached = raised;
        }
        let first = *plan.first().ok_or(StartError::NotUp)?;
        let rollout = Rollout {
            id: new_id(now),
            state: State::Running,
            plan,
            step: 0,
            step_since: now,
            stopped_since: None,
            why: None,
            clear_since: None,
            started_at: now,
            ended_at: None,
        };
        let by = flag::By::from(who);
        store::insert(work.connection(), PASSWORDLESS_AUTH, &rollout, &by.text()).await?;
        record(&mut work, Event::RolloutStarted, &rollout, who.origin(), reason);
        self.0.flag().write(&mut work, PASSWORDLESS_AUTH, by, reason, |flag| first.raise(flag)).await?;
        work.commit().await?;
        self.0.flag().read().await?;
        Ok(rollout)
    }

    /// Stops it where it is until it is resumed. Checks go on, and can still turn the flag off.
    ///
    /// # Errors
    /// [`ActionError::Nothing`] where there is none, or it is paused.
    pub async fn pause(self, who: Actor<'_>, reason: &Reason) -> Result<Rollout, ActionError> {
        self.change(who, reason, |rollout, now| {
            (rollout.state != State::Paused)
                .then(|| rollout.stop(State::Paused, reason, now))
                .map(|()| Event::RolloutPaused as RolloutEvent)
        })
        .await
    }

    /// Goes on with one that is paused, or held. A check that is still over its limit holds it again.
    ///
    /// # Errors
    /// [`ActionError::Nothing`] where none is stopped.
    pub async fn resume(self, who: Actor<'_>, reason: &Reason) -> Result<Rollout, ActionError> {
        self.change(who, reason, |rollout, now| {
            (rollout.state != State::Running).then(|| rollout.go_on(now)).map(|()| Event::RolloutResumed as RolloutEvent)
        })
        .await
    }

    /// Ends the plan. Who is in stays in.
    ///
    /// # Errors
    /// [`ActionError::Nothing`] where there is none.
    pub async fn abort(self, who: Actor<'_>, reason: &Reason) -> Result<Rollout, ActionError> {
        self.change(who, reason, |rollout, now| {
            rollout.end(State::Aborted, Some(&reason[..]), now);
            Some(Event::RolloutAborted)
        })
        .await
    }

    /// Changes a flag by hand, and makes its row where there is none. A guarded rollout of it pauses, or ends where the flag was turned
    /// off: two hands at one lever would undo each other's work.
    ///
    /// # Errors
    /// [`ActionError`]; [`ActionError::Nothing`] where it is so already.
    pub async fn set_flag(self, who: Actor<'_>, key: &str, change: &Change, reason: &Reason) -> Result<Flag, ActionError> {
        let now = self.0.now();
        who.permit_with(self.0, Scope::Flags)?;
        let mut work = UnitOfWork::begin(&self.0.pool, who.from(), now).await?.by(who.actor());
        let flag = self
            .0
            .flag()
            .write(&mut work, key, who.into(), reason, |flag| flag.changed_by(change))
            .await?
            .ok_or(ActionError::Nothing)?;
        if key == PASSWORDLESS_AUTH {
            changed_by_hand(&mut work, &flag, who.origin(), now).await?;
        }
        work.commit().await?;
        self.0.flag().read().await?;
        Ok(flag)
    }

    async fn change(
        self,
        who: Actor<'_>,
        reason: &Reason,
        change: impl FnOnce(&mut Rollout, OffsetDateTime) -> Option<RolloutEvent>,
    ) -> Result<Rollout, ActionError> {
        let now = self.0.now();
        let mut work = UnitOfWork::begin_action(self.0, who, now).await?;
        let mut rollout = store::active(work.connection(), PASSWORDLESS_AUTH).await?.ok_or(ActionError::Nothing)?;
        let happened = change(&mut rollout, now).ok_or(ActionError::Nothing)?;
        store::update(work.connection(), &rollout).await?;
        record(&mut work, happened, &rollout, who.origin(), reason);
        work.commit().await?;
        Ok(rollout)
    }

    /// Where the rollout and its checks stand.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn status(self) -> Result<Status, Error> {
        let now = self.0.now();
        let rollout = store::newest(&self.0.pool, PASSWORDLESS_AUTH).await?;
        let readings = store::readings(&self.0.pool).await?;
        let sign_ins = match &rollout {
            Some(rollout) => event_counts::store::sum_since(&self.0.pool, event_counts::SIGN_INS, rollout.step_since).await?,
            None => 0,
        };
        Ok(Status { rollout, readings, sign_ins, now })
    }

    /// The rollout and what the checks say, without what happened since its step began: as cheap however long that is ago.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn standing(self) -> Result<(Option<Rollout>, Vec<Reading>), Error> {
        Ok((store::newest(&self.0.pool, PASSWORDLESS_AUTH).await?, store::readings(&self.0.pool).await?))
    }

    /// Where flags, rollout and checks stand, and how they came there.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn overview(self) -> Result<Overview, Error> {
        self.0.flag().read().await?;
        let (status, flags) = (self.status().await?, self.0.flag().rows().await?);
        let history = store::history(&self.0.pool).await?;
        let by = flags.iter().filter_map(|row| row.updated_by.parse().ok());
        let mut actors: Vec<Uuid> = by.chain(history.iter().filter_map(|told| told.actor)).collect();
        actors.sort_unstable();
        actors.dedup();
        let mut connection = self.0.pool.acquire().await?;
        let names = account::store::addresses(&mut connection, &actors).await?;
        drop(connection);
        let population = overview::store::newest_accounts(&self.0.pool).await?;
        let population = population.map(|(accounts, administrators)| Population { accounts, administrators });
        Ok(Overview { status, flag: self.0.flag().get(PASSWORDLESS_AUTH), flags, history, names, population })
    }

    /// Looks, where a look is due and no other process has: measures every check, and does what they say to the rollout under way.
    ///
    /// Where something can't be counted or measured, the other checks go on, and the rollout doesn't.
    ///
    /// # Errors
    /// When the database does not answer. Nothing was changed then.
    pub async fn watch(self) -> Result<(), Error> {
        let now = self.0.now();
        let answers = store::measured("answers", self.0.reporting().add_counts(now).await)?;
        let state = store::newest(&self.0.pool, PASSWORDLESS_AUTH).await?.map_or(0, |rollout| rollout.state as u8);
        metrics::gauge!("rollout_state", "flag" => PASSWORDLESS_AUTH).set(f64::from(state));
        if !schedule::wins(&self.0.pool, "rollout", LOOK_EVERY, now).await? {
            return Ok(());
        }
        let events = store::measured("events", self.0.reporting().roll_up(now).await)?;
        let keys = store::measured("keys", self.0.factors().key_status().await.map_err(|Error(error)| error))?;
        let unreadable = keys.map(|keys| keys.iter().filter(|key| !key.known).map(|key| key.totp_secrets).sum());
        let store::Measured { values, whole } = store::measure(&self.0.pool, unreadable, events.is_some(), now).await?;
        // Before the transaction: a statement that is refused in it would end it.
        let before = store::under_way(&self.0.pool, PASSWORDLESS_AUTH).await?;
        let sign_ins = match &before {
            Some(rollout) => {
                let sum = event_counts::store::sum_since(&self.0.pool, event_counts::SIGN_INS, rollout.step_since).await;
                store::measured("sign_ins", sum)?
            }
            None => Some(0),
        };

        let mut work = UnitOfWork::begin(&self.0.pool, None, now).await?;
        // The flag before the plan, as wherever a plan and its flag change together. It makes no row where there is none: from then on
        // the environment would have no say.
        flag::store::hold(work.connection(), PASSWORDLESS_AUTH).await?;
        let readings = store::save(work.connection(), &values, now).await?;
        if let Some(mut rollout) = store::active(work.connection(), PASSWORDLESS_AUTH).await? {
            // Sign-ins were counted since another time if somebody has resumed the rollout meanwhile: the next look decides.
            let same = before.is_some_and(|before| (before.id, before.step_since) == (rollout.id, rollout.step_since));
            let whole = whole && answers.is_some() && sign_ins.is_some() && same;
            let decision = decide(&rollout, &readings, sign_ins.unwrap_or(0), whole, now);
            self.carry_out(&mut work, &mut rollout, decision, now).await?;
        }
        Ok(work.commit_and_mail(self.0).await?)
    }

    async fn carry_out(
        self,
        work: &mut UnitOfWork<'_>,
        rollout: &mut Rollout,
        decision: Decision,
        now: OffsetDateTime,
    ) -> sqlx::Result<()> {
        let (happened, why, notice): (RolloutEvent, _, _) = match decision {
            Decision::Nothing => return Ok(()),
            Decision::Clear(since) => {
                if rollout.clear_since != since {
                    rollout.clear_since = since;
                    store::update(work.connection(), rollout).await?;
                }
                return Ok(());
            }
            Decision::Hold(check) => {
                rollout.stop(State::Held, check.as_str(), now);
                (Event::RolloutHeld, check.as_str(), Some(Notice::RolloutHeld { check }))
            }
            Decision::Release => {
                rollout.go_on(now);
                (Event::RolloutReleased, "", None)
            }
            Decision::RollBack(check) => {
                rollout.end(State::RolledBack, Some(check.as_str()), now);
                self.0.flag().write(work, PASSWORDLESS_AUTH, flag::By::Rollout, check.as_str(), |_| Flag::OFF).await?;
                (Event::RolloutRolledBack, check.as_str(), Some(Notice::RolloutRolledBack { check }))
            }
            Decision::Advance => {
                rollout.advance(now);
                let step = rollout.current();
                self.0
                    .flag()
                    .write(work, PASSWORDLESS_AUTH, flag::By::Rollout, "the step before went well", |flag| step.raise(flag))
                    .await?;
                (Event::RolloutMoved, "", None)
            }
            Decision::Finish => {
                rollout.end(State::Finished, None, now);
                (Event::RolloutFinished, "", Some(Notice::RolloutFinished))
            }
        };
        store::update(work.connection(), rollout).await?;
        record(work, happened, rollout, Origin::Rollout, why);
        if let Some(notice) = notice {
            for admin in store::admins(work.connection(), MOST_TOLD).await? {
                outbox::store::enqueue_notice(work.connection(), admin, notice, None, now).await?;
            }
        }
        Ok(())
    }
}

fn record(work: &mut UnitOfWork<'_>, happened: RolloutEvent, rollout: &Rollout, by: Origin, why: &str) {
    let (rollout, step) = (rollout.id, rollout.step);
    work.record(happened(RolloutStep { rollout, step, by, reason: why.to_owned() }));
}

/// The flag was changed by hand: turned off, the plan is over; else it pauses.
pub(crate) async fn changed_by_hand(work: &mut UnitOfWork<'_>, flag: &Flag, by: Origin, now: OffsetDateTime) -> sqlx::Result<()> {
    let Some(mut rollout) = store::active(work.connection(), PASSWORDLESS_AUTH).await? else {
        return Ok(());
    };
    let why = "the flag was changed by hand";
    let happened: RolloutEvent = if *flag == Flag::OFF {
        rollout.end(State::Aborted, Some(why), now);
        Event::RolloutAborted
    } else if rollout.state == State::Paused {
        return Ok(());
    } else {
        rollout.stop(State::Paused, why, now);
        Event::RolloutPaused
    };
    store::update(work.connection(), &rollout).await?;
    record(work, happened, &rollout, by, why);
    Ok(())
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-24 14:29 UTC);

    fn rollout(state: State, step: usize) -> Rollout {
        Rollout {
            id: Uuid::nil(),
            state,
            plan: DEFAULT_PLAN.to_vec(),
            step,
            step_since: NOW,
            stopped_since: matches!(state, State::Held | State::Paused).then_some(NOW),
            why: None,
            clear_since: None,
            started_at: NOW,
            ended_at: None,
        }
    }

    fn over(check: Check, for_: Duration, now: OffsetDateTime) -> Reading {
        Reading { check, value: Some(check.limit() + 1.0), over_since: Some(now - for_), checked_at: now }
    }

    #[test]
    fn it_advances_when_the_soak_is_over_and_somebody_has_signed_in() {
        let rollout = rollout(State::Running, 1);
        let soaked = NOW + Duration::hours(72);
        assert_eq!(decide(&rollout, &[], 3, true, soaked - Duration::microseconds(1)), Decision::Nothing);
        assert_eq!(decide(&rollout, &[], 3, true, soaked), Decision::Advance);
        assert_eq!(decide(&rollout, &[], 0, true, soaked + Duration::days(30)), Decision::Nothing, "nobody has tried it");
        let last = Rollout { step: 3, ..rollout };
        assert_eq!(decide(&last, &[], 3, true, soaked), Decision::Finish);
    }

    #[test]
    fn without_all_measures_it_goes_back_and_never_on() {
        let soaked = NOW + Duration::hours(80);
        assert_eq!(decide(&rollout(State::Running, 1), &[], 3, false, soaked), Decision::Nothing);
        assert_eq!(decide(&rollout(State::Running, 3), &[], 3, false, soaked), Decision::Nothing);
        let held = Rollout { clear_since: Some(NOW), ..rollout(State::Held, 1) };
        assert_eq!(decide(&held, &[], 3, false, soaked), Decision::Clear(None), "what isn't measured isn't clear");
        let bad = over(Check::ServerErrors, Duration::ZERO, soaked);
        assert_eq!(decide(&rollout(State::Running, 1), &[bad], 3, false, soaked), Decision::Hold(Check::ServerErrors));
        let long = over(Check::ServerErrors, Duration::hours(5), soaked);
        assert_eq!(decide(&held, &[long], 3, false, soaked), Decision::RollBack(Check::ServerErrors));
    }

    #[test]
    fn any_check_over_its_limit_holds_and_ours_roll_back_in_every_live_state() {
        let soaked = NOW + Duration::hours(80);
        for &check in Check::ALL {
            let fresh = over(check, Duration::ZERO, soaked);
            assert_eq!(decide(&rollout(State::Running, 1), &[fresh], 3, true, soaked), Decision::Hold(check));
            let long = over(check, Duration::hours(5), soaked);
            for state in [State::Running, State::Held, State::Paused] {
                let decision = decide(&rollout(state, 1), &[long], 3, true, soaked);
                assert_eq!(decision == Decision::RollBack(check), check.is_ours(), "{check:?} {state:?}: {decision:?}");
            }
        }
    }

    #[test]
    fn it_is_released_after_half_an_hour_without_a_break() {
        let mut held = rollout(State::Held, 1);
        let bad = over(Check::Burst, Duration::ZERO, NOW);
        assert_eq!(decide(&held, &[bad], 3, true, NOW), Decision::Clear(None));
        assert_eq!(decide(&held, &[], 3, true, NOW), Decision::Clear(Some(NOW)));
        held.clear_since = Some(NOW);
        assert_eq!(decide(&held, &[], 3, true, NOW + CLEAR_FOR - Duration::microseconds(1)), Decision::Clear(Some(NOW)));
        assert_eq!(decide(&held, &[bad], 3, true, NOW + CLEAR_FOR), Decision::Clear(None), "it begins anew");
        assert_eq!(decide(&held, &[], 3, true, NOW + CLEAR_FOR), Decision::Release);
    }

    #[test]
    fn the_time_it_stood_still_is_no_soak() {
        let mut rollout = rollout(State::Running, 1);
        rollout.stop(State::Held, "burst", NOW + Duration::hours(10));
        rollout.stop(State::Paused, "by hand", NOW + Duration::hours(12));
        rollout.go_on(NOW + Duration::hours(15));
        assert_eq!((rollout.state, rollout.step_since), (State::Running, NOW + Duration::hours(5)));
        assert_eq!(rollout.why, None);
    }

    #[test]
    fn a_step_raises_and_never_lowers() {
        let flag = Flag { allowed: vec!["a@example.org".to_owned()], percent_admins: 40, percent_everyone: 10 };
        assert_eq!(Step::new(Target::Admins(5), 1).raise(&flag), flag);
        assert_eq!(Step::new(Target::Everyone(25), 1).raise(&flag).percent_everyone, 25);
        assert_eq!(Step::new(Target::Everyone(25), 1).raise(&flag).allowed, flag.allowed);
    }
}
