//! Every command that the documentation names is one, and one of each name is run, as it stands there, by a shell: each beside a copy of
//! one database in which people are signed in, a key works and the audit is sealed. Other programs' are run too (`thorough/docs_programs.rs`).
//! What can't be run here stands in [`ELSEWHERE`], with what runs it.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};
use serde_json::Value;
use server::cli::Cli;
use sqlx::{AssertSqlSafe, Executor as _};
use testkit::{Browser, Database, SmtpSink};
use tokio::{sync::Semaphore, task::JoinSet};
use uuid::Uuid;

use super::{
    ORIGIN, Server, count,
    docs::{fenced, in_backticks, pages_in, read, repository},
    two_factor::enrol_as,
};

/// Commands that begin so, and the file that runs them; or why nothing does.
const ELSEWHERE: &[(&str, &str)] = &[
    ("latchkey serve", "server/tests/it/processes/mod.rs"),
    ("latchkey healthcheck", "server/tests/it/processes/outages.rs"),
    ("latchkey smoke --base-url http://localhost:3000", "support/scripts/quickstart.sh"),
    ("latchkey smoke --base-url https://", "server/tests/it/processes/smoke.rs"),
    ("make run", "support/scripts/quickstart.sh"),
    ("make test", ".ci/run"),
    ("make check", ".ci/run"),
    ("make pictures", "it would take the pictures anew that end2end/tests/pictures.spec.ts compares"),
    ("npx playwright test", "Makefile"),
    (
        "CHROME_PATH=/usr/bin/chromium-headless-shell npx lighthouse",
        "it measures; end2end/tests/lighthouse.spec.ts has the rest of what it says",
    ),
    ("cargo test", "Makefile"),
    ("make sqlx", "it would write .sqlx anew while the tests are compiled against it"),
    ("make bench", "it measures, on a quiet machine"),
    ("make load", "it measures; docs/load.md has a report"),
    ("make mutants", "an hour or two; `make check` looks at its patches"),
    ("cargo build --profile fast", "Makefile"),
    ("cargo run -p bench", "it measures"),
    ("cargo run --profile fast -p bench", "it measures; docs/load.md has a report"),
    ("cargo run --release -p bench", "it measures, on a quiet machine"),
    (
        "cargo run -p app --example gallery",
        "it writes every page for somebody to look at; cargo test builds it and looks at its states",
    ),
    ("cargo run -- user create", "support/scripts/quickstart.sh"),
    ("cargo run -- apikey create", "server/tests/it/processes/thorough/notes.rs"),
    ("cargo run", "support/scripts/quickstart.sh"),
    ("REDIRECT_URLS=http://localhost:8000/link cargo run", "server/tests/it/processes/thorough/notes.rs"),
    ("LATCHKEY_API_KEY=lk_… python3 examples/notes/notes.py", "server/tests/it/processes/thorough/notes.rs"),
    ("cargo build --release", "minutes; it is the build that production runs"),
    ("cargo install --locked cargo-deny", "it would change the machine"),
    ("psql \"$DATABASE_URL\" -f database/", "the checklist's own words; ours stands beside them"),
    ("systemd-analyze", "support/scripts/ops.sh"),
    ("promtool test rules", "support/scripts/ops.sh"),
    ("patronictl switchover", "server/tests/it/processes/thorough/patroni.rs"),
    ("createdb", "server/tests/it/processes/restore.rs"),
    ("pg_dump", "server/tests/it/processes/restore.rs"),
    ("pg_restore", "server/tests/it/processes/restore.rs"),
    ("ops/grafana/dashboard.py", "support/scripts/ops.sh"),
    ("support/scripts/ops.sh", "Makefile"),
    ("sudo latchkey-admin", "server/tests/it/processes/docs_commands.rs"),
    ("sudo systemctl", "no machine of the tests runs systemd; support/scripts/ops.sh has it read the unit"),
    ("systemctl edit", "it opens an editor"),
    ("podman", "no machine of the tests has a container engine"),
    ("kill -INT", "it would stop the PostgreSQL of the tests"),
];

