//! One flag, two servers: what is changed at the shell holds on both within five seconds, without a restart.

use std::time::Duration;

use testkit::{Browser, Database, SmtpSink};

use super::{ORIGIN, Server, account::latchkey};

/// Until both say so, or the promise is broken.
async fn both(servers: &[Server; 2], off: bool) {
    let follow = async {
        for server in servers {
            while Browser::new(server.address, ORIGIN).get("/login").await.body.contains("isn't available yet") != off {}
        }
    };
    tokio::time::timeout(Duration::from_secs(5), follow).await.expect("within five seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_flag_is_followed_by_every_server() {
    let (database, sink) = (Database::new().await, SmtpSink::start().await);
    let servers = [Server::start(&database, &sink, "off").await, Server::start(&database, &sink, "off").await];
    both(&servers, false).await;
    let set = |to: &[&str]| {
        let said = latchkey(&database, &[&["flag", "set", "passwordless_auth"], to, &["--reason", "a drill"]].concat());
        String::from_utf8(said.stdout).expect("UTF-8")
    };
    for (to, off, said) in [
        (&["--off"][..], true, "nobody"),
        (&["--percent", "5", "--of", "admins"], false, "5 % of administrators"),
        (&["--off"], true, "nobody"),
        (&["--percent", "25"], false, "25 % of everyone"),
        (&["--on"], false, "everyone"),
    ] {
        assert!(set(to).contains(said), "{to:?}");
        both(&servers, off).await;
    }
    latchkey(&database, &["flag", "allow", "mara@example.org"]);
    let shown = String::from_utf8(latchkey(&database, &["flag", "show"]).stdout).expect("UTF-8");
    assert!(shown.contains("everyone") && shown.contains("mara@example.org"), "{shown}");
}
