//! The limits on mails and codes, by the clock and in parallel.

use auth::{
    crypto::{Code, KnownBrowserToken, LinkToken},
    policy::{
        Policy, SignUp,
        limits::{Limit, Rate},
    },
    primitives::requester::Requester,
    sign_in::first_factor::{ConfirmLinkError, EnterCodeError, Outcome, RequestLinkError},
};
use testkit::{Kit, Visitor, address, handover};
use time::Duration;

/// A browser of its own at that address: so that the 30 seconds of one browser don't matter.
async fn ask(kit: &Kit, ip: [u8; 4], email: &str) -> Result<(), (Limit, u64)> {
    let visitor = Visitor::at(ip);
    ask_from(kit, &visitor, email).await
}

async fn ask_from(kit: &Kit, visitor: &Visitor, email: &str) -> Result<(), (Limit, u64)> {
    match kit.auth.sign_in().request_link(&address(email), &visitor.nonce, visitor.proof(), &visitor.from).await {
        Ok(()) => Ok(()),
        Err(RequestLinkError::Limited(limited)) => Err((limited.limit, limited.wait.as_secs())),
        Err(other) => panic!("{other:?}"),
    }
}

fn host(n: usize) -> [u8; 4] {
    [10, 1, u8::try_from(n / 256).expect("few hosts"), u8::try_from(n % 256).expect("a byte")]
}

/// In a block of its own, as another holder's.
fn elsewhere(n: usize) -> [u8; 4] {
    [10, 2, u8::try_from(n).expect("few blocks"), 1]
}

#[tokio::test]
async fn one_browser_waits_thirty_seconds_between_two() {
    let kit = Kit::new().await;
    let visitor = Visitor::at(host(1));
    assert_eq!(ask_from(&kit, &visitor, "a@example.org").await, Ok(()));
    assert_eq!(ask_from(&kit, &visitor, "a@example.org").await, Err((Limit::LinkBrowser, 30)));
    kit.clock.advance(Duration::seconds(29));
    assert_eq!(ask_from(&kit, &visitor, "b@example.org").await, Err((Limit::LinkBrowser, 1)));
    kit.clock.advance(Duration::seconds(1));
    assert_eq!(ask_from(&kit, &visitor, "b@example.org").await, Ok(()));
}

#[tokio::test]
async fn refused_requests_leave_no_rows_behind() {
    let policy = Policy { sign_up: SignUp::Open, ..Policy::default() };
    let kit = Kit::with(Policy {
        passwordless_auth: true,
        limits: policy.limits.clone().with(Limit::LinkAll, Rate::new(1, std::time::Duration::from_mins(1))),
        ..policy
    })
    .await;
    assert_eq!(ask(&kit, host(0), "a@example.org").await, Ok(()));
    let rows = kit.count("select count(*) from rate_limits").await;
    for n in 1..50 {
        assert_eq!(ask(&kit, host(n), &format!("a{n}@example.org")).await, Err((Limit::LinkAll, 60)));
    }
    assert_eq!(kit.count("select count(*) from rate_limits").await, rows);
}

/// The rows of all tables.
const ROWS: &str = r"
    select sum((xpath('/row/n/text()', query_to_xml(format('select count(*) as n from %I', relname), false, true, '')))[1]::text::bigint)::bigint
    from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'";

/// As the table calls them.
const ACTS: [&str; 13] = [
    "ask for a mail, and a limit refuses",
    "open a link",
    "press an unknown link",
    "press a dead link",
    "press a link in another browser",
    "enter a code without a request",
    "enter a wrong code",
    "enter a code at a dead request",
    "enter a code while codes are off",
    "cancel a link",
    "open a link that reverts a change",
    "press a dead link that reverts a change",
    "see what becomes of a mail",
];

