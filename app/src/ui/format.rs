//! Counts, times and addresses in the words of the pages.
//!
//! Signed-out pages say durations ("in 40 seconds"), worked out when the page is made: nobody's time zone is known, and no
//! script counts down. Signed-in pages and mails say UTC.

use std::{fmt, time::Duration};

use auth::identity::{Method, SecondFactor};
use time::OffsetDateTime;

/// "1 minute", "12 minutes", "1,204 minutes".
pub fn count(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(n), if n == 1 { "" } else { "s" })
}

/// "Firefox on Windows · 203.0.113.24", of what there is. No line begins with a dot.
pub fn line(parts: impl IntoIterator<Item = String>) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\u{a0}· ")
}

/// A sentence begins with it.
pub fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// "16,840"
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
    String::from_utf8_lossy(&groups.join(&b","[..])).into_owned()
}

/// "You have 3 tries left."
pub fn tries_left(n: u32) -> String {
    let noun = if n == 1 { "try" } else { "tries" };
    format!("You have {n} {noun} left.")
}

/// A wait in whole minutes, rounded up and never zero: who comes back after it must not be turned away again.
pub fn minutes_up(wait: Duration) -> u64 {
    seconds_up(wait).div_ceil(60).max(1)
}

/// "in 40 seconds", "in 12 minutes": rounded up, like [`minutes_up`].
pub fn within(wait: Duration) -> String {
    let wait = match seconds_up(wait) {
        seconds @ 0..60 => count(seconds.max(1), "second"),
        seconds @ 60..7_200 => count(seconds.div_ceil(60), "minute"),
        seconds @ 7_200..172_800 => count(seconds.div_ceil(3_600), "hour"),
        seconds => count(seconds.div_ceil(86_400), "day"),
    };
    format!("in {wait}")
}

/// "2 minutes ago": rounded down, in the largest unit that fits.
pub fn ago(elapsed: Duration) -> String {
    let ago = match elapsed.as_secs() {
        0..60 => "less than a minute".to_owned(),
        seconds @ 60..3_600 => count(seconds / 60, "minute"),
        seconds @ 3_600..86_400 => count(seconds / 3_600, "hour"),
        seconds => count(seconds / 86_400, "day"),
    };
    format!("{ago} ago")
}

/// A lifetime, exactly: "10 minutes", or "90 seconds" where minutes would not be true.
pub fn lasting(lifetime: Duration) -> String {
    let seconds = lifetime.as_secs();
    if seconds.is_multiple_of(60) { count(seconds / 60, "minute") } else { count(seconds, "second") }
}

/// How long something took or has taken, in the largest unit that fits: "less than a second", "12 minutes".
pub fn roughly(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    match seconds {
        0 => "less than a second".to_owned(),
        1..120 => count(seconds, "second"),
        120..7_200 => count(seconds / 60, "minute"),
        7_200..172_800 => count(seconds / 3_600, "hour"),
        _ => count(seconds / 86_400, "day"),
    }
}

