//! The store's contract, on a real SQLite file and a real PostgreSQL server: what was answered is there, what failed is
//! not, and nobody's mail gets in another's way.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops where it fails")]
#![expect(clippy::cognitive_complexity, reason = "a test asserts much, one thing after another")]

#[path = "support/store_world.rs"]
mod store_world;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use store_world::*;
use syncmx::address::token::ReplyToken;
use syncmx::address::{EmailAddress, Mailbox};
use syncmx::clock::{ClockDoubt, ClockMark};
use syncmx::config;
use syncmx::filing::{Arrival, Decision, FreshIds, Outcome, Reason};
use syncmx::id::{AccountId, ContactId, ConversationId, DeliveryId, MessageId, UserId};
use syncmx::keys::Keys;
use syncmx::message::Email;
use syncmx::smtp::reply;
use syncmx::store::audit::{Act, Actor};
use syncmx::store::{Lookup, Refusal, Store, StoreError};
use syncmx::time::Timestamp;

async fn r2_a_filed_mail_is_there_with_all_that_belongs_to_it(engine: Engine) {
    let mut world = World::on(engine).await;
    let ana = world.add_contact("ana@patient.test").await;
    let mail = answer_to("earlier@patient.test", email("1@praxis.test", USER, &["Ana@Patient.test"]));
    let submission = world.submit(mail);
    let filed = world.store.file(submission.clone()).await.unwrap();
    let Decision::Filed(filing) = &filed.decided[0].1 else { panic!("{:?}", filed.decided) };
    assert_eq!(filing.contact.id(), ana);
    assert_eq!(filed.reply.code, 250);
    assert_eq!(filed.reply.trace, Some(submission.deliveries[0]));

    let message = MessageId::from_uuid(submission.deliveries[0].uuid());
    let raw = world.store.raw_message(world.account, message).await.unwrap();
    assert_eq!(raw.as_deref(), Some(&submission.raw[..]));
    assert_eq!(world.store.raw_message(AccountId::OPERATOR, message).await.unwrap(), None, "R4");

    assert_eq!(world.count("SELECT count(*) FROM participants WHERE sent_at = 1795315445120").await, 2);
    // Its own, the one it answers, and its subject with the contact (R40).
    assert_eq!(world.count("SELECT count(*) FROM thread_ids").await, 3);
    assert_eq!(world.text("SELECT message_id_header FROM thread_ids WHERE is_own").await, "1@praxis.test");
    assert_eq!(world.count("SELECT count(*) FROM sync_marks WHERE state = 'on'").await, 1);
    assert_eq!(world.count("SELECT filings FROM daily_filings").await, 1);
    assert_eq!(world.count("SELECT count(*) FROM delivery_addresses").await, 3);
    assert_eq!(
        world.words("SELECT type FROM events ORDER BY event_id").await,
        "contact.sync_on message.filed"
    );
    assert_eq!(world.text("SELECT smtp FROM deliveries").await, filed.reply.line());
    let steps = world.text("SELECT steps FROM deliveries").await;
    assert!(
        steps.starts_with(r#"[{"rule":"SMTP","said":"from weber@praxis.test over TLS","took_us":7},"#),
        "{steps}"
    );
    assert!(steps.contains(r#""rule":"R20""#), "{steps}");
    let auth = world.text("SELECT auth FROM deliveries").await;
    assert!(auth.starts_with(r#"{"spf":"none","dkim":[],"dmarc":"#), "{auth}");
}

async fn concurrent_filings_share_transactions_and_none_is_lost_or_doubled(engine: Engine) {
    let mut world = World::on(engine).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..300 {
        let submission =
            world.submit(email(&format!("{n}@praxis.test"), USER, &[&format!("p{}@patient.test", n % 20)]));
        let store = world.store.clone();
        tasks.spawn(async move { store.file(submission).await.unwrap() });
    }
    let filed = tasks.join_all().await;
    assert!(filed.iter().all(|filed| filed.decided[0].1.outcome() == Outcome::Filed));
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 300);
    assert_eq!(world.count("SELECT count(*) FROM deliveries").await, 300);
    assert_eq!(world.count("SELECT count(*) FROM participants").await, 600);
    assert_eq!(world.count("SELECT count(*) FROM contacts").await, 20);
    assert_eq!(world.count("SELECT count(*) FROM sync_marks").await, 20);
    assert_eq!(world.count("SELECT count(*) FROM events").await, 300 + 20 + 20);
    assert_eq!(world.count("SELECT filings FROM daily_filings").await, 300);
    let batches = world.store.batches();
    assert_eq!(batches.jobs, 300);
    assert!(batches.committed < 150, "{batches:?}");
}

/// Afterwards the account's key is remembered, and filing a small mail waits for nothing but the writer. Twice: the
/// first batch sees that another process has written (the test), and forgets the key.
async fn warm_up(world: &World) {
    for _ in 0..2 {
        world.file(email("warm@praxis.test", USER, &[USER])).await.unwrap();
    }
}

/// They are all in the queue before the writer gets the lock, so they share a batch.
async fn in_one_batch<const N: usize>(
    world: &mut World,
    submissions: [syncmx::store::Submission; N],
) -> Vec<Result<syncmx::store::Filed, StoreError>> {
    warm_up(world).await;
    let before = world.store.batches();
    world.hold_up().await;
    let store = world.store.clone();
    let mut filing: Vec<_> =
        submissions.into_iter().map(|submission| Box::pin(store.file(submission))).collect();
    for file in &mut filing {
        tokio::select! { biased; early = file => panic!("{early:?}"), () = std::future::ready(()) => {} }
    }
    world.let_go().await;
    let mut filed = Vec::new();
    for file in filing {
        filed.push(file.await);
    }
    if filed.iter().all(Result::is_ok) {
        assert_eq!(world.store.batches().committed, before.committed + 1);
    }
    filed
}

async fn r24_two_mails_of_one_batch_to_the_same_stranger_make_one_contact(engine: Engine) {
    let mut world = World::on(engine).await;
    let first = world.submit(email("1@praxis.test", USER, &["new@patient.test"]));
    let second = world.submit(email("2@praxis.test", USER, &["New@patient.test"]));
    let filed = in_one_batch(&mut world, [first, second]).await;
    let contacts: Vec<ContactId> = filed
        .iter()
        .map(|filed| {
            let Decision::Filed(filing) = &filed.as_ref().unwrap().decided[0].1 else { panic!("{filed:?}") };
            filing.contact.id()
        })
        .collect();
    assert_eq!(contacts[0], contacts[1]);
    assert_eq!(world.count("SELECT count(*) FROM contacts").await, 1);
    assert_eq!(world.count("SELECT count(*) FROM sync_marks").await, 1);
    assert_eq!(world.count("SELECT count(*) FROM events WHERE type = 'contact.created'").await, 1);
    assert_eq!(world.count("SELECT count(*) FROM events WHERE type = 'contact.sync_on'").await, 1);
    assert_eq!(world.count("SELECT filings FROM daily_filings").await, 2);
}

async fn r40_an_answer_joins_its_parent_of_the_same_batch(engine: Engine) {
    let mut world = World::on(engine).await;
    world.add_contact("ana@patient.test").await;
    let parent = world.submit(email("1@praxis.test", USER, &["ana@patient.test"]));
    let answer = answer_to("1@praxis.test", email("2@patient.test", "ana@patient.test", &[USER]));
    let answer = world.submit(answer);
    let filed = in_one_batch(&mut world, [parent, answer]).await;
    assert!(
        filed.iter().all(|filed| filed.as_ref().unwrap().decided[0].1.outcome() == Outcome::Filed),
        "{filed:?}"
    );
    assert_eq!(world.count("SELECT count(*) FROM conversations").await, 1);
    assert_eq!(world.count("SELECT count(DISTINCT conversation_id) FROM messages").await, 1);
}

async fn one_bad_filing_of_a_batch_fails_alone(engine: Engine) {
    let mut world = World::on(engine).await;
    let known = world.submit(email("0@praxis.test", USER, &["ana@patient.test"]));
    world.store.file(known.clone()).await.unwrap();
    let good = |n: usize| world.submit(email(&format!("{n}@praxis.test"), USER, &["ana@patient.test"]));
    // A delivery id that is taken: the database refuses the row, whatever else is in the statement.
    let mut bad = good(99);
    bad.deliveries = known.deliveries;
    let batch = [good(1), good(2), bad, good(3), good(4)];
    let filed = in_one_batch(&mut world, batch).await;
    let ok: Vec<bool> = filed.iter().map(Result::is_ok).collect();
    assert_eq!(ok, [true, true, false, true, true]);
    assert!(matches!(filed[2], Err(StoreError::Commit(_))));
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 5);
    assert_eq!(
        world.count("SELECT count(*) FROM thread_ids WHERE message_id_header = '99@praxis.test'").await,
        0
    );
}

/// Of many mails that are written together one alone needs the damaged page.
#[tokio::test]
async fn a_damaged_page_of_the_server_fails_the_mail_that_needs_it_alone() {
    if !Engine::Postgres.is_there() {
        return;
    }
    for function in [
        "CREATE FUNCTION damaged() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''invalid page in block 7'' USING ERRCODE = ''XX001''; END'",
        "CREATE FUNCTION damaged() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''unexpected zero page'' USING ERRCODE = ''XX002''; END'",
    ] {
        let mut world = World::on(Engine::Postgres).await;
        world.run(function).await;
        world.run("CREATE TRIGGER damaged BEFORE INSERT ON messages FOR EACH ROW WHEN (NEW.message_id_header = '99@praxis.test') EXECUTE FUNCTION damaged()").await;
        let batch = ["1", "2", "99", "3"]
            .map(|n| world.submit(email(&format!("{n}@praxis.test"), USER, &["ana@patient.test"])));
        let filed = in_one_batch(&mut world, batch).await;
        assert_eq!(filed.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false, true]);
        assert!(matches!(filed[2], Err(StoreError::Commit(_))), "451: {:?}", filed[2]);
        assert_eq!(world.count("SELECT count(*) FROM messages").await, 3);
    }
}

/// SQLite has one writer, and nobody else is in the middle of an account while it writes.
#[tokio::test]
async fn an_account_that_somebody_else_has_holds_up_no_other_of_its_batch() {
    if !Engine::Postgres.is_there() {
        return;
    }
    let mut world = World::on(Engine::Postgres).await;
    let elsewhere = in_another_account(&mut world).await;
    let mail = |n: usize| email(&format!("{n}@praxis.test"), USER, &["ana@patient.test"]);
    let free = |n: usize| submission(mail(n), vec![elsewhere.clone()], b"raw".to_vec());
    warm_up(&world).await;
    world.store.file(free(0)).await.unwrap();
    let store = world.store.clone();
    world.hold_up().await;
    let mut waits: Vec<_> =
        [world.submit(mail(1)), world.submit(mail(2))].map(|mail| Box::pin(store.file(mail))).into();
    let mut others: Vec<_> = (3..6).map(|n| Box::pin(store.file(free(n)))).collect();
    for file in waits.iter_mut().chain(&mut others) {
        tokio::select! { biased; early = file => panic!("{early:?}"), () = std::future::ready(()) => {} }
    }
    let before = store.batches();
    for other in others {
        other.await.unwrap();
    }
    let after = store.batches();
    assert_eq!((after.committed - before.committed, after.jobs - before.jobs), (1, 3), "they shared a batch");
    for file in &mut waits {
        tokio::select! { biased; early = file => panic!("{early:?}"), () = std::future::ready(()) => {} }
    }
    world.let_go().await;
    for (n, file) in [1, 2].into_iter().zip(waits) {
        if file.await.is_err() {
            // This machine took its time: it comes again.
            world.file(mail(n)).await.unwrap();
        }
    }
    // Nobody waits without end, and whoever waited in vain comes again.
    world.hold_up().await;
    assert!(matches!(world.file(mail(7)).await, Err(StoreError::TimedOut)));
    world.store.file(free(8)).await.unwrap();
    world.let_go().await;
    world.file(mail(7)).await.unwrap();
}

async fn in_another_account(world: &mut World) -> Mailbox {
    let (account, user) = (AccountId::generate(), UserId::generate());
    world.add_account(account, user, "weber-zzzzzzzzzzzz", USER).await;
    Mailbox::Sync(syncmx::address::UserMailbox { account, user })
}

/// While one writer waits in the middle of a statement, another writes.
#[tokio::test]
async fn two_writers_write_at_once() {
    if !Engine::Postgres.is_there() {
        return;
    }
    let mut world = World::on(Engine::Postgres).await;
    let elsewhere = in_another_account(&mut world).await;
    for sql in [
        "CREATE TABLE beside (waiting BIGINT NOT NULL)",
        "CREATE FUNCTION meet() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN
             IF NEW.message_id_header LIKE ''waits%'' THEN PERFORM pg_advisory_xact_lock(77);
             ELSE INSERT INTO beside SELECT count(*) FROM pg_locks WHERE locktype = ''advisory'' AND objid = 77 AND NOT granted;
             END IF;
             RETURN NEW; END'",
        "CREATE TRIGGER meet BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION meet()",
    ] {
        world.run(sql).await;
    }
    // Whoever waits is put off after two seconds: on a slow machine, before the other has come.
    for n in 0..20 {
        world.run("BEGIN").await;
        world.run("SELECT pg_advisory_xact_lock(77)").await;
        let waits = email(&format!("waits-{n}@praxis.test"), USER, &["ana@patient.test"]);
        let (store, waits) = (world.store.clone(), world.submit(waits));
        let waits = tokio::spawn(async move { store.file(waits).await });
        let waiting =
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77 AND NOT granted";
        while world.count(waiting).await == 0 && !waits.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mail = email(&format!("{n}@praxis.test"), USER, &["ana@patient.test"]);
        world.store.file(submission(mail, vec![elsewhere.clone()], b"raw".to_vec())).await.unwrap();
        world.run("COMMIT").await;
        let _put_off = waits.await.unwrap();
        if world.count("SELECT max(waiting) FROM beside").await == 1 {
            return;
        }
    }
    panic!("each waits for the other");
}

/// A statement that takes very long is ended, so that its locks hold up nobody's second try.
#[tokio::test]
async fn a_filing_that_is_slow_in_the_server_fails_alone() {
    if !Engine::Postgres.is_there() {
        return;
    }
    let mut world = World::on(Engine::Postgres).await;
    world.run("CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(30); RETURN NEW; END'").await;
    world.run("CREATE TRIGGER slowly BEFORE INSERT ON messages FOR EACH ROW WHEN (NEW.message_id_header = '99@praxis.test') EXECUTE FUNCTION slowly()").await;
    let batch =
        ["99", "1"].map(|n| world.submit(email(&format!("{n}@praxis.test"), USER, &["ana@patient.test"])));
    let filed = in_one_batch(&mut world, batch).await;
    assert_eq!(filed.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true], "{filed:?}");
}

async fn e5_r72_where_one_recipient_cannot_be_written_nothing_of_the_transaction_is(engine: Engine) {
    let mut world = World::on(engine).await;
    let known = world.submit(email("0@praxis.test", USER, &["ana@patient.test"]));
    world.store.file(known.clone()).await.unwrap();
    let elsewhere = in_another_account(&mut world).await;
    let mail = email("1@praxis.test", USER, &["ana@patient.test"]);
    let mut both = submission(mail, vec![elsewhere, world.sync_mailbox()], b"raw".to_vec());
    // The second recipient's delivery id is taken: the database refuses its row.
    let free = std::mem::replace(&mut both.deliveries[1], known.deliveries[0]);
    let failed = world.store.file(both.clone()).await;
    assert!(matches!(failed, Err(StoreError::Commit(_))), "451 for both: {failed:?}");
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 1);
    assert_eq!(world.count("SELECT count(*) FROM deliveries").await, 1);
    assert_eq!(world.count("SELECT count(*) FROM contacts").await, 1);
    both.deliveries[1] = free;
    let filed = world.store.file(both).await.unwrap();
    assert!(filed.decided.iter().all(|(_, decision)| decision.outcome() == Outcome::Filed), "{filed:?}");
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 3);
}