/// The acts of docs/limits.md, "What strangers can write", that may be repeated: each writes what it writes at most five times, and then
/// no row in any table.
#[tokio::test]
async fn no_act_before_sign_in_writes_rows_without_end() {
    let mut limits = auth::policy::limits::Limits::default();
    limits.set(Limit::LinkAll, Rate::new(9, std::time::Duration::from_hours(1)));
    let kit = Kit::with(Policy { passwordless_auth: true, sign_up: SignUp::Open, limits, ..Policy::default() }).await;
    let sign_in = kit.auth.sign_in();
    let asked = async |n: usize| {
        let visitor = Visitor::at(host(n));
        assert_eq!(ask_from(&kit, &visitor, &format!("a{n}@example.org")).await, Ok(()));
        let (token, code) = kit.sign_in_mail().await;
        (visitor, token, code)
    };
    let (used, used_token, used_code) = asked(1).await;
    sign_in.confirm_link(&used_token, used.proof(), &handover(), &used.from).await.expect("right");
    let (late, late_token, late_code) = asked(2).await;
    kit.clock.advance(Duration::minutes(11));
    let (live, live_token, _) = asked(3).await;
    let (guessed, _, right) = asked(4).await;
    let (cancelled, cancelled_token, cancelled_code) = asked(5).await;
    let (off, _, off_code) = asked(8).await;
    let far = "insert into wrong_codes values ('a8@example.org', 100, $1)";
    sqlx::query(far).bind(kit.auth.now()).execute(&kit.pool).await.expect("put");
    let (revert_token, unknown_token) = (auth::crypto::RevertToken::parse(&"A".repeat(43)), LinkToken::parse(&"A".repeat(43)));
    let (revert_token, unknown_token) = (revert_token.expect("well-formed"), unknown_token.expect("well-formed"));
    let wrong = Code::parse(if right.reveal() == "000000" { "111111" } else { "000000" }).expect("six digits");
    let stranger = Visitor::at(host(6));
    while ask(&kit, host(7), "b@example.org").await.is_ok() {}

    let act = async |which: &str, n: usize| match which {
        "ask for a mail, and a limit refuses" => {
            ask(&kit, host(100 + n), &format!("c{n}@example.org")).await.expect_err("everybody's limit");
        }
        "open a link" => {
            for token in [&used_token, &late_token, &live_token, &unknown_token] {
                sign_in.peek_link(token, stranger.proof()).await.expect("answers");
            }
        }
        "press an unknown link" => drop(sign_in.confirm_link(&unknown_token, live.proof(), &handover(), &live.from).await),
        "press a dead link" => {
            for token in [&used_token, &late_token, &cancelled_token] {
                drop(sign_in.confirm_link(token, used.proof(), &handover(), &used.from).await);
            }
        }
        "press a link in another browser" => {
            drop(sign_in.confirm_link(&live_token, stranger.proof(), &handover(), &stranger.from).await);
        }
        "enter a code without a request" => {
            drop(sign_in.enter_code(&wrong, stranger.proof(), &handover(), &stranger.from).await);
        }
        "enter a wrong code" => drop(sign_in.enter_code(&wrong, guessed.proof(), &handover(), &guessed.from).await),
        "enter a code at a dead request" => {
            for (visitor, code) in [(&used, &used_code), (&late, &late_code), (&cancelled, &cancelled_code)] {
                drop(sign_in.enter_code(code, visitor.proof(), &handover(), &visitor.from).await);
            }
        }
        "enter a code while codes are off" => drop(sign_in.enter_code(&off_code, off.proof(), &handover(), &off.from).await),
        "cancel a link" => sign_in.cancel_link(&cancelled_token, &stranger.from).await.expect("answers"),
        "open a link that reverts a change" => drop(kit.auth.self_service().peek_revert(&revert_token).await),
        "press a dead link that reverts a change" => {
            drop(kit.auth.self_service().revert(&revert_token, None, stranger.proof(), &stranger.from).await);
        }
        "see what becomes of a mail" => drop(sign_in.delivery(&used.nonce).await),
        other => panic!("{other}"),
    };
    for which in ACTS {
        let documented = include_str!("../../../docs/limits.md").lines().any(|line| line.starts_with(&format!("| {which}")));
        assert!(documented, "{which} stands in no row of docs/limits.md");
        sign_in.cancel_link(&cancelled_token, &stranger.from).await.expect("answers");
        for n in 0..5 {
            act(which, n).await;
        }
        let before = kit.count(ROWS).await;
        for n in 5..25 {
            act(which, n).await;
        }
        assert_eq!(kit.count(ROWS).await, before, "{which}");
    }
    let recorded = "select count(*) from auth_audit where event_type = 'link.refused' and details ->> 'reason' <> 'wrong_code'";
    assert_eq!(kit.count(recorded).await, 3 + 1 + 3, "the first of each request, method and reason is recorded");
}

#[tokio::test]
async fn sixty_four_presses_of_a_used_link_at_once_are_one_row() {
    let kit = Kit::new().await;
    let visitor = Visitor::at(host(1));
    assert_eq!(ask_from(&kit, &visitor, "a@example.org").await, Ok(()));
    let (token, _) = kit.sign_in_mail().await;
    kit.auth.sign_in().confirm_link(&token, visitor.proof(), &handover(), &visitor.from).await.expect("right");
    let changes: Vec<_> = (0..64).map(|_| handover()).collect();
    let pressed = changes.iter().map(|change| kit.auth.sign_in().confirm_link(&token, visitor.proof(), change, &visitor.from));
    assert!(futures::future::join_all(pressed).await.iter().all(Result::is_err));
    assert_eq!(kit.count("select count(*) from auth_audit where event_type = 'link.refused'").await, 1);
}

#[tokio::test]
async fn one_network_gets_four_mails_to_an_address_then_one_every_225_seconds() {
    let kit = Kit::new().await;
    for _ in 0..4 {
        assert_eq!(ask(&kit, host(1), "a@example.org").await, Ok(()));
    }
    // However the address is spelt.
    for spelling in ["a@example.org", "A@EXAMPLE.org", "a@example.org."] {
        assert_eq!(ask(&kit, host(1), spelling).await, Err((Limit::LinkAddressNetwork, 225)));
    }
    assert_eq!(ask(&kit, host(2), "a@example.org").await, Ok(()), "another network");
    assert_eq!(ask(&kit, host(1), "b@example.org").await, Ok(()), "another address");
    kit.clock.advance(Duration::seconds(224));
    assert_eq!(ask(&kit, host(1), "a@example.org").await, Err((Limit::LinkAddressNetwork, 1)));
    kit.clock.advance(Duration::seconds(1));
    assert_eq!(ask(&kit, host(1), "a@example.org").await, Ok(()));
    assert_eq!(ask(&kit, host(1), "a@example.org").await, Err((Limit::LinkAddressNetwork, 225)));
}

/// Then each block one in three hours, of which the one that has had it must wait.
#[tokio::test]
async fn one_address_gets_ten_mails_an_hour_from_all_networks() {
    let kit = Kit::new().await;
    for n in 0..10 {
        assert_eq!(ask(&kit, host(n), "a@example.org").await, Ok(()));
    }
    assert_eq!(ask(&kit, host(10), "a@example.org").await, Ok(()), "its block's own");
    assert_eq!(ask(&kit, host(11), "a@example.org").await, Err((Limit::LinkAddress, 10_800)));
    kit.clock.advance(Duration::seconds(360));
    assert_eq!(ask(&kit, host(11), "a@example.org").await, Ok(()));
    assert_eq!(ask(&kit, host(12), "a@example.org").await, Err((Limit::LinkAddress, 10_440)));
}

