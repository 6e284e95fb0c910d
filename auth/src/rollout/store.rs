use sqlx::{PgConnection, PgPool, types::Json};
use strum::{EnumString, IntoStaticStr, VariantArray};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::policy::checks::Check;
use crate::primitives::{statement::Statement as _, stored_json::StoredJson};

use super::{Reading, Step, Told};
use crate::reporting::event_counts;

#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
#[repr(u8)]
pub enum State {
    /// For the gauge `rollout_state`: 1, and the others after it.
    Running = 1,
    /// By a check that is over its limit.
    Held,
    /// By hand.
    Paused,
    Finished,
    Aborted,
    RolledBack,
}

named!(State);

impl State {
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Finished | Self::Aborted | Self::RolledBack)
    }
}

/// A rollout, under way or over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    pub id: Uuid,
    pub state: State,
    /// At least one step.
    pub plan: Vec<Step>,
    /// The step it stands at, from 0.
    pub step: usize,
    /// When the step began; as much later as the rollout stood still since.
    pub step_since: OffsetDateTime,
    /// While it is held or paused.
    pub stopped_since: Option<OffsetDateTime>,
    /// A check's name, or somebody's words.
    pub why: Option<String>,
    /// While it is held: since when no check is over its limit.
    pub clear_since: Option<OffsetDateTime>,
    pub started_at: OffsetDateTime,
    pub ended_at: Option<OffsetDateTime>,
}

impl Rollout {
    #[must_use]
    pub fn current(&self) -> Step {
        self.plan[self.step]
    }

    #[must_use]
    pub fn is_last(&self) -> bool {
        self.step + 1 == self.plan.len()
    }

    /// When the step has soaked long enough, if nothing stops it.
    #[must_use]
    pub fn soaked_at(&self) -> OffsetDateTime {
        self.step_since + self.current().soak()
    }

    pub(super) fn stop(&mut self, state: State, why: &str, now: OffsetDateTime) {
        self.state = state;
        self.stopped_since.get_or_insert(now);
        self.clear_since = None;
        self.why = Some(why.to_owned());
    }

    pub(super) fn go_on(&mut self, now: OffsetDateTime) {
        if let Some(since) = self.stopped_since.take() {
            self.step_since += now - since;
        }
        self.state = State::Running;
        self.clear_since = None;
        self.why = None;
    }

    pub(super) fn advance(&mut self, now: OffsetDateTime) {
        self.step += 1;
        self.step_since = now;
    }

    pub(super) fn end(&mut self, state: State, why: Option<&str>, now: OffsetDateTime) {
        self.state = state;
        self.stopped_since = None;
        self.clear_since = None;
        self.why = why.map(ToOwned::to_owned);
        self.ended_at = Some(now);
    }
}

struct Row {
    id: Uuid,
    state: String,
    plan: Json<Vec<Step>>,
    step: i16,
    step_since: OffsetDateTime,
    stopped_since: Option<OffsetDateTime>,
    why: Option<String>,
    clear_since: Option<OffsetDateTime>,
    started_at: OffsetDateTime,
    ended_at: Option<OffsetDateTime>,
}

impl TryFrom<Row> for Rollout {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> sqlx::Result<Self> {
        let strange = || sqlx::Error::Decode("a rollout's row can't be read".into());
        let state = State::parse(&row.state).ok_or_else(strange)?;
        let step = usize::try_from(row.step).ok().filter(|step| *step < row.plan.len()).ok_or_else(strange)?;
        Ok(Self {
            id: row.id,
            state,
            plan: row.plan.0,
            step,
            step_since: row.step_since,
            stopped_since: row.stopped_since,
            why: row.why,
            clear_since: row.clear_since,
            started_at: row.started_at,
            ended_at: row.ended_at,
        })
    }
}

pub(super) async fn insert(connection: &mut PgConnection, flag: &str, rollout: &Rollout, by: &str) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        insert into rollouts (id, flag, state, plan, step, step_since, started_at, started_by)
        values ($1, $2, $3, $4, $5, $6, $7, $8)
        "#,
        rollout.id,
        flag,
        rollout.state.as_str(),
        Json(&rollout.plan) as _,
        i16::try_from(rollout.step).unwrap_or(i16::MAX),
        rollout.step_since,
        rollout.started_at,
        by,
    )
    .run(connection)
    .await
}

