//! The worker: claims what is due, decides what each mail says, sends it, settles it. Any number of processes may run one.
//!
//! Not here: what waits (`outbox`), and the words (`app/src/mails`).
//! To add one: a mail is a variant of [`Content`] and how it is decided here.

use std::{sync::Arc, time::Duration};

use strum::{IntoStaticStr, VariantNames};
use time::OffsetDateTime;
use tokio::{sync::Semaphore, task::JoinSet};
use uuid::Uuid;

use crate::{
    Auth, Delivery,
    crypto::{self, Code, InviteToken, LinkToken, RevertToken, new_id},
    event::{Event, UnitOfWork},
    one_time::{
        invitation::{self, Invite},
        magic_link::store as links,
        mailed_code::{self, CodeFor},
        revert_link,
    },
    outbox::{By, Details, Kind, LANES, Notice, WAITS, pace, store},
    policy::SignUp,
    primitives::{email_address::EmailAddress, requester::device},
    reporting::gauges,
    users::{
        account::{self, store::Account},
        held_address,
    },
};

/// One mail, ready to be put into words and sent.
#[derive(Debug, Clone)]
pub struct OutgoingMail {
    /// Names the mail for good: sending twice under one id lets mail programs show it once.
    pub id: Uuid,
    pub to: EmailAddress,
    pub queued_at: OffsetDateTime,
    pub content: Content,
}

/// Who asked, on what, from where, when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub device: String,
    pub ip: String,
    pub at: OffsetDateTime,
}

/// Where a sign-in mail leads, if not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientApplication {
    /// Operators' words.
    pub name: String,
    /// Where the mail's link leads, with its token added. Without one the mail has a code and no link: ours would open in a browser
    /// that can't be signed in with it.
    pub redirect_url: Option<String>,
    /// It said who asks.
    pub client_named: bool,
}

#[derive(Debug, Clone, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Content {
    SignIn {
        token: LinkToken,
        code: Code,
        /// The code isn't taken: the mail leads to the link alone.
        codes_off: bool,
        asked: Asked,
        /// The application they sign in to; none where that is here.
        application: Option<ClientApplication>,
    },
    /// No account has this address, and none may be made.
    NoAccount { asked: Asked },
    /// An operator has turned the account off.
    AccountOff { asked: Asked },
    /// Signing in by mail is not for this address yet.
    NotYet { asked: Asked },
    /// `inviter`: a name or an address.
    Invite { token: InviteToken, inviter: Option<String> },
    /// A code for someone signed in who wants to change something.
    StepUp { code: Code, asked: Asked },
    /// A code that proves a new address, for someone signed in who wants to use it.
    EmailChange { code: Code, asked: Asked },
    /// Somebody wanted to use this address for their account, but it has one.
    EmailTaken,
    /// Something about the account has changed, or was used. `by`: in which browser; none where an operator did it.
    Notice {
        notice: Notice,
        at: OffsetDateTime,
        by: Option<By>,
        /// The token of a link that takes it back.
        undo: Option<RevertToken>,
    },
}

impl Content {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Notice { notice, .. } => notice.kind(),
            other => other.into(),
        }
    }
}

/// Why a mail was not sent. The text is for operators: it names no recipient.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Worth another try: a 4xx answer.
    #[error("{0}")]
    Temporary(String),
    /// Worth another try, and no recipient's fault: no mail server answered, or it wants something else of us.
    #[error("{0}")]
    Server(String),
    /// The mail server will not take it, ever.
    #[error("{0}")]
    Permanent(String),
}

/// Puts a letter into words and hands it to a mail server. It gives up by itself after half a minute, and says whose fault it was.
pub trait MailSender: Send + Sync + 'static {
    fn send(&self, letter: OutgoingMail) -> impl Future<Output = Result<(), SendError>> + Send;
}

/// How long a mail stays with a process that has died. Extended every third while its sending goes on.
const LEASE: Duration = Duration::from_secs(15);
/// Longer than a [`MailSender`] takes: for a database that stops answering while a mail is put together.
const SEND_TIMEOUT: Duration = Duration::from_secs(45);
/// Polling is the truth; being woken only makes it faster.
const POLL: Duration = Duration::from_secs(2);

