//! The rules of the core (STYLE section 2), each by its name, step by step.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use syncmx::address::Mailbox;
use syncmx::id::DeliveryId;
use syncmx::smtp::session::{CloseReason, Load, Room, Session, Settings, Stage, Step, TlsPolicy};
use syncmx::smtp::{BodyDefect, Envelope, RecipientAnswer, reply};

use crate::script::Script;
use crate::wire::{Memory, MemoryState, smtp_config};

const OPENING: &[u8] =
    b"EHLO c.example\r\nMAIL FROM:<a@client.example>\r\nRCPT TO:<ana@sync.example.test>\r\nDATA\r\n";

fn fresh() -> Session {
    let settings = Settings {
        hostname: "mx.example.test".to_owned(),
        max_message_bytes: 1000,
        max_recipients: 10,
        command_timeout: Duration::from_secs(300),
        data_timeout: Duration::from_secs(180),
        error_pause: Duration::from_secs(1),
        stressed_timeout: Duration::from_secs(30),
        tls: TlsPolicy::Offered,
    };
    Session::new(Arc::new(settings), IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// The steps up to and with the next question, wait or end, by name; sent text in place of `Send`.
fn steps(session: &mut Session) -> Vec<String> {
    let mut steps = Vec::new();
    loop {
        let (name, stops) = match session.next_step() {
            Step::Append(bytes) => (format!("append {}", bytes.escape_ascii()), false),
            Step::AskMessage(_) => ("ask message".to_owned(), true),
            Step::AskRecipient(_) => ("ask recipient".to_owned(), true),
            Step::AskTrace(unserved) => (format!("ask trace {:?}", unserved.cause), true),
            Step::Close(reason) => (format!("close {reason:?}"), true),
            Step::DropBody => ("drop body".to_owned(), false),
            Step::Pause(pause) => (format!("pause {}", pause.as_secs()), false),
            Step::Receive => ("receive".to_owned(), true),
            Step::Send(bytes) => (String::from_utf8(bytes.to_vec()).unwrap(), false),
            Step::StartBody => ("start body".to_owned(), false),
            Step::StartTls => ("start tls".to_owned(), true),
        };
        steps.push(name);
        if stops {
            return steps;
        }
    }
}

/// A session that has just asked for the fate of a message with this content.
fn asked(content: &[u8]) -> (Session, Envelope) {
    let mut session = fresh();
    session.receive(&[OPENING, content].concat());
    steps(&mut session);
    session.answer_recipient(RecipientAnswer::Accepted(Mailbox::Postmaster));
    loop {
        if let Step::AskMessage(envelope) = session.next_step() {
            return (session, *envelope);
        }
    }
}

#[test]
fn a_session_outlives_transactions_and_drops_them_whole() {
    for ender in ["RSET\r\n", "EHLO again\r\n", "HELO again\r\n"] {
        let mut memory = Memory::new(&smtp_config(&Script::default()), TlsPolicy::Offered);
        memory.send(b"EHLO c\r\nMAIL FROM:<a@c.example> SMTPUTF8\r\nRCPT TO:<ana@sync.example.test>\r\n");
        memory.send(ender.as_bytes());
        memory.send(b"MAIL FROM:<b@c.example>\r\nRCPT TO:<bob@sync.example.test>\r\nDATA\r\nx\r\n.\r\n");
        let expected = b"from=<b@c.example> to=<bob@sync.example.test> body=x\r\n".to_vec();
        assert_eq!(*memory.recorder.messages.lock().unwrap(), [expected], "{ender:?}");
    }
}

#[test]
fn one_question_is_open_at_a_time_and_nobody_reads_meanwhile() {
    let mut session = fresh();
    session.receive(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n");
    assert_eq!(steps(&mut session).last().unwrap(), "ask recipient");
    session.answer_recipient(RecipientAnswer::Accepted(Mailbox::Postmaster));
    assert_eq!(steps(&mut session), ["ask recipient"]);
    session.answer_recipient(RecipientAnswer::Refused(reply::UNKNOWN_ADDRESS));
    let last = steps(&mut session);
    assert!(last[0].contains("250 2.1.5") && last[0].ends_with("550 5.1.1 No such address here\r\n"));
    assert_eq!(last[1], "receive");
}

#[test]
fn replies_gather_and_go_out_before_a_step_that_waits_for_the_client() {
    let mut session = fresh();
    steps(&mut session);
    session.receive(b"NOOP\r\nRSET\r\nHELP\r\nNO");
    let said = steps(&mut session);
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(said[0].lines().count(), 3);
    session.receive(b"OP\r\nQUIT\r\n");
    let said = steps(&mut session);
    assert_eq!(said.len(), 2, "{said:?}");
    assert_eq!(said[1], "close Quit");
    let mut session = fresh();
    session.receive(b"NOOP\r\nSTARTTLS\r\n");
    let said = steps(&mut session);
    assert!(said[0].ends_with("220 2.0.0 Ready to start TLS\r\n"));
    assert_eq!(said[1], "start tls");
}

#[test]
fn endless_pipelining_does_not_hoard_replies() {
    let mut session = fresh();
    session.receive(&OPENING[..OPENING.len() - 6]);
    steps(&mut session);
    session.answer_recipient(RecipientAnswer::Accepted(Mailbox::Postmaster));
    session.receive(&b"BDAT 1\r\nx".repeat(1000));
    let said: Vec<String> =
        steps(&mut session).into_iter().filter(|step| step.contains("Chunk received")).collect();
    let longest = said.iter().map(String::len).max().unwrap();
    assert!(said.len() > 5 && longest < 5000, "{longest}");
    assert_eq!(said.concat().matches("250 2.0.0 Chunk received\r\n").count(), 1000);
}

/// Up to where a chunk of a message has come, and another is waited for.
fn between_chunks() -> Session {
    let mut session = fresh();
    session.receive(&OPENING[..OPENING.len() - 6]);
    steps(&mut session);
    session.answer_recipient(RecipientAnswer::Accepted(Mailbox::Postmaster));
    session.receive(b"BDAT 3\r\nabc");
    let said = steps(&mut session);
    assert_eq!(said[said.len() - 4..said.len() - 2], ["start body", "append abc"], "{said:?}");
    session
}

#[test]
fn s16_a_body_whose_transaction_goes_is_given_back_at_once() {
    for ender in
        ["RSET\r\n", "EHLO again\r\n", "HELO again\r\n", "QUIT\r\n", "BDAT x\r\n", "GET / HTTP/1.1\r\n"]
    {
        let mut session = between_chunks();
        session.receive(ender.as_bytes());
        assert_eq!(steps(&mut session)[0], "drop body", "{ender:?}");
    }
    let mut session = between_chunks();
    session.timed_out();
    assert_eq!(steps(&mut session)[0], "drop body");
    // What is kept is kept: a mistake between chunks, a message of two chunks.
    let mut session = between_chunks();
    session.receive(b"DATA\r\nMAIL FROM:<>\r\nNOOP\r\nBDAT 0\r\n");
    assert_eq!(steps(&mut session).len(), 2);
    session.receive(b"BDAT 1 LAST\r\nd");
    assert_eq!(steps(&mut session), ["append d", "ask message"]);
    session.answer_message(reply::MESSAGE_ACCEPTED);
    assert_eq!(steps(&mut session).len(), 2, "the driver has handed it over");
}

#[test]
fn s16_what_has_come_of_a_message_that_will_be_refused_is_given_back_before_its_end() {
    let mut session = between_chunks();
    session.receive(b"BDAT 998\r\nx");
    assert_eq!(steps(&mut session), ["drop body", "receive"]);
    let mut session = fresh();
    session.receive(OPENING);
    steps(&mut session);
    session.answer_recipient(RecipientAnswer::Accepted(Mailbox::Postmaster));
    steps(&mut session);
    session.receive(b"one\r\ntwo\nthree");
    assert_eq!(steps(&mut session), ["append one\\r\\ntwo", "drop body", "receive"]);
    session.receive(b"four");
    assert_eq!(steps(&mut session), ["receive"], "once");
}

#[test]
fn s2_empty_chunks_bring_no_mail_nearer() {
    let mut session = between_chunks();
    session.receive(&b"BDAT 0\r\n".repeat(200));
    let said = steps(&mut session).concat();
    // EHLO was the first of a hundred.
    assert_eq!(said.matches("250 2.0.0 Chunk received").count(), 99);
    assert!(said.contains("421 4.7.0 ") && said.ends_with("close TooManyErrors"), "{said}");
    // Beginning with one is no way round it.
    let mut memory = Memory::new(&smtp_config(&Script::default()), TlsPolicy::Offered);
    memory.send(&OPENING[..OPENING.len() - 6]);
    memory.send(&b"BDAT 0\r\n".repeat(200));
    assert_eq!(memory.state, MemoryState::Closed);
}

#[test]
fn x7_only_octets_of_messages_count_as_such() {
    let mut session = between_chunks();
    assert_eq!(session.body_octets(), 3);
    session.receive(b"BDAT 0\r\nNOOP\r\nBDAT 998\r\n");
    steps(&mut session);
    assert_eq!((session.body_octets(), session.stage()), (3, Stage::Body));
    session.receive(b"too large, and read all the same");
    steps(&mut session);
    assert_eq!(session.body_octets(), 3 + 32);
    let mut session = fresh();
    session.receive(b"EHLO c\r\nBDAT 10\r\nrefused");
    steps(&mut session);
    assert_eq!((session.body_octets(), session.stage()), (7, Stage::RefusedChunk));
}

#[test]
fn s2_idle_commands_have_a_budget_and_mistakes_slow_down_and_end() {
    let mut session = fresh();
    steps(&mut session);
    session.receive(&b"NOOP\r\n".repeat(101));
    let said = steps(&mut session).concat();
    assert_eq!(said.matches("250 2.0.0 Ok").count(), 100);
    assert!(said.contains("421 4.7.0 ") && said.ends_with("close TooManyErrors"), "{said}");

    let mut session = fresh();
    steps(&mut session);
    for number in 1..=10 {
        session.receive(b"XFOO\r\n");
        let said = steps(&mut session);
        match number {
            1..=5 => assert!(said[0].starts_with("500 "), "{said:?}"),
            6..=9 => assert!(said[0] == "pause 1" && said[1].starts_with("500 "), "{said:?}"),
            _ => assert!(said[0].starts_with("421 4.7.0 ") && said[1] == "close TooManyErrors", "{said:?}"),
        }
    }
}

#[test]
fn s2_refusals_that_are_no_mistakes_have_a_budget_of_their_own() {
    let mut session = fresh();
    session.set_room(Room::Scarce);
    session.receive(&[b"EHLO c\r\n", &b"MAIL FROM:<>\r\n".repeat(101)[..]].concat());
    let said = steps(&mut session).concat();
    assert_eq!(said.matches("452 4.3.1 ").count(), 100);
    assert!(said.contains("421 4.7.0 ") && said.ends_with("close TooManyErrors"), "{said}");
    assert!(!said.contains("pause"), "they are not slowed down either");
    let mut session = fresh();
    session.set_load(Load::Stressed);
    session.receive(&[b"EHLO c\r\n", &b"MAIL FROM:<> SIZE=9999\r\n".repeat(26)[..]].concat());
    let said = steps(&mut session).concat();
    assert_eq!(said.matches("552 5.3.4 ").count(), 25);
    assert!(said.ends_with("close TooManyErrors"), "{said}");
}

#[test]
fn s2_c19_who_says_a_thousand_recipients_at_once_is_not_cut_off_whatever_becomes_of_the_mail() {
    let more: String = (0..1100).map(|number| format!("RCPT TO:<r{number}@sync.example.test>\r\n")).collect();
    for sender in ["a", "refused", "deferred"] {
        let mut memory = Memory::new(&smtp_config(&Script::default()), TlsPolicy::Offered);
        memory.send(b"EHLO c\r\n");
        for _ in 0..20 {
            memory.send(format!("MAIL FROM:<{sender}@client.example>\r\n").as_bytes());
            memory.said();
            memory.send(more.as_bytes());
            let said = String::from_utf8(memory.said()).unwrap();
            assert_eq!((said.matches("250 2.1.5").count(), said.matches("452 4.5.3").count()), (100, 1000));
            memory.send(b"DATA\r\nx\r\n.\r\n");
            assert!(memory.said().starts_with(b"354 "));
        }
        assert_eq!(memory.state, MemoryState::Receiving, "{sender}");
        assert_eq!(memory.recorder.messages.lock().unwrap().len(), 20);
    }
}

#[test]
fn s2_r3_a_session_that_is_closed_for_its_refusals_leaves_a_trace_for_those_it_had() {
    let mut memory = Memory::new(&smtp_config(&Script::default()), TlsPolicy::Offered);
    memory.send(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<ana@sync.example.test>\r\n");
    memory.send(&b"RCPT TO:<down@sync.example.test>\r\n".repeat(101));
    assert_eq!(memory.state, MemoryState::Closed);
    assert_eq!(*memory.recorder.traces.lock().unwrap(), ["SessionSpent to=<ana@sync.example.test>"]);
}

#[test]
fn s2_an_accepted_message_clears_the_tally() {
    let mut memory = Memory::new(&smtp_config(&Script::default()), TlsPolicy::Offered);
    for _ in 0..5 {
        memory.send(&b"XFOO\r\n".repeat(9));
        memory.send(&b"NOOP\r\n".repeat(90));
        memory.send(b"EHLO c\r\n");
        memory.send(&b"MAIL FROM:<> SIZE=99999999999\r\n".repeat(90));
        memory.send(b"MAIL FROM:<>\r\nRCPT TO:<ana@sync.example.test>\r\nDATA\r\nx\r\n.\r\n");
    }
    assert_eq!(memory.recorder.messages.lock().unwrap().len(), 5);
    assert_eq!(memory.state, MemoryState::Receiving);
}

#[test]
fn s15_a_session_that_tries_out_addresses_ends_with_the_twenty_first() {
    let mut memory = Memory::new(&smtp_config(&Script::default()), TlsPolicy::Offered);
    memory.send(b"EHLO c\r\nMAIL FROM:<>\r\n");
    memory.said();
    memory.send(&b"RCPT TO:<unknown@sync.example.test>\r\n".repeat(30));
    let said = String::from_utf8(memory.said()).unwrap();
    assert_eq!(said.matches("550 5.1.1 No such address here\r\n").count(), 20);
    assert!(said.ends_with("421 4.7.0 Too many errors, closing\r\n"), "{said}");
    assert_eq!(memory.state, MemoryState::Closed);
}

#[test]
fn r3_a_recipient_that_nobody_is_asked_about_leaves_a_trace_all_the_same() {
    let mut memory = Memory::new(&smtp_config(&Script::default()), TlsPolicy::Offered);
    memory.send(b"EHLO c\r\nMAIL FROM:<>\r\n");
    for number in 0..=100 {
        memory.send(format!("RCPT TO:<r{number}@sync.example.test>\r\n").as_bytes());
    }
    memory.send("RCPT TO:<\u{fc}@sync.example.test>\r\n".as_bytes());
    let traces = memory.recorder.traces.lock().unwrap().clone();
    assert_eq!(
        traces,
        ["TooManyRecipients to=<r100@sync.example.test>", "NeedsSmtputf8 to=<\u{fc}@sync.example.test>"]
    );
}

#[test]
fn r3_a_session_that_is_closed_for_trying_out_addresses_leaves_a_trace_for_those_it_had() {
    let mut memory = Memory::new(&smtp_config(&Script::default()), TlsPolicy::Offered);
    memory.send(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<ana@sync.example.test>\r\n");
    memory.send(&b"RCPT TO:<unknown@sync.example.test>\r\n".repeat(30));
    assert_eq!(memory.state, MemoryState::Closed);
    let traces = memory.recorder.traces.lock().unwrap().clone();
    assert_eq!(traces, ["SessionSpent to=<ana@sync.example.test>"]);
}

#[test]
fn r3_the_last_reply_to_a_harvester_names_the_trace_of_what_it_asked_last() {
    let mut session = fresh();
    session.receive(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nRCPT TO:<x@b.example>\r\n");
    steps(&mut session);
    session.answer_recipient(RecipientAnswer::Accepted(Mailbox::Postmaster));
    assert_eq!(steps(&mut session), ["ask recipient"]);
    let trace = DeliveryId::generate();
    session.answer_recipient(RecipientAnswer::Refused(reply::TOO_MANY_ERRORS.with_trace(trace)));
    assert_eq!(steps(&mut session), ["ask trace SessionSpent"]);
    session.answer_trace(&reply::TOO_MANY_ERRORS.with_trace(trace));
    let said = steps(&mut session);
    assert!(said[0].contains("250 2.1.5") && said[0].contains(&format!("[trace {trace}]\r\n")), "{said:?}");
    assert_eq!(said[1], "close Refused");
}

#[test]
fn x11_without_room_for_a_handshake_starttls_is_454_and_mail_goes_on_in_clear() {
    let mut session = fresh();
    session.set_tls_room(Room::Scarce);
    session.receive(b"EHLO c\r\nSTARTTLS\r\nMAIL FROM:<>\r\n");
    let said = steps(&mut session);
    assert!(said[0].contains("454 4.7.0 ") && said[0].ends_with("250 2.1.0 Sender ok\r\n"), "{said:?}");
    session.set_tls_room(Room::Enough);
    session.receive(b"RSET\r\nSTARTTLS\r\n");
    assert_eq!(steps(&mut session).last().unwrap(), "start tls");
}

#[test]
fn a4_who_talks_before_the_banner_gets_none() {
    let mut session = fresh();
    session.talked_early();
    session.receive(b"EHLO c\r\n");
    assert_eq!(steps(&mut session), ["554 5.5.1 You must wait for the greeting\r\n", "close TalkedEarly"]);
}

#[test]
fn s3_a_tls_client_hello_in_clear_is_closed_at_its_first_octet() {
    let mut session = fresh();
    steps(&mut session);
    session.receive(b"\x16");
    assert_eq!(steps(&mut session), ["554 5.5.1 This is an SMTP server\r\n", "close OtherProtocol"]);
}

#[test]
fn d21_under_stress_waits_and_error_budgets_shrink() {
    let mut session = fresh();
    steps(&mut session);
    session.set_load(Load::Stressed);
    assert_eq!(session.read_timeout(), Duration::from_secs(30));
    session.receive(b"XFOO\r\nXFOO\r\nXFOO\r\n");
    assert_eq!(steps(&mut session).last().unwrap(), "close TooManyErrors");
    for (command, taken) in [("NOOP\r\n", 24), ("RCPT TO:<a@b.example>\r\n", 5)] {
        let mut session = fresh();
        session.receive(b"EHLO c\r\nMAIL FROM:<>\r\n");
        session.set_load(Load::Stressed);
        session.receive(command.repeat(40).as_bytes());
        let mut said = String::new();
        while !said.contains("close") {
            said.push_str(&steps(&mut session).concat());
            session.answer_recipient(RecipientAnswer::Refused(reply::UNKNOWN_ADDRESS));
        }
        let answered = said.matches("250 2.0.0 Ok").count() + said.matches("550 5.1.1").count();
        // EHLO has been one of the idle commands.
        assert_eq!(answered, taken, "{said}");
    }
}

#[test]
fn too_large_or_bare_newlines_are_read_to_the_true_end_and_then_refused() {
    for (content, defect) in [
        ([&[b'x'; 1001][..], b"\r\n.\r\n"].concat(), BodyDefect::TooLarge),
        (b"a\nb\r\n.\r\n".to_vec(), BodyDefect::BareNewline),
        ([b"a\n", &[b'x'; 1001][..], b"\r\n.\r\n"].concat(), BodyDefect::BareNewline),
    ] {
        let (mut session, envelope) = asked(&[&content[..], b"NOOP\r\n"].concat());
        assert_eq!(envelope.defect, Some(defect));
        session.answer_message(reply::MESSAGE_ACCEPTED.with_trace(DeliveryId::generate()));
        let said = steps(&mut session).concat();
        let (last, noop) = said.trim_end_matches("receive").trim_end().rsplit_once("\r\n").unwrap();
        let last = last.rsplit("\r\n").next().unwrap();
        let code = if defect == BodyDefect::TooLarge { "552 5.3.4" } else { "550 5.6.0" };
        assert!(last.starts_with(code) && last.contains("[trace "), "{said}");
        assert!(noop.starts_with("250 2.0.0 Ok"), "{said}");
    }
}

#[test]
fn body_bytes_leave_as_they_come_and_a_refused_mail_leaves_none_to_the_next() {
    let mut session = fresh();
    session.receive(OPENING);
    steps(&mut session);
    session.answer_recipient(RecipientAnswer::Accepted(Mailbox::Postmaster));
    assert_eq!(steps(&mut session)[0], "start body");
    session.receive(b"one\r\n..tw");
    assert_eq!(steps(&mut session), ["append one\\r\\n.tw", "receive"]);
    session.refuse_body(reply::INSUFFICIENT_STORAGE);
    session.receive(b"o\r\n.\r\n");
    let said = steps(&mut session);
    assert_eq!(said, ["append o\\r\\n", "ask trace NoRoom"]);
    session.answer_trace(&reply::INSUFFICIENT_STORAGE.with_trace(DeliveryId::generate()));
    let said = steps(&mut session);
    assert!(said[0].starts_with("452 4.3.1 ") && said[0].contains("[trace "), "{said:?}");
    session.receive(&OPENING[16..]);
    steps(&mut session);
    session.answer_recipient(RecipientAnswer::Accepted(Mailbox::Postmaster));
    assert_eq!(steps(&mut session)[0], "start body");
}

#[test]
fn input_behind_starttls_closes_the_session() {
    let mut session = fresh();
    session.receive(b"EHLO c\r\nSTARTTLS\r\nNOOP\r\n");
    let said = steps(&mut session);
    assert!(said[0].ends_with("554 5.5.0 Nothing may follow STARTTLS before the handshake\r\n"), "{said:?}");
    assert_eq!(said[1], format!("close {:?}", CloseReason::InputBehindStartTls));
}

#[test]
fn after_the_handshake_nothing_learned_before_counts() {
    let mut session = fresh();
    session.receive(b"EHLO before\r\nMAIL FROM:<a@b.example>\r\nSTARTTLS\r\n");
    assert_eq!(steps(&mut session).last().unwrap(), "start tls");
    session.tls_started("TLSv1.3 X".to_owned());
    assert_eq!(session.client().helo, "");
    assert!(session.reverse_path().is_none());
    assert_eq!(session.client().tls.as_deref(), Some("TLSv1.3 X"));
    assert_eq!(steps(&mut session), ["receive"], "no second banner");
}

#[test]
fn the_reply_after_the_last_byte_is_the_handlers_and_names_the_trace() {
    let trace = DeliveryId::generate();
    let (mut session, envelope) = asked(b"x\r\n.\r\n");
    assert_eq!((envelope.defect, envelope.client.helo.as_str()), (None, "c.example"));
    assert!(envelope.client.is_esmtp);
    session.answer_message(reply::LOOKUP_FAILED.with_trace(trace));
    let said = steps(&mut session).concat();
    assert!(said.contains(&format!(
        "451 4.4.3 A DNS look-up failed for now, please try again later [trace {trace}]\r\n"
    )));
    assert!(!said.contains("250 2.0.0"), "{said}");
}

#[test]
fn an_answer_that_is_no_final_reply_is_not_passed_on() {
    let (mut session, _) = asked(b"x\r\n.\r\n");
    session.answer_message(reply::SEND_DATA);
    assert!(steps(&mut session).concat().contains("451 4.3.0"));
    let (mut session, _) = asked(b"x\r\n.\r\n");
    session.answer_message(reply::SHUTTING_DOWN);
    assert_eq!(steps(&mut session).last().unwrap(), "close Refused");
}

#[test]
fn d21_silence_is_421_4_4_2_in_any_phase() {
    for input in [&b""[..], b"EHLO c\r\nMAIL FROM:<>\r\n", b"NOO"] {
        let mut memory = Memory::new(&smtp_config(&Script::default()), TlsPolicy::Offered);
        memory.send(input);
        memory.said();
        memory.time_out();
        assert!(memory.said().starts_with(b"421 4.4.2 "));
        assert_eq!(memory.state, MemoryState::Closed);
    }
}

#[test]
fn half_a_command_does_not_prolong_the_wait() {
    let mut session = fresh();
    steps(&mut session);
    let before = session.exchanges();
    session.receive(b"NOO");
    steps(&mut session);
    assert_eq!(session.exchanges(), before);
    session.receive(b"P\r\n");
    steps(&mut session);
    assert_ne!(session.exchanges(), before);
    assert_eq!(session.read_timeout(), Duration::from_secs(300));
}

#[test]
fn x14_a_stopping_server_says_421_at_safe_points_and_finishes_messages() {
    let half_a_command = b"EHLO c\r\nMAIL FR";
    for input in [&b""[..], b"EHLO c\r\n", b"EHLO c\r\nMAIL FROM:<>\r\n", half_a_command] {
        let mut memory = Memory::new(&smtp_config(&Script::default()), TlsPolicy::Offered);
        memory.send(input);
        memory.said();
        memory.shut_down();
        assert!(memory.said().starts_with(b"421 4.3.2 "));
        assert_eq!(memory.state, MemoryState::Closed);
    }
    for (open, rest) in [(&b"DATA\r\nx"[..], &b"y\r\n.\r\n"[..]), (b"BDAT 1\r\nx", b"BDAT 1 LAST\r\ny")] {
        let mut memory = Memory::new(&smtp_config(&Script::default()), TlsPolicy::Offered);
        memory.send(b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<ana@sync.example.test>\r\n");
        memory.send(open);
        memory.said();
        memory.shut_down();
        assert_eq!(memory.said(), b"");
        memory.send(rest);
        let said = String::from_utf8(memory.said()).unwrap();
        assert!(said.starts_with("250 2.0.0 Message accepted\r\n421 4.3.2 "), "{said}");
        assert_eq!(memory.state, MemoryState::Closed);
    }
}

#[test]
fn c13_without_room_mail_is_put_off() {
    let mut session = fresh();
    session.set_room(Room::Scarce);
    session.receive(b"EHLO c\r\nMAIL FROM:<>\r\n");
    assert!(steps(&mut session)[0].ends_with("452 4.3.1 Not enough room now, please try again later\r\n"));
    session.set_room(Room::Enough);
    session.receive(b"MAIL FROM:<>\r\n");
    assert!(steps(&mut session)[0].starts_with("250 2.1.0"));
}

#[test]
fn mailmax_is_kept_as_announced_and_one_more_closes() {
    let mut memory = Memory::new(&smtp_config(&Script::default()), TlsPolicy::Offered);
    memory.send(b"EHLO c\r\n");
    let mail = b"MAIL FROM:<>\r\nRCPT TO:<postmaster>\r\nDATA\r\nx\r\n.\r\n";
    memory.send(&mail.repeat(1000));
    assert!(!String::from_utf8(memory.said()).unwrap().contains("421"));
    assert_eq!(memory.recorder.messages.lock().unwrap().len(), 1000);
    memory.send(b"MAIL FROM:<>\r\n");
    assert!(memory.said().starts_with(b"421 4.7.0 "));
    assert_eq!(memory.state, MemoryState::Closed);
}
