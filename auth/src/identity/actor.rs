//! Somebody who does something to what isn't theirs, and whether they may.

use serde::Serialize;
use strum::{IntoStaticStr, VariantArray};
use uuid::Uuid;

use super::{ApiKey, Authority, Scope};
use crate::{Auth, Error, primitives::requester::Requester};

/// Who made an account, or changed somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Origin {
    /// The person, by signing in for the first time.
    SignUp,
    /// An operator, from the shell.
    Operator,
    /// An administrator, on the pages; the audit row's `actor_id` says which.
    Admin,
    /// The guarded rollout.
    Rollout,
    /// A program; the audit row's `actor_id` is its API key's.
    ApiKey,
}

/// Who does something to somebody else's account.
#[derive(Clone, Copy)]
pub enum Actor<'a> {
    /// At the shell. Whoever gets that far needs no factor of ours.
    Operator,
    Admin {
        authority: &'a Authority,
        from: &'a Requester,
    },
    /// A program, over the API.
    Key {
        key: &'a ApiKey,
        from: &'a Requester,
    },
}

impl<'a> Actor<'a> {
    pub(crate) fn actor(self) -> Option<Uuid> {
        match self {
            Self::Operator => None,
            Self::Admin { authority, .. } => Some(authority.user),
            Self::Key { key, .. } => Some(key.id),
        }
    }

    pub(crate) fn from(self) -> Option<&'a Requester> {
        match self {
            Self::Operator => None,
            Self::Admin { from, .. } | Self::Key { from, .. } => Some(from),
        }
    }

    pub(crate) fn origin(self) -> Origin {
        match self {
            Self::Operator => Origin::Operator,
            Self::Admin { .. } => Origin::Admin,
            Self::Key { .. } => Origin::ApiKey,
        }
    }

    /// For what only people do, whatever scopes a key has: one that made keys, or administrators, would outlive its own end.
    pub(crate) fn permit(self, auth: &Auth) -> Result<(), ActionError> {
        match self {
            Self::Admin { authority, .. } if !authority.admin => Err(ActionError::NotAdmin),
            Self::Admin { authority, .. } if !authority.is_fresh(auth.now(), auth.policy.step_up_ttl) => Err(ActionError::NotFresh),
            Self::Key { .. } => Err(ActionError::NotAdmin),
            Self::Operator | Self::Admin { .. } => Ok(()),
        }
    }

    /// For what a program may do too, with this scope.
    pub(crate) fn permit_with(self, auth: &Auth, scope: Scope) -> Result<(), ActionError> {
        match self {
            Self::Key { key, .. } if key.allows(scope) => Ok(()),
            _ => self.permit(auth),
        }
    }
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// The administrator has to give their strongest factor first.
    #[error("the session has to step up first")]
    NotFresh,
    /// Or the key lacks the scope.
    #[error("the account is no administrator's")]
    NotAdmin,
    #[error("there is no such account")]
    NoSuchUser,
    /// Nobody would be left to look after accounts.
    #[error("this is the last administrator")]
    LastAdmin,
    /// Somebody who was made an administrator by another one less than a day ago.
    #[error("the account has been an administrator's for less than a day")]
    NewAdmin,
    /// It is so already.
    #[error("there is nothing to change")]
    Nothing,
    #[error(transparent)]
    Unavailable(#[from] Error),
}

from_sqlx!(ActionError);
