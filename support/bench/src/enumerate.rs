//! Whether the time an answer takes tells what is behind an address.
//!
//! One client on one connection asks for links for addresses of every kind, in rounds: each round asks once for each kind, in an order
//! drawn anew. What any two kinds did to each other, and whatever else the machine did meanwhile, falls on both alike. Two kinds are
//! unknown addresses, so that the run shows what the same thing measured twice looks like.

use std::{
    net::Ipv4Addr,
    process::Stdio,
    time::{Duration, Instant},
};

use auth::crypto::random;
use http::{Method, StatusCode};
use private_postgres::{Cluster, DATABASE, OWNER};
use sqlx::PgPool;
use testkit::{Browser, SmtpSink};

use crate::{
    client::{asking_for, client, come_from},
    servers::{self, BEHIND_A_PROXY, Server},
};

/// What is behind the addresses of one kind, and the statement that puts it there for the addresses `$1`.
struct Kind {
    name: &'static str,
    seed: &'static str,
}

const USERS: &str = "insert into users (id, email, email_key, created_at) select gen_random_uuid(), email, email, now() from unnest($1::text[]) email";

/// The first is what the others are compared with.
const KINDS: [Kind; 7] = [
    Kind { name: "unknown", seed: "" },
    Kind { name: "unknown, once more", seed: "" },
    Kind { name: "known", seed: USERS },
    Kind {
        name: "disabled",
        seed: "insert into users (id, email, email_key, created_at, disabled_at)
               select gen_random_uuid(), email, email, now(), now() from unnest($1::text[]) email",
    },
    Kind {
        name: "two-factor",
        seed: "with made as (
                   insert into users (id, email, email_key, created_at)
                   select gen_random_uuid(), email, email, now() from unnest($1::text[]) email returning id
               )
               insert into totp_credentials (id, user_id, name, secret, key_id, created_at, confirmed_at)
               select gen_random_uuid(), id, 'Authenticator app', sha256(uuid_send(id)), (select key_id from magic_links limit 1), now(), now() from made",
    },
    Kind {
        name: "leaving",
        seed: "insert into users (id, email, email_key, created_at, deletes_at)
               select gen_random_uuid(), email, email, now(), now() + interval '7 days' from unnest($1::text[]) email",
    },
    Kind {
        name: "invited",
        seed: "insert into invites (id, email, email_key, nonce, key_id, token_hash, created_at, expires_at)
               select gen_random_uuid(), email, email, sha256(email::bytea), (select key_id from magic_links limit 1), sha256(email::bytea), now(), now() + interval '7 days'
               from unnest($1::text[]) email",
    },
];

/// Addresses of one kind, asked for in turn: each is asked for as often as its neighbours of the other kinds.
const ADDRESSES: usize = 200;
/// Of these, so many are brought to their limit, which is ten mails an hour as it ships.
const LIMITED: usize = 20;
const LIMIT: usize = 10;
const AIM: std::ops::RangeInclusive<f64> = 0.45..=0.55;

/// All of one length, as are the pages that show them.
fn address(kind: usize, n: usize) -> String {
    format!("kind{kind}.number{n:03}@example.org")
}

pub async fn bench(cluster: &Cluster, pairs: usize) -> anyhow::Result<()> {
    let sink = SmtpSink::start().await;
    // By invitation, as production ships: then it makes a difference to the mail whether there is an account.
    let settings = |limits| [BEHIND_A_PROXY, ("SIGNUP", "invite"), ("LIMITS", limits)];
    let server = servers::latchkey_with(cluster, &sink.url(), &settings("off"), Stdio::inherit()).await?;
    let owner = PgPool::connect(&cluster.url(OWNER, DATABASE)).await?;
    let mut client = client(server.address, Ipv4Addr::LOCALHOST);
    // Its row names the key, which rows with secrets have to: a server doesn't start where there are some that it can't read.
    client.try_send(Method::POST, "/login", asking_for("first@example.org")).await?;
    for (kind, Kind { seed, .. }) in KINDS.iter().enumerate().filter(|(_, kind)| !kind.seed.is_empty()) {
        let addresses: Vec<String> = (0..ADDRESSES).map(|n| address(kind, n)).collect();
        sqlx::query(*seed).bind(addresses).execute(&owner).await?;
    }
    sqlx::query("vacuum (analyze)").execute(&owner).await?;

    rounds(&mut client, ADDRESSES / 10, ADDRESSES, StatusCode::SEE_OTHER).await?;
    let taken = rounds(&mut client, pairs, ADDRESSES, StatusCode::SEE_OTHER).await?;
    queue_is_empty(&owner).await?;
    drop(server);

    let server = servers::latchkey_with(cluster, &sink.url(), &settings("on"), Stdio::inherit()).await?;
    let mut client = limited_client(&server, &owner).await?;
    rounds(&mut client, LIMITED, LIMITED, StatusCode::TOO_MANY_REQUESTS).await?;
    let limited = rounds(&mut client, pairs, LIMITED, StatusCode::TOO_MANY_REQUESTS).await?;
    report(&taken, &limited)
}

/// After as many mails for each address as an hour allows, each asked for from a network of its own.
async fn limited_client(server: &Server, owner: &PgPool) -> anyhow::Result<Browser> {
    let mut client = client(server.address, Ipv4Addr::LOCALHOST);
    for _ in 0..LIMIT {
        rounds(&mut client, LIMITED, LIMITED, StatusCode::SEE_OTHER).await?;
    }
    queue_is_empty(owner).await?;
    Ok(client)
}