/// Strangers ask for one address whenever they can, each from a block of its own. Its owner, in a browser that the account doesn't
/// know, gets a mail at once, signs in with it whatever the strangers ask for meanwhile, and is served again after the wait told.
async fn the_owner_is_served_among(strangers: usize) {
    let kit = Kit::new().await;
    let everybody = async || {
        for n in 0..strangers {
            while ask(&kit, elsewhere(n), "mara@example.org").await.is_ok() {}
        }
    };
    // One alone gets the next in 225 seconds, and is still faster than the address's limit.
    let step = if strangers == 1 { 225 } else { 2_400 };
    let pass = async |mut seconds: i64| {
        while seconds > 0 {
            kit.clock.advance(Duration::seconds(step.min(seconds)));
            everybody().await;
            seconds -= step;
        }
        kit.letters().await;
    };
    everybody().await;
    pass(7_200).await;
    let home = [203, 0, 113, 24];
    for _ in 0..2 {
        let owner = Visitor::at(home);
        ask_from(&kit, &owner, "mara@example.org").await.expect("no stranger has taken the owner's own");
        let (link, _) = kit.sign_in_mail().await;
        pass(1).await;
        kit.auth.sign_in().confirm_link(&link, owner.proof(), &handover(), &owner.from).await.expect("nobody cancelled it");
        let (limit, wait) = ask(&kit, home, "mara@example.org").await.expect_err("the strangers have taken the rest");
        assert_eq!((limit, wait), (Limit::LinkAddress, 10_799));
        // As told, and the strangers come first.
        pass(10_799).await;
    }
}

#[tokio::test]
async fn an_owner_who_waits_as_told_is_served_among_one_stranger() {
    the_owner_is_served_among(1).await;
}

#[tokio::test]
async fn an_owner_who_waits_as_told_is_served_among_three_strangers() {
    the_owner_is_served_among(3).await;
}

#[tokio::test]
async fn an_owner_who_waits_as_told_is_served_among_a_hundred_strangers() {
    the_owner_is_served_among(100).await;
}

#[tokio::test]
async fn a_hundred_strangers_do_not_cancel_the_owners_request() {
    let kit = Kit::new().await;
    let owner = Visitor::at([203, 0, 113, 24]);
    ask_from(&kit, &owner, "mara@example.org").await.expect("the first");
    let (link, _) = kit.sign_in_mail().await;
    for n in 0..100 {
        kit.clock.advance(Duration::milliseconds(1));
        ask(&kit, elsewhere(n), "mara@example.org").await.expect("a block's own, if no more");
    }
    kit.auth.sign_in().confirm_link(&link, owner.proof(), &handover(), &owner.from).await.expect("live");
}

/// As docs/limits.md reckons it.
#[tokio::test]
async fn however_many_networks_ask_an_address_gets_130_mails_at_once() {
    let kit = Kit::new().await;
    let mut mails = 0;
    for n in 0..200 {
        while ask(&kit, elsewhere(n), "mara@example.org").await.is_ok() {
            mails += 1;
        }
    }
    assert_eq!(mails, 130);
    assert_eq!(ask(&kit, elsewhere(200), "mara@example.org").await, Err((Limit::LinkAddress, 90)));
    // Of one IPv6 /48 each /64 is no other.
    let subscriber = |n: u16| Visitor::at(std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, n, 0, 0, 0, 1));
    let mut mails = 0;
    for n in 0..20 {
        mails += usize::from(ask_from(&kit, &subscriber(n), "noor@example.org").await.is_ok());
    }
    assert_eq!(mails, 11);
}

#[tokio::test]
async fn a_refused_request_costs_no_other_limit_anything() {
    let kit = Kit::new().await;
    for n in 0..11 {
        ask(&kit, host(n), "a@example.org").await.expect("within the limits");
    }
    for _ in 0..50 {
        ask(&kit, host(99), "a@example.org").await.expect_err("the address is at its limit");
    }
    for n in 0..30 {
        assert_eq!(ask(&kit, host(99), &format!("b{n}@example.org")).await, Ok(()), "the network has all of its 30 left");
    }
    assert_eq!(ask(&kit, host(99), "c@example.org").await, Err((Limit::LinkNetwork, 30)));
}

#[tokio::test]
async fn two_hundred_at_once_on_two_servers_get_exactly_the_limit() {
    let kit = Kit::new().await;
    let second = kit.second().await;
    let visitors: Vec<Visitor> = (0..200).map(|n| Visitor::at(host(n))).collect();
    let email = address("a@example.org");
    let requests = visitors.iter().enumerate().map(|(n, visitor)| {
        let auth = if n % 2 == 0 { &kit.auth } else { &second };
        auth.sign_in().request_link(&email, &visitor.nonce, visitor.proof(), &visitor.from)
    });
    let taken = futures::future::join_all(requests).await.into_iter().flatten().count();
    assert_eq!(taken, 10 + 1, "the address's, and its block's own");
}

#[tokio::test]
async fn an_ipv6_subscriber_is_one_network() {
    let kit = Kit::new().await;
    let ask = |ip: &'static str| {
        let kit = &kit;
        async move {
            let visitor = Visitor::at(ip.parse::<std::net::IpAddr>().expect("an address"));
            ask_from(kit, &visitor, "a@example.org").await
        }
    };
    for ip in ["2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:2:3::", "2001:db8:1:2:ffff:ffff:ffff:ffff"] {
        assert_eq!(ask(ip).await, Ok(()));
    }
    assert_eq!(ask("2001:db8:1:2::5").await, Err((Limit::LinkAddressNetwork, 225)));
    assert_eq!(ask("2001:db8:1:3::1").await, Ok(()));
}