async fn a_filing_whose_session_goes_away_before_its_turn_is_never_written(engine: Engine) {
    let mut world = World::on(engine).await;
    warm_up(&world).await;
    world.hold_up().await;
    {
        let submission = world.submit(email("gone@praxis.test", USER, &["ana@patient.test"]));
        let mut filing = Box::pin(world.store.file(submission));
        tokio::select! { biased; early = &mut filing => panic!("{early:?}"), () = std::future::ready(()) => {} }
    }
    world.let_go().await;
    world.file(email("stays@praxis.test", USER, &["ana@patient.test"])).await.unwrap();
    assert_eq!(world.words("SELECT message_id_header FROM messages").await, "stays@praxis.test");
}

async fn a_store_that_is_opened_again_has_everything(engine: Engine) {
    let mut world = World::on(engine).await;
    let submission = world.submit(email("1@praxis.test", USER, &["ana@patient.test"]));
    world.store.file(submission.clone()).await.unwrap();
    world.reopen().await;
    let message = MessageId::from_uuid(submission.deliveries[0].uuid());
    let raw = world.store.raw_message(world.account, message).await.unwrap();
    assert_eq!(raw.as_deref(), Some(&submission.raw[..]));
    let again = world.file(email("1@praxis.test", USER, &["ana@patient.test"])).await.unwrap();
    assert_eq!(again.decided[0].1, Decision::Duplicate(message));
}

