//! Postfix as a full sending MTA: its own configuration, queue and log under a temporary folder, started and stopped
//! here.
//!
//! Its clean-up, queue manager, TLS and pipelining are its own; as a sender it listens nowhere. Needs root, as Postfix
//! does.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use syncmx::cli::demo::practice;
use syncmx::zone::Zone;
use tempfile::TempDir;

use crate::api::Desk;
use crate::app::TestApp;
use crate::mail::{Draft, LENA};
use crate::{Lines, expect_filed, is_installed, large, run, skip, small, wait_for_filed, with_lines};

#[tokio::test]
async fn postfix_delivers() {
    let app = TestApp::start().await;
    let Some(postfix) = Postfix::start(&app) else { return };
    let desk = Desk::open(&app).await;
    for (n, raw) in [small(), large()].into_iter().enumerate() {
        let signed = LENA.sign(&raw);
        postfix.submit(&app, &desk.sync, &signed).await;
        expect_filed(&desk, n, &signed).await;
    }
    // A burst goes through few connections, pipelined; nothing is lost or doubled.
    for n in 0..20 {
        let id = format!("burst-{n}");
        let raw = Draft { id: &id, ..Draft::default() }.raw();
        postfix.submit(&app, &desk.sync, &LENA.sign(&raw)).await;
    }
    wait_for_filed(&desk, 22).await;
    assert_eq!(desk.timeline(&desk.anna).await.len(), 22);
    postfix.expect_empty_queue().await;
}

#[tokio::test]
async fn postfix_keeps_what_is_put_off_and_delivers_it_later() {
    let mut broken = Zone::parse("elsewhere.test. A 192.0.2.1\n").unwrap();
    for name in
        ["praxis-morgenrot.test", "google._domainkey.praxis-morgenrot.test", "_dmarc.praxis-morgenrot.test"]
    {
        broken.servfail(name).unwrap();
    }
    let app = TestApp::start_with_zone(broken).await;
    let Some(postfix) = Postfix::start(&app) else { return };
    let desk = Desk::open(&app).await;
    let signed = LENA.sign(&small());
    postfix.submit(&app, &desk.sync, &signed).await;
    postfix.wait_for_log("451 4.4.3").await;
    assert!(desk.timeline(&desk.anna).await.is_empty());
    app.zone.replace(Zone::parse(practice::ZONE).unwrap());
    postfix.flush();
    expect_filed(&desk, 0, &signed).await;
    postfix.expect_empty_queue().await;
}

/// A running Postfix; dropping it stops it.
pub(crate) struct Postfix {
    folder: TempDir,
}

impl Postfix {
    /// With our listener as its relay host.
    fn start(app: &TestApp) -> Option<Self> {
        Self::start_as(|folder| main_cf(folder, app.smtp.port()), MASTER_CF)
    }

