//! What is counted, and that no stranger can make it more than it is.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use auth::{
    Auth,
    crypto::Keys,
    delivery::SendError,
    identity::{Actor, Scope},
    policy::{
        NamedDomains,
        limits::{Limit, Limits, Rate},
    },
    reporting::gauges,
    rollout::{DEFAULT_PLAN, LOOK_EVERY},
};
use axum::{Router, routing::get};
use http::{HeaderValue, Method, StatusCode, header};
use metrics_exporter_prometheus::PrometheusRecorder;
use server::{
    http::{health::Health, surround::surround},
    router::ops_router,
    telemetry::metrics::{Metrics, PATH},
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use testkit::{Kit, why};

use super::{about_to_sign_in, config, enrol, get_path, policy, request, routes, send, service, sign_in_by_link};

/// Counts on this thread, for as long as the guard lives: these tests run on one.
struct Counted {
    metrics: Metrics,
    _guard: metrics::LocalRecorderGuard<'static>,
}

impl Counted {
    fn begin(kit: &Kit) -> Self {
        let (recorder, metrics) = Metrics::recorder();
        let recorder: &'static PrometheusRecorder = Box::leak(Box::new(recorder));
        let guard = metrics::set_default_local_recorder(recorder);
        metrics.begin(&kit.auth);
        Self { metrics, _guard: guard }
    }

    /// As Prometheus sees it.
    async fn text(&self, kit: &Kit) -> String {
        let ops = ops_router(&config(&[]), Health::new(kit.auth.clone()), self.metrics.clone());
        let response = get_path(&ops, PATH).await;
        assert_eq!(response.status(), StatusCode::OK);
        let body = axum::body::to_bytes(response.into_body(), 1 << 24).await.expect("whole");
        String::from_utf8(body.to_vec()).expect("UTF-8")
    }

    /// The value of a series, written as Prometheus writes it.
    async fn value(&self, kit: &Kit, series: &str) -> Option<f64> {
        let text = self.text(kit).await;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.parse().expect("a number"))
    }
}

/// Names and labels, without values and buckets.
fn series(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty() && !line.contains("_bucket{"));
    lines.filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series.to_owned()).collect()
}

#[tokio::test]
async fn a_sign_in_is_counted() {
    let kit =
        Kit::with(auth::policy::Policy { metrics_email_domains: NamedDomains::new(["example.org".to_owned()]), ..policy() }).await;
    let counted = Counted::begin(&kit);
    let requests =
        |domain: &str, status: &str| format!("auth_magiclink_requests_total{{email_domain=\"{domain}\",status=\"{status}\"}}");
    assert_eq!(counted.value(&kit, &requests("example.org", "rate_limited")).await, Some(0.0), "there before it happens");
    let app = service(&config(&[]), kit.auth.clone());
    sign_in_by_link(&kit, &app, "mara@example.org").await;
    for email in ["a%40elsewhere.example", "nonsense"] {
        send(&app, request(&Method::POST, routes::LOGIN, "", &format!("email={email}"))).await;
    }
    for (series, value) in [
        (requests("example.org", "accepted").as_str(), 1.0),
        (&requests("other", "accepted"), 1.0),
        (&requests("other", "invalid"), 1.0),
        ("auth_magiclink_verifications_total{result=\"success\",method=\"link\"}", 1.0),
        ("auth_magiclink_verifications_total{result=\"replay\",method=\"code\"}", 0.0),
        ("auth_sessions_created_total{level=\"email\"}", 1.0),
        ("auth_sessions_revoked_total{reason=\"ended_by_admin\"}", 0.0),
        ("mail_deliveries_total{result=\"sent\"}", 1.0),
        ("mail_delivery_seconds_count", 1.0),
        ("mail_delivery_seconds_bucket{le=\"0.1\"}", 1.0),
        ("rate_limited_total{limit=\"totp_account\"}", 0.0),
        ("rate_limited_total{limit=\"shield\"}", 0.0),
        ("http_requests_total{method=\"POST\",route=\"/login/confirm\",status=\"303\"}", 1.0),
        ("http_request_duration_seconds_count{method=\"POST\",route=\"/login/confirm\",status=\"303\"}", 1.0),
        ("log_lines_dropped_total", 0.0),
        ("latchkey_build_info{version=\"0.1.0\"}", 1.0),
    ] {
        assert_eq!(counted.value(&kit, series).await, Some(value), "{series}\n{}", counted.text(&kit).await);
    }
    assert!(counted.value(&kit, "process_resident_memory_bytes").await.is_some_and(|bytes| bytes > 0.0));
}

