//! Mail that nobody should send: each gets a definite answer, and the server stays.

use syncmx::cli::demo::practice;
use syncmx::zone::Zone;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use crate::api::{Desk, assert_refused};
use crate::app::TestApp;
use crate::mail::{FORGER, LENA};
use crate::memory_of::peak_kib;

const FROM: &str = "From: Lena <lena.albrecht@praxis-morgenrot.test>\r\n";
const TO: &str = "To: anna.bergmann@web-post.test\r\n";
const REST: &str = "Date: Fri, 20 Nov 2026 10:00:00 +0100\r\nSubject: odd\r\n";

/// Sends `raw` signed as Lena's host does; checks the answer, and that the server files the next mail.
async fn check(case: &str, raw: &[u8], codes: &str, outcome: &str, reason: &str) {
    let mut app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let answers = app.send(&LENA, &desk.sync, raw).await;
    let delivery = desk.expect(&answers, codes, outcome, reason).await;
    if outcome == "filed" {
        let message = desk.get(&format!("/messages/{}", delivery["message_id"].as_str().unwrap())).await;
        for field in ["subject", "text", "sent_at", "message_id_header"] {
            let text = message[field].as_str().unwrap_or_else(|| panic!("{case}: {field} in {message:#}"));
            assert!(!text.contains('\0'), "{case}: NUL in {field}");
        }
        assert!(!message["message_id_header"].as_str().unwrap().is_empty(), "{case}");
    }
    let next = format!("{FROM}{TO}{REST}Message-ID: <next@e2e.test>\r\n\r\nNext.\r\n");
    desk.expect_filed(&app.send(&LENA, &desk.sync, next.as_bytes()).await).await;
    assert!(app.is_alive(), "{case}");
}

#[tokio::test]
async fn r43_a_mail_without_message_id_is_filed_under_a_derived_one() {
    let raw = format!("{FROM}{TO}{REST}\r\nHello\r\n");
    check("no Message-ID", raw.as_bytes(), "250 2.0.0", "filed", "filed").await;
}

#[tokio::test]
async fn a_mail_without_date_is_filed_at_its_time_of_receipt() {
    let raw = format!("{FROM}{TO}Subject: odd\r\nMessage-ID: <nodate@e2e.test>\r\n\r\nHello\r\n");
    check("no Date", raw.as_bytes(), "250 2.0.0", "filed", "filed").await;
}

#[tokio::test]
async fn r24_a_mail_without_to_names_nobody_and_is_held() {
    let raw = format!("{FROM}{REST}Message-ID: <noto@e2e.test>\r\n\r\nHello\r\n");
    check("no To", raw.as_bytes(), "250 2.0.0", "held", "unknown_contact").await;
}

#[tokio::test]
async fn eight_bit_header_fields_are_read_as_well_as_they_can_be() {
    let mut raw = format!(
        "{FROM}{TO}Date: Fri, 20 Nov 2026 10:00:00 +0100\r\nMessage-ID: <8bit@e2e.test>\r\nSubject: "
    )
    .into_bytes();
    raw.extend_from_slice("Rückfrage".as_bytes());
    raw.extend_from_slice(b" und \xfc\xdf\r\n\r\nHello\r\n");
    check("8-bit headers", &raw, "250 2.0.0", "filed", "filed").await;
}

