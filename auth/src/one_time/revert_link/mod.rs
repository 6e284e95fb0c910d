//! Links in mails that take something back. What taking back does lies in `self_service`.

pub(crate) mod store;

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    crypto::{Keys, Seed, new_id},
    event::UnitOfWork,
    one_time::Life,
    policy::{DELETION_WAIT, MAX_RESET_WAIT},
    primitives::email_address::EmailAddress,
    users::account::store::Account,
};

/// How long a change of address can be taken back.
pub const EMAIL_CHANGE_UNDO: Duration = Duration::from_hours(72);
/// How long the mail about a new sign-in can end it: a mail is read within days or not at all.
pub const SESSION_UNDO: Duration = Duration::from_hours(7 * 24);

/// What a link takes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revert {
    /// The account goes back to the address it has when the link is made.
    EmailChange,
    Deletion,
    /// An administrator's reset of two-factor that waits.
    TwoFactorReset,
    /// The session that somebody signed in to.
    Session(Uuid),
}

impl Revert {
    fn as_str(self) -> &'static str {
        match self {
            Self::EmailChange => "email_change",
            Self::Deletion => "deletion",
            Self::TwoFactorReset => "two_factor_reset",
            Self::Session(_) => "session",
        }
    }

    pub(crate) fn lifetime(self) -> Duration {
        match self {
            Self::EmailChange => EMAIL_CHANGE_UNDO,
            Self::Deletion => DELETION_WAIT,
            Self::TwoFactorReset => MAX_RESET_WAIT,
            Self::Session(_) => SESSION_UNDO,
        }
    }

    fn parse(kind: &str, session: Option<Uuid>) -> Option<Self> {
        match (kind, session) {
            ("email_change", None) => Some(Self::EmailChange),
            ("deletion", None) => Some(Self::Deletion),
            ("two_factor_reset", None) => Some(Self::TwoFactorReset),
            ("session", Some(session)) => Some(Self::Session(session)),
            _ => None,
        }
    }
}

/// A row as it stands.
pub(crate) struct RevertLink {
    pub id: Uuid,
    pub user: Uuid,
    pub undoes: Revert,
    /// Where its mail goes. For a change of address: where the account goes back to.
    pub email: EmailAddress,
    pub seed: Seed,
    pub created_at: OffsetDateTime,
    pub life: Life,
}

/// Makes a link for the mail that is queued with it, to the account's address as it is now.
pub(crate) async fn create(
    keys: &Keys,
    work: &mut UnitOfWork<'_>,
    account: &Account,
    undoes: Revert,
    now: OffsetDateTime,
) -> sqlx::Result<Uuid> {
    let seed = keys.seed();
    let token = keys.undo_token(&seed).expect("the current key is there");
    let id = new_id(now);
    store::insert(work.connection(), id, account, undoes, &seed, &token.hash(), now).await?;
    Ok(id)
}