#[tokio::test]
async fn the_database_is_asked_for_the_worst_and_the_oldest() {
    let kit = Kit::with(policy()).await;
    let counted = Counted::begin(&kit);
    let app = service(&config(&[("LIMITS", "off")]), kit.auth.clone());
    // Four wrong codes for one address from here, and then its mail again, which waits.
    let (cookies, _) = about_to_sign_in(&kit, &app).await;
    for _ in 0..4 {
        let wrong = send(&app, request(&Method::POST, routes::LOGIN_SENT, &cookies, "code=000000")).await;
        assert_eq!(wrong.status(), StatusCode::UNPROCESSABLE_ENTITY);
    }
    // And one for an address that another account wants as its own.
    let cookies = sign_in_by_link(&kit, &app, "erin@example.org").await;
    send(&app, request(&Method::POST, routes::EMAIL, &cookies, "email=victim%40example.org")).await;
    kit.letters().await;
    let wrong = send(&app, request(&Method::POST, routes::EMAIL_CODE, &cookies, "code=000000")).await;
    assert_eq!(wrong.status(), StatusCode::UNPROCESSABLE_ENTITY);
    send(&app, request(&Method::POST, routes::LOGIN, "", "email=tom%40example.org")).await;
    kit.clock.advance(time::Duration::seconds(42));
    let taken = (kit.pool.acquire().await.expect("one"), kit.pool.acquire().await.expect("another"));
    kit.auth.reporting().publish_gauges().await.expect("the database answers");
    drop(taken);
    kit.auth.flag().read().await.expect("the database answers");
    kit.auth.limits().watch_request_bursts().await.expect("the database answers");
    kit.auth.rollout().watch().await.expect("the database answers");
    for (series, value) in [
        ("auth_failed_attempts{scope=\"email\"}", 4.0),
        ("auth_failed_attempts{scope=\"ip\"}", 5.0),
        ("auth_failed_attempts{scope=\"totp_account\"}", 0.0),
        ("auth_wrong_code_addresses", 2.0),
        ("auth_magiclink_requests_max_per_ip", 3.0),
        ("mail_outbox_messages{state=\"queued\"}", 1.0),
        ("mail_outbox_messages{state=\"failed\"}", 0.0),
        ("mail_outbox_oldest_seconds", 42.0),
        ("encryption_key_secrets{state=\"missing\"}", 0.0),
        ("rollout_state{flag=\"passwordless_auth\"}", 0.0),
        ("rollout_percent{flag=\"passwordless_auth\"}", 100.0),
    ] {
        assert_eq!(counted.value(&kit, series).await, Some(value), "{series}\n{}", counted.text(&kit).await);
    }
    let used = counted.value(&kit, "database_connections{state=\"used\"}").await;
    assert!(used.is_some_and(|used| used >= 2.0), "{used:?}");
    let text = counted.text(&kit).await;
    assert!(text.contains("database_connections{state=\"idle\"}"), "{text}");
    for private in ["mara", "tom@", "example.org", "127.0.0.1"] {
        assert!(!text.contains(private), "{private}\n{text}");
    }

    kit.letters().await;
    kit.clock.advance(time::Duration::minutes(61));
    kit.auth.reporting().publish_gauges().await.expect("the database answers");
    for series in ["auth_failed_attempts{scope=\"email\"}", "mail_outbox_oldest_seconds", "mail_outbox_messages{state=\"queued\"}"]
    {
        assert_eq!(counted.value(&kit, series).await, Some(0.0), "{series}");
    }
    gauges::heartbeat("mail", kit.auth.now());
    let beat = counted.value(&kit, "worker_heartbeat_timestamp_seconds{worker=\"mail\"}").await;
    assert_eq!(beat, Some((kit.auth.now() - time::OffsetDateTime::UNIX_EPOCH).as_seconds_f64()));
}

