//! The overview's figures against the same, counted by hand on the audit.

use auth::{
    Auth,
    factors::totp::{self, Secret},
    flag::Target,
    reporting::overview::{Counts, Overview, Seconds, Span},
    sign_in::{
        second_factor::{Factor, PendingSignIn},
        step_up::StepUpSession,
    },
};
use testkit::{Kit, Visitor, address, handover};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// Below `most`.
fn any(most: u32) -> u32 {
    u32::from_le_bytes(auth::crypto::random()) % most
}

async fn happened(kit: &Kit, at: OffsetDateTime, event: &str, details: serde_json::Value) {
    sqlx::query("insert into auth_audit (id, created_at, event_type, details) values ($1, $2, $3, $4)")
        .bind(Uuid::from_bytes(auth::crypto::random()))
        .bind(at)
        .bind(event)
        .bind(details)
        .execute(&kit.pool)
        .await
        .expect("written");
}

/// Something that the overview counts, or that looks like it.
async fn something(kit: &Kit, at: OffsetDateTime) {
    let one_of = |words: &[&str]| words[any(u32::try_from(words.len()).expect("few")) as usize].to_owned();
    let ms = [any(400), any(9_000), any(150_000), any(2_000_000)][any(4) as usize];
    let level = one_of(&["email", "two_factor", "first_factor"]);
    let kind = one_of(&["sign_in", "no_account", "account_off", "not_yet", "new_sign_in", "invite"]);
    let details = serde_json::json!({ "method": one_of(&["link", "code"]), "level": level, "kind": kind,
        "reason": one_of(&["expired", "wrong_code", "sign_in.finished:link"]), "after_ms": ms });
    let event =
        ["link.requested", "mail.sent", "link.redeemed", "link.refused", "session.created", "session.revoked", "totp.refused"];
    happened(kit, at, &one_of(&event), details).await;
}

/// What happened since `from` and before `until`, from the audit itself.
async fn by_hand(kit: &Kit, from: OffsetDateTime, until: OffsetDateTime) -> Counts {
    let count = async |condition: &str| {
        let sql = format!("select count(*) from auth_audit where created_at >= $1 and created_at < $2 and {condition}");
        let n: i64 =
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(from).bind(until).fetch_one(&kit.pool).await.expect("counted");
        n.unsigned_abs()
    };
    let times = async |condition: &str| -> Seconds {
        let sql = format!(
            "select (details ->> 'after_ms')::bigint from auth_audit where created_at >= $1 and created_at < $2 and {condition}"
        );
        let all: Vec<i64> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(from).bind(until).fetch_all(&kit.pool).await.expect("read");
        all.into_iter().map(|ms| (rounded(ms.unsigned_abs()), 1)).collect()
    };
    let finished = "event_type = 'session.created' and details ->> 'level' in ('email', 'two_factor')";
    Counts {
        asked: count("event_type = 'link.requested'").await,
        mailed: count("event_type = 'mail.sent' and details ->> 'kind' in ('sign_in', 'no_account', 'account_off', 'not_yet')")
            .await,
        used: count("event_type = 'link.redeemed'").await,
        refused: count("event_type = 'link.refused'").await,
        by_link: count(&format!("{finished} and details ->> 'method' = 'link'")).await,
        by_code: count(&format!("{finished} and details ->> 'method' = 'code'")).await,
        sign_in: times(finished).await,
        mail: times("event_type = 'mail.sent'").await,
    }
}

/// Whole seconds, up, and of those two digits.
fn rounded(ms: u64) -> u32 {
    let seconds = u32::try_from(ms.div_ceil(1_000)).expect("hours at most").max(1);
    let unit = match seconds {
        0..100 => 1,
        100..1_000 => 10,
        _ => 100,
    };
    seconds.div_ceil(unit) * unit
}

