//! API keys on a real database, with the clock moved.

use std::time::Duration;

use auth::{
    api_keys::{CreateKeyError, KeyState, MAX_NAME, Maker},
    audit::{About, AuditFilter},
    delivery::Content,
    identity::{ActionError, Actor, ApiKey, Authority, Prefix, Scope},
    outbox::Notice,
    policy::{Policy, RequireTwoFactor, SignUp},
    sign_in::first_factor::Outcome,
};
use testkit::{Kit, Visitor, address, why};
use time::Duration as Span;
use uuid::Uuid;

const ROOT: &str = "root@example.org";
const DAY: Duration = Duration::from_hours(24);

/// Where administrators need no two-factor: what that asks of them is tested elsewhere.
async fn kit() -> Kit {
    let require_two_factor = RequireTwoFactor::None;
    Kit::with(Policy { passwordless_auth: true, sign_up: SignUp::Open, require_two_factor, ..Policy::default() }).await
}

struct Admin {
    visitor: Visitor,
    authority: Authority,
}

impl Admin {
    /// Signed in a moment ago.
    async fn new(kit: &Kit, email: &str) -> Self {
        kit.auth.users().create(&address(email), true, None).await.expect("made");
        Self::again(kit, email).await
    }

    async fn again(kit: &Kit, email: &str) -> Self {
        let mut visitor = Visitor::at([203, 0, 113, 24]);
        assert!(matches!(visitor.give_first_factor(kit, &address(email)).await, Outcome::Complete { .. }));
        let authority = visitor.authority(&kit.auth).await.expect("signed in");
        kit.letters().await;
        Self { visitor, authority }
    }

    fn who(&self) -> Actor<'_> {
        Actor::Admin { authority: &self.authority, from: &self.visitor.from }
    }
}

async fn used(kit: &Kit, key: &str) -> Option<ApiKey> {
    kit.auth.api_keys().find(key).await.expect("answers")
}

async fn make(kit: &Kit, who: Actor<'_>, scopes: &[Scope], lifetime: Option<Duration>) -> (String, Prefix) {
    let new = kit.auth.api_keys().create(who, " Billing ", scopes, lifetime).await.expect("made");
    (new.key, new.prefix)
}

async fn notices(kit: &Kit) -> Vec<(String, Notice)> {
    let notice = |letter: auth::delivery::OutgoingMail| match letter.content {
        Content::Notice { notice, .. } => Some((letter.to.as_str().to_owned(), notice)),
        _ => None,
    };
    kit.letters().await.into_iter().filter_map(notice).collect()
}

#[tokio::test]
async fn a_key_is_found_by_its_secret_and_nothing_of_it_is_kept() {
    let kit = kit().await;
    let root = Admin::new(&kit, ROOT).await;
    let (key, prefix) = make(&kit, root.who(), &[Scope::Users, Scope::SignIn, Scope::Users], None).await;
    assert!(key.starts_with(&format!("{prefix}_")));
    let found = used(&kit, &key).await.expect("it works");
    assert_eq!((found.name.as_str(), found.prefix), ("Billing", prefix));
    assert_eq!(found.scopes, [Scope::SignIn, Scope::Users]);
    // Another secret under the same prefix, and the same secret under another.
    let (other, _) = make(&kit, root.who(), &[Scope::Users], None).await;
    for wrong in [format!("{}{}", &key[..12], &other[12..]), format!("{}{}", &other[..12], &key[12..]), prefix.to_string()] {
        assert_eq!(used(&kit, &wrong).await, None, "{wrong}");
    }
    // Every table, in text.
    let tables: Vec<String> = sqlx::query_scalar("select tablename::text from pg_tables where schemaname = 'public'")
        .fetch_all(&kit.pool)
        .await
        .expect("tables");
    let secret = &key[12..];
    let hex = data_encoding::HEXLOWER.encode(&data_encoding::BASE64URL_NOPAD.decode(secret.as_bytes()).expect("base64"));
    let mut seen = 0;
    for table in tables {
        let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select t::text from {table} t")))
            .fetch_all(&kit.pool)
            .await
            .expect("rows");
        for row in rows {
            assert!(!row.contains(secret) && !row.contains(&hex), "{table}: {row}");
            seen += usize::from(row.contains(&key[3..11]));
        }
    }
    assert!(seen >= 2, "the key's row and its audit row were among them");
}

