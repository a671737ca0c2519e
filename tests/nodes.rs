//! Several programs on one database, and what the database itself promises: its schema, its migrations, and what is
//! left of a filing when a PostgreSQL server dies, hangs or answers too late.

#![expect(clippy::unwrap_used, clippy::cognitive_complexity, reason = "a test stops where it fails")]

#[path = "support/store_world.rs"]
mod store_world;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::migrate::Migrator;
use store_world::postgres as server;
use store_world::*;
use syncmx::address::{Mailbox, UserMailbox};
use syncmx::config::{self, StoreUrl};
use syncmx::filing::{Decision, Outcome};
use syncmx::id::{AccountId, ContactId, EventId, UserId};
use syncmx::store::directory::MarkState;
use syncmx::store::lines::Kind;
use syncmx::store::search::{Piece, SearchQuery};
use syncmx::store::views::{Key, SearchFilter, Slice};
use syncmx::store::{Lookup, Store, StoreError};
use syncmx::time::Timestamp;
use uuid::Uuid;

async fn two_nodes_file_one_mail_once(engine: Engine) {
    let mut world = World::on(engine).await;
    let beside = Store::open(&world.settings, world.keys.clone(), served()).await.unwrap();
    for n in 0..30 {
        let mail = email(&format!("{n}@praxis.test"), USER, &["ana@patient.test"]);
        let (here, there) = (world.submit(mail.clone()), world.submit(mail));
        let (here, there) = tokio::join!(world.store.file(here), beside.file(there));
        let mut outcomes = [here, there].map(|filed| filed.unwrap().decided[0].1.outcome().as_str());
        outcomes.sort_unstable();
        assert_eq!(outcomes, [Outcome::Duplicate.as_str(), Outcome::Filed.as_str()], "mail {n}");
    }
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 30);
    assert_eq!(world.count("SELECT count(*) FROM contacts").await, 1);
    assert_eq!(world.count("SELECT count(*) FROM events WHERE type = 'contact.created'").await, 1);
    assert_eq!(world.count("SELECT filings FROM daily_filings").await, 30);
    beside.close().await;
}

async fn r62_an_address_that_one_node_rotates_away_is_refused_by_the_other(engine: Engine) {
    let world = World::on(engine).await;
    let beside = Store::open(&world.settings, world.keys.clone(), served()).await.unwrap();
    let old = ask(&format!("{SYNC_LOCAL}@sync.example.test"));
    assert_eq!(beside.mailbox(&old).await.unwrap(), Lookup::Found(world.sync_mailbox()));
    let rotated = Instant::now();
    let mut change = world.store.change().await.unwrap();
    change.rotate_sync_address(world.account, world.user).await.unwrap();
    change.commit().await.unwrap();
    assert_eq!(world.store.mailbox(&old).await.unwrap(), Lookup::Off(world.account));
    while beside.mailbox(&old).await.unwrap() != Lookup::Off(world.account) {
        // Sooner than what is remembered would end by itself.
        assert!(rotated.elapsed() < Duration::from_secs(25), "the other node never hears of it");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn a_change_waits_for_a_filing_in_its_account_and_both_are_done(engine: Engine) {
    let mut world = World::on(engine).await;
    let ana = world.add_contact("ana@patient.test").await;
    let beside = Store::open(&world.settings, world.keys.clone(), served()).await.unwrap();
    for n in 0..20 {
        let filing = world.file(email(&format!("{n}@praxis.test"), USER, &["ana@patient.test"]));
        let changing = async {
            let mut change = beside.change().await.unwrap();
            let state = if n % 2 == 0 { MarkState::Off } else { MarkState::On };
            change.set_mark(world.account, ana, world.user, state).await.unwrap();
            change.commit().await.unwrap();
        };
        let (filed, ()) = tokio::join!(filing, changing);
        filed.unwrap();
    }
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 20);
    assert_eq!(world.count("SELECT count(*) FROM sync_marks WHERE state = 'on'").await, 1);
}

async fn events_come_behind_the_last_one_whatever_the_clocks_say(engine: Engine) {
    let mut world = World::on(engine).await;
    let ana = world.add_contact("ana@patient.test").await;
    // Of a node whose clock is an hour ahead.
    let ahead = Uuid::from_u128(Uuid::now_v7().as_u128() + (3_600_000 << 80));
    let insert = "INSERT INTO events (account_id, event_id, type, at, data) VALUES ($1, $2, 'x', 0, '{}')";
    on!(&mut world.other, |other| {
        sqlx::query(insert).bind(world.account.uuid()).bind(ahead).execute(other).await.map(|_| ()).unwrap();
    });
    world.file(email("1@praxis.test", USER, &["ana@patient.test"])).await.unwrap();
    let mut change = world.store.change().await.unwrap();
    change.set_mark(world.account, ana, world.user, MarkState::Off).await.unwrap();
    change.commit().await.unwrap();
    world.file(email("2@praxis.test", USER, &["ana@patient.test"])).await.unwrap();
    let seen = Slice { limit: 50, after: Some(Key::of_id(EventId::from_uuid(ahead).uuid())) };
    let page = world.store.events(world.account, seen).await.unwrap();
    let kinds: Vec<&str> = page.items.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["contact.sync_on", "message.filed", "contact.sync_off", "message.filed"]);
}