#[tokio::test]
async fn a_wrong_or_unknown_charset_is_no_reason_to_lose_the_mail() {
    for (id, charset) in [("utf8", "utf-8"), ("nonsense", "x-klingon-17")] {
        let mut raw = format!(
            "{FROM}{TO}{REST}Message-ID: <{id}@e2e.test>\r\nMIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        )
        .into_bytes();
        raw.extend_from_slice(b"Gr\xfc\xdfe aus M\xfcnchen\r\n");
        check("wrong charset", &raw, "250 2.0.0", "filed", "filed").await;
    }
}

#[tokio::test]
async fn an_empty_body_is_filed() {
    let raw = format!("{FROM}{TO}{REST}Message-ID: <empty@e2e.test>\r\n\r\n");
    check("empty body", raw.as_bytes(), "250 2.0.0", "filed", "filed").await;
}

#[tokio::test]
async fn a_mail_of_header_alone_is_filed() {
    let raw = format!("{FROM}{TO}{REST}Message-ID: <headeronly@e2e.test>\r\n");
    check("no blank line", raw.as_bytes(), "250 2.0.0", "filed", "filed").await;
}

#[tokio::test]
async fn a_nul_in_the_subject_is_left_out() {
    let raw = format!(
        "{FROM}{TO}Date: Fri, 20 Nov 2026 10:00:00 +0100\r\nSubject: be\0fore and =?utf-8?Q?af=00ter?=\r\n\
         Message-ID: <nul@e2e.test>\r\n\r\nHello\r\n"
    );
    check("NUL in the subject", raw.as_bytes(), "250 2.0.0", "filed", "filed").await;
}

#[tokio::test]
async fn r10_two_from_fields_are_refused() {
    let raw = format!(
        "{FROM}From: other@praxis-morgenrot.test\r\n{TO}{REST}Message-ID: <twice@e2e.test>\r\n\r\nHello\r\n"
    );
    check("two From fields", raw.as_bytes(), "550 5.7.1", "rejected", "bad_from").await;
}

#[tokio::test]
async fn r10_no_from_field_is_refused() {
    let raw = format!("{TO}{REST}Message-ID: <nofrom@e2e.test>\r\n\r\nHello\r\n");
    check("no From field", raw.as_bytes(), "550 5.7.1", "rejected", "bad_from").await;
}

/// A header block over the structural limit (256 KiB) is refused as such.
#[tokio::test]
async fn a_name_of_one_megabyte_is_refused_and_nothing_else_happens() {
    let mut name = String::with_capacity(1_100_000);
    while name.len() < 1_000_000 {
        name.push_str("Maximilian Alexander Constantin Ferdinand Leopold von und zu Hohenfels\r\n ");
    }
    let raw = format!(
        "From: \"{name}\" <lena.albrecht@praxis-morgenrot.test>\r\n{TO}{REST}Message-ID: <mb@e2e.test>\r\n\r\nHi\r\n"
    );
    check("a name of 1 MB", raw.as_bytes(), "554 5.6.0", "rejected", "bad_syntax").await;
}

/// Nothing is read in a header that is over its limits; before, this one took gigabytes and seconds.
#[tokio::test]
async fn m10_results_of_thirty_megabytes_are_refused_within_the_memory_of_any_large_mail() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let clauses = "a;".repeat(15_000_000);
    let raw = format!(
        "Authentication-Results: {clauses}\r\n{FROM}{TO}{REST}Message-ID: <ar@e2e.test>\r\n\r\nHi\r\n"
    );
    let postmaster = app.send(&FORGER, "postmaster@sync.example.test", raw.as_bytes()).await;
    assert_refused(postmaster.decisive(), "554 5.6.0");
    let answers = app.send(&LENA, &desk.sync, raw.as_bytes()).await;
    desk.expect(&answers, "554 5.6.0", "rejected", "bad_syntax").await;
    let peak = peak_kib(app.pid()).unwrap();
    assert!(peak < 512 * 1024, "{peak} KiB");
}

/// Whose DNS never answers keeps half of the room for large mails, and that only until another mail wants it.
#[tokio::test]
async fn x6_large_mails_of_one_client_whose_dns_is_silent_give_way_to_each_other() {
    // One at a time has room.
    let octets = (24 << 20) + 1000;
    large_mails_give_way(&["127.0.0.66:0"; 4], octets).await;
}

/// Two of them keep all of it only until somebody else wants some.
#[tokio::test]
async fn x6_large_mails_of_two_clients_whose_dns_is_silent_give_way_to_who_waits() {
    // Four of them, and little more than a mebibyte is left.
    large_mails_give_way(&["127.0.0.66:0", "127.0.0.67:0", "127.0.0.66:0", "127.0.0.67:0"], 95 << 18).await;
}

/// Somebody else's are filed meanwhile.
async fn large_mails_give_way(clients: &[&str], octets: usize) {
    let mut zone = Zone::parse(practice::ZONE).unwrap();
    zone.silent("slow.test").unwrap();
    // One silent look-up takes all the time that a message has.
    let app = TestApp::start_in(zone, &["SYNCMX_DNS__TIMEOUT=20s"]).await;
    let desk = Desk::open(&app).await;
    let text = "A line of a mail that somebody waits for.\r\n".repeat(60_000);
    // On a busy machine they may be through before anybody waits.
    for round in 0..10 {
        let body = large(&format!("round-{round}"), octets);
        let mut waiting = Vec::new();
        for client in clients {
            waiting.push(all_but_the_end(&app, &desk.sync, client, &body).await);
        }
        for stream in &mut waiting {
            stream.write_all(b"BDAT 0 LAST\r\n").await.unwrap();
        }
        for number in 0..5 {
            let id = format!("large-{round}-{number}");
            let raw = filed_as(&id, "anna.bergmann@web-post.test", "", &text);
            desk.expect_filed(&app.send(&LENA, &desk.sync, raw.as_bytes()).await).await;
            let metrics = format!("{}/metrics", app.api.base);
            let metrics = reqwest::get(metrics).await.unwrap().text().await.unwrap();
            if metrics.contains("\nsyncmx_dns_waits_cut_short_total ") {
                return;
            }
        }
    }
    panic!("those who wait for the DNS never give way");
}

