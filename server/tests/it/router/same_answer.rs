//! Whether an account exists, and in what state it is, shows in nothing that asking for a link answers: not in the status, the
//! headers, the cookies or the page, and not in the statements that the database is asked either.
//!
//! One browser goes one way for an address of every kind, and all that it was answered is compared, request by request. How long the
//! answers take is measured by `bench enumerate`.

use std::{
    fmt::Debug,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use app::routes;
use auth::{
    Auth,
    crypto::{Keys, new_id},
    delivery::Content,
    identity::Actor,
    policy::{
        Policy, SignUp,
        limits::{Limit, Limits, Rate},
    },
};
use axum::{Router, body::to_bytes, extract::ConnectInfo};
use http::{HeaderMap, Method, StatusCode, header};
use testkit::{Kit, TEST_KEY, address, why};
use tracing::{Dispatch, Event, Subscriber, field::Field, instrument::WithSubscriber as _};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt as _};

use super::{config, enrol, keep, request, send, service, sign_in_by_link};

/// What may be behind an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Known,
    Disabled,
    TwoFactor,
    /// Its account is about to be deleted.
    Leaving,
    Invited,
    /// Its account has moved to another address, and may come back.
    MovedAway,
    /// Nobody's, and sign-up isn't for its domain.
    NotAdmitted,
    /// Nobody's, with a route in it.
    Route,
    /// An account's, from before routes were refused.
    KnownRoute,
}

impl State {
    const ALL: [Self; 10] = [
        Self::Unknown,
        Self::Known,
        Self::Disabled,
        Self::TwoFactor,
        Self::Leaving,
        Self::Invited,
        Self::MovedAway,
        Self::NotAdmitted,
        Self::Route,
        Self::KnownRoute,
    ];

    /// All of one length, or the length of a page would differ for a good reason.
    fn email(self) -> &'static str {
        match self {
            Self::Unknown => "nobody@example.org",
            Self::Known => "owners@example.org",
            Self::Disabled => "closed@example.org",
            Self::TwoFactor => "double@example.org",
            Self::Leaving => "leaver@example.org",
            Self::Invited => "guests@example.net",
            Self::MovedAway => "former@example.org",
            Self::NotAdmitted => "others@example.net",
            Self::Route => "a%x.io@example.org",
            Self::KnownRoute => "b%x.io@example.org",
        }
    }

    /// What the mail says, and the page does not.
    fn is_told(self, content: &Content) -> bool {
        match self {
            // It gets none at all.
            Self::Route => false,
            Self::KnownRoute | Self::Unknown | Self::Known | Self::TwoFactor | Self::Leaving | Self::Invited => {
                matches!(content, Content::SignIn { .. })
            }
            Self::Disabled => matches!(content, Content::AccountOff { .. }),
            Self::MovedAway | Self::NotAdmitted => matches!(content, Content::NoAccount { .. }),
        }
    }
}

struct World {
    kit: Kit,
    statements: Statements,
    dispatch: Dispatch,
    /// Where there is one subscriber only, `tracing` asks whichever thread comes first whether anybody listens, and stays with that:
    /// a test beside this one, which has none, would answer no. With two it asks all.
    _another: Dispatch,
}