async fn a_nul_in_a_mail_reaches_no_row(engine: Engine) {
    let mut world = World::on(engine).await;
    let mut mail = email("1@praxis.test", USER, &["ana@patient.test"]);
    mail.subject = "a\0b".to_owned();
    mail.text = "\0".into();
    world.file(mail.clone()).await.unwrap();
    assert_eq!(world.text("SELECT subject FROM messages").await, "a\u{fffd}b");
    assert_eq!(world.file(mail).await.unwrap().decided[0].1.outcome(), Outcome::Duplicate);
}

/// Each earlier version with rows in it, as the program of that version left them; brought up to date in the order that
/// an upgrade has.
async fn a_migration_keeps_the_data_of_every_version_before(engine: Engine) {
    let migrator = migrator(engine).await;
    let versions: Vec<i64> = migrator.iter().map(|migration| migration.version).collect();
    assert!(versions.is_sorted() && versions.contains(&17), "{versions:?}");
    for version in versions.iter().copied() {
        let (folder, settings) = place(engine).await;
        let mut other = beside(&settings.url).await;
        on!(&mut other, |other| migrator.run_to(version, other).await.unwrap());
        // Its terms begin with five zeros.
        let account = Uuid::from_u64_pair(Uuid::now_v7().as_u64_pair().0, 1 << 63);
        fill(&mut other, version, account).await;
        let mut world = World::in_place(engine, folder, settings).await;
        let applied: Vec<(i64,)> = world.rows("SELECT version FROM _sqlx_migrations ORDER BY version").await;
        assert_eq!(applied.into_iter().map(|(version,)| version).collect::<Vec<_>>(), versions);
        expect_filled(&mut world, version, AccountId::from_uuid(account)).await;
    }
}

/// What has to be there of an account after the upgrade from this version.
async fn expect_filled(world: &mut World, version: i64, account: AccountId) {
    for (since, kept) in KEPT {
        assert_eq!(world.count(kept).await, i64::from(version >= *since), "{kept}, of {version}");
    }
    let user = Mailbox::Sync(UserMailbox { account, user: UserId::from_uuid(account.uuid()) });
    let found = world.store.mailbox(&ask("earlier-zzzzzzzzzzzz@sync.example.test")).await.unwrap();
    assert_eq!(found, Lookup::Found(user), "the sync address of {version}");
    let waiting = world.count("SELECT count(*) FROM search_waiting").await;
    assert_eq!(waiting, if version < SEARCH { 3 } else { 1 }, "wait after {version}");
    let audit = world.count("SELECT count(*) FROM audit WHERE seq = 1 AND action = 'earlier'").await;
    assert_eq!(audit, i64::from(version >= AUDIT), "audit rows after {version}");
    world.file(email("2@praxis.test", USER, &["ana@patient.test"])).await.unwrap();
    assert_eq!(
        world.words("SELECT subject FROM messages ORDER BY sent_at, message_id").await,
        "old done gone About 2@praxis.test"
    );
    assert_eq!(world.text("SELECT email FROM contacts WHERE name = 'old'").await, "old@patient.test");
    let purges = world.store.finish_purges(Timestamp::now()).await.unwrap();
    assert_eq!(purges, u64::from(version >= PURGES), "purges after {version}");
    // The trail goes on behind the row that was there.
    let noted = world.count("SELECT count(*) FROM audit WHERE seq = 2 AND action = 'purge.done'").await;
    assert_eq!(noted, i64::from(version >= AUDIT), "the audit trail after {version}");
    while world.store.index_some(&mut None, Piece::WHOLE).await.unwrap() {}
    for (id, name) in EARLIER {
        let is_there = name != "gone" || version < PURGES;
        let query = SearchQuery::parse(name).unwrap();
        let found = world.store.search(account, &query, SearchFilter::default(), Slice::first(9));
        assert_eq!(found.await.unwrap().items.len(), usize::from(is_there), "{name} of {version} is found");
        let timeline = world.store.timeline(account, ContactId::from_uuid(id), Slice::first(9)).await;
        assert_eq!(
            timeline.unwrap().items.len(),
            usize::from(is_there),
            "the timeline of {name} of {version}"
        );
    }
    // What was indexed is not indexed anew.
    let kept = world.count("SELECT count(*) FROM search_documents WHERE place = 5").await;
    assert_eq!(kept, i64::from(version >= SEARCH), "documents of {version}");
}

/// In the shape of the first version, but for what came with a later one: later ones only add.
async fn fill(other: &mut Other, version: i64, account: Uuid) {
    for statement in EARLIER_ACCOUNT.iter().filter(|(since, _)| *since <= version).map(|(_, text)| *text) {
        on!(&mut *other, |other| sqlx::query(statement)
            .bind(account)
            .bind(&[0_u8; 32][..])
            .execute(other)
            .await
            .map(|_| ()))
        .unwrap();
    }
    for (id, name) in EARLIER {
        let is_of = |(versions, names, _): &&(RangeInclusive<i64>, &[&str], &str)| {
            versions.contains(&version) && names.contains(&name)
        };
        for statement in EARLIER_ROWS.iter().filter(is_of).map(|(.., text)| *text) {
            on!(&mut *other, |other| sqlx::query(statement)
                .bind(account)
                .bind(id)
                .bind(name)
                .execute(other)
                .await
                .map(|_| ()))
            .unwrap();
        }
    }
}