async fn a_closed_store_has_written_what_was_waiting_and_takes_no_more(engine: Engine) {
    let mut world = World::on(engine).await;
    warm_up(&world).await;
    world.file(email("1@praxis.test", USER, &["ana@patient.test"])).await.unwrap();
    world.store.ping().await.unwrap();
    let waiting = world.submit(email("2@praxis.test", USER, &["ana@patient.test"]));
    let (filed, ()) = tokio::join!(world.store.file(waiting), world.store.close());
    filed.unwrap();
    let refused = world.file(email("3@praxis.test", USER, &["ana@patient.test"])).await;
    assert!(refused.is_err());
    assert!(matches!(world.store.ping().await, Err(StoreError::Closed)));
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 2);
}

async fn r70_a_retry_changes_nothing_and_a_second_recipient_is_a_duplicate_of_the_first(engine: Engine) {
    let mut world = World::on(engine).await;
    let mail = email("1@praxis.test", USER, &["ana@patient.test"]);
    let both = submission(mail.clone(), vec![world.sync_mailbox(), world.sync_mailbox()], b"raw".to_vec());
    let filed = world.store.file(both).await.unwrap();
    assert_eq!(filed.decided[0].1.outcome(), Outcome::Filed);
    let message = MessageId::from_uuid(filed.decided[0].0.uuid());
    assert_eq!(filed.decided[1].1, Decision::Duplicate(message));
    let retry = world.file(mail).await.unwrap();
    assert_eq!(retry.decided[0].1, Decision::Duplicate(message));
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 1);
    assert_eq!(world.count("SELECT count(*) FROM events WHERE type = 'message.filed'").await, 1);
    assert_eq!(
        world
            .count("SELECT count(*) FROM deliveries WHERE message_id IS NOT NULL AND contact_id IS NOT NULL")
            .await,
        3
    );
}

async fn r70_r71_among_many_of_one_message_id_each_is_known_again(engine: Engine) {
    let mut world = World::on(engine).await;
    let mail =
        |digest: u8| Email { digest: [digest; 32], ..email("1@praxis.test", USER, &["ana@patient.test"]) };
    let mut messages = Vec::new();
    for digest in [7, 1, 9, 4] {
        messages.push((digest, world.file(mail(digest)).await.unwrap().decided[0].0.uuid()));
    }
    for (digest, message) in messages {
        let again = world.file(mail(digest)).await.unwrap();
        assert_eq!(again.decided[0].1, Decision::Duplicate(MessageId::from_uuid(message)), "{digest}");
    }
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 4);
    let reused = "SELECT count(*) FROM messages WHERE flags LIKE '%message_id_reused%'";
    assert_eq!(world.count(reused).await, 3, "all but the first");
}

