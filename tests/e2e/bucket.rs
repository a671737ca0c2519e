//! Large mails in an S3 bucket: a real server of that protocol (moto, from `PyPI`), which fails, lies and comes back.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::Method;

use crate::api::Desk;
use crate::app::TestApp;
use crate::mail::{Draft, LENA};

#[tokio::test]
async fn r2_r60_a_large_mail_lives_in_the_bucket_and_ends_with_its_contact() {
    let Some(bucket) = Bucket::start().await else { return };
    let app = TestApp::start_with(&bucket.environment()).await;
    let desk = Desk::open(&app).await;
    // Over 8 MiB: in parts.
    for (id, octets) in [("parts", 9 << 20), ("one", 200 << 10)] {
        let text = noise(octets);
        let raw = Draft { id, text: &text, ..Draft::default() }.raw();
        let (_, message) = desk.expect_filed(&app.send(&LENA, &desk.sync, &raw).await).await;
        let id = message["id"].as_str().unwrap();
        let (_, stored) = desk.bytes(&format!("/messages/{id}/raw")).await;
        assert!(stored.ends_with(text.as_bytes()), "{id}: what was sent is what is kept");
    }
    let listed = bucket.keys().await;
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert!(listed.iter().all(|key| key.starts_with("mail/blobs/")), "{listed:?}");

    let contact = format!("/accounts/{}/contacts/{}", desk.account, desk.anna);
    let (status, _) = app.api.call(Method::DELETE, &contact, None).await;
    assert!(status.is_success(), "{status}");
    for _ in 0..500 {
        if bucket.keys().await.is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("still in the bucket: {:?}", bucket.keys().await);
}

#[tokio::test]
async fn r2_without_its_bucket_a_large_mail_is_deferred_and_a_small_one_is_filed() {
    let Some(mut bucket) = Bucket::start().await else { return };
    let app = TestApp::start_with(&bucket.environment()).await;
    let desk = Desk::open(&app).await;
    bucket.stop();
    let text = noise(200 << 10);
    let large = Draft { id: "large", text: &text, ..Draft::default() }.raw();
    let deferred = app.send(&LENA, &desk.sync, &large).await;
    assert_eq!(deferred.decisive().codes(), "451 4.3.0");
    let small = Draft { id: "small", ..Draft::default() }.raw();
    desk.expect_filed(&app.send(&LENA, &desk.sync, &small).await).await;

    bucket.run().await;
    let (_, message) = desk.expect_filed(&app.send(&LENA, &desk.sync, &large).await).await;
    assert_eq!(desk.timeline(&desk.anna).await.len(), 2);

    // Somebody empties the bucket: that message says so, the rest goes on.
    bucket.stop();
    bucket.run().await;
    let id = message["id"].as_str().unwrap();
    let raw = format!("/accounts/{}/messages/{id}/raw", desk.account);
    let (status, _) = app.api.call(Method::GET, &raw, None).await;
    assert!(status.is_server_error(), "{status}");
    assert_eq!(desk.timeline(&desk.anna).await.len(), 2);
}

/// Text that no compressor makes small.
pub(crate) fn noise(octets: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut text = String::with_capacity(octets + 80);
    while text.len() < octets {
        for _ in 0..60 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            text.push(char::from(b'0' + u8::try_from(state % 64).unwrap()));
        }
        text.push_str("\r\n");
    }
    text
}

struct Bucket {
    address: SocketAddr,
    server: Option<Child>,
}

impl Bucket {
    /// None, with a printed line, where moto is not installed.
    async fn start() -> Option<Self> {
        if !moto(&["--help"]).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
        {
            eprintln!("skipped: moto (PyPI, `moto[server]`) is not installed");
            return None;
        }
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut bucket = Self { address: free, server: None };
        bucket.run().await;
        Some(bucket)
    }

    /// Starts it, empty.
    async fn run(&mut self) {
        let port = self.address.port().to_string();
        let server =
            moto(&["-H", "127.0.0.1", "-p", &port]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.server = Some(server.unwrap());
        let client = reqwest::Client::new();
        for _ in 0..1500 {
            let made = client.put(format!("http://{}/post", self.address)).send().await;
            if made.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        panic!("the bucket's server does not answer");
    }

    fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    fn environment(&self) -> [&'static str; 6] {
        let endpoint = format!("AWS_ENDPOINT=http://{}", self.address);
        [
            "SYNCMX_STORE__BLOBS=s3://post/mail/blobs",
            Box::leak(endpoint.into_boxed_str()),
            "AWS_ALLOW_HTTP=true",
            "AWS_ACCESS_KEY_ID=test",
            "AWS_SECRET_ACCESS_KEY=test",
            "AWS_REGION=us-east-1",
        ]
    }

    async fn keys(&self) -> Vec<String> {
        let listed = reqwest::get(format!("http://{}/post?list-type=2", self.address)).await.unwrap();
        let text = listed.text().await.unwrap();
        let keys = text.split("<Key>").skip(1).filter_map(|part| part.split_once("</Key>"));
        keys.map(|(key, _)| key.to_owned()).collect()
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Installed for all, or below `target/`.
fn moto(arguments: &[&str]) -> Command {
    let mut command = Command::new("python3");
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/target/peers/python");
    command.env("PYTHONPATH", here).args(["-m", "moto.server"]).args(arguments).stdin(Stdio::null());
    command
}
