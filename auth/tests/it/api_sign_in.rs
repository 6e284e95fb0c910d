//! Another application offers this sign-in as its own: on a real database, with the clock moved, and raced over two servers.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
};

use auth::{
    Auth,
    crypto::{BrowserNonce, Challenge, Code, Keys, LinkToken, RequestSecret, SessionKey, SessionToken},
    delivery::{ClientApplication, Content},
    factors::{
        backup_code::BackupCode,
        totp::{Secret, step},
    },
    identity::{Actor, Level, Method, Scope, SecondFactor},
    one_time::{Dead, magic_link::LinkState},
    outbox::Notice,
    policy::{Policy, RequireTwoFactor, SignUp, limits::Limit},
    primitives::{
        email_address::EmailAddress,
        requester::{Application, Client, Requester},
    },
    sessions::ApiSession,
    sign_in::{
        first_factor::{BrowserProof, ConfirmLinkError, EnterCodeError, Outcome},
        for_applications::{IdempotencyKey, LinkRequest, RequestError, Requested, SessionError, Verified},
        second_factor::{Factor, PendingSignIn, SecondFactorError},
        step_up::StepUpSession,
    },
};
use futures::future::join_all;
use testkit::{Kit, TEST_KEY, Visitor, address, handover, why};
use time::Duration;
use tracing::{Dispatch, Event, Subscriber, field::Field, instrument::WithSubscriber as _};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt as _};
use uuid::Uuid;

const RETURN: &str = "https://notes.example/sign-in?from=mail";

fn policy() -> Policy {
    Policy { passwordless_auth: true, sign_up: SignUp::Open, redirect_urls: vec![RETURN.to_owned()], ..Policy::default() }
}

fn mara() -> EmailAddress {
    address("mara@example.org")
}

fn notes() -> Application {
    Application { key: Uuid::from_u128(1), name: "Notes".to_owned() }
}

fn wiki() -> Application {
    Application { key: Uuid::from_u128(2), name: "Wiki".to_owned() }
}

/// The application's own server.
fn server() -> Requester {
    Requester::new([10, 0, 0, 5].into(), "python-urllib/3.11", "api")
}

fn client(last: u8) -> Client {
    let user_agent = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0";
    Client { ip: [203, 0, 113, last].into(), user_agent: user_agent.to_owned() }
}

fn plain(email: &EmailAddress) -> LinkRequest<'_> {
    LinkRequest { email, redirect_url: None, client: None, idempotency_key: None }
}

/// Waits until no limit on mails is in the way, and asks.
async fn ask(kit: &Kit, application: &Application) -> (Requested, LinkToken, Code) {
    kit.clock.advance(Duration::minutes(6));
    let (email, client) = (mara(), client(24));
    let request = LinkRequest { client: Some(&client), ..plain(&email) };
    let requested = kit.auth.sign_in().request_link_for(application, &request, &server()).await.expect("the request is taken");
    let (token, code) = kit.sign_in_mail().await;
    (requested, token, code)
}

fn complete(verified: Verified) -> (SessionToken, ApiSession) {
    match verified {
        Verified::Complete { token, session } => (token, session),
        Verified::SecondFactorNeeded { .. } => panic!("{verified:?}"),
    }
}

async fn signed_in(kit: &Kit, application: &Application) -> SessionToken {
    let (requested, _, code) = ask(kit, application).await;
    complete(kit.auth.sign_in().verify_code(application, &requested.secret, &code, &server()).await.expect("the code is right")).0
}

/// By both ways to find it: alone, and with a key of its application.
async fn is_live(kit: &Kit, application: &Application, token: &SessionToken) -> bool {
    let key = kit.auth.api_keys().create(Actor::Operator, &application.name, &[Scope::Sessions], None).await.expect("a key").key;
    let (_, with_key) = kit.auth.sign_in().api_key_and_session(&key, token).await.expect("answers").expect("the key works");
    let alone = kit.auth.sign_in().api_session(application, token).await;
    assert_eq!(with_key.is_some(), !matches!(alone, Err(SessionError::Over)), "both look at the same");
    match alone {
        Ok(_) => true,
        Err(SessionError::Over) => false,
        Err(other) => panic!("{other:?}"),
    }
}

fn wrong(code: &Code) -> Code {
    let digits = code.reveal().replace(' ', "");
    let first = if digits.starts_with('9') { '0' } else { '9' };
    Code::parse(&format!("{first}{}", &digits[1..])).expect("six digits")
}

/// The owner sets two-factor up in a browser.
async fn enrol(kit: &Kit) -> (Uuid, Secret, Vec<BackupCode>) {
    let mut visitor = Visitor::at([203, 0, 113, 99]);
    visitor.give_first_factor(kit, &mara()).await;
    let authority = visitor.authority(&kit.auth).await.expect("signed in");
    kit.auth.self_service().start_two_factor_setup(&authority, &visitor.from).await.expect("may be set up");
    let secret = kit.auth.self_service().two_factor_setup(&authority).await.expect("answers").expect("under way");
    let fresh = handover().fresh;
    let stepping = StepUpSession { authority: &authority, old: visitor.session.expect("a session"), fresh };
    let first = secret.code(step(kit.auth.now()));
    let codes = kit
        .auth
        .self_service()
        .confirm_two_factor_setup(stepping, &first, "Phone", &visitor.from)
        .await
        .expect("right")
        .expect("codes");
    visitor.session = Some(fresh);
    let authority = visitor.authority(&kit.auth).await.expect("signed in");
    kit.auth.self_service().save_backup_codes(&authority, codes.set, &visitor.from).await.expect("saved");
    kit.letters().await;
    kit.clock.advance(Duration::seconds(30));
    (authority.user, secret, codes.codes)
}

async fn challenged(kit: &Kit, application: &Application) -> Challenge {
    let (requested, _, code) = ask(kit, application).await;
    let verified =
        kit.auth.sign_in().verify_code(application, &requested.secret, &code, &server()).await.expect("the code is right");
    match verified {
        Verified::SecondFactorNeeded { challenge, methods } => {
            assert_eq!(methods, [SecondFactor::Totp, SecondFactor::BackupCode]);
            challenge
        }
        Verified::Complete { .. } => panic!("{verified:?}"),
    }
}

