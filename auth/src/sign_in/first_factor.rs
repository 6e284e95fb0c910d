//! Signing in: one state machine for every way in. Whatever proves the first factor ends in [`SignIn::redeem`], the one function
//! that gives a session authority, and it asks whether the account has a second.
//!
//! To add a first factor: prove it, then call `redeem`. There is no other way, and a test walks all routes to keep it so.

use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Error, SignIn,
    crypto::{
        BrowserNonce, Code, KnownBrowserCookie, KnownBrowserToken, LinkToken, Seed, SessionKey, TrustedDeviceToken, new_id, same,
    },
    event::{self, Event, Refusal, RevokeReason, UnitOfWork},
    factors::trusted_device,
    identity::{Level, Method, Origin, SecondFactor},
    limits::{
        known_browser,
        throttle::{Charge, Limited, Subject},
        wrong_codes,
    },
    one_time::{
        Dead, Life, invitation,
        magic_link::{LinkState, MagicLink, store as links},
    },
    outbox::{self, Delivery},
    policy::{CODE_TRIES, MAX_WRONG_CODES, RETIRED_FOR, SECOND_STEP_TTL, limits::Limit},
    primitives::{email_address::EmailAddress, requester::Requester},
    sessions,
    users::{
        account::{self, store::Account},
        held_address,
    },
};

/// The browser at the other end, by the cookies it holds.
#[derive(Clone, Copy)]
pub struct BrowserProof<'a> {
    /// From the session it has had since it asked.
    pub nonce: Option<&'a BrowserNonce>,
    /// From its known-browser cookie.
    pub known: Option<&'a KnownBrowserCookie>,
    /// From its trusted-device cookie.
    pub trusted: Option<&'a TrustedDeviceToken>,
}

/// Who gives a first factor: a browser, or an application that has none to show for its people.
#[derive(Clone, Copy)]
pub(crate) struct FirstFactorContext<'a> {
    /// What the request must be bound to: the hash of the browser's nonce, or of the application's secret.
    pub binding: Option<[u8; 32]>,
    pub browser: BrowserProof<'a>,
}

impl<'a> From<BrowserProof<'a>> for FirstFactorContext<'a> {
    fn from(browser: BrowserProof<'a>) -> Self {
        Self { binding: browser.nonce.map(BrowserNonce::hash), browser }
    }
}

/// A request for a mail, with its limits passed.
pub(crate) struct Request<'a> {
    pub email: &'a EmailAddress,
    pub seed: Seed,
    /// As in [`FirstFactorContext`].
    pub binding: [u8; 32],
    pub from_known_browser: bool,
    /// No code is taken in that browser at present: the mail has none.
    pub codes_off: bool,
    pub redirect_url: Option<&'a str>,
}

/// The session that signing in makes, for a browser or an application, and the one it takes the place of. `fresh` is the key of an id made for this and used
/// nowhere yet; its row is made in the transaction that redeems, or not at all.
#[derive(Debug, Clone)]
pub struct SessionChange {
    pub fresh: SessionKey,
    /// What the new session stores.
    pub data: Value,
    pub old: Option<SessionKey>,
}

/// A first factor was right.
#[derive(Debug)]
pub enum Outcome {
    /// Signed in. The browser gets this cookie, and is known from now on.
    Complete { known_browser: KnownBrowserCookie },
    /// The account has a second factor, and the session opens nothing else until it is given.
    SecondFactorNeeded,
}

