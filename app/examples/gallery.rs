//! Writes every page in every state, and every mail, as files to be opened in a browser:
//! `cargo run -p app --example gallery -- FOLDER` (`target/gallery` if none is given), then `FOLDER/index.html`.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use app::{
    help,
    http::render::render,
    mails::{self, By, EmailChangeCode, Invite, Links, Mail, SignIn, SignInElsewhere, StepUpCode},
    pages::{
        account::{
            activity::{self, ActivityPage, Entry},
            backup_codes::{BackupCodesPage, RevealedCodesPage, UntickedPage},
            change_email::{ChangeEmailPage, EmailStage, NewAddressError},
            delete_account::{DeleteAccountPage, LastAdminPage as LastAdminStaysPage, LeavingPage},
            devices::{DevicesPage, Trusted},
            export::ExportPage,
            reauth::{ReauthError, ReauthHow, ReauthPage},
            security::{AccountPage, NameError, Owner},
            sessions::SessionsPage,
            two_factor::{BackupCodes, TwoFactorPage, TwoFactorSummary},
            two_factor_off::TurnOffPage,
            two_factor_setup::{Scan, SetupStage, TwoFactorSetupPage},
        },
        admin::{
            api_keys::{ApiKey, ApiKeysPage, Draft, Lifetime, Maker, NewApiKeyPage, NewKeyError, RevealedKeyPage, RevokeKeyPage},
            audit::{self as audit_page, AuditPage, Event, Events, Narrowed, Oddity, SearchError},
            change::{Change, ChangePage, LastAdminPage, NewAdminPage},
            invite::{AddressError, InviteSomeonePage},
            limits::{LimitsPage, Throttled},
            mail::{self, MailPage, MailRow},
            overview::{OverviewPage, Shown as OverviewShown},
            person::{Reset, User},
            rollout::{Act, ReviewPage, RolloutPage, Shown, Typed},
            user::UserPage,
            users::{UserRow, Users, UsersPage},
        },
        dev_inbox::{DevInboxPage, DevMessagePage, Summary},
        errors::{Failure, FailurePage},
        help::{HelpArticlePage, HelpPage, HelpSearchPage, NoArticlePage},
        limited::LimitedPage,
        sign_in::{
            confirm_link::{ConfirmLinkPage, DeadLinkPage, OtherBrowserPage, Request},
            invite::{DeadInvitePage, InvitePage},
            login::{EmailError, LoginPage},
            login_backup_code::{BackupCodeError, LoginBackupCodePage},
            login_continue::{ContinuePage, HopPage, TwoFactorFirstPage},
            login_sent::{Address, CodeError, LoginSentPage, SentNotice},
            login_two_factor::{LoginTwoFactorPage, NoApp, NoAppPage, TotpError},
            signed_out::SignedOutPage,
            unavailable::UnavailablePage,
            undo::{AskedFactor, DeadUndoPage, Question, UndoPage, UndonePage},
        },
    },
    routes,
    ui::{
        assets,
        components::Beside,
        event_text::{self, told},
        qr::Qr,
    },
};
use auth::{
    administration::{Status, ThrottledBy, UserFilter},
    api_keys::KeyState,
    audit::{Head, Kind as AuditKind, LastVerified, SealState},
    crypto::CodeFormat,
    factors::{backup_code::BackupCodeFormat, trusted_device::TrustedDevice},
    flag::{Flag, FlagRow, PASSWORDLESS_AUTH},
    identity::{Method, Prefix, Scope, SecondFactor},
    limits::{known_browser::KnownBrowser, request_bursts::NetworkRequests, throttle},
    one_time::{Dead, revert_link::Revert},
    outbox::{Delivery, MailFilter, MailState, Notice, QueueState},
    policy::{ResetTwoFactor, SignUp, checks::Check, limits::Limit},
    primitives::{email_address::EmailAddressError, reason::ReasonError},
    reporting::overview::{Accounts, Bucket, Counts, Overview, Seconds, Span},
    rollout::{DEFAULT_PLAN, Reading, Rollout, State, Status as RolloutStatus, Told},
    self_service::{activity::Filter, revert::Reverted, two_factor::Authenticator},
    sessions::SessionView,
};
use leptos::prelude::*;
use serde_json::{Value, json};
use time::{OffsetDateTime, macros::datetime};
use uuid::Uuid;

#[cfg(test)]
#[path = "gallery/help.rs"]
mod help_links;

#[cfg(test)]
#[path = "gallery/complete.rs"]
mod complete;

#[cfg(test)]
#[path = "gallery/rules.rs"]
mod rules;

const LIFETIME: Duration = Duration::from_mins(10);
const EMAIL: &str = "mara.lindqvist@example.org";
/// As long as an address can be, to see what breaks.
const LONG: &str = "the.longest.address.anyone.could.ever.have.typed.into.this.page@a-department-with-a-long-name.a-university-with-a-longer-one.example.org";

fn main() -> io::Result<()> {
    let folder = PathBuf::from(env::args().nth(1).unwrap_or_else(|| "target/gallery".to_owned()));
    write(&folder)?;
    println!("{}", folder.join("index.html").display());
    Ok(())
}

/// The browser tests look at what this leaves.
#[test]
fn it_is_written_whole() -> io::Result<()> {
    let test = env::current_exe()?;
    let target = test.ancestors().nth(3).ok_or_else(|| io::Error::other("not in target/debug/examples"))?;
    write(&target.join("gallery"))
}

fn write(folder: &Path) -> io::Result<()> {
    for asset in assets::ALL {
        let file = folder.join(asset.path.trim_start_matches('/'));
        fs::create_dir_all(file.parent().unwrap_or(folder))?;
        fs::write(file, asset.raw)?;
    }
    let mut index = String::from("<!DOCTYPE html><html lang=en><meta charset=utf-8><title>Gallery</title>");
    for (name, html) in all().map_err(io::Error::other)? {
        // From the root of a site to files beside one another.
        let html = assets::ALL
            .iter()
            .fold(html, |html, asset| html.replace(&format!("=\"{}\"", asset.path), &format!("=\"{}\"", &asset.path[1..])));
        fs::write(folder.join(format!("{name}.html")), html)?;
        index.extend(["<p><a href=", name, ".html>", name, "</a>"]);
    }
    fs::write(folder.join("index.html"), index)
}

/// Every page in every state, and every mail.
fn all() -> Result<Vec<(&'static str, String)>, Box<dyn Error + Send + Sync>> {
    Ok(pages().into_iter().chain(two_factor()?).chain(mails()?).collect())
}

fn pages() -> Vec<(&'static str, String)> {
    let mut all = sign_in();
    all.extend(elsewhere());
    all.extend(confirm());
    all.extend(dead_ends());
    all.extend(own_pages());
    all.extend(the_rest());
    all.extend(admin_overview());
    all.extend(help_center());
    all.extend(admin_lists());
    all.extend(admin_audit());
    all.extend(admin_mail());
    all.extend(admin_limits());
    all.extend(admin_rollout());
    all.extend(admin_rollout_reviews());
    all.extend(admin_api_keys());
    all.extend(admin_account());
    all.extend(changes());
    all.extend(undo());
    all
}

fn login(email: &str, error: Option<EmailError>) -> String {
    let email = email.to_owned();
    render(|| view! { <LoginPage email next=None error lifetime=LIFETIME/> })
}

fn sent(address: Address, notice: Option<SentNotice>, error: Option<CodeError>) -> String {
    sent_and(Delivery::OnTime, address, notice, error)
}

fn sent_and(delivery: Delivery, address: Address, notice: Option<SentNotice>, error: Option<CodeError>) -> String {
    let sender = "sign-in@latchkey.example".to_owned();
    render(|| view! { <LoginSentPage address sender delivery notice error codes_off=false/> })
}

fn sent_without_code() -> String {
    let (address, sender) = (Address::Typed(EMAIL.to_owned()), "sign-in@latchkey.example".to_owned());
    render(|| view! { <LoginSentPage address sender delivery=Delivery::OnTime notice=None error=None codes_off=true/> })
}

fn sign_in() -> Vec<(&'static str, String)> {
    let typed = || Address::Typed(EMAIL.to_owned());
    let wait = Some(SentNotice::Wait { seconds: 40 });
    vec![
        ("login", login("", None)),
        ("login-missing", login("", Some(EmailError::Format(EmailAddressError::Missing)))),
        ("login-malformed", login("mara@example", Some(EmailError::Format(EmailAddressError::Malformed)))),
        ("login-too-soon", login(EMAIL, Some(EmailError::TooSoon { seconds: 20 }))),
        ("sent", sent(typed(), None, None)),
        ("sent-long", sent(Address::Typed(LONG.to_owned()), None, None)),
        ("sent-masked", sent(Address::Masked(EMAIL.into()), None, None)),
        ("sent-another", sent(typed(), Some(SentNotice::SentAnother), None)),
        ("sent-wait", sent(typed(), wait, None)),
        ("sent-codes-off", sent_without_code()),
        ("sent-late", sent_and(Delivery::Late { within: Duration::from_mins(5) }, typed(), None, None)),
        ("sent-refused", sent_and(Delivery::Refused, typed(), None, None)),
        ("sent-missing", sent(typed(), None, Some(CodeError::Format(CodeFormat::Missing)))),
        ("sent-length", sent(typed(), None, Some(CodeError::Format(CodeFormat::WrongLength(5))))),
        ("sent-wrong", sent(typed(), wait, Some(CodeError::Wrong { left: 4 }))),
        ("sent-last-try", sent(typed(), None, Some(CodeError::LastTry))),
        ("sent-expired", sent(typed(), None, Some(CodeError::Expired))),
    ]
}

