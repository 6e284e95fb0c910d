//! Two nodes of PostgreSQL under a real Patroni, with the configurations of `ops/patroni` and `ops/haproxy`. The primary is lost, the other
//! node takes its place, and the server goes on by itself with all that it has told anybody.

use std::{
    fs,
    net::SocketAddr,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    str::FromStr as _,
    time::{Duration, Instant},
};

use rcgen::{CertificateParams, KeyPair};
use sqlx::{
    Connection as _, Executor as _, PgConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use testkit::{Browser, Database, SmtpSink};
use tokio::time::{sleep, timeout};

use crate::processes::{
    ORIGIN, Server, count,
    mail_tls::Trust,
    outages::assert_away,
    thorough::{
        pgbouncer::{PATIENCE, free_port, latchkey},
        proxies::{Running, of_ops, program},
    },
    try_get_at,
};

/// Where PostgreSQL's programs are, and whose they run as.
struct Installed {
    bin_dir: String,
    user: u32,
}

impl Installed {
    /// As the cluster of the other tests has it: PostgreSQL doesn't run as root.
    async fn find() -> Self {
        let tests = Database::empty().await;
        let options = PgConnectOptions::from_str(&tests.url).expect("a URL");
        let user = fs::metadata(options.get_socket().expect("it listens on one")).expect("it runs").uid();
        let bin_dir = "select setting from pg_config where name = 'BINDIR'";
        let bin_dir = sqlx::query_scalar(bin_dir).fetch_one(&tests.owner().await).await.expect("its superuser may ask");
        Self { bin_dir, user }
    }

    fn folder(&self, name: &str) -> PathBuf {
        // That user must get through every folder above.
        let folder = PathBuf::from(format!("/var/tmp/latchkey-patroni-{}-{name}", std::process::id()));
        fs::create_dir(&folder).expect("a new name");
        self.give(&folder);
        folder
    }

    fn give(&self, path: &Path) {
        chown(path, Some(self.user), None).expect("we are root, or it is ours");
    }

    fn spawn(&self, name: &str, args: &[&str], folder: &Path) -> Child {
        let log = fs::File::options().create(true).append(true).open(folder.join("log")).expect("writable");
        Command::new(program(name))
            .args(args)
            .uid(self.user)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("it starts")
    }
}

/// A PostgreSQL, and the Patroni that starts and stops it.
struct Node {
    postgres: SocketAddr,
    patroni: SocketAddr,
    running: Running,
}

impl Node {
    async fn start(name: &str, etcd: SocketAddr, trust: &Trust, installed: &Installed) -> Self {
        let (postgres, patroni, folder) = (free_port().await, free_port().await, installed.folder(name));
        // A name that HAProxy's address isn't, as in production.
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(["db.example.org".to_owned()]).expect("a name").signed_by(&key, &trust.authority);
        fs::write(folder.join("server.crt"), certificate.expect("a certificate").pem()).expect("writable");
        fs::write(folder.join("server.key"), key.serialize_pem()).expect("writable");
        fs::set_permissions(folder.join("server.key"), fs::Permissions::from_mode(0o600)).expect("ours");
        installed.give(&folder.join("server.key"));
        let at = folder.display().to_string();
        let config = of_ops(
            "patroni/patroni.yml",
            &[
                ("name: one", &format!("name: {name}")),
                ("10.0.0.31:2379,10.0.0.32:2379,10.0.0.33:2379", &etcd.to_string()),
                ("10.0.0.21:8008", &patroni.to_string()),
                ("10.0.0.21:5432", &postgres.to_string()),
                ("10.0.0.0/24", "127.0.0.1/32"),
                ("/usr/lib/postgresql/15/bin", &installed.bin_dir),
                ("/var/lib/postgresql/15/latchkey", &format!("{at}/data")),
                ("/var/lib/postgresql/latchkey.pgpass", &format!("{at}/pgpass")),
                ("/var/run/postgresql", &at),
                ("/etc/patroni", &at),
                // As short as Patroni takes them, for nobody to wait.
                ("ttl: 30", "ttl: 20"),
                ("loop_wait: 10", "loop_wait: 1"),
                ("retry_timeout: 10", "retry_timeout: 3"),
            ],
        );
        fs::write(folder.join("patroni.yml"), config).expect("writable");
        let process = installed.spawn("patroni", &[&format!("{at}/patroni.yml")], &folder);
        Self { postgres, patroni, running: Running { process, folder } }
    }

    fn start_again(&mut self, installed: &Installed) {
        self.running.process = installed.spawn("patroni", &[&self.config()], &self.running.folder);
    }

    fn config(&self) -> String {
        self.running.folder.join("patroni.yml").display().to_string()
    }

    /// The process that all others of this PostgreSQL are children of. It is no child of Patroni's.
    fn postmaster(&self) -> Option<String> {
        let data = self.running.folder.join("data");
        let file = fs::read_to_string(data.join("postmaster.pid")).ok()?;
        let pid = file.lines().next()?;
        // Killed, it leaves the file to us, and its id to any other.
        let args = Command::new("ps").args(["-o", "args=", "-p", pid]).output().expect("ps runs").stdout;
        String::from_utf8_lossy(&args).contains(&data.display().to_string()).then(|| pid.to_owned())
    }

    /// As if the machine were lost: nobody is told.
    fn kill(&mut self) {
        // Patroni first, or it would start PostgreSQL again.
        self.running.process.kill().expect("it runs");
        self.running.process.wait().expect("it is a child");
        let postmaster = self.postmaster().expect("it runs");
        let children = Command::new("ps").args(["-o", "pid=", "--ppid", &postmaster]).output().expect("ps runs").stdout;
        // One that has ended by itself meanwhile is no fault.
        let _ = Command::new("kill")
            .args(["-KILL", &postmaster])
            .args(String::from_utf8_lossy(&children).split_whitespace())
            .stderr(Stdio::null())
            .status();
        let since = Instant::now();
        while self.postmaster().is_some() {
            assert!(since.elapsed() < PATIENCE, "it was killed");
        }
    }

    /// Waits until Patroni says so of this node: that it is the primary, or the replica without which nothing is committed.
    async fn is(&self, role: &str) {
        let wait = async {
            while !try_get_at(self.patroni, role).await.is_some_and(|answer| answer.contains(" 200 OK")) {
                // Asked all the time, Patroni would do nothing else.
                sleep(Duration::from_millis(100)).await;
            }
        };
        let said = timeout(PATIENCE, wait).await.is_ok();
        assert!(said, "{role}: {}", fs::read_to_string(self.running.folder.join("log")).unwrap_or_default());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.running.process.kill();
        let _ = self.running.process.wait();
        let since = Instant::now();
        while let Some(postmaster) = self.postmaster().filter(|_| since.elapsed() < Duration::from_secs(20)) {
            // Not SIGKILL, which would leave its shared memory to nobody.
            let _ = Command::new("kill").args(["-QUIT", &postmaster]).stderr(Stdio::null()).status();
        }
    }
}

/// One node leads, and the other has all that it has.
struct Cluster {
    nodes: [Node; 2],
    installed: Installed,
    trust: Trust,
    haproxy: SocketAddr,
    _others: [Running; 2],
}

impl Cluster {
    async fn start() -> Self {
        let (installed, trust) = (Installed::find().await, Trust::new("patroni"));
        let (etcd, peers, folder) = (free_port().await, format!("http://{}", free_port().await), installed.folder("etcd"));
        let (url, data, members) =
            (format!("http://{etcd}"), folder.join("data").display().to_string(), format!("default={peers}"));
        let args = [
            ["--data-dir", &data],
            ["--listen-client-urls", &url],
            ["--advertise-client-urls", &url],
            ["--listen-peer-urls", &peers],
            ["--initial-advertise-peer-urls", &peers],
            ["--initial-cluster", &members],
        ];
        let etcd_runs = Running { process: installed.spawn("etcd", args.as_flattened(), &folder), folder };

        let one = Node::start("one", etcd, &trust, &installed).await;
        one.is("/primary").await;
        let two = Node::start("two", etcd, &trust, &installed).await;

        let (haproxy, folder) = (free_port().await, installed.folder("haproxy"));
        let config = of_ops(
            "haproxy/haproxy.cfg",
            &[
                ("log /dev/log local0", "log stdout format raw local0"),
                ("inter 3s", "inter 1s"),
                // It is that user's already.
                ("user haproxy", ""),
                ("group haproxy", ""),
                ("127.0.0.1:5000", &haproxy.to_string()),
                ("10.0.0.21:5432 check port 8008", &format!("{} check port {}", one.postgres, one.patroni.port())),
                ("10.0.0.22:5432 check port 8008", &format!("{} check port {}", two.postgres, two.patroni.port())),
            ],
        );
        let file = folder.join("haproxy.cfg").display().to_string();
        fs::write(&file, config).expect("writable");
        let haproxy_runs = Running { process: installed.spawn("haproxy", &["-db", "-f", &file], &folder), folder };
        two.is("/sync").await;
        Self { nodes: [one, two], installed, trust, haproxy, _others: [etcd_runs, haproxy_runs] }
    }

    fn url(&self, role: &str, password: &str, at: SocketAddr, database: &str) -> String {
        format!("postgres://{role}:{password}@{at}/{database}?sslmode=verify-ca&sslrootcert={}", self.trust.file.display())
    }

    fn superuser(&self) -> String {
        self.url("postgres", "SUPERUSER_PASSWORD", self.haproxy, "latchkey")
    }

    /// The roles and the database of `docs/operations.md`.
    async fn database(&self) -> Database {
        let url = self.url("postgres", "SUPERUSER_PASSWORD", self.haproxy, "postgres");
        let connect = async {
            loop {
                match PgConnection::connect(&url).await {
                    Ok(connection) => return connection,
                    Err(_) => sleep(Duration::from_millis(100)).await,
                }
            }
        };
        let mut connection = timeout(PATIENCE, connect).await.expect("HAProxy finds the primary");
        for statement in [
            "create role latchkey_owner login password 'owners'",
            "create role latchkey_app login password 'apps'",
            "create database latchkey owner latchkey_owner",
        ] {
            connection.execute(statement).await.expect(statement);
        }
        Database {
            name: "latchkey".to_owned(),
            url: self.url("latchkey_app", "apps", self.haproxy, "latchkey"),
            owner_url: self.url("latchkey_owner", "owners", self.haproxy, "latchkey"),
        }
    }
}

/// Whoever is signed in sees the page that says so until it is over, and is never asked to sign in again.
async fn until_over(signed_in: &mut Browser) {
    let wait = async {
        loop {
            let answer = signed_in.get("/account").await;
            if answer.status == 200 {
                return;
            }
            assert_away("meanwhile", &answer);
        }
    };
    timeout(PATIENCE, wait).await.expect("the server finds the primary by itself");
}

async fn follows_the_flag(server: &Server, database: &Database, to: &str, is_on: bool) {
    assert!(latchkey(&database.url, &["flag", "set", "passwordless_auth", to, "--reason", "a drill"]).status.success());
    let mut browser = Browser::new(server.address, ORIGIN);
    let followed = async { while browser.get("/login").await.body.contains("name=\"email\"") != is_on {} };
    timeout(Duration::from_secs(5), followed).await.expect(to);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_another_node_takes_over_nothing_is_lost_and_nothing_comes_back() {
    let mut cluster = Cluster::start().await;
    let (database, sink) = (cluster.database().await, SmtpSink::start().await);
    let mut server = Server::start_with(&database, &[("EMAIL_SMTP", &sink.url())]).await;
    let new = || Browser::new(server.address, ORIGIN);
    let (mut newcomer, mut typing, mut opened, mut leaving, mut signed_in) = (new(), new(), new(), new(), new());
    for (browser, email) in [
        (&mut typing, "typing@example.org"),
        (&mut opened, "opened@example.org"),
        (&mut leaving, "leaving@example.org"),
        (&mut signed_in, "signed-in@example.org"),
    ] {
        assert_eq!(browser.post("/login", &[("email", email)]).await.location(), "/login/sent");
    }
    let typed = sink.nth_to("typing@example.org", 1).await.code();
    for (browser, email) in [(&mut leaving, "leaving@example.org"), (&mut signed_in, "signed-in@example.org")] {
        let code = sink.nth_to(email, 1).await.code();
        assert_eq!(browser.post("/login/sent", &[("code", &code)]).await.location(), "/account");
    }
    assert_eq!(opened.get(&sink.nth_to("opened@example.org", 1).await.link()).await.location(), "/login/confirm");

    // The last that the primary does: a session ends, a link is used.
    let (mut stolen, mut again) = (leaving.clone(), opened.clone());
    assert_eq!(stolen.get("/account").await.status, 200);
    assert_eq!(leaving.post("/logout", &[]).await.status, 303);
    assert_eq!(opened.post("/login/confirm", &[]).await.location(), "/account");
    cluster.nodes[0].kill();

    // At once, as the other node waits only until the primary's lock runs out.
    let (mut asking, mut looking, mut typing_now, mut signing_out) =
        (newcomer.clone(), typing.clone(), typing.clone(), signed_in.clone());
    let (mut anybody, mut alive, mut ready) = (new(), new(), new());
    let code = [("code", typed.as_str())];
    let (asked, looked, typed_now, signed_out, page, alive, ready) = tokio::join!(
        asking.post("/login", &[("email", "newcomer@example.org")]),
        looking.get("/login/sent"),
        typing_now.post("/login/sent", &code),
        signing_out.post("/logout", &[]),
        anybody.get("/login"),
        alive.get("/healthz"),
        ready.get("/readyz"),
    );
    assert_away("asking", &asked);
    assert_away("looking for the mail", &looked);
    assert_away("typing the code", &typed_now);
    assert_away("signing out", &signed_out);
    assert_eq!(page.status, 200, "a page that needs no database");
    assert_eq!(alive.status, 200);
    assert_eq!(ready.status, 503);

    until_over(&mut signed_in).await;
    server.wait_ready().await;
    let superuser = PgPoolOptions::new().max_connections(1).connect(&cluster.superuser()).await.expect("a primary");
    let port = count(&superuser, "select inet_server_port()::bigint").await;
    assert_eq!(port, i64::from(cluster.nodes[1].postgres.port()), "the other node leads");
    assert_eq!(stolen.get("/account").await.location(), "/login?next=/account", "a session that ended before");
    assert_eq!(again.post("/login/confirm", &[]).await.status, 410, "a link that was used before");
    assert_eq!(opened.get("/account").await.status, 200, "who used it");
    assert_eq!(typing.post("/login/sent", &code).await.location(), "/account", "a code from before");
    assert_eq!(newcomer.post("/login", &[("email", "newcomer@example.org")]).await.location(), "/login/sent");
    let code = sink.nth_to("newcomer@example.org", 1).await.code();
    assert_eq!(newcomer.post("/login/sent", &[("code", &code)]).await.location(), "/account");
    follows_the_flag(&server, &database, "--off", false).await;
    follows_the_flag(&server, &database, "--on", true).await;
    let listening = "select count(*) from pg_stat_activity where usename = 'latchkey_app' and query like 'LISTEN %'";
    assert_eq!(count(&superuser, listening).await, 1);
    superuser.close().await;

    // The node that was lost comes back as a replica, of which nobody asks anything.
    cluster.nodes[0].start_again(&cluster.installed);
    cluster.nodes[0].is("/sync").await;
    let replica = cluster.url("latchkey_app", "apps", cluster.nodes[0].postgres, "latchkey");
    let refused = latchkey(&replica, &["session", "list", "signed-in@example.org"]);
    assert!(!refused.status.success(), "answered by a replica: {}", String::from_utf8_lossy(&refused.stdout));

    let doctor = latchkey(&replica, &["doctor"]);
    assert!(String::from_utf8_lossy(&doctor.stdout).contains("this is a replica"), "{}", String::from_utf8_lossy(&doctor.stdout));

    // And leads again when it is told to.
    let told = Command::new(program("patronictl"))
        .args(["-c", &cluster.nodes[0].config(), "switchover", "latchkey", "--candidate", "one", "--force"])
        .output()
        .expect("it runs");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&[told.stdout, told.stderr].concat()));
    cluster.nodes[0].is("/primary").await;
    until_over(&mut signed_in).await;
    assert_eq!(again.post("/login/confirm", &[]).await.status, 410);
    assert_eq!(signed_in.post("/logout", &[]).await.status, 303);
    assert_eq!(signed_in.get("/account").await.location(), "/login?next=/account");
}
