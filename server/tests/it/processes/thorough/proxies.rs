//! Real proxies in front of a real application, with the configurations that ship in `ops`: nginx, Caddy and Traefik ask Latchkey
//! whose each request is.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
};
use http::{
    HeaderMap, Method,
    header::{ACCEPT, CONTENT_TYPE, COOKIE, HOST, LOCATION, ORIGIN, SET_COOKIE},
};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use testkit::{Database, SmtpSink};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use url::Url;

use crate::processes::{
    Server,
    two_factor::{SIGN_IN, between, now, shown},
};

const ID: &str = "id.example.org";
const APP: &str = "app.example.org";
const ADMIN: &str = "admin.example.org";
const MARA: &str = "mara@example.org";
const ROOT: &str = "root@example.org";
const DEEP: &str = "/reports/2026?year=2026&q=a%26b%20c";
/// What a client that lies calls itself.
const SPOOFED: &str = "spoofed";

/// An application that tells what reaches it.
struct Application {
    address: SocketAddr,
    asked: Arc<AtomicU32>,
}

impl Application {
    async fn start(name: &'static str) -> Self {
        let asked = Arc::<AtomicU32>::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let tell = async move |State(asked): State<Arc<AtomicU32>>, request: Request| {
            asked.fetch_add(1, Ordering::SeqCst);
            let (head, body) = request.into_parts();
            let body = body.collect().await.expect("whole").to_bytes();
            let lines: Vec<_> =
                head.headers.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))).collect();
            let lines = lines.join("\n");
            format!("{name}: {} {}\n{lines}\n\n{}", head.method, head.uri, String::from_utf8_lossy(&body))
        };
        let app = Router::new().fallback(tell).with_state(asked.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, asked }
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

#[derive(Clone, Copy)]
enum Proxy {
    Nginx,
    Caddy,
    Traefik,
}

/// A program that runs, and the folder of its configuration.
pub(super) struct Running {
    pub process: Child,
    pub folder: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A file of `ops`, with what is only so on a machine of its own written anew. Each of these must be there to be replaced.
pub(super) fn of_ops(file: &str, changes: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops").join(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    changes.iter().fold(text, |text, (old, new)| {
        assert!(text.contains(old), "{file} has no {old:?}");
        text.replace(old, new)
    })
}

/// Where a program lies: where systems keep them, or where `install.sh` puts what Debian has not.
pub(super) fn program(name: &str) -> PathBuf {
    ["../target/tools/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/opt/homebrew/bin"]
        .map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(name))
        .into_iter()
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("there is no {name}: support/scripts/install.sh {name}"))
}

