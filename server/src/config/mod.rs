//! The configuration: the one reader of the environment, at start; after that a plain value that is passed along.
//! Not here: what the values do (`auth::policy`, `app::http::state::Site`), and `config check`'s printing (`cli`).
//! To add a variable: its row in `variables.rs`, and the line below that reads it; the tests write the documents anew.
//!
//! Everything wrong is found and told at once, one line a mistake, so that nobody mends a deployment one restart at a time.

mod check;
#[cfg(feature = "development")]
mod development_key;
mod environment;
mod reader;
mod secret;
pub(crate) mod values;
mod variables;

use std::{
    ffi::OsStr,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use app::http::{
    forward_auth::{ForwardAuth, GuardedHost},
    state::Site,
};
use auth::{
    crypto::Keys,
    policy::{
        Policy,
        limits::{Limit, Limits},
    },
};
use ipnet::IpNet;
use lettre::message::Mailbox;
use strum::{EnumString, IntoStaticStr, VariantNames};
use url::{Host, Url};

#[cfg(feature = "development")]
use self::development_key::development_key;
pub use self::{
    environment::Environment,
    reader::{Mistake, Mistakes, Setting, Source},
    secret::Secret,
    values::{BaseUrl, Smtp, SmtpCredentials, SmtpTls},
};
use self::{reader::Reader, variables as var};

#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum AppEnv {
    Development,
    Production,
}

impl AppEnv {
    /// A release build that nobody configured refuses what is unsafe; a developer's build just runs.
    pub const OF_THIS_BUILD: Self = if cfg!(debug_assertions) { Self::Development } else { Self::Production };
}

#[derive(Clone, Debug)]
pub struct Config {
    pub policy: Policy,
    pub site: Site,
    pub base_url: BaseUrl,
    pub database: Database,
    pub migrate_on_start: bool,
    pub listen_addr: SocketAddr,
    pub ops_listen_addr: Option<SocketAddr>,
    pub trusted_proxies: Vec<IpNet>,
    pub hsts: Hsts,
    pub mail: Mail,
    pub mail_from: Mailbox,
    #[cfg(feature = "development")]
    data_dir: PathBuf,
    /// `None` in development alone: one is made.
    wallet_key: Option<Secret<[u8; 32]>>,
    /// Still readable; nothing new is encrypted under them.
    wallet_keys_previous: Vec<Secret<[u8; 32]>>,
    /// A `StatsD` server that is told what is counted.
    pub dogstatsd_addr: Option<String>,
    /// An OTLP collector that traces are sent to.
    pub otlp_endpoint: Option<Url>,
    /// `None`: pretty on a terminal, else JSON.
    pub log_format: Option<LogFormat>,
    /// Directives of `tracing_subscriber::EnvFilter`, known to parse.
    pub log_filter: String,
    /// What doesn't stop the start but is worth a line in the log.
    pub warnings: Vec<String>,
}

impl Config {
    /// The keys at rest. Where none is given, this makes one and keeps it; so it isn't done while the configuration is only looked at.
    pub fn keys(&self) -> io::Result<Keys> {
        let current = match &self.wallet_key {
            Some(key) => key.clone(),
            #[cfg(feature = "development")]
            None => development_key(&self.data_dir)?,
            #[cfg(not(feature = "development"))]
            None => return Err(io::Error::other("WALLET_ENCRYPTION_KEY is required")),
        };
        let previous: Vec<[u8; 32]> = self.wallet_keys_previous.iter().map(|key| *key.expose()).collect();
        Ok(Keys::new(current.expose(), &previous))
    }
}

