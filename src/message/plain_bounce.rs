//! Bounces that keep to no standard: known by sender, subject, words and the message they return (R51).
//!
//! No single sign is enough; a person who writes about a bounce, or forwards one, does not look like one.

use std::collections::HashSet;
use std::sync::LazyLock;

use regex::Regex;

use super::bounce_words::*;
use super::fields::{Fields, read_block};
use super::scan::{Shape, Tree};
use super::{Report, ReportedRecipient, addresses, ids, report};
use crate::address::EmailAddress;

/// The report that a free-text bounce makes.
pub(super) fn read(tree: &Tree<'_>, subject: &str, text: &str) -> Option<Report> {
    let root = tree.parts.first()?;
    // Most mail is none: that must cost next to nothing.
    if !may_be_bounce(&root.fields, &root.content_type.value, subject) {
        return None;
    }
    let (notice, returned) = divide(text);
    if !is_bounce(tree, subject, notice, returned) {
        return None;
    }
    let failed = root.fields.all("x-failed-recipients").flat_map(|value| addresses::list(value).found);
    let mut people: Vec<String> = failed.map(|person| person.address.as_str().to_owned()).collect();
    if people.is_empty() {
        people = named_in(notice, &own_addresses(&root.fields));
    }
    if people.is_empty() {
        people = returned_to(tree, returned);
    }
    people.truncate(MAX_RECIPIENTS);
    let action = if is_delay(subject, notice) { "delayed" } else { "failed" };
    let lines: Vec<&str> = notice.lines().take(MAX_LINES).map(start_of).collect();
    let any_status = report::enhanced_code(notice);
    let recipients = people
        .into_iter()
        .map(|address| {
            let reason = reason_near(&lines, &address);
            let status = reason.as_deref().and_then(report::enhanced_code).or_else(|| any_status.clone());
            ReportedRecipient { address, action: action.to_owned(), status, reason }
        })
        .collect();
    let original_message_id = report::original_id(tree).or_else(|| returned_id(returned));
    Some(Report { recipients, original_message_id })
}

/// Whether anything but the words of the text speaks for a bounce.
fn may_be_bounce(fields: &Fields<'_>, content_type: &str, subject: &str) -> bool {
    content_type == "multipart/report"
        || fields.has("x-failed-recipients")
        || is_null_sender(fields)
        || is_daemon(fields)
        || is_bounce_subject(subject)
}

fn is_null_sender(fields: &Fields<'_>) -> bool {
    fields.plain("return-path").is_some_and(|path| path == "<>")
}

/// Adds up the signs.
fn is_bounce(tree: &Tree<'_>, subject: &str, notice: &str, returned: &str) -> bool {
    let Some(root) = tree.parts.first() else { return false };
    let fields = &root.fields;
    if fields.has("x-failed-recipients") {
        return true;
    }
    let is_report = root.content_type.value == "multipart/report"
        && !root.content_type.param("report-type").is_some_and(|kind| kind.contains("disposition"));
    let lower: String = notice.chars().take(MAX_NOTICE).collect::<String>().to_lowercase();
    let has_words = WORDS.iter().any(|words| lower.contains(words));
    let has_subject = is_bounce_subject(subject);
    let is_daemon = is_daemon(fields);
    let has_returned = !returned.is_empty()
        || tree.parts.iter().skip(1).any(|part| {
            part.shape == Shape::Message
                || matches!(part.content_type.value.as_str(), "text/rfc822-headers" | "message/rfc822")
        });
    let from_machine = is_daemon || is_null_sender(fields) || is_report;
    let says_so = u8::from(has_subject) + u8::from(has_words);
    match (from_machine, says_so) {
        (true, 2..) => true,
        (true, 1) => is_daemon || has_returned,
        (true, 0) => is_daemon && is_report,
        (false, 2..) => {
            has_returned
                || is_robot(fields)
                || !addresses_in(&lower).is_empty() && fields.has("auto-submitted")
        }
        (false, _) => false,
    }
}

fn is_daemon(fields: &Fields<'_>) -> bool {
    let from = fields.readable("from").unwrap_or_default().to_lowercase();
    DAEMONS.iter().any(|daemon| from.contains(daemon))
}

/// A sender who is no person, if not surely a mail server.
fn is_robot(fields: &Fields<'_>) -> bool {
    let from = fields.readable("from").unwrap_or_default().to_lowercase();
    ROBOTS.iter().any(|robot| from.contains(robot))
}

