//! The mails, as HTML and as plain text: [`write()`] puts into words what `auth` has decided to say.
//! Nothing is queued or sent here: that is done in `auth` and in the server.
//! To add a notice: its row in `notices.rs`. To add a mail of another shape: its two templates in `templates/mails/`, a struct here, its
//! arm in [`write()`]. Either gets a snapshot of both parts.
//!
//! The HTML part shows nothing remote: the logo travels with it ([`IMAGES`]). What others have a say in (devices, addresses, names) is a
//! [`Line`], so that it can't pass for lines of ours.
//!
//! The pictures are `public/logo.svg` and `public/logo-dark.svg` at twice their size. The light one has a white edge, unseen on
//! white, that keeps it readable where a mail program darkens the page but not the pictures.

use std::{fmt, time::Duration};

use askama::Template;
use auth::{
    delivery::{Asked, Content},
    outbox::Notice,
    policy::{ADDRESS_CODE_TTL, INVITE_TTL, STEP_UP_CODE_TTL},
};
use data_encoding::BASE64;
use time::OffsetDateTime;
use url::Url;

pub use self::notices::notice;
use crate::{
    help,
    http::state::Site,
    routes,
    ui::{
        assets::{Asset, MAIL_LOGO_DARK_PNG, MAIL_LOGO_PNG},
        format,
    },
};

/// A mail without its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    pub subject: String,
    pub text: String,
    pub html: String,
}