/// With less than twice this left there is no other try.
const SHORTEST_LAST_WAIT: Duration = Duration::from_secs(10);

/// What administrators read of a mail that was withheld.
const WITHHELD: &str = "nothing was sent: no account has this address, and none may come to have it";

/// What became of one try.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Sent(&'static str),
    /// Not worth sending any more: its link is dead, or its time is over.
    Expired(&'static str),
    /// Nothing goes to this address, and the page must not tell. To its asker it counts as sent; nobody is warned, for anyone can ask.
    Withheld,
    Failed(String),
    Retry {
        error: String,
        /// It failed at the mail server, whoever it was for.
        server: bool,
    },
}

impl Fate {
    fn key_gone() -> Self {
        Self::Failed("the key it was made with is gone (WALLET_ENCRYPTION_KEY_PREVIOUS)".to_owned())
    }
}

/// What a mail says and to whom, or why it is not sent.
type Written = Result<(EmailAddress, Content), Fate>;

/// Sends mail until told to stop. Mails under way then are finished; what is left is for the next start or another process.
pub async fn run<M: MailSender>(auth: Arc<Auth>, mailer: Arc<M>, stop: impl Future<Output = ()>) {
    let worker = new_id(auth.now());
    let lanes = Arc::new(Semaphore::new(LANES));
    let mut running = JoinSet::new();
    let mut measured = None;
    tokio::pin!(stop);
    loop {
        gauges::heartbeat("mail", auth.now());
        if measured.is_none_or(|at: tokio::time::Instant| at.elapsed() >= pace::EVERY) {
            measured = Some(tokio::time::Instant::now());
            // Where it fails, claiming fails and says so.
            let _ = auth.delivery().measure().await;
        }
        let free = lanes.available_permits();
        let claimed = if free == 0 {
            Vec::new()
        } else {
            match store::claim(&auth.pool, worker, free, LEASE, auth.now()).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    tracing::warn!(error = %error, "mail.claim_failed");
                    Vec::new()
                }
            }
        };
        let full = claimed.len() == free;
        for mail in claimed {
            let permit = lanes.clone().acquire_owned().await.expect("the semaphore is never closed");
            let (auth, mailer) = (auth.clone(), mailer.clone());
            running.spawn(async move {
                auth.delivery().deliver_leased(&*mailer, &mail).await;
                drop(permit);
            });
        }
        // With lanes left and nothing claimed, there is nothing due: wait to be woken, or look again. With all of them
        // taken, look again as soon as one is free.
        tokio::select! {
            () = &mut stop => break,
            Some(_) = running.join_next(), if full => {}
            () = auth.outbox.notified(), if !full => {}
            () = tokio::time::sleep(POLL) => {}
        }
        while running.try_join_next().is_some() {}
    }
    while running.join_next().await.is_some() {}
}