/// What makes a word in backticks a command, where something follows.
const PROGRAMS: &[&str] = &[
    "latchkey",
    "make",
    "cargo",
    "curl",
    "psql",
    "pg_dump",
    "pg_restore",
    "createdb",
    "promtool",
    "openssl",
    "install",
    "sudo",
    "systemctl",
    "systemd-analyze",
    "podman",
    "docker",
    "npm",
    "npx",
    "kill",
    "python3",
    "nginx",
    "caddy",
    "traefik",
    "pgbouncer",
    "patronictl",
];

/// What must have happened before a command can do anything.
const BEFORE: &[(&str, &[&str])] = &[
    ("latchkey rollout pause", &["latchkey rollout start"]),
    ("latchkey rollout abort", &["latchkey rollout start"]),
    ("latchkey rollout resume", &["latchkey rollout start", "latchkey rollout pause"]),
    ("latchkey user enable", &["latchkey user disable THEM@example.org"]),
    ("latchkey user demote", &["latchkey user promote THEM@example.org"]),
    ("latchkey flag set passwordless_auth --off", &["latchkey flag allow THEM@example.org"]),
];

/// The documentation's commands, each with the first page it stands on.
fn commands() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let folders = ["docs", "docs/runbooks", ".", "app/help", "migrations", "examples/notes"];
    for (path, page) in folders.into_iter().flat_map(pages_in) {
        let name = path.strip_prefix(repository()).expect("within").display().to_string();
        let is_command = |text: &str| {
            text.split_once(' ').is_some_and(|(program, _)| PROGRAMS.contains(&program) || program.starts_with("support/scripts/"))
        };
        let mut add = |text: &str| {
            let text = text.split("  #").next().expect("a part").trim();
            found.entry(text.to_owned()).or_insert_with(|| name.clone());
        };
        for text in fenced(&page, "sh").0 {
            let text = text.replace("\\\n", " ");
            text.lines()
                .map(str::trim)
                .filter(|line| !line.is_empty() && !line.starts_with('#') && !is_setting(line))
                .for_each(&mut add);
        }
        for text in fenced(&page, "").0 {
            text.lines().map(str::trim).filter(|line| is_command(line)).for_each(&mut add);
        }
        for quoted in in_backticks(&fenced(&page, "").1) {
            let quoted = quoted.split_whitespace().collect::<Vec<_>>().join(" ");
            if is_command(&quoted) {
                add(&quoted);
            }
        }
    }
    found
}

/// `NAME=value` and nothing behind it.
fn is_setting(line: &str) -> bool {
    let name = line.split_once('=').map(|(name, _)| name);
    name.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')) && !line.contains(' ')
}

