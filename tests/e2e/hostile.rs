//! Attacks whose outcome only the whole program shows: in its log, in its metrics, in what it keeps and what it fetches.

use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use socket2::SockRef;
use syncmx::cli::demo::mailer::{Mailer, Security};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::api::{Desk, assert_refused, assert_rule_spoke};
use crate::app::{TOKEN, TestApp};
use crate::bombs::{self, base64};
use crate::mail::{Draft, LENA};
use crate::memory_of::peak_kib;

/// A mail of Lena's to Anna with this in its body, and these fields of MIME.
fn mail(id: &str, mime: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "From: Lena <lena.albrecht@praxis-morgenrot.test>\r\nTo: anna.bergmann@web-post.test\r\n\
         Date: Fri, 20 Nov 2026 10:00:00 +0100\r\nSubject: odd\r\nMessage-ID: <{id}@e2e.test>\r\n\
         MIME-Version: 1.0\r\n{mime}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// The same with one file attached.
fn with_file(id: &str, content_type: &str, name: &str, octets: &[u8]) -> Vec<u8> {
    let lines: Vec<String> =
        base64(octets).as_bytes().chunks(76).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    let body = format!(
        "--b\r\nContent-Type: text/plain\r\n\r\nSee the file.\r\n--b\r\nContent-Type: {content_type}; name=\"{name}\"\r\n\
         Content-Disposition: attachment; filename=\"{name}\"\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n--b--\r\n",
        lines.join("\r\n")
    );
    mail(id, "Content-Type: multipart/mixed; boundary=b", body.as_bytes())
}

async fn metrics(app: &TestApp) -> String {
    reqwest::get(format!("{}/metrics", app.api.base)).await.unwrap().text().await.unwrap()
}

/// A client without manners.
async fn raw(app: &TestApp) -> TcpStream {
    let mut stream = TcpStream::connect(app.smtp).await.unwrap();
    assert!(said(&mut stream).await.starts_with("220 "));
    stream.write_all(b"EHLO client.test\r\n").await.unwrap();
    assert!(said(&mut stream).await.starts_with("250-"));
    stream
}

async fn said(stream: &mut TcpStream) -> String {
    let mut said = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut said)).await.unwrap();
    said.truncate(read.unwrap_or(0));
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn s1_what_follows_starttls_is_counted() {
    let app = TestApp::start().await;
    let counted = "syncmx_smtp_closed_total{reason=\"starttls_injected\"}";
    for number in 1..=2 {
        let mut stream = raw(&app).await;
        stream.write_all(&[&b"STARTTLS\r\n"[..], &b"NOOP\r\n".repeat(11_000)].concat()).await.unwrap();
        let mut said = Vec::new();
        let _end = stream.read_to_end(&mut said).await;
        let said = String::from_utf8(said).unwrap();
        assert!(said.starts_with("554 5.5.0 ") && said.lines().count() == 1, "{said}");
        let expected = format!("{counted} {number}");
        let mut tries = 0;
        while !metrics(&app).await.lines().any(|line| line == expected) {
            tries += 1;
            assert!(tries < 600, "it is never counted");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The commit comes or does not, whole; and whoever sends again is told 250, once more or for the first time.
#[tokio::test]
async fn d19_a_client_that_goes_before_its_250_has_its_mail_whole_or_not_at_all_and_once_when_it_comes_again()
{
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let mut mails = Vec::new();
    for number in 0..12 {
        let id = format!("gone-{number}");
        let raw_mail = LENA.sign(&Draft { id: &id, ..Draft::default() }.raw());
        let mut stream = raw(&app).await;
        for command in [
            format!("MAIL FROM:<{}>\r\n", LENA.mail_from),
            format!("RCPT TO:<{}>\r\n", desk.sync),
            "DATA\r\n".to_owned(),
        ] {
            stream.write_all(command.as_bytes()).await.unwrap();
            assert!(said(&mut stream).await.starts_with(['2', '3']), "{command}");
        }
        stream.write_all(&[&raw_mail[..], b".\r\n"].concat()).await.unwrap();
        if number % 2 == 0 {
            // RST in place of FIN.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(stream);
        mails.push(raw_mail);
    }
    for raw_mail in &mails {
        let mut mailer = app.connect(&LENA).await;
        let answers = mailer.send(LENA.mail_from, std::slice::from_ref(&desk.sync), raw_mail).await.unwrap();
        assert_eq!(answers.decisive().codes(), "250 2.0.0", "{}", answers.decisive().text);
        let delivery = desk.delivery(&answers).await;
        let id = delivery["message_id"].as_str().unwrap();
        let (_, kept) = desk.bytes(&format!("/messages/{id}/raw")).await;
        assert!(kept.ends_with(raw_mail), "{id} is not whole");
    }
    let timeline = desk.timeline(&desk.anna).await;
    assert_eq!(timeline.len(), mails.len(), "each stands once");
}

/// What a stranger says ends or colours no line of the log, and fills none.
#[tokio::test]
async fn s8_nothing_from_the_wire_breaks_or_fills_a_line_of_the_log() {
    let app = TestApp::start_with(&["SYNCMX_LOG__FORMAT=json", "SYNCMX_LOG__LEVEL=debug"]).await;
    let desk = Desk::open(&app).await;
    let long = "Longword".repeat(125_000);
    let forged = "\r\n{\"level\":\"ERROR\",\"message\":\"forged\"}\r\n";
    for hostile in [
        "EHLO \x1b[31mred\x07".to_owned(),
        "EHLO a\nb".to_owned(),
        format!("EHLO {long}"),
        format!("HELO {}.test", "l".repeat(60)),
        format!("MAIL FROM:<\x1b[2Ja@x.test>{forged}"),
        format!("MAIL FROM:<{long}@x.test>"),
        "MAIL FROM:<\"{\\\"level\\\":\\\"ERROR\\\"}\"@x.test>".to_owned(),
        format!("VRFY {long}"),
        "\x1b]0;title\x07".to_owned(),
        "GET /\x1b[31m HTTP/1.1".to_owned(),
    ] {
        let mut stream = raw(&app).await;
        stream
            .write_all(&[hostile.as_bytes(), b"\r\nRCPT TO:<\x1b[1mu@elsewhere.test>\r\n"].concat())
            .await
            .unwrap();
        stream.write_all(b"RCPT TO:<\"\\\x7f{}\"@elsewhere.test>\r\nQUIT\r\n").await.unwrap();
        let _end = stream.read_to_end(&mut Vec::new()).await;
    }
    let fields =
        format!("X-Odd: \x1b[31m{}\r\nReply-To: \"\x1b[31m\" <x@y.test>\r\n", "Longword".repeat(1000));
    let draft = Draft {
        subject: "\x1b[31mred =?utf-8?Q?=0D=0A=7Bforged=7D=1B[2J?=",
        fields: &fields,
        ..Draft::default()
    };
    app.send(&LENA, &desk.sync, &draft.raw()).await;
    let refused = app.send(&LENA, "\"{\\\"level\\\":1}\"@elsewhere.test", &draft.raw()).await;
    let last = refused.recipients[0].trace().unwrap().to_owned();
    app.wait_for_log(&last).await;
    // The last line may be half written.
    let log = app.log();
    let log = log.get(..=log.rfind('\n').unwrap()).unwrap();
    assert!(log.lines().count() > 20, "{log}");
    for line in log.lines() {
        let read: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert!(read["level"].is_string() && read["timestamp"].is_string(), "{line}");
        assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
        assert!(
            line.len() <= 4096 && !line.contains(&"Longword".repeat(32)),
            "{} octets: {line:.500}",
            line.len()
        );
    }
}

/// Not at the level that shows everything, either: what is there to be read is times, ids, names of hosts, reasons.
#[tokio::test]
async fn s17_no_log_holds_keys_tokens_or_what_a_mail_says_at_any_level() {
    let app = TestApp::start_with(&["SYNCMX_LOG__LEVEL=trace"]).await;
    let desk = Desk::open(&app).await;
    let text = "Okapizucht und Nashornprojekt.\r\n".repeat(20_000);
    for (id, text) in [("small", "Okapizucht und Nashornprojekt.\r\n"), ("large", &text)] {
        let draft = Draft { id, subject: "Gehaltsrunde Quagga", text, ..Draft::default() };
        desk.expect_filed(&app.send(&LENA, &desk.sync, &draft.raw()).await).await;
    }
    let file = with_file("file", "application/pdf", "Zebrabefund.pdf", b"%PDF-1.4 Giraffenhals\n%%EOF\n");
    let (_, message) = desk.expect_filed(&app.send(&LENA, &desk.sync, &file).await).await;
    desk.bytes(&format!("/messages/{}/raw", message["id"].as_str().unwrap())).await;
    // Refused and cut off as well.
    app.send(&LENA, "nobody@sync.example.test", &file).await;
    let mut stream = raw(&app).await;
    stream.write_all(b"Tapirgehege\r\nMAIL FROM:<\r\n").await.unwrap();
    said(&mut stream).await;
    drop(stream);
    let last = app.send(&LENA, "u@elsewhere.test", &file).await;
    app.wait_for_log(last.recipients[0].trace().unwrap()).await;
    let log = app.log();
    let mut secrets: Vec<String> = [
        "Okapizucht",
        "Quagga",
        "Zebrabefund",
        "Giraffenhals",
        "Tapirgehege",
        "anna.bergmann@",
        "lena.albrecht@",
        "PRIVATE KEY",
        TOKEN,
    ]
    .map(str::to_owned)
    .into();
    for file in ["smtp-certificate-key.pem", "keys.toml"] {
        let text = std::fs::read_to_string(app.folder().join("data").join(file)).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "+/=_-".contains(c)));
        secrets.extend(words.filter(|word| word.len() >= 32).map(str::to_owned));
    }
    assert!(secrets.len() > 9, "the keys are looked for, too");
    for secret in secrets {
        assert!(!log.contains(&secret), "{}", log.lines().find(|line| line.contains(&secret)).unwrap());
    }
    assert!(log.contains(" TRACE "), "it is the level that shows everything");
}

#[tokio::test]
async fn s14_a_crowd_of_authors_is_refused_and_nobody_is_asked_about_it() {
    // Nothing is asked again before a third of it.
    let app = TestApp::start_with(&["SYNCMX_DNS__TIMEOUT=60s"]).await;
    let desk = Desk::open(&app).await;
    let authors: Vec<String> = (0..10_000).map(|n| format!("a{n}@d{n}.test")).collect();
    let from = authors.join(",\r\n ");
    let before = app.zone.query_count();
    let answers = app.send(&LENA, &desk.sync, &Draft { from: &from, ..Draft::default() }.raw()).await;
    assert_refused(answers.decisive(), "550 5.7.1");
    let delivery = desk.expect(&answers, "550 5.7.1", "rejected", "bad_from").await;
    assert_rule_spoke(&delivery, "R10");
    assert_eq!(app.zone.query_count(), before);
    assert_eq!(delivery["auth"]["dmarc"]["result"], "none", "{delivery:#}");
    let told = delivery["steps"].as_array().unwrap().iter().find(|step| step["rule"] == "AUTH").unwrap();
    assert!(told["said"].as_str().unwrap().starts_with("nothing was looked up"), "{told}");
}

/// A file is an octet string: how much it would be, unpacked, nobody asks.
#[tokio::test]
async fn m11_archives_are_never_unpacked() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let mut one = GzEncoder::new(Vec::new(), Compression::best());
    one.write_all(&vec![0; 1 << 20]).unwrap();
    // Members of one gzip file follow each other: two gigabytes in two megabytes.
    let bomb = one.finish().unwrap().repeat(2_000);
    let mut layered = GzEncoder::new(Vec::new(), Compression::fast());
    layered.write_all(&bomb).unwrap();
    let layered = layered.finish().unwrap();
    for (id, content_type, name, octets) in [
        ("gz", "application/gzip", "google.test!praxis-morgenrot.test!1!2.xml.gz", bomb),
        ("layers", "application/tlsrpt+gzip", "report.json.gz", layered),
        ("zip", "application/zip", "many.zip", zip_of(10_000)),
    ] {
        let raw = with_file(id, content_type, name, &octets);
        let (_, message) = desk.expect_filed(&app.send(&LENA, &desk.sync, &raw).await).await;
        assert_eq!(message["attachments"][0]["size"], octets.len(), "{message:#}");
        let path = format!("/messages/{}/attachments/0", message["id"].as_str().unwrap());
        assert!(desk.bytes(&path).await.1 == octets, "{name}");
    }
    let peak = peak_kib(app.pid()).unwrap();
    assert!(peak < 512 * 1024, "{peak} KiB");
}

/// Values of JSON alone took three hundred megabytes once, the quotes a processor for minutes.
#[tokio::test]
async fn m10_no_shape_of_a_mail_takes_its_reader_much_memory_or_time() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let shapes = [
        "values of JSON",
        "lines of a calendar",
        "empty lines",
        "quotes to the end of a page",
        "quotes inside each other",
        "files of Outlook",
    ];
    for bomb in bombs::all(8_000_000).into_iter().filter(|bomb| shapes.contains(&bomb.name)) {
        let raw = mail(&bomb.name.replace(' ', "."), bomb.mime, &bomb.body);
        let (_, message) = desk.expect_filed(&app.send(&LENA, &desk.sync, &raw).await).await;
        assert_eq!(message["subject"], "odd", "{}", bomb.name);
        println!("{}: {:?} KiB at the peak", bomb.name, peak_kib(app.pid()));
    }
    let peak = peak_kib(app.pid()).unwrap();
    assert!(peak < 256 * 1024, "{peak} KiB");
}

