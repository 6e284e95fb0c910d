//! The grammar of each kind of value. A parser's error continues a sentence that begins with the variable's name; it never repeats
//! the value, which may be secret. A check that holds in production alone is a function of its own.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use app::http::forward_auth::GuardedHost;
use auth::{
    identity::Level,
    policy::{MAX_LINK_TTL, MAX_RESET_WAIT, NamedDomains, ResetTwoFactor, SignUp, limits::Rate},
    primitives::email_address::has_route,
};
use data_encoding::BASE64;
use ipnet::IpNet;
use lettre::message::Mailbox;
use percent_encoding::percent_decode_str;
use strum::VariantNames;
use tracing_subscriber::EnvFilter;
use url::{Host, Url};
use zeroize::Zeroize as _;

use super::Secret;

pub(super) type Parsed<T> = Result<T, String>;

/// Longer spans serve nobody, and the cap keeps every later sum of times far from overflow.
const MAX_DURATION: Duration = Duration::from_hours(87600);
const MAX_BURST: u32 = 1_000_000;

/// Where every link of ours points: an origin, without path, query, fragment or credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(Url);

impl BaseUrl {
    /// `https://login.example.org`, without a slash at the end: what browsers send in `Origin`.
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether only this machine can reach it under that name.
    pub fn is_loopback(&self) -> bool {
        self.0.host().is_some_and(|host| is_loopback(&host))
    }

    pub fn host(&self) -> Host<&str> {
        self.0.host().expect("base_url() refuses a URL without a host")
    }

