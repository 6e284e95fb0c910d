//! A test that hangs: what it printed is kept back until it ends, so a run would stop without a word. It is named instead, with the
//! programs it has started, and the run ends.

use std::{
    collections::BTreeMap,
    io::Write as _,
    process::Command,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Many times what the slowest takes.
const PATIENCE: Duration = Duration::from_mins(10);

static RUNNING: LazyLock<Mutex<BTreeMap<String, Instant>>> = LazyLock::new(|| {
    thread::spawn(watchdog);
    Mutex::default()
});

fn running() -> MutexGuard<'static, BTreeMap<String, Instant>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The test's thread bears its name, and ends with it.
struct Test(String);

impl Drop for Test {
    fn drop(&mut self) {
        running().remove(&self.0);
    }
}

thread_local! {
    static TEST: Test = {
        let name = thread::current().name().unwrap_or_default().to_owned();
        running().insert(name.clone(), Instant::now());
        Test(name)
    };
}

/// From now on, until the test that calls it is over.
pub fn watch() {
    TEST.with(|_| {});
}

fn watchdog() {
    loop {
        thread::sleep(Duration::from_secs(5));
        let hung: Vec<String> =
            running().iter().filter(|(_, since)| since.elapsed() > PATIENCE).map(|(name, _)| name.clone()).collect();
        if !hung.is_empty() {
            let started = Command::new("ps").args(["-o", "pid,etime,args", "--ppid", &std::process::id().to_string()]).output();
            let started = started.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
            // Not by a macro, whose text would be kept back too.
            let _ = writeln!(std::io::stderr(), "still running after {PATIENCE:?}: {}\n{started}", hung.join(", "));
            std::process::exit(101);
        }
    }
}
