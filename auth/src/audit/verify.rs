//! Whether the audit is as it was sealed: the chain by itself, then every row against its batch. In pages, so that it costs the same
//! memory whatever the size of the log, and no statement lasts.
//!
//! It can't tell what somebody with the key made, nor what was changed before it was sealed, a minute or so after it happened. That
//! the newest batches are missing, together with their rows, is told by a head that was kept elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::Serialize;
use sqlx::PgConnection;
use strum::{EnumString, IntoStaticStr, VariantArray};
use time::{Date, Duration, OffsetDateTime};
use uuid::Uuid;

use super::{
    chain::{FINGERPRINT, Head, Kind, KnownHead, LATE, LastVerified, Mark, Row, Rows, Seal},
    seal::{BATCH, PAGE},
    seal_store as store,
};
use crate::{
    Audit, Error,
    event::{Event, UnitOfWork},
    primitives::schedule,
};

const EVERY: Duration = Duration::days(1);
/// One that failed is made up for so soon.
const TRIED: Duration = Duration::hours(1);
/// Batches read at once.
const SEALS: i64 = 500;
/// Findings told in full. More of them say nothing new.
pub const MOST: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, EnumString, IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Problem {
    /// A row is not as it was sealed.
    RowChanged,
    RowMissing,
    /// A row that no batch holds.
    RowInserted,
    /// A month's rows are all gone, and nothing says that their time was over.
    MonthMissing,
    /// A batch, or its place in the chain, is not as it was made.
    BatchChanged,
    BatchMissing,
    /// The chain doesn't have the batch that was known to be in it.
    TailCut,
    /// None of the configured keys vouches for these batches, and none did when ours went on from them.
    KeyMissing,
    /// A row that should be sealed by now.
    NotSealed,
    /// Rows were sealed long after they were made, and no operator has accepted it since: no server sealed for a while, or somebody took
    /// batches away and had servers seal the rows anew.
    SealedLate,
}

named!(Problem);

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub problem: Problem,
    pub batch: Option<i64>,
    pub row: Option<Uuid>,
    /// The row's time; of one that is gone, where it must have been.
    #[serde(with = "time::serde::rfc3339::option")]
    pub from: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    pub to: Option<OffsetDateTime>,
    /// How many rows, or batches.
    pub count: i64,
}

impl Finding {
    fn new(problem: Problem, batch: Option<i64>) -> Self {
        Self { problem, batch, row: None, from: None, to: None, count: 1 }
    }

    fn of_row(problem: Problem, batch: Option<i64>, row: Uuid, at: OffsetDateTime) -> Self {
        Self { row: Some(row), from: Some(at), to: Some(at), ..Self::new(problem, batch) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.problem {
            Problem::RowChanged => "a row was changed",
            Problem::RowMissing => "rows are missing",
            Problem::RowInserted => "a row was put in afterwards",
            Problem::MonthMissing => "a month is gone before its time",
            Problem::BatchChanged => "a batch was changed",
            Problem::BatchMissing => "batches are missing",
            Problem::TailCut => "the end of the chain was cut off or replaced",
            Problem::KeyMissing => "no configured key vouches for batches",
            Problem::NotSealed => "a row is not sealed",
            Problem::SealedLate => "rows were sealed late",
        };
        write!(f, "{what}")?;
        if self.count > 1 {
            write!(f, " ({})", self.count)?;
        }
        if let Some(batch) = self.batch {
            write!(f, ", batch {batch}")?;
        }
        if let Some(row) = self.row {
            write!(f, ", row {row}")?;
        }
        match (self.from, self.to) {
            (Some(from), Some(to)) if from == to => write!(f, ", at {from}"),
            (Some(from), Some(to)) => write!(f, ", between {from} and {to}"),
            _ => Ok(()),
        }
    }
}

/// What a verification saw.
#[derive(Debug, Clone, Default)]
pub struct Verified {
    pub batches: i64,
    pub rows: i64,
    pub head: Option<Head>,
    /// Rows that came after the newest batch are not counted.
    pub findings: Vec<Finding>,
    /// How many of each kind, also of those beyond [`MOST`].
    pub counts: BTreeMap<&'static str, u64>,
}

impl Verified {
    fn found(&mut self, finding: Finding) {
        *self.counts.entry(finding.problem.as_str()).or_default() += 1;
        if self.findings.len() < MOST {
            self.findings.push(finding);
        }
    }
}

/// Rows of a batch as they are, beside what the batch says.
struct Beside {
    seal: Seal,
    rows: Rows,
    /// Of each row, which and when: to name the one that is wrong.
    named: Vec<(Uuid, OffsetDateTime)>,
}

/// Batches that end at one place: they hold the rows of one stretch, a month each.
#[derive(Default)]
struct Stretch(BTreeMap<Date, Beside>);

/// Stretches that are looked at together, for the sake of fewer queries.
struct Window {
    from: Mark,
    to: Mark,
    stretches: Vec<(Mark, Stretch)>,
    rows: i64,
}

impl Window {
    fn after(from: Mark) -> Self {
        Self { from, to: from, stretches: Vec::new(), rows: 0 }
    }

