//! Step-up: before a change to the account, its strongest factor again, unless it was given lately. With two-factor that is a code
//! of the app or a backup code; without, a code by mail that belongs to this session and signs nobody in.
//!
//! Whoever steps up gets another session id, so a copy of the old one is worth nothing afterwards.

use time::OffsetDateTime;

use crate::{
    Error, SignIn,
    crypto::{Code, SessionKey},
    event::{Event, Purpose, UnitOfWork},
    identity::{Authority, Level, SecondFactor},
    limits::throttle::{Limited, Subject},
    one_time::mailed_code::{CodeFor, MailedCodeError},
    policy::limits::Limit,
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

/// Why a code by mail did not step the session up.
#[derive(Debug, thiserror::Error)]
pub enum StepUpError {
    #[error(transparent)]
    Code(#[from] MailedCodeError),
    #[error("the account has two-factor")]
    TwoFactor,
    #[error("the session is over")]
    SessionOver,
    #[error(transparent)]
    Unavailable(#[from] Error),
}

from_sqlx!(SendCodeError, StepUpError);

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
        Ok(work.commit_and_mail(self.0).await?)
    }

    /// Whether a code was mailed to this session that works still.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn has_mailed_code(self, authority: &Authority) -> Result<bool, Error> {
        Ok(self.0.one_time().live_code(CodeFor::StepUp, authority.session, self.0.now()).await?.is_ok())
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
        Ok(self.0.one_time().mail_code(authority, None, from, now).await?)
    }

    /// Steps up with the newest code mailed to this session, where the account has no two-factor.
    ///
    /// # Errors
    /// [`StepUpError`]. A wrong code was counted before it was compared.
    pub async fn step_up_with_mailed_code(
        self,
        stepping: StepUpSession<'_>,
        code: &Code,
        browser: BrowserProof<'_>,
        from: &Requester,
    ) -> Result<(), StepUpError> {
        let (now, user) = (self.0.now(), stepping.authority.user);
        let mailed = self.0.one_time().live_code(CodeFor::StepUp, stepping.authority.session, now).await??;
        let giving = SecondFactorContext { user, purpose: Purpose::StepUp, browser, from, now };
        let (charge, _) = self.charge_for((Limit::StepUpAccount, Limit::StepUpKnownBrowser), giving).await?;
        let mut work = self.0.one_time().redeem_code(&mailed, code, &[charge], from, now).await??;
        let account = account::store::by_id(work.connection(), user, now).await?.ok_or(StepUpError::SessionOver)?;
        if account.two_factor {
            // Asked here and not before: it may have been turned on since this request began.
            return Err(StepUpError::TwoFactor);
        }
        if !renew(&mut work, stepping, false, None, now).await? {
            return Err(StepUpError::SessionOver);
        }
        Ok(work.commit().await?)
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
) -> sqlx::Result<bool> {
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