    pub fn as_url(&self) -> &Url {
        &self.0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpTls {
    /// Loopback only: nobody but this machine could listen in.
    Plain,
    /// STARTTLS, and no mail without it.
    StartTls,
    /// TLS from the first byte.
    Implicit,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smtp {
    pub tls: SmtpTls,
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    pub port: u16,
    pub credentials: Option<SmtpCredentials>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpCredentials {
    pub user: String,
    pub password: Secret<String>,
}

/// The variant of this name.
pub(super) fn one_of<T: FromStr + VariantNames>(text: &str) -> Parsed<T> {
    text.parse().map_err(|_| {
        let names: Vec<String> = T::VARIANTS.iter().map(|name| format!("`{name}`")).collect();
        let (last, others) = names.split_last().expect("no enum of ours is empty");
        format!("must be {} or {last}", others.join(", "))
    })
}

pub(super) fn truth(text: &str) -> Parsed<bool> {
    text.parse().map_err(|_| "must be `true` or `false`".to_owned())
}

pub(super) fn switch(text: &str) -> Parsed<bool> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("must be `on` or `off`".to_owned()),
    }
}

pub(super) fn stays_on(on: bool) -> Parsed<()> {
    refuse(!on, "must be `on` in production; `off` is for load tests")
}

/// A thousand wrong codes at once and in an hour.
pub(super) fn bounds_guessing(rate: &Rate) -> Parsed<()> {
    let an_hour = f64::from(rate.burst) * 3_600.0 / rate.period.as_secs_f64();
    refuse(rate.burst > 1_000 || an_hour > 1_000.0, "must be at most 1000/1h in production, or codes can be guessed")
}

/// An error where `wrong` holds.
fn refuse(wrong: bool, message: &str) -> Parsed<()> {
    if wrong { Err(message.to_owned()) } else { Ok(()) }
}

#[expect(clippy::unnecessary_wraps, reason = "a row's parser answers so")]
pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    Ok(text.into())
}

pub(super) fn socket_address(text: &str) -> Parsed<SocketAddr> {
    text.parse().map_err(|_| "must be an IP address and a port".to_owned())
}

pub(super) fn mailbox(text: &str) -> Parsed<Mailbox> {
    let mailbox: Mailbox = text.parse().map_err(|_| "must be an email address, with or without a name before it".to_owned())?;
    refuse(has_route(mailbox.email.user()), "must have no %, ! or =? before the @, which mail servers read a route in")?;
    Ok(mailbox)
}

pub(super) fn log_filter(text: &str) -> Parsed<String> {
    EnvFilter::builder().parse(text).map_err(|error| format!("must be a filter ({error})"))?;
    Ok(text.to_owned())
}

/// `90s`, `15m`, `1h`, `30d`.
pub(crate) fn duration(text: &str) -> Parsed<Duration> {
    let wrong = || "must be a number and `s`, `m`, `h` or `d`".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let count: u32 = whole_number(&text[..text.len() - unit.len_utf8()]).ok_or_else(wrong)?;
    let span = Duration::from_secs(u64::from(count) * seconds);
    if span.is_zero() || span > MAX_DURATION {
        return Err("must be more than 0 and at most ten years".to_owned());
    }
    Ok(span)
}

/// As [`duration`], or `0` for "not at all".
pub(super) fn duration_or_zero(text: &str) -> Parsed<Duration> {
    if text == "0" { Ok(Duration::ZERO) } else { duration(text) }
}

/// A session's last use is written down once a minute at most, so a shorter idle time would end live ones.
pub(super) fn session_idle(text: &str) -> Parsed<Duration> {
    let idle = duration(text)?;
    refuse(idle < Duration::from_mins(2), "must be at least 2m").map(|()| idle)
}

/// `now`, `wait:24h`, `two`.
pub(super) fn reset_two_factor(text: &str) -> Parsed<ResetTwoFactor> {
    match (text, text.strip_prefix("wait:")) {
        ("now", _) => Ok(ResetTwoFactor::Now),
        ("two", _) => Ok(ResetTwoFactor::Two),
        (_, Some(span)) => {
            let wait = duration(span)?;
            let within = Duration::from_hours(1)..=MAX_RESET_WAIT;
            refuse(!within.contains(&wait), "must wait for 1h to 7d").map(|()| ResetTwoFactor::Wait(wait))
        }
        _ => Err("must be `now`, `two`, or `wait:` and a duration such as `24h`".to_owned()),
    }
}

/// NIST SP 800-63B-4 §3.1.3.2 and ASVS 6.5.5 give a mailed link or code ten minutes.
pub(super) fn magic_link_ttl(text: &str) -> Parsed<Duration> {
    let ttl = duration(text)?;
    refuse(ttl > MAX_LINK_TTL, "must be at most 10m").map(|()| ttl)
}

pub(super) fn leaves_mail_time(ttl: Duration) -> Parsed<()> {
    refuse(ttl < Duration::from_mins(1), "must be at least 1m in production; mail takes a while")
}

/// A long one defeats step-up: anybody who finds a browser open could change the account.
pub(super) fn is_recent(ttl: Duration) -> Parsed<()> {
    refuse(ttl > Duration::from_hours(1), "must be at most 1h in production")
}

/// `4/15m`.
pub(super) fn rate(text: &str) -> Parsed<Rate> {
    let (burst, period) = text.split_once('/').ok_or("must be a number, a slash and a time span")?;
    let burst = whole_number(burst)
        .filter(|burst| (1..=MAX_BURST).contains(burst))
        .ok_or_else(|| format!("must begin with a number from 1 to {MAX_BURST}"))?;
    Ok(Rate::new(burst, duration(period)?))
}

/// `str::parse` alone would let `+5` through.
fn whole_number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

pub(super) fn sign_up(text: &str) -> Parsed<SignUp> {
    match text {
        "open" => Ok(SignUp::Open),
        "invite" => Ok(SignUp::Invite),
        "closed" => Ok(SignUp::Closed),
        _ => {
            let domains = text.strip_prefix("domains:").ok_or("must be `open`, `invite`, `closed` or `domains:` and domains")?;
            mail_domains(domains).map(SignUp::Domains)
        }
    }
}

/// Each domain is some series in every instance, for good.
const MOST_METRICS_DOMAINS: usize = 100;

pub(super) fn metrics_domains(text: &str) -> Parsed<NamedDomains> {
    let mut domains = mail_domains(text)?;
    domains.sort_unstable();
    domains.dedup();
    if domains.len() > MOST_METRICS_DOMAINS {
        return Err(format!("must list at most {MOST_METRICS_DOMAINS} domains"));
    }
    Ok(NamedDomains::new(domains))
}

/// `host:port`, or the path of a socket. Whether anybody listens there is found out later, or never: it is UDP.
pub(super) fn statsd_address(text: &str) -> Parsed<String> {
    let socket =
        ["unix://", "unixgram://"].iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|path| path.starts_with('/')));
    let host = text.strip_prefix("udp://").unwrap_or(text).rsplit_once(':').is_some_and(|(host, port)| {
        Host::parse(host).is_ok() && whole_number(port).is_some_and(|port| (1..=65_535).contains(&port))
    });
    if socket || host { Ok(text.to_owned()) } else { Err("must be a host and a port, or a socket".to_owned()) }
}