fn now_code(kit: &Kit, secret: &Secret) -> Code {
    secret.code(step(kit.auth.now()))
}

#[tokio::test]
async fn a_code_signs_in_to_the_application_that_asked() {
    let kit = Kit::with(policy()).await;
    let (requested, _, code) = ask(&kit, &notes()).await;
    assert_eq!(requested.expires_at, kit.auth.now() + Duration::minutes(10));

    let verified = kit.auth.sign_in().verify_code(&notes(), &requested.secret, &code, &server()).await.expect("the code is right");
    let (token, session) = complete(verified);
    assert_eq!((session.email.as_str(), session.level, session.method), ("mara@example.org", Level::Email, Method::Code));
    assert_eq!(session.expires_at, kit.auth.now() + Duration::days(30));
    assert_eq!(kit.auth.sign_in().api_session(&notes(), &token).await.expect("live"), session);

    let again = kit.auth.sign_in().verify_code(&notes(), &requested.secret, &code, &server()).await;
    assert!(matches!(again, Err(EnterCodeError::Dead(LinkState::Dead(Dead::Used, _)))), "{again:?}");
    assert!(kit.auth.sign_in().end_api_session(&notes(), &token, &server()).await.expect("ended"));
    assert!(!is_live(&kit, &notes(), &token).await);
    assert!(!kit.auth.sign_in().end_api_session(&notes(), &token, &server()).await.expect("twice does no harm"));
    let of_the_key = "select count(*) from auth_audit where details->>'api_key' = '00000000-0000-0000-0000-000000000001'";
    let all = "select count(*) from auth_audit where event_type not like 'mail.%' and event_type not like 'api_key.%'";
    assert_eq!(kit.count(of_the_key).await, kit.count(all).await);
    assert_eq!(kit.count("select count(*) from known_browsers").await, 0, "an application is no browser");
}

#[tokio::test]
async fn a_link_leads_to_the_applications_own_page_and_signs_in_there() {
    let kit = Kit::with(policy()).await;
    let (email, client) = (mara(), client(24));
    let request = LinkRequest { redirect_url: Some(RETURN), client: Some(&client), ..plain(&email) };
    let requested = kit.auth.sign_in().request_link_for(&notes(), &request, &server()).await.expect("taken");
    let letter = kit.letters().await.pop().expect("a mail");
    let Content::SignIn { token, asked, application, .. } = letter.content else { panic!("{letter:?}") };
    let told = ClientApplication { name: "Notes".to_owned(), redirect_url: Some(RETURN.to_owned()), client_named: true };
    assert_eq!(application, Some(told));
    assert_eq!((asked.device.as_str(), asked.ip.as_str()), ("Firefox on Windows", "203.0.113.24"));

    let verified = kit.auth.sign_in().verify_link(&notes(), &requested.secret, &token, &server()).await.expect("a live link");
    assert_eq!(complete(verified).1.method, Method::Link);
    let again = kit.auth.sign_in().verify_link(&notes(), &requested.secret, &token, &server()).await;
    assert!(matches!(again, Err(ConfirmLinkError::NotLive(LinkState::Dead(Dead::Used, _)))), "{again:?}");
    assert_eq!(
        kit.count("select count(*) from auth_audit where event_type = 'session.created' and host(ip) = '203.0.113.24'").await,
        1
    );
}

#[tokio::test]
async fn without_a_page_the_mail_has_a_code_only_and_without_a_client_it_names_none() {
    let kit = Kit::with(policy()).await;
    kit.auth.sign_in().request_link_for(&notes(), &plain(&mara()), &server()).await.expect("taken");
    let letter = kit.letters().await.pop().expect("a mail");
    let Content::SignIn { application, .. } = letter.content else { panic!("{letter:?}") };
    assert_eq!(application, Some(ClientApplication { name: "Notes".to_owned(), redirect_url: None, client_named: false }));
}

#[tokio::test]
async fn only_pages_on_the_list_are_led_to_letter_by_letter() {
    let kit = Kit::with(policy()).await;
    let email = mara();
    for url in [
        "",
        "https://notes.example/sign-in",
        "https://notes.example/sign-in?from=mail#",
        "https://notes.example/sign-in?from=mail&x",
        "https://NOTES.example/sign-in?from=mail",
        "https://notes.example:443/sign-in?from=mail",
        "https://notes.example@evil.example/sign-in?from=mail",
        "//notes.example/sign-in?from=mail",
        " https://notes.example/sign-in?from=mail",
        "https://notes.example/sign-in?from=mail\r\n",
        "javascript:alert(1)",
    ] {
        let refused = kit
            .auth
            .sign_in()
            .request_link_for(&notes(), &LinkRequest { redirect_url: Some(url), ..plain(&email) }, &server())
            .await;
        assert!(matches!(refused, Err(RequestError::RedirectNotAllowed)), "{url}: {refused:?}");
    }
    assert_eq!(kit.count("select count(*) from magic_links").await, 0);
}

