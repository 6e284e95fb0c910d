//! Letters become mails: put into words by `app`, sent over SMTP, or kept for the dev inbox.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use app::{help, mails, routes, state::Site, words};
use auth::{
    delivery::{Content, MailSender, OutgoingMail, SendError},
    factors::backup_code,
    one_time::revert_link::EMAIL_CHANGE_UNDO,
    outbox::Notice,
    policy::{ADDRESS_CODE_TTL, INVITE_TTL, STEP_UP_CODE_TTL},
};
use lettre::{
    Address, Message,
    message::{
        Attachment, Body, Mailbox, MultiPart, SinglePart,
        header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue},
    },
};
use url::Url;

use crate::{
    config::Mail,
    dev_inbox::{DevInbox, DevMail},
    smtp::SmtpServer,
    telemetry::traces,
};

/// What providers read as "leave this mail's links and pictures alone". One that counts clicks leads each link through its own
/// servers: it would hold every link that signs somebody in, and its scanners would open them first. Each name and value is the
/// provider's own word for it; to the others they mean nothing.
const NO_TRACKING: [(&str, &str); 8] = [
    // Mailgun: over what is set for the domain.
    ("X-Mailgun-Track-Clicks", "no"),
    ("X-Mailgun-Track-Opens", "no"),
    // Mailjet: over what is set for the account.
    ("X-Mailjet-TrackClick", "0"),
    ("X-Mailjet-TrackOpen", "0"),
    // Postmark: its setting for opens stands over this one, the setting for links does not.
    ("X-PM-TrackLinks", "None"),
    ("X-PM-TrackOpens", "false"),
    // SendGrid and SparkPost.
    ("X-SMTPAPI", r#"{"filters":{"clicktrack":{"settings":{"enable":0}},"opentrack":{"settings":{"enable":0}}}}"#),
    ("X-MSYS-API", r#"{"options":{"click_tracking":false,"open_tracking":false}}"#),
];

pub struct MailRoom {
    transport: Transport,
    from: Mailbox,
    site: Site,
    link_ttl: Duration,
}

enum Transport {
    Smtp(SmtpServer),
    DevInbox(Arc<DevInbox>),
}

impl MailRoom {
    pub fn new(
        mail: &Mail,
        dev_inbox: Option<Arc<DevInbox>>,
        from: Mailbox,
        site: Site,
        link_ttl: Duration,
    ) -> anyhow::Result<Self> {
        let transport = match (mail, dev_inbox) {
            (Mail::Smtp(smtp), _) => Transport::Smtp(SmtpServer::new(smtp, site.host().to_owned())?),
            (Mail::DevInbox, Some(inbox)) => Transport::DevInbox(inbox),
            (Mail::DevInbox, None) => anyhow::bail!("there is no mail server, and no dev inbox to keep mail in"),
        };
        Ok(Self { transport, from, site, link_ttl })
    }

    fn words(&self, content: &Content) -> anyhow::Result<mails::Mail> {
        let help_url = &self.site.link(article(content));
        let rollout_url = &self.site.link(routes::ADMIN_ROLLOUT);
        let keys_url = &self.site.link(routes::ADMIN_API_KEYS);
        let links = &mails::Links { account_url: &self.site.link(routes::ACCOUNT), help_url };
        Ok(match content {
            Content::SignIn { token, code, asked, application: Some(application) } => {
                let url = application.redirect_url.as_deref().map(|url| with_token(url, &token.reveal())).transpose()?;
                mails::sign_in_elsewhere(&mails::SignInElsewhere {
                    application: &application.name,
                    url: url.as_deref(),
                    code: &code.reveal(),
                    lifetime: self.link_ttl,
                    client: application.client_named.then_some((&asked.device, &asked.ip)),
                    asked_at: asked.at,
                    help_url,
                })?
            }
            Content::SignIn { token, code, asked, application: None } => mails::sign_in(&mails::SignIn {
                url: &format!("{}?token={}", self.site.link(routes::LOGIN_VERIFY), token.reveal()),
                code: &code.reveal(),
                lifetime: self.link_ttl,
                device: &asked.device,
                ip: &asked.ip,
                asked_at: asked.at,
                help_url,
            })?,
            Content::NoAccount { .. } => mails::no_account(help_url)?,
            Content::AccountOff { .. } => mails::account_off(help_url)?,
            Content::NotYet { .. } => mails::not_yet(self.site.legacy_sign_in_url.as_ref().map(Url::as_str), help_url)?,
            Content::Invite { token, inviter } => mails::invite(&mails::Invite {
                url: &format!("{}?token={}", self.site.link(routes::INVITE), token.reveal()),
                inviter: inviter.as_deref(),
                host: self.site.host(),
                days: INVITE_TTL.as_secs() / 86_400,
                help_url,
            })?,
            Content::StepUp { code, asked } => {
                let by = mails::By { device: &asked.device, ip: &asked.ip, at: asked.at };
                mails::step_up_code(links, &mails::StepUpCode { code: &code.reveal(), lifetime: STEP_UP_CODE_TTL, by })?
            }
            Content::EmailChange { code, asked } => {
                let by = mails::By { device: &asked.device, ip: &asked.ip, at: asked.at };
                let code = &code.reveal();
                mails::email_change_code(help_url, &mails::StepUpCode { code, lifetime: ADDRESS_CODE_TTL, by })?
            }
            Content::EmailTaken => mails::email_taken(help_url)?,
            Content::Notice { notice, at, by, undo } => {
                // What an operator does, no browser has done.
                let (device, ip) = by.as_ref().map_or(("", ""), |by| (&by.device, &by.ip));
                let by = &mails::By { device, ip, at: *at };
                let undo_url = &undo.as_ref().map_or_else(
                    || links.account_url.to_owned(),
                    |token| format!("{}?token={}", self.site.link(routes::UNDO), token.reveal()),
                );
                match *notice {
                    Notice::TwoFactorOn => mails::two_factor_on(links)?,
                    Notice::TwoFactorOff => mails::two_factor_off(links, by)?,
                    Notice::TwoFactorReset => mails::two_factor_reset(links, *at)?,
                    Notice::AuthenticatorAdded => mails::authenticator_added(links, by)?,
                    Notice::AuthenticatorRemoved => mails::authenticator_removed(links, by)?,
                    Notice::BackupCodesNew => mails::backup_codes_new(links, *at)?,
                    Notice::BackupCodesLow { left } => {
                        mails::backup_codes_left(links, left.unsigned_abs(), backup_code::SET as u64)?
                    }
                    Notice::BackupCodeUsed { left } => mails::backup_code_used(links, left.unsigned_abs(), by)?,
                    Notice::NewSignIn { method, second } => {
                        mails::new_sign_in(links, undo_url, &words::sign_in_method(method, second), by)?
                    }
                    Notice::SecondStepFailed => mails::second_step_failed(links, by)?,
                    Notice::EmailChanged => mails::email_changed(links, undo_url, EMAIL_CHANGE_UNDO.as_secs() / 3_600, by)?,
                    Notice::EmailChangeUndone => mails::email_change_undone(links, *at)?,
                    Notice::DeletionRequested { deletes_at } => mails::deletion_requested(links, undo_url, deletes_at, by)?,
                    Notice::DeletionCancelled => mails::deletion_cancelled(links, *at)?,
                    Notice::AccountDisabled => mails::account_disabled(links, *at)?,
                    Notice::AccountEnabled => mails::account_enabled(links, *at)?,
                    Notice::SessionsEnded => mails::sessions_ended(links, *at)?,
                    Notice::Test => mails::test(links, *at)?,
                    Notice::RolloutHeld { check } => mails::rollout_held(rollout_url, help_url, check)?,
                    Notice::RolloutRolledBack { check } => mails::rollout_rolled_back(rollout_url, help_url, check)?,
                    Notice::RolloutFinished => mails::rollout_finished(rollout_url, help_url)?,
                    Notice::ApiKeyCreated { prefix } => mails::api_key_created(links, &prefix.to_string(), by)?,
                    Notice::ApiKeyRevoked { prefix } => mails::api_key_revoked(links, &prefix.to_string(), *at)?,
                    Notice::ApiKeyEnding { prefix, expires_at } => {
                        mails::api_key_ending(keys_url, help_url, &prefix.to_string(), expires_at)?
                    }
                    Notice::AdminGranted => mails::admin_granted(links, *at)?,
                    Notice::AdminRevoked => mails::admin_revoked(links, *at)?,
                }
            }
        })
    }

    /// The whole message. Every header is built by the library from typed parts; no text of a stranger's reaches one.
    fn message(&self, letter: &OutgoingMail, mail: mails::Mail) -> anyhow::Result<Message> {
        let to: Address = letter.to.as_str().parse().context("the address")?;
        let mut html = MultiPart::related().singlepart(
            SinglePart::builder().header(ContentType::TEXT_HTML).header(ContentTransferEncoding::QuotedPrintable).body(mail.html),
        );
        for image in &mails::IMAGES {
            let body = Body::new(image.asset.raw.to_vec());
            html = html.singlepart(
                Attachment::new_inline(image.content_id.to_owned()).body(body, "image/png".parse().context("the image's type")?),
            );
        }
        let text =
            SinglePart::builder().header(ContentType::TEXT_PLAIN).header(ContentTransferEncoding::QuotedPrintable).body(mail.text);
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(mail.subject)
            // Named after the letter, so that a second sending is the same mail.
            .message_id(Some(format!("<{}@{}>", letter.id, self.site.host())))
            .date(std::time::SystemTime::from(letter.queued_at))
            // RFC 3834 §5.1: keeps out-of-office notes from answering.
            .raw_header(raw("Auto-Submitted", "auto-generated"));
        NO_TRACKING
            .into_iter()
            .fold(message, |message, (name, value)| message.raw_header(raw(name, value)))
            .multipart(MultiPart::alternative().singlepart(text).multipart(html))
            .context("the message")
    }
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
            Notice::TwoFactorOn | Notice::TwoFactorReset => help::TWO_FACTOR,
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

/// An application's own page, with the link's token beside whatever its query holds already.
fn with_token(redirect_url: &str, token: &str) -> anyhow::Result<String> {
    let mut url = Url::parse(redirect_url).context("the redirect URL")?;
    url.query_pairs_mut().append_pair("token", token);
    Ok(url.into())
}

fn raw(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

impl MailSender for MailRoom {
    async fn send(&self, letter: OutgoingMail) -> Result<(), SendError> {
        // What can't be put into words or headers now can't be later.
        let mail = self.words(&letter.content).map_err(|error| SendError::Permanent(error.to_string()))?;
        match &self.transport {
            Transport::DevInbox(inbox) => {
                inbox.keep(DevMail {
                    to: letter.to.as_str().to_owned(),
                    subject: mail.subject,
                    text: mail.text,
                    html: mail.html,
                    at: letter.queued_at,
                });
                Ok(())
            }
            Transport::Smtp(server) => {
                let message = self.message(&letter, mail).map_err(|error| SendError::Permanent(format!("{error:#}")))?;
                traces::mail(letter.id, Box::pin(server.send(&message))).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use auth::delivery::Content;
    use time::macros::datetime;

    use super::*;

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

    /// Line by line as they are sent, except for what is different each time: a link that passes through here works once, so nobody
    /// on the way may be told to open it first.
    #[tokio::test]
    async fn the_headers_are_these_and_no_others() {
        let base_url = Url::parse("https://latchkey.example").expect("a URL");
        let site = Site { base_url, sender: String::new(), legacy_sign_in_url: None, forward_auth: None };
        let room = MailRoom {
            transport: Transport::DevInbox(Arc::default()),
            from: "Latchkey <sign-in@latchkey.example>".parse().expect("a sender"),
            site,
            link_ttl: Duration::from_mins(10),
        };
        let letter = OutgoingMail {
            id: uuid::Uuid::nil(),
            to: "mara@example.org".parse().expect("an address"),
            queued_at: datetime!(2026-11-24 14:29 UTC),
            content: Content::EmailTaken,
        };
        let words = room.words(&letter.content).expect("words");
        let message = room.message(&letter, words).expect("a message").formatted();
        let message = String::from_utf8(message).expect("ASCII");
        let (headers, _) = message.split_once("\r\n\r\n").expect("headers");
        let (headers, content_type) = headers.split_once("Content-Type: ").expect("a type");
        assert_eq!(
            headers.lines().collect::<Vec<_>>(),
            [
                "From: Latchkey <sign-in@latchkey.example>",
                "To: mara@example.org",
                "Subject: This address already has an account",
                "Message-ID: <00000000-0000-0000-0000-000000000000@latchkey.example>",
                "Date: Tue, 24 Nov 2026 14:29:00 +0000",
                "Auto-Submitted: auto-generated",
                "X-Mailgun-Track-Clicks: no",
                "X-Mailgun-Track-Opens: no",
                "X-Mailjet-TrackClick: 0",
                "X-Mailjet-TrackOpen: 0",
                "X-PM-TrackLinks: None",
                "X-PM-TrackOpens: false",
                r#"X-SMTPAPI: {"filters":{"clicktrack":{"settings":{"enable":0}},"opentrack":{"settings":{"enable":0}}}}"#,
                r#"X-MSYS-API: {"options":{"click_tracking":false,"open_tracking":false}}"#,
                "MIME-Version: 1.0",
            ]
        );
        assert!(content_type.starts_with("multipart/alternative;"), "{content_type}");
    }
}
