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
pub(crate) mod values;
mod variables;

use std::{
    ffi::{OsStr, OsString},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use auth::policy::RequireTwoFactor;
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
    values::{BaseUrl, GuardedHost, Limit, Signup, Smtp, SmtpCredentials, SmtpTls},
};
use self::{
    reader::{Noted, Reader},
    values::Parsed,
};

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
    pub forward_auth: Option<ForwardAuth>,
    pub mail: Mail,
    pub mail_from: Mailbox,
    pub wallet_key: Key,
    /// Still readable; nothing new is encrypted under them.
    pub wallet_keys_previous: Vec<Secret<[u8; 32]>>,
    /// The flag where the table holds no row for it.
    pub passwordless_auth: bool,
    pub legacy_sign_in_url: Option<Url>,
    /// Where applications may have their people come back to from a mail.
    pub redirect_urls: Vec<String>,
    pub signup: Signup,
    pub magic_link_ttl: Duration,
    pub session_idle: Duration,
    pub session_max: Duration,
    pub require_two_factor: RequireTwoFactor,
    pub step_up_ttl: Duration,
    /// Zero: browsers are not trusted.
    pub trusted_device_ttl: Duration,
    pub limits: Limits,
    /// Domains of mail addresses that metrics may name.
    pub metrics_email_domains: Vec<String>,
    /// A `StatsD` server that is told what is counted.
    pub dogstatsd_addr: Option<String>,
    /// An OTLP collector that traces are sent to.
    pub otlp_endpoint: Option<Url>,
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
    /// Development: see [`development_key()`].
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
    pub totp_account: Limit,
    pub backup_account: Limit,
    pub step_up_account: Limit,
    pub step_up_mail: Limit,
    pub address_change: Limit,
    pub signup_network: Limit,
    pub api_key: Limit,
}

