//! The bucket is slow, fails, is cut off at any moment, returns wrong octets: large mails are put off and small ones
//! are filed; what cannot be read says so.

use std::time::Duration;

use crate::api::Desk;
use crate::bucket::Bucket;
use crate::kill::MANY;
use crate::ledger::{Client, End, Practices, Sent, Settled, counted, longest};
use crate::proxy::{Place, Proxy, Trouble};
use crate::server::{Server, Setup};
use crate::table::{report, scaled, seconds};

struct Rig {
    server: Server,
    practices: Practices,
    proxy: Proxy,
    _bucket: Bucket,
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
        Some(Self { server, practices, proxy, _bucket: bucket, sent: Vec::new() })
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bucket_is_slow_or_fails() {
    let Some(mut rig) = Rig::start().await else { return };
    for (trouble, fault) in [
        (Trouble::Slow(Duration::from_secs(scaled(3, 1))), "slow: each piece takes seconds"),
        (Trouble::Unavailable, "answers 503"),
        (Trouble::Stall, "takes requests and never answers"),
    ] {
        rig.practices.begin_round(&fault.replace([' ', ':'], "-")).await;
        rig.sent.clear();
        rig.proxy.set(trouble);
        let large = if trouble == Trouble::Stall && !crate::table::is_full() {
            // It takes half a minute.
            None
        } else {
            Some(rig.send(LARGE).await)
        };
        let small = rig.send(5 << 10).await;
        let slowest = longest(&rig.sent);
        let is_right = rig.settle().await
            && small == End::Kept
            && large.is_none_or(|end| end == End::Kept || end == End::PutOff("451 4.3.0".to_owned()));
        let measured = format!(
            "{}; longest answer {}; small mail goes on; lost 0, twice 0",
            counted(&rig.sent),
            seconds(slowest)
        );
        report("blobs", &format!("bucket {fault}"), &measured, is_right && slowest < Duration::from_secs(60));
    }
}

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
