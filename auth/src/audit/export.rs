//! A copy of the audit, or of a part of it, for other programs: the oldest first, in pages, so that it costs the same memory whatever
//! its size. That it was taken is recorded before the first row leaves.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::json;
use strum::{EnumString, IntoStaticStr, VariantArray};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::{About, AuditFilter, AuditRow, seal::PAGE, store};
use crate::{
    Audit, Error,
    event::{Event, UnitOfWork},
    identity::{ActionError, Actor},
    primitives::cursor::{Cursor, Towards},
};

/// By the ending of the file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Format {
    /// An object a line.
    #[strum(serialize = "jsonl")]
    JsonLines,
    Csv,
}

named!(Format);

/// What is left of a copy. It ends with what was there when it began.
pub struct AuditExport {
    filter: AuditFilter,
    format: Format,
    /// Behind what was handed out; `None` at the end.
    cursor: Option<Cursor>,
    left: usize,
    /// What comes before the first row.
    head: &'static str,
}

const COLUMNS: &str = "id,created_at,event_type,user_id,actor_id,ip,user_agent,request_id,details\r\n";

impl Audit<'_> {
    /// Begins a copy of at most `most` rows. An administrator's session must have given its strongest factor lately.
    ///
    /// # Errors
    /// [`ActionError`]; then nothing is handed out.
    pub async fn export(
        self,
        who: Actor<'_>,
        filter: AuditFilter,
        format: Format,
        most: usize,
    ) -> Result<AuditExport, ActionError> {
        who.permit(self.0)?;
        let now = self.0.now();
        let mut narrowed = BTreeMap::new();
        if !filter.events.is_empty() {
            narrowed.insert("events", filter.events.join(" "));
        }
        match &filter.about {
            Some(About::User(user) | About::Person(user)) => narrowed.insert("account", user.to_string()),
            Some(About::Ip(ip)) => narrowed.insert("ip", ip.to_string()),
            Some(About::Request(request)) => narrowed.insert("request", request.clone()),
            None => None,
        };
        let mut work = UnitOfWork::begin(&self.0.pool, who.from(), now).await?.by(who.actor());
        work.record(Event::AuditExported {
            by: who.origin(),
            format: format.as_str(),
            since: filter.since,
            until: filter.until,
            filter: narrowed,
        });
        work.commit().await?;
        let until = filter.until.map_or(now, |until| until.min(now));
        let head = if format == Format::Csv { COLUMNS } else { "" };
        let cursor = Some(Cursor { towards: Towards::Newer, at: OffsetDateTime::UNIX_EPOCH, id: Uuid::nil() });
        Ok(AuditExport { filter: AuditFilter { until: Some(until), ..filter }, format, cursor, left: most, head })
    }

    /// The next piece of the file; `None` at its end.
    ///
    /// # Errors
    /// When the database does not answer: the copy is not whole.
    pub async fn next_of_export(self, export: &mut AuditExport) -> Result<Option<String>, Error> {
        let Some(cursor) = export.cursor.take() else { return Ok(None) };
        let mut text = std::mem::take(&mut export.head).to_owned();
        let most = PAGE.min(export.left);
        let rows = store::page(&self.0.pool, &export.filter, Some(cursor), most + 1).await?;
        let more = rows.len() > most;
        let cut = more && most == export.left;
        for row in rows.iter().take(most) {
            match export.format {
                Format::Csv => csv_line(&mut text, row),
                Format::JsonLines => json_line(&mut text, row),
            }
            export.cursor = (more && !cut).then_some(Cursor { towards: Towards::Newer, at: row.at, id: row.id });
        }
        export.left -= most.min(rows.len());
        if cut {
            text.push_str(match export.format {
                Format::Csv => CUT_CSV,
                Format::JsonLines => CUT_JSON,
            });
        }
        Ok(Some(text))
    }
}

/// The last line where there was more: a file that ends early must not look whole.
const CUT_CSV: &str = "There are more rows: choose a shorter period or run latchkey audit export,,,,,,,,\r\n";
const CUT_JSON: &str = "{\"cut\":true,\"note\":\"There are more rows: choose a shorter period or run latchkey audit export\"}\n";

fn time(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

/// As the API says it.
fn json_line(text: &mut String, row: &AuditRow) {
    let line = json!({
        "id": row.id, "created_at": time(row.at), "event_type": row.event, "user_id": row.user, "actor_id": row.actor, "ip": row.ip,
        "user_agent": row.user_agent, "request_id": row.request_id, "details": row.details,
    });
    // JSON takes these for text, and some who read files by lines for the end of one.
    let line = line.to_string().replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029").replace('\u{85}', "\\u0085");
    let _ = writeln!(text, "{line}");
}

fn csv_line(text: &mut String, row: &AuditRow) {
    let id = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
    let fields = [
        row.id.to_string(),
        time(row.at),
        row.event.clone(),
        id(row.user),
        id(row.actor),
        row.ip.map(|ip| ip.to_string()).unwrap_or_default(),
        row.user_agent.clone().unwrap_or_default(),
        row.request_id.clone().unwrap_or_default(),
        row.details.to_string(),
    ];
    text.push_str(&fields.map(|field| csv_field(&field)).join(","));
    text.push_str("\r\n");
}

/// Quoted as RFC 4180 has it where it needs to be. A browser can call itself `=cmd|…`, and whoever opens the file in a spreadsheet
/// would run that: an apostrophe in front makes it text (OWASP, "CSV Injection").
fn csv_field(field: &str) -> String {
    let formula = field.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    let field = if formula { format!("'{field}") } else { field.to_owned() };
    if field.contains(['"', ',', '\r', '\n']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_is_a_formula_and_none_breaks_the_table() {
        for (field, safe) in [
            ("Firefox", "Firefox"),
            ("", ""),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@x", "'@x"),
            ("\t=1", "'\t=1"),
            ("\r=1", "\"'\r=1\""),
            ("＝1", "'＝1"),
            ("=1,\"2\"", "\"'=1,\"\"2\"\"\""),
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\"\"b\""),
            ("a\nb", "\"a\nb\""),
            ("a=b", "a=b"),
        ] {
            assert_eq!(csv_field(field), safe, "{field:?}");
        }
    }

    #[test]
    fn a_row_is_one_line_whatever_a_browser_calls_itself() {
        let row = AuditRow {
            id: Uuid::nil(),
            at: OffsetDateTime::UNIX_EPOCH,
            event: "link.requested".to_owned(),
            user: None,
            actor: None,
            ip: None,
            user_agent: Some("a\nb\r\nc\u{2028}d\u{2029}e\u{85}f\"g\\h\u{1b}[2J".to_owned()),
            request_id: None,
            details: json!({ "by": "x\u{2028}y" }),
            position: 1,
        };
        let mut text = String::new();
        json_line(&mut text, &row);
        let line = text.strip_suffix('\n').expect("ended");
        assert!(!line.contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')), "{line:?}");
        let read: serde_json::Value = serde_json::from_str(line).expect("one object");
        assert_eq!((read["user_agent"].as_str(), &read["details"]), (row.user_agent.as_deref(), &row.details));
    }

    #[test]
    fn a_cut_file_has_as_many_columns_in_its_last_line() {
        assert_eq!(CUT_CSV.matches(',').count(), COLUMNS.matches(',').count());
        assert!(serde_json::from_str::<serde_json::Value>(CUT_JSON).is_ok());
    }
}
