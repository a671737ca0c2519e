//! An S3 server of a test's own (moto, from `PyPI`), in memory: empty when it is started again.

#![allow(clippy::allow_attributes, dead_code, reason = "each program that includes this uses its own part")]

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Text that no compressor makes small: it keeps three quarters.
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

/// So much noise is more than 8 MiB when it is packed: it goes to a bucket in two parts.
pub(crate) const IN_PARTS: usize = 12 << 20;

pub(crate) struct Bucket {
    pub(crate) address: SocketAddr,
    server: Option<Child>,
}

impl Bucket {
    /// None, with a printed line, where moto is not installed.
    pub(crate) async fn start() -> Option<Self> {
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
    pub(crate) async fn run(&mut self) {
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

    pub(crate) fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    pub(crate) fn environment(&self) -> [&'static str; 6] {
        Self::environment_at(self.address)
    }

    /// For a server that reaches it by way of another address.
    pub(crate) fn environment_at(address: SocketAddr) -> [&'static str; 6] {
        let endpoint = format!("AWS_ENDPOINT=http://{address}");
        [
            "SYNCMX_STORE__BLOBS=s3://post/mail/blobs",
            Box::leak(endpoint.into_boxed_str()),
            "AWS_ALLOW_HTTP=true",
            "AWS_ACCESS_KEY_ID=test",
            "AWS_SECRET_ACCESS_KEY=test",
            "AWS_REGION=us-east-1",
        ]
    }

    /// An object that none of our servers has written.
    pub(crate) async fn put(&self, key: &str) {
        let client = reqwest::Client::new();
        let put = client.put(format!("http://{}/post/{key}", self.address)).body("sealed").send().await;
        assert!(put.unwrap().status().is_success(), "{key}");
    }

    /// In how many parts each object came: its tag ends with that number, if it came in parts at all.
    pub(crate) async fn parts(&self) -> Vec<Option<u32>> {
        let listed = self.listed().await;
        let tags = listed.split("<ETag>").skip(1).filter_map(|part| part.split_once("</ETag>"));
        let parts = tags.map(|(tag, _)| tag.replace("&quot;", "").trim_matches('"').to_owned());
        parts.map(|tag| tag.split_once('-').map(|(_, parts)| parts.parse().unwrap())).collect()
    }

    /// How many uploads were begun, and neither completed nor aborted.
    pub(crate) async fn unfinished(&self) -> usize {
        let listed = reqwest::get(format!("http://{}/post?uploads", self.address)).await.unwrap();
        let text = listed.text().await.unwrap();
        assert!(text.contains("ListMultipartUploadsResult"), "{text}");
        text.matches("<UploadId>").count()
    }

    pub(crate) async fn keys(&self) -> Vec<String> {
        let listed = self.listed().await;
        let keys = listed.split("<Key>").skip(1).filter_map(|part| part.split_once("</Key>"));
        keys.map(|(key, _)| key.to_owned()).collect()
    }

    async fn listed(&self) -> String {
        let listed = reqwest::get(format!("http://{}/post?list-type=2", self.address)).await.unwrap();
        listed.text().await.unwrap()
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
