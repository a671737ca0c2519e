//! `ClamAV`'s clamd, with one signature of ours: malware is refused, the rest filed, and mail waits while clamd is
//! away.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::api::Desk;
use crate::app::{TestApp, program};
use crate::mail::{Draft, LENA};
use crate::{is_installed, skip};

/// What the signature matches; harmless.
const MARK: &str = "syncmx-test-malware-7f3a91c2d4";

struct Clamd {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Clamd {
    fn start(stream_max: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let hex: String = MARK.bytes().map(|octet| format!("{octet:02x}")).collect();
        // Name, any type of file, any offset.
        std::fs::write(folder.path().join("ours.ndb"), format!("Syncmx.Test:0:*:{hex}\n")).unwrap();
        let conf = format!(
            "TCPAddr 127.0.0.1\nTCPSocket {port}\nDatabaseDirectory {0}\nForeground yes\n\
             StreamMaxLength {stream_max}\nMaxScanSize 100M\nMaxFileSize 100M\nLogFile {0}/log\n",
            folder.path().display()
        );
        std::fs::write(folder.path().join("clamd.conf"), conf).unwrap();
        // Started by root it may go on as another user.
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let child = Self::run(folder.path());
        Self { child, port, folder }
    }

    fn run(folder: &Path) -> Child {
        let mut command = Command::new(PROGRAM);
        command.arg("--config-file").arg(folder.join("clamd.conf"));
        command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).spawn().unwrap()
    }

    async fn is_up(&mut self) {
        for _ in 0..1_200 {
            if tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                panic!("clamd ended with {status}: {log}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("clamd does not listen");
    }

    fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Clamd {
    fn drop(&mut self) {
        // It may be stopped already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

const PROGRAM: &str = "clamd";

#[tokio::test]
async fn malware_is_refused_and_mail_waits_while_clamd_is_away() {
    if !is_installed(PROGRAM) {
        skip(PROGRAM);
        return;
    }
    let mut clamd = Clamd::start("100M");
    clamd.is_up().await;
    let app = TestApp::start_with(&[&format!("SYNCMX_SCAN__CLAMD=127.0.0.1:{}", clamd.port)]).await;
    let desk = Desk::open(&app).await;

    let clean = Draft { id: "clean", ..Draft::default() }.raw();
    let filed = app.send(&LENA, &desk.sync, &clean).await;
    desk.expect(&filed, "250 2.0.0", "filed", "filed").await;

    // In an attachment, in base64: clamd reads MIME itself.
    let attached = Draft {
        id: "infected",
        fields: "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n",
        text: &format!(
            "--b\r\nContent-Type: text/plain\r\n\r\nSee there.\r\n--b\r\nContent-Type: application/octet-stream\r\n\
             Content-Disposition: attachment; filename=x.bin\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n--b--\r\n",
            syncmx::message::base64(MARK.as_bytes())
        ),
        ..Draft::default()
    }
    .raw();
    let refused = app.send(&LENA, &desk.sync, &attached).await;
    desk.expect(&refused, "554 5.7.1", "rejected", "malware").await;

    clamd.stop();
    let later = Draft { id: "later", ..Draft::default() }.raw();
    let put_off = app.send(&LENA, &desk.sync, &later).await;
    desk.expect(&put_off, "451 4.7.1", "deferred", "not_scanned").await;
    clamd.child = Clamd::run(clamd.folder.path());
    clamd.is_up().await;
    let filed = app.send(&LENA, &desk.sync, &later).await;
    desk.expect(&filed, "250 2.0.0", "filed", "filed").await;
    assert_eq!(desk.timeline(&desk.anna).await.len(), 2);
}

#[tokio::test]
async fn mail_that_clamd_is_not_set_to_take_waits_and_check_says_why() {
    if !is_installed(PROGRAM) {
        skip(PROGRAM);
        return;
    }
    let mut clamd = Clamd::start("1M");
    clamd.is_up().await;
    let setting = format!("SYNCMX_SCAN__CLAMD=127.0.0.1:{}", clamd.port);
    let app = TestApp::start_with(&[&setting]).await;
    let desk = Desk::open(&app).await;
    let text = "A line of a long letter.\r\n".repeat(100_000);
    let large = Draft { id: "large", text: &text, ..Draft::default() }.raw();
    let put_off = app.send(&LENA, &desk.sync, &large).await;
    desk.expect(&put_off, "451 4.7.1", "deferred", "not_scanned").await;
    let config = app.folder().join("syncmx.toml").display().to_string();
    let mut check = program(&["--config", &config, "check", "--json"]);
    let said = check.env("SYNCMX_SCAN__CLAMD", format!("127.0.0.1:{}", clamd.port)).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let line = said.lines().find(|line| line.contains(r#""check":"scan""#)).unwrap();
    assert!(line.contains("StreamMaxLength"), "{line}");
}
