//! One message, start to end: scan, headers, body, attachments, what kind it is.

use super::scan::{Shape, Tree};
use super::{
    Email, Frame, From, MAX_REFERENCES, Meeting, Text, TooComplex, addresses, attachment, body, charset,
    date, digest, fields, forwarded, ids, kind, meeting, protection, reply_text, report,
};
use crate::address::{EmailAddress, NamedAddress};
use crate::time::Timestamp;

/// Reads a message as it came from DATA (lines may end with LF alone).
///
/// # Errors
/// [`TooComplex`] if it breaks a structural limit (SMTP H1, M8, M9): nothing of it is read then.
pub fn parse(raw: &[u8]) -> Result<Email, TooComplex> {
    let tree = Tree::scan(raw)?;
    Ok(read(&tree))
}

/// The decoded octets of `Email.attachments[n]`, byte-exact; none if there is no such attachment.
#[must_use]
pub fn open_attachment(raw: &[u8], n: usize) -> Option<Vec<u8>> {
    let tree = Tree::scan(raw).ok()?;
    attachment::open(&tree, n).map(std::borrow::Cow::into_owned)
}

/// The one clean author of a message (R10), read from its header block alone.
#[must_use]
pub fn author(raw: &[u8]) -> Option<EmailAddress> {
    let (top, _) = fields::read_block(raw, 0, |_| false).ok()?;
    addresses::author(&top).address().cloned()
}

/// The HTML body, decoded to text and not sanitised; none if the message has none.
#[must_use]
pub fn html(raw: &[u8]) -> Option<String> {
    let tree = Tree::scan(raw).ok()?;
    let parts = body::shown(&tree).into_iter().filter(|(_, role)| *role == body::Role::Html);
    let pages: Vec<String> = parts.map(|(index, _)| body::html_text(&tree, index)).collect();
    (!pages.is_empty()).then(|| pages.join("\n"))
}

fn read(tree: &Tree<'_>) -> Email {
    let empty = fields::Fields::default();
    let top = tree.parts.first().map_or(&empty, |root| &root.fields);
    let mut problems = Vec::new();
    let from = addresses::author(top);
    let repeated_fields = repeated(top);
    problems.extend(repeated_fields.iter().map(|name| format!("more than one {name} field")));
    let subject = top.readable("subject").unwrap_or_default();
    let date = read_date(top, &mut problems);
    let body = body::read(tree);
    let text = Text::from(body.text);
    let reply = reply_text::split(&text, &body.marks);
    let items = attachment::items(tree);
    let report = report::read(tree, &subject, &text);
    let forwarded = if report.is_some() { None } else { forwarded::find(tree, &items, &subject, &text) };
    if let From::Bad(why) = from {
        problems.push(why.to_owned());
    }
    let attachments = attachment::list(tree, &items);
    problems.extend(
        attachments
            .iter()
            .filter_map(|file| file.mismatch.as_ref().map(|why| format!("attachment {} is {why}", file.n))),
    );
    Email {
        to: people(top, "to", &mut problems),
        cc: people(top, "cc", &mut problems),
        reply_to: people(top, "reply-to", &mut problems),
        message_id_header: top.last("message-id").and_then(ids::own),
        in_reply_to: ids::newest(top.last("in-reply-to").map(ids::all).unwrap_or_default(), MAX_REFERENCES),
        references: ids::newest(top.last("references").map(ids::all).unwrap_or_default(), MAX_REFERENCES),
        thread_index: top.plain("thread-index").filter(|index| !index.is_empty()),
        reply,
        has_html: body.has_html,
        remote_content: body.remote_content,
        attachments,
        kind: kind::of(tree, report.as_ref(), &subject, forwarded.as_ref()),
        journal: None,
        report: report.map(|(_, report)| report),
        meeting: find_meeting(tree, &items),
        is_list: kind::is_list(top),
        is_bulk: kind::is_bulk(top),
        protection: protection::of(tree, &text),
        repeated_fields,
        doubled_frame: doubled_frame(top),
        frame: frame(tree),
        received_fields: top.all("received").count(),
        has_loop_header: top.has("x-syncmx-loop"),
        digest: digest::of(&from, date, &subject, &text),
        text,
        from,
        subject,
        date,
        forwarded,
        problems,
    }
}

