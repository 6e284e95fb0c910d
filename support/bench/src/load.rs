//! People who sign in, as many as come and when they come: nobody waits for the server to be done with those before.
//!
//! Each has a browser, an address on the network and an inbox of their own, except for two crowds that limits are for.

mod person;
mod report;

use std::{fs::File, process::Stdio, sync::Arc, time::Duration};

use auth::crypto::random;
use private_postgres::{Cluster, DATABASE, OWNER};
use sqlx::PgPool;
use testkit::{Act, Fault, SmtpSink, Stage};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};

use self::{
    person::{PATIENCE, Person, Visit},
    report::{Run, Usage, logged, mails},
};
use crate::servers::{self, BEHIND_A_PROXY};

/// After this long of a run with a burst in it, it comes, and stays for [`BURST`].
const BEFORE_BURST: Duration = Duration::from_secs(10);
const BURST: Duration = Duration::from_secs(5);
const SLOW: Duration = Duration::from_millis(300);
/// For those under way when the last has come. A mail that is refused for now comes with its second or third try.
const AFTERWARDS: Duration = PATIENCE.saturating_add(Duration::from_secs(15));

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mail {
    Good,
    /// Takes [`SLOW`] for each answer.
    Slow,
    /// Refuses a third for now, the first time, and one in twelve for good.
    Refusing,
    /// Takes connections, and says nothing.
    Hanging,
}

#[derive(Clone, Debug)]
pub struct Options {
    /// People a second.
    pub rate: f64,
    pub seconds: u64,
    /// How many times as many come in a burst.
    pub burst: f64,
    pub mail: Mail,
    pub limits: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { rate: 20.0, seconds: 30, burst: 1.0, mail: Mail::Good, limits: true }
    }
}

/// The option, unless it is none of ours; and whether it says what kind of run this is.
pub fn read(options: &[&str]) -> Option<(Options, bool)> {
    let (mut read, mut alone) = (Options::default(), false);
    for option in options.chunks(2) {
        match option {
            ["--rate", n] => read.rate = n.parse().ok().filter(|rate| *rate > 0.0)?,
            ["--for", n] => read.seconds = n.parse().ok()?,
            ["--burst", n] => (read.burst, alone) = (n.parse().ok().filter(|times| *times > 0.0)?, true),
            ["--mail", manner] => (read.mail, alone) = (manner_of(manner)?, true),
            ["--limits", "on"] => read.limits = true,
            ["--limits", "off"] => read.limits = false,
            _ => return None,
        }
    }
    Some((read, alone))
}

fn manner_of(name: &str) -> Option<Mail> {
    Some(match name {
        "good" => Mail::Good,
        "slow" => Mail::Slow,
        "refusing" => Mail::Refusing,
        "hanging" => Mail::Hanging,
        _ => return None,
    })
}

/// One run of these options; or, where they leave it open, one of each kind that is worth a look.
pub fn runs(options: &Options, alone: bool) -> Vec<Options> {
    let with = |burst, mail| Options { burst, mail, ..options.clone() };
    if alone {
        return vec![options.clone()];
    }
    vec![with(1.0, Mail::Good), with(10.0, Mail::Good), with(1.0, Mail::Slow), with(1.0, Mail::Refusing)]
}

/// One that treats everybody alike. [`Mail::Refusing`] is told of each of those it refuses as they come.
async fn mail_server(mail: Mail) -> SmtpSink {
    let sink = SmtpSink::start().await;
    match mail {
        Mail::Good | Mail::Refusing => {}
        Mail::Slow => {
            for stage in [Stage::Greeting, Stage::Ehlo, Stage::Noop, Stage::Mail, Stage::Rcpt, Stage::Data, Stage::Taken] {
                sink.play(Fault::new(stage, Act::Late(SLOW)));
            }
        }
        Mail::Hanging => sink.play(Fault::new(Stage::Greeting, Act::Silence)),
    }
    sink
}

/// Whom a mail server refuses that refuses some.
fn refusal(n: u32, email: &str) -> Option<Fault> {
    let fault = |codes| Fault::new(Stage::Rcpt, Act::Refuse(codes)).to(email);
    match n % 12 {
        0 => Some(fault("550 5.1.1")),
        1 | 4 | 6 | 9 => Some(fault("450 4.2.0").times(1)),
        _ => None,
    }
}

/// On a database made anew.
pub async fn run(cluster: &Cluster, options: &Options) -> anyhow::Result<()> {
    println!(
        "{} people a second for {} s{}, mail server {:?}, limits {}",
        options.rate,
        options.seconds,
        if options.burst > 1.0 { format!(", {} times as many for {} s", options.burst, BURST.as_secs()) } else { String::new() },
        options.mail,
        if options.limits { "on" } else { "off" },
    );
    let sink = Arc::new(mail_server(options.mail).await);
    let log = servers::binaries()?.join("bench-load.log");
    let limits = if options.limits { "on" } else { "off" };
    let settings = [BEHIND_A_PROXY, ("LIMITS", limits), ("LOG_FORMAT", "json"), ("RUST_LOG", "warn,auth::limits::throttle=info")];
    let server = servers::latchkey_with(cluster, &sink.url(), &settings, Stdio::from(File::create(&log)?)).await?;
    let owner = PgPool::connect(&cluster.url(OWNER, DATABASE)).await?;

    let (begun, before) = (Instant::now(), Usage::now(cluster, &server)?);
    let mut people = come(options, begun, server.address, &sink).await;
    let mails_then = mails(&owner).await?;
    let (mut visits, patience) = (Vec::new(), Instant::now() + AFTERWARDS);
    while let Ok(Some(visit)) = timeout_at(patience, people.join_next()).await {
        visits.push(visit?);
    }
    let (after, took) = (Usage::now(cluster, &server)?, begun.elapsed());
    let mails_at_the_end = mails(&owner).await?;
    owner.close().await;
    drop(server);
    let unfinished = people.len();
    Run { visits, unfinished, before, after, took, mails_then, mails_at_the_end, log: logged(&log)? }.print();
    Ok(())
}

/// All of them, each at their time, whatever became of those before.
async fn come(options: &Options, begun: Instant, server: std::net::SocketAddr, sink: &Arc<SmtpSink>) -> JoinSet<Visit> {
    let (mut people, mut due) = (JoinSet::new(), begun);
    let end = begun + Duration::from_secs(options.seconds);
    for n in 0.. {
        let since = due - begun;
        let bursting = since >= BEFORE_BURST && since < BEFORE_BURST + BURST;
        let rate = if bursting { options.rate * options.burst } else { options.rate };
        due += Duration::from_secs_f64(gap() / rate);
        if due >= end {
            break;
        }
        sleep_until(due).await;
        let person = Person::new(n, server);
        if options.mail == Mail::Refusing
            && let Some(fault) = refusal(n, &person.email)
        {
            sink.play(fault);
        }
        let sink = sink.clone();
        people.spawn(async move { person.visit(&sink, due).await });
    }
    people
}

/// Between two who know nothing of each other, where one a second comes: exponentially distributed.
#[expect(clippy::cast_precision_loss, reason = "53 bits are random enough")]
fn gap() -> f64 {
    let uniform = (u64::from_ne_bytes(random()) >> 11) as f64 / (1_u64 << 53) as f64;
    -(1.0 - uniform).ln()
}
