//! The flag and the guarded rollout over HTTP: what is off is off on every page on the way into an account, and the lever on
//! `/admin/rollout` does what its buttons say, or says why not.

use app::routes;
use auth::{
    delivery::Content,
    factors::totp,
    flag::{Change, Flag, Of, PASSWORDLESS_AUTH, bucket},
    identity::Actor,
};
use axum::Router;
use http::{Method, StatusCode};
use serde_json::json;
use testkit::{Kit, address, why};

use super::{
    SIGNED_IN, about_to_sign_in_as,
    admin::{Admin, Answer},
    body_of, config, enrol, keep, location, request, send, service, sign_in_by_link,
};

/// Where people sign in meanwhile.
const USUAL: &str = "https://old.example/sign-in";
const USED: &str = "select count(*) from magic_links where used = 1";
const ACCOUNTS: &str = "select count(*) from users";

/// An address in that bucket.
fn in_bucket(wanted: u8) -> String {
    let mut names = (0..10_000).map(|n| format!("person{n}@example.org"));
    names.find(|email| bucket(PASSWORDLESS_AUTH, email) == wanted).expect("one of them")
}

/// A server with the flag on, so far, and a browser that was signed in then.
struct World {
    kit: Kit,
    app: Router,
    before: String,
}

impl World {
    async fn new() -> Self {
        let kit = Kit::new().await;
        let app = service(&config(&[("LIMITS", "off"), ("LEGACY_SIGN_IN_URL", USUAL)]), kit.auth.clone());
        let before = sign_in_by_link(&kit, &app, "before@example.org").await;
        Self { kit, app, before }
    }

    async fn set(&self, change: Change) {
        self.kit.auth.rollout().set_flag(Actor::Operator, PASSWORDLESS_AUTH, &change, &why("ticket 7")).await.expect("changed");
    }

    /// What the account's app shows now.
    fn shown_by(&self, secret: &totp::Secret) -> String {
        secret.code(totp::step(self.kit.auth.now())).reveal().replace(' ', "")
    }

    /// It is refused in words that lead on, nobody is signed in by it, and who was signed in still is.
    async fn refuses(&self, method: &Method, path: &str, cookies: &str, body: &str) {
        let count = async || (self.kit.count(SIGNED_IN).await, self.kit.count(USED).await, self.kit.count(ACCOUNTS).await);
        let before = count().await;
        let refused = send(&self.app, request(method, path, cookies, body)).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{method} {path}");
        assert!(!keep("", &refused).contains("__Host-latchkey="), "{method} {path}: it gets no session, and loses none");
        let page = body_of(refused).await;
        for words in ["<h1>Signing in this way isn't available yet</h1>", "use your usual way to sign in", USUAL] {
            assert!(page.contains(words), "{method} {path}: {words}: {page}");
        }
        assert_eq!(count().await, before, "{method} {path}");
        let account = send(&self.app, request(&Method::GET, routes::ACCOUNT, &self.before, "")).await;
        assert_eq!(account.status(), StatusCode::OK, "{method} {path}");
    }

    async fn lets_in(&self, path: &str, cookies: &str, body: &str) {
        let done = send(&self.app, request(&Method::POST, path, cookies, body)).await;
        assert_eq!((done.status(), location(&done)), (StatusCode::SEE_OTHER, routes::ACCOUNT), "{path}");
    }
}

#[tokio::test]
async fn what_is_off_is_refused_politely_on_every_page_and_who_is_signed_in_stays_so() {
    let world = World::new().await;
    let secret = enrol(&world.kit, "mara@example.org", false).await;
    let half = sign_in_by_link(&world.kit, &world.app, "mara@example.org").await;
    let (link, code) = about_to_sign_in_as(&world.kit, &world.app, "tom@example.org").await;
    let (code, shown) = (format!("code={}", code.replace(' ', "")), format!("code={}", world.shown_by(&secret)));

    world.set(Change::Off).await;
    for (path, cookies, body) in [
        (routes::LOGIN, "", "email=tom%40example.org"),
        (routes::LOGIN, link.as_str(), "email=tom%40example.org"),
        (routes::LOGIN_SENT_RESEND, &link, ""),
        (routes::LOGIN_CONFIRM_RESEND, &link, ""),
        (routes::LOGIN_CONFIRM, &link, ""),
        (routes::LOGIN_SENT, &link, &code),
        (routes::LOGIN_TWO_FACTOR, &half, &shown),
        (routes::LOGIN_BACKUP_CODE, &half, "code=k7qd-m2xw-t9hp"),
    ] {
        world.refuses(&Method::POST, path, cookies, body).await;
    }
    assert!(world.kit.letters().await.is_empty(), "and nobody gets a mail");

    // The mail is opened only now: there is no button that would then do nothing.
    let token = link.split("; ").find_map(|cookie| cookie.strip_prefix("__Host-latchkey-link=")).expect("a link");
    let opened = send(&world.app, request(&Method::GET, &format!("{}?token={token}", routes::LOGIN_VERIFY), &link, "")).await;
    assert_eq!((opened.status(), location(&opened)), (StatusCode::SEE_OTHER, routes::LOGIN_CONFIRM));
    world.refuses(&Method::GET, routes::LOGIN_CONFIRM, &keep(&link, &opened), "").await;
    let login = send(&world.app, request(&Method::GET, routes::LOGIN, "", "")).await;
    assert_eq!(login.status(), StatusCode::OK, "who only looks has done nothing wrong");
    let login = body_of(login).await;
    assert!(login.contains("isn't available yet") && login.contains(USUAL) && !login.contains("<form"), "{login}");

    // The positive twin: what was refused used nothing up.
    world.set(Change::On).await;
    world.lets_in(routes::LOGIN_CONFIRM, &link, "").await;
    world.lets_in(routes::LOGIN_TWO_FACTOR, &half, &shown).await;
}

