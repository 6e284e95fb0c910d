//! Taking back what a mail has told of: a change of address, a deletion, a sign-in. The link in the mail signs nobody in, and
//! looking at it changes nothing.

use std::net::IpAddr;

use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Error, SelfService,
    crypto::RevertToken,
    event::{Event, Purpose, RevokeReason, UnitOfWork},
    factors::{totp, trusted_device},
    limits::known_browser,
    one_time::{
        Dead, magic_link,
        revert_link::{self, Revert, RevertLink},
    },
    outbox::{self, Notice},
    policy::DELETION_WAIT,
    primitives::requester::Requester,
    self_service::{deletion, pending_reset},
    sessions,
    sign_in::{
        first_factor::BrowserProof,
        second_factor::{Factor, SecondFactorContext, SecondFactorError},
    },
    users::account::{self, store::Account},
};

/// Where a link stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RevertState {
    Live(RevertView),
    /// `Cancelled` where what it takes back was taken back in another way.
    Dead(Dead, Revert),
    Unknown,
}

/// What a link would take back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RevertView {
    EmailChange {
        /// To where the account goes back.
        old: String,
        /// Its address now.
        now: String,
        /// A code of its app, or a backup code, has to be given.
        factor_needed: bool,
    },
    Deletion {
        email: String,
        deletes_at: OffsetDateTime,
    },
    TwoFactorReset {
        email: String,
        /// None: when another administrator agrees.
        due_at: Option<OffsetDateTime>,
    },
    Session {
        email: String,
        device: String,
        ip: Option<IpAddr>,
        at: OffsetDateTime,
    },
}

/// What was taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reverted {
    /// The account is back at this address.
    EmailChange {
        email: String,
    },
    Deletion,
    /// Two-factor stays as it is.
    TwoFactorReset,
    /// `false`: the session had ended before.
    Session {
        ended_now: bool,
    },
}

/// Why nothing was taken back.
#[derive(Debug, thiserror::Error)]
pub enum RevertError {
    #[error("the link does not work")]
    NotLive(RevertState),
    /// The account has two-factor, and nothing was entered.
    #[error("a second factor is needed")]
    FactorNeeded,
    #[error(transparent)]
    Factor(SecondFactorError),
    #[error(transparent)]
    Unavailable(#[from] Error),
}

from_sqlx!(RevertError);

impl SelfService<'_> {
    /// Looks at a link. It changes nothing: mail programs open links to scan them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn peek_revert(self, token: &RevertToken) -> Result<RevertState, Error> {
        let now = self.0.now();
        let Some(link) = revert_link::store::by_token(&self.0.pool, &token.hash()).await? else {
            return Ok(RevertState::Unknown);
        };
        if let Some(dead) = link.life.dead(now) {
            return Ok(RevertState::Dead(dead, link.undoes));
        }
        let mut connection = self.0.pool.acquire().await?;
        let Some(account) = account::store::by_id(&mut connection, link.user, now).await? else {
            return Ok(RevertState::Unknown);
        };
        let view = match link.undoes {
            Revert::EmailChange => {
                let factor_needed = factor_needed(&mut connection, &link).await?;
                RevertView::EmailChange { old: link.email.as_str().to_owned(), now: account.email, factor_needed }
            }
            Revert::Deletion => RevertView::Deletion { email: account.email, deletes_at: link.created_at + DELETION_WAIT },
            Revert::TwoFactorReset => match pending_reset::of(&mut connection, account.id, now).await? {
                Some(reset) => RevertView::TwoFactorReset { email: account.email, due_at: reset.due_at },
                None => return Ok(RevertState::Dead(Dead::Cancelled, link.undoes)),
            },
            Revert::Session(session) => match sessions::store::sign_in_of(&self.0.pool, session).await? {
                Some(sign_in) => RevertView::Session {
                    email: link.email.as_str().to_owned(),
                    device: sign_in.device,
                    ip: sign_in.ip,
                    at: sign_in.at,
                },
                None => return Ok(RevertState::Unknown),
            },
        };
        Ok(RevertState::Live(view))
    }

    /// Takes back what the link is for. It signs nobody in.
    ///
    /// # Errors
    /// [`RevertError`]. The link works on, unless it is dead.
    pub async fn revert(
        self,
        token: &RevertToken,
        factor: Option<Factor<'_>>,
        browser: BrowserProof<'_>,
        from: &Requester,
    ) -> Result<Reverted, RevertError> {
        let now = self.0.now();
        let link =
            revert_link::store::by_token(&self.0.pool, &token.hash()).await?.ok_or(RevertError::NotLive(RevertState::Unknown))?;
        let not_live = |dead| RevertError::NotLive(RevertState::Dead(dead, link.undoes));
        if let Some(dead) = link.life.dead(now) {
            return Err(not_live(dead));
        }
        let giving = SecondFactorContext { user: link.user, purpose: Purpose::Undo, browser, from, now };
        // Only where it is asked for: whoever holds a link of another kind must not use up what is counted of the owner's tries.
        let right = match factor {
            Some(factor) if link.undoes == Revert::EmailChange => {
                Some(self.0.sign_in().verify(factor, giving).await.map_err(RevertError::Factor)?)
            }
            _ => None,
        };
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        if let Some(right) = &right
            && !self.0.sign_in().consume(&mut work, right, giving).await?
        {
            drop(work);
            return Err(RevertError::Factor(self.0.sign_in().refuse(right, giving).await.map_err(RevertError::Factor)?));
        }
        if !revert_link::store::consume(work.connection(), &link, now).await? {
            drop(work);
            // It died between the look and the statement: say of what.
            return Err(RevertError::NotLive(self.peek_revert(token).await?));
        }
        let account = account::store::by_id(work.connection(), link.user, now).await?;
        let account = account.ok_or(RevertError::NotLive(RevertState::Unknown))?;
        let undone = match link.undoes {
            Revert::EmailChange => {
                if right.is_none() && factor_needed(work.connection(), &link).await? {
                    return Err(RevertError::FactorNeeded);
                }
                if !undo_email_change(&mut work, &account, &link, from, now).await? {
                    return Err(not_live(Dead::Cancelled));
                }
                Reverted::EmailChange { email: link.email.as_str().to_owned() }
            }
            Revert::Deletion => {
                if !deletion::cancel(&mut work, account.id, Some(from), now).await? {
                    return Err(not_live(Dead::Cancelled));
                }
                Reverted::Deletion
            }
            Revert::TwoFactorReset => {
                if !pending_reset::stop(&mut work, account.id, None, now).await? {
                    return Err(not_live(Dead::Cancelled));
                }
                outbox::store::enqueue_notice(work.connection(), account.id, Notice::TwoFactorResetStopped, Some(from), now)
                    .await?;
                Reverted::TwoFactorReset
            }
            Revert::Session(session) => {
                let ended_now = undo_sign_in(&mut work, account.id, session, link.created_at, now).await?;
                Reverted::Session { ended_now }
            }
        };
        work.commit_and_mail(self.0).await?;
        Ok(undone)
    }
}

