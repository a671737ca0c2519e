//! Where log lines go: to standard error, by a thread of their own behind a bounded queue.
//!
//! Promises that whoever logs never waits (row X28: the other end of the pipe does not read, the disk hangs): a line
//! that finds the queue full is dropped and counted, and the number is said when lines get through again.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogFormat;
use crate::time::Timestamp;

/// Makes a writer for each line. Clones share the queue.
#[derive(Clone, Debug)]
pub(super) struct LogSink {
    queue: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

/// One line's writer.
#[derive(Debug)]
pub(super) struct LineWriter<'a>(&'a LogSink);

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// Everything before it has been written once this is answered.
    Flush(SyncSender<()>),
}

impl LogSink {
    /// Writes to `out` from now on, with at most [`QUEUED_LINES`] waiting, all of them in `format`.
    pub(super) fn start(out: impl Write + Send + 'static, format: LogFormat) -> Self {
        let (queue, entries) = sync_channel(QUEUED_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&dropped);
        // Without a thread there is no log, which is no reason to serve no mail.
        let _started = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(&entries, &counted, out, format));
        Self { queue, dropped }
    }

    /// Waits a moment until what is queued is written.
    pub(super) fn flush(&self) {
        let (done, is_done) = sync_channel(1);
        if self.queue.try_send(Entry::Flush(done)).is_ok() {
            let _late = is_done.recv_timeout(FLUSH_LIMIT);
        }
    }
}

impl<'a> MakeWriter<'a> for LogSink {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter(self)
    }
}

impl Write for LineWriter<'_> {
    /// The subscriber writes each line whole.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.queue.try_send(Entry::Line(line.to_vec())).is_err() {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("syncmx_log_lines_dropped_total").increment(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Until nobody can log any more. A line is written at once, those that follow it together: whoever logs need not wake
/// this thread for each.
fn write_all(entries: &Receiver<Entry>, dropped: &AtomicU64, mut out: impl Write, format: LogFormat) {
    let mut lines = Vec::new();
    while let Ok(first) = entries.recv() {
        for entry in std::iter::once(first).chain(entries.try_iter()) {
            match entry {
                Entry::Line(line) => lines.extend_from_slice(&line),
                Entry::Flush(done) => {
                    write_lines(&mut lines, dropped, &mut out, format);
                    let _lost = out.flush();
                    let _gone = done.try_send(());
                }
            }
            if lines.len() >= WRITTEN_AT_ONCE {
                write_lines(&mut lines, dropped, &mut out, format);
            }
        }
        write_lines(&mut lines, dropped, &mut out, format);
        std::thread::sleep(GATHERING);
    }
}

/// And empties them.
fn write_lines(lines: &mut Vec<u8>, dropped: &AtomicU64, out: &mut impl Write, format: LogFormat) {
    let lost_before = dropped.swap(0, Ordering::Relaxed);
    if lost_before > 0 {
        lines.extend_from_slice(told(lost_before, format).as_bytes());
        lines.push(b'\n');
    }
    let _lost = out.write_all(lines);
    lines.clear();
}

/// In the shape of the other lines.
fn told(lost: u64, format: LogFormat) -> String {
    let now = Timestamp::now().to_rfc3339();
    let (target, message) = (module_path!(), "log.lines_dropped");
    match format {
        LogFormat::Json => {
            let fields = json!({"message": message, "lines": lost});
            json!({"timestamp": now, "level": "WARN", "fields": fields, "target": target}).to_string()
        }
        LogFormat::Text => format!("{now}  WARN {target}: {message} lines={lost}"),
    }
}

/// Half a second of a busy server at level `info`.
const QUEUED_LINES: usize = 1024;
const FLUSH_LIMIT: Duration = Duration::from_secs(1);
/// Octets; a line more may be in it.
const WRITTEN_AT_ONCE: usize = 64 * 1024;
const GATHERING: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc;

    use super::*;

    /// Takes nothing until it is told to.
    struct Blocked {
        released: Receiver<()>,
        is_released: bool,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Blocked {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            if !self.is_released {
                let _gone = self.released.recv();
                self.is_released = true;
            }
            self.taken.lock().unwrap().extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn x28_a_sink_that_takes_nothing_holds_nobody_up_and_what_is_dropped_is_counted() {
        let (release, released) = mpsc::channel();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let sink = LogSink::start(
            Blocked { released, is_released: false, taken: Arc::clone(&taken) },
            LogFormat::Json,
        );
        // Some may already be in the hands of the thread.
        let in_hand = WRITTEN_AT_ONCE / 1024;
        let lines = QUEUED_LINES + in_hand + 100;
        for number in 0..lines {
            sink.make_writer().write_all(format!("line {number}{:1024}\n", "").as_bytes()).unwrap();
        }
        let dropped = sink.dropped.load(Ordering::Relaxed);
        assert!(dropped >= 100, "{dropped}");
        release.send(()).unwrap();
        // The queue may be full for a moment yet.
        let mut tries = 0;
        while !String::from_utf8_lossy(&taken.lock().unwrap()).contains("log.lines_dropped") {
            sink.flush();
            tries += 1;
            assert!(tries < 1000, "the number is said");
            std::thread::sleep(Duration::from_millis(10));
        }
        let text = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
        assert!(text.starts_with("line 0 "), "what was queued is written in order");
        let said = text.lines().find(|line| line.contains("log.lines_dropped")).unwrap();
        let said: serde_json::Value = serde_json::from_str(said).unwrap();
        assert!(said["fields"]["lines"].as_u64().unwrap() >= 100 && said["level"] == "WARN", "{said}");
    }
}