/// A mail that its recipient's server puts off is not due; one that waits because no mail server takes any is.
#[tokio::test]
async fn mail_that_no_server_takes_is_due() {
    let kit = Kit::with(policy()).await;
    let counted = Counted::begin(&kit);
    let app = service(&config(&[]), kit.auth.clone());
    for (refusal, oldest) in [(SendError::Temporary("later".to_owned()), 0.0), (SendError::Server("no answer".to_owned()), 1.0)] {
        kit.outbox.refuse([refusal]);
        send(&app, request(&Method::POST, routes::LOGIN, "", "email=mara%40example.org")).await;
        kit.auth.delivery().drain(&kit.outbox).await.expect("the database answers");
        kit.clock.advance(time::Duration::seconds(1));
        kit.auth.reporting().publish_gauges().await.expect("the database answers");
        assert_eq!(counted.value(&kit, "mail_outbox_oldest_seconds").await, Some(oldest));
        assert_eq!(counted.value(&kit, "mail_outbox_messages{state=\"queued\"}").await, Some(1.0));
        kit.clock.advance(time::Duration::minutes(2));
        assert_eq!(kit.letters().await.len(), 1);
    }
    assert_eq!(counted.value(&kit, "mail_delivery_seconds_bucket{le=\"120\"}").await, Some(0.0));
    assert_eq!(counted.value(&kit, "mail_delivery_seconds_bucket{le=\"300\"}").await, Some(2.0));
}

#[tokio::test]
async fn wrong_second_factors_and_missing_keys_are_told() {
    let kit = Kit::with(policy()).await;
    let counted = Counted::begin(&kit);
    let app = service(&config(&[("LIMITS", "off")]), kit.auth.clone());
    enrol(&kit, "mara@example.org", false).await;
    let cookies = sign_in_by_link(&kit, &app, "mara@example.org").await;
    for _ in 0..3 {
        let wrong = send(&app, request(&Method::POST, routes::LOGIN_TWO_FACTOR, &cookies, "code=000000")).await;
        assert_eq!(wrong.status(), StatusCode::UNPROCESSABLE_ENTITY);
    }
    kit.auth.reporting().publish_gauges().await.expect("the database answers");
    for (series, value) in [
        ("auth_failed_attempts{scope=\"totp_account\"}", 3.0),
        ("auth_failed_attempts{scope=\"ip\"}", 3.0),
        ("auth_failed_attempts{scope=\"email\"}", 0.0),
        ("auth_totp_verify_total{result=\"invalid\"}", 3.0),
        ("encryption_key_secrets{state=\"current\"}", 1.0),
        ("encryption_key_secrets{state=\"missing\"}", 0.0),
    ] {
        assert_eq!(counted.value(&kit, series).await, Some(value), "{series}");
    }
    for (kept, previous, missing) in [(&[testkit::TEST_KEY][..], 1.0, 0.0), (&[], 0.0, 1.0)] {
        let keys = Keys::new(&[7; 32], kept);
        let rotated = Auth::new(kit.pool.clone(), Arc::new(kit.clock.clone()), keys, policy());
        rotated.reporting().publish_gauges().await.expect("the database answers");
        for (state, value) in [("current", 0.0), ("previous", previous), ("missing", missing)] {
            let series = format!("encryption_key_secrets{{state=\"{state}\"}}");
            assert_eq!(counted.value(&kit, &series).await, Some(value), "{series}");
        }
    }
}

/// The audit as an administrator of the database can leave it: without the triggers that refuse.
async fn tamper(kit: &Kit, statement: &str) {
    let mut connection = PgConnection::connect(&kit.database.owner_url).await.expect("connects");
    connection.execute("set session_replication_role = replica").await.expect("the superuser may");
    let done = connection.execute(AssertSqlSafe(statement.to_owned())).await.expect("it runs");
    assert!(done.rows_affected() > 0, "nothing was tampered with: {statement}");
}