impl Proxy {
    fn start(self, port: u16, alone: u16, latchkey: SocketAddr, app: SocketAddr, admin: SocketAddr) -> Running {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("latchkey-proxy-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).expect("a new name");
        let write = |name: &str, text: String| fs::write(folder.join(name), text).expect("writable");
        let (latchkey, app, admin) = (latchkey.to_string(), app.to_string(), admin.to_string());
        let upstreams = [("127.0.0.1:3000", latchkey.as_str()), ("127.0.0.1:8080", &app), ("127.0.0.1:8081", &admin)];
        let at = folder.display();
        let mut command = match self {
            Self::Nginx => {
                let (listen, default) = (format!("listen 127.0.0.1:{port};"), format!("listen 127.0.0.1:{port} default_server;"));
                let changes = [
                    ("listen 443 ssl;", listen.as_str()),
                    ("listen 443 ssl default_server;", &default),
                    ("ssl_reject_handshake on;", ""),
                    ("ssl_certificate /etc/ssl/example.org/fullchain.pem;", ""),
                    ("ssl_certificate_key /etc/ssl/example.org/key.pem;", ""),
                ];
                let whole = of_ops("nginx/latchkey.conf", &[&changes[..], &upstreams].concat());
                // As on a machine that has only this one.
                let (_, last) = whole.rsplit_once("\n# Another").expect("the server of the other application");
                write("alone.conf", format!("#{}", last.replace(&listen, &format!("listen 127.0.0.1:{alone};"))));
                write("latchkey.conf", whole);
                for file in ["latchkey-guard.conf", "latchkey-questions.conf"] {
                    write(file, of_ops(&format!("nginx/{file}"), &[]));
                }
                let temporary: String = ["client_body", "proxy", "fastcgi", "scgi", "uwsgi"]
                    .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"))
                    .concat();
                // One process, which dies when it is told to.
                write(
                    "nginx.conf",
                    format!(
                        "daemon off;\nmaster_process off;\npid {at}/pid;\nerror_log {at}/error.log;\nevents {{}}\n\
                         http {{\naccess_log off;\n{temporary}include latchkey.conf;\ninclude alone.conf;\n}}\n"
                    ),
                );
                let mut command = Command::new(program("nginx"));
                command.args(["-p", &at.to_string(), "-e", &format!("{at}/error.log"), "-c", &format!("{at}/nginx.conf")]);
                command
            }
            Self::Caddy => {
                let sites: Vec<_> =
                    [ID, APP, ADMIN].iter().map(|host| (format!("{host} {{"), format!("http://{host}:{port} {{"))).collect();
                let sites: Vec<_> = sites.iter().map(|(old, new)| (old.as_str(), new.as_str())).collect();
                let file = of_ops("caddy/Caddyfile", &[&sites[..], &upstreams].concat());
                write("Caddyfile", format!("{{\n\tadmin off\n\tauto_https off\n\tdefault_bind 127.0.0.1\n}}\n{file}"));
                let mut command = Command::new(program("caddy"));
                command.args(["run", "--adapter", "caddyfile", "--config", &format!("{at}/Caddyfile")]);
                command
            }
            Self::Traefik => {
                let (address, file) = (format!("\"127.0.0.1:{port}\""), format!("{at}/latchkey.yml"));
                write(
                    "traefik.yml",
                    of_ops("traefik/traefik.yml", &[("\":443\"", &address), ("/etc/traefik/latchkey.yml", &file)]),
                );
                write("latchkey.yml", of_ops("traefik/latchkey.yml", &[&[("      tls: {}\n", "")][..], &upstreams].concat()));
                let mut command = Command::new(program("traefik"));
                command.arg(format!("--configFile={at}/traefik.yml"));
                command
            }
        };
        let log = fs::File::create(folder.join("log")).expect("writable");
        let process = command
            .env_clear()
            .envs([("HOME", &folder), ("XDG_DATA_HOME", &folder), ("XDG_CONFIG_HOME", &folder)])
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("it starts");
        Running { process, folder }
    }
}

#[derive(Debug)]
struct Reply {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Reply {
    fn location(&self) -> &str {
        self.headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The values of a header that reached the application.
    fn told<'a>(&'a self, name: &str) -> Vec<&'a str> {
        self.body.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
    }
}

/// A browser that knows several hosts, all behind one proxy, and which cookies are whose.
#[derive(Clone)]
struct Browser {
    client: Client<HttpConnector, Full<Bytes>>,
    proxy: SocketAddr,
    /// Host or, with a dot before it, domain; name; value.
    cookies: Vec<(String, String, String)>,
}

impl Browser {
    fn new(proxy: SocketAddr) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build(HttpConnector::new()), proxy, cookies: Vec::new() }
    }

    fn url(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.proxy.port())
    }

    fn cookies_for(&self, host: &str) -> String {
        let fits = |of: &str| of == host || (of.starts_with('.') && format!(".{host}").ends_with(of));
        let pairs = self.cookies.iter().filter(|(of, ..)| fits(of)).map(|(_, name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("; ")
    }

    async fn send(&mut self, method: Method, url: &str, lines: &[(&str, &str)], body: &str) -> Option<Reply> {
        let url = Url::parse(url).expect("a URL");
        let host = url.host_str().expect("a host");
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{}", self.proxy, &url[url::Position::BeforePath..]))
            .header(HOST, format!("{host}:{}", self.proxy.port()));
        let cookies = self.cookies_for(host);
        if !cookies.is_empty() {
            request = request.header(COOKIE, cookies);
        }
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("well-formed");
        let (head, body) = self.client.request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        for cookie in head.headers.get_all(SET_COOKIE) {
            self.keep(host, cookie.to_str().expect("ASCII"));
        }
        Some(Reply { status: head.status.as_u16(), headers: head.headers, body: String::from_utf8_lossy(&body).into_owned() })
    }

    fn keep(&mut self, host: &str, cookie: &str) {
        let mut parts = cookie.split("; ");
        let (name, value) = parts.next().and_then(|pair| pair.split_once('=')).expect("a pair");
        let of = parts.clone().find_map(|part| part.strip_prefix("Domain=")).map_or(host.to_owned(), |domain| format!(".{domain}"));
        assert!(of == host || format!(".{host}").ends_with(&of), "{host} may set no cookie for {of}");
        self.cookies.retain(|(other, named, _)| (other, named.as_str()) != (&of, name));
        if !parts.any(|part| part == "Max-Age=0") {
            self.cookies.push((of, name.to_owned(), value.to_owned()));
        }
    }

    /// As a person opens a page.
    async fn open(&mut self, url: &str) -> Reply {
        self.open_with(url, &[]).await
    }

    async fn open_with(&mut self, url: &str, lines: &[(&str, &str)]) -> Reply {
        let all = [&[(ACCEPT.as_str(), "text/html,*/*;q=0.8"), ("sec-fetch-mode", "navigate")][..], lines].concat();
        self.send(Method::GET, url, &all, "").await.expect("an answer")
    }

    /// As a page posts a form of its own.
    async fn post(&mut self, host: &str, path: &str, fields: &[(&str, &str)]) -> Reply {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let origin = self.url(host, "");
        let lines = [
            (ORIGIN.as_str(), origin.as_str()),
            (CONTENT_TYPE.as_str(), "application/x-www-form-urlencoded"),
            (ACCEPT.as_str(), "text/html"),
        ];
        let url = self.url(host, path);
        self.send(Method::POST, &url, &lines, &body).await.expect("an answer")
    }
}

struct World {
    app: Application,
    admin: Application,
    sink: SmtpSink,
    pool: sqlx::PgPool,
    proxy: SocketAddr,
    /// Where nginx has only the server of the other application.
    alone: SocketAddr,
    _database: Database,
    _server: Server,
    _running: Running,
}

impl World {
    async fn behind(proxy: Proxy) -> Self {
        let (database, sink) = (Database::new().await, SmtpSink::start().await);
        let (app, admin) = (Application::start("the application").await, Application::start("the other").await);
        // Free a moment before the proxy takes it, as the server's own.
        let address = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound");
        let alone = TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("bound");
        let hosts = [address, alone].map(|at| format!("{APP}:{0}=email,{ADMIN}:{0}=two_factor", at.port())).join(",");
        let port = address.port();
        let server = Server::start_with(
            &database,
            &[
                ("BASE_URL", &format!("http://{ID}:{port}")),
                ("EMAIL_SMTP", &sink.url()),
                ("LIMITS", "off"),
                ("REQUIRE_2FA", "none"),
                ("TRUSTED_PROXIES", "127.0.0.1"),
                ("FORWARD_AUTH_DOMAIN", "example.org"),
                ("FORWARD_AUTH_HOSTS", &hosts),
            ],
        )
        .await;
        let running = proxy.start(port, alone.port(), server.address, app.address, admin.address);
        let mut browser = Browser::new(address);
        let health = browser.url(ID, "/healthz");
        let ready = async {
            // Its own pages of error, until it has read what it serves.
            while browser.send(Method::GET, &health, &[], "").await.is_none_or(|reply| reply.status != 200) {
                tokio::task::yield_now().await;
            }
        };
        let up = tokio::time::timeout(Duration::from_secs(30), ready).await.is_ok();
        assert!(up, "the proxy serves nothing: {}", fs::read_to_string(running.folder.join("log")).unwrap_or_default());
        let pool = database.pool_of(1).await;
        Self { app, admin, sink, pool, proxy: address, alone, _database: database, _server: server, _running: running }
    }

    /// From a page of an application to signing in and back to it. What the browser then finds there.
    async fn sign_in_for(&self, browser: &mut Browser, email: &str, nth: usize, url: &str) -> Reply {
        let refused = browser.open(url).await;
        assert_eq!(refused.status, 302, "{refused:?}");
        let login = refused.location().to_owned();
        assert!(login.starts_with(&browser.url(ID, "/login?next=")), "{login}");
        let page = browser.open(&login).await;
        let next = between(&page.body, "name=\"next\" value=\"", "\"").replace("&amp;", "&");
        assert_eq!(next, url);
        assert_eq!(browser.post(ID, "/login", &[("email", email), ("next", &next)]).await.location(), "/login/sent");
        let code = self.sink.nth_about(email, SIGN_IN, nth).await.code();
        let hop = browser.post(ID, "/login/sent", &[("code", &code)]).await;
        assert_eq!(hop.status, 200, "{hop:?}");
        let back = between(&hop.body, "content=\"0; url=", "\"").replace("&amp;", "&");
        assert_eq!(back, url);
        browser.open(&back).await
    }
}

/// The answer to a request as it is written, with what the browser has for the application.
async fn raw(to: SocketAddr, target: &str, host: &str, browser: &Browser) -> String {
    let mut stream = TcpStream::connect(to).await.expect("connected");
    let cookies = browser.cookies_for(APP);
    let request =
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept: text/html\r\nCookie: {cookies}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

/// Whoever is behind the browser: logs and audit go by that name.
async fn names_no_request(world: &World, browser: &Browser) {
    let named = format!("{ID}:{}\r\nX-Request-ID: a-strangers-name", world.proxy.port());
    let answer = raw(world.proxy, "/login", &named, browser).await;
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("a-strangers-name"), "{answer}");
}

async fn guards(proxy: Proxy) {
    let world = World::behind(proxy).await;
    let mut browser = Browser::new(world.proxy);
    let (deep, front, admin) = (browser.url(APP, DEEP), browser.url(APP, "/"), browser.url(ADMIN, "/users"));
    let lies: Vec<(&str, &str)> = [
        "Remote-User",
        "Remote-Email",
        "Remote-Groups",
        "Remote-Auth-Level",
        "Remote-Name",
        "Remote_User",
        "Remote_Groups",
        "Remote.User",
        "remote-user",
    ]
    .map(|name| (name, SPOOFED))
    .to_vec();

    // A stranger: pages lead to signing in, everything else is told no, and nothing reaches the application.
    assert!(browser.open_with(&deep, &lies).await.location().starts_with(&browser.url(ID, "/login?next=")));
    let script = [("sec-fetch-mode", "cors"), (ACCEPT.as_str(), "application/json")];
    assert_eq!(browser.send(Method::GET, &deep, &script, "").await.expect("an answer").status, 401);
    assert_eq!(browser.post(APP, "/orders", &[("item", "1")]).await.status, 401);
    assert_eq!((world.app.asked(), world.admin.asked()), (0, 0));

    // A deep link, to signing in and back, and who it is.
    let found = world.sign_in_for(&mut browser, MARA, 1, &deep).await;
    assert_eq!(found.status, 200, "{found:?}");
    assert!(found.body.starts_with(&format!("the application: GET {DEEP}\n")), "{found:?}");
    let user: uuid::Uuid = sqlx::query_scalar("select id from users").fetch_one(&world.pool).await.expect("one");
    let is_mara = |found: &Reply| {
        assert_eq!(found.told("remote-user"), [user.to_string()], "{found:?}");
        assert_eq!(found.told("remote-email"), [MARA], "{found:?}");
        assert_eq!(found.told("remote-groups"), ["users"], "{found:?}");
        assert_eq!(found.told("remote-auth-level"), ["email"], "{found:?}");
    };
    is_mara(&found);
    // Other hosts see the one cookie that is for them.
    assert!(found.told("cookie").iter().all(|cookies| !cookies.contains("__Host-")), "{found:?}");

    // What the client calls itself never gets there.
    let found = browser.open_with(&deep, &lies).await;
    is_mara(&found);
    assert!(!found.body.contains(SPOOFED), "{found:?}");

    // A form of the application's own, with its body.
    let posted = browser.post(APP, "/orders", &[("item", "1"), ("note", "a b")]).await;
    assert!(posted.body.starts_with("the application: POST /orders\n") && posted.body.ends_with("\nitem=1&note=a+b"), "{posted:?}");
    is_mara(&posted);

    // A host that needs two-factor, whatever the client says about which host it is.
    assert_eq!(browser.post(ADMIN, "/users", &[]).await.status, 403);
    let port = world.proxy.port();
    let (app, app_url) = (format!("{APP}:{port}"), browser.url(APP, "/"));
    for lines in [
        &[("x-forwarded-host", app.as_str())][..],
        &[("x-original-url", app_url.as_str())],
        &[
            ("x-forwarded-host", app.as_str()),
            ("x-original-url", &app_url),
            ("x-forwarded-method", "GET"),
            ("x-forwarded-uri", "/"),
        ],
    ] {
        let refused = browser.open_with(&admin, lines).await;
        assert!(matches!(refused.status, 302 | 403), "{lines:?}: {refused:?}");
    }
    // The request line says one host and `Host` another.
    let answer = raw(world.proxy, &format!("http://{ADMIN}:{port}/users"), &app, &browser).await;
    assert!(!answer.contains("the other:"), "{answer}");
    names_no_request(&world, &browser).await;
    if matches!(proxy, Proxy::Nginx) {
        // The only server there is, which nginx takes for every name: the rule of its own name holds.
        let answer = raw(world.alone, "/users", &format!("{APP}:{}", world.alone.port()), &browser).await;
        assert!(answer.starts_with("HTTP/1.1 403") || answer.starts_with("HTTP/1.1 302"), "{answer}");
        assert_eq!(
            raw(world.proxy, "/users", &format!("elsewhere.example.org:{port}"), &browser).await,
            "",
            "no server is that one"
        );
    }
    assert_eq!(world.admin.asked(), 0);
    let led = browser.open(&admin).await;
    assert_eq!(led.status, 302, "{led:?}");
    let asked = browser.open(led.location()).await;
    assert!(asked.location().starts_with("/login/continue?next="), "{asked:?}");
    let page = browser.open(&browser.url(ID, asked.location())).await;
    assert!(page.body.contains(&format!("<h1>{ADMIN} needs two-factor</h1>")), "{page:?}");

    // Signing out ends it, for whoever kept the cookie too.
    let kept = browser.clone();
    browser.post(ID, "/logout", &[]).await;
    assert_eq!(browser.cookies_for(APP), "");
    let before = world.app.asked();
    for mut browser in [browser, kept] {
        assert_eq!(browser.open(&front).await.status, 302);
    }
    assert_eq!(world.app.asked(), before);

    // An administrator, with two-factor.
    let mut browser = Browser::new(world.proxy);
    world.sign_in_for(&mut browser, ROOT, 1, &front).await;
    browser.post(ID, "/account/two-factor/setup/start", &[]).await;
    let setup = browser.open(&browser.url(ID, "/account/two-factor/setup")).await.body;
    let key = between(&setup, "class=\"copy mono\">", "<").replace(' ', "");
    let code = shown(&key, now(&world.pool).await);
    assert_eq!(browser.post(ID, "/account/two-factor/setup", &[("code", &code)]).await.status, 200);
    sqlx::query("update users set is_admin = true where email = $1").bind(ROOT).execute(&world.pool).await.expect("updated");
    let hop = browser.post(ID, "/login/continue", &[("next", &admin)]).await;
    assert_eq!(between(&hop.body, "content=\"0; url=", "\""), admin);
    let found = browser.open_with(&admin, &lies).await;
    assert_eq!(found.status, 200, "{found:?}");
    assert!(found.body.starts_with("the other: GET /users\n") && !found.body.contains(SPOOFED), "{found:?}");
    assert_eq!(found.told("remote-email"), [ROOT]);
    assert_eq!(found.told("remote-groups"), ["users,admins"]);
    assert_eq!(found.told("remote-auth-level"), ["two_factor"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_lets_in_whom_latchkey_knows() {
    guards(Proxy::Nginx).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caddy_lets_in_whom_latchkey_knows() {
    guards(Proxy::Caddy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn traefik_lets_in_whom_latchkey_knows() {
    guards(Proxy::Traefik).await;
}
