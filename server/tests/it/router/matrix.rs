//! Who may do what: every route, in every role, with every method. A route that is missing here fails the test.

use std::collections::BTreeSet;

use app::routes;
use auth::{
    factors::totp::{self, Secret},
    policy::{Policy, SignUp, limits::Limits},
};
use axum::Router;
use http::{Method, Response, StatusCode, header};
use testkit::{Kit, address};
use uuid::Uuid;

use super::{config, enrol, keep, paths, request, send, service, sign_in_by_link};

/// Whose a route is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Everybody's, whatever session they hold.
    Public,
    /// Everybody's but who is half signed in: they have a step to finish.
    Visitor,
    /// The second step: only who is half signed in.
    Half,
    /// Who is signed in, also where two-factor has to be set up first.
    Enrolling,
    SignedIn,
    Admin,
}
use Class::{Admin, Enrolling, Half, Public, SignedIn, Visitor};

/// What is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Page,
    PageWithForm,
    /// A second form of a page: GET leads there, whoever asks.
    FormOf(&'static str),
}
use What::{FormOf, Page, PageWithForm};

/// The routes and whose they are. Static files, health and the development inbox know no session, and are [`Public`]'s by
/// another test.
const TABLE: &[(&str, Class, What)] = &[
    ("/", Visitor, Page),
    (routes::HELP, Public, Page),
    (routes::HELP_ARTICLE, Public, Page),
    (routes::LOGIN, Visitor, PageWithForm),
    (routes::LOGIN_SENT, Visitor, PageWithForm),
    (routes::LOGIN_SENT_RESEND, Visitor, FormOf(routes::LOGIN_SENT)),
    (routes::LOGIN_VERIFY, Public, Page),
    (routes::LOGIN_CONFIRM, Visitor, PageWithForm),
    (routes::LOGIN_CONFIRM_CANCEL, Visitor, FormOf(routes::LOGIN_CONFIRM)),
    (routes::LOGIN_CONFIRM_RESEND, Visitor, FormOf(routes::LOGIN_CONFIRM)),
    (routes::LOGIN_TWO_FACTOR, Half, PageWithForm),
    (routes::LOGIN_BACKUP_CODE, Half, PageWithForm),
    (routes::INVITE, Visitor, PageWithForm),
    (routes::LOGOUT, Public, PageWithForm),
    (routes::LOGIN_CONTINUE, Enrolling, PageWithForm),
    (routes::REAUTH, Enrolling, PageWithForm),
    (routes::REAUTH_BACKUP_CODE, Enrolling, PageWithForm),
    (routes::REAUTH_SEND, Enrolling, FormOf(routes::REAUTH)),
    (routes::TWO_FACTOR_SETUP, Enrolling, PageWithForm),
    (routes::TWO_FACTOR_SETUP_START, Enrolling, FormOf(routes::TWO_FACTOR_SETUP)),
    (routes::ACCOUNT, SignedIn, Page),
    (routes::NAME, SignedIn, FormOf(routes::ACCOUNT)),
    (routes::EMAIL, SignedIn, PageWithForm),
    (routes::EMAIL_CODE, SignedIn, FormOf(routes::EMAIL)),
    (routes::EMAIL_RESEND, SignedIn, FormOf(routes::EMAIL)),
    (routes::EXPORT, SignedIn, PageWithForm),
    (routes::DELETE, SignedIn, PageWithForm),
    (routes::DELETE_CANCEL, SignedIn, FormOf(routes::DELETE)),
    (routes::SESSIONS, SignedIn, Page),
    (routes::SESSIONS_END, SignedIn, FormOf(routes::SESSIONS)),
    (routes::SESSIONS_END_OTHERS, SignedIn, FormOf(routes::SESSIONS)),
    (routes::ACTIVITY, SignedIn, Page),
    // It asks for a link's token, and for no session.
    (routes::UNDO, Public, PageWithForm),
    (routes::TWO_FACTOR, SignedIn, Page),
    (routes::TWO_FACTOR_REMOVE, SignedIn, FormOf(routes::TWO_FACTOR)),
    (routes::TWO_FACTOR_OFF, SignedIn, PageWithForm),
    (routes::BACKUP_CODES, SignedIn, PageWithForm),
    (routes::BACKUP_CODES_SAVED, SignedIn, FormOf(routes::BACKUP_CODES)),
    (routes::DEVICES, SignedIn, Page),
    (routes::DEVICES_REVOKE, SignedIn, FormOf(routes::DEVICES)),
    (routes::DEVICES_REVOKE_ALL, SignedIn, FormOf(routes::DEVICES)),
    (routes::DEVICES_FORGET, SignedIn, FormOf(routes::DEVICES)),
    (routes::DEVICES_FORGET_ALL, SignedIn, FormOf(routes::DEVICES)),
    (routes::ADMIN, Admin, Page),
    (routes::ADMIN_USERS, Admin, PageWithForm),
    (routes::ADMIN_USERS_INVITE, Admin, PageWithForm),
    (routes::ADMIN_USER, Admin, Page),
    (routes::ADMIN_USER_CHANGE, Admin, Page),
    (routes::ADMIN_USERS_DISABLE, Admin, FormOf(routes::ADMIN_USERS)),
    (routes::ADMIN_USERS_ENABLE, Admin, FormOf(routes::ADMIN_USERS)),
    (routes::ADMIN_USERS_END_SESSIONS, Admin, FormOf(routes::ADMIN_USERS)),
    (routes::ADMIN_USERS_RESET_TWO_FACTOR, Admin, FormOf(routes::ADMIN_USERS)),
    (routes::ADMIN_USERS_STOP_RESET, Admin, FormOf(routes::ADMIN_USERS)),
    (routes::ADMIN_USERS_MAKE_ADMIN, Admin, FormOf(routes::ADMIN_USERS)),
    (routes::ADMIN_USERS_REMOVE_ADMIN, Admin, FormOf(routes::ADMIN_USERS)),
    (routes::ADMIN_ROLLOUT, Admin, PageWithForm),
    (routes::ADMIN_AUDIT, Admin, PageWithForm),
    (routes::ADMIN_AUDIT_EXPORT, Admin, FormOf(routes::ADMIN_AUDIT)),
    (routes::ADMIN_MAIL, Admin, PageWithForm),
    (routes::ADMIN_MAIL_TEST, Admin, FormOf(routes::ADMIN_MAIL)),
    (routes::ADMIN_LIMITS, Admin, PageWithForm),
    (routes::ADMIN_API_KEYS, Admin, Page),
    (routes::ADMIN_API_KEYS_NEW, Admin, PageWithForm),
    (routes::ADMIN_API_KEYS_REVOKE, Admin, PageWithForm),
];

