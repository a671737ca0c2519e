//! Keys take the place of others: what was sealed before opens afterwards, whoever is at work meanwhile and whenever it
//! is killed; and nothing opens with a key or in a place that it was not made for.

#![expect(clippy::unwrap_used, clippy::cognitive_complexity, reason = "a test stops where it fails")]

#[path = "support/store_world.rs"]
mod store_world;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use store_world::*;
use syncmx::filing::Outcome;
use syncmx::id::{AccountId, ContactId, MessageId, UserId};
use syncmx::keys::{self, Keys, MasterKeyId};
use syncmx::outbox::EndpointUrl;
use syncmx::store::directory::{
    Detail, GRACE_MILLIS, HeldTarget, NewWebhook, Remembered, Request, StoredAnswer,
};
use syncmx::store::import::{ImportError, Incoming};
use syncmx::store::lines::Kind;
use syncmx::store::outbox::WebhookKey;
use syncmx::store::seal::Vault;
use syncmx::store::{Store, StoreError};
use syncmx::time::Timestamp;
use uuid::Uuid;

const RAW: &[u8] = b"Subject: raw\r\n\r\nraw\r\n";

/// With its keys in a file.
async fn world_with_file(engine: Engine) -> World {
    let (folder, settings) = place(engine).await;
    let keys = Arc::new(Keys::load_or_create(&folder.path().join("keys.toml")).unwrap());
    Store::migrate(&settings).await.unwrap();
    let store = Store::open(&settings, keys.clone(), served()).await.unwrap();
    let other = beside(&settings.url).await;
    let (account, user) = (AccountId::generate(), UserId::generate());
    let mut world = World { engine, settings, folder, keys, store, other, account, user };
    world.add_account(account, user, SYNC_LOCAL, USER).await;
    world.add_contact("ana@patient.test").await;
    world
}

fn key_file(world: &World) -> PathBuf {
    world.folder.path().join("keys.toml")
}

async fn file_many(store: &Store, world: &World, prefix: &str, count: usize) {
    let file = |n: usize| {
        let mail = email(&format!("{prefix}-{n}@praxis.test"), USER, &["ana@patient.test"]);
        store.file(world.submit(mail))
    };
    for filed in join_all((0..count).map(file)).await {
        assert_eq!(filed.unwrap().decided[0].1.outcome(), Outcome::Filed);
    }
}

async fn message_ids(world: &mut World) -> Vec<MessageId> {
    let rows: Vec<(Uuid,)> = world.rows("SELECT message_id FROM messages ORDER BY message_id").await;
    rows.into_iter().map(|(id,)| MessageId::from_uuid(id)).collect()
}

/// Every message is read by a program that remembers nothing.
async fn all_open(world: &mut World, keys: &Arc<Keys>, expected: usize) {
    let fresh = Store::open(&world.settings, keys.clone(), served()).await.unwrap();
    let ids = message_ids(world).await;
    assert_eq!(ids.len(), expected);
    for id in ids {
        assert!(
            fresh.raw_message(world.account, id).await.unwrap().is_some_and(|raw| raw.ends_with(b"raw\r\n"))
        );
    }
    fresh.close().await;
}

fn after_the_grace() -> Timestamp {
    Timestamp::from_millis(Timestamp::now().as_millis() + GRACE_MILLIS + 1)
}