async fn r41_a_reference_of_very_many_contacts_is_remembered_for_64_of_them(engine: Engine) {
    let mut world = World::on(engine).await;
    let answer = |number: u32, to: &str, contact: u32| {
        let contact = format!("contact-{contact}@patient.test");
        answer_to(to, email(&format!("{number}@praxis.test"), USER, &[&contact]))
    };
    for contact in 0..70 {
        world.file(answer(contact, "mailing@praxis.test", contact)).await.unwrap();
    }
    let remembered = "SELECT count(*) FROM thread_ids WHERE message_id_header = 'mailing@praxis.test'";
    assert_eq!(world.count(remembered).await, 64);
    assert_eq!(world.count("SELECT count(*) FROM conversations").await, 70);
    world.file(answer(70, "mailing@praxis.test", 63)).await.unwrap();
    world.file(answer(71, "69@praxis.test", 69)).await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM conversations").await, 70, "both are known");
}

async fn r43_a_mail_without_message_id_is_known_again_by_its_digest(engine: Engine) {
    let world = World::on(engine).await;
    let mut mail = email("1@praxis.test", USER, &["ana@patient.test"]);
    mail.message_id_header = None;
    let first = world.file(mail.clone()).await.unwrap();
    let message = MessageId::from_uuid(first.decided[0].0.uuid());
    assert_eq!(world.file(mail).await.unwrap().decided[0].1, Decision::Duplicate(message));
}

async fn r4_the_same_mail_is_filed_in_each_account_under_its_own_key(engine: Engine) {
    let mut world = World::on(engine).await;
    let elsewhere = in_another_account(&mut world).await;
    let mail = email("1@praxis.test", USER, &["ana@patient.test"]);
    let both = submission(mail, vec![world.sync_mailbox(), elsewhere.clone()], b"raw".to_vec());
    let filed = world.store.file(both.clone()).await.unwrap();
    assert!(filed.decided.iter().all(|(_, decision)| decision.outcome() == Outcome::Filed), "{filed:?}");
    for (account, delivery) in
        [(world.account, both.deliveries[0]), (elsewhere.account(), both.deliveries[1])]
    {
        let raw = world.store.raw_message(account, MessageId::from_uuid(delivery.uuid())).await.unwrap();
        assert_eq!(raw.as_deref(), Some(&b"raw"[..]));
    }
    assert_eq!(world.count("SELECT count(DISTINCT content_key) FROM messages").await, 2);
}

async fn r70_mail_that_waits_already_is_not_held_again(engine: Engine) {
    let mut world = World::on(engine).await;
    let mail = email("1@praxis.test", "stranger@else.test", &["postmaster@sync.example.test"]);
    let twice = submission(mail, vec![Mailbox::Postmaster, Mailbox::Postmaster], b"help".to_vec());
    let filed = world.store.file(twice.clone()).await.unwrap();
    let (delivery, first) = &filed.decided[0];
    assert_eq!(first.reason(), Reason::Postmaster);
    let raw = world.store.raw_held(AccountId::OPERATOR, *delivery).await.unwrap();
    assert_eq!(raw.as_deref(), Some(&b"help"[..]));
    assert_eq!(filed.decided[1].1.reason(), Reason::Duplicate, "in the same transaction");
    let retry = syncmx::store::Submission {
        deliveries: vec![DeliveryId::generate(), DeliveryId::generate()],
        ..twice
    };
    let again = world.store.file(retry).await.unwrap();
    assert!(
        again.decided.iter().all(|(_, decision)| decision.reason() == Reason::Duplicate),
        "and by a retry"
    );
    assert_eq!(world.count("SELECT count(*) FROM held").await, 1);
    assert_eq!(world.count("SELECT count(*) FROM deliveries WHERE message_id IS NOT NULL").await, 0);
    assert_eq!(world.count("SELECT count(*) FROM events WHERE type = 'message.held'").await, 1);
    assert_eq!(
        world.text("SELECT headers FROM held LIMIT 1").await,
        r#"{"from":{"name":null,"email":"stranger@else.test"},"to":[{"name":null,"email":"postmaster@sync.example.test"}],"subject":"About 1@praxis.test"}"#
    );
}

async fn r5_a_discarded_mail_leaves_nothing_but_hashes_of_its_addresses(engine: Engine) {
    let mut world = World::on(engine).await;
    let submission = world.submit(email("secret@praxis.test", USER, &["chef@praxis.test"]));
    let submission = syncmx::store::Submission {
        envelope: Arc::new(syncmx::smtp::Envelope {
            recipients: vec![syncmx::smtp::Recipient {
                mailbox: world.auto_mailbox(),
                ..submission.envelope.recipients[0].clone()
            }],
            ..(*submission.envelope).clone()
        }),
        ..submission
    };
    let filed = world.store.file(submission).await.unwrap();
    assert_eq!(filed.decided[0].1.outcome(), Outcome::Discarded, "{filed:?}");
    let row = world
        .text(
            "SELECT coalesce(mail_from, '') || coalesce(rcpt, '') || coalesce(message_id_header, '') \
             || coalesce(from_address, '') || steps || auth FROM deliveries",
        )
        .await;
    for trace in ["weber", "chef", "secret", "About", "drweber"] {
        assert!(!row.contains(trace), "{trace} in {row}");
    }
    let hash = world.keys.address_hash(&EmailAddress::parse("Chef@praxis.test").unwrap());
    let found: i64 = on!(&mut world.other, |other| {
        sqlx::query_scalar("SELECT count(*) FROM delivery_addresses WHERE address_hash = $1 AND role = 'to'")
            .bind(hash.to_vec())
            .fetch_one(other)
            .await
            .unwrap()
    });
    assert_eq!(found, 1);
    for table in ["SELECT count(*) FROM messages", "SELECT count(*) FROM held", "SELECT count(*) FROM events"]
    {
        assert_eq!(world.count(table).await, 0, "{table}");
    }
}

async fn a_rejected_mail_leaves_a_trace_and_no_content(engine: Engine) {
    let mut world = World::on(engine).await;
    let filed = world.file(email("1@else.test", "stranger@else.test", &["ana@patient.test"])).await.unwrap();
    assert_eq!(filed.decided[0].1, Decision::Rejected(Reason::SenderNotAllowed));
    assert_eq!(filed.reply, reply::SENDER_NOT_ALLOWED.with_trace(filed.decided[0].0));
    assert_eq!(world.text("SELECT from_address FROM deliveries").await, "stranger@else.test");
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 0);
}

