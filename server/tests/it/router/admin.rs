//! What administrators do on their pages, over HTTP.

use app::routes;
use auth::factors::totp;
use axum::{Router, body::to_bytes};
use http::{Method, StatusCode, header};
use testkit::{Kit, address};
use uuid::Uuid;

use super::{config, enrol, keep, request, send, service, sign_in_by_link};

/// An answer: its status, where it leads, its page.
pub struct Answer {
    pub status: StatusCode,
    pub leads: String,
    pub page: String,
}

pub struct Admin {
    pub kit: Kit,
    pub app: Router,
    pub cookies: String,
    pub root: Uuid,
    pub mara: Uuid,
}

impl Admin {
    /// Signed in a moment ago, with both factors.
    pub async fn new() -> Self {
        let kit = Kit::new().await;
        let app = service(&config(&[("LIMITS", "off")]), kit.auth.clone());
        let secret = enrol(&kit, "root@example.org", true).await;
        let mara = kit.auth.users().create(&address("mara@example.org"), false, None).await.expect("made");
        let root = kit.auth.administration().user_id(&address("root@example.org")).await.expect("answers").expect("is there");
        let half = sign_in_by_link(&kit, &app, "root@example.org").await;
        let code = secret.code(totp::step(kit.auth.now())).reveal().replace(' ', "");
        let entered = send(&app, request(&Method::POST, routes::LOGIN_TWO_FACTOR, &half, &format!("code={code}"))).await;
        assert_eq!(entered.headers()[header::LOCATION], routes::ACCOUNT);
        Self { cookies: keep(&half, &entered), kit, app, root, mara }
    }

    async fn ask(&self, method: Method, path: &str, cookies: &str, body: &str) -> Answer {
        let response = send(&self.app, request(&method, path, cookies, body)).await;
        let leads = response.headers().get(header::LOCATION).map(|path| path.to_str().expect("ASCII").to_owned());
        let status = response.status();
        let page = to_bytes(response.into_body(), usize::MAX).await.expect("a page");
        Answer { status, leads: leads.unwrap_or_default(), page: String::from_utf8(page.into()).expect("UTF-8") }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &self.cookies, "").await
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask(Method::POST, path, &self.cookies, body).await
    }

    async fn act(&self, change: &str, id: Uuid, reason: &str) -> Answer {
        self.post(&format!("{}/{change}", routes::ADMIN_USERS), &format!("id={id}&reason={reason}")).await
    }

    pub async fn recorded(&self, event: &'static str) -> Option<(Uuid, serde_json::Value)> {
        sqlx::query_as("select actor_id, details from auth_audit where event_type = $1 and actor_id is not null")
            .bind(event)
            .fetch_optional(&self.kit.pool)
            .await
            .expect("rows")
    }
}

fn page_of(id: Uuid) -> String {
    format!("{}/{id}", routes::ADMIN_USERS)
}

#[tokio::test]
async fn the_list_masks_and_an_opened_account_does_not() {
    let admin = Admin::new().await;
    let list = admin.get(routes::ADMIN_USERS).await;
    assert_eq!(list.status, StatusCode::OK);
    assert!(list.page.contains("m•••••@example.org") && !list.page.contains("mara@example.org"));
    assert!(list.page.contains("2 accounts and invitations.") && list.page.contains("1 to 2 of 2"));
    for (body, found) in [
        ("q=MARA", true),
        ("q=mara%40example.org&status=active&two_factor=off", true),
        ("q=mara&two_factor=on", false),
        ("status=disabled", false),
        ("q=m%25a", false),
        // What no address can hold is left out, or PostgreSQL would refuse the whole question.
        ("q=ma%00ra", true),
    ] {
        let searched = admin.post(routes::ADMIN_USERS, body).await;
        assert_eq!(searched.status, StatusCode::SEE_OTHER, "{body}");
        assert!(!searched.leads.contains("mara") && !searched.leads.contains("MARA"), "no address in a URL: {}", searched.leads);
        let list = admin.get(&searched.leads).await;
        assert_eq!((list.status, list.page.contains("m•••••@")), (StatusCode::OK, found), "{body}");
    }
    let odd = admin.get(&format!("{}?at=%00&status=x&two_factor=x&done=x", routes::ADMIN_USERS)).await;
    assert_eq!((odd.status, odd.page.contains("m•••••@")), (StatusCode::OK, true));
    assert!(admin.recorded("user.viewed").await.is_none());
    let opened = admin.get(&page_of(admin.mara)).await;
    assert_eq!(opened.status, StatusCode::OK);
    assert!(opened.page.contains("<h1>mara@<wbr>example.org</h1>"));
    assert_eq!(admin.recorded("user.viewed").await.map(|(actor, _)| actor), Some(admin.root));
}