async fn an_account_gets_another_key_and_everything_still_opens(engine: Engine) {
    let mut world = world_with_file(engine).await;
    file_many(&world.store, &world, "small", 3).await;
    let mut large = vec![0; 200_000];
    aws_lc_rs::rand::fill(&mut large).unwrap();
    large.extend_from_slice(b"raw\r\n");
    let mail = email("large@praxis.test", USER, &["ana@patient.test"]);
    world.store.file(submission(mail, vec![world.sync_mailbox()], large)).await.unwrap();
    // R24: it names nobody.
    let held = world.file(email("held@praxis.test", USER, &[])).await.unwrap();
    assert_eq!(held.decided[0].1.outcome(), Outcome::Held);
    let held = held.decided[0].0;
    let request =
        Request { account: world.account, key: "k".to_owned(), about: world.account, hash: [7; 32] };
    let answer = StoredAnswer { status: 201, body: "{\"secret\":1}".to_owned() };
    let mut change = world.store.change().await.unwrap();
    let new = NewWebhook {
        url: EndpointUrl::parse("https://crm.test/hook").unwrap(),
        events: vec!["*".to_owned()],
        detail: Detail::Meta,
    };
    let (webhook, _) = change.create_webhook(world.account, &new).await.unwrap();
    change.rotate_webhook_secret(world.account, webhook.id).await.unwrap();
    change.remember_sealed(&request, &answer).await.unwrap();
    change.commit().await.unwrap();
    let blob = std::fs::read(find_file(&blob_folder(&world.folder))).unwrap();

    let rotated = world.store.rotate_account_key(world.account, "operator").await.unwrap();
    assert_eq!((rotated.number.as_i64(), rotated.is_begun, rotated.rewrapped), (2, true, 8));
    let again = world.store.rotate_account_key(world.account, "operator").await.unwrap();
    assert_eq!((again.number.as_i64(), again.is_begun, again.rewrapped), (2, false, 0), "one at a time");
    // Somebody may still be sealing with the old one.
    assert_eq!(world.store.finish_rotations(Timestamp::now()).await.unwrap(), 0);
    assert_eq!(world.store.retired_keys().await.unwrap().len(), 1);
    assert_eq!(world.store.finish_rotations(after_the_grace()).await.unwrap(), 1);
    assert_eq!(world.store.finish_rotations(after_the_grace()).await.unwrap(), 0);
    assert_eq!(world.store.retired_keys().await.unwrap(), []);

    let keys = world.keys.clone();
    all_open(&mut world, &keys, 4).await;
    assert_eq!(
        std::fs::read(find_file(&blob_folder(&world.folder))).unwrap(),
        blob,
        "no blob is written again"
    );
    let fresh = Store::open(&world.settings, keys, served()).await.unwrap();
    assert_eq!(fresh.raw_held(world.account, held).await.unwrap().unwrap(), RAW);
    assert_eq!(fresh.recall(&request).await.unwrap(), Remembered::Answered(answer));
    let (owner, now) = (Uuid::now_v7(), Timestamp::now());
    let key = WebhookKey { account: world.account, webhook: webhook.id };
    fresh.claim_webhooks(owner, &[key], now, now.plus_days(1)).await.unwrap();
    let endpoint = fresh.leased_endpoint(owner, key, now).await.unwrap().unwrap();
    assert_eq!(endpoint.secrets.len(), 2, "the new and the old one");
    assert_eq!(world.count("SELECT count(*) FROM audit WHERE action = 'rotate_key'").await, 1);
    // And again.
    let third = world.store.rotate_account_key(world.account, "operator").await.unwrap();
    assert_eq!((third.number.as_i64(), third.is_begun, third.rewrapped), (3, true, 8));
}

fn find_file(folder: &std::path::Path) -> PathBuf {
    let entry = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).next().unwrap();
    if entry.is_dir() { find_file(&entry) } else { entry }
}

async fn mail_that_comes_in_meanwhile_is_lost_on_no_node(engine: Engine) {
    let mut world = world_with_file(engine).await;
    let there = Store::open(&world.settings, world.keys.clone(), served()).await.unwrap();
    file_many(&world.store, &world, "before-here", 20).await;
    file_many(&there, &world, "before-there", 20).await;
    // Both remember the old key now.
    let rotating = async {
        world.store.rotate_account_key(world.account, "operator").await.unwrap();
    };
    tokio::join!(
        rotating,
        file_many(&world.store, &world, "during-here", 40),
        file_many(&there, &world, "during-there", 40),
    );
    file_many(&there, &world, "after-there", 10).await;
    // What one has sealed with the new key, the other opens, whatever it remembers.
    for id in message_ids(&mut world).await {
        there.raw_message(world.account, id).await.unwrap().unwrap();
        world.store.raw_message(world.account, id).await.unwrap().unwrap();
    }
    let finishing = async {
        assert_eq!(world.store.finish_rotations(after_the_grace()).await.unwrap(), 1);
    };
    tokio::join!(finishing, file_many(&world.store, &world, "at-the-end", 40));
    let keys = world.keys.clone();
    all_open(&mut world, &keys, 170).await;
}