#[derive(Debug, thiserror::Error)]
pub enum RequestLinkError {
    #[error("signing in by mail is off")]
    Off,
    #[error("a limit refused")]
    Limited(Limited),
    #[error(transparent)]
    Unavailable(#[from] Error),
}

#[derive(Debug, thiserror::Error)]
pub enum ConfirmLinkError {
    #[error("signing in by mail is off")]
    Off,
    #[error("the link does not work here and now")]
    NotLive(LinkState),
    #[error("a limit refused")]
    Limited(Limited),
    #[error(transparent)]
    Unavailable(#[from] Error),
}

#[derive(Debug, thiserror::Error)]
pub enum EnterCodeError {
    #[error("signing in by mail is off")]
    Off,
    /// This browser has asked for nothing, or so long ago that nobody remembers.
    #[error("there is no request of this browser")]
    NothingAsked,
    #[error("the code was wrong")]
    Wrong { left: u32 },
    #[error("the code was wrong, and that was the last try")]
    LastTry,
    #[error("the code does not work any more")]
    Dead(LinkState),
    /// Too many were wrong since a link was used: only the mail's link works, and once it has been used, codes do again.
    #[error("no code is taken until a link has been used")]
    CodesOff,
    #[error("a limit refused")]
    Limited(Limited),
    #[error(transparent)]
    Unavailable(#[from] Error),
}

from_sqlx!(RequestLinkError, ConfirmLinkError, EnterCodeError);

/// Why a redemption did not come about, for the callers above to put in their own words.
enum Redeem {
    /// Signing in is not for this account yet, or not any more.
    Off,
    NotLive(Refusal),
    Limited(Limited),
    Failed(sqlx::Error),
}

impl From<sqlx::Error> for Redeem {
    fn from(error: sqlx::Error) -> Self {
        Self::Failed(error)
    }
}

impl SignIn<'_> {
    /// The token by which this address's account knows the browser, if it does.
    async fn known_by<'a>(
        self,
        browser: BrowserProof<'a>,
        email_key: &str,
        from: &Requester,
        now: OffsetDateTime,
    ) -> sqlx::Result<Option<&'a KnownBrowserToken>> {
        match browser.known {
            Some(cookie) => known_browser::store::knows(&self.0.pool, cookie, email_key, from, now).await,
            None => Ok(None),
        }
    }

    /// Asks for a sign-in mail. Every address gets the same answer from the same statements: whether there is an account is for
    /// the worker to find out, and for the mail to say.
    ///
    /// # Errors
    /// [`RequestLinkError`]: the feature is off, a limit refused, or the database did not answer. Nothing was queued.
    pub async fn request_link(
        self,
        email: &EmailAddress,
        nonce: &BrowserNonce,
        browser: BrowserProof<'_>,
        from: &Requester,
    ) -> Result<(), RequestLinkError> {
        self.0.tally.count(from.network());
        if self.0.flag().sign_in_is_off().await? {
            event::count_request("flag_off", self.0.policy.metrics_email_domains.label(email));
            return Err(RequestLinkError::Off);
        }
        let now = self.0.now();
        let known = self.known_by(browser, email.key(), from, now).await?;
        let charges = self.request_charges(email, nonce, known, from, now);
        let taken = match self.backlog(now) {
            Some(limited) if known.is_none() => Err(limited),
            _ => self.0.limits().throttle().take(&self.0.pool, &charges, now).await?,
        };
        if let Err(limited) = taken {
            event::count_request("rate_limited", self.0.policy.metrics_email_domains.label(email));
            return Err(RequestLinkError::Limited(limited));
        }

        let (seed, codes_off) = (self.0.keys.seed(), self.codes_off_for(email, known).await?);
        let request =
            Request { email, seed, binding: nonce.hash(), from_known_browser: known.is_some(), codes_off, redirect_url: None };
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        self.queue_link(&mut work, new_id(now), request, from, now).await?;
        Ok(work.commit_and_mail(self.0).await?)
    }