async fn r29_filing_never_turns_on_what_somebody_turned_off(engine: Engine) {
    let mut world = World::on(engine).await;
    world.add_contact("ana@patient.test").await;
    world.run("INSERT INTO sync_marks SELECT c.account_id, c.contact_id, u.user_id, 'off', 5, 'api', NULL FROM contacts c, users u").await;
    world.file(email("1@praxis.test", USER, &["ana@patient.test"])).await.unwrap();
    assert_eq!(world.text("SELECT state || since || because FROM sync_marks").await, "off5api");
    assert_eq!(world.count("SELECT count(*) FROM events WHERE type = 'contact.sync_on'").await, 0);
}

async fn r35_the_mark_knows_when_its_last_mail_came(engine: Engine) {
    let mut world = World::on(engine).await;
    world.add_contact("ana@patient.test").await;
    world.run("INSERT INTO sync_marks SELECT c.account_id, c.contact_id, u.user_id, 'on', 5, 'api', NULL FROM contacts c, users u").await;
    world.file(email("1@patient.test", "ana@patient.test", &[USER])).await.unwrap();
    assert_eq!(world.text("SELECT state || since || because FROM sync_marks").await, "on5api");
    assert_eq!(world.count("SELECT last_mail_at FROM sync_marks").await, 1_795_315_445_120);
    assert_eq!(
        world.count("SELECT count(*) FROM daily_filings").await,
        0,
        "R52 counts what somebody files by hand"
    );
}

