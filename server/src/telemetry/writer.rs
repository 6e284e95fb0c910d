//! A log sink that may block, behind a queue that never does.
//!
//! A pipe whose reader stopped, or a full disk, must not stop requests. So each line goes into a bounded queue, and one
//! thread writes. When the queue is full the line is dropped and counted, and the log tells how many are missing once the
//! sink takes lines again. (What must not be lost is in the audit table, not here.)

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError},
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
    lines: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

enum Message {
    Line(Vec<u8>),
    Stop,
}

/// Dropping it writes what is queued.
#[must_use = "dropped at once, it ends the log"]
pub struct Flush {
    lines: SyncSender<Message>,
    ended: Receiver<()>,
}

impl LogWriter {
    /// `report` is told, on the writing thread, how many lines were dropped so far whenever that number has grown. It
    /// may log: a report that is dropped in turn makes the number grow, and so comes again.
    pub fn start(sink: impl Write + Send + 'static, report: impl Fn(u64) + Send + 'static) -> io::Result<(Self, Flush)> {
        let (lines, queue) = mpsc::sync_channel(QUEUE);
        let (end, ended) = mpsc::channel();
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = dropped.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || {
            write_lines(&queue, sink, &counter, report);
            drop(end);
        })?;
        Ok((Self { lines: lines.clone(), dropped }, Flush { lines, ended }))
    }
}

fn write_lines(queue: &Receiver<Message>, mut sink: impl Write, dropped: &AtomicU64, report: impl Fn(u64)) {
    let mut reported = 0;
    let mut write_out = |lines: &mut Vec<u8>| {
        // A sink that fails has nobody to tell; the next lines may fare better.
        let _ = sink.write_all(lines);
        lines.clear();
        let missing = dropped.load(Ordering::Relaxed);
        if missing > reported {
            reported = missing;
            report(missing);
        }
    };
    let mut lines = Vec::with_capacity(AT_ONCE);
    let wait = || queue.recv().map_err(|_| TryRecvError::Disconnected);
    let mut next = wait();
    while let Ok(Message::Line(line)) = next {
        if !lines.is_empty() && lines.len() + line.len() > AT_ONCE {
            write_out(&mut lines);
        }
        lines.extend(line);
        next = queue.try_recv();
        if matches!(next, Err(TryRecvError::Empty)) {
            write_out(&mut lines);
            thread::sleep(REST);
            next = wait();
        }
    }
    if !lines.is_empty() {
        write_out(&mut lines);
    }
    let _ = sink.flush();
}

impl Drop for Flush {
    fn drop(&mut self) {
        // Both fail only if the writing thread is gone or stuck, and then there is nothing to wait for.
        let stopped = self.lines.try_send(Message::Stop);
        if stopped.is_ok() {
            let _: Result<(), RecvTimeoutError> = self.ended.recv_timeout(LAST_LINES);
        }
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
        if self.lines.try_send(Message::Line(line.to_vec())).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
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
        drop(let_all_go);
        // Now everything is let go. The queue is full at first, and the order to stop has to get in.
        while flush.lines.try_send(Message::Stop).is_err() {
            thread::yield_now();
        }
        flush.ended.recv().expect_err("the thread ended");
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
        #[derive(Default)]
        struct Full(Vec<u8>);
        impl Write for Full {
            fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
                self.0.extend(lines);
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                assert_eq!(self.0, b"one\ntwo\n", "tried each line");
                Ok(())
            }
        }
        let (mut writer, flush) = LogWriter::start(Full::default(), |_| {}).expect("a thread");
        writer.write_all(b"one\n").expect("never fails");
        writer.write_all(b"two\n").expect("never fails");
        drop(flush);
    }
}
