//! The search, on a real SQLite file and a real PostgreSQL server: what stands in a message finds it, for its account
//! alone, until it is erased; and both engines answer the same.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops where it fails")]
#![expect(clippy::cognitive_complexity, reason = "a test asserts much, one thing after another")]

#[path = "support/store_world.rs"]
mod store_world;

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, stream};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use store_world::*;
use syncmx::address::{Mailbox, UserMailbox};
use syncmx::filing::{Decision, Outcome};
use syncmx::id::{AccountId, ContactId, UserId};
use syncmx::message::Email;
use syncmx::store::directory::{NewReplyAddress, PurgeOf};
use syncmx::store::search::{Piece, SearchQuery, WAITING_MAX};
use syncmx::store::views::{Hit, Page, SearchFilter, Slice};
use syncmx::time::Timestamp;
use uuid::Uuid;

const ANA: &str = "ana@patient.test";

fn written(id: &str, subject: &str, text: &str) -> Email {
    let mut mail = email(id, USER, &[ANA]);
    mail.subject = subject.to_owned();
    mail.reply.new_text = text.into();
    mail
}

async fn find_in(
    world: &World,
    account: AccountId,
    query: &str,
    filter: SearchFilter,
    slice: Slice,
) -> Page<Hit> {
    let query = SearchQuery::parse(query).unwrap_or_else(|bad| panic!("{query}: {bad}"));
    while world.store.index_some(&mut None, Piece::WHOLE).await.unwrap() {}
    world.store.search(account, &query, filter, slice).await.unwrap()
}

/// The subjects of all that is found, newest first.
async fn find(world: &World, query: &str) -> Vec<String> {
    let page = find_in(world, world.account, query, SearchFilter::default(), Slice::first(200)).await;
    assert_eq!(page.next, None);
    page.items.into_iter().map(|hit| hit.subject).collect()
}

/// The same of what is indexed by now.
async fn found(world: &World, query: &str) -> Vec<String> {
    let query = SearchQuery::parse(query).unwrap();
    let page = world.store.search(world.account, &query, SearchFilter::default(), Slice::first(200)).await;
    page.unwrap().items.into_iter().map(|hit| hit.subject).collect()
}

async fn what_is_filed_is_found_by_what_is_written(engine: Engine) {
    let world = World::on(engine).await;
    for (id, subject, text) in [
        ("1@praxis.test", "Röntgen", "Ihr linkes Knie schmerzt.\nKommen Sie am Montag."),
        ("2@praxis.test", "Rechnung 4711", "Das Knie links, nicht rechts"),
        ("3@praxis.test", "診断書", "日本語の診断書を送ります"),
        ("4@praxis.test", "นัดหมาย", "ปวดหัวมาก"),
    ] {
        world.file(written(id, subject, text)).await.unwrap();
    }
    for (query, subjects) in [
        ("knie", &["Rechnung 4711", "Röntgen"][..]),
        ("KNIE montag", &["Röntgen"]),
        ("rontgen", &["Röntgen"]),
        ("\"knie links\"", &["Rechnung 4711"]),
        ("\"linkes knie\" -rechts", &["Röntgen"]),
        ("knie -\"knie links\"", &["Röntgen"]),
        ("knie -rech*", &["Röntgen"]),
        ("schmer*", &["Röntgen"]),
        ("schmer", &[]),
        ("471*", &["Rechnung 4711"]),
        ("診断書", &["診断書"]),
        ("本語", &["診断書"]),
        ("送", &["診断書"]),
        ("断診", &[]),
        ("ปวดหัว", &["นัดหมาย"]),
        ("หัว", &["นัดหมาย"]),
        ("to:ANA@patient.test knie -montag", &["Rechnung 4711"]),
        ("from:ana@patient.test", &[]),
        ("'knie' OR \"x", &[]),
        ("search_terms:knie", &[]),
        ("knie) OR (a:*", &[]),
        ("(knie)", &["Rechnung 4711", "Röntgen"]),
        ("knie & ! | <-> :*", &["Rechnung 4711", "Röntgen"]),
        ("NEAR(knie, 3)", &[]),
    ] {
        assert_eq!(find(&world, query).await, subjects, "{query}");
    }
    assert_eq!(find(&world, &format!("from:{USER}")).await.len(), 4);
}