fn elsewhere() -> Vec<(&'static str, String)> {
    let next = |host: &str| format!("https://{host}/reports?year=2026");
    let asks = |host: &str| {
        let (host, next) = (host.to_owned(), next(host));
        render(|| view! { <ContinuePage host email=EMAIL.into() next/> })
    };
    let two_factor_first = |host: &str| {
        let (host, next) = (host.to_owned(), next(host));
        render(|| view! { <TwoFactorFirstPage host next/> })
    };
    // To stay on it, as somebody does whose browser doesn't go on by itself.
    let hop = |host: &str| {
        let (host, url) = (host.to_owned(), next(host).parse().expect("a URL"));
        render(|| view! { <HopPage host url/> }).replace("http-equiv=\"refresh\"", "name=\"refresh\"")
    };
    let (short, long) = ("app.example.org", "the-reports-of-the-year.a-department-with-a-long-name.example.org");
    vec![
        ("continue", asks(short)),
        ("continue-long", asks(long)),
        ("continue-two-factor", two_factor_first("admin.example.org")),
        ("continue-two-factor-long", two_factor_first(long)),
        ("hop", hop(short)),
        ("hop-long", hop(long)),
    ]
}

fn confirm() -> Vec<(&'static str, String)> {
    let request = |ip: &str| Request {
        address: EMAIL.into(),
        asked_ago: "2 minutes ago".to_owned(),
        device: "Safari on iPhone".to_owned(),
        ip: ip.to_owned(),
    };
    let (v4, v6) = (request("203.0.113.24"), request("2001:db8:85a3:8d3:1319:8a2e:370:7348"));
    let dead = |why, signed_in, can_resend| render(move || view! { <DeadLinkPage why lifetime=LIFETIME signed_in can_resend/> });
    vec![
        ("confirm", render(|| view! { <ConfirmLinkPage request=v4/> })),
        ("confirm-other-browser", render(|| view! { <OtherBrowserPage request=v6/> })),
        ("link-expired", dead(Some(Dead::Expired), false, true)),
        ("link-used", dead(Some(Dead::Used), false, true)),
        ("link-used-signed-in", dead(Some(Dead::Used), true, true)),
        ("link-replaced", dead(Some(Dead::Replaced), false, true)),
        ("link-cancelled", dead(Some(Dead::Cancelled), false, false)),
        ("link-broken", dead(None, false, false)),
    ]
}

fn limited(limit: Limit, wait: Duration) -> String {
    render(move || view! { <LimitedPage by=throttle::Limited { limit, wait } lifetime=LIFETIME/> })
}

fn dead_ends() -> Vec<(&'static str, String)> {
    let limited = |limit, minutes| limited(limit, Duration::from_mins(minutes));
    let failure = |failure| render(move || view! { <FailurePage failure request_id="01995c6a-7b1e-7f3c-9d0a-2f4b6c8e1a3d"/> });
    let url = Some("https://old.example/sign-in".to_owned());
    vec![
        ("limited-emails", limited(Limit::LinkAddress, 23)),
        ("limited-emails-hours", limited(Limit::LinkAddress, 179)),
        ("limited-network", limited(Limit::LinkNetwork, 12)),
        ("limited-tries", limited(Limit::CodeNetwork, 1)),
        ("limited-step-up-codes", limited(Limit::StepUpMail, 12)),
        ("limited-backup-codes", limited(Limit::BackupCodeSets, 12)),
        ("limited-changes", limited(Limit::AccountChanges, 3)),
        ("limited-everyone", limited(Limit::LinkAll, 1)),
        ("signed-out", render(|| view! { <SignedOutPage/> })),
        ("unavailable", render(|| view! { <UnavailablePage legacy_url=url/> })),
        ("unavailable-nowhere", render(|| view! { <UnavailablePage legacy_url=None/> })),
        ("failure-not-found", failure(Failure::NotFound)),
        ("failure-server", failure(Failure::Server)),
        ("failure-bad-request", failure(Failure::BadRequest)),
        ("failure-cross-site", failure(Failure::CrossSite)),
        ("failure-too-large", failure(Failure::TooLarge)),
        ("failure-busy", failure(Failure::Busy)),
    ]
}

fn owner(email: &str) -> Owner {
    Owner { email: email.to_owned(), name: "Mara Lindqvist".to_owned(), admin: false, deletes: None }
}

fn sessions() -> Vec<SessionView> {
    let session = |id: u128, device: &str, ip: &str, method, second, signed_in_at, last_seen_at| SessionView {
        id: Uuid::from_u128(id),
        device: device.to_owned(),
        ip: ip.parse().ok(),
        method,
        second,
        two_factor: second.is_some(),
        new_device: second.is_none(),
        signed_in_at,
        last_seen_at,
        here: id == 1,
    };
    let (totp, backup) = (Some(SecondFactor::Totp), Some(SecondFactor::BackupCode));
    vec![
        session(1, "Firefox on Windows", "203.0.113.24", Method::Code, totp, NOW, NOW),
        session(2, "Safari on iPhone", "198.51.100.7", Method::Link, backup, USED, datetime!(2026-11-24 11:00 UTC)),
        session(
            3,
            "Chrome on Mac",
            "2001:db8:85a3:8d3:1319:8a2e:370:7348",
            Method::Link,
            totp,
            MADE,
            datetime!(2026-11-18 09:00 UTC),
        ),
        session(4, "Chrome on Android", "192.0.2.188", Method::Link, None, MADE, datetime!(2026-11-16 09:00 UTC)),
    ]
}

fn entry(at: OffsetDateTime, happened: &str, details: &Value, by: Option<(&str, &str)>) -> Option<Entry> {
    let by = by
        .map_or(activity::By::Administrator, |(device, ip)| activity::By::Browser { device: device.to_owned(), ip: ip.to_owned() });
    Some(Entry { at, told: told(happened, details)?, by })
}

fn entries() -> Vec<Entry> {
    let firefox = Some(("Firefox on Windows", "203.0.113.24"));
    let phone = Some(("Safari on iPhone", "2001:db8:85a3:8d3:1319:8a2e:370:7348"));
    let android = Some(("Chrome on Android", "192.0.2.188"));
    let signed_in = |method: &str, second: Option<&str>, new_device: bool| json!({ "level": "two_factor", "method": method, "second_method": second, "new_device": new_device });
    let all = [
        entry(NOW, "session.created", &signed_in("code", Some("totp"), false), firefox),
        entry(datetime!(2026-11-24 14:28 UTC), "totp.refused", &json!({ "reason": "wrong", "for": "sign_in" }), firefox),
        entry(datetime!(2026-11-24 14:28 UTC), "totp.refused", &json!({ "reason": "clock", "for": "sign_in" }), firefox),
        entry(datetime!(2026-11-24 14:26 UTC), "link.requested", &json!({}), firefox),
        entry(USED, "session.created", &signed_in("link", Some("backup_code"), false), phone),
        entry(USED, "backup_code.used", &json!({ "left": 2, "for": "sign_in" }), phone),
        entry(datetime!(2026-11-18 10:00 UTC), "two_factor.reset", &json!({ "by": "operator" }), None),
        entry(datetime!(2026-11-16 21:47 UTC), "session.created", &signed_in("link", None, true), android),
        entry(datetime!(2026-11-16 21:40 UTC), "moon.risen", &json!({}), android),
    ];
    all.into_iter().flatten().collect()
}

fn account(owner: Owner, sessions: Vec<SessionView>, recent: Vec<Entry>, two_factor: TwoFactorSummary) -> String {
    let (sessions, recent) = (sessions.into_iter().take(3).collect(), recent.into_iter().take(5).collect());
    render(|| view! { <AccountPage owner two_factor sessions recent now=NOW/> })
}

fn account_named(name: &str, error: NameError) -> String {
    let (owner, two_factor) = (Owner { name: name.to_owned(), ..owner(EMAIL) }, TwoFactorSummary::default());
    let (sessions, recent) = (sessions().into_iter().take(1).collect(), vec![]);
    render(move || view! { <AccountPage owner two_factor sessions recent now=NOW error=Some(error)/> })
}