#[tokio::test]
async fn one_is_made_by_a_fresh_administrator_or_at_the_shell_and_by_nobody_else() {
    let kit = kit().await;
    let root = Admin::new(&kit, ROOT).await;
    let create = async |who: Actor<'_>| kit.auth.api_keys().create(who, "Billing", &[Scope::Users], None).await;
    assert!(create(root.who()).await.is_ok());
    assert!(create(Actor::Operator).await.is_ok());

    kit.clock.advance(Span::hours(1));
    assert!(matches!(create(root.who()).await, Err(CreateKeyError::Act(ActionError::NotFresh))));
    let mut mara = Visitor::at([198, 51, 100, 7]);
    mara.give_first_factor(&kit, &address("mara@example.org")).await;
    let authority = mara.authority(&kit.auth).await.expect("signed in");
    let user = Actor::Admin { authority: &authority, from: &mara.from };
    assert!(matches!(create(user).await, Err(CreateKeyError::Act(ActionError::NotAdmin))));

    // A key makes no key and ends none, whatever it may do.
    let (key, prefix) = make(&kit, Actor::Operator, Scope::ALL, None).await;
    let key = used(&kit, &key).await.expect("it works");
    let program = Actor::Key { key: &key, from: &mara.from };
    assert!(matches!(create(program).await, Err(CreateKeyError::Act(ActionError::NotAdmin))));
    assert!(matches!(kit.auth.api_keys().revoke(program, prefix, &why("why")).await, Err(ActionError::NotAdmin)));
    assert_eq!(kit.count("select count(*) from api_keys").await, 3);

    let long = "x".repeat(MAX_NAME + 1);
    for (name, scopes, name_is_wrong) in
        [(" ", &[Scope::Users][..], true), (&long, &[Scope::Users], true), ("a\nb", &[Scope::Users], true), ("a", &[], false)]
    {
        let refused = kit.auth.api_keys().create(Actor::Operator, name, scopes, None).await;
        assert_eq!(matches!(refused, Err(CreateKeyError::Name)), name_is_wrong, "{name:?}");
        assert_eq!(matches!(refused, Err(CreateKeyError::NoScope)), !name_is_wrong, "{name:?}");
    }
}

/// What the maker may not do any more, the key may not, from its next use on and on every instance.
#[tokio::test]
async fn a_key_never_exceeds_its_makers_rights() {
    let kit = kit().await;
    let second = kit.second().await;
    let root = Admin::new(&kit, ROOT).await;
    let (key, _) = make(&kit, root.who(), Scope::ALL, None).await;
    let (shell, _) = make(&kit, Actor::Operator, Scope::ALL, None).await;
    let scopes = async |key: &str| second.api_keys().find(key).await.expect("answers").expect("it works").scopes;
    assert_eq!(scopes(&key).await, Scope::ALL);
    let user = root.authority.user;
    let harmless = [Scope::SignIn, Scope::Sessions];
    for (undone, done) in [
        ("update users set is_admin = false where id = $1", "update users set is_admin = true where id = $1"),
        ("update users set disabled_at = created_at where id = $1", "update users set disabled_at = null where id = $1"),
        ("update users set deletes_at = created_at where id = $1", "update users set deletes_at = null where id = $1"),
    ] {
        sqlx::query(undone).bind(user).execute(&kit.pool).await.expect("updated");
        assert_eq!(scopes(&key).await, harmless, "{undone}");
        assert!(kit.auth.api_keys().list().await.expect("answers").iter().any(|row| row.curbed));
        sqlx::query(done).bind(user).execute(&kit.pool).await.expect("updated");
        assert_eq!(scopes(&key).await, Scope::ALL, "{done}");
    }
    // No account is left to look at: that must not read as a key made at the shell.
    sqlx::query("delete from users where id = $1").bind(user).execute(&kit.pool).await.expect("deleted");
    assert_eq!(scopes(&key).await, harmless);
    assert_eq!(scopes(&shell).await, Scope::ALL);
    let makers: Vec<Maker> = kit.auth.api_keys().list().await.expect("answers").into_iter().map(|row| row.maker).collect();
    assert!(makers.contains(&Maker::Gone) && makers.contains(&Maker::Operator), "{makers:?}");
}

#[tokio::test]
async fn a_key_ends_at_its_time_and_when_it_is_revoked_everywhere() {
    let kit = kit().await;
    let second = kit.second().await;
    let root = Admin::new(&kit, ROOT).await;
    let (short, _) = make(&kit, root.who(), &[Scope::Users], Some(DAY)).await;
    let (long, prefix) = make(&kit, root.who(), &[Scope::Users], None).await;
    kit.clock.advance(Span::DAY - Span::SECOND);
    assert!(used(&kit, &short).await.is_some());
    kit.clock.advance(Span::SECOND);
    assert_eq!(used(&kit, &short).await, None);

    assert!(second.api_keys().find(&long).await.expect("answers").is_some());
    let root = Admin::again(&kit, ROOT).await;
    kit.auth.api_keys().revoke(root.who(), prefix, &why("lost")).await.expect("revoked");
    assert_eq!(second.api_keys().find(&long).await.expect("answers"), None);
    assert!(matches!(kit.auth.api_keys().revoke(root.who(), prefix, &why("lost")).await, Err(ActionError::Nothing)));
    let states: Vec<KeyState> = kit.auth.api_keys().list().await.expect("answers").into_iter().map(|row| row.state).collect();
    assert_eq!(states.len(), 2);
    assert!(states.contains(&KeyState::Expired) && states.contains(&KeyState::Revoked));
}

