//! The anomaly loop of what is not filing, on PostgreSQL: the connection of a purge, an undo, an import, or a
//! rotation of the accounts' keys ends at the n-th piece that goes to the database, for every n: the piece is lost,
//! or arrives and its answer is lost. Or the connection goes on, and the n-th statement is refused. The deed is done
//! again, or taken up by the server; afterwards all is as if nothing had been.

use crate::app::postgres::{self, name_in};
use crate::beside::postgres_url;
use crate::commands::{Deed, Engine, Task, copied};
use crate::proxy::{Place, Proxy, Trouble};
use crate::table::{random_below, report, scaled};

/// The network in front of the cluster that the stores lie in.
struct Network {
    proxy: Proxy,
    folder: tempfile::TempDir,
}

impl Network {
    /// None where PostgreSQL is not installed.
    fn new() -> Option<Self> {
        let cluster = postgres::cluster()?;
        let folder = tempfile::tempdir().unwrap();
        let proxy = Proxy::in_folder(folder.path(), Place::Folder(cluster.folder().to_owned()));
        Some(Self { proxy, folder })
    }

    /// Begins the task in a copy of its store, with this trouble. Returns the copy, and how often the trouble was met.
    async fn begin(&self, task: &Task, trouble: Trouble) -> (tempfile::TempDir, u64) {
        let store = copied(task.store.path()).await;
        let url = postgres_url(store.path()).unwrap();
        let socket = self.folder.path().to_str().unwrap().replace('/', "%2F");
        let setting = format!("SYNCMX_STORE__URL=postgres://syncmx@{socket}/{}", name_in(&url));
        self.proxy.set(trouble);
        let ended = task.run(store.path(), &[setting]);
        let met = self.proxy.met();
        assert!(matches!(ended.status.code(), Some(0 | 1 | 3)), "{trouble:?}: {ended:?}");
        assert!(met > 0 || ended.status.success(), "{trouble:?} was not met: {ended:?}");
        (store, met)
    }
}

/// At each n, or one of them.
async fn every_piece(deed: Deed, name: &str) {
    let Some(network) = Network::new() else { return };
    let task = Task::new(deed, Engine::Postgres).await;
    let (store, _) = network.begin(&task, Trouble::None).await;
    let pieces = network.proxy.pieces();
    assert!(pieces > 10, "{pieces}");
    let expected = task.finish(store, None).await;
    for (trouble, word) in [
        (Trouble::CutBefore as fn(u64) -> Trouble, "the n-th piece to PostgreSQL is lost"),
        (Trouble::CutAfter, "the answer to the n-th piece is lost"),
        (Trouble::Refuse, "the n-th statement is refused"),
    ] {
        let (step, last) = scaled((1, MOST_PIECES), (pieces, pieces));
        // How many pieces there are differs a little.
        let (mut n, mut rounds) = (1 + random_below(step * 3 / 4), 0);
        while n <= last {
            let (store, met) = network.begin(&task, trouble(n)).await;
            if met == 0 {
                break;
            }
            task.finish(store, Some(&expected)).await.must_be(&expected, n);
            (n, rounds) = (n + step, rounds + 1);
        }
        let measured = format!("{pieces} pieces, {rounds} rounds; then run again: as if nothing had been");
        report("loop", &format!("{name}, PostgreSQL: {word}"), &measured, rounds > 0 && n <= MOST_PIECES);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anomaly_r60_a_purge_of_a_contact_on_postgres() {
    every_piece(Deed::Purge, "purge of a contact").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anomaly_r70a_an_undo_on_postgres() {
    every_piece(Deed::Undo, "undo").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anomaly_an_import_on_postgres() {
    every_piece(Deed::Import, "import of an account").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anomaly_a_rotation_of_the_accounts_keys_on_postgres() {
    every_piece(Deed::RotateAccounts, "rotation of the accounts' keys").await;
}

/// Each of them takes fewer.
const MOST_PIECES: u64 = 3_000;
