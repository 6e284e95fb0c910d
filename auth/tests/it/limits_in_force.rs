//! Whom limits hold, as administrators see it and let them go; and networks that ask for too much.

use auth::{
    administration::{Throttled, ThrottledBy},
    identity::{ActionError, Actor, Authority},
    limits::request_bursts::{NetworkRequests, TOO_MANY},
    policy::{Policy, RequireTwoFactor, SignUp, limits::Limit},
    sign_in::first_factor::{Outcome, RequestLinkError},
};
use testkit::{Kit, Visitor, address};
use time::Duration;

const MARA: &str = "mara@example.org";

async fn kit() -> Kit {
    let require_two_factor = RequireTwoFactor::None;
    Kit::with(Policy { passwordless_auth: true, sign_up: SignUp::Open, require_two_factor, ..Policy::default() }).await
}

/// An administrator who has just signed in.
async fn admin(kit: &Kit) -> (Visitor, Authority) {
    kit.auth.users().create(&address("root@example.org"), true, None).await.expect("made");
    let mut visitor = Visitor::at([203, 0, 113, 24]);
    assert!(matches!(visitor.give_first_factor(kit, &address("root@example.org")).await, Outcome::Complete { .. }));
    let authority = visitor.authority(&kit.auth).await.expect("signed in");
    (visitor, authority)
}

fn by((visitor, authority): &(Visitor, Authority)) -> Actor<'_> {
    Actor::Admin { authority, from: &visitor.from }
}

/// In a browser of its own.
async fn ask(kit: &Kit, ip: [u8; 4], email: &str) -> Result<(), RequestLinkError> {
    let visitor = Visitor::at(ip);
    kit.auth.sign_in().request_link(&address(email), &visitor.nonce, visitor.proof(), &visitor.from).await
}

async fn held(kit: &Kit, by: Option<ThrottledBy>) -> Vec<Throttled> {
    let found = kit.auth.administration().limits_in_force(by).await.expect("the database answers");
    assert_eq!(found.all, i64::try_from(found.held.len()).expect("few"));
    found.held
}

const ADDRESS_FROM_NETWORK: ThrottledBy = ThrottledBy::Limit(Limit::LinkAddressNetwork);

#[tokio::test]
async fn who_is_limited_is_shown_as_long_as_it_holds() {
    let kit = kit().await;
    for _ in 0..3 {
        ask(&kit, [192, 0, 2, 7], MARA).await.expect("within the limit");
    }
    assert_eq!(held(&kit, None).await, [], "one more would pass");
    ask(&kit, [192, 0, 2, 7], MARA).await.expect("the fourth");
    let [row] = &held(&kit, None).await[..] else { panic!("one") };
    assert_eq!(row.by, ADDRESS_FROM_NETWORK);
    assert_eq!(row.subject.address.as_deref(), Some("m•••••@example.org"), "masked: it may be anybody's");
    assert_eq!(row.subject.network.as_deref(), Some("192.0.2.7"));
    assert_eq!(row.free_at - kit.auth.now(), Duration::seconds(225));
    assert_eq!(held(&kit, Some(ADDRESS_FROM_NETWORK)).await.len(), 1);
    assert_eq!(held(&kit, Some(ThrottledBy::Limit(Limit::LinkNetwork))).await, [], "another limit");
    kit.clock.advance(Duration::seconds(225));
    assert_eq!(held(&kit, None).await, [], "it has let go by itself");
}

#[tokio::test]
async fn an_administrator_lets_one_go_and_only_that_one() {
    let kit = kit().await;
    let root = admin(&kit).await;
    for email in [MARA, "other@example.org"] {
        for _ in 0..4 {
            ask(&kit, [192, 0, 2, 7], email).await.expect("within the limit");
        }
        ask(&kit, [192, 0, 2, 7], email).await.expect_err("limited");
    }
    let rows = held(&kit, None).await;
    let row = rows.iter().find(|row| row.subject.address.as_deref() == Some("m•••••@example.org")).expect("held");
    kit.auth.administration().release(by(&root), row.by, &row.key).await.expect("let go");
    assert_eq!(held(&kit, None).await.len(), 1);
    for _ in 0..4 {
        ask(&kit, [192, 0, 2, 7], MARA).await.expect("all of it again");
    }
    ask(&kit, [192, 0, 2, 7], MARA).await.expect_err("and no more than that");
    ask(&kit, [192, 0, 2, 7], "other@example.org").await.expect_err("the other goes on waiting");
    let audited = "select count(*) from auth_audit where event_type = 'limit.released' and actor_id is not null
        and details = '{\"limit\": \"link_address_network\", \"address\": \"m•••••@example.org\", \"network\": \"192.0.2.7\"}'";
    assert_eq!(kit.count(audited).await, 1);
}

