//! By what a conversation is found again (R40, R41): Message-IDs, Outlook's Thread-Index, the base subject.
//!
//! Each is one text, so that one table and one look-up serve all; those that are no Message-IDs hold a space, which
//! no Message-ID does.

use aws_lc_rs::digest::{SHA256, digest};

use crate::address::EmailAddress;
use crate::message::Email;

/// What leads to a conversation, in the order of R40.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ThreadKey {
    /// Its Message-ID: a message that came before it refers to it (R41).
    Child(String),
    /// In-Reply-To, References, or the message that a report returns.
    MessageId(String),
    /// Outlook's Thread-Index: the part that all messages of a thread share.
    Outlook(String),
    /// A reply's base subject, with one address of the message.
    Subject(String),
}

impl ThreadKey {
    /// The text that is stored and looked up.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Child(text) | Self::MessageId(text) | Self::Outlook(text) | Self::Subject(text) => text,
        }
    }

    /// Whether the author names the conversation by it: the others are only guesses (R15, R42).
    #[must_use]
    pub const fn is_reference(&self) -> bool {
        matches!(self, Self::MessageId(_))
    }
}

/// What a message may be found a conversation by, best first, each once (R40): what a report returns (R51),
/// In-Reply-To, References from newest to oldest, messages that refer to it (R41), Thread-Index, base subject.
#[must_use]
pub fn thread_keys(email: &Email) -> Vec<ThreadKey> {
    let mut keys: Vec<ThreadKey> = Vec::new();
    for id in referenced_ids(email) {
        keys.push(ThreadKey::MessageId(id.to_owned()));
    }
    if let Some(own) = &email.message_id_header {
        keys.push(ThreadKey::Child(own.clone()));
    }
    keys.extend(outlook_key(email).map(ThreadKey::Outlook));
    let (base, is_reply) = base_subject(&email.subject);
    if is_reply && email.references.is_empty() && email.in_reply_to.is_empty() {
        let people = email.to.iter().chain(&email.cc).map(|person| &person.address);
        let addresses = email.from.address().into_iter().chain(people).take(MAX_SUBJECT_ADDRESSES);
        keys.extend(addresses.filter_map(|address| subject_key(&base, address)).map(ThreadKey::Subject));
    }
    keys
}

/// What a filed message makes its conversation known by, beside its own Message-ID.
#[must_use]
pub fn remembered_keys(email: &Email, contact: Option<&EmailAddress>) -> Vec<String> {
    let (base, _) = base_subject(&email.subject);
    let by_subject = contact.and_then(|contact| subject_key(&base, contact));
    referenced_ids(email).into_iter().map(str::to_owned).chain(outlook_key(email)).chain(by_subject).collect()
}

/// What a report returns, In-Reply-To, References from newest to oldest; each once.
fn referenced_ids(email: &Email) -> Vec<&str> {
    let returned = email.report.iter().filter_map(|report| report.original_message_id.as_deref());
    let answered = email.in_reply_to.iter().map(String::as_str);
    let earlier = email.references.iter().rev().map(String::as_str);
    let mut ids: Vec<&str> = Vec::new();
    for id in returned.chain(answered).chain(earlier) {
        if ids.len() < MAX_REFERENCED_IDS && !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

/// The first 22 octets of a Thread-Index name the thread; each reply adds five.
fn outlook_key(email: &Email) -> Option<String> {
    let text: String = email.thread_index.as_ref()?.chars().filter(|c| !c.is_whitespace()).collect();
    // 22 octets are 29 base64 digits and two bits of a 30th.
    let head = text.get(..29).filter(|head| head.bytes().all(is_base64))?;
    Some(format!("thread-index {head}"))
}

fn is_base64(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || octet == b'+' || octet == b'/'
}

/// None for an empty base subject: it says nothing.
fn subject_key(base: &str, address: &EmailAddress) -> Option<String> {
    if base.is_empty() {
        return None;
    }
    let hash = digest(&SHA256, format!("{base}\0{}", address.key()).as_bytes());
    let hex: String = hash.as_ref().iter().take(16).map(|octet| format!("{octet:02x}")).collect();
    Some(format!("subject {hex}"))
}

/// The base subject (RFC 5256 section 2.1) in lower case, and whether it was a reply's. Beside `Re` and `Fwd` it
/// knows the prefixes of common clients in other languages; a forward is not a reply.
#[must_use]
pub fn base_subject(subject: &str) -> (String, bool) {
    let end = subject.char_indices().nth(MAX_SUBJECT_CHARS).map_or(subject.len(), |(end, _)| end);
    let subject = subject.get(..end).unwrap_or_default();
    let folded: String = subject.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let mut rest = folded.as_str();
    let mut is_reply = false;
    loop {
        let before = rest;
        rest = rest.trim();
        rest = rest.strip_suffix("(fwd)").unwrap_or(rest);
        if let Some((prefix, behind)) = leader(rest) {
            is_reply |= REPLY_PREFIXES.contains(&prefix);
            rest = behind;
        } else if let Some(behind) = blob(rest).filter(|behind| !behind.trim().is_empty()) {
            rest = behind;
        }
        if rest == before {
            return (rest.to_owned(), is_reply);
        }
    }
}

/// `re:`, `re[2]:`, `aw :` and what stands behind.
fn leader(text: &str) -> Option<(&'static str, &str)> {
    REPLY_PREFIXES.iter().chain(&FORWARD_PREFIXES).find_map(|prefix| {
        let behind = text.strip_prefix(prefix)?.trim_start();
        let behind = blob(behind).unwrap_or(behind).trim_start();
        behind.strip_prefix([':', '：']).map(|behind| (*prefix, behind))
    })
}

/// What stands behind a leading `[list]`.
fn blob(text: &str) -> Option<&str> {
    let (inside, behind) = text.strip_prefix('[')?.split_once(']')?;
    (!inside.contains('[')).then_some(behind)
}

const REPLY_PREFIXES: [&str; 14] =
    ["re", "aw", "antw", "sv", "rv", "odp", "vs", "vá", "回复", "回覆", "答复", "res", "atb", "ynt"];
const FORWARD_PREFIXES: [&str; 10] = ["fwd", "fw", "wg", "tr", "i", "enc", "doorst", "vl", "转发", "轉寄"];
/// More than any honest thread needs to be found again.
const MAX_REFERENCED_IDS: usize = 100;
/// What stands behind does not tell subjects apart.
const MAX_SUBJECT_CHARS: usize = 998;
const MAX_SUBJECT_ADDRESSES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(subject: &str, base: &str, is_reply: bool) {
        assert_eq!(base_subject(subject), (base.to_owned(), is_reply), "{subject}");
    }

    #[test]
    fn r40_the_base_subject_loses_reply_and_forward_marks_in_any_language() {
        check("Your  appointment", "your appointment", false);
        check("Re: Your appointment", "your appointment", true);
        check("AW: WG: Re[2]: Termin", "termin", true);
        check("Fwd: Your appointment (fwd)", "your appointment", false);
        check("[list] Re: [list] x", "x", true);
        check("[only a blob]", "[only a blob]", false);
        check("Re:", "", true);
        check("回复：预约", "预约", true);
        check("Regarding: x", "regarding: x", false);
    }
}