/// Comma list of domains.
fn mail_domains(text: &str) -> Parsed<Vec<String>> {
    text.split(',').map(|domain| mail_domain(domain.trim())).collect()
}

fn mail_domain(text: &str) -> Parsed<String> {
    match Host::parse(text) {
        Ok(Host::Domain(name)) if !text.is_empty() => Ok(name),
        _ => Err("must list mail domains".to_owned()),
    }
}

pub(super) fn cookie_domain(text: &str) -> Parsed<String> {
    let name = host_name(text).ok_or("must be a domain name")?;
    refuse(name != "localhost" && !name.contains('.'), ONE_LABEL).map(|()| name)
}

/// A cookie for one label would be every site's below it, and browsers refuse it.
const ONE_LABEL: &str = "must have two labels at least, such as `example.org`; browsers refuse cookies for one";

pub(super) fn has_two_labels(name: &str) -> Parsed<()> {
    refuse(!name.contains('.'), ONE_LABEL)
}

/// Comma list of `host=level` or `host:port=level`.
pub(super) fn guarded_hosts(text: &str) -> Parsed<Vec<GuardedHost>> {
    let mut hosts: Vec<GuardedHost> = Vec::new();
    for entry in text.split(',') {
        let host = guarded_host(entry.trim())?;
        if hosts.iter().any(|other| (&other.name, other.port) == (&host.name, host.port)) {
            return Err(format!("lists {} twice", host.name));
        }
        hosts.push(host);
    }
    Ok(hosts)
}

fn guarded_host(entry: &str) -> Parsed<GuardedHost> {
    let (host, level) = entry.split_once('=').ok_or("must give each host the level that it needs")?;
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => match whole_number(port).and_then(|port| u16::try_from(port).ok()) {
            None | Some(0) => return Err("must list ports as numbers from 1 to 65535".to_owned()),
            // What browsers leave out, and so never comes back to us.
            Some(80 | 443) => return Err("must leave out ports 80 and 443, as browsers do".to_owned()),
            port => (name, port),
        },
        None => (host, None),
    };
    let name = host_name(name).ok_or("must list host names")?;
    let needs = match level {
        "email" => Level::Email,
        "two_factor" => Level::TwoFactor,
        _ => return Err(format!("must give {name} `email` or `two_factor`")),
    };
    Ok(GuardedHost { name, port, needs })
}

/// No address, and nothing that has two spellings: no dot at either end.
fn host_name(text: &str) -> Option<String> {
    match Host::parse(text) {
        Ok(Host::Domain(name)) => {
            let label = |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            name.split('.').all(label).then_some(name)
        }
        _ => None,
    }
}

/// Comma list of networks; an address alone is a network of one.
pub(super) fn networks(text: &str) -> Parsed<Vec<IpNet>> {
    text.split(',').map(|entry| network(entry.trim())).collect()
}

fn network(text: &str) -> Parsed<IpNet> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let network: IpNet = text.parse().map_err(|_| "must list addresses and networks".to_owned())?;
    if network != network.trunc() {
        return Err(format!("lists {network}, an address inside a network; the network is {}", network.trunc()));
    }
    // Peers are compared in their IPv4 form, so such a network would never match.
    match network {
        IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() => {
            Err(format!("lists {v6}, IPv4 in IPv6 clothes; write the IPv4 network"))
        }
        _ => Ok(network),
    }
}