/// A mail of about that size, which is read in a moment: one file.
fn large(name: &str, octets: usize) -> String {
    let head = format!("{FROM}{TO}{REST}Content-Type: application/octet-stream; name={name}\r\n\r\n");
    let lines = format!("{}\r\n", "x".repeat(998)).repeat(octets / 1000);
    format!("{head}{lines}")
}

/// A mail from another client whose domain's DNS is silent, received whole, but for the word that it is.
async fn all_but_the_end(app: &TestApp, rcpt: &str, client: &str, body: &str) -> BufReader<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(client.parse().unwrap()).unwrap();
    let mut stream = BufReader::new(socket.connect(app.smtp).await.unwrap());
    for command in [
        "",
        "EHLO mail.slow.test\r\n",
        "MAIL FROM:<a@slow.test>\r\n",
        &format!("RCPT TO:<{rcpt}>\r\n"),
        &format!("BDAT {}\r\n{body}", body.len()),
    ] {
        stream.write_all(command.as_bytes()).await.unwrap();
        let mut line = String::new();
        while line.get(3..4) != Some(" ") {
            line.clear();
            stream.read_line(&mut line).await.unwrap();
        }
        assert!(line.starts_with('2'), "{line}");
    }
    stream
}

#[tokio::test]
async fn h3_ten_signatures_are_taken_and_one_more_is_refused() {
    let junk = |count: usize| "DKIM-Signature: v=1\r\n".repeat(count);
    let raw = |id: &str, count| {
        format!("{}{}", junk(count), filed_as(id, "anna.bergmann@web-post.test", "", "Hello"))
    };
    // Lena's host signs it once more.
    check("ten signatures", raw("ten", 9).as_bytes(), "250 2.0.0", "filed", "filed").await;
    check("eleven signatures", raw("eleven", 10).as_bytes(), "554 5.6.0", "rejected", "bad_syntax").await;
}

#[tokio::test]
async fn h2_two_hundred_signed_names_are_taken_and_one_more_is_refused() {
    let raw = |id: &str, count: usize| {
        let signature = format!("DKIM-Signature: v=1; h={}; b=\r\n", vec!["from"; count].join(":\r\n "));
        signature + &filed_as(id, "anna.bergmann@web-post.test", "", "Hello")
    };
    check("200 names", raw("names", 200).as_bytes(), "250 2.0.0", "filed", "filed").await;
    check("201 names", raw("more-names", 201).as_bytes(), "554 5.6.0", "rejected", "bad_syntax").await;
}

/// Our own fields stand on top of what is kept, and are none too many for reading it again.
#[tokio::test]
async fn m9_a_held_mail_of_a_thousand_fields_is_filed_by_a_person_and_one_more_was_never_taken() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    // Five fields of its own, Cc, and the signature of Lena's host.
    let raw = |id: &str, count: usize| {
        let fields = format!("Cc: anna.bergmann@web-post.test\r\n{}", "X: y\r\n".repeat(count - 7));
        filed_as(id, "tom@praxis-morgenrot.test", &fields, "Hello")
    };
    let answers = app.send(&LENA, &desk.sync, raw("fields", 1_000).as_bytes()).await;
    let held = desk.expect(&answers, "250 2.0.0", "held", "contact_only_in_cc").await;
    let path = format!("/held/{}:file", held["id"].as_str().unwrap());
    let filed = desk.post(&path, serde_json::json!({ "contact_id": desk.anna })).await;
    assert_eq!(filed["outcome"], "filed", "{filed:#}");
    let answers = app.send(&LENA, &desk.sync, raw("more-fields", 1_001).as_bytes()).await;
    desk.expect(&answers, "554 5.6.0", "rejected", "bad_syntax").await;
}

fn filed_as(id: &str, to: &str, fields: &str, text: &str) -> String {
    format!("{FROM}To: {to}\r\n{REST}Message-ID: <{id}@e2e.test>\r\n{fields}\r\n{text}\r\n")
}

