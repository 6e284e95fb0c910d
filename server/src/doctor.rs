//! `latchkey doctor`: what is wrong, and how to mend it. It changes nothing and sends nothing.
//!
//! To add a check: an arm of [`examine`] that answers within [`LIMIT`]; no check keeps another from being made.

use std::{error::Error as _, fmt::Display, future::Future, sync::Arc, time::Duration};

use auth::{
    Auth,
    operations::diagnostics::{self, Pooling},
    primitives::clock::SystemClock,
};
use serde::Serialize;
use serde_json::json;
use sqlx::{ConnectOptions as _, Connection as _, PgPool};
use time::OffsetDateTime;
use url::Host;

use crate::{
    cli::{Output, say},
    commands::missing_keys,
    config::{self, Config, Environment, Mail, SmtpTls},
    database::Database,
    pooler,
    smtp::SmtpServer,
};

/// For one check.
const LIMIT: Duration = Duration::from_secs(15);
/// Clocks that are further apart than this are worth a word, and than that keep authenticator codes from working.
const CLOCK_OFF: time::Duration = time::Duration::seconds(1);
const CLOCK_BROKEN: time::Duration = time::Duration::seconds(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Ok,
    Warning,
    Failed,
    /// What it looks at can't be reached.
    Skipped,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    outcome: Outcome,
    message: String,
}

/// An outcome in one line.
struct Said(Outcome, String);

impl Said {
    fn ok(text: impl Into<String>) -> Self {
        Self(Outcome::Ok, text.into())
    }

    fn warning(text: impl Into<String>) -> Self {
        Self(Outcome::Warning, text.into())
    }

    fn failed(text: impl Into<String>) -> Self {
        Self(Outcome::Failed, text.into())
    }
}

