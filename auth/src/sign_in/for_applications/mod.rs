//! Another application offers this sign-in as its own.
//!
//! Not here: its key (`api_keys`), and the routes it asks (`server/src/api`).
//! To add one: an operation here that ends in `give_link`, `give_code` or `enter_second_factor`.
//!
//! It asks for the mail, hands in what its people type or bring back, and holds their sessions. It goes the browser's way (`sign_in`,
//! `second_factor`), with a secret of the application in the place of the browser's nonce. The application is trusted with what it was
//! told and nothing else: a request works for the API key that made it, a session for the application that holds it, and neither in a
//! browser.

mod store;

use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    Error, SignIn,
    api_keys::Presented,
    crypto::{Challenge, Code, LinkToken, RequestSecret, SessionToken, new_id, sha256},
    event::{self, RevokeReason, UnitOfWork},
    factors::backup_code,
    identity::{ApiKey, SecondFactor},
    limits::throttle::Limited,
    one_time::magic_link::store as links,
    primitives::{
        email_address::EmailAddress,
        requester::{Application, Client, Requester},
    },
    sessions::{self, ApiSession, TOUCH_EVERY},
    sign_in::{
        first_factor::{BrowserProof, ConfirmLinkError, EnterCodeError, FirstFactorContext, Outcome, Request, SessionChange},
        second_factor::{Factor, PendingSignIn, SecondFactorError},
    },
};

/// An application has no cookie of ours to show.
const NO_BROWSER: BrowserProof<'static> = BrowserProof { nonce: None, known: None, trusted: None };

/// What names a request for good, in the application's own words: 1 to 255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(text.to_owned()))
    }
}

/// What an application asks for.
pub struct LinkRequest<'a> {
    pub email: &'a EmailAddress,
    /// Where the mail's link leads: one of the policy's, to the letter.
    pub redirect_url: Option<&'a str>,
    /// For whom.
    pub client: Option<&'a Client>,
    /// Asked again under it within a day, the request gets its first answer, and nobody a second mail.
    pub idempotency_key: Option<&'a IdempotencyKey>,
}

impl LinkRequest<'_> {
    /// Two requests are the same where this is. The parts are joined as JSON, so that none can pass for two.
    fn hash(&self) -> [u8; 32] {
        let client = self.client.map(|client| (client.ip, client.user_agent.as_str()));
        sha256(json!([self.email.as_str(), self.redirect_url, client]).to_string().as_bytes())
    }
}

/// A mail is on its way, or is not, as its owner alone will know.
#[derive(Debug, PartialEq, Eq)]
pub struct Requested {
    pub id: Uuid,
    pub secret: RequestSecret,
    /// Until when link and code work.
    pub expires_at: OffsetDateTime,
}

#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("signing in by mail is off")]
    Off,
    #[error("the redirect URL is not on the list")]
    RedirectNotAllowed,
    #[error("the idempotency key was used for another request")]
    KeyReused,
    #[error("a limit refused")]
    Limited(Limited),
    #[error(transparent)]
    Unavailable(#[from] Error),
}

/// A first factor was right.
#[derive(Debug)]
pub enum Verified {
    Complete { token: SessionToken, session: ApiSession },
    SecondFactorNeeded { challenge: Challenge, methods: Vec<SecondFactor> },
}

/// Why a token opens nothing.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Over, unknown, or another application's: these look the same.
    #[error("there is no such session")]
    Over,
    /// The account must set two-factor up first, in a browser.
    #[error("the account must set up two-factor")]
    EnrolmentRequired,
    #[error(transparent)]
    Unavailable(#[from] Error),
}

from_sqlx!(RequestError, SessionError);