#[tokio::test]
async fn group_syntax_in_to_names_its_members() {
    let raw = filed_as("group", "Patients: anna.bergmann@web-post.test, x@y.test;", "", "Hello");
    check("group syntax", raw.as_bytes(), "250 2.0.0", "filed", "filed").await;
    let raw = filed_as("nobody", "undisclosed-recipients:;", "", "Hello");
    check("an empty group", raw.as_bytes(), "250 2.0.0", "held", "unknown_contact").await;
}

#[tokio::test]
async fn ten_thousand_recipients_in_cc_are_no_reason_to_lose_the_mail() {
    let mut cc = "Cc: a0@crowd.test".to_owned();
    for n in 1..10_000 {
        cc.push_str(&format!(",\r\n a{n}@crowd.test"));
    }
    let raw = filed_as("crowd", "anna.bergmann@web-post.test", &format!("{cc}\r\n"), "Hello");
    check("10,000 in Cc", raw.as_bytes(), "250 2.0.0", "filed", "filed").await;
}

#[tokio::test]
async fn references_of_five_thousand_ids_are_read_from_the_newest() {
    let mut references = "References:".to_owned();
    for n in 0..5_000 {
        references.push_str(&format!("\r\n <{n}@lost.test>"));
    }
    let raw = filed_as("refs", "anna.bergmann@web-post.test", &format!("{references}\r\n"), "Hello");
    check("5,000 references", raw.as_bytes(), "250 2.0.0", "filed", "filed").await;
}

#[tokio::test]
async fn a_message_id_of_ten_kilobytes_is_filed() {
    let raw = filed_as(&"x".repeat(10_000), "anna.bergmann@web-post.test", "", "Hello");
    check("a long Message-ID", raw.as_bytes(), "250 2.0.0", "filed", "filed").await;
}

#[tokio::test]
async fn a_date_in_the_year_9999_is_the_time_of_receipt() {
    let raw = format!(
        "{FROM}{TO}Date: Fri, 31 Dec 9999 23:59:59 +0000\r\nSubject: odd\r\nMessage-ID: <9999@e2e.test>\r\n\r\nHello\r\n"
    );
    check("year 9999", raw.as_bytes(), "250 2.0.0", "filed", "filed").await;
}

/// Names that turn the reading direction or climb out of folders; NULs in the text; a calendar of 5 MB.
#[tokio::test]
async fn r57_hostile_names_nuls_and_a_huge_calendar_are_filed_harmless() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let part = |kind: &str, name: &str, text: &str| {
        format!(
            "--b\r\nContent-Type: {kind}\r\nContent-Disposition: attachment; filename=\"{name}\"\r\n\r\n{text}\r\n"
        )
    };
    let event = "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nSUMMARY:Visit\r\nDTSTART:20261122T100000Z\r\n";
    let calendar = format!(
        "{event}{}END:VEVENT\r\nEND:VCALENDAR",
        "X-FILL:abcdefghijklmnopqrstuvwxyz\r\n".repeat(150_000)
    );
    let text = format!(
        "--b\r\nContent-Type: text/plain\r\n\r\nbe\0fore\r\n{}{}{}--b--",
        part("application/pdf", "../../etc/x", "1"),
        part("application/pdf", "invoice\u{202e}fdp.exe", "2"),
        part("text/calendar", "visit.ics", &calendar),
    );
    let fields = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n";
    let to = "\"\u{202e}annA\" <anna.bergmann@web-post.test>";
    let raw = filed_as("hostile", to, fields, &text);
    assert!(raw.len() > 5_000_000);
    let answers = app.send(&LENA, &desk.sync, raw.as_bytes()).await;
    let (_, message) = desk.expect_filed(&answers).await;
    let shown = message.to_string();
    assert!(!shown.contains('\u{202e}') && !shown.contains("\\u0000") && !shown.contains("../"), "{shown}");
    let list = message["attachments"].as_array().unwrap();
    let names: Vec<_> = list.iter().map(|attachment| attachment["filename"].as_str().unwrap()).collect();
    assert_eq!(names, ["x", "invoicefdp.exe", "visit.ics"]);
    assert_eq!((&list[0]["status"], &list[1]["status"]), (&"stored".into(), &"skipped".into()));
    assert!(list[2]["size"].as_u64().unwrap() > 5_000_000);
    // R55
    let meeting = &message["meeting"];
    assert_eq!((&meeting["title"], &meeting["method"]), (&"Visit".into(), &"PUBLISH".into()));
    assert_eq!(meeting["start"], "2026-11-22T10:00:00.000Z");
}

