use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use data_encoding::BASE64;

use auth::policy::{
    SignUp,
    limits::{Limit, Rate},
};
use std::time::Duration;

use super::{
    reader::Source,
    variables::{Row, SECTIONS, limit, rows},
    *,
};

/// A folder of a test's own, removed with it.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("latchkey-config-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a new name");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    fn file(&self, name: &str, content: &str, mode: u32) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).expect("writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
        path.to_str().expect("UTF-8").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const SECRET: &str = "s3cr3t-canary";

fn strong_key() -> String {
    BASE64.encode(&(0..32).map(|i| i * 7 + 3).collect::<Vec<u8>>())
}

/// What a production deployment must say, and nothing else.
fn production() -> Vec<(&'static str, String)> {
    vec![
        ("APP_ENV", "production".to_owned()),
        ("DATABASE_URL", format!("postgres://app:{SECRET}@db.example.org/latchkey")),
        ("BASE_URL", "https://login.example.org".to_owned()),
        ("EMAIL_SMTP", format!("smtp://mailer:{SECRET}@mail.example.org")),
        ("WALLET_ENCRYPTION_KEY", strong_key()),
    ]
}

fn with(mut pairs: Vec<(&'static str, String)>, changes: &[(&'static str, &str)]) -> Environment {
    for (name, value) in changes {
        pairs.retain(|(other, _)| other != name);
        pairs.push((name, (*value).to_owned()));
    }
    pairs.into_iter().collect()
}

