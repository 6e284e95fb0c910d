use std::collections::HashMap;

use sqlx::PgPool;
use time::{Duration, OffsetDateTime};

use super::NetworkRequests;
use crate::primitives::statement::Statement as _;

/// Adds what was counted to the minute it is now.
pub(super) async fn add(pool: &PgPool, counted: &HashMap<String, i64>, now: OffsetDateTime) -> sqlx::Result<()> {
    if counted.is_empty() {
        return Ok(());
    }
    let minute = now - Duration::nanoseconds(i64::try_from(now.unix_timestamp_nanos() % 60_000_000_000).unwrap_or(0));
    // In one order, so that two processes that add to the same networks wait for each other and never deadlock.
    let mut counted: Vec<(&String, &i64)> = counted.iter().collect();
    counted.sort_unstable();
    let (networks, requests): (Vec<String>, Vec<i64>) = counted.into_iter().map(|(network, n)| (network.clone(), *n)).unzip();
    sqlx::query!(
        r#"
        insert into network_requests as n (minute, network, requests)
        select $1, network, requests from unnest($2::text[], $3::bigint[]) as counted (network, requests)
        on conflict (minute, network) do update set requests = n.requests + excluded.requests
        "#,
        minute,
        &networks,
        &requests,
    )
    .run(pool)
    .await
}

pub(super) async fn busiest(pool: &PgPool, since: OffsetDateTime, most: i64) -> sqlx::Result<Vec<NetworkRequests>> {
    sqlx::query_as!(
        NetworkRequests,
        r#"
        select network, least(greatest(sum(requests), 0), 1e15)::bigint as "requests!" from network_requests where minute > $1
        group by network order by 2 desc, network limit $2
        "#,
        since,
        most,
    )
    .fetch_all(pool)
    .await
}
