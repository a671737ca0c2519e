//! The clock jumps a day ahead and back while mail comes in; and syncs that take long: no answer comes before its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use syncmx::cli::demo::mailer::{Mailer, Security};

use crate::api::Desk;
use crate::app::postgres::Cluster;
use crate::interpose::Interposer;
use crate::kill::MANY;
use crate::ledger::{Client, Practices, Settled, all_of, counted, longest};
use crate::mail::{Draft, LENA};
use crate::server::{Server, Setup};
use crate::table::{goal, report, scaled, seconds};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clock_jumps_a_day_ahead_and_back() {
    let Some(interposer) = Interposer::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut environment = interposer.environment(&folder.path().join("data"));
    environment.push(MANY.to_owned());
    let mut server = Server::start_in(folder, Setup { environment, ..Setup::default() }).await;
    let mut practices = Practices::open(&server.api).await;
    let (mut all, mut is_right) = (Vec::new(), true);
    for (name, days) in [("ahead", 1), ("back", -1), ("month", 31), ("now", 0)] {
        practices.begin_round(name).await;
        let before = last_event(&practices).await;
        let shared = Arc::new(practices);
        let load = shared.load(server.smtp, scaled(50, 12));
        let pause = Duration::from_millis(scaled(5000, 700));
        tokio::time::sleep(pause).await;
        interposer.set_clock(days * 86_400);
        tokio::time::sleep(pause).await;
        let sent = load.stop().await;
        practices = Arc::into_inner(shared).unwrap();
        assert!(server.is_alive());
        // Sessions go on as if nothing had happened: each mail was taken at its first try.
        is_right &= practices.check(&sent, Settled::Yes).await.is_right();
        // Who reads on from the last event that they know misses none.
        let read_on = all_of(&practices.desks()[0], "/events", &format!("&after={before}")).await;
        let filed = read_on.iter().filter(|event| event["type"] == "message.filed").count();
        is_right &= filed == sent.iter().filter(|one| one.mail.desk == 0).count();
        all.extend(sent);
    }
    is_right &= server.damaged().is_empty();
    let measured = format!(
        "{}; longest answer {}; lost 0, twice 0; events in order for who reads on",
        counted(&all),
        seconds(longest(&all))
    );
    report("clock", "the clock jumps a day ahead, two back, a month ahead, and to now", &measured, is_right);
}

/// One mail to nobody in particular: it waits to be looked at (R24, R36).
pub(crate) async fn hold(server: &Server, desk: &Desk, text: &str) {
    let raw =
        LENA.sign(&Draft { id: "held", to: "undisclosed-recipients:;", text, ..Draft::default() }.raw());
    let mut mailer = Mailer::connect(server.smtp, LENA.client, LENA.helo, &Security::Plain).await.unwrap();
    let answers = mailer.send(LENA.mail_from, std::slice::from_ref(&desk.sync), &raw).await.unwrap();
    desk.expect(&answers, "250 2.0.0", "held", "unknown_contact").await;
}

