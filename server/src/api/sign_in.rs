//! `/api/v1/magic-links` and `/api/v1/two-factor`: an application signs its users in. `docs/api-sign-in.md` describes the steps.
#![expect(unused_qualifications, reason = "utoipa's attributes write the paths out")]

use std::net::IpAddr;

use auth::{
    crypto::{Challenge, Code, LinkToken, RequestSecret, SessionToken},
    factors::backup_code::BackupCode,
    identity::{Scope, SecondFactor},
    limits::throttle::Limited,
    one_time::{Dead, magic_link::LinkState},
    primitives::{email_address::EmailAddress, requester::Client},
    sessions::ApiSession,
    sign_in::{
        first_factor::{ConfirmLinkError, EnterCodeError},
        for_applications::{IdempotencyKey, LinkRequest, RequestError, Verified},
        second_factor::{Factor, SecondFactorError},
    },
};
use axum::Json;
use http::{HeaderMap, HeaderName, StatusCode};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{
    ToSchema,
    openapi::{
        ObjectBuilder, OneOfBuilder, Schema,
        schema::{SchemaFormat, Type},
    },
};
use utoipa_axum::routes;
use uuid::Uuid;

use super::{Api, ApiState, bearer::Caller, extract::JsonBody, session::SessionUser};
use crate::http::{
    line::{Line, line},
    problem::Problem,
};

/// draft-ietf-httpapi-idempotency-key-header-07.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

pub(super) fn routes(api: Api) -> Api {
    api.with(Scope::SignIn, routes!(ask_for_link))
        .with(Scope::SignIn, routes!(verify_link))
        .with(Scope::SignIn, routes!(verify_second_factor))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AskForLink {
    #[schema(format = "email", max_length = 254)]
    email: String,
    /// Where the mail's link leads, with `token` added to its query: a page of `REDIRECT_URLS`, to the letter. Without it the mail has
    /// the code only.
    redirect_url: Option<String>,
    client: Option<ClientNamed>,
}

/// The person's own client, as far as the application knows it: limits count it, and the mail names it. Without it limits count the key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ClientNamed {
    #[schema(schema_with = an_ip)]
    ip: IpAddr,
    user_agent: String,
}

fn an_ip() -> Schema {
    let text = |format: &str| ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::Custom(format.to_owned())));
    OneOfBuilder::new().item(text("ipv4")).item(text("ipv6")).build().into()
}

/// The same for every address: whether it has an account is between its owner and the mail.
#[derive(Serialize, ToSchema)]
struct LinkAsked {
    id: Uuid,
    /// Keep it on your server: without it neither link nor code work.
    request_secret: String,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    expires_at: OffsetDateTime,
}

/// Sends a mail with a code, and a link back to the application
#[utoipa::path(
    post, path = "/api/v1/magic-links", tag = "sign-in", request_body = AskForLink,
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255, pattern = "^[!-~]+$", description = "Sent again with it, the same request has the same answer for 24 hours, and nobody gets a second mail.")),
    responses(
        (status = 202, description = "If the address can sign in, a mail is on its way; if not, its owner is told so.", body = LinkAsked),
        (status = 403, description = "The key lacks the scope, signing in is off (`sign_in_off`), or `redirect_url` is not on the list (`redirect_not_allowed`)."),
        (status = 409, description = "The Idempotency-Key was sent with another body."),
    ),
)]
async fn ask_for_link(
    caller: Caller,
    headers: HeaderMap,
    JsonBody(body): JsonBody<AskForLink>,
) -> Result<(StatusCode, Json<LinkAsked>), Problem> {
    let email = EmailAddress::lookup(&body.email).map_err(|_| {
        auth::event::count_invalid_request();
        Problem::invalid("email is no address that mail can be sent to.")
    })?;
    let client = body.client.map(|client| Client { ip: client.ip, user_agent: client.user_agent });
    let key = idempotency_key(&headers)?;
    let request = LinkRequest {
        email: &email,
        redirect_url: body.redirect_url.as_deref(),
        client: client.as_ref(),
        idempotency_key: key.as_ref(),
    };
    let asked = caller.auth().sign_in().request_link_for(&caller.application(), &request, caller.from()).await.map_err(
        |error| match error {
            RequestError::Off => off(),
            RequestError::RedirectNotAllowed => {
                Problem::new(StatusCode::FORBIDDEN, "redirect_not_allowed", "redirect_url is not one of REDIRECT_URLS")
            }
            RequestError::KeyReused => {
                Problem::new(StatusCode::CONFLICT, "idempotency_key_reused", "This Idempotency-Key was sent with another request")
            }
            RequestError::Limited(limited) => limit(limited),
            RequestError::Unavailable(error) => error.into(),
        },
    )?;
    let answer = LinkAsked { id: asked.id, request_secret: asked.secret.reveal(), expires_at: asked.expires_at };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let key = match line(headers, IDEMPOTENCY_KEY) {
        Line::None => return Ok(None),
        Line::One(line) => line.to_str().ok().and_then(IdempotencyKey::parse),
        Line::Several => None,
    };
    key.map(Some).ok_or_else(|| Problem::invalid("Idempotency-Key must be one, of 1 to 255 visible ASCII characters."))
}