/// Of many scripts, with all sorts of things between the words.
fn random_texts() -> Vec<String> {
    let word = "[a-zA-Z0-9]{1,12}|[äöüßéèñçőłøÀÉŠ]{1,6}|[а-яА-Яёй]{1,9}|[α-ωΑ-Ωάή]{1,9}|[\u{4e00}-\u{4e20}]{1,5}|[ก-ฮ]{1,7}|[가-깋]{1,4}|[أ-ي]{1,7}|[अ-ह]{1,5}|[a-z]{58,70}|\\PC{1,8}";
    let texts =
        proptest::collection::vec(proptest::collection::vec((word, "[ \n\t,.;:!?'\"()*-]{1,3}"), 1..12), 60);
    let mut runner = TestRunner::deterministic();
    let texts = texts.new_tree(&mut runner).unwrap().current();
    let joined =
        |pairs: Vec<(String, String)>| pairs.into_iter().map(|(word, gap)| word + " " + &gap).collect();
    texts.into_iter().map(joined).collect()
}

async fn every_word_of_a_message_finds_it(engine: Engine) {
    let world = World::on(engine).await;
    let texts = random_texts();
    for (n, text) in texts.iter().enumerate() {
        world.file(written(&format!("{n}@praxis.test"), &n.to_string(), text)).await.unwrap();
    }
    while world.store.index_some(&mut None, Piece::WHOLE).await.unwrap() {}
    let mut asked = 0;
    for (n, text) in texts.iter().enumerate() {
        for word in text.split_whitespace().map(|word| word.trim_start_matches('-')) {
            let Ok(query) = SearchQuery::parse(word) else { continue };
            let page =
                world.store.search(world.account, &query, SearchFilter::default(), Slice::first(200)).await;
            let subjects: Vec<String> = page.unwrap().items.into_iter().map(|hit| hit.subject).collect();
            assert!(subjects.contains(&n.to_string()), "{word:?} of {text:?} finds {subjects:?}");
            asked += 1;
        }
    }
    assert!(asked > 200, "{asked}");
}

async fn r4_an_account_finds_its_own_alone_even_with_the_same_letters_before_its_terms(engine: Engine) {
    let mut world = World::on(engine).await;
    let twin =
        |n: u64| AccountId::from_uuid(Uuid::from_u64_pair(Uuid::now_v7().as_u64_pair().0 + n, 7 << 60));
    let (one, other) = (twin(1), twin(2));
    for (account, local) in [(one, "one-0123456789ab"), (other, "two-0123456789ab")] {
        let user = UserId::generate();
        world.add_account(account, user, local, USER).await;
        let mail = written("same@praxis.test", local, "The same words");
        let mailbox = Mailbox::Sync(UserMailbox { account, user });
        world.store.file(submission(mail, vec![mailbox], b"x\r\n".to_vec())).await.unwrap();
    }
    let filter = SearchFilter::default();
    for query in ["same", "sam*", "\"same words\"", "to:ana@patient.test", "words -other"] {
        for (account, local) in [(one, "one-0123456789ab"), (other, "two-0123456789ab")] {
            let found = find_in(&world, account, query, filter, Slice::first(10)).await.items;
            assert_eq!(found.iter().map(|hit| hit.subject.as_str()).collect::<Vec<_>>(), [local], "{query}");
        }
        assert_eq!(find(&world, query).await, [""; 0], "{query}");
    }
    let record = find_in(&world, one, "same", filter, Slice::first(1)).await.items.remove(0);
    for filter in [
        SearchFilter { contact: Some(record.contact), conversation: None },
        SearchFilter { contact: None, conversation: Some(record.conversation) },
    ] {
        assert_eq!(find_in(&world, one, "same", filter, Slice::first(1)).await.items.len(), 1);
        assert_eq!(find_in(&world, other, "same", filter, Slice::first(1)).await.items.len(), 0);
    }
}

async fn answers_come_newest_first_in_parts_that_miss_and_repeat_nothing(engine: Engine) {
    let world = World::on(engine).await;
    // Of the same second the one that was filed later is newer, but for a record, which goes by milliseconds as the
    // timeline does; some are filed long after they were sent.
    let sent = [5_000, 5_999, 5_000, 90_000, 1_000, 5_500, 90_000];
    for (n, at) in sent.iter().enumerate() {
        let mail = written(&format!("{n}@praxis.test"), &n.to_string(), "knee \"and\" pain");
        let mut mail = if n == 0 { mail } else { answer_to("0@praxis.test", mail) };
        mail.date = Some(Timestamp::from_millis(1_700_000_000_000 + at));
        world.file(mail).await.unwrap();
    }
    let everything =
        find_in(&world, world.account, "knee", SearchFilter::default(), Slice::first(200)).await.items;
    let filters = [
        SearchFilter::default(),
        SearchFilter { contact: Some(everything[0].contact), conversation: None },
        SearchFilter { contact: None, conversation: Some(everything[0].conversation) },
        SearchFilter { contact: Some(everything[0].contact), conversation: Some(everything[0].conversation) },
    ];
    assert_eq!(everything.iter().map(|hit| hit.conversation).collect::<BTreeSet<_>>().len(), 1);
    for filter in filters {
        let is_of_record = filter != SearchFilter::default();
        let of_index = ["6", "3", "5", "2", "1", "0", "4"];
        let expected = if is_of_record { ["6", "3", "1", "5", "2", "0", "4"] } else { of_index };
        for limit in 1..=8 {
            let mut slice = Slice::first(limit);
            let mut subjects = Vec::new();
            loop {
                let page = find_in(&world, world.account, "\"and pain\" knee", filter, slice).await;
                subjects.extend(page.items.into_iter().map(|hit| hit.subject));
                slice.after = page.next;
                if page.next.is_none() {
                    break;
                }
            }
            assert_eq!(subjects, expected, "{filter:?} {limit}");
        }
    }
}