async fn held(desks: [&Desk; 2], server: &Server) -> [usize; 2] {
    let mut counts = [0; 2];
    for (count, desk) in counts.iter_mut().zip(desks) {
        let listed = desk.clone().by(server.api.clone()).get("/held").await;
        *count = listed["items"].as_array().unwrap().len();
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r36_a_start_with_a_wrong_clock_ends_nothing_before_it_has_run_for_a_day() {
    let Some(interposer) = Interposer::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let environment = interposer.environment(&folder.path().join("data"));
    let mut server = Server::start_in(folder, Setup { environment, ..Setup::default() }).await;
    let (days, month) = (Desk::open_by(server.api.clone()).await, Desk::open_by(server.api.clone()).await);
    days.patch("", json!({ "settings": { "held_days": 1 } })).await;
    for desk in [&days, &month] {
        hold(&server, desk, "One of these days.\r\n").await;
    }
    server.will_say(ENDED, 1).await;
    let (mut ended, mut doubted) = (1, 0);
    for (hours, is_believed, left) in [
        (40 * 24, false, [1, 1]),
        // A restart is no reason to believe it.
        (40 * 24, false, [1, 1]),
        (-2, false, [1, 1]),
        (0, true, [1, 1]),
        // Off for a day and a half: what has had its time ends at the start, as ever.
        (36, true, [0, 1]),
        (40 * 24, false, [0, 1]),
    ] {
        server.kill();
        interposer.set_clock(hours * 3600);
        server.start_again().await;
        if is_believed {
            ended += 1;
            server.will_say(ENDED, ended).await;
        } else {
            doubted += 1;
            server.will_say(DOUBTED, doubted).await;
        }
        assert_eq!(held([&days, &month], &server).await, left, "the clock {hours} hours off");
    }
    assert_eq!(server.log().matches(ENDED).count(), ended);
    interposer.pass(25 * 3600, 0);
    server.will_say(ENDED, ended + 1).await;
    assert_eq!(held([&days, &month], &server).await, [0, 0], "a day later it is believed");
    server.kill();
    server.start_again().await;
    server.will_say(ENDED, ended + 2).await;
    assert_eq!(server.log().matches(DOUBTED).count(), doubted, "and stays so");
    report("clock", "a start 40 days ahead, and 2 hours back", "held mail is there until a day later", true);
}

/// Of the first account; its newest.
async fn last_event(practices: &Practices) -> String {
    let events = all_of(&practices.desks()[0], "/events", "").await;
    events.last().unwrap()["id"].as_str().unwrap().to_owned()
}

/// X5: with syncs of a third of a second no answer comes sooner, and one sync serves all who wait.
async fn slow_syncs(server: &Server, interposer: &Interposer, engine: &str) {
    let mut practices = Practices::open(&server.api).await;
    // The first mail of a session may find something to do besides.
    Client::new(server.smtp).send(practices.mail_of(5 << 10)).await;
    practices.begin_round("slow").await;
    interposer.slow_down_syncs(SLOW_MICROS);
    let mut quickest = Duration::MAX;
    let mut sent = Vec::new();
    for octets in [5 << 10, 5 << 10, 150 << 10] {
        let one = Client::new(server.smtp).send(practices.mail_of(octets)).await;
        quickest = quickest.min(one.took);
        sent.push(one);
    }
    interposer.slow_down_syncs(4000);
    let (began, shared) = (Instant::now(), Arc::new(practices));
    let load = shared.load(server.smtp, 50);
    tokio::time::sleep(Duration::from_secs(scaled(20, 2))).await;
    let grouped = load.stop().await;
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let rate = grouped.len() as f64 / began.elapsed().as_secs_f64();
    interposer.slow_down_syncs(0);
    sent.extend(grouped);
    let practices = Arc::into_inner(shared).unwrap();
    let is_right = practices.check(&sent, Settled::Yes).await.is_right();
    let measured = format!(
        "syncs of 300 ms: the quickest 250 came after {:.0} ms; syncs of 4 ms, 50 sessions: {rate:.0} mails/s, client included",
        quickest.as_secs_f64() * 1e3
    );
    let waits = quickest >= Duration::from_micros(SLOW_MICROS);
    report("X5", &format!("every 250 waits for its sync, {engine}"), &measured, waits && is_right);
    let what = format!("group commit, {engine}: more than 500 mails/s with 50 sessions and syncs of 4 ms");
    goal("X5", &what, &format!("{rate:.0} mails/s, client included"), rate > RATE_GOAL);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x5_every_250_waits_for_its_sync_with_sqlite() {
    let Some(interposer) = Interposer::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut environment = interposer.environment(&folder.path().join("data"));
    environment.push(MANY.to_owned());
    let server = Server::start_in(folder, Setup { environment, ..Setup::default() }).await;
    slow_syncs(&server, &interposer, "SQLite").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x5_every_250_waits_for_its_sync_with_postgres() {
    let Some(interposer) = Interposer::new() else { return };
    interposer.let_others_in();
    // Everything below /: the cluster's folder has no name yet.
    let Some(cluster) = Cluster::start_with(&interposer.environment(&std::env::temp_dir())) else { return };
    let environment = vec![MANY.to_owned(), format!("SYNCMX_STORE__URL={}", cluster.database().await)];
    let server = Server::start(Setup { environment, ..Setup::default() }).await;
    slow_syncs(&server, &interposer, "PostgreSQL").await;
}

/// What the hourly work says.
pub(crate) const ENDED: &str = "housekeeping.done";
const DOUBTED: &str = "the clock has jumped, or is far from";
const SLOW_MICROS: u64 = 300_000;
/// Mails a second, of a release build on a quiet machine.
const RATE_GOAL: f64 = 500.0;
