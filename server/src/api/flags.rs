//! `/api/v1/flags`: who has a feature.

use auth::{
    flag::{self, Change, PASSWORDLESS_AUTH},
    identity::{ActionError, Scope},
    primitives::email_address::EmailAddress,
};
use axum::{
    Json,
    extract::{FromRequestParts, Path},
};
use http::request::Parts;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::{
    Api,
    bearer::Caller,
    extract::{JsonBody, reason},
};
use crate::http::problem::Problem;

pub(super) fn routes(api: Api) -> Api {
    api.with(Scope::Flags, routes!(show_flag, set_flag))
}

/// The `{key}` of a path. What is no key names nothing.
struct Key(String);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(key) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| Problem::not_found())?;
        if flag::is_key(&key) { Ok(Self(key)) } else { Err(Problem::not_found()) }
    }
}

/// A flag. It is on for an account that fits any of the three.
#[derive(Serialize, ToSchema)]
struct Flag {
    key: String,
    /// Addresses that are in by name, as they are compared.
    allowed: Vec<String>,
    #[schema(minimum = 0, maximum = 100)]
    percent_admins: u8,
    #[schema(minimum = 0, maximum = 100)]
    percent_everyone: u8,
}

impl Flag {
    fn of(key: String, flag: flag::Flag) -> Self {
        Self { key, allowed: flag.allowed, percent_admins: flag.percent_admins, percent_everyone: flag.percent_everyone }
    }
}

/// A flag, as it is now
#[utoipa::path(
    get, path = "/api/v1/flags/{key}", tag = "flags",
    params(("key" = String, Path, max_length = 64, pattern = "^[a-z][a-z0-9_]*$")),
    responses((status = 200, description = "The flag.", body = Flag)),
)]
async fn show_flag(caller: Caller, Key(key): Key) -> Result<Json<Flag>, Problem> {
    caller.auth().flag().read().await?;
    let has_row = caller.auth().flag().rows().await?.iter().any(|row| row.key == key);
    if !has_row && key != PASSWORDLESS_AUTH {
        return Err(Problem::not_found());
    }
    let flag = caller.auth().flag().get(&key);
    Ok(Json(Flag::of(key, flag)))
}

/// As many of the longest addresses as a body may hold. `latchkey flag allow` adds more, one at a time.
const MOST_ALLOWED: usize = 200;

/// A whole number from 0 to 100. JSON knows one kind of number: 85.0 is 85.
fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    let number = f64::deserialize(deserializer)?;
    let whole = (0..=100_u8).find(|whole| f64::from(*whole).total_cmp(&number.abs()).is_eq());
    whole
        .filter(|whole| number >= 0.0 || *whole == 0)
        .ok_or_else(|| D::Error::custom("a percentage is a whole number from 0 to 100"))
}

/// An email address.
#[derive(Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, format = "email", max_length = 254)]
struct Address(String);

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SetFlag {
    #[schema(max_items = 200)]
    allowed: Vec<Address>,
    #[serde(deserialize_with = "percent")]
    #[schema(minimum = 0, maximum = 100)]
    percent_admins: u8,
    #[serde(deserialize_with = "percent")]
    #[schema(minimum = 0, maximum = 100)]
    percent_everyone: u8,
    /// One line, for the audit log.
    #[schema(
        min_length = 1,
        max_length = 500,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$"
    )]
    reason: String,
}

/// Sets a flag to exactly this, and creates it if there is none. Every server follows within five seconds. A guarded rollout of it pauses
#[utoipa::path(
    put, path = "/api/v1/flags/{key}", tag = "flags",
    params(("key" = String, Path, max_length = 64, pattern = "^[a-z][a-z0-9_]*$")), request_body = SetFlag,
    responses((status = 200, description = "It is so.", body = Flag)),
)]
async fn set_flag(caller: Caller, Key(key): Key, JsonBody(body): JsonBody<SetFlag>) -> Result<Json<Flag>, Problem> {
    if body.allowed.len() > MOST_ALLOWED {
        return Err(Problem::invalid(format!("allowed names at most {MOST_ALLOWED} addresses here.")));
    }
    let allowed: Result<Vec<String>, _> =
        body.allowed.iter().map(|Address(email)| EmailAddress::lookup(email).map(|email| email.key().to_owned())).collect();
    let allowed = allowed.map_err(|_| Problem::invalid("allowed holds what is no email address."))?;
    let wanted = flag::Flag { allowed, percent_admins: body.percent_admins, percent_everyone: body.percent_everyone };
    match caller.auth().rollout().set_flag(caller.who(), &key, &Change::Set(wanted), &reason(&body.reason)?).await {
        Ok(flag) => Ok(Json(Flag::of(key, flag))),
        Err(ActionError::Nothing) => Ok(Json(Flag::of(key.clone(), caller.auth().flag().get(&key)))),
        Err(error) => Err(error.into()),
    }
}
