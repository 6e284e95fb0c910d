//! The flag and the guarded rollout, on a real database with the clock moved, on two servers.

use std::sync::Arc;

use auth::{
    Auth,
    crypto::Keys,
    delivery::{Content, SendError},
    flag::{Change, Flag, Of, PASSWORDLESS_AUTH, Reach, Target, bucket},
    identity::{ActionError, Actor},
    outbox::Notice,
    policy::{Policy, SignUp, checks::Check},
    rollout::{CLEAR_FOR, DEFAULT_PLAN, LOOK_EVERY, StartError, State, Step, Verdict},
    sign_in::first_factor::{ConfirmLinkError, EnterCodeError, Outcome, RequestLinkError},
};
use testkit::{Kit, TEST_KEY, Visitor, address, handover, why};
use time::Duration;

const WHY: &str = "ticket 7";

/// As it ships: off until the table says otherwise.
async fn kit() -> Kit {
    Kit::with(Policy { passwordless_auth: false, sign_up: SignUp::Open, ..Policy::default() }).await
}

async fn set(auth: &Auth, change: Change) -> Flag {
    auth.rollout().set_flag(Actor::Operator, PASSWORDLESS_AUTH, &change, &why(WHY)).await.expect("changed")
}

/// An address in that bucket.
fn in_bucket(wanted: u8) -> String {
    let mut names = (0..10_000).map(|n| format!("person{n}@example.org"));
    names.find(|email| bucket(PASSWORDLESS_AUTH, email) == wanted).expect("one of them")
}

async fn ask(auth: &Auth, visitor: &Visitor, email: &str) -> Result<(), RequestLinkError> {
    auth.sign_in().request_link(&address(email), &visitor.nonce, visitor.proof(), &visitor.from).await
}

/// What the mail to a newcomer's browser says.
async fn mail_to(kit: &Kit, email: &str) -> Content {
    kit.clock.advance(Duration::minutes(16));
    ask(&kit.auth, &Visitor::at([203, 0, 113, 24]), email).await.expect("taken");
    kit.letters().await.pop().expect("a mail").content
}

async fn is_in(kit: &Kit, email: &str) -> bool {
    match mail_to(kit, email).await {
        Content::SignIn { .. } => true,
        Content::NotYet { .. } => false,
        other => panic!("{other:?}"),
    }
}

// The flag

#[tokio::test]
async fn every_state_of_the_flag_holds_on_both_servers() {
    let kit = kit().await;
    let other = kit.second().await;
    let (five, sixty) = (in_bucket(4), in_bucket(60));
    kit.auth.users().create(&address(&five), true, None).await.expect("made");
    for (change, reach, admin_in, other_in) in [
        (Change::Percent(5, Of::Admins), Reach::Some, true, false),
        (Change::Allow(address(&sixty)), Reach::Some, true, true),
        (Change::Disallow(address(&sixty)), Reach::Some, true, false),
        (Change::Percent(60, Of::Everyone), Reach::Some, true, false),
        (Change::Percent(61, Of::Everyone), Reach::Some, true, true),
        (Change::On, Reach::Everyone, true, true),
        (Change::Off, Reach::Nobody, false, false),
    ] {
        set(&other, change.clone()).await;
        kit.auth.flag().read().await.expect("read");
        for server in [&kit.auth, &other] {
            let flag = server.flag().get(PASSWORDLESS_AUTH);
            assert_eq!(flag.reach(), reach, "{change:?}");
            assert_eq!(flag.admits(PASSWORDLESS_AUTH, &five, true), admin_in, "{change:?}");
            assert_eq!(flag.admits(PASSWORDLESS_AUTH, &sixty, false), other_in, "{change:?}");
        }
        if reach == Reach::Nobody {
            let refused = ask(&kit.auth, &Visitor::at([203, 0, 113, 24]), &five).await;
            assert!(matches!(refused, Err(RequestLinkError::Off)), "{refused:?}");
        } else {
            assert_eq!(is_in(&kit, &five).await, admin_in, "{change:?}");
            assert_eq!(is_in(&kit, &sixty).await, other_in, "{change:?}");
        }
    }
}