async fn agrees(kit: &Kit, auth: &Auth, span: Span) -> Overview {
    let overview = auth.reporting().overview(span).await.expect("answers");
    let width = Duration::hours(i64::from(span.hours()));
    let end = overview.buckets.last().expect("one at least").at + width;
    for bucket in &overview.buckets {
        assert_eq!(bucket.counts, by_hand(kit, bucket.at, bucket.at + width).await, "{span:?} {}", bucket.at);
    }
    let from = overview.from();
    assert_eq!(overview.whole, by_hand(kit, from, end).await, "{span:?}");
    if let Some(before) = &overview.before {
        assert_eq!(*before, by_hand(kit, from - (end - from), from).await, "{span:?} before");
    }
    overview
}

#[tokio::test]
async fn every_figure_is_what_counting_by_hand_comes_to() {
    let kit = Kit::new().await;
    let other = kit.second().await;
    let began = kit.auth.now();
    // A month, with nights and a weekend in which no server runs.
    while kit.auth.now() < began + Duration::days(31) {
        let step = if any(20) == 0 { Duration::hours(61) } else { Duration::minutes(i64::from(any(900)) + 1) };
        let last = kit.auth.now();
        kit.clock.advance(step);
        for _ in 0..any(25) {
            let at = last + (step * f64::from(any(1_000)) / 1_000.0);
            something(&kit, at).await;
        }
        let servers = [&kit.auth, &other];
        servers[any(2) as usize].rollout().watch().await.expect("looked");
        // Begun a while ago, committed after the look.
        let late = kit.auth.now() - Duration::seconds(i64::from(any(590)));
        something(&kit, late).await;
        kit.clock.advance(Duration::seconds(i64::from(any(300)) + 30));
    }
    kit.auth.rollout().watch().await.expect("looked");
    for &span in Span::ALL {
        let overview = agrees(&kit, &other, span).await;
        let whole = &overview.whole;
        assert!(span == Span::Day || (whole.asked > 0 && whole.finished() > 0 && whole.sign_in.quantile(50).is_some()));
        assert_eq!(overview.before.is_some(), span != Span::Month, "{span:?}: there was nobody two months ago");
        assert_eq!(overview.counted_until, Some(kit.auth.now()));
    }
}

#[tokio::test]
async fn what_was_there_before_the_first_count_is_made_up_for_once() {
    let kit = Kit::new().await;
    let now = kit.auth.now();
    for n in 0..60 {
        something(&kit, now - Duration::hours(20 * n) - Duration::seconds(7)).await;
    }
    for odd in [serde_json::json!({ "after_ms": "x" }), serde_json::json!([1]), serde_json::json!({ "reason": "admin's words: 7" })]
    {
        happened(&kit, now - Duration::seconds(7), "two_factor.reset", odd).await;
    }
    let empty = kit.auth.reporting().overview(Span::Month).await.expect("answers");
    assert_eq!((empty.counted_until, empty.since, &empty.whole), (None, None, &Counts::default()));
    kit.auth.rollout().watch().await.expect("looked");
    agrees(&kit, &kit.auth, Span::Month).await;
    // Again from the start, as after a restore: nothing is counted twice.
    sqlx::query("delete from scheduled_tasks").execute(&kit.pool).await.expect("deleted");
    kit.auth.rollout().watch().await.expect("looked");
    agrees(&kit, &kit.auth, Span::Month).await;
}