/// Whose request it was, and how long its answer took.
struct Timed {
    kind: usize,
    took: Duration,
}

/// So many rounds, and `addresses` of each kind in turn. Every answer has this status, or nothing was measured.
async fn rounds(client: &mut Browser, rounds: usize, addresses: usize, status: StatusCode) -> anyhow::Result<Vec<Timed>> {
    let mut times = Vec::with_capacity(rounds * KINDS.len());
    for round in 0..rounds {
        for kind in shuffled(KINDS.len()) {
            // A stranger: without cookies, and from another network than the last.
            client.cookies.clear();
            let network = Ipv4Addr::new(198, 18, 0, 0).to_bits() | (u32::from_ne_bytes(random()) & 0x1_ffff);
            come_from(client, Ipv4Addr::from_bits(network));
            let form = asking_for(&address(kind, round % addresses));
            let begun = Instant::now();
            let reply = client.try_send(Method::POST, "/login", form).await?;
            times.push(Timed { kind, took: begun.elapsed() });
            anyhow::ensure!(reply.status == status, "{}: {} instead of {status}", KINDS[kind].name, reply.status);
        }
    }
    Ok(times)
}

/// By Fisher and Yates.
fn shuffled(n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for at in (1..n).rev() {
        order.swap(at, usize::from_ne_bytes(random()) % (at + 1));
    }
    order
}

async fn queue_is_empty(owner: &PgPool) -> anyhow::Result<()> {
    let empty = async {
        while sqlx::query_scalar::<_, i64>("select count(*) from mail_outbox where state = 'queued'").fetch_one(owner).await? > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_mins(1), empty).await?
}

/// Of times of one kind, and of those of the requests that came next: a mail is sent after its answer, and another request's way.
fn of(times: &[Timed], kind: usize) -> (Vec<Duration>, Vec<Duration>) {
    let own = times.iter().filter(|timed| timed.kind == kind).map(|timed| timed.took).collect();
    let next = times.windows(2).filter(|pair| pair[0].kind == kind).map(|pair| pair[1].took).collect();
    (own, next)
}

fn report(taken: &[Timed], limited: &[Timed]) -> anyhow::Result<()> {
    let (taken_by_unknown, after_unknown) = of(taken, 0);
    let (limited_by_unknown, _) = of(limited, 0);
    println!(
        "{} pairs of POST /login, against an unknown address: how often the one took longer (AUC; 0.5 is a coin's)\n\
         {:<24} {:>8} {:>8} {:>14} {:>8} {:>8}\n{:<24} {:>8} {:>8} {:>14} {:>8} {:>8}",
        taken_by_unknown.len(),
        "",
        "taken",
        "",
        "the request",
        "limited",
        "",
        "what is behind it",
        "median",
        "AUC",
        "after it, AUC",
        "median",
        "AUC",
    );
    let mut told = Vec::new();
    for (kind, Kind { name, .. }) in KINDS.iter().enumerate() {
        let ((own, next), (own_limited, _)) = (of(taken, kind), of(limited, kind));
        let figures = [auc(&own, &taken_by_unknown), auc(&next, &after_unknown), auc(&own_limited, &limited_by_unknown)];
        println!(
            "{name:<24} {:>5.2} ms {:>8.3} {:>14.3} {:>5.2} ms {:>8.3}",
            median(own),
            figures[0],
            figures[1],
            median(own_limited),
            figures[2],
        );
        for (figure, what) in figures.into_iter().zip(["taken", "the request after it", "limited"]) {
            if !AIM.contains(&figure) {
                told.push(format!("{name}, {what}: {figure:.3}"));
            }
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let n = taken_by_unknown.len() as f64;
    println!("by chance alone: 0.5 ± {:.3}, 19 times of 20; aim: {} to {}\n", 1.96 / (6.0 * n).sqrt(), AIM.start(), AIM.end());
    anyhow::ensure!(told.is_empty(), "time tells what is behind an address: {}", told.join("; "));
    Ok(())
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times.get(times.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
}

/// The probability that one of the times is longer than one of the others, ties counted half (Mann and Whitney's U, as a share).
#[expect(clippy::cast_precision_loss, reason = "thousands")]
fn auc(times: &[Duration], others: &[Duration]) -> f64 {
    let mut sorted = others.to_vec();
    sorted.sort();
    let longer: f64 = times
        .iter()
        .map(|time| {
            let (below, not_above) = (sorted.partition_point(|other| other < time), sorted.partition_point(|other| other <= time));
            f64::midpoint(below as f64, not_above as f64)
        })
        .sum();
    longer / (times.len() as f64 * others.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(times: &[u64]) -> Vec<Duration> {
        times.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn a_figure_says_how_often_one_takes_longer() {
        for (these, those, expected) in [
            (&[1, 2, 3][..], &[1, 2, 3][..], 0.5),
            (&[4, 5], &[1, 2, 3], 1.0),
            (&[1], &[2, 3], 0.0),
            (&[2], &[1, 2, 3, 3], 0.375),
            (&[7, 7], &[7], 0.5),
        ] {
            let found = auc(&millis(these), &millis(those));
            assert!((found - expected).abs() < 1e-9, "{these:?} {those:?}: {found}");
        }
    }

    #[test]
    fn a_round_asks_once_for_each_kind_in_any_order() {
        let mut first = [0; 7];
        for _ in 0..7_000 {
            let order = shuffled(7);
            first[order[0]] += 1;
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4, 5, 6]);
        }
        // Six standard deviations.
        assert!(first.iter().all(|n| (824..=1_176).contains(n)), "{first:?}");
    }
}