async fn r52_the_daily_limit_counts_what_was_filed_before_and_within_the_batch(engine: Engine) {
    let mut world = World::on(engine).await;
    world.run(r#"UPDATE accounts SET settings = '{"daily_limit":2}' WHERE name = 'Praxis'"#).await;
    let mail = |n: usize| email(&format!("{n}@praxis.test"), USER, &["ana@patient.test"]);
    world.file(mail(1)).await.unwrap();
    let (second, third) = (world.submit(mail(2)), world.submit(mail(3)));
    let filed = in_one_batch(&mut world, [second, third]).await;
    assert_eq!(filed[0].as_ref().unwrap().decided[0].1.outcome(), Outcome::Filed);
    assert_eq!(filed[1].as_ref().unwrap().decided[0].1, Decision::Deferred(Reason::DailyLimit));
    assert_eq!(filed[1].as_ref().unwrap().reply.code, 452);
}

async fn a_large_mail_lies_in_a_blob_and_a_damaged_blob_harms_no_other(engine: Engine) {
    let mut world = World::on(engine).await;
    for (n, size) in [(0, 60_000), (1, 70_000), (2, 1_000_000)] {
        let mail = email(&format!("{n}@praxis.test"), USER, &["ana@patient.test"]);
        let submission = submission(mail, vec![world.sync_mailbox()], noise(size));
        world.store.file(submission.clone()).await.unwrap();
        let message = MessageId::from_uuid(submission.deliveries[0].uuid());
        let raw = world.store.raw_message(world.account, message).await.unwrap().unwrap();
        assert_eq!(raw, submission.raw);
        assert_eq!(blob_files(&world).len(), n, "{size} octets");
        if n == 2 {
            let name = world.text("SELECT blob FROM messages ORDER BY message_id DESC LIMIT 1").await;
            let path = blob_folder(&world.folder).join(name);
            let mut sealed = fs::read(&path).unwrap();
            sealed[500_000] ^= 1;
            fs::write(&path, sealed).unwrap();
            let damaged = world.store.raw_message(world.account, message).await;
            assert!(matches!(damaged, Err(StoreError::Damaged { .. })), "{damaged:?}");
            fs::remove_file(&path).unwrap();
            let missing = world.store.raw_message(world.account, message).await;
            assert!(matches!(missing, Err(StoreError::Damaged { .. })), "{missing:?}");
        }
    }
    let filed = world.file(email("3@praxis.test", USER, &["ana@patient.test"])).await;
    filed.unwrap();
}

async fn a_large_mail_that_is_not_kept_leaves_no_blob(engine: Engine) {
    let world = World::on(engine).await;
    let mail = email("1@else.test", "stranger@else.test", &["ana@patient.test"]);
    let refused = submission(mail, vec![world.sync_mailbox()], noise(300_000));
    world.store.file(refused).await.unwrap();
    assert_eq!(blob_files(&world), Vec::<std::path::PathBuf>::new());
}

async fn the_sweep_takes_old_orphans_and_nothing_else(engine: Engine) {
    let world = World::on(engine).await;
    let mail = email("1@praxis.test", USER, &["ana@patient.test"]);
    let kept = submission(mail, vec![world.sync_mailbox()], noise(300_000));
    world.store.file(kept.clone()).await.unwrap();
    let used = blob_files(&world).remove(0);
    let account = blob_folder(&world.folder).join(world.account.uuid().simple().to_string());
    let orphan = |name: &str| {
        let shelf = account.join(name.get(30..).unwrap());
        fs::create_dir_all(&shelf).unwrap();
        let path = shelf.join(name);
        fs::write(&path, b"sealed").unwrap();
        path
    };
    let old = orphan("0192f0c123457abc8def0123456789ab");
    let young = orphan("0192f0c123457abc8def0123456789cd");
    let written = orphan("0192f0c123457abc8def0123456789ef");
    let temporary = written.with_file_name("0192f0c123457abc8def0123456789ef#1");
    fs::rename(written, &temporary).unwrap();
    let foreign = account.join("keep-me.txt");
    fs::write(&foreign, b"not ours").unwrap();
    for path in [&used, &old, &temporary, &foreign] {
        age(path);
    }
    assert_eq!(world.store.sweep_blobs().await.unwrap(), 1);
    assert!(used.exists() && young.exists() && foreign.exists());
    assert!(!old.exists() && !temporary.exists());
}

async fn the_sweep_takes_any_number_of_orphans(engine: Engine) {
    let world = World::on(engine).await;
    let mail = email("1@praxis.test", USER, &["ana@patient.test"]);
    world.store.file(submission(mail, vec![world.sync_mailbox()], noise(300_000))).await.unwrap();
    let shelf = blob_folder(&world.folder).join(format!("{}/ab", world.account.uuid().simple()));
    fs::create_dir_all(&shelf).unwrap();
    for n in 0..600 {
        fs::write(shelf.join(format!("0192f0c123457abc8def0123{n:06}ab")), b"sealed").unwrap();
    }
    for path in blob_files(&world) {
        age(&path);
    }
    assert_eq!(world.store.sweep_blobs().await.unwrap(), 600);
    assert_eq!(blob_files(&world).len(), 1);
}

async fn refused_recipients_are_recorded_and_found_by_their_address(engine: Engine) {
    let mut world = World::on(engine).await;
    let delivery = DeliveryId::generate();
    let refusal = Refusal {
        delivery,
        account: AccountId::OPERATOR,
        at: Timestamp::from_millis(7),
        client: client(),
        mail_from: None,
        rcpt: "nobody@sync.example.test".to_owned(),
        reason: Reason::UnknownAddress,
        outcome: Outcome::Rejected,
        reply: reply::UNKNOWN_ADDRESS.with_trace(delivery),
        size_bytes: 0,
        steps: Vec::new(),
    };
    world.store.record(vec![refusal]).await.unwrap();
    world.store.record(Vec::new()).await.unwrap();
    assert_eq!(
        world.text("SELECT outcome || ' ' || reason || ' ' || rcpt || ' ' || smtp FROM deliveries").await,
        format!(
            "rejected unknown_address nobody@sync.example.test 550 5.1.1 No such address here [trace {delivery}]"
        )
    );
    assert_eq!(world.count("SELECT count(*) FROM deliveries WHERE auth IS NULL AND mail_from = ''").await, 1);
    assert_eq!(world.count("SELECT count(*) FROM delivery_addresses WHERE role = 'to'").await, 1);
}

async fn r64_the_audit_trail_is_only_added_to(engine: Engine) {
    let mut world = World::on(engine).await;
    let act = Act {
        account: world.account,
        at: Timestamp::from_millis(7),
        actor: Actor::System.to_string(),
        action: "read".to_owned(),
        object: "messages".to_owned(),
        detail: None,
    };
    for _ in 0..2 {
        world.store.note(vec![act.clone()]).await.unwrap();
    }
    let anywhere = [
        "UPDATE audit SET actor = actor WHERE seq = 1",
        "DELETE FROM audit WHERE seq = 2",
        "DELETE FROM audit_heads",
        "UPDATE audit_heads SET hash = hash",
        "UPDATE audit_heads SET seq = 1",
    ];
    let truncated: &[&'static str] =
        if engine == Engine::Postgres { &["TRUNCATE audit", "TRUNCATE audit_heads"] } else { &[] };
    for sql in anywhere.iter().chain(truncated).copied() {
        let refused = on!(&mut world.other, |other| sqlx::query(sql).execute(other).await.map(|_| ()));
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("the audit trail is only added to"), "{sql}: {said}");
    }
    world.store.note(vec![act]).await.unwrap();
    let chain = world.store.verify_audit(world.account).await.unwrap();
    assert_eq!((chain.rows, chain.head, chain.faults), (3, 3, Vec::new()));
}

async fn r64_a_chain_that_is_gone_whole_is_a_fault_but_for_the_operators(engine: Engine) {
    let world = World::on(engine).await;
    // This account was written behind the back of what notes how it was made.
    let chain = world.store.verify_audit(world.account).await.unwrap();
    assert_eq!((chain.rows, chain.faults), (0, vec!["the whole chain is missing".to_owned()]));
    let chain = world.store.verify_audit(AccountId::OPERATOR).await.unwrap();
    assert_eq!((chain.rows, chain.faults), (0, Vec::new()));
}

async fn a_sync_address_is_found_in_any_spelling_until_it_is_turned_off(engine: Engine) {
    let mut world = World::on(engine).await;
    let address = format!("{}@sync.example.test", SYNC_LOCAL.to_uppercase());
    let auto = format!("{SYNC_LOCAL}+auto@sync.example.test");
    assert_eq!(world.store.mailbox(&ask(&address)).await.unwrap(), Lookup::Found(world.sync_mailbox()));
    assert_eq!(world.store.mailbox(&ask(&auto)).await.unwrap(), Lookup::Found(world.auto_mailbox()));
    assert_eq!(world.store.mailbox(&ask("x-0123456789ab@sync.example.test")).await.unwrap(), Lookup::Unknown);
    assert_eq!(world.store.mailbox(&ask("x@elsewhere.test")).await.unwrap(), Lookup::Unknown);
    assert_eq!(
        world.store.mailbox(&ask("abuse@reply.example.test")).await.unwrap(),
        Lookup::Found(Mailbox::Postmaster)
    );

    // Our own change is known at once; that of another process within a second or so.
    world.run("UPDATE sync_addresses SET state = 'retired'").await;
    world.store.forget_addresses();
    assert_eq!(world.store.mailbox(&ask(&address)).await.unwrap(), Lookup::Off(world.account));
    world.run("UPDATE sync_addresses SET state = 'active'").await;
    assert_eq!(world.store.mailbox(&ask(&address)).await.unwrap(), Lookup::Found(world.sync_mailbox()));
    world.run("UPDATE users SET sync_state = 'off'").await;
    world.other_node_announces().await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while world.store.mailbox(&ask(&address)).await.unwrap() == Lookup::Found(world.sync_mailbox()) {
        assert!(Instant::now() < deadline, "another node's change is never seen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.store.mailbox(&ask(&address)).await.unwrap(), Lookup::Off(world.account));
}

async fn r41_r45_a_reply_address_leads_to_its_conversation_through_merges_until_it_is_revoked(
    engine: Engine,
) {
    let mut world = World::on(engine).await;
    let key = world.keys.reply_tokens()[0].clone();
    let filed = world.file(email("1@praxis.test", USER, &["ana@patient.test"])).await.unwrap();
    let Decision::Filed(filing) = &filed.decided[0].1 else { panic!("{filed:?}") };
    let older = filing.thread.id();
    let younger = ConversationId::generate();
    let address =
        |conversation| ask(&format!("{}@reply.example.test", ReplyToken::mint(conversation, 2517, &key)));
    assert_eq!(world.store.mailbox(&address(younger)).await.unwrap(), Lookup::Unknown);
    let insert = "INSERT INTO conversations SELECT account_id, $1, contact_id, user_id, subject, 0, 0, conversation_id, NULL \
                  FROM conversations";
    on!(&mut world.other, |other| {
        sqlx::query(insert).bind(younger.uuid()).execute(other).await.map(|_| ()).unwrap();
    });
    let found = Lookup::Found(world.reply_mailbox(older));
    assert_eq!(world.store.mailbox(&address(older)).await.unwrap(), found);
    assert_eq!(world.store.mailbox(&address(younger)).await.unwrap(), found);
    let forged = Keys::generate().unwrap().reply_tokens()[0].clone();
    let forged = ask(&format!("{}@reply.example.test", ReplyToken::mint(older, 2517, &forged)));
    assert_eq!(world.store.mailbox(&forged).await.unwrap(), Lookup::Unknown);

    // R45: an answer to it is filed there, with its event.
    let answer = email("2@patient.test", "ana@patient.test", &["r@reply.example.test"]);
    let answer = submission(answer, vec![world.reply_mailbox(older)], b"raw".to_vec());
    world.store.file(answer).await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM events WHERE type = 'reply.received'").await, 1);
    assert_eq!(world.count("SELECT count(DISTINCT conversation_id) FROM messages").await, 1);

    world.run("UPDATE conversations SET reply_revoked_at = 1 WHERE merged_into IS NULL").await;
    assert_eq!(world.store.mailbox(&address(younger)).await.unwrap(), Lookup::Off(world.account));
}

async fn facts_for_reads_what_filing_would_and_writes_nothing(engine: Engine) {
    let mut world = World::on(engine).await;
    let ana = world.add_contact("ana@patient.test").await;
    world.file(email("1@praxis.test", USER, &["ana@patient.test"])).await.unwrap();
    let mail = answer_to("1@praxis.test", email("2@patient.test", "Ana@patient.test", &[USER]));
    let mailbox = world.sync_mailbox();
    let verdict = aligned(&mail);
    let arrival = Arrival {
        mailbox: &mailbox,
        verdict: &verdict,
        email: &mail,
        reverse_path: None,
        client_ip: std::net::IpAddr::from([192, 0, 2, 7]),
        received_at: Timestamp::from_millis(1_795_315_445_120),
        size_bytes: 1,
        fresh: FreshIds {
            contact: ContactId::generate(),
            conversation: ConversationId::generate(),
            message: MessageId::generate(),
        },
    };
    let facts = world.store.facts_for(&arrival).await.unwrap();
    assert_eq!(facts.account.served_domains, ["sync.example.test", "reply.example.test"]);
    assert_eq!(facts.owner.as_ref().map(|owner| (owner.user, owner.sync_on)), Some((world.user, true)));
    assert_eq!(
        facts.identities.iter().map(|known| (known.user, known.verified)).collect::<Vec<_>>(),
        [(world.user, true)]
    );
    assert_eq!(facts.contacts.iter().map(|contact| contact.id).collect::<Vec<_>>(), [ana]);
    assert_eq!(
        facts.marks.iter().map(|mark| (mark.user, mark.contact, mark.on)).collect::<Vec<_>>(),
        [(world.user, ana, true)]
    );
    assert_eq!(
        facts.references.iter().map(|known| known.key.text().to_owned()).collect::<Vec<_>>(),
        ["1@praxis.test"]
    );
    assert_eq!(facts.references[0].conversation.contact, ana);
    assert!(facts.same_message_id.is_empty());
    assert_eq!(facts.filed_today, 1);
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 1);
    let elsewhere =
        Mailbox::Sync(syncmx::address::UserMailbox { account: AccountId::generate(), user: world.user });
    let unknown = world.store.facts_for(&Arrival { mailbox: &elsewhere, ..arrival }).await;
    assert!(matches!(unknown, Err(StoreError::NoSuchAccount)));
}

async fn a_submission_to_an_account_that_is_gone_fails_alone(engine: Engine) {
    let world = World::on(engine).await;
    let gone =
        Mailbox::Sync(syncmx::address::UserMailbox { account: AccountId::generate(), user: world.user });
    let lost = submission(email("1@praxis.test", USER, &["ana@patient.test"]), vec![gone], b"raw".to_vec());
    assert!(matches!(world.store.file(lost).await, Err(StoreError::NoSuchAccount)));
    let mut mismatched = world.submit(email("2@praxis.test", USER, &["ana@patient.test"]));
    mismatched.deliveries.clear();
    assert!(matches!(world.store.file(mismatched).await, Err(StoreError::Defect(_))));
    world.file(email("3@praxis.test", USER, &["ana@patient.test"])).await.unwrap();
}

async fn refuses_to_open(settings: &config::Store, keys: &Arc<Keys>, expected: &str) {
    let error = Store::open(settings, keys.clone(), served()).await.unwrap_err();
    let line = error.one_line();
    assert!(line.contains(expected) && !line.contains('\n'), "{line}");
}

async fn what_keeps_a_store_from_opening_is_said_in_one_line(engine: Engine) {
    let mut world = World::on(engine).await;
    let other_keys = Arc::new(Keys::generate().unwrap());
    refuses_to_open(&world.settings, &other_keys, "the key file does not fit").await;
    world.run("INSERT INTO _sqlx_migrations SELECT 9999, 'later', installed_on, success, checksum, 0 FROM _sqlx_migrations LIMIT 1").await;
    let newer = "has schema version 9999, which is newer than this program";
    refuses_to_open(&world.settings, &world.keys, newer).await;
    assert!(Store::migrate(&world.settings).await.unwrap_err().one_line().contains(newer));
    world.run("DELETE FROM _sqlx_migrations WHERE version = 9999").await;
    Store::open(&world.settings, world.keys.clone(), served()).await.unwrap();
    let in_the_way = world.folder.path().join("in-the-way");
    fs::write(&in_the_way, b"").unwrap();
    let blocked = config::Store { blobs: config::BlobsUrl::Folder(in_the_way), ..world.settings };
    refuses_to_open(&blocked, &world.keys, "cannot use").await;
}

async fn r60_a_blob_whose_row_was_erased_before_a_crash_is_removed_at_the_start(engine: Engine) {
    let mut world = World::on(engine).await;
    world.add_contact("ana@patient.test").await;
    for (id, size) in [("gone@praxis.test", 300_000), ("kept@praxis.test", 300_000)] {
        let mail = email(id, USER, &["ana@patient.test"]);
        world.store.file(submission(mail, vec![world.sync_mailbox()], noise(size))).await.unwrap();
    }
    assert_eq!(blob_files(&world).len(), 2);
    // As a purge leaves it that was killed right after its commit.
    world
        .run(
            "INSERT INTO erased_blobs SELECT account_id, blob FROM messages WHERE message_id_header = 'gone@praxis.test'",
        )
        .await;
    world
        .run("DELETE FROM participants WHERE message_id IN (SELECT message_id FROM messages WHERE message_id_header = 'gone@praxis.test')")
        .await;
    world.run("DELETE FROM messages WHERE message_id_header = 'gone@praxis.test'").await;
    assert_eq!(world.store.finish_purges(Timestamp::now()).await.unwrap(), 0);
    assert_eq!(blob_files(&world).len(), 1);
    assert_eq!(world.count("SELECT count(*) FROM erased_blobs").await, 0);
    assert_eq!(world.store.finish_purges(Timestamp::now()).await.unwrap(), 0);
    assert_eq!(blob_files(&world).len(), 1);
}

/// A folder stands where the blob of each of these should be: no user may remove it.
fn cannot_be_removed(world: &World, names: impl Iterator<Item = u32>) -> Vec<String> {
    let account = world.account.uuid().simple();
    let names = names.map(|number| format!("{account}/ab/0192f0c123457abc8def0123{number:06}ab"));
    names
        .inspect(|name| fs::create_dir_all(blob_folder(&world.folder).join(name).join("in-the-way")).unwrap())
        .collect()
}

async fn note_erased(world: &mut World, name: &str) {
    on!(&mut world.other, |other| sqlx::query("INSERT INTO erased_blobs (account_id, blob) VALUES ($1, $2)")
        .bind(world.account.uuid())
        .bind(name)
        .execute(other)
        .await
        .map(|_| ()))
    .unwrap();
}

async fn r60_blobs_that_cannot_be_removed_hold_up_no_others(engine: Engine) {
    let mut world = World::on(engine).await;
    // One more than are tried at once; in their order, which is not that of their writing.
    let mut names = cannot_be_removed(&world, (1..502).rev());
    names.extend(["999998", "000000"].map(|number| {
        let name = format!("{}/ab/0192f0c123457abc8def0123{number}ab", world.account.uuid().simple());
        fs::write(blob_folder(&world.folder).join(&name), b"sealed").unwrap();
        name
    }));
    for name in &names {
        note_erased(&mut world, name).await;
    }
    world.store.finish_purges(Timestamp::now()).await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM erased_blobs").await, 501);
    assert_eq!(blob_files(&world), Vec::<std::path::PathBuf>::new());

    // Of the first piece nothing can go: the next call goes on behind it, and the one after that begins anew.
    let next = names.last().unwrap().replace("000000", "999999");
    fs::write(blob_folder(&world.folder).join(&next), b"sealed").unwrap();
    note_erased(&mut world, &next).await;
    for left in [502, 501] {
        world.store.finish_purges(Timestamp::now()).await.unwrap();
        assert_eq!(world.count("SELECT count(*) FROM erased_blobs").await, left);
    }
    for name in &names {
        let in_the_way = blob_folder(&world.folder).join(name);
        let _ = fs::remove_dir_all(in_the_way);
    }
    world.store.finish_purges(Timestamp::now()).await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM erased_blobs").await, 0);
}

async fn when_the_clock_was_last_believed_outlives_the_store_and_may_go_back(engine: Engine) {
    let world = World::on(engine).await;
    let doubt = ClockDoubt { at: Timestamp::now(), even: Duration::ZERO };
    world.store.doubt_clock(doubt).await.unwrap();
    assert_eq!(world.store.clock_mark().await.unwrap(), None, "never believed, nothing to doubt");
    for millis in [1_795_315_445_120, 1_795_315_445_119] {
        let at = Timestamp::from_millis(millis);
        world.store.believe_clock(at).await.unwrap();
        let beside = Store::open(&world.settings, world.keys.clone(), served()).await.unwrap();
        assert_eq!(beside.clock_mark().await.unwrap(), Some(ClockMark { believed_at: at, doubt: None }));
        let doubt = ClockDoubt { at: at.plus_days(40), even: Duration::from_secs(60 * 60) };
        world.store.doubt_clock(doubt).await.unwrap();
        assert_eq!(
            beside.clock_mark().await.unwrap(),
            Some(ClockMark { believed_at: at, doubt: Some(doubt) })
        );
    }
}

#[tokio::test]
async fn what_keeps_a_sqlite_file_from_opening_is_said_in_one_line() {
    let mut world = World::new().await;
    world.store.close().await;
    world.run("PRAGMA locking_mode = EXCLUSIVE").await;
    world.run("BEGIN EXCLUSIVE").await;
    refuses_to_open(&world.settings, &world.keys, "is locked by another process").await;

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("syncmx.db"), noise(8192)).unwrap();
    refuses_to_open(&settings(&folder), &world.keys, "is not a database, or is damaged").await;
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("syncmx.db")).unwrap();
    refuses_to_open(&settings(&folder), &world.keys, "it cannot be opened for writing").await;
}

