//! Another address for an account. A code goes to it, and works in the session that asked, for that address only. With the right one
//! the account moves: other sessions, all trust and the open links of both addresses end, and the old address gets a link that takes
//! it back ([`crate::self_service::revert`]).
//!
//! Whether the new address has an account is for the worker to find out, and for the mail to say: the page tells nothing.

pub(crate) mod store;

use time::OffsetDateTime;

use crate::{
    Error, SelfService,
    crypto::{Code, new_id, same},
    event::{self, Event, Purpose, RevokeReason, UnitOfWork},
    factors::trusted_device,
    identity::Authority,
    limits::throttle::{Limited, Subject},
    one_time::{
        magic_link,
        revert_link::{self, Revert},
    },
    outbox::{self, Notice},
    policy::{ADDRESS_CODE_TTL, CODE_TRIES, limits::Limit},
    primitives::{email_address::EmailAddress, requester::Requester},
    sessions,
    sign_in::{first_factor::BrowserProof, second_factor::SecondFactorContext, step_up::StepUpSession},
    users::account,
    users::held_address,
};

/// Why no code was queued.
#[derive(Debug, thiserror::Error)]
pub enum RequestChangeError {
    /// The account's strongest factor has to be given first.
    #[error("the session has to step up first")]
    NotFresh,
    #[error("it is the account's address already")]
    Same,
    #[error("a limit refused")]
    Limited(Limited),
    #[error(transparent)]
    Unavailable(#[from] Error),
}

/// Why the account did not move.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmChangeError {
    /// The account's strongest factor has to be given first.
    #[error("the session has to step up first")]
    NotFresh,
    /// This session has asked for no code.
    #[error("there is no code for this session")]
    NothingSent,
    #[error("the code was wrong")]
    Wrong { left: u32 },
    #[error("the code was wrong, and that was the last try")]
    LastTry,
    /// Too old, or used; or the address has come to belong to an account.
    #[error("the code does not work any more")]
    Expired,
    #[error("the session is over")]
    SessionOver,
    #[error("a limit refused")]
    Limited(Limited),
    #[error(transparent)]
    Unavailable(#[from] Error),
}

from_sqlx!(RequestChangeError, ConfirmChangeError);

/// A change that this session has asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressChange {
    pub email: EmailAddress,
    /// Its code works still.
    pub live: bool,
}

impl store::EmailChange {
    fn is_live(&self, now: OffsetDateTime) -> bool {
        !self.used && self.attempts < CODE_TRIES && self.expires_at > now
    }
}