    /// The request's row, its mail, and that it was made. Returns until when link and code work.
    pub(crate) async fn queue_link(
        self,
        work: &mut UnitOfWork<'_>,
        id: Uuid,
        request: Request<'_>,
        from: &Requester,
        now: OffsetDateTime,
    ) -> sqlx::Result<OffsetDateTime> {
        let Request { email, seed, binding, from_known_browser, codes_off, redirect_url } = request;
        let token = self.0.keys.link_token(&seed).expect("the current key is there");
        let code = self.0.keys.code(&seed).expect("the current key is there");
        let expires_at = now + self.0.policy.link_ttl;
        let link = MagicLink {
            id,
            email: email.clone(),
            code_hash: self.0.keys.code_hash(&seed, &code).expect("the current key is there").into(),
            seed,
            browser_hash: binding.into(),
            ip: from.ip,
            user_agent: from.user_agent().to_owned(),
            application: from.application().cloned(),
            redirect_url: redirect_url.map(ToOwned::to_owned),
            client_named: from.is_person(),
            codes_off,
            created_at: now,
            attempts: 0,
            life: Life::until(expires_at),
        };
        links::insert(work.connection(), &link, &token.hash(), from_known_browser).await?;
        let class = if from_known_browser { outbox::Class::Known } else { outbox::Class::Stranger };
        let place = outbox::Place::of(class, from, &self.0.keys);
        outbox::store::enqueue(work.connection(), outbox::Kind::SignIn, id, place, now, expires_at).await?;
        let domain = self.0.policy.metrics_email_domains.label(email);
        work.record(Event::LinkRequested { link: id, known_browser: from_known_browser, domain });
        Ok(expires_at)
    }

    fn request_charges(
        self,
        email: &EmailAddress,
        nonce: &BrowserNonce,
        known: Option<&KnownBrowserToken>,
        from: &Requester,
        now: OffsetDateTime,
    ) -> Vec<Charge> {
        let throttle = self.0.limits().throttle();
        let this_browser = throttle.charge(Limit::LinkBrowser, Subject::Browser(nonce));
        if let Some(token) = known {
            // Its own budget for this account instead of the shared ones, which strangers can use up.
            return vec![
                this_browser,
                throttle.charge(Limit::LinkKnownBrowser, Subject::KnownBrowserOfAddress(token, email.key())),
            ];
        }
        let mut charges = self.strangers_charges(email, from, now);
        charges.push(this_browser);
        charges
    }

    /// Refuses where the mails of strangers that wait can't all leave within a link's life, as fast as mail was measured to go out: another
    /// would come too late to be of use.
    pub(crate) fn backlog(self, now: OffsetDateTime) -> Option<Limited> {
        let wait = self.0.pace.backlog(now).saturating_sub(self.0.policy.link_ttl);
        (self.0.policy.limits.enabled && !wait.is_zero()).then(|| Limited { limit: Limit::LinkAll, wait }.counted())
    }

    /// Whether they can't all leave within half of it. Then only those get another who ask for little, and whose mails go before the others.
    fn crowded(self, now: OffsetDateTime) -> bool {
        self.0.pace.backlog(now) > self.0.policy.link_ttl / 2
    }

    /// What a request costs that no known browser makes.
    pub(crate) fn strangers_charges(self, email: &EmailAddress, from: &Requester, now: OffsetDateTime) -> Vec<Charge> {
        let (throttle, network, block) = (self.0.limits().throttle(), from.network(), from.block());
        // Where others have used the address's limit up, its owner gets a mail on a device that the account doesn't know.
        let newcomer = vec![
            throttle.charge(Limit::LinkAddressNewcomer, Subject::AddressFrom(email.key(), &block)),
            throttle.charge(Limit::LinkAddressNewcomers, Subject::Address(email.key())),
        ];
        // Where others have used the common part of all up, whoever asks for little gets what was kept.
        let kept = vec![
            throttle.charge(Limit::LinkAllBlock, Subject::Network(&block)),
            throttle.charge(Limit::LinkAllRange, Subject::Network(&from.range())),
        ];
        let mut charges = vec![
            throttle.charge(Limit::LinkAddressNetwork, Subject::AddressFrom(email.key(), &network)),
            throttle.charge(Limit::LinkAddress, Subject::Address(email.key())).or(newcomer),
            throttle.charge(Limit::LinkNetwork, Subject::Network(&network)),
            throttle.charge(Limit::LinkAll, Subject::Everybody),
        ];
        if from.is_person() {
            charges.push(throttle.charge(Limit::LinkNetwork48, Subject::Network(&block)));
        }
        if let Some(site) = from.site() {
            charges.push(throttle.charge(Limit::LinkNetwork56, Subject::Network(&site)));
        }
        if self.crowded(now) {
            charges.extend(kept);
        } else {
            charges.push(throttle.charge(Limit::LinkAllCommon, Subject::Everybody).or(kept));
        }
        charges
    }