fn own_pages() -> Vec<(&'static str, String)> {
    let plain = |two_factor| account(owner(EMAIL), sessions(), entries(), two_factor);
    let new = Owner { name: String::new(), ..owner(EMAIL) };
    let admin = Owner { admin: true, ..owner(EMAIL) };
    let leaving = Owner { deletes: Some(datetime!(2026-12-08 10:00 UTC)), ..owner(EMAIL) };
    let only = || sessions().into_iter().take(1).collect();
    let listed = |sessions| render(move || view! { <SessionsPage email=EMAIL.to_owned() sessions now=NOW/> });
    let activity = |show, entries, newer: Option<&str>, older: Option<&str>| {
        let beside = Beside { newer: newer.map(str::to_owned), older: older.map(str::to_owned) };
        render(move || view! { <ActivityPage email=EMAIL.to_owned() show entries beside now=NOW/> })
    };
    vec![
        ("account", plain(TwoFactorSummary::default())),
        ("account-new", account(new, only(), vec![], TwoFactorSummary::default())),
        ("account-admin", account(admin, sessions(), entries(), TwoFactorSummary::default())),
        ("account-two-factor", plain(with_apps(1, codes(10, true)))),
        ("account-few-codes", plain(with_apps(2, codes(2, true)))),
        ("account-no-codes", plain(stopped(codes(0, true)))),
        ("account-leaving", account(leaving, sessions(), entries(), with_apps(1, codes(2, true)))),
        ("account-long", account(owner(LONG), sessions(), entries(), with_apps(1, codes(10, false)))),
        ("account-name-long", account_named(&"Mara Lindqvist ".repeat(8), NameError::TooLong)),
        // Its fault is a character that nobody sees.
        ("account-name-lines", account_named("Mara Lindqvist", NameError::NotOneLine)),
        ("sessions", listed(sessions())),
        ("sessions-none", listed(only())),
        ("activity", activity(Filter::All, entries(), None, Some("older"))),
        ("activity-end", activity(Filter::Problems, entries().into_iter().skip(5).collect(), Some("newer"), None)),
        ("activity-none", activity(Filter::Changes, vec![], None, None)),
    ]
}

fn help_center() -> Vec<(&'static str, String)> {
    let article = |slug| {
        let article = help::find(slug).expect("an article");
        render(move || view! { <HelpArticlePage article/> })
    };
    let search = |query: &str| {
        let (query, found) = (query.to_owned(), help::search(query));
        render(|| view! { <HelpSearchPage query found/> })
    };
    vec![
        ("help", render(|| view! { <HelpPage/> })),
        ("help-found", search("lost phone")),
        ("help-some", search("giraffe clock")),
        ("help-none", search("thelongestwordthatanyonecouldeverhavetypedintothisfieldwithagiraffe")),
        ("help-article", article("no-email")),
        ("help-article-long", article("what-we-store")),
        ("help-article-admin", article("admin-rollout")),
        ("help-unknown", render(|| view! { <NoArticlePage/> })),
    ]
}

fn invite(inviter: Option<&str>) -> String {
    let (name, inviter, token) = ("latchkey.example".to_owned(), inviter.map(str::to_owned), "t0k".to_owned());
    render(|| view! { <InvitePage name inviter address=EMAIL.into() token/> })
}

fn the_rest() -> Vec<(&'static str, String)> {
    let summary = |id: &str, when: &str| Summary {
        id: id.to_owned(),
        to: EMAIL.to_owned(),
        subject: "Sign in to Latchkey".to_owned(),
        when: when.to_owned(),
    };
    let messages = vec![summary("8", "less than a minute ago"), summary("7", "12 minutes ago")];
    let dead = |why| render(move || view! { <DeadInvitePage why/> });
    let text = sign_in_mail().map(|mail| mail.text).unwrap_or_default();
    vec![
        ("invite", invite(Some("ada@example.org"))),
        ("invite-anonymous", invite(None)),
        ("invite-expired", dead(Some(Dead::Expired))),
        ("invite-used", dead(Some(Dead::Used))),
        ("invite-broken", dead(None)),
        ("inbox-empty", render(|| view! { <DevInboxPage messages=vec![]/> })),
        ("inbox", render(|| view! { <DevInboxPage messages/> })),
        (
            "inbox-message",
            render(|| {
                view! {
                    <DevMessagePage
                        to=EMAIL.to_owned() subject="Sign in to Latchkey".to_owned() when="12 minutes ago".to_owned()
                        text html_href="mail-sign-in.html".to_owned()
                    />
                }
            }),
        ),
    ]
}

const MADE: OffsetDateTime = datetime!(2026-11-03 10:12 UTC);
const USED: OffsetDateTime = datetime!(2026-11-19 08:10 UTC);
const NOW: OffsetDateTime = datetime!(2026-11-24 14:29:40 UTC);

fn codes(left: u64, saved: bool) -> BackupCodes {
    BackupCodes { left, total: 10, made: MADE, last_used: (left < 10).then_some(USED), saved }
}

fn with_apps(apps: usize, codes: BackupCodes) -> TwoFactorSummary {
    let app = |(id, name): (u128, &str)| Authenticator {
        id: Uuid::from_u128(id),
        name: name.to_owned(),
        added_at: MADE,
        last_used_at: Some(USED),
        stopped: false,
    };
    let apps = [(7, "Authenticator app"), (8, "The old tablet in the kitchen drawer, 2nd")].map(app).into_iter().take(apps);
    TwoFactorSummary { apps: apps.collect(), codes: Some(codes), trusted: Some(2) }
}

fn stopped(codes: BackupCodes) -> TwoFactorSummary {
    let mut summary = with_apps(1, codes);
    summary.apps.iter_mut().for_each(|app| app.stopped = true);
    summary
}

fn second_step() -> Vec<(&'static str, String)> {
    let code = |trust_days, error| render(move || view! { <LoginTwoFactorPage trust_days error/> });
    let no_app = |why| render(move || view! { <NoAppPage why backup_code=routes::LOGIN_BACKUP_CODE/> });
    let backup = |error| render(move || view! { <LoginBackupCodePage error/> });
    let reauth = |how, error| render(move || view! { <ReauthPage how next=routes::TWO_FACTOR_OFF.to_owned() error/> });
    let mail = |sent| ReauthHow::Mail { address: EMAIL.into(), sent };
    vec![
        ("two-factor-code", code(Some(30), None)),
        ("two-factor-code-no-trust", code(None, None)),
        ("two-factor-code-missing", code(Some(30), Some(TotpError::Format(CodeFormat::Missing)))),
        ("two-factor-code-length", code(Some(30), Some(TotpError::Format(CodeFormat::WrongLength(7))))),
        ("two-factor-code-wrong", code(Some(30), Some(TotpError::Wrong { left: 3 }))),
        ("two-factor-code-used", code(Some(30), Some(TotpError::AlreadyUsed))),
        ("two-factor-code-clock", code(Some(30), Some(TotpError::Clock { ahead: true, minutes: 2 }))),
        ("two-factor-code-clock-slow", code(Some(30), Some(TotpError::Clock { ahead: false, minutes: 1 }))),
        ("two-factor-stopped", no_app(NoApp::Stopped)),
        ("two-factor-broken", no_app(NoApp::Broken)),
        ("backup-code", backup(None)),
        ("backup-code-missing", backup(Some(BackupCodeError::Format(BackupCodeFormat::Missing)))),
        ("backup-code-malformed", backup(Some(BackupCodeError::Format(BackupCodeFormat::Malformed)))),
        ("backup-code-wrong", backup(Some(BackupCodeError::Wrong { left: 3 }))),
        ("reauth-app", reauth(ReauthHow::App, None)),
        ("reauth-app-used", reauth(ReauthHow::App, Some(ReauthError::App(TotpError::AlreadyUsed)))),
        ("reauth-backup-code", reauth(ReauthHow::BackupCode, None)),
        ("reauth-backup-code-used", reauth(ReauthHow::BackupCode, Some(ReauthError::BackupCode(BackupCodeError::AlreadyUsed)))),
        ("reauth-mail", reauth(mail(false), None)),
        ("reauth-mail-sent", reauth(mail(true), None)),
        ("reauth-mail-last-try", reauth(mail(true), Some(ReauthError::Mail(CodeError::LastTry)))),
    ]
}

fn setup(email: &str, another: bool, required: bool, error: Option<TotpError>) -> Result<String, Box<dyn Error + Send + Sync>> {
    let key = "K5QW4Z3BMRTGQ2LNK5QW4Z3BMRTGQ2LN";
    let uri = format!("otpauth://totp/Latchkey:{}?secret={key}&issuer=Latchkey", email.replace('@', "%40"));
    let (qr, name, email) = (Qr::of(&uri)?, "Authenticator app".to_owned(), email.to_owned());
    let stage = SetupStage::Scan(Scan { uri, qr, key: key.to_owned(), server_time: NOW, name, error });
    Ok(render(move || view! { <TwoFactorSetupPage email another required stage/> }))
}

fn revealed(first: bool) -> String {
    let codes = [
        "k7qd-m2xw-t9hp",
        "9fhn-t4vc-x3wp",
        "xw3p-8rjm-k7qd",
        "h6tz-qv5k-9fhn",
        "m4cy-7wnd-xw3p",
        "r8vx-k3hf-h6tz",
        "t2jq-p9zw-m4cy",
        "d5nm-x6ct-r8vx",
        "w9kf-h4rq-t2jq",
        "p3zv-j7ym-d5nm",
    ];
    let codes = codes.map(str::to_owned).to_vec();
    render(move || view! { <RevealedCodesPage email=EMAIL.to_owned() codes set="7".to_owned() first made=NOW/> })
}

fn devices() -> Vec<TrustedDevice> {
    [(7, "Firefox on Windows", true), (8, "Safari on iPhone", false)]
        .map(|(id, name, here)| TrustedDevice {
            id: Uuid::from_u128(id),
            device: name.to_owned(),
            ip: "2001:db8:85a3:8d3:1319:8a2e:370:7348".parse().ok(),
            added_at: MADE,
            last_used_at: if here { USED } else { MADE },
            expires_at: datetime!(2026-12-03 10:12 UTC),
            here,
        })
        .to_vec()
}

