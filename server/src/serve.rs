//! `latchkey serve`: from a configuration to a running service, and a stop that drops no request.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use app::AppState;
use auth::{Auth, primitives::clock::SystemClock};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

#[cfg(feature = "development")]
use crate::http::dev_inbox;
use crate::{
    cli::missing_keys,
    config::Config,
    database::{Database, pooler},
    http::{health::Health, listener},
    jobs::{self, until},
    mail::mailer::MailService,
    router::{self, Parts},
    telemetry::metrics::Metrics,
};

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
        // Secrets are encrypted with a key that is no longer configured: better found now than at their owners' next sign-in.
        Ok(keys) => {
            missing_keys(&keys).map_or(Ok(()), |missing| Err(anyhow::Error::msg(missing)))?;
        }
        Err(error) => tracing::warn!(error = %error, "whether a key is missing can't be told yet"),
    }
    metrics.begin(&auth);
    let site = config.site.clone();
    let mailer = Arc::new(MailService::new(&config.mail, config.mail_from.clone(), site.clone(), config.policy.link_ttl)?);
    #[cfg(feature = "development")]
    let inbox = mailer.inbox().map(|inbox| dev_inbox::routes(inbox.clone(), auth.clone()));
    #[cfg(not(feature = "development"))]
    let inbox = None;
    let health = Health::new(auth.clone());

    let pages = bind("LISTEN_ADDR", config.listen_addr).await?;
    let ops = match config.ops_listen_addr {
        Some(address) => Some(bind("OPS_LISTEN_ADDR", address).await?),
        None => None,
    };

    let (stop, stopped) = watch::channel(false);
    let mut workers = JoinSet::new();
    workers.spawn(auth::delivery::run(auth.clone(), mailer, until(stopped.clone())));
    // Before the first request, which would have to wait for it.
    if let Err(error) = auth.flag().read().await {
        tracing::warn!(error = %error, "the flags can't be read yet; sign-in pages answer 503 until they are");
    }
    workers.spawn({
        let (auth, stopped) = (auth.clone(), stopped.clone());
        async move { auth.flag().watch(until(stopped)).await }
    });
    let on = jobs::Context { auth: auth.clone(), clock, pool: pool.clone(), metrics: metrics.clone() };
    jobs::spawn(&mut workers, &Arc::new(on), &stopped);

    let state = AppState::new(auth.clone(), site.clone());
    let ops_app = router::ops_router(config, health.clone(), metrics.clone());
    let has_inbox = inbox.is_some();
    let app = router::router(config, Parts { state, auth: auth.clone(), health: health.clone(), metrics, inbox });
    tracing::info!(address = %pages.local_addr()?, base_url = %site.base_url, "listening");
    if has_inbox {
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
        if let Err(error) = auth.audit().seal_at_end().await {
            tracing::warn!(%error, "audit.seal_failed");
        }
        pool.close().await;
    };
    // A worker may wait for an answer of the database that never comes. Behind a pooler of the wrong kind no answer is worth waiting for.
    let patience = if told.is_ok() { WORKERS_FINISH } else { Duration::ZERO };
    if tokio::time::timeout(patience, finished).await.is_err() {
        tracing::warn!("cut off work that did not finish in time");
    }
    told?;
    tracing::info!("stopped");
    Ok(())
}

async fn bind(variable: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{variable} {address} can't be used"))
}

/// For a person at a terminal: where to look.
fn announce(site: &app::http::state::Site) {
    println!("\n  Sign in:  {}\n  Mail:     {}\n", site.link(app::routes::LOGIN), site.link(app::routes::DEV_INBOX));
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