    /// Looks at a link without touching it: opening, prefetching and scanning it changes nothing.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn peek_link(self, token: &LinkToken, browser: BrowserProof<'_>) -> Result<LinkState, Error> {
        let now = self.0.now();
        let Some(link) = links::by_token(&self.0.pool, &token.hash()).await? else {
            event::count_verification("invalid", Method::Link);
            return Ok(LinkState::Unknown);
        };
        // Counted here because a dead link's page has nothing to press. No audit row: whoever holds an old link could write
        // them without end.
        if let Some(dead) = link.life.dead(now) {
            event::count_verification(Refusal::from(dead).result(), Method::Link);
        }
        Ok(link.state(browser.nonce.map(BrowserNonce::hash).as_ref(), now))
    }

    /// What becomes of this browser's newest mail.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn delivery(self, nonce: &BrowserNonce) -> Result<Delivery, Error> {
        let now = self.0.now();
        Ok(outbox::store::delivery(&self.0.pool, &nonce.hash(), self.0.pace.backlog(now), now).await?)
    }

    /// "This wasn't me", from whatever browser: whoever holds the link reads the mail. Doing it twice does no harm.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn cancel_link(self, token: &LinkToken, from: &Requester) -> Result<(), Error> {
        let now = self.0.now();
        let Some(link) = links::by_token(&self.0.pool, &token.hash()).await? else {
            return Ok(());
        };
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        if links::cancel(work.connection(), link.id, now).await? {
            work.record(Event::LinkCancelled { link: link.id });
        }
        Ok(work.commit().await?)
    }

    /// Redeems a link, in the browser that asked for it.
    ///
    /// # Errors
    /// [`ConfirmLinkError`]. The sessions are then as they were.
    pub async fn confirm_link(
        self,
        token: &LinkToken,
        browser: BrowserProof<'_>,
        handover: &SessionChange,
        from: &Requester,
    ) -> Result<Outcome, ConfirmLinkError> {
        self.give_link(token, browser.into(), handover, from).await
    }

    pub(crate) async fn give_link(
        self,
        token: &LinkToken,
        giver: FirstFactorContext<'_>,
        handover: &SessionChange,
        from: &Requester,
    ) -> Result<Outcome, ConfirmLinkError> {
        if self.0.flag().sign_in_is_off().await? {
            return Err(ConfirmLinkError::Off);
        }
        let now = self.0.now();
        let Some(link) = links::by_token(&self.0.pool, &token.hash()).await? else {
            event::count_verification("invalid", Method::Link);
            return Err(ConfirmLinkError::NotLive(LinkState::Unknown));
        };
        let refusal = match link.refusal(giver.binding.as_ref(), now) {
            Some(refusal) => refusal,
            None => match self.redeem(&link, Method::Link, giver.browser, handover, from, now).await {
                Ok(outcome) => return Ok(outcome),
                Err(Redeem::NotLive(refusal)) => refusal,
                Err(Redeem::Off) => return Err(ConfirmLinkError::Off),
                Err(Redeem::Limited(limited)) => return Err(ConfirmLinkError::Limited(limited)),
                Err(Redeem::Failed(error)) => return Err(error.into()),
            },
        };
        self.record_refusal(&link, Method::Link, refusal, from, now).await?;
        Err(ConfirmLinkError::NotLive(link.refused(refusal)))
    }

    /// Redeems the code of this browser's newest mail.
    ///
    /// # Errors
    /// [`EnterCodeError`]. A wrong code was counted before it was compared.
    pub async fn enter_code(
        self,
        code: &Code,
        browser: BrowserProof<'_>,
        handover: &SessionChange,
        from: &Requester,
    ) -> Result<Outcome, EnterCodeError> {
        self.give_code(code, browser.into(), handover, from).await
    }

    pub(crate) async fn give_code(
        self,
        code: &Code,
        giver: FirstFactorContext<'_>,
        handover: &SessionChange,
        from: &Requester,
    ) -> Result<Outcome, EnterCodeError> {
        if self.0.flag().sign_in_is_off().await? {
            return Err(EnterCodeError::Off);
        }
        let now = self.0.now();
        let FirstFactorContext { binding, browser } = giver;
        let binding = binding.ok_or(EnterCodeError::NothingAsked)?;
        let link = links::newest_of_browser(&self.0.pool, &binding).await?.ok_or(EnterCodeError::NothingAsked)?;
        if let Some(dead) = link.life.dead(now) {
            return Err(self.refuse_code(&link, dead.into(), from, now).await?);
        }
        let known = self.known_by(browser, link.email.key(), from, now).await?;
        // For the answer, and so that a refused request writes nothing. The statement below decides.
        if self.codes_off_for(&link.email, known).await? {
            return Err(EnterCodeError::CodesOff);
        }
        if link.tries_left() == 0 {
            return Err(EnterCodeError::LastTry);
        }

        let charges = self.code_charges(&link, known, from);
        let throttle = self.0.limits().throttle();
        if let Err(limited) = throttle.take(&self.0.pool, &charges, now).await? {
            return Err(EnterCodeError::Limited(limited));
        }
        let Some(tried) = links::charge_try(&self.0.pool, &link, known, now).await? else {
            // Somebody else's parallel try took the last one, or redeemed it. Nothing was compared, so nothing counts.
            self.give_back(&charges).await?;
            let link = links::by_id(&self.0.pool, link.id).await?.ok_or(EnterCodeError::NothingAsked)?;
            return Err(match link.life.dead(now) {
                Some(dead) => self.refuse_code(&link, dead.into(), from, now).await?,
                None => EnterCodeError::LastTry,
            });
        };
        let Some(wrong) = tried.wrong else {
            self.give_back(&charges).await?;
            return Err(EnterCodeError::CodesOff);
        };
        let right = self.0.keys.code_hash(&link.seed, code).is_some_and(|hash| same(&hash, &link.code_hash));
        if !right {
            event::record(
                &self.0.pool,
                Event::LinkRefused { link: link.id, method: Method::Code, reason: Refusal::WrongCode },
                from,
                now,
            )
            .await?;
            if wrong >= MAX_WRONG_CODES {
                return Err(EnterCodeError::CodesOff);
            }
            let left = CODE_TRIES.saturating_sub(tried.spent);
            return Err(if left == 0 { EnterCodeError::LastTry } else { EnterCodeError::Wrong { left } });
        }
        // Only wrong answers count against the limits.
        self.give_back(&charges).await?;
        match known {
            Some(token) => known_browser::store::uncount(&self.0.pool, token, link.email.key()).await?,
            None => wrong_codes::uncount(&self.0.pool, link.email.key()).await?,
        }
        match self.redeem(&link, Method::Code, browser, handover, from, now).await {
            Ok(outcome) => Ok(outcome),
            Err(Redeem::NotLive(refusal)) => Err(self.refuse_code(&link, refusal, from, now).await?),
            Err(Redeem::Off) => Err(EnterCodeError::Off),
            Err(Redeem::Limited(limited)) => Err(EnterCodeError::Limited(limited)),
            Err(Redeem::Failed(error)) => Err(error.into()),
        }
    }

    async fn give_back(self, charges: &[Charge]) -> sqlx::Result<()> {
        let mut connection = self.0.pool.acquire().await?;
        self.0.limits().throttle().give_back(&mut connection, charges).await
    }

    fn code_charges(self, link: &MagicLink, known: Option<&KnownBrowserToken>, from: &Requester) -> Vec<Charge> {
        let throttle = self.0.limits().throttle();
        if let Some(token) = known {
            return vec![throttle.charge(Limit::CodeKnownBrowser, Subject::KnownBrowserOfAddress(token, link.email.key()))];
        }
        vec![
            throttle.charge(Limit::CodeNetwork, Subject::Network(&from.network())),
            throttle.charge(Limit::CodeAddress, Subject::Address(link.email.key())),
        ]
    }

    /// Whether codes for this address are off in this browser until a link has been used. For the page that says so.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn codes_are_off(self, email: &EmailAddress, browser: BrowserProof<'_>, from: &Requester) -> Result<bool, Error> {
        let known = self.known_by(browser, email.key(), from, self.0.now()).await?;
        Ok(self.codes_off_for(email, known).await?)
    }

    pub(crate) async fn codes_off_for(self, email: &EmailAddress, known: Option<&KnownBrowserToken>) -> sqlx::Result<bool> {
        match known {
            Some(token) => known_browser::store::codes_off(&self.0.pool, token, email.key()).await,
            None => wrong_codes::codes_off(&self.0.pool, email.key()).await,
        }
    }

    async fn refuse_code(
        self,
        link: &MagicLink,
        refusal: Refusal,
        from: &Requester,
        now: OffsetDateTime,
    ) -> sqlx::Result<EnterCodeError> {
        self.record_refusal(link, Method::Code, refusal, from, now).await?;
        Ok(EnterCodeError::Dead(link.refused(refusal)))
    }

    /// The first refusal of each kind that a request meets is an audit row; the others are only counted. Whoever holds a dead link
    /// could otherwise write rows without end.
    async fn record_refusal(
        self,
        link: &MagicLink,
        method: Method,
        reason: Refusal,
        from: &Requester,
        now: OffsetDateTime,
    ) -> sqlx::Result<()> {
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        if !links::note_refusal(work.connection(), link.id, method, reason).await? {
            event::count_verification(reason.result(), method);
            return Ok(());
        }
        work.record(Event::LinkRefused { link: link.id, method, reason });
        work.commit().await
    }

    /// Uses the link up and gives the fresh session its authority: all of it, or nothing.
    async fn redeem(
        self,
        link: &MagicLink,
        method: Method,
        browser: BrowserProof<'_>,
        handover: &SessionChange,
        from: &Requester,
        now: OffsetDateTime,
    ) -> Result<Outcome, Redeem> {
        if link.application.as_ref().map(|application| application.key) != from.application().map(|application| application.key) {
            // Its binding says so already: what an application asked for signs no browser in, and the other way round.
            return Err(Redeem::NotLive(Refusal::OtherBrowser));
        }
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        if !links::consume(work.connection(), link, method, now).await? {
            drop(work);
            // It died between the look and the statement: say of what.
            let dead = links::by_id(&self.0.pool, link.id).await?.and_then(|link| link.life.dead(now));
            return Err(Redeem::NotLive(dead.unwrap_or(Dead::Expired).into()));
        }
        if method == Method::Link {
            wrong_codes::link_used(work.connection(), link.email.key()).await?;
        }
        let account = self.find_or_create(&mut work, link, from, now).await?;
        if !self.0.flag().signs_in(&account.email_key, account.admin).await? {
            return Err(Redeem::Off);
        }
        if from.application().is_some() && !account.two_factor && self.0.policy.require_two_factor.covers(account.admin) {
            // In a browser they would be let in to set it up; an application has nowhere to do that. Nothing is used up.
            return Err(Redeem::NotLive(Refusal::EnrolmentRequired));
        }
        work.record(Event::LinkRedeemed { user: account.id, link: link.id, method });

        // Before what the account knows of its browsers, as where all its sessions end and all its browsers are forgotten.
        let replaced = match handover.old {
            Some(old) => sessions::store::revoke(work.connection(), old, RevokeReason::Replaced, now).await?,
            None => None,
        };
        if let (Method::Link, Some(cookie)) = (method, browser.known) {
            known_browser::store::link_used(work.connection(), cookie, account.id).await?;
        }
        let trusted = account.two_factor && self.is_trusted(&mut work, account.id, browser, now).await?;
        let second = trusted.then_some(SecondFactor::TrustedDevice);
        let level = Level::of(account.two_factor, second);
        let remembered = match level {
            Level::FirstFactor => None,
            Level::Email | Level::TwoFactor => Some(self.remember(&mut work, &account, browser, from, now).await?),
        };
        let grant = sessions::store::Grant {
            id: new_id(now),
            key: handover.fresh,
            data: &handover.data,
            user: account.id,
            two_factor: account.two_factor,
            method,
            second,
            // Trust stands in for the second factor at sign-in, and nowhere else.
            verified_at: (level == Level::Email).then_some(now),
            link: Some(link.id),
            asked_at: Some(link.created_at),
            new_device: remembered.as_ref().is_some_and(|remembered| remembered.new_device),
            from,
            now,
            expires_at: now + if level == Level::FirstFactor { SECOND_STEP_TTL } else { self.0.policy.session_max },
        };
        self.grant(&mut work, &grant, &account).await?;
        match (replaced, handover.old) {
            (Some(ended), _) => work.record(ended.event(RevokeReason::Replaced)),
            (None, Some(old)) => sessions::store::retire(work.connection(), old, now + RETIRED_FOR).await?,
            (None, None) => {}
        }

        let Some(remembered) = remembered else {
            work.commit().await?;
            return Ok(Outcome::SecondFactorNeeded);
        };
        if !account::store::signed_in(work.connection(), &account, now).await? {
            return Err(Redeem::NotLive(Refusal::Cancelled));
        }
        work.commit_and_mail(self.0).await?;
        Ok(Outcome::Complete { known_browser: remembered.cookie })
    }

    async fn is_trusted(
        self,
        work: &mut UnitOfWork<'_>,
        user: Uuid,
        browser: BrowserProof<'_>,
        now: OffsetDateTime,
    ) -> sqlx::Result<bool> {
        match browser.trusted {
            Some(token) if !self.0.policy.trusted_device_ttl.is_zero() => {
                trusted_device::store::vouch(work.connection(), user, &token.hash(), now).await
            }
            _ => Ok(false),
        }
    }

    /// The account of a proven address; made here the first time, where the policy admits it.
    async fn find_or_create(
        self,
        work: &mut UnitOfWork<'_>,
        link: &MagicLink,
        from: &Requester,
        now: OffsetDateTime,
    ) -> Result<Account, Redeem> {
        if let Some(account) = account::store::by_email(work.connection(), link.email.key(), now).await? {
            return if account.disabled { Err(Redeem::NotLive(Refusal::AccountOff)) } else { Ok(account) };
        }
        let email = &link.email;
        if held_address::is_held(work.connection(), email.key(), None, now).await? {
            // An account has moved away from it lately. Whoever lost it that way can have it back, so nobody else gets it.
            return Err(Redeem::NotLive(Refusal::NotAdmitted));
        }
        let invite = invitation::store::consume(work.connection(), email.key(), now).await?;
        if !self.0.policy.sign_up.admits(email, invite.is_some()) {
            return Err(Redeem::NotLive(Refusal::NotAdmitted));
        }
        let throttle = self.0.limits().throttle();
        let charge = throttle.charge(Limit::SignUpNetwork, Subject::Network(&from.network()));
        if let Err(limited) = throttle.take_within(work.connection(), &[charge], now).await? {
            return Err(Redeem::Limited(limited));
        }
        let id = new_id(now);
        // As the invitation spells it, where there is one: the mail went there.
        let email = invite.as_ref().map_or(email, |invite| &invite.email);
        if account::store::create(work.connection(), id, email, false, now).await?.is_none() {
            // Made by another instance this very moment. Trying again finds it.
            return Err(Redeem::Failed(sqlx::Error::RowNotFound));
        }
        work.record(Event::UserCreated { user: id, by: Origin::SignUp, admin: false, reason: None });
        if let Some(invite) = &invite {
            work.record(Event::InviteUsed { user: id, invite: invite.id });
        }
        let (email, email_key) = (email.as_str().to_owned(), email.key().to_owned());
        Ok(Account { id, email, email_key, admin: false, disabled: false, signed_in_before: false, two_factor: false })
    }
}