/// With everyone a proxy, everyone may say which address they come from, and no limit holds.
pub(super) fn are_few(networks: &[IpNet]) -> Parsed<()> {
    refuse(networks.iter().any(|network| network.prefix_len() == 0), "must list your proxies, not every address there is")
}

pub(super) fn base_url(text: &str) -> Parsed<BaseUrl> {
    let url = http_url(text)?;
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err("must end after the host and port: no path, query or fragment".to_owned());
    }
    refuse(url.port() == Some(0), "must have a usable port; with LISTEN_ADDR at port 0 set it").map(|()| BaseUrl(url))
}

pub(super) fn is_https(url: &BaseUrl) -> Parsed<()> {
    refuse(!url.is_https(), "must begin with https:// in production; browsers keep our cookies on no other")
}

pub(super) fn http_url(text: &str) -> Parsed<Url> {
    let url = Url::parse(text).map_err(|_| "must be a URL".to_owned())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with https:// or http://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or password".to_owned());
    }
    Ok(url)
}

/// Comma list of pages. Requests are compared with them letter by letter, so each stands here as it is sent: an entry that means the same
/// as another spelling would never match that one.
pub(super) fn redirect_urls(text: &str) -> Parsed<Vec<String>> {
    text.split(',').map(|entry| redirect_url(entry.trim())).collect()
}

fn redirect_url(text: &str) -> Parsed<String> {
    let url = http_url(text)?;
    // The token in it signs somebody in.
    if url.scheme() != "https" && !url.host().is_some_and(|host| is_loopback(&host)) {
        return Err("must list pages that begin with https://, if they are not on this machine".to_owned());
    }
    if url.fragment().is_some() || url.query_pairs().any(|(name, _)| name == "token") {
        return Err("must list pages without a fragment and a `token` of their own".to_owned());
    }
    if url.as_str() != text {
        return Err(format!("must list pages in their plain spelling: {url}"));
    }
    Ok(url.into())
}

/// The `#`, `/` and `?` of a password end a URL's host: what stands behind them, with the real host, would be read as something else, or
/// as nothing.
pub(super) fn database_url(text: &str) -> Parsed<Secret<String>> {
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return Err("must begin with postgres://".to_owned());
    }
    let (_, rest) = text.split_once("://").unwrap_or_default();
    let host_ends = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // An @ behind the host's end: in a query it stands as %40 too.
    let encode = if rest[host_ends..].contains('@') {
        let credentials = rest.rsplit_once('@').map_or("", |(credentials, _)| credentials);
        named(credentials)
    } else if rest.contains('#') {
        "#".to_owned()
    } else {
        String::new()
    };
    if !encode.is_empty() {
        return Err(format!("has {encode} in the user or password: each must be percent-encoded (# %23, / %2F, ? %3F, @ %40)"));
    }
    Url::parse(text).map_err(|_| "must be a URL (in a password, @ / : ? # [ ] and % must be percent-encoded)".to_owned())?;
    Ok(Secret::new(text.to_owned()))
}

/// Which of the characters that end a URL's host stand in a user and password.
fn named(credentials: &str) -> String {
    ["#", "/", "?"].into_iter().filter(|sign| credentials.contains(sign)).collect::<Vec<_>>().join(" and ")
}

