//! `latchkey smoke`: section 3 of the rollout checklist against any instance, over HTTP, as a person would. It knows pages and forms and
//! what `contract.md` promises, and nothing of what is behind them.
//!
//! To add a check: its name in [`CHECKS`], a function that returns what was there instead, its line in [`Run::all`].

mod authenticator;
mod browser;
mod mailbox;
mod options;
mod page;
mod report;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use http::Method;

pub use self::options::Options;
use self::{
    authenticator::App,
    browser::{Answer, Browser, Site},
    mailbox::{Mail, Mailbox, Want},
    options::MailSource,
    report::{Failure, Report},
};

/// In their order. Scripts and people hold on to these names.
const CHECKS: [&str; 20] = [
    HEALTH,
    READINESS,
    HEADERS,
    API,
    SIGN_IN_PAGE,
    REQUEST,
    MAIL,
    OPENED,
    CONFIRMED,
    ONCE,
    API_SESSION,
    TWO_FACTOR_ON,
    CODES_ONCE,
    SIGN_OUT,
    SECOND_STEP,
    WRONG_CODE,
    APP_CODE,
    BACKUP_CODE,
    BACKUP_CODE_ONCE,
    TWO_FACTOR_OFF,
];
const HEALTH: &str = "health";
const READINESS: &str = "readiness";
const HEADERS: &str = "security headers";
const API: &str = "the API asks for a key";
const API_KEY: &str = "the API key opens what its scope allows, and nothing else";
const SIGN_IN_PAGE: &str = "sign-in page";
const REQUEST: &str = "a link can be asked for";
const MAIL: &str = "the mail comes with a link and a code";
const OPENED: &str = "opening the link signs nobody in";
const CONFIRMED: &str = "confirming the link signs in";
const ONCE: &str = "the link works once";
const API_SESSION: &str = "a session opens no API";
const TWO_FACTOR_ON: &str = "two-factor can be turned on";
const CODES_ONCE: &str = "backup codes are shown once";
const SIGN_OUT: &str = "signing out ends the session";
const SECOND_STEP: &str = "signing in asks for the second factor";
const WRONG_CODE: &str = "a wrong code is refused";
const APP_CODE: &str = "an authenticator code signs in";
const BACKUP_CODE: &str = "a backup code signs in";
const BACKUP_CODE_ONCE: &str = "a backup code works once";
const TWO_FACTOR_OFF: &str = "two-factor is off again";

/// What keys open (contract §4). None of these requests would change anything where it got through.
const API_ROUTES: [(Method, &str); 11] = [
    (Method::GET, "/api/v1/users"),
    (Method::GET, "/api/v1/users/00000000-0000-7000-8000-000000000000"),
    (Method::POST, "/api/v1/users/00000000-0000-7000-8000-000000000000/revoke-sessions"),
    (Method::GET, "/api/v1/audit"),
    (Method::GET, "/api/v1/flags/passwordless_auth"),
    (Method::PUT, "/api/v1/flags/passwordless_auth"),
    (Method::GET, "/api/v1/session"),
    (Method::DELETE, "/api/v1/session"),
    (Method::POST, "/api/v1/magic-links"),
    (Method::POST, "/api/v1/magic-links/verify"),
    (Method::POST, "/api/v1/two-factor/verify"),
];

const SESSION_COOKIE: &str = "__Host-latchkey";
const KNOWN_COOKIE: &str = "__Host-latchkey-known";
/// A limit that lets go this soon is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

const LOGIN: &str = "/login";
const CONFIRM: &str = "/login/confirm";
const TOTP: &str = "/login/two-factor";
const BACKUP: &str = "/login/backup-code";
const SETUP: &str = "/account/two-factor/setup";
const CODES: &str = "/account/backup-codes";
const TURN_OFF: &str = "/account/two-factor/turn-off";

