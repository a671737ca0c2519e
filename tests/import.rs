//! An account written from its export, on a real SQLite file and a real PostgreSQL server, where more than one import
//! of it is at work or was: no content is lost.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

#[path = "support/store_world.rs"]
mod store_world;

use std::fs;
use std::time::{Duration, Instant};

use store_world::*;
use syncmx::id::{DeliveryId, MessageId, UserId};
use syncmx::store::import::{Importer, Incoming, Taken};
use syncmx::store::lines::{ContentFile, Kind};
use uuid::Uuid;

/// A copy with one message on a record and one held, both too large for their rows.
struct Origin {
    world: World,
    message: MessageId,
    held: DeliveryId,
    raw: Vec<u8>,
}

impl Origin {
    async fn with_two_large_mails() -> Self {
        let mut world = World::new().await;
        world.add_contact("ana@patient.test").await;
        let raw = noise(300_000);
        let mut deliveries = Vec::new();
        // R24: nobody in To.
        for (id, to) in [("1@praxis.test", &["ana@patient.test"][..]), ("2@praxis.test", &[])] {
            let mail = email(id, USER, to);
            let submission = submission(mail, vec![world.sync_mailbox()], raw.clone());
            deliveries.push(submission.deliveries[0]);
            world.store.file(submission).await.unwrap();
        }
        assert_eq!(blob_files(&world).len(), 2);
        assert_eq!(world.count("SELECT count(*) FROM held").await, 1);
        let message = MessageId::from_uuid(deliveries[0].uuid());
        Self { world, message, held: deliveries[1], raw }
    }

    async fn lines(&self, kind: Kind) -> Vec<Incoming> {
        let mut snapshot = self.world.store.snapshot(self.world.account).await.unwrap().unwrap();
        let mut lines = Vec::new();
        for line in snapshot.lines(kind, None).await.unwrap().lines {
            let content = snapshot.content(&line).await.unwrap();
            let named =
                content.as_ref().map(|raw| ContentFile { size: raw.len() as u64, sha256: String::new() });
            lines.push(Incoming { line: line.finish(named).unwrap(), content: content.map(Into::into) });
        }
        lines
    }

    /// Another copy that has all of the account but what comes with content.
    async fn begun_in_another_copy(&self, engine: Engine) -> (World, Importer) {
        let mut copy = World::on(engine).await;
        copy.account = self.world.account;
        copy.add_account(self.world.account, UserId::generate(), "other-0123456789ab", "other@praxis.test")
            .await;
        let importer = copy.store.importer(self.world.account, Uuid::now_v7(), false);
        for kind in [Kind::Users, Kind::Contacts, Kind::Conversations] {
            importer.write(kind, self.lines(kind).await).await.unwrap();
        }
        (copy, importer)
    }

    async fn opens_in(&self, copy: &World) {
        let filed = copy.store.raw_message(copy.account, self.message).await.unwrap();
        assert_eq!(filed.as_deref(), Some(&*self.raw));
        let held = copy.store.raw_held(copy.account, self.held).await.unwrap();
        assert_eq!(held.as_deref(), Some(&*self.raw));
    }
}

async fn until_there_are_blobs(copy: &World, number: usize) {
    let deadline = Instant::now() + Duration::from_secs(8);
    while blob_files(copy).len() < number {
        assert!(Instant::now() < deadline, "{:?}", blob_files(copy));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn two_imports_of_an_account_at_once_leave_each_message_whole(engine: Engine) {
    let origin = Origin::with_two_large_mails().await;
    let (mut copy, importer) = origin.begun_in_another_copy(engine).await;
    for (kind, blobs) in [(Kind::Messages, 1), (Kind::Held, 2)] {
        let lines = origin.lines(kind).await;
        copy.hold_up().await;
        let both =
            async { tokio::join!(importer.write(kind, lines.clone()), importer.write(kind, lines.clone())) };
        let sealed = async {
            until_there_are_blobs(&copy, blobs + 1).await;
            copy.let_go().await;
        };
        let ((first, second), ()) = tokio::join!(both, sealed);
        let (first, second): (Taken, Taken) = (first.unwrap(), second.unwrap());
        assert_eq!((first.taken + second.taken, first.known + second.known), (1, 1), "{kind:?}");
        assert_eq!(blob_files(&copy).len(), blobs, "what the slower one had sealed is gone");
    }
    origin.opens_in(&copy).await;
}

async fn an_import_that_is_run_again_writes_nowhere_that_the_killed_one_had_written(engine: Engine) {
    let origin = Origin::with_two_large_mails().await;
    let (copy, importer) = origin.begun_in_another_copy(engine).await;
    let account = blob_folder(&copy.folder).join(copy.account.uuid().simple().to_string());
    let left = [origin.message.uuid(), origin.held.uuid()].map(|id| {
        let id = id.simple().to_string();
        let shelf = account.join(id.get(30..).unwrap());
        fs::create_dir_all(&shelf).unwrap();
        let path = shelf.join(id);
        fs::write(&path, b"sealed").unwrap();
        age(&path);
        path
    });
    for kind in [Kind::Messages, Kind::Held] {
        assert_eq!(importer.write(kind, origin.lines(kind).await).await.unwrap().taken, 1);
    }
    for path in &left {
        assert!(fs::read(path).unwrap() == b"sealed", "the sweep may be about to remove it");
    }
    assert_eq!(copy.store.sweep_blobs().await.unwrap(), 2);
    assert!(left.iter().all(|path| !path.exists()));
    for path in blob_files(&copy) {
        age(&path);
    }
    assert_eq!(copy.store.sweep_blobs().await.unwrap(), 0);
    origin.opens_in(&copy).await;
}

on_both_engines! {
    two_imports_of_an_account_at_once_leave_each_message_whole,
    an_import_that_is_run_again_writes_nowhere_that_the_killed_one_had_written,
}
