//! A database that falls silent in the middle of a question: it is no pooler, and keeps no server from its work nor from its end.

use std::{
    net::SocketAddr,
    str::FromStr as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use auth::operations::diagnostics::{self, Pooling};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use testkit::Database;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UnixStream},
    time::timeout,
};

use super::pgbouncer::{PATIENCE, url};
use crate::processes::Server;

/// In front of the cluster: passes everything on, but where a client has said `words` so many times before, nothing more of it.
async fn falls_silent(words: &'static str, before: usize, database: &Database) -> SocketAddr {
    in_front(words, move |asked| if asked < before { Duration::ZERO } else { Duration::MAX }, database).await
}

/// The same, but passes everything on in the end: what says `words` after so many others is late.
async fn is_late(words: &'static str, before: usize, by: Duration, database: &Database) -> SocketAddr {
    in_front(words, move |asked| if asked == before { by } else { Duration::ZERO }, database).await
}

/// `late`: by how much, after so many that said `words`.
async fn in_front(
    words: &'static str,
    late: impl Fn(usize) -> Duration + Copy + Send + 'static,
    database: &Database,
) -> SocketAddr {
    let cluster = PgConnectOptions::from_str(&database.url).expect("a URL");
    let socket = cluster.get_socket().expect("the cluster listens on one").join(format!(".s.PGSQL.{}", cluster.get_port()));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let at = listener.local_addr().expect("bound");
    let asked = Arc::<AtomicUsize>::default();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_cluster, mut to_cluster) = UnixStream::connect(&socket).await.expect("it runs").into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_cluster, &mut to_client).await });
            let asked = asked.clone();
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while let Ok(length @ 1..) = from_client.read(&mut bytes).await {
                    if String::from_utf8_lossy(&bytes[..length]).contains(words) {
                        tokio::time::sleep(late(asked.fetch_add(1, Ordering::SeqCst))).await;
                    }
                    let _ = to_cluster.write_all(&bytes[..length]).await;
                }
            });
        }
    });
    at
}

/// A worker waits for an answer that never comes: told to stop, the server ends all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_waits_for_ever_keeps_no_server_alive() {
    let database = Database::new().await;
    let at = falls_silent("update mail_outbox", 0, &database).await;
    let through = format!("postgres://latchkey_app@{at}/{}", database.name);
    let server = Server::start_with(&database, &[("DATABASE_URL", &through), ("MIGRATE_ON_START", "false")]).await;
    server.terminate();
    assert!(server.wait().await.success());
}

/// A pooler without another process lets one of two connections wait, a database that is slow both. Where a database that is slow was
/// taken for a pooler, `flag set --off` would be refused when it is needed most.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_answer_is_not_taken_for_a_pooler() {
    let database = Database::new().await;
    // Twice on one, once on the other; then the first one's answer doesn't come.
    let at = falls_silent("pg_backend_pid", 3, &database).await;
    let pool = PgPoolOptions::new().max_connections(2).connect(&url(&database, at)).await.expect("it answers so far");
    let found = timeout(PATIENCE, diagnostics::pooling(&pool)).await.expect("it gives up");
    assert!(found.is_err(), "{found:?}");
    // A machine that stands still for a while, or a packet that is lost, and the other connection is quick.
    let at = is_late("pg_backend_pid", 3, Duration::from_millis(3_500), &database).await;
    let pool = PgPoolOptions::new().max_connections(2).connect(&url(&database, at)).await.expect("it answers in the end");
    assert_eq!(diagnostics::pooling(&pool).await.expect("late once"), Pooling::Session);
    let at = falls_silent("pg_backend_pid", 25, &database).await;
    let pool = PgPoolOptions::new().max_connections(2).connect(&url(&database, at)).await.expect("it answers");
    assert_eq!(diagnostics::pooling(&pool).await.expect("three questions a round are enough"), Pooling::Session);
}

/// Behind a pooler the answer to a question may go to somebody else. Whoever waited for it would never serve.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_is_never_answered_keeps_no_server_from_its_work() {
    let database = Database::new().await;
    let through = url(&database, falls_silent("pg_backend_pid", 0, &database).await);
    let server = Server::start_with(&database, &[("DATABASE_URL", &through), ("MIGRATE_ON_START", "false")]).await;
    assert!(server.try_get("/login").await.expect("it answers").starts_with("HTTP/1.1 200"));
}