/// Asks for mails to ever other addresses until it is refused, and says how many came and what refused the next.
async fn ask_for_all(kit: &Kit, ip: impl Into<std::net::IpAddr>) -> (usize, (Limit, u64)) {
    let (ip, mut asked) = (ip.into(), 0);
    let name = ip.to_string().replace([':', '.'], "-");
    loop {
        match ask_from(kit, &Visitor::at(ip), &format!("{name}-{asked}@example.org")).await {
            Ok(()) => asked += 1,
            Err(refused) => return (asked, refused),
        }
    }
}

/// Who holds one /48 has 65,536 networks, who holds a /24 has 256.
#[tokio::test]
async fn many_networks_of_one_holder_count_together() {
    let kit = Kit::new().await;
    let subscriber = |n: u16| std::net::Ipv6Addr::new(0x2001, 0xdb8, 1, n, 0, 0, 0, 1);
    for n in 0..3 {
        assert_eq!(ask_for_all(&kit, subscriber(n)).await, (30, (Limit::LinkNetwork, 30)), "/64 {n}");
    }
    assert_eq!(ask_for_all(&kit, subscriber(255)).await, (0, (Limit::LinkNetwork56, 10)));
    for site in 1..3 {
        for n in 0..3 {
            assert_eq!(ask_for_all(&kit, subscriber(site * 256 + n)).await.0, 30, "/56 {site}, /64 {n}");
        }
    }
    assert_eq!(ask_for_all(&kit, subscriber(3 * 256)).await.0, 30);
    assert_eq!(ask_for_all(&kit, subscriber(4 * 256)).await, (0, (Limit::LinkNetwork48, 3)));
    let another = std::net::Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);
    ask_from(&kit, &Visitor::at(another), "b@example.org").await.expect("another holder's");

    for n in 0..10 {
        assert_eq!(ask_for_all(&kit, [192, 0, 2, n]).await.0, 30);
    }
    assert_eq!(ask_for_all(&kit, [192, 0, 2, 10]).await, (0, (Limit::LinkNetwork48, 3)));
    ask(&kit, [192, 0, 3, 1], "c@example.org").await.expect("another holder's");
}

/// Whoever asks for much, from however many blocks of one provider, leaves a part for the others.
#[tokio::test]
async fn a_part_of_all_is_kept_for_networks_that_ask_for_little() {
    let mut policy = Policy { passwordless_auth: true, sign_up: SignUp::Open, ..Policy::default() };
    policy.limits.set(Limit::LinkAll, Rate::new(400, std::time::Duration::from_hours(10)));
    let kit = Kit::with(policy).await;
    for n in 0..10 {
        assert_eq!(ask_for_all(&kit, elsewhere(n)).await.0, 30, "three quarters are for whoever comes first");
    }
    for n in 10..30 {
        assert_eq!(ask_for_all(&kit, elsewhere(n)).await, (3, (Limit::LinkAllCommon, 300)), "a block's own: {n}");
    }
    assert_eq!(ask_for_all(&kit, elsewhere(30)).await, (0, (Limit::LinkAllCommon, 15)), "what one provider gets of it");
    for n in 0..10 {
        assert_eq!(ask(&kit, [172, n, 0, 1], &format!("b{n}@example.org")).await, Ok(()), "others are served");
    }
    kit.clock.advance(Duration::seconds(15));
    assert_eq!(ask(&kit, elsewhere(30), "a@example.org").await, Ok(()), "as told");
    for n in 10..39 {
        assert_eq!(ask(&kit, [172, n, 0, 1], &format!("b{n}@example.org")).await, Ok(()));
    }
    assert_eq!(ask(&kit, [172, 40, 0, 1], "c@example.org").await, Err((Limit::LinkAll, 75)), "all is all");
}

fn any_wrong(code: &Code) -> Code {
    let digits = code.reveal().replace(' ', "");
    let first = if digits.starts_with('9') { '0' } else { '9' };
    Code::parse(&format!("{first}{}", &digits[1..])).expect("six digits")
}