/// Contacts with a conversation and a message each. The search had come down to the second when it was stopped; the
/// third was about to be erased.
const EARLIER: [(Uuid, &str); 3] =
    [(Uuid::from_u128(1), "old"), (Uuid::from_u128(2), "done"), (Uuid::from_u128(3), "gone")];
const ALL: &[&str] = &["old", "done", "gone"];
const FORWARDING: i64 = 3;
const WEBHOOKS: i64 = 4;
const RELAY: i64 = 6;
const SIGNERS: i64 = 8;
const PURGES: i64 = 10;
const AUDIT: i64 = 11;
const SEARCH: i64 = 12;
const KEY_ROTATION: i64 = 13;
const ROW_KEYS: i64 = 14;
const SEARCH_WAITING: i64 = 17;
/// From which version on whose record a message is on is among its people.
const OWNERS: i64 = 21;
const CLOCK: i64 = 22;

const EARLIER_ACCOUNT: &[(i64, &str)] = &[
    (
        1,
        "INSERT INTO accounts (account_id, name, settings, wrapped_key, created_at) VALUES ($1, 'Earlier', '{}', $2, 0)",
    ),
    (
        AUDIT,
        "INSERT INTO audit (account_id, seq, at, actor, action, object, hash) VALUES ($1, 1, 0, 'operator', 'earlier', 'contacts', $2)",
    ),
    (AUDIT, "INSERT INTO audit_heads (account_id, seq, hash) VALUES ($1, 1, $2)"),
    (
        1,
        "INSERT INTO users (account_id, user_id, name, role, sync_state, sync_local, created_at)
         SELECT $1, $1, 'Earlier user', 'doctor', 'on', 'earlier-zzzzzzzzzzzz', 7 WHERE length($2) = 32",
    ),
    (
        1,
        "INSERT INTO sync_addresses (account_id, local_part, user_id, state, created_at)
         SELECT $1, 'earlier-zzzzzzzzzzzz', $1, 'active', 7 WHERE length($2) = 32",
    ),
    (
        1,
        "INSERT INTO user_emails (account_id, email_key, user_id, address, verified_at)
         SELECT $1, 'earlier@praxis.test', $1, 'Earlier@praxis.test', 7 WHERE length($2) = 32",
    ),
    (
        1,
        "INSERT INTO thread_ids (account_id, message_id_header, conversation_id, is_own)
         SELECT $1, 'earlier@praxis.test', $1, TRUE WHERE length($2) = 32",
    ),
    (
        1,
        "INSERT INTO daily_filings (account_id, user_id, day, filings) SELECT $1, $1, 7, 9 WHERE length($2) = 32",
    ),
    (
        1,
        "INSERT INTO deliveries (account_id, delivery_id, at, peer, helo, size_bytes, outcome, reason, smtp, steps)
         SELECT $1, $1, 7, '192.0.2.7', 'earlier.test', 9, 'held', 'earlier', '250 2.1.5', '[]' WHERE length($2) = 32",
    ),
    (
        1,
        "INSERT INTO delivery_addresses (account_id, address_hash, role, delivery_id) VALUES ($1, $2, 'from', $1)",
    ),
    (
        1,
        "INSERT INTO held (account_id, delivery_id, at, reason, why, expires_at, headers, size_bytes, content_key, raw,
         message_id_header, digest) VALUES ($1, $1, 7, 'earlier', 'why', 9, '{}', 9, $2, $2, 'earlier@praxis.test', $2)",
    ),
    (
        1,
        "INSERT INTO events (account_id, event_id, type, at, delivery_id, data)
         SELECT $1, $1, 'earlier', 7, $1, '{}' WHERE length($2) = 32",
    ),
    (
        1,
        "INSERT INTO tokens (account_id, token_id, name, scopes, token_hash, created_at) VALUES ($1, $1, 'earlier', '[]', $2, 7)",
    ),
    (
        1,
        "INSERT INTO idempotency_keys (account_id, key, request_hash, status, response, created_at)
         VALUES ($1, 'earlier', $2, 201, '{}', 7)",
    ),
    (
        WEBHOOKS,
        "INSERT INTO webhooks (account_id, webhook_id, url, events, detail, state, secret_key, secret, passed, leased_until, created_at)
         VALUES ($1, $1, 'https://earlier.test/', '[]', 'meta', 'off', $2, $2, $1, 0, 7)",
    ),
    (
        WEBHOOKS,
        "INSERT INTO webhook_deliveries (account_id, webhook_id, event_id, state, failed, due_at)
         SELECT $1, $1, $1, 'dead', 3, 7 WHERE length($2) = 32",
    ),
    (
        RELAY,
        "INSERT INTO relay_jobs (account_id, job_id, kind, state, attempts, next_at, created_at, last_reply)
         SELECT $1, $1, 'digest', 'sent', 1, 7, 7, 'earlier' WHERE length($2) = 32",
    ),
    (
        FORWARDING,
        "INSERT INTO forwarding_confirmations (account_id, user_id, code, link, at)
         SELECT $1, $1, '7777', 'https://mail.earlier.test/', 7 WHERE length($2) = 32",
    ),
    (
        WEBHOOKS,
        "INSERT INTO webhook_attempts (account_id, webhook_id, attempt_id, event_id, event_type, at, outcome, status, error, duration_ms, next_at)
         SELECT $1, $1, $1, $1, 'earlier', 7, 'dead', 500, 'status', 8, 9 WHERE length($2) = 32",
    ),
    (RELAY, "INSERT INTO relay_digests (account_id, user_id, day, at) SELECT $1, $1, 7, 9 WHERE length($2) = 32"),
    (
        RELAY,
        "INSERT INTO email_confirmations (account_id, confirmation_id, user_id, email_key, created_at, expires_at, used_at)
         SELECT $1, $1, $1, 'earlier@praxis.test', 7, 9, 8 WHERE length($2) = 32",
    ),
    (
        SIGNERS,
        "INSERT INTO remembered_signers (account_id, email_key, domain, user_id, address, at)
         SELECT $1, 'earlier@praxis.test', 'earlier.test', $1, 'Earlier@praxis.test', 7 WHERE length($2) = 32",
    ),
    (PURGES, "INSERT INTO tombstones (account_id, hash, erased_at) VALUES ($1, $2, 7)"),
    (PURGES, "INSERT INTO erased_blobs (account_id, blob) SELECT $1, 'earlier' WHERE length($2) = 32"),
    (
        KEY_ROTATION,
        "INSERT INTO retired_account_keys (account_id, key_number, wrapped_key, retired_at) VALUES ($1, 7, $2, 9)",
    ),
    (ROW_KEYS, "INSERT INTO row_keys (account_id, wrapped, sealed_at) VALUES ($1, $2, 7)"),
    (CLOCK, "INSERT INTO clock_mark (account_id, believed_at) SELECT $1, 7 WHERE length($2) = 32"),
];