/// What the pages leave to their reader, as it is here.
struct Seeded {
    database: Database,
    /// With placeholders' names before their values.
    values: Vec<(&'static str, String)>,
    _sink: SmtpSink,
}

impl Seeded {
    async fn new() -> Self {
        let (database, sink) = (Database::new().await, SmtpSink::start().await);
        let place = Place::new(&database, "seed");
        for command in ["latchkey user create ADMIN@example.org --admin", "latchkey user create US@example.org"] {
            place.run_well(command);
        }
        let key: Value =
            serde_json::from_slice(&place.run_well("latchkey apikey create Notes --scope users --json").stdout).expect("JSON");
        let variables = [("EMAIL_SMTP", sink.url()), ("LIMITS", "off".to_owned())];
        let server = Server::start_with(&database, &variables.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
        let pool = database.pool_of(1).await;
        let sealed = async { while count(&pool, "select count(*) from auth_audit_seals").await == 0 {} };
        tokio::time::timeout(Duration::from_mins(1), sealed).await.expect("a server seals as soon as it starts");
        enrol_as("them@example.org", &server, &sink, &pool).await;
        let mut us = Browser::new(server.address, ORIGIN);
        us.post("/login", &[("email", "us@example.org")]).await;
        // As its account spells it.
        let code = sink.nth_to("US@example.org", 1).await.code();
        assert_eq!(us.post("/login/sent", &[("code", &code)]).await.location(), "/account");
        let id: Uuid =
            sqlx::query_scalar("select id from users where email = 'them@example.org'").fetch_one(&pool).await.expect("an account");
        pool.close().await;
        server.terminate();
        server.wait().await;
        let verified: Value = serde_json::from_slice(&place.run_well("latchkey audit verify --json").stdout).expect("JSON");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let values = vec![
            ("4812:9f86d081884c7d65", text(&verified["head"])),
            ("lk_…", text(&key["key"])),
            ("lk_k7qdm2xw", text(&key["prefix"])),
            ("revoke PREFIX", format!("revoke {}", text(&key["prefix"]))),
            ("--search ID", format!("--search {id}")),
            ("…", "as the page says".to_owned()),
        ];
        Self { database, values, _sink: sink }
    }

    fn filled(&self, command: &str) -> String {
        self.values.iter().fold(command.to_owned(), |command, (name, value)| command.replace(name, value))
    }
}

const KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

/// A folder that looks like a clone of the repository on a machine that has been set up, and an environment.
struct Place {
    folder: PathBuf,
    variables: Vec<(&'static str, String)>,
}

impl Place {
    fn new(database: &Database, name: &str) -> Self {
        // Two tests of this process may have a place of one name.
        static PLACES: AtomicUsize = AtomicUsize::new(0);
        let place = PLACES.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("latchkey-docs-{}-{place}-{name}", std::process::id()));
        for made in ["bin", "etc/latchkey", "etc/systemd/system", "etc/prometheus", "usr/local/bin", "target/release"] {
            fs::create_dir_all(folder.join(made)).expect("a new name");
        }
        let binary = Path::new(env!("CARGO_BIN_EXE_latchkey"));
        for link in ["bin/latchkey", "target/release/latchkey"] {
            symlink(binary, folder.join(link)).expect("a new name");
        }
        for entry in fs::read_dir(repository()).expect("the folder") {
            let entry = entry.expect("readable");
            if entry.file_name() != "target" {
                symlink(entry.path().canonicalize().expect("there"), folder.join(entry.file_name())).expect("a new name");
            }
        }
        for file in ["prometheus.yml", "latchkey.rules.yml"] {
            let text = read(&repository().join("ops/prometheus").join(file));
            let here = format!("{}/etc/", folder.display());
            fs::write(folder.join("etc/prometheus").join(file), text.replace("/etc/", &here)).expect("writable");
        }
        fs::write(folder.join("etc/prometheus/latchkey.key"), "lk_").expect("writable");
        let variables = [
            ("APP_ENV", "development"),
            ("DATABASE_URL", &database.url),
            ("DATABASE_MIGRATOR_URL", &database.owner_url),
            ("BASE_URL", ORIGIN),
            ("WALLET_ENCRYPTION_KEY", KEY),
            // As in production, where somebody rolls it out.
            ("FEATURE_PASSWORDLESS_AUTH", "false"),
        ];
        Self { folder, variables: variables.map(|(name, value)| (name, value.to_owned())).to_vec() }
    }

    /// As the page says, in this folder instead of the whole machine.
    fn run(&self, command: &str) -> Output {
        let at = self.folder.display().to_string();
        let command = command.strip_prefix("sudo ").unwrap_or(command).replace(" -o prometheus ", " ");
        let command = ["/etc/", "/usr/local/bin/"]
            .iter()
            .fold(command, |text, path| text.replace(&format!(" {path}"), &format!(" {at}{path}")));
        #[expect(clippy::disallowed_methods, reason = "a shell finds its programs as this one does")]
        let path = std::env::var("PATH").unwrap_or_default();
        // One that waits for something says so by its status.
        Command::new("timeout")
            .args(["-k", "10", "60", "bash", "-euc", &command])
            .current_dir(&self.folder)
            .env_clear()
            .env("PATH", format!("{at}/bin:{at}/usr/local/bin:{path}"))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .output()
            .expect("bash runs")
    }

