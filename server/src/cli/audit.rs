//! `latchkey audit`.

use std::io::{self, ErrorKind, Write as _};

use anyhow::Context as _;
use auth::{
    Auth,
    audit::{AuditFilter, Format, Head, Late, SealState, Sealed, Unusual, Verified},
    identity::Actor,
};
use serde_json::{Value, json};
use time::Duration;

use super::{
    AuditCommand, ExportFormat,
    answer::{Answer, lines, refusal, rfc3339},
};

/// How far back the report looks by default.
const REPORTED: Duration = Duration::days(7);

/// `None`: an export prints as it reads.
pub async fn audit(auth: &Auth, command: AuditCommand) -> anyhow::Result<Option<Answer>> {
    match command {
        AuditCommand::Export { since, until, format } => {
            let format = match format {
                ExportFormat::Jsonl => Format::JsonLines,
                ExportFormat::Csv => Format::Csv,
            };
            Box::pin(export(auth, AuditFilter { since, until, ..AuditFilter::default() }, format)).await?;
            Ok(None)
        }
        AuditCommand::Verify { head } => Ok(Some(verified(&Box::pin(auth.audit().verify(head.as_ref())).await?))),
        AuditCommand::Head => {
            let SealState { head, sealed_at, unsealed_since, .. } = auth.audit().head().await?;
            let head = head.context("Nothing is sealed yet.")?;
            let json = json!({
                "head": head.to_string(), "sealed_at": sealed_at.map(rfc3339), "unsealed_since": unsealed_since.map(rfc3339),
            });
            Ok(Some(Answer::new(head.to_string(), json)))
        }
        AuditCommand::Seal { reason } => {
            let (sealed, late) = Box::pin(auth.audit().seal_by_hand(&reason)).await?;
            Ok(Some(by_hand(sealed, late.as_ref())))
        }
        AuditCommand::Report { since } => {
            let since = since.unwrap_or_else(|| auth.now() - REPORTED);
            let found = auth.audit().report(since).await?;
            let text = lines(&found, in_words, &format!("Nothing unusual since {}.", rfc3339(since)));
            let unusual: Vec<Value> = found.iter().map(as_json).collect();
            Ok(Some(Answer::new(text, json!({ "since": rfc3339(since), "unusual": unusual }))))
        }
    }
}

/// To standard output, piece by piece. A reader may stop reading.
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

fn verified(verified: &Verified) -> Answer {
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
    let failed = (all > 0).then(|| format!("{all} found; docs/audit.md says what each means."));
    Answer::new(lines.join("\n"), json).or_fail(failed)
}

fn by_hand(sealed: Sealed, late: Option<&Late>) -> Answer {
    let Sealed { batches, rows, waits, .. } = sealed;
    let accepted = late.map(|Late { batches, rows, first_at, last_at }| {
        let [first, last] = [first_at, last_at].map(|at| at.map(rfc3339).unwrap_or_default());
        let text = format!("Accepted {batches} batches with {rows} rows of {first} to {last}, which were sealed late.");
        (text, json!({ "batches": batches, "rows": rows, "from": first, "to": last }))
    });
    let (text, accepted) = accepted.unwrap_or_else(|| ("Nothing was sealed late.".to_owned(), Value::Null));
    let json = json!({ "batches": batches, "rows": rows, "accepted": accepted });
    let failed =
        waits.then(|| "A transaction stays open and may still bring rows (docs/runbooks/audit-unsealed.md). Try again.".to_owned());
    Answer::new(format!("Sealed {rows} rows in {batches} batches. {text}"), json).or_fail(failed)
}

fn in_words(unusual: &Unusual) -> String {
    let (what, advice) = app::ui::unusual::words(unusual.kind);
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
    let (what, advice) = app::ui::unusual::words(unusual.kind);
    let mut json = serde_json::to_value(unusual).unwrap_or_default();
    json["what"] = what.into();
    json["advice"] = advice.into();
    json
}