    fn add(&mut self, seal: Seal) {
        self.to = seal.to;
        self.rows += seal.rows;
        if self.stretches.last().is_none_or(|(to, _)| *to != seal.to) {
            self.stretches.push((seal.to, Stretch::default()));
        }
        if let Some((_, Stretch(months))) = self.stretches.last_mut() {
            months.insert(seal.month, Beside { seal, rows: Rows::new(), named: Vec::new() });
        }
    }

    /// It holds as much as is to be held at once. What ends at one place stays together.
    fn is_full_before(&self, next: &Seal) -> bool {
        let many = self.rows >= i64::try_from(BATCH).unwrap_or(i64::MAX) || self.stretches.len() >= 200;
        // Rows older than numbers are read along another index.
        let other_index = self.to.among_old() != next.to.among_old();
        self.to != next.to && !self.stretches.is_empty() && (many || other_index)
    }
}

/// The walk along the chain.
#[derive(Default)]
struct Walk {
    /// The stored hash of the batch before; `None` where that batch is missing, so that nothing can be said of the next one's.
    before: Option<[u8; 32]>,
    number: i64,
    /// The newest batch that a known key vouches for.
    vouched: i64,
    dropped: BTreeSet<Date>,
    months: BTreeMap<Date, Month>,
    /// The last row without a number that a batch holds.
    old: Option<Mark>,
    /// Batches one after another that were sealed late and that nobody has accepted, and the last one's number.
    late: Vec<(i64, Finding)>,
    verified: Verified,
}

/// The batches of a month, and those of them whose rows are all gone.
#[derive(Default)]
struct Month {
    batches: i64,
    gone: i64,
    /// Of the first ones.
    findings: Vec<Finding>,
    from: Option<OffsetDateTime>,
    to: Option<OffsetDateTime>,
    rows: i64,
}

impl Audit<'_> {
    /// Looks at everything. `known`: a batch that must be in the chain, from a log or a metric.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn verify(self, known: Option<&KnownHead>) -> Result<Verified, Error> {
        // What is sealed while this runs is not looked at, nor called late.
        let now = self.0.now();
        let mut connection = self.0.pool.acquire().await?;
        let connection = &mut *connection;
        let head = store::head(connection).await?;
        let mut walk = Walk { before: Some([0; 32]), ..Walk::default() };
        walk.dropped = store::dropped(connection).await?.into_iter().collect();
        walk.verified.head = head.as_ref().map(|newest| newest.head);
        let last = head.as_ref().map_or(0, |newest| newest.head.number);
        let mut window = Window::after(Mark::START);
        loop {
            let seals = store::seals(connection, walk.number, last, SEALS).await?;
            if seals.is_empty() {
                break;
            }
            for seal in seals {
                self.follow(&mut walk, &seal);
                if seal.kind != Kind::Rows {
                    continue;
                }
                if window.is_full_before(&seal) {
                    let next = Window::after(window.to);
                    let whole = std::mem::replace(&mut window, next);
                    compare(connection, whole, &mut walk).await?;
                }
                if seal.to.among_old() {
                    walk.old = Some(seal.to);
                }
                window.add(seal);
            }
        }
        let end = window.to;
        compare(connection, window, &mut walk).await?;
        if end >= Mark::NUMBERED {
            // Since there are numbers, none comes without one.
            for row in store::old_rows(connection, walk.old.unwrap_or(Mark::START), Mark::NUMBERED, MOST).await? {
                walk.verified.found(Finding::of_row(Problem::RowInserted, None, row.id, row.created_at));
            }
        }
        walk.close(last);
        let mut verified = walk.verified;
        if let Some(known) = known
            && !store::hash_of(&self.0.pool, known.number).await?.is_some_and(|hash| known.is(&hash))
        {
            verified.found(Finding::new(Problem::TailCut, Some(known.number)));
        }
        let next = store::next_rows(connection, end, i64::MAX, 1).await?;
        if let Some(row) = next.first().filter(|row| row.created_at < now - LATE) {
            verified.found(Finding::of_row(Problem::NotSealed, None, row.id, row.created_at));
        }
        Ok(verified)
    }

    /// The same once a day, by the one process that gets there first. What is found is logged and in the audit.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn verify_daily(self) -> Result<(), Error> {
        let now = self.0.now();
        let last = self.last_verified(&mut *self.0.pool.acquire().await?).await?;
        if last.is_some_and(|last| last.at > now - EVERY && last.at <= now)
            || !schedule::wins(&self.0.pool, "audit_verify", TRIED, now).await?
        {
            return Ok(());
        }
        let Verified { batches, rows, head, findings, counts } = self.verify(None).await?;
        // It may have taken long, and a row that is older than ten minutes when it comes is one that was kept from its seal.
        let now = self.0.now();
        let last = LastVerified {
            at: now,
            head: head.map_or(0, |head| head.number),
            rows,
            findings: counts.iter().map(|(problem, count)| ((*problem).to_owned(), *count)).collect(),
        };
        tracing::info!(batches, rows, head = last.head, findings = findings.len(), "audit.verified");
        for finding in &findings {
            tracing::error!(problem = finding.problem.as_str(), batch = finding.batch, "audit.tampered: {finding}");
        }
        let mut work = UnitOfWork::begin(&self.0.pool, None, now).await?;
        self.save_verified(work.connection(), last).await?;
        if !counts.is_empty() {
            work.record(Event::AuditTampered { findings: counts });
        }
        Ok(work.commit().await?)
    }

    /// What the last verification said that the key vouches for, as far as this process knows: whoever writes to the database can put
    /// another in its place, or none, and this process goes by the one it has seen.
    pub(super) async fn last_verified(self, connection: &mut PgConnection) -> sqlx::Result<Option<LastVerified>> {
        let said = store::verified(connection).await?;
        let ours = said.and_then(|said| {
            let (key_id, mac) = said.key_id.zip(said.mac)?;
            (self.0.keys.is_audit_mac(&key_id, &said.last.hash(), &mac) == Some(true)).then_some(said.last)
        });
        let mut seen = self.0.verified_seen.lock().expect("nothing panics while it holds the lock");
        // One of a time that isn't come was said by a clock that had jumped ahead.
        let now = self.0.now();
        if let Some(ours) = ours
            && seen.as_ref().is_none_or(|seen| seen.at <= ours.at || seen.at > now)
        {
            *seen = Some(ours);
        }
        Ok(seen.clone())
    }

    /// The last verification counted what is accepted now.
    pub(super) async fn forget_late(self, connection: &mut PgConnection) -> sqlx::Result<()> {
        if let Some(mut last) = self.last_verified(connection).await? {
            last.findings.remove(<&str>::from(Problem::SealedLate));
            self.save_verified(connection, last).await?;
        }
        Ok(())
    }

    async fn save_verified(self, connection: &mut PgConnection, last: LastVerified) -> sqlx::Result<()> {
        let (key_id, mac) = self.0.keys.audit_mac(&last.hash());
        store::save_verified(connection, &last, key_id, &mac).await
    }

    /// The batch by itself: its number, its hash after the one before, and who vouches for it.
    fn follow(self, walk: &mut Walk, seal: &Seal) {
        let missing = seal.number - walk.number - 1;
        if missing > 0 {
            walk.before = None;
            walk.verified.found(Finding { count: missing, ..Finding::new(Problem::BatchMissing, Some(walk.number + 1)) });
        }
        let vouched = self.0.keys.is_audit_mac(&seal.key_id, &seal.hash, &seal.mac);
        // Behind a batch that is missing nothing can be said.
        let follows = |ours| walk.before.is_some_and(|before| seal.hash_after(&before, ours) == seal.hash);
        let alone = follows(false);
        if (walk.before.is_some() && !alone && !follows(true)) || vouched == Some(false) {
            walk.verified.found(Finding {
                from: seal.first_at,
                to: seal.last_at,
                ..Finding::new(Problem::BatchChanged, Some(seal.number))
            });
        }
        if alone {
            // Also where its own key is gone by now, and whatever vouches for it later.
            walk.nobodys(seal.number - 1);
            walk.vouched = seal.number - 1;
        }
        if vouched == Some(true) {
            walk.vouched = seal.number;
        }
        match seal.kind {
            Kind::Accepted => walk.late.clear(),
            _ if seal.is_late() => walk.late(seal),
            _ => {}
        }
        (walk.before, walk.number) = (Some(seal.hash), seal.number);
        walk.verified.batches += 1;
    }
}

