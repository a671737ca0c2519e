//! R33: Exchange's journal reports: an envelope in text, and the journaled message attached whole.
//!
//! Liberal in reading. Whether a report may be believed is not judged here: [`super::Journal`] names the reporter, and
//! the rules ask the account. What the report says of recipients is added to what the message says of itself.

use super::{Email, From, Journal, TooComplex, attachment_of, check_header, parse};
use crate::address::{EmailAddress, NamedAddress};

/// The journaled message, and its octets; none if `wrapper`, read from `raw`, is no journal report.
///
/// # Errors
/// [`TooComplex`] if the journaled message breaks a limit.
pub fn open_journal(raw: &[u8], wrapper: &Email) -> Result<Option<(Email, Vec<u8>)>, TooComplex> {
    if !is_report(raw) {
        return Ok(None);
    }
    let nested = wrapper.attachments.iter().find(|part| part.content_type == "message/rfc822");
    let Some(octets) = nested.and_then(|part| attachment_of(raw, part.n)) else { return Ok(None) };
    // As it came, without the trace fields that we add.
    check_header(&octets)?;
    let mut email = parse(&octets)?;
    for (field, address) in recipients(&wrapper.text) {
        let is_there = email.to.iter().chain(&email.cc).any(|person| person.address == address);
        let list = if field == Field::To { &mut email.to } else { &mut email.cc };
        if !is_there && list.len() < MAX_RECIPIENTS {
            list.push(NamedAddress { name: None, address });
        }
    }
    let reporter = match &wrapper.from {
        From::Bad(why) => From::Bad(why),
        From::One(author) => From::One(author.clone()),
    };
    email.journal = Some(Journal { reporter });
    Ok(Some((email, octets)))
}

/// The field that marks a report stands in its header.
fn is_report(raw: &[u8]) -> bool {
    let end = memchr::memmem::find(raw, b"\r\n\r\n").or_else(|| memchr::memmem::find(raw, b"\n\n"));
    let header = raw.get(..end.unwrap_or(raw.len())).unwrap_or_default();
    header
        .split(|octet| *octet == b'\n')
        .any(|line| line.get(..MARK.len()).is_some_and(|start| start.eq_ignore_ascii_case(MARK)))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    /// Everybody whose field is not To: Cc, Bcc, or not said. They never create a contact (R25).
    Beside,
    To,
}

/// `To: a@b.test, Expanded: list@b.test` and its like, in order.
fn recipients(report: &str) -> Vec<(Field, EmailAddress)> {
    let mut found = Vec::new();
    for line in report.lines().take(MAX_LINES) {
        let Some((label, rest)) = line.split_once(':') else { continue };
        let field = match label.trim().to_ascii_lowercase().as_str() {
            "to" => Field::To,
            "cc" | "bcc" | "recipient" => Field::Beside,
            _ => continue,
        };
        let address = rest.split([',', ';']).next().unwrap_or_default().trim().trim_matches(['<', '>']);
        found.extend(EmailAddress::parse(address).map(|address| (field, address)));
    }
    found
}

const MARK: &[u8] = b"x-ms-journal-report:";
/// Lines of a report, one for each recipient.
const MAX_LINES: usize = 5_000;
const MAX_RECIPIENTS: usize = 5_000;

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "From: Exchange <journal@acme.test>\nX-MS-Journal-Report:\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nSender: jo@acme.test\nMessage-Id: <1@acme.test>\nTo: ana@patient.test\nTo: lee@acme.test, Expanded: all@acme.test\nBcc: ben@patient.test\n\n--b\nContent-Type: message/rfc822\n\nFrom: Jo <jo@acme.test>\nTo: Ana <ana@patient.test>\nSubject: Hello\nMessage-ID: <1@acme.test>\n\nHello Ana\n--b--\n";

    fn open(report: &str) -> Option<Email> {
        let raw = report.replace('\n', "\r\n");
        let wrapper = parse(raw.as_bytes()).unwrap();
        open_journal(raw.as_bytes(), &wrapper).unwrap().map(|(email, _)| email)
    }

    #[test]
    fn r33_a_report_is_the_message_in_it_with_the_recipients_of_the_envelope() {
        let email = open(REPORT).unwrap();
        assert_eq!(email.subject, "Hello");
        let all = |list: &[NamedAddress]| {
            list.iter().map(|person| person.address.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(all(&email.to), ["ana@patient.test", "lee@acme.test"]);
        assert_eq!(all(&email.cc), ["ben@patient.test"]);
        let reporter = email.journal.unwrap().reporter;
        assert_eq!(reporter.address().map(EmailAddress::as_str), Some("journal@acme.test"));
    }

    #[test]
    fn r33_mail_without_the_mark_or_without_a_message_inside_is_no_report() {
        assert!(open(&REPORT.replace("X-MS-Journal-Report:\n", "")).is_none());
        assert!(open(&REPORT.replace("message/rfc822", "text/plain")).is_none());
        assert!(open("From: a@b.test\n\nX-MS-Journal-Report:\n").is_none());
    }
}
