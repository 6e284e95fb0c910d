//! The second factor over two servers: used once, however many try at once (`auth/tests/it/two_factor.rs` has 64 of them), and used for good.

use aws_lc_rs::hmac;
use data_encoding::BASE32_NOPAD;
use testkit::{Browser, Database, SmtpSink};

use super::{ORIGIN, Server};

const MARA: &str = "mara@example.org";
/// What every mail with a link and a code is called.
pub(super) const SIGN_IN: &str = "Sign in to Latchkey";

/// What an app shows at a time, by RFC 6238 and nothing of ours.
pub(super) fn shown(key: &str, unix: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &BASE32_NOPAD.decode(key.as_bytes()).expect("base32"));
    let mac = hmac::sign(&key, &(unix / 30).to_be_bytes());
    let mac = mac.as_ref();
    let offset = usize::from(mac[19] & 15);
    let word = u32::from_be_bytes(mac[offset..offset + 4].try_into().expect("four bytes"));
    format!("{:06}", (word & 0x7fff_ffff) % 1_000_000)
}

/// What stands between two marks, the first time.
pub(super) fn between<'a>(page: &'a str, begin: &str, end: &str) -> &'a str {
    let (_, rest) = page.split_once(begin).unwrap_or_else(|| panic!("no {begin} in {page}"));
    rest.split_once(end).expect("an end").0
}

pub(super) struct Owner {
    pub browser: Browser,
    pub key: String,
    codes: Vec<String>,
}

pub(super) async fn now(pool: &sqlx::PgPool) -> i64 {
    sqlx::query_scalar("select floor(extract(epoch from now()))::bigint").fetch_one(pool).await.expect("the time")
}

/// Signs in and turns two-factor on, page by page.
pub(super) async fn enrol(server: &Server, sink: &SmtpSink, pool: &sqlx::PgPool) -> Owner {
    enrol_as(MARA, server, sink, pool).await
}

pub(super) async fn enrol_as(email: &str, server: &Server, sink: &SmtpSink, pool: &sqlx::PgPool) -> Owner {
    let mut browser = Browser::new(server.address, ORIGIN);
    browser.post("/login", &[("email", email)]).await;
    let code = sink.nth_to(email, 1).await.code();
    assert_eq!(browser.post("/login/sent", &[("code", &code)]).await.location(), "/account");
    browser.post("/account/two-factor/setup/start", &[]).await;
    let setup = browser.get("/account/two-factor/setup").await.body;
    let key = between(&setup, "class=\"copy mono\">", "<").replace(' ', "");
    let revealed = browser.post("/account/two-factor/setup", &[("code", &shown(&key, now(pool).await))]).await;
    assert_eq!(revealed.status, 200);
    let codes: Vec<String> = between(&revealed.body, "<ol class=\"codes mono\">", "</ol>")
        .split("<li>")
        .skip(1)
        .map(|item| item.split_once('<').expect("an end").0.to_owned())
        .collect();
    assert_eq!(codes.len(), 10);
    let set = between(&revealed.body, "name=\"set\" value=\"", "\"").to_owned();
    browser.post("/account/backup-codes/saved", &[("set", &set), ("saved", "on")]).await;
    sink.nth_to(email, 2).await;
    Owner { browser, key, codes }
}

/// The code that turned it on is burnt; what the app shows next would only come in half a minute.
pub(super) async fn half_a_minute_passes(pool: &sqlx::PgPool) {
    sqlx::query("update totp_credentials set last_step = last_step - 2").execute(pool).await.expect("updated");
}

/// A browser that the account knows, with a session of its own that has given one factor of two. Its mail is the `nth` of its kind.
pub(super) async fn half_signed_in(owner: &Browser, server: &Server, sink: &SmtpSink, nth: usize) -> Browser {
    let mut browser = owner.at(server.address);
    browser.cookies.remove("__Host-latchkey");
    browser.post("/login", &[("email", MARA)]).await;
    let code = sink.nth_about(MARA, SIGN_IN, nth).await.code();
    assert_eq!(browser.post("/login/sent", &[("code", &code)]).await.location(), "/login/two-factor");
    browser
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_tries_over_two_servers_use_a_code_once_and_a_restart_forgets_nothing() {
    let (database, sink) = (Database::new().await, SmtpSink::start().await);
    let pool = database.pool_of(1).await;
    let servers = [Server::start(&database, &sink, "off").await, Server::start(&database, &sink, "off").await];
    let owner = enrol(&servers[0], &sink, &pool).await;
    let (mut mails, mut used) = (1, Vec::new());
    for path in ["/login/two-factor", "/login/backup-code"] {
        let mut browsers = Vec::new();
        for n in 0..8 {
            mails += 1;
            browsers.push(half_signed_in(&owner.browser, &servers[n % 2], &sink, mails).await);
        }
        let code = if path == "/login/two-factor" {
            half_a_minute_passes(&pool).await;
            shown(&owner.key, now(&pool).await)
        } else {
            owner.codes[0].clone()
        };
        let tries = browsers.into_iter().map(|mut browser| {
            let code = code.clone();
            tokio::spawn(async move { browser.post(path, &[("code", &code)]).await })
        });
        let mut won = 0;
        for answer in tries.collect::<Vec<_>>() {
            let answer = answer.await.expect("no panic");
            match answer.status.as_u16() {
                303 => {
                    assert_eq!(answer.location(), "/account", "{path}");
                    won += 1;
                }
                422 => assert!(!answer.headers.contains_key("set-cookie"), "{path}"),
                other => panic!("{path}: {other}"),
            }
        }
        assert_eq!(won, 1, "{path}");
        used.push((path, code));
    }

    drop(servers);
    let server = Server::start(&database, &sink, "off").await;
    for (path, code) in used {
        mails += 1;
        let mut browser = half_signed_in(&owner.browser, &server, &sink, mails).await;
        assert_eq!(browser.post(path, &[("code", &code)]).await.status, 422, "{path}: used is used, also after a restart");
    }
}
