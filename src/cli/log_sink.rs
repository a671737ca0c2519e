//! Where log lines go: to standard error, by a thread of their own behind a bounded queue.
//!
//! Promises that whoever logs never waits (row X28: the other end of the pipe does not read, the disk hangs or is full):
//! a line that finds the queue full, or cannot be written, is dropped and counted, and the number is said when lines get
//! through again.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

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
        let _started = std::thread::Builder::new().name("log".to_owned()).spawn(move || {
            Log { out, format, dropped: counted, lines: Vec::new(), is_torn: false }.write_all(&entries)
        });
        Self { queue, dropped }
    }

    /// Waits a moment until what is queued is written.
    pub(super) fn flush(&self) {
        let (done, is_done) = sync_channel(1);
        let ends = Instant::now() + FLUSH_LIMIT;
        let mut flush = Entry::Flush(done);
        while let Err(TrySendError::Full(full)) = self.queue.try_send(flush) {
            if Instant::now() >= ends {
                return;
            }
            flush = full;
            std::thread::sleep(GATHERING);
        }
        let _late = is_done.recv_timeout(ends.saturating_duration_since(Instant::now()));
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
            count(&self.0.dropped, 1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The thread's end.
struct Log<W> {
    out: W,
    format: LogFormat,
    dropped: Arc<AtomicU64>,
    /// Gathered, and not yet written.
    lines: Vec<u8>,
    /// Whether only a part of the last line got out.
    is_torn: bool,
}

impl<W: Write> Log<W> {
    /// Until nobody can log any more. A line is written at once, those that follow it together: whoever logs need not
    /// wake this thread for each.
    fn write_all(mut self, entries: &Receiver<Entry>) {
        while let Ok(first) = entries.recv() {
            for entry in std::iter::once(first).chain(entries.try_iter()) {
                match entry {
                    Entry::Line(line) => self.lines.extend_from_slice(&line),
                    Entry::Flush(done) => {
                        self.write_lines();
                        let _lost = self.out.flush();
                        let _gone = done.try_send(());
                    }
                }
                if self.lines.len() >= WRITTEN_AT_ONCE {
                    self.write_lines();
                }
            }
            self.write_lines();
            std::thread::sleep(GATHERING);
        }
    }

    /// And how many were dropped before, which is forgotten only when it has been said.
    fn write_lines(&mut self) {
        let mut lines = std::mem::take(&mut self.lines);
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > 0 {
            lines.extend_from_slice(told(dropped, self.format).as_bytes());
            lines.push(b'\n');
        }
        if self.is_torn && !lines.is_empty() {
            self.is_torn = self.write_some(b"\n") == 0;
        }
        let taken = if self.is_torn { 0 } else { self.write_some(&lines) };
        let (written, rest) = lines.split_at(taken);
        if let Some(last) = written.last() {
            self.is_torn = *last != b'\n';
        }
        if rest.is_empty() {
            self.dropped.fetch_sub(dropped, Ordering::Relaxed);
        } else {
            let lost = rest.iter().filter(|octet| **octet == b'\n').count();
            count(&self.dropped, lost.saturating_sub(usize::from(dropped > 0)) as u64);
        }
        lines.clear();
        self.lines = lines;
    }

    /// How many octets got out.
    fn write_some(&mut self, octets: &[u8]) -> usize {
        let mut written = 0;
        while let Some(rest @ [_, ..]) = octets.get(written..) {
            match self.out.write(rest) {
                Ok(0) => break,
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(GATHERING),
                Err(_) => break,
            }
        }
        written
    }
}

fn count(dropped: &AtomicU64, lines: u64) {
    dropped.fetch_add(lines, Ordering::Relaxed);
    metrics::counter!("syncmx_log_lines_dropped_total").increment(lines);
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
    use std::sync::atomic::AtomicBool;
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
        sink.flush();
        let text = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
        assert!(text.starts_with("line 0 "), "what was queued is written in order");
        let said = text.lines().filter(|line| line.contains("log.lines_dropped")).map(|said| {
            let said: serde_json::Value = serde_json::from_str(said).unwrap();
            assert_eq!(said["level"], "WARN");
            said["fields"]["lines"].as_u64().unwrap()
        });
        assert_eq!(said.sum::<u64>(), dropped, "{text}");
        assert_eq!(
            text.lines().filter(|line| line.starts_with("line ")).count() as u64,
            lines as u64 - dropped
        );
    }

    /// A disk that has room for so many octets, until there is more.
    struct Disk {
        room: usize,
        has_more: Arc<AtomicBool>,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Disk {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            if self.has_more.load(Ordering::Relaxed) {
                self.room = usize::MAX;
            }
            let taken = octets.len().min(self.room);
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= taken;
            self.taken.lock().unwrap().extend_from_slice(&octets[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn x28_what_could_not_be_written_is_counted_and_the_number_outlives_another_failure() {
        let (has_more, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let disk = Disk { room: 9, has_more: Arc::clone(&has_more), taken: Arc::clone(&taken) };
        let sink = LogSink::start(disk, LogFormat::Text);
        for number in 0..5 {
            sink.make_writer().write_all(format!("line {number}\n").as_bytes()).unwrap();
            if number % 2 == 0 {
                sink.flush();
            }
        }
        has_more.store(true, Ordering::Relaxed);
        sink.make_writer().write_all(b"line 5\n").unwrap();
        sink.flush();
        let text = String::from_utf8(taken.lock().unwrap().clone()).unwrap();
        let (torn, whole) = text.split_at(9);
        assert_eq!(torn, "line 0\nli");
        let mut lines: Vec<&str> = whole.trim_start().lines().collect();
        lines.sort_unstable();
        assert!(lines[0].ends_with("log.lines_dropped lines=4"), "{text}");
        assert_eq!(lines[1..], ["line 5"], "{text}");
        assert_eq!(sink.dropped.load(Ordering::Relaxed), 0);
    }
}
