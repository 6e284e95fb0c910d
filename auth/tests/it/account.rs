//! An account's own pages: its sessions and its activity, on a real database with the clock moved.

use auth::{
    delivery::Content,
    identity::{Actor, Authority, Method},
    limits::known_browser::KnownBrowser,
    outbox::Notice,
    primitives::{
        cursor::{Cursor, Page},
        requester::Requester,
    },
    self_service::activity::{Entry, Filter, PAGE},
    sign_in::first_factor::Outcome,
};
use testkit::{Kit, Visitor, address};
use time::Duration;
use uuid::Uuid;

const MARA: &str = "mara@example.org";

async fn signed_in(kit: &Kit, visitor: &mut Visitor, email: &str) -> Authority {
    assert!(matches!(visitor.give_first_factor(kit, &address(email)).await, Outcome::Complete { .. }));
    visitor.authority(&kit.auth).await.expect("signed in")
}

#[tokio::test]
async fn sessions_are_listed_and_ended_and_another_accounts_look_like_none() {
    let kit = Kit::new().await;
    let second = kit.second().await;
    let (mut here, mut phone, mut other) =
        (Visitor::at([203, 0, 113, 24]), Visitor::at([198, 51, 100, 7]), Visitor::at([192, 0, 2, 188]));
    let mara = signed_in(&kit, &mut here, MARA).await;
    let on_phone = signed_in(&kit, &mut phone, MARA).await;
    let stranger = signed_in(&kit, &mut other, "eve@example.org").await;

    let sessions = kit.auth.sessions().list(&mara).await.expect("answers");
    let seen: Vec<_> = sessions.iter().map(|session| (session.id, session.here, session.new_device, session.method)).collect();
    assert_eq!(seen, [(mara.session, true, false, Method::Code), (on_phone.session, false, true, Method::Code)]);
    assert_eq!(sessions[1].ip, Some(phone.from.ip));

    for nobodys in [stranger.session, Uuid::nil()] {
        assert!(!kit.auth.sessions().end(&mara, nobodys, &here.from).await.expect("answers"), "{nobodys}");
    }
    assert!(other.authority(&kit.auth).await.is_some(), "another account's session is nobody's business");

    assert!(kit.auth.sessions().end(&mara, on_phone.session, &here.from).await.expect("answers"));
    assert!(phone.authority(&second).await.is_none(), "over at once, on every instance");
    assert!(!kit.auth.sessions().end(&mara, on_phone.session, &here.from).await.expect("answers"), "it is over already");

    signed_in(&kit, &mut phone, MARA).await;
    let mut third = Visitor::at([192, 0, 2, 1]);
    signed_in(&kit, &mut third, MARA).await;
    assert_eq!(kit.auth.self_service().end_other_sessions(&mara, &here.from).await.expect("answers"), 2);
    assert!(phone.authority(&second).await.is_none() && third.authority(&second).await.is_none());
    assert!(here.authority(&second).await.is_some() && other.authority(&second).await.is_some());
    let ended =
        "select count(*) from auth_audit where event_type = 'session.revoked' and details->>'reason' = 'signed_out_elsewhere'";
    assert_eq!(kit.count(ended).await, 3);
}

/// Which browsers an account knows: their devices, and whether one is the one that asks.
async fn known(kit: &Kit, owner: &Authority, visitor: &Visitor) -> Vec<(Option<String>, bool)> {
    let known = kit.auth.self_service().known_browsers(owner, visitor.proof()).await.expect("answers");
    known.into_iter().map(|browser| (browser.device, browser.here)).collect()
}

