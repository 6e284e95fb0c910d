//! The system's clock, set by the database's.

use auth::primitives::clock::SystemClock;
use testkit::Database;
use time::Duration;

#[tokio::test]
async fn waiting_for_a_connection_does_not_move_the_clock() {
    let database = Database::new().await;
    let pool = database.pool_of(1).await;
    let clock = SystemClock::new();
    clock.sync(&pool).await.expect("the database answers");
    let mut taken = pool.acquire().await.expect("the only one");
    let busy = async {
        sqlx::query("select pg_sleep(1)").execute(&mut *taken).await.expect("the database answers");
        drop(taken);
    };
    let (off, ()) = tokio::join!(clock.sync(&pool), busy);
    let off = off.expect("the database answers");
    assert!(off.abs() < Duration::milliseconds(250), "{off}");
}
