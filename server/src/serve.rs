//! `latchkey serve`: from a configuration to a running service, and down again without dropping anybody.

use std::{
    future::{Future, ready},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use app::AppState;
use auth::{Auth, primitives::clock::SystemClock, reporting::gauges};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use crate::{
    commands::missing_keys,
    config::{self, Config},
    database::Database,
    dev_inbox::DevInbox,
    health::Health,
    listener,
    mailer::MailRoom,
    metrics::{self, Metrics},
    pooler,
    router::{self, Parts},
};

/// How often the clock is set by the database's. Crystals drift by less than 10 ms in that time.
const CLOCK_SYNC: Duration = Duration::from_mins(1);
/// How often it is asked whether housekeeping is due; it runs once an hour.
const HOUSEKEEPING: Duration = Duration::from_mins(5);
/// How often it is asked whether rows are to be looked through for contradictions, which is done once an hour.
const RECONCILIATION: Duration = Duration::from_mins(5);
/// How long a network that asks for too many mails goes unnoticed.
const NETWORKS: Duration = Duration::from_secs(30);
/// How often it is asked whether a look at the rollout is due.
const ROLLOUT: Duration = Duration::from_secs(10);
/// How often it is told how the audit's seal stands, and asked whether rows are to be sealed, which is done once a minute.
const AUDIT_SEAL: Duration = Duration::from_secs(15);
/// How often it is asked whether the audit is to be verified, which is done once a day.
const AUDIT_VERIFICATION: Duration = Duration::from_mins(5);
/// Between "not ready" and closing the door: time for a load balancer to look.
const DRAIN: Duration = Duration::from_secs(1);
/// For what workers have begun, once the last request is answered. The longest is a mail, which has 30 seconds; and a supervisor has 45
/// seconds' patience.
const WORKERS_FINISH: Duration = Duration::from_secs(32);

/// Runs until SIGTERM or Ctrl-C. The database is the caller's to close, after the last answer has left.
pub async fn serve(config: &Config, database: &Database) -> anyhow::Result<()> {
    for warning in &config.warnings {
        tracing::warn!(warning, "config.warning");
    }
    let pool = database.pool();
    let session_pooled = pooler::refuse(&pool).await?;
    if config.migrate_on_start {
        database.migrate().await?;
    }
    let metrics = Metrics::install(config.dogstatsd_addr.as_deref())?;
    let clock = Arc::new(SystemClock::new());
    if let Err(error) = clock.sync(&pool).await {
        tracing::warn!(error = %error, "the database does not answer yet; not ready until it does");
    }
    let auth = Arc::new(Auth::new(pool.clone(), clock.clone(), config.keys()?, config.policy.clone()));
    match auth.factors().key_status().await {
        // A key was dropped that secrets still lie under. Their owners would find out at their next sign-in; better now.
        Ok(keys) => {
            let missing: Vec<&str> = keys.iter().filter(|key| !key.known).map(|key| key.id.as_str()).collect();
            anyhow::ensure!(missing.is_empty(), "{}", missing_keys(&missing));
        }
        Err(error) => tracing::warn!(error = %error, "whether a key is missing can't be told yet"),
    }
    metrics.begin(&auth);
    let site = config.site.clone();
    let dev_inbox = matches!(config.mail, config::Mail::DevInbox).then(Arc::<DevInbox>::default);
    let mailer =
        Arc::new(MailRoom::new(&config.mail, dev_inbox.clone(), config.mail_from.clone(), site.clone(), config.policy.link_ttl)?);
    let health = Health::new(auth.clone());

    let pages =
        TcpListener::bind(config.listen_addr).await.with_context(|| format!("LISTEN_ADDR {} can't be used", config.listen_addr))?;
    let ops = match config.ops_listen_addr {
        Some(address) => {
            Some(TcpListener::bind(address).await.with_context(|| format!("OPS_LISTEN_ADDR {address} can't be used"))?)
        }
        None => None,
    };

    let (stop, stopped) = watch::channel(false);
    let mut workers = JoinSet::new();
    workers.spawn(auth::delivery::run(auth.clone(), mailer, until(stopped.clone())));
    // Once before anybody is served, or whoever comes first would find signing in off.
    if let Err(error) = auth.flag().read().await {
        tracing::warn!(error = %error, "the flags can't be read yet; signing in is off until they are");
    }
    workers.spawn({
        let (auth, stopped) = (auth.clone(), stopped.clone());
        async move { auth.flag().watch(until(stopped)).await }
    });
    spawn_chores(&mut workers, &auth, &clock, &pool, &stopped);
    spawn_watchers(&mut workers, &auth, &metrics, &stopped);

    let state = AppState::new(auth.clone(), site.clone());
    let ops_app = router::ops_router(config, health.clone(), metrics.clone());
    let app = router::router(config, Parts { state, auth, health: health.clone(), metrics, dev_inbox: dev_inbox.clone() });
    tracing::info!(address = %pages.local_addr()?, base_url = %site.base_url, "listening");
    if dev_inbox.is_some() {
        announce(&site);
    }

    let serving = async {
        let ops = async {
            match ops {
                Some(ops) => listener::serve(ops, ops_app, until(stopped.clone())).await,
                None => Ok(()),
            }
        };
        tokio::try_join!(listener::serve(pages, app, until(stopped.clone())), ops)
    };
    let stopping = async {
        let told = tokio::select! {
            told = stop_signal() => told,
            // It was not known yet at the start.
            found = pooler::watch(&pool), if !session_pooled => found.map(|_| ()),
        };
        health.drain();
        if let Err(error) = &told {
            tracing::error!(error = %error, "stopping at once");
        } else {
            tracing::info!("stopping: not ready any more");
            tokio::time::sleep(DRAIN).await;
        }
        stop.send_replace(true);
        told
    };
    let (served, told) = tokio::join!(serving, stopping);
    served.context("a listener failed")?;
    let finished = async {
        while workers.join_next().await.is_some() {}
        pool.close().await;
    };
    // A worker may wait for an answer of the database that never comes. Behind a pooler of the wrong kind none is worth waiting for.
    let patience = if told.is_ok() { WORKERS_FINISH } else { Duration::ZERO };
    if tokio::time::timeout(patience, finished).await.is_err() {
        tracing::warn!("cut off work that did not finish in time");
    }
    told?;
    tracing::info!("stopped");
    Ok(())
}

/// What is done now and then.
fn spawn_chores(
    workers: &mut JoinSet<()>,
    auth: &Arc<Auth>,
    clock: &Arc<SystemClock>,
    pool: &sqlx::PgPool,
    stopped: &watch::Receiver<bool>,
) {
    workers.spawn(every("clock", CLOCK_SYNC, auth, stopped, {
        let (clock, pool) = (clock.clone(), pool.clone());
        move || {
            let (clock, pool) = (clock.clone(), pool.clone());
            async move {
                match clock.sync(&pool).await {
                    Ok(off) if off.unsigned_abs() > Duration::from_secs(1) => {
                        tracing::warn!(off_s = off.as_seconds_f64(), "clock.corrected");
                    }
                    Ok(_) => {}
                    Err(error) => tracing::warn!(error = %error, "clock.sync_failed"),
                }
            }
        }
    }));
    workers.spawn(every("housekeeping", HOUSEKEEPING, auth, stopped, {
        let auth = auth.clone();
        move || {
            let auth = auth.clone();
            async move {
                if let Err(error) = auth.operations().housekeep().await {
                    tracing::warn!(error = %error, "housekeeping.failed");
                }
            }
        }
    }));
    workers.spawn(every("reconcile", RECONCILIATION, auth, stopped, {
        let auth = auth.clone();
        move || {
            let auth = auth.clone();
            async move {
                if let Err(error) = auth.operations().reconcile_hourly().await {
                    tracing::warn!(error = %error, "reconcile.failed");
                }
            }
        }
    }));
    spawn_audit_chores(workers, auth, stopped);

    workers.spawn(every("networks", NETWORKS, auth, stopped, {
        let auth = auth.clone();
        move || {
            let auth = auth.clone();
            async move {
                if let Err(error) = auth.limits().watch_request_bursts().await {
                    tracing::warn!(error = %error, "networks.watch_failed");
                }
            }
        }
    }));
    workers.spawn(every("rollout", ROLLOUT, auth, stopped, {
        let auth = auth.clone();
        move || {
            let auth = auth.clone();
            async move {
                if let Err(error) = auth.rollout().watch().await {
                    tracing::warn!(error = %error, "rollout.watch_failed");
                }
            }
        }
    }));
}

/// What keeps the numbers fresh that nothing counts by itself.
fn spawn_watchers(workers: &mut JoinSet<()>, auth: &Arc<Auth>, metrics: &Metrics, stopped: &watch::Receiver<bool>) {
    workers.spawn(every("gauges", gauges::EVERY, auth, stopped, {
        let auth = auth.clone();
        move || {
            let auth = auth.clone();
            async move {
                if let Err(error) = auth.reporting().publish_gauges().await {
                    tracing::warn!(error = %error, "gauges.failed");
                }
            }
        }
    }));
    workers.spawn(every("metrics", metrics::UPKEEP, auth, stopped, {
        let metrics = metrics.clone();
        move || {
            metrics.upkeep();
            ready(())
        }
    }));
}

fn spawn_audit_chores(workers: &mut JoinSet<()>, auth: &Arc<Auth>, stopped: &watch::Receiver<bool>) {
    workers.spawn(every("audit_seal", AUDIT_SEAL, auth, stopped, {
        let auth = auth.clone();
        move || {
            let auth = auth.clone();
            async move {
                if let Err(error) = Box::pin(auth.audit().watch()).await {
                    tracing::warn!(error = %error, "audit.seal_failed");
                }
            }
        }
    }));
    workers.spawn(every("audit_verification", AUDIT_VERIFICATION, auth, stopped, {
        let auth = auth.clone();
        move || {
            let auth = auth.clone();
            async move {
                if let Err(error) = Box::pin(auth.audit().verify_daily()).await {
                    tracing::warn!(error = %error, "audit.verify_failed");
                }
            }
        }
    }));
}

/// For a person at a terminal: where to look.
fn announce(site: &app::http::state::Site) {
    println!("\n  Sign in:  {}\n  Mail:     {}\n", site.link(app::routes::LOGIN), site.link(app::routes::DEV_INBOX));
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, and with it the process.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Runs `task` now and then every `period`, until told to stop. `name` says of its heartbeat whose it is.
fn every<F: Future<Output = ()>, T: FnMut() -> F>(
    name: &'static str,
    period: Duration,
    auth: &Arc<Auth>,
    stopped: &watch::Receiver<bool>,
    mut task: T,
) -> impl Future<Output = ()> + use<F, T> {
    let (auth, stop) = (auth.clone(), until(stopped.clone()));
    async move {
        let mut interval = tokio::time::interval(period);
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                _ = interval.tick() => task().await,
            }
            gauges::heartbeat(name, auth.now());
        }
    }
}

/// SIGTERM or Ctrl-C. A second one ends the process at once.
async fn stop_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("told twice to stop: stopping at once");
        std::process::exit(1);
    });
    Ok(())
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
            workers.spawn(every(name, Duration::from_millis(1), &auth, &stopped, move || {
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