/// Whether every check passed. `say` writes a line of the answer.
pub async fn run(options: Options, say: fn(&str)) -> anyhow::Result<bool> {
    let site = Arc::new(Site::new(options.base_url)?);
    let origin = site.origin();
    let mailbox = match options.mail.mailbox {
        Some(MailSource::DevInbox) => Mailbox::dev_inbox(Browser::new(site.clone())),
        Some(MailSource::Listen(address)) => {
            Mailbox::listen(address).await.with_context(|| format!("no mail can be taken at {address}"))?
        }
        // `--paste`
        None => Mailbox::Paste,
    };
    let mut checks = CHECKS.to_vec();
    if options.api_key.is_some() {
        checks.insert(4, API_KEY);
    }
    let mut run = Run {
        site,
        email: options.email,
        mailbox,
        patience: options.mail_timeout,
        api_key: options.api_key,
        known: None,
        signed_in: None,
        app: None,
        codes: Vec::new(),
    };
    let mut report = Report::new(checks, options.json, say);
    run.all(&mut report).await;
    Ok(report.finish(&origin))
}

struct Run {
    site: Arc<Site>,
    email: String,
    mailbox: Mailbox,
    /// How long a mail may take.
    patience: Duration,
    api_key: Option<String>,
    /// The cookie of a browser that has signed in before, whose limits are its own.
    known: Option<String>,
    /// The newest browser that got in.
    signed_in: Option<Browser>,
    /// From the moment two-factor may be on, until it is off again.
    app: Option<App>,
    /// Backup codes that were not used.
    codes: Vec<String>,
}

impl Run {
    async fn all(&mut self, report: &mut Report) {
        self.public(report).await;
        // Each needs the one before; what is not reached is skipped.
        let _ = self.account(report).await;
        if self.app.is_some() {
            report.note(TWO_FACTOR_OFF, self.turn_off().await);
        }
    }

    /// What anybody sees.
    async fn public(&mut self, report: &mut Report) {
        let mut browser = Browser::new(self.site.clone());
        for (name, path) in [(HEALTH, "/healthz"), (READINESS, "/readyz")] {
            report.note(name, browser.get(path).await.and_then(|answer| answer.is(200)));
        }
        report.note(HEADERS, browser.get(LOGIN).await.and_then(|answer| has_headers(&answer, self.site.is_https())));
        report.note(API, api_is_closed(&mut browser).await);
        if let Some(key) = self.api_key.take() {
            report.note(API_KEY, key_is_scoped(&mut browser, &key).await);
        }
    }

    async fn account(&mut self, report: &mut Report) -> Option<()> {
        let mut browser = self.new_browser();
        let page = report.note(SIGN_IN_PAGE, self.sign_in_page(&mut browser).await)?;
        report.note(REQUEST, self.ask_for_mail(&mut browser, &page).await)?;
        let mail = report.note(MAIL, self.mail(Want::Both).await)?;
        let confirm = report.note(OPENED, self.open(&mut browser, &mail).await)?;
        let before = browser.clone();
        let confirmed = report.note(CONFIRMED, self.confirm(&mut browser, &confirm).await);
        // Also where it signed nobody in: it was pressed.
        report.note(ONCE, self.link_is_used(before, &confirm, &mail).await);
        confirmed?;
        report.note(API_SESSION, api_is_closed(&mut browser).await);

        let codes = self.turn_on(&mut browser).await;
        self.signed_in = Some(browser.clone());
        let revealed = report.note(TWO_FACTOR_ON, codes)?;
        report.note(CODES_ONCE, self.codes_are_gone(&mut browser, &revealed).await);
        report.note(SIGN_OUT, sign_out(&mut browser).await);

        let mut browser = report.note(SECOND_STEP, self.half_signed_in(Want::Link).await)?;
        let wrong = self.app.as_ref()?.wrong_code();
        report.note(WRONG_CODE, refused(&mut browser, TOTP, &wrong).await);
        let code = self.app.as_mut()?.code().await;
        if report.note(APP_CODE, self.second_factor(&mut browser, TOTP, &code).await).is_some() {
            // Told of in its own line above.
            let _ = sign_out(&mut browser).await;
        }

        let used = self.codes.pop()?;
        let mut browser = report.note(BACKUP_CODE, self.with_backup_code(&used).await)?;
        let _ = sign_out(&mut browser).await;
        report.note(BACKUP_CODE_ONCE, self.backup_code_is_used(&used).await)
    }