fn known() -> Vec<KnownBrowser> {
    [(7, Some("Firefox on Windows"), true), (8, Some("Safari on iPhone"), false), (9, None, false)]
        .map(|(id, name, here)| KnownBrowser {
            id: Uuid::from_u128(id),
            device: name.map(str::to_owned),
            ip: name.and_then(|_| "2001:db8:85a3:8d3:1319:8a2e:370:7348".parse().ok()),
            first_at: MADE,
            last_at: if here { USED } else { MADE },
            expires_at: datetime!(2027-11-19 08:10 UTC),
            here,
        })
        .to_vec()
}

fn two_factor() -> Result<Vec<(&'static str, String)>, Box<dyn Error + Send + Sync>> {
    let email = || EMAIL.to_owned();
    let page = |two_factor, required, room| render(move || view! { <TwoFactorPage email=email() two_factor required room/> });
    let start = |required| {
        let stage = SetupStage::Start;
        render(move || view! { <TwoFactorSetupPage email=email() another=false required stage/> })
    };
    let off = |left, code_needed, error| render(move || view! { <TurnOffPage email=email() left code_needed error/> });
    let trusted = |devices, known| {
        let trusted = Some(Trusted { days: 30, devices });
        render(move || view! { <DevicesPage email=email() trusted known/> })
    };
    let untrusting = |known| render(move || view! { <DevicesPage email=email() trusted=None known/> });
    let mut all = second_step();
    all.extend([
        ("two-factor-off", page(TwoFactorSummary::default(), false, true)),
        ("two-factor-on", page(with_apps(1, codes(10, true)), false, true)),
        ("two-factor-two-apps", page(with_apps(2, codes(2, true)), true, false)),
        ("two-factor-app-off", page(stopped(codes(10, false)), false, true)),
        ("setup-start", start(false)),
        ("setup-start-required", start(true)),
        ("setup", setup(EMAIL, false, false, None)?),
        ("setup-wrong", setup(EMAIL, false, false, Some(TotpError::Wrong { left: 4 }))?),
        ("setup-required-long", setup(LONG, false, true, None)?),
        ("setup-another", setup(EMAIL, true, false, None)?),
        ("codes-new", render(|| view! { <BackupCodesPage email=email() left=2/> })),
        ("codes-first", revealed(true)),
        ("codes-again", revealed(false)),
        ("codes-unticked", render(|| view! { <UntickedPage email=email() set="7".to_owned()/> })),
        ("turn-off", off(2, true, None)),
        ("turn-off-wrong", off(2, true, Some(TotpError::Wrong { left: 1 }))),
        ("turn-off-checked", off(2, false, None)),
        ("devices", trusted(devices(), known())),
        ("devices-none", trusted(vec![], known())),
        ("devices-known", untrusting(known())),
        ("devices-forgotten", untrusting(vec![])),
    ]);
    Ok(all)
}

const ADMIN: &str = "priya.nair@example.org";
const ID: &str = "01995c6a-7b1e-7f3c-9d0a-2f4b6c8e1a3d";

fn user_rows() -> Vec<UserRow> {
    let row = |email: &str, status, two_factor, last_sign_in, sessions| UserRow {
        id: ID.to_owned(),
        address: email.into(),
        status,
        admin: email.starts_with('d'),
        two_factor,
        last_sign_in,
        sessions,
    };
    vec![
        row("ada@example.org", Status::Active, Some(10), Some(NOW), 3),
        row("bert@example.com", Status::Active, None, Some(datetime!(2026-11-24 13:58 UTC)), 1),
        row("dora@example.net", Status::Active, Some(10), Some(datetime!(2026-11-24 13:40 UTC)), 12),
        row("ed@example.org", Status::Disabled, Some(4), Some(datetime!(2026-11-23 22:05 UTC)), 0),
        row("jan@example.com", Status::Invited, None, None, 0),
        row(EMAIL, Status::Active, Some(2), Some(USED), 4),
        row(LONG, Status::Active, Some(1), Some(MADE), 1),
        row("sue@example.org", Status::Leaving, None, Some(datetime!(2025-12-31 17:30 UTC)), 0),
    ]
}

/// Fewer at night, and mail that begins to be late.
fn overview_counts(n: u64, times: u64, late: bool) -> Counts {
    let asked = times * (30 + (n * 7) % 11 * 6 + n % 24 * 2);
    let used = asked - asked * (3 + n % 3) / 100;
    let by_code = used / 4;
    let slowest = if late && n > 18 { 20 + u32::try_from(n).unwrap_or(0) * 2 } else { 2 + u32::try_from(n % 4).unwrap_or(0) };
    Counts {
        asked,
        mailed: asked - n % 2,
        used,
        refused: asked * (2 + n % 4) / 100,
        by_link: used - by_code - n % 2,
        by_code,
        sign_in: [(12, asked / 3), (24 + u32::try_from(n).unwrap_or(0) / 3, asked / 2), (90, asked / 6)].into_iter().collect(),
        mail: [(1, asked * 9), (slowest, asked)].into_iter().collect(),
    }
}

/// `first`: the bucket in which the first person signed in.
fn overview(span: Span, first: usize, times: u64, late: bool) -> Overview {
    let (all, hours) = match span {
        Span::Day => (24, 1),
        Span::Week => (28, 6),
        Span::Month => (30, 24),
    };
    let last = NOW - Duration::from_secs(u64::try_from(NOW.unix_timestamp()).unwrap_or(0) % (hours * 3_600));
    let buckets: Vec<Bucket> = (0..all)
        .map(|n| {
            let seen = usize::try_from(n).unwrap_or(0) >= first;
            Bucket {
                at: last - Duration::from_hours((all - 1 - n) * hours),
                counts: if seen { overview_counts(n, times * hours, late) } else { Counts::default() },
                accounts: seen.then_some(Accounts { all: 16_840, with_two_factor: 5_110 + n * 6 }),
            }
        })
        .collect();
    let sum = |of: fn(&Counts) -> u64| buckets.iter().map(|bucket| of(&bucket.counts)).sum();
    let slow = if late { 74 } else { 4 };
    let whole = Counts {
        asked: sum(|counts| counts.asked),
        mailed: sum(|counts| counts.mailed),
        used: sum(|counts| counts.used),
        refused: sum(|counts| counts.refused),
        by_link: sum(|counts| counts.by_link),
        by_code: sum(|counts| counts.by_code),
        sign_in: if times == 0 { Seconds::default() } else { [(31, 1)].into_iter().collect() },
        mail: if times == 0 { Seconds::default() } else { [(1, 90), (slow, 10)].into_iter().collect() },
    };
    let before = Counts { sign_in: [(22, 1)].into_iter().collect(), mail: [(5, 1)].into_iter().collect(), ..whole.clone() };
    let before = Counts { by_link: before.by_link + before.asked / 160, ..before };
    Overview {
        span,
        now: NOW,
        since: (times > 0).then(|| if first == 0 { NOW - Duration::from_hours(24 * 300) } else { buckets[first].at }),
        buckets,
        whole,
        before: (first == 0 && times > 0).then_some(before),
        accounts: Some(Accounts { all: 16_840, with_two_factor: 5_254 }),
        accounts_before: (first == 0).then_some(Accounts { all: 16_700, with_two_factor: 5_077 }),
        counted_until: Some(NOW),
    }
}

fn admin_overview() -> Vec<(&'static str, String)> {
    let reading = |check, value: Option<f64>| Reading {
        check,
        value,
        over_since: value.filter(|value| *value > check.limit()).map(|_| NOW - Duration::from_mins(12)),
        checked_at: NOW,
    };
    let readings = |delay: f64| {
        let value = |check| match check {
            Check::FailedVerifications => Some(4.3),
            Check::Burst => Some(12.0),
            Check::MailDelay => Some(delay),
            Check::ServerErrors => None,
            _ => Some(0.0),
        };
        Check::ALL.iter().map(|&check| reading(check, value(check))).collect()
    };
    let rollout = |state| Rollout {
        id: Uuid::nil(),
        state,
        plan: DEFAULT_PLAN.to_vec(),
        step: 2,
        step_since: NOW - Duration::from_hours(30),
        stopped_since: None,
        why: None,
        clear_since: None,
        started_at: NOW - Duration::from_hours(200),
        ended_at: None,
    };
    let quarter = || Flag { allowed: vec![EMAIL.to_owned()], percent_admins: 5, percent_everyone: 25 };
    let page = |overview, rollout, readings, flag| {
        let shown = OverviewShown { overview, rollout, readings, flag };
        render(move || view! { <OverviewPage who=ADMIN.to_owned() shown/> })
    };
    let running = || Some(rollout(State::Running));
    let never =
        || Check::ALL.iter().map(|&check| Reading { checked_at: OffsetDateTime::UNIX_EPOCH, ..reading(check, None) }).collect();
    let first_day =
        Overview { accounts: Some(Accounts { all: 2, with_two_factor: 1 }), before: None, ..overview(Span::Day, 22, 1, false) };
    let nobody = Overview { accounts: None, counted_until: None, ..overview(Span::Day, 24, 0, false) };
    let stopped = Overview { counted_until: Some(NOW - Duration::from_mins(85)), ..overview(Span::Day, 0, 1, false) };
    let stale =
        Check::ALL.iter().map(|&check| Reading { checked_at: NOW - Duration::from_mins(85), ..reading(check, None) }).collect();
    vec![
        ("admin-overview", page(overview(Span::Day, 0, 1, false), running(), readings(7.0), quarter())),
        ("admin-overview-held", page(overview(Span::Day, 0, 1, true), Some(rollout(State::Held)), readings(74.0), quarter())),
        ("admin-overview-week", page(overview(Span::Week, 0, 20, false), running(), readings(7.0), quarter())),
        ("admin-overview-month", page(overview(Span::Month, 0, 400, false), None, readings(52.0), Flag::ON)),
        ("admin-overview-first-day", page(first_day, None, readings(7.0), Flag::ON)),
        ("admin-overview-nobody", page(nobody, None, never(), Flag::OFF)),
        ("admin-overview-stopped", page(stopped, running(), stale, quarter())),
    ]
}

