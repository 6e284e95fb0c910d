//! Resets two-factor for somebody who has lost every factor: at once, after a time in which the owner can stop it, or when a second
//! administrator agrees.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Administration, Error,
    event::{Event, UnitOfWork},
    identity::{ActionError, Actor, Origin},
    one_time::revert_link::{self, Revert},
    outbox::{self, Notice},
    policy::ResetTwoFactor,
    primitives::reason::Reason,
    self_service::pending_reset::{self, Wish},
    users::account,
};

/// How long the first administrator's word counts while it waits for a second one's.
const AGREED_WITHIN: Duration = Duration::from_hours(24);

/// Until then nobody whom another administrator made one is the second of two: time for the others to see it.
const NEW_ADMIN: Duration = Duration::from_hours(24);

/// What came of an administrator's wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    Done,
    /// It happens then, unless its owner or an administrator stops it.
    At(OffsetDateTime),
    /// Another administrator has to agree.
    AwaitsAnother,
}

impl Administration<'_> {
    /// Takes two-factor off an account whose owner has lost every factor, or asks for it, as `RESET_2FA` says. All its sessions end when
    /// it happens. An operator at the shell waits for nobody: who gets that far can change the variable.
    ///
    /// # Errors
    /// [`ActionError`]; [`ActionError::Nothing`] where two-factor is off, or a reset has been asked for; [`ActionError::NewAdmin`] where
    /// two have to agree.
    pub async fn reset_user_two_factor(self, who: Actor<'_>, id: Uuid, reason: &Reason) -> Result<Reset, ActionError> {
        let now = self.0.now();
        let mut work = UnitOfWork::begin_action(self.0, who, now).await?;
        let account = account::store::by_id(work.connection(), id, now).await?.ok_or(ActionError::NoSuchUser)?;
        if let (Some(by), ResetTwoFactor::Two) = (who.actor(), self.0.policy.reset_two_factor)
            && pending_reset::is_new_admin(work.connection(), by, now - NEW_ADMIN).await?
        {
            return Err(ActionError::NewAdmin);
        }
        let due_at = match (who.actor(), self.0.policy.reset_two_factor) {
            (None, _) | (_, ResetTwoFactor::Now) => None,
            (Some(by), ResetTwoFactor::Wait(wait)) => Some((by, Some(now + wait))),
            // One statement takes the other's wish: of two who agree at once, one carries it out.
            (Some(by), ResetTwoFactor::Two) if pending_reset::agree(work.connection(), id, by, now).await? => None,
            (Some(by), ResetTwoFactor::Two) => Some((by, None)),
        };
        if let Some((by, due_at)) = due_at {
            let expires_at = due_at.unwrap_or(now + AGREED_WITHIN);
            let wish = Wish { by, reason, due_at, expires_at };
            // Before the reset, as using one takes them.
            revert_link::store::close_all(work.connection(), id, Revert::TwoFactorReset, now).await?;
            if !pending_reset::ask(work.connection(), id, &wish, now).await? {
                return Err(ActionError::Nothing);
            }
            work.record(Event::TwoFactorResetRequested { user: id, by: who.origin(), reason: reason.clone(), due_at });
            let stop = revert_link::create(&self.0.keys, &mut work, &account, Revert::TwoFactorReset, now).await?;
            let notice = Notice::TwoFactorResetRequested { due_at };
            outbox::store::enqueue_undoable(work.connection(), id, notice, Some(stop), None, now).await?;
            work.commit_and_mail(self.0).await?;
            return Ok(due_at.map_or(Reset::AwaitsAnother, Reset::At));
        }
        if !self.0.self_service().reset_two_factor(&mut work, &account, now).await? {
            return Err(ActionError::Nothing);
        }
        work.record(Event::TwoFactorReset { user: id, by: who.origin(), reason: reason.clone() });
        self.finish_action(work, &account, Notice::TwoFactorReset, now).await?;
        Ok(Reset::Done)
    }

    /// Stops a reset that waits.
    ///
    /// # Errors
    /// [`ActionError`]; [`ActionError::Nothing`] where none waits.
    pub async fn stop_two_factor_reset(self, who: Actor<'_>, id: Uuid, reason: &Reason) -> Result<(), ActionError> {
        let now = self.0.now();
        let mut work = UnitOfWork::begin_action(self.0, who, now).await?;
        let account = account::store::by_id(work.connection(), id, now).await?.ok_or(ActionError::NoSuchUser)?;
        if !pending_reset::stop(&mut work, id, Some((who.origin(), reason)), now).await? {
            return Err(ActionError::Nothing);
        }
        self.finish_action(work, &account, Notice::TwoFactorResetStopped, now).await
    }

    /// Carries out the resets whose time has come. Those of administrators who are none any more are dropped.
    ///
    /// # Errors
    /// When the database does not answer. What was done until then stays done.
    pub async fn carry_out_resets(self) -> Result<(), Error> {
        loop {
            let now = self.0.now();
            let mut work = UnitOfWork::begin(&self.0.pool, None, now).await?;
            let Some(due) = pending_reset::take_due(work.connection(), now).await? else { return Ok(()) };
            work = work.by(Some(due.asked_by));
            let Some(account) = account::store::by_id(work.connection(), due.user, now).await? else {
                work.commit().await?;
                continue;
            };
            let notice = if !due.by_admin {
                work.record(Event::TwoFactorResetStopped { user: due.user, by: None, reason: None });
                Some(Notice::TwoFactorResetStopped)
            } else if self.0.self_service().reset_two_factor(&mut work, &account, now).await? {
                work.record(Event::TwoFactorReset { user: due.user, by: Origin::Admin, reason: due.reason });
                Some(Notice::TwoFactorReset)
            } else {
                None
            };
            if let Some(notice) = notice {
                outbox::store::enqueue_notice(work.connection(), account.id, notice, None, now).await?;
            }
            work.commit_and_mail(self.0).await?;
        }
    }
}