pub(super) async fn update(connection: &mut PgConnection, rollout: &Rollout) -> sqlx::Result<()> {
    sqlx::query!(
        r#"
        update rollouts set state = $2, step = $3, step_since = $4, stopped_since = $5, why = $6, clear_since = $7, ended_at = $8
        where id = $1
        "#,
        rollout.id,
        rollout.state.as_str(),
        i16::try_from(rollout.step).unwrap_or(i16::MAX),
        rollout.step_since,
        rollout.stopped_since,
        rollout.why,
        rollout.clear_since,
        rollout.ended_at,
    )
    .run(connection)
    .await
}

/// A flag's rollout.
macro_rules! rollout {
    ($which:tt, $flag:expr, $executor:expr) => {
        sqlx::query_as!(
            Row,
            r#"
            select id, state, plan as "plan: Json<Vec<Step>>", step, step_since, stopped_since, why, clear_since, started_at, ended_at
            from rollouts where flag = $1 "# + $which,
            $flag,
        )
        .fetch_optional($executor)
        .await?
        .map(TryInto::try_into)
        .transpose()
    };
}

/// The one under way, which nobody else changes until the transaction is over.
pub(super) async fn active(connection: &mut PgConnection, flag: &str) -> sqlx::Result<Option<Rollout>> {
    rollout!("and ended_at is null for update", flag, connection)
}

/// The same, as it is now.
pub(super) async fn under_way(pool: &PgPool, flag: &str) -> sqlx::Result<Option<Rollout>> {
    rollout!("and ended_at is null", flag, pool)
}

pub(super) async fn newest(pool: &PgPool, flag: &str) -> sqlx::Result<Option<Rollout>> {
    rollout!("order by started_at desc limit 1", flag, pool)
}

pub(super) async fn admins(connection: &mut PgConnection, most: i64) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar!("select id from users where is_admin and disabled_at is null order by created_at limit $1", most)
        .fetch_all(connection)
        .await
}

/// Below that a share says nothing.
pub const LEAST_VERIFICATIONS: i64 = 20;
const LEAST_ANSWERS: i64 = 50;
const LEAST_MAILS: i64 = 5;

#[expect(clippy::cast_precision_loss, reason = "counts of an hour, far below 2^52")]
fn share(part: i64, whole: i64, least: i64) -> Option<f64> {
    (whole >= least).then(|| part as f64 * 100.0 / whole as f64)
}