    /// With this configuration; its `main.cf` may name its folder.
    pub(crate) fn start_as(main_cf: impl Fn(&Path) -> String, master_cf: &str) -> Option<Self> {
        if !is_installed("postfix") {
            skip("postfix");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        if !is_root(folder.path()) {
            println!("skipped: root for postfix absent");
            return None;
        }
        // Its processes run as user postfix and must get through.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        for name in ["conf", "queue", "data"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let postfix = Self { folder };
        std::fs::write(postfix.conf().join("main.cf"), main_cf(postfix.folder.path())).unwrap();
        std::fs::write(postfix.conf().join("master.cf"), master_cf).unwrap();
        let (user, group) = ids_of("postfix");
        chown(postfix.folder.path().join("data"), Some(user), Some(group)).unwrap();
        let output = postfix.command("postfix").arg("start").output().unwrap();
        assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), postfix.log());
        Some(postfix)
    }

    /// Into its queue, as a local program does.
    async fn submit(&self, app: &TestApp, rcpt: &str, signed: &[u8]) {
        let file = app.folder().join("mail.eml");
        std::fs::write(&file, with_lines(signed, Lines::Lf)).unwrap();
        let mut command = Command::new("sendmail");
        command.arg("-C").arg(self.conf()).args(["-G", "-i", "-f", LENA.mail_from, rcpt]);
        command.stdin(std::fs::File::open(&file).unwrap());
        run(command).await;
    }

    /// Tries again what was put off.
    fn flush(&self) {
        assert!(self.command("postqueue").arg("-f").status().unwrap().success());
    }

    async fn expect_empty_queue(&self) {
        let mut tries = tokio::time::interval(std::time::Duration::from_millis(100));
        for _ in 0..600 {
            tries.tick().await;
            let listed = self.command("postqueue").arg("-p").output().unwrap();
            if String::from_utf8_lossy(&listed.stdout).contains("Mail queue is empty") {
                return;
            }
        }
        panic!("the queue is never empty:\n{}", self.log());
    }

    async fn wait_for_log(&self, words: &str) {
        let mut tries = tokio::time::interval(std::time::Duration::from_millis(100));
        for _ in 0..600 {
            tries.tick().await;
            if self.log().contains(words) {
                return;
            }
        }
        panic!("Postfix never logs `{words}`:\n{}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("postfix.log")).unwrap_or_default()
    }

    fn conf(&self) -> PathBuf {
        self.folder.path().join("conf")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-c").arg(self.conf()).stdin(Stdio::null());
        command
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of Postfix ---\n{}", self.log());
        }
        let _ = self.command("postfix").arg("stop").output();
    }
}

/// Whether files made by us belong to root.
fn is_root(made: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(made).unwrap().uid() == 0
}

fn ids_of(user: &str) -> (u32, u32) {
    let id = |flag| {
        let output = Command::new("id").args([flag, user]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    };
    (id("-u"), id("-g"))
}

fn main_cf(folder: &Path, port: u16) -> String {
    let folder = folder.display();
    let (name, client) = (LENA.helo, LENA.client);
    format!(
        "compatibility_level = 3.6\n\
         queue_directory = {folder}/queue\n\
         data_directory = {folder}/data\n\
         maillog_file = {folder}/postfix.log\n\
         maillog_file_prefixes = {folder}\n\
         mail_owner = postfix\n\
         setgid_group = postdrop\n\
         myhostname = {name}\n\
         mydestination =\n\
         alias_maps =\n\
         alias_database =\n\
         inet_interfaces = loopback-only\n\
         inet_protocols = ipv4\n\
         relayhost = [127.0.0.1]:{port}\n\
         smtp_bind_address = {client}\n\
         smtp_dns_support_level = disabled\n\
         smtp_host_lookup = native\n\
         smtp_tls_security_level = encrypt\n\
         smtp_tls_loglevel = 1\n\
         message_size_limit = 52428800\n\
         mailbox_size_limit = 0\n\
         queue_run_delay = 5s\n\
         minimal_backoff_time = 5s\n"
    )
}

/// Everything that a sender needs, nothing that listens, nothing in a chroot.
pub(crate) const MASTER_CF: &str = "\
pickup    unix  n  -  n  1  1  pickup
cleanup   unix  n  -  n  -  0  cleanup
qmgr      unix  n  -  n  300  1  qmgr
tlsmgr    unix  -  -  n  1000?  1  tlsmgr
rewrite   unix  -  -  n  -  -  trivial-rewrite
bounce    unix  -  -  n  -  0  bounce
defer     unix  -  -  n  -  0  bounce
trace     unix  -  -  n  -  0  bounce
verify    unix  -  -  n  -  1  verify
flush     unix  n  -  n  1000?  0  flush
proxymap  unix  -  -  n  -  -  proxymap
proxywrite unix -  -  n  -  1  proxymap
smtp      unix  -  -  n  -  -  smtp
relay     unix  -  -  n  -  -  smtp
showq     unix  n  -  n  -  -  showq
error     unix  -  -  n  -  -  error
retry     unix  -  -  n  -  -  error
discard   unix  -  -  n  -  -  discard
local     unix  -  n  n  -  -  local
anvil     unix  -  -  n  -  1  anvil
scache    unix  -  -  n  -  1  scache
postlog   unix-dgram n  -  n  -  1  postlogd
";