impl SelfService<'_> {
    /// The newest change that this session has asked for and not made.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn address_change(self, authority: &Authority) -> Result<Option<AddressChange>, Error> {
        let change = store::newest(&self.0.pool, authority.session).await?.filter(|change| !change.used);
        Ok(change.and_then(|change| {
            let live = change.is_live(self.0.now());
            Some(AddressChange { email: EmailAddress::stored(&change.email)?, live })
        }))
    }

    /// Mails a code to another address. Every address gets the same answer from the same statements.
    ///
    /// # Errors
    /// [`RequestChangeError`]. Nothing was queued.
    pub async fn request_address_change(
        self,
        authority: &Authority,
        email: &EmailAddress,
        from: &Requester,
    ) -> Result<(), RequestChangeError> {
        if !self.0.sign_in().is_fresh(authority) {
            return Err(RequestChangeError::NotFresh);
        }
        if EmailAddress::stored(&authority.email).is_some_and(|now| now.key() == email.key()) {
            return Err(RequestChangeError::Same);
        }
        let (now, user) = (self.0.now(), authority.user);
        let throttle = self.0.limits().throttle();
        // The second is everybody's mail to that address: its owner is not to get more by way of accounts that strangers make.
        let charges = [
            throttle.charge(Limit::AddressChange, Subject::Account(user)),
            throttle.charge(Limit::LinkAddress, Subject::Address(email.key())),
        ];
        throttle.take(&self.0.pool, &charges, now).await?.map_err(RequestChangeError::Limited)?;
        let seed = self.0.keys.seed();
        let code = self.0.keys.email_change_code(&seed).expect("the current key is there");
        let new = store::NewChange {
            id: new_id(now),
            session: authority.session,
            user,
            email,
            seed: &seed,
            code_hash: self.0.keys.code_hash(&seed, &code).expect("the current key is there"),
            from,
            created_at: now,
            expires_at: now + ADDRESS_CODE_TTL,
        };
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        store::insert(work.connection(), &new).await?;
        outbox::store::enqueue_email_change(work.connection(), new_id(now), new.id, now, new.expires_at).await?;
        work.record(Event::EmailChangeRequested { user, change: new.id });
        work.commit().await?;
        self.0.outbox.notify_one();
        Ok(())
    }

    /// Moves the account to the address of this session's newest code.
    ///
    /// # Errors
    /// [`ConfirmChangeError`]. A wrong code was counted before it was compared.
    pub async fn confirm_address_change(
        self,
        stepping: StepUpSession<'_>,
        code: &Code,
        browser: BrowserProof<'_>,
        from: &Requester,
    ) -> Result<(), ConfirmChangeError> {
        let (now, authority) = (self.0.now(), stepping.authority);
        if !self.0.sign_in().is_fresh(authority) {
            return Err(ConfirmChangeError::NotFresh);
        }
        let user = authority.user;
        let change = store::newest(&self.0.pool, authority.session).await?.ok_or(ConfirmChangeError::NothingSent)?;
        if change.used || change.expires_at <= now {
            return Err(ConfirmChangeError::Expired);
        }
        if change.attempts >= CODE_TRIES {
            return Err(ConfirmChangeError::LastTry);
        }
        let giving = SecondFactorContext { user, purpose: Purpose::StepUp, browser, from, now };
        let throttle = self.0.limits().throttle();
        let (by_session, _) = self.0.sign_in().charge_for((Limit::StepUpAccount, Limit::StepUpKnownBrowser), giving).await?;
        // By the address as well: whoever guesses at one they can't read gets no more tries by making more accounts.
        let charges = [by_session, throttle.charge(Limit::CodeAddress, Subject::Address(&change.email_key))];
        throttle.take(&self.0.pool, &charges, now).await?.map_err(ConfirmChangeError::Limited)?;
        let Some(spent) = store::charge_try(&self.0.pool, change.id, now).await? else {
            return Err(ConfirmChangeError::LastTry);
        };
        if !self.0.keys.code_hash(&change.seed, code).is_some_and(|hash| same(&hash, &change.code_hash)) {
            event::record(&self.0.pool, Event::EmailChangeRefused { user, change: change.id }, from, now).await?;
            let left = CODE_TRIES.saturating_sub(spent);
            return Err(if left == 0 { ConfirmChangeError::LastTry } else { ConfirmChangeError::Wrong { left } });
        }
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        throttle.give_back(work.connection(), &charges).await?;
        self.move_account(&mut work, stepping, &change, from, now).await?;
        work.commit().await?;
        self.0.outbox.notify_one();
        Ok(())
    }

    async fn move_account(
        self,
        work: &mut UnitOfWork<'_>,
        stepping: StepUpSession<'_>,
        change: &store::EmailChange,
        from: &Requester,
        now: OffsetDateTime,
    ) -> Result<(), ConfirmChangeError> {
        let StepUpSession { authority, old, fresh } = stepping;
        let user = authority.user;
        if !store::consume(work.connection(), change.id, now).await? {
            return Err(ConfirmChangeError::Expired);
        }
        let account = account::store::by_id(work.connection(), user, now).await?.ok_or(ConfirmChangeError::SessionOver)?;
        if account.email_key == change.email_key {
            // It went there by another session's code this very moment.
            return Err(ConfirmChangeError::Expired);
        }
        // Links before sessions before the account, as signing in takes them: the other way round the two could wait for each other.
        magic_link::store::close_both(work.connection(), &account.email_key, &change.email_key, now).await?;
        if !sessions::store::change_id(work.connection(), authority.session, old, fresh, now).await? {
            return Err(ConfirmChangeError::SessionOver);
        }
        let reason = RevokeReason::EmailChanged;
        sessions::end_all(work, user, Some(authority.session), reason, now).await?;
        trusted_device::revoke_all(work, user, now).await?;
        let free = !held_address::is_held(work.connection(), &change.email_key, Some(user), now).await?;
        if !free || !account::store::set_email(work.connection(), user, &change.email, &change.email_key).await? {
            // The owner of that address was told that it has an account. Here it looks like a code that is dead.
            return Err(ConfirmChangeError::Expired);
        }
        // A second step that was finishing while its half session was waited for has made a session, and trust, that nobody saw above.
        // From here on none can: it waits for the account, and finds that it has moved.
        sessions::end_all(work, user, Some(authority.session), reason, now).await?;
        trusted_device::revoke_all(work, user, now).await?;
        work.record(Event::EmailChanged { user, change: change.id });
        // `account` is as it was before: the link and its mail are for the old address.
        let undo = revert_link::create(&self.0.keys, work, &account, Revert::EmailChange, now).await?;
        outbox::store::enqueue_undoable(work.connection(), user, Notice::EmailChanged, undo, Some(from), now).await?;
        Ok(())
    }
}
