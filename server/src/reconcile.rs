//! `latchkey reconcile`: contradictions in the tables, one line each.

use auth::operations::reconcile::{Finding, WINDOW};
use serde_json::{Value, json};
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::{
    cli::Output,
    commands::{auth, print, rfc3339},
    config::Config,
};

pub async fn reconcile(config: &Config, pool: PgPool, since: Option<OffsetDateTime>, output: Output) -> anyhow::Result<()> {
    let auth = auth(config, pool).await?;
    let since = since.unwrap_or_else(|| auth.now() - WINDOW);
    let findings = auth.operations().reconcile(since).await?;
    let text = if findings.is_empty() {
        format!("Nothing found since {}.", rfc3339(since))
    } else {
        findings.iter().map(in_words).collect::<Vec<_>>().join("\n")
    };
    let found: Vec<Value> = findings.iter().map(as_json).collect();
    print(output, &text, &json!({ "since": rfc3339(since), "findings": found }));
    anyhow::ensure!(findings.is_empty(), "{} found; docs/operations.md says what each means.", findings.len());
    Ok(())
}

fn in_words(Finding { at, kind, ids }: &Finding) -> String {
    let ids: Vec<String> = ids.iter().map(|(name, id)| format!("{name} {id}")).collect();
    format!("{}  {kind:<30}  {}", rfc3339(*at), ids.join("  "))
}

fn as_json(Finding { at, kind, ids }: &Finding) -> Value {
    let ids: Vec<Value> = ids.iter().map(|(name, id)| json!({ "of": name, "id": id })).collect();
    json!({ "at": rfc3339(*at), "kind": kind, "ids": ids })
}
