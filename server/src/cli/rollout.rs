//! `latchkey flag` and `latchkey rollout`.

use auth::{
    Auth,
    flag::{Change, Flag, FlagRow, MOST_ALLOWED, Of, PASSWORDLESS_AUTH, Reach, Target},
    identity::{ActionError, Actor},
    rollout::{DEFAULT_PLAN, Rollout, StartError, State, Status, Step, Verdict},
};
use serde_json::{Value, json};

use super::{
    FlagCommand, FlagTo, OfFlag, RolloutCommand,
    answer::{Answer, refusal, refused, rfc3339},
};

pub async fn flag(auth: &Auth, command: FlagCommand) -> anyhow::Result<Answer> {
    let (key, change, reason) = match command {
        FlagCommand::Show => {
            let mut rows: Vec<Value> = auth.flag().rows().await?.iter().map(row).collect();
            let mut lines: Vec<String> = rows.iter().map(line).collect();
            if !rows.iter().any(|row| row["flag"] == PASSWORDLESS_AUTH) {
                let flag = auth.flag().get(PASSWORDLESS_AUTH);
                lines.push(format!("{PASSWORDLESS_AUTH}: {} (by FEATURE_PASSWORDLESS_AUTH; never changed)", who(&flag)));
                rows.push(described(PASSWORDLESS_AUTH, &flag));
            }
            return Ok(Answer::new(lines.join("\n"), json!({ "flags": rows })));
        }
        FlagCommand::Set { flag, to, of, reason } => {
            let of = match of {
                super::Of::Admins => Of::Admins,
                super::Of::Everyone => Of::Everyone,
            };
            let change = match to {
                FlagTo { on: true, .. } => Change::On,
                FlagTo { percent: Some(percent), .. } => Change::Percent(percent, of),
                FlagTo { .. } => Change::Off,
            };
            (flag, change, reason)
        }
        FlagCommand::Allow(OfFlag { email, flag, why }) => {
            anyhow::ensure!(
                auth.flag().get(&flag).allowed.len() < MOST_ALLOWED,
                "{flag} names {MOST_ALLOWED} addresses already. Use a percentage."
            );
            (flag, Change::Allow(email), why.reason)
        }
        FlagCommand::Disallow(OfFlag { email, flag, why }) => (flag, Change::Disallow(email), why.reason),
    };
    let (flag, text) = match auth.rollout().set_flag(Actor::Operator, &key, &change, &reason).await {
        Ok(flag) => {
            let text = format!("{key} is for {} now. Running servers follow within five seconds.", who(&flag));
            (flag, text)
        }
        // An operator who turns it off in a hurry, and perhaps twice, has what they wanted.
        Err(ActionError::Nothing) => {
            let flag = auth.flag().get(&key);
            let text = format!("It is so already: {key} is for {}. Nothing was changed.", who(&flag));
            (flag, text)
        }
        Err(error) => return Err(refusal(error)),
    };
    Ok(Answer::new(text, described(&key, &flag)))
}

/// Whom a flag lets in, in words.
fn who(flag: &Flag) -> String {
    match flag.reach() {
        Reach::Nobody => "nobody".to_owned(),
        Reach::Everyone => "everyone".to_owned(),
        Reach::Some => {
            let everyone = (flag.percent_everyone > 0).then(|| format!("{} % of everyone", flag.percent_everyone));
            let admins = (flag.percent_admins > 0).then(|| format!("{} % of administrators", flag.percent_admins));
            let named = match flag.allowed.len() {
                0 => None,
                1 => Some("1 address".to_owned()),
                n => Some(format!("{n} addresses")),
            };
            [everyone, admins, named].into_iter().flatten().collect::<Vec<_>>().join(", ")
        }
    }
}

fn described(key: &str, flag: &Flag) -> Value {
    json!({
        "flag": key, "allowed": flag.allowed, "percent_admins": flag.percent_admins, "percent_everyone": flag.percent_everyone,
    })
}

fn row(row: &FlagRow) -> Value {
    let mut described = described(&row.key, &row.flag);
    described["changed_at"] = json!(rfc3339(row.updated_at));
    described["changed_by"] = json!(row.updated_by);
    described["reason"] = json!(row.reason);
    described["who"] = json!(who(&row.flag));
    described
}

fn line(row: &Value) -> String {
    let text = |name: &str| row[name].as_str().unwrap_or_default();
    let mut line =
        format!("{}: {} (changed {} by {}: {})", text("flag"), text("who"), text("changed_at"), text("changed_by"), text("reason"));
    for email in row["allowed"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        line.push_str("\n  ");
        line.push_str(email);
    }
    line
}