#[tokio::test]
async fn an_audit_that_waits_is_cut_or_was_changed_is_told() {
    let kit = Kit::with(policy()).await;
    let counted = Counted::begin(&kit);
    let watched = async |auth: &Auth| {
        auth.audit().watch().await.expect("the database answers");
        let mut values = Vec::new();
        for name in ["audit_seal_head", "audit_unsealed_seconds", "audit_verify_ok"] {
            values.push(counted.value(&kit, name).await.expect("published"));
        }
        values
    };
    let happens = async |email: &str| {
        kit.auth.users().create(&testkit::address(email), false, None).await.expect("made");
        kit.clock.advance(time::Duration::minutes(1));
    };
    happens("mara@example.org").await;
    assert_eq!(watched(&kit.auth).await, [1.0, 0.0, 1.0]);

    // A transaction that never ends could still bring a row, so nothing is sealed.
    let mut stuck = kit.pool.begin().await.expect("begun");
    sqlx::query("insert into auth_audit (id, created_at, event_type) values (gen_random_uuid(), $1, 'x.y')")
        .bind(kit.auth.now())
        .execute(&mut *stuck)
        .await
        .expect("added");
    happens("tom@example.org").await;
    kit.clock.advance(time::Duration::minutes(15));
    assert_eq!(watched(&kit.auth).await, [1.0, 960.0, 1.0]);
    stuck.rollback().await.expect("over");
    kit.clock.advance(time::Duration::minutes(1));
    assert_eq!(watched(&kit.auth).await, [2.0, 0.0, 1.0]);

    // Its end is cut off: the number falls, and who has seen it knows, though a verification would find nothing.
    tamper(&kit, "delete from auth_audit where position > (select to_position from auth_audit_seals where number = 1)").await;
    tamper(&kit, "delete from auth_audit_seals where number = 2").await;
    assert_eq!(watched(&kit.auth).await, [1.0, 0.0, 0.0]);
    happens("priya@example.org").await;
    assert_eq!(watched(&kit.auth).await, [2.0, 0.0, 0.0], "another batch of the same number is not the one that was seen");
    let other = kit.second().await;
    assert_eq!(watched(&other).await, [2.0, 0.0, 1.0], "who has come since then can't know");

    let sealed_at = counted.value(&kit, "audit_seal_timestamp_seconds").await.expect("published");
    let now = (kit.auth.now() - time::OffsetDateTime::UNIX_EPOCH).as_seconds_f64();
    assert!((sealed_at - now).abs() < 1.0, "{sealed_at}");

    tamper(&kit, "update auth_audit set user_agent = 'Safari'").await;
    other.audit().verify_daily().await.expect("looked");
    assert!(watched(&other).await[2] < 0.5, "it is not whole any more");

    // None of its batches is left, and nobody has looked since.
    tamper(&kit, "delete from auth_audit_seals").await;
    tamper(&kit, "delete from audit_verification").await;
    kit.clock.advance(time::Duration::minutes(1));
    let started = kit.second().await;
    let [head, unsealed, ok] = watched(&started).await[..] else { unreachable!("three are asked for") };
    assert!(head < 0.5 && unsealed > 600.0 && ok < 0.5, "{head} {unsealed} {ok}");
}

/// The application's role may add a batch. After one that ends past all rows nothing waits to be sealed.
#[tokio::test]
async fn an_audit_whose_newest_batch_is_not_ours_is_told() {
    let kit = Kit::with(policy()).await;
    let counted = Counted::begin(&kit);
    let watched = async || {
        kit.clock.advance(time::Duration::minutes(1));
        kit.auth.audit().watch().await.expect("the database answers");
        counted.value(&kit, "audit_verify_ok").await
    };
    kit.auth.users().create(&testkit::address("mara@example.org"), false, None).await.expect("made");
    assert_eq!(watched().await, Some(1.0));
    // With a hash and a MAC that are ours, of another batch.
    let copy = "insert into auth_audit_seals
                select (jsonb_populate_record(seal, '{\"number\": 2, \"to_position\": 9223372036854775807}')).*
                from auth_audit_seals seal where number = 1";
    sqlx::query(copy).execute(&kit.pool).await.expect("the application may");
    assert_eq!(watched().await, Some(0.0));
    // Once its owner has taken it away, no server misses it.
    tamper(&kit, "delete from auth_audit_seals where number = 2").await;
    assert_eq!(watched().await, Some(1.0));
}