    /// A browser without a session, which the account knows where one has signed in.
    fn new_browser(&self) -> Browser {
        let mut browser = Browser::new(self.site.clone());
        browser.http.cookies.extend(self.known.clone().map(|known| (KNOWN_COOKIE.to_owned(), known)));
        browser
    }

    async fn sign_in_page(&self, browser: &mut Browser) -> Result<Answer, Failure> {
        let page = browser.get(LOGIN).await?;
        let asks = page.page.form(LOGIN).is_some_and(|form| form.has("email"));
        if page.status == 200 && asks { Ok(page) } else { Err(page.differs(format!("200 with a form to {LOGIN} for `email`"))) }
    }

    async fn ask_for_mail(&mut self, browser: &mut Browser, page: &Answer) -> Result<(), Failure> {
        self.mailbox.empty().await?;
        let email = self.email.clone();
        let entries = [("email", email.as_str())];
        let mut answer = browser.submit(page, LOGIN, &entries).await?;
        if let Some(wait) = answer.retry_after().filter(|wait| answer.status == 429 && *wait <= PATIENCE) {
            tokio::time::sleep(wait).await;
            answer = browser.submit(page, LOGIN, &entries).await?;
        }
        answer.leads("/login/sent")?;
        browser.follow(&answer).await?.is(200)
    }

    async fn mail(&mut self, want: Want) -> Result<Mail, Failure> {
        let mail = self.mailbox.next(&self.email, want, self.patience).await?;
        if want != Want::Code && self.site.local(&mail.link).is_none() {
            let expected = format!("a link that begins with {}", self.site.origin());
            return Err(Failure::new(expected, "a link to another site"));
        }
        Ok(mail)
    }

    /// Opens the link and returns the page with its button.
    async fn open(&self, browser: &mut Browser, mail: &Mail) -> Result<Answer, Failure> {
        let link = self.site.local(&mail.link).unwrap_or_default();
        let opened = browser.get(&link).await?;
        opened.leads(CONFIRM)?;
        let confirm = browser.follow(&opened).await?;
        if confirm.status != 200 || confirm.page.form(CONFIRM).is_none() {
            return Err(confirm.differs(format!("200 with a form to {CONFIRM}")));
        }
        browser.is_out("nobody signed in before the button is pressed").await.map(|()| confirm)
    }

    async fn confirm(&mut self, browser: &mut Browser, confirm: &Answer) -> Result<(), Failure> {
        let answer = browser.submit(confirm, CONFIRM, &[]).await?;
        if answer.leads_to.as_deref() == Some(TOTP) {
            return Err(answer.differs("an account without two-factor (`latchkey user reset-2fa` takes it off)"));
        }
        if answer.status != 303 {
            return Err(answer.differs("303 to the account"));
        }
        let safe = answer.cookie(SESSION_COOKIE).is_some_and(|cookie| {
            let lax = cookie.same_site() == Some(cookie::SameSite::Lax);
            cookie.secure() == Some(true) && cookie.http_only() == Some(true) && lax && cookie.path() == Some("/")
        });
        if !safe {
            return Err(answer.differs(format!("a cookie {SESSION_COOKIE} with Secure, HttpOnly, SameSite=Lax, Path=/")));
        }
        browser.is_in().await?;
        self.known = browser.http.cookies.get(KNOWN_COOKIE).cloned();
        Ok(())
    }

    /// Pressed again in the browser as it was, and opened anew in another.
    async fn link_is_used(&self, mut before: Browser, confirm: &Answer, mail: &Mail) -> Result<(), Failure> {
        before.submit(confirm, CONFIRM, &[]).await?.is(410)?;
        let mut other = Browser::new(self.site.clone());
        let opened = other.get(&self.site.local(&mail.link).unwrap_or_default()).await?;
        let page = if opened.status == 303 { other.follow(&opened).await? } else { opened };
        page.is(410)?;
        for mut browser in [before, other] {
            browser.is_out("nobody signed in by a used link").await?;
        }
        Ok(())
    }

