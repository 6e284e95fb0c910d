//! The outbox on a real database, with the clock moved.

use std::sync::Arc;

use auth::{
    administration::TestMailError,
    delivery::{self, Content, MailSender, OutgoingMail, SendError},
    identity::{ActionError, Actor, Authority},
    outbox::{Delivery, MailFilter, MailRow, MailState, Notice},
    policy::{Policy, RequireTwoFactor, SignUp, limits::Limit},
    primitives::{cursor::Page, requester::Application},
    sign_in::{
        first_factor::{Outcome, RequestLinkError},
        for_applications::{LinkRequest, RequestError},
    },
};
use testkit::{Kit, Visitor, address, why};
use time::Duration;

async fn ask(kit: &Kit) {
    let visitor = Visitor::at([203, 0, 113, 24]);
    kit.auth
        .sign_in()
        .request_link(&address("mara@example.org"), &visitor.nonce, visitor.proof(), &visitor.from)
        .await
        .expect("taken");
}

fn secrets(letter: &OutgoingMail) -> (String, String) {
    match &letter.content {
        Content::SignIn { token, code, .. } => (token.reveal(), code.reveal()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_temporary_refusal_is_tried_again_with_the_same_link_code_and_id() {
    struct Twice(std::sync::Mutex<Vec<OutgoingMail>>);
    impl MailSender for Twice {
        async fn send(&self, letter: OutgoingMail) -> Result<(), SendError> {
            let mut letters = self.0.lock().expect("not poisoned");
            letters.push(letter);
            if letters.len() == 1 { Err(SendError::Temporary("451 later".to_owned())) } else { Ok(()) }
        }
    }
    let kit = Kit::new().await;
    ask(&kit).await;
    let mailer = Twice(std::sync::Mutex::default());
    kit.auth.delivery().drain(&mailer).await.expect("drained");
    assert_eq!(kit.auth.delivery().drain(&mailer).await.expect("drained"), 0, "not before its time");
    kit.clock.advance(Duration::seconds(3));
    assert_eq!(kit.auth.delivery().drain(&mailer).await.expect("drained"), 1);
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
        kit.auth
            .sign_in()
            .request_link(&address("mara@example.org"), &visitor.nonce, visitor.proof(), &visitor.from)
            .await
            .expect("taken");
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
    assert!((8..=11).contains(&tries), "{tries}");
}

#[tokio::test]
async fn two_workers_send_each_mail_once() {
    let kit = Kit::new().await;
    let second = kit.second().await;
    for n in 0..40_u8 {
        let visitor = Visitor::at([10, 0, 0, n]);
        kit.auth
            .sign_in()
            .request_link(&address(&format!("a{n}@example.org")), &visitor.nonce, visitor.proof(), &visitor.from)
            .await
            .expect("taken");
    }
    let (one, two) = (testkit::Outbox::default(), testkit::Outbox::default());
    let (a, b) = tokio::join!(kit.auth.delivery().drain(&one), second.delivery().drain(&two));
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
    struct Channel(tokio::sync::mpsc::UnboundedSender<OutgoingMail>);
    impl MailSender for Channel {
        async fn send(&self, letter: OutgoingMail) -> Result<(), SendError> {
            self.0.send(letter).expect("the test listens");
            Ok(())
        }
    }
    let kit = Kit::new().await;
    let (sender, mut letters) = tokio::sync::mpsc::unbounded_channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let worker = tokio::spawn(delivery::run(kit.auth.clone(), Arc::new(Channel(sender)), async { drop(stopped.await) }));
    ask(&kit).await;
    let letter =
        tokio::time::timeout(std::time::Duration::from_secs(10), letters.recv()).await.expect("in time").expect("a letter");
    assert_eq!(letter.to.as_str(), "mara@example.org");
    stop.send(()).expect("the worker runs");
    worker.await.expect("it stops when told");
    assert_eq!(kit.count("select count(*) from mail_outbox where state = 'sent'").await, 1, "what was under way was settled");
}

/// The mail server was away for an hour, while people went on asking. Then each gets the newest of what they asked for in one
/// browser, those who asked last first, and nothing whose link has died.
#[tokio::test]
async fn after_an_outage_the_newest_goes_first_and_nobody_gets_a_pile() {
    let kit = Kit::new().await;
    let away = || (0..100).map(|_| SendError::Temporary("no connection".to_owned()));
    let people: Vec<(Visitor, String)> = (1..=5).map(|n| (Visitor::at([10, 0, n, 1]), format!("a{n}@example.org"))).collect();
    for minute in 0..60 {
        kit.outbox.refuse(away());
        for (n, (visitor, email)) in people.iter().enumerate() {
            // The last of them asks last; each every ten minutes.
            if minute % 10 == 2 * n {
                kit.auth
                    .sign_in()
                    .request_link(&address(email), &visitor.nonce, visitor.proof(), &visitor.from)
                    .await
                    .unwrap_or_else(|error| panic!("minute {minute}: {error:?}"));
            }
        }
        assert!(kit.letters().await.is_empty());
        kit.clock.advance(Duration::minutes(1));
    }
    kit.outbox.heal();
    sqlx::query("update mail_outbox set run_at = created_at where state = 'queued'").execute(&kit.pool).await.expect("all are due");
    let letters = kit.letters_as_sent().await;
    let to: Vec<&str> = letters.iter().map(|letter| letter.to.as_str()).collect();
    assert_eq!(to, ["a5@example.org", "a4@example.org", "a3@example.org", "a2@example.org"], "the first one's died meanwhile");
    assert_eq!(kit.count("select count(*) from mail_outbox where state = 'sent'").await, 4);
    assert_eq!(kit.count("select count(*) from mail_outbox where state = 'queued'").await, 0);
}

/// Ends with the first mail it is handed.
struct First;

impl MailSender for First {
    async fn send(&self, letter: OutgoingMail) -> Result<(), SendError> {
        panic!("{} is sent first", letter.to.as_str())
    }
}

#[tokio::test]
async fn a_mail_asked_for_just_now_is_not_held_up_by_ten_thousand() {
    let kit = Kit::new().await;
    ask(&kit).await;
    sqlx::query(
        "insert into mail_outbox (id, kind, created_at, run_at, deadline)
         select gen_random_uuid(), 'sign_in', m.created_at - n * interval '1 millisecond', m.run_at, m.deadline
         from mail_outbox m, generate_series(1, 10000) n",
    )
    .execute(&kit.pool)
    .await
    .expect("a backlog");
    let first = tokio::spawn({
        let auth = kit.auth.clone();
        async move { auth.delivery().drain(&First).await }
    });
    let panic = first.await.expect_err("the first mail of all is the one with a link").into_panic();
    assert_eq!(panic.downcast_ref::<String>().map(String::as_str), Some("mara@example.org is sent first"));
}

/// A visitor whom the account of this address knows by now.
async fn known_at(kit: &Kit, ip: [u8; 4], email: &str) -> Visitor {
    let mut visitor = Visitor::at(ip);
    assert!(matches!(visitor.give_first_factor(kit, &address(email)).await, Outcome::Complete { .. }));
    kit.letters().await;
    kit.clock.advance(Duration::seconds(31));
    visitor
}

async fn ask_as(kit: &Kit, visitor: &Visitor, email: &str) -> Result<(), RequestLinkError> {
    kit.auth.sign_in().request_link(&address(email), &visitor.nonce, visitor.proof(), &visitor.from).await
}

#[tokio::test]
async fn mail_for_those_an_account_knows_goes_before_what_strangers_ask_for() {
    let (kit, admin, authority) = with_admin().await;
    let owner = known_at(&kit, [203, 0, 113, 24], "mara@example.org").await;
    kit.auth.administration().send_test_mail(&authority, &admin.from).await.expect("queued");
    ask_as(&kit, &owner, "mara@example.org").await.expect("taken");
    kit.auth.sign_in().mail_step_up_code(&authority, &admin.from).await.expect("queued");
    for n in 0..40 {
        kit.clock.advance(Duration::milliseconds(1));
        ask_as(&kit, &Visitor::at([10, 0, n, 1]), &format!("a{n}@example.org")).await.expect("taken");
    }
    let sent = kit.letters_as_sent().await;
    let to: Vec<&str> = sent.iter().map(|letter| letter.to.as_str()).collect();
    assert_eq!(to.len(), 43);
    assert!(to[..2].contains(&"mara@example.org") && to[..3].iter().filter(|to| **to == "root@example.org").count() == 2, "{to:?}");
    assert!(matches!(sent[2].content, Content::Notice { .. }), "codes that somebody waits for come before notices");
    assert_eq!(to[3], "a39@example.org", "of what strangers ask for, the newest first");
}

/// Also within a class: by the block of the network, and whatever else is queued as one, as invitations are.
#[tokio::test]
async fn whoever_asks_for_many_mails_is_served_after_all_who_ask_for_one() {
    let kit = Kit::new().await;
    for n in 0..20 {
        kit.auth.administration().invite(Actor::Operator, &address(&format!("i{n}@example.org")), None).await.expect("invited");
    }
    for n in 0..5 {
        ask_as(&kit, &Visitor::at([10, 0, n, 1]), &format!("one{n}@example.org")).await.expect("taken");
    }
    for n in 0..60 {
        kit.clock.advance(Duration::milliseconds(1));
        ask_as(&kit, &Visitor::at([192, 0, 2, n]), &format!("many{n}@example.org")).await.expect("taken");
    }
    let sent = kit.letters_as_sent().await;
    let last = sent.iter().rposition(|letter| letter.to.as_str().starts_with("one")).expect("sent");
    assert!(last <= 6, "one of the flood, one invitation, and theirs: {last}");
    assert_eq!(sent[0].to.as_str(), "many0@example.org", "the newest of the first turn");
    assert_eq!(kit.count("select count(*) from mail_outbox where network is not null").await, 0, "kept while a mail waits alone");
}

/// Strangers' mails wait, and so many of them went out in the last minute.
async fn backlog(kit: &Kit, waiting: i32, sent: i32) {
    sqlx::query(
        "insert into mail_outbox (id, kind, created_at, run_at, deadline, state, settled_at)
         select gen_random_uuid(), 'sign_in', $1::timestamptz - interval '1 minute', $1, $1 + interval '9 minutes',
                case when n > $2 then 'sent' else 'queued' end, case when n > $2 then $1 end
         from generate_series(1, $2 + $3) n",
    )
    .bind(kit.auth.now())
    .bind(waiting)
    .bind(sent)
    .execute(&kit.pool)
    .await
    .expect("a backlog");
    kit.auth.delivery().measure().await.expect("the database answers");
}

#[tokio::test]
async fn no_more_mail_is_asked_for_than_was_measured_to_go_out() {
    let kit = Kit::new().await;
    let owner = known_at(&kit, [203, 0, 113, 24], "mara@example.org").await;
    let stranger = Visitor::at([10, 0, 0, 1]);
    // 7,000 at 26 a second: all are out within half of the ten minutes that a link works.
    backlog(&kit, 7_000, 26 * 60).await;
    ask_as(&kit, &stranger, "a@example.org").await.expect("it comes in time");
    kit.clock.advance(Duration::seconds(21));
    assert_eq!(delivery(&kit, &stranger).await, LATE);

    // At 20 a second they take 350 seconds: whoever asks for little is served, and goes out before the others.
    let refused = async |visitor: &Visitor| match ask_as(&kit, visitor, "a@example.org").await {
        Err(RequestLinkError::Limited(limited)) => (limited.limit, limited.wait.as_secs()),
        other => panic!("{other:?}"),
    };
    sqlx::query("delete from mail_outbox where state = 'sent'").execute(&kit.pool).await.expect("deleted");
    kit.clock.advance(Duration::seconds(10));
    backlog(&kit, 0, 20 * 91).await;
    for n in 0..3 {
        ask_as(&kit, &Visitor::at([10, 0, 1, 1]), &format!("b{n}@example.org")).await.expect("little");
    }
    assert_eq!(refused(&Visitor::at([10, 0, 1, 1])).await, (Limit::LinkAllBlock, 300));

    // 7,000 and four more at 10 a second are out in 700 seconds, of which a link's life is 600.
    sqlx::query("delete from mail_outbox where state = 'sent'").execute(&kit.pool).await.expect("deleted");
    backlog(&kit, 0, 910).await;
    assert_eq!(refused(&stranger).await, (Limit::LinkAll, 100), "then at this rate 6,000 wait");
    let within = std::time::Duration::from_mins(10);
    assert_eq!(delivery(&kit, &stranger).await, Delivery::Late { within }, "what outlives its link is not sent");
    ask_as(&kit, &owner, "mara@example.org").await.expect("a known browser is not held up");
    assert_eq!(delivery(&kit, &owner).await, Delivery::OnTime, "its mail goes out first");

    let (application, email) = (Application { key: uuid::Uuid::from_u128(1), name: "Notes".to_owned() }, address("b@example.org"));
    let request = LinkRequest { email: &email, redirect_url: None, client: None, idempotency_key: None };
    let refused = kit.auth.sign_in().request_link_for(&application, &request, &stranger.from).await;
    assert!(matches!(refused, Err(RequestError::Limited(limited)) if limited.limit == Limit::LinkAll), "{refused:?}");

    // Nothing goes out: the mail server is away, and what is asked for waits for it.
    sqlx::query("delete from mail_outbox where state = 'sent'").execute(&kit.pool).await.expect("deleted");
    kit.auth.delivery().measure().await.expect("the database answers");
    ask_as(&kit, &stranger, "a@example.org").await.expect("taken");
    kit.clock.advance(Duration::seconds(31));

    // All that waited is out, which is measured.
    backlog(&kit, 0, 60).await;
    ask_as(&kit, &stranger, "a@example.org").await.expect_err("7,000 wait");
    sqlx::query("update mail_outbox set attempts = 1 where state = 'queued'").execute(&kit.pool).await.expect("tried");
    kit.auth.delivery().measure().await.expect("the database answers");
    ask_as(&kit, &stranger, "a@example.org").await.expect("none waits for a connection");
}

const LATE: Delivery = Delivery::Late { within: auth::outbox::LONGEST_WAIT };

async fn delivery(kit: &Kit, visitor: &Visitor) -> Delivery {
    kit.auth.sign_in().delivery(&visitor.nonce).await.expect("the database answers")
}

#[tokio::test]
async fn the_page_that_says_it_was_sent_is_told_what_became_of_it() {
    let kit = Kit::new().await;
    let visitor = Visitor::at([203, 0, 113, 24]);
    let ask = async |visitor: &Visitor, email: &str| {
        kit.auth.sign_in().request_link(&address(email), &visitor.nonce, visitor.proof(), &visitor.from).await.expect("taken");
    };
    assert_eq!(delivery(&kit, &visitor).await, Delivery::OnTime, "nothing was asked for");
    ask(&visitor, "mara@example.org").await;
    assert_eq!(delivery(&kit, &visitor).await, Delivery::OnTime, "it goes out in a moment");
    kit.clock.advance(Duration::seconds(20));
    assert_eq!(delivery(&kit, &visitor).await, Delivery::OnTime);
    kit.clock.advance(Duration::milliseconds(1));
    assert_eq!(delivery(&kit, &visitor).await, LATE, "nobody has taken it yet");
    kit.letters().await;
    assert_eq!(delivery(&kit, &visitor).await, Delivery::OnTime, "it is out");

    kit.clock.advance(Duration::seconds(30));
    ask(&visitor, "mara@example.org").await;
    kit.outbox.refuse([SendError::Temporary("the mail server refused it for now (450)".to_owned())]);
    kit.letters().await;
    assert_eq!(delivery(&kit, &visitor).await, LATE, "it was refused for now");
    kit.clock.advance(Duration::seconds(3));
    kit.outbox.refuse([SendError::Permanent("the mail server refused it (550)".to_owned())]);
    kit.letters().await;
    assert_eq!(delivery(&kit, &visitor).await, Delivery::Refused);

    // Of one network: they take turns after whoever asks for one.
    for n in 0..8 {
        ask(&Visitor::at([10, 0, 0, n]), &format!("a{n}@example.org")).await;
    }
    kit.clock.advance(Duration::seconds(21));
    let newest = Visitor::at([10, 0, 1, 1]);
    ask(&newest, "newest@example.org").await;
    assert_eq!(delivery(&kit, &newest).await, Delivery::OnTime, "it goes out before them");
    kit.letters().await;
    kit.clock.advance(Duration::seconds(31));
    for n in 0..8 {
        ask(&Visitor::at([10, 1, n, 1]), &format!("b{n}@example.org")).await;
    }
    kit.clock.advance(Duration::seconds(21));
    ask(&newest, "newest@example.org").await;
    assert_eq!(delivery(&kit, &newest).await, LATE, "so many others wait that this one will, too");
    kit.letters().await;
    assert_eq!(delivery(&kit, &newest).await, Delivery::OnTime);
}

/// One account can cause notices without end, by pressing two buttons in turn: others' go out between them.
#[tokio::test]
async fn notices_of_one_account_wait_for_those_of_others() {
    let kit = Kit::new().await;
    for email in ["busy@example.org", "mara@example.org"] {
        kit.auth.users().create(&address(email), false, None).await.expect("made");
    }
    let tell = async |email: &str, times: usize| {
        let id = kit.auth.administration().user_id(&address(email)).await.expect("answers").expect("there");
        for n in 0..times {
            kit.clock.advance(Duration::seconds(1));
            let done = match n % 2 {
                0 => kit.auth.administration().disable_user(Actor::Operator, id, &why("a test")).await,
                _ => kit.auth.administration().enable_user(Actor::Operator, id, &why("a test")).await,
            };
            done.expect("changed");
        }
    };
    tell("busy@example.org", 20).await;
    tell("mara@example.org", 1).await;
    tell("busy@example.org", 20).await;
    let sent = kit.letters_as_sent().await;
    assert_eq!((sent.len(), sent[0].to.as_str()), (41, "mara@example.org"));
}

/// An administrator who has just signed in, where they need no two-factor.
async fn with_admin() -> (Kit, Visitor, Authority) {
    let require_two_factor = RequireTwoFactor::None;
    let kit = Kit::with(Policy { passwordless_auth: true, sign_up: SignUp::Open, require_two_factor, ..Policy::default() }).await;
    kit.auth.users().create(&address("root@example.org"), true, None).await.expect("made");
    let mut visitor = Visitor::at([203, 0, 113, 99]);
    assert!(matches!(visitor.give_first_factor(&kit, &address("root@example.org")).await, Outcome::Complete { .. }));
    let authority = visitor.authority(&kit.auth).await.expect("signed in");
    kit.letters().await;
    (kit, visitor, authority)
}

async fn mails(kit: &Kit, filter: MailFilter) -> Page<MailRow> {
    kit.auth.administration().mails(filter, None).await.expect("the database answers")
}

#[tokio::test]
async fn administrators_see_what_waits_and_why_and_send_it_again() {
    let (kit, visitor, authority) = with_admin().await;
    let who = Actor::Admin { authority: &authority, from: &visitor.from };
    let refused = "the mail server refused it for now (450)";
    ask(&kit).await;
    kit.outbox.refuse([SendError::Temporary(refused.to_owned())]);
    kit.letters().await;
    let waiting = mails(&kit, MailFilter::Waiting).await.rows;
    let [mail] = &waiting[..] else { panic!("one: {waiting:?}") };
    assert_eq!((mail.kind.as_str(), mail.to.as_deref()), ("sign_in", Some("mara@example.org")));
    assert_eq!((mail.state, mail.attempts, mail.error.as_deref()), (MailState::Waiting, 1, Some(refused)));
    assert!(mail.retriable && mail.run_at > kit.auth.now());
    kit.auth.administration().retry_mail(who, mail.id).await.expect("due at once");
    assert_eq!(kit.letters().await.len(), 1, "without waiting");
    assert!(matches!(kit.auth.administration().retry_mail(who, mail.id).await, Err(ActionError::Nothing)), "it is out");
    assert_eq!(mails(&kit, MailFilter::Waiting).await.rows, []);
    assert_eq!(kit.count("select count(*) from auth_audit where event_type = 'mail.retried' and actor_id is not null").await, 1);

    kit.clock.advance(Duration::seconds(31));
    ask(&kit).await;
    kit.outbox.refuse([SendError::Permanent("the mail server refused it (550)".to_owned())]);
    kit.letters().await;
    let given_up = mails(&kit, MailFilter::GivenUp).await.rows;
    let [mail] = &given_up[..] else { panic!("one: {given_up:?}") };
    assert_eq!((mail.state, mail.retriable), (MailState::Failed, true));
    let queue = kit.auth.administration().mail_queue().await.expect("the database answers");
    assert_eq!((queue.waiting, queue.oldest, queue.failed, queue.expired), (0, None, 1, 0));
    assert!(queue.sent >= 2 && queue.p95_seconds.is_some());
    kit.auth.administration().retry_mail(who, mail.id).await.expect("the operator has mended it");
    assert_eq!(kit.letters().await.len(), 1);

    let stranger = Authority { admin: false, ..authority.clone() };
    let refused = kit.auth.administration().retry_mail(Actor::Admin { authority: &stranger, from: &visitor.from }, mail.id).await;
    assert!(matches!(refused, Err(ActionError::NotAdmin)));
    kit.clock.advance(Duration::minutes(11));
    assert!(matches!(kit.auth.administration().retry_mail(who, mail.id).await, Err(ActionError::NotFresh)));
}

#[tokio::test]
async fn nothing_is_sent_again_whose_time_is_over_or_that_is_being_sent() {
    let (kit, visitor, authority) = with_admin().await;
    let who = Actor::Admin { authority: &authority, from: &visitor.from };
    ask(&kit).await;
    let id = mails(&kit, MailFilter::Waiting).await.rows[0].id;
    let lease = "update mail_outbox set lease_until = created_at + interval '15 seconds' where state = 'queued'";
    sqlx::query(lease).execute(&kit.pool).await.expect("claimed");
    assert_eq!(mails(&kit, MailFilter::Waiting).await.rows[0].state, MailState::Sending);
    assert!(matches!(kit.auth.administration().retry_mail(who, id).await, Err(ActionError::Nothing)), "it would be sent twice");
    sqlx::query("update mail_outbox set lease_until = null, deadline = created_at where state = 'queued'")
        .execute(&kit.pool)
        .await
        .expect("too late");
    assert!(matches!(kit.auth.administration().retry_mail(who, id).await, Err(ActionError::Nothing)));
    assert!(!mails(&kit, MailFilter::Waiting).await.rows[0].retriable);
}

#[tokio::test]
async fn a_test_mail_goes_the_way_of_all_mail_and_five_are_enough() {
    let (kit, visitor, authority) = with_admin().await;
    for n in 1..=5 {
        kit.auth.administration().send_test_mail(&authority, &visitor.from).await.expect("within the limit");
        let letters = kit.letters().await;
        let [letter] = &letters[..] else { panic!("one: {n}") };
        assert_eq!(letter.to, address("root@example.org"));
        assert!(matches!(letter.content, Content::Notice { notice: Notice::Test, .. }));
    }
    let sixth = kit.auth.administration().send_test_mail(&authority, &visitor.from).await;
    assert!(matches!(sixth, Err(TestMailError::Limited(limited)) if limited.wait.as_secs() == 180), "{sixth:?}");
}

#[tokio::test]
async fn the_list_goes_on_page_by_page_and_back() {
    let kit = Kit::new().await;
    for n in 0..60_u8 {
        let visitor = Visitor::at([10, 0, 0, n]);
        let email = address(&format!("a{n}@example.org"));
        kit.auth.sign_in().request_link(&email, &visitor.nonce, visitor.proof(), &visitor.from).await.expect("taken");
        kit.clock.advance(Duration::seconds(1));
    }
    let page = async |cursor| kit.auth.administration().mails(MailFilter::All, cursor).await.expect("the database answers");
    let ids = |page: &Page<MailRow>| page.rows.iter().map(|row| row.id).collect::<Vec<_>>();
    let first = page(None).await;
    assert_eq!(first.rows[0].to.as_deref(), Some("a59@example.org"));
    assert!(first.newer.is_none());
    let second = page(first.older).await;
    let third = page(second.older).await;
    assert_eq!((first.rows.len(), second.rows.len(), third.rows.len()), (25, 25, 10));
    assert!(third.older.is_none());
    assert_eq!(ids(&page(third.newer).await), ids(&second));
    assert_eq!(ids(&page(second.newer).await), ids(&first));
}