async fn nothing_is_filed_that_a_key_has_sealed_which_is_gone(engine: Engine) {
    let mut world = world_with_file(engine).await;
    file_many(&world.store, &world, "before", 1).await;
    // As if this node had slept through the whole rotation.
    world.run("UPDATE accounts SET key_floor = 2 WHERE name = 'Praxis'").await;
    let late = || world.file(email("late@praxis.test", USER, &["ana@patient.test"]));
    assert!(matches!(late().await, Err(StoreError::Seal(_))));
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 1);
    // What is sealed with the key of now is filed.
    world.run("UPDATE accounts SET key_floor = 1 WHERE name = 'Praxis'").await;
    let rotated = world.store.rotate_account_key(world.account, "operator").await.unwrap();
    assert_eq!(rotated.rewrapped, 1);
    assert_eq!(world.store.finish_rotations(after_the_grace()).await.unwrap(), 1);
    let late = world.file(email("late@praxis.test", USER, &["ana@patient.test"])).await;
    assert_eq!(late.unwrap().decided[0].1.outcome(), Outcome::Filed);
    let keys = world.keys.clone();
    all_open(&mut world, &keys, 2).await;
}

async fn held_mail_that_is_filed_meanwhile_is_not_forgotten(engine: Engine) {
    let mut world = world_with_file(engine).await;
    let ana: Vec<(Uuid,)> = world.rows("SELECT contact_id FROM contacts").await;
    let raw =
        format!("From: {USER}\r\nMessage-ID: <held@praxis.test>\r\nSubject: raw\r\n\r\nraw\r\n").into_bytes();
    let held = submission(email("held@praxis.test", USER, &[]), vec![world.sync_mailbox()], raw);
    let held = world.store.file(held).await.unwrap().decided[0].0;
    world.run("CREATE TABLE before AS SELECT content_key FROM held").await;
    world.store.rotate_account_key(world.account, "operator").await.unwrap();
    // As if it had come behind the rotation's back, from a node that knew the old key alone.
    world.run("UPDATE held SET content_key = (SELECT content_key FROM before)").await;
    let opened = world.store.open_held(world.account, held).await.unwrap().unwrap();
    let mut change = world.store.change().await.unwrap();
    let target = HeldTarget::Contact(ContactId::from_uuid(ana[0].0));
    change.file_held(&opened, target, "operator").await.unwrap();
    change.commit().await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM messages WHERE length(content_key) = 64").await, 1);
    assert_eq!(world.store.finish_rotations(after_the_grace()).await.unwrap(), 1);
    let keys = world.keys.clone();
    all_open(&mut world, &keys, 1).await;
}

async fn a_wrapped_key_opens_in_no_other_place(engine: Engine) {
    let mut world = world_with_file(engine).await;
    file_many(&world.store, &world, "mail", 2).await;
    let ids = message_ids(&mut world).await;
    world.run("CREATE TABLE before AS SELECT message_id, content_key FROM messages").await;
    world
        .run(
            "UPDATE messages SET content_key =
             (SELECT b.content_key FROM before b WHERE b.message_id <> messages.message_id)",
        )
        .await;
    for id in &ids {
        let read = world.store.raw_message(world.account, *id).await;
        assert!(matches!(read, Err(StoreError::Damaged { .. })), "{read:?}");
    }
    // A rotation goes by what opens with no key, and ends.
    world.store.rotate_account_key(world.account, "operator").await.unwrap();
    assert_eq!(world.store.finish_rotations(after_the_grace()).await.unwrap(), 1);
    // Another account's key is none.
    let (other, user) = (AccountId::generate(), UserId::generate());
    world.add_account(other, user, "other-0123456789ab", "other@praxis.test").await;
    world
        .run(
            "UPDATE accounts SET key_number = 1, wrapped_key = (SELECT b.wrapped_key FROM accounts b
             WHERE b.account_id <> accounts.account_id AND b.name = 'operator') WHERE name = 'Praxis'",
        )
        .await;
    let fresh = Store::open(&world.settings, world.keys.clone(), served()).await.unwrap();
    assert!(matches!(fresh.raw_message(other, ids[0]).await, Ok(None)));
    assert!(matches!(fresh.raw_message(world.account, ids[0]).await, Err(StoreError::Seal(_))));
}