/// The application's role can add rows that no index takes, words where a number belongs, and numbers that don't fit when added up.
#[tokio::test]
async fn no_row_ends_counting() {
    let kit = Kit::new().await;
    let now = kit.auth.now();
    // Too long for an index, and of letters that PostgreSQL can't compress.
    let long: String = sqlx::query_scalar("select string_agg(md5(n::text), '') from generate_series(1, 400) n")
        .fetch_one(&kit.pool)
        .await
        .expect("made");
    for (event, details) in [
        ("link.refused", serde_json::json!({ "reason": long })),
        ("link.refused", serde_json::json!({ "reason": "x.seconds:y" })),
        ("session.created", serde_json::json!({ "level": "email", "method": long })),
        ("session.created", serde_json::json!({ "level": "email", "method": "x.seconds:y" })),
        ("session.created", serde_json::json!({ "level": "email", "method": "link", "x": long })),
        (&format!("{}.refused", &long[..2500]), serde_json::json!({ "reason": &long[..900] })),
        ("mail.seconds:soon", serde_json::json!({})),
        ("sign_in.seconds:99999999999", serde_json::json!({})),
        ("link.requested", serde_json::json!({})),
    ] {
        happened(&kit, now - Duration::seconds(7), event, details).await;
    }
    for (name, minutes) in [("link.redeemed", 1), ("link.redeemed", 2), ("http.answers", 0), (&long[..2600], 1)] {
        sqlx::query("insert into minute_counts values (date_trunc('minute', $1) - make_interval(mins => $2), $3, $4)")
            .bind(now)
            .bind(minutes)
            .bind(name)
            .bind(i64::MAX)
            .execute(&kit.pool)
            .await
            .expect("the application may");
    }
    kit.auth.reporting().count_answer(200);
    kit.auth.rollout().watch().await.expect("looked");
    let overview = kit.auth.reporting().overview(Span::Day).await.expect("answers");
    assert_eq!(overview.counted_until, Some(now));
    assert_eq!((overview.whole.asked, overview.whole.refused), (1, 2));
    assert_eq!(overview.whole.by_link, 0, "details of this length are no server's, and reading thousands takes too long");
    let longest: i32 =
        sqlx::query_scalar("select max(length(name)) from minute_counts where value = 1").fetch_one(&kit.pool).await.expect("read");
    assert_eq!(longest, 64);
    // No more of it was held back for the next look.
    assert_eq!(kit.count("select value from minute_counts where name = 'http.answers'").await, 1_000_000_000_000_000);
}

/// Somebody has filled a minute with rows: it takes longer than a statement may.
#[tokio::test]
async fn a_minute_that_can_not_be_counted_in_time_is_left_out() {
    let kit = Kit::new().await;
    let owner = kit.database.owner().await;
    sqlx::raw_sql(
        "create function too_long() returns trigger language plpgsql as
            $$ begin raise exception 'canceling statement' using errcode = 'query_canceled'; end $$;
         create trigger too_long before insert on minute_counts for each row when (new.name = 'x.too_long') execute function too_long()",
    )
    .execute(&owner)
    .await
    .expect("made");
    let now = kit.auth.now();
    for minutes in 1..200 {
        happened(&kit, now - Duration::minutes(minutes), "link.requested", serde_json::json!({})).await;
    }
    happened(&kit, now - Duration::minutes(77), "x.too_long", serde_json::json!({})).await;
    kit.auth.rollout().watch().await.expect("looked");
    let overview = kit.auth.reporting().overview(Span::Day).await.expect("answers");
    assert_eq!((overview.whole.asked, overview.counted_until), (198, Some(now)));

    // What fails in another way is made up for, however long ago it is.
    sqlx::raw_sql("alter table period_counts rename to elsewhere").execute(&owner).await.expect("renamed");
    kit.clock.advance(Duration::hours(1));
    happened(&kit, now + Duration::minutes(5), "link.requested", serde_json::json!({})).await;
    kit.auth.rollout().watch().await.expect("looked");
    sqlx::raw_sql("alter table elsewhere rename to period_counts").execute(&owner).await.expect("renamed");
    kit.clock.advance(Duration::hours(1));
    kit.auth.rollout().watch().await.expect("looked");
    assert_eq!(kit.auth.reporting().overview(Span::Day).await.expect("answers").whole.asked, 199);
}

#[tokio::test]
async fn how_long_a_sign_in_and_its_mail_took() {
    let kit = Kit::new().await;
    let visitor = Visitor::at([203, 0, 113, 24]);
    let ask = async || {
        kit.auth
            .sign_in()
            .request_link(&address("mara@example.org"), &visitor.nonce, visitor.proof(), &visitor.from)
            .await
            .expect("taken");
    };
    ask().await;
    kit.clock.advance(Duration::milliseconds(6_200));
    let (link, _) = kit.sign_in_mail().await;
    kit.clock.advance(Duration::seconds(24));
    kit.auth.sign_in().confirm_link(&link, visitor.proof(), &handover(), &visitor.from).await.expect("signs in");
    kit.clock.advance(Duration::seconds(30));
    kit.auth.rollout().watch().await.expect("looked");
    let overview = kit.auth.reporting().overview(Span::Day).await.expect("answers");
    let counts = &overview.whole;
    assert_eq!((counts.mail.quantile(95), counts.sign_in.quantile(50)), (Some(7), Some(31)));
    assert_eq!((counts.asked, counts.mailed, counts.used, counts.by_link, counts.by_code), (1, 1, 1, 1, 0));
    assert_eq!(overview.buckets.last().expect("one").counts, *counts, "all in the hour that is under way");
    assert_eq!(overview.since.map(|since| kit.auth.now() - since < Duration::hours(1)), Some(true));
    assert_eq!(overview.before, None, "there was nobody yesterday");
}

