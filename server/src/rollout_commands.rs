//! `latchkey flag` and `latchkey rollout`.

use auth::{
    Auth,
    flag::{Change, Flag, FlagRow, MOST_ALLOWED, Of, PASSWORDLESS_AUTH, Reach, Target},
    identity::{ActionError, Actor},
    rollout::{DEFAULT_PLAN, Rollout, StartError, State, Status, Step, Verdict},
};
use serde_json::{Value, json};
use sqlx::PgPool;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    cli::{self, FlagCommand, FlagTo, RolloutCommand},
    commands::{auth, parse, print, refusal},
    config::Config,
};

pub async fn flag(config: &Config, pool: PgPool, command: FlagCommand) -> anyhow::Result<()> {
    let auth = auth(config, pool).await?;
    let (key, change, reason, output) = match command {
        FlagCommand::Show { output } => {
            let mut rows: Vec<Value> = auth.flag().rows().await?.iter().map(row).collect();
            let mut lines: Vec<String> = rows.iter().map(line).collect();
            if !rows.iter().any(|row| row["flag"] == PASSWORDLESS_AUTH) {
                let flag = auth.flag().get(PASSWORDLESS_AUTH);
                lines.push(format!("{PASSWORDLESS_AUTH}: {} (by FEATURE_PASSWORDLESS_AUTH; never changed)", who(&flag)));
                rows.push(described(PASSWORDLESS_AUTH, &flag));
            }
            print(output, &lines.join("\n"), &json!({ "flags": rows }));
            return Ok(());
        }
        FlagCommand::Set { flag, to, of, reason, output } => {
            let of = match of {
                cli::Of::Admins => Of::Admins,
                cli::Of::Everyone => Of::Everyone,
            };
            let change = match to {
                FlagTo { on: true, .. } => Change::On,
                FlagTo { percent: Some(percent), .. } => Change::Percent(percent, of),
                FlagTo { .. } => Change::Off,
            };
            (flag, change, reason, output)
        }
        FlagCommand::Allow { email, flag, reason, output } => {
            anyhow::ensure!(
                auth.flag().get(&flag).allowed.len() < MOST_ALLOWED,
                "{flag} names {MOST_ALLOWED} addresses already. Use a percentage."
            );
            (flag, Change::Allow(parse(&email)?), reason, output)
        }
        FlagCommand::Disallow { email, flag, reason, output } => (flag, Change::Disallow(parse(&email)?), reason, output),
    };
    let (flag, text) = match auth.rollout().set_flag(Actor::Operator, &key, &change, &reason).await {
        Ok(flag) => {
            let text = format!("{key} is for {} now. Running servers follow within five seconds.", who(&flag));
            (flag, text)
        }
        // Whoever turns it off in a hurry, and perhaps twice, has what they wanted.
        Err(ActionError::Nothing) => {
            let flag = auth.flag().get(&key);
            let text = format!("It is so already: {key} is for {}. Nothing was changed.", who(&flag));
            (flag, text)
        }
        Err(error) => return Err(refusal(error)),
    };
    print(output, &text, &described(&key, &flag));
    Ok(())
}

/// Whom a flag lets in, in words.
fn who(flag: &Flag) -> String {
    match flag.reach() {
        Reach::Nobody => "nobody".to_owned(),
        Reach::Everyone => "everyone".to_owned(),
        Reach::Some => {
            let mut parts = Vec::new();
            if flag.percent_everyone > 0 {
                parts.push(format!("{} % of everyone", flag.percent_everyone));
            }
            if flag.percent_admins > 0 {
                parts.push(format!("{} % of administrators", flag.percent_admins));
            }
            match flag.allowed.len() {
                0 => {}
                1 => parts.push("1 address".to_owned()),
                n => parts.push(format!("{n} addresses")),
            }
            parts.join(", ")
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
    described["changed_at"] = json!(row.updated_at.format(&Rfc3339).ok());
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

pub async fn rollout(config: &Config, pool: PgPool, command: RolloutCommand) -> anyhow::Result<()> {
    let auth = auth(config, pool).await?;
    let output = match command {
        RolloutCommand::Start { plan, reason, output } => {
            let plan = plan.map_or(DEFAULT_PLAN.to_vec(), |plan| plan.0);
            auth.rollout().start(Actor::Operator, &plan, &reason).await.map_err(|error| match error {
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
            output
        }
        RolloutCommand::Status { output } => output,
        RolloutCommand::Pause { reason, output } => {
            auth.rollout().pause(Actor::Operator, &reason).await.map_err(no_rollout)?;
            output
        }
        RolloutCommand::Resume { reason, output } => {
            auth.rollout().resume(Actor::Operator, &reason).await.map_err(no_rollout)?;
            output
        }
        RolloutCommand::Abort { reason, output } => {
            auth.rollout().abort(Actor::Operator, &reason).await.map_err(no_rollout)?;
            output
        }
    };
    let status = auth.rollout().status().await?;
    print(output, &told(&auth, &status), &as_json(&status));
    Ok(())
}

fn no_rollout(error: ActionError) -> anyhow::Error {
    match error {
        ActionError::Nothing => anyhow::anyhow!("There is no rollout for which that would change anything."),
        other => refusal(other),
    }
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

fn told(auth: &Auth, status: &Status) -> String {
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
                    format!("The step's soak ends {}.", time(rollout.soaked_at()))
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
        let since = reading.over_since.map(|since| format!(", since {}", time(since))).unwrap_or_default();
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

fn time(at: OffsetDateTime) -> String {
    let whole = at.replace_nanosecond(0).unwrap_or(at);
    whole.format(&Rfc3339).unwrap_or_default()
}

fn as_json(status: &Status) -> Value {
    let rollout = status.rollout.as_ref().map(|rollout| {
        json!({
            "id": rollout.id, "state": rollout.state.as_str(), "why": rollout.why, "plan": rollout.plan, "step": rollout.step,
            "step_since": time(rollout.step_since), "soaked_at": time(rollout.soaked_at()), "sign_ins": status.sign_ins,
            "started_at": time(rollout.started_at), "ended_at": rollout.ended_at.map(time),
        })
    });
    let checks: Vec<Value> = status
        .readings
        .iter()
        .map(|reading| {
            json!({
                "name": reading.check.name(), "value": reading.value, "limit": reading.check.limit(),
                "verdict": verdict(reading.verdict()).to_lowercase(), "over_since": reading.over_since.map(time),
                "turns_it_off": reading.check.is_ours(),
            })
        })
        .collect();
    json!({ "rollout": rollout, "checks": checks })
}