/// A zip file of so many empty entries, encrypted as their flag says.
fn zip_of(entries: u16) -> Vec<u8> {
    let (mut files, mut index) = (Vec::new(), Vec::new());
    for number in 0..entries {
        let name = format!("{number:05}.txt");
        // Version, flags, method, time, date, checksum, sizes, lengths of name and extra field.
        let fields = [&[20, 0, 1, 0][..], &[0; 18], &[9, 0, 0, 0]].concat();
        index.extend_from_slice(b"PK\x01\x02\x14\0");
        index.extend_from_slice(&fields);
        index.extend_from_slice(&[0; 10]);
        index.extend_from_slice(&u32::try_from(files.len()).unwrap().to_le_bytes());
        index.extend_from_slice(name.as_bytes());
        files.extend_from_slice(b"PK\x03\x04");
        files.extend_from_slice(&fields);
        files.extend_from_slice(name.as_bytes());
    }
    let (count, begins) = (entries.to_le_bytes(), u32::try_from(files.len()).unwrap().to_le_bytes());
    let size = u32::try_from(index.len()).unwrap().to_le_bytes();
    [&files[..], &index, b"PK\x05\x06\0\0\0\0", &count, &count, &size, &begins, &[0, 0]].concat()
}

#[tokio::test]
async fn m15_nothing_is_fetched_and_a_reader_is_shown_nothing_that_would_be() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/seen", elsewhere.local_addr().unwrap());
    let html = format!(
        "<html><head><link rel=\"prefetch\" href=\"{url}\"><link rel=\"stylesheet\" href=\"{url}\">\
         <style>@import url({url}); @font-face {{ src: url({url}) }}</style><base href=\"{url}\">\
         <meta http-equiv=\"refresh\" content=\"0; url={url}\"></head><body background=\"{url}\"><p>Hello Anna</p>\
         <img src=\"{url}\" width=\"1\" height=\"1\"><img srcset=\"{url} 2x\"><img src=\"cid:x\" lowsrc=\"{url}\">\
         <div style=\"background:url({url})\">a</div><video poster=\"{url}\" src=\"{url}\"></video>\
         <object data=\"{url}\"></object><iframe src=\"{url}\"></iframe><picture><source srcset=\"{url}\"></picture>\
         <a href=\"{url}\" ping=\"{url}\">a link</a></body></html>\r\n"
    );
    let raw = mail("pixel", "Content-Type: text/html; charset=utf-8", html.as_bytes());
    let (delivery, message) = desk.expect_filed(&app.send(&LENA, &desk.sync, &raw).await).await;
    let told = delivery["steps"].as_array().unwrap().iter().find(|step| step["rule"] == "MESSAGE").unwrap();
    assert!(told["said"].as_str().unwrap().contains("loaded from elsewhere, and is not: 13"), "{told}");
    let (_, shown) = desk.bytes(&format!("/messages/{}/html", message["id"].as_str().unwrap())).await;
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.contains("Hello Anna") && shown.contains("<img src=\"cid:x\">"), "{shown}");
    // Where a person clicks, and nowhere else.
    assert_eq!(shown.matches(&url).count(), 1, "{shown}");
    assert!(shown.contains(&format!("<a href=\"{url}\" rel=")), "{shown}");
    let visit = tokio::time::timeout(Duration::from_millis(300), elsewhere.accept()).await;
    assert!(visit.is_err(), "somebody came");
}

