//! `latchkey doctor`: what is wrong, and how to mend it. It changes nothing and sends nothing.
//!
//! To add a check: an arm of [`examine`] that answers within [`LIMIT`]; no check keeps another from being made.

use std::{error::Error as _, fmt::Display, sync::Arc, time::Duration};

use auth::{
    Auth,
    audit::months_ahead,
    operations::diagnostics::{self, Pooling},
    primitives::clock::SystemClock,
};
use serde::Serialize;
use serde_json::json;
use sqlx::{ConnectOptions as _, Connection as _, PgPool};
use time::OffsetDateTime;
use url::Host;

use super::{Output, missing_keys, say};
use crate::{
    config::{self, Config, Environment, SmtpTls},
    database::{Database, READ_ONLY, pooler},
    mail::smtp::{SmtpServer, hello},
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

    async fn make(&mut self, name: &'static str, check: impl Future<Output = Looked>) {
        let looked = tokio::time::timeout(LIMIT, check).await;
        let late = |_| Err(Said::failed(format!("no answer within {} s", LIMIT.as_secs())));
        let (Ok(said) | Err(said)) = looked.unwrap_or_else(late);
        self.add(name, said);
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
    let mut admin = None;
    if let Some(database) = database {
        let pool = database.pool();
        checks.make("database", reachable(&pool)).await;
        if checks.passed("database") {
            Box::pin(examine_database(checks, config, database, &pool)).await;
            admin = diagnostics::an_administrator(&pool).await.ok().flatten();
        }
        pool.close().await;
    }
    if !checks.passed("database") {
        for name in ["owner", "pooler", "migrations", "roles", "clock", "addresses", "keys", "flag", "audit"] {
            checks.add(name, Said(Outcome::Skipped, "the database does not answer".to_owned()));
        }
    }
    checks.make("mail server", Box::pin(mail_server(config, admin))).await;
    checks.add("sender", sender(config));
}

async fn examine_database(checks: &mut Checks, config: &Config, database: &Database, pool: &PgPool) {
    checks.make("owner", owner(database)).await;
    checks.make("pooler", pooler(pool)).await;
    checks.make("migrations", migrations(pool)).await;
    checks.make("roles", roles(pool)).await;
    checks.make("clock", clock(pool)).await;
    checks.make("addresses", addresses(pool)).await;
    let auth = match config.keys() {
        Ok(keys) => Auth::new(pool.clone(), Arc::new(SystemClock::new()), keys, config.policy.clone()),
        Err(error) => return checks.add("keys", Said::failed(format!("{error:#}"))),
    };
    checks.make("keys", keys(&auth)).await;
    checks.make("flag", flag(config, pool)).await;
    checks.make("audit", audit(pool, auth.now())).await;
}

/// What a check finds; `Err` if it could not be made.
type Looked = Result<Said, Said>;

fn unanswered<E: Display>(what: &str) -> impl FnOnce(E) -> Said {
    move |error| Said::failed(format!("{what}: {error}"))
}

/// What the database said: our own error says only that it said something.
fn whole(error: &auth::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

fn untold(error: auth::Error) -> Said {
    unanswered("can't be told")(whole(&error))
}

async fn reachable(pool: &PgPool) -> Looked {
    // A pool says only that it waited in vain; the connection itself says why.
    let connected = async {
        let mut connection = pool.connect_options().connect().await?;
        let version = diagnostics::version(&mut connection).await?;
        let is_replica = diagnostics::is_replica(&mut connection).await?;
        let is_read_only = diagnostics::is_read_only(&mut connection).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>((version, is_replica, is_read_only))
    };
    let (version, is_replica, is_read_only) =
        connected.await.map_err(unanswered("no connection; is DATABASE_URL right, and the server running?"))?;
    if is_replica {
        return Err(Said::failed("this is a replica, of which nothing is asked; DATABASE_URL must lead to the primary"));
    }
    if is_read_only {
        return Err(Said::failed(format!("{READ_ONLY}; find who set it and why (a full disk, maintenance), then turn it off")));
    }
    Ok(Said::ok(format!("PostgreSQL {version}")))
}

async fn owner(database: &Database) -> Looked {
    let pool = database.migrator().await.map_err(|error| Said::failed(format!("`latchkey migrate` could not run: {error:#}")))?;
    pool.close().await;
    Ok(Said::ok("the schema's owner can connect"))
}

async fn pooler(pool: &PgPool) -> Looked {
    match diagnostics::pooling(pool).await {
        Ok(Pooling::Session) => Ok(Said::ok("each connection keeps its server process")),
        Ok(Pooling::Transaction) => Ok(Said::failed(pooler::FOUND)),
        Err(error) => Err(unanswered("a second connection got no answer; behind a pooler, set pool_mode = session")(whole(&error))),
    }
}

async fn migrations(pool: &PgPool) -> Looked {
    let all = auth::operations::migrate::status(pool).await;
    let all = all.map_err(unanswered("can't be listed; `latchkey migrate` grants the role what it needs"))?;
    let pending: Vec<String> =
        all.iter().filter(|migration| !migration.applied).map(|migration| format!("{:03}", migration.version)).collect();
    if pending.is_empty() {
        return Ok(Said::ok("all applied"));
    }
    Ok(Said::failed(format!("{} pending; run `latchkey migrate`", pending.join(", "))))
}

async fn roles(pool: &PgPool) -> Looked {
    let Some(role) = diagnostics::role(pool).await.map_err(untold)? else {
        return Ok(Said::failed("there are no tables yet; run `latchkey migrate`"));
    };
    let name = role.name;
    Ok(if !role.works {
        Said::failed(format!("{name} may not use the tables; run `latchkey migrate`, which grants it what it needs"))
    } else if role.owns {
        Said::warning(format!(
            "{name} owns the schema it works on: whoever takes over a server could alter or drop the audit, and a trigger alone guards it; \
             make a second role for DATABASE_URL, and put the owner's into DATABASE_MIGRATOR_URL"
        ))
    } else if role.changes_audit {
        Said::warning(format!(
            "{name} may change the audit, which a trigger alone guards; run `latchkey migrate`, which takes that away"
        ))
    } else {
        Said::ok(format!("{name} owns nothing and may only add to the audit"))
    })
}

async fn clock(pool: &PgPool) -> Looked {
    let off = SystemClock::new().sync(pool).await.map_err(unanswered("can't be told"))?.abs();
    let text = format!("this machine's clock and the database's are {:.3} s apart", off.as_seconds_f64());
    Ok(if off > CLOCK_BROKEN {
        Said::failed(format!("{text}: authenticator codes go by the database's; let both be set by NTP"))
    } else if off > CLOCK_OFF {
        Said::warning(format!("{text}; let both be set by NTP"))
    } else {
        Said::ok(text)
    })
}

/// So many are named; the number says how many there are.
const NAMED: usize = 50;

async fn addresses(pool: &PgPool) -> Looked {
    let routed = diagnostics::routed_addresses(pool).await.map_err(untold)?;
    if routed.is_empty() {
        return Ok(Said::ok("no account's address has a route in it"));
    }
    let named: Vec<String> = routed.iter().take(NAMED).map(|account| format!("{} {}", account.id, account.address)).collect();
    let rest = if routed.len() > NAMED { format!(" and {} more", routed.len() - NAMED) } else { String::new() };
    Ok(Said::warning(format!(
        "accounts whose address has a route in it (%, ! or =? before the @): {}; mail servers may pass their mail on to somebody outside \
         of the domain. Ask who they are, turn off what nobody vouches for (`latchkey user disable`), and let the others change their \
         address: {}{rest}",
        routed.len(),
        named.join(", ")
    )))
}

async fn keys(auth: &Auth) -> Looked {
    let keys = auth.factors().key_status().await.map_err(untold)?;
    let secrets: i64 = keys.iter().map(|key| key.totp_secrets).sum();
    let complete = || Said::ok(format!("all that {secrets} two-factor secrets lie under are there"));
    Ok(missing_keys(&keys).map_or_else(complete, Said::failed))
}

async fn flag(config: &Config, pool: &PgPool) -> Looked {
    const KEY: &str = "passwordless_auth";
    let text = match diagnostics::flag(pool, KEY).await.map_err(untold)? {
        None => {
            let word = if config.policy.passwordless_auth { "on" } else { "off" };
            format!("{KEY} is {word}, by FEATURE_PASSWORDLESS_AUTH")
        }
        Some(row) => format!(
            "{KEY} is on for {} % of everyone, {} % of administrators and {} addresses, by its row",
            row.percent_everyone, row.percent_admins, row.allowed
        ),
    };
    Ok(Said::ok(text))
}

async fn audit(pool: &PgPool, now: OffsetDateTime) -> Looked {
    let mut missing = Vec::new();
    for (which, at) in ["this month", "next month"].into_iter().zip(months_ahead(now)) {
        if !diagnostics::has_audit_month(pool, at).await.map_err(untold)? {
            missing.push(which);
        }
    }
    if missing.is_empty() {
        return Ok(Said::ok("this month and next have their partitions"));
    }
    Ok(Said::warning(format!(
        "there is no partition for {}; a running server makes it within an hour, and until then rows go to auth_audit_default, which \
         is never dropped",
        missing.join(" and ")
    )))
}

/// As for a mail: from the sender to an administrator, or to the sender where nobody is known. Another domain than the sender's own may be
/// what the server passes no mail on to.
async fn mail_server(config: &Config, admin: Option<String>) -> Looked {
    let Some(smtp) = config.mail.server() else { return Ok(Said::ok("none: mail stays in /dev/inbox")) };
    let server = SmtpServer::new(smtp, hello(&config.base_url.host())).map_err(|error| Said::failed(format!("{error:#}")))?;
    let at = format!("{}:{}", smtp.host, smtp.port);
    let from = &config.mail_from.email;
    let to = admin.and_then(|email| email.parse().ok()).unwrap_or_else(|| from.clone());
    let encrypted = server.try_out(from, &[to]).await.map_err(unanswered(&format!("{at} (EMAIL_SMTP)")))?;
    let signed_in = if smtp.credentials.is_some() { ", knows the user and password" } else { "" };
    let tls = match (smtp.tls, encrypted) {
        (SmtpTls::Implicit, _) => "by TLS",
        (_, true) => "by STARTTLS",
        (_, false) => "without TLS",
    };
    Ok(Said::ok(format!("{at} talks to us {tls}{signed_in}, and takes mail from {}", from.domain())))
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
    let off_this_machine = config.mail.server().is_some() && !config.base_url.is_loopback();
    let usable = domain.contains('.') && !reserved && !sample && matches!(Host::parse(domain), Ok(Host::Domain(_)));
    if usable || !off_this_machine {
        Said::ok(format!("{} (its domain needs SPF, DKIM and DMARC, which are not looked at here)", config.mail_from.email))
    } else {
        Said::warning(format!("{domain} in EMAIL_FROM is no domain that others can answer or verify; use one of yours"))
    }
}
