//! Counts the policy's limits: GCRA in PostgreSQL, so that all instances share them and a restart forgives nothing.
//!
//! Not here: which limits there are ([`crate::policy::limits`]), and which act charges which.
//! To add one: docs/limits.md, "Add one".

pub(crate) mod store;

use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    RequestLimits,
    crypto::{BrowserNonce, Keys, KnownBrowserToken},
    policy::limits::{Limit, Limits, Rate},
    primitives::email_address,
};

/// A limit refused. Nothing was counted, so asking again early costs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limited {
    pub limit: Limit,
    /// How long until the same request would pass.
    pub wait: Duration,
}

impl Limited {
    /// Counts the refusal. Of several that refused one request, the longest wait is also logged.
    fn count(&self) {
        metrics::counter!("rate_limited_total", "limit" => self.limit.name()).increment(1);
    }

    fn log(&self) {
        tracing::info!(limit = self.limit.name(), wait_s = self.wait.as_secs(), "limit.refused");
    }

    /// One that no row of the table says.
    pub(crate) fn counted(self) -> Self {
        self.count();
        self.log();
        self
    }
}

/// How a limit stands after a request it let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// How many more would pass at once.
    pub left: u32,
    /// How long until the whole budget is free again.
    pub reset: Duration,
}

/// Whom a limit counts.
#[derive(Clone, Copy)]
pub(crate) enum Subject<'a> {
    /// An address, by its key.
    Address(&'a str),
    /// The same, asked for from one network.
    AddressFrom(&'a str, &'a str),
    /// By [`crate::primitives::requester::Requester::network`].
    Network(&'a str),
    Account(Uuid),
    /// One thing about an account, like the kind of a notice and what it is about.
    AccountAnd(Uuid, &'a str),
    /// A browser that has asked for something.
    Browser(&'a BrowserNonce),
    /// A browser that this address's account knows.
    KnownBrowserOfAddress(&'a KnownBrowserToken, &'a str),
    KnownBrowserOf(&'a KnownBrowserToken, Uuid),
    ApiKey(Uuid),
    Everybody,
}

impl Subject<'_> {
    /// What is hashed to a row's key.
    fn identity(self) -> String {
        // The parts are joined by a byte that stands in none of them, so ("ab", "c") and ("a", "bc") stay apart.
        match self {
            Self::Address(key) => key.to_owned(),
            Self::AddressFrom(key, network) => format!("{key}\0{network}"),
            Self::Network(network) => network.to_owned(),
            Self::Account(id) | Self::ApiKey(id) => id.to_string(),
            Self::AccountAnd(user, what) => format!("{user}\0{what}"),
            Self::Browser(nonce) => nonce.reveal(),
            Self::KnownBrowserOfAddress(token, key) => format!("{}\0{key}", token.reveal()),
            Self::KnownBrowserOf(token, user) => format!("{}\0{user}", token.reveal()),
            Self::Everybody => String::new(),
        }
    }

    fn subject(self) -> MaskedSubject {
        let (address, network, user) = match self {
            Self::Address(key) | Self::KnownBrowserOfAddress(_, key) => (Some(key), None, None),
            Self::AddressFrom(key, network) => (Some(key), Some(network), None),
            Self::Network(network) => (None, Some(network), None),
            Self::Account(user) | Self::AccountAnd(user, _) | Self::KnownBrowserOf(_, user) => (None, None, Some(user)),
            Self::Browser(_) | Self::ApiKey(_) | Self::Everybody => (None, None, None),
        };
        MaskedSubject { address: address.map(email_address::masked), network: network.map(ToOwned::to_owned), user }
    }
}

/// Whom a limit counts, for administrators. No row names an address that may have no account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskedSubject {
    /// Masked.
    pub address: Option<String>,
    pub network: Option<String>,
    pub user: Option<Uuid>,
}

/// One unit of one limit, for one identity.
#[derive(Clone)]
pub(crate) struct Charge {
    pub limit: Limit,
    key: [u8; 32],
    rate: Rate,
    subject: MaskedSubject,
    /// What is charged where this one is full: all of these, or the request is refused.
    instead: Vec<Charge>,
}

impl Charge {
    /// Where this one is full, `instead` pays: a limit that strangers share may be used up by others, and those are their own. What
    /// they say how long to wait is what is told, since nobody else comes first then.
    pub fn or(self, instead: Vec<Charge>) -> Self {
        Self { instead, ..self }
    }

    /// Names its row.
    fn row(&self) -> (Limit, [u8; 32]) {
        (self.limit, self.key)
    }

    fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.instead)
    }
}