fn admin_lists() -> Vec<(&'static str, String)> {
    let users = |filter, rows: Vec<UserRow>, matching, invited| {
        let next = (matching > 25).then(|| "bert@example.com".to_owned());
        let users = Users { rows, matching, more: false, from: Some(1), previous: None, next };
        render(move || view! { <UsersPage who=ADMIN.to_owned() filter users invited now=NOW/> })
    };
    let invitation = |email: &str, reason, error| {
        let (email, lifetime) = (email.to_owned(), Duration::from_hours(7 * 24));
        render(move || view! { <InviteSomeonePage who=ADMIN.to_owned() email reason error lifetime/> })
    };
    let invite = |email, error| invitation(email, None, error);
    let filter = || UserFilter { search: Some("mara".to_owned()), status: Some(Status::Active), two_factor: Some(true) };
    let none = || UserFilter { search: Some(LONG.to_owned()), status: Some(Status::Leaving), ..UserFilter::default() };
    vec![
        ("admin-users", users(UserFilter::default(), user_rows(), 16_840, false)),
        ("admin-users-invited", users(UserFilter::default(), user_rows(), 8, true)),
        ("admin-users-filtered", users(filter(), user_rows().drain(5..6).collect(), 1, false)),
        ("admin-users-none", users(none(), vec![], 0, false)),
        ("admin-invite", invite("", None)),
        ("admin-invite-missing", invite("", Some(AddressError::Format(EmailAddressError::Missing)))),
        ("admin-invite-malformed", invite("bert@example", Some(AddressError::Format(EmailAddressError::Malformed)))),
        ("admin-invite-route", invite("bert%example.com@example.org", Some(AddressError::Format(EmailAddressError::Route)))),
        ("admin-invite-exists", invite(EMAIL, Some(AddressError::HasAccount))),
        ("admin-invite-held-back", invite(EMAIL, Some(AddressError::HeldBack))),
        ("admin-invite-closed", invite(EMAIL, Some(AddressError::Closed))),
        ("admin-invite-not-admitted", invitation(EMAIL, Some(String::new()), Some(AddressError::NotAdmitted))),
    ]
}

fn admin_audit() -> Vec<(&'static str, String)> {
    let event = |minutes, what, by, more: Option<&str>, reason: Option<&str>, ip: Option<&str>| Event {
        at: NOW - Duration::from_mins(minutes),
        what,
        more: more.map(ToOwned::to_owned),
        by,
        whom: reason.map(|_| EMAIL.into()),
        reason: reason.map(ToOwned::to_owned),
        ip: ip.map(ToOwned::to_owned),
        request: ip.map(|_| "019ab2c3-6d2e-7a10-b1c4-55e07f3a91c2".to_owned()),
        account: Some("/admin/users/7".to_owned()),
        facts: vec![
            ("Event".to_owned(), "two_factor.reset".to_owned()),
            ("Time".to_owned(), "24 November 2026, 14:29 UTC".to_owned()),
            ("Account".to_owned(), "019ab2c3-6d2e-7a10-b1c4-55e07f3a91c2".to_owned()),
            ("Browser".to_owned(), "Firefox on Windows".to_owned()),
            ("Sealed".to_owned(), "Yes".to_owned()),
        ],
    };
    let account = |address: &str| audit_page::By::Account(address.into());
    let rows = || {
        vec![
            event(1, "Rollout held", audit_page::By::Words("System"), Some("At step 3"), None, None),
            event(6, "Signed in", account(EMAIL), Some("Email code, authenticator app"), None, Some("203.0.113.24")),
            event(8, "Wrong authenticator code", account(LONG), None, None, Some("2001:db8:85a3:8d3:1319:8a2e:370:7348")),
            event(
                204,
                "Flag changed",
                account(ADMIN),
                Some("passwordless_auth, nobody to 25% of everyone"),
                Some("As agreed"),
                Some("192.0.2.61"),
            ),
            event(317, "Two-factor reset", account(ADMIN), None, Some("Ticket 4821"), Some("192.0.2.61")),
            event(
                320,
                "Account opened",
                audit_page::By::ApiKey("Support desk".to_owned()),
                Some("Address shown"),
                None,
                Some("192.0.2.61"),
            ),
        ]
    };
    let seal = || SealState {
        head: Some(Head { number: 4_812, hash: [7; 32] }),
        to_position: 16_840,
        sealed_at: Some(NOW - Duration::from_secs(40)),
        unsealed_since: None,
        verified: Some(LastVerified { at: NOW - Duration::from_hours(14), head: 4_790, rows: 16_840, findings: BTreeMap::new() }),
    };
    let wrong = || SealState {
        unsealed_since: Some(NOW - Duration::from_mins(25)),
        verified: seal().verified.map(|last| LastVerified { findings: [("row_changed".to_owned(), 2)].into(), ..last }),
        ..seal()
    };
    let page = |shown, seal| render(move || view! { <AuditPage who=ADMIN.to_owned() shown seal now=NOW/> });
    let list = |rows, q: &str, error| {
        let older = Some("o1-7".to_owned());
        let narrowed = Narrowed { q: q.to_owned(), ..Narrowed::default() };
        audit_page::Shown::Events(narrowed, Events { rows, beside: Beside { newer: None, older } }, error)
    };
    let oddity = |kind: AuditKind, more: &[&str]| {
        let (what, advice) = app::ui::unusual::words(kind);
        let more = more.iter().map(|&more| more.to_owned()).collect();
        Oddity { what, advice, at: NOW - Duration::from_hours(3), more, path: "/admin/audit?q=7".to_owned() }
    };
    let odd = vec![
        oddity(AuditKind::ManyFailures, &["14 times"]),
        oddity(AuditKind::ManyAccounts, &["31 times", "6 accounts", "2001:db8:85a3:8d3:1319:8a2e:370:7348"]),
        oddity(AuditKind::TwoFactorReset, &["Reason: Ticket 4821"]),
        oddity(AuditKind::AtTheShell, &["Everyone signed out", "Reason: restored from a backup"]),
    ];
    vec![
        ("admin-audit", page(list(rows(), "", None), seal())),
        ("admin-audit-none", page(list(vec![], "203.0.113.24", None), SealState::default())),
        ("admin-audit-unknown", page(list(vec![], "nobody@example.org", Some(SearchError::NoAccount)), seal())),
        ("admin-audit-nothing", page(list(vec![], "the moon", Some(SearchError::Nothing)), seal())),
        ("admin-audit-tampered", page(list(rows(), "", None), wrong())),
        ("admin-audit-unusual", page(audit_page::Shown::Unusual(odd), seal())),
        ("admin-audit-usual", page(audit_page::Shown::Unusual(vec![]), seal())),
    ]
}

fn admin_mail() -> Vec<(&'static str, String)> {
    let row = |kind: &str, to: &str, state, seconds, attempts, error: Option<&str>| MailRow {
        id: "7".to_owned(),
        kind: kind.to_owned(),
        to: Some(to.into()),
        state,
        created: NOW - Duration::from_secs(seconds),
        next: NOW + Duration::from_secs(40),
        settled: Some(NOW - Duration::from_secs(seconds - 2)),
        attempts,
        error: error.map(ToOwned::to_owned),
        retriable: matches!(state, MailState::Waiting | MailState::Failed),
    };
    let rows = || {
        vec![
            row("sign_in", EMAIL, MailState::Sending, 4, 1, None),
            row("sign_in", "bert@example.com", MailState::Waiting, 95, 4, Some("the mail server refused it for now (450)")),
            row("new_sign_in", EMAIL, MailState::Sent, 140, 1, None),
            row("invite", LONG, MailState::Failed, 3_000, 1, Some("the mail server refused it (550)")),
            row("sign_in", "ed@example.org", MailState::Expired, 9_000, 6, Some("the mail server took too long")),
            row("sign_in", "ada@example.org", MailState::Expired, 90_000, 0, Some("its link was dead before it could be sent")),
        ]
    };
    let page = |queue, filter, rows, older: Option<&str>, done| {
        let older = older.map(ToOwned::to_owned);
        render(
            move || view! { <MailPage who=ADMIN.to_owned() queue filter rows beside=Beside { newer: None, older } done now=NOW/> },
        )
    };
    let quiet = QueueState { waiting: 0, oldest: None, sent: 16_840, failed: 3, expired: 12, p95_seconds: Some(1.4) };
    let late = QueueState { waiting: 2_104, oldest: Some(NOW - Duration::from_mins(12)), ..quiet.clone() };
    vec![
        ("admin-mail", page(quiet.clone(), MailFilter::All, rows(), Some("older"), None)),
        ("admin-mail-late", page(late, MailFilter::Waiting, rows().drain(1..2).collect(), Some("older"), None)),
        ("admin-mail-tested", page(quiet.clone(), MailFilter::All, rows(), None, Some(mail::Done::Tested))),
        ("admin-mail-retried", page(quiet.clone(), MailFilter::All, rows(), None, Some(mail::Done::Retried))),
        ("admin-mail-none", page(quiet, MailFilter::GivenUp, vec![], None, None)),
    ]
}

