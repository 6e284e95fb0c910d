//! A key made at the shell opens both servers, and neither from the request after its end on.

use serde_json::Value;
use testkit::{Database, SmtpSink};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Server, account::latchkey};

/// The status of a program's request.
async fn status(server: &Server, key: &str) -> String {
    let mut stream = TcpStream::connect(server.address).await.expect("accepted");
    let request =
        format!("GET /api/v1/users HTTP/1.1\r\nHost: localhost:4000\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer.split(' ').nth(1).expect("a status").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_made_listed_and_revoked_at_the_shell_for_every_server() {
    let (database, sink) = (Database::new().await, SmtpSink::start().await);
    let servers = [Server::start(&database, &sink, "on").await, Server::start(&database, &sink, "on").await];
    let said = |args: &[&str]| String::from_utf8(latchkey(&database, args).stdout).expect("UTF-8");
    let json = |args: &[&str]| serde_json::from_str::<Value>(&said(args)).expect("JSON");

    let made = json(&["apikey", "create", "Billing", "--scope", "users", "--scope", "audit:read", "--expires", "90d", "--json"]);
    let (key, prefix) = (made["key"].as_str().expect("a key"), made["prefix"].as_str().expect("its beginning"));
    assert!(key.starts_with(prefix) && made["expires_at"].is_string(), "{made}");
    for server in &servers {
        assert_eq!(status(server, key).await, "200");
    }
    let shown = said(&["apikey", "create", "Shop", "--scope", "signin"]);
    let shop = shown.lines().next().expect("the key alone on its line");
    assert_eq!(status(&servers[0], shop).await, "403", "it lacks the scope: {shown}");

    let listed = json(&["apikey", "list", "--json"]);
    assert!(!listed.to_string().contains(&key[12..]), "only its beginning is kept");
    let row = listed["keys"].as_array().expect("keys").iter().find(|row| row["prefix"] == prefix).expect("the key");
    assert_eq!((&row["name"], &row["state"], &row["made_by"]), (&"Billing".into(), &"live".into(), &"operator".into()));
    assert!(row["last_used_at"].is_string(), "{row}");
    let text = said(&["apikey", "list"]);
    assert!(text.lines().count() == 2 && text.contains("users,audit:read"), "{text}");

    assert!(said(&["apikey", "revoke", prefix, "--reason", "lost"]).contains("stopped working"));
    for server in &servers {
        assert_eq!(status(server, key).await, "401");
    }
    assert_eq!(json(&["apikey", "list", "--json"])["keys"][1]["state"], "revoked");
}