#[tokio::test]
async fn m22_what_is_signed_encrypted_or_made_by_outlook_is_kept_untouched() {
    let app = TestApp::start().await;
    let desk = Desk::open(&app).await;
    let pgp = b"--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n--b\r\n\
        Content-Type: application/octet-stream\r\n\r\n-----BEGIN PGP MESSAGE-----\r\n\r\nhQEM \t \r\n-----END PGP MESSAGE-----\r\n--b--\r\n";
    let signed = b"--b\r\nContent-Type: text/plain\r\n\r\nSigned  text \r\n--b\r\n\
        Content-Type: application/pkcs7-signature; name=smime.p7s\r\nContent-Transfer-Encoding: base64\r\n\r\nMIIB\r\n--b--\r\n";
    let meeting = b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nUID:1@x.test\r\nDTSTAMP:20261120T090000Z\r\n\
        DTSTART:20261124T090000Z\r\nSUMMARY:Check\r\n  up\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";
    let mails = [
        mail(
            "pgp",
            "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=b",
            pgp,
        ),
        mail(
            "p7s",
            "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=b",
            signed,
        ),
        with_file("p7m", "application/pkcs7-mime; smime-type=enveloped-data", "smime.p7m", b"\x30\x80junk"),
        with_file("tnef", "application/ms-tnef", "winmail.dat", b"\x78\x9f\x3e\x22\x01\x00junk"),
        mail("ics", "Content-Type: text/calendar; method=REQUEST; charset=utf-8", meeting),
    ];
    for sent in mails {
        let sent = LENA.sign(&sent);
        let mut mailer = Mailer::connect(app.smtp, LENA.client, LENA.helo, &Security::Plain).await.unwrap();
        let answers = mailer.send(LENA.mail_from, std::slice::from_ref(&desk.sync), &sent).await.unwrap();
        let (_, message) = desk.expect_filed(&answers).await;
        let (_, kept) = desk.bytes(&format!("/messages/{}/raw", message["id"].as_str().unwrap())).await;
        assert!(kept.ends_with(&sent), "{message:#}");
    }
}
