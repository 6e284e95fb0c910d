//! A key that is changed in the wrong order, and an audit that somebody tampers with.

use std::process::Stdio;

use super::{Scene, enrol, until};
use crate::processes::{account::ran_with, count};

pub(super) const KEYS: [&str; 2] = ["KeyRotationUnfinished", "KeyMissing"];
pub(super) const AUDIT: [&str; 3] = ["AuditUnsealed", "AuditTampered", "AuditHeadWentBack"];

const OLD_KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
const NEW_KEY: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

#[tokio::test(flavor = "multi_thread")]
async fn that_a_key_is_half_changed_or_missing_is_told() {
    // The second server has the new key already, the first has never heard of it.
    let rotating = [("WALLET_ENCRYPTION_KEY", NEW_KEY), ("WALLET_ENCRYPTION_KEY_PREVIOUS", OLD_KEY)];
    let mut scene = Scene::with([&[], &rotating]).await;
    scene.prometheus.sees("count(encryption_key_secrets{state=\"previous\"}) == 2").await;
    scene.quiet_but(&[]).await;

    let pool = scene.database.pool_of(1).await;
    enrol(&scene.servers[0], &scene.sink, &pool).await;
    scene.told.of(&KEYS[..1]).await;

    let rotated = ran_with(&scene.database, &["key", "rotate"], &rotating);
    assert!(rotated.status.success(), "{}", String::from_utf8_lossy(&rotated.stderr));
    scene.told.of(&KEYS).await;
}

impl Scene {
    /// Until so many batches are sealed.
    async fn sealed(&mut self, batches: i64) {
        let sealed = until(async || {
            self.make_due("audit_seal").await;
            count(&self.owner, "select coalesce(max(number), 0) from auth_audit_seals").await >= batches
        });
        assert!(sealed.await);
        self.prometheus.sees(&format!("max(audit_seal_head) >= {batches}")).await;
    }

    /// The audit's tables refuse changes; to the superuser only until they are told not to.
    async fn tamper(&self, sql: &'static str) {
        let mut superuser = self.owner.begin().await.expect("begun");
        sqlx::query("set local session_replication_role = replica").execute(&mut *superuser).await.expect("set");
        assert!(sqlx::query(sql).execute(&mut *superuser).await.expect("changed").rows_affected() > 0, "{sql}");
        superuser.commit().await.expect("committed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn that_the_audit_is_open_or_changed_is_told() {
    let mut scene = Scene::new().await;
    scene.sealed(1).await;
    scene.quiet_but(&[]).await;

    // Rows are sealed once nobody is there who may still bring earlier ones; and here somebody does not come to an end.
    let row = "insert into auth_audit (id, created_at, event_type)
               values (gen_random_uuid(), now() - interval '16 minutes', 'session.created')";
    let mut endless = scene.owner.begin().await.expect("begun");
    sqlx::query(row).execute(&mut *endless).await.expect("inserted");
    scene.run(row).await;
    scene.told.of(&AUDIT[..1]).await;
    endless.commit().await.expect("committed");
    scene.sealed(2).await;
    scene.prometheus.sees("max(audit_unsealed_seconds) < 900").await;

    // It is verified once a day, and when a server starts on a day on which it was not yet.
    scene.tamper("update auth_audit set details = '{\"method\": \"link\"}' where event_type = 'session.created'").await;
    scene.quiet_but(&AUDIT[..1]).await;
    scene.run("update audit_verification set at = at - interval '1 day'").await;
    scene.make_due("audit_verify").await;
    let _third = scene.another(Stdio::null()).await;
    scene.told.of(&AUDIT[..2]).await;

    scene.quiet_but(&AUDIT[..2]).await;
    scene.tamper("delete from auth_audit_seals").await;
    scene.told.of(&AUDIT).await;
}