impl World {
    async fn new() -> Self {
        let kit = Kit::with(policy(Limits::default())).await;
        for state in [State::Known, State::Disabled, State::TwoFactor, State::Leaving] {
            kit.auth.users().create(&address(state.email()), false, None).await.expect("made");
        }
        let known = kit.auth.users().create(&address("known@example.org"), false, None).await.expect("made");
        sqlx::query("update users set email = $2, email_key = $2 where id = $1")
            .bind(known)
            .bind(State::KnownRoute.email())
            .execute(&kit.pool)
            .await
            .expect("updated");
        enrol(&kit, State::TwoFactor.email(), false).await;
        kit.auth
            .administration()
            .invite(Actor::Operator, &address(State::Invited.email()), Some(&why("a guest")))
            .await
            .expect("invited");
        let moved = kit.auth.users().create(&address("moved@example.org"), false, None).await.expect("made");
        let now = kit.auth.now();
        for (sql, state) in [
            ("update users set disabled_at = $2 where email = $1", State::Disabled),
            ("update users set deletes_at = $2::timestamptz + interval '7 days' where email = $1", State::Leaving),
        ] {
            let done = sqlx::query(sql).bind(state.email()).bind(now).execute(&kit.pool).await.expect("updated");
            assert_eq!(done.rows_affected(), 1, "{state:?}");
        }
        sqlx::query(
            "insert into undo_links (id, user_id, kind, email, email_key, nonce, key_id, token_hash, created_at, expires_at)
             values ($1, $2, 'email_change', $3, $3, sha256('a'), 'test', sha256('b'), $4, $4::timestamptz + interval '72 hours')",
        )
        .bind(new_id(now))
        .bind(moved)
        .bind(State::MovedAway.email())
        .bind(now)
        .execute(&kit.pool)
        .await
        .expect("inserted");
        kit.letters().await;

        let statements = Statements::default();
        let dispatch = tracing_subscriber::registry().with(statements.clone()).into();
        Self { kit, statements, dispatch, _another: Dispatch::new(tracing_subscriber::registry()) }
    }

    /// The product under these limits, on the one database and clock.
    async fn app(&self, limits: Limits) -> Router {
        let keys = Keys::new(&TEST_KEY, &[]);
        let auth = Auth::new(self.kit.pool.clone(), Arc::new(self.kit.clock.clone()), keys, policy(limits));
        auth.flag().read().await.expect("the database answers");
        // Without the limit per process: it counts real seconds, and a walk posts faster than people.
        service(&config(&[("LIMITS", "off")]), Arc::new(auth))
    }

    /// As if nobody had asked for anything lately.
    async fn rest(&self) {
        sqlx::query("delete from rate_limits").execute(&self.kit.pool).await.expect("deleted");
    }

    fn pass(&self, seconds: i64) {
        self.kit.clock.advance(time::Duration::seconds(seconds));
    }
}

fn policy(limits: Limits) -> Policy {
    let sign_up = SignUp::Domains(vec!["example.org".to_owned()]);
    Policy { passwordless_auth: true, sign_up, limits, ..Policy::default() }
}

/// What `sqlx` says it has asked the database. It says so in the task that asked, so that a subscriber of one request's own future
/// hears of no other's. A transaction's beginning is the one thing it does not tell; its end it does.
#[derive(Clone, Default)]
struct Statements(Arc<Mutex<Vec<String>>>);

impl Statements {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("nothing panics while it holds the lock"))
    }
}

impl<S: Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "sqlx::query" {
            let mut parts = Vec::new();
            event.record(&mut |field: &Field, value: &dyn Debug| {
                // Short statements stand in the summary only.
                if matches!(field.name(), "summary" | "db.statement") {
                    parts.push(format!("{value:?}"));
                }
            });
            self.0.lock().expect("nothing panics while it holds the lock").push(parts.join(" "));
        }
    }
}

/// All that a browser could compare, and what it can't see: the statements.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    what: String,
    status: StatusCode,
    headers: Vec<String>,
    page: String,
    statements: Vec<String>,
}

impl Answer {
    /// What is new with every request, and what was typed, by its place only.
    fn masked(what: String, status: StatusCode, headers: &HeaderMap, page: &str, email: &str, statements: Vec<String>) -> Self {
        let id = headers["x-request-id"].to_str().expect("ASCII");
        let headers = headers.iter().map(|(name, value)| {
            let value = value.to_str().expect("ASCII");
            match (name, value.split_once(';').and_then(|(pair, attributes)| Some((pair.split_once('=')?, attributes)))) {
                (&header::SET_COOKIE, Some(((cookie, secret), attributes))) => {
                    format!("{name}: {cookie}={} bytes;{attributes}", secret.len())
                }
                (&header::DATE, _) => name.to_string(),
                _ => format!("{name}: {}", value.replace(id, "{id}")),
            }
        });
        let mut headers: Vec<String> = headers.collect();
        headers.sort();
        Self { what, status, headers, page: page.replace(id, "{id}").replace(email, "{email}"), statements }
    }

    fn says(&self, words: &str) -> bool {
        self.page.contains(words)
    }
}