pub(super) fn smtp(text: &str) -> Parsed<Smtp> {
    let url = Url::parse(text).map_err(|_| "must be a URL (in a password, @ / : ? # and % must be percent-encoded)".to_owned())?;
    let implicit = match url.scheme() {
        "smtps" => true,
        "smtp" => false,
        _ => return Err("must begin with smtps:// or smtp://".to_owned()),
    };
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err("must end after the host and port (in a password, / ? and # must be percent-encoded)".to_owned());
    }
    let host = url.host_str().and_then(|host| Host::parse(host).ok()).ok_or("must name a mail server")?;
    let tls = match (implicit, is_loopback(&host)) {
        (true, _) => SmtpTls::Implicit,
        (false, true) => SmtpTls::Plain,
        (false, false) => SmtpTls::StartTls,
    };
    let port = url.port().unwrap_or(match tls {
        SmtpTls::Plain => 25,
        SmtpTls::StartTls => 587,
        SmtpTls::Implicit => 465,
    });
    let credentials = match (url.username(), url.password()) {
        ("", None) => None,
        (user, Some(password)) if !user.is_empty() => {
            Some(SmtpCredentials { user: percent_decoded(user)?, password: Secret::new(percent_decoded(password)?) })
        }
        _ => return Err("must have a user and a password, or neither".to_owned()),
    };
    let host = match host {
        Host::Domain(name) => name,
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    };
    Ok(Smtp { tls, host, port, credentials })
}

fn percent_decoded(text: &str) -> Parsed<String> {
    // The library would leave a `%` that begins nothing as it is.
    let whole = text.split('%').skip(1).all(|rest| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2);
    let decoded = percent_decode_str(text).decode_utf8().ok().filter(|_| whole);
    decoded.map(Into::into).ok_or_else(|| "must be percent-encoded UTF-8 (write % itself as %25)".to_owned())
}

