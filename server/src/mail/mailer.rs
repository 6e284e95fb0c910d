//! Outgoing mails: put into words by `app`, sent over SMTP, or kept for the dev inbox.

#[cfg(feature = "development")]
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use app::{http::state::Site, mails};
use auth::delivery::{MailSender, OutgoingMail, SendError};
use lettre::{
    Address, Message,
    message::{
        Attachment, Body, Mailbox, MultiPart, SinglePart,
        header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue},
    },
};

use super::smtp::{SmtpServer, hello};
#[cfg(feature = "development")]
use crate::http::dev_inbox::{DevInbox, DevMail};
use crate::{config::Mail, telemetry::traces};

/// What providers read as "leave this mail's links and pictures alone". One that counts clicks leads each link through its own
/// servers: it would have every sign-in link, and its scanners would open them first. Each name and value is the
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

pub struct MailService {
    transport: Transport,
    from: Mailbox,
    site: Site,
    link_ttl: Duration,
}

enum Transport {
    Smtp(SmtpServer),
    #[cfg(feature = "development")]
    DevInbox(Arc<DevInbox>),
}

impl MailService {
    pub fn new(mail: &Mail, from: Mailbox, site: Site, link_ttl: Duration) -> anyhow::Result<Self> {
        let transport = match mail {
            Mail::Smtp(smtp) => Transport::Smtp(SmtpServer::new(smtp, hello(&site.base_url.host().context("a host")?))?),
            #[cfg(feature = "development")]
            Mail::DevInbox => Transport::DevInbox(Arc::default()),
        };
        Ok(Self { transport, from, site, link_ttl })
    }

    /// Where its mails are kept, if no mail server gets them.
    #[cfg(feature = "development")]
    pub fn inbox(&self) -> Option<&Arc<DevInbox>> {
        match &self.transport {
            Transport::DevInbox(inbox) => Some(inbox),
            Transport::Smtp(_) => None,
        }
    }

    /// The whole message. Every header is built by the library from typed parts; no text of a stranger's reaches one.
    fn message(&self, outgoing: &OutgoingMail, mail: mails::Mail) -> anyhow::Result<Message> {
        let to: Address = outgoing.to.as_str().parse().context("the address")?;
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
            // Named after the row in the outbox, so that a second sending is the same mail.
            .message_id(Some(format!("<{}@{}>", outgoing.id, self.site.host())))
            .date(std::time::SystemTime::from(outgoing.queued_at))
            // RFC 3834 §5.1: keeps out-of-office notes from answering.
            .raw_header(raw("Auto-Submitted", "auto-generated"));
        NO_TRACKING
            .into_iter()
            .fold(message, |message, (name, value)| message.raw_header(raw(name, value)))
            .multipart(MultiPart::alternative().singlepart(text).multipart(html))
            .context("the message")
    }
}

fn raw(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

impl MailSender for MailService {
    async fn send(&self, outgoing: OutgoingMail) -> Result<(), SendError> {
        // What can't be put into words or headers now can't be later.
        let mail =
            mails::write(&outgoing.content, &self.site, self.link_ttl).map_err(|error| SendError::Permanent(error.to_string()))?;
        match &self.transport {
            #[cfg(feature = "development")]
            Transport::DevInbox(inbox) => {
                inbox.keep(DevMail {
                    to: outgoing.to.as_str().to_owned(),
                    subject: mail.subject,
                    text: mail.text,
                    html: mail.html,
                    at: outgoing.queued_at,
                });
                Ok(())
            }
            Transport::Smtp(server) => {
                let message = self.message(&outgoing, mail).map_err(|error| SendError::Permanent(format!("{error:#}")))?;
                traces::mail(outgoing.id, Box::pin(server.send(&message))).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use auth::delivery::Content;
    use time::macros::datetime;
    use url::Url;

    use super::*;

    /// Line by line as they are sent, except for what is different each time: a link that passes through here works once, so nobody
    /// on the way may be told to open it first.
    #[tokio::test]
    async fn the_headers_are_these_and_no_others() {
        let base_url = Url::parse("https://latchkey.example").expect("a URL");
        let site = Site { base_url, sender: String::new(), legacy_sign_in_url: None, forward_auth: None };
        let sender = MailService {
            transport: Transport::DevInbox(Arc::default()),
            from: "Latchkey <sign-in@latchkey.example>".parse().expect("a sender"),
            site,
            link_ttl: Duration::from_mins(10),
        };
        let outgoing = OutgoingMail {
            id: uuid::Uuid::nil(),
            to: "mara@example.org".parse().expect("an address"),
            queued_at: datetime!(2026-11-24 14:29 UTC),
            content: Content::EmailTaken,
        };
        let words = mails::write(&outgoing.content, &sender.site, sender.link_ttl).expect("words");
        let message = sender.message(&outgoing, words).expect("a message").formatted();
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