/// One network asks for more than a household does: what the alert on bursts and the one on held rollouts are about.
#[tokio::test]
async fn a_burst_and_the_rollout_it_holds_are_told() {
    let kit = Kit::with(auth::policy::Policy { passwordless_auth: false, ..policy() }).await;
    let counted = Counted::begin(&kit);
    kit.auth.rollout().start(Actor::Operator, &DEFAULT_PLAN, &why("ticket 7")).await.expect("started");
    let visitor = testkit::Visitor::at([192, 0, 2, 1]);
    for (asked, state) in [(100, 1.0), (1, 2.0)] {
        for n in 0..asked {
            let address = testkit::address(&format!("x{n}@example.org"));
            let _ = kit.auth.sign_in().request_link(&address, &visitor.nonce, visitor.proof(), &visitor.from).await;
        }
        // Mail that waits is another check's.
        kit.letters().await;
        kit.auth.limits().watch_request_bursts().await.expect("the database answers");
        kit.clock.advance(LOOK_EVERY);
        kit.auth.rollout().watch().await.expect("the database answers");
        // What a look has changed is told from the next one on, as every server tells it.
        kit.auth.rollout().watch().await.expect("the database answers");
        assert_eq!(counted.value(&kit, "rollout_state{flag=\"passwordless_auth\"}").await, Some(state));
    }
    assert_eq!(counted.value(&kit, "auth_magiclink_requests_max_per_ip").await, Some(101.0));
    kit.auth.rollout().abort(Actor::Operator, &why("ticket 7")).await.expect("aborted");
    kit.auth.rollout().watch().await.expect("the database answers");
    assert_eq!(counted.value(&kit, "rollout_state{flag=\"passwordless_auth\"}").await, Some(5.0));
    sqlx::query("update rollouts set state = 'rolled_back'").execute(&kit.pool).await.expect("updated");
    kit.auth.rollout().watch().await.expect("the database answers");
    assert_eq!(counted.value(&kit, "rollout_state{flag=\"passwordless_auth\"}").await, Some(6.0));
}

/// The limit on all mails is an alert of its own, the others' is on how many a second.
#[tokio::test]
async fn what_limits_refuse_is_counted() {
    let limits = Limits::default().with(Limit::LinkAll, Rate::new(1, Duration::from_hours(1)));
    let kit = Kit::with(auth::policy::Policy { limits, ..policy() }).await;
    let counted = Counted::begin(&kit);
    let app = service(&config(&[]), kit.auth.clone());
    for (email, status) in [("mara", 303), ("tom", 429), ("priya", 429)] {
        let asked = send(&app, request(&Method::POST, routes::LOGIN, "", &format!("email={email}%40example.org"))).await;
        assert_eq!(asked.status().as_u16(), status, "{email}");
    }
    for (limit, refused) in [("link_all", 2.0), ("link_network", 0.0)] {
        assert_eq!(counted.value(&kit, &format!("rate_limited_total{{limit=\"{limit}\"}}")).await, Some(refused), "{limit}");
    }
}