/// What was in the account that no migration changes.
const KEPT: &[(i64, &str)] = &[
    (
        1,
        "SELECT count(*) FROM users WHERE name = 'Earlier user' AND role = 'doctor' AND sync_state = 'on' AND created_at = 7",
    ),
    (1, "SELECT count(*) FROM user_emails WHERE address = 'Earlier@praxis.test' AND verified_at = 7"),
    (1, "SELECT count(*) FROM thread_ids WHERE message_id_header = 'earlier@praxis.test' AND is_own"),
    (1, "SELECT count(*) FROM daily_filings WHERE day = 7 AND filings = 9"),
    (
        1,
        "SELECT count(*) FROM deliveries WHERE helo = 'earlier.test' AND at = 7 AND size_bytes = 9 AND steps = '[]'",
    ),
    (1, "SELECT count(*) FROM delivery_addresses WHERE length(address_hash) = 32 AND role = 'from'"),
    (
        1,
        "SELECT count(*) FROM held WHERE reason = 'earlier' AND length(raw) = 32 AND length(digest) = 32 AND expires_at = 9",
    ),
    (1, "SELECT count(*) FROM events WHERE type = 'earlier' AND data = '{}' AND delivery_id IS NOT NULL"),
    (1, "SELECT count(*) FROM tokens WHERE name = 'earlier' AND length(token_hash) = 32"),
    (
        1,
        "SELECT count(*) FROM idempotency_keys WHERE key = 'earlier' AND status = 201 AND length(request_hash) = 32",
    ),
    (
        WEBHOOKS,
        "SELECT count(*) FROM webhooks WHERE url = 'https://earlier.test/' AND state = 'off' AND length(secret) = 32",
    ),
    (WEBHOOKS, "SELECT count(*) FROM webhook_deliveries WHERE state = 'dead' AND failed = 3"),
    (
        RELAY,
        "SELECT count(*) FROM relay_jobs WHERE last_reply = 'earlier' AND state = 'sent' AND message_id IS NULL",
    ),
    (
        1,
        "SELECT count(*) FROM sync_marks WHERE user_id = account_id AND state = 'off' AND since = 7 AND because = 'old' AND last_mail_at = 9
         AND EXISTS (SELECT 1 FROM contacts c WHERE c.contact_id = sync_marks.contact_id AND c.name = 'old')",
    ),
    (
        FORWARDING,
        "SELECT count(*) FROM forwarding_confirmations
         WHERE user_id = account_id AND code = '7777' AND link = 'https://mail.earlier.test/' AND at = 7",
    ),
    (
        WEBHOOKS,
        "SELECT count(*) FROM webhook_attempts
         WHERE webhook_id = account_id AND attempt_id = account_id AND event_id = account_id AND event_type = 'earlier' AND at = 7
         AND outcome = 'dead' AND status = 500 AND error = 'status' AND duration_ms = 8 AND next_at = 9",
    ),
    (RELAY, "SELECT count(*) FROM relay_digests WHERE user_id = account_id AND day = 7 AND at = 9"),
    (
        RELAY,
        "SELECT count(*) FROM email_confirmations WHERE confirmation_id = account_id AND user_id = account_id
         AND email_key = 'earlier@praxis.test' AND created_at = 7 AND expires_at = 9 AND used_at = 8",
    ),
    (
        SIGNERS,
        "SELECT count(*) FROM remembered_signers WHERE user_id = account_id AND email_key = 'earlier@praxis.test'
         AND domain = 'earlier.test' AND address = 'Earlier@praxis.test' AND at = 7",
    ),
    (PURGES, "SELECT count(*) FROM tombstones WHERE length(hash) = 32 AND erased_at = 7"),
    (PURGES, "SELECT count(*) FROM erased_blobs WHERE blob = 'earlier'"),
    (
        KEY_ROTATION,
        "SELECT count(*) FROM retired_account_keys WHERE key_number = 7 AND length(wrapped_key) = 32 AND retired_at = 9",
    ),
    (ROW_KEYS, "SELECT count(*) FROM row_keys WHERE length(wrapped) = 32 AND sealed_at = 7"),
    (CLOCK, "SELECT count(*) FROM clock_mark WHERE believed_at = 7"),
];

