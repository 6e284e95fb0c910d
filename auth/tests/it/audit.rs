//! The seal of the audit on a real PostgreSQL: what is sealed and when, and that each way of tampering with it is found. Whoever
//! tampers is the superuser here, with the triggers off: what keeps the application from it is tested in `migrations.rs`.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use auth::{
    Auth,
    audit::{About, AuditFilter, Finding, Format, Head, Kind, KnownHead, Problem, Verified},
    crypto::{Keys, new_id},
    identity::Actor,
    policy::Policy,
    primitives::cursor::Cursor,
    self_service::activity::Filter,
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool};
use testkit::{Kit, TEST_KEY, why};
use time::{Duration, OffsetDateTime, macros::datetime};
use tracing::{Dispatch, Event, Subscriber, field::Field, instrument::WithSubscriber as _};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt as _};
use uuid::Uuid;

/// The kit's clock stands here at first.
const TODAY: OffsetDateTime = datetime!(2026-11-24 14:29 UTC);

async fn insert(connection: impl sqlx::PgExecutor<'_>, at: OffsetDateTime) -> Uuid {
    let id = new_id(at);
    sqlx::query(
        "insert into auth_audit (id, created_at, event_type, user_id, ip, user_agent, request_id, details)
         values ($1, $2, 'session.created', gen_random_uuid(), '203.0.113.24', 'Firefox', 'r', '{\"level\": \"email\"}')",
    )
    .bind(id)
    .bind(at)
    .execute(connection)
    .await
    .expect("the application may add to the audit");
    id
}

async fn rows(pool: &PgPool, count: i64, at: OffsetDateTime) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(insert(pool, at + Duration::milliseconds(n)).await);
    }
    ids
}

/// Three batches of four rows each.
async fn three_batches(kit: &Kit) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.extend(rows(&kit.pool, 4, TODAY + Duration::minutes(n)).await);
        let sealed = kit.auth.audit().seal().await.expect("sealed");
        assert_eq!((sealed.batches, sealed.rows, sealed.waits), (1, 4, false));
    }
    ids
}

/// Seals as a server did at that time.
async fn sealed_at(kit: &Kit, at: OffsetDateTime) {
    let ahead = kit.auth.now() - at;
    kit.clock.advance(-ahead);
    assert!(kit.auth.audit().seal().await.expect("sealed").batches > 0);
    kit.clock.advance(ahead);
}

async fn seals(kit: &Kit) -> i64 {
    kit.count("select count(*) from auth_audit_seals").await
}

async fn verify(auth: &Auth) -> Verified {
    auth.audit().verify(None).await.expect("the database answers")
}

fn problems(verified: &Verified) -> Vec<Problem> {
    let mut problems: Vec<Problem> = verified.findings.iter().map(|finding| finding.problem).collect();
    problems.sort_unstable();
    problems.dedup();
    problems
}

async fn head(kit: &Kit) -> Head {
    kit.auth.audit().head().await.expect("answers").head.expect("something is sealed")
}

/// As the superuser, and without the triggers that refuse.
async fn tamper(kit: &Kit, statements: &[String]) {
    let mut connection = PgConnection::connect(&kit.database.owner_url).await.expect("connects");
    connection.execute("set session_replication_role = replica").await.expect("the superuser may");
    for statement in statements {
        let done = connection.execute(AssertSqlSafe(statement.clone())).await.expect("the statement runs");
        assert!(done.rows_affected() > 0, "nothing was tampered with: {statement}");
    }
}

#[tokio::test]
async fn what_happens_is_sealed_in_a_chain_that_verifies() {
    let kit = Kit::new().await;
    three_batches(&kit).await;
    let verified = verify(&kit.auth).await;
    assert_eq!((verified.batches, verified.rows, &verified.findings), (3, 12, &vec![]));
    assert_eq!(verified.head, Some(head(&kit).await));
    assert_eq!(head(&kit).await.number, 3);
    // Nothing new: no empty batch.
    assert_eq!(kit.auth.audit().seal().await.expect("sealed").batches, 0);
    // Over a month's end, each month has its own batch.
    rows(&kit.pool, 3, datetime!(2026-11-30 23:59:59.999 UTC)).await;
    assert_eq!(kit.auth.audit().seal().await.expect("sealed").batches, 2);
    assert_eq!(verify(&kit.auth).await.findings, []);
}

#[tokio::test]
async fn more_rows_than_a_batch_holds_make_several() {
    let kit = Kit::new().await;
    sqlx::query(
        "insert into auth_audit (id, created_at, event_type)
         select gen_random_uuid(), $1 + n * interval '1 millisecond', 'link.requested' from generate_series(1, 12000) n",
    )
    .bind(TODAY)
    .execute(&kit.pool)
    .await
    .expect("added");
    let sealed = kit.auth.audit().seal().await.expect("sealed");
    assert_eq!((sealed.batches, sealed.rows), (3, 12_000));
    let verified = verify(&kit.auth).await;
    assert_eq!((verified.rows, &verified.findings), (12_000, &vec![]));
    tamper(
        &kit,
        &["update auth_audit set details = '{\"x\": 1}' where position = (select max(position) - 5000 from auth_audit)".to_owned()],
    )
    .await;
    let verified = verify(&kit.auth).await;
    assert_eq!(problems(&verified), [Problem::RowChanged]);
    assert_eq!(verified.findings[0].batch, Some(2));
}

/// The application's role may add rows of 64 KiB: with thousands of them in one statement, PostgreSQL would print for longer than the
/// statement may last, each minute anew.
#[tokio::test]
async fn rows_of_any_size_are_sealed_verified_and_exported_in_small_pages() {
    let kit = Kit::new().await;
    sqlx::query(
        "insert into auth_audit (id, created_at, event_type, details)
         select gen_random_uuid(), $1 + n * interval '1 millisecond', 'link.requested', jsonb_build_object('a', repeat('x', 65000))
         from generate_series(1, 700) n",
    )
    .bind(TODAY)
    .execute(&kit.pool)
    .await
    .expect("the application may add to the audit");
    let read = MostRows::default();
    let dispatch: Dispatch = tracing_subscriber::registry().with(read.clone()).into();
    let _another = Dispatch::new(tracing_subscriber::registry());
    let most_rows = || read.0.swap(0, Ordering::Relaxed);
    let sealed = kit.auth.audit().seal().with_subscriber(dispatch.clone()).await.expect("sealed");
    assert_eq!(most_rows(), 100, "of one statement");
    assert_eq!((sealed.batches, sealed.rows), (3, 700), "a batch takes no page more from 16 MiB on");

    let verified = kit.auth.audit().verify(None).with_subscriber(dispatch.clone()).await.expect("the database answers");
    assert_eq!((verified.batches, verified.rows, &verified.findings), (3, 700, &vec![]));
    assert_eq!(most_rows(), 100);
    kit.clock.advance(Duration::minutes(1));
    let copy = whole(&kit, AuditFilter::default(), Format::JsonLines, usize::MAX).with_subscriber(dispatch).await;
    assert_eq!(copy.lines().filter(|line| line.contains("link.requested")).count(), 700);
    assert_eq!(most_rows(), 101, "with the one that says that there are more");
}

