//! How many queries a request asks, and how long they took: from the event that sqlx makes of each, whatever is logged.
//!
//! It is added up where the request runs and not on its span: there need not be one, and a span's own data would be behind a lock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, filter::Targets, layer::Context, registry::LookupSpan};

use super::traces::RequestSpan;

/// What sqlx tells of queries under.
pub const TARGET: &str = "sqlx::query";

tokio::task_local! {
    /// The request that runs.
    static ASKING: Arc<Queries>;
}

/// What a request has asked so far.
#[derive(Debug, Default)]
pub struct Queries {
    count: AtomicU32,
    nanoseconds: AtomicU64,
    /// If traces are sent.
    span: Option<RequestSpan>,
}

impl Queries {
    pub fn of(span: Option<RequestSpan>) -> Self {
        Self { span, ..Self::default() }
    }

    pub fn span(&self) -> Option<&RequestSpan> {
        self.span.as_ref()
    }

    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// All of them together, as long as we waited for each.
    pub fn took(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed))
    }

    /// Adds what is asked within.
    pub fn add_those_of<F: Future>(self: Arc<Self>, within: F) -> impl Future<Output = F::Output> {
        ASKING.scope(self, within)
    }

    fn add(&self, event: &Event<'_>) {
        let mut told = Told { seconds: 0.0, summary: self.span.as_ref().map(|_| String::new()) };
        event.record(&mut told);
        let took = Duration::try_from_secs_f64(told.seconds).unwrap_or_default();
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(0), Ordering::Relaxed);
        if let (Some(span), Some(summary)) = (&self.span, told.summary) {
            span.query(&summary, took);
        }
    }
}

struct Adding;

/// Hears of queries whatever the log's filter says, and of nothing else.
pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    Adding.with_filter(Targets::new().with_target(TARGET, Level::DEBUG))
}

impl<S: Subscriber> Layer<S> for Adding {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // Outside of a request there is nothing to add to.
        let _ = ASKING.try_with(|queries| queries.add(event));
    }
}

/// What sqlx tells of a query that is of use.
struct Told {
    seconds: f64,
    /// The statement's first words, if traces are sent.
    summary: Option<String>,
}

impl Visit for Told {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if field.name() == "elapsed_secs" {
            self.seconds = value;
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if let ("summary", Some(summary)) = (field.name(), &mut self.summary) {
            // `insert into sessions (id, …`: what follows says nothing more.
            value.split(" (").next().unwrap_or_default().trim_end_matches([' ', ',', '…']).clone_into(summary);
        }
    }

    /// Nothing is written out: that would cost more than all the rest.
    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}
