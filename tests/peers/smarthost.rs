//! Postfix as the smarthost: our relay hands it copies over STARTTLS and over TLS from the start, it passes them on.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::api::Desk;
use crate::app::{TestApp, program};
use crate::mail::{ANNA, Draft};
use crate::postfix::{MASTER_CF, Postfix};
use crate::sink::{Got, Sink};
use crate::{is_installed, skip};

/// Postfix on two ports of one host, with a certificate of a CA of ours, in front of a sink.
struct Smarthost {
    postfix: Postfix,
    sink: Sink,
    folder: tempfile::TempDir,
    starttls: u16,
    tls: u16,
}

const HOST: &str = "127.0.1.77";

impl Smarthost {
    async fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        make_certificates(folder.path());
        let sink = Sink::start(78).await;
        let [starttls, tls] = [0, 0].map(|_: u8| free_port());
        let wrapper = "-o smtpd_tls_wrappermode=yes";
        let master = format!(
            "{HOST}:{starttls} inet n - n - - smtpd\n{HOST}:{tls} inet n - n - - smtpd {wrapper}\n{MASTER_CF}"
        );
        let certificate = folder.path().join("smarthost.pem");
        let next = sink.port();
        let postfix = Postfix::start_as(|own| main_cf(own, &certificate, next), &master)?;
        Some(Self { postfix, sink, folder, starttls, tls })
    }

    /// A server that relays through it.
    async fn relaying(&self, smarthost: &str, further: &[String]) -> World {
        let ca = format!("SSL_CERT_FILE={}", self.folder.path().join("ca.pem").display());
        let smarthost = format!("SYNCMX_RELAY__SMARTHOST={smarthost}");
        let from = "SYNCMX_RELAY__FROM=no-reply@reply.example.test";
        let mut settings = vec![smarthost.as_str(), from, &ca];
        settings.extend(further.iter().map(String::as_str));
        let app = TestApp::start_with(&settings).await;
        let desk = Desk::open(&app).await;
        let (status, _) = app
            .api
            .call(
                reqwest::Method::PATCH,
                &format!("/accounts/{}", desk.account),
                Some(json!({ "settings": { "forward_replies": "user" } })),
            )
            .await;
        assert!(status.is_success());
        World { app, desk }
    }
}

struct World {
    app: TestApp,
    desk: Desk,
}

impl World {
    /// The patient answers.
    async fn answer(&self) {
        let body = json!({ "contact_id": self.desk.anna, "user_id": self.desk.user });
        let minted = self.desk.post("/reply-addresses", body).await;
        let to = minted["address"].as_str().unwrap();
        let text = "Gr\u{fc}\u{df}e\r\n.\r\n..x\r\nFrom here  \r\n\r\n\r\n";
        let fields = "Content-Transfer-Encoding: 8bit\r\n";
        let from = "Anna Bergmann <anna.bergmann@web-post.test>";
        let raw = Draft { from, to, text, fields, ..Draft::default() }.raw();
        let answers = self.app.send(&ANNA, to, &raw).await;
        self.desk.expect_filed(&answers).await;
    }

    async fn wait_for_job(&self, is_right: impl Fn(&Value) -> bool) -> Value {
        let mut tries = tokio::time::interval(Duration::from_millis(100));
        for _ in 0..900 {
            tries.tick().await;
            let jobs = self.desk.get("/relay-jobs").await;
            if let Some(job) = jobs["items"].get(0).filter(|job| is_right(job)) {
                return job.clone();
            }
        }
        panic!("{:#}", self.desk.get("/relay-jobs").await);
    }
}

#[tokio::test]
async fn copies_go_through_postfix_over_starttls_and_tls_with_its_certificate_checked() {
    if !is_installed("postfix") {
        return skip("postfix");
    }
    let Some(smarthost) = Smarthost::start().await else { return };
    let urls = [
        format!("smtp+starttls://{HOST}:{}", smarthost.starttls),
        format!("smtps://{HOST}:{}", smarthost.tls),
        format!("smtp://{HOST}:{}", smarthost.starttls),
    ];
    for (n, url) in urls.iter().enumerate() {
        let world = smarthost.relaying(url, &[]).await;
        world.answer().await;
        let sent = world.wait_for_job(|job| job["state"] == "sent").await;
        assert!(sent["last_reply"].as_str().unwrap().starts_with("250 2.0.0 Ok: queued as"), "{sent:#}");
        let Got { recipient, text, .. } = smarthost.sink.wait_for(n + 1).await;
        assert_eq!(recipient, "lena.albrecht@praxis-morgenrot.test");
        assert!(text.contains("(using TLSv1.3 with cipher"), "{}\n{text}", smarthost.postfix.log());
        assert!(text.contains("Gr\u{fc}\u{df}e\r\n.\r\n..x\r\nFrom here  \r\n"), "{text}");
    }
}