#[tokio::test]
async fn a_request_works_for_the_key_that_made_it_and_in_no_browser() {
    let kit = Kit::with(policy()).await;
    let (requested, token, code) = ask(&kit, &notes()).await;
    let secret = &requested.secret;
    // Another key, also one of the same application; and no key's secret at all.
    let sibling = Application { key: Uuid::from_u128(3), ..notes() };
    for (application, secret) in [(&wiki(), secret), (&sibling, secret), (&notes(), &RequestSecret::new())] {
        let link = kit.auth.sign_in().verify_link(application, secret, &token, &server()).await;
        assert!(matches!(link, Err(ConfirmLinkError::NotLive(LinkState::OtherBrowser(_)))), "{link:?}");
        let typed = kit.auth.sign_in().verify_code(application, secret, &code, &server()).await;
        assert!(matches!(typed, Err(EnterCodeError::NothingAsked)), "{typed:?}");
    }
    // A browser that somehow came to hold the secret.
    let nonce = BrowserNonce::parse(&secret.reveal()).expect("a nonce has the same form");
    let browser = BrowserProof { nonce: Some(&nonce), known: None, trusted: None };
    let visitor = Visitor::at([203, 0, 113, 24]);
    let link = kit.auth.sign_in().confirm_link(&token, browser, &handover(), &visitor.from).await;
    assert!(matches!(link, Err(ConfirmLinkError::NotLive(LinkState::OtherBrowser(_)))), "{link:?}");
    let typed = kit.auth.sign_in().enter_code(&code, browser, &handover(), &visitor.from).await;
    assert!(matches!(typed, Err(EnterCodeError::NothingAsked)), "{typed:?}");

    complete(
        kit.auth.sign_in().verify_link(&notes(), secret, &token, &server()).await.expect("it still works where it was asked for"),
    );
}

#[tokio::test]
async fn what_a_browser_asked_for_signs_in_to_no_application() {
    let kit = Kit::with(policy()).await;
    let visitor = Visitor::at([203, 0, 113, 24]);
    kit.auth.sign_in().request_link(&mara(), &visitor.nonce, visitor.proof(), &visitor.from).await.expect("taken");
    let (token, code) = kit.sign_in_mail().await;
    let secret = RequestSecret::parse(&visitor.nonce.reveal()).expect("a secret has the same form");
    let link = kit.auth.sign_in().verify_link(&notes(), &secret, &token, &server()).await;
    assert!(matches!(link, Err(ConfirmLinkError::NotLive(LinkState::OtherBrowser(_)))), "{link:?}");
    let typed = kit.auth.sign_in().verify_code(&notes(), &secret, &code, &server()).await;
    assert!(matches!(typed, Err(EnterCodeError::NothingAsked)), "{typed:?}");
    // Even with its binding forged in the table: the row says who asked.
    let forged = "update magic_links set browser_hash = sha256($1 || $2)";
    sqlx::query(forged)
        .bind(notes().key.as_bytes().as_slice())
        .bind(decoded(&secret.reveal()))
        .execute(&kit.pool)
        .await
        .expect("forged");
    let link = kit.auth.sign_in().verify_link(&notes(), &secret, &token, &server()).await;
    assert!(matches!(link, Err(ConfirmLinkError::NotLive(LinkState::OtherBrowser(_)))), "{link:?}");
    assert_eq!(kit.count("select count(*) from sessions").await, 0);
}

/// Its owner uses a link first: this one, where the application has a page for it, or one of ours.
#[tokio::test]
async fn an_applications_codes_are_off_with_its_peoples() {
    let kit = Kit::with(policy()).await;
    sqlx::query("insert into wrong_codes values ('mara@example.org', 100, $1)")
        .bind(kit.auth.now())
        .execute(&kit.pool)
        .await
        .expect("put");
    let asked = kit.auth.sign_in().request_link_for(&notes(), &plain(&mara()), &server()).await.expect("taken");
    let letter = kit.letters().await.pop().expect("a mail");
    let Content::SignIn { token, code, codes_off, .. } = letter.content else { panic!("{letter:?}") };
    assert!(codes_off);
    let refused = kit.auth.sign_in().verify_code(&notes(), &asked.secret, &code, &server()).await;
    assert!(matches!(refused, Err(EnterCodeError::CodesOff)), "{refused:?}");
    kit.auth.sign_in().verify_link(&notes(), &asked.secret, &token, &server()).await.expect("the link works");
    assert_eq!(kit.count("select count(*) from wrong_codes").await, 0);
}

fn decoded(token: &str) -> Vec<u8> {
    data_encoding::BASE64URL_NOPAD.decode(token.as_bytes()).expect("base64url")
}

#[tokio::test]
async fn a_token_is_no_cookie_and_a_cookie_is_no_token() {
    let kit = Kit::with(policy()).await;
    let token = signed_in(&kit, &notes()).await;
    // As if the hashes met: only the audience stands between.
    let cookie = [7; 16];
    sqlx::query("update sessions set token_hash = sha256($1)").bind(&cookie[..]).execute(&kit.pool).await.expect("planted");
    let key = SessionKey::of(cookie);
    assert!(kit.auth.sessions().load(key).await.expect("answers").is_none());
    kit.auth.sessions().save(key, &serde_json::json!({ "visit": {} })).await.expect("no error");
    assert_eq!(kit.count("select count(*) from sessions where data = '{}'").await, 1, "nothing was written");
    sqlx::query("update sessions set token_hash = $1").bind(&token.hash()[..]).execute(&kit.pool).await.expect("as it was");
    assert!(is_live(&kit, &notes(), &token).await, "and that was all that was in the way");

    let mut visitor = Visitor::at([203, 0, 113, 24]);
    visitor.give_first_factor(&kit, &mara()).await;
    let planted = SessionToken::new();
    let plant = "update sessions set token_hash = $1 where audience = 'browser'";
    sqlx::query(plant).bind(&planted.hash()[..]).execute(&kit.pool).await.expect("planted");
    assert!(!is_live(&kit, &notes(), &planted).await);
    assert!(!kit.auth.sign_in().end_api_session(&notes(), &planted, &server()).await.expect("answers"));
}

#[tokio::test]
async fn an_application_sees_its_own_sessions_by_each_of_its_keys_and_no_others() {
    let kit = Kit::with(policy()).await;
    let token = signed_in(&kit, &notes()).await;
    assert!(!is_live(&kit, &wiki(), &token).await);
    assert!(!kit.auth.sign_in().end_api_session(&wiki(), &token, &server()).await.expect("answers"), "nor can it end them");
    let renewed = Application { key: Uuid::from_u128(3), ..notes() };
    assert!(is_live(&kit, &renewed, &token).await, "a key that is replaced signs nobody out");
    assert!(!is_live(&kit, &notes(), &SessionToken::new()).await);
}

