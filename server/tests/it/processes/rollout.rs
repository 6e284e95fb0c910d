//! One flag, two servers: what is changed at the shell holds on both within five seconds, without a restart.

use std::time::Duration;

use auth::flag::{PASSWORDLESS_AUTH, bucket};
use serde_json::{Value, json};
use sqlx::postgres::PgListener;
use testkit::{Browser, Database, SmtpSink};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{ORIGIN, Server, account::latchkey};

/// Until both say so, or the promise is broken.
async fn both(servers: &[Server; 2], off: bool) {
    let follow = async {
        for server in servers {
            while Browser::new(server.address, ORIGIN).get("/login").await.body.contains("isn't available yet") != off {}
        }
    };
    tokio::time::timeout(Duration::from_secs(5), follow).await.expect("within five seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_flag_is_followed_by_every_server() {
    let (database, sink) = (Database::new().await, SmtpSink::start().await);
    let servers = [Server::start(&database, &sink, "off").await, Server::start(&database, &sink, "off").await];
    both(&servers, false).await;
    let set = |to: &[&str]| {
        let said = latchkey(&database, &[&["flag", "set", "passwordless_auth"], to, &["--reason", "a drill"]].concat());
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).expect("UTF-8")
    };
    for (to, off, said) in [
        (&["--off"][..], true, "nobody"),
        (&["--percent", "5", "--of", "admins"], false, "5 % of administrators"),
        (&["--off"], true, "nobody"),
        (&["--percent", "25"], false, "25 % of everyone"),
        (&["--on"], false, "everyone"),
    ] {
        assert!(set(to).contains(said), "{to:?}");
        assert!(set(to).contains(&format!("It is so already: passwordless_auth is for {said}.")), "{to:?}");
        both(&servers, off).await;
    }
    latchkey(&database, &["flag", "allow", "mara@example.org"]);
    let shown = String::from_utf8(latchkey(&database, &["flag", "show"]).stdout).expect("UTF-8");
    assert!(shown.contains("everyone") && shown.contains("mara@example.org"), "{shown}");
}

/// What somebody finds who asks for a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// A mail with a link.
    In,
    /// A mail that says so.
    NotYet,
    /// A page that says so, and no mail.
    Off,
}

/// An address in that bucket.
fn in_bucket(wanted: u8) -> String {
    let mut names = (0..10_000).map(|n| format!("person{n}@example.org"));
    names.find(|email| bucket(PASSWORDLESS_AUTH, email) == wanted).expect("one of them")
}

/// Two servers on one database, each with a mail server of its own. Either of them may send a mail, and who sends it decides what it
/// says: where it arrives tells which one that was.
struct Pair {
    database: Database,
    sinks: [SmtpSink; 2],
    servers: [Server; 2],
}

impl Pair {
    async fn new() -> Self {
        let (database, sinks) = (Database::new().await, [SmtpSink::start().await, SmtpSink::start().await]);
        let servers = [Server::start(&database, &sinks[0], "off").await, Server::start(&database, &sinks[1], "off").await];
        Self { database, sinks, servers }
    }

    /// What the `n`th server says to this address. Where the other one was quicker with the mail, it is asked for again.
    async fn found(&self, n: usize, email: &str) -> Found {
        let (this, other) = (&self.sinks[n], &self.sinks[1 - n]);
        loop {
            let (here, there) = (this.all_to(email).len(), other.all_to(email).len());
            let asked = Browser::new(self.servers[n].address, ORIGIN).post("/login", &[("email", email)]).await;
            if asked.status == 403 {
                assert!(asked.body.contains("isn't available yet"), "{}", asked.body);
                return Found::Off;
            }
            assert_eq!((asked.status.as_u16(), asked.location()), (303, "/login/sent"), "{}", asked.body);
            let mail = tokio::select! {
                mail = this.nth_to(email, here + 1) => Some(mail.text()),
                _ = other.nth_to(email, there + 1) => None,
            };
            let Some(mail) = mail else { continue };
            let (way_in, not_yet) =
                (mail.contains("/login/verify?token="), mail.contains("signing in by email isn't turned on for it yet"));
            assert!(way_in != not_yet, "{mail}");
            return if way_in { Found::In } else { Found::NotYet };
        }
    }

    /// Until both servers say this to each address.
    async fn agree(&self, what: &str, expected: &[(&str, Found)]) {
        let follow = async {
            for n in [0, 1] {
                for (email, found) in expected {
                    while self.found(n, email).await != *found {}
                }
            }
        };
        // The promise is five seconds; each answer here is a mail besides, on machines that may be busy.
        let followed = tokio::time::timeout(Duration::from_secs(20), follow).await;
        assert!(followed.is_ok(), "{what}: they don't agree");
    }
}