impl Walk {
    /// What can be said once all is seen.
    fn close(&mut self, last: i64) {
        for Month { batches, gone, findings, from, to, rows } in std::mem::take(&mut self.months).into_values() {
            let first = findings.first().and_then(|finding| finding.batch);
            if gone > 0 && gone == batches {
                self.verified.found(Finding { from, to, count: rows, ..Finding::new(Problem::MonthMissing, first) });
            } else {
                for finding in findings {
                    self.verified.found(finding);
                }
            }
        }
        self.nobodys(last);
        for (_, finding) in std::mem::take(&mut self.late) {
            self.verified.found(finding);
        }
    }

    /// The rows stood there unsealed from the first one's time until they were sealed. Of too many stretches the last goes on.
    fn late(&mut self, seal: &Seal) {
        let full = self.late.len() >= MOST;
        match self.late.last_mut() {
            Some((last, finding)) if full || *last == seal.number - 1 => {
                *last = seal.number;
                finding.count += seal.rows;
                finding.from = finding.from.min(seal.first_at);
                finding.to = finding.to.max(Some(seal.sealed_at));
            }
            _ => self.late.push((
                seal.number,
                Finding {
                    from: seal.first_at,
                    to: Some(seal.sealed_at),
                    count: seal.rows,
                    ..Finding::new(Problem::SealedLate, Some(seal.number))
                },
            )),
        }
    }

