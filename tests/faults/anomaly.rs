//! The anomaly loop: the n-th call that changes a file fails, for every n until a mail needs no more of them; or ends
//! the process. And power cuts: what was written and not synced is gone.

use std::sync::Arc;
use std::time::Duration;

use crate::interpose::{Fault, How, Interposer, READS, SYNCS, WRITES};
use crate::kill::MANY;
use crate::ledger::{Client, End, Practices, Sent, Settled, counted};
use crate::server::{Server, Setup};
use crate::table::{random_below, report, scaled};

/// A server whose calls are counted, its spool in the data folder too.
async fn faulted(interposer: &Interposer, is_noted: bool) -> Server {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir_all(data.join("tmp")).unwrap();
    let mut environment =
        if is_noted { interposer.environment_with_journal(&data) } else { interposer.environment(&data) };
    environment.extend([MANY.to_owned(), format!("TMPDIR={}", data.join("tmp").display())]);
    Server::start_in(folder, Setup { environment, ..Setup::default() }).await
}

/// What one round did.
struct Loop<'a> {
    interposer: &'a Interposer,
    server: Server,
    practices: Practices,
    sent: Vec<Sent>,
}

impl<'a> Loop<'a> {
    async fn start(interposer: &'a Interposer) -> Self {
        let server = faulted(interposer, false).await;
        let practices = Practices::open(&server.api).await;
        let mut started = Self { interposer, server, practices, sent: Vec::new() };
        // The first mail makes what later ones find.
        for octets in [5 << 10, 300 << 10] {
            started.send(octets).await;
        }
        started
    }

    async fn send(&mut self, octets: usize) -> End {
        let sent = Client::new(self.server.smtp).send(self.practices.mail_of(octets)).await;
        let end = sent.end.clone();
        self.sent.push(sent);
        end
    }

    /// The n-th call fails while one mail is sent. None if the mail needs fewer; else what was answered.
    async fn round(&mut self, n: u64, fault: Fault, octets: usize) -> Option<End> {
        self.interposer.arm(Fault { calls: (n, fault.calls.1.saturating_add(n - 1)), ..fault });
        let end = self.send(octets).await;
        let failed = self.interposer.failed();
        self.interposer.disarm();
        if fault.how == How::Ends && failed > 0 {
            self.server.kill();
            self.server.start_again().await;
            self.practices.at(&self.server.api);
        } else {
            assert!(self.server.is_alive(), "call {n} that failed ends the server");
        }
        (failed > 0).then_some(end)
    }

    /// Everything is there, nothing twice, and what was put off is taken now.
    async fn settle(&mut self) -> bool {
        let before = self.practices.check(&self.sent, Settled::No).await;
        let again = self.practices.retry(self.server.smtp, &self.sent).await;
        self.sent.extend(again);
        let after = self.practices.check(&self.sent, Settled::Yes).await;
        before.is_right() && after.is_right()
    }
}