/// SMTP M2: the last of a repeated field counts (DKIM covers it), and it is said.
fn repeated(top: &fields::Fields<'_>) -> Vec<&'static str> {
    const ONCE: [&str; 9] =
        ["Subject", "Date", "To", "Cc", "Message-ID", "Reply-To", "Sender", "Content-Type", "MIME-Version"];
    ONCE.into_iter().filter(|name| top.all(name).count() > 1).collect()
}

/// SMTP M2: one reader takes the first and the next one the last, whatever they say today.
fn doubled_frame(top: &fields::Fields<'_>) -> Option<&'static str> {
    ["Content-Type", "MIME-Version"].into_iter().find(|name| top.all(name).count() > 1)
}

/// SMTP M6: a multipart begins with its boundary, and nothing else begins with two hyphens.
fn frame(tree: &Tree<'_>) -> Frame {
    let Some(root) = tree.parts.first() else { return Frame::Plain };
    let body = tree.raw.get(root.body.start..).unwrap_or_default().trim_ascii_start();
    let is_as_promised = match (root.shape, root.content_type.param("boundary")) {
        (Shape::Multipart, Some(boundary)) => {
            body.strip_prefix(b"--").is_some_and(|rest| rest.starts_with(boundary.as_bytes()))
                || starts_with_usual_preamble(body)
        }
        (Shape::Leaf | Shape::Message | Shape::Multipart, _) => !body.starts_with(b"--"),
    };
    if is_as_promised { Frame::Plain } else { Frame::Odd }
}

/// What programs write above the first part for readers without MIME.
fn starts_with_usual_preamble(body: &[u8]) -> bool {
    body.starts_with(b"This is a") || body.starts_with(b"This message is in MIME")
}

fn read_date(top: &fields::Fields<'_>, problems: &mut Vec<String>) -> Option<Timestamp> {
    let value = top.plain("date");
    let read = value.as_deref().and_then(date::read);
    match (&value, read) {
        (None, _) => problems.push("no Date field".to_owned()),
        (Some(_), None) => problems.push("a Date field that is no date".to_owned()),
        (Some(_), Some(_)) => {}
    }
    read
}

fn people(top: &fields::Fields<'_>, name: &str, problems: &mut Vec<String>) -> Vec<NamedAddress> {
    let list = top.last(name).map(addresses::list).unwrap_or_default();
    if list.unreadable > 0 {
        problems.push(format!("{} unreadable in {name}", list.unreadable));
    }
    if list.found.len() >= addresses::MAX_ADDRESSES {
        problems.push(format!("more than {} recipients in {name}", addresses::MAX_ADDRESSES));
    }
    list.found
}

/// R55: the first calendar part, attached or alternative.
fn find_meeting(tree: &Tree<'_>, items: &[attachment::Item]) -> Option<Meeting> {
    items.iter().find_map(|item| {
        let attachment::Item::Part(index) = item else { return None };
        let index = *index;
        let part = tree.parts.get(index)?;
        if !matches!(part.content_type.value.as_str(), "text/calendar" | "application/ics") {
            return None;
        }
        let octets = tree.decoded(index);
        meeting::read(&charset::decode(part.content_type.param("charset").or(Some("utf-8")), &octets))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Kind;

    fn mail(text: &str) -> Email {
        parse(text.replace('\n', "\r\n").as_bytes()).expect("within limits")
    }

    #[test]
    fn a_mail_is_read_from_its_author_to_its_attachments() {
        let raw = "From: Jo <jo@acme.test>\nTo: Ana <ana@patient.test>\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\n\
            Date: Sun, 22 Nov 2026 02:44:05 +0000\nMessage-ID: <1@acme.test>\nIn-Reply-To: <0@patient.test>\n\
            References: <a@x.test> <0@patient.test>\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n\
            --b\nContent-Type: multipart/alternative; boundary=c\n\n--c\nContent-Type: text/plain; charset=utf-8\n\nHello --b-- there\n--c\n\
            Content-Type: text/html\n\n<p>Hello</p>\n--c--\n--b\nContent-Type: application/pdf; name=\"../x.pdf\"\n\
            Content-Transfer-Encoding: base64\nContent-ID: <i@x>\n\nJVBERi0x\n--b--\n"
            .replace('\n', "\r\n");
        let email = parse(raw.as_bytes()).expect("within limits");
        assert_eq!(email.from.address().map(EmailAddress::as_str), Some("jo@acme.test"));
        assert_eq!((email.subject.as_str(), email.text.as_str()), ("Grüße", "Hello --b-- there"));
        assert_eq!(email.message_id_header.as_deref(), Some("1@acme.test"));
        assert_eq!((email.in_reply_to.len(), email.references.len()), (1, 2));
        assert_eq!((email.kind, email.has_html, email.attachments.len()), (Kind::Mail, true, 1));
        let attachment = &email.attachments[0];
        assert_eq!((attachment.filename.as_str(), attachment.size, attachment.inline), ("x.pdf", 6, true));
        assert_eq!(open_attachment(raw.as_bytes(), 0).as_deref(), Some(b"%PDF-1".as_slice()));
        assert_eq!(open_attachment(raw.as_bytes(), 1), None);
        assert_eq!(html(raw.as_bytes()).as_deref(), Some("<p>Hello</p>"));
        assert_eq!(email.problems, Vec::<String>::new());
    }

    #[test]
    fn a_boundary_in_the_middle_of_a_line_does_not_cut_the_text() {
        let email =
            mail("Content-Type: multipart/mixed; boundary=xx\n\n--xx\n\nsee --xx and more\nend\n--xx--\n");
        assert_eq!(email.text, "see --xx and more\nend");
    }

    #[test]
    fn m6_a_body_that_is_not_what_its_content_type_says_is_odd() {
        let frame = |head: &str, body: &str| mail(&format!("From: a@x.test\n{head}\n{body}")).frame;
        let mixed = "Content-Type: multipart/mixed; boundary=new\n";
        assert_eq!(frame(mixed, "--new\n\nHello\n--new--\n"), Frame::Plain);
        assert_eq!(
            frame(mixed, "This is a multi-part message in MIME format.\n--new\n\nx\n--new--\n"),
            Frame::Plain
        );
        // The boundary was changed behind the signature: what was the body is a preamble that nobody sees.
        assert_eq!(frame(mixed, "--old\n\nHello\n--old--\n--new\n\nPay here\n--new--\n"), Frame::Odd);
        assert_eq!(frame("Content-Type: text/plain\n", "--old\n\nHello\n--old--\n"), Frame::Odd);
        assert_eq!(frame("", "Hello\n"), Frame::Plain);
    }

    #[test]
    fn text_comes_from_html_where_there_is_no_other() {
        let email = mail("From: a@x.test\nContent-Type: text/html\n\n<p>One</p><p>Two &amp; three</p>");
        assert_eq!((email.text.as_str(), email.has_html), ("One\n\nTwo & three", true));
    }

    #[test]
    fn m12_charsets_are_mended_and_nul_never_gets_through() {
        let text = |head: &str, body: &[u8]| {
            let mut raw = format!("Subject: a\0b\r\n{head}\r\n\r\n").into_bytes();
            raw.extend_from_slice(body);
            let email = parse(&raw).expect("within limits");
            assert_eq!(email.subject, "ab");
            email.text
        };
        assert_eq!(text("X: y", b"Gr\xfc\xdfe\0"), "Grüße");
        assert_eq!(text("Content-Type: text/plain; charset=gb2312", b"\xe9F"), "镕");
        assert_eq!(text("X: y", b"\x1b$B$3$s\x1b(B"), "こん");
        assert_eq!(text("Content-Type: text/plain; charset=cp932", b"\x82\xb1"), "こ");
    }

    #[test]
    fn a_nested_message_is_one_attachment_byte_for_byte() {
        let inner = "From: b@x.test\r\nSubject: Inner\r\n\r\nhi\r\n";
        let raw = format!(
            "From: a@x.test\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nsee\r\n--b\r\n\
             Content-Type: message/rfc822\r\n\r\n{inner}\r\n--b--\r\n"
        );
        let email = parse(raw.as_bytes()).expect("within limits");
        assert_eq!((email.text.as_str(), email.attachments.len()), ("see", 1));
        assert_eq!(email.attachments[0].filename, "Inner.eml");
        assert_eq!(open_attachment(raw.as_bytes(), 0).as_deref(), Some(inner.as_bytes()));
        let forwarded = email.forwarded.expect("a forward");
        assert_eq!((forwarded.attachment, forwarded.subject.as_deref()), (Some(0), Some("Inner")));
        assert_eq!(email.kind, Kind::Forwarded);
    }

    #[test]
    fn r51_a_delivery_report_names_recipient_status_and_message() {
        let email = mail(
            "From: MAILER-DAEMON@x.test\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n\n\
             --b\n\nIt failed.\n--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; x.test\n\n\
             Final-Recipient: rfc822; Ana@Patient.test\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 no such user\n\n\
             --b\nContent-Type: text/rfc822-headers\n\nMessage-ID: <9@acme.test>\n--b--\n",
        );
        let report = email.report.expect("a report");
        assert_eq!((email.kind, report.original_message_id.as_deref()), (Kind::Bounce, Some("9@acme.test")));
        let recipient = &report.recipients[0];
        assert_eq!((recipient.address.as_str(), recipient.action.as_str()), ("Ana@Patient.test", "failed"));
        assert_eq!(recipient.status.as_deref(), Some("5.1.1"));
        assert_eq!(recipient.reason.as_deref(), Some("550 no such user"));
    }

    #[test]
    fn r50_auto_replies_are_known_by_header_or_subject() {
        assert_eq!(mail("Auto-Submitted: auto-replied\n\nAway").kind, Kind::AutoReply);
        assert_eq!(mail("Auto-Submitted: no\n\nHere").kind, Kind::Mail);
        assert_eq!(mail("Subject: =?utf-8?Q?R=C3=A9ponse_automatique?= : x\n\nAway").kind, Kind::AutoReply);
        assert_eq!(mail("X-Auto-Response-Suppress: All\n\nHere").kind, Kind::Mail);
    }

    #[test]
    fn r70_the_bcc_copy_and_the_reply_all_copy_agree() {
        let copy = |head: &str| {
            mail(&format!("{head}From: Jo <Jo@acme.test>\nSubject: A  long\n subject\nDate: Sun, 22 Nov 2026 02:44:05 +0000\n\nHi\n")).digest
        };
        assert_eq!(copy("Received: x\nBcc: s@x.test\n"), copy("Received: y\nReceived: z\n"));
    }

    #[test]
    fn m12_whatever_arrives_there_is_no_panic() {
        let long_line = vec![b'x'; 10 << 20];
        for raw in
            [b"".as_slice(), b"\0", b"\r\n", b"\n\n", b":", b"\xff\xfe\xfd", b"From:\r\n\r\n\0\0", &long_line]
        {
            let _ = parse(raw);
        }
        let mut body = b"Subject: x\r\n\r\n".to_vec();
        body.extend_from_slice(&long_line);
        assert_eq!(parse(&body).map(|email| email.text.len()), Ok(10 << 20));
    }

    proptest::proptest! {
        #[test]
        fn random_octets_and_random_structure_never_panic(pieces in proptest::collection::vec(piece(), 0..60)) {
            let raw: Vec<u8> = pieces.concat();
            if let Ok(email) = parse(&raw) {
                proptest::prop_assert!(!email.text.contains('\0') && !email.text.contains('\r'));
                for attachment in &email.attachments {
                    let octets = open_attachment(&raw, attachment.n);
                    proptest::prop_assert_eq!(octets.map(|o| o.len() as u64), Some(attachment.size));
                }
            }
        }
    }

    fn piece() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
        use proptest::prelude::*;
        prop_oneof![
            Just(b"\r\n".to_vec()),
            Just(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_vec()),
            Just(b"Content-Type: message/rfc822\r\n\r\n".to_vec()),
            Just(b"Content-Type: text/html; charset=utf-7\r\n\r\n<p>x".to_vec()),
            Just(b"Content-Type: text/plain; format=flowed\r\n\r\n> x \r\n".to_vec()),
            Just(b"Content-Transfer-Encoding: base64\r\n".to_vec()),
            Just(b"Content-Disposition: attachment; filename*0*=utf-8''%\r\n".to_vec()),
            Just(b"From: \"a\" <a@x.test>, (\r\n".to_vec()),
            Just(b"On Mon, Jan 5, 2026 at 9:00 AM Ana <ana@x.test> wrote:\r\n".to_vec()),
            Just(b"-----Original Message-----\r\nFrom: a@x.test\r\nSent: x\r\nTo: b\r\n".to_vec()),
            Just(b"\r\n--b\r\n".to_vec()),
            Just(b"\r\n--b--\r\n".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..40),
        ]
    }
}