/// Of which versions and which messages.
const EARLIER_ROWS: &[(RangeInclusive<i64>, &[&str], &str)] = &[
    (
        1..=i64::MAX,
        ALL,
        "INSERT INTO contacts (account_id, contact_id, name, name_key, email, email_key, other_emails, created_by, created_at)
         VALUES ($1, $2, $3, $3, $3 || '@patient.test', $3 || '@patient.test', '[]', 'api', 0)",
    ),
    (
        1..=i64::MAX,
        ALL,
        "INSERT INTO conversations (account_id, conversation_id, contact_id, subject, created_at, last_at)
         VALUES ($1, $2, $2, $3, 0, 0)",
    ),
    (
        1..=i64::MAX,
        ALL,
        "INSERT INTO messages (account_id, message_id, conversation_id, contact_id, direction, kind, sender, subject, sent_at,
         received_at, message_id_header, text, new_text, has_html, flags, attachments, digest, size_bytes)
         VALUES ($1, $2, $2, $2, 'inbound', 'mail', 'verified', $3, 0, 0, $3, '', '', FALSE, '[]', '[]', '\\x00', 1)",
    ),
    (
        OWNERS..=i64::MAX,
        ALL,
        "INSERT INTO participants (account_id, message_id, position, role, email, contact_id, sent_at)
         VALUES ($1, $2, 0, 'from', $3 || '@patient.test', $2, 0)",
    ),
    (
        1..=i64::MAX,
        &["old"],
        "INSERT INTO sync_marks (account_id, contact_id, user_id, state, since, because, last_mail_at)
         SELECT $1, $2, $1, 'off', 7, $3, 9",
    ),
    (
        PURGES..=i64::MAX,
        &["gone"],
        "INSERT INTO purges (account_id, purge_id, kind, subject_id, passed, actor, messages, attachments, bytes, blobs, held,
         deliveries, begun_at) SELECT $1, $2, 'message', $2, contact_id, 'operator', 0, 0, 0, 0, 0, 0, 0 FROM contacts
         WHERE account_id = $1 AND name = 'old' AND $3 <> ''",
    ),
    (
        SEARCH..=i64::MAX,
        &["done", "gone"],
        "INSERT INTO search_filing (account_id, message_id, place, words, people) VALUES ($1, $2, 5, '00000w' || $3, '')",
    ),
    (
        SEARCH..=SEARCH_WAITING - 1,
        &["done"],
        "INSERT INTO search_backlog (account_id, below) SELECT $1, $2 WHERE $3 <> ''",
    ),
    (
        SEARCH_WAITING..=i64::MAX,
        &["done", "gone"],
        "DELETE FROM search_waiting WHERE account_id = $1 AND message_id = $2 AND $3 <> ''",
    ),
];

/// Both folders of an engine, in order of version.
async fn migrator(engine: Engine) -> Migrator {
    let own = match engine {
        Engine::Postgres => "postgres",
        Engine::Sqlite => "sqlite",
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/migrations");
    let common = Migrator::new(folder.join("common")).await.unwrap();
    let own = Migrator::new(folder.join(own)).await.unwrap();
    Migrator::with_migrations(common.iter().chain(own.iter()).cloned().collect())
}

async fn every_key_leads_with_the_account(engine: Engine) {
    let mut world = World::on(engine).await;
    let (primary, foreign) = match engine {
        Engine::Postgres => (
            "SELECT c.relname::text, (SELECT a.attname::text FROM pg_index i JOIN pg_attribute a
             ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] WHERE i.indrelid = c.oid AND i.indisprimary)
             FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace",
            "SELECT k.conrelid::regclass::text, a.attname::text || ' ' || b.attname::text FROM pg_constraint k
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
             JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = k.confkey[1] WHERE k.contype = 'f'",
        ),
        Engine::Sqlite => (
            "SELECT m.name, (SELECT c.name FROM pragma_table_info(m.name) c WHERE c.pk = 1) FROM sqlite_master m
             WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' AND m.name NOT LIKE 'search_terms%' AND m.name <> 'search_documents'",
            "SELECT m.name, f.\"from\" || ' ' || f.\"to\" FROM sqlite_master m, pragma_foreign_key_list(m.name) f
             WHERE m.type = 'table' AND f.seq = 0",
        ),
    };
    let tables: Vec<(String, Option<String>)> = world.rows(primary).await;
    assert!(tables.len() > 10, "{tables:?}");
    for (table, first) in tables.iter().filter(|(table, _)| table != "_sqlx_migrations") {
        assert_eq!(first.as_deref(), Some("account_id"), "the primary key of {table}");
    }
    let keys: Vec<(String, String)> = world.rows(foreign).await;
    assert!(keys.len() > 5, "{keys:?}");
    for (table, columns) in keys {
        assert_eq!(columns, "account_id account_id", "a foreign key of {table}");
    }
}