#[tokio::test]
async fn a_change_asks_needs_a_reason_and_says_when_it_is_done() {
    let admin = Admin::new().await;
    let (mara, page) = (admin.mara, page_of(admin.mara));
    let asked = admin.get(&format!("{page}/disable")).await;
    assert!(asked.status == StatusCode::OK && asked.page.contains("<h1>Disable this account?</h1>"));
    for (reason, why) in [("+%0A", "Say why you're changing this"), (&"x".repeat(501), "Say it in 500 characters or fewer")] {
        let refused = admin.act("disable", mara, reason).await;
        assert!(refused.status == StatusCode::UNPROCESSABLE_ENTITY && refused.page.contains(why), "{why}");
        assert!(refused.page.contains(&format!(r#"name="id" value="{mara}""#)), "it can be sent again");
    }
    assert!(admin.get(&page).await.page.contains(">Active</span>"));

    let done = admin.act("disable", mara, "Ticket%0A+4821").await;
    assert_eq!((done.status, done.leads.as_str()), (StatusCode::SEE_OTHER, format!("{page}?done=disable").as_str()));
    let (actor, details) = admin.recorded("user.disabled").await.expect("a row");
    assert_eq!((actor, &details["reason"]), (admin.root, &serde_json::json!("Ticket 4821")));
    let shown = admin.get(&done.leads).await.page;
    assert!(shown.contains("<strong>Account disabled</strong>") && shown.contains(">Disabled</span>"));

    // Twice, and by the link of an old tab.
    assert_eq!(admin.act("disable", mara, "again").await.leads, page);
    assert_eq!(admin.get(&format!("{page}/disable")).await.leads, page);
    // The notice of what isn't so any more stays away.
    assert_eq!(admin.act("enable", mara, "back").await.leads, format!("{page}?done=enable"));
    assert!(!admin.get(&format!("{page}?done=disable")).await.page.contains("Account disabled"));

    assert_eq!(admin.act("make-admin", mara, "on+call").await.leads, format!("{page}?done=make-admin"));
    assert_eq!(admin.act("remove-admin", mara, "off+call").await.leads, format!("{page}?done=remove-admin"));

    let cookies = sign_in_by_link(&admin.kit, &admin.app, "mara@example.org").await;
    assert_eq!(admin.act("end-sessions", mara, "lost+laptop").await.leads, format!("{page}?done=end-sessions"));
    assert!(admin.ask(Method::GET, routes::ACCOUNT, &cookies, "").await.leads.starts_with(routes::LOGIN));
    assert!(admin.get(&format!("{page}?done=end-sessions")).await.page.contains("All sessions ended"));
    assert_eq!(admin.act("reset-two-factor", mara, "lost+phone").await.leads, page, "it is off");
}

#[tokio::test]
async fn the_last_administrator_stays_one() {
    let admin = Admin::new().await;
    for change in ["disable", "remove-admin"] {
        let refused = admin.act(change, admin.root, "gone").await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{change}");
        assert!(refused.page.contains("This is the last administrator. Make somebody else one first."));
    }
    assert_eq!(admin.get(routes::ADMIN_USERS).await.status, StatusCode::OK);
    // With another one there, they may; and these pages are theirs no more.
    admin.act("make-admin", admin.mara, "on+call").await;
    assert_eq!(admin.act("remove-admin", admin.root, "gone").await.leads, routes::ACCOUNT);
    assert_eq!(admin.get(routes::ADMIN_USERS).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn invitations_are_listed_and_have_no_page() {
    let admin = Admin::new().await;
    for (email, why) in [
        ("", "Enter an email address"),
        ("ed%40example", "like name@example.org"),
        ("mara%40example.org", "There's already an account with this address"),
    ] {
        let refused = admin.post(routes::ADMIN_USERS_INVITE, &format!("email={email}")).await;
        assert!(refused.status == StatusCode::UNPROCESSABLE_ENTITY && refused.page.contains(why), "{why}");
    }
    let invited = admin.post(routes::ADMIN_USERS_INVITE, "email=ed%40example.org").await;
    let list = admin.get(&invited.leads).await.page;
    assert!(list.contains("Invitation sent") && list.contains("e•••••@example.org") && list.contains(">Invited</span>"));
    let invitation: Uuid = sqlx::query_scalar("select id from invites").fetch_one(&admin.kit.pool).await.expect("a row");
    assert!(!list.contains(&invitation.to_string()));

    let nowhere = admin.get("/admin/nowhere").await.page;
    let alike = |page: &str| page.split("Request ").next().map(str::to_owned);
    for id in [invitation.to_string(), Uuid::nil().to_string(), "1".to_owned(), "..%2f..".to_owned()] {
        for path in [format!("/admin/users/{id}"), format!("/admin/users/{id}/disable")] {
            let found = admin.get(&path).await;
            assert_eq!((found.status, alike(&found.page)), (StatusCode::NOT_FOUND, alike(&nowhere)), "{path}");
        }
        let found = admin.post("/admin/users/disable", &format!("id={id}&reason=x")).await;
        assert_eq!((found.status, alike(&found.page)), (StatusCode::NOT_FOUND, alike(&nowhere)), "{id}");
    }
    assert_eq!(admin.get(&format!("{}/destroy", page_of(admin.mara))).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn who_signed_in_a_while_ago_confirms_first() {
    let admin = Admin::new().await;
    admin.kit.clock.advance(time::Duration::hours(1));
    let confirm = format!("{}/disable", page_of(admin.mara));
    let first = format!("{}?next={confirm}", routes::REAUTH);
    assert_eq!(admin.get(&confirm).await.leads, first);
    assert_eq!(admin.act("disable", admin.mara, "x").await.leads, first);
    let first = format!("{}?next={}", routes::REAUTH, routes::ADMIN_USERS_INVITE);
    assert_eq!(admin.get(routes::ADMIN_USERS_INVITE).await.leads, first);
    assert_eq!(admin.post(routes::ADMIN_USERS_INVITE, "email=ed%40example.org").await.leads, first);
    assert!(admin.get(&page_of(admin.mara)).await.page.contains(">Active</span>"), "looking needs no factor");
}

#[tokio::test]
async fn who_is_no_administrator_finds_what_everybody_finds_nowhere() {
    let admin = Admin::new().await;
    let cookies = sign_in_by_link(&admin.kit, &admin.app, "mara@example.org").await;
    let nowhere = admin.ask(Method::GET, "/admin/nowhere", &cookies, "").await.page;
    let alike = |page: &str| page.split("Request ").next().map(str::to_owned);
    let paths = [routes::ADMIN_USERS.to_owned(), routes::ADMIN_USERS_INVITE.to_owned(), page_of(admin.mara)];
    for path in paths {
        let found = admin.ask(Method::GET, &path, &cookies, "").await;
        assert_eq!((found.status, alike(&found.page)), (StatusCode::NOT_FOUND, alike(&nowhere)), "{path}");
    }
    let body = format!("id={}&reason=x", admin.mara);
    let found = admin.ask(Method::POST, routes::ADMIN_USERS_MAKE_ADMIN, &cookies, &body).await;
    assert_eq!((found.status, alike(&found.page)), (StatusCode::NOT_FOUND, alike(&nowhere)));
    let anybody = admin.ask(Method::GET, routes::ADMIN_USERS, "", "").await;
    assert_eq!(anybody.leads, format!("{}?next={}", routes::LOGIN, routes::ADMIN_USERS));
}

/// Made, shown once, used, and ended: all by its pages.
#[tokio::test]
async fn an_api_key_is_made_shown_once_and_revoked() {
    let admin = Admin::new().await;
    assert!(admin.get(routes::ADMIN_API_KEYS).await.page.contains("No API keys"));
    let form = admin.get(routes::ADMIN_API_KEYS_NEW).await;
    assert!(form.status == StatusCode::OK && form.page.contains("What it may do"));
    for (body, why) in [
        ("name=+&users=on", "Enter a name"),
        (&*format!("name={}&users=on", "x".repeat(81)), "Use 80 characters or fewer"),
        ("name=Billing", "Choose what it may do"),
        // What the form has no box for gives no scope.
        ("name=Billing&admin=on&scopes=users&user_id=1", "Choose what it may do"),
    ] {
        let refused = admin.post(routes::ADMIN_API_KEYS_NEW, body).await;
        assert!(refused.status == StatusCode::UNPROCESSABLE_ENTITY && refused.page.contains(why), "{body}");
    }
    assert_eq!(admin.kit.count("select count(*) from api_keys").await, 0);

    let body = "name=Billing&users=on&audit_read=on&expires=30d";
    let response = send(&admin.app, request(&Method::POST, routes::ADMIN_API_KEYS_NEW, &admin.cookies, body)).await;
    assert_eq!(
        (response.status(), &response.headers()[header::CACHE_CONTROL]),
        (StatusCode::OK, &"no-store, no-transform".parse().expect("ASCII"))
    );
    let page = String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.expect("a page").into()).expect("UTF-8");
    let key = page.split("<p class=\"copy mono\">").nth(1).and_then(|rest| rest.split('<').next()).expect("the key").to_owned();
    let found = admin.kit.auth.api_keys().find(&key).await.expect("answers").expect("it works");
    assert_eq!(found.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(), ["users", "audit:read"]);
    let list = admin.get(routes::ADMIN_API_KEYS).await.page;
    assert!(list.contains(&key[..11]) && !list.contains(&key[12..]), "only its beginning is shown again");

    let ask = format!("{}?key={}", routes::ADMIN_API_KEYS_REVOKE, found.prefix);
    assert!(admin.get(&ask).await.page.contains("<h1>Revoke this key?</h1>"));
    let refused = admin.post(routes::ADMIN_API_KEYS_REVOKE, &format!("key={}&reason=", found.prefix)).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(admin.kit.auth.api_keys().find(&key).await.expect("answers").is_some());
    let done = admin.post(routes::ADMIN_API_KEYS_REVOKE, &format!("key={}&reason=lost", found.prefix)).await;
    assert_eq!(done.leads, format!("{}?done=revoked", routes::ADMIN_API_KEYS));
    assert_eq!(admin.kit.auth.api_keys().find(&key).await.expect("answers"), None);
    let list = admin.get(&done.leads).await.page;
    assert!(list.contains("Key revoked") && list.contains(">Revoked</span>"));
    for gone in [ask.as_str(), "/admin/api-keys/revoke", "/admin/api-keys/revoke?key=%00"] {
        assert_eq!(admin.get(gone).await.leads, routes::ADMIN_API_KEYS, "{gone}");
    }
}

#[tokio::test]
async fn an_api_key_is_made_by_a_fresh_administrator_and_by_nobody_else() {
    let admin = Admin::new().await;
    let body = "name=Billing&users=on&user_id=1&role=admin";
    let stranger = admin.ask(Method::POST, routes::ADMIN_API_KEYS_NEW, "", body).await;
    assert!(stranger.leads.starts_with(routes::LOGIN), "{}", stranger.leads);
    let mara = sign_in_by_link(&admin.kit, &admin.app, "mara@example.org").await;
    assert_eq!(admin.ask(Method::POST, routes::ADMIN_API_KEYS_NEW, &mara, body).await.status, StatusCode::NOT_FOUND);
    admin.kit.clock.advance(time::Duration::hours(1));
    assert!(admin.get(routes::ADMIN_API_KEYS_NEW).await.leads.starts_with(routes::REAUTH));
    assert!(admin.post(routes::ADMIN_API_KEYS_NEW, body).await.leads.starts_with(routes::REAUTH));
    assert_eq!(admin.kit.count("select count(*) from api_keys").await, 0);
}
