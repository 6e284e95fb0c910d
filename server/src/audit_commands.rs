//! `latchkey audit`.

use std::io::{self, ErrorKind, Write as _};

use anyhow::Context as _;
use auth::{
    Auth,
    audit::{AuditFilter, Format, Head, Unusual, Verified},
    identity::Actor,
};
use serde_json::{Value, json};
use sqlx::PgPool;
use time::Duration;

use crate::{
    cli::{self, AuditCommand, Output},
    commands::{auth, print, refusal, rfc3339},
    config::Config,
};

/// How far back the report looks, where nobody says.
const REPORTED: Duration = Duration::days(7);

pub async fn audit(config: &Config, pool: PgPool, command: AuditCommand) -> anyhow::Result<()> {
    let auth = auth(config, pool).await?;
    match command {
        AuditCommand::Export { since, until, format } => {
            let format = match format {
                cli::ExportFormat::Jsonl => Format::JsonLines,
                cli::ExportFormat::Csv => Format::Csv,
            };
            Box::pin(export(&auth, AuditFilter { since, until, ..AuditFilter::default() }, format)).await
        }
        AuditCommand::Verify { head, output } => {
            let verified = Box::pin(auth.audit().verify(head.as_ref())).await?;
            told(output, &verified);
            let found: u64 = verified.counts.values().sum();
            anyhow::ensure!(found == 0, "{found} found; docs/audit.md says what each means.");
            Ok(())
        }
        AuditCommand::Report { since, output } => {
            let since = since.unwrap_or_else(|| auth.now() - REPORTED);
            let found = auth.audit().report(since).await?;
            let text = if found.is_empty() {
                format!("Nothing unusual since {}.", rfc3339(since))
            } else {
                found.iter().map(in_words).collect::<Vec<_>>().join("\n\n")
            };
            let unusual: Vec<Value> = found.iter().map(as_json).collect();
            print(output, &text, &json!({ "since": rfc3339(since), "unusual": unusual }));
            Ok(())
        }
    }
}

/// To standard output, as it comes. Whoever reads may stop reading.
async fn export(auth: &Auth, filter: AuditFilter, format: Format) -> anyhow::Result<()> {
    let mut export = auth.audit().export(Actor::Operator, filter, format, usize::MAX).await.map_err(refusal)?;
    let mut out = io::stdout();
    while let Some(piece) = auth.audit().next_of_export(&mut export).await.context("the copy is not whole")? {
        match out.write_all(piece.as_bytes()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            other => other.context("the copy can't be written")?,
        }
    }
    out.flush().context("the copy can't be written")
}

fn told(output: Output, verified: &Verified) {
    let head = verified.head.as_ref().map(|head: &Head| format!("{}:{}", head.number, head.prefix()));
    let mut lines: Vec<String> = verified.findings.iter().map(ToString::to_string).collect();
    let told = u64::try_from(lines.len()).unwrap_or(u64::MAX);
    let all: u64 = verified.counts.values().sum();
    if all > told {
        lines.push(format!("… and {} more", all - told));
    }
    let (batches, rows) = (verified.batches, verified.rows);
    lines.push(match &head {
        Some(head) => format!("Looked at {batches} batches with {rows} rows. Head {head}: keep it elsewhere, for --head."),
        None => "Nothing is sealed yet.".to_owned(),
    });
    let json = json!({
        "ok": all == 0, "batches": batches, "rows": rows, "head": head, "findings": verified.findings, "counts": verified.counts,
    });
    print(output, &lines.join("\n"), &json);
}

fn in_words(unusual: &Unusual) -> String {
    let (what, advice) = unusual.kind.told();
    let mut about = Vec::new();
    let mut add = |name: &str, value: Option<String>| about.extend(value.map(|value| format!("{name} {value}")));
    add("account", unusual.user.map(|id| id.to_string()));
    add("by", unusual.actor.map(|id| id.to_string()));
    add("from", unusual.ip.map(|ip| ip.to_string()));
    add("event", unusual.event.clone());
    add("times", (unusual.count > 1).then(|| unusual.count.to_string()));
    add("of", unusual.of.map(|of| of.to_string()));
    add("reason:", unusual.reason.clone());
    let when = if unusual.first == unusual.last {
        rfc3339(unusual.last)
    } else {
        format!("{} to {}", rfc3339(unusual.first), rfc3339(unusual.last))
    };
    format!("{what}\n  {when}  {}\n  {advice}", about.join("  "))
}

fn as_json(unusual: &Unusual) -> Value {
    let (what, advice) = unusual.kind.told();
    let mut json = serde_json::to_value(unusual).unwrap_or_default();
    json["what"] = what.into();
    json["advice"] = advice.into();
    json
}
