//! A server killed at every step of sending a mail: the mail arrives, twice at most, and both times the same.

use std::time::Duration;

use sqlx::PgPool;
use testkit::{Act, Browser, Database, Fault, SmtpSink, Stage};

use super::mail_faults::Tries;
use crate::processes::{ORIGIN, Server};

/// Where in the life of a mail its server is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    /// The browser was told that it is on its way, and nothing more is known.
    Asked,
    /// The mail server was to answer this.
    At(Stage),
    /// The mail server has said yes, and the row doesn't know yet.
    SaidYes,
}

const POINTS: [Point; 9] = [
    Point::Asked,
    Point::At(Stage::Greeting),
    Point::At(Stage::Ehlo),
    Point::At(Stage::Mail),
    Point::At(Stage::Rcpt),
    Point::At(Stage::Data),
    Point::At(Stage::Midway),
    Point::At(Stage::Taken),
    Point::SaidYes,
];
const KILLS: usize = 20;

async fn start(database: &Database, sink: &SmtpSink) -> Server {
    Server::start(database, sink, "off").await
}

async fn ask(server: &Server, email: &str) {
    let answer = Browser::new(server.address, ORIGIN).post("/login", &[("email", email)]).await;
    assert_eq!(answer.location(), "/login/sent", "{email}");
}

/// Has `server` get so far with a mail to `email`, and kills it there. `next` is another server, or starts one: while the first
/// lives, the lease is the only thing between it and the mail.
async fn killed(
    point: Point,
    server: Server,
    email: &str,
    pool: &PgPool,
    sink: &SmtpSink,
    next: impl AsyncFnOnce() -> Server,
) -> Server {
    match point {
        Point::Asked => {
            ask(&server, email).await;
            drop(server);
            next().await
        }
        Point::At(stage) => {
            sink.play(Fault::new(stage, Act::Silence).times(1));
            ask(&server, email).await;
            sink.fallen_silent(1).await;
            let next = next().await;
            assert_eq!(sink.silent(), 1, "{point:?}: nobody else took it");
            drop(server);
            sink.fallen_silent(0).await;
            next
        }
        Point::SaidYes => {
            // Its answer comes late enough for the row to be held, so that what the answer means can't be written down.
            sink.play(Fault::new(Stage::Taken, Act::Late(Duration::from_millis(500))).times(1));
            ask(&server, email).await;
            sink.nth_to(email, 1).await;
            let mut held = pool.begin().await.expect("begun");
            sqlx::query("select 1 from mail_outbox for update").execute(&mut *held).await.expect("held");
            let waits = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' \
                         and query ilike '%settled_at%'";
            let settling = async { while sqlx::query_scalar::<_, i64>(waits).fetch_one(pool).await.expect("counted") == 0 {} };
            tokio::time::timeout(Duration::from_secs(10), settling).await.expect("it would settle the row now");
            drop(server);
            held.rollback().await.expect("let go");
            next().await
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_a_mail_arrives_and_twice_at_most() {
    let (database, sink) = (Database::new().await, SmtpSink::start().await);
    let pool = database.pool_of(4).await;
    let mut server = start(&database, &sink).await;
    let tries = Tries::of(&database).await;
    // Every mail has a conversation of its own, from the greeting on.
    sink.play(Fault::new(Stage::Noop, Act::HangUp));
    for (n, point) in POINTS.into_iter().cycle().take(KILLS).enumerate() {
        let email = format!("killed{n}@example.org");
        server = killed(point, server, &email, &pool, &sink, async || start(&database, &sink).await).await;
        // Fifteen seconds later.
        let moved = "update mail_outbox set lease_until = now() - interval '1 second', run_at = least(run_at, now()) \
                     where state = 'queued'";
        sqlx::query(moved).execute(&pool).await.expect("moved");
        // A mail of its own wakes the worker sooner than its clock does.
        let other = format!("woken{n}@example.org");
        ask(&server, &other).await;

        let copies = match point {
            Point::Asked => 1..=2,
            Point::At(Stage::Taken) | Point::SaidYes => 2..=2,
            Point::At(_) => 1..=1,
        };
        // Whoever was killed has settled nothing.
        for email in [&email, &other] {
            let settled = tries.nth(email, 1).await;
            assert_eq!((settled.state.as_str(), settled.error), ("sent", None), "{point:?}");
        }
        let arrived = sink.all_to(&email);
        assert!(copies.contains(&arrived.len()), "{point:?}: {} copies", arrived.len());
        assert!(arrived.iter().all(|copy| copy.identity() == arrived[0].identity()), "{point:?}");
        assert_eq!(sink.all_to(&other).len(), 1, "{point:?}");
    }
    let rows: i64 = sqlx::query_scalar("select count(*) from mail_outbox where state = 'sent' and lease_until is null")
        .fetch_one(&pool)
        .await
        .expect("counted");
    assert_eq!(usize::try_from(rows), Ok(2 * KILLS));
}