/// What came of one statement.
enum Attempt {
    Taken,
    Refused,
    /// Others took the last of something at this very moment. What was taken is given back.
    Raced,
}

/// A row that would refuse the next request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Full {
    pub limit: Limit,
    pub key: Vec<u8>,
    pub subject: MaskedSubject,
    pub free_at: OffsetDateTime,
}

/// Makes charges. Identities enter as keyed hashes, and whose they are as administrators see it: masked.
pub(crate) struct Throttle<'a> {
    pub limits: &'a Limits,
    pub keys: &'a Keys,
}

impl<'a> RequestLimits<'a> {
    pub(crate) fn throttle(self) -> Throttle<'a> {
        Throttle { limits: &self.0.policy.limits, keys: &self.0.keys }
    }
}

impl Throttle<'_> {
    pub fn charge(&self, limit: Limit, whose: Subject<'_>) -> Charge {
        let key = self.keys.pseudonym(whose.identity().as_bytes());
        Charge { limit, key, rate: self.limits.rate(limit), subject: whose.subject(), instead: Vec::new() }
    }

    /// Takes all of `charges` or none, in a statement of its own: what a failure later undoes must not undo the count.
    pub async fn take(&self, pool: &PgPool, charges: &[Charge], now: OffsetDateTime) -> sqlx::Result<Result<(), Limited>> {
        if !self.limits.enabled || charges.is_empty() {
            return Ok(Ok(()));
        }
        let mut connection = pool.acquire().await?;
        match attempt(&mut connection, charges, now).await? {
            // What is charged instead may have room. Within a transaction this would lock rows out of their order.
            Attempt::Raced => self.take_within(&mut connection, charges, now).await,
            made => answer(&mut connection, made, charges, now).await,
        }
    }

    /// As [`Throttle::take`], inside the caller's transaction: counted only if that commits.
    pub async fn take_within(
        &self,
        connection: &mut PgConnection,
        charges: &[Charge],
        now: OffsetDateTime,
    ) -> sqlx::Result<Result<(), Limited>> {
        if !self.limits.enabled {
            return Ok(Ok(()));
        }
        let made = attempt(connection, charges, now).await?;
        answer(connection, made, charges, now).await
    }

    /// For one change of an account's owner, inside the transaction that makes it.
    pub(crate) async fn take_change(
        &self,
        connection: &mut PgConnection,
        user: Uuid,
        now: OffsetDateTime,
    ) -> sqlx::Result<Result<(), Limited>> {
        self.take_within(connection, &[self.charge(Limit::AccountChanges, Subject::Account(user))], now).await
    }

    /// As [`Throttle::take`] for one charge, and how the limit then stands. `None` where limits are off.
    pub async fn take_one(
        &self,
        pool: &PgPool,
        charge: &Charge,
        now: OffsetDateTime,
    ) -> sqlx::Result<Result<Option<Standing>, Limited>> {
        if !self.limits.enabled {
            return Ok(Ok(None));
        }
        let (mut connection, charges) = (pool.acquire().await?, std::slice::from_ref(charge));
        match store::take(&mut connection, charges, now).await?.first() {
            Some(taken) => {
                let reset = Duration::try_from(taken.tat - now).unwrap_or_default();
                Ok(Ok(Some(Standing { left: charge.rate.left(reset), reset })))
            }
            None => Ok(Err(refuse(&mut connection, charges, now).await?)),
        }
    }

    /// Whether a thing that is done once in a while is due. No limit refused anybody where it is not, so that is not counted.
    pub async fn once(&self, connection: &mut PgConnection, charge: Charge, now: OffsetDateTime) -> sqlx::Result<bool> {
        Ok(!store::take(connection, &[charge], now).await?.is_empty())
    }

    /// How many more of `charge` would pass now, and how long until the next would. For the page that says so: nothing is decided
    /// by it.
    pub async fn left(&self, pool: &PgPool, charge: &Charge, now: OffsetDateTime) -> sqlx::Result<(u32, Duration)> {
        if !self.limits.enabled {
            return Ok((charge.rate.burst, Duration::ZERO));
        }
        let ahead = store::ahead(pool, charge, now).await?;
        let free = charge.rate.period.saturating_sub(ahead);
        Ok((charge.rate.left(ahead), charge.rate.emission().saturating_sub(free)))
    }

    /// Gives back what turned out not to count: a right code is no wrong one.
    pub async fn give_back(&self, connection: &mut PgConnection, charges: &[Charge]) -> sqlx::Result<()> {
        if !self.limits.enabled || charges.is_empty() {
            return Ok(());
        }
        store::give_back(connection, charges).await
    }

    /// The rows of these limits that would refuse the next request, those with the longest wait first: at most `most`, and how many
    /// there are.
    pub async fn full(&self, pool: &PgPool, limits: &[Limit], most: i64, now: OffsetDateTime) -> sqlx::Result<(Vec<Full>, i64)> {
        if !self.limits.enabled {
            return Ok((Vec::new(), 0));
        }
        let rates = limits.iter().map(|limit| (*limit, self.limits.rate(*limit))).collect::<Vec<_>>();
        store::full(pool, &rates, most, now).await
    }
}