#[tokio::test]
async fn a_running_server_is_told_at_once() {
    let kit = kit().await;
    let other = kit.second().await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let watching = {
        let auth = kit.auth.clone();
        tokio::spawn(async move {
            auth.flag()
                .watch(async {
                    let _ = stopped.await;
                })
                .await;
        })
    };
    for change in [Change::On, Change::Off, Change::Percent(25, Of::Everyone)] {
        let flag = set(&other, change).await;
        let seen = async {
            while kit.auth.flag().get(PASSWORDLESS_AUTH) != flag {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(5), seen).await.expect("within five seconds");
    }
    stop.send(()).expect("still watching");
    watching.await.expect("it stops when told to");
}

#[tokio::test]
async fn the_environment_speaks_only_where_there_is_no_row() {
    let on = Kit::new().await;
    assert_eq!(on.auth.flag().get(PASSWORDLESS_AUTH), Flag::ON);
    assert_eq!(on.auth.flag().get("another"), Flag::OFF, "and only of its own flag");
    // A server that looks at the checks makes no row: from then on the environment would have no say.
    on.auth.rollout().watch().await.expect("looked");
    assert_eq!(on.count("select count(*) from feature_flags").await, 0);
    assert_eq!(on.count("select count(*) from rollout_checks").await, 8);
    // The first change starts from what held, or letting one more in would put everybody else out.
    set(&on.auth, Change::Allow(address("mara@example.org"))).await;
    assert_eq!(on.auth.flag().get(PASSWORDLESS_AUTH).reach(), Reach::Everyone);
    set(&on.auth, Change::Off).await;
    assert_eq!(on.second().await.flag().get(PASSWORDLESS_AUTH), Flag::OFF, "though the environment says on");
}

#[tokio::test]
async fn what_cannot_be_read_stays_as_it_was_and_is_unknown_after_a_restart() {
    let kit = Kit::new().await;
    set(&kit.auth, Change::Percent(25, Of::Everyone)).await;
    let owner = kit.database.owner().await;
    sqlx::query("alter table feature_flags rename to gone").execute(&owner).await.expect("renamed");
    assert!(kit.auth.flag().read().await.is_err());
    assert_eq!(kit.auth.flag().get(PASSWORDLESS_AUTH).percent_everyone, 25, "its last known state");
    let fresh = Auth::new(
        kit.pool.clone(),
        Arc::new(kit.clock.clone()),
        Keys::new(&TEST_KEY, &[]),
        Policy { passwordless_auth: true, ..Policy::default() },
    );
    assert!(fresh.flag().read().await.is_err());
    // Neither on, as the environment says and the row may not, nor off, which people would be told.
    fresh.flag().sign_in_is_off().await.expect_err("nobody knows");
    let browser = Visitor::at([203, 0, 113, 7]);
    let asked = fresh.sign_in().request_link(&address("mara@example.org"), &browser.nonce, browser.proof(), &browser.from).await;
    assert!(matches!(asked, Err(RequestLinkError::Unavailable(_))), "{asked:?}");
    sqlx::query("alter table gone rename to feature_flags").execute(&owner).await.expect("renamed");
    assert!(!fresh.flag().sign_in_is_off().await.expect("read by the first that asks"));
    assert_eq!(fresh.flag().get(PASSWORDLESS_AUTH).percent_everyone, 25);
}

#[tokio::test]
async fn what_is_off_is_off_for_links_codes_and_second_steps_and_sessions_go_on() {
    let kit = kit().await;
    set(&kit.auth, Change::On).await;
    let mut signed_in = Visitor::at([203, 0, 113, 1]);
    signed_in.give_first_factor(&kit, &address("before@example.org")).await;
    let visitor = Visitor::at([203, 0, 113, 24]);
    ask(&kit.auth, &visitor, "mara@example.org").await.expect("taken");
    let (token, code) = kit.sign_in_mail().await;

    set(&kit.auth, Change::Off).await;
    let link = kit.auth.sign_in().confirm_link(&token, visitor.proof(), &handover(), &visitor.from).await;
    assert!(matches!(link, Err(ConfirmLinkError::Off)), "{link:?}");
    let typed = kit.auth.sign_in().enter_code(&code, visitor.proof(), &handover(), &visitor.from).await;
    assert!(matches!(typed, Err(EnterCodeError::Off)), "{typed:?}");
    assert!(signed_in.authority(&kit.auth).await.is_some(), "existing sessions go on");

    // On for others: the link in this one's mail still opens nothing.
    let somebody = in_bucket(50);
    ask(&kit.auth, &visitor, &somebody).await.expect_err("off");
    set(&kit.auth, Change::Percent(10, Of::Everyone)).await;
    let link = kit.auth.sign_in().confirm_link(&token, visitor.proof(), &handover(), &visitor.from).await;
    assert_eq!(bucket(PASSWORDLESS_AUTH, "mara@example.org"), 84, "not among the ten");
    assert!(matches!(link, Err(ConfirmLinkError::Off)), "{link:?}");
    assert_eq!(kit.count("select count(*) from users where email_key = 'mara@example.org'").await, 0, "and makes no account");
    assert_eq!(kit.count("select count(*) from magic_links where used = 1").await, 1, "what was refused used nothing up");

    set(&kit.auth, Change::Allow(address("mara@example.org"))).await;
    let link = kit.auth.sign_in().confirm_link(&token, visitor.proof(), &handover(), &visitor.from).await;
    assert!(matches!(link, Ok(Outcome::Complete { .. })), "{link:?}");
}

#[tokio::test]
async fn changes_that_race_lose_nothing_and_each_is_recorded() {
    let kit = kit().await;
    let other = kit.second().await;
    let mut changes = tokio::task::JoinSet::new();
    for n in 0..24 {
        let auth = if n % 2 == 0 { kit.auth.clone() } else { other.clone() };
        changes.spawn(async move {
            let change = Change::Allow(address(&format!("p{n}@example.org")));
            auth.rollout().set_flag(Actor::Operator, PASSWORDLESS_AUTH, &change, &why(WHY)).await
        });
    }
    while let Some(changed) = changes.join_next().await {
        changed.expect("no panic").expect("changed");
    }
    kit.auth.flag().read().await.expect("read");
    assert_eq!(kit.auth.flag().get(PASSWORDLESS_AUTH).allowed.len(), 24);
    assert_eq!(kit.count("select count(*) from auth_audit where event_type = 'flag.changed'").await, 24);
    assert_eq!(kit.count("select count(*) from auth_audit where details::text like '%@example.org%' and details::text not like '%•••••@example.org%'").await, 0);
    let again =
        kit.auth.rollout().set_flag(Actor::Operator, PASSWORDLESS_AUTH, &Change::Allow(address("p3@example.org")), &why(WHY)).await;
    assert!(matches!(again, Err(ActionError::Nothing)), "{again:?}");
}

// The rollout

/// A look, and the next one due.
async fn look(kit: &Kit) -> State {
    kit.clock.advance(LOOK_EVERY);
    kit.auth.rollout().watch().await.expect("looked");
    kit.auth.flag().read().await.expect("read");
    kit.auth.rollout().status().await.expect("read").rollout.expect("a rollout").state
}

/// Whoever is in signs in, with a code.
async fn somebody_signs_in(kit: &Kit, email: &str) {
    kit.clock.advance(Duration::minutes(2));
    let mut visitor = Visitor::at([198, 51, 100, 7]);
    visitor.give_first_factor(kit, &address(email)).await;
}

fn flag(kit: &Kit) -> (usize, u8, u8) {
    let flag = kit.auth.flag().get(PASSWORDLESS_AUTH);
    (flag.allowed.len(), flag.percent_admins, flag.percent_everyone)
}

async fn story(kit: &Kit) -> Vec<String> {
    let story: Vec<String> =
        sqlx::query_scalar("select event_type from auth_audit where event_type like 'rollout.%' order by created_at, id")
            .fetch_all(&kit.pool)
            .await
            .expect("read");
    story.iter().map(|name| name.trim_start_matches("rollout.").to_owned()).collect()
}

async fn told(kit: &Kit) -> Vec<Notice> {
    let notices = kit.letters().await.into_iter().filter_map(|letter| match letter.content {
        Content::Notice { notice, .. } => Some(notice),
        _ => None,
    });
    notices
        .filter(|notice| matches!(notice, Notice::RolloutHeld { .. } | Notice::RolloutRolledBack { .. } | Notice::RolloutFinished))
        .collect()
}

/// At its second step, 5 % of administrators, of whom one has signed in.
async fn under_way() -> Kit {
    let kit = kit().await;
    kit.auth.users().create(&address(&in_bucket(3)), true, None).await.expect("made");
    kit.auth.rollout().start(Actor::Operator, &DEFAULT_PLAN, &why(WHY)).await.expect("started");
    somebody_signs_in(&kit, &in_bucket(3)).await;
    assert_eq!(look(&kit).await, State::Running);
    kit.letters().await;
    kit
}

#[tokio::test]
async fn from_start_to_everyone_by_the_clock() {
    let kit = kit().await;
    set(&kit.auth, Change::Allow(address("canary@example.org"))).await;
    kit.auth.users().create(&address(&in_bucket(3)), true, None).await.expect("made");
    kit.auth.rollout().start(Actor::Operator, &DEFAULT_PLAN, &why(WHY)).await.expect("started");
    for (step, (who, expected, soak)) in [
        ("canary@example.org".to_owned(), (1, 0, 0), 24),
        (in_bucket(3), (1, 5, 0), 72),
        (in_bucket(24), (1, 5, 25), 48),
        (in_bucket(90), (1, 5, 100), 72),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(flag(&kit), expected, "step {step}");
        // Soaked, but nobody has tried it.
        kit.clock.advance(Duration::hours(soak) + Duration::minutes(1));
        assert_eq!(look(&kit).await, State::Running);
        assert_eq!(flag(&kit), expected, "step {step}: a step that nobody has tried proves nothing");
        somebody_signs_in(&kit, &who).await;
        let state = look(&kit).await;
        assert_eq!(state == State::Finished, step == 3, "step {step}");
    }
    assert_eq!(story(&kit).await, ["started", "moved", "moved", "moved", "finished"]);
    assert_eq!(told(&kit).await, [Notice::RolloutFinished]);
    let again = kit.auth.rollout().pause(Actor::Operator, &why(WHY)).await;
    assert!(matches!(again, Err(ActionError::Nothing)), "{again:?}");
}

#[tokio::test]
async fn it_starts_once_upwards_and_only_on_a_whole_schema() {
    let kit = kit().await;
    let start = |plan: Vec<Step>| {
        let auth = kit.auth.clone();
        async move { auth.rollout().start(Actor::Operator, &plan, &why(WHY)).await }
    };
    let step = |to| Step { to, soak_hours: 1 };
    let down = start(vec![step(Target::Everyone(25)), step(Target::Everyone(10))]).await;
    assert!(matches!(down, Err(StartError::NotUp)), "{down:?}");
    assert!(matches!(start(vec![step(Target::Named)]).await, Err(StartError::NotUp)), "a plan of nothing");

    let (one, other) = tokio::join!(start(DEFAULT_PLAN.to_vec()), start(DEFAULT_PLAN.to_vec()));
    assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    assert!(matches!(one.and(other), Err(StartError::UnderWay)));
    assert_eq!(kit.count("select count(*) from rollouts").await, 1);

    kit.auth.rollout().abort(Actor::Operator, &why(WHY)).await.expect("aborted");
    assert_eq!(flag(&kit), (0, 5, 0), "the percentage stays");
    let owner = kit.database.owner().await;
    sqlx::query("delete from _sqlx_migrations where version = 20").execute(&owner).await.expect("deleted");
    assert!(matches!(start(DEFAULT_PLAN.to_vec()).await, Err(StartError::PendingMigrations)));
}

#[tokio::test]
async fn strangers_hold_it_and_never_turn_it_off() {
    let kit = under_way().await;
    // One network asks for more mails than a household does. Most are refused, and counted all the same.
    for n in 0..101 {
        let _ = ask(&kit.auth, &Visitor::at([192, 0, 2, 1]), &format!("x{n}@example.org")).await;
    }
    kit.auth.limits().watch_request_bursts().await.expect("added up");
    assert_eq!(look(&kit).await, State::Held);
    let status = kit.auth.rollout().status().await.expect("read");
    assert_eq!(status.rollout.as_ref().and_then(|rollout| rollout.why.as_deref()), Some("burst"));
    assert_eq!(told(&kit).await, [Notice::RolloutHeld { check: Check::Burst }]);
    for _ in 0..40 {
        kit.clock.advance(Duration::minutes(1));
        assert_eq!(look(&kit).await, State::Held);
    }
    assert_eq!(flag(&kit), (0, 5, 0), "who is in stays in");
    assert!(told(&kit).await.is_empty(), "told once");

    // An hour after the burst it is clear, half an hour later it goes on, and the time it stood still is no soak.
    let held_at = status.rollout.expect("held").stopped_since.expect("held");
    kit.clock.advance(Duration::minutes(25));
    assert_eq!(look(&kit).await, State::Held, "clear, but not for long enough");
    kit.clock.advance(CLEAR_FOR);
    assert_eq!(look(&kit).await, State::Running);
    let rollout = kit.auth.rollout().status().await.expect("read").rollout.expect("running");
    let stood = kit.auth.now() - held_at;
    assert!(rollout.step_since - rollout.started_at >= stood - LOOK_EVERY, "{rollout:?}");
    assert_eq!(story(&kit).await, ["started", "held", "released"]);
}

#[tokio::test]
async fn failed_sign_ins_and_wrong_second_factors_hold_it() {
    let kit = under_way().await;
    set_everyone_by_hand(&kit).await;
    // 20 is the least that says something: 19 wrong ones say nothing yet.
    for n in 0..19 {
        let visitor = Visitor::at([192, 0, 2, n]);
        kit.clock.advance(Duration::seconds(31));
        ask(&kit.auth, &visitor, &format!("x{n}@example.org")).await.expect("taken");
        let (token, _) = kit.sign_in_mail().await;
        let elsewhere = Visitor::at([192, 0, 2, 200]);
        let refused = kit.auth.sign_in().confirm_link(&token, elsewhere.proof(), &handover(), &elsewhere.from).await;
        assert!(matches!(refused, Err(ConfirmLinkError::NotLive(_))));
        if n == 17 {
            look(&kit).await;
            let readings = kit.auth.rollout().status().await.expect("read").readings;
            let reading = readings.iter().find(|reading| reading.check == Check::FailedVerifications).expect("there");
            assert_eq!(reading.verdict(), Verdict::NoData, "{reading:?}");
        }
    }
    assert_eq!(look(&kit).await, State::Held);
    assert_eq!(told(&kit).await, [Notice::RolloutHeld { check: Check::FailedVerifications }]);

    let kit = under_way().await;
    let user = sqlx::query_scalar::<_, uuid::Uuid>("select id from users").fetch_one(&kit.pool).await.expect("one");
    for n in 0..11 {
        sqlx::query("insert into auth_audit (id, created_at, event_type, user_id, details) values ($1, $2, 'totp.refused', $3, '{\"reason\":\"wrong\"}')")
            .bind(uuid::Uuid::from_u128(n))
            .bind(kit.auth.now())
            .bind(user)
            .execute(&kit.pool)
            .await
            .expect("written");
    }
    assert_eq!(look(&kit).await, State::Held);
    assert_eq!(told(&kit).await, [Notice::RolloutHeld { check: Check::SecondFactorFailures }]);
}

/// Lets everybody in and goes on with the plan, which a change by hand has paused.
async fn set_everyone_by_hand(kit: &Kit) {
    set(&kit.auth, Change::On).await;
    kit.auth.rollout().resume(Actor::Operator, &why(WHY)).await.expect("resumed");
}

#[tokio::test]
async fn late_mail_holds_it() {
    let kit = under_way().await;
    set_everyone_by_hand(&kit).await;
    for n in 0..6 {
        ask(&kit.auth, &Visitor::at([192, 0, 2, n]), &format!("x{n}@example.org")).await.expect("taken");
    }
    kit.clock.advance(Duration::seconds(61));
    assert_eq!(look(&kit).await, State::Held, "they wait, and count though none was sent");
    assert_eq!(told(&kit).await, [Notice::RolloutHeld { check: Check::MailDelay }]);
}

#[tokio::test]
async fn our_own_errors_hold_it_and_then_turn_it_off_everywhere() {
    let kit = under_way().await;
    let other = kit.second().await;
    let answers = |failed: u16, all: u16| {
        for n in 0..all {
            kit.auth.reporting().count_answer(if n < failed { 500 } else { 200 });
        }
    };
    answers(2, 100);
    assert_eq!(look(&kit).await, State::Held);
    assert_eq!(told(&kit).await, [Notice::RolloutHeld { check: Check::ServerErrors }]);
    // Another process looks on: how long it has been so is not lost with the one that began.
    for _ in 0..19 {
        kit.clock.advance(LOOK_EVERY);
        other.rollout().watch().await.expect("looked");
    }
    assert_eq!(kit.auth.rollout().status().await.expect("read").rollout.expect("held").state, State::Held, "not ten minutes yet");
    kit.clock.advance(LOOK_EVERY);
    other.rollout().watch().await.expect("looked");
    let rollout = kit.auth.rollout().status().await.expect("read").rollout.expect("over");
    assert_eq!((rollout.state, rollout.why.as_deref()), (State::RolledBack, Some("server_errors")));
    kit.auth.flag().read().await.expect("read");
    assert_eq!(kit.auth.flag().get(PASSWORDLESS_AUTH), Flag::OFF);
    assert_eq!(told(&kit).await, [Notice::RolloutRolledBack { check: Check::ServerErrors }]);
    assert_eq!(story(&kit).await, ["started", "held", "rolled_back"]);

    // Far over its limit there is nothing to wait for. Busy answers are none of it.
    let kit = under_way().await;
    (0..100).for_each(|_| kit.auth.reporting().count_answer(503));
    assert_eq!(look(&kit).await, State::Running, "strangers can bring 503s about");
    (0..30).for_each(|_| kit.auth.reporting().count_answer(500));
    assert_eq!(look(&kit).await, State::RolledBack);
}

#[tokio::test]
async fn an_audit_that_cannot_be_written_turns_it_off_once_it_can_be_told_of() {
    let kit = under_way().await;
    let owner = kit.database.owner().await;
    sqlx::query("alter table auth_audit add constraint broken check (event_type <> 'rollout.tried') not valid")
        .execute(&owner)
        .await
        .expect("broken");
    assert_eq!(look(&kit).await, State::Held);
    for _ in 0..19 {
        assert_eq!(look(&kit).await, State::Held);
    }
    assert_eq!(look(&kit).await, State::RolledBack);
    assert_eq!(flag(&kit), (0, 0, 0));
}

#[tokio::test]
async fn a_mail_server_that_is_gone_turns_it_off_and_a_recipient_that_is_picky_does_not() {
    for (error, back) in [
        (SendError::Server("no connection".to_owned()), true),
        (SendError::Temporary("the mail server refused it for now (450)".to_owned()), false),
    ] {
        let kit = under_way().await;
        set_everyone_by_hand(&kit).await;
        kit.clock.advance(Duration::minutes(16));
        kit.outbox.refuse((0..10_000).map(|_| error.clone()));
        let mut state = look(&kit).await;
        for n in 0..40 {
            if n % 2 == 0 {
                ask(&kit.auth, &Visitor::at([192, 0, 2, n]), &format!("x{n}@example.org")).await.expect("taken");
            }
            kit.letters().await;
            kit.clock.advance(Duration::seconds(30));
            state = look(&kit).await;
            if state == State::RolledBack {
                break;
            }
        }
        assert_eq!(state == State::RolledBack, back, "{error:?}: {state:?}");
    }
}

/// Strangers choose recipients, also so many slow ones at once that the mails behind them wait for their first try.
#[tokio::test]
async fn mail_that_waits_turns_it_off_only_where_nobody_sends() {
    for (somebody_sends, back) in [(false, true), (true, false)] {
        let kit = under_way().await;
        set_everyone_by_hand(&kit).await;
        kit.clock.advance(Duration::minutes(16));
        for n in 0..6 {
            ask(&kit.auth, &Visitor::at([192, 0, 2, n]), &format!("x{n}@example.org")).await.expect("taken");
        }
        let owner = kit.database.owner().await;
        let mut state = look(&kit).await;
        for _ in 0..40 {
            if somebody_sends {
                sqlx::query(
                    "update mail_outbox set attempts = 1, lease_until = $1
                     where id = (select min(id::text)::uuid from mail_outbox where state = 'queued')",
                )
                .bind(kit.auth.now() + LOOK_EVERY + Duration::seconds(15))
                .execute(&owner)
                .await
                .expect("leased");
            }
            state = look(&kit).await;
            if state == State::RolledBack {
                break;
            }
        }
        let why = kit.auth.rollout().status().await.expect("read").rollout.and_then(|rollout| rollout.why);
        assert_eq!(state == State::RolledBack, back, "{somebody_sends}: {why:?}");
    }
}

#[tokio::test]
async fn what_can_not_be_counted_or_measured_lets_it_not_go_on_and_the_other_checks_stop_it() {
    let rename = async |owner: &sqlx::PgPool, from: &str, to: &str| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("alter table {from} rename to {to}"))).execute(owner).await.expect("renamed");
    };
    for (table, check) in [("period_counts", Check::FailedVerifications), ("network_requests", Check::Burst)] {
        let kit = under_way().await;
        let owner = kit.database.owner().await;
        rename(&owner, table, "elsewhere").await;
        kit.clock.advance(Duration::hours(73));
        assert_eq!(look(&kit).await, State::Running);
        assert_eq!(flag(&kit), (0, 5, 0), "{table}");
        let readings = kit.auth.rollout().status().await.expect("read").readings;
        let reading = readings.iter().find(|reading| reading.check == check).expect("each check has one");
        assert_eq!(reading.verdict(), Verdict::NoData, "{table}");
        rename(&owner, "elsewhere", table).await;
        assert_eq!(look(&kit).await, State::Running);
        assert_eq!(flag(&kit), (0, 5, 25), "{table}");

        rename(&owner, table, "elsewhere").await;
        let answers = |status, times| (0..times).for_each(|_| kit.auth.reporting().count_answer(status));
        answers(200, 98);
        answers(500, 2);
        assert_eq!(look(&kit).await, State::Held, "{table}");
        kit.clock.advance(Duration::hours(2));
        for _ in 0..3 {
            kit.clock.advance(CLEAR_FOR);
            assert_eq!(look(&kit).await, State::Held, "{table}: what isn't measured isn't clear");
        }
        answers(500, 50);
        assert_eq!(look(&kit).await, State::RolledBack, "{table}");
    }
}

