//! A mail server puts mails off, refuses them, and is gone.

use testkit::{Act, Browser, Fault, Stage};

use super::{ORIGIN, Scene, people_sign_in, until};
use crate::processes::count;

pub(super) const FIRES: [&str; 3] = ["MailSlow", "MailFailing", "MailStuck"];

impl Scene {
    async fn ask_for_mails(&self, what: &str, count: usize) -> Vec<String> {
        let emails: Vec<String> = (0..count).map(|n| format!("{what}{n}@example.org")).collect();
        for (n, email) in emails.iter().enumerate() {
            let mut browser = Browser::new(self.servers[n % 2].address, ORIGIN);
            assert_eq!(browser.post("/login", &[("email", email)]).await.location(), "/login/sent");
        }
        emails
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn that_mail_is_late_refused_or_stuck_is_told() {
    let mut scene = Scene::new().await;
    // One of twenty-one is refused for good: that person mistyped.
    people_sign_in(&scene, 20).await;
    scene.sink.play(Fault::new(Stage::Rcpt, Act::Answer(550)).times(1));
    scene.ask_for_mails("mistyped", 1).await;
    scene.prometheus.sees("sum(mail_deliveries_total{result=\"failed\"}) == 1").await;
    scene.quiet_but(&[]).await;

    // Those to whom the mail server says "not now" get their mail 90 seconds later.
    scene.sink.play(Fault::new(Stage::Rcpt, Act::Answer(451)));
    let late = scene.ask_for_mails("late", 8).await;
    let put_off = "select count(*) from mail_outbox where state = 'queued' and last_error is not null";
    assert!(until(async || count(&scene.owner, put_off).await == 8).await);
    scene.run("update mail_outbox set created_at = created_at - interval '90 seconds' where state = 'queued'").await;
    scene.sink.heal();
    for email in late {
        scene.sink.nth_to(&email, 1).await;
    }
    scene.told.of(&FIRES[..1]).await;

    scene.sink.play(Fault::new(Stage::Rcpt, Act::Answer(550)));
    scene.ask_for_mails("refused", 10).await;
    scene.told.of(&FIRES[..2]).await;
    scene.sink.heal();

    // No server takes any, over a connection that was kept open neither.
    scene.sink.play(Fault::new(Stage::Mail, Act::HangUp));
    scene.ask_for_mails("stuck", 2).await;
    assert!(until(async || count(&scene.owner, "select count(*) from mail_outbox where server_failed").await == 2).await);
    scene.prometheus.sees("max(mail_outbox_oldest_seconds) > 0").await;
    scene.quiet_but(&FIRES[..2]).await;
    scene.run("update mail_outbox set created_at = created_at - interval '2 minutes' where state = 'queued'").await;
    scene.told.of(&FIRES).await;
}
