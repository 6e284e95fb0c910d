//! The same numbers for `StatsD`, in the form that Datadog's agent reads: under dotted names, sent every few seconds by a thread of its
//! own, over a socket that loses rather than waits.

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_dogstatsd::{BuildError, DogStatsDBuilder, DogStatsDRecorder};

/// What is one place in a dotted name although it is two words.
const PLACES: [&str; 5] = ["auth_magiclink", "auth_totp", "auth_backup_code", "auth_sessions", "mail_outbox"];

pub fn recorder(address: &str) -> Result<Dotted<DogStatsDRecorder>, BuildError> {
    let recorder = DogStatsDBuilder::default()
        .with_remote_address(address)?
        // What it would say of itself goes through the recorder it is part of, and would be Prometheus's too.
        .with_telemetry(false)
        // Without, every observation waits in memory for an agent that may be away.
        .with_histogram_sampling(true)
        .build()?;
    Ok(Dotted(recorder))
}

/// Records under dotted names.
pub struct Dotted<R>(R);

impl<R> Dotted<R> {
    fn renamed(key: &Key) -> Key {
        Key::from_parts(dotted(key.name()), key.labels())
    }
}

/// `auth_magiclink_requests_total` → `auth.magiclink.requests_total`: what is measured, and its place before it.
fn dotted(name: &str) -> String {
    let place = PLACES.into_iter().find(|place| name.strip_prefix(place).is_some_and(|rest| rest.starts_with('_')));
    match place {
        Some(place) => format!("{}.{}", place.replacen('_', ".", 1), &name[place.len() + 1..]),
        None => name.replacen('_', ".", 1),
    }
}

impl<R: Recorder> Recorder for Dotted<R> {
    // `StatsD` has no place for descriptions.
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.0.register_counter(&Self::renamed(key), metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.0.register_gauge(&Self::renamed(key), metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.0.register_histogram(&Self::renamed(key), metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documented names are the interface.
    #[test]
    fn names_are_those_of_the_documentation() {
        let table = include_str!("../../../docs/metrics.md");
        let rows: Vec<Vec<&str>> =
            table.lines().filter(|line| line.starts_with("| `")).map(|line| line.split('|').map(str::trim).collect()).collect();
        assert!(rows.len() > 20);
        for row in rows {
            assert_eq!(format!("`{}`", dotted(row[1].trim_matches('`'))), row[2]);
        }
    }
}