fn admin_api_keys() -> Vec<(&'static str, String)> {
    let key = |name: &str, prefix: &str, scopes: &[Scope], maker, state| ApiKey {
        name: name.to_owned(),
        prefix: prefix.to_owned(),
        scopes: scopes.to_vec(),
        maker,
        curbed: false,
        state,
        last_used: Some(NOW - Duration::from_secs(95)),
        expires: Some(datetime!(2027-02-22 14:29 UTC)),
    };
    let keys = || {
        vec![
            key("Shop", "lk_k7qdm2xw", &[Scope::SignIn, Scope::Sessions], Maker::Admin(ADMIN.into()), KeyState::Live),
            ApiKey {
                last_used: None,
                expires: None,
                ..key(
                    "Dashboards in the data centre that nobody has visited for years",
                    "lk_t9hpx3wp",
                    Scope::ALL,
                    Maker::Operator,
                    KeyState::Live,
                )
            },
            ApiKey { curbed: true, ..key("Backup", "lk_9fhnt4vc", &[Scope::Users, Scope::AuditRead], Maker::Gone, KeyState::Live) },
            key("Old shop", "lk_a2b3c4d5", &[Scope::SignIn], Maker::Admin(LONG.into()), KeyState::Revoked),
            key("Trial", "lk_e6f7g8h9", &[Scope::SignIn], Maker::Operator, KeyState::Expired),
        ]
    };
    let list = |keys: Vec<ApiKey>, revoked| render(move || view! { <ApiKeysPage who=ADMIN.to_owned() keys revoked now=NOW/> });
    let new = |draft, error| render(move || view! { <NewApiKeyPage who=ADMIN.to_owned() draft error/> });
    let draft = || Draft { name: "Shop".to_owned(), scopes: vec![Scope::SignIn, Scope::Sessions], lifetime: Lifetime::Year };
    let revealed = || {
        let (name, key) = ("Shop".to_owned(), "lk_k7qdm2xw_0123456789abcdefghijABCDEFGHIJ0123456789-_0".to_owned());
        view! { <RevealedKeyPage who=ADMIN.to_owned() name key expires=Some(datetime!(2027-02-22 14:29 UTC))/> }
    };
    let revoke = |error| {
        let (name, prefix) = ("Shop".to_owned(), "lk_k7qdm2xw".to_owned());
        render(move || view! { <RevokeKeyPage who=ADMIN.to_owned() name prefix reason=String::new() error/> })
    };
    vec![
        ("admin-api-keys", list(keys(), false)),
        ("admin-api-keys-revoked", list(keys(), true)),
        ("admin-api-keys-none", list(vec![], false)),
        ("admin-api-keys-new", new(Draft::default(), None)),
        ("admin-api-keys-new-missing", new(Draft::default(), Some(NewKeyError::NameMissing))),
        ("admin-api-keys-new-no-scope", new(Draft { scopes: vec![], ..draft() }, Some(NewKeyError::NoScope))),
        ("admin-api-keys-new-long", new(draft(), Some(NewKeyError::NameTooLong))),
        ("admin-api-keys-made", render(revealed)),
        ("admin-api-keys-revoke", revoke(None)),
        ("admin-api-keys-revoke-missing", revoke(Some(ReasonError::Missing))),
    ]
}

fn admin_limits() -> Vec<(&'static str, String)> {
    let held = |by, address: Option<&str>, network: Option<&str>, user: Option<&str>, seconds| Throttled {
        by,
        key: "key".to_owned(),
        address: address.map(Into::into),
        network: network.map(ToOwned::to_owned),
        user: user.map(ToOwned::to_owned),
        free_at: NOW + Duration::from_secs(seconds),
    };
    let rows = || {
        vec![
            held(ThrottledBy::WrongAppCodes, Some(EMAIL), None, Some("7"), 3_500),
            held(ThrottledBy::Limit(Limit::LinkAddress), Some(LONG), None, None, 350),
            held(ThrottledBy::Limit(Limit::LinkAddressNetwork), Some("bert@example.com"), Some("203.0.113.24"), None, 220),
            held(ThrottledBy::Limit(Limit::TotpKnownBrowser), Some("ada@example.org"), None, Some("7"), 170),
            held(ThrottledBy::Limit(Limit::LinkNetwork), None, Some("2001:db8:85a3:8d3::/64"), None, 28),
            held(ThrottledBy::Limit(Limit::LinkAll), None, None, None, 1),
        ]
    };
    let page = |by, held: Vec<Throttled>, all, too_many, released| {
        render(move || view! { <LimitsPage who=ADMIN.to_owned() by held all too_many released now=NOW/> })
    };
    let busy = |network: &str, requests| NetworkRequests { network: network.to_owned(), requests };
    let two = vec![busy("203.0.113.7", 1_143), busy("2001:db8:85a3:8d3::/64", 102)];
    vec![
        ("admin-limits", page(None, rows(), 6, vec![], false)),
        ("admin-limits-busy", page(None, rows(), 1_204, two, false)),
        ("admin-limits-released", page(Some(ThrottledBy::Limit(Limit::LinkAddress)), vec![], 0, vec![], true)),
    ]
}

fn flag_row(key: &str, flag: Flag, by: &str) -> FlagRow {
    FlagRow {
        key: key.to_owned(),
        flag,
        updated_at: NOW - Duration::from_hours(200),
        updated_by: by.to_owned(),
        reason: "As agreed on Monday".to_owned(),
    }
}

fn admin_rollout() -> Vec<(&'static str, String)> {
    let quarter = || Flag { allowed: vec![EMAIL.to_owned()], percent_admins: 5, percent_everyone: 25 };
    let told = |event: &str, hours, by: &str, reason: &str| Told {
        at: NOW - Duration::from_hours(hours),
        event: event.to_owned(),
        actor: None,
        by: by.to_owned(),
        reason: reason.to_owned(),
        flag: PASSWORDLESS_AUTH.to_owned(),
        addresses: 1,
        percent_admins: 5,
        percent_everyone: 25,
    };
    let reading = |check, value: Option<f64>, over: bool| Reading {
        check,
        value,
        over_since: over.then(|| NOW - Duration::from_mins(12)),
        checked_at: NOW,
    };
    let readings = |delay: f64| {
        vec![
            reading(Check::FailedVerifications, Some(4.3), false),
            reading(Check::Burst, Some(12.0), false),
            reading(Check::SecondFactorFailures, Some(0.0), false),
            reading(Check::MailDelay, Some(delay), delay > 60.0),
            reading(Check::ServerErrors, None, false),
            reading(Check::Audit, Some(0.0), false),
            reading(Check::MailStuck, Some(0.0), false),
            reading(Check::Keys, Some(0.0), false),
        ]
    };
    let rollout = |state, why: Option<&str>| Rollout {
        id: Uuid::nil(),
        state,
        plan: DEFAULT_PLAN.to_vec(),
        step: 2,
        step_since: NOW - Duration::from_hours(30),
        stopped_since: None,
        why: why.map(ToOwned::to_owned),
        clear_since: None,
        started_at: NOW - Duration::from_hours(200),
        ended_at: None,
    };
    let shown = |rollout, readings, flag: Flag, flags, history, fresh| {
        let all = auth::rollout::Overview {
            status: RolloutStatus { rollout, readings, sign_ins: 1_204, now: NOW },
            flag,
            flags,
            history,
            names: std::collections::HashMap::new(),
            population: Some(auth::rollout::Population { accounts: 16_840, administrators: 42 }),
        };
        Shown { all, fresh }
    };
    let flags = || vec![flag_row("dark_mode", Flag::ON, "operator"), flag_row(PASSWORDLESS_AUTH, quarter(), "rollout")];
    let history = || {
        vec![
            told("rollout.held", 1, "rollout", "mail_delay"),
            told("flag.changed", 30, "rollout", "the step before went well"),
            told("rollout.moved", 30, "rollout", ""),
            told("rollout.started", 200, "operator", "As agreed on Monday"),
        ]
    };
    let page = |shown: Shown, typed: Typed, done| render(move || view! { <RolloutPage who=ADMIN.to_owned() shown typed done/> });
    let held = |fresh| shown(Some(rollout(State::Held, Some("mail_delay"))), readings(74.0), quarter(), flags(), history(), fresh);
    let running = || shown(Some(rollout(State::Running, None)), readings(7.0), quarter(), flags(), history(), true);
    let first = Check::ALL.iter().map(|&check| reading(check, None, false)).collect();
    let back = rollout(State::RolledBack, Some("server_errors"));
    let paused = rollout(State::Paused, Some("As agreed on Monday"));
    let paused = shown(Some(paused), readings(7.0), quarter(), flags(), history(), true);
    vec![
        ("admin-rollout", page(running(), Typed::default(), false)),
        ("admin-rollout-held", page(held(true), Typed::default(), false)),
        ("admin-rollout-stale", page(held(false), Typed::default(), false)),
        ("admin-rollout-paused", page(paused, Typed::default(), true)),
        (
            "admin-rollout-refused",
            page(
                shown(None, readings(7.0), Flag::OFF, vec![], vec![], true),
                Typed {
                    act: Some(Act::Start),
                    reason: "As agreed on Monday".to_owned(),
                    refused: Some("Migrations are pending. Run them first."),
                    ..Typed::default()
                },
                false,
            ),
        ),
        ("admin-rollout-first", page(shown(None, first, Flag::OFF, vec![], vec![], true), Typed::default(), false)),
        ("admin-rollout-back", page(shown(Some(back), readings(7.0), Flag::OFF, flags(), history(), true), Typed::default(), true)),
        (
            "admin-rollout-no-reason",
            page(running(), Typed { act: Some(Act::Off), error: Some(ReasonError::Missing), ..Typed::default() }, false),
        ),
    ]
}

