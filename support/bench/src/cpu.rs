//! CPU time of processes, as the kernel counts it.

use std::fs;

use anyhow::Context as _;

/// `USER_HZ`, which Linux shows to programs on every architecture.
const TICKS_PER_SECOND: u64 = 100;

/// Microseconds of CPU a process has used.
pub fn micros(pid: u32) -> anyhow::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone, or this is not Linux")?;
    // The name stands in brackets and may hold spaces; what follows is numbered from 3.
    let fields: Vec<&str> = stat.rsplit_once(')').context("a stat line")?.1.split_whitespace().collect();
    // utime, stime, and those of children waited for: PostgreSQL's backends end and are counted there.
    let ticks: u64 = fields[11..15].iter().filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks * 1_000_000 / TICKS_PER_SECOND)
}

/// Microseconds of CPU a process and its children have used.
pub fn micros_of_family(parent: u32) -> anyhow::Result<u64> {
    let mut sum = micros(parent)?;
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
        // One that ended meanwhile is in its parent's count from now on.
        sum += micros(child).unwrap_or(0);
    }
    Ok(sum)
}