fn is_bounce_subject(subject: &str) -> bool {
    let lower = subject.trim_start_matches(['*', '[', '(', ' ', '!']).to_lowercase();
    let is_answer = ["re:", "fwd:", "fw:", "aw:", "wg:", "tr:", "rv:", "sv:"]
        .iter()
        .any(|prefix| lower.starts_with(prefix));
    !is_answer && SUBJECT.as_ref().is_some_and(|subject| subject.is_match(&lower))
}

/// Any of the subjects, made once: a set of literals always compiles.
static SUBJECT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let any: Vec<String> = SUBJECTS.iter().map(|subject| regex::escape(subject)).collect();
    Regex::new(&any.join("|")).ok()
});

fn is_delay(subject: &str, notice: &str) -> bool {
    let subject = subject.to_lowercase();
    let notice: String = notice.chars().take(MAX_NOTICE).collect::<String>().to_lowercase();
    let has = |words: &[&str]| words.iter().any(|words| subject.contains(words) || notice.contains(words));
    has(&[
        "delayed",
        "(delay)",
        "still trying",
        "will continue to be",
        "will be retried",
        "not yet been delivered",
        "keep trying",
        "warning: could not send",
        "warning: message still undelivered",
        "this is a warning message only",
        "do not need to resend",
    ]) && !has(&["failed permanently", "permanent error", "permanent fatal", "giving up", "given up"])
}

/// The notice and, below a separator, the message that came back.
fn divide(text: &str) -> (&str, &str) {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if is_divider(line) {
            let (notice, rest) = text.split_at(at);
            return (notice, rest.get(line.len()..).unwrap_or_default());
        }
        at += line.len();
    }
    (text, "")
}

fn is_divider(line: &str) -> bool {
    let line = line.trim();
    if line.len() > 120 {
        return false;
    }
    let lower = line.to_lowercase();
    let is_decorated = line.starts_with(['-', '=', '*', '_', '+', '#']);
    let words = lower.trim_matches(|c: char| !c.is_alphanumeric());
    let has_words = DIVIDERS.iter().any(|divider| words.starts_with(divider));
    has_words && (is_decorated || lower.ends_with(['.', ':']) || words.split_whitespace().count() <= 4)
}

/// The recipients that the notice names: lines that hold an address and nothing else, or lead with one; where there
/// are none, every address of the notice.
fn named_in(notice: &str, own: &HashSet<String>) -> Vec<String> {
    let mut leading = Vec::new();
    let mut anywhere = Vec::new();
    for line in notice.lines().take(MAX_LINES).filter(|line| line.len() <= MAX_LINE) {
        let lower = line.to_lowercase();
        let is_contact = CONTACTS.iter().any(|words| lower.contains(words))
            || lower.contains("message-id")
            || lower.contains("://");
        if is_contact {
            continue;
        }
        let found = addresses_in(line);
        let bare = line.trim().trim_start_matches(['*', '-', '>', '<', '"', '\'', '•', '(', ' ']);
        let is_leading =
            found.first().is_some_and(|first| bare.starts_with(first.as_str())) || has_label(line);
        if is_leading {
            leading.extend(found.first().cloned());
        }
        anywhere.extend(found);
    }
    let pick =
        |list: Vec<String>| unique(list.into_iter().filter(|address| !own.contains(&address.to_lowercase())));
    let leading = pick(leading);
    if leading.is_empty() { pick(anywhere) } else { leading }
}

/// `Unknown user: `, `Recipient: `, `could not be delivered to:` before the address.
fn has_label(line: &str) -> bool {
    let lower = line.trim().to_lowercase();
    let Some(at) = lower.find('@') else { return false };
    let before = lower.get(..at).unwrap_or_default();
    LABELS.iter().any(|label| before.contains(label))
}

fn unique(list: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = HashSet::new();
    list.filter(|address| seen.insert(address.to_lowercase())).collect()
}

/// The addresses of a line, in order.
pub(super) fn addresses_in(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let is_part = |c: char| {
        c.is_ascii_alphanumeric() || "!#$%&*+-/=?^_`{|}~.".contains(c) || (!c.is_ascii() && c.is_alphabetic())
    };
    for (at, _) in line.match_indices('@').take(MAX_ADDRESSES_IN_LINE) {
        let (before, behind) = line.split_at(at);
        let start = before.trim_end_matches(is_part).len();
        let domain = behind.get(1..).unwrap_or_default();
        let end = domain.len()
            - domain
                .trim_start_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
                .len();
        let local = before.get(start..).unwrap_or_default().trim_start_matches(['=', '/', '.']);
        let domain = domain.get(..end).unwrap_or_default().trim_matches(['.', '-']);
        let address = EmailAddress::parse(&format!("{local}@{domain}"));
        found.extend(address.filter(|a| a.domain().contains('.')).map(|a| a.as_str().to_owned()));
    }
    found
}