/// The most rows that a statement returned, in the task that waited for it.
#[derive(Clone, Default)]
struct MostRows(Arc<AtomicUsize>);

impl<S: Subscriber> Layer<S> for MostRows {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut |field: &Field, value: &dyn Debug| {
            if field.name() == "rows_returned" {
                self.0.fetch_max(format!("{value:?}").parse().expect("a number"), Ordering::Relaxed);
            }
        });
    }
}

#[tokio::test]
async fn a_changed_row_is_found_and_named_whichever_column_it_was() {
    for change in [
        "event_type = 'session.revoked'",
        "user_id = null",
        "actor_id = gen_random_uuid()",
        "ip = '203.0.113.25'",
        "user_agent = 'Safari'",
        "request_id = 's'",
        "details = '{\"level\": \"two_factor\"}'",
        "created_at = created_at + interval '1 microsecond'",
        "id = gen_random_uuid()",
    ] {
        let kit = Kit::new().await;
        let ids = three_batches(&kit).await;
        tamper(&kit, &[format!("update auth_audit set {change} where id = '{}'", ids[5])]).await;
        let verified = verify(&kit.auth).await;
        assert_eq!(problems(&verified), [Problem::RowChanged], "{change}");
        let Finding { batch, row, .. } = verified.findings[0];
        assert_eq!(batch, Some(2), "{change}");
        assert!(row == Some(ids[5]) || change.starts_with("id"), "{change}");
    }
}

#[tokio::test]
async fn a_row_that_is_gone_is_found_with_its_batch_and_time() {
    let kit = Kit::new().await;
    let ids = three_batches(&kit).await;
    tamper(&kit, &[format!("delete from auth_audit where id = '{}'", ids[5])]).await;
    let verified = verify(&kit.auth).await;
    assert_eq!(problems(&verified), [Problem::RowMissing]);
    let finding = &verified.findings[0];
    assert_eq!((finding.batch, finding.count), (Some(2), 1));
    assert_eq!(finding.from, Some(TODAY + Duration::minutes(1)));
}

#[tokio::test]
async fn a_row_put_in_afterwards_is_found_wherever_it_stands() {
    for (position, at) in [
        // With a number that another row has, or that nobody has, in a month that has batches or in one that has none.
        ("(select max(position) - 5 from auth_audit)", TODAY),
        ("(select max(position) - 5 from auth_audit)", datetime!(2025-03-01 0:00 UTC)),
        ("0", TODAY),
        ("-7", TODAY),
    ] {
        let kit = Kit::new().await;
        three_batches(&kit).await;
        let id = Uuid::from_u128(7);
        let at = at.unix_timestamp();
        let statement = format!(
            "insert into auth_audit (id, created_at, event_type, position) values ('{id}', to_timestamp({at}), 'x.y', {position})"
        );
        tamper(&kit, &[statement]).await;
        let verified = verify(&kit.auth).await;
        assert_eq!(problems(&verified), [Problem::RowInserted], "{position} {at}: {:?}", verified.findings);
        assert_eq!(verified.findings[0].row, Some(id), "{position} {at}");
    }
}

#[tokio::test]
async fn rows_that_changed_places_are_found() {
    let kit = Kit::new().await;
    let ids = three_batches(&kit).await;
    let (a, b) = (ids[4], ids[9]);
    tamper(
        &kit,
        &[format!(
            "update auth_audit x set position = y.position from auth_audit y
             where (x.id, y.id) in (('{a}', '{b}'), ('{b}', '{a}'))"
        )],
    )
    .await;
    let verified = verify(&kit.auth).await;
    assert_eq!(problems(&verified), [Problem::RowChanged]);
    let rows: Vec<Option<Uuid>> = verified.findings.iter().map(|finding| finding.row).collect();
    assert!(rows.contains(&Some(a)) && rows.contains(&Some(b)), "{rows:?}");
}

#[tokio::test]
async fn a_tail_that_was_cut_is_found_by_a_head_kept_elsewhere() {
    let kit = Kit::new().await;
    let ids = three_batches(&kit).await;
    let before = head(&kit).await;
    let known = KnownHead::parse(&format!("{}:{}", before.number, before.prefix())).expect("a head");
    assert_eq!(kit.auth.audit().verify(Some(&known)).await.expect("answers").findings, []);
    let gone: Vec<String> = ids[8..].iter().map(|id| format!("'{id}'")).collect();
    tamper(
        &kit,
        &[
            "delete from auth_audit_seals where number = 3".to_owned(),
            format!("delete from auth_audit where id in ({})", gone.join(", ")),
        ],
    )
    .await;
    assert_eq!(verify(&kit.auth).await.findings, [], "a shorter log is a log like any other");
    let cut = kit.auth.audit().verify(Some(&known)).await.expect("answers");
    assert_eq!(problems(&cut), [Problem::TailCut]);
    // And when the chain has grown again.
    rows(&kit.pool, 4, TODAY + Duration::minutes(3)).await;
    kit.auth.audit().seal().await.expect("sealed");
    assert_eq!(head(&kit).await.number, before.number);
    let grown = kit.auth.audit().verify(Some(&known)).await.expect("answers");
    assert_eq!(problems(&grown), [Problem::TailCut]);
}

#[tokio::test]
async fn batches_cut_off_without_their_rows_leave_rows_unsealed() {
    let kit = Kit::new().await;
    three_batches(&kit).await;
    tamper(&kit, &["delete from auth_audit_seals where number = 3".to_owned()]).await;
    kit.clock.advance(Duration::minutes(20));
    assert_eq!(problems(&verify(&kit.auth).await), [Problem::NotSealed]);
}

