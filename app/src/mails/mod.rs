//! The mails, as HTML and as plain text.
//!
//! To add one: its two templates in `templates/mails/`, a function here, and a snapshot of both parts. The HTML part shows
//! nothing remote: the logo travels with it ([`IMAGES`]). What others have a say in (devices, addresses, names) goes through
//! `one_line`, so that it can't pass for lines of ours.
//!
//! The pictures are `public/logo.svg` and `public/logo-dark.svg` at twice their size. The light one has a white edge, unseen on
//! white, that keeps it readable where a mail program darkens the page but not the pictures.

use std::time::Duration;

use askama::Template;
use data_encoding::BASE64;
use time::OffsetDateTime;

use crate::{
    assets::{Asset, MAIL_LOGO_DARK_PNG, MAIL_LOGO_PNG},
    words,
};

/// A mail without its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    pub subject: String,
    pub text: String,
    pub html: String,
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

/// The same for known and unknown addresses.
const SIGN_IN: &str = "Sign in to Latchkey";

#[derive(Clone, Debug)]
pub struct SignIn<'a> {
    pub url: &'a str,
    /// As it is read: "482 931".
    pub code: &'a str,
    /// How long link and code work.
    pub lifetime: Duration,
    pub device: &'a str,
    pub ip: &'a str,
    pub asked_at: OffsetDateTime,
    pub help_url: &'a str,
}

impl SignIn<'_> {
    fn lasting(&self) -> String {
        words::lasting(self.lifetime)
    }

    fn device(&self) -> String {
        one_line(self.device)
    }

    fn ip(&self) -> String {
        one_line(self.ip)
    }

    fn at(&self) -> String {
        words::time_on_date(self.asked_at)
    }
}

/// The link and the code.
pub fn sign_in(mail: &SignIn<'_>) -> askama::Result<Mail> {
    let (subject, help_url) = (SIGN_IN, mail.help_url);
    compose(subject, &SignInHtml { subject, help_url, mail }, &SignInText { subject, mail })
}

#[derive(Template)]
#[template(path = "mails/sign_in.html")]
struct SignInHtml<'a> {
    subject: &'a str,
    help_url: &'a str,
    mail: &'a SignIn<'a>,
}

#[derive(Template)]
#[template(path = "mails/sign_in.txt")]
struct SignInText<'a> {
    subject: &'a str,
    mail: &'a SignIn<'a>,
}

/// For an address nobody has an account with: the page said that a mail was sent, so one is.
pub fn no_account(help_url: &str) -> askama::Result<Mail> {
    notice(
        "Someone asked to sign in with this address, but there's no account for it.",
        "If it was you, try the address you signed up with. If not, ignore this email.",
        help_url,
    )
}

/// For an account that is turned off.
pub fn account_off(help_url: &str) -> askama::Result<Mail> {
    notice(
        "Someone asked to sign in with this address, but its account is turned off.",
        "If it was you, ask whoever runs this service to turn it back on. If not, ignore this email.",
        help_url,
    )
}

fn notice(what: &str, advice: &str, help_url: &str) -> askama::Result<Mail> {
    let subject = SIGN_IN;
    compose(subject, &NoticeHtml { subject, help_url, what, advice }, &NoticeText { subject, what, advice })
}

#[derive(Template)]
#[template(path = "mails/notice.html")]
struct NoticeHtml<'a> {
    subject: &'a str,
    help_url: &'a str,
    what: &'a str,
    advice: &'a str,
}

#[derive(Template)]
#[template(path = "mails/notice.txt")]
struct NoticeText<'a> {
    subject: &'a str,
    what: &'a str,
    advice: &'a str,
}

#[derive(Clone, Debug)]
pub struct Invite<'a> {
    pub url: &'a str,
    pub inviter: Option<&'a str>,
    /// What one is invited to.
    pub host: &'a str,
    pub days: u64,
    pub help_url: &'a str,
}

impl Invite<'_> {
    fn who(&self) -> String {
        self.inviter.map_or_else(|| "You've been invited.".to_owned(), |inviter| format!("{} invited you.", one_line(inviter)))
    }

    fn lasting(&self) -> String {
        words::count(self.days, "day")
    }
}

pub fn invite(mail: &Invite<'_>) -> askama::Result<Mail> {
    let (subject, help_url) = (&format!("You're invited to {}", mail.host), mail.help_url);
    compose(subject, &InviteHtml { subject, help_url, mail }, &InviteText { subject, mail })
}

#[derive(Template)]
#[template(path = "mails/invite.html")]
struct InviteHtml<'a> {
    subject: &'a str,
    help_url: &'a str,
    mail: &'a Invite<'a>,
}

#[derive(Template)]
#[template(path = "mails/invite.txt")]
struct InviteText<'a> {
    subject: &'a str,
    mail: &'a Invite<'a>,
}

fn compose(subject: &str, html: &impl Template, text: &impl Template) -> askama::Result<Mail> {
    Ok(Mail { subject: subject.to_owned(), text: text.render()? + "\n", html: html.render()? + "\n" })
}

/// One line of plain characters: no line breaks that would begin a sentence of ours, and no marks that turn its direction.
fn one_line(text: &str) -> String {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.replace(|c: char| c.is_control() || turns(c), " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const HELP: &str = "https://latchkey.example/help";

    fn sign_in_from(device: &str, ip: &str) -> askama::Result<Mail> {
        sign_in(&SignIn {
            url: "https://latchkey.example/login/verify?token=t0k",
            code: "482 931",
            lifetime: Duration::from_mins(10),
            device,
            ip,
            asked_at: datetime!(2026-11-24 14:29 UTC),
            help_url: HELP,
        })
    }

    fn invite_by(inviter: Option<&str>) -> askama::Result<Mail> {
        let url = "https://latchkey.example/invite?token=t0k";
        invite(&Invite { url, inviter, host: "latchkey.example", days: 7, help_url: HELP })
    }

    #[test]
    fn the_mails_are_as_they_were_read_and_approved() -> askama::Result<()> {
        for (name, mail) in [
            ("sign_in", sign_in_from("Firefox on Windows", "203.0.113.24")?),
            ("no_account", no_account(HELP)?),
            ("account_off", account_off(HELP)?),
            ("invite", invite_by(Some("ada@example.org"))?),
        ] {
            insta::assert_snapshot!(format!("{name}.txt"), format!("Subject: {}\n\n{}", mail.subject, mail.text));
            insta::assert_snapshot!(format!("{name}.html"), mail.html);
        }
        Ok(())
    }

    #[test]
    fn the_code_is_in_neither_subject_nor_preview() -> askama::Result<()> {
        let mail = sign_in_from("Firefox on Windows", "203.0.113.24")?;
        assert!(!mail.subject.contains("482"));
        let (preview, _) = mail.html.split_once("</div>").unwrap_or_default();
        assert!(preview.contains("Use the button or the code within 10 minutes.") && !preview.contains("482"));
        Ok(())
    }

    #[test]
    fn nothing_is_fetched_and_no_link_leads_elsewhere() -> askama::Result<()> {
        let mail = sign_in_from("Firefox on Windows", "203.0.113.24")?;
        for image in &IMAGES {
            assert_eq!(mail.html.matches(&format!("src=\"cid:{}\"", image.content_id)).count(), 1);
        }
        assert_eq!(mail.html.matches("src=").count(), IMAGES.len());
        let mut links = mail.html.split("href=\"").skip(1);
        assert!(links.all(|link| link.starts_with("https://latchkey.example/")));
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
        for mail in [sign_in_from(hostile, hostile)?, invite_by(Some(hostile))?] {
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
}