fn admin_rollout_reviews() -> Vec<(&'static str, String)> {
    let review =
        |act| render(move || view! { <ReviewPage who=ADMIN.to_owned() act reason="Canary went well, as agreed".to_owned()/> });
    vec![
        ("admin-rollout-review", review(Act::Move(DEFAULT_PLAN[3].to))),
        ("admin-rollout-review-off", review(Act::Off)),
        ("admin-rollout-review-start", review(Act::Start)),
        ("admin-rollout-review-pause", review(Act::Pause)),
        ("admin-rollout-review-resume", review(Act::Resume)),
        ("admin-rollout-review-end", review(Act::Abort)),
    ]
}

fn user(email: &str, status: Status, two_factor: TwoFactorSummary) -> User {
    let session = |device: &str, ip: &str, second: Option<SecondFactor>, last_seen_at| SessionView {
        id: Uuid::nil(),
        two_factor: second.is_some(),
        new_device: second.is_none(),
        device: device.to_owned(),
        ip: ip.parse().ok(),
        method: Method::Link,
        second,
        signed_in_at: USED,
        last_seen_at,
        here: false,
    };
    User {
        id: ID.to_owned(),
        email: email.to_owned(),
        name: Some("Mara Lindqvist".to_owned()),
        status,
        admin: false,
        created: MADE,
        last_sign_in: Some(USED),
        deletes: (status == Status::Leaving).then_some(datetime!(2026-12-08 10:00 UTC)),
        two_factor,
        reset: None,
        sessions: vec![
            session("Firefox on Windows", "203.0.113.24", Some(SecondFactor::Totp), NOW),
            session("Safari on iPhone", "2001:db8:85a3:8d3:1319:8a2e:370:7348", Some(SecondFactor::TrustedDevice), USED),
            session("Chrome on Android", "192.0.2.188", None, MADE),
        ],
        own: false,
    }
}

fn user_activity() -> Vec<Entry> {
    let entry = |at, what, more: &str, ip: &str| {
        let told = event_text::Told { what, more: (!more.is_empty()).then(|| more.to_owned()), new_device: false };
        let device = "Firefox on Windows".to_owned();
        let by = if ip.is_empty() { activity::By::Administrator } else { activity::By::Browser { device, ip: ip.to_owned() } };
        Entry { at, told, by }
    };
    vec![
        entry(NOW, "Signed in", "Email code, authenticator app", "203.0.113.24"),
        entry(datetime!(2026-11-24 14:28 UTC), "Wrong authenticator code", "", "203.0.113.24"),
        entry(USED, "Backup code used", "2 codes left", "2001:db8:85a3:8d3:1319:8a2e:370:7348"),
        entry(datetime!(2026-11-18 10:00 UTC), "Two-factor reset", "", ""),
        entry(MADE, "Authenticator app setup started", "", "203.0.113.24"),
    ]
}

fn admin_account() -> Vec<(&'static str, String)> {
    let page = |user, entries: Vec<Entry>, done| {
        let beside = Beside { newer: None, older: (!entries.is_empty()).then(|| "older".to_owned()) };
        render(move || view! { <UserPage who=ADMIN.to_owned() user entries beside done now=NOW/> })
    };
    let change = |change, user, reason: &str, error| {
        let reason = reason.to_owned();
        let resets = ResetTwoFactor::Now;
        render(move || view! { <ChangePage who=ADMIN.to_owned() change user resets reason error/> })
    };
    let reset = |resets, user| {
        let (change, reason) = (Change::ResetTwoFactor, String::new());
        render(move || view! { <ChangePage who=ADMIN.to_owned() change user resets reason error=None/> })
    };
    let waiting = |own, due| Reset {
        by: Some("jonas@example.org".to_owned()),
        own,
        reason: "Lost phone, called back on the number in the directory".to_owned(),
        asked: datetime!(2026-11-24 14:00 UTC),
        due,
    };
    let due = Some(datetime!(2026-11-25 14:00 UTC));
    let waits =
        move |own, due| User { reset: Some(waiting(own, due)), ..user(EMAIL, Status::Active, with_apps(1, codes(2, true))) };
    let on = || user(EMAIL, Status::Active, with_apps(1, codes(2, true)));
    let new = User { name: None, last_sign_in: None, sessions: vec![], ..user(EMAIL, Status::Active, TwoFactorSummary::default()) };
    let admin = User { admin: true, ..user(LONG, Status::Leaving, with_apps(2, codes(10, false))) };
    let own = User { own: true, admin: true, ..user(ADMIN, Status::Active, with_apps(1, codes(10, true))) };
    let disabled = User { sessions: vec![], ..user(EMAIL, Status::Disabled, stopped(codes(10, true))) };
    vec![
        ("admin-user", page(on(), user_activity(), None)),
        ("admin-user-new", page(new.clone(), vec![], None)),
        ("admin-user-disabled", page(disabled.clone(), user_activity(), Some(Change::Disable))),
        ("admin-user-long", page(admin, user_activity(), None)),
        ("admin-disable", change(Change::Disable, on(), "", None)),
        ("admin-disable-missing", change(Change::Disable, on(), "", Some(ReasonError::Missing))),
        ("admin-disable-long", change(Change::Disable, on(), "Ticket 4821, <script>", Some(ReasonError::TooLong))),
        ("admin-enable", change(Change::Enable, disabled, "", None)),
        ("admin-end-sessions", change(Change::EndSessions, on(), "", None)),
        ("admin-reset-two-factor", change(Change::ResetTwoFactor, on(), "", None)),
        ("admin-reset-two-factor-wait", reset(ResetTwoFactor::Wait(Duration::from_hours(24)), on())),
        ("admin-reset-two-factor-first", reset(ResetTwoFactor::Two, on())),
        ("admin-reset-two-factor-agree", reset(ResetTwoFactor::Two, waits(false, None))),
        ("admin-stop-reset", change(Change::StopReset, waits(true, due), "", None)),
        ("admin-user-reset-waits", page(waits(true, due), user_activity(), Some(Change::ResetTwoFactor))),
        ("admin-user-reset-first", page(waits(true, None), user_activity(), Some(Change::ResetTwoFactor))),
        ("admin-make-admin", change(Change::MakeAdmin, new, "", None)),
        ("admin-remove-admin", change(Change::RemoveAdmin, own, "", None)),
        ("admin-reset-new-admin", render(|| view! { <NewAdminPage who=ADMIN.to_owned() id=ID.to_owned()/> })),
        ("admin-last-admin", render(|| view! { <LastAdminPage who=ADMIN.to_owned() id=ID.to_owned()/> })),
    ]
}

fn changes() -> Vec<(&'static str, String)> {
    let email = || EMAIL.to_owned();
    let page = |sign_up, stage| render(move || view! { <ChangeEmailPage email=email() sign_up stage/> });
    let ask = |typed: &str, error| page(SignUp::Open, EmailStage::Ask { typed: typed.to_owned(), error });
    let sent = |address: &str, error| page(SignUp::Open, EmailStage::Sent { address: address.to_owned(), error });
    let domains = || SignUp::Domains(vec!["example.org".to_owned(), "example.com".to_owned()]);
    let nothing = || EmailStage::Ask { typed: String::new(), error: None };
    let elsewhere = || EmailStage::Sent { address: "mara@example.net".to_owned(), error: None };
    vec![
        ("email-ask", ask("", None)),
        ("email-ask-domains", page(domains(), nothing())),
        ("email-ask-invited", page(SignUp::Invite, nothing())),
        ("email-sent-domains", page(domains(), elsewhere())),
        ("email-ask-missing", ask("", Some(NewAddressError::Format(EmailAddressError::Missing)))),
        ("email-ask-malformed", ask("mara@new", Some(NewAddressError::Format(EmailAddressError::Malformed)))),
        ("email-ask-same", ask(EMAIL, Some(NewAddressError::Same))),
        ("email-sent", sent("mara@new.example.org", None)),
        ("email-sent-long", sent(LONG, None)),
        ("email-sent-wrong", sent("mara@new.example.org", Some(CodeError::Wrong { left: 4 }))),
        ("email-sent-last-try", sent("mara@new.example.org", Some(CodeError::LastTry))),
        ("limited-address-codes", limited(Limit::AddressChange, Duration::from_mins(280))),
        ("export", render(move || view! { <ExportPage email=email()/> })),
        ("delete", render(move || view! { <DeleteAccountPage email=email()/> })),
        ("delete-waiting", render(move || view! { <LeavingPage email=email() deletes_at=datetime!(2026-12-01 14:29 UTC)/> })),
        ("delete-last-admin", render(move || view! { <LastAdminStaysPage email=email()/> })),
    ]
}