#[tokio::test]
async fn browsers_that_have_signed_in_are_listed_and_forgotten_and_another_accounts_look_like_none() {
    let kit = Kit::new().await;
    let (mut here, mut phone, mut other) =
        (Visitor::at([203, 0, 113, 24]), Visitor::at([198, 51, 100, 7]), Visitor::at([192, 0, 2, 188]));
    phone.from = Requester::new(phone.from.ip, "Version/17.5 Mobile Safari/604.1 (iPhone)", "test");
    let mara = signed_in(&kit, &mut here, MARA).await;
    signed_in(&kit, &mut phone, MARA).await;
    let eve = signed_in(&kit, &mut other, "eve@example.org").await;
    let device = |name: &str| Some(name.to_owned());
    assert_eq!(known(&kit, &mara, &here).await, [(device("Safari on iPhone"), false), (device("Firefox on Linux"), true)]);

    let service = kit.auth.self_service();
    let ids = |browsers: Vec<KnownBrowser>| browsers.into_iter().map(|browser| browser.id).collect::<Vec<_>>();
    let theirs = ids(service.known_browsers(&eve, other.proof()).await.expect("answers"));
    for nobodys in [theirs[0], Uuid::nil()] {
        assert!(!service.forget_browser(&mara, nobodys, &here.from).await.expect("answers"), "{nobodys}");
    }
    let own = ids(service.known_browsers(&mara, here.proof()).await.expect("answers"));
    assert!(service.forget_browser(&mara, own[0], &here.from).await.expect("answers"));
    assert!(!service.forget_browser(&mara, own[0], &here.from).await.expect("answers"), "it is forgotten already");
    assert_eq!(known(&kit, &mara, &here).await, [(device("Firefox on Linux"), true)]);
    notices(&kit).await;
    kit.clock.advance(Duration::hours(1));
    signed_in(&kit, &mut phone, MARA).await;
    assert_eq!(notices(&kit).await.len(), 1, "its next sign-in is news");

    service.forget_browsers(&mara, &here.from).await.expect("answers");
    service.forget_browsers(&mara, &here.from).await.expect("answers");
    assert_eq!((known(&kit, &mara, &here).await, known(&kit, &eve, &other).await.len()), (vec![], 1));
    assert!(phone.authority(&kit.auth).await.is_some(), "forgetting signs nobody out");
    let forgotten: Vec<i64> = sqlx::query_scalar(
        "select (details->>'browsers')::bigint from auth_audit where event_type = 'browser.forgotten' order by created_at, id",
    )
    .fetch_all(&kit.pool)
    .await
    .expect("rows");
    assert_eq!(forgotten, [1, 2]);
}

/// Whoever ends all sessions may think that somebody has a copy of a cookie.
#[tokio::test]
async fn whoever_signs_out_everywhere_is_known_nowhere() {
    for how in ["owner", "administrator", "everybody"] {
        let kit = Kit::new().await;
        let (mut here, mut other, why) = (Visitor::at([203, 0, 113, 24]), Visitor::at([192, 0, 2, 188]), testkit::why("A copy"));
        let mara = signed_in(&kit, &mut here, MARA).await;
        let eve = signed_in(&kit, &mut other, "eve@example.org").await;
        match how {
            "owner" => drop(kit.auth.self_service().end_other_sessions(&mara, &here.from).await.expect("answers")),
            "administrator" => {
                kit.auth.administration().end_user_sessions(Actor::Operator, mara.user, &why).await.expect("ended");
            }
            _ => drop(kit.auth.administration().end_everybodys_sessions(None, &why).await.expect("ended")),
        }
        assert_eq!(known(&kit, &mara, &here).await, [], "{how}");
        assert_eq!(known(&kit, &eve, &other).await.len(), usize::from(how != "everybody"), "{how}");
    }
}

#[tokio::test]
async fn what_is_over_is_not_listed() {
    let kit = Kit::new().await;
    let (mut here, mut idle) = (Visitor::at([203, 0, 113, 24]), Visitor::at([198, 51, 100, 7]));
    signed_in(&kit, &mut idle, MARA).await;
    kit.clock.advance(Duration::hours(25));
    let mara = signed_in(&kit, &mut here, MARA).await;
    let sessions = kit.auth.sessions().list(&mara).await.expect("answers");
    assert_eq!(sessions.iter().map(|session| session.id).collect::<Vec<_>>(), [mara.session]);
}

/// Everything there is, by going through the pages one way, and back.
async fn walk(kit: &Kit, user: Uuid, filter: Filter) -> Vec<Uuid> {
    let ids = |page: &Page<Entry>| page.rows.iter().map(|entry| entry.id).collect::<Vec<_>>();
    let mut page = kit.auth.self_service().activity(user, filter, None).await.expect("answers");
    assert_eq!(page.newer, None, "there is nothing newer than the newest");
    let (mut all, mut pages) = (ids(&page), vec![ids(&page)]);
    while let Some(older) = page.older {
        let older = Cursor::parse(&older.to_string()).expect("its own text");
        page = kit.auth.self_service().activity(user, filter, Some(older)).await.expect("answers");
        assert!(page.rows.len() <= PAGE && !page.rows.is_empty());
        all.extend(ids(&page));
        pages.push(ids(&page));
    }
    for expected in pages.iter().rev().skip(1) {
        page = kit.auth.self_service().activity(user, filter, page.newer).await.expect("answers");
        assert_eq!(&ids(&page), expected, "back the same way");
    }
    all
}

