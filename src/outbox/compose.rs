//! What we send, written out: header fields of our own over content for others. Pure.
//!
//! Promises that no field is taken over from a message but by value, checked or encoded; that nothing in a name or
//! subject can begin another field; that every header line of ours is ASCII (addresses with other letters apart) and
//! short. Body and content fields come from [`crate::message::content_without`].

use crate::address::EmailAddress;
use crate::message::base64;
use crate::time::Timestamp;

/// The header of one message of ours.
#[derive(Clone, Debug)]
pub struct Header<'a> {
    /// The name beside the From address.
    pub from_name: &'a str,
    /// The From address: always one of a served domain, or the sender of notices.
    pub from: &'a EmailAddress,
    /// Whether answers are asked to the From address by name: some clients answer to what they have on file for the
    /// display name.
    pub reply_to: Option<&'a EmailAddress>,
    /// The name of the one recipient, if known.
    pub to_name: &'a str,
    /// The one recipient.
    pub to: &'a EmailAddress,
    /// The subject, decoded.
    pub subject: &'a str,
    /// The Date field.
    pub date: Timestamp,
    /// Our own Message-ID, without angle brackets: the same whenever the same thing is sent again.
    pub message_id: &'a str,
    /// What this answers, without angle brackets.
    pub in_reply_to: Option<&'a str>,
    /// Its thread, oldest first, without angle brackets.
    pub references: &'a [String],
    /// The value of our loop header.
    pub loop_mark: &'a str,
    /// Further fields of ours: name and value, plain ASCII.
    pub more: &'a [(&'static str, &'static str)],
}

impl Header<'_> {
    /// The message: this header, then content fields, an empty line and the body.
    #[must_use]
    pub fn over(&self, content: &[u8]) -> Vec<u8> {
        let mut out = String::new();
        field(&mut out, "Date", &self.date.to_rfc5322());
        field(&mut out, "From", &mailbox(self.from_name, self.from));
        if let Some(reply_to) = self.reply_to {
            field(&mut out, "Reply-To", &format!("<{reply_to}>"));
        }
        field(&mut out, "To", &mailbox(self.to_name, self.to));
        field(&mut out, "Subject", &text(self.subject));
        field(&mut out, "Message-ID", &format!("<{}>", self.message_id));
        if let Some(parent) = self.in_reply_to.filter(|id| is_id(id)) {
            field(&mut out, "In-Reply-To", &format!("<{parent}>"));
        }
        let references: Vec<String> =
            newest(self.references).filter(|id| is_id(id)).map(|id| format!("<{id}>")).collect();
        if !references.is_empty() {
            field(&mut out, "References", &references.join("\r\n "));
        }
        for (name, value) in self.more {
            field(&mut out, name, value);
        }
        field(&mut out, LOOP_FIELD, self.loop_mark);
        field(&mut out, "MIME-Version", "1.0");
        let mut message = out.into_bytes();
        message.extend_from_slice(content);
        message
    }
}

/// Content fields and body of a text of ours.
#[must_use]
pub fn plain_text(text: &str) -> Vec<u8> {
    let text = text.replace("\r\n", "\n").replace('\n', "\r\n");
    let lines: Vec<String> = text.as_bytes().chunks(BODY_LINE_OCTETS).map(base64).collect();
    let fields = "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64";
    format!("{fields}\r\n\r\n{}\r\n", lines.join("\r\n")).into_bytes()
}

/// The thread of a message of ours: what it referred to, then `source` (the message that it is a copy of), each once,
/// without ids that name a hidden address.
#[must_use]
pub fn thread(references: &[String], source: Option<&str>, hidden: &[EmailAddress]) -> Vec<String> {
    let mut thread: Vec<String> = Vec::new();
    for id in references.iter().map(String::as_str).chain(source) {
        if !thread.iter().any(|known| known == id) && !names_one_of(id, hidden) {
            thread.push(id.to_owned());
        }
    }
    thread
}

/// Whether the text holds one of these addresses, in any case.
#[must_use]
pub fn names_one_of(text: &str, hidden: &[EmailAddress]) -> bool {
    let lower = text.to_lowercase();
    hidden.iter().any(|address| lower.contains(&address.key()))
}

