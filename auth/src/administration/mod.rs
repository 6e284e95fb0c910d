//! Looking after other people's accounts: an administrator on the pages, or an operator at the shell.
//!
//! Not here: what people do to their own account (`self_service`).
//! To add one: an action is what it does between `begin_action` and `finish_action`, its event and its notice.
//!
//! An administrator's session must have given its strongest factor lately. Every action has a reason, is recorded with who did it,
//! and is told to the account's owner. There is always an administrator left.

mod limits;
mod mail_queue;
mod store;
mod two_factor_reset;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Administration, Error,
    event::{Event, RevokeReason, UnitOfWork},
    identity::{ActionError, Actor, Origin, Scope},
    limits::known_browser,
    one_time::magic_link,
    outbox::{self, Notice},
    policy::{MAX_LINK_TTL, SignUp},
    primitives::{
        email_address::{EmailAddress, EmailAddressError},
        reason::Reason,
    },
    self_service::{
        pending_reset::{self, PendingReset},
        two_factor::TwoFactor,
    },
    sessions::{self, SessionView},
    users::account::{self, store::Account},
    users::held_address,
};

pub use limits::{LimitsInForce, Throttled, ThrottledBy};
pub use mail_queue::TestMailError;
pub use store::{Status, UserFilter, UserRow};
pub use two_factor_reset::Reset;

/// Users on one page.
pub const PAGE: usize = 25;

/// How far a list is counted.
pub const COUNTED: i64 = 10_000;

/// A page of users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Users {
    pub rows: Vec<UserRow>,
    /// How many match in all; [`COUNTED`] where there are more.
    pub matching: i64,
    /// More match than were counted.
    pub more: bool,
    /// The first row's number among them, from 1; `None` where it is beyond what was counted.
    pub from: Option<i64>,
    /// Cursors: opaque, for a URL. They hold ids and no address.
    pub previous: Option<String>,
    pub next: Option<String>,
}

/// Where a list of users goes on: behind the row of this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserCursor(pub Uuid);

/// One account, as an administrator sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct UserDetail {
    pub row: UserRow,
    pub display_name: Option<String>,
    pub created_at: OffsetDateTime,
    /// When it goes, where its owner has asked for that.
    pub deletes_at: Option<OffsetDateTime>,
    pub two_factor: TwoFactor,
    /// A reset of it that waits.
    pub reset: Option<PendingReset>,
    pub sessions: Vec<SessionView>,
}

