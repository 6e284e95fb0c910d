//! Every variable, one row each: its words, name, type, parser, defaults. The reader, `config check`, the search for typing errors,
//! `.env.example` and the documentation's tables are made of these rows.
//!
//! To add one: its row here, and what reads it in [`super::examine_for`]. The tests then write the documents anew. A limit's row stands in
//! `auth::policy::limits`.

#![expect(clippy::doc_markdown, reason = "the words go into `.env.example` as they stand here")]

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use app::http::forward_auth::GuardedHost;
use auth::policy::{
    NamedDomains, RequireTwoFactor, ResetTwoFactor, SignUp,
    limits::{Limit, Rate, Told},
};
use ipnet::IpNet;
use lettre::message::Mailbox;
use url::Url;

use super::{
    AppEnv, BaseUrl, Hsts, LogFormat, Secret, Smtp,
    values::{self, Parsed, one_of},
};

/// How a value may be shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Visibility {
    Public,
    /// Scheme, host and path only.
    UrlWithPassword,
    Secret,
}

/// What is known of a variable, whatever its type.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub name: &'static str,
    /// What it means, for the documents.
    pub words: &'static str,
    pub visibility: Visibility,
    /// Defaults; empty: none.
    pub development: &'static str,
    pub production: &'static str,
    /// What to write, where a mistake doesn't say so itself.
    pub example: &'static str,
    /// Production doesn't start without it.
    pub required: bool,
}

impl Row {
    pub fn is_secret(&self) -> bool {
        self.visibility != Visibility::Public
    }
}

pub(super) struct Variable<T> {
    pub row: Row,
    pub parse: fn(&str) -> Parsed<T>,
    /// What production asks of a value besides.
    pub in_production: fn(&T) -> Parsed<()>,
}

const fn row<T>(parse: fn(&str) -> Parsed<T>) -> Variable<T> {
    let row =
        Row { name: "", words: "", visibility: Visibility::Public, development: "", production: "", example: "", required: false };
    Variable { row, parse, in_production: |_| Ok(()) }
}

impl<T> Variable<T> {
    const fn named(mut self, name: &'static str, words: &'static str) -> Self {
        (self.row.name, self.row.words) = (name, words);
        self
    }

    const fn default(self, text: &'static str) -> Self {
        self.defaults(text, text).example(text)
    }

    const fn defaults(mut self, development: &'static str, production: &'static str) -> Self {
        (self.row.development, self.row.production) = (development, production);
        self
    }

    const fn example(mut self, text: &'static str) -> Self {
        self.row.example = text;
        self
    }

    const fn required(mut self) -> Self {
        self.row.required = true;
        self
    }

    const fn shown(mut self, visibility: Visibility) -> Self {
        self.row.visibility = visibility;
        self
    }

    const fn in_production(mut self, check: fn(&T) -> Parsed<()>) -> Self {
        self.in_production = check;
        self
    }

    /// A value of the type, for where none could be read.
    pub fn stand_in(&self) -> T {
        let text = if self.row.example.is_empty() { self.row.development } else { self.row.example };
        (self.parse)(text).expect("a test reads every example")
    }
}

