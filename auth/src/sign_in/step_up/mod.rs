//! Step-up: before a change to the account, its strongest factor again, unless it was given lately. With two-factor that is a code
//! of the app or a backup code; without, a code by mail that belongs to this session and signs nobody in.
//!
//! Whoever steps up gets another session id, so a copy of the old one is worth nothing afterwards.

pub(crate) mod store;

use time::OffsetDateTime;

use crate::{
    Error, SignIn,
    crypto::{Code, SessionKey, new_id, same},
    event::{self, Event, Purpose, UnitOfWork},
    identity::{Authority, Level, SecondFactor},
    limits::throttle::{Limited, Subject},
    outbox,
    policy::{CODE_TRIES, STEP_UP_CODE_TTL, limits::Limit},
    primitives::requester::Requester,
    sessions::{self, store::Renewal},
    sign_in::{
        first_factor::BrowserProof,
        second_factor::{Factor, SecondFactorContext, SecondFactorError},
    },
    users::account,
};

/// The session that steps up: who it speaks for, its id now, and an id nobody has used, which it gets.
#[derive(Clone, Copy)]
pub struct StepUpSession<'a> {
    pub authority: &'a Authority,
    pub old: SessionKey,
    pub fresh: SessionKey,
}

/// Why no mail with a code was queued.
#[derive(Debug, thiserror::Error)]
pub enum SendCodeError {
    /// Too many lately.
    #[error("a limit refused")]
    Limited(Limited),
    /// The account has something stronger than its mail.
    #[error("the account has two-factor")]
    TwoFactor,
    #[error(transparent)]
    Unavailable(#[from] Error),
}

/// Why a code by mail was not taken.
#[derive(Debug, thiserror::Error)]
pub enum MailedCodeError {
    /// None was sent to this session.
    #[error("there is no code for this session")]
    NothingSent,
    #[error("the code was wrong")]
    Wrong { left: u32 },
    #[error("the code was wrong, and that was the last try")]
    LastTry,
    /// Too old, or used.
    #[error("the code does not work any more")]
    Expired,
    #[error("the account has two-factor")]
    TwoFactor,
    #[error("the session is over")]
    SessionOver,
    #[error("a limit refused")]
    Limited(Limited),
    #[error(transparent)]
    Unavailable(#[from] Error),
}

from_sqlx!(SendCodeError, MailedCodeError);

impl SignIn<'_> {
    /// Whether this session may change the account now, or has to step up first.
    #[must_use]
    pub fn is_fresh(self, authority: &Authority) -> bool {
        authority.is_fresh(self.0.now(), self.0.policy.step_up_ttl)
    }