/// Whoever owns the schema takes the newest batches away, changes a row, and has a server seal it anew with the key.
#[tokio::test]
async fn rows_sealed_long_after_they_were_made_are_found_until_an_operator_accepts_them() {
    let kit = Kit::new().await;
    let ids = three_batches(&kit).await;
    let before = head(&kit).await;
    let rewrite = [
        format!("update auth_audit set user_agent = user_agent || '!' where id = '{}'", ids[9]),
        "delete from auth_audit_seals where number >= 3".to_owned(),
    ];
    tamper(&kit, &rewrite).await;
    // Still as soon as it may be: nothing but a head that was kept, or a process that has seen it, tells.
    kit.clock.advance(Duration::minutes(12));
    let at = TODAY + Duration::minutes(12);
    assert_eq!(kit.auth.audit().seal().await.expect("sealed").batches, 1);
    assert_eq!(verify(&kit.auth).await.findings, []);
    tamper(&kit, &rewrite).await;
    kit.clock.advance(Duration::SECOND);
    assert_eq!(kit.auth.audit().seal().await.expect("sealed").batches, 1);
    let late = Finding {
        problem: Problem::SealedLate,
        batch: Some(3),
        row: None,
        from: Some(TODAY + Duration::minutes(2)),
        to: Some(at + Duration::SECOND),
        count: 4,
    };
    assert_eq!(verify(&kit.auth).await.findings, std::slice::from_ref(&late));
    let known = KnownHead::parse(&before.to_string()).expect("a head");
    assert_eq!(
        problems(&kit.auth.audit().verify(Some(&known)).await.expect("answers")),
        [Problem::TailCut, Problem::SealedLate],
        "and a head that was kept tells that it was no lag"
    );
    // What comes in time afterwards changes nothing; a lag that goes on is one finding.
    rows(&kit.pool, 4, kit.auth.now()).await;
    kit.auth.audit().seal().await.expect("sealed");
    assert_eq!(verify(&kit.auth).await.findings, std::slice::from_ref(&late));
    kit.auth.audit().verify_daily().await.expect("verified");
    let found = kit.auth.audit().head().await.expect("answers").verified.expect("looked").findings;
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [("sealed_late".to_owned(), 1)]);

    // An operator knows why, and says so; the row that says it is sealed like any other.
    let (_, accepted) = kit.auth.audit().seal_by_hand(&why("the power failed at 06:00")).await.expect("accepted");
    let accepted = accepted.expect("one was late");
    assert_eq!((accepted.batches, accepted.rows, accepted.first_at), (1, 4, late.from));
    assert_eq!(verify(&kit.auth).await.findings, []);
    assert!(kit.auth.audit().head().await.expect("answers").verified.expect("still").findings.is_empty(), "nor is it told on");
    let recorded = "select count(*) from auth_audit where event_type = 'audit.accepted'
        and details @> '{\"by\": \"operator\", \"batches\": 1, \"rows\": 4, \"reason\": \"the power failed at 06:00\"}'";
    assert_eq!(kit.count(recorded).await, 1);
    let told = kit.auth.audit().report(TODAY).await.expect("answers");
    assert!(told.iter().any(|one| one.event.as_deref() == Some("audit.accepted")), "{told:?}");
    let all = seals(&kit).await;
    let (_, nothing) = kit.auth.audit().seal_by_hand(&why("again")).await.expect("answers");
    assert!(nothing.is_none() && seals(&kit).await == all + 1, "only that row is sealed: nothing is late");

    // Only what came before it is accepted: not what is sealed late next, nor anything once it is taken away as well.
    rows(&kit.pool, 2, kit.auth.now() - Duration::minutes(11)).await;
    kit.auth.audit().seal().await.expect("sealed");
    assert_eq!(problems(&verify(&kit.auth).await), [Problem::SealedLate]);
    tamper(&kit, &rewrite).await;
    kit.auth.audit().seal().await.expect("sealed");
    assert_eq!(problems(&verify(&kit.auth).await), [Problem::SealedLate]);
}

/// Only the key makes it so.
#[tokio::test]
async fn nobody_else_accepts_what_was_sealed_late() {
    let kit = Kit::new().await;
    three_batches(&kit).await;
    tamper(&kit, &["delete from auth_audit_seals where number >= 2".to_owned()]).await;
    kit.clock.advance(Duration::minutes(20));
    kit.auth.audit().seal().await.expect("sealed");
    rows(&kit.pool, 1, kit.auth.now()).await;
    kit.auth.audit().seal().await.expect("sealed");
    assert_eq!(problems(&verify(&kit.auth).await), [Problem::SealedLate]);
    tamper(&kit, &["update auth_audit_seals set kind = 'accepted' where number = 3".to_owned()]).await;
    assert!(problems(&verify(&kit.auth).await).contains(&Problem::BatchChanged), "a batch that says so by another's seal");
    tamper(&kit, &["delete from auth_audit_seals where number = 3".to_owned()]).await;
    let forger = Auth::new(kit.pool.clone(), Arc::new(kit.clock.clone()), Keys::new(&[66; 32], &[]), Policy::default());
    forger.audit().seal_by_hand(&why("mine")).await.expect("sealed");
    assert_eq!(problems(&verify(&kit.auth).await), [Problem::KeyMissing], "nor one that the key doesn't vouch for");
    rows(&kit.pool, 1, kit.auth.now()).await;
    kit.auth.audit().seal().await.expect("sealed");
    assert_eq!(problems(&verify(&kit.auth).await), [Problem::KeyMissing], "also when ours goes on from it");
}

/// Whoever owns the schema changes a row and takes all batches away.
#[tokio::test]
async fn a_chain_that_was_deleted_is_not_begun_anew() {
    let kit = Kit::new().await;
    let ids = three_batches(&kit).await;
    kit.clock.advance(Duration::minutes(11));
    tamper(
        &kit,
        &[
            format!("update auth_audit set user_agent = 'Safari' where id = '{}'", ids[5]),
            "delete from auth_audit_seals".to_owned(),
        ],
    )
    .await;
    rows(&kit.pool, 1, kit.auth.now()).await;
    let refused = kit.auth.audit().seal().await.expect("answers");
    assert_eq!((refused.batches, refused.no_chain), (0, true));
    kit.auth.audit().watch().await.expect("looked");
    kit.second().await.audit().seal_at_end().await.expect("looked");
    // Nor in passing, where a month's time is over.
    let old = TODAY - Duration::days(450);
    sqlx::query("select auth_audit_make_partition($1)").bind(old).execute(&kit.pool).await.expect("made");
    kit.auth.operations().housekeep().await.expect("tidied");
    assert_eq!(kit.count("select count(*) from pg_tables where tablename = 'auth_audit_202508'").await, 0, "it was dropped");
    assert_eq!(seals(&kit).await, 0);
    assert_eq!(problems(&verify(&kit.auth).await), [Problem::NotSealed]);

    // Until an operator begins one, and what was late for it is accepted with it.
    let (sealed, accepted) = kit.auth.audit().seal_by_hand(&why("compared with the backup")).await.expect("begun");
    assert_eq!((sealed.rows, accepted.expect("late").rows), (13, 13));
    assert_eq!(verify(&kit.auth).await.findings, []);
    rows(&kit.pool, 1, kit.auth.now()).await;
    assert!(!kit.auth.audit().seal().await.expect("sealed").no_chain, "and servers go on from it");
    assert_eq!(verify(&kit.auth).await.findings, []);
}

/// The rows that are left are as young as those of a new log.
#[tokio::test]
async fn a_log_that_was_emptied_with_its_chain_is_no_new_one() {
    let empty = ["delete from auth_audit_seals".to_owned(), "delete from auth_audit".to_owned()];
    let kit = Kit::new().await;
    three_batches(&kit).await;
    kit.auth.audit().watch().await.expect("seen");
    tamper(&kit, &empty).await;
    rows(&kit.pool, 1, kit.auth.now()).await;
    assert!(kit.auth.audit().seal().await.expect("answers").no_chain, "a process that has seen the chain knows");
    assert_eq!(seals(&kit).await, 0);

    let kit = Kit::new().await;
    three_batches(&kit).await;
    kit.auth.audit().verify_daily().await.expect("verified");
    tamper(&kit, &empty).await;
    rows(&kit.pool, 1, kit.auth.now()).await;
    assert!(kit.second().await.audit().seal().await.expect("answers").no_chain, "and so does what the verification left");
    assert_eq!(seals(&kit).await, 0);
}