/// Somebody who wants to know what is behind an address, and all they were answered.
struct Walk<'a> {
    world: &'a World,
    app: &'a Router,
    state: State,
    answers: Vec<Answer>,
}

impl<'a> Walk<'a> {
    async fn new(world: &'a World, app: &'a Router, state: State) -> Self {
        world.rest().await;
        Self { world, app, state, answers: Vec::new() }
    }

    async fn send(&mut self, browser: &mut Browser, method: Method, path: &str, body: &str) -> &Answer {
        let what = format!("{} {method} {path} {body}", self.answers.len());
        let mut request = request(&method, path, &browser.cookies, body);
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from((browser.ip, 4_711))));
        self.world.statements.take();
        // Else there is no session to look for.
        let looks_up = browser.cookies.contains("__Host-latchkey=") || method == Method::POST;
        let answered = async {
            let response = send(self.app, request).await;
            browser.cookies = keep(&browser.cookies, &response);
            let (parts, body) = response.into_parts();
            let page = to_bytes(body, 1 << 20).await.expect("whole");
            (parts.status, parts.headers, String::from_utf8(page.into()).expect("UTF-8"))
        };
        let (status, headers, page) = answered.with_subscriber(self.world.dispatch.clone()).await;
        let statements = self.world.statements.take();
        assert!(!looks_up || !statements.is_empty(), "{what}: no statement was counted");
        let what = what.replace(&encoded(self.state.email()), "{email}");
        self.answers.push(Answer::masked(what, status, &headers, &page, self.state.email(), statements));
        self.answers.last().expect("just pushed")
    }

    async fn get(&mut self, browser: &mut Browser, path: &str) -> &Answer {
        self.send(browser, Method::GET, path, "").await
    }

    async fn ask(&mut self, browser: &mut Browser) -> &Answer {
        let body = format!("email={}&next=%2Faccount", encoded(self.state.email()));
        self.send(browser, Method::POST, routes::LOGIN, &body).await
    }

    async fn ask_again(&mut self, browser: &mut Browser) -> &Answer {
        self.send(browser, Method::POST, routes::LOGIN_SENT_RESEND, "").await
    }

    /// Wrong but once in a million times.
    async fn enter_wrong_code(&mut self, browser: &mut Browser) -> &Answer {
        self.send(browser, Method::POST, routes::LOGIN_SENT, "code=246810").await
    }

    /// Sends what is queued: what the owner is told differs, and what the browser is told after that does not.
    async fn mail_goes_out(&self) {
        let letters = self.world.kit.letters().await;
        assert_eq!(letters.is_empty(), self.state == State::Route, "{:?}", self.state);
        for letter in letters {
            assert_eq!(letter.to.as_str(), self.state.email());
            assert!(self.state.is_told(&letter.content), "{:?} is told {:?}", self.state, letter.content);
        }
    }
}

struct Browser {
    ip: Ipv4Addr,
    cookies: String,
}

impl Browser {
    fn at(ip: Ipv4Addr) -> Self {
        Self { ip, cookies: String::new() }
    }
}

const HOME: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);

fn encoded(email: &str) -> String {
    email.replace('%', "%25").replace('@', "%40")
}