    /// No key vouches for the batches since the last that one did for, up to this one.
    fn nobodys(&mut self, last: i64) {
        if self.vouched < last {
            self.verified
                .found(Finding { count: last - self.vouched, ..Finding::new(Problem::KeyMissing, Some(self.vouched + 1)) });
        }
    }
}

/// The rows of a window beside its batches.
async fn compare(connection: &mut PgConnection, window: Window, walk: &mut Walk) -> Result<(), Error> {
    let Window { mut from, to, mut stretches, .. } = window;
    let mut at = 0;
    while !stretches.is_empty() {
        let rows = if to.among_old() {
            store::old_rows(connection, from, to, PAGE).await?
        } else {
            store::numbered_rows(connection, from.max(Mark::NUMBERED), to.position, PAGE).await?
        };
        let Some(last) = rows.last() else { break };
        let end = rows.len() < PAGE;
        from = last.mark();
        for row in rows {
            while stretches.get(at).is_some_and(|(to, _)| row.mark() > *to) {
                at += 1;
            }
            let Some((_, Stretch(months))) = stretches.get_mut(at) else { break };
            place(row, months, walk);
        }
        if end {
            break;
        }
    }
    for (_, Stretch(months)) in stretches {
        for (_, beside) in months {
            settle(connection, beside, walk).await?;
        }
    }
    Ok(())
}

