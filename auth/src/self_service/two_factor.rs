//! Two-factor, as its owner manages it: set up, backup codes, another app, turn off; and reset, as an operator does it.
//!
//! Every change needs a session that has given the account's strongest factor lately ([`crate::sign_in::step_up`]); every change is told by
//! mail; and with every change all trust in browsers dies.

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Error, SelfService,
    crypto::{Code, new_id},
    event::{Event, Purpose, RevokeReason, UnitOfWork},
    factors::{
        backup_code::{BackupCode, store as codes},
        totp::{self, History, MAX_FAILURES, MAX_NAME, Secret, Verdict, store as authenticators},
        trusted_device,
    },
    identity::{Authority, SecondFactor},
    limits::{
        known_browser,
        throttle::{Limited, Subject},
    },
    one_time::magic_link,
    outbox::{self, Notice},
    policy::{SETUP_TTL, limits::Limit},
    primitives::requester::Requester,
    self_service::pending_reset,
    sessions,
    sign_in::{
        first_factor::BrowserProof,
        second_factor::{Factor, SecondFactorContext, SecondFactorError, VerifiedFactor},
        step_up::{self, StepUpSession},
    },
    users::account::{self, store::Account},
};

pub use crate::factors::backup_code::store::Standing as BackupCodes;

/// An authenticator app in use, also as it stands in its owner's copy of their data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Authenticator {
    #[serde(skip)]
    pub id: Uuid,
    pub name: String,
    #[serde(with = "time::serde::rfc3339")]
    pub added_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_used_at: Option<OffsetDateTime>,
    /// Its codes are not taken any more in browsers the account doesn't know: too many wrong ones in a row.
    #[serde(skip)]
    pub stopped: bool,
}

/// Where an account stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TwoFactor {
    /// Empty: two-factor is off.
    pub authenticators: Vec<Authenticator>,
    pub backup_codes: BackupCodes,
    pub trusted_devices: i64,
}

/// Codes that were made a moment ago: to be shown once, and to be confirmed as saved.
#[derive(Debug)]
pub struct NewBackupCodes {
    pub set: Uuid,
    pub codes: Vec<BackupCode>,
    pub made_at: OffsetDateTime,
}

/// Why two-factor was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The account's strongest factor has to be given first.
    #[error("the session has to step up first")]
    NotFresh,
    /// There is nothing to change: no set-up was begun, the app is not one of the account's, two-factor is off.
    #[error("there is nothing to change")]
    Nothing,
    /// There are as many authenticators as there may be.
    #[error("there are as many authenticators as there may be")]
    Full,
    /// This installation asks for two-factor.
    #[error("two-factor is required")]
    Required,
    #[error("the session is over")]
    SessionOver,
    /// The first code of an app was wrong.
    #[error("the code was wrong")]
    WrongCode,
    /// The app's clock is off by so many steps of 30 seconds.
    #[error("the code is of another time")]
    Clock { steps: i64 },
    /// Too many new sets of backup codes lately.
    #[error("a limit refused")]
    Limited(Limited),
    #[error(transparent)]
    Factor(SecondFactorError),
    #[error(transparent)]
    Unavailable(#[from] Error),
}

from_sqlx!(ChangeError);

/// One line of at most [`MAX_NAME`] characters.
fn name(typed: &str) -> String {
    typed.trim().chars().filter(|c| !c.is_control()).take(MAX_NAME).collect()
}