    /// Sets an app up, and returns the page with the backup codes.
    async fn turn_on(&mut self, browser: &mut Browser) -> Result<Answer, Failure> {
        const START: &str = "/account/two-factor/setup/start";
        let begin = browser.get(SETUP).await?;
        let started = browser.submit(&begin, START, &[]).await?;
        started.leads(SETUP)?;
        let setup = browser.follow(&started).await?;
        let app = setup.page.links.iter().find_map(|link| App::of(link));
        let app = self.app.insert(app.ok_or_else(|| setup.differs("a link otpauth://… with the secret"))?);
        let mut revealed = browser.submit(&setup, SETUP, &[("code", &app.code().await)]).await?;
        if revealed.status == 422 {
            // The instance's clock is ahead of ours: the step before this one is over there.
            revealed = browser.submit(&setup, SETUP, &[("code", &app.code().await)]).await?;
        }
        revealed.is(200)?;
        self.codes = revealed.page.items.iter().filter(|item| is_backup_code(item)).cloned().collect();
        if self.codes.len() < 3 { Err(revealed.differs("backup codes, in a list")) } else { Ok(revealed) }
    }

    async fn codes_are_gone(&self, browser: &mut Browser, revealed: &Answer) -> Result<(), Failure> {
        const SAVED: &str = "/account/backup-codes/saved";
        let saved = browser.submit(revealed, SAVED, &[("saved", "on")]).await?;
        if saved.status != 303 {
            return Err(saved.differs("303 once the codes are said to be saved"));
        }
        for path in [CODES, SETUP, "/account/two-factor", "/account"] {
            let page = browser.get(path).await?;
            if self.codes.iter().any(|code| page.page.text.contains(code.as_str())) {
                return Err(page.differs(format!("{path} without the codes")));
            }
        }
        Ok(())
    }

    /// Gives the first factor, and no second.
    async fn half_signed_in(&mut self, by: Want) -> Result<Browser, Failure> {
        let mut browser = self.new_browser();
        let page = self.sign_in_page(&mut browser).await?;
        self.ask_for_mail(&mut browser, &page).await?;
        let mail = self.mail(by).await?;
        let answer = if by == Want::Link {
            let confirm = self.open(&mut browser, &mail).await?;
            browser.submit(&confirm, CONFIRM, &[]).await?
        } else {
            let sent = browser.get("/login/sent").await?;
            browser.submit(&sent, "/login/sent", &[("code", &mail.code)]).await?
        };
        let (signed_in, account) = browser.is_signed_in().await?;
        if signed_in {
            self.signed_in = Some(browser);
            return Err(account.differs(format!("{TOTP} before anything of the account")));
        }
        answer.leads(TOTP)?;
        Ok(browser)
    }

    /// Finishes signing in.
    async fn second_factor(&mut self, browser: &mut Browser, path: &str, code: &str) -> Result<(), Failure> {
        let page = browser.get(path).await?;
        let answer = browser.submit(&page, path, &[("code", code)]).await?;
        if answer.status != 303 {
            return Err(answer.differs("303 to the account"));
        }
        browser.is_in().await?;
        self.known = browser.http.cookies.get(KNOWN_COOKIE).cloned();
        self.signed_in = Some(browser.clone());
        Ok(())
    }

    async fn with_backup_code(&mut self, code: &str) -> Result<Browser, Failure> {
        let mut browser = self.half_signed_in(Want::Code).await?;
        self.second_factor(&mut browser, BACKUP, code).await?;
        Ok(browser)
    }

    /// Also signs in with another one, which turning two-factor off needs.
    async fn backup_code_is_used(&mut self, used: &str) -> Result<(), Failure> {
        let mut browser = self.half_signed_in(Want::Code).await?;
        refused(&mut browser, BACKUP, used).await?;
        let Some(other) = self.codes.pop() else { return Ok(()) };
        self.second_factor(&mut browser, BACKUP, &other).await
    }

