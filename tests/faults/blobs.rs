//! The bucket is slow, fails, is cut off at any moment, returns wrong octets: large mails are put off and small ones
//! are filed; what cannot be read says so.

use std::time::Duration;

use crate::api::Desk;
use crate::bucket::{Bucket, IN_PARTS, noise};
use crate::clock::{ENDED, hold};
use crate::interpose::Interposer;
use crate::kill::MANY;
use crate::ledger::{Client, End, Practices, Sent, Settled, counted, longest};
use crate::proxy::{OfRequest, Place, Proxy, Trouble};
use crate::server::{Server, Setup};
use crate::table::{is_full, report, scaled, seconds};

struct Rig {
    server: Server,
    practices: Practices,
    proxy: Proxy,
    bucket: Bucket,
    sent: Vec<Sent>,
}

impl Rig {
    async fn start() -> Option<Self> {
        let bucket = Bucket::start().await?;
        let (proxy, address) = Proxy::on_port(Place::Port(bucket.address)).await;
        let mut environment: Vec<String> =
            Bucket::environment_at(address).iter().map(|setting| (*setting).to_owned()).collect();
        environment.push(MANY.to_owned());
        let server = Server::start(Setup { environment, ..Setup::default() }).await;
        let practices = Practices::open(&server.api).await;
        Some(Self { server, practices, proxy, bucket, sent: Vec::new() })
    }

    async fn send(&mut self, octets: usize) -> End {
        let sent = Client::new(self.server.smtp).send(self.practices.mail_of(octets)).await;
        let end = sent.end.clone();
        self.sent.push(sent);
        end
    }

    async fn settle(&mut self) -> bool {
        self.proxy.set(Trouble::None);
        let again = self.practices.retry(self.server.smtp, &self.sent).await;
        self.sent.extend(again);
        self.practices.check(&self.sent, Settled::Yes).await.is_right()
    }
}

const LARGE: usize = 200 << 10;

/// The sweep comes an hour after the start: for the server it passes at once, its wall clock beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sweep_of_a_bucket_takes_orphans_of_more_than_an_hour_and_nothing_else() {
    let (Some(interposer), Some(bucket)) = (Interposer::new(), Bucket::start().await) else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut environment = interposer.environment(&folder.path().join("data"));
    environment.extend(bucket.environment().map(str::to_owned));
    let mut server = Server::start_in(folder, Setup { environment, ..Setup::default() }).await;
    let practices = Practices::open(&server.api).await;
    let filed = Client::new(server.smtp).send(practices.mail_of(LARGE)).await;
    assert_eq!(filed.end, End::Kept);
    let desk = &practices.desks()[0];
    hold(&server, desk, &noise(LARGE)).await;
    assert_eq!(bucket.keys().await.len(), 2, "one filed, one held");

    let account = desk.account.replace('-', "");
    let orphan = format!("mail/blobs/{account}/ab/0192f0c123457abc8def0123456789ab");
    bucket.put(&orphan).await;
    let name = orphan.strip_prefix("mail/blobs/").unwrap();
    let foreign = name.replace(&account, &"0123456789abcdef".repeat(2));
    for other in ["", "mail/", "mail/blobs-of-others/", "mail/blobs/mail/blobs/", "other/mail/blobs/"] {
        bucket.put(&format!("{other}{name}")).await;
    }
    for ours_to_leave in [foreign.as_str(), "keep-me.txt", &format!("{account}/ab/keep-me")] {
        bucket.put(&format!("mail/blobs/{ours_to_leave}")).await;
    }
    let all = bucket.keys().await;
    assert_eq!(all.len(), 11);

    // An hour by the clock of the sweep, less than that by the one that blobs are dated with.
    server.will_say(ENDED, 1).await;
    interposer.pass(3660, 540);
    server.will_say(SWEPT, 1).await;
    assert_eq!(bucket.keys().await, all, "younger than an hour");

    server.kill();
    server.start_again().await;
    server.will_say(ENDED, 3).await;
    interposer.pass(3660, 0);
    server.will_say(SWEPT, 2).await;
    let left: Vec<String> = all.into_iter().filter(|key| *key != orphan).collect();
    assert_eq!(bucket.keys().await, left);
    let mut practices = practices;
    practices.at(&server.api);
    assert!(practices.check(&[filed], Settled::Yes).await.is_right());
    report("blobs", "orphans in a bucket", "gone after an hour, nothing else is", true);
}

const SWEPT: &str = "housekeeping.blobs_swept";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bucket_is_slow_or_fails() {
    let Some(mut rig) = Rig::start().await else { return };
    // The bucket is given up after 20 seconds for each large mail.
    let (both, if_full) = (&[LARGE, IN_PARTS][..], is_full());
    let piece = Duration::from_secs(scaled(3, 1));
    for (trouble, fault, sizes) in [
        (Trouble::Slow(piece), "slow: each piece takes seconds", if if_full { both } else { &[LARGE] }),
        (Trouble::Slow(Duration::from_millis(20)), "slow: each part takes seconds", both),
        (Trouble::Unavailable, "answers 503", both),
        (Trouble::Stall, "takes requests and never answers", if if_full { both } else { &[] }),
    ] {
        rig.practices.begin_round(&fault.replace([' ', ':'], "-")).await;
        rig.sent.clear();
        rig.proxy.set(trouble);
        let mut large = Vec::new();
        for octets in sizes {
            large.push(rig.send(*octets).await);
        }
        let small = rig.send(5 << 10).await;
        let slowest = longest(&rig.sent);
        let is_right = rig.settle().await && small == End::Kept && large.iter().all(is_kept_or_put_off);
        let measured = format!(
            "{}; longest answer {}; small mail goes on; lost 0, twice 0",
            counted(&rig.sent),
            seconds(slowest)
        );
        report("blobs", &format!("bucket {fault}"), &measured, is_right && slowest < Duration::from_secs(60));
    }
}

