//! What the command is told.

use std::{net::SocketAddr, time::Duration};

use auth::primitives::email_address::EmailAddress;
use clap::Args;
use url::Url;

#[derive(Debug, Args)]
pub struct Options {
    /// Where people reach the instance, its `BASE_URL`
    #[arg(long, value_name = "URL", value_parser = origin)]
    pub base_url: Url,
    /// The test account: no administrator, without two-factor; where there is none, `SIGNUP` must let it be made
    #[arg(long, value_parser = email)]
    pub email: String,
    #[command(flatten)]
    pub mail: MailFrom,
    /// How long each mail may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub mail_timeout: Duration,
    /// An API key with the scope `users` and no other: it must open that route and none else
    #[arg(long, value_name = "KEY")]
    pub api_key: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct MailFrom {
    /// Where the account's mail is read: `dev-inbox` (the instance's own, on this machine), or an address like
    /// `smtp://127.0.0.1:2525` to take mail at, where the instance's `EMAIL_SMTP` sends it
    #[arg(long, value_name = "WHERE", value_parser = mail_source)]
    pub mailbox: Option<MailSource>,
    /// Ask here for the link and the code of each mail
    #[arg(long)]
    pub paste: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailSource {
    DevInbox,
    Listen(SocketAddr),
}

fn mail_source(text: &str) -> Result<MailSource, String> {
    if text == "dev-inbox" {
        return Ok(MailSource::DevInbox);
    }
    let address = text.strip_prefix("smtp://").and_then(|address| address.trim_end_matches('/').parse().ok());
    address.map(MailSource::Listen).ok_or_else(|| "write dev-inbox, or an address like smtp://127.0.0.1:2525".to_owned())
}

fn origin(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
    let url = url.filter(|url| url.path() == "/" && url.query().is_none() && url.username().is_empty());
    url.ok_or_else(|| "write it like https://login.example.org".to_owned())
}

fn email(text: &str) -> Result<String, String> {
    EmailAddress::parse(text).map(|email| email.as_str().to_owned()).map_err(|_| "write it like name@example.org".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|_| "is no number of seconds".to_owned())
}