/// The other hosts that people are signed in for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardAuth {
    /// The cookie's: all hosts and our own lie under it.
    pub domain: String,
    pub hosts: Vec<GuardedHost>,
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
    // Read everything first, and only then give up: each line notes its own mistake.
    let app_env = read.app_env(AppEnv::parse);
    let production = app_env == AppEnv::Production;
    let data_dir = read.required("DATA_DIR", |text| Ok(PathBuf::from(text)));
    let database = database(&mut read, production, data_dir.as_ref().ok(), environment.get("PATH"));
    let migrate_on_start = read.required("MIGRATE_ON_START", values::truth);
    let listen_addr = read.required("LISTEN_ADDR", socket_address);
    let ops_listen_addr = ops_listen_addr(&mut read, listen_addr.ok());
    let base_url = base_url(&mut read, production, listen_addr.ok());
    let trusted_proxies = read.optional("TRUSTED_PROXIES", |text| trusted_proxies(text, production));
    let forward_auth = forward_auth(&mut read, production, base_url.as_ref().ok(), trusted_proxies.as_ref().ok());
    let mail = mail(&mut read, production, base_url.as_ref().ok());
    let mail_from = mail_from(&mut read, base_url.as_ref().ok());
    let wallet_key = wallet_key(&mut read, production);
    let wallet_keys_previous = read.optional("WALLET_ENCRYPTION_KEY_PREVIOUS", values::keys);
    let passwordless_auth = read.required("FEATURE_PASSWORDLESS_AUTH", values::truth);
    let legacy_sign_in_url = read.optional("LEGACY_SIGN_IN_URL", values::http_url);
    let redirect_urls = read.optional("REDIRECT_URLS", values::redirect_urls);
    let signup = read.required("SIGNUP", values::signup);
    let magic_link_ttl = read.required("MAGIC_LINK_TTL", |text| magic_link_ttl(text, production));
    let session_max = read.required("SESSION_MAX", values::duration);
    let session_idle = session_idle(&mut read, session_max.ok());
    let require_two_factor = read.required("REQUIRE_2FA", require_two_factor);
    let step_up_ttl = read.required("STEP_UP_TTL", |text| step_up_ttl(text, production));
    let trusted_device_ttl = read.required("TRUSTED_DEVICE_TTL", values::duration_or_zero);
    let limits = limits(&mut read, production);
    let metrics_email_domains = read.optional("METRICS_EMAIL_DOMAINS", values::metrics_domains);
    let dogstatsd_addr = read.optional("DOGSTATSD_ADDR", values::statsd_address);
    let otlp_endpoint = read.optional("OTEL_EXPORTER_OTLP_ENDPOINT", values::http_url);
    let log_format = read.optional("LOG_FORMAT", log_format);
    let log_filter = read.required("RUST_LOG", log_filter);

    if base_url.as_ref().is_ok_and(|url| !url.is_https() && !url.is_loopback()) {
        warnings.push(
            "BASE_URL is plain http off this machine: browsers drop our cookies there, so nobody can sign in; use https".to_owned(),
        );
    }
    let config = || -> Result<Config, Noted> {
        Ok(Config {
            app_env,
            database: database?,
            data_dir: data_dir?,
            migrate_on_start: migrate_on_start?,
            listen_addr: listen_addr?,
            ops_listen_addr: ops_listen_addr?,
            base_url: base_url?,
            trusted_proxies: trusted_proxies?.unwrap_or_default(),
            forward_auth: forward_auth?,
            mail: mail?,
            mail_from: mail_from?,
            wallet_key: wallet_key?,
            wallet_keys_previous: wallet_keys_previous?.unwrap_or_default(),
            passwordless_auth: passwordless_auth?,
            legacy_sign_in_url: legacy_sign_in_url?,
            redirect_urls: redirect_urls?.unwrap_or_default(),
            signup: signup?,
            magic_link_ttl: magic_link_ttl?,
            session_idle: session_idle?,
            session_max: session_max?,
            require_two_factor: require_two_factor?,
            step_up_ttl: step_up_ttl?,
            trusted_device_ttl: trusted_device_ttl?,
            limits: limits?,
            metrics_email_domains: metrics_email_domains?.unwrap_or_default(),
            dogstatsd_addr: dogstatsd_addr?,
            otlp_endpoint: otlp_endpoint?,
            log_format: log_format?.unwrap_or(LogFormat::Auto),
            log_filter: log_filter?,
            warnings: warnings.clone(),
        })
    };
    let config = config();
    let (settings, mistakes) = read.finish();
    // A mistake in what this configuration doesn't come to use is still a mistake.
    let config = match config {
        Ok(config) if mistakes.is_empty() => Ok(config),
        _ => Err(mistakes),
    };
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
    data_dir: Option<&PathBuf>,
    search_path: Option<&OsStr>,
) -> Result<Database, Noted> {
    let application = read.optional("DATABASE_URL", values::database_url);
    let migrator = read.optional("DATABASE_MIGRATOR_URL", values::database_url);
    let bin_dir = read.optional("PG_BIN", |text| Ok(PathBuf::from(text)));
    match (application?, migrator?) {
        (None, _) if production => Err(read.missing("DATABASE_URL")),
        (None, Some(_)) => {
            Err(read.mistake("DATABASE_MIGRATOR_URL", "is set without DATABASE_URL; set both, or neither for a private database"))
        }
        (None, None) => Ok(Database::Private {
            data_dir: data_dir.ok_or(Noted)?.join("postgres"),
            bin_dir: bin_dir?,
            search_path: search_path.map(OsStr::to_owned),
        }),
        (Some(application), migrator) => {
            Ok(Database::Url { migrator: migrator.unwrap_or_else(|| application.clone()), application })
        }
    }
}

fn ops_listen_addr(read: &mut Reader<'_>, listen_addr: Option<SocketAddr>) -> Result<Option<SocketAddr>, Noted> {
    let address = read.optional("OPS_LISTEN_ADDR", socket_address)?;
    // Port 0 is a free port, another one each time.
    if address.is_some_and(|address| address.port() != 0) && address == listen_addr {
        return Err(read.mistake("OPS_LISTEN_ADDR", "is LISTEN_ADDR; health and metrics need a listener of their own"));
    }
    Ok(address)
}

