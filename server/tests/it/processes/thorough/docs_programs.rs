//! What the documentation has other programs do: curl, openssl, promtool, psql and install.

use crate::processes::docs_commands::{run, to_run};

#[tokio::test(flavor = "multi_thread")]
async fn every_other_command_of_the_documentation_runs() {
    let mut others = to_run();
    others.retain(|command, _| !command.starts_with("latchkey "));
    assert!(others.len() > 10, "{others:?}");
    run(others).await;
}