/// One that a command with another key leaves behind would be nobody's.
#[tokio::test]
async fn a_process_that_ends_seals_what_it_leaves_but_under_no_other_key() {
    let kit = Kit::new().await;
    rows(&kit.pool, 2, kit.auth.now()).await;
    kit.auth.audit().seal_at_end().await.expect("sealed");
    rows(&kit.pool, 2, kit.auth.now()).await;
    kit.auth.audit().seal_at_end().await.expect("sealed");
    assert_eq!(seals(&kit).await, 2, "whatever the schedule says");
    rows(&kit.pool, 2, kit.auth.now()).await;
    let other = Auth::new(kit.pool.clone(), Arc::new(kit.clock.clone()), Keys::new(&[66; 32], &[]), Policy::default());
    other.audit().seal_at_end().await.expect("looked");
    assert_eq!(seals(&kit).await, 2);
    // The next start is a day later.
    kit.clock.advance(Duration::DAY);
    kit.auth.audit().seal().await.expect("sealed");
    assert_eq!(problems(&verify(&kit.auth).await), [Problem::SealedLate]);
}

/// The schedule remembers when it ran last, under a clock that was ahead.
#[tokio::test]
async fn a_clock_that_jumped_ahead_and_back_does_not_stop_the_seal() {
    let kit = Kit::new().await;
    kit.clock.advance(Duration::days(300));
    rows(&kit.pool, 1, kit.auth.now()).await;
    kit.auth.audit().watch().await.expect("sealed");
    kit.auth.audit().verify_daily().await.expect("verified");
    kit.clock.advance(-Duration::days(300));
    rows(&kit.pool, 1, kit.auth.now()).await;
    kit.auth.audit().watch().await.expect("sealed");
    assert_eq!(seals(&kit).await, 2);
    kit.auth.audit().verify_daily().await.expect("verified");
    assert_eq!(kit.auth.audit().head().await.expect("answers").verified.expect("again").head, 2);
    // One slot ahead is another server's, whose clock differs by a little.
    kit.clock.advance(-Duration::minutes(1));
    rows(&kit.pool, 1, kit.auth.now()).await;
    kit.auth.audit().watch().await.expect("looked");
    assert_eq!(seals(&kit).await, 2);
}

#[tokio::test]
async fn batches_that_were_touched_are_found() {
    for (statements, problem) in [
        (vec!["delete from auth_audit_seals where number = 2"], Problem::BatchMissing),
        (vec!["update auth_audit_seals set rows = 3 where number = 2"], Problem::BatchChanged),
        (vec!["update auth_audit_seals set month = '2026-10-01' where number = 2"], Problem::BatchChanged),
        (vec!["update auth_audit_seals set sealed_at = sealed_at + interval '1 s' where number = 2"], Problem::BatchChanged),
        (vec!["update auth_audit_seals set hash = sha256('x') where number = 2"], Problem::BatchChanged),
        (vec!["update auth_audit_seals set mac = sha256('x') where number = 3"], Problem::BatchChanged),
        // Two that changed places.
        (
            vec![
                "update auth_audit_seals set number = 99 where number = 1",
                "update auth_audit_seals set number = 1 where number = 2",
                "update auth_audit_seals set number = 2 where number = 99",
            ],
            Problem::BatchChanged,
        ),
    ] {
        let kit = Kit::new().await;
        three_batches(&kit).await;
        let owned: Vec<String> = statements.iter().map(|statement| (*statement).to_owned()).collect();
        tamper(&kit, &owned).await;
        let verified = verify(&kit.auth).await;
        assert!(problems(&verified).contains(&problem), "{statements:?}: {:?}", verified.findings);
    }
}

/// Who can write to the database can make a chain, but none that the key vouches for.
#[tokio::test]
async fn a_chain_made_anew_with_another_key_is_found() {
    let kit = Kit::new().await;
    let ids = three_batches(&kit).await;
    tamper(
        &kit,
        &[
            format!("update auth_audit set user_agent = 'Safari' where id = '{}'", ids[5]),
            "delete from auth_audit_seals".to_owned(),
        ],
    )
    .await;
    let policy = Policy { passwordless_auth: true, ..Policy::default() };
    let forger = Auth::new(kit.pool.clone(), Arc::new(kit.clock.clone()), Keys::new(&[66; 32], &[]), policy);
    forger.audit().seal().await.expect("sealed");
    assert_eq!(problems(&verify(&kit.auth).await), [Problem::KeyMissing]);
    // With the true key's name on it.
    let named = "update auth_audit_seals set key_id = (select key_id from auth_audit_seals limit 1)";
    let id = kit.auth.factors().key_status().await.expect("answers")[0].id.clone();
    tamper(&kit, &[named.replace("(select key_id from auth_audit_seals limit 1)", &format!("'{id}'"))]).await;
    assert!(problems(&verify(&kit.auth).await).contains(&Problem::BatchChanged));
}

/// What a server adds afterwards follows a chain that is not ours, and must not make it so.
#[tokio::test]
async fn what_somebody_else_made_stays_found_when_ours_goes_on_from_it() {
    let with = |kit: &Kit, current: &[u8; 32], previous: &[[u8; 32]]| {
        Auth::new(kit.pool.clone(), Arc::new(kit.clock.clone()), Keys::new(current, previous), Policy::default())
    };
    let old = TODAY - Duration::days(450);
    // The newest batch made anew over a row that was changed, or a month that is said to be gone by right.
    for (dropped, batch) in [(false, 4), (true, 5)] {
        let kit = Kit::new().await;
        sqlx::query("select auth_audit_make_partition($1)").bind(old).execute(&kit.pool).await.expect("made");
        rows(&kit.pool, 4, old).await;
        sealed_at(&kit, old).await;
        let ids = three_batches(&kit).await;
        let forger = with(&kit, &[66; 32], &[]);
        if dropped {
            forger.operations().housekeep().await.expect("tidied");
        } else {
            let change = format!("update auth_audit set user_agent = 'Safari' where id = '{}'", ids[9]);
            tamper(&kit, &[change, "delete from auth_audit_seals where number = 4".to_owned()]).await;
            forger.audit().seal().await.expect("sealed");
        }
        assert_eq!(kit.count("select count(*) from auth_audit where created_at < '2026-01-01'").await == 0, dropped);
        for n in 0..3 {
            let verified = verify(&kit.auth).await;
            assert_eq!(problems(&verified), [Problem::KeyMissing], "{dropped}, {n} later");
            assert_eq!((verified.findings[0].batch, verified.findings[0].count), (Some(batch), 1));
            rows(&kit.pool, 4, TODAY + Duration::minutes(5 + n)).await;
            assert_eq!(kit.auth.audit().seal().await.expect("sealed").batches, 1);
        }
        // Whoever has that key can say that it was theirs.
        assert_eq!(verify(&with(&kit, &TEST_KEY, &[[66; 32]])).await.findings, []);
        // Nor is it ours when the key that said so is dropped.
        rows(&kit.pool, 4, TODAY + Duration::minutes(9)).await;
        with(&kit, &[43; 32], &[TEST_KEY]).audit().seal().await.expect("sealed");
        assert_eq!(problems(&verify(&with(&kit, &[43; 32], &[])).await), [Problem::KeyMissing], "{dropped}");
    }
}