    /// Steps up with a second factor.
    ///
    /// # Errors
    /// [`SecondFactorError`].
    pub async fn step_up(
        self,
        stepping: StepUpSession<'_>,
        factor: Factor<'_>,
        browser: BrowserProof<'_>,
        from: &Requester,
    ) -> Result<(), SecondFactorError> {
        if stepping.authority.level == Level::FirstFactor {
            return Err(SecondFactorError::SessionOver);
        }
        let giving =
            SecondFactorContext { user: stepping.authority.user, purpose: Purpose::StepUp, browser, from, now: self.0.now() };
        let right = self.verify(factor, giving).await?;
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), giving.now).await?;
        if !self.consume(&mut work, &right, giving).await? {
            drop(work);
            return Err(self.refuse(&right, giving).await?);
        }
        if !renew(&mut work, stepping, true, Some(right.factor()), giving.now).await? {
            return Err(SecondFactorError::SessionOver);
        }
        work.commit().await?;
        self.0.outbox.notify_one();
        Ok(())
    }

    /// Whether a code was mailed to this session that works still.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn has_mailed_code(self, authority: &Authority) -> Result<bool, Error> {
        let code = store::newest(&self.0.pool, authority.session).await?;
        Ok(code.is_some_and(|code| !code.used && code.attempts < CODE_TRIES && code.expires_at > self.0.now()))
    }

    /// Mails a code to the owner of the account, for this session.
    ///
    /// # Errors
    /// [`SendCodeError`]. Nothing was queued.
    pub async fn mail_step_up_code(self, authority: &Authority, from: &Requester) -> Result<(), SendCodeError> {
        let now = self.0.now();
        if authority.two_factor {
            return Err(SendCodeError::TwoFactor);
        }
        let throttle = self.0.limits().throttle();
        let charge = throttle.charge(Limit::StepUpMail, Subject::Account(authority.user));
        throttle.take(&self.0.pool, &[charge], now).await?.map_err(SendCodeError::Limited)?;
        let seed = self.0.keys.seed();
        let code = self.0.keys.step_up_code(&seed).expect("the current key is there");
        let new = store::NewCode {
            id: new_id(now),
            session: authority.session,
            user: authority.user,
            seed: &seed,
            code_hash: self.0.keys.code_hash(&seed, &code).expect("the current key is there"),
            from,
            created_at: now,
            expires_at: now + STEP_UP_CODE_TTL,
        };
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        store::insert(work.connection(), &new).await?;
        outbox::store::enqueue_step_up(work.connection(), new_id(now), new.id, now, new.expires_at).await?;
        work.record(Event::StepUpMailed { user: authority.user, code: new.id });
        work.commit().await?;
        self.0.outbox.notify_one();
        Ok(())
    }

    /// Steps up with the newest code mailed to this session, where the account has no two-factor.
    ///
    /// # Errors
    /// [`MailedCodeError`]. A wrong code was counted before it was compared.
    pub async fn step_up_with_mailed_code(
        self,
        stepping: StepUpSession<'_>,
        code: &Code,
        browser: BrowserProof<'_>,
        from: &Requester,
    ) -> Result<(), MailedCodeError> {
        let (now, user) = (self.0.now(), stepping.authority.user);
        let mailed = store::newest(&self.0.pool, stepping.authority.session).await?.ok_or(MailedCodeError::NothingSent)?;
        if mailed.used || mailed.expires_at <= now {
            return Err(MailedCodeError::Expired);
        }
        if mailed.attempts >= CODE_TRIES {
            return Err(MailedCodeError::LastTry);
        }
        let giving = SecondFactorContext { user, purpose: Purpose::StepUp, browser, from, now };
        let (charge, _) = self.charge_for((Limit::StepUpAccount, Limit::StepUpKnownBrowser), giving).await?;
        let charges = [charge];
        self.0.limits().throttle().take(&self.0.pool, &charges, now).await?.map_err(MailedCodeError::Limited)?;
        let Some(spent) = store::charge_try(&self.0.pool, mailed.id, now).await? else {
            return Err(MailedCodeError::LastTry);
        };
        if !self.0.keys.code_hash(&mailed.seed, code).is_some_and(|hash| same(&hash, &mailed.code_hash)) {
            event::record(&self.0.pool, Event::StepUpRefused { user, code: mailed.id }, from, now).await?;
            let left = CODE_TRIES.saturating_sub(spent);
            return Err(if left == 0 { MailedCodeError::LastTry } else { MailedCodeError::Wrong { left } });
        }
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        if !store::consume(work.connection(), mailed.id, now).await? {
            return Err(MailedCodeError::Expired);
        }
        let account = account::store::by_id(work.connection(), user, now).await?.ok_or(MailedCodeError::SessionOver)?;
        if account.two_factor {
            // Asked here and not before: it may have been turned on since this request began.
            return Err(MailedCodeError::TwoFactor);
        }
        if !renew(&mut work, stepping, false, None, now).await? {
            return Err(MailedCodeError::SessionOver);
        }
        self.0.limits().throttle().give_back(work.connection(), &charges).await?;
        work.commit().await?;
        Ok(())
    }
}

/// Gives the session its new id, with what it has now proven. `given`: none for a code by mail. The
/// session keeps it where the account has two-factor from now on. `false`: it is over, or another request has renewed it.
pub(crate) async fn renew(
    work: &mut UnitOfWork<'_>,
    stepping: StepUpSession<'_>,
    two_factor: bool,
    given: Option<SecondFactor>,
    now: OffsetDateTime,
) -> Result<bool, sqlx::Error> {
    let second = given.filter(|_| two_factor);
    let StepUpSession { authority, old, fresh } = stepping;
    let renewal = Renewal { session: authority.session, old, fresh, two_factor, second, now };
    if !sessions::store::renew(work.connection(), &renewal).await? {
        return Ok(false);
    }
    let factor = given.map_or("mail", SecondFactor::as_str);
    work.record(Event::SteppedUp { user: authority.user, session: authority.session, factor });
    Ok(true)
}
