//! What a process runs out of, and another that is older.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
};

use axum::{Router, routing::get};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};

use super::Scene;
use crate::processes::try_get_at;

pub(super) const FIRES: [&str; 3] = ["FilesRunOut", "LogLinesDropped", "VersionsDiffer"];

/// Connections that stay open after an answer, as browsers' do.
async fn connections(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(address).await.expect("accepted");
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("taken");
        open.push(stream);
    }
    open
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_runs_out_of_is_told() {
    let mut scene = Scene::new().await;
    let (server, address) = (scene.servers[0].id().to_string(), scene.servers[0].address);
    let limited = Command::new("prlimit").args(["--pid", &server, "--nofile=200:200"]).status().expect("it runs");
    assert!(limited.success());
    let few = connections(address, 80).await;
    let open = format!("process_open_fds{{instance=\"{0}\"}} / process_max_fds{{instance=\"{0}\"}}", scene.ops);
    scene.prometheus.sees(&format!("{open} > 0.4")).await;
    scene.quiet_but(&[]).await;
    drop(few);
    let many = connections(address, 150).await;
    scene.told.of(&FIRES[..1]).await;
    drop(many);

    // Its standard error is a pipe that nobody reads.
    let (_unread, ops) = scene.another(Stdio::piped()).await;
    scene.prometheus.scrape(ops);
    let dropped = format!("log_lines_dropped_total{{instance=\"{ops}\"}}");
    scene.prometheus.sees(&format!("{dropped} == 0")).await;
    scene.quiet_but(&FIRES[..1]).await;
    let lines = async { while try_get_at(ops, "/healthz").await.is_some() {} };
    tokio::select! {
        () = scene.told.of(&FIRES[..2]) => {}
        () = lines => {}
    }

    // An older release is not at hand: this is what one would say of itself.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let older = listener.local_addr().expect("bound");
    let shown = Router::new().route("/metrics", get(async || "latchkey_build_info{version=\"0.0.9\"} 1\n"));
    tokio::spawn(async move { axum::serve(listener, shown).await });
    scene.prometheus.scrape(older);
    scene.told.of(&FIRES).await;
}
