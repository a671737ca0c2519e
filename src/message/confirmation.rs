//! R34: Gmail's "somebody wants to forward mail to you", which asks the target for a click or a code.
//!
//! Liberal in reading (with and without code, whatever the subject's brackets and language), strict in what is handed
//! on: only a link to the confirmation on Google's own host, never the one that cancels. Who sent it is not judged
//! here.

use super::Email;

/// What confirms the forwarding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// The digits to type in; newer mails have none.
    pub code: Option<String>,
    /// The link to open.
    pub link: Option<String>,
}

/// The confirmation that this message asks for, if it is Gmail's request.
#[must_use]
pub fn confirmation(email: &Email) -> Option<Confirmation> {
    let from = email.from.address()?;
    if !from.as_str().eq_ignore_ascii_case(SENDER) {
        return None;
    }
    let confirmation = Confirmation { code: code(&email.subject, &email.text), link: link(&email.text) };
    (confirmation.code.is_some() || confirmation.link.is_some()).then_some(confirmation)
}

/// `(#123456789)` in the subject, else the number behind `code:` in the text.
fn code(subject: &str, text: &str) -> Option<String> {
    let in_subject =
        subject.split_once("(#").and_then(|(_, rest)| rest.split_once(')')).map(|(code, _)| code);
    let in_text = || {
        let lines = text.lines().filter(|line| line.to_lowercase().contains("code"));
        lines.filter_map(|line| line.rsplit_once([':', '：'])).map(|(_, code)| code.trim()).next()
    };
    in_subject.or_else(in_text).filter(|code| is_code(code)).map(str::to_owned)
}

fn is_code(text: &str) -> bool {
    (4..=20).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_digit())
}

fn link(text: &str) -> Option<String> {
    let words = text.split(|c: char| c.is_whitespace() || "<>\"()".contains(c));
    let found = words.filter(|word| LINKS.iter().any(|start| word.starts_with(start)));
    found
        .map(|word| word.trim_end_matches(['.', ',']))
        .find(|word| word.len() <= MAX_LINK_OCTETS)
        .map(str::to_owned)
}

const SENDER: &str = "forwarding-noreply@google.com";
/// `vf-` confirms, `uf-` cancels.
const LINKS: [&str; 4] = [
    "https://mail-settings.google.com/mail/vf-",
    "https://mail.google.com/mail/vf-",
    "https://isolated.mail.google.com/mail/vf-",
    "https://mail-settings.google.com/mail/u/0/vf-",
];
const MAX_LINK_OCTETS: usize = 2_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::parse;

    fn read(from: &str, subject: &str, text: &str) -> Option<Confirmation> {
        let raw = format!("From: {from}\r\nSubject: {subject}\r\n\r\n{text}\r\n");
        confirmation(&parse(raw.as_bytes()).unwrap())
    }

    #[test]
    fn r34_code_and_confirming_link_are_read_and_the_cancelling_one_is_not() {
        let text = "to confirm:\r\nhttps://mail-settings.google.com/mail/vf-1-2\r\nto cancel:\r\nhttps://mail-settings.google.com/mail/uf-3";
        let gmail = "Gmail Team <forwarding-noreply@google.com>";
        let both = read(gmail, "(#123456789) Gmail Forwarding Confirmation", text).unwrap();
        assert_eq!(both.code.as_deref(), Some("123456789"));
        assert_eq!(both.link.as_deref(), Some("https://mail-settings.google.com/mail/vf-1-2"));
        let linked = read(gmail, "(Gmail Forwarding Confirmation)", text).unwrap();
        assert_eq!((linked.code, linked.link), (None, both.link));
        let coded = read(gmail, "Confirmation", "Confirmation code: 123456789").unwrap();
        assert_eq!((coded.code.as_deref(), coded.link), (Some("123456789"), None));
    }

    #[test]
    fn r34_nobody_else_asks_and_no_other_host_is_offered() {
        let text = "https://mail-settings.google.com.evil.test/mail/vf-1";
        assert_eq!(read("x <forwarding-noreply@google.com>", "Gmail Forwarding Confirmation", text), None);
        let evil = "x <forwarding-noreply@google.com.evil.test>";
        assert_eq!(read(evil, "(#123456789) Gmail Forwarding Confirmation", text), None);
    }
}