#[tokio::test]
async fn a_session_dies_as_a_browsers_does() {
    let kit = Kit::with(policy()).await;
    let unused = signed_in(&kit, &notes()).await;
    kit.clock.advance(Duration::days(1) - Duration::seconds(1));
    assert!(is_live(&kit, &notes(), &unused).await, "this look is a use");
    kit.clock.advance(Duration::days(1));
    assert!(!is_live(&kit, &notes(), &unused).await);

    let used = signed_in(&kit, &notes()).await;
    for hour in 1..30 * 24 {
        kit.clock.advance(Duration::hours(1));
        assert!(is_live(&kit, &notes(), &used).await, "hour {hour}");
    }
    kit.clock.advance(Duration::hours(1));
    assert!(!is_live(&kit, &notes(), &used).await, "however much it is used");

    for end in ["update users set disabled_at = $1", "update users set disabled_at = null, deletes_at = $1"] {
        sqlx::query("update users set disabled_at = null, deletes_at = null").execute(&kit.pool).await.expect("as it was");
        let token = signed_in(&kit, &notes()).await;
        assert!(is_live(&kit, &notes(), &token).await);
        sqlx::query(end).bind(kit.auth.now()).execute(&kit.pool).await.expect("off");
        assert!(!is_live(&kit, &notes(), &token).await, "{end}");
    }
}

#[tokio::test]
async fn last_seen_moves_at_most_once_a_minute() {
    let kit = Kit::with(policy()).await;
    let token = signed_in(&kit, &notes()).await;
    let seen = "select extract(epoch from last_seen_at)::bigint from sessions";
    let start = kit.count(seen).await;
    for (seconds, moved) in [(59, 0), (1, 60), (59, 60), (1, 120)] {
        kit.clock.advance(Duration::seconds(seconds));
        assert!(is_live(&kit, &notes(), &token).await);
        assert_eq!(kit.count(seen).await, start + moved);
    }
}

#[tokio::test]
async fn its_owner_and_administrators_see_it_by_the_applications_name_and_end_it() {
    let kit = Kit::with(policy()).await;
    let mut visitor = Visitor::at([203, 0, 113, 99]);
    let token = signed_in(&kit, &notes()).await;
    visitor.give_first_factor(&kit, &mara()).await;
    let authority = visitor.authority(&kit.auth).await.expect("signed in");
    let sessions = kit.auth.sessions().list(&authority).await.expect("answers");
    let seen: Vec<&str> = sessions.iter().map(|session| session.device.as_str()).collect();
    assert_eq!(seen, ["Firefox on Linux", "Notes, Firefox on Windows"]);
    let shown = kit.auth.administration().user(Actor::Operator, authority.user).await.expect("answers").expect("an account");
    assert_eq!((shown.sessions.len(), shown.row.sessions), (2, 2));
    assert!(kit.auth.sessions().end(&authority, sessions[1].id, &visitor.from).await.expect("ended"));
    assert!(!is_live(&kit, &notes(), &token).await);

    let token = signed_in(&kit, &notes()).await;
    kit.auth.self_service().end_other_sessions(&authority, &visitor.from).await.expect("ended");
    assert!(!is_live(&kit, &notes(), &token).await);
    let token = signed_in(&kit, &notes()).await;
    kit.auth.administration().end_user_sessions(Actor::Operator, authority.user, &why("lost")).await.expect("ended");
    assert!(!is_live(&kit, &notes(), &token).await);
    let (before, since) = (signed_in(&kit, &notes()).await, kit.auth.now() + Duration::seconds(1));
    let after = signed_in(&kit, &notes()).await;
    kit.auth.administration().end_everybodys_sessions(Some(since), &why("breach")).await.expect("ended");
    assert!(is_live(&kit, &notes(), &before).await && !is_live(&kit, &notes(), &after).await);
    kit.auth.administration().end_everybodys_sessions(None, &why("breach")).await.expect("ended");
    assert!(!is_live(&kit, &notes(), &before).await);
}

#[tokio::test]
async fn a_session_of_a_client_that_was_not_named_is_the_applications() {
    let kit = Kit::with(policy()).await;
    let requested = kit.auth.sign_in().request_link_for(&notes(), &plain(&mara()), &server()).await.expect("taken");
    let (_, code) = kit.sign_in_mail().await;
    kit.auth.sign_in().verify_code(&notes(), &requested.secret, &code, &server()).await.expect("right");
    let mut visitor = Visitor::at([203, 0, 113, 99]);
    visitor.give_first_factor(&kit, &mara()).await;
    let authority = visitor.authority(&kit.auth).await.expect("signed in");
    let sessions = kit.auth.sessions().list(&authority).await.expect("answers");
    assert_eq!((sessions[1].device.as_str(), sessions[1].ip), ("Notes", None), "its servers are nobody's device");
}

#[tokio::test]
async fn sixty_four_parallel_verifications_give_one_session() {
    for kind in ["link", "code", "link against code"] {
        let kit = Kit::with(policy()).await;
        let second = kit.second().await;
        let (requested, token, code) = ask(&kit, &notes()).await;
        let tries = (0..64).map(|n| {
            let auth = if n % 2 == 0 { &kit.auth } else { &second };
            let by_link = match kind {
                "link" => true,
                "code" => false,
                _ => n % 4 < 2,
            };
            let (token, code, secret) = (&token, &code, &requested.secret);
            async move {
                if by_link {
                    auth.sign_in().verify_link(&notes(), secret, token, &server()).await.is_ok()
                } else {
                    auth.sign_in().verify_code(&notes(), secret, code, &server()).await.is_ok()
                }
            }
        });
        let won = join_all(tries).await.into_iter().filter(|won| *won).count();
        assert_eq!(won, 1, "{kind}");
        assert_eq!(kit.count("select count(*) from sessions").await, 1, "{kind}");
        assert_eq!(kit.count("select count(*) from auth_audit where event_type = 'link.redeemed'").await, 1, "{kind}");
    }
}

