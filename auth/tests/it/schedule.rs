//! The turns of periodic jobs, which stand in `scheduled_tasks`: the application's role can write there what it wants.

use testkit::Kit;
use time::{Duration, macros::format_description};

#[tokio::test]
async fn a_time_that_is_not_come_holds_up_no_job() {
    let kit = Kit::new().await;
    let turns = async || {
        kit.auth.audit().watch().await.expect("sealed");
        kit.auth.audit().verify_daily().await.expect("verified");
        kit.auth.rollout().watch().await.expect("looked");
        kit.auth.operations().housekeep().await.expect("tidied up");
        kit.auth.operations().reconcile_hourly().await.expect("reconciled");
    };
    turns().await;
    assert_eq!(kit.count("select count(*) from scheduled_tasks").await, 7, "each job that this test knows");
    let soon = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    for at in ["infinity", "-infinity", "20000-01-01Z", "2199-12-31Z", "soon"] {
        kit.clock.advance(Duration::days(1));
        // More than a period of any of them, and no more than needed.
        let written = if at == "soon" {
            (kit.auth.now() + Duration::hours(2)).format(soon).expect("a time can be written")
        } else {
            at.to_owned()
        };
        sqlx::query("update scheduled_tasks set last_slot = $1::timestamptz")
            .bind(written)
            .execute(&kit.pool)
            .await
            .expect("the application may");
        turns().await;
        let waiting: Vec<String> =
            sqlx::query_scalar("select name from scheduled_tasks where last_slot > $1 or last_slot < $1 - interval '1 hour'")
                .bind(kit.auth.now())
                .fetch_all(&kit.pool)
                .await
                .expect("read");
        assert!(waiting.is_empty(), "{at}: {waiting:?}");
    }
}