async fn a_master_key_takes_the_place_of_another_beside_nodes_at_work(engine: Engine) {
    let mut world = world_with_file(engine).await;
    for n in 0..100 {
        let (account, user) = (AccountId::generate(), UserId::generate());
        world.add_account(account, user, &format!("u{n}-0123456789ab"), USER).await;
    }
    let path = key_file(&world);
    let keys_there = Arc::new(Keys::load_or_create(&path).unwrap());
    let there = Store::open(&world.settings, keys_there.clone(), served()).await.unwrap();
    file_many(&there, &world, "before", 20).await;
    world.store.rotate_account_key(world.account, "operator").await.unwrap();
    let old = world.keys.master.current().id;
    let new = keys::rotate_master(&path).unwrap();
    assert!(world.keys.master.read_again().unwrap());
    let rewrapping = async {
        // The operator's, a hundred and one, and one that still opens.
        assert_eq!(world.store.rewrap_account_keys().await.unwrap(), 103);
    };
    // The other node has not looked at the file yet: it does when it meets the new key.
    tokio::join!(rewrapping, file_many(&there, &world, "during", 40));
    assert_eq!(world.store.rewrap_account_keys().await.unwrap(), 0);
    there.forget_addresses();
    for id in message_ids(&mut world).await {
        there.raw_message(world.account, id).await.unwrap().unwrap();
    }
    assert_eq!(keys_there.master.current().id, new);
    let uses = world.store.master_uses().await.unwrap();
    assert_eq!(uses.keys().copied().collect::<Vec<_>>(), [Some(new)]);
    assert_eq!((uses[&Some(new)].accounts, uses[&Some(new)].older_keys), (102, 1));
    keys::revoke_master(&path, old).unwrap();
    let alone = Arc::new(Keys::load_or_create(&path).unwrap());
    assert!(alone.master.find(old).is_none());
    all_open(&mut world, &alone, 60).await;
}

