//! The seal: rows that are final are hashed in batches, each batch with the one before it, and a key that the database doesn't hold
//! vouches for each. Whoever changes, removes or puts in a row afterwards would have to make every later batch anew, which needs the
//! key; `verify.rs` looks.
//!
//! It is done by one process now and then, off the path of requests: an audited thing pays for a number and an index, no more.
//!
//! Which rows are final? They are numbered by a sequence, and a number may become visible after a greater one. Whoever inserts holds a
//! lock on the table from before the number was drawn until the row is there for all to see, or never. So once everybody is gone who
//! held that lock when number N had been seen, nothing up to N can still come. It is how `create index concurrently` waits.
//!
//! The owner of the schema can delete batches, and a server would seal the rows anew with its key. So a server begins no second chain, and
//! rows that were sealed late are a finding, until an operator accepts them. The operator does both with [`Audit::seal_by_hand`], and the
//! chain records it under the key.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{PgConnection, PgPool};
use time::{Date, OffsetDateTime};

use super::{
    chain::{Head, Kind, LATE, LastVerified, Late, Mark, Row, Rows, Seal, month_of},
    seal_store as store,
};
use crate::{
    Audit, Error,
    event::{Event, UnitOfWork},
    identity::Origin,
    primitives::{reason::Reason, schedule},
};

/// Rows of one batch at most.
pub(super) const BATCH: usize = 5_000;
/// Bytes of one batch, from which on it takes no further page: a batch holds the chain's lock while PostgreSQL prints its rows.
const BATCH_BYTES: usize = 16 << 20;
/// Rows of one statement at most, here and wherever the log is read in pages: what is held in memory at once. The application's role can
/// add rows of 64 KiB that take PostgreSQL milliseconds each to print, and a statement with thousands of them never ends in time.
pub(super) const PAGE: usize = 100;
/// Batches of one run at most, so that a backlog is worked off in turns.
const BATCHES: usize = 20;
const EVERY: time::Duration = time::Duration::minutes(1);
/// How long a run waits for transactions that may still bring rows. One that lasts longer has another run wait for it.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a batch follows; zeros before the first.
struct Before {
    number: i64,
    hash: [u8; 32],
    /// Ours to go on from: the next one vouches for it.
    ours: bool,
}

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sealed {
    pub batches: usize,
    pub rows: i64,
    /// A transaction that may still bring rows was not over in time; another run goes on.
    pub waits: bool,
    /// There are rows and was a chain, and none is left to go on from.
    pub no_chain: bool,
}

/// How the seal stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SealState {
    pub head: Option<Head>,
    /// Rows up to here are sealed.
    pub to_position: i64,
    pub sealed_at: Option<OffsetDateTime>,
    /// The time of the next row to seal.
    pub unsealed_since: Option<OffsetDateTime>,
    pub verified: Option<LastVerified>,
}