#[tokio::test]
async fn five_wrong_codes_end_the_code_however_many_come_at_once() {
    let kit = Kit::with(policy()).await;
    let (requested, _, code) = ask(&kit, &notes()).await;
    let guess = wrong(&code);
    let guesses =
        (0..64).map(|_| async { kit.auth.sign_in().verify_code(&notes(), &requested.secret, &guess, &server()).await.is_err() });
    assert!(join_all(guesses).await.into_iter().all(|refused| refused));
    assert_eq!(kit.count("select count(*) from auth_audit where details->>'reason' = 'wrong_code'").await, 5, "five comparisons");
    let late = kit.auth.sign_in().verify_code(&notes(), &requested.secret, &code, &server()).await;
    assert!(matches!(late, Err(EnterCodeError::LastTry)), "{late:?}");
}

#[tokio::test]
async fn limits_count_the_client_that_is_named_and_else_the_key() {
    let kit = Kit::with(policy()).await;
    let take = async |application: &Application, email: String, client: Option<Client>| {
        let email = address(&email);
        kit.auth.sign_in().request_link_for(application, &LinkRequest { client: client.as_ref(), ..plain(&email) }, &server()).await
    };
    let refused_by = |result: Result<Requested, RequestError>| match result {
        Err(RequestError::Limited(limited)) => limited.limit,
        other => panic!("{other:?}"),
    };
    for n in 0..30 {
        take(&notes(), format!("n{n}@example.org"), Some(client(1))).await.expect("within the network's limit");
    }
    assert_eq!(refused_by(take(&notes(), "one@example.org".to_owned(), Some(client(1))).await), Limit::LinkNetwork);
    assert_eq!(
        refused_by(take(&wiki(), "one@example.org".to_owned(), Some(client(1))).await),
        Limit::LinkNetwork,
        "whoever asks for it"
    );
    take(&notes(), "one@example.org".to_owned(), Some(client(2))).await.expect("another client");

    for n in 0..30 {
        take(&notes(), format!("k{n}@example.org"), None).await.expect("within the key's limit");
    }
    assert_eq!(refused_by(take(&notes(), "two@example.org".to_owned(), None).await), Limit::LinkNetwork);
    take(&wiki(), "two@example.org".to_owned(), None).await.expect("another key");

    for _ in 0..4 {
        take(&wiki(), "three@example.org".to_owned(), Some(client(3))).await.expect("within the limits");
    }
    assert_eq!(refused_by(take(&wiki(), "three@example.org".to_owned(), Some(client(3))).await), Limit::LinkAddressNetwork);
    for n in 4..11 {
        take(&wiki(), "three@example.org".to_owned(), Some(client(n))).await.expect("within the limits, and the block's own");
    }
    assert_eq!(refused_by(take(&wiki(), "three@example.org".to_owned(), Some(client(99))).await), Limit::LinkAddress);
    let held = kit.auth.administration().limits_in_force(None).await.expect("answers");
    let printed = format!("{held:?}");
    assert!(printed.contains("API key 00000000-0000-0000-0000-000000000001"), "administrators see whose: {printed}");
}

#[tokio::test]
async fn a_request_sent_twice_under_one_key_has_one_answer_and_one_mail() {
    let kit = Kit::with(policy()).await;
    let second = kit.second().await;
    let (email, key) = (mara(), IdempotencyKey::parse("b3f1-0001").expect("a key"));
    let request = LinkRequest { idempotency_key: Some(&key), ..plain(&email) };
    let first = kit.auth.sign_in().request_link_for(&notes(), &request, &server()).await.expect("taken");
    for auth in [&kit.auth, &second] {
        for _ in 0..20 {
            assert_eq!(auth.sign_in().request_link_for(&notes(), &request, &server()).await.expect("no limit counts it"), first);
        }
    }
    assert_eq!(kit.letters().await.len(), 1);

    for other in [
        LinkRequest { email: &address("other@example.org"), ..request_of(&email, &key) },
        LinkRequest { redirect_url: Some(RETURN), ..request_of(&email, &key) },
        LinkRequest { client: Some(&client(1)), ..request_of(&email, &key) },
    ] {
        let reused = kit.auth.sign_in().request_link_for(&notes(), &other, &server()).await;
        assert!(matches!(reused, Err(RequestError::KeyReused)), "{reused:?}");
    }
    assert_ne!(
        kit.auth.sign_in().request_link_for(&wiki(), &request, &server()).await.expect("another application's key").id,
        first.id
    );
    assert_eq!(kit.letters().await.len(), 1);

    // After a change of the root key, too.
    let rotated = Auth::new(kit.pool.clone(), Arc::new(kit.clock.clone()), Keys::new(&[9; 32], &[TEST_KEY]), policy());
    rotated.flag().read().await.expect("the flags are read");
    assert_eq!(rotated.sign_in().request_link_for(&notes(), &request, &server()).await.expect("derived under the old one"), first);

    kit.clock.advance(Duration::hours(24) - Duration::microseconds(1));
    assert_eq!(
        kit.auth.sign_in().request_link_for(&notes(), &request, &server()).await.expect("remembered for a day").id,
        first.id
    );
    kit.clock.advance(Duration::microseconds(1));
    assert_ne!(kit.auth.sign_in().request_link_for(&notes(), &request, &server()).await.expect("forgotten").id, first.id);
    kit.clock.advance(Duration::hours(24));
    kit.auth.operations().housekeep().await.expect("done");
    assert_eq!(kit.count("select count(*) from idempotent_requests").await, 0);
}

fn request_of<'a>(email: &'a EmailAddress, key: &'a IdempotencyKey) -> LinkRequest<'a> {
    LinkRequest { idempotency_key: Some(key), ..plain(email) }
}