async fn a_master_key_that_one_account_needs_is_asked_for_by_name(engine: Engine) {
    let mut world = world_with_file(engine).await;
    let path = key_file(&world);
    let old = world.keys.master.current().id;
    let before = std::fs::read_to_string(&path).unwrap();
    keys::rotate_master(&path).unwrap();
    assert!(world.keys.master.read_again().unwrap());
    world.store.rewrap_account_keys().await.unwrap();
    // A node with the old file makes an account.
    let aside = world.folder.path().join("aside.toml");
    std::fs::write(&aside, before).unwrap();
    std::fs::set_permissions(&aside, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let stale = Keys::load_or_create(&aside).unwrap();
    let wrapped = Vault::new(stale.master).new_account_key(AccountId::generate()).unwrap();
    let insert = "INSERT INTO accounts (account_id, name, settings, wrapped_key, created_at) VALUES ($1, 'Late', '{}', $2, 0)";
    on!(&mut world.other, |other| {
        sqlx::query(insert).bind(Uuid::now_v7()).bind(wrapped).execute(other).await.map(|_| ()).unwrap();
    });
    keys::revoke_master(&path, old).unwrap();
    let keys = Arc::new(Keys::load_or_create(&path).unwrap());
    let refused = Store::open(&world.settings, keys.clone(), served()).await.unwrap_err();
    let said = refused.one_line();
    assert!(said.contains(&format!("sealed with master key {old}")), "{said}");
    assert!(said.contains(&format!("holds master key {}", keys.master.current().id)), "{said}");
}

async fn a_rotation_that_is_killed_is_gone_on_with(engine: Engine) {
    const MAILS: usize = 200;
    let mut world = world_with_file(engine).await;
    file_many(&world.store, &world, "mail", MAILS).await;
    let config = config_of(&world);
    let account = world.account.to_string();
    // At the hundredth row, or the last, it is made to wait.
    let (stop, go_on) = match engine {
        Engine::Postgres => (
            &[
                "BEGIN",
                "UPDATE messages SET text = text WHERE message_id IN
               (SELECT message_id FROM messages ORDER BY message_id DESC LIMIT 1)",
            ][..],
            "ROLLBACK",
        ),
        Engine::Sqlite => (
            &["CREATE TRIGGER wait BEFORE UPDATE OF content_key ON messages
               WHEN (SELECT count(*) FROM messages WHERE length(content_key) = 64) >= 100 BEGIN
               SELECT count(*) FROM messages a, messages b, messages c, messages d, messages e; END"][..],
            "DROP TRIGGER wait",
        ),
    };
    for statement in stop {
        world.run(statement).await;
    }
    let mut child = program(&config, &["keys", "rotate", "account", &account]).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while world.count("SELECT count(*) FROM messages WHERE length(content_key) = 64").await < 64 {
        assert!(Instant::now() < deadline, "it does not begin");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    world.run(go_on).await;
    let done = world.count("SELECT count(*) FROM messages WHERE length(content_key) = 64").await;
    assert!((64..200).contains(&done), "{done}");
    let keys = world.keys.clone();
    all_open(&mut world, &keys, MAILS).await;

    let output = program(&config, &["keys", "rotate", "account", &account, "--json"]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let left = i64::try_from(MAILS).unwrap() - done;
    // A server may yet have carried out the last commit of who was killed.
    let is_said =
        |left: i64| said.contains(&format!("\"number\":2,\"state\":\"resumed\",\"rewrapped\":{left}"));
    assert!([left, left - 64].into_iter().any(is_said), "{left} were left: {said}");
    assert_eq!(world.store.finish_rotations(after_the_grace()).await.unwrap(), 1);
    all_open(&mut world, &keys, MAILS).await;
}

async fn a_master_rotation_that_is_killed_makes_no_third_key(engine: Engine) {
    let mut world = world_with_file(engine).await;
    file_many(&world.store, &world, "mail", 3).await;
    for n in 0..200 {
        let (account, user) = (AccountId::generate(), UserId::generate());
        world.add_account(account, user, &format!("u{n}-0123456789ab"), USER).await;
    }
    let config = config_of(&world);
    let old: MasterKeyId = world.keys.master.current().id;
    let (stop, go_on) = match engine {
        Engine::Postgres => (
            &[
                "BEGIN",
                "UPDATE accounts SET name = name WHERE account_id IN
               (SELECT account_id FROM accounts ORDER BY account_id DESC LIMIT 1)",
            ][..],
            "ROLLBACK",
        ),
        Engine::Sqlite => (
            &[
                "CREATE TABLE first_key AS SELECT substr(wrapped_key, 61) AS id FROM accounts LIMIT 1",
                "CREATE TRIGGER wait BEFORE UPDATE OF wrapped_key ON accounts WHEN
                 (SELECT count(*) FROM accounts, first_key WHERE substr(wrapped_key, 61) <> id) >= 100 BEGIN
                 SELECT count(*) FROM accounts a, accounts b, accounts c, accounts d, accounts e; END",
            ][..],
            "DROP TRIGGER wait",
        ),
    };
    for statement in stop {
        world.run(statement).await;
    }
    let mut child = program(&config, &["keys", "rotate", "master"]).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let uses = world.store.master_uses().await.unwrap();
        if uses.iter().any(|(id, used)| *id != Some(old) && used.accounts >= 64) {
            break;
        }
        assert!(Instant::now() < deadline, "it does not begin");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    world.run(go_on).await;
    let half = Arc::new(Keys::load_or_create(&key_file(&world)).unwrap());
    assert_eq!(half.master.all().len(), 2);
    all_open(&mut world, &half, 3).await;
    assert_eq!(
        program(&config, &["keys", "revoke", "master", &old.to_string()]).status().unwrap().code(),
        Some(1)
    );

    assert!(program(&config, &["keys", "rotate", "master"]).status().unwrap().success());
    let whole = Arc::new(Keys::load_or_create(&key_file(&world)).unwrap());
    assert_eq!(whole.master.all().len(), 2, "no other was made");
    assert_eq!(whole.master.current().id, half.master.current().id);
    assert!(program(&config, &["keys", "revoke", "master", &old.to_string()]).status().unwrap().success());
    let alone = Arc::new(Keys::load_or_create(&key_file(&world)).unwrap());
    assert_eq!(alone.master.all().len(), 1);
    all_open(&mut world, &alone, 3).await;
}

async fn nothing_is_imported_that_a_key_has_sealed_which_is_gone(engine: Engine) {
    let mut world = world_with_file(engine).await;
    let importer = world.store.importer(world.account, Uuid::now_v7(), true);
    let line = serde_json::json!({
        "account_id": world.account, "webhook_id": Uuid::now_v7(), "url": "https://crm.test/hook", "events": ["*"],
        "detail": "meta", "state": "on", "off_because": null, "passed": Uuid::nil(), "created_at": 0,
    });
    let lines = || vec![Incoming { line: line.to_string(), content: None }];
    world.run("UPDATE accounts SET key_floor = 2 WHERE name = 'Praxis'").await;
    let refused = importer.write(Kind::Webhooks, lines()).await;
    assert!(matches!(refused, Err(ImportError::Refused(_))), "{refused:?}");
    assert_eq!(world.count("SELECT count(*) FROM webhooks").await, 0);
    // With the key of now.
    world.run("UPDATE accounts SET key_floor = 1 WHERE name = 'Praxis'").await;
    world.store.rotate_account_key(world.account, "operator").await.unwrap();
    assert_eq!(world.store.finish_rotations(after_the_grace()).await.unwrap(), 1);
    importer.write(Kind::Webhooks, lines()).await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM webhooks").await, 1);
}

async fn a_master_key_that_was_revoked_before_a_server_has_looked_strands_nobody(engine: Engine) {
    let mut world = world_with_file(engine).await;
    file_many(&world.store, &world, "before", 3).await;
    let config = config_of(&world);
    let old = world.keys.master.current().id;
    for arguments in [&["keys", "rotate", "master"][..], &["keys", "revoke", "master", &old.to_string()]] {
        assert!(program(&config, arguments).status().unwrap().success(), "{arguments:?}");
    }
    // This one has not looked in between: what is in the file now, it cannot know to fit.
    let masters = world.keys.master.clone();
    assert!(masters.read_again().is_err());
    let make = async |store: &Store| {
        let mut change = store.change().await.unwrap();
        let made = change.create_account("Neighbour", &serde_json::Map::new()).await;
        change.commit().await.unwrap();
        made
    };
    make(&world.store).await.unwrap_err();
    // But the store does.
    let needed = world.store.masters_in_use().await.unwrap();
    assert!(masters.read_again_for(&needed).unwrap());
    make(&world.store).await.unwrap();
    file_many(&world.store, &world, "after", 3).await;
    let fresh = Arc::new(Keys::load_or_create(&key_file(&world)).unwrap());
    assert!(fresh.master.find(old).is_none());
    all_open(&mut world, &fresh, 6).await;
}

fn config_of(world: &World) -> PathBuf {
    let path = world.folder.path().join("syncmx.toml");
    let url = match &world.settings.url {
        syncmx::config::StoreUrl::Postgres(_) => world.settings.url.to_string(),
        syncmx::config::StoreUrl::Sqlite(path) => format!("sqlite://{}", path.display()),
    };
    let (blobs, keys) = (blob_folder(&world.folder), key_file(world));
    let (blobs, keys) = (blobs.display(), keys.display());
    let text = format!("[store]\nurl = \"{url}\"\nblobs = \"file://{blobs}\"\n[keys]\nfile = \"{keys}\"\n");
    std::fs::write(&path, text).unwrap();
    path
}

fn program(config: &std::path::Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_syncmx"));
    command.args(arguments).arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::piped());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SYNCMX_")) {
        command.env_remove(name);
    }
    command
}

on_both_engines! {
    an_account_gets_another_key_and_everything_still_opens,
    mail_that_comes_in_meanwhile_is_lost_on_no_node,
    nothing_is_filed_that_a_key_has_sealed_which_is_gone,
    held_mail_that_is_filed_meanwhile_is_not_forgotten,
    a_wrapped_key_opens_in_no_other_place,
    a_master_key_takes_the_place_of_another_beside_nodes_at_work,
    a_master_key_that_one_account_needs_is_asked_for_by_name,
    a_rotation_that_is_killed_is_gone_on_with,
    a_master_rotation_that_is_killed_makes_no_third_key,
    nothing_is_imported_that_a_key_has_sealed_which_is_gone,
    a_master_key_that_was_revoked_before_a_server_has_looked_strands_nobody,
}