#[tokio::test]
async fn who_is_not_in_yet_is_refused_alike_while_others_sign_in() {
    let world = World::new().await;
    let secret = enrol(&world.kit, "mara@example.org", false).await;
    let half = sign_in_by_link(&world.kit, &world.app, "mara@example.org").await;
    let newcomer = in_bucket(60);
    let (link, code) = about_to_sign_in_as(&world.kit, &world.app, &newcomer).await;
    let (code, shown) = (format!("code={}", code.replace(' ', "")), format!("code={}", world.shown_by(&secret)));

    world.set(Change::Percent(50, Of::Everyone)).await;
    assert!(bucket(PASSWORDLESS_AUTH, "mara@example.org") >= 50, "not among the fifty");
    for (path, cookies, body) in
        [(routes::LOGIN_CONFIRM, link.as_str(), ""), (routes::LOGIN_SENT, &link, &code), (routes::LOGIN_TWO_FACTOR, &half, &shown)]
    {
        world.refuses(&Method::POST, path, cookies, body).await;
    }
    // Asking is answered as it is to all: only the mail says who is in.
    let asked = format!("email={}", in_bucket(70).replace('@', "%40"));
    let asked = send(&world.app, request(&Method::POST, routes::LOGIN, "", &asked)).await;
    assert_eq!((asked.status(), location(&asked)), (StatusCode::SEE_OTHER, routes::LOGIN_SENT));
    let told = world.kit.letters().await.pop().expect("a mail").content;
    assert!(matches!(told, Content::NotYet { .. }), "{told:?}");
    assert!(bucket(PASSWORDLESS_AUTH, "tom@example.org") < 50, "among the fifty");
    sign_in_by_link(&world.kit, &world.app, "tom@example.org").await;

    // The positive twin: what was refused used nothing up.
    for email in [newcomer.as_str(), "mara@example.org"] {
        world.set(Change::Allow(address(email))).await;
    }
    world.lets_in(routes::LOGIN_CONFIRM, &link, "").await;
    world.lets_in(routes::LOGIN_TWO_FACTOR, &half, &shown).await;
}

/// All that the lever moves, and what was recorded of it.
async fn standing(admin: &Admin) -> Vec<String> {
    sqlx::query_scalar(
        "select r::text from rollouts r union all select f::text from feature_flags f
         union all select a.id::text from auth_audit a where event_type like 'rollout.%' or event_type = 'flag.changed' order by 1",
    )
    .fetch_all(&admin.kit.pool)
    .await
    .expect("rows")
}