/// Everything that can be asked around a link, with no limit in the way.
async fn ask_around(walk: &mut Walk<'_>, cookies: &str) {
    let browser = &mut Browser { ip: HOME, cookies: cookies.to_owned() };
    walk.get(browser, routes::LOGIN).await;
    walk.send(browser, Method::HEAD, routes::LOGIN, "").await;
    let asked = walk.ask(browser).await;
    assert_eq!(asked.status, StatusCode::SEE_OTHER);
    for told in ["insert into magic_links", "insert into mail_outbox", "insert into sessions", "COMMIT"] {
        assert!(asked.statements.iter().any(|statement| statement.contains(told)), "{told}: {:?}", asked.statements);
    }
    assert!(walk.get(browser, routes::LOGIN_SENT).await.says("{email}"), "what was typed is shown");
    walk.mail_goes_out().await;
    walk.get(browser, routes::LOGIN_SENT).await;
    walk.send(browser, Method::HEAD, routes::LOGIN_SENT, "").await;
    walk.get(browser, routes::LOGIN).await;
    for body in ["", "code=", "code=12", "code=nonsense"] {
        assert_eq!(walk.send(browser, Method::POST, routes::LOGIN_SENT, body).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    for (left, status) in [(4, StatusCode::UNPROCESSABLE_ENTITY), (3, StatusCode::UNPROCESSABLE_ENTITY)] {
        let wrong = walk.enter_wrong_code(browser).await;
        assert!(wrong.status == status && wrong.says(&format!("{left} tries left")), "{wrong:?}");
    }
    walk.world.pass(31);
    assert_eq!(walk.ask_again(browser).await.status, StatusCode::SEE_OTHER);
    assert!(walk.get(browser, routes::LOGIN_SENT_AGAIN).await.says("sent another email"));
    walk.mail_goes_out().await;
    for _ in 0..4 {
        walk.enter_wrong_code(browser).await;
    }
    for _ in 0..2 {
        assert_eq!(walk.enter_wrong_code(browser).await.status, StatusCode::GONE);
    }
    walk.world.pass(31);
    assert_eq!(walk.ask(browser).await.status, StatusCode::SEE_OTHER, "in the session it has");
    walk.world.pass(11 * 60);
    let late = walk.enter_wrong_code(browser).await;
    assert!(late.status == StatusCode::GONE && late.says("has expired"), "{late:?}");
    walk.get(browser, routes::LOGIN_SENT).await;
    // From another browser and network, while this one has a request under way.
    assert_eq!(walk.ask_again(browser).await.status, StatusCode::SEE_OTHER);
    let other = &mut Browser::at(ELSEWHERE);
    walk.ask(other).await;
    walk.get(other, routes::LOGIN_SENT).await;
    walk.mail_goes_out().await;
}

/// What each kind of address was answered must be what an unknown one was. An address with a route in it looks like one to everybody, and is
/// never told that mail is late: it is compared with its like.
fn assert_same(what: &str, walks: &[(State, Vec<Answer>)]) {
    let (routes, others): (Vec<_>, Vec<_>) = walks.iter().partition(|(state, _)| matches!(state, State::Route | State::KnownRoute));
    for like in [others, routes] {
        let Some(((first, expected), others)) = like.split_first() else { continue };
        for (state, answers) in others {
            assert_eq!(answers.len(), expected.len(), "{what}: {state:?}");
            for (answer, expected) in answers.iter().zip(expected) {
                assert!(answer == expected, "{what}: {state:?} and {first:?} differ.\n{answer:#?}\n{expected:#?}");
            }
        }
    }
}

#[tokio::test]
async fn a_link_is_asked_for_with_one_answer_whatever_is_behind_the_address() {
    let world = World::new().await;
    let app = world.app(Limits::default()).await;
    let mut walks = Vec::new();
    for state in State::ALL {
        let mut walk = Walk::new(&world, &app, state).await;
        ask_around(&mut walk, "").await;
        walks.push((state, walk.answers));
    }
    assert_same("no limit", &walks);
}

/// It is looked up whether the browser is known to the account that is asked for. It may well be known to another.
#[tokio::test]
async fn nor_does_a_browser_learn_more_that_has_an_account_of_its_own() {
    let world = World::new().await;
    let app = world.app(Limits::default()).await;
    world.kit.auth.users().create(&address("curious@example.org"), false, None).await.expect("made");
    let cookies = sign_in_by_link(&world.kit, &app, "curious@example.org").await;
    world.kit.letters().await;
    let known = cookies.split("; ").find(|cookie| cookie.starts_with(app::http::session::KNOWN)).expect("it is known from now on");
    let mut walks = Vec::new();
    for state in State::ALL {
        let mut walk = Walk::new(&world, &app, state).await;
        ask_around(&mut walk, known).await;
        walks.push((state, walk.answers));
    }
    assert!(walks[0].1[2].statements.iter().any(|statement| statement.contains("known_browsers")), "it is looked up");
    assert_same("a known browser", &walks);
}

/// Limits so wide that none is met but this one, after one request.
fn only(limit: Limit) -> Limits {
    use Limit::{CodeNetwork, LinkAddress, LinkAddressNetwork, LinkAll, LinkNetwork};
    let wide = [LinkAddressNetwork, LinkAddress, LinkNetwork, LinkAll, CodeNetwork];
    let hourly = |burst| Rate::new(burst, Duration::from_hours(1));
    let mut limits = wide.into_iter().fold(Limits::default(), |limits, limit| limits.with(limit, hourly(10_000)));
    // The others' are no setting.
    if wide.contains(&limit) {
        limits.set(limit, hourly(1));
        limits.set(Limit::LinkAddressNewcomers, hourly(1));
    }
    limits
}

#[track_caller]
fn assert_limited(answer: &Answer, words: &str) {
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{answer:#?}");
    assert!(answer.says(words), "{words}: {answer:#?}");
    assert!(answer.headers.iter().any(|header| header.starts_with("retry-after: ")), "{answer:#?}");
}

/// Asks until this limit answers, in every place where it can.
async fn run_into(limit: Limit, words: &str, walk: &mut Walk<'_>) {
    let browser = &mut Browser::at(HOME);
    assert_eq!(walk.ask(browser).await.status, StatusCode::SEE_OTHER);
    match limit {
        Limit::LinkBrowser => {
            assert_limited(walk.ask(browser).await, words);
            assert_limited(walk.ask_again(browser).await, words);
        }
        Limit::CodeNetwork => {
            walk.enter_wrong_code(browser).await;
            assert_limited(walk.enter_wrong_code(browser).await, words);
            let other = &mut Browser::at(HOME);
            walk.ask(other).await;
            assert_limited(walk.enter_wrong_code(other).await, words);
        }
        Limit::CodeAddress => {
            // Thirty wrong codes, five a mail.
            for n in 1..=6 {
                let stranger = &mut Browser::at(Ipv4Addr::new(203, 0, 113, n));
                walk.ask(stranger).await;
                for _ in 0..5 {
                    walk.enter_wrong_code(stranger).await;
                }
            }
            assert_limited(walk.enter_wrong_code(browser).await, words);
        }
        _ => {
            walk.world.pass(31);
            if limit == Limit::LinkAddress {
                let newcomer = &mut Browser::at(Ipv4Addr::new(203, 0, 113, 1));
                assert_eq!(walk.ask(newcomer).await.status, StatusCode::SEE_OTHER);
            }
            assert_limited(walk.ask_again(browser).await, words);
            assert_limited(walk.ask(browser).await, words);
            let at = if matches!(limit, Limit::LinkAddressNetwork | Limit::LinkNetwork) { HOME } else { ELSEWHERE };
            let other = &mut Browser::at(at);
            assert_limited(walk.ask(other).await, words);
            walk.get(other, routes::LOGIN_SENT).await;
        }
    }
    walk.get(browser, routes::LOGIN_SENT).await;
    walk.mail_goes_out().await;
    walk.enter_wrong_code(browser).await;
    walk.get(browser, routes::LOGIN_SENT).await;
}

#[tokio::test]
async fn nor_does_any_limit_tell() {
    let world = World::new().await;
    for (limit, words) in [
        (Limit::LinkBrowser, "You can send another email in 30 seconds"),
        (Limit::LinkAddressNetwork, "<h1>Too many emails</h1>"),
        (Limit::LinkAddress, "<h1>Too many emails</h1>"),
        (Limit::LinkNetwork, "<h1>Too many requests from your network</h1>"),
        (Limit::LinkAll, "<h1>Too many people are signing in</h1>"),
        (Limit::CodeNetwork, "<h1>Too many tries</h1>"),
        (Limit::CodeAddress, "<h1>Too many tries</h1>"),
    ] {
        let app = world.app(only(limit)).await;
        let mut walks = Vec::new();
        for state in State::ALL {
            let mut walk = Walk::new(&world, &app, state).await;
            run_into(limit, words, &mut walk).await;
            walks.push((state, walk.answers));
        }
        assert_same(limit.name(), &walks);
        // A page counts the mails of the last hour.
        world.pass(2 * 60 * 60);
    }
}