#[tokio::test]
async fn after_a_rotation_the_chain_goes_on_and_needs_the_old_key_no_more() {
    let kit = Kit::new().await;
    let ids = three_batches(&kit).await;
    let with = |previous: &[[u8; 32]]| {
        let policy = Policy { passwordless_auth: true, ..Policy::default() };
        Auth::new(kit.pool.clone(), Arc::new(kit.clock.clone()), Keys::new(&[43; 32], previous), policy)
    };
    let rotated = with(&[TEST_KEY]);
    assert_eq!(verify(&rotated).await.findings, []);
    assert_eq!(problems(&verify(&with(&[])).await), [Problem::KeyMissing], "nobody vouches for anything yet");
    rows(&kit.pool, 4, TODAY + Duration::minutes(3)).await;
    rotated.audit().seal().await.expect("sealed");
    assert_eq!(verify(&rotated).await.findings, []);
    let forgotten = with(&[]);
    assert_eq!(verify(&forgotten).await.findings, [], "the newest batch vouches for those before it");
    tamper(&kit, &[format!("update auth_audit set user_agent = 'Safari' where id = '{}'", ids[5])]).await;
    assert_eq!(problems(&verify(&forgotten).await), [Problem::RowChanged]);
}

/// Its number is less than that of rows that are there for all to see.
#[tokio::test]
async fn a_row_committed_late_is_waited_for_and_never_missed() {
    let kit = Kit::new().await;
    let mut late = kit.pool.begin().await.expect("begun");
    let id = insert(&mut *late, TODAY).await;
    rows(&kit.pool, 3, TODAY + Duration::seconds(1)).await;

    // While it lasts, nothing is sealed, or its row would come into a batch that is closed.
    let waiting = kit.auth.audit().seal().await.expect("answers");
    assert_eq!((waiting.batches, waiting.waits), (0, true));

    // A run that waits takes it in as soon as it is there.
    let auth = kit.auth.clone();
    let run = tokio::spawn(async move { auth.audit().seal().await });
    late.commit().await.expect("committed");
    let sealed = run.await.expect("no panic").expect("sealed");
    assert_eq!((sealed.rows, sealed.waits), (4, false));
    assert_eq!(verify(&kit.auth).await.findings, []);
    let position: i64 =
        sqlx::query_scalar("select position from auth_audit where id = $1").bind(id).fetch_one(&kit.pool).await.expect("there");
    assert_eq!(kit.count("select min(position) from auth_audit").await, position, "it was first, and came last");
}

/// Numbers of what was rolled back are nobody's, and nobody waits for them.
#[tokio::test]
async fn a_row_that_never_came_is_not_missed() {
    let kit = Kit::new().await;
    let mut never = kit.pool.begin().await.expect("begun");
    insert(&mut *never, TODAY).await;
    rows(&kit.pool, 3, TODAY).await;
    never.rollback().await.expect("rolled back");
    assert_eq!(kit.auth.audit().seal().await.expect("sealed").rows, 3);
    assert_eq!(verify(&kit.auth).await.findings, []);
}