/// Presses a button of the page, beside the choice that is posted with it, and then the one of the page that asks once more.
async fn press(admin: &Admin, act: &str, question: &str, reason: &str) -> Answer {
    let before = standing(admin).await;
    let asked = admin.post(routes::ADMIN_ROLLOUT, &format!("to=everyone-100&reason={reason}&act={act}")).await;
    assert_eq!(asked.status, StatusCode::OK, "{act}");
    for part in [&*format!("<h1>{question}</h1>"), &*format!(r#"name="act" value="{act}""#), r#"name="reviewed" value="1""#] {
        assert!(asked.page.contains(part), "{act}: {part}: {}", asked.page);
    }
    assert_eq!(standing(admin).await, before, "{act}: it only asks");
    admin.post(routes::ADMIN_ROLLOUT, &format!("act={act}&reason={reason}&reviewed=1")).await
}

async fn turn_off(admin: &Admin) {
    admin.kit.auth.rollout().set_flag(Actor::Operator, PASSWORDLESS_AUTH, &Change::Off, &why("ticket 7")).await.expect("changed");
}

#[tokio::test]
async fn an_administrator_starts_pauses_resumes_and_ends_the_rollout() {
    let admin = Admin::new().await;
    turn_off(&admin).await;
    for (act, question, event, state, says) in [
        ("start", "Start the rollout?", "rollout.started", "running", "Rollout started"),
        ("pause", "Pause the rollout?", "rollout.paused", "paused", "<strong>The rollout is paused</strong>"),
        ("resume", "Resume the rollout?", "rollout.resumed", "running", "Resumed"),
        ("abort", "End the rollout?", "rollout.aborted", "aborted", "Rollout ended"),
    ] {
        let done = press(&admin, act, question, &format!("ticket+{act}")).await;
        let leads = format!("{}?done=changed", routes::ADMIN_ROLLOUT);
        assert_eq!((done.status, &done.leads), (StatusCode::SEE_OTHER, &leads), "{act}");
        let found: Vec<String> = sqlx::query_scalar("select state from rollouts").fetch_all(&admin.kit.pool).await.expect("rows");
        assert_eq!(found, [state], "{act}");
        let (actor, details) = admin.recorded(event).await.expect("a row");
        let reason = format!("ticket {act}");
        assert_eq!((actor, &details["by"], &details["reason"]), (admin.root, &json!("admin"), &json!(reason)), "{act}");
        let shown = admin.get(&done.leads).await.page;
        for words in ["<strong>Changed</strong>", says, &reason, "root@example.org"] {
            assert!(shown.contains(words), "{act}: {words}: {shown}");
        }
        admin.kit.clock.advance(time::Duration::MINUTE);
    }
    let reached = Flag { percent_admins: 5, ..Flag::OFF };
    assert_eq!(admin.kit.auth.flag().get(PASSWORDLESS_AUTH), reached, "who is in stays in");
    assert_eq!(admin.kit.count("select count(*) from auth_audit where event_type like 'rollout.%'").await, 4);
}

#[tokio::test]
async fn what_cannot_be_done_to_the_rollout_is_not_done() {
    let admin = Admin::new().await;
    let unchanged = async |act: &str, reason: &str, reviewed: &str| {
        let before = standing(&admin).await;
        let body = format!("to=off&act={act}&reason={reason}&reviewed={reviewed}");
        let answer = admin.post(routes::ADMIN_ROLLOUT, &body).await;
        assert_eq!(standing(&admin).await, before, "{act}");
        answer
    };
    let acts = ["start", "pause", "resume", "abort"];
    // `wrong`: a 409 that says why. What is no act at all leads to the page.
    let refused = async |act: &str, wrong: Option<&str>| {
        let answer = unchanged(act, "ticket+8", "1").await;
        if let Some(why) = wrong {
            assert_eq!(answer.status, StatusCode::CONFLICT, "{act}");
            for words in ["<strong>Nothing was changed</strong>", why, r#"value="ticket 8""#] {
                assert!(answer.page.contains(words), "{act}: {words}: {}", answer.page);
            }
        } else {
            assert_eq!((answer.status, answer.leads.as_str()), (StatusCode::SEE_OTHER, routes::ADMIN_ROLLOUT), "{act}");
        }
    };
    let done = async |act: &str, question: &str| {
        let done = press(&admin, act, question, "ticket+7").await;
        assert_eq!(done.leads, format!("{}?done=changed", routes::ADMIN_ROLLOUT), "{act}");
    };
    let same = Some("It is so already, or somebody else was faster. This page shows how it is now.");
    let high = Some("It is as far as the plan goes already. Move down first, or write a plan of your own at the shell.");

    refused("start", high).await;
    for act in ["pause", "resume", "abort"] {
        refused(act, same).await;
    }
    refused("explode", None).await;
    turn_off(&admin).await;
    done("start", "Start the rollout?").await;
    for act in acts {
        for (reason, why) in [("+%0A", "Say why you're changing this"), (&"x".repeat(501), "Say it in 500 characters or fewer")] {
            for reviewed in ["", "1"] {
                let answer = unchanged(act, reason, reviewed).await;
                assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{act}");
                assert!(answer.page.contains(why), "{act}: {}", answer.page);
            }
        }
    }
    refused("start", same).await;
    refused("resume", same).await;
    done("pause", "Pause the rollout?").await;
    refused("start", same).await;
    refused("pause", same).await;
    done("abort", "End the rollout?").await;
    refused("start", high).await;
    for act in ["pause", "resume", "abort"] {
        refused(act, same).await;
    }

    turn_off(&admin).await;
    let owner = admin.kit.database.owner().await;
    sqlx::query("delete from _sqlx_migrations where version = 20").execute(&owner).await.expect("deleted");
    refused("start", Some("Migrations are pending. Run them first.")).await;

    admin.kit.clock.advance(time::Duration::HOUR);
    for act in acts {
        let answer = unchanged(act, "ticket+8", "1").await;
        assert_eq!(answer.leads, format!("{}?next={}", routes::REAUTH, routes::ADMIN_ROLLOUT), "{act}: signed in a while ago");
        assert_eq!(admin.get(routes::ADMIN_ROLLOUT).await.status, StatusCode::OK, "looking needs no factor");
    }
}