async fn two_programs_may_use_one_store_at_once(engine: Engine) {
    let world = World::on(engine).await;
    let beside = Store::open(&world.settings, world.keys.clone(), served()).await.unwrap();
    for n in 0..20 {
        let mail = |side: &str| email(&format!("{n}-{side}@praxis.test"), USER, &["ana@patient.test"]);
        let (here, there) = (world.submit(mail("here")), world.submit(mail("there")));
        let (here, there) = tokio::join!(world.store.file(here), beside.file(there));
        here.unwrap();
        there.unwrap();
    }
    let mut world = world;
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 40);
    assert_eq!(world.count("SELECT count(*) FROM contacts").await, 1);
}

on_both_engines! {
    r60_blobs_that_cannot_be_removed_hold_up_no_others,
    when_the_clock_was_last_believed_outlives_the_store_and_may_go_back,
    r2_a_filed_mail_is_there_with_all_that_belongs_to_it,
    concurrent_filings_share_transactions_and_none_is_lost_or_doubled,
    r24_two_mails_of_one_batch_to_the_same_stranger_make_one_contact,
    r40_an_answer_joins_its_parent_of_the_same_batch,
    one_bad_filing_of_a_batch_fails_alone,
    e5_r72_where_one_recipient_cannot_be_written_nothing_of_the_transaction_is,
    a_filing_whose_session_goes_away_before_its_turn_is_never_written,
    a_store_that_is_opened_again_has_everything,
    a_closed_store_has_written_what_was_waiting_and_takes_no_more,
    r70_a_retry_changes_nothing_and_a_second_recipient_is_a_duplicate_of_the_first,
    r70_r71_among_many_of_one_message_id_each_is_known_again,
    r41_a_reference_of_very_many_contacts_is_remembered_for_64_of_them,
    r43_a_mail_without_message_id_is_known_again_by_its_digest,
    r4_the_same_mail_is_filed_in_each_account_under_its_own_key,
    r70_mail_that_waits_already_is_not_held_again,
    r5_a_discarded_mail_leaves_nothing_but_hashes_of_its_addresses,
    a_rejected_mail_leaves_a_trace_and_no_content,
    r29_filing_never_turns_on_what_somebody_turned_off,
    r35_the_mark_knows_when_its_last_mail_came,
    r52_the_daily_limit_counts_what_was_filed_before_and_within_the_batch,
    a_large_mail_lies_in_a_blob_and_a_damaged_blob_harms_no_other,
    a_large_mail_that_is_not_kept_leaves_no_blob,
    the_sweep_takes_old_orphans_and_nothing_else,
    the_sweep_takes_any_number_of_orphans,
    r60_a_blob_whose_row_was_erased_before_a_crash_is_removed_at_the_start,
    refused_recipients_are_recorded_and_found_by_their_address,
    r64_the_audit_trail_is_only_added_to,
    r64_a_chain_that_is_gone_whole_is_a_fault_but_for_the_operators,
    a_sync_address_is_found_in_any_spelling_until_it_is_turned_off,
    r41_r45_a_reply_address_leads_to_its_conversation_through_merges_until_it_is_revoked,
    facts_for_reads_what_filing_would_and_writes_nothing,
    a_submission_to_an_account_that_is_gone_fails_alone,
    what_keeps_a_store_from_opening_is_said_in_one_line,
    two_programs_may_use_one_store_at_once,
}
