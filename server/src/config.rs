//! The configuration: read once, at start, from the environment; after that a plain value that is passed along.
//!
//! This is the only place that reads the environment. Everything wrong with it is found and told at once, one line a
//! mistake, so that nobody mends a deployment one restart at a time.
//!
//! A new variable is one line in [`variables`], one field of [`Config`] with the line that reads it, and its entry in
//! `.env.example`; tests fail while one of them is missing.

mod check;
mod development_key;
mod environment;
mod reader;
mod secret;
mod values;
mod variables;

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use lettre::message::Mailbox;
use serde::Serialize;
use url::{Host, Url};

pub use self::{
    check::{check_command, describe},
    development_key::development_key,
    environment::Environment,
    reader::{Mistake, Mistakes, Setting, Source},
    secret::Secret,
    values::{BaseUrl, Limit, Signup, Smtp, SmtpCredentials, SmtpTls},
};
use self::{reader::Reader, values::Parsed};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AppEnv {
    Development,
    Production,
}

impl AppEnv {
    /// A release build that nobody configured refuses what is unsafe; a developer's build just runs.
    pub const OF_THIS_BUILD: Self = if cfg!(debug_assertions) { Self::Development } else { Self::Production };

    fn parse(text: &str) -> Parsed<Self> {
        match text {
            "development" => Ok(Self::Development),
            "production" => Ok(Self::Production),
            _ => Err("is no environment of ours".to_owned()),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Config {
    pub app_env: AppEnv,
    pub database: Database,
    pub data_dir: PathBuf,
    pub migrate_on_start: bool,
    pub listen_addr: SocketAddr,
    pub ops_listen_addr: Option<SocketAddr>,
    pub base_url: BaseUrl,
    pub trusted_proxies: Vec<IpNet>,
    pub mail: Mail,
    pub mail_from: Mailbox,
    pub wallet_key: Key,
    /// Still readable; nothing new is encrypted under them.
    pub wallet_keys_previous: Vec<Secret<[u8; 32]>>,
    /// The flag where the table holds no row for it.
    pub passwordless_auth: bool,
    pub legacy_sign_in_url: Option<Url>,
    pub signup: Signup,
    pub magic_link_ttl: Duration,
    pub session_idle: Duration,
    pub session_max: Duration,
    pub limits: Limits,
    pub log_format: LogFormat,
    /// Directives of `tracing_subscriber::EnvFilter`, known to parse.
    pub log_filter: String,
    /// What doesn't stop the start but is worth a line in the log.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug)]
pub enum Database {
    /// Development: a cluster of our own.
    Private {
        /// A folder below `DATA_DIR`, for the cluster alone.
        data_dir: PathBuf,
        /// `PG_BIN`: where PostgreSQL's programs lie.
        bin_dir: Option<PathBuf>,
        /// `PATH`, to look for them.
        search_path: Option<OsString>,
    },
    Url {
        application: Secret<String>,
        /// The schema owner's; the same where there is but one role.
        migrator: Secret<String>,
    },
}

#[derive(Clone, Debug)]
pub enum Mail {
    /// Mails are shown at `/dev/inbox`, to this machine only.
    DevInbox,
    Smtp(Smtp),
}

#[derive(Clone, Debug)]
pub enum Key {
    /// Development: see [`development_key`].
    Generate,
    Given(Secret<[u8; 32]>),
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `false` for load tests only.
    pub enforced: bool,
    pub link_address_network: Limit,
    pub link_address: Limit,
    pub link_known_browser: Limit,
    pub link_network: Limit,
    pub link_all: Limit,
    pub code_network: Limit,
    pub signup_network: Limit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, else JSON.
    Auto,
    Pretty,
    Json,
}

/// What was found in the environment: the configuration or what is wrong with it, and where each value came from.
pub struct Examined {
    pub settings: Vec<Setting>,
    pub warnings: Vec<String>,
    pub config: Result<Config, Mistakes>,
}

pub fn load(environment: &Environment) -> Result<Config, Mistakes> {
    examine(environment).config
}

pub fn examine(environment: &Environment) -> Examined {
    examine_for(environment, AppEnv::OF_THIS_BUILD)
}

fn examine_for(environment: &Environment, build: AppEnv) -> Examined {
    let mut read = Reader::new(environment, build);
    let mut warnings = unknown_variables(environment);

    let app_env = read.app_env(AppEnv::parse);
    let production = app_env == AppEnv::Production;

    let application = read.optional("DATABASE_URL", values::database_url);
    let migrator = read.optional("DATABASE_MIGRATOR_URL", values::database_url);
    let data_dir = read.required("DATA_DIR", |text| Ok(PathBuf::from(text)));
    let bin_dir = read.optional("PG_BIN", |text| Ok(PathBuf::from(text)));
    let database = database(&mut read, production, application, migrator, || {
        Some(Database::Private {
            data_dir: data_dir.clone()?.join("postgres"),
            bin_dir: bin_dir?,
            search_path: environment.get("PATH").map(OsString::from),
        })
    });
    let migrate_on_start = read.required("MIGRATE_ON_START", values::truth);

    let listen_addr = read.required("LISTEN_ADDR", socket_address);
    let ops_listen_addr = read.optional("OPS_LISTEN_ADDR", socket_address);
    if let (Some(pages), Some(Some(ops))) = (listen_addr, ops_listen_addr)
        && pages == ops
        && pages.port() != 0
    {
        read.mistake("OPS_LISTEN_ADDR", "is LISTEN_ADDR; health and metrics need a listener of their own");
    }
    let base_url = base_url(&mut read, production, listen_addr);
    let trusted_proxies = read.optional("TRUSTED_PROXIES", |text| trusted_proxies(text, production)).map(Option::unwrap_or_default);

    let smtp = read.optional("EMAIL_SMTP", values::smtp);
    let mail = mail(&mut read, production, smtp, base_url.as_ref());
    let mail_from = mail_from(&mut read, base_url.as_ref());
    if base_url.as_ref().is_some_and(|url| !url.is_https() && !url.is_loopback()) && !production {
        warnings.push(
            "BASE_URL is plain http off this machine: browsers drop our cookies there, so nobody can sign in; use https".to_owned(),
        );
    }

    let wallet_key = read.optional("WALLET_ENCRYPTION_KEY", |text| wallet_key(text, production));
    let wallet_key = match wallet_key {
        Some(None) if production => read.missing("WALLET_ENCRYPTION_KEY"),
        Some(key) => Some(key.map_or(Key::Generate, Key::Given)),
        None => None,
    };
    let wallet_keys_previous = read.optional("WALLET_ENCRYPTION_KEY_PREVIOUS", values::keys).map(Option::unwrap_or_default);

    let passwordless_auth = read.required("FEATURE_PASSWORDLESS_AUTH", values::truth);
    let legacy_sign_in_url = read.optional("LEGACY_SIGN_IN_URL", values::http_url);
    let signup = read.required("SIGNUP", values::signup);

    let magic_link_ttl = read.required("MAGIC_LINK_TTL", |text| magic_link_ttl(text, production));
    let session_idle = read.required("SESSION_IDLE", session_idle);
    let session_max = read.required("SESSION_MAX", values::duration);
    if let (Some(idle), Some(max)) = (session_idle, session_max)
        && idle > max
    {
        read.mistake("SESSION_IDLE", "is longer than SESSION_MAX, so it would never end a session");
    }

    let enforced = read.required("LIMITS", |text| match values::switch(text)? {
        false if production => Err("must be on in production; off is for load tests".to_owned()),
        enforced => Ok(enforced),
    });
    let link_address_network = read.required("LIMIT_LINK_ADDRESS_NETWORK", values::limit);
    let link_address = read.required("LIMIT_LINK_ADDRESS", values::limit);
    let link_known_browser = read.required("LIMIT_LINK_KNOWN_BROWSER", values::limit);
    let link_network = read.required("LIMIT_LINK_NETWORK", values::limit);
    let link_all = read.required("LIMIT_LINK_ALL", values::limit);
    let code_network = read.required("LIMIT_CODE_NETWORK", values::limit);
    let signup_network = read.required("LIMIT_SIGNUP_NETWORK", values::limit);

    let log_format = read.optional("LOG_FORMAT", log_format).map(|format| format.unwrap_or(LogFormat::Auto));
    let log_filter = read.required("RUST_LOG", log_filter);

    let (settings, mistakes) = read.finish();
    // A value is missing exactly where a mistake was noted.
    let config = || {
        Some(Config {
            app_env,
            database: database?,
            data_dir: data_dir?,
            migrate_on_start: migrate_on_start?,
            listen_addr: listen_addr?,
            ops_listen_addr: ops_listen_addr?,
            base_url: base_url?,
            trusted_proxies: trusted_proxies?,
            mail: mail?,
            mail_from: mail_from?,
            wallet_key: wallet_key?,
            wallet_keys_previous: wallet_keys_previous?,
            passwordless_auth: passwordless_auth?,
            legacy_sign_in_url: legacy_sign_in_url?,
            signup: signup?,
            magic_link_ttl: magic_link_ttl?,
            session_idle: session_idle?,
            session_max: session_max?,
            limits: Limits {
                enforced: enforced?,
                link_address_network: link_address_network?,
                link_address: link_address?,
                link_known_browser: link_known_browser?,
                link_network: link_network?,
                link_all: link_all?,
                code_network: code_network?,
                signup_network: signup_network?,
            },
            log_format: log_format?,
            log_filter: log_filter?,
            warnings: warnings.clone(),
        })
    };
    let config = if mistakes.is_empty() { config().ok_or(mistakes) } else { Err(mistakes) };
    Examined { settings, warnings, config }
}

fn unknown_variables(environment: &Environment) -> Vec<String> {
    let mut warnings: Vec<String> = environment.names().filter_map(variables::misnamed).collect();
    warnings.sort_unstable();
    warnings
}

fn database(
    read: &mut Reader<'_>,
    production: bool,
    application: Option<Option<Secret<String>>>,
    migrator: Option<Option<Secret<String>>>,
    private: impl FnOnce() -> Option<Database>,
) -> Option<Database> {
    match (application?, migrator?) {
        (None, _) if production => read.missing("DATABASE_URL"),
        (None, Some(_)) => {
            read.mistake("DATABASE_MIGRATOR_URL", "is set without DATABASE_URL; set both, or neither for a private database");
            None
        }
        (None, None) => private(),
        (Some(application), migrator) => {
            Some(Database::Url { migrator: migrator.unwrap_or_else(|| application.clone()), application })
        }
    }
}

fn socket_address(text: &str) -> Parsed<SocketAddr> {
    text.parse().map_err(|_| "is not an address and a port".to_owned())
}

fn base_url(read: &mut Reader<'_>, production: bool, listen_addr: Option<SocketAddr>) -> Option<BaseUrl> {
    let default = listen_addr.filter(|_| !production).map(|address| format!("http://localhost:{}", address.port()));
    let url = read.with_default("BASE_URL", default, |text| {
        let url = values::base_url(text)?;
        if production && !url.is_https() {
            return Err("must begin with https:// in production; browsers keep our cookies on no other".to_owned());
        }
        if url.as_url().port() == Some(0) {
            return Err("has no usable port; with LISTEN_ADDR at port 0 it must be set".to_owned());
        }
        Ok(url)
    });
    // Without LISTEN_ADDR there is no default to fall back on, and that mistake has been told.
    match url? {
        None if listen_addr.is_none() && !production => None,
        None => read.missing("BASE_URL"),
        url => url,
    }
}

fn trusted_proxies(text: &str, production: bool) -> Parsed<Vec<IpNet>> {
    let networks = values::networks(text)?;
    // With everyone a proxy, everyone may say which address they come from, and no limit holds.
    if production && networks.iter().any(|network| network.prefix_len() == 0) {
        return Err("trusts every address there is; name your proxies".to_owned());
    }
    Ok(networks)
}

fn mail(read: &mut Reader<'_>, production: bool, smtp: Option<Option<Smtp>>, base_url: Option<&BaseUrl>) -> Option<Mail> {
    match smtp? {
        Some(smtp) => Some(Mail::Smtp(smtp)),
        None if production => read.missing("EMAIL_SMTP"),
        None if base_url?.is_loopback() => Some(Mail::DevInbox),
        None => {
            read.mistake(
                "EMAIL_SMTP",
                "is required where BASE_URL is not this machine; the development inbox opens on loopback only",
            );
            None
        }
    }
}

fn mail_from(read: &mut Reader<'_>, base_url: Option<&BaseUrl>) -> Option<Mailbox> {
    // Mail servers know no sender at an address without a name.
    let host = base_url.and_then(|url| match url.host() {
        Host::Domain(name) => Some(name.to_owned()),
        _ => url.is_loopback().then(|| "localhost".to_owned()),
    });
    let default = host.map(|host| format!("Latchkey <sign-in@{host}>"));
    let sender = read.with_default("EMAIL_FROM", default, |text| text.parse().map_err(|_| "is not an address".to_owned()))?;
    if sender.is_none() && base_url.is_some() {
        read.mistake("EMAIL_FROM", "is required where BASE_URL is an address without a name");
    }
    sender
}

fn wallet_key(text: &str, production: bool) -> Parsed<Secret<[u8; 32]>> {
    let key = values::key(text)?;
    if production && values::is_weak(&key) {
        return Err("can be guessed: it is an example, or was made up".to_owned());
    }
    Ok(key)
}

/// NIST SP 800-63B-4 §3.1.3.2 and ASVS 6.5.5 give a mailed link or code ten minutes.
fn magic_link_ttl(text: &str, production: bool) -> Parsed<Duration> {
    let ttl = values::duration(text)?;
    if ttl > Duration::from_mins(10) {
        return Err("must be at most 10m".to_owned());
    }
    if production && ttl < Duration::from_mins(1) {
        return Err("must be at least 1m in production; mail takes a while".to_owned());
    }
    Ok(ttl)
}

/// A session's last use is written down once a minute at most, so a shorter idle time would end live ones.
fn session_idle(text: &str) -> Parsed<Duration> {
    let idle = values::duration(text)?;
    if idle < Duration::from_mins(2) {
        return Err("must be at least 2m".to_owned());
    }
    Ok(idle)
}

fn log_format(text: &str) -> Parsed<LogFormat> {
    match text {
        "pretty" => Ok(LogFormat::Pretty),
        "json" => Ok(LogFormat::Json),
        _ => Err("is no format of ours".to_owned()),
    }
}

fn log_filter(text: &str) -> Parsed<String> {
    tracing_subscriber::EnvFilter::builder().parse(text).map_err(|error| format!("is not a filter ({error})"))?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod test;