fn development(changes: &[(&'static str, &str)]) -> Result<Config, Mistakes> {
    examine_for(&with(Vec::new(), changes), AppEnv::Development).config
}

/// The variables complained about, in order.
fn mistaken(config: Result<Config, Mistakes>) -> Vec<&'static str> {
    config.err().iter().flat_map(Mistakes::iter).map(|mistake| mistake.variable).collect()
}

fn mistaken_in_production(changes: &[(&'static str, &str)]) -> Vec<&'static str> {
    mistaken(load(&with(production(), changes)))
}

#[test]
fn development_needs_nothing() {
    let config = development(&[]).expect("every default holds");
    assert!(matches!(&config.database, Database::Private { data_dir, .. } if data_dir == Path::new(".latchkey/postgres")));
    assert!(config.migrate_on_start && config.policy.passwordless_auth && config.policy.limits.enabled);
    assert_eq!(config.base_url.origin(), "http://localhost:3000");
    assert!(matches!(config.mail, Mail::DevInbox));
    assert_eq!(config.mail_from.to_string(), "Latchkey <sign-in@localhost>");
    assert!(config.wallet_key.is_none());
    assert_eq!(config.policy.sign_up, SignUp::Open);
    assert_eq!(config.policy.link_ttl, Duration::from_mins(10));
    assert_eq!((config.policy.session_idle, config.policy.session_max), (Duration::from_hours(24), Duration::from_hours(30 * 24)));
    assert_eq!(config.policy.limits.rate(Limit::LinkAll), Rate::new(2000, Duration::from_mins(1)));
    assert_eq!((config.log_format, config.log_filter.as_str()), (None, "info"));
    assert_eq!(config.warnings, [""; 0]);
}

#[test]
fn a_release_build_that_nobody_configured_asks_for_everything_at_once() {
    let examined = examine_for(&Environment::default(), AppEnv::Production);
    let mistakes = examined.config.expect_err("must not start");
    let named: Vec<_> = mistakes.iter().map(|mistake| mistake.variable).collect();
    assert_eq!(named, ["DATABASE_URL", "BASE_URL", "EMAIL_SMTP", "WALLET_ENCRYPTION_KEY"]);
    for (line, name) in mistakes.to_string().lines().zip(named) {
        assert!(line.starts_with(&format!("{name} is required in production; write for example ")), "{line}");
    }
}

#[test]
fn production_starts_with_what_it_asks_for() {
    let config = load(&with(production(), &[])).expect("complete");
    assert!(!config.migrate_on_start && !config.policy.passwordless_auth && config.policy.limits.enabled);
    assert_eq!(config.policy.sign_up, SignUp::Invite);
    assert_eq!(config.mail_from.to_string(), "Latchkey <sign-in@login.example.org>");
    assert!(matches!(&config.mail, Mail::Smtp(smtp) if smtp.tls == SmtpTls::StartTls && smtp.port == 587));
    let Database::Url { application, migrator } = &config.database else { panic!("{:?}", config.database) };
    assert_eq!(application, migrator);
}

#[test]
fn production_refuses_what_is_unsafe() {
    let example = BASE64.encode(b"example key, replace before use!");
    let weak = BASE64.encode(&[7; 32]);
    let short = BASE64.encode(&[1; 31]);
    for (name, value) in [
        ("APP_ENV", "prod"),
        ("BASE_URL", "http://login.example.org"),
        ("BASE_URL", "https://login.example.org/auth"),
        ("WALLET_ENCRYPTION_KEY", "hunter2"),
        ("WALLET_ENCRYPTION_KEY", &weak),
        ("WALLET_ENCRYPTION_KEY", &short),
        ("WALLET_ENCRYPTION_KEY", &example),
        ("WALLET_ENCRYPTION_KEY_PREVIOUS", &short),
        ("LIMITS", "off"),
        ("LIMIT_LINK_ALL", "0/1m"),
        ("LIMIT_TOTP_ACCOUNT", "1001/1d"),
        ("LIMIT_CODE_NETWORK", "251/15m"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:secret@127.0.0.1:4318"),
        ("MAGIC_LINK_TTL", "11m"),
        ("MAGIC_LINK_TTL", "59s"),
        ("STEP_UP_TTL", "61m"),
        ("SESSION_IDLE", "31d"),
        ("SESSION_IDLE", "1m"),
        ("TRUSTED_PROXIES", "0.0.0.0/0"),
        ("TRUSTED_PROXIES", "::/0"),
        ("EMAIL_SMTP", "mail.example.org"),
        ("EMAIL_FROM", "nobody"),
        ("EMAIL_FROM", "sign-in%evil.example@example.org"),
        ("DATABASE_URL", "mysql://db.example.org/latchkey"),
        ("DATABASE_MIGRATOR_URL", "db.example.org"),
        ("LISTEN_ADDR", "3000"),
        ("OPS_LISTEN_ADDR", "127.0.0.1:3000"),
        ("SIGNUP", "everyone"),
        ("LEGACY_SIGN_IN_URL", "javascript:alert(1)"),
        ("REDIRECT_URLS", "http://app.example.org/sign-in"),
        ("REDIRECT_URLS", "https://app.example.org/,http://127.0.0.1.example.org/"),
        ("REDIRECT_URLS", "https://user@app.example.org/"),
        ("REDIRECT_URLS", "https://app.example.org/?token=1"),
        ("REDIRECT_URLS", "https://app.example.org/#in"),
        ("REDIRECT_URLS", "https://app.example.org"),
        ("REDIRECT_URLS", "https://APP.example.org/"),
        ("REDIRECT_URLS", "https://app.example.org/a/../b"),
        ("REDIRECT_URLS", "https:\\\\app.example.org\\"),
        ("REDIRECT_URLS", "javascript:alert(1)"),
        ("REDIRECT_URLS", "https://app.example.org/,"),
        ("FEATURE_PASSWORDLESS_AUTH", "1"),
        ("MIGRATE_ON_START", "yes"),
        ("LOG_FORMAT", "xml"),
        ("RUST_LOG", "server=loud"),
    ] {
        assert_eq!(mistaken_in_production(&[(name, value)]), [name], "{name}={value}");
    }
}

#[test]
fn a_mistake_never_shows_a_secret() {
    let secrets: Vec<_> = rows().filter(Row::is_secret).map(|row| row.name).collect();
    for name in secrets {
        for value in [SECRET.to_owned(), format!("https://u:{SECRET}@h/{SECRET}"), format!("smtp://{SECRET}%zz:{SECRET}@h")] {
            let examined = examine(&with(production(), &[(name, &value)]));
            let mistakes = examined.config.as_ref().expect_err(name).to_string();
            assert!(mistakes.starts_with(name), "{mistakes}");
            assert!(!mistakes.contains(SECRET), "{mistakes}");
        }
    }
}

#[test]
fn neither_the_check_nor_debug_shows_a_secret() {
    let migrator = format!("postgres://owner:{SECRET}@db.example.org/latchkey?password={SECRET}");
    let mut environment = production();
    environment.extend([("DATABASE_MIGRATOR_URL", migrator), ("WALLET_ENCRYPTION_KEY_PREVIOUS", strong_key())]);
    let examined = examine(&with(environment, &[]));
    let config = format!("{:?}", examined.config);
    assert!(config.starts_with("Ok("), "{config}");
    let all = format!("{config}{}{}{}", examined.table(), examined.json(), examined.complaints());
    assert!(!all.contains(SECRET) && !all.contains(&strong_key()), "{all}");
    assert!(all.contains("postgres://***@db.example.org/latchkey"), "where it points may be seen");
}

#[test]
fn the_check_tells_values_and_sources() {
    let folder = Folder::new();
    let key = folder.file("key", &strong_key(), 0o400);
    let environment =
        with(Vec::new(), &[("WALLET_ENCRYPTION_KEY_FILE", &key), ("SESSION_MAX", "7d\u{1b}[2J"), ("LIMIT_LINK_ADRESS", "1/1h")]);
    let examined = examine_for(&environment, AppEnv::Development);
    let table = examined.table();
    let line = |name: &str| {
        table
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")))
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(line("WALLET_ENCRYPTION_KEY"), "file ***");
    assert_eq!(line("SESSION_IDLE"), "default 1d");
    assert_eq!(line("SESSION_MAX"), "environment 7d\\u{1b}[2J");
    assert_eq!(line("BASE_URL"), "default http://localhost:3000");
    assert_eq!(line("EMAIL_SMTP"), "default -");

    let complaints = examined.complaints();
    let lines: Vec<_> = complaints.lines().collect();
    assert_eq!(lines.len(), 2, "{complaints}");
    assert!(lines[0].starts_with("warning: LIMIT_LINK_ADRESS "));
    assert!(lines[1].starts_with("SESSION_MAX "));

    let json = examined.json();
    assert_eq!(json["ok"], false);
    assert_eq!(json["mistakes"][0]["variable"], "SESSION_MAX");
    assert_eq!(json["settings"].as_array().map(Vec::len), Some(rows().count()));
}

#[test]
fn secrets_come_from_files_too() {
    let folder = Folder::new();
    let read = |content: &str| {
        let path = folder.file("database-url", content, 0o400);
        match development(&[("DATABASE_URL_FILE", &path)]).map(|config| config.database) {
            Ok(Database::Url { application, .. }) => Ok(application.expose().clone()),
            other => Err(format!("{other:?}")),
        }
    };
    assert_eq!(read("postgres://h/d"), Ok("postgres://h/d".to_owned()));
    assert_eq!(read("postgres://h/d\n"), Ok("postgres://h/d".to_owned()));
    assert_eq!(read("postgres://h/d\r\n"), Ok("postgres://h/d".to_owned()));
    assert_eq!(read("postgres://h/d?x= \n"), Ok("postgres://h/d?x= ".to_owned()), "only the newline goes");
    assert!(read("").is_err() && read("\n").is_err());
    assert!(read(&"x".repeat(100_000)).is_err());
}

#[test]
fn mistakes_with_files() {
    let folder = Folder::new();
    let private = folder.file("private", &format!("{}\n", strong_key()), 0o440);
    let open = folder.file("open", &format!("{}\n", strong_key()), 0o444);
    let without_key = || production().into_iter().filter(|(name, _)| *name != "WALLET_ENCRYPTION_KEY").collect::<Vec<_>>();
    let in_production = |path: &str| load(&with(without_key(), &[("WALLET_ENCRYPTION_KEY_FILE", path)]));
    assert!(in_production(&private).is_ok());
    for (path, why) in [(open.as_str(), "every user"), ("/nonexistent\nfile", "can't be read")] {
        let mistakes = in_production(path).expect_err(path).to_string();
        assert!(mistakes.starts_with("WALLET_ENCRYPTION_KEY ") && mistakes.contains(why), "{mistakes}");
        assert_eq!(mistakes.lines().count(), 1);
    }
    assert!(development(&[("WALLET_ENCRYPTION_KEY_FILE", &open)]).is_ok(), "development doesn't mind");
    let both = load(&with(production(), &[("WALLET_ENCRYPTION_KEY_FILE", &private)]));
    assert_eq!(mistaken(both), ["WALLET_ENCRYPTION_KEY"]);
}

#[test]
fn set_to_nothing_is_not_set() {
    let nothing: Vec<_> = rows().map(|row| (row.name, "")).collect();
    assert!(development(&nothing).is_ok());
}

#[test]
fn the_development_inbox_opens_on_loopback_only() {
    for loopback in ["http://localhost:3000", "http://127.0.0.1:3000", "http://[::1]:3000", "http://latchkey.localhost"] {
        let config = development(&[("BASE_URL", loopback)]).expect(loopback);
        assert!(matches!(config.mail, Mail::DevInbox), "{loopback}");
    }
    assert_eq!(mistaken(development(&[("BASE_URL", "https://dev.example.org")])), ["EMAIL_SMTP"]);
    let config = development(&[("BASE_URL", "http://dev.example.org"), ("EMAIL_SMTP", "smtp://localhost:1025")]).expect("allowed");
    assert!(config.warnings[0].starts_with("BASE_URL "), "{:?}", config.warnings);
    let config = development(&[("EMAIL_SMTP", "smtp://localhost:1025")]).expect("allowed");
    assert!(matches!(config.mail, Mail::Smtp(Smtp { tls: SmtpTls::Plain, .. })));
}

#[test]
fn values_that_must_fit_each_other() {
    assert_eq!(mistaken(development(&[("DATABASE_MIGRATOR_URL", "postgres://h/d")])), ["DATABASE_MIGRATOR_URL"]);
    assert_eq!(mistaken(development(&[("SESSION_IDLE", "8d"), ("SESSION_MAX", "7d")])), ["SESSION_IDLE"]);
    assert_eq!(mistaken_in_production(&[("BASE_URL", "https://192.0.2.7")]), ["EMAIL_FROM"]);
    assert_eq!(mistaken(development(&[("LISTEN_ADDR", "127.0.0.1:0")])), ["BASE_URL"]);
    assert_eq!(mistaken(development(&[("LISTEN_ADDR", "nonsense")])), ["LISTEN_ADDR"], "one mistake, one line");
    let config = development(&[("LISTEN_ADDR", "0.0.0.0:8080")]).expect("allowed");
    assert_eq!(config.base_url.origin(), "http://localhost:8080");
}

#[test]
fn every_variable_is_read_whatever_is_wrong() {
    let names: Vec<_> = rows().map(|row| row.name).collect();
    for value in ["", "nonsense"] {
        let environment = with(Vec::new(), &names.iter().map(|name| (*name, value)).collect::<Vec<_>>());
        let mut read: Vec<_> = examine(&environment).settings.iter().map(|setting| setting.name).collect();
        let mut listed = names.clone();
        read.sort_unstable();
        listed.sort_unstable();
        assert_eq!(read, listed);
    }
}

/// Under these lines of the README stands the part of the table that production needs.
const IN_README: &str = "| variable | if not set | |\n|---|---|---|\n";
/// What it shows besides what is required: what hardly any installation leaves as it is.
const OFTEN_SET: &[&str] = &[
    "LISTEN_ADDR",
    "TRUSTED_PROXIES",
    "DATABASE_MIGRATOR_URL",
    "EMAIL_FROM",
    "FEATURE_PASSWORDLESS_AUTH",
    "SIGNUP",
    "REQUIRE_2FA",
];
const ABOVE_EXAMPLE: &str = "\
# Every setting of Latchkey, with its default in development. Copy this file to `.env`, remove the `#` before a line and
# change it; then `set -a; . ./.env; set +a; cargo run`. An empty value counts as not set.
# `latchkey config check` shows what holds, and from where.
#
# Each secret (marked *) may instead lie in a file: NAME_FILE=/run/secrets/name.
";
const ABOVE_TABLES: &str = "\
# Configuration

Environment variables, each secret (\\*) also as `NAME_FILE`. Made from the code: a test compares. `latchkey config check` prints
what holds, and from where.
";

/// What documents say of a variable.
fn words(row: &Row) -> String {
    let required = if row.required { " Required in production." } else { "" };
    let other = row.production != row.development;
    let other = if other { format!(" `{}` in production.", row.production) } else { String::new() };
    format!("{}{required}{other}", row.words.trim())
}

/// As lines of comment.
fn commented(text: &str) -> String {
    let mut lines = String::from("#");
    let mut width = 1;
    for word in text.split(' ') {
        if width + 1 + word.chars().count() > 118 {
            lines.push_str("\n#");
            width = 1;
        }
        width += 1 + word.chars().count();
        lines.push(' ');
        lines.push_str(word);
    }
    lines
}

/// `.env.example`, which people copy, and the tables of `docs/configuration.md` and the README are made of the rows. Where one differs,
/// what it should be lies beside it, to be looked at and moved over it.
#[test]
fn the_documents_are_the_codes() {
    let (mut example, mut tables, mut core) = (ABOVE_EXAMPLE.to_owned(), ABOVE_TABLES.to_owned(), String::new());
    // As the check tells them, also those that are made of other values.
    let built_in = [AppEnv::Development, AppEnv::Production].map(|app_env| examine_for(&Environment::default(), app_env).settings);
    let last = SECTIONS.len() - 1;
    for (section, (heading, listed)) in SECTIONS.iter().enumerate() {
        let limits = Limit::ALL.into_iter().filter_map(limit).map(|variable| variable.row).filter(|_| section == last);
        let _ = writeln!(example, "\n{:-<119}\n", format!("# -- {heading} "));
        let _ = write!(tables, "\n## {heading}\n\n| variable | in development | in production | |\n|---|---|---|---|\n");
        for row in listed.iter().copied().chain(limits) {
            let (name, words) = (row.name, words(&row));
            let [development, production] = built_in.each_ref().map(|settings| {
                let setting = settings.iter().find(|setting| setting.name == name).expect("read");
                assert_eq!(setting.source, Source::Default);
                setting.value.clone().unwrap_or_default()
            });
            let quote = if development.contains(' ') { "\"" } else { "" };
            let secret = if row.is_secret() { "* " } else { "" };
            let _ = writeln!(example, "{}\n#{name}={quote}{development}{quote}", commented(&format!("{secret}{words}")));
            let cell = |value: String| if value.is_empty() { "–".to_owned() } else { format!("`{value}`") };
            let production = if row.required { "refuses to start".to_owned() } else { cell(production) };
            let (mark, words) = (if row.is_secret() { " \\*" } else { "" }, words.replace('|', "\\|"));
            let _ = writeln!(tables, "| `{name}`{mark} | {} | {production} | {words} |", cell(development));
            if row.required || OFTEN_SET.contains(&name) {
                let _ = writeln!(core, "| `{name}`{mark} | {production} | {words} |");
            }
        }
    }
    let readme = include_str!("../../../README.md");
    let (before, rest) = readme.split_once(IN_README).expect("the table's head");
    let rows: usize = rest.split_inclusive('\n').take_while(|line| line.starts_with('|')).map(str::len).sum();
    let whole = format!("{before}{IN_README}{core}{}", &rest[rows..]);
    let documents = [
        (".env.example", include_str!("../../../.env.example"), example),
        ("docs/configuration.md", include_str!("../../../docs/configuration.md"), tables),
        ("README.md", readme, whole),
    ];
    let stale: Vec<_> = documents.into_iter().filter(|(_, found, wanted)| wanted != found).collect();
    for (name, _, wanted) in &stale {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(format!("{name}.new"));
        fs::write(beside, wanted).expect("written");
    }
    let stale: Vec<_> = stale.iter().map(|(name, ..)| name).collect();
    assert!(stale.is_empty(), "{stale:?} differ from the code: see the same names with .new");
}

#[test]
fn forward_auth_is_whole_and_under_one_domain() {
    let whole = [
        ("BASE_URL", "https://id.example.org"),
        ("TRUSTED_PROXIES", "10.0.0.1"),
        ("FORWARD_AUTH_DOMAIN", "example.org"),
        ("FORWARD_AUTH_HOSTS", "app.example.org=email,admin.example.org=two_factor"),
    ];
    let changed = |changes: &[(&'static str, &'static str)]| {
        let all: Vec<_> = whole.iter().chain(changes).copied().collect();
        mistaken_in_production(&all)
    };
    assert_eq!(changed(&[]), [""; 0]);
    for (change, mistaken) in [
        (("FORWARD_AUTH_DOMAIN", ""), "FORWARD_AUTH_DOMAIN"),
        (("FORWARD_AUTH_HOSTS", ""), "FORWARD_AUTH_HOSTS"),
        (("TRUSTED_PROXIES", ""), "FORWARD_AUTH_HOSTS"),
        // The cookie can't be set from there.
        (("BASE_URL", "https://id.example.net"), "FORWARD_AUTH_DOMAIN"),
        (("BASE_URL", "https://192.0.2.1"), "FORWARD_AUTH_DOMAIN"),
        // The end of a name is not the end of a label.
        (("BASE_URL", "https://idexample.org"), "FORWARD_AUTH_DOMAIN"),
        (("FORWARD_AUTH_HOSTS", "app.example.net=email"), "FORWARD_AUTH_HOSTS"),
        (("FORWARD_AUTH_HOSTS", "badexample.org=email"), "FORWARD_AUTH_HOSTS"),
        (("FORWARD_AUTH_HOSTS", "id.example.org=email"), "FORWARD_AUTH_HOSTS"),
        (("FORWARD_AUTH_HOSTS", "app.example.org"), "FORWARD_AUTH_HOSTS"),
        (("FORWARD_AUTH_DOMAIN", "org"), "FORWARD_AUTH_DOMAIN"),
    ] {
        let found = changed(&[change]);
        assert!(found.contains(&mistaken), "{change:?}: {found:?}");
    }
}