/// Who sent the notice and who gets it: neither is a failed recipient.
fn own_addresses(fields: &Fields<'_>) -> HashSet<String> {
    ["from", "to", "reply-to", "sender", "delivered-to", "return-path", "envelope-to"]
        .iter()
        .flat_map(|name| fields.all(name))
        .flat_map(|value| addresses::list(value).found)
        .map(|person| person.address.key())
        .collect()
}

/// Where the notice names nobody, the returned message was for its To.
fn returned_to(tree: &Tree<'_>, returned: &str) -> Vec<String> {
    let nested = report::returned_fields(tree, |fields| fields.last("to").map(<[u8]>::to_vec));
    let value = nested.or_else(|| {
        let (fields, _) = read_block(returned.trim_start().as_bytes(), 0, |_| false).ok()?;
        fields.last("to").map(<[u8]>::to_vec)
    });
    let people = value.map(|value| addresses::list(&value).found).unwrap_or_default();
    people.into_iter().map(|person| person.address.as_str().to_owned()).take(1).collect()
}

fn returned_id(returned: &str) -> Option<String> {
    let line = returned
        .lines()
        .take(MAX_LINES)
        .find(|line| line.trim_start().to_lowercase().starts_with("message-id:"))?;
    ids::own(line.split_once(':')?.1.as_bytes())
}

/// What is said behind the address, or on the lines below it.
fn reason_near(lines: &[&str], address: &str) -> Option<String> {
    let at = lines.iter().position(|line| line.contains(address))?;
    let behind = lines.get(at)?.split_once(address).map_or("", |(_, behind)| behind);
    let behind = behind.trim_start_matches(['>', ':', '.', ')', '"', '\'', ' ']);
    let below = lines
        .iter()
        .skip(at + 1)
        .skip_while(|line| line.trim().is_empty())
        .take_while(|line| !line.trim().is_empty())
        .take(4);
    let words: Vec<&str> = std::iter::once(behind)
        .chain(below.copied())
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect();
    let reason: String = words.join(" ").chars().take(MAX_REASON).collect();
    (!reason.is_empty()).then_some(reason)
}

/// As much of a line as is searched for each of the recipients.
fn start_of(line: &str) -> &str {
    line.get(..line.floor_char_boundary(MAX_SEARCHED)).unwrap_or(line)
}

const MAX_RECIPIENTS: usize = 100;
const MAX_NOTICE: usize = 16 * 1024;
const MAX_LINES: usize = 2_000;
const MAX_LINE: usize = 1_000;
/// Octets of a line in which a recipient and the reason beside him are looked for.
const MAX_SEARCHED: usize = 4 * 1024;
const MAX_ADDRESSES_IN_LINE: usize = 20;
const MAX_REASON: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_looked_for_at_the_start_of_a_line() {
        let named = "ana@x.test: 5.1.1 unknown";
        for (blanks, is_found) in [(MAX_SEARCHED - named.len(), true), (MAX_SEARCHED, false)] {
            let line = format!("{}{named}", " ".repeat(blanks));
            let reason = reason_near(&[start_of(&line)], "ana@x.test");
            assert_eq!(reason.is_some(), is_found, "{reason:?}");
        }
    }

    #[test]
    fn a_huge_notice_to_many_is_read_in_linear_time() {
        let own = "a@b.test,".repeat(20_000);
        let failed: Vec<String> = (0..MAX_RECIPIENTS).map(|n| format!("n{n}@x.test")).collect();
        let notice = "c@d.test does not exist\n".repeat(MAX_LINES) + &"x".repeat(8 << 20);
        for known in [format!("X-Failed-Recipients: {}\r\n", failed.join(",")), String::new()] {
            let raw = format!("From: mailer-daemon@b.test\r\nTo: {own}\r\n{known}\r\n{notice}");
            let tree = Tree::scan(raw.as_bytes()).expect("within limits");
            let report = read(&tree, "Undelivered", &notice).expect("a report");
            assert_eq!(report.recipients.len(), if known.is_empty() { 1 } else { MAX_RECIPIENTS });
        }
    }
}