/// What a statement says. Where PostgreSQL refuses this one, the log says so and the others go on: one table that can't be read must not
/// end every check. Where it doesn't answer at all, nothing can be said.
pub(super) fn measured<T>(what: &'static str, said: sqlx::Result<T>) -> sqlx::Result<Option<T>> {
    match said {
        Ok(value) => Ok(Some(value)),
        Err(error @ (sqlx::Error::Database(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_))) => {
            tracing::error!(%error, what, "rollout.unmeasured");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What the checks say now.
pub(super) struct Measured {
    /// `None` also where a check can't be measured.
    pub values: Vec<(Check, Option<f64>)>,
    /// Every check was measured.
    pub whole: bool,
}

/// `counted`: the audit's events were counted up to now.
pub(super) async fn measure(pool: &PgPool, unreadable: Option<i64>, counted: bool, now: OffsetDateTime) -> sqlx::Result<Measured> {
    // Up to now: a row with a time in the future would count in every look until then.
    let (hour, quarter) = (now - Duration::hours(1), now - Duration::minutes(15));
    let verifications = sqlx::query!(
        r#"
        select least(greatest(sum(value) filter (where name = 'link.redeemed'), 0), 1e15)::bigint as "redeemed!",
               least(greatest(sum(value) filter (where name <> 'link.redeemed'), 0), 1e15)::bigint as "refused!"
        from minute_counts
        where minute > $1 and minute <= $2 and (name = 'link.redeemed' or name like 'link.refused:%')
        "#,
        hour,
        now,
    )
    .fetch_one(pool)
    .await;
    let verifications = measured("failed_verifications", verifications)?.filter(|_| counted);
    let answers = sqlx::query!(
        r#"
        select least(greatest(sum(value) filter (where name = $3), 0), 1e15)::bigint as "all!",
               least(greatest(sum(value) filter (where name = $4), 0), 1e15)::bigint as "failed!"
        from minute_counts
        where minute > $1 and minute <= $2 and name in ($3, $4)
        "#,
        quarter,
        now,
        event_counts::ANSWERS,
        event_counts::FAILED,
    )
    .fetch_one(pool)
    .await;
    let answers = measured("server_errors", answers)?;
    let busiest = measured("burst", most_requests(pool, hour, now).await)?;
    let second_factor = measured("second_factor_failures", most_failures(pool, hour, now).await)?;
    // Those that still wait count with the time they have waited so far: where nothing goes out, nothing would be late.
    let mail = sqlx::query!(
        r#"
        select count(*) as "mails!",
               percentile_disc(0.95) within group (order by extract(epoch from coalesce(settled_at, $1) - created_at)::float8) as p95
        from mail_outbox
        where (state = 'sent' and settled_at > $2 and settled_at <= $1)
            or (state = 'queued' and created_at > $3 and created_at <= $1 and attempts = 0)
        "#,
        now,
        quarter,
        hour,
    )
    .fetch_one(pool)
    .await;
    let mail = measured("mail_delay", mail)?;
    // A mail that a recipient's server puts off is no sign: strangers choose recipients, also so many slow ones that others wait for
    // their first try. So those that wait count where nobody tries any. While any mail goes out, sending works.
    let stuck = sqlx::query!(
        r#"
        select count(*) filter (where (server_failed and (state = 'queued' or settled_at > $1))
                                   or (state = 'queued' and attempts = 0 and run_at < $2 and not exists (
                                           select from mail_outbox where state = 'queued' and lease_until > $4))) as "stuck!",
               count(*) filter (where state = 'sent' and settled_at > $1 and settled_at <= $4) as "sent!"
        from mail_outbox where created_at > $3
        "#,
        quarter,
        now - Duration::minutes(5),
        hour,
        now,
    )
    .fetch_one(pool)
    .await;
    let stuck = measured("mail_stuck", stuck)?;
    let audit = i32::from(!can_write_audit(pool, now).await?);
    let whole = verifications.is_some()
        && answers.is_some()
        && busiest.is_some()
        && second_factor.is_some()
        && mail.is_some()
        && stuck.is_some()
        && unreadable.is_some();
    #[expect(clippy::cast_precision_loss, reason = "counts of an hour, far below 2^52")]
    let number = |count: i64| count as f64;
    let values = vec![
        (Check::FailedVerifications, verifications.and_then(|of| share(of.refused, of.refused + of.redeemed, LEAST_VERIFICATIONS))),
        (Check::Burst, busiest.map(|busiest| number(busiest.unwrap_or(0)))),
        (Check::SecondFactorFailures, second_factor.map(|failures| number(failures.unwrap_or(0)))),
        (Check::MailDelay, mail.filter(|mail| mail.mails >= LEAST_MAILS).and_then(|mail| mail.p95)),
        (Check::ServerErrors, answers.and_then(|of| share(of.failed, of.all, LEAST_ANSWERS))),
        (Check::Audit, Some(f64::from(audit))),
        (Check::MailStuck, stuck.map(|mails| number(if mails.sent > 0 { 0 } else { mails.stuck }))),
        (Check::Keys, unreadable.map(number)),
    ];
    Ok(Measured { values, whole })
}

/// Sign-in mails that the busiest network asked for.
async fn most_requests(pool: &PgPool, hour: OffsetDateTime, now: OffsetDateTime) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        r#"
        select least(greatest(sum(requests), 0), 1e15)::bigint as "requests!" from network_requests where minute > $1 and minute <= $2
        group by network order by 1 desc limit 1
        "#,
        hour,
        now,
    )
    .fetch_optional(pool)
    .await
}

/// Wrong second factors of the account that has most.
async fn most_failures(pool: &PgPool, hour: OffsetDateTime, now: OffsetDateTime) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar!(
        r#"
        select count(*) as "failures!" from auth_audit
        where event_type in ('totp.refused', 'backup_code.refused') and created_at > $1 and created_at <= $2 and user_id is not null
        group by user_id order by 1 desc limit 1
        "#,
        hour,
        now,
    )
    .fetch_optional(pool)
    .await
}