#[tokio::test]
async fn of_sixty_four_twins_one_asks() {
    let kit = Kit::with(policy()).await;
    let second = kit.second().await;
    let (email, key) = (mara(), IdempotencyKey::parse("twins").expect("a key"));
    let twins = (0..64).map(|n| {
        let (auth, request) = (if n % 2 == 0 { &kit.auth } else { &second }, request_of(&email, &key));
        async move { auth.sign_in().request_link_for(&notes(), &request, &server()).await.expect("each gets the answer") }
    });
    let answers = join_all(twins).await;
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(kit.count("select count(*) from magic_links").await, 1);
    assert_eq!(kit.letters().await.len(), 1);
}

#[tokio::test]
async fn who_is_refused_by_a_limit_has_not_used_the_key() {
    let kit = Kit::with(policy()).await;
    let (email, key) = (mara(), IdempotencyKey::parse("later").expect("a key"));
    for _ in 0..4 {
        kit.auth.sign_in().request_link_for(&notes(), &plain(&email), &server()).await.expect("within the limit");
    }
    let refused = kit.auth.sign_in().request_link_for(&notes(), &request_of(&email, &key), &server()).await;
    let Err(RequestError::Limited(limited)) = refused else { panic!("{refused:?}") };
    kit.clock.advance(limited.wait.try_into().expect("short"));
    kit.auth.sign_in().request_link_for(&notes(), &request_of(&email, &key), &server()).await.expect("waiting as told is enough");
}

#[test]
fn an_idempotency_key_is_visible_ascii_and_no_novel() {
    for text in ["a", "8e03978e-40d5-43dd-bc93-6894a57f9324", &"x".repeat(255)] {
        assert!(IdempotencyKey::parse(text).is_some(), "{text}");
    }
    for text in ["", " ", "a b", "a\n", "é", &"x".repeat(256)] {
        assert!(IdempotencyKey::parse(text).is_none(), "{text:?}");
    }
}

#[tokio::test]
async fn the_second_factor_is_asked_for_and_signs_in_with_both() {
    let kit = Kit::with(policy()).await;
    let (_, secret, codes) = enrol(&kit).await;
    let challenge = challenged(&kit, &notes()).await;
    let as_token = SessionToken::parse(&challenge.reveal()).expect("the same form");
    assert!(!is_live(&kit, &notes(), &as_token).await, "one factor of two opens nothing");

    let (code, wrong_code) = (now_code(&kit, &secret), wrong(&now_code(&kit, &secret)));
    for application in [wiki(), Application { key: Uuid::from_u128(3), ..notes() }] {
        let other = kit.auth.sign_in().verify_second_factor(&application, &challenge, Factor::App(&code), &server()).await;
        assert!(matches!(other, Err(SecondFactorError::SessionOver)), "{other:?}");
    }
    let refused = kit.auth.sign_in().verify_second_factor(&notes(), &challenge, Factor::App(&wrong_code), &server()).await;
    assert!(matches!(refused, Err(SecondFactorError::Wrong { left: 4 })), "{refused:?}");
    let (token, session) =
        kit.auth.sign_in().verify_second_factor(&notes(), &challenge, Factor::App(&code), &server()).await.expect("right");
    assert_eq!((session.level, session.second, session.two_factor), (Level::TwoFactor, Some(SecondFactor::Totp), true));
    assert_eq!(kit.auth.sign_in().api_session(&notes(), &token).await.expect("live"), session);
    assert_ne!(token.reveal(), challenge.reveal());

    let again = kit.auth.sign_in().verify_second_factor(&notes(), &challenge, Factor::BackupCode(&codes[0]), &server()).await;
    assert!(matches!(again, Err(SecondFactorError::SessionOver)), "{again:?}");
    let as_challenge = Challenge::parse(&token.reveal()).expect("the same form");
    let whole = kit.auth.sign_in().verify_second_factor(&notes(), &as_challenge, Factor::BackupCode(&codes[0]), &server()).await;
    assert!(matches!(whole, Err(SecondFactorError::SessionOver)), "a whole session is no challenge: {whole:?}");

    let challenge = challenged(&kit, &notes()).await;
    let by_backup = kit
        .auth
        .sign_in()
        .verify_second_factor(&notes(), &challenge, Factor::BackupCode(&codes[0]), &server())
        .await
        .expect("right");
    assert_eq!(by_backup.1.second, Some(SecondFactor::BackupCode));
    let challenge = challenged(&kit, &notes()).await;
    kit.clock.advance(Duration::minutes(10));
    let late = kit.auth.sign_in().verify_second_factor(&notes(), &challenge, Factor::BackupCode(&codes[1]), &server()).await;
    assert!(matches!(late, Err(SecondFactorError::SessionOver)), "{late:?}");
}

#[tokio::test]
async fn sixty_four_second_factors_at_once_give_one_session() {
    let kit = Kit::with(Policy { limits: auth::policy::limits::Limits::off(), ..policy() }).await;
    let second = kit.second().await;
    let (_, secret, codes) = enrol(&kit).await;
    for by_app in [true, false] {
        let challenge = challenged(&kit, &notes()).await;
        let code = now_code(&kit, &secret);
        let tries = (0..64).map(|n| {
            let auth = if n % 2 == 0 { &kit.auth } else { &second };
            let factor = if by_app { Factor::App(&code) } else { Factor::BackupCode(&codes[0]) };
            let challenge = &challenge;
            async move { auth.sign_in().verify_second_factor(&notes(), challenge, factor, &server()).await.is_ok() }
        });
        let won = join_all(tries).await.into_iter().filter(|won| *won).count();
        // The app's own count of wrong codes may stop the right ones of the losers, never bring a second winner.
        assert_eq!(won, 1, "by app: {by_app}");
    }
    assert_eq!(kit.count("select count(*) from sessions where level = 'two_factor' and audience = 'api'").await, 2);
}