/// Whether nothing failed. On the main thread, which a private PostgreSQL lives as long as.
pub fn doctor(environment: &Environment, output: Output) -> anyhow::Result<bool> {
    let examined = config::examine(environment);
    let mut checks = Checks { json: output.json, made: Vec::new() };
    let warnings = examined.warnings.join("; ");
    checks.add(
        "configuration",
        match &examined.config {
            Ok(_) if warnings.is_empty() => Said::ok("complete"),
            Ok(_) => Said::warning(warnings),
            Err(mistakes) => Said::failed(mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
        },
    );
    let Ok(config) = examined.config else {
        return Ok(checks.finish());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match Database::open(&config) {
        Ok(database) => {
            runtime.block_on(examine(&mut checks, &config, Some(&database)));
            drop(runtime);
            database.close()?;
        }
        Err(error) => {
            checks.add("database", Said::failed(format!("{error:#}")));
            runtime.block_on(examine(&mut checks, &config, None));
        }
    }
    Ok(checks.finish())
}

struct Checks {
    json: bool,
    made: Vec<Check>,
}

impl Checks {
    fn add(&mut self, name: &'static str, Said(outcome, message): Said) {
        // One line, whatever a library says.
        let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
        if !self.json {
            let outcome = match outcome {
                Outcome::Ok => "ok",
                Outcome::Warning => "warning",
                Outcome::Failed => "FAILED",
                Outcome::Skipped => "skipped",
            };
            say(format_args!("{outcome:<8} {name:<14} {message}"));
        }
        self.made.push(Check { name, outcome, message });
    }

    async fn make(&mut self, name: &'static str, check: impl Future<Output = Said>) {
        let said = tokio::time::timeout(LIMIT, check).await;
        self.add(name, said.unwrap_or_else(|_| Said::failed(format!("no answer within {} s", LIMIT.as_secs()))));
    }

    fn passed(&self, name: &str) -> bool {
        self.made.iter().any(|check| check.name == name && check.outcome != Outcome::Failed)
    }

    fn finish(self) -> bool {
        let ok = self.made.iter().all(|check| check.outcome != Outcome::Failed);
        if self.json {
            say(json!({ "ok": ok, "checks": self.made }));
        }
        ok
    }
}

async fn examine(checks: &mut Checks, config: &Config, database: Option<&Database>) {
    if let Some(database) = database {
        let pool = database.pool();
        checks.make("database", reachable(&pool)).await;
        if checks.passed("database") {
            Box::pin(examine_database(checks, config, database, &pool)).await;
        }
        pool.close().await;
    }
    if !checks.passed("database") {
        for name in ["owner", "pooler", "migrations", "roles", "clock", "keys", "flag", "audit"] {
            checks.add(name, Said(Outcome::Skipped, "the database does not answer".to_owned()));
        }
    }
    checks.make("mail server", Box::pin(mail_server(config))).await;
    checks.add("sender", sender(config));
}

async fn examine_database(checks: &mut Checks, config: &Config, database: &Database, pool: &PgPool) {
    checks.make("owner", owner(database)).await;
    checks.make("pooler", pooler(pool)).await;
    checks.make("migrations", migrations(pool)).await;
    checks.make("roles", roles(pool)).await;
    checks.make("clock", clock(pool)).await;
    let auth = match config.keys() {
        Ok(keys) => Auth::new(pool.clone(), Arc::new(SystemClock::new()), keys, config.policy.clone()),
        Err(error) => return checks.add("keys", Said::failed(format!("{error:#}"))),
    };
    checks.make("keys", keys(&auth)).await;
    checks.make("flag", flag(config, pool)).await;
    checks.make("audit", audit(pool, auth.now())).await;
}

fn unanswered(what: &str, error: impl Display) -> Said {
    Said::failed(format!("{what}: {error}"))
}

/// What the database said: our own error says only that it said something.
fn whole(error: auth::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

async fn reachable(pool: &PgPool) -> Said {
    // A pool says only that it waited in vain; the connection itself says why.
    let connected = async {
        let mut connection = pool.connect_options().connect().await?;
        let version = diagnostics::version(&mut connection).await?;
        let is_replica = diagnostics::is_replica(&mut connection).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>((version, is_replica))
    };
    match connected.await {
        Ok((_, true)) => Said::failed("this is a replica, of which nothing is asked; DATABASE_URL must lead to the primary"),
        Ok((version, false)) => Said::ok(format!("PostgreSQL {version}")),
        Err(error) => unanswered("no connection; is DATABASE_URL right, and the server running?", error),
    }
}

async fn owner(database: &Database) -> Said {
    match database.migrator().await {
        Ok(pool) => {
            pool.close().await;
            Said::ok("the schema's owner can connect")
        }
        Err(error) => Said::failed(format!("`latchkey migrate` could not run: {error:#}")),
    }
}

async fn pooler(pool: &PgPool) -> Said {
    match diagnostics::pooling(pool).await {
        Ok(Pooling::Session) => Said::ok("each connection keeps its server process"),
        Ok(Pooling::Transaction) => Said::failed(pooler::FOUND),
        Err(error) => unanswered("a second connection got no answer; behind a pooler, set pool_mode = session", whole(error)),
    }
}

async fn migrations(pool: &PgPool) -> Said {
    match auth::operations::migrate::status(pool).await {
        Ok(migrations) => {
            let pending: Vec<String> = migrations
                .iter()
                .filter(|migration| !migration.applied)
                .map(|migration| format!("{:03}", migration.version))
                .collect();
            if pending.is_empty() {
                Said::ok("all applied")
            } else {
                Said::failed(format!("{} pending; run `latchkey migrate`", pending.join(", ")))
            }
        }
        Err(error) => unanswered("can't be listed; `latchkey migrate` grants the role what it needs", error),
    }
}

async fn roles(pool: &PgPool) -> Said {
    match diagnostics::role(pool).await {
        Ok(None) => Said::failed("there are no tables yet; run `latchkey migrate`"),
        Ok(Some(role)) if !role.works => {
            Said::failed(format!("{} may not use the tables; run `latchkey migrate`, which grants it what it needs", role.name))
        }
        Ok(Some(role)) if role.owns => Said::warning(format!(
            "{} owns the schema it works on: whoever takes over a server could alter or drop the audit, and a trigger alone guards it; \
             make a second role for DATABASE_URL, and put the owner's into DATABASE_MIGRATOR_URL",
            role.name
        )),
        Ok(Some(role)) if role.changes_audit => Said::warning(format!(
            "{} may change the audit, which a trigger alone guards; run `latchkey migrate`, which takes that away",
            role.name
        )),
        Ok(Some(role)) => Said::ok(format!("{} owns nothing and may only add to the audit", role.name)),
        Err(error) => unanswered("can't be told", whole(error)),
    }
}

async fn clock(pool: &PgPool) -> Said {
    match SystemClock::new().sync(pool).await {
        Ok(off) => {
            let text = format!("this machine's clock and the database's are {:.3} s apart", off.abs().as_seconds_f64());
            if off.abs() > CLOCK_BROKEN {
                Said::failed(format!("{text}: authenticator codes go by the database's; let both be set by NTP"))
            } else if off.abs() > CLOCK_OFF {
                Said::warning(format!("{text}; let both be set by NTP"))
            } else {
                Said::ok(text)
            }
        }
        Err(error) => unanswered("can't be told", error),
    }
}

async fn keys(auth: &Auth) -> Said {
    match auth.factors().key_status().await {
        Ok(keys) => {
            let missing: Vec<&str> = keys.iter().filter(|key| !key.known).map(|key| key.id.as_str()).collect();
            let secrets: i64 = keys.iter().map(|key| key.totp_secrets).sum();
            if missing.is_empty() {
                Said::ok(format!("all that {secrets} two-factor secrets lie under are there"))
            } else {
                Said::failed(missing_keys(&missing))
            }
        }
        Err(error) => unanswered("can't be told", whole(error)),
    }
}

async fn flag(config: &Config, pool: &PgPool) -> Said {
    const KEY: &str = "passwordless_auth";
    match diagnostics::flag(pool, KEY).await {
        Ok(None) => {
            let word = if config.policy.passwordless_auth { "on" } else { "off" };
            Said::ok(format!("{KEY} is {word}, by FEATURE_PASSWORDLESS_AUTH"))
        }
        Ok(Some(row)) => Said::ok(format!(
            "{KEY} is on for {} % of everyone, {} % of administrators and {} addresses, by its row",
            row.percent_everyone, row.percent_admins, row.allowed
        )),
        Err(error) => unanswered("can't be told", whole(error)),
    }
}

async fn audit(pool: &PgPool, now: OffsetDateTime) -> Said {
    // The first of next month, whatever day it is.
    let next = now.replace_day(1).unwrap_or(now) + time::Duration::days(32);
    let mut missing = Vec::new();
    for (which, at) in [("this month", now), ("next month", next)] {
        match diagnostics::has_audit_month(pool, at).await {
            Ok(true) => {}
            Ok(false) => missing.push(which),
            Err(error) => return unanswered("can't be told", whole(error)),
        }
    }
    if missing.is_empty() {
        Said::ok("this month and next have their partitions")
    } else {
        Said::warning(format!(
            "there is no partition for {}; a running server makes it within an hour, and until then rows go to auth_audit_default, \
             which is never dropped",
            missing.join(" and ")
        ))
    }
}

async fn mail_server(config: &Config) -> Said {
    let smtp = match &config.mail {
        Mail::DevInbox => return Said::ok("none: mail stays in /dev/inbox"),
        Mail::Smtp(smtp) => smtp,
    };
    let name = config.mail_from.email.domain().to_owned();
    let tried = match SmtpServer::new(smtp, name) {
        Ok(server) => server.try_out().await,
        Err(error) => return Said::failed(format!("{error:#}")),
    };
    let signed_in = if smtp.credentials.is_some() { ", and knows the user and password" } else { "" };
    let tls = match smtp.tls {
        SmtpTls::Plain => "without TLS",
        SmtpTls::StartTls => "by STARTTLS",
        SmtpTls::Implicit => "by TLS",
    };
    match tried {
        Ok(()) => Said::ok(format!("{}:{} talks to us {tls}{signed_in}", smtp.host, smtp.port)),
        Err(error) => Said::failed(format!("{}:{} (EMAIL_SMTP): {error}", smtp.host, smtp.port)),
    }
}

/// Names that no mail server takes for a sender's: RFC 2606, RFC 6762 and what is no name.
fn sender(config: &Config) -> Said {
    let domain = config.mail_from.email.domain();
    let last = domain.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let reserved = ["localhost", "test", "invalid", "example", "local", "internal", "localdomain"].contains(&last.as_str());
    let sample = ["example.org", "example.com", "example.net"].iter().any(|name| {
        let (name, domain) = (format!(".{name}"), format!(".{}", domain.to_ascii_lowercase()));
        domain.ends_with(&name)
    });
    let off_this_machine = matches!(config.mail, Mail::Smtp(_)) && !config.base_url.is_loopback();
    let usable = domain.contains('.') && !reserved && !sample && matches!(Host::parse(domain), Ok(Host::Domain(_)));
    if usable || !off_this_machine {
        Said::ok(format!("{} (its domain needs SPF, DKIM and DMARC, which are not looked at here)", config.mail_from.email))
    } else {
        Said::warning(format!("{domain} in EMAIL_FROM is no domain that others can answer or verify; use one of yours"))
    }
}