/// Every joined table is bound to the account of what it is joined to.
#[test]
fn r4_no_statement_joins_across_accounts() {
    let mut joins = 0;
    for path in rust_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let code: String = text
            .lines()
            .take_while(|line| !line.starts_with("#[cfg(test)]"))
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n");
        for (at, _) in code.match_indices("JOIN ") {
            let rest = code.get(at + 5..).unwrap();
            let mut words = rest.split_whitespace();
            let (table, alias) = (words.next().unwrap(), words.next().unwrap());
            let near: String = rest.chars().take(500).collect();
            assert!(
                near.contains(&format!("{alias}.account_id = ")),
                "{}: JOIN {table} {alias}",
                path.display()
            );
            joins += 1;
        }
    }
    assert!(joins > 10, "{joins}");
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

#[tokio::test]
async fn a_postgres_schema_that_is_behind_is_refused_until_somebody_migrates() {
    if !Engine::Postgres.is_there() {
        return;
    }
    let (_folder, settings) = place(Engine::Postgres).await;
    let keys = std::sync::Arc::new(syncmx::keys::Keys::generate().unwrap());
    let behind = Store::open(&settings, keys.clone(), served()).await.unwrap_err();
    assert!(matches!(behind, StoreError::SchemaBehind { .. }), "{behind:?}");
    assert!(behind.one_line().contains("run `syncmx migrate`"), "{}", behind.one_line());
    // Nodes that start together.
    let (one, other) = tokio::join!(Store::migrate(&settings), Store::migrate(&settings));
    assert_eq!(one.unwrap(), other.unwrap());
    Store::open(&settings, keys, served()).await.unwrap();
}

/// As it is where `migrate` runs as the owner of the tables, and `serve` as a role of its own.
#[tokio::test]
async fn a_role_that_does_not_own_the_tables_does_all_but_sort_the_search_index() {
    if !Engine::Postgres.is_there() {
        return;
    }
    let mut world = World::on(Engine::Postgres).await;
    let owned = world.store.sort_terms_in().await;
    owned.unwrap();
    let role = format!("serving_{}", Uuid::now_v7().simple());
    for sql in [
        format!("CREATE ROLE {role} LOGIN"),
        format!("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"),
    ] {
        let sql = sqlx::AssertSqlSafe(sql);
        on!(&mut world.other, |other| sqlx::query(sql).execute(other).await.map(|_| ())).unwrap();
    }
    let StoreUrl::Postgres(url) = &world.settings.url else { return };
    let url = url.to_string().replace("syncmx@", &format!("{role}@"));
    world.settings.url = StoreUrl::Postgres(url.parse().unwrap());
    world.reopen().await;
    let filed = world.file(email("1@praxis.test", USER, &["ana@patient.test"])).await.unwrap();
    assert_eq!(filed.decided[0].1.outcome(), Outcome::Filed);
    while world.store.index_some(&mut None, Piece::WHOLE).await.unwrap() {}
    let query = SearchQuery::parse("about").unwrap();
    let found = world.store.search(world.account, &query, SearchFilter::default(), Slice::first(9)).await;
    assert_eq!(found.unwrap().items.len(), 1);
    let refused = world.store.sort_terms_in().await.unwrap_err();
    assert!(refused.is_forbidden(), "{}", refused.one_line());
}

/// Else it takes the first index that begins with the account, and reads all contacts of that for each mail.
#[tokio::test]
async fn postgres_is_made_to_count_the_contacts_that_filing_looks_for() {
    if !Engine::Postgres.is_there() {
        return;
    }
    let mut world = World::on(Engine::Postgres).await;
    world.add_contact("ana@patient.test").await;
    world
        .run(
            "INSERT INTO contacts (account_id, contact_id, name, name_key, email, email_key, other_emails, created_by, created_at)
             SELECT account_id, gen_random_uuid(), name, name_key, n || email, n || email_key, other_emails, created_by, created_at
             FROM contacts, generate_series(1, 299) AS n",
        )
        .await;
    world.file(email("1@praxis.test", USER, &["ana@patient.test"])).await.unwrap();
    let counted = "SELECT max(reltuples)::bigint FROM pg_class JOIN pg_stats ON tablename = relname
                   WHERE relname = 'contacts' AND attname = 'account_id' AND n_distinct = 1";
    assert_eq!(world.count(counted).await, 300);
    let told =
        "SELECT count(*) FROM pg_attribute WHERE attname = 'account_id' AND attoptions = '{n_distinct=1}'";
    assert_eq!(world.count(told).await, 12, "as many as filing looks into");
}