fn as_count(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

impl Administration<'_> {
    /// The accounts and open invitations that match, by address.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn users(self, filter: &UserFilter, cursor: Option<&str>) -> Result<Users, Error> {
        let now = self.0.now();
        let cursor = cursor.and_then(store::Cursor::parse);
        let (most, idle_since) = (COUNTED + 1, now - self.0.policy.session_idle);
        let page = store::page(&self.0.pool, filter, cursor, PAGE + 1, now, idle_since);
        let count = store::count(&self.0.pool, filter, None, most, now);
        let backwards = cursor.is_some_and(store::Cursor::is_backwards);
        // Backwards the rows lie before one that is known, so all can be asked at once.
        let (mut rows, counted) = match cursor {
            Some(cursor) if backwards => {
                let before = store::count(&self.0.pool, filter, Some(cursor.id()), most, now);
                let (rows, matching, before) = tokio::try_join!(page, count, before)?;
                let before = if before > COUNTED { before } else { before - as_count(rows.len().min(PAGE)) };
                (rows, Some((matching, before)))
            }
            _ => (page.await?, None),
        };
        let more = rows.len() > PAGE;
        rows.truncate(PAGE);
        if backwards {
            rows.reverse();
        }
        let (matching, before) = match (counted, cursor, rows.first()) {
            (Some(counted), ..) => counted,
            // A list that is whole on its first page is counted here.
            (None, None, _) if !more => (as_count(rows.len()), 0),
            (None, Some(_), Some(first)) => {
                let before = store::count(&self.0.pool, filter, Some(first.id), most, now);
                tokio::try_join!(store::count(&self.0.pool, filter, None, most, now), before)?
            }
            _ => (store::count(&self.0.pool, filter, None, most, now).await?, 0),
        };
        let next = (more || backwards).then(|| rows.last().map(|row| store::Cursor::after(row.id).to_string())).flatten();
        let previous = (before > 0).then(|| rows.first().map(|row| store::Cursor::before(row.id).to_string())).flatten();
        let from = (before <= COUNTED).then_some(before + i64::from(!rows.is_empty()));
        Ok(Users { from, matching: matching.min(COUNTED), more: matching > COUNTED, previous, next, rows })
    }

    /// Up to `most` of the accounts and open invitations that match, by address, and the cursor to those after them. Nothing is counted:
    /// that would look at every account.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn users_after(
        self,
        filter: &UserFilter,
        cursor: Option<UserCursor>,
        most: usize,
    ) -> Result<(Vec<UserRow>, Option<UserCursor>), Error> {
        let now = self.0.now();
        let cursor = cursor.map(|UserCursor(id)| store::Cursor::after(id));
        let mut rows = store::page(&self.0.pool, filter, cursor, most + 1, now, now - self.0.policy.session_idle).await?;
        let more = rows.len() > most;
        rows.truncate(most);
        let next = rows.last().filter(|_| more).map(|row| UserCursor(row.id));
        Ok((rows, next))
    }

    /// One account whole. That an administrator or a program looked at it is recorded.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn user(self, who: Actor<'_>, id: Uuid) -> Result<Option<UserDetail>, Error> {
        let now = self.0.now();
        let Some(found) = store::one(&self.0.pool, id, now, now - self.0.policy.session_idle).await? else {
            return Ok(None);
        };
        if who.actor().is_some() {
            let mut work = UnitOfWork::begin(&self.0.pool, who.from(), now).await?.by(who.actor());
            work.record(Event::UserViewed { user: id });
            work.commit().await?;
        }
        Ok(Some(UserDetail {
            row: found.row,
            display_name: found.display_name,
            created_at: found.created_at,
            deletes_at: found.deletes_at,
            two_factor: self.0.self_service().two_factor_of(id).await?,
            reset: pending_reset::of(&mut *self.0.pool.acquire().await?, id, now).await?,
            sessions: self.0.sessions().sessions_of(id, None).await?,
        }))
    }

    /// The id of the account with this address.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn user_id(self, email: &EmailAddress) -> Result<Option<Uuid>, Error> {
        let mut connection = self.0.pool.acquire().await?;
        Ok(account::store::by_email(&mut connection, email.key(), self.0.now()).await?.map(|account| account.id))
    }

    async fn finish_action(
        self,
        mut work: UnitOfWork<'_>,
        account: &Account,
        notice: Notice,
        now: OffsetDateTime,
    ) -> Result<(), ActionError> {
        // Without the administrator's browser: that is nobody's business but the audit's.
        outbox::store::enqueue_notice(work.connection(), account.id, notice, None, now).await?;
        Ok(work.commit_and_mail(self.0).await?)
    }

    /// Turns an account off: it signs nobody in, and its sessions and open links end.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn disable_user(self, who: Actor<'_>, id: Uuid, reason: &Reason) -> Result<(), ActionError> {
        let now = self.0.now();
        let mut work = UnitOfWork::begin_action(self.0, who, now).await?;
        let account = account::store::by_id(work.connection(), id, now).await?.ok_or(ActionError::NoSuchUser)?;
        // Links before sessions before accounts, as signing in takes them: the other way round the two could wait for each other.
        magic_link::store::close_all(work.connection(), &account.email_key, now).await?;
        sessions::end_all(&mut work, id, None, RevokeReason::AccountOff, now).await?;
        if account::store::is_last_admin(work.connection(), id).await? {
            return Err(ActionError::LastAdmin);
        }
        if !account::store::disable(work.connection(), id, now).await? {
            return Err(ActionError::Nothing);
        }
        // Once more, for a session that a second step made while the first look waited for it: turned on again, the account must
        // not find it alive.
        sessions::end_all(&mut work, id, None, RevokeReason::AccountOff, now).await?;
        work.record(Event::UserDisabled { user: id, by: who.origin(), reason: reason.clone() });
        self.finish_action(work, &account, Notice::AccountDisabled, now).await
    }

    /// # Errors
    /// [`ActionError`].
    pub async fn enable_user(self, who: Actor<'_>, id: Uuid, reason: &Reason) -> Result<(), ActionError> {
        let now = self.0.now();
        let mut work = UnitOfWork::begin_action(self.0, who, now).await?;
        let account = account::store::by_id(work.connection(), id, now).await?.ok_or(ActionError::NoSuchUser)?;
        if !account::store::enable(work.connection(), id).await? {
            return Err(ActionError::Nothing);
        }
        work.record(Event::UserEnabled { user: id, by: who.origin(), reason: reason.clone() });
        self.finish_action(work, &account, Notice::AccountEnabled, now).await
    }

    /// Ends every session of an account. Returns how many.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn end_user_sessions(self, who: Actor<'_>, id: Uuid, reason: &Reason) -> Result<u64, ActionError> {
        let now = self.0.now();
        who.permit_with(self.0, Scope::Users)?;
        let mut work = UnitOfWork::begin(&self.0.pool, who.from(), now).await?.by(who.actor());
        let account = account::store::by_id(work.connection(), id, now).await?.ok_or(ActionError::NoSuchUser)?;
        let ended = sessions::end_all(&mut work, id, None, RevokeReason::EndedByAdmin, now).await?;
        // Also where nobody is signed in: whoever copied a browser's cookie has it still.
        let forgotten = known_browser::store::forget_all(work.connection(), &[id]).await?;
        if ended == 0 && forgotten == 0 {
            return Err(ActionError::Nothing);
        }
        let sessions = ended as u64;
        work.record(Event::UserSessionsEnded { user: id, by: who.origin(), reason: reason.clone(), sessions });
        self.finish_action(work, &account, Notice::SessionsEnded, now).await?;
        Ok(sessions)
    }

    /// Makes an account an administrator's, or an ordinary one again. It holds from the account's next request.
    ///
    /// # Errors
    /// [`ActionError`].
    pub async fn set_admin(self, who: Actor<'_>, id: Uuid, admin: bool, reason: &Reason) -> Result<(), ActionError> {
        let now = self.0.now();
        let mut work = UnitOfWork::begin_action(self.0, who, now).await?;
        let account = account::store::by_id(work.connection(), id, now).await?.ok_or(ActionError::NoSuchUser)?;
        let (by, reason) = (who.origin(), reason.clone());
        if !admin && account::store::is_last_admin(work.connection(), id).await? {
            return Err(ActionError::LastAdmin);
        }
        if !account::store::set_admin(work.connection(), id, admin).await? {
            return Err(ActionError::Nothing);
        }
        let (event, notice) = if admin {
            (Event::AdminGranted { user: id, by, reason }, Notice::AdminGranted)
        } else {
            (Event::AdminRevoked { user: id, by, reason }, Notice::AdminRevoked)
        };
        work.record(event);
        self.finish_action(work, &account, notice, now).await
    }

    /// Invites an address to sign up, or an account to move there. `reason`: why, where the sign-up policy does not take the address by
    /// itself. Where sign-up is closed nobody is mailed, and the invitation only lets an account move there.
    ///
    /// # Errors
    /// [`InviteError`].
    pub async fn invite(self, who: Actor<'_>, email: &EmailAddress, reason: Option<&Reason>) -> Result<Uuid, InviteError> {
        let now = self.0.now();
        let mut work = UnitOfWork::begin_action(self.0, who, now).await.map_err(InviteError::Act)?;
        if email.is_route() {
            return Err(InviteError::Route);
        }
        if reason.is_none() && !self.0.policy.sign_up.admits_by_hand(email) {
            return Err(if self.0.policy.sign_up == SignUp::Closed { InviteError::Closed } else { InviteError::NotAdmitted });
        }
        if held_address::is_held(work.connection(), email.key(), None, now).await? {
            return Err(InviteError::HeldBack);
        }
        let id = self
            .0
            .one_time()
            .invite(&mut work, email, who.actor(), who.origin(), reason, now)
            .await?
            .ok_or(InviteError::AccountExists)?;
        work.commit_and_mail(self.0).await?;
        Ok(id)
    }

    /// Ends the sessions of everybody, or of everybody who signed in since `since`, and with them the links and codes under way that
    /// were asked for since then: else whoever holds one would be in again. Nobody is told by mail: there may be a million, and they
    /// see it at their next request. Returns how many sessions.
    ///
    /// # Errors
    /// When the database does not answer. What was ended until then stays so; running it again does the rest.
    pub async fn end_everybodys_sessions(self, since: Option<OffsetDateTime>, reason: &Reason) -> Result<u64, Error> {
        let (mut ended, mut closed) = (0, 0);
        loop {
            let now = self.0.now();
            // What is older is dead, whatever this server's configuration says of how long a link works.
            let asked_since = since.unwrap_or(now - MAX_LINK_TTL).max(now - MAX_LINK_TTL);
            let mut work = UnitOfWork::begin(&self.0.pool, None, now).await?;
            let links = magic_link::store::close_since(work.connection(), asked_since, BATCH, now).await?;
            closed += links;
            let why = RevokeReason::EndedByAdmin;
            let some = sessions::store::revoke_since(work.connection(), since, BATCH, why, now).await?;
            let users: Vec<Uuid> = some.iter().map(|ended| ended.user).collect();
            known_browser::store::forget_all(work.connection(), &users).await?;
            let browsers = known_browser::store::forget_used_since(work.connection(), since, BATCH).await?;
            for ended in &some {
                work.record(ended.event(why));
            }
            ended += some.len() as u64;
            let done = some.is_empty() && links == 0 && browsers == 0;
            if done {
                work.record(Event::SessionsEnded {
                    by: Origin::Operator,
                    since,
                    reason: reason.clone(),
                    sessions: ended,
                    links: closed,
                });
            }
            work.commit().await?;
            if done {
                return Ok(ended);
            }
        }
    }
}

/// Sessions ended and links closed in one transaction, when all are.
const BATCH: i64 = 1_000;

/// Why nobody was invited.
#[derive(Debug, thiserror::Error)]
pub enum InviteError {
    /// Nobody signs up here, invited or not.
    #[error("sign-up is closed")]
    Closed,
    /// The sign-up policy does not take it, and nobody said why it should.
    #[error("sign-up does not take this address")]
    NotAdmitted,
    /// Mail to it would go elsewhere.
    #[error("{}", EmailAddressError::Route)]
    Route,
    /// An account has moved from it, and can still be moved back.
    #[error("an account had this address, and may have it back")]
    HeldBack,
    #[error("there is already an account with this address")]
    AccountExists,
    #[error(transparent)]
    Act(ActionError),
    #[error(transparent)]
    Unavailable(#[from] Error),
}

from_sqlx!(InviteError);