#[tokio::test]
async fn a_sign_in_with_two_factors_is_one_sign_in_and_takes_until_the_second() {
    let kit = Kit::new().await;
    let mara = address("mara@example.org");
    kit.auth.users().create(&mara, false, None).await.expect("made");
    kit.auth.users().create(&address("ed@example.org"), false, None).await.expect("made");
    let mut visitor = Visitor::at([203, 0, 113, 24]);
    visitor.give_first_factor(&kit, &mara).await;
    let secret = two_factor(&kit, &visitor).await;
    let mut elsewhere = Visitor::at([203, 0, 113, 25]);
    elsewhere.give_first_factor(&kit, &mara).await;
    kit.clock.advance(Duration::seconds(45));
    let half = elsewhere.session.expect("half signed in");
    let authority = elsewhere.authority(&kit.auth).await.expect("half signed in");
    let handover = handover();
    let finishing = PendingSignIn { half, user: authority.user, handover: &handover };
    let code = secret.code(totp::step(kit.auth.now()));
    let (browser, from) = (elsewhere.proof(), &elsewhere.from);
    kit.auth.sign_in().enter_second_factor(finishing, Factor::App(&code), false, browser, from).await.expect("signs in");

    kit.clock.advance(Duration::seconds(30));
    kit.auth.rollout().watch().await.expect("looked");
    let overview = kit.auth.reporting().overview(Span::Day).await.expect("answers");
    assert_eq!((overview.whole.asked, overview.whole.used, overview.whole.finished()), (2, 2, 2));
    assert_eq!(overview.whole.sign_in.quantile(100), Some(45));
    let accounts = overview.accounts.expect("looked at");
    assert_eq!((accounts.all, accounts.with_two_factor, accounts.percent()), (2, 1, Some(50.0)));
    assert_eq!(overview.buckets.last().expect("one").accounts, Some(accounts));
    assert_eq!(overview.accounts_before, None);

    // A day later one more, without: that is seen within minutes, and what was is what it is compared with.
    kit.clock.advance(Duration::hours(26));
    kit.auth.users().create(&address("priya@example.org"), true, None).await.expect("made");
    kit.auth.rollout().watch().await.expect("looked");
    let later = kit.auth.reporting().overview(Span::Day).await.expect("answers");
    assert_eq!((later.accounts.map(|now| now.all), later.accounts_before), (Some(3), Some(accounts)));
    let population = kit.auth.rollout().overview().await.expect("answers").population.expect("counted");
    assert_eq!((population.accounts, population.administrators), (3, 1));
    assert_eq!(population.let_in(Target::Everyone(67)), Some(2));
}

/// Sets an app up, and returns its secret.
async fn two_factor(kit: &Kit, visitor: &Visitor) -> Secret {
    let authority = visitor.authority(&kit.auth).await.expect("signed in");
    kit.auth.self_service().start_two_factor_setup(&authority, &visitor.from).await.expect("fresh");
    let secret = kit.auth.self_service().two_factor_setup(&authority).await.expect("answers").expect("begun");
    let (old, fresh) = (visitor.session.expect("a session"), handover().fresh);
    let code = secret.code(totp::step(kit.auth.now()));
    let stepping = StepUpSession { authority: &authority, old, fresh };
    kit.auth.self_service().confirm_two_factor_setup(stepping, &code, "", &visitor.from).await.expect("right");
    secret
}
