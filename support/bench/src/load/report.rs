//! What a run comes to, in words.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::Context as _;
use private_postgres::Cluster;
use serde_json::Value;
use sqlx::PgPool;

use super::person::{End, Visit};
use crate::{
    cpu,
    servers::{self, Server},
};

/// What the processes had used when this was taken, in microseconds and bytes.
pub struct Usage {
    server: u64,
    postgres: u64,
    own: u64,
    resident: u64,
    /// At most, so far.
    peak: u64,
}

impl Usage {
    pub fn now(cluster: &Cluster, server: &Server) -> anyhow::Result<Self> {
        let status =
            fs::read_to_string(format!("/proc/{}/status", server.pid())).context("the server is gone, or this is not Linux")?;
        let kilobytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        Ok(Self {
            server: cpu::micros(server.pid())?,
            postgres: cpu::micros_of_family(servers::postmaster(cluster)?)?,
            own: cpu::micros(std::process::id())?,
            resident: kilobytes("VmRSS") * 1_024,
            peak: kilobytes("VmHWM") * 1_024,
        })
    }
}

/// Mails by what became of them.
pub async fn mails(pool: &PgPool) -> anyhow::Result<BTreeMap<String, i64>> {
    let rows: Vec<(String, i64)> = sqlx::query_as("select state, count(*) from mail_outbox group by state").fetch_all(pool).await?;
    Ok(rows.into_iter().collect())
}

/// The server's own log: limits that refused, by name, and its warnings and errors, by what they say.
pub fn logged(log: &Path) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(log).context("the server's log")?.lines() {
        let line: Value = serde_json::from_str(line).with_context(|| format!("a line of the server's log: {line}"))?;
        let field = |name: &str| line.get(name).and_then(Value::as_str).unwrap_or_default();
        let what = match (field("message"), field("limit")) {
            ("limit.refused", limit) => format!("limit {limit}"),
            (message, _) => format!("{} {message} {}", field("level"), field("error")).trim_end().to_owned(),
        };
        *counts.entry(what).or_insert(0) += 1;
    }
    Ok(counts)
}

pub struct Run {
    pub visits: Vec<Visit>,
    /// Those that were not over when the run was.
    pub unfinished: usize,
    pub before: Usage,
    pub after: Usage,
    pub took: Duration,
    /// When the last person had come.
    pub mails_then: BTreeMap<String, i64>,
    pub mails_at_the_end: BTreeMap<String, i64>,
    pub log: BTreeMap<String, u64>,
}

impl Run {
    pub fn print(&self) {
        let came = self.visits.len() + self.unfinished;
        let ended = |is: fn(&End) -> bool| self.visits.iter().filter(|visit| is(&visit.end)).count();
        let taken = self.visits.iter().filter(|visit| visit.pages.iter().any(|(page, _)| *page == "GET /login/sent")).count();
        println!(
            "  came {came}, taken {taken}, limited {}, signed in {}, strangers who only asked {}, without mail after {} s {}, failed {}, not over {}",
            ended(|end| matches!(end, End::Limited { .. })),
            ended(|end| *end == End::SignedIn),
            ended(|end| *end == End::Asked),
            super::person::PATIENCE.as_secs(),
            ended(|end| *end == End::NoMail),
            ended(|end| matches!(end, End::Failed(_))),
            self.unfinished,
        );
        self.print_refusals();
        self.print_times();
        let mails =
            |mails: &BTreeMap<String, i64>| mails.iter().map(|(state, n)| format!("{n} {state}")).collect::<Vec<_>>().join(", ");
        println!("  mails, when the last had come: {}; at the end: {}", mails(&self.mails_then), mails(&self.mails_at_the_end));
        let share = |before: u64, after: u64| {
            let used = Duration::from_micros(after.saturating_sub(before)).as_secs_f64();
            format!("{used:.1} s ({:.0} % of a core)", used / self.took.as_secs_f64() * 100.0)
        };
        println!(
            "  CPU in {:.0} s: server {}, PostgreSQL {}, people and mail server {}",
            self.took.as_secs_f64(),
            share(self.before.server, self.after.server),
            share(self.before.postgres, self.after.postgres),
            share(self.before.own, self.after.own),
        );
        let megabytes = |bytes: u64| bytes / 1_000_000;
        println!(
            "  server's memory: {} MB at the start, {} MB at most, {} MB at the end\n",
            megabytes(self.before.resident),
            megabytes(self.after.peak),
            megabytes(self.after.resident),
        );
    }

    fn print_refusals(&self) {
        let mut pages: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        let mut failures: BTreeMap<&str, u64> = BTreeMap::new();
        for visit in &self.visits {
            match &visit.end {
                End::Limited { page, seconds } => pages.entry(page).or_default().push(*seconds),
                End::Failed(why) => *failures.entry(why).or_default() += 1,
                End::SignedIn | End::Asked | End::NoMail => {}
            }
        }
        for (page, mut seconds) in pages {
            seconds.sort_unstable();
            println!(
                "    429 {page:<44} {:>6} times, Retry-After {} to {} s",
                seconds.len(),
                seconds[0],
                seconds[seconds.len() - 1]
            );
        }
        for (why, n) in failures {
            println!("    failed: {why:<40} {n:>6} times");
        }
        for (what, n) in &self.log {
            println!("    log: {what:<43} {n:>6} times");
        }
    }

    fn print_times(&self) {
        println!("    {:<24} {:>8} {:>8} {:>8} {:>8} {:>8}", "ms", "times", "p50", "p95", "p99", "max");
        let mut pages: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
        for (page, took) in self.visits.iter().flat_map(|visit| &visit.pages) {
            pages.entry(page).or_default().push(*took);
            pages.entry("all pages").or_default().push(*took);
        }
        for (page, times) in pages {
            print_row(page, times);
        }
        print_row("mail, from POST /login", self.visits.iter().filter_map(|visit| visit.mail).collect());
        print_row("began late, in the above", self.visits.iter().map(|visit| visit.late).collect());
    }
}

fn print_row(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let quantile = |percent: usize| {
        let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times.get(at).map_or_else(|| "-".to_owned(), |time| format!("{:.1}", time.as_secs_f64() * 1_000.0))
    };
    let [p50, p95, p99, max] = [50, 95, 99, 100].map(quantile);
    println!("    {name:<24} {:>8} {p50:>8} {p95:>8} {p99:>8} {max:>8}", times.len());
}