/// The application's role can write times that are not come: they would count in every look.
#[tokio::test]
async fn what_has_not_happened_yet_stops_nothing_and_hides_nothing() {
    let kit = under_way().await;
    for statement in [
        "insert into network_requests values ('2199-01-01Z', '203.0.113.24', 1000)",
        "insert into minute_counts values ('2199-01-01Z', 'http.answers', 1000000000000)",
        "insert into auth_audit (id, created_at, event_type, user_id)
         select gen_random_uuid(), '2199-01-01Z', 'totp.refused', (select id from users limit 1) from generate_series(1, 20)",
    ] {
        sqlx::query(statement).execute(&kit.pool).await.expect("the application may");
    }
    assert_eq!(look(&kit).await, State::Running);
    (0..100).for_each(|_| kit.auth.reporting().count_answer(500));
    assert_eq!(look(&kit).await, State::RolledBack);
}

#[tokio::test]
async fn secrets_under_a_missing_key_turn_it_off() {
    let kit = under_way().await;
    sqlx::query(
        "insert into totp_credentials (id, user_id, name, secret, key_id, created_at, confirmed_at)
         select gen_random_uuid(), id, 'Phone', '\\x00', 'gone', created_at, created_at from users limit 1",
    )
    .execute(&kit.pool)
    .await
    .expect("inserted");
    assert_eq!(look(&kit).await, State::Held);
    kit.clock.advance(Duration::minutes(10));
    assert_eq!(look(&kit).await, State::RolledBack);
}