impl Audit<'_> {
    /// Seals once a minute, in whichever process gets there first; and says on every one how the seal stands, and whether the chain
    /// that this process has seen is still there.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn watch(self) -> Result<(), Error> {
        let sealed = self.seal_when_due().await;
        // Also where it failed: that rows wait is what has to be seen then.
        self.tell_seal().await?;
        sealed
    }

    async fn seal_when_due(self) -> Result<(), Error> {
        if !schedule::wins(&self.0.pool, "audit_seal", EVERY, self.0.now()).await? {
            return Ok(());
        }
        self.seal_and_tell().await
    }

    /// What a process left unsealed, before it ends: nobody may come for hours, and what is sealed then is late. Not where another key
    /// sealed last: a command may have another than the servers.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn seal_at_end(self) -> Result<(), Error> {
        let ours = self.goes_on_from_ours().await?;
        if ours { self.seal_and_tell().await } else { Ok(()) }
    }

    async fn seal_and_tell(self) -> Result<(), Error> {
        let sealed = self.seal().await?;
        if sealed.waits {
            tracing::warn!("audit.seal_waits");
        }
        if sealed.no_chain {
            tracing::error!("audit.no_chain: there are rows to seal and no seal to go on from; docs/runbooks/audit-unsealed.md");
        }
        let newest = store::head(&mut *self.0.pool.acquire().await?).await?;
        if let Some(store::Newest { head, .. }) = newest.filter(|_| sealed.batches > 0) {
            tracing::info!(head = head.number, hash = head.prefix(), rows = sealed.rows, "audit.sealed");
        }
        Ok(())
    }

    /// Seals what is final, as far as one run goes.
    ///
    /// # Errors
    /// When the database does not answer. What was sealed before stays so.
    pub async fn seal(self) -> Result<Sealed, Error> {
        self.seal_all(false).await
    }

    /// An operator's: seals all that waits, begins a chain where there is none, and accepts what was sealed late up to now. `None`:
    /// nothing was, or rows wait for a transaction.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn seal_by_hand(self, reason: &Reason) -> Result<(Sealed, Option<Late>), Error> {
        let mut sealed = Sealed::default();
        loop {
            let run = self.seal_all(true).await?;
            sealed.batches += run.batches;
            sealed.rows += run.rows;
            if run.waits {
                return Ok((Sealed { waits: true, ..sealed }, None));
            }
            if run.batches == 0 {
                break;
            }
        }
        let now = self.0.now();
        let mut work = UnitOfWork::begin(&self.0.pool, None, now).await?;
        store::lock(work.connection()).await?;
        let late = store::late(work.connection(), LATE).await?;
        if late.batches == 0 {
            return Ok((sealed, None));
        }
        let head = store::head(work.connection()).await?;
        let to = head.as_ref().map_or(Mark::START, |head| head.to);
        let rows = Rows::elsewhere(late.rows, late.first_at, late.last_at);
        let before = self.before(work.connection(), head.as_ref()).await?;
        self.add_seal(work.connection(), before, Kind::Accepted, month_of(now), to, &rows).await?;
        self.forget_late(work.connection()).await?;
        work.record(Event::AuditAccepted { by: Origin::Operator, batches: late.batches, rows: late.rows, reason: reason.clone() });
        work.commit().await?;
        Ok((sealed, Some(late)))
    }

    async fn seal_all(self, begin: bool) -> Result<Sealed, Error> {
        let mut sealed = Sealed::default();
        let Some(newest) = store::newest_position(&self.0.pool).await? else { return Ok(sealed) };
        let mut connection = self.0.pool.acquire().await?;
        let head = store::head(&mut connection).await?;
        if head.as_ref().is_some_and(|head| head.to >= Mark::after(newest)) {
            // Whoever adds a batch can let it end past all rows, and nothing would ever be sealed again: not without a word.
            self.before(&mut connection, head.as_ref()).await?;
            return Ok(sealed);
        }
        drop(connection);
        if !settled(&self.0.pool).await? {
            sealed.waits = true;
            return Ok(sealed);
        }
        for _ in 0..BATCHES {
            let Some((batches, rows)) = self.seal_some(newest, begin).await? else {
                sealed.no_chain = true;
                break;
            };
            if batches == 0 {
                break;
            }
            sealed.batches += batches;
            sealed.rows += rows;
        }
        Ok(sealed)
    }

    /// The next rows up to `newest`: a batch for each month among them. `None` where the chain is gone, and this is not to `begin`
    /// another.
    async fn seal_some(self, newest: i64, begin: bool) -> Result<Option<(usize, i64)>, Error> {
        let mut transaction = self.0.pool.begin().await?;
        store::lock(&mut transaction).await?;
        let head = store::head(&mut transaction).await?;
        if head.is_none() && !begin && (self.seen().is_some() || store::had_chain(&mut transaction, self.0.now() - LATE).await?) {
            return Ok(None);
        }
        let from = head.as_ref().map_or(Mark::START, |head| head.to);
        let (mut months, mut rows, mut bytes) = (BTreeMap::<Date, Rows>::new(), 0, 0);
        let mut last: Option<Mark> = None;
        let mut whole = false;
        while !whole && rows < BATCH && bytes < BATCH_BYTES {
            let page = match last {
                None => store::next_rows(&mut transaction, from, newest, PAGE).await?,
                Some(last) if last.position <= 0 => store::old_rows(&mut transaction, last, Mark::NUMBERED, PAGE).await?,
                Some(last) => store::numbered_rows(&mut transaction, last, newest, PAGE).await?,
            };
            whole = page.len() < PAGE;
            last = page.last().map(Row::mark).or(last);
            rows += page.len();
            for row in &page {
                bytes += row.size();
                months.entry(row.month()).or_insert_with(Rows::new).push(row);
            }
        }
        let Some(last) = last else { return Ok(Some((0, 0))) };
        let to = match last.position {
            ..=0 => last,
            _ if whole => Mark::after(newest),
            position => Mark::after(position),
        };
        let mut before = self.before(&mut transaction, head.as_ref()).await?;
        let batches = months.len();
        for (month, rows) in months {
            before = self.add_seal(&mut transaction, before, Kind::Rows, month, to, &rows).await?;
        }
        transaction.commit().await?;
        Ok(Some((batches, i64::try_from(rows).unwrap_or(i64::MAX))))
    }

    /// What the next batch follows. Whoever can write to the database can add one that we did not make.
    async fn before(self, connection: &mut PgConnection, newest: Option<&store::Newest>) -> sqlx::Result<Before> {
        let Some(newest) = newest else { return Ok(Before { number: 0, hash: [0; 32], ours: true }) };
        let (head, ours) = (newest.head, self.vouches_for(connection, newest.head).await?);
        if !ours {
            tracing::error!(batch = head.number, "audit.not_ours: no configured key vouches for the newest batch");
        }
        Ok(Before { number: head.number, hash: head.hash, ours })
    }

    /// The key vouches for a hash, which can be copied with its MAC: it must be this batch's, after the one before.
    async fn vouches_for(self, connection: &mut PgConnection, head: Head) -> sqlx::Result<bool> {
        let last = store::seals(connection, head.number.saturating_sub(2).max(0), head.number, 2).await?;
        let (before, seal) = match &last[..] {
            [seal] if seal.number == 1 => ([0; 32], seal),
            [before, seal] if before.number.checked_add(1) == Some(seal.number) => (before.hash, seal),
            _ => return Ok(false),
        };
        let follows = [true, false].into_iter().any(|ours| seal.hash_after(&before, ours) == seal.hash);
        Ok(follows && self.0.keys.is_audit_mac(&seal.key_id, &seal.hash, &seal.mac) == Some(true))
    }

    /// A key vouches for the newest batch, or there is none.
    async fn goes_on_from_ours(self) -> sqlx::Result<bool> {
        let mut connection = self.0.pool.acquire().await?;
        match store::head(&mut connection).await? {
            Some(newest) => self.vouches_for(&mut connection, newest.head).await,
            None => Ok(true),
        }
    }

    /// The newest batch that this process has seen.
    fn seen(self) -> Option<Head> {
        *self.0.seal_seen.lock().expect("nothing panics while it holds the lock")
    }

    /// The next of the chain. The caller holds the chain's lock.
    async fn add_seal(
        self,
        connection: &mut PgConnection,
        before: Before,
        kind: Kind,
        month: Date,
        to: Mark,
        rows: &Rows,
    ) -> Result<Before, Error> {
        // Whoever can write to the database could have taken the last one: that must be said, and not end the worker.
        let number =
            before.number.checked_add(1).ok_or_else(|| sqlx::Error::Protocol("the audit's chain has no number left".into()))?;
        let mut seal = Seal {
            number,
            kind,
            month,
            to,
            rows: rows.count,
            first_at: rows.first_at,
            last_at: rows.last_at,
            rows_hash: rows.hash(),
            sealed_at: self.0.now(),
            hash: [0; 32],
            key_id: String::new(),
            mac: Vec::new(),
        };
        seal.hash = seal.hash_after(&before.hash, before.ours);
        let (key_id, mac) = self.0.keys.audit_mac(&seal.hash);
        (seal.key_id, seal.mac) = (key_id.to_owned(), mac.to_vec());
        store::add(connection, &seal, &rows.fingerprints).await?;
        Ok(Before { number: seal.number, hash: seal.hash, ours: true })
    }

    /// Drops the months that ended before then, and says in the chain that it was done: without this, a month that is gone is one
    /// that somebody removed.
    pub(crate) async fn drop_months(self, before: OffsetDateTime) -> sqlx::Result<i32> {
        let mut transaction = self.0.pool.begin().await?;
        // First, as whoever seals takes it first: dropping locks the whole log.
        store::lock(&mut transaction).await?;
        let months = store::months(&mut transaction).await?;
        let dropped = store::drop_months(&mut transaction, before).await?;
        if dropped == 0 {
            return Ok(0);
        }
        let left = store::months(&mut transaction).await?;
        let Some(head) = store::head(&mut transaction).await? else {
            // No batch holds their rows, and a chain doesn't begin in passing.
            transaction.commit().await?;
            return Ok(dropped);
        };
        let to = head.to;
        let mut before = self.before(&mut transaction, Some(&head)).await?;
        for month in months.into_iter().filter(|month| !left.contains(month)) {
            let sealed = self.add_seal(&mut transaction, before, Kind::Dropped, month, to, &Rows::new()).await;
            before = sealed.map_err(|Error(error)| error)?;
        }
        transaction.commit().await?;
        Ok(dropped)
    }

    /// # Errors
    /// When the database does not answer.
    pub async fn head(self) -> Result<SealState, Error> {
        let mut connection = self.0.pool.acquire().await?;
        let head = store::head(&mut connection).await?;
        let from = head.as_ref().map_or(Mark::START, |head| head.to);
        Ok(SealState {
            head: head.as_ref().map(|newest| newest.head),
            to_position: from.position,
            sealed_at: head.map(|head| head.sealed_at),
            unsealed_since: store::next_at(&mut connection, from).await?,
            verified: self.last_verified(&mut connection).await?,
        })
    }

    async fn tell_seal(self) -> Result<(), Error> {
        let state = self.head().await?;
        let unsealed = state.unsealed_since.map_or(time::Duration::ZERO, |since| self.0.now() - since);
        let sealed_at = state.sealed_at.map_or(0.0, |at| (at - OffsetDateTime::UNIX_EPOCH).as_seconds_f64());
        #[expect(clippy::cast_precision_loss, reason = "batches are counted to a few millions")]
        metrics::gauge!("audit_seal_head").set(state.head.map_or(0, |head| head.number) as f64);
        metrics::gauge!("audit_seal_timestamp_seconds").set(sealed_at);
        metrics::gauge!("audit_unsealed_seconds").set(unsealed.as_seconds_f64().max(0.0));
        let seen = self.seen();
        let still_there = match seen {
            Some(seen) => store::hash_of(&self.0.pool, seen.number).await?.is_some_and(|hash| hash == seen.hash),
            None => true,
        };
        // One that somebody else made is not what an operator must leave there.
        let ours = self.goes_on_from_ours().await?;
        if still_there && ours {
            *self.0.seal_seen.lock().expect("nothing panics while it holds the lock") = state.head;
        } else if !still_there {
            let (number, hash) = seen.map_or((0, String::new()), |seen| (seen.number, seen.prefix()));
            tracing::error!(batch = number, hash, "audit.seal_gone: a batch this process has seen is not there any more");
        }
        let no_chain = state.head.is_none() && unsealed > LATE;
        let ok = still_there && ours && !no_chain && state.verified.is_none_or(|verified| verified.findings.is_empty());
        metrics::gauge!("audit_verify_ok").set(f64::from(u8::from(ok)));
        Ok(())
    }
}

/// Whether everybody is gone who was inserting when this was asked. Waits a moment for them.
async fn settled(pool: &PgPool) -> sqlx::Result<bool> {
    let writers = store::writers(pool).await?;
    let wait = async {
        while !writers.is_empty() && store::any_left(pool, &writers).await? {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, wait).await.map_or(Ok(false), |waited| waited.map(|()| true))
}
