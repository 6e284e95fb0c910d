//! What is done again and again while Latchkey serves: a table, one row a job.
//!
//! Not here: what a job does (`auth` decides), and the mail worker and the watch on flags, which wait for a signal.
//! To add one: a row in [`JOBS`], its name under "Workers" in `docs/metrics.md`, its failure's in `docs/logs.md`.

use std::{pin::pin, sync::Arc, time::Duration};

use auth::{Auth, Error, primitives::clock::SystemClock, reporting::gauges};
use futures::future::BoxFuture;
use sqlx::PgPool;
use tokio::{sync::watch, task::JoinSet, time::interval};

use crate::telemetry::metrics::{self, Metrics};

/// What jobs work on.
pub struct Context {
    pub auth: Arc<Auth>,
    pub clock: Arc<SystemClock>,
    pub pool: PgPool,
    pub metrics: Metrics,
}

/// The label of its heartbeat, how often it is done, the log line of a failure, and what is done.
struct Job(&'static str, Duration, &'static str, fn(&Context) -> BoxFuture<'_, Result<(), Error>>);

const JOBS: [Job; 10] = [
    // Crystals drift by less than 10 ms in that time.
    Job("clock", Duration::from_mins(1), "clock.sync_failed", |on| Box::pin(set_clock(on))),
    // These ask whether they are due: housekeeping and reconciliation are once an hour, verification once a day, on one instance.
    Job("housekeeping", Duration::from_mins(5), "housekeeping.failed", |on| Box::pin(on.auth.operations().housekeep())),
    Job("reconcile", Duration::from_mins(5), "reconcile.failed", |on| Box::pin(on.auth.operations().reconcile_hourly())),
    Job("audit_verification", Duration::from_mins(5), "audit.verify_failed", |on| Box::pin(on.auth.audit().verify_daily())),
    Job("two_factor_resets", Duration::from_mins(1), "two_factor_resets.failed", |on| {
        Box::pin(on.auth.administration().carry_out_resets())
    }),
    // Seals once a minute, and says each time how the seal stands.
    Job("audit_seal", Duration::from_secs(15), "audit.seal_failed", |on| Box::pin(on.auth.audit().watch())),
    // As long as a network that asks for too many mails goes unnoticed.
    Job("networks", Duration::from_secs(30), "networks.watch_failed", |on| Box::pin(on.auth.limits().watch_request_bursts())),
    Job("rollout", Duration::from_secs(10), "rollout.watch_failed", |on| Box::pin(on.auth.rollout().watch())),
    Job("gauges", gauges::EVERY, "gauges.failed", |on| Box::pin(on.auth.reporting().publish_gauges())),
    Job("metrics", metrics::UPKEEP, NEVER, |on| {
        Box::pin(async move {
            on.metrics.upkeep();
            Ok(())
        })
    }),
];

/// For a job that can't fail.
const NEVER: &str = "";

async fn set_clock(on: &Context) -> Result<(), Error> {
    let off = on.clock.sync(&on.pool).await?;
    if off.unsigned_abs() > Duration::from_secs(1) {
        tracing::warn!(off_s = off.as_seconds_f64(), "clock.corrected");
    }
    Ok(())
}

/// Starts all of them; they end with `stopped`.
pub fn spawn(workers: &mut JoinSet<()>, on: &Arc<Context>, stopped: &watch::Receiver<bool>) {
    for &Job(name, period, failed, what) in &JOBS {
        let on = on.clone();
        workers.spawn(every(name, period, on.auth.clone(), stopped.clone(), move || {
            let on = on.clone();
            async move {
                if let Err(error) = what(&on).await {
                    tracing::warn!(%error, message = failed);
                }
            }
        }));
    }
}

pub async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it the process.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Takes a turn now and then every `period`. A turn that hangs or panics is the last: the heartbeat stands still, and an alert fires.
async fn every<F: Future<Output = ()>>(
    name: &'static str,
    period: Duration,
    auth: Arc<Auth>,
    stopped: watch::Receiver<bool>,
    mut turn: impl FnMut() -> F,
) {
    let (mut interval, mut stop) = (interval(period), pin!(until(stopped)));
    loop {
        tokio::select! {
            () = &mut stop => return,
            _ = interval.tick() => turn().await,
        }
        gauges::heartbeat(name, auth.now());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::*;

    /// What the alert on dead workers goes by.
    #[tokio::test]
    async fn a_loop_that_hangs_or_panics_is_seen_to_stand_still() {
        let kit = testkit::Kit::new().await;
        let (recorder, _) = Metrics::recorder();
        let shown = recorder.handle();
        let _guard = ::metrics::set_default_local_recorder(&recorder);
        let beat = |worker: &str| {
            let series = format!("worker_heartbeat_timestamp_seconds{{worker=\"{worker}\"}} ");
            shown.render().lines().find_map(|line| line.strip_prefix(&series).map(ToOwned::to_owned))
        };
        let (stop, stopped) = watch::channel(false);
        let mut workers = JoinSet::new();
        let turns = Arc::<[AtomicU32; 3]>::default();
        let auth = kit.auth.clone();
        for (n, name) in ["works", "hangs", "panics"].into_iter().enumerate() {
            let turns = turns.clone();
            workers.spawn(every(name, Duration::from_millis(1), auth.clone(), stopped.clone(), move || {
                let turn = turns[n].fetch_add(1, Ordering::Relaxed);
                async move {
                    match name {
                        "hangs" if turn > 0 => pending().await,
                        "panics" if turn > 0 => panic!("as a test"),
                        _ => {}
                    }
                }
            }));
        }
        let turned = async |n: usize, times: u32| {
            while turns[n].load(Ordering::Relaxed) < times {
                tokio::task::yield_now().await;
            }
        };
        for n in 0..3 {
            turned(n, 2).await;
        }
        let before = ["works", "hangs", "panics"].map(&beat);
        assert!(before.iter().all(Option::is_some), "{before:?}");
        kit.clock.advance(time::Duration::minutes(16));
        let now = turns[0].load(Ordering::Relaxed);
        turned(0, now + 2).await;
        assert_ne!(beat("works"), before[0]);
        assert_eq!([beat("hangs"), beat("panics")], before[1..]);
        stop.send_replace(true);
        workers.abort_all();
    }
}