#[tokio::test]
async fn who_may_not_lets_nobody_go_and_what_is_no_row_is_nothing() {
    let kit = kit().await;
    let root = admin(&kit).await;
    for _ in 0..4 {
        ask(&kit, [192, 0, 2, 7], MARA).await.expect("within the limit");
    }
    let key = held(&kit, None).await.pop().expect("held").key;
    let release = async |who: Actor<'_>, by: ThrottledBy, key: &str| kit.auth.administration().release(who, by, key).await;
    for key in ["", "not base64!", "AAAA", "7f000001", &"A".repeat(10_000)] {
        for limit in [ADDRESS_FROM_NETWORK, ThrottledBy::WrongAppCodes] {
            assert!(matches!(release(by(&root), limit, key).await, Err(ActionError::Nothing)), "{key}");
        }
    }
    let mallory = Authority { admin: false, ..root.1.clone() };
    let who = Actor::Admin { authority: &mallory, from: &root.0.from };
    assert!(matches!(release(who, ADDRESS_FROM_NETWORK, &key).await, Err(ActionError::NotAdmin)));
    kit.clock.advance(Duration::minutes(11));
    for _ in 0..4 {
        let _ = ask(&kit, [192, 0, 2, 7], MARA).await;
    }
    assert!(matches!(release(by(&root), ADDRESS_FROM_NETWORK, &key).await, Err(ActionError::NotFresh)));
    assert_eq!(held(&kit, None).await.len(), 1, "still held");
}

async fn busiest(kit: &Kit) -> Vec<NetworkRequests> {
    kit.auth.limits().watch_request_bursts().await.expect("the database answers");
    kit.auth.limits().busiest_networks(10).await.expect("the database answers")
}

const TOLD: &str = "select count(*) from auth_audit where event_type = 'network.too_many_requests'";

/// Over a hundred requests an hour from one network, most of them refused: told once an hour, on however many servers.
#[tokio::test]
async fn a_network_that_asks_for_too_much_is_told_of_once_an_hour() {
    let kit = kit().await;
    let second = kit.second().await;
    for n in 0..TOO_MANY {
        let _ = ask(&kit, [192, 0, 2, 7], &format!("a{n}@example.org")).await;
    }
    ask(&kit, [192, 0, 2, 8], MARA).await.expect("within the limits");
    let counted = busiest(&kit).await;
    assert_eq!(
        counted.iter().map(|n| (n.network.as_str(), n.requests)).collect::<Vec<_>>(),
        [("192.0.2.7", 100), ("192.0.2.8", 1)]
    );
    assert_eq!(kit.count(TOLD).await, 0, "a hundred is not over a hundred");
    assert!(kit.auth.administration().limits_in_force(None).await.expect("answers").too_many.is_empty());

    let visitor = Visitor::at([192, 0, 2, 7]);
    let _ = second.sign_in().request_link(&address(MARA), &visitor.nonce, visitor.proof(), &visitor.from).await;
    second.limits().watch_request_bursts().await.expect("the database answers");
    assert_eq!(kit.count(TOLD).await, 1, "counted on another server");
    assert_eq!(
        kit.count("select (details->>'requests')::bigint from auth_audit where event_type = 'network.too_many_requests'").await,
        101
    );
    for _ in 0..3 {
        assert_eq!(busiest(&kit).await[0].requests, 101);
        second.limits().watch_request_bursts().await.expect("the database answers");
    }
    assert_eq!(kit.count(TOLD).await, 1, "once is enough");
    assert_eq!(kit.auth.administration().limits_in_force(None).await.expect("answers").too_many.len(), 1, "and it is shown");

    kit.clock.advance(Duration::minutes(61));
    assert_eq!(busiest(&kit).await, [], "an hour later it is over");
    for n in 0..=TOO_MANY {
        let _ = ask(&kit, [192, 0, 2, 7], &format!("b{n}@example.org")).await;
    }
    busiest(&kit).await;
    assert_eq!(kit.count(TOLD).await, 2);
    kit.clock.advance(Duration::hours(3));
    kit.auth.operations().housekeep().await.expect("tidied");
    assert_eq!(kit.count("select count(*) from network_requests").await, 0);
}

#[tokio::test]
async fn what_was_counted_while_the_database_was_away_is_added_later() {
    let kit = kit().await;
    ask(&kit, [192, 0, 2, 7], MARA).await.expect("within the limits");
    let owner = kit.database.owner().await;
    sqlx::query("alter table network_requests rename to gone").execute(&owner).await.expect("renamed");
    kit.auth.limits().watch_request_bursts().await.expect_err("it can't be added");
    sqlx::query("alter table gone rename to network_requests").execute(&owner).await.expect("renamed back");
    assert_eq!(busiest(&kit).await[0].requests, 1);
}