#[tokio::test]
async fn a_challenge_is_finished_where_it_was_opened() {
    let kit = Kit::with(policy()).await;
    let (user, secret, _) = enrol(&kit).await;
    let challenge = challenged(&kit, &notes()).await;
    let cookie = [7; 16];
    let planted = "update sessions set token_hash = sha256($1) where level = 'first_factor'";
    sqlx::query(planted).bind(&cookie[..]).execute(&kit.pool).await.expect("planted");
    let (new, visitor) = (handover(), Visitor::at([203, 0, 113, 24]));
    let finishing = PendingSignIn { half: SessionKey::of(cookie), user, handover: &new };
    let code = now_code(&kit, &secret);
    let browser =
        kit.auth.sign_in().enter_second_factor(finishing, Factor::App(&code), false, visitor.proof(), &visitor.from).await;
    assert!(matches!(browser, Err(SecondFactorError::SessionOver)), "{browser:?}");
    let back = "update sessions set token_hash = $1 where level = 'first_factor'";
    sqlx::query(back).bind(&challenge.hash()[..]).execute(&kit.pool).await.expect("as it was");

    let mut visitor = Visitor::at([203, 0, 113, 98]);
    assert!(matches!(visitor.give_first_factor(&kit, &mara()).await, Outcome::SecondFactorNeeded));
    let other = Challenge::new();
    let planted = "update sessions set token_hash = $1 where level = 'first_factor' and audience = 'browser'";
    sqlx::query(planted).bind(&other.hash()[..]).execute(&kit.pool).await.expect("planted");
    let code = now_code(&kit, &secret);
    let api = kit.auth.sign_in().verify_second_factor(&notes(), &other, Factor::App(&code), &server()).await;
    assert!(matches!(api, Err(SecondFactorError::SessionOver)), "{api:?}");
    kit.auth
        .sign_in()
        .verify_second_factor(&notes(), &challenge, Factor::App(&code), &server())
        .await
        .expect("the code was never used up");
}

#[tokio::test]
async fn who_must_set_two_factor_up_first_gets_no_session_here_and_loses_nothing() {
    let kit = Kit::with(Policy { require_two_factor: RequireTwoFactor::Everyone, ..policy() }).await;
    let (requested, token, code) = ask(&kit, &notes()).await;
    let by_code = kit.auth.sign_in().verify_code(&notes(), &requested.secret, &code, &server()).await;
    assert!(matches!(by_code, Err(EnterCodeError::Dead(LinkState::EnrolmentRequired(_)))), "{by_code:?}");
    let by_link = kit.auth.sign_in().verify_link(&notes(), &requested.secret, &token, &server()).await;
    assert!(matches!(by_link, Err(ConfirmLinkError::NotLive(LinkState::EnrolmentRequired(_)))), "{by_link:?}");
    assert_eq!(kit.count("select count(*) from sessions").await, 0);
    assert_eq!(kit.count("select count(*) from users").await, 0);
    assert_eq!(kit.count("select count(*) from auth_audit where details->>'reason' = 'enrolment_required'").await, 2);
    assert_eq!(kit.count("select count(*) from magic_links where used = 1").await, 0);

    // In a browser they are let in to set it up, and after that here too.
    let (_, secret, _) = enrol(&kit).await;
    let challenge = challenged(&kit, &notes()).await;
    kit.auth
        .sign_in()
        .verify_second_factor(&notes(), &challenge, Factor::App(&now_code(&kit, &secret)), &server())
        .await
        .expect("right");
}

#[tokio::test]
async fn a_session_speaks_for_nobody_who_has_come_to_need_two_factor() {
    let kit = Kit::with(policy()).await;
    let token = signed_in(&kit, &notes()).await;
    let user = kit.auth.sign_in().api_session(&notes(), &token).await.expect("live").user;
    kit.auth.administration().set_admin(Actor::Operator, user, true, &why("on call")).await.expect("granted");
    let owes = kit.auth.sign_in().api_session(&notes(), &token).await;
    assert!(matches!(owes, Err(SessionError::EnrolmentRequired)), "{owes:?}");

    let other = kit.auth.users().create(&address("admin@example.org"), false, None).await.expect("made");
    kit.auth.administration().set_admin(Actor::Operator, other, true, &why("instead")).await.expect("granted");
    // It gave one factor while another way of signing in had two-factor turned on.
    kit.auth.administration().set_admin(Actor::Operator, user, false, &why("off call")).await.expect("revoked");
    assert!(is_live(&kit, &notes(), &token).await);
    sqlx::query("insert into totp_credentials (id, user_id, name, secret, key_id, created_at, confirmed_at) values ($1, $1, 'phone', '', '', $2, $2)")
        .bind(user)
        .bind(kit.auth.now())
        .execute(&kit.pool)
        .await
        .expect("an authenticator");
    assert!(!is_live(&kit, &notes(), &token).await);
}

#[tokio::test]
async fn off_means_off_and_live_sessions_go_on() {
    let kit = Kit::with(policy()).await;
    let token = signed_in(&kit, &notes()).await;
    let (requested, link, code) = ask(&kit, &notes()).await;
    enrol(&kit).await;
    let challenge = challenged(&kit, &wiki()).await;
    let off = Policy { passwordless_auth: false, ..policy() };
    let off = Auth::new(kit.pool.clone(), Arc::new(kit.clock.clone()), Keys::new(&TEST_KEY, &[]), off);
    let asked = off.sign_in().request_link_for(&notes(), &plain(&mara()), &server()).await;
    assert!(matches!(asked, Err(RequestError::Off)), "{asked:?}");
    let by_link = off.sign_in().verify_link(&notes(), &requested.secret, &link, &server()).await;
    assert!(matches!(by_link, Err(ConfirmLinkError::Off)), "{by_link:?}");
    let by_code = off.sign_in().verify_code(&notes(), &requested.secret, &code, &server()).await;
    assert!(matches!(by_code, Err(EnterCodeError::Off)), "{by_code:?}");
    let second = off.sign_in().verify_second_factor(&wiki(), &challenge, Factor::App(&code), &server()).await;
    assert!(matches!(second, Err(SecondFactorError::Off)), "{second:?}");
    // Turning two-factor on has ended the first one.
    assert!(!is_live(&kit, &notes(), &token).await);
    let other = address("other@example.org");
    let requested = kit.auth.sign_in().request_link_for(&notes(), &plain(&other), &server()).await.expect("taken");
    let (_, code) = kit.sign_in_mail().await;
    let verified = kit.auth.sign_in().verify_code(&notes(), &requested.secret, &code, &server()).await.expect("right");
    off.sign_in().api_session(&notes(), &complete(verified).0).await.expect("live sessions go on");
}