/// Whether a change of address is taken back only with a second factor. An app that was set up after the change may be that of whoever
/// made it, and so may one set up shortly before: the thief's first act, so that the owner could not take back the second. It keeps
/// nobody from taking it back unless the mail about it has been there for as long as the one about the change works. Two-factor stays as
/// it is, whoever has the address: without the app's codes nobody signs in.
async fn factor_needed(connection: &mut PgConnection, link: &RevertLink) -> sqlx::Result<bool> {
    totp::store::enrolled_before(connection, link.user, link.created_at - revert_link::EMAIL_CHANGE_UNDO).await
}

/// The account goes back to the address it had when the link was made, wherever it is now, and whoever is signed in to it is not any
/// more. `false` where the address belongs to another account.
///
/// The sign-up policy is not asked, also where it no longer takes the old address. The account had it, as it has it still that never moved:
/// the policy decides who comes, and nobody is put out by a change of it. And whoever took the account over must not keep it because of one.
async fn undo_email_change(
    work: &mut UnitOfWork<'_>,
    account: &Account,
    link: &RevertLink,
    from: &Requester,
    now: OffsetDateTime,
) -> sqlx::Result<bool> {
    let user = account.id;
    // Links before sessions before the account, as signing in takes them: the other way round the two could wait for each other.
    magic_link::store::close_both(work.connection(), &account.email_key, link.email.key(), now).await?;
    let reason = RevokeReason::EmailChanged;
    sessions::end_all(work, user, None, reason, now).await?;
    trusted_device::revoke_all(work, user, now).await?;
    known_browser::store::forget_all(work.connection(), &[user]).await?;
    revert_link::store::close_later(work.connection(), user, link.created_at, now).await?;
    revert_link::store::close_sign_ins(work.connection(), user, &account.email_key, now).await?;
    if !account::store::set_email(work.connection(), user, link.email.as_str(), link.email.key()).await? {
        return Ok(false);
    }
    // Once more, as where the account moved: what a second step under way has made could not be seen above.
    sessions::end_all(work, user, None, reason, now).await?;
    trusted_device::revoke_all(work, user, now).await?;
    known_browser::store::forget_all(work.connection(), &[user]).await?;
    revert_link::store::close_sign_ins(work.connection(), user, &account.email_key, now).await?;
    work.record(Event::EmailChangeUndone { user, undo: link.id });
    // Whoever moved the account may have asked for its deletion too, and the mail about that went to them.
    deletion::cancel(work, user, Some(from), now).await?;
    outbox::store::enqueue_notice(work.connection(), user, Notice::EmailChangeUndone, Some(from), now).await?;
    Ok(true)
}

/// Ends the session and those since, and what the sign-in left behind besides: trust, and that the account knows the browser. The
/// next sign-in from there is told of again. `false` where they had ended before.
async fn undo_sign_in(
    work: &mut UnitOfWork<'_>,
    user: Uuid,
    session: Uuid,
    since: OffsetDateTime,
    now: OffsetDateTime,
) -> sqlx::Result<bool> {
    let mut ended = sessions::store::undo(work.connection(), user, session, since, now).await?;
    // Twice, as where all of them end.
    ended.extend(sessions::store::undo(work.connection(), user, session, since, now).await?);
    for ended in &ended {
        work.record(ended.event(RevokeReason::Undone));
    }
    trusted_device::revoke_all(work, user, now).await?;
    known_browser::store::forget_since(work.connection(), user, since).await?;
    Ok(!ended.is_empty())
}
