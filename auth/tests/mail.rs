//! The outbox on a real database, with the clock moved.

use std::sync::Arc;

use auth::mail::{Content, Letter, Mailer, SendError};
use testkit::{Kit, Visitor, address};
use time::Duration;

async fn ask(kit: &Kit) {
    let visitor = Visitor::at([203, 0, 113, 24]);
    kit.auth.request_link(&address("mara@example.org"), &visitor.nonce, visitor.proof(), &visitor.from).await.expect("taken");
}

fn secrets(letter: &Letter) -> (String, String) {
    match &letter.content {
        Content::SignIn { token, code, .. } => (token.reveal(), code.reveal()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_temporary_refusal_is_tried_again_with_the_same_link_code_and_id() {
    struct Twice(std::sync::Mutex<Vec<Letter>>);
    impl Mailer for Twice {
        async fn send(&self, letter: Letter) -> Result<(), SendError> {
            let mut letters = self.0.lock().expect("not poisoned");
            letters.push(letter);
            if letters.len() == 1 { Err(SendError::Temporary("451 later".to_owned())) } else { Ok(()) }
        }
    }
    let kit = Kit::new().await;
    ask(&kit).await;
    let mailer = Twice(std::sync::Mutex::default());
    kit.auth.drain_mail(&mailer).await.expect("drained");
    assert_eq!(kit.auth.drain_mail(&mailer).await.expect("drained"), 0, "not before its time");
    kit.clock.advance(Duration::seconds(3));
    assert_eq!(kit.auth.drain_mail(&mailer).await.expect("drained"), 1);
    let letters = mailer.0.into_inner().expect("not poisoned");
    assert_eq!(letters[0].id, letters[1].id);
    assert_eq!(secrets(&letters[0]), secrets(&letters[1]));
    assert_eq!(kit.count("select count(*) from mail_outbox where state = 'sent' and attempts = 2").await, 1);
}

#[tokio::test]
async fn a_permanent_refusal_ends_it_and_blocks_nobody_else() {
    let kit = Kit::new().await;
    ask(&kit).await;
    kit.outbox.refuse([SendError::Permanent("550 no such user".to_owned())]);
    assert!(kit.letters().await.is_empty());
    assert_eq!(kit.count("select count(*) from mail_outbox where state = 'failed' and last_error = '550 no such user'").await, 1);
    ask(&kit).await;
    assert_eq!(kit.letters().await.len(), 1);
}

#[tokio::test]
async fn nothing_is_sent_after_its_link_has_died() {
    let kit = Kit::new().await;
    ask(&kit).await;
    kit.clock.advance(Duration::minutes(10));
    assert!(kit.letters().await.is_empty());
    assert_eq!(kit.count("select count(*) from mail_outbox where state = 'expired'").await, 1);

    let visitor = Visitor::at([203, 0, 113, 24]);
    for _ in 0..2 {
        kit.auth.request_link(&address("mara@example.org"), &visitor.nonce, visitor.proof(), &visitor.from).await.expect("taken");
        kit.clock.advance(Duration::seconds(30));
    }
    assert_eq!(kit.letters().await.len(), 1, "of two requests of one browser, the newer");
}

#[tokio::test]
async fn a_server_that_stays_away_is_tried_until_the_link_dies() {
    let kit = Kit::new().await;
    ask(&kit).await;
    kit.outbox.refuse((0..100).map(|_| SendError::Temporary("no connection".to_owned())));
    for _ in 0..700 {
        kit.letters().await;
        kit.clock.advance(Duration::seconds(1));
    }
    let tries = kit.count("select attempts::bigint from mail_outbox where state = 'expired'").await;
    assert!((5..=8).contains(&tries), "{tries}");
}

#[tokio::test]
async fn two_workers_send_each_mail_once() {
    let kit = Kit::new().await;
    let second = kit.second().await;
    for n in 0..40_u8 {
        let visitor = Visitor::at([10, 0, 0, n]);
        kit.auth
            .request_link(&address(&format!("a{n}@example.org")), &visitor.nonce, visitor.proof(), &visitor.from)
            .await
            .expect("taken");
    }
    let (one, two) = (testkit::Outbox::default(), testkit::Outbox::default());
    let (a, b) = tokio::join!(kit.auth.drain_mail(&one), second.drain_mail(&two));
    assert_eq!(a.expect("drained") + b.expect("drained"), 40);
    assert_eq!(kit.count("select count(*) from mail_outbox where state = 'sent' and attempts = 1").await, 40);
}

#[tokio::test]
async fn a_mail_whose_worker_died_is_taken_up_after_its_lease() {
    let kit = Kit::new().await;
    ask(&kit).await;
    sqlx::query("update mail_outbox set attempts = 1, lease_until = created_at + interval '15 seconds', leased_by = id")
        .execute(&kit.pool)
        .await
        .expect("claimed by the dead");
    kit.clock.advance(Duration::seconds(15));
    assert!(kit.letters().await.is_empty(), "its lease still runs");
    kit.clock.advance(Duration::seconds(1));
    assert_eq!(kit.letters().await.len(), 1);
}

#[tokio::test]
async fn the_running_worker_is_woken_by_a_request() {
    struct Channel(tokio::sync::mpsc::UnboundedSender<Letter>);
    impl Mailer for Channel {
        async fn send(&self, letter: Letter) -> Result<(), SendError> {
            self.0.send(letter).expect("the test listens");
            Ok(())
        }
    }
    let kit = Kit::new().await;
    let (sender, mut letters) = tokio::sync::mpsc::unbounded_channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let worker = tokio::spawn(kit.auth.clone().run_mail_worker(Arc::new(Channel(sender)), async { drop(stopped.await) }));
    ask(&kit).await;
    let letter =
        tokio::time::timeout(std::time::Duration::from_secs(10), letters.recv()).await.expect("in time").expect("a letter");
    assert_eq!(letter.to.as_str(), "mara@example.org");
    stop.send(()).expect("the worker runs");
    worker.await.expect("it stops when told");
    assert_eq!(kit.count("select count(*) from mail_outbox where state = 'sent'").await, 1, "what was under way was settled");
}