/// What the person brought back from the mail.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
enum VerifyLink {
    Token(VerifyToken),
    Code(VerifyCode),
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct VerifyToken {
    request_secret: String,
    /// As it came in the link's query.
    token: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct VerifyCode {
    request_secret: String,
    #[schema(pattern = "^[0-9]{3}[ -]?[0-9]{3}$", example = "482 931")]
    code: String,
}

/// A first factor was right.
#[derive(Serialize, ToSchema)]
#[serde(tag = "status", rename_all = "snake_case")]
enum VerifyAnswer {
    Complete(Complete),
    SecondFactorRequired {
        /// For `/api/v1/two-factor/verify`, within ten minutes.
        challenge: String,
        /// `totp`, `backup_code`
        #[schema(value_type = Vec<String>)]
        methods: Vec<SecondFactor>,
    },
}

/// Signed in.
#[derive(Serialize, ToSchema)]
struct Complete {
    /// Keep it on your server, and ask `/api/v1/session` by it whom it speaks for.
    session_token: String,
    /// At the latest; unused it ends sooner.
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    expires_at: OffsetDateTime,
    user: SessionUser,
}

impl Complete {
    fn new(token: &SessionToken, session: ApiSession) -> Self {
        Self { session_token: token.reveal(), expires_at: session.expires_at, user: session.into() }
    }
}

/// Checks a mail's code, or its link's token, for the key that asked for it
#[utoipa::path(
    post, path = "/api/v1/magic-links/verify", tag = "sign-in", request_body = VerifyLink,
    responses(
        (status = 200, description = "It was right, and is used up.", body = VerifyAnswer),
        (status = 403, description = "The key lacks the scope; signing in is off (`sign_in_off`); the code was wrong (`wrong_code`, with `tries_left`); too many codes were wrong, so that the address's owner must sign in with a link first (`codes_off`); the request was another's (`other_request`); or the account must set two-factor up first, at `enrol_url` (`enrolment_required`)."),
        (status = 404, description = "There is no such request, or no such link."),
        (status = 410, description = "`used`, `expired`, `replaced`, `cancelled`, or no tries left (`no_tries_left`)."),
    ),
)]
async fn verify_link(caller: Caller, JsonBody(body): JsonBody<VerifyLink>) -> Result<Json<VerifyAnswer>, Problem> {
    let (application, from) = (caller.application(), caller.from());
    let verified = match body {
        VerifyLink::Token(VerifyToken { request_secret, token }) => {
            let (secret, token) = (parsed(&request_secret, RequestSecret::parse)?, parsed(&token, LinkToken::parse)?);
            caller.auth().sign_in().verify_link(&application, &secret, &token, from).await.map_err(|error| match error {
                ConfirmLinkError::Off => off(),
                ConfirmLinkError::NotLive(link) => dead(&caller.state, &link),
                ConfirmLinkError::Limited(limited) => limit(limited),
                ConfirmLinkError::Unavailable(error) => error.into(),
            })?
        }
        VerifyLink::Code(VerifyCode { request_secret, code }) => {
            let secret = parsed(&request_secret, RequestSecret::parse)?;
            let code = Code::parse(&code).map_err(|error| Problem::invalid(error.to_string()))?;
            caller.auth().sign_in().verify_code(&application, &secret, &code, from).await.map_err(|error| match error {
                EnterCodeError::Off => off(),
                EnterCodeError::NothingAsked => Problem::not_found(),
                EnterCodeError::Wrong { left } => wrong(left),
                EnterCodeError::LastTry => Problem::new(StatusCode::GONE, "no_tries_left", "The code was wrong too often"),
                EnterCodeError::Dead(link) => dead(&caller.state, &link),
                EnterCodeError::CodesOff => Problem::new(
                    StatusCode::FORBIDDEN,
                    "codes_off",
                    "No code works for this address until its owner signs in with a link",
                ),
                EnterCodeError::Limited(limited) => limit(limited),
                EnterCodeError::Unavailable(error) => error.into(),
            })?
        }
    };
    Ok(Json(match verified {
        Verified::Complete { token, session } => VerifyAnswer::Complete(Complete::new(&token, session)),
        Verified::SecondFactorNeeded { challenge, methods } => {
            VerifyAnswer::SecondFactorRequired { challenge: challenge.reveal(), methods }
        }
    }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct VerifySecondFactor {
    challenge: String,
    /// Of an authenticator app, or a backup code.
    #[schema(pattern = "^([0-9]{6}|[a-z2-9]{4}-[a-z2-9]{4}-[a-z2-9]{4})$", example = "482931")]
    code: String,
}

/// Checks the second factor of a sign-in that has given the first
#[utoipa::path(
    post, path = "/api/v1/two-factor/verify", tag = "sign-in", request_body = VerifySecondFactor,
    responses(
        (status = 200, description = "It was right, and is used up.", body = VerifyAnswer),
        (status = 403, description = "The key lacks the scope; signing in is off (`sign_in_off`); the code was wrong (`wrong_code`, with `tries_left`), used before (`code_used`) or of another time (`wrong_clock`); or codes of this account's app are not taken any more (`app_off`): a backup code is."),
        (status = 404, description = "There is no such challenge (any more)."),
    ),
)]
async fn verify_second_factor(caller: Caller, JsonBody(body): JsonBody<VerifySecondFactor>) -> Result<Json<VerifyAnswer>, Problem> {
    let challenge = parsed(&body.challenge, Challenge::parse)?;
    let (app, backup) = (Code::parse(&body.code), BackupCode::parse(&body.code));
    let factor = match (&app, &backup) {
        (Ok(code), _) => Factor::App(code),
        (Err(_), Ok(code)) => Factor::BackupCode(code),
        (Err(_), Err(_)) => return Err(Problem::invalid("code is neither an app's six digits nor a backup code.")),
    };
    let verified = caller.auth().sign_in().verify_second_factor(&caller.application(), &challenge, factor, caller.from()).await;
    let (token, session) = verified.map_err(|error| match error {
        SecondFactorError::Off => off(),
        SecondFactorError::SessionOver | SecondFactorError::NotEnrolled => Problem::not_found(),
        SecondFactorError::Wrong { left } => wrong(left),
        SecondFactorError::Used => Problem::new(StatusCode::FORBIDDEN, "code_used", "The code was used before"),
        SecondFactorError::Clock { .. } => {
            Problem::new(StatusCode::FORBIDDEN, "wrong_clock", "The code is of another time: the app's clock is off")
        }
        SecondFactorError::AppOff | SecondFactorError::Unreadable => {
            Problem::new(StatusCode::FORBIDDEN, "app_off", "Codes of this account's app are not taken; a backup code is")
        }
        SecondFactorError::Limited(limited) => limit(limited),
        SecondFactorError::Unavailable(error) => error.into(),
    })?;
    Ok(Json(VerifyAnswer::Complete(Complete::new(&token, session))))
}

/// A text that isn't formed like this kind of secret can't be one.
fn parsed<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, Problem> {
    parse(text).ok_or_else(Problem::not_found)
}

fn off() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "sign_in_off", "Signing in by mail is off")
}

fn limit(limited: Limited) -> Problem {
    Problem::of(StatusCode::TOO_MANY_REQUESTS).with("limit", limited.limit.name()).after(limited.wait)
}

fn wrong(left: u32) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "wrong_code", "The code was wrong").with("tries_left", left)
}

fn dead(state: &ApiState, link: &LinkState) -> Problem {
    let gone = |name, title| Problem::new(StatusCode::GONE, name, title);
    match link {
        LinkState::Dead(Dead::Used, _) => gone("used", "It was used before"),
        LinkState::Dead(Dead::Expired, _) => gone("expired", "Its time is over"),
        LinkState::Dead(Dead::Replaced, _) => gone("replaced", "A newer request took its place"),
        LinkState::Live(_) | LinkState::Dead(Dead::Cancelled, _) => gone("cancelled", "It does not work any more"),
        LinkState::OtherBrowser(_) => Problem::new(StatusCode::FORBIDDEN, "other_request", "The link belongs to another request"),
        LinkState::EnrolmentRequired(_) => state.enrolment_required(),
        LinkState::Unknown => Problem::not_found(),
    }
}