#[tokio::test]
async fn use_is_noted_once_a_minute() {
    let kit = kit().await;
    let (key, _) = make(&kit, Actor::Operator, &[Scope::Users], None).await;
    let last = async || kit.auth.api_keys().list().await.expect("answers")[0].last_used_at;
    assert_eq!(last().await, None);
    used(&kit, &key).await;
    let first = last().await.expect("used");
    kit.clock.advance(Span::seconds(59));
    used(&kit, &key).await;
    assert_eq!(last().await, Some(first));
    kit.clock.advance(Span::SECOND);
    used(&kit, &key).await;
    assert_eq!(last().await, Some(first + Span::MINUTE));
}

#[tokio::test]
async fn making_and_ending_one_is_audited_and_told() {
    let kit = kit().await;
    let root = Admin::new(&kit, ROOT).await;
    let (_, prefix) = make(&kit, root.who(), &[Scope::Users], Some(90 * DAY)).await;
    assert_eq!(notices(&kit).await, [(ROOT.to_owned(), Notice::ApiKeyCreated { prefix })]);
    // Things that share a moment have no order.
    kit.clock.advance(Span::SECOND);
    let (_, shell) = make(&kit, Actor::Operator, &[Scope::Flags], None).await;
    let other = Admin::new(&kit, "other@example.org").await;
    kit.auth.api_keys().revoke(other.who(), prefix, &why("ticket 7")).await.expect("revoked");
    assert_eq!(notices(&kit).await, [(ROOT.to_owned(), Notice::ApiKeyRevoked { prefix })]);
    kit.clock.advance(Span::SECOND);
    kit.auth.api_keys().revoke(Actor::Operator, shell, &why("ticket 8")).await.expect("revoked");
    assert_eq!(notices(&kit).await, []);

    let of = async |event: &str| {
        let filter = AuditFilter { events: vec![event.to_owned()], ..AuditFilter::default() };
        kit.auth.audit().page(&filter, None, 10).await.expect("answers").rows
    };
    let [at_the_shell, created] = &of("api_key.created").await[..] else { panic!("two") };
    assert_eq!((created.user, created.actor), (Some(root.authority.user), None));
    assert_eq!((at_the_shell.user, at_the_shell.actor), (None, None));
    assert_eq!(created.details["scopes"], serde_json::json!(["users"]));
    assert_eq!(
        (created.details["name"].as_str(), created.details["prefix"].as_str()),
        (Some("Billing"), Some(prefix.to_string().as_str()))
    );
    let [by_operator, revoked] = &of("api_key.revoked").await[..] else { panic!("two") };
    assert_eq!((revoked.user, revoked.actor), (Some(root.authority.user), Some(other.authority.user)));
    assert_eq!((revoked.details["by"].as_str(), revoked.details["reason"].as_str()), (Some("admin"), Some("ticket 7")));
    assert_eq!((by_operator.user, by_operator.details["by"].as_str()), (None, Some("operator")));
}

