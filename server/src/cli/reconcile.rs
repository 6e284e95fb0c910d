//! `latchkey reconcile`: contradictions in the tables, one line each.

use auth::{
    Auth,
    operations::reconcile::{Finding, WINDOW},
};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::answer::{Answer, lines, rfc3339};

pub async fn reconcile(auth: &Auth, since: Option<OffsetDateTime>) -> anyhow::Result<Answer> {
    let since = since.unwrap_or_else(|| auth.now() - WINDOW);
    let findings = auth.operations().reconcile(since).await?;
    let text = lines(&findings, in_words, &format!("Nothing found since {}.", rfc3339(since)));
    let found: Vec<Value> = findings.iter().map(as_json).collect();
    let failed = (!found.is_empty()).then(|| format!("{} found; docs/operations.md says what each means.", found.len()));
    Ok(Answer::new(text, json!({ "since": rfc3339(since), "findings": found })).or_fail(failed))
}

fn in_words(Finding { at, kind, ids }: &Finding) -> String {
    let ids: Vec<String> = ids.iter().map(|(name, id)| format!("{name} {id}")).collect();
    format!("{}  {kind:<30}  {}", rfc3339(*at), ids.join("  "))
}

fn as_json(Finding { at, kind, ids }: &Finding) -> Value {
    let ids: Vec<Value> = ids.iter().map(|(name, id)| json!({ "of": name, "id": id })).collect();
    json!({ "at": rfc3339(*at), "kind": kind, "ids": ids })
}