impl SelfService<'_> {
    /// # Errors
    /// When the database does not answer.
    pub async fn two_factor(self, authority: &Authority) -> Result<TwoFactor, Error> {
        self.two_factor_of(authority.user).await
    }

    pub(crate) async fn two_factor_of(self, user: Uuid) -> Result<TwoFactor, Error> {
        let credentials = authenticators::confirmed(&self.0.pool, user).await?;
        let authenticators = credentials
            .into_iter()
            .map(|credential| Authenticator {
                id: credential.id,
                name: credential.name,
                added_at: credential.confirmed_at,
                last_used_at: credential.last_used_at,
                stopped: credential.failures >= MAX_FAILURES,
            })
            .collect();
        Ok(TwoFactor {
            authenticators,
            backup_codes: codes::standing(&self.0.pool, user).await?,
            trusted_devices: trusted_device::store::count(&self.0.pool, user, self.0.now()).await?,
        })
    }

    fn fresh(self, authority: &Authority) -> Result<(), ChangeError> {
        if self.0.sign_in().is_fresh(authority) { Ok(()) } else { Err(ChangeError::NotFresh) }
    }

    /// Makes a secret for an app that is to be set up in this session. What is in use stays as it is until the app's first code is
    /// right.
    ///
    /// # Errors
    /// [`ChangeError::NotFresh`], [`ChangeError::Full`], [`ChangeError::Limited`].
    pub async fn start_two_factor_setup(self, authority: &Authority, from: &Requester) -> Result<(), ChangeError> {
        self.fresh(authority)?;
        let (now, user) = (self.0.now(), authority.user);
        let credential = new_id(now);
        let sealed = Secret::new().seal(&self.0.keys, credential, user);
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        if !authenticators::begin(work.connection(), credential, user, &sealed, authority.session, now).await? {
            return Err(ChangeError::Full);
        }
        let throttle = self.0.limits().throttle();
        throttle.take_change(work.connection(), user, now).await?.map_err(ChangeError::Limited)?;
        work.record(Event::TotpSetUpStarted { user, authenticator: credential });
        Ok(work.commit().await?)
    }

    /// The secret of the set-up that this session has begun, for its page.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn two_factor_setup(self, authority: &Authority) -> Result<Option<Secret>, Error> {
        let begun_since = self.0.now() - SETUP_TTL;
        let pending = authenticators::pending(&self.0.pool, authority.user, authority.session, begun_since).await?;
        Ok(pending.and_then(|pending| Secret::open(&self.0.keys, &pending.sealed, pending.id, authority.user).ok()))
    }

    /// Puts the app in use whose first code this is; the code is used up with it. With the first app two-factor is on: all other
    /// sessions, all trust and all open links end, and backup codes are made. Returns these.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn confirm_two_factor_setup(
        self,
        stepping: StepUpSession<'_>,
        code: &Code,
        typed_name: &str,
        from: &Requester,
    ) -> Result<Option<NewBackupCodes>, ChangeError> {
        self.fresh(stepping.authority)?;
        let (now, user) = (self.0.now(), stepping.authority.user);
        let session = stepping.authority.session;
        let pending = authenticators::pending(&self.0.pool, user, session, now - SETUP_TTL).await?.ok_or(ChangeError::Nothing)?;
        let secret = Secret::open(&self.0.keys, &pending.sealed, pending.id, user).map_err(|_| ChangeError::Nothing)?;
        let step = totp::step(now);
        let history = History { early_step: pending.early_step, ..History::default() };
        let (used_step, drift) = match totp::judge(&secret, code, step, history) {
            Verdict::Right { steps, drift } => (steps[0], drift),
            Verdict::Clock { steps } => {
                authenticators::note(&self.0.pool, pending.id, (steps > 0).then_some(step + steps), 0).await?;
                return Err(ChangeError::Clock { steps });
            }
            Verdict::Used | Verdict::Wrong => return Err(ChangeError::WrongCode),
        };
        // Before the transaction: ten slow hashes must hold no lock.
        let proposed = if stepping.authority.two_factor { None } else { Some(self.propose_codes(user, now).await?) };

        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        let account = account::store::by_id(work.connection(), user, now).await?.ok_or(ChangeError::SessionOver)?;
        if account.two_factor != stepping.authority.two_factor {
            // Turned on or off by another request this very moment.
            return Err(ChangeError::SessionOver);
        }
        let (id, name) = (pending.id, name(typed_name));
        if !authenticators::confirm(work.connection(), user, id, stepping.old, &name, used_step, drift, now).await? {
            return Err(ChangeError::Nothing);
        }
        work.record(Event::TotpEnrolled { user, authenticator: pending.id });
        if !step_up::renew(&mut work, stepping, true, Some(SecondFactor::Totp), now).await? {
            return Err(ChangeError::SessionOver);
        }
        let notice = if let Some(proposed) = &proposed {
            proposed.insert(&mut work, user, session, now).await?;
            Notice::TwoFactorOn
        } else {
            Notice::AuthenticatorAdded
        };
        self.changed(&mut work, &account, Some(stepping.authority.session), notice, Some(from), now).await?;
        if proposed.is_some() {
            // Somebody who reads the owner's mail could make a browser known before this, and keep its separate limit on app codes. This comes
            // after the links are closed, when every sign-in under way has made its browser known.
            known_browser::store::forget_others(work.connection(), user, stepping.authority.authenticated_at).await?;
        }
        work.commit_and_mail(self.0).await?;
        Ok(proposed.map(Proposed::reveal))
    }

    /// What every change brings with it, and the mail that tells its owner.
    async fn changed(
        self,
        work: &mut UnitOfWork<'_>,
        account: &Account,
        keep: Option<Uuid>,
        notice: Notice,
        from: Option<&Requester>,
        now: OffsetDateTime,
    ) -> sqlx::Result<()> {
        end_what_depends(work, account, keep, now).await?;
        outbox::store::enqueue_notice(work.connection(), account.id, notice, from, now).await
    }

    /// Takes one of two apps out of use.
    ///
    /// # Errors
    /// [`ChangeError::NotFresh`], [`ChangeError::Nothing`] (not one of the account's, or its only one).
    pub async fn remove_authenticator(self, authority: &Authority, id: Uuid, from: &Requester) -> Result<(), ChangeError> {
        self.fresh(authority)?;
        let (now, user) = (self.0.now(), authority.user);
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        if !authenticators::remove(work.connection(), user, id).await? {
            return Err(ChangeError::Nothing);
        }
        work.record(Event::TotpRemoved { user, authenticator: id });
        let account = account::store::by_id(work.connection(), user, now).await?.ok_or(ChangeError::SessionOver)?;
        self.changed(&mut work, &account, Some(authority.session), Notice::AuthenticatorRemoved, Some(from), now).await?;
        Ok(work.commit_and_mail(self.0).await?)
    }

    /// Whether this session may turn two-factor off without another code: only who has just given a backup code, having no app.
    #[must_use]
    pub fn may_turn_off_without_code(self, authority: &Authority) -> bool {
        self.0.sign_in().is_fresh(authority) && authority.second == Some(SecondFactor::BackupCode)
    }

    /// Turns two-factor off, with a right factor only: a code of the app, or a backup code given just before.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn turn_two_factor_off(
        self,
        stepping: StepUpSession<'_>,
        code: Option<&Code>,
        browser: BrowserProof<'_>,
        from: &Requester,
    ) -> Result<(), ChangeError> {
        let (now, authority) = (self.0.now(), stepping.authority);
        if !authority.two_factor {
            return Err(ChangeError::Nothing);
        }
        if self.0.policy.require_two_factor.covers(authority.admin) {
            return Err(ChangeError::Required);
        }
        let giving = SecondFactorContext { user: authority.user, purpose: Purpose::TurnOff, browser, from, now };
        let right = match code {
            Some(code) => Some(self.0.sign_in().verify(Factor::App(code), giving).await.map_err(ChangeError::Factor)?),
            None if self.may_turn_off_without_code(authority) => None,
            None => return Err(ChangeError::NotFresh),
        };
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        if let Some(right) = &right
            && !self.0.sign_in().consume(&mut work, right, giving).await?
        {
            drop(work);
            return Err(ChangeError::Factor(self.0.sign_in().refuse(right, giving).await.map_err(ChangeError::Factor)?));
        }
        let account = account::store::by_id(work.connection(), authority.user, now).await?.ok_or(ChangeError::SessionOver)?;
        if !authenticators::remove_all(work.connection(), account.id).await? {
            return Err(ChangeError::Nothing);
        }
        codes::remove_all(work.connection(), account.id).await?;
        let given = right.as_ref().map_or(SecondFactor::BackupCode, VerifiedFactor::factor);
        if !step_up::renew(&mut work, stepping, false, Some(given), now).await? {
            return Err(ChangeError::SessionOver);
        }
        work.record(Event::TwoFactorTurnedOff { user: account.id });
        self.changed(&mut work, &account, Some(authority.session), Notice::TwoFactorOff, Some(from), now).await?;
        Ok(work.commit_and_mail(self.0).await?)
    }

    /// Makes a set, for an account that has not made many lately: a set costs ten slow hashes.
    async fn propose_codes(self, user: Uuid, now: OffsetDateTime) -> Result<Proposed, ChangeError> {
        let throttle = self.0.limits().throttle();
        let charge = throttle.charge(Limit::BackupCodeSets, Subject::Account(user));
        throttle.take(&self.0.pool, &[charge], now).await?.map_err(ChangeError::Limited)?;
        Ok(Proposed::new(now).await)
    }

    /// Makes new backup codes. The old ones work until these are confirmed as saved.
    ///
    /// # Errors
    /// [`ChangeError::NotFresh`], [`ChangeError::Nothing`] where two-factor is off, [`ChangeError::Limited`].
    pub async fn new_backup_codes(self, authority: &Authority, from: &Requester) -> Result<NewBackupCodes, ChangeError> {
        self.fresh(authority)?;
        if !authority.two_factor {
            return Err(ChangeError::Nothing);
        }
        let now = self.0.now();
        let proposed = self.propose_codes(authority.user, now).await?;
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        proposed.insert(&mut work, authority.user, authority.session, now).await?;
        work.commit().await?;
        Ok(proposed.reveal())
    }

    /// Takes the new set that this session was shown into use, and the old one out of it. Doing it twice does no harm.
    ///
    /// # Errors
    /// [`ChangeError::Nothing`] where this session was shown no such set.
    pub async fn save_backup_codes(self, authority: &Authority, set: Uuid, from: &Requester) -> Result<(), ChangeError> {
        let (now, user) = (self.0.now(), authority.user);
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        let before = codes::standing(&mut *work.connection(), user).await?;
        if !codes::save(work.connection(), user, authority.session, set, now).await? {
            return if codes::is_saved(work.connection(), user, set).await? { Ok(()) } else { Err(ChangeError::Nothing) };
        }
        work.record(Event::BackupCodesSaved { user, set });
        if before.made_at.is_some() {
            // A second set is a change of its own; of the first the mail about two-factor has told.
            trusted_device::revoke_all(&mut work, user, now).await?;
            outbox::store::enqueue_notice(work.connection(), user, Notice::BackupCodesNew, Some(from), now).await?;
        }
        Ok(work.commit_and_mail(self.0).await?)
    }

    /// Takes two-factor off an account, its owner's factors or not, and what every change brings with it. `false`: it is off.
    pub(crate) async fn reset_two_factor(
        self,
        work: &mut UnitOfWork<'_>,
        account: &Account,
        now: OffsetDateTime,
    ) -> sqlx::Result<bool> {
        if !authenticators::remove_all(work.connection(), account.id).await? {
            return Ok(false);
        }
        codes::remove_all(work.connection(), account.id).await?;
        end_what_depends(work, account, None, now).await?;
        known_browser::store::forget_all(work.connection(), &[account.id]).await?;
        Ok(true)
    }
}