async fn a_search_that_decides_on_many_candidates_stops_and_goes_on(engine: Engine) {
    let mut world = World::on(engine).await;
    world.run("UPDATE accounts SET settings = '{\"daily_limit\":10000}'").await;
    let mut first = written("first@praxis.test", "first", "pain knee");
    first.date = Some(Timestamp::from_millis(1_700_000_000_000));
    world.file(first).await.unwrap();
    let filings = (0..2_100).map(|n| world.file(written(&format!("{n}@praxis.test"), "other", "knee pain")));
    // No more at once than a server has sessions for.
    let mut filed = stream::iter(filings).buffer_unordered(64);
    while let Some(filed) = filed.next().await {
        filed.unwrap();
    }
    let phrase = "\"pain knee\"";
    let short = find_in(&world, world.account, phrase, SearchFilter::default(), Slice::first(10)).await;
    assert_eq!(short.items.len(), 0);
    let rest = Slice { limit: 10, after: short.next };
    assert!(rest.after.is_some());
    let page = find_in(&world, world.account, phrase, SearchFilter::default(), rest).await;
    assert_eq!(page.items.into_iter().map(|hit| hit.subject).collect::<Vec<_>>(), ["first"]);
    assert_eq!(page.next, None);
}

/// Whatever is in a mail, it is filed.
async fn a_mail_of_more_words_than_are_indexed_is_filed_and_found_by_the_first(engine: Engine) {
    let world = World::on(engine).await;
    // Each as long as a term gets, and all different: the most that an index is given.
    let word = |n: usize| format!("{n:0>60}");
    let text: String = (0..90_000).map(|n| word(n) + " ").collect();
    assert!(text.len() > 5_000_000);
    world.file(written("1@praxis.test", text.get(..60_000).unwrap(), &text)).await.unwrap();
    assert_eq!(find(&world, &word(0)).await.len(), 1);
    assert_eq!(find(&world, &word(4_000)).await.len(), 1);
    assert_eq!(find(&world, &word(10_000)).await.len(), 0);
    let no_words = "\u{1f600}".repeat(1_250_000);
    world.file(written("2@praxis.test", "smileys", &no_words)).await.unwrap();
    assert_eq!(find(&world, "smileys").await.len(), 1);
}

async fn messages_are_indexed_behind_their_filing_the_newest_first(engine: Engine) {
    let mut world = World::on(engine).await;
    for n in 0..70 {
        let mut mail = written(&format!("{n}@praxis.test"), &n.to_string(), "knee");
        mail.date = Some(Timestamp::from_millis(1_700_000_000_000 + n * 1_000));
        world.file(mail).await.unwrap();
    }
    assert_eq!(found(&world, "knee").await.len(), 0);
    let mut last = None;
    assert!(world.store.index_some(&mut last, Piece::WHOLE).await.unwrap());
    assert_eq!(last, Some(world.account));
    assert_eq!(found(&world, "knee").await, (6..70).rev().map(|n| n.to_string()).collect::<Vec<_>>());
    // What stops the server stops nothing; who searches need not wait for a turn.
    let mut mail = written("new@praxis.test", "new", "knee");
    mail.date = Some(Timestamp::from_millis(1_700_000_100_000));
    world.file(mail).await.unwrap();
    world.reopen().await;
    assert_eq!(found(&world, "knee").await.len(), 64);
    assert!(world.store.index_newest(world.account).await.unwrap());
    let expected: Vec<String> =
        ["new".to_owned()].into_iter().chain((0..70).rev().map(|n| n.to_string())).collect();
    assert_eq!(found(&world, "knee").await, expected);
    assert_eq!(found(&world, "knee to:ana@patient.test").await, expected);
    assert_eq!(world.count("SELECT count(*) FROM search_waiting").await, 0);
    assert!(!world.store.index_some(&mut last, Piece::WHOLE).await.unwrap());
}