async fn attempt(connection: &mut PgConnection, charges: &[Charge], now: OffsetDateTime) -> sqlx::Result<Attempt> {
    let taken = store::take(connection, charges, now).await?;
    let is_taken = |charge: &Charge| taken.iter().any(|taken| (taken.limit, taken.key) == charge.row());
    let instead = |charge: &Charge| !charge.instead.is_empty() && charge.instead.iter().all(is_taken);
    if charges.iter().all(|charge| is_taken(charge) || instead(charge)) {
        return Ok(Attempt::Taken);
    }
    if taken.is_empty() {
        return Ok(Attempt::Refused);
    }
    let taken: Vec<Charge> = charges.iter().flat_map(Charge::all).filter(|charge| is_taken(charge)).cloned().collect();
    store::give_back(connection, &taken).await?;
    store::clear(connection, &taken, now).await?;
    Ok(Attempt::Raced)
}

async fn answer(
    connection: &mut PgConnection,
    made: Attempt,
    charges: &[Charge],
    now: OffsetDateTime,
) -> sqlx::Result<Result<(), Limited>> {
    match made {
        Attempt::Taken => Ok(Ok(())),
        Attempt::Refused | Attempt::Raced => Ok(Err(refuse(connection, charges, now).await?)),
    }
}

/// What to say to a request that some of these refused.
async fn refuse(connection: &mut PgConnection, asked: &[Charge], now: OffsetDateTime) -> sqlx::Result<Limited> {
    let waits = store::waits(connection, asked, now).await?;
    let wait = |charge: &Charge| waits.get(&charge.row()).copied().unwrap_or_default();
    let mut refused: Vec<Limited> = asked
        .iter()
        .filter(|charge| !wait(charge).is_zero())
        .map(|charge| Limited { limit: charge.limit, wait: charge.instead.iter().map(wait).max().unwrap_or_else(|| wait(charge)) })
        .collect();
    refused.retain(|limited| !limited.wait.is_zero());
    if refused.is_empty() {
        // Between the two statements the refused one ran free; a second is the honest answer.
        refused.push(Limited { limit: asked[0].limit, wait: Duration::from_secs(1) });
    }
    refused.iter().for_each(Limited::count);
    let limited = refused.into_iter().max_by_key(|limited| limited.wait).expect("one at least");
    limited.log();
    Ok(limited)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use futures::future::join_all;
    use testkit::{Database, TEST_KEY};
    use time::{Duration as Span, macros::datetime};

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-24 14:29 UTC);

    fn keys() -> Keys {
        Keys::new(&TEST_KEY, &[])
    }

    async fn taken(pool: &PgPool, charge: &Charge, now: OffsetDateTime) -> Result<(), Limited> {
        let (limits, keys) = (Limits::default(), keys());
        let throttle = Throttle { limits: &limits, keys: &keys };
        throttle.take(pool, std::slice::from_ref(charge), now).await.expect("the database answers")
    }

    fn charge_of(limit: Limit) -> Charge {
        let (limits, keys) = (Limits::default(), keys());
        Throttle { limits: &limits, keys: &keys }.charge(limit, Subject::Network("192.0.2.7"))
    }

    /// N at once, and no more; then one for each emission, to the microsecond; after a whole period N again.
    async fn counts_exactly(database: &Database, limit: Limit) {
        let pool = database.pool().await;
        let (charge, rate) = (charge_of(limit), Limits::default().rate(limit));
        let emission = Span::try_from(rate.emission()).expect("short");
        let refused = |wait: Span| Err(Limited { limit, wait: wait.try_into().expect("to come") });
        let name = limit.name();
        for n in 0..rate.burst {
            assert_eq!(taken(&pool, &charge, NOW).await, Ok(()), "{name}: {n} of {}", rate.burst);
        }
        for _ in 0..3 {
            assert_eq!(taken(&pool, &charge, NOW).await, refused(emission), "{name}: one more, and asking costs nothing");
        }
        // Another process after all of them were stopped: nothing is forgiven.
        pool.close().await;
        let pool = database.pool().await;
        let nearly = NOW + emission - Span::microseconds(1);
        assert_eq!(taken(&pool, &charge, nearly).await, refused(Span::microseconds(1)), "{name}");
        assert_eq!(taken(&pool, &charge, NOW + emission).await, Ok(()), "{name}: one comes back");
        assert_eq!(taken(&pool, &charge, NOW + emission).await, refused(emission), "{name}: one, not two");
        let later = NOW + emission + Span::try_from(rate.period).expect("short");
        for n in 0..rate.burst {
            assert_eq!(taken(&pool, &charge, later).await, Ok(()), "{name}: {n} of {} again", rate.burst);
        }
        assert_eq!(taken(&pool, &charge, later).await, refused(emission), "{name}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_limit_counts_exactly_by_the_clock_and_after_a_restart() {
        let database = Database::new().await;
        for limit in Limit::ALL {
            counts_exactly(&database, limit).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn two_hundred_at_once_on_two_servers_get_what_every_limit_allows() {
        let database = Database::new().await;
        let (one, two) = (database.pool().await, database.pool().await);
        for limit in Limit::ALL {
            let (charge, burst) = (charge_of(limit), Limits::default().rate(limit).burst);
            let asked = (0..200).map(|n| taken(if n % 2 == 0 { &one } else { &two }, &charge, NOW));
            let passed = join_all(asked).await.into_iter().flatten().count();
            assert_eq!(passed, usize::try_from(burst.min(200)).expect("few"), "{}", limit.name());
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_refused_request_makes_no_row_alone_or_among_sixty_four() {
        let database = Database::new().await;
        let pool = database.pool().await;
        let (limits, keys) = (Limits::default().with(Limit::LinkAll, Rate::new(4, Duration::from_mins(1))), keys());
        let throttle = Throttle { limits: &limits, keys: &keys };
        let rows =
            async || sqlx::query_scalar::<_, i64>("select count(*) from rate_limits").fetch_one(&pool).await.expect("a count");
        let take = async |n: usize| {
            let (network, address) = (format!("192.0.2.{n}"), format!("a{n}@example.org"));
            let charges = [
                throttle.charge(Limit::LinkAddress, Subject::Address(&address)),
                throttle.charge(Limit::LinkAll, Subject::Everybody),
                throttle.charge(Limit::LinkNetwork, Subject::Network(&network)),
            ];
            throttle.take(&pool, &charges, NOW).await.expect("the database answers")
        };
        let passed = join_all((0..64).map(take)).await.into_iter().flatten().count();
        assert_eq!(passed, 4, "raced");
        assert_eq!(rows().await, 1 + 2 * 4, "everybody's, and two of each that passed");
        for n in 100..150 {
            let refused = take(n).await.expect_err("full");
            assert_eq!(refused, Limited { limit: Limit::LinkAll, wait: Duration::from_secs(15) });
        }
        assert_eq!(rows().await, 9);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_charged_instead_pays_where_the_first_is_full_and_all_of_it_or_nothing() {
        let database = Database::new().await;
        let pool = database.pool().await;
        let of = |burst| Rate::new(burst, Duration::from_mins(1));
        let limits = Limits::default().with(Limit::LinkAll, of(4)).with(Limit::StepUpMail, of(3)).with(Limit::MailTest, of(50));
        let keys = keys();
        let throttle = Throttle { limits: &limits, keys: &keys };
        let take = async |n: usize| {
            let instead = [Limit::StepUpMail, Limit::MailTest].map(|limit| throttle.charge(limit, Subject::Everybody));
            let charges = [
                throttle.charge(Limit::LinkAll, Subject::Everybody).or(instead.to_vec()),
                throttle.charge(Limit::LinkNetwork, Subject::Network(&n.to_string())),
            ];
            throttle.take(&pool, &charges, NOW).await.expect("the database answers")
        };
        let passed = join_all((0..64).map(take)).await.into_iter().flatten().count();
        assert_eq!(passed, 4 + 3, "raced");
        let wait = Duration::from_secs(20);
        assert_eq!(take(64).await, Err(Limited { limit: Limit::LinkAll, wait }), "as what is charged instead says");
        let counted = throttle.left(&pool, &throttle.charge(Limit::MailTest, Subject::Everybody), NOW).await;
        assert_eq!(counted.expect("answers").0, 50 - 3);
        let rows: i64 = sqlx::query_scalar("select count(*) from rate_limits").fetch_one(&pool).await.expect("a count");
        assert_eq!(rows, 3 + 7);
    }

    #[tokio::test]
    async fn one_charge_tells_what_is_left_and_when_all_is_free_again() {
        let database = Database::new().await;
        let pool = database.pool().await;
        let (limits, keys) = (Limits::default().with(Limit::ApiKey, Rate::new(3, Duration::from_mins(1))), keys());
        let throttle = Throttle { limits: &limits, keys: &keys };
        let charge = throttle.charge(Limit::ApiKey, Subject::ApiKey(Uuid::from_u128(7)));
        for (left, reset) in [(2, 20), (1, 40), (0, 60)] {
            let standing = throttle.take_one(&pool, &charge, NOW).await.expect("answers");
            assert_eq!(standing, Ok(Some(Standing { left, reset: Duration::from_secs(reset) })));
        }
        let refused = throttle.take_one(&pool, &charge, NOW).await.expect("answers");
        assert_eq!(refused, Err(Limited { limit: Limit::ApiKey, wait: Duration::from_secs(20) }));
        let off = Limits::off();
        let off = Throttle { limits: &off, keys: &keys };
        assert_eq!(off.take_one(&pool, &charge, NOW).await.expect("answers"), Ok(None));
    }

    #[tokio::test]
    async fn whose_a_row_is_stands_masked_and_its_key_names_nobody() {
        let database = Database::new().await;
        let pool = database.pool().await;
        let (limits, keys, user) = (Limits::default(), keys(), Uuid::from_u128(7));
        let throttle = Throttle { limits: &limits, keys: &keys };
        let token = KnownBrowserToken::new();
        let subject = |address: Option<&str>, network: Option<&str>, user| MaskedSubject {
            address: address.map(ToOwned::to_owned),
            network: network.map(ToOwned::to_owned),
            user,
        };
        let masked = Some("m•••••@example.org");
        let mut identities = BTreeSet::new();
        for (whose, told) in [
            (Subject::Address("mara@example.org"), subject(masked, None, None)),
            (Subject::AddressFrom("mara@example.org", "192.0.2.7"), subject(masked, Some("192.0.2.7"), None)),
            (Subject::Network("192.0.2.7"), subject(None, Some("192.0.2.7"), None)),
            (Subject::Account(user), subject(None, None, Some(user))),
            (Subject::AccountAnd(user, "new_sign_in"), subject(None, None, Some(user))),
            (Subject::Browser(&BrowserNonce::new()), subject(None, None, None)),
            (Subject::KnownBrowserOfAddress(&token, "mara@example.org"), subject(masked, None, None)),
            (Subject::KnownBrowserOf(&token, user), subject(None, None, Some(user))),
            (Subject::ApiKey(Uuid::from_u128(8)), subject(None, None, None)),
            (Subject::Everybody, subject(None, None, None)),
        ] {
            let charge = throttle.charge(Limit::Notice, whose);
            assert_eq!(charge.subject, told);
            throttle.take(&pool, std::slice::from_ref(&charge), NOW).await.expect("the database answers").expect("the first");
            assert!(identities.insert(charge.key), "each has a key of its own");
        }
        let rows: Vec<String> =
            sqlx::query_scalar("select r::text from rate_limits r").fetch_all(&pool).await.expect("the rows are there");
        assert_eq!(rows.len(), identities.len());
        assert!(!rows.iter().any(|row| row.contains("mara") || row.contains(&token.reveal())), "{rows:?}");
    }
}