/// For mails of two sizes, each n. The calls that one mail needs, at most.
async fn every_call(name: &str, id: &str, kinds: u64, how: How, lasting: u64, step: u64) {
    let Some(interposer) = Interposer::new() else { return };
    let mut anomalies = Loop::start(&interposer).await;
    let (mut rounds, mut most, mut is_right) = (0, 0, true);
    for octets in [5 << 10, 300 << 10] {
        anomalies.practices.begin_round(&format!("{octets}")).await;
        anomalies.sent.clear();
        let mut n = 1 + random_below(step);
        while n <= MOST_CALLS {
            let fault = Fault { kinds, calls: (1, lasting), how };
            if anomalies.round(n, fault, octets).await.is_none() {
                break;
            }
            (rounds, most) = (rounds + 1, most.max(n));
            n += step;
        }
        assert!(n <= MOST_CALLS, "one mail of {octets} octets takes more than {MOST_CALLS} calls");
        is_right &= anomalies.settle().await;
    }
    is_right &= anomalies.server.damaged().is_empty();
    let what = format!("anomaly loop, SQLite and blob folder: {name}");
    let measured = format!(
        "n = 1 … {most}, {rounds} rounds with mails of 5 and 300 KiB; lost 0, twice 0; the server goes on"
    );
    report(id, &what, &measured, is_right);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anomaly_the_nth_write_fails() {
    every_call(
        "the n-th write, creation, renaming or truncation is EIO",
        "loop",
        WRITES,
        How::InputOutput,
        1,
        scaled(1, 3),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anomaly_the_nth_write_and_all_after_it_find_no_space() {
    every_call(
        "from the n-th on, half written, then ENOSPC",
        "loop",
        WRITES,
        How::NoSpace,
        u64::MAX / 2,
        scaled(1, 11),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anomaly_the_nth_sync_fails() {
    every_call("the n-th fsync is EIO", "fsync", SYNCS, How::InputOutput, 1, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anomaly_the_nth_sync_and_all_after_it_fail() {
    every_call("from the n-th fsync on, EIO", "fsync", SYNCS, How::InputOutput, u64::MAX / 2, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anomaly_the_process_ends_at_the_nth_call() {
    every_call("the process ends at the n-th call", "loop", WRITES | SYNCS, How::Ends, 1, scaled(1, 9)).await;
}

/// What is stored cannot be read for a moment: nothing is answered that is not so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anomaly_the_nth_read_fails() {
    every_call("the n-th read is EIO", "loop", READS, How::InputOutput, 1, 1).await;
}

/// Nothing is in memory yet: whoever reads a message gets it, or is told that it cannot be read just now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anomaly_the_nth_read_after_a_start_fails() {
    let Some(interposer) = Interposer::new() else { return };
    let mut anomalies = Loop::start(&interposer).await;
    let mut stored = Vec::new();
    for sent in &anomalies.sent {
        let desk = &anomalies.practices.desks()[sent.mail.desk];
        let message = anomalies.practices.only_message(desk).await;
        stored.push((format!("/accounts/{}/messages/{message}/raw", desk.account), sent.mail.clone()));
    }
    let (step, mut rounds, mut refused, mut is_right) = (scaled(1, 11), 0, 0, true);
    let mut n = 1 + random_below(step);
    loop {
        anomalies.server.kill();
        anomalies.server.start_again().await;
        anomalies.practices.at(&anomalies.server.api);
        interposer.arm(Fault { kinds: READS, calls: (n, n), how: How::InputOutput });
        for (path, mail) in &stored {
            let (status, octets) = anomalies.server.api.some_bytes(path).await;
            refused += u32::from(status.is_server_error());
            is_right &= status.is_server_error() || status.is_success() && octets.ends_with(mail.raw());
        }
        anomalies.send(5 << 10).await;
        let failed = interposer.failed();
        interposer.disarm();
        for (path, mail) in &stored {
            is_right &= anomalies.server.api.bytes(path).await.1.ends_with(mail.raw());
        }
        assert!(anomalies.server.is_alive() && n <= MOST_CALLS, "call {n}");
        if failed == 0 {
            break;
        }
        (rounds, n) = (rounds + 1, n + step);
    }
    is_right &= anomalies.settle().await && anomalies.server.damaged().is_empty();
    let measured = format!(
        "n = 1 … {n}, {rounds} rounds; {refused} messages could not be read, and could at once when it was over; {}; lost 0, twice 0",
        counted(&anomalies.sent)
    );
    report(
        "loop",
        "anomaly loop, SQLite and blob folder: the n-th read after a start is EIO",
        &measured,
        is_right && refused > 0,
    );
}

/// Killed under load, and what was never synced is taken back: all of it, or every other write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x1_power_cut_under_load() {
    let Some(interposer) = Interposer::new() else { return };
    let mut server = faulted(&interposer, true).await;
    let mut practices = Practices::open(&server.api).await;
    let (mut all, mut kept, mut undone, mut is_right) = (Vec::new(), 0, 0, true);
    let rounds = scaled(50, 3);
    for round in 0..rounds {
        practices.begin_round(&round.to_string()).await;
        let shared = Arc::new(practices);
        let load = shared.load(server.smtp, scaled(50, 12));
        tokio::time::sleep(Duration::from_millis(100 + random_below(1500))).await;
        server.kill();
        let mut sent = load.stop().await;
        practices = Arc::into_inner(shared).unwrap();
        undone += interposer.cut_power(|| round % 2 == 0 || random_below(2) == 0);
        server.start_again().await;
        practices.at(&server.api);
        let before = practices.check(&sent, Settled::No).await;
        sent.extend(practices.retry(server.smtp, &sent).await);
        let after = practices.check(&sent, Settled::Yes).await;
        kept += before.kept;
        is_right &= before.is_right() && after.is_right();
        all.extend(sent);
        assert!(is_right, "round {round}");
    }
    is_right &= server.damaged().is_empty();
    let measured = format!(
        "{rounds} rounds, {}; {undone} changes that were not synced were taken back, kept before the retry {kept}; lost 0, twice 0",
        counted(&all)
    );
    report(
        "X1",
        "power cut under load (kill -9, unsynced writes undone), SQLite and blob folder",
        &measured,
        is_right && undone > 0,
    );
}

/// A mail needs fewer, even where the index of the search is merged with it.
const MOST_CALLS: u64 = 2_000;