/// Where most accounts have a row or a few, it takes every account for so small that any index will do which begins with
/// it.
#[tokio::test]
async fn postgres_goes_by_the_whole_key_in_a_large_account_among_small_ones() {
    if !Engine::Postgres.is_there() {
        return;
    }
    for others in [
        "SELECT gen_random_uuid() FROM generate_series(1, 3000)",
        "SELECT a FROM (SELECT gen_random_uuid() AS a, n FROM generate_series(1, 1500) AS n) AS one
         CROSS JOIN generate_series(0, 2) AS k WHERE k <= n % 3 ORDER BY a",
        "SELECT a FROM (SELECT gen_random_uuid() AS a FROM generate_series(1, 200)) AS one CROSS JOIN generate_series(1, 20)",
    ] {
        let mut world = World::on(Engine::Postgres).await;
        world.file(email("1@praxis.test", USER, &["ana@patient.test"])).await.unwrap();
        // Rows alone, without what stands around a message; long Message-IDs make the right index the taller one.
        let others = format!(
            "INSERT INTO messages SELECT (jsonb_populate_record(m, jsonb_build_object(
                 'account_id', a, 'message_id', gen_random_uuid(), 'message_id_header', gen_random_uuid() || repeat('x', 200)))).*
             FROM messages m CROSS JOIN ({others}) AS others (a)"
        );
        for sql in [
            "SET session_replication_role = replica",
            "ALTER TABLE messages SET (autovacuum_enabled = off)",
            others.as_str(),
            "ANALYZE messages",
            "INSERT INTO messages SELECT (jsonb_populate_record(m, jsonb_build_object(
                 'message_id', gen_random_uuid(), 'conversation_id', gen_random_uuid(), 'message_id_header', n || repeat('x', 200)))).*
             FROM messages m JOIN accounts a ON a.account_id = m.account_id CROSS JOIN generate_series(1, 2000) AS n",
        ] {
            let sql = sqlx::AssertSqlSafe(sql.to_owned());
            on!(&mut world.other, |other| sqlx::query(sql).execute(other).await.map(|_| ())).unwrap();
        }
        world.store.close().await;
        world.reopen().await;
        world.file(email("2@praxis.test", USER, &["ana@patient.test"])).await.unwrap();
        world.store.close().await;
        // What a connection has read is counted when it ends.
        let closed = Instant::now();
        while world.count("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()").await
            > 1
        {
            assert!(closed.elapsed() < Duration::from_secs(60), "a connection stays");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let read = "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname = 'messages'";
        assert!(world.count(read).await < 100, "{} among {others}", world.count(read).await);
    }
}

#[tokio::test]
async fn an_export_outlasts_a_message_that_takes_longer_to_read_than_a_transaction_may_be_idle() {
    if !Engine::Postgres.is_there() {
        return;
    }
    let world = World::on(Engine::Postgres).await;
    let mut snapshot = world.store.snapshot(world.account).await.unwrap().unwrap();
    // The server ends others after 15 seconds; a bucket is given 20.
    tokio::time::sleep(Duration::from_secs(17)).await;
    assert_eq!(snapshot.lines(Kind::Users, None).await.unwrap().lines.len(), 1);
}

/// A server of the test's own.
async fn own_server() -> Option<(server::Cluster, World)> {
    let cluster = server::Cluster::start()?;
    let (folder, sqlite) = place(Engine::Sqlite).await;
    let url = StoreUrl::Postgres(cluster.database().await.parse().unwrap());
    let settings = config::Store { url, ..sqlite };
    Some((cluster, World::in_place(Engine::Postgres, folder, settings).await))
}

