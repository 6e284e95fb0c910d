use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
};

use auth::{
    Auth,
    crypto::{BrowserNonce, Code, Keys, KnownBrowserCookie, LinkToken, SessionKey, TrustedDeviceToken, random},
    delivery::{Content, MailSender, OutgoingMail, SendError},
    identity::Authority,
    policy::{Policy, SignUp},
    primitives::{email_address::EmailAddress, reason::Reason, requester::Requester},
    sign_in::first_factor::{BrowserProof, Outcome, SessionChange},
};
use sqlx::PgPool;

use crate::{Database, ManualClock};

/// The domain on a real database, with a clock to move and a letter box to look into.
pub struct Kit {
    pub auth: Arc<Auth>,
    pub clock: ManualClock,
    pub database: Database,
    pub pool: PgPool,
    pub outbox: Outbox,
}

pub const TEST_KEY: [u8; 32] = [42; 32];

impl Kit {
    /// Sign-up open, the feature on, everything else as it ships.
    pub async fn new() -> Self {
        Self::with(Policy { passwordless_auth: true, sign_up: SignUp::Open, ..Policy::default() }).await
    }

    pub async fn with(policy: Policy) -> Self {
        let database = Database::new().await;
        let pool = database.pool().await;
        let clock = ManualClock::default();
        let auth = Arc::new(Auth::new(pool.clone(), Arc::new(clock.clone()), Keys::new(&TEST_KEY, &[]), policy));
        auth.flag().read().await.expect("the database answers");
        Self { auth, clock, database, pool, outbox: Outbox::default() }
    }

    /// Another server on the same database and clock, with a pool of its own.
    pub async fn second(&self) -> Arc<Auth> {
        let policy = self.auth.policy().clone();
        let pool = self.database.pool().await;
        let auth = Arc::new(Auth::new(pool, Arc::new(self.clock.clone()), Keys::new(&TEST_KEY, &[]), policy));
        auth.flag().read().await.expect("the database answers");
        auth
    }

    /// Sends what is queued, and returns the letters sent since the last look, as they were asked for: the newest last.
    pub async fn letters(&self) -> Vec<OutgoingMail> {
        let mut letters = self.letters_as_sent().await;
        letters.sort_by_key(|letter| (letter.queued_at, letter.id));
        letters
    }

    /// The same, as they went out.
    pub async fn letters_as_sent(&self) -> Vec<OutgoingMail> {
        self.auth.delivery().drain(&self.outbox).await.expect("the queue can be drained");
        self.outbox.take()
    }

    /// Sends what is queued, and returns the link and code of the newest sign-in mail.
    pub async fn sign_in_mail(&self) -> (LinkToken, Code) {
        let newest = self.letters().await.into_iter().rev().find_map(|letter| match letter.content {
            Content::SignIn { token, code, .. } => Some((token, code)),
            _ => None,
        });
        newest.expect("a sign-in mail")
    }

    pub async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.expect("the count can be read")
    }
}

/// A browser as the domain sees it.
pub struct Visitor {
    pub nonce: BrowserNonce,
    pub known: Option<KnownBrowserCookie>,
    pub trusted: Option<TrustedDeviceToken>,
    /// The session it holds.
    pub session: Option<SessionKey>,
    pub from: Requester,
}

impl Visitor {
    #[must_use]
    pub fn at(ip: impl Into<IpAddr>) -> Self {
        Self {
            nonce: BrowserNonce::new(),
            known: None,
            trusted: None,
            session: None,
            from: Requester::new(ip.into(), "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "test"),
        }
    }

    #[must_use]
    pub fn proof(&self) -> BrowserProof<'_> {
        BrowserProof { nonce: Some(&self.nonce), known: self.known.as_ref(), trusted: self.trusted.as_ref() }
    }

    /// Who its session speaks for.
    pub async fn authority(&self, auth: &Auth) -> Option<Authority> {
        auth.sessions().load(self.session?).await.expect("the database answers")?.authority
    }

    /// Gives the first factor, a code by mail. Waits until no limit on mails is in the way.
    ///
    /// # Panics
    /// Where any step of it is refused.
    pub async fn give_first_factor(&mut self, kit: &Kit, email: &EmailAddress) -> Outcome {
        kit.clock.advance(time::Duration::minutes(6));
        kit.auth.sign_in().request_link(email, &self.nonce, self.proof(), &self.from).await.expect("the request is taken");
        let (_, code) = kit.sign_in_mail().await;
        let handover = SessionChange { old: self.session, ..handover() };
        let outcome = kit.auth.sign_in().enter_code(&code, self.proof(), &handover, &self.from).await.expect("the code is right");
        self.session = Some(handover.fresh);
        if let Outcome::Complete { known_browser } = &outcome {
            self.known = Some(known_browser.clone());
        }
        outcome
    }
}

/// # Panics
/// Where the text is no address.
#[must_use]
pub fn address(text: &str) -> EmailAddress {
    EmailAddress::parse(text).expect("a test's address is well-formed")
}

/// # Panics
/// Where the text is no reason.
#[must_use]
pub fn why(text: &str) -> Reason {
    text.parse().expect("a test's reason is one line")
}

/// A session id nobody has used, for a sign-in in a browser without a session.
#[must_use]
pub fn handover() -> SessionChange {
    SessionChange { fresh: SessionKey::of(random()), data: serde_json::json!({}), old: None }
}

/// Keeps letters instead of sending them; refuses as told.
#[derive(Default)]
pub struct Outbox {
    letters: Mutex<Vec<OutgoingMail>>,
    refusals: Mutex<Vec<SendError>>,
}

impl Outbox {
    /// The next tries fail in this way, one each.
    pub fn refuse(&self, errors: impl IntoIterator<Item = SendError>) {
        self.refusals.lock().expect("no test panics while it holds the lock").extend(errors);
    }

    /// Refuses nothing any more.
    pub fn heal(&self) {
        self.refusals.lock().expect("no test panics while it holds the lock").clear();
    }

    fn take(&self) -> Vec<OutgoingMail> {
        std::mem::take(&mut *self.letters.lock().expect("no test panics while it holds the lock"))
    }
}

impl MailSender for Outbox {
    async fn send(&self, letter: OutgoingMail) -> Result<(), SendError> {
        if let Some(error) = self.refusals.lock().expect("no test panics while it holds the lock").pop() {
            return Err(error);
        }
        self.letters.lock().expect("no test panics while it holds the lock").push(letter);
        Ok(())
    }
}
