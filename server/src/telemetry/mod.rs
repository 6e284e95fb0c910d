//! Logs (one line an event, for people or for machines, never a reason to wait), traces and metrics.
//!
//! Not here: what is worth a line or a count, which stands where it happens.
//! To add a metric: how, says [`metrics`]. A line with a name of its own stands in `docs/logs.md`.

mod line;
pub mod metrics;
pub mod queries;
mod statsd;
pub mod traces;
mod writer;

use std::{
    io::{self, IsTerminal as _},
    panic,
};

use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry,
    filter::{FilterExt as _, filter_fn},
    fmt,
    fmt::MakeWriter,
    layer::{Filter, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

use self::{
    line::{OneLine, PrintableJson},
    writer::{Flush, LogWriter},
};
use crate::config::LogFormat;

/// The one span that lines show.
pub const REQUEST: &str = "request";

/// Starts logging to standard error; standard output belongs to the commands' answers. Keep what is returned to the end
/// of `main`: dropping it writes what is still queued. `most`: the most that is logged, whatever `filter` says.
pub fn init(format: Option<LogFormat>, filter: &str, most: LevelFilter) -> anyhow::Result<Flush> {
    let terminal = io::stderr().is_terminal();
    let pretty = format.map_or(terminal, |format| format == LogFormat::Pretty);
    let (writer, flush) =
        LogWriter::start(io::stderr(), |count| tracing::warn!(count, "log lines were dropped so far: the sink is too slow"))?;
    subscriber(pretty, terminal, log_filter(filter)?.and(most), writer).try_init()?;
    log_panics();
    Ok(flush)
}

/// Without the errors of the `StatsD` exporter, unless they are asked for: a hundred lines every three seconds while no agent listens.
fn log_filter(filter: &str) -> anyhow::Result<EnvFilter> {
    Ok(EnvFilter::builder().parse(format!("metrics_exporter_dogstatsd=off,{filter}"))?)
}

fn subscriber<W>(
    pretty: bool,
    colours: bool,
    filter: impl Filter<Registry> + Send + Sync + 'static,
    writer: W,
) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = if pretty {
        fmt::layer().compact().fmt_fields(OneLine).with_ansi(colours).with_writer(writer).boxed()
    } else {
        // Names of spans and their list say nothing that the one request span doesn't.
        fmt::layer().json().flatten_event(true).with_span_list(false).map_event_format(PrintableJson).with_writer(writer).boxed()
    };
    // A line shows the innermost span. A library's around a handler (tower-sessions has one) would hide the request's, and its id.
    let filter = filter.and(filter_fn(|metadata| metadata.is_event() || metadata.name() == REQUEST));
    // The filter is the log's own: what is added up of queries must not depend on what is logged.
    tracing_subscriber::registry().with(layer.with_filter(filter)).with(queries::layer())
}

/// The standard hook writes a panic's message raw, over several lines, and waits for a blocked terminal.
fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(location, panic = message, "panicked");
    }));
}

#[cfg(test)]
pub mod test {
    use std::sync::{Arc, Mutex, PoisonError};

    use super::*;

    #[derive(Clone, Default)]
    pub struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Buffer {
        pub fn text(&self) -> String {
            let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            String::from_utf8(bytes).expect("UTF-8")
        }
    }

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(pretty: bool, filter: &str, run: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let filter = log_filter(filter).expect("a filter");
        tracing::subscriber::with_default(subscriber(pretty, false, filter, move || writer.clone()), run);
        buffer.text()
    }

    /// What `run` logs, in JSON.
    pub fn captured(filter: &str, run: impl FnOnce()) -> String {
        logged(false, filter, run)
    }

    /// Everything that could begin a line, move a cursor or hide text, in every place user input may stand.
    const HOSTILE: &str = "a\nb\r\nc\td\u{1b}[2Je\u{9b}1mf\0g\u{7f}h\u{2028}i\u{2029}j\u{202e}k\u{85}l\"m\\n";

    fn log_hostile() {
        let span =
            tracing::info_span!("request", debug = ?HOSTILE, display = %HOSTILE, string = HOSTILE, late = tracing::field::Empty);
        span.record("late", HOSTILE);
        let error = io::Error::other(HOSTILE);
        span.in_scope(|| tracing::warn!(%error, cause = &error as &dyn std::error::Error, string = HOSTILE, "{HOSTILE}"));
    }

    #[test]
    fn hostile_text_breaks_no_line() {
        for pretty in [true, false] {
            let text = logged(pretty, "info", log_hostile);
            let line = text.strip_suffix('\n').expect("ended");
            let raw: Vec<_> = line.chars().filter(|c| c.is_control()).collect();
            assert_eq!(raw, [] as [char; 0], "{line}");
            assert!(!line.contains(['\u{2028}', '\u{2029}', '\u{202e}']), "{line}");
            if !pretty {
                let line: serde_json::Value = serde_json::from_str(line).expect("one object");
                assert_eq!((&line["message"], &line["span"]["late"]), (&HOSTILE.into(), &HOSTILE.into()), "told as it was");
            }
        }
    }

    #[test]
    fn json_lines_are_flat_and_in_utc() {
        let text = logged(false, "info", || {
            tracing::info_span!("request", request_id = "r1").in_scope(|| tracing::info!(answer = 42, "hello"));
        });
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).expect("one object");
        assert_eq!((&line["level"], &line["message"], &line["answer"]), (&"INFO".into(), &"hello".into(), &42.into()));
        assert_eq!(line["span"]["request_id"], "r1");
        let at = line["timestamp"].as_str().expect("a text");
        assert!(at.ends_with('Z'), "{at}");
        time::OffsetDateTime::parse(at, &time::format_description::well_known::Rfc3339).expect("RFC 3339");
    }

    /// tower-sessions lays one around every page.
    #[test]
    fn no_librarys_span_hides_the_request() {
        let text = logged(false, "trace", || {
            let request = tracing::info_span!("request", request_id = "r1").entered();
            tracing::info_span!("call", secret = "s").in_scope(|| tracing::info!("hello"));
            drop(request);
        });
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).expect("one object");
        assert_eq!(line["span"], serde_json::json!({ "name": "request", "request_id": "r1" }));
    }

    #[test]
    fn the_filter_decides() {
        let text = logged(true, "warn,server=debug", || {
            tracing::debug!("ours");
            tracing::info!(target: "sqlx", "theirs");
            tracing::warn!(target: "sqlx", "trouble");
            tracing::debug!(target: queries::TARGET, "heard of and not written");
            tracing::error!(target: "metrics_exporter_dogstatsd::forwarder::sync", "nobody listens");
        });
        assert!(text.contains("ours") && !text.contains("theirs") && text.contains("trouble"), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
        let asked = logged(true, "metrics_exporter_dogstatsd=error", || {
            tracing::error!(target: "metrics_exporter_dogstatsd::forwarder::sync", "nobody listens");
        });
        assert!(asked.contains("nobody listens"), "{asked}");
    }
}
