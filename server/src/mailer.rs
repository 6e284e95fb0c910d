//! Letters become mails: put into words by `app`, sent over SMTP, or kept for the dev inbox.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use app::{mails, routes, state::Site, words};
use auth::{
    backup_code,
    mail::{Content, Letter, Mailer, Notice, SendError},
    policy::{ADDRESS_CODE_TTL, INVITE_TTL, STEP_UP_CODE_TTL},
    undo::EMAIL_CHANGE_UNDO,
};
use lettre::{
    Address, Message,
    message::{
        Attachment, Body, Mailbox, MultiPart, SinglePart,
        header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue},
    },
};

use crate::{
    config::Mail,
    dev_inbox::{DevInbox, DevMail},
    smtp::SmtpServer,
};

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
        let help_url = &self.site.link(routes::HELP);
        let links = &mails::Links { account_url: &self.site.link(routes::ACCOUNT), help_url };
        Ok(match content {
            Content::SignIn { token, code, asked } => mails::sign_in(&mails::SignIn {
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
                    Notice::AdminGranted => mails::admin_granted(links, *at)?,
                    Notice::AdminRevoked => mails::admin_revoked(links, *at)?,
                }
            }
        })
    }

    /// The whole message. Every header is built by the library from typed parts; no text of a stranger's reaches one.
    fn message(&self, letter: &Letter, mail: mails::Mail) -> anyhow::Result<Message> {
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
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(mail.subject)
            // Named after the letter, so that a second sending is the same mail.
            .message_id(Some(format!("<{}@{}>", letter.id, self.site.host())))
            .date(std::time::SystemTime::from(letter.queued_at))
            // RFC 3834 §5.1: keeps out-of-office notes from answering.
            .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()))
            .multipart(MultiPart::alternative().singlepart(text).multipart(html))
            .context("the message")
    }
}

impl Mailer for MailRoom {
    async fn send(&self, letter: Letter) -> Result<(), SendError> {
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
                server.send(&message).await
            }
        }
    }
}