fn undo() -> Vec<(&'static str, String)> {
    let ask = |question| render(move || view! { <UndoPage question/> });
    let change = |now: &str, factor| ask(Question::EmailChange { old: EMAIL.into(), now: now.into(), factor });
    let done = |undone| render(move || view! { <UndonePage undone/> });
    let dead = |why| render(move || view! { <DeadUndoPage why/> });
    let sign_in = Question::SignIn {
        address: EMAIL.into(),
        device: "Chrome on Android".to_owned(),
        ip: "2001:db8:85a3:8d3:1319:8a2e:370:7348".to_owned(),
        ago: "2 minutes ago".to_owned(),
    };
    let wrong = Some(AskedFactor::App(Some(TotpError::Wrong { left: 3 })));
    vec![
        ("undo-email", change("mallory@example.net", None)),
        ("undo-email-long", change(LONG, None)),
        ("undo-email-app", change("mallory@example.net", Some(AskedFactor::App(None)))),
        ("undo-email-app-wrong", change("mallory@example.net", wrong)),
        ("undo-email-backup-code", change("mallory@example.net", Some(AskedFactor::BackupCode(None)))),
        ("undo-sign-in", ask(sign_in)),
        ("undo-deletion", ask(Question::Deletion { address: EMAIL.into(), within: "in 6 days".to_owned() })),
        ("undo-two-factor-reset", ask(Question::TwoFactorReset { address: EMAIL.into(), within: Some("in 23 hours".to_owned()) })),
        ("undo-two-factor-reset-second", ask(Question::TwoFactorReset { address: EMAIL.into(), within: None })),
        ("undone-two-factor-reset", done(Reverted::TwoFactorReset)),
        ("undone-email", done(Reverted::EmailChange { email: EMAIL.to_owned() })),
        ("undone-sign-in", done(Reverted::Session { ended_now: true })),
        ("undone-sign-in-before", done(Reverted::Session { ended_now: false })),
        ("undone-deletion", done(Reverted::Deletion)),
        ("undo-used", dead(Some((Dead::Used, Revert::EmailChange)))),
        ("undo-moved", dead(Some((Dead::Cancelled, Revert::Session(Uuid::nil()))))),
        ("undo-overtaken", dead(Some((Dead::Cancelled, Revert::EmailChange)))),
        ("undo-expired", dead(Some((Dead::Expired, Revert::EmailChange)))),
        ("undo-broken", dead(None)),
    ]
}

const HELP: &str = "https://latchkey.example/help";

fn by_firefox() -> By {
    By::new("Firefox on Windows", "203.0.113.24", NOW)
}

fn code() -> (String, String) {
    ("482931".to_owned(), "10 minutes".to_owned())
}

fn sign_in_mail() -> askama::Result<Mail> {
    let (url, (code, lasting)) =
        ("https://latchkey.example/login/verify?token=Zk3vQ8hXyT2mWc7LrN5sBd1FgJp0aEuK".to_owned(), code());
    SignIn { url, code: Some(code), lasting, by: by_firefox() }.compose(mails::SIGN_IN, HELP)
}

fn sign_in_by_link_alone() -> askama::Result<Mail> {
    let (url, (_, lasting)) = ("https://latchkey.example/login/verify?token=Zk3vQ8hXyT2mWc7LrN5sBd1FgJp0aEuK".to_owned(), code());
    SignIn { url, code: None, lasting, by: by_firefox() }.compose(mails::SIGN_IN, HELP)
}

fn elsewhere_without_code(url: Option<&str>) -> askama::Result<Mail> {
    let (application, url, (_, lasting)) = ("Notes".into(), url.map(str::to_owned), code());
    let login_url = "https://latchkey.example/login".to_owned();
    SignInElsewhere { application, url, code: None, login_url, lasting, client_named: true, by: by_firefox() }
        .compose(mails::SIGN_IN, HELP)
}

fn sign_in_elsewhere_mail(application: &str, url: Option<&str>) -> askama::Result<Mail> {
    let (application, url, (code, lasting)) = (application.into(), url.map(str::to_owned), code());
    let (code, login_url) = (Some(code), "https://latchkey.example/login".to_owned());
    SignInElsewhere { application, url, code, login_url, lasting, client_named: true, by: by_firefox() }
        .compose(mails::SIGN_IN, HELP)
}

fn notices() -> Vec<(&'static str, Notice)> {
    let prefix = Prefix::parse("lk_k7qdm2xw").expect("a prefix");
    vec![
        ("mail-rollout-held", Notice::RolloutHeld { check: Check::MailDelay }),
        ("mail-rollout-rolled-back", Notice::RolloutRolledBack { check: Check::ServerErrors }),
        ("mail-rollout-finished", Notice::RolloutFinished),
        ("mail-two-factor-on", Notice::TwoFactorOn),
        ("mail-two-factor-off", Notice::TwoFactorOff),
        ("mail-two-factor-reset", Notice::TwoFactorReset),
        ("mail-two-factor-reset-requested", Notice::TwoFactorResetRequested { due_at: Some(NOW) }),
        ("mail-two-factor-reset-second", Notice::TwoFactorResetRequested { due_at: None }),
        ("mail-two-factor-reset-stopped", Notice::TwoFactorResetStopped),
        ("mail-authenticator-added", Notice::AuthenticatorAdded),
        ("mail-authenticator-removed", Notice::AuthenticatorRemoved),
        ("mail-backup-codes-new", Notice::BackupCodesNew),
        ("mail-backup-codes-left", Notice::BackupCodesLow { left: 2 }),
        ("mail-backup-codes-none", Notice::BackupCodesLow { left: 0 }),
        ("mail-backup-code-used", Notice::BackupCodeUsed { left: 7 }),
        ("mail-new-sign-in", Notice::NewSignIn { method: Method::Link, second: None }),
        ("mail-second-step-failed", Notice::SecondStepFailed),
        ("mail-email-changed", Notice::EmailChanged),
        ("mail-email-change-undone", Notice::EmailChangeUndone),
        ("mail-deletion-requested", Notice::DeletionRequested { deletes_at: NOW }),
        ("mail-deletion-cancelled", Notice::DeletionCancelled),
        ("mail-account-disabled", Notice::AccountDisabled),
        ("mail-account-enabled", Notice::AccountEnabled),
        ("mail-sessions-ended", Notice::SessionsEnded),
        ("mail-admin-granted", Notice::AdminGranted),
        ("mail-admin-revoked", Notice::AdminRevoked),
        ("mail-api-key-created", Notice::ApiKeyCreated { prefix }),
        ("mail-api-key-revoked", Notice::ApiKeyRevoked { prefix }),
        ("mail-api-key-ending", Notice::ApiKeyEnding { prefix, expires_at: NOW }),
        ("mail-test", Notice::Test),
    ]
}

fn mails() -> askama::Result<Vec<(&'static str, String)>> {
    let of = |path: &str| format!("https://latchkey.example{path}");
    let (account, undo, rollout) = (of("/account"), of("/undo?token=t0k"), of("/admin/rollout"));
    let links = Links { account: account.clone(), undo, rollout, api_keys: of("/admin/api-keys"), help: HELP.to_owned() };
    let invite = Invite { url: of("/invite?token=t0k"), inviter: Some("ada@example.org".into()), lasting: "7 days".to_owned() };
    let ((code, lasting), (own_code, own_lasting)) = (code(), code());
    let step_up = StepUpCode { code, lasting, by: by_firefox(), account_url: account };
    let email_change = EmailChangeCode { code: own_code, lasting: own_lasting, by: by_firefox() };
    let others = [
        ("mail-sign-in", sign_in_mail()?),
        ("mail-sign-in-codes-off", sign_in_by_link_alone()?),
        ("mail-sign-in-elsewhere-codes-off", elsewhere_without_code(Some("https://notes.example/sign-in?token=t0k"))?),
        ("mail-sign-in-elsewhere-code-off", elsewhere_without_code(None)?),
        ("mail-sign-in-elsewhere", sign_in_elsewhere_mail("Notes", Some("https://notes.example/sign-in?token=t0k"))?),
        ("mail-sign-in-elsewhere-code", sign_in_elsewhere_mail("Notes", None)?),
        (
            "mail-sign-in-elsewhere-long",
            sign_in_elsewhere_mail("The notes of a department with a long name, second edition", None)?,
        ),
        ("mail-no-account", mails::no_account(HELP)?),
        ("mail-account-off", mails::account_off(HELP)?),
        ("mail-not-yet", mails::not_yet(Some("https://old.example/sign-in"), HELP)?),
        ("mail-not-yet-nowhere", mails::not_yet(None, HELP)?),
        ("mail-invite", invite.to("latchkey.example", HELP)?),
        ("mail-step-up", step_up.compose(mails::STEP_UP, HELP)?),
        ("mail-email-change", email_change.compose(mails::EMAIL_CHANGE, HELP)?),
        ("mail-email-taken", mails::email_taken(HELP)?),
    ];
    let notices = notices().into_iter().map(|(name, notice)| Ok((name, mails::notice(notice, &by_firefox(), &links)?)));
    let all = others.into_iter().map(Ok).chain(notices);
    all.map(|mail| mail.map(|(name, mail)| (name, mails::with_pictures(&mail.html)))).collect()
}