    fn run_well(&self, command: &str) -> Output {
        let output = self.run(command);
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// As a shell would, as far as the pages go: words, some of them in quotes, and a comment behind.
fn words(line: &str) -> Vec<String> {
    let line = line.split(" #").next().unwrap_or(line);
    let line = line.split(" > ").next().unwrap_or(line);
    line.split('"')
        .enumerate()
        .flat_map(|(n, part)| if n % 2 == 1 { vec![part.to_owned()] } else { part.split_whitespace().map(str::to_owned).collect() })
        .collect()
}

/// Of a command whose name stands alone.
fn is_incomplete(error: &clap::Error) -> bool {
    use ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, MissingRequiredArgument, MissingSubcommand};
    matches!(error.kind(), MissingRequiredArgument | MissingSubcommand | DisplayHelp | DisplayHelpOnMissingArgumentOrSubcommand)
}

/// `flag set` of `latchkey flag set NAME --on`.
fn verb(command: &str) -> String {
    let (mut at, mut names) = (Cli::command(), Vec::new());
    for word in words(command).into_iter().skip(1) {
        let Some(below) = at.find_subcommand(&word).cloned() else { break };
        at = below;
        names.push(word);
    }
    names.join(" ")
}

/// As clap reads it, with a key's beginning where the page has the word for it.
fn parsed(command: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(words(&command.replace("revoke PREFIX", "revoke lk_k7qdm2xw")))
}

/// Of ours, and no name alone, as a sentence has it.
fn is_call(command: &str) -> bool {
    command.starts_with("latchkey ") && parsed(command).is_ok()
}

/// What is run, and not elsewhere.
pub(super) fn to_run() -> BTreeMap<String, String> {
    let mut all = commands();
    all.retain(|command, _| !ELSEWHERE.iter().any(|(begin, _)| command.starts_with(begin)));
    all
}

#[test]
fn every_command_of_the_documentation_is_one_or_is_run_elsewhere() {
    let all = commands();
    assert!(all.len() > 90, "{}", all.len());
    let mut faults = Vec::new();
    for (command, page) in all.iter().filter(|(command, _)| command.starts_with("latchkey ")) {
        if let Err(error) = parsed(command)
            && !is_incomplete(&error)
        {
            faults.push(format!("{page}: {command}: {error}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    for (begin, by) in ELSEWHERE {
        assert!(all.keys().any(|command| command.starts_with(begin)), "no page says {begin} any more: take it off the list");
        assert!(by.contains(' ') || repository().join(by).is_file(), "{begin}: there is no {by}");
    }
}

/// One of each name, that which says the most: whether the others are commands clap knows.
#[tokio::test(flavor = "multi_thread")]
async fn each_command_of_the_documentation_runs() {
    let mut longest = BTreeMap::<String, (String, String)>::new();
    for (command, page) in to_run().into_iter().filter(|(command, _)| is_call(command)) {
        let says = |command: &str| (command.matches(" --").count(), command.len());
        let kept = longest.entry(verb(&command)).or_insert_with(|| (command.clone(), page.clone()));
        if says(&command) > says(&kept.0) {
            *kept = (command, page);
        }
    }
    assert!(longest.len() > 20, "{:?}", longest.keys());
    run(longest.into_values().collect()).await;
}

/// Each beside a copy of the database, as a shell would.
pub(super) async fn run(commands: BTreeMap<String, String>) {
    let seeded = Arc::new(Seeded::new().await);
    let asked = seeded.database.copy().await;
    let sink = SmtpSink::start().await;
    let server = Server::start(&asked, &sink, "on").await;
    // The machine's, all of whose processors a command can use.
    let turns = Arc::new(Semaphore::new(3));
    let mut running = JoinSet::new();
    for (n, (command, page)) in commands.into_iter().enumerate() {
        let (seeded, turns, instance) = (seeded.clone(), turns.clone(), server.address.to_string());
        running.spawn(async move {
            let _turn = turns.acquire().await.expect("open");
            let line = seeded.filled(&command).replace("INSTANCE", &instance);
            let database = seeded.database.copy().await;
            tokio::task::spawn_blocking(move || {
                let place = Place::new(&database, &format!("{}-{n}", database.name));
                let before = BEFORE.iter().filter(|(begin, _)| line.starts_with(begin));
                before.flat_map(|(_, earlier)| *earlier).for_each(|earlier| drop(place.run_well(earlier)));
                let output = place.run(&line);
                let said = [output.stdout, output.stderr].concat();
                let said = String::from_utf8_lossy(&said);
                let well = output.status.success() && !said.contains("Usage:");
                (!well).then(|| format!("{page}: {command}\n{}: {}", output.status, said.trim()))
            })
            .await
            .expect("no panic")
        });
    }
    let mut faults: Vec<String> = running.join_all().await.into_iter().flatten().collect();
    faults.sort();
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

/// What stands in `docs/operations.md` for an empty server: two roles and a database, and what `latchkey migrate` and `doctor` say to them.
#[tokio::test]
async fn the_roles_and_the_database_are_made_as_the_page_says() {
    let any = Database::empty().await;
    let owner = any.owner().await;
    let page = read(&repository().join("docs/operations.md"));
    let blocks = fenced(&page, "sql").0;
    let block = blocks.iter().find(|text| text.contains("create role")).expect("the block");
    // The cluster is everybody's here.
    let named =
        block.replace("latchkey_owner", &format!("owner_{}", any.name)).replace("latchkey_app", &format!("app_{}", any.name));
    let named = named.replace("database latchkey", &format!("database made_{}", any.name));
    for statement in named.split(';').filter(|text| !text.trim().is_empty()) {
        owner.execute(AssertSqlSafe(statement)).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    let url = |role: &str| {
        let url = any.owner_url.replacen("//latchkey@", &format!("//{role}_{}@", any.name), 1);
        url.replace(&format!("/{}", any.name), &format!("/made_{}", any.name))
    };
    let made = Database { name: format!("made_{}", any.name), url: url("app"), owner_url: url("owner") };
    let place = Place::new(&made, "roles");
    place.run_well("latchkey migrate");
    let told: Value = serde_json::from_slice(&place.run_well("latchkey doctor --json").stdout).expect("JSON");
    let roles = told["checks"].as_array().expect("a list").iter().find(|check| check["name"] == "roles").expect("a check");
    assert_eq!(roles["outcome"], "ok", "{roles}");
    for statement in [
        format!("drop database {} with (force)", made.name),
        format!("drop role app_{}", any.name),
        format!("drop role owner_{}", any.name),
    ] {
        owner.execute(AssertSqlSafe(statement)).await.expect("dropped");
    }
}

/// The block of `docs/deployment.md` that installs the unit, in its order, up to where systemd starts it. The secrets come as the page says.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_is_set_up_as_the_page_says() {
    let (database, sink) = (Database::empty().await, SmtpSink::start().await);
    let mut place = Place::new(&database, "systemd");
    // All that the commands know is in the files.
    place.variables.clear();
    let page = read(&repository().join("docs/deployment.md"));
    let blocks = fenced(&page, "sh").0;
    let block = blocks.iter().find(|text| text.contains("latchkey-admin migrate")).expect("the block");
    let mut ran = 0;
    for line in block.lines().map(|line| line.split("   #").next().expect("a part").trim()) {
        if line.starts_with("cargo build") || line.contains("systemctl") {
            continue;
        }
        let secret = match line.rsplit('/').next().expect("a part") {
            "wallet-encryption-key" => KEY,
            "database-url" => &database.url,
            "database-migrator-url" => &database.owner_url,
            "email-smtp" => &sink.url(),
            _ => "",
        };
        assert_eq!(line.contains("/dev/stdin"), !secret.is_empty(), "{line}");
        let command = line.strip_prefix("sudo ").expect("root's");
        place.run_well(&if secret.is_empty() { command.to_owned() } else { format!("printf %s '{secret}' | {command}") });
        if line.ends_with("/latchkey-admin") {
            let script = place.folder.join("usr/local/bin/latchkey-admin");
            let at = place.folder.display();
            let here = read(&script).replace("=/etc/", &format!("={at}/etc/")).replace("exec /usr/", &format!("exec {at}/usr/"));
            fs::write(script, here).expect("writable");
        }
        ran += 1;
    }
    assert!(ran > 10, "{ran}");
    let pool = database.pool_of(1).await;
    assert_eq!(count(&pool, "select count(*) from users where lower(email) = 'you@example.org' and is_admin").await, 1);

    // And cron's line for doctor, which says nothing where all is well: neither does the shell, that there is no such program.
    let page = read(&repository().join("docs/operations.md"));
    let crontab = fenced(&page, "text").0.into_iter().find(|text| text.starts_with("MAILTO=")).expect("the block");
    for line in crontab.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_digit())) {
        let command = line.splitn(7, ' ').nth(6).expect("five for the time, a user and a command");
        let here = command.replace("/usr/local/bin/", &format!("{}/usr/local/bin/", place.folder.display()));
        let well = place.run_well(&here);
        assert_eq!(String::from_utf8_lossy(&[well.stdout, well.stderr].concat()), "", "{command}");
        let broken = place.run_well(&here.replace("doctor", "no-such-command"));
        assert!(!broken.stdout.is_empty(), "{command}: it would tell nobody");
    }
}
