//! `dns` and `check`: what the one prints and a zone publishes, the other finds; what is missing or wrong there, it
//! names, and nothing else.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use syncmx::zone::Zone;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::app::{TestApp, program};

/// A server whose names, certificates and web proxy are as they should be.
struct Site {
    app: TestApp,
    /// What `syncmx dns` printed.
    zone: Vec<String>,
    authority: PathBuf,
    settings: Vec<String>,
    https: SocketAddr,
    proxy: tokio::task::JoinHandle<()>,
}

impl Site {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap().keep();
        let authority = Authority::new();
        let authority_file = folder.join("authority.pem");
        std::fs::write(&authority_file, &authority.pem).unwrap();
        let (chain, key) = authority.issue(&["mx.example.test"]);
        let (chain_file, key_file) = (folder.join("chain.pem"), folder.join("key.pem"));
        std::fs::write(&chain_file, chain).unwrap();
        std::fs::write(&key_file, key).unwrap();
        let tls = [
            format!("SYNCMX_TLS__CERTIFICATE={}", chain_file.display()),
            format!("SYNCMX_TLS__KEY={}", key_file.display()),
        ];
        let app = TestApp::start_with(&[&tls[0], &tls[1]]).await;
        let http = app.api.base.trim_start_matches("http://").to_owned();
        let names = ["mta-sts.sync.example.test", "mta-sts.reply.example.test"];
        let (https, proxy) = tls_proxy(&authority.issue(&names), http.parse().unwrap()).await;
        let mut settings = tls.to_vec();
        settings.push(format!("SYNCMX_SMTP__LISTEN=[\"{}\"]", app.smtp));
        settings.push(format!("SYNCMX_HTTP__LISTEN={http}"));
        let mut site = Self { app, zone: Vec::new(), authority: authority_file, settings, https, proxy };
        let (code, printed) = site.run(&["dns", "--address", "127.0.0.1"]).await;
        assert_eq!(code, 0);
        site.zone = printed.lines().map(str::to_owned).collect();
        site.publish(&site.zone.clone());
        site
    }

    fn publish(&self, lines: &[String]) {
        self.app.zone.replace(Zone::parse(&lines.join("\n")).unwrap());
    }

    /// Exit code and standard output.
    async fn run(&self, arguments: &[&str]) -> (i32, String) {
        self.run_with(arguments, &[]).await
    }

    async fn run_with(&self, arguments: &[&str], settings: &[&str]) -> (i32, String) {
        let config = self.app.folder().join("syncmx.toml");
        let mut command = program(arguments);
        command.args(["--config", config.to_str().unwrap()]).env("SSL_CERT_FILE", &self.authority);
        let settings = self.settings.iter().map(String::as_str).chain(settings.iter().copied());
        command.envs(settings.map(|setting| setting.split_once('=').unwrap()));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap_or_else(|| panic!("{said}")), said)
    }

    /// The lines of `check --json`, and that the exit code fits them.
    async fn check(&self, settings: &[&str]) -> Vec<Value> {
        let port = self.https.port().to_string();
        let (code, said) = self.run_with(&["check", "--json", "--https-port", &port], settings).await;
        let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(code, i32::from(!of_state(&lines, "red").is_empty()), "{said}");
        lines
    }

    /// The check finds this red, and nothing else.
    #[track_caller]
    fn expect_red(&self, zone: &[String], expected: &[&str]) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        self.publish(zone);
        async move {
            let lines = self.check(&[]).await;
            assert_eq!(of_state(&lines, "red"), expected, "at {caller}: {lines:#?}");
        }
    }

    fn without(&self, start: &str) -> Vec<String> {
        let left: Vec<String> = self.zone.iter().filter(|line| !line.starts_with(start)).cloned().collect();
        assert_eq!(left.len() + 1, self.zone.len(), "{start} in {:#?}", self.zone);
        left
    }

    fn with(&self, start: &str, instead: &str) -> Vec<String> {
        let mut zone = self.without(start);
        zone.push(instead.to_owned());
        zone
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.proxy.abort();
        let _ = std::fs::remove_dir_all(self.authority.parent().unwrap_or(Path::new("/nonexistent")));
    }
}

/// `check subject` of the lines in this state; each one that is not ok says how to mend it.
fn of_state(lines: &[Value], state: &str) -> Vec<String> {
    let found = lines.iter().filter(|line| line["state"] == state);
    found
        .map(|line| {
            assert_eq!(line["mend"].is_string(), state != "ok", "{line}");
            format!("{} {}", line["check"].as_str().unwrap(), line["subject"].as_str().unwrap())
        })
        .collect()
}

struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "the authority of a test");
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: rcgen::Issuer::new(params, key), pem }
    }

    /// Chain and key.
    fn issue(&self, names: &[&str]) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let leaf = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        (leaf.pem(), key.serialize_pem())
    }
}

/// What stands before `http.listen` in production.
async fn tls_proxy(
    (chain, key): &(String, String),
    http: SocketAddr,
) -> (SocketAddr, tokio::task::JoinHandle<()>) {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    let chain = vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let (Ok(mut outside), Ok(mut inside)) =
                    tokio::join!(acceptor.accept(stream), TcpStream::connect(http))
                else {
                    return;
                };
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
    (address, serving)
}

#[tokio::test]
async fn what_dns_prints_and_a_zone_publishes_is_all_green() {
    let site = Site::open().await;
    let lines = site.check(&[]).await;
    let checks: Vec<&str> = lines.iter().map(|line| line["check"].as_str().unwrap()).collect();
    for check in [
        "config",
        "keys",
        "store",
        "disk",
        "clock",
        "certificate",
        "smtp",
        "http",
        "host",
        "ptr",
        "mx",
        "spf",
        "dmarc",
        "mta-sts",
        "mta-sts-policy",
        "tls-rpt",
    ] {
        assert!(checks.contains(&check), "no {check} in {checks:?}");
    }
    assert_eq!(of_state(&lines, "red"), [""; 0], "{lines:#?}");
    // No zone of ours has the reverse of loopback.
    assert_eq!(of_state(&lines, "warn"), ["ptr 127.0.0.1"], "{lines:#?}");

    let port = site.https.port().to_string();
    let (code, text) = site.run(&["check", "--https-port", &port]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.lines().all(|line| line.starts_with("ok    ") || line.starts_with("warn  ptr")), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
    let (code, json) = site.run(&["dns", "--address", "127.0.0.1", "--json"]).await;
    let records: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let printed = site.zone.iter().filter(|line| line.contains(" IN ") && !line.starts_with(';'));
    assert_eq!((code, records.len()), (0, printed.count()));
}

#[tokio::test]
async fn each_record_that_is_missing_or_wrong_is_the_one_red_line() {
    let site = Site::open().await;
    for (start, instead, red) in [
        ("sync.example.test. 3600 IN MX", "", "mx sync.example.test"),
        ("sync.example.test. 3600 IN MX", "sync.example.test. MX 0 .", "mx sync.example.test"),
        (
            "reply.example.test. 3600 IN MX",
            "reply.example.test. MX 10 elsewhere.test.",
            "mx reply.example.test",
        ),
        ("sync.example.test. 3600 IN TXT", "", "spf sync.example.test"),
        ("sync.example.test. 3600 IN TXT", "sync.example.test. TXT \"v=spf1 +all\"", "spf sync.example.test"),
        ("_dmarc.reply", "", "dmarc reply.example.test"),
        ("_dmarc.reply", "_dmarc.reply.example.test. TXT \"v=DMARC1; p=none\"", "dmarc reply.example.test"),
        ("_mta-sts.sync", "", "mta-sts sync.example.test"),
        (
            "_mta-sts.sync",
            "_mta-sts.sync.example.test. TXT \"v=STSv1; id=old;\"",
            "mta-sts sync.example.test",
        ),
        ("mta-sts.reply", "", "mta-sts-policy reply.example.test"),
        ("_smtp._tls.sync", "", "tls-rpt sync.example.test"),
        ("_smtp._tls.sync", "_smtp._tls.sync.example.test. TXT \"v=TLSRPTv1;\"", "tls-rpt sync.example.test"),
        (
            "mx.example.test. 3600 IN A",
            "mx.example.test. CNAME other.test.\nother.test. A 127.0.0.1",
            "host mx.example.test",
        ),
    ] {
        site.expect_red(&site.with(start, instead), &[red]).await;
    }
    let twice = [site.zone.clone(), vec!["sync.example.test. TXT \"v=spf1 mx -all\"".to_owned()]].concat();
    site.expect_red(&twice, &["spf sync.example.test"]).await;
    let policies = ["mta-sts-policy reply.example.test", "mta-sts-policy sync.example.test"];
    let nowhere = [&["host mx.example.test"][..], &policies].concat();
    site.expect_red(&site.without("mx.example.test. 3600 IN A"), &nowhere).await;

    // A policy of the domain above counts (RFC 9989).
    let above = site.with("_dmarc.sync", "_dmarc.example.test. TXT \"v=DMARC1; p=none; sp=reject\"");
    site.expect_red(&above, &[]).await;

    let mut silent = Zone::parse(&site.without("sync.example.test. 3600 IN MX").join("\n")).unwrap();
    silent.servfail("sync.example.test").unwrap();
    site.app.zone.replace(silent);
    let lines = site.check(&[]).await;
    assert_eq!(of_state(&lines, "red"), ["mx sync.example.test"], "{lines:#?}");
}

#[tokio::test]
async fn the_policy_must_be_served_over_https_and_be_ours() {
    let mut site = Site::open().await;
    let policies = ["mta-sts-policy reply.example.test", "mta-sts-policy sync.example.test"];
    let announced = ["mta-sts reply.example.test", "mta-sts-policy reply.example.test"];
    let lines = site.check(&["SYNCMX_TLS__MTA_STS=enforce"]).await;
    assert_eq!(of_state(&lines, "red")[..2], announced, "not what is served and published: {lines:#?}");
    let lines = site.check(&["SYNCMX_TLS__MTA_STS=off"]).await;
    assert!(!lines.iter().any(|line| line["check"].as_str().unwrap().starts_with("mta-sts")), "{lines:#?}");
    let nobody = site.authority.parent().unwrap().join("chain.pem");
    let trusts_nobody = format!("SSL_CERT_FILE={}", nobody.display());
    assert_eq!(of_state(&site.check(&[&trusts_nobody]).await, "red"), policies);
    site.proxy.abort();
    let _ = (&mut site.proxy).await;
    assert_eq!(of_state(&site.check(&[]).await, "red"), policies);
}

#[tokio::test]
async fn ports_and_certificates_are_tried() {
    let mut site = Site::open().await;
    let dev = concat!(env!("CARGO_MANIFEST_DIR"), "/certs/dev");
    let (chain, key) =
        (format!("SYNCMX_TLS__CERTIFICATE={dev}/fullchain.pem"), format!("SYNCMX_TLS__KEY={dev}/key.pem"));
    let lines = site.check(&[&chain, &key]).await;
    assert_eq!(
        of_state(&lines, "red"),
        [format!("smtp {}", site.app.smtp)],
        "another than presented: {lines:#?}"
    );
    let yellow = [format!("certificate {dev}/fullchain.pem"), "ptr 127.0.0.1".to_owned()];
    assert_eq!(of_state(&lines, "warn"), yellow, "self-signed: {lines:#?}");
    let mixed = site.check(&[&key]).await;
    assert!(of_state(&mixed, "red").iter().any(|line| line.starts_with("certificate ")), "{mixed:#?}");

    // Gone: the ports are free, and the policy is served by nobody.
    site.app.kill();
    let lines = site.check(&[]).await;
    let found = |check: &str| lines.iter().find(|line| line["check"] == check).unwrap().clone();
    for check in ["smtp", "http"] {
        assert_eq!(
            (found(check)["state"].as_str(), found(check)["said"].as_str().unwrap().contains("free")),
            (Some("ok"), true)
        );
    }
    // In the hands of others.
    let (smtp, http) = (site.app.smtp, site.app.api.base.trim_start_matches("http://").to_owned());
    for address in [smtp.to_string(), http.clone()] {
        let taken = TcpListener::bind(&address).unwrap();
        std::thread::spawn(move || {
            use std::io::Write;
            while let Ok((mut stream, _)) = taken.accept() {
                let _ = stream.write_all(b"220 somebody.else.test ESMTP\r\n");
            }
        });
    }
    let red = of_state(&site.check(&[]).await, "red");
    for expected in [format!("smtp {smtp}"), format!("http {http}")] {
        assert!(red.contains(&expected), "no {expected} in {red:?}");
    }
}

#[tokio::test]
async fn wrong_usage_of_check_and_dns_ends_with_2_and_nothing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| program(arguments).current_dir(folder.path()).output().unwrap();
    for command in ["check", "dns"] {
        assert_eq!(run(&[command, "--no-such-flag"]).status.code(), Some(2));
        assert_eq!(run(&[command, "--config", "missing.toml"]).status.code(), Some(2));
    }
    assert_eq!(run(&["dns"]).status.code(), Some(0));
    // Nobody answers on port 1.
    let output = program(&["check", "--json"])
        .current_dir(folder.path())
        .env("SYNCMX_DNS__SERVERS", "[\"127.0.0.1:1\"]")
        .env("SYNCMX_DNS__TIMEOUT", "500ms")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(of_state(&lines, "red").contains(&"mx sync.example.test".to_owned()), "{said}");
    assert!(of_state(&lines, "ok").contains(&"store data/syncmx.db".to_owned()), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is made");
}
