//! Codes mailed for somebody who is signed in: to the account's address before a change to it, or to a new address that proves itself.
//! A code belongs to one session and signs nobody in.

pub(crate) mod store;

use std::net::IpAddr;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    OneTime,
    crypto::{Code, Keys, Seed, new_id, same},
    event::{self, Event, UnitOfWork},
    identity::Authority,
    limits::throttle::{Charge, Limited},
    one_time::Life,
    outbox,
    policy::{ADDRESS_CODE_TTL, CODE_TRIES, STEP_UP_CODE_TTL},
    primitives::{email_address::EmailAddress, requester::Requester},
};

/// Why a mailed code was not taken.
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
    #[error("a limit refused")]
    Limited(Limited),
}

/// What a code is for. Each kind is derived by a key of its own, so that no code is ever another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodeFor {
    StepUp,
    AddressChange,
}

impl CodeFor {
    pub fn derive(self, keys: &Keys, seed: &Seed) -> Option<Code> {
        match self {
            Self::StepUp => keys.step_up_code(seed),
            Self::AddressChange => keys.email_change_code(seed),
        }
    }
}

/// A code that is about to be mailed.
struct NewCode<'a> {
    id: Uuid,
    session: Uuid,
    user: Uuid,
    /// None where it goes to the account's own.
    new_address: Option<&'a EmailAddress>,
    seed: Seed,
    code_hash: [u8; 32],
    created_at: OffsetDateTime,
    expires_at: OffsetDateTime,
}

/// A row as it stands.
pub(crate) struct MailedCode {
    pub of: CodeFor,
    pub id: Uuid,
    pub user: Uuid,
    /// Where it goes: the account's address now, or the new one.
    pub email: EmailAddress,
    pub seed: Seed,
    pub code_hash: Vec<u8>,
    pub ip: IpAddr,
    pub user_agent: String,
    pub created_at: OffsetDateTime,
    pub attempts: i16,
    pub life: Life,
}

impl MailedCode {
    /// Why it can't be tried.
    fn dead(&self, now: OffsetDateTime) -> Option<MailedCodeError> {
        if self.life.dead(now).is_some() {
            return Some(MailedCodeError::Expired);
        }
        (u32::from(self.attempts.unsigned_abs()) >= CODE_TRIES).then_some(MailedCodeError::LastTry)
    }

    pub fn is_live(&self, now: OffsetDateTime) -> bool {
        self.dead(now).is_none()
    }
}

impl OneTime<'_> {
    /// Mails a code for this session: to a new address, or to the account's own before a change.
    pub(crate) async fn mail_code(
        self,
        authority: &Authority,
        new_address: Option<&EmailAddress>,
        from: &Requester,
        now: OffsetDateTime,
    ) -> sqlx::Result<()> {
        let (id, user) = (new_id(now), authority.user);
        let (of, ttl, kind, event) = if new_address.is_some() {
            let event = Event::EmailChangeRequested { user, change: id };
            (CodeFor::AddressChange, ADDRESS_CODE_TTL, outbox::Kind::EmailChange, event)
        } else {
            (CodeFor::StepUp, STEP_UP_CODE_TTL, outbox::Kind::StepUp, Event::StepUpMailed { user, code: id })
        };
        let seed = self.0.keys.seed();
        let code = of.derive(&self.0.keys, &seed).expect("the current key is there");
        let code_hash = self.0.keys.code_hash(&seed, &code).expect("the current key is there");
        let session = authority.session;
        let new = NewCode { id, session, user, new_address, seed, code_hash, created_at: now, expires_at: now + ttl };
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        store::insert(work.connection(), &new, from).await?;
        let place = outbox::Place::of(outbox::Class::Known, from, &self.0.keys);
        outbox::store::enqueue(work.connection(), kind, id, place, now, new.expires_at).await?;
        work.record(event);
        work.commit_and_mail(self.0).await
    }

    /// The newest code that was mailed for this session, whatever became of it.
    pub(crate) async fn newest_code(self, of: CodeFor, session: Uuid) -> sqlx::Result<Option<MailedCode>> {
        store::newest(&self.0.pool, of, session).await
    }

    /// The newest code of this session, if it can be tried.
    pub(crate) async fn live_code(
        self,
        of: CodeFor,
        session: Uuid,
        now: OffsetDateTime,
    ) -> sqlx::Result<Result<MailedCode, MailedCodeError>> {
        let newest = self.newest_code(of, session).await?;
        Ok(newest.ok_or(MailedCodeError::NothingSent).and_then(|code| code.dead(now).map_or(Ok(code), Err)))
    }

    /// Tries a code: counts the try, and only then compares. A right one is used up in the transaction that this returns, for the caller
    /// to do in it what the code is for. It gives `charges` back there: only wrong answers count.
    pub(crate) async fn redeem_code<'a>(
        self,
        mailed: &MailedCode,
        code: &Code,
        charges: &[Charge],
        from: &'a Requester,
        now: OffsetDateTime,
    ) -> sqlx::Result<Result<UnitOfWork<'a>, MailedCodeError>> {
        let throttle = self.0.limits().throttle();
        if let Err(limited) = throttle.take(&self.0.pool, charges, now).await? {
            return Ok(Err(MailedCodeError::Limited(limited)));
        }
        let Some(spent) = store::charge_try(&self.0.pool, mailed, now).await? else {
            return Ok(Err(MailedCodeError::LastTry));
        };
        if !self.0.keys.code_hash(&mailed.seed, code).is_some_and(|hash| same(&hash, &mailed.code_hash)) {
            let (user, id) = (mailed.user, mailed.id);
            let event = match mailed.of {
                CodeFor::StepUp => Event::StepUpRefused { user, code: id },
                CodeFor::AddressChange => Event::EmailChangeRefused { user, change: id },
            };
            event::record(&self.0.pool, event, from, now).await?;
            let left = CODE_TRIES.saturating_sub(spent);
            return Ok(Err(if left == 0 { MailedCodeError::LastTry } else { MailedCodeError::Wrong { left } }));
        }
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        throttle.give_back(work.connection(), charges).await?;
        let consumed = store::consume(work.connection(), mailed, now).await?;
        Ok(if consumed { Ok(work) } else { Err(MailedCodeError::Expired) })
    }
}
