//! Metrics: what the code counts through the `metrics` facade, shown to Prometheus and sent to `StatsD`.
//!
//! No label holds a client's text: each has a few known values, or one per route. `docs/metrics.md` lists them; a test compares it with a
//! running server.
//!
//! To add one: count it where it happens, its words in [`DESCRIPTIONS`], its row in `docs/metrics.md`; a counter's zero in
//! [`Metrics::begin`] or `Auth::start_counters`.

use std::time::Duration;

use anyhow::Context as _;
use auth::Auth;
use axum::{
    response::IntoResponse,
    routing::{MethodRouter, get},
};
use http::header::CONTENT_TYPE;
use metrics::Unit;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_process::Collector;
use metrics_util::layers::FanoutBuilder;

use super::statsd;

/// Where Prometheus asks.
pub const PATH: &str = "/metrics";
/// How often what was observed is sorted into buckets. Until then each observation takes memory.
pub const UPKEEP: Duration = Duration::from_secs(5);

/// From a page out of memory to one whose time is almost up.
const REQUEST_SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// From a mail server next door to one that was away for an hour.
const MAIL_SECONDS: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}
use Kind::{Counter, Gauge, Histogram};

const DESCRIPTIONS: &[(&str, Kind, Unit, &str)] = &[
    ("auth_magiclink_requests_total", Counter, Unit::Count, "Sign-in mails asked for."),
    ("auth_magiclink_verifications_total", Counter, Unit::Count, "Links and codes that were tried."),
    ("auth_totp_verify_total", Counter, Unit::Count, "Codes of authenticator apps that were tried."),
    ("auth_backup_code_verify_total", Counter, Unit::Count, "Backup codes that were tried."),
    ("auth_sessions_created_total", Counter, Unit::Count, "Sessions that sign-ins made."),
    ("auth_sessions_revoked_total", Counter, Unit::Count, "Sessions that were ended."),
    ("auth_failed_attempts", Gauge, Unit::Count, "Failures of the worst one in the last hour."),
    ("auth_wrong_code_addresses", Gauge, Unit::Count, "Addresses for which a wrong code was entered in the last hour."),
    ("auth_magiclink_requests_max_per_ip", Gauge, Unit::Count, "Sign-in mails for the busiest network in the last hour."),
    ("mail_outbox_messages", Gauge, Unit::Count, "Mails in the outbox; failed and expired: of the last 24 hours."),
    ("mail_outbox_oldest_seconds", Gauge, Unit::Seconds, "Age of the oldest mail that is due and unsent."),
    ("mail_deliveries_total", Counter, Unit::Count, "Mails whose fate is sealed."),
    ("mail_delivery_seconds", Histogram, Unit::Seconds, "From queued to handed to a mail server."),
    ("http_requests_total", Counter, Unit::Count, "Requests answered."),
    ("http_request_duration_seconds", Histogram, Unit::Seconds, "From a request's headers to its answer's."),
    ("rate_limited_total", Counter, Unit::Count, "What limits refused."),
    ("rollout_percent", Gauge, Unit::Percent, "Percent of everyone whom the flag lets in."),
    ("rollout_state", Gauge, Unit::Count, "0 none, 1 running, 2 held, 3 paused, 4 finished, 5 aborted, 6 rolled back."),
    ("worker_heartbeat_timestamp_seconds", Gauge, Unit::Seconds, "When a background loop of this process last came round."),
    ("encryption_key_secrets", Gauge, Unit::Count, "Secrets by the key they lie under."),
    ("audit_seal_head", Gauge, Unit::Count, "Number of the last sealed batch of the audit; 0 before any. It never goes back."),
    ("audit_seal_timestamp_seconds", Gauge, Unit::Seconds, "When the last batch of the audit was sealed; 0 before any."),
    ("audit_unsealed_seconds", Gauge, Unit::Seconds, "Age of the oldest row of the audit that is not sealed yet."),
    ("audit_verify_ok", Gauge, Unit::Count, "0 where the last verification of the audit found something."),
    ("database_connections", Gauge, Unit::Count, "Connections of this process to the database."),
    ("latchkey_build_info", Gauge, Unit::Count, "Always 1; says which version runs."),
    ("log_lines_dropped_total", Counter, Unit::Count, "Log lines dropped because the sink was too slow."),
];

/// What was counted, to be shown.
#[derive(Clone)]
pub struct Metrics {
    prometheus: PrometheusHandle,
    process: Collector,
}

impl Metrics {
    /// Counts for the whole process from here on; `statsd`: the address of a `StatsD` server to send to.
    pub fn install(statsd: Option<&str>) -> anyhow::Result<Self> {
        let (prometheus, metrics) = Self::recorder();
        // A monitoring system that can't be found must not keep people from signing in.
        let statsd = statsd.and_then(|address| {
            let recorder = statsd::recorder(address);
            recorder.inspect_err(|error| tracing::warn!(%error, "DOGSTATSD_ADDR can't be used; nothing is sent there")).ok()
        });
        match statsd {
            Some(statsd) => {
                metrics::set_global_recorder(FanoutBuilder::default().add_recorder(prometheus).add_recorder(statsd).build())
                    .ok()
                    .context("metrics are counted already")?;
            }
            None => metrics::set_global_recorder(prometheus).ok().context("metrics are counted already")?,
        }
        Ok(metrics)
    }

    /// What counts, and what shows it: for a process, or for a test of its own.
    pub fn recorder() -> (PrometheusRecorder, Self) {
        let buckets = |builder: PrometheusBuilder, name: &str, bounds| {
            builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds).expect("there are buckets")
        };
        let builder = buckets(PrometheusBuilder::new(), "http_request_duration_seconds", REQUEST_SECONDS);
        let recorder = buckets(builder, "mail_delivery_seconds", MAIL_SECONDS).build_recorder();
        let metrics = Self { prometheus: recorder.handle(), process: Collector::default() };
        (recorder, metrics)
    }

    /// Says what each is, and puts at nothing what has not happened yet.
    pub fn begin(&self, auth: &Auth) {
        for (name, kind, unit, text) in DESCRIPTIONS {
            match kind {
                Counter => metrics::describe_counter!(*name, *unit, *text),
                Gauge => metrics::describe_gauge!(*name, *unit, *text),
                Histogram => metrics::describe_histogram!(*name, *unit, *text),
            }
        }
        self.process.describe();
        auth.reporting().start_counters();
        metrics::counter!("rate_limited_total", "limit" => "shield").increment(0);
        metrics::counter!("log_lines_dropped_total").increment(0);
        // Makes the series; an observation is none.
        let _ = metrics::histogram!("mail_delivery_seconds");
        metrics::gauge!("latchkey_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        self.upkeep();
    }

    /// What is done every [`UPKEEP`].
    pub fn upkeep(&self) {
        self.process.collect();
        self.prometheus.run_upkeep();
    }

    /// What is shown at [`PATH`].
    pub fn methods(self) -> MethodRouter {
        get(async move || ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], self.prometheus.render()).into_response())
    }
}
