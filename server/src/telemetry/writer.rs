//! A log sink that may block, behind a queue that never does.
//!
//! A pipe whose reader stopped, or a full disk, must not stop requests. So each line goes into a bounded queue, and one
//! thread writes. When the queue is full the line is dropped and counted, and the log tells how many are missing once the
//! sink takes lines again. (What must not be lost is in the audit table, not here.)
//!
//! `tracing-appender` has the queue and the thread. But at the end of the process it prints to standard output where the queue is full,
//! which blocks for ever on the pipe that filled it; it writes each line by itself; and it doesn't log how many lines are missing.

use std::{
    io::{self, BufWriter, Write},
    iter,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{self, Receiver, SyncSender},
    },
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

/// Lines are some hundred bytes, so a full queue is about a megabyte.
const QUEUE: usize = 4096;

/// What a pipe takes at once, without another process's lines in between (`PIPE_BUF`).
const AT_ONCE: usize = 4096;

/// After writing, so that a busy server's lines go out together and not with a wake-up each.
const REST: Duration = Duration::from_millis(1);

/// How long an ending process waits for a sink that doesn't take its last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub struct LogWriter {
    lines: SyncSender<Vec<u8>>,
    dropped: Arc<AtomicU64>,
}

/// Dropping it writes what is queued.
#[must_use = "dropped at once, it ends the log"]
pub struct Flush {
    lines: SyncSender<Vec<u8>>,
    stop: Arc<AtomicBool>,
    ended: Receiver<()>,
}

impl LogWriter {
    /// Calls `report` on the writing thread with the number of lines dropped so far, whenever it has grown. `report` may log: if its line
    /// is dropped in turn, the number grows, and it is called again.
    pub fn start(sink: impl Write + Send + 'static, report: impl Fn(u64) + Send + 'static) -> io::Result<(Self, Flush)> {
        let (lines, queue) = mpsc::sync_channel::<Vec<u8>>(QUEUE);
        let (end, ended) = mpsc::channel();
        let (dropped, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (missing, stopped) = (dropped.clone(), stop.clone());
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            let _ended = end;
            let (mut sink, mut reported) = (BufWriter::with_capacity(AT_ONCE, sink), 0);
            while let Ok(first) = queue.recv() {
                // Asked first: what was queued before the order to stop is written.
                let last = stopped.load(Relaxed);
                for line in iter::once(first).chain(queue.try_iter()) {
                    // A failing sink can't be reported anywhere. What it didn't take is tried again with the next lines.
                    let _ = sink.write_all(&line);
                }
                let _ = sink.flush();
                let missing = missing.load(Relaxed);
                if missing > reported {
                    reported = missing;
                    report(missing);
                }
                if last {
                    return;
                }
                thread::sleep(REST);
            }
        })?;
        Ok((Self { lines: lines.clone(), dropped }, Flush { lines, stop, ended }))
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        // An empty line wakes the thread up. If the queue is full it is awake, or stuck.
        let _ = self.lines.try_send(Vec::new());
        let _ = self.ended.recv_timeout(LAST_LINES);
    }
}

impl MakeWriter<'_> for LogWriter {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Write for LogWriter {
    /// Called once an event, with the whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lines.try_send(line.to_vec()).is_err() {
            self.dropped.fetch_add(1, Relaxed);
            metrics::counter!("log_lines_dropped_total").increment(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Sender;

    use super::*;
    use crate::telemetry::test::Buffer;

    /// A sink that takes a line only when it is let, and says when it is asked.
    struct Blocked {
        asked: Sender<()>,
        let_go: Receiver<()>,
        taken: Buffer,
    }

    impl Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.asked.send(());
            let _ = self.let_go.recv();
            self.taken.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_was_logged_is_written_before_the_end() {
        let taken = Buffer::default();
        let (mut writer, flush) = LogWriter::start(taken.clone(), |_| {}).expect("a thread");
        for line in 0..1000 {
            writeln!(writer, "line {line}").expect("never fails");
        }
        drop(flush);
        assert_eq!(taken.text().lines().count(), 1000);
    }

    #[test]
    fn only_whole_lines_are_written_and_only_as_much_as_a_pipe_takes_at_once() {
        #[derive(Clone, Default)]
        struct Writes(Arc<std::sync::Mutex<Vec<String>>>);
        impl Write for Writes {
            fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
                self.0.lock().expect("nobody panicked").push(String::from_utf8_lossy(lines).into_owned());
                Ok(lines.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let taken = Writes::default();
        let (mut writer, flush) = LogWriter::start(taken.clone(), |_| {}).expect("a thread");
        let long = format!("{}\n", "x".repeat(2 * AT_ONCE));
        for line in 0..1000 {
            let line = if line == 500 { long.clone() } else { format!("line {line}\n") };
            writer.write_all(line.as_bytes()).expect("never fails");
        }
        drop(flush);
        let taken = taken.0.lock().expect("nobody panicked");
        assert!(taken.iter().all(|lines| lines.ends_with('\n')));
        assert!(taken.iter().all(|lines| lines.len() <= AT_ONCE || *lines == long), "a line that is longer goes alone");
        assert!(taken.len() < 500, "many at once: {}", taken.len());
    }

    #[test]
    fn a_blocked_sink_stops_nobody_and_learns_what_it_missed() {
        let taken = Buffer::default();
        let (asked, is_asked) = mpsc::channel();
        let (let_all_go, let_go) = mpsc::channel::<()>();
        let (report, reports) = mpsc::channel();
        let (mut writer, flush) = LogWriter::start(Blocked { asked, let_go, taken: taken.clone() }, move |count| {
            let _ = report.send(count);
        })
        .expect("a thread");
        let line = |text: &str| format!("{text}\n").into_bytes();
        writer.write_all(&line("first")).expect("never fails");
        is_asked.recv().expect("the thread writes");
        // The thread is stuck in the sink, so exactly a queueful fits.
        for _ in 0..QUEUE + 10 {
            writer.write_all(&line("more")).expect("never fails");
        }
        // Now everything is let go. The order to stop comes while the queue is full.
        drop(let_all_go);
        drop(flush);
        assert_eq!(taken.text().lines().filter(|line| *line == "more").count(), QUEUE);
        assert_eq!(reports.iter().collect::<Vec<_>>(), [10], "told once");
    }

    #[test]
    fn a_sink_that_never_wakes_up_does_not_keep_the_process() {
        let (asked, is_asked) = mpsc::channel();
        let (_keep_blocked, let_go) = mpsc::channel::<()>();
        let (mut writer, flush) = LogWriter::start(Blocked { asked, let_go, taken: Buffer::default() }, |_| {}).expect("a thread");
        writer.write_all(b"stuck\n").expect("never fails");
        is_asked.recv().expect("the thread writes");
        drop(flush);
    }

    #[test]
    fn a_failing_sink_ends_nothing() {
        struct FullAtFirst(bool, Buffer);
        impl Write for FullAtFirst {
            fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
                if std::mem::take(&mut self.0) { Err(io::ErrorKind::StorageFull.into()) } else { self.1.write(lines) }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let taken = Buffer::default();
        let (mut writer, flush) = LogWriter::start(FullAtFirst(true, taken.clone()), |_| {}).expect("a thread");
        writer.write_all(b"one\n").expect("never fails");
        writer.write_all(b"two\n").expect("never fails");
        drop(flush);
        assert_eq!(taken.text(), "one\ntwo\n", "nothing is lost");
    }
}
