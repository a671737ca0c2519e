//! Notices of our own: that held mail waits, that an address is to be confirmed (R12). Pure.
//!
//! Promises that a notice says nothing of held mail but how much waits and why, of filed mail nothing but when and with
//! whom (R70a), and that it says it is a machine's (RFC 3834), so that nothing answers it.

use crate::address::EmailAddress;
use crate::outbox::compose::{Header, plain_text};
use crate::store::DigestFacts;
use crate::time::Timestamp;

/// What all notices share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    /// `relay.from`.
    pub(super) from: &'a EmailAddress,
    /// Of this notice.
    pub(super) message_id: &'a str,
    /// The loop header's value.
    pub(super) loop_mark: &'a str,
    /// When it is written.
    pub(super) now: Timestamp,
    /// `http.public_url`.
    pub(super) public_url: &'a str,
}

/// How much waits for a user, and what of theirs was filed.
pub(super) fn digest(frame: &Frame<'_>, facts: &DigestFacts) -> Vec<u8> {
    let count: u64 = facts.waiting.iter().map(|(_, count)| count).sum();
    let reasons: String =
        facts.waiting.iter().map(|(reason, count)| format!("  {count} × {}\n", words(reason))).collect();
    let (verb, noun) = if count == 1 { ("waits", "mail") } else { ("wait", "mails") };
    let text = format!(
        "Hello {},\n\n{count} {noun} {verb} for your decision at {}:\n\n{reasons}\n\
         Nothing of what is held is in this message. It comes once a day at most.\n{}",
        facts.user_name,
        facts.account_name,
        filed(frame, facts)
    );
    let subject = format!("{count} {noun} {verb} for your decision");
    frame.letter(&facts.account_name, &facts.user_name, &facts.to, &subject, &text)
}

/// R70a: each with the link that takes it back.
fn filed(frame: &Frame<'_>, facts: &DigestFacts) -> String {
    if facts.filed.is_empty() {
        return String::new();
    }
    let mut text =
        "\nOn the record since the last time. What does not belong there can be taken back for 30 days:\n"
            .to_owned();
    for mail in &facts.filed {
        let preposition = if mail.is_outbound { "to" } else { "from" };
        // A stranger may have chosen it: nothing of it is a link, or a line of its own.
        let is_plain = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '\'' | '’' | '-');
        let name: String = mail.contact_name.chars().filter(is_plain).take(NAME_MAX_CHARS).collect();
        let (at, url, token) = (mail.received_at.to_words(), frame.public_url, &mail.token);
        text.push_str(&format!("\n  {at}, {preposition} {name}\n  {url}/undo/{token}\n"));
    }
    if facts.is_more_filed {
        text.push_str("\n  … and older ones, on the timelines.\n");
    }
    text
}

/// R12: a link that proves an address.
pub(super) fn confirmation(
    frame: &Frame<'_>,
    account_name: &str,
    user_name: &str,
    to: &EmailAddress,
    token: &str,
) -> Vec<u8> {
    let text = format!(
        "Hello,\n\nthis address was added to the profile of {user_name} at {account_name}. \
         If that is you, confirm it within 7 days:\n\n{}/confirm/{token}\n\n\
         If not, do nothing: the address stays unused.\n",
        frame.public_url
    );
    frame.letter(account_name, "", to, "Please confirm your address", &text)
}

impl Frame<'_> {
    fn letter(
        &self,
        account_name: &str,
        to_name: &str,
        to: &EmailAddress,
        subject: &str,
        text: &str,
    ) -> Vec<u8> {
        let header = Header {
            from_name: account_name,
            from: self.from,
            reply_to: None,
            to_name,
            to,
            subject,
            date: self.now,
            message_id: self.message_id,
            in_reply_to: None,
            references: &[],
            loop_mark: self.loop_mark,
            more: &[("Auto-Submitted", "auto-generated"), ("X-Auto-Response-Suppress", "All")],
        };
        header.over(&plain_text(text))
    }
}

/// A reason code as a person reads it.
fn words(reason: &str) -> String {
    reason.replace('_', " ")
}

/// Of a contact, in a line.
const NAME_MAX_CHARS: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{AccountId, MessageId, UserId};
    use crate::message::{self, Kind};
    use crate::store::Undoable;

    fn address(text: &str) -> EmailAddress {
        EmailAddress::parse(text).expect("an address")
    }

    #[test]
    fn a_notice_says_how_many_and_why_and_that_a_machine_wrote_it() {
        let from = address("no-reply@reply.test");
        let frame = Frame {
            from: &from,
            message_id: "1@reply.test",
            loop_mark: "0a",
            now: Timestamp::from_millis(1_795_315_445_120),
            public_url: "https://mail.praxis.test",
        };
        let facts = DigestFacts {
            account_name: "Praxis Größe".to_owned(),
            user_name: "Lena".to_owned(),
            to: address("lena@praxis.test"),
            waiting: vec![("new_identity".to_owned(), 1), ("third_party".to_owned(), 2)],
            filed: Vec::new(),
            is_more_filed: false,
        };
        let letter = digest(&frame, &facts);
        let email = message::parse(&letter).expect("a message");
        assert_eq!(email.subject, "3 mails wait for your decision");
        assert_eq!(email.kind, Kind::AutoReply, "whatever receives it must not answer");
        assert!(
            email.text.contains("1 × new identity") && email.text.contains("at Praxis Größe"),
            "{}",
            email.text
        );
        assert!(!email.text.contains("http"), "there is no page to go to: {}", email.text);
        let id = uuid::Uuid::nil();
        let mail = |is_outbound| Undoable {
            account: AccountId::from_uuid(id),
            message: MessageId::from_uuid(id),
            user: UserId::from_uuid(id),
            contact_name: format!("Ana\r\nhttps://elsewhere.test/{}", "x".repeat(NAME_MAX_CHARS)),
            is_outbound,
            received_at: frame.now,
            token: "0a".to_owned(),
        };
        let facts = DigestFacts { filed: vec![mail(true), mail(false)], is_more_filed: true, ..facts };
        let letter = digest(&frame, &facts);
        let text = message::parse(&letter).expect("a message").text;
        // R70a. A name makes no line of its own.
        let name: String =
            "Anahttpselsewheretest".chars().chain(std::iter::repeat('x')).take(NAME_MAX_CHARS).collect();
        for line in [
            &format!("to {name}\n  https://mail.praxis.test/undo/0a\n"),
            &format!("from {name}\n"),
            "older ones",
        ] {
            assert!(text.replace("\r\n", "\n").contains(line), "{line} in {text}");
        }
        let letter = confirmation(&frame, "Praxis", "Lena", &facts.to, "0f");
        let email = message::parse(&letter).expect("a message");
        assert!(email.text.contains("https://mail.praxis.test/confirm/0f"), "{}", email.text);
        assert!(letter.is_ascii() && email.has_loop_header);
    }
}