fn socket_address(text: &str) -> Parsed<SocketAddr> {
    text.parse().map_err(|_| "is not an address and a port".to_owned())
}

fn base_url(read: &mut Reader<'_>, production: bool, listen_addr: Option<SocketAddr>) -> Result<BaseUrl, Noted> {
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
    })?;
    // In development only a mistaken LISTEN_ADDR leaves no default.
    url.ok_or_else(|| if production { read.missing("BASE_URL") } else { Noted })
}

fn trusted_proxies(text: &str, production: bool) -> Parsed<Vec<IpNet>> {
    let networks = values::networks(text)?;
    // With everyone a proxy, everyone may say which address they come from, and no limit holds.
    if production && networks.iter().any(|network| network.prefix_len() == 0) {
        return Err("trusts every address there is; name your proxies".to_owned());
    }
    Ok(networks)
}

fn forward_auth(
    read: &mut Reader<'_>,
    production: bool,
    base_url: Option<&BaseUrl>,
    proxies: Option<&Option<Vec<IpNet>>>,
) -> Result<Option<ForwardAuth>, Noted> {
    let domain = read.optional("FORWARD_AUTH_DOMAIN", |text| values::cookie_domain(text, production));
    let hosts = read.optional("FORWARD_AUTH_HOSTS", values::guarded_hosts);
    let (domain, hosts) = match (domain?, hosts?) {
        (None, None) => return Ok(None),
        (Some(domain), Some(hosts)) => (domain, hosts),
        (Some(_), None) => return Err(read.mistake("FORWARD_AUTH_HOSTS", "is required with FORWARD_AUTH_DOMAIN")),
        (None, Some(_)) => return Err(read.mistake("FORWARD_AUTH_DOMAIN", "is required with FORWARD_AUTH_HOSTS")),
    };
    let under = |name: &str| name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if let Some(host) = hosts.iter().find(|host| !under(&host.name)) {
        return Err(read.mistake("FORWARD_AUTH_HOSTS", &format!("lists {}, which is not under {domain}", host.name)));
    }
    let base_url = base_url.ok_or(Noted)?;
    match base_url.host() {
        Host::Domain(name) if under(name) => {}
        _ => {
            let message = "is not above the host of BASE_URL, so no browser would take the cookie";
            return Err(read.mistake("FORWARD_AUTH_DOMAIN", message));
        }
    }
    let ours = |host: &GuardedHost| base_url.host() == Host::Domain(host.name.as_str()) && base_url.as_url().port() == host.port;
    if hosts.iter().any(ours) {
        return Err(read.mistake("FORWARD_AUTH_HOSTS", "lists the host of BASE_URL; name the applications behind the proxy"));
    }
    if proxies.ok_or(Noted)?.is_none() {
        let message = "needs TRUSTED_PROXIES: only a proxy that is believed can say which host is asked for";
        return Err(read.mistake("FORWARD_AUTH_HOSTS", message));
    }
    Ok(Some(ForwardAuth { domain, hosts }))
}

fn mail(read: &mut Reader<'_>, production: bool, base_url: Option<&BaseUrl>) -> Result<Mail, Noted> {
    match read.optional("EMAIL_SMTP", values::smtp)? {
        Some(smtp) => Ok(Mail::Smtp(smtp)),
        None if production => Err(read.missing("EMAIL_SMTP")),
        None if base_url.ok_or(Noted)?.is_loopback() => Ok(Mail::DevInbox),
        None => Err(read
            .mistake("EMAIL_SMTP", "is required where BASE_URL is not this machine; the development inbox opens on loopback only")),
    }
}

fn mail_from(read: &mut Reader<'_>, base_url: Option<&BaseUrl>) -> Result<Mailbox, Noted> {
    // Mail servers know no sender at an address without a name.
    let host = base_url.and_then(|url| match url.host() {
        Host::Domain(name) => Some(name.to_owned()),
        _ => url.is_loopback().then(|| "localhost".to_owned()),
    });
    let default = host.map(|host| format!("Latchkey <sign-in@{host}>"));
    let sender = read.with_default("EMAIL_FROM", default, |text| text.parse().map_err(|_| "is not an address".to_owned()))?;
    match (sender, base_url) {
        (Some(sender), _) => Ok(sender),
        (None, Some(_)) => Err(read.mistake("EMAIL_FROM", "is required where BASE_URL is an address without a name")),
        (None, None) => Err(Noted),
    }
}