#[tokio::test]
async fn a_crowd_in_cc_and_a_long_thread_together_are_decided_in_time() {
    let fold = |n: usize| if n.is_multiple_of(20) { "\r\n " } else { "" };
    let mut fields = "Cc: a0@c.test".to_owned();
    (1..10_000).for_each(|n| fields.push_str(&format!(",{}a{n}@c.test", fold(n))));
    fields.push_str("\r\nReferences: ");
    (0..5_000).for_each(|n| fields.push_str(&format!("{}<{n}@l>", fold(n))));
    let raw = filed_as("crowded", "anna.bergmann@web-post.test", &format!("{fields}\r\n"), "Hello");
    check("a crowd and a thread", raw.as_bytes(), "250 2.0.0", "filed", "filed").await;
}

#[tokio::test]
async fn r10_display_names_that_look_like_addresses_name_nobody() {
    let raw = format!(
        "From: \"anna.bergmann@web-post.test\" <lena.albrecht@praxis-morgenrot.test>\r\n\
         To: \"tom@praxis-morgenrot.test, x@y.test\" <anna.bergmann@web-post.test>\r\n{REST}Message-ID: <names@e2e.test>\r\n\r\nHello\r\n"
    );
    check("names like addresses", raw.as_bytes(), "250 2.0.0", "filed", "filed").await;
}

#[tokio::test]
async fn undisclosed_recipients_are_nobody() {
    let raw = filed_as("undisclosed", "undisclosed-recipients:;", "", "Hello");
    check("undisclosed", raw.as_bytes(), "250 2.0.0", "held", "unknown_contact").await;
}

#[tokio::test]
async fn m2_a_second_content_type_or_mime_version_is_refused_and_one_of_each_is_not() {
    let mail = |id, fields| filed_as(id, "anna.bergmann@web-post.test", fields, "--b\r\n\r\nHello\r\n--b--");
    for fields in [
        "Content-Type: text/plain\r\nContent-Type: multipart/mixed; boundary=b\r\n",
        "Content-Type: text/plain\r\nContent-Type: text/plain\r\n",
        "MIME-Version: 1.0\r\nMIME-Version: 1.0\r\n",
    ] {
        check(fields, mail("twice", fields).as_bytes(), "550 5.6.0", "rejected", "bad_syntax").await;
    }
    let once = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n";
    check(once, mail("once", once).as_bytes(), "250 2.0.0", "filed", "filed").await;
}

/// A program that calls itself a document, a `winmail.dat` whose lengths lie, and something encrypted.
#[tokio::test]
async fn r56_r57_a_disguised_program_is_skipped_and_what_cannot_be_read_is_kept() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let part = |kind: &str, name: &str, base64: &str| {
        format!(
            "--b\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; \
             filename=\"{name}\"\r\n\r\n{base64}\r\n"
        )
    };
    let text = format!(
        "--b\r\nContent-Type: text/plain\r\n\r\nThe bill.\r\n{}{}{}{}--b--",
        // MZ and the zeros behind it.
        part("application/pdf", "invoice.pdf", "TVqQAAMAAAAEAAAA//8AALgAAAA="),
        part("application/octet-stream", "report.pdf", "JVBERi0xLjcK"),
        // The signature of TNEF, then an attribute of four gigabytes.
        part("application/ms-tnef", "winmail.dat", "eJ8+IgEAAQiQAQD/////AAAA"),
        // -----BEGIN PGP MESSAGE-----
        part("application/pgp-encrypted", "secret.asc", "LS0tLS1CRUdJTiBQR1AgTUVTU0FHRS0tLS0tCg=="),
    );
    let fields = "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n";
    let raw = filed_as("disguised", "anna.bergmann@web-post.test", fields, &text);
    let answers = app.send(&LENA, &desk.sync, raw.as_bytes()).await;
    let (_, message) = desk.expect_filed(&answers).await;
    let list = message["attachments"].as_array().unwrap();
    let shown = |n: usize| (list[n]["status"].as_str().unwrap(), list[n]["content_type"].as_str().unwrap());
    assert_eq!(shown(0), ("skipped", "application/vnd.microsoft.portable-executable"));
    assert!(list[0]["why"].as_str().unwrap().contains("program"), "{list:?}");
    assert_eq!(shown(1), ("stored", "application/pdf"));
    assert_eq!(shown(2).0, "stored");
    assert_eq!(list[3]["filename"], "secret.asc");
    assert_eq!(message["flags"], serde_json::json!(["attachment_type_mismatch", "encrypted"]));
}