#[tokio::test]
async fn a_certificate_of_nobody_is_not_believed_where_it_is_checked() {
    if !is_installed("postfix") {
        return skip("postfix");
    }
    let Some(smarthost) = Smarthost::start().await else { return };
    // Only the CA of another smarthost is known.
    let other = tempfile::tempdir().unwrap();
    make_certificates(other.path());
    let known = format!("SSL_CERT_FILE={}", other.path().join("ca.pem").display());
    let urls = [
        format!("smtp+starttls://{HOST}:{}", smarthost.starttls),
        format!("smtps://{HOST}:{}", smarthost.tls),
    ];
    for url in urls {
        let from = "SYNCMX_RELAY__FROM=no-reply@reply.example.test";
        let app = TestApp::start_with(&[&format!("SYNCMX_RELAY__SMARTHOST={url}"), from, &known]).await;
        let desk = Desk::open(&app).await;
        let path = format!("/users/{}/emails", desk.user);
        desk.post(&path, json!({ "address": "lena@elsewhere.test" })).await;
        let world = World { app, desk };
        let waits = world.wait_for_job(|job| job["last_reply"].is_string()).await;
        assert_eq!(waits["state"], "waiting", "{waits:#}");
        assert!(waits["last_reply"].as_str().unwrap().contains("no TLS with the smarthost"), "{waits:#}");
    }
    assert!(smarthost.sink.got().is_empty());
}

#[tokio::test]
async fn dkimpy_believes_the_signature_behind_postfix() {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/python");
    if !is_installed("postfix") || !is_installed("python3") || !modules.join("dkim").is_dir() {
        return skip("postfix, python3 or dkimpy");
    }
    let Some(smarthost) = Smarthost::start().await else { return };
    let key = smarthost.folder.path().join("dkim.pem");
    let made = program(&["dkim-key", "s1", key.to_str().unwrap(), "--json"]).output().unwrap();
    let record: Value = serde_json::from_slice(&made.stdout).unwrap();
    let further =
        ["SYNCMX_RELAY__DKIM_SELECTOR=s1".to_owned(), format!("SYNCMX_RELAY__DKIM_KEY={}", key.display())];
    let world = smarthost.relaying(&format!("smtp://{HOST}:{}", smarthost.starttls), &further).await;
    world.answer().await;
    let Got { text, .. } = smarthost.sink.wait_for(1).await;
    let mail = smarthost.folder.path().join("copy.eml");
    std::fs::write(&mail, &text).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/dkim_verify.py");
    let mut verify = Command::new("python3");
    verify.arg(script).arg(&mail).arg(record["value"].as_str().unwrap()).env("PYTHONPATH", &modules);
    let verified = verify.output().unwrap();
    assert!(verified.status.success(), "{}\n{text}", String::from_utf8_lossy(&verified.stderr));
}

/// A CA, and below it a certificate for the smarthost's address, key first.
fn make_certificates(folder: &Path) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.distinguished_name.push(rcgen::DnType::CommonName, "A CA of the tests");
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec![HOST.to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join("ca.pem"), ca_certificate.pem()).unwrap();
    std::fs::write(folder.join("smarthost.pem"), format!("{}{}", key.serialize_pem(), leaf.pem())).unwrap();
}

/// On a host where nobody else of these tests listens.
fn free_port() -> u16 {
    TcpListener::bind((HOST, 0)).unwrap().local_addr().unwrap().port()
}

fn main_cf(folder: &Path, certificate: &Path, next: u16) -> String {
    let (folder, certificate) = (folder.display(), certificate.display());
    format!(
        "compatibility_level = 3.6\n\
         queue_directory = {folder}/queue\n\
         data_directory = {folder}/data\n\
         maillog_file = {folder}/postfix.log\n\
         maillog_file_prefixes = {folder}\n\
         mail_owner = postfix\n\
         setgid_group = postdrop\n\
         myhostname = smarthost.example.test\n\
         mydestination =\n\
         alias_maps =\n\
         alias_database =\n\
         mynetworks = 127.0.0.0/8\n\
         smtpd_relay_restrictions = permit_mynetworks, reject\n\
         smtpd_tls_security_level = may\n\
         smtpd_tls_chain_files = {certificate}\n\
         smtpd_tls_received_header = yes\n\
         inet_interfaces = loopback-only\n\
         inet_protocols = ipv4\n\
         relayhost = [127.0.1.78]:{next}\n\
         smtp_dns_support_level = disabled\n\
         smtp_host_lookup = native\n\
         smtp_tls_security_level = none\n\
         queue_run_delay = 5s\n\
         minimal_backoff_time = 5s\n"
    )
}