/// The text with hidden addresses replaced (subjects and names).
#[must_use]
pub fn without(text: &str, hidden: &[EmailAddress], instead: &str) -> String {
    hidden.iter().fold(text.to_owned(), |text, address| {
        let (key, mut out, mut rest) = (address.key(), String::new(), text.as_str());
        // Lower case may have another length: then only the exact spelling is looked for.
        let same_length = text.to_lowercase().len() == text.len();
        while let Some(at) =
            if same_length { rest.to_lowercase().find(&key) } else { rest.find(address.as_str()) }
        {
            out.push_str(rest.get(..at).unwrap_or_default());
            out.push_str(instead);
            rest = rest.get(at + key.len()..).unwrap_or_default();
        }
        out + rest
    })
}

fn field(out: &mut String, name: &str, value: &str) {
    out.push_str(name);
    out.push_str(": ");
    out.push_str(value);
    out.push_str("\r\n");
}

/// `"name" <address>`; the address on a line of its own, since both may be long.
fn mailbox(name: &str, address: &EmailAddress) -> String {
    let name = clean(name, MAX_NAME);
    if name.is_empty() {
        return format!("<{address}>");
    }
    format!("{}\r\n <{address}>", phrase(&name))
}

/// A display name (RFC 5322 section 3.2.5): quoted, or as encoded words.
fn phrase(name: &str) -> String {
    if is_plain(name) && name.len() <= MAX_PLAIN {
        let escaped = name.replace('\\', "\\\\").replace('"', "\\\"");
        return format!("\"{escaped}\"");
    }
    encoded_words(name)
}

/// Unstructured text (RFC 5322 section 2.2.1), folded at spaces, or as encoded words.
fn text(value: &str) -> String {
    let value = clean(value, MAX_SUBJECT);
    if !is_plain(&value) || value.split(' ').any(|word| word.len() > MAX_PLAIN || word.is_empty()) {
        return if value.is_empty() { value } else { encoded_words(&value) };
    }
    let (mut out, mut column) = (String::new(), "Subject: ".len());
    for word in value.split(' ') {
        if !out.is_empty() {
            let folds = column + 1 + word.len() > LINE;
            out.push_str(if folds { "\r\n " } else { " " });
            column = if folds { 1 } else { column + 1 };
        }
        out.push_str(word);
        column += word.len();
    }
    out
}

/// RFC 2047 in UTF-8 and base64; no word splits a character.
fn encoded_words(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut piece = String::new();
    for c in text.chars() {
        if piece.len() + c.len_utf8() > WORD_OCTETS {
            words.push(encoded_word(&piece));
            piece.clear();
        }
        piece.push(c);
    }
    if !piece.is_empty() {
        words.push(encoded_word(&piece));
    }
    words.join("\r\n ")
}

fn encoded_word(piece: &str) -> String {
    format!("=?utf-8?B?{}?=", base64(piece.as_bytes()))
}

/// One line without control characters and without marks that turn the direction of what follows, and not too long.
fn clean(text: &str, max_chars: usize) -> String {
    let one_line: String = text
        .chars()
        .map(|c| if matches!(c, '\t' | '\r' | '\n') { ' ' } else { c })
        .filter(|c| !c.is_control() && !matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'))
        .take(max_chars)
        .collect();
    one_line.trim().to_owned()
}

/// Printable ASCII that no reader takes for an encoded word.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|octet| (b' '..=b'~').contains(&octet)) && !text.contains("=?")
}

/// An id that can stand between angle brackets.
fn is_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= MAX_ID
        && id.bytes().all(|octet| octet.is_ascii_graphic() && !matches!(octet, b'<' | b'>'))
}

/// The first, which names the thread, and the newest.
fn newest(references: &[String]) -> impl Iterator<Item = &String> {
    let skipped = references.len().saturating_sub(MAX_REFERENCES);
    references.iter().enumerate().filter(move |(n, _)| *n == 0 || *n > skipped).map(|(_, id)| id)
}

