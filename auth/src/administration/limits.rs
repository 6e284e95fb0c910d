//! Whom limits hold now, and letting one go.

use std::cmp::Reverse;

use data_encoding::BASE64URL_NOPAD;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Administration, Error,
    event::Event,
    event::UnitOfWork,
    factors::totp,
    identity::{ActionError, Actor},
    limits::{
        request_bursts::{NetworkRequests, TOO_MANY},
        throttle::{self, MaskedSubject},
    },
    policy::limits::Limit,
    users::account,
};

/// As many as a page shows.
const MOST: i64 = 100;

/// What holds somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThrottledBy {
    Limit(Limit),
    /// So many wrong authenticator codes in a row that the next has to wait, in browsers the account doesn't know.
    WrongAppCodes,
}

impl ThrottledBy {
    const WRONG_APP_CODES: &'static str = "totp_wait";

    /// The limits that hold people up. A browser waits 30 seconds after every mail, a notice is left out without anybody waiting, an
    /// API key is no person, and what is charged instead of another limit holds nobody alone: a list of these would tell nothing.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let hold = |limit: &Limit| {
            use Limit::{ApiKey, LinkAddressNewcomer, LinkAllBlock, LinkAllRange, LinkBrowser, Notice};
            !matches!(limit, LinkBrowser | LinkAddressNewcomer | LinkAllBlock | LinkAllRange | Notice | ApiKey)
        };
        Limit::ALL.into_iter().filter(hold).map(Self::Limit).chain([Self::WrongAppCodes]).collect()
    }

    /// For URLs and forms.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Limit(limit) => limit.name(),
            Self::WrongAppCodes => Self::WRONG_APP_CODES,
        }
    }

    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|by| by.name() == name)
    }
}

/// Somebody a limit holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Throttled {
    pub by: ThrottledBy,
    /// Names the row, for letting it go.
    pub key: String,
    /// Whole where it is an account's.
    pub subject: MaskedSubject,
    pub free_at: OffsetDateTime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsInForce {
    /// Those with the longest wait first.
    pub held: Vec<Throttled>,
    /// How many there are, shown or not.
    pub all: i64,
    /// The networks that asked for too many mails within the hour.
    pub too_many: Vec<NetworkRequests>,
}

impl Administration<'_> {
    /// Whom limits hold now: by one of them, or by any.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn limits_in_force(self, by: Option<ThrottledBy>) -> Result<LimitsInForce, Error> {
        let now = self.0.now();
        let asked = by.map_or_else(ThrottledBy::all, |by| vec![by]);
        let limits: Vec<Limit> =
            asked.iter().filter_map(|by| if let ThrottledBy::Limit(limit) = by { Some(*limit) } else { None }).collect();
        let (full, mut all) = self.0.limits().throttle().full(&self.0.pool, &limits, MOST, now).await?;
        let mut held: Vec<Throttled> = full
            .into_iter()
            .map(|row| Throttled {
                by: ThrottledBy::Limit(row.limit),
                key: BASE64URL_NOPAD.encode(&row.key),
                subject: row.subject,
                free_at: row.free_at,
            })
            .collect();
        if asked.contains(&ThrottledBy::WrongAppCodes) {
            let (waiting, count) = totp::store::waiting(&self.0.pool, MOST, now).await?;
            all += count;
            held.extend(waiting.into_iter().map(|(user, free_at)| {
                let subject = MaskedSubject { address: None, network: None, user: Some(user) };
                Throttled { by: ThrottledBy::WrongAppCodes, key: user.simple().to_string(), subject, free_at }
            }));
        }
        held.sort_by_key(|held| Reverse(held.free_at));
        held.truncate(usize::try_from(MOST).unwrap_or(usize::MAX));
        let users: Vec<Uuid> = held.iter().filter_map(|held| held.subject.user).collect();
        let mut connection = self.0.pool.acquire().await?;
        let addresses = account::store::addresses(&mut connection, &users).await?;
        for held in &mut held {
            if let Some(address) = held.subject.user.and_then(|user| addresses.get(&user)) {
                held.subject.address = Some(address.clone());
            }
        }
        let too_many =
            self.0.limits().busiest_networks(MOST).await?.into_iter().filter(|network| network.requests > TOO_MANY).collect();
        Ok(LimitsInForce { held, all, too_many })
    }

    /// Lets one go: it has its whole budget again. What wrong authenticator codes count towards the hundredth stays counted: that one
    /// protects against guessing over months (NIST 800-63B-4 §3.2.2), and no help desk should lift it by mistake.
    ///
    /// # Errors
    /// [`ActionError`]; [`ActionError::Nothing`] where nothing holds it.
    pub async fn release(self, who: Actor<'_>, by: ThrottledBy, key: &str) -> Result<(), ActionError> {
        let now = self.0.now();
        let mut work = UnitOfWork::begin_action(self.0, who, now).await?;
        let released = match by {
            ThrottledBy::Limit(limit) => {
                let key = BASE64URL_NOPAD.decode(key.as_bytes()).map_err(|_| ActionError::Nothing)?;
                throttle::store::release(work.connection(), limit, &key, now).await?
            }
            ThrottledBy::WrongAppCodes => {
                let user = Uuid::try_parse(key).map_err(|_| ActionError::Nothing)?;
                totp::store::stop_waiting(work.connection(), user, now).await?.then_some(MaskedSubject {
                    address: None,
                    network: None,
                    user: Some(user),
                })
            }
        };
        let MaskedSubject { address, network, user } = released.ok_or(ActionError::Nothing)?;
        work.record(Event::LimitReleased { limit: by.name(), user, address, network });
        Ok(work.commit().await?)
    }
}