pub(super) fn is_loopback<S: AsRef<str>>(host: &Host<S>) -> bool {
    match host {
        // RFC 6761 §6.3: every name under `localhost` means this machine, and browsers agree.
        Host::Domain(name) => name.as_ref() == "localhost" || name.as_ref().ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// Scheme, host and path; whatever could hold a password becomes `***` or is left out.
pub(super) fn redacted_url(text: &str) -> String {
    let Ok(url) = Url::parse(text) else { return "***".to_owned() };
    let who = if url.username().is_empty() && url.password().is_none() { "" } else { "***@" };
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    // A PostgreSQL socket directory stands in the query; it says where, and is no secret.
    let socket =
        url.query_pairs().find(|(name, _)| name == "host").map(|(_, directory)| format!("?host={directory}")).unwrap_or_default();
    format!("{}://{who}{host}{port}{}{socket}", url.scheme(), url.path())
}

/// 32 bytes in base64, as `openssl rand -base64 32` prints them.
pub(super) fn key(text: &str) -> Parsed<Secret<[u8; 32]>> {
    let mut bytes = BASE64.decode(text.trim_ascii().as_bytes()).map_err(|_| "must be base64".to_owned())?;
    let key = <[u8; 32]>::try_from(bytes.as_slice()).map(Secret::new).map_err(|_| format!("must be 32 bytes, not {}", bytes.len()));
    bytes.zeroize();
    key
}

pub(super) fn keys(text: &str) -> Parsed<Vec<Secret<[u8; 32]>>> {
    text.split(',').map(key).collect()
}

/// The key printed in `.env.example`, which everyone knows.
const EXAMPLE_KEY: &[u8; 32] = b"example key, replace before use!";

pub(super) fn is_random(key: &Secret<[u8; 32]>) -> Parsed<()> {
    refuse(is_weak(key), "can be guessed: it is an example, or was made up")
}

/// A key that a person made up. Of 32 random bytes some 30 differ, and the odds that fewer than
/// ten do are below 10⁻³⁰.
fn is_weak(key: &Secret<[u8; 32]>) -> bool {
    let mut distinct = key.expose().to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let weak = distinct.len() < 10 || key.expose() == EXAMPLE_KEY;
    distinct.zeroize();
    weak
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_as_written() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1h", 3600), ("30d", 2_592_000)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "m", "10", "10 m", "+1m", "-1m", "1.5h", "1h30m", "0s", "4000d", "99999999999d", "5µ", "１m"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!((duration_or_zero("0"), duration_or_zero("1d")), (Ok(Duration::ZERO), duration("1d")));
        assert!(duration("0").is_err() && duration_or_zero("0d").is_err());
    }

    #[test]
    fn resets_of_two_factor_read_as_written() {
        let wait = |hours| Ok(ResetTwoFactor::Wait(Duration::from_hours(hours)));
        for (text, read) in
            [("now", Ok(ResetTwoFactor::Now)), ("two", Ok(ResetTwoFactor::Two)), ("wait:1h", wait(1)), ("wait:7d", wait(168))]
        {
            assert_eq!(reset_two_factor(text), read, "{text}");
        }
        for text in ["", "Now", "wait", "wait:", "wait:0", "wait:59m", "wait:169h", "wait: 24h", "three"] {
            assert!(reset_two_factor(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_read_as_written() {
        assert_eq!(rate("4/15m"), Ok(Rate::new(4, Duration::from_mins(15))));
        for text in ["", "4", "/1m", "4/", "0/1m", "-1/1m", "+4/1m", "1000001/1m", "4/0m", "4/1m/1m", "99999999999/1m"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn base_url_is_an_origin() {
        let url = |text| base_url(text).map(|url| (url.origin(), url.is_https(), url.is_loopback()));
        assert_eq!(url("https://Login.Example.org"), Ok(("https://login.example.org".to_owned(), true, false)));
        assert_eq!(url("https://login.example.org:443/"), Ok(("https://login.example.org".to_owned(), true, false)));
        assert_eq!(url("http://localhost:3000"), Ok(("http://localhost:3000".to_owned(), false, true)));
        assert_eq!(url("http://[::1]:3000"), Ok(("http://[::1]:3000".to_owned(), false, true)));
        assert_eq!(url("http://app.localhost"), Ok(("http://app.localhost".to_owned(), false, true)));
        assert_eq!(url("http://127.0.0.9"), Ok(("http://127.0.0.9".to_owned(), false, true)));
        assert_eq!(url("http://localhost.example.org").map(|url| url.2), Ok(false));
        for text in [
            "",
            "login.example.org",
            "ftp://e.org",
            "https://e.org/x",
            "https://e.org?x",
            "https://e.org#x",
            "https://u:p@e.org",
            "https://",
            "javascript:x",
        ] {
            assert!(base_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn smtp_is_never_plain_off_loopback() {
        let of = |text| smtp(text).map(|smtp| (smtp.tls, smtp.host, smtp.port));
        assert_eq!(of("smtp://mail.example.org"), Ok((SmtpTls::StartTls, "mail.example.org".to_owned(), 587)));
        assert_eq!(of("smtp://mail.example.org:25"), Ok((SmtpTls::StartTls, "mail.example.org".to_owned(), 25)));
        assert_eq!(of("smtps://mail.example.org"), Ok((SmtpTls::Implicit, "mail.example.org".to_owned(), 465)));
        assert_eq!(of("smtp://LOCALHOST:1025"), Ok((SmtpTls::Plain, "localhost".to_owned(), 1025)));
        assert_eq!(of("smtp://[::1]:1025"), Ok((SmtpTls::Plain, "::1".to_owned(), 1025)));
        assert_eq!(of("smtps://127.0.0.1"), Ok((SmtpTls::Implicit, "127.0.0.1".to_owned(), 465)));
        for text in [
            "",
            "mail.example.org",
            "http://mail.example.org",
            "smtp://",
            "smtp://h/path",
            "smtp://h?tls=no",
            "smtp://user@h",
            "smtp://:pw@h",
            "smtp://u:a%zz@h",
            "smtp://u:a%f@h",
            "smtp://u:%ff@h",
        ] {
            assert!(smtp(text).is_err(), "{text}");
        }
    }

    #[test]
    fn smtp_passwords_are_decoded_and_hidden() {
        let credentials = smtp("smtps://me%40example.org:p%40ss%2Fw+%25@h").map(|smtp| smtp.credentials);
        let credentials = credentials.ok().flatten().expect("valid");
        assert_eq!((credentials.user.as_str(), credentials.password.expose().as_str()), ("me@example.org", "p@ss/w+%"));
        assert!(!format!("{credentials:?}").contains("p@ss"));
    }

    #[test]
    fn networks_must_be_networks() {
        let list = networks("127.0.0.1, 10.0.0.0/8,2001:db8::/32,::ffff:192.0.2.1")
            .map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(list, Ok(["127.0.0.1/32", "10.0.0.0/8", "2001:db8::/32", "192.0.2.1/32"].map(str::to_owned).to_vec()));
        for text in ["", "10.0.0.1/8", "proxy.example.org", "10.0.0.0/33", "10.0.0.0/8,", "::ffff:10.0.0.0/104"] {
            assert!(networks(text).is_err(), "{text}");
        }
    }

    #[test]
    fn guarded_hosts_read_as_written() {
        let host = |name: &str, port, needs| GuardedHost { name: name.to_owned(), port, needs };
        assert_eq!(
            guarded_hosts("app.example.org=email, Admin.Example.org=two_factor,bücher.example.org:8443=email"),
            Ok(vec![
                host("app.example.org", None, Level::Email),
                host("admin.example.org", None, Level::TwoFactor),
                host("xn--bcher-kva.example.org", Some(8443), Level::Email),
            ])
        );
        for text in [
            "",
            "app.example.org",
            "app.example.org=",
            "app.example.org=first_factor",
            "app.example.org=Email",
            "=email",
            "app.example.org=email,",
            "app.example.org=email,app.example.org=two_factor",
            "192.0.2.1=email",
            "[::1]=email",
            "app.example.org.=email",
            ".example.org=email",
            "*.example.org=email",
            "app_1.example.org=email",
            "a@app.example.org=email",
            "https://app.example.org=email",
            "app.example.org/x=email",
            "app.example.org:=email",
            "app.example.org:0=email",
            "app.example.org:443=email",
            "app.example.org:65536=email",
            "app.example.org:+8443=email",
            "app.example.org:8443:1=email",
        ] {
            assert!(guarded_hosts(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_cookie_domain_has_two_labels() {
        let in_production = |text| cookie_domain(text).and_then(|name| has_two_labels(&name).map(|()| name));
        assert_eq!(in_production("Example.ORG"), Ok("example.org".to_owned()));
        assert_eq!(cookie_domain("localhost"), Ok("localhost".to_owned()));
        for text in ["", "localhost", "org", ".example.org", "example.org.", "192.0.2.1", "[::1]", "a b.org", "https://e.org"] {
            assert!(in_production(text).is_err(), "{text}");
        }
        assert!(cookie_domain("org").is_err());
    }

    #[test]
    fn sign_up_rules() {
        assert_eq!(sign_up("open"), Ok(SignUp::Open));
        assert_eq!(sign_up("invite"), Ok(SignUp::Invite));
        assert_eq!(sign_up("closed"), Ok(SignUp::Closed));
        assert_eq!(
            sign_up("domains:Example.ORG, bücher.example"),
            Ok(SignUp::Domains(vec!["example.org".to_owned(), "xn--bcher-kva.example".to_owned()]))
        );
        for text in ["", "Open", "domains:", "domains:a@example.org", "domains:example.org,", "domains:192.0.2.1", "example.org"] {
            assert!(sign_up(text).is_err(), "{text}");
        }
    }

    #[test]
    fn metrics_name_a_few_domains() {
        assert_eq!(
            metrics_domains("example.org, Bücher.example,EXAMPLE.org"),
            Ok(NamedDomains::new(["example.org".to_owned(), "xn--bcher-kva.example".to_owned()]))
        );
        let many = (0..=MOST_METRICS_DOMAINS).map(|n| format!("d{n}.example")).collect::<Vec<_>>().join(",");
        for text in ["", "example.org,", "m@example.org", "192.0.2.1", &many] {
            assert!(metrics_domains(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_statsd_server_has_a_port_or_a_path() {
        for text in ["127.0.0.1:8125", "agent.example.org:8125", "[::1]:8125", "udp://agent:8125", "unixgram:///run/dsd.socket"] {
            assert_eq!(statsd_address(text), Ok(text.to_owned()));
        }
        for text in ["", "127.0.0.1", "agent:0", "agent:99999", ":8125", "http://agent:8125", "unix://relative", "unixgram://"] {
            assert!(statsd_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_are_32_bytes_and_not_made_up() {
        let encoded = |bytes: &[u8]| BASE64.encode(bytes);
        let random: Vec<u8> = (0..32).map(|i| i * 7 + 3).collect();
        assert!(key(&encoded(&random)).is_ok_and(|key| !is_weak(&key)));
        for weak in [[0; 32], [0xff; 32], [b'a'; 32], *EXAMPLE_KEY, *b"12345678123456781234567812345678"] {
            assert!(key(&encoded(&weak)).is_ok_and(|key| is_weak(&key)));
        }
        for text in [String::new(), "not base64!".to_owned(), encoded(&random[..31]), encoded(&[random.as_slice(), &[1]].concat())]
        {
            let wrong = key(&text).expect_err(&text);
            assert!(text.is_empty() || !wrong.contains(&text));
        }
        assert_eq!(keys(&format!("{0},{0}", encoded(&random))).map(|keys| keys.len()), Ok(2));
    }

    #[test]
    fn urls_are_shown_without_what_may_be_secret() {
        for (url, shown) in [
            (
                "postgres://app:s3cret@db.example.org:5433/latchkey?sslmode=require&password=s3cret",
                "postgres://***@db.example.org:5433/latchkey",
            ),
            ("postgres:///latchkey?host=/run/postgresql&user=app", "postgres:///latchkey?host=/run/postgresql"),
            ("postgres://s3cret@db/x", "postgres://***@db/x"),
            ("smtps://s3cret:s3cret@mail.example.org", "smtps://***@mail.example.org"),
            ("not a URL with s3cret", "***"),
        ] {
            assert_eq!(redacted_url(url), shown);
        }
    }

    proptest! {
        /// Whatever stands in a variable, the parsers answer; and their answer doesn't quote it.
        #[test]
        fn parsers_never_panic(text in "\\PC{0,40}|[0-9smhd/]{0,8}|smtp://[a-z:@%0-9\\[\\]./]{0,20}") {
            let _ = (duration(&text), rate(&text), base_url(&text), http_url(&text), redirect_urls(&text), smtp(&text), networks(&text));
            let _ = (sign_up(&text), key(&text), keys(&text), database_url(&text), redacted_url(&text), guarded_hosts(&text), cookie_domain(&text));
        }

        #[test]
        fn percent_encoding_round_trips(password in "\\PC{1,20}") {
            // `Url` encodes everything but `%`, as the writer of an environment file must.
            prop_assume!(!password.contains('%'));
            let mut url = Url::parse("smtps://user@mail.example.org").expect("valid");
            url.set_password(Some(&password)).expect("has a host");
            let parsed = smtp(url.as_str()).expect("valid").credentials.expect("given");
            prop_assert_eq!(parsed.password.expose(), &password);
        }
    }

    /// `1#2` is a URL: of a host `app`, with the port `1`.
    #[test]
    fn a_database_url_with_a_sign_that_must_be_encoded_names_it_and_not_the_password() {
        for (password, signs) in
            [("1#2", "#"), ("hunter#2", "#"), ("1/2", "/"), ("a?b", "?"), ("a#/?b", "# and / and ?"), ("a@b#c", "#"), ("#", "#")]
        {
            let error = database_url(&format!("postgres://app:{password}@db.example.org/latchkey")).expect_err(password);
            assert!(error.starts_with(&format!("has {signs} in the user or password")), "{password}: {error}");
            assert!(!error.contains("hunter") && !error.contains("example.org"), "{error}");
        }
        for url in [
            "postgres://app:1%232@db.example.org/latchkey",
            "postgres://app:a@b@db.example.org/latchkey?sslmode=require",
            "postgresql:///latchkey?host=/run/postgresql&user=app",
            "postgres://latchkey@%2Frun%2Fpostgresql/latchkey",
        ] {
            database_url(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        }
        for url in ["postgres://app@db/latchkey#x", "postgres://app:p@db:port/x", "mysql://db/x", ""] {
            database_url(url).map(drop).expect_err(url);
        }
    }
}