impl Delivery<'_> {
    /// Measures how fast mail goes out, for those who ask for more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn measure(self) -> Result<(), crate::Error> {
        self.0.pace.set(store::pace(&self.0.pool, WITHHELD, self.0.now()).await?);
        Ok(())
    }

    /// Claims and sends everything due now, once, and returns how many. For tests, which move the clock between two calls.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn drain<M: MailSender>(self, mailer: &M) -> Result<usize, crate::Error> {
        let mut drained = 0;
        loop {
            let claimed = store::claim(&self.0.pool, Uuid::nil(), LANES, LEASE, self.0.now()).await?;
            if claimed.is_empty() {
                return Ok(drained);
            }
            for mail in claimed {
                let fate = self.deliver(mailer, &mail).await?;
                self.settle(&mail, &fate).await?;
                drained += 1;
            }
        }
    }

    async fn deliver_leased<M: MailSender>(self, mailer: &M, mail: &store::Claimed) {
        let work = async {
            let fate = match tokio::time::timeout(SEND_TIMEOUT, self.deliver(mailer, mail)).await {
                Ok(Ok(fate)) => fate,
                Ok(Err(error)) => Fate::Retry { error: format!("database: {error}"), server: false },
                Err(_) => Fate::Retry { error: "it took too long".to_owned(), server: false },
            };
            // A mail that was sent must not be sent again because the database was away for a while.
            while let Err(error) = self.settle(mail, &fate).await {
                tracing::warn!(error = %error, mail.id = %mail.id, "mail.settle_failed");
                tokio::time::sleep(POLL).await;
            }
        };
        let extend = async {
            loop {
                tokio::time::sleep(LEASE / 3).await;
                if let Err(error) = store::extend(&self.0.pool, mail, self.0.now() + LEASE).await {
                    tracing::warn!(error = %error, mail.id = %mail.id, "mail.extend_failed");
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = extend => {}
        }
    }

    async fn deliver<M: MailSender>(self, mailer: &M, mail: &store::Claimed) -> sqlx::Result<Fate> {
        if mail.deadline <= self.0.now() {
            return Ok(Fate::Expired("its time was over before it could be sent"));
        }
        let written = match (mail.kind, mail.subject) {
            (_, None) => Err(Fate::Failed("it belongs to nothing".to_owned())),
            (Kind::SignIn, Some(link)) => self.sign_in(link).await?,
            (Kind::Invite, Some(invite)) => self.invite(invite).await?,
            (Kind::StepUp, Some(code)) => self.code(CodeFor::StepUp, code).await?,
            (Kind::EmailChange, Some(change)) => self.code(CodeFor::AddressChange, change).await?,
            (Kind::Notice | Kind::Undoable, Some(subject)) => self.notice(mail, subject).await?,
        };
        let (to, content) = match written {
            Ok(written) => written,
            Err(fate) => return Ok(fate),
        };
        let kind = content.kind();
        let letter = OutgoingMail { id: mail.id, to, queued_at: mail.created_at, content };
        Ok(match mailer.send(letter).await {
            Ok(()) => Fate::Sent(kind),
            Err(SendError::Temporary(error)) => Fate::Retry { error, server: false },
            Err(SendError::Server(error)) => Fate::Retry { error, server: true },
            Err(SendError::Permanent(error)) => Fate::Failed(error),
        })
    }

    async fn notice(self, mail: &store::Claimed, subject: Uuid) -> sqlx::Result<Written> {
        let Some(Details { notice, by, to }) = mail.details.clone().and_then(|details| serde_json::from_value(details).ok()) else {
            return Ok(Err(Fate::Failed("what it says can't be read".to_owned())));
        };
        let (to, undo) = if mail.kind == Kind::Undoable {
            let link = revert_link::store::by_id(&self.0.pool, subject).await?;
            let Some(link) = link.filter(|link| link.life.dead(self.0.now()).is_none()) else {
                return Ok(Err(Fate::Expired("its link was dead before it could be sent")));
            };
            let Some(token) = self.0.keys.undo_token(&link.seed) else {
                return Ok(Err(Fate::key_gone()));
            };
            (Some(link.email), Some(token))
        } else {
            let mut connection = self.0.pool.acquire().await?;
            let Some(account) = account::store::by_id(&mut connection, subject, self.0.now()).await? else {
                return Ok(Err(Fate::Expired("its account was gone before it could be sent")));
            };
            (EmailAddress::stored(&to.unwrap_or(account.email)), None)
        };
        let content = Content::Notice { notice, at: mail.created_at, by, undo };
        Ok(to.map(|to| (to, content)).ok_or_else(|| Fate::Failed("its address can't be read".to_owned())))
    }

    async fn invite(self, invite: Uuid) -> sqlx::Result<Written> {
        let invite = invitation::store::by_id(&self.0.pool, invite).await?;
        let Some(Invite { email, seed, inviter, .. }) = invite.filter(|invite| invite.life.dead(self.0.now()).is_none()) else {
            return Ok(Err(Fate::Expired("its invitation was dead before it could be sent")));
        };
        if email.is_route() || self.0.policy.sign_up == SignUp::Closed {
            // From before routes were refused; or it only lets an account move there, and would let nobody in.
            return Ok(Err(Fate::Withheld));
        }
        let token = self.0.keys.invite_token(&seed).ok_or_else(Fate::key_gone);
        Ok(token.map(|token| (email, Content::Invite { token, inviter })))
    }

    /// A code for somebody signed in. Whose address is taken gets none, nor does one that the sign-up policy does not take: the page said
    /// the same to all.
    async fn code(self, of: CodeFor, code: Uuid) -> sqlx::Result<Written> {
        let now = self.0.now();
        let mailed = mailed_code::store::by_id(&self.0.pool, of, code).await?;
        let Some(mailed) = mailed.filter(|mailed| mailed.life.dead(now).is_none()) else {
            return Ok(Err(Fate::Expired("its code was dead before it could be sent")));
        };
        let mut to = mailed.email;
        if of == CodeFor::AddressChange {
            let mut connection = self.0.pool.acquire().await?;
            if let Some(account) = account::store::by_email(&mut connection, to.key(), now).await? {
                return Ok(own_spelling(&account).map(|to| (to, Content::EmailTaken)));
            }
            let invited = invitation::store::invited(&mut connection, to.key(), now).await?;
            if !self.0.policy.sign_up.admits_move(&to, invited.is_some()) {
                return Ok(Err(Fate::Withheld));
            }
            if held_address::is_held(&mut connection, to.key(), Some(mailed.user), now).await? {
                return Ok(Ok((to, Content::EmailTaken)));
            }
            to = invited.unwrap_or(to);
        }
        let asked = Asked { device: device(&mailed.user_agent), ip: mailed.ip.to_string(), at: mailed.created_at };
        let code = of.derive(&self.0.keys, &mailed.seed).ok_or_else(Fate::key_gone);
        let content = code.map(|code| match of {
            CodeFor::StepUp => Content::StepUp { code, asked },
            CodeFor::AddressChange => Content::EmailChange { code, asked },
        });
        Ok(content.map(|content| (to, content)))
    }

    /// What the owner of this address is told: a way in, or that there is none. The page said the same to all. It goes to the address as
    /// its account or its invitation spells it, whatever was typed: to a mail server that tells `A@` from `a@` those are two people.
    async fn sign_in(self, link: Uuid) -> sqlx::Result<Written> {
        let now = self.0.now();
        let link = links::by_id(&self.0.pool, link).await?;
        let Some(link) = link.filter(|link| link.life.dead(now).is_none()) else {
            return Ok(Err(Fate::Expired("its link was dead before it could be sent")));
        };
        let email = link.email;
        let asked = Asked { device: device(&link.user_agent), ip: link.ip.to_string(), at: link.created_at };
        let mut connection = self.0.pool.acquire().await?;
        let account = account::store::by_email(&mut connection, email.key(), now).await?;
        let admin = account.as_ref().is_some_and(|account| account.admin);
        let (email, admitted) = match account {
            Some(account) => {
                let own = match own_spelling(&account) {
                    Ok(own) => own,
                    Err(fate) => return Ok(Err(fate)),
                };
                if account.disabled {
                    return Ok(Ok((own, Content::AccountOff { asked })));
                }
                (own, true)
            }
            // Not even that there is no account: it would go to wherever a mail server reads in it.
            None if email.is_route() => return Ok(Err(Fate::Withheld)),
            None if held_address::is_held(&mut connection, email.key(), None, now).await? => (email, false),
            None => {
                let invited = invitation::store::invited(&mut connection, email.key(), now).await?;
                let admitted = self.0.policy.sign_up.admits(&email, invited.is_some());
                (invited.unwrap_or(email), admitted)
            }
        };
        if !admitted {
            return Ok(Ok((email, Content::NoAccount { asked })));
        }
        // Here and not on the page, which would tell who is an administrator, or that there is an account at all.
        if !self.0.flag().signs_in(email.key(), admin).await? {
            return Ok(Ok((email, Content::NotYet { asked })));
        }
        let secrets = self.0.keys.link_token(&link.seed).zip(self.0.keys.code(&link.seed)).ok_or_else(Fate::key_gone);
        let (redirect_url, client_named, codes_off) = (link.redirect_url, link.client_named, link.codes_off);
        let application =
            link.application.map(|application| ClientApplication { name: application.name, redirect_url, client_named });
        Ok(secrets.map(|(token, code)| (email, Content::SignIn { token, code, codes_off, asked, application })))
    }

    async fn settle(self, mail: &store::Claimed, fate: &Fate) -> sqlx::Result<()> {
        let now = self.0.now();
        let (state, error, event) = match fate {
            Fate::Retry { error, server } => match retry_at(mail, now) {
                Some(run_at) => {
                    tracing::warn!(mail.id = %mail.id, attempt = mail.attempt, error = error.as_str(), "mail.retry");
                    return store::retry(&self.0.pool, mail, run_at, error, *server).await;
                }
                None => ("expired", Some(error.as_str()), Event::MailFailed { mail: mail.id, state: "expired" }),
            },
            Fate::Sent(kind) => ("sent", None, Event::MailSent { mail: mail.id, kind, after: now - mail.created_at }),
            Fate::Withheld => {
                tracing::info!(mail.id = %mail.id, "mail.withheld");
                let mut connection = self.0.pool.acquire().await?;
                return store::settle(&mut connection, mail, "sent", Some(WITHHELD), now).await.map(drop);
            }
            Fate::Expired(why) => ("expired", Some(*why), Event::MailFailed { mail: mail.id, state: "expired" }),
            Fate::Failed(error) => ("failed", Some(error.as_str()), Event::MailFailed { mail: mail.id, state: "failed" }),
        };
        let mut work = UnitOfWork::begin(&self.0.pool, None, now).await?;
        let ours = store::settle(work.connection(), mail, state, error, now).await?;
        if ours {
            if let Some(error) = error {
                tracing::warn!(mail.id = %mail.id, state, error, "mail.given_up");
            }
            work.record(event);
        }
        work.commit().await?;
        if ours && state == "sent" {
            metrics::histogram!("mail_delivery_seconds").record((now - mail.created_at).as_seconds_f64().max(0.0));
        }
        Ok(())
    }
}

/// The account's address as it has it. Its owner proved that spelling, and no other.
fn own_spelling(account: &Account) -> Result<EmailAddress, Fate> {
    EmailAddress::stored(&account.email).ok_or_else(|| Fate::Failed("its address can't be read".to_owned()))
}

/// When to try again, with a fifth of jitter either way so that a server that comes back is not met by all at once.
/// `None` once its time is almost over.
fn retry_at(mail: &store::Claimed, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let tried = usize::try_from(mail.attempt).unwrap_or(1).max(1);
    let half = Duration::try_from(mail.deadline - now).ok()? / 2;
    let wait = WAITS[(tried - 1).min(WAITS.len() - 1)];
    let wait = if half < wait { Some(half).filter(|half| *half >= SHORTEST_LAST_WAIT)? } else { wait };
    let jitter = f64::from(crypto::random::<1>()[0]) / f64::from(u8::MAX) * 0.4 + 0.8;
    Some(now + wait.mul_f64(jitter))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn waits_grow_and_end_before_the_deadline() {
        let now = datetime!(2026-11-24 14:29 UTC);
        let mail = |attempt| store::Claimed {
            id: Uuid::nil(),
            kind: Kind::SignIn,
            subject: None,
            details: None,
            created_at: now,
            deadline: now + Duration::from_mins(10),
            attempt,
            class: 0,
            turn: 0,
        };
        for (attempt, least, most) in
            [(1, 1.6, 2.4), (2, 4.0, 6.0), (3, 12.0, 18.0), (4, 36.0, 54.0), (5, 96.0, 144.0), (60, 240.0, 360.0)]
        {
            let wait = (retry_at(&mail(attempt), now).expect("before the deadline") - now).as_seconds_f64();
            assert!((least - 0.001..=most + 0.001).contains(&wait), "try {attempt}: {wait} s");
        }
        let last = retry_at(&mail(9), now + Duration::from_mins(9)).expect("half a minute on");
        assert!(last < mail(9).deadline && last >= now + Duration::from_mins(9) + Duration::from_secs(24));
        assert_eq!(retry_at(&mail(9), now + Duration::from_secs(581)), None, "no time for another");
        assert_eq!(retry_at(&mail(9), now + Duration::from_mins(11)), None);
    }
}