#[tokio::test]
async fn by_hand_at_the_same_time() {
    let kit = under_way().await;
    set(&kit.auth, Change::Percent(50, Of::Everyone)).await;
    let rollout = kit.auth.rollout().status().await.expect("read").rollout.expect("there");
    assert_eq!(rollout.state, State::Paused, "two hands at one lever");
    for _ in 0..3 {
        kit.clock.advance(Duration::hours(100));
        assert_eq!(look(&kit).await, State::Paused, "until it is resumed");
    }
    kit.auth.rollout().resume(Actor::Operator, &why(WHY)).await.expect("resumed");
    assert_eq!(look(&kit).await, State::Running);
    set(&kit.auth, Change::Off).await;
    let rollout = kit.auth.rollout().status().await.expect("read").rollout.expect("there");
    assert_eq!(rollout.state, State::Aborted);
    assert_eq!(story(&kit).await, ["started", "paused", "resumed", "aborted"]);
    kit.clock.advance(Duration::hours(100));
    look(&kit).await;
    assert_eq!(flag(&kit), (0, 0, 0), "a plan that is over raises nothing");
}

/// The evaluator dies in the middle: whatever it had begun is not there, and the next look, by another, does it whole.
#[tokio::test]
async fn an_evaluator_killed_midway_has_changed_nothing() {
    let kit = under_way().await;
    let other = kit.second().await;
    kit.clock.advance(Duration::hours(73));
    // It waits for the flag's row, which this transaction holds, and is then cut off.
    let mut holding = kit.pool.begin().await.expect("begun");
    sqlx::query("select 1 from feature_flags for update").fetch_all(&mut *holding).await.expect("held");
    let killed = {
        let auth = kit.auth.clone();
        tokio::spawn(async move { auth.rollout().watch().await })
    };
    let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
    while kit.count(waits).await == 0 {
        tokio::task::yield_now().await;
    }
    killed.abort();
    assert!(killed.await.is_err_and(|error| error.is_cancelled()));
    holding.rollback().await.expect("released");

    other.rollout().watch().await.expect("looked");
    assert_eq!(flag(&kit), (0, 5, 0), "the slot was won by the one that died");
    kit.clock.advance(LOOK_EVERY);
    other.rollout().watch().await.expect("looked");
    kit.auth.flag().read().await.expect("read");
    assert_eq!(flag(&kit), (0, 5, 25), "and the next by another");
    assert_eq!(story(&kit).await, ["started", "moved"]);
}

#[tokio::test]
async fn many_that_look_at_once_move_it_once() {
    let kit = under_way().await;
    kit.clock.advance(Duration::hours(73));
    let mut looking = tokio::task::JoinSet::new();
    for n in 0..16 {
        let auth = if n % 2 == 0 { kit.auth.clone() } else { kit.second().await };
        looking.spawn(async move { auth.rollout().watch().await });
    }
    while let Some(looked) = looking.join_next().await {
        looked.expect("no panic").expect("looked");
    }
    assert_eq!(story(&kit).await, ["started", "moved"]);
}