impl SignIn<'_> {
    /// Asks for a sign-in mail, for an application. As [`SignIn::request_link`]: every address gets the same answer from the same
    /// statements. `from` is the application's own request, here and below.
    ///
    /// # Errors
    /// [`RequestError`]. Nothing was queued.
    pub async fn request_link_for(
        self,
        application: &Application,
        request: &LinkRequest<'_>,
        from: &Requester,
    ) -> Result<Requested, RequestError> {
        let from = &from.on_behalf(application, request.client);
        self.0.tally.count(from.network());
        let domain = || self.0.policy.metrics_email_domains.label(request.email);
        if self.0.flag().sign_in_is_off().await? {
            event::count_request("flag_off", domain());
            return Err(RequestError::Off);
        }
        if request.redirect_url.is_some_and(|url| !self.0.policy.redirect_urls.iter().any(|allowed| allowed == url)) {
            event::count_request("invalid", domain());
            return Err(RequestError::RedirectNotAllowed);
        }
        let now = self.0.now();
        let named = request.idempotency_key.map(|key| (named(application, key), request.hash()));
        if let Some((key_hash, body_hash)) = &named
            && let Some(made) = store::made(&self.0.pool, key_hash, now).await?
        {
            return self.made_before(&made, body_hash).await;
        }

        let (id, seed) = (new_id(now), self.0.keys.seed());
        let secret = self.0.keys.request_secret(&seed).expect("the current key is there");
        let binding = secret.binding(application.key);
        // Before the transaction: who holds one connection must not wait for another.
        let codes_off = self.codes_off_for(request.email, None).await?;
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        if let Some((key_hash, body_hash)) = &named
            && !store::claim(work.connection(), key_hash, body_hash, id, now).await?
        {
            // Its twin came first, and is done.
            drop(work);
            let made = store::made(&self.0.pool, key_hash, now).await?.ok_or(sqlx::Error::RowNotFound)?;
            return self.made_before(&made, body_hash).await;
        }
        // After the claim, so that a twin costs nothing, and within the transaction: who is refused has not used their key.
        let charges = self.strangers_charges(request.email, from, now);
        let taken = match self.backlog(now) {
            Some(limited) => Err(limited),
            None => self.0.limits().throttle().take_within(work.connection(), &charges, now).await?,
        };
        if let Err(limited) = taken {
            event::count_request("rate_limited", domain());
            return Err(RequestError::Limited(limited));
        }
        let asked = Request {
            email: request.email,
            seed,
            binding,
            from_known_browser: false,
            codes_off,
            redirect_url: request.redirect_url,
        };
        let expires_at = self.queue_link(&mut work, id, asked, from, now).await?;
        work.commit_and_mail(self.0).await?;
        Ok(Requested { id, secret, expires_at })
    }

    /// The first answer again, derived as it was the first time.
    async fn made_before(self, made: &store::Made, body_hash: &[u8; 32]) -> Result<Requested, RequestError> {
        if made.body_hash != body_hash {
            return Err(RequestError::KeyReused);
        }
        let link = links::by_id(&self.0.pool, made.link).await?.ok_or(sqlx::Error::RowNotFound)?;
        let secret = self.0.keys.request_secret(&link.seed).ok_or(sqlx::Error::RowNotFound)?;
        Ok(Requested { id: link.id, secret, expires_at: link.life.expires_at })
    }

    /// Redeems the link's token that somebody came back with, for the application that asked.
    ///
    /// # Errors
    /// [`ConfirmLinkError`].
    pub async fn verify_link(
        self,
        application: &Application,
        secret: &RequestSecret,
        token: &LinkToken,
        from: &Requester,
    ) -> Result<Verified, ConfirmLinkError> {
        let (binding, session) = (secret.binding(application.key), SessionToken::new());
        let from = &self.speaking_for(application, &binding, from).await?;
        let giver = FirstFactorContext { binding: Some(binding), browser: NO_BROWSER };
        let outcome = self.give_link(token, giver, &handover(&session), from).await?;
        Ok(self.verified(application, session, &outcome).await?)
    }

    /// Redeems the code that somebody typed, for the application that asked.
    ///
    /// # Errors
    /// [`EnterCodeError`]. A wrong code was counted before it was compared.
    pub async fn verify_code(
        self,
        application: &Application,
        secret: &RequestSecret,
        code: &Code,
        from: &Requester,
    ) -> Result<Verified, EnterCodeError> {
        let (binding, session) = (secret.binding(application.key), SessionToken::new());
        let from = &self.speaking_for(application, &binding, from).await?;
        let giver = FirstFactorContext { binding: Some(binding), browser: NO_BROWSER };
        let outcome = self.give_code(code, giver, &handover(&session), from).await?;
        Ok(self.verified(application, session, &outcome).await?)
    }

    /// Finishes a sign-in that has given one factor of two.
    ///
    /// # Errors
    /// [`SecondFactorError`].
    pub async fn verify_second_factor(
        self,
        application: &Application,
        challenge: &Challenge,
        factor: Factor<'_>,
        from: &Requester,
    ) -> Result<(SessionToken, ApiSession), SecondFactorError> {
        let half = sessions::store::api_half(&self.0.pool, challenge.key(), application.key, self.0.now()).await?;
        let half = half.ok_or(SecondFactorError::SessionOver)?;
        let from = &from.on_behalf(application, half.client.as_ref());
        let session = SessionToken::new();
        let finishing = PendingSignIn { half: challenge.key(), user: half.user, handover: &handover(&session) };
        self.enter_second_factor(finishing, factor, false, NO_BROWSER, from).await?;
        match self.api_session(application, &session).await {
            Ok(found) => Ok((session, found)),
            Err(SessionError::Unavailable(error)) => Err(error.into()),
            Err(SessionError::Over | SessionError::EnrolmentRequired) => Err(SecondFactorError::SessionOver),
        }
    }

    /// Whom a session speaks for, at this very moment.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn api_session(self, application: &Application, token: &SessionToken) -> Result<ApiSession, SessionError> {
        let now = self.0.now();
        let idle_since = now - self.0.policy.session_idle;
        let found = sessions::store::load_of_application(&self.0.pool, token.key(), application, now, idle_since).await?;
        self.use_api_session(found, token).await
    }

    /// The key that was presented, if it works, and the session that its application holds by this token, if it is live.
    /// [`SignIn::use_api_session`] says whom that speaks for.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn api_key_and_session(
        self,
        presented: &str,
        token: &SessionToken,
    ) -> Result<Option<(ApiKey, Option<ApiSession>)>, Error> {
        let Some(Presented { prefix, secret }) = Presented::parse(presented) else { return Ok(None) };
        let now = self.0.now();
        let idle_since = now - self.0.policy.session_idle;
        let found = store::key_and_session(&self.0.pool, &secret.hash(), token.key(), now, idle_since).await?;
        let Some((found, session)) = found else { return Ok(None) };
        Ok(self.0.api_keys().admit(found, prefix, now).await?.map(|key| (key, session)))
    }

    /// Whom a session that was found speaks for; asking is using it.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn use_api_session(self, found: Option<ApiSession>, token: &SessionToken) -> Result<ApiSession, SessionError> {
        let (now, found) = (self.0.now(), found.ok_or(SessionError::Over)?);
        if found.last_seen_at <= now - TOUCH_EVERY {
            sessions::store::touch(&self.0.pool, token.key(), now).await?;
        }
        if found.owes_two_factor(self.0.policy.require_two_factor) {
            return Err(SessionError::EnrolmentRequired);
        }
        Ok(found)
    }

    /// Ends a session, also one that has given one factor of two. `false`: there was none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn end_api_session(self, application: &Application, token: &SessionToken, from: &Requester) -> Result<bool, Error> {
        let (now, reason, from) = (self.0.now(), RevokeReason::SignedOut, &from.on_behalf(application, None));
        let mut work = UnitOfWork::begin(&self.0.pool, Some(from), now).await?;
        let ended = sessions::store::revoke_of_application(work.connection(), token.key(), application, reason, now).await?;
        if let Some(ended) = &ended {
            work.record(ended.event(reason));
        }
        work.commit().await?;
        Ok(ended.is_some())
    }

    /// Whoever the request was made for, as far as the application said.
    async fn speaking_for(self, application: &Application, binding: &[u8; 32], from: &Requester) -> sqlx::Result<Requester> {
        let link = links::newest_of_browser(&self.0.pool, binding).await?.filter(|link| link.client_named);
        let client = link.map(|link| Client { ip: link.ip, user_agent: link.user_agent });
        Ok(from.on_behalf(application, client.as_ref()))
    }

    /// What the application is told of a right first factor.
    async fn verified(self, application: &Application, token: SessionToken, outcome: &Outcome) -> Result<Verified, Error> {
        // Whoever ended it this very moment left nothing to tell of; asking again says why.
        let gone = || Error::from(sqlx::Error::RowNotFound);
        if matches!(outcome, Outcome::Complete { .. }) {
            return match self.api_session(application, &token).await {
                Ok(session) => Ok(Verified::Complete { token, session }),
                Err(SessionError::Unavailable(error)) => Err(error),
                Err(SessionError::Over | SessionError::EnrolmentRequired) => Err(gone()),
            };
        }
        let half = sessions::store::api_half(&self.0.pool, token.key(), application.key, self.0.now()).await?.ok_or_else(gone)?;
        let backup_codes = backup_code::store::standing(&self.0.pool, half.user).await?.left;
        let methods = [SecondFactor::Totp, SecondFactor::BackupCode];
        let methods = methods.into_iter().filter(|method| *method == SecondFactor::Totp || backup_codes > 0).collect();
        Ok(Verified::SecondFactorNeeded { challenge: token.into_challenge(), methods })
    }
}

/// What names a request: no two keys of different applications are one.
fn named(application: &Application, key: &IdempotencyKey) -> [u8; 32] {
    let mut bytes = application.key.as_bytes().to_vec();
    bytes.extend_from_slice(key.0.as_bytes());
    sha256(&bytes)
}

fn handover(token: &SessionToken) -> SessionChange {
    SessionChange { fresh: token.key(), data: json!({}), old: None }
}
