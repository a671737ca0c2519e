//! A contact's record for people, and a whole account from one copy to another: over real SMTP on both sides, from one
//! engine to the other.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use reqwest::Method;
use serde_json::{Value, json};

use crate::api::Desk;
use crate::app::{TestApp, postgres, program};
use crate::bucket_server::noise;
use crate::mail::{ANNA, Draft, LENA};

async fn run(app: &TestApp, arguments: &[&str]) -> Output {
    let config = app.folder().join("syncmx.toml").to_str().unwrap().to_owned();
    let mut command = program(arguments);
    command.args(["--config", &config]);
    command.envs(app.environment().iter().filter_map(|setting| setting.split_once('=')));
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// Exit code, the JSON line on standard output (or null), standard error.
async fn json(app: &TestApp, arguments: &[&str]) -> (i32, Value, String) {
    let output = run(app, &[arguments, &["--json"]].concat()).await;
    let said = String::from_utf8(output.stdout).unwrap();
    let value = said.lines().next().map_or(Value::Null, |line| serde_json::from_str(line).unwrap());
    (output.status.code().unwrap(), value, String::from_utf8(output.stderr).unwrap())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn read(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn sha256(octets: &[u8]) -> String {
    digest(&SHA256, octets).as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The key file of the first copy under another master key: what an operator who moves an account takes along.
fn keys_of(app: &TestApp) -> String {
    keys_with(app, 0x5e)
}

fn keys_with(app: &TestApp, master: u8) -> String {
    let keys = std::fs::read_to_string(app.folder().join("data/keys.toml")).unwrap();
    let line = keys.lines().find(|line| line.starts_with("master")).unwrap().to_owned();
    keys.replace(&line, &format!("master = \"{}\"", format!("{master:02x}").repeat(32)))
}

/// Another copy, on the other engine where PostgreSQL is installed.
async fn other_copy(keys: String) -> TestApp {
    let database = match postgres::cluster() {
        Some(cluster) if !postgres::is_wanted() => Some(cluster.database().await),
        Some(_) | None => None,
    };
    TestApp::start_copy(keys, database).await
}

/// A message with a file, in a blob or in its row.
fn with_file(id: &str, octets: usize) -> Vec<u8> {
    let fields = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n";
    let date = jiff::Zoned::now().strftime("%a, %d %b %Y %H:%M:%S %z");
    format!(
        "From: lena.albrecht@praxis-morgenrot.test\r\nTo: Anna Bergmann <anna.bergmann@web-post.test>\r\n\
         Subject: Your report\r\nDate: {date}\r\nMessage-ID: <{id}@e2e.test>\r\n{fields}\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nHere it is.\r\n\
         --b\r\nContent-Type: text/csv\r\nContent-Disposition: attachment; filename=\"report.csv\"\r\n\r\n{}\r\n\
         --b\r\nContent-Type: text/csv\r\nContent-Disposition: attachment; filename=\"Report.CSV\"\r\n\r\na,b\r\n--b--\r\n",
        noise(octets)
    )
    .into_bytes()
}

fn answer(id: &str, to: &str, in_reply_to: &str) -> Vec<u8> {
    let fields = format!("In-Reply-To: <{in_reply_to}@e2e.test>\r\n");
    Draft {
        id,
        from: "Anna Bergmann <anna.bergmann@web-post.test>",
        to,
        subject: "Re: Your appointment",
        text: "Thank you!\r\n",
        fields: &fields,
    }
    .raw()
}

/// A practice with something of everything.
struct Practice {
    app: TestApp,
    desk: Desk,
    ben: String,
    retired: String,
    /// Of a colleague who is erased.
    left: String,
    reply_address: String,
    first: Vec<u8>,
    erased: Vec<u8>,
}

impl Practice {
    async fn open() -> Self {
        Self::on(TestApp::start().await).await
    }

    #[expect(clippy::cognitive_complexity, reason = "one step after the other")]
    async fn on(app: TestApp) -> Self {
        let mut desk = Desk::open(&app).await;
        let retired = desk.sync.clone();
        let rotated = desk.post(&format!("/users/{}/sync:rotate", desk.user), Value::Null).await;
        desk.sync = text(&rotated["sync"]["sync_address"]);
        desk.auto = text(&rotated["sync"]["auto_address"]);
        let ben = desk.contact("Ben Carlsen", "ben.carlsen@other-post.test").await;
        let first = LENA.sign(&Draft::default().raw());
        send(&app, &desk, &first).await;
        desk.expect_filed(&app.send(&LENA, &desk.sync, &with_file("file", 300 << 10)).await).await;
        desk.expect_filed(&app.send(&LENA, &desk.sync, &with_file("small", 100)).await).await;
        let to = format!("lena.albrecht@praxis-morgenrot.test, {}", desk.sync);
        desk.expect_filed(&app.send(&ANNA, &desk.sync, &answer("answer", &to, "1")).await).await;
        // R25: Anna is copied on what goes to Ben.
        let both = Draft {
            id: "both",
            to: "Ben Carlsen <ben.carlsen@other-post.test>",
            fields: "Cc: anna.bergmann@web-post.test\r\n",
            subject: "For Ben",
            ..Draft::default()
        };
        desk.expect_filed(&app.send(&LENA, &desk.sync, &both.raw()).await).await;
        let alone = Draft {
            id: "alone",
            to: "ben.carlsen@other-post.test",
            text: "For Ben's eyes alone.\r\n",
            fields: "In-Reply-To: <both@e2e.test>\r\n",
            ..Draft::default()
        };
        desk.expect_filed(&app.send(&LENA, &desk.sync, &alone.raw()).await).await;
        let copied = Draft {
            id: "held",
            to: "tom@praxis-morgenrot.test",
            fields: "Cc: anna.bergmann@web-post.test\r\n",
            ..Draft::default()
        };
        let answers = app.send(&LENA, &desk.sync, &copied.raw()).await;
        desk.expect(&answers, "250 2.0.0", "held", "contact_only_in_cc").await;
        let sent = json!({
            "message_id_header": "crm-1@crm.test", "contact_id": desk.anna, "user_id": desk.user,
            "subject": "From the CRM", "sent_at": "2026-11-20T10:00:00Z", "text": "Hello Anna",
        });
        desk.post("/messages", sent).await;
        let body = json!({ "contact_id": desk.anna, "user_id": desk.user });
        let reply_address = text(&desk.post("/reply-addresses", body).await["address"]);
        let hook = json!({ "url": "https://hooks.crm.test/events", "events": ["*"] });
        desk.post("/webhooks", hook).await;
        // R60: something that is not to come back.
        let erased = LENA.sign(&Draft { id: "erased", ..Draft::default() }.raw());
        let id = text(&send(&app, &desk, &erased).await["id"]);
        desk.post("/purge", json!({ "message_id": id })).await;
        let colleague =
            json!({ "name": "Rosa Ruhl", "emails": ["rosa@praxis-morgenrot.test"], "role": "staff" });
        let colleague = desk.post("/users", colleague).await;
        let left = text(&colleague["sync"]["sync_address"]);
        desk.post("/purge", json!({ "user_id": colleague["id"] })).await;
        Self { app, desk, ben, retired, left, reply_address, first, erased }
    }

    async fn export(&self, target: &Path) {
        let out = target.to_str().unwrap();
        let (code, report, said) =
            json(&self.app, &["export", "--account", &self.desk.account, "--out", out]).await;
        assert_eq!(code, 0, "{said}");
        assert_eq!((&report["originals"], &report["problems"]), (&7.into(), &0.into()), "{report}");
    }
}

/// As it is: already signed.
async fn send(app: &TestApp, desk: &Desk, raw: &[u8]) -> Value {
    let sender = crate::mail::Sender { dkim: None, ..LENA };
    desk.expect_filed(&app.send(&sender, &desk.sync, raw).await).await.1
}

/// What the API shows of everything, but for what a move changes.
async fn shown(desk: &Desk, contacts: &[&str]) -> Vec<Value> {
    let mut shown = vec![desk.get("").await, desk.get("/users").await, desk.get("/contacts").await];
    for contact in contacts {
        shown.push(desk.get(&format!("/contacts/{contact}/timeline")).await);
        shown.push(desk.get(&format!("/contacts/{contact}/sync")).await);
    }
    for list in ["held", "deliveries", "events", "sync-marks"] {
        shown.push(desk.get(&format!("/{list}")).await);
    }
    let conversations: Vec<String> =
        desk.timeline(&desk.anna).await.iter().map(|entry| text(&entry["conversation_id"])).collect();
    for conversation in conversations {
        shown.push(desk.get(&format!("/conversations/{conversation}")).await);
    }
    shown
}

/// Message and attachments of each entry.
async fn contents(desk: &Desk) -> Vec<Vec<u8>> {
    let mut contents = Vec::new();
    for entry in desk.timeline(&desk.anna).await {
        if entry["flags"] == json!(["registered"]) {
            continue;
        }
        let id = text(&entry["id"]);
        contents.push(desk.bytes(&format!("/messages/{id}/raw")).await.1);
        for n in 0..entry["attachments"].as_array().unwrap().len() {
            contents.push(desk.bytes(&format!("/messages/{id}/attachments/{n}")).await.1);
        }
    }
    contents
}

#[tokio::test]
async fn an_account_moves_to_another_copy_and_goes_on_there_as_if_nothing_had_been() {
    let practice = Practice::open().await;
    let folder = tempfile::tempdir().unwrap();
    let export = folder.path().join("export");
    practice.export(&export).await;
    let wanted = ["export", "--account", &practice.desk.account, "--out", export.to_str().unwrap()];
    assert_eq!(run(&practice.app, &wanted).await.status.code(), Some(2), "what is there is not overwritten");

    let copy = other_copy(keys_of(&practice.app)).await;
    let neighbour = Desk::open(&copy).await;
    let (code, report, said) = json(&copy, &["import", export.to_str().unwrap()]).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(report["messages"], 7, "{report}");
    assert_eq!((&report["held"], &report["notes"]), (&1.into(), &json!([])), "{report}");

    let (old, new) = (&practice.desk, practice.desk.clone().at(&copy));
    let contacts = [old.anna.as_str(), practice.ben.as_str()];
    let pairs = shown(old, &contacts).await.into_iter().zip(shown(&new, &contacts).await);
    for (n, (old, new)) in pairs.enumerate() {
        assert_eq!(old, new, "list {n}");
    }
    assert_eq!(contents(old).await, contents(&new).await);
    assert_eq!(neighbour.timeline(&neighbour.anna).await.len(), 0, "R4");
    let hook = &new.get("/webhooks").await["items"][0];
    assert_eq!((&hook["state"], &hook["url"]), (&"off".into(), &"https://hooks.crm.test/events".into()));

    // R64: the trail goes on, whole.
    let verified = run(&copy, &["audit", "verify"]).await;
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stderr));
    let trail = new.get("/audit?limit=200").await;
    let acts: Vec<String> =
        trail["items"].as_array().unwrap().iter().map(|act| text(&act["action"])).collect();
    assert!(
        ["export", "import", "purge", "rotate"].iter().all(|act| acts.iter().any(|known| known == act)),
        "{acts:?}"
    );
    goes_on(&practice, &new, &copy).await;

    let before = new.timeline(&new.anna).await;
    let (code, report, _) = json(&copy, &["import", export.to_str().unwrap()]).await;
    assert_eq!((code, &report["was_imported_before"]), (0, &true.into()));
    assert_eq!(new.timeline(&new.anna).await, before);
}

/// Mail to the copy: retries, answers, reply addresses, retired addresses, what was erased.
#[expect(clippy::cognitive_complexity, reason = "one step after the other")]
async fn goes_on(practice: &Practice, new: &Desk, copy: &TestApp) {
    let entries = new.timeline(&new.anna).await;
    let of_first = |entry: &&Value| entry["message_id_header"] == "1@e2e.test";
    let conversation = entries.iter().find(of_first).unwrap()["conversation_id"].clone();
    // R70.
    let sender = crate::mail::Sender { dkim: None, ..LENA };
    let again = copy.send(&sender, &new.sync, &practice.first).await;
    new.expect(&again, "250 2.0.0", "duplicate", "duplicate").await;
    // R40: a late answer, by the mark that came along (R30).
    let late = answer("late", "lena.albrecht@praxis-morgenrot.test", "1");
    let (_, late) = new.expect_filed(&copy.send(&ANNA, &new.auto, &late).await).await;
    assert_eq!((&late["conversation_id"], &late["direction"]), (&conversation, &"inbound".into()));
    // To mail that the CRM registered.
    let fields = "In-Reply-To: <crm-1@crm.test>\r\n";
    let from = "anna.bergmann@web-post.test";
    let registered =
        Draft { id: "crm-answer", from, to: "x@praxis-morgenrot.test", fields, ..Draft::default() };
    let (_, filed) = new.expect_filed(&copy.send(&ANNA, &new.auto, &registered.raw()).await).await;
    let parent = entries.iter().find(|entry| entry["message_id_header"] == "crm-1@crm.test").unwrap();
    assert_eq!(filed["conversation_id"], parent["conversation_id"]);
    // R45: the key of the address came along.
    let routed = Draft { id: "routed", from, to: &practice.reply_address, ..Draft::default() };
    new.expect_filed(&copy.send(&ANNA, &practice.reply_address, &routed.raw()).await).await;
    // R62.
    for retired in [&practice.retired, &practice.left] {
        let answers = copy.send(&LENA, retired, &Draft { id: "r", ..Draft::default() }.raw()).await;
        assert_eq!(answers.decisive().codes(), "550 5.2.1", "{retired}");
    }
    // R60: answered, and not back.
    let count = new.timeline(&new.anna).await.len();
    assert_eq!(copy.send(&sender, &new.sync, &practice.erased).await.decisive().codes(), "250 2.0.0");
    assert_eq!(new.timeline(&new.anna).await.len(), count);
    // R36: held mail opens under its new key.
    let held = text(&new.get("/held").await["items"][0]["id"]);
    new.post(&format!("/held/{held}:file"), json!({ "contact_id": new.anna })).await;
    assert_eq!(new.timeline(&new.anna).await.len(), count + 1);
    // R35: addresses of old deliveries are found.
    let found = new.get("/deliveries?from=lena.albrecht@praxis-morgenrot.test&limit=200").await;
    assert!(found["items"].as_array().unwrap().len() > 7);
}

#[tokio::test]
async fn without_the_old_keys_the_rest_is_imported_and_what_is_missing_is_said() {
    let practice = Practice::open().await;
    let folder = tempfile::tempdir().unwrap();
    let export = folder.path().join("export");
    practice.export(&export).await;
    let copy = TestApp::start().await;
    let (code, report, said) = json(&copy, &["import", export.to_str().unwrap()]).await;
    assert_eq!((code, &report["messages"]), (0, &7.into()), "{said}");
    let notes = report["notes"].to_string();
    assert!(notes.contains("key 1") && notes.contains("address_hash"), "{notes}");
    let new = practice.desk.clone().at(&copy);
    assert_eq!(contents(&practice.desk).await, contents(&new).await);
    let found = new.get("/deliveries?from=lena.albrecht@praxis-morgenrot.test&limit=200").await;
    assert!(found["items"].as_array().unwrap().len() > 5, "{found}");
    let unknown = copy.send(&ANNA, &practice.reply_address, &answer("x", &practice.reply_address, "1")).await;
    assert_eq!(unknown.decisive().codes(), "550 5.1.1");
}

#[tokio::test]
async fn r60_a_contacts_record_is_a_folder_that_a_person_can_read() {
    let practice = Practice::open().await;
    let (app, desk) = (&practice.app, &practice.desk);
    // R27a: what colleagues wrote among themselves.
    let history = "All is well.\r\n\r\nOn Sun, 22 Nov 2020 at 04:00, Kim <kim@praxis-morgenrot.test> wrote:\r\n> Between us: a secret\r\n";
    let internal = Draft { id: "internal", subject: "Re: Anna", text: history, ..Draft::default() };
    let (_, message) = desk.expect_filed(&app.send(&LENA, &desk.sync, &internal.raw()).await).await;
    assert_eq!(message["flags"], json!(["internal_history"]));

    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("anna");
    let (code, report, said) =
        json(app, &["export", "--contact", &desk.anna, "--out", out.to_str().unwrap()]).await;
    assert_eq!(code, 0, "{said}");
    let counts = |name: &str| report[name].as_u64().unwrap();
    let got = ["messages", "originals", "attachments", "withheld", "held", "problems"].map(counts);
    assert_eq!(got, [7, 5, 4, 1, 1, 0], "{report}");

    assert_eq!(read(out.join("contact.json")), desk.get(&format!("/contacts/{}", desk.anna)).await);
    let mut timeline = read(out.join("timeline.json"));
    for entry in timeline["items"].as_array_mut().unwrap() {
        let (id, entry) = (text(&entry["id"]), entry.as_object_mut().unwrap());
        let file = entry.remove("eml").unwrap();
        if let Some(path) = file.as_str() {
            let date = entry["sent_at"].as_str().unwrap().get(..10).unwrap().to_owned();
            assert_eq!(path, format!("messages/{date}-{id}.eml"));
            let (_, raw) = desk.bytes(&format!("/messages/{id}/raw")).await;
            assert!(std::fs::read(out.join(path)).unwrap() == raw, "{path} is what was received");
        } else {
            entry.remove("eml_why").unwrap();
        }
        for attachment in entry["attachments"].as_array_mut().unwrap() {
            let (n, file) =
                (attachment["n"].clone(), attachment.as_object_mut().unwrap().remove("file").unwrap());
            let (_, octets) = desk.bytes(&format!("/messages/{id}/attachments/{n}")).await;
            assert!(std::fs::read(out.join(text(&file))).unwrap() == octets, "{file}");
        }
    }
    let scopes = json!({ "name": "reader", "account_id": desk.account, "scopes": ["messages:content"] });
    let token = text(&app.api.post("/tokens", scopes).await["token"]);
    let reader = app.api.with_token(&token);
    let path = format!("/accounts/{}/contacts/{}/timeline", desk.account, desk.anna);
    assert_eq!(
        timeline["items"],
        reader.get(&path).await["items"],
        "as the API shows it without scope review"
    );
    check_what_left(&practice, &out, &timeline).await;
}

/// Nothing of others, nothing withheld, and each file as the manifest has it.
async fn check_what_left(practice: &Practice, out: &Path, timeline: &Value) {
    let desk = &practice.desk;
    assert_eq!(timeline["items"].as_array().unwrap().len(), 7);
    let files = files_below(out);
    for path in &files {
        let octets = std::fs::read(path).unwrap();
        for secret in ["Between us", "eyes alone", "held@e2e.test", &practice.ben] {
            let found = memchr::memmem::find(&octets, secret.as_bytes());
            // Who else is on a mail stands in it as it was sent, by its id too.
            let may_stand = *secret == practice.ben && path.ends_with("timeline.json");
            assert!(found.is_none() || may_stand, "{secret} in {}", path.display());
        }
    }
    let names: Vec<String> =
        files.iter().map(|path| text(&json!(path.file_name().unwrap().to_str()))).collect();
    assert!(names.iter().any(|name| name == "Report (2).CSV"), "{names:?}");
    let manifest = read(out.join("manifest.json"));
    let entries = manifest["files"].as_array().unwrap();
    assert_eq!(entries.len() + 1, files.len(), "each file but the manifest itself");
    for entry in entries {
        let octets = std::fs::read(out.join(text(&entry["path"]))).unwrap();
        assert_eq!(
            (&entry["sha256"], &entry["size"]),
            (&sha256(&octets).into(), &octets.len().into()),
            "{entry}"
        );
    }
    let conversations = read(out.join("conversations.json"));
    let of_ben: Vec<&Value> =
        conversations["items"].as_array().unwrap().iter().filter(|item| item["subject"].is_null()).collect();
    assert_eq!((of_ben.len(), of_ben[0]["messages"].as_array().unwrap().len()), (1, 1));
    // R64.
    let trail = desk.get("/audit?limit=200").await;
    let object = format!("contacts/{}", desk.anna);
    assert!(
        trail["items"]
            .as_array()
            .unwrap()
            .iter()
            .any(|act| act["action"] == "export" && act["object"] == object.as_str())
    );
    let (app, whole) = (&practice.app, out.with_extension("whole"));
    let wanted =
        ["export", "--contact", &desk.anna, "--account", &desk.account, "--internal-history", "--out"];
    let (code, report, _) = json(app, &[&wanted[..], &[whole.to_str().unwrap()]].concat()).await;
    assert_eq!((code, &report["withheld"]), (0, &0.into()));
    assert!(std::fs::read_to_string(whole.join("timeline.json")).unwrap().contains("Between us"));
    for missing in [["--contact", &desk.user], ["--account", &desk.user]] {
        let none = out.with_extension("none");
        let (code, _, said) =
            json(app, &["export", missing[0], missing[1], "--out", none.to_str().unwrap()]).await;
        assert!(code == 1 && !none.exists(), "{said}");
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test]
async fn a_damaged_message_is_named_and_the_rest_is_exported_and_imported() {
    let practice = Practice::on(TestApp::start_with_sqlite().await).await;
    let (app, desk) = (&practice.app, &practice.desk);
    let blob = files_below(&app.folder().join("data/blobs")).pop().unwrap();
    let mut octets = std::fs::read(&blob).unwrap();
    let middle = octets.len() / 2;
    octets[middle] ^= 1;
    std::fs::write(&blob, octets).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, what) in [("contact", &desk.anna), ("account", &desk.account)] {
        let out = folder.path().join(name);
        let option = format!("--{name}");
        let (code, report, said) =
            json(app, &["export", &option, what, "--out", out.to_str().unwrap()]).await;
        assert_eq!((code, &report["problems"]), (1, &1.into()), "{said}");
        assert!(said.contains("manifest.json names it"), "{said}");
        let manifest = read(out.join("manifest.json"));
        let mut damaged =
            manifest["files"].as_array().unwrap().iter().filter(|entry| !entry["problem"].is_null());
        let entry = damaged.next().unwrap();
        assert!(text(&entry["problem"]).contains("damaged") && damaged.next().is_none(), "{entry}");
        assert!(!out.join(text(&entry["path"])).exists());
    }
    let copy = TestApp::start_copy(keys_of(app), None).await;
    let export = folder.path().join("account");
    let (code, report, said) = json(&copy, &["import", export.to_str().unwrap()]).await;
    assert_eq!((code, &report["messages"]), (0, &7.into()), "{said}");
    assert!(
        report["notes"][0].as_str().unwrap().starts_with("1 files or rows could not be read"),
        "{report}"
    );
    let new = desk.clone().at(&copy);
    assert_eq!(desk.timeline(&desk.anna).await, new.timeline(&desk.anna).await, "its text is in rows");
}

/// An export that is changed by hand.
struct Folder(PathBuf);

impl Folder {
    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn change(&self, path: &str, change: impl FnOnce(String) -> String) {
        let place = self.0.join(path);
        let text = std::fs::read_to_string(&place).unwrap();
        std::fs::write(place, change(text)).unwrap();
    }

    /// And the manifest says so.
    fn forge(&self, path: &str, change: impl FnOnce(String) -> String) {
        self.change(path, change);
        let text = std::fs::read(self.0.join(path)).unwrap();
        self.change("manifest.json", |manifest| {
            let line = manifest.lines().find(|line| line.contains(path)).unwrap().to_owned();
            let lines = text.iter().filter(|octet| **octet == b'\n').count();
            let entry = json!({ "path": path, "size": text.len(), "sha256": sha256(&text), "lines": lines });
            let comma = if line.ends_with(',') { "," } else { "" };
            manifest.replace(&line, &format!("{entry}{comma}"))
        });
    }

    fn copied_to(&self, target: PathBuf) -> Self {
        for file in files_below(&self.0) {
            let to = target.join(file.strip_prefix(&self.0).unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(file, to).unwrap();
        }
        Self(target)
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of bad exports")]
async fn a_bad_export_is_refused_with_file_and_line_and_nothing_of_it_is_written() {
    let practice = Practice::open().await;
    let folder = tempfile::tempdir().unwrap();
    let export = Folder(folder.path().join("export"));
    practice.export(&export.0).await;
    let copy = TestApp::start().await;
    let neighbour = Desk::open(&copy).await;
    let first_line = |text: &str| text.lines().next().unwrap().to_owned();
    let message = files_below(&export.0.join("messages")).pop().unwrap();
    let message = message.strip_prefix(&export.0).unwrap().to_str().unwrap().to_owned();
    let local_part = neighbour.sync.split('@').next().unwrap().to_owned();
    type Change<'a> = Box<dyn Fn(&Folder) + 'a>;
    let cases: Vec<(&str, Change<'_>, &str)> = vec![
        (
            "cut",
            Box::new(|bad| {
                bad.change("rows/messages.ndjson", |text| text.get(..text.len() - 9).unwrap().to_owned())
            }),
            "rows/messages.ndjson, line 7: it is cut off",
        ),
        (
            "a row less",
            Box::new(|bad| bad.change("rows/contacts.ndjson", |text| format!("{}\n", first_line(&text)))),
            "rows/contacts.ndjson has 1 lines",
        ),
        (
            "changed",
            Box::new(|bad| bad.change("rows/contacts.ndjson", |text| text.replace("Ben", "Bob"))),
            "rows/contacts.ndjson was changed",
        ),
        (
            "a message changed",
            Box::new(|bad| bad.change(&message, |text| text.replacen("Subject", "Subjekt", 1))),
            "was changed: its SHA-256",
        ),
        (
            "a message less",
            Box::new(|bad| std::fs::remove_file(bad.0.join(&message)).unwrap()),
            "cannot read messages/",
        ),
        (
            "newer",
            Box::new(|bad| {
                bad.change("manifest.json", |text| text.replacen("\"format\":1", "\"format\":2", 1))
            }),
            "manifest.json, line 1: its format is 2",
        ),
        (
            "traversal",
            Box::new(|bad| {
                bad.change("manifest.json", |text| text.replacen("rows/users", "../rows/users", 1))
            }),
            "its path is none of an export",
        ),
        (
            "manifest cut",
            Box::new(|bad| bad.change("manifest.json", |text| text.replace("]}\n", ""))),
            "manifest.json ends in the middle",
        ),
        (
            "another account's",
            Box::new(|bad| {
                bad.forge("rows/contacts.ndjson", |text| {
                    text.replacen(&practice.desk.account, &neighbour.account, 1)
                });
            }),
            "rows/contacts.ndjson, line 1: it belongs to account",
        ),
        (
            "a word that is none",
            Box::new(|bad| bad.forge("rows/users.ndjson", |text| text.replace("\"on\"", "\"maybe\""))),
            "rows/users.ndjson, line 1: sync_state is none of",
        ),
        (
            "a key too many",
            Box::new(|bad| {
                bad.forge("rows/users.ndjson", |text| text.replace("\"role\"", "\"admin\":1,\"role\""))
            }),
            "rows/users.ndjson, line 1: unknown field `admin`",
        ),
        (
            "somebody's address",
            Box::new(|bad| {
                bad.forge("rows/sync_addresses.ndjson", |text| {
                    let own = practice.desk.sync.split('@').next().unwrap();
                    text.replace(own, &local_part)
                });
            }),
            "is another account's sync address here",
        ),
        (
            "not JSON",
            Box::new(|bad| bad.forge("rows/events.ndjson", |text| format!("{text}{{\n"))),
            "EOF while parsing",
        ),
        (
            "no room behind the last event",
            Box::new(|bad| {
                bad.forge("rows/events.ndjson", |text| {
                    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
                    text.replace(last["event_id"].as_str().unwrap(), &uuid::Uuid::max().to_string())
                });
            }),
            "is no UUIDv7 of a time before tomorrow",
        ),
        (
            "no room behind the trail",
            Box::new(|bad| {
                bad.forge("rows/audit.ndjson", |text| {
                    let seq = format!("\"seq\":{},", text.lines().count());
                    assert!(text.contains(&seq), "{seq}");
                    text.replace(&seq, &format!("\"seq\":{},", i64::MAX))
                });
            }),
            "the trail could not go on",
        ),
        (
            "settings",
            Box::new(|bad| {
                bad.forge("rows/account.ndjson", |text| text.replace("internal_domains", "no_such_key"))
            }),
            "rows/account.ndjson, line 1: settings",
        ),
    ];
    for (name, change, words) in cases {
        let bad = export.copied_to(folder.path().join(name));
        change(&bad);
        let (code, _, said) = json(&copy, &["import", bad.path()]).await;
        assert_eq!((code, said.lines().count()), (1, 1), "{name}: {said}");
        assert!(said.contains(words), "{name}: {said}");
        let account = format!("/accounts/{}", practice.desk.account);
        assert_eq!(copy.api.call(Method::GET, &account, None).await.0, 404, "{name}");
    }
    let long = export.copied_to(folder.path().join("long"));
    let line = std::fs::File::options().write(true).open(long.0.join("rows/messages.ndjson")).unwrap();
    line.set_len(1 << 30).unwrap();
    let (code, _, said) = json(&copy, &["import", long.path()]).await;
    assert!(code == 1 && said.contains("rows/messages.ndjson, line 8: it is longer than"), "{said}");
    let contact = folder.path().join("contact");
    json(&practice.app, &["export", "--contact", &practice.desk.anna, "--out", contact.to_str().unwrap()])
        .await;
    let (code, _, said) = json(&copy, &["import", contact.to_str().unwrap()]).await;
    assert!(code == 1 && said.contains("one contact, for people"), "{said}");
    let (code, _, said) = json(&practice.app, &["import", export.path()]).await;
    assert!(code == 1 && said.contains("is here already"), "{said}");
}

/// Deterministic: the first try ends at a row that the database refuses, far behind the account itself.
#[tokio::test]
async fn an_import_that_ended_in_the_middle_is_finished_by_running_it_again() {
    let HalfImported { practice, export, copy, _folder } = HalfImported::new().await;
    let new = practice.desk.clone().at(&copy);
    // Mail is not taken before all is there.
    let early = copy.send(&LENA, &new.sync, &practice.first).await;
    assert_eq!(early.decisive().codes(), "550 5.1.1");
    let from = "anna.bergmann@web-post.test";
    let routed = Draft { id: "routed", from, to: &practice.reply_address, ..Draft::default() };
    let early = copy.send(&ANNA, &practice.reply_address, &routed.raw()).await;
    assert!(early.decisive().codes().starts_with("451 "), "{}", early.decisive().codes());
    // R60: what it would bring back is not erased.
    let account = format!("/accounts/{}", new.account);
    let held = text(&new.get("/held").await["items"][0]["id"]);
    let message = text(&new.timeline(&new.anna).await[0]["id"]);
    for (path, body) in [
        ("/purge".to_owned(), json!({ "contact_id": new.anna })),
        (format!("/messages/{message}:undo"), json!({})),
        (format!("/held/{held}:discard"), json!({})),
    ] {
        let (status, answer) = copy.api.call(Method::POST, &format!("{account}{path}"), Some(body)).await;
        assert_eq!(status, 409, "{path}: {answer}");
        assert!(answer["detail"].as_str().unwrap().contains("import"), "{path}: {answer}");
    }
    let (code, report, said) = json(&copy, &["import", export.path()]).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!((&report["messages"], &report["messages_known"]), (&0.into(), &7.into()), "{report}");
    is_the_same(&practice, &copy).await;
}

#[tokio::test]
async fn r60_an_import_does_not_bring_back_an_account_that_was_erased_meanwhile() {
    let HalfImported { practice, export, copy, _folder } = HalfImported::new().await;
    let new = practice.desk.clone().at(&copy);
    let message = text(&new.timeline(&new.anna).await[0]["id"]);
    new.post("/purge", json!({ "all": true })).await;
    // Nothing is to come any more: it is an account like any other.
    let undo = format!("/accounts/{}/messages/{message}:undo", new.account);
    assert_eq!(copy.api.call(Method::POST, &undo, Some(json!({}))).await.0, 404);
    let (code, _, said) = json(&copy, &["import", export.path()]).await;
    assert!(code == 1 && said.contains("was erased since its import was begun"), "{said}");
    assert_eq!(new.get("/contacts").await["items"], json!([]));
}

/// An account whose import has ended at a row that the database refuses: all before it is there.
struct HalfImported {
    practice: Practice,
    export: Folder,
    copy: TestApp,
    _folder: tempfile::TempDir,
}

impl HalfImported {
    async fn new() -> Self {
        let practice = Practice::open().await;
        let folder = tempfile::tempdir().unwrap();
        let export = Folder(folder.path().join("export"));
        practice.export(&export.0).await;
        let copy = other_copy(keys_of(&practice.app)).await;
        let bad = export.copied_to(folder.path().join("bad"));
        end_in_the_middle(&bad, &practice);
        let (code, _, said) = json(&copy, &["import", bad.path()]).await;
        assert!(code == 1 && said.contains("rows/webhook_deliveries.ndjson, line 1"), "{said}");
        Self { practice, export, copy, _folder: folder }
    }
}

/// Of a webhook that is not there.
fn end_in_the_middle(bad: &Folder, practice: &Practice) {
    bad.forge("rows/webhook_deliveries.ndjson", |_| {
        let none = uuid::Uuid::nil();
        let line = json!({
            "account_id": practice.desk.account, "webhook_id": none, "event_id": none, "conversation_id": null,
            "state": "dead", "failed": 1, "begun_at": null, "due_at": 0,
        });
        format!("{line}\n")
    });
}

#[tokio::test]
async fn an_import_that_is_killed_again_and_again_ends_with_everything_once() {
    let practice = Practice::open().await;
    let folder = tempfile::tempdir().unwrap();
    let export = Folder(folder.path().join("export"));
    practice.export(&export.0).await;
    let copy = other_copy(keys_of(&practice.app)).await;
    let config = copy.folder().join("syncmx.toml").to_str().unwrap().to_owned();
    for kills in 0_u64.. {
        let pause = Duration::from_millis(100 + 40 * kills);
        let mut command = program(&["import", export.path(), "--config", &config]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        tokio::time::sleep(pause).await;
        if let Some(status) = child.try_wait().unwrap() {
            assert_eq!(status.code(), Some(0), "after {kills} kills");
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (code, report, _) = json(&copy, &["import", export.path()]).await;
    assert_eq!((code, &report["was_imported_before"]), (0, &true.into()));
    is_the_same(&practice, &copy).await;
}

async fn is_the_same(practice: &Practice, copy: &TestApp) {
    let (old, new) = (&practice.desk, practice.desk.clone().at(copy));
    let contacts = [old.anna.as_str(), practice.ben.as_str()];
    for (n, (old, new)) in
        shown(old, &contacts).await.into_iter().zip(shown(&new, &contacts).await).enumerate()
    {
        assert_eq!(old, new, "list {n}");
    }
    assert_eq!(contents(old).await, contents(&new).await);
    let verified = run(copy, &["audit", "verify"]).await;
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stderr));
}

/// From a store whose rows are sealed to a clear one and back, each with a master key of its own, on both engines.
#[tokio::test]
async fn an_account_moves_between_stores_whose_rows_are_sealed_and_clear() {
    let sealed = |is_sealed: bool| {
        if is_sealed { "SYNCMX_STORE__SEAL_ROWS=true" } else { "SYNCMX_STORE__SEAL_ROWS=false" }
    };
    let practice = Practice::on(TestApp::start_with(&[sealed(true)]).await).await;
    let folder = tempfile::tempdir().unwrap();
    let mut export = folder.path().join("0");
    practice.export(&export).await;
    let account = practice.desk.account.as_str();
    let mut last: Option<TestApp> = None;
    for (n, is_sealed) in [false, true, true, false].into_iter().enumerate() {
        let keys = keys_with(&practice.app, 0x51 + u8::try_from(n).unwrap());
        let database = match postgres::cluster() {
            Some(cluster) if n % 2 == 0 => Some(cluster.database().await),
            Some(_) | None => None,
        };
        let copy = TestApp::start_copy_with(keys, database, &[sealed(is_sealed)]).await;
        let (code, report, said) = json(&copy, &["import", export.to_str().unwrap()]).await;
        assert_eq!((code, &report["messages"], &report["notes"]), (0, &7.into(), &json!([])), "{n}: {said}");
        is_the_same(&practice, &copy).await;
        let found = words_below(&copy, &["Your appointment", "web-post.test", "report.csv"]).await;
        assert_eq!(found, if is_sealed { 0 } else { 3 }, "{n}");
        let out = folder.path().join((n + 1).to_string());
        let (code, _, said) =
            json(&copy, &["export", "--account", account, "--out", out.to_str().unwrap()]).await;
        assert_eq!(code, 0, "{n}: {said}");
        same_rows(&export, &out);
        (export, last) = (out, Some(copy));
    }
    let copy = last.unwrap();
    goes_on(&practice, &practice.desk.clone().at(&copy), &copy).await;
}

/// How many of these words stand in what the store holds.
async fn words_below(copy: &TestApp, words: &[&str]) -> usize {
    let stored = crate::beside::stored(copy.folder()).await;
    words.iter().filter(|word| memchr::memmem::find(&stored, word.as_bytes()).is_some()).count()
}

/// The lines of two exports, in any order.
#[track_caller]
fn same_rows(one: &Path, other: &Path) {
    for file in std::fs::read_dir(one.join("rows")).unwrap().map(|file| file.unwrap().file_name()) {
        // The trail goes on, and webhooks are off.
        if ["audit.ndjson", "webhooks.ndjson"].contains(&file.to_str().unwrap()) {
            continue;
        }
        let lines = |folder: &Path| {
            let text = std::fs::read_to_string(folder.join("rows").join(&file)).unwrap();
            let mut lines: Vec<Value> =
                text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            lines.sort_by_key(Value::to_string);
            lines
        };
        assert!(lines(one) == lines(other), "{file:?}");
    }
}

/// More rows than a page of the export or a transaction of the import holds, of each sort of kind; and out again.
#[tokio::test]
async fn lists_longer_than_a_page_come_out_as_they_went_in() {
    let practice = Practice::open().await;
    let folder = tempfile::tempdir().unwrap();
    let export = Folder(folder.path().join("export"));
    practice.export(&export.0).await;
    let account = &practice.desk.account;
    let ids: Vec<uuid::Uuid> = (0..700).map(|_| uuid::Uuid::now_v7()).collect();
    let more = |of: usize, line: &dyn Fn(usize, uuid::Uuid) -> Value| -> String {
        ids.iter().take(of).enumerate().map(|(n, id)| format!("{}\n", line(n, *id))).collect()
    };
    let contacts = more(700, &|n, id| {
        json!({
            "account_id": account, "contact_id": id, "name": format!("Gr\u{fc}n {n}"), "name_key": format!("gr\u{fc}n {n}"),
            "email": format!("g{n}@web-post.test"), "email_key": format!("g{n}@web-post.test"), "other_emails": [],
            "external_id": null, "created_by": "import", "created_at": n,
        })
    });
    export.forge("rows/contacts.ndjson", |text| text + &contacts);
    let conversations = more(700, &|n, id| {
        json!({
            "account_id": account, "conversation_id": id, "contact_id": id, "user_id": null, "subject": "s",
            "created_at": n, "last_at": n, "merged_into": null, "reply_revoked_at": null,
        })
    });
    export.forge("rows/conversations.ndjson", |text| text + &conversations);
    let thread_ids = more(700, &|n, id| {
        let header = format!("g{n}@web-post.test");
        json!({ "account_id": account, "message_id_header": header, "conversation_id": id, "is_own": n % 2 == 0 })
    });
    export.forge("rows/thread_ids.ndjson", |text| text + &thread_ids);
    let raw = b"From: a@b.test\r\n\r\nx\r\n";
    let messages = more(250, &|n, id| {
        let digits = id.simple().to_string();
        let path = export.0.join(format!("messages/{}/{id}.eml", digits.get(30..).unwrap()));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, raw).unwrap();
        json!({
            "account_id": account, "message_id": id, "conversation_id": id, "contact_id": id, "user_id": null,
            "direction": "inbound", "kind": "mail", "sender": "verified", "subject": "s", "sent_at": n, "received_at": n,
            "message_id_header": format!("g{n}@web-post.test"), "in_reply_to": null, "text": "x", "new_text": "x",
            "has_html": false, "flags": [], "attachments": [], "digest": format!("{n:064x}"), "size_bytes": raw.len(),
            "meeting": null, "participants": [{
                "position": 0, "role": "from", "name": null, "email": format!("g{n}@web-post.test"), "contact_id": id,
                "user_id": null,
            }],
            "content": { "size": raw.len(), "sha256": sha256(raw) },
        })
    });
    export.forge("rows/messages.ndjson", |text| text + &messages);
    let copy = other_copy(keys_of(&practice.app)).await;
    let (code, report, said) = json(&copy, &["import", export.path()]).await;
    assert_eq!((code, &report["messages"]), (0, &257.into()), "{said}");
    let out = folder.path().join("out");
    let (code, report, said) =
        json(&copy, &["export", "--account", account, "--out", out.to_str().unwrap()]).await;
    assert_eq!((code, &report["originals"]), (0, &257.into()), "{said}");
    same_rows(&export.0, &out);
}
