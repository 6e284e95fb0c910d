//! The second factor: a code of an authenticator app, or a backup code. Here it is looked at and used up, whatever it is given
//! for; [`SignIn::enter_second_factor`] finishes a sign-in with it.
//!
//! A try is counted before anything is compared. Browsers the account doesn't know count together, by account, with waits that
//! grow; each known browser counts by itself, so that strangers can't keep the owner out.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Error, SignIn,
    crypto::{Code, KnownBrowserCookie, KnownBrowserToken, SessionKey, TrustedDeviceToken, new_id},
    event::{self, CodeRefusal, Event, Purpose, RevokeReason, UnitOfWork},
    factors::{
        backup_code::{self, BackupCode, store as codes},
        totp::{self, Secret, Verdict, store as authenticators},
        trusted_device,
    },
    identity::SecondFactor,
    limits::{
        known_browser,
        throttle::{Charge, Limited, Subject},
    },
    one_time::revert_link::{self, Revert},
    outbox::{self, Notice},
    policy::{KNOWN_BROWSER_TTL, limits::Limit},
    primitives::requester::Requester,
    sessions::{self, store::Grant},
    sign_in::first_factor::{BrowserProof, SessionChange},
    users::account::{self, store::Account},
};

/// A sign-in that has one factor of two: its session, who that speaks for, and the session that takes its place.
#[derive(Clone, Copy)]
pub struct PendingSignIn<'a> {
    pub half: SessionKey,
    pub user: Uuid,
    pub handover: &'a SessionChange,
}

/// A second factor as it was typed.
#[derive(Clone, Copy)]
pub enum Factor<'a> {
    App(&'a Code),
    BackupCode(&'a BackupCode),
}

impl Factor<'_> {
    fn count(self, result: &'static str) {
        match self {
            Self::App(_) => event::count_totp(result),
            Self::BackupCode(_) => event::count_backup_code(result),
        }
    }
}

/// Both factors were right. The browser gets these cookies.
#[derive(Debug)]
pub struct SignedIn {
    pub known_browser: KnownBrowserCookie,
    /// Where its owner asked for it.
    pub trusted_device: Option<TrustedDeviceToken>,
}

/// Why a second factor was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SecondFactorError {
    #[error("signing in by mail is off")]
    Off,
    /// The session it was given for is over, or was never there.
    #[error("the session is over")]
    SessionOver,
    #[error("the account has no two-factor")]
    NotEnrolled,
    #[error("the code was wrong")]
    Wrong { left: u32 },
    #[error("the code was used before")]
    Used,
    /// The code is of another time: the app's clock is off by so many steps of 30 seconds; positive: ahead.
    #[error("the code is of another time")]
    Clock { steps: i64 },
    /// After too many wrong codes the app's are not looked at in browsers the account doesn't know, until it is set up anew.
    #[error("codes of the app are not taken any more")]
    AppOff,
    /// No code can be checked: the secret's key is missing, or the row was tampered with.
    #[error("codes of the app can't be checked")]
    Unreadable,
    #[error("a limit refused")]
    Limited(Limited),
    #[error(transparent)]
    Unavailable(#[from] Error),
}

from_sqlx!(SecondFactorError);

/// A browser that has just signed in, from now on known.
pub(crate) struct Remembered {
    /// Unused when an application signs in: there is no browser to remember.
    pub cookie: KnownBrowserCookie,
    /// It was not known, and the account has signed in elsewhere before.
    pub new_device: bool,
}

/// Who gives it, and what for.
#[derive(Clone, Copy)]
pub(crate) struct SecondFactorContext<'a> {
    pub user: Uuid,
    pub purpose: Purpose,
    pub browser: BrowserProof<'a>,
    pub from: &'a Requester,
    pub now: OffsetDateTime,
}

/// A right second factor, not used up yet.
pub(crate) struct VerifiedFactor {
    what: RightWhat,
    charge: Charge,
    /// The known browser that the try was counted at; else it was counted at the account.
    known: Option<KnownBrowserToken>,
}

enum RightWhat {
    Totp { credential: Uuid, steps: Vec<i64>, drift: i16 },
    Backup { code: Uuid },
}

impl VerifiedFactor {
    pub fn factor(&self) -> SecondFactor {
        match self.what {
            RightWhat::Totp { .. } => SecondFactor::Totp,
            RightWhat::Backup { .. } => SecondFactor::BackupCode,
        }
    }
}