/// What every change brings with it: trust dies, other sessions and open links end, and no reset that waits is needed any more.
async fn end_what_depends(
    work: &mut UnitOfWork<'_>,
    account: &Account,
    keep: Option<Uuid>,
    now: OffsetDateTime,
) -> sqlx::Result<()> {
    // Links before sessions, as signing in takes them: the other way round the two could wait for each other.
    magic_link::store::close_all(work.connection(), &account.email_key, now).await?;
    trusted_device::revoke_all(work, account.id, now).await?;
    sessions::end_all(work, account.id, keep, RevokeReason::TwoFactorChanged, now).await?;
    pending_reset::forget(work.connection(), account.id, now).await?;
    Ok(())
}

/// A set of codes with its hashes, made outside any transaction.
struct Proposed {
    set: Uuid,
    codes: Vec<BackupCode>,
    hashes: Vec<String>,
    made_at: OffsetDateTime,
}

impl Proposed {
    async fn new(now: OffsetDateTime) -> Self {
        let codes = BackupCode::set();
        let hashes = BackupCode::hash_all(codes.clone()).await;
        Self { set: new_id(now), codes, hashes, made_at: now }
    }

    async fn insert(&self, work: &mut UnitOfWork<'_>, user: Uuid, session: Uuid, now: OffsetDateTime) -> sqlx::Result<()> {
        let ids: Vec<Uuid> = self.codes.iter().map(|_| new_id(now)).collect();
        codes::propose(work.connection(), user, session, self.set, &ids, &self.codes, &self.hashes, now).await?;
        work.record(Event::BackupCodesProposed { user, set: self.set });
        Ok(())
    }

    fn reveal(self) -> NewBackupCodes {
        NewBackupCodes { set: self.set, codes: self.codes, made_at: self.made_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_short_line() {
        assert_eq!(name("  Work phone\n"), "Work phone");
        assert_eq!(name(" \r\n"), "");
        assert_eq!(name(&"é".repeat(100)), "é".repeat(40));
        assert_eq!(name("a\u{7}b\nc"), "abc");
    }
}