macro_rules! variables {
    ($($heading:literal { $($(#[doc = $words:literal])+ $name:ident: $type:ty = $row:expr;)+ })+) => {
        $($(
            $(#[doc = $words])+
            pub(super) const $name: Variable<$type> = $row.named(stringify!($name), concat!($($words),+));
        )+)+
        /// All rows but the limits', which stand under the last heading, under the headings of the documents.
        pub(super) const SECTIONS: &[(&str, &[Row])] = &[$(($heading, &[$($name.row),+])),+];
    };
}

variables! {
    "The process" {
        /// `development` or `production`: what is refused, and which defaults hold. A release build is `production`.
        APP_ENV: AppEnv = row(one_of);
        /// Where the pages listen. Put a reverse proxy that speaks TLS before it.
        LISTEN_ADDR: SocketAddr = row(values::socket_address).default("127.0.0.1:3000");
        /// Health and metrics on a listener of their own.
        OPS_LISTEN_ADDR: SocketAddr = row(values::socket_address).example("127.0.0.1:9464");
        /// Scheme (https in production), host and port that people see; every link is built from it.
        BASE_URL: BaseUrl = row(values::base_url).in_production(values::is_https).example("https://login.example.org").required();
        /// Proxies whose X-Forwarded-* and X-Request-ID are believed: addresses and networks, separated by commas.
        TRUSTED_PROXIES: Vec<IpNet> = row(values::networks).in_production(|list| values::are_few(list)).example("127.0.0.1,10.0.0.0/8");
        /// Whom Strict-Transport-Security binds browsers to TLS for, for a year: `host`, this host alone; `subdomains`, also every host below
        /// it, whoever runs it (two years); or `off`, where the proxy sends its own. Only with https in `BASE_URL`.
        HSTS: Hsts = row(one_of).default("host");
        /// Other applications' hosts that a proxy guards by asking Latchkey, and what each needs: `email` or `two_factor`
        /// (docs/forward-auth.md).
        FORWARD_AUTH_HOSTS: Vec<GuardedHost> =
            row(values::guarded_hosts).example("app.example.org=email,admin.example.org=two_factor");
        /// The domain that those hosts and BASE_URL's lie under; a cookie of its own is set for it.
        FORWARD_AUTH_DOMAIN: String =
            row(values::cookie_domain).in_production(|name| values::has_two_labels(name)).example("example.org");
        /// `pretty` or `json`; not set: pretty on a terminal, else json.
        LOG_FORMAT: LogFormat = row(one_of);
        /// What is logged, in the syntax of tracing's EnvFilter.
        RUST_LOG: String = row(values::log_filter).default("info");
        /// Domains of mail addresses that metrics name (`email_domain`), separated by commas; all others are `other` (docs/metrics.md).
        METRICS_EMAIL_DOMAINS: NamedDomains = row(values::metrics_domains).example("example.org,example.net");
        /// A StatsD server that is told the metrics too, in DogStatsD's form: HOST:PORT over UDP, or unixgram:///PATH.
        DOGSTATSD_ADDR: String = row(values::statsd_address).example("127.0.0.1:8125");
        /// An OTLP collector that traces are sent to, over HTTP (docs/traces.md). Not set: no traces.
        OTEL_EXPORTER_OTLP_ENDPOINT: Url = row(values::http_url).example("http://127.0.0.1:4318");
    }
    "The database" {
        /// The application's role. Not set: a private PostgreSQL under DATA_DIR.
        DATABASE_URL: Secret<String> = row(values::database_url)
            .shown(Visibility::UrlWithPassword)
            .example("postgres://latchkey_app:PASSWORD@db.example.org/latchkey")
            .required();
        /// The schema owner's role, for migrations. Not set: DATABASE_URL.
        DATABASE_MIGRATOR_URL: Secret<String> = row(values::database_url)
            .shown(Visibility::UrlWithPassword)
            .example("postgres://latchkey_owner:PASSWORD@db.example.org/latchkey");
        /// The private PostgreSQL and the development key.
        DATA_DIR: PathBuf = row(values::path).default(".latchkey");
        /// Folder of the programs `postgres` and `initdb` for the private PostgreSQL. Not set: they are searched for.
        PG_BIN: PathBuf = row(values::path).example("/usr/lib/postgresql/15/bin");
        /// Migrate when `serve` starts.
        MIGRATE_ON_START: bool = row(values::truth).defaults("true", "false");
    }
    "Mail" {
        /// smtp://USER:PASSWORD@HOST:587 (STARTTLS; plain only on loopback) or smtps://USER:PASSWORD@HOST. In the password,
        /// @ / : ? # and % are percent-encoded. Not set: mails appear at /dev/inbox.
        EMAIL_SMTP: Smtp = row(values::smtp)
            .shown(Visibility::UrlWithPassword)
            .example("smtp://USER:PASSWORD@mail.example.org:587")
            .required();
        /// Who the mails come from. Not set: sign-in@ the host of BASE_URL.
        EMAIL_FROM: Mailbox = row(values::mailbox).example("Latchkey <sign-in@example.org>");
    }
    "Keys at rest" {
        /// 32 random bytes in base64, from `openssl rand -base64 32`. Not set: made under DATA_DIR.
        /// (ZXhhbXBsZSBrZXksIHJlcGxhY2UgYmVmb3JlIHVzZSE= is an example of the form; production refuses it.)
        WALLET_ENCRYPTION_KEY: Secret<[u8; 32]> = row(values::key)
            .in_production(values::is_random)
            .shown(Visibility::Secret)
            .example("the output of `openssl rand -base64 32`")
            .required();
        /// Earlier keys that stay readable, separated by commas.
        WALLET_ENCRYPTION_KEY_PREVIOUS: Vec<Secret<[u8; 32]>> =
            row(values::keys).shown(Visibility::Secret).example("earlier keys, separated by commas");
    }
    "Signing in" {
        /// Whether people can sign in by mail where the flag has no row in the database yet.
        FEATURE_PASSWORDLESS_AUTH: bool = row(values::truth).defaults("true", "false");
        /// Where people go while that is off.
        LEGACY_SIGN_IN_URL: Url = row(values::http_url).example("https://example.org/login");
        /// Pages of other applications that a sign-in mail may lead to (`redirect_url` in the API), to the letter, separated by commas.
        REDIRECT_URLS: Vec<String> = row(values::redirect_urls).example("https://app.example.org/sign-in");
        /// Who may have an account: `open`, `domains:example.org,example.net`, `invite` or `closed`.
        SIGNUP: SignUp = row(values::sign_up).defaults("open", "invite");
        /// How long a mailed link and code work: 1m to 10m.
        MAGIC_LINK_TTL: Duration = row(values::magic_link_ttl).in_production(|ttl| values::leaves_mail_time(*ttl)).default("10m");
        /// A session ends when it was not used for so long, …
        SESSION_IDLE: Duration = row(values::session_idle).default("1d");
        /// … and in any case after so long.
        SESSION_MAX: Duration = row(values::duration).default("30d");
    }
    "Two-factor" {
        /// Who must have it: `none`, `admins` or `everyone`. Until they do, they can set it up and do nothing else.
        REQUIRE_2FA: RequireTwoFactor = row(one_of).defaults("admins", "admins");
        /// When an administrator's reset of somebody's two-factor happens: `now`; `wait:24h`, in which its owner can stop it by mail (1h to
        /// 7d); or `two`, when a second administrator agrees. At the shell it always happens now.
        RESET_2FA: ResetTwoFactor = row(values::reset_two_factor).default("now");
        /// How long a factor given counts for changes to the account; at most 1h in production.
        STEP_UP_TTL: Duration = row(values::duration).in_production(|ttl| values::is_recent(*ttl)).default("10m");
        /// How long a browser may be trusted with the second factor. `0`: never.
        TRUSTED_DEVICE_TTL: Duration = row(values::duration_or_zero).default("30d");
    }
    "Limits: N/T is a burst of N, then one every T/N" {
        /// `off` for load tests; production refuses it.
        LIMITS: bool = row(values::switch).in_production(|on| values::stays_on(*on)).defaults("on", "on");
    }
}

/// The variable of a limit that has one; its words and default stand in the limit's row.
pub(super) fn limit(limit: Limit) -> Option<Variable<Rate>> {
    let checked = if limit.told() == Told::Tries { values::bounds_guessing } else { |_: &Rate| Ok(()) };
    Some(row(values::rate).in_production(checked).example("4/15m").named(limit.variable()?, limit.counts()))
}

/// All rows, the limits' last.
pub(super) fn rows() -> impl Iterator<Item = Row> {
    let limits = Limit::ALL.into_iter().filter_map(|of| Some(limit(of)?.row));
    SECTIONS.iter().flat_map(|(_, rows)| *rows).copied().chain(limits)
}

fn named(name: &str) -> Option<Row> {
    rows().find(|row| row.name == name)
}

/// Families that belong to us, so that a member we don't know is a mistake worth a warning: an operator who sets `LIMIT_…` believes
/// that something is limited.
const OUR_FAMILIES: &[&str] =
    &["EMAIL_", "FEATURE_", "FORWARD_AUTH_", "LIMIT_", "MAGIC_LINK_", "REQUIRE_", "RESET_", "TRUSTED_", "WALLET_"];

/// What is wrong with a variable that none of our code reads, if it looks meant for us.
pub(super) fn misnamed(name: &str) -> Option<String> {
    if named(name).is_some() {
        return None;
    }
    if let Some(row) = name.strip_suffix("_FILE").and_then(named) {
        return (!row.is_secret()).then(|| format!("{name} has no effect: only secrets are read from files; set {}", row.name));
    }
    // Short names are a slip away from too much (`EDITOR`, `LINES`, …).
    let nearest = rows()
        .filter(|_| name.len() >= 6)
        .map(|row| (strsim::levenshtein(name, row.name), row.name))
        .min()
        .filter(|&(distance, _)| distance <= 2);
    match nearest {
        Some((_, nearest)) => Some(format!("{name} has no effect: did you mean {nearest}?")),
        None if OUR_FAMILIES.iter().any(|family| name.starts_with(family)) => {
            Some(format!("{name} has no effect: this version has no such setting"))
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_are_found_and_strangers_left_alone() {
        let advice = |name: &str| misnamed(name).unwrap_or_default();
        assert!(advice("LIMIT_LINK_ADRESS").contains("mean LIMIT_LINK_ADDRESS?"));
        assert!(advice("DATABASE_URI").contains("mean DATABASE_URL?"));
        assert!(advice("WALLET_ENCRYPTION_KEYS").contains("mean WALLET_ENCRYPTION_KEY?"));
        assert!(advice("REQUIRE_MFA_ALWAYS").contains("no such setting"));
        assert!(advice("BASE_URL_FILE").contains("only secrets"));
        for name in ["PATH", "HOME", "SESSION_MANAGER", "LINES", "DATABASE_URL", "DATABASE_URL_FILE", "PGDATA"] {
            assert_eq!(misnamed(name), None, "{name}");
        }
    }
}