pub async fn rollout(auth: &Auth, command: RolloutCommand) -> anyhow::Result<Answer> {
    let changed = match command {
        RolloutCommand::Start { plan, why } => {
            let plan = plan.map_or(DEFAULT_PLAN.to_vec(), |plan| plan.0);
            auth.rollout().start(Actor::Operator, &plan, &why.reason).await.map_err(|error| match error {
                StartError::UnderWay => {
                    anyhow::anyhow!("A rollout is under way. `latchkey rollout status` shows it; `abort` ends it.")
                }
                StartError::PendingMigrations => anyhow::anyhow!("Migrations are pending. Run `latchkey migrate` first."),
                StartError::NotUp => anyhow::anyhow!(
                    "Each step has to let in more than the one before, and the first more than the flag does now ({}).",
                    who(&auth.flag().get(PASSWORDLESS_AUTH))
                ),
                StartError::Act(error) => refusal(error),
                StartError::Unavailable(error) => error.into(),
            })?;
            return status(auth).await;
        }
        RolloutCommand::Status => return status(auth).await,
        RolloutCommand::Pause(why) => auth.rollout().pause(Actor::Operator, &why.reason).await,
        RolloutCommand::Resume(why) => auth.rollout().resume(Actor::Operator, &why.reason).await,
        RolloutCommand::Abort(why) => auth.rollout().abort(Actor::Operator, &why.reason).await,
    };
    changed.map_err(refused("There is no rollout for which that would change anything."))?;
    status(auth).await
}

async fn status(auth: &Auth) -> anyhow::Result<Answer> {
    let status = auth.rollout().status().await?;
    Ok(Answer::new(in_words(auth, &status), as_json(&status)))
}

fn step(step: Step) -> String {
    match step.to {
        Target::Named => "named addresses".to_owned(),
        Target::Admins(percent) => format!("{percent} % of administrators"),
        Target::Everyone(100) => "everyone".to_owned(),
        Target::Everyone(percent) => format!("{percent} % of everyone"),
    }
}

fn state(rollout: &Rollout) -> String {
    let why = rollout.why.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
    format!("{}{why}", rollout.state.as_str().replace('_', " "))
}

fn in_words(auth: &Auth, status: &Status) -> String {
    let mut lines = vec![format!("{PASSWORDLESS_AUTH} is for {}.", who(&auth.flag().get(PASSWORDLESS_AUTH)))];
    match &status.rollout {
        None => lines.push("There was no rollout yet.".to_owned()),
        Some(rollout) => {
            lines.push(format!("Rollout: {}.", state(rollout)));
            for (n, planned) in rollout.plan.iter().enumerate() {
                let mark = match n.cmp(&rollout.step) {
                    std::cmp::Ordering::Less => "done",
                    std::cmp::Ordering::Equal => "here",
                    std::cmp::Ordering::Greater => "    ",
                };
                lines.push(format!("  {mark}  {}, {} h", step(*planned), planned.soak_hours));
            }
            if !rollout.state.is_over() {
                let sign_ins = status.sign_ins;
                let soak = if rollout.state == State::Running {
                    format!("The step's soak ends {}.", rfc3339(rollout.soaked_at()))
                } else {
                    "The soak stands still.".to_owned()
                };
                lines.push(format!("{soak} Sign-ins since it began: {sign_ins}; the next step needs at least one."));
            }
        }
    }
    lines.push("Checks:".to_owned());
    for reading in &status.readings {
        let value = reading.value.map_or_else(|| "–".to_owned(), |value| format!("{value:.1}"));
        let since = reading.over_since.map(|since| format!(", since {}", rfc3339(since))).unwrap_or_default();
        lines.push(format!(
            "  {:<9} {}: {value}, limit {}{since}",
            verdict(reading.verdict()),
            app::ui::check_text::title(reading.check),
            reading.check.limit()
        ));
    }
    lines.join("\n")
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::NoData => "no data",
        Verdict::Ok => "ok",
        Verdict::Close => "close",
        Verdict::Over => "OVER",
    }
}

fn as_json(status: &Status) -> Value {
    let rollout = status.rollout.as_ref().map(|rollout| {
        json!({
            "id": rollout.id, "state": rollout.state.as_str(), "why": rollout.why, "plan": rollout.plan, "step": rollout.step,
            "step_since": rfc3339(rollout.step_since), "soaked_at": rfc3339(rollout.soaked_at()), "sign_ins": status.sign_ins,
            "started_at": rfc3339(rollout.started_at), "ended_at": rollout.ended_at.map(rfc3339),
        })
    });
    let checks: Vec<Value> = status
        .readings
        .iter()
        .map(|reading| {
            json!({
                "name": reading.check.as_str(), "value": reading.value, "limit": reading.check.limit(),
                "verdict": verdict(reading.verdict()).to_lowercase(), "over_since": reading.over_since.map(rfc3339),
                "turns_it_off": reading.check.is_ours(),
            })
        })
        .collect();
    json!({ "rollout": rollout, "checks": checks })
}