#[tokio::test]
async fn an_owner_is_told_of_an_application_that_was_not_used_before() {
    let kit = Kit::with(policy()).await;
    let told = async |kit: &Kit| {
        let letters = kit.letters().await;
        let by = letters.into_iter().filter_map(|letter| match letter.content {
            Content::Notice { notice: Notice::NewSignIn { .. }, by, .. } => Some(by.expect("by whom").device),
            _ => None,
        });
        by.collect::<Vec<_>>()
    };
    signed_in(&kit, &notes()).await;
    assert!(told(&kit).await.is_empty(), "the first sign-in of all");
    signed_in(&kit, &wiki()).await;
    assert_eq!(told(&kit).await, ["Wiki, Firefox on Windows"]);
    signed_in(&kit, &wiki()).await;
    signed_in(&kit, &notes()).await;
    assert!(told(&kit).await.is_empty(), "both are known by now");
}

/// What `sqlx` says it has asked the database, in the task that asked.
#[derive(Clone, Default)]
struct Statements(Arc<Mutex<Vec<String>>>);

impl<S: Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "sqlx::query" {
            let mut parts = Vec::new();
            event.record(&mut |field: &Field, value: &dyn Debug| {
                if matches!(field.name(), "summary" | "db.statement") {
                    parts.push(format!("{value:?}"));
                }
            });
            self.0.lock().expect("nothing panics while it holds the lock").push(parts.join(" "));
        }
    }
}

#[tokio::test]
async fn asking_costs_the_same_statements_whatever_is_behind_the_address() {
    let kit = Kit::with(Policy { sign_up: SignUp::Invite, ..policy() }).await;
    for (n, state) in ["known", "disabled", "invited"].into_iter().enumerate() {
        let email = address(&format!("{state}@example.org"));
        if state == "invited" {
            kit.auth.administration().invite(Actor::Operator, &email, None).await.expect("invited");
            continue;
        }
        let user = kit.auth.users().create(&email, false, None).await.expect("made");
        if n == 1 {
            kit.auth.administration().disable_user(Actor::Operator, user, &why("gone")).await.expect("disabled");
        }
    }
    let statements = Statements::default();
    let dispatch: Dispatch = tracing_subscriber::registry().with(statements.clone()).into();
    // With two subscribers `tracing` asks each whether it listens, whatever thread comes first.
    let _another = Dispatch::new(tracing_subscriber::registry());
    let mut asked = Vec::new();
    for state in ["unknown", "known", "disabled", "invited"] {
        let (email, key) = (address(&format!("{state}@example.org")), IdempotencyKey::parse(state).expect("a key"));
        let request = LinkRequest { redirect_url: Some(RETURN), ..request_of(&email, &key) };
        let work = async {
            let requested = kit.auth.sign_in().request_link_for(&notes(), &request, &server()).await.expect("taken");
            let code = Code::parse("246810").expect("six digits");
            let guess = kit.auth.sign_in().verify_code(&notes(), &requested.secret, &code, &server()).await;
            assert!(matches!(guess, Err(EnterCodeError::Wrong { left: 4 })), "{guess:?}");
        };
        work.with_subscriber(dispatch.clone()).await;
        asked.push((state, std::mem::take(&mut *statements.0.lock().expect("nothing panics while it holds the lock"))));
    }
    assert!(asked[0].1.iter().any(|statement| statement.contains("insert into magic_links")), "{asked:?}");
    for (state, statements) in &asked[1..] {
        assert_eq!(statements, &asked[0].1, "{state}");
    }
}

#[tokio::test]
async fn no_row_holds_a_secret() {
    let kit = Kit::with(policy()).await;
    let (email, key) = (mara(), IdempotencyKey::parse("an-idempotency-key").expect("a key"));
    enrol(&kit).await;
    kit.clock.advance(Duration::minutes(6));
    let request = LinkRequest { redirect_url: Some(RETURN), ..request_of(&email, &key) };
    let requested = kit.auth.sign_in().request_link_for(&notes(), &request, &server()).await.expect("taken");
    let (link, code) = kit.sign_in_mail().await;
    let verified = kit.auth.sign_in().verify_link(&notes(), &requested.secret, &link, &server()).await.expect("live");
    let Verified::SecondFactorNeeded { challenge, .. } = verified else { panic!("{verified:?}") };
    let other = address("other@example.org");
    let second = kit.auth.sign_in().request_link_for(&notes(), &plain(&other), &server()).await.expect("taken");
    let (_, other_code) = kit.sign_in_mail().await;
    let (token, _) =
        complete(kit.auth.sign_in().verify_code(&notes(), &second.secret, &other_code, &server()).await.expect("right"));

    let mut dump = String::new();
    for table in ["magic_links", "sessions", "idempotent_requests", "auth_audit", "mail_outbox", "rate_limits", "network_requests"]
    {
        let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select t::text from {table} t")))
            .fetch_all(&kit.pool)
            .await
            .expect(table);
        assert!(!rows.is_empty() || table == "network_requests", "{table}");
        dump += &rows.join("\n");
    }
    let texts = [requested.secret.reveal(), second.secret.reveal(), link.reveal(), challenge.reveal(), token.reveal()];
    for text in &texts {
        let hex = data_encoding::HEXLOWER.encode(&decoded(text));
        assert!(!dump.contains(text) && !dump.contains(&hex), "a token stands in a row");
    }
    for text in [code.reveal(), code.reveal().replace(' ', ""), "an-idempotency-key".to_owned()] {
        let hex = data_encoding::HEXLOWER.encode(text.as_bytes());
        assert!(!dump.contains(&text) && !dump.contains(&hex), "{text} stands in a row");
    }
    assert!(dump.contains("mara@example.org") && dump.contains(RETURN), "the dump is one");
}