fn place(row: Row, months: &mut BTreeMap<Date, Beside>, walk: &mut Walk) {
    walk.verified.rows += 1;
    match months.get_mut(&row.month()).filter(|_| !walk.dropped.contains(&row.month())) {
        Some(beside) => {
            beside.rows.push(&row);
            // Whoever puts in a million rows must not fill our memory with their names.
            if beside.named.len() < 2 * BATCH {
                beside.named.push((row.id, row.created_at));
            }
        }
        None => walk.verified.found(Finding::of_row(Problem::RowInserted, None, row.id, row.created_at)),
    }
}

/// All rows of a batch were seen.
async fn settle(connection: &mut PgConnection, beside: Beside, walk: &mut Walk) -> Result<(), Error> {
    let Beside { seal, rows, named } = beside;
    if walk.dropped.contains(&seal.month) {
        return Ok(());
    }
    let month = walk.months.entry(seal.month).or_default();
    month.batches += 1;
    if rows.count == seal.rows && rows.hash() == seal.rows_hash {
        return Ok(());
    }
    let all =
        Finding { from: seal.first_at, to: seal.last_at, count: seal.rows, ..Finding::new(Problem::RowMissing, Some(seal.number)) };
    if rows.count == 0 {
        month.gone += 1;
        month.rows += seal.rows;
        month.from = month.from.or(seal.first_at);
        month.to = month.to.max(seal.last_at);
        if month.findings.len() < MOST {
            month.findings.push(all);
        }
        return Ok(());
    }
    let was = store::fingerprints(connection, seal.number).await?;
    let (left, extra) = difference(&was, &rows.fingerprints);
    // As many are wrong as are gone: they are the same ones, changed. Of more, some were put in.
    let changed = left.min(extra.len());
    for (n, at) in extra.iter().enumerate() {
        let problem = if n < changed { Problem::RowChanged } else { Problem::RowInserted };
        if let Some((id, at)) = named.get(*at) {
            walk.verified.found(Finding::of_row(problem, Some(seal.number), *id, *at));
        }
    }
    if left > changed {
        walk.verified.found(Finding { count: i64::try_from(left - changed).unwrap_or(i64::MAX), ..all });
    } else if left == 0 && extra.is_empty() {
        // The rows are those whose fingerprints stand there, and yet not those that were sealed.
        walk.verified.found(Finding { problem: Problem::BatchChanged, count: 1, ..all });
    }
    Ok(())
}

/// How many of `was` are not in `is`, and which of `is` are not in `was`, by their place. Each counts as often as it is there.
fn difference(was: &[u8], is: &[u8]) -> (usize, Vec<usize>) {
    let mut left: BTreeMap<&[u8], usize> = BTreeMap::new();
    for fingerprint in was.chunks(FINGERPRINT) {
        *left.entry(fingerprint).or_default() += 1;
    }
    let mut extra = Vec::new();
    for (at, fingerprint) in is.chunks(FINGERPRINT).enumerate() {
        match left.get_mut(fingerprint) {
            Some(count) if *count > 0 => *count -= 1,
            _ => extra.push(at),
        }
    }
    (left.values().sum(), extra)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named_by_its_place() {
        let rows = |rows: &[u8]| rows.iter().flat_map(|row| [*row; FINGERPRINT]).collect::<Vec<u8>>();
        let check = |was: &[u8], is: &[u8], left: usize, extra: &[usize]| {
            assert_eq!(difference(&rows(was), &rows(is)), (left, extra.to_vec()), "{was:?} {is:?}");
        };
        check(&[1, 2, 3], &[1, 2, 3], 0, &[]);
        check(&[1, 2, 3], &[1, 9, 3], 1, &[1]);
        check(&[1, 2, 3], &[1, 3], 1, &[]);
        check(&[1, 2, 3], &[1, 2, 9, 3], 0, &[2]);
        check(&[1, 2], &[2, 1], 0, &[]);
        check(&[1, 1], &[1, 1, 1], 0, &[2]);
    }
}