/// Sets the flag by one server, as a program does.
async fn put(server: &Server, key: &str, flag: &Value) {
    let body = flag.to_string();
    let request = format!(
        "PUT /api/v1/flags/passwordless_auth HTTP/1.1\r\nHost: localhost:4000\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(server.address).await.expect("accepted");
    stream.write_all(request.as_bytes()).await.expect("taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Set at the shell, and then all over again by one of the servers.
#[tokio::test(flavor = "multi_thread")]
async fn both_servers_agree_who_is_in_in_every_state_of_the_flag() {
    let pair = Pair::new().await;
    let said = |args: &[&str]| String::from_utf8(latchkey(&pair.database, args).stdout).expect("UTF-8");
    let [three, four, five, quarter, above, named, last] = [3, 4, 5, 24, 25, 98, 99].map(in_bucket);
    // Of two administrators one is among the first five in a hundred; who is among them and no administrator is not meant.
    for admin in [&four, &five] {
        said(&["user", "create", admin, "--admin"]);
    }
    let made = said(&["apikey", "create", "Lever", "--scope", "flags", "--json"]);
    let made: Value = serde_json::from_str(&made).expect("JSON");
    let key = made["key"].as_str().expect("a key");

    let set = ["flag", "set", "passwordless_auth"];
    let flag = |allowed: &[&str], percent_admins: u8, percent_everyone: u8| {
        json!({
            "allowed": allowed, "percent_admins": percent_admins, "percent_everyone": percent_everyone, "reason": "a drill",
        })
    };
    let states = [
        ([&set[..], &["--off"]].concat(), flag(&[], 0, 0), vec![(four.as_str(), Found::Off), (&last, Found::Off)]),
        (vec!["flag", "allow", &named], flag(&[&named], 0, 0), vec![(named.as_str(), Found::In), (&four, Found::NotYet)]),
        (
            [&set[..], &["--percent", "5", "--of", "admins"]].concat(),
            flag(&[], 5, 0),
            vec![(four.as_str(), Found::In), (&five, Found::NotYet), (&three, Found::NotYet)],
        ),
        (
            [&set[..], &["--percent", "25"]].concat(),
            flag(&[], 0, 25),
            vec![(quarter.as_str(), Found::In), (&three, Found::In), (&above, Found::NotYet)],
        ),
        ([&set[..], &["--on"]].concat(), flag(&[], 0, 100), vec![(last.as_str(), Found::In), (&above, Found::In)]),
    ];
    for by_server in [false, true] {
        for (args, flag, expected) in &states {
            if by_server {
                put(&pair.servers[0], key, flag).await;
            } else {
                said(&[&args[..], &["--reason", "a drill"]].concat());
            }
            pair.agree(&format!("{args:?}, by a server: {by_server}"), expected).await;
        }
    }
}

/// The row alone, as somebody leaves it who writes SQL: being told makes a server quicker, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_told_of_nothing_sees_it_by_itself() {
    let pair = Pair::new().await;
    let pool = pair.database.pool_of(1).await;
    let mut news = PgListener::connect(&pair.database.url).await.expect("connected");
    news.listen("latchkey_flags").await.expect("listening");
    let (inside, outside) = (in_bucket(24), in_bucket(25));
    latchkey(&pair.database, &["flag", "set", "passwordless_auth", "--off", "--reason", "a drill"]);
    pair.agree("off", &[(&inside, Found::Off)]).await;
    let told = tokio::time::timeout(Duration::from_secs(5), news.recv()).await.expect("the shell tells").expect("heard");
    assert_eq!(told.payload(), "passwordless_auth");

    for (percent, expected) in [
        (25_i16, [(inside.as_str(), Found::In), (outside.as_str(), Found::NotYet)]),
        (100, [(&inside, Found::In), (&outside, Found::In)]),
        (0, [(&inside, Found::Off), (&outside, Found::Off)]),
    ] {
        let changed = sqlx::query("update feature_flags set percent_everyone = $1 where key = 'passwordless_auth'")
            .bind(percent)
            .execute(&pool)
            .await
            .expect("updated");
        assert_eq!(changed.rows_affected(), 1);
        pair.agree(&format!("{percent} % by SQL"), &expected).await;
    }
    let told = tokio::time::timeout(Duration::from_millis(100), news.recv()).await;
    assert!(told.is_err(), "or nobody had to look: {told:?}");
}

/// Takes a time out of an object, so that the rest can be compared.
fn time_of(object: &mut Value, name: &str) -> OffsetDateTime {
    let text = object[name].take();
    OffsetDateTime::parse(text.as_str().expect(name), &Rfc3339).expect("RFC 3339")
}

#[tokio::test(flavor = "multi_thread")]
async fn flag_show_says_as_json_who_has_it_and_who_said_so() {
    let database = Database::new().await;
    let shown = || {
        let said = latchkey(&database, &["flag", "show", "--json"]).stdout;
        serde_json::from_slice::<Value>(&said).expect("JSON")
    };
    let by_environment = json!({ "flag": "passwordless_auth", "allowed": [], "percent_admins": 0, "percent_everyone": 100 });
    assert_eq!(shown(), json!({ "flags": [by_environment] }), "nobody has changed it");

    latchkey(&database, &["flag", "set", "passwordless_auth", "--off", "--reason", "wrong mails"]);
    latchkey(&database, &["flag", "set", "passwordless_auth", "--percent", "5", "--of", "admins", "--reason", "canary"]);
    latchkey(&database, &["flag", "allow", "Mara@Example.org", "--reason", "ticket 7"]);
    latchkey(&database, &["flag", "set", "dark_mode", "--on", "--reason", "a try"]);
    let mut all = shown();
    for row in all["flags"].as_array_mut().expect("flags") {
        time_of(row, "changed_at");
    }
    assert_eq!(
        all,
        json!({ "flags": [
            {
                "flag": "dark_mode", "allowed": [], "percent_admins": 0, "percent_everyone": 100,
                "changed_at": null, "changed_by": "operator", "reason": "a try", "who": "everyone",
            },
            {
                "flag": "passwordless_auth", "allowed": ["mara@example.org"], "percent_admins": 5, "percent_everyone": 0,
                "changed_at": null, "changed_by": "operator", "reason": "ticket 7", "who": "5 % of administrators, 1 address",
            },
        ] })
    );
}

/// Without a server, so that nobody looks at the checks meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn rollout_status_says_as_json_where_it_stands_and_what_its_checks_say() {
    let database = Database::new().await;
    let pool = database.pool_of(1).await;
    let told = |args: &[&str]| {
        let said = latchkey(&database, &[&["rollout"], args, &["--json"]].concat()).stdout;
        serde_json::from_slice::<Value>(&said).expect("JSON")
    };
    let limits = [
        ("failed_verifications", 5.0, false),
        ("burst", 100.0, false),
        ("second_factor_failures", 10.0, false),
        ("mail_delay", 60.0, false),
        ("server_errors", 1.0, true),
        ("audit", 0.0, true),
        ("mail_stuck", 2.0, true),
        ("keys", 0.0, true),
    ];
    let check = |(name, limit, ours): (&str, f64, bool)| {
        json!({
            "name": name, "value": null, "limit": limit, "verdict": "no data", "over_since": null, "turns_it_off": ours,
        })
    };
    let nothing = json!({ "rollout": null, "checks": limits.map(check).to_vec() });
    assert_eq!(told(&["status"]), nothing, "there was none, and nobody has looked yet");

    sqlx::query(
        "insert into rollout_checks (name, value, over_since, checked_at)
         values ('mail_delay', 74, now() - interval '12 minutes', now()), ('burst', 7, null, now())",
    )
    .execute(&pool)
    .await
    .expect("inserted");
    latchkey(&database, &["flag", "set", "passwordless_auth", "--off", "--reason", "a drill"]);
    latchkey(&database, &["flag", "allow", "mara@example.org"]);
    let mut status = told(&["start", "--reason", "as agreed"]);
    assert_eq!(status, told(&["status"]), "each act says where it led");
    assert_eq!((&status["checks"][1]["value"], &status["checks"][1]["verdict"]), (&json!(7.0), &json!("ok")));
    let delay = &mut status["checks"][3];
    assert!(time_of(delay, "over_since") < time_of(&mut status["rollout"].clone(), "started_at"));
    assert_eq!(
        status["checks"][3],
        json!({
            "name": "mail_delay", "value": 74.0, "limit": 60.0, "verdict": "over", "over_since": null, "turns_it_off": false,
        })
    );
    let rollout = &mut status["rollout"];
    assert!(rollout["id"].take().as_str().is_some_and(|id| id.parse::<uuid::Uuid>().is_ok()));
    let (started, since, soaked) = (time_of(rollout, "started_at"), time_of(rollout, "step_since"), time_of(rollout, "soaked_at"));
    assert_eq!((since, soaked - since), (started, time::Duration::hours(24)));
    assert_eq!(
        *rollout,
        json!({
            "id": null, "state": "running", "why": null, "step": 0, "step_since": null, "soaked_at": null, "sign_ins": 0,
            "started_at": null, "ended_at": null,
            "plan": [
                { "to": "named", "soak_hours": 24 },
                { "to": { "admins": 5 }, "soak_hours": 72 },
                { "to": { "everyone": 25 }, "soak_hours": 48 },
                { "to": { "everyone": 100 }, "soak_hours": 72 },
            ],
        })
    );

    for (act, reason, state, why) in [
        ("pause", "the office moves", "paused", json!("the office moves")),
        ("resume", "moved", "running", json!(null)),
        ("abort", "we stay there", "aborted", json!("we stay there")),
    ] {
        let status = told(&[act, "--reason", reason]);
        assert_eq!(status, told(&["status"]), "{act}");
        let rollout = &status["rollout"];
        assert_eq!((&rollout["state"], &rollout["why"], &rollout["step"]), (&json!(state), &why, &json!(0)), "{act}");
        assert_eq!(rollout["ended_at"].is_string(), state == "aborted", "{act}");
    }
}