/// Tries it, and takes it back. An error that is not the statement's own is the caller's: then nothing can be said.
async fn can_write_audit(pool: &PgPool, now: OffsetDateTime) -> sqlx::Result<bool> {
    let mut transaction = pool.begin().await?;
    let tried = sqlx::query!(
        "insert into auth_audit (id, created_at, event_type) values ($1, $2, 'rollout.tried')",
        crate::crypto::new_id(now),
        now,
    )
    .execute(&mut *transaction)
    .await;
    transaction.rollback().await?;
    match tried {
        Ok(_) => Ok(true),
        Err(sqlx::Error::Database(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Keeps what the checks say, and since when each is over its limit.
pub(super) async fn save(
    connection: &mut PgConnection,
    values: &[(Check, Option<f64>)],
    now: OffsetDateTime,
) -> sqlx::Result<Vec<Reading>> {
    let names: Vec<String> = values.iter().map(|(check, _)| check.as_str().to_owned()).collect();
    let over: Vec<bool> = values.iter().map(|(check, value)| value.is_some_and(|value| value > check.limit())).collect();
    let values: Vec<Option<f64>> = values.iter().map(|(_, value)| *value).collect();
    let rows = sqlx::query!(
        r#"
        insert into rollout_checks as c (name, value, over_since, checked_at)
        select name, value, case when is_over then $4::timestamptz end, $4
        from unnest($1::text[], $2::float8[], $3::boolean[]) as measured (name, value, is_over)
        on conflict (name) do update set value = excluded.value, checked_at = excluded.checked_at,
            over_since = case when excluded.over_since is null then null else coalesce(c.over_since, excluded.over_since) end
        returning name, value, over_since, checked_at
        "#,
        &names,
        &values as &[Option<f64>],
        &over,
        now,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().filter_map(|row| reading(&row.name, row.value, row.over_since, row.checked_at)).collect())
}

fn reading(name: &str, value: Option<f64>, over_since: Option<OffsetDateTime>, checked_at: OffsetDateTime) -> Option<Reading> {
    Some(Reading { check: Check::parse(name)?, value, over_since, checked_at })
}

/// One for each check, in their order; one that never was is without data.
pub(super) async fn readings(pool: &PgPool) -> sqlx::Result<Vec<Reading>> {
    let rows = sqlx::query!("select name, value, over_since, checked_at from rollout_checks").fetch_all(pool).await?;
    let found: Vec<Reading> =
        rows.into_iter().filter_map(|row| reading(&row.name, row.value, row.over_since, row.checked_at)).collect();
    Ok(Check::ALL
        .iter()
        .map(|&check| {
            let never = Reading { check, value: None, over_since: None, checked_at: OffsetDateTime::UNIX_EPOCH };
            found.iter().find(|reading| reading.check == check).copied().unwrap_or(never)
        })
        .collect())
}

/// As many as a page shows.
const HISTORY: i64 = 20;

pub(super) async fn history(pool: &PgPool) -> sqlx::Result<Vec<Told>> {
    let rows = sqlx::query!(
        r#"
        select created_at, event_type, actor_id, details::text as "details!: StoredJson" from auth_audit
        where event_type in ('flag.changed', 'rollout.started', 'rollout.moved', 'rollout.held', 'rollout.released', 'rollout.paused',
                             'rollout.resumed', 'rollout.aborted', 'rollout.rolled_back', 'rollout.finished')
        order by created_at desc, id desc limit $1
        "#,
        HISTORY,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let details = serde_json::Value::from(row.details);
            let text = |name: &str| details[name].as_str().unwrap_or_default().to_owned();
            let number = |name: &str| details["after"][name].as_u64().unwrap_or(0);
            let percent = |name: &str| u8::try_from(number(name)).unwrap_or(0);
            Told {
                at: row.created_at,
                actor: row.actor_id,
                by: text("by"),
                reason: text("reason"),
                flag: text("flag"),
                addresses: usize::try_from(number("addresses")).unwrap_or(0),
                percent_admins: percent("percent_admins"),
                percent_everyone: percent("percent_everyone"),
                event: row.event_type,
            }
        })
        .collect())
}