/// A mail in parts takes a request to begin, one for each part, and one that makes an object of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anomaly_the_nth_request_of_a_mail_in_parts() {
    let Some(mut rig) = Rig::start().await else { return };
    for (count, of_request, stay, what) in [
        (1, OfRequest::Lost, Some(0), "the n-th request of a mail in parts is lost"),
        // Nobody knows the name of an upload whose beginning was not answered.
        (1, OfRequest::AnswerLost, Some(1), "the answer to the n-th request of a mail in parts is lost"),
        (
            TRIES,
            OfRequest::Unavailable,
            Some(0),
            "the n-th request of a mail in parts is answered 503 each time",
        ),
        // The three that were begun cannot be ended, either.
        (EVER, OfRequest::Unavailable, Some(3), "503 from the n-th request of a mail in parts on"),
        // What is on its way may arrive afterwards.
        (EVER, OfRequest::Stalled, None, "no answer from the n-th request of a mail in parts on"),
    ] {
        // So many large mails take their time: the ordinary run makes one cut, and the 503.
        if !is_full() && of_request != OfRequest::AnswerLost && count != TRIES {
            continue;
        }
        rig.practices.begin_round(&what.replace(' ', "-")).await;
        rig.sent.clear();
        let (before, mut n, mut is_right) = (rig.bucket.unfinished().await, 1, true);
        loop {
            rig.proxy.set(Trouble::OfRequests(n, n.saturating_add(count - 1), of_request));
            let end = rig.send(IN_PARTS).await;
            let met = rig.proxy.met();
            is_right &= if count == 1 { is_kept_or_put_off(&end) } else { (end == End::Kept) == (met == 0) };
            is_right &= rig.send(5 << 10).await == End::Kept;
            if met == 0 || n > 100 {
                break;
            }
            n += 1;
        }
        let left = rig.bucket.unfinished().await - before;
        is_right &= stay.is_none_or(|stay| left == stay);
        let slowest = longest(&rig.sent);
        is_right &= rig.settle().await && n == 5 && slowest < Duration::from_secs(60);
        let measured = format!(
            "n = 1 … {n}; {}; longest answer {}; {left} uploads not ended; lost 0, twice 0",
            counted(&rig.sent),
            seconds(slowest)
        );
        report("loop", &format!("anomaly loop, bucket: {what}"), &measured, is_right);
    }
}

fn is_kept_or_put_off(end: &End) -> bool {
    *end == End::Kept || *end == End::PutOff("451 4.3.0".to_owned())
}

/// How often a request is made before it is given up.
const TRIES: u64 = 4;
const EVER: u64 = u64::MAX;

/// The connection ends at the n-th piece, until a mail needs no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anomaly_the_nth_piece_to_the_bucket_is_the_last() {
    let Some(mut rig) = Rig::start().await else { return };
    for (trouble, what) in [
        (Trouble::CutBefore as fn(u64) -> Trouble, "the n-th piece to the bucket is lost"),
        (Trouble::CutAfter, "the answer to the n-th piece is lost"),
    ] {
        rig.practices.begin_round(&what.replace(' ', "-")).await;
        rig.sent.clear();
        let mut n = 1;
        loop {
            rig.proxy.set(trouble(n));
            rig.send(LARGE).await;
            if rig.proxy.met() == 0 || n > 100 {
                break;
            }
            n += 1;
        }
        let is_right = rig.settle().await && n <= 100;
        let measured = format!("n = 1 … {n}; {}; lost 0, twice 0", counted(&rig.sent));
        report("loop", &format!("anomaly loop, bucket: {what}"), &measured, is_right);
    }
}

/// What comes back is not what was put there: the message says so, and others can be read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bucket_returns_wrong_octets() {
    let Some(mut rig) = Rig::start().await else { return };
    assert_eq!(rig.send(LARGE).await, End::Kept);
    assert_eq!(rig.send(5 << 10).await, End::Kept);
    rig.proxy.set(Trouble::Flip);
    let large = reads(&rig, 0).await;
    assert!(rig.proxy.met() > 0, "nothing was changed on the way");
    let small = reads(&rig, 1).await;
    // It is not remembered as damaged.
    let is_right = rig.settle().await;
    let measured =
        format!("its raw text is {large}, the small one's {small}; right again as soon as the bucket is");
    report("blobs", "bucket returns wrong octets", &measured, (large, small) == (500, 200) && is_right);
}

/// The status of the raw text of the account's only message.
async fn reads(rig: &Rig, desk: usize) -> u16 {
    let desk: &Desk = &rig.practices.desks()[desk];
    let path = format!("/accounts/{}/messages/{}/raw", desk.account, rig.practices.only_message(desk).await);
    rig.server.api.call(reqwest::Method::GET, &path, None).await.0.as_u16()
}