/// Every route has its latency and its request's id, also where there is no route, and where one panics.
#[tokio::test]
async fn every_route_is_timed_and_has_an_id() {
    let kit = Kit::with(policy()).await;
    let counted = Counted::begin(&kit);
    let app = service(&config(&[("LIMITS", "off")]), kit.auth.clone());
    let document = get_path(&app, "/api/v1/openapi.json").await;
    let document = axum::body::to_bytes(document.into_body(), usize::MAX).await.expect("whole");
    let document: serde_json::Value = serde_json::from_slice(&document).expect("JSON");
    let of_the_api = document["paths"].as_object().expect("paths").keys();
    let nobody = uuid::Uuid::nil().to_string();
    let of_the_api: Vec<(String, String)> =
        of_the_api.map(|route| (route.replace("{id}", &nobody).replace("{key}", "passwordless_auth"), route.clone())).collect();
    assert!(of_the_api.len() > 5, "{of_the_api:?}");
    let panics = surround(Router::new().route("/panic", get(async || -> &str { panic!("as a test") })), &config(&[]));
    for (app, path, route) in super::paths()
        .iter()
        .map(|path| (&app, path.as_str(), path.replace("/inbox/1", "/inbox/{id}")))
        .chain(of_the_api.iter().map(|(path, route)| (&app, path.as_str(), route.clone())))
        .chain([(&app, "/nowhere", "unmatched".to_owned()), (&app, "/api/v1/nowhere", "unmatched".to_owned())])
        .chain([(&panics, "/panic", "/panic".to_owned())])
    {
        let response = get_path(app, path).await;
        assert!(response.headers().contains_key("x-request-id"), "{path}");
        let series = format!(
            "http_request_duration_seconds_count{{method=\"GET\",route=\"{route}\",status=\"{}\"}}",
            response.status().as_u16()
        );
        assert!(counted.value(&kit, &series).await.is_some_and(|count| count >= 1.0), "{path}: no {series}");
    }
}

/// Ten thousand requests of somebody who wants a series for each. The first few make all the series there are.
#[tokio::test]
async fn no_stranger_adds_a_series() {
    const FIRST: usize = 60;
    const ALL: usize = 10_000;
    let kit = Kit::with(auth::policy::Policy {
        metrics_email_domains: NamedDomains::new(["example.org".to_owned()]),
        passwordless_auth: false,
        ..policy()
    })
    .await;
    let counted = Counted::begin(&kit);
    let app = service(&config(&[("LIMITS", "off"), ("TRUSTED_PROXIES", "127.0.0.1/32")]), kit.auth.clone());
    let key = kit.auth.api_keys().create(Actor::Operator, "Test", &[Scope::MetricsRead], None).await.expect("made").key;
    let visitor = testkit::Visitor::at([192, 0, 2, 1]);
    let mut before = None;
    for n in 0..ALL {
        let path = match n % 6 {
            0 => format!("/{n}/login"),
            1 => format!("/admin/users/{n}"),
            2 => format!("/api/v1/{n}"),
            3 => format!("/login?{n}={n}"),
            4 => format!("/%0a{n}\"}}"),
            _ => format!("/auth/verify?{n}"),
        };
        let method = if n % 4 == 0 { Method::from_bytes(format!("M{n}").as_bytes()).expect("a token") } else { Method::GET };
        let mut request = request(&method, &path, "", "");
        for (name, value) in [
            (header::HOST, format!("h{n}.example")),
            (header::USER_AGENT, format!("agent/{n}")),
            (header::HeaderName::from_static("x-request-id"), format!("id-{n}")),
            (header::HeaderName::from_static("x-forwarded-for"), format!("192.0.{}.{}", n / 256, n % 256)),
            (header::AUTHORIZATION, format!("Bearer {}{n}", &key[..key.len() - 6])),
        ] {
            request.headers_mut().insert(name, HeaderValue::from_str(&value).expect("ASCII"));
        }
        send(&app, request).await;
        let address = testkit::address(&format!("a@d{n}.example"));
        kit.auth.sign_in().request_link(&address, &visitor.nonce, visitor.proof(), &visitor.from).await.expect_err("it is off");
        if n == 0 {
            // Looking at them is a request of its own.
            counted.text(&kit).await;
        }
        if n == FIRST {
            before = Some(series(&counted.text(&kit).await));
        }
    }
    let after = series(&counted.text(&kit).await);
    let before = before.expect("more than the first few");
    let new: Vec<_> = after.difference(&before).collect();
    assert!(new.is_empty(), "{new:?}");
    let requests = "auth_magiclink_requests_total{email_domain=\"other\",status=\"flag_off\"}";
    assert_eq!(counted.value(&kit, requests).await, Some(f64::from(u16::try_from(ALL).expect("small"))));
}