#[tokio::test]
async fn thirty_wrong_codes_stop_codes_for_strangers_and_no_new_mail_helps() {
    let kit = Kit::new().await;
    let mut wrong = 0;
    'rounds: for n in 0.. {
        let visitor = Visitor::at(host(n));
        // Enough time for the mail limits, too little for the day's.
        kit.clock.advance(Duration::minutes(6));
        ask_from(&kit, &visitor, "a@example.org").await.expect("within the limits");
        let (_, code) = kit.sign_in_mail().await;
        for _ in 0..5 {
            match kit.auth.sign_in().enter_code(&any_wrong(&code), visitor.proof(), &handover(), &visitor.from).await {
                Err(EnterCodeError::Wrong { .. } | EnterCodeError::LastTry) => wrong += 1,
                Err(EnterCodeError::Limited(limited)) => {
                    assert_eq!(limited.limit, Limit::CodeAddress);
                    break 'rounds;
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(n < 20, "the limit never came");
    }
    // 30, and what half an hour let grow back.
    assert!((30..=31).contains(&wrong), "{wrong}");

    let visitor = Visitor::at([172, 16, 0, 1]);
    kit.clock.advance(Duration::minutes(6));
    ask_from(&kit, &visitor, "a@example.org").await.expect("within the limits");
    let (link, code) = kit.sign_in_mail().await;
    let right = kit.auth.sign_in().enter_code(&code, visitor.proof(), &handover(), &visitor.from).await;
    assert!(matches!(right, Err(EnterCodeError::Limited(_))), "even the right one: {right:?}");
    kit.auth.sign_in().confirm_link(&link, visitor.proof(), &handover(), &visitor.from).await.expect("links go on");
}

#[tokio::test]
async fn right_codes_count_against_no_limit() {
    let kit = Kit::new().await;
    for n in 0..40 {
        let visitor = Visitor::at(host(0));
        kit.clock.advance(Duration::minutes(7));
        ask_from(&kit, &visitor, "a@example.org").await.expect("within the limits");
        let (_, code) = kit.sign_in_mail().await;
        kit.auth
            .sign_in()
            .enter_code(&code, visitor.proof(), &handover(), &visitor.from)
            .await
            .unwrap_or_else(|error| panic!("{n}: {error:?}"));
    }
}

#[tokio::test]
async fn accounts_made_from_one_network_are_limited_where_they_are_made() {
    let mut policy = Policy { passwordless_auth: true, sign_up: SignUp::Open, ..Policy::default() };
    policy.limits.set(Limit::SignUpNetwork, Rate::new(2, std::time::Duration::from_hours(1)));
    let kit = Kit::with(policy).await;
    let sign_up = |n: usize| {
        let kit = &kit;
        async move {
            let visitor = Visitor::at(host(0));
            ask_from(kit, &visitor, &format!("a{n}@example.org")).await.expect("asking is free");
            let (token, _) = kit.sign_in_mail().await;
            kit.auth.sign_in().confirm_link(&token, visitor.proof(), &handover(), &visitor.from).await
        }
    };
    sign_up(0).await.expect("the first");
    sign_up(1).await.expect("the second");
    let third = sign_up(2).await;
    assert!(matches!(third, Err(ConfirmLinkError::Limited(limited)) if limited.limit == Limit::SignUpNetwork), "{third:?}");
    assert_eq!(kit.count("select count(*) from users").await, 2);
    assert_eq!(kit.count("select count(*) from magic_links where used = 1").await, 2, "the third link is still good for later");
}

/// The owner of an address has signed in before, in this browser. Then strangers ask for links to it every minute, from twenty
/// networks, for an hour and a half, and try codes. At any time the owner can ask and sign in, by link and by code.
#[tokio::test]
async fn a_stranger_never_keeps_the_owner_out_of_a_browser_that_has_signed_in_before() {
    let kit = Kit::new().await;
    let mut owner = Visitor::at([203, 0, 113, 24]);
    ask_from(&kit, &owner, "mara@example.org").await.expect("the first time");
    let (token, _) = kit.sign_in_mail().await;
    let Outcome::Complete { known_browser } =
        kit.auth.sign_in().confirm_link(&token, owner.proof(), &handover(), &owner.from).await.expect("live")
    else {
        panic!("no second factor")
    };
    owner.known = Some(known_browser);

    let strangers: Vec<Visitor> = (0..20).map(|n| Visitor::at(host(n))).collect();
    for minute in 0..90 {
        kit.clock.advance(Duration::minutes(1));
        let owners_turn = minute % 10 == 5;
        let mut owners_mail = None;
        if owners_turn {
            ask_from(&kit, &owner, "mara@example.org").await.unwrap_or_else(|limit| panic!("minute {minute}: {limit:?}"));
            owners_mail = Some(kit.sign_in_mail().await);
        }
        for stranger in &strangers {
            if ask_from(&kit, stranger, "mara@example.org").await.is_ok() {
                let (_, code) = kit.sign_in_mail().await;
                for _ in 0..5 {
                    let _ = kit.auth.sign_in().enter_code(&any_wrong(&code), stranger.proof(), &handover(), &stranger.from).await;
                }
            }
        }
        if let Some((token, code)) = owners_mail {
            // After the strangers have had their minute.
            if minute % 20 == 5 {
                kit.auth
                    .sign_in()
                    .confirm_link(&token, owner.proof(), &handover(), &owner.from)
                    .await
                    .unwrap_or_else(|error| panic!("minute {minute}: {error:?}"));
            } else {
                kit.auth
                    .sign_in()
                    .enter_code(&any_wrong(&code), owner.proof(), &handover(), &owner.from)
                    .await
                    .expect_err("a slip");
                kit.auth
                    .sign_in()
                    .enter_code(&code, owner.proof(), &handover(), &owner.from)
                    .await
                    .unwrap_or_else(|error| panic!("minute {minute}: {error:?}"));
            }
        }
    }
    let an_hour = "select count(*) from magic_links where not from_known_browser and created_at > (select max(created_at) from magic_links) - interval '1 hour'";
    assert!(kit.count(an_hour).await <= 21, "and the owner's inbox is not flooded: the strangers' block has one of its own");
}

#[tokio::test]
async fn strangers_crowd_out_each_other_and_never_a_known_browser() {
    let mut policy = Policy { passwordless_auth: true, sign_up: SignUp::Open, ..Policy::default() };
    policy.limits.set(Limit::LinkAddress, Rate::new(1_000, std::time::Duration::from_hours(1)));
    let kit = Kit::with(policy).await;
    let mut owner = Visitor::at([203, 0, 113, 24]);
    ask_from(&kit, &owner, "mara@example.org").await.expect("the first time");
    let (token, _) = kit.sign_in_mail().await;
    let Outcome::Complete { known_browser } =
        kit.auth.sign_in().confirm_link(&token, owner.proof(), &handover(), &owner.from).await.expect("live")
    else {
        panic!("no second factor")
    };
    owner.known = Some(known_browser);
    kit.clock.advance(Duration::minutes(1));
    ask_from(&kit, &owner, "mara@example.org").await.expect("its own budget");
    let (token, _) = kit.sign_in_mail().await;
    for n in 0..160 {
        kit.clock.advance(Duration::milliseconds(1));
        ask(&kit, host(n), "mara@example.org").await.expect("within the raised limit");
    }
    assert_eq!(
        kit.count("select count(*) from magic_links where used = 0 and closed_at is null and not from_known_browser").await,
        150
    );
    kit.auth.sign_in().confirm_link(&token, owner.proof(), &handover(), &owner.from).await.expect("still live");
}

/// The cookie is the browser's word. Only one that was given to it when this very account signed in there brings limits of its own.
#[tokio::test]
async fn no_made_up_old_or_other_accounts_cookie_makes_a_browser_known() {
    let kit = Kit::new().await;
    let mut owner = Visitor::at(host(0));
    owner.give_first_factor(&kit, &address("mara@example.org")).await;
    Visitor::at(host(1)).give_first_factor(&kit, &address("noor@example.org")).await;
    let known: &[&str] = &["code_known_browser", "link_browser", "link_known_browser"];
    let stranger: &[&str] = &[
        "code_address",
        "code_network",
        "link_address",
        "link_address_network",
        "link_all",
        "link_all_common",
        "link_browser",
        "link_network",
        "link_network_48",
    ];
    let made_up = Some(KnownBrowserToken::new().into());
    for (cookie, email, days, counted) in [
        (&owner.known, "mara@example.org", 0, known),
        (&made_up, "mara@example.org", 0, stranger),
        (&owner.known, "noor@example.org", 0, stranger),
        (&owner.known, "mara@example.org", 365, stranger),
    ] {
        kit.clock.advance(Duration::days(days));
        sqlx::query("delete from rate_limits").execute(&kit.pool).await.expect("deleted");
        let visitor = Visitor { known: cookie.clone(), ..Visitor::at(host(2)) };
        ask_from(&kit, &visitor, email).await.expect("within the limits");
        let (_, code) = kit.sign_in_mail().await;
        let wrong = kit.auth.sign_in().enter_code(&any_wrong(&code), visitor.proof(), &handover(), &visitor.from).await;
        assert!(matches!(wrong, Err(EnterCodeError::Wrong { .. })), "{wrong:?}");
        let names: Vec<String> =
            sqlx::query_scalar("select name from rate_limits order by name").fetch_all(&kit.pool).await.expect("names");
        assert_eq!(names, counted, "{email} {days}");
    }
}

/// What a browser's wrong code for an address is counted against.
async fn counted_against(kit: &Kit, visitor: &Visitor, email: &str) -> Vec<String> {
    sqlx::query("delete from rate_limits").execute(&kit.pool).await.expect("deleted");
    kit.clock.advance(Duration::minutes(1));
    ask_from(kit, visitor, email).await.expect("within the limits");
    let (_, code) = kit.sign_in_mail().await;
    kit.auth.sign_in().enter_code(&any_wrong(&code), visitor.proof(), &handover(), &visitor.from).await.expect_err("wrong");
    let names = "select name from rate_limits where name like 'code_%' order by name";
    sqlx::query_scalar(names).fetch_all(&kit.pool).await.expect("names")
}

/// On a shared computer somebody signs in first, and keeps a copy of the cookie.
#[tokio::test]
async fn a_cookie_copied_before_an_account_signed_in_is_worth_nothing_for_it() {
    let kit = Kit::new().await;
    let mut shared = Visitor::at(host(0));
    shared.give_first_factor(&kit, &address("eve@example.org")).await;
    let copy = shared.known.clone();
    shared.give_first_factor(&kit, &address("mara@example.org")).await;
    let known = ["code_known_browser"];
    for email in ["mara@example.org", "eve@example.org"] {
        assert_eq!(counted_against(&kit, &shared, email).await, known, "both are known in this browser");
    }
    let copied = Visitor { known: copy, ..Visitor::at(host(0)) };
    assert_eq!(counted_against(&kit, &copied, "eve@example.org").await, known);
    assert_eq!(counted_against(&kit, &copied, "mara@example.org").await, ["code_address", "code_network"]);
    let before = kit.count("select count(*) from auth_audit where details->>'new_device' = 'true'").await;
    let mut copied = Visitor { known: copied.known, ..Visitor::at(host(0)) };
    copied.give_first_factor(&kit, &address("mara@example.org")).await;
    assert_eq!(kit.count("select count(*) from auth_audit where details->>'new_device' = 'true'").await, before + 1, "it is told");
}

#[tokio::test]
async fn a_known_browsers_cookie_from_another_network_and_device_makes_no_browser_known() {
    let kit = Kit::new().await;
    let mut owner = Visitor::at([203, 0, 113, 24]);
    owner.give_first_factor(&kit, &address("mara@example.org")).await;
    let phone = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Version/17.5 Mobile/15E148 Safari/604.1";
    let turns_up = |ip: [u8; 4], user_agent: Option<&str>| {
        let visitor = Visitor { known: owner.known.clone(), ..Visitor::at(ip) };
        let from = Requester::new(visitor.from.ip, user_agent.unwrap_or(visitor.from.user_agent()), "test");
        Visitor { from, ..visitor }
    };
    let (known, stranger) = (vec!["code_known_browser"], vec!["code_address", "code_network"]);
    for (ip, user_agent, counted) in
        [([203, 0, 113, 7], Some(phone), &known), ([198, 51, 100, 7], None, &known), ([203, 0, 114, 24], Some(phone), &stranger)]
    {
        assert_eq!(&counted_against(&kit, &turns_up(ip, user_agent), "mara@example.org").await, counted, "{ip:?} {user_agent:?}");
    }
    // Its sign-in there is one in a new browser, and the owner's stays known.
    let mut thief = turns_up([203, 0, 114, 24], Some(phone));
    thief.give_first_factor(&kit, &address("mara@example.org")).await;
    assert_eq!(kit.count("select count(*) from sessions where new_device").await, 1);
    assert_eq!(counted_against(&kit, &owner, "mara@example.org").await, known);
}

/// The version before gave one token to all accounts of a browser, and noted no network and no device.
#[tokio::test]
async fn an_older_versions_cookie_is_good_until_its_accounts_next_sign_in() {
    let kit = Kit::new().await;
    let mut owner = Visitor::at([203, 0, 113, 24]);
    owner.give_first_factor(&kit, &address("mara@example.org")).await;
    sqlx::query("update known_browsers set ip = null, device = null").execute(&kit.pool).await.expect("updated");
    let mut copied = Visitor { known: owner.known.clone(), ..Visitor::at([198, 51, 100, 7]) };
    copied.from = Requester::new(copied.from.ip, "curl/8.5.0", "test");
    assert_eq!(counted_against(&kit, &copied, "mara@example.org").await, ["code_known_browser"]);

    owner.give_first_factor(&kit, &address("mara@example.org")).await;
    assert_eq!(kit.count("select count(*) from known_browsers where device = 'Firefox on Linux'").await, 1);
    assert_eq!(kit.count("select count(*) from sessions where new_device").await, 0);
    let copied = Visitor { nonce: auth::crypto::BrowserNonce::new(), from: owner.from.clone(), ..copied };
    assert_eq!(counted_against(&kit, &copied, "mara@example.org").await, ["code_address", "code_network"], "the copy is dead");
    assert_eq!(counted_against(&kit, &owner, "mara@example.org").await, ["code_known_browser"]);
}

fn unlimited() -> Policy {
    let limits = auth::policy::limits::Limits::off();
    Policy { passwordless_auth: true, sign_up: SignUp::Open, limits, ..Policy::default() }
}

/// Counted before anything is compared: also of many tries at once, and whatever the limits.
#[tokio::test]
async fn a_known_browser_gets_a_hundred_wrong_codes_and_then_only_the_link_until_it_is_used() {
    let kit = Kit::with(unlimited()).await;
    let (mut owner, mara) = (Visitor::at(host(0)), address("mara@example.org"));
    owner.give_first_factor(&kit, &mara).await;
    sqlx::query("update known_browsers set wrong_codes = 97").execute(&kit.pool).await.expect("updated");
    let enter = async |code: &Code| kit.auth.sign_in().enter_code(code, owner.proof(), &handover(), &owner.from).await;
    kit.clock.advance(Duration::minutes(1));
    ask_from(&kit, &owner, "mara@example.org").await.expect("no limits");
    let (_, code) = kit.sign_in_mail().await;
    let wrong = any_wrong(&code);
    let refused = futures::future::join_all((0..5).map(|_| enter(&wrong))).await;
    let off = |outcome: &Result<Outcome, EnterCodeError>| matches!(outcome, Err(EnterCodeError::CodesOff));
    assert!(refused.iter().filter(|outcome| off(outcome)).count() >= 3, "{refused:?}");
    let compared = "select count(*) from auth_audit where event_type = 'link.refused' and details->>'reason' = 'wrong_code'";
    assert_eq!(kit.count(compared).await, 3);

    kit.clock.advance(Duration::minutes(1));
    ask_from(&kit, &owner, "mara@example.org").await.expect("no limits");
    let (token, code) = kit.sign_in_mail().await;
    assert!(off(&enter(&code).await), "also the right one of a new mail");
    assert!(kit.auth.sign_in().codes_are_off(&mara, owner.proof(), &owner.from).await.expect("answers"));
    let elsewhere = Visitor::at(host(1));
    assert!(!kit.auth.sign_in().codes_are_off(&mara, elsewhere.proof(), &elsewhere.from).await.expect("answers"));
    kit.auth.sign_in().confirm_link(&token, owner.proof(), &handover(), &owner.from).await.expect("the link works");
    assert!(!kit.auth.sign_in().codes_are_off(&mara, owner.proof(), &owner.from).await.expect("answers"));

    sqlx::query("update known_browsers set wrong_codes = 99").execute(&kit.pool).await.expect("updated");
    kit.clock.advance(Duration::minutes(1));
    ask_from(&kit, &owner, "mara@example.org").await.expect("no limits");
    let (_, code) = kit.sign_in_mail().await;
    enter(&code).await.expect("a right code is no wrong one");
    assert_eq!(kit.count("select wrong_codes::bigint from known_browsers").await, 99, "and only a link begins anew");
}

/// The same for every address: nobody learns by it whether there is an account. Counted before anything is compared, also of many tries at
/// once on two servers, and whatever the limits; and no stranger keeps the owner out by it.
#[tokio::test]
async fn after_a_hundred_wrong_codes_for_an_address_only_the_link_works_until_it_is_used() {
    for email in ["mara@example.org", "nobody@example.org"] {
        let kit = Kit::with(unlimited()).await;
        let second = kit.second().await;
        let mut owner = Visitor::at(host(0));
        owner.give_first_factor(&kit, &address("mara@example.org")).await;
        let sign_in = kit.auth.sign_in();
        let off = |outcome: &Result<Outcome, EnterCodeError>| matches!(outcome, Err(EnterCodeError::CodesOff));
        sqlx::query("insert into wrong_codes values ($1, 93, $2)")
            .bind(email)
            .bind(kit.auth.now())
            .execute(&kit.pool)
            .await
            .expect("put");
        let (one, two) = (Visitor::at(host(1)), Visitor::at(host(2)));
        let mut tries = Vec::new();
        for visitor in [&one, &two] {
            ask_from(&kit, visitor, email).await.expect("no limits");
            let (_, code) = kit.sign_in_mail().await;
            tries.extend((0..5).map(|n| (if n % 2 == 0 { &*kit.auth } else { &*second }, visitor, any_wrong(&code))));
        }
        let guess = async |(auth, visitor, wrong): &(&auth::Auth, &Visitor, Code)| {
            auth.sign_in().enter_code(wrong, visitor.proof(), &handover(), &visitor.from).await
        };
        let refused = futures::future::join_all(tries.iter().map(guess)).await;
        assert!(refused.iter().filter(|outcome| off(outcome)).count() >= 3, "{email}: {refused:?}");
        let compared = "select count(*) from auth_audit where event_type = 'link.refused' and details->>'reason' = 'wrong_code'";
        assert_eq!(kit.count(compared).await, 7, "{email}");

        kit.clock.advance(Duration::minutes(1));
        let stranger = Visitor::at(host(3));
        assert!(sign_in.codes_are_off(&address(email), stranger.proof(), &stranger.from).await.expect("answers"));
        ask_from(&kit, &stranger, email).await.expect("no limits");
        let newest = kit.letters().await.pop().expect("a mail");
        let auth::delivery::Content::SignIn { token, code, codes_off, .. } = newest.content else { panic!("{newest:?}") };
        assert!(codes_off, "the mail leads to the link alone");
        let right = sign_in.enter_code(&code, stranger.proof(), &handover(), &stranger.from).await;
        assert!(off(&right), "{email}: {right:?}");
        if email == "mara@example.org" {
            let known = sign_in.codes_are_off(&address(email), owner.proof(), &owner.from).await.expect("answers");
            assert!(!known, "strangers turn nothing off in the owner's browser");
            owner.give_first_factor(&kit, &address(email)).await;
            let off = sign_in.codes_are_off(&address(email), stranger.proof(), &stranger.from).await.expect("answers");
            assert!(off, "a right code turns nothing on");
            ask_from(&kit, &stranger, email).await.expect("no limits");
        }
        let newest = kit.letters().await.pop();
        let token = match newest.map(|letter| letter.content) {
            Some(auth::delivery::Content::SignIn { token, .. }) => token,
            _ => token,
        };
        sign_in.confirm_link(&token, stranger.proof(), &handover(), &stranger.from).await.expect("the link works");
        assert!(!sign_in.codes_are_off(&address(email), stranger.proof(), &stranger.from).await.expect("answers"));
        Visitor::at(host(4)).give_first_factor(&kit, &address(email)).await;
    }
}

#[tokio::test]
async fn a_count_of_wrong_codes_ends_with_its_address_and_right_ones_leave_none() {
    let kit = Kit::with(unlimited()).await;
    Visitor::at(host(0)).give_first_factor(&kit, &address("mara@example.org")).await;
    assert_eq!(kit.count("select count(*) from wrong_codes").await, 0, "a right code is no wrong one");
    for (n, email) in ["mara@example.org", "nobody@example.org"].into_iter().enumerate() {
        let visitor = Visitor::at(host(n + 1));
        ask_from(&kit, &visitor, email).await.expect("no limits");
        let (_, code) = kit.sign_in_mail().await;
        for _ in 0..2 {
            let wrong = kit.auth.sign_in().enter_code(&any_wrong(&code), visitor.proof(), &handover(), &visitor.from).await;
            assert!(matches!(wrong, Err(EnterCodeError::Wrong { .. })), "{wrong:?}");
        }
        if email == "mara@example.org" {
            kit.auth.sign_in().enter_code(&code, visitor.proof(), &handover(), &visitor.from).await.expect("right");
        }
    }
    assert_eq!(kit.count("select sum(failures) from wrong_codes").await, 4);
    kit.clock.advance(Duration::days(91));
    kit.auth.operations().housekeep().await.expect("done");
    assert_eq!(kit.count("select count(*) from wrong_codes where email_key = 'mara@example.org'").await, 1, "an account's stays");
    assert_eq!(kit.count("select count(*) from wrong_codes").await, 1);
}

/// Of many presses at once most find the code used. They compared nothing, and must not count as wrong codes.
#[tokio::test]
async fn tries_that_compare_nothing_count_against_no_limit() {
    let kit = Kit::new().await;
    let visitor = Visitor::at(host(0));
    ask_from(&kit, &visitor, "a@example.org").await.expect("within the limits");
    let (_, code) = kit.sign_in_mail().await;
    let tries: Vec<_> = (0..20)
        .map(|_| {
            let (auth, code, visitor) = (&kit.auth, &code, &visitor);
            async move { auth.sign_in().enter_code(code, visitor.proof(), &handover(), &visitor.from).await }
        })
        .collect();
    assert_eq!(futures::future::join_all(tries).await.into_iter().flatten().count(), 1);
    assert_eq!(
        kit.count("select count(*) from rate_limits where name like 'code_%' and tat > (select created_at from magic_links)").await,
        0
    );
}