    /// The account as it was, so that this can be run again; also after a check failed half-way.
    async fn turn_off(&mut self) -> Result<(), Failure> {
        let Some(mut browser) = self.signed_in.take() else { return Ok(()) };
        let mut page = browser.get(TURN_OFF).await?;
        if page.page.form(TURN_OFF).is_none() {
            if page.leads_to.as_deref() == Some(SETUP) || page.leads_to.as_deref() == Some("/account/two-factor") {
                let standing = browser.get("/account/two-factor").await?;
                let is_off = standing.page.form("/account/two-factor/setup/start").is_some()
                    && standing.page.links.iter().all(|link| link != CODES);
                let why = "an account that may turn it off: REQUIRE_2FA holds it (`latchkey user reset-2fa` takes it off)";
                return if is_off { Ok(()) } else { Err(page.differs(why)) };
            }
            browser = self.half_signed_in(Want::Code).await?;
            let code = match (self.codes.pop(), &mut self.app) {
                (Some(code), _) => (BACKUP, code),
                (None, Some(app)) => (TOTP, app.code().await),
                (None, None) => return Err(page.differs("a way in, to turn two-factor off")),
            };
            self.second_factor(&mut browser, code.0, &code.1).await?;
            page = browser.get(TURN_OFF).await?;
        }
        let form = page.page.form(TURN_OFF).ok_or_else(|| page.differs(format!("a form to {TURN_OFF}")))?;
        let code = match &mut self.app {
            Some(app) if form.has("code") => app.code().await,
            _ => String::new(),
        };
        let entries = [("code", code.as_str())];
        let answer = browser.submit(&page, TURN_OFF, if code.is_empty() { &[] } else { &entries }).await?;
        answer.leads("/account")?;
        // Told of in its own line.
        let _ = sign_out(&mut browser).await;
        Ok(())
    }
}

/// Four letters and digits, three times.
fn is_backup_code(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.len() == 3 && groups.iter().all(|group| group.len() == 4 && group.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// A code that signs nobody in.
async fn refused(browser: &mut Browser, path: &str, code: &str) -> Result<(), Failure> {
    let page = browser.get(path).await?;
    browser.submit(&page, path, &[("code", code)]).await?.is(422)?;
    browser.is_out("nobody signed in").await
}

/// Signs out, and tries with a copy of the cookies from before.
async fn sign_out(browser: &mut Browser) -> Result<(), Failure> {
    const LOGOUT: &str = "/logout";
    let mut before = browser.clone();
    let (_, account) = browser.is_signed_in().await?;
    browser.submit(&account, LOGOUT, &[]).await?.leads(LOGOUT)?;
    for browser in [&mut before, browser] {
        browser.is_out("nobody signed in any more").await?;
    }
    Ok(())
}

fn has_headers(answer: &Answer, https: bool) -> Result<(), Failure> {
    let mut wanted = vec![
        ("content-security-policy", "default-src 'none'"),
        ("content-security-policy", "frame-ancestors 'none'"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("permissions-policy", "camera=()"),
        ("cache-control", "no-store"),
        ("x-request-id", ""),
    ];
    if https {
        wanted.push(("strict-transport-security", "max-age="));
    }
    wanted.retain(|(name, part)| !answer.header(name).is_some_and(|value| value.contains(part)));
    if wanted.is_empty() {
        return Ok(());
    }
    let missing: Vec<String> =
        wanted.iter().map(|(name, part)| format!("{name}: {part}").trim_end_matches([' ', ':']).to_owned()).collect();
    Err(answer.differs(format!("the headers {}", missing.join(", "))))
}

/// Every route of the API says 401 to this browser, whatever session it holds, and leads nowhere.
async fn api_is_closed(browser: &mut Browser) -> Result<(), Failure> {
    let mut first = None;
    let mut others = 0;
    for (method, path) in API_ROUTES {
        let answer = browser.ask(method, path, "").await?;
        if answer.status != 401 || answer.leads_to.is_some() {
            others += usize::from(first.is_some());
            first.get_or_insert_with(|| answer.differs("401 and no redirection"));
        }
    }
    match first {
        None => Ok(()),
        Some(failure) if others > 0 => Err(Failure { seen: format!("{} (and {others} routes more)", failure.seen), ..failure }),
        Some(failure) => Err(failure),
    }
}

/// A key with the scope `users` and no other.
async fn key_is_scoped(browser: &mut Browser, key: &str) -> Result<(), Failure> {
    for (path, status) in [("/api/v1/users", 200), ("/api/v1/audit", 403), ("/api/v1/flags/passwordless_auth", 403)] {
        browser.ask(Method::GET, path, key).await?.is(status)?;
    }
    Ok(())
}