/// A wait in whole seconds, rounded up.
pub fn seconds_up(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

/// "Email code, authenticator app": how somebody signed in.
pub fn sign_in_method(method: Method, second: Option<SecondFactor>) -> String {
    let first = match method {
        Method::Link => "Email link",
        Method::Code => "Email code",
    };
    match second {
        None => first.to_owned(),
        Some(SecondFactor::Totp) => format!("{first}, authenticator app"),
        Some(SecondFactor::BackupCode) => format!("{first}, backup code"),
        Some(SecondFactor::TrustedDevice) => format!("{first}, trusted browser"),
    }
}

/// "24 November 2026, 14:29 UTC"
pub fn date_time(at: OffsetDateTime) -> String {
    format!("{}, {} UTC", date(at), time_of_day(at))
}

/// "24 November 2026", by UTC
pub fn date(at: OffsetDateTime) -> String {
    let at = at.to_utc();
    format!("{} {} {}", at.day(), at.month(), at.year())
}

/// "24 Nov", by UTC. For what is younger than a year.
pub fn short_date(at: OffsetDateTime) -> String {
    let at = at.to_utc();
    let month = at.month().to_string();
    format!("{} {}", at.day(), month.get(..3).unwrap_or(&month))
}

/// "24 November 2026, 14:29 UTC" where space is short: "Today, 14:29 UTC", "19 Nov, 14:29 UTC". For what is younger than a year.
pub fn short_time(at: OffsetDateTime, now: OffsetDateTime) -> String {
    let day = if is_today(at, now) { "Today".to_owned() } else { short_date(at) };
    format!("{day}, {} UTC", time_of_day(at))
}

/// "Today, 24 November", "Thursday, 19 November", by UTC. For what is younger than a year.
pub fn day(at: OffsetDateTime, now: OffsetDateTime) -> String {
    let utc = at.to_utc();
    let name = if is_today(at, now) { "Today".to_owned() } else { utc.weekday().to_string() };
    format!("{name}, {} {}", utc.day(), utc.month())
}

fn is_today(at: OffsetDateTime, now: OffsetDateTime) -> bool {
    at.to_utc().date() == now.to_utc().date()
}

/// "14:29", by UTC, on a page that says so
pub fn time_of_day(at: OffsetDateTime) -> String {
    let at = at.to_utc();
    format!("{:02}:{:02}", at.hour(), at.minute())
}

/// "14:29:40 UTC"
pub fn clock(at: OffsetDateTime) -> String {
    format!("{}:{:02} UTC", time_of_day(at), at.to_utc().second())
}

/// "14:29 UTC on 24 November 2026", as a mail says it in mid-sentence.
pub fn time_on_date(at: OffsetDateTime) -> String {
    format!("{} UTC on {}", time_of_day(at), date(at))
}

/// "Today, 14:21", "Yesterday, 22:05", "21 Nov, 09:12", "21 Nov 2025, 09:12": by UTC, on a page that says so.
pub fn lately(at: OffsetDateTime, now: OffsetDateTime) -> String {
    let (utc, today) = (at.to_utc(), now.to_utc().date());
    let day = match utc.date() {
        day if day == today => "Today".to_owned(),
        day if Some(day) == today.previous_day() => "Yesterday".to_owned(),
        day if day.year() == today.year() => short_date(at),
        day => format!("{} {}", short_date(at), day.year()),
    };
    format!("{day}, {}", time_of_day(at))
}

/// "2026-11-24T14:29Z", for the `datetime` attribute of `<time>`.
pub fn machine_time(at: OffsetDateTime) -> String {
    format!("{}T{}Z", machine_date(at), time_of_day(at))
}

/// "2026-11-24", like [`machine_time`].
pub fn machine_date(at: OffsetDateTime) -> String {
    let at = at.to_utc();
    format!("{:04}-{:02}-{:02}", at.year(), u8::from(at.month()), at.day())
}

/// An address with all but its first character and its domain taken out.
///
/// A type of its own, so that a page that may only show this can't be handed the whole address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskedAddress {
    first: char,
    domain: String,
}

impl From<&str> for MaskedAddress {
    fn from(address: &str) -> Self {
        let (local, domain) = address.rsplit_once('@').unwrap_or((address, ""));
        Self { first: local.chars().next().unwrap_or('•'), domain: domain.to_owned() }
    }
}

impl MaskedAddress {
    /// What a screen reader says: dots read out one by one tell nothing.
    pub fn spoken(&self) -> String {
        format!("address starting with {} at {}", self.first, self.domain)
    }
}