/// While mail comes in faster than it is indexed.
async fn a_record_is_searched_whatever_of_it_is_indexed(engine: Engine) {
    let mut world = World::on(engine).await;
    let filed = world.file(written("1@praxis.test", "one", "The knee")).await.unwrap();
    let Decision::Filed(filing) = &filed.decided[0].1 else { panic!("{filed:?}") };
    let (contact, conversation) = (Some(filing.contact.id()), Some(filing.thread.id()));
    let mut elsewhere = written("2@praxis.test", "two", "The knee");
    elsewhere.to = vec![named("bea@patient.test")];
    elsewhere.cc = vec![named(ANA)];
    world.file(elsewhere).await.unwrap();
    let query = SearchQuery::parse("knee").unwrap();
    for (contact, conversation, subjects) in [
        (contact, None, &["two", "one"][..]),
        (None, conversation, &["one"]),
        (contact, conversation, &["one"]),
        (Some(ContactId::generate()), conversation, &[]),
        (Some(ContactId::generate()), None, &[]),
        (None, None, &[]),
    ] {
        let filter = SearchFilter { contact, conversation };
        let page = world.store.search(world.account, &query, filter, Slice::first(9)).await.unwrap();
        let found: Vec<&str> = page.items.iter().map(|hit| hit.subject.as_str()).collect();
        assert_eq!(found, subjects, "{filter:?}");
    }
    assert_eq!(world.count("SELECT count(*) FROM search_waiting").await, 2);
}

async fn what_waits_is_counted_as_far_as_it_is_worth_it(engine: Engine) {
    let mut world = World::on(engine).await;
    assert_eq!(world.store.waiting_for_search().await.unwrap(), 0);
    world.file(written("1@praxis.test", "one", "knee")).await.unwrap();
    assert_eq!(world.store.waiting_for_search().await.unwrap(), 1);
    assert_eq!(WAITING_MAX, 10_001);
    let many = match engine {
        Engine::Postgres => {
            "INSERT INTO search_waiting SELECT gen_random_uuid(), gen_random_uuid() FROM generate_series(1, 10001)"
        }
        Engine::Sqlite => {
            "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 10001)
             INSERT INTO search_waiting SELECT randomblob(16), randomblob(16) FROM n"
        }
    };
    world.run(many).await;
    assert_eq!(world.store.waiting_for_search().await.unwrap(), WAITING_MAX);
}

/// R47: of somebody else's answer no field names them.
async fn r25_a_mail_is_on_the_timeline_of_its_owner_whatever_their_address_is(engine: Engine) {
    let mut world = World::on(engine).await;
    let contact = world.add_contact("nowhere").await;
    let new = NewReplyAddress { contact, user: None, conversation: None, subject: None };
    let mut change = world.store.change().await.unwrap();
    let address = change.create_reply_address(world.account, &new).await.unwrap();
    change.commit().await.unwrap();
    let mail = email("1@elsewhere.test", "someone@elsewhere.test", &[&address.address]);
    let mailbox = world.reply_mailbox(address.conversation);
    let filed = world.store.file(submission(mail, vec![mailbox], b"x\r\n".to_vec())).await.unwrap();
    assert_eq!(filed.decided[0].1.outcome(), Outcome::Filed);
    let timeline = world.store.timeline(world.account, contact, Slice::first(9)).await.unwrap();
    let shown: Vec<(&str, &str)> =
        timeline.items.iter().map(|entry| (entry.message.subject.as_str(), entry.role.as_str())).collect();
    assert_eq!(shown, [("About 1@elsewhere.test", "from")]);
}

async fn what_waits_twice_or_was_erased_meanwhile_waits_no_more(engine: Engine) {
    let mut world = World::on(engine).await;
    world.file(written("1@praxis.test", "one", "knee")).await.unwrap();
    world.store.index_newest(world.account).await.unwrap();
    world
        .run(
            "INSERT INTO search_waiting (account_id, message_id) SELECT account_id, message_id FROM messages",
        )
        .await;
    world
        .run(
            "INSERT INTO search_waiting (account_id, message_id) SELECT account_id, account_id FROM messages",
        )
        .await;
    world.store.index_newest(world.account).await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM search_waiting").await, 0);
    assert_eq!(found(&world, "knee").await, ["one"]);
}