/// Why a mail can't be put into words.
#[derive(Debug, thiserror::Error)]
pub enum MailError {
    #[error(transparent)]
    Template(#[from] askama::Error),
    #[error("the redirect URL: {0}")]
    RedirectUrl(#[from] url::ParseError),
}

/// A picture that HTML parts show as `cid:{content_id}`.
#[derive(Debug)]
pub struct InlineImage {
    pub content_id: &'static str,
    pub asset: Asset,
}

/// Every HTML part shows these two, one in light and one in dark.
pub static IMAGES: [InlineImage; 2] = [
    InlineImage { content_id: "logo@latchkey", asset: MAIL_LOGO_PNG },
    InlineImage { content_id: "logo-dark@latchkey", asset: MAIL_LOGO_DARK_PNG },
];

/// An HTML part with its pictures inside it, for where nothing is attached.
pub fn with_pictures(html: &str) -> String {
    IMAGES.iter().fold(html.to_owned(), |html, image| {
        let data = format!("data:{};base64,{}", image.asset.mime, BASE64.encode(image.asset.raw));
        html.replace(&format!("cid:{}", image.content_id), &data)
    })
}

/// One line of plain characters: no line breaks that would begin a sentence of ours, and no marks that turn its direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line(String);

impl From<&str> for Line {
    fn from(text: &str) -> Self {
        let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        Self(text.replace(|c: char| c.is_control() || turns(c), " "))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who did something, as far as a request tells, and when.
#[derive(Clone, Debug)]
pub struct By {
    pub device: Line,
    pub ip: Line,
    pub at: OffsetDateTime,
}

impl By {
    pub fn new(device: &str, ip: &str, at: OffsetDateTime) -> Self {
        Self { device: device.into(), ip: ip.into(), at }
    }

    fn asked(asked: &Asked) -> Self {
        Self::new(&asked.device, &asked.ip, asked.at)
    }

    fn when(&self) -> String {
        format::time_on_date(self.at)
    }
}

/// Makes a mail of a struct and its two templates, which read it as `mail`.
macro_rules! templates {
    ($mail:ident, $html:tt, $text:tt) => {
        impl $mail {
            pub fn compose(&self, subject: &str, help_url: &str) -> askama::Result<Mail> {
                #[derive(Template)]
                #[template(path = $html)]
                struct Html<'a> {
                    subject: &'a str,
                    help_url: &'a str,
                    mail: &'a $mail,
                }
                #[derive(Template)]
                #[template(path = $text)]
                struct Text<'a> {
                    subject: &'a str,
                    mail: &'a $mail,
                }
                let html = Html { subject, help_url, mail: self }.render()? + "\n";
                let text = Text { subject, mail: self }.render()? + "\n";
                Ok(Mail { subject: subject.to_owned(), text, html })
            }
        }
    };
}
mod notices;

templates!(SignIn, "mails/sign_in.html", "mails/sign_in.txt");
templates!(SignInElsewhere, "mails/sign_in_elsewhere.html", "mails/sign_in_elsewhere.txt");
templates!(Plain, "mails/notice.html", "mails/notice.txt");
templates!(Invite, "mails/invite.html", "mails/invite.txt");
templates!(StepUpCode, "mails/step_up.html", "mails/step_up.txt");
templates!(EmailChangeCode, "mails/email_change.html", "mails/email_change.txt");

/// The same for known and unknown addresses.
pub const SIGN_IN: &str = "Sign in to Latchkey";
pub const STEP_UP: &str = "Your code for Latchkey";
pub const EMAIL_CHANGE: &str = "Confirm your new email address";

/// The link and the code.
#[derive(Clone, Debug)]
pub struct SignIn {
    pub url: String,
    /// As it is read: "482931". None where codes are off.
    pub code: Option<String>,
    /// How long link and code work.
    pub lasting: String,
    pub by: By,
}

/// A sign-in that another application offers as its own: the code, and the link where the application has a page for it.
#[derive(Clone, Debug)]
pub struct SignInElsewhere {
    /// Operators' words.
    pub application: Line,
    /// On the application's site; without one the mail has the code only.
    pub url: Option<String>,
    /// None where codes are off.
    pub code: Option<String>,
    /// Where the address's owner signs in with a link instead.
    pub login_url: String,
    pub lasting: String,
    /// The application has said who asks.
    pub client_named: bool,
    pub by: By,
}

/// A mail without anything to press.
#[derive(Clone, Debug)]
pub struct Plain {
    /// What somebody asked to do with the address.
    asked: &'static str,
    what: &'static str,
    advice: String,
}

#[derive(Clone, Debug)]
pub struct Invite {
    pub url: String,
    pub inviter: Option<Line>,
    pub lasting: String,
}

impl Invite {
    fn who(&self) -> String {
        self.inviter.as_ref().map_or_else(|| "You've been invited.".to_owned(), |inviter| format!("{inviter} invited you."))
    }

    /// `host`: what one is invited to.
    pub fn to(&self, host: &str, help_url: &str) -> askama::Result<Mail> {
        self.compose(&format!("You're invited to {host}"), help_url)
    }
}

/// Confirms a change by someone who is signed in. A code and no link: nothing in it signs anybody in.
#[derive(Clone, Debug)]
pub struct StepUpCode {
    pub code: String,
    pub lasting: String,
    pub by: By,
    pub account_url: String,
}

/// The same to a new address: it proves that the account's owner reads mail there.
#[derive(Clone, Debug)]
pub struct EmailChangeCode {
    pub code: String,
    pub lasting: String,
    pub by: By,
}

/// For an address nobody has an account with: the page said that a mail was sent, so one is.
pub fn no_account(help_url: &str) -> askama::Result<Mail> {
    let what = "Someone asked to sign in with this address, but there's no account for it.";
    let advice = "If it was you, try the address you signed up with. If not, ignore this email.".to_owned();
    Plain { asked: "sign in with", what, advice }.compose(SIGN_IN, help_url)
}

/// For an account that is turned off.
pub fn account_off(help_url: &str) -> askama::Result<Mail> {
    let what = "Someone asked to sign in with this address, but its account is turned off.";
    let advice = "If it was you, ask whoever runs this service to turn it back on. If not, ignore this email.".to_owned();
    Plain { asked: "sign in with", what, advice }.compose(SIGN_IN, help_url)
}

/// For an address that signing in by mail is not for yet. `usual_url`: where its owner signs in meanwhile.
pub fn not_yet(usual_url: Option<&str>, help_url: &str) -> askama::Result<Mail> {
    let what = "Someone asked to sign in with this address, but signing in by email isn't turned on for it yet.";
    let url = usual_url.map(|url| format!(" ({url})")).unwrap_or_default();
    let advice = format!(
        "We're turning it on for a few people at a time. If it was you, use your usual way to sign in{url} until then. If not, ignore this email."
    );
    Plain { asked: "sign in with", what, advice }.compose(SIGN_IN, help_url)
}

/// In place of the code for a new address, where the address has an account: the page said that a mail was sent, so one is.
pub fn email_taken(help_url: &str) -> askama::Result<Mail> {
    let what = "Someone asked to use this address for their Latchkey account, but it already has one. Nothing was changed.";
    let advice = "If it was you, sign in with this address instead. If not, ignore this email.".to_owned();
    Plain { asked: "use", what, advice }.compose("This address already has an account", help_url)
}

/// Where the buttons of notices lead.
#[derive(Clone, Debug)]
pub struct Links {
    /// It signs nobody in.
    pub account: String,
    /// Takes back what the notice tells of.
    pub undo: String,
    pub rollout: String,
    pub api_keys: String,
    pub help: String,
}

/// The mail in words. `link_ttl`: how long a sign-in link works.
pub fn write(content: &Content, site: &Site, link_ttl: Duration) -> Result<Mail, MailError> {
    let help_url = &site.link(article(content));
    let account = site.link(routes::ACCOUNT);
    Ok(match content {
        Content::SignIn { token, code, codes_off, asked, application: Some(application) } => {
            let url = application.redirect_url.as_deref().map(|url| with_token(url, &token.reveal())).transpose()?;
            let (name, client_named) = (application.name.as_str().into(), application.client_named);
            let (code, lasting, by) = ((!codes_off).then(|| code.reveal()), format::lasting(link_ttl), By::asked(asked));
            let login_url = site.link(routes::LOGIN);
            SignInElsewhere { application: name, url, code, login_url, lasting, client_named, by }.compose(SIGN_IN, help_url)?
        }
        Content::SignIn { token, code, codes_off, asked, application: None } => {
            let url = format!("{}?token={}", site.link(routes::LOGIN_VERIFY), token.reveal());
            let code = (!codes_off).then(|| code.reveal());
            SignIn { url, code, lasting: format::lasting(link_ttl), by: By::asked(asked) }.compose(SIGN_IN, help_url)?
        }
        Content::NoAccount { .. } => no_account(help_url)?,
        Content::AccountOff { .. } => account_off(help_url)?,
        Content::NotYet { .. } => not_yet(site.legacy_sign_in_url.as_ref().map(Url::as_str), help_url)?,
        Content::Invite { token, inviter } => {
            let url = format!("{}?token={}", site.link(routes::INVITE), token.reveal());
            let lasting = format::count(INVITE_TTL.as_secs() / 86_400, "day");
            Invite { url, inviter: inviter.as_deref().map(Line::from), lasting }.to(site.host(), help_url)?
        }
        Content::StepUp { code, asked } => {
            let (code, lasting, by) = (code.reveal(), format::lasting(STEP_UP_CODE_TTL), By::asked(asked));
            StepUpCode { code, lasting, by, account_url: account }.compose(STEP_UP, help_url)?
        }
        Content::EmailChange { code, asked } => {
            let (code, lasting, by) = (code.reveal(), format::lasting(ADDRESS_CODE_TTL), By::asked(asked));
            EmailChangeCode { code, lasting, by }.compose(EMAIL_CHANGE, help_url)?
        }
        Content::EmailTaken => email_taken(help_url)?,
        Content::Notice { notice: what, at, by, undo } => {
            // What an operator does, no browser has done.
            let by = by.as_ref().map_or_else(
                || By::new("", "", *at),
                |by| By::new(&by.device, by.ip.as_deref().unwrap_or("address not given"), *at),
            );
            let undo = undo
                .as_ref()
                .map_or_else(|| account.clone(), |token| format!("{}?token={}", site.link(routes::UNDO), token.reveal()));
            let (rollout, api_keys) = (site.link(routes::ADMIN_ROLLOUT), site.link(routes::ADMIN_API_KEYS));
            notice(*what, &by, &Links { account, undo, rollout, api_keys, help: help_url.clone() })?
        }
    })
}

/// An application's own page, with the link's token beside whatever its query holds already.
fn with_token(redirect_url: &str, token: &str) -> Result<String, url::ParseError> {
    let mut url = Url::parse(redirect_url)?;
    url.query_pairs_mut().append_pair("token", token);
    Ok(url.into())
}

/// The help article about what a mail tells.
const fn article(content: &Content) -> &'static str {
    match content {
        Content::SignIn { .. } | Content::EmailChange { .. } | Content::EmailTaken => help::EMAIL_I_DIDNT_ASK_FOR,
        Content::NoAccount { .. } => help::NO_EMAIL_NO_ACCOUNT,
        Content::NotYet { .. } => help::NOT_AVAILABLE_YET,
        Content::Invite { .. } => help::INVITATION_DOESNT_WORK_HOW,
        Content::StepUp { .. } => help::CONFIRM_ITS_YOU,
        Content::AccountOff { .. } | Content::Notice { notice: Notice::AccountDisabled, .. } => help::ACCOUNT_TURNED_OFF,
        Content::Notice { notice, .. } => match notice {
            Notice::TwoFactorOn
            | Notice::TwoFactorReset
            | Notice::TwoFactorResetRequested { .. }
            | Notice::TwoFactorResetStopped => help::TWO_FACTOR,
            Notice::BackupCodesNew | Notice::BackupCodesLow { .. } | Notice::BackupCodeUsed { .. } => help::BACKUP_CODES,
            Notice::EmailChanged | Notice::EmailChangeUndone | Notice::DeletionRequested { .. } | Notice::DeletionCancelled => {
                help::TAKE_BACK_A_CHANGE
            }
            Notice::RolloutHeld { .. } => help::ADMIN_ROLLOUT_HELD,
            Notice::RolloutRolledBack { .. } => help::ADMIN_ROLLOUT_ROLLED_BACK,
            Notice::RolloutFinished => help::ADMIN_ROLLOUT,
            Notice::ApiKeyCreated { .. } | Notice::ApiKeyRevoked { .. } | Notice::ApiKeyEnding { .. } => help::ADMIN_API_KEYS,
            Notice::AdminGranted | Notice::AdminRevoked => help::ADMIN_ACCOUNTS,
            Notice::Test => help::ADMIN_MAIL,
            Notice::TwoFactorOff
            | Notice::AuthenticatorAdded
            | Notice::AuthenticatorRemoved
            | Notice::NewSignIn { .. }
            | Notice::SecondStepFailed
            | Notice::AccountDisabled
            | Notice::AccountEnabled
            | Notice::SessionsEnded => help::ACTIVITY_I_DONT_RECOGNISE,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use auth::{
        identity::{Method, Prefix},
        policy::checks::Check,
    };
    use time::macros::datetime;

    const HELP: &str = "https://latchkey.example/help";
    const AT: OffsetDateTime = datetime!(2026-11-24 14:29 UTC);
    const NOTES: &str = "https://notes.example/sign-in?token=t0k";
    const FIREFOX: (&str, &str) = ("Firefox on Windows", "203.0.113.24");
    const CHROME: (&str, &str) = ("Chrome on Android", "192.0.2.188");

    fn by((device, ip): (&str, &str)) -> By {
        By::new(device, ip, AT)
    }

    fn code() -> (String, String) {
        ("482931".to_owned(), "10 minutes".to_owned())
    }

    fn sign_in_from(browser: (&str, &str)) -> askama::Result<Mail> {
        let (url, (code, lasting)) = ("https://latchkey.example/login/verify?token=t0k".to_owned(), code());
        SignIn { url, code: Some(code), lasting, by: by(browser) }.compose(SIGN_IN, HELP)
    }

    fn sign_in_by_link_alone() -> askama::Result<Mail> {
        let (url, (_, lasting)) = ("https://latchkey.example/login/verify?token=t0k".to_owned(), code());
        SignIn { url, code: None, lasting, by: by(FIREFOX) }.compose(SIGN_IN, HELP)
    }

    fn elsewhere_without_code(url: Option<&str>) -> askama::Result<Mail> {
        let (url, (_, lasting), login_url) = (url.map(str::to_owned), code(), "https://latchkey.example/login".to_owned());
        SignInElsewhere { application: "Notes".into(), url, code: None, login_url, lasting, client_named: false, by: by(FIREFOX) }
            .compose(SIGN_IN, HELP)
    }

    fn sign_in_to(application: &str, url: Option<&str>, client: Option<(&str, &str)>) -> askama::Result<Mail> {
        let (url, (code, lasting)) = (url.map(str::to_owned), code());
        let by = by(client.unwrap_or_default());
        let (code, login_url) = (Some(code), "https://latchkey.example/login".to_owned());
        SignInElsewhere { application: application.into(), url, code, login_url, lasting, client_named: client.is_some(), by }
            .compose(SIGN_IN, HELP)
    }

    fn invite_by(inviter: Option<&str>) -> askama::Result<Mail> {
        let url = "https://latchkey.example/invite?token=t0k".to_owned();
        Invite { url, inviter: inviter.map(Line::from), lasting: "7 days".to_owned() }.to("latchkey.example", HELP)
    }

    fn step_up_from(browser: (&str, &str)) -> askama::Result<Mail> {
        let (account_url, (code, lasting)) = ("https://latchkey.example/account".to_owned(), code());
        StepUpCode { code, lasting, by: by(browser), account_url }.compose(STEP_UP, HELP)
    }

    fn email_change_from(browser: (&str, &str)) -> askama::Result<Mail> {
        let (code, lasting) = code();
        EmailChangeCode { code, lasting, by: by(browser) }.compose(EMAIL_CHANGE, HELP)
    }

    fn told(what: Notice, browser: (&str, &str)) -> askama::Result<Mail> {
        let of = |path: &str| format!("https://latchkey.example{path}");
        let (account, undo, rollout) = (of("/account"), of("/undo?token=t0k"), of("/admin/rollout"));
        notice(what, &by(browser), &Links { account, undo, rollout, api_keys: of("/admin/api-keys"), help: HELP.to_owned() })
    }

    #[test]
    fn the_mails_are_as_they_were_read_and_approved() -> askama::Result<()> {
        let prefix = Prefix::parse("lk_k7qdm2xw").expect("a prefix");
        let in_a_week = AT + time::Duration::days(7);
        let notices = [
            ("rollout_held", Notice::RolloutHeld { check: Check::MailDelay }),
            ("rollout_rolled_back", Notice::RolloutRolledBack { check: Check::ServerErrors }),
            ("rollout_finished", Notice::RolloutFinished),
            ("two_factor_on", Notice::TwoFactorOn),
            ("two_factor_off", Notice::TwoFactorOff),
            ("two_factor_reset", Notice::TwoFactorReset),
            ("two_factor_reset_requested", Notice::TwoFactorResetRequested { due_at: Some(in_a_week) }),
            ("two_factor_reset_agreed", Notice::TwoFactorResetRequested { due_at: None }),
            ("two_factor_reset_stopped", Notice::TwoFactorResetStopped),
            ("authenticator_added", Notice::AuthenticatorAdded),
            ("authenticator_removed", Notice::AuthenticatorRemoved),
            ("backup_codes_new", Notice::BackupCodesNew),
            ("backup_codes_left", Notice::BackupCodesLow { left: 2 }),
            ("backup_code_used", Notice::BackupCodeUsed { left: 7 }),
            ("email_changed", Notice::EmailChanged),
            ("email_change_undone", Notice::EmailChangeUndone),
            ("deletion_requested", Notice::DeletionRequested { deletes_at: in_a_week }),
            ("deletion_cancelled", Notice::DeletionCancelled),
            ("account_disabled", Notice::AccountDisabled),
            ("account_enabled", Notice::AccountEnabled),
            ("sessions_ended", Notice::SessionsEnded),
            ("test", Notice::Test),
            ("api_key_created", Notice::ApiKeyCreated { prefix }),
            ("api_key_revoked", Notice::ApiKeyRevoked { prefix }),
            ("api_key_ending", Notice::ApiKeyEnding { prefix, expires_at: in_a_week }),
            ("admin_granted", Notice::AdminGranted),
            ("admin_revoked", Notice::AdminRevoked),
        ];
        let notices =
            notices.into_iter().map(|(name, notice)| Ok((name, told(notice, FIREFOX)?))).collect::<askama::Result<Vec<_>>>()?;
        let others = [
            ("sign_in", sign_in_from(FIREFOX)?),
            ("sign_in_elsewhere", sign_in_to("Notes", Some(NOTES), Some(FIREFOX))?),
            ("sign_in_elsewhere_code", sign_in_to("Notes", None, None)?),
            ("sign_in_codes_off", sign_in_by_link_alone()?),
            ("sign_in_elsewhere_codes_off", elsewhere_without_code(Some(NOTES))?),
            ("sign_in_elsewhere_code_off", elsewhere_without_code(None)?),
            ("no_account", no_account(HELP)?),
            ("account_off", account_off(HELP)?),
            ("not_yet", not_yet(Some("https://old.example/sign-in"), HELP)?),
            ("not_yet_nowhere_else", not_yet(None, HELP)?),
            ("invite", invite_by(Some("ada@example.org"))?),
            ("step_up_code", step_up_from(FIREFOX)?),
            ("email_change_code", email_change_from(FIREFOX)?),
            ("email_taken", email_taken(HELP)?),
            ("new_sign_in", told(Notice::NewSignIn { method: Method::Link, second: None }, CHROME)?),
            ("second_step_failed", told(Notice::SecondStepFailed, CHROME)?),
        ];
        for (name, mail) in others.into_iter().chain(notices) {
            insta::assert_snapshot!(format!("{name}.txt"), format!("Subject: {}\n\n{}", mail.subject, mail.text));
            insta::assert_snapshot!(format!("{name}.html"), mail.html);
        }
        Ok(())
    }

    #[test]
    fn the_code_is_in_neither_subject_nor_preview() -> askama::Result<()> {
        for (mail, words) in [
            (sign_in_from(FIREFOX)?, "Use the button or the code within 10 minutes."),
            (sign_in_to("Notes", Some(NOTES), None)?, "Use the button or the code within 10 minutes."),
            (sign_in_to("Notes", None, None)?, "Use the code within 10 minutes."),
            (step_up_from(FIREFOX)?, "It confirms a change to your account, and works within 10 minutes."),
            (email_change_from(FIREFOX)?, "It moves an account to this address, and works within 10 minutes."),
        ] {
            assert!(!mail.subject.contains("482"));
            let (preview, _) = mail.html.split_once("</div>").unwrap_or_default();
            assert!(preview.contains(words) && !preview.contains("482"));
        }
        Ok(())
    }

    #[test]
    fn backup_codes_run_out_in_words() -> askama::Result<()> {
        assert_eq!(told(Notice::BackupCodesLow { left: 1 }, FIREFOX)?.subject, "1 backup code left");
        let none = told(Notice::BackupCodesLow { left: 0 }, FIREFOX)?;
        assert_eq!(none.subject, "No backup codes left");
        assert!(none.text.contains("You've used 10 of your 10 backup codes. Get a new set: without one"));
        Ok(())
    }

    #[test]
    fn nothing_is_fetched_and_no_link_leads_elsewhere() -> askama::Result<()> {
        for mail in
            [sign_in_from(FIREFOX)?, told(Notice::TwoFactorOn, FIREFOX)?, step_up_from(FIREFOX)?, email_change_from(FIREFOX)?]
        {
            for image in &IMAGES {
                assert_eq!(mail.html.matches(&format!("src=\"cid:{}\"", image.content_id)).count(), 1);
            }
            assert_eq!(mail.html.matches("src=").count(), IMAGES.len());
            let mut links = mail.html.split("href=\"").skip(1);
            assert!(links.all(|link| link.starts_with("https://latchkey.example/")));
        }
        Ok(())
    }

    #[test]
    fn pictures_can_come_inside() -> askama::Result<()> {
        let html = with_pictures(&no_account(HELP)?.html);
        assert_eq!(html.matches("src=\"data:image/png;base64,iVBORw0KGgo").count(), IMAGES.len());
        assert!(!html.contains("cid:"));
        Ok(())
    }

    #[test]
    fn what_others_wrote_is_text_on_one_line() -> askama::Result<()> {
        let hostile = "<a href=x>\r\nOpen https://evil.example instead\u{202e}";
        let both = (hostile, hostile);
        let prefix = Prefix::parse("lk_k7qdm2xw").expect("a prefix");
        for mail in [
            sign_in_from(both)?,
            sign_in_to(hostile, Some(NOTES), Some(both))?,
            sign_in_to(hostile, None, None)?,
            invite_by(Some(hostile))?,
            told(Notice::TwoFactorOff, both)?,
            told(Notice::BackupCodeUsed { left: 7 }, both)?,
            told(Notice::NewSignIn { method: Method::Link, second: None }, both)?,
            told(Notice::SecondStepFailed, both)?,
            told(Notice::EmailChanged, both)?,
            told(Notice::DeletionRequested { deletes_at: AT }, both)?,
            told(Notice::ApiKeyCreated { prefix }, both)?,
            step_up_from(both)?,
            email_change_from(both)?,
        ] {
            assert!(!mail.html.contains("<a href=x>") && mail.html.contains("&#60;a href=x&#62;"));
            assert!(!mail.text.lines().any(|line| line.starts_with("Open https://evil.example")));
            assert!(!mail.text.contains(['\r', '\u{202e}']));
        }
        Ok(())
    }

    #[test]
    fn an_invitation_may_come_from_no_one() -> askama::Result<()> {
        let mail = invite_by(None)?;
        assert!(mail.text.starts_with("You're invited to latchkey.example\n\nYou've been invited. Open this link to accept."));
        Ok(())
    }

    #[test]
    fn a_token_is_added_to_what_an_application_asks_for() {
        for (url, with) in [
            ("https://notes.example/", "https://notes.example/?token=t0k"),
            ("https://notes.example/sign-in", "https://notes.example/sign-in?token=t0k"),
            ("https://notes.example/sign-in?from=mail&x=%26", "https://notes.example/sign-in?from=mail&x=%26&token=t0k"),
            ("http://127.0.0.1:8000/in", "http://127.0.0.1:8000/in?token=t0k"),
        ] {
            assert_eq!(with_token(url, "t0k").expect(url), with);
        }
    }
}