impl fmt::Display for MaskedAddress {
    /// Always five dots: their number must not give away the length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}•••••@{}", self.first, self.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn one_is_singular() {
        assert_eq!(count(1, "minute"), "1 minute");
        assert_eq!(count(2, "minute"), "2 minutes");
        assert_eq!(tries_left(1), "You have 1 try left.");
        assert_eq!(tries_left(4), "You have 4 tries left.");
    }

    #[test]
    fn a_line_leaves_out_what_is_not_known() {
        assert_eq!(line(["Firefox on Windows".to_owned(), "203.0.113.24".to_owned()]), "Firefox on Windows\u{a0}· 203.0.113.24");
        assert_eq!(line([String::new(), "Active now".to_owned()]), "Active now");
        assert_eq!(line([]), "");
    }

    #[test]
    fn waits_round_up() {
        assert_eq!(within(Duration::ZERO), "in 1 second");
        assert_eq!(within(seconds(1)), "in 1 second");
        assert_eq!(within(Duration::from_millis(39_001)), "in 40 seconds");
        assert_eq!(within(seconds(59)), "in 59 seconds");
        assert_eq!(within(Duration::from_millis(59_001)), "in 1 minute");
        assert_eq!(within(seconds(61)), "in 2 minutes");
        assert_eq!(within(seconds(720)), "in 12 minutes");
        assert_eq!(within(seconds(7_199)), "in 120 minutes");
        assert_eq!(within(seconds(7_201)), "in 3 hours");
        assert_eq!(within(seconds(172_800)), "in 2 days");
        assert_eq!(within(seconds(172_801)), "in 3 days");
        assert_eq!(minutes_up(Duration::ZERO), 1);
        assert_eq!(minutes_up(Duration::from_millis(60_001)), 2);
    }

    #[test]
    fn the_past_rounds_down() {
        assert_eq!(ago(seconds(59)), "less than a minute ago");
        assert_eq!(ago(seconds(60)), "1 minute ago");
        assert_eq!(ago(seconds(179)), "2 minutes ago");
        assert_eq!(ago(seconds(3_600 * 3 + 1)), "3 hours ago");
        assert_eq!(ago(seconds(86_400 * 6)), "6 days ago");
    }

    #[test]
    fn lifetimes_are_exact() {
        assert_eq!(lasting(seconds(600)), "10 minutes");
        assert_eq!(lasting(seconds(60)), "1 minute");
        assert_eq!(lasting(seconds(90)), "90 seconds");
    }

    #[test]
    fn times_are_utc_wherever_they_come_from() {
        let at = datetime!(2026-11-25 01:29:59 +11);
        assert_eq!(date_time(at), "24 November 2026, 14:29 UTC");
        assert_eq!(time_on_date(at), "14:29 UTC on 24 November 2026");
        assert_eq!(machine_time(at), "2026-11-24T14:29Z");
        assert_eq!(date(at), "24 November 2026");
        assert_eq!(machine_date(at), "2026-11-24");
        assert_eq!(clock(at), "14:29:59 UTC");
        assert_eq!(machine_time(datetime!(2026-03-04 05:06 UTC)), "2026-03-04T05:06Z");
    }

    #[test]
    fn what_was_lately_is_told_from_today() {
        let now = datetime!(2026-11-24 14:29 UTC);
        let (today, before) = (datetime!(2026-11-25 01:05 +11), datetime!(2026-11-19 08:10 UTC));
        assert_eq!((day(today, now).as_str(), day(before, now).as_str()), ("Today, 24 November", "Thursday, 19 November"));
        assert_eq!((short_time(today, now).as_str(), short_time(before, now).as_str()), ("Today, 14:05 UTC", "19 Nov, 08:10 UTC"));
        assert_eq!(day(datetime!(2026-11-23 23:59:59 UTC), now), "Monday, 23 November");
        assert_eq!(short_time(datetime!(2026-05-01 00:00 UTC), now), "1 May, 00:00 UTC");
        assert_eq!(time_of_day(today), "14:05");
    }

    #[test]
    fn thousands_stand_apart() {
        let grouped = [0, 999, 1_000, 16_840, 1_234_567].map(grouped);
        assert_eq!(grouped, ["0", "999", "1,000", "16,840", "1,234,567"]);
    }

    #[test]
    fn the_nearer_a_day_the_shorter_its_name() {
        let now = datetime!(2026-01-01 00:30 UTC);
        assert_eq!(lately(datetime!(2026-01-01 11:10 +11), now), "Today, 00:10");
        assert_eq!(lately(datetime!(2025-12-31 22:05 UTC), now), "Yesterday, 22:05");
        assert_eq!(lately(datetime!(2025-12-30 09:12 UTC), now), "30 Dec 2025, 09:12");
        assert_eq!(lately(datetime!(2026-11-02 17:30 UTC), datetime!(2026-11-24 14:29 UTC)), "2 Nov, 17:30");
    }

    #[test]
    fn masks_keep_the_first_character_and_the_domain_only() {
        let masked = MaskedAddress::from("mara.lindqvist@example.org");
        assert_eq!(masked.to_string(), "m•••••@example.org");
        assert_eq!(masked.spoken(), "address starting with m at example.org");
        assert_eq!(MaskedAddress::from("é@example.org").to_string(), "é•••••@example.org");
        assert_eq!(MaskedAddress::from("\"a@b\"@example.org").to_string(), "\"•••••@example.org");
        assert_eq!(MaskedAddress::from("").to_string(), "••••••@");
    }

    #[test]
    fn the_length_of_an_address_does_not_show() {
        assert_eq!(MaskedAddress::from("m@example.org"), MaskedAddress::from("mara.lindqvist@example.org"));
    }
}
