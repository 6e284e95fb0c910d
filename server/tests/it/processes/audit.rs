//! A server seals what happens, and the commands look at it, take it along, and point out what is unusual.

use std::{fs, path::Path, process::Stdio};

use serde_json::Value;
use testkit::{Database, SmtpSink};

use super::{
    Server,
    account::{latchkey, ran},
    count,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_sealed_verifies_until_somebody_tampers_with_it() {
    let (database, sink) = (Database::new().await, SmtpSink::start().await);
    latchkey(&database, &["user", "create", "mara@example.org", "--admin"]);
    let pool = database.pool_of(1).await;
    assert_eq!(count(&pool, "select count(*) from auth_audit_seals").await, 1, "a command seals what it leaves, or that is late");
    let happens = async || {
        let sql = "insert into auth_audit (id, created_at, event_type) values (gen_random_uuid(), clock_timestamp(), 'x.y')";
        sqlx::query(sql).execute(&pool).await.expect("the application may");
    };
    happens().await;
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-audit.log", database.name));
    let variables = [("EMAIL_SMTP", sink.url()), ("LOG_FORMAT", "json".to_owned())];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let server = Server::start_logging_to(&database, &variables, Stdio::from(fs::File::create(&log).expect("a file"))).await;
    let sealed = async {
        while count(&pool, "select count(*) from auth_audit_seals").await == 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_mins(1), sealed).await.expect("a server seals as soon as it starts");
    happens().await;
    server.terminate();
    assert!(server.wait().await.success());

    let verified = latchkey(&database, &["audit", "verify", "--json"]);
    let verified: Value = serde_json::from_slice(&verified.stdout).expect("JSON");
    assert!(verified["ok"] == true && verified["batches"] == 3, "and so does a server that stops: {verified}");
    let head = verified["head"].as_str().expect("a head").to_owned();
    let whole = String::from_utf8(latchkey(&database, &["audit", "head"]).stdout).expect("UTF-8").trim_end().to_owned();
    assert!(whole.starts_with(&head) && whole.len() == "3:".len() + 64, "{whole}");
    latchkey(&database, &["audit", "verify", "--head", &whole]);
    // Whoever keeps the log keeps the head with it.
    let (_, hash) = head.split_once(':').expect("a number and a hash");
    let logged = fs::read_to_string(&log).expect("written");
    let told = |line: &str| line.contains("audit.sealed") && line.contains(&format!("\"hash\":\"{hash}\""));
    assert!(logged.lines().any(told), "{head}: {logged}");
    fs::remove_file(log).expect("removed");
    latchkey(&database, &["audit", "verify", "--head", &head]);
    let other = ran(&database, &["audit", "verify", "--head", "1:00000000"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&other.stdout).contains("the end of the chain was cut off or replaced, batch 1"));
    assert_eq!(ran(&database, &["audit", "verify", "--head", "1"]).status.code(), Some(2));
    // It is another year in UTC, and one too many.
    assert_eq!(ran(&database, &["audit", "export", "--until", "9999-12-31T23:59:59-23:59"]).status.code(), Some(2));

    let table = String::from_utf8(latchkey(&database, &["audit", "export", "--format", "csv"]).stdout).expect("UTF-8");
    assert!(table.starts_with("id,created_at,event_type,") && table.contains(",user.created,"), "{table}");
    let lines = String::from_utf8(latchkey(&database, &["audit", "export"]).stdout).expect("UTF-8");
    assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()) && lines.contains("audit.exported"), "{lines}");

    let report: Value = serde_json::from_slice(&latchkey(&database, &["audit", "report", "--json"]).stdout).expect("JSON");
    let kinds: Vec<&str> = report["unusual"].as_array().expect("a list").iter().filter_map(|one| one["kind"].as_str()).collect();
    assert_eq!(kinds, ["exported", "exported", "at_the_shell"], "{report}");
    let report = String::from_utf8(latchkey(&database, &["audit", "report"]).stdout).expect("UTF-8");
    assert!(report.contains("The audit log was downloaded") && report.contains("Check that you know who has the file"), "{report}");

    let owner = database.owner().await;
    let mut superuser = owner.acquire().await.expect("connects");
    for statement in
        ["set session_replication_role = replica", "update auth_audit set details = '{}' where event_type = 'user.created'"]
    {
        sqlx::query(statement).execute(&mut *superuser).await.expect("the superuser may");
    }
    let tampered = ran(&database, &["audit", "verify"]);
    assert_eq!(tampered.status.code(), Some(1));
    let told = String::from_utf8_lossy(&tampered.stdout).into_owned();
    assert!(told.contains("a row was changed, batch 1, row "), "{told}");

    // Without its chain, and ten minutes later, nothing seals it anew but an operator.
    for statement in ["delete from auth_audit_seals", "update auth_audit set created_at = created_at - interval '11 minutes'"] {
        sqlx::query(statement).execute(&mut *superuser).await.expect("the superuser may");
    }
    let refused = ran(&database, &["user", "create", "tom@example.org"]);
    assert!(
        refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("audit.no_chain"),
        "it is said, and no more"
    );
    assert_eq!(ran(&database, &["audit", "head"]).status.code(), Some(1));
    assert_eq!(ran(&database, &["audit", "seal"]).status.code(), Some(2), "not without a reason");
    let begun = latchkey(&database, &["audit", "seal", "--reason", "compared with the backup", "--json"]);
    let begun: Value = serde_json::from_slice(&begun.stdout).expect("JSON");
    assert!(begun["accepted"]["batches"].as_i64() > Some(0) && begun["rows"].as_i64() > Some(5), "{begun}");
    latchkey(&database, &["audit", "verify"]);
}
