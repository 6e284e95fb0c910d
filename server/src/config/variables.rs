//! Every variable, its defaults and an example: the list that the reader, `config check`, the
//! search for typing errors and `.env.example` share.

/// How a value may be shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Visibility {
    Public,
    /// Scheme, host and path only.
    UrlWithPassword,
    Secret,
}

/// One variable of the contract.
pub(super) struct Variable {
    pub name: &'static str,
    pub visibility: Visibility,
    /// Default in development and in production; empty: none.
    pub development: &'static str,
    pub production: &'static str,
    /// What to write, for messages about a missing or mistaken value.
    pub example: &'static str,
}

impl Variable {
    pub fn is_secret(&self) -> bool {
        self.visibility != Visibility::Public
    }
}

const fn public(name: &'static str, default: &'static str, example: &'static str) -> Variable {
    by_environment(name, default, default, example)
}

const fn by_environment(
    name: &'static str,
    development: &'static str,
    production: &'static str,
    example: &'static str,
) -> Variable {
    Variable { name, visibility: Visibility::Public, development, production, example }
}

const fn secret(name: &'static str, visibility: Visibility, example: &'static str) -> Variable {
    Variable { name, visibility, development: "", production: "", example }
}

pub(super) const VARIABLES: &[Variable] = &[
    by_environment("APP_ENV", "", "", "development or production"),
    secret("DATABASE_URL", Visibility::UrlWithPassword, "postgres://latchkey_app:PASSWORD@db.example.org/latchkey"),
    secret("DATABASE_MIGRATOR_URL", Visibility::UrlWithPassword, "postgres://latchkey_owner:PASSWORD@db.example.org/latchkey"),
    public("DATA_DIR", ".latchkey", "/var/lib/latchkey"),
    public("PG_BIN", "", "/usr/lib/postgresql/15/bin"),
    by_environment("MIGRATE_ON_START", "true", "false", "true or false"),
    public("LISTEN_ADDR", "127.0.0.1:3000", "127.0.0.1:3000"),
    public("OPS_LISTEN_ADDR", "", "127.0.0.1:9464"),
    public("BASE_URL", "", "https://login.example.org"),
    public("TRUSTED_PROXIES", "", "127.0.0.1,10.0.0.0/8"),
    public("FORWARD_AUTH_DOMAIN", "", "example.org"),
    public("FORWARD_AUTH_HOSTS", "", "app.example.org=email,admin.example.org=two_factor"),
    secret("EMAIL_SMTP", Visibility::UrlWithPassword, "smtp://USER:PASSWORD@mail.example.org:587"),
    public("EMAIL_FROM", "", "Latchkey <sign-in@example.org>"),
    secret("WALLET_ENCRYPTION_KEY", Visibility::Secret, "the output of `openssl rand -base64 32`"),
    secret("WALLET_ENCRYPTION_KEY_PREVIOUS", Visibility::Secret, "earlier keys, separated by commas"),
    by_environment("FEATURE_PASSWORDLESS_AUTH", "true", "false", "true or false"),
    public("LEGACY_SIGN_IN_URL", "", "https://example.org/login"),
    public("REDIRECT_URLS", "", "https://app.example.org/sign-in"),
    by_environment("SIGNUP", "open", "invite", "open, domains:example.org, invite or closed"),
    public("MAGIC_LINK_TTL", "10m", "10m"),
    public("SESSION_IDLE", "1d", "1d"),
    public("SESSION_MAX", "30d", "30d"),
    public("REQUIRE_2FA", "admins", "none, admins or everyone"),
    public("STEP_UP_TTL", "10m", "10m"),
    public("TRUSTED_DEVICE_TTL", "30d", "30d, or 0 for off"),
    public("LIMITS", "on", "on"),
    public("LIMIT_LINK_ADDRESS_NETWORK", "4/15m", "4/15m"),
    public("LIMIT_LINK_ADDRESS", "10/1h", "10/1h"),
    public("LIMIT_LINK_KNOWN_BROWSER", "5/15m", "5/15m"),
    public("LIMIT_LINK_NETWORK", "30/15m", "30/15m"),
    public("LIMIT_LINK_ALL", "2000/1m", "2000/1m"),
    public("LIMIT_CODE_NETWORK", "30/15m", "30/15m"),
    public("LIMIT_TOTP_ACCOUNT", "5/15m", "5/15m"),
    public("LIMIT_BACKUP_ACCOUNT", "5/1h", "5/1h"),
    public("LIMIT_STEP_UP_ACCOUNT", "10/15m", "10/15m"),
    public("LIMIT_STEP_UP_MAIL", "5/1h", "5/1h"),
    public("LIMIT_ADDRESS_CHANGE", "5/1d", "5/1d"),
    public("LIMIT_SIGNUP_NETWORK", "20/1h", "20/1h"),
    public("LIMIT_API_KEY", "600/1m", "600/1m"),
    public("METRICS_EMAIL_DOMAINS", "", "example.org,example.net"),
    public("DOGSTATSD_ADDR", "", "127.0.0.1:8125"),
    public("OTEL_EXPORTER_OTLP_ENDPOINT", "", "http://127.0.0.1:4318"),
    public("LOG_FORMAT", "", "pretty or json"),
    public("RUST_LOG", "info", "info"),
];

pub(super) fn variable(name: &str) -> Option<&'static Variable> {
    VARIABLES.iter().find(|variable| variable.name == name)
}

/// Families that belong to us, so that a member we don't know is a mistake worth a warning: an
/// operator who sets `LIMIT_…` believes that something is limited.
const OUR_FAMILIES: &[&str] = &["EMAIL_", "FEATURE_", "FORWARD_AUTH_", "LIMIT_", "MAGIC_LINK_", "REQUIRE_", "TRUSTED_", "WALLET_"];

/// What is wrong with a variable that none of our code reads, if it looks meant for us.
pub(super) fn misnamed(name: &str) -> Option<String> {
    if variable(name).is_some() {
        return None;
    }
    let named_by_file = name.strip_suffix("_FILE").and_then(variable);
    if let Some(variable) = named_by_file {
        return (!variable.is_secret())
            .then(|| format!("{name} has no effect: only secrets are read from files; set {}", variable.name));
    }
    // Short names are a slip away from too much (`EDITOR`, `LINES`, …).
    let nearest = VARIABLES
        .iter()
        .filter(|_| name.len() >= 6)
        .map(|variable| (distance(name, variable.name), variable.name))
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

/// Levenshtein's edit distance.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, from) in left.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in right.bytes().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_is_levenshteins() {
        for (left, right, expected) in [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("abc", "abc", 0), ("ab", "ba", 2)] {
            assert_eq!(distance(left, right), expected, "{left} {right}");
        }
    }

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