fn wallet_key(read: &mut Reader<'_>, production: bool) -> Result<Key, Noted> {
    let key = read.optional("WALLET_ENCRYPTION_KEY", |text| {
        let key = values::key(text)?;
        if production && values::is_weak(&key) {
            return Err("can be guessed: it is an example, or was made up".to_owned());
        }
        Ok(key)
    })?;
    match key {
        Some(key) => Ok(Key::Given(key)),
        None if production => Err(read.missing("WALLET_ENCRYPTION_KEY")),
        None => Ok(Key::Generate),
    }
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

fn require_two_factor(text: &str) -> Parsed<RequireTwoFactor> {
    match text {
        "none" => Ok(RequireTwoFactor::None),
        "admins" => Ok(RequireTwoFactor::Admins),
        "everyone" => Ok(RequireTwoFactor::Everyone),
        _ => Err("is neither none, admins nor everyone".to_owned()),
    }
}

/// Long ones make step-up mean nothing: who finds a browser open could change the account.
fn step_up_ttl(text: &str, production: bool) -> Parsed<Duration> {
    let ttl = values::duration(text)?;
    if production && ttl > Duration::from_hours(1) {
        return Err("must be at most 1h in production".to_owned());
    }
    Ok(ttl)
}

fn session_idle(read: &mut Reader<'_>, session_max: Option<Duration>) -> Result<Duration, Noted> {
    let idle = read.required("SESSION_IDLE", |text| {
        // A session's last use is written down once a minute at most, so a shorter idle time would end live ones.
        values::duration(text)
            .and_then(|idle| if idle < Duration::from_mins(2) { Err("must be at least 2m".to_owned()) } else { Ok(idle) })
    })?;
    if session_max.is_some_and(|max| idle > max) {
        return Err(read.mistake("SESSION_IDLE", "is longer than SESSION_MAX, so it would never end a session"));
    }
    Ok(idle)
}

fn limits(read: &mut Reader<'_>, production: bool) -> Result<Limits, Noted> {
    let enforced = read.required("LIMITS", |text| match values::switch(text)? {
        false if production => Err("must be on in production; off is for load tests".to_owned()),
        enforced => Ok(enforced),
    });
    let mut limit = |name| read.required(name, values::limit);
    let link_address_network = limit("LIMIT_LINK_ADDRESS_NETWORK");
    let link_address = limit("LIMIT_LINK_ADDRESS");
    let link_known_browser = limit("LIMIT_LINK_KNOWN_BROWSER");
    let link_network = limit("LIMIT_LINK_NETWORK");
    let link_all = limit("LIMIT_LINK_ALL");
    let code_network = limit("LIMIT_CODE_NETWORK");
    let totp_account = limit("LIMIT_TOTP_ACCOUNT");
    let backup_account = limit("LIMIT_BACKUP_ACCOUNT");
    let step_up_account = limit("LIMIT_STEP_UP_ACCOUNT");
    let step_up_mail = limit("LIMIT_STEP_UP_MAIL");
    let signup_network = limit("LIMIT_SIGNUP_NETWORK");
    let address_change = limit("LIMIT_ADDRESS_CHANGE");
    let api_key = limit("LIMIT_API_KEY");
    Ok(Limits {
        enforced: enforced?,
        link_address_network: link_address_network?,
        link_address: link_address?,
        link_known_browser: link_known_browser?,
        link_network: link_network?,
        link_all: link_all?,
        code_network: code_network?,
        totp_account: totp_account?,
        backup_account: backup_account?,
        step_up_account: step_up_account?,
        step_up_mail: step_up_mail?,
        signup_network: signup_network?,
        address_change: address_change?,
        api_key: api_key?,
    })
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