#[tokio::test]
async fn activity_is_ones_own_whole_and_in_order_page_by_page() {
    let kit = Kit::new().await;
    let (mut here, mut other) = (Visitor::at([203, 0, 113, 24]), Visitor::at([192, 0, 2, 188]));
    let stranger = signed_in(&kit, &mut other, "eve@example.org").await;
    let mara = signed_in(&kit, &mut here, MARA).await;
    for _ in 0..30 {
        signed_in(&kit, &mut here, MARA).await;
    }
    // A mail and a session each, and the account.
    let all = walk(&kit, mara.user, Filter::All).await;
    assert_eq!(all.len(), 31 * 2 + 1);
    let mut sorted = all.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), all.len(), "none twice");
    sorted.reverse();
    assert_eq!(sorted, all, "newest first: ids sort by time");
    assert_eq!(walk(&kit, mara.user, Filter::SignIns).await.len(), 62);
    assert_eq!(walk(&kit, mara.user, Filter::Changes).await.len(), 1);
    assert_eq!(walk(&kit, mara.user, Filter::Problems).await.len(), 0);

    let theirs = walk(&kit, stranger.user, Filter::All).await;
    assert!(theirs.len() == 3 && theirs.iter().all(|id| !all.contains(id)));
    // Somebody else's cursor is a time, and shows one's own.
    let page = kit.auth.self_service().activity(stranger.user, Filter::All, None).await.expect("answers");
    let cursor = kit.auth.self_service().activity(mara.user, Filter::All, None).await.expect("answers").older;
    let by_cursor = kit.auth.self_service().activity(stranger.user, Filter::All, cursor).await.expect("answers");
    assert!(by_cursor.rows.iter().all(|entry| page.rows.iter().any(|own| own.id == entry.id)));

    kit.clock.advance(Duration::days(91));
    assert!(walk(&kit, mara.user, Filter::All).await.is_empty(), "shown for 90 days");
}

#[tokio::test]
async fn what_happened_at_one_moment_is_told_in_the_order_it_was_recorded() {
    let kit = Kit::new().await;
    for n in 0..8 {
        let mut visitor = Visitor::at([203, 0, 113, n]);
        let user = signed_in(&kit, &mut visitor, &format!("mara{n}@example.org")).await.user;
        let page = kit.auth.self_service().activity(user, Filter::All, None).await.expect("answers");
        let happened = page.rows.iter().map(|entry| entry.happened.as_str());
        // The mail was asked for at the same moment, as the clock stands still; its id is no audit row's.
        let audited: Vec<&str> = happened.filter(|happened| *happened != "link.requested").collect();
        assert_eq!(audited, ["session.created", "user.created"], "the newest first");
    }
}

async fn notices(kit: &Kit) -> Vec<Notice> {
    let letters = kit.letters().await;
    letters
        .into_iter()
        .filter_map(|letter| match letter.content {
            Content::Notice { notice, .. } => Some(notice),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn an_owner_is_told_of_a_browser_the_account_does_not_know_once_an_hour_each() {
    let kit = Kit::new().await;
    let mut first = Visitor::at([203, 0, 113, 24]);
    signed_in(&kit, &mut first, MARA).await;
    assert!(notices(&kit).await.is_empty(), "the first sign-in of all surprises nobody");
    signed_in(&kit, &mut first, MARA).await;
    assert!(notices(&kit).await.is_empty(), "a known browser neither");

    let mut new = Visitor::at([198, 51, 100, 7]);
    signed_in(&kit, &mut new, MARA).await;
    assert_eq!(notices(&kit).await, [Notice::NewSignIn { method: Method::Code, second: None }]);
    signed_in(&kit, &mut new, MARA).await;
    assert!(notices(&kit).await.is_empty(), "it is known now");

    // A private window: another browser each time, the same device.
    for (minutes, told) in [(0, 0), (61, 1)] {
        kit.clock.advance(Duration::minutes(minutes));
        signed_in(&kit, &mut Visitor::at([198, 51, 100, 7]), MARA).await;
        assert_eq!(notices(&kit).await.len(), told, "after {minutes} minutes");
    }
    signed_in(&kit, &mut Visitor::at([192, 0, 2, 9]), MARA).await;
    assert_eq!(notices(&kit).await.len(), 1, "another place is another thing to tell");
}
