//! A table that is gone, and one that somebody holds.

use std::{net::SocketAddr, process::Stdio};

use sqlx::{PgPool, Postgres, Transaction};
use testkit::Browser;
use tokio::task::JoinSet;

use super::{SLOWED, Scene, sign_in, until};
use crate::processes::{count, try_get_at};

pub(super) const FIRES: [&str; 3] = ["ServerErrors", "Slow", "DatabaseConnections"];

/// Nobody reads the table of the slow page until this is over.
async fn hold(owner: &PgPool) -> Transaction<'static, Postgres> {
    let mut transaction = owner.begin().await.expect("begun");
    sqlx::query("lock table trusted_devices in access exclusive mode").execute(&mut *transaction).await.expect("locked");
    transaction
}

/// Twenty people wait for the page: a second and a half, which is more than a page may take and less than it waits.
async fn wait_for_a_lock(owner: &PgPool, browsers: &[Browser]) {
    let held = hold(owner).await;
    let mut asked = JoinSet::new();
    for n in 0..20 {
        let mut browser = browsers[n % browsers.len()].clone();
        asked.spawn(async move { browser.get(SLOWED).await });
    }
    let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
                   and clock_timestamp() - query_start > interval '1.5 seconds'";
    assert!(until(async || count(owner, waiting).await > 0).await);
    held.commit().await.expect("released");
    asked.join_all().await;
}

/// As many as ask for it keep connections busy.
fn keep_asking(lanes: &mut JoinSet<()>, browser: &Browser, count: usize) {
    for _ in 0..count {
        let mut browser = browser.clone();
        lanes.spawn(async move {
            loop {
                browser.get(SLOWED).await;
            }
        });
    }
}

/// As the instance says itself.
async fn used(ops: SocketAddr) -> usize {
    let shown = try_get_at(ops, "/metrics").await.expect("it answers");
    let used = shown.lines().find_map(|line| line.strip_prefix("database_connections{state=\"used\"} "));
    used.map_or(0, |used| used.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn that_pages_fail_or_wait_is_told() {
    let mut scene = Scene::new().await;
    let mut browser = sign_in(&scene.servers[0], &scene.sink, "mara@example.org", true).await;
    let browsers = [browser.clone(), browser.at(scene.servers[1].address)];
    for mut browser in browsers.clone() {
        assert_eq!(browser.get(SLOWED).await.status, 200);
    }
    scene.quiet_but(&[]).await;

    scene.run("alter table trusted_devices rename to gone").await;
    for failed in 1..=10 {
        assert!(browser.get(SLOWED).await.status.is_server_error());
        // A status begins to be counted with its first answer: what came before Prometheus saw that is no increase.
        if [1, 3].contains(&failed) {
            let seen = format!("sum(http_requests_total{{route=\"{SLOWED}\", status=~\"5..\"}}) == {failed}");
            scene.prometheus.sees(&seen).await;
            scene.quiet_but(&[]).await;
        }
    }
    scene.told.of(&FIRES[..1]).await;
    scene.run("alter table gone rename to trusted_devices").await;

    let waits = async {
        loop {
            wait_for_a_lock(&scene.owner, &browsers).await;
        }
    };
    tokio::select! {
        () = scene.told.of(&FIRES[..2]) => {}
        () = waits => {}
    }

    // Eleven of sixteen connections, or a few more: a server is busy.
    let (third, ops) = scene.another(Stdio::null()).await;
    let _held = hold(&scene.owner).await;
    let (browser, mut lanes) = (browser.at(third.address), JoinSet::new());
    keep_asking(&mut lanes, &browser, 11);
    assert!(until(async || used(ops).await >= 11).await);
    scene.prometheus.scrape(ops);
    scene.prometheus.sees(&format!("database_connections{{instance=\"{ops}\", state=\"used\"}} >= 11")).await;
    scene.quiet_but(&FIRES[..2]).await;
    keep_asking(&mut lanes, &browser, 14);
    scene.told.of(&FIRES).await;
}