#[derive(Clone, Debug)]
pub enum Database {
    /// A cluster of our own, to try it out with.
    #[cfg(feature = "development")]
    Private {
        /// A folder below `DATA_DIR`, for the cluster alone.
        data_dir: PathBuf,
        /// `PG_BIN`: where PostgreSQL's programs lie.
        bin_dir: Option<PathBuf>,
        /// `PATH`, to look for them.
        search_path: Option<std::ffi::OsString>,
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
    #[cfg(feature = "development")]
    DevInbox,
    Smtp(Smtp),
}

impl Mail {
    /// The mail server, unless mails stay here.
    pub fn server(&self) -> Option<&Smtp> {
        match self {
            #[cfg(feature = "development")]
            Self::DevInbox => None,
            Self::Smtp(smtp) => Some(smtp),
        }
    }
}

/// Which hosts a browser that was here asks only over TLS from then on (RFC 6797).
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum Hsts {
    Host,
    /// And every host below it.
    Subdomains,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum LogFormat {
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
    let mut warnings: Vec<String> = environment.names().filter_map(var::misnamed).collect();
    warnings.sort_unstable();
    // Everything is read first, and only then given up: each line notes its own mistake.
    let policy = policy(&mut read);
    let data_dir = read.value(&var::DATA_DIR);
    let database = database(&mut read, &data_dir, environment.get("PATH"));
    let listen_addr = read.value(&var::LISTEN_ADDR);
    let ops_listen_addr = ops_listen_addr(&mut read, listen_addr);
    let base_url = base_url(&mut read, listen_addr);
    let trusted_proxies = read.optional(&var::TRUSTED_PROXIES);
    let forward_auth = forward_auth(&mut read, &base_url, trusted_proxies.is_some());
    let mail = mail(&mut read, &base_url);
    let mail_from = mail_from(&mut read, &base_url);
    if !base_url.is_https() && !base_url.is_loopback() {
        warnings.push(
            "BASE_URL is plain http off this machine: browsers drop our cookies there, so nobody can sign in; use https".to_owned(),
        );
    }
    let config = Config {
        policy,
        site: Site {
            base_url: base_url.as_url().clone(),
            sender: mail_from.email.to_string(),
            legacy_sign_in_url: read.optional(&var::LEGACY_SIGN_IN_URL),
            forward_auth,
        },
        base_url,
        database,
        migrate_on_start: read.value(&var::MIGRATE_ON_START),
        listen_addr,
        ops_listen_addr,
        trusted_proxies: trusted_proxies.unwrap_or_default(),
        hsts: read.value(&var::HSTS),
        mail,
        mail_from,
        #[cfg(feature = "development")]
        data_dir,
        wallet_key: read.optional(&var::WALLET_ENCRYPTION_KEY),
        wallet_keys_previous: read.optional(&var::WALLET_ENCRYPTION_KEY_PREVIOUS).unwrap_or_default(),
        dogstatsd_addr: read.optional(&var::DOGSTATSD_ADDR),
        otlp_endpoint: read.optional(&var::OTEL_EXPORTER_OTLP_ENDPOINT),
        log_format: read.optional(&var::LOG_FORMAT),
        log_filter: read.value(&var::RUST_LOG),
        warnings: warnings.clone(),
    };
    let (settings, mistakes) = read.finish();
    Examined { settings, warnings, config: if mistakes.is_empty() { Ok(config) } else { Err(mistakes) } }
}

fn policy(read: &mut Reader<'_>) -> Policy {
    let policy = Policy {
        link_ttl: read.value(&var::MAGIC_LINK_TTL),
        session_idle: read.value(&var::SESSION_IDLE),
        session_max: read.value(&var::SESSION_MAX),
        step_up_ttl: read.value(&var::STEP_UP_TTL),
        trusted_device_ttl: read.value(&var::TRUSTED_DEVICE_TTL),
        require_two_factor: read.value(&var::REQUIRE_2FA),
        reset_two_factor: read.value(&var::RESET_2FA),
        sign_up: read.value(&var::SIGNUP),
        passwordless_auth: read.value(&var::FEATURE_PASSWORDLESS_AUTH),
        redirect_urls: read.optional(&var::REDIRECT_URLS).unwrap_or_default(),
        metrics_email_domains: read.optional(&var::METRICS_EMAIL_DOMAINS).unwrap_or_default(),
        limits: limits(read),
    };
    if policy.session_idle > policy.session_max {
        read.mistake(
            &var::SESSION_IDLE.row,
            &[&var::SESSION_MAX.row],
            "must not be longer than SESSION_MAX; it would never end a session",
        );
    }
    policy
}

fn limits(read: &mut Reader<'_>) -> Limits {
    let mut limits = Limits::default();
    limits.enabled = read.value(&var::LIMITS);
    for limit in Limit::ALL {
        if let Some(rate) =
            var::limit(limit).and_then(|variable| read.with_default(&variable, Some(limits.rate(limit).to_string())))
        {
            limits.set(limit, rate);
        }
    }
    limits
}

fn database(read: &mut Reader<'_>, data_dir: &Path, search_path: Option<&OsStr>) -> Database {
    let application = read.optional(&var::DATABASE_URL);
    let migrator = read.optional(&var::DATABASE_MIGRATOR_URL);
    let bin_dir = read.optional(&var::PG_BIN);
    if let Some(application) = application {
        return Database::Url { migrator: migrator.unwrap_or_else(|| application.clone()), application };
    }
    if migrator.is_some() {
        let message = "must not be set without DATABASE_URL; set both, or neither for a private database";
        read.mistake(&var::DATABASE_MIGRATOR_URL.row, &[&var::DATABASE_URL.row], message);
    }
    private_database(data_dir, bin_dir, search_path)
}

#[cfg(feature = "development")]
fn private_database(data_dir: &Path, bin_dir: Option<PathBuf>, search_path: Option<&OsStr>) -> Database {
    Database::Private { data_dir: data_dir.join("postgres"), bin_dir, search_path: search_path.map(OsStr::to_owned) }
}

/// A stand-in: the reader has noted that `DATABASE_URL` is missing.
#[cfg(not(feature = "development"))]
fn private_database(_: &Path, _: Option<PathBuf>, _: Option<&OsStr>) -> Database {
    Database::Url { application: var::DATABASE_URL.stand_in(), migrator: var::DATABASE_URL.stand_in() }
}

fn ops_listen_addr(read: &mut Reader<'_>, listen_addr: SocketAddr) -> Option<SocketAddr> {
    let address = read.optional(&var::OPS_LISTEN_ADDR);
    // Port 0 is a free port, another one each time.
    if address.is_some_and(|address| address.port() != 0 && address == listen_addr) {
        let message = "must not be LISTEN_ADDR; health and metrics need a listener of their own";
        read.mistake(&var::OPS_LISTEN_ADDR.row, &[&var::LISTEN_ADDR.row], message);
    }
    address
}

fn base_url(read: &mut Reader<'_>, listen_addr: SocketAddr) -> BaseUrl {
    let default = (!read.production).then(|| format!("http://localhost:{}", listen_addr.port()));
    read.with_default(&var::BASE_URL, default).unwrap_or_else(|| var::BASE_URL.stand_in())
}

fn forward_auth(read: &mut Reader<'_>, base_url: &BaseUrl, behind_proxy: bool) -> Option<ForwardAuth> {
    let domain = read.optional(&var::FORWARD_AUTH_DOMAIN);
    let hosts = read.optional(&var::FORWARD_AUTH_HOSTS);
    let (domain, hosts) = match (domain, hosts) {
        (None, None) => return None,
        (Some(domain), Some(hosts)) => (domain, hosts),
        (Some(_), None) => {
            read.mistake(&var::FORWARD_AUTH_HOSTS.row, &[], "is required with FORWARD_AUTH_DOMAIN");
            return None;
        }
        (None, Some(_)) => {
            read.mistake(&var::FORWARD_AUTH_DOMAIN.row, &[], "is required with FORWARD_AUTH_HOSTS");
            return None;
        }
    };
    let under = |name: &str| name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let ours = |host: &GuardedHost| base_url.host() == Host::Domain(host.name.as_str()) && base_url.as_url().port() == host.port;
    if let Some(host) = hosts.iter().find(|host| !under(&host.name)) {
        read.mistake(&var::FORWARD_AUTH_HOSTS.row, &[], &format!("must list hosts under {domain}, and {} is not", host.name));
    } else if !matches!(base_url.host(), Host::Domain(name) if under(name)) {
        let message = "must be above the host of BASE_URL, or no browser takes the cookie";
        read.mistake(&var::FORWARD_AUTH_DOMAIN.row, &[&var::BASE_URL.row], message);
    } else if hosts.iter().any(ours) {
        let message = "must not list the host of BASE_URL; name the applications behind the proxy";
        read.mistake(&var::FORWARD_AUTH_HOSTS.row, &[&var::BASE_URL.row], message);
    } else if !behind_proxy {
        let message = "needs TRUSTED_PROXIES: only a proxy that is believed can say which host is asked for";
        read.mistake(&var::FORWARD_AUTH_HOSTS.row, &[&var::TRUSTED_PROXIES.row], message);
    }
    // Only development has a BASE_URL without TLS, and then the other hosts are as ours.
    Some(ForwardAuth { domain, hosts, https_only: base_url.is_https() })
}

fn mail(read: &mut Reader<'_>, base_url: &BaseUrl) -> Mail {
    let smtp = read.optional(&var::EMAIL_SMTP);
    if smtp.is_none() && !base_url.is_loopback() {
        let message = "is required where BASE_URL is not this machine; the development inbox opens on loopback only";
        read.mistake(&var::EMAIL_SMTP.row, &[&var::BASE_URL.row], message);
    }
    #[cfg(feature = "development")]
    return smtp.map_or(Mail::DevInbox, Mail::Smtp);
    #[cfg(not(feature = "development"))]
    // A stand-in: the reader has noted that it is missing.
    Mail::Smtp(smtp.unwrap_or_else(|| var::EMAIL_SMTP.stand_in()))
}

fn mail_from(read: &mut Reader<'_>, base_url: &BaseUrl) -> Mailbox {
    // Mail servers know no sender at an address without a name.
    let host = match base_url.host() {
        Host::Domain(name) => Some(name),
        _ => base_url.is_loopback().then_some("localhost"),
    };
    let host = host.filter(|_| !read.is_mistaken(&var::BASE_URL.row));
    let sender = read.with_default(&var::EMAIL_FROM, host.map(|host| format!("Latchkey <sign-in@{host}>")));
    sender.unwrap_or_else(|| {
        read.mistake(&var::EMAIL_FROM.row, &[&var::BASE_URL.row], "is required where BASE_URL is an address without a name");
        var::EMAIL_FROM.stand_in()
    })
}

#[cfg(test)]
mod test;