/// Under load, with several servers that seal at once.
#[tokio::test]
async fn whatever_comes_while_several_seal_is_sealed_once() {
    let kit = Arc::new(Kit::new().await);
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..6 {
        let kit = kit.clone();
        tasks.spawn(async move {
            for n in 0..40 {
                let mut transaction = kit.pool.begin().await.expect("begun");
                insert(&mut *transaction, TODAY + Duration::milliseconds(n)).await;
                insert(&mut *transaction, TODAY + Duration::milliseconds(n)).await;
                if (n + writer) % 5 == 0 {
                    transaction.rollback().await.expect("rolled back");
                } else {
                    transaction.commit().await.expect("committed");
                }
            }
        });
    }
    for _ in 0..2 {
        let kit = kit.clone();
        tasks.spawn(async move {
            for _ in 0..20 {
                kit.auth.audit().seal().await.expect("sealed");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
    kit.auth.audit().seal().await.expect("sealed");
    let verified = verify(&kit.auth).await;
    assert_eq!((verified.rows, verified.findings), (6 * 32 * 2, vec![]));
    assert_eq!(kit.count("select sum(rows)::bigint from auth_audit_seals").await, 6 * 32 * 2);
}

/// Those of before migration 024 have no number.
#[tokio::test]
async fn rows_older_than_numbers_are_sealed_first_and_by_their_time() {
    let kit = Kit::new().await;
    sqlx::query(
        "insert into auth_audit (id, created_at, event_type, position)
         select gen_random_uuid(), $1 - (n % 40) * interval '1 day' + n * interval '1 millisecond', 'link.requested', 0
         from generate_series(1, 7000) n",
    )
    .bind(TODAY)
    .execute(&kit.database.owner().await)
    .await
    .expect("added");
    rows(&kit.pool, 3, TODAY).await;
    assert!(
        kit.auth.audit().seal().await.expect("answers").no_chain,
        "on purpose, or whoever deletes a chain has rows sealed anew"
    );
    let (sealed, accepted) = kit.auth.audit().seal_by_hand(&why("upgraded")).await.expect("begun");
    assert_eq!((sealed.rows, accepted.expect("they are old").rows), (7_003, 7_000));
    let verified = verify(&kit.auth).await;
    assert_eq!((verified.rows, &verified.findings), (7_003, &vec![]));

    let some = "(select id from auth_audit where position = 0 order by created_at, id offset 6000 limit 1)";
    tamper(&kit, &[format!("update auth_audit set user_agent = 'x' where id = {some}")]).await;
    assert_eq!(problems(&verify(&kit.auth).await), [Problem::RowChanged]);
}

#[tokio::test]
async fn a_month_that_retention_dropped_is_no_gap_and_one_that_somebody_dropped_is() {
    let kit = Kit::new().await;
    let (old, older) = (datetime!(2025-03-10 9:00 UTC), datetime!(2025-02-10 9:00 UTC));
    for month in [older, old] {
        sqlx::query("select auth_audit_make_partition($1)").bind(month).execute(&kit.pool).await.expect("made");
        rows(&kit.pool, 4, month).await;
        sealed_at(&kit, month).await;
    }
    rows(&kit.pool, 4, TODAY).await;
    kit.auth.audit().seal().await.expect("sealed");
    assert_eq!(verify(&kit.auth).await.findings, []);

    // The schedule drops what is older than 400 days on this clock: both months.
    kit.auth.operations().housekeep().await.expect("tidied");
    assert_eq!(kit.count("select count(*) from auth_audit where created_at < '2026-01-01'").await, 0, "the months are gone");
    assert_eq!(kit.count("select count(*) from auth_audit_seals where kind = 'dropped'").await, 2);
    let verified = verify(&kit.auth).await;
    assert_eq!((verified.batches, &verified.findings), (5, &vec![]));
    kit.clock.advance(Duration::minutes(1));
    rows(&kit.pool, 4, TODAY + Duration::minutes(1)).await;
    kit.auth.audit().seal().await.expect("sealed");
    assert_eq!(verify(&kit.auth).await.findings, [], "the chain goes on");

    // A row of a month that is over can't come back.
    let at = old.unix_timestamp();
    tamper(
        &kit,
        &[format!("insert into auth_audit (id, created_at, event_type) values (gen_random_uuid(), to_timestamp({at}), 'x.y')")],
    )
    .await;
    kit.auth.audit().seal().await.expect("sealed");
    assert_eq!(problems(&verify(&kit.auth).await), [Problem::RowInserted, Problem::SealedLate]);

    // The word that the months were dropped by right is itself in the chain.
    tamper(&kit, &["delete from auth_audit_seals where kind = 'dropped'".to_owned()]).await;
    let without = problems(&verify(&kit.auth).await);
    assert!(without.contains(&Problem::BatchMissing) && without.contains(&Problem::MonthMissing), "{without:?}");
}

#[tokio::test]
async fn a_month_that_somebody_dropped_is_found() {
    let kit = Kit::new().await;
    sqlx::query("select auth_audit_make_partition($1)").bind(TODAY).execute(&kit.pool).await.expect("made");
    three_batches(&kit).await;
    rows(&kit.pool, 4, TODAY + Duration::days(10)).await;
    kit.auth.audit().seal().await.expect("sealed");
    let owner = kit.database.owner().await;
    sqlx::query("drop table auth_audit_202611").execute(&owner).await.expect("dropped");
    let verified = verify(&kit.auth).await;
    assert_eq!(problems(&verified), [Problem::MonthMissing]);
    assert_eq!((verified.findings[0].count, verified.findings[0].batch), (12, Some(1)));
    // What stands beside the chain says nothing.
    let beside = "insert into auth_audit_seals select (jsonb_populate_record(seal, '{\"number\": -1, \"kind\": \"dropped\"}')).*
                  from auth_audit_seals seal where number = 1";
    tamper(&kit, &[beside.to_owned()]).await;
    assert_eq!(problems(&verify(&kit.auth).await), [Problem::MonthMissing]);
}

/// Somebody has taken the last number there is.
#[tokio::test]
async fn a_chain_that_can_not_go_on_says_so() {
    let kit = Kit::new().await;
    three_batches(&kit).await;
    let last = "insert into auth_audit_seals select (jsonb_populate_record(seal, '{\"number\": 9223372036854775807}')).*
                from auth_audit_seals seal where number = 3";
    tamper(&kit, &[last.to_owned()]).await;
    assert!(problems(&verify(&kit.auth).await).contains(&Problem::BatchMissing));
    rows(&kit.pool, 4, TODAY + Duration::minutes(3)).await;
    assert!(kit.auth.audit().seal().await.is_err());
}

/// How often it was logged, in the task that logs.
#[derive(Clone, Default)]
struct NotOurs(Arc<AtomicUsize>);

impl<S: Subscriber> Layer<S> for NotOurs {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        event.record(&mut |_: &Field, value: &dyn Debug| {
            if format!("{value:?}").starts_with("audit.not_ours") {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

/// The application's role may add batches: one that ends past all rows leaves nothing to seal, for ever.
#[tokio::test]
async fn a_batch_that_ends_past_all_rows_does_not_end_sealing_in_silence() {
    let kit = Kit::new().await;
    three_batches(&kit).await;
    let logged = NotOurs::default();
    let dispatch: Dispatch = tracing_subscriber::registry().with(logged.clone()).into();
    // With two subscribers `tracing` asks each whether it listens, whatever thread comes first.
    let _another = Dispatch::new(tracing_subscriber::registry());
    let seal = async || {
        let sealed = kit.auth.audit().seal().with_subscriber(dispatch.clone()).await.expect("answers");
        (sealed.batches, logged.0.swap(0, Ordering::Relaxed))
    };
    assert_eq!(seal().await, (0, 0), "all is sealed, by us");
    // With a hash and a MAC that are ours, of another batch.
    let copy = "insert into auth_audit_seals
                select (jsonb_populate_record(seal, '{\"number\": 4, \"to_position\": 9223372036854775807}')).*
                from auth_audit_seals seal where number = 3";
    sqlx::query(copy).execute(&kit.pool).await.expect("the application may");
    rows(&kit.pool, 4, TODAY + Duration::minutes(3)).await;
    assert_eq!(seal().await, (0, 1));
    assert!(problems(&verify(&kit.auth).await).contains(&Problem::BatchChanged));
}

/// Sequences go with a dump; transaction ids would begin anew.
#[tokio::test]
async fn a_dump_restored_into_another_cluster_verifies_and_is_sealed_on() {
    let kit = Kit::new().await;
    three_batches(&kit).await;
    rows(&kit.pool, 2, TODAY + Duration::minutes(3)).await;

    let dir = std::env::temp_dir().join(format!("latchkey-restore-{}", new_id(TODAY)));
    let settings = private_postgres::Settings {
        data_dir: dir.clone(),
        bin_dir: None,
        search_path: None,
        durable: false,
        lifetime: private_postgres::Lifetime::DiesWithParent,
        max_connections: 20,
    };
    let cluster = private_postgres::start(&settings).expect("another cluster starts");
    let url = cluster.url(private_postgres::OWNER, private_postgres::DATABASE);
    let dump =
        std::process::Command::new("pg_dump").args(["--no-privileges", &kit.database.owner_url]).output().expect("pg_dump runs");
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let file = dir.join("dump.sql");
    std::fs::write(&file, &dump.stdout).expect("written");
    let restore = std::process::Command::new("psql")
        .args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--file"])
        .arg(&file)
        .arg(&url)
        .output()
        .expect("psql runs");
    assert!(restore.status.success(), "{}", String::from_utf8_lossy(&restore.stderr));

    let pool = PgPool::connect(&url).await.expect("answers");
    let restored = Auth::new(pool.clone(), Arc::new(kit.clock.clone()), Keys::new(&TEST_KEY, &[]), kit.auth.policy().clone());
    assert_eq!(verify(&restored).await.findings, []);
    rows(&pool, 2, TODAY + Duration::minutes(4)).await;
    assert_eq!(restored.audit().seal().await.expect("sealed").rows, 4, "what the dump had unsealed, and what came since");
    let verified = verify(&restored).await;
    assert_eq!((verified.rows, &verified.findings), (16, &vec![]));
    pool.close().await;
    drop(cluster);
    let _ = std::fs::remove_dir_all(dir);
}

#[tokio::test]
async fn the_schedule_seals_each_minute_and_verifies_each_day() {
    let kit = Kit::new().await;
    let ids = rows(&kit.pool, 4, kit.auth.now()).await;
    kit.auth.audit().watch().await.expect("sealed");
    assert_eq!(head(&kit).await.number, 1);
    rows(&kit.pool, 4, kit.auth.now()).await;
    kit.auth.audit().watch().await.expect("looked");
    assert_eq!(head(&kit).await.number, 1, "not twice in a minute");
    kit.clock.advance(Duration::minutes(1));
    kit.second().await.audit().watch().await.expect("sealed");
    assert_eq!(head(&kit).await.number, 2, "by whichever server comes first");

    let mut owner = PgConnection::connect(&kit.database.owner_url).await.expect("connects");
    owner.execute("alter table auth_audit_seals rename to elsewhere").await.expect("renamed");
    kit.auth.audit().verify_daily().await.expect_err("can't be read");
    owner.execute("alter table elsewhere rename to auth_audit_seals").await.expect("renamed");
    kit.auth.audit().verify_daily().await.expect("not due");
    assert!(kit.auth.audit().head().await.expect("answers").verified.is_none());
    kit.clock.advance(Duration::hours(1));
    kit.auth.audit().verify_daily().await.expect("verified");
    let last = kit.auth.audit().head().await.expect("answers").verified.expect("made up for");
    assert!(last.findings.is_empty() && last.head == 2 && last.rows == 8, "{last:?}");
    tamper(&kit, &[format!("delete from auth_audit where id = '{}'", ids[0])]).await;
    kit.clock.advance(Duration::hours(23));
    kit.auth.audit().verify_daily().await.expect("not due");
    kit.clock.advance(Duration::hours(1));
    kit.auth.audit().verify_daily().await.expect("verified");
    let last = kit.auth.audit().head().await.expect("answers").verified.expect("again");
    assert_eq!(last.findings.get("row_missing"), Some(&1));
    assert_eq!(kit.count("select count(*) from auth_audit where event_type = 'audit.tampered'").await, 1);

    // The application's role says that all is well, or nothing at all.
    for said in ["update audit_verification set findings = '{}', at = at + interval '1 minute'", "delete from audit_verification"] {
        sqlx::query(said).execute(&kit.pool).await.expect("it may");
        let last = kit.auth.audit().head().await.expect("answers").verified.expect("seen");
        assert_eq!(last.findings.get("row_missing"), Some(&1), "{said}");
        let started = kit.second().await;
        assert!(started.audit().head().await.expect("answers").verified.is_none(), "{said}: nobody vouches for it");
        kit.clock.advance(Duration::hours(1));
        started.audit().verify_daily().await.expect("due at once");
        let last = started.audit().head().await.expect("answers").verified.expect("verified");
        assert_eq!(last.findings.get("row_missing"), Some(&1), "{said}");
    }
}

#[tokio::test]
async fn every_column_of_the_log_is_under_the_seal() {
    let kit = Kit::new().await;
    let columns: Vec<String> = sqlx::query_scalar(
        "select column_name::text from information_schema.columns where table_name = 'auth_audit' order by ordinal_position",
    )
    .fetch_all(&kit.pool)
    .await
    .expect("can be read");
    let hashed = ["id", "created_at", "event_type", "user_id", "actor_id", "ip", "user_agent", "request_id", "details", "position"];
    assert_eq!(columns, hashed, "a column that is not hashed can be changed unseen: Row::hash, under another version");
}

#[tokio::test]
async fn a_list_is_narrowed_by_account_network_and_request_in_both_directions() {
    let kit = Kit::new().await;
    let (mara, priya) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let request = new_id(TODAY + Duration::minutes(7)).to_string();
    for n in 0..12_i64 {
        let (user, actor) = if n % 3 == 0 { (mara, Some(priya)) } else { (priya, None) };
        sqlx::query(
            "insert into auth_audit (id, created_at, event_type, user_id, actor_id, ip, request_id) values ($1, $2, $3, $4, $5, $6::inet, $7)",
        )
        .bind(new_id(TODAY + Duration::minutes(n)))
        .bind(TODAY + Duration::minutes(n))
        .bind(["user.viewed", "session.created", "totp.refused", "link.redeemed"][usize::try_from(n % 4).expect("small")])
        .bind(user)
        .bind(actor)
        .bind(if n % 2 == 0 { "203.0.113.24" } else { "2001:db8::7" })
        .bind((n == 7).then_some(&request))
        .execute(&kit.pool)
        .await
        .expect("added");
    }
    let minutes = async |filter: AuditFilter| {
        let whole = kit.auth.audit().page(&filter, None, 100).await.expect("answers");
        // In pages of two, there and back again.
        let (mut at, mut there) = (None, Vec::new());
        loop {
            let page = kit.auth.audit().page(&filter, at, 2).await.expect("answers");
            there.extend(page.rows.clone());
            let Some(older) = page.older else { break };
            at = Some(older);
        }
        assert_eq!(there, whole.rows);
        if let Some(last) = whole.rows.last() {
            let mut back = Vec::new();
            let from = kit.auth.audit().page(&filter, at, 2).await.expect("answers");
            let mut newer: Option<Cursor> = from.newer;
            back.extend(from.rows.into_iter().rev());
            while let Some(cursor) = newer {
                let page = kit.auth.audit().page(&filter, Some(cursor), 2).await.expect("answers");
                back.extend(page.rows.into_iter().rev());
                newer = page.newer;
            }
            back.reverse();
            assert_eq!(back.last(), Some(last));
            assert_eq!(back, whole.rows);
        }
        whole.rows.iter().map(|row| (row.at - TODAY).whole_minutes()).collect::<Vec<_>>()
    };
    let about = |about| AuditFilter { about: Some(about), ..AuditFilter::default() };
    assert_eq!(minutes(AuditFilter::default()).await, (0..12).rev().collect::<Vec<_>>());
    assert_eq!(minutes(about(About::User(mara))).await, [9, 6, 3, 0]);
    assert_eq!(minutes(about(About::User(priya))).await, [11, 10, 8, 7, 5, 4, 2, 1]);
    assert_eq!(minutes(about(About::Person(priya))).await, (0..12).rev().collect::<Vec<_>>());
    assert_eq!(minutes(about(About::Ip("2001:db8::7".parse().expect("an address")))).await, [11, 9, 7, 5, 3, 1]);
    assert_eq!(minutes(about(About::Request(request))).await, [7]);
    let events = vec!["user.viewed".to_owned(), "totp.refused".to_owned()];
    assert_eq!(minutes(AuditFilter { events: events.clone(), ..AuditFilter::default() }).await, [10, 8, 6, 4, 2, 0]);
    assert_eq!(minutes(AuditFilter { events, ..about(About::Person(mara)) }).await, [6, 0]);
    let span = AuditFilter {
        since: Some(TODAY + Duration::minutes(2)),
        until: Some(TODAY + Duration::minutes(5)),
        ..AuditFilter::default()
    };
    assert_eq!(minutes(span).await, [4, 3, 2]);
}

/// The database takes numbers that no program reads, and details of any shape: one row of that kind would end every page, export and
/// gauge that comes across it.
#[tokio::test]
async fn a_row_that_somebody_wrote_by_hand_breaks_no_reader() {
    let kit = Kit::new().await;
    let user = Uuid::from_u128(1);
    for (event, details) in [
        ("session.created", r#"{"level": 1e400}"#),
        ("link.refused", r#"{"link": "no id", "reason": "wrong_code"}"#),
        ("link.refused", "[1e400]"),
    ] {
        sqlx::query("insert into auth_audit (id, created_at, event_type, user_id, details) values ($1, $2, $3, $4, $5::jsonb)")
            .bind(new_id(TODAY - Duration::minutes(1)))
            .bind(TODAY - Duration::minutes(1))
            .bind(event)
            .bind(user)
            .bind(details)
            .execute(&kit.pool)
            .await
            .expect("the application may add to the audit");
    }
    let page = kit.auth.audit().page(&AuditFilter::default(), None, 10).await.expect("answers");
    assert_eq!(page.rows.len(), 3);
    assert!(page.rows.iter().any(|row| row.details.as_str().is_some_and(|text| text.starts_with(r#"{"level": 1000"#))));
    assert_eq!(whole(&kit, AuditFilter::default(), Format::JsonLines, 10).await.matches("session.created").count(), 1);
    let activity = kit.auth.self_service().activity(user, Filter::All, None).await.expect("answers");
    assert_eq!(activity.rows.len(), 1);
    kit.auth.reporting().publish_gauges().await.expect("answers");
}

async fn whole(kit: &Kit, filter: AuditFilter, format: Format, most: usize) -> String {
    let mut export = kit.auth.audit().export(Actor::Operator, filter, format, most).await.expect("an operator may");
    let mut text = String::new();
    while let Some(piece) = kit.auth.audit().next_of_export(&mut export).await.expect("the database answers") {
        text.push_str(&piece);
    }
    text
}

#[tokio::test]
async fn an_export_is_whole_in_order_and_recorded_before_it_begins() {
    let kit = Kit::new().await;
    sqlx::query(
        "insert into auth_audit (id, created_at, event_type, user_agent, details)
         select gen_random_uuid(), $1 - n * interval '1 second', 'link.requested', '=cmd|'' /C calc''!A0', '{\"a\": \"x,y\"}'
         from generate_series(1, 2500) n",
    )
    .bind(TODAY)
    .execute(&kit.pool)
    .await
    .expect("added");
    let lines = whole(&kit, AuditFilter::default(), Format::JsonLines, usize::MAX).await;
    let rows: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    assert_eq!(rows.len(), 2_500);
    let times: Vec<&str> = rows.iter().map(|row| row["created_at"].as_str().expect("a time")).collect();
    assert!(times.is_sorted() && rows[0]["details"]["a"] == "x,y");
    let recorded = "select count(*) from auth_audit where event_type = 'audit.exported' and details->>'by' = 'operator'";
    assert_eq!(kit.count(recorded).await, 1);

    let table = whole(&kit, AuditFilter::default(), Format::Csv, usize::MAX).await;
    let rows: Vec<&str> = table.split("\r\n").collect();
    assert_eq!(
        rows.len(),
        2_500 + 2,
        "the header, and nothing after the last line's end: what happens as a copy begins is not in it"
    );
    assert!(rows[1].contains(",link.requested,") && rows[1].contains(",'=cmd|"), "{}", rows[1]);
    assert!(rows[1].ends_with(r#""{""a"":""x,y""}""#), "{}", rows[1]);

    let span = AuditFilter {
        since: Some(TODAY - Duration::seconds(20)),
        until: Some(TODAY - Duration::seconds(10)),
        ..AuditFilter::default()
    };
    assert_eq!(whole(&kit, span, Format::JsonLines, usize::MAX).await.lines().count(), 10);
}

#[tokio::test]
async fn an_export_that_was_cut_says_so_and_one_that_just_fits_does_not() {
    let kit = Kit::new().await;
    sqlx::query(
        "insert into auth_audit (id, created_at, event_type)
         select gen_random_uuid(), $1 - n * interval '1 second', 'link.requested' from generate_series(1, 2000) n",
    )
    .bind(TODAY)
    .execute(&kit.pool)
    .await
    .expect("added");
    let only = || AuditFilter { events: vec!["link.requested".to_owned()], ..AuditFilter::default() };
    for (most, rows, cut) in
        [(2_000, 2_000, false), (1_999, 1_999, true), (1_000, 1_000, true), (7, 7, true), (5_000, 2_000, false)]
    {
        let text = whole(&kit, only(), Format::JsonLines, most).await;
        assert_eq!(text.lines().filter(|line| line.contains("link.requested")).count(), rows, "{most}");
        assert_eq!(text.contains("\"cut\":true"), cut, "{most}");
    }
}

#[tokio::test]
async fn the_report_points_out_guessing_replays_and_acts() {
    let kit = Kit::new().await;
    let (mara, priya) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let add = async |event: &str, user: Option<Uuid>, ip: &str, details: serde_json::Value| {
        sqlx::query(
            "insert into auth_audit (id, created_at, event_type, user_id, ip, details) values ($1, $2, $3, $4, $5::inet, $6)",
        )
        .bind(new_id(TODAY))
        .bind(TODAY)
        .bind(event)
        .bind(user)
        .bind(ip)
        .bind(details)
        .execute(&kit.pool)
        .await
        .expect("added");
    };
    for n in 0..12 {
        add("totp.refused", Some(mara), &format!("198.51.100.{n}"), serde_json::json!({ "reason": "wrong" })).await;
    }
    for n in 0..6_u128 {
        add("backup_code.refused", Some(Uuid::from_u128(100 + n)), "203.0.113.24", serde_json::json!({ "reason": "wrong" })).await;
    }
    for _ in 0..3 {
        add("link.refused", None, "203.0.113.99", serde_json::json!({ "link": "l", "reason": "used" })).await;
    }
    add("two_factor.reset", Some(priya), "203.0.113.1", serde_json::json!({ "by": "admin", "reason": "Ticket 4821" })).await;
    add("sessions.ended", None, "203.0.113.1", serde_json::json!({ "by": "operator", "reason": "restore" })).await;
    // What happened before the time that was asked about.
    let found = kit.auth.audit().report(TODAY - Duration::DAY).await.expect("answers");
    let told: Vec<(Kind, Option<Uuid>, Option<String>)> =
        found.iter().map(|one| (one.kind, one.user, one.ip.map(|ip| ip.to_string()))).collect();
    assert_eq!(
        told,
        [
            (Kind::ManyFailures, Some(mara), None),
            (Kind::ManyAccounts, None, Some("203.0.113.24".to_owned())),
            (Kind::Replays, None, Some("203.0.113.99".to_owned())),
            (Kind::TwoFactorReset, Some(priya), None),
            (Kind::AtTheShell, None, None),
        ]
    );
    assert_eq!(found[3].reason.as_deref(), Some("Ticket 4821"));
    assert_eq!(kit.auth.audit().report(TODAY + Duration::SECOND).await.expect("answers"), []);
}
