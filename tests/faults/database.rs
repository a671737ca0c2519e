//! X2, X3 and beyond: a PostgreSQL that hangs, is restarted, fails over to its replica, or is cut off at any moment.

use std::sync::Arc;
use std::time::Duration;

use crate::app::postgres::{Cluster, Replica};
use crate::interpose::{Fault, How, Interposer, SYNCS, WRITES};
use crate::kill::MANY;
use crate::ledger::{Client, Load, Practices, Sent, Settled, counted, longest};
use crate::proxy::{Place, Proxy, Trouble};
use crate::server::{Server, Setup};
use crate::table::{report, scaled, seconds};

/// A server on a cluster of its own, behind a proxy.
struct Rig {
    server: Server,
    cluster: Cluster,
    proxy: Proxy,
    practices: Option<Practices>,
    rounds: usize,
    _folder: tempfile::TempDir,
}

impl Rig {
    async fn start() -> Option<Self> {
        Self::start_on(Cluster::start()?).await
    }

    async fn start_on(cluster: Cluster) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let proxy = Proxy::in_folder(folder.path(), Place::Folder(cluster.folder().to_owned()));
        let direct = cluster.database().await;
        let (_, database) = direct.rsplit_once('/').unwrap();
        let socket = folder.path().to_str().unwrap().replace('/', "%2F");
        let url = format!("SYNCMX_STORE__URL=postgres://syncmx@{socket}/{database}");
        let server =
            Server::start(Setup { environment: vec![MANY.to_owned(), url], ..Setup::default() }).await;
        let practices = Some(Practices::open(&server.api).await);
        Some(Self { server, cluster, proxy, practices, rounds: 0, _folder: folder })
    }

    /// Mail comes in while `trouble` is made, and for a moment afterwards; then all is counted.
    async fn under_load(&mut self, trouble: impl AsyncFnOnce(&Self)) -> (Vec<Sent>, Vec<Sent>, bool) {
        let mut practices = self.practices.take().unwrap();
        self.rounds += 1;
        practices.begin_round(&format!("load-{}", self.rounds)).await;
        let shared = Arc::new(practices);
        let load: Load = shared.load(self.server.smtp, scaled(50, 12));
        tokio::time::sleep(Duration::from_millis(500)).await;
        trouble(self).await;
        assert!(self.server.is_alive(), "the server goes down with its database");
        let mut sent = load.stop().await;
        let practices = Arc::into_inner(shared).unwrap();
        // No restart: it finds its database by itself.
        let again = practices.retry(self.server.smtp, &sent).await;
        self.server.api.wait_until_ready().await;
        let met = sent.clone();
        sent.extend(again.clone());
        let found = practices.check(&sent, Settled::Yes).await;
        self.practices = Some(practices);
        (met, again, found.is_right())
    }

    /// One mail of so many octets with this trouble at the n-th piece, for each n until a mail is not met by it, and once
    /// more without. What was sent, the last n, and how many were met.
    async fn every_piece(&self, trouble: fn(u64) -> Trouble, octets: usize) -> (Vec<Sent>, u64, usize) {
        let practices = self.practices.as_ref().unwrap();
        let (mut sent, mut n, mut rounds) = (Vec::new(), 1, 0);
        loop {
            let mail = practices.mail_of(octets);
            self.proxy.set(trouble(n));
            sent.push(Client::new(self.server.smtp).send(mail).await);
            let met = self.proxy.met();
            self.proxy.set(Trouble::None);
            // Also the last one: the connection that the one before it lost may be the one that it was given.
            sent.extend(practices.retry(self.server.smtp, &sent[sent.len() - 1..]).await);
            if met == 0 || n > MOST_PIECES {
                return (sent, n, rounds);
            }
            rounds += 1;
            n += scaled(1, 3);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x3_postgres_stopped_under_load() {
    let Some(mut rig) = Rig::start().await else { return };
    let pause = Duration::from_secs(scaled(60, 5));
    let (sent, again, is_right) = rig
        .under_load(async |rig| {
            rig.cluster.signal("STOP");
            tokio::time::sleep(pause).await;
            rig.cluster.signal("CONT");
            tokio::time::sleep(Duration::from_secs(1)).await;
        })
        .await;
    let slowest = longest(&sent).max(longest(&again));
    let measured = format!(
        "{}; longest answer {}; afterwards {}; lost 0, twice 0; no restart",
        counted(&sent),
        seconds(slowest),
        counted(&again)
    );
    let fault = format!("PostgreSQL SIGSTOP for {} s", pause.as_secs());
    report("X3", &fault, &measured, is_right && slowest < Duration::from_secs(70));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x2_postgres_restarted_under_load() {
    let Some(mut rig) = Rig::start().await else { return };
    let rounds = scaled(10, 1);
    let (mut all, mut is_right) = (Vec::new(), true);
    for _ in 0..rounds {
        let (sent, again, right) = rig
            .under_load(async |rig| {
                // Fast shutdown; its keeper starts it again.
                rig.cluster.signal_server("INT");
                tokio::time::sleep(Duration::from_secs(2)).await;
            })
            .await;
        all.extend([sent, again].concat());
        is_right &= right;
    }
    let measured = format!("{rounds} rounds, {}; lost 0, twice 0; no restart of ours", counted(&all));
    report("X2", "PostgreSQL restarted", &measured, is_right);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x2_postgres_fails_over_to_its_replica_under_load() {
    let Some(mut rig) = Rig::start().await else { return };
    let replica: Replica = rig.cluster.replica().await;
    let (sent, again, is_right) = rig
        .under_load(async |rig| {
            rig.proxy.set(Trouble::Stall);
            rig.cluster.signal("KILL");
            replica.promote();
            rig.proxy.lead_to(Place::Folder(replica.folder().to_owned()));
            rig.proxy.set(Trouble::None);
            tokio::time::sleep(Duration::from_secs(1)).await;
        })
        .await;
    let measured =
        format!("{}; afterwards {}; lost 0, twice 0; no restart of ours", counted(&sent), counted(&again));
    report("X2", "PostgreSQL killed, its synchronous replica promoted", &measured, is_right);
}

/// Every write of PostgreSQL finds no space, or every sync of it fails: it goes down, and comes up when that is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x4_the_disk_of_postgres_is_full_or_fails() {
    let Some(interposer) = Interposer::new() else { return };
    interposer.let_others_in();
    let Some(cluster) = Cluster::start_with(&interposer.environment(&std::env::temp_dir())) else { return };
    let Some(mut rig) = Rig::start_on(cluster).await else { return };
    for (fault, kinds, how) in [
        ("ENOSPC on every write of PostgreSQL", WRITES, How::NoSpace),
        ("EIO on every fsync of PostgreSQL", SYNCS, How::InputOutput),
    ] {
        let pause = Duration::from_secs(scaled(20, 2));
        let (sent, again, is_right) = rig
            .under_load(async |_| {
                interposer.arm(Fault { kinds, calls: (1, u64::MAX), how });
                tokio::time::sleep(pause).await;
                interposer.disarm();
                tokio::time::sleep(Duration::from_secs(1)).await;
            })
            .await;
        let measured = format!(
            "{} s, {} calls failed; {}; afterwards {}; lost 0, twice 0; no restart of ours",
            pause.as_secs(),
            interposer.failed(),
            counted(&sent),
            counted(&again)
        );
        report("X4", fault, &measured, is_right && interposer.failed() > 0);
    }
}

/// The network says nothing any more: neither a refusal nor an end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x3_postgres_behind_a_network_that_swallows_everything() {
    let Some(mut rig) = Rig::start().await else { return };
    let (sent, again, is_right) = rig
        .under_load(async |rig| {
            rig.proxy.set(Trouble::Stall);
            tokio::time::sleep(Duration::from_secs(scaled(60, 5))).await;
            rig.proxy.set(Trouble::None);
        })
        .await;
    let slowest = longest(&sent).max(longest(&again));
    let measured = format!(
        "{}; longest answer {}; afterwards {}; lost 0, twice 0",
        counted(&sent),
        seconds(slowest),
        counted(&again)
    );
    let passed = is_right && slowest < Duration::from_secs(70);
    report("X3", &format!("PostgreSQL behind a black hole, {} s", scaled(60, 5)), &measured, passed);
}

/// The connection ends at the n-th piece that goes to the database while one mail is filed, for every n: the piece is
/// lost, or arrives and its answer is lost. Or the connection goes on, and the n-th statement is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anomaly_the_nth_piece_to_postgres_is_lost_or_refused() {
    let Some(mut rig) = Rig::start().await else { return };
    for (trouble, what) in [
        (Trouble::CutBefore as fn(u64) -> Trouble, "the n-th piece to PostgreSQL is lost"),
        (Trouble::CutAfter, "the answer to the n-th piece is lost"),
        (Trouble::Refuse, "the n-th statement is refused"),
    ] {
        let (mut sent, mut most, mut rounds, mut is_right) = (Vec::new(), 0, 0, true);
        for octets in [5 << 10, 300 << 10] {
            let name = format!("{octets} {what}").replace(' ', "-");
            rig.practices.as_mut().unwrap().begin_round(&name).await;
            let (these, last, met) = rig.every_piece(trouble, octets).await;
            is_right &= rig.practices.as_ref().unwrap().check(&these, Settled::Yes).await.is_right();
            sent.extend(these);
            (most, rounds) = (most.max(last), rounds + met);
        }
        is_right &= most <= MOST_PIECES && rounds > 1 && rig.server.is_alive();
        let measured = format!(
            "n = 1 … {most}, {rounds} rounds with mails of 5 and 300 KiB; {}; lost 0, twice 0",
            counted(&sent)
        );
        report("loop", &format!("anomaly loop, PostgreSQL: {what}"), &measured, is_right);
    }
    assert!(rig.server.damaged().is_empty());
}

/// A mail needs fewer.
const MOST_PIECES: u64 = 300;