/// Sent again until it is answered, as a sender does.
async fn retry(world: &World, id: &str) -> Decision {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        match world.file(email(id, USER, &["ana@patient.test"])).await {
            Ok(filed) => return filed.decided[0].1.clone(),
            Err(error) => {
                assert!(Instant::now() < deadline, "the store never recovers: {}", error.one_line())
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn connect_again(world: &mut World) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let StoreUrl::Postgres(url) = &world.settings.url else { return };
    while server::try_connect(&url.to_string()).await.is_err() {
        assert!(Instant::now() < deadline, "the server is not there again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    world.other = beside(&world.settings.url).await;
}

#[tokio::test]
async fn x2_a_server_that_dies_loses_nothing_and_is_used_again_when_it_is_back() {
    let Some((cluster, mut world)) = own_server().await else { return };
    assert_eq!(retry(&world, "before@praxis.test").await.outcome(), Outcome::Filed);
    cluster.signal("KILL");
    let failed = world.file(email("during@praxis.test", USER, &["ana@patient.test"])).await;
    let during = retry(&world, "during@praxis.test").await.outcome();
    assert_eq!(during, if failed.is_ok() { Outcome::Duplicate } else { Outcome::Filed });
    connect_again(&mut world).await;
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 2);
    assert_eq!(retry(&world, "before@praxis.test").await.outcome(), Outcome::Duplicate);
    world.store.ping().await.unwrap();
    // It listens again, too.
    let old = ask(&format!("{SYNC_LOCAL}@sync.example.test"));
    let listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'";
    let deadline = Instant::now() + Duration::from_secs(60);
    while world.count(listening).await == 0 {
        assert!(Instant::now() < deadline, "it listens no more");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(world.store.mailbox(&old).await.unwrap(), Lookup::Found(world.sync_mailbox()));
}

#[tokio::test]
async fn x3_a_server_that_hangs_is_an_error_and_the_retry_is_filed_once() {
    let Some((cluster, mut world)) = own_server().await else { return };
    assert_eq!(retry(&world, "before@praxis.test").await.outcome(), Outcome::Filed);
    world.store.forget_addresses();
    cluster.signal("STOP");
    let asked = ask(&format!("{SYNC_LOCAL}@sync.example.test"));
    let filing = world.file(email("during@praxis.test", USER, &["ana@patient.test"]));
    let answers = async { tokio::join!(filing, world.store.mailbox(&asked)) };
    let answers = tokio::time::timeout(Duration::from_secs(60), Box::pin(answers)).await;
    cluster.signal("CONT");
    let (filed, found) = answers.expect("a session would have waited for more than a minute");
    assert!(filed.is_err(), "{filed:?}");
    assert!(found.is_err(), "{found:?}");
    assert_eq!(retry(&world, "after@praxis.test").await.outcome(), Outcome::Filed);
    retry(&world, "during@praxis.test").await;
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 3);
    assert_eq!(world.store.mailbox(&asked).await.unwrap(), Lookup::Found(world.sync_mailbox()));
}

/// The server takes longer over the commit than we wait, and does it all the same.
#[tokio::test]
async fn a_commit_whose_answer_never_comes_is_an_error_and_its_retry_a_duplicate() {
    if !Engine::Postgres.is_there() {
        return;
    }
    let mut world = World::on(Engine::Postgres).await;
    assert_eq!(retry(&world, "before@praxis.test").await.outcome(), Outcome::Filed);
    world.run("CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(9); RETURN NULL; END'").await;
    world.run("CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON messages DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slowly()").await;
    let filed = world.file(email("late@praxis.test", USER, &["ana@patient.test"])).await;
    assert!(filed.is_err(), "{filed:?}");
    // Waits for the commit that is under way.
    world.run("DROP TRIGGER slow ON messages").await;
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 2, "the server did commit");
    assert_eq!(retry(&world, "late@praxis.test").await.outcome(), Outcome::Duplicate);
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 2);
}

/// Somebody who does not take the account's lock files the same mail in between: the unique key tells.
#[tokio::test]
async fn a_filing_that_was_beaten_is_decided_anew_and_found_to_be_a_duplicate() {
    if !Engine::Postgres.is_there() {
        return;
    }
    let mut world = World::on(Engine::Postgres).await;
    assert_eq!(retry(&world, "1@praxis.test").await.outcome(), Outcome::Filed);
    world.run("BEGIN").await;
    world.run("INSERT INTO messages (account_id, message_id, conversation_id, contact_id, direction, kind, sender, subject, sent_at,
        received_at, message_id_header, text, new_text, has_html, flags, attachments, digest, size_bytes)
        SELECT account_id, gen_random_uuid(), conversation_id, contact_id, direction, kind, sender, subject, sent_at, received_at,
        '2@praxis.test', text, new_text, has_html, flags, attachments, decode(rpad(encode('2@praxis.test', 'hex'), 64, '0'), 'hex'),
        size_bytes FROM messages").await;
    let store = world.store.clone();
    let submission = world.submit(email("2@praxis.test", USER, &["ana@patient.test"]));
    let filing = tokio::spawn(async move { store.file(submission).await });
    // It has not seen the other's row, and waits at the key for what becomes of it.
    let deadline = Instant::now() + Duration::from_secs(30);
    while world.count("SELECT count(*) FROM pg_locks WHERE NOT granted").await == 0 {
        assert!(Instant::now() < deadline && !filing.is_finished(), "it does not wait");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.run("COMMIT").await;
    let filed = filing.await.unwrap().unwrap();
    assert_eq!(filed.decided[0].1.outcome(), Outcome::Duplicate);
    assert_eq!(
        world.count("SELECT count(*) FROM messages WHERE message_id_header = '2@praxis.test'").await,
        1
    );
}

on_both_engines! {
    two_nodes_file_one_mail_once,
    r62_an_address_that_one_node_rotates_away_is_refused_by_the_other,
    a_change_waits_for_a_filing_in_its_account_and_both_are_done,
    events_come_behind_the_last_one_whatever_the_clocks_say,
    a_nul_in_a_mail_reaches_no_row,
    a_migration_keeps_the_data_of_every_version_before,
    every_key_leads_with_the_account,
}
