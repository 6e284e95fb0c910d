//! A rollout that its checks hold, and then end.

use testkit::{Act, Browser, Fault, Stage};

use super::{ORIGIN, Scene, latchkey, until};
use crate::processes::count;

pub(super) const FIRES: [&str; 3] = ["RolloutHeld", "MailStuck", "RolloutTurnedOff"];

#[tokio::test(flavor = "multi_thread")]
async fn that_a_rollout_is_held_or_turned_off_is_told() {
    let mut scene = Scene::new().await;
    for args in [
        &["flag", "set", "passwordless_auth", "--off", "--reason", "a drill"][..],
        &["flag", "allow", "mara@example.org"],
        &["rollout", "start", "--reason", "as agreed"],
    ] {
        latchkey(&scene.database, args);
    }
    scene.prometheus.sees("max(rollout_state) == 1").await;
    scene.quiet_but(&[]).await;

    // The mail server is gone, and three mails wait.
    scene.sink.play(Fault::new(Stage::Mail, Act::HangUp));
    for n in 0..3 {
        let mut browser = Browser::new(scene.servers[n % 2].address, ORIGIN);
        assert_eq!(browser.post("/login", &[("email", "mara@example.org")]).await.location(), "/login/sent");
    }
    assert!(until(async || count(&scene.owner, "select count(*) from mail_outbox where server_failed").await == 3).await);
    scene.make_due("rollout").await;
    scene.told.of(&FIRES[..1]).await;

    // Ten minutes later they still do.
    scene.run("update mail_outbox set created_at = created_at - interval '10 minutes'").await;
    scene.run("update rollout_checks set over_since = over_since - interval '10 minutes' where name = 'mail_stuck'").await;
    scene.make_due("rollout").await;
    scene.told.of(&FIRES).await;
}