#[tokio::test]
async fn a_week_before_its_end_its_maker_is_told_once_or_every_administrator() {
    let kit = kit().await;
    let other = Admin::new(&kit, "other@example.org").await;
    let root = Admin::new(&kit, ROOT).await;
    let (_, mine) = make(&kit, root.who(), &[Scope::Users], Some(90 * DAY)).await;
    let (_, shell) = make(&kit, Actor::Operator, &[Scope::Users], Some(90 * DAY)).await;
    // Neither is told of: one was made for a shorter time, the other is over.
    make(&kit, root.who(), &[Scope::Users], Some(3 * DAY)).await;
    let (_, gone) = make(&kit, root.who(), &[Scope::Users], Some(90 * DAY)).await;
    kit.auth.api_keys().revoke(root.who(), gone, &why("why")).await.expect("revoked");
    kit.letters().await;
    let housekeeping = async || {
        kit.auth.operations().housekeep().await.expect("kept");
        notices(&kit).await
    };
    assert_eq!(housekeeping().await, []);
    kit.clock.advance(Span::days(83) - Span::hours(1));
    assert_eq!(housekeeping().await, []);
    kit.clock.advance(Span::hours(2));
    let told = housekeeping().await;
    let to = |prefix: Prefix| {
        let mut to: Vec<&str> = told
            .iter()
            .filter(|(_, notice)| matches!(notice, Notice::ApiKeyEnding { prefix: ending, .. } if *ending == prefix))
            .map(|(to, _)| to.as_str())
            .collect();
        to.sort_unstable();
        to
    };
    assert_eq!((to(mine), to(shell)), (vec![ROOT], vec!["other@example.org", ROOT]));
    assert_eq!(told.len(), 3);
    kit.clock.advance(Span::hours(1));
    assert_eq!(housekeeping().await, []);

    // Its maker is none any more: somebody has to know.
    let root = Admin::again(&kit, ROOT).await;
    let (_, left) = make(&kit, root.who(), &[Scope::Users], Some(30 * DAY)).await;
    let other = Admin::again(&kit, &other.authority.email).await;
    kit.auth.administration().set_admin(other.who(), root.authority.user, false, &why("left")).await.expect("removed");
    kit.letters().await;
    kit.clock.advance(Span::days(24));
    assert_eq!(
        housekeeping()
            .await
            .iter()
            .map(|(to, notice)| (to.as_str(), matches!(notice, Notice::ApiKeyEnding { prefix, .. } if *prefix == left)))
            .collect::<Vec<_>>(),
        [("other@example.org", true)]
    );
}

/// What a program does to an account stands in the audit with its key.
#[tokio::test]
async fn a_program_that_ends_sessions_is_in_the_audit() {
    let kit = kit().await;
    let mut mara = Visitor::at([198, 51, 100, 7]);
    mara.give_first_factor(&kit, &address("mara@example.org")).await;
    let user = mara.authority(&kit.auth).await.expect("signed in").user;
    let (key, _) = make(&kit, Actor::Operator, &[Scope::Users], None).await;
    let (narrow, _) = make(&kit, Actor::Operator, &[Scope::Flags], None).await;
    let (key, narrow) = (used(&kit, &key).await.expect("works"), used(&kit, &narrow).await.expect("works"));
    let from = Visitor::at([192, 0, 2, 1]).from;
    let refused = kit.auth.administration().end_user_sessions(Actor::Key { key: &narrow, from: &from }, user, &why("why")).await;
    assert!(matches!(refused, Err(ActionError::NotAdmin)), "the scope is asked for here too");
    let program = Actor::Key { key: &key, from: &from };
    assert!(
        matches!(kit.auth.administration().disable_user(program, user, &why("why")).await, Err(ActionError::NotAdmin)),
        "for people only"
    );
    assert!(matches!(kit.auth.administration().set_admin(program, user, true, &why("why")).await, Err(ActionError::NotAdmin)));
    assert_eq!(kit.auth.administration().end_user_sessions(program, user, &why("why")).await.expect("ended"), 1);
    assert_eq!(mara.authority(&kit.auth).await, None);
    let filter =
        AuditFilter { events: vec!["user.sessions_ended".to_owned()], about: Some(About::User(user)), ..AuditFilter::default() };
    let row = kit.auth.audit().page(&filter, None, 10).await.expect("answers").rows.remove(0);
    assert_eq!((row.actor, row.details["by"].as_str()), (Some(key.id), Some("api_key")));
}

#[tokio::test]
async fn the_audit_is_filtered_and_paged_without_gaps() {
    let kit = kit().await;
    let mut users = Vec::new();
    for n in 0..7 {
        users.push(kit.auth.users().create(&address(&format!("u{n}@example.org")), false, None).await.expect("made"));
        kit.clock.advance(Span::MINUTE);
    }
    let all = AuditFilter { events: vec!["user.created".to_owned()], ..AuditFilter::default() };
    let (mut seen, mut cursor) = (Vec::<Uuid>::new(), None);
    loop {
        let page = kit.auth.audit().page(&all, cursor, 3).await.expect("answers");
        seen.extend(page.rows.iter().filter_map(|row| row.user));
        cursor = page.older;
        if cursor.is_none() {
            break;
        }
    }
    seen.reverse();
    assert_eq!(seen, users);
    let rows = kit.auth.audit().page(&all, None, 10).await.expect("answers").rows;
    let between = AuditFilter { since: Some(rows[4].at), until: Some(rows[1].at), ..all.clone() };
    assert_eq!(kit.auth.audit().page(&between, None, 10).await.expect("answers").rows, rows[2..=4]);
    let one = AuditFilter { about: Some(About::User(users[3])), ..all };
    assert_eq!(kit.auth.audit().page(&one, None, 10).await.expect("answers").rows.len(), 1);
}
