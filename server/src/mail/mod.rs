//! Sending mail: what a mail says becomes a message, and the message goes to a mail server or to the dev inbox.
//!
//! Not here: when a mail is due and what becomes of it (`auth`), and its words and pictures (`app::mails`).
//! To add a mail: its arm in [`mailer`], which names its words and its help article.

pub mod mailer;
mod read_limit;
pub mod smtp;