async fn a_message_that_cannot_be_read_keeps_no_other_out_of_the_index(engine: Engine) {
    let mut world = World::on(engine).await;
    for n in 1..4 {
        let mut mail = written(&format!("{n}@praxis.test"), &n.to_string(), "knee");
        mail.date = Some(Timestamp::from_millis(1_700_000_000_000 + n * 1_000));
        world.file(mail).await.unwrap();
    }
    // As a flipped bit leaves it: what is no text any more, and what no longer opens.
    match engine {
        Engine::Sqlite => {
            world.run("UPDATE messages SET subject = CAST(x'ff' AS TEXT) WHERE subject = '2'").await
        }
        Engine::Postgres => {
            return println!("skipped on PostgreSQL: it does not take text that is none");
        }
    }
    for _ in 0..4 {
        world.store.index_some(&mut None, Piece::WHOLE).await.unwrap();
    }
    assert_eq!(world.count("SELECT count(*) FROM search_waiting").await, 0);
    assert_eq!(found(&world, "knee").await, ["3", "1"]);
}

async fn r60_an_erased_message_is_found_no_more_and_leaves_no_term(engine: Engine) {
    let mut world = World::on(engine).await;
    for (id, text) in [("1@praxis.test", "quince jelly"), ("2@praxis.test", "quince cake")] {
        world.file(written(id, id, text)).await.unwrap();
    }
    let hit = find_in(&world, world.account, "jelly", SearchFilter::default(), Slice::first(1))
        .await
        .items
        .remove(0);
    let mut change = world.store.change().await.unwrap();
    change.undo_message(world.account, hit.message, "test").await.unwrap();
    change.commit().await.unwrap();
    assert_eq!(find(&world, "jelly").await, [""; 0]);
    assert_eq!(find(&world, "quince").await, ["2@praxis.test"]);
    if engine == Engine::Sqlite {
        // It compares every term with the structure of the index.
        world.run("INSERT INTO search_terms (search_terms) VALUES ('integrity-check')").await;
        world.run("CREATE VIRTUAL TABLE temp.terms USING fts5vocab('main', 'search_terms', 'row')").await;
        let jelly = "SELECT count(*) FROM temp.terms WHERE term LIKE '%jelly%'";
        let quince = "SELECT doc FROM temp.terms WHERE term LIKE '%quince'";
        assert_eq!((world.count(jelly).await, world.count(quince).await), (0, 1));
    }
}

async fn r63_a_message_is_not_found_by_the_address_of_a_contact_who_is_gone(engine: Engine) {
    let mut world = World::on(engine).await;
    world.add_contact(ANA).await;
    let bea = world.add_contact("bea@patient.test").await;
    let mut mail = written("1@praxis.test", "both", "knee");
    mail.cc = vec![named("Bea@patient.test")];
    world.file(mail).await.unwrap();
    assert_eq!(find(&world, "to:bea@patient.test").await, ["both"]);
    let mut change = world.store.change().await.unwrap();
    change.begin_purge(world.account, PurgeOf::Contact(bea), "test").await.unwrap();
    change.commit().await.unwrap();
    world.store.finish_purges(Timestamp::now().plus_days(1)).await.unwrap();
    assert_eq!(find(&world, "to:bea@patient.test").await, [""; 0]);
    for query in ["knee", "to:ana@patient.test", &format!("from:{USER} knee")] {
        assert_eq!(find(&world, query).await, ["both"], "{query}");
    }
    // The word for an address, and the hash, which is of 32 digits.
    let people = world.text("SELECT people FROM search_documents").await;
    assert_eq!(people.split_whitespace().count(), 2, "{people}");
    if engine == Engine::Sqlite {
        world.run("INSERT INTO search_terms (search_terms) VALUES ('integrity-check')").await;
    }
}

on_both_engines! {
    what_is_filed_is_found_by_what_is_written,
    every_word_of_a_message_finds_it,
    r4_an_account_finds_its_own_alone_even_with_the_same_letters_before_its_terms,
    answers_come_newest_first_in_parts_that_miss_and_repeat_nothing,
    a_search_that_decides_on_many_candidates_stops_and_goes_on,
    a_mail_of_more_words_than_are_indexed_is_filed_and_found_by_the_first,
    messages_are_indexed_behind_their_filing_the_newest_first,
    what_waits_twice_or_was_erased_meanwhile_waits_no_more,
    a_record_is_searched_whatever_of_it_is_indexed,
    what_waits_is_counted_as_far_as_it_is_worth_it,
    r25_a_mail_is_on_the_timeline_of_its_owner_whatever_their_address_is,
    a_message_that_cannot_be_read_keeps_no_other_out_of_the_index,
    r60_an_erased_message_is_found_no_more_and_leaves_no_term,
    r63_a_message_is_not_found_by_the_address_of_a_contact_who_is_gone,
}