/// Paths without sessions: health, metrics, the development inbox, static files. What proxies ask for tests of its own answer.
fn knows_sessions(path: &str) -> bool {
    !matches!(path, "/healthz" | "/readyz" | server::telemetry::metrics::PATH | routes::AUTH_VERIFY | routes::AUTH_REDIRECT)
        && !path.starts_with(routes::DEV_INBOX)
        && !app::ui::assets::ALL.iter().any(|asset| asset.path == path)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Anonymous,
    /// One factor of two given.
    PendingSecondFactor,
    User,
    /// An administrator who has yet to set two-factor up, as `REQUIRE_2FA` asks.
    AdminOwing,
    Admin,
    /// Signed in, and turned off since.
    Disabled,
}

impl Role {
    const ALL: [Self; 6] = [Self::Anonymous, Self::PendingSecondFactor, Self::User, Self::AdminOwing, Self::Admin, Self::Disabled];
}

/// What the gate says. `Ok`: it lets them through to the page or form.
fn expected(class: Class, role: Role) -> Result<(), Refused> {
    use Role::{Admin as RoleAdmin, AdminOwing, Anonymous, Disabled, PendingSecondFactor, User};
    match (class, role) {
        (Public, _)
        | (Visitor, Anonymous | User | AdminOwing | RoleAdmin | Disabled)
        | (Half, PendingSecondFactor)
        | (Enrolling, User | AdminOwing | RoleAdmin)
        | (SignedIn, User | RoleAdmin)
        | (Admin, RoleAdmin) => Ok(()),
        (Visitor | Enrolling | SignedIn | Admin, PendingSecondFactor) => Err(Refused::To(routes::LOGIN_TWO_FACTOR)),
        (Half | Enrolling | SignedIn | Admin, Anonymous | Disabled) => Err(Refused::To(routes::LOGIN)),
        (Half, User | AdminOwing | RoleAdmin) => Err(Refused::To(routes::ACCOUNT)),
        (SignedIn | Admin, AdminOwing) => Err(Refused::To(routes::TWO_FACTOR_SETUP)),
        (Admin, User) => Err(Refused::NotFound),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    /// Sent there first.
    To(&'static str),
    /// As a path that isn't there: who is no administrator learns nothing.
    NotFound,
}

fn leads(response: &Response<axum::body::Body>) -> Option<String> {
    let location = response.headers().get(header::LOCATION)?.to_str().expect("ASCII");
    Some(location.split('?').next().unwrap_or_default().to_owned())
}

struct World {
    kit: Kit,
    app: Router,
    mara: Uuid,
    root_secret: Secret,
}

impl World {
    async fn new() -> Self {
        let limits = Limits::off();
        let kit = Kit::with(Policy { passwordless_auth: true, sign_up: SignUp::Open, limits, ..Policy::default() }).await;
        let app = service(&config(&[("LIMITS", "off")]), kit.auth.clone());
        enrol(&kit, "half@example.org", false).await;
        let root_secret = enrol(&kit, "root@example.org", true).await;
        kit.auth.users().create(&address("owing@example.org"), true, None).await.expect("made");
        let mara = kit.auth.users().create(&address("mara@example.org"), false, None).await.expect("made");
        Self { kit, app, mara, root_secret }
    }

    /// The cookies of a browser in this role.
    async fn browser(&self, role: Role) -> String {
        let first = async |email| sign_in_by_link(&self.kit, &self.app, email).await;
        match role {
            Role::Anonymous => String::new(),
            Role::PendingSecondFactor => first("half@example.org").await,
            Role::User => first("mara@example.org").await,
            Role::AdminOwing => first("owing@example.org").await,
            Role::Admin => {
                self.kit.clock.advance(time::Duration::minutes(2));
                let cookies = first("root@example.org").await;
                let code = self.root_secret.code(totp::step(self.kit.auth.now())).reveal().replace(' ', "");
                let entered =
                    send(&self.app, request(&Method::POST, routes::LOGIN_TWO_FACTOR, &cookies, &format!("code={code}"))).await;
                assert_eq!(leads(&entered).as_deref(), Some(routes::ACCOUNT));
                keep(&cookies, &entered)
            }
            Role::Disabled => {
                let cookies = first("off@example.org").await;
                sqlx::query("update users set disabled_at = $1 where email = 'off@example.org'")
                    .bind(self.kit.auth.now())
                    .execute(&self.kit.pool)
                    .await
                    .expect("updated");
                cookies
            }
        }
    }

    /// Which sessions there are, and what they open.
    async fn sessions(&self) -> Option<String> {
        let live =
            "select string_agg(s.token_hash::text || level || u.id, ';' order by s.id) from sessions s join users u on u.id = s.user_id
                    where revoked_at is null and deletes_at is null";
        sqlx::query_scalar(live).fetch_one(&self.kit.pool).await.expect("rows")
    }

    async fn rested(&self) {
        sqlx::query("update users set disabled_at = null, deletes_at = null where email = 'off@example.org'")
            .execute(&self.kit.pool)
            .await
            .expect("updated");
    }
}

const METHODS: [Method; 7] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// Nothing in it is right, so that a form that lets them through changes little.
const BODY: &str = "email=&next=&id=00000000-0000-0000-0000-000000000000&set=1&code=000000&token=x&name=&reason=&saved=";

#[tokio::test]
async fn every_route_answers_every_role_as_its_class_says() {
    let found: BTreeSet<String> = paths().into_iter().filter(|path| knows_sessions(path)).collect();
    let listed: BTreeSet<String> = TABLE.iter().map(|(path, ..)| (*path).to_owned()).collect();
    assert_eq!(found, listed, "the routing table and this one");

    let world = World::new().await;
    for role in Role::ALL {
        let mut cookies = world.browser(role).await;
        for (path, class, what) in TABLE {
            let real = path.replace("{id}", &world.mara.to_string()).replace("{change}", "disable").replace("{slug}", "no-email");
            for method in METHODS {
                let sessions = world.sessions().await;
                let response = send(&world.app, request(&method, &real, &cookies, BODY)).await;
                let (status, leads) = (response.status(), leads(&response));
                let said = format!("{role:?} {method} {path}: {status} {leads:?}");
                let reads = matches!(method, Method::GET | Method::HEAD);
                let has = match what {
                    Page => reads,
                    PageWithForm | FormOf(_) => reads || method == Method::POST,
                };
                if !has {
                    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{said}");
                } else if let (true, FormOf(page)) = (reads, what) {
                    assert_eq!((status, leads.as_deref()), (StatusCode::SEE_OTHER, Some(*page)), "{said}");
                } else {
                    match expected(*class, role) {
                        Err(Refused::To(first)) => {
                            assert_eq!((status, leads.as_deref()), (StatusCode::SEE_OTHER, Some(first)), "{said}");
                        }
                        Err(Refused::NotFound) => assert_eq!(status, StatusCode::NOT_FOUND, "{said}"),
                        Ok(()) => {
                            assert!(status != StatusCode::METHOD_NOT_ALLOWED && !status.is_server_error(), "{said}");
                            // No gate's answer: those of the class's strangers lead to signing in.
                            let strangers = [Some(routes::LOGIN), Some(routes::LOGIN_TWO_FACTOR)];
                            let home = matches!(class, Public | Visitor | Half);
                            assert!(home || !strangers.contains(&leads.as_deref()), "{said}");
                        }
                    }
                }
                // A form may have signed out, or given the session another id.
                if method == Method::POST && sessions != world.sessions().await {
                    world.rested().await;
                    cookies = world.browser(role).await;
                }
            }
        }
    }
}
