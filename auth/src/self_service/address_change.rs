//! Another address for an account. A code goes to it, and works in the session that asked, for that address only. With the right one
//! the account moves: other sessions, all trust and the open links of both addresses end, its browsers are forgotten, and the old address
//! gets a link that takes it back ([`crate::self_service::revert`]).
//!
//! Whether the new address has an account, or an invitation where the sign-up policy wants one, is for the worker to find out, and for the
//! mail to say: the page tells nothing of others. The policy is asked when the mail is sent, and again when the account moves.

use time::OffsetDateTime;

use crate::{
    Error, SelfService,
    crypto::Code,
    event::{Event, Purpose, RevokeReason, UnitOfWork},
    factors::trusted_device,
    identity::Authority,
    limits::{
        known_browser,
        throttle::{Limited, Subject},
    },
    one_time::{
        invitation, magic_link,
        mailed_code::{CodeFor, MailedCode, MailedCodeError},
        revert_link::{self, Revert},
    },
    outbox::{self, Notice},
    policy::limits::Limit,
    primitives::{email_address::EmailAddress, requester::Requester},
    sessions,
    sign_in::{first_factor::BrowserProof, second_factor::SecondFactorContext, step_up::StepUpSession},
    users::{account, held_address},
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
    /// Its `Expired` also where the address has come to belong to an account, or the sign-up policy does not take it any more.
    #[error(transparent)]
    Code(#[from] MailedCodeError),
    #[error("the session is over")]
    SessionOver,
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

impl SelfService<'_> {
    /// The newest change that this session has asked for and not made.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn address_change(self, authority: &Authority) -> Result<Option<AddressChange>, Error> {
        let change = self.0.one_time().newest_code(CodeFor::AddressChange, authority.session).await?;
        let change = change.filter(|change| !change.life.used);
        Ok(change.map(|change| AddressChange { live: change.is_live(self.0.now()), email: change.email }))
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
        Ok(self.0.one_time().mail_code(authority, Some(email), from, now).await?)
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
        let change = self.0.one_time().live_code(CodeFor::AddressChange, authority.session, now).await??;
        let giving = SecondFactorContext { user, purpose: Purpose::StepUp, browser, from, now };
        let (by_session, _) = self.0.sign_in().charge_for((Limit::StepUpAccount, Limit::StepUpKnownBrowser), giving).await?;
        // By the address as well: whoever guesses at one they can't read gets no more tries by making more accounts.
        let by_address = self.0.limits().throttle().charge(Limit::CodeAddress, Subject::Address(change.email.key()));
        let mut work = self.0.one_time().redeem_code(&change, code, &[by_session, by_address], from, now).await??;
        self.move_account(&mut work, stepping, &change, from, now).await?;
        Ok(work.commit_and_mail(self.0).await?)
    }

    async fn move_account(
        self,
        work: &mut UnitOfWork<'_>,
        stepping: StepUpSession<'_>,
        change: &MailedCode,
        from: &Requester,
        now: OffsetDateTime,
    ) -> Result<(), ConfirmChangeError> {
        let StepUpSession { authority, old, fresh } = stepping;
        let user = authority.user;
        let account = account::store::by_id(work.connection(), user, now).await?.ok_or(ConfirmChangeError::SessionOver)?;
        if account.email_key == change.email.key() {
            // It went there by another session's code this very moment.
            return Err(MailedCodeError::Expired.into());
        }
        // Before all others, as using one takes them.
        revert_link::store::close_sign_ins(work.connection(), user, &account.email_key, now).await?;
        // Links before sessions before the account, as signing in takes them: the other way round the two could wait for each other.
        magic_link::store::close_both(work.connection(), &account.email_key, change.email.key(), now).await?;
        if !sessions::store::change_id(work.connection(), authority.session, old, fresh, now).await? {
            return Err(ConfirmChangeError::SessionOver);
        }
        let reason = RevokeReason::EmailChanged;
        sessions::end_all(work, user, Some(authority.session), reason, now).await?;
        trusted_device::revoke_all(work, user, now).await?;
        known_browser::store::forget_all(work.connection(), &[user]).await?;
        let invite = invitation::store::consume(work.connection(), change.email.key(), now).await?;
        // As the invitation spells it, where there is one: the code went there.
        let email = invite.as_ref().map_or(&change.email, |invite| &invite.email);
        let free = self.0.policy.sign_up.admits_move(email, invite.is_some())
            && !held_address::is_held(work.connection(), email.key(), Some(user), now).await?;
        if !free || !account::store::set_email(work.connection(), user, email.as_str(), email.key()).await? {
            // The owner of that address was told that it has an account. Here it looks like a code that is dead.
            return Err(MailedCodeError::Expired.into());
        }
        if let Some(invite) = invite {
            work.record(Event::InviteUsed { user, invite: invite.id });
        }
        // A second step that was finishing while its half session was waited for has made a session, trust, and that its browser is known,
        // which nobody saw above.
        // From here on none can: it waits for the account, and finds that it has moved.
        sessions::end_all(work, user, Some(authority.session), reason, now).await?;
        trusted_device::revoke_all(work, user, now).await?;
        known_browser::store::forget_all(work.connection(), &[user]).await?;
        revert_link::store::close_sign_ins(work.connection(), user, &account.email_key, now).await?;
        work.record(Event::EmailChanged { user, change: change.id });
        // `account` is as it was before: the link and its mail are for the old address.
        let undo = revert_link::create(&self.0.keys, work, &account, Revert::EmailChange, now).await?;
        outbox::store::enqueue_undoable(work.connection(), user, Notice::EmailChanged, Some(undo), Some(from), now).await?;
        Ok(())
    }
}