/// The field whose presence ends a mail's way here ([`crate::message::Email::has_loop_header`]).
pub const LOOP_FIELD: &str = "X-Syncmx-Loop";
/// References that we write: the oldest and the newest.
const MAX_REFERENCES: usize = 50;
/// 57 octets are 76 digits (RFC 2045 section 6.8).
const BODY_LINE_OCTETS: usize = 57;
/// Longer ones are nobody's.
const MAX_ID: usize = 250;
const MAX_NAME: usize = 120;
const MAX_SUBJECT: usize = 998;
/// A word or name that fits on one line.
const MAX_PLAIN: usize = 60;
const LINE: usize = 76;
/// 39 octets are 52 digits: a word with its frame and the field name stays under 76 (RFC 2047 section 2).
const WORD_OCTETS: usize = 39;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message;

    fn address(text: &str) -> EmailAddress {
        EmailAddress::parse(text).expect("an address")
    }

    fn compose(name: &str, subject: &str, references: &[String]) -> String {
        let (from, to) = (address("r-1@reply.test"), address("ana@patient.test"));
        let header = Header {
            from_name: name,
            from: &from,
            reply_to: Some(&from),
            to_name: "Ana",
            to: &to,
            subject,
            date: Timestamp::from_millis(1_795_315_445_120),
            message_id: "job@reply.test",
            in_reply_to: references.last().map(String::as_str),
            references,
            loop_mark: "0a",
            more: &[("Auto-Submitted", "auto-generated")],
        };
        String::from_utf8(header.over(b"Content-Type: text/plain\r\n\r\nHello\r\n")).expect("text")
    }

    #[test]
    fn the_header_is_ours_and_reads_back() {
        let composed = compose("Lena Albrecht", "Your appointment", &["1@praxis.test".to_owned()]);
        let expected = "Date: Sun, 22 Nov 2026 02:44:05 +0000\r\nFrom: \"Lena Albrecht\"\r\n <r-1@reply.test>\r\n\
            Reply-To: <r-1@reply.test>\r\nTo: \"Ana\"\r\n <ana@patient.test>\r\nSubject: Your appointment\r\n\
            Message-ID: <job@reply.test>\r\nIn-Reply-To: <1@praxis.test>\r\nReferences: <1@praxis.test>\r\n\
            Auto-Submitted: auto-generated\r\nX-Syncmx-Loop: 0a\r\nMIME-Version: 1.0\r\n\
            Content-Type: text/plain\r\n\r\nHello\r\n";
        assert_eq!(composed, expected);
        assert!(message::parse(composed.as_bytes()).expect("a message").has_loop_header);
    }

    #[test]
    fn any_name_and_subject_come_back_as_they_were_and_begin_no_field() {
        let long = "Terminbestätigung und weitere Hinweise für Ihren Besuch ".repeat(6);
        for words in [
            "Dr. \"Lena\" \\ Albrecht",
            "Zoë 🩺 Größe",
            "=?utf-8?B?SGk=?=",
            "日本語の件名がここにあります。とても長いので折り返します。日本語の件名がここにあります。",
            "x y z, <eve@evil.test>; (comment)",
            long.trim(),
            "",
        ] {
            let composed = compose(words, words, &[]);
            assert!(composed.lines().all(|line| line.len() <= 76 && line.is_ascii()), "{composed}");
            let email = message::parse(composed.as_bytes()).expect("a message");
            assert_eq!(email.subject, words);
            let message::From::One(author) = email.from else { panic!("not one author: {composed}") };
            assert_eq!(author.address, address("r-1@reply.test"));
            let short: String = words.chars().take(MAX_NAME).collect();
            assert_eq!(author.name.unwrap_or_default(), short.trim());
        }
    }

    #[test]
    fn line_breaks_and_direction_marks_are_taken_out() {
        for evil in ["x\r\nBcc: eve@evil.test", "x\nBcc: eve@evil.test", "x\rBcc: a", "x\u{202e}Bcc: a\0"] {
            let composed = compose(evil, evil, &["a@b\r\nBcc: x".to_owned(), "<>".to_owned()]);
            assert!(!composed.contains("\nBcc"), "{composed}");
            assert!(!composed.contains("References"), "{composed}");
        }
    }

    #[test]
    fn the_oldest_and_the_newest_references_stay() {
        let ids: Vec<String> = (0..200).map(|n| format!("{n}@praxis.test")).collect();
        let composed = compose("Lena", "x", &ids);
        let email = message::parse(composed.as_bytes()).expect("a message");
        assert_eq!(email.references.len(), MAX_REFERENCES);
        assert_eq!(email.references.first().map(String::as_str), Some("0@praxis.test"));
        assert_eq!(email.references.last().map(String::as_str), Some("199@praxis.test"));
    }

    #[test]
    fn r46_a_thread_is_extended_and_names_no_hidden_address() {
        let hidden = [address("lena@praxis.test")];
        let ids = ["1@a.test".to_owned(), "20260101.LENA@praxis.test".to_owned()];
        assert_eq!(thread(&ids, Some("1@a.test"), &hidden), ["1@a.test"]);
        assert_eq!(
            thread(&ids, Some("2@a.test"), &[]),
            ["1@a.test", "20260101.LENA@praxis.test", "2@a.test"]
        );
        assert_eq!(without("Re: Lena@Praxis.test, hello", &hidden, "us"), "Re: us, hello");
    }
}