impl SignIn<'_> {
    /// Finishes a sign-in. `trust`: don't ask on this browser for a while; only with a code of the app, since whoever has lost the
    /// phone should not be trusted for it.
    ///
    /// # Errors
    /// [`SecondFactorError`]. A wrong code was counted before it was compared; the sessions are as they were.
    pub async fn enter_second_factor(
        self,
        finishing: PendingSignIn<'_>,
        factor: Factor<'_>,
        trust: bool,
        browser: BrowserProof<'_>,
        from: &Requester,
    ) -> Result<SignedIn, SecondFactorError> {
        if self.0.flag().sign_in_is_off().await? {
            return Err(SecondFactorError::Off);
        }
        let giving = SecondFactorContext { user: finishing.user, purpose: Purpose::SignIn, browser, from, now: self.0.now() };
        let right = self.verify(factor, giving).await?;
        self.finish_sign_in(finishing, right, trust && matches!(factor, Factor::App(_)), giving).await
    }

    /// The factor is used up, the half-signed-in session ends, and one with authority takes its place: all of it, or nothing.
    async fn finish_sign_in(
        self,
        finishing: PendingSignIn<'_>,
        right: VerifiedFactor,
        trust: bool,
        giving: SecondFactorContext<'_>,
    ) -> Result<SignedIn, SecondFactorError> {
        let SecondFactorContext { user, browser, from, now, .. } = giving;
        let PendingSignIn { half, handover, .. } = finishing;
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        if !self.consume(&mut work, &right, giving).await? {
            drop(work);
            return Err(self.refuse(&right, giving).await?);
        }
        let api_key = from.application().map(|application| application.key);
        let half = sessions::store::finish_half(work.connection(), half, api_key, now).await?;
        let half = half.filter(|half| half.user == user).ok_or(SecondFactorError::SessionOver)?;
        let account = account::store::by_id(work.connection(), user, now).await?;
        let account = account.filter(|account| !account.disabled).ok_or(SecondFactorError::SessionOver)?;
        if !self.0.flag().signs_in(&account.email_key, account.admin).await? {
            return Err(SecondFactorError::Off);
        }
        let remembered = self.remember(&mut work, &account, browser, from, now).await?;
        let grant = Grant {
            id: new_id(now),
            key: handover.fresh,
            data: &handover.data,
            user,
            two_factor: account.two_factor,
            method: half.method,
            second: Some(right.factor()),
            verified_at: Some(now),
            link: half.link,
            asked_at: half.asked_at,
            new_device: remembered.new_device,
            from,
            now,
            expires_at: now + self.0.policy.session_max,
        };
        work.record(Event::SessionRevoked { user, session: half.session, reason: RevokeReason::Replaced });
        self.grant(&mut work, &grant, &account).await?;
        if !account::store::signed_in(work.connection(), &account, now).await? {
            return Err(SecondFactorError::SessionOver);
        }
        let trusted_device = if trust && !self.0.policy.trusted_device_ttl.is_zero() {
            let (token, device) = (TrustedDeviceToken::new(), new_id(now));
            let until = now + self.0.policy.trusted_device_ttl;
            trusted_device::store::trust(work.connection(), device, user, &token.hash(), from, now, until).await?;
            work.record(Event::DeviceTrusted { user, device });
            Some(token)
        } else {
            None
        };
        work.commit_and_mail(self.0).await?;
        Ok(SignedIn { known_browser: remembered.cookie, trusted_device })
    }

    /// An application holds no cookie of ours, so no browser comes to be known by it, and what it says of browsers gets no budgets of
    /// its own. It is only asked whether the owner has to be told.
    pub(crate) async fn remember(
        self,
        work: &mut UnitOfWork<'_>,
        account: &Account,
        browser: BrowserProof<'_>,
        from: &Requester,
        now: OffsetDateTime,
    ) -> sqlx::Result<Remembered> {
        if from.application().is_some() {
            let new = !sessions::store::has_used(work.connection(), account.id, from).await?;
            return Ok(Remembered { cookie: KnownBrowserToken::new().into(), new_device: new && account.signed_in_before });
        }
        let until = now + KNOWN_BROWSER_TTL;
        let found = known_browser::store::remember(work.connection(), browser.known, account.id, from, now, until).await?;
        Ok(Remembered { cookie: found.cookie, new_device: found.new && account.signed_in_before })
    }

    /// Gives a session its authority, and tells the owner where the browser is one the account doesn't know. The mail has a link
    /// that ends this very session.
    pub(crate) async fn grant(self, work: &mut UnitOfWork<'_>, grant: &Grant<'_>, account: &Account) -> sqlx::Result<()> {
        sessions::store::grant(work.connection(), grant).await?;
        work.record(Event::SessionCreated {
            user: grant.user,
            session: grant.id,
            level: grant.level(),
            method: grant.method,
            second_method: grant.second,
            new_device: grant.new_device,
            after: grant.asked_at.map(|asked_at| grant.now - asked_at),
        });
        if !grant.new_device {
            return Ok(());
        }
        let (device, ip) = grant.from.place();
        let (throttle, about) = (self.0.limits().throttle(), format!("new_sign_in\0{device}\0{}", ip.unwrap_or_default()));
        let charge = throttle.charge(Limit::Notice, Subject::AccountAnd(account.id, &about));
        if throttle.take_within(work.connection(), &[charge], grant.now).await?.is_err() {
            return Ok(());
        }
        let undo = revert_link::create(&self.0.keys, work, account, Revert::Session(grant.id), grant.now).await?;
        let notice = Notice::NewSignIn { method: grant.method, second: grant.second };
        outbox::store::enqueue_undoable(work.connection(), account.id, notice, Some(undo), Some(grant.from), grant.now).await
    }

    /// Records a refused code. Where the first factor was right before it, the owner is told: somebody can read their mail, or
    /// they themselves mistyped.
    async fn refuse_factor(self, event: Event, giving: SecondFactorContext<'_>) -> sqlx::Result<()> {
        let SecondFactorContext { user, purpose, from, now, .. } = giving;
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        work.record(event);
        if purpose == Purpose::SignIn {
            let charge = self.0.limits().throttle().charge(Limit::Notice, Subject::AccountAnd(user, "second_step_failed"));
            if self.0.limits().throttle().take_within(work.connection(), &[charge], now).await?.is_ok() {
                outbox::store::enqueue_notice(work.connection(), user, Notice::SecondStepFailed, Some(from), now).await?;
            }
        }
        work.commit_and_mail(self.0).await
    }

    /// Charges one look, and compares.
    pub(crate) async fn verify(
        self,
        factor: Factor<'_>,
        giving: SecondFactorContext<'_>,
    ) -> Result<VerifiedFactor, SecondFactorError> {
        match factor {
            Factor::App(code) => self.verify_totp(code, giving).await,
            Factor::BackupCode(code) => self.verify_backup_code(code, giving).await,
        }
    }

    /// With what each of the account's apps would show.
    async fn verify_totp(self, code: &Code, giving: SecondFactorContext<'_>) -> Result<VerifiedFactor, SecondFactorError> {
        let SecondFactorContext { user, purpose, from, now, .. } = giving;
        let credentials = authenticators::confirmed(&self.0.pool, user).await?;
        if credentials.is_empty() {
            return Err(SecondFactorError::NotEnrolled);
        }
        // Before anything is recorded: a row of each that can't be read costs a try, too.
        let (charge, known) = self.take_look(Factor::App(code), giving).await?;
        let mut readable = Vec::with_capacity(credentials.len());
        for credential in &credentials {
            match Secret::open(&self.0.keys, &credential.sealed, credential.id, user) {
                Ok(secret) => readable.push((credential, secret)),
                Err(unreadable) => {
                    let event = Event::TotpUnreadable { user, authenticator: credential.id, reason: unreadable.reason() };
                    event::record(&self.0.pool, event, from, now).await?;
                }
            }
        }
        if readable.is_empty() {
            return Err(SecondFactorError::Unreadable);
        }

        let known = match known {
            Some(token) => known_browser::store::charge(&self.0.pool, token, user, now).await?.then(|| token.clone()),
            None => None,
        };
        let mut failures = 0;
        if known.is_none() {
            match authenticators::charge(&self.0.pool, user, now).await? {
                authenticators::Charged::Yes(counted) => failures = counted,
                authenticators::Charged::Wait(until) => {
                    event::count_totp("locked");
                    let wait = std::time::Duration::try_from(until - now).unwrap_or_default();
                    return Err(SecondFactorError::Limited(Limited { limit: charge.limit, wait }));
                }
                authenticators::Charged::Off => {
                    self.refuse_factor(Event::TotpRefused { user, reason: CodeRefusal::Off, purpose }, giving).await?;
                    return Err(SecondFactorError::AppOff);
                }
            }
        }

        let current = totp::step(now);
        let mut refused = Verdict::Wrong;
        for (credential, secret) in &readable {
            match totp::judge(secret, code, current, credential.history) {
                Verdict::Right { steps, drift } => {
                    self.reseal(credential.id, user, secret, &credential.sealed).await?;
                    return Ok(VerifiedFactor { what: RightWhat::Totp { credential: credential.id, steps, drift }, charge, known });
                }
                Verdict::Clock { steps } => {
                    let early = (steps > 0).then_some(current + steps);
                    let drift = if steps == -1 { 0 } else { credential.history.drift };
                    authenticators::note(&self.0.pool, credential.id, early, drift).await?;
                    refused = Verdict::Clock { steps };
                }
                Verdict::Used => refused = Verdict::Used,
                Verdict::Wrong => {}
            }
        }
        let refusal = match refused {
            Verdict::Used => CodeRefusal::Used,
            Verdict::Clock { .. } => CodeRefusal::Clock,
            Verdict::Right { .. } | Verdict::Wrong => CodeRefusal::Wrong,
        };
        self.refuse_factor(Event::TotpRefused { user, reason: refusal, purpose }, giving).await?;
        if failures >= totp::MAX_FAILURES {
            event::record(&self.0.pool, Event::TotpLocked { user }, from, now).await?;
            return Err(SecondFactorError::AppOff);
        }
        Err(match refused {
            Verdict::Used => SecondFactorError::Used,
            Verdict::Clock { steps } => SecondFactorError::Clock { steps },
            Verdict::Right { .. } | Verdict::Wrong => self.wrong(&charge, failures, now).await?,
        })
    }

    /// At the price of one slow hash, whether or not there is a code that begins like it.
    async fn verify_backup_code(
        self,
        code: &BackupCode,
        giving: SecondFactorContext<'_>,
    ) -> Result<VerifiedFactor, SecondFactorError> {
        let SecondFactorContext { user, purpose, now, .. } = giving;
        let (charge, known) = self.take_look(Factor::BackupCode(code), giving).await?;
        let found = codes::by_selector(&self.0.pool, user, code.selector()).await?;
        let is = code.is(found.as_ref().map(|found| found.hash.clone())).await;
        match found {
            Some(found) if is && !found.used => {
                Ok(VerifiedFactor { what: RightWhat::Backup { code: found.id }, charge, known: known.cloned() })
            }
            Some(_) if is => {
                self.refuse_factor(Event::BackupCodeRefused { user, reason: CodeRefusal::Used, purpose }, giving).await?;
                Err(SecondFactorError::Used)
            }
            _ => {
                self.refuse_factor(Event::BackupCodeRefused { user, reason: CodeRefusal::Wrong, purpose }, giving).await?;
                Err(self.wrong(&charge, 0, now).await?)
            }
        }
    }

    /// Uses a right factor up, by the one statement that decides, and gives back what was charged for the look at it. `false`: it
    /// was used by a parallel try; nothing has changed.
    pub(crate) async fn consume(
        self,
        work: &mut UnitOfWork<'_>,
        right: &VerifiedFactor,
        giving: SecondFactorContext<'_>,
    ) -> sqlx::Result<bool> {
        let SecondFactorContext { user, purpose, from, now, .. } = giving;
        match &right.what {
            RightWhat::Totp { credential, steps, drift } => {
                let mut used = false;
                for step in steps {
                    let connection = work.connection();
                    if authenticators::accept(connection, user, *credential, *step, *drift, right.known.is_none(), now).await? {
                        used = true;
                        break;
                    }
                }
                if !used {
                    return Ok(false);
                }
                if let Some(token) = &right.known {
                    known_browser::store::clear(work.connection(), token, user).await?;
                }
                work.record(Event::TotpAccepted { user, authenticator: *credential, purpose });
            }
            RightWhat::Backup { code } => {
                if !codes::consume(work.connection(), *code, now).await? {
                    return Ok(false);
                }
                let left = codes::standing(&mut *work.connection(), user).await?.left;
                work.record(Event::BackupCodeUsed { user, left, purpose });
                outbox::store::enqueue_notice(work.connection(), user, Notice::BackupCodeUsed { left }, Some(from), now).await?;
                if left == backup_code::LOW {
                    outbox::store::enqueue_notice(work.connection(), user, Notice::BackupCodesLow { left }, Some(from), now)
                        .await?;
                }
            }
        }
        self.0.limits().throttle().give_back(work.connection(), std::slice::from_ref(&right.charge)).await?;
        Ok(true)
    }

    /// What a right code that was used by a parallel try comes to.
    pub(crate) async fn refuse(
        self,
        right: &VerifiedFactor,
        giving: SecondFactorContext<'_>,
    ) -> Result<SecondFactorError, SecondFactorError> {
        let SecondFactorContext { user, purpose, from, now, .. } = giving;
        let event = match right.what {
            RightWhat::Totp { .. } => Event::TotpRefused { user, reason: CodeRefusal::Used, purpose },
            RightWhat::Backup { .. } => Event::BackupCodeRefused { user, reason: CodeRefusal::Used, purpose },
        };
        event::record(&self.0.pool, event, from, now).await?;
        Ok(SecondFactorError::Used)
    }

    /// The budget of this try: the browser's own where the account knows it, else the account's.
    pub(crate) async fn charge_for(
        self,
        (account, known_browser): (Limit, Limit),
        giving: SecondFactorContext<'_>,
    ) -> sqlx::Result<(Charge, Option<&KnownBrowserToken>)> {
        let throttle = self.0.limits().throttle();
        if let Some(cookie) = giving.browser.known
            && let Some(token) =
                known_browser::store::knows_account(&self.0.pool, cookie, giving.user, giving.from, giving.now).await?
        {
            return Ok((throttle.charge(known_browser, Subject::KnownBrowserOf(token, giving.user)), Some(token)));
        }
        Ok((throttle.charge(account, Subject::Account(giving.user)), None))
    }

    /// Takes one look from the budget of this factor, where it is given for this.
    async fn take_look<'a>(
        self,
        factor: Factor<'_>,
        giving: SecondFactorContext<'a>,
    ) -> Result<(Charge, Option<&'a KnownBrowserToken>), SecondFactorError> {
        let limits = match (giving.purpose, factor) {
            (Purpose::SignIn, Factor::App(_)) => (Limit::TotpAccount, Limit::TotpKnownBrowser),
            (Purpose::SignIn, Factor::BackupCode(_)) => (Limit::BackupAccount, Limit::BackupKnownBrowser),
            (Purpose::StepUp | Purpose::TurnOff | Purpose::Undo, _) => (Limit::StepUpAccount, Limit::StepUpKnownBrowser),
        };
        let (charge, known) = self.charge_for(limits, giving).await?;
        if let Err(limited) = self.0.limits().throttle().take(&self.0.pool, std::slice::from_ref(&charge), giving.now).await? {
            factor.count("locked");
            return Err(SecondFactorError::Limited(limited));
        }
        Ok((charge, known))
    }

    /// A wrong code, and how many more may be tried now.
    async fn wrong(self, charge: &Charge, failures: i32, now: OffsetDateTime) -> sqlx::Result<SecondFactorError> {
        let (left, wait) = self.0.limits().throttle().left(&self.0.pool, charge, now).await?;
        // A browser that counts by itself (no failures at the account) has its own budget, and no waits that grow.
        let left = if failures == 0 { left } else { left.min(u32::try_from(totp::FREE_FAILURES - failures).unwrap_or(0)) };
        Ok(if left == 0 {
            SecondFactorError::Limited(Limited { limit: charge.limit, wait: wait.max(totp::wait_after(failures)) })
        } else {
            SecondFactorError::Wrong { left }
        })
    }

    /// A secret that was just read under an old key is written under the new one. Losing a race with a rotation does no harm.
    async fn reseal(self, credential: Uuid, user: Uuid, secret: &Secret, old: &crate::crypto::Sealed) -> sqlx::Result<()> {
        if old.key_id != self.0.keys.current_id() {
            authenticators::reseal(&self.0.pool, credential, old, &secret.seal(&self.0.keys, credential, user)).await?;
        }
        Ok(())
    }
}
