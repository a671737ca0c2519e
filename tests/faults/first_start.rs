//! The first start of all makes the keys, the database and its schema. It fails, or ends, at the n-th call: the next
//! one comes up and takes mail, whatever was left behind, after a power cut too.

use std::os::unix::process::ExitStatusExt;

use crate::interpose::{Fault, How, Interposer, SYNCS, WRITES};
use crate::ledger::{Client, End, Practices, Settled};
use crate::server::{Server, Setup};
use crate::table::{random_below, report, scaled};

/// How the first start ends at each call.
async fn first_starts(fault: &str, how: How, is_power_cut: bool) {
    let Some(interposer) = Interposer::new() else { return };
    let (mut n, mut rounds, mut came_up) = (1, 0, 0);
    let mut is_right = true;
    loop {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir_all(&data).unwrap();
        let environment = || Setup {
            environment: match is_power_cut {
                true => interposer.environment_with_journal(&data),
                false => interposer.environment(&data),
            },
            ..Setup::default()
        };
        interposer.arm(Fault { kinds: WRITES | SYNCS, calls: (n, n), how });
        let first = Server::try_start_in(folder, environment()).await;
        let failed = interposer.failed();
        interposer.disarm();
        let folder = match first {
            Ok(server) => {
                came_up += u32::from(failed > 0);
                server.into_folder()
            }
            Err(failed) => {
                is_right &= failed.status.signal() == Some(9) || matches!(failed.status.code(), Some(2 | 3));
                is_right &= failed.status.code().is_none() || failed.said.lines().count() == 1;
                assert!(is_right, "call {n}: {} {}", failed.status, failed.said);
                failed.folder
            }
        };
        if is_power_cut {
            interposer.cut_power(|| n % 2 == 0 || random_below(2) == 0);
        }
        is_right &= takes_mail(n, Server::try_start_in(folder, environment()).await).await;
        assert!(is_right, "call {n}");
        if failed == 0 || n > MOST_CALLS {
            break;
        }
        rounds += 1;
        // The keys come first, the schema is long, the certificate comes last.
        n += if (30..300).contains(&n) { scaled(7, 89) } else { scaled(1, 19) };
    }
    let measured = format!(
        "n = 1 … {n}, {rounds} rounds, {came_up} came up all the same, the others said why in one line; the next start takes mail"
    );
    report("start", fault, &measured, is_right && n <= MOST_CALLS);
}

async fn takes_mail(n: u64, started: Result<Server, crate::server::NotStarted>) -> bool {
    let server = match started {
        Ok(server) => server,
        Err(failed) => {
            panic!("after an end at call {n} it never comes up: {} {}", failed.status, failed.said)
        }
    };
    let practices = Practices::open(&server.api).await;
    let sent = Client::new(server.smtp).send(practices.mail_of(5 << 10)).await;
    sent.end == End::Kept && practices.check(&[sent], Settled::Yes).await.is_right()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anomaly_the_first_start_ends_at_the_nth_call() {
    first_starts("the first start is killed at the n-th call", How::Ends, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anomaly_the_power_goes_at_the_nth_call_of_the_first_start() {
    first_starts("power cut at the n-th call of the first start", How::Ends, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anomaly_the_nth_call_of_the_first_start_fails() {
    first_starts("the n-th call of the first start is EIO", How::InputOutput, false).await;
}

/// Keys, database, schema and token take fewer.
const MOST_CALLS: u64 = 5000;
